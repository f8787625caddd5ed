//! What has a name: asked of Slack, and told apart from what Slack does not say.
//!
//! That there is nobody is what a leaver's workflow takes for "gone already". Only an answer that says just this is told
//! so: whatever else keeps an id from being found has a code of its own.

use std::collections::{BTreeMap, BTreeSet};

use bellhop_core::diagnostic::nearest;
use bellhop_core::fault::{Class, Fault, SlackAnswer};
use bellhop_core::requirement::{Availability, Kind};
use bellhop_core::time::Timestamp;
use bellhop_slack::catalog::outcome::{self, classify};
use bellhop_slack::catalog::{Method, Own, Transport};
use bellhop_slack::client as slack;
use serde_json::{Value, json};

use super::known::Within;
use super::named::Named;
use super::scope::{Scope, Stopped};
use crate::execution::{CallKey, Execution};

/// Pages of a list that are read for one name: 200 items each.
const PAGES_MAX: usize = 100;
/// Those that fit are named up to so many.
const NAMED_MAX: usize = 5;
/// What Slack answers where nobody has an e-mail. Its other words for "not there" are about something else.
const NOBODY: &str = "users_not_found";

/// Why names were not resolved.
pub(super) enum Unresolved {
    /// It cannot be told what has that name: the task's fault.
    Fault(Fault),
    /// Slack was asked everything that there is to ask, and there is nothing of that name: the task's fault.
    Nobody(Fault),
    /// As for a call of the guest.
    Stopped(Stopped),
}

/// A name that is looked up.
pub(super) struct Name<'n> {
    pub(super) named: Named,
    /// As the input has it.
    pub(super) text: &'n str,
    /// Under which what was found is kept.
    pub(super) key: &'n CallKey,
}

/// The id of what is called so. `input` has ids in place of the names that were looked up before.
pub(super) async fn find<E: Execution>(scope: &Scope<E>, name: &Name<'_>, input: &Value) -> Result<String, Unresolved> {
    let now = scope.port.now();
    let plain = name.text.trim_start_matches(['#', '@']);
    match name.named.listing() {
        Some(listing) => in_list(scope, name, plain, listing, input, now).await,
        None => person(scope, name, plain, now).await,
    }
}

/// One request of a look-up. While it cannot be sent, it waits as a call of the guest does.
async fn read<E: Execution>(
    scope: &Scope<E>,
    name: &Name<'_>,
    method: &Method,
    arguments: &Value,
) -> Result<slack::Answer, Unresolved> {
    let read = scope.read_for(name.key, method, arguments).await.map_err(Unresolved::Stopped)?;
    read.map_err(|failure| untold(scope, name, &failure.to_string()))
}

/// A thing in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    id: String,
    handle: Option<String>,
    name: Option<String>,
}

impl Item {
    fn of(named: Named, item: &Value) -> Option<Self> {
        let text = |field: &str| item[field].as_str().map(str::to_owned);
        Some(Self { id: text("id")?, handle: named.handle().and_then(text), name: text("name") })
    }

    fn shown(&self) -> String {
        let names: Vec<&str> = [&self.handle, &self.name].into_iter().flatten().map(String::as_str).collect();
        format!("`{}` ({})", self.id, names.join(", "))
    }
}

/// What a text means of a whole list: what has it for its handle, which no two have, before what is called so.
fn fitting<'i>(items: &'i [Item], text: &str) -> Vec<&'i Item> {
    let by = |of: fn(&Item) -> Option<&String>| {
        let mut ids = BTreeSet::new();
        let mut fit: Vec<&Item> = items.iter().filter(|item| of(item).is_some_and(|own| own == text)).collect();
        fit.retain(|item| ids.insert(&item.id));
        fit
    };
    let by_handle = by(|item| item.handle.as_ref());
    if by_handle.is_empty() { by(|item| item.name.as_ref()) } else { by_handle }
}

/// Every text of a whole list that means one thing, with its id.
fn meanings(items: &[Item]) -> BTreeMap<&str, &str> {
    let gather = |of: fn(&Item) -> Option<&String>| {
        let mut ids: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for item in items {
            if let Some(text) = of(item) {
                ids.entry(text).or_default().insert(&item.id);
            }
        }
        ids
    };
    let mut all = gather(|item| item.name.as_ref());
    all.extend(gather(|item| item.handle.as_ref()));
    all.into_iter()
        .filter(|(_, ids)| ids.len() == 1)
        .filter_map(|(text, ids)| Some((text, ids.first().copied()?)))
        .collect()
}

async fn in_list<E: Execution>(
    scope: &Scope<E>,
    name: &Name<'_>,
    plain: &str,
    (own, list, mut arguments): (Own, &str, Value),
    input: &Value,
    now: Timestamp,
) -> Result<String, Unresolved> {
    let (services, named, facts) = (&scope.services, name.named, &scope.connection.facts);
    let Some(asked) = services.gateway.catalog.own(own) else {
        return Err(untold(scope, name, "there is no method for that"));
    };
    let method = &asked.name;
    let mut workspace = None;
    if asked.needs_workspace_on_org && facts.kind == Kind::GridOrg {
        // Which workspace the names are of, the input says.
        arguments["team_id"] = input["workspace"].clone();
        workspace = input["workspace"].as_str();
    }
    let within = Within::of(facts, workspace);
    if let Some(id) = services.names.get(within.as_ref(), named, plain, now) {
        return Ok(id);
    }
    let mut items: Vec<Item> = Vec::new();
    for _ in 0..PAGES_MAX {
        let answer = read(scope, name, asked, &arguments).await?;
        if !answer.ok {
            return Err(refused(scope, name, asked, &answer));
        }
        let Some(page) = answer.body[list].as_array() else {
            return Err(untold(scope, name, &format!("the answer of {method} has no `{list}`")));
        };
        items.extend(page.iter().filter_map(|item| Item::of(named, item)));
        let next = answer.body["response_metadata"]["next_cursor"].as_str().filter(|cursor| !cursor.is_empty());
        // No two channels have one name. Of anything else another one that fits may come later.
        let is_enough = next.is_none() || (named == Named::Channel && !fitting(&items, plain).is_empty());
        if !is_enough {
            arguments["cursor"] = Value::from(next);
            continue;
        }
        for (text, id) in meanings(&items) {
            services.names.put(within.as_ref(), named, text, id, now);
        }
        return match fitting(&items, plain)[..] {
            [only] => Ok(only.id.clone()),
            [] => {
                let names = items.iter().flat_map(|item| [&item.handle, &item.name]).flatten();
                let near = nearest(plain, names.map(String::as_str)).map(str::to_owned);
                Err(nobody(scope, name, "the connection sees none of that name", near))
            }
            ref several => Err(ambiguous(scope, name, several)),
        };
    }
    let why = format!("none of the first {PAGES_MAX} pages of {method} has it, and no more are read: give its id");
    Err(untold(scope, name, &why))
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

async fn person<E: Execution>(
    scope: &Scope<E>,
    name: &Name<'_>,
    email: &str,
    now: Timestamp,
) -> Result<String, Unresolved> {
    let (services, facts) = (&scope.services, &scope.connection.facts);
    if !email.contains('@') {
        let detail = format!("`{}` is no person: an e-mail or an id was expected", shown(name.text));
        return Err(Unresolved::Fault(fault(scope, "invalid-arguments", &detail)));
    }
    let within = Within::of(facts, None);
    if let Some(id) = services.names.get(within.as_ref(), Named::User, email, now) {
        return Ok(id);
    }
    let by_email = services.gateway.catalog.own(Own::User);
    let by_email = by_email.filter(|method| scope.connection.token(method).is_some());
    let scim = services.gateway.catalog.own(Own::ProvisionedUser).filter(|method| provisions(scope, method));
    let (mut is_nobody, mut kept_back) = (None, None);
    // Slack's own look-up knows no deactivated people; the provisioning interface does, where there is one.
    for (method, arguments) in [(by_email, json!({ "email": email })), (scim, json!({ "filter": filter_of(email) }))] {
        let Some(method) = method else { continue };
        let answer = read(scope, name, method, &arguments).await?;
        match whom(&answer, email) {
            Whom::One(id) => {
                services.names.put(within.as_ref(), Named::User, email, &id, now);
                return Ok(id);
            }
            Whom::Several(ids) => {
                let items = ids.into_iter().map(|id| Item { id, handle: None, name: Some(email.to_owned()) });
                let items: Vec<Item> = items.collect();
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
    Err(match is_nobody {
        Some(method) => nobody(scope, name, &format!("{} knows nobody with it", method.name), None),
        None => untold(scope, name, "the connection has no token that people are looked up with"),
    })
}

fn shown(name: &str) -> String {
    name.chars().take(80).collect()
}

/// It is told that nothing has the name.
fn nobody<E>(scope: &Scope<E>, name: &Name<'_>, why: &str, near: Option<String>) -> Unresolved {
    let near = near.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
    let (title, connection) = (name.named.title(), &scope.connection.facts.name);
    let detail = format!("there is no {title} `{}` on the connection `{connection}`: {why}{near}", shown(name.text));
    Unresolved::Nobody(fault(scope, "not-found", &detail))
}

/// Nothing is told, for a reason that is not Slack's refusal.
fn untold<E>(scope: &Scope<E>, name: &Name<'_>, why: &str) -> Unresolved {
    Unresolved::Fault(fault(scope, "name-unresolved", &not_told(scope, name, why)))
}

fn not_told<E>(scope: &Scope<E>, name: &Name<'_>, why: &str) -> String {
    let (title, connection) = (name.named.title(), &scope.connection.facts.name);
    format!("which {title} `{}` is on the connection `{connection}` cannot be told: {why}", shown(name.text))
}

/// Slack refuses to say. What it refuses for is what a call of the action would be refused for.
fn refused<E>(scope: &Scope<E>, name: &Name<'_>, method: &Method, answer: &slack::Answer) -> Unresolved {
    let error = answer.error.as_deref().unwrap_or("unknown");
    let class = classify(method, error);
    let code = match class.kind {
        // That something which was needed for asking is not there says nothing of what was asked for.
        outcome::Kind::NotFound | outcome::Kind::AlreadyExists => "name-unresolved",
        outcome::Kind::Unknown => "slack-unavailable",
        _ => class.code,
    };
    let error = if method.transport == Transport::Scim { format!("scim-{error}") } else { error.to_owned() };
    let why = format!("Slack answered `{error}` to {}", method.name);
    let mut fault = fault(scope, code, &not_told(scope, name, &why));
    fault.class = Some(match class.kind {
        outcome::Kind::Transient | outcome::Kind::Unknown => Class::Retry,
        outcome::Kind::Plan | outcome::Kind::Scope | outcome::Kind::Token | outcome::Kind::Permission => Class::Denied,
        _ => Class::Fatal,
    });
    let (needed, provided) = (answer.needed.clone(), answer.provided.clone());
    fault.slack = Some(SlackAnswer { method: method.name.clone(), error, needed, provided });
    Unresolved::Fault(fault)
}

/// Several have the name, and nobody but the author knows which is meant.
fn ambiguous<E>(scope: &Scope<E>, name: &Name<'_>, several: &[&Item]) -> Unresolved {
    let some: Vec<String> = several.iter().take(NAMED_MAX).map(|item| item.shown()).collect();
    let more = if several.len() > some.len() { " and more" } else { "" };
    let why = format!("{}{more} have that name: give the id of one", some.join(" and "));
    let mut fault = fault(scope, "name-ambiguous", &not_told(scope, name, &why));
    let ids: Vec<&str> = several.iter().take(NAMED_MAX).map(|item| item.id.as_str()).collect();
    fault.details = Some(json!({ "ids": ids }));
    Unresolved::Fault(fault)
}

pub(super) fn fault<E>(scope: &Scope<E>, code: &str, detail: &str) -> Fault {
    let mut fault = Fault::of_code(code, detail);
    fault.instance = Some(scope.execution.pointer.clone());
    fault
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

    fn item(id: &str, handle: &str, name: &str) -> Item {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Item { id: id.to_owned(), handle: text(handle), name: text(name) }
    }

    #[test]
    fn attack_d5_a_handle_goes_before_a_name_and_two_that_fit_are_none() {
        let items = [
            item("S1", "one", "it"),
            item("S2", "it", "other"),
            item("S3", "three", "twice"),
            item("S4", "four", "twice"),
            item("S5", "", "five"),
            // A list that changes while it is read shows an item on two pages.
            item("S5", "", "five"),
        ];
        for (text, ids) in [
            ("it", vec!["S2"]),
            ("one", vec!["S1"]),
            ("other", vec!["S2"]),
            ("twice", vec!["S3", "S4"]),
            ("five", vec!["S5"]),
            ("none", vec![]),
        ] {
            let fit: Vec<&str> = fitting(&items, text).iter().map(|item| item.id.as_str()).collect();
            assert_eq!(fit, ids, "{text}");
            let meant = meanings(&items).get(text).copied();
            assert_eq!(meant, if let [only] = ids[..] { Some(only) } else { None }, "{text}");
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
