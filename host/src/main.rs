//! The `bellhop` program.
#![forbid(unsafe_code)]
// What is printed is checked, in one place: `cli/output.rs`, and for a host `serve/lines.rs`.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod cli;
mod serve;

use bellhop_sandbox as sandbox;

/// A fifth of a run's time went to the system's allocator; `host/docs/decisions.md` has the figures.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|verb| verb == sandbox::COMPILE_VERB) {
        return sandbox::compile_as_child(arguments);
    }
    cli::main(std::env::args_os())
}
