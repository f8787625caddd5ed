//! Preflight: every folder of `tests/cases/preflight` holds a `workflow.yaml`, a `question.json` and the answer.
//! `UPDATE_EXPECT=1` rewrites the answers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bellhop_core::cost::Cost;
use bellhop_core::definition;
use bellhop_core::diagnostic::{Diagnostic, render_all};
use bellhop_core::expression::{Answer, Error, Evaluator, Inspection};
use bellhop_core::manifest::Manifest;
use bellhop_core::preflight::{self, Plugin, Plugins, Question, Report, Table, When, assume};
use bellhop_core::requirement::{Connection, Grant, Rules};
use bellhop_core::time::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

mod call;
mod flow;
mod plan;
mod property;
mod words;

/// The guest's own code, run natively: tests are no strangers.
struct Native(RefCell<bellhop_expression::Programs>);

impl Native {
    fn new() -> Self {
        Self(RefCell::new(bellhop_expression::Programs::new()))
    }
}

fn mapped(error: &bellhop_expression::Error) -> Error {
    serde_json::from_str(&error.to_json()).unwrap()
}

impl Evaluator for Native {
    fn answer(&self, program: &str, arguments: &[(&str, &Value)], input: &Value) -> Answer {
        let arguments: serde_json::Map<String, Value> =
            arguments.iter().map(|(name, value)| ((*name).to_owned(), (*value).clone())).collect();
        let text = self.0.borrow_mut().evaluate(program, &Value::Object(arguments).to_string(), &input.to_string());
        let result = text.map(|text| serde_json::from_str(&text).unwrap()).map_err(|e| mapped(&e));
        Answer { result, cost: Cost::ZERO }
    }

    fn inspect(&self, program: &str) -> Result<Inspection, Error> {
        let text = self.0.borrow_mut().inspect(program).map_err(|e| mapped(&e))?;
        Ok(serde_json::from_str(&text).unwrap())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// What the file is called.
    #[serde(default = "default_file")]
    file: String,
    #[serde(default = "default_at")]
    at: String,
    /// Each an assumption as text, or the facts.
    connections: Vec<Value>,
    #[serde(default)]
    trigger: BTreeMap<String, String>,
    #[serde(default)]
    bindings: BTreeMap<String, String>,
    #[serde(default)]
    tables: BTreeMap<String, Table>,
    input: Option<Value>,
    #[serde(default = "default_now")]
    now_ms: u64,
    #[serde(default)]
    strict: bool,
    /// None: every method, everywhere.
    grants: Option<Vec<Grant>>,
    /// The versions of the plugin that are installed.
    #[serde(default = "default_versions")]
    versions: Vec<String>,
    /// Also compare the JSON of the diagnostics.
    #[serde(default)]
    json: bool,
    /// Also compare the plan of the run.
    #[serde(default)]
    outline: bool,
}

fn default_file() -> String {
    "workflow.yaml".to_owned()
}
fn default_at() -> String {
    "check".to_owned()
}
fn default_now() -> u64 {
    1_800_000_000_000
}
fn default_versions() -> Vec<String> {
    vec!["1.2.0".to_owned()]
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/preflight")
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> T {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn rules() -> Rules {
    read(&root().join("rules.json"))
}

fn manifest() -> Manifest {
    read(&root().join("slack.json"))
}

fn all_grants(rules: &Rules) -> Vec<Grant> {
    rules.methods.keys().map(|m| Grant::of_method(m).unwrap()).collect()
}

fn plugins(rules: &Rules, grants: Option<&Vec<Grant>>, versions: &[String]) -> Plugins {
    Plugins::of(versions.iter().map(|version| Plugin {
        manifest: Manifest { version: version.clone(), ..manifest() }.into(),
        grants: grants.cloned().unwrap_or_else(|| all_grants(rules)).into(),
    }))
}

fn connection(value: &Value) -> Connection {
    match value.as_str() {
        Some(text) => assume::parse(text).unwrap(),
        None => serde_json::from_value(value.clone()).unwrap(),
    }
}

fn ask(text: &str, asked: &Asked) -> Report {
    let (workflow, source, diagnostics) = definition::parse(&asked.file, text);
    assert_eq!(diagnostics, [], "{}", render_all(&diagnostics));
    let rules = rules();
    let connections: Vec<Connection> = asked.connections.iter().map(connection).collect();
    preflight::judge(&Question {
        workflow: &workflow.unwrap(),
        source: &source,
        at: match asked.at.as_str() {
            "check" => When::Check,
            "apply" => When::Apply,
            "trigger" => When::Trigger,
            other => panic!("no such time: {other}"),
        },
        plugins: &plugins(&rules, asked.grants.as_ref(), &asked.versions),
        rules: &rules,
        connections: &connections,
        trigger: &asked.trigger,
        bindings: &asked.bindings,
        tables: &asked.tables,
        input: asked.input.as_ref(),
        now: Timestamp::from_millis(asked.now_ms),
        strict: asked.strict,
        evaluator: &Native::new(),
    })
}

fn case(name: &str) -> Report {
    let folder = root().join(name);
    ask(&fs::read_to_string(folder.join("workflow.yaml")).unwrap(), &read(&folder.join("question.json")))
}

fn answer(report: &Report) -> String {
    let mut text = render_all(&report.diagnostics);
    if !text.is_empty() {
        text.push('\n');
    }
    match &report.plan {
        None => text.push_str("no plan\n"),
        Some(plan) => {
            text.push_str("may start\n");
            for (alias, name) in plan.connections() {
                text.push_str(&format!("  connection {alias} = {name}\n"));
            }
            for (pointer, alias) in plan.chosen() {
                text.push_str(&format!("  {pointer} on {alias}\n"));
            }
            for (written, full) in plan.actions() {
                text.push_str(&format!("  action {written} = {full}\n"));
            }
        }
    }
    text
}

#[test]
fn every_case_is_answered_as_written() {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(root()).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    folders.sort();
    for folder in &folders {
        let asked: Asked = read(&folder.join("question.json"));
        let report = ask(&fs::read_to_string(folder.join("workflow.yaml")).unwrap(), &asked);
        let blocks = report.diagnostics.iter().any(|d| d.is_error() || asked.strict);
        assert_eq!(report.plan.is_none(), blocks, "{}", folder.display());
        expect_test::expect_file![folder.join("expect.txt")].assert_eq(&answer(&report));
        if asked.json || asked.outline {
            let mut shown = json!({});
            if asked.json {
                shown["diagnostics"] = json!(report.diagnostics);
            }
            if asked.outline {
                shown["outline"] = json!(report.outline);
            }
            let text = format!("{shown:#}\n");
            expect_test::expect_file![folder.join("expect.json")].assert_eq(&text);
        }
    }
    println!("{} cases", folders.len());
    assert!(folders.len() >= 30, "cases are missing: {}", folders.len());
}

fn only(report: &Report) -> &Diagnostic {
    match &report.diagnostics[..] {
        [one] => one,
        other => panic!("{}", render_all(other)),
    }
}
