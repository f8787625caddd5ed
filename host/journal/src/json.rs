//! A value as JSON text: written once, read once, and in between only passed on.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

/// See the module. Two are equal when their texts are.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// The text of `value`.
    ///
    /// # Errors
    /// It has no JSON: a map whose keys are no texts, or a number that is none.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        to_raw_value(value).map(Self)
    }

    /// A text that is JSON already, as it is; none where it is not JSON, or has blanks around it.
    pub fn of_text(text: &str) -> Option<Self> {
        let raw = RawValue::from_string(text.to_owned()).ok()?;
        (raw.get().len() == text.len()).then_some(Self(raw))
    }

    /// The text.
    pub fn text(&self) -> &str {
        self.0.get()
    }

    /// What the text says.
    ///
    /// # Errors
    /// It says something else than a `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.text())
    }
}

impl From<&serde_json::Value> for Json {
    fn from(value: &serde_json::Value) -> Self {
        // A value's own text is JSON by its type.
        Self(RawValue::from_string(value.to_string()).unwrap_or_default())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Json {}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_text_stays_as_it_is() {
        for text in ["{\"b\":1,\"a\": [1.0, -0, 1e3]}", "null", "\"a\\u0061\"", "18446744073709551616"] {
            let json = Json::of_text(text).unwrap();
            assert_eq!(json.text(), text);
            let inside = serde_json::to_string(&(1, &json)).unwrap();
            let (_, again): (u8, Json) = serde_json::from_str(&inside).unwrap();
            assert_eq!(again.text(), text, "inside another");
        }
        for text in ["", "{", " 1", "1 ", "nope", "[1,]", "{\"a\":1}x"] {
            assert!(Json::of_text(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn a_value_is_read_as_it_was_written() {
        let value = json!({ "text": "zoë \u{1F600}\n", "n": 0.1, "list": [null, true] });
        assert_eq!(Json::of(&value).unwrap().read::<Value>().unwrap(), value);
        assert_eq!(Json::from(&value), Json::of(&value).unwrap());
        assert!(Json::of_text("1e999").unwrap().read::<Value>().is_err());
    }
}
