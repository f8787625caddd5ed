//! Follows a run's public events from wherever a reader was, as far as they are durable.

use std::sync::Arc;

use bellhop_core::id::RunId;
use bellhop_core::mask::Mask;

use crate::Engine;
use crate::drive::runs::LoadError;
use crate::pins::Pins;
use crate::setup::definitions::Definition;
use crate::show::timeline::{Public, Reader};
use bellhop_journal as journal;

/// One reader's place in a run's log.
pub struct Follower {
    run: RunId,
    reader: Reader,
    from: u64,
    after: u64,
    over: bool,
}

impl Follower {
    /// Whether the event that ends the run was read: there is nothing to come.
    pub fn is_over(&self) -> bool {
        self.over
    }
}

impl Engine {
    /// A reader of the events of `run` with numbers above `after`; none when there is no such run.
    pub fn follow(&self, run: RunId, after: u64) -> Result<Option<Follower>, LoadError> {
        // One of which only a part is left is being removed.
        if self.summary(run)?.is_none() {
            return Ok(None);
        }
        let Some((pins, definition)) = self.accepted(run)? else { return Ok(None) };
        let mask = self.mask(&pins, &definition)?;
        let reader = Reader::new(definition.workflow.clone(), mask);
        Ok(Some(Follower { run, reader, from: 0, after, over: false }))
    }

    /// What a run pins, and its definition; none when there is no such run.
    pub(crate) fn accepted(&self, run: RunId) -> Result<Option<(Pins, Arc<Definition>)>, LoadError> {
        match self.pins_of(run) {
            Ok(found) => Ok(Some(found)),
            Err(LoadError::Unknown(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn mask(&self, pins: &Pins, definition: &Definition) -> Result<Mask, LoadError> {
        let sensitive = &definition.workflow.extras.sensitive;
        if sensitive.is_empty() {
            return Ok(Mask::default());
        }
        Ok(Mask::new(sensitive, &self.services.journal.read(&pins.input)?))
    }

    /// What of a run is shown to nobody.
    pub(crate) fn mask_of(&self, run: RunId) -> Result<Mask, LoadError> {
        match self.accepted(run)? {
            Some((pins, definition)) => self.mask(&pins, &definition),
            None => Ok(Mask::default()),
        }
    }

    /// The events of the next records, at most `records_max` of them; none when the log has no more for now. A record may
    /// have megabytes, so this is for a thread that nobody else waits for. Before anything of it leaves,
    /// [`Services::what_was_read_is_durable`](crate::Services::what_was_read_is_durable) has to be waited for.
    pub fn next_events(&self, follower: &mut Follower, records_max: usize) -> Result<Option<Vec<Public>>, LoadError> {
        let page = self.services.journal.entries(follower.run, follower.from, records_max)?;
        if page.is_empty() {
            return Ok(None);
        }
        let mut found = Vec::new();
        for (seq, entry) in page {
            follower.from = seq + 1;
            for event in follower.reader.read(&self.services.journal, entry) {
                follower.over |= matches!(event.kind, "run.completed" | "run.faulted" | "run.cancelled");
                if event.id > follower.after {
                    found.push(event);
                }
            }
        }
        Ok(Some(found))
    }

    /// Whether more than so many records are in the log that the reader has not had.
    pub fn is_behind(&self, follower: &Follower, records_max: u64) -> Result<bool, journal::Error> {
        let next = follower.from.saturating_add(records_max);
        Ok(!self.services.journal.entries(follower.run, next, 1)?.is_empty())
    }

    /// The events of a run with numbers above `after`, until at least `limit` are there or the log has no more.
    #[cfg(test)]
    pub async fn events(&self, run: RunId, after: u64, limit: usize) -> Result<Option<Vec<Public>>, LoadError> {
        let Some(mut follower) = self.follow(run, after)? else { return Ok(None) };
        let mut found = Vec::new();
        while found.len() < limit
            && let Some(events) = self.next_events(&mut follower, 1_000)?
        {
            found.extend(events);
        }
        self.services.what_was_read_is_durable().await?;
        Ok(Some(found))
    }
}
