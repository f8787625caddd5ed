//! What an ended run leaves behind: why it was cancelled, and how much of what it changed was taken back.

use serde::{Deserialize, Serialize};

use super::event::{Ending, Fate};
use super::state::State;
use crate::id::RunId;

/// Why a run is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Somebody asked for its end. Something that it changed may stand.
    Cancelled,
    /// Everything that it changed, and that was something, was taken back.
    Undone,
    /// A newer run has taken its place.
    Superseded,
    /// Somebody ended it whatever it leaves behind.
    GivenUp,
}

impl Reason {
    /// As in lists.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Undone => "undone",
            Self::Superseded => "superseded",
            Self::GivenUp => "given-up",
        }
    }
}

/// How many of a run's changes were taken back, and how many were not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changes {
    /// By their inverse, or by a person.
    pub undone: u32,
    /// All others: what nothing takes back, what a person left, what nobody asked to have taken back.
    pub left: u32,
}

impl State {
    /// What became of the changes of a run that was cancelled or faulted. None of one that goes on or is completed: what
    /// such a run changed is as it should be.
    #[must_use]
    pub fn changes(&self) -> Option<Changes> {
        match self.ended() {
            None | Some((_, Ending::Completed { .. })) => return None,
            Some((_, Ending::Faulted { .. } | Ending::Cancelled)) => {}
        }
        let undone = self.ledger.iter().filter(|e| matches!(e.fate, Some(Fate::Undone | Fate::UndoneByPerson))).count();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Some(Changes { undone: count(undone), left: count(self.ledger.len() - undone) })
    }

    /// Why the run is cancelled; none of one that is not.
    #[must_use]
    pub fn cancelled_because(&self) -> Option<Reason> {
        let Some((_, Ending::Cancelled)) = self.ended() else { return None };
        let undone = self.changes().is_some_and(|changes| changes.undone > 0 && changes.left == 0);
        Some(match (self.killed, self.displaced_by) {
            (true, _) => Reason::GivenUp,
            (false, Some(_)) => Reason::Superseded,
            (false, None) if undone => Reason::Undone,
            (false, None) => Reason::Cancelled,
        })
    }

    /// The run that has taken the place of this one.
    #[must_use]
    pub fn displaced_by(&self) -> Option<RunId> {
        self.displaced_by
    }
}
