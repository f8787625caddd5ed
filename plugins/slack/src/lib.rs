//! The actions that carry people in and out of Slack.
//!
//! Each says in its attribute what it calls on which kind of connection; the host refuses every other call. An answer
//! "already done" is a success with `alreadyDone: true` and `changed: false`, and nothing of it will be undone.

#![cfg_attr(not(target_arch = "wasm32"), forbid(unsafe_code))]
#![cfg_attr(target_arch = "wasm32", deny(unsafe_code))]

mod channel;
mod channel_members;
mod channel_name;
mod escaped;
mod guest;
mod lookup;
mod members;
mod memberships;
mod mentions;
mod message;
mod person;
mod profile;
mod provisioning;
mod same_person;
mod scheduled;
mod user_name;
mod usergroup;
mod workspace;

bellhop_plugin::plugin! {
    publisher: "bellhop",
    name: "slack",
    actions: [
        message::send,
        message::update,
        message::delete,
        message::react,
        scheduled::schedule,
        scheduled::unschedule,
        lookup::lookup,
        lookup::get,
        provisioning::provision,
        workspace::invite,
        provisioning::deactivate,
        provisioning::reactivate,
        provisioning::suspend,
        profile::set_profile,
        workspace::set_role,
        guest::set_guest_expiry,
        workspace::add_user,
        workspace::remove_user,
        members::add_user,
        members::remove_user,
        members::set_users,
        members::change_users,
        usergroup::create,
        usergroup::disable,
        usergroup::enable,
        usergroup::list,
        memberships::list_memberships,
        channel::create,
        channel::find,
        channel::archive,
        channel::set_topic,
        channel::rename,
        channel_members::invite,
        channel_members::remove_user,
        channel_members::list_members,
    ],
}
