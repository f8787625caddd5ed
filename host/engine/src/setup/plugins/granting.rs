//! What an operator grants to a plugin that is installed, or takes away.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use bellhop_core::diagnostic::{Diagnostic, nearest};
use bellhop_core::digest::Digest;
use bellhop_core::manifest::{self, Granting};
use bellhop_core::preflight::compare_versions;
use bellhop_core::requirement::{Grant, Rules};

use crate::setup::plugins::{Installed, Plugins, kept};
use crate::setup::revision::revise;
use bellhop_journal::{self as journal, Write};

/// At most about so many wrong ones are told.
const FAULTS_MAX: usize = 50;

/// A change of grants. What is neither added nor removed stays.
pub struct Change<'a> {
    /// The plugin.
    pub name: &'a str,
    /// One version; none: every version for which the grants are of use.
    pub version: Option<&'a str>,
    /// To be granted.
    pub add: &'a [String],
    /// To be taken away.
    pub remove: &'a [String],
    /// What is known of methods.
    pub rules: &'a Rules,
    /// The names of the connections that are there.
    pub connections: &'a [String],
}

/// Why no grant was changed.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// No such plugin is installed.
    #[error("no plugin `{name}` is installed")]
    Unknown {
        /// What was named.
        name: String,
        /// What may have been meant.
        nearest: Option<String>,
    },
    /// It is installed in other versions.
    #[error("plugin `{name}` is not installed in version {version}")]
    VersionUnknown {
        /// The plugin.
        name: String,
        /// What was named.
        version: String,
        /// Those that are there.
        installed: Vec<String>,
    },
    /// A grant would allow nothing, or is not there to be taken away.
    #[error("no grant was changed")]
    Invalid(Vec<Diagnostic>),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] journal::Error),
}

impl Plugins {
    /// The versions of a plugin that a name, and a version where one is said, mean, the newest first.
    ///
    /// # Errors
    /// [`GrantError::Unknown`] and [`GrantError::VersionUnknown`].
    pub fn named(&self, name: &str, version: Option<&str>) -> Result<Vec<Arc<Installed>>, GrantError> {
        let all = self.all();
        let mut found: Vec<Arc<Installed>> = self.of_name(name);
        if found.is_empty() {
            let names = all.iter().map(|installed| installed.stored.manifest.name.as_str());
            let near = nearest(name, names).map(str::to_owned);
            return Err(GrantError::Unknown { name: name.chars().take(64).collect(), nearest: near });
        }
        let version_of = |installed: &Arc<Installed>| installed.stored.manifest.version.clone();
        found.sort_by(|a, b| compare_versions(&version_of(b), &version_of(a)));
        let installed: Vec<String> = found.iter().map(|found| found.stored.manifest.version.clone()).collect();
        if let Some(version) = version {
            found.retain(|found| found.stored.manifest.version == version);
            if found.is_empty() {
                let version = version.chars().take(64).collect();
                return Err(GrantError::VersionUnknown { name: name.to_owned(), version, installed });
            }
        }
        Ok(found)
    }

    /// Changes grants. After Ok that is durable, holds for runs that are accepted from now on, and the versions that the
    /// name means are given as they are now. Runs that were accepted before keep what they pinned.
    pub async fn grant(&self, change: &Change<'_>) -> Result<Vec<Arc<Installed>>, GrantError> {
        let _one = self.changing.lock().await;
        let versions = self.named(change.name, change.version)?;
        let anew = changed(&versions, change)?;
        self.journal.room()?;
        let mut write = Write::new();
        for (installed, grants) in versions.iter().zip(&anew) {
            write.put(&installed.stored.grant_key(), grants)?;
            write.blob(&kept(grants));
        }
        revise(&mut write)?;
        let ticket = self.journal.commit(write)?;
        self.journal.durable(ticket).await.map_err(journal::Error::from)?;
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let changed = versions.iter().zip(anew).map(|(old, grants)| {
            let granted = Digest::of(&kept(&grants));
            let (stored, actions) = (old.stored.clone(), old.actions.clone());
            inner.add(Installed { stored, grants: grants.into(), granted, actions })
        });
        let changed: Vec<Arc<Installed>> = changed.collect();
        inner.refresh();
        Ok(changed)
    }
}

/// What each version is granted after the change.
fn changed(versions: &[Arc<Installed>], change: &Change<'_>) -> Result<Vec<Vec<Grant>>, GrantError> {
    let mut faults = Vec::new();
    for (list, at) in [(change.add, "/add"), (change.remove, "/remove")] {
        if list.len() > manifest::GRANTS_MAX {
            return Err(GrantError::Invalid(vec![manifest::too_many(list.len(), at)]));
        }
    }
    let mut anew: Vec<BTreeSet<Grant>> =
        versions.iter().map(|installed| installed.grants.iter().cloned().collect()).collect();
    // A grant has to be of use to one version; the others do without it.
    for (at, text) in change.remove.iter().enumerate() {
        each(text, &format!("/remove/{at}"), versions, &mut anew, &mut faults, |text, at, installed, grants| {
            let present: Vec<Grant> = grants.iter().cloned().collect();
            let found = manifest::given(text, at, &installed.stored.manifest.name, &present)?;
            grants.retain(|grant| !found.contains(grant));
            Ok(())
        });
    }
    for (at, text) in change.add.iter().enumerate() {
        each(text, &format!("/add/{at}"), versions, &mut anew, &mut faults, |text, at, installed, grants| {
            let granting = Granting {
                manifest: &installed.stored.manifest,
                imports: &installed.stored.inspection.imports,
                rules: change.rules,
                connections: change.connections,
            };
            grants.extend(manifest::grants(text, at, &granting)?);
            Ok(())
        });
    }
    let too_many = anew.iter().find(|grants| grants.len() > manifest::GRANTS_MAX);
    faults.extend(too_many.map(|many| manifest::too_many(many.len(), "/add")));
    if faults.is_empty() {
        Ok(anew.into_iter().map(|grants| grants.into_iter().collect()).collect())
    } else {
        Err(GrantError::Invalid(faults))
    }
}

/// Does one thing with each version; a fault where it can be done with none of them.
fn each(
    text: &str,
    at: &str,
    versions: &[Arc<Installed>],
    anew: &mut [BTreeSet<Grant>],
    faults: &mut Vec<Diagnostic>,
    act: impl Fn(&[String], &str, &Installed, &mut BTreeSet<Grant>) -> Result<(), Vec<Diagnostic>>,
) {
    if faults.len() >= FAULTS_MAX {
        return;
    }
    let (place, index) = at.rsplit_once('/').unwrap_or((at, "0"));
    let mut refused = None;
    let mut done = false;
    for (installed, grants) in versions.iter().zip(anew) {
        match act(&[text.to_owned()], place, installed, grants) {
            Ok(()) => done = true,
            Err(why) => refused = Some(why),
        }
    }
    if !done {
        faults.extend(refused.into_iter().flatten().map(|mut fault| {
            // It was looked at alone.
            fault.pointer = Some(format!("{place}/{index}"));
            fault
        }));
    }
}
