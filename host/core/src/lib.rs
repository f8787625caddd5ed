//! What a run *is*: definitions, expressions, the run's state machine, preflight.
//!
//! Nothing here does I/O, reads a clock, draws randomness or knows of Slack,
//! wasm or HTTP. Time and entropy come in as arguments, expressions are evaluated
//! behind [`expression::Evaluator`], and facts about a provider's methods come in
//! as [`requirement::Rules`].
#![forbid(unsafe_code)]

pub mod backoff;
pub mod cost;
pub mod definition;
pub mod diagnostic;
pub mod digest;
pub mod encoding;
pub mod expression;
pub mod fault;
pub mod id;
pub mod json;
pub mod manifest;
pub mod mask;
pub mod pointer;
pub mod preflight;
pub mod requirement;
pub mod run;
pub mod schema;
pub mod text;
pub mod time;
pub mod value;
