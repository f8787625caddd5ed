//! How many runs may be open, and how many of them in memory: the others wait in line for a place.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellhop_core::id::RunId;
use bellhop_core::run::Cause;

use crate::Engine;
use crate::drive::runs::LoadError;
use crate::drive::runs::Runs;
use crate::execution::Signal;

/// See the module.
#[derive(Default)]
pub(crate) struct Places {
    open: AtomicU64,
    line: Mutex<Line>,
    /// Nobody in the line goes on for now.
    held: AtomicBool,
}

/// Runs that wait for a place in memory: each stands in it once, so that it is no longer than there are open runs, and
/// those that came first go first.
#[derive(Default)]
struct Line {
    serial: u64,
    runs: BTreeMap<u64, RunId>,
    serials: HashMap<RunId, u64>,
}

impl Line {
    fn push(&mut self, run: RunId) {
        if self.serials.contains_key(&run) {
            return;
        }
        self.serial += 1;
        self.runs.insert(self.serial, run);
        self.serials.insert(run, self.serial);
    }

    fn pop(&mut self) -> Option<RunId> {
        let (_, run) = self.runs.pop_first()?;
        self.serials.remove(&run);
        Some(run)
    }
}

/// A place among the open runs for one that is about to be accepted; given back unless it is kept.
pub(crate) struct Place<'p> {
    places: &'p Places,
    kept: bool,
}

impl Place<'_> {
    /// The run was accepted: it has the place until it ends.
    pub(crate) fn keep(mut self) {
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
    pub(crate) fn open_one(&self, max: u64) -> Option<Place<'_>> {
        let more = |open: u64| (open < max).then_some(open + 1);
        self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Place { places: self, kept: false })
    }

    /// So many were found open at the start.
    pub(crate) fn found(&self, count: u64) {
        self.open.fetch_add(count, Ordering::AcqRel);
    }

    /// An open run has ended.
    pub(crate) fn ended(&self) {
        let less = |open: u64| Some(open.saturating_sub(1));
        let _always = self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }

    #[cfg(test)]
    pub(crate) fn open(&self) -> u64 {
        self.open.load(Ordering::Acquire)
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a run at the end of the line, unless it stands there.
    pub(crate) fn line_up(&self, run: RunId) {
        self.line().push(run);
    }

    /// Nobody leaves the line until it is let go: runs are carried that nobody may be beside.
    pub(crate) fn hold(&self) {
        self.held.store(true, Ordering::Release);
    }

    /// Those in the line may go on, as soon as somebody asks for the next.
    pub(crate) fn let_go(&self) {
        self.held.store(false, Ordering::Release);
    }

    /// Empties the line; those who came first come first.
    pub(crate) fn clear(&self) -> Vec<RunId> {
        std::mem::take(&mut *self.line()).runs.into_values().collect()
    }

    /// Whether nobody waits.
    pub(crate) fn has_no_line(&self) -> bool {
        self.line().runs.is_empty()
    }

    /// How many wait.
    pub(crate) fn in_line(&self) -> usize {
        self.line().runs.len()
    }
}

/// A place in memory for a run that is about to be taken up. Given back when it is dropped: by then the run is in memory,
/// or could not be taken up.
pub(crate) struct Seat {
    arriving: Arc<AtomicU64>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.arriving.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Runs {
    /// A place in memory for one more run, unless as many have one as may.
    pub(crate) fn seat(&self, live_max: u64) -> Option<Seat> {
        let live = self.live() as u64;
        let more = |arriving: u64| (live.saturating_add(arriving) < live_max).then_some(arriving + 1);
        self.arriving.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Seat { arriving: self.arriving.clone() })
    }
}

impl Engine {
    /// Takes a run up that has something to do, as soon as there is a place for it. One that is in memory is told at once.
    pub(crate) async fn wake(self: &Arc<Self>, run: RunId) {
        if self.runs().is_live(run) {
            self.bring(run).await;
        } else {
            let seat = self.runs().seat(self.services.limits.live_runs_max);
            match seat.filter(|_| self.runs().places.has_no_line()) {
                Some(_seat) => self.bring(run).await,
                None => self.runs().places.line_up(run),
            }
        }
        // A place may have become free before the run stood in line, or the run may have ended and need none.
        self.next_in_line();
    }

    /// Takes a run up that is not in memory, whoever waits for a place.
    pub(crate) async fn bring(self: &Arc<Self>, run: RunId) {
        let brought = match self.send(run, Signal::of(Cause::Wake)).await {
            // One that was given up unread has left its timer, and may have been removed before that was due.
            Err(LoadError::Unknown(_)) => self.services.partition.timers.dismiss(run).map_err(LoadError::from),
            brought => brought,
        };
        if let Err(error) = brought {
            tracing::error!(%run, %error, "a run that is due cannot be taken up");
        }
    }

    /// Gives a free place to the run that has waited longest.
    pub(crate) fn next_in_line(self: &Arc<Self>) {
        let places = &self.runs().places;
        if self.is_draining() || places.held.load(Ordering::Acquire) || places.has_no_line() {
            return;
        }
        // Taken before the run leaves the line: one that is in it keeps its turn until there is a place.
        let Some(seat) = self.runs().seat(self.services.limits.live_runs_max) else { return };
        let Some(run) = self.runs().places.line().pop() else { return };
        let engine = self.clone();
        let _brought = self.services.spawn(async move {
            engine.bring(run).await;
            drop(seat);
            engine.next_in_line();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn house_a5_a_run_stands_in_line_once_and_keeps_its_place() {
        let run = |n: u64| RunId::new(bellhop_core::time::Timestamp::from_millis(n), 1);
        let places = Places::default();
        for n in [3, 1, 2, 3, 1, 3] {
            places.line_up(run(n));
        }
        assert_eq!(places.in_line(), 3);
        let order: Vec<_> = std::iter::from_fn(|| places.line().pop()).collect();
        assert_eq!(order, [run(3), run(1), run(2)]);
        places.line_up(run(3));
        assert_eq!(places.line().pop(), Some(run(3)), "one that has left may come again");
        assert!(places.has_no_line() && places.line().serials.is_empty());
    }

    #[test]
    fn house_a5_runs_on_their_way_into_memory_count_as_in_it() {
        let runs = Runs::default();
        let first = runs.seat(2).unwrap();
        let second = runs.seat(2).unwrap();
        assert!(runs.seat(2).is_none());
        drop(first);
        let third = runs.seat(2);
        assert!(third.is_some() && runs.seat(2).is_none());
        drop((second, third));
        assert!(runs.seat(1).is_some());
    }

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
