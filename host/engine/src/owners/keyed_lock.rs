//! Keys that an action holds while it runs, across runs and parking (semantics 1, "Exclusive").
//!
//! An owner keeps a row for each key that is held. It is there before the holder sends anything, and it goes in the batch of
//! the decision about the holder's end; so a start reads the rows, and no run.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellhop_core::digest::Digest;
use bellhop_core::id::{Partition, RunId};
use bellhop_core::run::ExecutionKey;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use bellhop_journal::key::{self, Parts, Space};
use bellhop_journal::{self as journal, Journal, Write};

/// What excludes others: equal for all that exclude each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyId {
    partition: Partition,
    name: Digest,
}

impl KeyId {
    /// The key of this name; `owner` is the organisation, or whatever else the thing belongs to.
    pub(crate) fn of(owner: &str, name: &str) -> Self {
        Self { partition: Partition::of(owner.as_bytes()), name: Digest::of(name.as_bytes()) }
    }

    fn row(self) -> key::Key {
        key::lock(self.partition, self.name)
    }
}

/// Who holds a key: an attempt at an action. It may take a key that it holds. The next attempt waits for one that is being
/// stopped as anybody does, and takes over from one that is parked and not gone on with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    /// The run.
    pub run: RunId,
    /// The execution.
    pub execution: ExecutionKey,
    /// Counts from 1.
    pub attempt: u32,
}

impl Owner {
    fn is_after(&self, other: &Self) -> bool {
        self.run == other.run && self.execution == other.execution && self.attempt > other.attempt
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, execution, attempt } = self;
        write!(f, "attempt {attempt} of `{execution}` in {run}")
    }
}

/// Who holds a key, and whether that one does nothing until a person says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// Who.
    pub owner: Owner,
    /// Whether it is parked.
    pub parked: bool,
}

/// The row of a key that is held.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    run: RunId,
    execution: String,
    attempt: u32,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    parked: bool,
}

/// What becomes of a key with the decision about its holder's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    key: KeyId,
    owner: Owner,
    to: To,
}

/// See [`Change`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    /// It is the next one's.
    Next,
    /// It stays its holder's, who does nothing until a person says so.
    Parked,
}

impl Change {
    /// Puts it into the batch of that decision.
    pub(crate) fn write(&self, write: &mut Write) -> Result<(), journal::Error> {
        match self.to {
            To::Next => {
                remove(write, self.key);
                Ok(())
            }
            To::Parked => put(write, self.key, &Holder { owner: self.owner.clone(), parked: true }),
        }
    }
}

/// Puts the row of a key.
pub(crate) fn put(write: &mut Write, key: KeyId, holder: &Holder) -> Result<(), journal::Error> {
    let Holder { owner: Owner { run, execution, attempt }, parked } = holder;
    let row = Row { run: *run, execution: execution.to_string(), attempt: *attempt, parked: *parked };
    write.put(&key.row(), &row)
}

/// Removes the row of a key.
pub(crate) fn remove(write: &mut Write, key: KeyId) {
    write.delete(&key.row());
}

/// The rows of all keys that are held.
pub(crate) async fn rows(journal: &Journal) -> Result<BTreeMap<KeyId, Holder>, journal::Error> {
    let mut rows = BTreeMap::new();
    let mut all = journal.list::<Row>(Space::Lock, &key::all(Space::Lock));
    while let Some(record) = all.next().await {
        let (key, Row { run, execution, attempt, parked }) = record?;
        let id = Parts::of(Space::Lock, &key)
            .and_then(|mut parts| Some(KeyId { partition: parts.partition()?, name: parts.digest()? }));
        if let (Some(id), Ok(execution)) = (id, execution.parse()) {
            rows.insert(id, Holder { owner: Owner { run, execution, attempt }, parked });
        }
    }
    Ok(rows)
}

#[derive(Default)]
struct Held {
    holder: Option<Holder>,
    queue: VecDeque<(Owner, oneshot::Sender<()>)>,
}

/// All keys that are held.
#[derive(Default)]
struct Table {
    held: BTreeMap<KeyId, Held>,
    /// The keys of each run.
    by_run: BTreeMap<RunId, BTreeSet<KeyId>>,
}

/// What a key says to who asks for it.
enum Asked {
    /// It is the one who asks who holds it.
    Has,
    /// It is given, perhaps taken over from an attempt that is parked.
    Given(Option<Owner>),
    /// It is another's.
    Waits(oneshot::Receiver<()>),
}

impl Table {
    fn give(&mut self, key: KeyId, holder: Holder) {
        self.by_run.entry(holder.owner.run).or_default().insert(key);
        self.held.entry(key).or_default().holder = Some(holder);
    }

    fn take(&mut self, key: KeyId, run: RunId) {
        if let Some(keys) = self.by_run.get_mut(&run) {
            keys.remove(&key);
            if keys.is_empty() {
                self.by_run.remove(&run);
            }
        }
        if let Some(held) = self.held.get_mut(&key) {
            held.holder = None;
        }
    }

    fn ask(&mut self, key: KeyId, owner: &Owner) -> Asked {
        let held = self.held.entry(key).or_default();
        let before = match &held.holder {
            Some(Holder { owner: other, parked: false }) if other == owner => return Asked::Has,
            // It is gone on with, or tried anew.
            Some(Holder { owner: other, parked: true }) if other == owner || owner.is_after(other) => {
                Some(other.clone())
            }
            Some(_) => {
                let (tell, told) = oneshot::channel();
                held.queue.push_back((owner.clone(), tell));
                return Asked::Waits(told);
            }
            None => None,
        };
        self.give(key, Holder { owner: owner.clone(), parked: false });
        Asked::Given(before)
    }

    fn park(&mut self, key: KeyId, owner: &Owner) {
        if let Some(Held { holder: Some(holder), .. }) = self.held.get_mut(&key)
            && holder.owner == *owner
        {
            holder.parked = true;
        }
    }

    /// `owner` lets go of `key`; the next who waits has it.
    fn release(&mut self, key: KeyId, owner: &Owner) {
        let is_its_own = |held: &Held| held.holder.as_ref().is_some_and(|holder| holder.owner == *owner);
        if !self.held.get(&key).is_some_and(is_its_own) {
            return;
        }
        self.take(key, owner.run);
        while let Some((next, tell)) = self.held.get_mut(&key).and_then(|held| held.queue.pop_front()) {
            // Whoever gave up its turn no longer listens.
            if tell.send(()).is_ok() {
                return self.give(key, Holder { owner: next, parked: false });
            }
        }
        self.held.remove(&key);
    }
}

/// All keys. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Keys {
    journal: Journal,
    table: Arc<Mutex<Table>>,
}

/// Somebody who asked for a key and does not hold it on record yet.
struct Turn<'k> {
    keys: &'k Keys,
    key: KeyId,
    owner: &'k Owner,
    /// Where the key is another's: told when it is given.
    told: Option<oneshot::Receiver<()>>,
    /// The parked attempt from which it is taken over.
    before: Option<Owner>,
    is_on_record: bool,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.is_on_record {
            return;
        }
        if let Some(told) = &mut self.told {
            told.close();
            if told.try_recv().is_err() {
                // Its turn has not come.
                return;
            }
        }
        // It was stopped before it had the key on record.
        let mut table = self.keys.lock();
        match self.before.take() {
            Some(before) => table.give(self.key, Holder { owner: before, parked: true }),
            None => table.release(self.key, self.owner),
        }
    }
}

impl Keys {
    /// As the rows have them.
    pub(crate) async fn read(journal: Journal) -> Result<Self, journal::Error> {
        let keys = Self { journal, table: Arc::default() };
        keys.read_again().await?;
        Ok(keys)
    }

    /// The same, of one that nobody has asked for anything.
    pub(crate) async fn read_again(&self) -> Result<(), journal::Error> {
        let mut table = Table::default();
        rows(&self.journal).await?.into_iter().for_each(|(key, holder)| table.give(key, holder));
        *self.lock() = table;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits in turn until `owner` holds `key`, and has that on record: what it sends from then on is written later.
    /// Dropping the future gives up the turn, or the key if it was given and is not on record yet.
    pub(crate) async fn acquire(&self, key: KeyId, owner: &Owner) {
        let mut turn = Turn { keys: self, key, owner, told: None, before: None, is_on_record: true };
        loop {
            let asked = self.lock().ask(key, owner);
            match asked {
                Asked::Has => return,
                Asked::Given(before) => {
                    (turn.before, turn.is_on_record) = (before, false);
                    break;
                }
                Asked::Waits(told) => (turn.told, turn.is_on_record) = (Some(told), false),
            }
            let Some(told) = &mut turn.told else { break };
            let is_given = told.await.is_ok();
            turn.told = None;
            if is_given {
                break;
            }
            turn.is_on_record = true;
        }
        let mut write = Write::new();
        let holder = Holder { owner: owner.clone(), parked: false };
        let written = match put(&mut write, key, &holder) {
            Ok(()) => self.journal.commit_or_wait(write).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(_) => turn.is_on_record = true,
            Err(error) => {
                // The store takes nothing any more, and the process ends.
                tracing::error!(%owner, %error, "that a key is held cannot be recorded");
                std::future::pending::<()>().await;
            }
        }
    }

    /// What becomes of the keys of `owner` with the decision about its end: they are parked with it, or the next one's.
    pub(crate) fn changes(&self, owner: &Owner, to: To) -> Vec<Change> {
        // What an earlier attempt was parked with, and this one had no use for, goes with it.
        let of_it = |held: &Change| held.owner == *owner || (to == To::Next && owner.is_after(&held.owner));
        self.held_by(owner.run).into_iter().filter(of_it).map(|change| Change { to, ..change }).collect()
    }

    /// What becomes of the keys of a run that ends, whatever its actions held: they are the next one's.
    pub(crate) fn held_by(&self, run: RunId) -> Vec<Change> {
        let table = self.lock();
        let keys = table.by_run.get(&run).into_iter().flatten();
        let held = keys.filter_map(|key| Some((*key, table.held.get(key)?.holder.as_ref()?)));
        held.map(|(key, holder)| Change { key, owner: holder.owner.clone(), to: To::Next }).collect()
    }

    /// The write in which these changes stand was accepted.
    pub(crate) fn changed(&self, changes: &[Change]) {
        let mut table = self.lock();
        for Change { key, owner, to } in changes {
            match to {
                To::Next => table.release(*key, owner),
                To::Parked => table.park(*key, owner),
            }
        }
    }

    /// The run for which `owner` would have to wait.
    pub(crate) fn held_by_another(&self, key: KeyId, owner: &Owner) -> Option<RunId> {
        let table = self.lock();
        let holder = table.held.get(&key)?.holder.as_ref()?;
        (holder.owner != *owner).then_some(holder.owner.run)
    }

    /// How many wait for a key.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.lock().held.values().map(|held| held.queue.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use bellhop_core::time::Timestamp;
    use bellhop_journal::memory::Memory;

    use super::*;
    use crate::tests::at_once;

    fn owner(n: u128) -> Owner {
        Owner {
            run: RunId::new(Timestamp::from_millis(1), n),
            execution: ExecutionKey { pointer: "/do/0/x".to_owned(), path: vec![0] },
            attempt: 1,
        }
    }

    fn keys() -> (Keys, Journal, KeyId) {
        let journal = Journal::checked(Arc::new(Memory::new()));
        (at_once(Keys::read(journal.clone())).unwrap(), journal, KeyId::of("E1", "k"))
    }

    impl Keys {
        /// As with a decision about the end of `owner`.
        fn ends(&self, owner: &Owner, to: To) {
            let changes = self.changes(owner, to);
            let mut write = Write::new();
            changes.iter().for_each(|change| change.write(&mut write).unwrap());
            self.journal.commit(write).unwrap();
            self.changed(&changes);
        }

        fn holder(&self, key: KeyId) -> Option<Holder> {
            let held = self.lock().held.get(&key)?.holder.clone();
            assert_eq!(at_once(rows(&self.journal)).unwrap().get(&key).cloned(), held, "the row is as the table");
            held
        }
    }

    #[tokio::test]
    async fn the_next_attempt_waits_for_one_that_is_stopped_and_follows_one_that_is_parked() {
        let (keys, journal, k) = keys();
        let next = Owner { attempt: 2, ..owner(1) };
        keys.acquire(k, &owner(1)).await;
        let waiting = {
            let (keys, next) = (keys.clone(), next.clone());
            tokio::spawn(async move { keys.acquire(k, &next).await })
        };
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "what the first has sent is on its way still");
        keys.ends(&owner(1), To::Next);
        waiting.await.unwrap();
        keys.ends(&next, To::Parked);
        assert_eq!(keys.holder(k), Some(Holder { owner: next.clone(), parked: true }));
        // A start finds it as it was.
        let keys = Keys::read(journal).await.unwrap();
        assert_eq!(keys.holder(k), Some(Holder { owner: next.clone(), parked: true }));
        keys.acquire(k, &Owner { attempt: 3, ..owner(1) }).await;
        keys.ends(&next, To::Next);
        assert_eq!(keys.holder(k), Some(Holder { owner: Owner { attempt: 3, ..owner(1) }, parked: false }));
    }

    #[tokio::test]
    async fn who_is_stopped_as_its_turn_comes_lets_the_next_have_it() {
        let (keys, _, k) = keys();
        keys.acquire(k, &owner(1)).await;
        let (second, third) = (owner(2), owner(3));
        let mut context = Context::from_waker(Waker::noop());
        let mut stopped = Box::pin(keys.acquire(k, &second));
        assert!(stopped.as_mut().poll(&mut context).is_pending());
        let mut next = Box::pin(keys.acquire(k, &third));
        assert!(next.as_mut().poll(&mut context).is_pending());
        keys.ends(&owner(1), To::Next);
        drop(stopped);
        assert!(next.as_mut().poll(&mut context).is_ready());
        drop(next);
        assert_eq!(keys.holder(k).unwrap().owner, third);
    }

    #[tokio::test]
    async fn one_at_a_time_and_in_turn() {
        let (keys, journal, k) = keys();
        keys.acquire(k, &owner(1)).await;
        keys.acquire(k, &owner(1)).await;
        let second = {
            let keys = keys.clone();
            tokio::spawn(async move { keys.acquire(k, &owner(2)).await })
        };
        let gives_up = {
            let keys = keys.clone();
            tokio::spawn(async move { keys.acquire(k, &owner(3)).await })
        };
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        gives_up.abort();
        tokio::task::yield_now().await;
        keys.ends(&owner(2), To::Next);
        tokio::task::yield_now().await;
        assert!(!second.is_finished(), "only the owner lets go");
        keys.ends(&owner(1), To::Next);
        second.await.unwrap();
        keys.ends(&owner(2), To::Next);
        assert!(keys.lock().held.is_empty() && keys.lock().by_run.is_empty(), "nothing is left behind");
        assert!(rows(&journal).await.unwrap().is_empty());
    }
}
