//! What is kept of a restore, and the word that has a restored host go on (semantics 9).

use std::collections::BTreeMap;

use bellhop_core::id::RunId;
use bellhop_core::time::Timestamp;
use serde_json::Value;

use crate::Engine;
use crate::drive::recovery;
use crate::restored::{Known, Restore, Restores};
use bellhop_journal::{self as journal, Journal, Tries, Write, key};

/// A single row.
const ROW: &str = "restored";

/// What a process is to know. Of a row that is damaged only that there was one is known: then everything that is there is of
/// a backup, however old, and a person has to say that it goes on.
pub(crate) async fn read(journal: &Journal) -> Result<Known, journal::Error> {
    let restores = match journal.get::<Restores>(&key::host(ROW)).await {
        Ok(restores) => restores.unwrap_or_default(),
        Err(error) if error.is_damage() => {
            tracing::error!(%error, code = "storage-damaged", "what is kept of a restore cannot be read");
            let newest = journal.runs(None, 1).await?.items.first().map(|(run, _)| *run);
            let (instant, restored_at) = (Timestamp::from_millis(0), Timestamp::from_millis(0));
            Restores { all: vec![Restore { instant, last_run: newest, restored_at, gone_on_at: None }] }
        }
        Err(error) => return Err(error),
    };
    Ok(Known::new(restores))
}

/// Keeps that a store was made of a backup that began at `instant` and whose last run is `newest`. Durable after Ok. How the
/// processes ended that the backup is of says nothing of those to come.
///
/// # Errors
/// The journal.
pub async fn mark(
    journal: &Journal,
    instant: Timestamp,
    newest: Option<RunId>,
    now: Timestamp,
) -> Result<(), journal::Error> {
    let kept = journal::damaged_is_none(journal.get::<Restores>(&key::host(ROW)).await)?;
    let mut restores = kept.unwrap_or_default();
    restores.add(Restore { instant, last_run: newest, restored_at: now, gone_on_at: None });
    let mut write = Write::new();
    write.put(&key::host(ROW), &restores)?;
    recovery::forget_lives(&mut write);
    let ticket = journal.commit(write)?;
    Ok(journal.durable(ticket).await?)
}

/// The connections that a store has, and the kinds of tokens that each is known to have had, for whoever has to give them
/// again.
///
/// # Errors
/// The journal.
pub async fn connections(journal: &Journal) -> Result<BTreeMap<String, Value>, journal::Error> {
    let mut all = journal.list::<Value>(key::Space::Connection, &key::all(key::Space::Connection));
    let mut found = BTreeMap::new();
    while let Some(read) = all.next().await {
        let (_, stored) = read?;
        let facts = stored.get("facts").cloned().unwrap_or_default();
        if let Some(name) = facts.get("name").and_then(Value::as_str) {
            found.insert(name.to_owned(), facts.get("kind").cloned().unwrap_or_default());
        }
    }
    Ok(found)
}

impl Engine {
    /// The restore after which nobody has had this host go on: until then no run goes on and none begins.
    pub fn awaits_go_on(&self) -> Option<Restore> {
        self.services.restored.awaits()
    }

    /// Has a restored host go on; gives the restore. After Ok that is durable, and its runs go on. Nothing is done where it
    /// goes on already; none where it was never restored.
    ///
    /// # Errors
    /// The journal. Whether it goes on is not known then: the same is asked again.
    pub async fn go_on(&self) -> Result<Option<Restore>, journal::Error> {
        let journal = &self.services.journal;
        let mut tries = Tries::default();
        loop {
            let (kept, seen) = journal.see::<Restores>(&key::host(ROW)).await;
            let mut restores = match kept {
                // The row is written anew.
                Err(error) if error.is_damage() => {
                    Restores { all: self.services.restored.awaits().into_iter().collect() }
                }
                kept => kept?.unwrap_or_default(),
            };
            let Some(last) = restores.all.last_mut() else { return Ok(None) };
            if last.gone_on_at.is_none() {
                last.gone_on_at = Some(self.services.clock.now());
                let last = *last;
                let mut write = Write::new();
                write.rests_on(seen);
                write.put(&key::host(ROW), &restores)?;
                match journal.commit(write) {
                    Err(error) if tries.again(&error) => continue,
                    Err(error) => return Err(error),
                    Ok(ticket) => journal.durable(ticket).await?,
                }
                tracing::info!(instant = %last.instant, "the restored host goes on");
            }
            let last = restores.all.last().copied();
            self.services.restored.set(restores);
            return Ok(last);
        }
    }
}
