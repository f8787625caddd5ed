//! Runs as people see them.

use bellhop_core::id::RunId;
use bellhop_core::run::Status;
use serde::Serialize;
use serde_json::Value;

use super::Engine;
use super::accept::Pins;
use super::runs::LoadError;
use super::timeline::{Public, Reader};
use crate::journal::{self, Entry, Summary};

/// A run, as `GET /v1/runs/{id}` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunView {
    /// Which.
    pub(crate) id: RunId,
    /// How it stands.
    pub(crate) status: Status,
    /// `namespace/name`.
    pub(crate) workflow: String,
    /// Of the workflow.
    pub(crate) version: String,
    /// For what it waits, until when.
    pub(crate) waiting: Option<Value>,
    /// What it ended with.
    pub(crate) output: Option<Value>,
    /// The fault that it ended or is parked with.
    pub(crate) error: Option<Value>,
    /// The trigger's.
    pub(crate) labels: std::collections::BTreeMap<String, String>,
    /// RFC 3339.
    pub(crate) started_at: String,
    /// RFC 3339.
    pub(crate) ended_at: Option<String>,
}

impl Engine {
    fn view(&self, run: RunId, summary: Summary) -> Result<RunView, journal::Error> {
        let value = |content: Option<journal::Content>| content.map(|c| self.services.journal.value(c)).transpose();
        Ok(RunView {
            id: run,
            status: summary.status,
            workflow: format!("{}/{}", summary.namespace, summary.name),
            version: summary.version,
            waiting: summary.waiting,
            output: value(summary.output)?,
            error: value(summary.error)?,
            labels: summary.labels,
            started_at: summary.started_at.to_string(),
            ended_at: summary.ended_at.map(|t| t.to_string()),
        })
    }

    /// A run as it stands. What it says is durable when this returns.
    pub(crate) async fn run_view(&self, run: RunId) -> Result<Option<RunView>, journal::Error> {
        let Some(summary) = self.summary(run)? else { return Ok(None) };
        let view = self.view(run, summary)?;
        // Taken after the read: what was read was accepted by now.
        let tip = self.services.journal.tip();
        self.services.journal.durable(tip).await?;
        Ok(Some(view))
    }

    /// A page of runs, newest first, from behind `cursor`, that `keep` says yes to; and the next cursor.
    pub(crate) async fn run_list(
        &self,
        cursor: Option<journal::key::Range>,
        limit: usize,
        keep: impl Fn(&Summary) -> bool,
    ) -> Result<(Vec<RunView>, Option<journal::key::Range>), journal::Error> {
        let mut views = Vec::new();
        let mut next = cursor;
        // A filter that hardly anything fits must not read the whole store for one page.
        for _ in 0..50 {
            let page = self.services.journal.runs(next.take(), limit - views.len())?;
            for (run, summary) in page.items {
                if keep(&summary) {
                    views.push(self.view(run, summary)?);
                }
            }
            next = page.next;
            if next.is_none() || views.len() >= limit {
                break;
            }
        }
        let tip = self.services.journal.tip();
        self.services.journal.durable(tip).await?;
        Ok((views, next))
    }

    /// Waits until a run has ended, or `until` is over; then as [`Self::run_view`].
    pub(crate) async fn wait(
        &self,
        run: RunId,
        until: impl Future<Output = ()>,
    ) -> Result<Option<RunView>, journal::Error> {
        tokio::pin!(until);
        loop {
            let moved = self.runs.moved(run);
            let view = self.run_view(run).await?;
            match (&view, moved) {
                (Some(v), Some(mut moved)) if !v.status.is_final() => {
                    tokio::select! {
                        () = &mut until => return self.run_view(run).await,
                        _ = moved.changed() => {}
                    }
                }
                (Some(v), None) if !v.status.is_final() => {
                    // Not in memory: it rests. Look again when it may have been woken.
                    tokio::select! {
                        () = &mut until => return Ok(view),
                        () = self.services.clock.sleep(std::time::Duration::from_millis(100)) => {}
                    }
                }
                _ => return Ok(view),
            }
        }
    }

    /// The public events of a run with numbers above `after`, as far as its log goes, at most `limit`; all durable.
    pub(crate) async fn events(&self, run: RunId, after: u64, limit: usize) -> Result<Option<Vec<Public>>, LoadError> {
        let first = self.services.journal.entries(run, 0, 1)?.into_iter().next();
        let Some((_, Entry::Accepted { pins })) = first else { return Ok(None) };
        let pins: Pins = serde_json::from_value(pins).map_err(|e| LoadError::Damaged(e.to_string()))?;
        let definition = self
            .services
            .definitions
            .by_digest(pins.definition, &pins.file)?
            .ok_or_else(|| LoadError::Damaged(format!("the definition {} is not there", pins.definition)))?;
        let mut reader = Reader::new(definition.workflow.clone());
        let mut found = Vec::new();
        let mut from = 0;
        'log: loop {
            let page = self.services.journal.entries(run, from, 1_000)?;
            if page.is_empty() {
                break;
            }
            for (seq, entry) in page {
                from = seq + 1;
                for event in reader.read(&self.services.journal, entry) {
                    if event.id > after {
                        found.push(event);
                    }
                }
                if found.len() >= limit {
                    break 'log;
                }
            }
        }
        let tip = self.services.journal.tip();
        self.services.journal.durable(tip).await.map_err(journal::Error::from)?;
        Ok(Some(found))
    }
}
