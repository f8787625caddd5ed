//! Names for people in an action's input: `#channel`, an e-mail, a group's handle, a workspace's name do as well as an
//! id where the field's schema says `x-bellhop` (semantics 4). The host finds the ids before the action runs; what it
//! found is on record as a read of the task, so that a replay sees the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use bellhop_core::diagnostic::nearest;
use bellhop_core::digest::Digest;
use bellhop_core::fault::Fault;
use bellhop_core::pointer;
use bellhop_core::requirement::Kind;
use bellhop_core::run::{Action, Calling, ExecutionKey};
use bellhop_core::time::Timestamp;
use bellhop_slack::catalog::Method;
use bellhop_slack::client as slack;
use serde_json::{Value, json};

use super::effects::{Scope, Stopped};
use crate::engine::execution::local::Local;
use crate::engine::execution::{Answer, CallKey, Error, Execution, How};

/// Reads that resolve names are numbered from here on, apart from the guest's own calls.
pub(super) const ORDINAL_FIRST: u32 = 1 << 30;
/// Slack gives out no shorter id.
const ID_BYTES_MIN: usize = 9;
/// How long a name that was found is believed. A renamed channel is found under its new name after that.
const BELIEVED_MS: u64 = 60_000;
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

    /// Whether the text can only be an id. A message's `channel` may be a person.
    ///
    /// Slack's ids are a letter for the kind and at least eight capitals and digits behind it. Those that are given out now
    /// have a digit in front there; none is shorter but in a workspace that is played, and there they begin with a zero.
    pub(crate) fn is_id(self, text: &str) -> bool {
        let second = text.as_bytes().get(1).copied().unwrap_or_default();
        match self {
            _ if !self.has_form_of_id(text) => false,
            _ if second == b'0' => text.len() >= 3,
            _ if text.len() < ID_BYTES_MIN => false,
            // What a channel is called has no capitals, and a person is named by an e-mail.
            Self::Channel | Self::User => true,
            Self::Usergroup | Self::Workspace => second.is_ascii_digit(),
        }
    }

    /// Whether the text may be an id as well as a name: `SALESTEAM` is a good name for a group, and ids that Slack gave
    /// out some years ago look like it.
    fn may_be_id(self, text: &str) -> bool {
        text.len() >= ID_BYTES_MIN && self.has_form_of_id(text)
    }

    fn has_form_of_id(self, text: &str) -> bool {
        let prefixes: &[char] = match self {
            Self::Channel => &['C', 'G', 'D', 'U', 'W'],
            Self::User => &['U', 'W'],
            Self::Usergroup => &['S'],
            Self::Workspace => &['T', 'E'],
        };
        text.starts_with(prefixes) && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
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

/// A name by the place in an input where it stands, a JSON pointer.
type Names = BTreeMap<String, (Named, String)>;

/// The places in `input` that the schema says are names, and that are no ids; no more than one beyond `max`.
fn collect(schema: &Value, input: &Value, pointer: &str, max: usize, out: &mut Names) {
    if out.len() > max {
        return;
    }
    if let (Some(named), Some(text)) = (schema["x-bellhop"].as_str().and_then(Named::of), input.as_str())
        && !named.is_id(text)
        && !text.is_empty()
    {
        out.insert(pointer.to_owned(), (named, text.to_owned()));
    }
    if let (Some(properties), Some(fields)) = (schema["properties"].as_object(), input.as_object()) {
        for (name, schema) in properties {
            if let Some(value) = fields.get(name) {
                collect(schema, value, &pointer::child(pointer, name), max, out);
            }
        }
    }
    if let (true, Some(items)) = (schema["items"].is_object(), input.as_array()) {
        for (index, value) in items.iter().enumerate() {
            collect(&schema["items"], value, &pointer::item(pointer, index), max, out);
        }
    }
    // An optional field's schema may stand in one of these.
    for choice in ["anyOf", "oneOf", "allOf"] {
        for schema in schema[choice].as_array().into_iter().flatten() {
            if schema.get("x-bellhop").is_some() || schema.get("items").is_some() {
                collect(schema, input, pointer, max, out);
            }
        }
    }
}

fn places(action: &Action, input: &Value, max: u64) -> Names {
    let mut places = Names::new();
    collect(action.input.document(), input, "", usize::try_from(max).unwrap_or(usize::MAX), &mut places);
    places
}

fn key(execution: &ExecutionKey, attempt: u32, number: usize) -> CallKey {
    let ordinal = ORDINAL_FIRST + u32::try_from(number).unwrap_or(u32::MAX - ORDINAL_FIRST);
    CallKey { execution: execution.clone(), attempt, ordinal }
}

/// The input of a call that was begun before, with the ids that were found then.
pub(super) async fn on_record(port: &Local, action: &Action, call: &Calling) -> Result<Value, Error> {
    let mut resolved = call.arguments.as_ref().clone();
    // One that was begun had no more than was allowed then.
    for (number, (pointer, _)) in places(action, &call.arguments, u64::MAX).into_iter().enumerate() {
        let found = port.called(&key(&call.key, call.attempt, number)).await?.answer();
        if let (Some(Answer { result: Ok(id), .. }), Some(place)) = (found, resolved.pointer_mut(&pointer)) {
            *place = Value::from(id);
        }
    }
    Ok(resolved)
}

/// The input with ids in place of names.
pub(super) async fn resolve<E: Execution>(scope: &Scope<E>, input: &Value) -> Result<Value, Unresolved> {
    let max = scope.services.limits.names_max;
    let names = places(&scope.action, input, max);
    if names.len() as u64 > max {
        let detail = format!(
            "the input has more than {max} names to look up (`names_max`): give ids, or call the action for a part of them"
        );
        return Err(Unresolved::Fault(fault(scope, "names-too-many", 400, &detail)));
    }
    let mut resolved = input.clone();
    for (number, (pointer, (named, name))) in names.into_iter().enumerate() {
        let key = key(&scope.execution, scope.attempt, number);
        let id = match scope.kept(&key).await.map_err(Unresolved::Stopped)? {
            Some(answer) => answer.result,
            None => {
                let sought = Name { named, text: &name, key: &key };
                let found = match find(scope, &sought, input).await {
                    Err(Unresolved::Fault(_)) if named.may_be_id(&name) => name.clone(),
                    found => found?,
                };
                // Another run may have found it meanwhile.
                scope.gives_up_turn(&key);
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

/// A name that is looked up.
struct Name<'n> {
    named: Named,
    /// As the input has it.
    text: &'n str,
    /// Under which what was found is kept.
    key: &'n CallKey,
}

/// One request of a look-up. While it cannot be sent, it waits as a call of the guest does.
async fn read<E: Execution>(
    scope: &Scope<E>,
    name: &Name<'_>,
    method: &Method,
    arguments: &Value,
) -> Result<slack::Answer, Unresolved> {
    let read = scope.read_for(name.key, method, arguments).await.map_err(Unresolved::Stopped)?;
    read.map_err(|failure| {
        Unresolved::Fault(fault(scope, "name-unresolved", 503, &format!("{}: {failure}", shown(name.text))))
    })
}

async fn find<E: Execution>(scope: &Scope<E>, name: &Name<'_>, input: &Value) -> Result<String, Unresolved> {
    let (services, named) = (&scope.services, name.named);
    let connection = &scope.connection.facts.name;
    let now = scope.port.now();
    let plain = name.text.trim_start_matches(['#', '@']).to_owned();
    if let Some(id) = services.names.get(connection, named, &plain, now) {
        return Ok(id);
    }
    let org = scope.connection.facts.kind == Kind::GridOrg;
    let Some((method, list, arguments)) = named.listing() else {
        if !plain.contains('@') {
            return Err(not_found(scope, name, "an e-mail or an id was expected", None));
        }
        return find_person(scope, name, &plain, now).await;
    };
    let Some(asked) = services.gateway.catalog.by_name(method) else {
        return Err(not_found(scope, name, "it cannot be looked up", None));
    };
    let mut arguments = arguments;
    if asked.needs_workspace_on_org && org {
        // Which workspace the names are of, the input says.
        arguments["team_id"] = input["workspace"].clone();
    }
    let mut seen: Vec<String> = Vec::new();
    for _ in 0..PAGES_MAX {
        let answer = read(scope, name, asked, &arguments).await?;
        if !answer.ok {
            let why = answer.error.unwrap_or_default();
            return Err(not_found(scope, name, &format!("{method} answered `{why}`"), None));
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
            _ => {
                let near = nearest(&plain, seen.iter().map(String::as_str)).map(str::to_owned);
                return Err(not_found(scope, name, "the connection sees none of that name", near));
            }
        }
    }
    let why = format!("none of the first {PAGES_MAX} pages of {method} has it, and no more are read: give its id");
    Err(not_found(scope, name, &why, None))
}

/// The filter by which SCIM finds the account with an e-mail. A JSON string is what a filter takes as its value: written
/// so, nothing in the e-mail can become a part of the filter, and nothing of it is lost.
fn filter_of(email: &str) -> String {
    format!("email eq {}", Value::from(email))
}

async fn find_person<E: Execution>(
    scope: &Scope<E>,
    name: &Name<'_>,
    email: &str,
    now: Timestamp,
) -> Result<String, Unresolved> {
    let services = &scope.services;
    let by_email = services.gateway.catalog.by_name("users.lookupByEmail");
    let scim = services.gateway.catalog.by_name("scim.v2.get.Users");
    let mut why = String::new();
    // Slack's own look-up knows no deactivated people; the provisioning interface does, where there is one.
    for (method, arguments) in [(by_email, json!({ "email": email })), (scim, json!({ "filter": filter_of(email) }))] {
        let Some(method) = method.filter(|m| scope.connection.token(m).is_some()) else { continue };
        let answer = read(scope, name, method, &arguments).await?;
        let id =
            answer.body.pointer("/user/id").or_else(|| answer.body.pointer("/Resources/0/id")).and_then(Value::as_str);
        if let (true, Some(id)) = (answer.ok, id) {
            services.names.put(&scope.connection.facts.name, Named::User, email.to_owned(), id.to_owned(), now);
            return Ok(id.to_owned());
        }
        why = format!("{} answered `{}`", method.name, answer.error.as_deref().unwrap_or("nobody"));
    }
    Err(not_found(scope, name, &why, None))
}

fn shown(name: &str) -> String {
    name.chars().take(80).collect()
}

fn not_found<E>(scope: &Scope<E>, name: &Name<'_>, why: &str, near: Option<String>) -> Unresolved {
    let shown = shown(name.text);
    let near = near.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
    let connection = &scope.connection.facts.name;
    Unresolved::Fault(fault(
        scope,
        "not-found",
        404,
        &format!("there is no {} `{shown}` on the connection `{connection}`: {why}{near}", name.named.title()),
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
    fn house_a14_what_people_call_things_is_no_id() {
        for (named, text, certain, possible) in [
            (Named::Workspace, "EMEA", false, false),
            (Named::Workspace, "TECH", false, false),
            (Named::Workspace, "T", false, false),
            (Named::Workspace, "T0", false, false),
            (Named::Workspace, "E2E", false, false),
            (Named::Workspace, "TEAM1", false, false),
            (Named::Workspace, "TECHNOLOGY", false, true),
            (Named::Workspace, "ENTERPRISE2", false, true),
            (Named::Workspace, "T0123ABCD", true, true),
            (Named::Workspace, "T1H9RESGL", true, true),
            (Named::Workspace, "E012345678A", true, true),
            (Named::Workspace, "TBQXW9YKD", false, true),
            (Named::Workspace, "T0123abcd", false, false),
            (Named::Usergroup, "SALES", false, false),
            (Named::Usergroup, "SUPPORT", false, false),
            (Named::Usergroup, "SALESTEAM", false, true),
            (Named::Usergroup, "S0614TZR7", true, true),
            (Named::Usergroup, "S", false, false),
            (Named::Channel, "GENERAL", false, false),
            (Named::Channel, "DESIGN", false, false),
            (Named::Channel, "C024BE91L", true, true),
            (Named::Channel, "CBA4X9KQN", true, true),
            (Named::Channel, "D024BFF1M", true, true),
            (Named::Channel, "USER", false, false),
            (Named::User, "WILL", false, false),
            (Named::User, "U2147483697", true, true),
            (Named::User, "W012A3CDE", true, true),
            (Named::User, "", false, false),
            (Named::User, "Ü0", false, false),
        ] {
            assert_eq!((named.is_id(text), named.may_be_id(text)), (certain, possible), "{text}");
        }
    }

    #[test]
    fn house_a14_no_name_of_an_input_is_passed_over() {
        let schema = json!({"properties": {"users": {"type": "array", "items": {"x-bellhop": "user"}}}});
        let people = |count: usize| -> Vec<String> { (0..count).map(|n| format!("p{n}@acme.example")).collect() };
        for (count, found) in [(499, 499), (500, 500), (501, 501), (9_000, 501)] {
            let mut names = Names::new();
            collect(&schema, &json!({"users": people(count)}), "", 500, &mut names);
            assert_eq!(names.len(), found, "of {count}");
        }
    }

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

    #[test]
    fn places_are_found_in_objects_arrays_and_choices() {
        let schema = json!({"properties": {
            "channel": {"anyOf": [{"type": "string", "x-bellhop": "channel"}, {"type": "null"}]},
            "users": {"type": "array", "items": {"x-bellhop": "user"}},
            "text": {"type": "string"},
        }});
        let input = json!({"channel": "#it", "users": ["U0ADA", "eve@acme.example"], "text": "#not"});
        let mut found = Names::new();
        collect(&schema, &input, "", 500, &mut found);
        let found: Vec<(&str, &str)> = found.iter().map(|(p, (_, n))| (p.as_str(), n.as_str())).collect();
        assert_eq!(found, [("/channel", "#it"), ("/users/1", "eve@acme.example")]);
    }
}
