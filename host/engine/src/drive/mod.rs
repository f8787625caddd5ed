//! What drives runs: one driver per run that is in memory, who may be in memory, and how a start takes the runs of the
//! process before up again.

pub(crate) mod admission;
pub(crate) mod deciding;
pub(crate) mod driver;
pub(crate) mod evaluating;
pub(crate) mod quarantine;
pub(crate) mod recovery;
pub mod runs;
