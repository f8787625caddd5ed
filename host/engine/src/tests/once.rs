//! The key that a definition gives its runs: what is started once, and what a higher revision takes the place of
//! (semantics 3).

use std::sync::Arc;
use std::time::Duration;

use bellhop_core::definition::WorkflowName;
use bellhop_core::id::RunId;
use bellhop_core::run::Status;
use bellhop_core::time::Timestamp;
use serde_json::{Value, json};

use super::life::{Life, Slack, fresh, trigger};
use crate::accept::trigger::{Accepted, Refused};
use crate::tests::at_once;
use bellhop_clock::Manual;
use bellhop_journal::{Store as _, key};
use bellhop_limits::Limits;

const HQ: &[(&str, &str)] = &[("team", "hq")];
const DAY: Duration = Duration::from_secs(86_400);

/// Waits two days and posts a line.
fn workflow(extras: &str) -> String {
    format!(
        "document:
  {{dsl: 1.0.3, namespace: test, name: hire, version: 1.0.0, metadata: {{bellhop: {{{extras}}}}}}}
do:
  - sleep: {{wait: {{days: 2}}}}
  - say: {{call: message.send:1@slack, with: {{connection: team, channel: C0HQGENERAL, text: '${{ .text }}'}}}}
"
    )
}

const REVISED: &str = "idempotencyKey: {key: .id, revision: .revision}";

fn hire(revision: u64, text: &str) -> Value {
    json!({ "id": "hire-1", "revision": revision, "text": text })
}

fn accepted(life: &Life, workflow: &WorkflowName, input: Value) -> Accepted {
    life.trigger(trigger(workflow, input, HQ, None)).unwrap().unwrap_or_else(|refused| panic!("{refused:?}"))
}

#[test]
fn a_higher_revision_takes_the_place_and_any_other_is_answered() {
    let slack = Slack::start();
    let clock = Manual::new(super::ports::START);
    let life = Life::start_at(fresh(), Limits::default(), Arc::new(clock.clone()), &slack);
    let name = life.apply_text(&workflow(REVISED));
    let first = accepted(&life, &name, hire(3, "first"));
    life.until_asleep(first.run);
    for other in [hire(3, "first"), hire(3, "another body"), hire(2, "late")] {
        let again = accepted(&life, &name, other);
        assert!(again.replayed && again.run == first.run);
    }
    let second = accepted(&life, &name, hire(4, "second"));
    assert!(!second.replayed && second.run > first.run);
    life.until_status(first.run, Status::Cancelled);
    life.until_asleep(second.run);
    assert_eq!(accepted(&life, &name, hire(3, "first")).run, second.run);
    // Somebody else's hire is none of this.
    let other = accepted(&life, &name, json!({ "id": 7, "revision": 0, "text": "other" }));
    assert!(!other.replayed);
    life.until_asleep(other.run);
    clock.advance(2 * DAY);
    for run in [second.run, other.run] {
        // One of the two waits for the other's budget.
        life.until("it ends", || {
            clock.advance(Duration::from_millis(1));
            life.status(run) == Status::Completed
        });
    }
    let mut messages = slack.messages();
    messages.sort();
    assert_eq!(messages, ["other", "second"]);
    // It has ended: it is still the answer, and a higher revision begins anew.
    let again = accepted(&life, &name, hire(4, "second"));
    assert!(again.replayed && again.run == second.run);
    let third = accepted(&life, &name, hire(5, "third"));
    assert!(!third.replayed);
    life.until_asleep(third.run);
    assert_eq!(life.status(second.run), Status::Completed);
    // A day after its end the key is free; that of the run which came later is not.
    clock.advance(DAY);
    life.wait(life.engine().sweep()).unwrap();
    assert_eq!(accepted(&life, &name, hire(5, "third")).run, third.run);
    assert!(!accepted(&life, &name, json!({ "id": 7, "revision": 0, "text": "other" })).replayed);
}

#[test]
fn a_clock_that_is_set_back_holds_up_no_higher_revision() {
    let slack = Slack::start();
    let clock = Manual::new(super::ports::START);
    let life = Life::start_at(fresh(), Limits::default(), Arc::new(clock.clone()), &slack);
    let name = life.apply_text(&workflow(REVISED));
    let first = accepted(&life, &name, hire(1, "first"));
    clock.set(Timestamp::from_millis(super::ports::START.as_millis() - 365 * 86_400_000));
    // As long as it is doubted, no time before the newest known one is recorded.
    assert!(life.engine().services.time.confirm().is_some());
    let second = accepted(&life, &name, hire(2, "second"));
    assert!(!second.replayed && second.run > first.run);
    life.until_status(first.run, Status::Cancelled);
    life.until_asleep(second.run);
    // Within one moment, too, who comes later has the later id.
    let hires = (0..50).map(|n| accepted(&life, &name, json!({ "id": 100 + n, "revision": 0, "text": "other" })).run);
    let hires: Vec<RunId> = hires.collect();
    assert!(hires.is_sorted_by(|one, next| one < next), "{hires:?}");
    assert!(hires[0] > second.run, "{hires:?} after {}", second.run);
}

#[test]
fn a_key_alone_is_the_whole_input() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let name = life.apply_text(&workflow("idempotencyKey: .id"));
    let first = accepted(&life, &name, hire(1, "first"));
    let again = accepted(&life, &name, hire(1, "first"));
    assert!(again.replayed && again.run == first.run);
    // Nobody is told that what is not so has begun.
    let other = life.trigger(trigger(&name, hire(1, "other"), HQ, None)).unwrap();
    assert!(matches!(other, Err(Refused::KeyReused(run)) if run == first.run), "{other:?}");
    // Without a key nothing is started once.
    assert!(!accepted(&life, &name, json!({ "text": "no key" })).replayed);
    assert!(!accepted(&life, &name, json!({ "text": "no key" })).replayed);
    // A caller's key is a key beside it, also where both are spelt the same.
    let both = |key: &str, text: &str| {
        let input = json!({ "id": "hire-2", "text": text });
        life.trigger(trigger(&name, input, HQ, Some(key))).unwrap()
    };
    let second = both("hire-1", "second").unwrap();
    assert!(!second.replayed);
    assert_eq!(both("hire-2", "second").unwrap().run, second.run);
    assert!(matches!(both("hire-1", "other"), Err(Refused::KeyReused(run)) if run == second.run));
}

#[test]
fn what_is_no_key_is_refused() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let name = life.apply_text(&workflow(REVISED));
    for input in [
        json!({ "id": "x", "text": "" }),
        json!({ "id": "x", "revision": -1, "text": "" }),
        json!({ "id": "x", "revision": "1", "text": "" }),
        json!({ "id": {}, "revision": 1, "text": "" }),
        json!({ "id": "x".repeat(256), "revision": 1, "text": "" }),
    ] {
        let refused = life.trigger(trigger(&name, input.clone(), HQ, None)).unwrap();
        let Err(Refused::Input(diagnostics)) = refused else { panic!("{input}: {refused:?}") };
        assert_eq!(diagnostics[0].code.0, "input-invalid");
        assert!(diagnostics[0].message.contains("idempotencyKey"), "{}", diagnostics[0].message);
    }
    assert_eq!(life.runs(), []);
}

#[test]
fn of_many_at_one_moment_one_begins() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let name = life.apply_text(&workflow(REVISED));
    let asked: Vec<_> = (0..20)
        .map(|n| {
            let engine = life.engine().clone();
            let trigger = trigger(&name, hire(1 + n % 2, "once"), HQ, None);
            life.spawn(async move { engine.trigger(trigger).await.unwrap() })
        })
        .collect();
    let answers: Vec<Accepted> = asked.into_iter().map(|asked| life.wait(asked).unwrap()).collect();
    let begun: Vec<RunId> = answers.iter().filter(|a| !a.replayed).map(|a| a.run).collect();
    assert!((1..=2).contains(&begun.len()), "{begun:?}");
    let newest = *begun.iter().max().unwrap();
    life.until_status(newest, Status::Waiting);
    for old in begun.iter().filter(|run| **run != newest) {
        life.until_status(*old, Status::Cancelled);
    }
    assert_eq!(accepted(&life, &name, hire(2, "once")).run, newest);
}

/// Wherever the process dies while a higher revision is accepted: afterwards there is one run that goes on, and it is the
/// newest that anybody was told of.
#[test]
fn a_death_between_two_revisions_leaves_one() {
    let slack = Slack::start();
    for (at, keep) in (1..12).flat_map(|at| [(at, 0), (at, usize::MAX)]) {
        let life = Life::start(fresh(), &slack);
        let name = life.apply_text(&workflow(REVISED));
        let first = accepted(&life, &name, hire(1, "first")).run;
        life.until_status(first, Status::Waiting);
        life.store.die_at(at);
        let told = life.trigger(trigger(&name, hire(2, "second"), HQ, None)).map(|told| told.unwrap().run);
        let life = Life::start(life.die(keep), &slack);
        // The caller asks again, and is answered the same if it was answered.
        let second = accepted(&life, &name, hire(2, "second"));
        assert!(told.is_none_or(|told| told == second.run && second.replayed), "at {at}");
        life.until_status(first, Status::Cancelled);
        life.until_status(second.run, Status::Waiting);
        let open = at_once(life.journal().open_runs(10, None)).unwrap();
        assert_eq!(open.iter().map(|(run, _)| *run).collect::<Vec<_>>(), [second.run], "at {at}");
    }
}

#[test]
fn a_blocked_run_makes_room_as_well() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let name = life.apply_text(&workflow(REVISED));
    let blocked = |revision: u64| {
        let trigger = trigger(&name, hire(revision, "blocked"), &[("team", "nobody")], None);
        life.wait(life.engine().trigger_or(trigger, true)).unwrap().run
    };
    let first = blocked(1);
    assert_eq!(life.status(first), Status::Blocked);
    let second = blocked(2);
    life.until_status(first, Status::Cancelled);
    let third = accepted(&life, &name, hire(3, "third")).run;
    life.until_status(second, Status::Cancelled);
    life.until_status(third, Status::Waiting);
}

#[test]
fn a_group_of_the_definition_goes_before_the_key() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let name = life.apply_text(&workflow(&format!("{REVISED}, concurrency: {{group: all, limit: 2}}")));
    let first = accepted(&life, &name, hire(1, "first")).run;
    life.until_status(first, Status::Waiting);
    let second = accepted(&life, &name, hire(2, "second")).run;
    life.until_status(first, Status::Cancelled);
    life.until_status(second, Status::Waiting);
    let events = life.wait(life.engine().events(first, 0, 100)).unwrap().unwrap();
    let displaced = events.iter().find(|event| event.kind == "run.displaced").unwrap();
    assert_eq!(displaced.data["by"], second.to_string());
    assert!(at_once(life.store.get(key::open(first).bytes())).unwrap().is_none());
}

#[test]
fn house_a14_where_no_more_runs_may_be_open_one_that_was_started_is_given_all_the_same() {
    let slack = Slack::start();
    let clock = Manual::new(super::ports::START);
    let limits = Limits { open_runs_max: 1, ..Limits::default() };
    let life = Life::start_at(fresh(), limits, Arc::new(clock), &slack);
    let name = life.apply_text(&workflow(REVISED));
    let first = accepted(&life, &name, hire(1, "first"));
    let again = accepted(&life, &name, hire(1, "first"));
    assert!(again.replayed && again.run == first.run);
    let other = json!({ "id": "hire-2", "revision": 1, "text": "other" });
    let refused = life.trigger(trigger(&name, other, HQ, None)).unwrap();
    assert!(matches!(refused, Err(Refused::TooMany { max: 1 })), "{refused:?}");
}
