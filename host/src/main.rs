//! The `bellhop` program.
#![deny(unsafe_code)]

mod api;
mod cli;
mod clock;
mod engine;
mod journal;
mod limits;
#[allow(dead_code, unreachable_pub, unused_imports, reason = "used as the engine and the command line come to call it")]
mod sandbox;
mod serve;
#[allow(dead_code, unreachable_pub, unused_imports, reason = "used by the command line's `plugin build`")]
mod toolchain;

fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|verb| verb == sandbox::COMPILE_VERB) {
        return sandbox::compile_as_child(arguments);
    }
    cli::main(std::env::args_os())
}
