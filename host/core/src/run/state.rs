//! A run as it stands. [`super::fold`] brings it there.

use std::collections::BTreeMap;
use std::sync::Arc;

use rpds::VectorSync;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Facts;
use super::event::{Block, Ending, FrameId};
use super::frame::{Body, Calling, Frame, List, Phase, Role, Running};
use super::ledger::LedgerEntry;
use super::notice::Notice;
use super::place::Place;
use crate::definition::{TaskIndex, TaskKind, Workflow};
use crate::fault::Fault;
use crate::id::RunId;
use crate::time::Timestamp;

/// The version of the serialized form of [`State`].
pub const SNAPSHOT_VERSION: u32 = 3;

/// A run as it stands. Serializable without its [`Facts`], which are pinned and attached again by [`State::restore`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    version: u32,
    /// What is pinned for the run.
    #[serde(skip)]
    pub(super) facts: Option<Arc<Facts>>,
    /// Events folded so far.
    pub events: u64,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// The input after `input.from`.
    pub(super) input: Arc<Value>,
    /// `$context`.
    pub(super) context: Arc<Value>,
    pub(super) frames: BTreeMap<FrameId, Frame>,
    pub(super) next_frame: u32,
    pub(super) deadline: Option<Timestamp>,
    pub(super) suspended: bool,
    /// Calls whose task is gone and which have not ended.
    pub(super) stopping: BTreeMap<FrameId, Calling>,
    pub(super) ending: Option<Ending>,
    pub(super) ended: Option<(Timestamp, Ending)>,
    /// What was changed, oldest first.
    pub ledger: VectorSync<LedgerEntry>,
    /// The tree as it was when the fault arose that nothing has caught yet.
    pub(super) failed: Option<Box<Failed>>,
    /// The fault after which a person decides.
    pub(super) halted: Option<(Timestamp, Fault)>,
    /// Whether a task with `noRollbackAfter` has begun.
    pub(super) committed: bool,
    /// When executions began that are entered anew because a person has them tried again, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) starts: BTreeMap<String, Timestamp>,
    /// How often a person had something tried again: each such time raises the numbers of all attempts to come.
    pub(super) retried: u32,
    /// Whether, and how far, what was changed is being taken back.
    pub(super) rollback: Option<Rollback>,
    pub(super) killed: bool,
    /// The run that has taken the place of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) displaced_by: Option<RunId>,
    /// What preflight said of a run that was accepted all the same.
    pub(super) blocked: Option<Arc<Value>>,
    pub(super) place: Option<Place>,
    /// What people are to be told and nobody has taken over yet.
    pub(super) notices: BTreeMap<u32, Notice>,
    pub(super) notices_made: u32,
    /// How many decisions in a row ended with their budget; the run is not at rest unless this is 0.
    pub(super) unfinished: u32,
}

/// What a run goes on from when a person has its failed task tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Failed {
    pub(super) at: Timestamp,
    pub(super) frames: BTreeMap<FrameId, Frame>,
    pub(super) context: Arc<Value>,
    /// The task; none when the workflow's own time was up.
    pub(super) frame: Option<FrameId>,
}

/// A rollback: wanted, or under way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Rollback {
    pub(super) begun: bool,
    pub(super) current: Option<Undoing>,
}

/// The change that is being taken back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Undoing {
    /// Position in the ledger.
    pub(super) entry: u32,
    /// Its inverse, unless there is none to call.
    pub(super) call: Option<(FrameId, Calling)>,
    /// Attempts since a person last said to try again.
    pub(super) tries: u32,
    pub(super) stands: Stands,
}

/// How the taking back of a change stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Stands {
    /// Its inverse is being called.
    Calling,
    /// It is tried again then.
    Until(Timestamp),
    /// A person decides.
    Incomplete(Box<Fault>),
}

impl State {
    /// A run that has been accepted and has not begun.
    #[must_use]
    pub fn new(facts: Arc<Facts>) -> Self {
        Self {
            version: SNAPSHOT_VERSION,
            events: 0,
            started_at: None,
            input: facts.input.clone(),
            context: Arc::new(Value::Null),
            facts: Some(facts),
            frames: BTreeMap::new(),
            next_frame: 0,
            deadline: None,
            suspended: false,
            stopping: BTreeMap::new(),
            ending: None,
            ended: None,
            ledger: VectorSync::new_sync(),
            failed: None,
            halted: None,
            committed: false,
            starts: BTreeMap::new(),
            retried: 0,
            rollback: None,
            killed: false,
            displaced_by: None,
            blocked: None,
            place: None,
            notices: BTreeMap::new(),
            notices_made: 0,
            unfinished: 0,
        }
    }

    /// Attaches the pinned facts to a state that was read from a snapshot; `Err` with the version found when this
    /// program does not know it.
    pub fn restore(mut self, facts: Arc<Facts>) -> Result<Self, u32> {
        if self.version != SNAPSHOT_VERSION {
            return Err(self.version);
        }
        self.facts = Some(facts);
        Ok(self)
    }

    /// What is pinned for the run.
    ///
    /// # Panics
    /// On a deserialized state that was not [restored](Self::restore).
    #[must_use]
    pub fn facts(&self) -> &Arc<Facts> {
        self.facts.as_ref().expect("a state is used only with its facts attached")
    }

    /// Whether the last decision ended with its budget: there is more to decide without anything happening.
    #[must_use]
    pub const fn is_unfinished(&self) -> bool {
        self.unfinished > 0
    }

    /// Whether it can still be ended for having grown too large: it does not end already, and no person decides how.
    #[must_use]
    pub const fn goes_on(&self) -> bool {
        !self.ends() && self.halted.is_none()
    }

    /// No fewer bytes than it has as JSON, if none of its values has more than `value_bytes`.
    #[must_use]
    pub fn bytes_at_most(&self, value_bytes: u64) -> u64 {
        let held = |frames: &BTreeMap<FrameId, Frame>| -> u64 {
            frames.values().map(|frame| frame.values_held()).fold(0, u64::saturating_add)
        };
        let failed = self.failed.as_ref().map_or(0, |failed| held(&failed.frames));
        let calls = (self.stopping.len() + self.ledger.len() + self.notices.len()) as u64;
        let values = held(&self.frames).saturating_add(failed).saturating_add(calls).saturating_add(8);
        values.saturating_mul(value_bytes.saturating_add(512))
    }

    /// Whether the run is on its way to an end that is decided, or there.
    #[must_use]
    pub const fn ends(&self) -> bool {
        self.ending.is_some() || self.ended.is_some()
    }

    pub(super) fn workflow(&self) -> &Workflow {
        &self.facts().workflow
    }

    /// How the run ended, and when.
    #[must_use]
    pub fn ended(&self) -> Option<(Timestamp, &Ending)> {
        self.ended.as_ref().map(|(at, ending)| (*at, ending))
    }

    /// The call that the frame is making or that is being stopped there.
    #[must_use]
    pub fn call(&self, frame: FrameId) -> Option<&Calling> {
        let inverse = || self.inverse_call().filter(|(of, _)| *of == frame).map(|(_, call)| call);
        self.stopping.get(&frame).or_else(inverse).or_else(|| match &self.frames.get(&frame)?.body {
            Body::Task(task) => match &task.phase {
                Phase::Calling(calling) => Some(calling),
                _ => None,
            },
            Body::List(_) => None,
        })
    }

    /// The change that is being taken back.
    pub(super) fn undoing(&self) -> Option<&Undoing> {
        self.rollback.as_ref()?.current.as_ref()
    }

    /// The inverse that is being called.
    pub(super) fn inverse_call(&self) -> Option<(FrameId, &Calling)> {
        let undoing = self.undoing().filter(|u| u.stands == Stands::Calling)?;
        undoing.call.as_ref().map(|(frame, call)| (*frame, call))
    }

    /// Every call that has been scheduled and not ended, parked ones and those being stopped among them.
    pub fn calls(&self) -> impl Iterator<Item = (FrameId, &Calling)> {
        let calling = self.frames.iter().filter_map(|(id, frame)| match &frame.body {
            Body::Task(task) => match &task.phase {
                Phase::Calling(call) => Some((*id, call)),
                _ => None,
            },
            Body::List(_) => None,
        });
        self.stopping.iter().map(|(id, call)| (*id, call)).chain(calling).chain(self.inverse_call())
    }

    /// The context that is seen from `frame`: the nearest copy, else the run's.
    pub(super) fn context_of(&self, frame: FrameId) -> &Arc<Value> {
        self.ancestors(frame).find_map(|(_, frame)| frame.context.as_ref()).unwrap_or(&self.context)
    }

    /// The frame and those around it, from the inside to the outside.
    pub(super) fn ancestors(&self, frame: FrameId) -> impl Iterator<Item = (FrameId, &Frame)> {
        let find = |id: FrameId| Some((id, self.frames.get(&id)?));
        std::iter::successors(find(frame), move |(_, frame)| find(frame.parent?))
    }

    pub(super) fn list(&self, frame: FrameId) -> Option<&List> {
        match &self.frames.get(&frame)?.body {
            Body::List(list) => Some(list),
            Body::Task(_) => None,
        }
    }

    pub(super) fn running(&self, frame: FrameId) -> Option<&Running> {
        match &self.frames.get(&frame)?.body {
            Body::Task(task) => Some(task),
            Body::List(_) => None,
        }
    }

    /// The tasks of a list.
    pub(super) fn tasks_of(&self, frame: FrameId) -> &[TaskIndex] {
        let Some(found) = self.frames.get(&frame) else { return &[] };
        let Body::List(list) = &found.body else { return &[] };
        let Some(parent) = found.parent.and_then(|p| self.running(p)) else { return &self.workflow().root };
        match (&self.workflow().task(parent.task).kind, list.role) {
            (TaskKind::Do(tasks), _) => tasks,
            (TaskKind::For(looping), _) => &looping.tasks,
            (TaskKind::Try(trying), Role::Block(Block::Catch)) => &trying.handler,
            (TaskKind::Try(trying), _) => &trying.tasks,
            _ => &[],
        }
    }

    /// How many retries the outermost `try` around `frame` has seen: what an attempt's number counts.
    pub(super) fn retries_around(&self, frame: FrameId) -> u32 {
        let tries = self.ancestors(frame).filter_map(|(id, _)| match self.running(id)?.phase {
            Phase::Trying(ref trying) => Some(trying.retries_within),
            _ => None,
        });
        tries.last().unwrap_or(0)
    }

    /// What a task entered under `parent` gets as its raw input.
    pub(super) fn value_for_child(&self, parent: FrameId) -> Arc<Value> {
        match self.frames.get(&parent).map(|f| &f.body) {
            Some(Body::List(list)) => list.value.clone(),
            Some(Body::Task(task)) => task.input.clone(),
            None => Arc::new(Value::Null),
        }
    }

    pub(super) fn is_parallel(&self, task: TaskIndex) -> bool {
        self.workflow().task(task).extras.concurrency.is_some()
    }
}
