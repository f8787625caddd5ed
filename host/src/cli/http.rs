//! Asking a host over HTTP.

use std::time::Duration;

use bellhop_core::text::shell_word;
use bellhop_engine::entropy::Entropy;
use bellhop_slack::client::{certificates, is_here};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde_json::{Value, json};

use super::away::Away;
use super::output::Failure;
use super::{Context, Settings, problem, runtime, unreachable};
use crate::serve::{PATH, socket_path};

/// The variable with the token. There is no flag: a process's arguments are seen by everybody on its machine.
const TOKEN_VARIABLE: &str = "BELLHOP_TOKEN";
/// What helps where the address of a host is none.
const ADDRESS_HELP: &str = "name it by --url or BELLHOP_URL, such as http://127.0.0.1:7420";
/// The header of such an answer.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// No answer of a host is larger; event streams have no end and are not held.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// A host answers at once, except where it was asked to wait, or compiles a plugin first.
const ANSWER_S_MAX: u64 = 120;
const _: () = assert!(bellhop_sandbox::PREPARED_S_MAX < ANSWER_S_MAX);
const CONNECT_S_MAX: u64 = 10;
/// A host that follows a run says something more often: after so long without a byte the stream is broken.
const SILENT_S_MAX: u64 = 60;
/// One event of a stream; larger ones are not made.
const EVENT_BYTES_MAX: usize = 8 << 20;

/// A host's answer that is no refusal.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Whether an earlier request with the same idempotency key is answered here once more.
    pub(crate) replayed: bool,
    /// Its body; null where it has none.
    pub(crate) body: Value,
}

/// A request to make.
#[derive(Debug, Clone)]
pub(crate) struct Ask<'a> {
    method: &'a str,
    path: &'a str,
    body: Option<(&'a str, Vec<u8>)>,
    headers: Vec<(&'static str, String)>,
}

impl<'a> Ask<'a> {
    /// One without a body.
    pub(crate) fn new(method: &'a str, path: &'a str) -> Self {
        Self { method, path, body: None, headers: Vec::new() }
    }

    /// With a JSON body.
    pub(crate) fn json(mut self, body: &Value) -> Self {
        self.body = Some(("application/json", body.to_string().into_bytes()));
        self
    }

    /// With a body of another kind.
    pub(crate) fn body(mut self, kind: &'a str, body: Vec<u8>) -> Self {
        self.body = Some((kind, body));
        self
    }

    /// With a header.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// That an address which only lies in this folder is told no secret.
pub(super) fn of_this_folder(what: &str, url: &str, flag: &str) -> Failure {
    let message =
        format!("{what} is not sent to {url}: only the bellhop.toml that lies in this folder names that address");
    let help = format!("where it is the right one, say so: {flag}, or the whole file by --config bellhop.toml");
    Failure::usage(message).with_help(help)
}

fn no_token() -> Failure {
    Failure::usage(format!("{TOKEN_VARIABLE} holds something that is no token"))
        .with_help(format!("put a token into {TOKEN_VARIABLE}: it begins with bh_; `bellhop token create` makes one"))
}

/// The way to one host.
pub(crate) struct Client {
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
    base: Url,
    /// As people name the host.
    named: String,
    token: Option<HeaderValue>,
    /// How long an answer may take.
    patience: Duration,
}

impl Client {
    /// To the host of the settings, with the environment's token.
    pub(crate) fn new(context: &Context) -> Result<Self, Failure> {
        let token = match std::env::var(TOKEN_VARIABLE) {
            Ok(token) => Some(token.trim().to_owned()).filter(|token| !token.is_empty()),
            Err(std::env::VarError::NotPresent) => None,
            Err(std::env::VarError::NotUnicode(_)) => return Err(no_token()),
        };
        Self::of(&context.settings, token.as_deref())
    }

    /// To the same host, for what needs no token.
    pub(crate) fn without_token(context: &Context) -> Result<Self, Failure> {
        Self::of(&context.settings, None)
    }

    /// The same, which waits no longer than this for an answer.
    pub(crate) fn within(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    fn of(settings: &Settings, token: Option<&str>) -> Result<Self, Failure> {
        if token.is_some() && !settings.url_is_named && !is_on_this_machine(&settings.url) {
            return Err(of_this_folder("the token", &settings.url, &format!("--url {}", shell_word(&settings.url))));
        }
        Self::to(&settings.url, token, settings.allow_http, &settings.certificates()?)
    }

    /// To the host at `url`, whose certificate `own` may have signed.
    fn to(url: &str, token: Option<&str>, allow_http: bool, own: &certificates::Own) -> Result<Self, Failure> {
        let unusable = |why: &str| Failure::usage(format!("`{url}` is no address of a host: {why}"));
        // Through a socket in the file system goes HTTP as through any other, to a name that nobody looks up.
        let path = url.strip_prefix(PATH);
        let base = Url::parse(path.map_or(url, |_| "http://localhost"));
        let base = base.map_err(|e| unusable(&e.to_string()).with_help(ADDRESS_HELP))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(unusable("it begins with http://, https:// or unix:").with_help(ADDRESS_HELP));
        }
        if base.scheme() == "http" && token.is_some() && !allow_http && !is_here(&base) {
            let help = "name it by https://, or, where the network on the way is your own, add --allow-http: the token can be read there";
            return Err(unusable("a token is sent to another machine over https").with_help(help));
        }
        let token = token
            .map(|token| {
                let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| no_token())?;
                value.set_sensitive(true);
                Ok(value)
            })
            .transpose()?;
        // An error says that there is one already, which then is the process's choice.
        let _already = rustls::crypto::ring::default_provider().install_default();
        let make = || {
            let builder = reqwest::Client::builder();
            path.map(socket_path)
                .into_iter()
                .fold(builder, reqwest::ClientBuilder::unix_socket)
                .user_agent(concat!("bellhop/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .connect_timeout(Duration::from_secs(CONNECT_S_MAX))
                .tcp_nodelay(true)
                .no_proxy()
        };
        let http = certificates::build(make, base.scheme() == "https", own)
            .map_err(|e| Failure::failed("no-client", format!("the HTTP client does not start: {e}")))?;
        let named = if path.is_some() { url.to_owned() } else { base.to_string() };
        Ok(Self { runtime: runtime()?, http, base, named, token, patience: Duration::from_secs(ANSWER_S_MAX) })
    }

    /// `GET path`.
    pub(crate) fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.ask(Ask::new("GET", path))
    }

    /// `method path` with a JSON body.
    pub(crate) fn send(&self, method: &str, path: &str, body: &Value) -> Result<Answer, Failure> {
        self.ask(Ask::new(method, path).json(body))
    }

    /// `method path` with other bytes.
    pub(crate) fn send_bytes(&self, method: &str, path: &str, kind: &str, body: Vec<u8>) -> Result<Answer, Failure> {
        self.ask(Ask::new(method, path).body(kind, body))
    }

    /// Asks, and reads the whole answer.
    ///
    /// # Errors
    /// No answer: exit code 5. A refusal: as [`problem::failure`] says.
    pub(crate) fn ask(&self, ask: Ask<'_>) -> Result<Answer, Failure> {
        self.runtime.block_on(async {
            let answered = tokio::time::timeout(self.patience, async {
                let response = self.request(ask)?.send().await.map_err(|e| self.unreachable(&e))?;
                self.whole(response).await
            });
            match answered.await {
                Ok(answered) => answered,
                Err(_) => {
                    let seconds = self.patience.as_secs();
                    Err(Failure::answer_lost(format!("{} has not answered for {seconds} s", self.named)))
                }
            }
        })
    }

    /// Starts a run, once: `key` is the caller's, and without one it has a key of its own, so that it can be asked for
    /// again where the host went away before it had answered.
    ///
    /// # Errors
    /// As [`Self::ask`]: at once as long as no answer was lost, else after ten minutes.
    pub(crate) fn start(&self, context: &Context, ask: Ask<'_>, key: Option<&str>) -> Result<Answer, Failure> {
        let own = format!("cli-{:032x}", Entropy::new().next_wide());
        let ask = ask.header("idempotency-key", key.unwrap_or(&own));
        let (mut away, mut was_lost) = (Away::default(), false);
        loop {
            match self.ask(ask.clone()) {
                // The run that an earlier request of ours has started is news to the caller.
                Ok(answer) => return Ok(Answer { replayed: answer.replayed && key.is_some() && !was_lost, ..answer }),
                Err(failure) => {
                    was_lost |= failure.is_answer_lost();
                    if !was_lost {
                        return Err(failure);
                    }
                    away.wait(context, failure)?;
                }
            }
        }
    }

    /// Reads an event stream and gives every event with its id to `each`, until `each` says that it is enough or the
    /// stream ends. True when `each` said so.
    ///
    /// # Errors
    /// As [`Self::ask`]; a stream that broke off is no error.
    pub(crate) fn events(
        &self,
        path: &str,
        after: Option<&str>,
        mut each: impl FnMut(&str, &Value) -> bool,
    ) -> Result<bool, Failure> {
        self.runtime.block_on(async {
            let mut ask = Ask::new("GET", path).header("accept", "text/event-stream");
            if let Some(after) = after {
                ask = ask.header("last-event-id", after);
            }
            let mut response = self.request(ask)?.send().await.map_err(|e| self.unreachable(&e))?;
            if !response.status().is_success() {
                return self.whole(response).await.map(|_| false);
            }
            let mut reader = EventReader::default();
            let silent = Duration::from_secs(SILENT_S_MAX);
            while let Ok(Ok(Some(chunk))) = tokio::time::timeout(silent, response.chunk()).await {
                for (id, data) in reader.read(&chunk)? {
                    if each(&id, &data) {
                        return Ok(true);
                    }
                }
            }
            Ok(false)
        })
    }

    /// Asks, and gives the answer to `each` as it comes, piece by piece, without an end to its length.
    ///
    /// # Errors
    /// As [`Self::ask`]; what `each` says; [`Failure::answer_lost`] where nothing comes for a minute.
    pub(crate) fn stream(
        &self,
        ask: Ask<'_>,
        mut each: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        self.runtime.block_on(async {
            let mut response = self.request(ask)?.send().await.map_err(|e| self.unreachable(&e))?;
            if !response.status().is_success() {
                return self.whole(response).await.map(drop);
            }
            let silent = Duration::from_secs(SILENT_S_MAX);
            loop {
                let chunk = tokio::time::timeout(silent, response.chunk()).await;
                let chunk = chunk.map_err(|_| Failure::answer_lost(format!("{} says nothing any more", self.named)))?;
                match chunk.map_err(|e| self.unreachable(&e))? {
                    Some(chunk) => each(&chunk)?,
                    None => return Ok(()),
                }
            }
        })
    }

    fn request(&self, ask: Ask<'_>) -> Result<reqwest::RequestBuilder, Failure> {
        let method: Method = ask.method.parse().map_err(|_| Failure::usage(format!("no method `{}`", ask.method)))?;
        let base = self.base.as_str().trim_end_matches('/');
        let mut request = self.http.request(method, format!("{base}{}", ask.path));
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        if let Some((kind, body)) = ask.body {
            request = request.header(CONTENT_TYPE, kind).body(body);
        }
        for (name, value) in ask.headers {
            let value = HeaderValue::from_str(&value)
                .map_err(|_| Failure::usage(format!("`{}` cannot stand in the header {name}", value.escape_debug())))?;
            request = request.header(HeaderName::from_static(name), value);
        }
        Ok(request)
    }

    async fn whole(&self, mut response: reqwest::Response) -> Result<Answer, Failure> {
        let status = response.status();
        let replayed = response.headers().get(REPLAYED).is_some_and(|value| value == "true");
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.unreachable(&e))? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Failure::failed("answer-too-large", format!("{} answers too much", self.named)));
            }
            bytes.extend_from_slice(&chunk);
        }
        let body = if bytes.is_empty() { Some(Value::Null) } else { serde_json::from_slice(&bytes).ok() };
        match body {
            Some(body) if status.is_success() => Ok(Answer { replayed, body }),
            None if status.is_success() => {
                // A definition is answered as it was written.
                let text = String::from_utf8_lossy(&bytes).into_owned();
                Ok(Answer { replayed, body: Value::String(text) })
            }
            body => Err(problem::failure(status, &body.unwrap_or(Value::Null), self.token.is_some())),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        unreachable::failure(error, &self.named, &self.base)
    }
}

/// Whether an address leads to this machine.
pub(super) fn is_on_this_machine(url: &str) -> bool {
    url.starts_with(PATH) || Url::parse(url).is_ok_and(|url| is_here(&url))
}

/// Takes an event stream apart: lines, fields, a blank line behind every event.
#[derive(Default)]
struct EventReader {
    rest: Vec<u8>,
    id: String,
    data: String,
}

impl EventReader {
    fn read(&mut self, chunk: &[u8]) -> Result<Vec<(String, Value)>, Failure> {
        self.rest.extend_from_slice(chunk);
        let mut events = Vec::new();
        let mut begin = 0;
        while let Some(length) = self.rest[begin..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&self.rest[begin..begin + length]).into_owned();
            begin += length + 1;
            self.line(line.trim_end_matches('\r'), &mut events);
        }
        self.rest.drain(..begin);
        if self.rest.len() + self.data.len() > EVENT_BYTES_MAX {
            return Err(Failure::failed("answer-too-large", "the host sends an event that does not end"));
        }
        Ok(events)
    }

    fn line(&mut self, line: &str, events: &mut Vec<(String, Value)>) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() => {
                let data = std::mem::take(&mut self.data);
                if let Ok(value) = serde_json::from_str(&data) {
                    events.push((self.id.clone(), value));
                }
            }
            "id" => value.clone_into(&mut self.id),
            "data" => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            // A comment that keeps the connection open, or a field of no use here.
            _ => {}
        }
    }
}

/// A part of an address.
pub(crate) fn segment(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    // A segment of dots alone means a folder.
    if encoded.chars().all(|c| c == '.') { encoded.replace('.', "%2E") } else { encoded }
}

/// `?name=value&…`, or nothing.
pub(crate) fn query<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let parts: Vec<String> =
        parameters.into_iter().map(|(name, value)| format!("{}={}", segment(name), segment(value))).collect();
    if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
}

/// `/v1/workflows/NAMESPACE/NAME`.
pub(crate) fn workflow_path(name: &str) -> Result<String, Failure> {
    match name.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(format!("/v1/workflows/{}/{}", segment(namespace), segment(name)))
        }
        _ => Err(Failure::usage(format!("`{name}` is no workflow: write NAMESPACE/NAME, as in its document"))),
    }
}

/// The texts of an array.
pub(crate) fn strings(value: &Value, field: &str) -> Vec<String> {
    let items = value.get(field).and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// `NAME=VALUE` flags as an object.
pub(crate) fn pairs(flag: &str, texts: &[String]) -> Result<Value, Failure> {
    let mut object = serde_json::Map::new();
    for text in texts {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, value)| !name.is_empty() && !value.is_empty())
            .ok_or_else(|| Failure::usage(format!("{flag} {text}: write NAME=VALUE")))?;
        if object.insert(name.to_owned(), json!(value)).is_some() {
            return Err(Failure::usage(format!("{flag} {text}: `{name}` stands there twice")));
        }
    }
    Ok(Value::Object(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn author_d8_an_address_that_only_lies_in_a_folder_gets_no_token() {
        let global =
            super::super::flags::Global { config: None, data_dir: None, url: None, allow_http: false, output: None };
        let mut settings = Settings::gather(&global).unwrap();
        settings.url_is_named = false;
        for (url, token, sent) in [
            ("https://elsewhere.example/a'b", Some("bh_1"), false),
            ("https://elsewhere.example", None, true),
            ("http://127.0.0.1:7420", Some("bh_1"), true),
        ] {
            settings.url = url.to_owned();
            match Client::of(&settings, token) {
                Ok(_) => assert!(sent, "{url}"),
                Err(failure) => {
                    assert!(!sent, "{url}: {failure:?}");
                    assert!(failure.help.unwrap().contains(r"--url 'https://elsewhere.example/a'\''b'"));
                }
            }
        }
        (settings.url, settings.url_is_named) = ("https://elsewhere.example".to_owned(), true);
        assert!(Client::of(&settings, Some("bh_1")).is_ok());
    }

    #[test]
    fn parts_of_addresses_cannot_become_other_addresses() {
        assert_eq!(segment("a b/../c?d#e%"), "a%20b%2F..%2Fc%3Fd%23e%25");
        assert_eq!(segment(".."), "%2E%2E");
        assert_eq!(query([("grant", "chat.postMessage@hq:#it-*")]), "?grant=chat.postMessage%40hq%3A%23it-%2A");
        assert_eq!(workflow_path("it/send").ok().as_deref(), Some("/v1/workflows/it/send"));
        for wrong in ["it", "/x", "it/", "a/b/c"] {
            assert!(workflow_path(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text =
            ": hello\n\nid: 1\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\nevent: x\nid: 2\ndata: {\"b\": \"\u{e9}\"}\n\n";
        for length in 1..text.len() {
            let mut reader = EventReader::default();
            let mut events = Vec::new();
            for chunk in text.as_bytes().chunks(length) {
                events.extend(reader.read(chunk).unwrap());
            }
            assert_eq!(events, [("1".into(), json!({"a": 1})), ("2".into(), json!({"b": "\u{e9}"}))], "{length}");
        }
    }

    #[test]
    fn a_token_goes_to_this_machine_or_over_tls() {
        for url in ["http://127.0.0.1:1", "http://localhost", "http://[::1]:7", "https://bellhop.example"] {
            assert!(Client::to(url, Some("bh_x"), false, &certificates::Own::default()).is_ok(), "{url}");
        }
        assert!(Client::to("http://bellhop.example", Some("bh_x"), false, &certificates::Own::default()).is_err());
        assert!(Client::to("http://bellhop.example", Some("bh_x"), true, &certificates::Own::default()).is_ok());
        assert!(Client::to("http://bellhop.example", None, false, &certificates::Own::default()).is_ok());
        assert!(Client::to("ftp://x", None, false, &certificates::Own::default()).is_err());
    }
}
