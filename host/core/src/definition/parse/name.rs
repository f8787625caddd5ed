//! Names and versions, by the language's patterns.

/// `^[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$`: a namespace or a workflow's name.
#[must_use]
pub fn is_workflow_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Semantic Versioning 2.0.0.
#[must_use]
pub fn is_version(text: &str) -> bool {
    let (text, build) = match text.split_once('+') {
        Some((text, build)) => (text, Some(build)),
        None => (text, None),
    };
    let (core, pre) = match text.split_once('-') {
        Some((core, pre)) => (core, Some(pre)),
        None => (text, None),
    };
    let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let numeric = |w: &str| w.bytes().all(|b| b.is_ascii_digit());
    let mut numbers = core.split('.');
    text.len() <= 128
        && numbers.by_ref().take(3).filter(|n| is_number(n)).count() == 3
        && numbers.next().is_none()
        && pre.is_none_or(|p| p.split('.').all(|w| word(w) && (!numeric(w) || is_number(w))))
        && build.is_none_or(|b| b.split('.').all(word))
}

/// A decimal number without leading zeros.
pub(super) fn is_number(text: &str) -> bool {
    (1..=9).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'))
}

/// A name of a variable of an expression, without `$`.
#[must_use]
pub fn is_variable_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// Lower-case words with `-` between: a plugin, or an alias of a connection.
#[must_use]
pub fn is_plugin_name(text: &str) -> bool {
    text.len() <= 63 && is_word(text)
}

/// Plugin-like names with dots between: `message.send`.
#[must_use]
pub fn is_action_name(text: &str) -> bool {
    text.len() <= 127 && text.split('.').all(is_word)
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.ends_with('-')
}
