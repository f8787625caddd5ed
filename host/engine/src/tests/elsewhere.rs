//! A connection's name is the operator's, who can give it to another workspace: what was begun in one place is not gone on
//! with in another.

use std::collections::BTreeMap;

use bellhop_core::id::RunId;
use bellhop_core::requirement::{Kind, Permission, TokenKind};
use bellhop_core::run::{Cause, Status};
use bellhop_slack::client::Secret;
use serde_json::{Value, json};

use super::life::{Life, Slack, fresh, trigger};
use crate::accept::trigger::Refused;
use crate::operate::reopen::RedefineError;
use crate::operate::resolve::ResolveError;
use crate::setup::connections::New;

const TWO: &str = "
  - one: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: one}}
  - two: {call: message.send:1@slack, with: {connection: team, channel: '#general', text: two}}";

fn on(connection: &str) -> [(&str, &str); 1] {
    [("team", connection)]
}

/// Why a run waits for a person.
fn reason(life: &Life, run: RunId) -> String {
    life.view(run).waiting.expect("it waits").to_string()
}

fn differs(life: &Life, run: RunId) {
    let reason = reason(life, run);
    for part in ["connection-differs", "workspace T0HQ", "workspace T0LAB", "--replace"] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
}

fn goes_on(life: &Life, run: RunId) {
    assert!(life.wait(life.engine().signal(run, Cause::Retry)).unwrap());
}

/// A run over `connection` that is parked between its two messages, because the name is the other workspace's by now.
fn between(slack: &Slack, connection: &str) -> (Life, RunId) {
    let life = Life::start(fresh(), slack);
    life.connect(connection, "xoxb-hq", Permission::Act);
    let held = slack.fault(&json!({
        "method": "chat.postMessage", "match": { "text": "one" }, "action": "hold_before_accept",
    }));
    let workflow = life.apply_named(connection, TWO);
    let run = life.started(trigger(&workflow, json!({}), &on(connection), None));
    slack.happened(held);
    life.wait(life.engine().connections.remove(&life.engine().services.gateway, connection)).unwrap();
    life.connect(connection, "xoxb-lab", Permission::Act);
    slack.release(held, "answer");
    life.until_status(run, Status::Parked);
    differs(&life, run);
    (life, run)
}

#[test]
fn attack_d1_a_run_waits_while_its_connections_name_is_anothers_and_goes_on_in_its_own_place() {
    let slack = Slack::start();
    let (life, run) = between(&slack, "d1-call");
    let asked = slack.requests().len();
    goes_on(&life, run);
    life.until("it is parked again", || life.parked(run) == 2);
    // Another process knows as much.
    let life = Life::start(life.die(usize::MAX), &slack);
    goes_on(&life, run);
    life.until("it is parked once more", || life.parked(run) == 3);
    assert_eq!(slack.requests().len(), asked, "nobody was asked anything");
    life.connect("d1-call", "xoxb-hq", Permission::Act);
    goes_on(&life, run);
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    assert_eq!(slack.messages(), ["one", "two"]);
    let channels: Vec<Value> = slack.ledger().iter().map(|line| line["args"]["channel"].clone()).collect();
    assert_eq!(channels, ["C0HQGENERAL", "C0HQGENERAL"]);
}

#[test]
fn attack_d1_a_run_whose_connection_leads_elsewhere_can_be_given_up() {
    let slack = Slack::start();
    let (life, run) = between(&slack, "d1-cancel");
    assert!(life.wait(life.engine().signal(run, Cause::Cancel)).unwrap());
    assert_eq!(life.ended(run).unwrap().status, Status::Cancelled);
    assert_eq!(slack.messages(), ["one"]);
}

#[test]
fn attack_d1_what_became_of_a_message_is_looked_for_where_it_was_sent() {
    let slack = Slack::start();
    let withheld = slack.fault(&json!({ "method": "chat.postMessage", "action": "accept_then_withhold" }));
    let life = Life::start(fresh(), &slack);
    life.connect("d1-doubt", "xoxb-hq", Permission::Act);
    let workflow = life.apply_named("d1-doubt", TWO);
    let run = life.started(trigger(&workflow, json!({}), &on("d1-doubt"), None));
    slack.happened(withheld);
    let life = Life::open(life.die(usize::MAX), &slack);
    life.connect("d1-doubt", "xoxb-lab", Permission::Act);
    life.begin();
    life.until_status(run, Status::Parked);
    differs(&life, run);
    assert_eq!(slack.count("conversations.history"), 0, "another workspace was asked");
    life.connect("d1-doubt", "xoxb-hq", Permission::Act);
    goes_on(&life, run);
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    assert!(slack.count("conversations.history") > 0);
    assert_eq!(slack.messages(), ["one", "two"]);
    slack.check_once("found where it was sent");
}

#[test]
fn attack_d1_a_change_is_taken_back_where_it_was_made() {
    let slack = Slack::start();
    let members = |slack: &Slack| slack.world()["groups"]["S0HQIT"]["users"].to_string();
    let life = Life::start(fresh(), &slack);
    life.connect("d1-undo", "xoxb-hq", Permission::Act);
    let workflow = life.apply_named(
        "d1-undo",
        "
  - add: {call: usergroup.add-user:1@slack, with: {connection: team, usergroup: S0HQIT, user: U0HQMEMBER}}",
    );
    let run = life.started(trigger(&workflow, json!({}), &on("d1-undo"), None));
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    life.connect("d1-undo", "xoxb-lab", Permission::Act);
    let groups = |slack: &Slack| slack.requests().iter().filter(|(name, _)| name.starts_with("usergroups.")).count();
    let asked = groups(&slack);
    assert!(life.wait(life.engine().signal(run, Cause::Undo)).unwrap());
    life.until_status(run, Status::Parked);
    differs(&life, run);
    assert_eq!(groups(&slack), asked, "another workspace's groups were touched");
    life.connect("d1-undo", "xoxb-hq", Permission::Act);
    goes_on(&life, run);
    assert_eq!(life.ended(run).unwrap().status, Status::Cancelled);
    assert!(!members(&slack).contains("U0HQMEMBER"), "{}", members(&slack));
}

#[test]
fn attack_d1_what_a_person_settles_is_not_read_back_elsewhere() {
    let slack = Slack::start();
    let withheld = slack.fault(&json!({ "method": "chat.postMessage", "action": "accept_then_withhold" }));
    let life = Life::start(fresh(), &slack);
    life.connect("d1-settle", "xoxb-poor", Permission::Act);
    let workflow = life.apply_named(
        "d1-settle",
        "
  - one: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: one}}",
    );
    let run = life.started(trigger(&workflow, json!({}), &on("d1-settle"), None));
    slack.happened(withheld);
    let life = Life::start(life.die(usize::MAX), &slack);
    life.until_status(run, Status::Parked);
    life.connect("d1-settle", "xoxb-lab", Permission::Act);
    let read = slack.count("conversations.history");
    let done = life.wait(life.engine().resolve(run, None, true, None, "a test".to_owned()));
    let Err(ResolveError::AnswerNeeded(diagnostics)) = done else { panic!("{done:?}") };
    assert!(diagnostics[0].message.contains("is of workspace T0LAB"), "{diagnostics:?}");
    assert_eq!(slack.count("conversations.history"), read);
}

#[test]
fn attack_d1_another_version_goes_on_in_the_place_where_the_run_began() {
    let slack = Slack::start();
    let (life, run) = between(&slack, "d1-version");
    let text = format!(
        "document: {{dsl: 1.0.3, namespace: test, name: d1-version, version: 1.0.1}}\ndo:{}\n",
        TWO.replace("text: two", "text: other")
    );
    life.apply_text(&text);
    life.until("it has left", || life.engine().runs().live() == 0);
    let redefined = || life.wait(life.engine().redefine(run, "1.0.1"));
    let refused = redefined();
    let Err(RedefineError::Refused(Refused::Preflight(diagnostics))) = refused else { panic!("{refused:?}") };
    assert_eq!(diagnostics[0].code.0, "connection-differs");
    // A run that goes on on it still knows where it began.
    life.connect("d1-version", "xoxb-hq", Permission::Act);
    let held = slack.fault(&json!({
        "method": "chat.postMessage", "match": { "text": "other" }, "action": "cut_before",
    }));
    assert!(redefined().unwrap());
    slack.happened(held);
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    assert_eq!(slack.messages(), ["one", "other"]);
}

#[test]
fn attack_d1_a_run_that_could_not_begin_begins_in_no_other_organisation() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    life.connect("d1-blocked", "xoxb-hq", Permission::Read);
    let workflow = life.apply_named(
        "d1-blocked",
        "
  - one: {call: message.send:1@slack, with: {connection: team, channel: '#general', text: one}}",
    );
    let started = life.engine().trigger_or(trigger(&workflow, json!({}), &on("d1-blocked"), None), true);
    let run = life.wait(started).unwrap().run;
    life.until_status(run, Status::Blocked);
    life.until("it has left", || life.engine().runs().live() == 0);
    let engine = life.engine();
    let tokens = BTreeMap::from([(TokenKind::Bot, Secret::new("xoxb-plus".to_owned()))]);
    let new = New { name: "d1-blocked".to_owned(), kind: Kind::Workspace, permission: Permission::Act, tokens };
    life.wait(engine.connections.connect(&engine.services.gateway, new, engine.services.clock.now())).unwrap();
    assert!(!life.wait(engine.try_to_begin(run)).unwrap(), "it began in another organisation");
    assert_eq!(life.status(run), Status::Blocked);
    life.connect("d1-blocked", "xoxb-hq", Permission::Act);
    assert!(life.wait(engine.try_to_begin(run)).unwrap());
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    assert_eq!(slack.ledger()[0]["args"]["channel"], "C0HQGENERAL");
}

/// Both read the list and write it back: of two at once, one would be lost.
#[test]
fn attack_d3_two_connections_of_one_workspace_change_a_group_one_after_the_other() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    life.connect("d3-one", "xoxb-hq", Permission::Act);
    life.connect("d3-two", "xoxb-hq", Permission::Act);
    let adding = |name: &str, user: &str| {
        let task = format!(
            "
  - add: {{call: usergroup.add-user:1@slack, with: {{connection: team, usergroup: S0HQIT, user: {user}}}}}"
        );
        let workflow = life.apply_named(name, &task);
        life.started(trigger(&workflow, json!({}), &on(name), None))
    };
    let held = slack.fault(&json!({ "method": "usergroups.users.update", "action": "hold_before_accept" }));
    let first = adding("d3-one", "U0HQMEMBER");
    slack.happened(held);
    let second = adding("d3-two", "U0HQOWNER");
    life.until("the second waits for the first", || life.engine().services.partition.keys.waiting() == 1);
    slack.release(held, "answer");
    for run in [first, second] {
        assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    }
    let users = slack.world()["groups"]["S0HQIT"]["users"].clone();
    assert_eq!(users, json!(["U0HQADMIN", "U0HQMEMBER", "U0HQOWNER"]));
}
