//! The run's state machine.
//!
//! [`decide`] turns a state and an input into events, evaluating expressions, schemas and delays; [`State::apply`] folds
//! one event and evaluates nothing; [`pending`] lists what the shell must be doing, from the state alone. A run that
//! is recovered is a fold of its events followed by `pending`: nothing else is remembered.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

mod again;
mod arguments;
mod budget;
mod decide;
mod event;
mod fault;
mod fits;
mod fold;
mod frame;
mod key;
mod ledger;
mod notice;
mod once;
mod outcome;
mod pending;
mod place;
mod redefine;
mod reserve;
mod state;
mod weight;

pub use budget::{Budget, Spent};
pub use decide::{Cause, Decided, Input, Returned, decide};
pub use event::{Account, Block, Effect, Ending, Event, Fate, FrameId, Undo, Variables, Why};
pub use frame::Calling;
pub use key::{Error as KeyError, ExecutionKey};
pub use ledger::LedgerEntry;
pub use notice::{About, Notice};
pub use once::{OwnKey, own_key};
pub use outcome::{Changes, Reason};
pub use pending::{Command, On, Status, Waiting, due, pending};
pub use place::Group;
pub use redefine::{Difference, Replay};
pub use reserve::{Outgrown, Reserve};
pub use state::{SNAPSHOT_VERSION, State};

use crate::definition::{ActionReference, Workflow};
use crate::digest::Digest;
use crate::id::RunId;
use crate::manifest;
use crate::mask::Mask;
use crate::requirement::{Connection, Elsewhere, Tenant};
use crate::schema::Schema;
use crate::time::Timestamp;

/// What is pinned for a run when it is accepted. Everything here is found again by the digests in the run's first
/// record; nothing of it changes while the run is open.
#[derive(Debug)]
pub struct Facts {
    /// Whose.
    pub run: RunId,
    /// What it runs.
    pub workflow: Arc<Workflow>,
    /// What it was given, before `input.from`.
    pub input: Arc<Value>,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Connections by alias, as they were when the run was accepted.
    pub connections: BTreeMap<String, Connection>,
    /// Where connections led, by their names: a name that leads elsewhere by now is not this run's any more.
    pub tenants: BTreeMap<String, Tenant>,
    /// For each calling task (by pointer) that names no connection, the alias that preflight chose.
    pub chosen: BTreeMap<String, String>,
    /// The operator's tables, as [`crate::expression::TABLES`] wants them.
    pub tables: Arc<Value>,
    /// The actions that the definition calls.
    pub actions: BTreeMap<ActionReference, Arc<Action>>,
    /// Compiled schemas of the definition, by JSON pointer of the schema.
    pub schemas: BTreeMap<String, Schema>,
    /// `$workflow`.
    pub workflow_argument: Value,
    /// `$runtime`.
    pub runtime_argument: Value,
}

/// An action as pinned.
#[derive(Debug)]
pub struct Action {
    /// The component that has it.
    pub plugin: Digest,
    /// The plugin's full version.
    pub version: String,
    /// What it says of itself.
    pub manifest: manifest::Action,
    /// Its input schema.
    pub input: Schema,
    /// Its output schema.
    pub output: Schema,
}

impl PartialEq for Facts {
    /// Facts are pinned per run: those of one run are the same.
    fn eq(&self, other: &Self) -> bool {
        self.run == other.run
    }
}

impl Facts {
    /// What of the run is shown to nobody.
    #[must_use]
    pub fn mask(&self) -> Mask {
        Mask::new(&self.workflow.extras.sensitive, &self.input)
    }

    /// Ok where the connection leads to what the run pinned under its name.
    ///
    /// # Errors
    /// Its name was given to another: nothing may be sent for this run.
    pub fn leads_home(&self, connection: &Connection) -> Result<(), Elsewhere> {
        connection.leads_to(self.tenants.get(&connection.name))
    }

    /// `$workflow` for a run (DSL 1.0.3, "Workflow Descriptor").
    #[must_use]
    pub fn describe_workflow(run: RunId, workflow: &Workflow, input: &Value, accepted_at: Timestamp) -> Value {
        json!({
            "id": run.to_string(),
            "definition": { "document": {
                "dsl": workflow.document.dsl,
                "namespace": workflow.document.name.namespace,
                "name": workflow.document.name.name,
                "version": workflow.document.version,
            }},
            "input": input,
            "startedAt": arguments::describe_time(accepted_at),
        })
    }

    /// `$runtime` (DSL 1.0.3, "Runtime Descriptor"), with what guards may ask of connections (semantics 6).
    #[must_use]
    pub fn describe_runtime(version: &str, connections: &BTreeMap<String, Connection>) -> Value {
        let connections: serde_json::Map<String, Value> = connections
            .iter()
            .map(|(alias, c)| {
                (alias.clone(), json!({ "kind": c.kind, "plan": c.plan, "permission": c.permission, "name": c.name }))
            })
            .collect();
        json!({ "name": "bellhop", "version": version, "metadata": {}, "connections": connections })
    }
}
