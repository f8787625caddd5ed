//! What people are told of by `onFault.notify`.

use serde::{Deserialize, Serialize};

use super::event::{Ending, Event, FrameId};
use super::state::State;
use crate::definition::TaskIndex;
use crate::fault::Fault;
use crate::requirement::Tenant;
use crate::text::plain;
use crate::time::Timestamp;

/// So much of a name, a place or a code is said, in characters.
const NAME_CHARS_MAX: usize = 200;
/// So much of what went wrong is said, in characters: the run itself has all of it.
const DETAIL_CHARS_MAX: usize = 600;

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
    /// What to say, in Slack's form. What others wrote in it stands in code spans and names nobody.
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
        let run = self.facts().run;
        // What is hidden is looked for in what was written, and not in what that was made into.
        let mask = self.facts().mask();
        let quoted = |text: &str, chars_max: usize| quoted(&mask.text(text), chars_max);
        let said_at = task.map(|task| format!(" at {}", quoted(task, NAME_CHARS_MAX))).unwrap_or_default();
        let said_of = fault.detail.as_deref().filter(|detail| !detail.is_empty());
        let said_of = said_of.map(|detail| format!(": {}", quoted(detail, DETAIL_CHARS_MAX))).unwrap_or_default();
        let text = format!(
            "{} {}{said_at}: {}{said_of}\nbellhop runs show {run}",
            quoted(&name.to_string(), NAME_CHARS_MAX),
            about.in_words(),
            quoted(fault.code(), NAME_CHARS_MAX),
        );
        let place = task.map(|task| format!(" at `{task}`")).unwrap_or_default();
        Some(Notice {
            number: self.notices_made,
            at,
            about,
            reason: format!("{name} {} {}{place}", about.in_words(), fault.code()),
            tenant: self.facts().tenants.get(&connection).cloned(),
            connection,
            channel: target.channel.clone(),
            text,
        })
    }
}

/// A text of somebody else's in a message of the host's: one line, of at most so many characters, in a code span, where
/// Slack makes nothing of addresses, marks and names. None of its characters begins a mention, a link or an end of the span.
fn quoted(text: &str, chars_max: usize) -> String {
    let text = plain(text);
    let cut = text.char_indices().nth(chars_max).map_or(text.len(), |(end, _)| end);
    let mut shown = String::with_capacity(cut + 2);
    shown.push('`');
    for c in text[..cut].chars() {
        match c {
            '&' => shown.push_str("&amp;"),
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '`' => shown.push('\''),
            c => shown.push(c),
        }
    }
    if cut < text.len() {
        shown.push('…');
    }
    shown.push('`');
    shown
}

fn blocked() -> Fault {
    Fault::of_code("preflight-refused", "preflight refuses the run; it begins by itself when what is missing is there")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_d24_what_others_wrote_pings_nobody_and_leads_nowhere() {
        for (text, shown) in [
            ("<!channel> & <@U0BOSS>", "`&lt;!channel&gt; &amp; &lt;@U0BOSS&gt;`"),
            ("<https://evil.example|your bank>", "`&lt;https://evil.example|your bank&gt;`"),
            ("a `b` *c*", "`a 'b' *c*`"),
            ("one\ntwo\r\u{202e}three", "`one\\u{a}two\\u{d}\\u{202e}three`"),
            ("", "``"),
        ] {
            assert_eq!(quoted(text, 100), shown);
        }
        // A cut comes before what is written for a character, and never in it.
        assert_eq!(quoted("&&&&&", 3), "`&amp;&amp;&amp;…`");
        assert_eq!(quoted("éé", 2), "`éé`");
    }
}
