//! What the shell must be doing, read off the state.

use serde::Serialize;

use super::event::{Ending, FrameId, Why};
use super::frame::{Body, Calling, Phase, Running};
use super::key::ExecutionKey;
use super::notice::Notice;
use super::place::{Group, Place};
use super::state::{Stands, State, Undoing};
use crate::fault::Fault;
use crate::time::Timestamp;

/// Something that the shell must be doing as long as it is listed. It borrows from the state, because it is listed anew after
/// each decision and most of it is under way already.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Command<'s> {
    /// Begin: the run was accepted and nothing was decided yet.
    Start,
    /// Have this action under way, and report how it ends.
    Invoke {
        /// The frame of the calling task, or of the rollback: what is reported of the call names it.
        frame: FrameId,
        /// What is called, with what.
        call: &'s Calling,
    },
    /// Bring this call to its end: stop the guest, let a sent request end, record it, report.
    Stop {
        /// The frame that the call had when it began.
        frame: FrameId,
        /// What was called, with what.
        call: &'s Calling,
    },
    /// Report what the owner of this group says, who was asked for a place with the decision that the run waits for one.
    Admit {
        /// The group, as the run's definition and input name it.
        group: &'s Group,
    },
    /// Have people told, once, and report as soon as that is sure to happen.
    Notify {
        /// What people are to be told; its number is reported.
        notice: &'s Notice,
    },
    /// Decide on: the decision before ended with its budget.
    GoOn,
    /// Report when this time has come.
    Wake {
        /// The earliest time for which anything in the run waits.
        at: Timestamp,
    },
}

/// How a run stands, for people and for lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Something is being done.
    Running,
    /// For a time, or an event.
    Waiting,
    /// Refused without a caller: starts when what is missing is there.
    Blocked,
    /// Needs a person.
    Parked,
    /// Somebody asked for a pause.
    Suspended,
    /// Somebody asked for the end; calls under way are being ended.
    Cancelling,
    /// Ended well.
    Completed,
    /// Ended with a fault.
    Faulted,
    /// Ended by request.
    Cancelled,
}

impl Status {
    /// Whether the run is over.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Faulted | Self::Cancelled)
    }

    /// As in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Blocked => "blocked",
            Self::Parked => "parked",
            Self::Suspended => "suspended",
            Self::Cancelling => "cancelling",
            Self::Completed => "completed",
            Self::Faulted => "faulted",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The kind of what a waiting, blocked or parked run waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum On {
    /// A time that the definition names.
    Time,
    /// The time of the next attempt.
    Retry,
    /// A person, who decides.
    Person,
    /// A place in the run's group.
    Group,
    /// What preflight misses.
    Remedy,
}

/// What a waiting, blocked or parked run waits for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Waiting {
    /// The JSON pointer of the task; empty where the run as a whole waits.
    pub task: String,
    /// The kind of what it waits for.
    pub on: On,
    /// The time at which it goes on by itself, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Why, for `retry` and `person`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Fault>,
    /// For `person`, why a call waits: `doubt`, `asked`, `unavailable`, …; what `retry` and `resolve` do hangs on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
}

/// Everything that must be under way now. The same for a run that lives and for one just folded.
#[must_use]
pub fn pending(state: &State) -> Vec<Command<'_>> {
    if state.ended.is_some() {
        return Vec::new();
    }
    let mut commands: Vec<Command<'_>> = state
        .stopping
        .iter()
        .filter(|(_, call)| call.parked.is_none() && is_first(state, call))
        .map(|(frame, call)| Command::Stop { frame: *frame, call })
        .collect();
    commands.extend(state.notices.values().map(|notice| Command::Notify { notice }));
    if state.started_at.is_none() {
        match &state.place {
            _ if state.blocked.is_some() || state.ending.is_some() => {}
            Some(Place { group, admitted: false }) => commands.push(Command::Admit { group }),
            // One that has its place begins when the pause is over.
            Some(_) if state.suspended => {}
            _ => commands.push(Command::Start),
        }
        return commands;
    }
    if let Some((frame, call)) = state.inverse_call().filter(|(_, call)| call.parked.is_none()) {
        commands.push(Command::Invoke { frame, call });
    }
    let mut wake = due_as_a_whole(state);
    for (frame, task) in tasks(state) {
        if let Phase::Calling(call) = &task.phase
            && call.parked.is_none()
            && is_first(state, call)
        {
            commands.push(Command::Invoke { frame, call });
        }
        for at in times(task) {
            wake = Some(wake.map_or(at, |w| w.min(at)));
        }
    }
    if state.is_unfinished() {
        commands.push(Command::GoOn);
    }
    // A suspended run lets what is under way end and begins nothing: its timers wait for `resume`.
    if let Some(at) = wake
        && !state.suspended
    {
        commands.push(Command::Wake { at });
    }
    commands
}

/// The earliest time for which anything in the run waits, also while it is suspended.
#[must_use]
pub fn due(state: &State) -> Option<Timestamp> {
    if state.ended.is_some() || state.started_at.is_none() {
        return None;
    }
    due_as_a_whole(state).into_iter().chain(tasks(state).flat_map(|(_, task)| times(task))).min()
}

/// When the run's own time is over, or an inverse is tried again.
fn due_as_a_whole(state: &State) -> Option<Timestamp> {
    match state.undoing() {
        Some(Undoing { stands: Stands::Until(at), .. }) => Some(*at),
        _ if state.ending.is_none() && state.halted.is_none() => state.deadline,
        _ => None,
    }
}

/// The times for which a task waits.
fn times(task: &Running) -> impl Iterator<Item = Timestamp> + use<> {
    let due = match &task.phase {
        Phase::Waiting { until } => Some(*until),
        Phase::Trying(trying) => trying.backoff,
        _ => None,
    };
    [due, task.deadline].into_iter().flatten()
}

/// Whether no earlier attempt is being stopped. One begins when what the one before had sent has come to its end: it may be
/// answered from that.
fn is_first(state: &State, call: &Calling) -> bool {
    !state.stopping.values().any(|other| other.key == call.key && other.attempt < call.attempt)
}

fn tasks(state: &State) -> impl Iterator<Item = (FrameId, &Running)> {
    state.frames.iter().filter_map(|(id, frame)| match &frame.body {
        Body::Task(task) => Some((*id, task.as_ref())),
        Body::List(_) => None,
    })
}

impl State {
    /// How the run stands.
    #[must_use]
    pub fn status(&self) -> Status {
        match &self.ended {
            Some((_, Ending::Completed { .. })) => return Status::Completed,
            Some((_, Ending::Faulted { .. })) => return Status::Faulted,
            Some((_, Ending::Cancelled)) => return Status::Cancelled,
            None => {}
        }
        let incomplete = self.undoing().is_some_and(|u| matches!(u.stands, Stands::Incomplete(_)));
        if self.blocked.is_some() && self.ending.is_none() {
            return Status::Blocked;
        }
        if self.halted.is_some() || incomplete || self.calls().any(|(_, call)| call.parked.is_some()) {
            return Status::Parked;
        }
        if self.suspended && self.rollback.is_some() {
            // Whoever looks has to see that what is taken back waits for somebody to let it go on.
            return Status::Suspended;
        }
        if matches!(self.ending, Some(Ending::Cancelled)) {
            return Status::Cancelling;
        }
        if self.suspended {
            return Status::Suspended;
        }
        // What is to be told is under way.
        if self.queues() && self.ending.is_none() && self.notices.is_empty() {
            return Status::Waiting;
        }
        let calling = self.started_at.is_none()
            || self.is_unfinished()
            || !self.notices.is_empty()
            || self.calls().next().is_some();
        if calling { Status::Running } else { Status::Waiting }
    }

    /// What it waits for, if it waits or is parked.
    #[must_use]
    pub fn waiting(&self) -> Option<Waiting> {
        let person = self.person().map(|(task, reason, why)| Waiting {
            task: task.to_owned(),
            on: On::Person,
            until: None,
            reason: Some(reason.clone()),
            why,
        });
        if person.is_some() {
            return person;
        }
        let before = |on: On, fault: Fault| {
            Some(Waiting { task: String::new(), on, until: None, reason: Some(fault), why: None })
        };
        match (&self.blocked, &self.place) {
            _ if self.ended.is_some() || self.ending.is_some() => {}
            (Some(diagnostics), _) => {
                let mut fault = Fault::of_code("preflight-refused", "something is missing that the run needs");
                fault.details = Some(serde_json::json!({ "diagnostics": diagnostics }));
                return before(On::Remedy, fault);
            }
            (None, Some(Place { group, admitted: false })) => {
                return before(On::Group, Fault::of_code("group-full", format!("waits for its turn: {}", group.name)));
            }
            (None, _) => {}
        }
        if self.status() != Status::Waiting {
            return None;
        }
        let inverse = self.undoing().and_then(|undoing| match undoing.stands {
            Stands::Until(until) => Some((until, &self.ledger.get(undoing.entry as usize)?.key, On::Retry, None)),
            Stands::Calling | Stands::Incomplete(_) => None,
        });
        tasks(self)
            .filter_map(|(_, task)| match &task.phase {
                Phase::Waiting { until } => Some((*until, &task.key, On::Time, None)),
                Phase::Trying(trying) => Some((trying.backoff?, &task.key, On::Retry, trying.fault.clone())),
                _ => None,
            })
            .chain(inverse)
            .min_by_key(|(until, ..)| *until)
            .map(|(until, key, on, reason)| Waiting {
                task: key.pointer.clone(),
                on,
                until: Some(until.to_string()),
                reason,
                why: None,
            })
    }

    /// The change that could not be taken back and about which a person decides: its own execution, and that of its inverse.
    #[must_use]
    pub fn left_to_a_person(&self) -> Option<(&ExecutionKey, ExecutionKey)> {
        let undoing = self.undoing().filter(|undoing| matches!(undoing.stands, Stands::Incomplete(_)))?;
        let change = &self.ledger.get(undoing.entry as usize)?.key;
        Some((change, self.key_of_inverse(undoing.entry)?))
    }

    /// What a person has to decide about, and the task.
    fn person(&self) -> Option<(&str, &Fault, Option<Why>)> {
        let call = self.calls().find_map(|(_, call)| {
            let why = Some(call.why).filter(|why| *why != Why::Other);
            Some((call.key.pointer.as_str(), call.parked.as_ref()?, why))
        });
        let halted =
            || self.halted.as_ref().map(|(_, fault)| (fault.instance.as_deref().unwrap_or_default(), fault, None));
        let incomplete = || {
            let undoing = self.undoing()?;
            let Stands::Incomplete(reason) = &undoing.stands else { return None };
            Some((self.ledger.get(undoing.entry as usize)?.key.pointer.as_str(), reason.as_ref(), None))
        };
        call.or_else(incomplete).or_else(halted)
    }
}
