//! Large values: stored once under their digest, for as long as anybody names them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError, RwLock, RwLockWriteGuard};

use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::entry::Content;
use super::journal::{Error, Journal, bad_key};
use super::json::Json;
use super::key::{self, Parts, Space};
use super::record;
use super::store::{self, Batch, Bytes, Ticket};
use super::summary::Summary;
use super::write::{NOTHING, Write};

/// A value whose JSON is longer stands in a record by its digest.
pub const INLINE_BYTES_MAX: usize = 16 * 1024;

/// Where a value is that stands in a record of its run.
const IN_A_RECORD: &str = "a value in a record";

/// Who names blobs while some are removed.
///
/// Whoever removes a blob has read that nobody else names it. A write that names it may be accepted after that read, so
/// what is named meanwhile is noted in the step in which it is accepted, and stays.
#[derive(Debug, Default)]
pub(super) struct Naming {
    /// One at a time removes blobs: of two that name the same one, each would leave it to the other.
    removing: tokio::sync::Mutex<()>,
    /// What was named since somebody began to look whether anybody does; none while nobody looks. Held by whoever names
    /// something until that is accepted, and alone by whoever decides.
    meanwhile: RwLock<Option<Mutex<HashSet<Digest>>>>,
}

impl Naming {
    /// Notes from now on what is named, until what is given is dropped.
    fn note(&self) -> Noting<'_> {
        *self.alone() = Some(Mutex::default());
        Noting(self)
    }

    fn alone(&self) -> RwLockWriteGuard<'_, Option<Mutex<HashSet<Digest>>>> {
        self.meanwhile.write().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Noting<'n>(&'n Naming);

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        *self.0.alone() = None;
    }
}

/// Large values as the store has them; see [`Journal::values`]. They are neither compared with their digests nor decoded
/// before somebody asks for one: who asks says on which thread that happens.
#[derive(Debug, Default)]
pub struct Values(BTreeMap<Digest, Result<Option<Bytes>, store::Error>>);

impl Values {
    /// The value that `content` stands for.
    ///
    /// # Errors
    /// It is not there, was not asked for, or says something else than a `T`.
    pub fn read<T: DeserializeOwned>(&self, content: &Content) -> Result<T, Error> {
        match content {
            Content::Value(json) => json.read().map_err(|why| Error::corrupt(&IN_A_RECORD, why.to_string())),
            Content::Stored { digest, .. } => serde_json::from_slice(&self.stored(*digest)?)
                .map_err(|why| Error::corrupt(&key::blob(*digest), why.to_string())),
        }
    }

    /// The text of the value that `content` stands for.
    ///
    /// # Errors
    /// As of [`Self::read`].
    pub fn text(&self, content: &Content) -> Result<String, Error> {
        match content {
            Content::Value(json) => Ok(json.text().to_owned()),
            Content::Stored { digest, .. } => String::from_utf8(self.stored(*digest)?)
                .map_err(|why| Error::corrupt(&key::blob(*digest), why.to_string())),
        }
    }

    fn stored(&self, digest: Digest) -> Result<Vec<u8>, Error> {
        let missing = || Error::corrupt(&key::blob(digest), "the stored value is missing");
        match self.0.get(&digest).ok_or_else(missing)? {
            Ok(value) => whole(digest, value.as_ref())?.ok_or_else(missing),
            Err(error) => Err(error.clone().into()),
        }
    }
}

/// The bytes of a blob, which must have this digest.
fn whole(digest: Digest, value: Option<&Bytes>) -> Result<Option<Vec<u8>>, Error> {
    let key = key::blob(digest);
    let Some(value) = value else { return Ok(None) };
    let bytes = record::unseal(Space::Blob, key.bytes(), value)?;
    if Digest::of(bytes) != digest {
        return Err(Error::corrupt(&key, "the digest differs"));
    }
    Ok(Some(bytes.to_vec()))
}

impl Content {
    /// Under which digest it is stored; none where it stands in its record.
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::Value(_) => None,
            Self::Stored { digest, .. } => Some(*digest),
        }
    }
}

impl Journal {
    pub(super) fn commit_with_contents(&self, write: Write) -> Result<Ticket, Error> {
        let Write { mut batch, run, contents, named } = write;
        if contents.is_empty() && named.is_empty() {
            return Ok(self.store.commit(batch)?);
        }
        let digests: Vec<Digest> = contents.keys().copied().chain(named).collect();
        for (digest, bytes) in contents {
            let (blob, reference) = (key::blob(digest), key::reference(digest, run));
            batch.keep(blob.bytes(), record::seal(&blob, &bytes));
            batch.keep(reference.bytes(), record::seal(&reference, NOTHING));
            if let Some(run) = run {
                let naming = key::naming(run, digest);
                batch.keep(naming.bytes(), record::seal(&naming, NOTHING));
            }
        }
        // Held until the write is accepted: what is named is noted before anybody decides about it.
        let meanwhile = self.naming.meanwhile.read().unwrap_or_else(PoisonError::into_inner);
        let ticket = self.store.commit(batch)?;
        if let Some(meanwhile) = &*meanwhile {
            meanwhile.lock().unwrap_or_else(PoisonError::into_inner).extend(digests);
        }
        Ok(ticket)
    }

    /// Removes what is kept of a run, at most about `limit` records at a time, first that which shows it; gives the
    /// write's ticket, and whether nothing is left. Blobs go that nobody else names.
    ///
    /// The caller makes sure that nobody begins to carry the run meanwhile. Dies before the end: ask again, until
    /// nothing is left.
    pub async fn forget(&self, run: RunId, limit: usize) -> Result<(Ticket, bool), Error> {
        let mut batch = Batch::new();
        if let Some(summary) = self.get::<Summary>(&key::summary(run)).await? {
            batch.delete(key::listing(summary.started_at, run).bytes());
            batch.delete(key::summary(run).bytes());
            batch.delete(key::snapshot(run).bytes());
        }
        let range = key::events(run, 0);
        let page = self.store.scan(&range.from, &range.to, limit).await?;
        for key in page.keys() {
            batch.delete(key);
        }
        if page.next.is_some() {
            return Ok((self.store.commit(batch)?, false));
        }
        let _alone = self.naming.removing.lock().await;
        let _noting = self.naming.note();
        let range = key::namings(run);
        let named = self.store.scan(&range.from, &range.to, limit).await?;
        let mut unnamed = Vec::new();
        for bytes in &named.keys() {
            let digest = Parts::of(Space::Naming, bytes).and_then(|mut parts| parts.run().and_then(|_| parts.digest()));
            let digest = digest.ok_or_else(|| bad_key(bytes))?;
            let all = key::references(digest);
            let own = key::reference(digest, Some(run));
            let others = self.store.scan(&all.from, &all.to, 2).await?.keys();
            if others.iter().all(|key| key[..] == *own.bytes()) {
                unnamed.push(digest);
            }
            batch.delete(own.bytes());
            batch.delete(bytes.to_vec());
        }
        let mut alone = self.naming.alone();
        let meanwhile = alone.take().unwrap_or_default().into_inner().unwrap_or_else(PoisonError::into_inner);
        for digest in unnamed.iter().filter(|digest| !meanwhile.contains(digest)) {
            batch.delete(key::blob(*digest).bytes());
        }
        let ticket = self.store.commit(batch)?;
        drop(alone);
        Ok((ticket, named.next.is_none()))
    }

    /// The bytes with this digest.
    pub async fn blob(&self, digest: Digest) -> Result<Option<Vec<u8>>, Error> {
        whole(digest, self.store.get(key::blob(digest).bytes()).await?.as_ref())
    }

    /// Large values by their digests, read and not looked at yet: for whoever decodes them on another thread. One that
    /// cannot be read keeps no other from being read; who asks for it is told.
    pub async fn values(&self, digests: impl IntoIterator<Item = Digest>) -> Values {
        let mut values = Values::default();
        for digest in digests.into_iter().collect::<BTreeSet<_>>() {
            values.0.insert(digest, self.store.get(key::blob(digest).bytes()).await);
        }
        values
    }

    /// `value` as it goes into a record; see [`Self::content_of`].
    ///
    /// # Errors
    /// [`record::Error::Encode`]: it has no JSON.
    pub fn content<T: Serialize + ?Sized>(&self, write: &mut Write, value: &T) -> Result<Content, Error> {
        Ok(self.content_of(write, Self::json(value)?))
    }

    /// The text of `value`, as it goes into a record.
    ///
    /// # Errors
    /// As of [`Self::content`].
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Json, Error> {
        let refused = |why: serde_json::Error| record::Error::Encode {
            key: IN_A_RECORD.to_owned(),
            reason: why.to_string().into(),
        };
        Ok(Json::of(value).map_err(refused)?)
    }

    /// A value as it goes into a record: itself, or when it is large by its digest; then `write` sees to it that its bytes
    /// are stored.
    pub fn content_of(&self, write: &mut Write, json: Json) -> Content {
        let text = json.text();
        if text.len() <= INLINE_BYTES_MAX {
            return Content::Value(json);
        }
        Content::Stored { digest: write.keep(text.as_bytes()), bytes: text.len() as u64 }
    }

    /// The value that `content` stands for.
    ///
    /// # Errors
    /// It is not there, or says something else than a `T`.
    pub async fn read<T: DeserializeOwned>(&self, content: &Content) -> Result<T, Error> {
        self.values(content.digest()).await.read(content)
    }

    /// The text of the value that `content` stands for.
    ///
    /// # Errors
    /// As of [`Self::read`].
    pub async fn text(&self, content: &Content) -> Result<String, Error> {
        self.values(content.digest()).await.text(content)
    }
}
