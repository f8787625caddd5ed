//! A run as it stands, and the fold that brings it there.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Facts;
use super::event::{Block, Effect, Ending, Event, FrameId, Variables, present};
use super::key::ExecutionKey;
use crate::definition::{ActionReference, TaskIndex, TaskKind, Then, Workflow};
use crate::fault::Fault;
use crate::time::Timestamp;

/// The version of the serialized form of [`State`].
pub const SNAPSHOT_VERSION: u32 = 1;

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
    pub ledger: Vec<LedgerEntry>,
}

/// One change that this run made.
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
}

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
    /// Why it cannot go on without a person.
    pub parked: Option<Fault>,
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
    pub(super) results: BTreeMap<u32, Result<Arc<Value>, Fault>>,
    /// Contexts that iterations of a parallel loop left behind.
    pub(super) contexts: BTreeMap<u32, Arc<Value>>,
}

/// What the branches of a fork gave, by position.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Forking {
    pub(super) results: BTreeMap<u32, Arc<Value>>,
    pub(super) contexts: BTreeMap<u32, Arc<Value>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Trying {
    /// Retries of this `try`.
    pub(super) retries: u32,
    /// Retries of this `try` and of those inside it, since it began.
    pub(super) retries_within: u32,
    pub(super) since: Timestamp,
    /// Waiting to try again.
    pub(super) backoff: Option<Timestamp>,
    /// The fault that was caught last.
    pub(super) fault: Option<Fault>,
    pub(super) handling: bool,
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
            ledger: Vec::new(),
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
        self.stopping.get(&frame).or_else(|| match &self.frames.get(&frame)?.body {
            Body::Task(task) => match &task.phase {
                Phase::Calling(calling) => Some(calling),
                _ => None,
            },
            Body::List(_) => None,
        })
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
        self.stopping.iter().map(|(id, call)| (*id, call)).chain(calling)
    }

    /// The context that is seen from `frame`: the nearest copy, else the run's.
    pub(super) fn context_of(&self, frame: FrameId) -> &Arc<Value> {
        let mut at = Some(frame);
        while let Some(frame) = at.and_then(|id| self.frames.get(&id)) {
            if let Some(context) = &frame.context {
                return context;
            }
            at = frame.parent;
        }
        &self.context
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
        let mut retries = 0;
        let mut at = Some(frame);
        while let Some(id) = at {
            if let Some(Running { phase: Phase::Trying(trying), .. }) = self.running(id) {
                retries = trying.retries_within;
            }
            at = self.frames.get(&id).and_then(|f| f.parent);
        }
        retries
    }

    /// Folds one event. Evaluates nothing and cannot fail: an event that does not fit the state changes nothing but
    /// the count, and [`super::decide`] never makes such a one.
    pub fn apply(&mut self, event: &Event) {
        self.events += 1;
        match event {
            Event::Started { at, input, deadline } => {
                self.started_at = Some(*at);
                self.deadline = *deadline;
                if let Some(input) = input {
                    self.input = input.clone();
                }
                let value = self.input.clone();
                let frame = FrameId(self.next_frame);
                self.add_list(frame, None, Role::Root, value, Variables::new(), None, Vec::new());
            }
            Event::TaskEntered { frame, parent, task, at, input, deadline } => {
                self.enter_task(*frame, *parent, *task, *at, input.as_ref(), *deadline);
            }
            Event::TaskSkipped { parent, task } => {
                let value = self.value_for_child(*parent);
                self.leave(*parent, *task, value, None, &Then::Continue);
            }
            Event::BlockEntered { frame, parent, block } => self.enter_block(*frame, *parent, *block),
            Event::LoopEntered { frame, items } => self.set_phase(*frame, |task| {
                Phase::Looping(Looping {
                    items: items.clone(),
                    next: 0,
                    open: BTreeMap::new(),
                    value: task.input.clone(),
                    results: BTreeMap::new(),
                    contexts: BTreeMap::new(),
                })
            }),
            Event::IterationEntered { frame, parent, index } => self.enter_iteration(*frame, *parent, *index),
            Event::IterationEnded { frame, index, fault } => self.end_iteration(*frame, *index, fault.as_ref()),
            Event::ForkEntered { frame } => self.set_phase(*frame, |_| Phase::Forking(Forking::default())),
            Event::ContextMerged { frame, context } => self.write_context(*frame, context),
            Event::CallScheduled { frame, attempt, action, connection, arguments } => self.set_phase(*frame, |task| {
                Phase::Calling(Calling {
                    key: task.key.clone(),
                    attempt: *attempt,
                    action: action.clone(),
                    connection: connection.clone(),
                    arguments: arguments.clone(),
                    parked: None,
                })
            }),
            Event::WaitScheduled { frame, until } => self.set_phase(*frame, |_| Phase::Waiting { until: *until }),
            Event::TaskCompleted { frame, output, context, then, effect, .. } => {
                self.complete(*frame, output, context.as_ref(), then, effect.as_ref());
            }
            Event::TaskFaulted { frame, stopping, .. } => {
                if !stopping {
                    self.with_task(*frame, |task| task.phase = Phase::Entered);
                }
                self.remove(*frame);
            }
            Event::Caught { frame, fault } => self.catch(*frame, fault, None),
            Event::RetryScheduled { frame, fault, until } => self.catch(*frame, fault, Some(*until)),
            Event::Retried { frame, .. } => self.retry(*frame),
            Event::Tolerated { parent, task, .. } => {
                let value = self.value_for_child(*parent);
                self.leave(*parent, *task, value, None, &Then::Continue);
            }
            Event::Parked { frame, reason, .. } => self.set_parked(*frame, Some(reason.clone())),
            Event::Unparked { frame, .. } => self.set_parked(*frame, None),
            Event::Suspended { .. } => self.suspended = true,
            Event::Resumed { .. } => self.suspended = false,
            Event::Ending { ending, .. } => {
                self.ending = Some(ending.clone());
                self.clear();
            }
            Event::CallStopped { frame, effect } => {
                if let (Some(call), Some(effect)) = (self.stopping.remove(frame), effect) {
                    self.record(&call, effect);
                }
            }
            Event::Ended { at, ending } => {
                self.clear();
                self.ended = Some((*at, ending.clone()));
            }
        }
    }

    fn clear(&mut self) {
        let roots: Vec<FrameId> = self.frames.iter().filter(|(_, f)| f.parent.is_none()).map(|(id, _)| *id).collect();
        for root in roots {
            self.remove(root);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one frame, named at every call")]
    fn add_list(
        &mut self,
        frame: FrameId,
        parent: Option<FrameId>,
        role: Role,
        value: Arc<Value>,
        variables: Variables,
        context: Option<Arc<Value>>,
        path: Vec<u32>,
    ) {
        let list = List { role, position: Some(0), child: None, value, entered: BTreeMap::new() };
        self.next_frame = self.next_frame.max(frame.0 + 1);
        self.frames.insert(frame, Frame { parent, variables, context, path, body: Body::List(list) });
        // An empty list has ended before it began.
        if self.tasks_of(frame).is_empty() {
            self.with_list(frame, |list| list.position = None);
        }
    }

    fn with_list(&mut self, frame: FrameId, change: impl FnOnce(&mut List)) {
        if let Some(Frame { body: Body::List(list), .. }) = self.frames.get_mut(&frame) {
            change(list);
        }
    }

    fn with_task(&mut self, frame: FrameId, change: impl FnOnce(&mut Running)) {
        if let Some(Frame { body: Body::Task(task), .. }) = self.frames.get_mut(&frame) {
            change(task);
        }
    }

    fn set_phase(&mut self, frame: FrameId, phase: impl FnOnce(&Running) -> Phase) {
        self.with_task(frame, |task| task.phase = phase(task));
    }

    fn set_parked(&mut self, frame: FrameId, reason: Option<Fault>) {
        if let Some(call) = self.stopping.get_mut(&frame) {
            call.parked = reason;
        } else {
            self.with_task(frame, |task| {
                if let Phase::Calling(calling) = &mut task.phase {
                    calling.parked = reason;
                }
            });
        }
    }

    /// What a task entered under `parent` gets as its raw input.
    pub(super) fn value_for_child(&self, parent: FrameId) -> Arc<Value> {
        match self.frames.get(&parent).map(|f| &f.body) {
            Some(Body::List(list)) => list.value.clone(),
            Some(Body::Task(task)) => task.input.clone(),
            None => Arc::new(Value::Null),
        }
    }

    fn enter_task(
        &mut self,
        frame: FrameId,
        parent: FrameId,
        task: TaskIndex,
        at: Timestamp,
        input: Option<&Arc<Value>>,
        deadline: Option<Timestamp>,
    ) {
        let raw = self.value_for_child(parent);
        let Some(around) = self.frames.get(&parent) else { return };
        let mut path = around.path.clone();
        let variables = around.variables.clone();
        let (branch, entry, context) = match &around.body {
            Body::List(list) => {
                let position = list.position.unwrap_or(0);
                (None, list.entered.get(&position).copied().unwrap_or(0), None)
            }
            Body::Task(fork) => {
                let branch = match &self.workflow().task(fork.task).kind {
                    TaskKind::Fork { branches, .. } => branches.iter().position(|b| *b == task),
                    _ => None,
                };
                (branch.and_then(|b| u32::try_from(b).ok()), 0, Some(self.context_of(parent).clone()))
            }
        };
        path.push(branch.unwrap_or(entry));
        let key = ExecutionKey { pointer: self.workflow().task(task).pointer.clone(), path: path.clone() };
        let running = Running {
            task,
            branch,
            key,
            started_at: at,
            input: input.unwrap_or(&raw).clone(),
            raw,
            deadline,
            phase: Phase::Entered,
        };
        self.next_frame = self.next_frame.max(frame.0 + 1);
        self.with_list(parent, |list| {
            list.child = Some(frame);
            if let Some(position) = list.position {
                *list.entered.entry(position).or_insert(0) += 1;
            }
        });
        let body = Body::Task(Box::new(running));
        self.frames.insert(frame, Frame { parent: Some(parent), variables, context, path, body });
    }

    fn enter_block(&mut self, frame: FrameId, parent: FrameId, block: Block) {
        let Some(around) = self.frames.get(&parent) else { return };
        let path = around.path.clone();
        let mut variables = around.variables.clone();
        let Body::Task(task) = &around.body else { return };
        let value = task.input.clone();
        if let (Block::Catch, Phase::Trying(Trying { fault: Some(fault), .. }), TaskKind::Try(trying)) =
            (block, &task.phase, &self.workflow().task(task.task).kind)
        {
            variables.insert(trying.variable.clone(), Arc::new(serde_json::to_value(fault).unwrap_or(Value::Null)));
        }
        let at = task.started_at;
        self.with_task(parent, |task| match (block, &mut task.phase) {
            (Block::Do, phase) => *phase = Phase::Block,
            (Block::Try, Phase::Trying(_)) | (Block::Catch, _) => {}
            (Block::Try, phase) => {
                *phase = Phase::Trying(Trying {
                    retries: 0,
                    retries_within: 0,
                    since: at,
                    backoff: None,
                    fault: None,
                    handling: false,
                });
            }
        });
        self.add_list(frame, Some(parent), Role::Block(block), value, variables, None, path);
    }

    fn enter_iteration(&mut self, frame: FrameId, parent: FrameId, index: u32) {
        let Some(around) = self.frames.get(&parent) else { return };
        let Body::Task(task) = &around.body else { return };
        let (Phase::Looping(looping), TaskKind::For(definition)) = (&task.phase, &self.workflow().task(task.task).kind)
        else {
            return;
        };
        let parallel = self.is_parallel(task.task);
        let mut path = around.path.clone();
        path.push(index);
        let mut variables = around.variables.clone();
        if let Some(item) = looping.items.get(index as usize) {
            variables.insert(definition.each.clone(), item.clone());
        }
        variables.insert(definition.at.clone(), Arc::new(Value::from(index)));
        let value = if parallel { task.input.clone() } else { looping.value.clone() };
        let context = parallel.then(|| self.context_of(parent).clone());
        self.with_task(parent, |task| {
            if let Phase::Looping(looping) = &mut task.phase {
                looping.next = index + 1;
                looping.open.insert(index, frame);
            }
        });
        self.add_list(frame, Some(parent), Role::Iteration(index), value, variables, context, path);
    }

    pub(super) fn is_parallel(&self, task: TaskIndex) -> bool {
        self.workflow().task(task).extras.concurrency.is_some()
    }

    fn end_iteration(&mut self, frame: FrameId, index: u32, fault: Option<&Fault>) {
        let Some(Running { task, phase: Phase::Looping(looping), .. }) = self.running(frame) else { return };
        let parallel = self.is_parallel(*task);
        let list = looping.open.get(&index).copied();
        let value = list.and_then(|l| self.list(l)).map(|l| l.value.clone());
        let context = list.and_then(|l| self.frames.get(&l)).and_then(|f| f.context.clone());
        if let Some(list) = list {
            self.remove(list);
        }
        self.with_task(frame, |task| {
            let Phase::Looping(looping) = &mut task.phase else { return };
            looping.open.remove(&index);
            match (fault, value) {
                (Some(fault), _) => {
                    looping.results.insert(index, Err(fault.clone()));
                }
                (None, Some(value)) if parallel => {
                    looping.results.insert(index, Ok(value));
                    if let Some(context) = context {
                        looping.contexts.insert(index, context);
                    }
                }
                (None, Some(value)) => looping.value = value,
                (None, None) => {}
            }
        });
    }

    fn complete(
        &mut self,
        frame: FrameId,
        output: &Arc<Value>,
        context: Option<&Arc<Value>>,
        then: &Then,
        effect: Option<&Effect>,
    ) {
        let Some(found) = self.frames.get(&frame) else { return };
        let Body::Task(task) = &found.body else { return };
        let (task_index, parent) = (task.task, found.parent);
        let call = match &task.phase {
            Phase::Calling(call) => Some(call.clone()),
            _ => None,
        };
        if let (Some(call), Some(effect)) = (call, effect) {
            self.record(&call, effect);
        }
        if let Some(context) = context {
            self.write_context(frame, context);
        }
        let branch_context = self.frames.get(&frame).and_then(|f| f.context.clone());
        // The call of this very frame has ended; those inside it are gone or being stopped.
        self.with_task(frame, |task| task.phase = Phase::Entered);
        self.remove(frame);
        if let Some(parent) = parent {
            self.leave(parent, task_index, output.clone(), branch_context, then);
        }
    }

    fn record(&mut self, call: &Calling, effect: &Effect) {
        if effect.changed {
            self.ledger.push(LedgerEntry {
                key: call.key.clone(),
                action: call.action.clone(),
                connection: call.connection.clone(),
                effect: effect.clone(),
            });
        }
    }

    fn write_context(&mut self, frame: FrameId, context: &Arc<Value>) {
        let mut at = Some(frame);
        while let Some(id) = at {
            let Some(found) = self.frames.get_mut(&id) else { break };
            if found.context.is_some() {
                found.context = Some(context.clone());
                return;
            }
            at = found.parent;
        }
        self.context = context.clone();
    }

    /// A task of `parent` is over: the list moves on, the fork notes a result.
    fn leave(
        &mut self,
        parent: FrameId,
        task: TaskIndex,
        output: Arc<Value>,
        context: Option<Arc<Value>>,
        then: &Then,
    ) {
        let count = u32::try_from(self.tasks_of(parent).len()).unwrap_or(u32::MAX);
        let branch = match self.running(parent).map(|r| &self.workflow().task(r.task).kind) {
            Some(TaskKind::Fork { branches, .. }) => branches.iter().position(|b| *b == task),
            _ => None,
        };
        self.with_list(parent, |list| {
            list.child = None;
            list.value = output.clone();
            list.position = match then {
                Then::Continue => list.position.map(|p| p + 1).filter(|p| *p < count),
                Then::Exit | Then::End => None,
                Then::Task(position) => Some(*position).filter(|p| *p < count),
            };
        });
        if let Some(branch) = branch {
            self.with_task(parent, |fork| {
                let Phase::Forking(forking) = &mut fork.phase else { return };
                let branch = u32::try_from(branch).unwrap_or(u32::MAX);
                forking.results.insert(branch, output);
                forking.contexts.extend(context.map(|c| (branch, c)));
            });
        }
    }

    fn catch(&mut self, frame: FrameId, fault: &Fault, backoff: Option<Timestamp>) {
        self.remove_below(frame);
        self.with_task(frame, |task| {
            if let Phase::Trying(trying) = &mut task.phase {
                trying.fault = Some(fault.clone());
                trying.backoff = backoff;
                trying.handling = backoff.is_none();
            }
        });
    }

    fn retry(&mut self, frame: FrameId) {
        let mut at = Some(frame);
        while let Some(id) = at {
            self.with_task(id, |task| {
                if let Phase::Trying(trying) = &mut task.phase {
                    trying.retries_within += 1;
                    if id == frame {
                        trying.retries += 1;
                        trying.backoff = None;
                    }
                }
            });
            at = self.frames.get(&id).and_then(|f| f.parent);
        }
    }

    /// Removes a frame and all below it; calls under way there go on as [`State::stopping`].
    fn remove(&mut self, frame: FrameId) {
        self.remove_below(frame);
        let Some(found) = self.frames.remove(&frame) else { return };
        if let Body::Task(task) = found.body
            && let Phase::Calling(calling) = task.phase
        {
            self.stopping.insert(frame, calling);
        }
        if let Some(parent) = found.parent {
            self.with_list(parent, |list| {
                if list.child == Some(frame) {
                    list.child = None;
                }
            });
        }
    }

    fn remove_below(&mut self, frame: FrameId) {
        let children: Vec<FrameId> =
            self.frames.iter().filter(|(_, f)| f.parent == Some(frame)).map(|(id, _)| *id).collect();
        for child in children {
            self.remove(child);
        }
    }
}
