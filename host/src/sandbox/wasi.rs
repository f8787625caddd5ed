//! The empty WASI 0.2, for toolchains that insist on one.
//!
//! It has a clock that stands still, randomness that is the same each time, and nothing else.

use wasmtime::component::{Component, Linker};

use super::instance::{Context, State};

/// The interfaces that a plugin may import besides the capabilities; of each, version 0.2. Sorted.
pub const WASI_INTERFACES: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// What one call sees.
pub(super) struct World {
    context: Context,
}

impl World {
    pub(super) fn new(context: Context) -> Self {
        Self { context }
    }
}

/// `base` and what the component imports of WASI.
pub(super) fn linker(base: &Linker<State>, component: &Component) -> wasmtime::Result<Linker<State>> {
    let mut linker = base.clone();
    linker.define_unknown_imports_as_traps(component)?;
    Ok(linker)
}
