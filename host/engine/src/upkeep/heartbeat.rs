//! What an installation knows of the time, and what ends a doubt of the machine's clock.
//!
//! A clock that is believed is written into one row now and then. The next start compares its own clock with that
//! ([`bellhop_clock::belief`]). What is recorded while a clock is doubted counts for nothing here, because it would make the
//! same wrong clock right at the next start.

use std::sync::Arc;
use std::time::Duration;

use bellhop_clock::belief::{Doubt, Heard};
use bellhop_core::backoff::Backoff;
use bellhop_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Engine;
use bellhop_journal::{self as journal, Journal, Write, damaged_is_none, key};

/// A single fact of the installation.
const ROW: &str = "clock";
/// How often the row is written. A host that was killed and is started again within what is left of an hour is believed.
const EVERY: Duration = Duration::from_secs(600);
/// Until Slack is asked again.
const ASK_AGAIN: Backoff = Backoff { first_ms: 2_000, max_ms: 60_000 };

/// See [`ROW`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Beat {
    at: Timestamp,
}

/// The newest time that the store knows; none where it has no record of any. Without the row, or where that is damaged, it
/// is that of the run that began last.
pub(crate) async fn newest_known(journal: &Journal) -> Result<Option<Timestamp>, journal::Error> {
    if let Some(Beat { at }) = damaged_is_none(journal.get::<Beat>(&key::host(ROW)).await)? {
        return Ok(Some(at));
    }
    let newest = match journal.runs(None, 1).await {
        Ok(listed) => listed.items.into_iter().next(),
        Err(error) if error.is_fatal() => return Err(error),
        // What cannot be read keeps no host from starting.
        Err(_) => None,
    };
    Ok(newest.and_then(|(_, summary)| summary.ok()).map(|summary| summary.started_at.max(summary.updated_at)))
}

impl Engine {
    /// Writes the time into the row if the clock is believed. Where there is no row yet and it is not, the newest known time
    /// is written, so that what is recorded in the doubt never stands for it.
    pub(crate) async fn beat(&self) -> Result<(), journal::Error> {
        let journal = &self.services.journal;
        let mut tries = journal::Tries::default();
        loop {
            let (before, seen) = journal.see::<Beat>(&key::host(ROW)).await;
            let at = match (self.services.time.doubt(), damaged_is_none(before)?) {
                (None, _) => self.services.clock.now(),
                (Some(doubt), None) => doubt.newest,
                (Some(_), Some(_)) => return Ok(()),
            };
            let mut write = Write::new();
            write.rests_on(seen);
            write.put(&key::host(ROW), &Beat { at })?;
            match journal.commit(write) {
                // Another process has written it just now.
                Err(error) if tries.again(&error) => {}
                written => return written.map(drop),
            }
        }
    }

    /// A person says that the machine's clock is right. After Ok that is durable, and the next start knows of it; false where
    /// the clock was not doubted.
    ///
    /// # Errors
    /// The store's. Where that is not of the disk's room, the doubt is over for this process all the same.
    pub async fn confirm_clock(&self, by: &str) -> Result<bool, journal::Error> {
        let ended = self.services.time.confirm();
        if let Some(doubt) = ended {
            tracing::info!(clock = %self.services.time.shown(), newest_known = %doubt.newest, by, "a person has confirmed the machine's clock: it is doubted no more");
        }
        self.beat().await?;
        self.services.journal.durable(self.services.journal.tip()).await?;
        Ok(ended.is_some())
    }

    /// Writes the row, and asks Slack what time it is while the clock is doubted, until the process stops.
    pub(crate) async fn look_after_the_clock(self: Arc<Self>) {
        let mut drain = self.services.drain.subscribe();
        let mut changes = self.services.time.changes();
        let mut next_beat = self.services.clock.monotonic() + EVERY;
        let mut known: Option<(Timestamp, Timestamp)> = None;
        let mut asked = 0;
        loop {
            changes.mark_unchanged();
            let doubt = self.services.time.doubt();
            // Each doubt is said once.
            let before = std::mem::replace(&mut known, doubt.map(|doubt| (doubt.shown, doubt.newest)));
            let wait = if let Some(doubt) = doubt {
                if known != before {
                    say(&doubt);
                    asked = 0;
                }
                asked += 1;
                tokio::select! {
                    biased;
                    _ = drain.wait_for(|drain| *drain) => return,
                    () = self.ask_slack() => {}
                }
                Duration::from_millis(ASK_AGAIN.wait_ms(asked, self.services.entropy.next()))
            } else {
                let now = self.services.clock.monotonic();
                // One that was doubted until now is written at once.
                if before.is_some() || now >= next_beat {
                    next_beat = now + EVERY;
                    if let Err(error) = self.beat().await {
                        // A store that failed ends the process elsewhere.
                        tracing::warn!(%error, "that the machine's clock is believed cannot be kept");
                    }
                }
                next_beat.saturating_sub(now)
            };
            tokio::select! {
                biased;
                _ = drain.wait_for(|drain| *drain) => return,
                Ok(()) = changes.changed() => {}
                () = self.services.clock.sleep(wait) => {}
            }
        }
    }

    /// Compares the clock with Slack's. An installation that has nothing to do with Slack does not ask it.
    async fn ask_slack(&self) {
        if self.services.gateway.connections().is_empty() {
            return;
        }
        let time = match self.services.gateway.time().await {
            Ok(Some(time)) => time,
            Ok(None) => return tracing::debug!("Slack's answer does not say what time it is"),
            Err(failure) => return tracing::debug!(%failure, "Slack cannot be asked what time it is"),
        };
        match self.services.time.hear(time) {
            Heard::Agrees(doubt) => {
                tracing::info!(slack = %time, newest_known = %doubt.newest, "Slack's clock agrees with the machine's: it is doubted no more");
            }
            Heard::Differs { first: true } => {
                tracing::error!(clock = %self.services.time.shown(), slack = %time, "the machine's clock is wrong by Slack's: set it, or have it confirmed by `bellhop clock confirm`");
            }
            Heard::Differs { first: false } | Heard::Nothing => {}
        }
    }
}

fn say(doubt: &Doubt) {
    tracing::warn!(
        clock = %doubt.shown,
        newest_known = %doubt.newest,
        code = "clock-doubted",
        "the machine's clock is doubted: {}. Nothing is removed, nothing ends and no timer fires that was not due by the newest known time, until Slack's clock agrees or a person says `bellhop clock confirm`",
        doubt.why.as_str(),
    );
}
