//! Slack's objects as JSON: a user, a channel, a message, a user group.

use serde_json::{Map, Value, json};

use crate::{
    call::Call,
    seed::{names_of, pictures},
    world::{Account, Channel, ChannelKind, Group, Message, Role, World},
};

/// A user as `users.info` shows it, seen from the call's workspace, or from the organisation.
pub(crate) fn user(call: &Call<'_>, account: &Account) -> Value {
    let seen_from = call.workspace.as_deref();
    let membership = seen_from.and_then(|workspace| account.memberships.get(workspace));
    let gone = !account.active || membership.is_some_and(|membership| !membership.present);
    let home_team = seen_from.map(str::to_owned).or_else(|| account.workspaces().first().map(|id| (*id).to_owned()));
    let mut user = Map::new();
    user.insert("id".into(), json!(account.id));
    if let Some(team) = home_team {
        user.insert("team_id".into(), json!(team));
    }
    user.insert("name".into(), json!(account.name));
    user.insert("deleted".into(), json!(gone));
    user.insert("profile".into(), profile(account, call.token.has("users:read.email")));
    user.insert("is_bot".into(), json!(account.bot.is_some()));
    user.insert("is_app_user".into(), json!(false));
    user.insert("updated".into(), json!(account.updated_s));
    if let Some(organisation) = call.world.organisations.get(&account.home) {
        let role = account.organisation_role;
        user.insert(
            "enterprise_user".into(),
            json!({
                "id": account.id,
                "enterprise_id": organisation.id,
                "enterprise_name": organisation.name,
                "is_admin": role.is_some_and(Role::is_admin),
                "is_owner": role.is_some_and(Role::is_owner),
                "is_primary_owner": role == Some(Role::PrimaryOwner),
                "teams": if account.active { account.workspaces() } else { Vec::new() },
            }),
        );
    }
    // Slack drops the role flags of a deactivated account.
    if !gone {
        let role = membership.map_or(Role::Member, |membership| membership.role);
        user.insert("color".into(), json!("9f69e7"));
        user.insert("real_name".into(), json!(account.real_name));
        user.insert("tz".into(), json!("Europe/Paris"));
        user.insert("tz_label".into(), json!("Central European Time"));
        user.insert("tz_offset".into(), json!(3600));
        user.insert("is_admin".into(), json!(role.is_admin()));
        user.insert("is_owner".into(), json!(role.is_owner()));
        user.insert("is_primary_owner".into(), json!(role == Role::PrimaryOwner));
        user.insert("is_restricted".into(), json!(role.is_guest()));
        user.insert("is_ultra_restricted".into(), json!(role == Role::SingleChannelGuest));
        user.insert("is_email_confirmed".into(), json!(account.bot.is_none()));
        user.insert("who_can_share_contact_card".into(), json!("EVERYONE"));
        if membership.is_some_and(|membership| membership.invited) {
            user.insert("is_invited_user".into(), json!(true));
        }
    }
    Value::Object(user)
}

pub(crate) fn profile(account: &Account, with_email: bool) -> Value {
    let (first, last) = names_of(&account.real_name);
    let mut profile = pictures();
    for (name, value) in [
        ("title", ""),
        ("phone", ""),
        ("skype", ""),
        ("real_name", account.real_name.as_str()),
        ("real_name_normalized", account.real_name.as_str()),
        ("display_name", ""),
        ("display_name_normalized", ""),
        ("status_text", ""),
        ("status_emoji", ""),
        ("avatar_hash", "g0123456789a"),
        ("first_name", first.as_str()),
        ("last_name", last.as_str()),
    ] {
        profile.insert(name.to_owned(), json!(value));
    }
    profile.insert("status_expiration".to_owned(), json!(0));
    if with_email && account.bot.is_none() && !account.email.is_empty() {
        profile.insert("email".to_owned(), json!(account.email));
    }
    if let Some(bot) = &account.bot {
        profile.insert("bot_id".to_owned(), json!(bot));
        profile.insert("api_app_id".to_owned(), json!("A0BELLHOP"));
        profile.insert("always_active".to_owned(), json!(true));
    }
    for (name, value) in &account.profile {
        if name == "display_name" {
            profile.insert("display_name_normalized".to_owned(), value.clone());
        }
        profile.insert(name.clone(), value.clone());
    }
    Value::Object(profile)
}

/// A conversation as `conversations.info` shows it to the acting account.
pub(crate) fn channel(call: &Call<'_>, channel: &Channel) -> Value {
    let is_member = channel.members.contains(&call.token.user);
    if channel.kind == ChannelKind::Im {
        let other = channel.members.iter().find(|member| **member != call.token.user).unwrap_or(&call.token.user);
        return json!({
            "id": channel.id,
            "created": channel.created_s,
            "is_archived": false,
            "is_im": true,
            "is_org_shared": false,
            "context_team_id": channel.teams.first(),
            "updated": channel.created_s * 1000,
            "user": other,
        });
    }
    json!({
        "id": channel.id,
        "name": channel.name,
        "is_channel": channel.kind == ChannelKind::Public,
        "is_group": channel.kind == ChannelKind::Private,
        "is_im": false,
        "is_mpim": channel.kind == ChannelKind::Mpim,
        "is_private": channel.kind != ChannelKind::Public,
        "created": channel.created_s,
        "is_archived": channel.archived,
        "is_general": channel.general,
        "unlinked": 0,
        "name_normalized": channel.name,
        "is_shared": channel.teams.len() > 1,
        "is_org_shared": channel.teams.len() > 1,
        "is_ext_shared": false,
        "is_pending_ext_shared": false,
        "pending_shared": [],
        "pending_connected_team_ids": [],
        "shared_team_ids": channel.teams,
        "context_team_id": call.workspace.as_ref().or_else(|| channel.teams.first()),
        "updated": channel.created_s * 1000,
        "creator": channel.creator,
        "is_member": is_member,
        "topic": channel.topic,
        "purpose": channel.purpose,
        "previous_names": channel.previous_names,
    })
}

/// The bot's card inside its messages.
pub(crate) fn bot_profile(world: &World, bot: &str, team: &str) -> Value {
    let account = world.users.values().find(|account| account.bot.as_deref() == Some(bot));
    json!({
        "id": bot,
        "deleted": false,
        "name": account.map_or("Bellhop", |account| account.real_name.as_str()),
        "updated": account.map_or(0, |account| account.updated_s),
        "app_id": "A0BELLHOP",
        "icons": {
            "image_36": "https://avatars.example/36.png",
            "image_48": "https://avatars.example/48.png",
            "image_72": "https://avatars.example/72.png",
        },
        "team_id": team,
    })
}

/// A message; `metadata` only where it was asked for.
pub(crate) fn message(world: &World, message: &Message, with_metadata: bool) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("type".into(), json!("message"));
    out.insert("user".into(), json!(message.user));
    out.insert("text".into(), json!(message.text));
    out.insert("ts".into(), json!(message.ts));
    out.insert("team".into(), json!(message.team));
    if let Some(bot) = &message.bot {
        out.insert("bot_id".into(), json!(bot));
        out.insert("app_id".into(), json!("A0BELLHOP"));
        out.insert("bot_profile".into(), bot_profile(world, bot, &message.team));
    }
    if let Some(thread) = &message.thread_ts {
        out.insert("thread_ts".into(), json!(thread));
        if message.broadcast {
            out.insert("subtype".into(), json!("thread_broadcast"));
        }
    }
    for (name, value) in [("blocks", &message.blocks), ("attachments", &message.attachments)] {
        if let Some(value) = value {
            out.insert(name.to_owned(), value.clone());
        }
    }
    if with_metadata && let Some(metadata) = &message.metadata {
        out.insert("metadata".into(), metadata.clone());
    }
    if let Some((user, ts)) = &message.edited {
        out.insert("edited".into(), json!({"user": user, "ts": ts}));
    }
    if !message.reactions.is_empty() {
        let reactions: Vec<Value> = message
            .reactions
            .iter()
            .map(|reaction| json!({"name": reaction.name, "users": reaction.users, "count": reaction.users.len()}))
            .collect();
        out.insert("reactions".into(), json!(reactions));
    }
    out
}

/// Text as Slack's answers have it (Slack's page "Formatting message text": three characters are entities).
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A user group as `usergroups.list` shows it.
pub(crate) fn group(group: &Group, seen_from: &str, with_users: bool, with_count: bool) -> Value {
    let org_level = !group.teams.is_empty() || group.home.starts_with('E');
    let mut out = json!({
        "id": group.id,
        "team_id": if org_level { seen_from } else { group.home.as_str() },
        "is_usergroup": true,
        "is_subteam": true,
        "name": escaped(&group.name),
        "description": escaped(&group.description),
        "handle": group.handle,
        "is_external": false,
        "date_create": group.created_s,
        "date_update": group.updated_s,
        "date_delete": group.disabled_s,
        "auto_provision": false,
        "enterprise_subteam_id": if org_level { group.id.as_str() } else { "" },
        "created_by": group.created_by,
        "updated_by": group.updated_by,
        "prefs": {"channels": group.channels, "groups": []},
    });
    if let Some(object) = out.as_object_mut() {
        if with_users {
            object.insert("users".to_owned(), json!(group.users));
        }
        if with_count {
            object.insert("user_count".to_owned(), json!(group.users.len()));
        }
    }
    out
}
