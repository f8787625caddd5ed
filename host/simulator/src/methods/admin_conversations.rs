//! Workspaces and channels, as the organisation's admins manage them. Their word counts in every workspace and channel.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    call::{Call, Outcome, Refusal},
    cursor,
    methods::conversations::{check_name, make, set_archived},
    world::{Channel, ChannelKind, Role},
};

const SEARCH_PAGE_MAX: usize = 20;
const INVITED_MAX: usize = 1_000;

pub(super) fn teams_list(call: &mut Call<'_>) -> Outcome {
    let limit = call.limit(100, 100)?;
    let home = call.home();
    let all: Vec<_> =
        call.world.workspaces.values().filter(|workspace| workspace.organisation.as_deref() == Some(&home)).collect();
    let (page, next) =
        cursor::page(all, |workspace| workspace.id.clone(), call.arguments.text("cursor").as_deref(), limit)?;
    let teams: Vec<Value> = page
        .into_iter()
        .map(|workspace| {
            let owner =
                call.world.users.values().find(|account| account.role_in(&workspace.id) == Some(Role::PrimaryOwner));
            json!({
                "id": workspace.id,
                "name": workspace.name,
                "discoverability": "hidden",
                "primary_owner": {
                    "user_id": owner.map(|account| account.id.as_str()),
                    "email": owner.map(|account| account.email.as_str()),
                },
                "team_url": format!("https://{}.slack.example/", workspace.domain),
            })
        })
        .collect();
    Ok(json!({"teams": teams, "response_metadata": {"next_cursor": next}}))
}

/// A named channel of the organisation, wherever it is.
fn channel<'a>(call: &'a Call<'_>) -> Result<&'a Channel, Refusal> {
    let id = call.arguments.need("channel_id")?;
    let channel = call.world.channels.get(id.as_ref()).ok_or("channel_not_found")?;
    let home = call.home();
    if !channel.teams.iter().any(|team| call.world.home_of(team) == home) {
        return Err("channel_not_found".into());
    }
    match channel.kind {
        ChannelKind::Public | ChannelKind::Private => Ok(channel),
        ChannelKind::Im | ChannelKind::Mpim => Err("channel_type_not_supported".into()),
    }
}

pub(super) fn create(call: &mut Call<'_>) -> Outcome {
    let name = call.arguments.need("name")?.into_owned();
    let private = call.arguments.flag("is_private").ok_or_else(|| Refusal::missing("is_private"))?;
    check_name(&name).map_err(|_| "invalid_name")?;
    let wide = call.arguments.is_set("org_wide");
    let teams: Vec<String> = match (&call.workspace, wide) {
        (Some(workspace), false) => vec![workspace.clone()],
        (_, true) => {
            let home = call.home();
            let inside = |workspace: &&crate::world::Workspace| workspace.organisation.as_deref() == Some(&home);
            call.world.workspaces.values().filter(inside).map(|workspace| workspace.id.clone()).collect()
        }
        (None, false) => return Err("team_id_or_org_required".into()),
    };
    if teams.iter().any(|team| call.world.channel_named(team, &name).is_some()) {
        return Err("name_taken".into());
    }
    let first = teams.first().cloned().ok_or("team_not_found")?;
    let kind = if private { ChannelKind::Private } else { ChannelKind::Public };
    let members = BTreeSet::from([call.token.user.clone()]);
    let id = make(call, &first, &name, kind, members).map_err(|_| "could_not_create_channel")?;
    let description = call.arguments.text("description").unwrap_or_default().into_owned();
    if let Some(channel) = call.world.channels.get_mut(&id) {
        channel.teams.clone_from(&teams);
        channel.organisation_wide = wide;
        channel.purpose.value = description;
    }
    call.changed(json!({"channel": id, "name": name, "private": private, "teams": teams}));
    Ok(json!({"channel_id": id}))
}

pub(super) fn archive(call: &mut Call<'_>) -> Outcome {
    let channel = channel(call)?;
    if channel.general {
        return Err("cant_archive_general".into());
    }
    if channel.organisation_wide {
        return Err("default_org_wide_channel".into());
    }
    if channel.archived {
        return Err("already_archived".into());
    }
    let id = channel.id.clone();
    set_archived(call, &id, true)
}

pub(super) fn invite(call: &mut Call<'_>) -> Outcome {
    let users = call
        .arguments
        .list("user_ids")
        .filter(|users| !users.is_empty())
        .ok_or_else(|| Refusal::missing("user_ids"))?;
    if users.len() > INVITED_MAX {
        return Err(Refusal::invalid("[ERROR] no more than 1000 items allowed [json-pointer:/user_ids]"));
    }
    let channel = channel(call)?;
    if channel.archived {
        return Err("channel_not_found".into());
    }
    let mut failed = serde_json::Map::new();
    let mut welcome = Vec::new();
    for user in users {
        let account = call.visible(&user).filter(|account| account.active);
        let inside = account.is_some_and(|account| channel.teams.iter().any(|team| account.role_in(team).is_some()));
        let error = match (account, inside) {
            (None, _) => Some("user_not_found"),
            (Some(_), false) => Some("user_not_in_team"),
            (Some(_), true) if channel.members.contains(&user) => Some("already_in_channel"),
            _ => None,
        };
        match error {
            Some(error) => _ = failed.insert(user, json!(error)),
            None => welcome.push(user),
        }
    }
    let id = channel.id.clone();
    if !failed.is_empty() && welcome.is_empty() {
        let only_there = failed.values().all(|error| error == "already_in_channel");
        let error = if only_there && failed.len() == 1 { "already_in_channel" } else { "failed_for_some_users" };
        return Err(Refusal::new(error).with("failed_user_ids", Value::Object(failed)));
    }
    for user in &welcome {
        call.world.join(&id, user);
    }
    call.changed(json!({"channel": id, "joined": welcome}));
    Ok(if failed.is_empty() { json!({}) } else { json!({ "failed_user_ids": failed }) })
}

pub(super) fn search(call: &mut Call<'_>) -> Outcome {
    let limit = match call.arguments.number("limit") {
        Ok(None | Some(0)) => 10,
        Ok(Some(limit)) => usize::try_from(limit)
            .ok()
            .filter(|limit| *limit <= SEARCH_PAGE_MAX)
            .ok_or_else(|| Refusal::invalid("[ERROR] must be less than 21 [json-pointer:/limit]"))?,
        Err(()) => return Err(Refusal::invalid("[ERROR] must provide an integer [json-pointer:/limit]")),
    };
    let home = call.home();
    let teams = call.arguments.list("team_ids").unwrap_or_default();
    if teams.iter().any(|team| call.world.home_of(team) != home || call.world.is_organisation(team)) {
        return Err("team_not_found".into());
    }
    let query = call.arguments.text("query").unwrap_or_default().to_lowercase();
    let kinds = call.arguments.list("search_channel_types").unwrap_or_default();
    if kinds
        .iter()
        .any(|kind| !matches!(kind.as_str(), "private" | "archived" | "exclude_archived" | "org_wide" | "all_public"))
    {
        return Err("invalid_search_channel_type".into());
    }
    let has = |kind: &str| kinds.iter().any(|one| one == kind);
    let wanted = |channel: &&Channel| {
        let here = channel.teams.iter().any(|team| call.world.home_of(team) == home)
            && (teams.is_empty() || channel.teams.iter().any(|team| teams.contains(team)));
        let kind = matches!(channel.kind, ChannelKind::Public | ChannelKind::Private);
        here && kind
            && channel.name.to_lowercase().contains(&query)
            && (!has("private") || channel.kind == ChannelKind::Private)
            && (!has("all_public") || channel.kind == ChannelKind::Public)
            && (!has("archived") || channel.archived)
            && (!has("exclude_archived") || !channel.archived)
            && (!has("org_wide") || channel.organisation_wide)
    };
    let all: Vec<&Channel> = call.world.channels.values().filter(wanted).collect();
    let total = all.len();
    let (page, next) =
        cursor::page(all, |channel| channel.id.clone(), call.arguments.text("cursor").as_deref(), limit)?;
    let conversations: Vec<Value> = page
        .into_iter()
        .map(|channel| {
            json!({
                "id": channel.id,
                "name": channel.name,
                "purpose": channel.purpose.value,
                "member_count": channel.members.len(),
                "created": channel.created_s,
                "creator_id": channel.creator,
                "is_private": channel.kind == ChannelKind::Private,
                "is_archived": channel.archived,
                "is_general": channel.general,
                "last_activity_ts": 0,
                "is_ext_shared": false,
                "is_global_shared": channel.organisation_wide,
                "is_org_default": false,
                "is_org_mandatory": false,
                "is_org_shared": channel.teams.len() > 1,
                "is_frozen": false,
                "connected_team_ids": [],
                "internal_team_ids_count": channel.teams.len(),
                "internal_team_ids_sample_team": channel.teams.first(),
                "internal_team_ids": channel.teams,
                "pending_connected_team_ids": [],
                "is_pending_ext_shared": false,
                "context_team_id": channel.teams.first(),
            })
        })
        .collect();
    if call.arguments.is_set("total_count_only") {
        return Ok(json!({"total_count": total}));
    }
    Ok(json!({"conversations": conversations, "next_cursor": next, "total_count": total}))
}
