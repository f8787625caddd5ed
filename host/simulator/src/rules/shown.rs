//! The rules as people read them.

use std::fmt::Write as _;

use super::{AUDIT, Actor, Installation, Plan, Rule, SCIM, TokenKind, WEB};

/// Every rule, as a table in Markdown: a line for each method that is played.
#[must_use]
pub fn table() -> String {
    let mut out = String::from(
        "| method | bot's scopes | user's scopes | plan | installed on | acts as | a minute |\n|---|---|---|---|---|---|---|\n",
    );
    for rule in WEB.iter().chain(SCIM).chain(AUDIT) {
        let _infallible = writeln!(
            out,
            "| `{}` | {} | {} | {} | {}{} | {} | {} |",
            rule.method,
            scopes(rule, TokenKind::Bot),
            scopes(rule, TokenKind::User),
            plan(rule),
            installation(rule),
            if rule.needs_team_id { "; needs `team_id` there" } else { "" },
            actor(rule),
            rule.budget.per_minute,
        );
    }
    out
}

fn scopes(rule: &Rule, kind: TokenKind) -> String {
    if !rule.token_needed {
        return "none is asked for".to_owned();
    }
    if !rule.tokens.contains(&kind) {
        return "`not_allowed_token_type`".to_owned();
    }
    let scopes: Vec<String> = rule.scopes(kind).iter().map(|scope| format!("`{scope}`")).collect();
    if scopes.is_empty() { "any token".to_owned() } else { scopes.join(" or ") }
}

fn plan(rule: &Rule) -> String {
    let word = match rule.plan {
        Plan::Free => return "any".to_owned(),
        Plan::Pro => "Pro",
        Plan::BusinessPlus => "Business+",
        Plan::Enterprise => "Enterprise",
    };
    format!("{word}, else `{}`", rule.plan_error)
}

fn installation(rule: &Rule) -> &'static str {
    match rule.installation {
        Installation::Either => "either",
        Installation::Organisation => "the organisation",
        Installation::Top => "the organisation, or a workspace of none",
    }
}

fn actor(rule: &Rule) -> &'static str {
    match rule.actor {
        Actor::Anyone => "anyone",
        Actor::Admin => "an admin",
        Actor::OrganisationAdmin => "an admin of the organisation",
        Actor::OrganisationOwner => "an owner of the organisation",
    }
}
