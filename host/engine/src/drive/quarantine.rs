//! Runs that cannot be taken up: shown as parked, left alone by every start, taken back when a person says so.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bellhop_core::fault::Fault;
use bellhop_core::id::RunId;
use bellhop_core::run::{Reason, Status};
use bellhop_core::time::Timestamp;
use serde_json::{Value, json};

use crate::Engine;
use crate::drive::runs::{LoadError, Loaded};
use crate::execution;
use crate::mail::{Message, Wish};
use crate::pins::Pins;
use bellhop_journal::{self as journal, Aftermath, Entry, Open, Rest, Summary, Write, key};

/// Entries of a log that are read at one time.
const PAGE: usize = 1_000;

/// The reason with which such a run is parked.
const RUN_POISONED: &str = "run-poisoned";

fn poisoned(summary: &mut Summary, reason: &str) {
    let mut fault = Fault::of_code(RUN_POISONED, format!("the run cannot be taken up: {reason}"));
    fault.title = Some("The run cannot be taken up and is set aside".to_owned());
    summary.status = Status::Parked;
    summary.poisoned = true;
    (summary.open, summary.open_more) = (Vec::new(), 0);
    summary.waiting = Some(json!({ "on": "person", "reason": fault }));
}

impl LoadError {
    /// What people may be told of it. What the store says stands in the log.
    fn shown(&self) -> String {
        match self {
            Self::Damaged(reason) => reason.clone(),
            // Written by us, and of sizes alone.
            Self::Port(execution::Error::TooLarge { .. }) => self.to_string(),
            _ => "what was recorded of it cannot be read; the host's log says what".to_owned(),
        }
    }

    /// Whether the run is to blame, and not the store or whoever asked.
    pub(crate) fn is_of_the_run(&self) -> bool {
        match self {
            Self::Unknown(_) => false,
            Self::Damaged(_) => true,
            Self::Port(error) => is_of_the_run(error),
            Self::Journal(error) => is_of_the_run(&error.clone().into()),
        }
    }
}

fn is_of_the_run(error: &execution::Error) -> bool {
    matches!(error, execution::Error::OfTheRun(_) | execution::Error::TooLarge { .. })
}

impl Engine {
    /// Whether the run cannot be taken up in this process.
    pub fn is_aside(&self, run: RunId) -> bool {
        self.runs().aside.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&run)
    }

    /// Nobody takes the run up from now on.
    pub(crate) fn keep_aside(&self, run: RunId, error: &LoadError) {
        self.runs().aside.lock().unwrap_or_else(PoisonError::into_inner).insert(run, error.shown());
    }

    /// Leaves a run alone from now on, and has it shown so. Nobody takes the run up meanwhile: whoever calls has its turn, or
    /// nothing has begun yet.
    pub(crate) async fn set_aside(&self, run: RunId, error: &LoadError) {
        tracing::error!(%run, %error, code = "run-poisoned", "the run is set aside");
        let reason = error.shown();
        self.keep_aside(run, error);
        let kept = self.services.journal.get::<Summary>(&key::summary(run)).await;
        let mut summary = match kept {
            Ok(Some(summary)) if summary.status.is_final() || summary.poisoned => return,
            Ok(Some(summary)) => summary,
            // What can be told from the run's first record replaces what cannot be read.
            Ok(None) | Err(_) => match self.stand_in(run).await {
                Some(summary) => summary,
                None => return,
            },
        };
        poisoned(&mut summary, &reason);
        summary.updated_at = self.services.clock.now();
        if let Err(error) = self.show_aside(run, &summary).await {
            tracing::warn!(%run, %error, "lists do not show that the run is set aside");
        }
    }

    /// As [`Self::set_aside`], of a run that its driver has left and that nobody takes up: unless a person has it taken back
    /// already.
    pub(crate) async fn show_set_aside(&self, run: RunId, error: &LoadError) {
        // What is shown is read and written while nobody takes the run up: it could overwrite what a driver shows.
        let _turn = self.loading().lock(run.to_string()).await;
        if self.is_aside(run) {
            self.set_aside(run, error).await;
        }
    }

    /// The next start tries to read it, whatever its mark said.
    async fn show_aside(&self, run: RunId, summary: &Summary) -> Result<(), journal::Error> {
        let mut write = Write::new();
        write.put(&key::summary(run), summary)?;
        let open = self.mark(run).await?;
        let before = open.rest;
        write.put(&key::open(run), &Open { rest: Rest::No, ..open })?;
        self.services.journal.commit(write)?;
        self.services.partition.tally.moves(Some(before), Some(Rest::No));
        Ok(())
    }

    /// The mark of an open run. One that cannot be read says that its run is not to be read.
    async fn mark(&self, run: RunId) -> Result<Open, journal::Error> {
        match self.services.journal.get(&key::open(run)).await {
            Err(error) if error.is_damage() => Ok(Open { deadly: true, ..Open::default() }),
            mark => Ok(mark?.unwrap_or_default()),
        }
    }

    /// What was pinned in place of the first record's, in the entries from `seq` to `last`: the latest, and where.
    pub(crate) async fn pinned_later(
        &self,
        run: RunId,
        mut seq: u64,
        last: Option<u64>,
    ) -> Result<Option<(u64, Pins)>, LoadError> {
        let journal = &self.services.journal;
        let mut found = None;
        loop {
            let page = journal.entries(run, seq, if last.is_some() { 1 } else { PAGE }).await?;
            let Some((end, _)) = page.last() else { return Ok(found) };
            let end = *end;
            for (at, entry) in page {
                if let Entry::Pinned { pins } = entry {
                    found = Some((at, read_pins(pins.read())?));
                }
            }
            if last.is_some_and(|last| end >= last) {
                return Ok(found);
            }
            seq = end + 1;
        }
    }

    /// What is known of a run whose summary cannot be read, from its log.
    async fn stand_in(&self, run: RunId) -> Option<Summary> {
        let first = self.services.journal.entries(run, 0, 1).await.ok()?.into_iter().next();
        let Some((0, Entry::Accepted { pins })) = first else { return None };
        let pins = read_pins(pins.read()).ok()?;
        // A log that cannot be read to its end is found again when the run is taken up.
        let later = self.pinned_later(run, 1, None).await.ok().flatten();
        let (pins_at, version) = match later {
            Some((seq, later)) => (Some(seq), later.version),
            None => (None, pins.version),
        };
        Some(Summary {
            labels: pins.labels,
            idempotency_key: pins.idempotency_key,
            pins_at,
            ..Summary::new(Status::Parked, pins.workflow.namespace, pins.workflow.name, version, pins.accepted_at)
        })
    }

    /// What lists show of a run whose summary cannot be read.
    pub(crate) async fn damaged(&self, run: RunId) -> Summary {
        let unknown = || "unknown".to_owned();
        let mut summary = self.stand_in(run).await.unwrap_or_else(|| {
            Summary::new(Status::Parked, unknown(), unknown(), unknown(), Timestamp::from_millis(0))
        });
        poisoned(&mut summary, "what is shown of it cannot be read; the host's log says what");
        summary
    }

    /// Takes up again what was set aside, when a person says that it has been mended, or wants it tried.
    ///
    /// # Errors
    /// It still cannot be: then it is set aside as before.
    pub(crate) async fn take_back(self: &Arc<Self>, run: RunId) -> Result<(), LoadError> {
        let _turn = self.loading().lock(run.to_string()).await;
        if self.runs().aside.lock().unwrap_or_else(PoisonError::into_inner).remove(&run).is_none() {
            return Ok(());
        }
        tracing::info!(%run, "the run is taken up again");
        let summary = self.summary(run).await?.ok_or(LoadError::Unknown(run))?;
        // One that has ended has no mark.
        if !summary.status.is_final() {
            let mut write = Write::new();
            let open = self.mark(run).await?;
            write.put(&key::open(run), &Open { deadly: false, rest: Rest::No, ..open })?;
            self.services.journal.commit(write)?;
        }
        let (opening, live) = self.opening(run, summary);
        match Box::pin(self.load(run, opening)).await {
            Ok(loaded) => {
                self.shown_as_it_is(&loaded)?;
                if loaded.state.ended().is_none() {
                    self.services.partition.tally.moves(Some(Rest::No), Some(execution::rest_of(&loaded.state)));
                }
                self.runs().insert(run, live);
                self.carry(run, loaded);
                self.tell_again(run).await;
                let tip = self.services.journal.tip();
                Ok(self.services.journal.durable(tip).await.map_err(journal::Error::from)?)
            }
            Err(error) if error.is_of_the_run() => {
                self.set_aside(run, &error).await;
                Err(LoadError::Damaged(error.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    /// Ends a run that is set aside: it is left as it is, and nobody takes it up again. After Ok that is durable.
    pub(crate) async fn give_up(&self, run: RunId, by: Option<String>) -> Result<(), LoadError> {
        let _turn = self.loading().lock(run.to_string()).await;
        if !self.is_aside(run) {
            return Ok(());
        }
        let mut summary = self.summary(run).await?.ok_or(LoadError::Unknown(run))?;
        let now = self.services.clock.now();
        let mut write = Write::new();
        let mut posted = None;
        let was_open = !summary.status.is_final();
        // A turn that it left in a queue would be given the key when nobody is there to take it.
        self.services.partition.waiting.forget(run);
        self.services.partition.said.ended(run);
        let keys = self.services.partition.keys.held_by(run);
        if was_open {
            let reason = summary.waiting.take().and_then(|mut waiting| waiting.get_mut("reason").map(Value::take));
            summary.poisoned = false;
            summary.error = reason.map(|reason| self.services.journal.content(&mut write, &reason)).transpose()?;
            (summary.status, summary.updated_at, summary.ended_at) = (Status::Cancelled, now, Some(now));
            // Nobody can tell what it changed.
            summary.aftermath = Aftermath { reason: Some(Reason::GivenUp), by, ..Aftermath::default() };
            let kept_ms = self.services.installation.now().idempotency_kept_ms;
            execution::summary::bind_until(&mut write, &summary, now, kept_ms)?;
            // Whoever looks for what may go finds it from now on, and knows how long it is kept.
            write.put(&key::expiry(now, &key::summary(run)), &Value::Null)?;
            write.put(&key::summary(run), &summary)?;
            // Its mark may have been damaged: the owner knows it, too.
            let group = self.mark(run).await?.group.or_else(|| self.services.partition.groups.group_of(run));
            if let Some(group) = group {
                let wish = Wish::Leave { run };
                posted = Some(self.services.partition.mail.post(&mut write, Message::Group { group, wish })?);
            }
            keys.iter().try_for_each(|key| key.write(&mut write))?;
            write.delete(&key::open(run));
            write.delete(&key::snapshot(run));
            tracing::warn!(%run, "a run that was set aside is given up");
        }
        let ticket = self.services.journal.commit(write)?;
        self.services.partition.mail.hand_over(posted);
        self.services.partition.keys.changed(&keys);
        self.services.journal.durable(ticket).await.map_err(journal::Error::from)?;
        self.runs().aside.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
        self.runs().places.ended();
        if was_open {
            self.services.partition.tally.moves(Some(Rest::No), None);
            let took = Duration::from_millis(now.millis_since(summary.started_at));
            self.services.counters.ended(summary.status.as_str(), took);
        }
        Ok(())
    }

    /// A run that can be read again is shown as its state says.
    pub(crate) fn shown_as_it_is(&self, loaded: &Loaded) -> Result<(), LoadError> {
        Ok(loaded.port.refresh(&loaded.state)?)
    }
}

/// What is pinned, as it was read from a record.
pub(crate) fn read_pins(read: Result<Pins, serde_json::Error>) -> Result<Pins, LoadError> {
    read.map_err(|e| LoadError::Damaged(format!("what the run pins cannot be read: {e}")))
}
