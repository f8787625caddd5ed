//! The fold of what a person asks for: a failed task once more, what was changed taken back, an end at once.

use std::collections::BTreeSet;

use super::event::{Ending, FrameId, Why};
use super::frame::{Body, Calling, Phase, Running};
use super::state::{Failed, Rollback, Stands, State, Undoing};
use crate::definition::TaskIndex;
use crate::fault::Fault;
use crate::time::Timestamp;

impl State {
    /// Keeps the tree as it is now, unless a fault that is still on its way up did so already.
    pub(super) fn remember_failed(&mut self, frame: Option<FrameId>, at: Timestamp) {
        if self.failed.is_none() {
            let (frames, context) = (self.frames.clone(), self.context.clone());
            self.failed = Some(Box::new(Failed { at, frames, context, frame }));
        }
    }

    /// Whether the run has a failed task to go on from, and nothing of what it did was taken back.
    #[must_use]
    pub fn can_reopen(&self) -> bool {
        let stands = self.halted.is_some() || matches!(self.ended, Some((_, Ending::Faulted { .. })));
        stands
            && self.failed.is_some()
            && self.stopping.is_empty()
            && self.rollback.is_none()
            && self.ledger.iter().all(|entry| entry.fate.is_none())
    }

    /// Whether the run can go on from its failed or parked tasks on another definition: nothing of it is under way,
    /// ends or is in doubt.
    #[must_use]
    pub fn can_redefine(&self) -> bool {
        if self.can_reopen() {
            return true;
        }
        let open = self.ended.is_none() && self.ending.is_none() && self.halted.is_none() && self.rollback.is_none();
        let rests = |call: &Calling| call.parked.is_some() && call.why != Why::Doubt;
        open && self.calls().next().is_some() && self.calls().all(|(_, call)| rests(call)) && self.stopping.is_empty()
    }

    /// Tasks whose call is parked are entered anew: what they do is another definition's now.
    pub(super) fn redefine(&mut self) {
        let parked: Vec<FrameId> = self.calls().filter(|(_, call)| call.parked.is_some()).map(|(id, _)| id).collect();
        if self.failed.is_some() || parked.is_empty() {
            return;
        }
        self.retried += 1;
        for frame in parked {
            self.step_back(frame);
        }
    }

    /// The tasks that have begun and not ended.
    pub(super) fn under_way(&self) -> impl Iterator<Item = TaskIndex> {
        self.frames.values().filter_map(|frame| match &frame.body {
            Body::Task(task) => Some(task.task),
            Body::List(_) => None,
        })
    }

    /// The tree stands again as it was before the failed task began.
    pub(super) fn reopen(&mut self, at: Timestamp) {
        let Some(failed) = self.failed.take() else { return };
        let Failed { at: failed_at, frames, context, frame } = *failed;
        (self.frames, self.context) = (frames, context);
        (self.ended, self.ending, self.halted) = (None, None, None);
        self.retried += 1;
        // The time that the run stood still is nobody's; a span that was over is given anew.
        let stood = at.millis_since(failed_at);
        let renewed = |deadline: Timestamp, since: Timestamp| {
            if deadline <= failed_at {
                at.plus_millis(deadline.millis_since(since))
            } else {
                deadline.plus_millis(stood)
            }
        };
        self.deadline = self.deadline.map(|d| renewed(d, self.started_at.unwrap_or(failed_at)));
        for frame in self.frames.values_mut() {
            if let Body::Task(task) = &mut frame.body {
                task.deadline = task.deadline.map(|d| renewed(d, task.started_at));
                if let Phase::Trying(trying) = &mut task.phase {
                    // How long and how often a `retry` may go on is given anew as well.
                    (trying.since, trying.retries) = (at, 0);
                }
            }
        }
        if let Some(frame) = frame {
            self.step_back(frame);
        }
        // What ran beside it was stopped, and is made again as well.
        let calling: Vec<FrameId> = self.calls().map(|(frame, _)| frame).collect();
        for frame in calling {
            self.renew_call(frame);
        }
    }

    /// Undoes the entering of a task: its list enters it again, under the same key.
    fn step_back(&mut self, frame: FrameId) {
        let mut gone = BTreeSet::from([frame]);
        // Children have higher numbers than their parents.
        for (id, found) in &self.frames {
            if found.parent.is_some_and(|parent| gone.contains(&parent)) {
                gone.insert(*id);
            }
        }
        // What is entered anew under its key began when it was entered first.
        let calls = self.calls().filter(|(id, _)| gone.contains(id));
        let starts: Vec<_> = calls.map(|(_, call)| (call.key.to_string(), call.started_at)).collect();
        self.starts.extend(starts);
        let parent = self.frames.get(&frame).and_then(|f| f.parent);
        let branch = self.running(frame).and_then(|task| task.branch);
        self.frames.retain(|id, _| !gone.contains(id));
        let Some(parent) = parent else { return };
        if let Some(branch) = branch {
            self.close_branch(parent, branch);
        }
        self.with_list(parent, |list| {
            list.child = None;
            if let Some(entered) = list.position.and_then(|position| list.entered.get_mut(&position)) {
                *entered = entered.saturating_sub(1);
            }
        });
    }

    /// A parked call in a new attempt. How long it waited for a person is no part of what a `retry` around it may take.
    pub(super) fn retry_call(&mut self, frame: FrameId, at: Timestamp) {
        self.retried += 1;
        self.renew_call(frame);
        let mut around = Some(frame);
        while let Some(id) = around {
            self.with_task(id, |task| {
                if let Phase::Trying(trying) = &mut task.phase {
                    trying.since = at;
                }
            });
            around = self.frames.get(&id).and_then(|found| found.parent);
        }
    }

    /// When the execution of the task at `frame` began, for an attempt at it that begins now; what later attempts at it
    /// are to have is kept with the outermost `try` around it.
    pub(super) fn start_of(&mut self, frame: FrameId) -> Option<Timestamp> {
        let running = self.running(frame)?;
        let (key, entered_at) = (running.key.to_string(), running.started_at);
        let mut start = self.starts.remove(&key).unwrap_or(entered_at);
        let (mut outermost, mut around) = (None, Some(frame));
        while let Some(id) = around {
            if let Some(Running { phase: Phase::Trying(_), .. }) = self.running(id) {
                outermost = Some(id);
            }
            around = self.frames.get(&id).and_then(|found| found.parent);
        }
        let Some(outermost) = outermost else { return Some(start) };
        self.with_task(outermost, |task| {
            if let Phase::Trying(trying) = &mut task.phase {
                match trying.starts.get(&key) {
                    Some(first) => start = *first,
                    None => trying.starts.insert_mut(key, start),
                }
            }
        });
        Some(start)
    }

    fn renew_call(&mut self, frame: FrameId) {
        let attempt = self.next_attempt(frame);
        if let Some(call) = self.call(frame).cloned() {
            self.record_partway(&call);
        }
        self.with_task(frame, |task| {
            if let Phase::Calling(call) = &mut task.phase {
                call.attempt = attempt;
                call.parked = None;
                call.why = Why::default();
                call.wrote = false;
            }
        });
    }

    /// The number of an attempt that begins now: no execution has had it before.
    pub(super) fn next_attempt(&self, frame: FrameId) -> u32 {
        self.retried.saturating_add(self.retries_around(frame)).saturating_add(1)
    }

    pub(super) fn inverse_call_mut(&mut self, frame: FrameId) -> Option<&mut Calling> {
        let (of, call) = self.rollback.as_mut()?.current.as_mut()?.call.as_mut()?;
        (*of == frame).then_some(call)
    }

    pub(super) fn call_inverse(&mut self, frame: FrameId, entry: u32, call: Calling) {
        self.next_frame = self.next_frame.max(frame.0 + 1);
        if let Some(entry) = self.ledger.get_mut(entry as usize) {
            entry.attempts = call.attempt;
        }
        let tries = match self.undoing() {
            Some(Undoing { stands: Stands::Until(_), tries, .. }) => tries + 1,
            _ => 1,
        };
        let undoing = Undoing { entry, call: Some((frame, call)), tries, stands: Stands::Calling };
        self.rollback.get_or_insert_default().current = Some(undoing);
    }

    pub(super) fn inverse_stands(&mut self, stands: impl FnOnce(&Undoing) -> Stands) {
        if let Some(undoing) = self.rollback.as_mut().and_then(|r| r.current.as_mut()) {
            undoing.stands = stands(undoing);
        }
    }

    pub(super) fn leave_incomplete(&mut self, entry: u32, reason: &Fault) {
        let rollback = self.rollback.get_or_insert_default();
        let stands = Stands::Incomplete(Box::new(reason.clone()));
        match &mut rollback.current {
            Some(undoing) => undoing.stands = stands,
            none => *none = Some(Undoing { entry, call: None, tries: 0, stands }),
        }
    }

    pub(super) fn kill(&mut self) {
        self.killed = true;
        self.ending = Some(Ending::Cancelled);
        self.halted = None;
        self.failed = None;
        self.clear();
        if let Some(Rollback {
            current: Some(Undoing { call: Some((frame, call)), stands: Stands::Calling, .. }),
            ..
        }) = self.rollback.take()
        {
            self.stopping.insert(frame, call);
        }
        let parked: Vec<Calling> = self.stopping.values().filter(|call| call.parked.is_some()).cloned().collect();
        for call in &parked {
            self.record_partway(call);
        }
        self.stopping.retain(|_, call| call.parked.is_none());
    }
}
