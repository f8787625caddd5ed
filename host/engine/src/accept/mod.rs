//! What becomes a run: a trigger is judged, its key is looked up, and the first record is written, or everything that is
//! missing is said.

pub mod blocked;
mod idempotency;
pub(crate) mod lacking;
pub mod trigger;
