//! What Slack's error codes mean to us: the class that a file can catch, and whether the answer says that what was
//! asked for already holds.

use std::sync::LazyLock;

use serde::Deserialize;

use super::Method;

/// What kind of refusal it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The plan does not include it; what preflight could not know shows here.
    Plan,
    /// The token lacks a scope.
    Scope,
    /// The token is of the wrong kind, or no longer valid.
    Token,
    /// The acting user or the workspace's policy forbids it.
    Permission,
    /// The connection is of the wrong sort, or the workspace is not granted or not named.
    Connection,
    /// The acting user or the app is not in the channel.
    Membership,
    /// The object is not there.
    NotFound,
    /// The object is there already.
    AlreadyExists,
    /// Not carried out; the same request may succeed later.
    Transient,
    /// Perhaps carried out.
    Unknown,
    /// The request is wrong.
    Arguments,
    /// Any other refusal.
    Other,
}

/// How a refusal appears to plugins, files and people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// The kind.
    pub kind: Kind,
    /// Our code; the URI of the class ends with it.
    pub code: &'static str,
    /// Whether this answer of this method says that what was asked for already holds.
    pub already_done: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    kind: Kind,
    code: String,
    errors: Vec<String>,
    #[serde(default)]
    prefixes: Vec<String>,
    #[serde(default)]
    suffixes: Vec<String>,
}

static LINES: LazyLock<Vec<Line>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../catalog/errors.json"))
        .expect("the file is part of the program and a test reads it")
});

/// The class of what Slack answered: `error` is the envelope's code, or SCIM's status as text.
#[must_use]
pub fn classify(method: &Method, error: &str) -> Class {
    let named = LINES.iter().find(|line| line.errors.iter().any(|e| e == error));
    let shaped = || {
        LINES.iter().find(|line| {
            line.suffixes.iter().any(|s| error.ends_with(s)) || line.prefixes.iter().any(|p| error.starts_with(p))
        })
    };
    let (kind, code) =
        named.or_else(shaped).map_or((Kind::Other, "slack-error"), |line| (line.kind, line.code.as_str()));
    Class { kind, code, already_done: method.already_done.iter().any(|e| e == error) }
}

/// Every code that [`classify`] can answer, each once.
#[must_use]
pub fn codes() -> Vec<&'static str> {
    let mut codes: Vec<_> = LINES.iter().map(|line| line.code.as_str()).chain(["slack-error"]).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bellhop_core::fault::{self, is_reserved};

    use super::*;
    use crate::catalog::Catalog;

    /// What nobody knows the end of is a state of a run, and the only class that a call is never answered with.
    #[test]
    fn house_b7_each_class_has_its_status_in_the_one_table() {
        for code in codes() {
            let is_known = fault::status_of_call(code).is_some() || (code == "outcome-unknown" && is_reserved(code));
            assert!(is_known, "`{code}` is no code of a call in `core/src/fault.rs`");
        }
    }

    #[test]
    fn an_error_is_in_one_class() {
        let mut seen = BTreeSet::new();
        for error in LINES.iter().flat_map(|line| &line.errors) {
            assert!(seen.insert(error), "`{error}` is in two classes");
        }
    }

    #[test]
    fn already_done_is_asked_of_the_method() {
        let catalog = Catalog::built_in();
        let add = catalog.by_name("reactions.add").unwrap();
        let invite = catalog.by_name("conversations.invite").unwrap();
        let scim = catalog.by_name("scim.v2.post.Users").unwrap();
        assert!(classify(add, "already_reacted").already_done);
        assert!(!classify(invite, "already_reacted").already_done);
        let taken = classify(scim, "409");
        assert!(taken.already_done && taken.code == "already-exists");
        for (error, code) in [
            ("paid_only", "plan-required"),
            ("missing_scope", "scope-missing"),
            ("channel_not_found", "not-found"),
            ("invalid_blocks", "invalid-arguments"),
            ("something_else", "slack-error"),
        ] {
            assert_eq!(classify(invite, error).code, code, "{error}");
        }
    }
}
