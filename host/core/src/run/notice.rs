//! What people are told of by `onFault.notify`.

use serde::{Deserialize, Serialize};

use super::event::{Ending, Event, FrameId};
use super::state::State;
use crate::definition::TaskIndex;
use crate::fault::Fault;
use crate::requirement::Tenant;
use crate::time::Timestamp;

/// The longest text of a notice, in characters.
const TEXT_CHARS_MAX: usize = 1_000;

/// Something that people are to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Counts from 0 in the run: with the run's id the name under which it is sent once.
    pub number: u32,
    /// Since when it is so.
    pub at: Timestamp,
    /// What it is about.
    pub about: About,
    /// Equal for all runs that need the same looked at: of many, one is told in full.
    pub reason: String,
    /// The name of the connection.
    pub connection: String,
    /// Where it led when the run pinned it: nobody else is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
    /// A channel's name or id.
    pub channel: String,
    /// What to say.
    pub text: String,
}

/// See [`Notice::about`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum About {
    /// The run could not begin.
    Blocked,
    /// The run ends with a fault.
    Faulted,
    /// The run needs a person.
    Parked,
    /// A task with `bestEffort` failed, and the run goes on.
    Tolerated,
    /// What the run changed could not be taken back.
    RollbackIncomplete,
}

impl About {
    const fn in_words(self) -> &'static str {
        match self {
            Self::Blocked => "cannot begin",
            Self::Faulted => "failed",
            Self::Parked => "needs a person",
            Self::Tolerated => "went on without a task",
            Self::RollbackIncomplete => "could not take back everything",
        }
    }
}

impl State {
    /// Whether `onFault.notify` names somebody who can be told.
    pub(super) fn notifies(&self) -> bool {
        let target = self.workflow().extras.notify.as_ref();
        target.is_some_and(|target| self.facts().connections.contains_key(&target.connection))
    }

    /// What is to be told after `event`, if anything; the state is that after it.
    pub(super) fn notice_after(&self, event: &Event) -> Option<Notice> {
        let of_frame = |frame: &FrameId| self.call(*frame).map(|call| call.key.pointer.clone());
        let of_task = |task: &TaskIndex| Some(self.workflow().task(*task).pointer.clone());
        let (at, about, task, fault) = match event {
            Event::Parked { frame, at, reason, .. } => (*at, About::Parked, of_frame(frame), reason.clone()),
            Event::Halted { at, fault } => (*at, About::Parked, fault.instance.clone(), fault.clone()),
            Event::RollbackIncomplete { at, reason, .. } => {
                (*at, About::RollbackIncomplete, reason.instance.clone(), reason.clone())
            }
            Event::Ending { at, ending: Ending::Faulted { fault }, .. } => {
                (*at, About::Faulted, fault.instance.clone(), fault.clone())
            }
            Event::Tolerated { task, fault, at: Some(at), .. } => (*at, About::Tolerated, of_task(task), fault.clone()),
            Event::Blocked { at, .. } => (*at, About::Blocked, None, blocked()),
            _ => return None,
        };
        self.notice(at, about, task.as_deref(), &fault)
    }

    fn notice(&self, at: Timestamp, about: About, task: Option<&str>, fault: &Fault) -> Option<Notice> {
        let target = self.workflow().extras.notify.as_ref()?;
        let connection = self.facts().connections.get(&target.connection)?.name.clone();
        let name = &self.workflow().document.name;
        let place = task.map(|task| format!(" at `{task}`")).unwrap_or_default();
        let detail = fault.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
        let run = self.facts().run;
        let text = format!("`{name}` {}{place}: `{}`{detail}\nbellhop runs show {run}", about.in_words(), fault.code());
        Some(Notice {
            number: self.notices_made,
            at,
            about,
            reason: format!("{name} {} {}{place}", about.in_words(), fault.code()),
            tenant: self.facts().tenants.get(&connection).cloned(),
            connection,
            channel: target.channel.clone(),
            text: self.facts().mask().text(&text).chars().take(TEXT_CHARS_MAX).collect(),
        })
    }
}

fn blocked() -> Fault {
    Fault::of_code(
        "preflight-refused",
        422,
        "preflight refuses the run; it begins by itself when what is missing is there",
    )
}
