//! What the verbs that need no server work with: a sandbox, and the plugins, connections and tables that are at hand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bellhop_core::manifest::{self, Manifest};
use bellhop_core::preflight::{Plugin, Table};
use bellhop_core::requirement::{Connection, Grant, Rules};
use bellhop_slack::catalog::{self, Catalog};
use bellhop_slack::client::{self, Client};
use bellhop_slack::limiter::{self, Limiter};

use super::cache::Cache;
use super::files;
use super::output::{Exit, Failure, Out};
use super::{Context, runtime, shipped};
use crate::serve;
use bellhop_clock as clock;
use bellhop_engine::gateway::{Gateway, SlackClock};
use bellhop_engine::setup::connections::{Connections, Secrets};
use bellhop_engine::setup::definitions::Definitions;
use bellhop_engine::setup::plugins::{self, Plugins};
use bellhop_journal::{self as journal, Journal};
use bellhop_sandbox::expression::{Budget, Expressions};
use bellhop_sandbox::{self as sandbox, CompileMode, Inspection, Sandbox};

/// A plugin, looked at.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Where it came from, for people.
    pub(super) from: String,
    /// What its bytes say.
    pub(super) inspection: Inspection,
    /// What it says of itself.
    pub(super) manifest: Manifest,
    /// Imports that no action declares.
    pub(super) undeclared: Vec<String>,
    /// What was granted; where it is not installed, all that it declares, since nobody has said yet.
    pub(super) grants: Vec<Grant>,
}

/// What helps whose manifest is refused.
const MANIFEST_REMEDY: &str =
    "mend each at the place that it names, a JSON pointer into the manifest; then build again";

/// What is installed in a data directory that no host is using.
#[derive(Default)]
pub(super) struct Stored {
    pub(super) plugins: Vec<Seen>,
    pub(super) connections: Vec<Connection>,
    pub(super) tables: BTreeMap<String, Table>,
}

/// A sandbox without a host around it.
pub(super) struct Offline {
    pub(super) runtime: tokio::runtime::Runtime,
    pub(super) sandbox: Sandbox,
    pub(super) rules: Rules,
    data_dir: PathBuf,
    file_bytes_max: u64,
    out: Out,
    /// A temporary one ends with it.
    _cache: Cache,
}

impl Offline {
    /// Starts the sandbox. Compiled code is kept in the user's cache: the data directory may be one that somebody gave away.
    pub(super) fn start(context: &Context) -> Result<Self, Failure> {
        let settings = &context.settings;
        let cache = Cache::of_the_user()?;
        let program = serve::program()
            .map_err(|e| Failure::failed("no-program", format!("the program cannot find itself: {e}")))?;
        let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        let options = sandbox::Options {
            capabilities: format!("bellhop:slack@{}", bellhop_slack::wit::VERSION),
            functions: catalog::function_names().into_iter().map(str::to_owned).collect(),
            cache_dir: cache.path.clone(),
            limits: sandbox::Limits {
                concurrent_calls_max: 4,
                expression_instances_max: 4,
                guest_memory_bytes_max: size(settings.limits.guest_memory_bytes_max).max(64 << 20),
                component_bytes_max: size(settings.limits.plugin_bytes_max),
                compile_cpu_s_max: settings.limits.compile_cpu_ms_max.div_ceil(1_000),
                compile_memory_bytes_max: settings.limits.compile_memory_bytes_max,
                compiled_bytes_max: settings.limits.compiled_bytes_max,
                ..sandbox::Limits::default()
            },
            compile: CompileMode::Child { program },
        };
        Ok(Self {
            runtime: runtime()?,
            sandbox: Sandbox::new(options).map_err(|e| refused(&e))?,
            rules: bellhop_slack::rules::rules(Catalog::built_in()),
            data_dir: settings.data_dir.clone(),
            file_bytes_max: settings.limits.file_bytes_max,
            out: context.out,
            _cache: cache,
        })
    }

    /// The evaluator of expressions.
    pub(super) fn expressions(&self, cpu_ms_max: u64) -> Result<Expressions, Failure> {
        let budget = Budget { cpu_ms_max, ..Budget::default() };
        self.runtime.block_on(Expressions::load(&self.sandbox, budget)).map_err(|e| refused(&e))
    }

    /// Reads, inspects, describes and checks a plugin's file, as an installation would.
    pub(super) fn file(&self, path: &Path) -> Result<Seen, Failure> {
        let bytes = files::bytes(path, self.file_bytes_max)?;
        self.bytes(&bytes, &path.display().to_string())
    }

    /// The same with a component that is called `from`.
    pub(super) fn bytes(&self, bytes: &[u8], from: &str) -> Result<Seen, Failure> {
        self.look(bytes, from).map_err(|failure| Failure { message: format!("{from}: {}", failure.message), ..failure })
    }

    fn look(&self, bytes: &[u8], from: &str) -> Result<Seen, Failure> {
        let package = self.runtime.block_on(self.sandbox.prepare(bytes)).map_err(|e| refused(&e))?;
        let described = self.runtime.block_on(package.describe()).map_err(|e| refusal(&e))?;
        let inspection = package.inspection().clone();
        let checked = manifest::check(&described, &inspection.imports, &self.rules).map_err(|faults| {
            let many = if faults.len() == 1 { "a fault".to_owned() } else { format!("{} faults", faults.len()) };
            let failure = not_accepted(format!("the plugin's manifest is refused: it has {many}"), MANIFEST_REMEDY);
            failure.with_diagnostics(faults)
        })?;
        // Of a warning the import that it is about is shown in its place.
        let grants = manifest::declared(&checked.manifest, &self.rules);
        Ok(Seen::of(from.to_owned(), inspection, checked.manifest, grants))
    }

    /// The plugins to judge with: `given`, else those of the data directory, else those that come with the program or were
    /// built in the workspace.
    pub(super) fn plugins(&self, given: &[PathBuf], stored: &Stored) -> Result<Vec<Seen>, Failure> {
        if !given.is_empty() {
            return given.iter().map(|path| self.file(path)).collect();
        }
        if !stored.plugins.is_empty() {
            return Ok(stored.plugins.clone());
        }
        shipped::plugins().files.iter().map(|path| self.file(path)).collect()
    }

    /// What the data directory has. Where a host is using it, that is said and nothing of it is read.
    pub(super) fn stored(&self) -> Result<Stored, Failure> {
        let folder = self.data_dir.join("store");
        // Only looking makes no store: in an empty folder, and in one that is no store, nothing is begun.
        if !folder.join("format").is_file() {
            return Ok(Stored::default());
        }
        let inside = self.runtime.enter();
        let store = match journal::sled::Sled::open(&journal::sled::Options::new(&folder), Box::new(|_| {})) {
            Ok(store) => store,
            Err(error @ journal::sled::OpenError::InUse { .. }) => {
                self.out.note(&format!("note: {error}, so what is installed there is not looked at"));
                return Ok(Stored::default());
            }
            Err(error @ journal::sled::OpenError::OlderFormat { .. }) => return Err(older(error.to_string())),
            Err(error @ journal::sled::OpenError::NewerFormat { .. }) => return Err(newer(error.to_string())),
            Err(error) => return Err(Failure::storage(error.to_string()).with_help(error.remedy())),
        };
        let journal = Journal::new(Arc::new(store));
        drop(inside);
        // A verb reads one thing after the other, on the runtime that it has.
        let read = self.runtime.block_on(self.read(&journal));
        let closed = journal.close().map_err(|e| Failure::storage(e.to_string()));
        let stored = read?;
        closed.map(|()| stored)
    }

    async fn read(&self, journal: &Journal) -> Result<Stored, Failure> {
        let failed = |e: journal::Error| Failure::storage(e.to_string());
        let mut stored = Stored::default();
        let installed = Plugins::read(journal.clone(), self.sandbox.clone()).await.map_err(failed)?;
        for plugin in installed.all() {
            let plugins::Stored { inspection, manifest, .. } = plugin.stored.clone();
            let from = format!("{} {}, installed in {}", manifest.name, manifest.version, self.data_dir.display());
            stored.plugins.push(Seen::of(from, inspection, manifest, plugin.grants.to_vec()));
        }
        stored.connections = connections(journal).await?;
        let definitions = Definitions::new(journal.clone());
        for (name, _) in definitions.tables().await.map_err(failed)? {
            if let Some((_, table)) = definitions.table(&name).await.map_err(failed)? {
                stored.tables.insert(name, table);
            }
        }
        Ok(stored)
    }
}

/// The store is of a form that is no longer read.
pub(super) fn older(message: String) -> Failure {
    Failure { exit: Exit::Storage, ..Failure::failed("store-older", message) }.with_help(
        "begin anew in a folder that is not there yet, by --data-dir; the build that made this one still reads it",
    )
}

/// A stopped host's store that a verb cannot open.
pub(super) fn not_opened(error: &serve::Error) -> Failure {
    match error {
        serve::Error::OlderStore(_) => older(error.to_string()),
        serve::Error::NewerStore(_) => newer(error.to_string()),
        serve::Error::NotOpened(why) => Failure::storage(error.to_string()).with_help(why.remedy()),
        _ => Failure::storage(error.to_string()),
    }
}

/// A newer program made the store.
pub(super) fn newer(message: String) -> Failure {
    Failure { exit: Exit::Storage, ..Failure::failed("store-newer", message) }.with_help(
        "install the version that was here last, or a later one; a folder of this version's own is named by --data-dir",
    )
}

/// The facts of the connections that are kept. No token is read, and Slack is not asked.
async fn connections(journal: &Journal) -> Result<Vec<Connection>, Failure> {
    let client = Client::new(&client::Options::default())
        .map_err(|e| Failure::failed("no-client", format!("the HTTP client does not start: {e}")))?;
    let clock: Arc<dyn clock::Clock> = Arc::new(clock::System::new());
    let limiter = Limiter::new(limiter::Options::default(), SlackClock(clock));
    let gateway = Gateway::new(client, limiter);
    let read = Connections::read(journal.clone(), Secrets::nowhere(), &gateway).await;
    read.map_err(|e| Failure::storage(e.to_string()))?;
    Ok(gateway.connections().iter().map(|connected| connected.facts.clone()).collect())
}

impl Seen {
    fn of(from: String, inspection: Inspection, manifest: Manifest, grants: Vec<Grant>) -> Self {
        let undeclared = manifest.undeclared(&inspection.imports).into_iter().map(str::to_owned).collect();
        Self { from, inspection, manifest, undeclared, grants }
    }

    /// As preflight wants it.
    pub(super) fn plugin(&self) -> Plugin {
        Plugin { manifest: Arc::new(self.manifest.clone()), grants: self.grants.clone().into() }
    }
}

/// Where whoever calls has cargo put its files, if anywhere else than usual.
pub(super) fn target_dir() -> Option<PathBuf> {
    let named = ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"].into_iter().find_map(std::env::var_os);
    named.filter(|target| !target.is_empty()).map(PathBuf::from)
}

/// The sandbox's errors as ends of the program.
pub(super) fn refused(error: &sandbox::Error) -> Failure {
    match error {
        sandbox::Error::Refused(why) => refusal(why),
        sandbox::Error::Busy(_) => {
            Failure::failed("sandbox-unavailable", error.to_string()).with_help("call it again in a minute")
        }
        sandbox::Error::Unavailable(_) => Failure::failed("sandbox-unavailable", error.to_string()),
    }
}

/// A plugin that no host would take.
pub(super) fn refusal(error: &sandbox::Refusal) -> Failure {
    not_accepted(error.to_string(), error.remedy())
}

fn not_accepted(message: String, remedy: &str) -> Failure {
    Failure { exit: Exit::Diagnostics, ..Failure::failed("plugin-refused", message) }.with_help(remedy)
}
