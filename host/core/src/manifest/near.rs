//! A name that would do, for one that does not.

/// Whether a text follows the rule for a name.
pub(super) type Fits = fn(&str) -> bool;

/// A name that fits the rule and is near a text: `oops-tools` for `Oops Tools`, `topic.set` for `Topic.Set` where names
/// have dots.
pub(super) fn proposed(text: &str, fits: Fits) -> Option<String> {
    // The words of the longest name.
    let word = words_of(text.get(..text.len().min(127))?)?;
    // Where a dot cannot stand, what was meant is a word that follows.
    let dashed = word.replace('.', "-");
    let short = dashed.chars().take(63).collect();
    let candidates = [word, dashed, short];
    candidates.into_iter().map(|word| word.trim_matches(['-', '.']).to_owned()).find(|word| fits(word))
}

/// A text in lower case with `-` between its words; none where what was meant cannot be told.
fn words_of(text: &str) -> Option<String> {
    let mut words = String::new();
    let mut before = ' ';
    for c in text.chars() {
        match c {
            'a'..='z' | '0'..='9' => words.push(c),
            'A'..='Z' => {
                if before.is_ascii_lowercase() {
                    words.push('-');
                }
                words.push(c.to_ascii_lowercase());
            }
            '.' => {
                words.truncate(words.trim_end_matches(['-', '.']).len());
                words.push('.');
            }
            ' ' | '_' | '-' if !words.ends_with(['-', '.']) => words.push('-'),
            // What was meant cannot be told.
            '/' | ':' | '@' => return None,
            c if !c.is_ascii() => return None,
            _ => {}
        }
        before = c;
    }
    Some(words)
}
