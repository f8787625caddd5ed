//! Nothing leaves the process before what it depends on is durable; and a process that is told to stop ends what it sent.

use std::time::Duration;

use bellhop_core::run::Status;
use serde_json::{Value, json};

use super::life::{Life, Slack, fresh, open_intents, trigger};
use bellhop_journal::Entry;

const HQ: &[(&str, &str)] = &[("team", "hq")];
const TWO: &str = "
  - one: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: one}}
  - two: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: two}}";

fn kinds(life: &Life, run: bellhop_core::id::RunId) -> Vec<&'static str> {
    life.entries(run).iter().map(Entry::kind).collect()
}

/// Long enough for a request that is sent too early to arrive.
fn linger(life: &Life) {
    life.wait(async { tokio::time::sleep(Duration::from_millis(100)).await });
}

#[test]
fn a_request_leaves_after_its_intent_is_durable_and_an_answer_after_the_acceptance_is() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(TWO);
    life.store.hold();
    let engine = life.engine().clone();
    let order = trigger(&workflow, json!({}), HQ, None);
    let triggered = life.spawn(async move { engine.trigger(order).await });
    // Computing goes on meanwhile: accepted, decided, intended.
    life.until("the intent is accepted", || life.store.at_stake() == 3);
    linger(&life);
    assert!(!triggered.is_finished(), "acknowledged before it was durable");
    assert_eq!(slack.count("chat.postMessage"), 0, "sent before anything was durable");

    life.store.sync(1);
    let run = life.wait(triggered).unwrap().unwrap().run;
    assert_eq!(kinds(&life, run), ["accepted", "decision", "intent"]);
    life.store.sync(1);
    linger(&life);
    assert_eq!(slack.count("chat.postMessage"), 0, "sent before its intent was durable");

    life.store.sync(1);
    // The outcome is written at once and waited for with the next intent.
    life.until("the second intent is accepted", || kinds(&life, run).len() == 6);
    assert_eq!(kinds(&life, run)[3..], ["outcome", "decision", "intent"]);
    linger(&life);
    assert_eq!(slack.messages(), ["one"], "sent before its intent was durable");
    assert_eq!(life.store.at_stake(), 3);
    life.store.sync(2);
    linger(&life);
    assert_eq!(slack.messages(), ["one"], "sent before its intent was durable");
    life.store.sync(1);
    life.until("the end is accepted", || kinds(&life, run).len() == 8);
    assert_eq!(slack.messages(), ["one", "two"]);

    // Nobody is told of an end that can still be forgotten.
    let engine = life.engine().clone();
    let viewed = life.spawn(async move { engine.run_view(run).await.unwrap().unwrap() });
    linger(&life);
    assert!(!viewed.is_finished(), "told before it was durable");
    life.store.sync(usize::MAX);
    assert_eq!(life.wait(viewed).unwrap().status, Status::Completed);
}

#[test]
fn a_run_of_n_writes_waits_for_n_and_two_synchronisations() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(TWO);
    let before = life.journal().stats().syncs;
    let run = life.started(trigger(&workflow, json!({}), HQ, None));
    // Looking at the run would synchronise, too.
    life.until("it has left", || life.engine().runs().live() == 0);
    assert_eq!(life.status(run), Status::Completed);
    let waited = life.journal().stats().syncs - before;
    assert!(waited <= 4, "{waited} synchronisations for two writes");
}

#[test]
fn draining_ends_what_was_sent_and_parks_nothing() {
    let slack = Slack::start();
    let held = slack.fault(&json!({ "method": "chat.postMessage", "action": "hold_before_accept" }));
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(TWO);
    let sent = life.started(trigger(&workflow, json!({}), HQ, None));
    slack.happened(held);
    // Another waits for an hour, a third is turned away.
    let resting = life.apply("\n  - rest: {wait: {hours: 1}}");
    let resting = life.started(trigger(&resting, json!({}), &[], None));
    life.until_status(resting, Status::Waiting);
    let engine = life.engine().clone();
    let drained = life.spawn(async move { engine.drain().await });
    life.until("it drains", || life.engine().is_draining());
    assert!(life.trigger(trigger(&workflow, json!({}), HQ, None)).unwrap().is_err());
    linger(&life);
    assert!(!drained.is_finished(), "what was sent was abandoned");
    slack.release(held, "answer");
    assert!(life.wait(drained).unwrap(), "it did not come to its end");
    assert_eq!(slack.messages(), ["one"]);
    assert_eq!(open_intents(&life.entries(sent)), 0, "the outcome is not on record");
    assert_eq!(life.status(sent), Status::Running);
    assert_eq!(life.store.at_stake(), 0, "what was recorded is not durable");
    let life = Life::start(life.die(0), &slack);
    assert_eq!(life.ended(sent).unwrap().status, Status::Completed);
    assert_eq!(slack.messages(), ["one", "two"]);
    assert_eq!(slack.count("conversations.history"), 0, "there was nothing to read back");
    assert_eq!(life.status(resting), Status::Waiting);
}

#[test]
fn a_message_that_comes_while_the_process_stops_is_not_acknowledged() {
    let slack = Slack::start();
    let held = slack.fault(&json!({ "method": "chat.postMessage", "action": "hold_before_accept" }));
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(TWO);
    let run = life.started(trigger(&workflow, json!({}), HQ, None));
    slack.happened(held);
    let engine = life.engine().clone();
    let drained = life.spawn(async move { engine.drain().await });
    life.until("it drains", || life.engine().is_draining());
    linger(&life);
    let engine = life.engine().clone();
    let asked = life.spawn(async move { engine.signal(run, bellhop_core::run::Cause::Cancel).await });
    linger(&life);
    slack.release(held, "answer");
    assert!(life.wait(drained).unwrap());
    let answered = life.wait(asked).unwrap();
    let life = Life::start(life.die(0), &slack);
    let status = life.ended(run).unwrap().status;
    // Either it was decided, or whoever asked knows that it was not.
    assert!(answered.is_err() || status == Status::Cancelled, "{answered:?}, {status:?}");
}

#[test]
fn a_journal_that_fails_ends_the_process_and_is_not_asked_for_ever() {
    let slack = Slack::start();
    let held = slack.fault(&json!({ "method": "chat.postMessage", "action": "hold_before_accept" }));
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(TWO);
    let _run = life.started(trigger(&workflow, json!({}), HQ, None));
    slack.happened(held);
    let mut fatal = life.engine().services.fatal.subscribe();
    life.store.fail();
    slack.release(held, "answer");
    let reason = life.wait(async { fatal.wait_for(Option::is_some).await.map(|reason| reason.clone()) });
    assert!(reason.unwrap().is_some());
    life.until("its driver is gone", || life.engine().runs().live() == 0);
    let _: Value = slack.world();
}
