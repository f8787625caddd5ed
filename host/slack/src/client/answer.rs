//! What Slack's answer, or the lack of one, says: carried out, refused, surely not carried out, or unknown.

use std::collections::BTreeSet;

use bellhop_core::json;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use serde_json::Value;

use super::network::Fault;
use super::retry_after;
use super::secret::{self, Secret};
use crate::catalog::{Method, Transport};

/// Slack answered: the request was carried out, or refused in a way that says that it was not.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Whether it was carried out.
    pub ok: bool,
    /// Slack's code when it was not; for SCIM the status as text (`409`).
    pub error: Option<String>,
    /// The whole body, without tokens. Null where SCIM answers nothing.
    pub body: Value,
    /// The scope that Slack wanted (`missing_scope`).
    pub needed: Option<String>,
    /// The scopes that the token has (`missing_scope`).
    pub provided: Option<String>,
    /// The size of the body on the wire.
    pub bytes: u64,
    /// The scopes of the token, where the answer names them (`X-OAuth-Scopes`).
    pub scopes: Option<BTreeSet<String>>,
    /// Slack's own id of the request, for a letter to their support.
    pub request_id: Option<String>,
}

/// There is no answer to go by. The two cases differ in what the caller does next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Slack has surely not carried it out: record it as not sent; the next send has a new intent under the same key.
    #[error("not carried out: {reason}")]
    NotSent {
        /// Why.
        reason: NotSent,
        /// How long to wait, where Slack said so or must be assumed to have.
        retry_after_ms: Option<u64>,
    },
    /// Slack may have carried it out: a write is resolved by its rule before anything is sent again.
    #[error("perhaps carried out: {reason}")]
    Unknown {
        /// What was seen last.
        reason: Unknown,
    },
}

/// Why a request was surely not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// It cannot be made of these arguments, and never will.
    #[error("{0}")]
    Arguments(String),
    /// HTTP 429, or `ratelimited`.
    #[error("Slack's rate limit")]
    RateLimited,
    /// Slack says that it did nothing for now.
    #[error("Slack answered `{0}`")]
    Unavailable(String),
    /// No connection came about.
    #[error("{0}")]
    Network(Box<Fault>),
}

impl NotSent {
    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn may_succeed_later(&self) -> bool {
        !matches!(self, Self::Arguments(_))
    }
}

/// What was seen last of a request whose outcome is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// No whole answer came: nothing until the deadline, or the connection was cut.
    #[error("{0}")]
    Network(Box<Fault>),
    /// A status that says nothing about what was done.
    #[error("HTTP status {0}")]
    Status(u16),
    /// The answer is not in Slack's form.
    #[error("an answer with HTTP status {0} that is not in Slack's form")]
    Unreadable(u16),
    /// The answer is longer than we read.
    #[error("an answer of more than {bytes_max} bytes")]
    TooLarge {
        /// The limit.
        bytes_max: u64,
    },
    /// Slack itself says that part of it may have happened.
    #[error("Slack answered `{0}`")]
    Slack(String),
}

impl Failure {
    pub(super) fn arguments(why: impl Into<String>) -> Self {
        Self::NotSent { reason: NotSent::Arguments(why.into()), retry_after_ms: None }
    }

    pub(super) const fn unknown(reason: Unknown) -> Self {
        Self::Unknown { reason }
    }

    /// Whether a read that failed so may succeed later though nobody does anything about it: the network, a limit of so
    /// many in a time, trouble of Slack's own. A request that cannot be made, and an answer that is too long, fail again.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::NotSent { reason, .. } => reason.may_succeed_later(),
            Self::Unknown { reason: Unknown::TooLarge { .. } } => false,
            Self::Unknown { reason: Unknown::Status(status) } => *status >= 500,
            Self::Unknown { reason: Unknown::Network(_) | Unknown::Unreadable(_) | Unknown::Slack(_) } => true,
        }
    }

    /// How long whoever refused wants to be left alone, where that is known.
    #[must_use]
    pub const fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::NotSent { retry_after_ms, .. } => *retry_after_ms,
            Self::Unknown { .. } => None,
        }
    }

    /// What failed on the way, where that is why there is no answer.
    #[must_use]
    pub fn network(&self) -> Option<&Fault> {
        match self {
            Self::NotSent { reason: NotSent::Network(fault), .. }
            | Self::Unknown { reason: Unknown::Network(fault) } => Some(fault),
            _ => None,
        }
    }

    /// Of an error of the HTTP client, which is `fault`. Only a connection that never came about is surely nothing: what
    /// else fails may fail after bytes have left.
    pub(super) fn of_transport(error: &reqwest::Error, fault: Fault) -> Self {
        let fault = Box::new(fault);
        if error.is_connect() {
            return Self::NotSent { reason: NotSent::Network(fault), retry_after_ms: None };
        }
        Self::unknown(Unknown::Network(fault))
    }
}

/// Errors that say that nothing was done, at any status.
const NOT_DONE: [&str; 2] = ["service_unavailable", "team_added_to_org"];
/// Spellings that Slack's documentation has of "too many requests".
const RATE_LIMITED: [&str; 3] = ["ratelimited", "rate_limited", "ratelimit"];
/// Errors that say that something may have been done, at any status.
const PERHAPS_DONE: [&str; 3] = ["fatal_error", "internal_error", "request_timeout"];
/// Statuses with which SCIM refuses.
const SCIM_REFUSES: [u16; 5] = [400, 401, 403, 404, 409];

/// Judges a whole answer.
pub(super) fn judge(
    method: &Method,
    status: u16,
    headers: &HeaderMap,
    bytes: &[u8],
    token: &Secret,
) -> Result<Answer, Failure> {
    // Everything that Slack says goes through here first: from here on there is no token in it.
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(|text| secret::clean(text, token));
    let wait = || retry_after::parse(header(RETRY_AFTER.as_str()).as_deref(), header(DATE.as_str()).as_deref());
    let body: Option<Value> = serde_json::from_slice(&json::with_numbers_as_text(bytes)).ok().map(|mut body| {
        secret::strip(&mut body, token);
        body
    });
    let said = body.as_ref().and_then(|b| b.get("error")).and_then(Value::as_str);

    if status == 429 || said.is_some_and(|e| RATE_LIMITED.contains(&e)) {
        return Err(Failure::NotSent { reason: NotSent::RateLimited, retry_after_ms: Some(wait()) });
    }
    if let Some(error) = said.filter(|e| NOT_DONE.contains(e)) {
        let reason = NotSent::Unavailable(error.to_owned());
        return Err(Failure::NotSent { reason, retry_after_ms: header(RETRY_AFTER.as_str()).map(|_| wait()) });
    }
    if let Some(error) = said.filter(|e| PERHAPS_DONE.contains(e)) {
        return Err(Failure::unknown(Unknown::Slack(error.to_owned())));
    }
    if status >= 500 {
        return Err(Failure::unknown(Unknown::Status(status)));
    }
    let (ok, error, body) = match method.transport {
        Transport::Web => envelope(status, body)?,
        Transport::Audit => entries(status, body)?,
        Transport::Scim => resource(method, status, bytes, body)?,
    };
    let text = |field: &str| body.get(field).and_then(Value::as_str).map(str::to_owned);
    let (needed, provided) = (text("needed"), text("provided"));
    Ok(Answer {
        status,
        ok,
        error,
        needed,
        provided,
        body,
        bytes: bytes.len() as u64,
        scopes: header("x-oauth-scopes")
            .map(|list| list.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()),
        request_id: header("x-slack-req-id").map(|id| id.chars().take(128).collect()),
    })
}

type Judged = (bool, Option<String>, Value);

fn envelope(status: u16, body: Option<Value>) -> Result<Judged, Failure> {
    let unreadable = || Failure::unknown(Unknown::Unreadable(status));
    let body = body.ok_or_else(unreadable)?;
    match body.get("ok").and_then(Value::as_bool) {
        Some(true) if status < 300 => Ok((true, None, body)),
        Some(false) => {
            let error = body.get("error").and_then(Value::as_str).map_or_else(|| unnamed(&body), str::to_owned);
            Ok((false, Some(error), body))
        }
        _ => Err(unreadable()),
    }
}

/// `conversations.kick` answers `{"ok": false, "not_in_channel": true}`, without an `error`.
fn unnamed(body: &Value) -> String {
    body.as_object()
        .and_then(|fields| fields.iter().find(|(_, v)| **v == Value::Bool(true)))
        .map_or_else(|| "unknown_error".to_owned(), |(name, _)| name.clone())
}

fn entries(status: u16, body: Option<Value>) -> Result<Judged, Failure> {
    match body {
        Some(body) if body.get("ok").is_some() => envelope(status, Some(body)),
        Some(body) if status < 300 && body.is_object() => Ok((true, None, body)),
        Some(body) if (400..500).contains(&status) => Ok((false, Some(status.to_string()), body)),
        _ => Err(Failure::unknown(Unknown::Unreadable(status))),
    }
}

fn resource(method: &Method, status: u16, bytes: &[u8], body: Option<Value>) -> Result<Judged, Failure> {
    let nothing = bytes.iter().all(u8::is_ascii_whitespace);
    match body {
        // Slack has been seen to answer a Web envelope here, when the token is no good.
        Some(body) if body.get("ok").and_then(Value::as_bool) == Some(false) => envelope(status, Some(body)),
        Some(body) if status < 300 => Ok((true, None, body)),
        None if nothing && (status == 204 || (status < 300 && method.verb == "DELETE")) => {
            Ok((true, None, Value::Null))
        }
        Some(body) if SCIM_REFUSES.contains(&status) => Ok((false, Some(status.to_string()), body)),
        None if nothing && SCIM_REFUSES.contains(&status) => Ok((false, Some(status.to_string()), Value::Null)),
        _ => Err(Failure::unknown(Unknown::Unreadable(status))),
    }
}
