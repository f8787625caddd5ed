//! A store in memory, for tests and for `dev` without a folder: nothing survives the process.
//!
//! It keeps two images, what readers see (`live`) and what a disk would have (`durable`), so that a test can let the
//! machine die at any point and look at what is left.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::group::{Changes, Image, merge};
use super::store::{
    Batch, Bells, Bytes, Durable, Error, Lack, Page, Reach, Read, Spread, Stats, Store, Tap, Ticket, Topic, Watch,
};
use super::tap::Taps;
use super::watermark::Watermark;

/// Batches that may be accepted and not yet durable.
const QUEUE_BATCHES_MAX: usize = 16_384;

/// See the module.
#[derive(Debug)]
pub struct Memory {
    state: Mutex<State>,
    watermark: Arc<Watermark>,
    bells: Bells,
    manual: bool,
}

#[derive(Debug, Default)]
struct State {
    live: Image,
    durable: Image,
    unsynced: VecDeque<Batch>,
    tip: u64,
    bytes: u64,
    syncs: u64,
    end: Option<Error>,
    lack: Option<Lack>,
    taps: Taps,
}

fn apply(image: &mut Image, batch: &Batch) {
    for (key, value) in &batch.changes {
        match value {
            Some(value) => image.insert(Arc::clone(key), Arc::clone(value)),
            None => image.remove(key),
        };
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// An empty store in which every batch is durable as soon as it is accepted.
    pub fn new() -> Self {
        Self::with(Image::new(), false)
    }

    /// An empty store in which nothing becomes durable before [`Memory::sync`] is called.
    pub fn manual() -> Self {
        Self::with(Image::new(), true)
    }

    fn with(image: Image, manual: bool) -> Self {
        let state = State { live: image.clone(), durable: image, ..State::default() };
        Self { state: Mutex::new(state), watermark: Arc::default(), bells: Bells::default(), manual }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As it is, unless it was closed.
    fn readable(&self) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.state();
        if state.end == Some(Error::Closed) { Err(Error::Closed) } else { Ok(state) }
    }

    /// How many batches are accepted and not yet durable.
    pub fn unsynced(&self) -> usize {
        self.state().unsynced.len()
    }

    /// Makes the next `count` batches durable, as one group.
    pub fn sync(&self, count: usize) {
        let mut state = self.state();
        if state.end.as_ref().is_some_and(|why| *why != Error::Closed) {
            return;
        }
        Self::settle(&mut state, count);
        let durable = state.tip - state.unsynced.len() as u64;
        drop(state);
        self.watermark.advance(durable);
    }

    fn settle(state: &mut State, count: usize) {
        let State { durable, unsynced, syncs, bytes, .. } = state;
        let count = count.min(unsynced.len());
        for batch in unsynced.drain(..count) {
            apply(durable, &batch);
            *bytes += batch.bytes() as u64;
        }
        *syncs += u64::from(count > 0);
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.watermark.waiting()
    }

    /// What a machine that dies now leaves behind, when its disk happened to take `keep` of the batches that were not
    /// durable yet. This store goes on as if nothing had happened.
    pub fn crash(&self, keep: usize) -> Self {
        let state = self.state();
        let mut image = state.durable.clone();
        for batch in state.unsynced.iter().take(keep) {
            apply(&mut image, batch);
        }
        Self::with(image, self.manual)
    }

    /// Says from now on that the disk lacks room, or has it again.
    pub fn lacks(&self, lack: Option<Lack>) {
        self.state().lack = lack;
    }

    /// Behaves from now on as if the disk had refused a write.
    pub fn fail(&self, reason: &str) {
        let why = Error::Fatal { reason: reason.into() };
        self.state().end = Some(why.clone());
        self.watermark.end(why);
    }
}

impl Store for Memory {
    fn commit(&self, mut batch: Batch) -> Result<Ticket, Error> {
        batch.check()?;
        let mut state = self.state();
        if let Some(why) = &state.end {
            return Err(why.clone());
        }
        batch.judge(|key| Ok(state.live.get(key).cloned()))?;
        if batch.is_empty() {
            return Ok(Ticket(state.tip));
        }
        if state.unsynced.len() >= QUEUE_BATCHES_MAX {
            let bytes = state.unsynced.iter().map(Batch::bytes).sum();
            return Err(Error::Full { batches: state.unsynced.len(), bytes });
        }
        state.tip += 1;
        let (ticket, topic) = (state.tip, batch.topic);
        apply(&mut state.live, &batch);
        state.taps.hear(&batch.changes);
        state.unsynced.push_back(batch);
        if !self.manual {
            Self::settle(&mut state, 1);
        }
        drop(state);
        if !self.manual {
            self.watermark.advance(ticket);
        }
        self.bells.ring(topic);
        Ok(Ticket(ticket))
    }

    fn durable(&self, ticket: Ticket) -> Durable {
        self.watermark.wait(ticket)
    }

    fn tip(&self) -> Ticket {
        Ticket(self.state().tip)
    }

    fn get(&self, key: &[u8]) -> Read<Option<Bytes>> {
        Read::ready(self.readable().map(|state| state.live.get(key).cloned()))
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Read<Page> {
        Read::ready(self.readable().and_then(|state| {
            if !to.is_empty() && from >= to {
                return Ok(Page::default());
            }
            let upper = if to.is_empty() { Bound::Unbounded } else { Bound::Excluded(to) };
            let range = state.live.range::<[u8], _>((Bound::Included(from), upper));
            merge(range.map(|(key, value)| Ok((Arc::clone(key), Ok(Arc::clone(value))))), Changes::new(), limit)
        }))
    }

    fn watch(&self, topic: Topic) -> Watch {
        self.bells.watch(topic, Reach::All)
    }

    fn tap(&self, bytes_max: usize) -> Tap {
        self.state().taps.add(bytes_max)
    }

    fn stats(&self) -> Stats {
        let state = self.state();
        Stats {
            batches: state.tip,
            groups: state.syncs,
            syncs: state.syncs,
            syncs_waited: state.syncs,
            bytes: state.bytes,
            queue_batches: state.unsynced.len(),
            queue_bytes: state.unsynced.iter().map(Batch::bytes).sum(),
            is_half_full: false,
            lack: state.lack,
            held: state.lack.filter(|_| !state.unsynced.is_empty()),
            room: None,
            group_batches: Spread::default(),
            sync_us: Spread::default(),
        }
    }

    fn close(&self) -> Result<(), Error> {
        self.sync(usize::MAX);
        let mut state = self.state();
        let why = state.end.get_or_insert(Error::Closed).clone();
        drop(state);
        self.watermark.end(why.clone());
        if why == Error::Closed { Ok(()) } else { Err(why) }
    }
}
