//! What happened in a run, in the order in which it was decided. Folding these is all that recovery is.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::notice::Notice;
use super::place::Group;
use crate::definition::{ActionReference, TaskIndex, Then};
use crate::fault::Fault;
use crate::id::RunId;
use crate::time::Timestamp;

/// A place in the tree of what is being executed; unique in a run, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FrameId(pub u32);

/// Which list of a task is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Block {
    /// `do`.
    Do,
    /// `try`.
    Try,
    /// `catch.do`.
    Catch,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "as")]
#[expect(
    clippy::large_enum_variant,
    reason = "one to a run, at its end; a box would be one more thing to read through"
)]
pub enum Ending {
    /// With this output.
    Completed {
        /// The workflow's output.
        output: Arc<Value>,
    },
    /// With this fault.
    Faulted {
        /// The fault.
        fault: Fault,
    },
    /// Because somebody asked for it.
    Cancelled,
}

/// What an action did, as it said itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// Whether anything is different now.
    pub changed: bool,
    /// The action that takes it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<Undo>,
    /// How much of it is known.
    #[serde(default, skip_serializing_if = "Account::is_whole")]
    pub account: Account,
    /// Whether any write of this attempt was answered from an earlier attempt's success: the change is the one that
    /// the earlier attempt has in the ledger.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reused: bool,
}

/// How much is known of what an action did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Account {
    /// The action came to its end and said everything.
    #[default]
    Whole,
    /// It was stopped, or failed, after it had changed something: nobody said how to take that back.
    Partial,
    /// It found its work done, and an earlier sending of the same request, whose answer is not known, may have been
    /// what did it.
    Doubtful,
}

impl Account {
    /// The one that is not written down.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
    fn is_whole(&self) -> bool {
        *self == Self::Whole
    }
}

/// See [`Effect::undo`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Undo {
    /// An action of the same plugin; of a task with `compensate`, what stands there.
    pub action: String,
    /// Its input.
    pub input: Value,
    /// The name of the connection, where it is not the one of the call that it takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<String>,
}

/// Why a call waits for a person. What a person's order does to it hangs on this, and never on the text of the fault
/// beside it, which is partly an action's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// A request was sent, and nobody can tell whether it was carried out. The call goes on in its attempt, which finds
    /// that out first, and a run with such a call goes on on no other definition.
    Doubt,
    /// The action asked for a person.
    Asked,
    /// What it needs was not there: its plugin, or Slack.
    Unavailable,
    /// Its connection is not there, or leads elsewhere than it did. Nothing of the call has failed: once the connection is
    /// as it was, the call goes on in its attempt, which finds out first what became of what it had sent.
    Connection,
    /// Its plugin did not repeat itself.
    Nondeterministic,
    /// It computed too long, again and again.
    Timeout,
    /// An earlier attempt carried out something else in the place of what this one wants.
    Differs,
    /// Nothing that anything hangs on.
    #[default]
    Other,
}

impl Why {
    /// The one that is not written down.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
    pub(super) fn is_other(&self) -> bool {
        *self == Self::Other
    }
}

/// What became of a change when the run was rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// Its inverse took it back.
    Undone,
    /// A person says that it is taken back.
    UndoneByPerson,
    /// Nothing takes it back, as a message that was read: it stays.
    NoInverse,
    /// A person says that it is to stay.
    LeftByPerson,
}

/// One decided fact. Every result of an evaluation is in it: applying an event evaluates nothing.
///
/// The serialized form is stored for as long as a run is kept: names and meanings of fields do not change, new
/// fields have a default, a golden file of each kind is in the tests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// The run began; its top-level list is entered.
    Started {
        /// When.
        at: Timestamp,
        /// The input after `input.from`, where that changed it.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
        input: Option<Arc<Value>>,
        /// When the workflow's `timeout` strikes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
    },
    /// A task began.
    TaskEntered {
        /// Its new frame.
        frame: FrameId,
        /// The list or fork that it is in.
        parent: FrameId,
        /// Which task.
        task: TaskIndex,
        /// When.
        at: Timestamp,
        /// Its input after `input.from`, where that changed it.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
        input: Option<Arc<Value>>,
        /// When its `timeout` strikes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
    },
    /// A task's `if` was false.
    TaskSkipped {
        /// The list or fork that it is in.
        parent: FrameId,
        /// Which task.
        task: TaskIndex,
    },
    /// One of a task's lists began.
    BlockEntered {
        /// The list's new frame.
        frame: FrameId,
        /// The task's frame.
        parent: FrameId,
        /// Which list.
        block: Block,
    },
    /// A `for` began.
    LoopEntered {
        /// The task's frame.
        frame: FrameId,
        /// What it iterates over.
        items: Arc<Vec<Arc<Value>>>,
    },
    /// An iteration began.
    IterationEntered {
        /// The list's new frame.
        frame: FrameId,
        /// The loop's frame.
        parent: FrameId,
        /// Counts from 0.
        index: u32,
    },
    /// An iteration ended; with a fault only where the loop collects.
    IterationEnded {
        /// The loop's frame.
        frame: FrameId,
        /// Which.
        index: u32,
        /// The fault, where the loop collects them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fault: Option<Fault>,
    },
    /// A `fork` began; its branches follow as [`Event::TaskEntered`].
    ForkEntered {
        /// The task's frame.
        frame: FrameId,
    },
    /// What ran side by side wrote into the context, and the copies were merged.
    ContextMerged {
        /// The loop or fork.
        frame: FrameId,
        /// The context from now on.
        context: Arc<Value>,
    },
    /// An action is to be called.
    CallScheduled {
        /// The task's frame.
        frame: FrameId,
        /// Counts from 1: attempts of this execution.
        attempt: u32,
        /// As the file says.
        action: ActionReference,
        /// The name of the connection.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        connection: Option<String>,
        /// The action's input.
        arguments: Arc<Value>,
    },
    /// A `wait` began.
    WaitScheduled {
        /// The task's frame.
        frame: FrameId,
        /// Until when.
        until: Timestamp,
    },
    /// A task ended.
    TaskCompleted {
        /// Its frame, gone now.
        frame: FrameId,
        /// When.
        at: Timestamp,
        /// Its output after `output.as`.
        output: Arc<Value>,
        /// The context after `export.as`, where the task exports.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
        context: Option<Arc<Value>>,
        /// Where to go.
        #[serde(default, skip_serializing_if = "is_continue")]
        then: Then,
        /// What an action did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        effect: Option<Effect>,
    },
    /// A task ended with a fault. What becomes of the fault is in the next event.
    TaskFaulted {
        /// Its frame, gone now.
        frame: FrameId,
        /// When.
        at: Timestamp,
        /// The fault.
        fault: Fault,
        /// Whether its call is still under way: a call that was sent is never abandoned (semantics 1, "Stopping").
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        stopping: bool,
        /// What the action had changed before it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        effect: Option<Effect>,
    },
    /// A `try` caught a fault and runs `catch.do`, if it has one.
    Caught {
        /// The frame of the `try`.
        frame: FrameId,
        /// The fault.
        fault: Fault,
    },
    /// A `try` caught a fault and will try again.
    RetryScheduled {
        /// The frame of the `try`.
        frame: FrameId,
        /// The fault.
        fault: Fault,
        /// When.
        until: Timestamp,
    },
    /// The wait before a retry is over.
    Retried {
        /// The frame of the `try`.
        frame: FrameId,
        /// When.
        at: Timestamp,
    },
    /// A task with `bestEffort` ended with a fault, and the run goes on.
    Tolerated {
        /// The list or fork that it was in.
        parent: FrameId,
        /// Which task.
        task: TaskIndex,
        /// The fault.
        fault: Fault,
        /// When.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<Timestamp>,
    },
    /// A call cannot go on without a person.
    Parked {
        /// The calling task's frame.
        frame: FrameId,
        /// When.
        at: Timestamp,
        /// Why, in words.
        reason: Fault,
        /// Why, for what follows from it.
        #[serde(default, skip_serializing_if = "Why::is_other")]
        why: Why,
        /// Whether it had changed something before.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        wrote: bool,
    },
    /// A parked call goes on.
    Unparked {
        /// The calling task's frame.
        frame: FrameId,
        /// When.
        at: Timestamp,
    },
    /// Nothing new begins until resumed.
    Suspended {
        /// When.
        at: Timestamp,
    },
    /// Goes on.
    Resumed {
        /// When.
        at: Timestamp,
    },
    /// A call that was parked is made again, in a new attempt.
    CallRetried {
        /// The calling task's frame.
        frame: FrameId,
        /// When.
        at: Timestamp,
    },
    /// The workflow's `timeout` struck; how the run ends follows.
    TimedOut {
        /// When.
        at: Timestamp,
    },
    /// A fault that nothing caught, after a task with `noRollbackAfter`: a person decides.
    Halted {
        /// When.
        at: Timestamp,
        /// The fault.
        fault: Fault,
    },
    /// A faulted or halted run goes on from the task that failed, in a new attempt.
    Reopened {
        /// When.
        at: Timestamp,
    },
    /// The run goes on on another definition, to which everything recorded fits.
    Redefined {
        /// When.
        at: Timestamp,
    },
    /// The run will end like this as soon as calls that were under way have ended. An ended run that is rolled back
    /// later ends once more.
    Ending {
        /// When.
        at: Timestamp,
        /// How.
        ending: Ending,
        /// Whether what it changed is taken back first.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        rollback: bool,
    },
    /// Everything that was under way has ended, and what was changed is being taken back, newest first.
    RollbackBegun {
        /// When.
        at: Timestamp,
    },
    /// The inverse of a change is to be called.
    UndoScheduled {
        /// A new frame, for the call.
        frame: FrameId,
        /// When; 0 in a record of before this was kept.
        #[serde(default)]
        at: Timestamp,
        /// The change, as its position in the ledger.
        entry: u32,
        /// Counts from 1: attempts of this inverse.
        attempt: u32,
        /// As pinned.
        action: ActionReference,
        /// The name of the connection.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        connection: Option<String>,
        /// Its input.
        arguments: Arc<Value>,
    },
    /// An inverse failed and will be tried again.
    UndoRetryScheduled {
        /// The change.
        entry: u32,
        /// The fault.
        fault: Fault,
        /// When.
        until: Timestamp,
    },
    /// A change has been dealt with.
    Settled {
        /// The change.
        entry: u32,
        /// When.
        at: Timestamp,
        /// How.
        fate: Fate,
    },
    /// A change could not be taken back; a person decides.
    RollbackIncomplete {
        /// The change.
        entry: u32,
        /// When.
        at: Timestamp,
        /// Why, with what is undone and what is not.
        reason: Fault,
    },
    /// The run was accepted though preflight refuses it: it begins when what is missing is there.
    Blocked {
        /// When.
        at: Timestamp,
        /// What preflight said.
        diagnostics: Arc<Value>,
    },
    /// What was missing is there.
    Unblocked {
        /// When.
        at: Timestamp,
    },
    /// The run asks for a place in its group.
    Queued {
        /// When.
        at: Timestamp,
        /// The group.
        group: Group,
    },
    /// It has its place.
    Admitted {
        /// When.
        at: Timestamp,
    },
    /// A newer run takes its place.
    Displaced {
        /// When.
        at: Timestamp,
        /// Which.
        by: RunId,
    },
    /// People are to be told something.
    NoticeDue {
        /// What.
        notice: Notice,
    },
    /// Whoever tells them has it now, and does not forget it.
    Noticed {
        /// Of the notice.
        number: u32,
    },
    /// The run ends at once: nothing more is taken back, and what nobody could tell stays untold.
    Killed {
        /// When.
        at: Timestamp,
    },
    /// A call that nobody waits for any more has ended and is on record.
    CallStopped {
        /// The frame that it belonged to.
        frame: FrameId,
        /// What it did, as far as it said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        effect: Option<Effect>,
    },
    /// The decision used up its budget before the run came to rest: it goes on from here.
    Unfinished {
        /// How many decisions in a row have ended so.
        decisions: u32,
    },
    /// The run came to rest after such decisions.
    Rested {},
    /// The run has ended.
    Ended {
        /// When.
        at: Timestamp,
        /// How.
        ending: Ending,
    },
}

impl Event {
    /// The frames whose going on may change with it, besides those that it makes; and whether all may.
    pub(super) const fn concerns(&self) -> ([Option<FrameId>; 2], bool) {
        match self {
            Self::TaskEntered { frame, parent, .. }
            | Self::BlockEntered { frame, parent, .. }
            | Self::IterationEntered { frame, parent, .. } => ([Some(*frame), Some(*parent)], false),
            Self::TaskSkipped { parent, .. } | Self::Tolerated { parent, .. } => ([Some(*parent), None], false),
            Self::LoopEntered { frame, .. }
            | Self::IterationEnded { frame, .. }
            | Self::ForkEntered { frame }
            | Self::ContextMerged { frame, .. }
            | Self::CallScheduled { frame, .. }
            | Self::WaitScheduled { frame, .. }
            | Self::TaskCompleted { frame, .. }
            | Self::TaskFaulted { frame, .. }
            | Self::Caught { frame, .. }
            | Self::RetryScheduled { frame, .. }
            | Self::Retried { frame, .. }
            | Self::Parked { frame, .. }
            | Self::Unparked { frame, .. }
            | Self::CallRetried { frame, .. }
            | Self::CallStopped { frame, .. } => ([Some(*frame), None], false),
            Self::Started { .. }
            | Self::Suspended { .. }
            | Self::Resumed { .. }
            | Self::TimedOut { .. }
            | Self::Halted { .. }
            | Self::Reopened { .. }
            | Self::Redefined { .. }
            | Self::Ending { .. }
            | Self::RollbackBegun { .. }
            | Self::UndoScheduled { .. }
            | Self::UndoRetryScheduled { .. }
            | Self::Settled { .. }
            | Self::RollbackIncomplete { .. }
            | Self::Blocked { .. }
            | Self::Unblocked { .. }
            | Self::Queued { .. }
            | Self::Admitted { .. }
            | Self::Displaced { .. }
            | Self::NoticeDue { .. }
            | Self::Noticed { .. }
            | Self::Killed { .. }
            | Self::Unfinished { .. }
            | Self::Rested {}
            | Self::Ended { .. } => ([None, None], true),
        }
    }
}

/// A field that is there is a value, `null` too: "no value" is a field that is not there.
pub(super) fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Arc<Value>>, D::Error> {
    Arc::<Value>::deserialize(deserializer).map(Some)
}

fn is_continue(then: &Then) -> bool {
    *then == Then::Continue
}

/// Variables of loops and `catch`, by name.
pub type Variables = BTreeMap<String, Arc<Value>>;
