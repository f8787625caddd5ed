//! What a call has to have been answered when a person says that it was carried out and nothing could be read back.

use serde_json::{Value, json};

use super::ids;
use crate::catalog::{Method, Reconcile};

/// What the answer of a call that was carried out has besides what its request says: JSON pointers, none where the
/// request says all of it.
#[must_use]
pub fn said_by_slack(method: &Method) -> &[String] {
    &method.said_by_slack
}

/// The answer of a call that was carried out, where all of it follows from the request.
#[must_use]
pub fn from_request(method: &Method, arguments: &Value) -> Option<Value> {
    if !said_by_slack(method).is_empty() {
        return None;
    }
    Some(match (method.name.as_str(), method.reconcile) {
        ("conversations.invite", _) => json!({"ok": true, "channel": {"id": arguments.get("channel")}}),
        ("usergroups.users.update", _) => {
            let users = ids(arguments.get("users"));
            json!({"ok": true, "usergroup": {
                "id": arguments.get("usergroup"), "user_count": users.len(), "users": users,
            }})
        }
        ("chat.appendStream", _) => {
            json!({"ok": true, "channel": arguments.get("channel"), "ts": arguments.get("ts")})
        }
        ("admin.conversations.setTeams", _) => json!({"ok": true, "channel": arguments.get("channel_id")}),
        (_, Reconcile::Resource) => arguments.clone(),
        _ => json!({"ok": true}),
    })
}

/// What of [`said_by_slack`] an answer lacks.
#[must_use]
pub fn lacks<'m>(method: &'m Method, answer: &Value) -> Vec<&'m str> {
    let present = |pointer: &&str| answer.pointer(pointer).is_some_and(|value| !value.is_null() && value != "");
    said_by_slack(method).iter().map(String::as_str).filter(|pointer| !present(pointer)).collect()
}

/// An answer of the method's shape with `…` for what only Slack knows, for people to fill in.
#[must_use]
pub fn example(method: &Method) -> Value {
    let mut example = json!({});
    if !method.name.starts_with("scim.") {
        example["ok"] = Value::Bool(true);
    }
    for pointer in said_by_slack(method) {
        let mut place = &mut example;
        for part in pointer.trim_start_matches('/').split('/') {
            place = &mut place[part];
        }
        *place = Value::from("…");
    }
    example
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;

    #[test]
    fn what_slack_alone_says_is_asked_for_where_an_outcome_can_be_in_doubt() {
        let catalog = Catalog::built_in();
        let said = |method: &&Method| !said_by_slack(method).is_empty();
        assert!(catalog.methods().filter(said).count() > 20);
        for method in catalog.methods().filter(said) {
            let (name, pointers) = (&method.name, said_by_slack(method));
            assert!(method.writes && method.reconcile != Reconcile::Repeat, "{name}");
            let mut example = example(method);
            assert_eq!(lacks(method, &example), Vec::<&str>::new(), "{name}");
            *example.pointer_mut(&pointers[0]).unwrap() = Value::Null;
            assert_eq!(lacks(method, &example), [pointers[0].as_str()], "{name}");
            assert_eq!(from_request(method, &json!({})), None, "{name}");
        }
    }

    #[test]
    fn what_the_request_says_needs_no_person() {
        let catalog = Catalog::built_in();
        let answer = |name: &str, arguments: Value| from_request(catalog.by_name(name).unwrap(), &arguments).unwrap();
        assert_eq!(answer("conversations.kick", json!({"channel": "C1"})), json!({"ok": true}));
        assert_eq!(
            answer("usergroups.users.update", json!({"usergroup": "S1", "users": "U1,U2"})),
            json!({"ok": true, "usergroup": {"id": "S1", "users": ["U1", "U2"], "user_count": 2}})
        );
        assert_eq!(answer("scim.v2.put.Users.id", json!({"id": "U1"})), json!({"id": "U1"}));
    }
}
