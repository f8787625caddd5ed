//! What an attempt has done, over its slices and tries, and in whichever life of the process: what the host knows beside
//! the action's own account.

use bellhop_core::run::{Account, Effect, Returned};

use crate::execution::{Answer, Attempted};

/// See the module.
#[derive(Default)]
pub(super) struct Deeds {
    /// What its calls came to, and those of earlier lives.
    done: Attempted,
    /// Earlier attempts carried out more than this one came to again.
    left: bool,
}

impl Deeds {
    /// Takes note of a call's answer, a new one or one from the record.
    pub(super) fn note(&mut self, answer: &Answer) {
        if answer.writes && answer.result.is_ok() {
            self.restore(Attempted::by_write(answer.how));
        }
    }

    /// Takes note of what the attempt has on record from before: earlier slices and lives of the process.
    pub(super) const fn restore(&mut self, attempted: Attempted) {
        self.done = self.done.and(attempted);
    }

    /// What the action says that it changed is not all that its attempts changed.
    pub(super) const fn note_left(&mut self) {
        self.left = true;
    }

    /// A write is about to be sent again though an earlier sending may have been carried out.
    pub(super) const fn note_repeated(&mut self) {
        self.done.repeated = true;
    }

    /// Whether a write was carried out.
    pub(super) const fn has_written(&self) -> bool {
        self.done.wrote
    }

    /// Whether anything was carried out, or may have been.
    pub(super) const fn has_any(&self) -> bool {
        self.done.wrote || self.done.repeated
    }

    /// What is known of an action that was stopped.
    pub(super) fn cut_short(&self) -> Effect {
        let changed = self.done.wrote;
        // What was to be sent once more, because it may not have been carried out, is not now.
        let doubtful = !changed && self.done.repeated;
        let account = if doubtful { Account::Doubtful } else { Account::Partial };
        Effect { changed, account, ..Effect::default() }
    }

    /// An action's own account, with what is known here.
    pub(super) fn accounted(&self, returned: Returned) -> Returned {
        // The change is the one that the earlier attempt has in the ledger only if it is all of it.
        let reused = self.done.reused && !self.left;
        match returned {
            Returned::Ok { output, mut effect } => {
                effect.reused = reused;
                if self.done.perhaps || (!effect.changed && self.done.repeated) {
                    effect.account = Account::Doubtful;
                }
                Returned::Ok { output, effect }
            }
            Returned::Fault(fault) if self.done.wrote => {
                let effect = Effect { changed: true, undo: None, account: Account::Partial, reused };
                Returned::Broken { fault, effect }
            }
            other => other,
        }
    }
}
