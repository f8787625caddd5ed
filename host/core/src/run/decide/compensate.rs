//! The call of the file's own that takes back a change: made ready when the task has ended, so that nothing is evaluated
//! when it is made.

use serde_json::Value;

use super::{Decider, asking};
use crate::definition::{Compensate, Task};
use crate::fault::Fault;
use crate::run::arguments::Asked;
use crate::run::event::{Effect, FrameId, Undo};
use crate::run::frame::Running;

impl Decider<'_> {
    /// Puts into the effect the call that takes it back. One that cannot be told is the task's fault: nothing is to be built on what nobody can take back.
    pub(super) fn compensate(
        &self,
        frame: FrameId,
        task: &Task,
        running: &Running,
        answer: &Value,
        effect: &mut Effect,
    ) -> Result<(), Fault> {
        let Some(Compensate::Call(call)) = &task.extras.compensate else { return Ok(()) };
        effect.undo = None;
        if !effect.changed {
            return Ok(());
        }
        let seen = asking(task, running, Some(answer));
        let connection = match &call.connection {
            None => None,
            Some(text) => Some(self.connection_of(&self.evaluate(frame, &Asked::Text(text), seen, answer)?)?),
        };
        let input = self.evaluate(frame, &Asked::Template(&call.arguments), seen, answer)?;
        if let Some(action) = self.state.facts().actions.get(&call.reference) {
            self.check_input(&call.reference, action, &input)?;
        }
        effect.undo = Some(Undo { action: call.reference.to_string(), input, connection });
        Ok(())
    }

    /// Of a call whose task is gone nobody can tell the arguments of the compensating call: they are made of what the
    /// task saw.
    pub(super) fn forget_compensation(&self, frame: FrameId, effect: &mut Option<Effect>) {
        let (Some(effect), Some(call)) = (effect, self.state.call(frame)) else { return };
        let own = |task: &Task| matches!(task.extras.compensate, Some(Compensate::Call(_)));
        if self.state.task_at(&call.key.pointer).is_some_and(own) {
            effect.undo = None;
        }
    }
}
