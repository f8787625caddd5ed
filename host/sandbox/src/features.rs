//! What of WebAssembly this host runs, and what a plugin uses beyond it.

use wasmparser::{Validator, WasmFeatures};

/// What the engine runs, as [`super::engine::code`] sets it up; a test compares the two.
pub(super) const RUN: WasmFeatures = WasmFeatures::WASM3
    .union(WasmFeatures::COMPONENT_MODEL)
    .difference(WasmFeatures::GC_TYPES)
    .difference(WasmFeatures::EXCEPTIONS)
    .difference(WasmFeatures::THREADS)
    .difference(WasmFeatures::MEMORY64);

/// Something of WebAssembly that this host does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsupported {
    /// What it is called.
    pub name: &'static str,
    /// How a plugin comes to be without it.
    pub remedy: &'static str,
}

/// What there is beyond [`RUN`]. Of what comes later, more is part of what comes before: a plugin that uses objects
/// with a collector uses their references as well.
const BEYOND: &[(WasmFeatures, Unsupported)] = &[
    (
        WasmFeatures::EXCEPTIONS.union(WasmFeatures::LEGACY_EXCEPTIONS),
        Unsupported {
            name: "exceptions",
            remedy: "compile it without them: `panic = \"abort\"` in Rust, `-fno-exceptions` and no `-fwasm-exceptions` in C and C++",
        },
    ),
    (
        WasmFeatures::THREADS.union(WasmFeatures::SHARED_EVERYTHING_THREADS).union(WasmFeatures::CM_THREADING),
        Unsupported {
            name: "threads, or memory shared between them",
            remedy: "compile it for one thread: without `-pthread`, `+atomics` and shared memory; what can be done side by side is several tasks of a workflow",
        },
    ),
    (
        WasmFeatures::MEMORY64.union(WasmFeatures::CM64),
        Unsupported { name: "64-bit memories", remedy: "compile it for wasm32, whose addresses have 32 bits" },
    ),
    (
        WasmFeatures::STACK_SWITCHING,
        Unsupported {
            name: "stack switching",
            remedy: "compile it without: a plugin's calls are synchronous, so nothing has to be switched",
        },
    ),
    (
        WasmFeatures::CM_ASYNC
            .union(WasmFeatures::CM_ASYNC_STACKFUL)
            .union(WasmFeatures::CM_MORE_ASYNC_BUILTINS)
            .union(WasmFeatures::CM_ERROR_CONTEXT),
        Unsupported {
            name: "asynchronous functions of the component model",
            remedy: "build it with synchronous bindings for WASI 0.2: `describe` and `run` are plain functions",
        },
    ),
    (
        WasmFeatures::GC_TYPES.union(WasmFeatures::CM_GC).union(WasmFeatures::CUSTOM_DESCRIPTORS),
        Unsupported {
            name: "references to garbage-collected objects",
            remedy: "use a compiler that keeps its objects in linear memory (Rust, C, Go, JavaScript and Python do); this host collects nothing",
        },
    ),
    (
        WasmFeatures::CUSTOM_PAGE_SIZES,
        Unsupported { name: "pages of another size", remedy: "compile it with pages of 64 KiB, which are the default" },
    ),
    (
        WasmFeatures::WIDE_ARITHMETIC,
        Unsupported { name: "128-bit arithmetic", remedy: "compile it without `+wide-arithmetic`" },
    ),
];

const OTHER: Unsupported = Unsupported {
    name: "proposals of WebAssembly that this host does not run",
    remedy: "compile it for WebAssembly 2.0 and the component model of WASI 0.2",
};

/// What the component in `bytes`, which is not valid for [`RUN`], uses beyond it; nothing, where it is valid nowhere.
pub(super) fn used(bytes: &[u8]) -> Vec<Unsupported> {
    let is_valid_with = |features| Validator::new_with_features(features).validate_all(bytes).is_ok();
    if !is_valid_with(WasmFeatures::all()) {
        return Vec::new();
    }
    let needed = BEYOND.iter().filter(|(features, _)| !is_valid_with(WasmFeatures::all().difference(*features)));
    let used: Vec<Unsupported> = needed.map(|(_, unsupported)| *unsupported).collect();
    if used.is_empty() { vec![OTHER] } else { used }
}
