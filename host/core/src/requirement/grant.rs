//! What the operator lets a plugin call: `chat.postMessage`, `chat.postMessage@hq`, `chat.postMessage@hq:#it-*`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Rules;
use crate::diagnostic::nearest;

/// The field that a pattern without a field name is compared with.
const FIELD_DEFAULT: &str = "channel";
/// Longest grant text, in bytes; a Slack channel's name has at most 80 characters.
const TEXT_BYTES_MAX: usize = 256;
/// Most stars in one pattern: matching stays linear in practice, and nobody needs more.
const STARS_MAX: usize = 4;

/// One thing that a plugin may call. Nothing that is not granted is allowed.
///
/// Text form: `METHOD[@CONNECTION][:[FIELD=]PATTERN]`. `METHOD` is the provider's name, `CONNECTION` the operator's
/// name of a connection, `PATTERN` is compared with the argument `FIELD` (`channel` unless said), where `*` stands
/// for any run of name characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Grant {
    method: String,
    connection: Option<String>,
    argument: Option<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Pattern {
    field: String,
    text: String,
}

/// A text that is not a grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Longer than anybody's channel name asks for.
    #[error("a grant has at most {TEXT_BYTES_MAX} bytes")]
    TooLong,
    /// The part before `@` or `:`.
    #[error("`{text}` is not a method's name, such as `chat.postMessage`")]
    Method {
        /// What stood there.
        text: String,
    },
    /// No such method.
    #[error("there is no method `{method}`{}", .nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    Unknown {
        /// What was granted.
        method: String,
        /// What may have been meant.
        nearest: Option<String>,
    },
    /// The part after `@`.
    #[error("`{text}` is not a connection's name: lower-case letters, digits, `-` and `_`")]
    Connection {
        /// What stood there.
        text: String,
    },
    /// The part between `:` and `=`.
    #[error("`{text}` is not the name of an argument")]
    Field {
        /// What stood there.
        text: String,
    },
    /// The part after `:` or `=`.
    #[error("`{text}` is not a pattern: {why}")]
    Pattern {
        /// What stood there.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Whether a grant allows a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permits {
    /// It does not.
    No,
    /// That depends on arguments that are not known yet.
    Depends,
    /// It does.
    Yes,
}

/// The arguments of a call, as far as they are known.
#[derive(Debug, Clone, Copy)]
pub enum Arguments<'a> {
    /// None is known: before the action runs.
    Unknown,
    /// Before the action runs: the fields of its input that are known, which it passes on under the same names.
    Input(&'a Value),
    /// The call itself.
    Call {
        /// The object that goes to the provider.
        arguments: &'a Value,
        /// Names of channels by id, without `#`, as far as the host read them. An id without a name here matches
        /// no pattern that begins with `#`.
        names: &'a BTreeMap<String, String>,
    },
}

impl Grant {
    /// A grant of a method on every connection, whatever the arguments.
    pub fn of_method(method: &str) -> Result<Self, Error> {
        if !is_word(method, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')) {
            return Err(Error::Method { text: shortened(method) });
        }
        Ok(Self { method: method.to_owned(), connection: None, argument: None })
    }

    /// Whether there is such a method.
    ///
    /// # Errors
    /// With the method that may have been meant.
    pub fn check(&self, rules: &Rules) -> Result<(), Error> {
        if rules.methods.contains_key(&self.method) {
            return Ok(());
        }
        let nearest = nearest(&self.method, rules.methods.keys().map(String::as_str));
        Err(Error::Unknown { method: self.method.clone(), nearest: nearest.map(str::to_owned) })
    }

    /// The method, as the provider writes it.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The one connection that it is for; none: all.
    #[must_use]
    pub fn connection(&self) -> Option<&str> {
        self.connection.as_deref()
    }

    /// The field and pattern that an argument must match.
    #[must_use]
    pub fn argument(&self) -> Option<(&str, &str)> {
        self.argument.as_ref().map(|p| (p.field.as_str(), p.text.as_str()))
    }

    /// Whether it allows that call. Everything is compared character by character: what Slack might fold
    /// (case, width, spaces, lists) is a different text here and not allowed.
    #[must_use]
    pub fn permits(&self, method: &str, connection: &str, arguments: Arguments<'_>) -> Permits {
        if self.method != method || self.connection.as_deref().is_some_and(|c| c != connection) {
            return Permits::No;
        }
        let Some(pattern) = &self.argument else { return Permits::Yes };
        match arguments {
            Arguments::Unknown => Permits::Depends,
            Arguments::Input(fields) => match fields.get(&pattern.field).and_then(Value::as_str) {
                // A name and an id cannot be compared before the one is looked up.
                Some(value) if value.starts_with('#') == pattern.text.starts_with('#') => {
                    if pattern.matches(value, &BTreeMap::new()) { Permits::Depends } else { Permits::No }
                }
                _ => Permits::Depends,
            },
            Arguments::Call { arguments, names } => {
                let Some(value) = arguments.get(&pattern.field).and_then(Value::as_str) else { return Permits::No };
                if pattern.matches(value, names) { Permits::Yes } else { Permits::No }
            }
        }
    }

    /// The most that any of `grants` allows.
    #[must_use]
    pub fn any_permits(grants: &[Self], method: &str, connection: &str, arguments: Arguments<'_>) -> Permits {
        grants.iter().map(|g| g.permits(method, connection, arguments)).max().unwrap_or(Permits::No)
    }
}

impl Pattern {
    fn matches(&self, value: &str, names: &BTreeMap<String, String>) -> bool {
        if self.text.starts_with('#') && !value.starts_with('#') {
            // Only an id whose name the host itself read is compared as a name; a bare word, which Slack would
            // take for a channel's name, is not.
            return names.get(value).is_some_and(|name| glob(&self.text, &format!("#{name}")));
        }
        // No channel's name has upper-case letters; whoever writes some relies on folding.
        let folded = value.starts_with('#') && value.chars().any(char::is_uppercase);
        !folded && glob(&self.text, value)
    }
}

/// `*` stands for zero or more name characters. Both are compared as they are.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => {
            let Some(rest) = text.strip_prefix(head) else { return false };
            let mut ends = rest.char_indices().take_while(|(_, c)| is_name(*c)).map(|(i, c)| i + c.len_utf8());
            std::iter::once(0).chain(ends.by_ref()).any(|end| glob(tail, &rest[end..]))
        }
    }
}

/// A character that can stand in a channel's name or an id as Slack keeps it. White space, control and format
/// characters, list separators, combining marks and compatibility forms are none.
fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(c, '-' | '_')
        || (!c.is_ascii()
            && c.is_alphanumeric()
            && !c.is_uppercase()
            && !matches!(u32::from(c), 0xff00..=0xffef | 0x1d400..=0x1d7ff | 0x2000..=0x24ff))
}

fn is_word(text: &str, allowed: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(allowed)
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

impl FromStr for Grant {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(Error::TooLong);
        }
        let (target, pattern) = match text.split_once(':') {
            Some((target, pattern)) => (target, Some(pattern)),
            None => (text, None),
        };
        let (method, connection) = match target.split_once('@') {
            Some((method, connection)) => (method, Some(connection)),
            None => (target, None),
        };
        let mut grant = Self::of_method(method)?;
        if let Some(connection) = connection {
            if !is_word(connection, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_')) {
                return Err(Error::Connection { text: shortened(connection) });
            }
            grant.connection = Some(connection.to_owned());
        }
        grant.argument = pattern.map(Pattern::read).transpose()?;
        Ok(grant)
    }
}

impl Pattern {
    fn read(text: &str) -> Result<Self, Error> {
        let (field, pattern) = text.split_once('=').unwrap_or((FIELD_DEFAULT, text));
        if !is_word(field, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
            return Err(Error::Field { text: shortened(field) });
        }
        let wrong = |why| Err(Error::Pattern { text: shortened(pattern), why });
        let name = pattern.strip_prefix('#');
        if pattern.is_empty() || name == Some("") {
            return wrong("it is empty");
        }
        if !name.unwrap_or(pattern).chars().all(|c| c == '*' || is_name(c)) {
            return wrong("only letters, digits, `-`, `_` and `*` can stand in it");
        }
        if name.is_some_and(|n| n.chars().any(char::is_uppercase)) {
            return wrong("a channel's name has no upper-case letters");
        }
        if pattern.matches('*').count() > STARS_MAX {
            return wrong("it has more than four `*`");
        }
        Ok(Self { field: field.to_owned(), text: pattern.to_owned() })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.method)?;
        if let Some(connection) = &self.connection {
            write!(f, "@{connection}")?;
        }
        match &self.argument {
            None => Ok(()),
            Some(p) if p.field == FIELD_DEFAULT => write!(f, ":{}", p.text),
            Some(p) => write!(f, ":{}={}", p.field, p.text),
        }
    }
}

impl TryFrom<String> for Grant {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Grant> for String {
    fn from(grant: Grant) -> Self {
        grant.to_string()
    }
}
