//! What a run changed is taken back, newest first (semantics, section 2).

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Decider, Returned};
use crate::backoff;
use crate::fault::Fault;
use crate::run::event::{Event, Fate};
use crate::run::ledger::{Inverse, LedgerEntry};
use crate::run::state::{Stands, Undoing};

/// An inverse is called so many times before a person is asked. What passes by itself, as a rate limit, the shell
/// has waited for already.
const TRIES_MAX: u32 = 4;
/// The wait after the first failure; each further one is four times as long.
const BACKOFF_FIRST_MS: u64 = 2_000;

/// How far a rollback came.
pub(super) enum Progress {
    /// Something has to happen first.
    Waits,
    /// A step was decided.
    Moved,
    /// There is nothing left to take back.
    Over,
}

impl Decider<'_> {
    /// The next step of the rollback, if there is one.
    pub(super) fn roll_back_on(&mut self) -> Progress {
        let Some(rollback) = &self.state.rollback else { return Progress::Over };
        if rollback.current.is_some() {
            return Progress::Waits;
        }
        let next = self.state.ledger.iter().rposition(|entry| entry.fate.is_none());
        let Some(next) = next.and_then(|position| u32::try_from(position).ok()) else { return Progress::Over };
        if self.state.suspended {
            return Progress::Waits;
        }
        if !rollback.begun {
            self.emit(Event::RollbackBegun { at: self.at });
        }
        self.take_back(next);
        Progress::Moved
    }

    fn take_back(&mut self, position: u32) {
        let Some(entry) = self.state.ledger.get(position as usize) else { return };
        match self.state.inverse_of(entry) {
            Inverse::Nothing => {
                self.emit(Event::Settled { entry: position, at: self.at, fate: Fate::NoInverse });
            }
            Inverse::Person(fault) => self.incomplete(position, &fault),
            Inverse::Call(..) => self.call_inverse(position),
        }
    }

    /// Calls the inverse of a change, if it has one to call.
    pub(super) fn call_inverse(&mut self, position: u32) {
        let Some(entry) = self.state.ledger.get(position as usize) else { return };
        let Inverse::Call(action, connection, input) = self.state.inverse_of(entry) else { return };
        let event = Event::UndoScheduled {
            frame: self.next_frame(),
            at: self.at,
            entry: position,
            attempt: entry.attempts + 1,
            action,
            connection,
            arguments: Arc::new(input),
        };
        self.emit(event);
    }

    /// The call of an inverse ended.
    pub(super) fn inverse_returned(&mut self, result: &Returned) {
        let Some(Undoing { entry, tries, .. }) = self.state.undoing().cloned() else { return };
        let fault = match result {
            Returned::Ok { .. } => {
                return self.emit(Event::Settled { entry, at: self.at, fate: Fate::Undone });
            }
            Returned::Fault(fault) | Returned::Broken { fault, .. } => fault.clone().bounded(),
        };
        if tries >= TRIES_MAX {
            return self.incomplete(entry, &fault);
        }
        let wait = backoff::doubled(BACKOFF_FIRST_MS, 2 * u64::from(tries.saturating_sub(1)));
        let wait = backoff::jittered(wait, self.entropy).max(fault.retry_after_ms.unwrap_or(0));
        let until = self.at.plus_millis(wait);
        self.emit(Event::UndoRetryScheduled { entry, fault, until });
    }

    /// An inverse that waits to be tried again is, if its time has come.
    pub(super) fn wake_inverse(&mut self) {
        let due = self.state.undoing().filter(|u| matches!(u.stands, Stands::Until(until) if until <= self.at));
        if let Some(entry) = due.map(|u| u.entry) {
            self.call_inverse(entry);
        }
    }

    fn incomplete(&mut self, position: u32, cause: &Fault) {
        let Some(entry) = self.state.ledger.get(position as usize) else { return };
        let named = |which: fn(&LedgerEntry) -> bool| -> Vec<Value> {
            let entries = self.state.ledger.iter().rev().filter(|entry| which(entry));
            entries.map(|e| json!({ "task": e.key.pointer, "action": e.action.to_string() })).collect()
        };
        let undone = named(|e| matches!(e.fate, Some(Fate::Undone | Fate::UndoneByPerson)));
        let left = named(|e| matches!(e.fate, Some(Fate::NoInverse | Fate::LeftByPerson)));
        let standing = named(|e| e.fate.is_none());
        let mut reason = Fault::of_code(
            "rollback-incomplete",
            format!(
                "`{}` could not be taken back: {} undone, {} still to undo: {}",
                entry.action,
                undone.len(),
                standing.len(),
                cause.detail.as_deref().unwrap_or_else(|| cause.code()),
            ),
        );
        reason.instance = Some(entry.key.pointer.clone());
        reason.slack = cause.slack.clone();
        reason.details = Some(json!({ "undone": undone, "left": left, "notUndone": standing, "cause": cause }));
        self.emit(Event::RollbackIncomplete { entry: position, at: self.at, reason });
    }
}
