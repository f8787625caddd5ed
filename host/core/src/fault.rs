//! The error that a task ends with: what a file can catch, what a run ends with.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::value;

/// The root of the URIs of our own error classes: `…/errors/CODE`.
pub const ERROR_BASE: &str = "https://bellhop.dev/errors/";

/// The root of the URIs that the definition language's specification (1.0.3, "Errors") gives to its own classes.
pub const STANDARD_BASE: &str = "https://serverlessworkflow.io/spec/1.0.0/errors/";

/// The codes that only the host says, of a run, a call or a plugin: under one of them a plugin's own error would be taken
/// for the host's.
pub const RESERVED: &[&str] = &[
    "action-unknown",
    "connection-missing",
    "connection-unknown",
    "group-full",
    "group-invalid",
    "input-invalid",
    "internal",
    "name-unresolved",
    "nondeterministic-plugin",
    "outcome-unknown",
    "plugin-error",
    "plugin-no-progress",
    "plugin-output-invalid",
    "plugin-timeout",
    "plugin-trapped",
    "plugin-unavailable",
    "plugin-unknown",
    "preflight-refused",
    "raise-invalid",
    "retry-differs",
    "rollback-incomplete",
    "run-poisoned",
    "run-too-large",
    "undo-doubtful",
    "undo-undeclared",
    "undo-unknown",
];

/// Whether a code is one of [`RESERVED`].
#[must_use]
pub fn is_reserved(code: &str) -> bool {
    RESERVED.contains(&code)
}

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

/// The longest text of a [bounded](Fault::bounded) fault, in bytes.
const TEXT_BYTES_MAX: usize = 16 << 10;
/// The largest details of one, in bytes of JSON, and their most levels: whoever puts a fault into a value has room.
const DETAILS_BYTES_MAX: u64 = 128 << 10;
const DETAILS_DEPTH_MAX: u32 = value::DEPTH_MAX - 16;

fn shorten(text: &mut String) {
    if text.len() <= TEXT_BYTES_MAX {
        return;
    }
    let mut end = TEXT_BYTES_MAX;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push('…');
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

    /// The same, short enough to stand in others and in what is told of a run: a fault is repeated at each level that
    /// it goes up, and a text that a plugin, an expression or Slack made long would be so each time.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        shorten(&mut self.kind);
        for text in [&mut self.title, &mut self.detail, &mut self.instance].into_iter().flatten() {
            shorten(text);
        }
        if let Some(slack) = &mut self.slack {
            shorten(&mut slack.method);
            shorten(&mut slack.error);
            for text in [&mut slack.needed, &mut slack.provided].into_iter().flatten() {
                shorten(text);
            }
        }
        let fits = |details: &Value| {
            let size = value::size(details);
            size.bytes <= DETAILS_BYTES_MAX && size.depth <= DETAILS_DEPTH_MAX
        };
        if self.details.as_ref().is_some_and(|details| !fits(details)) {
            self.details =
                Some(serde_json::json!({ "omitted": "the details are larger or deeper than a fault may have" }));
        }
        self
    }

    /// About how many bytes of JSON it is.
    #[must_use]
    pub fn weight(&self) -> u64 {
        let own = [Some(&self.kind), self.title.as_ref(), self.detail.as_ref(), self.instance.as_ref()];
        let slack = self.slack.iter();
        let slack = slack.flat_map(|s| [Some(&s.method), Some(&s.error), s.needed.as_ref(), s.provided.as_ref()]);
        let texts: u64 = own.into_iter().chain(slack).flatten().map(|text| value::text_bytes(text)).sum();
        texts + self.details.as_ref().map_or(0, |details| value::size(details).bytes)
    }

    /// The part of the URI after `/errors/`: our code, or the specification's class name.
    #[must_use]
    pub fn code(&self) -> &str {
        self.kind.rsplit('/').next().unwrap_or(&self.kind)
    }
}
