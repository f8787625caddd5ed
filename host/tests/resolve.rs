//! `runs resolve` against the built program: whoever says that a message was posted says which, or is told what to say.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bellhop;

use std::io::{Read as _, Write as _};

use serde_json::{Value, json};

use bellhop::Place;

const WORKFLOW: &str = "\
document: { dsl: 1.0.3, namespace: it, name: hello, version: 1.0.0 }
do:
  - greet: { call: message.send:1@slack, with: { channel: C0HQGENERAL, text: Hello } }
";

/// One request of HTTP: the answer's status line and body.
fn request(url: &str, verb: &str, path: &str, token: &str, body: &Value) -> (String, String) {
    let address = url.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let body = body.to_string();
    let head = format!(
        "{verb} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[test]
fn whoever_says_that_it_was_done_is_told_what_else_to_say() {
    let place = Place::new();
    let mut simulator = place.start(&["slack-simulator"]);
    let slack = simulator.line();
    let mut host = place.start(&["serve", "--listen", "127.0.0.1:0", "--slack-url", &slack, "--data-dir", "data"]);
    let last_word = |line: String| line.rsplit(' ').next().unwrap_or_default().to_owned();
    let (token, url) = (last_word(host.line()), last_word(host.line()));
    let bellhop = |arguments: &[&str]| {
        let arguments = [arguments, &["--output", "json"]].concat();
        place.run_with(&arguments, &[("BELLHOP_URL", &url), ("BELLHOP_TOKEN", &token)])
    };
    let done = |arguments: &[&str]| {
        let done = bellhop(arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {}{}", done.stdout, done.stderr);
        done.json()
    };
    let control = |path: &str, body: Value| {
        let (status, answer) = request(&slack, "POST", &format!("/_sim/{path}"), "", &body);
        assert!(status.contains("200"), "{status}: {answer}");
    };
    // It may post and read nothing; and the answer to what it posts is lost.
    let scopes = ["chat:write", "team:read", "users:read"];
    let poor = json!({"token": "xoxb-poor", "kind": "bot", "user": "U0HQBOT", "workspace": "T0HQ", "scopes": scopes});
    control("world", json!([{ "add_token": poor }]));
    control("faults", json!({ "method": "chat.postMessage", "action": "cut_after_accept" }));
    done(&["plugin", "install", bellhop::slack_plugin(), "--grant-all"]);
    place.write("token", "xoxb-poor\n");
    done(&["connect", "slack", "--kind", "grid-workspace", "--name", "poor", "--bot-token-file", "token"]);
    place.write("hello.yaml", WORKFLOW);
    done(&["workflows", "apply", "hello.yaml"]);
    // It is read back some seconds after the connection broke, and parks; whoever waits is told so.
    let (status, started) =
        request(&url, "POST", "/v1/workflows/it/hello/runs?wait=60s", &token, &json!({ "input": {} }));
    assert!(status.contains("202"), "{status}: {started}");
    let started = serde_json::from_str::<Value>(&started).unwrap();
    assert_eq!(started["status"], "parked", "{started}");
    let run = started["id"].as_str().unwrap().to_owned();

    let refused = bellhop(&["runs", "resolve", &run, "--done"]);
    assert_eq!(refused.code, 3, "{}{}", refused.stdout, refused.stderr);
    let error = refused.json()["error"].clone();
    assert_eq!(error["code"], "answer-needed", "{error}");
    for said in ["chat.postMessage", "`/channel` and `/ts`", "missing_scope", "--done --answer"] {
        assert!(refused.stdout.contains(said), "no `{said}` in {}", refused.stdout);
    }
    let path = format!("/v1/runs/{run}/resolve");
    let (status, problem) = request(&url, "POST", &path, &token, &json!({ "done": true, "answer": { "ok": true } }));
    assert!(status.contains("422"), "{status}: {problem}");
    let problem: Value = serde_json::from_str(&problem).unwrap();
    assert_eq!(
        (&problem["code"], &problem["diagnostics"][0]["task"]),
        (&json!("answer-needed"), &json!("/do/0/greet"))
    );
    assert_eq!(done(&["runs", "show", &run])["status"], "parked", "nothing was settled");

    let answer = r#"{"ok": true, "channel": "C0HQGENERAL", "ts": "1790000000.000100"}"#;
    done(&["runs", "resolve", &run, "--done", "--answer", answer]);
    let (_, ended) = request(&url, "GET", &format!("/v1/runs/{run}?wait=20s"), &token, &json!({}));
    let ended: Value = serde_json::from_str(&ended).unwrap();
    assert_eq!((&ended["status"], &ended["output"]["ts"]), (&json!("completed"), &json!("1790000000.000100")));
}
