//! A Slack of a few methods: what it keeps, what it answers, and the list of everything that it ever changed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::dice::Dice;

/// Of a list so many are given at once.
const PAGE: usize = 3;

/// A change, or an attempt at one that changed nothing.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fact {
    /// A message stands.
    Message { channel: String, ts: String, text: String },
    /// A message that only one person saw.
    Whisper { text: String },
    /// A message is gone.
    Deleted { ts: String },
    /// A group's members were replaced: who came, who went.
    Group { group: String, came: Vec<String>, went: Vec<String> },
    /// Somebody is in a channel.
    Joined { channel: String, user: String },
    /// Somebody is not in it any more.
    Left { channel: String, user: String },
    /// A channel's topic.
    Topic { channel: String, topic: String },
}

/// A line of the ledger.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    /// In the world's time.
    pub(super) at_ms: u64,
    /// The key that a message carries.
    pub(super) stamp: Option<String>,
    pub(super) fact: Fact,
    /// Whether anything is different now.
    pub(super) changed: bool,
}

struct Message {
    ts: String,
    at_us: u64,
    text: String,
    metadata: Value,
}

/// What Slack keeps.
#[derive(Default)]
pub(super) struct Slack {
    messages: BTreeMap<String, Vec<Message>>,
    members: BTreeMap<String, BTreeSet<String>>,
    groups: BTreeMap<String, BTreeSet<String>>,
    topics: BTreeMap<String, String>,
    pub(super) ledger: Vec<Line>,
    before: Vec<(String, String)>,
    made: u64,
}

fn text(arguments: &Value, name: &str) -> String {
    arguments[name].as_str().unwrap_or_default().to_owned()
}

/// Microseconds of a message's name.
fn micros(ts: &str) -> u64 {
    let (seconds, rest) = ts.split_once('.').unwrap_or((ts, "0"));
    seconds.parse::<u64>().unwrap_or(0) * 1_000_000 + rest.parse::<u64>().unwrap_or(0)
}

impl Slack {
    pub(super) fn new(seed: u64) -> Self {
        let mut slack = Self::default();
        let mut dice = Dice::of(seed, "before");
        for place in ["S01", "S02", "C01", "C02"] {
            let all = if place.starts_with('S') { &mut slack.groups } else { &mut slack.members };
            let users = all.entry(place.to_owned()).or_default();
            users.insert("U0ADMIN".to_owned());
            for run in 0..4 {
                if dice.chance(20) {
                    users.insert(format!("U{run}{}X", dice.below(3)));
                }
            }
            slack.before.extend(users.iter().map(|user| (place.to_owned(), user.clone())));
        }
        slack
    }

    /// Who was where before anything ran, and is not there any more.
    pub(super) fn missing(&self) -> Vec<(String, String)> {
        let is_there =
            |(place, user): &&(String, String)| self.is_in_group(place, user) || self.is_in_channel(place, user);
        self.before.iter().filter(|one| !is_there(one)).cloned().collect()
    }

    pub(super) fn is_in_group(&self, group: &str, user: &str) -> bool {
        self.groups.get(group).is_some_and(|users| users.contains(user))
    }

    pub(super) fn is_in_channel(&self, channel: &str, user: &str) -> bool {
        self.members.get(channel).is_some_and(|users| users.contains(user))
    }

    pub(super) fn stands(&self, channel: &str, ts: &str) -> bool {
        self.messages.get(channel).is_some_and(|messages| messages.iter().any(|m| m.ts == ts))
    }

    /// Whether a message with this key was ever accepted.
    pub(super) fn accepted(&self, stamp: &str) -> bool {
        self.ledger.iter().any(|line| line.stamp.as_deref() == Some(stamp))
    }

    fn line(&mut self, at_ms: u64, stamp: Option<String>, fact: Fact, changed: bool) {
        self.ledger.push(Line { at_ms, stamp, fact, changed });
    }

    /// Carries out a request and gives the body, or Slack's error.
    pub(super) fn carry_out(&mut self, method: &str, arguments: &Value, at_ms: u64) -> Result<Value, &'static str> {
        match method {
            "chat.postMessage" => Ok(self.post(arguments, at_ms)),
            "chat.postEphemeral" => {
                self.line(at_ms, None, Fact::Whisper { text: text(arguments, "text") }, true);
                Ok(json!({"ok": true, "message_ts": "1.1"}))
            }
            "chat.delete" => {
                let (channel, ts) = (text(arguments, "channel"), text(arguments, "ts"));
                let messages = self.messages.entry(channel).or_default();
                let before = messages.len();
                messages.retain(|m| m.ts != ts);
                let gone = messages.len() < before;
                self.line(at_ms, None, Fact::Deleted { ts: ts.clone() }, gone);
                if gone { Ok(json!({"ok": true, "ts": ts})) } else { Err("message_not_found") }
            }
            "conversations.history" => Ok(self.history(arguments)),
            "conversations.members" => {
                let members = self.members.get(&text(arguments, "channel")).cloned().unwrap_or_default();
                let members = members.into_iter().map(|user| (user.clone(), Value::from(user)));
                Ok(page("members", members.collect(), arguments))
            }
            "conversations.invite" => {
                let (channel, user) = (text(arguments, "channel"), text(arguments, "users"));
                let changed = self.members.entry(channel.clone()).or_default().insert(user.clone());
                self.line(at_ms, None, Fact::Joined { channel: channel.clone(), user }, changed);
                if changed { Ok(json!({"ok": true, "channel": {"id": channel}})) } else { Err("already_in_channel") }
            }
            "conversations.kick" => {
                let (channel, user) = (text(arguments, "channel"), text(arguments, "user"));
                let changed = self.members.entry(channel.clone()).or_default().remove(&user);
                self.line(at_ms, None, Fact::Left { channel, user }, changed);
                if changed { Ok(json!({"ok": true})) } else { Err("not_in_channel") }
            }
            "conversations.setTopic" => {
                let (channel, topic) = (text(arguments, "channel"), text(arguments, "topic"));
                let changed = self.topics.insert(channel.clone(), topic.clone()).as_ref() != Some(&topic);
                self.line(at_ms, None, Fact::Topic { channel, topic }, changed);
                Ok(json!({"ok": true}))
            }
            "usergroups.users.list" => {
                let users: Vec<&String> =
                    self.groups.get(&text(arguments, "usergroup")).into_iter().flatten().collect();
                Ok(json!({"ok": true, "users": users}))
            }
            "usergroups.users.update" => {
                let group = text(arguments, "usergroup");
                let now: BTreeSet<String> = match &arguments["users"] {
                    Value::Array(users) => users.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                    _ => text(arguments, "users").split(',').map(str::to_owned).collect(),
                };
                let before = self.groups.insert(group.clone(), now.clone()).unwrap_or_default();
                let came = now.difference(&before).cloned().collect();
                let went = before.difference(&now).cloned().collect();
                self.line(at_ms, None, Fact::Group { group: group.clone(), came, went }, now != before);
                Ok(json!({"ok": true, "usergroup": {"id": group, "users": now}}))
            }
            _ => Err("unknown_method"),
        }
    }

    fn post(&mut self, arguments: &Value, at_ms: u64) -> Value {
        self.made += 1;
        let at_us = at_ms * 1_000 + self.made % 1_000;
        let ts = format!("{}.{:06}", at_us / 1_000_000, at_us % 1_000_000);
        let (channel, said) = (text(arguments, "channel"), text(arguments, "text"));
        let metadata = arguments["metadata"].clone();
        let stamp = metadata.pointer("/event_payload/bellhop").and_then(Value::as_str).map(str::to_owned);
        self.line(at_ms, stamp, Fact::Message { channel: channel.clone(), ts: ts.clone(), text: said.clone() }, true);
        let answer = json!({"ok": true, "channel": channel, "ts": ts, "message": {"text": said, "ts": ts}});
        self.messages.entry(channel).or_default().push(Message { ts, at_us, text: said, metadata });
        answer
    }

    fn history(&self, arguments: &Value) -> Value {
        let oldest = micros(&text(arguments, "oldest"));
        let all = self.messages.get(&text(arguments, "channel")).into_iter().flatten().rev();
        let with_metadata = arguments["include_all_metadata"] == true;
        let shown = all.filter(|m| m.at_us >= oldest).map(|m| {
            let mut message = json!({"type": "message", "ts": m.ts, "text": m.text});
            if with_metadata {
                message["metadata"] = m.metadata.clone();
            }
            // The newest first.
            (format!("{:020}", u64::MAX - m.at_us), message)
        });
        page("messages", shown.collect(), arguments)
    }
}

/// A page of a list, and where the next one begins: behind an item, so that what comes and goes meanwhile hides no other.
fn page(name: &str, items: Vec<(String, Value)>, arguments: &Value) -> Value {
    let cursor = text(arguments, "cursor");
    let mut left = items.into_iter().filter(|(key, _)| cursor.is_empty() || *key > cursor);
    let shown: Vec<(String, Value)> = left.by_ref().take(PAGE).collect();
    let next = left.next().and_then(|_| shown.last()).map(|(key, _)| key.clone()).unwrap_or_default();
    let shown: Vec<Value> = shown.into_iter().map(|(_, value)| value).collect();
    json!({"ok": true, name: shown, "has_more": !next.is_empty(), "response_metadata": {"next_cursor": next}})
}
