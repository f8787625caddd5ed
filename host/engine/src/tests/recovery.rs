//! What is left open by one process and taken up by the next: by whom, with which keys, and what is set aside.

use bellhop_core::id::RunId;
use bellhop_core::requirement::Permission;
use bellhop_core::run::{Cause, Status};
use serde_json::{Value, json};

use super::life::{Life, Slack, fresh, open_intents, trigger};
use crate::accept::trigger::Refused;
use crate::drive::runs::LoadError;
use crate::tests::at_once;
use bellhop_journal::memory::Memory;
use bellhop_journal::store::Batch;
use bellhop_journal::{Entry, Journal, Store as _, Write, key};
use bellhop_limits::Limits;

const HQ: &[(&str, &str)] = &[("team", "hq")];
const ONE: &str = "
  - one: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: '${ .text }'}}";
const ADD: &str = "
  - add: {call: usergroup.add-user:1@slack, with: {connection: team, usergroup: S0HQIT, user: '${ .user }'}}";

fn members(slack: &Slack) -> Vec<String> {
    let world = slack.world();
    let users = world["groups"]["S0HQIT"]["users"].as_array().cloned().unwrap_or_default();
    users.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn newcomers(slack: &Slack, count: usize) -> Vec<String> {
    let ids: Vec<String> = (0..count).map(|n| format!("U0NEW{n:03}")).collect();
    let edits: Vec<Value> = ids
        .iter()
        .map(|id| {
            let name = id.to_lowercase();
            json!({"add_user": {
                "id": id, "name": name, "email": format!("{name}@acme.example"), "workspaces": {"T0HQ": "member"},
            }})
        })
        .collect();
    slack.control("POST", "world", &Value::Array(edits));
    ids
}

#[test]
fn fifty_who_join_a_group_at_once_are_fifty_members_also_when_the_host_dies() {
    for die_at in [None, Some(120), Some(200)] {
        let slack = Slack::start();
        let people = newcomers(&slack, 50);
        let before = members(&slack).len();
        let mut life = Life::start(fresh(), &slack);
        let workflow = life.apply(ADD);
        let orders: Vec<_> =
            people.iter().map(|user| trigger(&workflow, json!({ "user": user }), HQ, Some(user))).collect();
        if let Some(commit) = die_at {
            life.store.die_at(commit);
        }
        let engine = life.engine().clone();
        let all = orders.clone().into_iter().map(|order| {
            let engine = engine.clone();
            async move { engine.trigger(order).await }
        });
        let _maybe = life.unless_dead(futures_util::future::join_all(all));
        drop(engine);
        if die_at.is_some() {
            life.unless_dead(std::future::pending::<()>());
            life = Life::start(life.die(0), &slack);
        }
        for order in orders {
            let run = life.started(order);
            assert_eq!(life.ended(run).unwrap().status, Status::Completed);
        }
        let now = members(&slack);
        assert!(people.iter().all(|person| now.contains(person)), "{die_at:?}: {now:?}");
        assert_eq!(now.len(), before + 50);
    }
}

/// Its plugin is stopped where it waits for Slack. What Slack answers then is all that it does, so it can say how that is
/// taken back.
#[test]
fn what_was_on_its_way_when_its_run_was_cancelled_is_taken_back() {
    let slack = Slack::start();
    let person = newcomers(&slack, 1).remove(0);
    let before = members(&slack);
    let withheld = slack.fault(&json!({ "method": "usergroups.users.update", "action": "accept_then_withhold" }));
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(ADD);
    let run = life.started(trigger(&workflow, json!({ "user": person }), HQ, None));
    slack.happened(withheld);
    assert!(members(&slack).contains(&person));
    assert!(life.wait(life.engine().signal(run, Cause::CancelAndUndo)).unwrap());
    slack.release(withheld, "answer");
    assert_eq!(life.ended(run).unwrap().status, Status::Cancelled);
    assert_eq!(members(&slack), before);
}

/// A group whose key is held by a parked run, and another run that waits for it.
fn held_by_a_parked_run(slack: &Slack) -> (Life, RunId, RunId, Vec<String>) {
    let people = newcomers(slack, 2);
    let withheld = slack.fault(&json!({ "method": "usergroups.users.update", "action": "accept_then_withhold" }));
    let life = Life::start(fresh(), slack);
    let workflow = life.apply(ADD);
    let holder = life.started(trigger(&workflow, json!({ "user": people[0] }), HQ, None));
    slack.happened(withheld);
    let waiter = life.started(trigger(&workflow, json!({ "user": people[1] }), HQ, None));
    life.until("the other waits", || life.entries(waiter).len() > 1);
    // Nobody can tell: reading back fails.
    let denied = json!({"refuse": {"error": "missing_scope"}});
    slack.fault(&json!({ "method": "usergroups.users.list", "times": 0, "action": denied }));
    let life = Life::start(life.die(usize::MAX), slack);
    life.until_status(holder, Status::Parked);
    let life = Life::start(life.die(usize::MAX), slack);
    slack.control("DELETE", "faults", &Value::Null);
    assert_eq!(life.status(waiter), Status::Running);
    (life, holder, waiter, people)
}

#[test]
fn a_parked_action_keeps_its_key_over_restarts_until_it_is_resolved() {
    let slack = Slack::start();
    let (life, holder, waiter, people) = held_by_a_parked_run(&slack);
    let updates = slack.count("usergroups.users.update");
    assert_eq!(updates, 1, "the waiting one has written");
    let reads = life.entries(waiter).iter().filter(|entry| matches!(entry, Entry::Read { .. })).count();
    assert_eq!(reads, 0, "the waiting one has read a list that is in doubt");
    life.wait(life.engine().resolve(holder, None, true, None, "a test".to_owned())).unwrap();
    assert_eq!(life.ended(holder).unwrap().status, Status::Completed);
    assert_eq!(life.ended(waiter).unwrap().status, Status::Completed);
    let now = members(&slack);
    assert!(people.iter().all(|person| now.contains(person)), "{now:?}");
}

#[test]
fn a_cancelled_run_lets_go_of_the_key_of_its_parked_action() {
    let slack = Slack::start();
    let (life, holder, waiter, people) = held_by_a_parked_run(&slack);
    life.wait(life.engine().signal(holder, Cause::Cancel)).unwrap();
    assert_eq!(life.ended(waiter).unwrap().status, Status::Completed);
    assert!(members(&slack).contains(&people[1]));
}

#[test]
fn a_run_that_waits_for_a_key_can_be_cancelled() {
    let slack = Slack::start();
    let (life, _, waiter, _) = held_by_a_parked_run(&slack);
    life.wait(life.engine().signal(waiter, Cause::Cancel)).unwrap();
    assert_eq!(life.ended(waiter).unwrap().status, Status::Cancelled);
}

#[test]
fn a_key_and_a_body_start_one_run_for_ever() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(ONE);
    let order = trigger(&workflow, json!({ "text": "hello" }), HQ, Some("k"));
    let engine = life.engine().clone();
    let all = (0..50).map(|_| {
        let (engine, order) = (engine.clone(), order.clone());
        life.spawn(async move { engine.trigger(order).await.unwrap() })
    });
    let accepted = life.wait(futures_util::future::join_all(all));
    let accepted: Vec<_> = accepted.into_iter().map(Result::unwrap).collect();
    let run = accepted[0].run;
    assert!(accepted.iter().all(|one| one.run == run));
    assert_eq!(accepted.iter().filter(|one| !one.replayed).count(), 1);
    drop(engine);
    // In whatever state the run is, also ended, and whatever the next process finds.
    let mut life = life;
    for _ in 0..2 {
        life = Life::start(life.die(0), &slack);
        let again = life.trigger(order.clone()).unwrap().unwrap();
        assert!(again.replayed && again.run == run);
        let other = life.trigger(trigger(&workflow, json!({ "text": "other" }), HQ, Some("k"))).unwrap();
        assert!(matches!(other, Err(Refused::KeyReused(bound)) if bound == run), "{other:?}");
        assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    }
    assert_eq!(life.runs(), [run]);
    assert_eq!(slack.messages(), ["hello"]);
}

#[test]
fn a_refusal_binds_no_key() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(ONE);
    let refused = life.trigger(trigger(&workflow, json!({ "text": "a" }), &[("team", "nobody")], Some("k"))).unwrap();
    assert!(matches!(refused, Err(Refused::Preflight(_))), "{refused:?}");
    let run = life.started(trigger(&workflow, json!({ "text": "b" }), HQ, Some("k")));
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
}

#[test]
fn a_damaged_run_is_set_aside_and_the_others_go_on() {
    let slack = Slack::start();
    let held = slack.fault(&json!({ "method": "chat.postMessage", "times": 2, "action": "hold_before_accept" }));
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(ONE);
    let damaged = life.started(trigger(&workflow, json!({ "text": "damaged" }), HQ, None));
    let whole = life.started(trigger(&workflow, json!({ "text": "whole" }), HQ, None));
    slack.control("GET", &format!("signals/wait?fault={held}&count=2&timeout_ms=30000"), &Value::Null);
    let memory = life.die(usize::MAX);
    for damage in [key::event(damaged, 1), key::summary(damaged)] {
        let memory = memory.crash(usize::MAX);
        let mut batch = Batch::new();
        batch.put(damage.bytes(), b"no record".as_slice());
        memory.commit(batch).unwrap();
        let slack = Slack::start();
        let life = Life::start(memory.crash(usize::MAX), &slack);
        assert_eq!(life.ended(whole).unwrap().status, Status::Completed);
        assert_eq!(slack.messages(), ["whole"], "{damage:?}");
        let refused = life.wait(life.engine().signal(damaged, Cause::Cancel));
        assert!(matches!(refused, Err(LoadError::Damaged(_) | LoadError::Journal(_))), "{refused:?}");
    }
}

/// As a process leaves the store that died with these runs in its hands, after so many deaths in a row, its own not
/// counted.
fn died(memory: &Memory, deaths: u32, alone: &[RunId], suspect: Option<RunId>) -> Memory {
    let store = std::sync::Arc::new(memory.crash(usize::MAX));
    let journal = Journal::checked(store.clone());
    let mut write = Write::new();
    let alone: Vec<String> = alone.iter().map(ToString::to_string).collect();
    let suspect = suspect.map(|run| run.to_string());
    let lives =
        json!({ "in_order": false, "deaths": deaths, "began_ms": u64::MAX, "alone": alone, "suspect": suspect });
    write.put(&key::host("lives"), &lives).unwrap();
    journal.commit(write).unwrap();
    store.crash(usize::MAX)
}

#[test]
fn the_run_that_was_alone_when_the_process_died_twice_is_set_aside() {
    let slack = Slack::start();
    let held = slack.fault(&json!({ "method": "chat.postMessage", "times": 2, "action": "hold_before_accept" }));
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(ONE);
    let poisoned = life.started(trigger(&workflow, json!({ "text": "poisoned" }), HQ, None));
    let other = life.started(trigger(&workflow, json!({ "text": "other" }), HQ, None));
    slack.control("GET", &format!("signals/wait?fault={held}&count=2&timeout_ms=30000"), &Value::Null);
    let memory = life.die(usize::MAX);

    // With others beside it nobody can tell which it was, and one death may be a kill: all go on.
    for (alone, suspect) in
        [(&[][..], None), (&[poisoned, other], Some(poisoned)), (&[poisoned], None), (&[poisoned], Some(other))]
    {
        let slack = Slack::start();
        let life = Life::start(died(&memory, 1, alone, suspect), &slack);
        assert_eq!(life.ended(poisoned).unwrap().status, Status::Completed);
        assert_eq!(life.ended(other).unwrap().status, Status::Completed);
    }

    let slack = Slack::start();
    let life = Life::start(died(&memory, 1, &[poisoned], Some(poisoned)), &slack);
    assert_eq!(life.ended(other).unwrap().status, Status::Completed);
    assert_eq!(slack.messages(), ["other"]);
    assert!(matches!(life.wait(life.engine().signal(poisoned, Cause::Cancel)), Err(LoadError::Damaged(_))));
    // It stays aside.
    let life = Life::start(life.die(usize::MAX), &slack);
    assert!(matches!(life.wait(life.engine().signal(poisoned, Cause::Cancel)), Err(LoadError::Damaged(_))));
    assert_eq!(slack.messages(), ["other"]);
}

/// One that has no place in memory has killed the process as well as any other.
#[test]
fn those_who_stand_in_line_are_carried_alone_too() {
    let slack = Slack::start();
    slack.fault(&json!({ "method": "chat.postMessage", "times": 3, "action": "hold_before_accept" }));
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(ONE);
    let texts = ["one", "two", "three"];
    let run = |text: &&str| life.started(trigger(&workflow, json!({ "text": text }), HQ, None));
    let runs: Vec<RunId> = texts.iter().map(run).collect();
    let memory = died(&life.die(usize::MAX), 2, &[], None);
    let limits = || Limits { live_runs_max: 1, ..Limits::default() };
    let length = |journal: &Journal, run: RunId| at_once(journal.entries(run, 0, 100)).unwrap().len();
    let before = Journal::checked(std::sync::Arc::new(memory.crash(usize::MAX)));

    // Whatever is recorded of a run while it is alone says that it was carried then.
    let mut carried_alone = std::collections::BTreeSet::new();
    for commit in 1..40 {
        let slack = Slack::start();
        let life = Life::open_with(memory.crash(usize::MAX), limits(), &slack);
        life.store.die_at(commit);
        life.unless_dead(life.engine().start());
        let kept = Journal::checked(std::sync::Arc::new(life.die(usize::MAX)));
        let lives = at_once(kept.get::<Value>(&key::host("lives"))).unwrap().unwrap();
        if let Some([Value::String(run)]) = lives["alone"].as_array().map(Vec::as_slice) {
            let run = run.parse::<RunId>().unwrap();
            carried_alone.extend((length(&kept, run) > length(&before, run)).then_some(run));
        }
    }
    assert_eq!(carried_alone, runs.iter().copied().collect());

    let slack = Slack::start();
    let life = Life::start_with(memory, limits(), &slack);
    for run in &runs {
        assert_eq!(life.ended(*run).unwrap().status, Status::Completed);
    }
    assert_eq!(slack.messages().len(), 3);
}

/// A run is put down after it was carried alone. One that ends at that very moment has ended, and lets go what it held.
#[test]
fn a_run_that_ends_while_it_is_put_down_gives_up_its_place_in_its_group() {
    let slack = Slack::start();
    let held = slack.fault(&json!({ "method": "chat.postMessage", "action": "hold_before_accept" }));
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply_text(&format!(
        "document:\n  {{dsl: 1.0.3, namespace: test, name: one-by-one, version: 1.0.0, \
         metadata: {{bellhop: {{concurrency: {{group: desk, limit: 1, whenFull: queue}}}}}}}}\ndo:{ONE}\n"
    ));
    let run = |text: &str| life.started(trigger(&workflow, json!({ "text": text }), HQ, None));
    let first = run("first");
    slack.happened(held);
    let second = run("second");
    let memory = life.die(usize::MAX);
    let slack = Slack::start();
    // Longer than a run is carried alone for.
    slack.fault(&json!({ "method": "chat.postMessage", "action": { "delay_ms": 300 } }));
    let life = Life::start(memory, &slack);
    for run in [first, second] {
        assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    }
    assert_eq!(slack.messages(), ["first", "second"]);
}

#[test]
fn three_kills_of_a_host_with_many_runs_set_nobody_aside() {
    let slack = Slack::start();
    slack.fault(&json!({ "method": "chat.postMessage", "times": 64, "action": "hold_before_accept" }));
    let mut life = Life::start(fresh(), &slack);
    let workflow = life.apply(ONE);
    let texts: Vec<String> = (0..16).map(|n| format!("number {n}")).collect();
    let runs: Vec<RunId> =
        texts.iter().map(|text| life.started(trigger(&workflow, json!({ "text": text }), HQ, None))).collect();
    for _ in 0..3 {
        life = Life::start(life.die(usize::MAX), &slack);
    }
    let slack = Slack::start();
    let life = Life::start(life.die(usize::MAX), &slack);
    for run in runs {
        assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    }
    let mut posted = slack.messages();
    posted.sort();
    let mut texts = texts;
    texts.sort();
    assert_eq!(posted, texts);
}

#[test]
fn after_an_end_in_order_nobody_is_suspected() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let lives = |life: &Life| at_once(life.journal().get::<Value>(&key::host("lives"))).unwrap().unwrap();
    assert_eq!(lives(&life)["deaths"], 0);
    let mut life = life;
    for deaths in 1..3 {
        life = Life::start(life.die(usize::MAX), &slack);
        assert_eq!(lives(&life)["deaths"], deaths);
    }
    life.wait(life.engine().end_life()).unwrap();
    let life = Life::start(life.die(usize::MAX), &slack);
    assert_eq!(lives(&life)["deaths"], 0);
}

#[test]
fn what_runs_beside_a_parked_action_goes_on_after_a_restart() {
    let slack = Slack::start();
    let message = |text: &str| json!({ "text": text });
    slack.fault(&json!({ "method": "chat.postMessage", "match": message("one"), "action": "cut_after_accept" }));
    let held =
        slack.fault(&json!({ "method": "chat.postMessage", "match": message("two"), "action": "hold_before_accept" }));
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(
        "
  - both:
      fork:
        branches:
          - left: {call: message.send:1@slack, with: {connection: poor, channel: C0HQGENERAL, text: one}}
          - right:
              do:
                - two: {call: message.send:1@slack, with: {connection: team, channel: C0HQIT, text: two}}
                - three: {call: message.send:1@slack, with: {connection: team, channel: C0HQIT, text: three}}",
    );
    let run = life.started(trigger(&workflow, json!({}), &[("team", "hq"), ("poor", "poor")], None));
    slack.happened(held);
    life.until_status(run, Status::Parked);
    let life = Life::start(life.die(usize::MAX), &slack);
    life.until("the other branch ends", || slack.messages().len() == 3);
    assert_eq!(slack.messages(), ["one", "two", "three"]);
    slack.check_once("beside a parked action");
    let answer = Some(json!({"ok": true, "channel": "C0HQGENERAL", "ts": "1790000000.000100"}));
    life.wait(life.engine().resolve(run, None, true, answer, "a test".to_owned())).unwrap();
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
}

#[test]
fn what_was_sent_is_read_back_also_when_it_would_be_refused_now() {
    let slack = Slack::start();
    let held = slack.fault(&json!({ "method": "chat.postMessage", "action": "accept_then_withhold" }));
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(ONE);
    let run = life.started(trigger(&workflow, json!({ "text": "sent" }), HQ, None));
    slack.happened(held);
    let life = Life::open(life.die(usize::MAX), &slack);
    life.connect("hq", "xoxb-hq", Permission::Read);
    life.begin();
    let view = life.ended(run).unwrap();
    assert_eq!(view.status, Status::Completed, "{view:?}");
    let found = |entry: &Entry| matches!(entry, Entry::Outcome { how, .. } if how == "found");
    assert!(life.entries(run).iter().any(found), "{:#?}", life.entries(run));
    // What was not sent yet is refused.
    let refused = life.trigger(trigger(&workflow, json!({ "text": "later" }), HQ, None)).unwrap();
    assert!(refused.is_err());
    assert_eq!(slack.messages(), ["sent"]);
    // The connection is as it was for the next test: its tokens are in one folder for all.
    life.connect("hq", "xoxb-hq", Permission::Act);
}

#[test]
fn a_cancelled_run_does_not_end_before_a_doubt_does() {
    let slack = Slack::start();
    let held = slack.fault(&json!({ "method": "chat.postMessage", "action": "accept_then_withhold" }));
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(ONE);
    let run = life.started(trigger(&workflow, json!({ "text": "sent" }), &[("team", "poor")], None));
    slack.happened(held);
    life.wait(life.engine().signal(run, Cause::Cancel)).unwrap();
    assert_eq!(life.status(run), Status::Cancelling);
    slack.release(held, "cut");
    life.until_status(run, Status::Parked);
    assert_eq!(open_intents(&life.entries(run)), 1);
    // Over a restart too.
    let life = Life::start(life.die(usize::MAX), &slack);
    assert_eq!(life.status(run), Status::Parked);
    let answer = Some(json!({"ok": true, "channel": "C0HQGENERAL", "ts": "1790000000.000100"}));
    life.wait(life.engine().resolve(run, None, true, answer, "a test".to_owned())).unwrap();
    assert_eq!(life.ended(run).unwrap().status, Status::Cancelled);
    assert_eq!(open_intents(&life.entries(run)), 0);
    assert_eq!(slack.messages(), ["sent"]);
}

#[test]
fn a_run_that_was_cancelled_while_its_names_were_looked_up_ends_after_a_restart() {
    let slack = Slack::start();
    let held = slack.fault(&json!({ "method": "conversations.list", "times": 0, "action": "hold_before_accept" }));
    let life = Life::start(fresh(), &slack);
    let workflow =
        life.apply("\n  - one: {call: message.send:1@slack, with: {connection: team, channel: '#it', text: one}}");
    let run = life.started(trigger(&workflow, json!({}), HQ, None));
    slack.happened(held);
    life.wait(life.engine().signal(run, Cause::Cancel)).unwrap();
    let life = Life::start(life.die(usize::MAX), &slack);
    assert_eq!(life.ended(run).unwrap().status, Status::Cancelled);
    assert!(slack.messages().is_empty());
}
