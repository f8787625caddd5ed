//! How long a guest has computed, by the processor's time of the thread that it was on.
//!
//! The wall's clock says nothing of a guest: while others have the processor it goes on. Nor does a count of epochs,
//! which is the wall's clock in steps.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};

/// Reads the processor time of the thread that asks, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(pub fn() -> u64);

impl Clock {
    /// The system's.
    pub(super) const SYSTEM: Self = Self(thread_ns);

    pub(super) fn now(self) -> u64 {
        (self.0)()
    }
}

fn thread_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let (seconds, rest) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

/// Counts the computing of one guest, on whatever threads it is continued.
pub(super) struct Meter {
    clock: Clock,
    limit_ns: u64,
    /// Of this stretch, before the guest was continued here.
    before_ns: AtomicU64,
    /// This thread's clock when the guest was continued.
    since_ns: AtomicU64,
}

impl Meter {
    pub(super) fn new(clock: Clock, limit_ms: u64) -> Self {
        let (before_ns, since_ns) = (AtomicU64::new(0), AtomicU64::new(clock.now()));
        Self { clock, limit_ns: limit_ms.saturating_mul(1_000_000), before_ns, since_ns }
    }

    /// A new stretch begins: what was before it is not counted any more.
    pub(super) fn restart(&self) {
        self.before_ns.store(0, Ordering::Relaxed);
        self.since_ns.store(self.clock.now(), Ordering::Relaxed);
    }

    fn here_ns(&self) -> u64 {
        self.clock.now().saturating_sub(self.since_ns.load(Ordering::Relaxed))
    }

    /// What this stretch has had so far; asked by the thread that continues the guest.
    pub(super) fn spent_ns(&self) -> u64 {
        self.before_ns.load(Ordering::Relaxed).saturating_add(self.here_ns())
    }

    /// Whether this stretch has had all that it may.
    pub(super) fn is_spent(&self) -> bool {
        self.spent_ns() >= self.limit_ns
    }

    /// Carries out `guest`, counting while it is on a processor and not while it waits.
    pub(super) async fn count<T>(&self, guest: impl Future<Output = T>) -> T {
        let mut guest = pin!(guest);
        poll_fn(|context| {
            self.since_ns.store(self.clock.now(), Ordering::Relaxed);
            let polled = guest.as_mut().poll(context);
            self.before_ns.store(self.spent_ns(), Ordering::Relaxed);
            polled
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "what takes how long is measured")]
    fn author_c2_waiting_costs_a_thread_nothing_and_computing_does() {
        let begun = Clock::SYSTEM.now();
        // A thread that waits for another: no sleep, and no computing.
        std::thread::spawn(|| {
            let until = Instant::now() + Duration::from_millis(200);
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        })
        .join()
        .unwrap();
        let waited = Clock::SYSTEM.now() - begun;
        assert!(waited < 100_000_000, "{waited} ns of 200 ms in which another thread computed");
        let end = Clock::SYSTEM.now() + 20_000_000;
        let mut turns = 0_u64;
        while Clock::SYSTEM.now() < end {
            turns += 1;
        }
        assert!(turns > 0);
    }

    #[tokio::test]
    async fn what_happens_between_two_polls_is_not_counted() {
        // Each reading is a millisecond later.
        fn counting() -> u64 {
            static NOW: AtomicU64 = AtomicU64::new(0);
            NOW.fetch_add(1_000_000, Ordering::Relaxed)
        }
        let meter = Meter::new(Clock(counting), 5);
        let mut polls = 0;
        let guest = poll_fn(|context| {
            polls += 1;
            if polls == 3 {
                // The guest computes for a hundred readings.
                assert!((0..100).map(|_| meter.clock.now()).max() > Some(0));
            }
            context.waker().wake_by_ref();
            if polls == 3 { Poll::Ready(()) } else { Poll::Pending }
        });
        meter.count(guest).await;
        let spent = meter.before_ns.load(Ordering::Relaxed);
        assert_eq!(spent, 103_000_000, "a millisecond for each of two polls, and 101 for the last");
        assert!(meter.is_spent());
        meter.restart();
        assert!(!meter.is_spent());
    }
}
