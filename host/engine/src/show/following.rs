//! Follows a run's public events from wherever a reader was, as far as they are durable.

use std::sync::Arc;

use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;
use bellhop_core::mask::Mask;

use crate::Engine;
use crate::drive::runs::LoadError;
use crate::pins::Pins;
use crate::setup::definitions::Definition;
use crate::show::timeline::{self, Public, Reader};
use bellhop_journal::{self as journal, StoredEntries, Values};

/// One reader's place in a run's log.
pub struct Follower {
    run: RunId,
    reader: Reader,
    from: u64,
    after: u64,
    over: bool,
}

/// Records of a run as the store has them, and the large values that they name where somebody has read these.
pub struct Records {
    entries: StoredEntries,
    values: Option<Values>,
}

/// What was made of records.
pub enum Made {
    /// All of their events.
    Events(Vec<Public>),
    /// Nothing yet, because they name large values.
    Wants(Wanted),
}

/// Records that are read once more, with the large values that they name: see [`Engine::with_values`].
pub struct Wanted {
    records: Records,
    digests: Vec<Digest>,
}

impl Follower {
    /// Whether the event that ends the run was read: there is nothing to come.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// The events of the reader's next records. A record may have megabytes, so this is for a thread that nobody else waits
    /// for. Before anything of it leaves,
    /// [`Services::what_was_read_is_durable`](crate::Services::what_was_read_is_durable) has to be waited for.
    ///
    /// # Errors
    /// A record is damaged: the reader stands where it stood.
    pub fn read(&mut self, records: Records) -> Result<Made, LoadError> {
        let entries = records.entries.decode()?;
        if records.values.is_none() {
            let digests: Vec<Digest> = entries.iter().flat_map(|(_, entry)| timeline::named_by(entry)).collect();
            if !digests.is_empty() {
                return Ok(Made::Wants(Wanted { records, digests }));
            }
        }
        let values = records.values.unwrap_or_default();
        let mut found = Vec::new();
        for (seq, entry) in entries {
            self.from = seq + 1;
            for event in self.reader.read(&values, entry) {
                self.over |= matches!(event.kind, "run.completed" | "run.faulted" | "run.cancelled");
                if event.id > self.after {
                    found.push(event);
                }
            }
        }
        Ok(Made::Events(found))
    }
}

impl Engine {
    /// A reader of the events of `run` with numbers above `after`; none when there is no such run.
    pub async fn follow(&self, run: RunId, after: u64) -> Result<Option<Follower>, LoadError> {
        // One of which only a part is left is being removed.
        if self.summary(run).await?.is_none() {
            return Ok(None);
        }
        let Some((pins, definition)) = self.accepted(run).await? else { return Ok(None) };
        let mask = self.mask(&pins, &definition).await?;
        let reader = Reader::new(definition.workflow.clone(), mask);
        Ok(Some(Follower { run, reader, from: 0, after, over: false }))
    }

    /// What a run pins, and its definition; none when there is no such run.
    pub(crate) async fn accepted(&self, run: RunId) -> Result<Option<(Pins, Arc<Definition>)>, LoadError> {
        match self.pins_of(run).await {
            Ok(found) => Ok(Some(found)),
            Err(LoadError::Unknown(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn mask(&self, pins: &Pins, definition: &Definition) -> Result<Mask, LoadError> {
        let sensitive = &definition.workflow.extras.sensitive;
        if sensitive.is_empty() {
            return Ok(Mask::default());
        }
        Ok(Mask::new(sensitive, &self.services.journal.read(&pins.input).await?))
    }

    /// What of a run is shown to nobody.
    pub(crate) async fn mask_of(&self, run: RunId) -> Result<Mask, LoadError> {
        match self.accepted(run).await? {
            Some((pins, definition)) => self.mask(&pins, &definition).await,
            None => Ok(Mask::default()),
        }
    }

    /// The next records of a reader, at most `records_max` of them, as the store has them; none when the log has no more for
    /// now. [`Follower::read`] makes events of them.
    pub async fn next_records(&self, follower: &Follower, records_max: usize) -> Result<Option<Records>, LoadError> {
        let entries = self.services.journal.stored_entries(follower.run, follower.from, records_max).await?;
        Ok((!entries.is_empty()).then_some(Records { entries, values: None }))
    }

    /// The same with the large values that they name.
    pub async fn with_values(&self, Wanted { records, digests }: Wanted) -> Records {
        Records { values: Some(self.services.journal.values(digests).await), ..records }
    }

    /// Whether more than so many records are in the log that the reader has not had.
    pub async fn is_behind(&self, follower: &Follower, records_max: u64) -> Result<bool, journal::Error> {
        let next = follower.from.saturating_add(records_max);
        Ok(!self.services.journal.stored_entries(follower.run, next, 1).await?.is_empty())
    }

    /// The events of the next records of a reader; none when the log has no more for now.
    #[cfg(test)]
    pub async fn next_events(
        &self,
        follower: &mut Follower,
        records_max: usize,
    ) -> Result<Option<Vec<Public>>, LoadError> {
        let Some(mut records) = self.next_records(follower, records_max).await? else { return Ok(None) };
        loop {
            match follower.read(records)? {
                Made::Events(events) => return Ok(Some(events)),
                Made::Wants(wanted) => records = self.with_values(wanted).await,
            }
        }
    }

    /// The events of a run with numbers above `after`, until at least `limit` are there or the log has no more.
    #[cfg(test)]
    pub async fn events(&self, run: RunId, after: u64, limit: usize) -> Result<Option<Vec<Public>>, LoadError> {
        let Some(mut follower) = self.follow(run, after).await? else { return Ok(None) };
        let mut found = Vec::new();
        while found.len() < limit
            && let Some(events) = self.next_events(&mut follower, 1_000).await?
        {
            found.extend(events);
        }
        self.services.what_was_read_is_durable().await?;
        Ok(Some(found))
    }
}
