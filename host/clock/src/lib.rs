//! The one clock of the program, and the one that tests turn by hand.
//!
//! Nothing else here asks what time it is: whoever needs to know is given a [`Clock`].
#![forbid(unsafe_code)]

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bellhop_core::time::Timestamp;

pub mod belief;
mod watched;

pub use watched::Watched;

/// A wait that a [`Clock`] gives out; dropping it ends the wait and leaves nothing behind.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    /// The time of day. May jump in both directions when the machine's clock is set:
    /// to measure how long something took, use [`Clock::monotonic`].
    fn now(&self) -> Timestamp;

    /// The time by which something may be removed, end or fire, which whoever does that takes instead of [`Clock::now`]:
    /// while the machine's clock is doubted, no later time than the newest that is known.
    fn settled(&self) -> Timestamp {
        self.now()
    }

    /// Time since an arbitrary point of this process; never goes back, and is not moved by setting the machine's clock.
    fn monotonic(&self) -> Duration;

    /// Ends when [`Clock::now`] is at or after `at`, also when the clock is set meanwhile
    /// (a jump forward is noticed within [`RECHECK`]).
    fn sleep_until(&self, at: Timestamp) -> Sleep;

    /// Ends when [`Clock::settled`] is at or after `at`.
    fn sleep_until_settled(&self, at: Timestamp) -> Sleep {
        self.sleep_until(at)
    }

    /// Ends when `span` of [`Clock::monotonic`] time has passed.
    fn sleep(&self, span: Duration) -> Sleep;

    /// Ends after `span`, whatever time it is for runs: a wait of the process for itself.
    fn pause(&self, span: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(span))
    }
}

/// How often a long wait looks whether the machine's clock was set.
pub const RECHECK: Duration = Duration::from_secs(10);

/// The machine's clock.
#[derive(Debug, Clone, Copy)]
pub struct System {
    start: Instant,
}

impl System {
    /// The machine's clock; `monotonic` counts from here.
    #[allow(clippy::disallowed_methods, reason = "this is the one clock")]
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for System {
    fn default() -> Self {
        Self::new()
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the one clock")]
fn time_of_day() -> Timestamp {
    // A clock before 1970 is a machine that has not set its clock yet: the epoch, rather than a panic.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Clock for System {
    fn now(&self) -> Timestamp {
        time_of_day()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep {
        Box::pin(async move {
            loop {
                let left = at.millis_since(time_of_day());
                if left == 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(left).min(RECHECK)).await;
            }
        })
    }

    fn sleep(&self, span: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(span))
    }
}

pub use manual::Manual;

mod manual {
    use std::sync::{Arc, Mutex, PoisonError};

    use tokio::sync::watch;

    use super::{Clock, Duration, Sleep, Timestamp};

    #[derive(Debug, Clone, Copy)]
    struct Time {
        wall: Timestamp,
        monotonic: Duration,
    }

    /// A clock that stands still until a test moves it. Clones show the same time.
    #[derive(Debug, Clone)]
    pub struct Manual {
        time: Arc<Mutex<watch::Sender<Time>>>,
    }

    impl Manual {
        /// A clock that shows `wall`.
        pub fn new(wall: Timestamp) -> Self {
            let (time, _) = watch::channel(Time { wall, monotonic: Duration::ZERO });
            Self { time: Arc::new(Mutex::new(time)) }
        }

        /// Lets `span` pass, and wakes every wait that ends with it.
        pub fn advance(&self, span: Duration) {
            let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            self.change(|time| {
                time.wall = time.wall.plus_millis(millis);
                time.monotonic += span;
            });
        }

        /// Sets the time of day, forward or back, as an operator would; no monotonic time passes.
        pub fn set(&self, wall: Timestamp) {
            self.change(|time| time.wall = wall);
        }

        fn change(&self, change: impl FnOnce(&mut Time)) {
            self.time.lock().unwrap_or_else(PoisonError::into_inner).send_modify(change);
        }

        fn subscribe(&self) -> watch::Receiver<Time> {
            self.time.lock().unwrap_or_else(PoisonError::into_inner).subscribe()
        }

        fn wait(&self, reached: impl Fn(&Time) -> bool + Send + 'static) -> Sleep {
            let mut time = self.subscribe();
            Box::pin(async move {
                // The clock went away: nobody can move it any more, so this wait never ends.
                if time.wait_for(reached).await.is_err() {
                    std::future::pending::<()>().await;
                }
            })
        }
    }

    impl Clock for Manual {
        fn now(&self) -> Timestamp {
            self.subscribe().borrow().wall
        }

        fn monotonic(&self) -> Duration {
            self.subscribe().borrow().monotonic
        }

        fn sleep_until(&self, at: Timestamp) -> Sleep {
            self.wait(move |time| time.wall >= at)
        }

        fn sleep(&self, span: Duration) -> Sleep {
            let end = self.monotonic() + span;
            self.wait(move |time| time.monotonic >= end)
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_wait_ends_when_its_time_is_there_and_not_before() {
        let clock = Manual::new(Timestamp::from_millis(1_000));
        let mut wall = clock.sleep_until(Timestamp::from_millis(1_500));
        let mut span = clock.sleep(Duration::from_millis(500));
        clock.advance(Duration::from_millis(499));
        assert!((&mut wall).now_or_never().is_none());
        assert!((&mut span).now_or_never().is_none());
        clock.advance(Duration::from_millis(1));
        assert!(wall.now_or_never().is_some());
        assert!(span.now_or_never().is_some());
    }

    #[test]
    fn setting_the_time_of_day_moves_no_span() {
        let clock = Manual::new(Timestamp::from_millis(1_000));
        let mut wall = clock.sleep_until(Timestamp::from_millis(1_500));
        let mut span = clock.sleep(Duration::from_millis(500));
        clock.set(Timestamp::from_millis(10));
        assert!((&mut wall).now_or_never().is_none());
        clock.set(Timestamp::from_millis(9_000));
        assert!(wall.now_or_never().is_some());
        assert!((&mut span).now_or_never().is_none());
        assert_eq!(clock.monotonic(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_machines_clock_waits_no_longer_than_asked() {
        let clock = System::new();
        clock.sleep_until(Timestamp::from_millis(0)).await;
        clock.sleep(Duration::from_secs(3_600)).await;
        assert!(clock.now() > Timestamp::from_millis(1_700_000_000_000));
    }
}
