//! Facts that outlive the process.
//!
//! [`Journal`] is what the engine uses: typed records over a [`Store`], the storage port, with an implementation in
//! memory and one in a folder ([`sled`]). It knows the core's ids, digests and times, and nothing else of the program.

use std::time::Duration;

mod damage;
pub(crate) mod entry;
mod group;
mod health;
#[allow(clippy::module_inception, reason = "the journal itself, beside its port, keys and records")]
pub(crate) mod journal;
mod json;
pub(crate) mod key;
#[cfg(test)]
pub(crate) mod memory;
pub(crate) mod record;
pub(crate) mod sled;
pub(crate) mod store;
mod summary;
mod watermark;
mod write;

#[cfg(test)]
mod tests;

/// How often a disk that lacks room is looked at, by the writer and by those who wait.
pub(crate) const ROOM_LOOK: Duration = Duration::from_millis(250);

/// How often something is decided whose write a guard refuses, before the caller is told to come again. Each refusal means
/// that somebody else has got on.
pub(crate) const GUARDED_TRIES_MAX: u32 = 16;

/// Counts how often something was decided whose write a guard refused.
#[derive(Debug, Default)]
pub(crate) struct Tries(u32);

impl Tries {
    /// Whether what came to this error is to be decided anew: a guard refused it, and not for the last time.
    pub(crate) fn again(&mut self, error: &Error) -> bool {
        self.0 += 1;
        error.is_refused() && self.0 < GUARDED_TRIES_MAX
    }
}

pub(crate) use entry::{Answer, Content, Entry, Resolution};
pub(crate) use journal::{Error, Journal, damaged_is_none};
pub(crate) use json::Json;
#[cfg(test)]
pub(crate) use store::Store;
pub(crate) use store::Ticket;
pub(crate) use summary::{Aftermath, Open, Place, Snapshot, Summary};
pub(crate) use write::{Seen, Write};
