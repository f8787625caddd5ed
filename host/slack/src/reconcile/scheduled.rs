//! A message for later: found in Slack's list of those that wait, and once it may have been posted, in its conversation by
//! the key that the host put into it.
//!
//! The list tells no keys. What is in it is ours where the same action had read the list before, and one message more is
//! there now with the channel, the time and the text of the call.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::message::{conversation, is_ours};
use super::{End, Question, Read, Request, Rule, SLACK_CLOCK_BEHIND_MS_MAX, Verdict, request, text};

/// Slack takes no more than 30 messages for five minutes of a channel: one page has all for one second.
const PAGE_SIZE: u32 = 100;
/// Posted by then, or Slack has let it go.
const POSTED_WITHIN_S: u64 = 3_600;

pub(super) struct Scheduled {
    arguments: Value,
    key: String,
    intent_at_s: u64,
    now_ms: u64,
    /// The ids that the same action had read before; none where it had read nothing.
    before: Option<BTreeSet<String>>,
    /// Those that fit, and were not there before.
    fit: BTreeSet<String>,
    /// One fits but for its text, which Slack may have written in another way.
    has_other: bool,
    /// The list is read, and the conversation is.
    is_posted: bool,
}

impl Scheduled {
    pub(super) fn of(question: &Question<'_>) -> Self {
        let list = question.before.and_then(|body| body["scheduled_messages"].as_array());
        Self {
            arguments: question.arguments.clone(),
            key: question.key.to_owned(),
            intent_at_s: question.intent_at.as_millis().saturating_sub(SLACK_CLOCK_BEHIND_MS_MAX) / 1_000,
            now_ms: question.now.as_millis(),
            before: list.map(|list| list.iter().filter_map(id_of).collect()),
            fit: BTreeSet::new(),
            has_other: false,
            is_posted: false,
        }
    }

    fn post_at_s(&self) -> Option<u64> {
        let given = &self.arguments["post_at"];
        given.as_u64().or_else(|| given.as_str()?.parse().ok())
    }

    /// Whether the call may have made it, as far as the text does not tell.
    fn is_candidate(&self, item: &Value) -> bool {
        let is_new = id_of(item).is_some_and(|id| self.before.as_ref().is_none_or(|ids| !ids.contains(&id)));
        let is_there = text(item, "channel_id") == text(&self.arguments, "channel");
        let is_young = item["date_created"].as_u64().is_none_or(|at| at >= self.intent_at_s);
        is_new && is_young && is_there && item["post_at"].as_u64() == self.post_at_s()
    }

    /// A message of blocks alone is listed with what Slack makes of them.
    fn has_text(&self, item: &Value) -> bool {
        text(&self.arguments, "text").is_none_or(|text| plain(item["text"].as_str()) == plain(Some(text)))
    }

    fn found(&self, id: Option<&str>, ts: Option<&Value>) -> Verdict {
        Verdict::Found(json!({
            "ok": true,
            "channel": self.arguments["channel"],
            "scheduled_message_id": id,
            "post_at": self.post_at_s(),
            "ts": ts,
        }))
    }
}

/// Slack's pages have it as text and as a number.
fn id_of(item: &Value) -> Option<String> {
    let id = &item["id"];
    id.as_str().map(str::to_owned).or_else(|| id.as_u64().map(|id| id.to_string()))
}

/// Slack gives `&`, `<` and `>` as entities, whichever way they were sent.
fn plain(text: Option<&str>) -> String {
    text.unwrap_or_default().replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").trim().to_owned()
}

impl Rule for Scheduled {
    fn begin(&mut self) -> Result<Request, Verdict> {
        let channel = text(&self.arguments, "channel").unwrap_or_default();
        if !channel.starts_with(['C', 'G', 'D']) {
            return Err(Verdict::CannotTell(format!("`{channel}` is not the id of a conversation")));
        }
        let Some(at) = self.post_at_s() else {
            return Err(Verdict::CannotTell("the call says no time in seconds".to_owned()));
        };
        // The bounds must differ (Slack's page of the method), and whether they belong to the range is not said.
        let (oldest, latest) = (at.saturating_sub(1), at.saturating_add(1));
        let arguments = json!({"channel": channel, "oldest": oldest, "latest": latest, "limit": PAGE_SIZE});
        Ok(request("chat.scheduledMessages.list", arguments, &self.arguments))
    }

    fn read(&mut self, body: &Value) -> Read {
        if self.is_posted {
            let Some(messages) = body["messages"].as_array() else {
                return Read::Decided(Verdict::CannotTell("the answer has no messages".to_owned()));
            };
            return match messages.iter().find(|message| is_ours(message, &self.key)) {
                Some(ours) => Read::Decided(self.found(None, ours.get("ts"))),
                None => Read::On,
            };
        }
        let Some(list) = body["scheduled_messages"].as_array() else {
            return Read::Decided(Verdict::CannotTell("the answer has no scheduled messages".to_owned()));
        };
        let candidates: Vec<&Value> = list.iter().filter(|item| self.is_candidate(item)).collect();
        let (fit, other): (Vec<&Value>, Vec<&Value>) = candidates.into_iter().partition(|item| self.has_text(item));
        self.fit.extend(fit.into_iter().filter_map(id_of));
        self.has_other |= !other.is_empty();
        Read::On
    }

    fn end(&mut self) -> End {
        let post_at_ms = self.post_at_s().unwrap_or_default().saturating_mul(1_000);
        let may_be_posted = self.now_ms.saturating_add(SLACK_CLOCK_BEHIND_MS_MAX) >= post_at_ms;
        if self.is_posted {
            let why = "it is neither among the messages that wait nor in the conversation, and its time has come";
            return End::Decided(Verdict::CannotTell(why.to_owned()));
        }
        let mut fit = self.fit.iter();
        match (fit.next(), fit.next()) {
            (Some(id), None) if self.before.is_some() => End::Decided(self.found(Some(id), None)),
            (Some(_), None) => {
                let why =
                    "a message that waits fits, and another call may have made it: the action had not read the list";
                End::Decided(Verdict::CannotTell(why.to_owned()))
            }
            (Some(_), Some(_)) => {
                End::Decided(Verdict::CannotTell("several messages that wait fit the call".to_owned()))
            }
            (None, _) if self.has_other => {
                let why = "a new message waits there for the same time, with another text than the call's";
                End::Decided(Verdict::CannotTell(why.to_owned()))
            }
            (None, _) if may_be_posted => {
                self.is_posted = true;
                let (from_s, channel) = (post_at_ms / 1_000, text(&self.arguments, "channel").unwrap_or_default());
                let span = (format!("{from_s}.000000"), Some(format!("{}.000000", from_s + POSTED_WITHIN_S)));
                let thread = text(&self.arguments, "thread_ts");
                let (method, arguments) = conversation(channel, thread, span);
                End::Ask(request(method, arguments, &self.arguments))
            }
            (None, _) => End::Decided(Verdict::Absent),
        }
    }
}
