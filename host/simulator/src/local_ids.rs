//! People who have one id in a workspace and another in its organisation: the tokens of the workspace see its own, and may
//! give either; `enterprise_user.id` says who that is in the organisation.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::world::{Installed, Token, World};

/// Arguments that are text of people's own, in which nothing is an id.
const TEXTS: [&str; 6] = ["text", "markdown_text", "blocks", "attachments", "metadata", "profile"];

/// The ids of a token's workspace, by those of the organisation; mostly there are none.
pub(crate) fn of(world: &World, token: &Token) -> Option<BTreeMap<String, String>> {
    match &token.installed {
        Installed::Workspace(workspace) => world.local_ids.get(workspace).cloned(),
        Installed::Organisation { .. } => None,
    }
}

/// Arguments with the organisation's ids.
pub(crate) fn taken(ids: &BTreeMap<String, String>, arguments: &Map<String, Value>) -> Map<String, Value> {
    let mut arguments = arguments.clone();
    for (_, value) in arguments.iter_mut().filter(|(name, _)| !TEXTS.contains(&name.as_str())) {
        replace(value, &|text| {
            // A list in a form is one text.
            ids.iter().fold(text.to_owned(), |text, (organisation, local)| text.replace(local, organisation))
        });
    }
    arguments
}

/// A body with the workspace's ids.
pub(crate) fn shown(ids: &BTreeMap<String, String>, body: &[u8]) -> Vec<u8> {
    let Ok(mut body) = serde_json::from_slice::<Value>(body) else { return body.to_vec() };
    replace(&mut body, &|text| ids.get(text).cloned().unwrap_or_else(|| text.to_owned()));
    body.to_string().into_bytes()
}

fn replace(value: &mut Value, with: &impl Fn(&str) -> String) {
    match value {
        Value::String(text) => *text = with(text),
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, with)),
        Value::Object(fields) => {
            for (_, value) in fields.iter_mut().filter(|(name, _)| *name != "enterprise_user") {
                replace(value, with);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
