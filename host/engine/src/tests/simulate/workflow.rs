//! Random definitions, as documents that go through the parser and its checks like anybody's.

use serde_json::{Value, json};

use super::dice::Dice;

/// Tasks of one definition, at most.
const TASKS_MAX: u32 = 9;
const DEPTH_MAX: u32 = 3;

struct Maker<'d> {
    dice: &'d mut Dice,
    made: u32,
    /// Users that the next call may take.
    users: u32,
    /// Waits that took it beyond a few minutes.
    in_loop: bool,
}

/// A definition of this number.
pub(super) fn definition(dice: &mut Dice, number: usize) -> Value {
    let mut extras = json!({});
    if dice.chance(50) {
        extras["onFault"]["rollback"] = json!("completed");
    }
    if dice.chance(25) {
        extras["onFault"]["notify"] = json!({"connection": "hq", "channel": "C0FAULTS"});
    }
    if dice.chance(35) {
        let policy = *dice.pick(&["queue", "reject", "supersede", "cancel"]);
        let group = *dice.pick(&["all", "${ .group }"]);
        let scope = *dice.pick(&["workflow", "namespace"]);
        extras["concurrency"] =
            json!({"group": group, "scope": scope, "whenFull": policy, "limit": dice.between(1, 2)});
    }
    let mut maker = Maker { dice, made: 0, users: 0, in_loop: false };
    let tasks = maker.list(0, 2, 4);
    json!({
        "document": {
            "dsl": "1.0.3", "namespace": "test", "name": format!("w{number}"), "version": "1.0.0",
            "metadata": {"bellhop": extras},
        },
        "do": tasks,
    })
}

impl Maker<'_> {
    fn list(&mut self, depth: u32, from: u64, to: u64) -> Value {
        let count = self.dice.between(from, to);
        let tasks: Vec<Value> = (0..count).map(|_| self.task(depth)).collect();
        Value::Array(tasks)
    }

    fn task(&mut self, depth: u32) -> Value {
        self.made += 1;
        let name = format!("t{}", self.made);
        let leaf = depth >= DEPTH_MAX || self.made >= TASKS_MAX;
        let mut task = match self.dice.below(if leaf { 14 } else { 24 }) {
            0 => json!({"set": {"n": 1, "users": "${ .users }", "group": "${ .group }"}}),
            1 => self.wait(),
            2 => self.raise(),
            3..=13 => self.call(),
            14 => json!({"do": self.list(depth + 1, 1, 3)}),
            15..=17 => self.fork(depth),
            18 | 19 => self.repeated(depth),
            20..=22 => self.careful(depth),
            _ => json!({"switch": [
                {"first": {"when": "${ .group == \"a\" }", "then": "continue"}},
                {"other": {"then": *self.dice.pick(&["continue", "exit"])}},
            ]}),
        };
        if self.dice.chance(8) {
            task["metadata"]["bellhop"]["bestEffort"] = json!(true);
        }
        if self.dice.chance(6) {
            task["metadata"]["bellhop"]["noRollbackAfter"] = json!(true);
        }
        if self.dice.chance(6) {
            task["timeout"] = json!({"after": {"milliseconds": self.dice.between(20, 9_000)}});
        }
        if self.dice.chance(6) {
            task["if"] = json!("${ .group == \"a\" }");
        }
        if task.get("switch").is_none() {
            // What comes after sees the run's own input, whatever a task gave.
            task["output"] = json!({"as": "${ $workflow.input + {did: .} }"});
        }
        json!({name: task})
    }

    fn wait(&mut self) -> Value {
        let wait = match self.dice.below(4) {
            0 => json!({"milliseconds": self.dice.between(1, 900)}),
            1 => json!({"seconds": self.dice.between(1, 90)}),
            2 => json!({"minutes": self.dice.between(1, 90)}),
            _ => json!({"seconds": self.dice.between(1, 9)}),
        };
        json!({"wait": wait})
    }

    fn raise(&mut self) -> Value {
        let status = *self.dice.pick(&[429, 403]);
        json!({"raise": {"error": {"type": "https://example.com/errors/raised", "status": status, "title": "raised"}}})
    }

    fn call(&mut self) -> Value {
        let actions = [
            "post.add",
            "post.add",
            "note.tell",
            "note.whisper",
            "topic.set",
            "member.add",
            "member.add",
            "channel.join",
            "channel.join",
            "pair.add",
            "many.tell",
            "fail.early",
            "fail.late",
        ];
        let action = if self.dice.chance(2) { "wild.tell" } else { *self.dice.pick(&actions) };
        let user = format!("${{ .users[{}] }}", self.users);
        // Now and then somebody who is there already.
        if self.dice.chance(85) {
            self.users += 1;
        }
        let mut with = json!({
            "connection": "hq", "channel": *self.dice.pick(&["C01", "C02"]),
            "usergroup": *self.dice.pick(&["S01", "S02"]),
            "user": user, "text": format!("t{}", self.made), "until": self.dice.between(1, 4),
        });
        if self.in_loop {
            with["item"] = json!("${ $who }");
        }
        let mut call = json!({"call": format!("{action}:1@sim"), "with": with});
        if self.dice.chance(8) {
            // An attempt that comes to something else in its place sends that.
            call["metadata"]["bellhop"]["onRetry"] = json!("again");
            call["with"]["text"] = json!(format!("t{} again", self.made));
        }
        if self.dice.chance(8) {
            // Whoever says this takes it twice rather than not at all.
            call["metadata"]["bellhop"]["onUnknown"] = json!("resend");
            call["with"]["text"] = json!(format!("{} resend", call["with"]["text"].as_str().unwrap_or_default()));
        }
        if action == "post.add" && self.dice.chance(15) {
            call["metadata"]["bellhop"]["compensate"] = json!("post.remove:1@sim");
        }
        call
    }

    fn fork(&mut self, depth: u32) -> Value {
        let count = self.dice.between(2, 3);
        let branches: Vec<Value> = (0..count).map(|_| self.task(depth + 1)).collect();
        json!({"fork": {"compete": self.dice.chance(35), "branches": branches}})
    }

    fn repeated(&mut self, depth: u32) -> Value {
        let outer = std::mem::replace(&mut self.in_loop, true);
        let tasks = self.list(depth + 1, 1, 2);
        self.in_loop = outer;
        let mut task = json!({"for": {"each": "who", "in": "${ [1, 2, 3] }"}, "do": tasks});
        if self.dice.chance(60) {
            task["metadata"]["bellhop"]["concurrency"] = json!(self.dice.between(1, 3));
            if self.dice.chance(40) {
                task["metadata"]["bellhop"]["onItemError"] = json!("collect");
            }
        }
        task
    }

    fn careful(&mut self, depth: u32) -> Value {
        let tasks = self.list(depth + 1, 1, 2);
        let mut catch = json!({});
        if self.dice.chance(70) {
            let backoff = *self.dice.pick(&["constant", "linear", "exponential"]);
            catch["retry"] = json!({
                "delay": {"milliseconds": self.dice.between(0, 3_000)}, "backoff": {backoff: {}},
                "limit": {"attempt": {"count": self.dice.between(1, 3)}},
            });
        }
        if self.dice.chance(40) {
            catch["errors"] = json!({"with": {"status": 429}});
        }
        if self.dice.chance(50) {
            catch["do"] = self.list(depth + 1, 1, 1);
        } else if catch.get("retry").is_none() {
            catch["do"] = json!([{format!("c{}", self.made): {"set": {"caught": true}}}]);
        }
        json!({"try": tasks, "catch": catch})
    }
}
