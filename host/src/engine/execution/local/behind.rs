//! What a run leaves behind while it goes on: the calls of a slice, and what it pinned.

use std::sync::Arc;

use bellhop_core::run::{ExecutionKey, Facts};

use super::super::Error;
use super::Local;
use super::beside::small_enough;
use super::log::Log;
use crate::journal::{self, Entry, Write, key};

impl Local {
    /// See [`super::Execution::leave_behind`].
    pub(super) fn behind(
        &self,
        execution: &ExecutionKey,
        attempt: u32,
        first: u32,
        facts: &Arc<Facts>,
    ) -> Result<(), Error> {
        let mut log = self.log();
        log.leave_behind(execution, attempt, first);
        self.checkpoint(&mut log, facts)
    }

    /// The next entry pins anew, and the workflow's version is this one from there on.
    pub(crate) fn pins_next(&self, version: &str) {
        let mut log = self.log();
        log.summary.version = version.to_owned();
        log.summary.pins_at = Some(log.seq);
    }

    /// Writes a snapshot of the run as its log has it now, though nothing is decided: it costs the entries since the one
    /// before.
    fn checkpoint(&self, log: &mut Log, facts: &Arc<Facts>) -> Result<(), Error> {
        let read = Log::read(&self.journal, self.run, log.summary.clone(), facts)?;
        let (mut state, mut number) = (read.state, read.decisions);
        while let Some(seq) = read.log.decisions.get(&number) {
            let unreadable = || Error::OfTheRun(format!("the decision {number} cannot be read"));
            let page = self.journal.entries(self.run, *seq, 1)?;
            let Some((_, Entry::Decision { events })) = page.into_iter().next() else { return Err(unreadable()) };
            for content in events {
                let value = self.journal.value(content)?;
                state.apply(&serde_json::from_value(value).map_err(|_| unreadable())?);
            }
            number += 1;
        }
        let Some(value) = small_enough(log, &state)? else { return Ok(()) };
        let snapshot = journal::Snapshot {
            seq: log.seq,
            state: journal::Content::Value(value),
            log: Some(log.index(&state, number)),
        };
        let mut write = Write::new();
        write.put(&key::snapshot(self.run), &snapshot)?;
        log.last = self.journal.commit(write)?;
        log.snapshot_events = state.events;
        Ok(())
    }
}
