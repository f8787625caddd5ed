//! Lists move on; tasks begin.

use std::sync::Arc;

use serde_json::Value;

use super::{Decider, asking, faults, located};
use crate::definition::{Call, Delay, TaskIndex, TaskKind};
use crate::fault::Fault;
use crate::run::arguments::{Asked, Asking};
use crate::run::event::{Block, Event, FrameId};
use crate::run::frame::{Forking, Phase, Role, Running};
use crate::value;

impl Decider<'_> {
    /// A list with nothing under way: the next task begins, or the list is over.
    pub(super) fn advance(&mut self, list: FrameId) {
        let Some(found) = self.state.list(list) else { return };
        let (position, role, value) = (found.position, found.role, found.value.clone());
        let parent = self.state.frames.get(&list).and_then(|f| f.parent);
        if let Some(position) = position {
            let task = self.state.tasks_of(list)[position as usize];
            return self.enter(list, task);
        }
        match (role, parent) {
            (Role::Iteration(index), Some(parent)) => {
                self.emit(Event::IterationEnded { frame: parent, index, fault: None });
            }
            (Role::Block(_), Some(parent)) => self.complete(parent, value, None, None),
            (_, _) => self.finish(&value),
        }
    }

    /// A task begins, or is skipped.
    pub(super) fn enter(&mut self, parent: FrameId, index: TaskIndex) {
        let (workflow, _) = self.task(index);
        let task = workflow.task(index);
        let raw = self.state.value_for_child(parent);
        let before = Asking {
            name: &task.name,
            reference: &task.pointer,
            started_at: self.at,
            raw: &raw,
            input: &raw,
            output: None,
        };
        let prepared = (|| {
            let input = match &task.input.from {
                None => None,
                Some(from) => Some(Arc::new(self.evaluate(parent, &Asked::Template(from), before, &raw)?)),
            };
            let seen = input.as_ref().unwrap_or(&raw).clone();
            let now = Asking { input: &seen, ..before };
            if let Some(condition) = &task.condition
                && !truth(&self.evaluate(parent, &Asked::Text(condition), now, &seen)?, &condition.pointer)?
            {
                return Ok(None);
            }
            self.check(&format!("{}/input/schema/document", task.pointer), "the task's input", &raw)?;
            let deadline =
                task.timeout.as_ref().map(|t| self.delay_until(t, Some((parent, now)), &seen)).transpose()?;
            Ok(Some((input, deadline)))
        })();
        let frame = self.next_frame();
        match prepared {
            Ok(None) => self.emit(Event::TaskSkipped { parent, task: index }),
            Ok(Some((input, deadline))) => {
                self.emit(Event::TaskEntered { frame, parent, task: index, at: self.at, input, deadline });
            }
            Err(fault) => {
                // The task begins all the same, so that the fault has a task that it happened in.
                self.emit(Event::TaskEntered { frame, parent, task: index, at: self.at, input: None, deadline: None });
                self.raise(frame, fault, false);
            }
        }
    }

    /// Whether a task can go on without anything happening.
    pub(super) fn can_go_on(&self, task: &Running) -> bool {
        match &task.phase {
            Phase::Entered => true,
            Phase::Block | Phase::Calling(_) | Phase::Waiting { .. } => false,
            Phase::Looping(looping) => {
                let total = u32::try_from(looping.items.len()).unwrap_or(u32::MAX);
                let open = u32::try_from(looping.open.len()).unwrap_or(u32::MAX);
                open == 0 || (looping.next < total && open < self.width(task.task))
            }
            Phase::Forking(forking) => {
                self.won(task, forking).is_some()
                    || forking.results.len() == self.branches(task)
                    || forking.next(self.branches(task)).is_some()
            }
            Phase::Trying(trying) => {
                trying.backoff.is_none() && !trying.list.is_some_and(|list| self.state.frames.contains_key(&list))
            }
        }
    }

    fn width(&self, task: TaskIndex) -> u32 {
        self.state.workflow().task(task).extras.concurrency.unwrap_or(1).max(1)
    }

    /// The output of the branch that won a competition.
    fn won<'f>(&self, task: &Running, forking: &'f Forking) -> Option<&'f Arc<Value>> {
        match &self.state.workflow().task(task.task).kind {
            TaskKind::Fork { compete: true, .. } => forking.results.values().next(),
            _ => None,
        }
    }

    fn branches(&self, task: &Running) -> usize {
        match &self.state.workflow().task(task.task).kind {
            TaskKind::Fork { branches, .. } => branches.len(),
            _ => 0,
        }
    }

    /// A task that can go on does.
    pub(super) fn go_on(&mut self, frame: FrameId) {
        let Some(running) = self.state.running(frame).cloned() else { return };
        let (workflow, index) = self.task(running.task);
        let task = workflow.task(index);
        let seen = asking(task, &running, None);
        let result: Result<(), Fault> = (|| {
            match (&task.kind, &running.phase) {
                (TaskKind::Call(call), _) => self.schedule_call(frame, call, seen, &running)?,
                (TaskKind::Do(_), _) => {
                    self.emit(Event::BlockEntered { frame: self.next_frame(), parent: frame, block: Block::Do });
                }
                (TaskKind::Set(template), _) => {
                    let output = self.evaluate(frame, &Asked::Template(template), seen, &running.input)?;
                    self.complete(frame, Arc::new(output), None, None);
                }
                (TaskKind::Switch(cases), _) => {
                    let mut chosen = None;
                    for case in cases {
                        let holds = match &case.when {
                            None => true,
                            Some(when) => {
                                truth(&self.evaluate(frame, &Asked::Text(when), seen, &running.input)?, &when.pointer)?
                            }
                        };
                        if holds {
                            chosen = Some(case.then.clone());
                            break;
                        }
                    }
                    self.complete(frame, running.input.clone(), chosen, None);
                }
                (TaskKind::Wait(delay), _) => self.schedule_wait(frame, delay, seen, &running)?,
                (TaskKind::Raise(template), _) => {
                    let error = self.evaluate(frame, &Asked::Template(template), seen, &running.input)?;
                    return Err(faults::raised(error)?);
                }
                (TaskKind::For(looping), Phase::Entered) => {
                    let collection = self.evaluate(frame, &Asked::Text(&looping.collection), seen, &running.input)?;
                    let Value::Array(items) = collection else {
                        return Err(Fault::of_code("expression-invalid", "`for.in` does not give an array"));
                    };
                    let items = Arc::new(items.into_iter().map(Arc::new).collect());
                    self.emit(Event::LoopEntered { frame, items });
                }
                (TaskKind::For(_), _) => self.loop_on(frame, &running)?,
                (TaskKind::Fork { .. }, Phase::Entered) => self.emit(Event::ForkEntered { frame }),
                (TaskKind::Fork { branches, .. }, _) => self.fork_on(frame, branches, &running),
                (TaskKind::Try(_), Phase::Trying(trying)) if trying.handling => {
                    self.emit(Event::BlockEntered { frame: self.next_frame(), parent: frame, block: Block::Catch });
                }
                (TaskKind::Try(_), _) => {
                    self.emit(Event::BlockEntered { frame: self.next_frame(), parent: frame, block: Block::Try });
                }
            }
            Ok(())
        })();
        if let Err(fault) = result {
            self.raise(frame, located(fault, task), false);
        }
    }

    fn schedule_call(&mut self, frame: FrameId, call: &Call, seen: Asking<'_>, running: &Running) -> Result<(), Fault> {
        let facts = self.state.facts().clone();
        let action = facts.actions.get(&call.reference).ok_or_else(|| {
            Fault::of_code(
                "action-unknown",
                format!("`{}` is not among the actions pinned for this run", call.reference),
            )
        })?;
        let connection = match &call.connection {
            None => match facts.chosen.get(&running.key.pointer) {
                Some(alias) => Some(self.connection_of(&Value::from(alias.as_str()))?),
                None => None,
            },
            Some(text) => {
                Some(self.connection_of(&self.evaluate(frame, &Asked::Text(text), seen, &running.input)?)?)
            }
        };
        let arguments = self.evaluate(frame, &Asked::Template(&call.arguments), seen, &running.input)?;
        self.check_input(&call.reference, action, &arguments)?;
        self.emit(Event::CallScheduled {
            frame,
            attempt: self.state.next_attempt(frame),
            action: call.reference.clone(),
            connection,
            arguments: Arc::new(arguments),
        });
        Ok(())
    }

    /// The name of the connection that an alias means.
    pub(super) fn connection_of(&self, alias: &Value) -> Result<String, Fault> {
        let Value::String(alias) = alias else {
            let detail = format!("{alias} is not the name of a connection");
            return Err(Fault::of_code("connection-unknown", detail));
        };
        let connection = self.state.facts().connections.get(alias);
        connection
            .map(|c| c.name.clone())
            .ok_or_else(|| Fault::of_code("connection-unknown", format!("there is no connection `{alias}`")))
    }

    fn schedule_wait(
        &mut self,
        frame: FrameId,
        delay: &Delay,
        seen: Asking<'_>,
        running: &Running,
    ) -> Result<(), Fault> {
        let until = self.delay_until(delay, Some((frame, seen)), &running.input)?;
        if until <= self.at {
            self.complete(frame, running.input.clone(), None, None);
        } else {
            self.emit(Event::WaitScheduled { frame, until });
        }
        Ok(())
    }

    fn fork_on(&mut self, frame: FrameId, branches: &[TaskIndex], running: &Running) {
        let Phase::Forking(forking) = &running.phase else { return };
        if let Some(output) = self.won(running, forking) {
            return self.complete(frame, output.clone(), None, None);
        }
        match forking.next(branches.len()) {
            Some(branch) => self.enter(frame, branches[branch as usize]),
            None => self.join(frame, running),
        }
    }
}

/// A condition's value.
pub(super) fn truth(value: &Value, pointer: &str) -> Result<bool, Fault> {
    match value {
        Value::Bool(holds) => Ok(*holds),
        // jq's own notion: null is false. Everything else is more likely a mistake than a wish.
        Value::Null => Ok(false),
        other => Err(Fault::of_code(
            "expression-invalid",
            format!("the condition at {pointer} gives {} instead of true or false", value::kind_of(other)),
        )),
    }
}
