//! What stands beside a run's log and can be made again from it: its mark, its summary, its snapshot.

use std::collections::{BTreeMap, BTreeSet};

use bellhop_core::id::RunId;
use bellhop_core::requirement::TokenKind;
use bellhop_core::run::{Reason, Status};
use bellhop_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::entry::Content;
use super::json::Json;

/// A run's state after the entries below `seq`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The first entry that is not in it.
    pub seq: u64,
    /// The core's state, in the core's own versioned form.
    pub state: Json,
    /// What going on needs to know of the entries below `seq`, in the engine's form; without it they are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Json>,
}

/// The mark of a run that has not ended, with what starting needs before the run is folded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// The run ended a process that carried nothing else: no start reads it until a person says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deadly: bool,
    /// Whether a start has anything to do for it.
    #[serde(default, skip_serializing_if = "Rest::is_no")]
    pub rest: Rest,
    /// The name of the group in which it has a place, or waits for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// Whether anything of an open run is under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rest {
    /// Something is under way: a start reads the run and goes on with it.
    #[default]
    No,
    /// It waits for a time or a message: a start leaves it where it is.
    Waits,
    /// It waits for a person's word, likewise.
    Parked,
    /// A person has halted it, likewise.
    Suspended,
    /// It waits for what its plan lacks: a start looks for that, and leaves it where it is.
    Blocked,
}

impl Rest {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
    const fn is_no(&self) -> bool {
        matches!(self, Self::No)
    }
}

/// What lists of runs show, without folding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// What it is doing.
    pub status: Status,
    /// The workflow's namespace.
    pub namespace: String,
    /// The workflow's name.
    pub name: String,
    /// The workflow's version.
    pub version: String,
    /// The trigger's labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// When it was accepted.
    pub started_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// For what it waits, until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Value>,
    /// What of it waits for a person's word: the first of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<Value>,
    /// How much more does.
    #[serde(default, skip_serializing_if = "is_none")]
    pub open_more: u64,
    /// What it ended with, or is parked with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Content>,
    /// What it ended with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Content>,
    /// The trigger's idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// The number of the entry with what is pinned from there on, where that is not the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pins_at: Option<u64>,
    /// The key that the definition gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_key: Option<String>,
    /// Whether the run cannot be taken up and is set aside. What it is parked with says so in words only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub poisoned: bool,
    /// The caller's own trace, where one came with the trigger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The functions that it called, by the token by which the calls went out: as whom it did what it did.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub called_as: BTreeMap<TokenKind, BTreeSet<String>>,
    /// What its end leaves behind.
    #[serde(default, skip_serializing_if = "Aftermath::is_nothing")]
    pub aftermath: Aftermath,
}

impl Summary {
    /// One of a run that was accepted at `at` and of which nothing more is known: without labels, keys and an end.
    pub fn new(status: Status, namespace: String, name: String, version: String, at: Timestamp) -> Self {
        Self {
            status,
            namespace,
            name,
            version,
            labels: BTreeMap::new(),
            started_at: at,
            updated_at: at,
            ended_at: None,
            waiting: None,
            open: Vec::new(),
            open_more: 0,
            error: None,
            output: None,
            idempotency_key: None,
            pins_at: None,
            own_key: None,
            poisoned: false,
            traceparent: None,
            called_as: BTreeMap::new(),
            aftermath: Aftermath::default(),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
const fn is_none(count: &u64) -> bool {
    *count == 0
}

/// What the end of a run leaves behind, where that is not what was wanted of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aftermath {
    /// Why it is cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// How many of its changes were taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone: Option<u32>,
    /// How many were not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<u32>,
    /// The run that has taken its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_by: Option<RunId>,
    /// Who wanted its end: the name and the id of a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl Aftermath {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}
