//! The rows. Tiers of a minute: 1 is one call, 2 twenty, 3 fifty, 4 a hundred.

use super::{Actor, Budget, Installation, Plan, Rule, TokenKind};

const T1: u32 = 1;
const T2: u32 = 20;
const T3: u32 = 50;
const T4: u32 = 100;

type Scopes = &'static [&'static str];

const NONE: Scopes = &[];
const READ_CONVERSATIONS: Scopes = &["channels:read", "groups:read", "im:read", "mpim:read"];
const READ_HISTORY: Scopes = &["channels:history", "groups:history", "im:history", "mpim:history"];
const MANAGE_BOT: Scopes = &["channels:manage", "groups:write", "im:write", "mpim:write"];
const MANAGE_BOT_WIDE: Scopes = &["channels:manage", "channels:write", "groups:write", "im:write", "mpim:write"];
const MANAGE_USER: Scopes = &["channels:write", "groups:write", "im:write", "mpim:write"];
const INVITE_BOT: Scopes =
    &["channels:manage", "channels:write.invites", "groups:write", "groups:write.invites", "im:write", "mpim:write"];
const INVITE_USER: Scopes =
    &["channels:write", "channels:write.invites", "groups:write", "groups:write.invites", "im:write", "mpim:write"];
const TOPIC_BOT: Scopes = &[
    "channels:manage",
    "channels:write.topic",
    "groups:write",
    "groups:write.topic",
    "im:write",
    "im:write.topic",
    "mpim:write",
    "mpim:write.topic",
];
const TOPIC_USER: Scopes = &[
    "channels:write",
    "channels:write.topic",
    "groups:write",
    "groups:write.topic",
    "im:write",
    "im:write.topic",
    "mpim:write",
    "mpim:write.topic",
];
const USERS: Scopes = &["users:read"];
const CHAT: Scopes = &["chat:write"];
const GROUPS_READ: Scopes = &["usergroups:read"];
const GROUPS_WRITE: Scopes = &["usergroups:write"];

const fn rule(method: &'static str, write: bool, bot: Scopes, user: Scopes, per_minute: u32) -> Rule {
    Rule {
        method,
        write,
        token_needed: true,
        tokens: &[TokenKind::Bot, TokenKind::User],
        bot_scopes: bot,
        user_scopes: user,
        plan: Plan::Free,
        plan_error: "feature_not_enabled",
        installation: Installation::Either,
        actor: Actor::Anyone,
        budget: Budget { per_minute, burst: 0 },
        needs_team_id: false,
    }
}

const fn read(method: &'static str, scopes: Scopes, per_minute: u32) -> Rule {
    rule(method, false, scopes, scopes, per_minute)
}

const fn write(method: &'static str, bot: Scopes, user: Scopes, per_minute: u32) -> Rule {
    rule(method, true, bot, user, per_minute)
}

/// A method of the organisation's admins: a user token of one of them, from an installation on the organisation.
const fn admin(method: &'static str, write: bool, scopes: Scopes, per_minute: u32) -> Rule {
    Rule {
        tokens: &[TokenKind::User],
        plan: Plan::Enterprise,
        installation: Installation::Organisation,
        actor: Actor::OrganisationAdmin,
        ..rule(method, write, NONE, scopes, per_minute)
    }
}

const fn scim(method: &'static str, write: bool, per_minute: u32, burst: u32) -> Rule {
    Rule {
        tokens: &[TokenKind::User],
        plan: Plan::BusinessPlus,
        installation: Installation::Top,
        actor: Actor::Admin,
        budget: Budget { per_minute, burst },
        ..rule(method, write, NONE, &["admin"], per_minute)
    }
}

impl Rule {
    const fn with_team_id(self) -> Self {
        Self { needs_team_id: true, ..self }
    }

    const fn paid(self, error: &'static str) -> Self {
        Self { plan: Plan::Pro, plan_error: error, ..self }
    }

    const fn refused_as(self, error: &'static str) -> Self {
        Self { plan_error: error, ..self }
    }

    const fn users_only(self) -> Self {
        Self { tokens: &[TokenKind::User], bot_scopes: NONE, ..self }
    }

    const fn of_organisation(self) -> Self {
        Self { plan: Plan::Enterprise, installation: Installation::Organisation, ..self }
    }

    const fn by_admin(self) -> Self {
        Self { actor: Actor::Admin, ..self }
    }
}

/// The Web API.
pub const WEB: &[Rule] = &[
    Rule { token_needed: false, ..read("api.test", NONE, T4) },
    read("auth.test", NONE, 600),
    read("auth.teams.list", NONE, T2).of_organisation(),
    read("team.info", &["team:read"], T3),
    read("team.billing.info", &["team.billing:read"], T3),
    read("team.accessLogs", &["admin"], T2).users_only().paid("paid_only").by_admin().with_team_id(),
    // The minute is the whole workspace's; a channel has its own bucket of about one a second.
    write("chat.postMessage", CHAT, CHAT, 300),
    write("chat.update", CHAT, CHAT, T3),
    write("chat.delete", CHAT, CHAT, T3),
    write("chat.scheduleMessage", CHAT, CHAT, T3),
    write("chat.deleteScheduledMessage", CHAT, CHAT, T3),
    read("chat.scheduledMessages.list", NONE, T3).with_team_id(),
    read("conversations.list", READ_CONVERSATIONS, T2).with_team_id(),
    read("conversations.info", READ_CONVERSATIONS, T3),
    write("conversations.create", MANAGE_BOT_WIDE, MANAGE_USER, T2).with_team_id(),
    write("conversations.archive", MANAGE_BOT_WIDE, MANAGE_USER, T2),
    write("conversations.unarchive", MANAGE_BOT_WIDE, MANAGE_USER, T2),
    write("conversations.invite", INVITE_BOT, INVITE_USER, T3),
    write("conversations.kick", &["channels:manage", "groups:write"], &["channels:write", "groups:write"], T3),
    write("conversations.join", &["channels:join"], &["channels:write"], T3),
    write("conversations.leave", MANAGE_BOT_WIDE, MANAGE_USER, T3),
    read("conversations.members", READ_CONVERSATIONS, T4),
    read("conversations.history", READ_HISTORY, T3),
    read("conversations.replies", READ_HISTORY, T3),
    write("conversations.open", MANAGE_BOT, MANAGE_USER, T3),
    write("conversations.rename", MANAGE_BOT_WIDE, MANAGE_USER, T2),
    write("conversations.setTopic", TOPIC_BOT, TOPIC_USER, T2),
    write("conversations.setPurpose", TOPIC_BOT, TOPIC_USER, T2),
    read("users.list", USERS, T2).with_team_id(),
    read("users.info", USERS, T4),
    read("users.lookupByEmail", &["users:read.email"], T3),
    read("users.profile.get", &["users.profile:read"], T4),
    write("users.profile.set", NONE, &["users.profile:write"], T3).users_only(),
    read("users.conversations", READ_CONVERSATIONS, T3).with_team_id(),
    read("usergroups.list", GROUPS_READ, T2).paid("plan_upgrade_required").with_team_id(),
    write("usergroups.create", GROUPS_WRITE, GROUPS_WRITE, T2).paid("paid_teams_only").with_team_id(),
    write("usergroups.update", GROUPS_WRITE, GROUPS_WRITE, T2).paid("paid_teams_only").with_team_id(),
    write("usergroups.disable", GROUPS_WRITE, GROUPS_WRITE, T2).paid("plan_upgrade_required").with_team_id(),
    write("usergroups.enable", GROUPS_WRITE, GROUPS_WRITE, T2).paid("plan_upgrade_required").with_team_id(),
    read("usergroups.users.list", GROUPS_READ, T2).paid("plan_upgrade_required").with_team_id(),
    write("usergroups.users.update", GROUPS_WRITE, GROUPS_WRITE, T2).paid("plan_upgrade_required").with_team_id(),
    read("bots.info", USERS, T3).with_team_id(),
    write("reactions.add", &["reactions:write"], &["reactions:write"], T3),
    write("reactions.remove", &["reactions:write"], &["reactions:write"], T2),
    admin("admin.users.list", false, &["admin.users:read"], T4),
    admin("admin.users.assign", true, &["admin.users:write"], T2).with_team_id(),
    admin("admin.users.remove", true, &["admin.users:write"], T2).with_team_id(),
    admin("admin.users.invite", true, &["admin.users:write"], T2).with_team_id(),
    admin("admin.users.setAdmin", true, &["admin.users:write"], T2).with_team_id(),
    admin("admin.users.setOwner", true, &["admin.users:write"], T2).with_team_id(),
    admin("admin.users.setExpiration", true, &["admin.users:write"], T2),
    admin("admin.users.setRegular", true, &["admin.users:write"], T2).with_team_id(),
    // No tier is published for this one; twenty is what the official Java client assumes of such.
    admin("admin.users.deactivate", true, &["admin.users:write"], T2),
    admin("admin.users.session.reset", true, &["admin.users:write"], T2),
    admin("admin.users.session.list", false, &["admin.users:read"], T2),
    admin("admin.users.session.invalidate", true, &["admin.users:write"], T2),
    admin("admin.teams.list", false, &["admin.teams:read"], T3),
    admin("admin.conversations.create", true, &["admin.conversations:write"], T2),
    admin("admin.conversations.archive", true, &["admin.conversations:write"], T2),
    admin("admin.conversations.invite", true, &["admin.conversations:write"], T2),
    admin("admin.conversations.search", false, &["admin.conversations:read"], T2).refused_as("not_an_enterprise"),
    admin("admin.usergroups.addTeams", true, &["admin.teams:write"], T2),
    admin("admin.usergroups.listChannels", false, &["admin.usergroups:read"], T2).refused_as("not_an_enterprise"),
    admin("admin.usergroups.addChannels", true, &["admin.usergroups:write"], T1).refused_as("not_an_enterprise"),
    admin("admin.roles.addAssignments", true, &["admin.roles:write"], T2),
    admin("admin.roles.listAssignments", false, &["admin.roles:read"], T3),
    admin("admin.roles.removeAssignments", true, &["admin.roles:write"], T2),
];

/// SCIM, both versions. All of an organisation's calls share one more budget: a thousand reads, six hundred writes.
pub const SCIM: &[Rule] = &[
    scim("scim.v1.get.ServiceProviderConfigs", false, 1000, 1000),
    scim("scim.v1.get.Users", false, 1000, 1000),
    scim("scim.v1.get.Users.id", false, 300, 300),
    scim("scim.v1.post.Users", true, 180, 20),
    scim("scim.v1.put.Users.id", true, 180, 20),
    scim("scim.v1.patch.Users.id", true, 180, 20),
    scim("scim.v1.delete.Users.id", true, 180, 20),
    scim("scim.v1.get.Groups", false, 1000, 1000),
    scim("scim.v1.get.Groups.id", false, 300, 300),
    scim("scim.v1.post.Groups", true, 180, 20),
    scim("scim.v1.put.Groups.id", true, 180, 20),
    scim("scim.v1.patch.Groups.id", true, 180, 20),
    scim("scim.v1.delete.Groups.id", true, 180, 20),
    scim("scim.v2.get.ServiceProviderConfig", false, 1000, 1000),
    scim("scim.v2.get.Users", false, 1000, 1000),
    scim("scim.v2.get.Users.id", false, 300, 300),
    scim("scim.v2.post.Users", true, 180, 20),
    scim("scim.v2.put.Users.id", true, 180, 20),
    scim("scim.v2.patch.Users.id", true, 180, 20),
    scim("scim.v2.delete.Users.id", true, 180, 20),
    scim("scim.v2.get.Groups", false, 1000, 1000),
    scim("scim.v2.get.Groups.id", false, 300, 300),
    scim("scim.v2.post.Groups", true, 180, 20),
    scim("scim.v2.put.Groups.id", true, 180, 20),
    scim("scim.v2.patch.Groups.id", true, 180, 20),
    scim("scim.v2.delete.Groups.id", true, 180, 20),
];

/// The audit log of an organisation.
pub const AUDIT: &[Rule] =
    &[Rule { actor: Actor::OrganisationOwner, ..admin("audit.v1.logs", false, &["auditlogs:read"], T3) }];
