//! What a plugin is, read from its bytes before anything of it runs or is compiled.

use std::collections::BTreeSet;
use std::fmt;

use bellhop_core::digest::Digest;
use serde::{Deserialize, Serialize};
use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::TypesRef;
use wasmparser::{ComponentExternalKind, Parser, Payload, Validator};
use wasmtime::{Engine, Precompiled};

use super::bindings::{ACTIONS_INTERFACE, LOG_INTERFACE};
use super::{Error, wasi};

/// What a plugin is and can ever ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Inspection {
    /// Of the bytes.
    pub digest: Digest,
    /// In bytes.
    pub size: usize,
    /// The capability functions that it imports (`chat.post-message`), sorted. The component toolchain keeps
    /// only what the code can reach, so this is everything that the plugin can ever call.
    pub imports: Vec<String>,
    /// The WASI interfaces that it imports, without version, sorted. What they give is nothing: see [`wasi::WASI_INTERFACES`].
    pub wasi: Vec<String>,
    /// What it exports, with versions, sorted.
    pub exports: Vec<String>,
    /// Whether it can write to the log.
    pub logs: bool,
}

/// Why a plugin is not accepted. None of these goes away by trying again.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Neither a component nor anything else that is known.
    #[error("this is not a WebAssembly component: {detail}")]
    NotAComponent {
        /// What the parser says.
        detail: String,
    },
    /// A core module: the last step of building is missing.
    #[error("this is a core WebAssembly module, not a component: build it with `bellhop plugin build`")]
    CoreModule,
    /// Machine code. The host compiles plugins itself, since native code from elsewhere cannot be held.
    #[error("this is native code made by wasmtime; a plugin is installed as a WebAssembly component")]
    NativeCode,
    /// Larger than a plugin may be.
    #[error("the plugin has {size} bytes, the most is {max}")]
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
    /// An import or export has another type than the interface says, or the component needs more than a slot has.
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
    #[error("the plugin's description is not JSON: {detail}")]
    DescriptionNotJson {
        /// What the parser says.
        detail: String,
    },
    /// `describe` answered differently the second time.
    #[error("the plugin describes itself differently each time, so it is no function of its input")]
    DescriptionUnstable,
}

impl Refusal {
    /// What whoever writes the plugin can do.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::NotAComponent { .. } | Self::CoreModule | Self::NativeCode => {
                "build it: bellhop plugin build DIR, and name the .wasm file that this prints"
            }
            Self::TooLarge { .. } => "make it smaller, or raise `plugin_bytes_max` in bellhop.toml",
            Self::ForbiddenImport { .. } => {
                "use only what wit/ has: a plugin reaches nothing but Slack, through the host"
            }
            Self::NewerInterface { .. } => "install a newer bellhop, or build the plugin with an older SDK",
            Self::MissingExport { .. } => "build it for the world `bellhop:action/plugin`: bellhop plugin build DIR",
            Self::Mismatch { .. } => "build it with the SDK of this host's version: bellhop plugin build DIR",
            Self::Compile { .. } => "make it smaller: it is compiled within limits of time and memory",
            Self::Describe { .. } => "answer `describe` from what is in the program, without any call, within a second",
            Self::DescriptionNotJson { .. } => "answer `describe` with the manifest as JSON",
            Self::DescriptionUnstable => "answer `describe` from what is in the program alone",
        }
    }
}

/// What plugins may import.
pub(super) struct Rules {
    package: String,
    version: Version,
    functions: BTreeSet<String>,
    interfaces: BTreeSet<String>,
    size_max: usize,
}

/// A released version; plugins are not built against anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    major: u64,
    minor: u64,
    patch: u64,
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.').map(|part| part.parse().ok());
        let version = Self { major: parts.next()??, minor: parts.next()??, patch: parts.next()?? };
        parts.next().is_none().then_some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// `namespace:package/interface@version`, taken apart.
struct Name<'a> {
    package: &'a str,
    interface: &'a str,
    version: Option<Version>,
}

impl<'a> Name<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (path, version) = match text.split_once('@') {
            Some((path, version)) => (path, Some(Version::parse(version)?)),
            None => (text, None),
        };
        let (package, interface) = path.split_once('/')?;
        Some(Self { package, interface, version })
    }
}

impl Rules {
    pub(super) fn new(capabilities: &str, functions: &[String], size_max: usize) -> Result<Self, Error> {
        let (package, version) = capabilities
            .split_once('@')
            .and_then(|(package, version)| Some((package, Version::parse(version)?)))
            .ok_or_else(|| Error::Unavailable(format!("`{capabilities}` is not of the form package@version")))?;
        Ok(Self {
            package: package.to_owned(),
            version,
            interfaces: functions.iter().filter_map(|name| Some(name.split_once('.')?.0.to_owned())).collect(),
            functions: functions.iter().cloned().collect(),
            size_max,
        })
    }

    pub(super) fn inspect(&self, bytes: &[u8]) -> Result<Inspection, Refusal> {
        if bytes.len() > self.size_max {
            return Err(Refusal::TooLarge { size: bytes.len(), max: self.size_max });
        }
        match Engine::detect_precompiled(bytes) {
            Some(Precompiled::Component | Precompiled::Module) => return Err(Refusal::NativeCode),
            None => {}
        }
        if Parser::is_core_wasm(bytes) {
            return Err(Refusal::CoreModule);
        }
        // The parser shows bytes in many lines.
        let not_a_component = |e: wasmparser::BinaryReaderError| Refusal::NotAComponent {
            detail: e.to_string().split(" - expected").next().unwrap_or_default().to_owned(),
        };
        // Validation comes first: what follows relies on a component that is one.
        let types = Validator::new().validate_all(bytes).map_err(not_a_component)?;
        let mut found = Found::default();
        let mut depth = 0_u32;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(not_a_component)? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        let name = import.map_err(not_a_component)?.name.name;
                        self.import(name, types.as_ref(), &mut found)?;
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        let export = export.map_err(not_a_component)?;
                        if export.kind == ComponentExternalKind::Instance || export.kind == ComponentExternalKind::Func
                        {
                            found.exports.insert(export.name.name.to_owned());
                        }
                    }
                }
                _ => {}
            }
        }
        if !found.exports.iter().any(|export| same_major(export, ACTIONS_INTERFACE)) {
            return Err(Refusal::MissingExport { export: ACTIONS_INTERFACE.to_owned() });
        }
        Ok(Inspection {
            digest: Digest::of(bytes),
            size: bytes.len(),
            imports: found.imports.into_iter().collect(),
            wasi: found.wasi.into_iter().collect(),
            exports: found.exports.into_iter().collect(),
            logs: found.logs,
        })
    }

    fn import(&self, import: &str, types: TypesRef<'_>, found: &mut Found) -> Result<(), Refusal> {
        let forbidden = |why: &str| Refusal::ForbiddenImport { import: import.to_owned(), why: why.to_owned() };
        let functions = match types.component_item_for_import(import).map(|item| item.ty) {
            Some(ComponentEntityType::Instance(id)) => &types[id].exports,
            // `use` of a type from an interface; the interface itself is an import of its own.
            Some(ComponentEntityType::Type { .. }) => return Ok(()),
            _ => return Err(forbidden("only interfaces can be imported")),
        };
        let name = Name::parse(import).ok_or_else(|| forbidden("it is no interface of a released package"))?;
        if name.package == self.package {
            return self.capability(import, &name, functions, found);
        }
        let log = Name::parse(LOG_INTERFACE).ok_or_else(|| forbidden("the host has no log"))?;
        if name.package == log.package {
            if name.interface != log.interface {
                return Err(forbidden("of that package only `log` can be imported"));
            }
            self.not_newer(import, &name, log.version.unwrap_or(self.version))?;
            found.logs = true;
            return Ok(());
        }
        let path = import.split_once('@').map_or(import, |(path, _)| path);
        let preview_2 = name.version.is_some_and(|version| version.major == 0 && version.minor == 2);
        if wasi::WASI_INTERFACES.contains(&path) && preview_2 {
            found.wasi.insert(path.to_owned());
            return Ok(());
        }
        if name.package.starts_with("wasi:") {
            return Err(forbidden(
                "plugins reach the world through capabilities alone; of WASI 0.2 there is an empty form of a few interfaces",
            ));
        }
        Err(forbidden(&format!("plugins import functions of `{}` and the log", self.package)))
    }

    fn capability<'a, T: 'a>(
        &self,
        import: &str,
        name: &Name<'_>,
        functions: impl IntoIterator<Item = (&'a String, T)>,
        found: &mut Found,
    ) -> Result<(), Refusal> {
        self.not_newer(import, name, self.version)?;
        for (function, _) in functions {
            let full = format!("{}.{function}", name.interface);
            if !self.functions.contains(&full) {
                let why = if self.interfaces.contains(name.interface) {
                    format!("`{}@{}` has no `{full}`", self.package, self.version)
                } else {
                    format!("`{}@{}` has no interface `{}`", self.package, self.version, name.interface)
                };
                return Err(Refusal::ForbiddenImport { import: format!("{import}#{function}"), why });
            }
            found.imports.insert(full);
        }
        Ok(())
    }

    /// A newer minor has functions that this host does not have; another major is another interface.
    fn not_newer(&self, import: &str, name: &Name<'_>, ours: Version) -> Result<(), Refusal> {
        let theirs = name.version.unwrap_or(ours);
        if theirs.major == ours.major && theirs.minor <= ours.minor {
            return Ok(());
        }
        if theirs.major < ours.major {
            return Err(Refusal::ForbiddenImport {
                import: import.to_owned(),
                why: format!("this host has {}@{ours}: build the plugin anew", name.package),
            });
        }
        Err(Refusal::NewerInterface {
            import: import.to_owned(),
            package: name.package.to_owned(),
            version: ours.to_string(),
        })
    }
}

#[derive(Default)]
struct Found {
    imports: BTreeSet<String>,
    wasi: BTreeSet<String>,
    exports: BTreeSet<String>,
    logs: bool,
}

fn same_major(export: &str, ours: &str) -> bool {
    match (Name::parse(export), Name::parse(ours)) {
        (Some(theirs), Some(ours)) => {
            theirs.package == ours.package
                && theirs.interface == ours.interface
                && theirs.version.map(|v| v.major) == ours.version.map(|v| v.major)
        }
        _ => false,
    }
}
