//! Typed, time-ordered identifiers, `prefix_ULID` on the outside.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is not an identifier of the wanted type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an identifier of the form `{prefix}_…` with 26 characters of Crockford's base 32")]
pub struct Error {
    /// What was given.
    pub text: String,
    /// The prefix that this type of identifier has.
    pub prefix: &'static str,
}

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(ulid::Ulid);

        impl $name {
            /// The text before the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// Makes an identifier from a time in milliseconds and 80 random bits.
            #[must_use]
            pub fn new(at: crate::time::Timestamp, entropy: u128) -> Self {
                Self(ulid::Ulid::from_parts(at.as_millis(), entropy))
            }

            /// One that is later than this, whatever the clock says, and close to it.
            #[must_use]
            pub fn next(self, entropy: u64) -> Self {
                Self(ulid::Ulid(self.0.0.saturating_add(1 + u128::from(entropy))))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                let wrong = || Error { text: text.chars().take(64).collect(), prefix: $prefix };
                let body = text.strip_prefix(concat!($prefix, "_")).ok_or_else(wrong)?;
                let id = ulid::Ulid::from_string(body).map_err(|_| wrong())?;
                // Only the canonical spelling is an identifier: two texts for one run would be two keys.
                if id.to_string() == body { Ok(Self(id)) } else { Err(wrong()) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    };
}

typed_id!(
    /// One execution of one workflow.
    RunId, "run"
);
typed_id!(
    /// One bearer token of the HTTP interface (its id, never its secret).
    TokenId, "tok"
);
typed_id!(
    /// One HTTP request, named in every problem and log line about it.
    RequestId, "req"
);
