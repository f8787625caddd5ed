//! A message, found by the key that the host put into it.

use serde_json::{Value, json};

use super::{End, PAGE_SIZE, Question, Read, Request, Rule, Verdict, earliest, request, stamp, text};

pub(super) struct Message {
    arguments: Value,
    key: String,
    oldest: String,
    /// As the call named it, then as the conversation that `conversations.open` gave.
    channel: Option<String>,
    thread: Option<String>,
    opening: bool,
}

impl Message {
    pub(super) fn of(question: &Question<'_>) -> Self {
        let at = earliest(question.intent_at).as_millis();
        Self {
            arguments: question.arguments.clone(),
            key: question.key.to_owned(),
            oldest: format!("{}.{:06}", at / 1000, at % 1000 * 1000),
            channel: text(question.arguments, "channel").map(str::to_owned),
            thread: text(question.arguments, "thread_ts").map(str::to_owned),
            opening: false,
        }
    }

    fn list(&self, channel: &str) -> Request {
        let (method, arguments) = conversation(channel, self.thread.as_deref(), (self.oldest.clone(), None));
        request(method, arguments, &self.arguments)
    }
}

/// What reads the messages of a conversation, or of a thread in it, from a time on and up to another one.
pub(super) fn conversation(
    channel: &str,
    thread: Option<&str>,
    (oldest, latest): (String, Option<String>),
) -> (&'static str, Value) {
    let mut arguments = json!({
        "channel": channel,
        "oldest": oldest,
        "inclusive": true,
        "include_all_metadata": true,
        "limit": PAGE_SIZE,
    });
    if let Some(latest) = latest {
        arguments["latest"] = latest.into();
    }
    match thread {
        // A reply is not in the channel's history.
        Some(ts) => {
            arguments["ts"] = ts.into();
            ("conversations.replies", arguments)
        }
        None => ("conversations.history", arguments),
    }
}

/// Whether a message carries the key.
pub(super) fn is_ours(message: &Value, key: &str) -> bool {
    let stamped = message.pointer("/metadata/event_payload").and_then(|p| p.get(stamp::FIELD));
    stamped.and_then(Value::as_str) == Some(key)
}

impl Rule for Message {
    fn begin(&mut self) -> Result<Request, Verdict> {
        let channel = self.channel.clone().unwrap_or_default();
        match channel.as_bytes().first() {
            Some(b'C' | b'G' | b'D') => Ok(self.list(&channel)),
            // A person: the message is in the direct conversation, which opening names (and at worst makes, empty).
            Some(b'U' | b'W') => {
                self.opening = true;
                Ok(request("conversations.open", json!({"users": channel}), &self.arguments))
            }
            _ => Err(Verdict::CannotTell(format!("`{channel}` is not the id of a conversation"))),
        }
    }

    fn read(&mut self, body: &Value) -> Read {
        if self.opening {
            return match body.pointer("/channel/id").and_then(Value::as_str) {
                Some(id) => {
                    self.channel = Some(id.to_owned());
                    Read::On
                }
                None => Read::Decided(Verdict::CannotTell("the direct conversation has no id".to_owned())),
            };
        }
        let Some(messages) = body.get("messages").and_then(Value::as_array) else {
            return Read::Decided(Verdict::CannotTell("the answer has no messages".to_owned()));
        };
        match messages.iter().find(|m| is_ours(m, &self.key)) {
            Some(ours) => Read::Decided(Verdict::Found(json!({
                "ok": true,
                "channel": self.channel,
                "ts": ours.get("ts"),
                "message": ours,
            }))),
            None => Read::On,
        }
    }

    fn end(&mut self) -> End {
        if self.opening {
            self.opening = false;
            let channel = self.channel.clone().unwrap_or_default();
            return End::Ask(self.list(&channel));
        }
        End::Decided(Verdict::Absent)
    }
}
