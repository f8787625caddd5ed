//! The fold: what each event does to a run's state.

use std::collections::BTreeMap;
use std::sync::Arc;

use rpds::RedBlackTreeMapSync;
use serde_json::Value;

use super::event::{Block, Effect, Event, FrameId, Variables, Why};
use super::frame::{Body, Calling, Forking, Frame, List, Looping, Phase, Role, Running, Trying};
use super::key::ExecutionKey;
use super::place::Place;
use super::state::{Stands, State};
use crate::definition::{TaskIndex, TaskKind, Then};
use crate::fault::Fault;
use crate::time::Timestamp;
use crate::value;

impl State {
    /// Folds one event; whether it fitted. After false the state is as it was: whoever read the event from a log has not
    /// the log of this run, because [`super::decide`] never makes such a one. Evaluates nothing.
    #[must_use]
    pub fn apply(&mut self, event: &Event) -> bool {
        let fits = self.fits(event);
        if fits {
            self.events += 1;
            self.fold(event);
        }
        fits
    }

    fn fold(&mut self, event: &Event) {
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
                    results: RedBlackTreeMapSync::new_sync(),
                    results_bytes: 0,
                    contexts: RedBlackTreeMapSync::new_sync(),
                })
            }),
            Event::IterationEntered { frame, parent, index } => self.enter_iteration(*frame, *parent, *index),
            Event::IterationEnded { frame, index, fault } => {
                self.failed = None;
                self.end_iteration(*frame, *index, fault.as_ref());
            }
            Event::ForkEntered { frame } => self.set_phase(*frame, |_| Phase::Forking(Forking::default())),
            Event::ContextMerged { frame, context } => self.write_context(*frame, context),
            Event::CallScheduled { frame, attempt, action, connection, arguments } => {
                let started_at = self.start_of(*frame);
                self.set_phase(*frame, |task| {
                    Phase::Calling(Calling {
                        key: task.key.clone(),
                        attempt: *attempt,
                        action: action.clone(),
                        connection: connection.clone(),
                        arguments: arguments.clone(),
                        started_at: started_at.unwrap_or(task.started_at),
                        parked: None,
                        why: Why::default(),
                        wrote: false,
                    })
                });
            }
            Event::WaitScheduled { frame, until } => self.set_phase(*frame, |_| Phase::Waiting { until: *until }),
            Event::TaskCompleted { frame, output, context, then, effect, .. } => {
                self.complete(*frame, output, context.as_ref(), then, effect.as_ref());
            }
            Event::TaskFaulted { frame, at, stopping, effect, .. } => {
                self.remember_failed(Some(*frame), *at);
                if let (Some(call), Some(effect)) = (self.call(*frame).cloned(), effect) {
                    self.record(&call, effect);
                }
                if !stopping {
                    self.with_task(*frame, |task| task.phase = Phase::Entered);
                }
                self.remove(*frame);
            }
            Event::Caught { frame, fault } => {
                self.failed = None;
                self.catch(*frame, fault, None);
            }
            Event::RetryScheduled { frame, fault, until } => {
                self.failed = None;
                self.catch(*frame, fault, Some(*until));
            }
            Event::Retried { frame, .. } => self.retry(*frame),
            Event::Tolerated { parent, task, .. } => {
                self.failed = None;
                let value = self.value_for_child(*parent);
                self.leave(*parent, *task, value, None, &Then::Continue);
            }
            Event::Parked { frame, reason, why, wrote, .. } => {
                self.set_parked(*frame, Some(reason.clone()), *why, *wrote);
            }
            Event::Unparked { frame, .. } => self.set_parked(*frame, None, Why::default(), false),
            Event::Suspended { .. } => self.suspended = true,
            Event::Resumed { .. } => self.suspended = false,
            Event::CallRetried { frame, at } => self.retry_call(*frame, *at),
            Event::TimedOut { at } => self.remember_failed(None, *at),
            Event::Halted { at, fault } => {
                self.halted = Some((*at, fault.clone()));
                self.clear();
            }
            Event::Redefined { .. } => self.redefine(),
            Event::Reopened { at } => self.reopen(*at),
            Event::Ending { ending, rollback, .. } => {
                self.ending = Some(ending.clone());
                if self.ended.take().is_some() {
                    // Somebody wants more of a run that was killed: what it does now is waited for again.
                    self.killed = false;
                }
                self.halted = None;
                self.clear();
                if *rollback {
                    // What was done is no longer there to go on from.
                    self.failed = None;
                    self.rollback.get_or_insert_default();
                }
            }
            Event::RollbackBegun { .. } => {
                if let Some(rollback) = &mut self.rollback {
                    rollback.begun = true;
                }
            }
            Event::UndoScheduled { frame, at, entry, attempt, action, connection, arguments } => {
                if let Some(key) = self.key_of_inverse(*entry) {
                    let first = self.ledger.get_mut(*entry as usize).map(|e| *e.undo_started_at.get_or_insert(*at));
                    let call = Calling {
                        key,
                        attempt: *attempt,
                        action: action.clone(),
                        connection: connection.clone(),
                        arguments: arguments.clone(),
                        started_at: first.unwrap_or(*at),
                        parked: None,
                        why: Why::default(),
                        wrote: false,
                    };
                    self.call_inverse(*frame, *entry, call);
                }
            }
            Event::UndoRetryScheduled { until, .. } => self.inverse_stands(|_| Stands::Until(*until)),
            Event::Settled { entry, fate, .. } => {
                if let Some(entry) = self.ledger.get_mut(*entry as usize) {
                    entry.fate = Some(*fate);
                }
                if let Some(rollback) = &mut self.rollback {
                    rollback.current = None;
                }
            }
            Event::RollbackIncomplete { entry, reason, .. } => self.leave_incomplete(*entry, reason),
            Event::Killed { .. } => self.kill(),
            Event::Blocked { diagnostics, .. } => self.blocked = Some(diagnostics.clone()),
            Event::Unblocked { .. } => self.blocked = None,
            Event::Queued { group, .. } => self.place = Some(Place { group: group.clone(), admitted: false }),
            Event::Admitted { .. } => {
                if let Some(place) = &mut self.place {
                    place.admitted = true;
                }
            }
            Event::Displaced { by, .. } => self.displaced_by = Some(*by),
            Event::NoticeDue { notice } => {
                self.notices_made = notice.number + 1;
                self.notices.insert(notice.number, notice.clone());
            }
            Event::Noticed { number } => {
                self.notices.remove(number);
            }
            Event::CallStopped { frame, effect } => {
                if let (Some(call), Some(effect)) = (self.stopping.remove(frame), effect) {
                    self.record(&call, effect);
                }
            }
            Event::Unfinished { decisions } => self.unfinished = *decisions,
            Event::Rested {} => self.unfinished = 0,
            Event::Ended { at, ending } => {
                self.clear();
                self.unfinished = 0;
                self.ended = Some((*at, ending.clone()));
                self.ending = None;
                self.halted = None;
                self.rollback = None;
                self.suspended = false;
            }
        }
    }

    pub(super) fn clear(&mut self) {
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

    pub(super) fn with_list(&mut self, frame: FrameId, change: impl FnOnce(&mut List)) {
        if let Some(Frame { body: Body::List(list), .. }) = self.frames.get_mut(&frame) {
            change(list);
        }
    }

    pub(super) fn with_task(&mut self, frame: FrameId, change: impl FnOnce(&mut Running)) {
        if let Some(Frame { body: Body::Task(task), .. }) = self.frames.get_mut(&frame) {
            change(task);
        }
    }

    fn set_phase(&mut self, frame: FrameId, phase: impl FnOnce(&Running) -> Phase) {
        self.with_task(frame, |task| task.phase = phase(task));
    }

    fn set_parked(&mut self, frame: FrameId, reason: Option<Fault>, why: Why, wrote: bool) {
        if let Some(call) = self.stopping.get_mut(&frame) {
            (call.parked, call.why, call.wrote) = (reason, why, wrote);
        } else if let Some(call) = self.inverse_call_mut(frame) {
            (call.parked, call.why, call.wrote) = (reason, why, wrote);
        } else {
            self.with_task(frame, |task| {
                if let Phase::Calling(calling) = &mut task.phase {
                    (calling.parked, calling.why, calling.wrote) = (reason, why, wrote);
                }
            });
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
        self.committed |= self.workflow().task(task).extras.no_rollback_after;
        if let Some(branch) = branch {
            self.with_task(parent, |fork| {
                if let Phase::Forking(forking) = &mut fork.phase {
                    forking.begun = forking.begun.max(branch + 1);
                    forking.open.insert(branch);
                }
            });
        }
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
            (Block::Try | Block::Catch, Phase::Trying(trying)) => trying.list = Some(frame),
            (Block::Catch, _) => {}
            (Block::Try, phase) => {
                *phase = Phase::Trying(Trying {
                    retries: 0,
                    retries_within: 0,
                    since: at,
                    starts: RedBlackTreeMapSync::new_sync(),
                    backoff: None,
                    fault: None,
                    handling: false,
                    list: Some(frame),
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
                    looping.results_bytes = looping.results_bytes.saturating_add(fault.weight());
                    looping.results.insert_mut(index, Err(fault.clone()));
                }
                (None, Some(value)) if parallel => {
                    looping.results_bytes = looping.results_bytes.saturating_add(value::size(&value).bytes);
                    looping.results.insert_mut(index, Ok(value));
                    if let Some(context) = context {
                        looping.contexts.insert_mut(index, context);
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

    fn write_context(&mut self, frame: FrameId, context: &Arc<Value>) {
        let holder = self.ancestors(frame).find(|(_, around)| around.context.is_some()).map(|(id, _)| id);
        match holder.and_then(|id| self.frames.get_mut(&id)) {
            Some(holder) => holder.context = Some(context.clone()),
            None => self.context = context.clone(),
        }
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
        let around: Vec<FrameId> = self.ancestors(frame).map(|(id, _)| id).collect();
        for id in around {
            self.with_task(id, |task| {
                if let Phase::Trying(trying) = &mut task.phase {
                    trying.retries_within += 1;
                    if id == frame {
                        trying.retries += 1;
                        trying.backoff = None;
                    }
                }
            });
        }
    }

    /// Removes a frame and all below it; calls under way there go on as [`State::stopping`].
    fn remove(&mut self, frame: FrameId) {
        self.remove_below(frame);
        let Some(found) = self.frames.remove(&frame) else { return };
        if let Body::Task(task) = found.body {
            if let (Some(branch), Some(parent)) = (task.branch, found.parent) {
                self.close_branch(parent, branch);
            }
            if let Phase::Calling(calling) = task.phase {
                self.stopping.insert(frame, calling);
            }
        }
        if let Some(parent) = found.parent {
            self.with_list(parent, |list| {
                if list.child == Some(frame) {
                    list.child = None;
                }
            });
        }
    }

    /// A branch of the fork at `parent` is under way no more.
    pub(super) fn close_branch(&mut self, parent: FrameId, branch: u32) {
        self.with_task(parent, |fork| {
            if let Phase::Forking(forking) = &mut fork.phase {
                forking.open.remove(&branch);
            }
        });
    }

    fn remove_below(&mut self, frame: FrameId) {
        // Children have higher numbers than their parents.
        let children: Vec<FrameId> = self
            .frames
            .range(FrameId(frame.0.saturating_add(1))..)
            .filter(|(_, f)| f.parent == Some(frame))
            .map(|(id, _)| *id)
            .collect();
        for child in children {
            self.remove(child);
        }
    }
}
