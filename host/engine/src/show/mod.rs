//! What is shown of runs: lists, one run, its timeline, and the end that somebody waits for.

pub mod following;
pub mod timeline;
pub mod views;
