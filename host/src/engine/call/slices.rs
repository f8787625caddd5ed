//! Where an action stands that works in slices: read back when its run is taken up, kept at the end of each slice.

use super::Attempt;
use super::effects::Stopped;
use crate::engine::driver::CallEnd;
use crate::engine::execution::{AttemptKey, Execution, Slice};

impl<E: Execution> Attempt<E> {
    fn key(&self) -> AttemptKey {
        AttemptKey { execution: self.call.key.clone(), attempt: self.call.attempt }
    }

    /// The state with which the action last asked to be called again, if it did; and how often in a row it has done so
    /// without getting anywhere.
    pub(super) async fn last_slice(&self) -> Result<(Option<Slice>, u64), CallEnd> {
        let (mut last, mut idle) = (None, 0);
        loop {
            let number = last.as_ref().map_or(0, |s: &Slice| s.number + 1);
            match self.port.slice(&self.key(), number).await {
                Ok(Some(slice)) => {
                    idle = if slice.goes_on_from(last.as_ref()) { 0 } else { idle + 1 };
                    last = Some(slice);
                }
                Ok(None) => return Ok((last, idle)),
                Err(error) => return Err(self.stopped(Stopped::Failed(error))),
            }
        }
    }

    /// Keeps the end of a slice. After Ok it is durable, and what lies behind it is not read when the run is taken up.
    pub(super) async fn keep_slice(&self, slice: &Slice) -> Result<(), CallEnd> {
        let kept = async {
            self.port.keep_slice(&self.key(), slice).await?;
            // A process that dies repeats no more than one slice.
            self.port.settled().await
        };
        kept.await
            .and_then(|()| self.port.leave_behind(&self.call.key, self.call.attempt, slice.first_call, &self.facts))
            .map_err(|error| self.stopped(Stopped::Failed(error)))
    }
}
