//! A store whose process dies at a chosen commit, with a chosen part of what was not durable kept.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::journal::memory::Memory;
use crate::journal::store::{Batch, Bytes, Durable, Error, Page, Stats, Store, Ticket};

/// Synchronises only when somebody waits, so that as much as the program allows is at stake when it dies. Once dead,
/// nothing becomes durable, nothing is accepted, and whoever waits waits for ever.
#[derive(Debug)]
pub(super) struct Dying {
    memory: Memory,
    commits: AtomicU64,
    /// 0: lives on.
    die_at: AtomicU64,
    dead: watch::Sender<bool>,
}

impl Dying {
    /// Over what an earlier process left.
    pub(super) fn over(memory: Memory) -> Self {
        Self { memory, commits: AtomicU64::new(0), die_at: AtomicU64::new(0), dead: watch::channel(false).0 }
    }

    /// Dies with the `commit`-th commit from here, counted from 1: it was accepted, and nothing happens any more.
    pub(super) fn die_at(&self, commit: u64) {
        self.die_at.store(self.commits() + commit, Ordering::SeqCst);
    }

    /// Dies now.
    pub(super) fn die(&self) {
        self.dead.send_replace(true);
    }

    /// Batches accepted so far.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::SeqCst)
    }

    /// Batches that a crash now may or may not keep.
    pub(super) fn at_stake(&self) -> usize {
        self.memory.unsynced()
    }

    /// What is left, `keep` of the batches at stake among it.
    pub(super) fn left(&self, keep: usize) -> Memory {
        self.memory.crash(keep)
    }

    pub(super) fn is_dead(&self) -> bool {
        *self.dead.borrow()
    }

    pub(super) async fn died(&self) {
        let mut dead = self.dead.subscribe();
        // The sender is here: it cannot go.
        let _dead = dead.wait_for(|dead| *dead).await;
    }
}

impl Store for Dying {
    fn commit(&self, batch: Batch) -> Result<Ticket, Error> {
        if self.is_dead() {
            return Err(Error::Fatal { reason: "the process is dead".into() });
        }
        let empty = batch.is_empty();
        let ticket = self.memory.commit(batch)?;
        if !empty && self.commits.fetch_add(1, Ordering::SeqCst) + 1 == self.die_at.load(Ordering::SeqCst) {
            self.die();
        }
        Ok(ticket)
    }

    fn durable(&self, ticket: Ticket) -> Durable {
        if !self.is_dead() {
            self.memory.sync(usize::MAX);
        }
        self.memory.durable(ticket)
    }

    fn tip(&self) -> Ticket {
        self.memory.tip()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.memory.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Page, Error> {
        self.memory.scan(from, to, limit)
    }

    fn stats(&self) -> Stats {
        self.memory.stats()
    }

    fn close(&self) -> Result<(), Error> {
        self.memory.close()
    }
}
