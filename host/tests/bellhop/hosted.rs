//! A simulator and a host before it, which can be killed and started again on the same data.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http::{self, Answer, Request};
use super::{Done, Place, Started};

/// Slack's budget, multiplied: these tests are not about it.
const BUDGET_SCALE: &str = "1000";

/// A workflow that works, for whoever shows that the host goes on; its connection is `plus`.
#[allow(dead_code, reason = "not every test of this kind runs it")]
pub(crate) const GOOD: &str = "\
document: { dsl: 1.0.3, namespace: it, name: good, version: 1.0.0 }
do:
  - greet:
      call: message.send:1@slack
      with: { connection: plus, channel: C0PLUSIT, text: Good }
";

pub(crate) struct Hosted {
    pub(crate) place: Place,
    /// `host:port` of the host.
    pub(crate) address: String,
    pub(crate) token: String,
    /// `host:port` of the simulator.
    pub(crate) slack: String,
    /// Where the host keeps everything, in the place.
    pub(crate) data: String,
    host: Option<Started>,
    _simulator: Started,
    /// Variables that the host is started with.
    environment: Vec<(String, String)>,
}

/// A moment, for spans that a test measures.
#[allow(clippy::disallowed_methods, reason = "a test of the running program measures real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

fn address(url: &str) -> String {
    url.strip_prefix("http://").unwrap_or_else(|| panic!("{url}")).to_owned()
}

impl Hosted {
    /// Starts both; `configuration` becomes the host's `bellhop.toml`.
    pub(crate) fn start(configuration: &str) -> Self {
        Self::start_with(configuration, &[])
    }

    /// The same, with variables of the host's environment.
    pub(crate) fn start_with(configuration: &str, environment: &[(&str, &str)]) -> Self {
        let environment = environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let place = Place::new();
        place.write("bellhop.toml", configuration);
        let (ledger, requests) = (place.path("ledger.jsonl"), place.path("requests.jsonl"));
        let mut simulator = place.start(&[
            "slack-simulator",
            "--budget-scale",
            BUDGET_SCALE,
            "--ledger",
            &ledger,
            "--requests",
            &requests,
        ]);
        let slack = address(&simulator.line());
        let (address, token) = (String::new(), String::new());
        let data = "data".to_owned();
        let mut hosted = Self { place, address, token, slack, data, host: None, _simulator: simulator, environment };
        hosted.start_host();
        hosted
    }

    /// Starts the host; returns once it says where it listens, which is before it is ready.
    pub(crate) fn start_host(&mut self) {
        self.start_host_with(&[]);
    }

    /// The same, with variables of its own.
    pub(crate) fn start_host_with(&mut self, environment: &[(&str, &str)]) {
        let slack_url = format!("http://{}", self.slack);
        let arguments = [
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--slack-url",
            &slack_url,
            "--data-dir",
            &self.data,
            "--budget-scale",
            BUDGET_SCALE,
        ];
        let kept = self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let environment: Vec<(&str, &str)> = kept.chain(environment.iter().copied()).collect();
        let mut host = self.place.start_with(&arguments, &environment);
        loop {
            let line = host.line();
            if let Some(token) = line.strip_prefix("operator token (shown this once): ") {
                token.clone_into(&mut self.token);
            }
            if let Some(url) = line.strip_prefix("bellhop listens on ") {
                self.address = address(url);
                break;
            }
        }
        self.host = Some(host);
    }

    /// Waits until the host is ready.
    pub(crate) fn ready(&self) {
        let end = now() + Duration::from_secs(60);
        while self.call("GET", "/readyz", None).status != 200 {
            assert!(now() < end, "the host is not ready after a minute");
            std::thread::yield_now();
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        // Dropping it kills it and waits.
        drop(self.host.take());
    }

    /// The host's process, while there is one.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.host.as_ref().map(Started::pid)
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.host.as_ref().unwrap().terminate();
    }

    /// Waits for the host's end: its exit code.
    pub(crate) fn ended(&mut self) -> i32 {
        self.host.take().unwrap().wait()
    }

    /// What the host wrote to standard error, over all its lives.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.place.path("stderr.log")).unwrap_or_default()
    }

    /// A request to the host; panics when it breaks.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.try_call(method, path, body, &[]).unwrap_or_else(|e| panic!("{method} {path}: {e}\n{}", self.log()))
    }

    /// A request to the host.
    pub(crate) fn try_call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> std::io::Result<Answer> {
        try_call(&self.address, &self.token, method, path, body, headers)
    }

    /// A request that has to succeed; its JSON.
    pub(crate) fn done(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let answer = self.call(method, path, body);
        assert!((200..300).contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.text);
        if answer.text.is_empty() { Value::Null } else { answer.json() }
    }

    /// A request with a body that is no JSON.
    pub(crate) fn send(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> Answer {
        let headers = vec![("Content-Type".to_owned(), kind.to_owned())];
        let request = Request { method, path, token: &self.token, headers, body: body.to_vec() };
        http::send(&self.address, &request).unwrap_or_else(|e| panic!("{method} {path}: {e}\n{}", self.log()))
    }

    /// A verb that asks this host.
    pub(crate) fn run(&self, arguments: &[&str]) -> Done {
        let url = format!("http://{}", self.address);
        self.place.run_with(arguments, &[("BELLHOP_URL", &url), ("BELLHOP_TOKEN", &self.token)])
    }

    /// Installs the Slack actions.
    pub(crate) fn install_slack(&self) {
        let bytes = std::fs::read(super::slack_plugin()).unwrap();
        let answer = self.send("POST", "/v1/plugins?grantAll=true", "application/wasm", &bytes);
        assert_eq!(answer.status, 201, "{}", answer.text);
    }

    pub(crate) fn connect(&self, name: &str, kind: &str, permission: &str, tokens: &Value) {
        let body = json!({ "name": name, "kind": kind, "permission": permission, "tokens": tokens });
        self.done("POST", "/v1/connections", Some(&body));
    }

    pub(crate) fn apply(&self, name: &str, text: &str) {
        let answer = self.send("PUT", &format!("/v1/workflows/{name}"), "application/yaml", text.as_bytes());
        assert!((200..300).contains(&answer.status), "{}", answer.text);
    }

    /// Every change that Slack accepted, from the simulator's file.
    pub(crate) fn ledger(&self) -> Vec<Value> {
        lines(&self.place.path("ledger.jsonl"))
    }

    /// Two lines for every request that Slack got, from the simulator's file.
    pub(crate) fn requests(&self) -> Vec<Value> {
        lines(&self.place.path("requests.jsonl"))
    }

    fn control(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let answer = try_call(&self.slack, "", method, &format!("/_sim/{path}"), body, &[]).unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()
    }

    /// Orders a fault of the simulator; its number.
    pub(crate) fn fault(&self, rule: &Value) -> u64 {
        self.control("POST", "faults", Some(rule))["id"].as_u64().unwrap()
    }

    /// Waits until a fault has happened so often.
    pub(crate) fn fired(&self, fault: u64, count: u64) {
        let path = format!("signals/wait?fault={fault}&count={count}&timeout_ms=60000");
        let seen = self.control("GET", &path, None);
        assert!(seen.get("timed_out").is_none(), "the fault {fault} happened {} times", seen["fired"]);
    }

    /// Lets the calls go on that a fault holds.
    pub(crate) fn release(&self, fault: u64) {
        self.control("POST", &format!("faults/{fault}/release"), None);
    }

    /// Takes all faults away; calls that they hold are cut.
    pub(crate) fn no_faults(&self) {
        self.control("DELETE", "faults", None);
    }
}

fn lines(path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// A JSON request to `address`.
pub(crate) fn try_call(
    address: &str,
    token: &str,
    method: &str,
    path: &str,
    body: Option<&Value>,
    headers: &[(&str, &str)],
) -> std::io::Result<Answer> {
    let mut headers: Vec<_> = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    if body.is_some() {
        headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
    }
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    http::send(address, &Request { method, path, token, headers, body })
}
