//! What is kept beside a run's log and can be made again from its state: summary, timer, snapshot, its place among the
//! open runs.

use bellhop_core::id::RunId;
use bellhop_core::run::State;
use serde_json::Value;

use super::super::Error;
use super::log::Log;
use super::{Local, failed};
use crate::engine::{retention, summary};
use crate::journal::{self, Entry, Place, Write, key};

/// A snapshot is kept after so many events, so that waking a run costs the snapshot and not the history. One that is
/// large is made again only when as much was recorded since: a loop of ten thousand items keeps what all of them gave, and
/// would otherwise write that again with each few of them.
const SNAPSHOT_EVENTS: u64 = 256;

impl Local {
    /// What can be made again from a state and is written with it: summary, timer, snapshot, the mark of an open run.
    pub(super) fn beside(&self, log: &mut Log, number: u64, write: &mut Write, state: &State) -> Result<(), Error> {
        let (stored, wanted) = log.timer;
        if stored != wanted {
            if let Some(at) = stored {
                write.delete(&key::timer(at, self.run, 0));
            }
            if let Some(at) = wanted {
                write.put(&key::timer(at, self.run, 0), &Value::Null).map_err(failed)?;
            }
        }
        if let Some(newer) = state.displaced_by().filter(|_| log.summary.aftermath.superseded_by.is_none()) {
            log.summary.aftermath.by = self.who_started(newer);
        }
        let now = self.clock.now();
        let summary =
            summary::after(&log.summary, state, now, |value| self.journal.content(write, value)).map_err(failed)?;
        let changed = summary.status != log.summary.status || summary.waiting != log.summary.waiting;
        if changed || state.ended().is_some() || summary.pins_at == Some(log.seq) {
            write.put(&key::summary(self.run), &summary).map_err(failed)?;
        }
        let place = place_of(state);
        let reopened = state.ended().is_none() && log.summary.status.is_final();
        if state.ended().is_none() && (reopened || place != log.place) {
            let open = journal::Open { place: place.clone(), ..journal::Open::default() };
            write.put(&key::open(self.run), &open).map_err(failed)?;
        }
        log.place = place;
        if let Some((at, _)) = state.ended() {
            write.delete(&key::open(self.run));
            write.delete(&key::snapshot(self.run));
            summary::bind_until(write, &log.summary, at, self.limits.idempotency_kept_ms).map_err(failed)?;
            let kept_ms = state.facts().workflow.extras.retention_ms.unwrap_or(self.limits.runs_kept_ms);
            retention::keep_until(write, self.run, at, kept_ms).map_err(failed)?;
        } else if rests(state)
            || (state.events >= log.snapshot_events + SNAPSHOT_EVENTS && log.bytes >= log.snapshot_due_bytes)
        {
            let value = serde_json::to_value(state).map_err(|e| Error::Journal(e.to_string()))?;
            let snapshot = journal::Snapshot {
                seq: log.seq + 1,
                // Never by digest: it replaces the one before it, and that one must leave nothing behind.
                state: journal::Content::Value(value),
                log: Some(log.index(state, number + 1)),
            };
            let before = write.bytes() as u64;
            write.put(&key::snapshot(self.run), &snapshot).map_err(failed)?;
            log.snapshot_events = state.events;
            log.snapshot_in_write = write.bytes() as u64 - before;
            log.snapshot_due_bytes = log.bytes + log.snapshot_in_write;
        }
        log.summary = summary;
        Ok(())
    }

    /// Who started a run; none where that is not on record or cannot be read: nobody is named then.
    fn who_started(&self, run: RunId) -> Option<String> {
        let first = self.journal.entries(run, 0, 1).ok()?.into_iter().next();
        let Some((0, Entry::Accepted { pins })) = first else { return None };
        pins.get("by").and_then(Value::as_str).map(str::to_owned)
    }

    /// Writes the run's summary as `state` has it, whatever was written before.
    pub(crate) fn refresh(&self, state: &State) -> Result<(), Error> {
        let mut log = self.log();
        let mut write = Write::new();
        let now = self.clock.now();
        let summary = summary::after(&log.summary, state, now, |value| self.journal.content(&mut write, value))
            .map_err(failed)?;
        write.put(&key::summary(self.run), &summary).map_err(failed)?;
        log.last = self.journal.commit(write.of(self.run)).map_err(failed)?;
        log.summary = summary;
        Ok(())
    }
}

pub(super) fn place_of(state: &State) -> Option<Place> {
    state.group().map(|(group, admitted)| Place { group: group.clone(), admitted })
}

/// Whether the run waits for nobody but time or a person: it will leave memory.
fn rests(state: &State) -> bool {
    use bellhop_core::run::Status;
    matches!(state.status(), Status::Waiting | Status::Parked | Status::Suspended)
}
