//! The `bellhop` program.
fn main() {}
