//! The name of a channel that a guest gives by its id, where a grant is for channels of a name. The host reads it, and
//! what it found is on record beside the call, so that a replay is judged by the same.

use std::collections::BTreeMap;

use bellhop_core::digest::Digest;
use bellhop_core::requirement::{Arguments, Grant, Permits};
use bellhop_slack::catalog::{Method, Own};
use serde_json::{Value, json};

use super::known::Within;
use super::named::Named;
use super::scope::{Scope, Stopped};
use crate::execution::{Answer, CallKey, Execution, How};

/// Reads that find names are numbered from here on, apart from the guest's own calls and from what its input named.
const ORDINAL_FIRST: u32 = (1 << 30) + (1 << 29);

/// The channel that has to be known by name before the grants can be compared with the call; mostly there is none.
fn wanted<'a>(grants: &[Grant], method: &Method, connection: &str, arguments: &'a Value) -> Option<&'a str> {
    let by_name = |grant: &&Grant| {
        grant.method() == method.name
            && grant.connection().is_none_or(|name| name == connection)
            && grant.argument().is_some_and(|(_, pattern)| pattern.starts_with('#'))
    };
    let (field, _) = grants.iter().find(by_name)?.argument()?;
    let id = arguments.get(field)?.as_str().filter(|id| id.starts_with(['C', 'G']) && Named::Channel.is_id(id))?;
    let known = Arguments::Call { arguments, names: &BTreeMap::new() };
    (Grant::any_permits(grants, &method.name, connection, known) != Permits::Yes).then_some(id)
}

/// The names of channels by id that judging this call takes. One that cannot be read is not among them, and then no grant
/// for a name allows the call.
pub(super) async fn names<E: Execution>(
    scope: &Scope<E>,
    method: &Method,
    arguments: &Value,
    ordinal: u32,
) -> Result<BTreeMap<String, String>, Stopped> {
    let connection = &scope.connection.facts.name;
    let Some(id) = wanted(&scope.grants, method, connection, arguments) else { return Ok(BTreeMap::new()) };
    let ordinal = ORDINAL_FIRST.saturating_add(ordinal);
    let key = CallKey { execution: scope.execution.clone(), attempt: scope.attempt, ordinal };
    let name = match scope.kept(&key).await? {
        Some(answer) => answer.result.ok(),
        None => {
            let services = &scope.services;
            let workspace = arguments.get("team_id").and_then(Value::as_str);
            let within = Within::of(&scope.connection.facts, workspace);
            let register = services.names.of(within.as_ref(), Named::Channel);
            let known = register.name_of(id, scope.monotonic());
            let found = match (known, services.gateway.catalog.own(Own::ChannelName)) {
                (Some(name), _) => Ok(name),
                (None, Some(asked)) => {
                    let arguments = json!({ "channel": id });
                    match scope.read_for(&key, asked, &arguments).await? {
                        Ok(answer) if answer.ok => {
                            let name = answer.body.pointer("/channel/name").and_then(Value::as_str);
                            name.map(str::to_owned).ok_or_else(|| "it has no name".to_owned())
                        }
                        Ok(answer) => Err(answer.error.unwrap_or_default()),
                        Err(failure) => Err(failure.to_string()),
                    }
                }
                (None, None) => Err("it cannot be looked up".to_owned()),
            };
            // Another run may have found it meanwhile.
            scope.gives_up_turn(&key);
            let answer = Answer {
                hash: Digest::of(id.as_bytes()).to_string(),
                function: "name".to_owned(),
                writes: false,
                result: found,
                how: How::Sent,
                token: None,
            };
            scope.record(&key, answer).await?.result.ok()
        }
    };
    Ok(name.map(|name| (id.to_owned(), name)).into_iter().collect())
}
