//! How a record is written: an envelope (format version, kind, checksum over all) around JSON or raw bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::key::{Key, Space, display};

/// The version that this program writes, for every kind; a change of any record's form raises it. Counted from 1 in each
/// format of the store ([`super::sled::FORMAT`]), because a store of another format is not read at all.
pub const VERSION: u8 = 1;
const ENVELOPE_BYTES: usize = 1 + 1 + 4;

/// Why bytes are not the wanted record; split by what the caller does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not what was written: park what needs it.
    #[error("the record at {key} is damaged: {reason}")]
    Corrupt {
        /// Where it is.
        key: String,
        /// What is wrong.
        reason: Arc<str>,
    },
    /// A newer program wrote it: use that one. Nothing is skipped.
    #[error("the record at {key} has version {found}, this program knows up to {known}: use a newer bellhop")]
    NewerVersion {
        /// Where it is.
        key: String,
        /// What it has.
        found: u8,
        /// The newest that this program knows.
        known: u8,
    },
    /// Its kind is not known here: as with a newer version.
    #[error("the record at {key} is of the unknown kind `{kind}`: use a newer bellhop")]
    UnknownKind {
        /// Where it is.
        key: String,
        /// What it says.
        kind: String,
    },
    /// The value cannot be written so that it reads back as it was; nothing was written.
    #[error("the record for {key} cannot be written: {reason}")]
    Encode {
        /// Where it was to be.
        key: String,
        /// What is wrong.
        reason: Arc<str>,
    },
}

impl Error {
    fn corrupt(key: &[u8], reason: impl AsRef<str>) -> Self {
        Self::Corrupt { key: display(key), reason: reason.as_ref().into() }
    }
}

fn checksum(head: [u8; 2], payload: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head);
    hasher.update(payload);
    hasher.finalize().to_le_bytes()
}

/// The record for `key` with `payload` as it is.
pub fn seal(key: &Key, payload: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(ENVELOPE_BYTES + payload.len());
    record.extend_from_slice(&[0; ENVELOPE_BYTES]);
    record.extend_from_slice(payload);
    close(key.space(), &mut record);
    record
}

fn close(space: Space, record: &mut [u8]) {
    let head = [VERSION, space.byte()];
    let sum = checksum(head, &record[ENVELOPE_BYTES..]);
    record[..2].copy_from_slice(&head);
    record[2..ENVELOPE_BYTES].copy_from_slice(&sum);
}

/// The record for `key` with `value` as JSON.
pub fn encode<T: Serialize>(key: &Key, value: &T) -> Result<Vec<u8>, Error> {
    let mut record = Vec::with_capacity(256);
    record.extend_from_slice(&[0; ENVELOPE_BYTES]);
    serde_json::to_writer(&mut record, value)
        .map_err(|why| Error::Encode { key: key.to_string(), reason: why.to_string().into() })?;
    close(key.space(), &mut record);
    Ok(record)
}

/// The payload of the record of `space` that stood under `key`.
pub fn unseal<'r>(space: Space, key: &[u8], record: &'r [u8]) -> Result<&'r [u8], Error> {
    let Some((envelope, payload)) = record.split_at_checked(ENVELOPE_BYTES) else {
        return Err(Error::corrupt(key, "shorter than an envelope"));
    };
    let head = [envelope[0], envelope[1]];
    // The checksum first: damage must not be taken for a newer program's work.
    if checksum(head, payload) != envelope[2..] {
        return Err(Error::corrupt(key, "checksum differs"));
    }
    let [version, kind] = head;
    if version > VERSION {
        return Err(Error::NewerVersion { key: display(key), found: version, known: VERSION });
    }
    if version == 0 {
        return Err(Error::corrupt(key, "version 0 was never written"));
    }
    match Space::of(kind) {
        Some(found) if found == space => Ok(payload),
        Some(found) => Err(Error::corrupt(key, format!("{found:?} where {space:?} has to be"))),
        None => Err(Error::UnknownKind { key: display(key), kind: char::from(kind).escape_default().to_string() }),
    }
}

/// The value of the record of `space` that stood under `key`.
pub fn decode<T: DeserializeOwned>(space: Space, key: &[u8], record: &[u8]) -> Result<T, Error> {
    let payload = unseal(space, key, record)?;
    serde_json::from_slice(payload).map_err(|why| not_readable(key, payload, &why))
}

/// A checksum that fits around JSON that does not is a record of a form that is not known here.
fn not_readable(key: &[u8], payload: &[u8], why: &serde_json::Error) -> Error {
    let is_entry = key.first() == Some(&Space::Event.byte());
    let kind = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(payload)
        .ok()
        .filter(|entry| is_entry && entry.len() == 1)
        .and_then(|entry| entry.into_keys().next())
        .filter(|kind| !super::entry::KINDS.contains(&kind.as_str()));
    match kind {
        Some(kind) => Error::UnknownKind { key: display(key), kind },
        None => Error::corrupt(key, why.to_string()),
    }
}
