//! What happens to a run, for the core.

use std::sync::Arc;

use serde_json::Value;

use crate::fault::Fault;
use crate::id::RunId;
use crate::run::Outgrown;
use crate::run::event::{Effect, FrameId, Why};
use crate::run::key::ExecutionKey;

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
    /// The decision before ended with its budget.
    GoOn,
    /// The run's records, with what ending it needs, have come to their limit.
    TooLarge(Outgrown),
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
    /// As [`Cause::Unpark`] for every parked call, or the one of this execution; and what could not be taken back is taken
    /// for undone, or left.
    Settle {
        /// Which. Of a change that could not be taken back, the execution of its inverse.
        of: Option<ExecutionKey>,
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
    Redefine,
    /// Somebody wants what an ended run changed taken back.
    Undo,
    /// In the place of [`Cause::Start`]: preflight refused the run, and it was accepted all the same.
    Block {
        /// What preflight said.
        diagnostics: Arc<Value>,
    },
    /// Preflight lets a blocked run begin. The state's facts have been replaced before.
    Unblock,
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
