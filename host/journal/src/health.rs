//! What a journal knows of its store's health: whether the disk has room, and which facts of no run are damaged.

use std::sync::PoisonError;

use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;

use super::damage::Damage;
use super::entry::Entry;
use super::journal::{Error, Journal};
use super::key::{self, Key, Space};
use super::{record, store};

impl Journal {
    /// Whether something may begin.
    ///
    /// # Errors
    /// [`store::Error::NoRoom`]: the disk has no room but for what is kept for ends.
    pub fn room(&self) -> Result<(), Error> {
        match self.store.stats().lack {
            None => Ok(()),
            Some(store::Lack { free, wanted }) => Err(store::Error::NoRoom { free, wanted }.into()),
        }
    }

    /// Whether the run does what a person ordered while the disk lacks room.
    pub fn is_ordered(&self, run: RunId) -> bool {
        self.ordered.lock().unwrap_or_else(PoisonError::into_inner).contains(&run)
    }

    /// Remembers who does what a person ordered, for as long as the disk lacks room.
    pub(super) fn note_orders(&self, run: RunId, entries: &[Entry]) {
        if entries.iter().any(|entry| matches!(entry, Entry::Note { by: Some(_), .. })) {
            let mut ordered = self.ordered.lock().unwrap_or_else(PoisonError::into_inner);
            if self.room().is_ok() {
                ordered.clear();
            } else {
                ordered.insert(run);
            }
        }
    }

    /// Facts of no run that were found damaged and were not written anew.
    pub fn damages(&self) -> Vec<Damage> {
        self.damages.all()
    }

    /// Whether the fact of `key` is one of them.
    pub fn is_damaged(&self, key: &Key) -> bool {
        self.damages.has(key.bytes())
    }

    /// Reads the facts of no run of which there are few, so that damage is known before something needs them.
    ///
    /// # Errors
    /// The store failed.
    pub async fn look_through(&self) -> Result<(), Error> {
        const SPACES: [Space; 12] = [
            Space::Workflow,
            Space::WorkflowCurrent,
            Space::Bindings,
            Space::Table,
            Space::TableCurrent,
            Space::Connection,
            Space::Plugin,
            Space::Grant,
            Space::Token,
            Space::Limiter,
            Space::Notice,
            Space::Host,
        ];
        for space in SPACES {
            let mut all = self.list::<serde::de::IgnoredAny>(space, &key::all(space));
            while let Some(read) = all.next().await {
                match read {
                    // A newer program's: whoever needs it is told.
                    Ok(_) | Err(Error::Record(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// What stands outside the store and belongs to the fact of `key` cannot be read.
    pub fn damaged_beside(&self, key: &Key, reason: &str) {
        let _noted = self.damages.read(key.space(), key.bytes(), Error::corrupt(key, reason));
    }

    /// Ok when it is damage.
    pub(super) fn leave_out(&self, space: Space, key: &[u8], error: Error) -> Result<(), Error> {
        let error = self.damages.read(space, key, error);
        if error.is_damage() { Ok(()) } else { Err(error) }
    }

    /// The bytes with this digest, which are what `fact` says: of no run.
    pub async fn blob_of(&self, digest: Digest, fact: impl FnOnce() -> String) -> Result<Option<Vec<u8>>, Error> {
        self.blob(digest).await.map_err(|error| match error {
            Error::Record(record::Error::Corrupt { reason, .. })
            | Error::Store(store::Error::Corrupt { reason, .. }) => {
                let fact = fact();
                tracing::error!(%fact, %reason, "what is stored of this is damaged: what needs it is refused");
                Error::Damaged { fact, reason }
            }
            error => error,
        })
    }
}
