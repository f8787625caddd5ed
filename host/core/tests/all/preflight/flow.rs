//! What check says of guards against what each input then meets at the trigger.

use std::collections::{BTreeMap, BTreeSet};

use bellhop_core::definition;
use bellhop_core::preflight::{Question, When, assume, judge};
use bellhop_core::requirement::Connection;
use bellhop_core::time::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Native, plugins, rules};

const FIELDS: [&str; 3] = ["a", "b", "c"];

/// A task of a list, with what comes after it as a distance: 0 is the end of the run, 1 the next task.
#[derive(Debug, Clone)]
enum Step {
    Fine,
    Fails,
    Switch(Vec<(usize, usize)>),
    Block(Vec<Guarded>),
}

#[derive(Debug, Clone)]
struct Guarded {
    guard: Option<usize>,
    then: usize,
    step: Step,
}

fn guarded(step: impl Strategy<Value = Step>) -> impl Strategy<Value = Guarded> {
    (proptest::option::weighted(0.4, 0..FIELDS.len()), prop_oneof![3 => Just(1_usize), 1 => 0..4_usize], step)
        .prop_map(|(guard, then, step)| Guarded { guard, then, step })
}

fn list() -> impl Strategy<Value = Vec<Guarded>> {
    let leaf = prop_oneof![
        Just(Step::Fine),
        Just(Step::Fails),
        proptest::collection::vec((0..FIELDS.len(), 0..4_usize), 1..3).prop_map(Step::Switch),
    ];
    let one = guarded(leaf).prop_recursive(2, 12, 4, |inner| {
        let block = proptest::collection::vec(inner, 1..4).prop_map(Step::Block);
        guarded(block)
    });
    proptest::collection::vec(one, 1..7)
}

fn written(tasks: &[Guarded], prefix: &str) -> Value {
    let name = |i: usize| format!("{prefix}{i}");
    let then = |at: usize, distance: usize| match distance {
        0 => "end".to_owned(),
        1 => "continue".to_owned(),
        far if at + far < tasks.len() => name(at + far),
        _ => "exit".to_owned(),
    };
    let call = |action: &str| json!({"call": format!("{action}:1@slack"), "with": {"connection": "acme"}});
    let items = tasks.iter().enumerate().map(|(at, task)| {
        let mut body = match &task.step {
            Step::Fine => call("user.lookup"),
            Step::Fails => call("message.send"),
            Step::Switch(cases) => {
                let cases = cases.iter().enumerate().map(|(i, (field, to))| {
                    json!({(format!("case{i}")): {"when": format!("$workflow.input.{}", FIELDS[*field]), "then": then(at, *to)}})
                });
                json!({"switch": cases.collect::<Vec<_>>()})
            }
            Step::Block(inner) => json!({"do": written(inner, &format!("{prefix}{at}x"))}),
        };
        if let Some(guard) = task.guard {
            body["if"] = json!(format!("$workflow.input.{}", FIELDS[guard]));
        }
        body["then"] = json!(then(at, task.then));
        json!({(name(at)): body})
    });
    Value::Array(items.collect())
}

/// The tasks with an error, and those with any diagnostic.
type Told = (BTreeSet<String>, BTreeSet<String>);

fn told(text: &str, at: When, input: Option<&Value>, evaluator: &Native, connections: &[Connection]) -> Told {
    let (workflow, source, faults) = definition::parse("w.json", text);
    let rules = rules();
    let report = judge(&Question {
        workflow: &workflow.unwrap_or_else(|| panic!("{faults:?}")),
        source: &source,
        at,
        plugins: &plugins(&rules, None, &["1.2.0".to_owned()]),
        rules: &rules,
        connections,
        trigger: &BTreeMap::new(),
        bindings: &BTreeMap::new(),
        tables: &BTreeMap::new(),
        input,
        now: Timestamp::from_millis(0),
        strict: false,
        evaluator,
    });
    let tasks = |errors_only: bool| {
        report.diagnostics.iter().filter(|d| d.is_error() || !errors_only).filter_map(|d| d.task.clone()).collect()
    };
    (tasks(true), tasks(false))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    /// No input meets an error that check was silent about, and what check calls an error every input meets.
    #[test]
    fn check_speaks_for_every_input(tasks in list()) {
        let text = json!({
            "document": {"dsl": "1.0.3", "namespace": "t", "name": "t", "version": "1.0.0"},
            "do": written(&tasks, "t"),
        }).to_string();
        let evaluator = Native::new();
        let connections = [assume::parse("acme=grid-org").unwrap()];
        let (errors, all) = told(&text, When::Check, None, &evaluator, &connections);
        for bits in 0..8_u32 {
            let input = json!({"a": bits & 1 != 0, "b": bits & 2 != 0, "c": bits & 4 != 0});
            let (met, _) = told(&text, When::Trigger, Some(&input), &evaluator, &connections);
            prop_assert!(met.is_subset(&all), "{input} meets {met:?}, check told {all:?}\n{text}");
            prop_assert!(errors.is_subset(&met), "{input} meets {met:?}, check called errors {errors:?}\n{text}");
        }
    }
}
