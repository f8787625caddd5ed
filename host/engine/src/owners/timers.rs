//! Wakes runs when their time has come. Timers are keys in the store; the earliest of them are in memory.
//!
//! The store is read from behind the last timer that is known, because a timer that was given out stays in the store
//! until its run has decided: reading from the beginning would find the same ones again and again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellhop_core::id::RunId;
use bellhop_core::time::Timestamp;
use tokio::sync::Notify;

use bellhop_clock::Clock;
use bellhop_journal::{self as journal, Journal, Write, key};

/// Timers in memory that were not given out yet; later ones stay in the store until these are through.
const IN_MEMORY_MAX: usize = 1_000;

/// A timer, in the order of the store.
type Due = (Timestamp, RunId);

/// The timers of all runs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Timers {
    inner: Arc<Inner>,
}

struct Inner {
    journal: Journal,
    clock: Arc<dyn Clock>,
    next: Mutex<Next>,
    bell: Notify,
    /// [`IN_MEMORY_MAX`], or fewer in a test.
    max: usize,
}

/// Every timer of the store up to the horizon is in `due` or in `given`, and none that lies behind it is in `due`.
#[derive(Default)]
struct Next {
    /// To be given out. At most [`IN_MEMORY_MAX`].
    due: BTreeSet<Due>,
    horizon: Horizon,
    /// Given out, and still in the store. Each belongs to an open run that stands in line or is in memory, or that could
    /// not be taken up. A run has one timer at a time.
    given: HashMap<RunId, Timestamp>,
    /// While the store is read: the timers that were written into it or taken out of it since that began, with whether
    /// they are there. What is read may be older than they are.
    meanwhile: Option<BTreeMap<Due, bool>>,
}

/// How far the store is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Horizon {
    /// Nothing was read.
    #[default]
    Start,
    /// Up to this timer; later ones may be in the store.
    At(Due),
    /// To its end.
    End,
}

impl Horizon {
    fn hides(self, timer: Due) -> bool {
        match self {
            Self::Start => true,
            Self::At(last) => timer > last,
            Self::End => false,
        }
    }
}

impl Next {
    fn insert(&mut self, timer: Due, max: usize) {
        self.due.insert(timer);
        if self.due.len() > max {
            // It is in the store, and is read again when the earlier ones are through.
            self.due.pop_last();
            self.horizon = self.due.last().map_or(Horizon::Start, |last| Horizon::At(*last));
        }
    }

    /// A timer was written into the store, or taken out of it.
    fn note(&mut self, timer: Due, is_there: bool) {
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile.insert(timer, is_there);
        }
    }

    /// What was read behind the horizon before, and how far that is.
    fn learn(&mut self, read: Vec<Due>, horizon: Horizon, max: usize) {
        let meanwhile = self.meanwhile.take().unwrap_or_default();
        self.horizon = horizon;
        for timer in read {
            // Timers that were given out lie behind the horizon after it has moved back.
            if !self.is_given(timer) && meanwhile.get(&timer) != Some(&false) {
                self.due.insert(timer);
            }
        }
        for (timer, is_there) in meanwhile {
            if is_there && !self.horizon.hides(timer) && !self.is_given(timer) {
                self.insert(timer, max);
            }
        }
    }

    fn is_given(&self, (at, run): Due) -> bool {
        self.given.get(&run) == Some(&at)
    }
}

impl Timers {
    /// Reads the next timers.
    pub(crate) async fn read(journal: Journal, clock: Arc<dyn Clock>) -> Result<Self, journal::Error> {
        Self::read_few(journal, clock, IN_MEMORY_MAX).await
    }

    /// The same, with at most so many in memory.
    pub(crate) async fn read_few(journal: Journal, clock: Arc<dyn Clock>, max: usize) -> Result<Self, journal::Error> {
        let inner = Inner { journal, clock, next: Mutex::default(), bell: Notify::new(), max };
        let timers = Self { inner: Arc::new(inner) };
        timers.load().await?;
        Ok(timers)
    }

    /// Timers in memory: those to be given out, and those that were and are still in the store.
    pub(crate) fn count(&self) -> usize {
        let next = self.lock();
        next.due.len() + next.given.len()
    }

    fn lock(&self) -> MutexGuard<'_, Next> {
        self.inner.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads on from the horizon. Called when nothing is left in memory, by one at a time.
    async fn load(&self) -> Result<(), journal::Error> {
        let behind = {
            let mut next = self.lock();
            let behind = match next.horizon {
                Horizon::Start => None,
                Horizon::At(last) => Some(last),
                Horizon::End => return Ok(()),
            };
            // A timer that is written from here on, and is not read, is told before the new horizon is known or after.
            next.meanwhile = Some(BTreeMap::new());
            behind
        };
        let read = self.inner.journal.timers_behind(behind, self.inner.max).await;
        let mut next = self.lock();
        let read = match read {
            Ok(read) => read,
            Err(error) => {
                next.meanwhile = None;
                return Err(error);
            }
        };
        let last = read.last().copied().filter(|_| read.len() == self.inner.max);
        next.learn(read, last.map_or(Horizon::End, Horizon::At), self.inner.max);
        Ok(())
    }

    /// A timer was written into the store.
    pub(crate) fn set(&self, at: Timestamp, run: RunId) {
        let mut next = self.lock();
        next.note((at, run), true);
        // One that was read and given out between being written and this call is not given a second time.
        if next.horizon.hides((at, run)) || next.is_given((at, run)) {
            return;
        }
        let first = next.due.first().is_none_or(|(earliest, _)| at < *earliest);
        next.insert((at, run), self.inner.max);
        drop(next);
        if first {
            self.inner.bell.notify_one();
        }
    }

    /// A timer that was given out has yet to come, because the clock was set back since: it is given again.
    pub(crate) fn set_again(&self, at: Timestamp, run: RunId) {
        self.clear(at, run);
        self.set(at, run);
    }

    /// A timer was taken out of the store.
    pub(crate) fn clear(&self, at: Timestamp, run: RunId) {
        let mut next = self.lock();
        next.note((at, run), false);
        next.due.remove(&(at, run));
        if next.is_given((at, run)) {
            next.given.remove(&run);
        }
    }

    /// A run has ended, and its timer was left in the store by one who could not read the run: it is removed. Without a
    /// timer that was given out, nothing is done.
    pub(crate) fn dismiss(&self, run: RunId) -> Result<(), journal::Error> {
        let at = {
            let mut next = self.lock();
            let Some(at) = next.given.remove(&run) else { return Ok(()) };
            next.note((at, run), false);
            at
        };
        let mut write = Write::new();
        write.delete(&key::timer(at, run, 0));
        self.inner.journal.commit(write).map(drop)
    }

    /// Waits for the next run that is due by the settled time. Each timer is given once for each time that it was set; if the run does not
    /// take it out of the store, it is given again after the next start.
    pub(crate) async fn due(&self) -> Result<RunId, journal::Error> {
        loop {
            let now = self.inner.clock.settled();
            let earliest = {
                let mut next = self.lock();
                match next.due.first().copied() {
                    Some((at, run)) if at <= now => {
                        next.due.remove(&(at, run));
                        next.given.insert(run, at);
                        return Ok(run);
                    }
                    Some((at, _)) => Some(at),
                    None if next.horizon == Horizon::End => Some(Timestamp::from_millis(u64::MAX)),
                    None => None,
                }
            };
            match earliest {
                // Each time the horizon moves on, so that this comes to the end of the store.
                None => self.load().await?,
                Some(at) => {
                    tokio::select! {
                        biased;
                        () = self.inner.clock.sleep_until_settled(at) => {}
                        () = self.inner.bell.notified() => {}
                    }
                }
            }
        }
    }

    /// Timers in memory: those to be given out, and those that were and are still in the store.
    #[cfg(test)]
    pub(crate) fn in_memory(&self) -> (usize, usize) {
        let next = self.lock();
        (next.due.len(), next.given.len())
    }
}
