//! Records that are read a page at a time: those of a list, and the entries of a log before anybody has decoded them.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use super::entry::Entry;
use super::journal::{Error, Journal};
use super::key::{self, Parts, Range, Space};
use super::record;
use super::store::{self, Bytes, Page};
use bellhop_core::id::RunId;

/// Records of a list that are in memory at one time.
const LIST_PAGE: usize = 256;

/// Records of a list; see [`Journal::list`]. What is damaged is left out, and [`Journal::damages`] names it; after an error
/// of the store there is no more.
#[must_use = "nothing is read before it is asked for"]
pub struct Records<T> {
    journal: Journal,
    space: Space,
    page: std::vec::IntoIter<(Bytes, Bytes)>,
    rest: Option<Range>,
    record: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Records<T> {
    pub(super) fn of(journal: Journal, space: Space, range: Range) -> Self {
        Self { journal, space, page: Vec::new().into_iter(), rest: Some(range), record: PhantomData }
    }

    /// The next one with its key; none at the end. Dropping the future loses no record: the next call gives what this one
    /// would have given.
    pub async fn next(&mut self) -> Option<Result<(Bytes, T), Error>> {
        loop {
            if let Some((key, value)) = self.page.next() {
                match record::decode(self.space, &key, &value) {
                    Ok(record) => return Some(Ok((key, record))),
                    Err(error) => match self.journal.leave_out(self.space, &key, error.into()) {
                        Ok(()) => continue,
                        Err(error) => return Some(Err(error)),
                    },
                }
            }
            let Range { from, to } = self.rest.clone()?;
            let read = self.journal.store.scan(&from, &to, LIST_PAGE).await;
            self.rest = None;
            let page = match read {
                Ok(page) => page,
                Err(error) => return Some(Err(error.into())),
            };
            self.rest = page.next.map(|next| Range { from: next.to_vec(), to });
            self.page = page.items.into_iter();
            for (key, reason) in page.damaged {
                let error = store::Error::Corrupt { key: key::display(&key), reason };
                if let Err(error) = self.journal.leave_out(self.space, &key, error.into()) {
                    return Some(Err(error));
                }
            }
        }
    }

    /// All that are left, in their order.
    ///
    /// # Errors
    /// The first that there is; what else is left is not read.
    pub async fn all(mut self) -> Result<Vec<(Bytes, T)>, Error> {
        let mut all = Vec::new();
        while let Some(read) = self.next().await {
            all.push(read?);
        }
        Ok(all)
    }
}

/// Entries of a log as the store has them; see [`Journal::stored_entries`]. They may have megabytes: who decodes them says
/// on which thread.
#[derive(Debug)]
pub struct StoredEntries {
    run: RunId,
    from: u64,
    page: Page,
}

impl StoredEntries {
    pub(super) fn of(run: RunId, from: u64, page: Page) -> Self {
        Self { run, from, page }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.page.items.is_empty()
    }

    /// They themselves, with their numbers, in order.
    ///
    /// # Errors
    /// One of them is missing, or cannot be read: a log that lost an entry must not be folded.
    pub fn decode(&self) -> Result<Vec<(u64, Entry)>, Error> {
        let mut entries = Vec::with_capacity(self.page.items.len());
        for (expected, (key, value)) in (self.from..).zip(&self.page.items) {
            let mut parts = Parts::of(Space::Event, key);
            let seq = parts.as_mut().and_then(|parts| parts.run().and_then(|_| parts.number()));
            if seq != Some(expected) {
                return Err(Error::corrupt(&key::event(self.run, expected), "an entry is missing"));
            }
            entries.push((expected, record::decode(Space::Event, key, value)?));
        }
        Ok(entries)
    }
}
