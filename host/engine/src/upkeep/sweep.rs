//! Removes what may go: idempotency keys and whole runs some time after a run's end, tokens some time after theirs, and
//! what is over of rate limits.

use std::sync::Arc;
use std::time::Duration;

use bellhop_core::time::Timestamp;
use bellhop_slack::limiter::Closed;
use serde_json::Value;

use crate::Engine;
use crate::execution::summary::Bound;
use crate::upkeep::Fate;
use crate::upkeep::retention::run_of;
use bellhop_journal::key::{Key, Space};
use bellhop_journal::{self as journal, Write, key, readable};

/// Removed in one batch: others' writes come in between.
const SLICE: usize = 500;
/// Before something that could not be removed is tried again.
const AGAIN_MS: u64 = 3_600_000;

impl Engine {
    /// Sweeps for as long as the process runs.
    pub(crate) async fn sweep_for_ever(self: Arc<Self>) {
        let mut drain = self.services.drain.subscribe();
        if let Err(error) = self.keep_by_limits().await {
            tracing::warn!(%error, "how long ended runs are kept is not as the limits say");
        }
        let every = Duration::from_millis(self.services.limits.sweep_every_ms);
        let (now, kept_ms) = (self.services.clock.settled(), self.services.limits.ended_tokens_kept_ms);
        if let Err(error) = self.tokens.sweep_all(now, kept_ms).await {
            tracing::warn!(%error, "tokens that have ended cannot be removed");
        }
        loop {
            match self.sweep().await {
                Ok(0) => {}
                Ok(removed) => tracing::debug!(removed, "what may go was removed"),
                // What could not be removed is found the next time; a store that failed ends the process elsewhere.
                Err(error) => tracing::warn!(%error, "what may go cannot be removed"),
            }
            tokio::select! {
                biased;
                () = self.services.clock.sleep(every) => {}
                _ = drain.wait_for(|drain| *drain) => return,
            }
        }
    }

    /// Removes everything that may go by the settled time, slice by slice; gives how much. A run counts as one.
    pub async fn sweep(&self) -> Result<u64, journal::Error> {
        let journal = &self.services.journal;
        let mut removed = 0;
        let mut tries = journal::Tries::default();
        loop {
            let now = self.services.clock.settled();
            let expired = journal.expired(now, SLICE).await?;
            let last = expired.len() < SLICE;
            let mut write = Write::new();
            let mut gone = 0;
            for (at, subject) in expired {
                write.delete(&key::expiry(at, &subject));
                let fate = match run_of(&subject) {
                    Some(run) => self.forget(run, now).await,
                    None => self.fate(&subject, now, &mut write).await,
                };
                let fate = match fate {
                    // What cannot be removed does not keep what comes after it from being removed.
                    Err(error) if !error.is_fatal() => {
                        tracing::warn!(%error, "something that may go cannot be removed, and is tried again later");
                        Fate::KeptUntil(now.plus_millis(AGAIN_MS))
                    }
                    fate => fate?,
                };
                match fate {
                    // Gone already, with everything else of it.
                    Fate::Gone if subject.space() == Space::Summary => gone += 1,
                    Fate::Gone => {
                        write.delete(&subject);
                        gone += 1;
                    }
                    Fate::Kept => {}
                    Fate::KeptUntil(later) => write.put(&key::expiry(later, &subject), &Value::Null)?,
                }
            }
            if !write.is_empty() {
                let ticket = match journal.commit(write) {
                    // A key was bound anew since it was looked at, or a bucket closed: what may go is looked for again.
                    Err(error) if tries.again(&error) => continue,
                    written => written?,
                };
                journal.durable(ticket).await?;
            }
            removed += gone;
            if last || self.is_draining() {
                return Ok(removed);
            }
        }
    }

    /// What becomes of something whose time has come. What goes, goes in `write` only if it is what was seen.
    async fn fate(&self, subject: &Key, now: Timestamp, write: &mut Write) -> Result<Fate, journal::Error> {
        let journal = &self.services.journal;
        Ok(match subject.space() {
            Space::Idempotency => {
                let (bound, seen) = journal.see::<Bound>(subject).await;
                let summary = match readable(bound)? {
                    Some(bound) => readable(journal.get::<journal::Summary>(&key::summary(bound.run)).await)?,
                    None => None,
                };
                let Some(summary) = summary else {
                    write.rests_on(seen);
                    return Ok(Fate::Gone);
                };
                match summary.ended_at.map(|at| at.plus_millis(self.services.installation.now().idempotency_kept_ms)) {
                    Some(until) if until <= now => {
                        write.rests_on(seen);
                        Fate::Gone
                    }
                    Some(until) => Fate::KeptUntil(until),
                    // It goes on, and its next end says anew when the key may go.
                    None => Fate::Kept,
                }
            }
            Space::Limiter => {
                let (closed, seen) = journal.see::<Closed>(subject).await;
                match readable(closed)? {
                    Some(closed) if closed.until_ms > now.as_millis() => {
                        Fate::KeptUntil(Timestamp::from_millis(closed.until_ms))
                    }
                    _ => {
                        write.rests_on(seen);
                        Fate::Gone
                    }
                }
            }
            Space::Token => {
                let kept_ms = self.services.limits.ended_tokens_kept_ms;
                match readable(self.tokens.sweep(subject, now, kept_ms).await.map(Some))?.flatten() {
                    Some(until) => Fate::KeptUntil(until),
                    None if journal.get::<Value>(subject).await.is_ok_and(|found| found.is_none()) => Fate::Gone,
                    // It has no end any more, or cannot be read: that is for a person to look at.
                    None => Fate::Kept,
                }
            }
            _ => Fate::Gone,
        })
    }
}
