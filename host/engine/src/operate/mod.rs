//! What people order while runs are there: ending a doubt, going on with another definition or plugin, and what looks at
//! runs or at Slack before it is done, as removing a plugin and putting a table. `backup` and `restore` are about all
//! of it.

pub mod backup;
mod follow_setup;
pub mod remove_plugin;
pub mod reopen;
pub mod resolve;
pub mod restore;
mod tables;
mod verify;

pub use verify::{Difference, Verified};
