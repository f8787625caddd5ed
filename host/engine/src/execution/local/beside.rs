//! What is kept beside a run's log and can be made again from its state: summary, timer, snapshot, its mark among the open
//! runs; and what the owner of its group is told.

use bellhop_core::id::RunId;
use std::borrow::Cow;

use bellhop_core::run::State;
use serde_json::Value;

use super::super::Error;
use super::Local;
use super::log::Log;
use crate::execution::open;
use crate::execution::{rest_of, summary};
use crate::mail::{Message, Posted, Wish};
use bellhop_journal::{self as journal, Entry, Json, Rest, Write, key};

/// A snapshot is kept after so many events, so that waking a run costs the snapshot and not the history. One that is
/// large is made again only when as much was recorded since: a loop of ten thousand items keeps what all of them gave, and
/// would otherwise write that again with each few of them.
const SNAPSHOT_EVENTS: u64 = 256;

/// The largest state that is kept as a snapshot, in bytes of JSON. In memory the values that tasks hand on are shared, in
/// JSON they are not: a state beyond this costs more than what it saves, and is folded from the log instead.
const SNAPSHOT_BYTES_MAX: u64 = 8 << 20;

/// No value is longer than this, but for what was recorded of the run when it began.
const VALUE_BYTES_LIKELY: u64 = 1 << 20;

/// What was written beside a decision, as the log has it once that is accepted.
pub(super) struct Beside {
    summary: journal::Summary,
    group: Option<String>,
    rest: Rest,
    /// What the owner of its group is told.
    pub(super) posted: Option<Posted>,
    /// The state's events at a snapshot, and the run's bytes from which on another is worth its own.
    snapshot: Option<(u64, u64)>,
}

impl Log {
    /// The run stands like this.
    pub(super) fn stands_like(&mut self, state: &State) {
        self.is_ending = state.ends();
        self.parked =
            state.calls().filter(|(_, call)| call.parked.is_some()).map(|(_, call)| call.key.clone()).collect();
    }

    /// A decision is accepted, with this beside it.
    pub(super) fn stands(&mut self, beside: Beside) {
        (self.summary, self.called_anew) = (beside.summary, false);
        (self.group, self.rest) = (beside.group, beside.rest);
        if let Some((events, due_bytes)) = beside.snapshot {
            (self.snapshot_events, self.snapshot_due_bytes) = (events, due_bytes);
        }
    }
}

impl Local {
    /// What can be made again from a state and is written with it: summary, timer, snapshot, the mark of an open run.
    /// `number` is the decision's, and `next_seq` that of the entry that will come behind it; `displaced_by` who started the
    /// run that has taken its place.
    pub(super) fn beside(
        &self,
        log: &Log,
        (number, next_seq): (u64, u64),
        write: &mut Write,
        (state, displaced_by): (&State, Option<&str>),
    ) -> Result<Beside, Error> {
        let (stored, wanted) = log.timer;
        if stored != wanted {
            if let Some(at) = stored {
                write.delete(&key::timer(at, self.run, 0));
            }
            if let Some(at) = wanted {
                write.put(&key::timer(at, self.run, 0), &Value::Null)?;
            }
        }
        let mut before = Cow::Borrowed(&log.summary);
        if state.displaced_by().is_some() && log.summary.aftermath.superseded_by.is_none() {
            before.to_mut().aftermath.by = displaced_by.map(str::to_owned);
        }
        let now = self.clock.now();
        let mut summary = summary::after(&before, state, now, |value| self.journal.content(write, &value))?;
        open::note(&mut summary, state, &log.open, self.limits.open_shown_max);
        let changed = log.called_anew
            || summary.status != log.summary.status
            || summary.waiting != log.summary.waiting
            || (&summary.open, summary.open_more) != (&log.summary.open, log.summary.open_more);
        if changed || state.ended().is_some() || summary.pins_at == Some(log.seq) {
            write.put(&key::summary(self.run), &summary)?;
        }
        let (group, rest) = (group_of(state), rest_of(state));
        let reopened = state.ended().is_none() && log.summary.status.is_final();
        if state.ended().is_none() && (reopened || group != log.group || rest != log.rest) {
            let open = journal::Open { group: group.clone(), rest, ..journal::Open::default() };
            write.put(&key::open(self.run), &open)?;
        }
        let posted = self.tell_group(log, write, state)?;
        let mut kept = None;
        if let Some((at, _)) = state.ended() {
            write.delete(&key::open(self.run));
            write.delete(&key::snapshot(self.run));
            let kept = self.installation.now();
            summary::bind_until(write, &log.summary, at, kept.idempotency_kept_ms)?;
            let kept_ms = state.facts().workflow.extras.retention_ms.unwrap_or(kept.runs_kept_ms);
            summary::keep_until(write, self.run, at, kept_ms)?;
        } else if rests(state)
            || (state.events >= log.snapshot_events + SNAPSHOT_EVENTS && log.bytes >= log.snapshot_due_bytes)
        {
            let before = write.bytes() as u64;
            if let Some(state_now) = small_enough(log, state)? {
                let snapshot = journal::Snapshot {
                    seq: next_seq,
                    // Never by digest: it replaces the one before it, and that one must leave nothing behind.
                    state: state_now,
                    log: log.index(state, number + 1),
                };
                write.put(&key::snapshot(self.run), &snapshot)?;
            }
            let bytes = (write.bytes() as u64 - before).max(1);
            kept = Some((state.events, log.bytes + bytes));
        }
        Ok(Beside { summary, group, rest, posted, snapshot: kept })
    }

    /// Tells the owner of its group that the run wants a place, or none any more.
    fn tell_group(&self, log: &Log, write: &mut Write, state: &State) -> Result<Option<Posted>, Error> {
        let run = self.run;
        let message = match (&log.group, state.group()) {
            (None, Some((group, admitted))) => {
                let (name, group) = (group.name.clone(), group.clone());
                Message::Group { group: name, wish: Wish::Join { run, group, admitted } }
            }
            (Some(group), None) => Message::Group { group: group.clone(), wish: Wish::Leave { run } },
            (None, None) | (Some(_), Some(_)) => return Ok(None),
        };
        Ok(Some(self.mail.post(write, message)?))
    }

    /// Who started a run; none where that is not on record or cannot be read: nobody is named then.
    pub(super) async fn who_started(&self, run: RunId) -> Option<String> {
        let first = self.journal.entries(run, 0, 1).await.ok()?.into_iter().next();
        let Some((0, Entry::Accepted { pins })) = first else { return None };
        pins.read::<Value>().ok()?.get("by").and_then(Value::as_str).map(str::to_owned)
    }

    /// Writes the run's summary as `state` has it, whatever was written before.
    pub(crate) fn refresh(&self, state: &State) -> Result<(), Error> {
        let mut log = self.log();
        let mut write = Write::new();
        let now = self.clock.now();
        let mut summary = summary::after(&log.summary, state, now, |value| self.journal.content(&mut write, &value))?;
        open::note(&mut summary, state, &log.open, self.limits.open_shown_max);
        write.put(&key::summary(self.run), &summary)?;
        log.last = self.journal.commit(write.of(self.run))?;
        log.summary = summary;
        Ok(())
    }
}

/// The state as JSON, unless it is too large for a snapshot.
pub(super) fn small_enough(log: &Log, state: &State) -> Result<Option<Json>, Error> {
    let unwritable = |error: serde_json::Error| Error::OfTheRun(format!("the run's state cannot be written: {error}"));
    // No value in it is longer than all that was recorded: most states need not be measured.
    if state.bytes_at_most(log.bytes.min(VALUE_BYTES_LIKELY)) > SNAPSHOT_BYTES_MAX {
        let mut room = Room { left: SNAPSHOT_BYTES_MAX };
        match serde_json::to_writer(&mut room, state) {
            Err(error) if error.is_io() => return Ok(None),
            measured => measured.map_err(unwritable)?,
        }
    }
    Json::of(state).map(Some).map_err(unwritable)
}

/// Takes so many bytes and keeps none.
struct Room {
    left: u64,
}

impl std::io::Write for Room {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::StorageFull))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(super) fn group_of(state: &State) -> Option<String> {
    state.group().map(|(group, _)| group.name.clone())
}

/// Whether the run waits for nobody but time or a person: it will leave memory.
fn rests(state: &State) -> bool {
    use bellhop_core::run::Status;
    matches!(state.status(), Status::Waiting | Status::Parked | Status::Suspended)
}
