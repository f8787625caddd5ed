//! People are told, whatever else there is to tell and whoever is away.

use std::sync::Arc;
use std::time::Duration;

use bellhop_core::id::RunId;
use bellhop_core::requirement::{Permission, Tenant};
use bellhop_core::run::{About, Notice, Status};
use bellhop_core::time::Timestamp;
use serde_json::{Value, json};

use super::life::{Life, Slack, fresh, trigger};
use bellhop_clock::Manual;
use bellhop_limits::Limits;

const START: Timestamp = Timestamp::from_millis(1_790_000_000_000);

fn notice(connection: &str, reason: &str, text: &str) -> Notice {
    let of = |text: &str| text.to_owned();
    Notice {
        number: 0,
        at: START,
        about: About::Blocked,
        reason: of(reason),
        connection: of(connection),
        tenant: None,
        channel: of("C0HQIT"),
        text: of(text),
    }
}

fn run(n: u64) -> RunId {
    RunId::new(START, u128::from(n))
}

fn take(life: &Life, number: u64, notice: Notice, again: bool) {
    life.wait(life.engine().services.partition.notices.take(run(number), notice, again)).unwrap();
}

fn start(limits: Limits, slack: &Slack) -> (Life, Manual) {
    let clock = Manual::new(START);
    (Life::start_at(fresh(), limits, Arc::new(clock.clone()), slack), clock)
}

/// Lets time pass until so many messages were told.
fn told(life: &Life, clock: &Manual, slack: &Slack, count: usize) {
    life.until("people are told", || {
        clock.advance(Duration::from_millis(500));
        slack.messages().len() >= count
    });
}

#[test]
fn house_a9_a_thousand_notices_for_a_connection_that_is_gone_hold_up_no_other() {
    let slack = Slack::start();
    let limits = Limits { notices_connections_max: 1, ..Limits::default() };
    let (life, clock) = start(limits, &slack);
    // In the order of the store they come first, and in that of connections as well.
    for n in 0..1_200 {
        take(&life, n, notice("gone", &format!("reason {}", n % 40), "nobody"), false);
    }
    take(&life, 5_000, notice("hq", "reason", "somebody"), false);
    told(&life, &clock, &slack, 1);
    assert_eq!(slack.messages(), ["somebody"]);
    assert!(bellhop_clock::Clock::now(&clock) < START.plus_millis(60_000), "it took as long as others were tried");
    // The next process knows of all of them too.
    let life = Life::start_at(life.die(usize::MAX), Limits::default(), Arc::new(clock.clone()), &slack);
    take(&life, 5_001, notice("hq", "another", "somebody else"), false);
    told(&life, &clock, &slack, 2);
    assert_eq!(slack.messages(), ["somebody", "somebody else"]);
}

#[test]
fn house_a14_a_message_that_fails_again_and_again_holds_up_no_other_of_its_connection() {
    let slack = Slack::start();
    let (life, clock) = start(Limits::default(), &slack);
    slack.fault(&json!({
        "method": "chat.postMessage", "match": {"text": "fails"}, "times": 0, "action": "cut_before",
    }));
    // Told in the order of reasons, as long as nothing failed.
    take(&life, 1, notice("hq", "a", "fails"), false);
    life.until("it was tried", || slack.count("chat.postMessage") > 0);
    for (n, reason) in ["b", "c"].into_iter().enumerate() {
        take(&life, 10 + n as u64, notice("hq", reason, reason), false);
    }
    told(&life, &clock, &slack, 2);
    assert_eq!(slack.messages(), ["b", "c"]);
    slack.control("DELETE", "faults", &Value::Null);
    told(&life, &clock, &slack, 3);
    assert_eq!(slack.messages(), ["b", "c", "fails"]);
}

#[test]
fn house_a8_whether_people_were_told_is_looked_for_until_it_can_be_read() {
    let slack = Slack::start();
    let (life, clock) = start(Limits::default(), &slack);
    slack.fault(&json!({ "method": "conversations.*", "times": 0, "action": "cut_before" }));
    // An earlier process may have told it.
    take(&life, 1, notice("hq", "a", "perhaps told"), true);
    life.until("it was looked for in vain", || {
        clock.advance(Duration::from_millis(500));
        slack.count("conversations.history") >= 8
    });
    assert_eq!(slack.messages(), Vec::<String>::new());
    slack.control("DELETE", "faults", &Value::Null);
    told(&life, &clock, &slack, 1);
    assert_eq!(slack.messages(), ["perhaps told"]);
    slack.check_once("told once");
}

/// A clock that was set ahead makes no notice so old that it is given up.
#[test]
fn surroundings_s11_nobody_goes_untold_because_a_clock_was_set() {
    let slack = Slack::start();
    let (life, clock) = start(Limits::default(), &slack);
    slack.fault(&json!({ "method": "chat.postMessage", "times": 0, "action": "cut_before" }));
    take(&life, 1, notice("hq", "a", "told late"), false);
    life.until("it was tried", || slack.count("chat.postMessage") > 0);
    clock.set(START.plus_millis(2 * 86_400_000));
    life.until("it was tried again and again", || {
        clock.advance(Duration::from_secs(5));
        slack.count("chat.postMessage") >= 4
    });
    assert!(life.engine().services.time.doubt().is_some());
    slack.control("DELETE", "faults", &Value::Null);
    told(&life, &clock, &slack, 1);
    assert_eq!(slack.messages(), ["told late"]);
}

/// What is told names people and their runs: it is not for whoever has the connection's name by now.
#[test]
fn attack_d1_what_is_told_is_told_to_the_organisation_that_it_is_of() {
    let slack = Slack::start();
    let (life, clock) = start(Limits::default(), &slack);
    life.connect("d1-told", "xoxb-lab", Permission::Act);
    let of = |workspace: &str| {
        let (workspace, enterprise) = (Some(workspace.to_owned()), Some("E0ACME".to_owned()));
        Some(Tenant { workspace, enterprise })
    };
    let to = |channel: &str, workspace: &str, text: &str| Notice {
        channel: channel.to_owned(),
        tenant: of(workspace),
        ..notice("d1-told", "reason", text)
    };
    // By name, so that there is such a channel in both.
    take(&life, 1, to("#general", "T0HQ", "of hq"), false);
    take(&life, 2, to("C0HQIT", "T0HQ", "perhaps told in hq"), true);
    take(&life, 3, to("#general", "T0LAB", "of lab"), false);
    told(&life, &clock, &slack, 1);
    assert_eq!(slack.messages(), ["of lab"], "each place is told of its own");
    assert_eq!(slack.count("conversations.history"), 0, "nor is it looked for what another was told");
    life.connect("d1-told", "xoxb-hq", Permission::Act);
    told(&life, &clock, &slack, 3);
    let mut messages = slack.messages();
    messages.sort_unstable();
    assert_eq!(messages, ["of hq", "of lab", "perhaps told in hq"]);
    slack.check_once("each is told once");
}

#[test]
fn attack_d10_people_are_told_once_the_token_is_put_right() {
    let slack = Slack::start();
    let (life, clock) = start(Limits::default(), &slack);
    let refuse = json!({ "refuse": { "error": "token_revoked" } });
    slack.fault(&json!({ "method": "chat.postMessage", "times": 0, "action": refuse }));
    take(&life, 1, notice("hq", "a", "told late"), false);
    life.until("it was tried twice", || {
        clock.advance(Duration::from_millis(500));
        slack.count("chat.postMessage") >= 2
    });
    assert_eq!(slack.messages(), Vec::<String>::new());
    slack.control("DELETE", "faults", &Value::Null);
    told(&life, &clock, &slack, 1);
    assert_eq!(slack.messages(), ["told late"]);
    slack.check_once("told once");
}

#[test]
fn attack_d24_a_notice_is_posted_so_that_slack_makes_nothing_of_what_others_wrote() {
    let slack = Slack::start();
    let limits = Limits { notices_gather_ms: 1, ..Limits::default() };
    let life = Life::start_with(fresh(), limits, &slack);
    let workflow = life.apply_text(
        "
document: {dsl: 1.0.3, namespace: test, name: tells, version: 1.0.0, metadata: {bellhop: {onFault: {notify: {connection: team, channel: C0HQIT}}}}}
do:
  - fail:
      raise:
        error: {type: 'https://example.com/errors/wrong', status: 400, detail: '${ .said }'}
",
    );
    let said = "<!channel> <@U0HQADMIN> <https://evil.example|your bank> `a`\n*b* & c";
    let run = life.started(trigger(&workflow, json!({ "said": said }), &[("team", "hq")], None));
    assert_eq!(life.ended(run).unwrap().status, Status::Faulted);
    life.until("people are told", || !slack.messages().is_empty());
    let posted = slack.ledger().into_iter().find(|line| line["method"] == "chat.postMessage").unwrap();
    let text = posted["args"]["text"].as_str().unwrap();
    let shown = "`&lt;!channel&gt; &lt;@U0HQADMIN&gt; &lt;https://evil.example|your bank&gt; 'a'\\u{a}*b* &amp; c`";
    assert!(text.contains(shown), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.ends_with(&format!("\nbellhop runs show {run}")), "{text}");
    for (name, value) in [("parse", json!("none")), ("link_names", json!(false)), ("unfurl_links", json!(false))] {
        assert_eq!(posted["args"][name], value, "{}", posted["args"]);
    }
    assert_eq!(posted["args"]["unfurl_media"], false);

    // However long it is, it is bounded, and what is to be done stands below it.
    let run = life.started(trigger(&workflow, json!({ "said": "x".repeat(20_000) }), &[("team", "hq")], None));
    let end = format!("\nbellhop runs show {run}");
    life.until("people are told again", || slack.messages().len() == 2);
    let long = &slack.messages()[1];
    assert!(long.ends_with(&end) && long.len() < 1_000, "{} {long}", long.len());
}
