//! A run in short: what lists show, kept beside the decisions and made again from a state.

use bellhop_core::run::{Ending, State};
use bellhop_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::journal::{self, Content, Summary, Write, key};

/// What a trigger's idempotency key is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bound {
    /// SHA-256 of the body.
    pub(crate) body: bellhop_core::digest::Digest,
    /// The run that it started.
    pub(crate) run: bellhop_core::id::RunId,
}

/// The summary after `state`.
pub(crate) fn after(
    before: &Summary,
    state: &State,
    now: Timestamp,
    mut content: impl FnMut(Value) -> Result<Content, journal::Error>,
) -> Result<Summary, journal::Error> {
    let mut summary = before.clone();
    summary.status = state.status();
    summary.updated_at = now;
    summary.waiting = state.waiting().and_then(|w| serde_json::to_value(w).ok());
    // A run that ended can go on: what it ended with is no more.
    (summary.error, summary.output, summary.ended_at) = (None, None, None);
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

/// A run has ended: its idempotency key may go some time after.
pub(crate) fn bind_until(
    write: &mut Write,
    summary: &Summary,
    ended_at: Timestamp,
    kept_ms: u64,
) -> Result<(), journal::Error> {
    if let Some(idempotency) = &summary.idempotency_key {
        let bound = key::idempotency(&summary.namespace, &summary.name, idempotency);
        write.put(&key::expiry(ended_at.plus_millis(kept_ms), &bound), &Value::Null)?;
    }
    Ok(())
}
