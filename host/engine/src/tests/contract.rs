//! The contract with plugins, field by field: what a built component is told in a real host, compared with what the SDK says
//! of it.

use std::collections::BTreeSet;
use std::time::Duration;

use bellhop_core::id::RunId;
use bellhop_core::run::{Cause, Status};
use serde_json::{Value, json};

use super::life::{Life, Slack, fresh, trigger};
use super::scripted::{Script, Slice};
use crate::tests::at_once;
use bellhop_clock::{Clock as _, Manual};
use bellhop_limits::Limits;
use bellhop_tests::guest::Plugin;

const HQ: &[(&str, &str)] = &[("team", "hq")];
/// When the runs here are accepted.
const START_S: u64 = 1_790_000_000;

/// A plugin with two slices that says what it was told, what its wall clock shows, and 16 random letters. Its second slice
/// makes one call; where that is refused, it says all of this in its failure.
fn echo() -> Vec<u8> {
    let manifest = json!({
        "publisher": "nobody", "name": "echo", "version": "1.0.0",
        "actions": [{
            "name": "told.say", "title": "Say", "description": "Says what it was told.", "effect": "read",
            "input": { "type": "object" }, "output": { "type": "object" },
            "errors": [{ "code": "refused", "status": 409, "description": "A call was refused." }],
            "calls": [{ "on": ["grid-workspace"], "methods": [{ "function": "users.list", "when": "always" }] }],
        }],
    });
    let texts = [
        r#"{"changed":false,"output":{"random":""#,
        r#"{"again":{"random":""#,
        r#"{"code":"refused","message":"","class":"retry","retryAfterMs":7000,"details":{"random":""#,
        r#"","request":"#,
        r#"","wall":"#,
        r#"{"limit":1}"#,
    ];
    let mut data = String::new();
    let at = |number: usize| 40_000 + number * 200;
    for (number, text) in texts.iter().enumerate() {
        let escaped: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
        data += &format!("(data (i32.const {}) \"{escaped}\")\n", at(number));
    }
    // Text is put together from 90000 on; `$end` is where the next piece goes.
    let items = format!(
        "{data}
        (global $end (mut i32) (i32.const 90000))
        (func $put (param $from i32) (param $length i32)
          (memory.copy (global.get $end) (local.get $from) (local.get $length))
          (global.set $end (i32.add (global.get $end) (local.get $length))))
        (func $byte (param $byte i32)
          (i32.store8 (global.get $end) (local.get $byte))
          (global.set $end (i32.add (global.get $end) (i32.const 1))))
        (func $letters (local $from i32) (local $n i32)
          (call $bytes (i64.const 16) (i32.const 3000))
          (local.set $from (i32.load (i32.const 3000)))
          (loop $l
            (call $byte (i32.add (i32.const 97)
              (i32.and (i32.const 15) (i32.load8_u (i32.add (local.get $from) (local.get $n))))))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $l (i32.lt_u (local.get $n) (i32.const 16)))))
        (func $seconds (local $of i64)
          (call $wall (i32.const 3104))
          (local.set $of (i64.const 1000000000))
          (loop $l
            (call $byte (i32.add (i32.const 48)
              (i32.wrap_i64 (i64.rem_u (i64.div_u (i64.load (i32.const 3104)) (local.get $of)) (i64.const 10)))))
            (local.set $of (i64.div_u (local.get $of) (i64.const 10)))
            (br_if $l (i64.ne (local.get $of) (i64.const 0)))))
        (func $done (param $kind i32) (result i32)
          (call $byte (i32.const 125)) (call $byte (i32.const 125))
          (call $result (local.get $kind) (i32.const 90000) (i32.sub (global.get $end) (i32.const 90000))))"
    );
    let put = |number: usize| format!("(call $put (i32.const {}) (i32.const {}))", at(number), texts[number].len());
    // The state ends with a digit and two brackets; the input does not.
    let run = format!(
        "(local $kind i32) (local $last i32)
        (local.set $last (i32.load8_u (i32.sub (i32.add (local.get $input) (local.get $length)) (i32.const 3))))
        (if (i32.gt_u (i32.sub (local.get $last) (i32.const 48)) (i32.const 9)) (then
          {again} (call $letters) {wall} (call $seconds)
          (return (call $done (i32.const 0)))))
        (call $users.list (i32.const {arguments}) (i32.const {arguments_length}) (i32.const 128))
        (local.set $kind (i32.load8_u (i32.const 128)))
        (if (local.get $kind) (then {failed}) (else {ended}))
        (call $letters) {request} (call $put (local.get $input) (local.get $length))
        (call $done (local.get $kind))",
        again = put(1),
        wall = put(4),
        arguments = at(5),
        arguments_length = texts[5].len(),
        failed = put(2),
        ended = put(0),
        request = put(3),
    );
    Plugin {
        imports: &["users.list"],
        run: &run,
        description: &manifest.to_string(),
        items: &items,
        core: r#"(import "host" "bytes" (func $bytes (param i64 i32))) (import "host" "wall" (func $wall (param i32)))"#,
        outer: r#"
          (import "wasi:random/random@0.2.0" (instance $random
            (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
          (core func $random.bytes (canon lower (func $random "get-random-bytes") (memory $memory) (realloc $realloc)))
          (import "wasi:clocks/wall-clock@0.2.0" (instance $wall
            (type $d (record (field "seconds" u64) (field "nanoseconds" u32)))
            (export "datetime" (type $datetime (eq $d)))
            (export "now" (func (result $datetime)))))
          (core func $wall.now (canon lower (func $wall "now") (memory $memory)))"#,
        given: r#"(export "bytes" (func $random.bytes)) (export "wall" (func $wall.now))"#,
        ..Plugin::default()
    }
    .build()
}

/// The fields of a struct of the SDK, as they are written in JSON.
fn fields(name: &str) -> BTreeSet<String> {
    let source = include_str!("../../../../plugins/sdk/src/context.rs");
    let (_, body) = source.split_once(&format!("pub struct {name} {{")).unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let names = body.lines().filter_map(|line| line.trim().strip_prefix("pub ")?.split_once(':').map(|(name, _)| name));
    let camel = |name: &str| {
        let mut parts = name.split('_');
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |all, part| {
            let (head, tail) = part.split_at(1);
            all + &head.to_uppercase() + tail
        })
    };
    names.filter(|name| !name.starts_with("(crate)")).map(camel).collect()
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

/// What the retried attempts of a run said in their failures, and what each task gave in the end.
fn said(life: &Life, run: RunId) -> (Vec<Value>, Vec<Value>) {
    let (mut failures, mut outputs) = (Vec::new(), Vec::new());
    for event in life.decided(run) {
        match event["event"].as_str().unwrap() {
            "retry-scheduled" => failures.push(event["fault"]["details"].clone()),
            "task-completed" if event.get("effect").is_some() => outputs.push(event["output"].clone()),
            _ => {}
        }
    }
    (failures, outputs)
}

#[test]
fn house_a13_author_2_author_3_a_component_is_told_what_the_sdk_says() {
    let slack = Slack::start();
    let clock = Manual::new(bellhop_core::time::Timestamp::from_millis(START_S * 1_000));
    let limits = Limits { guest_calls_max: 17, guest_answer_bytes_max: 123_456, ..Limits::default() };
    let life = Life::start_at(fresh(), limits.clone(), std::sync::Arc::new(clock.clone()), &slack);
    let services = &life.engine().services;
    life.wait(services.plugins.install(&echo(), None, &services.gateway.rules, services.clock.now())).unwrap();
    let workflow = life.apply(
        "
  - rest: {wait: {hours: 1}}
  - careful:
      try:
        - first: {call: 'told.say:1@echo', with: {connection: team, z: '!'}}
      catch:
        retry: {delay: {milliseconds: 1}, limit: {attempt: {count: 3}}}
  - second: {call: 'told.say:1@echo', with: {connection: team, z: '!'}}",
    );
    // The second slice of the first attempt is refused.
    slack.fault(&json!({ "method": "users.list", "action": { "refuse": { "error": "access_denied" } } }));
    let run = life.started(trigger(&workflow, json!({}), HQ, None));
    life.until_status(run, Status::Waiting);
    clock.advance(Duration::from_secs(3_600));
    let waiting = || at_once(life.engine().summary(run)).unwrap().unwrap().waiting;
    life.until("the failure is caught", || waiting().is_some_and(|waiting| waiting["on"] == "retry"));
    // The plugin said seven seconds, and the file's one millisecond is less.
    let waiting = waiting().unwrap();
    assert_eq!(waiting["until"], clock.now().plus_millis(7_000).to_string(), "{waiting}");
    clock.advance(Duration::from_secs(7));
    // Whoever looked at the clock before that, and sleeps since, is woken by the time that passes.
    life.until("the run ends", || {
        clock.advance(Duration::from_millis(100));
        life.status(run) == Status::Completed
    });
    let (failures, outputs) = said(&life, run);
    let ([failure], [first, second]) = (&failures[..], &outputs[..]) else { panic!("{failures:?} {outputs:?}") };

    let context = &first["request"]["context"];
    assert_eq!(keys(&first["request"]), BTreeSet::from(["context", "input", "state"].map(str::to_owned)));
    assert_eq!(keys(context), fields("Context"));
    assert_eq!(keys(&context["connection"]), fields("Connection"));
    assert_eq!(keys(&context["limits"]), fields("Limits"));
    assert_eq!(context["run"], run.to_string());
    assert_eq!(context["task"], "/do/1/careful/try/0/first", "a JSON pointer");
    assert_eq!((&failure["request"]["context"]["attempt"], &context["attempt"]), (&json!(1), &json!(2)));
    assert_eq!(context["dryRun"], false);
    assert_eq!(
        (&context["connection"]["name"], &context["connection"]["kind"]),
        (&json!("hq"), &json!("grid-workspace"))
    );
    assert_eq!((&context["limits"]["calls"], &context["limits"]["answerBytes"]), (&json!(17), &json!(123_456)));
    assert_eq!(context["limits"]["idleSlices"], limits.guest_idle_slices_max);

    // The task's execution began after an hour, and the second attempt seven seconds later.
    let began = bellhop_core::time::Timestamp::from_millis((START_S + 3_600) * 1_000).to_string();
    assert_eq!(context["startedAt"], began);
    assert_eq!(first["request"]["state"]["wall"], START_S + 3_600, "the wall clock of its first slice");
    for (name, of) in [("execution", context), ("startedAt", context), ("task", context), ("run", context)] {
        assert_eq!(failure["request"]["context"][name], of[name], "{name} is the same in each attempt");
    }
    // Randomness is the same in each slice and attempt, and another in each execution.
    for same in [&failure["random"], &failure["request"]["state"]["random"], &first["request"]["state"]["random"]] {
        assert_eq!(*same, first["random"]);
    }
    assert_eq!(first["random"].as_str().unwrap().len(), 16);
    assert_ne!(first["random"], second["random"]);
    assert_ne!(context["execution"], second["request"]["context"]["execution"]);
    assert_ne!(context["startedAt"], second["request"]["context"]["startedAt"]);

    // Another run of the same workflow.
    let other = life.started(trigger(&workflow, json!({}), HQ, None));
    life.until_status(other, Status::Waiting);
    clock.advance(Duration::from_secs(3_600));
    life.until("the other run ends", || {
        clock.advance(Duration::from_secs(1));
        life.status(other) == Status::Completed
    });
    let (_, outputs) = said(&life, other);
    assert_ne!(outputs[0]["random"], first["random"], "another run");
}

/// The guest is told its limits, and a replay has to make the same requests.
#[test]
fn a_run_keeps_the_guest_limits_of_its_acceptance() {
    let slack = Slack::start();
    let clock = Manual::new(bellhop_core::time::Timestamp::from_millis(START_S * 1_000));
    let limits = |calls: u64| Limits { guest_calls_max: calls, ..Limits::default() };
    let start = |memory, calls| Life::start_at(memory, limits(calls), std::sync::Arc::new(clock.clone()), &slack);
    let life = start(fresh(), 17);
    let services = &life.engine().services;
    life.wait(services.plugins.install(&echo(), None, &services.gateway.rules, services.clock.now())).unwrap();
    let workflow = life.apply(
        "
  - rest: {wait: {hours: 1}}
  - only: {call: 'told.say:1@echo', with: {connection: team, z: '!'}}",
    );
    let old = life.started(trigger(&workflow, json!({}), HQ, None));
    life.until_status(old, Status::Waiting);
    let life = start(life.die(usize::MAX), 5);
    let new = life.started(trigger(&workflow, json!({}), HQ, None));
    life.until_status(new, Status::Waiting);
    life.until("both end", || {
        clock.advance(Duration::from_secs(600));
        [old, new].iter().all(|run| life.status(*run) == Status::Completed)
    });
    let told = |run| said(&life, run).1[0]["request"]["context"]["limits"]["calls"].clone();
    assert_eq!((told(old), told(new)), (json!(17), json!(5)));
}

#[test]
fn house_a13_what_is_tried_again_by_a_person_began_when_it_began() {
    let slack = Slack::start();
    let clock = Manual::new(bellhop_core::time::Timestamp::from_millis(START_S * 1_000));
    let life = Life::start_at(fresh(), Limits::default(), std::sync::Arc::new(clock.clone()), &slack);
    let services = &life.engine().services;
    life.wait(services.plugins.install(&echo(), None, &services.gateway.rules, services.clock.now())).unwrap();
    let workflow = life.apply("\n  - only: {call: 'told.say:1@echo', with: {connection: team, z: '!'}}");
    slack.fault(&json!({ "method": "users.list", "action": { "refuse": { "error": "access_denied" } } }));
    let run = life.started(trigger(&workflow, json!({}), HQ, None));
    assert_eq!(life.ended(run).unwrap().status, Status::Faulted);
    clock.advance(Duration::from_secs(86_400));
    life.wait(life.engine().signal(run, Cause::Retry)).unwrap();
    let view = life.ended(run).unwrap();
    assert_eq!(view.status, Status::Completed, "{view:?}");
    let (_, outputs) = said(&life, run);
    let began = bellhop_core::time::Timestamp::from_millis(START_S * 1_000).to_string();
    assert_eq!(outputs[0]["request"]["context"]["startedAt"], began);
    assert_eq!(outputs[0]["request"]["state"]["wall"], START_S);
}

#[test]
fn house_a12_author_12_no_code_of_a_guest_is_taken_for_a_state_of_the_hosts() {
    for code in ["outcome-unknown", "run-poisoned", "Never Declared", "retry-differs", "made-up"] {
        let slack = Slack::start();
        let life = Life::start(fresh(), &slack);
        let answer = json!({ "code": code, "message": "look", "class": "park" }).to_string();
        let slices = [Slice { answer: Err(&answer), ..Slice::default() }];
        let script = Script { name: "speaks", effect: "read", inverse: None, slices: &slices };
        script.install(&life);
        let workflow = life.apply("\n  - act: {call: 'speaks.do:1@speaks', with: {connection: team}}");
        let run = life.started(trigger(&workflow, json!({}), HQ, None));
        life.until_status(run, Status::Parked);
        let waiting = life.view(run).waiting.unwrap();
        let reason = &waiting["reason"];
        assert!(reason["type"].as_str().unwrap().ends_with("/plugin-error"), "{waiting}");
        assert_eq!((&reason["details"]["code"], &reason["detail"]), (&json!(code), &json!("look")));
        assert!(!at_once(life.engine().summary(run)).unwrap().unwrap().poisoned);
        // A person has it tried again: in a new attempt, since nothing is in doubt.
        life.wait(life.engine().signal(run, Cause::Retry)).unwrap();
        let parked = |of: u64| {
            let events = life.decided(run);
            let attempts = events.iter().filter(|event| event["event"] == "call-retried").count();
            attempts == 1 && events.iter().filter(|event| event["event"] == "parked").count() as u64 == of
        };
        life.until("it parks again", || parked(2));
        let asked = life.decided(run).into_iter().find(|event| event["event"] == "parked").unwrap();
        assert_eq!(asked["why"], "asked");
        // A start takes it up as any other.
        let life = Life::start(life.die(usize::MAX), &slack);
        assert!(!life.engine().is_aside(run));
    }
}

#[test]
fn author_4_an_action_that_gets_nowhere_ends() {
    let read = ("users.list", r#"{"limit":1}"#);
    for (name, calls) in [("idle", &[][..]), ("same", &[read][..])] {
        let slack = Slack::start();
        let life = Life::start(fresh(), &slack);
        let slices = [Slice { calls, answer: Ok(r#"{"again":0}"#), ..Slice::default() }];
        let script = Script { name, effect: "read", inverse: None, slices: &slices };
        script.install(&life);
        let workflow = life.apply(&format!("\n  - act: {{call: '{name}.do:1@{name}', with: {{connection: team}}}}"));
        let run = life.started(trigger(&workflow, json!({}), HQ, None));
        let view = life.ended(run).unwrap();
        assert_eq!(view.status, Status::Faulted, "{name}");
        assert!(view.error.unwrap()["type"].as_str().unwrap().ends_with("/plugin-no-progress"));
        let slices = life.entries(run).iter().filter(|e| matches!(e, bellhop_journal::Entry::Slice { .. })).count();
        assert!(slices as u64 <= Limits::default().guest_idle_slices_max, "{name}: {slices}");
    }
}

#[test]
fn author_11_what_slack_explains_reaches_the_author() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    slack.fault(&json!({ "method": "chat.postMessage", "action": { "http": { "status": 200, "body": {
        "ok": false, "error": "invalid_arguments",
        "response_metadata": { "messages": ["[ERROR] missing required field: channel"] },
    }}}}));
    let workflow = life.apply(
        "
  - one: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: one}}",
    );
    let run = life.started(trigger(&workflow, json!({}), HQ, None));
    let error = life.ended(run).unwrap().error.unwrap();
    assert_eq!(error["details"]["messages"], json!(["[ERROR] missing required field: channel"]), "{error}");
    assert!(error["detail"].as_str().unwrap().ends_with("missing required field: channel"), "{error}");
}

#[test]
fn author_8_every_public_event_says_when() {
    let slack = Slack::start();
    let clock = Manual::new(bellhop_core::time::Timestamp::from_millis(START_S * 1_000));
    let life = Life::start_at(fresh(), Limits::default(), std::sync::Arc::new(clock.clone()), &slack);
    let slices =
        [Slice { calls: &[("users.list", r#"{"limit":1}"#)], answer: Ok(super::scripted::DONE), ..Slice::default() }];
    let script = Script { name: "reads", effect: "read", inverse: None, slices: &slices };
    script.install(&life);
    let held = slack.fault(&json!({ "method": "users.list", "action": "hold_before_accept" }));
    let workflow = life.apply("\n  - act: {call: 'reads.do:1@reads', with: {connection: team}}");
    let run = life.started(trigger(&workflow, json!({}), HQ, None));
    slack.happened(held);
    clock.advance(Duration::from_secs(5));
    slack.release(held, "answer");
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    let (_, definition) = at_once(life.engine().pins_of(run)).unwrap();
    let mask = bellhop_core::mask::Mask::new(&[], &json!({}));
    let mut reader = crate::show::timeline::Reader::new(definition.workflow.clone(), mask);
    let events = life.entries(run).into_iter().flat_map(|entry| {
        let values = at_once(life.journal().values(crate::show::timeline::named_by(&entry)));
        reader.read(&values, entry)
    });
    let events: Vec<_> = events.collect();
    assert!(events.iter().all(|event| event.at.is_some()), "{events:?}");
    let read = events.iter().find(|event| event.kind == "call.read").unwrap();
    let after = bellhop_core::time::Timestamp::from_millis((START_S + 5) * 1_000).to_string();
    assert_eq!(read.at.as_deref(), Some(after.as_str()));
}
