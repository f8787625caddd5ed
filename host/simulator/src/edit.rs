//! Small edits of the world, so that a test can arrange what it needs. No rule is checked here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    policy::Kept,
    rules::{Plan, TokenKind},
    seed,
    world::{Account, Channel, ChannelKind, Group, Installed, Membership, Note, Role, Session, TokenState, World},
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Edit {
    AddUser {
        name: String,
        email: String,
        #[serde(default)]
        id: Option<String>,
        #[serde(default)]
        real_name: String,
        #[serde(default)]
        external_id: Option<String>,
        /// Workspaces and the role in each.
        #[serde(default)]
        workspaces: BTreeMap<String, Role>,
        /// The organisation or workspace whose account it is; told by the first workspace.
        #[serde(default)]
        home: Option<String>,
        #[serde(default = "yes")]
        active: bool,
    },
    AddChannel {
        workspace: String,
        name: String,
        #[serde(default)]
        id: Option<String>,
        #[serde(default)]
        private: bool,
        #[serde(default)]
        members: BTreeSet<String>,
    },
    AddUsergroup {
        home: String,
        name: String,
        #[serde(default)]
        id: Option<String>,
        #[serde(default)]
        handle: Option<String>,
        #[serde(default)]
        users: Vec<String>,
        #[serde(default)]
        teams: Vec<String>,
    },
    AddToken {
        token: String,
        kind: TokenKind,
        user: String,
        #[serde(default)]
        workspace: Option<String>,
        /// For a token of an organisation: the workspaces granted to the app.
        #[serde(default)]
        organisation: Option<String>,
        #[serde(default)]
        granted: BTreeSet<String>,
        /// All of the kind's when absent.
        #[serde(default)]
        scopes: Option<Vec<String>>,
    },
    RevokeToken {
        token: String,
    },
    AddSession {
        user: String,
        #[serde(default)]
        mobile: bool,
    },
    SetPlan {
        workspace: String,
        plan: Plan,
    },
    SetActive {
        user: String,
        active: bool,
    },
    SetChannelMember {
        channel: String,
        user: String,
        member: bool,
    },
    SetUsergroupUsers {
        usergroup: String,
        users: Vec<String>,
    },
    /// A person of an organisation has another id in one of its workspaces.
    SetLocalId {
        user: String,
        workspace: String,
        id: String,
    },
    /// Whether people alone choose their display names, in an organisation or a workspace of none.
    LockDisplayNames {
        home: String,
        #[serde(default = "yes")]
        locked: bool,
    },
    /// Whether an identity provider holds this custom field of profiles.
    LockField {
        field: String,
        #[serde(default = "yes")]
        locked: bool,
    },
    /// Whether administrators alone may do something in a workspace.
    KeepForAdmins {
        workspace: String,
        what: Kept,
        #[serde(default = "yes")]
        kept: bool,
    },
}

fn yes() -> bool {
    true
}

/// Does one edit and answers the id of what was made.
pub(crate) fn apply(world: &mut World, edit: Edit, now_us: u64) -> Result<Value, String> {
    let now_s = now_us / 1_000_000;
    match edit {
        Edit::AddUser { name, email, id, real_name, external_id, workspaces, home, active } => {
            let home = home
                .or_else(|| workspaces.keys().next().map(|workspace| world.home_of(workspace)))
                .ok_or("a user needs a home or a workspace")?;
            let id = id.unwrap_or_else(|| world.fresh_id('U'));
            let real_name = if real_name.is_empty() { name.clone() } else { real_name };
            let memberships = workspaces
                .iter()
                .map(|(workspace, role)| {
                    (workspace.clone(), Membership { role: *role, present: true, invited: false, expires_s: 0 })
                })
                .collect();
            let account = Account {
                id: id.clone(),
                name,
                real_name,
                email,
                external_id,
                home,
                active,
                memberships,
                created_s: now_s,
                updated_s: now_s,
                ..Account::default()
            };
            world.users.insert(id.clone(), account);
            if active {
                for (workspace, role) in workspaces {
                    world.enrol(&workspace, &id, role, false);
                }
            }
            Ok(json!({ "id": id }))
        }
        Edit::AddChannel { workspace, name, id, private, members } => {
            if !world.workspaces.contains_key(&workspace) {
                return Err(format!("no workspace {workspace}"));
            }
            let id = id.unwrap_or_else(|| world.fresh_id('C'));
            let channel = Channel {
                id: id.clone(),
                name,
                kind: if private { ChannelKind::Private } else { ChannelKind::Public },
                teams: vec![workspace],
                organisation_wide: false,
                archived: false,
                general: false,
                creator: members.first().cloned().unwrap_or_else(|| "USLACKBOT".to_owned()),
                created_s: now_s,
                topic: Note::empty(),
                purpose: Note::empty(),
                previous_names: Vec::new(),
                members,
                messages: Vec::new(),
            };
            world.channels.insert(id.clone(), channel);
            Ok(json!({ "id": id }))
        }
        Edit::AddUsergroup { home, name, id, handle, users, teams } => {
            let id = id.unwrap_or_else(|| world.fresh_id('S'));
            let group = Group {
                id: id.clone(),
                home,
                handle: handle.unwrap_or_else(|| name.to_lowercase().replace(' ', "-")),
                name,
                description: String::new(),
                users,
                channels: Vec::new(),
                teams,
                created_by: "USLACKBOT".to_owned(),
                updated_by: "USLACKBOT".to_owned(),
                created_s: now_s,
                updated_s: now_s,
                disabled_s: 0,
            };
            world.groups.insert(id.clone(), group);
            Ok(json!({ "id": id }))
        }
        Edit::AddToken { token, kind, user, workspace, organisation, granted, scopes } => {
            let installed = match (workspace, organisation) {
                (Some(id), None) => Installed::Workspace(id),
                (None, Some(id)) => Installed::Organisation { id, granted },
                _ => return Err("a token is of one workspace or of one organisation".to_owned()),
            };
            let made = seed::token(world, kind, installed, &user, scopes.as_deref());
            world.tokens.insert(token, Arc::new(made));
            Ok(json!({}))
        }
        Edit::RevokeToken { token } => {
            let known = world.tokens.get_mut(&token).ok_or("no such token")?;
            Arc::make_mut(known).state = TokenState::Revoked;
            Ok(json!({}))
        }
        Edit::AddSession { user, mobile } => {
            let home = world.users.get(&user).ok_or("no such user")?.home.clone();
            let id = world.sessions.iter().map(|session| session.id).max().unwrap_or(0) + 1;
            let device = if mobile { "iPhone" } else { "Intel" };
            world.sessions.push(Session { id, user, team: home, device: device.to_owned(), mobile });
            Ok(json!({ "id": id }))
        }
        Edit::SetPlan { workspace, plan } => {
            world.workspaces.get_mut(&workspace).ok_or("no such workspace")?.plan = plan;
            Ok(json!({}))
        }
        Edit::SetActive { user, active } => {
            if !world.users.contains_key(&user) {
                return Err(format!("no user {user}"));
            }
            if active {
                world.reactivate(&user, now_s);
            } else {
                world.deactivate(&user, now_s);
            }
            Ok(json!({}))
        }
        Edit::SetChannelMember { channel, user, member } => {
            let members = &mut world.channels.get_mut(&channel).ok_or("no such channel")?.members;
            let changed = if member { members.insert(user) } else { members.remove(&user) };
            Ok(json!({ "changed": changed }))
        }
        Edit::SetUsergroupUsers { usergroup, users } => {
            world.groups.get_mut(&usergroup).ok_or("no such user group")?.users = users;
            Ok(Value::Object(Map::new()))
        }
        Edit::SetLocalId { user, workspace, id } => {
            if !world.users.get(&user).is_some_and(|account| world.is_organisation(&account.home)) {
                return Err(format!("{user} is nobody of an organisation"));
            }
            world.local_ids.entry(workspace).or_default().insert(user, id);
            Ok(json!({}))
        }
        Edit::LockDisplayNames { home, locked } => {
            let names = &mut world.locked_display_names;
            let changed = if locked { names.insert(home) } else { names.remove(&home) };
            Ok(json!({ "changed": changed }))
        }
        Edit::LockField { field, locked } => {
            let fields = &mut world.locked_fields;
            let changed = if locked { fields.insert(field) } else { fields.remove(&field) };
            Ok(json!({ "changed": changed }))
        }
        Edit::KeepForAdmins { workspace, what, kept } => {
            if !world.workspaces.contains_key(&workspace) {
                return Err(format!("no workspace {workspace}"));
            }
            let all = world.kept.entry(workspace).or_default();
            let changed = if kept { all.insert(what) } else { all.remove(&what) };
            Ok(json!({ "changed": changed }))
        }
    }
}
