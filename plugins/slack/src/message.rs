//! Messages.
//!
//! Slack posts a text of more than about 4,000 characters in several messages, of which it tells one, and refuses to change
//! one into such a text (`msg_too_long`): so no text here is longer.

use bellhop_plugin::{Context, Done, Failure, action, input, output, slack};
use serde_json::{Value, json};

use crate::mentions;

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
    /// The text, in Slack's markup; with `blocks`, what notifications show. `<@grace@acme.example>` mentions a person by the
    /// e-mail, `<@it-help>` a user group by its handle.
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

/// Where the message stands.
#[output]
pub(crate) struct Sent {
    /// The conversation's id; that of the direct conversation for a message to a person.
    channel: String,
    /// The message's id in its conversation.
    ts: String,
    /// The thread that it is in.
    thread: Option<String>,
    /// What Slack remarks, as `message_truncated`.
    warnings: Vec<String>,
}

impl Sent {
    fn of(answer: &Value, thread: Option<String>) -> Result<Self, slack::Error> {
        let warnings = slack::list(answer, "/response_metadata/warnings").iter().filter_map(Value::as_str);
        Ok(Self {
            channel: slack::text(answer, "/channel")?.to_owned(),
            ts: slack::text(answer, "/ts")?.to_owned(),
            thread,
            warnings: warnings.filter(|warning| !OF_THE_FORM.contains(warning)).map(str::to_owned).collect(),
        })
    }
}

/// Remarks on how a request was written, which is the host's affair.
const OF_THE_FORM: [&str; 3] = ["missing_charset", "superfluous_charset", "missing_text_in_message"];

/// Posts a message in a channel, to a person or in a thread.
#[action(
    name = "message.send",
    title = "Send a Slack message",
    effect = "notify",
    error("mention-unknown", 404, "The text mentions a person or a user group that there is not."),
    calls(
        on("workspace", "grid-workspace"),
        always("chat.post-message"),
        maybe("users.lookup-by-email", "usergroups.list")
    )
)]
pub(crate) fn send(_: &Context, input: &Send) -> Result<Done<Sent>, Failure> {
    let to = match (&input.channel, &input.user) {
        (Some(channel), None) => channel.as_str(),
        (None, Some(user)) => user.as_str(),
        _ => return Err(Failure::new("invalid-arguments", "a message goes either to a `channel` or to a `user`")),
    };
    let (text, blocks) = mentions::resolved(input.text.as_deref(), input.blocks.as_deref())?;
    let blocks = content(text.as_deref(), blocks.as_deref())?.filter(|blocks| *blocks != json!([]));
    let answer = slack::chat::post_message(json!({
        "channel": to,
        "text": text,
        "blocks": blocks,
        "thread_ts": input.thread,
        "reply_broadcast": (input.broadcast && input.thread.is_some()).then_some(true),
        "unfurl_links": input.unfurl,
        "unfurl_media": input.unfurl,
    }))?;
    Ok(Done::changed(Sent::of(&answer, input.thread.clone())?))
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
    /// The new text, with mentions as in `message.send`.
    #[serde(default)]
    #[schemars(length(max = 4000))]
    text: Option<String>,
    /// The new blocks. An empty list takes them away; those that are there stay where it is left out.
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
    error("mention-unknown", 404, "The text mentions a person or a user group that there is not."),
    calls(on("workspace", "grid-workspace"), always("chat.update"), maybe("users.lookup-by-email", "usergroups.list"))
)]
pub(crate) fn update(_: &Context, input: &Update) -> Result<Done<Sent>, Failure> {
    let (text, blocks) = mentions::resolved(input.text.as_deref(), input.blocks.as_deref())?;
    let blocks = content(text.as_deref(), blocks.as_deref())?;
    let args = json!({ "channel": input.channel, "ts": input.ts, "text": text, "blocks": blocks });
    let answer = slack::chat::update(args).map_err(|refusal| {
        if refusal.is(&["message_not_found"]) {
            Failure::new("message-not-found", "there is no such message in the conversation")
        } else if refusal.is(&["cant_update_message"]) {
            Failure::new("message-not-ours", "only the app that has sent a message can change it")
        } else {
            refusal.into()
        }
    })?;
    Ok(Done::changed(Sent::of(&answer, None)?))
}

/// Which message.
#[input]
pub(crate) struct Which {
    /// The conversation that the message is in.
    channel: slack::ChannelId,
    /// The message, by its `ts`.
    ts: String,
}

/// A message.
#[output]
pub(crate) struct Message {
    /// The conversation's id.
    channel: String,
    /// The message's id in its conversation.
    ts: String,
}

/// Deletes a message that the same app has sent. Nothing brings it back.
#[action(
    name = "message.delete",
    title = "Delete a Slack message",
    effect = "delete",
    error("message-not-ours", 403, "Only the app that has sent a message can delete it."),
    calls(on("workspace", "grid-workspace"), always("chat.delete"))
)]
pub(crate) fn delete(_: &Context, input: &Which) -> Result<Done<Message>, Failure> {
    let done = Message { channel: input.channel.to_string(), ts: input.ts.clone() };
    match slack::chat::delete(json!({ "channel": input.channel, "ts": input.ts })) {
        Ok(_) => Ok(Done::changed(done)),
        Err(refusal) if refusal.is(&["message_not_found"]) => Ok(Done::unchanged(done)),
        Err(refusal) if refusal.is(&["cant_delete_message"]) => {
            let message = "only the app that has sent a message can delete it";
            Err(Failure::new("message-not-ours", message).slack(refusal.slack))
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// Which emoji goes to which message.
#[input]
pub(crate) struct React {
    /// The conversation that the message is in.
    channel: slack::ChannelId,
    /// The message, by its `ts`.
    ts: String,
    /// The emoji, with or without colons, as `white_check_mark`.
    #[schemars(length(min = 1, max = 102))]
    emoji: String,
    /// Whether the app's reaction is taken away instead.
    #[serde(default)]
    remove: bool,
}

/// Reacts to a message with an emoji, as the app.
#[action(
    name = "message.react",
    title = "React to a Slack message",
    effect = "update",
    inverse = "message.react",
    error("message-not-found", 404, "There is no such message in the conversation."),
    calls(on("workspace", "grid-workspace"), maybe("reactions.add", "reactions.remove"))
)]
pub(crate) fn react(_: &Context, input: &React) -> Result<Done<Message>, Failure> {
    let done = Message { channel: input.channel.to_string(), ts: input.ts.clone() };
    let name = input.emoji.trim().trim_matches(':');
    let arguments = json!({ "channel": input.channel, "timestamp": input.ts, "name": name });
    let answer = if input.remove { slack::reactions::remove(arguments) } else { slack::reactions::add(arguments) };
    match answer {
        Ok(_) => {
            let undo = json!({
                "channel": input.channel, "ts": input.ts, "emoji": name, "remove": !input.remove,
            });
            Ok(Done::changed(done).undo("message.react", undo))
        }
        Err(refusal) if refusal.is(&["already_reacted", "no_reaction"]) => Ok(Done::unchanged(done)),
        Err(refusal) if refusal.is(&["message_not_found"]) => {
            let message = "there is no such message in the conversation";
            Err(Failure::new("message-not-found", message).slack(refusal.slack))
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// The blocks, as Slack takes them in a form or in JSON; an error for a message without content.
pub(crate) fn content(text: Option<&str>, blocks: Option<&[Value]>) -> Result<Option<Value>, Failure> {
    if blocks.is_none_or(<[Value]>::is_empty) && text.is_none_or(str::is_empty) {
        return Err(Failure::new("invalid-arguments", "a message needs `text` or `blocks`"));
    }
    Ok(blocks.map(|blocks| Value::Array(blocks.to_vec())))
}
