//! What a run leaves behind while it goes on: the calls of a slice, and what it pinned.

use std::sync::Arc;

use bellhop_core::run::{Event, ExecutionKey, Facts};

use super::super::Error;
use super::Local;
use super::beside::small_enough;
use super::log::{Log, Read};
use crate::pins::Pins;
use bellhop_journal::{self as journal, Journal, Write, key};

impl Local {
    /// See [`super::Execution::leave_behind`].
    pub(super) async fn behind(
        &self,
        execution: &ExecutionKey,
        attempt: u32,
        first: u32,
        facts: &Arc<Facts>,
    ) -> Result<(), Error> {
        self.log().leave_behind(execution, attempt, first);
        self.checkpoint(facts, |log| log.leave_behind(execution, attempt, first)).await
    }

    /// With the next decision the run depends on this, and the workflow's version is the one there.
    pub(crate) fn pins_next(&self, pins: &Pins) -> Result<(), Error> {
        let json = Journal::json(pins)?;
        let mut log = self.log();
        log.summary.version.clone_from(&pins.version);
        log.summary.pins_at = Some(log.seq);
        log.pins_next = Some(json);
        Ok(())
    }

    /// Writes a snapshot of the run as its log has it now, though nothing is decided: it costs the entries since the one
    /// before. The store is read while nobody has to wait for the log; what is recorded meanwhile comes after the snapshot.
    async fn checkpoint(&self, facts: &Arc<Facts>, leave: impl FnOnce(&mut Log)) -> Result<(), Error> {
        let (summary, before) = {
            let log = self.log();
            if log.bytes < log.checkpoint_due_bytes {
                return Ok(());
            }
            (log.summary.clone(), log.snapshot_events)
        };
        let Read { log: mut read, mut state, decisions: mut number } =
            Log::read(&self.journal, self.run, summary, facts).await?;
        leave(&mut read);
        while let Some(seq) = read.decisions.get(&number) {
            let unreadable = || Error::OfTheRun(format!("the decision {number} cannot be read"));
            for event in self.journal.decision::<Event>(self.run, *seq).await?.ok_or_else(unreadable)? {
                if !state.apply(&event) {
                    return Err(Error::OfTheRun(format!("an event of the decision {number} does not fit")));
                }
            }
            number += 1;
        }
        let kept = small_enough(&read, &state)?;
        let mut log = self.log();
        let Some(state_now) = kept else {
            // It grows with the log: to look at it each time again would cost more than to read it at last.
            log.checkpoint_due_bytes = log.bytes.saturating_mul(2);
            return Ok(());
        };
        if log.snapshot_events != before {
            return Ok(());
        }
        let snapshot = journal::Snapshot { seq: read.seq, state: state_now, log: read.index(&state, number) };
        let mut write = Write::new();
        write.put(&key::snapshot(self.run), &snapshot)?;
        log.last = self.journal.commit(write)?;
        log.snapshot_events = state.events;
        Ok(())
    }
}
