//! That a host's folder was restored from a backup, and what follows for its runs (semantics 9).
//!
//! What was done after the backup is not on record, and Slack has it all the same. So nothing goes on before a person says
//! so, and from then on a write of a run that was in the backup counts as one that was perhaps sent: it is read back before
//! it is sent for the first time. Whether a run was in the backup follows from its id, because ids ascend and no run is
//! accepted between the backup and the word of that person.

use std::sync::Arc;

use bellhop_core::id::RunId;
use bellhop_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// One time that the folder was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// When the backup began: what is in none of its records was done later, or not at all.
    pub instant: Timestamp,
    /// The run in the backup that was accepted last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run: Option<RunId>,
    /// When it was restored.
    pub restored_at: Timestamp,
    /// When a person had it go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_on_at: Option<Timestamp>,
}

/// All of them, the last one last: a single row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Restores {
    pub(crate) all: Vec<Restore>,
}

/// Of more, the oldest are one: as old as the older, with the runs of the later.
const KEPT_MAX: usize = 16;

impl Restores {
    /// With one more.
    pub(crate) fn add(&mut self, restore: Restore) {
        self.all.push(restore);
        while self.all.len() > KEPT_MAX {
            let older = self.all.remove(0);
            if let Some(next) = self.all.first_mut() {
                next.instant = next.instant.min(older.instant);
                next.last_run = next.last_run.max(older.last_run);
            }
        }
    }

    /// The last one, where nobody has had it go on.
    pub(crate) fn awaits(&self) -> Option<Restore> {
        self.all.last().copied().filter(|last| last.gone_on_at.is_none())
    }

    /// Whether the writes of a run were perhaps sent though nothing says so.
    fn doubt(&self, run: RunId) -> Option<Doubt> {
        let mut of_it = self.all.iter().filter(|restore| restore.last_run.is_some_and(|last| run <= last));
        let first = of_it.next()?;
        let doubt = |restore: &Restore| Doubt {
            since: restore.instant,
            settled_from: restore.gone_on_at.unwrap_or(Timestamp::from_millis(u64::MAX)),
        };
        Some(of_it.map(doubt).fold(doubt(first), |all, next| Doubt {
            since: all.since.min(next.since),
            settled_from: all.settled_from.max(next.settled_from),
        }))
    }
}

/// That a write of a run was perhaps sent though nothing says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Doubt {
    /// Not before.
    pub(crate) since: Timestamp,
    /// What was found out from here on settles it.
    pub(crate) settled_from: Timestamp,
}

/// What a process knows of it; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Known(Arc<watch::Sender<Restores>>);

impl Known {
    pub(crate) fn new(restores: Restores) -> Self {
        Self(Arc::new(watch::channel(restores).0))
    }

    /// The restore after which nobody has had the host go on.
    pub(crate) fn awaits(&self) -> Option<Restore> {
        self.0.borrow().awaits()
    }

    /// See [`Doubt`].
    pub(crate) fn doubt(&self, run: RunId) -> Option<Doubt> {
        self.0.borrow().doubt(run)
    }

    /// It is so now.
    pub(crate) fn set(&self, restores: Restores) {
        self.0.send_replace(restores);
    }

    /// Waits until the host may go on.
    pub(crate) async fn goes_on(&self) {
        let mut restores = self.0.subscribe();
        // The sender is here: it cannot go.
        let _ = restores.wait_for(|restores| restores.awaits().is_none()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn run(millis: u64) -> RunId {
        RunId::new(at(millis), 1)
    }

    fn restore(instant: u64, last: u64, gone_on: Option<u64>) -> Restore {
        let (last_run, gone_on_at) = (Some(run(last)), gone_on.map(at));
        Restore { instant: at(instant), last_run, restored_at: at(last + 1), gone_on_at }
    }

    #[test]
    fn only_runs_of_the_backup_are_in_doubt_since_the_oldest_that_they_were_in() {
        let mut restores = Restores::default();
        assert_eq!((restores.awaits(), restores.doubt(run(1))), (None, None));
        restores.add(restore(100, 110, Some(500)));
        restores.add(restore(700, 710, None));
        assert_eq!(restores.awaits().unwrap().instant, at(700));
        restores.all[1].gone_on_at = Some(at(900));
        assert_eq!(restores.awaits(), None);
        let doubt = |of: u64| restores.doubt(run(of)).map(|d| (d.since.as_millis(), d.settled_from.as_millis()));
        assert_eq!(
            [doubt(1), doubt(110), doubt(111), doubt(710), doubt(711)],
            [Some((100, 900)), Some((100, 900)), Some((700, 900)), Some((700, 900)), None,]
        );
    }

    #[test]
    fn the_oldest_of_many_are_one_that_doubts_no_less() {
        let mut restores = Restores::default();
        for number in 0..40 {
            restores.add(restore(1_000 + number, 2_000 + number, Some(3_000 + number)));
        }
        assert_eq!(restores.all.len(), KEPT_MAX);
        assert_eq!(restores.doubt(run(1)).unwrap().since, at(1_000));
        assert_eq!(restores.doubt(run(2_039)).unwrap(), Doubt { since: at(1_039), settled_from: at(3_039) });
        assert_eq!(restores.doubt(run(2_040)), None);
    }
}
