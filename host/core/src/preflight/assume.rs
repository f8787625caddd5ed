//! `--assume NAME=KIND[:PLAN[:PERMISSION]]`: what if this were a connection (semantics, section 5).

use std::collections::BTreeMap;

use crate::diagnostic::{Diagnostic, Needs, code};
use crate::requirement::{Connection, Kind, Permission, Plan, TokenKind, UnknownWord};

/// Why a text is no assumption; each names the part that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No `=`.
    #[error("`{text}` has no `=`: write NAME=KIND[:PLAN[:PERMISSION]], for example acme=grid-org")]
    Form {
        /// What was given.
        text: String,
    },
    /// The part before `=`.
    #[error("`{text}` is not a connection's name: lower-case letters, digits, `-` and `_`")]
    Name {
        /// What stood there.
        text: String,
    },
    /// The first part after `=`.
    #[error("kind {0}")]
    Kind(UnknownWord),
    /// The second part.
    #[error("plan {0}")]
    Plan(UnknownWord),
    /// The third part.
    #[error("permission {0}")]
    Permission(UnknownWord),
    /// A fourth part.
    #[error("`{text}` is too much: write NAME=KIND[:PLAN[:PERMISSION]]")]
    Trailing {
        /// What stood after the permission.
        text: String,
    },
    /// A kind inside Enterprise Grid with another plan than Enterprise Grid, or the reverse.
    #[error("a connection of kind `{kind}` cannot be on the plan `{plan}`")]
    Contradiction {
        /// The kind.
        kind: Kind,
        /// The plan.
        plan: Plan,
    },
}

impl Error {
    /// The same for people and machines.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        Diagnostic {
            needs: Some(Needs { text: Some("NAME=KIND[:PLAN[:PERMISSION]]".to_owned()), ..Needs::default() }),
            ..Diagnostic::error(code::ASSUMPTION_INVALID, self.to_string())
        }
    }
}

/// The connection that `text` describes. It holds all tokens and scopes; `grid-*` implies Enterprise Grid,
/// `workspace` without a plan leaves it unknown, the permission defaults to `act`.
pub fn parse(text: &str) -> Result<Connection, Error> {
    let shortened = |t: &str| t.chars().take(64).collect::<String>();
    let (name, facts) = text.split_once('=').ok_or_else(|| Error::Form { text: shortened(text) })?;
    let is_name_character = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_name_character) {
        return Err(Error::Name { text: shortened(name) });
    }
    let mut parts = facts.splitn(4, ':');
    let kind: Kind = parts.next().unwrap_or_default().parse().map_err(Error::Kind)?;
    let plan = parts.next().map(str::parse::<Plan>).transpose().map_err(Error::Plan)?;
    let permission = parts.next().map(str::parse).transpose().map_err(Error::Permission)?.unwrap_or(Permission::Act);
    if let Some(rest) = parts.next() {
        return Err(Error::Trailing { text: shortened(rest) });
    }
    let on_grid = kind != Kind::Workspace;
    if let Some(plan) = plan.filter(|p| on_grid != (*p == Plan::Enterprise)) {
        return Err(Error::Contradiction { kind, plan });
    }
    let plan = plan.or_else(|| on_grid.then_some(Plan::Enterprise));
    Ok(Connection {
        name: name.to_owned(),
        kind,
        permission,
        plan,
        plan_unknown_because: plan.is_none().then(|| "no plan was assumed".to_owned()),
        checked_at: None,
        tokens: [TokenKind::Bot, TokenKind::User, TokenKind::Audit]
            .map(|t| (t, None))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        assumed: true,
        workspace_id: None,
        enterprise_id: None,
    })
}
