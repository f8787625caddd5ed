//! What an attempt has done, over its slices and tries, and in whichever life of the process: what the host knows beside
//! the action's own account.

use std::sync::atomic::{AtomicBool, Ordering};

use bellhop_core::run::{Account, Effect, Returned};

use crate::engine::execution::{Answer, Attempted};

/// See the module.
#[derive(Default)]
pub(super) struct Deeds {
    /// A write was carried out.
    wrote: AtomicBool,
    /// A write was answered from an earlier attempt's success.
    reused: AtomicBool,
    /// Earlier attempts carried out more than this one came to again.
    left: AtomicBool,
    /// A write was sent again though an earlier sending may have been carried out.
    repeated: AtomicBool,
    /// What a write asked for was so when it was read back, and perhaps before.
    perhaps: AtomicBool,
}

impl Deeds {
    /// Takes note of a call's answer, a new one or one from the record.
    pub(super) fn note(&self, answer: &Answer) {
        if !answer.writes {
            return;
        }
        if answer.result.is_ok() {
            self.wrote.store(true, Ordering::Relaxed);
            self.reused.fetch_or(answer.how.is_reused(), Ordering::Relaxed);
            self.perhaps.fetch_or(answer.how.holds(), Ordering::Relaxed);
        }
    }

    /// Takes note of what the attempt has on record from before: earlier slices and lives of the process.
    pub(super) fn restore(&self, attempted: Attempted) {
        self.wrote.fetch_or(attempted.wrote, Ordering::Relaxed);
        self.reused.fetch_or(attempted.reused, Ordering::Relaxed);
        self.perhaps.fetch_or(attempted.perhaps, Ordering::Relaxed);
    }

    /// What the action says that it changed is not all that its attempts changed.
    pub(super) fn note_left(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    /// A write is about to be sent again though an earlier sending may have been carried out.
    pub(super) fn note_repeated(&self) {
        self.repeated.store(true, Ordering::Relaxed);
    }

    /// Whether a write was carried out.
    pub(super) fn has_written(&self) -> bool {
        self.wrote.load(Ordering::Relaxed)
    }

    /// What is known of an action that was stopped.
    pub(super) fn cut_short(&self) -> Effect {
        let changed = self.has_written();
        // What was to be sent once more, because it may not have been carried out, is not now.
        let doubtful = !changed && self.repeated.load(Ordering::Relaxed);
        let account = if doubtful { Account::Doubtful } else { Account::Partial };
        Effect { changed, account, ..Effect::default() }
    }

    /// An action's own account, with what is known here.
    pub(super) fn accounted(&self, returned: Returned) -> Returned {
        let did = |deed: &AtomicBool| deed.load(Ordering::Relaxed);
        // The change is the one that the earlier attempt has in the ledger only if it is all of it.
        let reused = did(&self.reused) && !did(&self.left);
        match returned {
            Returned::Ok { output, mut effect } => {
                effect.reused = reused;
                if did(&self.perhaps) || (!effect.changed && did(&self.repeated)) {
                    effect.account = Account::Doubtful;
                }
                Returned::Ok { output, effect }
            }
            Returned::Fault(fault) if did(&self.wrote) => {
                let effect = Effect { changed: true, undo: None, account: Account::Partial, reused };
                Returned::Broken { fault, effect }
            }
            other => other,
        }
    }
}
