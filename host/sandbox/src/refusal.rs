//! Why a plugin is not accepted, and what would do.

use super::features::Unsupported;

/// Why a plugin is not accepted. None of these goes away by trying again.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Neither a component nor anything else that is known.
    #[error("this is not a WebAssembly component: {detail}")]
    NotAComponent {
        /// What is wrong.
        detail: String,
    },
    /// A core module: the last step of building is missing.
    #[error("this is a core WebAssembly module, not a component{}", made.said())]
    CoreModule {
        /// For what it was made.
        made: Made,
    },
    /// It uses what this host does not run.
    #[error("the plugin uses {}, which this host does not run", used.iter().map(|u| u.name).collect::<Vec<_>>().join(", and "))]
    Unsupported {
        /// At least one.
        used: Vec<Unsupported>,
    },
    /// It has more of something than an instance may have.
    #[error("the plugin has {has} {what}, the most is {max}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        has: u64,
        /// The limit.
        max: u32,
    },
    /// Its memories are larger at their start than they may ever be.
    #[error("the plugin's memories have {bytes} bytes when it starts, the most is {max} (`guest_memory_bytes_max`)")]
    Memory {
        /// Together.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// A table is larger at its start than it may ever be.
    #[error("a table of the plugin has {elements} elements when it starts, the most is {max}")]
    Table {
        /// Of the largest.
        elements: u64,
        /// The limit.
        max: u64,
    },
    /// Machine code. The host compiles plugins itself, since native code from elsewhere cannot be held.
    #[error("this is native code made by wasmtime; a plugin is installed as a WebAssembly component")]
    NativeCode,
    /// Larger than a plugin may be.
    #[error("the plugin has {size} bytes, the most is {max} (`plugin_bytes_max`)")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// It imports what no plugin is given.
    #[error("the plugin imports `{import}`, which no plugin is given: {why}")]
    ForbiddenImport {
        /// As the binary has it.
        import: String,
        /// What would do.
        why: String,
    },
    /// It was built for a newer host.
    #[error("the plugin imports `{import}`, but this host has {package}@{version}: it needs a newer host")]
    NewerInterface {
        /// As the binary has it.
        import: String,
        /// The package, without version.
        package: String,
        /// The version that this host has.
        version: String,
    },
    /// It does not export what a plugin exports.
    #[error("the plugin does not export `{export}`")]
    MissingExport {
        /// The interface.
        export: String,
    },
    /// An import or export has another type than the interface says.
    #[error("the plugin does not fit this host: {detail}")]
    Mismatch {
        /// What wasmtime says.
        detail: String,
    },
    /// It could not be compiled, or not within the limits for it.
    #[error("the plugin cannot be compiled: {detail}")]
    Compile {
        /// What the compiler says.
        detail: String,
    },
    /// `describe` gave no answer.
    #[error("the plugin does not describe itself: {trap}")]
    Describe {
        /// How it ended.
        trap: super::Trap,
    },
    /// `describe` answered something that is no JSON.
    #[error("the plugin's description cannot be read: {detail}")]
    DescriptionNotJson {
        /// What the parser says.
        detail: String,
    },
    /// `describe` answered something that two readers would not read alike.
    #[error("the plugin's description, at `{pointer}`: {what}")]
    DescriptionDoubtful {
        /// Where.
        pointer: String,
        /// What it is.
        what: &'static str,
    },
    /// `describe` answered differently the second time.
    #[error("the plugin describes itself differently each time, so it is no function of its input")]
    DescriptionUnstable,
}

impl Refusal {
    /// What whoever writes the plugin can do.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotAComponent { .. } | Self::NativeCode => {
                "build it: bellhop plugin build DIR, and name the .wasm file that this prints"
            }
            Self::CoreModule { made } => made.remedy(),
            Self::Unsupported { used } => used.first().map_or("compile it for WebAssembly 2.0", |first| first.remedy),
            Self::TooMany { .. } => {
                "make one program of it: a component that is composed of several has the instances of all of them"
            }
            Self::Memory { .. } => {
                "give it a smaller memory to start with (`--initial-memory` of the linker, less static data), or raise `guest_memory_bytes_max` in bellhop.toml"
            }
            Self::Table { .. } => "make it smaller: a table has an element for each function whose address is taken",
            Self::TooLarge { .. } => {
                "make it smaller: compile it for size, and leave out debug information and what it does not use"
            }
            Self::ForbiddenImport { import, .. } => foreign(import),
            Self::NewerInterface { .. } => "install a newer bellhop, or build the plugin with an older SDK",
            Self::MissingExport { .. } => "build it for the world `bellhop:action/plugin`: bellhop plugin build DIR",
            Self::Mismatch { detail } if detail.contains("exceeds the") => {
                "make one program of it: it needs more than an instance may have"
            }
            Self::Mismatch { .. } => "build it with the SDK of this host's version: bellhop plugin build DIR",
            Self::Compile { .. } => {
                "split its largest functions, compile it for size, or leave out what it does not use: it is compiled within limits of time and memory"
            }
            Self::Describe { .. } => "answer `describe` from what is in the program, without any call, within a second",
            Self::DescriptionNotJson { .. } => "answer `describe` with the manifest as JSON",
            Self::DescriptionDoubtful { .. } => {
                "answer `describe` with JSON that everybody reads alike: each key once, no number or character that is none"
            }
            Self::DescriptionUnstable => "answer `describe` from what is in the program alone",
        }
    }
}

/// What an import of somebody else's asks for, and how a plugin comes to be without it.
fn foreign(import: &str) -> &'static str {
    if import.starts_with("wasi:http/") {
        return "reach nothing but Slack, through the host; of tools that import it unasked: componentize-js is to be given `--disable http fetch-event`, and in Rust and Python the library that speaks HTTP is to be left out";
    }
    if import.starts_with("wasi:") && import.contains("@0.3") {
        return "build it for WASI 0.2 (`wasm32-wasip2`), or for no WASI at all";
    }
    if import.starts_with("wasi:") {
        return "leave it out: a plugin reaches nothing but Slack, through the host; a toolchain that imports it unasked has a way to do without (componentize-js: `--disable stdio random clocks http fetch-event`)";
    }
    "use only what wit/ has: a plugin reaches nothing but Slack, through the host"
}

/// For what a core module was made, as its imports say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// A component that it has not become yet, or nothing that can be told.
    Plain,
    /// WASI 0.1.
    Preview1,
    /// JavaScript around it.
    Bindgen,
    /// JavaScript around it, by Emscripten.
    Emscripten,
}

impl Made {
    /// By the modules that it imports from.
    pub(super) fn of(modules: &[String]) -> Self {
        let any = |start: &str| modules.iter().any(|module| module.starts_with(start));
        if any("__wbindgen") || any("wbg") {
            Self::Bindgen
        } else if any("wasi_snapshot_preview1") || any("wasi_unstable") {
            Self::Preview1
        } else if any("env") || modules == ["a"] {
            Self::Emscripten
        } else {
            Self::Plain
        }
    }

    fn said(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Preview1 => ", made for WASI preview 1 (it imports `wasi_snapshot_preview1`)",
            Self::Bindgen => {
                ", made for JavaScript by wasm-bindgen (it imports `__wbindgen_placeholder__` or its like)"
            }
            Self::Emscripten => ", which imports from `env`: it expects JavaScript or a linker around it",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Plain => "build it: bellhop plugin build DIR, and name the .wasm file that this prints",
            Self::Preview1 => {
                "build a component: bellhop plugin build DIR does in Rust; elsewhere compile for `wasm32-wasip2`, or make one with `wasm-tools component new --adapt wasi_snapshot_preview1.reactor.wasm`"
            }
            Self::Bindgen => {
                "leave out the crate that uses wasm-bindgen, or its feature (`wasmbind` of chrono, `js` of getrandom and uuid, reqwest itself): there is no JavaScript here; then bellhop plugin build DIR"
            }
            Self::Emscripten => {
                "link it without undefined symbols, for `wasm32-unknown-unknown` or `wasm32-wasip2`, and make a component of it: bellhop plugin build DIR does in Rust"
            }
        }
    }
}
