//! How large and how deep a value may be. Every value is held to this where it is born, so that everything that is put
//! around it later (an event, a record, an answer over HTTP) has room for it.

use std::fmt::{self, Write as _};

use serde_json::{Number, Value};

use crate::text::plain;

/// The most levels of arrays and objects in a value. A record puts a dozen more around it, and whoever reads JSON here
/// takes 128: the rest is room.
pub const DEPTH_MAX: u32 = 64;

/// What a value takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// The length of its JSON text, without spaces.
    pub bytes: u64,
    /// Levels of arrays and objects: 0 for a text or a number, 1 for `[1]`.
    pub depth: u32,
}

/// Why a value is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It has more than [`DEPTH_MAX`] levels.
    #[error("it has {depth} levels of arrays and objects, and may have {DEPTH_MAX}")]
    TooDeep {
        /// What it has.
        depth: u32,
    },
    /// It is longer than a value may be.
    #[error("it has {bytes} bytes as JSON, and may have {bytes_max}")]
    TooLarge {
        /// What it has.
        bytes: u64,
        /// What it may have.
        bytes_max: u64,
    },
}

impl Error {
    /// The code of the fault or diagnostic that says it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::TooDeep { .. } => "value-too-deep",
            Self::TooLarge { .. } => "value-too-large",
        }
    }
}

/// What `value` takes.
#[must_use]
pub fn size(value: &Value) -> Size {
    match value {
        Value::Null => Size { bytes: 4, depth: 0 },
        Value::Bool(holds) => Size { bytes: if *holds { 4 } else { 5 }, depth: 0 },
        Value::Number(number) => Size { bytes: number_bytes(number), depth: 0 },
        Value::String(text) => Size { bytes: text_bytes(text), depth: 0 },
        Value::Array(items) => around(items.len(), items.iter().map(size)),
        Value::Object(fields) => around(
            fields.len(),
            fields.iter().map(|(name, value)| {
                let inner = size(value);
                Size { bytes: inner.bytes.saturating_add(text_bytes(name) + 1), depth: inner.depth }
            }),
        ),
    }
}

/// What a value is, for people: `text`, `a list`.
#[must_use]
pub const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// What a field of an object has to be.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Whether it has to be there.
    pub is_required: bool,
    /// What is needed, for people: `text`, `a whole number`.
    pub needed: &'static str,
    /// Whether a value is that.
    pub fits: fn(&Value) -> bool,
}

/// A value of which so many characters are shown.
const SHOWN_CHARS_MAX: usize = 60;

/// The first thing that is wrong with an object of these fields, for people: what is there, and what is needed. Fields that
/// are not named may be anything.
#[must_use]
pub fn wrong(value: &Value, fields: &[Field]) -> Option<String> {
    let Value::Object(object) = value else { return Some(format!("it is {}, and an object is needed", shown(value))) };
    fields.iter().find_map(|field| match object.get(field.name) {
        None if field.is_required => Some(format!("`{}` is missing, and {} is needed", field.name, field.needed)),
        Some(value) if !(field.fits)(value) => {
            Some(format!("`{}` is {}, and {} is needed", field.name, shown(value), field.needed))
        }
        None | Some(_) => None,
    })
}

/// What a value is, and the value itself where it is short.
#[must_use]
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null | Value::Array(_) | Value::Object(_) => kind_of(value).to_owned(),
        Value::Bool(_) | Value::Number(_) => format!("`{value}`"),
        Value::String(text) => {
            let text = plain(text);
            let short: String = text.chars().take(SHOWN_CHARS_MAX).collect();
            let more = if short.len() < text.len() { "…" } else { "" };
            format!("the text `{short}{more}`")
        }
    }
}

/// The levels of arrays and objects in `value`. Not recursive, because a value may come from anywhere.
#[must_use]
pub fn depth(value: &Value) -> usize {
    let mut deepest = 0;
    let mut open = vec![(value, 0)];
    while let Some((value, level)) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items.iter().map(|v| (v, level + 1))),
            Value::Object(fields) => open.extend(fields.values().map(|v| (v, level + 1))),
            _ => continue,
        }
        deepest = deepest.max(level + 1);
    }
    deepest
}

/// What several values take together, with what separates and encloses them.
fn around(count: usize, parts: impl Iterator<Item = Size>) -> Size {
    let separators = (count as u64).saturating_sub(1);
    let start = Size { bytes: separators + 2, depth: 0 };
    let inner = parts.fold(start, |sum, part| Size {
        bytes: sum.bytes.saturating_add(part.bytes),
        depth: sum.depth.max(part.depth),
    });
    Size { bytes: inner.bytes, depth: inner.depth + 1 }
}

/// The length of a number as JSON. Only what has a fraction is written out for it.
fn number_bytes(number: &Number) -> u64 {
    let digits = |number: u64| u64::from(number.checked_ilog10().unwrap_or(0)) + 1;
    match (number.as_u64(), number.as_i64()) {
        (Some(number), _) => digits(number),
        (None, Some(number)) => 1 + digits(number.unsigned_abs()),
        (None, None) => {
            let mut length = Length(0);
            // Counting cannot fail.
            let _ = write!(length, "{number}");
            length.0
        }
    }
}

/// Counts what is written to it.
struct Length(u64);

impl fmt::Write for Length {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len() as u64;
        Ok(())
    }
}

/// The length of a text as JSON: what is escaped is longer there.
#[must_use]
pub fn text_bytes(text: &str) -> u64 {
    let escaped = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 1,
        0..=0x1f => 5,
        _ => 0,
    };
    2 + text.len() as u64 + text.bytes().map(escaped).sum::<u64>()
}

/// Whether a value may be: no deeper than [`DEPTH_MAX`], and its JSON no longer than `bytes_max`.
///
/// # Errors
/// Which of the two it breaks, the depth first.
pub fn check(value: &Value, bytes_max: u64) -> Result<(), Error> {
    let Size { bytes, depth } = size(value);
    if depth > DEPTH_MAX {
        return Err(Error::TooDeep { depth });
    }
    if bytes > bytes_max {
        return Err(Error::TooLarge { bytes, bytes_max });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sizes_are_those_of_the_text() {
        let texts = json!({ "a": [1, 23, "x\"\\\n\u{1}\u{8}é"], "": {}, "list": [], "t": true, "f": false, "n": null });
        assert_eq!(size(&texts), Size { bytes: texts.to_string().len() as u64, depth: 2 });
        for number in [0_u64, 9, 10, 99, 100, u64::MAX] {
            assert_eq!(size(&json!(number)).bytes, number.to_string().len() as u64);
        }
        for number in [-1_i64, -9, -10, i64::MIN] {
            assert_eq!(size(&json!(number)).bytes, number.to_string().len() as u64);
        }
        for number in [0.0, -0.0, 0.5, -1.5, 1e16, 1e-7, f64::MAX, f64::MIN, f64::MIN_POSITIVE] {
            let number = json!(number);
            assert_eq!(size(&number).bytes, number.to_string().len() as u64, "{number}");
        }
    }

    #[test]
    fn a_value_is_held_to_both() {
        let deep = (0..64).fold(json!(1), |inner, _| json!([inner]));
        assert_eq!(check(&deep, 1 << 20), Ok(()));
        assert_eq!(check(&json!([deep]), 1 << 20), Err(Error::TooDeep { depth: 65 }));
        assert_eq!(check(&json!("xxxx"), 6), Ok(()));
        assert_eq!(check(&json!("xxxxx"), 6), Err(Error::TooLarge { bytes: 7, bytes_max: 6 }));
        // What is short in memory and long as JSON is long.
        assert_eq!(check(&json!("\u{0}\u{0}"), 13), Err(Error::TooLarge { bytes: 14, bytes_max: 13 }));
    }
}
