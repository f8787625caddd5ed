//! Slack takes only whole member lists of a group, so that whoever changes one holds it, across runs and restarts.

use std::sync::Arc;

use bellhop_core::run::Status;
use serde_json::json;

use super::World;
use crate::setup::connections::Secrets;
use crate::tests::dying::Dying;
use bellhop_journal::memory::Memory;

/// A workflow that adds one person to one group.
fn adding(name: &str, usergroup: &str, user: &str) -> String {
    json!({
        "document": { "dsl": "1.0.3", "namespace": "test", "name": name, "version": "1.0.0" },
        "do": [{ "add": { "call": "usergroup.add-user:1@slack", "with": { "usergroup": usergroup, "user": user } } }],
    })
    .to_string()
}

/// Slack takes only whole member lists, so that whoever changes one holds the group, by whichever name the file calls it.
#[tokio::test(flavor = "multi_thread")]
async fn one_group_under_two_names_is_changed_by_one_at_a_time() {
    let world = World::new().await;
    world.business_plus().await;
    let hold = json!({"method": "usergroups.users.update", "action": "hold_before_accept"});
    let hold = world.control("faults", hold).await["id"].as_u64().unwrap();
    let first = world.apply(&adding("first", "@it", "U0PLUSMEMBER")).await;
    let second = world.apply(&adding("second", "S0PLUSIT", "U0PLUSOWNER")).await;
    let first = world.engine.trigger(World::trigger(&first, json!({}), None)).await.unwrap().run;
    world.happened(hold).await;
    let second = world.engine.trigger(World::trigger(&second, json!({}), None)).await.unwrap().run;
    // Long enough for the second to have read the list, if nothing kept it from that.
    world.engine.services.clock.sleep(std::time::Duration::from_millis(200)).await;
    let lists = world
        .slack
        .requests()
        .iter()
        .filter(|r| r["event"] == "request" && r["method"] == "usergroups.users.list")
        .count();
    assert_eq!(lists, 1, "the second waits for the group");
    world.control(&format!("faults/{hold}/release"), json!({"as": "answer"})).await;
    for run in [first, second] {
        assert_eq!(world.ended(run).await.status, Status::Completed);
    }
    assert_eq!(
        world.slack.world()["groups"]["S0PLUSIT"]["users"],
        json!(["U0PLUSADMIN", "U0PLUSMEMBER", "U0PLUSOWNER"])
    );
}

/// After a restart the group belongs to the action that was changing it, not to one that was waiting: what the former has
/// read is sent again, and would undo what the latter had written meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_still_held_after_a_restart() {
    let tokens = tempfile::tempdir().unwrap();
    let secrets = || Secrets::in_folder(tokens.path().to_owned());
    let options = bellhop_simulator::Options { budget_scale: 1000.0, ..Default::default() };
    let slack = Arc::new(bellhop_simulator::start(options).await.unwrap());
    let store = Arc::new(Dying::over(Memory::new()));
    let before = World::over(slack.clone(), store.clone(), secrets()).await;
    before.business_plus().await;
    let hold = json!({"method": "usergroups.users.update", "action": "hold_before_accept"});
    let hold = before.control("faults", hold).await["id"].as_u64().unwrap();
    let mut runs = Vec::new();
    for (name, group, user) in [("first", "@it", "U0PLUSMEMBER"), ("second", "S0PLUSIT", "U0PLUSOWNER")] {
        let workflow = before.apply(&adding(name, group, user)).await;
        let run = before.engine.trigger(World::trigger(&workflow, json!({}), None)).await.unwrap().run;
        while !before.story(run).await.iter().any(|event| event.starts_with("action.started")) {
            tokio::task::yield_now().await;
        }
        before.happened(hold).await;
        runs.push(run);
    }
    store.die();
    let after = World::over(slack.clone(), Arc::new(store.left(usize::MAX)), secrets()).await;
    for run in runs {
        let view = after.ended(run).await;
        assert_eq!(view.status, Status::Completed, "{:#?}", after.story(run).await);
    }
    let users = after.slack.world()["groups"]["S0PLUSIT"]["users"].clone();
    assert_eq!(users, json!(["U0PLUSADMIN", "U0PLUSMEMBER", "U0PLUSOWNER"]));
}
