//! Whether an event can come next: what it is about is there, and stands so that this can happen to it.

use super::event::{Block, Event, FrameId};
use super::frame::{Body, Phase};
use super::state::State;
use crate::definition::{TaskIndex, TaskKind};

impl State {
    /// Whether the event fits. One that [`super::decide`] made of this state always does; another may be read from a log
    /// that is damaged, or that another program wrote.
    pub(super) fn fits(&self, event: &Event) -> bool {
        match event {
            Event::Started { .. } => self.started_at.is_none() && self.frames.is_empty(),
            Event::TaskEntered { frame, parent, task, .. } => {
                self.is_new(*frame)
                    && self.has_child(*parent, *task)
                    && self.list(*parent).is_none_or(|l| l.child.is_none())
            }
            Event::TaskSkipped { parent, task } | Event::Tolerated { parent, task, .. } => {
                self.has_child(*parent, *task)
            }
            Event::BlockEntered { frame, parent, block } => {
                self.is_new(*frame)
                    && match (block, self.phase(*parent)) {
                        (Block::Do | Block::Try, Some(Phase::Entered)) => true,
                        (Block::Try | Block::Catch, Some(Phase::Trying(_))) => true,
                        (Block::Do | Block::Try | Block::Catch, _) => false,
                    }
            }
            Event::LoopEntered { frame, .. }
            | Event::ForkEntered { frame }
            | Event::CallScheduled { frame, .. }
            | Event::WaitScheduled { frame, .. } => matches!(self.phase(*frame), Some(Phase::Entered)),
            Event::IterationEntered { frame, parent, index } => {
                self.is_new(*frame)
                    && matches!(self.phase(*parent), Some(Phase::Looping(l)) if (*index as usize) < l.items.len())
                    && self.running(*parent).is_some_and(|r| self.is_kind(r.task, |k| matches!(k, TaskKind::For(_))))
            }
            Event::IterationEnded { frame, index, .. } => {
                matches!(self.phase(*frame), Some(Phase::Looping(l)) if l.open.contains_key(index))
            }
            Event::ContextMerged { frame, .. } => self.frames.contains_key(frame),
            Event::TaskCompleted { frame, .. } | Event::TaskFaulted { frame, .. } => self.running(*frame).is_some(),
            Event::Caught { frame, .. } | Event::RetryScheduled { frame, .. } => {
                matches!(self.phase(*frame), Some(Phase::Trying(_)))
            }
            Event::Retried { frame, .. } => {
                matches!(self.phase(*frame), Some(Phase::Trying(trying)) if trying.backoff.is_some())
            }
            Event::Parked { frame, .. } | Event::Unparked { frame, .. } | Event::CallRetried { frame, .. } => {
                self.call(*frame).is_some()
            }
            Event::CallStopped { frame, .. } => self.stopping.contains_key(frame),
            Event::Suspended { .. } => !self.suspended,
            Event::Resumed { .. } => self.suspended,
            Event::RollbackBegun { .. } => self.rollback.is_some(),
            Event::UndoRetryScheduled { .. } => self.undoing().is_some(),
            Event::UndoScheduled { entry, .. }
            | Event::Settled { entry, .. }
            | Event::RollbackIncomplete { entry, .. } => (*entry as usize) < self.ledger.len(),
            Event::Killed { .. } => !self.killed,
            Event::Blocked { .. } => self.started_at.is_none() && self.blocked.is_none(),
            Event::Unblocked { .. } => self.blocked.is_some(),
            Event::Queued { .. } => self.started_at.is_none(),
            Event::Admitted { .. } => self.place.is_some(),
            Event::NoticeDue { notice } => notice.number >= self.notices_made,
            Event::Noticed { number } => self.notices.contains_key(number),
            Event::Halted { .. } | Event::Ended { .. } => self.ended.is_none(),
            Event::TimedOut { .. }
            | Event::Redefined { .. }
            | Event::Reopened { .. }
            | Event::Ending { .. }
            | Event::Displaced { .. }
            | Event::Unfinished { .. }
            | Event::Rested {} => true,
        }
    }

    fn is_new(&self, frame: FrameId) -> bool {
        frame.0 >= self.next_frame
    }

    fn phase(&self, frame: FrameId) -> Option<&Phase> {
        self.running(frame).map(|running| &running.phase)
    }

    fn is_kind(&self, task: TaskIndex, is: impl FnOnce(&TaskKind) -> bool) -> bool {
        self.workflow().tasks.get(task.0 as usize).is_some_and(|task| is(&task.kind))
    }

    /// Whether `task` is one that comes below `parent`: of its list, or a branch of its fork.
    fn has_child(&self, parent: FrameId, task: TaskIndex) -> bool {
        match self.frames.get(&parent).map(|found| &found.body) {
            Some(Body::List(_)) => self.tasks_of(parent).contains(&task),
            Some(Body::Task(fork)) => {
                matches!(fork.phase, Phase::Forking(_))
                    && self.is_kind(
                        fork.task,
                        |kind| matches!(kind, TaskKind::Fork { branches, .. } if branches.contains(&task)),
                    )
            }
            None => false,
        }
    }
}
