//! From a state and something that happened to events.

use std::sync::Arc;

use serde_json::Value;

use super::EVENTS_PER_DECISION_MAX;
use super::arguments::{Asked, Asking, Scope};
use super::event::{Effect, Ending, Event, FrameId, Why};
use super::fault as faults;
use super::frame::Phase;
use super::state::State;
use crate::definition::{Task, TaskIndex, Then};
use crate::expression::{Evaluator, Template, Text};
use crate::fault::Fault;
use crate::id::RunId;
use crate::time::Timestamp;

mod catch;
mod compensate;
mod enter;
mod leave;
mod operator;
mod rollback;
mod until;

use rollback::Progress;

/// Something that happened, with the time and the randomness of the decision about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// When.
    pub at: Timestamp,
    /// 64 random bits, for jitter.
    pub entropy: u64,
    /// What.
    pub cause: Cause,
}

/// What an action's call ended with.
#[derive(Debug, Clone, PartialEq)]
pub enum Returned {
    /// Well.
    Ok {
        /// Its output.
        output: Value,
        /// What it did.
        effect: Effect,
    },
    /// With a fault, which a `catch` may catch.
    Fault(Fault),
    /// With a fault, after it had changed something.
    Broken {
        /// The fault.
        fault: Fault,
        /// What is known of the change.
        effect: Effect,
    },
}

/// See [`Input`].
#[derive(Debug, Clone, PartialEq)]
pub enum Cause {
    /// The run was accepted: begin.
    Start,
    /// Time passed.
    Wake,
    /// A call ended, whether it was wanted still or being stopped.
    Returned {
        /// Whose.
        frame: FrameId,
        /// How.
        result: Returned,
    },
    /// A call cannot go on without a person.
    Park {
        /// Whose.
        frame: FrameId,
        /// Why, in words.
        reason: Fault,
        /// Why, for what follows from it.
        why: Why,
        /// Whether it had changed something before.
        wrote: bool,
    },
    /// A person has settled what a parked call was waiting for.
    Unpark {
        /// Whose.
        frame: FrameId,
    },
    /// As [`Cause::Unpark`] for every parked call, or those of the task with this pointer; and what could not be taken
    /// back is taken for undone, or left.
    Settle {
        /// JSON pointer.
        task: Option<String>,
        /// Whether a person has done it.
        done: bool,
    },
    /// Somebody wants the run to end. A rollback that is under way goes on.
    Cancel,
    /// Somebody wants the run to end, and what it changed taken back first.
    CancelAndUndo,
    /// Somebody wants the run to end whatever it leaves behind: calls that were sent still end, and nothing else is
    /// waited for.
    Kill,
    /// Somebody wants what failed or is parked tried again.
    Retry,
    /// As [`Cause::Retry`], on a newer definition, against which [`super::Replay`] has held what is recorded. The state's
    /// facts have been replaced before.
    Redefine {
        /// What is pinned from now on.
        pins: Arc<Value>,
    },
    /// Somebody wants what an ended run changed taken back.
    Undo,
    /// In the place of [`Cause::Start`]: preflight refused the run, and it was accepted all the same.
    Block {
        /// What preflight said.
        diagnostics: Arc<Value>,
    },
    /// Preflight lets a blocked run begin. The state's facts are to be replaced before anything else is decided.
    Unblock {
        /// What is pinned from now on.
        pins: Arc<Value>,
    },
    /// The owner of the run's group gives it its place.
    Admitted,
    /// The group is full, and the file says that one more is refused.
    Rejected,
    /// A newer run takes this one's place in the group.
    Displaced {
        /// Which.
        by: RunId,
        /// Whether what this one changed is taken back first.
        rollback: bool,
    },
    /// A notice was taken over by whoever tells it, durably.
    Noticed {
        /// Its number.
        number: u32,
    },
    /// Somebody wants a pause.
    Suspend,
    /// Somebody wants it to go on.
    Resume,
}

/// What follows from `input`. Applying the events to `state` in order gives the next state.
///
/// Empty when nothing follows: the call was not awaited, the time has not come, the run has ended. Every decision runs
/// until nothing more can be decided without something happening, so the state after it is at rest.
#[must_use]
pub fn decide(state: &State, input: &Input, evaluator: &dyn Evaluator) -> Vec<Event> {
    decide_and_apply(state, input, evaluator).map_or_else(Vec::new, |(events, _)| events)
}

/// As [`decide`], with the state after the events, which deciding has made anyway; none when nothing follows.
#[must_use]
pub fn decide_and_apply(state: &State, input: &Input, evaluator: &dyn Evaluator) -> Option<(Vec<Event>, State)> {
    if state.ended.is_some() && !matches!(input.cause, Cause::Retry | Cause::Redefine { .. } | Cause::Undo) {
        return None;
    }
    let mut decider =
        Decider { state: state.clone(), events: Vec::new(), evaluator, at: input.at, entropy: input.entropy };
    decider.react(&input.cause);
    decider.settle();
    (!decider.events.is_empty()).then_some((decider.events, decider.state))
}

struct Decider<'a> {
    state: State,
    events: Vec<Event>,
    evaluator: &'a dyn Evaluator,
    at: Timestamp,
    entropy: u64,
}

impl Decider<'_> {
    fn emit(&mut self, event: Event) {
        // A run that had ended with its fault and is rolled back later has said so already.
        let told = self.state.ended.is_some();
        self.state.apply(&event);
        let notice = if told { None } else { self.state.notice_after(&event) };
        self.events.push(event);
        if let Some(notice) = notice {
            let due = Event::NoticeDue { notice };
            self.state.apply(&due);
            self.events.push(due);
        }
    }

    fn next_frame(&self) -> FrameId {
        FrameId(self.state.next_frame)
    }

    /// The definition's task. Cloning the `Arc` frees the borrow of the state.
    fn task(&self, index: TaskIndex) -> (Arc<crate::definition::Workflow>, TaskIndex) {
        (self.state.facts().workflow.clone(), index)
    }

    fn react(&mut self, cause: &Cause) {
        match cause {
            Cause::Start => self.start(),
            Cause::Wake => self.wake(),
            Cause::Returned { frame, result } => self.returned(*frame, result),
            Cause::Park { frame, reason, why, wrote } => {
                if self.state.call(*frame).is_some_and(|c| c.parked.is_none()) {
                    if self.state.killed {
                        // Nobody waits for an answer.
                        return self.emit(Event::CallStopped { frame: *frame, effect: None });
                    }
                    let (frame, at, reason) = (*frame, self.at, reason.clone());
                    self.emit(Event::Parked { frame, at, reason, why: *why, wrote: *wrote });
                }
            }
            Cause::Unpark { frame } => {
                if self.state.call(*frame).is_some_and(|c| c.parked.is_some()) {
                    self.emit(Event::Unparked { frame: *frame, at: self.at });
                }
            }
            Cause::Settle { task, done } => self.settle_parked(task.as_deref(), *done),
            Cause::Cancel => self.cancel(false),
            Cause::CancelAndUndo => self.cancel(true),
            Cause::Kill => {
                if !self.state.killed {
                    self.emit(Event::Killed { at: self.at });
                }
            }
            Cause::Block { diagnostics } => {
                if self.state.started_at.is_none() && self.state.place.is_none() && self.state.blocked.is_none() {
                    self.emit(Event::Blocked { at: self.at, diagnostics: diagnostics.clone() });
                }
            }
            Cause::Unblock { pins } => {
                if self.state.blocked.is_some() {
                    self.emit(Event::Unblocked { at: self.at, pins: pins.clone() });
                }
            }
            Cause::Admitted => self.admit(),
            Cause::Rejected => self.reject(),
            Cause::Displaced { by, rollback } => self.displace(*by, *rollback),
            Cause::Noticed { number } => {
                if self.state.notices.contains_key(number) {
                    self.emit(Event::Noticed { number: *number });
                }
            }
            Cause::Retry => self.retry(),
            Cause::Redefine { pins } => self.redefine(pins),
            Cause::Undo => self.undo(),
            Cause::Suspend => {
                if !self.state.suspended {
                    self.emit(Event::Suspended { at: self.at });
                }
            }
            Cause::Resume => {
                if self.state.suspended {
                    self.emit(Event::Resumed { at: self.at });
                    self.wake();
                }
            }
        }
    }

    fn start(&mut self) {
        if self.state.started_at.is_some()
            || self.state.ending.is_some()
            || self.state.blocked.is_some()
            || self.state.queues()
        {
            return;
        }
        let workflow = self.state.facts().workflow.clone();
        let raw = self.state.facts().input.clone();
        if self.state.place.is_none() {
            let group = match &workflow.extras.concurrency {
                Some(concurrency) => self
                    .evaluate_workflow(&concurrency.group, &raw)
                    .and_then(|name| super::place::group_of(&self.state, concurrency, &name))
                    .map(Some),
                None => super::once::group_of(&workflow, &raw, self.evaluator),
            };
            match group {
                Ok(Some(group)) => return self.emit(Event::Queued { at: self.at, group }),
                Ok(None) => {}
                Err(fault) => return self.refuse_start(fault),
            }
        }
        let deadline = match workflow.timeout.as_ref().map(|t| self.delay_until(t, None, &raw)).transpose() {
            Ok(deadline) => deadline,
            Err(fault) => return self.refuse_start(fault),
        };
        let transformed = match &workflow.input.from {
            None => Ok(None),
            Some(from) => self.evaluate_workflow(from, &raw).map(|v| Some(Arc::new(v))),
        };
        let checked = transformed.and_then(|input| {
            self.check("/input/schema/document", "the workflow's input", &raw)?;
            Ok(input)
        });
        match checked {
            Ok(input) => self.emit(Event::Started { at: self.at, input, deadline }),
            Err(fault) => self.refuse_start(fault),
        }
    }

    fn refuse_start(&mut self, fault: Fault) {
        self.emit(Event::Started { at: self.at, input: None, deadline: None });
        self.end(Ending::Faulted { fault });
    }

    /// Ends the run as the file says.
    fn end(&mut self, ending: Ending) {
        let faulted = matches!(ending, Ending::Faulted { .. });
        let rollback = faulted && self.state.workflow().extras.rolls_back();
        match ending {
            Ending::Faulted { fault } if rollback && self.state.committed => {
                self.emit(Event::Halted { at: self.at, fault });
            }
            ending => self.end_with(ending, rollback),
        }
    }

    /// Ends the run, at once or when calls under way have ended and what it changed is taken back.
    fn end_with(&mut self, ending: Ending, rollback: bool) {
        let rollback = rollback && self.state.can_roll_back();
        let calls = self.state.calls().any(|(_, call)| holds(call, &ending, rollback));
        let tells =
            !self.state.notices.is_empty() || (matches!(ending, Ending::Faulted { .. }) && self.state.notifies());
        if calls || tells || (rollback && self.state.has_standing_changes()) {
            self.emit(Event::Ending { at: self.at, ending, rollback });
        } else {
            self.emit(Event::Ended { at: self.at, ending });
        }
    }

    fn returned(&mut self, frame: FrameId, result: &Returned) {
        if self.state.stopping.contains_key(&frame) {
            let mut effect = match result {
                Returned::Ok { effect, .. } | Returned::Broken { effect, .. } => Some(effect.clone()),
                Returned::Fault(_) => None,
            };
            self.forget_compensation(frame, &mut effect);
            self.emit(Event::CallStopped { frame, effect });
            return;
        }
        if self.state.inverse_call().is_some_and(|(of, _)| of == frame) {
            return self.inverse_returned(result);
        }
        let Some(running) = self.state.running(frame) else { return };
        if !matches!(running.phase, Phase::Calling(_)) {
            return;
        }
        match result {
            Returned::Ok { output, effect } => self.complete(frame, output.clone(), None, Some(effect.clone())),
            Returned::Fault(fault) => self.raise(frame, fault.clone(), false),
            Returned::Broken { fault, effect } => self.raise_after(frame, fault.clone(), false, Some(effect.clone())),
        }
    }

    /// Everything that is due.
    fn wake(&mut self) {
        if self.state.suspended || self.state.halted.is_some() {
            return;
        }
        if self.state.ending.is_some() {
            return self.wake_inverse();
        }
        if self.state.deadline.is_some_and(|d| d <= self.at) {
            self.emit(Event::TimedOut { at: self.at });
            return self.end(Ending::Faulted { fault: faults::of_timeout("the workflow") });
        }
        loop {
            // Deadlines before waits: a wait that ends at the very moment of its timeout has timed out.
            let late = self.running().find(|(_, t)| t.deadline.is_some_and(|d| d <= self.at)).map(|(id, _)| id);
            if let Some(frame) = late {
                let pointer = self.state.running(frame).map(|t| t.key.pointer.clone()).unwrap_or_default();
                self.raise(frame, faults::of_timeout(&format!("the task {pointer}")), true);
                self.settle();
                continue;
            }
            let due = self.running().find_map(|(id, task)| match &task.phase {
                Phase::Waiting { until } if *until <= self.at => Some((id, false)),
                Phase::Trying(trying) if trying.backoff.is_some_and(|b| b <= self.at) => Some((id, true)),
                _ => None,
            });
            match due {
                Some((frame, true)) => self.emit(Event::Retried { frame, at: self.at }),
                Some((frame, false)) => {
                    let output = self.state.running(frame).map(|t| t.input.clone()).unwrap_or_default();
                    self.complete(frame, output.as_ref().clone(), None, None);
                }
                None => return,
            }
            if self.events.len() > EVENTS_PER_DECISION_MAX || self.state.ended.is_some() || self.state.ending.is_some()
            {
                return;
            }
        }
    }

    fn running(&self) -> impl Iterator<Item = (FrameId, &super::frame::Running)> {
        self.state.frames.keys().filter_map(|id| Some((*id, self.state.running(*id)?)))
    }

    /// Goes on until nothing more follows.
    fn settle(&mut self) {
        loop {
            if self.state.ended.is_some() {
                return;
            }
            if let Some(ending) = self.state.ending.clone() {
                if !self.state.stopping.is_empty() {
                    return;
                }
                match self.roll_back_on() {
                    Progress::Waits => return,
                    Progress::Moved => continue,
                    // What is to be told outlives the run only with whoever tells it.
                    Progress::Over if !self.state.notices.is_empty() => return,
                    Progress::Over => return self.emit(Event::Ended { at: self.at, ending }),
                }
            }
            if self.state.suspended || self.state.halted.is_some() {
                return;
            }
            if self.events.len() > EVENTS_PER_DECISION_MAX {
                let mut fault = Fault::of_code(
                    "run-too-large",
                    400,
                    format!("the run went through {EVENTS_PER_DECISION_MAX} steps without waiting for anything"),
                );
                fault.instance = self.events.iter().rev().find_map(|e| match e {
                    Event::TaskEntered { task, .. } => Some(self.state.workflow().task(*task).pointer.clone()),
                    _ => None,
                });
                return self.end(Ending::Faulted { fault });
            }
            if !self.step() {
                return;
            }
        }
    }

    /// One step of whatever can go on; false when nothing can.
    fn step(&mut self) -> bool {
        let ready = self.state.frames.iter().find_map(|(id, frame)| match &frame.body {
            super::frame::Body::List(list) if list.child.is_none() => Some((*id, true)),
            super::frame::Body::Task(task) if self.can_go_on(*id, task) => Some((*id, false)),
            _ => None,
        });
        match ready {
            Some((list, true)) => self.advance(list),
            Some((task, false)) => self.go_on(task),
            None => return false,
        }
        true
    }

    fn evaluate_workflow(&self, template: &Template, input: &Value) -> Result<Value, Fault> {
        let scope = Scope { state: &self.state, frame: None, evaluator: self.evaluator };
        scope.evaluate(&Asked::Template(template), None, input).map_err(|e| faults::of_expression(&e))
    }

    fn evaluate(&self, frame: FrameId, asked: &Asked<'_>, asking: Asking<'_>, input: &Value) -> Result<Value, Fault> {
        let scope = Scope { state: &self.state, frame: Some(frame), evaluator: self.evaluator };
        scope.evaluate(asked, Some(asking), input).map_err(|e| faults::of_expression(&e))
    }

    fn check(&self, pointer: &str, what: &str, value: &Value) -> Result<(), Fault> {
        let Some(schema) = self.state.facts().schemas.get(pointer) else { return Ok(()) };
        let violations = schema.validate(value);
        if violations.is_empty() { Ok(()) } else { Err(faults::of_violations(what, &violations)) }
    }

    /// When a delay that begins now is over.
    fn delay_until(
        &self,
        delay: &crate::definition::Delay,
        frame: Option<(FrameId, Asking<'_>)>,
        input: &Value,
    ) -> Result<Timestamp, Fault> {
        let text: &Text = match delay {
            crate::definition::Delay::Millis(millis) => return Ok(self.at.plus_millis(*millis)),
            crate::definition::Delay::Expression(text) => text,
        };
        let value = match frame {
            Some((frame, asking)) => self.evaluate(frame, &Asked::Text(text), asking, input)?,
            None => Scope { state: &self.state, frame: None, evaluator: self.evaluator }
                .evaluate(&Asked::Text(text), None, input)
                .map_err(|e| faults::of_expression(&e))?,
        };
        until::resolve(&value, self.at).map_err(|error| {
            let mut fault = Fault::of_code("duration-invalid", 400, error.to_string());
            fault.details = Some(serde_json::json!({ "pointer": text.pointer }));
            fault
        })
    }
}

/// Whether a call that has not ended keeps its run from ending. A person who cancels a parked run has seen what nobody
/// could tell; a rollback has to know it first, and neither a fault nor what was sent after all ends in doubt.
fn holds(call: &super::Calling, ending: &Ending, rollback: bool) -> bool {
    rollback || call.parked.is_none() || *ending != Ending::Cancelled
}

/// What a task is asked as, for `$task` and `$input`.
fn asking<'a>(task: &'a Task, running: &'a super::frame::Running, output: Option<&'a Value>) -> Asking<'a> {
    Asking {
        name: &task.name,
        reference: &task.pointer,
        started_at: running.started_at,
        raw: &running.raw,
        input: &running.input,
        output,
    }
}

impl Decider<'_> {
    /// A task is over: its output and export are evaluated, its list or fork goes on.
    fn complete(&mut self, frame: FrameId, raw_output: Value, chosen: Option<Then>, effect: Option<Effect>) {
        let Some(running) = self.state.running(frame).cloned() else { return };
        let (workflow, index) = self.task(running.task);
        let task = workflow.task(index);
        let mut effect = effect;
        let compensated = effect.as_mut().map_or(Ok(()), |e| self.compensate(frame, task, &running, &raw_output, e));
        let evaluated = compensated.and_then(|()| self.outcome_of(frame, task, &running, raw_output));
        match evaluated {
            Ok((output, context)) => {
                let then = chosen.unwrap_or_else(|| task.then.clone());
                let ends = then == Then::End;
                let last = output.clone();
                self.emit(Event::TaskCompleted { frame, at: self.at, output, context, then, effect });
                if ends {
                    self.finish(&last);
                }
            }
            // What the action did is done, whatever becomes of its output: the ledger has it.
            Err(fault) => self.raise_after(frame, fault, false, effect),
        }
    }

    fn outcome_of(
        &self,
        frame: FrameId,
        task: &Task,
        running: &super::frame::Running,
        raw_output: Value,
    ) -> Result<(Arc<Value>, Option<Arc<Value>>), Fault> {
        let output = match &task.output.transform {
            None => raw_output,
            Some(template) => {
                self.evaluate(frame, &Asked::Template(template), asking(task, running, Some(&raw_output)), &raw_output)?
            }
        };
        self.check(&format!("{}/output/schema/document", task.pointer), "the task's output", &output)?;
        let context = match &task.export.transform {
            None => None,
            Some(template) => {
                let context =
                    self.evaluate(frame, &Asked::Template(template), asking(task, running, Some(&output)), &output)?;
                self.check(&format!("{}/export/schema/document", task.pointer), "the exported context", &context)?;
                Some(Arc::new(context))
            }
        };
        Ok((Arc::new(output), context))
    }

    /// The workflow is over with this as the last output.
    fn finish(&mut self, last: &Arc<Value>) {
        let workflow = self.state.facts().workflow.clone();
        let output = match &workflow.output.transform {
            None => Ok(last.clone()),
            Some(template) => self.evaluate_workflow(template, last).map(Arc::new),
        };
        let checked = output.and_then(|output| {
            self.check("/output/schema/document", "the workflow's output", &output)?;
            Ok(output)
        });
        match checked {
            Ok(output) => self.end(Ending::Completed { output }),
            Err(fault) => self.end(Ending::Faulted { fault }),
        }
    }
}

fn located(mut fault: Fault, task: &Task) -> Fault {
    fault.instance.get_or_insert_with(|| task.pointer.clone());
    fault
}
