//! Messages for later.
//!
//! Slack's list of messages that wait tells no key of ours. So the list is read before one is made: what was there already
//! is another's, and the host holds the channel's key meanwhile.

use bellhop_plugin::{Context, Done, Failure, action, input, output, slack};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::mentions;
use crate::message::content;

/// What to post where, and when.
#[input]
#[schemars(extend(
    "anyOf" = [
        { "required": ["text"], "properties": { "text": { "type": "string", "minLength": 1 } } },
        { "required": ["blocks"], "properties": { "blocks": { "type": "array", "minItems": 1 } } }
    ]
))]
pub(crate) struct Schedule {
    /// The channel to post in.
    channel: slack::ChannelId,
    /// When, as `2027-01-04T08:00:00Z` or with an offset: at least a moment and at most 120 days from now. Slack counts in
    /// whole seconds.
    #[schemars(extend("format" = "date-time"))]
    at: String,
    /// The text, in Slack's markup, with mentions as in `message.send`; with `blocks`, what notifications show.
    #[serde(default)]
    #[schemars(length(max = 4000))]
    text: Option<String>,
    /// Blocks of Slack's Block Kit.
    #[serde(default)]
    #[schemars(length(max = 50))]
    blocks: Option<Vec<Value>>,
    /// Whether links and media are shown with what is behind them; Slack's own rule where it is left out.
    #[serde(default)]
    unfurl: Option<bool>,
}

/// A message that waits.
#[output]
pub(crate) struct Waits {
    /// The conversation's id.
    channel: String,
    /// What it is taken back by; none where it was posted already, as the host found out later.
    scheduled_message: Option<String>,
    /// When it is posted, in seconds since 1970.
    post_at: i64,
}

/// Leaves a message with Slack, which posts it when its time has come, as the app. Undoing it takes it back as long as it was
/// not posted.
#[action(
    name = "message.schedule",
    title = "Schedule a Slack message",
    effect = "notify",
    inverse = "message.unschedule",
    exclusive("scheduled-messages", "/channel"),
    error("schedule-time-refused", 400, "Slack does not take a message for that time."),
    error("mention-unknown", 404, "The text mentions a person or a user group that there is not."),
    calls(
        on("workspace", "grid-workspace"),
        always("chat-scheduled-messages.list", "chat.schedule-message"),
        maybe("users.lookup-by-email", "usergroups.list")
    )
)]
pub(crate) fn schedule(_: &Context, input: &Schedule) -> Result<Done<Waits>, Failure> {
    let at: Timestamp = input.at.parse().map_err(|_| {
        let message =
            format!("`at` is `{}`: an instant has a date, a time and an offset, as 2027-01-04T08:00:00Z", input.at);
        Failure::new("invalid-arguments", message)
    })?;
    let post_at = at.as_second();
    let (text, blocks) = mentions::resolved(input.text.as_deref(), input.blocks.as_deref())?;
    let blocks = content(text.as_deref(), blocks.as_deref())?.filter(|blocks| *blocks != json!([]));
    slack::chat_scheduled_messages::list(json!({
        "channel": input.channel, "oldest": post_at - 1, "latest": post_at + 1, "limit": 100,
    }))?;
    let answer = slack::chat::schedule_message(json!({
        "channel": input.channel,
        "post_at": post_at,
        "text": text,
        "blocks": blocks,
        "unfurl_links": input.unfurl,
        "unfurl_media": input.unfurl,
    }))
    .map_err(|refusal| {
        if let Some(why) = refused_for(&refusal) {
            Failure::new("schedule-time-refused", format!("{why}: `at` is {}", input.at)).slack(refusal.slack)
        } else {
            refusal.into()
        }
    })?;
    let channel = slack::text(&answer, "/channel")?.to_owned();
    let id = answer["scheduled_message_id"].as_str().map(str::to_owned);
    let undo = id.as_ref().map(|id| json!({ "channel": channel, "scheduledMessage": id }));
    let done = Done::changed(Waits { channel, scheduled_message: id, post_at });
    Ok(match undo {
        Some(undo) => done.undo("message.unschedule", undo),
        None => done,
    })
}

/// What is wrong with the time, where that is why Slack refuses.
fn refused_for(refusal: &slack::Error) -> Option<&'static str> {
    let fits = |error: &str| refusal.is(&[error]);
    if fits("time_in_past") {
        Some("that time is over")
    } else if fits("time_too_far") {
        Some("Slack takes a message at most 120 days before its time")
    } else if fits("restricted_too_many") {
        Some("Slack takes no more than 30 messages for the same five minutes of a channel")
    } else if fits("invalid_time") {
        Some("Slack cannot read that time")
    } else {
        None
    }
}

/// Which message.
#[input]
pub(crate) struct Unschedule {
    /// The channel that it was to be posted in.
    channel: slack::ChannelId,
    /// What `message.schedule` has answered.
    #[schemars(length(min = 1))]
    scheduled_message: String,
}

/// A message that waits no more.
#[output]
pub(crate) struct Unscheduled {
    /// The conversation's id.
    channel: String,
    /// What it was taken back by.
    scheduled_message: String,
}

/// Takes back a message that Slack has not posted yet. One that was posted, or that is posted within a minute, stays: there
/// is nothing to take back then, and `message.delete` removes what was posted.
#[action(
    name = "message.unschedule",
    title = "Take back a scheduled Slack message",
    effect = "delete",
    exclusive("scheduled-messages", "/channel"),
    calls(on("workspace", "grid-workspace"), always("chat.delete-scheduled-message"))
)]
pub(crate) fn unschedule(_: &Context, input: &Unschedule) -> Result<Done<Unscheduled>, Failure> {
    let done = Unscheduled { channel: input.channel.to_string(), scheduled_message: input.scheduled_message.clone() };
    let arguments = json!({ "channel": input.channel, "scheduled_message_id": input.scheduled_message });
    match slack::chat::delete_scheduled_message(arguments) {
        Ok(_) => Ok(Done::changed(done)),
        Err(refusal) if refusal.is(&["invalid_scheduled_message_id"]) => Ok(Done::unchanged(done)),
        Err(refusal) => Err(refusal.into()),
    }
}
