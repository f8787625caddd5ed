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

/// The text without tokens; none when it has none, which is nearly always. Whoever wrote the text may have filled it with
/// beginnings of tokens: no byte is looked at again because one more follows.
fn without_tokens(text: &str, own: &Secret) -> Option<String> {
    let mut clean = None;
    if own.reveal().len() >= TAIL_CHARS_MIN && text.contains(own.reveal()) {
        clean = Some(text.replace(own.reveal(), REMOVED));
    }
    let text = clean.as_deref().unwrap_or(text);
    let bytes = text.as_bytes();
    let mut out = String::new();
    // What stands before it is in `out`.
    let mut done = 0;
    let mut at = 0;
    while let Some(ahead) = bytes[at..].iter().position(|b| matches!(b, b'b' | b'x')) {
        at += ahead;
        let Some(beginning) = beginning(&bytes[at..]) else {
            at += 1;
            continue;
        };
        let tail = bytes[at + beginning..].iter().take_while(|b| is_of_token(**b)).count();
        let end = at + beginning + tail;
        if tail >= TAIL_CHARS_MIN {
            out.push_str(&text[done..at]);
            out.push_str(REMOVED);
            done = end;
        }
        at = end;
    }
    if done == 0 {
        return clean;
    }
    out.push_str(&text[done..]);
    Some(out)
}

/// The length of what is surely the beginning of a token, if the text starts with one.
fn beginning(text: &[u8]) -> Option<usize> {
    if let Some(rest) = text.strip_prefix(SLACKS.as_bytes()) {
        return matches!(rest, [b'a'..=b'z', b'-' | b'.', ..]).then_some(SLACKS.len() + 2);
    }
    OTHERS.into_iter().find(|beginning| text.starts_with(beginning.as_bytes())).map(str::len)
}

fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._%".contains(&byte)
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

    /// What [`masked`] is to do, written without a thought for time.
    fn slowly(text: &str) -> String {
        let tail_of = |text: &str| text.bytes().take_while(|b| is_of_token(*b)).count();
        let mut out = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let slacks = rest.strip_prefix("xox").is_some_and(|rest| {
                rest.starts_with(|c: char| c.is_ascii_lowercase())
                    && rest.get(1..).is_some_and(|r| r.starts_with(['-', '.']))
            });
            let length = match rest {
                _ if slacks => 5,
                _ if rest.starts_with("xapp-") => 5,
                _ if rest.starts_with("bh_") => 3,
                _ => {
                    out.push(c);
                    rest = &rest[c.len_utf8()..];
                    continue;
                }
            };
            let tail = tail_of(&rest[length..]);
            out.push_str(if tail >= 8 { REMOVED } else { &rest[..length + tail] });
            rest = &rest[length + tail..];
        }
        out
    }

    #[test]
    fn whatever_is_around_a_token_stays() {
        let parts = ["xoxb-", "xoxe.", "xox", "xapp-", "xapp", "bh_", "b", "h_", "1234567", "a", ".%", " ", "é"];
        let mut texts = vec![String::new()];
        for _ in 0..5 {
            let longer: Vec<String> =
                texts.iter().flat_map(|text| parts.iter().map(move |part| format!("{text}{part}"))).collect();
            for text in &longer {
                assert_eq!(masked(text).as_deref().unwrap_or(text), slowly(text), "{text}");
            }
            texts = longer;
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "how long it takes is what is looked at")]
    fn a_text_full_of_beginnings_takes_no_longer() {
        const BYTES: usize = 8 << 20;
        let begun = std::time::Instant::now();
        for part in ["bh_ ", "xapp- ", "xoxb- ", "xox", "xoxb", "x", "b", "bh_", "xoxb-1234567 ", "bh_12345678 ", "é"]
        {
            let text = part.repeat(BYTES / part.len());
            let removed = masked(&text).map_or(0, |clean| clean.matches(REMOVED).count());
            let expected = match part {
                "bh_12345678 " => BYTES / part.len(),
                "bh_" => 1,
                _ => 0,
            };
            assert_eq!(removed, expected, "{part}");
        }
        // Looking at the rest anew for each of them takes an hour; this takes less than a second.
        assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
    }
}
