//! The store says no once while runs go on: what becomes of the run and of the host depends on what it says.

use std::collections::BTreeSet;
use std::sync::Arc;

use bellhop_core::definition::WorkflowName;
use bellhop_core::id::RunId;
use bellhop_core::run::{Cause, Status};
use serde_json::json;

use super::dying::Asked;
use super::life::{Life, Slack, fresh, trigger};
use bellhop_journal::store::Error;

const HQ: &[(&str, &str)] = &[("team", "hq")];
const TWO: &str = "
  - one: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: '${ .text }'}}
  - two: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: two}}";

/// What the store may answer instead of doing what it is asked.
fn errors() -> Vec<(&'static str, Error)> {
    let reason: Arc<str> = "as the test says".into();
    vec![
        ("full", Error::Full { batches: 1, bytes: 1 }),
        ("too large", Error::TooLarge { what: "a value", bytes: 2, bytes_max: 1 }),
        ("corrupt", Error::Corrupt { key: "e".to_owned(), reason: reason.clone() }),
        ("closed", Error::Closed),
        ("fatal", Error::Fatal { reason }),
    ]
}

/// A run whose first message Slack has and has not answered: nothing goes on before the store is to refuse something.
struct Held {
    life: Life,
    workflow: WorkflowName,
    run: RunId,
    held: u64,
}

fn held(slack: &Slack) -> Held {
    let held = slack.fault(&json!({ "method": "chat.postMessage", "action": "hold_before_accept" }));
    let life = Life::start(fresh(), slack);
    let workflow = life.apply(TWO);
    let run = life.started(trigger(&workflow, json!({ "text": "one" }), HQ, None));
    slack.happened(held);
    Held { life, workflow, run, held }
}

fn fatal(life: &Life) -> Option<String> {
    life.engine().services.fatal.borrow().clone()
}

/// Whether nobody carries the run any more. Asks the store nothing.
fn has_come_to_rest(life: &Life, run: RunId) -> bool {
    life.engine().is_aside(run) || life.engine().runs().moved(run).is_none()
}

#[test]
fn house_a3_one_of_four_things_happens_and_the_right_one() {
    let mut seen = BTreeSet::new();
    for (name, error) in errors() {
        for nth in 1..12 {
            let at = format!("commit {nth}, {name}");
            let slack = Slack::start();
            let Held { life, workflow, run, held } = held(&slack);
            life.store.refuse(Asked::Commit, nth, error.clone());
            slack.release(held, "cut");
            life.until(&at, || has_come_to_rest(&life, run) || fatal(&life).is_some());
            let refused = life.store.has_refused();
            // What was not asked for so often is not refused to others either.
            life.store.refuse(Asked::Commit, u64::MAX, Error::Closed);
            // What may be lost, as a note, is not missed: a store that has failed fails again where it matters.
            if name == "fatal" && fatal(&life).is_some() {
                assert!(fatal(&life).is_some_and(|said| said.contains("as the test says")), "{at}");
                seen.insert("ends the host");
                continue;
            }
            assert_eq!(fatal(&life), None, "{at}");
            if !refused {
                // So many batches were not written: nothing is learnt of an answer.
                assert_eq!(life.ended(run).unwrap().status, Status::Completed, "{at}");
            } else if name == "full" || name == "fatal" {
                assert_eq!(life.ended(run).unwrap().status, Status::Completed, "{at}");
                seen.insert("waits");
            } else if life.engine().is_aside(run) {
                is_shown_aside(&life, run, &at);
                seen.insert("sets the run aside");
            } else {
                seen.insert("is for the next start");
            }
            // Whatever became of it, another run goes on, and after a restart so does this one.
            let other = life.started(trigger(&workflow, json!({ "text": "other" }), HQ, None));
            assert_eq!(life.ended(other).unwrap().status, Status::Completed, "{at}");
            let life = Life::start(life.die(usize::MAX), &slack);
            assert_eq!(life.ended(run).unwrap().status, Status::Completed, "{at}: after a restart");
            slack.check_once(&at);
        }
    }
    assert_eq!(seen, BTreeSet::from(["ends the host", "is for the next start", "sets the run aside", "waits"]));
}

fn is_shown_aside(life: &Life, run: RunId, at: &str) {
    // It is aside first, and shown so as soon as that is written.
    life.until(at, || life.status(run) == Status::Parked);
    let view = life.view(run);
    assert_eq!(view.status, Status::Parked, "{at}: {view:?}");
    assert!(view.waiting.unwrap().to_string().contains("run-poisoned"), "{at}");
}

/// A run that is not in memory is read when a person gives it an order: whoever asked is told.
#[test]
fn house_a3_a_read_that_is_refused_is_told_to_whoever_asked() {
    let mut seen = BTreeSet::new();
    for (name, error) in errors() {
        for nth in 1.. {
            let at = format!("read {nth}, {name}");
            let slack = Slack::start();
            let Held { life, run, held, .. } = held(&slack);
            let engine = life.engine().clone();
            let suspended = life.spawn(async move { engine.signal(run, Cause::Suspend).await });
            life.until("it is told", || suspended.is_finished());
            slack.release(held, "answer");
            life.until("it is put down", || life.engine().runs().live() == 0);
            life.store.refuse(Asked::Read, nth, error.clone());
            let told = life.wait(life.engine().signal(run, Cause::Resume));
            let refused = life.store.has_refused();
            life.store.refuse(Asked::Read, u64::MAX, Error::Closed);
            if !refused {
                break;
            }
            // A store that has failed fails again where something is written.
            assert_eq!(fatal(&life), None, "{at}");
            let (life, happened) = if life.engine().is_aside(run) {
                is_shown_aside(&life, run, &at);
                (Life::start(life.die(usize::MAX), &slack), "sets the run aside")
            } else if told.is_err() {
                (life, "is told")
            } else {
                (life, "goes on")
            };
            seen.insert((name, happened));
            if happened != "goes on" {
                life.wait(life.engine().signal(run, Cause::Resume)).unwrap();
            }
            assert_eq!(life.ended(run).unwrap().status, Status::Completed, "{at}: {told:?}");
            slack.check_once(&at);
        }
    }
    let which = |wanted: &str| -> BTreeSet<&str> {
        seen.iter().filter(|(_, happened)| *happened == wanted).map(|(name, _)| *name).collect()
    };
    let all: BTreeSet<&str> = errors().iter().map(|(name, _)| *name).collect();
    assert_eq!(which("is told"), all, "{seen:?}");
    assert_eq!(which("sets the run aside"), BTreeSet::from(["corrupt", "too large"]), "{seen:?}");
}
