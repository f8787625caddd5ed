//! PATCH: the operations of SCIM 2.0 as a partial resource, and changes of a member list.

use serde_json::{Map, Value, json};

use super::Failure;

const OPERATIONS_MAX: usize = 1_000;

/// What happens to the members of a group.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Members {
    Add(Vec<String>),
    Remove(Vec<String>),
    Set(Vec<String>),
}

/// `add`, `replace` or `remove`, where, and with what.
type Operation = (String, String, Value);

/// The operations, if the body has any.
fn operations(body: &Map<String, Value>) -> Result<Option<Vec<Operation>>, Failure> {
    let Some(operations) = body.get("Operations").or_else(|| body.get("operations")) else { return Ok(None) };
    let bad = || Failure::new(400, "invalid_patch");
    let operations = operations.as_array().filter(|list| list.len() <= OPERATIONS_MAX).ok_or_else(bad)?;
    let one = |operation: &Value| {
        let kind = operation["op"].as_str().map(str::to_lowercase)?;
        let path = operation["path"].as_str().unwrap_or_default().to_owned();
        matches!(kind.as_str(), "add" | "replace" | "remove").then(|| (kind, path, operation["value"].clone()))
    };
    operations.iter().map(|operation| one(operation).ok_or_else(bad)).collect::<Result<_, _>>().map(Some)
}

/// A person's PATCH as the attributes that it sets; what it removes is null.
pub(super) fn attributes(body: &Map<String, Value>) -> Result<Map<String, Value>, Failure> {
    let Some(operations) = operations(body)? else { return Ok(body.clone()) };
    let mut wanted = Map::new();
    for (kind, path, value) in operations {
        let value = if kind == "remove" { Value::Null } else { value };
        if path.is_empty() {
            match value {
                Value::Object(values) => {
                    for (name, value) in values {
                        set(&mut wanted, &name, value);
                    }
                }
                _ => return Err(Failure::new(400, "invalid_patch")),
            }
        } else {
            set(&mut wanted, &path, value);
        }
    }
    Ok(wanted)
}

fn set(wanted: &mut Map<String, Value>, path: &str, value: Value) {
    if path.to_lowercase().starts_with("emails") {
        let list = match value {
            Value::Array(_) | Value::Null => value,
            Value::Object(_) => json!([value]),
            text => json!([{"value": text, "primary": true}]),
        };
        wanted.insert("emails".to_owned(), list);
    } else if let Some(filter) = path.strip_prefix("phoneNumbers[").and_then(|rest| rest.strip_suffix("].value")) {
        // By filter and new value, beside a list that is added to.
        let picked = wanted.entry("phoneNumbers").or_insert_with(|| json!({}));
        if picked.is_object() {
            picked[filter] = value;
        }
    } else if !path.starts_with("urn:")
        && let Some((outer, inner)) = path.split_once('.')
    {
        let object = wanted.entry(outer.to_owned()).or_insert_with(|| json!({}));
        object[inner] = value;
    } else {
        wanted.insert(path.to_owned(), value);
    }
}

fn ids(value: &Value) -> Vec<String> {
    let id = |item: &Value| item["value"].as_str().or_else(|| item.as_str()).map(str::to_owned);
    match value {
        Value::Array(items) => items.iter().filter_map(id).collect(),
        other => id(other).into_iter().collect(),
    }
}

/// A group's PATCH: the new name, if any, and what happens to the members, in order.
pub(super) fn members(body: &Map<String, Value>) -> Result<(Option<String>, Vec<Members>), Failure> {
    let name = |value: &Value| value.as_str().map(str::to_owned);
    let Some(operations) = operations(body)? else {
        // SCIM 1.1: the members listed are added, those marked `delete` are removed.
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for member in body.get("members").and_then(Value::as_array).into_iter().flatten() {
            let gone = member["operation"].as_str() == Some("delete");
            if gone { removed.extend(ids(member)) } else { added.extend(ids(member)) }
        }
        return Ok((body.get("displayName").and_then(name), vec![Members::Remove(removed), Members::Add(added)]));
    };
    let (mut renamed, mut changes) = (None, Vec::new());
    for (kind, path, value) in operations {
        let picked = path.strip_prefix("members[").and_then(|rest| rest.split(['"', '\'']).nth(1));
        match (kind.as_str(), path.as_str()) {
            ("remove", _) if picked.is_some() => {
                changes.push(Members::Remove(picked.map(str::to_owned).into_iter().collect()));
            }
            ("remove", "members") if value.is_null() => changes.push(Members::Set(Vec::new())),
            ("remove", "members") => changes.push(Members::Remove(ids(&value))),
            ("add", "members") => changes.push(Members::Add(ids(&value))),
            ("replace", "members") => changes.push(Members::Set(ids(&value))),
            ("add" | "replace", "displayName") => renamed = name(&value),
            ("add" | "replace", "") => {
                renamed = value.get("displayName").and_then(name).or(renamed);
                if let Some(list) = value.get("members") {
                    changes.push(if kind == "add" { Members::Add(ids(list)) } else { Members::Set(ids(list)) });
                }
            }
            _ => return Err(Failure::new(400, "invalid_patch")),
        }
    }
    Ok((renamed, changes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(object) => object,
            other => panic!("{other} is no object"),
        }
    }

    #[test]
    fn operations_become_attributes() {
        let body = object(json!({"Operations": [
            {"op": "Replace", "path": "active", "value": false},
            {"op": "replace", "path": "name.givenName", "value": "Ada"},
            {"op": "replace", "path": "emails[primary eq true].value", "value": "a@b.example"},
            {"op": "remove", "path": "title"},
            {"op": "add", "value": {"nickName": "ada"}},
        ]}));
        let expected = json!({
            "active": false, "name": {"givenName": "Ada"}, "emails": [{"value": "a@b.example", "primary": true}],
            "title": null, "nickName": "ada",
        });
        assert_eq!(Value::Object(attributes(&body).unwrap()), expected);
        assert!(attributes(&object(json!({"Operations": [{"op": "jump"}]}))).is_err());
    }

    #[test]
    fn member_changes_of_both_versions() {
        let body = object(json!({"Operations": [
            {"op": "add", "path": "members", "value": [{"value": "U1"}]},
            {"op": "remove", "path": "members[value eq \"U2\"]"},
        ]}));
        let both = vec![Members::Add(vec!["U1".to_owned()]), Members::Remove(vec!["U2".to_owned()])];
        assert_eq!(members(&body).unwrap(), (None, both));
        let body = object(json!({"members": [{"value": "U1"}, {"value": "U2", "operation": "delete"}]}));
        let both = vec![Members::Remove(vec!["U2".to_owned()]), Members::Add(vec!["U1".to_owned()])];
        assert_eq!(members(&body).unwrap(), (None, both));
    }
}
