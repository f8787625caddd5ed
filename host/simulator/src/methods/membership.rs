//! Who is in which conversation.

use serde_json::{Value, json};

use crate::{
    call::{Call, Family, Outcome, Refusal},
    cursor,
    methods::conversations::wanted_kinds,
    policy::{self, Kept},
    views,
    world::{Channel, ChannelKind},
};

const INVITED_MAX: usize = 100;
const OPENED_MAX: usize = 8;

fn named_channel(channel: &Channel) -> Result<(), Refusal> {
    match channel.kind {
        ChannelKind::Public | ChannelKind::Private => Ok(()),
        ChannelKind::Im | ChannelKind::Mpim => Err("method_not_supported_for_channel_type".into()),
    }
}

/// Why one person cannot be invited, if so.
fn obstacle(call: &Call<'_>, channel: &Channel, user: &str) -> Option<&'static str> {
    if user == call.token.user {
        return Some("cant_invite_self");
    }
    let Some(account) = call.world.users.get(user) else { return Some("user_not_found") };
    let home = channel.teams.first().map(|team| call.world.home_of(team));
    if home.as_deref() != Some(account.home.as_str()) {
        return Some("user_not_found");
    }
    if !account.active {
        return Some("cant_invite");
    }
    if channel.members.contains(user) {
        return Some("already_in_channel");
    }
    let role = channel.teams.iter().find_map(|team| account.role_in(team));
    match role {
        None if call.world.is_organisation(&account.home) => Some("org_user_not_in_team"),
        None => Some("user_not_found"),
        Some(crate::world::Role::SingleChannelGuest) => {
            let elsewhere =
                call.world.channels.values().any(|other| other.kind != ChannelKind::Im && other.members.contains(user));
            elsewhere.then_some("ura_max_channels")
        }
        Some(_) => None,
    }
}

pub(super) fn invite(call: &mut Call<'_>) -> Outcome {
    let users = call.arguments.list("users").filter(|users| !users.is_empty()).ok_or("no_user")?;
    if users.len() > INVITED_MAX {
        return Err("too_many_users".into());
    }
    let channel = call.argument_conversation(Family::Invite)?;
    named_channel(channel)?;
    if channel.archived {
        return Err("is_archived".into());
    }
    if !channel.members.contains(&call.token.user) {
        return Err("not_in_channel".into());
    }
    if call.acting_role().is_some_and(|role| role.is_guest()) {
        return Err("user_is_restricted".into());
    }
    let mut errors = Vec::new();
    let mut welcome = Vec::new();
    for user in users {
        match obstacle(call, channel, &user) {
            Some(error) => errors.push((user, error)),
            None => welcome.push(user),
        }
    }
    let id = channel.id.clone();
    let told: Vec<Value> =
        errors.iter().map(|(user, error)| json!({"user": user, "ok": false, "error": error})).collect();
    if let Some((_, first)) = errors.first()
        && (!call.arguments.is_set("force") || welcome.is_empty())
    {
        return Err(Refusal::new(*first).with("errors", json!(told)));
    }
    for user in &welcome {
        call.world.join(&id, user);
    }
    call.changed(json!({"channel": id, "joined": welcome}));
    let channel = call.world.channels.get(&id).ok_or("channel_not_found")?;
    let mut answer = json!({"channel": views::channel(call, channel)});
    if !told.is_empty() {
        answer["errors"] = json!(told);
    }
    Ok(answer)
}

pub(super) fn kick(call: &mut Call<'_>) -> Outcome {
    let user = call.arguments.need("user")?.into_owned();
    let channel = call.argument_conversation(Family::Write)?;
    named_channel(channel)?;
    if channel.general {
        return Err("cant_kick_from_general".into());
    }
    if user == call.token.user {
        return Err("cant_kick_self".into());
    }
    if !channel.members.contains(&call.token.user) {
        return Err("not_in_channel".into());
    }
    if call.visible(&user).is_none() {
        return Err("user_not_found".into());
    }
    if !channel.members.contains(&user) {
        return Err("not_in_channel".into());
    }
    if call.acting_role().is_some_and(|role| role.is_guest()) {
        return Err("restricted_action".into());
    }
    policy::allows(call, channel.home(), Kept::RemoveFromChannels)?;
    let id = channel.id.clone();
    if let Some(channel) = call.world.channels.get_mut(&id) {
        channel.members.remove(&user);
    }
    call.changed(json!({"channel": id, "left": [user]}));
    Ok(json!({"errors": {}}))
}

pub(super) fn join(call: &mut Call<'_>) -> Outcome {
    let id = call.arguments.need("channel")?.into_owned();
    let channel = call.conversation(&id)?;
    if channel.kind != ChannelKind::Public {
        return Err("method_not_supported_for_channel_type".into());
    }
    if channel.archived {
        return Err("is_archived".into());
    }
    let user = call.token.user.clone();
    if call.world.join(&id, &user) {
        call.changed(json!({"channel": id, "joined": [user]}));
    } else {
        call.warnings.push("already_in_channel");
        call.unchanged(json!({"channel": id, "joined": []}));
    }
    let channel = call.world.channels.get(&id).ok_or("channel_not_found")?;
    Ok(json!({"channel": views::channel(call, channel)}))
}

pub(super) fn leave(call: &mut Call<'_>) -> Outcome {
    let channel = call.argument_conversation(Family::Write)?;
    named_channel(channel)?;
    if channel.general {
        return Err("cant_leave_general".into());
    }
    if channel.archived {
        return Err("is_archived".into());
    }
    let (id, user) = (channel.id.clone(), call.token.user.clone());
    if !channel.members.contains(&user) {
        call.unchanged(json!({"channel": id, "left": []}));
        return Ok(json!({"not_in_channel": true}));
    }
    if channel.kind == ChannelKind::Private && channel.members.len() == 1 {
        return Err("last_member".into());
    }
    if let Some(channel) = call.world.channels.get_mut(&id) {
        channel.members.remove(&user);
    }
    call.changed(json!({"channel": id, "left": [user]}));
    Ok(json!({}))
}

pub(super) fn members(call: &mut Call<'_>) -> Outcome {
    let channel = call.argument_conversation(Family::Read)?;
    let limit = call.limit(100, 1000)?;
    let all: Vec<&String> = channel.members.iter().collect();
    let (page, next) = cursor::page(all, |id| (*id).clone(), call.arguments.text("cursor").as_deref(), limit)?;
    Ok(json!({"members": page, "response_metadata": {"next_cursor": next}}))
}

pub(super) fn of_user(call: &mut Call<'_>) -> Outcome {
    let workspace = call.in_workspace()?;
    let asked = call.arguments.text("user").filter(|user| !user.is_empty());
    let user = asked.as_deref().unwrap_or(&call.token.user).to_owned();
    if call.visible(&user).is_none() {
        return Err("user_not_found".into());
    }
    let kinds = wanted_kinds(call)?;
    // "Must be an integer with a max value of 999" (Slack's page of `users.conversations`).
    let limit = call.limit(100, 999)?;
    let without_archived = call.arguments.is_set("exclude_archived");
    let seen: Vec<&Channel> = call
        .world
        .channels
        .values()
        .filter(|channel| channel.teams.contains(&workspace) && kinds.contains(&channel.kind))
        .filter(|channel| channel.members.contains(&user))
        .filter(|channel| channel.kind == ChannelKind::Public || channel.members.contains(&call.token.user))
        .filter(|channel| !(without_archived && channel.archived))
        .collect();
    let (page, next) =
        cursor::page(seen, |channel| channel.id.clone(), call.arguments.text("cursor").as_deref(), limit)?;
    let channels: Vec<Value> = page
        .into_iter()
        .map(|channel| {
            let mut shown = views::channel(call, channel);
            if let Some(object) = shown.as_object_mut() {
                object.remove("is_member");
            }
            shown
        })
        .collect();
    Ok(json!({"channels": channels, "response_metadata": {"next_cursor": next}}))
}

pub(super) fn open(call: &mut Call<'_>) -> Outcome {
    let full = call.arguments.is_set("return_im");
    if let Some(id) = call.arguments.text("channel").filter(|id| !id.is_empty()) {
        let channel = call.conversation(&id)?;
        if !matches!(channel.kind, ChannelKind::Im | ChannelKind::Mpim) {
            return Err("method_not_supported_for_channel_type".into());
        }
        let id = channel.id.clone();
        call.unchanged(json!({ "channel": id }));
        return opened(call, &id, true, full);
    }
    let mut users = call.arguments.list("users").filter(|users| !users.is_empty()).ok_or("users_list_not_supplied")?;
    users.retain(|user| *user != call.token.user);
    users.sort_unstable();
    users.dedup();
    if users.is_empty() {
        return Err("not_enough_users".into());
    }
    if users.len() > OPENED_MAX {
        return Err("too_many_users".into());
    }
    for user in &users {
        let account = call.visible(user).ok_or("user_not_found")?;
        if !account.active {
            return Err("user_disabled".into());
        }
    }
    let workspace = match call.workspace.clone() {
        Some(workspace) => workspace,
        None => call
            .visible(&users[0])
            .and_then(|account| account.workspaces().first().map(|id| (*id).to_owned()))
            .ok_or("user_not_visible")?,
    };
    let kind = if users.len() == 1 { ChannelKind::Im } else { ChannelKind::Mpim };
    call.need_channel_scope(kind, Family::Write)?;
    let (actor, now_us) = (call.token.user.clone(), call.now_us);
    let (id, fresh) = match users.as_slice() {
        [one] => call.world.direct(&workspace, &actor, one, now_us),
        several => group_conversation(call, &workspace, several)?,
    };
    let effect = json!({"channel": id, "users": users});
    call.record(fresh, effect);
    opened(call, &id, !fresh, full)
}

fn group_conversation(call: &mut Call<'_>, workspace: &str, users: &[String]) -> Result<(String, bool), Refusal> {
    let members: std::collections::BTreeSet<String> = users.iter().cloned().chain([call.token.user.clone()]).collect();
    let known = call
        .world
        .channels
        .values()
        .find(|channel| channel.kind == ChannelKind::Mpim && channel.members == members)
        .map(|channel| channel.id.clone());
    if let Some(id) = known {
        return Ok((id, false));
    }
    let name = format!("mpdm-{}-1", users.join("--").to_lowercase());
    super::conversations::make(call, workspace, &name, ChannelKind::Mpim, members).map(|id| (id, true))
}

fn opened(call: &Call<'_>, id: &str, already: bool, full: bool) -> Outcome {
    let channel = call.world.channels.get(id).ok_or("channel_not_found")?;
    let shown = if full { views::channel(call, channel) } else { json!({ "id": id }) };
    let mut answer = json!({ "channel": shown });
    if already {
        answer["no_op"] = json!(true);
        answer["already_open"] = json!(true);
    }
    Ok(answer)
}
