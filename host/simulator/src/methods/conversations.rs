//! Channels themselves: find, make, archive, rename, describe.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    call::{Call, Family, Outcome, Refusal},
    cursor,
    policy::{self, Kept},
    rules::TokenKind,
    views,
    world::{Channel, ChannelKind, Note},
};

const NAME_CHARACTERS_MAX: usize = 80;
const TOPIC_CHARACTERS_MAX: usize = 250;
const CHANNELS_MAX: usize = 100_000;

/// The kinds that `types` asks for, each with its scope.
pub(super) fn wanted_kinds(call: &Call<'_>) -> Result<Vec<ChannelKind>, Refusal> {
    let names = call.arguments.list("types").filter(|names| !names.is_empty());
    let names = names.unwrap_or_else(|| vec!["public_channel".to_owned()]);
    let mut kinds = Vec::new();
    for name in names {
        let kind = match name.as_str() {
            "public_channel" => ChannelKind::Public,
            "private_channel" => ChannelKind::Private,
            "im" => ChannelKind::Im,
            "mpim" => ChannelKind::Mpim,
            _ => return Err("invalid_types".into()),
        };
        call.need_channel_scope(kind, Family::Read)?;
        kinds.push(kind);
    }
    Ok(kinds)
}

pub(super) fn list(call: &mut Call<'_>) -> Outcome {
    let workspace = call.in_workspace()?;
    let kinds = wanted_kinds(call)?;
    // "Must be an integer under 1000" (Slack's page of `conversations.list`).
    let limit = call.limit(100, 999)?;
    let seen: Vec<&Channel> = call
        .world
        .channels
        .values()
        .filter(|channel| channel.teams.contains(&workspace) && kinds.contains(&channel.kind))
        .filter(|channel| channel.kind == ChannelKind::Public || channel.members.contains(&call.token.user))
        .collect();
    let (page, next) =
        cursor::page(seen, |channel| channel.id.clone(), call.arguments.text("cursor").as_deref(), limit)?;
    // As in Slack, archived ones are left out of the page that was cut: it may come back short before the end.
    let without_archived = call.arguments.is_set("exclude_archived");
    let channels: Vec<Value> = page
        .into_iter()
        .filter(|channel| !(without_archived && channel.archived))
        .map(|channel| with_count(call, channel))
        .collect();
    Ok(json!({"channels": channels, "response_metadata": {"next_cursor": next}}))
}

fn with_count(call: &Call<'_>, channel: &Channel) -> Value {
    let mut shown = views::channel(call, channel);
    if channel.kind != ChannelKind::Im {
        shown["num_members"] = json!(channel.members.len());
    }
    shown
}

pub(super) fn info(call: &mut Call<'_>) -> Outcome {
    let channel = call.argument_conversation(Family::Read)?;
    let mut shown = if call.arguments.is_set("include_num_members") {
        with_count(call, channel)
    } else {
        views::channel(call, channel)
    };
    if channel.members.contains(&call.token.user) {
        shown["last_read"] = json!("0000000000.000000");
    }
    Ok(json!({ "channel": shown }))
}

/// A channel's name by Slack's rules: lower case, digits, hyphens, underscores.
pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err("invalid_name_required".into());
    }
    if name.chars().count() > NAME_CHARACTERS_MAX {
        return Err("invalid_name_maxlength".into());
    }
    if name.chars().all(|letter| letter.is_ascii_punctuation()) {
        return Err("invalid_name_punctuation".into());
    }
    let fits = |letter: char| (letter.is_alphanumeric() && !letter.is_uppercase()) || matches!(letter, '-' | '_');
    if name.chars().all(fits) { Ok(()) } else { Err("invalid_name_specials".into()) }
}

pub(super) fn create(call: &mut Call<'_>) -> Outcome {
    let workspace = call.in_workspace()?;
    let name = call.arguments.text("name").unwrap_or_default().into_owned();
    check_name(&name)?;
    let private = call.arguments.is_set("is_private");
    let kind = if private { ChannelKind::Private } else { ChannelKind::Public };
    call.need_channel_scope(kind, Family::Write)?;
    if call.acting_role().is_some_and(|role| role.is_guest()) {
        return Err("restricted_action".into());
    }
    policy::allows(call, &workspace, Kept::CreateChannels)?;
    if call.world.channel_named(&workspace, &name).is_some() {
        return Err("name_taken".into());
    }
    let creator = call.token.user.clone();
    let id = make(call, &workspace, &name, kind, BTreeSet::from([creator]))?;
    let channel = call.world.channels.get(&id).ok_or("no_channel")?;
    let shown = views::channel(call, channel);
    call.changed(json!({"channel": id, "name": name, "private": private}));
    Ok(json!({ "channel": shown }))
}

pub(super) fn make(
    call: &mut Call<'_>,
    workspace: &str,
    name: &str,
    kind: ChannelKind,
    members: BTreeSet<String>,
) -> Result<String, Refusal> {
    if call.world.channels.len() >= CHANNELS_MAX {
        return Err("cannot_create_channel".into());
    }
    let id = call.world.fresh_id('C');
    let channel = Channel {
        id: id.clone(),
        name: name.to_owned(),
        kind,
        teams: vec![workspace.to_owned()],
        organisation_wide: false,
        archived: false,
        general: false,
        creator: call.token.user.clone(),
        created_s: call.now_s(),
        topic: Note::empty(),
        purpose: Note::empty(),
        previous_names: Vec::new(),
        members,
        messages: Vec::new(),
    };
    call.world.channels.insert(id.clone(), channel);
    Ok(id)
}

pub(super) fn archive(call: &mut Call<'_>) -> Outcome {
    let channel = call.argument_conversation(Family::Write)?;
    match channel.kind {
        ChannelKind::Im | ChannelKind::Mpim => return Err("method_not_supported_for_channel_type".into()),
        _ if channel.general => return Err("cant_archive_general".into()),
        _ if channel.organisation_wide => return Err("cant_archive_required".into()),
        _ if channel.archived => return Err("already_archived".into()),
        _ if !channel.members.contains(&call.token.user) => return Err("not_in_channel".into()),
        _ => {}
    }
    policy::allows(call, channel.home(), Kept::ArchiveChannels)?;
    let id = channel.id.clone();
    set_archived(call, &id, true)
}

pub(super) fn unarchive(call: &mut Call<'_>) -> Outcome {
    let channel = call.argument_conversation(Family::Write)?;
    if matches!(channel.kind, ChannelKind::Im | ChannelKind::Mpim) {
        return Err("method_not_supported_for_channel_type".into());
    }
    if !channel.archived {
        return Err("not_archived".into());
    }
    // Slack lets no bot unarchive, whatever its scopes (pablovarela/terraform-provider-slack#112).
    if call.token.kind == TokenKind::Bot {
        return Err("not_in_channel".into());
    }
    let id = channel.id.clone();
    set_archived(call, &id, false)
}

pub(super) fn set_archived(call: &mut Call<'_>, id: &str, archived: bool) -> Outcome {
    call.world.channels.get_mut(id).ok_or("channel_not_found")?.archived = archived;
    call.changed(json!({"channel": id, "archived": {"before": !archived, "after": archived}}));
    Ok(json!({}))
}

/// A channel that the actor may change: a named one, not archived, with the actor in it.
fn own_channel(call: &Call<'_>, family: Family) -> Result<String, Refusal> {
    let channel = call.argument_conversation(family)?;
    if channel.kind == ChannelKind::Im {
        return Err("method_not_supported_for_channel_type".into());
    }
    if channel.archived {
        return Err("is_archived".into());
    }
    if !channel.members.contains(&call.token.user) {
        return Err("not_in_channel".into());
    }
    Ok(channel.id.clone())
}

pub(super) fn rename(call: &mut Call<'_>) -> Outcome {
    let id = own_channel(call, Family::Write)?;
    let name = call.arguments.need("name")?.into_owned();
    check_name(&name)?;
    let channel = call.world.channels.get(&id).ok_or("channel_not_found")?;
    let home = channel.teams.first().cloned().unwrap_or_default();
    let mine = channel.creator == call.token.user;
    if !mine && !call.acting_role().is_some_and(|role| role.is_admin()) {
        return Err("not_authorized".into());
    }
    if call.world.channel_named(&home, &name).is_some_and(|other| other.id != id) {
        return Err("name_taken".into());
    }
    let channel = call.world.channels.get_mut(&id).ok_or("channel_not_found")?;
    let before = std::mem::replace(&mut channel.name, name.clone());
    if before != name {
        channel.previous_names.insert(0, before.clone());
    }
    call.changed(json!({"channel": id, "name": {"before": before, "after": name}}));
    shown(call, &id)
}

pub(super) fn set_topic(call: &mut Call<'_>) -> Outcome {
    set_note(call, "topic")
}

pub(super) fn set_purpose(call: &mut Call<'_>) -> Outcome {
    set_note(call, "purpose")
}

fn set_note(call: &mut Call<'_>, which: &'static str) -> Outcome {
    let text = call.arguments.text(which).ok_or_else(|| Refusal::missing(which))?.into_owned();
    let id = own_channel(call, Family::Topic)?;
    if text.chars().count() > TOPIC_CHARACTERS_MAX {
        return Err("too_long".into());
    }
    let note = Note { value: text.clone(), creator: call.token.user.clone(), last_set: call.now_s() };
    let channel = call.world.channels.get_mut(&id).ok_or("channel_not_found")?;
    let place = if which == "topic" { &mut channel.topic } else { &mut channel.purpose };
    let before = std::mem::replace(place, note).value;
    let effect = json!({"channel": id, which: {"before": before, "after": text}});
    call.record(before != text, effect);
    shown(call, &id)
}

fn shown(call: &Call<'_>, id: &str) -> Outcome {
    let channel = call.world.channels.get(id).ok_or("channel_not_found")?;
    Ok(json!({"channel": views::channel(call, channel)}))
}
