//! What people have reported of other programs, played on this one: each test has the number of its report.

use bellhop_core::requirement::{Kind, TokenKind};
use bellhop_core::run::Status;
use serde_json::{Value, json};

use super::{World, hire};

/// A simulated Slack with three connections: a workspace, an organisation, and one of its workspaces.
async fn world() -> World {
    let world = World::new().await;
    world.business_plus().await;
    world.connect("acme", Kind::GridOrg, &[(TokenKind::User, "xoxp-org-owner")]).await;
    world.connect("acme-hq", Kind::GridWorkspace, &[(TokenKind::Bot, "xoxb-hq")]).await;
    world
}

impl World {
    /// Runs one action over a connection: its output, or the code of its fault and the fault.
    async fn once(&self, action: &str, connection: &str, input: Value) -> Result<Value, (String, Value)> {
        let mut with = input;
        with["connection"] = json!(connection);
        // Another name for whatever is asked, because a version never changes.
        let number = format!("{}-{}", self.slack.requests().len(), with.to_string().len());
        let text = json!({
            "document": {
                "dsl": "1.0.3", "namespace": "test", "name": format!("report-{number}"), "version": "1.0.0",
                "metadata": { "bellhop": { "purpose": "onboarding" } },
            },
            "do": [{ "it": { "call": format!("{action}:1@slack"), "with": with } }],
        });
        let name = self.apply(&text.to_string()).await;
        let (run, view) = self.run(&name, json!({})).await;
        match view.status {
            Status::Completed => Ok(view.output.unwrap_or_default()),
            Status::Faulted => {
                let error = view.error.unwrap_or_default();
                Err((
                    error["type"].as_str().and_then(|kind| kind.rsplit('/').next()).unwrap_or_default().to_owned(),
                    error,
                ))
            }
            other => panic!("{other:?}: {:#?}", self.story(run).await),
        }
    }

    fn last_change(&self) -> Value {
        self.slack.ledger().last().cloned().unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_1_an_account_without_an_external_id_is_nobody_elses() {
    let world = world().await;
    let mona = json!({
        "email": "mona.plus@plus.example", "firstName": "Mona", "lastName": "Plus", "externalId": "hr-1",
    });
    let there = world.once("user.provision", "plus", mona).await.unwrap();
    assert_eq!(there["alreadyDone"], true, "{there}");
    assert!(there.to_string().contains("U0PLUSMEMBER"), "{there}");
    // And somebody who comes back, where there is one connection alone.
    let world = World::new().await;
    world.business_plus().await;
    let onboard = world.ship("onboarding.yaml").await;
    world.completed(&onboard, hire("dora.plus@plus.example")).await;
    assert_eq!(world.account("dora.plus@plus.example")["active"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_2_a_manager_is_named_as_slack_reads_it() {
    let world = world().await;
    let grace = json!({
        "email": "grace@plus.example", "firstName": "Grace", "lastName": "Hopper", "manager": "U0PLUSADMIN",
    });
    world.once("user.provision", "plus", grace).await.unwrap();
    let sent = world.last_change()["args"].to_string();
    assert!(sent.contains(r#""manager":{"managerId":"U0PLUSADMIN"}"#), "{sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_3_a_user_name_is_no_longer_than_slack_takes() {
    let world = world().await;
    let email = "bartholomew.featherstonehaugh@plus.example";
    let long = json!({ "email": email, "firstName": "Bartholomew", "lastName": "Featherstonehaugh" });
    world.once("user.provision", "plus", long).await.unwrap();
    let name = world.account(email)["name"].as_str().unwrap().to_owned();
    assert!(name.len() <= 21 && name.starts_with("bartholomew"), "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_5_a_locked_display_name_costs_only_itself() {
    let world = world().await;
    world.edit(json!([{ "lock_display_names": { "home": "E0ACME" } }])).await;
    let input =
        json!({ "user": "bea@acme.example", "firstName": "Beatrice", "title": "Lead", "displayName": "Bea N." });
    let output = world.once("user.set-profile", "acme", input).await.unwrap();
    assert_eq!(output["notSet"], json!(["displayName"]), "{output}");
    assert_eq!(world.slack.world()["users"]["U0ACMEBOTH"]["profile"]["title"], "Lead");
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_6_a_number_is_compared_with_the_one_of_its_kind() {
    let world = world().await;
    let number = json!({ "user": "U0ACMEBOTH", "phone": "+49 30 1234" });
    let mobile = json!({ "user": "U0ACMEBOTH", "mobilePhone": "+44 7" });
    for (input, changes) in [(&mobile, true), (&number, true), (&number, false), (&mobile, false)] {
        let output = world.once("user.set-profile", "acme", input.clone()).await.unwrap();
        assert_eq!(output["alreadyDone"], json!(!changes), "{input}: {output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_7_one_name_is_enough() {
    let world = world().await;
    let one = json!({ "email": "suharto@plus.example", "firstName": "Suharto" });
    world.once("user.provision", "plus", one).await.unwrap();
    let none = world.once("user.provision", "plus", json!({ "email": "nobody@plus.example" })).await.unwrap_err();
    assert_eq!(none.0, "invalid-arguments", "{none:?}");
    assert_eq!(world.account("nobody@plus.example"), Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_11_who_cannot_be_in_a_group_any_more_keeps_nobody_else_out() {
    let world = world().await;
    let members = json!({ "usergroup": "S0PLUSIT", "users": ["U0PLUSADMIN", "U0PLUSGONE"] });
    world.edit(json!([{ "set_usergroup_users": members }])).await;
    let input = json!({ "usergroup": "S0PLUSIT", "user": "U0PLUSMEMBER" });
    let output = world.once("usergroup.add-user", "plus", input).await.unwrap();
    assert_eq!(output["leftOut"], json!(["U0PLUSGONE"]), "{output}");
    assert!(world.is_in_group("S0PLUSIT", "U0PLUSMEMBER") && world.is_in_group("S0PLUSIT", "U0PLUSADMIN"));
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_12_the_last_one_leaves_a_group_empty() {
    let world = world().await;
    let input = json!({ "usergroup": "@it", "user": "adam.plus@plus.example" });
    let output = world.once("usergroup.remove-user", "plus", input).await.unwrap();
    assert_eq!(output["members"], 0, "{output}");
    assert_eq!(world.slack.world()["groups"]["S0PLUSIT"]["users"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_18_an_archived_channel_of_the_name_is_taken_up_again_or_named() {
    let world = world().await;
    let old = json!({ "name": "old-project" });
    let taken = world.once("channel.create", "plus", old.clone()).await.unwrap();
    assert_eq!(taken["channel"]["id"], "C0PLUSOLD");
    assert_eq!(world.slack.world()["channels"]["C0PLUSOLD"]["archived"], false);
    // A bot alone may not.
    let (code, error) = world.once("channel.create", "acme-hq", old).await.unwrap_err();
    assert_eq!(code, "channel-archived");
    assert!(error.to_string().contains("C0HQOLD"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_21_a_channels_name_is_made_fit_or_refused_with_the_one_that_would_do() {
    let world = world().await;
    for (name, fit) in [("Project Apollo", "project-apollo"), ("joseph-d.-grant", "joseph-d-grant")] {
        let (code, error) = world.once("channel.create", "plus", json!({ "name": name })).await.unwrap_err();
        assert_eq!(code, "channel-name-invalid");
        assert!(error["detail"].as_str().unwrap().contains(fit), "{error}");
        let output = world.once("channel.create", "plus", json!({ "name": name, "fit": true })).await.unwrap();
        assert_eq!(output["channel"]["name"], fit);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_25_an_empty_list_of_blocks_takes_the_buttons_away() {
    let world = world().await;
    let button = json!({ "type": "button", "text": { "type": "plain_text", "text": "Yes" }, "action_id": "y" });
    let blocks = json!([{ "type": "actions", "elements": [button] }]);
    let sent = json!({ "channel": "C0PLUSIT", "text": "Approve?", "blocks": blocks });
    let sent = world.once("message.send", "plus", sent).await.unwrap();
    let there = |world: &World| world.slack.world()["channels"]["C0PLUSIT"]["messages"][0].clone();
    assert_eq!(there(&world)["blocks"][0]["type"], "actions");
    let update = json!({ "channel": "C0PLUSIT", "ts": sent["ts"], "text": "Approved", "blocks": [] });
    world.once("message.update", "plus", update).await.unwrap();
    let there = there(&world);
    assert_eq!((&there["text"], there.get("blocks")), (&json!("Approved"), None), "{there}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_26_what_slack_says_of_a_block_reaches_whoever_wrote_it() {
    let world = world().await;
    let section = json!({ "type": "section", "text": { "type": "mrkdwn", "text": "x".repeat(3_001) } });
    let input = json!({ "channel": "C0PLUSIT", "text": "x", "blocks": [section] });
    let (code, error) = world.once("message.send", "plus", input).await.unwrap_err();
    assert_eq!(code, "invalid-arguments");
    let said = "must be less than 3001 characters [json-pointer:/blocks/0/text/text]";
    assert!(error["detail"].as_str().unwrap().contains(said), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_27_a_text_that_slack_would_split_or_refuse_is_not_sent() {
    let world = world().await;
    let text = |characters: usize| json!({ "channel": "C0PLUSIT", "ts": "1.000001", "text": "x".repeat(characters) });
    for (action, characters) in [("message.update", 5_000), ("message.send", 6_000), ("message.send", 40_001)] {
        let mut input = text(characters);
        if action == "message.send" {
            input.as_object_mut().unwrap().remove("ts");
        }
        // What the file says itself is refused before it is taken, what comes of data when it is called.
        let name = format!("long-{characters}");
        let document = json!({ "dsl": "1.0.3", "namespace": "test", "name": name, "version": "1.0.0" });
        let mut with = input.clone();
        with["connection"] = json!("plus");
        with["text"] = json!("${ .text }");
        let task = json!({ "it": { "call": format!("{action}:1@slack"), "with": with } });
        let workflow = world.apply(&json!({ "document": document, "do": [task] }).to_string()).await;
        let (_, view) = world.run(&workflow, json!({ "text": input["text"] })).await;
        assert_eq!(view.status, Status::Faulted, "{action} {characters}");
        assert!(view.error.unwrap()["detail"].as_str().unwrap().contains("at most 4000 characters"));
    }
    assert_eq!(world.texts("C0PLUSIT").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_32_a_message_whose_answer_is_lost_is_there_once() {
    let world = world().await;
    world.control("faults", json!({ "method": "chat.postMessage", "action": "cut_after_accept" })).await;
    world.once("message.send", "plus", json!({ "channel": "C0PLUSIT", "text": "once" })).await.unwrap();
    assert_eq!(world.texts("C0PLUSIT"), ["once"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_35_who_was_deactivated_is_found_by_an_address_in_capitals() {
    let world = world().await;
    let found = world.once("user.lookup", "plus", json!({ "email": "Dora.Plus@PLUS.example" })).await.unwrap();
    assert_eq!((&found["user"]["id"], &found["user"]["active"]), (&json!("U0PLUSGONE"), &json!(false)));
}
