//! Names in Slack's lists: what is not in use, what may not be listed, whose list it is, and lists of any length.

use std::collections::BTreeMap;

use bellhop_core::requirement::{Kind, Permission, TokenKind};
use bellhop_core::run::Status;
use bellhop_slack::client::Secret;
use serde_json::{Value, json};

use super::life::{Life, Slack, fresh, trigger};
use crate::setup::connections::New;
use bellhop_limits::Limits;

const HQ: &[(&str, &str)] = &[("team", "hq")];
const POOR: &[(&str, &str)] = &[("team", "poor")];

fn world(slack: &Slack, edits: &Value) {
    slack.control("POST", "world", edits);
}

/// Runs one task, and says how it ended: nothing, or the code of its fault and the fault.
fn ended(life: &Life, name: &str, task: &str, aliases: &[(&str, &str)]) -> (Option<String>, Value) {
    let workflow = life.apply_named(name, &format!("\n  - only: {{{task}}}"));
    let view = life.ended(life.started(trigger(&workflow, json!({}), aliases, None))).unwrap();
    match view.status {
        Status::Completed => (None, view.output.unwrap_or_default()),
        _ => {
            let error = view.error.unwrap_or_else(|| panic!("{:?}", view.status));
            let code = error["type"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
            (Some(code), error)
        }
    }
}

fn say(channel: &str) -> String {
    format!("call: message.send:1@slack, with: {{connection: team, channel: '{channel}', text: hello}}")
}

#[test]
fn slack_16_a_channel_that_may_not_be_looked_up_is_posted_to_by_its_name() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let (code, error) = ended(&life, "slack-16-poor", &say("#IT"), POOR);
    assert_eq!(code, None, "{error}");
    let posted = slack.ledger().last().unwrap().clone();
    assert_eq!((&posted["args"]["channel"], &posted["effect"]["channel"]), (&json!("#it"), &json!("C0HQIT")));
    // What may be listed is found by its id, and what may not be is still asked of Slack.
    let scopes = json!(["chat:write", "channels:read", "team:read", "users:read"]);
    world(
        &slack,
        &json!([{"add_token": {"token": "xoxb-thin", "kind": "bot", "user": "U0HQBOT", "workspace": "T0HQ", "scopes": scopes}}]),
    );
    life.connect("slack-16", "xoxb-thin", Permission::Act);
    let thin: &[(&str, &str)] = &[("team", "slack-16")];
    for (name, channel, sent) in [("public", "#it", "C0HQIT"), ("private", "#it-private", "#it-private")] {
        let (code, error) = ended(&life, &format!("slack-16-{name}"), &say(channel), thin);
        assert_eq!(code, None, "{error}");
        assert_eq!(slack.ledger().last().unwrap()["args"]["channel"], sent);
    }
    // Where an id is needed, what is missing is said, and never that there is no such channel.
    let topic = "call: channel.set-topic:1@slack, with: {connection: team, channel: '#it-private', topic: hello}";
    let (code, error) = ended(&life, "slack-16-topic", topic, thin);
    assert_eq!(code.as_deref(), Some("scope-missing"), "{error}");
    assert!(error["slack"]["needed"].as_str().unwrap().contains("groups:read"), "{error}");
}

#[test]
fn slack_16_archived_and_deactivated_are_told_apart_from_absent() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    for (name, task, told) in [
        ("archived", say("#old-project"), "channel-archived"),
        ("no-channel", say("#never-there"), "not-found"),
        (
            "deactivated",
            "call: channel.invite:1@slack, with: {connection: team, channel: C0HQIT, user: dora.hq@acme.example}"
                .to_owned(),
            "permission-denied",
        ),
        (
            "nobody",
            "call: channel.invite:1@slack, with: {connection: team, channel: C0HQIT, user: never@acme.example}"
                .to_owned(),
            "not-found",
        ),
    ] {
        let (code, error) = ended(&life, &format!("slack-apart-{name}"), &task, HQ);
        assert_eq!(code.as_deref(), Some(told), "{name}: {error}");
    }
    // Slack itself was asked about the person whom its look-up by e-mail does not know any more.
    let invited = slack.requests().into_iter().filter(|(method, _)| method == "conversations.invite").count();
    assert_eq!(invited, 1);
    assert_eq!(slack.count("users.list"), 1, "one list tells of both");
}

#[test]
fn slack_10_a_group_is_meant_by_its_handle_and_a_disabled_one_last() {
    let slack = Slack::start();
    let group = |id: &str, name: &str, handle: &str| json!({ "add_usergroup": { "home": "T0HQ", "id": id, "name": name, "handle": handle, "users": ["U0HQADMIN"] } });
    world(
        &slack,
        &json!([
            group("S0AAA", "accounts", "account-leads"),
            group("S0BBB", "Accounts Team", "accounts"),
            group("S0CCC", "Support", "support"),
            group("S0DDD", "support", "helpers"),
            group("S0EEE", "R&D", "rd"),
        ]),
    );
    let life = Life::start(fresh(), &slack);
    let add = |group: &str| {
        format!("call: usergroup.add-user:1@slack, with: {{connection: team, usergroup: '{group}', user: U0HQMEMBER}}")
    };
    let users = |group: &str| slack.world()["groups"][group]["users"].to_string();
    assert_eq!(ended(&life, "slack-10-handle", &add("@accounts"), HQ).0, None);
    assert!(users("S0BBB").contains("U0HQMEMBER") && !users("S0AAA").contains("U0HQMEMBER"));
    let disable = "call: usergroup.disable:1@slack, with: {connection: team, usergroup: S0CCC}";
    assert_eq!(ended(&life, "slack-10-disable", disable, HQ).0, None);
    assert_eq!(ended(&life, "slack-10-last", &add("@support"), HQ).0, None);
    assert!(users("S0DDD").contains("U0HQMEMBER") && !users("S0CCC").contains("U0HQMEMBER"));
    // Slack's answers have the three characters as entities, and people do not.
    assert_eq!(ended(&life, "slack-28-group", &add("R&D"), HQ).0, None);
    assert!(users("S0EEE").contains("U0HQMEMBER"));
}

#[test]
fn slack_14_a_group_is_left_by_the_workspaces_own_id_of_a_person() {
    let slack = Slack::start();
    world(
        &slack,
        &json!([
            {"set_local_id": {"user": "U0ACMEBOTH", "workspace": "T0HQ", "id": "U9LOCALBEA"}},
            {"set_usergroup_users": {"usergroup": "S0HQIT", "users": ["U0HQADMIN", "U0ACMEBOTH"]}},
        ]),
    );
    let life = Life::start(fresh(), &slack);
    let leave = "call: usergroup.remove-user:1@slack, with: {connection: team, usergroup: S0HQIT, user: U0ACMEBOTH}";
    let (code, error) = ended(&life, "slack-14-leave", leave, HQ);
    assert_eq!(code, None, "{error}");
    assert_eq!(slack.world()["groups"]["S0HQIT"]["users"], json!(["U0HQADMIN"]));
    let (_, output) =
        ended(&life, "slack-14-get", "call: user.get:1@slack, with: {connection: team, user: U0ACMEBOTH}", HQ);
    assert_eq!(output["user"]["ids"], json!(["U9LOCALBEA", "U0ACMEBOTH"]), "one row, both ids");
}

/// Channels enough for several pages, named `c-0` and so on.
fn many_channels(slack: &Slack, count: usize) {
    for from in (0..count).step_by(500) {
        let channel = |n: usize| json!({ "add_channel": { "workspace": "T0HQ", "id": format!("C1{n:06}"), "name": format!("c-{n}") } });
        let edits: Vec<Value> = (from..count.min(from + 500)).map(channel).collect();
        world(slack, &Value::from(edits));
    }
    world(
        slack,
        &json!([{"add_channel": {"workspace": "T0HQ", "id": "C9LAST000", "name": "zz-last", "members": ["U0HQBOT"]}}]),
    );
}

#[test]
fn slack_23_a_long_list_is_read_once_for_all_who_wait_and_a_name_is_asked_about_after_that() {
    let slack = Slack::start();
    many_channels(&slack, 20_000);
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply_named("slack-23-crowd", &format!("\n  - only: {{{}}}", say("#zz-last")));
    let runs: Vec<_> = (0..8).map(|_| life.started(trigger(&workflow, json!({}), HQ, None))).collect();
    for run in runs {
        assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    }
    let pages = slack.count("conversations.list");
    assert!((21..=22).contains(&pages), "{pages} pages of 999 for 20,000 channels and eight who look");
    // What is not there is told by the list as it is after it was asked for.
    let before = slack.count("conversations.list");
    let (code, error) = ended(&life, "slack-23-absent", &say("#gone"), HQ);
    assert_eq!(code.as_deref(), Some("not-found"), "{error}");
    assert!(slack.count("conversations.list") - before <= pages);
}

#[test]
fn slack_23_a_list_longer_than_is_read_is_told_and_is_no_absence() {
    let slack = Slack::start();
    many_channels(&slack, 1_500);
    let life = Life::start_with(fresh(), Limits { names_listed_max: 1_000, ..Limits::default() }, &slack);
    let topic = "call: channel.set-topic:1@slack, with: {connection: team, channel: '#zz-last', topic: hello}";
    let (code, error) = ended(&life, "slack-23-long", topic, HQ);
    assert_eq!(code.as_deref(), Some("name-unresolved"), "{error}");
    assert!(error["detail"].as_str().unwrap().contains("`names_listed_max`"), "{error}");
}

#[test]
fn slack_23_a_channel_that_this_host_renames_has_its_new_name_at_once() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    assert_eq!(ended(&life, "slack-23-before", &say("#it"), HQ).0, None);
    world(
        &slack,
        &json!([{"add_channel": {"workspace": "T0HQ", "id": "C9OURS000", "name": "ours", "members": ["U0HQBOT"]}}]),
    );
    let rename = "call: channel.rename:1@slack, with: {connection: team, channel: C9OURS000, name: theirs}";
    assert_eq!(ended(&life, "slack-23-rename", rename, HQ).0, None);
    let listed = slack.count("conversations.list");
    assert_eq!(ended(&life, "slack-23-after", &say("#Theirs"), HQ).0, None);
    assert_eq!(slack.ledger().last().unwrap()["args"]["channel"], "C9OURS000");
    assert_eq!(slack.count("conversations.list"), listed, "the answer to the change has said it");
    let (code, error) = ended(&life, "slack-23-gone", &say("#ours"), HQ);
    assert_eq!(code.as_deref(), Some("not-found"), "{error}");
}

#[test]
fn slack_15_a_group_too_large_to_read_is_told_and_keeps_no_other_back() {
    let slack = Slack::start();
    let many: Vec<String> = (0..90_000).map(|n| format!("U{n:010}")).collect();
    world(
        &slack,
        &json!([
            {"add_usergroup": {"home": "T0HQ", "id": "S0MANY", "name": "Many", "handle": "many", "users": many}},
            {"set_usergroup_users": {"usergroup": "S0HQIT", "users": ["U0HQADMIN", "U0HQMEMBER"]}},
        ]),
    );
    let life = Life::start(fresh(), &slack);
    let list = "call: usergroup.list-memberships:1@slack, with: {connection: team, user: U0HQMEMBER}";
    let (code, output) = ended(&life, "slack-15", list, HQ);
    assert_eq!(code, None, "{output}");
    let ids = |name: &str| -> Vec<String> {
        let all = output[name].as_array().unwrap().iter();
        all.map(|group| group["id"].as_str().unwrap().to_owned()).collect()
    };
    assert!(ids("usergroups").contains(&"S0HQIT".to_owned()), "{output}");
    assert_eq!((ids("unread"), &output["unread"][0]["code"]), (vec!["S0MANY".to_owned()], &json!("answer-too-large")));
}

#[test]
fn slack_17_the_workspace_comes_before_the_names_in_it() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let secret = |token: &str| Secret::new(token.to_owned());
    let new = New {
        name: "slack-17".to_owned(),
        kind: Kind::GridOrg,
        permission: Permission::Act,
        tokens: BTreeMap::from([(TokenKind::Bot, secret("xoxb-org")), (TokenKind::User, secret("xoxp-org-owner"))]),
    };
    let engine = life.engine();
    life.wait(engine.connections.connect(&engine.services.gateway, new, engine.services.clock.now())).unwrap();
    let add = "call: workspace.add-user:1@slack, with: {connection: team, user: U0LABMEMBER, workspace: Acme HQ, channels: ['#it']}";
    let (code, error) = ended(&life, "slack-17-names", add, &[("team", "slack-17")]);
    assert_eq!(code, None, "{error}");
    let assigned = slack.ledger().into_iter().rfind(|line| line["method"] == "admin.users.assign").unwrap();
    assert_eq!((&assigned["args"]["team_id"], &assigned["args"]["channel_ids"]), (&json!("T0HQ"), &json!("C0HQIT")));
}

#[test]
fn people_p22_memberships_do_not_outlive_deactivation() {
    let slack = Slack::start();
    for active in [false, true] {
        world(&slack, &json!([{ "set_active": { "user": "U0ACMEBOTH", "active": active } }]));
    }
    let account = slack.world()["users"]["U0ACMEBOTH"].clone();
    assert_eq!(account["active"], true);
    for workspace in ["T0HQ", "T0LAB"] {
        assert_eq!(account["memberships"][workspace]["present"], false, "{workspace}: {account}");
    }
    // A workspace of no organisation is all that there is to come back to.
    for active in [false, true] {
        world(&slack, &json!([{ "set_active": { "user": "U0PLUSMEMBER", "active": active } }]));
    }
    assert_eq!(slack.world()["users"]["U0PLUSMEMBER"]["memberships"]["T0PLUS"]["present"], true);
}
