//! Runs that only wait make room for others, and are taken up again when it is their turn.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bellhop_core::id::RunId;
use bellhop_core::run::{Cause, Status};
use bellhop_core::time::Timestamp;
use serde_json::json;

use super::life::{Life, Slack, fresh, trigger};
use crate::execution::CallKey;
use crate::waiting::{Entering, Place, Progress, Waiting};
use bellhop_clock::Manual;
use bellhop_limits::Limits;

const HQ: &[(&str, &str)] = &[("team", "hq")];
const START: Timestamp = Timestamp::from_millis(1_790_000_000_000);
const HOUR: std::time::Duration = std::time::Duration::from_secs(3_600);

/// Sends a text, and the next.
const TWICE: &str = "
  - one: {call: message.send:1@slack, with: {connection: team, channel: C0HQIT, text: '${ .text }'}}
  - two: {call: message.send:1@slack, with: {connection: team, channel: C0HQIT, text: '${ $workflow.input.text + \" again\" }'}}";

/// Slack wants to be left alone for an hour, with the first message.
fn closed(slack: &Slack, times: u64) -> u64 {
    let rule =
        json!({ "method": "chat.postMessage", "times": times, "action": {"rate_limit": {"retry_after": 3_600}} });
    slack.fault(&rule)
}

fn begin(life: &Life, slack: &Slack, fault: u64, many: usize) -> Vec<RunId> {
    let workflow = life.apply(TWICE);
    let run = |n: usize| life.started(trigger(&workflow, json!({ "text": format!("m{n}") }), HQ, None));
    let mut runs = vec![run(0)];
    slack.happened(fault);
    // Its bucket is closed once the answer was read; whoever came before that would be told the same.
    life.until("the bucket is closed", || life.engine().services.gateway.limiter.snapshot().len() == 1);
    runs.extend((1..many).map(run));
    runs
}

fn in_memory(life: &Life) -> usize {
    life.engine().runs().live()
}

/// Lets the time pass until all have ended.
fn pass(life: &Life, clock: &Manual, runs: &[RunId]) {
    let ended = || runs.iter().all(|run| life.status(*run).is_final());
    clock.advance(HOUR);
    life.until("all end", || {
        clock.advance(std::time::Duration::from_millis(100));
        ended()
    });
}

#[test]
fn runs_that_only_wait_are_put_down_and_each_message_is_sent_once() {
    let slack = Slack::start();
    let clock = Manual::new(START);
    let limits = Limits { waiting_runs_max: 3, ..Limits::default() };
    let life = Life::start_at(fresh(), limits, Arc::new(clock.clone()), &slack);
    let fault = closed(&slack, 1);
    let runs = begin(&life, &slack, fault, 12);
    life.until("only so many stay", || {
        life.engine().services.partition.waiting.count() == (3, 9) && in_memory(&life) == 3
    });
    assert_eq!(slack.count("chat.postMessage"), 1, "they wait");
    pass(&life, &clock, &runs);
    for run in &runs {
        assert_eq!(life.status(*run), Status::Completed);
    }
    let mut sent = slack.messages();
    sent.sort();
    let mut wanted: Vec<String> = (0..12).flat_map(|n| [format!("m{n}"), format!("m{n} again")]).collect();
    wanted.sort();
    assert_eq!(sent, wanted);
    slack.check_once("after all");
    life.until("nothing is left behind", || {
        life.engine().services.partition.waiting.count() == (0, 0) && in_memory(&life) == 0
    });
}

/// However many come at once, only so many have a guest.
#[test]
fn an_action_begins_when_there_is_room_for_it() {
    let waiting = Waiting::default();
    let limits = Limits { waiting_runs_max: 2, leaving_runs_max: 1, ..Limits::default() };
    let mut context = Context::from_waker(Waker::noop());
    let mut ask = |asking: &mut Pin<Box<dyn Future<Output = Entering>>>| match asking.as_mut().poll(&mut context) {
        Poll::Ready(entering) => Some(entering),
        Poll::Pending => None,
    };
    let all = (0..6).map(|_| -> Pin<Box<dyn Future<Output = Entering>>> {
        let (waiting, limits) = (waiting.clone(), limits.clone());
        Box::pin(async move { waiting.has_room(&limits).await })
    });
    let mut asking: Vec<_> = all.collect();
    let mut entered: Vec<_> = asking.iter_mut().filter_map(&mut ask).collect();
    assert_eq!(entered.len(), 3);
    asking.drain(..3);
    entered.truncate(1);
    let next: Vec<_> = asking.iter_mut().filter_map(&mut ask).collect();
    assert_eq!(next.len(), 2, "two have left");
    asking.drain(..2);
    assert!(ask(&mut asking[0]).is_none());
    drop((entered, next));
    assert!(ask(&mut asking[0]).is_some());
}

#[test]
fn one_that_has_waited_long_is_put_down_though_there_is_room() {
    let slack = Slack::start();
    let clock = Manual::new(START);
    let life = Life::start_at(fresh(), Limits::default(), Arc::new(clock.clone()), &slack);
    let fault = closed(&slack, 1);
    let runs = begin(&life, &slack, fault, 1);
    life.until("it waits", || life.engine().services.partition.waiting.count() == (1, 0));
    clock.advance(std::time::Duration::from_millis(Limits::default().waiting_ms_max));
    life.until("it is put down", || in_memory(&life) == 0);
    pass(&life, &clock, &runs);
    assert_eq!(slack.messages(), ["m0", "m0 again"]);
}

#[test]
fn a_run_that_was_put_down_can_be_cancelled_and_gives_up_its_turn() {
    let slack = Slack::start();
    let clock = Manual::new(START);
    let limits = Limits { waiting_runs_max: 1, ..Limits::default() };
    let life = Life::start_at(fresh(), limits, Arc::new(clock.clone()), &slack);
    let fault = closed(&slack, 1);
    let runs = begin(&life, &slack, fault, 3);
    life.until("two are put down", || life.engine().services.partition.waiting.count() == (1, 2));
    for run in &runs[..2] {
        assert!(life.wait(life.engine().signal(*run, Cause::Cancel)).unwrap());
        life.until_status(*run, Status::Cancelled);
    }
    life.until("their turns are given up", || {
        life.engine().services.partition.waiting.count().1 <= 1 && life.engine().services.gateway.limiter.waiting() <= 1
    });
    pass(&life, &clock, &runs);
    assert_eq!(slack.messages(), ["m2", "m2 again"]);
}

#[test]
fn the_attempts_of_a_call_are_counted_over_being_put_down() {
    let slack = Slack::start();
    let clock = Manual::new(START);
    let limits = Limits { waiting_runs_max: 1, slack_attempts_max: 3, ..Limits::default() };
    let life = Life::start_at(fresh(), limits, Arc::new(clock.clone()), &slack);
    let fault = closed(&slack, 0);
    let runs = begin(&life, &slack, fault, 3);
    life.until("all park", || {
        clock.advance(std::time::Duration::from_secs(60));
        runs.iter().all(|run| life.status(*run) == Status::Parked)
    });
    assert_eq!(slack.count("chat.postMessage"), 9, "three times each");
}

/// What came of the last attempt counts, though nobody of the run is in memory any more to be told.
#[test]
fn house_d8_the_last_attempt_that_fails_while_its_run_is_put_down_parks_it() {
    let slack = Slack::start();
    let limits = Limits { slack_attempts_max: 1, ..Limits::default() };
    let life = Life::start_with(fresh(), limits, &slack);
    let held = slack.fault(&json!({ "method": "chat.postMessage", "nth": 1, "action": "hold_before_accept" }));
    let run = life.started(trigger(&life.apply(TWICE), json!({ "text": "m" }), HQ, None));
    slack.happened(held);
    life.engine().runs().put_down(run);
    slack.release(held, "cut");
    life.until("it comes to rest", || in_memory(&life) == 0 || life.status(run).is_final());
    assert_eq!(life.status(run), Status::Parked);
    assert_eq!(slack.count("chat.postMessage"), 1, "it has had its one attempt");
}

#[test]
fn what_waits_for_a_key_keeps_its_place_in_line() {
    let slack = Slack::start();
    let limits = Limits { waiting_runs_max: 2, ..Limits::default() };
    let life = Life::start_with(fresh(), limits, &slack);
    let users = ["U0HQOWNER", "U0HQMEMBER", "U0ACMEBOTH", "U0ACMEOWNER", "U0ACMEPRIMARY"];
    let held = slack.fault(&json!({ "method": "usergroups.users.update", "action": "hold_before_accept" }));
    let workflow = life.apply(
        "\n  - add: {call: usergroup.add-user:1@slack, with: {connection: team, usergroup: S0HQIT, user: '${ .user }'}}",
    );
    let runs: Vec<RunId> =
        users.iter().map(|user| life.started(trigger(&workflow, json!({ "user": user }), HQ, None))).collect();
    slack.happened(held);
    life.until("two of four are put down", || {
        life.engine().services.partition.waiting.count() == (2, 2) && in_memory(&life) == 3
    });
    slack.release(held, "answer");
    for run in &runs {
        let view = life.ended(*run).unwrap();
        assert_eq!(view.status, Status::Completed, "{view:?}");
    }
    assert_eq!(slack.count("usergroups.users.update"), users.len(), "one after the other");
    let members = slack.world()["groups"]["S0HQIT"]["users"].clone();
    for user in users {
        assert!(members.as_array().unwrap().contains(&json!(user)), "{user} is not in {members}");
    }
}

/// How often a call was tried counts, however its run leaves memory: its limit would otherwise begin anew.
#[test]
fn what_a_call_has_behind_it_is_kept_where_it_waits_for_nothing() {
    let waiting = Waiting::default();
    let run = RunId::new(START, 1);
    let place = |ordinal| Place::Call(CallKey { execution: "/do/0/a#".parse().unwrap(), attempt: 1, ordinal });
    let behind = |sends| Progress { sends, ..Progress::default() };
    waiting.keep_progress(run, &place(1), behind(3));
    waiting.keep_progress(run, &place(1), behind(4));
    assert_eq!(waiting.count().1, 1, "what is kept for a call is kept once");
    let held = waiting.claim(run, &place(1)).unwrap();
    assert_eq!(held.progress, behind(3));
    let mut context = Context::from_waker(Waker::noop());
    assert!(held.turn().as_mut().poll(&mut context).is_ready(), "it waits for nothing");
    assert!(waiting.claim(run, &place(1)).is_none() && waiting.claim(run, &place(2)).is_none());
}
