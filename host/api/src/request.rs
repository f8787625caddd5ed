//! A request as the handlers get it: authorised, its body not yet read.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, Uri};
use http_body_util::BodyExt as _;
use serde_json::Value;

use bellhop_core::definition::WorkflowName;
use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;

use super::form::{self, Form};
use super::params::Params;
use super::problem::{self, Problem};
use super::{App, answer, auth};
use bellhop_engine::setup::definitions::Expect;

/// What forms of pages are sent as, and what `curl -d` says.
const FORMS: [&str; 2] = ["application/x-www-form-urlencoded", "multipart/form-data"];
const FORM_REMEDY: &str = "send the fields as one JSON object, with `Content-Type: application/json`; `curl --json` does, and `curl -d` sends a form";

/// What a JSON body is sent as.
pub(super) const JSON: [&str; 1] = ["application/json"];

/// Whether a caller takes one of these types; one that says nothing takes all.
pub(super) fn accepts(headers: &HeaderMap, kinds: &[&str]) -> bool {
    let mut said = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    let takes = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        // `q=0`, `q=0.0`: anything but this.
        let refuses = parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32)));
        let fits = |kind: &&str| {
            let whole = kind.split_once('/').map_or("", |(whole, _)| whole);
            media == "*/*" || media == **kind || media.strip_suffix("/*") == Some(whole)
        };
        !refuses && kinds.iter().any(fits)
    };
    said.peek().is_none() || said.flat_map(|value| value.split(',')).any(takes)
}

/// See the module.
pub(super) struct Request {
    /// What all requests share.
    pub(super) app: Arc<App>,
    /// Who asks.
    pub(super) caller: auth::Caller,
    /// The headers.
    pub(super) headers: HeaderMap,
    pub(super) path: Vec<(String, String)>,
    pub(super) uri: Uri,
    pub(super) body: Body,
}

impl Request {
    /// The part of the address that the route calls `name`.
    pub(super) fn part(&self, name: &str) -> &str {
        self.path.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value.as_str())
    }

    /// The workflow that the address names. Whether it exists is another question.
    pub(super) fn workflow(&self) -> WorkflowName {
        WorkflowName { namespace: self.part("namespace").to_owned(), name: self.part("name").to_owned() }
    }

    /// The run that the address names. A text that is no run's id names no run.
    pub(super) fn run(&self) -> Result<RunId, Problem> {
        self.part("id").parse().map_err(|error: bellhop_core::id::Error| {
            Problem::new(problem::RUN_UNKNOWN, format!("there is no such run: {error}"))
        })
    }

    /// The query, of which only `known` may be there.
    pub(super) fn params(&self, known: &'static [&'static str]) -> Result<Params, Problem> {
        Params::read(&self.uri, known)
    }

    /// A header that can stand there once.
    pub(super) fn header(&self, name: &HeaderName) -> Result<Option<&str>, Problem> {
        let mut values = self.headers.get_all(name).iter();
        let first = values.next();
        if values.next().is_some() {
            return Err(Problem::new(problem::REQUEST_INVALID, format!("the header `{name}` stands more than once")));
        }
        first
            .map(|value| {
                value.to_str().map_err(|_| {
                    Problem::new(
                        problem::REQUEST_INVALID,
                        format!("the header `{name}` has characters that are not ASCII"),
                    )
                })
            })
            .transpose()
    }

    /// What `If-Match` and `If-None-Match` expect, where `current` is there now; none where that is not what they expect.
    pub(super) fn expects(&self, current: Option<Digest>) -> Result<Option<Expect>, Problem> {
        let invalid = |detail: &str| Problem::new(problem::REQUEST_INVALID, detail);
        match (self.header(&IF_MATCH)?, self.header(&IF_NONE_MATCH)?) {
            (None, None) => Ok(Some(Expect::Any)),
            (None, Some("*")) => Ok(Some(Expect::None)),
            (None, Some(_)) => Err(invalid("here, `If-None-Match` is `*`: that there is none yet")),
            (Some(_), Some(_)) => Err(invalid("`If-Match` and `If-None-Match` exclude each other")),
            // Compared again where the version is written.
            (Some(tags), None) => Ok(current.filter(|current| answer::names(tags, *current)).map(Expect::Latest)),
        }
    }

    /// Whether the caller asks for `kind` and not for `other` as well.
    pub(super) fn prefers(&self, kind: &str, other: &str) -> bool {
        let accepts = |wanted: &str| {
            self.headers
                .get_all(ACCEPT)
                .iter()
                .filter_map(|v| v.to_str().ok())
                .flat_map(|v| v.split(','))
                .any(|item| item.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case(wanted)))
        };
        accepts(kind) && !accepts(other)
    }

    /// The body, at most `bytes_max` of it, if it arrives in time. A body that says that it is longer is not read at all.
    pub(super) async fn bytes(&mut self, bytes_max: u64) -> Result<Bytes, Problem> {
        let too_large = || {
            Problem::new(problem::BODY_TOO_LARGE, format!("this route takes bodies of at most {bytes_max} bytes"))
                .with("bytes_max", bytes_max)
        };
        self.must_be_plain()?;
        let announced =
            self.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
        if announced.is_some_and(|bytes| bytes > bytes_max) {
            return Err(too_large());
        }
        let limits = &self.app.engine.services.limits;
        let span = std::time::Duration::from_millis(limits.body_ms_max);
        // A large body has its time again for each part of the size that an ordinary body may have.
        let part = limits.body_bytes_max;
        let mut deadline = self.app.engine.services.clock.sleep(span);
        let mut in_part = 0_u64;
        let mut read = Vec::new();
        loop {
            let frame = tokio::select! {
                frame = self.body.frame() => frame,
                () = &mut deadline => {
                    let detail = format!("{} bytes arrived in time and then no more", read.len());
                    return Err(Problem::new(problem::BODY_TIMEOUT, detail));
                }
            };
            let Some(frame) = frame else { return Ok(read.into()) };
            let frame = frame.map_err(|error| {
                tracing::debug!(%error, "a body ended early");
                Problem::new(problem::BODY_MALFORMED, "the body ended before it was whole")
            })?;
            // Trailers are not read.
            let Ok(data) = frame.into_data() else { continue };
            if read.len() as u64 + data.len() as u64 > bytes_max {
                return Err(too_large());
            }
            read.extend_from_slice(&data);
            in_part += data.len() as u64;
            if in_part > part {
                in_part = 0;
                deadline = self.app.engine.services.clock.sleep(span);
            }
        }
    }

    /// That the body, if there is one, says that it is one of these types, in UTF-8; what says nothing is taken for one.
    pub(super) fn must_be(&self, kinds: &[&str]) -> Result<(), Problem> {
        let Some(said) = self.header(&CONTENT_TYPE)? else { return Ok(()) };
        let refused = |what: &str| {
            let detail = format!("{what}; this route takes `{}`", kinds.join("`, `"));
            Problem::new(problem::MEDIA_TYPE_UNSUPPORTED, detail)
        };
        let mut parts = said.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        if !kinds.contains(&kind.as_str()) {
            let shown: String = kind.chars().take(64).collect();
            let problem = refused(&format!("the body is sent as `{shown}`"));
            return Err(if FORMS.contains(&kind.as_str()) { problem.with_remedy(FORM_REMEDY) } else { problem });
        }
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim().trim_matches('"').to_ascii_lowercase();
            if name.trim().eq_ignore_ascii_case("charset") && !matches!(value.as_str(), "utf-8" | "utf8" | "us-ascii") {
                let shown: String = value.chars().take(64).collect();
                let what = format!("the body is sent in the character set `{shown}`, and texts are read as UTF-8");
                return Err(refused(&what).with_remedy("send it as UTF-8, with that character set or without any"));
            }
        }
        Ok(())
    }

    /// That nothing is to be undone to the body before it can be read.
    fn must_be_plain(&self) -> Result<(), Problem> {
        for coding in self.headers.get_all(CONTENT_ENCODING) {
            let coding: String = coding.to_str().unwrap_or("?").trim().chars().take(64).collect();
            if !coding.eq_ignore_ascii_case("identity") {
                let detail =
                    format!("the body is sent with `Content-Encoding: {coding}`; bodies are read as `identity`");
                let remedy = "send the body as it is, without compression and without `Content-Encoding`";
                return Err(Problem::coding(detail).with_remedy(remedy));
            }
        }
        Ok(())
    }

    /// The body of an ordinary request that is JSON, as it came.
    pub(super) async fn json_bytes(&mut self) -> Result<Bytes, Problem> {
        self.must_be(&JSON)?;
        self.ordinary().await
    }

    /// The body of an ordinary request.
    pub(super) async fn ordinary(&mut self) -> Result<Bytes, Problem> {
        let bytes_max = self.app.engine.services.limits.body_bytes_max;
        self.bytes(bytes_max).await
    }

    /// The body as JSON.
    pub(super) async fn json(&mut self) -> Result<Value, Problem> {
        let bytes = self.json_bytes().await?;
        form::parse(&bytes)
    }

    /// The body as an object of which only the fields `known` may be there.
    pub(super) async fn form(&mut self, known: &'static [&'static str]) -> Result<Form, Problem> {
        Form::of(self.json().await?, known)
    }

    /// As [`Self::form`]; no body is as good as `{}`.
    pub(super) async fn form_or_nothing(&mut self, known: &'static [&'static str]) -> Result<Form, Problem> {
        let bytes = self.ordinary().await?;
        if !bytes.is_empty() {
            self.must_be(&JSON)?;
        }
        if bytes.is_empty() {
            return Form::of(Value::Object(serde_json::Map::new()), known);
        }
        Form::of(form::parse(&bytes)?, known)
    }
}
