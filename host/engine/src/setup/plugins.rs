//! Installed plugins: components, manifests, grants.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use bellhop_core::definition::ActionReference;
use bellhop_core::digest::Digest;
use bellhop_core::manifest::Manifest;
use bellhop_core::preflight::{Plugin, Plugins as Known};
use bellhop_core::requirement::Grant;
use bellhop_core::run::Action;
use bellhop_core::schema::Together;
use bellhop_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use bellhop_journal::{self as journal, Journal, Write, key};
use bellhop_sandbox::{self as sandbox, Inspection, Package, Sandbox};

mod granting;
mod install;
mod remove;

pub use granting::{Change, GrantError};
pub use install::{InstallError, Order, Replace, Wanted};
pub use remove::Uses;

/// An installed plugin as stored. The component is a blob.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// What was read from its binary: a start does not read it again.
    pub inspection: Inspection,
    /// What it says of itself.
    pub manifest: Manifest,
    /// When.
    pub installed_at: Timestamp,
    /// When it was removed, or another publisher took its name. Nothing new can call it; what runs pin of it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_at: Option<Timestamp>,
}

/// One installed version.
pub struct Installed {
    /// As stored.
    pub stored: Stored,
    /// What the operator granted.
    pub grants: Arc<[Grant]>,
    /// Of those, as they are kept: what runs pin.
    pub granted: Digest,
    /// Its actions, with their schemas compiled.
    pub actions: BTreeMap<String, Arc<Action>>,
}

/// What runs a plugin's actions.
#[derive(Clone)]
pub enum Guest {
    /// Its component.
    Component(Package),
    /// A simulation's stand-in for one.
    #[cfg(test)]
    Script(Arc<dyn Script>),
}

/// Runs actions as a component would, without one.
#[cfg(test)]
pub trait Script: Send + Sync {
    /// As [`Package::run`].
    fn run(
        &self,
        action: &str,
        input: &str,
        host: Box<dyn sandbox::Host>,
    ) -> futures_util::future::BoxFuture<'static, Result<Result<String, String>, sandbox::Trap>>;
}

impl Guest {
    /// As [`Package::run`].
    pub async fn run(
        &self,
        call: sandbox::Call<'_>,
        host: impl sandbox::Host + 'static,
    ) -> Result<Result<String, String>, sandbox::Trap> {
        match self {
            Self::Component(package) => package.run(call, host).await,
            #[cfg(test)]
            Self::Script(script) => script.run(call.action, call.input, Box::new(host)).await,
        }
    }
}

/// What is installed. Preflight's view of it is kept ready.
pub struct Plugins {
    journal: Journal,
    sandbox: Sandbox,
    inner: RwLock<Inner>,
    /// One change at a time: what is checked of a name holds when it is written.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Inner {
    by_digest: HashMap<Digest, Arc<Installed>>,
    by_version: BTreeMap<(String, String), Digest>,
    packages: HashMap<Digest, Guest>,
    /// Grants that open runs pin, and those in force.
    grants: HashMap<Digest, Arc<[Grant]>>,
    known: Arc<Known>,
}

impl Plugins {
    /// Reads what is installed. Nothing is compiled or instantiated until it is called.
    pub async fn read(journal: Journal, sandbox: Sandbox) -> Result<Self, journal::Error> {
        let mut inner = Inner::default();
        for (stored, granted) in on_record(&journal).await? {
            let Some(installed) = compile_or_leave_out(stored, granted) else { continue };
            if journal::damaged_is_none(journal.blob(installed.granted).await)?.is_none() {
                // Of a version that did not pin them.
                let mut write = Write::new();
                write.blob(&kept(&installed.grants));
                journal.commit(write)?;
            }
            inner.add(installed);
        }
        inner.refresh();
        Ok(Self { journal, sandbox, inner: RwLock::new(inner), changing: tokio::sync::Mutex::default() })
    }

    /// Reads anew what is installed and granted, because another process may have changed it. True where anything was.
    pub(crate) async fn read_anew(&self) -> Result<bool, journal::Error> {
        let _one = self.changing.lock().await;
        let mut anew = on_record(&self.journal).await?;
        let there = self.inner.read().unwrap_or_else(PoisonError::into_inner).by_digest.clone();
        let kept: HashSet<Digest> = anew.iter().map(|(stored, _)| stored.inspection.digest).collect();
        let gone: Vec<Digest> = there.keys().filter(|digest| !kept.contains(digest)).copied().collect();
        let is_same = |stored: &Stored, granted: &[Grant]| {
            let known = there.get(&stored.inspection.digest);
            known.is_some_and(|known| known.stored == *stored && *known.grants == *granted)
        };
        anew.retain(|(stored, granted)| !is_same(stored, granted));
        let changed: Vec<Installed> =
            anew.into_iter().filter_map(|(stored, granted)| compile_or_leave_out(stored, granted)).collect();
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let mut any = !changed.is_empty();
        for installed in changed {
            inner.add(installed);
        }
        for digest in gone {
            any |= inner.forget(digest);
        }
        inner.refresh();
        Ok(any)
    }

    /// What preflight needs.
    pub fn known(&self) -> Arc<Known> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).known.clone()
    }

    /// Guests that there are now, and those that wait for a place.
    pub fn guests(&self) -> (u64, u64) {
        self.sandbox.guests()
    }

    /// Plugins that are being compiled or wait for that.
    pub fn compiling(&self) -> usize {
        self.sandbox.compiling()
    }

    /// Action calls that could start now without waiting for another to end.
    pub fn free_slots(&self) -> usize {
        self.sandbox.free_slots()
    }

    /// Whether a compiled form of that component is kept, so that its first call waits for no compiler.
    pub fn is_compiled(&self, digest: &Digest) -> bool {
        self.sandbox.is_compiled(digest)
    }

    /// Guests of one usual plugin that there can be at once on this machine.
    pub fn guests_of_one_plugin(&self) -> u64 {
        self.sandbox.guests_of_one_plugin()
    }

    /// Ready when nobody counts the time of guests any more.
    pub fn counting_ended(&self) -> impl Future<Output = ()> + Send + use<> {
        self.sandbox.counting_ended()
    }

    /// Every installed version, by name and version.
    pub fn all(&self) -> Vec<Arc<Installed>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.by_version.values().filter_map(|digest| inner.by_digest.get(digest).cloned()).collect()
    }

    /// The version that has the action which a full reference names, and the action.
    pub fn action(&self, reference: &ActionReference) -> Option<(Arc<Installed>, Arc<Action>)> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let digest = inner.by_version.get(&(reference.plugin.clone(), reference.version.clone()))?;
        let installed = inner.by_digest.get(digest)?;
        Some((installed.clone(), installed.actions.get(&reference.action)?.clone()))
    }

    /// The grants with the digest `granted` that a run pinned for the component `plugin`.
    pub async fn grants(&self, plugin: Digest, granted: Digest) -> Result<Option<Arc<[Grant]>>, journal::Error> {
        {
            let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
            if plugin == granted {
                // Of a run that was accepted before grants were pinned.
                return Ok(inner.by_digest.get(&plugin).map(|installed| installed.grants.clone()));
            }
            if let Some(grants) = inner.grants.get(&granted) {
                return Ok(Some(grants.clone()));
            }
        }
        let fact = || "the grants of a plugin that a run was accepted with".to_owned();
        let Some(bytes) = self.journal.blob_of(granted, fact).await? else { return Ok(None) };
        let Ok(grants) = serde_json::from_slice::<Vec<Grant>>(&bytes) else { return Ok(None) };
        let grants: Arc<[Grant]> = grants.into();
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if inner.grants.len() >= GRANTS_MAX {
            inner.grants.clear();
        }
        inner.grants.insert(granted, grants.clone());
        Ok(Some(grants))
    }

    /// The action of a pinned component.
    pub fn pinned(&self, digest: Digest, action: &str) -> Option<Arc<Action>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.by_digest.get(&digest)?.actions.get(action).cloned()
    }

    /// The component with this digest, ready to run. `Err` says why not, for people.
    pub async fn package(&self, digest: Digest) -> Result<Guest, String> {
        let known = {
            let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
            let installed = inner
                .by_digest
                .get(&digest)
                .ok_or_else(|| format!("no plugin with the digest {digest} is installed"))?;
            if let Some(package) = inner.packages.get(&digest) {
                return Ok(package.clone());
            }
            installed.stored.inspection.clone()
        };
        let bytes = || async {
            let found = self.journal.blob(digest).await.map_err(std::io::Error::other)?;
            found.ok_or_else(|| std::io::Error::other("it is not in the store"))
        };
        let package = Guest::Component(self.sandbox.load(&known, bytes).await.map_err(|e| e.to_string())?);
        self.inner.write().unwrap_or_else(PoisonError::into_inner).packages.insert(digest, package.clone());
        Ok(package)
    }

    /// The versions of a plugin that can be called, by version.
    fn of_name(&self, name: &str) -> Vec<Arc<Installed>> {
        self.all().into_iter().filter(|installed| installed.stored.manifest.name == name).collect()
    }

    /// Puts a script in the place of a plugin. Not kept: every process is given it anew.
    #[cfg(test)]
    pub fn put_script(&self, manifest: Manifest, script: Arc<dyn Script>, rules: &bellhop_core::requirement::Rules) {
        let digest = Digest::of(manifest.name.as_bytes());
        let none = Vec::new;
        let (size, logs, memory_bytes_max) = (0, false, None);
        let inspection =
            Inspection { digest, size, imports: none(), wasi: none(), exports: none(), logs, memory_bytes_max };
        let grants = bellhop_core::manifest::declared(&manifest, rules).into();
        let stored = Stored { inspection, manifest, installed_at: Timestamp::from_millis(0), removed_at: None };
        let installed = compile(stored, grants).expect("a script's manifest is a good one");
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.packages.insert(digest, Guest::Script(script));
        inner.add(installed);
        inner.refresh();
    }
}

impl Stored {
    /// Where it is kept. One that was removed makes room for another binary of that version.
    fn key(&self) -> key::Key {
        key::plugin(&self.manifest.name, &self.version_kept())
    }

    /// Where its grants are kept.
    fn grant_key(&self) -> key::Key {
        key::grant(&self.manifest.name, &self.version_kept())
    }

    fn version_kept(&self) -> String {
        match self.removed_at {
            None => self.manifest.version.clone(),
            // No version has this character.
            Some(_) => format!("{}@{}", self.manifest.version, self.inspection.digest),
        }
    }
}

impl Inner {
    fn add(&mut self, installed: Installed) -> Arc<Installed> {
        let installed = Arc::new(installed);
        let manifest = &installed.stored.manifest;
        let version = (manifest.name.clone(), manifest.version.clone());
        let digest = installed.stored.inspection.digest;
        if installed.stored.removed_at.is_none() {
            self.by_version.insert(version, digest);
        } else if self.by_version.get(&version) == Some(&digest) {
            self.by_version.remove(&version);
        }
        self.by_digest.insert(installed.stored.inspection.digest, installed.clone());
        self.grants.insert(installed.granted, installed.grants.clone());
        installed
    }

    /// Forgets what another process has deleted. False where it was never in the store: a simulation's stand-in.
    fn forget(&mut self, digest: Digest) -> bool {
        #[cfg(test)]
        if let Some(Guest::Script(_)) = self.packages.get(&digest) {
            return false;
        }
        self.by_digest.remove(&digest);
        self.packages.remove(&digest);
        self.by_version.retain(|_, of_version| *of_version != digest);
        true
    }

    fn refresh(&mut self) {
        let callable = self.by_version.values().filter_map(|digest| self.by_digest.get(digest));
        self.known = Arc::new(Known::of(callable.map(|installed| Plugin {
            manifest: Arc::new(installed.stored.manifest.clone()),
            grants: installed.grants.clone(),
        })));
    }
}

/// Grants remembered by digest; more are read again when they are needed.
const GRANTS_MAX: usize = 1_000;

/// Grants as they are kept.
fn kept(grants: &[Grant]) -> Vec<u8> {
    serde_json::to_vec(grants).unwrap_or_default()
}

/// What is installed, with what it is granted.
async fn on_record(journal: &Journal) -> Result<Vec<(Stored, Arc<[Grant]>)>, journal::Error> {
    let mut found = Vec::new();
    for (_, stored) in journal.list::<Stored>(key::Space::Plugin, &key::all(key::Space::Plugin)).all().await? {
        // Grants that cannot be read allow nothing.
        let granted = journal::damaged_is_none(journal.get::<Vec<Grant>>(&stored.grant_key()).await)?;
        found.push((stored, granted.unwrap_or_default().into()));
    }
    Ok(found)
}

/// What a host took once it goes on to run, though its manifest would be refused today; its schemas are looked at again,
/// because they have to end within a time.
fn compile_or_leave_out(stored: Stored, granted: Arc<[Grant]>) -> Option<Installed> {
    let (name, version) = (stored.manifest.name.clone(), stored.manifest.version.clone());
    let installed = compile(stored, granted);
    if installed.is_none() {
        tracing::error!(plugin = name, version, "an installed plugin is left out: a schema of it is refused");
    }
    installed
}

/// Compiles an installed plugin's schemas; none where one of them is invalid.
fn compile(stored: Stored, grants: Arc<[Grant]>) -> Option<Installed> {
    let mut actions = BTreeMap::new();
    let mut schemas = Together::default();
    for action in &stored.manifest.actions {
        let (input, output) = (schemas.compile(&action.input).ok()?, schemas.compile(&action.output).ok()?);
        let compiled = Action {
            plugin: stored.inspection.digest,
            version: stored.manifest.version.clone(),
            manifest: action.clone(),
            input,
            output,
        };
        actions.insert(action.name.clone(), Arc::new(compiled));
    }
    let granted = Digest::of(&kept(&grants));
    Some(Installed { stored, grants, granted, actions })
}
