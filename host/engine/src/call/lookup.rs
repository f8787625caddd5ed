//! What has a name: asked of Slack, and told apart from what Slack does not say.
//!
//! That there is nobody is what a leaver's workflow takes for "gone already". Only an answer that says just this is told
//! so: whatever else keeps an id from being found has a code of its own.

use std::sync::Arc;

use bellhop_core::requirement::{Availability, Kind};
use bellhop_slack::catalog::{Method, Own};
use bellhop_slack::client as slack;
use serde_json::{Value, json};

use super::known::{PEOPLE_BELIEVED, Register, Within};
use super::list::{Item, Meant, key, unescaped};
use super::listed::{Found, Listed};
use super::named::Named;
use super::scope::Scope;
use super::unresolved::{Name, Unresolved, ambiguous, fault, nobody, read, refused, shown, untold};
use crate::execution::Execution;

/// What Slack answers where nobody has an e-mail. Its other words for "not there" are about something else.
const NOBODY: &str = "users_not_found";

/// The id of what is called so. `input` has ids in place of the names that were looked up before.
pub(super) async fn find<E: Execution>(scope: &Scope<E>, name: &Name<'_>, input: &Value) -> Result<String, Unresolved> {
    let plain = plain(name.text);
    match name.named.listing() {
        Some(listing) => in_list(scope, name, plain, listing, input).await,
        None => person(scope, name, plain).await,
    }
}

/// A name without what people put before it.
pub(crate) fn plain(text: &str) -> &str {
    text.trim().trim_start_matches(['#', '@'])
}

async fn in_list<E: Execution>(
    scope: &Scope<E>,
    name: &Name<'_>,
    plain: &str,
    (own, list, mut arguments): (Own, &'static str, Value),
    input: &Value,
) -> Result<String, Unresolved> {
    let (services, named, facts) = (&scope.services, name.named, &scope.connection.facts);
    let Some(method) = services.gateway.catalog.own(own) else {
        return Err(untold(scope, name, "there is no method for that"));
    };
    let mut workspace = None;
    if method.needs_workspace_on_org && facts.kind == Kind::GridOrg {
        // Which workspace the names are of, the input says. Without one Slack may list nothing and call it all
        // (ConductorOne/baton-slack#78).
        let Some(of) = input["workspace"].as_str().filter(|id| !id.is_empty()) else {
            let why = "the connection is to a whole organisation, and the input names no workspace that it would be in: \
                       give its id";
            return Err(untold(scope, name, why));
        };
        arguments["team_id"] = of.into();
        workspace = Some(of);
    }
    let register = services.names.of(Within::of(facts, workspace).as_ref(), named);
    if let Some(id) = register.believed(plain, scope.monotonic()) {
        return Ok(id);
    }
    if named == Named::Channel
        && let Some(id) = register.remembered(plain)
    {
        if is_still_called(scope, name, &register, &id, plain).await? {
            return Ok(id);
        }
        register.lost(plain);
    }
    let listed = Listed { scope, name, register: &register, method, list, arguments, plain };
    match listed.read(name.asked_at).await? {
        Found::One(id) => Ok(id),
        Found::Among(listing) => match listing.meant_by(plain) {
            Meant::One(item) => Ok(item.id.to_string()),
            Meant::Several(items) => Err(ambiguous(scope, name, &items)),
            Meant::Nothing => Err(match &listing.withheld {
                Some(refusal) => refused(scope, name, method, refusal),
                None => nobody(scope, name, none_of(named), listing.near(plain).map(str::to_owned)),
            }),
        },
    }
}

fn none_of(named: Named) -> &'static str {
    match named {
        Named::Channel => {
            "the connection sees none of that name, and a private channel that the app is not in looks the same"
        }
        _ => "the connection sees none of that name",
    }
}

/// Whether the channel that had the name some time ago has it still. One request tells, where the list would take many.
async fn is_still_called<E: Execution>(
    scope: &Scope<E>,
    name: &Name<'_>,
    register: &Register,
    id: &str,
    plain: &str,
) -> Result<bool, Unresolved> {
    let Some(method) = scope.services.gateway.catalog.own(Own::ChannelName) else { return Ok(false) };
    let answer = read(scope, name, method, &json!({ "channel": id })).await?;
    let called = answer.body.pointer("/channel/name").and_then(Value::as_str).filter(|_| answer.ok);
    let is_so = called.is_some_and(|called| key(&unescaped(called)) == key(plain));
    if let Some(called) = called {
        register.is_called(id, &unescaped(called), scope.monotonic());
    }
    Ok(is_so)
}

/// The filter by which SCIM finds the account with an e-mail. A JSON string is what a filter takes as its value: written
/// so, nothing in the e-mail can become a part of the filter, and nothing of it is lost.
fn filter_of(email: &str) -> String {
    format!("email eq {}", Value::from(email))
}

/// What an answer says of who has an e-mail.
#[derive(Debug, PartialEq, Eq)]
enum Whom {
    One(String),
    Several(Vec<String>),
    Nobody,
    /// Slack did not say, in its own words or in none that can be read.
    Untold(Option<&'static str>),
}

fn whom(answer: &slack::Answer, email: &str) -> Whom {
    if !answer.ok {
        return if answer.error.as_deref() == Some(NOBODY) { Whom::Nobody } else { Whom::Untold(None) };
    }
    if let Some(user) = answer.body.get("user") {
        return user["id"].as_str().map_or(Whom::Untold(Some("a person without an id")), |id| Whom::One(id.to_owned()));
    }
    let Some(resources) = answer.body["Resources"].as_array() else {
        let none = answer.body["totalResults"].as_u64() == Some(0);
        return if none { Whom::Nobody } else { Whom::Untold(Some("nothing that says who it is")) };
    };
    // An answer to another question than the one that was asked must not name somebody.
    let has_it = |resource: &&Value| {
        let own = resource["emails"].as_array();
        own.is_none_or(|all| all.iter().any(|e| e["value"].as_str().is_some_and(|e| e.eq_ignore_ascii_case(email))))
    };
    let ids = resources.iter().filter(has_it).filter_map(|resource| resource["id"].as_str().map(str::to_owned));
    let mut ids: Vec<String> = ids.collect();
    match ids.len() {
        0 if resources.is_empty() => Whom::Nobody,
        0 => Whom::Untold(Some("people with other e-mails")),
        1 => Whom::One(ids.remove(0)),
        _ => Whom::Several(ids),
    }
}

/// Whether the connection has the provisioning interface, as far as is known: its kind, its plan, and a token for it.
fn provisions<E>(scope: &Scope<E>, method: &Method) -> bool {
    let connection = &scope.connection;
    let facts = &connection.facts;
    let rule = scope.services.gateway.rules.methods.get(&method.name);
    let offered = match rule.and_then(|rule| rule.availability.get(&facts.kind)) {
        Some(Availability::Yes) => true,
        Some(Availability::From(plan)) => facts.plan.is_none_or(|own| own >= *plan),
        Some(Availability::No(_)) | None => false,
    };
    let holds = |access: &bellhop_core::requirement::Access| {
        let scopes = facts.tokens.get(&access.token).and_then(Option::as_ref);
        connection.tokens.contains_key(&access.token)
            && scopes.is_none_or(|held| access.scopes.is_empty() || access.scopes.iter().any(|s| held.contains(s)))
    };
    offered && method.access.iter().any(holds)
}

async fn person<E: Execution>(scope: &Scope<E>, name: &Name<'_>, email: &str) -> Result<String, Unresolved> {
    let (services, facts) = (&scope.services, &scope.connection.facts);
    if !email.contains('@') {
        let detail = format!("`{}` is no person: an e-mail or an id was expected", shown(name.text));
        return Err(Unresolved::Fault(fault(scope, "invalid-arguments", &detail)));
    }
    let register = services.names.of(Within::of(facts, None).as_ref(), Named::User);
    if let Some(id) = register.found_lately(email, scope.monotonic()) {
        return Ok(id);
    }
    let by_email = services.gateway.catalog.own(Own::User);
    let by_email = by_email.filter(|method| scope.connection.token(method).is_some());
    let scim = services.gateway.catalog.own(Own::ProvisionedUser).filter(|method| provisions(scope, method));
    let (mut is_nobody, mut kept_back, tells_all) = (None, None, scim.is_some());
    // Slack's own look-up knows no deactivated people; the provisioning interface does, where there is one.
    for (method, arguments) in [(by_email, json!({ "email": email })), (scim, json!({ "filter": filter_of(email) }))] {
        let Some(method) = method else { continue };
        let answer = read(scope, name, method, &arguments).await?;
        match whom(&answer, email) {
            Whom::One(id) => {
                register.found(email, &id, scope.monotonic());
                return Ok(id);
            }
            Whom::Several(ids) => {
                let items: Vec<Item> = ids.iter().map(|id| Item::person(id, email)).collect();
                return Err(ambiguous(scope, name, &items.iter().collect::<Vec<_>>()));
            }
            Whom::Nobody => is_nobody = Some(method),
            Whom::Untold(why) => {
                kept_back.get_or_insert_with(|| match why {
                    Some(why) => untold(scope, name, &format!("{} answered {why}", method.name)),
                    None => refused(scope, name, method, &answer),
                });
            }
        }
    }
    // Whoever was not asked, or did not say, may know somebody.
    if let Some(kept_back) = kept_back {
        return Err(kept_back);
    }
    if is_nobody.is_some()
        && !tells_all
        && let Some(id) = deactivated(scope, name, &register, email).await?
    {
        return Ok(id);
    }
    Err(match is_nobody {
        Some(method) => nobody(scope, name, &format!("{} knows nobody with it", method.name), None),
        None => untold(scope, name, "the connection has no token that people are looked up with"),
    })
}

/// The id of somebody who was deactivated and has the e-mail, where the list of the workspace's people is all that tells.
async fn deactivated<E: Execution>(
    scope: &Scope<E>,
    name: &Name<'_>,
    register: &Arc<Register>,
    email: &str,
) -> Result<Option<String>, Unresolved> {
    let facts = &scope.connection.facts;
    let Some(method) = scope.services.gateway.catalog.own(Own::Members).filter(|_| sees_emails(scope)) else {
        return Ok(None);
    };
    if facts.kind == Kind::GridOrg {
        return Ok(None);
    }
    let arguments = json!({ "limit": super::named::PEOPLE_PAGE });
    let listed = Listed { scope, name, register, method, list: "members", arguments, plain: email };
    let since = name.asked_at.saturating_sub(PEOPLE_BELIEVED);
    // That the person is active is not what Slack has just said: then the list is too old.
    let is_told = |found: &Found| match found {
        Found::One(_) => true,
        Found::Among(listing) => match listing.meant_by(email) {
            Meant::One(item) => item.is_off() || listing.began >= name.asked_at,
            Meant::Several(_) | Meant::Nothing => true,
        },
    };
    let mut found = listed.read(since).await?;
    if !is_told(&found) {
        found = listed.read(name.asked_at).await?;
    }
    match found {
        Found::One(id) => Ok(Some(id)),
        Found::Among(listing) => match listing.meant_by(email) {
            Meant::One(item) => Ok(Some(item.id.to_string())),
            Meant::Several(items) => Err(ambiguous(scope, name, &items)),
            Meant::Nothing => Ok(None),
        },
    }
}

/// Whether Slack shows the connection people's e-mails in lists, as far as is known.
fn sees_emails<E>(scope: &Scope<E>) -> bool {
    let connection = &scope.connection;
    let held = connection.facts.tokens.iter().filter(|(kind, _)| connection.tokens.contains_key(kind));
    let held = held.filter_map(|(_, scopes)| scopes.as_ref());
    let needed = ["users:read", "users:read.email"];
    held.into_iter().any(|scopes| needed.iter().all(|scope| scopes.contains(*scope)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn house_a14_an_e_mail_stays_what_it_is_in_a_filter() {
        for (email, filter) in [
            ("ada@acme.example", r#"email eq "ada@acme.example""#),
            (r#"a"da@x"#, r#"email eq "a\"da@x""#),
            (r"a\da@x", r#"email eq "a\\da@x""#),
            (r#"x" or email pr or email eq "@x"#, r#"email eq "x\" or email pr or email eq \"@x""#),
        ] {
            assert_eq!(filter_of(email), filter);
        }
    }

    fn answered(ok: bool, error: Option<&str>, body: Value) -> slack::Answer {
        let error = error.map(str::to_owned);
        let (needed, provided, scopes, request_id) = (None, None, None, None);
        slack::Answer { status: 200, ok, error, body, needed, provided, bytes: 0, scopes, request_id }
    }

    #[test]
    fn attack_d2_only_what_says_so_says_that_there_is_nobody() {
        let ada = |id: &str, email: &str| json!({ "id": id, "emails": [{ "value": email }] });
        let found = |all: Vec<Value>| json!({ "totalResults": all.len(), "Resources": all });
        let one = || Whom::One("U1".to_owned());
        for (answer, expected) in [
            (answered(true, None, json!({ "user": { "id": "U1" } })), one()),
            (answered(true, None, json!({ "user": {} })), Whom::Untold(Some("a person without an id"))),
            (answered(true, None, json!({})), Whom::Untold(Some("nothing that says who it is"))),
            (answered(false, Some("users_not_found"), Value::Null), Whom::Nobody),
            (answered(false, Some("missing_scope"), Value::Null), Whom::Untold(None)),
            (answered(false, Some("invalid_auth"), Value::Null), Whom::Untold(None)),
            (answered(false, Some("team_not_found"), Value::Null), Whom::Untold(None)),
            (answered(false, Some("user_not_visible"), Value::Null), Whom::Untold(None)),
            (answered(false, Some("404"), Value::Null), Whom::Untold(None)),
            (answered(false, None, Value::Null), Whom::Untold(None)),
            (answered(true, None, found(vec![])), Whom::Nobody),
            (answered(true, None, json!({ "totalResults": 0 })), Whom::Nobody),
            (answered(true, None, json!({ "totalResults": 3 })), Whom::Untold(Some("nothing that says who it is"))),
            (answered(true, None, found(vec![ada("U1", "Ada@Acme.example")])), one()),
            (answered(true, None, found(vec![ada("U2", "eve@acme.example"), ada("U1", "ada@acme.example")])), one()),
            (
                answered(true, None, found(vec![ada("U2", "eve@acme.example")])),
                Whom::Untold(Some("people with other e-mails")),
            ),
            (
                answered(true, None, found(vec![ada("U1", "ada@acme.example"), ada("U2", "ada@acme.example")])),
                Whom::Several(vec!["U1".to_owned(), "U2".to_owned()]),
            ),
        ] {
            assert_eq!(whom(&answer, "ada@acme.example"), expected, "{answer:?}");
        }
    }
}
