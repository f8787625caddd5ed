//! Runs that compute on and on, or whose records come to their limit, end in order, and the host goes on.

use bellhop_core::id::RunId;
use bellhop_core::run::Status;
use serde_json::json;

use super::life::{Life, Slack, fresh, trigger};
use bellhop_journal::Entry;
use bellhop_limits::Limits;

const HQ: &[(&str, &str)] = &[("team", "hq")];

fn code(life: &Life, run: RunId) -> String {
    let view = life.ended(run).unwrap();
    assert_eq!(view.status, Status::Faulted, "{view:?}");
    let kind = view.error.unwrap()["type"].as_str().unwrap().to_owned();
    kind.rsplit('/').next().unwrap().to_owned()
}

#[test]
fn house_a1_a_loop_of_large_steps_ends_as_too_large_and_the_host_goes_on() {
    let slack = Slack::start();
    let limits = Limits { run_journal_bytes_max: 4 << 20, ..Limits::default() };
    let life = Life::start_with(fresh(), limits, &slack);
    let text = "x".repeat(4_000);
    let inline = life.apply_named("inline", &format!("\n  - again: {{set: {{x: '{text}'}}, then: again}}"));
    let made = life.apply_named("made", "\n  - again: {set: {x: '${ \"x\" * 1000000 }'}, then: again}");
    let gathered = life.apply_named(
        "gathered",
        "\n  - each:\n      for: {in: '${ [range(2000)] }'}\n      do:\n        - one: {set: {t: '${ \"x\" * 3000 }'}, export: {as: '${ ($context // []) + [.] }'}}",
    );
    let runs: Vec<RunId> =
        [inline, made, gathered].iter().map(|w| life.started(trigger(w, json!({}), &[], None))).collect();
    let codes: Vec<String> = runs.iter().map(|run| code(&life, *run)).collect();
    assert_eq!(codes, ["run-too-large", "run-too-large", "run-too-large"]);
    for run in runs {
        for entry in life.entries(run) {
            if let Entry::Decision { events } = entry {
                assert!(events.len() <= 2_100, "{}", events.len());
            }
        }
    }
    // The host is there, after a restart too.
    let life = Life::start(life.die(usize::MAX), &slack);
    let pass = life.apply_named("pass", "\n  - one: {set: {x: 1}}");
    let run = life.started(trigger(&pass, json!({}), &[], None));
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
}

#[test]
fn house_a4_records_of_every_kind_come_to_a_limit() {
    let slack = Slack::start();
    let limits = Limits { run_events_max: 60, ..Limits::default() };
    let life = Life::start_with(fresh(), limits, &slack);
    let waits = life.apply_named("waits", "\n  - poll: {wait: {milliseconds: 1}, then: poll}");
    let reads = life.apply_named(
        "reads",
        "\n  - look: {call: user.lookup:1@slack, with: {connection: team, email: ada@acme.example}, then: look}",
    );
    for workflow in [waits, reads] {
        let run = life.started(trigger(&workflow, json!({}), if workflow.name == "reads" { HQ } else { &[] }, None));
        assert_eq!(code(&life, run), "run-too-large");
        let records = life.entries(run).len();
        assert!((40..=60).contains(&records), "{records} records");
    }
}

#[test]
fn a_run_that_is_too_large_takes_back_what_it_changed() {
    let slack = Slack::start();
    let limits = Limits { run_events_max: 80, ..Limits::default() };
    let life = Life::start_with(fresh(), limits, &slack);
    let workflow = life.apply_text(
        "document: {dsl: 1.0.3, namespace: test, name: back, version: 1.0.0, metadata: {bellhop: {connections: {team: {kinds: [workspace, grid-workspace]}}, onFault: {rollback: completed}}}}
do:
  - add: {call: usergroup.add-user:1@slack, with: {connection: team, usergroup: S0HQIT, user: U0LEAVER}}
  - poll: {wait: {milliseconds: 1}, then: poll}
",
    );
    slack.control(
        "POST",
        "world",
        &json!([{"add_user": {
            "id": "U0LEAVER", "name": "leaver", "email": "leaver@acme.example", "workspaces": {"T0HQ": "member"},
        }}]),
    );
    let members = || slack.world()["groups"]["S0HQIT"]["users"].clone();
    let before = members();
    let run = life.started(trigger(&workflow, json!({}), HQ, None));
    assert_eq!(code(&life, run), "run-too-large");
    assert_eq!(members(), before);
    let written = slack.ledger().iter().filter(|line| line["method"] == "usergroups.users.update").count();
    assert_eq!(written, 2, "added, and taken back");
}
