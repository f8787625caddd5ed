//! Lists and single things as a host shows them.

use serde_json::{Value, json};

use super::Context;
use super::http::{Client, query};
use super::output::{Exit, Failure, columns, plain};

/// Items of a page, unless a host is told otherwise.
const PAGE_ITEMS: usize = 50;
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
    let (mut items, cursor) = pages(path, wanted, |path| Ok(client.get(path)?.body))?;
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

/// The first items of the list at `path`, `wanted` of them where there are so many, page by page; and the cursor behind
/// the last one. A host may have smaller pages than are asked for: then it is asked for pages of its own size.
fn pages(
    path: &str,
    wanted: usize,
    mut ask: impl FnMut(&str) -> Result<Value, Failure>,
) -> Result<(Vec<Value>, Option<String>), Failure> {
    let mut items: Vec<Value> = Vec::new();
    let mut cursor: Option<String> = None;
    // A page that nobody asked a size for has no more than these.
    let mut most = PAGE_ITEMS;
    loop {
        let left = wanted - items.len();
        let limit = (left < most).then(|| left.to_string());
        let answer = match (ask(&address(path, limit.as_deref(), cursor.as_deref())), limit) {
            (Err(refused), Some(_)) if refused.code == "request-invalid" => {
                most = left;
                // Where the size was not what is wrong, this is refused as well.
                ask(&address(path, None, cursor.as_deref()))?
            }
            (answer, _) => answer?,
        };
        items.extend(answer.get("result").and_then(Value::as_array).into_iter().flatten().cloned());
        let before = cursor;
        // A page may be empty and others come behind it.
        cursor = answer.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
        if items.len() >= wanted || cursor.is_none() || cursor == before {
            return Ok((items, cursor));
        }
    }
}

/// One page of the list at `path`, which may have a query.
fn address(path: &str, limit: Option<&str>, cursor: Option<&str>) -> String {
    let asked = [("limit", limit), ("cursor", cursor)];
    let asked = query(asked.into_iter().filter_map(|(name, value)| Some((name, value?))));
    let mark = if path.contains('?') { asked.replacen('?', "&", 1) } else { asked };
    format!("{path}{mark}")
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A list of a hundred numbers, of a host whose pages have at most `max`; `asked` are the pages that it was asked for.
    fn numbers(asked: &str, max: usize) -> Result<Value, Failure> {
        let value = |name: &str| {
            let (_, rest) = asked.split_once(&format!("{name}="))?;
            rest.split('&').next()?.parse::<usize>().ok()
        };
        let limit = value("limit").unwrap_or_else(|| PAGE_ITEMS.min(max));
        if limit == 0 || limit > max {
            return Err(Failure::failed("request-invalid", "one thing is wrong with the request"));
        }
        let from = value("cursor").unwrap_or(0);
        let end = (from + limit).min(100);
        let next = (end < 100).then(|| end.to_string());
        Ok(json!({ "result": (from..end).collect::<Vec<_>>(), "next_cursor": next }))
    }

    #[test]
    fn a_list_goes_on_in_pages_of_the_host_until_all_that_is_wanted_is_there() {
        for max in [1, 7, 20, 29, 30, 49, 50, 200] {
            for wanted in [1, 20, 29, 30, 31, 49, 51, 99] {
                let (items, cursor) = pages("/v1/runs?status=ended", wanted, |asked| numbers(asked, max)).unwrap();
                assert_eq!(items, (0..wanted).map(Value::from).collect::<Vec<_>>(), "{wanted} in pages of {max}");
                assert_eq!(cursor, Some(wanted.to_string()), "{wanted} in pages of {max}: where the rest begins");
            }
            let (items, cursor) = pages("/v1/runs", 101, |asked| numbers(asked, max)).unwrap();
            assert_eq!((items.len(), cursor), (100, None));
        }
    }

    #[test]
    fn a_list_that_is_refused_for_another_reason_is_refused() {
        let refuse = |_: &str| Err(Failure::failed("request-invalid", "there is no such status"));
        assert_eq!(pages("/v1/runs?status=x", 30, refuse).unwrap_err().message, "there is no such status");
    }
}
