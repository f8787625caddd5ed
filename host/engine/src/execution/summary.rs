//! A run in short: what lists show, kept beside the decisions and made again from a state.

use bellhop_core::id::RunId;
use bellhop_core::run::{Ending, State};
use bellhop_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use bellhop_journal::key::{self, Key};
use bellhop_journal::{self as journal, Content, Summary, Write};

/// What a trigger's idempotency key is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bound {
    /// SHA-256 of the body.
    pub body: bellhop_core::digest::Digest,
    /// The run that it started.
    pub run: RunId,
    /// Of a definition's own key: its revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

/// A definition's own key as a key of triggers: none that a caller can send.
pub(crate) fn own_name(key: &str) -> String {
    format!("\0{key}")
}

/// The keys that are bound to a run with this summary.
pub(crate) fn bindings(summary: &Summary) -> impl Iterator<Item = Key> {
    let names = summary.idempotency_key.clone().into_iter().chain(summary.own_key.as_deref().map(own_name));
    names.map(|name| key::idempotency(&summary.namespace, &summary.name, &name))
}

/// The summary after `state`. What is sensitive is not in it: lists are read by many.
pub(crate) fn after(
    before: &Summary,
    state: &State,
    now: Timestamp,
    mut content: impl FnMut(Value) -> Result<Content, journal::Error>,
) -> Result<Summary, journal::Error> {
    let mask = state.facts().mask();
    let mut content = |value: Value| content(mask.value(value));
    let mut summary = before.clone();
    summary.status = state.status();
    summary.updated_at = now;
    // Whoever has a state to show has taken the run up.
    summary.poisoned = false;
    summary.waiting = state.waiting().and_then(|w| serde_json::to_value(w).ok()).map(|w| mask.value(w));
    // A run that ended can go on: what it ended with is no more.
    (summary.error, summary.output, summary.ended_at) = (None, None, None);
    let changes = state.changes();
    summary.aftermath.reason = state.cancelled_because();
    (summary.aftermath.undone, summary.aftermath.left) = (changes.map(|c| c.undone), changes.map(|c| c.left));
    summary.aftermath.superseded_by = state.displaced_by();
    if let Some((at, ending)) = state.ended() {
        summary.ended_at = Some(at);
        match ending {
            Ending::Completed { output } => summary.output = Some(content(output.as_ref().clone())?),
            Ending::Faulted { fault } => {
                summary.error = Some(content(serde_json::to_value(fault).unwrap_or(Value::Null))?);
            }
            Ending::Cancelled => {}
        }
    }
    Ok(summary)
}

/// A run has ended: its keys may go some time after.
pub(crate) fn bind_until(
    write: &mut Write,
    summary: &Summary,
    ended_at: Timestamp,
    kept_ms: u64,
) -> Result<(), journal::Error> {
    for bound in bindings(summary) {
        write.put(&key::expiry(ended_at.plus_millis(kept_ms), &bound), &Value::Null)?;
    }
    Ok(())
}

/// A run has ended: it may go some time after.
pub(crate) fn keep_until(
    write: &mut Write,
    run: RunId,
    ended_at: Timestamp,
    kept_ms: u64,
) -> Result<(), journal::Error> {
    write.put(&key::expiry(ended_at.plus_millis(kept_ms), &key::summary(run)), &Value::Null)
}
