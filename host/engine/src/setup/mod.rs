//! What an operator sets up before anything runs: plugins and what they are granted, connections, definitions, tokens.
//! `facts` are the limits that hold for all processes of an installation, and `revision` is how other processes hear of
//! what is set up.

pub mod connections;
pub mod definitions;
pub(crate) mod facts;
pub mod plugins;
pub(crate) mod revision;
pub mod tokens;
