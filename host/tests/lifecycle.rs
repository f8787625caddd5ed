//! What holds of the built program over its lives: killed, told to stop, started again on the same data.
//!
//! What Slack got is asserted from the simulator's ledger alone. No test sleeps: each waits for what it waits for.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bellhop;

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;

use bellhop::hosted::{Hosted, now, try_call};
use bellhop::http::{Event, Request, events, open};
use serde_json::{Value, json};

/// Reading back begins soon after a start: these tests kill often, and nothing of theirs is slow on the way.
const QUICK: &str = "[limits]\nreconcile_delay_ms = 1000\n";

const GREET: &str = "\
document: { dsl: 1.0.3, namespace: it, name: greet, version: 1.0.0 }
do:
  - greet:
      call: message.send:1@slack
      with: { connection: plus, channel: C0PLUSIT, text: '${ .text }' }
";

const TWICE: &str = "\
document: { dsl: 1.0.3, namespace: it, name: twice, version: 1.0.0 }
do:
  - first:
      call: message.send:1@slack
      with: { connection: plus, channel: C0PLUSIT, text: first }
      output: { as: . }
  - between:
      for: { each: number, in: '[range(5)]' }
      do:
        - count:
            set: { number: '${ $number }' }
  - second:
      call: message.send:1@slack
      with: { connection: plus, channel: C0PLUSIT, text: second }
";

fn hosted(configuration: &str) -> Hosted {
    let hosted = Hosted::start(configuration);
    hosted.install_slack();
    hosted.connect("plus", "workspace", "act", &json!({ "bot": "xoxb-plus" }));
    hosted.ready();
    hosted
}

fn texts(hosted: &Hosted) -> BTreeMap<String, usize> {
    let mut texts = BTreeMap::new();
    for line in hosted.ledger() {
        assert_eq!(line["method"], "chat.postMessage", "{line}");
        *texts.entry(line["args"]["text"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    texts
}

fn completed(hosted: &Hosted, run: &str) -> Value {
    let view = hosted.done("GET", &format!("/v1/runs/{run}?wait=60s"), None);
    assert_eq!(view["status"], "completed", "{view:#}\n{}", hosted.log());
    view
}

fn follow(hosted: &Hosted, run: &str, last: Option<u64>, enough: impl FnMut(&[Event]) -> bool) -> Vec<Event> {
    let headers = last.map(|id| ("Last-Event-ID".to_owned(), id.to_string())).into_iter().collect();
    let path = format!("/v1/runs/{run}/events");
    let request = Request { method: "GET", path: &path, token: &hosted.token, headers, body: Vec::new() };
    let stream = open(&hosted.address, &request).unwrap();
    assert_eq!(stream.status, 200);
    events(stream, enough)
}

#[test]
fn a_stream_goes_on_where_it_was_when_the_host_was_killed() {
    let mut hosted = hosted(QUICK);
    hosted.apply("it/twice", TWICE);
    // The second message is posted, and its answer never comes.
    let held = hosted.fault(&json!({
        "method": "chat.postMessage", "match": { "text": "second" }, "action": "accept_then_withhold",
    }));
    let run = hosted.done("POST", "/v1/workflows/it/twice/runs", Some(&json!({ "input": {} })));
    let run = run["id"].as_str().unwrap();
    let calls = |seen: &[Event]| seen.iter().filter(|e| e.kind == "call.started").count();
    let before = follow(&hosted, run, None, |seen| calls(seen) == 2);
    hosted.fired(held, 1);
    hosted.kill();
    hosted.start_host();
    let last = before.last().unwrap().id;
    let after = follow(&hosted, run, Some(last), |_| false);
    completed(&hosted, run);

    assert!(!after.is_empty());
    assert_eq!(after.last().unwrap().kind, "run.completed", "{after:#?}");
    let resumed: Vec<Event> = before.iter().chain(&after).cloned().collect();
    let ids: Vec<u64> = resumed.iter().map(|e| e.id).collect();
    assert_eq!(ids, (1..=resumed.len() as u64).collect::<Vec<_>>(), "none twice, none missing");
    // The same as for somebody who saw it all at once, in this life or the next.
    assert_eq!(follow(&hosted, run, None, |_| false), resumed);
    hosted.kill();
    hosted.start_host();
    assert_eq!(follow(&hosted, run, None, |_| false), resumed);
    // Who has seen everything is told not to come back.
    let path = format!("/v1/runs/{run}/events");
    let seen = resumed.len().to_string();
    let answer = hosted.try_call("GET", &path, None, &[("Last-Event-ID", &seen)]).unwrap();
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    assert_eq!(texts(&hosted), BTreeMap::from([("first".to_owned(), 1), ("second".to_owned(), 1)]));
}

/// One client of a round: starts runs until the host breaks; tells each text and, where it got its 202, the run.
fn trigger_until_killed(address: &str, token: &str, client: &str, told: &mpsc::Sender<(String, Option<String>)>) {
    for number in 0.. {
        let text = format!("{client}-{number}");
        let body = json!({ "input": { "text": text } });
        let path = "/v1/workflows/it/greet/runs";
        let answered = try_call(address, token, "POST", path, Some(&body), &[("Idempotency-Key", &text)]);
        let run = match &answered {
            Ok(answer) if answer.status == 202 => Some(answer.json()["id"].as_str().unwrap().to_owned()),
            // The host is not up yet: nothing was begun.
            Ok(answer) if answer.status == 503 => continue,
            Ok(answer) => panic!("{}: {}", answer.status, answer.text),
            Err(_) => None,
        };
        let broken = run.is_none();
        told.send((text, run)).unwrap();
        if broken {
            return;
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_doubled_by_ten_kills() {
    const KILLS: u64 = 10;
    const CLIENTS: usize = 8;
    let mut hosted = hosted(QUICK);
    hosted.apply("it/greet", GREET);
    let mut acknowledged: BTreeMap<String, String> = BTreeMap::new();
    let mut unanswered: Vec<String> = Vec::new();
    for round in 0..KILLS {
        let (tell, told) = mpsc::channel();
        // In odd rounds the host dies at a message that Slack has accepted or not yet accepted, in even ones at an
        // acknowledgement; each time some further.
        let action = if round % 4 == 1 { "accept_then_withhold" } else { "hold_before_accept" };
        let held = (round % 2 == 1).then(|| {
            hosted.fault(&json!({ "method": "chat.postMessage", "nth": 1 + round, "times": 3, "action": action }))
        });
        let enough = 1 + usize::try_from(round).unwrap() * 3;
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (address, token, tell) = (hosted.address.clone(), hosted.token.clone(), tell.clone());
                scope.spawn(move || trigger_until_killed(&address, &token, &format!("{round}-{client}"), &tell));
            }
            drop(tell);
            match held {
                Some(fault) => hosted.fired(fault, 1),
                None => {
                    for (text, run) in told.iter().take(enough) {
                        acknowledged.insert(text, run.expect("nobody has killed the host yet"));
                    }
                }
            }
            hosted.kill();
            for (text, run) in &told {
                match run {
                    Some(run) => drop(acknowledged.insert(text, run)),
                    None => unanswered.push(text),
                }
            }
        });
        // What the dead host had sent and Slack had not taken up is gone with it.
        hosted.no_faults();
        hosted.start_host();
    }
    hosted.ready();
    assert!(acknowledged.len() > 30, "{}", acknowledged.len());
    // Who got no answer asks again with the same key.
    for text in &unanswered {
        let body = json!({ "input": { "text": text } });
        let key = [("Idempotency-Key", text.as_str())];
        let answer = hosted.try_call("POST", "/v1/workflows/it/greet/runs", Some(&body), &key).unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text);
        acknowledged.insert(text.clone(), answer.json()["id"].as_str().unwrap().to_owned());
    }
    for run in acknowledged.values() {
        completed(&hosted, run);
    }
    let expected: BTreeMap<String, usize> = acknowledged.keys().map(|text| (text.clone(), 1)).collect();
    assert_eq!(texts(&hosted), expected, "each message once");
    println!("{} runs over {KILLS} kills, {} of them asked for again", acknowledged.len(), unanswered.len());
}

/// Requests by which the host reads a channel back.
fn read_backs(hosted: &Hosted) -> usize {
    hosted.requests().iter().filter(|line| line["method"] == "conversations.history").count()
}

#[test]
fn told_to_stop_it_lets_a_sent_call_end_and_records_it() {
    let mut hosted = hosted(QUICK);
    hosted.apply("it/twice", TWICE);
    let held = hosted.fault(&json!({ "method": "chat.postMessage", "action": "accept_then_withhold" }));
    let run = hosted.done("POST", "/v1/workflows/it/twice/runs", Some(&json!({ "input": {} })));
    let run = run["id"].as_str().unwrap().to_owned();
    hosted.fired(held, 1);
    let began = now();
    hosted.terminate();
    // It says that it is stopping for as long as it waits for the call, and begins nothing more.
    while hosted.call("GET", "/readyz", None).status == 200 {
        std::thread::yield_now();
    }
    let ready = hosted.call("GET", "/readyz", None);
    assert_eq!((ready.status, ready.json()["code"].as_str()), (503, Some("draining")));
    let refused = hosted.call("POST", "/v1/workflows/it/twice/runs", Some(&json!({ "input": {} })));
    assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some("draining")), "{}", refused.text);
    assert!(refused.header("retry-after").is_some());
    let shown = hosted.done("GET", &format!("/v1/runs/{run}"), None);
    assert_eq!(shown["status"], "running", "{shown:#}");
    hosted.release(held);
    assert_eq!(hosted.ended(), 0, "{}", hosted.log());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());

    hosted.start_host();
    completed(&hosted, &run);
    let both = BTreeMap::from([("first".to_owned(), 1), ("second".to_owned(), 1)]);
    assert_eq!(texts(&hosted), both);
    assert_eq!(read_backs(&hosted), 0, "the first life recorded the outcome: there was no doubt to end");
}

#[test]
fn told_to_stop_it_does_not_wait_for_ever_and_the_next_start_ends_the_doubt() {
    let mut hosted = hosted(QUICK);
    hosted.apply("it/twice", TWICE);
    for action in ["accept_then_withhold", "hold_before_accept"] {
        let held =
            hosted.fault(&json!({ "method": "chat.postMessage", "match": { "text": "first" }, "action": action }));
        let run = hosted.done("POST", "/v1/workflows/it/twice/runs", Some(&json!({ "input": {} })));
        let run = run["id"].as_str().unwrap().to_owned();
        hosted.fired(held, 1);
        let began = now();
        hosted.terminate();
        assert_eq!(hosted.ended(), 0, "{}", hosted.log());
        // Ten seconds are the drain's; what is over is the machine's.
        assert!(began.elapsed() < Duration::from_secs(14), "{:?}", began.elapsed());
        hosted.no_faults();
        hosted.start_host();
        let view = completed(&hosted, &run);
        let seen = follow(&hosted, &run, None, |_| false);
        assert!(seen.iter().all(|e| !e.kind.contains("park")), "{action}: {seen:#?}");
        assert_eq!(view["error"], Value::Null);
    }
    assert!(read_backs(&hosted) >= 2, "each doubt was ended by asking Slack");
    assert_eq!(texts(&hosted), BTreeMap::from([("first".to_owned(), 2), ("second".to_owned(), 2)]));
}

#[test]
fn it_is_not_ready_before_what_was_open_is_taken_up() {
    const OPEN: usize = 16;
    let mut hosted = Hosted::start("");
    hosted.ready();
    let waiting = "\
document: { dsl: 1.0.3, namespace: it, name: pause, version: 1.0.0 }
do:
  - pause:
      wait: { hours: 1 }
";
    hosted.apply("it/pause", waiting);
    // Large ones, so that taking them up takes a while.
    let body = json!({ "input": { "text": "x".repeat(900_000) } });
    let mut runs = Vec::new();
    for _ in 0..OPEN {
        let run = hosted.done("POST", "/v1/workflows/it/pause/runs", Some(&body))["id"].as_str().unwrap().to_owned();
        let suspended = hosted.done("POST", &format!("/v1/runs/{run}/suspend"), None);
        assert_eq!(suspended["status"], "suspended", "{}", suspended["status"]);
        runs.push(run);
    }
    hosted.kill();
    hosted.start_host();
    let first = hosted.call("GET", "/readyz", None);
    assert_eq!(first.status, 503, "{}", first.text);
    let problem = first.json();
    assert_eq!(problem["code"], "not-ready");
    assert_eq!(problem["detail"], "the host takes up what was open when it stopped");
    assert!(first.header("retry-after").is_some(), "{:?}", first.headers);
    // What only reads works already; what begins or changes runs does not yet.
    assert_eq!(hosted.call("GET", "/healthz", None).status, 200);
    assert_eq!(hosted.call("GET", "/v1/workflows", None).status, 200);
    let early = hosted.call("POST", "/v1/workflows/it/pause/runs", Some(&json!({ "input": {} })));
    assert!(early.status == 202 || early.json()["code"] == "not-ready", "{}", early.text);
    hosted.ready();
    let ready = hosted.call("GET", "/readyz", None);
    assert_eq!((ready.status, ready.text.as_str()), (200, "{\"status\":\"ready\"}"));
    for run in &runs {
        assert_eq!(hosted.done("GET", &format!("/v1/runs/{run}"), None)["status"], "suspended");
    }
}

#[test]
fn a_store_of_a_newer_format_is_refused_by_name_and_left_as_it_is() {
    let mut hosted = Hosted::start("");
    hosted.ready();
    hosted.terminate();
    assert_eq!(hosted.ended(), 0);
    let format = hosted.place.path("data/store/format");
    let known = std::fs::read_to_string(&format).unwrap();
    let (name, version) = known.trim().split_once(' ').unwrap();
    let newer = format!("{name} {version}7\n");
    std::fs::write(&format, &newer).unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", "data"];
    let refused = hosted.place.run(&serve);
    assert_eq!(refused.code, 70, "{}", refused.stderr);
    assert_eq!(refused.stdout, "", "it listens nowhere");
    assert!(
        refused.stderr.contains(&format!(
            "has format {version}7, this program knows formats up to {version}: use a newer bellhop"
        )),
        "{}",
        refused.stderr
    );
    let json = hosted.place.run(&[&serve[..], &["--output", "json"]].concat());
    assert_eq!((json.code, json.json()["error"]["code"].as_str()), (70, Some("store-newer")));
    assert_eq!(std::fs::read_to_string(&format).unwrap(), newer);
    // The verbs that look into a data directory say the same.
    hosted.place.write("greet.yaml", GREET);
    for verb in [&["check", "greet.yaml"][..], &["verify"]] {
        let refused = hosted.place.run(&[verb, &["--data-dir", "data", "--output", "json"]].concat());
        assert_eq!((refused.code, refused.json()["error"]["code"].as_str()), (70, Some("store-newer")), "{verb:?}");
    }
    // An older one is not converted.
    let older = version.parse::<u32>().unwrap() - 1;
    std::fs::write(&format, format!("{name} {older}\n")).unwrap();
    let refused = hosted.place.run(&[&serve[..], &["--output", "json"]].concat());
    assert_eq!((refused.code, refused.json()["error"]["code"].as_str()), (70, Some("store-older")));
    let check = ["check", "greet.yaml", "--data-dir", "data", "--output", "json"];
    assert_eq!(hosted.place.run(&check).json()["error"]["code"], "store-older");
    std::fs::write(&format, &known).unwrap();
    hosted.start_host();
    hosted.ready();
}
