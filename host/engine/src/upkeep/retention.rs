//! How long a run is kept after its end, and its removal: everything that was recorded of it, and the large values that
//! no other run names. Definitions, tables and plugins stay.

use bellhop_core::id::RunId;
use bellhop_core::time::Timestamp;
use serde_json::Value;

use crate::Engine;
use crate::execution::summary::{self, Bound};
use crate::upkeep::Fate;
use bellhop_journal::key::{self, Key, Parts, Space};
use bellhop_journal::{self as journal, Seen, Summary, Write, readable};
use bellhop_limits::Limits;

/// Records removed in one batch: others' writes come in between.
const RECORDS: usize = 500;
/// Runs looked at in one batch when the limit was changed.
const RUNS: usize = 500;
/// Before one that a driver still holds is looked at again.
const AGAIN_MS: u64 = 60_000;
/// The limit by which the runs in the store were given their time; the default where there is none.
const KEPT_BY: &str = "runs-kept-ms";

/// The run whose time the subject of an expiry is.
pub(crate) fn run_of(subject: &Key) -> Option<RunId> {
    Parts::of(Space::Summary, subject.bytes())?.run()
}

impl Engine {
    /// Removes a run whose time has come. Dies before the end: what is left of it goes when it is asked for again, which
    /// the caller makes sure of by removing the expiry last.
    pub(crate) async fn forget(&self, run: RunId, now: Timestamp) -> Result<Fate, journal::Error> {
        // Nobody takes it up meanwhile, to have it tried again or undone.
        let _turn = self.loading().lock(run.to_string()).await;
        let journal = &self.services.journal;
        let kept_ms = self.services.installation.now().runs_kept_ms;
        match journal.get::<Summary>(&key::summary(run)).await {
            Ok(Some(summary)) => match self.kept_until(run, &summary, kept_ms).await? {
                // It goes on, and its next end says anew when it may go.
                None => return Ok(Fate::Kept),
                Some(until) if until > now => return Ok(Fate::KeptUntil(until)),
                Some(_) if self.runs().is_live(run) => return Ok(Fate::KeptUntil(now.plus_millis(AGAIN_MS))),
                // A key goes before its run: it never answers with one that is gone.
                Some(_) => self.unbind(run, &summary).await?,
            },
            // A part of it is gone already.
            Ok(None) => {}
            // Somebody has to look at it first.
            Err(journal::Error::Record(_)) => return Ok(Fate::Kept),
            Err(error) => return Err(error),
        }
        loop {
            let (ticket, gone) = journal.forget(run, RECORDS).await?;
            if gone {
                self.services.partition.notices.forget_all_of(run).await?;
                return Ok(Fate::Gone);
            }
            journal.durable(ticket).await?;
        }
    }

    /// Removes the keys for which a run answers, unless another run has one of them meanwhile: then the journal refuses it.
    async fn unbind(&self, run: RunId, summary: &Summary) -> Result<(), journal::Error> {
        let mut write = Write::new();
        for (key, seen) in self.bound_to(run, summary).await? {
            write.rests_on(seen);
            write.delete(&key);
        }
        if !write.is_empty() {
            self.services.journal.commit(write)?;
        }
        Ok(())
    }

    async fn bound_to(&self, run: RunId, summary: &Summary) -> Result<Vec<(Key, Seen)>, journal::Error> {
        let mut keys = Vec::new();
        for key in summary::bindings(summary) {
            let (bound, seen) = self.services.journal.see::<Bound>(&key).await;
            if readable(bound)?.is_some_and(|bound| bound.run == run) {
                keys.push((key, seen));
            }
        }
        Ok(keys)
    }

    /// Until when a run is kept; none as long as it has not ended. One that answers for a key is kept as long as the key.
    async fn kept_until(
        &self,
        run: RunId,
        summary: &Summary,
        runs_kept_ms: u64,
    ) -> Result<Option<Timestamp>, journal::Error> {
        let Some(ended_at) = summary.ended_at else { return Ok(None) };
        let mut kept_ms = self.own_retention(run).await.unwrap_or(runs_kept_ms);
        if !self.bound_to(run, summary).await?.is_empty() {
            kept_ms = kept_ms.max(self.services.installation.now().idempotency_kept_ms);
        }
        Ok(Some(ended_at.plus_millis(kept_ms)))
    }

    /// What the run's definition says.
    async fn own_retention(&self, run: RunId) -> Option<u64> {
        // What cannot be read says nothing.
        self.accepted(run).await.ok().flatten()?.1.workflow.extras.retention_ms
    }

    /// Gives every ended run the time that the limits say, if they say another than before.
    pub(crate) async fn keep_by_limits(&self) -> Result<(), journal::Error> {
        let journal = &self.services.journal;
        let kept_ms = self.services.installation.now().runs_kept_ms;
        let before_ms =
            readable(journal.get::<u64>(&key::host(KEPT_BY)).await)?.unwrap_or_else(|| Limits::default().runs_kept_ms);
        if before_ms == kept_ms {
            return Ok(());
        }
        let mut range = None;
        loop {
            let page = journal.runs(range, RUNS).await?;
            let mut write = Write::new();
            for (run, summary) in page.items {
                let Ok(summary) = summary else { continue };
                let (Some(ended_at), subject) = (summary.ended_at, key::summary(run)) else { continue };
                write.delete(&key::expiry(ended_at.plus_millis(before_ms), &subject));
                if let Some(until) = self.kept_until(run, &summary, before_ms).await? {
                    write.delete(&key::expiry(until, &subject));
                }
                if let Some(until) = self.kept_until(run, &summary, kept_ms).await? {
                    write.put(&key::expiry(until, &subject), &Value::Null)?;
                }
            }
            range = page.next;
            if range.is_none() {
                write.put(&key::host(KEPT_BY), &kept_ms)?;
            }
            if !write.is_empty() {
                let ticket = journal.commit(write)?;
                journal.durable(ticket).await?;
            }
            if range.is_none() || self.is_draining() {
                return Ok(());
            }
        }
    }
}
