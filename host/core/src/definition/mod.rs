//! A workflow definition: Serverless Workflow DSL 1.0.3 with what `metadata.bellhop` adds, parsed once and then trusted.
//!
//! A [`Workflow`] comes only from [`parse`]; whoever holds one holds a valid one.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::expression::{Template, Text};
use crate::requirement::{Kind, Permission, TokenKind};

mod check;
pub mod duration;
mod parse;
pub mod source;

pub use check::check_expressions;
pub use parse::{
    PURPOSES, is_action_name, is_plugin_name, is_variable_name, is_version, is_workflow_name, parse, parse_reference,
};
pub use source::Source;

/// A place of a task in a definition: index into [`Workflow::tasks`], stable for one digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskIndex(pub u32);

/// A parsed, valid definition.
#[derive(Debug, Clone)]
pub struct Workflow {
    /// `document`.
    pub document: Document,
    /// `document.metadata.bellhop`.
    pub extras: Extras,
    /// `input`.
    pub input: Input,
    /// `output`.
    pub output: Output,
    /// `timeout.after`.
    pub timeout: Option<Delay>,
    /// Every task, each before its children.
    pub tasks: Vec<Task>,
    /// The tasks of the top-level `do`.
    pub root: Vec<TaskIndex>,
}

impl Workflow {
    /// The schemas of the definition, by JSON pointer.
    #[must_use]
    pub fn schemas(&self) -> Vec<(String, &Value)> {
        let mut found = Vec::new();
        for (place, schema) in [("/input", &self.input.schema), ("/output", &self.output.schema)] {
            found.extend(schema.as_ref().map(|s| (format!("{place}/schema/document"), s)));
        }
        for task in &self.tasks {
            for (place, schema) in
                [("input", &task.input.schema), ("output", &task.output.schema), ("export", &task.export.schema)]
            {
                found.extend(schema.as_ref().map(|s| (format!("{}/{place}/schema/document", task.pointer), s)));
            }
        }
        found
    }

    /// The task at `index`.
    ///
    /// # Panics
    /// If `index` is from another definition.
    #[must_use]
    pub fn task(&self, index: TaskIndex) -> &Task {
        &self.tasks[index.0 as usize]
    }
}

/// `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkflowName {
    /// The namespace.
    pub namespace: String,
    /// The name in it.
    pub name: String,
}

impl fmt::Display for WorkflowName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The namespace of the workflows that a host makes of single actions: nobody else's workflow is in it.
pub const ACTION_NAMESPACE: &str = "bellhop-action";

/// `document`.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// `dsl`: 1.0.x.
    pub dsl: String,
    /// `namespace` and `name`.
    pub name: WorkflowName,
    /// `version`.
    pub version: String,
    /// `title`.
    pub title: Option<String>,
    /// `summary`.
    pub summary: Option<String>,
    /// `tags`.
    pub tags: BTreeMap<String, Value>,
}

/// `document.metadata.bellhop` (semantics, section 4).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Extras {
    /// Declared connection aliases.
    pub connections: BTreeMap<String, DeclaredConnection>,
    /// `purpose`.
    pub purpose: Option<String>,
    /// `tables`.
    pub tables: Vec<String>,
    /// `sensitive`: JSON pointers into the input.
    pub sensitive: Vec<String>,
    /// `idempotencyKey`: an expression on the input, or one for `key` and one for `revision`.
    pub idempotency_key: Option<Template>,
    /// `onFault.rollback` is `completed`.
    pub rollback_on_fault: bool,
    /// `onFault.notify`.
    pub notify: Option<NotifyTarget>,
    /// `concurrency`.
    pub concurrency: Option<Concurrency>,
    /// `organisations: several`: one run may act in more than one.
    pub several_organisations: bool,
    /// `retention`: how long the run is kept after its end; the host's own time where it says none.
    pub retention_ms: Option<u64>,
    /// `schedule`: checked in form, carried out by a later version; kept as written.
    pub reserved: BTreeMap<String, Value>,
}

impl Extras {
    /// Whether a fault takes back what the run changed. Offboarding goes forward only.
    #[must_use]
    pub fn rolls_back(&self) -> bool {
        self.rollback_on_fault && self.purpose.as_deref() != Some(OFFBOARDING)
    }
}

/// The purpose whose runs go forward only.
pub(crate) const OFFBOARDING: &str = "offboarding";

/// `concurrency` (semantics, section 3): how many runs of one group there are at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct Concurrency {
    /// The group's name: a text, or an expression on the input.
    pub group: Template,
    /// Among whom the name counts.
    pub scope: GroupScope,
    /// How many there can be.
    pub limit: u32,
    /// What becomes of one more.
    pub when_full: WhenFull,
}

/// Among whom the name of a group counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupScope {
    /// The runs of this workflow.
    #[default]
    Workflow,
    /// The runs of all workflows of the namespace.
    Namespace,
}

/// What becomes of a run whose group is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// It waits for its turn.
    #[default]
    Queue,
    /// It is refused.
    Reject,
    /// The oldest in the group is cancelled, and what that did stays.
    Supersede,
    /// The oldest in the group is cancelled, and what that did is taken back first.
    Cancel,
}

/// `onFault.notify`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifyTarget {
    /// Alias.
    pub connection: String,
    /// Channel name or id.
    pub channel: String,
}

/// One of `connections`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredConnection {
    /// Accepted kinds; empty: any.
    pub kinds: Vec<Kind>,
    /// The permission that the workflow needs.
    pub permission: Permission,
    /// Whether the workflow can do without.
    pub optional: bool,
}

/// `input` of a workflow or task.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// `schema.document`.
    pub schema: Option<Value>,
    /// `from`.
    pub from: Option<Template>,
}

/// `output` or `export`.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// `schema.document`.
    pub schema: Option<Value>,
    /// `as`.
    pub transform: Option<Template>,
}

/// What comes after a task.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// The next task of the list.
    #[default]
    Continue,
    /// Out of this list.
    Exit,
    /// The workflow ends.
    End,
    /// That task of the same list, by its position there.
    Task(u32),
}

/// A span of time: a literal, or an expression that gives one.
#[derive(Debug, Clone, PartialEq)]
pub enum Delay {
    /// Milliseconds.
    Millis(u64),
    /// Evaluates to an ISO 8601 duration, a duration object, or what `until` gives.
    Expression(Text),
}

/// One task.
#[derive(Debug, Clone)]
pub struct Task {
    /// Its place.
    pub index: TaskIndex,
    /// The task that it stands in, if any.
    pub parent: Option<TaskIndex>,
    /// Its name in its list.
    pub name: String,
    /// JSON pointer in the definition: `/do/0/notify`.
    pub pointer: String,
    /// `if`.
    pub condition: Option<Text>,
    /// `input`.
    pub input: Input,
    /// `output`.
    pub output: Output,
    /// `export`.
    pub export: Output,
    /// `timeout.after`.
    pub timeout: Option<Delay>,
    /// `then`.
    pub then: Then,
    /// `metadata.bellhop`.
    pub extras: TaskExtras,
    /// What it does.
    pub kind: TaskKind,
}

/// `metadata.bellhop` of a task.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskExtras {
    /// `concurrency` of a `for`.
    pub concurrency: Option<u32>,
    /// `onItemError: collect` of a `for`.
    pub collect: bool,
    /// `onUnknown: resend`.
    pub resend_unknown: bool,
    /// `onRetry: again`.
    pub retry_again: bool,
    /// `token` of a `call`: as whom its calls go out, also those that take it back. None: as the catalog prefers it.
    pub token: Option<TokenKind>,
    /// `bestEffort`.
    pub best_effort: bool,
    /// `noRollbackAfter`.
    pub no_rollback_after: bool,
    /// `compensate` of a `call`.
    pub compensate: Option<Compensate>,
}

/// What takes back the change of a call, in place of the inverse that its action's manifest declares.
#[derive(Debug, Clone, PartialEq)]
pub enum Compensate {
    /// This action, with the input that the success of the action names.
    Named(ActionReference),
    /// This call. Its arguments, and which connection, are evaluated when the task has ended well: `.` is what the action
    /// answered. Where it says no connection, it acts on the one of the call that it takes back.
    Call(Call),
}

impl Compensate {
    /// The action.
    #[must_use]
    pub const fn reference(&self) -> &ActionReference {
        match self {
            Self::Named(reference) | Self::Call(Call { reference, .. }) => reference,
        }
    }
}

/// What a task does.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "kinds stay where they were read; nothing moves or copies many of them")]
pub enum TaskKind {
    /// `call` of a catalogued function.
    Call(Call),
    /// `do`.
    Do(Vec<TaskIndex>),
    /// `set`.
    Set(Template),
    /// `switch`.
    Switch(Vec<Case>),
    /// `for`.
    For(For),
    /// `fork`.
    Fork {
        /// The branches, one task each.
        branches: Vec<TaskIndex>,
        /// Whether the first to end wins.
        compete: bool,
    },
    /// `try`.
    Try(Try),
    /// `wait`.
    Wait(Delay),
    /// `raise`.
    Raise(Template),
}

/// `NAME:VERSION@PLUGIN`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActionReference {
    /// `message.send`.
    pub action: String,
    /// A major version (`1`: the highest installed 1.x) or a full one (`1.2.0`: just that).
    pub version: String,
    /// `slack`.
    pub plugin: String,
}

impl fmt::Display for ActionReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}@{}", self.action, self.version, self.plugin)
    }
}

/// A `call`.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// JSON pointer of the mapping in which `call` and `with` stand.
    pub pointer: String,
    /// What is called.
    pub reference: ActionReference,
    /// `with` without `connection`.
    pub arguments: Template,
    /// `with.connection`: a literal alias or an expression; none: the only fitting one.
    pub connection: Option<Text>,
}

/// A case of a `switch`.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// `when`; none: the default.
    pub when: Option<Text>,
    /// `then`.
    pub then: Then,
}

/// A `for`.
#[derive(Debug, Clone)]
pub struct For {
    /// `for.each`: variable of the item.
    pub each: String,
    /// `for.at`: variable of the index.
    pub at: String,
    /// `for.in`.
    pub collection: Text,
    /// `while`.
    pub condition: Option<Text>,
    /// `do`.
    pub tasks: Vec<TaskIndex>,
}

/// A `try`.
#[derive(Debug, Clone)]
pub struct Try {
    /// `try`.
    pub tasks: Vec<TaskIndex>,
    /// `catch.errors.with`: fields that must be equal.
    pub filter: BTreeMap<String, Template>,
    /// `catch.as`: `error` unless said.
    pub variable: String,
    /// `catch.when`.
    pub when: Option<Text>,
    /// `catch.exceptWhen`.
    pub except_when: Option<Text>,
    /// `catch.retry`.
    pub retry: Option<Retry>,
    /// `catch.do`.
    pub handler: Vec<TaskIndex>,
}

/// `catch.retry`, resolved.
#[derive(Debug, Clone)]
pub struct Retry {
    /// `when`.
    pub when: Option<Text>,
    /// `exceptWhen`.
    pub except_when: Option<Text>,
    /// `delay`; 0 unless said.
    pub delay: Delay,
    /// `backoff`.
    pub backoff: Backoff,
    /// `limit.attempt.count`: retries, not counting the first attempt.
    pub attempts_max: Option<u32>,
    /// `limit.attempt.duration`.
    pub attempt_duration: Option<Delay>,
    /// `limit.duration`.
    pub duration: Option<Delay>,
    /// `jitter`: from, to.
    pub jitter: Option<(Delay, Delay)>,
}

/// How the delay grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backoff {
    /// It does not.
    #[default]
    Constant,
    /// Times the attempt's number.
    Linear,
    /// Doubles.
    Exponential,
}
