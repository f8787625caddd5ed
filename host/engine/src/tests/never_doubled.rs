//! What an attempt at an action carried out is found by the next one, whatever the guest did between, and over slices.

use bellhop_core::id::RunId;
use bellhop_core::requirement::Permission;
use bellhop_core::run::{Cause, Event, Status};
use serde_json::{Value, json};

use super::life::{Life, Slack, fresh, trigger};
use super::scripted::{DONE, REFUSED, Script, Slice};
use crate::tests::at_once;
use bellhop_journal::Entry;
use bellhop_limits::Limits;

const HQ: &[(&str, &str)] = &[("team", "hq")];
const POST: (&str, &str) = ("chat.post-message", r#"{"channel":"C0HQGENERAL","text":"once"}"#);
const READ: (&str, &str) = ("users.list", r#"{"limit":1}"#);

/// A workflow that has the action tried so often in all.
fn retried(life: &Life, name: &str, attempts: u32) -> bellhop_core::definition::WorkflowName {
    let retries = attempts - 1;
    life.apply(&format!(
        "
  - careful:
      try:
        - act: {{call: '{name}.do:1@{name}', with: {{connection: team}}}}
      catch:
        retry: {{delay: {{milliseconds: 1}}, limit: {{attempt: {{count: {retries}}}}}}}"
    ))
}

/// Has the action tried twice; gives what is on record.
fn twice(life: &Life, script: &Script<'_>) -> (RunId, Status) {
    script.install(life);
    let workflow = retried(life, script.name, 2);
    let run = life.started(trigger(&workflow, json!({}), HQ, None));
    (run, life.ended(run).unwrap().status)
}

fn events(life: &Life, run: RunId) -> Vec<Event> {
    life.decided(run).into_iter().map(|event| serde_json::from_value(event).unwrap()).collect()
}

/// The ordinals of an attempt's calls that are on record with an end.
fn ordinals(life: &Life, run: RunId, of: u32) -> Vec<u32> {
    let ends = life.entries(run).into_iter().filter_map(|entry| match entry {
        Entry::Outcome { attempt, ordinal, .. } | Entry::Read { attempt, ordinal, .. } if attempt == of => {
            Some(ordinal)
        }
        _ => None,
    });
    ends.collect()
}

#[test]
fn house_a6_behind_a_call_that_the_host_refuses_a_retry_sends_nothing_twice() {
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(200), "]".repeat(200));
    for (number, arguments) in ["[]", "not JSON", "1e999", "\"text\"", "", deep.as_str()].into_iter().enumerate() {
        let slack = Slack::start();
        let life = Life::start(fresh(), &slack);
        let name = format!("holes-{number}");
        let slices = [Slice {
            calls: &[("users.list", arguments), POST],
            lenient: true,
            answer: Err(REFUSED),
            ..Slice::default()
        }];
        let script = Script { name: &name, effect: "create", inverse: None, slices: &slices };
        let (run, status) = twice(&life, &script);
        assert_eq!(status, Status::Faulted);
        assert_eq!(slack.messages(), ["once"], "{arguments}");
        for attempt in [1, 2] {
            assert_eq!(ordinals(&life, run, attempt), [0, 1], "attempt {attempt} after {arguments}");
        }
    }
}

#[test]
fn house_a6_what_is_not_granted_leaves_no_hole_either() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let slices = [Slice {
        calls: &[("conversations.info", r#"{"channel":"C0HQGENERAL"}"#), POST, POST],
        lenient: true,
        answer: Err(REFUSED),
        ..Slice::default()
    }];
    let script = Script { name: "refused-by-rule", effect: "create", inverse: None, slices: &slices };
    let services = &life.engine().services;
    // Posting is granted in one channel, and reading nowhere.
    let grants = vec!["chat.postMessage:channel=C0HQGENERAL".parse().unwrap()];
    life.wait(services.plugins.install(&script.build(), Some(grants), &services.gateway.rules, services.clock.now()))
        .unwrap();
    let workflow = retried(&life, script.name, 2);
    let run = life.started(trigger(&workflow, json!({}), HQ, None));
    assert_eq!(life.ended(run).unwrap().status, Status::Faulted);
    assert_eq!(slack.count("conversations.info"), 0);
    assert_eq!(slack.messages(), ["once", "once"], "two are meant");
    for attempt in [1, 2] {
        assert_eq!(ordinals(&life, run, attempt), [0, 1, 2]);
    }
}

/// The same request to another workspace is another request: nobody is told that it was carried out there.
#[test]
fn house_d7_what_was_carried_out_on_one_connection_answers_for_no_other() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    life.connect("lab", "xoxb-lab", Permission::Act);
    let slices = [Slice { calls: &[POST], ..Slice::default() }];
    Script { name: "either", effect: "create", inverse: None, slices: &slices }.install(&life);
    let workflow = life.apply(
        "
  - careful:
      try:
        - act: {call: 'either.do:1@either', with: {connection: '${ if $context.tried then \"other\" else \"team\" end }'}}
        - mark: {set: {tried: true}, export: {as: {tried: true}}}
        - fail: {raise: {error: {type: 'https://example.com/no', status: 500}}}
      catch:
        retry: {delay: {milliseconds: 1}, limit: {attempt: {count: 1}}}",
    );
    let run = life.started(trigger(&workflow, json!({}), &[("team", "hq"), ("other", "lab")], None));
    life.until("it is parked", || life.status(run).is_final() || life.parked(run) > 0);
    assert_eq!(life.view(run).waiting.unwrap()["why"], "differs", "{:?}", life.view(run));
    assert_eq!(slack.messages(), ["once"]);
}

#[test]
fn house_a6_a_write_whose_answer_is_too_large_counts_as_carried_out() {
    let slack = Slack::start();
    let limits = Limits { guest_answer_bytes_max: 10_000, ..Limits::default() };
    let life = Life::start_with(fresh(), limits, &slack);
    slack.fault(&json!({ "method": "chat.postMessage", "times": 0, "action": { "http": {
        "status": 200, "accepted": true,
        "body": { "ok": true, "channel": "C0HQGENERAL", "ts": "1790000000.000100", "blob": "x".repeat(20_000) },
    }}}));
    let slices = [Slice { calls: &[POST], lenient: true, answer: Err(REFUSED), ..Slice::default() }];
    let script = Script { name: "talkative", effect: "create", inverse: None, slices: &slices };
    let (run, _) = twice(&life, &script);
    assert_eq!(slack.messages(), ["once"]);
    let answers: Vec<Value> = life
        .entries(run)
        .into_iter()
        .filter_map(|entry| match entry {
            Entry::Outcome { answer: bellhop_journal::Answer::Ok(content), .. } => {
                Some(at_once(life.journal().read(&content)).unwrap())
            }
            _ => None,
        })
        .collect();
    let [answer] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((&answer["ts"], &answer["bellhop_left_out"]), (&json!("1790000000.000100"), &json!(["blob"])));
}

#[test]
fn house_a6_a_guest_that_may_hear_no_more_sends_nothing_more() {
    let slack = Slack::start();
    let limits = Limits { guest_answers_bytes_max: 10, ..Limits::default() };
    let life = Life::start_with(fresh(), limits, &slack);
    let slices = [Slice { calls: &[READ, POST], lenient: true, answer: Err(REFUSED), ..Slice::default() }];
    let script = Script { name: "deafened", effect: "create", inverse: None, slices: &slices };
    let (run, _) = twice(&life, &script);
    assert_eq!(slack.count("chat.postMessage"), 0, "what the guest would not hear of was sent");
    assert_eq!(ordinals(&life, run, 2), [0, 1]);
}

/// Whether the run was parked as having written, over all the times.
fn parked_as_written(life: &Life, run: RunId) -> Vec<bool> {
    let parked = events(life, run).into_iter().filter_map(|event| match event {
        Event::Parked { wrote, .. } => Some(wrote),
        _ => None,
    });
    parked.collect()
}

#[test]
fn house_a7_what_a_slice_wrote_is_known_when_a_later_one_parks() {
    let park = r#"{"code":"refused","message":"somebody has to look","class":"park"}"#;
    for restarts in [false, true] {
        let slack = Slack::start();
        let mut life = Life::start(fresh(), &slack);
        let slices = [
            Slice { calls: &[POST], answer: Ok(r#"{"again":1}"#), ..Slice::default() },
            Slice { calls: &[READ], answer: Ok(r#"{"again":2}"#), ..Slice::default() },
            Slice { calls: &[READ], answer: Err(park), ..Slice::default() },
        ];
        let name = if restarts { "parks-later" } else { "parks" };
        let action = format!("{name}.do");
        let script = Script { name, effect: "create", inverse: Some(&action), slices: &slices };
        script.install(&life);
        let workflow = life.apply(&format!("\n  - act: {{call: '{name}.do:1@{name}', with: {{connection: team}}}}"));
        let held = slack.fault(&json!({ "method": "users.list", "nth": 2, "action": "hold_before_accept" }));
        let run = life.started(trigger(&workflow, json!({}), HQ, None));
        slack.happened(held);
        if restarts {
            life = Life::start(life.die(usize::MAX), &slack);
        } else {
            slack.release(held, "answer");
        }
        life.until_status(run, Status::Parked);
        assert_eq!(parked_as_written(&life, run), [true], "restarted: {restarts}");
        // The change is in the ledger: how it is taken back nobody said, so a person is asked.
        life.wait(life.engine().signal(run, Cause::Kill)).unwrap();
        assert_eq!(life.ended(run).unwrap().status, Status::Cancelled);
        life.wait(life.engine().signal(run, Cause::Undo)).unwrap();
        life.until_status(run, Status::Parked);
        let view = life.view(run);
        assert!(view.waiting.unwrap().to_string().contains("rollback-incomplete"), "restarted: {restarts}");
        assert_eq!(slack.messages(), ["once"]);
    }
}

#[test]
fn house_a7_slices_that_only_read_park_as_having_changed_nothing() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let slices = [
        Slice { calls: &[READ], answer: Ok(r#"{"again":1}"#), ..Slice::default() },
        Slice { answer: Err(r#"{"code":"refused","message":"look","class":"park"}"#), ..Slice::default() },
    ];
    let script = Script { name: "looks", effect: "create", inverse: None, slices: &slices };
    script.install(&life);
    let workflow = life.apply("\n  - act: {call: 'looks.do:1@looks', with: {connection: team}}");
    let run = life.started(trigger(&workflow, json!({}), HQ, None));
    life.until_status(run, Status::Parked);
    assert_eq!(parked_as_written(&life, run), [false]);
    // Nor after the process died.
    let life = Life::start(life.die(usize::MAX), &slack);
    life.wait(life.engine().signal(run, Cause::Retry)).unwrap();
    life.until("it parks again", || parked_as_written(&life, run).len() == 2);
    assert_eq!(parked_as_written(&life, run), [false, false]);
}

#[test]
fn house_a7_each_earlier_success_answers_once_over_slices_and_lives() {
    for restarts in [false, true] {
        let slack = Slack::start();
        let mut life = Life::start(fresh(), &slack);
        // Two equal messages are meant; the first attempt fails between them.
        let slices = [
            Slice { calls: &[POST], answer: Ok(r#"{"again":1}"#), ..Slice::default() },
            Slice { calls: &[READ, POST], answer: Ok(DONE), ..Slice::default() },
        ];
        let name = if restarts { "equal-later" } else { "equal" };
        let script = Script { name, effect: "create", inverse: None, slices: &slices };
        script.install(&life);
        let workflow = retried(&life, name, 2);
        slack.fault(&json!({ "method": "users.list", "action": { "refuse": { "error": "access_denied" } } }));
        // The first rule takes the first attempt's, this one the second's.
        let held = slack.fault(&json!({ "method": "users.list", "action": "hold_before_accept" }));
        let run = life.started(trigger(&workflow, json!({}), HQ, None));
        slack.happened(held);
        assert_eq!(slack.messages(), ["once"], "the first was sent again");
        if restarts {
            life = Life::start(life.die(usize::MAX), &slack);
        } else {
            slack.release(held, "answer");
        }
        assert_eq!(life.ended(run).unwrap().status, Status::Completed);
        assert_eq!(slack.messages(), ["once", "once"], "restarted: {restarts}");
        slack.check_once("over slices");
    }
}

#[test]
fn house_a7_a_retry_reads_what_an_earlier_attempt_did_once_and_not_in_every_slice() {
    let scanned = |slices: usize| {
        let slack = Slack::start();
        let life = Life::start(fresh(), &slack);
        let agains: Vec<String> = (1..=slices).map(|next| format!("{{\"again\":{next}}}")).collect();
        let mut all: Vec<Slice<'_>> = agains
            .iter()
            .map(|again| Slice { calls: &[POST, POST, POST, POST], answer: Ok(again), ..Slice::default() })
            .collect();
        all.push(Slice { calls: &[READ], answer: Err(REFUSED), ..Slice::default() });
        let name = format!("slices-{slices}");
        let script = Script { name: &name, effect: "create", inverse: None, slices: &all };
        let before = life.store.scanned();
        let (run, _) = twice(&life, &script);
        assert_eq!(slack.messages().len(), slices * 4, "a message was sent again");
        assert_eq!(ordinals(&life, run, 2).len(), slices * 4 + 1);
        life.store.scanned() - before
    };
    let (few, many) = (scanned(4), scanned(8));
    assert!(many <= few * 5 / 2, "{few} records were read for 4 slices, {many} for 8");
}
