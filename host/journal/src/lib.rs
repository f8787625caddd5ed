//! Facts that outlive the process.
//!
//! [`Journal`] is what the engine uses: typed records over a [`Store`], the storage port, with an implementation in
//! memory and one in a folder ([`sled`]). It knows the core's ids, digests and times, and nothing else of the program.
#![forbid(unsafe_code)]

use std::time::Duration;

pub mod backup;
mod contents;
mod damage;
pub mod entry;
mod group;
mod health;
pub mod journal;
mod json;
pub mod key;
pub mod memory;
pub mod read;
pub mod record;
mod records;
mod sizes;
pub mod sled;
pub mod store;
mod summary;
mod tap;
mod watch;
mod watermark;
mod write;

#[cfg(test)]
mod tests;

/// How often a disk that lacks room is looked at, by the writer and by those who wait.
pub const ROOM_LOOK: Duration = Duration::from_millis(250);

/// How often something is decided whose write a guard refuses, before the caller is told to come again. Each refusal means
/// that somebody else has got on.
pub const GUARDED_TRIES_MAX: u32 = 16;

/// Counts how often something was decided whose write a guard refused.
#[derive(Debug, Default)]
pub struct Tries(u32);

impl Tries {
    /// Whether what came to this error is to be decided anew: a guard refused it, and not for the last time.
    pub fn again(&mut self, error: &Error) -> bool {
        self.0 += 1;
        error.is_refused() && self.0 < GUARDED_TRIES_MAX
    }
}

pub use contents::Values;
pub use entry::{Answer, Content, Entry, Instead, Resolution};
pub use journal::{Error, Journal, damaged_is_none, readable};
pub use json::Json;
pub use read::Read;
pub use records::{Records, StoredEntries};
pub use sizes::Size;
pub use store::{Reach, Spread, Store, Ticket, Topic, Watch};
pub use summary::{Aftermath, Open, Rest, Snapshot, Summary};
pub use write::{Seen, Write};
