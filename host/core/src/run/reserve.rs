//! What has to be left of a run's records, so that whatever it changed can be taken back and its end be written.

use super::state::State;
use crate::value;

/// Records of an end: what is stopped, noted and told.
const END_RECORDS: u64 = 64;
const END_BYTES: u64 = 256 << 10;
/// Records of one change that is taken back: two decisions, two reads, an intent, an outcome, and one more try.
const CHANGE_RECORDS: u64 = 8;
const CHANGE_BYTES: u64 = 4 << 10;

/// Records and bytes that are kept for ending a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reserve {
    /// Records.
    pub records: u64,
    /// Bytes.
    pub bytes: u64,
}

impl State {
    /// What ending this run now, with everything taken back that stands, may add to its records. It grows with the
    /// ledger, because a run that had grown too large to be rolled back would leave behind what it changed.
    #[must_use]
    pub fn reserve(&self) -> Reserve {
        let standing = self.ledger.iter().filter(|entry| entry.fate.is_none());
        let end = Reserve { records: END_RECORDS, bytes: END_BYTES };
        standing.fold(end, |sum, entry| Reserve {
            records: sum.records + CHANGE_RECORDS,
            bytes: sum.bytes
                + CHANGE_BYTES
                + entry.effect.undo.as_ref().map_or(0, |undo| 2 * value::size(&undo.input).bytes),
        })
    }
}
