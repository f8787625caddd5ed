//! What an action is told besides its input.

use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The run, the task and the connection that an action works for. Fields that this SDK does not know are ignored.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    /// The run's id.
    pub run: String,
    /// The task, as a JSON pointer into the definition. All iterations of a loop have the same.
    pub task: String,
    /// The execution of the task: another in each iteration of a loop, and the same in each attempt at it and in each
    /// slice. What is to be known by a key of its own can be known by this and the run.
    #[serde(default)]
    pub execution: String,
    /// 1, and more for each retry.
    pub attempt: u32,
    /// Whether the host asks what would change. It answers writes itself then; an action need not do anything else.
    #[serde(default)]
    pub dry_run: bool,
    /// When this execution of the task began, in UTC as RFC 3339 has it (`2026-01-01T09:00:00Z`). The only time that an
    /// action knows: the same in each attempt and slice, since a retry must make the same requests.
    #[serde(default)]
    pub started_at: Value,
    /// The connection that all calls go to.
    pub connection: Connection,
    /// What one slice of the action may use.
    #[serde(default)]
    pub limits: Limits,
    /// What the slice before gave to [`crate::Done::again`]; none in the first one.
    #[serde(skip)]
    pub(crate) state: Option<Value>,
}

/// A connection, without its secrets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// The operator's name for it.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// `free`, `pro`, `business-plus`, `compliance` or `enterprise`; none where the host could not read it.
    #[serde(default)]
    pub plan: Option<String>,
    /// The workspace's id, for the two kinds of one workspace.
    #[serde(default)]
    pub workspace_id: Option<String>,
    /// The organisation's id, inside Enterprise Grid.
    #[serde(default)]
    pub enterprise_id: Option<String>,
}

/// What one slice of an action may use, as the operator has set it. The defaults are those of a host that does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Calls. One more ends the action with `plugin-trapped`.
    pub calls: u32,
    /// Bytes of all answers. Once there are more, every further call is refused with `answer-too-large`.
    pub answers_bytes: u64,
    /// Bytes of one answer. A larger one is the refusal `answer-too-large`; the answer to a write has fields left out.
    pub answer_bytes: u64,
    /// Bytes of the arguments of one call. More end the action with `plugin-trapped`.
    pub arguments_bytes: u64,
    /// Bytes of the action's output, state or failure. More end it with `plugin-output-invalid`.
    pub output_bytes: u64,
    /// Bytes of all memories. More end the action with `plugin-trapped`.
    pub memory_bytes: u64,
    /// Milliseconds of computing between two calls. An action that takes more is tried again, and then parked.
    pub compute_ms: u64,
    /// Times in a row that an action may ask to be called again ([`crate::Done::again`]) without a call or with the state
    /// that it had. Once more ends it with `plugin-no-progress`.
    pub idle_slices: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls: 200,
            answers_bytes: 8 << 20,
            answer_bytes: 1 << 20,
            arguments_bytes: 1 << 20,
            output_bytes: 1 << 20,
            memory_bytes: 64 << 20,
            compute_ms: 1_000,
            idle_slices: 20,
        }
    }
}

/// The kinds of connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// One workspace outside Enterprise Grid.
    Workspace,
    /// One workspace inside a Grid, installed on that workspace.
    GridWorkspace,
    /// The top-level Grid, installed org-wide.
    GridOrg,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Workspace, Self::GridWorkspace, Self::GridOrg];

    /// As in manifests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Workspace => "workspace",
            Self::GridWorkspace => "grid-workspace",
            Self::GridOrg => "grid-org",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Context {
    /// What the slice before gave to [`crate::Done::again`], or none in the first slice and for a state that an older
    /// version of the action wrote in another form.
    #[must_use]
    pub fn state<S: DeserializeOwned>(&self) -> Option<S> {
        self.state.as_ref().and_then(|state| S::deserialize(state).ok())
    }

    /// Whether the connection is the top-level Grid.
    #[must_use]
    pub fn on_org(&self) -> bool {
        self.connection.kind == Kind::GridOrg
    }
}
