//! Who waits for a bucket, and who is next: runs take turns, and the fast lane goes before the slow one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bellhop_core::id::RunId;
use tokio::sync::oneshot;

use super::bucket::Rate;
use super::{Key, Lane};

/// Grants to the fast lane after which the slow one gets one, so that it never starves.
const FAST_IN_A_ROW_MAX: u8 = 4;

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) ticket: u64,
    /// Shared with the reservation, and with those beside it that wait for the same: ten thousand may wait.
    pub(super) keys: Arc<[Key]>,
    pub(super) rates: Arc<[Rate]>,
    pub(super) tell: oneshot::Sender<()>,
}

/// Buckets, and their rates.
pub(super) type Wanted = (Arc<[Key]>, Arc<[Rate]>);

#[derive(Debug, Default)]
struct Turns {
    order: VecDeque<RunId>,
    runs: HashMap<RunId, VecDeque<Waiter>>,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    fast: Turns,
    slow: Turns,
    fast_in_a_row: u8,
    length: usize,
    /// For what the last one came.
    last: Option<Wanted>,
}

/// Who is next, or when to look again.
#[derive(Debug)]
pub(super) enum Next {
    Grant(Waiter),
    At(u64),
    Nobody,
}

impl Turns {
    fn push(&mut self, run: RunId, waiter: Waiter) {
        let waiting = self.runs.entry(run).or_insert_with(|| VecDeque::with_capacity(1));
        if waiting.is_empty() {
            self.order.push_back(run);
        }
        waiting.push_back(waiter);
    }

    /// The first run, in order, whose oldest call can go now; it then goes to the end of the order.
    fn take(&mut self, now_us: u64, ready_at_us: &impl Fn(&[Key]) -> u64) -> Next {
        let mut earliest = None;
        for place in 0..self.order.len() {
            let run = self.order[place];
            let Some(head) = self.runs.get(&run).and_then(VecDeque::front) else { continue };
            let at = ready_at_us(&head.keys);
            if at <= now_us {
                self.order.remove(place);
                let Some(waiting) = self.runs.get_mut(&run) else { continue };
                let Some(waiter) = waiting.pop_front() else { continue };
                if waiting.is_empty() {
                    self.runs.remove(&run);
                } else {
                    self.order.push_back(run);
                }
                return Next::Grant(waiter);
            }
            earliest = Some(earliest.map_or(at, |e: u64| e.min(at)));
        }
        earliest.map_or(Next::Nobody, Next::At)
    }

    fn withdraw(&mut self, run: RunId, ticket: u64) -> bool {
        let Some(waiting) = self.runs.get_mut(&run) else { return false };
        let Some(place) = waiting.iter().position(|w| w.ticket == ticket) else { return false };
        waiting.remove(place);
        if waiting.is_empty() {
            self.runs.remove(&run);
            self.order.retain(|r| *r != run);
        }
        true
    }
}

impl Queue {
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// The same buckets and rates, in the memory that the one before holds if it came for the same.
    pub(super) fn shared(&mut self, wanted: Wanted) -> Wanted {
        match &self.last {
            Some(before) if *before == wanted => before.clone(),
            _ => self.last.insert(wanted).clone(),
        }
    }

    fn turns(&mut self, lane: Lane) -> &mut Turns {
        match lane {
            Lane::Fast => &mut self.fast,
            Lane::Slow => &mut self.slow,
        }
    }

    pub(super) fn push(&mut self, lane: Lane, run: RunId, waiter: Waiter) {
        self.turns(lane).push(run, waiter);
        self.length += 1;
    }

    pub(super) fn withdraw(&mut self, lane: Lane, run: RunId, ticket: u64) -> bool {
        let was_there = self.turns(lane).withdraw(run, ticket);
        if was_there {
            self.length -= 1;
        }
        was_there
    }

    pub(super) fn next(&mut self, now_us: u64, ready_at_us: &impl Fn(&[Key]) -> u64) -> Next {
        let slow_first = self.fast_in_a_row >= FAST_IN_A_ROW_MAX;
        let mut lanes = [Lane::Fast, Lane::Slow];
        if slow_first {
            lanes.reverse();
        }
        let mut earliest: Option<u64> = None;
        for lane in lanes {
            match self.turns(lane).take(now_us, ready_at_us) {
                Next::Grant(waiter) => {
                    self.length -= 1;
                    self.fast_in_a_row = if lane == Lane::Fast { self.fast_in_a_row.saturating_add(1) } else { 0 };
                    return Next::Grant(waiter);
                }
                Next::At(at) => earliest = Some(earliest.map_or(at, |e| e.min(at))),
                Next::Nobody => {}
            }
        }
        earliest.map_or(Next::Nobody, Next::At)
    }
}
