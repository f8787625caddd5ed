//! Keys that an action holds while it runs, across runs and parking (semantics 1, "Exclusive").
//!
//! Held in memory, and made again at start from the actions that are open: the store already says which those are.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellhop_core::id::RunId;
use bellhop_core::run::ExecutionKey;
use tokio::sync::oneshot;

/// Who holds a key: an attempt at an action. It may take a key that it holds. The next attempt waits for one that is being
/// stopped as anybody does, and takes over from one that is parked and not gone on with.
#[derive(Debug, Clone, PartialEq, Eq)]
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

#[derive(Default)]
struct Held {
    /// One; after a start perhaps several, of which all but one have ended and the record of that was lost: those only
    /// replay what is on record, and let go.
    owners: Vec<Owner>,
    /// Those of them that are parked.
    parked: Vec<Owner>,
    queue: VecDeque<(Owner, oneshot::Sender<()>)>,
}

/// Somebody in the queue of a key.
struct Turn<'k> {
    keys: &'k Keys,
    key: &'k str,
    owner: &'k Owner,
    told: oneshot::Receiver<()>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.told.close();
        // Its turn came, and it was stopped before it heard of it.
        if self.told.try_recv().is_ok() {
            self.keys.release(self.key, self.owner);
        }
    }
}

/// All keys. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Keys {
    held: Arc<Mutex<BTreeMap<String, Held>>>,
}

impl Keys {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives `key` to `owner` without asking: it had begun, and so held it, when the process ended.
    pub(crate) fn restore(&self, key: &str, owner: Owner) {
        let mut all = self.lock();
        let owners = &mut all.entry(key.to_owned()).or_default().owners;
        if !owners.contains(&owner) {
            owners.push(owner);
        }
    }

    /// A run has ended, whatever its actions held.
    pub(crate) fn release_all(&self, run: RunId) {
        let held: Vec<(String, Owner)> = {
            let all = self.lock();
            let of_run = |held: &Held| held.owners.iter().filter(|o| o.run == run).cloned().collect::<Vec<_>>();
            all.iter().flat_map(|(key, held)| of_run(held).into_iter().map(|owner| (key.clone(), owner))).collect()
        };
        for (key, owner) in held {
            self.release(&key, &owner);
        }
    }

    /// Waits in turn until `owner` holds `key`. Dropping the future gives up the turn, or the key if it was given and not
    /// taken yet.
    pub(crate) async fn acquire(&self, key: &str, owner: &Owner) {
        loop {
            let mut turn = {
                let mut all = self.lock();
                let held = all.entry(key.to_owned()).or_default();
                let over: Vec<Owner> = held.parked.iter().filter(|parked| owner.is_after(parked)).cloned().collect();
                held.owners.retain(|o| !over.contains(o));
                held.parked.retain(|o| o != owner && !over.contains(o));
                if held.owners.contains(owner) {
                    return;
                }
                if held.owners.is_empty() {
                    held.owners.push(owner.clone());
                    return;
                }
                let (tell, told) = oneshot::channel();
                held.queue.push_back((owner.clone(), tell));
                Turn { keys: self, key, owner, told }
            };
            if (&mut turn.told).await.is_ok() {
                return;
            }
        }
    }

    /// `owner` keeps `key`, and does nothing until a person says so.
    pub(crate) fn park(&self, key: &str, owner: &Owner) {
        if let Some(held) = self.lock().get_mut(key)
            && held.owners.contains(owner)
            && !held.parked.contains(owner)
        {
            held.parked.push(owner.clone());
        }
    }

    /// How many wait for a key.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.lock().values().map(|held| held.queue.len()).sum()
    }

    /// The run for which `owner` would have to wait.
    pub(crate) fn held_by_another(&self, key: &str, owner: &Owner) -> Option<RunId> {
        let all = self.lock();
        let owners = &all.get(key)?.owners;
        if owners.contains(owner) { None } else { owners.first().map(|other| other.run) }
    }

    /// `owner` lets go of `key`; the next who waits has it.
    pub(crate) fn release(&self, key: &str, owner: &Owner) {
        let mut all = self.lock();
        let Some(held) = all.get_mut(key) else { return };
        let before = held.owners.len();
        held.owners.retain(|o| o != owner);
        held.parked.retain(|o| o != owner);
        if before == held.owners.len() || !held.owners.is_empty() {
            return;
        }
        while let Some((next, tell)) = held.queue.pop_front() {
            // Whoever gave up its turn no longer listens.
            if tell.send(()).is_ok() {
                held.owners.push(next);
                return;
            }
        }
        all.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use bellhop_core::time::Timestamp;

    fn owner(n: u128) -> Owner {
        Owner {
            run: RunId::new(Timestamp::from_millis(1), n),
            execution: ExecutionKey { pointer: "/do/0/x".to_owned(), path: vec![0] },
            attempt: 1,
        }
    }

    #[tokio::test]
    async fn the_next_attempt_waits_for_one_that_is_stopped_and_follows_one_that_is_parked() {
        let keys = Keys::default();
        let next = Owner { attempt: 2, ..owner(1) };
        keys.acquire("k", &owner(1)).await;
        let waiting = {
            let (keys, next) = (keys.clone(), next.clone());
            tokio::spawn(async move { keys.acquire("k", &next).await })
        };
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "what the first has sent is on its way still");
        keys.release("k", &owner(1));
        waiting.await.unwrap();
        keys.park("k", &next);
        keys.acquire("k", &Owner { attempt: 3, ..owner(1) }).await;
        keys.release("k", &next);
        assert_eq!(keys.lock()["k"].owners, [Owner { attempt: 3, ..owner(1) }]);
    }

    #[tokio::test]
    async fn who_is_stopped_as_its_turn_comes_lets_the_next_have_it() {
        let keys = Keys::default();
        keys.acquire("k", &owner(1)).await;
        let (second, third) = (owner(2), owner(3));
        let mut context = Context::from_waker(Waker::noop());
        let mut stopped = Box::pin(keys.acquire("k", &second));
        assert!(stopped.as_mut().poll(&mut context).is_pending());
        let mut next = Box::pin(keys.acquire("k", &third));
        assert!(next.as_mut().poll(&mut context).is_pending());
        keys.release("k", &owner(1));
        drop(stopped);
        assert!(next.as_mut().poll(&mut context).is_ready());
    }

    #[tokio::test]
    async fn one_at_a_time_and_in_turn() {
        let keys = Keys::default();
        keys.acquire("k", &owner(1)).await;
        keys.acquire("k", &owner(1)).await;
        let second = {
            let keys = keys.clone();
            tokio::spawn(async move { keys.acquire("k", &owner(2)).await })
        };
        let gives_up = {
            let keys = keys.clone();
            tokio::spawn(async move { keys.acquire("k", &owner(3)).await })
        };
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        gives_up.abort();
        tokio::task::yield_now().await;
        keys.release("k", &owner(2));
        tokio::task::yield_now().await;
        assert!(!second.is_finished(), "only the owner lets go");
        keys.release("k", &owner(1));
        second.await.unwrap();
        keys.release("k", &owner(2));
        assert!(keys.lock().is_empty(), "nothing is left behind");
    }
}
