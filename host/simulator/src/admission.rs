//! Whether a call is let in at all: token, budget, kind, scope, plan, place, actor, `team_id`, in this order.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    arguments::Arguments,
    call::Refusal,
    limits::Limits,
    rules::{Actor, Installation, Rule, TokenKind},
    world::{Installed, Token, TokenState, World},
};

/// The token's account and the workspace that the call is about.
pub(crate) struct Admitted {
    pub(crate) token: Arc<Token>,
    pub(crate) workspace: Option<String>,
}

/// Who is asking. Fails as Slack does for a token that it does not take.
pub(crate) fn identify(world: &World, bearer: Option<&str>) -> Result<Arc<Token>, Refusal> {
    let token = world.tokens.get(bearer.ok_or("not_authed")?).ok_or("invalid_auth")?;
    match token.state {
        TokenState::Revoked => return Err("token_revoked".into()),
        TokenState::Expired => return Err("token_expired".into()),
        TokenState::Good => {}
    }
    if !world.users.get(&token.user).is_some_and(|account| account.active) {
        return Err("account_inactive".into());
    }
    Ok(Arc::clone(token))
}

pub(crate) fn admit(
    world: &World,
    limits: &mut Limits,
    rule: &'static Rule,
    token: &Arc<Token>,
    arguments: &Arguments,
    now_us: u64,
) -> Result<Admitted, Refusal> {
    let place = if rule.budget.burst > 0 { world.home_of(token.place()) } else { token.place().to_owned() };
    if let Some(seconds) = limits.take(rule, &place, now_us) {
        return Err(Refusal { retry_after_s: Some(seconds), ..Refusal::new("ratelimited") });
    }
    if !rule.tokens.contains(&token.kind) {
        return Err("not_allowed_token_type".into());
    }
    let scopes = rule.scopes(token.kind);
    if !token.has_any(scopes) {
        return Err(Refusal::scope(scopes, token));
    }
    if world.plan_of(token.place()) < rule.plan {
        return Err(rule.plan_error.into());
    }
    place_fits(world, rule, token)?;
    actor_fits(world, rule, token)?;
    let workspace = workspace_of(world, rule, token, arguments)?;
    Ok(Admitted { token: Arc::clone(token), workspace })
}

fn place_fits(world: &World, rule: &Rule, token: &Token) -> Result<(), Refusal> {
    let on_organisation = matches!(token.installed, Installed::Organisation { .. });
    let fits = match rule.installation {
        Installation::Either => true,
        Installation::Organisation => on_organisation,
        Installation::Top => on_organisation || world.home_of(token.place()) == token.place(),
    };
    // A workspace of an organisation has the plan, but its tokens were not made by an installation on the organisation.
    if fits { Ok(()) } else { Err("not_allowed_token_type".into()) }
}

fn actor_fits(world: &World, rule: &Rule, token: &Token) -> Result<(), Refusal> {
    if rule.actor == Actor::Anyone || token.kind == TokenKind::Bot {
        return Ok(());
    }
    let account = world.users.get(&token.user);
    let role = match &token.installed {
        Installed::Workspace(id) => account.and_then(|account| account.role_in(id)),
        Installed::Organisation { .. } => account.and_then(|account| account.organisation_role),
    };
    let (fits, error) = match rule.actor {
        Actor::Anyone => (true, ""),
        Actor::Admin | Actor::OrganisationAdmin => (role.is_some_and(|role| role.is_admin()), "not_an_admin"),
        Actor::OrganisationOwner => (role.is_some_and(|role| role.is_owner()), "user_not_authorized"),
    };
    if fits { Ok(()) } else { Err(error.into()) }
}

/// `team_id` counts for tokens of an organisation only; a workspace's token ignores it.
fn workspace_of(world: &World, rule: &Rule, token: &Token, arguments: &Arguments) -> Result<Option<String>, Refusal> {
    let granted = match &token.installed {
        Installed::Workspace(id) => return Ok(Some(id.clone())),
        Installed::Organisation { granted, .. } => granted,
    };
    let Some(team) = arguments.text("team_id").filter(|team| !team.is_empty()) else {
        return if rule.needs_team_id { Err("missing_argument".into()) } else { Ok(None) };
    };
    if team.as_ref() == token.place() && !rule.needs_team_id {
        return Ok(None);
    }
    let unknown = if rule.method == "team.accessLogs" { "invalid_team_id" } else { "team_not_found" };
    if world.home_of(&team) != token.place() || world.is_organisation(&team) {
        return Err(unknown.into());
    }
    // The organisation's admins manage every workspace; the app itself acts where it was granted.
    let managed = rule.actor != Actor::Anyone;
    if !managed && !granted.contains(team.as_ref()) {
        return Err("team_access_not_granted".into());
    }
    Ok(Some(team.into_owned()))
}

/// The headers that say what the token holds and what the method accepts.
pub(crate) fn scope_headers(rule: &Rule, token: &Token) -> [(&'static str, String); 2] {
    [("x-oauth-scopes", token.scope_line.clone()), ("x-accepted-oauth-scopes", rule.scopes(token.kind).join(","))]
}

/// The key that the host puts into a message, by which its effects are told apart.
pub(crate) fn key_of(arguments: &Arguments) -> Option<String> {
    let metadata = arguments.nested("metadata").ok().flatten()?;
    match metadata.pointer("/event_payload/bellhop")? {
        Value::String(key) => Some(key.clone()),
        other => Some(other.to_string()),
    }
}
