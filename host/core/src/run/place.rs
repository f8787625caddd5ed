//! What keeps an accepted run from beginning: a place in its concurrency group, or something that is missing
//! (semantics, section 3).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::state::State;
use crate::definition::{Concurrency, GroupScope, WhenFull};
use crate::fault::Fault;

/// The longest name of a group, in bytes.
const GROUP_BYTES_MAX: usize = 512;

/// What a run asks the owner of its group for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Whom to ask: the group with its scope. Equal for all that exclude each other.
    pub name: String,
    /// How many there can be.
    pub limit: u32,
    /// What becomes of one more.
    pub when_full: WhenFull,
}

/// A run in its group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) group: Group,
    /// Whether it has its turn.
    pub(super) admitted: bool,
}

impl State {
    /// The group that the run has asked to be in, and whether it is. None once it has ended: its place is free.
    #[must_use]
    pub fn group(&self) -> Option<(&Group, bool)> {
        self.place.as_ref().filter(|_| self.ended.is_none()).map(|place| (&place.group, place.admitted))
    }

    /// What is missing for the run to begin.
    #[must_use]
    pub fn blocked(&self) -> Option<&Value> {
        self.blocked.as_deref()
    }

    /// Whether the run waits for its turn in its group.
    pub(super) fn queues(&self) -> bool {
        self.place.as_ref().is_some_and(|place| !place.admitted)
    }

    /// Puts what was pinned anew in the place of what was pinned for a blocked run.
    #[must_use]
    pub fn with_facts(mut self, facts: std::sync::Arc<super::Facts>) -> Self {
        self.facts = Some(facts);
        self
    }
}

/// The group that `name` means for this workflow.
pub(super) fn group_of(state: &State, concurrency: &Concurrency, name: &Value) -> Result<Group, Fault> {
    let text = match name {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    if text.is_empty() || text.len() > GROUP_BYTES_MAX {
        return Err(Fault::of_code(
            "group-invalid",
            format!("`concurrency.group` does not give a text of 1 to {GROUP_BYTES_MAX} bytes"),
        ));
    }
    let workflow = &state.workflow().document.name;
    let scope = match concurrency.scope {
        GroupScope::Workflow => format!("workflow {workflow}"),
        GroupScope::Namespace => format!("namespace {}", workflow.namespace),
    };
    Ok(Group { name: format!("{scope}: {text}"), limit: concurrency.limit, when_full: concurrency.when_full })
}
