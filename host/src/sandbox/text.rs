//! What a guest or its binary says, made fit for an error, a log and a terminal.

use std::fmt::Write as _;

/// `text` with everything that is not printed written as an escape (`\u{1b}`): control characters, line breaks, and
/// what turns the direction of text or has no width. What is in an error came from strangers.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unprinted(c) {
            // Into a string, which takes everything.
            let _ = write!(plain, "{}", c.escape_unicode());
        } else {
            plain.push(c);
        }
    }
    plain
}

fn is_unprinted(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn author_c3_nothing_in_a_text_steers_a_terminal() {
        assert_eq!(plain("Grüße, 東京 🙂 `a.b`"), "Grüße, 東京 🙂 `a.b`");
        assert_eq!(plain("a\u{1b}[2Jb\r\nc\td"), "a\\u{1b}[2Jb\\u{d}\\u{a}c\\u{9}d");
        assert_eq!(
            plain("x\u{202e}y\u{9b}z\u{200b}\u{feff}\u{e0041}"),
            "x\\u{202e}y\\u{9b}z\\u{200b}\\u{feff}\\u{e0041}"
        );
    }
}
