//! Who is in a channel.

use bellhop_plugin::{Context, Done, Failure, action, input, output, slack};
use serde_json::{Value, json};

use crate::channel::archived;

/// Who comes into which channel, or leaves it.
#[input]
pub(crate) struct Membership {
    /// The channel.
    channel: slack::ChannelId,
    /// The person.
    user: slack::UserId,
}

/// A person and a channel.
#[output]
pub(crate) struct InChannel {
    /// The channel's id.
    channel: String,
    /// The person's id.
    user: String,
}

/// Adds a person to a channel that the app is in.
#[action(
    name = "channel.invite",
    title = "Add a person to a channel",
    effect = "update",
    inverse = "channel.remove-user",
    error("channel-archived", 409, "The channel is archived."),
    calls(on("workspace", "grid-workspace"), always("conversations.invite"))
)]
pub(crate) fn invite(_: &Context, input: &Membership) -> Result<Done<InChannel>, Failure> {
    let done = || InChannel { channel: input.channel.to_string(), user: input.user.to_string() };
    match slack::conversations::invite(json!({ "channel": input.channel, "users": input.user })) {
        Ok(_) => {
            let undo = json!({ "channel": input.channel, "user": input.user });
            Ok(Done::changed(done()).undo("channel.remove-user", undo))
        }
        // Who invites is in it: the app itself is no error.
        Err(refusal) if refusal.is(&["already_in_channel", "cant_invite_self"]) => Ok(Done::unchanged(done())),
        Err(refusal) => Err(archived(refusal)),
    }
}

/// Removes a person from a channel that the app is in.
#[action(
    name = "channel.remove-user",
    title = "Remove a person from a channel",
    effect = "delete",
    inverse = "channel.invite",
    error("channel-mandatory", 409, "Nobody can be removed from the workspace's general channel."),
    calls(
        on("workspace", "grid-workspace"),
        always("conversations.kick"),
        maybe("conversations.info", "conversations.leave")
    )
)]
pub(crate) fn remove_user(_: &Context, input: &Membership) -> Result<Done<InChannel>, Failure> {
    let done = || InChannel { channel: input.channel.to_string(), user: input.user.to_string() };
    match slack::conversations::kick(json!({ "channel": input.channel, "user": input.user })) {
        Ok(_) => {
            let undo = json!({ "channel": input.channel, "user": input.user });
            Ok(Done::changed(done()).undo("channel.invite", undo))
        }
        // Slack says the same of a person who is not there and of an app that is not: only the former is done.
        Err(refusal) if refusal.is(&["not_in_channel"]) => {
            let answer = slack::conversations::info(json!({ "channel": input.channel }))?;
            if answer["channel"]["is_member"].as_bool() == Some(true) {
                return Ok(Done::unchanged(done()));
            }
            let message = "the app is not in the channel, so it can remove nobody from it: invite it";
            Err(Failure::new("not-in-channel", message).slack(refusal.slack))
        }
        // The app takes itself out otherwise. Nothing brings it back but an invitation of somebody who is in it.
        Err(refusal) if refusal.is(&["cant_kick_self"]) => {
            slack::conversations::leave(json!({ "channel": input.channel }))?;
            Ok(Done::changed(done()))
        }
        Err(refusal) if refusal.is(&["cant_kick_from_general"]) => {
            let message = "nobody can be removed from the workspace's general channel";
            Err(Failure::new("channel-mandatory", message).slack(refusal.slack))
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// Which channel's members.
#[input]
pub(crate) struct ListMembers {
    /// The channel.
    channel: slack::ChannelId,
}

/// A channel's members.
#[output]
pub(crate) struct ChannelMembers {
    /// The channel's id.
    channel: String,
    /// The members' ids.
    users: Vec<String>,
}

/// Lists who is in a channel, apps included.
#[action(
    name = "channel.list-members",
    title = "List a channel's members",
    effect = "read",
    calls(on("workspace", "grid-workspace"), always("conversations.members"))
)]
pub(crate) fn list_members(_: &Context, input: &ListMembers) -> Result<Done<ChannelMembers>, Failure> {
    let list = json!({ "channel": input.channel, "limit": 1000 });
    let mut pages = slack::Pages::new(list, |args| slack::conversations::members(args));
    let mut users = Vec::new();
    while let Some(page) = pages.next()? {
        users.extend(slack::list(&page, "/members").iter().filter_map(Value::as_str).map(str::to_owned));
    }
    Ok(Done::unchanged(ChannelMembers { channel: input.channel.to_string(), users }))
}
