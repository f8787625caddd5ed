//! What a plugin is, read from its bytes before anything of it runs or is compiled.

use std::collections::BTreeSet;
use std::fmt;

use bellhop_core::digest::Digest;
use bellhop_core::text::plain;
use serde::{Deserialize, Serialize};
use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::TypesRef;
use wasmparser::{ComponentExternalKind, Parser, Payload, Validator};
use wasmtime::{Engine, Precompiled};

use super::bindings::{ACTIONS_INTERFACE, LOG_INTERFACE};
use super::refusal::{self, Refusal};
use super::shape::{self, Shape};
use super::{Error, Limits, engine, features, wasi};

/// What a plugin is and can ever ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Inspection {
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
    /// The most that all of its memories together can grow to by their own declaration; none where there is no such
    /// bound, or none that could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes_max: Option<u64>,
}

/// Instances of components in a plugin. A toolchain makes one for each interface that is exported; compiling takes as long
/// as there are many.
const COMPONENT_INSTANCES_MAX: u32 = 1_000;

/// What plugins may import.
pub(super) struct Rules {
    package: String,
    version: Version,
    functions: BTreeSet<String>,
    interfaces: BTreeSet<String>,
    size_max: usize,
    memory_bytes_max: u64,
    table_elements_max: u64,
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
    pub(super) fn new(capabilities: &str, functions: &[String], limits: &Limits) -> Result<Self, Error> {
        let (package, version) = capabilities
            .split_once('@')
            .and_then(|(package, version)| Some((package, Version::parse(version)?)))
            .ok_or_else(|| Error::Unavailable(format!("`{capabilities}` is not of the form package@version")))?;
        Ok(Self {
            package: package.to_owned(),
            version,
            interfaces: functions.iter().filter_map(|name| Some(name.split_once('.')?.0.to_owned())).collect(),
            functions: functions.iter().cloned().collect(),
            size_max: limits.component_bytes_max,
            memory_bytes_max: limits.guest_memory_bytes_max as u64,
            table_elements_max: limits.table_elements_max as u64,
        })
    }

    pub(super) fn inspect(&self, digest: Digest, bytes: &[u8]) -> Result<Inspection, Refusal> {
        if bytes.len() > self.size_max {
            return Err(Refusal::TooLarge { size: bytes.len(), max: self.size_max });
        }
        match Engine::detect_precompiled(bytes) {
            Some(Precompiled::Component | Precompiled::Module) => return Err(Refusal::NativeCode),
            None => {}
        }
        if Parser::is_core_wasm(bytes) {
            return Err(Refusal::CoreModule { made: refusal::Made::of(&shape::import_modules(bytes)) });
        }
        // The parser shows bytes in many lines.
        let not_a_component = |e: wasmparser::BinaryReaderError| Refusal::NotAComponent {
            detail: plain(e.to_string().split(" - expected").next().unwrap_or_default()).into_owned(),
        };
        // Validation comes first: what follows relies on a component that is one.
        let types = match Validator::new_with_features(features::RUN).validate_all(bytes) {
            Ok(types) => types,
            Err(error) => {
                let used = features::used(bytes);
                return Err(if used.is_empty() { not_a_component(error) } else { Refusal::Unsupported { used } });
            }
        };
        let shape = shape::of(bytes).map_err(not_a_component)?;
        if let Some(shape) = &shape {
            self.measure(shape)?;
        }
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
            digest,
            size: bytes.len(),
            imports: found.imports.into_iter().collect(),
            wasi: found.wasi.into_iter().collect(),
            exports: found.exports.into_iter().collect(),
            logs: found.logs,
            memory_bytes_max: shape.and_then(|shape| shape.memory_bytes_max),
        })
    }

    /// Whether a guest of this shape has room here.
    fn measure(&self, shape: &Shape) -> Result<(), Refusal> {
        for (what, has, max) in [
            ("instances of components", shape.component_instances, COMPONENT_INSTANCES_MAX),
            ("core instances", shape.core_instances, engine::CORE_INSTANCES_MAX),
            ("memories", shape.memories, engine::MEMORIES_MAX),
            ("tables", shape.tables, engine::TABLES_MAX),
        ] {
            if has > u64::from(max) {
                return Err(Refusal::TooMany { what, has, max });
            }
        }
        if shape.memory_bytes > self.memory_bytes_max {
            return Err(Refusal::Memory { bytes: shape.memory_bytes, max: self.memory_bytes_max });
        }
        if shape.table_elements > self.table_elements_max {
            return Err(Refusal::Table { elements: shape.table_elements, max: self.table_elements_max });
        }
        Ok(())
    }

    fn import(&self, import: &str, types: TypesRef<'_>, found: &mut Found) -> Result<(), Refusal> {
        let forbidden =
            |why: &str| Refusal::ForbiddenImport { import: plain(import).into_owned(), why: why.to_owned() };
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
            let known = wasi::WASI_INTERFACES.contains(&path);
            return Err(forbidden(if known {
                "of WASI there is an empty form of 0.2, and of no other version"
            } else {
                "plugins reach the world through capabilities alone; of WASI 0.2 there is an empty form of a few interfaces"
            }));
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
                return Err(Refusal::ForbiddenImport {
                    import: plain(&format!("{import}#{function}")).into_owned(),
                    why,
                });
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
                import: plain(import).into_owned(),
                why: format!("this host has {}@{ours}: build the plugin anew", name.package),
            });
        }
        Err(Refusal::NewerInterface {
            import: plain(import).into_owned(),
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
