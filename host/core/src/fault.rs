//! The error that a task ends with: what a file can catch, what a run ends with.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::text::cut;
use crate::value::{self, Field, Size};

/// The field of an error that says when it may be tried again, as whoever makes one writes it.
pub const RETRY_AFTER: Field = Field {
    name: "retryAfterMs",
    is_required: false,
    needed: "a whole number of milliseconds",
    fits: |value| value.is_null() || value.is_u64(),
};

/// The field of an error that says what Slack answered; see [`SlackAnswer`].
pub const SLACK: Field = Field {
    name: "slack",
    is_required: false,
    needed: "an object with the texts `method` and `error`",
    fits: |value| value.is_null() || serde_json::from_value::<SlackAnswer>(value.clone()).is_ok(),
};

/// The root of the URIs of our own error classes: `…/errors/CODE`.
pub const ERROR_BASE: &str = "https://bellhop.dev/errors/";

/// The root of the URIs that the definition language's specification (1.0.3, "Errors") gives to its own classes.
const STANDARD_BASE: &str = "https://serverlessworkflow.io/spec/1.0.0/errors/";

/// A code of an error, and the status of each error that has it.
type Row = (&'static str, u16);

/// The codes that only the host says, of a run, a call or a plugin: under one of them a plugin's own error would be taken
/// for the host's.
const RESERVED: &[Row] = &[
    ("action-unknown", 404),
    ("connection-differs", 409),
    ("connection-missing", 404),
    ("connection-unknown", 404),
    ("context-conflict", 409),
    ("duration-invalid", 400),
    ("expression-budget", 400),
    ("expression-invalid", 400),
    ("group-full", 409),
    ("group-invalid", 400),
    ("input-invalid", 422),
    ("internal", 500),
    ("name-ambiguous", 409),
    ("name-unresolved", 503),
    ("names-too-many", 400),
    ("nondeterministic-plugin", 500),
    ("outcome-unknown", 500),
    ("plugin-error", 500),
    ("plugin-no-progress", 500),
    ("plugin-output-invalid", 500),
    ("plugin-timeout", 504),
    ("plugin-trapped", 500),
    ("plugin-unavailable", 503),
    ("plugin-unknown", 404),
    ("preflight-refused", 422),
    ("raise-invalid", 400),
    ("retry-differs", 409),
    ("rollback-incomplete", 500),
    ("run-poisoned", 500),
    ("run-too-large", 400),
    ("schema-too-costly", 422),
    ("table-key-unknown", 400),
    ("undo-doubtful", 500),
    ("undo-undeclared", 500),
    ("undo-unknown", 500),
    ("value-too-deep", 400),
    ("value-too-large", 400),
];

/// The codes of what a call can be refused with, by Slack or by the host. A plugin that was told one passes it on. Slack's
/// own words for each are in the catalog (`errors.json`), and the SDK declares them for its plugins.
const OF_CALLS: &[Row] = &[
    ("already-exists", 409),
    ("answer-too-large", 413),
    ("capability-not-granted", 403),
    ("channel-archived", 409),
    ("connection-unsuitable", 403),
    ("invalid-arguments", 400),
    ("method-unknown", 404),
    ("not-found", 404),
    ("not-in-channel", 403),
    ("not-visible", 403),
    ("permission-denied", 403),
    ("permission-read-only", 403),
    ("plan-required", 402),
    ("purpose-not-allowed", 403),
    ("rate-limited", 429),
    ("scope-missing", 403),
    ("slack-error", 400),
    ("slack-unavailable", 503),
    ("token-invalid", 401),
    ("token-kind-missing", 403),
    ("user-deactivated", 409),
    ("workspace-not-granted", 403),
    ("workspace-required", 400),
];

fn find(rows: &[Row], code: &str) -> Option<u16> {
    rows.binary_search_by(|(known, _)| (*known).cmp(code)).ok().map(|at| rows[at].1)
}

/// The status of the errors with a code that a call can be refused with.
#[must_use]
pub fn status_of_call(code: &str) -> Option<u16> {
    find(OF_CALLS, code)
}

/// Every code that a call can be refused with, in their order.
pub fn of_calls() -> impl Iterator<Item = &'static str> {
    OF_CALLS.iter().map(|(code, _)| *code)
}

/// Every code that only the host says, in their order.
pub fn reserved() -> impl Iterator<Item = &'static str> {
    RESERVED.iter().map(|(code, _)| *code)
}

/// Whether only the host says a code.
#[must_use]
pub fn is_reserved(code: &str) -> bool {
    find(RESERVED, code).is_some()
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
    if let Cow::Owned(short) = cut(text, TEXT_BYTES_MAX) {
        *text = short;
    }
}

/// Why the details of a bounded fault are left out.
fn too_large(details: &Value) -> Option<String> {
    let Size { bytes, depth } = value::size(details);
    (bytes > DETAILS_BYTES_MAX || depth > DETAILS_DEPTH_MAX).then(|| {
        format!(
            "the details have {bytes} bytes and {depth} levels, and a fault's may have {DETAILS_BYTES_MAX} bytes and \
             {DETAILS_DEPTH_MAX} levels: raise it with fewer"
        )
    })
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
    /// A fault of our own class `code`, with the status that the class has.
    #[must_use]
    pub fn of_code(code: &str, detail: impl Into<String>) -> Self {
        let status = find(RESERVED, code).or_else(|| find(OF_CALLS, code));
        debug_assert!(status.is_some(), "`{code}` is in no table");
        Self::declared(code, status.unwrap_or(500), detail)
    }

    /// A fault of a class that an action's manifest declares, with its status.
    #[must_use]
    pub fn declared(code: &str, status: u16, detail: impl Into<String>) -> Self {
        Self::new(format!("{ERROR_BASE}{code}"), status, detail.into())
    }

    /// A fault of a class of the definition language's own.
    #[must_use]
    pub fn standard(class: &str, status: u16, title: &str, detail: String) -> Self {
        Self { title: Some(title.to_owned()), ..Self::new(format!("{STANDARD_BASE}{class}"), status, detail) }
    }

    fn new(kind: String, status: u16, detail: String) -> Self {
        Self {
            kind,
            status,
            title: None,
            detail: Some(detail),
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
        self.details = self.details.take().map(|details| match too_large(&details) {
            Some(omitted) => serde_json::json!({ "omitted": omitted }),
            None => details,
        });
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use serde_json::json;

    use super::*;

    /// Texts in the sources of runs that have the form of a code and are none.
    const NO_CODES: [&str; 2] = ["kebab-case", "given-up"];

    /// Every text between quotes with the form of a code.
    fn codes_in(source: &str) -> Vec<String> {
        let is_part = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase());
        let is_code = |text: &&str| text.contains('-') && text.split('-').all(is_part);
        source.split('"').filter(is_code).map(str::to_owned).collect()
    }

    fn codes_under(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                codes_under(&path, found);
            } else {
                found.extend(codes_in(&fs::read_to_string(path).unwrap()));
            }
        }
    }

    #[test]
    fn what_a_run_says_itself_no_plugin_says() {
        let mut made = BTreeSet::new();
        codes_under(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/run"), &mut made);
        made.retain(|code| !NO_CODES.contains(&code.as_str()));
        assert!(made.contains("context-conflict") && made.contains("undo-unknown"), "{made:?}");
        made.insert(value::Error::TooDeep { depth: 65 }.code().to_owned());
        made.insert(value::Error::TooLarge { bytes: 2, bytes_max: 1 }.code().to_owned());
        let open: Vec<&String> = made.iter().filter(|code| !is_reserved(code)).collect();
        assert_eq!(open, Vec::<&String>::new());
        for rows in [RESERVED, OF_CALLS] {
            assert!(rows.is_sorted_by(|(a, _), (b, _)| a < b), "{rows:?}");
            assert!(rows.iter().all(|(_, status)| (400..600).contains(status)));
        }
    }

    #[test]
    fn details_that_are_left_out_say_why() {
        let mut fault = Fault::of_code("internal", "x");
        fault.details = Some(json!("x".repeat(200_000)));
        let details = fault.bounded().details.unwrap();
        let omitted = details["omitted"].as_str().unwrap();
        assert!(
            omitted.contains("200002 bytes and 0 levels") && omitted.contains("131072 bytes and 48 levels"),
            "{omitted}"
        );
    }
}
