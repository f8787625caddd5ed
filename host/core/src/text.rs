//! How a text that others wrote is shown: without characters that are not seen and change what is, and not too long.

use std::borrow::Cow;

/// Whether a character shows nothing of itself and steers how the text around it is shown: it turns its direction, takes
/// no width, breaks the line, is a filler or a tag. Control characters are not among them; see [`char::is_control`].
#[must_use]
pub const fn is_steering(c: char) -> bool {
    matches!(c,
        // Soft hyphen, grapheme joiner, Arabic letter mark, fillers of Hangul, vowels of Khmer and Mongolian that show
        // nothing.
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}'
        // Zero width, left-to-right and right-to-left marks, line and paragraph separators, embeddings and overrides.
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        // Word joiner, invisible operators, isolates, deprecated formatting.
        | '\u{2060}'..='\u{206f}'
        // More fillers of Hangul, the byte order mark, annotations and what is kept free beside them.
        | '\u{3164}' | '\u{ffa0}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}'
        // Marks of music, tags and selectors of variants.
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Whether a character can deceive whoever reads a line: a control character, or one that [is steering](is_steering).
#[must_use]
pub fn deceives(c: char) -> bool {
    c.is_control() || is_steering(c)
}

/// A text in which no character can move the cursor, colour, forge a line or turn a direction: each stands as its number,
/// `\u{1b}`.
#[must_use]
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(deceives) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if deceives(c) {
            plain.extend(c.escape_unicode());
        } else {
            plain.push(c);
        }
    }
    Cow::Owned(plain)
}

/// A text as one word of a command that a person types into a shell: as it is where no character of it means anything to
/// one, else in quotes. Characters that [deceive](deceives) stand as their bytes, in the quotes that POSIX has for that.
#[must_use]
pub fn shell_word(text: &str) -> Cow<'_, str> {
    use std::fmt::Write as _;

    let means_nothing = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(means_nothing) {
        return Cow::Borrowed(text);
    }
    if !text.contains(deceives) {
        return Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")));
    }
    let mut word = String::from("$'");
    for c in text.chars() {
        match c {
            '\'' | '\\' => word.extend(['\\', c]),
            c if deceives(c) => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    // A string takes whatever is written.
                    let _ = write!(word, "\\{byte:03o}");
                }
            }
            c => word.push(c),
        }
    }
    word.push('\'');
    Cow::Owned(word)
}

/// As [`plain`], of a text of several lines: line feeds stay, and tabs.
#[must_use]
pub fn plain_lines(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for part in text.split_inclusive(['\n', '\t']) {
        let end = part.strip_suffix(['\n', '\t']).map_or(part.len(), str::len);
        let (part, end) = part.split_at(end);
        shown.push_str(&plain(part));
        shown.push_str(end);
    }
    shown
}

/// JSON text of the same value in which no character of a string can do any of this either.
#[must_use]
pub fn plain_json(json: &str) -> String {
    use std::fmt::Write as _;
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        // Between strings there is no other control character than a line feed, and in a string that is escaped.
        if c != '\n' && deceives(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A text of at most `bytes_max` bytes, with `…` after them where there were more; no character is cut in two.
#[must_use]
pub fn cut(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    let end = (0..=bytes_max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    Cow::Owned(format!("{}…", &text[..end]))
}

/// The first `shown_max` of some words, and how many more there are: `a, b and 3 more`.
#[must_use]
pub fn few<W: AsRef<str>>(words: &[W], shown_max: usize) -> String {
    let shown: Vec<&str> = words.iter().take(shown_max).map(AsRef::as_ref).collect();
    match words.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_cut_between_characters() {
        assert_eq!(
            (cut("Zoë", 4), cut("Zoë", 3), cut("Zoë", 2), cut("é", 0)),
            ("Zoë".into(), "Zo…".into(), "Zo…".into(), "…".into())
        );
        assert_eq!(
            (few(&["a", "b"], 2), few(&["a", "b", "c"], 1), few::<&str>(&[], 1)),
            ("a, b".into(), "a and 2 more".into(), String::new())
        );
    }

    #[test]
    fn attack_b11_nothing_that_steers_stays() {
        for c in ('\0'..=char::MAX).filter(|c| deceives(*c)) {
            let text = format!("a{c}b");
            let shown = plain(&text);
            assert_eq!(shown, format!("a{}b", c.escape_unicode()));
            assert!(shown.is_ascii(), "{shown}");
        }
        assert_eq!(plain("Zoë, 日本語, עברית 👍"), "Zoë, 日本語, עברית 👍");
        let value = serde_json::json!({ "a\u{202e}": ["\u{9b}31m", "\u{e0001}x\u{7f}", "line\nline"] });
        for json in [value.to_string(), format!("{value:#}")] {
            let shown = plain_json(&json);
            assert!(shown.chars().all(|c| c == '\n' || !deceives(c)), "{shown}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }
        assert_eq!(plain_lines("a\tb\u{1b}[31m\r\nc\n"), "a\tb\\u{1b}[31m\\u{d}\nc\n");
    }
}
