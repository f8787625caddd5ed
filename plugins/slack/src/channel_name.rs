//! Channel names as Slack takes them: at most 80 characters, lower-case letters of any script, digits, `-` and `_`, not all of
//! them marks (Slack's page of `conversations.create`, `invalid_name_…`).

use bellhop_plugin::Failure;
use serde_json::json;

const CHARACTERS_MAX: usize = 80;

/// The name as people write it, without `#`, in lower case.
pub(crate) fn plain(name: &str) -> String {
    name.trim().trim_start_matches('#').to_lowercase()
}

fn is_taken_by_slack(c: char) -> bool {
    (c.is_alphanumeric() && !c.is_uppercase()) || matches!(c, '-' | '_')
}

fn is_name(text: &str) -> bool {
    let is_short = text.chars().count() <= CHARACTERS_MAX;
    is_short && text.chars().all(is_taken_by_slack) && text.chars().any(char::is_alphanumeric)
}

/// The nearest name that Slack takes; empty where there is none.
pub(crate) fn fit(name: &str) -> String {
    let mut fitted = String::new();
    // Whether the last character stands for one that Slack does not take: one hyphen does for all that meet there.
    let mut is_made = false;
    for c in plain(name).chars().filter(|c| *c != '\'') {
        match (is_taken_by_slack(c), fitted.ends_with('-')) {
            (true, true) if c == '-' && is_made => {}
            (true, _) => {
                fitted.push(c);
                is_made = false;
            }
            (false, true) => is_made = true,
            (false, false) => {
                fitted.push('-');
                is_made = true;
            }
        }
    }
    let cut: String = fitted.trim_matches('-').chars().take(CHARACTERS_MAX).collect();
    let cut = cut.trim_end_matches('-');
    if cut.chars().any(char::is_alphanumeric) { cut.to_owned() } else { String::new() }
}

/// The name for Slack.
///
/// # Errors
/// Slack would not take it: the rule, and the name that would do. With `fits` that name is taken instead.
pub(crate) fn checked(name: &str, fits: bool) -> Result<String, Failure> {
    let plain = plain(name);
    if is_name(&plain) {
        return Ok(plain);
    }
    let would_do = fit(name);
    if fits && !would_do.is_empty() {
        return Ok(would_do);
    }
    let rule = if plain.chars().count() > CHARACTERS_MAX {
        "a channel's name has at most 80 characters"
    } else {
        "a channel's name has lower-case letters, digits, `-` and `_` alone, and not only marks"
    };
    let message = if would_do.is_empty() { rule.to_owned() } else { format!("{rule}: `{would_do}` would do") };
    let details = json!({ "name": name, "wouldDo": would_do });
    Err(Failure::new("channel-name-invalid", message).details(details))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_fit() {
        for (name, fitted) in [
            ("#Proj", "proj"),
            ("Project Apollo", "project-apollo"),
            ("joseph-d.-grant", "joseph-d-grant"),
            ("O'Brien & Sons", "obrien-sons"),
            ("\u{41a}\u{430}\u{43d}\u{430}\u{43b}", "\u{43a}\u{430}\u{43d}\u{430}\u{43b}"),
            ("___", ""),
            (" !? ", ""),
        ] {
            assert_eq!(fit(name), fitted, "{name}");
        }
        assert_eq!(fit(&"a".repeat(90)).len(), 80);
        assert!(checked("Project Apollo", false).is_err());
        assert!(checked("___", true).is_err());
        assert_eq!(checked("Project Apollo", true).ok().as_deref(), Some("project-apollo"));
        assert_eq!(checked("-4205", false).ok().as_deref(), Some("-4205"), "what Slack takes stays as it is");
        assert_eq!(checked("snake_case-1", false).ok().as_deref(), Some("snake_case-1"));
    }
}
