//! What a set of tokens is a connection to, asked of Slack and never only claimed; and whether that is what the
//! operator said it was.

use std::collections::{BTreeMap, BTreeSet};

use bellhop_core::diagnostic::code::CONNECTIONS_DIFFER;
use bellhop_core::diagnostic::{Code, Diagnostic, Has, HttpRemedy, Needs, Remedy, Retryable};
use bellhop_core::requirement::{Kind, Plan, TokenKind};
use serde_json::{Value, json};

use crate::catalog::Catalog;
use crate::client::network::Fault;
use crate::client::{Answer, Client, Failure, Secret};

/// A workspace or an organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// `T…` or `E…`.
    pub id: String,
    /// As people call it, where Slack said so.
    pub name: Option<String>,
}

/// Whom a token acts for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The user as whom it acts.
    pub user_id: String,
    /// That user's name.
    pub user: Option<String>,
    /// Its scopes; none where Slack did not say.
    pub scopes: Option<BTreeSet<String>>,
    /// Whether it is a bot's; none where neither Slack nor the token's form says it.
    pub is_bot: Option<bool>,
}

/// What Slack says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detected {
    /// The kind that it is.
    pub kind: Kind,
    /// The plan; none where it could not be read, which is not Free.
    pub plan: Option<Plan>,
    /// Why it could not be read.
    pub plan_unknown_because: Option<String>,
    /// The workspace, for the two kinds of one workspace.
    pub workspace: Option<Named>,
    /// The organisation, for the two kinds of a Grid.
    pub enterprise: Option<Named>,
    /// Each token.
    pub tokens: BTreeMap<TokenKind, Actor>,
}

/// Why nothing was detected. No connection is made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no token to ask with.
    #[error("no token was given")]
    NoToken,
    /// Slack refuses a token.
    #[error("Slack refuses the {token} token: `{error}`")]
    Refused {
        /// Which.
        token: TokenKind,
        /// Slack's code.
        error: String,
    },
    /// Slack did not answer; the same may succeed later.
    #[error("Slack could not be asked about the {token} token: {failure}")]
    NoAnswer {
        /// Which.
        token: TokenKind,
        /// Why.
        failure: Failure,
    },
    /// The answer lacks what every answer has.
    #[error("Slack's answer about the {token} token has no `{field}`")]
    Incomplete {
        /// Which.
        token: TokenKind,
        /// The field.
        field: &'static str,
    },
    /// Two tokens are of different workspaces or organisations: a connection is to one.
    #[error("the {one} token is of {of_one} and the {other} token of {of_other}")]
    Differ {
        /// One of them.
        one: TokenKind,
        /// Where it belongs.
        of_one: String,
        /// The other.
        other: TokenKind,
        /// Where that belongs.
        of_other: String,
    },
}

impl Error {
    /// What two tokens need that are of two places, for people and machines.
    #[must_use]
    pub fn differing(&self) -> Option<Diagnostic> {
        let Self::Differ { one, of_one, other, of_other } = self else { return None };
        let message = format!("the {one} token and the {other} token do not belong together");
        let title =
            format!("give the {one} token and the {other} token of one workspace, or of one organisation as a whole");
        Some(Diagnostic {
            needs: Some(Needs { text: Some(format!("a {other} token of {of_one}")), ..Needs::default() }),
            has: Some(Has { text: Some(format!("a {other} token of {of_other}")), ..Has::default() }),
            retryable: Retryable::AfterRemedy,
            who: Some("whoever installed the app".to_owned()),
            remedies: vec![Remedy { title, command: None, http: None }],
            ..Diagnostic::error(CONNECTIONS_DIFFER, message)
        })
    }

    /// What failed on the way to Slack, where that is why nothing was detected.
    #[must_use]
    pub fn network(&self) -> Option<&Fault> {
        match self {
            Self::NoAnswer { failure, .. } => failure.network(),
            _ => None,
        }
    }
}

/// What one token's `auth.test` says.
struct Identity {
    actor: Actor,
    kind: Kind,
    team_id: String,
    team: Option<String>,
    enterprise_id: Option<String>,
}

/// Asks Slack: `auth.test` with each token, and for the plan `team.billing.info` where `auth.test` does not say it.
///
/// # Errors
/// When a token is refused or belongs elsewhere, or Slack does not answer. A plan that cannot be read is no error.
pub async fn detect(client: &Client, tokens: &BTreeMap<TokenKind, Secret>) -> Result<Detected, Error> {
    let mut identities: BTreeMap<TokenKind, Identity> = BTreeMap::new();
    for (&token, secret) in tokens {
        let answer = ask(client, "auth.test", secret).await;
        identities.insert(token, identity((token, secret), answer)?);
    }
    let Some((&one, first)) = identities.iter().next() else { return Err(Error::NoToken) };
    for (&other, identity) in &identities {
        if !belong_together(first, identity) {
            return Err(Error::Differ { one, of_one: belongs(first), other, of_other: belongs(identity) });
        }
    }
    let (plan, plan_unknown_because) = if first.enterprise_id.is_some() {
        // Only Enterprise has organisations.
        (Some(Plan::Enterprise), None)
    } else {
        billing_plan(client, tokens).await
    };
    let org = first.kind == Kind::GridOrg;
    Ok(Detected {
        kind: first.kind,
        plan,
        plan_unknown_because,
        workspace: (!org).then(|| Named { id: first.team_id.clone(), name: first.team.clone() }),
        enterprise: first
            .enterprise_id
            .clone()
            .map(|id| Named { id, name: if org { first.team.clone() } else { None } }),
        tokens: identities.into_iter().map(|(token, identity)| (token, identity.actor)).collect(),
    })
}

async fn ask(client: &Client, method: &str, token: &Secret) -> Result<Answer, Failure> {
    let method = Catalog::built_in().by_name(method).expect("a method that the catalog has; a test asks for it");
    client.send(method, &json!({}), token, None).await
}

fn identity((token, secret): (TokenKind, &Secret), answer: Result<Answer, Failure>) -> Result<Identity, Error> {
    let answer = answer.map_err(|failure| Error::NoAnswer { token, failure })?;
    if !answer.ok {
        return Err(Error::Refused { token, error: answer.error.unwrap_or_default() });
    }
    let text = |field: &str| answer.body.get(field).and_then(Value::as_str).filter(|t| !t.is_empty());
    let wanted = |field: &'static str| text(field).map(str::to_owned).ok_or(Error::Incomplete { token, field });
    let team_id = wanted("team_id")?;
    // An installation on a whole organisation has the organisation's id for a team.
    let org = answer.body.get("is_enterprise_install") == Some(&Value::Bool(true)) || team_id.starts_with('E');
    let enterprise_id = text("enterprise_id").or_else(|| org.then_some(team_id.as_str())).map(str::to_owned);
    Ok(Identity {
        kind: match (org, &enterprise_id) {
            (true, _) => Kind::GridOrg,
            (false, Some(_)) => Kind::GridWorkspace,
            (false, None) => Kind::Workspace,
        },
        actor: Actor {
            user_id: wanted("user_id")?,
            user: text("user").map(str::to_owned),
            scopes: answer.scopes.clone(),
            is_bot: is_bot(secret, text("bot_id").is_some()),
        },
        team: text("team").map(str::to_owned),
        team_id,
        enterprise_id,
    })
}

/// Whether a token is a bot's. `auth.test` names the bot of one that is; Slack's documentation has `xoxb-` for bots and
/// `xoxp-` for people, also behind the `xoxe.` of those that expire.
fn is_bot(token: &Secret, names_a_bot: bool) -> Option<bool> {
    let plain = token.reveal().trim_start_matches("xoxe.");
    let by_form = [("xoxb-", true), ("xoxp-", false)].into_iter().find(|(form, _)| plain.starts_with(form));
    if names_a_bot { Some(true) } else { by_form.map(|(_, is_bot)| is_bot) }
}

fn belong_together(a: &Identity, b: &Identity) -> bool {
    a.kind == b.kind && a.enterprise_id == b.enterprise_id && (a.kind == Kind::GridOrg || a.team_id == b.team_id)
}

fn belongs(identity: &Identity) -> String {
    match (&identity.enterprise_id, identity.kind) {
        (Some(enterprise), Kind::GridOrg) => format!("organisation {enterprise}"),
        (Some(enterprise), _) => format!("workspace {} of organisation {enterprise}", identity.team_id),
        (None, _) => format!("workspace {}", identity.team_id),
    }
}

async fn billing_plan(client: &Client, tokens: &BTreeMap<TokenKind, Secret>) -> (Option<Plan>, Option<String>) {
    let mut why = "no token can ask for it".to_owned();
    for secret in [TokenKind::Bot, TokenKind::User].into_iter().filter_map(|token| tokens.get(&token)) {
        match ask(client, "team.billing.info", secret).await {
            Ok(answer) if answer.ok => {
                let said = answer.body.get("plan").and_then(Value::as_str).unwrap_or_default();
                match plan(said) {
                    Some(plan) => return (Some(plan), None),
                    None => why = format!("Slack calls it `{}`", said.chars().take(64).collect::<String>()),
                }
            }
            Ok(answer) if answer.error.as_deref() == Some("missing_scope") => {
                "no token has the scope team.billing:read".clone_into(&mut why);
            }
            Ok(answer) => why = format!("Slack refuses to say: `{}`", answer.error.unwrap_or_default()),
            Err(failure) => why = format!("Slack did not say: {failure}"),
        }
    }
    (None, Some(why))
}

/// Slack's words for plans. An empty one is none of them: it is not taken for Free.
fn plan(said: &str) -> Option<Plan> {
    Some(match said {
        "free" => Plan::Free,
        "std" => Plan::Pro,
        "plus" => Plan::BusinessPlus,
        "compliance" => Plan::Compliance,
        "enterprise" => Plan::Enterprise,
        _ => return None,
    })
}

/// Why what was detected cannot be the connection that the operator asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Another kind.
    #[error("it is \"{}\", not \"{}\"", found.title(), claimed.title())]
    Kind {
        /// What the operator said.
        claimed: Kind,
        /// What it is.
        found: Kind,
    },
    /// A Free workspace.
    #[error("the workspace is on the plan \"Free\"")]
    Free,
    /// A person's token in the place of a bot's, or the reverse: calls would go out as somebody else than was meant.
    #[error("the token that was given as {given} token is {}", whose(*is_bot))]
    Token {
        /// As what it was given.
        given: TokenKind,
        /// Whether it is a bot's.
        is_bot: bool,
    },
}

const fn whose(is_bot: bool) -> &'static str {
    if is_bot { "a bot's" } else { "a person's" }
}

/// The codes of [`Mismatch::diagnostic`].
pub mod code {
    use bellhop_core::diagnostic::Code;

    /// The tokens are of another kind of connection than was said.
    pub const KIND_MISMATCH: Code = Code("connection-kind-mismatch");
    /// A Free workspace cannot be connected.
    pub const PLAN_FREE: Code = Code("plan-free");
}

/// Compares what the operator said with what Slack says, and reports all that does not fit.
#[must_use]
pub fn check(claimed: Kind, detected: &Detected) -> Vec<Mismatch> {
    let mut found = Vec::new();
    if claimed != detected.kind {
        found.push(Mismatch::Kind { claimed, found: detected.kind });
    }
    if detected.plan == Some(Plan::Free) {
        found.push(Mismatch::Free);
    }
    for (given, actor) in &detected.tokens {
        if let Some(is_bot) = actor.is_bot.filter(|is_bot| *is_bot != (*given == TokenKind::Bot)) {
            found.push(Mismatch::Token { given: *given, is_bot });
        }
    }
    found
}

impl Mismatch {
    /// For people and machines: what is needed, what is there, what to choose instead and who can.
    #[must_use]
    pub fn diagnostic(&self, connection: &str) -> Diagnostic {
        let base = |code: Code, message: String| Diagnostic {
            connection: Some(connection.to_owned()),
            retryable: Retryable::No,
            ..Diagnostic::error(code, message)
        };
        match self {
            Self::Free => Diagnostic {
                needs: Some(Needs {
                    title: Some("a paid plan: Pro, Business+ or Enterprise".to_owned()),
                    plans: vec![Plan::Pro, Plan::BusinessPlus, Plan::Enterprise],
                    ..Needs::default()
                }),
                has: Some(Has { title: Some("Free".to_owned()), plan: Some(Plan::Free), ..Has::default() }),
                retryable: Retryable::AfterRemedy,
                who: Some("a Workspace Owner".to_owned()),
                remedies: vec![Remedy {
                    title: "upgrade the workspace to Pro, Business+ or Enterprise, then connect it".to_owned(),
                    command: None,
                    http: None,
                }],
                ..base(code::PLAN_FREE, format!("a Free workspace cannot be connected as `{connection}`"))
            },
            Self::Token { given, is_bot } => {
                let message = format!("what was given as the {given} token of `{connection}` is {}", whose(*is_bot));
                other_token(*given, *is_bot, base(CONNECTIONS_DIFFER, message))
            }
            Self::Kind { claimed, found } => {
                let message = format!("`{connection}` cannot be connected as \"{}\"", claimed.title());
                let mut remedies = vec![Remedy {
                    title: format!("connect it as what it is, \"{}\"", found.title()),
                    command: Some(format!("bellhop connect slack --kind {found} --name {connection}")),
                    http: Some(HttpRemedy {
                        method: "POST".to_owned(),
                        path: "/v1/connections".to_owned(),
                        body: json!({"kind": found, "name": connection}),
                    }),
                }];
                if let Some(title) = instead(*claimed, *found) {
                    remedies.push(Remedy { title: title.to_owned(), command: None, http: None });
                }
                Diagnostic {
                    label: None,
                    needs: Some(Needs {
                        kinds: vec![*claimed],
                        title: Some(claimed.title().to_owned()),
                        ..Needs::default()
                    }),
                    has: Some(Has { kind: Some(*found), title: Some(found.title().to_owned()), ..Has::default() }),
                    who: Some(
                        match claimed {
                            Kind::GridOrg => "an Org Owner",
                            Kind::Workspace | Kind::GridWorkspace => "a Workspace Owner of that workspace",
                        }
                        .to_owned(),
                    ),
                    remedies,
                    ..base(code::KIND_MISMATCH, message)
                }
            }
        }
    }
}

/// What was given as a token of one kind is one of the other.
fn other_token(given: TokenKind, is_bot: bool, base: Diagnostic) -> Diagnostic {
    let other = if is_bot { TokenKind::Bot } else { TokenKind::User };
    let form = if given == TokenKind::Bot { "xoxb-" } else { "xoxp-" };
    Diagnostic {
        needs: Some(Needs {
            token: Some(given.to_string()),
            text: Some(format!("{} token: `{form}…`", whose(given == TokenKind::Bot))),
            ..Needs::default()
        }),
        has: Some(Has { text: Some(format!("{} token", whose(is_bot))), ..Has::default() }),
        retryable: Retryable::AfterRemedy,
        who: Some("whoever installed the app".to_owned()),
        remedies: vec![Remedy {
            title: format!("give it as what it is, the {other} token, and the {given} token in its place"),
            command: None,
            http: None,
        }],
        ..base
    }
}

/// What to choose in Slack to get the kind that was said.
fn instead(claimed: Kind, found: Kind) -> Option<&'static str> {
    match (claimed, found) {
        (Kind::GridWorkspace, Kind::GridOrg) => {
            Some("install the app on one workspace inside the Grid, not on the organisation")
        }
        (Kind::GridWorkspace, Kind::Workspace) => Some("choose a workspace that belongs to the Grid"),
        (Kind::GridOrg, Kind::GridWorkspace) => {
            Some("install the app on the top-level Grid, which an Org Owner can, not on a workspace inside it")
        }
        (Kind::GridOrg, Kind::Workspace) => Some("choose the top-level Grid: this workspace belongs to none"),
        (Kind::Workspace, _) => Some("choose a workspace outside Enterprise Grid"),
        _ => None,
    }
}
