//! The storage port: an ordered map of bytes to bytes, changed by atomic batches.

use std::fmt;
use std::sync::Arc;

use bellhop_core::digest::Digest;

pub use super::read::Read;
pub use super::tap::Tap;
pub use super::watch::{Bells, Reach, Topic, Watch};
pub use super::watermark::Durable;

/// Shared, unchanging bytes.
pub type Bytes = Arc<[u8]>;

/// Longest key. With it no index page of the embedded store (257 keys at most) outgrows what it keeps inside its file.
pub const KEY_BYTES_MAX: usize = 384;
/// Largest value.
pub const VALUE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Most bytes, keys and values together, of one batch.
pub const BATCH_BYTES_MAX: usize = 40 * 1024 * 1024;
/// Most items that one [`Store::scan`] returns, whatever it was asked for.
pub const SCAN_ITEMS_MAX: usize = 4_096;
/// After this many bytes of values a [`Store::scan`] ends early.
pub const SCAN_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The place of a batch in the order of all batches of one opened store. Tickets mean nothing after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticket(pub(super) u64);

/// Why the store did not do what it was asked; split by what the caller does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The queue is full: nothing of the batch was or will be written. Refuse the work (503) or wait for a ticket.
    #[error("the store's queue is full ({batches} batches, {bytes} bytes wait to be written)")]
    Full {
        /// Batches that wait.
        batches: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// The batch can never be written: the caller must make it smaller.
    #[error("{what} has {bytes} bytes, the store takes at most {bytes_max}")]
    TooLarge {
        /// `a key`, `a value` or `a batch`.
        what: &'static str,
        /// What it has.
        bytes: usize,
        /// What it may have.
        bytes_max: usize,
    },
    /// A guard of the batch does not hold: somebody else has written what the batch rests on. Nothing of it was or will be
    /// written. Read again and decide anew.
    #[error("what is stored under {key} is not what was read there")]
    Refused {
        /// The first key whose guard does not hold, readable.
        key: String,
    },
    /// The disk has no room but for what goes on: nothing was or will be written of what would begin. Refuse it (503);
    /// when there is room again, nothing has to be started anew.
    #[error("the store's disk has {free} bytes free, and nothing begins with less than {wanted}")]
    NoRoom {
        /// Bytes that are free.
        free: u64,
        /// Bytes that have to be.
        wanted: u64,
    },
    /// The store was closed by this process: nothing of the batch was or will be written.
    #[error("the store is closed")]
    Closed,
    /// The disk refused a write or a synchronisation: what was not acknowledged before may or may not be on it.
    /// Nothing is acknowledged from here on; the process has to end (exit code 70) and recover at its next start.
    #[error("the store failed and takes nothing more: {reason}")]
    Fatal {
        /// What the disk said.
        reason: Arc<str>,
    },
    /// What is stored under this key is not what was written. Park what needs it; other keys can still be read.
    #[error("damaged: {reason} (key {key})")]
    Corrupt {
        /// The key, readable.
        key: String,
        /// What is wrong with it.
        reason: Arc<str>,
    },
}

/// What a guard says of a key, as of the moment in which its batch is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The key has no value.
    Absent,
    /// The digest of its value is this.
    Same(Digest),
}

impl Expect {
    /// What holds of a key with this value.
    pub fn of(value: Option<&[u8]>) -> Self {
        value.map_or(Self::Absent, |value| Self::Same(Digest::of(value)))
    }
}

/// Puts and deletes that happen together or not at all. Later changes of a key override earlier ones. They happen only if
/// each guard of the batch holds.
#[derive(Clone, Default)]
pub struct Batch {
    pub(super) changes: Vec<(Bytes, Option<Bytes>)>,
    pub(super) guards: Vec<(Bytes, Expect)>,
    /// Put behind the changes, each unless its key has a value.
    keeps: Vec<(Bytes, Bytes)>,
    /// What is told to whoever watches, once the batch is accepted.
    pub(super) topic: Option<Topic>,
    bytes: usize,
}

impl Batch {
    /// An empty batch.
    #[cfg_attr(not(test), allow(dead_code, reason = "the tests of the port begin with it"))]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.changes.push((key, Some(value)));
    }

    /// Removes `key`, whether or not it is there.
    pub fn delete(&mut self, key: impl Into<Bytes>) {
        let key = key.into();
        self.bytes += key.len();
        self.changes.push((key, None));
    }

    /// Sets `key` to `value` unless it has a value before the batch, whichever: for what is the same whoever writes it. What
    /// is there is not written again.
    pub fn keep(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.keeps.push((key.into(), value.into()));
    }

    /// Lets the batch happen only if this holds of `key` before it. Guards look at the keys as they are before the batch's
    /// own changes.
    pub fn guard(&mut self, key: impl Into<Bytes>, expect: Expect) {
        self.guards.push((key.into(), expect));
    }

    /// Tells whoever [watches](Store::watch) the topic, once the batch is accepted.
    pub fn tells(&mut self, topic: Topic) {
        self.topic = Some(topic);
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.keeps.is_empty()
    }

    /// The keys of which a store has to know what is under them before it accepts the batch.
    pub(super) fn rests_on(&self) -> impl Iterator<Item = &Bytes> {
        self.guards.iter().map(|(key, _)| key).chain(self.keeps.iter().map(|(key, _)| key))
    }

    /// Whether each of its guards holds, where `value_of` gives what is stored under a key. After Ok the batch is changes
    /// alone: what it keeps is among them unless it is there.
    ///
    /// # Errors
    /// [`Error::Refused`], with the key; [`Error::TooLarge`]; and whatever reading it says.
    pub(super) fn judge(
        &mut self,
        mut value_of: impl FnMut(&[u8]) -> Result<Option<Bytes>, Error>,
    ) -> Result<(), Error> {
        for (key, expect) in &self.guards {
            if Expect::of(value_of(key)?.as_deref()) != *expect {
                return Err(Error::Refused { key: super::key::display(key) });
            }
        }
        for (key, value) in std::mem::take(&mut self.keeps) {
            if value_of(&key)?.is_none() {
                self.put(key, value);
            }
        }
        self.check_bytes()
    }

    /// Bytes of its keys and values; of what it keeps, once that is known to be missing.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether any store may take it.
    pub(super) fn check(&self) -> Result<(), Error> {
        let too_large = |what, bytes, bytes_max| Err(Error::TooLarge { what, bytes, bytes_max });
        let changes = self.changes.iter().map(|(key, value)| (key, value.as_ref()));
        for (key, value) in changes.chain(self.keeps.iter().map(|(key, value)| (key, Some(value)))) {
            if key.len() > KEY_BYTES_MAX {
                return too_large("a key", key.len(), KEY_BYTES_MAX);
            }
            match value {
                Some(value) if value.len() > VALUE_BYTES_MAX => {
                    return too_large("a value", value.len(), VALUE_BYTES_MAX);
                }
                _ => {}
            }
        }
        self.check_bytes()
    }

    fn check_bytes(&self) -> Result<(), Error> {
        let bytes_max = BATCH_BYTES_MAX;
        if self.bytes > bytes_max {
            return Err(Error::TooLarge { what: "a batch", bytes: self.bytes, bytes_max });
        }
        Ok(())
    }
}

impl fmt::Debug for Batch {
    /// Sizes only: values hold what people wrote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("changes", &self.changes.len())
            .field("guards", &self.guards.len())
            .field("keeps", &self.keeps.len())
            .field("bytes", &self.bytes)
            .finish()
    }
}

/// What a [`Store::scan`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Keys with their values, ascending.
    pub items: Vec<(Bytes, Bytes)>,
    /// Keys whose values are not what was written, with why.
    pub damaged: Vec<(Bytes, Arc<str>)>,
    /// Where the next scan has to start; `None` when the range is exhausted.
    pub next: Option<Bytes>,
}

impl Page {
    /// Every key, ascending, for whom the values do not matter.
    pub fn keys(&self) -> Vec<Bytes> {
        let damaged = self.damaged.iter().map(|(key, _)| key);
        let mut keys: Vec<Bytes> = self.items.iter().map(|(key, _)| key).chain(damaged).cloned().collect();
        keys.sort();
        keys
    }

    /// The page, if everything in its range could be read.
    pub fn whole(self) -> Result<Self, Error> {
        match self.damaged.first() {
            None => Ok(self),
            Some((key, reason)) => Err(Error::Corrupt { key: super::key::display(key), reason: Arc::clone(reason) }),
        }
    }
}

/// Counters since the store was opened, and how full its queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Batches accepted.
    pub batches: u64,
    /// Groups of batches written.
    pub groups: u64,
    /// Synchronisations of the disk, at most one a group.
    pub syncs: u64,
    /// Those that somebody waited for when they began.
    pub syncs_waited: u64,
    /// Bytes of keys and values in the groups written.
    pub bytes: u64,
    /// Batches accepted and not yet durable.
    pub queue_batches: usize,
    /// Their bytes.
    pub queue_bytes: usize,
    /// Whether the queue is half full, of batches or of bytes.
    pub is_half_full: bool,
    /// What the disk lacks now, when it lacks room.
    pub lack: Option<Lack>,
    /// What it lacks for that which is to be written next: until that is there, nothing more becomes durable.
    pub held: Option<Lack>,
    /// The room of the disk, where it can be told.
    pub room: Option<Room>,
    /// How many batches became durable with one synchronisation.
    pub group_batches: Spread,
    /// How long synchronisations took, in microseconds.
    pub sync_us: Spread,
}

/// How numbers are spread: counted by the powers of two that they are not above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spread {
    /// How many were at most 1, 2, 4 and so on, and above the one before. The last has all that are larger, too.
    pub counts: [u64; SPREAD],
    /// Their sum.
    pub sum: u64,
}

/// So many counts a [`Spread`] has: the last bound is 8,388,608, which in microseconds are eight seconds.
pub const SPREAD: usize = 24;

impl Spread {
    /// Counts a number.
    pub fn count(&mut self, number: u64) {
        let place = usize::try_from(number.max(1).next_power_of_two().trailing_zeros()).unwrap_or(SPREAD);
        if let Some(count) = self.counts.get_mut(place.min(SPREAD - 1)) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(number);
    }
}

/// The room of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that may still be written.
    pub free: u64,
    /// Bytes of the whole disk.
    pub total: u64,
}

/// Too little room on the disk: nothing begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lack {
    /// Bytes that are free.
    pub free: u64,
    /// Bytes that have to be.
    pub wanted: u64,
}

/// An ordered map that outlives the process. Nine methods, and a tenth needs a written reason. The ninth, [`tap`](Store::tap),
/// is there because a backup of a store that is written to is a scan of it and what is accepted meanwhile: a scan alone is of
/// many instants, and a copy of the files of a store in use is of none.
///
/// *Order*: batches become durable in the order in which `commit` accepted them, so what survives a crash is always
/// a prefix of the accepted batches, and contains every batch whose ticket was `durable`.
///
/// *What reads see*: every accepted batch, at once and whole, durable or not; so a decision that was just written is
/// seen by whoever reads next, without waiting for the disk. The price is that what was read may be lost in a crash:
/// whoever lets it leave the process waits for `durable(tip())` after reading.
pub trait Store: Send + Sync + 'static {
    /// Accepts `batch` as the next in order and returns at once. It writes nothing to the disk, and reads there only what
    /// the guards of the batch and what it keeps name, which are judged in the same step: between the judgement and the
    /// acceptance nothing else is accepted.
    ///
    /// Dies before it returns: the batch is there whole or not at all. Dies after: the same, until the ticket is
    /// [`durable`](Store::durable), which waits for a disk that is at its end. After an error nothing of the batch is or
    /// will be there.
    /// An empty batch is a barrier: its ticket is that of the last batch.
    fn commit(&self, batch: Batch) -> Result<Ticket, Error>;

    /// Waits until the batch of `ticket`, and every one before it, is on the disk.
    ///
    /// After `Ok` the batch survives the death of the process and, given a disk that keeps what it synchronised, of
    /// the machine. After an error it may or may not be there: find out at the next start. Dropping the future takes
    /// nothing back and loses nothing.
    fn durable(&self, ticket: Ticket) -> Durable;

    /// The ticket of the last batch that `commit` accepted. Changes nothing.
    fn tip(&self) -> Ticket;

    /// The value of `key`, as of the last batch that was accepted when it was called, or one that was accepted since.
    /// Changes nothing.
    ///
    /// It never holds a thread for what comes from another machine: the future is ready when that has come. An embedded
    /// store answers at once, and may block shortly for a read of the disk. Nobody holds a lock while it is awaited, so
    /// between what it says and what is done about it anything may be accepted: whoever needs the value to be there still
    /// puts a guard into the batch.
    fn get(&self, key: &[u8]) -> Read<Option<Bytes>>;

    /// The first `limit` items with `from <= key < to` (an empty `to` means to the end), ascending, as of one point
    /// between two batches. Bounded also by [`SCAN_ITEMS_MAX`] and [`SCAN_BYTES_MAX`]; go on from [`Page::next`].
    /// A value that is not what was written is not among the items but in [`Page::damaged`].
    /// Changes nothing; waits and blocks as [`get`](Store::get) does, and sees what that sees.
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Read<Page>;

    /// Tells from now on of accepted batches that [tell](Batch::tells) the topic, of this process and of others. It may tell
    /// early, twice or, where [`Watch::reach`] says so, not at all; so it says when to look and not what is there.
    fn watch(&self, topic: Topic) -> Watch;

    /// Hears every change that is accepted from now on, whole batches in their order, until it is closed or has more than
    /// `bytes_max` of them: nobody who writes waits for whoever listens. Changes nothing.
    fn tap(&self, bytes_max: usize) -> Tap;

    /// Counters. Changes nothing.
    fn stats(&self) -> Stats;

    /// Accepts nothing more, blocks until everything accepted is durable, and lets go of the files.
    ///
    /// Dies before it returns: as with `commit`. After `Ok` everything accepted is durable and another process may
    /// open the store; reads answer [`Error::Closed`]. Closing twice is no error.
    fn close(&self) -> Result<(), Error>;
}
