//! What an operator sets up before anything runs: plugins and what they are granted, connections, definitions, tokens.
//! `installation` has the limits that hold for all its processes, and `revision` is how other processes hear of
//! what is set up.

pub mod connections;
pub mod definitions;
pub(crate) mod installation;
pub mod plugins;
pub(crate) mod revision;
pub mod sealed;
pub mod tokens;
