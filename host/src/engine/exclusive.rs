//! Keys that an action holds while it runs, across runs and parking (semantics 1, "Exclusive").
//!
//! Held in memory, and made again at start from the actions that are open: the store already says which those are.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellhop_core::id::RunId;
use bellhop_core::run::ExecutionKey;
use tokio::sync::oneshot;

/// Who holds a key: an action's execution. It may take a key that it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The run.
    pub(crate) run: RunId,
    /// The execution.
    pub(crate) execution: ExecutionKey,
}

#[derive(Default)]
struct Held {
    /// One; after a start perhaps several, of which all but one have ended and the record of that was lost: those only
    /// replay what is on record, and let go.
    owners: Vec<Owner>,
    queue: VecDeque<(Owner, oneshot::Sender<()>)>,
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

    /// Waits in turn until `owner` holds `key`. Dropping the future gives up the turn.
    pub(crate) async fn acquire(&self, key: &str, owner: &Owner) {
        loop {
            let turn = {
                let mut all = self.lock();
                let held = all.entry(key.to_owned()).or_default();
                if held.owners.contains(owner) {
                    return;
                }
                if held.owners.is_empty() {
                    held.owners.push(owner.clone());
                    return;
                }
                let (tell, told) = oneshot::channel();
                held.queue.push_back((owner.clone(), tell));
                told
            };
            if turn.await.is_ok() {
                return;
            }
        }
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
    use super::*;
    use bellhop_core::time::Timestamp;

    fn owner(n: u128) -> Owner {
        Owner {
            run: RunId::new(Timestamp::from_millis(1), n),
            execution: ExecutionKey { pointer: "/do/0/x".to_owned(), path: vec![0] },
        }
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
