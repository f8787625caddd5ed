//! The Web API methods that are played, and the table from names to them.

mod admin_conversations;
mod admin_roles;
mod admin_usergroups;
mod admin_users;
mod chat;
mod conversations;
mod history;
mod membership;
pub(crate) mod scheduled;
mod team;
mod usergroups;
mod users;

use std::{collections::HashMap, sync::LazyLock};

use crate::{
    call::{Call, Outcome},
    rules::Rule,
};

pub(crate) type Handler = fn(&mut Call<'_>) -> Outcome;

const HANDLERS: &[(&str, Handler)] = &[
    ("api.test", team::api_test),
    ("auth.test", team::auth_test),
    ("auth.teams.list", team::auth_teams_list),
    ("team.info", team::info),
    ("team.billing.info", team::billing_info),
    ("team.accessLogs", team::access_logs),
    ("bots.info", team::bots_info),
    ("chat.postMessage", chat::post_message),
    ("chat.update", chat::update),
    ("chat.delete", chat::delete),
    ("chat.scheduleMessage", scheduled::schedule),
    ("chat.deleteScheduledMessage", scheduled::delete),
    ("chat.scheduledMessages.list", scheduled::list),
    ("reactions.add", chat::reactions_add),
    ("reactions.remove", chat::reactions_remove),
    ("conversations.list", conversations::list),
    ("conversations.info", conversations::info),
    ("conversations.create", conversations::create),
    ("conversations.archive", conversations::archive),
    ("conversations.unarchive", conversations::unarchive),
    ("conversations.rename", conversations::rename),
    ("conversations.setTopic", conversations::set_topic),
    ("conversations.setPurpose", conversations::set_purpose),
    ("conversations.open", membership::open),
    ("conversations.invite", membership::invite),
    ("conversations.kick", membership::kick),
    ("conversations.join", membership::join),
    ("conversations.leave", membership::leave),
    ("conversations.members", membership::members),
    ("users.conversations", membership::of_user),
    ("conversations.history", history::history),
    ("conversations.replies", history::replies),
    ("users.list", users::list),
    ("users.info", users::info),
    ("users.lookupByEmail", users::lookup_by_email),
    ("users.profile.get", users::profile_get),
    ("users.profile.set", users::profile_set),
    ("usergroups.list", usergroups::list),
    ("usergroups.create", usergroups::create),
    ("usergroups.update", usergroups::update),
    ("usergroups.disable", usergroups::disable),
    ("usergroups.enable", usergroups::enable),
    ("usergroups.users.list", usergroups::users_list),
    ("usergroups.users.update", usergroups::users_update),
    ("admin.users.list", admin_users::list),
    ("admin.users.assign", admin_users::assign),
    ("admin.users.remove", admin_users::remove),
    ("admin.users.invite", admin_users::invite),
    ("admin.users.setExpiration", admin_users::set_expiration),
    ("admin.users.setAdmin", admin_users::set_admin),
    ("admin.users.setOwner", admin_users::set_owner),
    ("admin.users.setRegular", admin_users::set_regular),
    ("admin.users.deactivate", admin_users::deactivate),
    ("admin.users.session.reset", admin_users::session_reset),
    ("admin.users.session.list", admin_users::session_list),
    ("admin.users.session.invalidate", admin_users::session_invalidate),
    ("admin.teams.list", admin_conversations::teams_list),
    ("admin.conversations.create", admin_conversations::create),
    ("admin.conversations.archive", admin_conversations::archive),
    ("admin.conversations.invite", admin_conversations::invite),
    ("admin.conversations.search", admin_conversations::search),
    ("admin.usergroups.addTeams", admin_usergroups::add_teams),
    ("admin.usergroups.listChannels", admin_usergroups::list_channels),
    ("admin.usergroups.addChannels", admin_usergroups::add_channels),
    ("admin.roles.addAssignments", admin_roles::add),
    ("admin.roles.listAssignments", admin_roles::list),
    ("admin.roles.removeAssignments", admin_roles::remove),
];

/// The rule and the code of a method, if it is played.
pub(crate) fn find(method: &str) -> Option<(&'static Rule, Handler)> {
    static BY_NAME: LazyLock<HashMap<&'static str, (&'static Rule, Handler)>> = LazyLock::new(|| {
        HANDLERS.iter().filter_map(|(name, handler)| Rule::of(name).map(|rule| (*name, (rule, *handler)))).collect()
    });
    BY_NAME.get(method).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules;

    #[test]
    fn every_rule_has_code_and_every_code_a_rule() {
        let mut named: Vec<&str> = HANDLERS.iter().map(|(name, _)| *name).collect();
        let mut ruled: Vec<&str> = rules::WEB.iter().map(|rule| rule.method).collect();
        named.sort_unstable();
        ruled.sort_unstable();
        assert_eq!(named, ruled);
    }
}
