//! Groups of the organisation: which workspaces and channels they reach.

use serde_json::{Value, json};

use crate::{
    call::{Call, Outcome, Refusal},
    views,
    world::Group,
};

const CHANNELS_MAX: usize = 100;

fn group<'a>(call: &'a Call<'_>) -> Result<&'a Group, Refusal> {
    let id = call.arguments.need("usergroup_id")?;
    let home = call.home();
    let group = call.world.groups.get(id.as_ref()).filter(|group| call.world.home_of(&group.home) == home);
    group.ok_or_else(|| "usergroup_not_found".into())
}

pub(super) fn add_teams(call: &mut Call<'_>) -> Outcome {
    let group = group(call)?;
    if !call.world.is_organisation(&group.home) {
        return Err("multi_workspace_restriction".into());
    }
    let (id, people) = (group.id.clone(), group.users.clone());
    let teams = call.arguments.list("team_ids").filter(|teams| !teams.is_empty()).ok_or("no_team_ids_given")?;
    let home = call.home();
    if teams.iter().any(|team| call.world.is_organisation(team) || call.world.home_of(team) != home) {
        return Err("invalid_team_ids".into());
    }
    let mut added = Vec::new();
    if let Some(group) = call.world.groups.get_mut(&id) {
        for team in &teams {
            if !group.teams.contains(team) {
                group.teams.push(team.clone());
                added.push(team.clone());
            }
        }
    }
    let mut provisioned = Vec::new();
    if call.arguments.is_set("auto_provision") {
        for (team, user) in teams.iter().flat_map(|team| people.iter().map(move |user| (team, user))) {
            let outside =
                call.world.users.get(user).is_some_and(|account| account.active && account.role_in(team).is_none());
            if outside {
                call.world.enrol(team, user, crate::world::Role::Member, false);
                provisioned.push(json!({"user": user, "team": team}));
            }
        }
    }
    let effect = json!({"usergroup": id, "teams": added, "provisioned": provisioned});
    call.record(!added.is_empty() || !provisioned.is_empty(), effect);
    Ok(json!({}))
}

pub(super) fn list_channels(call: &mut Call<'_>) -> Outcome {
    let group = group(call)?;
    if let Some(team) = &call.workspace
        && !group.teams.contains(team)
        && group.home != *team
    {
        return Err("usergroup_not_linked_to_team".into());
    }
    let count = call.arguments.is_set("include_num_members");
    let channels: Vec<Value> = group
        .channels
        .iter()
        .filter_map(|id| call.world.channels.get(id))
        .filter(|channel| call.workspace.as_ref().is_none_or(|team| channel.teams.contains(team)))
        .map(|channel| {
            let mut shown = views::channel(call, channel);
            if let Some(object) = shown.as_object_mut() {
                object.remove("shared_team_ids");
            }
            if count {
                shown["num_members"] = json!(channel.members.len());
            }
            shown
        })
        .collect();
    Ok(json!({ "channels": channels }))
}

pub(super) fn add_channels(call: &mut Call<'_>) -> Outcome {
    let group = group(call)?;
    let id = group.id.clone();
    let channels = call
        .arguments
        .list("channel_ids")
        .filter(|list| !list.is_empty())
        .ok_or_else(|| Refusal::missing("channel_ids"))?;
    if channels.len() > CHANNELS_MAX {
        return Err("invalid_channels_limit".into());
    }
    for channel in &channels {
        let known = call.world.channels.get(channel).ok_or("channel_not_found")?;
        let linked = known.teams.iter().any(|team| group.teams.contains(team) || group.home == *team);
        if !linked {
            return Err("usergroup_not_linked_to_team".into());
        }
    }
    let people = group.users.clone();
    let mut added = Vec::new();
    if let Some(group) = call.world.groups.get_mut(&id) {
        for channel in &channels {
            if !group.channels.contains(channel) {
                group.channels.push(channel.clone());
                added.push(channel.clone());
            }
        }
    }
    for channel in &added {
        for user in &people {
            call.world.join(channel, user);
        }
    }
    let effect = json!({"usergroup": id, "channels": added});
    call.record(!added.is_empty(), effect);
    Ok(json!({}))
}
