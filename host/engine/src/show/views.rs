//! Runs as people see them.

use std::collections::{BTreeMap, BTreeSet};

use bellhop_core::id::RunId;
use bellhop_core::requirement::TokenKind;
use bellhop_core::run::{Reason, Status};
use serde::Serialize;
use serde_json::Value;

use crate::Engine;
use crate::Services;
use crate::traces::{Trace, Traceparent};
use bellhop_journal::store::{self, Lack};
use bellhop_journal::{self as journal, Summary};

/// A run, as `GET /v1/runs/{id}` shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunView {
    /// Which.
    pub id: RunId,
    /// How it stands.
    pub status: Status,
    /// `namespace/name`.
    pub workflow: String,
    /// Of the workflow.
    pub version: String,
    /// For what it waits, until when.
    pub waiting: Option<Value>,
    /// What of it waits for a person's word: each has an address, by which `resolve` takes it.
    pub open: Vec<Value>,
    /// How much more does.
    pub open_more: u64,
    /// What it ended with.
    pub output: Option<Value>,
    /// The fault that it ended or is parked with.
    pub error: Option<Value>,
    /// The trigger's.
    pub labels: BTreeMap<String, String>,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339.
    pub ended_at: Option<String>,
    /// Why it is cancelled, or suspended.
    pub reason: Option<&'static str>,
    /// Of a run that is cancelled or faulted: how many of its changes were taken back.
    pub undone: Option<u32>,
    /// Likewise: how many were not.
    pub left: Option<u32>,
    /// The run that has taken its place.
    #[serde(rename = "superseded_by")]
    pub superseded_by: Option<RunId>,
    /// Who wanted its end: the name and the id of a token.
    pub by: Option<String>,
    /// Under which its spans are found, where such are kept.
    #[serde(rename = "trace_id")]
    pub trace_id: String,
    /// The functions that it called, by the kind of token by which the calls went out: as whom it did what it did.
    #[serde(rename = "called_as", skip_serializing_if = "BTreeMap::is_empty")]
    pub called_as: BTreeMap<TokenKind, BTreeSet<String>>,
    /// In a list: the members that are there and too large for it; the run itself has them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<&'static str>,
}

/// No run in a list has more bytes, what is stored for itself left out: so many are read at one time as there surely is room
/// for.
const LISTED_BYTES_LIKELY: u64 = 128 << 10;
/// Runs that are looked at before others have their turn on the thread.
const LOOKED_AT_ONCE: u64 = 100;

impl Services {
    /// Waits until all that was read before is durable, so that nothing is told that a crash takes back.
    ///
    /// # Errors
    /// [`store::Error::NoRoom`]: that has to wait until the disk has room, which nobody can say when it is.
    pub async fn what_was_read_is_durable(&self) -> Result<(), journal::Error> {
        // Taken after the read: what was read was accepted by now.
        let mut durable = self.journal.durable(self.journal.tip());
        loop {
            tokio::select! {
                biased;
                done = &mut durable => return Ok(done?),
                () = self.clock.sleep(journal::ROOM_LOOK) => {}
            }
            if let Some(Lack { free, wanted }) = self.journal.stats().held {
                return Err(store::Error::NoRoom { free, wanted }.into());
            }
        }
    }
}

/// Why a run is shown as suspended that the host does not carry.
const RESTORED: &str = "restored";

impl Engine {
    /// Whether nothing of the run goes on, because nobody has had the restored host go on yet.
    fn is_held(&self, summary: &Summary) -> bool {
        !summary.status.is_final() && self.awaits_go_on().is_some()
    }

    /// How a run stands, as it is shown.
    fn shown_status(&self, summary: &Summary) -> Status {
        if self.is_held(summary) { Status::Suspended } else { summary.status }
    }

    /// As in a list, where what is stored for itself is left out and named, because a page would be as large as all of it.
    async fn view_in_list(&self, run: RunId, mut summary: Summary) -> Result<RunView, journal::Error> {
        let mut cut = Vec::new();
        for (name, member) in [("output", &mut summary.output), ("error", &mut summary.error)] {
            if matches!(member, Some(journal::Content::Stored { .. })) {
                *member = None;
                cut.push(name);
            }
        }
        Ok(RunView { cut, ..self.view(run, summary).await? })
    }

    async fn view(&self, run: RunId, summary: Summary) -> Result<RunView, journal::Error> {
        let (status, is_held) = (self.shown_status(&summary), self.is_held(&summary));
        Ok(RunView {
            id: run,
            status,
            workflow: format!("{}/{}", summary.namespace, summary.name),
            version: summary.version,
            waiting: summary.waiting,
            open: summary.open,
            open_more: summary.open_more,
            output: self.value(summary.output).await?,
            error: self.value(summary.error).await?,
            labels: summary.labels,
            started_at: summary.started_at.to_string(),
            ended_at: summary.ended_at.map(|t| t.to_string()),
            reason: is_held.then_some(RESTORED).or_else(|| summary.aftermath.reason.map(Reason::as_str)),
            undone: summary.aftermath.undone,
            left: summary.aftermath.left,
            superseded_by: summary.aftermath.superseded_by,
            by: summary.aftermath.by,
            trace_id: Trace::of(run, summary.traceparent.as_deref().and_then(Traceparent::parse)).id(),
            called_as: summary.called_as,
            cut: Vec::new(),
        })
    }

    async fn value(&self, content: Option<journal::Content>) -> Result<Option<Value>, journal::Error> {
        match content {
            Some(content) => self.services.journal.read(&content).await.map(Some),
            None => Ok(None),
        }
    }

    /// A run as it stands. What it says is durable when this returns.
    pub async fn run_view(&self, run: RunId) -> Result<Option<RunView>, journal::Error> {
        let Some(summary) = self.summary(run).await? else { return Ok(None) };
        let view = self.view(run, summary).await?;
        self.services.what_was_read_is_durable().await?;
        Ok(Some(view))
    }

    /// A page of runs, newest first, from behind `cursor`, that `keep` says yes to; and the next cursor. The page is full
    /// when `limit` runs are in it, or `list_bytes_max` bytes; else there is none behind it, unless `list_looked_max` runs
    /// were looked at for it: then it ends as it is.
    pub async fn run_list(
        &self,
        cursor: Option<journal::key::Range>,
        limit: usize,
        keep: impl Fn(&Summary) -> bool,
    ) -> Result<(Vec<RunView>, Option<journal::key::Range>), journal::Error> {
        let mut views = Vec::new();
        let mut next = cursor;
        let (mut looked, mut at_once) = (0, 0);
        let limits = &self.services.limits;
        let mut bytes = 0;
        loop {
            let room = limits.list_bytes_max.saturating_sub(bytes) / LISTED_BYTES_LIKELY;
            let room = usize::try_from(room).unwrap_or(usize::MAX).max(1);
            let page = self.services.journal.runs(next.take(), (limit - views.len()).min(room)).await?;
            // Of which some may be gone meanwhile.
            let items = page.items.len().max(1) as u64;
            (looked, at_once) = (looked + items, at_once + items);
            for (run, summary) in page.items {
                // One that cannot be read hides no other.
                let summary = match summary {
                    Ok(summary) => summary,
                    Err(error) => {
                        tracing::error!(%run, %error, code = "run-poisoned", "a run's summary cannot be read");
                        self.damaged(run).await
                    }
                };
                let is_kept = match self.is_held(&summary) {
                    true => keep(&Summary { status: Status::Suspended, ..summary.clone() }),
                    false => keep(&summary),
                };
                if is_kept {
                    let view = self.view_in_list(run, summary).await?;
                    bytes += serde_json::to_string(&view).map_or(0, |json| json.len() as u64);
                    views.push(view);
                }
            }
            next = page.next;
            // A filter that hardly anything fits must not read the whole store for one page.
            let is_full = views.len() >= limit || bytes >= limits.list_bytes_max;
            if next.is_none() || is_full || looked >= limits.list_looked_max {
                break;
            }
            if at_once >= LOOKED_AT_ONCE {
                at_once = 0;
                tokio::task::yield_now().await;
            }
        }
        self.services.what_was_read_is_durable().await?;
        Ok((views, next))
    }

    /// Waits until a run has ended or rests until a person does something, or `until` is over; then as
    /// [`Self::run_view`].
    pub async fn wait(&self, run: RunId, until: impl Future<Output = ()>) -> Result<Option<RunView>, journal::Error> {
        tokio::pin!(until);
        loop {
            let moved = self.runs().moved(run);
            // Only looked at: what is told is read again when it is durable. To wait for that at each look would have
            // the run's records synchronised for the looker's sake.
            let Some(summary) = self.summary(run).await? else { return Ok(None) };
            let status = self.shown_status(&summary);
            match moved {
                _ if status.is_final() => return self.run_view(run).await,
                Some(mut moved) => {
                    tokio::select! {
                        biased;
                        () = &mut until => return self.run_view(run).await,
                        () = async { while moved.changed().await.is_ok() {} } => {}
                    }
                }
                // These wait for a person: nobody is helped by waiting with them.
                None if matches!(status, Status::Parked | Status::Blocked | Status::Suspended) => {
                    return self.run_view(run).await;
                }
                // Not in memory: it rests. Look again when it may have been woken.
                None => {
                    tokio::select! {
                        biased;
                        () = &mut until => return self.run_view(run).await,
                        () = self.services.clock.sleep(std::time::Duration::from_millis(100)) => {}
                    }
                }
            }
        }
    }
}
