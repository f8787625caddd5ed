//! From a state and something that happened to events.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::arguments::{Asked, Asking, Scope};
use super::budget::{Budget, Meter, Spent};
use super::event::{Effect, Ending, Event, FrameId};
use super::fault as faults;
use super::frame::Phase;
use super::reserve::Outgrown;
use super::state::State;
use crate::cost::Cost;
use crate::definition::{Task, TaskIndex, Then};
use crate::expression::Evaluator;
use crate::fault::Fault;
use crate::time::Timestamp;

mod catch;
mod cause;
mod compensate;
mod enter;
mod leave;
mod operator;
mod rollback;
mod until;
mod values;

pub use cause::{Cause, Returned};
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
    /// What the decision may use.
    pub budget: Budget,
}

/// What follows from something that happened.
#[derive(Debug, Clone)]
pub struct Decided {
    /// Folding these into the state before gives the state after.
    pub events: Vec<Event>,
    /// The state after them, which deciding has made anyway.
    pub after: State,
    /// What of the budget was used up before the run came to rest. Nothing more can be decided now where it is none;
    /// else [`super::pending`] lists [`super::Command::GoOn`], whatever happens in between.
    pub spent: Option<Spent>,
}

/// What follows from `input`; none when nothing does: the call was not awaited, the time has not come, the run has ended.
///
/// A decision goes on until nothing more can be decided without something happening, or until its budget is used up. It
/// stops between two steps, so the state after it is one that any other cause may meet.
#[must_use]
pub fn decide(state: &State, input: &Input, evaluator: &dyn Evaluator) -> Option<Decided> {
    if state.ended.is_some() && !matches!(input.cause, Cause::Retry | Cause::Redefine | Cause::Undo) {
        return None;
    }
    let mut decider = Decider {
        state: state.clone(),
        events: Vec::new(),
        evaluator: Meter::new(evaluator),
        at: input.at,
        entropy: input.entropy,
        budget: input.budget,
        hot: state.frames.keys().copied().collect(),
    };
    let spent = decider.react(&input.cause).or_else(|| decider.settle());
    decider.come_to_rest(spent.is_some());
    let Decider { events, state: after, .. } = decider;
    (!events.is_empty()).then_some(Decided { events, after, spent })
}

struct Decider<'a> {
    state: State,
    events: Vec<Event>,
    evaluator: Meter<'a>,
    at: Timestamp,
    entropy: u64,
    budget: Budget,
    /// Every frame that can go on is among these: what an event concerns is put here, what cannot go on is taken out.
    hot: BTreeSet<FrameId>,
}

/// A decision's own steps: folding an event looks through the frames a few times.
const STEP_COST: Cost = Cost::from_micros(2);
const FRAMES_A_MICROSECOND: u64 = 25;

impl Decider<'_> {
    fn emit(&mut self, event: Event) {
        // A run that had ended with its fault and is rolled back later has said so already.
        let told = self.state.ended.is_some();
        self.fold(&event);
        let notice = if told { None } else { self.state.notice_after(&event) };
        self.events.push(event);
        if let Some(notice) = notice {
            let due = Event::NoticeDue { notice };
            self.fold(&due);
            self.events.push(due);
        }
    }

    fn fold(&mut self, event: &Event) {
        self.evaluator.weigh(event.weight());
        self.evaluator.add(STEP_COST + Cost::from_micros(self.state.frames.len() as u64 / FRAMES_A_MICROSECOND));
        let (concerned, everything) = event.concerns();
        for frame in concerned.into_iter().flatten() {
            self.hot.insert(frame);
            self.hot.extend(self.state.ancestors(frame).map(|(id, _)| id));
        }
        let before = self.state.next_frame;
        let fits = self.state.apply(event);
        debug_assert!(fits, "{event:?} does not fit the state that it was made of");
        if everything {
            self.hot = self.state.frames.keys().copied().collect();
        } else {
            self.hot.extend(self.state.frames.range(FrameId(before)..).map(|(id, _)| *id));
        }
    }

    /// What of the budget is used up.
    fn spent(&self) -> Option<Spent> {
        self.evaluator.spent(&self.budget, self.events.len())
    }

    /// Keeps whether the run came to rest, where that is not what is known of it.
    fn come_to_rest(&mut self, cut: bool) {
        if self.state.ended.is_some() {
            return;
        }
        if cut {
            self.emit(Event::Unfinished { decisions: self.state.unfinished + 1 });
        } else if self.state.unfinished > 0 {
            self.emit(Event::Rested {});
        }
    }

    fn next_frame(&self) -> FrameId {
        FrameId(self.state.next_frame)
    }

    /// The definition's task. Cloning the `Arc` frees the borrow of the state.
    fn task(&self, index: TaskIndex) -> (Arc<crate::definition::Workflow>, TaskIndex) {
        (self.state.facts().workflow.clone(), index)
    }

    /// What follows at once; what of the budget was used up by that.
    fn react(&mut self, cause: &Cause) -> Option<Spent> {
        match cause {
            Cause::Wake => return self.wake(),
            Cause::GoOn => return self.go_on_deciding(),
            Cause::Resume => {
                if self.state.suspended {
                    self.emit(Event::Resumed { at: self.at });
                    return self.wake();
                }
            }
            cause => self.react_once(cause),
        }
        None
    }

    fn react_once(&mut self, cause: &Cause) {
        match cause {
            Cause::Start => self.start(),
            Cause::Wake | Cause::GoOn | Cause::Resume => {}
            Cause::TooLarge(outgrown) => self.outgrow(*outgrown),
            Cause::Returned { frame, result } => self.returned(*frame, result),
            Cause::Park { frame, reason, why, wrote } => {
                if self.state.call(*frame).is_some_and(|c| c.parked.is_none()) {
                    if self.state.killed {
                        // Nobody waits for an answer.
                        return self.emit(Event::CallStopped { frame: *frame, effect: None });
                    }
                    let (frame, at, reason) = (*frame, self.at, reason.clone().bounded());
                    self.emit(Event::Parked { frame, at, reason, why: *why, wrote: *wrote });
                }
            }
            Cause::Unpark { frame } => {
                if self.state.call(*frame).is_some_and(|c| c.parked.is_some()) {
                    self.emit(Event::Unparked { frame: *frame, at: self.at });
                }
            }
            Cause::Settle { of, done } => self.settle_parked(of.as_ref(), *done),
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
            Cause::Unblock => {
                if self.state.blocked.is_some() {
                    self.emit(Event::Unblocked { at: self.at });
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
            Cause::Redefine => self.redefine(),
            Cause::Undo => self.undo(),
            Cause::Suspend => {
                if !self.state.suspended {
                    self.emit(Event::Suspended { at: self.at });
                }
            }
        }
    }

    /// The decision before ended with its budget: on, unless there have been too many in a row.
    fn go_on_deciding(&mut self) -> Option<Spent> {
        let most = self.budget.decisions_max;
        if self.state.unfinished >= most && self.state.goes_on() {
            self.end_as_too_large(format!(
                "the run decided {} times in a row without waiting for anything or calling anybody, and may {most} \
                 times: have it loop over less, or wait in between",
                self.state.unfinished
            ));
            return None;
        }
        // In the order in which a larger budget would have had it.
        self.settle().or_else(|| self.wake())
    }

    /// The innermost task that has begun, else the next one to begin: where a run is that goes round and round.
    fn busy_with(&self) -> Option<String> {
        let (id, frame) = self.state.frames.last_key_value()?;
        match &frame.body {
            super::frame::Body::Task(task) => Some(task.key.pointer.clone()),
            super::frame::Body::List(list) => {
                let next = *self.state.tasks_of(*id).get(list.position? as usize)?;
                Some(self.state.workflow().task(next).pointer.clone())
            }
        }
    }

    /// The run's records have come to their limit.
    fn outgrow(&mut self, outgrown: Outgrown) {
        if self.state.goes_on() {
            self.end_as_too_large(outgrown.to_string());
        }
    }

    fn end_as_too_large(&mut self, detail: String) {
        let mut fault = faults::run_too_large(detail);
        fault.instance = self.busy_with();
        self.end(Ending::Faulted { fault });
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
                None => super::once::group_of(&workflow, &raw, &self.evaluator),
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
            Returned::Ok { output, effect } => {
                self.complete(frame, Arc::new(output.clone()), None, Some(effect.clone()));
            }
            Returned::Fault(fault) => self.raise(frame, fault.clone(), false),
            Returned::Broken { fault, effect } => self.raise_after(frame, fault.clone(), false, Some(effect.clone())),
        }
    }

    /// Everything that is due, as far as the budget goes.
    fn wake(&mut self) -> Option<Spent> {
        if self.state.suspended || self.state.halted.is_some() || self.state.ended.is_some() {
            return None;
        }
        if self.state.ending.is_some() {
            self.wake_inverse();
            return None;
        }
        if self.state.deadline.is_some_and(|d| d <= self.at) {
            self.emit(Event::TimedOut { at: self.at });
            self.end(Ending::Faulted { fault: faults::of_timeout("the workflow") });
            return None;
        }
        loop {
            // Deadlines before waits: a wait that ends at the very moment of its timeout has timed out.
            let late = self.running().find(|(_, t)| t.deadline.is_some_and(|d| d <= self.at)).map(|(id, _)| id);
            if let Some(frame) = late {
                let pointer = self.state.running(frame).map(|t| t.key.pointer.clone()).unwrap_or_default();
                self.raise(frame, faults::of_timeout(&format!("the task {pointer}")), true);
                match self.settle() {
                    None => continue,
                    spent => return spent,
                }
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
                    self.complete(frame, output, None, None);
                }
                None => return None,
            }
            if let Some(spent) = self.settle() {
                return Some(spent);
            }
            if self.state.ends() {
                return None;
            }
        }
    }

    fn running(&self) -> impl Iterator<Item = (FrameId, &super::frame::Running)> {
        self.state.frames.keys().filter_map(|id| Some((*id, self.state.running(*id)?)))
    }

    /// Goes on until nothing more follows, or the budget is used up.
    fn settle(&mut self) -> Option<Spent> {
        loop {
            if self.state.ended.is_some() {
                return None;
            }
            if let Some(ending) = self.state.ending.clone() {
                if !self.state.stopping.is_empty() {
                    return None;
                }
                match self.roll_back_on() {
                    Progress::Waits => return None,
                    Progress::Moved => {}
                    // What is to be told outlives the run only with whoever tells it.
                    Progress::Over if !self.state.notices.is_empty() => return None,
                    Progress::Over => {
                        self.emit(Event::Ended { at: self.at, ending });
                        return None;
                    }
                }
            } else if self.state.suspended || self.state.halted.is_some() || !self.step() {
                return None;
            }
            if let Some(spent) = self.spent() {
                // What ends with its last step has come to rest all the same.
                return if self.state.ended.is_some() { None } else { Some(spent) };
            }
        }
    }

    /// One step of whatever can go on; false when nothing can.
    fn step(&mut self) -> bool {
        while let Some(id) = self.hot.first().copied() {
            match self.state.frames.get(&id).map(|frame| &frame.body) {
                Some(super::frame::Body::List(list)) if list.child.is_none() => {
                    self.advance(id);
                    return true;
                }
                Some(super::frame::Body::Task(task)) if self.can_go_on(task) => {
                    self.go_on(id);
                    return true;
                }
                _ => {
                    self.hot.remove(&id);
                }
            }
        }
        false
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
    fn complete(&mut self, frame: FrameId, raw_output: Arc<Value>, chosen: Option<Then>, effect: Option<Effect>) {
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
        raw_output: Arc<Value>,
    ) -> Result<(Arc<Value>, Option<Arc<Value>>), Fault> {
        let output = match &task.output.transform {
            None => raw_output,
            Some(template) => {
                let asking = asking(task, running, Some(&raw_output));
                Arc::new(self.evaluate(frame, &Asked::Template(template), asking, &raw_output)?)
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
        Ok((output, context))
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
