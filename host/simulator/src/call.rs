//! One call while it is being judged and carried out.

use std::{borrow::Cow, sync::Arc};

use serde_json::{Map, Value, json};

use crate::{
    arguments::Arguments,
    rules::{Plan, TokenKind},
    world::{Account, Channel, ChannelKind, Installed, Role, Token, World},
};

/// An `ok: false` answer.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: Cow<'static, str>,
    pub(crate) extra: Map<String, Value>,
    /// Seconds to wait, which make the answer a 429.
    pub(crate) retry_after_s: Option<u64>,
}

impl Refusal {
    pub(crate) fn new(error: impl Into<Cow<'static, str>>) -> Self {
        Self { error: error.into(), extra: Map::new(), retry_after_s: None }
    }

    pub(crate) fn with(mut self, name: &str, value: Value) -> Self {
        self.extra.insert(name.to_owned(), value);
        self
    }

    pub(crate) fn missing(argument: &str) -> Self {
        Self::invalid(&format!("[ERROR] missing required field: {argument}"))
    }

    pub(crate) fn invalid(message: &str) -> Self {
        Self::new("invalid_arguments").with("response_metadata", json!({ "messages": [message] }))
    }

    pub(crate) fn scope(needed: &[&str], token: &Token) -> Self {
        Self::new("missing_scope")
            .with("needed", Value::String(needed.join(",")))
            .with("provided", Value::String(token.scope_line.clone()))
    }
}

impl From<&'static str> for Refusal {
    fn from(error: &'static str) -> Self {
        Self::new(error)
    }
}

pub(crate) type Outcome = Result<Value, Refusal>;

/// What an accepted write did, for the ledger.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) changed: bool,
    pub(crate) effect: Value,
}

pub(crate) struct Call<'a> {
    pub(crate) world: &'a mut World,
    pub(crate) token: Arc<Token>,
    pub(crate) arguments: &'a Arguments,
    pub(crate) now_us: u64,
    /// The workspace that the call is about: the token's, or the `team_id` of a token of an organisation.
    pub(crate) workspace: Option<String>,
    pub(crate) change: Option<Change>,
    pub(crate) warnings: Vec<&'static str>,
}

impl Call<'_> {
    pub(crate) fn now_s(&self) -> u64 {
        self.now_us / 1_000_000
    }

    /// Writes down what an accepted call did, or that it found everything as asked for.
    pub(crate) fn record(&mut self, changed: bool, effect: Value) {
        self.change = Some(Change { changed, effect });
    }

    /// Writes down what an accepted call did.
    pub(crate) fn changed(&mut self, effect: Value) {
        self.record(true, effect);
    }

    /// Writes down that an accepted call found everything as asked for.
    pub(crate) fn unchanged(&mut self, effect: Value) {
        self.record(false, effect);
    }

    /// The workspace, where the method cannot do without.
    pub(crate) fn in_workspace(&self) -> Result<String, Refusal> {
        self.workspace.clone().ok_or_else(|| Refusal::new("missing_argument"))
    }

    pub(crate) fn home(&self) -> String {
        self.world.home_of(self.token.place())
    }

    pub(crate) fn of_organisation(&self) -> bool {
        matches!(self.token.installed, Installed::Organisation { .. })
    }

    /// Whether the token reaches this workspace.
    pub(crate) fn reaches(&self, workspace: &str) -> bool {
        match &self.token.installed {
            Installed::Workspace(id) => id == workspace,
            Installed::Organisation { granted, .. } => granted.contains(workspace),
        }
    }

    /// The acting account's role: the organisation's for its tokens, else the workspace's.
    pub(crate) fn acting_role(&self) -> Option<Role> {
        let account = self.world.users.get(&self.token.user)?;
        match &self.token.installed {
            Installed::Workspace(id) => account.role_in(id),
            Installed::Organisation { .. } => account.organisation_role,
        }
    }

    /// A person whom the token can see, deactivated ones included.
    pub(crate) fn visible(&self, user: &str) -> Option<&Account> {
        let account = self.world.users.get(user)?;
        if user == "USLACKBOT" {
            return Some(account);
        }
        match &self.token.installed {
            Installed::Organisation { id, .. } => (account.home == *id).then_some(account),
            Installed::Workspace(id) => account.memberships.contains_key(id).then_some(account),
        }
    }

    /// A conversation that the token can see: its workspaces are reached, and a private one has the actor in it.
    pub(crate) fn conversation(&self, id: &str) -> Result<&Channel, Refusal> {
        let channel = self.world.channels.get(id).ok_or("channel_not_found")?;
        if !channel.teams.iter().any(|team| self.reaches(team)) {
            let foreign = self.of_organisation()
                && channel.teams.iter().any(|team| self.world.home_of(team) == self.token.place());
            return Err(Refusal::new(if foreign { "team_access_not_granted" } else { "channel_not_found" }));
        }
        if channel.kind != ChannelKind::Public && !channel.members.contains(&self.token.user) {
            return Err("channel_not_found".into());
        }
        Ok(channel)
    }

    /// The conversation named by the `channel` argument, with the scope that its kind asks for.
    pub(crate) fn argument_conversation(&self, family: Family) -> Result<&Channel, Refusal> {
        let id = self.arguments.need("channel")?;
        let channel = self.conversation(&id)?;
        self.need_channel_scope(channel.kind, family)?;
        Ok(channel)
    }

    /// The rule's list of scopes is any-of; which of them counts depends on the kind of conversation.
    pub(crate) fn need_channel_scope(&self, kind: ChannelKind, family: Family) -> Result<(), Refusal> {
        let word = match kind {
            ChannelKind::Public => "channels",
            ChannelKind::Private => "groups",
            ChannelKind::Im => "im",
            ChannelKind::Mpim => "mpim",
        };
        let bot = self.token.kind == TokenKind::Bot;
        let write = format!("{word}:write");
        let mut fits: Vec<String> = match family {
            Family::Read => vec![format!("{word}:read")],
            Family::History => vec![format!("{word}:history")],
            Family::Write => vec![write],
            Family::Invite => vec![write, format!("{word}:write.invites")],
            Family::Topic => vec![write, format!("{word}:write.topic")],
        };
        // For a bot the right to write to public channels is called otherwise.
        if kind == ChannelKind::Public && bot && !matches!(family, Family::Read | Family::History) {
            fits.insert(0, "channels:manage".to_owned());
        }
        let fits: Vec<&str> = fits.iter().map(String::as_str).collect();
        if self.token.has_any(&fits) { Ok(()) } else { Err(Refusal::scope(&fits, &self.token)) }
    }

    /// The plan that counts: the organisation's, or that of the workspace.
    pub(crate) fn plan(&self) -> Plan {
        self.world.plan_of(self.token.place())
    }

    /// `limit`, within what the method allows.
    pub(crate) fn limit(&self, default: usize, max: usize) -> Result<usize, Refusal> {
        match self.arguments.number("limit") {
            Ok(None | Some(0)) => Ok(default),
            Ok(Some(limit)) => {
                usize::try_from(limit).ok().filter(|limit| *limit <= max).ok_or_else(|| Refusal::new("invalid_limit"))
            }
            Err(()) => Err("invalid_limit".into()),
        }
    }

    pub(crate) fn audit(&mut self, action: &'static str, entity: Value) {
        if self.world.home_of(self.token.place()) == self.token.place()
            && !self.world.is_organisation(self.token.place())
        {
            return;
        }
        let (actor, now_s) = (self.token.user.clone(), self.now_s());
        self.world.note_audit(action, &actor, entity, now_s);
    }
}

/// Which of the conversation scopes a method is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Read,
    History,
    Write,
    Invite,
    Topic,
}
