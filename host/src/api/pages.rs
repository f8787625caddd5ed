//! Lists in pages: `{"result": […], "next_cursor": …}`. A cursor is opaque to callers.

use serde::Serialize;
use serde_json::{Value, json};

use super::params::Params;
use super::problem::{self, Problem};

/// The parameters of every list.
pub(super) const PARAMS: [&str; 2] = ["limit", "cursor"];
/// Items of a page unless said otherwise.
const LIMIT_DEFAULT: u64 = 50;
/// Longer cursors are none of ours.
const CURSOR_BYTES_MAX: usize = 800;

/// What part of a list is asked for.
#[derive(Debug)]
pub(super) struct Wanted {
    /// At most so many items.
    pub(super) limit: usize,
    /// Those behind this key.
    pub(super) after: Option<Vec<u8>>,
}

/// Reads [`PARAMS`].
pub(super) fn wanted(params: &mut Params, items_max: u64) -> Wanted {
    let limit = params.number("limit", LIMIT_DEFAULT, items_max);
    let after = params.one("cursor").and_then(|text| {
        let read = decode(&text);
        if read.is_none() {
            params.refused("cursor", &"it is not a cursor that a list gave out");
        }
        read
    });
    Wanted { limit: usize::try_from(limit).unwrap_or(usize::MAX), after }
}

/// A key as a cursor.
pub(super) fn encode(key: &[u8]) -> String {
    key.iter().map(|b| format!("{b:02x}")).collect()
}

fn decode(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() || text.len() > CURSOR_BYTES_MAX || !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// A page.
pub(super) fn page(result: &[Value], next: Option<&[u8]>) -> Value {
    json!({ "result": result, "next_cursor": next.map(encode) })
}

/// A page of a short list that is all in memory, in the order of its keys.
pub(super) fn of_all<T>(
    mut items: Vec<T>,
    wanted: &Wanted,
    key: impl Fn(&T) -> String,
    show: impl Fn(&T) -> Value,
) -> Value {
    items.sort_by_cached_key(|item| key(item));
    let behind = |item: &&T| wanted.after.as_ref().is_none_or(|after| key(item).as_bytes() > after.as_slice());
    let mut behind = items.iter().filter(behind);
    let shown: Vec<&T> = behind.by_ref().take(wanted.limit).collect();
    let next = behind.next().and_then(|_| shown.last()).map(|last| key(last).into_bytes());
    let shown: Vec<Value> = shown.into_iter().map(show).collect();
    page(&shown, next.as_deref())
}

/// A value as JSON; what we make ourselves can always be written.
pub(super) fn shown(value: &impl Serialize) -> Result<Value, Problem> {
    serde_json::to_value(value).map_err(|error| Problem::internal(&error))
}

/// A cursor that decodes and is of another list.
pub(super) fn of_another_list() -> Problem {
    Problem::new(problem::REQUEST_INVALID, "`cursor`: it is not a cursor that this list gave out")
}
