//! How large a run's records may become, and what of that is kept for its end.

use bellhop_core::run::{Outgrown, Reserve, State};

use super::super::Error;
use super::Local;
use super::log::Log;

/// What a run adds while it ends comes to so many times its limit at the most. Its reserve is what an end needs; an action
/// that asks for far more while it takes something back would go on for ever.
const END_FACTOR: u64 = 2;

/// From this part of its limit on, what taking back a run's changes needs is counted.
const NEAR: u64 = 8;

/// This part of its limits, and no more than so much, is kept for a run's end itself: what is stopped, noted and told.
const END_PART: u64 = 16;
const END_RECORDS: u64 = 64;
const END_BYTES: u64 = 256 << 10;

impl Local {
    /// Whether the run may add to its records by what is not needed for ending it.
    pub(super) fn check_size(&self, log: &Log) -> Result<(), Error> {
        let (records_max, bytes_max) = (self.limits.run_events_max, self.limits.run_journal_bytes_max);
        if log.is_ending {
            return if log.seq >= records_max * END_FACTOR || log.bytes >= bytes_max * END_FACTOR {
                Err(Error::OfTheRun(format!(
                    "its end has {} records of {} bytes, and may have {} records of {} bytes, which is more than any run \
                     needs to take back what it changed: take back the rest by hand",
                    log.seq,
                    log.bytes,
                    records_max * END_FACTOR,
                    bytes_max * END_FACTOR
                )))
            } else {
                Ok(())
            };
        }
        if log.seq + log.reserve.records >= records_max || log.bytes + log.reserve.bytes >= bytes_max {
            let (records, bytes) = (log.seq, log.bytes);
            return Err(Error::TooLarge(Outgrown { records, records_max, bytes, bytes_max }));
        }
        Ok(())
    }

    /// What is kept for ending the run, once its records are so many that it matters.
    pub(super) fn reserve(&self, log: &Log, state: &State) -> Reserve {
        let (records_max, bytes_max) = (self.limits.run_events_max, self.limits.run_journal_bytes_max);
        // Looking at every change that stands is not worth its time while there is room for many times what they need.
        let near = log.seq * NEAR >= records_max || log.bytes * NEAR >= bytes_max;
        let changes = if near { state.reserve() } else { Reserve::default() };
        Reserve {
            records: changes.records + END_RECORDS.min(records_max / END_PART),
            bytes: changes.bytes + END_BYTES.min(bytes_max / END_PART),
        }
    }
}
