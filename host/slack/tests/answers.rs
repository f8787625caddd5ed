//! What each answer means, asked of a real connection.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

use bellhop_slack::catalog::Catalog;
use bellhop_slack::client::network::{Cause, Fault, Phase};
use bellhop_slack::client::{Answer, Client, Failure, Options, Secret, Unknown, retry_after};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers every connection with these bytes after its first read, then closes.
async fn answering(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 8192];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    });
    url
}

fn options(url: &str) -> Options {
    Options { base_url: url.to_owned(), deadline_ms: 5_000, response_bytes_max: 4_096, ..Options::default() }
}

async fn ask(method: &str, options: &Options) -> Result<Answer, Failure> {
    let method = Catalog::built_in().by_name(method).unwrap();
    let arguments = if method.path.contains("{id}") { json!({"id": "U1"}) } else { json!({}) };
    Client::new(options).unwrap().send(method, &arguments, &Secret::new("xoxb-a-test-token".into()), None).await
}

fn http(status: u16, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()).into_bytes()
}

fn word(outcome: &Result<Answer, Failure>) -> String {
    match outcome {
        Ok(a) => format!("{} {}", if a.ok { "ok" } else { "refused" }, a.error.as_deref().unwrap_or("-")),
        Err(Failure::NotSent { reason, retry_after_ms }) => format!("not-sent {reason} {retry_after_ms:?}"),
        Err(Failure::Unknown { reason }) => format!("unknown {reason}"),
    }
}

#[tokio::test]
async fn each_answer_is_judged() {
    let post = "chat.postMessage";
    let create = "scim.v2.post.Users";
    let delete = "scim.v2.delete.Users.id";
    let ok = r#"{"ok":true}"#;
    let limited = "not-sent Slack's rate limit";
    for (method, status, headers, body, wanted) in [
        (post, 200, "", ok, "ok -".to_owned()),
        (post, 200, "", r#"{"ok":false,"error":"channel_not_found"}"#, "refused channel_not_found".into()),
        (post, 200, "", r#"{"ok":false,"not_in_channel":true}"#, "refused not_in_channel".into()),
        (post, 403, "", r#"{"ok":false,"error":"missing_scope"}"#, "refused missing_scope".into()),
        (post, 429, "retry-after: 3\r\n", r#"{"ok":false,"error":"ratelimited"}"#, format!("{limited} Some(3000)")),
        (post, 429, "", "<html>", format!("{limited} Some({})", retry_after::DEFAULT_MS)),
        (post, 429, "retry-after: soon\r\n", "", format!("{limited} Some({})", retry_after::DEFAULT_MS)),
        (post, 429, "retry-after: 86400\r\n", "", format!("{limited} Some({})", retry_after::MAX_MS)),
        (
            post,
            429,
            "date: Wed, 21 Oct 2026 07:28:00 GMT\r\nretry-after: Wed, 21 Oct 2026 07:28:09 GMT\r\n",
            "",
            format!("{limited} Some(9000)"),
        ),
        (post, 200, "retry-after: 1\r\n", r#"{"ok":false,"error":"ratelimited"}"#, format!("{limited} Some(1000)")),
        (
            post,
            503,
            "",
            r#"{"ok":false,"error":"ratelimited"}"#,
            format!("{limited} Some({})", retry_after::DEFAULT_MS),
        ),
        (
            post,
            503,
            "",
            r#"{"ok":false,"error":"service_unavailable"}"#,
            "not-sent Slack answered `service_unavailable` None".into(),
        ),
        (
            post,
            500,
            "",
            r#"{"ok":false,"error":"team_added_to_org"}"#,
            "not-sent Slack answered `team_added_to_org` None".into(),
        ),
        (post, 200, "", r#"{"ok":false,"error":"fatal_error"}"#, "unknown Slack answered `fatal_error`".into()),
        (post, 400, "", r#"{"ok":false,"error":"internal_error"}"#, "unknown Slack answered `internal_error`".into()),
        (post, 503, "", r#"{"ok":false,"error":"request_timeout"}"#, "unknown Slack answered `request_timeout`".into()),
        (post, 500, "", r#"{"ok":false,"error":"channel_not_found"}"#, "unknown HTTP status 500".into()),
        (post, 500, "", ok, "unknown HTTP status 500".into()),
        (post, 502, "", "bad gateway", "unknown HTTP status 502".into()),
        (post, 200, "", "<html>", "unknown an answer with HTTP status 200 that is not in Slack's form".into()),
        (post, 200, "", "{}", "unknown an answer with HTTP status 200 that is not in Slack's form".into()),
        (post, 404, "", "not here", "unknown an answer with HTTP status 404 that is not in Slack's form".into()),
        (
            post,
            302,
            "location: http://127.0.0.1:1/\r\n",
            "",
            "unknown an answer with HTTP status 302 that is not in Slack's form".into(),
        ),
        (create, 201, "", r#"{"id":"U1"}"#, "ok -".into()),
        (create, 409, "", r#"{"Errors":{"description":"taken","code":409}}"#, "refused 409".into()),
        (create, 401, "", "", "refused 401".into()),
        (create, 200, "", r#"{"ok":false,"error":"invalid_auth"}"#, "refused invalid_auth".into()),
        (create, 201, "", "", "unknown an answer with HTTP status 201 that is not in Slack's form".into()),
        (
            create,
            413,
            "",
            r#"{"Errors":{}}"#,
            "unknown an answer with HTTP status 413 that is not in Slack's form".into(),
        ),
        (create, 500, "", r#"{"Errors":{"code":500}}"#, "unknown HTTP status 500".into()),
        (create, 429, "retry-after: 2\r\n", "", format!("{limited} Some(2000)")),
        (delete, 200, "", "", "ok -".into()),
        (delete, 404, "", "{}", "refused 404".into()),
        ("audit.v1.logs", 200, "", r#"{"entries":[]}"#, "ok -".into()),
        (
            "audit.v1.logs",
            200,
            "",
            r#"{"ok":false,"error":"feature_not_enabled"}"#,
            "refused feature_not_enabled".into(),
        ),
    ] {
        let url = answering(http(status, headers, body)).await;
        let outcome = ask(method, &options(&url)).await;
        assert_eq!(word(&outcome), wanted, "{method} {status} {body}");
    }
}

#[tokio::test]
async fn an_answer_says_what_the_host_needs() {
    let body = r#"{"ok":false,"error":"missing_scope","needed":"chat:write","provided":"users:read","token":"xoxb-a"}"#;
    let headers = "x-oauth-scopes: users:read, team:read\r\nx-slack-req-id: abc\r\n";
    let url = answering(http(200, headers, body)).await;
    let answer = ask("chat.postMessage", &options(&url)).await.unwrap();
    assert_eq!((answer.needed.as_deref(), answer.provided.as_deref()), (Some("chat:write"), Some("users:read")));
    assert_eq!(answer.scopes.unwrap().into_iter().collect::<Vec<_>>(), ["team:read", "users:read"]);
    assert_eq!(answer.request_id.as_deref(), Some("abc"));
    assert_eq!(answer.bytes, body.len() as u64);
    assert_eq!(answer.body["token"], Value::from(bellhop_slack::client::REMOVED));
}

#[tokio::test]
async fn a_body_that_is_too_large_is_not_read() {
    let long = format!(r#"{{"ok":true,"x":"{}"}}"#, "x".repeat(5_000));
    let unannounced = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{long}").into_bytes();
    for answer in [http(200, "", &long), unannounced] {
        let outcome = ask("chat.postMessage", &options(&answering(answer).await)).await;
        assert_eq!(outcome, Err(Failure::Unknown { reason: Unknown::TooLarge { bytes_max: 4_096 } }));
    }
}

#[tokio::test]
async fn no_answer_before_the_deadline_is_unknown() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let outcome = ask("chat.postMessage", &Options { deadline_ms: 50, ..options(&url) }).await;
    let fault = Fault::at(url.trim_start_matches("http://"), Cause::TimedOut(Phase::Answer));
    assert_eq!(outcome, Err(Failure::Unknown { reason: Unknown::Network(Box::new(fault)) }));
    drop(listener);
}

#[test]
fn tokens_do_not_travel_in_the_clear() {
    for (url, fine) in [
        ("http://127.0.0.1:9", true),
        ("http://[::1]:9", true),
        ("http://localhost:9", true),
        ("https://slack.com", true),
        ("http://slack.com", false),
        ("ftp://slack.com", false),
        ("slack.com", false),
    ] {
        assert_eq!(Client::new(&options(url)).is_ok(), fine, "{url}");
    }
}

/// Whatever Slack, or what stands before it, repeats: the token is in nothing that is handed on.
#[tokio::test]
async fn attack_b12_a_token_is_removed_from_all_that_is_echoed() {
    let own = "xoxb-a-test-token";
    let other = "xoxp-1234567890";
    for echoed in [own, other] {
        for (method, status, headers, body) in [
            ("chat.postMessage", 200, String::new(), format!(r#"{{"ok":false,"error":"{echoed}"}}"#)),
            ("chat.postMessage", 200, String::new(), format!(r#"{{"ok":false,"{echoed}":true}}"#)),
            (
                "chat.postMessage",
                200,
                format!("x-oauth-scopes: chat:write,{echoed}\r\nx-slack-req-id: {echoed}\r\n"),
                format!(
                    r#"{{"ok":true,"{echoed}":"{echoed}","list":["a {echoed} b"],"response_metadata":{{"messages":["{echoed}"]}}}}"#
                ),
            ),
            (
                "chat.postMessage",
                200,
                String::new(),
                format!(r#"{{"ok":false,"error":"missing_scope","needed":"{echoed}","provided":"a,{echoed}"}}"#),
            ),
            ("scim.v2.post.Users", 409, String::new(), format!(r#"{{"detail":"{echoed}","schemas":["{echoed}"]}}"#)),
            ("chat.postMessage", 429, format!("retry-after: {echoed}\r\n"), echoed.to_owned()),
            ("chat.postMessage", 200, String::new(), format!("<html>{echoed}</html>")),
            ("chat.postMessage", 500, String::new(), echoed.to_owned()),
        ] {
            let url = answering(http(status, &headers, &body)).await;
            let answer = ask(method, &options(&url)).await;
            let text = format!("{answer:?}");
            assert!(!text.contains(echoed), "{status} {headers}{body}: {text}");
        }
    }
}

#[tokio::test]
async fn attack_b16_a_number_of_slack_s_that_cannot_be_held_is_text() {
    let url = answering(http(200, "", r#"{"ok":true,"a":1e400,"b":[123456789012345678901234567890,1.5]}"#)).await;
    let answer = ask("chat.postMessage", &options(&url)).await.unwrap();
    assert_eq!(answer.body, json!({ "ok": true, "a": "1e400", "b": ["123456789012345678901234567890", 1.5] }));
}

#[tokio::test]
async fn surroundings_s11_an_answer_of_any_kind_says_what_time_it_is_at_slack() {
    let date = "date: Wed, 21 Oct 2026 07:28:00 GMT\r\n";
    let noon = Some(1_792_567_680_000);
    for (status, headers, time) in [
        (200, date, noon),
        (429, date, noon),
        (503, date, noon),
        (200, "", None),
        (200, "date: soon\r\n", None),
        (200, "date: Wed, 21 Oct 1926 07:28:00 GMT\r\n", None),
    ] {
        let url = answering(http(status, headers, r#"{"ok":true}"#)).await;
        assert_eq!(Client::new(&options(&url)).unwrap().date_ms().await, Ok(time), "{status} {headers}");
    }
    let nobody = Client::new(&options("http://127.0.0.1:1")).unwrap();
    assert!(matches!(nobody.date_ms().await, Err(Failure::NotSent { .. })));
}
