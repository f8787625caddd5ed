//! Names for people in an action's input: `#channel`, an e-mail, a group's handle, a workspace's name do as well as an
//! id where the field's schema says `x-bellhop` (semantics 4). The host finds the ids before the action runs; what it
//! found is on record as a read of the task, so that a replay sees the same.

use std::collections::BTreeMap;

use bellhop_core::digest::Digest;
use bellhop_core::fault::Fault;
use bellhop_core::pointer;
use bellhop_core::run::{Action, Calling, ExecutionKey};
use bellhop_slack::catalog::Own;
use serde_json::Value;

use super::list;
use super::lookup;
use super::named::Named;
use super::scope::Scope;
use super::unresolved::{self, Name, Unresolved};
use crate::execution::local::Local;
use crate::execution::{Answer, CallKey, Error, Execution, How};

/// Reads that resolve names are numbered from here on, apart from the guest's own calls.
pub(super) const ORDINAL_FIRST: u32 = 1 << 30;

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
        return Err(Unresolved::Fault(unresolved::fault(scope, "names-too-many", &detail)));
    }
    let mut resolved = input.clone();
    // What a channel is called depends on the workspace, so that workspaces come first. The numbers stay those of the places.
    let mut names: Vec<_> = names.into_iter().enumerate().collect();
    names.sort_by_key(|(_, (_, (named, _)))| *named != Named::Workspace);
    let asked_at = scope.monotonic();
    for (number, (pointer, (named, name))) in names {
        let key = key(&scope.execution, scope.attempt, number);
        let id = match scope.kept(&key).await.map_err(Unresolved::Stopped)? {
            Some(answer) => answer.result,
            None => {
                let sought = Name { named, text: &name, key: &key, asked_at };
                let found = match lookup::find(scope, &sought, &resolved).await {
                    // What could not be asked may be a name all the same.
                    Err(Unresolved::Nobody(_)) if named.may_be_id(&name) => name.clone(),
                    Err(Unresolved::Fault(fault))
                        if named == Named::Channel && slack_finds(scope, &pointer, &fault) =>
                    {
                        format!("#{}", list::key(lookup::plain(&name)))
                    }
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
                    token: None,
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

/// Whether Slack itself finds the channel that could not be looked up: the connection may not read lists of channels, and
/// whatever the action calls with a channel takes its name as well.
fn slack_finds<E>(scope: &Scope<E>, pointer: &str, fault: &Fault) -> bool {
    let is_unread = matches!(fault.code(), "scope-missing" | "token-kind-missing" | "permission-denied")
        || (fault.code() == "name-unresolved" && fault.slack.is_none() && lacks_token(scope));
    if pointer != "/channel" || !is_unread {
        return false;
    }
    let kind = scope.connection.facts.kind;
    let calls = scope.action.manifest.calls.iter().filter(|alternative| alternative.on.contains(&kind));
    let catalog = scope.services.gateway.catalog;
    let mut methods =
        calls.flat_map(|alternative| &alternative.methods).map(|call| catalog.by_function(&call.function));
    methods.all(|method| method.is_some_and(|method| method.takes_channel_names() || !method.takes("channel")))
}

fn lacks_token<E>(scope: &Scope<E>) -> bool {
    let lists = scope.services.gateway.catalog.own(Own::Channel);
    lists.is_none_or(|method| scope.connection.token(method).is_none())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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
