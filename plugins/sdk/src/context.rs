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
    /// The task, as a JSON pointer into the definition.
    pub task: String,
    /// 1, and one more for each retry.
    pub attempt: u32,
    /// Whether the host asks what would change. It answers writes itself then; an action need not do anything else.
    #[serde(default)]
    pub dry_run: bool,
    /// When the task started, as the host writes it. The only time that an action knows.
    #[serde(default)]
    pub started_at: Value,
    /// The connection that all calls go to.
    pub connection: Connection,
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
