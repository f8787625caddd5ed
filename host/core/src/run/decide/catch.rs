//! Faults go up until something takes them.

use serde_json::Value;

use super::enter::truth;
use super::{Decider, asking, located};
use crate::backoff;
use crate::definition::{Backoff, Retry, TaskKind, Try};
use crate::fault::{Class, Fault};
use crate::run::arguments::Asked;
use crate::run::event::{Block, Effect, Ending, Event, FrameId};
use crate::run::frame::{Body, Phase, Role, Running, Trying};
use crate::time::Timestamp;

impl Decider<'_> {
    /// The task at `frame` ends with `fault`; `stopping` when its call is still under way.
    pub(super) fn raise(&mut self, frame: FrameId, fault: Fault, stopping: bool) {
        self.raise_after(frame, fault, stopping, None);
    }

    /// As [`Self::raise`], after the task's action had changed something.
    pub(super) fn raise_after(&mut self, frame: FrameId, fault: Fault, stopping: bool, effect: Option<Effect>) {
        let Some(running) = self.state.running(frame).cloned() else { return };
        let fault = {
            let (workflow, index) = self.task(running.task);
            located(fault.bounded(), workflow.task(index))
        };
        let parent = self.state.frames.get(&frame).and_then(|f| f.parent);
        self.emit(Event::TaskFaulted { frame, at: self.at, fault: fault.clone(), stopping, effect });
        self.unwind(parent, &running, fault);
    }

    /// What becomes of the fault of a task that is gone, in the list, fork or loop at `parent`.
    pub(super) fn unwind(&mut self, parent: Option<FrameId>, gone: &Running, fault: Fault) {
        let (workflow, index) = self.task(gone.task);
        let (Some(parent), false) = (parent, self.state.ended.is_some()) else { return };
        if workflow.task(index).extras.best_effort {
            return self.emit(Event::Tolerated { parent, task: gone.task, fault, at: Some(self.at) });
        }
        let Some(around) = self.state.frames.get(&parent) else { return };
        let (role, owner) = match &around.body {
            // A fork: its branch has failed, and so has it.
            Body::Task(_) => return self.raise(parent, fault, false),
            Body::List(list) => (list.role, around.parent),
        };
        let Some(owner) = owner else { return self.end(Ending::Faulted { fault }) };
        match role {
            Role::Root => self.end(Ending::Faulted { fault }),
            Role::Iteration(index) => {
                let collects = self.state.running(owner).is_some_and(|r| {
                    self.state.is_parallel(r.task) && self.state.workflow().task(r.task).extras.collect
                });
                if collects {
                    self.emit(Event::IterationEnded { frame: owner, index, fault: Some(fault) });
                } else {
                    self.raise(owner, fault, false);
                }
            }
            Role::Block(Block::Try) => self.offer(owner, fault),
            Role::Block(Block::Do | Block::Catch) => self.raise(owner, fault, false),
        }
    }

    /// A fault reached a `try`.
    fn offer(&mut self, frame: FrameId, fault: Fault) {
        let Some(running) = self.state.running(frame).cloned() else { return };
        let (workflow, index) = self.task(running.task);
        let task = workflow.task(index);
        let (TaskKind::Try(definition), Phase::Trying(trying)) = (&task.kind, &running.phase) else { return };
        match self.answer(frame, definition, trying, &running, &fault) {
            Ok(Answer::Pass) => self.raise(frame, fault, false),
            Ok(Answer::Handle) => {
                self.emit(Event::Caught { frame, fault });
                if definition.handler.is_empty() {
                    self.complete(frame, running.input, None, None);
                }
            }
            Ok(Answer::Retry(until)) => {
                self.emit(Event::RetryScheduled { frame, fault, until });
                if until <= self.at {
                    self.emit(Event::Retried { frame, at: self.at });
                }
            }
            Err(fault) => self.raise(frame, fault, false),
        }
    }

    fn answer(
        &self,
        frame: FrameId,
        definition: &Try,
        trying: &Trying,
        running: &Running,
        fault: &Fault,
    ) -> Result<Answer, Fault> {
        let (workflow, index) = self.task(running.task);
        let task = workflow.task(index);
        let error = serde_json::to_value(fault).unwrap_or(Value::Null);
        let seen = asking(task, running, None);
        for (field, wanted) in &definition.filter {
            let wanted = self.evaluate(frame, &Asked::Template(wanted), seen, &running.input)?;
            if error.get(field) != Some(&wanted) {
                return Ok(Answer::Pass);
            }
        }
        let holds = |text: &Option<crate::expression::Text>, unless_said: bool| match text {
            None => Ok(unless_said),
            Some(text) => {
                let variables = [(definition.variable.as_str(), &error)];
                let value = self.evaluate_with(frame, &Asked::Text(text), &variables, seen, &running.input)?;
                truth(&value, &text.pointer)
            }
        };
        if !holds(&definition.when, true)? || holds(&definition.except_when, false)? {
            return Ok(Answer::Pass);
        }
        let handle =
            if definition.handler.is_empty() && definition.retry.is_some() { Answer::Pass } else { Answer::Handle };
        let Some(retry) = &definition.retry else { return Ok(handle) };
        if !holds(&retry.when, true)? || holds(&retry.except_when, false)? {
            return Ok(handle);
        }
        let conditions = [&definition.when, &definition.except_when, &retry.when, &retry.except_when];
        let takes_anything = definition.filter.is_empty() && conditions.iter().all(|condition| condition.is_none());
        if takes_anything && matches!(fault.class, Some(Class::Fatal | Class::Denied)) {
            // The action itself says that the same fails again, and the file does not say that it knows better.
            return Ok(handle);
        }
        if retry.attempts_max.is_some_and(|max| trying.retries >= max) {
            return Ok(handle);
        }
        let backoff = self.backoff(frame, retry, trying.retries, running)?;
        let delay = backoff.max(fault.retry_after_ms.unwrap_or(0));
        let until = self.at.plus_millis(delay);
        if let Some(limit) = &retry.duration {
            let limit = self.delay_until(limit, Some((frame, seen)), &running.input)?.millis_since(self.at);
            if until.millis_since(trying.since) > limit {
                return Ok(handle);
            }
        }
        Ok(Answer::Retry(until))
    }

    /// Milliseconds before the next attempt, after `retries` of them.
    fn backoff(&self, frame: FrameId, retry: &Retry, retries: u32, running: &Running) -> Result<u64, Fault> {
        let (workflow, index) = self.task(running.task);
        let seen = asking(workflow.task(index), running, None);
        let millis = |delay: &crate::definition::Delay| -> Result<u64, Fault> {
            Ok(self.delay_until(delay, Some((frame, seen)), &running.input)?.millis_since(self.at))
        };
        let base = millis(&retry.delay)?;
        let delay = match retry.backoff {
            Backoff::Constant => base,
            Backoff::Linear => base.saturating_mul(u64::from(retries) + 1),
            Backoff::Exponential => backoff::doubled(base, u64::from(retries)),
        };
        let jitter = match &retry.jitter {
            None => 0,
            Some((from, to)) => {
                let (from, to) = (millis(from)?, millis(to)?);
                from.saturating_add(if to > from { self.entropy % (to - from).saturating_add(1) } else { 0 })
            }
        };
        Ok(delay.saturating_add(jitter))
    }
}

enum Answer {
    Pass,
    Handle,
    Retry(Timestamp),
}
