//! What an action answers when it fails.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::slack;

/// What the host does about a failure. A workflow can catch every one but [`Class::Park`] by its code; what differs is
/// whether a `retry` takes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", from = "String")]
pub enum Class {
    /// The same may succeed later. Where the workflow has a `retry` around the task, it is tried again, not before
    /// [`Failure::retry_after_ms`] have passed; where it has none, this is a fault as any other.
    Retry,
    /// It will fail again until something is changed: a `retry` takes it only where the file names the error or gives a
    /// condition. A class that the host does not know counts as this.
    #[default]
    Fatal,
    /// Somebody may not: a grant, a scope, a plan. A `retry` takes it as it takes [`Class::Fatal`].
    Denied,
    /// A person has to look at it: the run is parked with this failure as the reason (`asked`), and nothing catches it. What
    /// the action has changed before is in the run's ledger.
    Park,
}

impl From<String> for Class {
    fn from(text: String) -> Self {
        match text.as_str() {
            "retry" => Self::Retry,
            "denied" => Self::Denied,
            "park" => Self::Park,
            _ => Self::Fatal,
        }
    }
}

/// The failure of an action.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    code: String,
    message: String,
    class: Class,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slack: Option<slack::Answer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Value>,
}

impl Failure {
    /// A fatal failure. `code` is one that the action declares, in lower case with hyphens, or that of an error of a call
    /// that is passed on; `message` is for people. Any other code, and one of the host's own states such as
    /// `outcome-unknown`, arrives as `plugin-error` with the code in `$error.details.code`.
    #[must_use]
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            class: Class::Fatal,
            retry_after_ms: None,
            slack: None,
            details: None,
        }
    }

    /// With another class.
    #[must_use]
    pub fn class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }

    /// With the time after which a retry makes sense, for [`Class::Retry`]: a `retry` of the file waits at least so long,
    /// up to seven days. `$error.retryAfterMs` has it.
    #[must_use]
    pub fn retry_after_ms(mut self, retry_after_ms: u64) -> Self {
        self.retry_after_ms = Some(retry_after_ms);
        self
    }

    /// With facts for machines; a file sees them as `$error.details`.
    #[must_use]
    pub fn details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// With Slack's own words; a file sees them as `$error.slack`.
    #[must_use]
    pub fn slack(mut self, slack: Option<slack::Answer>) -> Self {
        self.slack = slack;
        self
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Failure {}
