//! What an operator sets up before anything runs: plugins and what they are granted, connections, definitions, tokens.

pub mod connections;
pub mod definitions;
pub mod plugins;
pub mod tokens;
