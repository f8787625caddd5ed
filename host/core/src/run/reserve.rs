//! What has to be left of a run's records, so that whatever it changed can be taken back.

use super::state::State;
use crate::value;

/// Records of one change that is taken back: two decisions, two reads, an intent, an outcome, and one more try.
const CHANGE_RECORDS: u64 = 8;
const CHANGE_BYTES: u64 = 4 << 10;

/// Records and bytes that are kept free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reserve {
    /// Records.
    pub records: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A run's records that, with what ending it needs, have come to their limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the run has {records} records of {bytes} bytes, and may have {records_max} records of {bytes_max} bytes, of which \
     the rest is kept for ending it: have it do less, or start several runs for parts of it"
)]
pub struct Outgrown {
    /// Records.
    pub records: u64,
    /// What it may have.
    pub records_max: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// What it may have.
    pub bytes_max: u64,
}

impl State {
    /// What taking back everything that stands may add to the run's records. It grows with the ledger, because a run that
    /// had grown too large to be rolled back would leave behind what it changed.
    #[must_use]
    pub fn reserve(&self) -> Reserve {
        let standing = self.ledger.iter().filter(|entry| entry.fate.is_none());
        standing.fold(Reserve::default(), |sum, entry| Reserve {
            records: sum.records + CHANGE_RECORDS,
            bytes: sum.bytes
                + CHANGE_BYTES
                + entry.effect.undo.as_ref().map_or(0, |undo| 2 * value::size(&undo.input).bytes),
        })
    }
}
