//! The keys that an action holds while it runs (semantics 1, "Exclusive").

use bellhop_core::run::{Action, Calling, Facts};
use serde_json::{Value, json};

use super::names;
use crate::execution;
use crate::execution::local::Local;

/// The keys that an action holds while it runs. `arguments` have ids where the file has names: two names of one thing
/// are one key.
///
/// Two connections of one organisation reach the same things: a key is of the organisation, where that is known.
pub(super) fn keys_of(action: &Action, facts: &Facts, call: &Calling, arguments: &Value) -> Vec<String> {
    let connection = call.connection.as_deref().unwrap_or_default();
    let owner = facts.tenants.get(connection).map_or_else(|| json!([connection]), |of| json!(of.organisation()));
    let mut keys: Vec<String> = action
        .manifest
        .exclusive
        .iter()
        .map(|key| {
            let values: Vec<Value> =
                key.fields.iter().map(|field| arguments.pointer(field).cloned().unwrap_or(Value::Null)).collect();
            json!([key.name, owner, values]).to_string()
        })
        .collect();
    // In one order everywhere, so that two actions with two keys each cannot wait for each other.
    keys.sort();
    keys.dedup();
    keys
}

/// The keys that an open action held when the process ended. One that had made no call yet held none, or has nothing to
/// lose by waiting for them again; giving it the key would take it from the one that has.
pub(crate) async fn keys_held(
    port: &Local,
    facts: &Facts,
    action: &Action,
    call: &Calling,
) -> Result<Vec<String>, execution::Error> {
    if action.manifest.exclusive.is_empty() || !port.has_called(&call.key, call.attempt, names::ORDINAL_FIRST) {
        return Ok(Vec::new());
    }
    let arguments = names::on_record(port, action, call).await?;
    Ok(keys_of(action, facts, call, &arguments))
}
