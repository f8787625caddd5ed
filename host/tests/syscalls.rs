//! What the kernel saw of a host: nothing leaves it before what it depends on is on the disk.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bellhop;

use bellhop::hosted::{Hosted, try_call};
use bellhop::traced::{self, TEXT, WORKFLOW};
use serde_json::json;

#[test]
fn a_run_is_on_the_disk_before_its_202_and_an_intent_before_its_request() {
    if !traced::is_possible() {
        println!("skipped: there is no strace here, or it may not watch");
        return;
    }
    let mut hosted = Hosted::start("");
    hosted.ready();
    hosted.install_slack();
    hosted.connect("plus", "workspace", "act", &json!({ "bot": "xoxb-plus" }));
    hosted.apply(WORKFLOW, TEXT);
    hosted.terminate();
    assert_eq!(hosted.ended(), 0);

    let (calls, slack) = (hosted.place.path("calls"), format!("http://{}", hosted.slack));
    let serve = ["serve", "--listen", "127.0.0.1:0", "--slack-url", &slack, "--data-dir", "data"];
    let mut watched = traced::start(&hosted.place, &calls, &serve, &[]);
    let address = loop {
        let line = watched.line();
        if let Some(url) = line.strip_prefix("bellhop listens on http://") {
            break url.to_owned();
        }
    };
    let path = format!("/v1/workflows/{WORKFLOW}/runs");
    let run = loop {
        let body = json!({ "input": traced::input() });
        let answer = try_call(&address, &hosted.token, "POST", &path, Some(&body), &[]).unwrap();
        if answer.status != 503 {
            assert_eq!(answer.status, 202, "{}", answer.text);
            break answer.json()["id"].as_str().unwrap().to_owned();
        }
    };
    let view = try_call(&address, &hosted.token, "GET", &format!("/v1/runs/{run}?wait=60s"), None, &[]).unwrap();
    assert_eq!(view.json()["status"], "completed", "{}", view.text);
    watched.terminate();
    watched.wait();

    let trace = traced::calls_in(&calls).unwrap();
    traced::both(&trace).unwrap();
    // The same calls prove nothing if one synchronisation is taken away, or comes too early.
    let without: String = trace.lines().filter(|l| !l.contains("sync(")).map(|l| format!("{l}\n")).collect();
    assert!(
        traced::both(&without).unwrap_err().contains("no synchronisation"),
        "a trace without any is taken for a proof"
    );
    let (syncs, rest): (Vec<&str>, Vec<&str>) = trace.lines().partition(|l| l.contains("sync"));
    let early = [syncs, rest].concat().join("\n");
    assert!(traced::both(&early).is_err(), "a trace in which they come first is taken for a proof");
}
