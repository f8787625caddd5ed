//! Why a call has no answer.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::action::ErrorCode;
use crate::failure::{Class, Failure};

/// A refused or failed call.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Error {
    /// Our code: `not-found`, `already-exists`, `scope-missing`, `plan-required`, `capability-not-granted`, `slack-error`, ….
    pub code: String,
    /// For people.
    pub message: String,
    /// What the host does about it when the action passes it on.
    #[serde(default)]
    pub class: Class,
    /// What Slack said, when Slack said it.
    #[serde(default)]
    pub slack: Option<Answer>,
    /// More facts, when there are some; for a refusal of SCIM `{status, detail}`.
    #[serde(default)]
    pub details: Option<Value>,
}

/// Slack's own words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The method, as Slack writes it.
    pub method: String,
    /// The `error` field of the answer; `scim-409` and the like for a refusal of SCIM.
    pub error: String,
    /// The scope that Slack wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<String>,
    /// The scopes that the token has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provided: Option<String>,
}

/// The codes of refusals that any call can meet, and that an action passes on.
pub(crate) const DECLARED: &[ErrorCode] = &[
    ErrorCode {
        code: "not-found",
        status: 404,
        description: "What was named is not there, or not visible to this connection.",
    },
    ErrorCode { code: "invalid-arguments", status: 400, description: "Slack refuses a value of the input." },
    ErrorCode { code: "plan-required", status: 402, description: "The workspace's plan does not include it." },
    ErrorCode {
        code: "scope-missing",
        status: 403,
        description: "The connection's token lacks a scope: add it to the app and connect again.",
    },
    ErrorCode {
        code: "token-kind-missing",
        status: 403,
        description: "The connection lacks a token of the kind that the method asks for.",
    },
    ErrorCode { code: "token-invalid", status: 401, description: "Slack no longer accepts the token: connect again." },
    ErrorCode {
        code: "permission-denied",
        status: 403,
        description: "The acting person, or a policy of the workspace, does not allow it.",
    },
    ErrorCode { code: "connection-unsuitable", status: 403, description: "The connection is of the wrong kind." },
    ErrorCode {
        code: "workspace-not-granted",
        status: 403,
        description: "The app is not granted to that workspace: an Org Owner can add it.",
    },
    ErrorCode {
        code: "workspace-required",
        status: 400,
        description: "An organisation's connection must be told which workspace.",
    },
    ErrorCode { code: "not-in-channel", status: 403, description: "The app is not in the channel: invite it." },
    ErrorCode { code: "already-exists", status: 409, description: "It is there already." },
    ErrorCode { code: "rate-limited", status: 429, description: "Slack asks to wait longer than the host does." },
    ErrorCode { code: "slack-unavailable", status: 503, description: "Slack did not carry it out and may later." },
    ErrorCode {
        code: "capability-not-granted",
        status: 403,
        description: "The operator did not grant the call to the plugin.",
    },
    ErrorCode {
        code: "answer-too-large",
        status: 413,
        description: "The answer is larger than a plugin may be given.",
    },
    ErrorCode { code: "slack-error", status: 400, description: "Any other refusal of Slack's." },
];

impl Error {
    /// Reads the host's JSON. Text that is none becomes a message.
    pub(crate) fn read(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|_| Self::unreadable(text.chars().take(300).collect()))
    }

    /// An answer in another form than Slack documents.
    pub(crate) fn unreadable(message: String) -> Self {
        Self { code: "slack-error".to_owned(), message, class: Class::Fatal, slack: None, details: None }
    }

    /// Whether Slack said one of these, in its own words (`already_in_channel`, `scim-409`).
    #[must_use]
    pub fn is(&self, errors: &[&str]) -> bool {
        self.slack.as_ref().is_some_and(|slack| errors.contains(&slack.error.as_str()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Error {}

/// An action that does not know better passes the refusal on, Slack's own words included.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let failure = Self::new(error.code, error.message).class(error.class).slack(error.slack);
        match error.details {
            None => failure,
            Some(details) => failure.details(details),
        }
    }
}
