//! A host on a machine whose clock is wrong at a start, by Debian's `faketime`. Steps of a clock while a host runs are the
//! engine's own tests, because `faketime` moves every clock of a process.

#![allow(clippy::disallowed_methods, reason = "the right time is that of this machine")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bellhop;

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bellhop::hosted::{GOOD, Hosted, now};
use serde_json::{Value, json};

const RUNS: &str = "/v1/workflows/it/good/runs";

/// What has a process see another time; none where this machine has no `faketime`.
fn library() -> Option<String> {
    let asked = Command::new("faketime").args(["-m", "1 second", "printenv", "LD_PRELOAD"]).output();
    let text = asked.ok().filter(|asked| asked.status.success()).map(|asked| String::from_utf8(asked.stdout).unwrap());
    if text.is_none() {
        println!("skipped: there is no faketime on this machine");
    }
    text.map(|text| text.trim().to_owned())
}

/// The same host, started anew.
fn restart(hosted: &mut Hosted, environment: &[(&str, &str)]) {
    hosted.terminate();
    assert_eq!(hosted.ended(), 0);
    hosted.start_host_with(environment);
}

/// Started anew by another clock, which it is seen to have.
fn restart_at(hosted: &mut Hosted, library: &str, shift: &str) -> Value {
    let variables = [("LD_PRELOAD", library), ("FAKETIME", shift), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
    restart(hosted, &variables);
    let clock = hosted.done("GET", "/v1/clock", None);
    let time: jiff::Timestamp = clock["time"].as_str().unwrap().parse().unwrap();
    let right = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let off = time.as_second().abs_diff(i64::try_from(right).unwrap());
    assert!(off > 86_400, "the host's own time is not shifted by {shift}: {clock}");
    clock
}

/// Waits until `/readyz` answers with this code.
fn not_ready_for(hosted: &Hosted, code: &str) -> Value {
    let end = now() + Duration::from_secs(60);
    loop {
        let answer = hosted.call("GET", "/readyz", None);
        if answer.status == 503 && answer.json()["code"] == code {
            return answer.json();
        }
        assert!(now() < end, "{}", answer.text);
        std::thread::yield_now();
    }
}

/// Starts a run under a key and waits for its end; its id, and whether it was started before.
fn started(hosted: &Hosted, key: &str) -> (String, bool) {
    let body = json!({ "input": {} });
    let answer =
        hosted.try_call("POST", &format!("{RUNS}?wait=20s"), Some(&body), &[("Idempotency-Key", key)]).unwrap();
    assert!((200..300).contains(&answer.status), "{}", answer.text);
    let run = answer.json();
    assert_eq!(run["status"], "completed", "{run}");
    (run["id"].as_str().unwrap().to_owned(), answer.header("idempotent-replayed").is_some())
}

fn good() -> Hosted {
    let hosted = Hosted::start("");
    hosted.ready();
    hosted.install_slack();
    hosted.connect("plus", "workspace", "act", &json!({ "bot": "xoxb-plus" }));
    hosted.apply("it/good", GOOD);
    hosted
}

#[test]
fn surroundings_s11_a_start_with_a_wrong_clock_forgets_nothing_and_sends_nothing_twice() {
    let Some(library) = library() else { return };
    for shift in ["+2d", "+100y", "-400d"] {
        let mut hosted = good();
        let (first, _) = started(&hosted, "first");
        let clock = restart_at(&mut hosted, &library, shift);
        assert_eq!(clock["doubted"], true, "{shift}: {clock}");
        let problem = not_ready_for(&hosted, "clock-doubted");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(clock["newestKnown"].as_str().unwrap()), "{problem}");
        // Starts and calls go on, and what was done is known.
        assert_eq!(started(&hosted, "first"), (first.clone(), true), "{shift}");
        let (second, replayed) = started(&hosted, "second");
        assert!(!replayed && second > first, "{shift}: {second} after {first}");
        assert_eq!(hosted.call("GET", "/healthz", None).status, 200);
        let log = hosted.log();
        assert_eq!(log.matches("the machine's clock is doubted").count(), 1, "{shift}: {log}");

        restart(&mut hosted, &[]);
        hosted.ready();
        for (key, run) in [("first", &first), ("second", &second)] {
            assert_eq!(started(&hosted, key), (run.clone(), true), "{shift}");
            assert_eq!(hosted.done("GET", &format!("/v1/runs/{run}"), None)["status"], "completed", "{shift}");
        }
        assert_eq!(hosted.ledger().len(), 2, "{shift}: {:?}", hosted.ledger());
    }
}

#[test]
fn surroundings_s11_a_person_confirms_a_clock_and_the_next_start_knows() {
    let Some(library) = library() else { return };
    let mut hosted = Hosted::start("");
    hosted.ready();
    restart_at(&mut hosted, &library, "+2d");
    not_ready_for(&hosted, "clock-doubted");
    let shown = hosted.run(&["clock"]);
    assert!(
        shown.stdout.contains("it is doubted: at the start it showed a time more than an hour after"),
        "{}",
        shown.stdout
    );
    assert!(shown.stdout.contains("bellhop clock confirm"), "{}", shown.stdout);
    let confirmed = hosted.run(&["clock", "confirm"]);
    assert_eq!(confirmed.code, 0, "{}", confirmed.stderr);
    assert!(confirmed.stdout.contains("confirmed: it is doubted no more"), "{}", confirmed.stdout);
    hosted.ready();
    let again = hosted.run(&["clock", "confirm", "--output", "json"]);
    assert_eq!(again.json()["wasDoubted"], false);
    // By the same clock the next start is as any other, and the right one is doubted by then.
    let clock = restart_at(&mut hosted, &library, "+2d");
    assert_eq!(clock["doubted"], false, "{clock}");
    hosted.ready();
    restart(&mut hosted, &[]);
    not_ready_for(&hosted, "clock-doubted");
    assert_eq!(hosted.done("POST", "/v1/clock/confirm", None)["doubted"], false);
    hosted.ready();
    assert!(hosted.log().contains("a person has confirmed the machine's clock"), "{}", hosted.log());
}

#[test]
fn surroundings_s11_slacks_clock_ends_a_doubt_of_a_clock_that_is_right() {
    let Some(library) = library() else { return };
    let mut hosted = good();
    restart_at(&mut hosted, &library, "-3d");
    assert_eq!(hosted.run(&["clock", "confirm"]).code, 0);
    // As after three days in which nobody ran it.
    restart(&mut hosted, &[]);
    hosted.ready();
    assert!(hosted.log().contains("Slack's clock agrees with the machine's"), "{}", hosted.log());
    restart(&mut hosted, &[]);
    assert_eq!(hosted.done("GET", "/v1/clock", None)["doubted"], false);
}
