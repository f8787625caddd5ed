//! By what a write is known to Slack and to whoever reads it back, and its request as it is kept while it is in doubt.

use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;
use serde_json::Value;

use crate::execution::{CallKey, Error, Execution, Intent};

/// The key that goes into a message. An attempt that does again on purpose what an earlier one did has a key of its
/// own: reading back must not take the earlier message for this one. Every other attempt has the place's one key, so
/// that what an earlier attempt sent is found.
pub(crate) fn stamp(run: RunId, key: &CallKey, again: bool) -> String {
    let CallKey { execution, attempt, ordinal } = key;
    if again { format!("{run}/{execution}/{ordinal}/{attempt}") } else { format!("{run}/{execution}/{ordinal}") }
}

/// Whether an earlier attempt at this place carried out a write. Settled before this attempt began: always the same.
pub(crate) async fn sends_again<E: Execution>(port: &E, key: &CallKey) -> Result<bool, Error> {
    for attempt in (1..key.attempt).rev() {
        let earlier = port.called(&CallKey { attempt, ..key.clone() }).await?.answer();
        if earlier.is_some_and(|answer| answer.writes && answer.result.is_ok()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A guest's request as its hash is made of. The connection is part of it: the same arguments mean something else in
/// another workspace. An attempt has one connection from its beginning, so that its replays make the same requests.
pub(super) fn request_text(connection: &str, function: &str, arguments: &impl std::fmt::Display) -> String {
    format!("{function} {connection}\n{arguments}")
}

/// Where the request of an intent in doubt is kept, if its hash can be read.
pub(crate) fn request_digest(intent: &Intent) -> Option<Digest> {
    intent.hash.parse().ok()
}

/// The arguments in a kept request.
pub(crate) fn arguments_of(kept: &[u8], function: &str) -> Option<Value> {
    let (head, arguments) = std::str::from_utf8(kept).ok()?.split_once('\n')?;
    let (name, _connection) = head.split_once(' ')?;
    (name == function).then(|| serde_json::from_str(arguments).ok()).flatten()
}
