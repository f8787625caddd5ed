//! A run of three messages dies at every commit and with Slack at every moment of a request: each message stands once.

use bellhop_core::run::Status;
use serde_json::{Value, json};

use super::life::{Life, Slack, fresh, open_intents, trigger};
use super::ports::Point;
use crate::tests::at_once;
use bellhop_journal::memory::Memory;
use bellhop_journal::{Entry, Journal};

const THREE: &str = "
  - one: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: one}}
  - two: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: two}}
  - three: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: three}}";

const GOOD: &[(&str, &str)] = &[("team", "hq")];
const POOR: &[(&str, &str)] = &[("team", "poor")];

/// Starts the run in a process that dies at `point`, then lets a second process bring it to its end. Gives how many
/// commits were at stake at the death; none when it did not die.
fn canonical(at: &str, fault: Option<&Value>, point: Option<Point>) -> Option<usize> {
    let slack = Slack::start();
    if let Some(fault) = fault {
        slack.fault(fault);
    }
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(THREE);
    if let Some(point) = point {
        life.store.die_at(point.at);
    }
    let order = trigger(&workflow, json!({}), GOOD, Some("key"));
    let acknowledged = life.trigger(order.clone()).map(|accepted| accepted.unwrap().run);
    let ended = acknowledged.and_then(|run| life.ended(run));
    if ended.is_none() {
        assert!(life.store.is_dead(), "{at}: it did not end and nobody died");
    }
    let died = life.store.is_dead().then(|| life.store.at_stake());
    let before = slack.requests().len();
    let memory = life.die(point.map_or(usize::MAX, |point| point.keep));

    let open = open_in(&memory);
    let life = Life::start(memory, &slack);
    if let Some(run) = acknowledged {
        assert_eq!(life.runs(), [run], "{at}: an acknowledged run is forgotten");
    }
    // By itself, before anybody asks again.
    for run in life.runs() {
        let view = life.ended(run).unwrap();
        assert_eq!(view.status, Status::Completed, "{at}: {view:?}");
    }
    let again = life.started(order);
    assert!(acknowledged.is_none_or(|run| run == again), "{at}: another run for the key");
    assert_eq!(life.runs(), [again], "{at}: two runs for the key");
    assert_eq!(life.ended(again).unwrap().status, Status::Completed, "{at}");

    assert_eq!(slack.messages(), ["one", "two", "three"], "{at}");
    slack.check_once(at);
    let intents = life.entries(again).iter().filter(|entry| matches!(entry, Entry::Intent { .. })).count();
    let sends = slack.count("chat.postMessage");
    assert!(sends <= intents, "{at}: {sends} sends, {intents} intents");
    assert_eq!(open_intents(&life.entries(again)), 0, "{at}");
    let requests = slack.requests();
    let reads = |from: usize, to: usize| requests[from..to].iter().any(|(method, _)| method == "conversations.history");
    let posts: Vec<usize> = (0..requests.len()).filter(|i| requests[*i].0 == "chat.postMessage").collect();
    for (n, first) in posts.iter().enumerate() {
        for second in posts.iter().skip(n + 1).filter(|second| requests[**second].1 == requests[*first].1) {
            assert!(reads(*first, *second), "{at}: sent again without a read-back: {requests:?}");
        }
    }
    if open > 0 {
        let next = posts.iter().copied().find(|post| *post >= before).unwrap_or(requests.len());
        assert!(reads(before, next), "{at}: no read-back between the restart and what was sent then: {requests:?}");
    }
    died
}

fn open_in(memory: &Memory) -> usize {
    let journal = Journal::checked(std::sync::Arc::new(memory.crash(usize::MAX)));
    let runs = at_once(journal.runs(None, 10)).unwrap().items;
    let log =
        |run| at_once(journal.entries(run, 0, 1_000)).unwrap().into_iter().map(|(_, entry)| entry).collect::<Vec<_>>();
    runs.into_iter().map(|(run, _)| open_intents(&log(run))).sum()
}

/// Every commit, with every part of what was at stake kept.
fn at_every_commit(name: &str, fault: Option<&Value>) -> usize {
    let mut deaths = 0;
    for at in 1.. {
        let mut keep = 0;
        loop {
            let point = Point { at, keep };
            let Some(at_stake) = canonical(&format!("{name}, died at {point:?}"), fault, Some(point)) else {
                return deaths;
            };
            deaths += 1;
            keep += 1;
            if keep > at_stake {
                break;
            }
        }
    }
    deaths
}

#[test]
fn three_messages_stand_once_whatever_commit_the_host_dies_at() {
    let deaths = at_every_commit("plain", None);
    // Accepted, and for each message a decision, an intent and an outcome, and the end; some of them lost or kept.
    assert!(deaths >= 15, "only {deaths} deaths");
    println!("{deaths} deaths");
}

#[test]
fn a_connection_that_is_cut_is_resolved_and_so_is_a_death_meanwhile() {
    for action in ["cut_before", "cut_after_accept"] {
        for nth in 1..=3 {
            let fault = json!({ "method": "chat.postMessage", "nth": nth, "action": action });
            assert_eq!(canonical(&format!("{action} {nth}"), Some(&fault), None), None);
        }
        let fault = json!({ "method": "chat.postMessage", "nth": 2, "action": action });
        let deaths = at_every_commit(action, Some(&fault));
        assert!(deaths >= 15, "only {deaths} deaths");
        println!("{action}: {deaths} deaths");
    }
}

/// Kills the host in the middle of the `nth` request.
fn killed_while_held(action: &str, nth: u64, keep: usize) {
    let at = format!("{action} {nth}, {keep} kept");
    let slack = Slack::start();
    let fault = slack.fault(&json!({ "method": "chat.postMessage", "nth": nth, "action": action }));
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(THREE);
    let run = life.started(trigger(&workflow, json!({}), GOOD, None));
    slack.happened(fault);
    assert_eq!(open_intents(&life.entries(run)), 1, "{at}");
    let memory = life.die(keep);
    let before = slack.requests().len();
    let life = Life::start(memory, &slack);
    assert_eq!(life.ended(run).unwrap().status, Status::Completed, "{at}");
    assert_eq!(slack.messages(), ["one", "two", "three"], "{at}");
    slack.check_once(&at);
    let after: Vec<String> = slack.requests().into_iter().skip(before).map(|(method, _)| method).collect();
    assert_eq!(after[0], "conversations.history", "{at}: {after:?}");
    let resent = usize::from(action == "hold_before_accept");
    let sends = after.iter().filter(|method| *method == "chat.postMessage").count();
    assert_eq!(sends, 3 - usize::try_from(nth).unwrap() + resent, "{at}: {after:?}");
}

#[test]
fn a_host_killed_in_the_middle_of_a_request_finds_out_what_became_of_it() {
    for action in ["accept_then_withhold", "hold_before_accept"] {
        for nth in 1..=3 {
            for keep in [0, usize::MAX] {
                killed_while_held(action, nth, keep);
            }
        }
    }
}

#[test]
fn what_cannot_be_read_back_is_parked_and_never_resent() {
    for (action, done) in [("accept_then_withhold", true), ("hold_before_accept", false)] {
        let slack = Slack::start();
        let fault = slack.fault(&json!({ "method": "chat.postMessage", "nth": 2, "action": action }));
        let life = Life::start(fresh(), &slack);
        let workflow = life.apply(THREE);
        let run = life.started(trigger(&workflow, json!({}), POOR, None));
        slack.happened(fault);
        let life = Life::start(life.die(0), &slack);
        life.until_status(run, Status::Parked);
        let sends = slack.count("chat.postMessage");
        assert_eq!(sends, 2);
        let waiting = life.view(run).waiting.unwrap();
        assert!(waiting.to_string().contains("outcome-unknown"), "{waiting}");
        // Parked it stays, over a restart too.
        let life = Life::start(life.die(0), &slack);
        assert_eq!(life.status(run), Status::Parked);
        assert_eq!(slack.count("chat.postMessage"), sends, "{action}: sent again in doubt");
        let answer = done.then(|| json!({"ok": true, "channel": "C0HQGENERAL", "ts": "1790000000.000100"}));
        life.wait(life.engine().resolve(run, None, done, answer, "a test".to_owned())).unwrap();
        assert_eq!(life.ended(run).unwrap().status, Status::Completed);
        assert_eq!(slack.messages(), ["one", "two", "three"]);
        slack.check_once(action);
        assert_eq!(slack.count("chat.postMessage"), 3 + usize::from(!done));
    }
}

#[test]
fn the_store_in_a_folder_brings_a_run_through_two_deaths() {
    let slack = Slack::start();
    let folder = tempfile::tempdir().unwrap();
    let withheld = slack.fault(&json!({ "method": "chat.postMessage", "action": "accept_then_withhold" }));
    let held = slack.fault(&json!({
        "method": "chat.postMessage", "match": {"text": "two"}, "action": "hold_before_accept",
    }));
    let life = Life::start_in(folder.path(), &slack);
    let workflow = life.apply(THREE);
    let order = trigger(&workflow, json!({}), GOOD, Some("key"));
    let run = life.started(order.clone());
    slack.happened(withheld);
    life.die(0);
    let life = Life::start_in(folder.path(), &slack);
    slack.happened(held);
    life.die(0);
    let life = Life::start_in(folder.path(), &slack);
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    assert_eq!(life.started(order), run);
    assert_eq!(slack.messages(), ["one", "two", "three"]);
    slack.check_once("two deaths");
}
