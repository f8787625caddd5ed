//! A name that is looked up, one request for it, and why it is not resolved.

use std::time::Duration;

use bellhop_core::fault::{Class, Fault, SlackAnswer};
use bellhop_slack::catalog::outcome::{self, classify};
use bellhop_slack::catalog::{Method, Transport};
use bellhop_slack::client as slack;
use serde_json::{Value, json};

use super::list::Item;
use super::named::Named;
use super::scope::{Scope, Stopped};
use crate::execution::{CallKey, Execution};

/// Those that fit are named up to so many.
const NAMED_MAX: usize = 5;

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
    /// When the names of this input began to be looked up: a list that is read since then tells what is not there.
    pub(super) asked_at: Duration,
}

/// One request of a look-up. While it cannot be sent, it waits as a call of the guest does.
pub(super) async fn read<E: Execution>(
    scope: &Scope<E>,
    name: &Name<'_>,
    method: &Method,
    arguments: &Value,
) -> Result<slack::Answer, Unresolved> {
    let read = scope.read_for(name.key, method, arguments).await.map_err(Unresolved::Stopped)?;
    read.map_err(|failure| untold(scope, name, &failure.to_string()))
}

pub(super) fn shown(name: &str) -> String {
    name.chars().take(80).collect()
}

/// It is told that nothing has the name.
pub(super) fn nobody<E>(scope: &Scope<E>, name: &Name<'_>, why: &str, near: Option<String>) -> Unresolved {
    let near = near.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
    let (title, connection) = (name.named.title(), &scope.connection.facts.name);
    let detail = format!("there is no {title} `{}` on the connection `{connection}`: {why}{near}", shown(name.text));
    Unresolved::Nobody(fault(scope, "not-found", &detail))
}

/// Nothing is told, for a reason that is not Slack's refusal.
pub(super) fn untold<E>(scope: &Scope<E>, name: &Name<'_>, why: &str) -> Unresolved {
    Unresolved::Fault(fault(scope, "name-unresolved", &not_told(scope, name, why)))
}

fn not_told<E>(scope: &Scope<E>, name: &Name<'_>, why: &str) -> String {
    let (title, connection) = (name.named.title(), &scope.connection.facts.name);
    format!("which {title} `{}` is on the connection `{connection}` cannot be told: {why}", shown(name.text))
}

/// Slack refuses to say. What it refuses for is what a call of the action would be refused for.
pub(super) fn refused<E>(scope: &Scope<E>, name: &Name<'_>, method: &Method, answer: &slack::Answer) -> Unresolved {
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
pub(super) fn ambiguous<E>(scope: &Scope<E>, name: &Name<'_>, several: &[&Item]) -> Unresolved {
    let some: Vec<String> = several.iter().take(NAMED_MAX).map(|item| item.shown()).collect();
    let more = if several.len() > some.len() { " and more" } else { "" };
    let why = format!("{}{more} have that name: give the id of one", some.join(" and "));
    let mut fault = fault(scope, "name-ambiguous", &not_told(scope, name, &why));
    let ids: Vec<&str> = several.iter().take(NAMED_MAX).map(|item| &*item.id).collect();
    fault.details = Some(json!({ "ids": ids }));
    Unresolved::Fault(fault)
}

pub(super) fn fault<E>(scope: &Scope<E>, code: &str, detail: &str) -> Fault {
    let mut fault = Fault::of_code(code, detail);
    fault.instance = Some(scope.execution.pointer.clone());
    fault
}
