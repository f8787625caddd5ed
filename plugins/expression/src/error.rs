//! Why an expression has no value.

use serde::Serialize;

/// The answer for an expression without value, in the JSON form that the host reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Error {
    /// It cannot be parsed, or reads something that does not exist, or failed on this input.
    Invalid {
        /// What is wrong, cut after 300 characters.
        message: String,
        /// Byte offset in the program, where known.
        at: Option<u32>,
    },
    /// Its output is larger or deeper than an expression's may be.
    Budget {
        /// Which limit.
        what: String,
    },
}

/// Messages are cut here: jq's own quote the values that they complain about.
const MESSAGE_CHARS_MAX: usize = 300;

impl Error {
    /// An expression that failed, not at a place that can be named.
    #[must_use]
    pub fn invalid(message: impl AsRef<str>) -> Self {
        Self::Invalid { message: cut(message.as_ref()), at: None }
    }

    /// An expression that is wrong at a byte offset.
    #[must_use]
    pub fn invalid_at(message: impl AsRef<str>, at: usize) -> Self {
        Self::Invalid { message: cut(message.as_ref()), at: u32::try_from(at).ok() }
    }

    /// The JSON form.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("two strings and a number can be written")
    }
}

fn cut(message: &str) -> String {
    match message.char_indices().nth(MESSAGE_CHARS_MAX) {
        None => message.to_owned(),
        Some((end, _)) => format!("{}…", &message[..end]),
    }
}
