//! A plugin comes into the host: inspected, compiled, described, checked, and kept.

use std::sync::{Arc, PoisonError};

use bellhop_core::diagnostic::Diagnostic;
use bellhop_core::manifest::{self, Checked, Granting, Manifest};
use bellhop_core::preflight::{Plugin, Plugins as Known, compare_versions};
use bellhop_core::requirement::{Grant, Rules};
use bellhop_core::time::Timestamp;
use futures_util::future::BoxFuture;

use crate::setup::plugins::remove::Uses;
use crate::setup::plugins::{Guest, Installed, Plugins, Stored, compile, kept};
use crate::setup::revision::revise;
use bellhop_journal::{self as journal, Write};
use bellhop_sandbox::{self as sandbox, Inspection, Refusal};

/// What is granted to a plugin when it is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing new: what was granted to the very same component stays.
    Nothing,
    /// Everything that its actions declare.
    Everything,
    /// These, in place of what was granted to that version before.
    These(Vec<String>),
}

/// Whether a plugin may take the name of another publisher's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Replace {
    /// It may not.
    #[default]
    Nobody,
    /// Whoever's it is.
    Anybody,
    /// If it is this one's.
    Publisher(String),
}

/// Tells the workflows that mean another plugin after a change than before it.
pub(crate) type Means<'a> =
    &'a (dyn Fn(Arc<Known>, Arc<Known>) -> BoxFuture<'a, Result<Uses, journal::Error>> + Send + Sync);

/// A plugin that is to be installed.
pub struct Order<'a> {
    /// The component.
    pub bytes: &'a [u8],
    /// What is granted to it.
    pub grants: Wanted,
    /// Whose name it may take.
    pub replace: Replace,
    /// The newest version that is there under its publisher's name, by version or digest, where the operator says so: what
    /// was installed meanwhile was not looked at.
    pub follows: Option<String>,
    /// Which workflows will call it.
    pub means: Means<'a>,
    /// What is known of methods.
    pub rules: &'a Rules,
    /// The names of the connections that are there.
    pub connections: &'a [String],
    /// The time.
    pub now: Timestamp,
}

/// What was done.
pub struct Done {
    /// The plugin, durable and ready to be called.
    pub installed: Arc<Installed>,
    /// What its author and its operator should know of it.
    pub warnings: Vec<Diagnostic>,
    /// Another publisher's plugins of that name: nothing new can call them.
    pub replaced: Vec<Arc<Installed>>,
    /// The versions beside which it stands from now on, the newest first.
    pub beside: Vec<Arc<Installed>>,
    /// The workflows that call it from now on and did not before.
    pub callers: Uses,
}

/// Why a plugin was not installed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The binary is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The manifest is refused, for each of these.
    #[error("the plugin's manifest is refused: {}", said(.0))]
    Manifest(Vec<Diagnostic>),
    /// What is to be granted would allow nothing, or cannot be read.
    #[error("what is to be granted is refused: {}", said(.0))]
    Grants(Vec<Diagnostic>),
    /// That version is there with another binary.
    #[error("version {version} of `{name}` is installed already with another binary")]
    Immutable {
        /// The plugin.
        name: String,
        /// The version.
        version: String,
    },
    /// What the operator says that it follows is not the newest that is there.
    #[error("`{name}` is installed as {}, of which the newest is {newest}, and not {stated}", versions.join(", "))]
    Follows {
        /// The plugin.
        name: String,
        /// Its version.
        version: String,
        /// Those that are there, the newest first.
        versions: Vec<String>,
        /// The newest of them.
        newest: String,
        /// What was said in place of it.
        stated: String,
    },
    /// A newer version is installed.
    #[error("version {version} of `{name}` is older than {newest}, which is installed")]
    Older {
        /// The plugin.
        name: String,
        /// Its version.
        version: String,
        /// The newest that is there.
        newest: String,
    },
    /// The name belongs to somebody else.
    #[error("the name `{name}` belongs to the publisher `{owner}`: this plugin is published by `{publisher}`")]
    PublisherDiffers {
        /// The plugin.
        name: String,
        /// Whose it is.
        owner: String,
        /// Who wants it.
        publisher: String,
        /// The versions that would be replaced.
        versions: Vec<String>,
    },
    /// The sandbox cannot prepare it.
    #[error(transparent)]
    Sandbox(sandbox::Error),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] journal::Error),
}

/// The messages of some diagnostics in one line.
fn said(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|diagnostic| diagnostic.message.as_str()).collect::<Vec<_>>().join("; ")
}

impl Plugins {
    /// Inspects, compiles, describes, checks and keeps a plugin. After Ok it is durable and can be called.
    pub async fn put(&self, order: Order<'_>) -> Result<Done, InstallError> {
        let Order { bytes, grants, replace, follows, means, rules, connections, now } = order;
        let inspection = self.sandbox.inspect(bytes)?;
        let package = self.sandbox.prepare(bytes).await.map_err(InstallError::Sandbox)?;
        let described = package.describe().await?;
        let checked = manifest::check(&described, &inspection.imports, rules).map_err(InstallError::Manifest)?;
        let Checked { manifest, warnings } = checked;

        let _one = self.changing.lock().await;
        let granting = Granting { manifest: &manifest, imports: &inspection.imports, rules, connections };
        let grants = self.wanted(&grants, &granting, &inspection)?;
        let replaced = self.owner(&manifest, &replace)?;
        let stored = Stored { inspection, manifest, installed_at: now, removed_at: None };
        let name = stored.manifest.name.clone();
        let there = self.of_name(&name);
        let same = there.iter().find(|there| there.stored.manifest.version == stored.manifest.version);
        if replaced.is_empty() && same.is_some_and(|same| same.stored.inspection.digest != stored.inspection.digest) {
            return Err(InstallError::Immutable { name, version: stored.manifest.version });
        }
        let beside = self.beside(&stored, &replaced);
        if let Some(stated) = follows {
            followed(&stated, &stored, &beside)?;
        }
        let callers = self.callers(&stored, &replaced, means).await?;
        // The check has compiled the schemas once.
        let installed = compile(stored, grants.into()).ok_or(InstallError::Manifest(Vec::new()))?;
        // Another process may have installed that version since this one looked.
        let (there, seen) = self.journal.see::<Stored>(&installed.stored.key()).await;
        let digest = installed.stored.inspection.digest;
        if replaced.is_empty()
            && journal::damaged_is_none(there)?.is_some_and(|there| there.inspection.digest != digest)
        {
            return Err(InstallError::Immutable { name, version: installed.stored.manifest.version.clone() });
        }
        self.journal.room()?;
        let mut write = Write::new();
        write.blob(bytes);
        for old in &replaced {
            Self::put_away(&mut write, old, now)?;
        }
        // It may have been removed before.
        let before = Stored { removed_at: Some(now), ..installed.stored.clone() };
        write.delete(&before.key());
        write.delete(&before.grant_key());
        write.rests_on(seen);
        write.put(&installed.stored.key(), &installed.stored)?;
        write.put(&installed.stored.grant_key(), &installed.grants)?;
        write.blob(&kept(&installed.grants));
        revise(&mut write)?;
        let ticket = self.journal.commit(write)?;
        self.journal.durable(ticket).await.map_err(journal::Error::from)?;
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        for old in &replaced {
            inner.hide(old, now);
        }
        inner.packages.insert(digest, Guest::Component(package));
        let installed = inner.add(installed);
        inner.refresh();
        Ok(Done { installed, warnings, replaced, beside, callers })
    }

    /// What a component is, read from its bytes, which takes a while for a large one.
    pub fn inspect(&self, bytes: &[u8]) -> Result<Inspection, Refusal> {
        self.sandbox.inspect(bytes)
    }

    /// Compiles a component that [`Self::inspect`] has taken, so that [`Self::put`] finds it made. Dropped, it stops
    /// compiling, unless another waits for the same: nobody compiles for a client that is gone.
    pub async fn compile(&self, inspection: Inspection, bytes: &[u8]) -> Result<(), InstallError> {
        self.sandbox.prepare_inspected(inspection, bytes).await.map(drop).map_err(InstallError::Sandbox)
    }

    /// As [`Self::put`], with these grants or, without any, everything that is declared.
    #[cfg(test)]
    pub async fn install(
        &self,
        bytes: &[u8],
        grants: Option<Vec<Grant>>,
        rules: &Rules,
        now: Timestamp,
    ) -> Result<(Arc<Installed>, Vec<Diagnostic>), InstallError> {
        let connections: Vec<String> =
            grants.iter().flatten().filter_map(|grant| grant.connection()).map(str::to_owned).collect();
        let grants = match grants {
            Some(grants) => Wanted::These(grants.iter().map(ToString::to_string).collect()),
            None => Wanted::Everything,
        };
        let (replace, follows) = (Replace::Nobody, None);
        let means: Means<'_> = &|_, _| Box::pin(std::future::ready(Ok(Uses::default())));
        let order = Order { bytes, grants, replace, follows, means, rules, connections: &connections, now };
        let done = self.put(order).await?;
        Ok((done.installed, done.warnings))
    }

    fn wanted(
        &self,
        wanted: &Wanted,
        granting: &Granting<'_>,
        inspection: &Inspection,
    ) -> Result<Vec<Grant>, InstallError> {
        match wanted {
            Wanted::Everything => Ok(manifest::declared(granting.manifest, granting.rules)),
            Wanted::These(texts) => manifest::grants(texts, "/grant", granting).map_err(InstallError::Grants),
            Wanted::Nothing => {
                let there = self.of_name(&granting.manifest.name);
                let same = there.iter().find(|there| there.stored.inspection.digest == inspection.digest);
                Ok(same.map(|same| same.grants.to_vec()).unwrap_or_default())
            }
        }
    }

    /// Refuses a plugin whose name is another publisher's; gives what it replaces where it may.
    fn owner(&self, manifest: &Manifest, replace: &Replace) -> Result<Vec<Arc<Installed>>, InstallError> {
        let Manifest { name, publisher, .. } = manifest;
        let mut others = self.of_name(name);
        others.retain(|other| other.stored.manifest.publisher != *publisher);
        let Some(first) = others.first() else { return Ok(others) };
        let owner = first.stored.manifest.publisher.clone();
        let may = match replace {
            Replace::Nobody => false,
            Replace::Anybody => true,
            Replace::Publisher(whose) => others.iter().all(|other| other.stored.manifest.publisher == *whose),
        };
        if may {
            return Ok(others);
        }
        let versions = others.iter().map(|other| other.stored.manifest.version.clone()).collect();
        Err(InstallError::PublisherDiffers { name: name.clone(), owner, publisher: publisher.clone(), versions })
    }

    /// The versions of other binaries that stay beside this one, the newest first.
    fn beside(&self, stored: &Stored, replaced: &[Arc<Installed>]) -> Vec<Arc<Installed>> {
        let (name, digest) = (&stored.manifest.name, stored.inspection.digest);
        let mut beside = self.of_name(name);
        let goes = |other: &Installed| {
            replaced.iter().any(|old| old.stored.inspection.digest == other.stored.inspection.digest)
        };
        beside.retain(|other| other.stored.inspection.digest != digest && !goes(other));
        beside.sort_by(|a, b| compare_versions(&b.stored.manifest.version, &a.stored.manifest.version));
        beside
    }

    /// The workflows that will call this one and call something else, or nothing, now.
    async fn callers(
        &self,
        stored: &Stored,
        replaced: &[Arc<Installed>],
        means: Means<'_>,
    ) -> Result<Uses, InstallError> {
        let gone: Vec<_> = replaced.iter().map(|old| old.stored.inspection.digest).collect();
        let this = Plugin { manifest: Arc::new(stored.manifest.clone()), grants: Vec::new().into() };
        Ok(means(self.known(), Arc::new(self.without(&gone, Some(this)))).await?)
    }

    /// Writes that nothing new can call a plugin.
    pub(crate) fn put_away(write: &mut Write, old: &Installed, now: Timestamp) -> Result<(), journal::Error> {
        let away = Stored { removed_at: Some(now), ..old.stored.clone() };
        write.delete(&old.stored.key());
        write.delete(&old.stored.grant_key());
        write.put(&away.key(), &away)?;
        write.put(&away.grant_key(), &old.grants)
    }
}

/// Refuses a binary that does not follow what the operator says it does.
fn followed(stated: &str, stored: &Stored, beside: &[Arc<Installed>]) -> Result<(), InstallError> {
    let (name, version) = (stored.manifest.name.clone(), stored.manifest.version.clone());
    let first = beside.first().map(|first| &first.stored);
    let newest = first.map(|first| first.manifest.version.clone()).unwrap_or_default();
    let digest = first.map(|first| first.inspection.digest);
    if stated == newest || digest.is_some_and(|digest| stated == digest.to_string() || stated == digest.hex()) {
        if compare_versions(&version, &newest).is_lt() {
            return Err(InstallError::Older { name, version, newest });
        }
        return Ok(());
    }
    let versions = beside.iter().map(|other| other.stored.manifest.version.clone()).collect();
    Err(InstallError::Follows { name, version, versions, newest, stated: stated.chars().take(128).collect() })
}

impl crate::setup::plugins::Inner {
    /// Nothing new can call it from here on; runs that pin it go on.
    pub(crate) fn hide(&mut self, old: &Installed, now: Timestamp) {
        let stored = Stored { removed_at: Some(now), ..old.stored.clone() };
        let (grants, granted, actions) = (old.grants.clone(), old.granted, old.actions.clone());
        self.add(Installed { stored, grants, granted, actions });
    }
}
