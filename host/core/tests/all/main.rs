//! The core from outside, in one program: nine of them would each have the validator of schemas compiled anew.

mod definition;
mod definition_fuzz;
mod expressions;
mod jaq;
mod known_error;
mod manifest;
mod preflight;
mod run;
mod schema;
mod schema_cost;
