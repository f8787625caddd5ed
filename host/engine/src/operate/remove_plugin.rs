//! A plugin leaves the host: only when nothing that is open or registered needs it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bellhop_core::definition::{ActionReference, TaskKind, Workflow};
use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;
use bellhop_core::preflight::Plugins as Known;

use crate::Engine;
use crate::drive::runs::LoadError;
use crate::setup::plugins::{GrantError, Installed, Uses};
use bellhop_journal::{self as journal, Entry};

/// Open runs read at once.
const PAGE: usize = 1_000;
/// Where more runs are kept, what was removed stays in the store: to look at them all would hold up a start.
const RUNS_LOOKED_AT_MAX: usize = 10_000;

/// Why a plugin was not removed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// It is not there.
    #[error(transparent)]
    Named(#[from] GrantError),
    /// Something needs it.
    #[error("plugin `{name}` is needed: {}", .uses.in_words().unwrap_or_default())]
    InUse {
        /// The plugin.
        name: String,
        /// By whom.
        uses: Uses,
    },
    /// The journal.
    #[error(transparent)]
    Journal(#[from] journal::Error),
}

impl Engine {
    /// Removes a plugin, or one version of it. After Ok that is durable and nothing new can call it; what was removed is
    /// given. Ended runs keep what they pin of it, so that they can be shown and undone.
    pub async fn remove_plugin(&self, name: &str, version: Option<&str>) -> Result<Vec<Arc<Installed>>, RemoveError> {
        let plugins = &self.services.plugins;
        let _one = plugins.alone().await;
        let gone = plugins.named(name, version)?;
        let uses = self.uses(&gone).await?;
        if !uses.is_empty() {
            return Err(RemoveError::InUse { name: name.to_owned(), uses });
        }
        plugins.put_all_away(&gone, self.services.clock.now()).await?;
        Ok(gone)
    }

    /// What needs these plugins now. A run that is accepted meanwhile goes on with them all the same.
    async fn uses(&self, gone: &[Arc<Installed>]) -> Result<Uses, journal::Error> {
        let mut uses = Uses::default();
        let digests: Vec<Digest> = gone.iter().map(|old| old.stored.inspection.digest).collect();
        let mut after = None;
        loop {
            let page = self.services.journal.open_runs(PAGE, after).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for (run, _) in page {
                if self.pins(run, &digests).await {
                    uses.run(run);
                }
            }
        }
        let with = self.services.plugins.known();
        let without = self.services.plugins.without(&digests, None);
        let goes = |reference: &ActionReference| with.resolve(reference).is_ok() && without.resolve(reference).is_err();
        self.workflows(&mut uses, goes).await?;
        Ok(uses)
    }

    /// Notes the workflows of which a reference is meant.
    async fn workflows(&self, uses: &mut Uses, meant: impl Fn(&ActionReference) -> bool) -> Result<(), journal::Error> {
        for (name, current) in self.services.definitions.all().await? {
            let Some(definition) = self.services.definitions.find(&name, Some(&current.version)).await? else {
                continue;
            };
            if references(&definition.workflow).any(&meant) {
                uses.workflow(name.to_string());
            }
        }
        Ok(())
    }

    /// The workflows that call another plugin, or another version of one, once `before` has become `after`.
    pub async fn callers_anew(&self, before: Arc<Known>, after: Arc<Known>) -> Result<Uses, journal::Error> {
        let mut uses = Uses::default();
        let means = |known: &Known, reference: &ActionReference| {
            let found = known.resolve(reference).ok()?;
            Some((found.reference, found.plugin.manifest.publisher.clone()))
        };
        self.workflows(&mut uses, |reference| {
            let after = means(&after, reference);
            after.is_some() && after != means(&before, reference)
        })
        .await?;
        Ok(uses)
    }

    /// Whether a run pins one of these components. Of a run that cannot be taken up its first record says so, where that
    /// can be read.
    async fn pins(&self, run: RunId, plugins: &[Digest]) -> bool {
        match self.pins_of(run).await {
            Ok((pins, _)) => pins.actions.iter().any(|action| plugins.contains(&action.plugin)),
            Err(LoadError::Unknown(_)) => false,
            Err(_) => {
                let Ok(mut found) = self.services.journal.entries(run, 0, 1).await else { return false };
                let Some((_, Entry::Accepted { pins })) = found.pop() else { return false };
                let text = pins.text();
                plugins.iter().any(|plugin| text.contains(&plugin.to_string()))
            }
        }
    }

    /// Deletes the components that were removed and that no run names any more. Nothing is accepted yet when this is
    /// asked, at a start, so that none can come to be named meanwhile.
    pub async fn forget_removed_plugins(&self) -> Result<usize, journal::Error> {
        let plugins = &self.services.plugins;
        let _one = plugins.alone().await;
        let mut idle = plugins.removed();
        let mut range = None;
        let mut looked_at = 0;
        while !idle.is_empty() {
            let page = self.services.journal.runs(range, PAGE).await?;
            looked_at += page.items.len();
            for (run, _) in &page.items {
                let mut unnamed = Vec::with_capacity(idle.len());
                for stored in idle {
                    if !self.pins(*run, &[stored.inspection.digest]).await {
                        unnamed.push(stored);
                    }
                }
                idle = unnamed;
            }
            range = page.next;
            if range.is_none() {
                break;
            }
            if looked_at >= RUNS_LOOKED_AT_MAX {
                return Ok(0);
            }
        }
        for stored in &idle {
            plugins.delete(stored).await?;
            tracing::info!(
                plugin = stored.manifest.name,
                version = stored.manifest.version,
                "a removed plugin was deleted: no run names it"
            );
        }
        Ok(idle.len())
    }
}

/// The actions that a workflow calls, and by which it takes back.
fn references(workflow: &Workflow) -> impl Iterator<Item = &ActionReference> {
    let all = workflow.tasks.iter().flat_map(|task| {
        let called = match &task.kind {
            TaskKind::Call(call) => Some(&call.reference),
            _ => None,
        };
        called.into_iter().chain(task.extras.compensate.as_ref().map(bellhop_core::definition::Compensate::reference))
    });
    all.collect::<BTreeSet<_>>().into_iter()
}
