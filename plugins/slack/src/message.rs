//! Messages.

use bellhop_plugin::{Context, Done, Failure, action, input, output, slack};
use serde_json::{Value, json};

/// Where to send what.
#[input]
#[schemars(extend(
    "oneOf" = [
        { "required": ["channel"], "properties": { "channel": { "type": "string" } } },
        { "required": ["user"], "properties": { "user": { "type": "string" } } }
    ],
    "anyOf" = [
        { "required": ["text"], "properties": { "text": { "type": "string", "minLength": 1 } } },
        { "required": ["blocks"], "properties": { "blocks": { "type": "array", "minItems": 1 } } }
    ]
))]
pub(crate) struct Send {
    /// The channel to post in. Either this or `user`.
    #[serde(default)]
    channel: Option<slack::ChannelId>,
    /// The person to write to. Either this or `channel`.
    #[serde(default)]
    user: Option<slack::UserId>,
    /// The message to answer in a thread, by its `ts`.
    #[serde(default)]
    thread: Option<String>,
    /// Whether an answer in a thread is shown in the channel too.
    #[serde(default)]
    broadcast: bool,
    /// The text, in Slack's markup; with `blocks`, what notifications show.
    #[serde(default)]
    #[schemars(length(max = 40000))]
    text: Option<String>,
    /// Blocks of Slack's Block Kit.
    #[serde(default)]
    #[schemars(length(max = 50))]
    blocks: Option<Vec<Value>>,
}

/// Where the message stands.
#[output]
pub(crate) struct Sent {
    /// The conversation's id; that of the direct conversation for a message to a person.
    channel: String,
    /// The message's id in its conversation.
    ts: String,
    /// The thread that it is in.
    thread: Option<String>,
}

/// Posts a message in a channel, to a person or in a thread.
#[action(
    name = "message.send",
    title = "Send a Slack message",
    effect = "notify",
    calls(on("workspace", "grid-workspace"), always("chat.post-message"))
)]
pub(crate) fn send(_: &Context, input: &Send) -> Result<Done<Sent>, Failure> {
    let to = match (&input.channel, &input.user) {
        (Some(channel), None) => channel.as_str(),
        (None, Some(user)) => user.as_str(),
        _ => return Err(Failure::new("invalid-arguments", "a message goes either to a `channel` or to a `user`")),
    };
    let blocks = content(input.text.as_deref(), input.blocks.as_deref())?;
    let answer = slack::chat::post_message(json!({
        "channel": to,
        "text": input.text,
        "blocks": blocks,
        "thread_ts": input.thread,
        "reply_broadcast": (input.broadcast && input.thread.is_some()).then_some(true),
    }))?;
    Ok(Done::changed(Sent {
        channel: slack::text(&answer, "/channel")?.to_owned(),
        ts: slack::text(&answer, "/ts")?.to_owned(),
        thread: input.thread.clone(),
    }))
}

/// Which message becomes what.
#[input]
#[schemars(extend(
    "anyOf" = [
        { "required": ["text"], "properties": { "text": { "type": "string", "minLength": 1 } } },
        { "required": ["blocks"], "properties": { "blocks": { "type": "array", "minItems": 1 } } }
    ]
))]
pub(crate) struct Update {
    /// The conversation that the message is in.
    channel: slack::ChannelId,
    /// The message, by its `ts`.
    ts: String,
    /// The new text.
    #[serde(default)]
    #[schemars(length(max = 40000))]
    text: Option<String>,
    /// The new blocks.
    #[serde(default)]
    #[schemars(length(max = 50))]
    blocks: Option<Vec<Value>>,
}

/// Replaces a message that the same app has sent.
#[action(
    name = "message.update",
    title = "Change a Slack message",
    effect = "update",
    error("message-not-found", 404, "There is no such message in the conversation."),
    error("message-not-ours", 403, "Only the app that has sent a message can change it."),
    calls(on("workspace", "grid-workspace"), always("chat.update"))
)]
pub(crate) fn update(_: &Context, input: &Update) -> Result<Done<Sent>, Failure> {
    let blocks = content(input.text.as_deref(), input.blocks.as_deref())?;
    let args = json!({ "channel": input.channel, "ts": input.ts, "text": input.text, "blocks": blocks });
    let answer = slack::chat::update(args).map_err(|refusal| {
        if refusal.is(&["message_not_found"]) {
            Failure::new("message-not-found", "there is no such message in the conversation")
        } else if refusal.is(&["cant_update_message"]) {
            Failure::new("message-not-ours", "only the app that has sent a message can change it")
        } else {
            refusal.into()
        }
    })?;
    Ok(Done::changed(Sent {
        channel: slack::text(&answer, "/channel")?.to_owned(),
        ts: slack::text(&answer, "/ts")?.to_owned(),
        thread: None,
    }))
}

/// The blocks, as Slack takes them in a form or in JSON; an error for a message without content.
fn content(text: Option<&str>, blocks: Option<&[Value]>) -> Result<Option<Value>, Failure> {
    let blocks = blocks.filter(|blocks| !blocks.is_empty());
    if blocks.is_none() && text.is_none_or(str::is_empty) {
        return Err(Failure::new("invalid-arguments", "a message needs `text` or `blocks`"));
    }
    Ok(blocks.map(|blocks| Value::Array(blocks.to_vec())))
}
