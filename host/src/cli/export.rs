//! `bellhop runs export`: everything that is on record of runs, one JSON object a line.
//!
//! The lines of a run stand together, and each names its run. First `{"record": "run", …}`, the run as it stands; then one
//! `{"record": "event", …}` for each thing that happened, in order, of which `run.accepted` says who asked for it, with
//! which input, and what the run is bound to (definition, plugins, grants, tables, connections); and after the event that
//! ends it, one `{"record": "effect", …}` for each change that was sent to Slack, with what became of it. What a
//! definition calls sensitive is masked, as everywhere.
//!
//! Runs and events are read page by page: however many there are, no more than a page is held.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Map, Value, json};

use super::Context;
use super::browse;
use super::flags::Which;
use super::http::{Client, query};
use super::one_run::{self, events};
use super::output::{Exit, Failure};

/// Runs of one page.
const RUNS: usize = 100;
/// Calls of one run that may be open at a time; of more nothing is said but their events.
const OPEN_MAX: usize = 10_000;

/// `bellhop runs export`
#[derive(Debug, Args)]
pub(super) struct Export {
    /// These runs, in this order; all where none is named
    #[arg(value_name = "RUN", conflicts_with_all = ["status", "workflow", "label"])]
    ids: Vec<String>,
    #[command(flatten)]
    which: Which,
}

pub(super) fn run(wanted: &Export, context: &Context) -> Result<Exit, Failure> {
    let client = Client::new(context)?;
    for id in &wanted.ids {
        let run = client.get(&one_run::address(id))?.body;
        one(context, &client, &run)?;
    }
    if !wanted.ids.is_empty() {
        return Ok(Exit::Done);
    }
    let filters = wanted.which.filters()?;
    let (limit, mut cursor) = (RUNS.to_string(), None::<String>);
    loop {
        let filters = filters.iter().map(|(name, value)| (*name, value.as_str()));
        let place = cursor.as_deref().map(|cursor| ("cursor", cursor));
        let path = format!("/v1/runs{}", query(filters.chain(place).chain([("limit", limit.as_str())])));
        let page = client.get(&path)?.body;
        for listed in page.get("result").and_then(Value::as_array).into_iter().flatten() {
            if listed.get("cut").is_none() {
                one(context, &client, listed)?;
                continue;
            }
            // What is too large for a list is on record all the same.
            match client.get(&one_run::address(&browse::text(listed, "id"))) {
                Ok(run) => one(context, &client, &run.body)?,
                // Its time was up while the list was read.
                Err(failure) if failure.exit == Exit::Missing => {}
                Err(failure) => return Err(failure),
            }
        }
        cursor = page.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
        if cursor.is_none() {
            return Ok(Exit::Done);
        }
    }
}

fn one(context: &Context, client: &Client, run: &Value) -> Result<(), Failure> {
    let id = browse::text(run, "id");
    let mut shown = run.as_object().cloned().unwrap_or_default();
    shown.remove("links");
    context.out.json_line(&line("run", None, shown));
    let mut effects = Effects::default();
    let read = events(client, &id, &mut |event| {
        let fields = event.as_object().cloned().unwrap_or_default();
        context.out.json_line(&line("event", Some(&id), fields));
        if let Some(effect) = effects.of(event) {
            context.out.json_line(&line("effect", Some(&id), effect));
        }
    });
    match read {
        // Its time was up while the list was read.
        Err(failure) if failure.exit == Exit::Missing => {}
        other => other?,
    }
    for effect in effects.open() {
        context.out.json_line(&line("effect", Some(&id), effect));
    }
    Ok(())
}

fn line(record: &str, run: Option<&str>, fields: Map<String, Value>) -> Value {
    let mut line = Map::new();
    line.insert("record".to_owned(), json!(record));
    line.extend(run.map(|run| ("run".to_owned(), json!(run))));
    line.extend(fields);
    Value::Object(line)
}

/// What was sent and is not settled yet, by execution of a task and call.
#[derive(Debug, Default)]
struct Effects {
    open: BTreeMap<(String, u64, u64), Map<String, Value>>,
}

impl Effects {
    /// The effect that an event settles.
    fn of(&mut self, event: &Value) -> Option<Map<String, Value>> {
        let data = event.get("data")?;
        let number = |name: &str| data.get(name).and_then(Value::as_u64).unwrap_or(0);
        let task = browse::text(event, "task");
        // A host of before this was said says the task alone.
        let execution = Some(browse::text(data, "execution")).filter(|text| !text.is_empty());
        let key = (execution.unwrap_or_else(|| task.clone()), number("ordinal"), number("attempt"));
        let at = || event.get("at").cloned().unwrap_or(Value::Null);
        match event.get("type").and_then(Value::as_str)? {
            "call.started" if self.open.len() < OPEN_MAX => {
                let mut effect = Map::new();
                effect.insert("task".to_owned(), json!(task));
                for name in ["execution", "function", "connection", "attempt", "ordinal"] {
                    effect.insert(name.to_owned(), data.get(name).cloned().unwrap_or(Value::Null));
                }
                effect.insert("sentAt".to_owned(), at());
                effect.insert("outcome".to_owned(), json!("unknown"));
                self.open.insert(key, effect);
                None
            }
            "call.ended" => {
                let mut effect = self.open.remove(&key)?;
                let ok = data.get("ok").and_then(Value::as_bool).unwrap_or(false);
                effect.insert("outcome".to_owned(), json!(if ok { "done" } else { "refused" }));
                effect.insert("endedAt".to_owned(), at());
                for name in ["how", "error"] {
                    effect.extend(data.get(name).map(|value| (name.to_owned(), value.clone())));
                }
                Some(effect)
            }
            "call.resolved" => {
                let found = self.open.keys().rev().find(|k| k.0 == key.0 && k.1 == key.1).cloned()?;
                let mut effect = self.open.remove(&found)?;
                let done = data.get("done").and_then(Value::as_bool).unwrap_or(false);
                effect.insert("outcome".to_owned(), json!(if done { "done" } else { "not-done" }));
                effect.insert("endedAt".to_owned(), at());
                effect.extend(data.get("by").map(|by| ("settledBy".to_owned(), by.clone())));
                Some(effect)
            }
            // It surely did not happen.
            "call.not-sent" => {
                let found = self.open.keys().rev().find(|k| k.0 == key.0 && k.1 == key.1).cloned()?;
                self.open.remove(&found);
                None
            }
            _ => None,
        }
    }

    /// What nobody knows the outcome of.
    fn open(self) -> impl Iterator<Item = Map<String, Value>> {
        self.open.into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn house_d5_the_effects_of_a_loop_are_told_apart() {
        let mut effects = Effects::default();
        let of = |item: u32, more: &Value| {
            let mut data = json!({ "execution": format!("/do/0/each/do/0/say#0.{item}.0"), "attempt": 1 });
            data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            data
        };
        let sent = json!({ "function": "chat.post-message", "connection": "acme" });
        for item in 0..3 {
            assert_eq!(effects.of(&event("call.started", 0, &of(item, &sent))), None);
        }
        let ended = effects.of(&event("call.ended", 0, &of(0, &json!({ "ok": true })))).unwrap();
        assert_eq!((&ended["outcome"], &ended["execution"]), (&json!("done"), &json!("/do/0/each/do/0/say#0.0.0")));
        let said = json!({ "done": false, "by": "a person" });
        let settled = effects.of(&event("call.resolved", 0, &of(2, &said))).unwrap();
        assert_eq!((&settled["outcome"], &settled["task"]), (&json!("not-done"), &json!("/do/0/a")));
        let left: Vec<_> = effects.open().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0]["execution"], "/do/0/each/do/0/say#0.1.0");
    }

    fn event(kind: &str, ordinal: u64, data: &Value) -> Value {
        let mut data = data.clone();
        data["ordinal"] = json!(ordinal);
        json!({ "type": kind, "task": "/do/0/a", "at": "2026-01-05T08:00:00Z", "data": data })
    }

    #[test]
    fn an_effect_is_told_when_it_is_settled_and_what_is_open_in_the_end() {
        let mut effects = Effects::default();
        let sent = json!({ "function": "chat.post-message", "connection": "acme", "attempt": 1 });
        for ordinal in 0..4 {
            assert_eq!(effects.of(&event("call.started", ordinal, &sent)), None);
        }
        let done = effects.of(&event("call.ended", 0, &json!({ "attempt": 1, "ok": true, "how": "sent" }))).unwrap();
        assert_eq!(
            (&done["outcome"], &done["how"], &done["function"]),
            (&json!("done"), &json!("sent"), &sent["function"])
        );
        let refused = json!({ "attempt": 1, "ok": false, "how": "sent", "error": "not-found" });
        assert_eq!(effects.of(&event("call.ended", 1, &refused)).unwrap()["error"], "not-found");
        assert_eq!(effects.of(&event("call.not-sent", 2, &json!({ "reason": "limited" }))), None);
        let left: Vec<_> = effects.open().collect();
        assert_eq!(left.len(), 1);
        assert_eq!((&left[0]["ordinal"], &left[0]["outcome"]), (&json!(3), &json!("unknown")));
    }
}
