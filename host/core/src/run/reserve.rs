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
