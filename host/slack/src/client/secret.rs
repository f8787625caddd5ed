//! A token, and how tokens are kept out of everything that is shown.

use std::fmt;

use serde_json::Value;
use zeroize::Zeroizing;

/// A token of Slack. It has no `Display` and no `Serialize`, `Debug` shows nothing of it, and its memory is
/// overwritten when it is dropped.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text; blanks around it (a file's last line end) do not count.
    #[must_use]
    pub fn new(text: String) -> Self {
        let text = Zeroizing::new(text);
        Self(Zeroizing::new(text.trim().to_owned()))
    }

    /// Whether nothing was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The token itself: for the `Authorization` header and for the store that keeps it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What stands where a token stood.
pub const REMOVED: &str = "[token removed]";

/// How Slack's tokens begin, before the letter of their kind: `xoxb-`, `xoxe.xoxp-`, …
const SLACKS: &str = "xox";
/// How tokens of apps begin, and those of this host's own interface.
const OTHERS: [&str; 2] = ["xapp-", "bh_"];
/// A text such as "tokens begin with xoxb-" is none.
const TAIL_CHARS_MIN: usize = 8;
/// Fields whose value is a secret whatever it looks like.
const FIELDS: [&str; 8] = [
    "access_token",
    "app_token",
    "bot_access_token",
    "client_secret",
    "refresh_token",
    "signing_secret",
    "token",
    "verification_token",
];

/// Removes what is a token, or looks like one, from an answer. No answer given to a guest has been spared this.
pub fn strip(value: &mut Value, own: &Secret) {
    match value {
        Value::String(text) => {
            if let Some(clean) = without_tokens(text, own) {
                *text = clean;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| strip(item, own)),
        Value::Object(fields) => {
            if fields.keys().any(|name| without_tokens(name, own).is_some()) {
                *fields = std::mem::take(fields).into_iter().map(|(name, field)| (clean(&name, own), field)).collect();
            }
            for (name, field) in fields {
                match field {
                    Value::String(text) if FIELDS.contains(&name.as_str()) => REMOVED.clone_into(text),
                    _ => strip(field, own),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A text without tokens.
#[must_use]
pub fn clean(text: &str, own: &Secret) -> String {
    without_tokens(text, own).unwrap_or_else(|| text.to_owned())
}

/// A text of nobody's in particular, without what looks like a token of Slack.
#[must_use]
pub fn masked(text: &str) -> Option<String> {
    without_tokens(text, &Secret::new(String::new()))
}

/// The text without tokens; none when it has none, which is nearly always.
fn without_tokens(text: &str, own: &Secret) -> Option<String> {
    let mut clean = None;
    if own.reveal().len() >= TAIL_CHARS_MIN && text.contains(own.reveal()) {
        clean = Some(text.replace(own.reveal(), REMOVED));
    }
    let mut rest = clean.as_deref().unwrap_or(text);
    let mut out = String::new();
    let mut found = false;
    while let Some((at, beginning)) = first_beginning(rest) {
        let after = &rest[at + beginning.len()..];
        let tail = after.find(|c: char| !(c.is_ascii_alphanumeric() || "-._%".contains(c))).unwrap_or(after.len());
        out.push_str(&rest[..at]);
        if tail >= TAIL_CHARS_MIN {
            found = true;
            out.push_str(REMOVED);
        } else {
            out.push_str(&rest[at..at + beginning.len() + tail]);
        }
        rest = &after[tail..];
    }
    if !found {
        return clean;
    }
    out.push_str(rest);
    Some(out)
}

/// Where a token may begin, and what is surely its beginning.
fn first_beginning(text: &str) -> Option<(usize, &str)> {
    let slacks = text.match_indices(SLACKS).find_map(|(at, _)| {
        let rest = &text.as_bytes()[at + SLACKS.len()..];
        let is_one = matches!(rest, [b'a'..=b'z', b'-' | b'.', ..]);
        is_one.then(|| (at, &text[at..at + SLACKS.len() + 2]))
    });
    let others = OTHERS.into_iter().filter_map(|beginning| text.find(beginning).map(|at| (at, beginning)));
    others.chain(slacks).min_by_key(|(at, _)| *at)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_of_a_secret_is_shown() {
        let secret = Secret::new("xoxb-1234-abcd\n".to_owned());
        assert_eq!(format!("{secret:?}"), "…");
        assert_eq!(secret.reveal(), "xoxb-1234-abcd");
    }

    #[test]
    fn attack_b12_tokens_leave_keys_too() {
        let own = Secret::new("odd-token-of-a-test".to_owned());
        let mut answer = json!({ "xoxb-SUPERSECRET-1": { "of odd-token-of-a-test": 1 } });
        strip(&mut answer, &own);
        assert_eq!(answer, json!({ REMOVED: { "of [token removed]": 1 } }));
        assert_eq!(masked("kind xoxp-123456789 and xapp-1-A0-abcdef"), Some(format!("kind {REMOVED} and {REMOVED}")));
        assert_eq!(masked("tokens begin with xoxb-"), None);
    }

    #[test]
    fn tokens_leave_an_answer() {
        let own = Secret::new("odd-token-of-a-test".to_owned());
        let mut answer = json!({
            "access_token": "anything",
            "nested": [{"text": "use xoxb-1111111111-222 and xoxp-12345678."}],
            "echo": "Bearer odd-token-of-a-test!",
            "harmless": "tokens begin with xoxb- or xapp-1",
            "token_type": "bot",
        });
        strip(&mut answer, &own);
        assert_eq!(
            answer,
            json!({
                "access_token": REMOVED,
                "nested": [{"text": "use [token removed] and [token removed]"}],
                "echo": "Bearer [token removed]!",
                "harmless": "tokens begin with xoxb- or xapp-1",
                "token_type": "bot",
            })
        );
    }
}
