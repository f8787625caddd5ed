//! Backups: everything that a store has at one instant, as a stream of bytes, and the way back.
//!
//! A backup begins with a line, `bellhop-backup` and the version of this form, so that a newer one is known before anything of
//! it is read. Then come frames: a kind, a length, that many bytes, and a checksum over all of it and the frame's number, so
//! that a frame that is damaged, missing or in another place is found where it is.
//!
//! | kind | what it has |
//! |---|---|
//! | `H` | [`Header`], as JSON; the first |
//! | `R` | records: what is put under a key, or that it is deleted. They are carried out one after the other |
//! | `S` | secrets of connections, sealed |
//! | `X` | why the backup was broken off: nothing follows |
//! | `T` | [`Trailer`], as JSON: counts, and the digest of every byte before it; the last |
//!
//! A backup without its trailer is none. While the store is read from its first key to its last, what is accepted meanwhile
//! is heard ([`Store::tap`](super::Store::tap)), and stands behind what was read before. A key that changes meanwhile has its
//! last change behind whatever was read of it; a key that does not is the same the whole time. So what comes out is the state
//! after the last batch that was heard, and has everything that was accepted before the backup began.
//!
//! What is damaged in the store is damaged in what is restored from it, so that nothing that was there is silently missing.

mod reading;
mod restoring;
mod taking;

use serde::{Deserialize, Serialize};

use bellhop_core::time::Timestamp;

use super::store::{self, KEY_BYTES_MAX, VALUE_BYTES_MAX};

pub use reading::{Part, Reader};
pub use restoring::{Restored, Restoring};
pub use taking::Taking;

/// The version of the form described above.
pub const FORMAT: u32 = 1;
/// How a backup begins.
const NAME: &[u8] = b"bellhop-backup ";
/// The first line is no longer.
const LINE_BYTES_MAX: usize = 32;

const HEADER: u8 = b'H';
const RECORDS: u8 = b'R';
const SECRETS: u8 = b'S';
const BROKEN_OFF: u8 = b'X';
const TRAILER: u8 = b'T';

/// Kind and length.
const FRAME_HEAD_BYTES: usize = 1 + 4;
/// The checksum.
const FRAME_TAIL_BYTES: usize = 4;
/// Records are gathered until they have so many bytes.
const FRAME_BYTES: usize = 256 * 1024;
/// The longest frame: gathered records, and behind them the largest.
const FRAME_BYTES_MAX: usize = FRAME_BYTES + VALUE_BYTES_MAX + KEY_BYTES_MAX + 64;

/// A record that puts a value.
const PUT: u8 = b'+';
/// One that deletes a key.
const DELETE: u8 = b'-';
/// One whose value could not be read. No record is empty, so that it is damaged where it is restored.
const DAMAGED: u8 = b'?';

/// What a backup says of itself first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The [format](super::sled::FORMAT) of the store: of its keys and records.
    pub store_format: u32,
    /// The version of the program that took it.
    pub program: String,
    /// When it began. Everything that was acknowledged before is in it.
    pub began_at: Timestamp,
}

/// What a backup says of itself last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trailer {
    /// Of which instant it is.
    pub taken_at: Timestamp,
    /// Items that were read.
    pub items: u64,
    /// Changes that were accepted meanwhile.
    pub changes: u64,
    /// Items that were damaged.
    pub damaged: u64,
    /// Whether it has secrets of connections.
    pub has_secrets: bool,
    /// Bytes before the trailer.
    pub bytes: u64,
    /// Their digest.
    pub digest: bellhop_core::digest::Digest,
}

/// What a backup says in place of its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BrokenOff {
    code: String,
    detail: String,
}

/// Why a backup was not taken or cannot be used; split by what the operator does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Whoever reads the backup takes less than is written meanwhile.
    #[error(
        "more than {bytes_max} bytes were written while the backup's reader took nothing (`backup_queue_bytes_max`)"
    )]
    TooSlow {
        /// What may wait.
        bytes_max: usize,
    },
    /// It is something else.
    #[error("it is no backup of bellhop: it does not begin with `bellhop-backup`")]
    NotABackup,
    /// A newer program took it.
    #[error("it has format {found}, and this program knows formats up to {known}")]
    Newer {
        /// What it has.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// A program took it whose store has another form.
    #[error("it is of a store of format {found}, taken by bellhop {program}, and this program reads format {known}")]
    OtherStore {
        /// What it has.
        found: u32,
        /// What this program reads.
        known: u32,
        /// Who took it.
        program: String,
    },
    /// What is there is not what was written.
    #[error("it is damaged at byte {at}: {reason}")]
    Damaged {
        /// Where the frame begins.
        at: u64,
        /// What is wrong.
        reason: String,
    },
    /// It ends before its end.
    #[error("it is cut off at byte {at}: its trailer is missing")]
    Cut {
        /// How much there is.
        at: u64,
    },
    /// The host that took it could not bring it to its end.
    #[error("it was broken off by its host ({code}): {detail}")]
    BrokenOff {
        /// The code of the host's problem.
        code: String,
        /// In words.
        detail: String,
    },
}

/// The checksum of the frame of this number.
fn checksum(number: u64, head: &[u8], payload: &[u8]) -> [u8; FRAME_TAIL_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_be_bytes());
    hasher.update(head);
    hasher.update(payload);
    hasher.finalize().to_be_bytes()
}
