//! What the tests that read the project itself share: where it is, which files it has, how its sources refer to each
//! other.
#![forbid(unsafe_code)]

pub mod code;
pub mod project;
pub mod rooms;
