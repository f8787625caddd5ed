//! What an operator sets up before anything runs: plugins and what they are granted, connections, definitions, tokens.
//! `revision` is how other processes hear of it.

pub mod connections;
pub mod definitions;
pub mod plugins;
pub(crate) mod revision;
pub mod tokens;
