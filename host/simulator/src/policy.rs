//! What a workspace's administrators have kept for themselves. A bot is no administrator, whatever its scopes.

use serde::{Deserialize, Serialize};

use crate::{
    call::{Call, Refusal},
    world::Role,
};

/// What Slack lets administrators keep for themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kept {
    /// To make, change, disable and enable user groups, and to say who is in them.
    Usergroups,
    /// To make channels.
    CreateChannels,
    /// To archive channels.
    ArchiveChannels,
    /// To take people out of channels.
    RemoveFromChannels,
}

impl Kept {
    /// How Slack refuses it to everybody else.
    fn error(self) -> &'static str {
        match self {
            // "The user does not have permission to update the list of users for a User Group" (Slack's page of
            // `usergroups.users.update`; grafana-cold-storage/oncall#4728).
            Self::Usergroups => "permission_denied",
            // "A team preference prevents the authenticated user from creating channels", "… archiving", "… kicking"
            // (Slack's pages of `conversations.create`, `conversations.archive` and `conversations.kick`;
            // slackapi/node-slack-sdk#1564 for a bot that has every scope).
            Self::CreateChannels | Self::ArchiveChannels | Self::RemoveFromChannels => "restricted_action",
        }
    }
}

/// Whether the actor may do it in `workspace`.
pub(crate) fn allows(call: &Call<'_>, workspace: &str, what: Kept) -> Result<(), Refusal> {
    let is_kept = call.world.kept.get(workspace).is_some_and(|kept| kept.contains(&what));
    let account = call.world.users.get(&call.token.user).filter(|account| account.bot.is_none());
    let role = account.and_then(|account| account.role_in(workspace).or(account.organisation_role));
    if is_kept && !role.is_some_and(Role::is_admin) { Err(what.error().into()) } else { Ok(()) }
}
