//! A world that is kept over restarts, where that was asked for.

use bellhop_simulator::{Clock, Error, Options};
use serde_json::json;

use crate::driver::{START_MS, Slack};

fn options(file: &std::path::Path) -> Options {
    Options { clock: Clock::manual(START_MS), state: Some(file.to_owned()), ..Options::default() }
}

#[tokio::test]
async fn a_world_goes_on_where_it_was_left() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("slack.json");
    let slack = Slack::with(options(&file)).await;
    let first = slack.call("xoxb-hq", "chat.postMessage", json!({"channel": "C0HQIT", "text": "R&D"})).await.body;
    slack.call("xoxb-hq", "chat.postMessage", json!({"channel": "U0HQMEMBER", "text": "hello"})).await;
    slack
        .call(
            "xoxb-hq",
            "chat.scheduleMessage",
            json!({"channel": "C0HQIT", "post_at": START_MS / 1000 + 60, "text": "later"}),
        )
        .await;
    slack
        .edit(json!([{"add_token": {"token": "xoxb-own", "kind": "bot", "user": "U0HQBOT", "workspace": "T0HQ"}}]))
        .await;
    let before = slack.running.world();
    slack.running.stop().await;

    let slack = Slack::with(options(&file)).await;
    assert_eq!(slack.running.world(), before);
    assert_eq!(slack.running.ledger().len(), 0, "the books begin anew");
    let again = slack.call("xoxb-own", "chat.postMessage", json!({"channel": "C0HQIT", "text": "again"})).await.body;
    assert_eq!(again["ok"], true, "{again}");
    assert!(again["ts"].as_str() > first["ts"].as_str(), "no timestamp is given out twice");
    let direct = slack.call("xoxb-hq", "conversations.open", json!({"users": "U0HQMEMBER"})).await.body;
    assert_eq!(direct["already_open"], true, "{direct}");
    slack.advance(61_000).await;
    let posted = slack.call("xoxb-hq", "conversations.history", json!({"channel": "C0HQIT"})).await.body;
    assert_eq!(posted["messages"][0]["text"], "later");
}

#[tokio::test]
async fn a_file_that_is_no_world_is_refused_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("slack.json");
    for text in ["", "{}", r#"{"simulator": 1, "world": {}, "unshown": {}}"#, "not a world"] {
        std::fs::write(&file, text).unwrap();
        match bellhop_simulator::start(options(&file)).await {
            Err(error @ Error::State { .. }) => {
                assert!(error.to_string().contains("take the file away"), "{error}");
            }
            other => panic!("{text:?}: {other:?}"),
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
}
