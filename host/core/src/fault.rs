//! The error that a task ends with: what a file can catch, what a run ends with.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The root of the URIs of our own error classes: `…/errors/CODE`.
pub const ERROR_BASE: &str = "https://bellhop.dev/errors/";

/// The root of the URIs that the definition language's specification (1.0.3, "Errors") gives to its own classes.
pub const STANDARD_BASE: &str = "https://serverlessworkflow.io/spec/1.0.0/errors/";

/// A fault in the form of RFC 9457, as the definition language prescribes for `catch`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// A URI; `errors.with.type` of a `catch` compares with it.
    #[serde(rename = "type")]
    pub kind: String,
    /// An HTTP-like status code, 100 to 599.
    pub status: u16,
    /// A short text that is the same for every fault of this class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What happened this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The JSON pointer of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// What Slack said, when Slack said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack: Option<SlackAnswer>,
    /// Facts of this class of fault, for machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// What the action that failed says of its failure; absent for a fault that no action made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// A `retry` of the file waits at least so many milliseconds.
    #[serde(default, rename = "retryAfterMs", skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// What an action says of its failure. A `retry` that names no errors and has no condition takes only what may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// The same may succeed later.
    Retry,
    /// It will fail again until something is changed.
    Fatal,
    /// Somebody may not: a grant, a scope, a plan.
    Denied,
}

/// Slack's own words inside a fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlackAnswer {
    /// The method, as Slack writes it: `chat.postMessage`.
    pub method: String,
    /// The `error` field of the answer.
    pub error: String,
    /// The scope that Slack wanted (`missing_scope`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<String>,
    /// The scopes that the token has (`missing_scope`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provided: Option<String>,
}

impl Fault {
    /// A fault of our own class `code`, at `instance`.
    #[must_use]
    pub fn of_code(code: &str, status: u16, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("{ERROR_BASE}{code}"),
            status,
            title: None,
            detail: Some(detail.into()),
            instance: None,
            slack: None,
            details: None,
            class: None,
            retry_after_ms: None,
        }
    }

    /// The part of the URI after `/errors/`: our code, or the specification's class name.
    #[must_use]
    pub fn code(&self) -> &str {
        self.kind.rsplit('/').next().unwrap_or(&self.kind)
    }
}
