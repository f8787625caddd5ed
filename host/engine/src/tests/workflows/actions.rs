//! Every action of the Slack plugin through the engine, on every kind of connection that it has an alternative for: what
//! it answers, and that it calls what it declares, all of that, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use bellhop_core::manifest::{Action, When};
use bellhop_core::requirement::{Kind, TokenKind};
use bellhop_core::run::Status;
use serde::Deserialize;
use serde_json::{Value, json};

use super::World;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    action: String,
    on: Kind,
    #[serde(default)]
    about: String,
    /// An action that comes before it; `$ts` in the input is that of its message, and `$later` is tomorrow.
    before: Option<Before>,
    /// Edits of the simulated Slack before all.
    world: Option<Value>,
    /// So many people are in one more user group: Slack's list of groups with all of them is larger than an answer may be.
    crowd: Option<usize>,
    input: Value,
    /// The methods that it calls, in order.
    calls: Vec<String>,
    /// Fields of its output.
    #[serde(default)]
    output: Value,
    changed: Option<bool>,
    /// Or the code of its fault.
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Before {
    action: String,
    input: Value,
}

struct Ended {
    result: Result<Value, String>,
    changed: Option<bool>,
}

const fn connection(kind: Kind) -> &'static str {
    match kind {
        Kind::Workspace => "plus",
        Kind::GridWorkspace => "acme-hq",
        Kind::GridOrg => "acme",
    }
}

impl World {
    async fn crowds(&self, kind: Kind, people: usize) {
        let home = if kind == Kind::Workspace { "T0PLUS" } else { "T0HQ" };
        let users: Vec<String> = (0..people).map(|n| format!("U{n:010}")).collect();
        let group = json!({ "home": home, "id": "S0CROWD", "name": "Crowd", "handle": "crowd", "users": users });
        self.control("world", json!([{ "add_usergroup": group }])).await;
    }

    async fn action(&self, action: &Action, kind: Kind, input: &Value, number: usize) -> Ended {
        let mut with = input.clone();
        with["connection"] = json!(connection(kind));
        let purpose = action.purposes.first().map_or("other", String::as_str);
        let text = json!({
            "document": {
                "dsl": "1.0.3", "namespace": "test", "name": "action", "version": format!("1.0.{number}"),
                "metadata": { "bellhop": { "purpose": purpose } },
            },
            "do": [{ "it": { "call": format!("{}:1@slack", action.name), "with": with } }],
        });
        let name = self.apply(&text.to_string()).await;
        let (run, view) = self.run(&name, json!({})).await;
        let events = self.engine.events(run, 0, 1_000).await.unwrap().unwrap();
        let completed = events.iter().find(|e| e.kind == "task.completed");
        let changed = completed.and_then(|e| e.data["changed"].as_bool());
        let result = match view.status {
            Status::Completed => Ok(view.output.unwrap()),
            Status::Faulted => {
                Err(view.error.unwrap()["type"].as_str().unwrap().rsplit('/').next().unwrap().to_owned())
            }
            other => panic!("{other:?}: {:#?}", self.story(run).await),
        };
        Ended { result, changed }
    }

    fn requested(&self) -> Vec<String> {
        let log = self.slack.requests();
        let requests = log.iter().filter(|line| line["event"] == "request");
        requests.map(|line| line["method"].as_str().unwrap().to_owned()).collect()
    }
}

/// Whether `value` has everything that `wanted` has.
fn holds(value: &Value, wanted: &Value) -> bool {
    match (value, wanted) {
        (_, Value::Null) => value.is_null(),
        (Value::Object(fields), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| fields.get(name).is_some_and(|value| holds(value, wanted)))
        }
        _ => value == wanted,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_action_calls_what_it_declares() {
    let world = World::new().await;
    let tokens = [(TokenKind::Bot, "xoxb-plus"), (TokenKind::User, "xoxp-plus-owner")];
    world.connect("plus", Kind::Workspace, &tokens).await;
    world
        .connect("acme-hq", Kind::GridWorkspace, &[(TokenKind::Bot, "xoxb-hq"), (TokenKind::User, "xoxp-hq-admin")])
        .await;
    world.connect("acme", Kind::GridOrg, &[(TokenKind::User, "xoxp-org-owner")]).await;
    let installed = world.engine.services.plugins.all();
    let manifest = installed[0].stored.manifest.clone();
    let catalog = world.engine.services.gateway.catalog;
    let method = |function: &str| catalog.by_function(function).unwrap().name.clone();

    let cases: Vec<Case> = serde_json::from_str(include_str!("actions.json")).unwrap();
    let mut reached: BTreeMap<(String, Kind), BTreeSet<String>> = BTreeMap::new();
    let mut wrong: Vec<String> = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let title = format!("{} on {}, {}", case.action, case.on.as_str(), case.about);
        let action = manifest.action(&case.action).unwrap_or_else(|| panic!("{title}: no such action"));
        let alternative = action.alternative(case.on).unwrap_or_else(|| panic!("{title}: no alternative"));
        world.control("reset", json!({})).await;
        if let Some(edits) = &case.world {
            world.control("world", edits.clone()).await;
        }
        if let Some(people) = case.crowd {
            world.crowds(case.on, people).await;
        }
        let later = world.engine.services.clock.now().plus_millis(86_400_000);
        let mut input: Value =
            serde_json::from_str(&case.input.to_string().replace("$later", &later.to_string())).unwrap();
        if let Some(before) = &case.before {
            let first = manifest.action(&before.action).unwrap();
            let ended = world.action(first, case.on, &before.input, 10_000 + number).await;
            let ts = ended.result.unwrap()["ts"].as_str().unwrap_or_default().to_owned();
            input = serde_json::from_str(&input.to_string().replace("$ts", &ts)).unwrap();
        }
        let from = world.requested().len();
        let ended = world.action(action, case.on, &input, number).await;
        let called = world.requested().split_off(from);
        if called != case.calls {
            wrong.push(format!("{title}: called {called:?}, not {:?}", case.calls));
        }
        match (&ended.result, &case.error) {
            (Ok(output), None) => {
                if !case.output.is_null() && !holds(output, &case.output) {
                    wrong.push(format!("{title}: answered {output}, not {}", case.output));
                }
                if ended.changed != case.changed
                    || output["alreadyDone"].as_bool().is_some_and(|a| Some(!a) != case.changed)
                {
                    wrong.push(format!("{title}: changed {:?}, {output}", ended.changed));
                }
                for call in alternative.methods.iter().filter(|call| call.when == When::Always) {
                    if !called.contains(&method(&call.function)) {
                        wrong.push(format!("{title}: `{}` is declared as always called", call.function));
                    }
                }
            }
            (Err(code), Some(wanted)) if code == wanted => {}
            (result, _) => wrong.push(format!("{title}: {result:?} instead of {:?}", case.error)),
        }
        reached.entry((case.action.clone(), case.on)).or_default().extend(called);
    }
    for action in &manifest.actions {
        for (kind, alternative) in action.calls.iter().flat_map(|a| a.on.iter().map(move |kind| (*kind, a))) {
            let declared: BTreeSet<String> = alternative.methods.iter().map(|call| method(&call.function)).collect();
            let called = reached.remove(&(action.name.clone(), kind)).unwrap_or_default();
            if called != declared {
                wrong.push(format!("{} on {}: called {called:?}, declares {declared:?}", action.name, kind.as_str()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
