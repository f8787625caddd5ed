//! Typed records over a store.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use bellhop_core::id::{Partition, RunId};
use bellhop_core::time::Timestamp;
use serde::de::DeserializeOwned;

use super::contents::Naming;
use super::damage::Book;
use super::entry::{Content, Entry};
use super::key::{self, Key, Parts, Range, Space};
use super::record;
use super::records::{Records, StoredEntries};
use super::store::{self, Bytes, Durable, Expect, SCAN_ITEMS_MAX, Stats, Store, Ticket, Topic, Watch};
use super::summary::{Open, Snapshot, Summary};
use super::write::{Seen, Write};

pub use super::contents::INLINE_BYTES_MAX;

/// Why a fact was not written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The store; see [`store::Error`].
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A record; see [`record::Error`].
    #[error(transparent)]
    Record(#[from] record::Error),
    /// A fact of no run is not what was written. Refuse what needs it (`storage-damaged`), naming it; go on otherwise.
    #[error("{fact} cannot be read, since what is stored of it is damaged: {reason}")]
    Damaged {
        /// Which, for people.
        fact: String,
        /// What is wrong with it.
        reason: Arc<str>,
    },
}

impl Error {
    /// Whether the process has to end (exit code 70): nothing more will become durable.
    pub fn is_fatal(&self) -> bool {
        matches!(self, Self::Store(store::Error::Fatal { .. }))
    }

    /// Whether what is stored under one key is not what was written: other keys can be read.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. }
                | Self::Record(record::Error::Corrupt { .. })
                | Self::Store(store::Error::Corrupt { .. })
        )
    }

    /// Whether somebody else has written what the write rests on: read again and decide anew.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Store(store::Error::Refused { .. }))
    }

    pub(super) fn corrupt(key: &impl ToString, reason: impl AsRef<str>) -> Self {
        record::Error::Corrupt { key: key.to_string(), reason: reason.as_ref().into() }.into()
    }
}

/// What is damaged is as good as not there, for whoever writes it anew or can do without.
pub fn damaged_is_none<T>(read: Result<Option<T>, Error>) -> Result<Option<T>, Error> {
    match read {
        Err(error) if error.is_damage() => Ok(None),
        read => read,
    }
}

/// What nobody can read, because it is damaged or a newer program's, is as good as not there, for whoever removes it.
pub fn readable<T>(read: Result<Option<T>, Error>) -> Result<Option<T>, Error> {
    match read {
        Err(Error::Record(_) | Error::Damaged { .. }) => Ok(None),
        other => other,
    }
}

/// What one page of a list has, and where it goes on: for a client that is shown a cursor. Whoever wants all has
/// [`Journal::list`].
#[derive(Debug, Clone, PartialEq)]
pub struct Listed<T> {
    /// The items, in the order of their keys.
    pub items: Vec<T>,
    /// Where to go on; `None` at the end.
    pub next: Option<Range>,
}

/// A run in a list: its summary, or why that cannot be read.
pub type ListedRun = (RunId, Result<Summary, record::Error>);

/// The journal. Cloning it is cheap; all clones are one journal.
#[derive(Clone)]
pub struct Journal {
    pub(super) store: Arc<dyn Store>,
    pub(super) naming: Arc<Naming>,
    /// Runs that a person gave an order while the disk lacked room: they do not wait for it.
    pub(super) ordered: Arc<Mutex<HashSet<RunId>>>,
    pub(super) damages: Arc<Book>,
    /// See [`Journal::checked`].
    is_checked: bool,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("stats", &self.store.stats()).finish_non_exhaustive()
    }
}

impl Journal {
    /// A journal over `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, naming: Arc::default(), ordered: Arc::default(), damages: Arc::default(), is_checked: false }
    }

    /// A journal for tests, in every build: it reads each entry back before it writes it, and panics where that gives
    /// another one.
    pub fn checked(store: Arc<dyn Store>) -> Self {
        Self { is_checked: true, ..Self::new(store) }
    }

    /// Accepts the write as the next in order; see [`Store::commit`].
    pub fn commit(&self, write: Write) -> Result<Ticket, Error> {
        let damaged = self.damages.among(write.batch.changes.iter().map(|(key, _)| key));
        let ticket = self.commit_with_contents(write)?;
        self.damages.mended(&damaged);
        Ok(ticket)
    }

    /// Removes what was found damaged in these spaces, for whoever makes it again from elsewhere.
    pub fn remove_damaged(&self, write: &mut Write, spaces: &[Space]) {
        self.damages.of(spaces).into_iter().for_each(|key| write.batch.delete(key));
    }

    /// As [`Self::commit`], as soon as the queue has room for it.
    pub async fn commit_or_wait(&self, write: Write) -> Result<Ticket, Error> {
        loop {
            let tip = self.tip();
            match self.commit(write.clone()) {
                Err(Error::Store(store::Error::Full { .. })) => self.durable(tip).await?,
                done => return done,
            }
        }
    }

    /// Waits until everything up to `ticket` is on the disk; see [`Store::durable`].
    pub fn durable(&self, ticket: Ticket) -> Durable {
        self.store.durable(ticket)
    }

    /// The last accepted write: what was read before this call depends on nothing later.
    pub fn tip(&self) -> Ticket {
        self.store.tip()
    }

    /// Tells of writes that tell the topic, from now on; see [`Store::watch`].
    pub fn watch(&self, topic: Topic) -> Watch {
        self.store.watch(topic)
    }

    /// Counters; see [`Store::stats`].
    pub fn stats(&self) -> Stats {
        self.store.stats()
    }

    /// Blocks until everything accepted is durable, and lets go of the store; see [`Store::close`].
    pub fn close(&self) -> Result<(), Error> {
        Ok(self.store.close()?)
    }

    /// Adds `entries` to the run's log from number `*seq` on, together with what is in `write`, and moves `*seq` on.
    ///
    /// After an error nothing was written and `*seq` is as it was. One task appends to a run at a time: it owns `*seq`.
    /// A run's first entries are refused while the disk lacks room, and where a run with that id is there already.
    pub fn append(&self, run: RunId, seq: &mut u64, entries: &[Entry], mut write: Write) -> Result<Ticket, Error> {
        if *seq == 0 {
            self.room()?;
            write.expect_absent(&key::event(run, 0));
        }
        self.note_orders(run, entries);
        let mut next = *seq;
        for entry in entries {
            let key = key::event(run, next);
            let record = record::encode(&key, entry)?;
            if self.is_checked {
                assert_eq!(record::decode(Space::Event, key.bytes(), &record).as_ref(), Ok(entry));
            }
            write.batch.put(key.bytes(), record);
            next += 1;
        }
        let ticket = self.commit(write.of(run))?;
        *seq = next;
        Ok(ticket)
    }

    /// At most `limit` entries of a run from number `from` on, in order. Fewer than that many, and more than none, does
    /// not mean that the log ends: ask again from behind the last.
    /// A gap is an error: a log that lost an entry must not be folded.
    pub async fn entries(&self, run: RunId, from: u64, limit: usize) -> Result<Vec<(u64, Entry)>, Error> {
        self.stored_entries(run, from, limit).await?.decode()
    }

    /// As [`Self::entries`], before they are decoded: for whoever does that on another thread.
    pub async fn stored_entries(&self, run: RunId, from: u64, limit: usize) -> Result<StoredEntries, Error> {
        let range = key::events(run, from);
        let page = self.store.scan(&range.from, &range.to, limit).await?.whole()?;
        Ok(StoredEntries::of(run, from, page))
    }

    /// The events of the decision that is the run's entry `seq`; none where that is no decision.
    pub async fn decision<T: DeserializeOwned>(&self, run: RunId, seq: u64) -> Result<Option<Vec<T>>, Error> {
        match self.entries(run, seq, 1).await?.pop() {
            Some((_, Entry::Decision { events })) => self.events(&events).await.map(Some),
            _ => Ok(None),
        }
    }

    /// The events of a decision.
    pub async fn events<T: DeserializeOwned>(&self, events: &[Content]) -> Result<Vec<T>, Error> {
        let values = self.values(events.iter().filter_map(Content::digest)).await;
        events.iter().map(|content| values.read(content)).collect()
    }

    /// The run's latest snapshot.
    pub async fn snapshot(&self, run: RunId) -> Result<Option<Snapshot>, Error> {
        self.get(&key::snapshot(run)).await
    }

    /// At most `limit` runs that have not ended, by id, behind `after`. A mark that is damaged says that its run is not
    /// to be read ([`Open::deadly`]).
    pub async fn open_runs(&self, limit: usize, after: Option<RunId>) -> Result<Vec<(RunId, Open)>, Error> {
        let mut range = key::all(Space::Open);
        if let Some(after) = after {
            range = range.after(&key::open(after));
        }
        self.collect(&range, limit, |key, value| {
            let run = Parts::of(Space::Open, key)
                .and_then(|mut parts| parts.partition().and_then(|_| parts.run()))
                .ok_or_else(|| bad_key(key))?;
            let open = record::decode(Space::Open, key, value).map_err(Error::from);
            match open {
                Err(error) if error.is_damage() => Ok((run, Open { deadly: true, ..Open::default() })),
                open => Ok((run, open?)),
            }
        })
        .await
    }

    /// The first partition behind `last`, or of all, that has a key in a space whose keys begin with the partition.
    async fn partition_behind(&self, space: Space, last: Option<Partition>) -> Result<Option<Partition>, Error> {
        let range = last.map_or_else(|| key::all(space), |last| key::behind_partition(space, last));
        let page = self.store.scan(&range.from, &range.to, 1).await?;
        let Some(first) = page.keys().into_iter().next() else { return Ok(None) };
        let partition = Parts::of(space, &first).and_then(|mut parts| parts.partition());
        partition.map(Some).ok_or_else(|| bad_key(&first))
    }

    /// The earliest timers behind the one of a time and a run, over all partitions, by time and run; without one, of all. At
    /// most `limit`. A timer's key says everything: its record is not looked at.
    pub async fn timers_behind(
        &self,
        last: Option<(Timestamp, RunId)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, RunId)>, Error> {
        let mut earliest: Vec<(Timestamp, RunId)> = Vec::new();
        let mut partition = None;
        while let Some(next) = self.partition_behind(Space::Timer, partition).await? {
            partition = Some(next);
            // Those that are later than the last that there is room for need not be read.
            let until = if earliest.len() < limit { None } else { earliest.last() };
            let until = until.map_or(Timestamp::from_millis(u64::MAX), |(at, _)| *at);
            let range = key::timers(next, last, until);
            let found = self.collect(&range, limit, |key, _| {
                let mut parts = Parts::of(Space::Timer, key).ok_or_else(|| bad_key(key))?;
                let timer = (|| Some((parts.partition()?, parts.number()?, parts.run()?)))();
                let (_, at, run) = timer.ok_or_else(|| bad_key(key))?;
                Ok((Timestamp::from_millis(at), run))
            });
            earliest.extend(found.await?);
            earliest.sort_unstable();
            earliest.truncate(limit);
        }
        Ok(earliest)
    }

    /// One page of the runs that began at or before `from` (of all without it), newest first. A summary that cannot be
    /// read is an item like any other.
    pub async fn runs(&self, range: Option<Range>, limit: usize) -> Result<Listed<ListedRun>, Error> {
        let range = range.unwrap_or_else(|| key::all(Space::Listing));
        let page = self.store.scan(&range.from, &range.to, limit).await?;
        let mut items = Vec::with_capacity(page.items.len());
        for key in &page.keys() {
            let run = Parts::of(Space::Listing, key)
                .and_then(|mut parts| parts.number().and_then(|_| parts.run()))
                .ok_or_else(|| bad_key(key))?;
            match self.get(&key::summary(run)).await {
                Ok(Some(summary)) => items.push((run, Ok(summary))),
                Ok(None) => {}
                Err(Error::Record(damage)) => items.push((run, Err(damage))),
                Err(error) => return Err(error),
            }
        }
        let next = page.next.map(|next| Range { from: next.to_vec(), to: range.to });
        Ok(Listed { items, next })
    }

    /// At most `limit` keys that may be deleted, with their expiry, at or before `until`; one partition after the other.
    pub async fn expired(&self, until: Timestamp, limit: usize) -> Result<Vec<(Timestamp, Key)>, Error> {
        let mut found = Vec::new();
        let mut partition = None;
        while let Some(next) = self.partition_behind(Space::Expiry, partition).await? {
            partition = Some(next);
            let range = key::expiries(next, until);
            let more = self.collect(&range, limit - found.len(), |key, _| {
                let mut parts = Parts::of(Space::Expiry, key).ok_or_else(|| bad_key(key))?;
                let at = parts.partition().and_then(|_| parts.number()).ok_or_else(|| bad_key(key))?;
                Ok((Timestamp::from_millis(at), parts.key().ok_or_else(|| bad_key(key))?))
            });
            found.extend(more.await?);
            if found.len() >= limit {
                break;
            }
        }
        Ok(found)
    }

    /// The record of `key`.
    pub async fn get<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>, Error> {
        self.decoded(key, self.store.get(key.bytes()).await)
    }

    /// The record of `key`, and what was seen there, for whoever writes only if nothing has changed.
    pub async fn see<T: DeserializeOwned>(&self, key: &Key) -> (Result<Option<T>, Error>, Seen) {
        let stored = self.store.get(key.bytes()).await;
        let expect = stored.as_ref().ok().map(|value| Expect::of(value.as_deref()));
        (self.decoded(key, stored), Seen { key: key.bytes().into(), expect })
    }

    fn decoded<T: DeserializeOwned>(
        &self,
        key: &Key,
        stored: Result<Option<Bytes>, store::Error>,
    ) -> Result<Option<T>, Error> {
        let read = stored.map_err(Error::from).and_then(|value| {
            value.map(|value| record::decode(key.space(), key.bytes(), &value)).transpose().map_err(Error::from)
        });
        read.map_err(|error| self.damages.read(key.space(), key.bytes(), error))
    }

    /// The records in `range`, whose keys are all of `space`, with their keys, in the order of these.
    ///
    /// They are read page by page as they are asked for: a list may be long, and no caller can take its first page for all
    /// of it. What is written meanwhile behind the place where the list is read may be in it or not.
    pub fn list<T: DeserializeOwned>(&self, space: Space, range: &Range) -> Records<T> {
        Records::of(self.clone(), space, range.clone())
    }

    /// Up to `limit` items over as many scans as that takes.
    async fn collect<T>(
        &self,
        range: &Range,
        limit: usize,
        read: impl Fn(&[u8], &[u8]) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let mut items = Vec::new();
        let mut from: Bytes = range.from.as_slice().into();
        while items.len() < limit {
            let page = self.store.scan(&from, &range.to, (limit - items.len()).min(SCAN_ITEMS_MAX)).await?;
            // A damaged value is read as none at all, which no record is.
            let mut found = page.items;
            found.extend(page.damaged.into_iter().map(|(key, _)| (key, Bytes::from([].as_slice()))));
            found.sort();
            for (key, value) in &found {
                items.push(read(key, value)?);
            }
            match page.next {
                Some(next) => from = next,
                None => break,
            }
        }
        Ok(items)
    }
}

pub(super) fn bad_key(key: &[u8]) -> Error {
    Error::corrupt(&key::display(key), "not a key of its space")
}
