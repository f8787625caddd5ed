//! Answers beside recorded ones: a key that the simulator gives must be one that Slack gives.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::driver::Slack;

/// The reference samples: beside the project, or where the environment says.
fn samples() -> Option<PathBuf> {
    let root = std::env::var_os("BELLHOP_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let found = root.join("slack/samples");
    found.is_dir().then_some(found)
}

fn load(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).ok().and_then(|text| serde_json::from_str(&text).ok()).into_iter().collect()
}

/// Every recorded form of an answer: the blanked shape, the trimmed one and each example.
fn forms(folder: &Path, name: &str) -> Vec<Value> {
    let file = format!("{name}.json");
    let mut forms = load(&folder.join(&file));
    forms.extend(load(&folder.join("trimmed").join(&file)));
    for examples in load(&folder.join("examples").join(&file)) {
        forms.extend(examples.as_object().into_iter().flat_map(|all| all.values().cloned()));
    }
    // A user is one object wherever it is shown; not every recording shows all of it.
    let people = || load(&folder.join("users.info.json"));
    match name {
        "users.lookupByEmail" => forms.extend(people()),
        "users.list" => forms.extend(people().iter().map(|form| json!({"members": [form["user"]]}))),
        _ => {}
    }
    forms
}

/// Paths in `given` that no recorded form has. Free-form objects and the ids used as keys are not compared.
fn strangers(given: &Value, recorded: &[&Value], path: &str, found: &mut Vec<String>) {
    const FREE: &[&str] = &["metadata", "blocks", "attachments", "args", "fields", "profile"];
    match given {
        Value::Object(object) => {
            for (name, value) in object {
                let path = format!("{path}/{name}");
                let inner: Vec<&Value> = recorded.iter().filter_map(|form| form.get(name)).collect();
                if inner.is_empty() {
                    found.push(path);
                } else if !FREE.contains(&name.as_str()) && !name.starts_with("urn:") {
                    strangers(value, &inner, &path, found);
                }
            }
        }
        Value::Array(items) => {
            let inner: Vec<&Value> = recorded.iter().filter_map(|form| form.as_array()).flatten().collect();
            if !inner.is_empty() {
                for item in items {
                    strangers(item, &inner, &format!("{path}[]"), found);
                }
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn keys_are_ones_that_slack_gives() {
    let Some(folder) = samples() else {
        println!("skipped: no reference samples of Slack's answers here");
        return;
    };
    let slack = Slack::start().await;
    let posted = slack.call("xoxb-hq", "chat.postMessage", json!({"channel": "C0HQIT", "text": "x"})).await.body;
    let ts = posted["ts"].as_str().unwrap().to_owned();
    slack.call("xoxb-hq", "chat.postMessage", json!({"channel": "C0HQIT", "text": "y", "thread_ts": ts})).await;
    let bot = "xoxb-hq";
    let admin = "xoxp-org-admin";
    slack
        .call(
            admin,
            "admin.roles.addAssignments",
            json!({"role_id": "Rl0A", "entity_ids": "T0HQ", "user_ids": "U0ACMEBOTH"}),
        )
        .await;
    slack
        .call(admin, "admin.usergroups.addChannels", json!({"usergroup_id": "S0ACMESALES", "channel_ids": "C0HQIT"}))
        .await;
    let calls = [
        (bot, "auth.test", json!({})),
        ("xoxb-org", "auth.test", json!({})),
        ("xoxb-org", "auth.teams.list", json!({})),
        (bot, "team.info", json!({})),
        ("xoxb-org", "team.info", json!({})),
        (bot, "team.billing.info", json!({})),
        ("xoxp-hq-admin", "team.accessLogs", json!({})),
        (bot, "bots.info", json!({"bot": "B0HQBOT"})),
        (bot, "chat.postMessage", json!({"channel": "C0HQIT", "text": "z", "thread_ts": ts})),
        (bot, "chat.update", json!({"channel": "C0HQIT", "ts": ts, "text": "x2"})),
        (bot, "reactions.add", json!({"channel": "C0HQIT", "timestamp": ts, "name": "wave"})),
        (bot, "conversations.list", json!({"types": "public_channel,private_channel"})),
        (bot, "conversations.info", json!({"channel": "C0HQIT", "include_num_members": true})),
        (bot, "conversations.create", json!({"name": "fresh"})),
        (bot, "conversations.history", json!({"channel": "C0HQIT", "limit": 1})),
        (bot, "conversations.replies", json!({"channel": "C0HQIT", "ts": ts})),
        (bot, "conversations.members", json!({"channel": "C0HQIT"})),
        (bot, "conversations.open", json!({"users": "U0HQMEMBER", "return_im": true})),
        (bot, "conversations.invite", json!({"channel": "C0HQIT", "users": "U0HQMEMBER"})),
        (bot, "conversations.kick", json!({"channel": "C0HQIT", "user": "U0HQMEMBER"})),
        (bot, "conversations.join", json!({"channel": "C0HQSALES"})),
        (bot, "conversations.setTopic", json!({"channel": "C0HQIT", "topic": "t"})),
        (bot, "conversations.setPurpose", json!({"channel": "C0HQIT", "purpose": "p"})),
        (bot, "conversations.leave", json!({"channel": "C0HQSALES"})),
        (bot, "users.conversations", json!({})),
        (bot, "users.list", json!({})),
        (bot, "users.info", json!({"user": "U0HQINVITED"})),
        (bot, "users.lookupByEmail", json!({"email": "mona.hq@acme.example"})),
        (bot, "users.profile.get", json!({"user": "U0HQMEMBER"})),
        ("xoxp-hq-admin", "users.profile.set", json!({"user": "U0HQMEMBER", "profile": {"title": "Cook"}})),
        (bot, "usergroups.list", json!({"include_users": true, "include_count": true})),
        (bot, "usergroups.create", json!({"name": "New"})),
        (bot, "usergroups.users.list", json!({"usergroup": "S0HQIT"})),
        (bot, "usergroups.users.update", json!({"usergroup": "S0HQIT", "users": "U0HQMEMBER"})),
        (bot, "usergroups.disable", json!({"usergroup": "S0HQIT"})),
        (bot, "usergroups.enable", json!({"usergroup": "S0HQIT"})),
        (admin, "admin.users.list", json!({})),
        (admin, "admin.users.session.list", json!({})),
        (admin, "admin.users.assign", json!({"team_id": "T0HQ", "user_id": "U0ACMENOWHERE"})),
        (admin, "admin.users.setAdmin", json!({"team_id": "T0HQ", "user_id": "U0ACMENOWHERE"})),
        (admin, "admin.users.session.reset", json!({"user_id": "U0ACMENOWHERE"})),
        (admin, "admin.teams.list", json!({})),
        (admin, "admin.conversations.create", json!({"name": "made", "is_private": "false", "team_id": "T0HQ"})),
        (admin, "admin.conversations.search", json!({})),
        (admin, "admin.roles.listAssignments", json!({})),
        (admin, "admin.usergroups.listChannels", json!({"usergroup_id": "S0ACMESALES", "include_num_members": true})),
    ];
    let mut found = Vec::new();
    for (token, method, arguments) in calls {
        let answer = slack.call(token, method, arguments).await.body;
        assert_eq!(answer["ok"], true, "{method}: {answer}");
        let recorded = forms(&folder, method);
        if recorded.is_empty() {
            println!("skipped: no sample of {method}");
            continue;
        }
        strangers(&answer, &recorded.iter().collect::<Vec<_>>(), method, &mut found);
    }
    for (version, path, sample) in [
        ("v2", "/scim/v2/Users?count=50", "Users"),
        ("v1", "/scim/v1/Users?count=50", "Users"),
        ("v2", "/scim/v2/Groups", "Groups"),
        ("v1", "/scim/v1/Groups", "Groups"),
        ("v2", "/scim/v2/Users/U0HQMEMBER", "Users.id"),
        ("v1", "/scim/v1/Users/U0HQMEMBER", "Users.id"),
        ("v2", "/scim/v2/ServiceProviderConfig", "ServiceProviderConfigs"),
    ] {
        let answer = slack.http(admin, "GET", path, Value::Null).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        let recorded = load(&folder.join("scim").join(version).join(format!("{sample}.json")));
        strangers(&answer.body, &recorded.iter().collect::<Vec<_>>(), path, &mut found);
    }
    let audit = slack.http("xoxp-org-owner", "GET", "/audit/v1/logs", Value::Null).await.body;
    assert!(!audit["entries"].as_array().unwrap().is_empty());
    strangers(&audit, &load(&folder.join("audit/logs.json")).iter().collect::<Vec<_>>(), "audit", &mut found);
    found.sort();
    found.dedup();
    assert!(found.is_empty(), "Slack gives no such keys:\n{}", found.join("\n"));
}
