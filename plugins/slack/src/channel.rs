//! Channels.

use bellhop_plugin::{Context, Done, Failure, action, input, output, slack};
use serde_json::{Value, json};

/// A channel.
#[output]
pub(crate) struct Channel {
    /// The id.
    id: String,
    /// The name, without `#`.
    name: Option<String>,
    /// Whether only its members see it.
    private: bool,
    /// Whether it is archived.
    archived: bool,
}

impl Channel {
    fn of(channel: &Value) -> Result<Self, slack::Error> {
        Ok(Self {
            id: slack::text(channel, "/id")?.to_owned(),
            name: channel["name"].as_str().map(str::to_owned),
            private: channel["is_private"].as_bool().unwrap_or_default(),
            archived: channel["is_archived"].as_bool().unwrap_or_default(),
        })
    }
}

/// Slack's names have no `#`, people's do.
fn plain(name: &str) -> String {
    name.trim().trim_start_matches('#').to_lowercase()
}

enum Search {
    Found(Channel),
    Nothing,
    /// There is more than one slice may read.
    Unfinished(Option<String>),
}

fn search(name: &str, private: bool, archived: bool, after: Option<String>) -> Result<Search, slack::Error> {
    let types = if private { "public_channel,private_channel" } else { "public_channel" };
    let list = json!({ "types": types, "exclude_archived": !archived, "limit": 200 });
    let mut pages = slack::Pages::new(list, |args| slack::conversations::list(args)).after(after);
    while let Some(page) = pages.next()? {
        if let Some(channel) = slack::list(&page, "/channels").iter().find(|channel| channel["name"] == name) {
            return Channel::of(channel).map(Search::Found);
        }
        if pages.should_pause() {
            return Ok(Search::Unfinished(pages.cursor().map(str::to_owned)));
        }
    }
    Ok(Search::Nothing)
}

/// What to do about a channel that is there already.
#[input]
#[derive(Copy, Eq, Default)]
pub(crate) enum IfExists {
    /// It is what was asked for.
    #[default]
    Use,
    /// It is an error.
    Fail,
}

/// Which channel to make.
#[input]
pub(crate) struct Create {
    /// The name, with or without `#`: lower case, digits, `-` and `_`.
    #[schemars(length(min = 1, max = 81))]
    name: String,
    /// Whether only its members see it.
    #[serde(default)]
    private: bool,
    /// What to do when there is an open channel of that name and kind already.
    #[serde(default)]
    if_exists: IfExists,
}

/// The channel.
#[output]
pub(crate) struct Created {
    /// The channel.
    channel: Channel,
}

/// Makes a channel.
#[action(
    name = "channel.create",
    title = "Create a channel",
    effect = "create",
    inverse = "channel.archive",
    error(
        "channel-name-taken",
        409,
        "Another channel has the name, one that is archived or not visible to the app included."
    ),
    calls(on("workspace", "grid-workspace"), always("conversations.create"), maybe("conversations.list"))
)]
pub(crate) fn create(context: &Context, input: &Create) -> Result<Done<Created>, Failure> {
    let name = plain(&input.name);
    let taken = || Failure::new("channel-name-taken", format!("there is a channel `#{name}` already"));
    let after: Option<String> = context.state();
    if after.is_none() {
        match slack::conversations::create(json!({ "name": name, "is_private": input.private })) {
            Ok(answer) => {
                let channel = Channel::of(&answer["channel"])?;
                let undo = json!({ "channel": channel.id });
                return Ok(Done::changed(Created { channel }).undo("channel.archive", undo));
            }
            Err(refusal) if refusal.is(&["name_taken"]) => {}
            Err(refusal) => return Err(refusal.into()),
        }
        if input.if_exists == IfExists::Fail {
            return Err(taken());
        }
    }
    match search(&name, input.private, false, after)? {
        Search::Found(channel) if channel.private == input.private => Ok(Done::unchanged(Created { channel })),
        Search::Found(_) | Search::Nothing => Err(taken()),
        Search::Unfinished(cursor) => Done::again(cursor),
    }
}

/// Which channel to find.
#[input]
pub(crate) struct Find {
    /// The name, with or without `#`.
    #[schemars(length(min = 1, max = 81))]
    name: String,
    /// Whether private channels that the app is in are found too.
    #[serde(default)]
    include_private: bool,
    /// Whether archived channels are found too.
    #[serde(default)]
    include_archived: bool,
}

/// Which channel there is.
#[output]
pub(crate) struct FoundChannel {
    /// Whether there is one.
    found: bool,
    /// The channel; null when there is none.
    channel: Option<Channel>,
}

/// Finds a channel by its name. That there is none is an answer, not an error.
#[action(
    name = "channel.find",
    title = "Find a channel by name",
    effect = "read",
    calls(on("workspace", "grid-workspace"), always("conversations.list"))
)]
pub(crate) fn find(context: &Context, input: &Find) -> Result<Done<FoundChannel>, Failure> {
    match search(&plain(&input.name), input.include_private, input.include_archived, context.state())? {
        Search::Found(channel) => Ok(Done::unchanged(FoundChannel { found: true, channel: Some(channel) })),
        Search::Nothing => Ok(Done::unchanged(FoundChannel { found: false, channel: None })),
        Search::Unfinished(cursor) => Done::again(cursor),
    }
}

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

fn archived(refusal: slack::Error) -> Failure {
    if refusal.is(&["is_archived"]) {
        Failure::new("channel-archived", "the channel is archived").slack(refusal.slack)
    } else {
        refusal.into()
    }
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
        Err(refusal) if refusal.is(&["already_in_channel"]) => Ok(Done::unchanged(done())),
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
    calls(on("workspace", "grid-workspace"), always("conversations.kick"), maybe("conversations.info"))
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
        Err(refusal) if refusal.is(&["cant_kick_from_general"]) => {
            let message = "nobody can be removed from the workspace's general channel";
            Err(Failure::new("channel-mandatory", message).slack(refusal.slack))
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// Which channel to archive.
#[input]
pub(crate) struct Archive {
    /// The channel.
    channel: slack::ChannelId,
}

/// The archived channel.
#[output]
pub(crate) struct Archived {
    /// The channel's id.
    channel: String,
}

/// Archives a channel: nobody can write in it any more, everything in it stays.
#[action(
    name = "channel.archive",
    title = "Archive a channel",
    effect = "delete",
    error("channel-mandatory", 409, "The workspace needs the channel; it cannot be archived."),
    calls(on("workspace", "grid-workspace"), always("conversations.archive"))
)]
pub(crate) fn archive(_: &Context, input: &Archive) -> Result<Done<Archived>, Failure> {
    let done = || Archived { channel: input.channel.to_string() };
    match slack::conversations::archive(json!({ "channel": input.channel })) {
        Ok(_) => Ok(Done::changed(done())),
        Err(refusal) if refusal.is(&["already_archived"]) => Ok(Done::unchanged(done())),
        Err(refusal) if refusal.is(&["cant_archive_general", "cant_archive_required"]) => {
            let message = "the workspace needs the channel; it cannot be archived";
            Err(Failure::new("channel-mandatory", message).slack(refusal.slack))
        }
        Err(refusal) => Err(refusal.into()),
    }
}
