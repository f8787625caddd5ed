//! What exists in the simulated Slack: organisations, workspaces, people, channels, messages, groups, sessions.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    policy::Kept,
    rules::{Plan, TokenKind},
};

/// Messages kept in one channel; the next one is refused.
const MESSAGES_MAX: usize = 500_000;
/// Audit entries kept; older ones are forgotten.
const AUDIT_MAX: usize = 10_000;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Organisation {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) domain: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Workspace {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) domain: String,
    pub(crate) plan: Plan,
    pub(crate) organisation: Option<String>,
}

/// What a person may do in one workspace, highest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    PrimaryOwner,
    Owner,
    Admin,
    Member,
    MultiChannelGuest,
    SingleChannelGuest,
}

impl Role {
    pub(crate) fn is_admin(self) -> bool {
        self <= Self::Admin
    }

    pub(crate) fn is_owner(self) -> bool {
        self <= Self::Owner
    }

    pub(crate) fn is_guest(self) -> bool {
        self >= Self::MultiChannelGuest
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Membership {
    pub(crate) role: Role,
    /// False once the person was removed; Slack goes on listing such a person in the workspace, as deleted.
    pub(crate) present: bool,
    pub(crate) invited: bool,
    /// When a guest's access ends; 0: never.
    pub(crate) expires_s: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) real_name: String,
    pub(crate) email: String,
    pub(crate) external_id: Option<String>,
    /// The organisation, or the workspace that belongs to none.
    pub(crate) home: String,
    pub(crate) active: bool,
    pub(crate) bot: Option<String>,
    pub(crate) organisation_role: Option<Role>,
    pub(crate) memberships: BTreeMap<String, Membership>,
    /// Profile fields that were set: title, phone, display_name, status_text, fields, ….
    pub(crate) profile: Map<String, Value>,
    /// SCIM attributes kept as they were sent.
    pub(crate) scim: Map<String, Value>,
    pub(crate) created_s: u64,
    pub(crate) updated_s: u64,
    pub(crate) deactivated_s: u64,
}

impl Account {
    pub(crate) fn role_in(&self, workspace: &str) -> Option<Role> {
        self.memberships.get(workspace).filter(|membership| membership.present).map(|membership| membership.role)
    }

    pub(crate) fn workspaces(&self) -> Vec<&str> {
        self.memberships.iter().filter(|(_, m)| m.present).map(|(id, _)| id.as_str()).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ChannelKind {
    Public,
    Private,
    Im,
    Mpim,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) value: String,
    pub(crate) creator: String,
    pub(crate) last_set: u64,
}

impl Note {
    pub(crate) fn empty() -> Self {
        Self { value: String::new(), creator: String::new(), last_set: 0 }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Channel {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) kind: ChannelKind,
    /// The workspaces that see it; the first is where it was made.
    pub(crate) teams: Vec<String>,
    pub(crate) organisation_wide: bool,
    pub(crate) archived: bool,
    pub(crate) general: bool,
    pub(crate) creator: String,
    pub(crate) created_s: u64,
    pub(crate) topic: Note,
    pub(crate) purpose: Note,
    pub(crate) previous_names: Vec<String>,
    pub(crate) members: BTreeSet<String>,
    pub(crate) messages: Vec<Message>,
}

impl Channel {
    /// Index of the message with this timestamp. Timestamps have one width, so their text sorts as they do.
    pub(crate) fn message(&self, ts: &str) -> Option<usize> {
        self.messages.binary_search_by(|message| message.ts.as_str().cmp(ts)).ok()
    }

    /// The workspace where it was made, whose rules count.
    pub(crate) fn home(&self) -> &str {
        self.teams.first().map_or("", String::as_str)
    }

    pub(crate) fn full(&self) -> bool {
        self.messages.len() >= MESSAGES_MAX
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reaction {
    pub(crate) name: String,
    pub(crate) users: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) ts: String,
    pub(crate) user: String,
    pub(crate) team: String,
    pub(crate) text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bot: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) blocks: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) attachments: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thread_ts: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) broadcast: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) edited: Option<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) reactions: Vec<Reaction>,
}

/// A message that waits for its time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Scheduled {
    pub(crate) channel: String,
    pub(crate) post_at_s: u64,
    pub(crate) created_s: u64,
    /// Without a timestamp until it is posted.
    pub(crate) message: Message,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) id: String,
    /// The organisation or the workspace that owns it.
    pub(crate) home: String,
    pub(crate) name: String,
    pub(crate) handle: String,
    pub(crate) description: String,
    pub(crate) users: Vec<String>,
    pub(crate) channels: Vec<String>,
    /// Workspaces that a group of the organisation is linked to.
    pub(crate) teams: Vec<String>,
    pub(crate) created_by: String,
    pub(crate) updated_by: String,
    pub(crate) created_s: u64,
    pub(crate) updated_s: u64,
    pub(crate) disabled_s: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) id: u64,
    pub(crate) user: String,
    pub(crate) team: String,
    pub(crate) device: String,
    pub(crate) mobile: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RoleAssignment {
    pub(crate) role: String,
    pub(crate) entity: String,
    pub(crate) user: String,
    pub(crate) created_s: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AuditEntry {
    pub(crate) id: String,
    pub(crate) at_s: u64,
    pub(crate) action: Cow<'static, str>,
    pub(crate) actor: String,
    pub(crate) entity: Value,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AccessLogin {
    pub(crate) user: String,
    pub(crate) workspace: String,
    pub(crate) ip: String,
    pub(crate) user_agent: String,
    pub(crate) first_s: u64,
    pub(crate) last_s: u64,
    pub(crate) count: u64,
}

/// Where the app that owns a token is installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Installed {
    Workspace(String),
    Organisation { id: String, granted: BTreeSet<String> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TokenState {
    Good,
    Revoked,
    Expired,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) installed: Installed,
    /// The acting account.
    pub(crate) user: String,
    pub(crate) bot: Option<String>,
    pub(crate) scopes: BTreeSet<String>,
    /// The scopes as the response header shows them.
    pub(crate) scope_line: String,
    pub(crate) state: TokenState,
}

impl Token {
    pub(crate) fn has(&self, scope: &str) -> bool {
        self.scopes.contains(scope)
    }

    pub(crate) fn has_any(&self, scopes: &[&str]) -> bool {
        scopes.is_empty() || scopes.iter().any(|scope| self.has(scope))
    }

    /// The organisation or workspace that rate budgets and SCIM count for.
    pub(crate) fn place(&self) -> &str {
        match &self.installed {
            Installed::Workspace(id) | Installed::Organisation { id, .. } => id,
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct World {
    pub(crate) organisations: BTreeMap<String, Organisation>,
    pub(crate) workspaces: BTreeMap<String, Workspace>,
    pub(crate) users: BTreeMap<String, Account>,
    pub(crate) channels: BTreeMap<String, Channel>,
    /// By their ids.
    pub(crate) scheduled: BTreeMap<String, Scheduled>,
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) session_resets: BTreeMap<String, u64>,
    pub(crate) role_assignments: Vec<RoleAssignment>,
    /// Ids that people of an organisation have in a workspace, by the workspace and the id of the organisation: those of before
    /// it came into the organisation (Slack's page of `migration.exchange`; app-sre/qontract-reconcile#5520).
    pub(crate) local_ids: BTreeMap<String, BTreeMap<String, String>>,
    /// Organisations, and workspaces of none, in which people alone choose their display names.
    pub(crate) locked_display_names: BTreeSet<String>,
    /// Custom fields of profiles that an identity provider holds: what anybody else writes is answered well, and not kept
    /// (Slack help 115005506003, "synced" fields).
    pub(crate) locked_fields: BTreeSet<String>,
    /// What the administrators of a workspace have kept for themselves.
    pub(crate) kept: BTreeMap<String, BTreeSet<Kept>>,
    pub(crate) audit: Vec<AuditEntry>,
    pub(crate) logins: Vec<AccessLogin>,
    #[serde(skip)]
    pub(crate) tokens: HashMap<String, Arc<Token>>,
    #[serde(skip)]
    pub(crate) ims: HashMap<(String, String), String>,
    #[serde(skip)]
    last_ts_us: u64,
    #[serde(skip)]
    ids: u64,
}

/// What of a world nobody is shown, and what it needs to go on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unshown {
    tokens: BTreeMap<String, Token>,
    /// Two people and their direct conversation.
    direct: Vec<(String, String, String)>,
    last_ts_us: u64,
    ids: u64,
}

impl World {
    pub(crate) fn unshown(&self) -> Unshown {
        let direct = self.ims.iter().map(|((one, other), id)| (one.clone(), other.clone(), id.clone()));
        Unshown {
            tokens: self.tokens.iter().map(|(text, token)| (text.clone(), Token::clone(token))).collect(),
            direct: direct.collect(),
            last_ts_us: self.last_ts_us,
            ids: self.ids,
        }
    }

    pub(crate) fn with(self, unshown: Unshown) -> Self {
        let Unshown { tokens, direct, last_ts_us, ids } = unshown;
        Self {
            tokens: tokens.into_iter().map(|(text, token)| (text, Arc::new(token))).collect(),
            ims: direct.into_iter().map(|(one, other, id)| ((one, other), id)).collect(),
            last_ts_us,
            ids,
            ..self
        }
    }

    /// An identifier that was never given out: the prefix and a running number, like `C0NEW00001`.
    pub(crate) fn fresh_id(&mut self, prefix: char) -> String {
        self.ids += 1;
        format!("{prefix}0NEW{:05}", self.ids)
    }

    /// The timestamp of the next message: now, or just after the last one.
    pub(crate) fn fresh_ts(&mut self, now_us: u64) -> String {
        self.last_ts_us = now_us.max(self.last_ts_us + 1);
        format!("{:010}.{:06}", self.last_ts_us / 1_000_000, self.last_ts_us % 1_000_000)
    }

    /// The organisation of a workspace, else the workspace itself: where its accounts live.
    pub(crate) fn home_of(&self, place: &str) -> String {
        self.workspaces
            .get(place)
            .and_then(|workspace| workspace.organisation.clone())
            .unwrap_or_else(|| place.to_owned())
    }

    pub(crate) fn plan_of(&self, place: &str) -> Plan {
        self.workspaces.get(place).map_or(Plan::Enterprise, |workspace| workspace.plan)
    }

    pub(crate) fn is_organisation(&self, place: &str) -> bool {
        self.organisations.contains_key(place)
    }

    pub(crate) fn account_by_email(&self, home: &str, email: &str) -> Option<&Account> {
        self.users
            .values()
            .find(|user| user.home == home && user.bot.is_none() && user.email.eq_ignore_ascii_case(email))
    }

    pub(crate) fn account_by_name(&self, home: &str, name: &str) -> Option<&Account> {
        self.users.values().find(|user| user.home == home && user.name.eq_ignore_ascii_case(name))
    }

    pub(crate) fn channel_named(&self, workspace: &str, name: &str) -> Option<&Channel> {
        self.channels.values().find(|channel| {
            matches!(channel.kind, ChannelKind::Public | ChannelKind::Private)
                && channel.name == name
                && channel.teams.iter().any(|team| team == workspace)
        })
    }

    /// The conversation that a message to `named` goes to; what it is called, where there is none yet.
    pub(crate) fn posted_to(&self, token: &Token, workspace: Option<&str>, named: &str) -> String {
        if self.channels.contains_key(named) {
            return named.to_owned();
        }
        let pair = if *token.user <= *named { (&*token.user, named) } else { (named, &*token.user) };
        if let Some(direct) = self.ims.get(&(pair.0.to_owned(), pair.1.to_owned())) {
            return direct.clone();
        }
        let name = named.trim_start_matches('#');
        let channel = workspace.and_then(|workspace| self.channel_named(workspace, name));
        channel.map_or_else(|| named.to_owned(), |channel| channel.id.clone())
    }

    pub(crate) fn general_of(&self, workspace: &str) -> Option<String> {
        self.channels
            .values()
            .find(|channel| channel.general && channel.teams.iter().any(|team| team == workspace))
            .map(|channel| channel.id.clone())
    }

    /// The direct conversation of these two, made when there was none.
    pub(crate) fn direct(&mut self, workspace: &str, one: &str, other: &str, now_us: u64) -> (String, bool) {
        let pair = if one <= other { (one.to_owned(), other.to_owned()) } else { (other.to_owned(), one.to_owned()) };
        if let Some(id) = self.ims.get(&pair) {
            return (id.clone(), false);
        }
        let id = self.fresh_id('D');
        self.channels.insert(
            id.clone(),
            Channel {
                id: id.clone(),
                name: String::new(),
                kind: ChannelKind::Im,
                teams: vec![workspace.to_owned()],
                organisation_wide: false,
                archived: false,
                general: false,
                creator: one.to_owned(),
                created_s: now_us / 1_000_000,
                topic: Note::empty(),
                purpose: Note::empty(),
                previous_names: Vec::new(),
                members: BTreeSet::from([one.to_owned(), other.to_owned()]),
                messages: Vec::new(),
            },
        );
        self.ims.insert(pair, id.clone());
        (id, true)
    }

    /// Switches an account off everywhere: sessions end, channels and groups lose it. Answers what it lost.
    pub(crate) fn deactivate(&mut self, user: &str, now_s: u64) -> Value {
        let sessions = self.end_sessions(user, |_| true);
        let mut channels = Vec::new();
        for channel in self.channels.values_mut() {
            if channel.kind != ChannelKind::Im && channel.members.remove(user) {
                channels.push(channel.id.clone());
            }
        }
        let mut groups = Vec::new();
        for group in self.groups.values_mut() {
            if group.users.iter().any(|member| member == user) {
                group.users.retain(|member| member != user);
                groups.push(group.id.clone());
            }
        }
        if let Some(account) = self.users.get_mut(user) {
            account.active = false;
            account.deactivated_s = now_s;
            account.updated_s = now_s;
        }
        serde_json::json!({"active": {"before": true, "after": false}, "sessions": sessions, "channels": channels, "groups": groups})
    }

    /// Switches an account on again. In an organisation it is in no workspace then: whoever wants the person in one adds them
    /// (Slack help 360002061747).
    pub(crate) fn reactivate(&mut self, user: &str, now_s: u64) {
        if let Some(account) = self.users.get_mut(user) {
            if self.organisations.contains_key(&account.home) {
                account.memberships.values_mut().for_each(|membership| membership.present = false);
            }
            account.active = true;
            account.deactivated_s = 0;
            account.updated_s = now_s;
        }
    }

    /// Ends the sessions of a person that the filter picks and answers how many there were.
    pub(crate) fn end_sessions(&mut self, user: &str, picked: impl Fn(&Session) -> bool) -> usize {
        let before = self.sessions.len();
        self.sessions.retain(|session| session.user != user || !picked(session));
        before - self.sessions.len()
    }

    pub(crate) fn join(&mut self, channel: &str, user: &str) -> bool {
        self.channels.get_mut(channel).is_some_and(|channel| channel.members.insert(user.to_owned()))
    }

    /// Makes someone a member of a workspace, with #general. Answers what stood there before.
    pub(crate) fn enrol(&mut self, workspace: &str, user: &str, role: Role, invited: bool) -> Option<Membership> {
        let account = self.users.get_mut(user)?;
        let before =
            account.memberships.insert(workspace.to_owned(), Membership { role, present: true, invited, expires_s: 0 });
        if !role.is_guest()
            && !invited
            && let Some(general) = self.general_of(workspace)
        {
            self.join(&general, user);
        }
        before
    }

    /// Takes someone out of a workspace and out of the channels that only it sees.
    pub(crate) fn expel(&mut self, workspace: &str, user: &str) -> Vec<String> {
        let staying: BTreeSet<String> = match self.users.get_mut(user) {
            Some(account) => {
                if let Some(membership) = account.memberships.get_mut(workspace) {
                    membership.present = false;
                }
                account.workspaces().into_iter().map(str::to_owned).collect()
            }
            None => return Vec::new(),
        };
        let mut left = Vec::new();
        for channel in self.channels.values_mut() {
            if channel.kind != ChannelKind::Im
                && channel.teams.iter().any(|team| team == workspace)
                && !channel.teams.iter().any(|team| staying.contains(team))
                && channel.members.remove(user)
            {
                left.push(channel.id.clone());
            }
        }
        for group in self.groups.values_mut().filter(|group| group.home == workspace) {
            group.users.retain(|member| member != user);
        }
        left
    }

    pub(crate) fn note_audit(&mut self, action: &'static str, actor: &str, entity: Value, now_s: u64) {
        if self.audit.len() >= AUDIT_MAX {
            self.audit.drain(..AUDIT_MAX / 10);
        }
        let id = self.fresh_id('L');
        self.audit.push(AuditEntry { id, at_s: now_s, action: action.into(), actor: actor.to_owned(), entity });
    }
}
