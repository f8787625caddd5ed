//! Names for people in an action's input: `#channel`, an e-mail, a group's handle, a workspace's name do as well as an
//! id where the field's schema says `x-bellhop` (semantics 4). The host finds the ids before the action runs; what it
//! found is on record as a read of the task, so that a replay sees the same.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bellhop_core::diagnostic::nearest;
use bellhop_core::digest::Digest;
use bellhop_core::fault::Fault;
use bellhop_core::requirement::Kind;
use bellhop_core::run::{Action, Calling, ExecutionKey};
use bellhop_core::time::Timestamp;
use serde_json::{Value, json};

use super::effects::{Scope, Stopped};
use crate::engine::execution::local::Local;
use crate::engine::execution::{Answer, CallKey, End, Error, Execution, How, StepKey};

/// Reads that resolve names are numbered from here on, apart from the guest's own calls.
pub(super) const ORDINAL_FIRST: u32 = 1 << 30;
/// How long a name that was found is believed. A renamed channel is found under its new name after that.
const BELIEVED_MS: u64 = 60_000;
/// Names of one input; more is a mistake of the file.
const NAMES_MAX: usize = 500;
/// Pages of a list that are read for one name: 200 items each.
const PAGES_MAX: usize = 100;
/// Names remembered over all connections.
const REMEMBERED_MAX: usize = 100_000;

/// What kind of thing a name names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Named {
    /// A conversation.
    Channel,
    /// A person.
    User,
    /// A user group.
    Usergroup,
    /// A workspace.
    Workspace,
}

impl Named {
    fn of(text: &str) -> Option<Self> {
        Some(match text {
            "channel" => Self::Channel,
            "user" => Self::User,
            "usergroup" => Self::Usergroup,
            "workspace" => Self::Workspace,
            _ => return None,
        })
    }

    /// Whether the text is an id already. A message's `channel` may be a person.
    pub(crate) fn is_id(self, text: &str) -> bool {
        let prefixes: &[char] = match self {
            Self::Channel => &['C', 'G', 'D', 'U', 'W'],
            Self::User => &['U', 'W'],
            Self::Usergroup => &['S'],
            Self::Workspace => &['T', 'E'],
        };
        text.len() >= 3
            && text.starts_with(prefixes)
            && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    }

    /// The method that lists such things, where in its answer, and its arguments. People are found by their e-mail.
    pub(crate) fn listing(self) -> Option<(&'static str, &'static str, Value)> {
        Some(match self {
            Self::Channel => (
                "conversations.list",
                "channels",
                json!({ "types": "public_channel,private_channel", "exclude_archived": true, "limit": 200 }),
            ),
            Self::Usergroup => ("usergroups.list", "usergroups", json!({ "include_disabled": true })),
            Self::Workspace => ("auth.teams.list", "teams", json!({ "limit": 100 })),
            Self::User => return None,
        })
    }

    fn title(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::User => "person",
            Self::Usergroup => "user group",
            Self::Workspace => "workspace",
        }
    }
}

/// A connection, and a name of a kind of thing in it.
type Sought = (String, Named, String);

/// Ids that were found lately, and when.
#[derive(Default)]
pub(crate) struct Known {
    found: Mutex<HashMap<Sought, (String, Timestamp)>>,
    /// The other way round, for channels: a person has many names, a channel one.
    channels: Mutex<HashMap<(String, String), (String, Timestamp)>>,
}

impl Known {
    fn get(&self, connection: &str, named: Named, name: &str, now: Timestamp) -> Option<String> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let (id, at) = found.get(&(connection.to_owned(), named, name.to_owned()))?;
        (now.millis_since(*at) < BELIEVED_MS).then(|| id.clone())
    }

    /// The name of a channel.
    pub(super) fn name_of(&self, connection: &str, id: &str, now: Timestamp) -> Option<String> {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, at) = channels.get(&(connection.to_owned(), id.to_owned()))?;
        (now.millis_since(*at) < BELIEVED_MS).then(|| name.clone())
    }

    fn put(&self, connection: &str, named: Named, name: String, id: String, now: Timestamp) {
        if named == Named::Channel {
            let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
            if channels.len() >= REMEMBERED_MAX {
                channels.clear();
            }
            channels.insert((connection.to_owned(), id.clone()), (name.clone(), now));
        }
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() >= REMEMBERED_MAX {
            found.clear();
        }
        found.insert((connection.to_owned(), named, name), (id, now));
    }
}

/// Why names were not resolved.
pub(super) enum Unresolved {
    /// There is nothing of that name, or it cannot be looked up: the task's fault.
    Fault(Fault),
    /// As for a call of the guest.
    Stopped(Stopped),
}

/// The places in `input` that the schema says are names, and that are no ids.
fn collect(schema: &Value, input: &Value, pointer: &str, out: &mut Vec<(String, Named, String)>) {
    if out.len() >= NAMES_MAX {
        return;
    }
    if let (Some(named), Some(text)) = (schema["x-bellhop"].as_str().and_then(Named::of), input.as_str())
        && !named.is_id(text)
        && !text.is_empty()
    {
        out.push((pointer.to_owned(), named, text.to_owned()));
    }
    if let (Some(properties), Some(fields)) = (schema["properties"].as_object(), input.as_object()) {
        for (name, schema) in properties {
            if let Some(value) = fields.get(name) {
                let escaped = name.replace('~', "~0").replace('/', "~1");
                collect(schema, value, &format!("{pointer}/{escaped}"), out);
            }
        }
    }
    if let (true, Some(items)) = (schema["items"].is_object(), input.as_array()) {
        for (index, value) in items.iter().enumerate() {
            collect(&schema["items"], value, &format!("{pointer}/{index}"), out);
        }
    }
    // An optional field's schema may stand in one of these.
    for choice in ["anyOf", "oneOf", "allOf"] {
        for schema in schema[choice].as_array().into_iter().flatten() {
            if schema.get("x-bellhop").is_some() || schema.get("items").is_some() {
                collect(schema, input, pointer, out);
            }
        }
    }
}

fn places(action: &Action, input: &Value) -> Vec<(String, Named, String)> {
    let mut places = Vec::new();
    collect(action.input.document(), input, "", &mut places);
    places.sort_by(|a, b| a.0.cmp(&b.0));
    places.dedup_by(|a, b| a.0 == b.0);
    places
}

fn key(execution: &ExecutionKey, attempt: u32, number: usize) -> CallKey {
    let ordinal = ORDINAL_FIRST + u32::try_from(number).unwrap_or(u32::MAX - ORDINAL_FIRST);
    CallKey { execution: execution.clone(), attempt, ordinal }
}

/// The input of a call that was begun before, with the ids that were found then.
pub(super) async fn on_record(port: &Local, action: &Action, call: &Calling) -> Result<Value, Error> {
    let mut resolved = call.arguments.as_ref().clone();
    for (number, (pointer, _, _)) in places(action, &call.arguments).into_iter().enumerate() {
        let step = StepKey::Call(key(&call.key, call.attempt, number));
        let found = port.step::<Answer, _, _>(&step, None, |_| async { End::Stopped }).await?;
        if let (End::Done(Answer { result: Ok(id), .. }), Some(place)) = (found, resolved.pointer_mut(&pointer)) {
            *place = Value::from(id);
        }
    }
    Ok(resolved)
}

/// The input with ids in place of names.
pub(super) async fn resolve<E: Execution>(scope: &Scope<E>, input: &Value) -> Result<Value, Unresolved> {
    let mut resolved = input.clone();
    for (number, (pointer, named, name)) in places(&scope.action, input).into_iter().enumerate() {
        let key = key(&scope.execution, scope.attempt, number);
        let id = match scope.kept(&key).await.map_err(Unresolved::Stopped)? {
            Some(answer) => answer.result,
            None => {
                // Without its names an action has not begun: there is nothing to bring to an end.
                let found = scope.unless_stopped(find(scope, named, &name, input)).await;
                let found = found.unwrap_or(Err(Unresolved::Stopped(Stopped::PutDown)))?;
                let answer = Answer {
                    hash: Digest::of(format!("{named:?}\n{name}").as_bytes()).to_string(),
                    function: "name".to_owned(),
                    writes: false,
                    result: Ok(found),
                    how: How::Sent,
                };
                scope.record(&key, answer).await.map_err(Unresolved::Stopped)?.result
            }
        };
        if let (Ok(id), Some(place)) = (id, resolved.pointer_mut(&pointer)) {
            *place = Value::from(id);
        }
    }
    Ok(resolved)
}

async fn find<E: Execution>(scope: &Scope<E>, named: Named, name: &str, input: &Value) -> Result<String, Unresolved> {
    let services = &scope.services;
    let connection = &scope.connection.facts.name;
    let now = scope.port.now();
    let plain = name.trim_start_matches(['#', '@']).to_owned();
    if let Some(id) = services.names.get(connection, named, &plain, now) {
        return Ok(id);
    }
    let org = scope.connection.facts.kind == Kind::GridOrg;
    let Some((method, list, arguments)) = named.listing() else {
        if !plain.contains('@') {
            return Err(not_found(scope, named, name, "an e-mail or an id was expected", None));
        }
        return find_person(scope, &plain, name, now).await;
    };
    let Some(asked) = services.gateway.catalog.by_name(method) else {
        return Err(not_found(scope, named, name, "it cannot be looked up", None));
    };
    let mut arguments = arguments;
    if asked.needs_workspace_on_org && org {
        // Which workspace the names are of, the input says.
        arguments["team_id"] = input["workspace"].clone();
    }
    let mut seen: Vec<String> = Vec::new();
    for _ in 0..PAGES_MAX {
        let answer =
            services.gateway.read(&scope.connection, asked, &arguments, scope.run, 4).await.map_err(|failure| {
                Unresolved::Fault(fault(scope, "name-unresolved", 503, &format!("{name}: {failure}")))
            })?;
        if !answer.ok {
            let why = answer.error.unwrap_or_default();
            return Err(not_found(scope, named, name, &format!("{method} answered `{why}`"), None));
        }
        for item in answer.body[list].as_array().into_iter().flatten() {
            let Some(id) = item["id"].as_str() else { continue };
            for field in ["name", "handle", "domain"] {
                if let Some(text) = item[field].as_str() {
                    services.names.put(connection, named, text.to_owned(), id.to_owned(), now);
                    seen.push(text.to_owned());
                    if text == plain {
                        return Ok(id.to_owned());
                    }
                }
            }
        }
        match answer.body["response_metadata"]["next_cursor"].as_str() {
            Some(cursor) if !cursor.is_empty() => arguments["cursor"] = Value::from(cursor),
            _ => break,
        }
    }
    let near = nearest(&plain, seen.iter().map(String::as_str)).map(str::to_owned);
    Err(not_found(scope, named, name, "the connection sees none of that name", near))
}

async fn find_person<E: Execution>(
    scope: &Scope<E>,
    email: &str,
    name: &str,
    now: Timestamp,
) -> Result<String, Unresolved> {
    let services = &scope.services;
    let by_email = services.gateway.catalog.by_name("users.lookupByEmail");
    let scim = services.gateway.catalog.by_name("scim.v2.get.Users");
    let mut why = String::new();
    // Slack's own look-up knows no deactivated people; the provisioning interface does, where there is one.
    for (method, arguments) in [
        (by_email, json!({ "email": email })),
        (scim, json!({ "filter": format!("email eq \"{}\"", email.replace(['\\', '"'], "")) })),
    ] {
        let Some(method) = method.filter(|m| scope.connection.token(m).is_some()) else { continue };
        let answer =
            services.gateway.read(&scope.connection, method, &arguments, scope.run, 4).await.map_err(|failure| {
                Unresolved::Fault(fault(scope, "name-unresolved", 503, &format!("{name}: {failure}")))
            })?;
        let id =
            answer.body.pointer("/user/id").or_else(|| answer.body.pointer("/Resources/0/id")).and_then(Value::as_str);
        if let (true, Some(id)) = (answer.ok, id) {
            services.names.put(&scope.connection.facts.name, Named::User, email.to_owned(), id.to_owned(), now);
            return Ok(id.to_owned());
        }
        why = format!("{} answered `{}`", method.name, answer.error.as_deref().unwrap_or("nobody"));
    }
    Err(not_found(scope, Named::User, name, &why, None))
}

fn not_found<E>(scope: &Scope<E>, named: Named, name: &str, why: &str, near: Option<String>) -> Unresolved {
    let shown: String = name.chars().take(80).collect();
    let near = near.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
    let connection = &scope.connection.facts.name;
    Unresolved::Fault(fault(
        scope,
        "not-found",
        404,
        &format!("there is no {} `{shown}` on the connection `{connection}`: {why}{near}", named.title()),
    ))
}

fn fault<E>(scope: &Scope<E>, code: &str, status: u16, detail: &str) -> Fault {
    let mut fault = Fault::of_code(code, status, detail);
    fault.instance = Some(scope.execution.pointer.clone());
    fault
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_ids() {
        for (named, text, id) in [
            (Named::Channel, "C0HQGENERAL", true),
            (Named::Channel, "U0ADA", true),
            (Named::Channel, "#general", false),
            (Named::Channel, "General", false),
            (Named::User, "ada@acme.example", false),
            (Named::User, "W012", true),
            (Named::Usergroup, "S0IT", true),
            (Named::Usergroup, "it", false),
            (Named::Workspace, "T0HQ", true),
        ] {
            assert_eq!(named.is_id(text), id, "{text}");
        }
    }

    #[test]
    fn places_are_found_in_objects_arrays_and_choices() {
        let schema = json!({"properties": {
            "channel": {"anyOf": [{"type": "string", "x-bellhop": "channel"}, {"type": "null"}]},
            "users": {"type": "array", "items": {"x-bellhop": "user"}},
            "text": {"type": "string"},
        }});
        let input = json!({"channel": "#it", "users": ["U0ADA", "eve@acme.example"], "text": "#not"});
        let mut found = Vec::new();
        collect(&schema, &input, "", &mut found);
        found.sort_by(|a, b| a.0.cmp(&b.0));
        let found: Vec<(&str, &str)> = found.iter().map(|(p, _, n)| (p.as_str(), n.as_str())).collect();
        assert_eq!(found, [("/channel", "#it"), ("/users/1", "eve@acme.example")]);
    }
}
