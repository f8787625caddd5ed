//! The calls that the host itself makes for a workflow: no plugin asks for them, and no grant of a plugin covers them. Which
//! methods these are, the rules say.

use serde_json::Value;

use super::guard::{Data, Guards};
use crate::definition::Call;
use crate::expression::{Content, Template};
use crate::manifest::{Action, Alternative, DeclaredCall, Effect, When as Occurs};
use crate::requirement::{Connection, Kind, Rules};

/// What `onFault.notify` is, in the words of a manifest.
pub(super) fn notify_action(rules: &Rules) -> Action {
    let by = rules.own.get("notify").cloned().into_iter();
    Action {
        name: "onFault.notify".to_owned(),
        title: String::new(),
        description: String::new(),
        input: Value::Bool(true),
        output: Value::Bool(true),
        effect: Effect::Notify,
        purposes: Vec::new(),
        inverse: None,
        exclusive: Vec::new(),
        licence: None,
        errors: Vec::new(),
        calls: vec![Alternative {
            on: Kind::ALL.to_vec(),
            methods: by.map(|function| DeclaredCall { function, when: Occurs::Always }).collect(),
        }],
    }
}

/// The fields of a call whose schema names what their ids are of, with what is known of their values.
pub(super) fn marked_fields<'a>(
    action: &'a Action,
    call: &'a Call,
    guards: &Guards<'_>,
    data: &Data,
) -> Vec<(&'a str, &'a str, Data)> {
    let Template::Object(fields) = &call.arguments else { return Vec::new() };
    fields
        .iter()
        .filter_map(|(name, template)| {
            let word = word_of(&action.input, action.input.get("properties")?.get(name)?)?;
            let value = match template {
                Template::Text(text) => match &text.content {
                    Content::Literal(value) => Data::Known(value.clone()),
                    Content::Program(_) => guards.text(text, data),
                },
                Template::Array(_) | Template::Object(_) => Data::Unknown,
            };
            Some((name.as_str(), word, value))
        })
        .collect()
}

/// `x-bellhop` of a field's schema: its own, that of the definition that it refers to, or that of one of its forms.
fn word_of<'a>(root: &'a Value, field: &'a Value) -> Option<&'a str> {
    let own = |schema: &'a Value| schema.get("x-bellhop").and_then(Value::as_str);
    let referred = |schema: &'a Value| {
        let pointer = schema.get("$ref")?.as_str()?.strip_prefix('#')?;
        own(root.pointer(pointer)?)
    };
    let direct = |schema: &'a Value| own(schema).or_else(|| referred(schema));
    let forms = ["anyOf", "oneOf"].into_iter().filter_map(|k| field.get(k)?.as_array()).flatten();
    direct(field).or_else(|| forms.into_iter().find_map(direct))
}

/// Whether whatever the action calls with a channel takes its name as well as its id. Then the host does without a look-up
/// that it is refused.
fn takes_channel_names(rules: &Rules, action: &Action) -> bool {
    let mut calls = action.calls.iter().flat_map(|alternative| &alternative.methods);
    calls.all(|call| {
        let method = rules.by_function(&call.function);
        rules.take_channel_names.contains(&call.function)
            || method.is_some_and(|method| !method.arguments.iter().any(|argument| argument == "channel"))
    })
}

/// The reads by which the host finds the ids of names in these fields: surely where the value is known and is needed as an id.
pub(super) fn reads(rules: &Rules, action: &Action, fields: &[(&str, &str, Data)]) -> Vec<DeclaredCall> {
    let mut reads: Vec<DeclaredCall> = Vec::new();
    for (name, word, value) in fields {
        let Some(function) = rules.own.get(*word) else { continue };
        let when = match value {
            Data::Known(Value::String(text))
                if is_name(word, text) && *name == "channel" && takes_channel_names(rules, action) =>
            {
                Occurs::Maybe
            }
            Data::Known(Value::String(text)) if is_name(word, text) => Occurs::Always,
            Data::Known(_) => continue,
            Data::FromInput | Data::Unknown => Occurs::Maybe,
        };
        match reads.iter_mut().find(|r| r.function == *function) {
            Some(read) if when == Occurs::Always => read.when = when,
            Some(_) => {}
            None => reads.push(DeclaredCall { function: function.to_owned(), when }),
        }
    }
    reads
}

/// What is known of these fields, as an object.
pub(super) fn known_input(fields: &[(&str, &str, Data)]) -> Value {
    let known = fields.iter().filter_map(|(name, _, value)| match value {
        Data::Known(value) => Some(((*name).to_owned(), value.clone())),
        Data::FromInput | Data::Unknown => None,
    });
    Value::Object(known.collect())
}

/// The ids of workspaces in these fields that are not of the connection's workspace.
pub(super) fn foreign_workspaces<'f>(
    fields: &'f [(&str, &str, Data)],
    connection: &Connection,
) -> Vec<(&'f str, &'f str)> {
    let Some(own) = connection.workspace_id.as_deref().filter(|_| connection.kind != Kind::GridOrg) else {
        return Vec::new();
    };
    fields
        .iter()
        .filter_map(|(name, word, value)| match value {
            Data::Known(Value::String(id)) if *word == "workspace" && is_id(id) && id != own => {
                Some((*name, id.as_str()))
            }
            _ => None,
        })
        .collect()
}

/// Whether the host must look it up.
fn is_name(word: &str, text: &str) -> bool {
    match word {
        "user" => text.contains('@') && !text.starts_with('@'),
        _ => !is_id(text),
    }
}

/// As Slack writes ids: a letter and at least two more characters, capitals and digits.
fn is_id(text: &str) -> bool {
    text.len() >= 3
        && text.starts_with(|c: char| c.is_ascii_uppercase())
        && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
}
