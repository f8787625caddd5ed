//! JSON by RFC 8259. YAML readers miss parts of it (`\ud83d\ude00` in a string, tabs as indentation), so it has
//! a reader of its own.

use std::iter::Peekable;
use std::str::Chars;

use super::Span;
use super::build::{Builder, Stop};
use super::scalar::Style;

struct Cursor<'t> {
    rest: Peekable<Chars<'t>>,
    line: usize,
    column: usize,
}

impl Cursor<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c == '\n' {
            self.line += 1;
            self.column = 0;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    fn peek(&mut self) -> Option<char> {
        self.rest.peek().copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\n')) {
            self.next();
        }
    }

    fn here(&self) -> Span {
        Span::point(self.line, self.column)
    }

    fn since(&self, start: Span) -> Span {
        Span { end_line: self.line, end_column: self.column, ..start }
    }
}

/// What may stand next.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    Value,
    /// A value, or the end of a list that has just begun.
    FirstItem,
    /// A key; or, `first`, the end of a mapping that has just begun.
    Key {
        first: bool,
    },
    Colon,
    /// `,` or the end of the container.
    Separator,
    Nothing,
}

pub(super) fn read(text: &str, builder: &mut Builder) -> Result<(), Stop> {
    let mut at = Cursor { rest: text.chars().peekable(), line: 0, column: 0 };
    let mut containers: Vec<char> = Vec::new();
    let mut next = Next::Value;
    loop {
        at.skip_space();
        let start = at.here();
        let Some(c) = at.peek() else {
            return match next {
                Next::Nothing => Ok(()),
                _ => Err(builder.syntax(start, "the JSON text ends too early".to_owned(), None)),
            };
        };
        let after_value = |containers: &[char]| if containers.is_empty() { Next::Nothing } else { Next::Separator };
        next = match (next, c) {
            (Next::Value | Next::FirstItem, '{' | '[') => {
                at.next();
                builder.start(c == '[', 0, at.since(start))?;
                containers.push(c);
                if c == '[' { Next::FirstItem } else { Next::Key { first: true } }
            }
            (Next::FirstItem | Next::Separator, ']') if containers.last() == Some(&'[') => {
                at.next();
                containers.pop();
                builder.end(at.since(start))?;
                after_value(&containers)
            }
            (Next::Key { first: true } | Next::Separator, '}') if containers.last() == Some(&'{') => {
                at.next();
                containers.pop();
                builder.end(at.since(start))?;
                after_value(&containers)
            }
            (Next::Separator, ',') => {
                at.next();
                if containers.last() == Some(&'[') { Next::Value } else { Next::Key { first: false } }
            }
            (Next::Colon, ':') => {
                at.next();
                Next::Value
            }
            (Next::Key { .. } | Next::Value | Next::FirstItem, '"') => {
                let text = string(&mut at, builder)?;
                builder.scalar(&text, Style::Text, None, 0, at.since(start))?;
                if matches!(next, Next::Key { .. }) { Next::Colon } else { after_value(&containers) }
            }
            (Next::Value | Next::FirstItem, '-' | '0'..='9' | 'a'..='z') => {
                let mut word = String::new();
                while let Some(c) = at.peek().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.')) {
                    word.push(c);
                    at.next();
                }
                let span = at.since(start);
                if !(matches!(word.as_str(), "true" | "false" | "null") || is_number(&word)) {
                    return Err(builder.syntax(
                        span,
                        "this is not a JSON value".to_owned(),
                        Some("write text in double quotes"),
                    ));
                }
                builder.scalar(&word, Style::Plain, None, 0, span)?;
                after_value(&containers)
            }
            (expected, _) => {
                let message = match expected {
                    Next::Value | Next::FirstItem => "a JSON value is expected here",
                    Next::Key { .. } => "a key in double quotes is expected here",
                    Next::Colon => "`:` is expected here",
                    Next::Separator => "`,` or the end of the list or object is expected here",
                    Next::Nothing => "the JSON text has ended before this",
                };
                return Err(builder.syntax(start, message.to_owned(), None));
            }
        };
    }
}

/// `-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?`
fn is_number(word: &str) -> bool {
    let rest = word.strip_prefix('-').unwrap_or(word);
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}

fn string(at: &mut Cursor<'_>, builder: &mut Builder) -> Result<String, Stop> {
    let start = at.here();
    at.next();
    let mut text = String::new();
    loop {
        let here = at.here();
        match at.next() {
            Some('"') => return Ok(text),
            Some('\\') => match at.next() {
                Some(c @ ('"' | '\\' | '/')) => text.push(c),
                Some('b') => text.push('\u{8}'),
                Some('f') => text.push('\u{c}'),
                Some('n') => text.push('\n'),
                Some('r') => text.push('\r'),
                Some('t') => text.push('\t'),
                Some('u') => {
                    let character = match unit(at) {
                        Some(high @ 0xd800..=0xdbff) if at.next() == Some('\\') && at.next() == Some('u') => unit(at)
                            .filter(|low| (0xdc00..=0xdfff).contains(low))
                            .and_then(|low| char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))),
                        Some(unit) => char::from_u32(unit),
                        None => None,
                    };
                    match character {
                        Some(c) => text.push(c),
                        None => return Err(builder.syntax(here, "this escape names no character".to_owned(), None)),
                    }
                }
                _ => return Err(builder.syntax(here, "JSON has no such escape".to_owned(), None)),
            },
            Some('\n') | None => return Err(builder.syntax(start, "this text does not end".to_owned(), None)),
            Some(c) if c < ' ' => {
                return Err(builder.syntax(
                    here,
                    "a control character has to be escaped in JSON text".to_owned(),
                    None,
                ));
            }
            Some(c) => text.push(c),
        }
    }
}

fn unit(at: &mut Cursor<'_>) -> Option<u32> {
    let mut value = 0;
    for _ in 0..4 {
        value = value * 16 + at.next()?.to_digit(16)?;
    }
    Some(value)
}
