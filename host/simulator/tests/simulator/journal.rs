//! The ledger and the request log.

use std::fs;

use bellhop_simulator::{Clock, Options};
use serde_json::{Value, json};

use crate::driver::{START_MS, Slack};

fn lines(path: &std::path::Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn both_files_tell_what_happened_before_the_answer_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, requests) = (folder.path().join("ledger.jsonl"), folder.path().join("requests.jsonl"));
    let options = Options {
        ledger: Some(ledger.clone()),
        requests: Some(requests.clone()),
        clock: Clock::manual(START_MS),
        ..Options::default()
    };
    let slack = Slack::with(options.clone()).await;
    let metadata = json!({"event_type": "hire", "event_payload": {"bellhop": "run_1/do/0#0", "mine": 1}});
    let post = json!({"channel": "C0HQIT", "text": "hello", "metadata": metadata});
    let answer = slack.call("xoxb-hq", "chat.postMessage", post).await;
    assert_eq!(answer.body["ok"], true);
    let line = lines(&ledger).remove(0);
    assert_eq!(line["key"], "run_1/do/0#0");
    assert_eq!(line["method"], "chat.postMessage");
    assert_eq!(line["workspace"], "T0HQ");
    assert_eq!(line["token"], "bot");
    assert_eq!(line["changed"], true);
    assert_eq!(line["at_ms"], START_MS);
    assert_eq!(line["effect"], json!({"channel": "C0HQIT", "ts": answer.body["ts"]}));

    let refused = slack.call("xoxb-hq", "chat.postMessage", json!({"channel": "C0NONE", "text": "x"})).await;
    assert_eq!(refused.body["error"], "channel_not_found");
    assert_eq!(lines(&ledger).len(), 1, "what is refused is no change");
    let log = lines(&requests);
    let told: Vec<(&str, u64)> =
        log.iter().map(|line| (line["event"].as_str().unwrap(), line["seq"].as_u64().unwrap())).collect();
    assert_eq!(told, [("request", 1), ("answered", 1), ("request", 2), ("answered", 2)]);
    assert_eq!(
        (&log[1]["accepted"], &log[3]["accepted"], &log[3]["error"]),
        (&json!(true), &json!(false), &json!("channel_not_found"))
    );
    assert_eq!(log[0]["key"], "run_1/do/0#0");
    assert_eq!(line["request"], log[0]["seq"]);

    slack.running.stop().await;
    let again = Slack::with(options).await;
    again.call("xoxb-hq", "chat.postMessage", json!({"channel": "C0HQIT", "text": "again"})).await;
    assert_eq!(lines(&ledger).len(), 2, "a second start appends");
}

#[tokio::test]
async fn no_book_holds_a_token() {
    let slack = Slack::start().await;
    slack
        .http("", "POST", "/api/chat.postMessage", json!({"token": "xoxb-hq", "channel": "C0HQIT", "text": "x"}))
        .await;
    slack.http("", "GET", "/api/auth.test?token=xoxb-hq", Value::Null).await;
    let books = json!([slack.running.ledger(), slack.running.requests()]).to_string();
    assert_eq!(slack.running.ledger().len(), 1);
    assert!(!books.contains("xoxb"), "{books}");
}

#[tokio::test]
async fn a_reset_brings_the_default_world_back() {
    let slack = Slack::start().await;
    let before = slack.running.world();
    slack.call("xoxb-hq", "chat.postMessage", json!({"channel": "C0HQIT", "text": "x"})).await;
    slack.edit(json!([{"set_plan": {"workspace": "T0PRO", "plan": "free"}}])).await;
    assert_ne!(slack.running.world(), before);
    slack.http("", "POST", "/_sim/reset", Value::Null).await;
    assert_eq!(slack.running.world(), before);
    assert!(slack.running.ledger().is_empty());
}
