//! Channels.

use bellhop_plugin::{Context, Done, Failure, action, input, output, slack};
use serde_json::{Value, json};

use crate::channel_name::{checked, fit, plain};

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
        let is_it = |channel: &&Value| channel["name"] == name || channel["name_normalized"] == name;
        if let Some(channel) = slack::list(&page, "/channels").iter().find(is_it) {
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
    /// It is what was asked for; one that is archived is taken up again.
    #[default]
    Use,
    /// It is an error.
    Fail,
}

/// Which channel to make.
#[input]
pub(crate) struct Create {
    /// The name, with or without `#`: letters, which become lower case, digits, `-` and `_`.
    #[schemars(length(min = 1, max = 255))]
    name: String,
    /// Whether a name that Slack does not take is made one that it does. It is then an error that another channel has it.
    #[serde(default)]
    fit: bool,
    /// Whether only its members see it.
    #[serde(default)]
    private: bool,
    /// What to do when there is a channel of that name and kind already.
    #[serde(default)]
    if_exists: IfExists,
}

/// The channel.
#[output]
pub(crate) struct Created {
    /// The channel.
    channel: Channel,
}

/// Makes a channel. One that is archived and has the name is taken up again.
#[action(
    name = "channel.create",
    title = "Create a channel",
    effect = "create",
    inverse = "channel.archive",
    error("channel-name-taken", 409, "Another channel has the name, one that is not visible to the app included."),
    error("channel-archived", 409, "An archived channel has the name, and this connection cannot take it up again."),
    error("channel-name-invalid", 400, "Slack does not take the name."),
    calls(
        on("workspace", "grid-workspace"),
        always("conversations.create"),
        maybe("conversations.list", "conversations.unarchive")
    )
)]
pub(crate) fn create(context: &Context, input: &Create) -> Result<Done<Created>, Failure> {
    let name = checked(&input.name, input.fit)?;
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
        // Another name than the one that was asked for is not known to mean that channel.
        if input.if_exists == IfExists::Fail || plain(&input.name) != name {
            return Err(taken());
        }
    }
    match search(&name, input.private, true, after)? {
        Search::Found(channel) if channel.private == input.private && channel.archived => take_up_again(channel),
        Search::Found(channel) if channel.private == input.private => Ok(Done::unchanged(Created { channel })),
        Search::Found(_) | Search::Nothing => Err(taken()),
        Search::Unfinished(cursor) => Done::again(cursor),
    }
}

fn take_up_again(mut channel: Channel) -> Result<Done<Created>, Failure> {
    match slack::conversations::unarchive(json!({ "channel": channel.id })) {
        Ok(_) => {
            channel.archived = false;
            let undo = json!({ "channel": channel.id });
            Ok(Done::changed(Created { channel }).undo("channel.archive", undo))
        }
        Err(refusal) if refusal.is(&["not_archived"]) => {
            channel.archived = false;
            Ok(Done::unchanged(Created { channel }))
        }
        // Slack lets no bot unarchive, and says it so.
        Err(refusal) if refusal.is(&["not_in_channel"]) || refusal.code == "token-kind-missing" => {
            let name = channel.name.as_deref().unwrap_or_default();
            let message = format!(
                "the channel `#{name}` ({}) is archived, and Slack lets no bot unarchive one: connect with a person's \
                 token, or unarchive it in Slack",
                channel.id
            );
            let details = json!({ "channel": channel.id, "name": channel.name });
            Err(Failure::new("channel-archived", message).details(details).slack(refusal.slack))
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// Which channel to find.
#[input]
pub(crate) struct Find {
    /// The name, with or without `#`.
    #[schemars(length(min = 1, max = 255))]
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
    match search(&fit(&input.name), input.include_private, input.include_archived, context.state())? {
        Search::Found(channel) => Ok(Done::unchanged(FoundChannel { found: true, channel: Some(channel) })),
        Search::Nothing => Ok(Done::unchanged(FoundChannel { found: false, channel: None })),
        Search::Unfinished(cursor) => Done::again(cursor),
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

/// What a channel is about from now on.
#[input]
pub(crate) struct SetTopic {
    /// The channel.
    channel: slack::ChannelId,
    /// The topic; nothing takes it away.
    #[schemars(length(max = 250))]
    topic: String,
}

/// The topic.
#[output]
pub(crate) struct TopicSet {
    /// The channel's id.
    channel: String,
    /// The topic before.
    before: String,
}

fn info(channel: &slack::ChannelId) -> Result<Value, slack::Error> {
    Ok(slack::conversations::info(json!({ "channel": channel }))?["channel"].clone())
}

/// Sets the topic of a channel that the app is in.
#[action(
    name = "channel.set-topic",
    title = "Set a channel's topic",
    effect = "update",
    inverse = "channel.set-topic",
    error("channel-archived", 409, "The channel is archived."),
    calls(on("workspace", "grid-workspace"), always("conversations.info"), maybe("conversations.set-topic"))
)]
pub(crate) fn set_topic(_: &Context, input: &SetTopic) -> Result<Done<TopicSet>, Failure> {
    let channel = info(&input.channel)?;
    let before = channel["topic"]["value"].as_str().unwrap_or_default().to_owned();
    let done = TopicSet { channel: input.channel.to_string(), before: before.clone() };
    if before == input.topic {
        return Ok(Done::unchanged(done));
    }
    let wanted = json!({ "channel": input.channel, "topic": input.topic });
    slack::conversations::set_topic(wanted).map_err(archived)?;
    let undo = json!({ "channel": input.channel, "topic": before });
    Ok(Done::changed(done).undo("channel.set-topic", undo))
}

/// What a channel is called from now on.
#[input]
pub(crate) struct Rename {
    /// The channel.
    channel: slack::ChannelId,
    /// The name, with or without `#`.
    #[schemars(length(min = 1, max = 255))]
    name: String,
    /// Whether a name that Slack does not take is made one that it does.
    #[serde(default)]
    fit: bool,
}

/// The name.
#[output]
pub(crate) struct Renamed {
    /// The channel's id.
    channel: String,
    /// The name now.
    name: String,
    /// The name before.
    before: String,
}

/// Renames a channel. Slack lets a bot rename those that it has made; others take a person's token.
#[action(
    name = "channel.rename",
    title = "Rename a channel",
    effect = "update",
    inverse = "channel.rename",
    error("channel-name-taken", 409, "Another channel has the name."),
    error("channel-name-invalid", 400, "Slack does not take the name."),
    error("channel-archived", 409, "The channel is archived."),
    calls(on("workspace", "grid-workspace"), always("conversations.info"), maybe("conversations.rename"))
)]
pub(crate) fn rename(_: &Context, input: &Rename) -> Result<Done<Renamed>, Failure> {
    let name = checked(&input.name, input.fit)?;
    let channel = info(&input.channel)?;
    let before = channel["name"].as_str().unwrap_or_default().to_owned();
    let done = Renamed { channel: input.channel.to_string(), name: name.clone(), before: before.clone() };
    if before == name {
        return Ok(Done::unchanged(done));
    }
    match slack::conversations::rename(json!({ "channel": input.channel, "name": name })) {
        Ok(_) => {
            let undo = json!({ "channel": input.channel, "name": before });
            Ok(Done::changed(done).undo("channel.rename", undo))
        }
        Err(refusal) if refusal.is(&["name_taken"]) => {
            Err(Failure::new("channel-name-taken", format!("there is a channel `#{name}` already")))
        }
        Err(refusal) => Err(archived(refusal)),
    }
}

/// A refusal of what an archived channel does not take.
pub(crate) fn archived(refusal: slack::Error) -> Failure {
    if refusal.is(&["is_archived"]) {
        Failure::new("channel-archived", "the channel is archived").slack(refusal.slack)
    } else {
        refusal.into()
    }
}
