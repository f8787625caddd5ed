//! Texts and values too large to be written out, from small expressions.
//!
//! | written | is |
//! |---|---|
//! | `{ repeat = T, times = N }` | the text N times, with `{n}` in it counted from 0, and `{n+1}` from 1 |
//! | `{ join = […] }` | all of them as one text; what is no text is written as JSON |
//! | `{ nest = "[]", depth = N, around = V }` | V in N lists; with another word than `[]`, in N objects of that key |
//! | `{ list = V, times = N }` | a list of N, with `{n}` counted in its texts |
//! | `{ fields = V, times = N }` | an object of N such fields |
//! | `{ json = V }` | V as text |
//!
//! Everything else is what it is.

use serde_json::{Map, Value};

/// No value is built deeper than this, because taking it apart again goes by recursion. Deeper ones are texts.
const DEPTH_MAX: u64 = 2_000;

/// The value that an expression is for.
pub(crate) fn value(written: &Value) -> Value {
    match written {
        Value::Array(items) => Value::Array(items.iter().map(value).collect()),
        Value::Object(fields) => {
            generated(fields).unwrap_or_else(|| fields.iter().map(|(k, v)| (k.clone(), value(v))).collect())
        }
        other => other.clone(),
    }
}

/// The text that an expression is for: a text itself, and JSON of everything else.
pub(crate) fn text(written: &Value) -> String {
    match value(written) {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn generated(fields: &Map<String, Value>) -> Option<Value> {
    let has = |names: &[&str]| fields.len() == names.len() && names.iter().all(|name| fields.contains_key(*name));
    let number = |name: &str| fields.get(name).and_then(Value::as_u64).unwrap_or(0);
    if has(&["repeat", "times"]) {
        let part = text(&fields["repeat"]);
        let times = number("times");
        let size = usize::try_from(times).unwrap_or(0);
        return Some(Value::String(if part.contains("{n") {
            (0..times).map(|n| numbered(&part, n)).collect()
        } else {
            part.repeat(size)
        }));
    }
    if has(&["join"]) {
        let parts = fields["join"].as_array()?;
        return Some(Value::String(parts.iter().map(text).collect()));
    }
    if has(&["nest", "depth", "around"]) {
        let mut inner = value(&fields["around"]);
        let key = fields["nest"].as_str()?;
        for _ in 0..number("depth").min(DEPTH_MAX) {
            inner = if key == "[]" {
                Value::Array(vec![inner])
            } else {
                Value::Object(Map::from_iter([(key.to_owned(), inner)]))
            };
        }
        return Some(inner);
    }
    if has(&["list", "times"]) {
        return Some(Value::Array((0..number("times")).map(|n| counted(&value(&fields["list"]), n)).collect()));
    }
    if has(&["fields", "times"]) {
        let item = value(&fields["fields"]);
        return Some(Value::Object((0..number("times")).map(|n| (format!("k{n}"), counted(&item, n))).collect()));
    }
    if has(&["json"]) {
        return Some(Value::String(value(&fields["json"]).to_string()));
    }
    None
}

fn numbered(text: &str, n: u64) -> String {
    text.replace("{n}", &n.to_string()).replace("{n+1}", &(n + 1).to_string())
}

/// With `{n}` in its texts counted.
fn counted(item: &Value, n: u64) -> Value {
    match item {
        Value::String(text) if text.contains("{n") => Value::String(numbered(text, n)),
        Value::Array(items) => Value::Array(items.iter().map(|item| counted(item, n)).collect()),
        Value::Object(fields) => fields.iter().map(|(key, item)| (key.clone(), counted(item, n))).collect(),
        other => other.clone(),
    }
}
