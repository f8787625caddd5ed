//! What removes records whose time is over, and what is known of the time.

pub(crate) mod heartbeat;
pub(crate) mod retention;
pub(crate) mod sweep;

use bellhop_core::time::Timestamp;

/// What becomes of something whose time has come.
pub(crate) enum Fate {
    Gone,
    /// It stays, and somebody else looks after it.
    Kept,
    /// Its time is later by now.
    KeptUntil(Timestamp),
}
