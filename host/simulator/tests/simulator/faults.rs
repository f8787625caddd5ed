//! What goes wrong on purpose.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::driver::Slack;

const BOT: &str = "xoxb-hq";

fn hello() -> Value {
    json!({"channel": "C0HQIT", "text": "hello"})
}

fn events(slack: &Slack) -> Vec<String> {
    slack.running.requests().iter().filter_map(|line| line["event"].as_str().map(str::to_owned)).collect()
}

/// A raw Web API request, so that the connection is the test's own.
async fn send_raw(slack: &Slack, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(slack.running.address).await.unwrap();
    let head = format!(
        "POST /api/chat.postMessage HTTP/1.1\r\nhost: sim\r\nconnection: close\r\nauthorization: Bearer {BOT}\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// Until the request log has a line of this kind.
async fn logged(slack: &Slack, event: &str) {
    for _ in 0..2_000 {
        if events(slack).iter().any(|one| one == event) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("no {event} in {:?}", events(slack));
}

#[tokio::test]
async fn a_withheld_answer_leaves_the_change_when_the_client_hangs_up() {
    let slack = Slack::start().await;
    let fault = slack.fault(json!({"method": "chat.postMessage", "action": "accept_then_withhold"})).await;
    let stream = send_raw(&slack, "channel=C0HQIT&text=hello").await;
    slack.happened(fault).await;
    assert_eq!(slack.running.ledger().len(), 1, "the ledger is written before the signal");
    drop(stream);
    logged(&slack, "client-gone").await;
    assert_eq!(slack.running.ledger().len(), 1);
    let messages = slack.running.world()["channels"]["C0HQIT"]["messages"].as_array().map(Vec::len);
    assert_eq!(messages, Some(1));
    assert_eq!(events(&slack), ["request", "withheld", "client-gone"]);
}

#[tokio::test]
async fn a_withheld_answer_arrives_when_released() {
    let slack = Slack::start().await;
    let fault = slack
        .fault(json!({"method": "chat.*", "match": {"channel": "C0HQIT"}, "action": "accept_then_withhold"}))
        .await;
    let (answer, ()) = tokio::join!(slack.call(BOT, "chat.postMessage", hello()), async {
        slack.happened(fault).await;
        slack.http("", "POST", &format!("/_sim/faults/{fault}/release"), Value::Null).await;
    });
    assert_eq!(answer.body["ok"], true);
    assert_eq!(events(&slack), ["request", "withheld", "answered"]);
}

#[tokio::test]
async fn a_held_request_whose_client_hangs_up_is_never_accepted() {
    let slack = Slack::start().await;
    let fault = slack.fault(json!({"method": "chat.postMessage", "action": "hold_before_accept"})).await;
    let stream = send_raw(&slack, "channel=C0HQIT&text=hello").await;
    slack.happened(fault).await;
    drop(stream);
    logged(&slack, "client-gone").await;
    slack.http("", "POST", &format!("/_sim/faults/{fault}/release"), Value::Null).await;
    assert_eq!(slack.call(BOT, "chat.postMessage", hello()).await.body["ok"], true);
    assert_eq!(slack.running.ledger().len(), 1, "only the second message was accepted");
}

#[tokio::test]
async fn a_held_request_goes_on_when_released_and_ends_when_cut() {
    let slack = Slack::start().await;
    let fault = slack.fault(json!({"method": "chat.postMessage", "times": 0, "action": "hold_before_accept"})).await;
    let (answer, ()) = tokio::join!(slack.form(BOT, "chat.postMessage", hello()), async {
        slack.happened(fault).await;
        assert!(slack.running.ledger().is_empty());
        slack.http("", "POST", &format!("/_sim/faults/{fault}/release"), json!({"as": "cut"})).await;
    });
    assert!(answer.is_err());
    assert!(slack.running.ledger().is_empty());
    slack.http("", "DELETE", "/_sim/faults", Value::Null).await;
    let fault = slack.fault(json!({"action": "hold_before_accept"})).await;
    let (answer, ()) = tokio::join!(slack.call(BOT, "chat.postMessage", hello()), async {
        slack.happened(fault).await;
        slack.http("", "POST", &format!("/_sim/faults/{fault}/release"), json!({"as": "answer"})).await;
    });
    assert_eq!(answer.body["ok"], true);
}

#[tokio::test]
async fn cuts_before_and_after_accepting() {
    for (action, changes) in [("cut_before", 0), ("cut_after_accept", 1)] {
        let slack = Slack::start().await;
        slack.fault(json!({"method": "chat.postMessage", "action": action})).await;
        let mut stream = send_raw(&slack, "channel=C0HQIT&text=hello").await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty(), "{action}");
        assert_eq!(slack.running.ledger().len(), changes, "{action}");
    }
}

#[tokio::test]
async fn an_answer_is_cut_at_every_byte() {
    let slack = Slack::start().await;
    let whole = {
        let mut answer = Vec::new();
        send_raw(&slack, "channel=C0HQIT&text=hello").await.read_to_end(&mut answer).await.unwrap()
    };
    // Later answers are no shorter: only the number of the request grows.
    let mut cuts = 0;
    for bytes in 0..whole {
        slack.advance(1_000).await;
        if bytes % 200 == 0 {
            slack.advance(60_000).await;
        }
        slack.fault(json!({"method": "chat.postMessage", "action": {"cut_response_at": bytes}})).await;
        let mut stream = send_raw(&slack, "channel=C0HQIT&text=hello").await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert_eq!(answer.len(), bytes);
        cuts += 1;
        slack.http("", "DELETE", "/_sim/faults", Value::Null).await;
    }
    assert_eq!(cuts, whole);
    assert_eq!(slack.running.ledger().len(), whole + 1);
}

#[tokio::test]
async fn made_up_answers() {
    let slack = Slack::start().await;
    slack.fault(json!({"method": "chat.postMessage", "action": {"refuse": {"error": "fatal_error"}}})).await;
    assert_eq!(slack.call(BOT, "chat.postMessage", hello()).await.body, json!({"ok": false, "error": "fatal_error"}));
    slack.fault(json!({"method": "chat.postMessage", "action": {"rate_limit": {"retry_after": 7}}})).await;
    let answer = slack.call(BOT, "chat.postMessage", hello()).await;
    assert_eq!((answer.status, &answer.headers["retry-after"]), (429, &"7".parse().unwrap()));
    assert_eq!(answer.body["error"], "ratelimited");
    slack.fault(json!({"method": "chat.postMessage", "action": {"http": {"status": 503, "body": {"ok": false, "error": "service_unavailable"}}}})).await;
    let answer = slack.call(BOT, "chat.postMessage", hello()).await;
    assert_eq!((answer.status, answer.body["error"].as_str()), (503, Some("service_unavailable")));
    assert!(slack.running.ledger().is_empty());
    slack.fault(json!({"method": "chat.postMessage", "action": "garbage"})).await;
    assert!(slack.call(BOT, "chat.postMessage", hello()).await.body.is_string());
    slack.fault(json!({"method": "chat.postMessage", "action": {"http": {"status": 502, "accepted": true}}})).await;
    assert_eq!(slack.call(BOT, "chat.postMessage", hello()).await.status, 502);
    assert_eq!(slack.running.ledger().len(), 2, "the last two were accepted");
    slack.fault(json!({"method": "scim.v2.*", "action": {"refuse": {"error": "oops"}}})).await;
    let answer = slack.http("xoxp-plus-owner", "GET", "/scim/v2/Users", Value::Null).await;
    assert_eq!((answer.status, answer.body["detail"].as_str()), (400, Some("oops")));
}

#[tokio::test]
async fn a_drip_arrives_whole_and_a_delay_late() {
    let slack = Slack::start().await;
    slack.fault(json!({"method": "auth.test", "action": {"slow_drip": {"bytes": 40, "every_ms": 1}}})).await;
    assert_eq!(slack.call(BOT, "auth.test", json!({})).await.body["team_id"], "T0HQ");
    slack.fault(json!({"method": "auth.test", "action": {"delay_ms": 5}})).await;
    assert_eq!(slack.call(BOT, "auth.test", json!({})).await.body["team_id"], "T0HQ");
}

#[tokio::test]
async fn wrong_controls_are_refused_and_change_nothing() {
    let slack = Slack::start().await;
    for (verb, path, body, status) in [
        ("POST", "/_sim/faults", json!({"action": "explode"}), 400),
        ("POST", "/_sim/faults", json!({"methd": "x", "action": "garbage"}), 400),
        ("POST", "/_sim/faults/9/release", Value::Null, 404),
        ("GET", "/_sim/signals/wait?fault=9", Value::Null, 404),
        ("POST", "/_sim/world", json!([{"set_plan": {"workspace": "T9", "plan": "pro"}}]), 422),
        ("POST", "/_sim/world", json!([{"set_plans": {}}]), 400),
        ("GET", "/_sim/nothing", Value::Null, 404),
    ] {
        let answer = slack.http("", verb, path, body).await;
        assert_eq!(answer.status, status, "{verb} {path}");
        assert!(answer.body["error"].is_string());
    }
}
