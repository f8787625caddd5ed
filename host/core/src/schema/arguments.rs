//! The `with` of a call against the input schema of its action, as far as can be said before anything runs.

use serde_json::{Map, Value};

use super::{Schema, Violation, What};
use crate::definition::{Call, Source, Task};
use crate::diagnostic::{Diagnostic, HttpRemedy, Needs, Remedy, code};
use crate::expression::{Content, Template};
use crate::pointer;

/// Compares the arguments of `call`, which is what `task` does or what takes that back, with `schema`.
///
/// Everything reported is wrong whatever the expressions give: a field that the action does not take, one that it
/// needs and that is not there, a literal that does not fit. What depends on an expression's result is not judged.
#[must_use]
pub fn check_arguments(source: &Source, task: &Task, call: &Call, schema: &Schema) -> Vec<Diagnostic> {
    let mut open = Vec::new();
    let instance = with_placeholders(&call.arguments, String::new(), &mut open);
    schema
        .validate(&instance)
        .into_iter()
        .filter(|violation| is_certain(violation, &open))
        .map(|violation| diagnostic(source, task, call, &violation))
        .collect()
}

/// The literal parts of a template; expressions are `null` and their pointers go to `open`.
fn with_placeholders(template: &Template, pointer: String, open: &mut Vec<String>) -> Value {
    match template {
        Template::Text(text) => match &text.content {
            Content::Literal(value) => value.clone(),
            Content::Program(_) => {
                open.push(pointer);
                Value::Null
            }
        },
        Template::Array(items) => Value::Array(
            items.iter().enumerate().map(|(i, t)| with_placeholders(t, pointer::item(&pointer, i), open)).collect(),
        ),
        Template::Object(fields) => {
            let mut map = Map::new();
            for (name, field) in fields {
                let pointer = pointer::child(&pointer, name);
                map.insert(name.clone(), with_placeholders(field, pointer, open));
            }
            Value::Object(map)
        }
    }
}

/// Whether the violation stands whatever the values at `open` are.
fn is_certain(violation: &Violation, open: &[String]) -> bool {
    if open.is_empty() {
        return true;
    }
    // Which branch applies may depend on any expression.
    let branches = [
        "anyOf",
        "oneOf",
        "not",
        "if",
        "then",
        "else",
        "dependentSchemas",
        "unevaluatedProperties",
        "unevaluatedItems",
        "contains",
    ];
    if violation.schema_pointer.split('/').any(|segment| branches.contains(&segment)) {
        return false;
    }
    let inside = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match violation.what {
        // The names of fields are literal.
        What::Unknown | What::Missing => {
            let parent = &violation.pointer[..violation.pointer.rfind('/').unwrap_or(0)];
            !open.iter().any(|at| inside(parent, at))
        }
        // Placeholders take less than what comes in their place.
        What::TooCostly => true,
        What::Invalid => {
            let keyword = violation.schema_pointer.rsplit('/').next().unwrap_or_default();
            let whatever_inside =
                ["type", "minProperties", "maxProperties", "minItems", "maxItems", "propertyNames"].contains(&keyword);
            !open
                .iter()
                .any(|at| inside(&violation.pointer, at) || (!whatever_inside && inside(at, &violation.pointer)))
        }
    }
}

fn diagnostic(source: &Source, task: &Task, call: &Call, violation: &Violation) -> Diagnostic {
    let with = format!("{}/with", call.pointer);
    let pointer = format!("{with}{}", violation.pointer);
    let action = call.reference.to_string();
    let field = pointer::unescape(violation.pointer.trim_start_matches('/'));
    let (code, message) = match violation.what {
        What::Unknown => (code::ARGUMENT_UNKNOWN, format!("`{action}` takes no argument `{field}`")),
        What::Missing => (code::ARGUMENT_MISSING, format!("`{action}` needs the argument `{field}`")),
        What::TooCostly => (
            code::SCHEMA_TOO_COSTLY,
            format!("what `{action}` is given would take too long to compare with its schema"),
        ),
        What::Invalid if field.is_empty() => {
            let message = match violation.message.strip_prefix("the value needs ") {
                Some(what) => format!("`{action}` needs {what}"),
                None => {
                    let why = violation.message.strip_prefix("the value ").unwrap_or(&violation.message);
                    format!("what `{action}` is given {why}")
                }
            };
            (code::ARGUMENT_INVALID, message)
        }
        What::Invalid => {
            let why = match &violation.expected {
                Some(expected) if violation.message.ends_with(&format!("must be {expected}")) => {
                    format!("must be {expected}")
                }
                _ => format!("does not fit: {}", violation.message),
            };
            (code::ARGUMENT_INVALID, format!("the argument `{field}` of `{action}` {why}"))
        }
    };
    let mut diagnostic = Diagnostic::error(code, message);
    diagnostic.place = match violation.what {
        What::Unknown => source.key_place(&pointer),
        // Marked where it should be written, or, where nothing is, at the call.
        What::Missing => {
            let parent = &pointer[..pointer.rfind('/').unwrap_or(0)];
            source.key_place(parent).or_else(|| source.place(&format!("{}/call", call.pointer)))
        }
        What::Invalid | What::TooCostly => source.place(&pointer),
    }
    .or_else(|| source.nearest_place(&pointer));
    diagnostic.task = Some(task.pointer.clone());
    diagnostic.pointer = Some(pointer);
    diagnostic.action = Some(action);
    match (&violation.suggestion, &violation.expected, violation.what) {
        (Some(near), ..) => diagnostic.with_help(format!("did you mean `{near}`?")),
        (None, Some(known), What::Unknown) => diagnostic.with_help(format!("it can have {known}")),
        (None, expected, _) => {
            diagnostic.needs = expected.clone().map(|text| Needs { text: Some(text), ..Needs::default() });
            diagnostic.remedies.push(Remedy {
                title: "see what it takes".to_owned(),
                command: None,
                http: Some(HttpRemedy {
                    method: "GET".to_owned(),
                    path: format!("/v1/actions?plugin={}", call.reference.plugin),
                    body: Value::Null,
                }),
            });
            diagnostic
        }
    }
}
