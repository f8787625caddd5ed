//! Whether a JSON pointer leads to a field that a schema names.

use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::pointer;

/// More subschemas are not looked at; a pointer is then taken to lead somewhere.
const STEPS_MAX: usize = 10_000;
/// The keywords whose subschemas say of the same value.
const OF_THE_SAME_VALUE: [&str; 6] = ["allOf", "anyOf", "oneOf", "if", "then", "else"];

/// Whether `pointer` leads to a value that `schema` describes, on any of its branches.
///
/// A field that is only not forbidden does not count, because a misspelt name is one too: it has to be named, or
/// `additionalProperties` has to be said.
pub(super) fn leads(schema: &Value, pointer: &str) -> bool {
    let Some(path) = tokens(pointer) else { return false };
    let mut steps = 0;
    let mut open: Vec<(&Value, usize)> = vec![(schema, 0)];
    let mut seen: HashSet<(*const Value, usize)> = HashSet::new();
    while let Some((at, depth)) = open.pop() {
        steps += 1;
        if depth == path.len() || steps > STEPS_MAX {
            return true;
        }
        if !seen.insert((std::ptr::from_ref(at), depth)) {
            continue;
        }
        let Value::Object(object) = at else { continue };
        for keyword in OF_THE_SAME_VALUE {
            match object.get(keyword) {
                Some(Value::Array(branches)) => open.extend(branches.iter().map(|branch| (branch, depth))),
                Some(branch) => open.push((branch, depth)),
                None => {}
            }
        }
        if let Some(referred) = object.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#'))
            && let Some(referred) = schema.pointer(referred)
        {
            open.push((referred, depth));
        }
        open.extend(below(object, &path[depth]).map(|found| (found, depth + 1)));
    }
    false
}

/// The schemas of the field or item `token`.
fn below<'s>(object: &'s Map<String, Value>, token: &str) -> impl Iterator<Item = &'s Value> {
    let named = object.get("properties").and_then(|properties| properties.get(token));
    // Their patterns are not matched here: whoever writes one means fields that have no names.
    let patterns = object.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(Map::values);
    let rest = object.get("additionalProperties").filter(|rest| **rest != Value::Bool(false));
    let index = token.parse::<usize>().ok();
    let place = index.and_then(|index| object.get("prefixItems")?.get(index));
    let item = index.and_then(|_| object.get("items")).filter(|items| **items != Value::Bool(false));
    named.into_iter().chain(patterns).chain(rest).chain(place).chain(item)
}

/// The parts of a JSON pointer (RFC 6901); none where it is none.
fn tokens(pointer: &str) -> Option<Vec<String>> {
    if pointer.is_empty() {
        return Some(Vec::new());
    }
    let path = pointer.strip_prefix('/')?;
    let whole = |part: &str| {
        let unescaped = part.replace("~1", "").replace("~0", "");
        (!unescaped.contains('~')).then(|| pointer::unescape(part).into_owned())
    };
    path.split('/').map(whole).collect()
}

/// The fields that a schema names at its top, for "did you mean".
pub(super) fn names(schema: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    let mut open = vec![schema];
    let mut steps = 0;
    while let Some(at) = open.pop() {
        steps += 1;
        if steps > STEPS_MAX {
            break;
        }
        let Value::Object(object) = at else { continue };
        names.extend(
            object.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys).map(String::as_str),
        );
        for keyword in OF_THE_SAME_VALUE {
            match object.get(keyword) {
                Some(Value::Array(branches)) => open.extend(branches),
                Some(branch) => open.push(branch),
                None => {}
            }
        }
    }
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pointer_leads_where_the_schema_names_a_field() {
        let schema = json!({
            "properties": { "channel": true, "a/b": { "properties": { "~": true } }, "list": { "items": { "$ref": "#/$defs/one" } } },
            "oneOf": [{ "properties": { "user": true } }, { "allOf": [{ "properties": { "group": { "additionalProperties": true } } }] }],
            "$defs": { "one": { "properties": { "id": true, "again": { "$ref": "#/$defs/one" } } } },
        });
        for there in ["", "/channel", "/a~1b/~0", "/list/3/id", "/list/0/again/again/id", "/user", "/group/any"] {
            assert!(leads(&schema, there), "{there}");
        }
        for nowhere in ["channel", "/chanel", "/channel/id", "/list/x", "/list/0/name", "/a~2b", "/Channel", "/"] {
            assert!(!leads(&schema, nowhere), "{nowhere}");
        }
        assert!(!leads(&json!({ "type": "object" }), "/any"), "what is only not forbidden is no field");
        assert!(!leads(&json!({ "$ref": "#" }), "/any"), "a schema that refers to itself ends");
        assert!(leads(&json!({ "properties": { "a": true }, "additionalProperties": { "type": "string" } }), "/b"));
    }

    #[test]
    fn names_are_those_of_every_branch() {
        let schema =
            json!({ "properties": { "b": true }, "anyOf": [{ "properties": { "a": true, "b": true } }, true] });
        assert_eq!(names(&schema), ["a", "b"]);
    }
}
