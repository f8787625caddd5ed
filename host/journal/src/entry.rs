//! What a run's log is made of. These forms are on people's disks: a golden file holds each, and a change of one is a
//! new [`record::VERSION`](super::record::VERSION) with the old form still read, or a new format of the store.

use bellhop_core::digest::Digest;
use bellhop_core::requirement::TokenKind;
use bellhop_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::json::Json;

/// The kinds, as they are written.
pub const KINDS: [&str; 10] =
    ["accepted", "pinned", "decision", "intent", "outcome", "not-sent", "read", "slice", "resolved", "note"];

/// A JSON value, itself or by the digest under which it is stored once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Content {
    /// The value itself.
    Value(Json),
    /// A blob that holds the value's JSON.
    Stored {
        /// Its digest.
        digest: Digest,
        /// Its length.
        bytes: u64,
    },
}

/// What a call was answered, as the guest sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The call succeeded.
    Ok(Content),
    /// The call was refused or failed; this is an answer too, and is fed back at a replay.
    Err(Content),
}

/// How a doubt about a sent call ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Resolution {
    /// It had happened; with what the guest gets as its answer.
    Done(Answer),
    /// It had not happened: it may be sent again, under a new intent.
    NotDone,
}

/// Another token of the connection takes the place of one that the call was refused to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Instead {
    /// The other one.
    pub token: TokenKind,
    /// With what it was refused, in the provider's word.
    pub refused: String,
}

/// One entry. `key` is the task execution, and with `ordinal` the effect; `attempt` stands beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Entry {
    /// The run exists. Once it is durable the trigger may be answered.
    Accepted {
        /// Digests and versions of everything that the run depends on, its input included.
        pins: Json,
    },
    /// What the run depends on from here on, in place of what its first record or an entry like this says. The decision
    /// that makes it so follows in the same commit.
    Pinned {
        /// As [`Entry::Accepted`] has it.
        pins: Json,
    },
    /// What the core decided, in its own form.
    Decision {
        /// The core's events, in order.
        events: Vec<Content>,
    },
    /// A write is about to be sent. Durable before its first byte leaves.
    Intent {
        /// The task execution.
        key: String,
        /// The attempt.
        attempt: u32,
        /// The call within the task execution.
        ordinal: u32,
        /// Of the guest's own request.
        hash: Digest,
        /// When.
        at: Timestamp,
        /// The capability function.
        function: String,
        /// The connection that it acts on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        connection: Option<String>,
        /// By which of its tokens it goes out. Absent in records of before there was a choice, and where nobody knows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<TokenKind>,
    },
    /// What came of the intent before it. Never sent again.
    Outcome {
        /// The task execution.
        key: String,
        /// The attempt.
        attempt: u32,
        /// The call within the task execution.
        ordinal: u32,
        /// Of the guest's own request.
        hash: Digest,
        /// When.
        at: Timestamp,
        /// The answer.
        answer: Answer,
        /// How it came about: `sent`, `found`, `holds`.
        how: String,
    },
    /// The intent before it surely did not happen.
    NotSent {
        /// The task execution.
        key: String,
        /// The attempt.
        attempt: u32,
        /// The call within the task execution.
        ordinal: u32,
        /// When that was known.
        at: Timestamp,
        /// Why.
        reason: String,
        /// When it is sent again, under a new intent; absent when it is not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_at: Option<Timestamp>,
        /// Whether it may have happened all the same, and sending it again leaves what one sending leaves.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        repeats: bool,
        /// By which token it goes out from here on, where it was refused to the one that it went out by.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instead: Option<Instead>,
    },
    /// A read and its answer. Durable no later than the next intent of the same action.
    Read {
        /// The task execution.
        key: String,
        /// The attempt.
        attempt: u32,
        /// The call within the task execution.
        ordinal: u32,
        /// Of the guest's own request.
        hash: Digest,
        /// When it was answered.
        at: Timestamp,
        /// The answer.
        answer: Answer,
        /// How it came about: `sent`, `denied`, `reused`, `reused-holds`.
        how: String,
        /// The capability function.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        function: Option<String>,
        /// By which token it was asked, where it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<TokenKind>,
    },
    /// An action returned `again`: the next slice starts with this state, and earlier answers are forgotten.
    Slice {
        /// The task execution.
        key: String,
        /// The attempt.
        attempt: u32,
        /// The ordinal of the first call of the next slice.
        ordinal: u32,
        /// What the action gave for its next slice.
        state: Content,
    },
    /// A doubt about an intent without an outcome ended, by reading back or by a person.
    Resolved {
        /// The task execution.
        key: String,
        /// The attempt.
        attempt: u32,
        /// The call within the task execution.
        ordinal: u32,
        /// Of the guest's own request.
        hash: Digest,
        /// When.
        at: Timestamp,
        /// How.
        how: Resolution,
        /// Who or what found out.
        by: String,
    },
    /// Something for people to read; changes nothing.
    Note {
        /// When.
        at: Timestamp,
        /// `info`, `warn` or `error`.
        level: String,
        /// What happened, or what was asked for.
        text: String,
        /// Who asked for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
}

impl Content {
    /// Bytes of the value's JSON.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Value(json) => json.text().len() as u64,
            Self::Stored { bytes, .. } => *bytes,
        }
    }
}

impl Entry {
    /// Its kind, as it is written.
    #[cfg_attr(not(test), allow(dead_code, reason = "names the golden files of the records"))]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::Pinned { .. } => "pinned",
            Self::Decision { .. } => "decision",
            Self::Intent { .. } => "intent",
            Self::Outcome { .. } => "outcome",
            Self::NotSent { .. } => "not-sent",
            Self::Read { .. } => "read",
            Self::Slice { .. } => "slice",
            Self::Resolved { .. } => "resolved",
            Self::Note { .. } => "note",
        }
    }
}
