//! What a plugin says of itself in `describe` (semantics, section 7).

mod action;
mod check;
mod field;
mod grants;
mod near;
mod report;

pub use check::{ACTIONS_MAX, Checked, check};
pub use grants::{GRANTS_MAX, Granting, declared, given, grants, methods, missing, misspelt, too_many};

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::requirement::Kind;

/// A plugin's description. Reading one ignores unknown fields, since what an older host installed stays readable;
/// [`check`] refuses them before anything is installed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Who publishes it.
    pub publisher: String,
    /// The name by which `call: ACTION@NAME` finds it.
    pub name: String,
    /// Semantic version.
    pub version: String,
    /// Its actions.
    pub actions: Vec<Action>,
}

/// What an action does to the world, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

/// One action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Action {
    /// `message.send`.
    pub name: String,
    /// A few words.
    pub title: String,
    /// What holds afterwards.
    pub description: String,
    /// JSON Schema 2020-12 of `input`.
    pub input: Value,
    /// JSON Schema 2020-12 of `output`.
    pub output: Value,
    /// What it does, at most.
    pub effect: Effect,
    /// The purposes that it may be used for; empty: any.
    #[serde(default)]
    pub purposes: Vec<String>,
    /// The action that undoes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inverse: Option<String>,
    /// Keys held over the action, each a list of input fields (JSON pointers) besides the connection.
    #[serde(default)]
    pub exclusive: Vec<ExclusiveKey>,
    /// What it does to the number of paid seats; none: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<LicenceEffect>,
    /// Error codes that it can answer.
    #[serde(default)]
    pub errors: Vec<DeclaredError>,
    /// What it calls, by kind of connection.
    pub calls: Vec<Alternative>,
}

/// What an action does to the number of paid seats, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LicenceEffect {
    /// Takes one more.
    Adds,
    /// Gives one back.
    Reclaims,
}

/// A lock that the host holds while the action runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExclusiveKey {
    /// What is locked: `usergroup`. Actions that name the same thing exclude each other.
    pub name: String,
    /// JSON pointers into the input whose values, with the connection, make the key.
    pub fields: Vec<String>,
}

/// An error code with the status that `catch` sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredError {
    /// `not-found`.
    pub code: String,
    /// 400 to 599.
    pub status: u16,
    /// What it means and what to do.
    pub description: String,
}

/// The calls of an action on some kinds of connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alternative {
    /// The kinds.
    pub on: Vec<Kind>,
    /// The methods, as guests import them (`chat.post-message`).
    pub methods: Vec<DeclaredCall>,
}

/// One method of an [`Alternative`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredCall {
    /// As guests import it: `chat.post-message`.
    pub function: String,
    /// Whether every run of the action calls it.
    pub when: When,
}

/// See [`DeclaredCall::when`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// Every run that succeeds calls it.
    Always,
    /// Some do.
    Maybe,
}

impl Manifest {
    /// The action of that name.
    #[must_use]
    pub fn action(&self, name: &str) -> Option<&Action> {
        self.actions.iter().find(|a| a.name == name)
    }

    /// Of the functions that the plugin's binary imports those that no action declares: the host refuses their calls.
    #[must_use]
    pub fn undeclared<'i>(&self, imports: &'i [String]) -> Vec<&'i str> {
        let declared: HashSet<&str> = self.actions.iter().flat_map(Action::functions).collect();
        imports.iter().map(String::as_str).filter(|import| !declared.contains(import)).collect()
    }
}

impl Action {
    /// The alternative for a kind of connection; none: the action does nothing there. An action that states that it
    /// calls nothing runs on every kind.
    #[must_use]
    pub fn alternative(&self, kind: Kind) -> Option<&Alternative> {
        static NOTHING: Alternative = Alternative { on: Vec::new(), methods: Vec::new() };
        if self.calls.is_empty() {
            return Some(&NOTHING);
        }
        self.calls.iter().find(|a| a.on.contains(&kind))
    }

    /// The functions that it declares, as guests import them; one of several alternatives stands there several times.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        self.calls.iter().flat_map(|alternative| &alternative.methods).map(|call| call.function.as_str())
    }
}
