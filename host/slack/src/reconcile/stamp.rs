//! The host's key in a message.

use serde_json::{Map, Value, json};

use crate::catalog::{Method, Reconcile};

/// Where the key is, inside `metadata.event_payload`.
pub(super) const FIELD: &str = "bellhop";
/// The type of a message's metadata where the guest gives none; Slack wants one.
const EVENT_TYPE: &str = "bellhop_call";

/// The metadata that the guest gave cannot carry the key. Nothing may be sent: its outcome could not be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`metadata` must be an object with `event_type` and `event_payload`")]
pub struct Unstampable;

/// The arguments as they are sent. A message gets `key` into `metadata.event_payload.bellhop`; the rest of the
/// guest's metadata is kept. No other call keeps a value there: a guest could pass off a message as another call's.
/// The hash of the guest's request is taken before this.
///
/// # Errors
/// [`Unstampable`] when the guest's metadata is not in Slack's form.
pub fn stamp(method: &Method, arguments: &Value, key: &str) -> Result<Value, Unstampable> {
    let stamps = matches!(method.reconcile, Reconcile::Message | Reconcile::Scheduled);
    let mut out = arguments.clone();
    let Some(fields) = out.as_object_mut() else { return Ok(out) };
    if !stamps && !fields.contains_key("metadata") {
        return Ok(out);
    }
    let given = match fields.get("metadata") {
        None | Some(Value::Null) => None,
        // A form carries it as text.
        Some(Value::String(written)) => match serde_json::from_str::<Value>(written) {
            Ok(Value::Object(metadata)) => Some(metadata),
            _ if stamps => return Err(Unstampable),
            _ => return Ok(out),
        },
        Some(Value::Object(metadata)) => Some(metadata.clone()),
        Some(_) if stamps => return Err(Unstampable),
        Some(_) => return Ok(out),
    };
    let Some(mut metadata) = given else {
        if stamps {
            fields.insert("metadata".to_owned(), json!({"event_type": EVENT_TYPE, "event_payload": {FIELD: key}}));
        }
        return Ok(out);
    };
    let payload = metadata.entry("event_payload").or_insert_with(|| Value::Object(Map::new()));
    match payload.as_object_mut() {
        Some(payload) if stamps => {
            payload.insert(FIELD.to_owned(), key.into());
        }
        Some(payload) => {
            payload.remove(FIELD);
        }
        None if stamps => return Err(Unstampable),
        None => {}
    }
    if stamps {
        metadata.entry("event_type").or_insert_with(|| EVENT_TYPE.into());
    }
    fields.insert("metadata".to_owned(), Value::Object(metadata));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    #[test]
    fn the_key_goes_in_and_the_guests_own_stays() {
        let catalog = Catalog::built_in();
        let post = catalog.by_name("chat.postMessage").unwrap();
        let update = catalog.by_name("chat.update").unwrap();
        let users = catalog.by_name("users.info").unwrap();
        let own = json!({"event_type": "hire", "event_payload": {"ticket": "HR-1", "bellhop": "forged"}});
        let kept = json!({"event_type": "hire", "event_payload": {"ticket": "HR-1", "bellhop": "k1"}});
        for (method, arguments, wanted) in [
            (
                post,
                json!({"text": "a"}),
                Some(json!({"text": "a", "metadata": {"event_type": EVENT_TYPE, "event_payload": {"bellhop": "k1"}}})),
            ),
            (post, json!({"metadata": own}), Some(json!({"metadata": kept}))),
            (post, json!({"metadata": own.to_string()}), Some(json!({"metadata": kept}))),
            (post, json!({"metadata": [1]}), None),
            (post, json!({"metadata": {"event_payload": "x"}}), None),
            (post, json!({"metadata": "not json"}), None),
            (
                update,
                json!({"metadata": own}),
                Some(json!({"metadata": {"event_type": "hire", "event_payload": {"ticket": "HR-1"}}})),
            ),
            (update, json!({"text": "b"}), Some(json!({"text": "b"}))),
            (users, json!({"user": "U1"}), Some(json!({"user": "U1"}))),
        ] {
            assert_eq!(stamp(method, &arguments, "k1").ok(), wanted, "{} {arguments}", method.name);
        }
    }
}
