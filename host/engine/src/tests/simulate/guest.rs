//! A plugin without a component: its actions are deterministic programs over their input and the answers to their calls,
//! as a guest's are, written here.

use std::sync::Arc;
use std::time::Duration;

use bellhop_core::manifest::Manifest;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::dice::Dice;
use super::world::{GuestSpan, World, short};
use crate::setup::plugins::Script;
use bellhop_sandbox::{Host, Trap};

/// Its manifest.
pub(super) fn manifest() -> Manifest {
    let action = |name: &str, effect: &str, calls: &[&str], inverse: Option<&str>, exclusive: &[&str]| {
        let methods: Vec<Value> = calls.iter().map(|f| json!({"function": f, "when": "maybe"})).collect();
        let keys: Vec<Value> = exclusive.iter().map(|k| json!({"name": k, "fields": [format!("/{k}")]})).collect();
        json!({
            "name": name, "title": name, "description": name, "input": {"type": "object"}, "output": {},
            "effect": effect, "inverse": inverse, "exclusive": keys,
            "errors": [{"code": "busy", "status": 429, "description": "busy"}, {"code": "refused", "status": 403, "description": "refused"}],
            "calls": [{"on": ["workspace"], "methods": methods}],
        })
    };
    let actions = json!([
        action("post.add", "create", &["chat.post-message"], Some("post.remove"), &[]),
        action("post.remove", "delete", &["chat.delete"], None, &[]),
        action("note.tell", "notify", &["chat.post-message"], None, &[]),
        action("note.whisper", "notify", &["chat.post-ephemeral"], None, &[]),
        action("topic.set", "update", &["conversations.set-topic"], None, &[]),
        action(
            "member.add",
            "update",
            &["usergroups-users.list", "usergroups-users.update"],
            Some("member.remove"),
            &["usergroup"]
        ),
        action("member.remove", "delete", &["usergroups-users.list", "usergroups-users.update"], None, &["usergroup"]),
        action(
            "channel.join",
            "update",
            &["conversations.members", "conversations.invite"],
            Some("channel.leave"),
            &[]
        ),
        action("channel.leave", "delete", &["conversations.kick"], None, &[]),
        action(
            "pair.add",
            "create",
            &["conversations.members", "conversations.invite", "chat.post-message"],
            Some("pair.remove"),
            &[]
        ),
        action("pair.remove", "delete", &["conversations.kick", "chat.delete"], None, &[]),
        action("wild.tell", "notify", &["chat.post-message"], None, &[]),
        action("many.tell", "notify", &["chat.post-message", "conversations.members"], None, &[]),
        action("fail.early", "update", &[], None, &[]),
        action("fail.late", "create", &["chat.post-message"], Some("post.remove"), &[]),
    ]);
    serde_json::from_value(json!({"publisher": "tests", "name": "sim", "version": "1.0.0", "actions": actions}))
        .unwrap()
}

/// Runs them.
pub(super) struct Guests {
    pub(super) world: Arc<World>,
}

type Ended = Result<Result<String, String>, Trap>;

/// One call of one action.
struct Action {
    world: Arc<World>,
    host: Box<dyn Host>,
    input: Value,
    name: String,
    /// Counts all calls of actions.
    place: usize,
    task: String,
    attempt: u64,
    state: Option<Value>,
}

/// An error of a call, passed on; or the end of the guest.
enum Stop {
    Error(String),
    Trap(Trap),
}

impl Script for Guests {
    fn run(&self, action: &str, input: &str, host: Box<dyn Host>) -> BoxFuture<'static, Ended> {
        let request: Value = serde_json::from_str(input).unwrap();
        let text = |pointer: &str| request.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (run, task) = (text("/context/run"), text("/context/execution"));
        let world = self.world.clone();
        let place = {
            let mut state = world.lock();
            let arguments = format!("{action} {}", request["input"]);
            let known = state.inputs.entry((run.clone(), task.clone())).or_insert_with(|| arguments.clone()).clone();
            let span =
                GuestSpan { run: run.clone(), task: task.clone(), began_ms: world.time.true_ms(), ended_ms: None };
            state.ended_guests.push(span);
            let place = state.ended_guests.len() - 1;
            drop(state);
            if known != arguments {
                world.broken(format!("two executions share the key {run} {task}: {known} and {arguments}"));
            }
            place
        };
        let attempt = request["context"]["attempt"].as_u64().unwrap_or(0);
        world.say(format!("guest {} {task} {action} attempt {attempt}", short(run.parse().unwrap())));
        let mut act = Action {
            world: world.clone(),
            host,
            input: request["input"].clone(),
            name: action.to_owned(),
            place,
            task,
            attempt,
            state: request.get("state").cloned(),
        };
        Box::pin(async move {
            let began = {
                let mut dice = Dice::of(world.seed, format!("guest {run} {} {place}", act.task));
                (dice.below(20), dice.chance(world.swarm.slow_guest) && !world.lock().calm)
            };
            tokio::time::sleep(Duration::from_millis(began.0)).await;
            if began.1 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                return Err(Trap::Cpu { ms_max: 1_000 });
            }
            let ended = act.act().await;
            let now = world.time.true_ms();
            world.lock().ended_guests[place].ended_ms = Some(now);
            match ended {
                Ok(done) => Ok(Ok(done.to_string())),
                Err(Stop::Error(error)) => Ok(Err(error)),
                Err(Stop::Trap(trap)) => Err(trap),
            }
        })
    }
}

fn changed(output: &Value, undo: Option<(&str, Value)>) -> Value {
    let mut done = json!({"output": output, "changed": true});
    if let Some((action, input)) = undo {
        done["undo"] = json!({"action": action, "input": input});
    }
    done
}

fn unchanged(output: &Value) -> Value {
    json!({"output": output, "changed": false})
}

fn error(code: &str) -> Stop {
    Stop::Error(json!({"code": code, "message": "as the script says", "class": "retry"}).to_string())
}

/// Slack's own word in an error of a call.
fn said(error: &str) -> String {
    let error: Value = serde_json::from_str(error).unwrap_or_default();
    error.pointer("/slack/error").and_then(Value::as_str).unwrap_or_default().to_owned()
}

impl Action {
    fn field(&self, name: &str) -> String {
        self.input[name].as_str().unwrap_or_default().to_owned()
    }

    async fn call(&mut self, function: &str, arguments: Value) -> Result<Value, Stop> {
        match self.host.call(function, arguments.to_string()).await {
            Ok(Ok(text)) => Ok(serde_json::from_str(&text).unwrap_or(Value::Null)),
            Ok(Err(text)) => Err(Stop::Error(text)),
            Err(halt) => Err(Stop::Trap(Trap::Halted(halt))),
        }
    }

    async fn act(&mut self) -> Result<Value, Stop> {
        let action = self.name.clone();
        match action.as_str() {
            "post.add" | "note.tell" => {
                let (channel, ts) = self.post("").await?;
                let undo = (action == "post.add").then(|| ("post.remove", json!({"channel": channel, "ts": ts})));
                Ok(changed(&json!({"messages": [[channel, ts]]}), undo))
            }
            "post.remove" => {
                self.delete().await?;
                Ok(changed(&json!({}), None))
            }
            // Not the same program each time.
            "wild.tell" => {
                let (channel, ts) = self.post(&format!(" try {}", self.place)).await?;
                Ok(changed(&json!({"messages": [[channel, ts]]}), None))
            }
            "note.whisper" => {
                let text = format!("{} {}", self.field("text"), self.task);
                let arguments = json!({"channel": self.field("channel"), "user": "U0ADMIN", "text": text});
                self.call("chat.post-ephemeral", arguments).await?;
                Ok(changed(&json!({}), None))
            }
            "topic.set" => {
                let arguments = json!({"channel": self.field("channel"), "topic": self.field("text")});
                self.call("conversations.set-topic", arguments).await?;
                Ok(changed(&json!({}), None))
            }
            "member.add" | "member.remove" => self.member(action == "member.add").await,
            // Without looking first: Slack says who is there already.
            "channel.join" => match self.invite().await? {
                false => Ok(unchanged(&json!({}))),
                true => {
                    let place = json!({"channel": self.field("channel"), "user": self.field("user")});
                    let output = json!({"joined": [[place["channel"], place["user"]]]});
                    Ok(changed(&output, Some(("channel.leave", place))))
                }
            },
            "channel.leave" => {
                let left = self.leave().await?;
                Ok(if left { changed(&json!({}), None) } else { unchanged(&json!({})) })
            }
            "pair.add" => {
                let joined = self.join().await?;
                let (channel, ts) = self.post("").await?;
                let mut output = json!({"messages": [[channel, ts]]});
                let mut undo = json!({"channel": channel, "ts": ts});
                if joined {
                    output["joined"] = json!([[channel, self.field("user")]]);
                    undo["user"] = json!(self.field("user"));
                }
                Ok(changed(&output, Some(("pair.remove", undo))))
            }
            "pair.remove" => {
                self.delete().await?;
                if self.input.get("user").is_some() {
                    self.leave().await?;
                }
                Ok(changed(&json!({}), None))
            }
            "many.tell" => {
                let mut posted = self.state.clone().unwrap_or_else(|| json!([]));
                let number = posted.as_array().map_or(0, Vec::len);
                if number == 3 {
                    return Ok(changed(&json!({"messages": posted}), None));
                }
                // A read in every slice, so that a slice is more than its write.
                self.call("conversations.members", json!({"channel": self.field("channel")})).await?;
                // Some fail in their third slice: what the two before wrote is in the ledger, and a retry finds it.
                if number == 2 && self.attempt + 2 < self.input["until"].as_u64().unwrap_or(1) {
                    return Err(error("busy"));
                }
                let (channel, ts) = self.post(&format!(" part {number}")).await?;
                if let Some(list) = posted.as_array_mut() {
                    list.push(json!([channel, ts]));
                }
                Ok(json!({"again": posted}))
            }
            "fail.early" => {
                if self.attempt >= self.input["until"].as_u64().unwrap_or(1) {
                    return Ok(unchanged(&json!({})));
                }
                Err(error("busy"))
            }
            "fail.late" => {
                let (channel, ts) = self.post("").await?;
                if self.attempt >= self.input["until"].as_u64().unwrap_or(1) {
                    let undo = json!({"channel": channel, "ts": ts});
                    return Ok(changed(&json!({"messages": [[channel, ts]]}), Some(("post.remove", undo))));
                }
                Err(error("busy"))
            }
            _ => Err(error("no-such-action")),
        }
    }

    async fn post(&mut self, more: &str) -> Result<(String, String), Stop> {
        let channel = self.field("channel");
        let text = format!("{} {} {}{more}", self.name, self.field("text"), self.task);
        let answer = self.call("chat.post-message", json!({"channel": channel, "text": text.clone()})).await?;
        let ts = answer["ts"].as_str().unwrap_or_default().to_owned();
        if ts.is_empty() || answer["message"]["text"] != *text {
            self.world.broken(format!("{} asked for {text}, and was answered {answer}", self.task));
        }
        Ok((channel, ts))
    }

    async fn delete(&mut self) -> Result<(), Stop> {
        let arguments = json!({"channel": self.field("channel"), "ts": self.field("ts")});
        match self.call("chat.delete", arguments).await {
            Err(Stop::Error(text)) if said(&text) == "message_not_found" => Ok(()),
            other => other.map(drop),
        }
    }

    /// Every page of a channel's members, then the person among them. Whether anything changed.
    async fn join(&mut self) -> Result<bool, Stop> {
        let (channel, user) = (self.field("channel"), self.field("user"));
        let mut cursor = String::new();
        loop {
            let page = self.call("conversations.members", json!({"channel": channel, "cursor": cursor})).await?;
            if page["members"].as_array().is_some_and(|m| m.iter().any(|m| *m == *user)) {
                return Ok(false);
            }
            cursor = page["response_metadata"]["next_cursor"].as_str().unwrap_or_default().to_owned();
            if cursor.is_empty() {
                break;
            }
        }
        self.invite().await
    }

    async fn invite(&mut self) -> Result<bool, Stop> {
        let (channel, user) = (self.field("channel"), self.field("user"));
        match self.call("conversations.invite", json!({"channel": channel, "users": user})).await {
            Err(Stop::Error(text)) if said(&text) == "already_in_channel" => Ok(false),
            other => other.map(|_| true),
        }
    }

    async fn leave(&mut self) -> Result<bool, Stop> {
        let arguments = json!({"channel": self.field("channel"), "user": self.field("user")});
        match self.call("conversations.kick", arguments).await {
            Err(Stop::Error(text)) if said(&text) == "not_in_channel" => Ok(false),
            other => other.map(|_| true),
        }
    }

    async fn member(&mut self, adds: bool) -> Result<Value, Stop> {
        let (group, user) = (self.field("usergroup"), self.field("user"));
        let list = self.call("usergroups-users.list", json!({"usergroup": group, "include_disabled": true})).await?;
        let mut users: Vec<String> =
            list["users"].as_array().into_iter().flatten().filter_map(|u| Some(u.as_str()?.to_owned())).collect();
        if users.contains(&user) == adds {
            return Ok(unchanged(&json!({})));
        }
        if adds {
            users.push(user.clone());
        } else {
            users.retain(|u| *u != user);
        }
        users.sort();
        self.call("usergroups-users.update", json!({"usergroup": group, "users": users.join(",")})).await?;
        let undo = adds.then(|| ("member.remove", json!({"usergroup": group, "user": user})));
        Ok(changed(&if adds { json!({"members": [[group, user]]}) } else { json!({}) }, undo))
    }
}
