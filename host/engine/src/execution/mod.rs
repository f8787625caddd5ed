//! The execution port: what a run asks of whatever carries it.
//!
//! A run's driver is a deterministic program over this port. Everything that it learns from outside (a decision, an
//! answer from Slack, a message, the time) it learns through one of these methods, under a key, and an engine that
//! has the answer under that key gives the same one again. [`local`] keeps the answers in the journal of this
//! process; [`replay`] keeps them in an ordered log in memory and is how an engine that only replays looks.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use bellhop_core::fault::Fault;
use bellhop_core::requirement::TokenKind;
use bellhop_core::run::{self, Cause, Command, Event, ExecutionKey, Facts, Outgrown, State, Status, Why};
use bellhop_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::mail;
use crate::owners::keyed_lock;
use bellhop_journal::{self as journal, Instead, Rest, store};

pub(crate) mod invoker;
pub(crate) mod local;
pub mod open;
#[cfg(test)]
pub(crate) mod replay;
pub(crate) mod summary;
pub(crate) mod tally;

/// An action asked to be called again with a state; what it did before is behind it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slice {
    /// Counts from 0.
    pub number: u32,
    /// What the action gets.
    pub state: Value,
    /// The ordinal of the next slice's first call.
    pub first_call: u32,
}

impl Slice {
    /// Whether the action got anywhere since the slice `before`: it made a call, and its state is another. The next slice
    /// would otherwise do what this one did.
    pub(crate) fn goes_on_from(&self, before: Option<&Self>) -> bool {
        match before {
            None => self.first_call > 0,
            Some(before) => self.first_call > before.first_call && self.state != before.state,
        }
    }
}

/// One call of one attempt of one execution of a task (semantics 1, "Key").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CallKey {
    /// The task's execution.
    pub execution: ExecutionKey,
    /// Counts from 1.
    pub attempt: u32,
    /// Counts from 0 within the execution, over slices.
    pub ordinal: u32,
}

/// One attempt at one execution of a task.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AttemptKey {
    /// The task's execution.
    pub execution: ExecutionKey,
    /// Counts from 1.
    pub attempt: u32,
}

/// That something is about to be sent. Durable before a byte of it leaves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// The hash of the guest's own request.
    pub hash: String,
    /// When.
    pub at: Timestamp,
    /// `chat.post-message`.
    pub function: String,
    /// On which connection.
    pub connection: String,
    /// By which of its tokens. None where nobody knows: in what was recorded before there was a choice, and of what was
    /// perhaps sent and is not on record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenKind>,
}

/// Why a call waits for a person.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parking {
    /// For what follows from it.
    pub why: Why,
    /// In words.
    pub reason: Fault,
}

impl Parking {
    /// Of the task at `pointer`.
    pub(crate) fn at(pointer: &str, why: Why, mut reason: Fault) -> Self {
        reason.instance = Some(pointer.to_owned());
        Self { why, reason }
    }
}

/// What the port has of a call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Called {
    /// Nothing that counts: it may be sent.
    New,
    /// It was about to be sent, and nothing says what became of it: whoever goes on finds that out, and sends nothing before.
    Open(Intent),
    /// It ended with this, and is never made again.
    Ended(Answer),
}

impl Called {
    /// The answer, where it ended.
    pub(crate) fn answer(self) -> Option<Answer> {
        match self {
            Self::Ended(answer) => Some(answer),
            Self::New | Self::Open(_) => None,
        }
    }
}

/// That a call did nothing that counts. The same call may be made again, with a new intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotSent {
    /// Why, in a few words.
    pub reason: String,
    /// Not before.
    pub retry_at: Option<Timestamp>,
    /// Perhaps it was done all the same: it is repeated, and what that is answered does not say whose the change is.
    pub repeats: bool,
    /// It was refused to the token that it went out by, and goes out by another one from here on.
    pub instead: Option<Instead>,
}

/// A decision, to be kept.
#[derive(Debug, Clone)]
pub(crate) struct Decision {
    /// What was decided: this is kept.
    pub events: Vec<Event>,
    /// The state after it, for what is kept beside it and can be made again from it: the run's summary, its place among
    /// the open runs, a snapshot.
    pub after: Arc<State>,
    /// What others have of the run and is changed by it.
    pub alongside: Alongside,
}

/// What is changed with a decision in what others have of the run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Alongside {
    /// The message that it is about: consumed.
    pub mail: Option<mail::Id>,
    /// The keys of a call that has come back.
    pub keys: Vec<keyed_lock::Change>,
}

impl Alongside {
    /// Whether nothing is changed.
    pub(crate) fn is_nothing(&self) -> bool {
        self.mail.is_none() && self.keys.is_empty()
    }
}

/// What a capability call answered, as the guest gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The hash of the guest's own request; a replay with another one is not the same program.
    pub hash: String,
    /// `chat.post-message`; empty when read back: the hash has it.
    pub function: String,
    /// Whether it was a write.
    pub writes: bool,
    /// What the guest gets.
    pub result: Result<String, String>,
    /// How it came about, for the timeline: `sent`, `found`, `denied`, `reused`.
    pub how: How,
    /// By which token a read was sent; of a write, the intent has it.
    pub token: Option<TokenKind>,
}

/// See [`Answer::how`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// Slack answered.
    Sent,
    /// Slack's answer was lost and the change was found by reading it back.
    Found,
    /// The same, and whether it was so before nobody can tell: perhaps no change of this run.
    Holds,
    /// The host refused, nothing was sent.
    Denied,
    /// An earlier attempt had done the same already.
    Reused,
    /// An earlier attempt found that it is so, perhaps since before.
    ReusedHolds,
}

impl How {
    /// As kept.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Found => "found",
            Self::Holds => "holds",
            Self::Denied => "denied",
            Self::Reused => "reused",
            Self::ReusedHolds => "reused-holds",
        }
    }

    /// Whether it is an earlier attempt's.
    pub(crate) const fn is_reused(self) -> bool {
        matches!(self, Self::Reused | Self::ReusedHolds)
    }

    /// Whether perhaps nothing was changed.
    pub(crate) const fn holds(self) -> bool {
        matches!(self, Self::Holds | Self::ReusedHolds)
    }

    /// From what was kept; none for a word of another version.
    pub(crate) fn from_kept(text: &str) -> Option<Self> {
        let all = [Self::Sent, Self::Found, Self::Holds, Self::Denied, Self::Reused, Self::ReusedHolds];
        all.into_iter().find(|how| how.as_str() == text)
    }
}

/// What the records of one attempt at an execution say of it, over all of its slices and lives of the process. A slice
/// forgets where its calls stand in the log, and never this: a retry, a person and a rollback ask for it later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Attempted {
    /// A write was carried out, or answered from an earlier attempt that had carried it out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wrote: bool,
    /// A write was answered from an earlier attempt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reused: bool,
    /// What a write asked for was so when it was read back, and perhaps before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub perhaps: bool,
    /// A write was sent again though an earlier sending may have been carried out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeated: bool,
}

impl Attempted {
    /// What a write that ended well adds.
    pub(crate) const fn by_write(how: How) -> Self {
        Self { wrote: true, reused: how.is_reused(), perhaps: how.holds(), repeated: false }
    }

    /// With what another record says.
    #[must_use]
    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            wrote: self.wrote || other.wrote,
            reused: self.reused || other.reused,
            perhaps: self.perhaps || other.perhaps,
            repeated: self.repeated || other.repeated,
        }
    }
}

/// Why the port did not do what it was asked; split by what becomes of the run and of the host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The run's records, with what ending it needs, have come to their limit; nothing was kept. The run is ended, in order.
    #[error("{0}")]
    TooLarge(Outgrown),
    /// What is recorded of this run cannot be read, or what it wants recorded can never be written. The run is set
    /// aside with this reason; the host and all other runs go on.
    #[error("{0}")]
    OfTheRun(String),
    /// The store takes nothing at this moment: the run leaves memory and comes back when it does.
    #[error("the store takes nothing at this moment: {0}")]
    Later(String),
    /// The process is stopping: the run goes on at the next start.
    #[error("the process is stopping")]
    Stopping,
    /// The store failed: nothing may be acknowledged any more, and the process ends.
    #[error("the store failed: {0}")]
    Store(String),
}

impl From<journal::Error> for Error {
    fn from(error: journal::Error) -> Self {
        match &error {
            journal::Error::Store(store::Error::Fatal { .. }) => Self::Store(error.to_string()),
            journal::Error::Store(store::Error::Closed) => Self::Stopping,
            journal::Error::Store(store::Error::Full { .. } | store::Error::NoRoom { .. }) => {
                Self::Later(error.to_string())
            }
            journal::Error::Store(
                // A run's records are written by its driver alone: of one that finds others there, a person has to look.
                store::Error::Refused { .. } | store::Error::TooLarge { .. } | store::Error::Corrupt { .. },
            )
            | journal::Error::Record(_)
            | journal::Error::Damaged { .. } => Self::OfTheRun(error.to_string()),
        }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        journal::Error::from(error).into()
    }
}

/// A message to a run from outside it.
pub(crate) struct Signal {
    /// What it says.
    pub cause: Cause,
    /// Told when the decision about it is durable, and whether there was anything to decide.
    pub acknowledge: Option<tokio::sync::oneshot::Sender<bool>>,
    /// Who wants it, and what that person says of calls whose outcome is unknown; kept before anything is decided about it.
    pub settle: Option<Settle>,
    /// The record of the message, which goes with the decision about it.
    pub mail: Option<mail::Id>,
}

impl Signal {
    /// One that nobody waits for and of which nothing is on record.
    pub(crate) fn of(cause: Cause) -> Self {
        Self { cause, acknowledge: None, settle: None, mail: None }
    }
}

/// See [`Signal::settle`].
#[derive(Debug, Clone)]
pub(crate) struct Settle {
    /// The calls that are meant. Where there are some and none is in doubt any more, the message says nothing.
    pub calls: BTreeMap<CallKey, Word>,
    /// Who says so.
    pub by: String,
}

/// What a person says of a call in doubt.
#[derive(Debug, Clone)]
pub(crate) struct Word {
    /// When that was sent of which it is said; what was sent again since is another matter.
    pub sent_at: Timestamp,
    /// What the action gets, if it was carried out; none: it was not.
    pub answer: Option<Value>,
}

/// What [`Execution::signal`] answers.
#[expect(clippy::large_enum_variant, reason = "one at a time, taken apart at once")]
pub(crate) enum Next {
    /// A message.
    Signal(Signal),
    /// There is none, and the driver may go: the run is woken when there is one.
    Rest,
    /// The process is stopping, or the run only waits and others need its room: end what was sent, begin nothing.
    PutDown,
}

/// What a run asks of whatever carries it.
pub(crate) trait Execution: Send + Sync + 'static {
    /// The decision with this number, if one is kept.
    fn decision(&self, number: u64) -> impl Future<Output = Result<Option<Vec<Event>>, Error>> + Send;

    /// Keeps the decision with this number. After Ok it is in the run's log, and survives the process once
    /// [`Execution::settled`] returns.
    fn keep(&self, number: u64, decision: Decision) -> impl Future<Output = Result<(), Error>> + Send;

    /// Keeps what is changed in what others have of the run, where nothing is decided. After Ok it is kept as a decision is.
    fn keep_alongside(&self, _alongside: Alongside) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }

    /// The end of the slice with this number, if an attempt at an execution has come to it.
    fn slice(&self, attempt: &AttemptKey, number: u32) -> impl Future<Output = Result<Option<Slice>, Error>> + Send;

    /// Keeps the end of the slice that is next. After Ok it is in the run's log, and survives the process once
    /// [`Execution::settled`] returns.
    fn keep_slice(&self, attempt: &AttemptKey, slice: &Slice) -> impl Future<Output = Result<(), Error>> + Send;

    /// What there is of a call. Of an attempt before the last, and of what lies behind a slice, only after
    /// [`Execution::recall`].
    fn called(&self, call: &CallKey) -> impl Future<Output = Result<Called, Error>> + Send;

    /// Keeps that a call is about to be sent, which nothing is kept of. After `Ok(true)` that is durable, and the call is
    /// [`Called::Open`]. After `Ok(false)` nothing was kept and it is not to be sent now: the process is stopping, or a person
    /// has given the run an order meanwhile.
    fn intend(&self, call: &CallKey, intent: Intent) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Keeps how a call ended that has no end yet, with an intent or without. It is kept before the next intent or
    /// [`Execution::settled`] returns; if the process dies earlier, an intent stands alone.
    fn ended(&self, call: &CallKey, answer: &Answer) -> impl Future<Output = Result<(), Error>> + Send;

    /// Keeps that an open call did nothing that counts; likewise. Of a call without an intent nothing is kept.
    fn not_sent(&self, call: &CallKey, why: &NotSent) -> impl Future<Output = Result<(), Error>> + Send;

    /// The records and bytes of the run, once these have come so near to their limit that the rest is needed for ending
    /// a run that stands like this. What a run adds while it ends is within that; what is beyond it is
    /// [`Error::OfTheRun`].
    fn outgrown(&self, state: &State) -> Result<Option<Outgrown>, Error>;

    /// Earlier attempts at an action are about to be asked for. A port that keeps only what open actions need finds the
    /// rest of the log now.
    fn recall(&self) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }

    /// When it was known last of a call that is [`Called::New`] that what had been sent of it, if anything had, did nothing that
    /// counts; none where it was never open.
    fn reopened_at(&self, _call: &CallKey) -> Option<Timestamp> {
        None
    }

    /// By which other token a call goes out that has no end and was refused before, whatever became of it since.
    fn instead(&self, _call: &CallKey) -> Option<Instead> {
        None
    }

    /// Whether a call of this attempt at an execution, or of one before it, was not sent and repeats, see [`NotSent::repeats`].
    fn has_repeated(&self, execution: &ExecutionKey, attempt: u32) -> bool;

    /// The ordinals of the calls that an attempt at an execution has on record, with an end or open, in their order. Of
    /// an attempt before the last, and of what lies behind a slice, only after [`Self::recall`].
    fn calls(&self, execution: &ExecutionKey, attempt: u32) -> Vec<u32>;

    /// What an attempt at an execution has on record as done, what lies behind its slices included. Of an attempt before
    /// the last only after [`Self::recall`].
    fn attempted(&self, execution: &ExecutionKey, attempt: u32) -> Attempted;

    /// The calls of an attempt before `first` are behind a slice: they are not asked for again unless a later attempt
    /// recalls them, and taking the run up does not read them.
    fn leave_behind(
        &self,
        _execution: &ExecutionKey,
        _attempt: u32,
        _first: u32,
        _facts: &Arc<Facts>,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }

    /// From now on the run is to be woken at `at`, and at no other time. Kept with the next record.
    fn timer(&self, at: Option<Timestamp>);

    /// A wake-up came too early: the one that is kept is still to come.
    fn rearm(&self) {}

    /// The next message for this run. `resting` says that nothing is under way.
    fn signal(&self, resting: bool) -> impl Future<Output = Next> + Send;

    /// Keeps what came with a message, before the run is told of it. False where it is about calls of which none is in doubt
    /// any more: it says nothing then.
    fn heard(&self, _signal: &Signal) -> impl Future<Output = Result<bool, Error>> + Send {
        async { Ok(true) }
    }

    /// Everything recorded so far survives the process.
    fn settled(&self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Something that people who follow the run may want to know. Changes nothing and may be lost.
    fn note(&self, text: String);

    /// 64 random bits; kept with the decision that used them, as its events.
    fn entropy(&self) -> u64;

    /// The time; likewise.
    fn now(&self) -> Timestamp;

    /// The time of a decision that looks for what is due: now, or as much before it that nothing is due which is not due by
    /// the [settled](bellhop_clock::Clock::settled) time. `due` is the earliest time for which the run waits.
    fn looking_at(&self, due: impl FnOnce() -> Option<Timestamp>) -> Timestamp;
}

/// See [`Execution::looking_at`].
pub(crate) fn not_before_its_time(
    now: Timestamp,
    settled: Timestamp,
    due: impl FnOnce() -> Option<Timestamp>,
) -> Timestamp {
    if settled >= now {
        return now;
    }
    match due() {
        None => now,
        // Only the earliest is known: the next may not be due by the settled time.
        Some(due) if due <= settled => settled,
        Some(due) => now.min(Timestamp::from_millis(due.as_millis().saturating_sub(1))),
    }
}

/// When the run is to be woken.
pub(crate) fn wake(state: &State) -> Option<Timestamp> {
    run::pending(state).into_iter().find_map(|command| match command {
        Command::Wake { at } => Some(at),
        Command::Start
        | Command::GoOn
        | Command::Invoke { .. }
        | Command::Stop { .. }
        | Command::Admit { .. }
        | Command::Notify { .. } => None,
    })
}

/// Whether anything of a run is under way; else it waits for a time, a message or a person.
pub(crate) fn is_under_way(state: &State) -> bool {
    run::pending(state).iter().any(|command| {
        matches!(command, Command::GoOn | Command::Invoke { .. } | Command::Stop { .. } | Command::Notify { .. })
    })
}

/// What a start has to do for an open run that stands like this.
pub(crate) fn rest_of(state: &State) -> Rest {
    match state.status() {
        _ if is_under_way(state) => Rest::No,
        Status::Blocked => Rest::Blocked,
        Status::Waiting => Rest::Waits,
        Status::Parked => Rest::Parked,
        Status::Suspended => Rest::Suspended,
        _ => Rest::No,
    }
}
