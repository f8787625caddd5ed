//! Preflight: the one judgement of what a run needs and has, before anything happens (semantics, sections 4 to 6).
//!
//! [`judge`] is pure. It gives all diagnostics at once, the plan of the run for people, and, when nothing blocks, the
//! [`Plan`] without which no run can be started. [`judge_call`] is the same judgement for one call of a running action.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::definition::{ActionReference, Source, Workflow};
use crate::diagnostic::Diagnostic;
use crate::expression::Evaluator;
use crate::requirement::{Connection, Rules};
use crate::time::Timestamp;

mod alias;
pub mod assume;
mod call;
mod faults;
mod flow;
mod guard;
mod host_call;
mod installed;
mod judgement;
pub mod outline;
mod say;
mod site;
mod times;
mod together;
mod whole;

pub use alias::{Column, Table, aliases};
pub use call::{CallQuestion, judge_call};
pub use installed::{Missing, Plugin, Plugins, Resolved, compare_versions};
pub use outline::Outline;

/// When the question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// `bellhop check`.
    Check,
    /// A definition is registered.
    Apply,
    /// A run is to start: guards on the input are judged by its value.
    Trigger,
    /// A call is to be made: as at the trigger.
    Call,
}

/// Everything that the judgement looks at.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// The definition.
    pub workflow: &'a Workflow,
    /// Its text, for the places.
    pub source: &'a Source,
    /// When it is asked.
    pub at: When,
    /// What is installed, with its grants.
    pub plugins: &'a Plugins,
    /// What is known of the provider's methods.
    pub rules: &'a Rules,
    /// The connections that are there, or that are assumed.
    pub connections: &'a [Connection],
    /// The trigger's `connections`: names by alias.
    pub trigger: &'a BTreeMap<String, String>,
    /// The operator's bindings for this workflow: names by alias.
    pub bindings: &'a BTreeMap<String, String>,
    /// The operator's tables, pinned.
    pub tables: &'a BTreeMap<String, Table>,
    /// The run's input, where there is one.
    pub input: Option<&'a Value>,
    /// The time.
    pub now: Timestamp,
    /// Whether warnings block.
    pub strict: bool,
    /// Evaluates guards.
    pub evaluator: &'a dyn Evaluator,
}

/// The answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Everything that is wrong or unknown, in the order of the file, each once.
    pub diagnostics: Vec<Diagnostic>,
    /// What the run would do, also where something blocks.
    pub outline: Outline,
    /// There is one when nothing blocks.
    pub plan: Option<Plan>,
}

/// The proof that a run may start. Only [`judge`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    connections: BTreeMap<String, String>,
    chosen: BTreeMap<String, String>,
    actions: BTreeMap<ActionReference, ActionReference>,
}

impl Plan {
    /// The connection that each alias means, by name: what a run pins. Optional aliases without one are left out.
    #[must_use]
    pub fn connections(&self) -> &BTreeMap<String, String> {
        &self.connections
    }

    /// The alias, one of [`Self::connections`], of each call whose `with` names none, by the task's JSON pointer.
    #[must_use]
    pub fn chosen(&self) -> &BTreeMap<String, String> {
        &self.chosen
    }

    /// The action with its full version, by the reference as written: what a run pins. Inverses are among them.
    #[must_use]
    pub fn actions(&self) -> &BTreeMap<ActionReference, ActionReference> {
        &self.actions
    }
}

/// Judges a workflow.
#[must_use]
pub fn judge(question: &Question<'_>) -> Report {
    whole::judge(question)
}
