//! Who reads a list: one at a time. What was read is left to the next one where it was broken off.

use std::sync::Arc;
use std::time::Duration;

use bellhop_slack::client as slack;
use serde_json::Value;
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

use super::list::Item;
use crate::waiting::Turn;

/// A list that was broken off is gone on with for so long.
const PART_KEPT: Duration = Duration::from_secs(60);

/// A list of which some pages were read.
pub(super) struct Part {
    /// Of the request, without the cursor.
    pub(super) arguments: Value,
    pub(super) cursor: Option<String>,
    pub(super) items: Vec<Item>,
    pub(super) pages: usize,
    pub(super) withheld: Option<Arc<slack::Answer>>,
    pub(super) began: Duration,
    /// When its last page came.
    pub(super) at: Duration,
}

impl Part {
    pub(super) fn of(arguments: Value, now: Duration) -> Self {
        Self { arguments, cursor: None, items: Vec::new(), pages: 0, withheld: None, began: now, at: now }
    }

    pub(super) fn is_fresh(&self, now: Duration) -> bool {
        now.saturating_sub(self.at) < PART_KEPT
    }
}

/// See the module.
pub(super) struct Reading {
    part: Arc<Mutex<Option<Part>>>,
    /// Changes when a reader has gone.
    freed: watch::Sender<()>,
}

impl Default for Reading {
    fn default() -> Self {
        Self { part: Arc::default(), freed: watch::Sender::new(()) }
    }
}

impl Reading {
    /// The one reader, or what is ready when the one that there is has gone. Whoever was woken asks again, because another one
    /// may have been faster. A turn in the queue of the lock would not do: who is given it and lets it go hands it to the next
    /// in the queue and is refused by the lock itself, so that two who wait would hand it to each other for ever.
    pub(super) fn begins(&self) -> Result<Reader, Turn> {
        let mut freed = self.freed.subscribe();
        match self.part.clone().try_lock_owned() {
            Ok(part) => Ok(Reader { part, _frees: Frees(self.freed.clone()) }),
            Err(_taken) => Err(Box::pin(async move {
                // Where nobody can say it any more there is nobody who reads.
                let _gone = freed.changed().await;
            })),
        }
    }
}

/// Reads; the next one may when this is dropped.
pub(super) struct Reader {
    /// The pages that were read, where the list was broken off. Dropped before the others are told.
    pub(super) part: OwnedMutexGuard<Option<Part>>,
    _frees: Frees,
}

struct Frees(watch::Sender<()>);

impl Drop for Frees {
    fn drop(&mut self) {
        self.0.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// As the actions of one run do: all in one task, so that nobody is faster by chance.
    #[tokio::test]
    async fn each_of_several_who_wait_in_one_task_reads_in_the_end() {
        let (reading, turns, done) = (Reading::default(), AtomicU32::new(0), AtomicU32::new(0));
        let reads = || async {
            let reader = loop {
                match reading.begins() {
                    Ok(reader) => break reader,
                    Err(turn) => turn.await,
                }
                assert!(turns.fetch_add(1, Ordering::Relaxed) < 100, "they wait for each other");
            };
            tokio::task::yield_now().await;
            drop(reader);
            done.fetch_add(1, Ordering::Relaxed);
        };
        tokio::join!(reads(), reads(), reads(), reads());
        assert_eq!(done.load(Ordering::Relaxed), 4);
        assert!(reading.begins().is_ok());
    }
}
