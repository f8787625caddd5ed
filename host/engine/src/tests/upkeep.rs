//! What a host does besides runs: it forgets in time, remembers what Slack asked for, keeps to its limits, and shows what
//! it cannot read.

use std::sync::Arc;
use std::time::Duration;

use bellhop_core::id::RunId;
use bellhop_core::run::{Cause, Status};
use serde_json::{Value, json};

use super::life::{Life, Slack, fresh, trigger};
use crate::accept::trigger::Refused;
use crate::drive::runs::LoadError;
use crate::setup::definitions::{self, Expect, PutError};
use crate::tests::at_once;
use bellhop_clock::Manual;
use bellhop_journal::memory::Memory;
use bellhop_journal::store::Batch;
use bellhop_journal::{Journal, Store, Write, key};
use bellhop_limits::Limits;

const HQ: &[(&str, &str)] = &[("team", "hq")];
const NOTHING: &str = "\n  - nothing: {set: {done: true}}";
const SLEEP: &str = "\n  - sleep: {wait: {days: 2}}";
const ONE: &str = "
  - one: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: '${ .text }'}}";
const DAY: Duration = Duration::from_secs(86_400);

fn is_bound(life: &Life, name: &str, key: &str) -> bool {
    at_once(life.journal().get::<Value>(&key::idempotency("test", name, key))).unwrap().is_some()
}

fn expiries(life: &Life) -> usize {
    let all = at_once(life.journal().expired(bellhop_core::time::Timestamp::from_millis(u64::MAX - 1), 4_000)).unwrap();
    all.into_iter().filter(|(_, subject)| subject.space() == key::Space::Idempotency).count()
}

#[test]
fn an_idempotency_key_goes_a_day_after_its_run_has_ended() {
    let slack = Slack::start();
    let clock = Manual::new(super::ports::START);
    let life = Life::start_at(fresh(), Limits::default(), Arc::new(clock.clone()), &slack);
    let (short, long) = (life.apply(NOTHING), life.apply(SLEEP));
    for n in 0..700 {
        let run = life.started(trigger(&short, json!({}), &[], Some(&format!("short-{n}"))));
        assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    }
    let open = life.started(trigger(&long, json!({}), &[], Some("long")));
    life.until_status(open, Status::Waiting);
    clock.advance(DAY - Duration::from_secs(1));
    assert_eq!(life.wait(life.engine().sweep()).unwrap(), 0);
    assert!(is_bound(&life, &short.name, "short-0"));
    // By itself, in slices.
    clock.advance(Duration::from_secs(1));
    life.until("the keys are gone", || {
        // It sleeps for ten minutes from when it has looked the last time.
        clock.advance(Duration::from_secs(1));
        expiries(&life) == 0
    });
    assert!((0..700).all(|n| !is_bound(&life, &short.name, &format!("short-{n}"))));
    assert!(is_bound(&life, &long.name, "long"), "its run has not ended");
    // The key may start another run.
    assert!(!life.trigger(trigger(&short, json!({}), &[], Some("short-0"))).unwrap().unwrap().replayed);
    clock.advance(DAY);
    life.until_status(open, Status::Completed);
    clock.advance(DAY);
    life.wait(life.engine().sweep()).unwrap();
    assert!(!is_bound(&life, &long.name, "long"));
}

#[test]
fn how_long_slack_wants_to_be_left_alone_is_known_after_a_restart() {
    let slack = Slack::start();
    let limited = slack.fault(&json!({ "method": "chat.postMessage", "action": {"rate_limit": {"retry_after": 3}} }));
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(ONE);
    let run = life.started(trigger(&workflow, json!({ "text": "late" }), HQ, None));
    slack.happened(limited);
    let closed = |life: &Life| life.engine().services.gateway.limiter.snapshot();
    let range = key::all(key::Space::Limiter);
    let on_record = |life: &Life| at_once(life.store.scan(&range.from, &range.to, 10)).unwrap().items.len();
    life.until("the bucket is closed", || closed(&life).len() == 1 && on_record(&life) == 1);
    let until = closed(&life).remove(0);
    assert_eq!(until.key.bucket, "chat.postMessage");
    let life = Life::start(life.die(usize::MAX), &slack);
    assert_eq!(closed(&life), std::slice::from_ref(&until));
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    assert!(life.engine().services.clock.now().as_millis() >= until.until_ms);
    assert_eq!(slack.messages(), ["late"]);
    // What is over is removed.
    life.wait(life.engine().sweep()).unwrap();
    assert_eq!(on_record(&life), 0);
}

#[test]
fn no_more_runs_are_open_than_may_be() {
    let slack = Slack::start();
    let limits = Limits { open_runs_max: 2, ..Limits::default() };
    let life = Life::start_with(fresh(), limits.clone(), &slack);
    let (short, long) = (life.apply(NOTHING), life.apply(SLEEP));
    let first = life.started(trigger(&long, json!({}), &[], Some("first")));
    // What has ended, or was refused, takes no place.
    for _ in 0..3 {
        let run = life.started(trigger(&short, json!({}), &[], None));
        assert_eq!(life.ended(run).unwrap().status, Status::Completed);
        life.until("its place is free", || life.engine().runs().places.open() == 1);
        assert!(life.trigger(trigger(&long, json!({}), &[("nobody", "hq")], None)).unwrap().is_err());
    }
    life.started(trigger(&long, json!({}), &[], None));
    let refused = |life: &Life| life.trigger(trigger(&long, json!({}), &[], Some("third"))).unwrap();
    assert!(matches!(refused(&life), Err(Refused::TooMany { max: 2 })));
    // Known still after a restart; a key that was bound before is answered.
    let life = Life::start_with(life.die(usize::MAX), limits, &slack);
    assert!(matches!(refused(&life), Err(Refused::TooMany { max: 2 })));
    let again = life.trigger(trigger(&long, json!({}), &[], Some("first"))).unwrap().unwrap();
    assert!(again.replayed && again.run == first);
    life.wait(life.engine().signal(first, Cause::Cancel)).unwrap();
    life.until("its place is free", || life.engine().runs().places.open() == 1);
    assert!(!refused(&life).unwrap().replayed);
}

#[test]
fn runs_wait_in_line_for_a_place_in_memory() {
    let slack = Slack::start();
    let held = slack.fault(&json!({ "method": "chat.postMessage", "times": 2, "action": "hold_before_accept" }));
    let limits = Limits { live_runs_max: 2, ..Limits::default() };
    let life = Life::start_with(fresh(), limits.clone(), &slack);
    let workflow = life.apply(ONE);
    let runs: Vec<RunId> =
        (0..6).map(|n| life.started(trigger(&workflow, json!({ "text": n.to_string() }), HQ, None))).collect();
    slack.control("GET", &format!("signals/wait?fault={held}&count=2&timeout_ms=30000"), &Value::Null);
    assert_eq!(life.engine().runs().live(), 2);
    assert!(runs.iter().all(|run| life.status(*run) == Status::Running));
    // After a restart as well, and in any order each comes to its end.
    let life = Life::start_with(life.die(usize::MAX), limits, &slack);
    for run in runs {
        assert!(life.engine().runs().live() <= 2);
        assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    }
    let mut messages = slack.messages();
    messages.sort();
    assert_eq!(messages, ["0", "1", "2", "3", "4", "5"]);
}

#[test]
fn a_workflow_has_no_more_versions_than_it_may() {
    let slack = Slack::start();
    let life = Life::start_with(fresh(), Limits { definition_versions_max: 2, ..Limits::default() }, &slack);
    let put = |name: &str, version: &str| {
        let text = format!(
            "document: {{dsl: 1.0.3, namespace: test, name: {name}, version: {version}}}\ndo:\n  - a: {{set: {{done: true}}}}\n"
        );
        let definition = definitions::read("w.yaml", &text).0.unwrap();
        let address = definition.workflow.document.name.clone();
        let services = &life.engine().services;
        life.wait(services.definitions.put(&address, definition, "w.yaml", &text, &Expect::Any, services.clock.now()))
    };
    put("many", "1.0.0").unwrap();
    put("many", "1.0.1").unwrap();
    let Err(refused) = put("many", "1.0.2") else { panic!("a third version") };
    assert!(matches!(refused, PutError::TooMany { max: 2, .. }), "{refused:?}");
    // The same again is no new version.
    put("many", "1.0.0").unwrap();
    put("other", "1.0.2").unwrap();
}

/// Two runs that are under way; the first is damaged then. Gives what is left.
fn two(slack: &Slack) -> (Memory, RunId, RunId) {
    let held = slack.fault(&json!({ "method": "chat.postMessage", "times": 2, "action": "hold_before_accept" }));
    let life = Life::start(fresh(), slack);
    let workflow = life.apply(ONE);
    let damaged = life.started(trigger(&workflow, json!({ "text": "damaged" }), HQ, None));
    let whole = life.started(trigger(&workflow, json!({ "text": "whole" }), HQ, None));
    slack.control("GET", &format!("signals/wait?fault={held}&count=2&timeout_ms=30000"), &Value::Null);
    (life.die(usize::MAX), damaged, whole)
}

/// Puts something unreadable in the place of a record, and gives what stood there.
fn damage(store: &impl Store, record: &key::Key) -> Vec<u8> {
    let original = at_once(store.get(record.bytes())).unwrap().unwrap().to_vec();
    put(store, record, b"no record");
    original
}

fn put(store: &impl Store, record: &key::Key, value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(record.bytes(), value);
    store.commit(batch).unwrap();
}

fn shown_as_poisoned(life: &Life, run: RunId) {
    let view = life.view(run);
    assert_eq!(view.status, Status::Parked, "{view:?}");
    let waiting = view.waiting.unwrap();
    assert_eq!(waiting["on"], "person");
    assert!(waiting["reason"]["type"].as_str().unwrap().ends_with("/run-poisoned"), "{waiting}");
    let (views, _) = life.wait(life.engine().run_list(None, 10, |s| s.status == Status::Parked)).unwrap();
    assert_eq!(views.iter().map(|view| view.id).collect::<Vec<_>>(), [run]);
}

#[test]
fn a_damaged_run_is_shown_as_parked_and_hides_no_other() {
    let slack = Slack::start();
    let (memory, damaged, whole) = two(&slack);
    for record in [key::event(damaged, 1), key::event(damaged, 0), key::summary(damaged)] {
        let memory = memory.crash(usize::MAX);
        let original = damage(&memory, &record);
        let slack = Slack::start();
        let life = Life::start(memory.crash(usize::MAX), &slack);
        assert_eq!(life.ended(whole).unwrap().status, Status::Completed);
        shown_as_poisoned(&life, damaged);
        let (views, _) = life.wait(life.engine().run_list(None, 10, |_| true)).unwrap();
        assert_eq!(views.len(), 2, "{record:?}: {views:?}");
        if record.space() == key::Space::Event {
            // Nobody has mended it: it stays where it is.
            let refused = life.wait(life.engine().signal(damaged, Cause::Resume));
            assert!(matches!(refused, Err(LoadError::Damaged(_))), "{refused:?}");
            shown_as_poisoned(&life, damaged);
            put(&*life.store, &record, &original);
        }
        life.wait(life.engine().signal(damaged, Cause::Resume)).unwrap();
        assert_eq!(life.ended(damaged).unwrap().status, Status::Completed, "{record:?}");
        assert_eq!(slack.messages().len(), 2);
    }
}

#[test]
fn a_run_that_ended_the_process_twice_is_taken_up_again_when_a_person_says_so() {
    let slack = Slack::start();
    let (memory, poisoned, other) = two(&slack);
    let store = Arc::new(memory);
    let journal = Journal::checked(store.clone());
    let mut write = Write::new();
    let lives = json!({ "in_order": false, "deaths": 1, "began_ms": u64::MAX, "alone": [poisoned.to_string()],
        "suspect": poisoned.to_string() });
    write.put(&key::host("lives"), &lives).unwrap();
    journal.commit(write).unwrap();
    let slack = Slack::start();
    let life = Life::start(store.crash(usize::MAX), &slack);
    assert_eq!(life.ended(other).unwrap().status, Status::Completed);
    shown_as_poisoned(&life, poisoned);
    let life = Life::start(life.die(usize::MAX), &slack);
    shown_as_poisoned(&life, poisoned);
    assert_eq!(slack.messages(), ["whole"]);
    life.wait(life.engine().resolve(poisoned, None, false, None, "a test".to_owned())).unwrap();
    assert_eq!(life.ended(poisoned).unwrap().status, Status::Completed);
    assert_eq!(slack.messages(), ["whole", "damaged"]);
}

#[test]
fn a_run_that_cannot_be_woken_is_shown_so_and_goes_on_once_it_can_be() {
    let slack = Slack::start();
    let clock = Manual::new(super::ports::START);
    let start = |memory: Memory| Life::start_at(memory, Limits::default(), Arc::new(clock.clone()), &slack);
    let life = start(fresh());
    let workflow = life.apply(SLEEP);
    let run = life.started(trigger(&workflow, json!({}), &[], None));
    life.until_status(run, Status::Waiting);
    let record = key::event(run, 0);
    let original = damage(&*life.store, &record);
    clock.advance(2 * DAY);
    life.until_status(run, Status::Parked);
    shown_as_poisoned(&life, run);
    put(&*life.store, &record, &original);
    // By the next start, without a word of anybody's.
    let life = start(life.die(usize::MAX));
    life.until_status(run, Status::Completed);
}

#[test]
fn names_in_tables_become_ids_where_the_connections_know_one() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let mut table: bellhop_core::preflight::Table = serde_json::from_value(json!({
        "columns": {"where": "channel", "group": "usergroup", "about": "text"},
        "rows": {
            "it": {"where": ["#it", "C0HQGENERAL", "#nowhere"], "group": "@it", "about": "#it"},
            "all": {"where": "#general"},
        },
    }))
    .unwrap();
    let resolved = life.wait(life.engine().resolve_table(&mut table));
    assert_eq!((resolved.ids, resolved.names.into_iter().collect::<Vec<_>>()), (3, vec!["#nowhere".to_owned()]));
    let row = |key: &str| serde_json::to_value(&table.rows[key]).unwrap();
    assert_eq!(row("it"), json!({"where": ["C0HQIT", "C0HQGENERAL", "#nowhere"], "group": "S0HQIT", "about": "#it"}));
    assert_eq!(row("all"), json!({"where": "C0HQGENERAL"}));
    // What has ids asks nobody.
    let asked = slack.requests().len();
    table.rows.get_mut("it").unwrap().remove("where");
    assert_eq!(life.wait(life.engine().resolve_table(&mut table)).ids, 0);
    assert_eq!(slack.requests().len(), asked);
}

#[test]
fn a_run_that_nobody_can_mend_is_given_up() {
    let slack = Slack::start();
    let (memory, damaged, whole) = two(&slack);
    for record in [key::event(damaged, 1), key::event(damaged, 0)] {
        let memory = memory.crash(usize::MAX);
        let original = damage(&memory, &record);
        let slack = Slack::start();
        let life = Life::start(memory.crash(usize::MAX), &slack);
        assert_eq!(life.ended(whole).unwrap().status, Status::Completed);
        shown_as_poisoned(&life, damaged);
        // Any other end would have to read it.
        for cause in [Cause::Cancel, Cause::CancelAndUndo] {
            let refused = life.wait(life.engine().signal(damaged, cause));
            assert!(matches!(refused, Err(LoadError::Damaged(_))), "{refused:?}");
        }
        assert!(life.wait(life.engine().signal(damaged, Cause::Kill)).unwrap());
        let given_up = |life: &Life| {
            let view = life.view(damaged);
            assert_eq!((view.status, view.waiting), (Status::Cancelled, None));
            assert!(view.error.unwrap()["type"].as_str().unwrap().ends_with("/run-poisoned"));
            assert!(view.ended_at.is_some());
            assert_eq!(at_once(life.journal().open_runs(10, None)).unwrap().len(), 0);
        };
        given_up(&life);
        life.until("its place is free", || life.engine().runs().places.open() == 0);
        // Also when it could be read again: it does not go on by anybody's wish.
        let life = Life::start(life.die(usize::MAX), &slack);
        put(&*life.store, &record, &original);
        for cause in [Cause::Undo, Cause::Retry] {
            let refused = life.wait(life.engine().signal(damaged, cause));
            assert!(matches!(refused, Err(LoadError::Damaged(_))), "{refused:?}");
        }
        given_up(&life);
        assert_eq!(slack.messages(), ["whole"]);
    }
}

#[test]
fn what_lists_show_of_a_run_is_made_again_from_its_log() {
    let slack = Slack::start();
    let held = slack.fault(&json!({ "method": "chat.postMessage", "action": "hold_before_accept" }));
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(ONE);
    let labels = std::collections::BTreeMap::from([("ticket".to_owned(), "HR-9".to_owned())]);
    let order = crate::accept::trigger::Trigger { labels, ..trigger(&workflow, json!({ "text": "a" }), HQ, Some("k")) };
    let run = life.started(order.clone());
    slack.happened(held);
    let before = life.view(run);
    damage(&*life.store, &key::summary(run));
    let life = Life::start(life.die(usize::MAX), &slack);
    life.wait(life.engine().signal(run, Cause::Resume)).unwrap();
    let after = life.ended(run).unwrap();
    assert_eq!(after.status, Status::Completed);
    assert_eq!((&after.labels, &after.version), (&before.labels, &before.version));
    assert_eq!(after.labels["ticket"], "HR-9");
    // The key goes in its time: the run knows it again.
    assert_eq!(expiries(&life), 1);
    assert_eq!(life.started(order), run);
}

#[test]
fn a_connection_that_is_slow_holds_up_no_news_over_another() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let run = |name: &str, connection: &str, channel: &str| {
        let text = format!(
            "document: {{dsl: 1.0.3, namespace: test, name: {name}, version: 1.0.0, metadata: {{bellhop: \
             {{onFault: {{notify: {{connection: {connection}, channel: {channel}}}}}}}}}}}\ndo:\n  - fail: {{raise: \
             {{error: {{type: 'https://example.com/e', status: 500, title: {name}}}}}}}\n"
        );
        let (definition, _, faults) = definitions::read("workflow.yaml", &text);
        let definition = definition.unwrap_or_else(|| panic!("{faults:?}"));
        let workflow = definition.workflow.document.name.clone();
        let services = &life.engine().services;
        let now = services.clock.now();
        let put = services.definitions.put(&workflow, definition, "workflow.yaml", &text, &Expect::Any, now);
        life.wait(put).unwrap();
        let run = life.started(trigger(&workflow, json!({}), &[], None));
        assert_eq!(life.ended(run).unwrap().status, Status::Faulted);
    };
    let slow = json!({ "method": "chat.postMessage", "match": {"channel": "C0HQIT"}, "action": "hold_before_accept" });
    let held = slack.fault(&slow);
    run("slow", "poor", "C0HQIT");
    slack.happened(held);
    run("quick", "hq", "C0HQGENERAL");
    life.until("the other is told", || slack.messages().iter().any(|text| text.contains("quick")));
    assert!(!slack.messages().iter().any(|text| text.contains("slow")));
    slack.release(held, "answer");
    life.until("both are told", || slack.messages().len() == 2);
}
