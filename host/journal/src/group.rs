//! Group commit: a bounded queue of batches, one thread that writes them, and what readers see meanwhile.
//!
//! Batches that are accepted while the disk is busy become one group, and so do those that come within a moment while
//! nobody waits for any of them: each group costs the embedded store as much whatever is in it. A group is given to the
//! operating system, so that it outlives the process; it is synchronised, so that it outlives the machine, when somebody
//! waits for it, and otherwise a moment later: what follows it, as an intent follows the outcome before it, shares its
//! synchronisation. Until a group is in the store itself, readers find it here.
//!
//! The embedded store does not recover from a write that found no room. So the room is looked at before each group. With
//! less than the reserve nothing begins any more ([`Stats::lack`]); what goes on uses it. With less than a quarter of
//! that, the group stays where it is and everything that is accepted waits, until there is room. A look alone is not
//! enough, because others may take the room before the group has it: so whoever writes the group takes what it can need
//! beforehand, and refuses it untouched where that is not there ([`Refused::Room`]).

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::store::{
    Batch, Bells, Bytes, Durable, Error, Lack, Page, Reach, Room, SCAN_BYTES_MAX, SCAN_ITEMS_MAX, Spread, Stats, Tap,
    Ticket, Topic, Watch,
};
use super::tap::Taps;
use super::watermark::Watermark;
use bellhop_clock::{self as clock, Clock as _};
use bellhop_faults::{Point, pass};

/// Changes by key; `None` deletes.
pub(super) type Changes = BTreeMap<Bytes, Option<Bytes>>;

/// Values by key, of the store itself.
pub(super) type Image = BTreeMap<Bytes, Bytes>;

/// What the writing thread writes to.
pub(super) trait Medium: Send + 'static {
    /// Makes the changes visible to reads of the store, all or none.
    ///
    /// # Errors
    /// None of them is visible.
    fn apply(&mut self, changes: &Changes) -> Result<(), Refused>;

    /// Returns when everything applied so far would survive the death of this process.
    fn write(&mut self) -> Result<(), String>;

    /// Returns only when everything written so far is on the disk.
    fn settle(&mut self) -> Result<(), String>;
}

/// Why a group was not applied; split by what the writer does next.
#[derive(Debug)]
pub(super) enum Refused {
    /// The disk lacks what the group can need: the same group may be tried again.
    Room(Lack),
    /// The store failed, and takes nothing more.
    Failed(String),
}

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

/// How much may wait, and how much is written at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) queue_batches_max: usize,
    pub(super) queue_bytes_max: usize,
    pub(super) group_batches_max: usize,
    pub(super) group_bytes_max: usize,
    /// How long a batch is left unwritten for which nobody waits: what follows is written with it. Whoever waits ends that.
    pub(super) gather: Duration,
    /// How long a written group is left unsynchronised for which nobody waits. Whoever waits ends it at once.
    pub(super) linger: Duration,
    /// Bytes that are kept free on the disk for what goes on, though never more than half of it.
    pub(super) reserve_bytes: u64,
    /// How often the room is looked at again while there is too little.
    pub(super) look_again: Duration,
}

/// Tells the room on the disk; `None` when it cannot be told: then the store itself finds out.
pub(crate) type Space = Box<dyn Fn() -> Option<Room> + Send + Sync>;

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
    group_batches: Spread,
    sync_us: Spread,
    /// Why nothing more is accepted.
    end: Option<Error>,
    /// The first and the last ticket that is waited for and not durable, as far as that is known.
    wanted: Option<(u64, u64)>,
    /// What is written and not yet synchronised.
    written: Written,
    /// The writer sleeps and has to be woken.
    idle: bool,
    /// It sleeps because nobody waits for what is there.
    gathers: bool,
    /// What the disk lacks for the next group.
    held: Option<Lack>,
    /// What it lacked when the next group was tried, which the writer has not waited for yet.
    refused: Option<Lack>,
    /// The log says that the disk is full.
    is_told: bool,
    /// Who hears what is accepted.
    taps: Taps,
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
    /// See [`Queue::pending`].
    fn pending(&self, key: &[u8]) -> Option<Option<Bytes>> {
        let mut newest_first = std::iter::once(&self.open).chain(self.sealed.iter().rev().map(|group| &**group));
        newest_first.find_map(|group| group.changes.get(key).cloned())
    }

    /// Closes the open group; the next batch begins another.
    fn seal(&mut self) -> Arc<Group> {
        let group = Arc::new(std::mem::take(&mut self.open));
        self.sealed.push_back(Arc::clone(&group));
        group
    }
}

pub(super) struct Queue {
    limits: Limits,
    space: Space,
    state: Mutex<State>,
    wake: Condvar,
    /// Held for writing while a group goes into the store, so that no reader sees half of one.
    gate: RwLock<()>,
    watermark: Arc<Watermark>,
    bells: Bells,
    /// Measures how long the disk takes.
    clock: clock::System,
}

impl Queue {
    /// Starts the one thread that writes to `medium`.
    pub(super) fn start(
        medium: impl Medium,
        limits: Limits,
        space: Space,
        on_fatal: OnFatal,
    ) -> std::io::Result<(Arc<Self>, JoinHandle<()>)> {
        let queue = Arc::new(Self {
            limits,
            space,
            state: Mutex::default(),
            wake: Condvar::new(),
            gate: RwLock::new(()),
            watermark: Arc::default(),
            bells: Bells::default(),
            clock: clock::System::new(),
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

    /// Accepts the batch. `stored` has what the store itself has under the keys that the batch rests on; whoever reads it there
    /// [holds](Self::hold) the store from before the read until this returns, so that it and the queue are one picture.
    pub(super) fn commit(&self, mut batch: Batch, stored: &Image) -> Result<Ticket, Error> {
        batch.check()?;
        let mut guard = self.state();
        let state = &mut *guard;
        if let Some(why) = &state.end {
            return Err(why.clone());
        }
        batch.judge(|key| Ok(state.pending(key).unwrap_or_else(|| stored.get(key).cloned())))?;
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
        state.taps.hear(&batch.changes);
        state.open.changes.extend(batch.changes);
        let (ticket, topic) = (Ticket(state.tip), batch.topic);
        let wake = (!state.gathers || self.has_much(state)) && std::mem::take(&mut state.idle);
        drop(guard);
        if wake {
            self.wake.notify_one();
        }
        self.bells.ring(topic);
        Ok(ticket)
    }

    /// Hears what is accepted from here on.
    pub(super) fn tap(&self, bytes_max: usize) -> Tap {
        self.state().taps.add(bytes_max)
    }

    /// Nobody else writes to the store, so that all is heard.
    pub(super) fn watch(&self, topic: Topic) -> Watch {
        self.bells.watch(topic, Reach::All)
    }

    pub(super) fn durable(&self, ticket: Ticket) -> Durable {
        let mut state = self.state();
        let is_early = ticket.0 > self.watermark.get();
        if is_early {
            let (first, last) = state.wanted.unwrap_or((ticket.0, ticket.0));
            state.wanted = Some((first.min(ticket.0), last.max(ticket.0)));
        }
        // The writer sleeps over what is there only for as long as nobody waits for that.
        let sleeps_over_it = state.gathers || state.written.groups > 0;
        let wake = is_early && sleeps_over_it && std::mem::take(&mut state.idle);
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
        // Before the lock: the system may take its time over a disk that is far away, and whoever writes waits for it.
        let room = (self.space)();
        let lack = self.lack(room);
        let state = self.state();
        Stats {
            batches: state.tip,
            groups: state.groups,
            syncs: state.syncs,
            syncs_waited: state.syncs_waited,
            bytes: state.bytes,
            queue_batches: state.queue_batches,
            queue_bytes: state.queue_bytes,
            is_half_full: state.queue_batches >= self.limits.queue_batches_max / 2
                || state.queue_bytes >= self.limits.queue_bytes_max / 2,
            lack,
            held: state.held,
            room,
            group_batches: state.group_batches,
            sync_us: state.sync_us,
        }
    }

    /// Whether there is so much to write that nothing is gathered with it.
    fn has_much(&self, state: &State) -> bool {
        !state.sealed.is_empty() || state.open.batches >= self.limits.group_batches_max / 2
    }

    /// The reserve, of a disk of that size.
    fn reserve(&self, room: Room) -> u64 {
        self.limits.reserve_bytes.min(room.total / 2)
    }

    fn lack(&self, room: Option<Room>) -> Option<Lack> {
        let room = room?;
        let wanted = self.reserve(room);
        (room.free < wanted).then_some(Lack { free: room.free, wanted })
    }

    /// What is missing, with so much room, for writing so many bytes.
    fn held(&self, room: Option<Room>, bytes: usize) -> Option<Lack> {
        let room = room?;
        let wanted = (self.reserve(room) / 4).saturating_add((bytes as u64).saturating_mul(2));
        (room.free < wanted).then_some(Lack { free: room.free, wanted })
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
        self.state().pending(key)
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
    ///
    /// # Errors
    /// There is no room for what is to be written before the end.
    fn next(&self) -> Result<Option<Step>, String> {
        let (mut has_gathered, mut has_lingered) = (false, false);
        loop {
            // Before the lock, as in `stats`.
            let room = (self.space)();
            let mut state = self.state();
            // Not before what is waited for is written; and not after more than that, or much work would delay all.
            let waited_for = state.wanted.is_some_and(|(first, _)| first <= state.written.last);
            let enough = state.written.groups >= UNSYNCED_GROUPS_MAX;
            if state.written.groups > 0 && (waited_for || has_lingered || enough) {
                state.syncs_waited += u64::from(waited_for);
                return Ok(Some(Step::Settle(std::mem::take(&mut state.written))));
            }
            let next = state.sealed.front().map(|group| group.bytes);
            let next = next.or_else(|| (state.open.batches > 0).then_some(state.open.bytes));
            let refused = state.refused.take();
            let held = next.and_then(|bytes| refused.or_else(|| self.held(room, bytes)));
            state.held = held;
            let is_waited_for = state.wanted.is_some_and(|(_, last)| last > state.written.last);
            state.gathers = next.is_some()
                && held.is_none()
                && !(is_waited_for || has_gathered || state.end.is_some() || self.limits.gather.is_zero())
                && !self.has_much(&state);
            if next.is_some() && held.is_none() && !state.gathers {
                let group = state.sealed.front().cloned().unwrap_or_else(|| state.seal());
                return Ok(Some(Step::Write(group)));
            }
            if state.end.is_some() {
                let written = std::mem::take(&mut state.written);
                if written.groups > 0 {
                    return Ok(Some(Step::Settle(written)));
                }
                return held.map_or(Ok(None), |lack| {
                    let (waiting, Lack { free, wanted }) = (state.queue_batches, lack);
                    Err(format!(
                        "{waiting} batches that nobody was told of are not written: the disk has {free} bytes free, {wanted} are needed"
                    ))
                });
            }
            if let Some(Lack { free, wanted }) = held.filter(|_| !state.is_told) {
                state.is_told = true;
                tracing::warn!(free, wanted, "the store's disk is full: everything that is to be written waits");
            }
            state.idle = true;
            let gathers = state.gathers;
            let lingers = !gathers && state.written.groups > 0;
            let span = match held {
                _ if gathers => Some(self.limits.gather),
                _ if lingers => Some(self.limits.linger),
                Some(_) => Some(self.limits.look_again),
                None => None,
            };
            let mut state = match span {
                Some(span) => {
                    let waited = self.wake.wait_timeout(state, span).unwrap_or_else(PoisonError::into_inner);
                    has_gathered = gathers && waited.1.timed_out();
                    has_lingered = lingers && waited.1.timed_out();
                    waited.0
                }
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            (state.idle, state.gathers) = (false, false);
        }
    }

    /// Puts the oldest group into the store.
    fn apply(&self, medium: &mut impl Medium, changes: &Changes) -> Result<(), Refused> {
        let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        caught(|| medium.apply(changes))?;
        let mut state = self.state();
        state.sealed.pop_front();
        if std::mem::take(&mut state.is_told) {
            tracing::info!("the store's disk has room again: what waited is written");
        }
        Ok(())
    }

    fn write(&self, mut medium: impl Medium) -> Result<(), String> {
        while let Some(step) = self.next()? {
            match step {
                Step::Write(group) => {
                    match self.apply(&mut medium, &group.changes) {
                        Ok(()) => {}
                        Err(Refused::Room(lack)) => {
                            self.state().refused = Some(lack);
                            continue;
                        }
                        Err(Refused::Failed(why)) => return Err(why),
                    }
                    pass(Point::Unwritten);
                    caught(|| medium.write())?;
                    pass(Point::Unsynced);
                    let mut state = self.state();
                    state.written.last = group.last;
                    state.written.groups += 1;
                    state.written.batches += group.batches;
                    state.written.bytes += group.bytes;
                }
                Step::Settle(written) => {
                    let began = self.clock.monotonic();
                    caught(|| medium.settle())?;
                    let took = self.clock.monotonic().saturating_sub(began);
                    pass(Point::Unacknowledged);
                    let mut state = self.state();
                    state.sync_us.count(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
                    state.group_batches.count(written.batches as u64);
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
fn caught<E: From<String>>(work: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panic_text(&*panic).into()))
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    format!("the storage engine panicked: {}", text.unwrap_or("(no text)"))
}

/// Lays pending changes over what the store has, both ascending, up to the limits of a scan.
pub(super) fn merge(
    stored: impl Iterator<Item = Result<(Bytes, Result<Bytes, Arc<str>>), Error>>,
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
                Some((key, Some(value))) => (key, Ok(value)),
                _ => continue,
            }
        } else {
            match stored.next() {
                Some(item) => item?,
                None => continue,
            }
        };
        if page.items.len() + page.damaged.len() >= limit || bytes >= SCAN_BYTES_MAX {
            page.next = Some(key);
            return Ok(page);
        }
        match value {
            Ok(value) => {
                bytes += value.len();
                page.items.push((key, value));
            }
            Err(reason) => page.damaged.push((key, reason)),
        }
    }
}
