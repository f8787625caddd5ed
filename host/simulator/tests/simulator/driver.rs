//! A simulator and a client for it.

use bellhop_simulator::{Clock, Options, Running};
use serde_json::{Value, json};

/// The manual clock's start: the first second of 2026.
pub(crate) const START_MS: u64 = 1_767_225_600_000;

pub(crate) struct Slack {
    pub(crate) running: Running,
    pub(crate) client: reqwest::Client,
}

pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Slack {
    /// A fresh world, a clock that stands still.
    pub(crate) async fn start() -> Self {
        Self::with(Options { clock: Clock::manual(START_MS), ..Options::default() }).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        // The client wants a provider of cryptography even where nothing is encrypted.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let running = bellhop_simulator::start(options).await.unwrap();
        Self { running, client: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.address)
    }

    /// A Web API call with a form, nested values as JSON in strings, as the Node client sends it.
    pub(crate) async fn call(&self, token: &str, method: &str, arguments: Value) -> Answered {
        self.form(token, method, arguments).await.unwrap()
    }

    pub(crate) async fn form(&self, token: &str, method: &str, arguments: Value) -> Result<Answered, reqwest::Error> {
        let pairs: Vec<String> = arguments
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                format!("{}={}", encode(name), encode(&text))
            })
            .collect();
        let mut request = self
            .client
            .post(self.url(&format!("/api/{method}")))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(pairs.join("&"));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        answered(request.send().await?).await
    }

    /// Any request; a null body is none.
    pub(crate) async fn http(&self, token: &str, verb: &str, path: &str, body: Value) -> Answered {
        let mut request = self.client.request(verb.parse().unwrap(), self.url(path));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if !body.is_null() {
            request = request.header("content-type", "application/json; charset=utf-8").body(body.to_string());
        }
        answered(request.send().await.unwrap()).await.unwrap()
    }

    pub(crate) async fn fault(&self, rule: Value) -> u64 {
        let answer = self.http("", "POST", "/_sim/faults", rule).await;
        answer.body["id"].as_u64().unwrap_or_else(|| panic!("{}", answer.body))
    }

    /// Waits until the fault has happened.
    pub(crate) async fn happened(&self, fault: u64) {
        let answer =
            self.http("", "GET", &format!("/_sim/signals/wait?fault={fault}&timeout_ms=20000"), Value::Null).await;
        assert_eq!(answer.body["timed_out"], Value::Null, "fault {fault} did not happen");
    }

    pub(crate) async fn edit(&self, edits: Value) -> Value {
        let answer = self.http("", "POST", "/_sim/world", edits).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }

    pub(crate) async fn advance(&self, ms: u64) {
        let answer = self.http("", "POST", "/_sim/clock", json!({"advance_ms": ms})).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

pub(crate) async fn answered(response: reqwest::Response) -> Result<Answered, reqwest::Error> {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await?;
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok(Answered { status, headers, body })
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}
