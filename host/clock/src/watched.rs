//! The machine's clock as a host uses it: each look at it says whether it is believed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bellhop_core::time::Timestamp;
use tokio::sync::watch;

use super::belief::{Belief, Doubt, Heard, Look};
use super::{Clock, Sleep};

/// A clock that may be doubted. Clones are one clock.
///
/// Every question looks for a step first, so nobody is told a time by a clock that was set before it is doubted.
#[derive(Clone)]
pub struct Watched {
    inner: Arc<Inner>,
}

struct Inner {
    machine: Arc<dyn Clock>,
    belief: Mutex<Belief>,
    /// Moves on with each beginning and end of a doubt.
    changed: watch::Sender<u64>,
}

impl Watched {
    /// The `machine`'s clock, in a process that knows of the time `newest`, if of any.
    #[must_use]
    pub fn new(machine: Arc<dyn Clock>, newest: Option<Timestamp>) -> Self {
        let belief = Mutex::new(Belief::at_start(look(machine.as_ref()), newest));
        Self { inner: Arc::new(Inner { machine, belief, changed: watch::channel(0).0 }) }
    }

    /// The doubt that there is; none: the clock is believed.
    #[must_use]
    pub fn doubt(&self) -> Option<Doubt> {
        self.ask(|belief, _| belief.doubt())
    }

    /// What the machine's clock shows, whether or not it is believed.
    #[must_use]
    pub fn shown(&self) -> Timestamp {
        self.inner.machine.now()
    }

    /// Hears what another clock shows now; see [`Belief::hear`].
    pub fn hear(&self, other: Timestamp) -> Heard {
        let heard = self.ask(|belief, look| belief.hear(look, other));
        if matches!(heard, Heard::Agrees(_)) {
            self.change();
        }
        heard
    }

    /// A person says that the clock is right; gives the doubt that is over by that.
    pub fn confirm(&self) -> Option<Doubt> {
        let ended = self.ask(|belief, _| belief.confirm());
        if ended.is_some() {
            self.change();
        }
        ended
    }

    /// Tells of each beginning and end of a doubt, from now on. One that begins is noticed when somebody asks for the time.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    fn change(&self) {
        self.inner.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn ask<T>(&self, question: impl FnOnce(&mut Belief, Look) -> T) -> T {
        let (answer, begun) = {
            let mut belief = self.inner.belief.lock().unwrap_or_else(PoisonError::into_inner);
            let look = look(self.inner.machine.as_ref());
            let begun = belief.look(look);
            (question(&mut belief, look), begun)
        };
        if begun {
            self.change();
        }
        answer
    }
}

fn look(machine: &dyn Clock) -> Look {
    Look { wall: machine.now(), monotonic: machine.monotonic() }
}

impl Clock for Watched {
    fn now(&self) -> Timestamp {
        self.ask(|belief, look| belief.now(look))
    }

    fn settled(&self) -> Timestamp {
        self.ask(|belief, look| belief.settled(look))
    }

    fn monotonic(&self) -> Duration {
        self.inner.machine.monotonic()
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep {
        let clock = self.clone();
        Box::pin(async move {
            let mut changes = clock.changes();
            loop {
                changes.mark_unchanged();
                let (now, is_doubted) = clock.ask(|belief, look| (belief.now(look), belief.doubt().is_some()));
                let left = at.millis_since(now);
                if left == 0 {
                    return;
                }
                // In a doubt the time may be that of the newest known one and what has passed since.
                let passed = async {
                    if is_doubted {
                        clock.inner.machine.sleep(Duration::from_millis(left)).await;
                    } else {
                        std::future::pending::<()>().await;
                    }
                };
                tokio::select! {
                    biased;
                    Ok(()) = changes.changed() => {}
                    () = clock.inner.machine.sleep_until(at) => {}
                    () = passed => {}
                }
            }
        })
    }

    fn sleep_until_settled(&self, at: Timestamp) -> Sleep {
        let clock = self.clone();
        Box::pin(async move {
            let mut changes = clock.changes();
            loop {
                changes.mark_unchanged();
                let (settled, doubt) = clock.ask(|belief, look| (belief.settled(look), belief.doubt()));
                if settled >= at {
                    return;
                }
                let come = async {
                    if doubt.is_some_and(|doubt| doubt.newest < at) {
                        // Not before the doubt is over.
                        std::future::pending::<()>().await;
                    } else {
                        clock.inner.machine.sleep_until(at).await;
                    }
                };
                tokio::select! {
                    biased;
                    Ok(()) = changes.changed() => {}
                    () = come => {}
                }
            }
        })
    }

    fn sleep(&self, span: Duration) -> Sleep {
        self.inner.machine.sleep(span)
    }

    fn pause(&self, span: Duration) -> Sleep {
        self.inner.machine.pause(span)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::Manual;

    const NOON: Timestamp = Timestamp::from_millis(1_767_600_000_000);
    const DAY_MS: u64 = 86_400_000;
    const SECOND: Duration = Duration::from_secs(1);

    fn watched() -> (Manual, Watched) {
        let machine = Manual::new(NOON);
        (machine.clone(), Watched::new(Arc::new(machine), Some(NOON)))
    }

    #[test]
    fn surroundings_s11_a_step_is_doubted_before_anybody_is_told_its_time() {
        let (machine, clock) = watched();
        let changes = clock.changes();
        machine.advance(SECOND);
        assert_eq!((clock.settled(), clock.doubt()), (NOON.plus_millis(1_000), None));
        machine.set(NOON.plus_millis(2 * DAY_MS));
        assert_eq!(clock.settled(), NOON.plus_millis(1_000));
        assert_eq!(clock.now(), NOON.plus_millis(2 * DAY_MS));
        assert!(clock.doubt().is_some() && changes.has_changed().unwrap());
        assert!(clock.confirm().is_some());
        assert_eq!(clock.settled(), NOON.plus_millis(2 * DAY_MS));
    }

    #[test]
    fn surroundings_s11_what_sleeps_until_a_settled_time_sleeps_through_a_doubt() {
        let (machine, clock) = watched();
        let mut settled = clock.sleep_until_settled(NOON.plus_millis(DAY_MS));
        let mut shown = clock.sleep_until(NOON.plus_millis(DAY_MS));
        assert!((&mut settled).now_or_never().is_none() && (&mut shown).now_or_never().is_none());
        machine.set(NOON.plus_millis(2 * DAY_MS));
        assert!((&mut settled).now_or_never().is_none());
        // Starts and calls go on by what the clock shows.
        assert!((&mut shown).now_or_never().is_some());
        machine.advance(Duration::from_secs(3_600));
        assert!((&mut settled).now_or_never().is_none());
        assert!(matches!(clock.hear(clock.shown()), Heard::Agrees(_)));
        assert!((&mut settled).now_or_never().is_some());
    }

    #[test]
    fn surroundings_s11_spans_pass_by_a_clock_that_is_behind() {
        let (machine, clock) = watched();
        machine.set(Timestamp::from_millis(0));
        assert_eq!((clock.now(), clock.settled()), (NOON, Timestamp::from_millis(0)));
        let mut wait = clock.sleep_until(NOON.plus_millis(2_000));
        machine.advance(SECOND);
        assert!((&mut wait).now_or_never().is_none());
        machine.advance(SECOND);
        assert!((&mut wait).now_or_never().is_some());
        assert_eq!(clock.now(), NOON.plus_millis(2_000));
    }
}
