//! Names for people in an action's input.

use bellhop_core::run::Status;
use serde_json::json;

use super::life::{Life, Slack, fresh, trigger};
use crate::limits::Limits;

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
