//! Where an action stands that works in slices: read back when its run is taken up, kept at the end of each slice.

use super::Attempt;
use super::effects::Stopped;
use crate::engine::driver::CallEnd;
use crate::engine::execution::{CallKey, End, Execution, Slice, StepKey};

impl<E: Execution> Attempt<E> {
    fn slice_key(&self, number: u32) -> StepKey {
        StepKey::Slice(CallKey { execution: self.call.key.clone(), attempt: self.call.attempt, ordinal: number })
    }

    /// The state with which the action last asked to be called again, if it did; and how often in a row it has done so
    /// without getting anywhere.
    pub(super) async fn last_slice(&self) -> Result<(Option<Slice>, u64), CallEnd> {
        let (mut last, mut idle) = (None, 0);
        loop {
            let number = last.as_ref().map_or(0, |s: &Slice| s.number + 1);
            let kept = self.port.step::<Slice, _, _>(&self.slice_key(number), None, |_| async { End::Stopped }).await;
            match kept {
                Ok(End::Done(slice)) => {
                    let slice = Slice { number, ..slice };
                    idle = if slice.goes_on_from(last.as_ref()) { 0 } else { idle + 1 };
                    last = Some(slice);
                }
                Ok(_) => return Ok((last, idle)),
                Err(error) => return Err(self.stopped(Stopped::Failed(error))),
            }
        }
    }

    /// Keeps the end of a slice. After Ok it is durable, and what lies behind it is not read when the run is taken up.
    pub(super) async fn keep_slice(&self, slice: &Slice) -> Result<(), CallEnd> {
        let kept = slice.clone();
        let kept = self.port.step(&self.slice_key(slice.number), None, |_| async move { End::Done(kept) }).await;
        // A process that dies repeats no more than one slice.
        let settled = match kept {
            Ok(_) => self.port.settled().await,
            Err(error) => Err(error),
        };
        settled
            .and_then(|()| self.port.leave_behind(&self.call.key, self.call.attempt, slice.first_call, &self.facts))
            .map_err(|error| self.stopped(Stopped::Failed(error)))
    }
}
