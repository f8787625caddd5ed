//! `bellhop slack-simulator` as a process: it says where it is, answers, writes its books, and ends when asked to.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bellhop;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use bellhop::Place;

fn call(address: &str, method: &str, token: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!(
        "POST /api/{method} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn it_answers_writes_its_books_and_ends_when_asked_to() {
    let place = Place::new();
    let (ledger, requests) = (place.path("ledger.jsonl"), place.path("requests.jsonl"));
    let mut simulator = place.start(&["slack-simulator", "--ledger", &ledger, "--requests", &requests]);
    let url = simulator.line();
    let address = url.strip_prefix("http://").unwrap_or_else(|| panic!("{url}"));
    let answer = call(address, "chat.postMessage", "xoxb-plus", "channel=C0PLUSGENERAL&text=hello");
    assert!(answer.contains("\"ok\":true"), "{answer}");
    // The ledger is written before the answer.
    let written = std::fs::read_to_string(&ledger).unwrap();
    let lines: Vec<Value> = written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1, "{written}");
    assert!(!std::fs::read_to_string(&requests).unwrap().is_empty());
    let asked = std::process::Command::new("kill").args(["-TERM", &simulator.pid().to_string()]).status().unwrap();
    assert!(asked.success());
    assert_eq!(simulator.wait(), 0);
}

#[test]
fn what_cannot_be_listened_on_or_scaled_is_said() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let done = place.run(&["slack-simulator", "--listen", &address]);
    assert_eq!(done.code, 1, "{}", done.stderr);
    assert!(done.stderr.contains(&address), "{}", done.stderr);
    let done = place.run(&["slack-simulator", "--budget-scale", "0"]);
    assert_eq!(done.code, 2, "{}", done.stderr);
}
