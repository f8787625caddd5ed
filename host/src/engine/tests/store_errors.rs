//! The store says no once while runs go on: what becomes of the run and of the host depends on what it says.

use std::sync::Arc;

use bellhop_core::id::RunId;
use bellhop_core::run::Status;
use serde_json::json;

use super::dying::Asked;
use super::life::{Life, Slack, fresh, trigger};
use crate::journal::store::Error;

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

fn fatal(life: &Life) -> Option<String> {
    life.engine().services.fatal.borrow().clone()
}

/// Whether nobody carries the run any more. Asks the store nothing.
fn has_come_to_rest(life: &Life, run: RunId) -> bool {
    life.engine().is_aside(run) || life.engine().runs.moved(run).is_none()
}

#[test]
fn house_a3_one_of_four_things_happens_and_the_right_one() {
    let mut seen = Vec::new();
    for asked in [Asked::Commit, Asked::Read] {
        for (name, error) in errors() {
            for nth in 1..12 {
                let at = format!("{asked:?} {nth}, {name}");
                let slack = Slack::start();
                // Nothing is answered before the store is to refuse something.
                let held = slack.fault(&json!({ "method": "chat.postMessage", "action": "hold_before_accept" }));
                let life = Life::start(fresh(), &slack);
                let workflow = life.apply(TWO);
                let run = life.started(trigger(&workflow, json!({ "text": "one" }), HQ, None));
                slack.happened(held);
                life.store.refuse(asked, nth, error.clone());
                slack.release(held, "cut");
                life.until(&at, || has_come_to_rest(&life, run) || fatal(&life).is_some());
                let refused = life.store.has_refused();
                // What was not asked for so often is not refused to others either.
                life.store.refuse(asked, u64::MAX, Error::Closed);
                // What may be lost, as a note, is not missed: a store that has failed fails again where it matters.
                if name == "fatal" && fatal(&life).is_some() {
                    assert!(fatal(&life).is_some_and(|said| said.contains("as the test says")), "{at}");
                    seen.push((asked, "ends the host"));
                    continue;
                }
                assert_eq!(fatal(&life), None, "{at}");
                if name == "full" || name == "fatal" || !refused {
                    assert_eq!(life.ended(run).unwrap().status, Status::Completed, "{at}");
                    seen.push((asked, "waits"));
                } else if life.engine().is_aside(run) {
                    let view = life.view(run);
                    assert_eq!(view.status, Status::Parked, "{at}: {view:?}");
                    assert!(view.waiting.unwrap().to_string().contains("run-poisoned"), "{at}");
                    seen.push((asked, "sets the run aside"));
                } else {
                    seen.push((asked, "is for the next start"));
                }
                // Whatever became of it, another run goes on, and after a restart so does this one.
                let other = life.started(trigger(&workflow, json!({ "text": "other" }), HQ, None));
                assert_eq!(life.ended(other).unwrap().status, Status::Completed, "{at}");
                let life = Life::start(life.die(usize::MAX), &slack);
                assert_eq!(life.ended(run).unwrap().status, Status::Completed, "{at}: after a restart");
                slack.check_once(&at);
            }
        }
    }
    for wanted in ["ends the host", "waits", "sets the run aside", "is for the next start"] {
        assert!(seen.iter().any(|(_, happened)| *happened == wanted), "{wanted}: {seen:?}");
    }
}
