//! Connections that stand in the environment: `BELLHOP_CONNECTION_<NAME>_{KIND,PERMISSION,BOT_TOKEN,USER_TOKEN,AUDIT_TOKEN}`.
//!
//! What is said of a variable never holds its value when it is a token.

use std::collections::BTreeMap;
use std::ffi::OsString;

use bellhop_core::diagnostic::nearest;
use bellhop_core::requirement::{Kind, Permission, TokenKind};
use bellhop_slack::client::Secret;

use super::output::Failure;
use crate::serve::Declared;

/// What all of them begin with.
pub(super) const PREFIX: &str = "BELLHOP_CONNECTION_";
const SUFFIXES: [&str; 5] = ["KIND", "PERMISSION", "BOT_TOKEN", "USER_TOKEN", "AUDIT_TOKEN"];

/// The connections that `variables` declare, by name.
///
/// # Errors
/// A variable that begins like one of these and is none, a value that cannot be used, a connection without a token:
/// exit code 2.
pub(super) fn connections(variables: impl Iterator<Item = (OsString, OsString)>) -> Result<Vec<Declared>, Failure> {
    let mut found: BTreeMap<String, Declared> = BTreeMap::new();
    let mut ours: Vec<(String, OsString)> =
        variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect();
    ours.retain(|(name, _)| name.starts_with(PREFIX));
    ours.sort();
    for (variable, value) in ours {
        let rest = &variable[PREFIX.len()..];
        let parts = SUFFIXES.iter().find_map(|suffix| Some((rest.strip_suffix(suffix)?.strip_suffix('_')?, *suffix)));
        let Some((stem, suffix)) = parts else { return Err(unknown(&variable, rest)) };
        let fits = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        if stem.is_empty() || !stem.chars().all(fits) {
            // `hq` and `HQ` would be two names of one connection.
            return Err(Failure::usage(format!(
                "{variable}: a connection's name stands there in upper case, with `_` for `-`"
            )));
        }
        let text = value.into_string().map_err(|_| Failure::usage(format!("{variable} is not UTF-8")))?;
        let text = text.trim();
        let declared = found.entry(stem.to_owned()).or_insert_with(|| Declared {
            stem: stem.to_owned(),
            kind: None,
            permission: None,
            tokens: BTreeMap::new(),
        });
        let refused = |why: String| Failure::usage(format!("{variable}: {why}"));
        match suffix {
            "KIND" => declared.kind = Some(text.parse::<Kind>().map_err(|e| refused(e.to_string()))?),
            "PERMISSION" => declared.permission = Some(text.parse::<Permission>().map_err(|e| refused(e.to_string()))?),
            token => {
                if text.is_empty() || text.contains(char::is_whitespace) {
                    return Err(Failure::usage(format!("{variable} does not hold one token")));
                }
                let kind = match token {
                    "BOT_TOKEN" => TokenKind::Bot,
                    "USER_TOKEN" => TokenKind::User,
                    _ => TokenKind::Audit,
                };
                declared.tokens.insert(kind, Secret::new(text.to_owned()));
            }
        }
    }
    // Only tokens: they are for `bellhop connect`, or for a connection that is there. Only the rest: of no use to anybody.
    if let Some(declared) = found.values().find(|declared| declared.tokens.is_empty()) {
        let stem = &declared.stem;
        return Err(Failure::usage(format!("{PREFIX}{stem}_… names no token")).with_help(format!(
            "set {PREFIX}{stem}_BOT_TOKEN, {PREFIX}{stem}_USER_TOKEN or {PREFIX}{stem}_AUDIT_TOKEN"
        )));
    }
    Ok(found.into_values().collect())
}

fn unknown(variable: &str, rest: &str) -> Failure {
    let failure = Failure::usage(format!("there is no variable {variable}"));
    // What stands behind the name is one or two words.
    let words: Vec<&str> = rest.rsplitn(3, '_').collect();
    let near = match words.as_slice() {
        [last, before, name] => nearest(&format!("{before}_{last}"), SUFFIXES)
            .map(|near| format!("{PREFIX}{name}_{near}"))
            .or_else(|| nearest(last, SUFFIXES).map(|near| format!("{PREFIX}{name}_{before}_{near}"))),
        [last, name] => nearest(last, SUFFIXES).map(|near| format!("{PREFIX}{name}_{near}")),
        _ => None,
    };
    failure.with_help(match near {
        Some(near) => format!("did you mean {near}?"),
        None => format!("it ends with one of {}", SUFFIXES.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Vec<Declared>, Failure> {
        connections(pairs.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))))
    }

    #[test]
    fn connections_are_read_from_the_environment() {
        let declared = read(&[
            ("BELLHOP_CONNECTION_ACME_HQ_BOT_TOKEN", " xoxb-1\n"),
            ("BELLHOP_CONNECTION_ACME_HQ_KIND", "grid-workspace"),
            ("BELLHOP_CONNECTION_ACME_KIND", "grid-org"),
            ("BELLHOP_CONNECTION_ACME_PERMISSION", "read"),
            ("BELLHOP_CONNECTION_ACME_USER_TOKEN", "xoxp-1"),
            ("BELLHOP_CONNECTION_ACME_AUDIT_TOKEN", "xoxp-2"),
            ("BELLHOP_URL", "http://x"),
        ])
        .unwrap();
        let seen: Vec<_> = declared.iter().map(|d| (d.stem.as_str(), d.kind, d.permission, d.tokens.len())).collect();
        assert_eq!(
            seen,
            [("ACME", Some(Kind::GridOrg), Some(Permission::Read), 2), ("ACME_HQ", Some(Kind::GridWorkspace), None, 1)]
        );
        assert_eq!(declared[1].tokens[&TokenKind::Bot].reveal(), "xoxb-1");
        assert!(!format!("{declared:?}").contains("xox"), "a token is never shown");
    }

    #[test]
    fn what_cannot_be_used_is_said_without_a_token() {
        for (pairs, message, help) in [
            (&[("BELLHOP_CONNECTION_HQ_BOTTOKEN", "xoxb-1")][..], "there is no variable", "_HQ_BOT_TOKEN?"),
            (&[("BELLHOP_CONNECTION_HQ_BOT_TOKN", "xoxb-1")], "there is no variable", "_HQ_BOT_TOKEN?"),
            (&[("BELLHOP_CONNECTION_HQ", "xoxb-1")], "there is no variable", "it ends with one of"),
            (&[("BELLHOP_CONNECTION_hq_BOT_TOKEN", "xoxb-1")], "in upper case", ""),
            (&[("BELLHOP_CONNECTION__BOT_TOKEN", "xoxb-1")], "in upper case", ""),
            (&[("BELLHOP_CONNECTION_HQ_BOT_TOKEN", "xoxb-1 xoxb-2")], "does not hold one token", ""),
            (&[("BELLHOP_CONNECTION_HQ_BOT_TOKEN", " ")], "does not hold one token", ""),
            (&[("BELLHOP_CONNECTION_HQ_KIND", "grid-workspace")], "names no token", "_HQ_BOT_TOKEN"),
            (
                &[("BELLHOP_CONNECTION_HQ_KIND", "grid"), ("BELLHOP_CONNECTION_HQ_BOT_TOKEN", "xoxb-1")],
                "_HQ_KIND: ",
                "",
            ),
        ] {
            let failure = read(pairs).unwrap_err();
            assert!(failure.message.contains(message), "{pairs:?}: {}", failure.message);
            assert!(failure.help.as_deref().unwrap_or_default().contains(help), "{pairs:?}: {:?}", failure.help);
            assert!(!format!("{failure:?}").contains("xox"), "a token came out: {failure:?}");
        }
    }
}
