//! What is written together.

use std::collections::BTreeMap;

use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;
use serde::Serialize;

use super::journal::Error;
use super::key::{self, Key};
use super::record;
use super::store::{Batch, Bytes, Expect, Topic};

/// The record of a key that says everything.
pub(super) const NOTHING: &[u8] = b"null";

/// What was stored under a key when it was read, for whoever writes only if it still is. See [`Write::rests_on`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub(super) key: Bytes,
    /// None where it could not be read: what is damaged is written anew, whatever is there.
    pub(super) expect: Option<Expect>,
}

/// One batch being put together: everything in it happens or nothing does.
#[derive(Debug, Clone, Default)]
pub struct Write {
    pub(super) batch: Batch,
    /// Whose it is.
    pub(super) run: Option<RunId>,
    /// Large values that it names. Their bytes are written unless they are there already.
    pub(super) contents: BTreeMap<Digest, Vec<u8>>,
    /// What it stores for good.
    pub(super) named: Vec<Digest>,
}

impl Write {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the record of `key` to `value` as JSON. The type must be the one that the table in [`key`] names.
    pub fn put<T: Serialize>(&mut self, key: &Key, value: &T) -> Result<(), Error> {
        let record = record::encode(key, value)?;
        self.batch.put(key.bytes(), record);
        Ok(())
    }

    /// Sets the record of `key` to `bytes` as they are.
    pub fn put_raw(&mut self, key: &Key, bytes: &[u8]) {
        self.batch.put(key.bytes(), record::seal(key, bytes));
    }

    /// Removes the record of `key`, whether or not it is there.
    pub fn delete(&mut self, key: &Key) {
        self.batch.delete(key.bytes());
    }

    /// Lets the write happen only if what was seen is there still; else it is [refused](Error::is_refused).
    pub fn rests_on(&mut self, seen: Seen) {
        if let Some(expect) = seen.expect {
            self.batch.guard(seen.key, expect);
        }
    }

    /// Lets the write happen only if nothing is stored under `key`; else it is [refused](Error::is_refused).
    pub fn expect_absent(&mut self, key: &Key) {
        self.batch.guard(key.bytes(), Expect::Absent);
    }

    /// Stores `bytes` under their digest, for good.
    pub fn blob(&mut self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.put_raw(&key::blob(digest), bytes);
        self.put_raw(&key::reference(digest, None), NOTHING);
        self.named.push(digest);
        digest
    }

    /// Stores `bytes` under their digest for as long as the run is kept whose write this is.
    pub fn keep(&mut self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.contents.entry(digest).or_insert_with(|| bytes.to_vec());
        digest
    }

    /// The same, as a write of this run.
    pub fn of(self, run: RunId) -> Self {
        Self { run: Some(run), ..self }
    }

    /// Bytes of keys and records so far.
    pub fn bytes(&self) -> usize {
        self.batch.bytes() + self.contents.values().map(Vec::len).sum::<usize>()
    }

    /// Tells whoever [watches](super::Store::watch) the topic of the write, once it is accepted.
    pub fn tells(&mut self, topic: Topic) {
        self.batch.tells(topic);
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.contents.is_empty()
    }
}
