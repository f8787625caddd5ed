//! Messages for later: found in Slack's list where the answer is lost, told apart from one like it, and taken back.

use bellhop_core::run::{Cause, Status};
use bellhop_core::time::Timestamp;
use serde_json::{Value, json};

use super::life::{Life, Slack, fresh, trigger};

const HQ: &[(&str, &str)] = &[("team", "hq")];
const LATER: &str = "
  - later: {call: message.schedule:1@slack, with: {connection: team, channel: '#it', at: '${ .at }', text: Stand-up}}";

fn tomorrow(life: &Life) -> String {
    life.engine().services.clock.now().plus_millis(86_400_000).to_string()
}

/// The ids of the messages that wait, in order.
fn waiting(slack: &Slack) -> Vec<String> {
    let world = slack.world();
    let scheduled = world["scheduled"].as_object().unwrap();
    assert!(scheduled.values().all(|waits| waits["message"]["text"] == "Stand-up"), "{scheduled:?}");
    scheduled.keys().cloned().collect()
}

#[test]
fn a_message_for_later_whose_answer_is_lost_is_left_with_slack_once() {
    for (action, sends) in [("cut_after_accept", 1), ("cut_before", 2)] {
        let slack = Slack::start();
        let life = Life::start(fresh(), &slack);
        let workflow = life.apply(LATER);
        let at = tomorrow(&life);
        // One like it is there already, of another run.
        let first = life.ended(life.started(trigger(&workflow, json!({ "at": at }), HQ, None))).unwrap();
        assert_eq!(first.status, Status::Completed, "{first:?}");
        slack.fault(&json!({ "method": "chat.scheduleMessage", "action": action }));
        let run = life.started(trigger(&workflow, json!({ "at": at }), HQ, None));
        let view = life.ended(run).unwrap();
        assert_eq!(view.status, Status::Completed, "{action}: {view:?}");
        let there = waiting(&slack);
        let told = |output: Option<Value>| output.unwrap()["scheduledMessage"].as_str().unwrap().to_owned();
        assert_eq!(vec![told(first.output), told(view.output)], there, "{action}");
        assert_eq!(slack.count("chat.scheduleMessage"), sends + 1, "{action}");
    }
}

#[test]
fn a_message_for_later_of_which_the_process_died_is_found_by_the_next() {
    let slack = Slack::start();
    let withheld = slack.fault(&json!({ "method": "chat.scheduleMessage", "action": "accept_then_withhold" }));
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(LATER);
    let run = life.started(trigger(&workflow, json!({ "at": tomorrow(&life) }), HQ, None));
    slack.happened(withheld);
    let life = Life::start(life.die(usize::MAX), &slack);
    let view = life.ended(run).unwrap();
    assert_eq!(view.status, Status::Completed, "{view:?}");
    assert_eq!(waiting(&slack), [view.output.unwrap()["scheduledMessage"].as_str().unwrap()]);
    assert_eq!(slack.count("chat.scheduleMessage"), 1);
}

#[test]
fn a_message_for_later_is_taken_back_with_its_run() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(&format!("{LATER}\n  - rest: {{wait: {{hours: 1}}}}"));
    let run = life.started(trigger(&workflow, json!({ "at": tomorrow(&life) }), HQ, None));
    life.until("it waits", || waiting(&slack).len() == 1);
    life.until_status(run, Status::Waiting);
    life.wait(life.engine().signal_by(run, Cause::CancelAndUndo, Some("a test".to_owned()))).unwrap();
    assert_eq!(life.ended(run).unwrap().status, Status::Cancelled);
    assert_eq!(waiting(&slack).len(), 0);
}

#[test]
fn a_time_that_slack_does_not_take_is_told_as_such() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(LATER);
    let far = Timestamp::from_millis(life.engine().services.clock.now().as_millis() + 200 * 86_400_000);
    for (at, why) in [("2001-01-01T00:00:00Z".to_owned(), "that time is over"), (far.to_string(), "120 days")] {
        let view = life.ended(life.started(trigger(&workflow, json!({ "at": at }), HQ, None))).unwrap();
        let error = view.error.unwrap_or_else(|| panic!("{at}: {:?}", view.status));
        assert!(error["type"].as_str().unwrap().ends_with("/schedule-time-refused"), "{error}");
        assert!(error["detail"].as_str().unwrap().contains(why), "{error}");
    }
    assert_eq!(waiting(&slack).len(), 0);
}
