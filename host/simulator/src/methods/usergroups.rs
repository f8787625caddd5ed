//! User groups of a workspace, and those of the organisation that are linked to it.

use serde_json::{Value, json};

use crate::{
    call::{Call, Outcome, Refusal},
    policy::{self, Kept},
    views,
    world::Group,
};

const GROUPS_MAX: usize = 10_000;
const USERS_MAX: usize = 10_000;

fn seen_in(group: &Group, workspace: &str) -> bool {
    group.home == workspace || group.teams.iter().any(|team| team == workspace)
}

fn named(call: &Call<'_>) -> Result<String, Refusal> {
    let workspace = call.in_workspace()?;
    let id = call.arguments.need("usergroup")?;
    let group = call.world.groups.get(id.as_ref()).filter(|group| seen_in(group, &workspace));
    Ok(group.ok_or("no_such_subteam")?.id.clone())
}

/// Guests may not touch groups; every member may, unless administrators keep it for themselves.
fn may_edit(call: &Call<'_>) -> Result<(), Refusal> {
    let role = call
        .world
        .users
        .get(&call.token.user)
        .and_then(|account| call.workspace.as_deref().and_then(|workspace| account.role_in(workspace)));
    if role.is_some_and(|role| role.is_guest()) {
        return Err("permission_denied".into());
    }
    policy::allows(call, &call.in_workspace()?, Kept::Usergroups)
}

fn answer(call: &Call<'_>, id: &str) -> Outcome {
    let group = call.world.groups.get(id).ok_or("no_such_subteam")?;
    let workspace = call.in_workspace()?;
    Ok(json!({"usergroup": views::group(group, &workspace, true, false)}))
}

pub(super) fn list(call: &mut Call<'_>) -> Outcome {
    let workspace = call.in_workspace()?;
    let disabled = call.arguments.is_set("include_disabled");
    let (users, count) = (call.arguments.is_set("include_users"), call.arguments.is_set("include_count"));
    let groups: Vec<Value> = call
        .world
        .groups
        .values()
        .filter(|group| seen_in(group, &workspace) && (disabled || group.disabled_s == 0))
        .map(|group| views::group(group, &workspace, users, count))
        .collect();
    Ok(json!({ "usergroups": groups }))
}

fn check_handle(call: &Call<'_>, workspace: &str, handle: &str, except: Option<&str>) -> Result<(), Refusal> {
    let fits =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '-' | '_' | '.');
    if handle.is_empty() || !handle.chars().all(fits) {
        return Err("bad_handle".into());
    }
    if matches!(handle, "here" | "channel" | "everyone" | "group") {
        return Err("forbidden_handle".into());
    }
    let taken = call
        .world
        .groups
        .values()
        .any(|group| Some(group.id.as_str()) != except && seen_in(group, workspace) && group.handle == handle);
    if taken { Err("handle_already_exists".into()) } else { Ok(()) }
}

fn check_group_name(call: &Call<'_>, workspace: &str, name: &str, except: Option<&str>) -> Result<(), Refusal> {
    if name.trim().is_empty() {
        return Err("missing_subteam_name".into());
    }
    if name.chars().count() > 255 {
        return Err("name_too_long".into());
    }
    let taken = call.world.groups.values().any(|group| {
        Some(group.id.as_str()) != except && seen_in(group, workspace) && group.name.eq_ignore_ascii_case(name)
    });
    if taken { Err("name_already_exists".into()) } else { Ok(()) }
}

fn wanted_channels(call: &Call<'_>, workspace: &str) -> Result<Option<Vec<String>>, Refusal> {
    let Some(channels) = call.arguments.list("channels") else { return Ok(None) };
    for id in &channels {
        let known =
            call.world.channels.get(id).is_some_and(|channel| channel.teams.iter().any(|team| team == workspace));
        if !known {
            return Err("invalid_channel_provided".into());
        }
    }
    Ok(Some(channels))
}

pub(super) fn create(call: &mut Call<'_>) -> Outcome {
    let workspace = call.in_workspace()?;
    may_edit(call)?;
    let name = call.arguments.text("name").unwrap_or_default().into_owned();
    check_group_name(call, &workspace, &name, None)?;
    let handle = match call.arguments.text("handle").filter(|handle| !handle.is_empty()) {
        Some(handle) => handle.trim_start_matches('@').to_owned(),
        None => name.to_lowercase().split_whitespace().collect::<Vec<_>>().join("-"),
    };
    check_handle(call, &workspace, &handle, None)?;
    let description = call.arguments.text("description").unwrap_or_default().into_owned();
    if description.chars().count() > 140 {
        return Err("description_too_long".into());
    }
    let channels = wanted_channels(call, &workspace)?.unwrap_or_default();
    if call.world.groups.len() >= GROUPS_MAX {
        return Err("restricted_action".into());
    }
    let (id, now_s, actor) = (call.world.fresh_id('S'), call.now_s(), call.token.user.clone());
    let group = Group {
        id: id.clone(),
        home: workspace,
        name: name.clone(),
        handle: handle.clone(),
        description,
        users: Vec::new(),
        channels,
        teams: Vec::new(),
        created_by: actor.clone(),
        updated_by: actor,
        created_s: now_s,
        updated_s: now_s,
        disabled_s: 0,
    };
    call.world.groups.insert(id.clone(), group);
    call.changed(json!({"usergroup": id, "name": name, "handle": handle}));
    answer(call, &id)
}

pub(super) fn update(call: &mut Call<'_>) -> Outcome {
    let (workspace, id) = (call.in_workspace()?, named(call)?);
    may_edit(call)?;
    let name = call.arguments.text("name").filter(|name| !name.is_empty()).map(std::borrow::Cow::into_owned);
    let handle = call
        .arguments
        .text("handle")
        .filter(|handle| !handle.is_empty())
        .map(|handle| handle.trim_start_matches('@').to_owned());
    let description = call.arguments.text("description").map(std::borrow::Cow::into_owned);
    if let Some(name) = &name {
        check_group_name(call, &workspace, name, Some(&id))?;
    }
    if let Some(handle) = &handle {
        check_handle(call, &workspace, handle, Some(&id))?;
    }
    let channels = wanted_channels(call, &workspace)?;
    let (now_s, actor) = (call.now_s(), call.token.user.clone());
    let group = call.world.groups.get_mut(&id).ok_or("no_such_subteam")?;
    let before = json!({"name": group.name, "handle": group.handle, "description": group.description, "channels": group.channels});
    group.name = name.unwrap_or_else(|| group.name.clone());
    group.handle = handle.unwrap_or_else(|| group.handle.clone());
    group.description = description.unwrap_or_else(|| group.description.clone());
    group.channels = channels.unwrap_or_else(|| group.channels.clone());
    group.updated_s = now_s;
    group.updated_by = actor;
    let after = json!({"name": group.name, "handle": group.handle, "description": group.description, "channels": group.channels});
    let same = before == after;
    let effect = json!({"usergroup": id, "before": before, "after": after});
    call.record(!same, effect);
    answer(call, &id)
}

pub(super) fn disable(call: &mut Call<'_>) -> Outcome {
    let now_s = call.now_s();
    switch(call, now_s)
}

pub(super) fn enable(call: &mut Call<'_>) -> Outcome {
    switch(call, 0)
}

fn switch(call: &mut Call<'_>, disabled_s: u64) -> Outcome {
    let id = named(call)?;
    may_edit(call)?;
    let now_s = call.now_s();
    let group = call.world.groups.get_mut(&id).ok_or("no_such_subteam")?;
    let (was, is) = (group.disabled_s > 0, disabled_s > 0);
    if was != is {
        group.disabled_s = disabled_s;
        group.updated_s = now_s;
    }
    let effect = json!({"usergroup": id, "disabled": {"before": was, "after": is}});
    call.record(was != is, effect);
    answer(call, &id)
}

pub(super) fn users_list(call: &mut Call<'_>) -> Outcome {
    let id = named(call)?;
    let group = call.world.groups.get(&id).ok_or("no_such_subteam")?;
    if group.disabled_s > 0 && !call.arguments.is_set("include_disabled") {
        return Err("no_such_subteam".into());
    }
    Ok(json!({"users": group.users}))
}

/// Replaces the whole list. An empty one is an empty array; text without anybody is refused (slackapi/java-slack-sdk#1574).
pub(super) fn users_update(call: &mut Call<'_>) -> Outcome {
    let (workspace, id) = (call.in_workspace()?, named(call)?);
    may_edit(call)?;
    let mut users = match call.arguments.values().get("users") {
        Some(Value::Array(_)) => call.arguments.list("users").unwrap_or_default(),
        // Text with commas is for forms (Slack's page of the method): in JSON it is one id.
        Some(Value::String(text)) if call.arguments.is_json && !text.is_empty() => vec![text.clone()],
        _ => {
            let users = call.arguments.list("users").unwrap_or_default();
            let written = call.arguments.text("users").unwrap_or_default();
            if users.is_empty() && written.trim() != "[]" {
                return Err("no_users_provided".into());
            }
            users
        }
    };
    if users.len() > USERS_MAX {
        return Err("subteam_max_users_exceeded".into());
    }
    let group = call.world.groups.get(&id).ok_or("no_such_subteam")?;
    let of_organisation = call.world.is_organisation(&group.home);
    let fits = |user: &String| {
        call.world.users.get(user).is_some_and(|account| {
            let inside = if of_organisation {
                account.home == call.world.home_of(&workspace)
            } else {
                account.role_in(&workspace).is_some_and(|role| !role.is_guest())
            };
            inside && account.active && account.bot.is_none()
        })
    };
    if !users.iter().all(fits) {
        return Err("invalid_users".into());
    }
    let mut seen = std::collections::BTreeSet::new();
    users.retain(|user| seen.insert(user.clone()));
    let (now_s, actor) = (call.now_s(), call.token.user.clone());
    let group = call.world.groups.get_mut(&id).ok_or("no_such_subteam")?;
    let before = std::mem::replace(&mut group.users, users.clone());
    group.updated_s = now_s;
    group.updated_by = actor;
    let same = before.iter().collect::<std::collections::BTreeSet<_>>() == users.iter().collect();
    let effect = json!({"usergroup": id, "users": {"before": before, "after": users}});
    call.record(!same, effect);
    answer(call, &id)
}
