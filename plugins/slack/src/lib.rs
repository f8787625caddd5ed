//! The actions that carry people in and out of Slack.
//!
//! Each says in its attribute what it calls on which kind of connection; the host refuses every other call. An answer
//! "already done" is a success with `alreadyDone: true` and `changed: false`, and nothing of it will be undone.

#![cfg_attr(not(target_arch = "wasm32"), forbid(unsafe_code))]
#![cfg_attr(target_arch = "wasm32", deny(unsafe_code))]

mod channel;
mod lookup;
mod message;
mod person;
mod profile;
mod provisioning;
mod usergroup;
mod workspace;

bellhop_plugin::plugin! {
    publisher: "bellhop",
    name: "slack",
    actions: [
        message::send,
        message::update,
        lookup::lookup,
        lookup::get,
        provisioning::provision,
        workspace::invite,
        provisioning::deactivate,
        provisioning::reactivate,
        provisioning::suspend,
        profile::set_profile,
        workspace::set_role,
        workspace::add_user,
        workspace::remove_user,
        usergroup::add_user,
        usergroup::remove_user,
        usergroup::list,
        channel::create,
        channel::find,
        channel::invite,
        channel::remove_user,
        channel::archive,
    ],
}
