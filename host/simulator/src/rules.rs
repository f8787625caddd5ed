//! What this Slack asks of a call, written by hand from Slack's public reference.
//!
//! Nothing here is generated, and nothing here is shared with the catalog of the host: a test compares the two
//! tables row by row, so that a wrong plan, scope or `team_id` rule on either side is seen.

mod shown;
mod table;

pub use shown::table;
pub use table::{AUDIT, SCIM, WEB};

/// What a workspace pays for, cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plan {
    /// Free.
    Free,
    /// Pro, which `team.billing.info` calls `std`.
    Pro,
    /// Business+, which `team.billing.info` calls `plus`.
    BusinessPlus,
    /// Enterprise Grid; every workspace of an organisation has it.
    Enterprise,
}

impl Plan {
    /// The word of `team.billing.info`.
    #[must_use]
    pub fn billing_word(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Pro => "std",
            Self::BusinessPlus => "plus",
            Self::Enterprise => "enterprise",
        }
    }
}

/// Whom a token acts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenKind {
    /// `xoxb-…`: the app's own bot user.
    Bot,
    /// `xoxp-…`: a person who installed the app.
    User,
}

impl TokenKind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Bot => "bot",
            Self::User => "user",
        }
    }
}

/// Where the app must have been installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installation {
    /// On a workspace or on the organisation.
    Either,
    /// On the organisation only.
    Organisation,
    /// On the organisation, or on a workspace that belongs to none (SCIM).
    Top,
}

/// Who must stand behind the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Anyone.
    Anyone,
    /// An owner or admin of where the app is installed.
    Admin,
    /// An owner or admin of the organisation.
    OrganisationAdmin,
    /// An owner of the organisation.
    OrganisationOwner,
}

/// How often a method may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Calls a minute, per installation; for `chat.postMessage` over all channels together.
    pub per_minute: u32,
    /// Calls at once from rest. Zero means a plain window of one minute.
    pub burst: u32,
}

/// One method as this Slack judges it.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The Web API name, or `scim.v2.post.Users`, `audit.v1.logs`.
    pub method: &'static str,
    /// Whether an accepted call can change something.
    pub write: bool,
    /// Whether a token is asked for at all.
    pub token_needed: bool,
    /// Token kinds that are taken; others get `not_allowed_token_type`.
    pub tokens: &'static [TokenKind],
    /// Scopes of which a bot token must hold one; empty when none is asked for.
    pub bot_scopes: &'static [&'static str],
    /// Scopes of which a user token must hold one; empty when none is asked for.
    pub user_scopes: &'static [&'static str],
    /// The cheapest plan on which the method works.
    pub plan: Plan,
    /// The error on a cheaper plan.
    pub plan_error: &'static str,
    /// Where the app must be installed.
    pub installation: Installation,
    /// Who must stand behind the token.
    pub actor: Actor,
    /// Calls allowed.
    pub budget: Budget,
    /// Whether a token of an organisation must say `team_id`.
    pub needs_team_id: bool,
}

impl Rule {
    /// The rule of a Web API, SCIM or audit method by its name.
    #[must_use]
    pub fn of(method: &str) -> Option<&'static Self> {
        use std::{collections::HashMap, sync::LazyLock};
        static BY_NAME: LazyLock<HashMap<&'static str, &'static Rule>> =
            LazyLock::new(|| WEB.iter().chain(SCIM).chain(AUDIT).map(|rule| (rule.method, rule)).collect());
        BY_NAME.get(method).copied()
    }

    /// The scopes of which a token of this kind must hold one.
    #[must_use]
    pub fn scopes(&self, kind: TokenKind) -> &'static [&'static str] {
        match kind {
            TokenKind::Bot => self.bot_scopes,
            TokenKind::User => self.user_scopes,
        }
    }
}
