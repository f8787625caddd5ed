//! The `bellhop` program.
#![forbid(unsafe_code)]

#[allow(dead_code, reason = "the engine, which reads it, is not merged yet")]
mod clock;
#[allow(dead_code, unused_imports, reason = "the engine, which writes it, is not merged yet")]
mod journal;

fn main() {}
