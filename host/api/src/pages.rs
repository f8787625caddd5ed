//! Lists in pages: `{"result": […], "next_cursor": …}`. A cursor is opaque to callers.

use serde::Serialize;
use serde_json::{Value, json};

use super::params::Params;
use super::problem::{self, Problem};
use bellhop_limits::Limits;

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
    /// No more begins once there are so many bytes.
    bytes_max: u64,
}

/// Reads [`PARAMS`].
pub(super) fn wanted(params: &mut Params, limits: &Limits) -> Wanted {
    let limit = params.number("limit", LIMIT_DEFAULT, limits.list_items_max);
    let after = params.one("cursor").and_then(|text| {
        let read = decode(&text);
        if read.is_none() {
            params.refused("cursor", &"it is not a cursor that a list gave out");
        }
        read
    });
    Wanted { limit: usize::try_from(limit).unwrap_or(usize::MAX), after, bytes_max: limits.list_bytes_max }
}

/// The items of a page, as far as there is room for them.
pub(super) struct Room {
    items_max: usize,
    bytes_max: u64,
    bytes: u64,
    shown: Vec<Value>,
}

impl Room {
    /// For so many, and no more once there are so many bytes.
    pub(super) const fn of(items_max: usize, bytes_max: u64) -> Self {
        Self { items_max, bytes_max, bytes: 0, shown: Vec::new() }
    }

    /// Whether there is none left. There is for one item, however large that is.
    pub(super) fn is_full(&self) -> bool {
        self.shown.len() >= self.items_max || (self.bytes >= self.bytes_max && !self.shown.is_empty())
    }

    /// Takes one more.
    pub(super) fn take(&mut self, item: Value) {
        self.bytes += item.to_string().len() as u64;
        self.shown.push(item);
    }

    /// What it has.
    pub(super) fn into_items(self) -> Vec<Value> {
        self.shown
    }
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
    filled(items.iter().filter(behind), wanted, &key, show)
}

/// A page of a short list that is all in memory, in the order that it has.
pub(super) fn in_order<T>(
    items: &[T],
    wanted: &Wanted,
    key: impl Fn(&T) -> String,
    show: impl Fn(&T) -> Value,
) -> Result<Value, Problem> {
    let first = match &wanted.after {
        None => 0,
        Some(after) => match items.iter().position(|item| key(item).as_bytes() == after.as_slice()) {
            Some(last) => last + 1,
            None => return Err(of_another_list()),
        },
    };
    Ok(filled(items.iter().skip(first), wanted, key, show))
}

fn filled<'t, T: 't>(
    items: impl Iterator<Item = &'t T>,
    wanted: &Wanted,
    key: impl Fn(&T) -> String,
    show: impl Fn(&T) -> Value,
) -> Value {
    let mut room = Room::of(wanted.limit, wanted.bytes_max);
    let (mut last, mut more) = (None, false);
    for item in items {
        if room.is_full() {
            more = true;
            break;
        }
        room.take(show(item));
        last = Some(key(item));
    }
    let next = last.filter(|_| more).map(String::into_bytes);
    page(&room.into_items(), next.as_deref())
}

/// A value as JSON; what we make ourselves can always be written.
pub(super) fn shown(value: &impl Serialize) -> Result<Value, Problem> {
    serde_json::to_value(value).map_err(|error| Problem::internal(&error))
}

/// A cursor that decodes and is of another list.
pub(super) fn of_another_list() -> Problem {
    Problem::new(problem::REQUEST_INVALID, "`cursor`: it is not a cursor that this list gave out")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_d23_every_list_ends_its_pages_by_bytes_and_loses_nothing() {
        let items: Vec<String> = (0..30).map(|n| format!("{n:02}{}", "x".repeat(n * 10))).collect();
        for (limit, bytes_max) in [(200, 1), (200, 500), (3, 1 << 20), (200, 1 << 20)] {
            let (mut seen, mut ordered) = (Vec::new(), Vec::new());
            for is_ordered in [false, true] {
                let mut after = None;
                loop {
                    let wanted = Wanted { limit, after: after.clone(), bytes_max };
                    let show = |item: &String| json!(item);
                    let page = if is_ordered {
                        let reversed: Vec<String> = items.iter().rev().cloned().collect();
                        in_order(&reversed, &wanted, String::clone, show).unwrap()
                    } else {
                        of_all(items.clone(), &wanted, String::clone, show)
                    };
                    let shown = page["result"].as_array().unwrap();
                    assert!(!shown.is_empty() && shown.len() <= limit);
                    let bytes: usize = shown.iter().rev().skip(1).map(|item| item.to_string().len()).sum();
                    assert!(bytes < bytes_max as usize, "more began when there was no room");
                    let into = if is_ordered { &mut ordered } else { &mut seen };
                    into.extend(shown.iter().map(|item| item.as_str().unwrap().to_owned()));
                    let Some(cursor) = page["next_cursor"].as_str() else { break };
                    after = decode(cursor);
                }
            }
            ordered.reverse();
            assert_eq!((&seen, &ordered), (&items, &items));
        }
        let lost = Wanted { limit: 1, after: Some(b"not there".to_vec()), bytes_max: 1 };
        assert!(in_order(&items, &lost, String::clone, |item| json!(item)).is_err());
    }
}
