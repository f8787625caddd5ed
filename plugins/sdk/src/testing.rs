//! A scripted Slack for the tests of actions, and tests that are data.
//!
//! A case says what an action is given, which calls it must make one after the other, and what it must answer:
//!
//! ```json
//! {"action": "message.send", "on": ["workspace"], "input": {"channel": "C1", "text": "Hi"},
//!  "slack": [{"call": "chat.post-message", "with": {"channel": "C1"}, "answer": {"ok": true, "ts": "1.2"}}],
//!  "output": {"ts": "1.2"}, "changed": true}
//! ```
//!
//! `with` and `output` name the fields that the case is about. A step has `answer`, or `refuse` with Slack's own code;
//! a case has `output`, or `error` with the failure's fields, or `again` with a state.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::context::Kind;
use crate::plugin::Plugin;
use crate::slack;

/// One expected call and its answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The function, as manifests name it.
    pub call: String,
    /// Arguments that the call must have; null for one that it must not have.
    #[serde(default)]
    pub with: Value,
    /// Slack's body.
    #[serde(default)]
    pub answer: Option<Value>,
    /// Slack's error, in its own words.
    #[serde(default)]
    pub refuse: Option<String>,
    /// Our code of the refusal; `slack-error` where it is left out.
    #[serde(default)]
    pub code: Option<String>,
    /// How often the step is repeated; once where it is left out.
    #[serde(default)]
    pub times: Option<u32>,
}

#[derive(Default)]
struct Script {
    steps: VecDeque<Step>,
    called: Vec<String>,
    faults: Vec<String>,
}

thread_local! {
    static SCRIPT: RefCell<Option<Script>> = const { RefCell::new(None) };
    static LINES: RefCell<Vec<(String, String)>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn logged(level: &str, text: &str) {
    LINES.with_borrow_mut(|lines| lines.push((level.to_owned(), text.to_owned())));
}

pub(crate) fn answer(function: &str, args: &str) -> Result<String, String> {
    SCRIPT.with_borrow_mut(|script| match script {
        Some(script) => script.answer(function, args),
        None => Err(refusal("capability-not-granted", function, "no script is running")),
    })
}

/// `scim-409 username_taken` is a refusal of SCIM with what it says.
fn refusal(code: &str, function: &str, error: &str) -> String {
    let (error, detail) = error.split_once(' ').unwrap_or((error, error));
    let details = error.strip_prefix("scim-").and_then(|status| status.parse::<u16>().ok());
    let details = details.map(|status| json!({ "status": status, "detail": detail }));
    json!({
        "code": code,
        "message": format!("Slack answers `{error}`"),
        "class": "fatal",
        "slack": { "method": function, "error": error, "needed": null, "provided": null },
        "details": details,
    })
    .to_string()
}

impl Script {
    fn answer(&mut self, function: &str, args: &str) -> Result<String, String> {
        self.called.push(function.to_owned());
        let Some(step) = self.steps.pop_front() else {
            self.faults.push(format!("calls `{function}` with {args}, after the last step of the script"));
            return Err(refusal("capability-not-granted", function, "not in the script"));
        };
        if step.call != function {
            self.faults.push(format!("calls `{function}` with {args} where the script has `{}`", step.call));
            return Err(refusal("capability-not-granted", function, "not in the script"));
        }
        let args: Value = serde_json::from_str(args).unwrap_or_default();
        if let Some(fault) = differs(&step.with, &args) {
            self.faults.push(format!("`{function}` is called with {args}: {fault}"));
        }
        if let Some(left) = step.times.and_then(|times| times.checked_sub(1)).filter(|left| *left > 0) {
            self.steps.push_front(Step { times: Some(left), ..step.clone() });
        }
        match (step.answer, step.refuse) {
            (Some(answer), None) => Ok(answer.to_string()),
            (None, Some(error)) => Err(refusal(step.code.as_deref().unwrap_or("slack-error"), function, &error)),
            _ => {
                self.faults.push(format!("the step of `{function}` needs either `answer` or `refuse`"));
                Err(refusal("slack-error", function, "unclear"))
            }
        }
    }
}

/// Why `found` lacks something of `wanted`; nulls in `wanted` must not be there.
fn differs(wanted: &Value, found: &Value) -> Option<String> {
    match (wanted, found) {
        (Value::Null, _) => None,
        (Value::Object(wanted), Value::Object(found)) => {
            wanted.iter().find_map(|(key, value)| match (value, found.get(key)) {
                (Value::Null, None | Some(Value::Null)) => None,
                (Value::Null, Some(there)) => Some(format!("`{key}` is {there}")),
                (_, None) => Some(format!("`{key}` is missing")),
                (value, Some(there)) => differs(value, there).map(|fault| format!("`{key}`: {fault}")),
            })
        }
        (wanted, found) => (wanted != found).then(|| format!("{found} is not {wanted}")),
    }
}

/// One case of [`check`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    action: String,
    on: Vec<Kind>,
    #[serde(default)]
    about: String,
    input: Value,
    #[serde(default)]
    state: Value,
    #[serde(default)]
    slack: Vec<Step>,
    #[serde(default)]
    output: Option<Value>,
    #[serde(default)]
    changed: Option<bool>,
    #[serde(default)]
    undo: Option<Value>,
    #[serde(default)]
    error: Option<Value>,
    #[serde(default)]
    again: Option<Value>,
}

/// What an action answered, and which functions it called.
#[derive(Debug)]
pub struct Outcome {
    /// `{output, changed, undo?}` or `{again}`; or the failure.
    pub answer: Result<Value, Value>,
    /// The functions called, in order.
    pub called: Vec<String>,
    /// What was not as the script says.
    pub faults: Vec<String>,
}

/// Runs one action against a script.
#[must_use]
pub fn run(plugin: &Plugin, action: &str, on: Kind, input: &Value, state: &Value, steps: &[Step]) -> Outcome {
    let workspace = (on != Kind::GridOrg).then_some("T0000001");
    let enterprise = (on != Kind::Workspace).then_some("E0000001");
    let plan = if on == Kind::Workspace { "business-plus" } else { "enterprise" };
    let mut request = json!({
        "input": input,
        "context": {
            "run": "run_test", "task": "/do/0/test", "execution": "/do/0/test#0", "attempt": 1, "dryRun": false,
            "startedAt": "2026-01-01T09:00:00Z", "futureField": true,
            "connection": {
                "name": "test", "kind": on.as_str(), "plan": plan,
                "workspaceId": workspace, "enterpriseId": enterprise, "futureField": true,
            },
        },
    });
    if !state.is_null() {
        request["state"] = state.clone();
    }
    SCRIPT.set(Some(Script { steps: steps.iter().cloned().collect(), ..Script::default() }));
    let answer = plugin.run(action, &request.to_string());
    let script = SCRIPT.take().unwrap_or_default();
    let mut faults = script.faults;
    faults.extend(script.steps.iter().map(|step| format!("never calls `{}`", step.call)));
    let read = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
    Outcome { answer: answer.map(read).map_err(read), called: script.called, faults }
}

/// Runs every case of the JSON files of `folder`, and compares the functions that were called with those that each
/// action declares, in both directions. Answers the faults; there are none when all is right.
///
/// # Panics
///
/// When the folder or a file of it cannot be read.
#[must_use]
pub fn check(plugin: &Plugin, folder: &Path) -> Vec<String> {
    let mut faults = manifest_faults(plugin);
    let mut called: BTreeMap<(String, Kind), BTreeSet<String>> = BTreeMap::new();
    let mut succeeded: BTreeSet<(String, Kind)> = BTreeSet::new();
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("a folder of cases").map(|entry| entry.expect("a file of cases").path()).collect();
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).expect("a readable file of cases");
        let cases: Vec<Case> = match serde_json::from_str(&text) {
            Ok(cases) => cases,
            Err(error) => {
                faults.push(format!("{}: {error}", file.display()));
                continue;
            }
        };
        for (number, case) in cases.iter().enumerate() {
            for on in &case.on {
                let outcome = run(plugin, &case.action, *on, &case.input, &case.state, &case.slack);
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                let place = format!("{name}, case {} ({} on {on}{})", number + 1, case.action, about(case));
                let key = (case.action.clone(), *on);
                faults.extend(case_faults(plugin, case, *on, &outcome).into_iter().map(|f| format!("{place}: {f}")));
                if outcome.answer.as_ref().is_ok_and(|a| a.get("output").is_some()) {
                    succeeded.insert(key.clone());
                }
                called.entry(key).or_default().extend(outcome.called);
            }
        }
    }
    faults.extend(coverage_faults(plugin, &called, &succeeded));
    faults
}

fn about(case: &Case) -> String {
    if case.about.is_empty() { String::new() } else { format!(": {}", case.about) }
}

fn case_faults(plugin: &Plugin, case: &Case, on: Kind, outcome: &Outcome) -> Vec<String> {
    let mut faults = outcome.faults.clone();
    let Some(entry) = plugin.actions.iter().find(|entry| entry.spec().name == case.action) else {
        return vec!["there is no such action".to_owned()];
    };
    let alternative = entry.spec().alternative(on);
    let declared = |f: &str| alternative.is_some_and(|a| a.always.contains(&f) || a.maybe.contains(&f));
    for function in &outcome.called {
        if !declared(function) {
            faults.push(format!("calls `{function}`, which it does not declare"));
        }
    }
    match (&outcome.answer, &case.output, &case.error, &case.again) {
        (Ok(answer), Some(output), None, None) => {
            let wanted = json!({ "output": output });
            faults.extend(differs(&wanted, answer));
            let changed = answer["changed"].as_bool();
            if case.changed != changed {
                faults.push(format!("`changed` is {changed:?}"));
            }
            if answer.get("undo") != case.undo.as_ref() {
                faults.push(format!("`undo` is {}", answer["undo"]));
            }
            if let Some(with) = answer.pointer("/undo/action").and_then(Value::as_str)
                && entry.spec().inverse != Some(with)
            {
                faults.push(format!("is undone by `{with}`, which is not the declared inverse"));
            }
            let called = |f: &&&str| !outcome.called.iter().any(|c| c == **f);
            // A slice that goes on from a state need not repeat what an earlier one called.
            for function in alternative.iter().flat_map(|a| a.always).filter(called).filter(|_| case.state.is_null()) {
                faults.push(format!("succeeds without calling `{function}`, which it declares as always called"));
            }
        }
        (Err(failure), None, Some(error), None) => {
            faults.extend(differs(error, failure));
            let code = failure["code"].as_str().unwrap_or_default();
            let own = entry.spec().errors.iter().map(|e| e.code);
            let known = own.chain(slack::error::DECLARED.iter().map(|e| e.code)).chain(["input-invalid"]);
            if !known.into_iter().any(|c| c == code) {
                faults.push(format!("fails with `{code}`, which it does not declare"));
            }
        }
        (Ok(answer), None, None, Some(state)) => faults.extend(differs(&json!({ "again": state }), answer)),
        (answer, ..) => faults.push(format!("answers {answer:?}")),
    }
    faults
}

fn coverage_faults(
    plugin: &Plugin,
    called: &BTreeMap<(String, Kind), BTreeSet<String>>,
    succeeded: &BTreeSet<(String, Kind)>,
) -> Vec<String> {
    let mut faults = Vec::new();
    for entry in plugin.actions {
        let spec = entry.spec();
        for alternative in spec.calls {
            for on in alternative.on {
                let key = (spec.name.to_owned(), *on);
                if !succeeded.contains(&key) {
                    faults.push(format!("no case in which `{}` succeeds on {on}", spec.name));
                }
                for function in alternative.always.iter().chain(alternative.maybe) {
                    if !called.get(&key).is_some_and(|called| called.contains(*function)) {
                        faults.push(format!("no case in which `{}` on {on} calls `{function}`", spec.name));
                    }
                }
            }
        }
    }
    faults
}

/// What is wrong with a manifest by itself.
fn manifest_faults(plugin: &Plugin) -> Vec<String> {
    let mut faults = Vec::new();
    let names: Vec<&str> = plugin.actions.iter().map(|entry| entry.spec().name).collect();
    for (n, entry) in plugin.actions.iter().enumerate() {
        let spec = entry.spec();
        if names[..n].contains(&spec.name) {
            faults.push(format!("two actions are called `{}`", spec.name));
        }
        if let Some(inverse) = spec.inverse.filter(|inverse| !names.contains(inverse)) {
            faults.push(format!("the inverse of `{}` is `{inverse}`, which is no action of the plugin", spec.name));
        }
        let mut kinds = BTreeSet::new();
        for alternative in spec.calls {
            for on in alternative.on {
                if !kinds.insert(on) {
                    faults.push(format!("`{}` has two alternatives for {on}", spec.name));
                }
            }
            for function in alternative.always.iter().chain(alternative.maybe) {
                if slack::FUNCTIONS.binary_search(function).is_err() {
                    faults.push(format!("`{}` declares `{function}`, which does not exist", spec.name));
                }
            }
        }
    }
    faults
}
