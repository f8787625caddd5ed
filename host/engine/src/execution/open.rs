//! What of a parked run waits for a person's word: each thing with an address of its own.

use std::collections::BTreeMap;

use bellhop_core::run::{ExecutionKey, State, Status, Why};
use serde_json::{Value, json};

use crate::execution::{CallKey, Intent};
use bellhop_journal::Summary;

/// Those that a summary has, as JSON: their addresses are as long as an author's names.
const SHOWN_BYTES_MAX: usize = 32 << 10;

/// One thing that a person says something of.
#[derive(Debug, Clone)]
pub struct Open {
    /// The execution that goes on when it is settled.
    pub execution: ExecutionKey,
    /// What it is.
    pub what: What,
}

/// See [`Open::what`].
#[derive(Debug, Clone)]
pub enum What {
    /// A call was sent, and nobody can tell whether it was carried out.
    Call(CallKey, Intent),
    /// An action was parked, and no call of it is in doubt.
    Action(Why),
    /// A change, of this execution, could not be taken back.
    Change(ExecutionKey),
}

impl Open {
    /// By what it is known: no two of a run have the same.
    pub fn address(&self) -> String {
        match &self.what {
            What::Call(call, _) => format!("{}@{}.{}", self.execution, call.attempt, call.ordinal),
            What::Action(_) | What::Change(_) => self.execution.to_string(),
        }
    }

    /// The task that it is of.
    pub fn task(&self) -> &str {
        match &self.what {
            What::Call(..) | What::Action(_) => &self.execution.pointer,
            What::Change(of) => &of.pointer,
        }
    }

    /// How well `text` names it: by its address, by the execution, by the task. Less is better; none does not name it.
    fn is_named(&self, text: &str) -> Option<u8> {
        let of = match &self.what {
            What::Call(..) | What::Action(_) => None,
            What::Change(of) => Some(of),
        };
        let executions = || [Some(&self.execution), of].into_iter().flatten();
        if self.address() == text {
            return Some(0);
        }
        if executions().any(|key| key.to_string() == text) {
            return Some(1);
        }
        executions().any(|key| key.pointer == text).then_some(2)
    }

    /// As people see it.
    pub fn shown(&self) -> Value {
        let (address, task) = (self.address(), self.task());
        match &self.what {
            What::Call(call, intent) => json!({
                "address": address, "task": task, "kind": "call", "attempt": call.attempt, "ordinal": call.ordinal,
                "function": intent.function, "connection": intent.connection, "token": intent.token,
                "sentAt": intent.at.to_string(),
            }),
            What::Action(why) => json!({ "address": address, "task": task, "kind": "action", "why": why }),
            What::Change(_) => json!({ "address": address, "task": task, "kind": "change" }),
        }
    }
}

/// Everything that is open in a run that stands like `state` and has these intents without an end.
pub(crate) fn of(state: &State, intents: &BTreeMap<CallKey, Intent>) -> Vec<Open> {
    let mut open = Vec::new();
    for (_, parked) in state.calls().filter(|(_, call)| call.parked.is_some()) {
        let of = |attempt, ordinal| CallKey { execution: parked.key.clone(), attempt, ordinal };
        let before = open.len();
        // A later attempt is parked for what an earlier one had sent, too.
        for (call, intent) in intents.range(of(0, 0)..=of(parked.attempt, u32::MAX)) {
            let what = What::Call(call.clone(), intent.clone());
            open.push(Open { execution: parked.key.clone(), what });
        }
        if open.len() == before {
            open.push(Open { execution: parked.key.clone(), what: What::Action(parked.why) });
        }
    }
    if let Some((change, inverse)) = state.left_to_a_person() {
        open.push(Open { execution: inverse, what: What::Change(change.clone()) });
    }
    open
}

/// Those that `text` names, all of them where there is none.
pub(crate) fn named(open: &[Open], text: Option<&str>) -> Vec<Open> {
    let Some(text) = text else { return open.to_vec() };
    let best = open.iter().filter_map(|one| one.is_named(text)).min();
    open.iter().filter(|one| best.is_some() && one.is_named(text) == best).cloned().collect()
}

/// The run's summary says what is open: the first `shown_max`, and how many more.
pub(crate) fn note(summary: &mut Summary, state: &State, intents: &BTreeMap<CallKey, Intent>, shown_max: u64) {
    (summary.open, summary.open_more) = (Vec::new(), 0);
    if summary.status != Status::Parked {
        return;
    }
    let all = of(state, intents);
    let mut bytes = 0;
    for one in all.iter().take(usize::try_from(shown_max).unwrap_or(usize::MAX)) {
        let shown = one.shown();
        bytes += shown.to_string().len();
        if bytes > SHOWN_BYTES_MAX {
            break;
        }
        summary.open.push(shown);
    }
    summary.open_more = (all.len() - summary.open.len()) as u64;
}
