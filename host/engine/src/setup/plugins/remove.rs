//! What becomes of a plugin that is removed: it is put away, and deleted when no run names it any more. Who needs one is for
//! whoever sees runs to say.

use std::sync::{Arc, PoisonError};

use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;
use bellhop_core::preflight::{Plugin, Plugins as Known};
use bellhop_core::time::Timestamp;

use super::{Installed, Plugins, Stored};
use crate::setup::revision::revise;
use bellhop_journal::{self as journal, Write, key};

/// At most so many runs and workflows are named by a refusal.
const NAMED_MAX: usize = 10;

/// What needs a plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uses {
    /// The first open runs that pin it.
    pub runs: Vec<RunId>,
    /// How many more.
    pub runs_more: u64,
    /// The first workflows whose latest version calls it.
    pub workflows: Vec<String>,
    /// How many more.
    pub workflows_more: u64,
}

impl Uses {
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.workflows.is_empty()
    }

    pub(crate) fn run(&mut self, run: RunId) {
        if self.runs.len() < NAMED_MAX {
            self.runs.push(run);
        } else {
            self.runs_more += 1;
        }
    }

    pub(crate) fn workflow(&mut self, name: String) {
        if self.workflows.len() < NAMED_MAX {
            self.workflows.push(name);
        } else {
            self.workflows_more += 1;
        }
    }

    /// By whom; none where nobody does.
    pub(crate) fn in_words(&self) -> Option<String> {
        let list = |what: &str, names: Vec<String>, more: u64| {
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            (!names.is_empty()).then(|| format!("{what} {}{more}", names.join(", ")))
        };
        let runs = list("by the open runs", self.runs.iter().map(ToString::to_string).collect(), self.runs_more);
        let workflows = list("by the workflows", self.workflows.clone(), self.workflows_more);
        (!self.is_empty()).then(|| runs.into_iter().chain(workflows).collect::<Vec<_>>().join(", and "))
    }
}

impl Plugins {
    /// No other change of plugins begins before what is given is dropped.
    pub(crate) async fn alone(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// Puts plugins away that nobody needs. After Ok that is durable and nothing new can call them.
    pub(crate) async fn put_all_away(&self, gone: &[Arc<Installed>], now: Timestamp) -> Result<(), journal::Error> {
        let mut write = Write::new();
        for old in gone {
            Self::put_away(&mut write, old, now)?;
        }
        revise(&mut write)?;
        let ticket = self.journal.commit(write)?;
        self.journal.durable(ticket).await.map_err(journal::Error::from)?;
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        for old in gone {
            inner.hide(old, now);
        }
        inner.refresh();
        Ok(())
    }

    /// Deletes a plugin that was put away and that no run names. After Ok that is durable.
    pub(crate) async fn delete(&self, stored: &Stored) -> Result<(), journal::Error> {
        let digest = stored.inspection.digest;
        let mut write = Write::new();
        write.delete(&stored.key());
        write.delete(&stored.grant_key());
        write.delete(&key::blob(digest));
        write.delete(&key::reference(digest, None));
        revise(&mut write)?;
        let ticket = self.journal.commit(write)?;
        self.journal.durable(ticket).await?;
        self.inner.write().unwrap_or_else(PoisonError::into_inner).by_digest.remove(&digest);
        Ok(())
    }

    /// What is installed without these, and with one more.
    pub(crate) fn without(&self, gone: &[Digest], more: Option<Plugin>) -> Known {
        let mut all = self.all();
        all.retain(|installed| !gone.contains(&installed.stored.inspection.digest));
        let stay = all.iter().map(|installed| Plugin {
            manifest: Arc::new(installed.stored.manifest.clone()),
            grants: installed.grants.clone(),
        });
        Known::of(stay.chain(more))
    }

    /// What was removed and is still kept.
    pub(crate) fn removed(&self) -> Vec<Stored> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let stored = inner.by_digest.values().map(|installed| &installed.stored);
        stored.filter(|stored| stored.removed_at.is_some()).cloned().collect()
    }
}
