//! A disk that lacks room, while runs are open.

use bellhop_core::definition::WorkflowName;
use bellhop_core::id::RunId;
use bellhop_core::run::{Cause, Status};
use serde_json::json;

use super::life::{Life, Slack, fresh, trigger};
use bellhop_journal::store::{Error, Lack};
use bellhop_journal::{self as journal, Entry, Write, key};
use bellhop_limits::Limits;

const HQ: &[(&str, &str)] = &[("team", "hq")];
const POST: &str = "chat.postMessage";
const UPDATE: &str = "usergroups.users.update";

const LACK: Option<Lack> = Some(Lack { free: 1, wanted: 2 });

/// Joins a group, says two things.
const TASKS: &str = "
  - join: {call: usergroup.add-user:1@slack, with: {connection: team, usergroup: S0HQIT, user: U0ACMEBOTH}}
  - one: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: one}}
  - two: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: two}}";

/// Until somebody has looked for room several times, and found none.
fn is_waited_for(life: &Life) {
    let before = life.store.looks();
    life.until("room is waited for", || life.store.looks() > before + 4);
}

/// A run for whose second message there is no room on the disk. What it had sent before has come to its end, and is on record;
/// nothing more is sent, and nothing begins.
fn with_one_thing_said(slack: &Slack) -> (Life, WorkflowName, RunId) {
    let life = Life::start(fresh(), slack);
    let workflow = life.apply(TASKS);
    let held = slack.fault(&json!({ "method": POST, "nth": 1, "action": "hold_before_accept" }));
    let run = life.started(trigger(&workflow, json!({}), HQ, None));
    slack.happened(held);
    life.store.lacks(LACK);
    slack.release(held, "answer");
    life.until("the first is told", || slack.messages() == ["one"]);
    is_waited_for(&life);
    (life, workflow, run)
}

#[test]
fn attack_an_open_run_waits_for_room_before_it_sends_and_then_goes_on() {
    let slack = Slack::start();
    let (life, workflow, run) = with_one_thing_said(&slack);
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
    let (life, _, run) = with_one_thing_said(&slack);
    let joined = slack.count(UPDATE);
    let (engine, by) = (life.engine().clone(), Some("an operator".to_owned()));
    life.wait(engine.signal_by(run, Cause::CancelAndUndo, by)).unwrap();
    assert_eq!(life.ended(run).unwrap().status, Status::Cancelled);
    assert_eq!(slack.messages(), ["one"], "the second was not sent");
    assert_eq!(slack.count(UPDATE), joined + 1, "it has left the group again");
}

/// An order that does not end the run ends no call of it either: what could not be begun is begun anew.
#[test]
fn house_d9_a_run_that_is_given_another_order_while_it_waits_for_room_loses_no_message() {
    let slack = Slack::start();
    let (life, _, run) = with_one_thing_said(&slack);
    let by = || Some("an operator".to_owned());
    assert!(life.wait(life.engine().signal_by(run, Cause::Suspend, by())).unwrap());
    assert!(life.wait(life.engine().signal_by(run, Cause::Resume, by())).unwrap());
    life.store.lacks(None);
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    assert_eq!(slack.messages(), ["one", "two"]);
    slack.check_once("after the orders");
}

/// Nor does it give a call its attempts anew.
#[test]
fn house_d9_how_often_a_call_was_tried_counts_over_an_order_on_a_full_disk() {
    let slack = Slack::start();
    let limits = Limits { slack_attempts_max: 2, ..Limits::default() };
    let life = Life::start_with(fresh(), limits, &slack);
    let always = json!({
        "method": POST, "match": { "text": "two" }, "times": 0, "action": { "rate_limit": { "retry_after": 1 } },
    });
    let limited = slack.fault(&always);
    let run = life.started(trigger(&life.apply(TASKS), json!({}), HQ, None));
    slack.happened(limited);
    let is_told = |entry: &Entry| matches!(entry, Entry::NotSent { .. });
    life.until("its first attempt is on record", || life.entries(run).iter().any(is_told));
    // From here on it waits for a second, and then for room.
    life.store.lacks(LACK);
    for _ in 0..10 {
        is_waited_for(&life);
    }
    let by = || Some("an operator".to_owned());
    assert!(life.wait(life.engine().signal_by(run, Cause::Suspend, by())).unwrap());
    assert!(life.wait(life.engine().signal_by(run, Cause::Resume, by())).unwrap());
    life.store.lacks(None);
    life.until_status(run, Status::Parked);
    assert_eq!(slack.count(POST), 3, "one, and twice the other");
}

#[test]
fn attack_what_is_due_is_woken_when_there_is_room() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply("\n  - sleep: {wait: {milliseconds: 300}}\n  - say: {set: {said: true}}");
    let run = life.started(trigger(&workflow, json!({}), &[], None));
    life.until_status(run, Status::Waiting);
    life.store.lacks(LACK);
    is_waited_for(&life);
    assert_eq!(life.status(run), Status::Waiting);
    life.store.lacks(None);
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
}

/// What cannot become durable before the disk has room is not told, and whoever asks is not kept waiting for it.
#[test]
fn attack_who_reads_what_has_to_wait_for_room_is_told_so() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply("\n  - say: {set: {said: true}}");
    let run = life.started(trigger(&workflow, json!({}), &[], None));
    life.ended(run).unwrap();
    life.store.hold();
    life.journal().commit(a_write()).unwrap();
    life.store.lacks(LACK);
    let read = life.wait(life.engine().run_view(run));
    assert!(matches!(read, Err(journal::Error::Store(Error::NoRoom { free: 1, wanted: 2 }))), "{read:?}");
    life.store.lacks(None);
    life.store.sync(usize::MAX);
    assert_eq!(life.view(run).status, Status::Completed);
}

fn a_write() -> Write {
    let mut write = Write::new();
    write.put(&key::host("a test"), &json!(true)).unwrap();
    write
}
