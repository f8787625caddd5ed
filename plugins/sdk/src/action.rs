//! What an action says of itself.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::context::{Context, Kind};
use crate::done::Done;
use crate::failure::Failure;

/// An action. The attribute [`crate::action`] implements it for a type with the function's name.
pub trait Action {
    /// What it is given.
    type Input: DeserializeOwned + JsonSchema;
    /// What it answers.
    type Output: Serialize + JsonSchema;
    /// What it says of itself.
    const SPEC: Spec;
    /// Carries it out.
    fn run(context: &Context, input: Self::Input) -> Result<Done<Self::Output>, Failure>;
}

/// The return type of an action's function.
pub trait Answer {
    /// What the action answers when it succeeds.
    type Output;
}

impl<O> Answer for Result<Done<O>, Failure> {
    type Output = O;
}

/// What an action says of itself, besides its schemas.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// `message.send`.
    pub name: &'static str,
    /// A few words.
    pub title: &'static str,
    /// What holds afterwards.
    pub description: &'static str,
    /// What it does to the world, at most.
    pub effect: Effect,
    /// The purposes that it may be used for; empty: any.
    pub purposes: &'static [&'static str],
    /// The action that undoes it.
    pub inverse: Option<&'static str>,
    /// What it does to the number of paid seats, at most; none: nothing.
    pub licence: Option<Licence>,
    /// What the host locks while it runs.
    pub exclusive: &'static [Exclusive],
    /// The error codes that it answers itself.
    pub errors: &'static [ErrorCode],
    /// What it calls, by kind of connection. On a kind that no alternative names it cannot run; one that calls nothing
    /// has no alternative and runs on every kind.
    pub calls: &'static [Alternative],
}

/// What an action does to the world, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Reads only.
    Read,
    /// Makes something new.
    Create,
    /// Changes something.
    Update,
    /// Removes something.
    Delete,
    /// Tells somebody something.
    Notify,
}

/// What an action does to the number of paid seats, at most. The plan of a run counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Licence {
    /// Takes one more.
    Adds,
    /// Gives one back.
    Reclaims,
}

/// A lock on something that an action reads, changes and writes back.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Exclusive {
    /// What is locked; actions that name the same thing exclude each other on one connection.
    pub name: &'static str,
    /// JSON pointers into the input, whose values say which one.
    pub fields: &'static [&'static str],
}

/// An error code and what it means.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ErrorCode {
    /// `not-found`.
    pub code: &'static str,
    /// 400 to 599.
    pub status: u16,
    /// What it means and what to do.
    pub description: &'static str,
}

/// The calls of an action on some kinds of connection.
#[derive(Debug, Clone, Copy)]
pub struct Alternative {
    /// The kinds.
    pub on: &'static [Kind],
    /// The functions that every run that succeeds calls.
    pub always: &'static [&'static str],
    /// The functions that some runs call.
    pub maybe: &'static [&'static str],
}

impl Spec {
    /// The alternative for a kind of connection.
    #[must_use]
    pub fn alternative(&self, kind: Kind) -> Option<&Alternative> {
        if self.calls.is_empty() {
            return Some(&Alternative { on: &Kind::ALL, always: &[], maybe: &[] });
        }
        self.calls.iter().find(|alternative| alternative.on.contains(&kind))
    }

    /// Whether the action changes anything.
    pub(crate) fn writes(&self) -> bool {
        self.effect != Effect::Read
    }

    /// This action's part of the manifest.
    pub(crate) fn describe(&self, input: &Value, output: &Value) -> Value {
        let calls: Vec<Value> = self
            .calls
            .iter()
            .map(|alternative| {
                let on: Vec<&str> = alternative.on.iter().map(|kind| kind.as_str()).collect();
                let always = alternative.always.iter().map(|f| json!({ "function": f, "when": "always" }));
                let maybe = alternative.maybe.iter().map(|f| json!({ "function": f, "when": "maybe" }));
                json!({ "on": on, "methods": always.chain(maybe).collect::<Vec<Value>>() })
            })
            .collect();
        let of_calls = if self.calls.is_empty() { &[][..] } else { crate::slack::error::DECLARED };
        let errors: Vec<&ErrorCode> = self
            .errors
            .iter()
            .chain(of_calls.iter().filter(|e| self.errors.iter().all(|own| own.code != e.code)))
            .collect();
        let mut action = json!({
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "input": input,
            "output": output,
            "effect": self.effect,
            "purposes": self.purposes,
            "exclusive": self.exclusive,
            "errors": errors,
            "calls": calls,
        });
        if let Some(inverse) = self.inverse {
            action["inverse"] = inverse.into();
        }
        if let Some(licence) = self.licence {
            action["licence"] = json!(licence);
        }
        action
    }
}

/// The field of every output of an action that changes something.
pub(crate) const ALREADY_DONE: &str = "alreadyDone";

/// The schema of an action's input: a field that it does not name is an error.
pub(crate) fn input_schema<T: JsonSchema>() -> Value {
    let mut schema = schema::<T>(SchemaSettings::draft2020_12().for_deserialize());
    if schema.get("type").and_then(Value::as_str) == Some("object") && schema.get("additionalProperties").is_none() {
        schema["additionalProperties"] = false.into();
    }
    schema
}

/// The schema of an action's output.
pub(crate) fn output_schema<T: JsonSchema>(spec: &Spec) -> Value {
    let mut schema = schema::<T>(SchemaSettings::draft2020_12().for_serialize());
    if spec.writes() && schema.get("type").and_then(Value::as_str) == Some("object") {
        schema["properties"][ALREADY_DONE] = json!({
            "type": "boolean",
            "description": "Whether what was asked for held already, so that nothing was changed.",
        });
        let required = schema.as_object_mut().map(|s| s.entry("required").or_insert_with(|| json!([])));
        if let Some(Value::Array(required)) = required {
            required.push(ALREADY_DONE.into());
        }
    }
    schema
}

fn schema<T: JsonSchema>(mut settings: SchemaSettings) -> Value {
    settings.inline_subschemas = true;
    settings.into_generator().into_root_schema_for::<T>().to_value()
}
