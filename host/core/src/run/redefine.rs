//! Whether a run can go on on another definition: held against what is recorded, before anything is decided on it.
//!
//! The other definition fits if it would have decided what was decided. Events name tasks by their position, so what was
//! entered has to stand where it stood; what was decided there followed from the task, so that has to be the same. The
//! task that failed is not over and may be another; what comes after it may be anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Facts;
use super::event::{Event, FrameId};
use super::state::State;
use crate::definition::{Task, TaskIndex, TaskKind, Workflow};
use crate::time::Timestamp;

/// The first thing that the other definition would have decided otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// JSON pointer in the definition that the run is on: of a task, or of what the workflow began with.
    pub pointer: String,
    /// What is the matter with it, in words that follow its name.
    pub what: &'static str,
}

/// What is recorded of a run, read once more with another definition.
#[derive(Debug)]
pub struct Replay {
    before: Arc<Workflow>,
    state: State,
    entered: BTreeMap<FrameId, TaskIndex>,
    /// Tasks of which something was decided that the run went on with.
    decided: BTreeSet<TaskIndex>,
    /// Of these, what is inside was decided as well, to its end.
    whole: BTreeSet<TaskIndex>,
    /// Tasks whose fault is still on its way up.
    faulted: Vec<TaskIndex>,
}

impl Replay {
    /// Nothing is read yet. `facts` are those of the other definition, `before` is the one that the run is on.
    ///
    /// # Errors
    /// What the workflow begins with differs: its input, its time, its group.
    pub fn new(facts: Arc<Facts>, before: Arc<Workflow>) -> Result<Self, Difference> {
        let after = &facts.workflow;
        let group = "/document/metadata/bellhop/concurrency";
        let secret = "/document/metadata/bellhop/sensitive";
        let kept = before.extras.sensitive.iter().all(|pointer| after.extras.sensitive.contains(pointer));
        for (pointer, same) in [
            ("/input", format!("{:?}", before.input) == format!("{:?}", after.input)),
            ("/timeout", before.timeout == after.timeout),
            (group, before.extras.concurrency == after.extras.concurrency),
            // What nobody is shown stays unseen.
            (secret, kept),
        ] {
            if !same {
                let what = "was decided when the run began, and is another now";
                return Err(Difference { pointer: pointer.to_owned(), what });
            }
        }
        Ok(Self {
            before,
            state: State::new(facts),
            entered: BTreeMap::new(),
            decided: BTreeSet::new(),
            whole: BTreeSet::new(),
            faulted: Vec::new(),
        })
    }

    /// Reads the next event.
    ///
    /// # Errors
    /// It is about a task that does not stand there any more.
    pub fn read(&mut self, event: &Event) -> Result<(), Difference> {
        match event {
            Event::TaskEntered { frame, task, .. } => {
                self.there(*task)?;
                self.entered.insert(*frame, *task);
            }
            Event::TaskSkipped { task, .. } => {
                self.there(*task)?;
                self.decided.insert(*task);
            }
            Event::TaskCompleted { frame, .. } => {
                self.whole.extend(self.entered.get(frame));
            }
            Event::TaskFaulted { frame, .. } => self.faulted.extend(self.entered.get(frame)),
            // The run went on with the fault.
            Event::Caught { .. } => self.decided.extend(self.faulted.drain(..)),
            Event::Tolerated { task, .. } => {
                self.decided.extend(self.faulted.drain(..));
                self.decided.insert(*task);
            }
            Event::IterationEnded { frame, .. } => {
                // What was gone through once is gone through like that each time.
                self.whole.extend(self.entered.get(frame));
                self.decided.extend(self.faulted.drain(..));
            }
            // The run went on without it.
            Event::RetryScheduled { .. } | Event::Reopened { .. } | Event::Redefined { .. } => self.faulted.clear(),
            _ => {}
        }
        // What was inside the task that failed may not fit the other one: `finish` looks at where the run stands.
        let _fits = self.state.apply(event);
        Ok(())
    }

    /// The state of the run on the other definition, after everything was read. `on` is its state on the one before.
    ///
    /// # Errors
    /// A task that the run has been through, or is in the middle of, is not what it was.
    pub fn finish(self, on: &State) -> Result<State, Difference> {
        // The tree as it will stand when the run goes on, read both ways.
        let goes_on = |state: &State| {
            let mut state = state.clone();
            let at = Timestamp::from_millis(0);
            let reopens = state.can_reopen();
            let _fits = state.apply(&Event::Redefined { at });
            if reopens {
                let _fits = state.apply(&Event::Reopened { at });
            }
            state
        };
        let (before, after) = (goes_on(on), goes_on(&self.state));
        let parts: BTreeSet<TaskIndex> =
            self.decided.iter().chain(&self.whole).copied().chain(before.under_way()).collect();
        for index in parts {
            self.same(index)?;
        }
        if before != after {
            let failed = before.under_way().last().or_else(|| self.entered.values().next_back().copied());
            let pointer = failed.map(|index| self.before.task(index).pointer.clone()).unwrap_or_default();
            return Err(Difference { pointer, what: "does not lead to where the run stands" });
        }
        Ok(self.state)
    }

    fn there(&self, index: TaskIndex) -> Result<(), Difference> {
        if self.state.workflow().tasks.get(index.0 as usize).is_some() {
            return Ok(());
        }
        let pointer = self.before.task(index).pointer.clone();
        Err(Difference { pointer, what: "does not stand where it stood when the run came to it" })
    }

    fn same(&self, index: TaskIndex) -> Result<(), Difference> {
        let (before, after) = (self.before.task(index), self.state.workflow().task(index));
        let differs = |what: &'static str| Err(Difference { pointer: before.pointer.clone(), what });
        if before.pointer != after.pointer {
            return differs("does not stand where it stood when the run came to it");
        }
        if own(before) != own(after) {
            return differs("is not what it was when the run came to it");
        }
        if !self.whole.contains(&index) {
            return Ok(());
        }
        let inside = |workflow: &Workflow| -> Vec<String> {
            let within = |task: &&Task| {
                let mut at = Some(*task);
                while let Some(parent) = at.and_then(|task| task.parent) {
                    if parent == index {
                        return true;
                    }
                    at = Some(workflow.task(parent));
                }
                false
            };
            workflow.tasks.iter().skip(index.0 as usize).filter(within).map(|task| format!("{task:?}")).collect()
        };
        let (was, is) = (inside(&self.before), inside(self.state.workflow()));
        if was == is { Ok(()) } else { differs("has other tasks inside than when the run went through it") }
    }
}

/// Everything that a task says but the tasks inside it.
fn own(task: &Task) -> String {
    let mut task = task.clone();
    let mut branches = 0;
    match &mut task.kind {
        TaskKind::Do(tasks) => tasks.clear(),
        TaskKind::For(each) => each.tasks.clear(),
        TaskKind::Fork { branches: tasks, .. } => {
            branches = tasks.len();
            tasks.clear();
        }
        TaskKind::Try(attempt) => {
            attempt.tasks.clear();
            attempt.handler.clear();
        }
        TaskKind::Call(_) | TaskKind::Set(_) | TaskKind::Switch(_) | TaskKind::Wait(_) | TaskKind::Raise(_) => {}
    }
    format!("{branches} {task:?}")
}
