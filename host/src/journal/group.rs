//! Group commit: a bounded queue of batches, one thread that writes them, and what readers see meanwhile.
//!
//! Batches that are accepted while the disk is busy become one group. A group is given to the operating system at
//! once, so that it outlives the process; it is synchronised, so that it outlives the machine, when somebody waits for
//! it, and otherwise a moment later: what follows it, as an intent follows the outcome before it, shares its
//! synchronisation. Until a group is in the store itself, readers find it here.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::store::{Batch, Bytes, Durable, Error, Page, SCAN_BYTES_MAX, SCAN_ITEMS_MAX, Stats, Ticket};
use super::watermark::Watermark;
use crate::faults::{Plant, Point, pass, planted};

/// Changes by key; `None` deletes.
pub(super) type Changes = BTreeMap<Bytes, Option<Bytes>>;

/// What the writing thread writes to.
pub(super) trait Medium: Send + 'static {
    /// Makes the changes visible to reads of the store, all or none.
    fn apply(&mut self, changes: &Changes) -> Result<(), String>;

    /// Returns when everything applied so far would survive the death of this process.
    fn write(&mut self) -> Result<(), String>;

    /// Returns only when everything written so far is on the disk.
    fn settle(&mut self) -> Result<(), String>;
}

/// How much may wait, and how much is written at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) queue_batches_max: usize,
    pub(super) queue_bytes_max: usize,
    pub(super) group_batches_max: usize,
    pub(super) group_bytes_max: usize,
    /// How long a written group is left unsynchronised for which nobody waits. Whoever waits ends it at once.
    pub(super) linger: Duration,
}

/// So many groups, written one soon after the other and waited for by nobody, are synchronised however soon the next
/// follows: more than an action writes between two intents.
const UNSYNCED_GROUPS_MAX: u64 = 16;

/// Told once, from the writing thread, that the store failed.
pub(crate) type OnFatal = Box<dyn Fn(&Error) + Send>;

#[derive(Debug, Default)]
struct Group {
    changes: Changes,
    last: u64,
    batches: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    /// Oldest first; the first one may be with the writer.
    sealed: VecDeque<Arc<Group>>,
    open: Group,
    tip: u64,
    queue_batches: usize,
    queue_bytes: usize,
    groups: u64,
    syncs: u64,
    syncs_waited: u64,
    bytes: u64,
    /// Why nothing more is accepted.
    end: Option<Error>,
    /// The first and the last ticket that is waited for and not durable, as far as that is known.
    wanted: Option<(u64, u64)>,
    /// What is written and not yet synchronised.
    written: Written,
    /// The writer sleeps and has to be woken.
    idle: bool,
}

/// Groups that only a synchronisation is missing to.
#[derive(Debug, Default, Clone, Copy)]
struct Written {
    /// The last ticket.
    last: u64,
    groups: u64,
    batches: usize,
    bytes: usize,
}

/// What the writer does next.
enum Step {
    Write(Arc<Group>),
    Settle(Written),
}

impl State {
    /// Closes the open group; the next batch begins another.
    fn seal(&mut self) -> Arc<Group> {
        let group = Arc::new(std::mem::take(&mut self.open));
        self.sealed.push_back(Arc::clone(&group));
        group
    }
}

#[derive(Debug)]
pub(super) struct Queue {
    limits: Limits,
    state: Mutex<State>,
    wake: Condvar,
    /// Held for writing while a group goes into the store, so that no reader sees half of one.
    gate: RwLock<()>,
    watermark: Arc<Watermark>,
}

impl Queue {
    /// Starts the one thread that writes to `medium`.
    pub(super) fn start(
        medium: impl Medium,
        limits: Limits,
        on_fatal: OnFatal,
    ) -> std::io::Result<(Arc<Self>, JoinHandle<()>)> {
        let queue = Arc::new(Self {
            limits,
            state: Mutex::default(),
            wake: Condvar::new(),
            gate: RwLock::new(()),
            watermark: Arc::default(),
        });
        let writer = Arc::clone(&queue);
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
            if let Err(reason) = writer.write(medium) {
                let why = Error::Fatal { reason: reason.into() };
                writer.state().end = Some(why.clone());
                writer.watermark.end(why.clone());
                on_fatal(&why);
            } else {
                writer.watermark.end(Error::Closed);
            }
        })?;
        Ok((queue, thread))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// While this is held no group goes into the store.
    pub(super) fn hold(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn commit(&self, batch: Batch) -> Result<Ticket, Error> {
        batch.check()?;
        let mut guard = self.state();
        let state = &mut *guard;
        if let Some(why) = &state.end {
            return Err(why.clone());
        }
        if batch.is_empty() {
            return Ok(Ticket(state.tip));
        }
        let bytes = batch.bytes();
        // A batch larger than the whole queue may still pass alone.
        let full = state.queue_batches >= self.limits.queue_batches_max
            || (state.queue_batches > 0 && state.queue_bytes + bytes > self.limits.queue_bytes_max);
        if full {
            return Err(Error::Full { batches: state.queue_batches, bytes: state.queue_bytes });
        }
        let group_full = state.open.batches >= self.limits.group_batches_max
            || (state.open.batches > 0 && state.open.bytes + bytes > self.limits.group_bytes_max);
        if group_full {
            state.seal();
        }
        state.tip += 1;
        state.open.last = state.tip;
        state.open.batches += 1;
        state.open.bytes += bytes;
        state.queue_batches += 1;
        state.queue_bytes += bytes;
        state.open.changes.extend(batch.changes);
        let ticket = Ticket(state.tip);
        let wake = std::mem::take(&mut state.idle);
        drop(guard);
        if wake {
            self.wake.notify_one();
        }
        Ok(ticket)
    }

    pub(super) fn durable(&self, ticket: Ticket) -> Durable {
        let mut state = self.state();
        if ticket.0 > self.watermark.get() {
            let (first, last) = state.wanted.unwrap_or((ticket.0, ticket.0));
            state.wanted = Some((first.min(ticket.0), last.max(ticket.0)));
        }
        // The writer sleeps over what is written only for as long as nobody waits for that.
        let wake = state.written.groups > 0 && std::mem::take(&mut state.idle);
        drop(state);
        if wake {
            self.wake.notify_one();
        }
        self.watermark.wait(ticket)
    }

    pub(super) fn tip(&self) -> Ticket {
        Ticket(self.state().tip)
    }

    pub(super) fn stats(&self) -> Stats {
        let state = self.state();
        Stats {
            batches: state.tip,
            groups: state.groups,
            syncs: state.syncs,
            syncs_waited: state.syncs_waited,
            bytes: state.bytes,
            queue_batches: state.queue_batches,
            queue_bytes: state.queue_bytes,
        }
    }

    /// Accepts nothing more; the writer ends when everything accepted is written.
    pub(super) fn finish(&self) {
        self.state().end.get_or_insert(Error::Closed);
        self.wake.notify_one();
    }

    /// Why the store takes nothing more, unless it was only closed.
    pub(super) fn failure(&self) -> Option<Error> {
        self.state().end.clone().filter(|why| *why != Error::Closed)
    }

    /// What a batch not yet in the store says about `key`: `Some(None)` is deleted.
    pub(super) fn pending(&self, key: &[u8]) -> Option<Option<Bytes>> {
        let state = self.state();
        let mut newest_first = std::iter::once(&state.open).chain(state.sealed.iter().rev().map(|group| &**group));
        newest_first.find_map(|group| group.changes.get(key).cloned())
    }

    /// What all batches not yet in the store say about the range; an empty `to` is the end.
    pub(super) fn pending_range(&self, from: &[u8], to: &[u8]) -> Changes {
        let mut all = Changes::new();
        if !to.is_empty() && from >= to {
            return all;
        }
        let upper = if to.is_empty() { Bound::Unbounded } else { Bound::Excluded(to) };
        let state = self.state();
        for group in state.sealed.iter().map(|group| &**group).chain(std::iter::once(&state.open)) {
            let range = group.changes.range::<[u8], _>((Bound::Included(from), upper));
            all.extend(range.map(|(key, value)| (Arc::clone(key), value.clone())));
        }
        all
    }

    /// What is next, in order; `None` when there will be no more.
    fn next(&self) -> Option<Step> {
        let mut state = self.state();
        let mut has_lingered = false;
        loop {
            // Not before what is waited for is written; and not after more than that, or much work would delay all.
            let waited_for = state.wanted.is_some_and(|(first, _)| first <= state.written.last);
            let enough = state.written.groups >= UNSYNCED_GROUPS_MAX;
            if state.written.groups > 0 && (waited_for || has_lingered || enough) {
                state.syncs_waited += u64::from(waited_for);
                return Some(Step::Settle(std::mem::take(&mut state.written)));
            }
            if let Some(group) = state.sealed.front() {
                return Some(Step::Write(Arc::clone(group)));
            }
            if state.open.batches > 0 {
                return Some(Step::Write(state.seal()));
            }
            if state.end.is_some() {
                let written = std::mem::take(&mut state.written);
                return (written.groups > 0).then_some(Step::Settle(written));
            }
            state.idle = true;
            if state.written.groups > 0 {
                let waited = self.wake.wait_timeout(state, self.limits.linger).unwrap_or_else(PoisonError::into_inner);
                state = waited.0;
                has_lingered = waited.1.timed_out();
            } else {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.idle = false;
        }
    }

    fn write(&self, mut medium: impl Medium) -> Result<(), String> {
        while let Some(step) = self.next() {
            match step {
                Step::Write(group) => {
                    {
                        let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
                        caught(|| medium.apply(&group.changes))?;
                        self.state().sealed.pop_front();
                    }
                    pass(Point::Unwritten);
                    caught(|| medium.write())?;
                    pass(Point::Unsynced);
                    if planted(Plant::AcknowledgeUnsynced) {
                        self.watermark.advance(group.last);
                    }
                    let mut state = self.state();
                    state.written.last = group.last;
                    state.written.groups += 1;
                    state.written.batches += group.batches;
                    state.written.bytes += group.bytes;
                }
                Step::Settle(written) => {
                    caught(|| medium.settle())?;
                    pass(Point::Unacknowledged);
                    let mut state = self.state();
                    state.groups += written.groups;
                    state.syncs += 1;
                    state.bytes += written.bytes as u64;
                    state.queue_batches -= written.batches;
                    state.queue_bytes -= written.bytes;
                    state.wanted = state
                        .wanted
                        .filter(|(_, last)| *last > written.last)
                        .map(|(first, last)| (first.max(written.last + 1), last));
                    // While the state is held: somebody who asked in between would have the next group synchronised
                    // for what is durable already.
                    self.watermark.advance(written.last);
                }
            }
        }
        Ok(())
    }
}

/// A panic of the storage engine is one more way for it to fail.
fn caught(work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panic_text(&*panic)))
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("the storage engine panicked: {}", text.unwrap_or("(no text)"))
}

/// Lays pending changes over what the store has, both ascending, up to the limits of a scan.
pub(super) fn merge(
    stored: impl Iterator<Item = Result<(Bytes, Bytes), Error>>,
    pending: Changes,
    limit: usize,
) -> Result<Page, Error> {
    let limit = limit.min(SCAN_ITEMS_MAX);
    let mut page = Page::default();
    let mut bytes = 0;
    let mut stored = stored.peekable();
    let mut pending = pending.into_iter().peekable();
    loop {
        let pending_first = match (pending.peek(), stored.peek()) {
            (None, None) => return Ok(page),
            (Some((key, _)), Some(Ok((stored_key, _)))) => {
                let first = key <= stored_key;
                if key == stored_key {
                    // Overridden.
                    stored.next();
                }
                first
            }
            (Some(_), None) => true,
            (_, Some(_)) => false,
        };
        let (key, value) = if pending_first {
            match pending.next() {
                Some((key, Some(value))) => (key, value),
                _ => continue,
            }
        } else {
            match stored.next() {
                Some(item) => item?,
                None => continue,
            }
        };
        if page.items.len() >= limit || bytes >= SCAN_BYTES_MAX {
            page.next = Some(key);
            return Ok(page);
        }
        bytes += value.len();
        page.items.push((key, value));
    }
}
