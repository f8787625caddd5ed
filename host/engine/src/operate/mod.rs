//! What people order of a run that is there: ending a doubt, and going on with another definition or plugin.

pub mod open;
pub mod reopen;
pub mod resolve;
