//! Installed plugins: components, manifests, grants.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use bellhop_core::definition::ActionReference;
use bellhop_core::digest::Digest;
use bellhop_core::manifest::Manifest;
use bellhop_core::preflight::{Plugin, Plugins as Known};
use bellhop_core::requirement::{Grant, Rules};
use bellhop_core::run::Action;
use bellhop_core::schema::Schema;
use bellhop_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::journal::{self, Journal, Write, key};
use crate::sandbox::{self, Inspection, Package, Refusal, Sandbox};

/// An installed plugin as stored. The component is a blob.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stored {
    /// What was read from its binary: a start does not read it again.
    pub(crate) inspection: Inspection,
    /// What it says of itself.
    pub(crate) manifest: Manifest,
    /// When.
    pub(crate) installed_at: Timestamp,
}

/// One installed version.
pub(crate) struct Installed {
    /// As stored.
    pub(crate) stored: Stored,
    /// What the operator granted.
    pub(crate) grants: Arc<[Grant]>,
    /// Of those, as they are kept: what runs pin.
    pub(crate) granted: Digest,
    /// Its actions, with their schemas compiled.
    pub(crate) actions: BTreeMap<String, Arc<Action>>,
}

/// Why a plugin was not installed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    /// The binary is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The manifest cannot be used.
    #[error("the plugin's manifest is refused: {}", .0.join("; "))]
    Manifest(Vec<String>),
    /// That version is there with another binary.
    #[error("version {version} of `{name}` is installed already with another binary")]
    Immutable {
        /// The plugin.
        name: String,
        /// The version.
        version: String,
    },
    /// The sandbox cannot prepare it.
    #[error(transparent)]
    Sandbox(sandbox::Error),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] journal::Error),
}

/// What helps against [`InstallError::Manifest`].
pub(crate) const MANIFEST_REMEDY: &str = "have the manifest say what the program does, with valid schemas";

/// What runs a plugin's actions.
#[derive(Clone)]
pub(crate) enum Guest {
    /// Its component.
    Component(Package),
    /// A simulation's stand-in for one.
    #[cfg(test)]
    Script(Arc<dyn Script>),
}

/// Runs actions as a component would, without one.
#[cfg(test)]
pub(crate) trait Script: Send + Sync {
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
    pub(crate) async fn run(
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

/// What was learnt at an installation, besides that it worked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Remarks {
    /// Imports that no action declares.
    pub(crate) undeclared_imports: Vec<String>,
}

/// What is installed. Preflight's view of it is kept ready.
pub(crate) struct Plugins {
    journal: Journal,
    sandbox: Sandbox,
    inner: RwLock<Inner>,
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
    pub(crate) fn read(journal: Journal, sandbox: Sandbox) -> Result<Self, journal::Error> {
        let mut inner = Inner::default();
        let mut range = Some(key::all(key::Space::Plugin));
        while let Some(page) = range {
            let listed = journal.list::<Stored>(key::Space::Plugin, &page, 500)?;
            for (_, stored) in listed.items {
                let granted: Vec<Grant> =
                    journal.get(&key::grant(&stored.manifest.name, &stored.manifest.version))?.unwrap_or_default();
                if let Ok(installed) = compile(stored, granted.into()) {
                    if journal.blob(installed.granted)?.is_none() {
                        // Of a version that did not pin them.
                        let mut write = Write::new();
                        write.blob(&kept(&installed.grants));
                        journal.commit(write)?;
                    }
                    inner.add(installed);
                }
            }
            range = listed.next;
        }
        inner.refresh();
        Ok(Self { journal, sandbox, inner: RwLock::new(inner) })
    }

    /// What preflight needs.
    pub(crate) fn known(&self) -> Arc<Known> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).known.clone()
    }

    /// Action calls that could start now without waiting for another to end.
    pub(crate) fn free_slots(&self) -> usize {
        self.sandbox.free_slots()
    }

    /// Every installed version, by name and version.
    pub(crate) fn all(&self) -> Vec<Arc<Installed>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.by_version.values().filter_map(|digest| inner.by_digest.get(digest).cloned()).collect()
    }

    /// The version that has the action which a full reference names, and the action.
    pub(crate) fn action(&self, reference: &ActionReference) -> Option<(Arc<Installed>, Arc<Action>)> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let digest = inner.by_version.get(&(reference.plugin.clone(), reference.version.clone()))?;
        let installed = inner.by_digest.get(digest)?;
        Some((installed.clone(), installed.actions.get(&reference.action)?.clone()))
    }

    /// The grants with the digest `granted` that a run pinned for the component `plugin`.
    pub(crate) fn grants(&self, plugin: Digest, granted: Digest) -> Result<Option<Arc<[Grant]>>, journal::Error> {
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
        let Some(bytes) = self.journal.blob(granted)? else { return Ok(None) };
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
    pub(crate) fn pinned(&self, digest: Digest, action: &str) -> Option<Arc<Action>> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        inner.by_digest.get(&digest)?.actions.get(action).cloned()
    }

    /// The component with this digest, ready to run. `Err` says why not, for people.
    pub(crate) async fn package(&self, digest: Digest) -> Result<Guest, String> {
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
        let bytes = || {
            let found = self.journal.blob(digest).map_err(std::io::Error::other)?;
            found.ok_or_else(|| std::io::Error::other("it is not in the store"))
        };
        let package = Guest::Component(self.sandbox.load(&known, bytes).await.map_err(|e| e.to_string())?);
        self.inner.write().unwrap_or_else(PoisonError::into_inner).packages.insert(digest, package.clone());
        Ok(package)
    }

    /// Puts a script in the place of a plugin. Not kept: every process is given it anew.
    #[cfg(test)]
    pub(crate) fn put_script(&self, manifest: Manifest, script: Arc<dyn Script>, rules: &Rules) {
        let digest = Digest::of(manifest.name.as_bytes());
        let none = Vec::new;
        let (size, logs, memory_bytes_max) = (0, false, None);
        let inspection =
            Inspection { digest, size, imports: none(), wasi: none(), exports: none(), logs, memory_bytes_max };
        let grants = declared(&manifest, rules).into();
        let stored = Stored { inspection, manifest, installed_at: Timestamp::from_millis(0) };
        let installed = compile(stored, grants).expect("a script's manifest is a good one");
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.packages.insert(digest, Guest::Script(script));
        inner.add(installed);
        inner.refresh();
    }

    /// What a component is, read from its bytes, which takes a while for a large one.
    pub(crate) fn inspect(&self, bytes: &[u8]) -> Result<Inspection, Refusal> {
        self.sandbox.inspect(bytes)
    }

    /// Compiles a component that [`Self::inspect`] has taken, so that [`Self::install`] finds it made. Dropped, it stops
    /// compiling, unless another waits for the same: nobody compiles for a client that is gone.
    pub(crate) async fn compile(&self, inspection: Inspection, bytes: &[u8]) -> Result<(), InstallError> {
        self.sandbox.prepare_inspected(inspection, bytes).await.map(drop).map_err(InstallError::Sandbox)
    }

    /// Inspects, compiles, describes and keeps a plugin. After Ok it is durable and can be called.
    pub(crate) async fn install(
        &self,
        bytes: &[u8],
        grants: Option<Vec<Grant>>,
        rules: &Rules,
        now: Timestamp,
    ) -> Result<(Arc<Installed>, Remarks), InstallError> {
        let inspection = self.sandbox.inspect(bytes)?;
        let package = self.sandbox.prepare(bytes).await.map_err(InstallError::Sandbox)?;
        let described = package.describe().await?;
        let manifest: Manifest =
            serde_json::from_value(described).map_err(|e| InstallError::Manifest(vec![e.to_string()]))?;
        let remarks = examine(&manifest, &inspection.imports)?;
        // Without a word of the operator's, what the actions declare is granted: that list was printed.
        let grants: Arc<[Grant]> = match grants {
            Some(grants) => grants.into(),
            None => declared(&manifest, rules).into(),
        };
        let stored = Stored { inspection, manifest, installed_at: now };
        let (name, version) = (stored.manifest.name.clone(), stored.manifest.version.clone());
        let there: Option<Stored> = self.journal.get(&key::plugin(&name, &version))?;
        if there.is_some_and(|there| there.inspection.digest != stored.inspection.digest) {
            return Err(InstallError::Immutable { name, version });
        }
        let installed = compile(stored, grants).map_err(InstallError::Manifest)?;
        let mut write = Write::new();
        write.blob(bytes);
        write.put(&key::plugin(&name, &version), &installed.stored)?;
        write.put(&key::grant(&name, &version), &installed.grants)?;
        write.blob(&kept(&installed.grants));
        let ticket = self.journal.commit(write)?;
        self.journal.durable(ticket).await.map_err(journal::Error::from)?;
        let digest = installed.stored.inspection.digest;
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.packages.insert(digest, Guest::Component(package));
        let installed = inner.add(installed);
        inner.refresh();
        Ok((installed, remarks))
    }
}

impl Inner {
    fn add(&mut self, installed: Installed) -> Arc<Installed> {
        let installed = Arc::new(installed);
        let manifest = &installed.stored.manifest;
        self.by_version.insert((manifest.name.clone(), manifest.version.clone()), installed.stored.inspection.digest);
        self.by_digest.insert(installed.stored.inspection.digest, installed.clone());
        self.grants.insert(installed.granted, installed.grants.clone());
        installed
    }

    fn refresh(&mut self) {
        self.known = Arc::new(Known::of(self.by_digest.values().map(|installed| Plugin {
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

/// Compiles an installed plugin's schemas; the texts say which are invalid.
pub(crate) fn compile(stored: Stored, grants: Arc<[Grant]>) -> Result<Installed, Vec<String>> {
    let mut faults = Vec::new();
    let mut actions = BTreeMap::new();
    for action in &stored.manifest.actions {
        let mut schema = |what: &str, document: &serde_json::Value| {
            Schema::compile(document)
                .map_err(|found| {
                    let first = found.first().map(|f| format!("{}: {}", f.pointer, f.message)).unwrap_or_default();
                    faults.push(format!("the {what} schema of `{}` is invalid: {first}", action.name));
                })
                .ok()
        };
        let (input, output) = (schema("input", &action.input), schema("output", &action.output));
        if let (Some(input), Some(output)) = (input, output) {
            let compiled = Action {
                plugin: stored.inspection.digest,
                version: stored.manifest.version.clone(),
                manifest: action.clone(),
                input,
                output,
            };
            actions.insert(action.name.clone(), Arc::new(compiled));
        }
    }
    let granted = Digest::of(&kept(&grants));
    if faults.is_empty() { Ok(Installed { stored, grants, granted, actions }) } else { Err(faults) }
}

/// Compares a manifest with the binary's imports: a declared call that the binary cannot make refuses the plugin.
pub(crate) fn examine(manifest: &Manifest, imports: &[String]) -> Result<Remarks, InstallError> {
    let mut faults = Vec::new();
    let mut declared: Vec<&str> = Vec::new();
    for action in &manifest.actions {
        for call in action.calls.iter().flat_map(|alternative| &alternative.methods) {
            declared.push(&call.function);
            if !imports.contains(&call.function) {
                faults
                    .push(format!("`{}` declares `{}`, which the binary does not import", action.name, call.function));
            }
        }
    }
    if faults.is_empty() {
        let undeclared_imports = imports.iter().filter(|i| !declared.contains(&i.as_str())).cloned().collect();
        Ok(Remarks { undeclared_imports })
    } else {
        Err(InstallError::Manifest(faults))
    }
}

/// A grant for every method that an action declares.
pub(crate) fn declared(manifest: &Manifest, rules: &Rules) -> Vec<Grant> {
    let mut grants: Vec<Grant> = manifest
        .actions
        .iter()
        .flat_map(|action| &action.calls)
        .flat_map(|alternative| &alternative.methods)
        .filter_map(|call| rules.by_function(&call.function))
        .filter_map(|method| Grant::of_method(&method.name).ok())
        .collect();
    grants.sort();
    grants.dedup();
    grants
}
