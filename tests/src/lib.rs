//! What tests share: where the project is, which files it has, how its sources refer to each other; and guests that are
//! written as text.
#![forbid(unsafe_code)]

pub mod code;
pub mod guest;
pub mod mutants;
pub mod project;
pub mod rooms;
