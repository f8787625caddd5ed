//! User names as Slack takes them: at most 21 characters, lower-case letters, digits, `.`, `-` and `_`, unique among people
//! and channels (Slack's page of SCIM, `username_too_long`, `username_taken`, `username_not_allowed`).

/// Characters of a user name.
const CHARACTERS_MAX: usize = 21;
/// The last number that is put behind a name that somebody has.
const LAST: u32 = 9;
/// What a name is where nothing of the e-mail fits into one.
const NAMELESS: &str = "user";

/// The names that are tried for an e-mail, one after the other.
pub(crate) fn candidates(email: &str) -> Vec<String> {
    let name = fit(email.split('@').next().unwrap_or(email));
    let numbered = (2..=LAST).map(|number| format!("{}{number}", cut(&name, CHARACTERS_MAX - 1)));
    std::iter::once(cut(&name, CHARACTERS_MAX).to_owned()).chain(numbered).collect()
}

/// What fits of a text; what follows a `+` is an address's affair.
fn fit(text: &str) -> String {
    let text = text.split('+').next().unwrap_or(text).to_lowercase();
    let kept: String =
        text.chars().filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_')).collect();
    let kept = kept.trim_matches(['.', '-', '_']);
    if kept.is_empty() { NAMELESS.to_owned() } else { kept.to_owned() }
}

/// The beginning, without a mark at its end. The text is ASCII.
fn cut(name: &str, characters: usize) -> &str {
    name.get(..characters).unwrap_or(name).trim_end_matches(['.', '-', '_'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ() {
        for (email, first, second) in [
            ("ada@example.com", "ada", "ada2"),
            ("Ada.Lovelace+hr@example.com", "ada.lovelace", "ada.lovelace2"),
            ("bartholomew.featherstonehaugh@plus.example", "bartholomew.featherst", "bartholomew.feathers2"),
            ("o'brien@example.com", "obrien", "obrien2"),
            ("\u{738b}@example.com", "user", "user2"),
            ("a23456789012345678901.x@example.com", "a23456789012345678901", "a23456789012345678902"),
            ("a2345678901234567890.x@example.com", "a2345678901234567890", "a23456789012345678902"),
        ] {
            let names = candidates(email);
            assert_eq!((names[0].as_str(), names[1].as_str()), (first, second), "{email}");
            assert_eq!(names.len(), 9);
            assert!(names.iter().all(|name| name.chars().count() <= CHARACTERS_MAX), "{names:?}");
        }
    }
}
