//! What is wrong, where, what is needed, what is there, and how to mend it: one value for people and for machines.

use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::requirement::{Kind, Permission, Plan};

pub mod code;
mod render;
mod suggest;

pub use render::{render, render_all};
pub use suggest::nearest;

/// A stable code; every one has a page under `host/docs/errors` and is listed in [`code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Code(pub &'static str);

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// Whether the diagnostic blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Blocks.
    Error,
    /// Does not block, except under `--strict`.
    Warning,
}

/// When the same request may succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retryable {
    /// Not until the request or the file is changed.
    No,
    /// Unchanged, once the remedy is carried out.
    AfterRemedy,
    /// Unchanged, later.
    Later,
}

/// A place in a file. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Place {
    /// As the caller named it.
    pub file: String,
    /// Line of the first character.
    pub line: u32,
    /// Column of the first character.
    pub column: u32,
    /// Length of the marked text in characters, at least 1.
    #[serde(skip)]
    pub length: u32,
    /// The text of that line, without its line end, for the rendering.
    #[serde(skip)]
    pub text: String,
}

/// One way to mend it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Remedy {
    /// What it does, in a few words: `connect the workspace too`.
    pub title: String,
    /// The command that does it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The HTTP request that does it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpRemedy>,
}

/// The HTTP request of a [`Remedy`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct HttpRemedy {
    /// `POST`, …
    pub method: String,
    /// From the root: `/v1/connections`.
    pub path: String,
    /// The body.
    pub body: serde_json::Value,
}

/// What is needed, for machines.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
pub struct Needs {
    /// Kinds of connection that would do, the named one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<Kind>,
    /// The first kind, plan or thing, in the words that people know: `Enterprise Grid: Workspace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Plans that would do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plans: Vec<Plan>,
    /// The permission that would do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permission: Option<Permission>,
    /// Any one of these scopes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// The kind of token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// For everything else: what a value should have been, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// What is there, for machines.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
pub struct Has {
    /// The connection's kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Its name for people: `Enterprise Grid: Grid account`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The connection's plan, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// The connection's permission.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permission: Option<Permission>,
    /// The scopes that the token has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// For everything else, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// One fault in a file, a request or an installation. [`render`] writes the text form.
///
/// As JSON, absent facts are left out, and so are `label` (it says what `methods` say) and, where [`Needs`] holds typed
/// facts, `message` (it says what `action`, `connection`, `needs` and `has` say).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable code.
    pub code: Code,
    /// Whether it blocks.
    pub severity: Severity,
    /// One line, backticks around names: `` `message.send` cannot run on connection `acme` ``.
    pub message: String,
    /// Where, if in a file.
    pub place: Option<Place>,
    /// What to say under the mark: `calls chat.postMessage, which acts in one workspace`.
    pub label: Option<String>,
    /// JSON pointer of the task.
    pub task: Option<String>,
    /// JSON pointer into the definition or the input.
    pub pointer: Option<String>,
    /// As called: `message.send:1@slack`.
    pub action: Option<String>,
    /// Methods concerned, as the provider writes them.
    pub methods: Vec<String>,
    /// The connection judged.
    pub connection: Option<String>,
    /// What is needed.
    pub needs: Option<Needs>,
    /// What is there.
    pub has: Option<Has>,
    /// When the same request may succeed.
    pub retryable: Retryable,
    /// Who can carry out the remedy: `a Workspace Owner of that workspace`.
    pub who: Option<String>,
    /// Ways to mend it, best first.
    pub remedies: Vec<Remedy>,
}

impl Needs {
    /// Whether it says more than words.
    fn is_typed(&self) -> bool {
        !self.kinds.is_empty()
            || !self.plans.is_empty()
            || !self.scopes.is_empty()
            || self.permission.is_some()
            || self.token.is_some()
    }
}

impl Serialize for Diagnostic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("code", &self.code)?;
        map.serialize_entry("severity", &self.severity)?;
        // Of an action, the other fields say it all.
        if self.action.is_none() || !self.needs.as_ref().is_some_and(Needs::is_typed) {
            map.serialize_entry("message", &self.message)?;
        }
        if let Some(place) = &self.place {
            map.serialize_entry("file", &place.file)?;
            map.serialize_entry("line", &place.line)?;
            map.serialize_entry("column", &place.column)?;
        }
        for (name, text) in [("task", &self.task), ("pointer", &self.pointer), ("action", &self.action)] {
            if let Some(text) = text {
                map.serialize_entry(name, text)?;
            }
        }
        if !self.methods.is_empty() {
            map.serialize_entry("methods", &self.methods)?;
        }
        if let Some(connection) = &self.connection {
            map.serialize_entry("connection", connection)?;
        }
        if let Some(needs) = &self.needs {
            map.serialize_entry("needs", needs)?;
        }
        if let Some(has) = &self.has {
            map.serialize_entry("has", has)?;
        }
        map.serialize_entry("retryable", &self.retryable)?;
        if let Some(who) = &self.who {
            map.serialize_entry("who", who)?;
        }
        if !self.remedies.is_empty() {
            map.serialize_entry("remedies", &self.remedies)?;
        }
        map.end()
    }
}

impl Diagnostic {
    /// An error without a place; the other fields are filled in by the caller.
    #[must_use]
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            place: None,
            label: None,
            task: None,
            pointer: None,
            action: None,
            methods: Vec::new(),
            connection: None,
            needs: None,
            has: None,
            retryable: Retryable::No,
            who: None,
            remedies: Vec::new(),
        }
    }

    /// The same as a warning.
    #[must_use]
    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// The same with one more way to mend it, in words.
    #[must_use]
    pub fn with_help(mut self, title: impl Into<String>) -> Self {
        self.remedies.push(Remedy { title: title.into(), command: None, http: None });
        self
    }

    /// Whether it blocks.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}
