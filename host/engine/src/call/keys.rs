//! The keys that an action holds while it runs (semantics 1, "Exclusive").

use bellhop_core::run::{Action, Calling, Facts};
use serde_json::{Value, json};

use super::names;
use crate::execution;
use crate::execution::local::Local;
use crate::owners::keyed_lock::KeyId;

/// A key that an action holds while it runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Exclusive {
    pub id: KeyId,
    /// For people.
    pub name: String,
}

/// The keys that an action holds while it runs. `arguments` have ids where the file has names: two names of one thing
/// are one key.
///
/// Two connections of one organisation reach the same things: a key is of the organisation, where that is known.
pub(super) fn keys_of(action: &Action, facts: &Facts, call: &Calling, arguments: &Value) -> Vec<Exclusive> {
    let connection = call.connection.as_deref().unwrap_or_default();
    let tenant = facts.tenants.get(connection);
    let organisation = tenant.map_or(connection, |tenant| tenant.organisation());
    let owner = if tenant.is_some() { json!(organisation) } else { json!([connection]) };
    let mut keys: Vec<Exclusive> = action
        .manifest
        .exclusive
        .iter()
        .map(|key| {
            let values: Vec<Value> =
                key.fields.iter().map(|field| arguments.pointer(field).cloned().unwrap_or(Value::Null)).collect();
            let name = json!([key.name, owner, values]).to_string();
            Exclusive { id: KeyId::of(organisation, &name), name }
        })
        .collect();
    // In one order everywhere, so that two actions with two keys each cannot wait for each other.
    keys.sort();
    keys.dedup();
    keys
}

/// The keys that an open action holds: each has its row. One that has made no call may hold none of them yet.
pub(crate) async fn keys_held(
    port: &Local,
    facts: &Facts,
    action: &Action,
    call: &Calling,
) -> Result<Vec<KeyId>, execution::Error> {
    if action.manifest.exclusive.is_empty() || !port.has_called(&call.key, call.attempt, names::ORDINAL_FIRST) {
        return Ok(Vec::new());
    }
    let arguments = names::on_record(port, action, call).await?;
    Ok(keys_of(action, facts, call, &arguments).into_iter().map(|key| key.id).collect())
}
