//! Lists and single things as a host shows them.

use serde_json::{Value, json};

use super::Context;
use super::http::{Client, query};
use super::output::{Exit, Failure, columns, plain};

/// Items of a page, unless a host is told otherwise.
const PAGE: usize = 50;
/// A list that is longer is cut, and that is said.
const ITEMS_MAX: usize = 10_000;

/// A heading, and where its value stands in an item.
pub(super) type Column = (&'static str, &'static str);

/// Shows the whole list at `path`, which may have a query.
pub(super) fn list(context: &Context, path: &str, shown: &[Column]) -> Result<Exit, Failure> {
    some(context, path, shown, ITEMS_MAX)
}

/// Shows at most `max` items of the list at `path`, which may have a query.
pub(super) fn some(context: &Context, path: &str, shown: &[Column], max: usize) -> Result<Exit, Failure> {
    let client = Client::new(context)?;
    // In text it is said whether there are more: one more is looked for.
    let wanted = if context.out.is_json() { max } else { max.saturating_add(1) };
    let mut items: Vec<Value> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let left = wanted - items.len();
        let limit = (left < PAGE).then(|| left.to_string());
        let asked = [("limit", limit.as_deref()), ("cursor", cursor.as_deref())];
        let asked = query(asked.into_iter().filter_map(|(name, value)| Some((name, value?))));
        let mark = if path.contains('?') { asked.replacen('?', "&", 1) } else { asked };
        let answer = client.get(&format!("{path}{mark}"))?.body;
        items.extend(answer.get("result").and_then(Value::as_array).into_iter().flatten().cloned());
        let before = cursor;
        // A page may be empty and others come behind it.
        cursor = answer.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
        if items.len() >= wanted || cursor.is_none() || cursor == before {
            break;
        }
    }
    let more = items.len() > max;
    items.truncate(max);
    let text = || {
        if items.is_empty() {
            return "none\n".to_owned();
        }
        let rows: Vec<Vec<String>> =
            items.iter().map(|item| shown.iter().map(|(_, pointer)| cell(item.pointer(pointer))).collect()).collect();
        let headings: Vec<&str> = shown.iter().map(|(heading, _)| *heading).collect();
        columns(&headings, &rows)
    };
    context.out.answer(text, &json!({ "result": items, "next_cursor": cursor }));
    if more && !context.out.is_json() {
        context.out.note(&format!("the first {max}; there are more"));
    }
    Ok(Exit::Done)
}

/// Shows one thing.
pub(super) fn show(context: &Context, path: &str) -> Result<Exit, Failure> {
    let answer = Client::new(context)?.get(path)?.body;
    context.out.answer(|| thing(&answer), &answer);
    Ok(Exit::Done)
}

/// The fields of a thing, one a line; deeper ones as JSON. A text is shown in its own lines.
pub(super) fn thing(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            let width = fields.keys().map(|name| name.chars().count()).max().unwrap_or(0);
            let shown = fields.iter().filter(|(name, value)| !value.is_null() && *name != "links");
            shown.map(|(name, value)| format!("{:width$}  {}\n", plain(name), cell(Some(value)))).collect()
        }
        other => format!("{other:#}"),
    }
}

/// A text of an object, in one line; empty where there is none.
pub(super) fn text(value: &Value, field: &str) -> String {
    plain(value.get(field).and_then(Value::as_str).unwrap_or_default())
}

/// A value in one line, with nothing in it that moves or colours others.
pub(super) fn cell(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => return String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
            items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        }
        Some(other) => other.to_string(),
    };
    plain(&text)
}
