//! Evaluates the jq programs of workflow definitions, as a component without any import.
//!
//! jq programs come from strangers and jaq, which evaluates them, can neither be interrupted nor does it survive deep
//! recursion. So it runs as a guest: a program that takes too much time, memory or stack ends in a trap of the guest,
//! and the host throws the instance away. Nothing here tries to prevent that.
//!
//! What a program can do is decided in [`mod@library`]: an allow-list of functions, none of which reads a clock, an
//! environment or anything else than its input and the given variables, and the helpers `keep`, `until`, `workdays`
//! and `table`. What can be said of a program without evaluating it is decided in [`mod@inspect`].

#![cfg_attr(not(target_arch = "wasm32"), forbid(unsafe_code))]
#![cfg_attr(target_arch = "wasm32", deny(unsafe_code))]

pub mod inspect;
pub mod library;

mod error;
mod output;
mod program;
mod tables;

#[cfg(target_arch = "wasm32")]
mod guest;

pub use error::Error;
pub use program::{Programs, limits};
