//! `tests/cases/*.json`: requests and what they are answered. A new case needs no Rust.
//!
//! A file is a list of cases `{name, steps, ledger?}`, each in a fresh world whose clock stands still. A step is
//! `{as, call, args}` (a Web API call), or `{as, http: "VERB /path", body}`; `expect` must be contained in the answer
//! (lists have to be as long as expected, `"*"` stands for anything that is there, `"-"` for a key that is not),
//! `status` and `headers` are compared where given, `save: {name: "/json/pointer"}` keeps a value for `${name}` later,
//! `repeat: N` sends the step N times and compares each. `ledger` is compared in the same way, line by line.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::driver::Slack;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    steps: Vec<Step>,
    #[serde(default)]
    ledger: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    #[serde(default, rename = "as")]
    token: String,
    #[serde(default)]
    call: Option<String>,
    #[serde(default)]
    args: Value,
    #[serde(default)]
    http: Option<String>,
    #[serde(default)]
    body: Value,
    #[serde(default)]
    expect: Value,
    #[serde(default)]
    status: Option<u16>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    save: BTreeMap<String, String>,
    #[serde(default = "once")]
    repeat: u32,
}

fn once() -> u32 {
    1
}

#[tokio::test]
async fn every_case_is_answered_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let (mut count, mut faults) = (0, Vec::new());
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        let cases: Vec<Case> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        for case in cases {
            count += 1;
            if let Err(fault) = play(&case).await {
                faults.push(format!("{name}: {}: {fault}", case.name));
            }
        }
    }
    assert!(faults.is_empty(), "{} of {count} cases differ:\n{}", faults.len(), faults.join("\n"));
    assert!(count > 0);
}

async fn play(case: &Case) -> Result<(), String> {
    let slack = Slack::start().await;
    let mut saved = Map::new();
    for (index, step) in case.steps.iter().enumerate() {
        for _ in 0..step.repeat {
            let answer = match (&step.call, &step.http) {
                (Some(method), None) => slack.call(&step.token, method, filled(&step.args, &saved)).await,
                (None, Some(line)) => {
                    let line = filled(&json!(line), &saved);
                    let (verb, path) =
                        line.as_str().and_then(|line| line.split_once(' ')).ok_or("http is `VERB /path`")?;
                    slack.http(&step.token, verb, path, filled(&step.body, &saved)).await
                }
                _ => return Err("a step has either call or http".to_owned()),
            };
            let place =
                |fault: String| format!("step {}: {fault}\n    answer: {} {}", index + 1, answer.status, answer.body);
            if let Some(status) = step.status
                && answer.status != status
            {
                return Err(place(format!("status {status} expected")));
            }
            contained(&filled(&step.expect, &saved), &answer.body, "").map_err(place)?;
            for (name, wanted) in &step.headers {
                let given = answer.headers.get(name).and_then(|value| value.to_str().ok());
                if given != Some(wanted) && !(wanted == "*" && given.is_some()) {
                    return Err(place(format!("header {name} is {given:?}")));
                }
            }
            for (name, pointer) in &step.save {
                let value = answer.body.pointer(pointer).ok_or_else(|| place(format!("nothing at {pointer}")))?;
                saved.insert(name.clone(), value.clone());
            }
        }
    }
    if let Some(ledger) = &case.ledger {
        let lines = Value::Array(slack.running.ledger());
        contained(&filled(&json!(ledger), &saved), &lines, "")
            .map_err(|fault| format!("ledger: {fault}\n    {lines}"))?;
    }
    slack.running.stop().await;
    Ok(())
}

fn filled(value: &Value, saved: &Map<String, Value>) -> Value {
    match value {
        Value::String(text) => {
            if let Some(value) =
                text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).and_then(|name| saved.get(name))
            {
                return value.clone();
            }
            let mut text = text.clone();
            for (name, value) in saved {
                let plain = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                text = text.replace(&format!("${{{name}}}"), &plain);
            }
            Value::String(text)
        }
        Value::Array(items) => items.iter().map(|item| filled(item, saved)).collect(),
        Value::Object(object) => object.iter().map(|(name, item)| (name.clone(), filled(item, saved))).collect(),
        other => other.clone(),
    }
}

fn contained(wanted: &Value, given: &Value, path: &str) -> Result<(), String> {
    match (wanted, given) {
        (Value::Null, _) if path.is_empty() => Ok(()),
        (Value::String(any), _) if any == "*" => Ok(()),
        (Value::Object(wanted), Value::Object(given)) => {
            for (name, value) in wanted {
                let path = format!("{path}/{name}");
                match given.get(name) {
                    None if value == "-" => {}
                    None => return Err(format!("{path} is missing")),
                    Some(_) if value == "-" => return Err(format!("{path} should not be there")),
                    Some(found) => contained(value, found, &path)?,
                }
            }
            Ok(())
        }
        (Value::Array(wanted), Value::Array(given)) if wanted.len() == given.len() => wanted
            .iter()
            .zip(given)
            .enumerate()
            .try_for_each(|(n, (wanted, given))| contained(wanted, given, &format!("{path}/{n}"))),
        _ if wanted == given => Ok(()),
        _ => Err(format!("{path} is {given}, expected {wanted}")),
    }
}
