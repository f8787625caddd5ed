//! Names for people in an action's input.

use bellhop_core::id::RunId;
use bellhop_core::requirement::Permission;
use bellhop_core::run::Status;
use serde_json::{Value, json};

use super::life::{Life, Slack, fresh, trigger};
use bellhop_limits::Limits;

const HQ: &[(&str, &str)] = &[("team", "hq")];

#[test]
fn house_a14_an_input_with_more_names_than_are_looked_up_is_refused_and_says_so() {
    let slack = Slack::start();
    let tasks = "
  - add: {call: usergroup.add-user:1@slack, with: {connection: team, usergroup: it-nobody, user: nobody@acme.example}}";
    let fault = |names_max: u64| {
        let life = Life::start_with(fresh(), Limits { names_max, ..Limits::default() }, &slack);
        let run = life.started(trigger(&life.apply(tasks), json!({}), HQ, None));
        let view = life.ended(run).unwrap();
        assert_eq!(view.status, Status::Faulted, "{view:?}");
        view.error.unwrap()
    };
    let error = fault(1);
    assert!(error["type"].as_str().unwrap().ends_with("/names-too-many"), "{error}");
    assert!(error["detail"].as_str().unwrap().contains("more than 1 names"), "{error}");
    let looked_up = || slack.count("usergroups.list") + slack.count("users.lookupByEmail");
    assert_eq!(looked_up(), 0, "nothing was looked up");
    let error = fault(2);
    assert!(error["type"].as_str().unwrap().ends_with("/not-found"), "{error}");
    assert!(looked_up() > 0);
}

/// A text that may be a name as well as an id is looked up first, and an id that nothing is called stays what it is.
#[test]
fn house_a14_what_may_be_a_name_is_looked_up_before_it_is_taken_for_an_id() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let add = |group: &str| {
        let workflow = life.apply(&format!(
            "
  - add: {{call: usergroup.add-user:1@slack, with: {{connection: team, usergroup: {group}, user: U0HQMEMBER}}}}"
        ));
        let run = life.started(trigger(&workflow, json!({}), HQ, None));
        life.ended(run).unwrap()
    };
    let view = add("SALESTEAM");
    assert_eq!(slack.count("usergroups.list"), 1, "{view:?}");
    assert!(slack.count("usergroups.users.list") + slack.count("usergroups.users.update") > 0, "{view:?}");
    let view = add("S0HQIT");
    assert_eq!(view.status, Status::Completed, "{view:?}");
    assert_eq!(slack.count("usergroups.list"), 1, "an id is no name");
}

/// The code of the fault that a run of one task ended with.
fn code(life: &Life, run: RunId) -> String {
    let view = life.ended(run).unwrap();
    assert_eq!(view.status, Status::Faulted, "{view:?}");
    view.error.unwrap()["type"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
}

/// What is refused, and as what it is told. A leaver's file takes `not-found` for "gone already".
const REFUSALS: [(&str, &str); 7] = [
    ("missing_scope", "scope-missing"),
    ("invalid_auth", "token-invalid"),
    ("not_allowed_token_type", "token-kind-missing"),
    ("paid_only", "plan-required"),
    ("access_denied", "permission-denied"),
    ("team_not_found", "name-unresolved"),
    ("never_heard_of", "slack-error"),
];

#[test]
fn attack_d2_a_look_up_that_is_refused_does_not_say_that_nobody_is_there() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let tasks = "
  - leave:
      try:
        - group: {call: usergroup.remove-user:1@slack, with: {connection: team, usergroup: S0HQENGINEERING, user: adam.hq@acme.example}}
      catch:
        errors: {with: {type: https://bellhop.dev/errors/not-found}}
        do:
          - gone: {set: {gone: true}}";
    let workflow = life.apply_named("d2-person", tasks);
    for (error, told) in REFUSALS {
        let refuse = json!({ "refuse": { "error": error } });
        slack.fault(&json!({ "method": "users.lookupByEmail", "times": 0, "action": refuse }));
        let run = life.started(trigger(&workflow, json!({}), HQ, None));
        assert_eq!(code(&life, run), told, "{error}");
        slack.control("DELETE", "faults", &Value::Null);
    }
    assert_eq!(slack.count("usergroups.users.list"), 0);
    // None of that was remembered as an absence.
    let run = life.started(trigger(&workflow, json!({}), HQ, None));
    let view = life.ended(run).unwrap();
    assert_eq!(view.status, Status::Completed, "{view:?}");
    assert_eq!(slack.count("usergroups.users.list"), 1, "{view:?}");
}

#[test]
fn attack_d2_a_list_that_is_refused_has_nothing_told_of_its_names() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let group = life.apply_named(
        "d2-group",
        "
  - add: {call: usergroup.add-user:1@slack, with: {connection: team, usergroup: '@it', user: U0HQMEMBER}}",
    );
    // As good a name as an id.
    let either = life.apply_named(
        "d2-either",
        "
  - add: {call: usergroup.add-user:1@slack, with: {connection: team, usergroup: SALESTEAM, user: U0HQMEMBER}}",
    );
    let channel = life.apply_named(
        "d2-channel",
        "
  - topic: {call: channel.set-topic:1@slack, with: {connection: team, channel: '#it', topic: hello}}",
    );
    for (error, told) in REFUSALS {
        for (method, workflow) in
            [("usergroups.list", &group), ("usergroups.list", &either), ("conversations.list", &channel)]
        {
            let refuse = json!({ "refuse": { "error": error } });
            slack.fault(&json!({ "method": method, "times": 0, "action": refuse }));
            let run = life.started(trigger(workflow, json!({}), HQ, None));
            assert_eq!(code(&life, run), told, "{method}: {error}");
            slack.control("DELETE", "faults", &Value::Null);
        }
    }
    assert_eq!(
        slack.count("usergroups.users.list") + slack.count("conversations.info"),
        0,
        "a name was taken for an id"
    );
}

#[test]
fn attack_d2_a_look_up_that_fails_for_now_is_waited_for() {
    let slack = Slack::start();
    let life = Life::start_with(fresh(), Limits { slack_attempts_max: 1, ..Limits::default() }, &slack);
    let workflow = life.apply_named(
        "d2-passing",
        "
  - add: {call: usergroup.add-user:1@slack, with: {connection: team, usergroup: S0HQIT, user: adam.hq@acme.example}}",
    );
    for error in ["internal_error", "fatal_error", "service_unavailable", "ratelimited"] {
        let refuse = json!({ "refuse": { "error": error } });
        slack.fault(&json!({ "method": "users.lookupByEmail", "times": 0, "action": refuse }));
        let run = life.started(trigger(&workflow, json!({}), HQ, None));
        life.until("it has an end of some sort", || {
            matches!(life.status(run), Status::Parked | Status::Faulted | Status::Completed)
        });
        assert_eq!(life.status(run), Status::Parked, "{error}");
        slack.control("DELETE", "faults", &Value::Null);
    }
}

/// What was found belongs to the place where it was found, whoever has the connection's name since.
#[test]
fn attack_d5_a_name_is_looked_up_anew_where_the_connection_leads_elsewhere() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply_named(
        "d5-cache",
        "
  - say: {call: message.send:1@slack, with: {connection: team, channel: '#it', text: hello}}",
    );
    let said = |token: &str| {
        life.connect("d5-cache", token, Permission::Act);
        let run = life.started(trigger(&workflow, json!({}), &[("team", "d5-cache")], None));
        let view = life.ended(run).unwrap();
        assert_eq!(view.status, Status::Completed, "{view:?}");
        slack.ledger().last().unwrap()["args"]["channel"].clone()
    };
    assert_eq!(said("xoxb-hq"), "C0HQIT");
    assert_eq!(said("xoxb-lab"), "C0LABIT");
    assert_eq!(said("xoxb-hq"), "C0HQIT");
}

#[test]
fn attack_d5_a_group_is_meant_by_its_handle_before_anothers_name_and_by_no_name_of_two() {
    let slack = Slack::start();
    let group = |id: &str, name: &str, handle: &str| json!([{ "add_usergroup": { "home": "T0HQ", "id": id, "name": name, "handle": handle } }]);
    // It comes first in the list.
    slack.control("POST", "world", &group("S0AAA", "it", "trap"));
    slack.control("POST", "world", &group("S0BBB", "Twice", "once"));
    slack.control("POST", "world", &group("S0CCC", "Twice", "again"));
    let life = Life::start(fresh(), &slack);
    let added = |name: &str, group: &str| {
        let task = format!(
            "
  - add: {{call: usergroup.add-user:1@slack, with: {{connection: team, usergroup: '{group}', user: U0HQMEMBER}}}}"
        );
        let run = life.started(trigger(&life.apply_named(name, &task), json!({}), HQ, None));
        life.ended(run).unwrap()
    };
    let users = |group: &str| slack.world()["groups"][group]["users"].to_string();
    for (name, text) in [("d5-handle", "@it"), ("d5-handle-again", "@it")] {
        let view = added(name, text);
        assert_eq!(view.status, Status::Completed, "{view:?}");
        assert!(users("S0HQIT").contains("U0HQMEMBER") && !users("S0AAA").contains("U0HQMEMBER"));
    }
    assert_eq!(added("d5-name", "Engineering").status, Status::Completed);
    let error = added("d5-two", "Twice").error.unwrap();
    assert!(error["type"].as_str().unwrap().ends_with("/name-ambiguous"), "{error}");
    let detail = error["detail"].as_str().unwrap();
    assert!(detail.contains("`S0BBB` (once, Twice)") && detail.contains("`S0CCC` (again, Twice)"), "{detail}");
}

/// A list that one place keeps back may have the same name in it.
#[test]
fn attack_d7_a_name_in_a_table_stays_one_where_a_place_does_not_tell_its_names() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    life.connect("d7-lab", "xoxb-lab", Permission::Act);
    let resolved = || {
        let table = json!({ "columns": { "where": "channel" }, "rows": { "it": { "where": "#it" } } });
        let mut table: bellhop_core::preflight::Table = serde_json::from_value(table).unwrap();
        life.wait(life.engine().resolve_table(&mut table)).ids
    };
    assert_eq!(resolved(), 0, "there are two of it");
    let refuse = json!({ "refuse": { "error": "missing_scope" } });
    slack.fault(&json!({ "method": "conversations.list", "place": "T0LAB", "times": 0, "action": refuse }));
    assert_eq!(resolved(), 0, "there may be two of it");
    slack.control("DELETE", "faults", &Value::Null);
    life.wait(life.engine().connections.remove(&life.engine().services.gateway, "d7-lab")).unwrap();
    assert_eq!(resolved(), 1, "what the poorer connection to the same place keeps back, the other one tells");
}
