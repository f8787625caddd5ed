//! The ledger: what a run changed, and what takes each change back (semantics, section 2).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::{Account, Effect, Fate};
use super::frame::Calling;
use super::key::ExecutionKey;
use super::state::State;
use crate::definition::{ActionReference, OFFBOARDING, Task};
use crate::fault::Fault;
use crate::time::Timestamp;

/// One change that this run made, or may have made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Whose.
    pub key: ExecutionKey,
    /// The action, as the file says.
    pub action: ActionReference,
    /// On which connection.
    pub connection: Option<String>,
    /// What, and how to take it back.
    pub effect: Effect,
    /// What became of it in a rollback; none: it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fate: Option<Fate>,
    /// How often its inverse was called.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// When that was first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo_started_at: Option<Timestamp>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// How a change is taken back.
pub(super) enum Inverse {
    /// By calling this, on this connection.
    Call(ActionReference, Option<String>, Value),
    /// By nothing, and nobody expects it: the action says everything and has no inverse.
    Nothing,
    /// By a person: it is not known how, or not even whether it was this run.
    Person(Fault),
}

impl State {
    /// Keeps a change. A later attempt at an execution that only meets what an earlier one did makes no second entry.
    pub(super) fn record(&mut self, call: &Calling, effect: &Effect) {
        let doubtful = effect.account == Account::Doubtful;
        // What an inverse changes is no change to be taken back.
        if (!effect.changed && !doubtful) || self.task_at(&call.key.pointer).is_none() {
            return;
        }
        let entry = LedgerEntry {
            key: call.key.clone(),
            action: call.action.clone(),
            connection: call.connection.clone(),
            effect: effect.clone(),
            fate: None,
            attempts: 0,
            undo_started_at: None,
        };
        let earlier = self.ledger.iter().rposition(|e| e.key == call.key && e.fate.is_none());
        let Some(position) = earlier else { return self.ledger.push_back_mut(entry) };
        let before = &self.ledger[position].effect;
        let same = effect.reused || (before.undo == effect.undo && before.account == effect.account);
        match (same, before.account, effect.account) {
            // What is known already is not forgotten for an attempt that was cut short.
            (true, Account::Whole, Account::Partial) => {}
            // The change is now known in whole, and its last part was made now.
            (true, Account::Partial, Account::Whole) => {
                let others = self.ledger.iter().enumerate().filter(|(at, _)| *at != position);
                self.ledger = others.map(|(_, entry)| entry.clone()).collect();
                self.ledger.push_back_mut(entry);
            }
            (true, _, _) => {
                self.ledger.set_mut(position, entry);
            }
            // That it was done is known from the attempt that did it.
            (false, _, Account::Doubtful) => {}
            (false, _, _) => self.ledger.push_back_mut(entry),
        }
    }

    /// Keeps what an attempt had changed that was parked and is not gone on with: a later one that finds it so says that
    /// nothing was to be done.
    pub(super) fn record_partway(&mut self, call: &Calling) {
        if call.wrote {
            self.record(call, &Effect { changed: true, account: Account::Partial, ..Effect::default() });
        }
    }

    /// Whether anything of what the run changed stands.
    #[must_use]
    pub fn has_standing_changes(&self) -> bool {
        self.ledger.iter().any(|entry| entry.fate.is_none())
    }

    /// Whether the run has ended and there is something to take back, or to find out before.
    #[must_use]
    pub fn can_undo(&self) -> bool {
        let something = self.has_standing_changes() || !self.stopping.is_empty();
        self.ended.is_some() && something && self.can_roll_back()
    }

    /// Whether a rollback of what stands can be asked for. Offboarding goes forward only.
    #[must_use]
    pub fn can_roll_back(&self) -> bool {
        self.workflow().extras.purpose.as_deref() != Some(OFFBOARDING)
    }

    pub(super) fn task_at(&self, pointer: &str) -> Option<&Task> {
        self.workflow().tasks.iter().find(|task| task.pointer == pointer)
    }

    /// How the change of `entry` is taken back.
    pub(super) fn inverse_of(&self, entry: &LedgerEntry) -> Inverse {
        let compensate = self.task_at(&entry.key.pointer).and_then(|task| task.extras.compensate.as_ref());
        let action = self.facts().actions.get(&entry.action);
        let declared = action.and_then(|a| a.manifest.inverse.as_ref());
        let fault = |code: &str, detail: String| Inverse::Person(Fault::of_code(code, detail));
        if entry.effect.account == Account::Doubtful {
            let detail = format!("`{}` found its work done, and this run itself may have done it before", entry.action);
            return fault("undo-doubtful", detail);
        }
        let Some(undo) = &entry.effect.undo else {
            if declared.is_none() && compensate.is_none() && action.is_some() {
                return Inverse::Nothing;
            }
            let detail = format!("`{}` did not say how to take back what it changed", entry.action);
            return fault("undo-unknown", detail);
        };
        let reference = match compensate {
            Some(compensate) => Some(compensate.reference().clone()),
            None => action.map(|a| ActionReference {
                action: undo.action.clone(),
                version: a.version.clone(),
                plugin: entry.action.plugin.clone(),
            }),
        };
        let Some(reference) = reference else {
            return fault("undo-unknown", format!("what takes back `{}` cannot be told", entry.action));
        };
        if compensate.is_none() && declared != Some(&undo.action) {
            let detail = format!(
                "`{}` wants `{}` to take it back, which its manifest does not declare",
                entry.action, undo.action
            );
            return fault("undo-undeclared", detail);
        }
        let Some(inverse) = self.facts().actions.get(&reference) else {
            return fault("undo-unknown", format!("`{reference}` is not among the actions pinned for this run"));
        };
        let violations = inverse.input.validate(&undo.input);
        if !violations.is_empty() {
            let mut fault = super::fault::of_violations(&format!("the input of `{reference}`"), &violations);
            fault.instance = Some(entry.key.pointer.clone());
            return Inverse::Person(fault);
        }
        let connection = undo.connection.as_ref().or(entry.connection.as_ref());
        Inverse::Call(reference, connection.cloned(), undo.input.clone())
    }

    /// The key under which the inverse of a change is called: no pointer of a task ends like this.
    pub(super) fn key_of_inverse(&self, position: u32) -> Option<ExecutionKey> {
        let entry = self.ledger.get(position as usize)?;
        let mut path = entry.key.path.clone();
        // Two changes of one execution have two inverses.
        let earlier = self.ledger.iter().take(position as usize).filter(|e| e.key == entry.key).count();
        path.push(u32::try_from(earlier).unwrap_or(u32::MAX));
        Some(ExecutionKey { pointer: format!("{}/undo", entry.key.pointer), path })
    }
}
