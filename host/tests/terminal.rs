//! What others wrote does not steer the terminal of whoever reads it: every verb that shows what a host answers is run
//! against a host whose every text is hostile.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bellhop;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use bellhop::{Done, Place};
use serde_json::{Value, json};

/// Moves, colours, rings, forges a line, turns, hides, sets a title.
const HOSTILE: &str = "\u{1b}[2J\u{1b}]0;title\u{7}\u{9b}31m\r\nFORGED line\u{202e}\u{2066}\u{200e}\u{200b}\u{61c}\u{2028}\u{feff}\u{e0041}\u{7f}\u{85}\u{0}";

fn is_hostile(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
        || ('\u{e0000}'..='\u{e007f}').contains(&c)
}

fn is_clean(done: &Done, what: &str) {
    for text in [&done.stdout, &done.stderr] {
        let found: Vec<char> = text.chars().filter(|c| is_hostile(*c)).collect();
        assert!(found.is_empty(), "{what}: {found:?} in {text:?}");
        assert!(!text.lines().any(|line| line.starts_with("FORGED")), "{what}: a line is forged in {text:?}");
    }
}

/// An object that has every field that any printer looks for.
fn thing() -> Value {
    let mut thing = json!({});
    for field in [
        "id",
        "name",
        "status",
        "reason",
        "workflow",
        "version",
        "startedAt",
        "endedAt",
        "superseded_by",
        "by",
        "kind",
        "plan",
        "permission",
        "digest",
        "createdAt",
        "expiresAt",
        "scopes",
        "token",
        "title",
        "detail",
        "path",
        "file",
        "action",
        "plugin",
        "description",
        "output",
        "error",
        HOSTILE,
    ] {
        thing[field] = json!(HOSTILE);
    }
    thing["scopes"] = json!([HOSTILE, HOSTILE]);
    thing["error"] = json!({ "type": HOSTILE, "title": HOSTILE, "detail": HOSTILE, HOSTILE: HOSTILE });
    thing["output"] = json!({ HOSTILE: [HOSTILE] });
    thing["columns"] = json!({ HOSTILE: "text" });
    thing["rows"] = json!({ HOSTILE: { HOSTILE: HOSTILE } });
    thing
}

/// Every kind of event that a host makes. Those that end a run are the last: `runs watch` reads no further.
const KINDS: [&str; 40] = [
    "run.accepted",
    "run.asked",
    "run.started",
    "run.queued",
    "run.admitted",
    "run.displaced",
    "run.blocked",
    "run.unblocked",
    "run.redefined",
    "run.suspended",
    "run.resumed",
    "run.parked",
    "run.unparked",
    "run.retried",
    "run.noticed",
    "run.killed",
    "run.rollback-incomplete",
    "task.started",
    "task.waiting",
    "task.retrying",
    "task.caught",
    "task.tolerated",
    "task.skipped",
    "task.completed",
    "task.faulted",
    "action.started",
    "call.started",
    "call.ended",
    "call.read",
    "call.not-sent",
    "call.resolved",
    "call.retried",
    "rollback.started",
    "undo.started",
    "undo.retrying",
    "undo.settled",
    "note",
    "run.completed",
    "run.faulted",
    "run.cancelled",
];

/// The kinds in the source that makes them: texts with a dot, and what stands where a kind is given.
fn made() -> BTreeSet<&'static str> {
    let source = include_str!("../engine/src/show/timeline.rs");
    let is_word = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '.' || c == '-');
    let literal = |(at, _): (usize, &str)| {
        let text = source[at + 1..].split('"').next().filter(|text| is_word(text))?;
        (text.contains('.') || source[..at].trim_end().ends_with("out,")).then_some(text)
    };
    source.match_indices('"').filter_map(literal).collect()
}

#[test]
fn every_kind_of_event_is_shown() {
    assert_eq!(KINDS.into_iter().collect::<BTreeSet<_>>(), made());
}

fn events() -> Vec<Value> {
    let fault = json!({ "type": HOSTILE, "title": HOSTILE, "detail": HOSTILE });
    let mut data = json!({ "error": fault, "reason": fault, "ok": false, "to": { HOSTILE: HOSTILE },
        "diagnostics": [{ "code": HOSTILE, "message": HOSTILE }] });
    for field in [
        "by",
        "for",
        "action",
        "connection",
        "function",
        "how",
        "detail",
        "until",
        "group",
        "limit",
        "version",
        "change",
        "fate",
        "level",
        "text",
        "retryAt",
    ] {
        data[field] = json!(HOSTILE);
    }
    let event =
        |(id, kind): (usize, &str)| json!({ "id": id + 1, "type": kind, "task": HOSTILE, "at": HOSTILE, "data": data });
    std::iter::once(HOSTILE).chain(KINDS).enumerate().map(event).collect()
}

fn problem() -> Value {
    json!({ "type": HOSTILE, "title": HOSTILE, "status": 422, "detail": HOSTILE, "code": HOSTILE, "request_id": HOSTILE,
        "remedies": [{ "title": HOSTILE, "command": HOSTILE }],
        "diagnostics": [{ "code": HOSTILE, "severity": "error", "message": HOSTILE, "task": HOSTILE, "file": HOSTILE,
            "line": 1, "column": 1, "methods": [HOSTILE], "who": HOSTILE, "pointer": HOSTILE,
            "needs": { "text": HOSTILE }, "has": { "text": HOSTILE }, "remedies": [{ "title": HOSTILE, "command": HOSTILE }] }] })
}

/// Answers every request, as if it were a host.
fn answer(mut socket: TcpStream, refuses: bool) {
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    loop {
        let (mut head, mut length, mut after) = (String::new(), 0, 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if let Some(value) = line.to_lowercase().strip_prefix("last-event-id:") {
                after = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
            head.push_str(&line);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let (status, kind, body) = if refuses {
            ("422 Unprocessable Entity", "application/problem+json", problem().to_string())
        } else if head.contains("/events") && head.contains("text/event-stream") {
            // From where it was left: a run that parks may end the wait, and this one goes on.
            let events: Vec<Value> = events().split_off(after);
            let text = |e: &Value| format!("id: {}\nevent: {}\ndata: {e}\n\n", e["id"], "run.event");
            ("200 OK", "text/event-stream", events.iter().map(text).collect())
        } else if head.contains("/events") {
            ("200 OK", "application/json", json!({ "result": events(), "next_cursor": null }).to_string())
        } else {
            let mut whole = thing();
            whole["result"] = json!([thing(), thing()]);
            ("200 OK", "application/json", whole.to_string())
        };
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", body.len());
        if socket.write_all(head.as_bytes()).and_then(|()| socket.write_all(body.as_bytes())).is_err() {
            return;
        }
    }
}

fn host(refuses: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            std::thread::spawn(move || answer(socket.unwrap(), refuses));
        }
    });
    url
}

const RUN: &str = "run_01J00000000000000000000000";

/// Every verb that asks a host.
const ASKING: &[&[&str]] = &[
    &["runs", "list"],
    &["runs", "list", "--label", "a=b", "--limit", "3"],
    &["runs", "show", RUN],
    &["runs", "watch", RUN],
    &["runs", "export", RUN],
    &["runs", "cancel", RUN],
    &["runs", "retry", RUN],
    &["runs", "undo", RUN],
    &["runs", "suspend", RUN],
    &["runs", "resume", RUN],
    &["runs", "resolve", RUN, "--done"],
    &["run", "a/b", "--input", "{}"],
    &["run", "a/b", "--input", "{}", "--wait"],
    &["workflows", "list"],
    &["workflows", "show", "a/b"],
    &["workflows", "bind", "a/b"],
    &["workflows", "apply", "FILE"],
    &["action", "run", "user.lookup", "--input", "{}"],
    &["tables", "list"],
    &["tables", "show", "tt"],
    &["tables", "put", "tt", "table.csv"],
    &["connections", "list"],
    &["connections", "show", "x"],
    &["connections", "test", "x"],
    &["connections", "remove", "x"],
    &["plugin", "list"],
    &["token", "list"],
    &["token", "create", "--name", "x", "--scope", "runs:read"],
    &["token", "revoke", "tok_1"],
];

#[test]
fn attack_b11_no_verb_hands_on_what_steers_a_terminal() {
    let place = Place::new();
    let file = "file\u{1b}[31m\u{202e}.yaml";
    place.write(file, "document: {dsl: '1.0.3', namespace: a, name: b, version: 1.0.0}\ndo: [{a: {set: {b: 1}}}]\n");
    place.write("table.csv", "key,name\na,b\n");
    for refuses in [false, true] {
        let url = host(refuses);
        for output in ["text", "json"] {
            for verb in ASKING {
                let verb: Vec<&str> = verb.iter().map(|word| if *word == "FILE" { file } else { word }).collect();
                let arguments = [&verb[..], &["--url", &url, "--output", output]].concat();
                let done = place.run_with(&arguments, &[("BELLHOP_TOKEN", "bh_x")]);
                assert_ne!(done.code, 2, "{verb:?} is no such verb: {}", done.stderr);
                is_clean(&done, &format!("{verb:?} --output {output}, refused: {refuses}"));
            }
        }
    }
}

/// Every verb that repeats what was typed.
#[test]
fn attack_b11_what_was_typed_is_repeated_plainly() {
    let place = Place::new();
    let typed: String = HOSTILE.chars().filter(|c| *c != '\0').collect();
    let typed = typed.as_str();
    place.write("bad\u{1b}[31m.yaml", "a: [\u{202e}");
    place.write("bad.csv", &format!("key,{typed},{typed}\na,b,c\n"));
    for verb in [
        &["explain", typed][..],
        &[typed],
        &["runs", typed],
        &["runs", "show", typed],
        &["runs", "list", "--label", typed],
        &["runs", "list", "--limit", typed],
        &["run", typed, "--input", "{}"],
        &["run", "a/b", "--input", typed],
        &["connections", "show", typed],
        &["tables", "show", typed],
        &["tables", "put", "x", "bad.csv"],
        &["tables", "put", typed, typed],
        &["workflows", "apply", typed],
        &["workflows", "apply", "bad\u{1b}[31m.yaml"],
        &["workflows", "show", typed],
        &["check", typed],
        &["check", "bad\u{1b}[31m.yaml"],
        &["check", "--assume", typed, "bad.csv"],
        &["plugin", "inspect", typed],
        &["plugin", "install", typed],
        &["plugin", "build", typed],
        &["token", "create", "--name", typed, "--scope", typed],
        &["token", "create", "--offline", "--name", typed, "--scope", typed],
        &["token", "create", "--offline", "--name", "x", "--scope", "runs:read", "--data-dir", typed],
        &["token", "revoke", typed],
        &["connect", "slack", "--name", typed, "--kind", "workspace", "--bot-token-file", typed],
        &["--config", typed, "config"],
        &["--url", typed, "runs", "list"],
        &["serve", "--log", typed],
    ] {
        for output in ["text", "json"] {
            let arguments = [verb, &["--output", output]].concat();
            let done = place.run_with(&arguments, &[("BELLHOP_TOKEN", "bh_x"), ("BELLHOP_URL", "http://127.0.0.1:9")]);
            assert_ne!(done.code, 0, "{verb:?}: {}", done.stdout);
            is_clean(&done, &format!("{verb:?} --output {output}"));
        }
    }
}
