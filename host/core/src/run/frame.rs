//! What is under way in a run: lists of tasks, tasks, and what each of these waits for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::{Block, FrameId, Variables, Why, present};
use super::key::ExecutionKey;
use crate::definition::{ActionReference, TaskIndex};
use crate::fault::Fault;
use crate::time::Timestamp;

/// Something that is being executed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Frame {
    pub(super) parent: Option<FrameId>,
    pub(super) variables: Variables,
    /// A copy of the context for what runs beside others; written there, merged by the one who made it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub(super) context: Option<Arc<Value>>,
    /// Indices and entry counts from the outside to here.
    pub(super) path: Vec<u32>,
    pub(super) body: Body,
}

impl Frame {
    /// How many values it holds, its own names and numbers counted as two.
    pub(super) fn values_held(&self) -> u64 {
        let inner = match &self.body {
            Body::List(_) => 1,
            Body::Task(task) => match &task.phase {
                Phase::Looping(looping) => looping.items.len() + looping.results.size() + looping.contexts.size() + 3,
                Phase::Forking(forking) => forking.results.len() + forking.contexts.len() + 2,
                Phase::Entered | Phase::Block | Phase::Waiting { .. } => 2,
                Phase::Calling(_) | Phase::Trying(_) => 4,
            },
        };
        (inner + self.variables.len() + usize::from(self.context.is_some()) + 2) as u64
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Body {
    List(List),
    Task(Box<Running>),
}

/// A list of tasks that is worked through.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct List {
    pub(super) role: Role,
    /// The next task to enter; none when the list has ended.
    pub(super) position: Option<u32>,
    /// The task that is under way.
    pub(super) child: Option<FrameId>,
    /// What the next task gets as its raw input.
    pub(super) value: Arc<Value>,
    /// How often each position was entered.
    pub(super) entered: BTreeMap<u32, u32>,
}

/// Whose list it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Role {
    Root,
    Block(Block),
    Iteration(u32),
}

/// A task that has begun and not ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Running {
    pub(super) task: TaskIndex,
    /// Position in its fork, for a branch.
    pub(super) branch: Option<u32>,
    pub(super) key: ExecutionKey,
    pub(super) started_at: Timestamp,
    pub(super) raw: Arc<Value>,
    pub(super) input: Arc<Value>,
    pub(super) deadline: Option<Timestamp>,
    pub(super) phase: Phase,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Phase {
    /// Entered; what it does is decided next.
    Entered,
    /// `do`.
    Block,
    Calling(Calling),
    Waiting {
        until: Timestamp,
    },
    Looping(Looping),
    Forking(Forking),
    Trying(Trying),
}

/// A call that has been scheduled and not ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calling {
    /// The calling task's execution.
    pub key: ExecutionKey,
    /// Counts from 1.
    pub attempt: u32,
    /// As the file says.
    pub action: ActionReference,
    /// The name of the connection.
    pub connection: Option<String>,
    /// The action's input.
    pub arguments: Arc<Value>,
    /// When this execution of the task began: the same for all attempts.
    pub started_at: Timestamp,
    /// Why it cannot go on without a person, in words.
    pub parked: Option<Fault>,
    /// The same, for what follows from it.
    #[serde(default, skip_serializing_if = "Why::is_other")]
    pub why: Why,
    /// Whether it had changed something before it was parked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wrote: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Looping {
    pub(super) items: Arc<Vec<Arc<Value>>>,
    /// The next iteration to begin.
    pub(super) next: u32,
    /// Iterations under way, by index.
    pub(super) open: BTreeMap<u32, FrameId>,
    /// The last output of a sequential loop.
    pub(super) value: Arc<Value>,
    /// Results of a parallel loop, in item order.
    pub(super) results: RedBlackTreeMapSync<u32, Result<Arc<Value>, Fault>>,
    /// About how many bytes of JSON these results are.
    pub(super) results_bytes: u64,
    /// Contexts that iterations of a parallel loop left behind.
    pub(super) contexts: RedBlackTreeMapSync<u32, Arc<Value>>,
}

/// What the branches of a fork gave, by position.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Forking {
    /// Branches below this one have begun; they do so in their order.
    pub(super) begun: u32,
    /// Branches under way.
    pub(super) open: BTreeSet<u32>,
    pub(super) results: BTreeMap<u32, Arc<Value>>,
    pub(super) contexts: BTreeMap<u32, Arc<Value>>,
}

impl Forking {
    /// The next of so many branches to begin: one that has neither a result nor a frame.
    pub(super) fn next(&self, branches: usize) -> Option<u32> {
        if self.results.len() + self.open.len() >= branches {
            return None;
        }
        let branches = u32::try_from(branches).unwrap_or(u32::MAX);
        let none_gone = self.results.len() + self.open.len() >= self.begun as usize;
        let waits = |branch: &u32| !self.results.contains_key(branch) && !self.open.contains(branch);
        // One that was begun and is to begin anew comes first.
        let anew = if none_gone { None } else { (0..self.begun).find(waits) };
        anew.or(Some(self.begun)).filter(|branch| *branch < branches)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Trying {
    /// Retries of this `try`.
    pub(super) retries: u32,
    /// Retries of this `try` and of those inside it, since it began.
    pub(super) retries_within: u32,
    /// From when on `retry.limit.duration` counts.
    pub(super) since: Timestamp,
    /// When the executions inside began, by key, for their attempts to come; in the outermost `try` only, which outlives
    /// the others.
    #[serde(default, skip_serializing_if = "RedBlackTreeMapSync::is_empty")]
    pub(super) starts: RedBlackTreeMapSync<String, Timestamp>,
    /// Waiting to try again.
    pub(super) backoff: Option<Timestamp>,
    /// The fault that was caught last.
    pub(super) fault: Option<Fault>,
    pub(super) handling: bool,
    /// The list that was entered last, there or gone.
    pub(super) list: Option<FrameId>,
}
