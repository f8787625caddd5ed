//! How many runs may be open, and how many of them in memory: the others wait in line for a place.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bellhop_core::id::RunId;
use bellhop_core::run::Cause;

use super::Engine;
use super::execution::Signal;
use super::runs::Runs;

/// See the module.
#[derive(Default)]
pub(super) struct Places {
    open: AtomicU64,
    /// At most one for each open run that is due.
    line: Mutex<VecDeque<RunId>>,
}

/// A place among the open runs for one that is about to be accepted; given back unless it is kept.
pub(super) struct Place<'p> {
    places: &'p Places,
    kept: bool,
}

impl Place<'_> {
    /// The run was accepted: it has the place until it ends.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.places.ended();
        }
    }
}

impl Places {
    /// A place for one more open run, if fewer than `max` are open.
    pub(super) fn open_one(&self, max: u64) -> Option<Place<'_>> {
        let more = |open: u64| (open < max).then_some(open + 1);
        self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Place { places: self, kept: false })
    }

    /// So many were found open at the start.
    pub(super) fn found(&self, count: u64) {
        self.open.fetch_add(count, Ordering::AcqRel);
    }

    /// An open run has ended.
    pub(super) fn ended(&self) {
        let less = |open: u64| Some(open.saturating_sub(1));
        let _always = self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }

    #[cfg(test)]
    pub(super) fn open(&self) -> u64 {
        self.open.load(Ordering::Acquire)
    }

    pub(super) fn line_up(&self, run: RunId) {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).push_back(run);
    }

    fn next(&self) -> Option<RunId> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl Runs {
    /// Whether as many are in memory as may be.
    pub(super) fn is_full(&self, live_max: u64) -> bool {
        self.live() as u64 >= live_max
    }
}

impl Engine {
    /// Takes a run up that has something to do, as soon as there is a place for it.
    pub(super) async fn wake(self: &Arc<Self>, run: RunId) {
        if self.runs.is_full(self.services.limits.live_runs_max) && self.runs.moved(run).is_none() {
            self.runs.places.line_up(run);
        } else {
            let signal = Signal { cause: Cause::Wake, acknowledge: None, settle: None };
            if let Err(error) = self.send(run, signal).await {
                tracing::error!(%run, %error, "a run that is due cannot be taken up");
            }
        }
        // A place may have become free before the run stood in line, or the run may have ended and need none.
        self.next_in_line();
    }

    /// Gives a free place to the run that has waited longest.
    pub(super) fn next_in_line(self: &Arc<Self>) {
        if self.is_draining() || self.runs.is_full(self.services.limits.live_runs_max) {
            return;
        }
        let Some(run) = self.runs.places.next() else { return };
        let engine = self.clone();
        self.services.spawn(async move { engine.wake(run).await });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back_unless_it_is_kept() {
        let places = Places::default();
        drop(places.open_one(1).unwrap());
        places.open_one(1).unwrap().keep();
        assert!(places.open_one(1).is_none());
        places.ended();
        places.ended();
        assert_eq!(places.open(), 0);
        places.found(3);
        assert!(places.open_one(3).is_none());
    }
}
