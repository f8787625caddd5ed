//! Lists in pages, and budgets.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::driver::Slack;

/// Every item of a list, page by page.
async fn all(slack: &Slack, token: &str, method: &str, arguments: Value, list: &str) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    for _ in 0..200 {
        let mut arguments = arguments.clone();
        arguments["cursor"] = json!(cursor);
        let answer = slack.call(token, method, arguments).await;
        assert_eq!(answer.body["ok"], true, "{method}: {}", answer.body);
        items.extend(answer.body[list].as_array().unwrap().clone());
        let next = if method == "admin.conversations.search" {
            &answer.body["next_cursor"]
        } else {
            &answer.body["response_metadata"]["next_cursor"]
        };
        match next.as_str() {
            None | Some("") => return items,
            Some(next) => next.clone_into(&mut cursor),
        }
        slack.advance(60_000).await;
    }
    panic!("{method} never ends");
}

#[tokio::test]
async fn pages_of_any_size_show_the_same() {
    for (token, method, arguments, list, id) in [
        ("xoxb-hq", "users.list", json!({}), "members", "/id"),
        ("xoxb-org", "users.list", json!({"team_id": "T0LAB"}), "members", "/id"),
        (
            "xoxb-hq",
            "conversations.list",
            json!({"types": "public_channel,private_channel", "exclude_archived": "true"}),
            "channels",
            "/id",
        ),
        ("xoxb-hq", "conversations.members", json!({"channel": "C0HQGENERAL"}), "members", ""),
        ("xoxb-hq", "users.conversations", json!({"types": "public_channel,private_channel"}), "channels", "/id"),
        ("xoxp-org-admin", "admin.users.list", json!({}), "users", "/id"),
        ("xoxp-org-admin", "admin.users.session.list", json!({}), "active_sessions", "/session_id"),
        ("xoxp-org-admin", "admin.conversations.search", json!({}), "conversations", "/id"),
        ("xoxp-org-admin", "admin.teams.list", json!({}), "teams", "/id"),
        ("xoxb-org", "auth.teams.list", json!({}), "teams", "/id"),
    ] {
        let slack = Slack::start().await;
        let mut lists = Vec::new();
        for limit in [1, 3, 20] {
            let mut arguments = arguments.clone();
            arguments["limit"] = json!(limit);
            let items = all(&slack, token, method, arguments, list).await;
            let ids: BTreeSet<String> = items.iter().map(|item| item.pointer(id).unwrap().to_string()).collect();
            assert_eq!(ids.len(), items.len(), "{method} shows something twice");
            assert!(!ids.is_empty());
            lists.push(ids);
        }
        assert!(lists.windows(2).all(|pair| pair[0] == pair[1]), "{method}: {lists:?}");
        let mut arguments = arguments.clone();
        arguments["cursor"] = json!("nonsense");
        let answer = slack.call(token, method, arguments).await;
        assert_eq!(answer.body["error"], "invalid_cursor", "{method}");
    }
}

#[tokio::test]
async fn history_goes_back_in_pages_and_between_two_times() {
    let slack = Slack::start().await;
    let mut stamps = Vec::new();
    for n in 0..12 {
        slack.advance(2_000).await;
        let metadata = json!({"event_type": "t", "event_payload": {"bellhop": format!("k{n}")}});
        let answer = slack
            .call("xoxb-hq", "chat.postMessage", json!({"channel": "C0HQIT", "text": n, "metadata": metadata}))
            .await;
        stamps.push(answer.body["ts"].as_str().unwrap().to_owned());
    }
    let arguments = json!({"channel": "C0HQIT", "limit": 5, "include_all_metadata": true});
    let messages = all(&slack, "xoxb-hq", "conversations.history", arguments, "messages").await;
    let seen: Vec<&str> = messages.iter().map(|message| message["ts"].as_str().unwrap()).collect();
    assert_eq!(seen, stamps.iter().rev().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(messages[0]["metadata"]["event_payload"]["bellhop"], "k11");
    let between = json!({"channel": "C0HQIT", "oldest": stamps[3], "latest": stamps[6]});
    assert_eq!(all(&slack, "xoxb-hq", "conversations.history", between.clone(), "messages").await.len(), 2);
    let mut inclusive = between;
    inclusive["inclusive"] = json!("true");
    assert_eq!(all(&slack, "xoxb-hq", "conversations.history", inclusive, "messages").await.len(), 4);
}

#[tokio::test]
async fn budgets_are_per_method_and_workspace_and_come_back() {
    let slack = Slack::start().await;
    for _ in 0..20 {
        assert_eq!(slack.call("xoxb-hq", "usergroups.list", json!({})).await.body["ok"], true);
    }
    let limited = slack.call("xoxb-hq", "usergroups.list", json!({})).await;
    assert_eq!((limited.status, limited.headers["retry-after"].to_str().unwrap()), (429, "60"));
    assert_eq!(limited.body, json!({"ok": false, "error": "ratelimited"}));
    assert_eq!(slack.call("xoxb-lab", "usergroups.list", json!({})).await.body["ok"], true);
    assert_eq!(slack.call("xoxb-hq", "users.list", json!({})).await.body["ok"], true);
    slack.advance(60_000).await;
    assert_eq!(slack.call("xoxb-hq", "usergroups.list", json!({})).await.body["ok"], true);
}

#[tokio::test]
async fn one_channel_takes_about_a_message_a_second() {
    let slack = Slack::start().await;
    let mut accepted = 0;
    for _ in 0..20 {
        let answer = slack.call("xoxb-hq", "chat.postMessage", json!({"channel": "C0HQIT", "text": "x"})).await;
        accepted += u32::from(answer.status == 200);
        slack.advance(500).await;
    }
    assert!((13..=15).contains(&accepted), "{accepted}");
    let elsewhere = slack.call("xoxb-hq", "chat.postMessage", json!({"channel": "C0HQITHELP", "text": "x"})).await;
    assert_eq!(elsewhere.body["ok"], true);
}

#[tokio::test]
async fn scim_counts_for_the_whole_organisation() {
    let slack = Slack::start().await;
    let mut refused = 0;
    for n in 0..30 {
        let token = if n % 2 == 0 { "xoxp-org-admin" } else { "xoxp-org-owner" };
        let body = json!({"userName": format!("n{n}"), "emails": [{"value": format!("n{n}@acme.example")}]});
        let answer = slack.http(token, "POST", "/scim/v2/Users", body).await;
        refused += u32::from(answer.status == 429 && answer.headers.contains_key("retry-after"));
    }
    assert_eq!(refused, 10, "a burst of twenty");
}
