//! The table of plans: what each family of methods needs of a connection (semantics, section 5).

use bellhop_core::requirement::{Availability, Kind, Plan};

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Facts about the connection.
    Facts,
    /// Find and read people.
    People,
    /// Another member's profile.
    Profiles,
    /// Messages, conversations, files, user groups and what belongs to them.
    Collaboration,
    /// SCIM.
    Provisioning,
    /// `admin.*` and the audit log.
    Administration,
    /// Access logs, billable people, integration logs.
    Logs,
}

/// What a row says.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Which.
    pub family: Family,
    /// Names of methods; one with a `*` at its end means all that begin so.
    pub members: &'static [&'static str],
    /// What the methods act in, after "which".
    pub acts: &'static str,
    /// Who can grant or connect what they need.
    pub who: &'static str,
    workspace: Cell,
    grid_workspace: Cell,
    grid_org: Cell,
}

#[derive(Debug, Clone, Copy)]
enum Cell {
    Yes,
    From(Plan),
    No(&'static [Kind]),
}

/// A workspace, whichever: the Grid's first, since that is what an owner of a Grid account can connect.
const A_WORKSPACE: Cell = Cell::No(&[Kind::GridWorkspace, Kind::Workspace]);
const THE_ORGANISATION: Cell = Cell::No(&[Kind::GridOrg]);
const PAID: Cell = Cell::From(Plan::Pro);
const WORKSPACE_OWNER: &str = "a Workspace Owner of that workspace";
const ORG_OWNER: &str = "an Org Owner";

/// The table. Every method given to guests is in exactly one row; the catalog does not load otherwise.
pub const TABLE: [Row; 7] = [
    Row {
        family: Family::Facts,
        members: &[
            "api.test",
            "auth.teams.list",
            "auth.test",
            "bots.info",
            "emoji.list",
            "team.billing.info",
            "team.info",
            "team.preferences.list",
            "team.profile.get",
        ],
        acts: "reads facts about the connection",
        who: WORKSPACE_OWNER,
        workspace: Cell::Yes,
        grid_workspace: Cell::Yes,
        grid_org: Cell::Yes,
    },
    Row {
        family: Family::People,
        members: &[
            "users.discoverableContacts.lookup",
            "users.getPresence",
            "users.identity",
            "users.info",
            "users.list",
            "users.lookupByEmail",
            "users.profile.get",
        ],
        acts: "reads people",
        who: WORKSPACE_OWNER,
        workspace: Cell::Yes,
        grid_workspace: Cell::Yes,
        grid_org: Cell::Yes,
    },
    Row {
        family: Family::Profiles,
        members: &["users.deletePhoto", "users.profile.set"],
        acts: "changes profiles in one workspace",
        who: WORKSPACE_OWNER,
        workspace: PAID,
        grid_workspace: Cell::Yes,
        grid_org: A_WORKSPACE,
    },
    Row {
        family: Family::Collaboration,
        members: &[
            "bookmarks.*",
            "chat.*",
            "conversations.*",
            "dnd.*",
            "files.*",
            "pins.*",
            "reactions.*",
            "reminders.*",
            "search.*",
            "team.externalTeams.*",
            "usergroups.*",
            "users.conversations",
            "users.setPresence",
            "views.*",
        ],
        acts: "acts in one workspace",
        who: WORKSPACE_OWNER,
        workspace: PAID,
        grid_workspace: Cell::Yes,
        grid_org: A_WORKSPACE,
    },
    Row {
        family: Family::Provisioning,
        members: &["scim.v2.*"],
        acts: "manages the accounts of a Business+ workspace or of a whole organisation",
        who: ORG_OWNER,
        workspace: Cell::From(Plan::BusinessPlus),
        grid_workspace: THE_ORGANISATION,
        grid_org: Cell::Yes,
    },
    Row {
        family: Family::Administration,
        members: &["admin.*", "audit.v1.*"],
        acts: "acts on the whole organisation",
        who: ORG_OWNER,
        workspace: THE_ORGANISATION,
        grid_workspace: THE_ORGANISATION,
        grid_org: Cell::Yes,
    },
    Row {
        family: Family::Logs,
        members: &["team.accessLogs", "team.billableInfo", "team.integrationLogs"],
        acts: "reads the logs of one workspace",
        who: WORKSPACE_OWNER,
        workspace: PAID,
        grid_workspace: Cell::Yes,
        grid_org: A_WORKSPACE,
    },
];

impl Row {
    /// Whether a method is a member.
    #[must_use]
    pub fn has(&self, method: &str) -> bool {
        self.members.iter().any(|member| match member.strip_suffix('*') {
            Some(beginning) => method.starts_with(beginning),
            None => method == *member,
        })
    }

    /// What the row says of a kind.
    #[must_use]
    pub fn on(&self, kind: Kind) -> Availability {
        let cell = match kind {
            Kind::Workspace => self.workspace,
            Kind::GridWorkspace => self.grid_workspace,
            Kind::GridOrg => self.grid_org,
        };
        match cell {
            Cell::Yes => Availability::Yes,
            Cell::From(plan) => Availability::From(plan),
            Cell::No(kinds) => Availability::No(kinds.to_vec()),
        }
    }
}

impl Family {
    /// The row that a method is in.
    ///
    /// # Errors
    /// With the rows that have it, when these are none or several.
    pub fn of(method: &str) -> Result<Self, Vec<Self>> {
        let rows: Vec<_> = TABLE.iter().filter(|row| row.has(method)).map(|row| row.family).collect();
        match rows[..] {
            [family] => Ok(family),
            _ => Err(rows),
        }
    }

    /// Its row.
    #[must_use]
    pub fn row(self) -> &'static Row {
        TABLE.iter().find(|row| row.family == self).expect("the table has a row for each family; a test counts them")
    }
}
