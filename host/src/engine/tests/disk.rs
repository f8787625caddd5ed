//! A disk that lacks room, while runs are open.

use bellhop_core::run::{Cause, Status};
use serde_json::json;

use super::life::{Life, Slack, fresh, trigger};
use crate::journal::store::Lack;

const HQ: &[(&str, &str)] = &[("team", "hq")];
const POST: &str = "chat.postMessage";
const UPDATE: &str = "usergroups.users.update";

const LACK: Option<Lack> = Some(Lack { free: 1, wanted: 2 });

/// Joins a group, says two things.
const TASKS: &str = "
  - join: {call: usergroup.add-user:1@slack, with: {connection: team, usergroup: S0HQIT, user: U0ACMEBOTH}}
  - one: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: one}}
  - two: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: two}}";

/// Turns of whoever looks at the room.
fn a_while(life: &Life) {
    life.wait(async { tokio::time::sleep(std::time::Duration::from_millis(600)).await });
}

#[test]
fn attack_an_open_run_waits_for_room_before_it_sends_and_then_goes_on() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(TASKS);
    let held = slack.fault(&json!({ "method": POST, "nth": 1, "action": "hold_before_accept" }));
    let run = life.started(trigger(&workflow, json!({}), HQ, None));
    slack.happened(held);
    life.store.lacks(LACK);
    // What was sent comes to its end, and is on record; nothing more is sent, and nothing begins.
    slack.release(held, "answer");
    life.until("the first is told", || slack.messages() == ["one"]);
    a_while(&life);
    assert_eq!((slack.count(POST), life.status(run)), (1, Status::Running));
    assert!(life.trigger(trigger(&workflow, json!({}), HQ, None)).unwrap().is_err());
    // It is read, with what it has done.
    assert_eq!(life.view(run).status, Status::Running);
    life.store.lacks(None);
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    assert_eq!(slack.messages(), ["one", "two"]);
    slack.check_once("after the disk had room again");
}

#[test]
fn attack_a_run_that_waits_for_room_is_cancelled_and_takes_back_what_it_did() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(&TASKS.replace("one", "a"));
    let held = slack.fault(&json!({ "method": POST, "nth": 1, "action": "hold_before_accept" }));
    let run = life.started(trigger(&workflow, json!({}), HQ, None));
    slack.happened(held);
    life.store.lacks(LACK);
    slack.release(held, "answer");
    life.until("the first is told", || slack.messages() == ["a"]);
    a_while(&life);
    let joined = slack.count(UPDATE);
    let (engine, by) = (life.engine().clone(), Some("an operator".to_owned()));
    life.wait(engine.signal_by(run, Cause::CancelAndUndo, by)).unwrap();
    assert_eq!(life.ended(run).unwrap().status, Status::Cancelled);
    assert_eq!(slack.messages(), ["a"], "the second was not sent");
    assert_eq!(slack.count(UPDATE), joined + 1, "it has left the group again");
}

#[test]
fn attack_what_is_due_is_woken_when_there_is_room() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply("\n  - sleep: {wait: {milliseconds: 300}}\n  - say: {set: {said: true}}");
    let run = life.started(trigger(&workflow, json!({}), &[], None));
    life.until_status(run, Status::Waiting);
    life.store.lacks(LACK);
    a_while(&life);
    assert_eq!(life.status(run), Status::Waiting);
    life.store.lacks(None);
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
}
