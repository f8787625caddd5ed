//! Where an action stands that works in slices: read back when its run is taken up, kept at the end of each slice.

use std::sync::Arc;

use bellhop_core::run::Facts;

use super::scope::Scope;
use crate::execution::{AttemptKey, Error, Execution, Slice};

impl<E: Execution> Scope<E> {
    fn key(&self) -> AttemptKey {
        AttemptKey { execution: self.execution.clone(), attempt: self.attempt }
    }

    /// The state with which the action last asked to be called again, if it did; and how often in a row it has done so
    /// without getting anywhere.
    pub(super) async fn last_slice(&self) -> Result<(Option<Slice>, u64), Error> {
        let (mut last, mut idle) = (None, 0);
        loop {
            let number = last.as_ref().map_or(0, |s: &Slice| s.number + 1);
            let Some(slice) = self.port.slice(&self.key(), number).await? else { return Ok((last, idle)) };
            idle = if slice.goes_on_from(last.as_ref()) { 0 } else { idle + 1 };
            last = Some(slice);
        }
    }

    /// Keeps the end of a slice. After Ok it is durable, and what lies behind it is not read when the run is taken up.
    pub(super) async fn keep_slice(&self, slice: &Slice, facts: &Arc<Facts>) -> Result<(), Error> {
        self.port.keep_slice(&self.key(), slice).await?;
        // A process that dies repeats no more than one slice.
        self.port.settled().await?;
        self.port.leave_behind(&self.execution, self.attempt, slice.first_call, facts).await
    }
}
