//! Everything that is Slack: which methods there are and what each needs, the client that calls them, the
//! limiter that keeps to Slack's rates, what a connection is, and how the unknown outcome of a call is resolved.
//!
//! The engine calls the client, the limiter and the reconciler; the sandbox is given the plain list of
//! [`catalog::Catalog::functions`]; preflight is given the [`rules`]. None of them sees the catalog.
#![forbid(unsafe_code)]

pub mod catalog;
pub mod client;
pub mod connect;
pub mod limiter;
pub mod reconcile;
pub mod rules;
pub mod wit;
