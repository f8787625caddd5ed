//! What a reader of JSON takes silently and changes: a key that stands twice, a number that it cannot hold, half of a
//! surrogate pair. Two readers of such a text may each see another value, so whoever takes a text from outside looks here
//! first.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use crate::pointer;
use crate::text::cut;

/// Something in a text that readers do not agree about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The JSON pointer of the value; of a key that stands twice, of its second value. A very long one is cut.
    pub pointer: String,
    /// What it is.
    pub what: What,
    /// Where it stands in the text, in bytes.
    pub at: Range<usize>,
}

/// See [`Finding::what`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The object has the key already.
    Duplicate,
    /// An integer below −2^63 or above 2^64−1.
    Integer,
    /// A number beyond a double's.
    Number,
    /// A surrogate without its pair: no character.
    Surrogate,
}

impl What {
    /// What is wrong, for people.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Duplicate => "the key stands twice in this object",
            Self::Integer => {
                "the integer is too large to be kept exactly: at least -2^63 and at most 2^64-1; send it as text"
            }
            Self::Number => "the number is larger than a double can be (about 1.8e308); send it as text",
            Self::Surrogate => {
                "the text has half of a surrogate pair (\\ud800 to \\udfff without its other half), which is no character"
            }
        }
    }
}

/// What is wrong with a text that is no JSON, for people.
#[must_use]
pub fn not_json(error: &serde_json::Error) -> String {
    let what = if error.is_eof() { "it ends before its JSON does" } else { "it is not JSON" };
    // A line's end is no column to the parser.
    format!("{what} (line {}, column {})", error.line(), error.column().max(1))
}

/// At most so many are told.
const FINDINGS_MAX: usize = 50;
/// A longer pointer is cut, because names of fields may be as long as the text, and each finding repeats them.
const POINTER_BYTES_MAX: usize = 2_000;
/// Deeper than this is not looked at: every reader here takes 128 levels, and refuses the text. A value may have half as
/// many ([`crate::value::DEPTH_MAX`]), because records put more around it.
const DEPTH_MAX: usize = 128;

/// An object or a list that is open.
enum Open<'t> {
    /// The keys so far, where they are kept, and the token of the one whose value comes.
    Object(HashSet<Cow<'t, str>>, &'t [u8]),
    /// The index of what comes.
    List(usize),
}

/// Whether keys are compared with those before them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    /// A key that stands twice is found, for the memory of all keys that are open.
    Compared,
    /// None is.
    PassedOver,
}

/// Everything of that kind in a text, at most [`FINDINGS_MAX`] of it. Of a text that is no JSON, as much as is found
/// before it goes wrong, or too deep: whoever parses it says so.
#[must_use]
pub fn findings(text: &[u8]) -> Vec<Finding> {
    let mut found = Vec::new();
    scan(text, Keys::Compared, &mut |what, at, open| {
        found.push(Finding { pointer: pointer_of(open), what, at });
        found.len() < FINDINGS_MAX
    });
    found
}

/// The text with each number that cannot be held as text: `1e400` becomes `"1e400"`.
#[must_use]
pub fn with_numbers_as_text(text: &[u8]) -> Cow<'_, [u8]> {
    let mut kept: Option<Vec<u8>> = None;
    let mut done = 0;
    scan(text, Keys::PassedOver, &mut |what, at, _| {
        if matches!(what, What::Integer | What::Number) {
            let kept = kept.get_or_insert_default();
            kept.extend_from_slice(&text[done..at.start]);
            kept.push(b'"');
            kept.extend_from_slice(&text[at.clone()]);
            kept.push(b'"');
            done = at.end;
        }
        true
    });
    match kept {
        None => Cow::Borrowed(text),
        Some(mut kept) => {
            kept.extend_from_slice(&text[done..]);
            Cow::Owned(kept)
        }
    }
}

/// Who hears of what is found: what, where in the text, and what is open there. Says whether to go on.
type Told<'f, 't> = &'f mut dyn FnMut(What, Range<usize>, &[Open<'t>]) -> bool;

/// Walks over the tokens of a text, in time proportional to its length: what is open is lent, and nothing is made of it.
fn scan<'t>(text: &'t [u8], keys: Keys, told: Told<'_, 't>) {
    let mut walk = Walk { keys, open: Vec::new(), key_comes: false };
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let start = at;
        let what = match byte {
            b'"' => {
                let (end, broken) = end_of_string(text, at);
                at = end;
                walk.string(&text[start..end]).or_else(|| broken.then_some(What::Surrogate))
            }
            b'-' | b'0'..=b'9' => {
                let is_part = |b: &&u8| matches!(b, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                at += text[at..].iter().take_while(is_part).count();
                number(&text[start..at])
            }
            _ => {
                at += 1;
                walk.mark(byte);
                None
            }
        };
        let goes_on = what.is_none_or(|what| told(what, start..at, &walk.open));
        if !goes_on || walk.open.len() > DEPTH_MAX {
            return;
        }
    }
}

/// Where a scan is.
struct Walk<'t> {
    keys: Keys,
    open: Vec<Open<'t>>,
    /// Whether a string that comes is a key.
    key_comes: bool,
}

impl<'t> Walk<'t> {
    /// A byte that is of no string and no number.
    fn mark(&mut self, byte: u8) {
        match byte {
            b'{' => {
                self.open.push(Open::Object(HashSet::new(), b""));
                self.key_comes = true;
            }
            b'[' => {
                self.open.push(Open::List(0));
                self.key_comes = false;
            }
            b'}' | b']' => {
                self.open.pop();
                self.key_comes = false;
            }
            b',' => {
                self.key_comes = matches!(self.open.last(), Some(Open::Object(..)));
                if let Some(Open::List(index)) = self.open.last_mut() {
                    *index += 1;
                }
            }
            _ => {}
        }
    }

    /// A string, with its quotes; as a key it may be there already.
    fn string(&mut self, token: &'t [u8]) -> Option<What> {
        if !std::mem::take(&mut self.key_comes) {
            return None;
        }
        let Some(Open::Object(keys, key)) = self.open.last_mut() else { return None };
        *key = token;
        let is_twice = self.keys == Keys::Compared && !keys.insert(decoded(token));
        is_twice.then_some(What::Duplicate)
    }
}

/// The pointer of the value that comes, of at most [`POINTER_BYTES_MAX`] bytes.
fn pointer_of(open: &[Open<'_>]) -> String {
    let mut pointer = String::new();
    for open in open {
        pointer.push('/');
        match open {
            Open::Object(_, key) => pointer.push_str(&pointer::escape(&decoded(key))),
            Open::List(index) => pointer.push_str(&index.to_string()),
        }
        if pointer.len() > POINTER_BYTES_MAX {
            break;
        }
    }
    cut(&pointer, POINTER_BYTES_MAX).into_owned()
}

/// Where the string that begins at `start` ends, and whether it has half of a surrogate pair.
fn end_of_string(text: &[u8], start: usize) -> (usize, bool) {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut at = start + 1;
    let mut broken = false;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => return (at + 1, broken),
            b'\\' => match unit(at) {
                Some(0xd800..=0xdbff) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => at += 12,
                Some(0xd800..=0xdfff) => {
                    broken = true;
                    at += 6;
                }
                Some(_) => at += 6,
                None => at += 2,
            },
            _ => at += 1,
        }
    }
    (text.len(), broken)
}

/// The text of a key; one that cannot be read stands for itself.
fn decoded(token: &[u8]) -> Cow<'_, str> {
    let inside = token.get(1..token.len().saturating_sub(1)).unwrap_or_default();
    if inside.contains(&b'\\')
        && let Ok(text) = serde_json::from_slice(token)
    {
        return Cow::Owned(text);
    }
    String::from_utf8_lossy(inside)
}

fn number(token: &[u8]) -> Option<What> {
    let text = std::str::from_utf8(token).ok()?;
    if token.iter().all(|b| matches!(b, b'-' | b'0'..=b'9')) {
        let fits = text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok();
        // What is no number at all is the parser's to refuse.
        let is_one = text.strip_prefix('-').unwrap_or(text).bytes().all(|b| b.is_ascii_digit());
        return (!fits && is_one && text != "-").then_some(What::Integer);
    }
    text.parse::<f64>().is_ok_and(f64::is_infinite).then_some(What::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<(String, What)> {
        findings(text.as_bytes()).into_iter().map(|f| (f.pointer, f.what)).collect()
    }

    #[test]
    fn attack_b16_what_readers_do_not_agree_about_is_found() {
        use What::{Duplicate, Integer, Number, Surrogate};
        for (text, expected) in [
            (r#"{"a":1,"a":2}"#, vec![("/a", Duplicate)]),
            (r#"{"n":1,"\u006e":2}"#, vec![("/n", Duplicate)]),
            (r#"{"a":{"b":[{"c":1},{"c":1,"d":2,"c":3}]}}"#, vec![("/a/b/1/c", Duplicate)]),
            (r#"{"a/b":{"~":1,"~":2}}"#, vec![("/a~1b/~0", Duplicate)]),
            (r#"[{"a":1},{"a":1}]"#, vec![]),
            (r#"{"a":{"a":{"a":1}},"b":"a","c":"\"a\""}"#, vec![]),
            ("123456789012345678901234567890", vec![("", Integer)]),
            ("[18446744073709551615,-9223372036854775808,0,-0,1]", vec![]),
            ("[18446744073709551616,-9223372036854775809]", vec![("/0", Integer), ("/1", Integer)]),
            (
                r#"{"x":[1e400,-1e400,1e308,1E+400,1e-400,0.1]}"#,
                vec![("/x/0", Number), ("/x/1", Number), ("/x/3", Number)],
            ),
            (r#"{"x":"1e400 and 99999999999999999999999"}"#, vec![]),
            (
                r#"["\ud83d\ude00","\ud800","\udc00\ud800","\ud800\u0041","\\ud800"]"#,
                vec![("/1", Surrogate), ("/2", Surrogate), ("/3", Surrogate)],
            ),
            ("", vec![]),
            ("{]}[,\"", vec![]),
            ("-", vec![]),
            ("1-1", vec![]),
        ] {
            let expected: Vec<(String, What)> = expected.into_iter().map(|(p, w)| (p.to_owned(), w)).collect();
            assert_eq!(told(text), expected, "{text}");
        }
        assert_eq!(told(&format!("[{}]", vec!["1e999"; 100].join(","))).len(), FINDINGS_MAX);
        // Depth costs no stack.
        assert_eq!(told(&"[".repeat(200_000)), []);
    }

    #[test]
    fn attack_b16_a_number_that_cannot_be_held_becomes_text() {
        let kept = |text: &str| String::from_utf8(with_numbers_as_text(text.as_bytes()).into_owned()).unwrap();
        assert_eq!(
            kept(r#"{"a":[1e400, 2],"b":123456789012345678901234567890}"#),
            r#"{"a":["1e400", 2],"b":"123456789012345678901234567890"}"#
        );
        assert!(matches!(with_numbers_as_text(br#"{"a":1.5,"b":"1e400"}"#), Cow::Borrowed(_)));
    }

    /// A megabyte, or a little more, of what makes a careless scan take long.
    fn hostile() -> Vec<String> {
        let numbers = |count: usize| vec!["1e999"; count].join(",");
        let nested = |open: &str, inner: &str| format!("{}{inner}", open.repeat(100));
        vec![
            // Many findings, each below many levels or a long name.
            nested("[", &numbers(170_000)),
            nested(r#"{"a":["#, &numbers(170_000)),
            format!(r#"{{"{}":[{}]}}"#, "k".repeat(500_000), numbers(85_000)),
            format!(r#"{{"{}":[{}]}}"#, r"\u0061".repeat(90_000), numbers(85_000)),
            // Levels without end, with and without names.
            "[".repeat(1 << 20),
            r#"{"a":"#.repeat(200_000),
            format!("{}{}", "[".repeat(500_000), numbers(85_000)),
            // Keys, strings and numbers without end.
            format!("{{{}}}", (0..100_000).map(|n| format!(r#""{n}":1"#)).collect::<Vec<_>>().join(",")),
            format!("\"{}", r"\ud800".repeat(180_000)),
            "1".repeat(1 << 20),
            "1-".repeat(1 << 19),
        ]
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "what is measured is real time")]
    fn a_hostile_text_takes_time_in_proportion() {
        for text in hostile() {
            let begun = std::time::Instant::now();
            let found = findings(text.as_bytes());
            let _kept = with_numbers_as_text(text.as_bytes());
            let took = begun.elapsed();
            assert!(took.as_secs() < 2, "{}… took {took:?}", &text[..20]);
            assert!(found.len() <= FINDINGS_MAX);
            assert!(found.iter().all(|f| f.pointer.len() <= POINTER_BYTES_MAX + "…".len()));
        }
    }

    #[test]
    fn what_no_reader_takes_is_not_looked_at() {
        let below = |levels: usize| format!("{}1e999{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(told(&below(128)).len(), 1);
        assert_eq!(told(&below(129)), []);
        let deep = below(129);
        assert!(matches!(with_numbers_as_text(deep.as_bytes()), Cow::Borrowed(_)));
        assert!(serde_json::from_str::<serde_json::Value>(&below(129).replace("1e999", "1")).is_err());
    }

    proptest::proptest! {
        #[test]
        fn a_text_of_any_bytes_is_scanned(bytes: Vec<u8>) {
            let _found = findings(&bytes);
            let _kept = with_numbers_as_text(&bytes);
        }
    }
}
