//! What actions need of a connection and what connections have, without knowing whose methods they are.
//!
//! The words are those of semantics section 5. The provider's room fills [`Rules`] from its catalog; this
//! crate only compares.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::diagnostic::nearest;
use crate::time::Timestamp;

/// No method's name has as many letters.
const LETTERS_MAX: usize = 200;

mod grant;
mod tenant;
mod whom;

pub use grant::{Arguments, Error as GrantError, Grant, Permits};
pub use tenant::{Elsewhere, Tenant};
pub use whom::open_to;

/// The three kinds of connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One workspace outside Enterprise Grid.
    Workspace,
    /// One workspace inside a Grid, installed on that workspace.
    GridWorkspace,
    /// The top-level Grid, installed org-wide.
    GridOrg,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Workspace, Self::GridWorkspace, Self::GridOrg];

    /// As in files and flags.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Workspace => "workspace",
            Self::GridWorkspace => "grid-workspace",
            Self::GridOrg => "grid-org",
        }
    }

    /// As people know it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Workspace => "Pro / Business+",
            Self::GridWorkspace => "Enterprise Grid: Workspace",
            Self::GridOrg => "Enterprise Grid: Grid account",
        }
    }
}

/// A plan that somebody pays for, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plan {
    /// Free.
    Free,
    /// Pro (`std`).
    Pro,
    /// Business+ (`plus`).
    BusinessPlus,
    /// Enterprise compliance (`compliance`): judged as Business+, `admin.*` on it unknown until run.
    Compliance,
    /// Enterprise Grid (`enterprise`).
    Enterprise,
}

impl Plan {
    /// As in files and flags.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Pro => "pro",
            Self::BusinessPlus => "business-plus",
            Self::Compliance => "compliance",
            Self::Enterprise => "enterprise",
        }
    }

    /// As people know it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Free => "Free",
            Self::Pro => "Pro",
            Self::BusinessPlus => "Business+",
            Self::Compliance => "Enterprise compliance",
            Self::Enterprise => "Enterprise Grid",
        }
    }
}

/// What the operator allows a connection to be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    /// Read only.
    Read,
    /// Read and take action.
    Act,
}

impl Permission {
    /// As in files and flags.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Act => "act",
        }
    }

    /// As people know it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Read => "read only",
            Self::Act => "read and take action",
        }
    }
}

/// Which of a connection's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// The app's bot token.
    Bot,
    /// An administrator's user token.
    User,
    /// An Org Owner's user token.
    Audit,
}

impl TokenKind {
    /// As in files and flags.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bot => "bot",
            Self::User => "user",
            Self::Audit => "audit",
        }
    }
}

/// A word that is none of the allowed ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not one of {allowed}")]
pub struct UnknownWord {
    /// What was given.
    pub text: String,
    /// What is allowed, for people.
    pub allowed: &'static str,
}

macro_rules! words {
    ($type:ty, $allowed:literal, [$($variant:expr),+]) => {
        impl FromStr for $type {
            type Err = UnknownWord;
            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                [$($variant),+]
                    .into_iter()
                    .find(|v| v.as_str() == text)
                    .ok_or_else(|| UnknownWord { text: text.chars().take(64).collect(), allowed: $allowed })
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
words!(Kind, "`workspace`, `grid-workspace`, `grid-org`", [Kind::Workspace, Kind::GridWorkspace, Kind::GridOrg]);
words!(
    Plan,
    "`free`, `pro`, `business-plus`, `compliance`, `enterprise`",
    [Plan::Free, Plan::Pro, Plan::BusinessPlus, Plan::Compliance, Plan::Enterprise]
);
words!(Permission, "`read`, `act`", [Permission::Read, Permission::Act]);
words!(TokenKind, "`bot`, `user`, `audit`", [TokenKind::Bot, TokenKind::User, TokenKind::Audit]);

/// The facts about one connection that preflight compares with. No secret is in here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The operator's name for it.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// What the operator allows.
    pub permission: Permission,
    /// The plan as last detected; none where it could not be read, which is not Free.
    pub plan: Option<Plan>,
    /// Why the plan is unknown, in a few words, when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_unknown_because: Option<String>,
    /// When plan and scopes were last read; none for an assumed connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked_at: Option<Timestamp>,
    /// The tokens held, each with its scopes; none where the scopes are not known.
    pub tokens: BTreeMap<TokenKind, Option<BTreeSet<String>>>,
    /// True for `--assume`: holds all tokens and scopes.
    #[serde(default)]
    pub assumed: bool,
    /// The workspace's id (`T…`), for the two kinds of one workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_id: Option<String>,
    /// The organisation's id (`E…`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enterprise_id: Option<String>,
}

/// Whether a method works on a kind of connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Availability {
    /// On every plan that can be connected.
    Yes,
    /// From this plan on.
    From(Plan),
    /// Never on this kind; these kinds would do, best first.
    No(Vec<Kind>),
}

/// A token that a method accepts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// The kind of token.
    pub token: TokenKind,
    /// Any one of these scopes suffices; empty: none is asked.
    pub scopes: Vec<String>,
    /// Whether one of `scopes` surely suffices, or the arguments decide which (a channel's type, say).
    pub depends_on_arguments: bool,
}

/// What is known of one method that guests can be given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Method {
    /// As the provider writes it: `chat.postMessage`.
    pub name: String,
    /// As guests import it: `chat.post-message`.
    pub function: String,
    /// Whether it changes anything: such a call has an intent and needs permission `act`.
    pub writes: bool,
    /// Accepted tokens, the preferred one first.
    pub access: Vec<Access>,
    /// Per kind of connection.
    pub availability: BTreeMap<Kind, Availability>,
    /// Whether an org connection must say which workspace.
    pub needs_workspace_on_org: bool,
    /// Requests per minute of its bucket.
    pub rate_per_minute: u32,
    /// Scopes that only resolving an unknown outcome needs (semantics 1): recommended, not required.
    pub reconcile_scopes: Vec<String>,
    /// What the method acts in, for the sentence under the mark: `acts in one workspace`.
    pub acts: String,
    /// Who can grant or connect what it needs, for people: `an Org Owner`.
    pub who: String,
    /// Whether no plan can be read off beforehand (semantics 6), and why.
    pub unknown_because: Option<String>,
    /// The names of the arguments that it takes; empty where they are not known.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// Whether it speaks in the name of whoever the token is of; see [`open_to`].
    #[serde(default)]
    pub speaks: bool,
}

/// What is known of a provider's methods, by their names as the provider writes them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// By provider name of the method.
    pub methods: BTreeMap<String, Method>,
    /// The methods, as guests import them, that the host calls for itself, by what it wants: `notify` tells people of a
    /// run, and a word of `x-bellhop` finds the id of such a name. No plugin asks for these, and no grant covers them.
    #[serde(default)]
    pub own: BTreeMap<String, String>,
    /// The methods, as guests import them, that take a `#name` where they take the id of a channel: the provider finds it.
    #[serde(default)]
    pub take_channel_names: BTreeSet<String>,
}

impl Rules {
    /// The rule of the method that guests import as `function` (`chat.post-message`).
    #[must_use]
    pub fn by_function(&self, function: &str) -> Option<&Method> {
        self.methods.values().find(|m| m.function == function)
    }

    /// The method that a text most probably means: in any spelling of words (`conversations.setTopic`,
    /// `conversations_set_topic`, `slack::conversations::set_topic`), else the nearest one, if any is near.
    #[must_use]
    pub fn meant(&self, text: &str) -> Option<&Method> {
        let letters = |text: &str| -> String {
            let kept = text.chars().filter(char::is_ascii_alphanumeric);
            kept.take(LETTERS_MAX).map(|c| c.to_ascii_lowercase()).collect()
        };
        let wanted = letters(text);
        let spelt = |wanted: &str| {
            let mut methods = self.methods.values();
            methods.find(|m| letters(&m.function) == wanted || letters(&m.name) == wanted)
        };
        let short = wanted.strip_prefix("slack").or_else(|| wanted.strip_prefix("bellhopslack"));
        if let Some(found) = spelt(&wanted).or_else(|| spelt(short?)) {
            return Some(found);
        }
        let function = nearest(text, self.methods.values().map(|m| m.function.as_str()));
        match function {
            Some(function) => self.by_function(function),
            None => self.methods.get(nearest(text, self.methods.keys().map(String::as_str))?),
        }
    }
}
