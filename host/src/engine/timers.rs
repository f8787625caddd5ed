//! Wakes runs when their time has come. Timers are keys in the store; the next ones are in memory.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellhop_core::id::RunId;
use bellhop_core::time::Timestamp;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::faults::{Plant, planted};
use crate::journal::{self, Journal};

/// Timers in memory; the rest stays in the store until these are through.
const IN_MEMORY_MAX: usize = 1_000;

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
}

#[derive(Default)]
struct Next {
    due: BTreeSet<(Timestamp, RunId)>,
    /// Timers later than this are only in the store; none: all are in memory.
    horizon: Option<Timestamp>,
}

impl Timers {
    /// Reads the next timers.
    pub(crate) fn read(journal: Journal, clock: Arc<dyn Clock>) -> Result<Self, journal::Error> {
        let timers = Self { inner: Arc::new(Inner { journal, clock, next: Mutex::default(), bell: Notify::new() }) };
        if !planted(Plant::ForgetTimers) {
            timers.load()?;
        }
        Ok(timers)
    }

    fn lock(&self) -> MutexGuard<'_, Next> {
        self.inner.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self) -> Result<(), journal::Error> {
        // Held while reading: a timer that is written meanwhile is either read here, or set after the new horizon is known.
        let mut next = self.lock();
        let read = self.inner.journal.timers_due(Timestamp::from_millis(u64::MAX), IN_MEMORY_MAX)?;
        next.horizon = (read.len() == IN_MEMORY_MAX).then(|| read.last().map(|t| t.at)).flatten();
        next.due = read.into_iter().map(|timer| (timer.at, timer.run)).collect();
        Ok(())
    }

    /// A timer was written into the store.
    pub(crate) fn set(&self, at: Timestamp, run: RunId) {
        let mut next = self.lock();
        if next.horizon.is_some_and(|horizon| at > horizon) {
            return;
        }
        let first = next.due.first().is_none_or(|(earliest, _)| at < *earliest);
        next.due.insert((at, run));
        drop(next);
        if first {
            self.inner.bell.notify_one();
        }
    }

    /// A timer was taken out of the store.
    pub(crate) fn clear(&self, at: Timestamp, run: RunId) {
        self.lock().due.remove(&(at, run));
    }

    /// Waits for the next run that is due. Each timer is given once for each time that it was set; if the run does not
    /// take it out of the store, it is given again after the next start.
    pub(crate) async fn due(&self) -> Result<RunId, journal::Error> {
        loop {
            let now = self.inner.clock.now();
            let earliest = {
                let mut next = self.lock();
                match next.due.first().copied() {
                    Some((at, run)) if at <= now => {
                        next.due.remove(&(at, run));
                        return Ok(run);
                    }
                    Some((at, _)) => Some(at),
                    None if next.horizon.is_some() => None,
                    None => Some(Timestamp::from_millis(u64::MAX)),
                }
            };
            match earliest {
                None => self.load()?,
                Some(at) => {
                    tokio::select! {
                        biased;
                        () = self.inner.clock.sleep_until(at) => {}
                        () = self.inner.bell.notified() => {}
                    }
                }
            }
        }
    }
}
