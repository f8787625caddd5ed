//! Messages and reactions.

use serde_json::{Value, json};

use crate::{
    blocks,
    call::{Call, Outcome, Refusal},
    rules::TokenKind,
    views,
    world::{ChannelKind, Message, Reaction},
};

/// `chat.postMessage` cuts there (Slack's page), and posts what is longer than about 4,000 in several messages.
pub(super) const TEXT_CHARACTERS_MAX: usize = 40_000;
/// `chat.update` takes no more (`msg_too_long`; seratch/ChatGPT-in-Slack#102).
const CHANGED_CHARACTERS_MAX: usize = 4_000;
const ATTACHMENTS_MAX: usize = 100;
const METADATA_BYTES_MAX: usize = 16_384;
const REACTIONS_MAX: usize = 23;

#[derive(Debug)]
pub(super) struct Content {
    pub(super) text: String,
    pub(super) blocks: Option<Value>,
    pub(super) attachments: Option<Value>,
    pub(super) metadata: Option<Value>,
}

pub(super) fn content(call: &Call<'_>, characters_max: usize) -> Result<Content, Refusal> {
    let arguments = call.arguments;
    let markdown = arguments.text("markdown_text").filter(|text| !text.is_empty());
    let mut blocks = arguments.nested("blocks").map_err(|()| "invalid_blocks_format")?;
    let attachments = arguments.nested("attachments").map_err(|()| "invalid_attachments")?;
    let plain = arguments.text("text").filter(|text| !text.is_empty());
    if markdown.is_some() && (plain.is_some() || blocks.is_some()) {
        return Err("markdown_text_conflict".into());
    }
    match &mut blocks {
        Some(Value::Array(items)) => {
            let mut made = 0;
            blocks::taken(items, || {
                made += 1;
                format!("b{made:04}")
            })?;
        }
        None => {}
        Some(_) => return Err("invalid_blocks_format".into()),
    }
    match &attachments {
        Some(Value::Array(items)) if items.len() > ATTACHMENTS_MAX => return Err("too_many_attachments".into()),
        None | Some(Value::Array(_)) => {}
        Some(_) => return Err("invalid_attachments".into()),
    }
    let is_empty = |list: &Option<Value>| list.as_ref().and_then(Value::as_array).is_none_or(Vec::is_empty);
    let text = plain.or(markdown);
    if text.is_none() && is_empty(&blocks) && is_empty(&attachments) {
        return Err("no_text".into());
    }
    if text.as_ref().is_some_and(|text| text.chars().count() > characters_max) {
        return Err("msg_too_long".into());
    }
    Ok(Content { text: text.unwrap_or_default().into_owned(), blocks, attachments, metadata: metadata(call)? })
}

fn metadata(call: &Call<'_>) -> Result<Option<Value>, Refusal> {
    let Some(metadata) = call.arguments.nested("metadata").map_err(|()| "invalid_metadata_format")? else {
        return Ok(None);
    };
    let sound =
        metadata["event_type"].as_str().is_some_and(|kind| !kind.is_empty()) && metadata["event_payload"].is_object();
    if !metadata.is_object() {
        return Err("invalid_metadata_format".into());
    }
    if !sound {
        return Err("invalid_metadata_schema".into());
    }
    if metadata.to_string().len() > METADATA_BYTES_MAX {
        return Err("metadata_too_large".into());
    }
    Ok(Some(metadata))
}

/// The conversation that `channel` names: an id, a `#name`, or a person, who gets a direct message.
pub(super) fn target(call: &mut Call<'_>) -> Result<String, Refusal> {
    let named = call.arguments.need("channel")?.into_owned();
    if named.starts_with(['U', 'W']) && call.world.users.contains_key(&named) {
        let person = call.visible(&named).ok_or("channel_not_found")?;
        if !person.active || (person.bot.is_some() && call.token.kind == TokenKind::Bot) {
            return Err(Refusal::new(if person.active { "cannot_dm_bot" } else { "channel_not_found" }));
        }
        let shared = person.workspaces().first().map(|workspace| (*workspace).to_owned());
        let workspace = call.workspace.clone().or(shared).ok_or("channel_not_found")?;
        let (from, now_us) = (call.token.user.clone(), call.now_us);
        return Ok(call.world.direct(&workspace, &from, &named, now_us).0);
    }
    if call.world.channels.contains_key(&named) {
        return Ok(named);
    }
    let name = named.strip_prefix('#').unwrap_or(&named);
    let workspace = call.workspace.as_deref().ok_or("channel_not_found")?;
    Ok(call.world.channel_named(workspace, name).ok_or("channel_not_found")?.id.clone())
}

/// The conversation, if the actor may write there.
pub(super) fn writable(call: &Call<'_>, id: &str) -> Result<ChannelKind, Refusal> {
    let channel = call.conversation(id)?;
    if channel.archived {
        return Err("is_archived".into());
    }
    if !channel.members.contains(&call.token.user) && !call.token.has("chat:write.public") {
        return Err("not_in_channel".into());
    }
    Ok(channel.kind)
}

/// The workspace that a message of this call belongs to.
pub(super) fn team_of(call: &Call<'_>, channel: &str) -> String {
    let first = || call.world.channels.get(channel).and_then(|channel| channel.teams.first().cloned());
    call.workspace.clone().or_else(first).unwrap_or_default()
}

pub(super) fn post_message(call: &mut Call<'_>) -> Outcome {
    let id = target(call)?;
    writable(call, &id)?;
    let content = content(call, TEXT_CHARACTERS_MAX)?;
    let thread_ts = call.arguments.text("thread_ts").filter(|ts| !ts.is_empty()).map(std::borrow::Cow::into_owned);
    let broadcast = call.arguments.is_set("reply_broadcast");
    if let Some(parent) = &thread_ts {
        let known = call.conversation(&id)?.message(parent).is_some();
        if !known {
            return Err("thread_not_found".into());
        }
    }
    if call.conversation(&id)?.full() {
        return Err("message_limit_exceeded".into());
    }
    if content.text.is_empty() {
        call.warnings.push("missing_text_in_message");
    }
    let ts = call.world.fresh_ts(call.now_us);
    let message = Message {
        ts: ts.clone(),
        user: call.token.user.clone(),
        team: team_of(call, &id),
        text: content.text,
        bot: call.token.bot.clone(),
        blocks: content.blocks,
        attachments: content.attachments,
        metadata: content.metadata,
        thread_ts,
        broadcast,
        edited: None,
        reactions: Vec::new(),
    };
    let shown = views::message(call.world, &message, true);
    if let Some(channel) = call.world.channels.get_mut(&id) {
        channel.messages.push(message);
    }
    call.changed(json!({"channel": id, "ts": ts}));
    Ok(json!({"channel": id, "ts": ts, "message": shown}))
}

/// Where a message of the actor's own stands.
fn own_message(call: &Call<'_>, missing: &'static str) -> Result<(String, usize), Refusal> {
    let id = call.arguments.need("channel")?.into_owned();
    let ts = call.arguments.need("ts")?;
    let channel = call.conversation(&id)?;
    let index = channel.message(&ts).ok_or("message_not_found")?;
    if channel.messages[index].user != call.token.user {
        return Err(missing.into());
    }
    Ok((id, index))
}

pub(super) fn update(call: &mut Call<'_>) -> Outcome {
    let (id, index) = own_message(call, "cant_update_message")?;
    let content = content(call, CHANGED_CHARACTERS_MAX)?;
    let edited = (call.token.user.clone(), call.world.fresh_ts(call.now_us));
    let message = call
        .world
        .channels
        .get_mut(&id)
        .and_then(|channel| channel.messages.get_mut(index))
        .ok_or("message_not_found")?;
    let before = std::mem::replace(&mut message.text, content.text);
    message.edited = Some(edited);
    // Blocks that are left out stay, and an empty list takes them away.
    if let Some(blocks) = content.blocks {
        message.blocks = Some(blocks).filter(|blocks| blocks.as_array().is_none_or(|list| !list.is_empty()));
    }
    if content.attachments.is_some() {
        message.attachments = content.attachments;
    }
    if content.metadata.is_some() {
        message.metadata = content.metadata;
    }
    let message = message.clone();
    call.changed(json!({"channel": id, "ts": message.ts, "text": {"before": before, "after": message.text}}));
    let mut shown = views::message(call.world, &message, true);
    shown.remove("ts");
    Ok(json!({"channel": id, "ts": message.ts, "text": message.text, "message": shown}))
}

pub(super) fn delete(call: &mut Call<'_>) -> Outcome {
    let (id, index) = own_message(call, "cant_delete_message")?;
    let channel = call.world.channels.get_mut(&id).ok_or("channel_not_found")?;
    let message = channel.messages.remove(index);
    call.changed(json!({"channel": id, "ts": message.ts, "text": {"before": message.text, "after": null}}));
    Ok(json!({"channel": id, "ts": message.ts}))
}

/// Whether there is such an emoji; one of people may say its skin tone. An organisation's own are not played.
fn is_emoji(name: &str) -> bool {
    let name = name.split("::skin-tone-").next().unwrap_or(name);
    emojis::get_by_shortcode(name).is_some()
}

pub(super) fn reactions_add(call: &mut Call<'_>) -> Outcome {
    let id = call.arguments.need("channel")?.into_owned();
    let ts = call.arguments.text("timestamp").filter(|ts| !ts.is_empty()).ok_or("no_item_specified")?.into_owned();
    let name = call.arguments.need("name")?.trim_matches(':').to_owned();
    if !is_emoji(&name) {
        return Err("invalid_name".into());
    }
    if !ts.contains('.') {
        return Err("bad_timestamp".into());
    }
    let channel = call.conversation(&id)?;
    if channel.archived {
        return Err("is_archived".into());
    }
    let index = channel.message(&ts).ok_or("message_not_found")?;
    let user = call.token.user.clone();
    let reactions = &mut call
        .world
        .channels
        .get_mut(&id)
        .and_then(|channel| channel.messages.get_mut(index))
        .ok_or("message_not_found")?
        .reactions;
    let kinds = reactions.len();
    match reactions.iter_mut().find(|reaction| reaction.name == name) {
        Some(reaction) if reaction.users.contains(&user) => return Err("already_reacted".into()),
        Some(reaction) => reaction.users.push(user),
        None if kinds >= REACTIONS_MAX => return Err("too_many_reactions".into()),
        None => reactions.push(Reaction { name: name.clone(), users: vec![user] }),
    }
    call.changed(json!({"channel": id, "ts": ts, "reaction": name}));
    Ok(json!({}))
}

pub(super) fn reactions_remove(call: &mut Call<'_>) -> Outcome {
    let id = call.arguments.need("channel")?.into_owned();
    let ts = call.arguments.text("timestamp").filter(|ts| !ts.is_empty()).ok_or("no_item_specified")?.into_owned();
    let name = call.arguments.need("name")?.trim_matches(':').to_owned();
    let index = call.conversation(&id)?.message(&ts).ok_or("message_not_found")?;
    let user = call.token.user.clone();
    let reactions = &mut call
        .world
        .channels
        .get_mut(&id)
        .and_then(|channel| channel.messages.get_mut(index))
        .ok_or("message_not_found")?
        .reactions;
    let reaction = reactions.iter_mut().find(|reaction| reaction.name == name && reaction.users.contains(&user));
    reaction.ok_or("no_reaction")?.users.retain(|one| *one != user);
    reactions.retain(|reaction| !reaction.users.is_empty());
    call.changed(json!({"channel": id, "ts": ts, "reaction": {"before": name, "after": null}}));
    Ok(json!({}))
}
