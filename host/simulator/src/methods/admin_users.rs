//! People, as the organisation's admins manage them.

use serde_json::{Value, json};

use crate::{
    call::{Call, Outcome, Refusal},
    cursor,
    world::{Account, Role, Session},
};

const PAGE_MAX: usize = 100;

fn person<'a>(call: &'a Call<'_>, id: &str) -> Result<&'a Account, Refusal> {
    call.visible(id).filter(|account| account.id != "USLACKBOT").ok_or_else(|| "user_not_found".into())
}

fn page_limit(call: &Call<'_>, default: usize) -> Result<usize, Refusal> {
    match call.arguments.number("limit") {
        Ok(None | Some(0)) => Ok(default),
        Ok(Some(limit)) => usize::try_from(limit)
            .ok()
            .filter(|limit| *limit <= PAGE_MAX)
            .ok_or_else(|| Refusal::invalid("[ERROR] must be less than 101 [json-pointer:/limit]")),
        Err(()) => Err(Refusal::invalid("[ERROR] must provide an integer [json-pointer:/limit]")),
    }
}

pub(super) fn list(call: &mut Call<'_>) -> Outcome {
    let limit = page_limit(call, PAGE_MAX)?;
    let home = call.home();
    let active = call.arguments.flag("is_active").unwrap_or(true);
    let guests = call.arguments.is_set("only_guests");
    let workspace = call.workspace.clone();
    let wanted = |account: &&Account| {
        let role = workspace.as_deref().map(|workspace| account.role_in(workspace));
        let inside = role.is_none_or(|role| role.is_some());
        let guest = account.memberships.values().any(|membership| membership.role.is_guest());
        account.home == home && account.active == active && inside && (!guests || guest)
    };
    let all: Vec<&Account> = call.world.users.values().filter(wanted).collect();
    let (page, next) =
        cursor::page(all, |account| account.id.clone(), call.arguments.text("cursor").as_deref(), limit)?;
    let users: Vec<Value> = page.into_iter().map(|account| shown(call, account)).collect();
    Ok(json!({"users": users, "response_metadata": {"next_cursor": next}}))
}

fn shown(call: &Call<'_>, account: &Account) -> Value {
    let role = match call.workspace.as_deref() {
        Some(workspace) => account.role_in(workspace).unwrap_or(Role::Member),
        None => account.organisation_role.unwrap_or(Role::Member),
    };
    let membership = call.workspace.as_ref().and_then(|workspace| account.memberships.get(workspace));
    let expires_s = membership.map_or(0, |membership| membership.expires_s);
    let of_organisation = call.workspace.is_none();
    let roles: Vec<&str> = call
        .world
        .role_assignments
        .iter()
        .filter(|assignment| assignment.user == account.id)
        .map(|assignment| assignment.role.as_str())
        .collect();
    let mut out = json!({
        "id": account.id,
        "email": account.email,
        "username": account.name,
        "full_name": account.real_name,
        "is_admin": role.is_admin(),
        "is_owner": role.is_owner(),
        "is_primary_owner": role == Role::PrimaryOwner,
        "is_restricted": role.is_guest(),
        "is_ultra_restricted": role == Role::SingleChannelGuest,
        "is_bot": account.bot.is_some(),
        "is_active": account.active,
        "date_created": account.created_s,
        "deactivated_ts": account.deactivated_s,
        "expiration_ts": expires_s,
        "roles": roles,
    });
    if let Some(object) = out.as_object_mut() {
        let kept = account.active || call.arguments.is_set("include_deactivated_user_workspaces");
        object.insert("workspaces".to_owned(), json!(if kept { account.workspaces() } else { Vec::new() }));
        if of_organisation {
            object.insert("has_2fa".to_owned(), json!(false));
            object.insert("has_sso".to_owned(), json!(false));
        }
    }
    out
}

fn in_team(call: &Call<'_>) -> Result<(String, String), Refusal> {
    let workspace = call.in_workspace()?;
    let user = call.arguments.need("user_id")?.into_owned();
    Ok((workspace, user))
}

/// Adds someone to a workspace, and switches a deactivated account on again by the way.
pub(super) fn assign(call: &mut Call<'_>) -> Outcome {
    let (workspace, user) = in_team(call)?;
    let (single, multi) = (call.arguments.is_set("is_ultra_restricted"), call.arguments.is_set("is_restricted"));
    let account = person(call, &user)?;
    if account.bot.is_some() {
        return Err("user_is_bot".into());
    }
    let was_active = account.active;
    if was_active && account.role_in(&workspace).is_some() {
        return Err("user_already_team_member".into());
    }
    if account.organisation_role.is_some() && (single || multi) {
        return Err("invalid_role_for_user".into());
    }
    let role = match (single, multi) {
        (true, _) => Role::SingleChannelGuest,
        (false, true) => Role::MultiChannelGuest,
        (false, false) => Role::Member,
    };
    let channels = call.arguments.list("channel_ids").unwrap_or_default();
    for id in &channels {
        let seen = call.world.channels.get(id).is_some_and(|channel| channel.teams.contains(&workspace));
        if !seen {
            return Err("invitor_cannot_see_channel".into());
        }
    }
    let now_s = call.now_s();
    if !was_active {
        call.world.reactivate(&user, now_s);
        call.audit("user_reactivated", json!({"type": "user", "user": {"id": user}}));
    }
    call.world.enrol(&workspace, &user, role, false);
    for id in &channels {
        call.world.join(id, &user);
    }
    call.audit("user_added_to_workspace", json!({"type": "user", "user": {"id": user}}));
    call.changed(json!({
        "user": user,
        "team": workspace,
        "role": role,
        "active": {"before": was_active, "after": true},
        "channels": channels,
    }));
    Ok(json!({}))
}

pub(super) fn remove(call: &mut Call<'_>) -> Outcome {
    let (workspace, user) = in_team(call)?;
    let account = person(call, &user)?;
    let role = account.role_in(&workspace);
    if role == Some(Role::PrimaryOwner) {
        return Err("cannot_modify_primary_owner".into());
    }
    if role.is_none() || !account.active {
        return Err("user_already_deleted".into());
    }
    let left = call.world.expel(&workspace, &user);
    call.audit("user_removed_from_workspace", json!({"type": "user", "user": {"id": user}}));
    call.changed(json!({"user": user, "team": workspace, "role": {"before": role, "after": null}, "channels": left}));
    Ok(json!({}))
}

/// Invites by e-mail: an account that waits for its person. Somebody of the organisation is added at once.
pub(super) fn invite(call: &mut Call<'_>) -> Outcome {
    let workspace = call.in_workspace()?;
    let email = call.arguments.need("email")?.into_owned();
    let channels = call
        .arguments
        .list("channel_ids")
        .filter(|list| !list.is_empty())
        .ok_or_else(|| Refusal::missing("channel_ids"))?;
    if !email.contains('@') {
        return Err("invalid_email".into());
    }
    for id in &channels {
        let seen = call.world.channels.get(id).is_some_and(|channel| channel.teams.contains(&workspace));
        if !seen {
            return Err("failed_to_validate_channels".into());
        }
    }
    let role = match (call.arguments.is_set("is_ultra_restricted"), call.arguments.is_set("is_restricted")) {
        (true, _) => Role::SingleChannelGuest,
        (false, true) => Role::MultiChannelGuest,
        (false, false) => Role::Member,
    };
    let expires_s = expiry(call, "guest_expiration_ts")?;
    if expires_s.is_some() && !role.is_guest() {
        return Err("failed_to_validate_expiration".into());
    }
    // A guest in one channel has that one (Slack help 202518103).
    if role == Role::SingleChannelGuest && channels.len() != 1 {
        return Err("failed_to_validate_channels".into());
    }
    let home = call.home();
    let known = call.world.account_by_email(&home, &email);
    if let Some(account) = known {
        if !account.active {
            return Err("user_disabled".into());
        }
        if let Some(membership) = account.memberships.get(&workspace).filter(|membership| membership.present) {
            let resend = membership.invited && call.arguments.is_set("resend");
            let error = if membership.invited { "already_in_team_invited_user" } else { "already_in_team" };
            if !resend {
                return Err(error.into());
            }
            let user = account.id.clone();
            call.unchanged(json!({"user": user, "team": workspace, "resent": true}));
            return Ok(json!({}));
        }
    }
    let known = known.map(|account| account.id.clone());
    let invited = known.is_none();
    let id = known.unwrap_or_else(|| call.world.fresh_id('U'));
    if invited {
        let name = email.split('@').next().unwrap_or_default().to_lowercase();
        let real_name = call.arguments.text("real_name").unwrap_or_default().into_owned();
        let now_s = call.now_s();
        let account = Account {
            id: id.clone(),
            real_name: if real_name.is_empty() { name.clone() } else { real_name },
            name,
            email: email.clone(),
            home,
            active: true,
            created_s: now_s,
            updated_s: now_s,
            ..Account::default()
        };
        call.world.users.insert(id.clone(), account);
    }
    call.world.enrol(&workspace, &id, role, invited);
    if let Some(membership) = call.world.users.get_mut(&id).and_then(|account| account.memberships.get_mut(&workspace))
    {
        membership.expires_s = expires_s.unwrap_or_default();
    }
    for channel in &channels {
        call.world.join(channel, &id);
    }
    call.audit("user_invited", json!({"type": "user", "user": {"id": id}}));
    call.changed(json!({"user": id, "email": email, "team": workspace, "invited": invited, "channels": channels}));
    Ok(json!({}))
}

/// A time that is still to come, in seconds.
fn expiry(call: &Call<'_>, name: &str) -> Result<Option<u64>, Refusal> {
    let given = call.arguments.number(name).map_err(|()| "failed_to_validate_expiration")?;
    let Some(given) = given else { return Ok(None) };
    let at_s = u64::try_from(given).ok().filter(|at_s| *at_s > call.now_s()).ok_or("failed_to_validate_expiration")?;
    Ok(Some(at_s))
}

/// When a guest's access ends (Slack's page of `admin.users.setExpiration`).
pub(super) fn set_expiration(call: &mut Call<'_>) -> Outcome {
    let user = call.arguments.need("user_id")?.into_owned();
    let workspace = call.workspace.clone().ok_or("team_id_required_for_enterprise")?;
    let expires_s = expiry(call, "expiration_ts")?.ok_or_else(|| Refusal::missing("expiration_ts"))?;
    let account = person(call, &user)?;
    if !account.active {
        return Err("user_is_deactivated".into());
    }
    let role = account.role_in(&workspace).ok_or("user_is_already_deleted")?;
    if !role.is_guest() {
        return Err("user_is_not_a_guest".into());
    }
    let membership = call.world.users.get_mut(&user).and_then(|account| account.memberships.get_mut(&workspace));
    let before = membership.map_or(0, |membership| std::mem::replace(&mut membership.expires_s, expires_s));
    let effect = json!({"user": user, "team": workspace, "expires": {"before": before, "after": expires_s}});
    call.record(before != expires_s, effect);
    Ok(json!({}))
}

pub(super) fn set_admin(call: &mut Call<'_>) -> Outcome {
    set_role(call, Role::Admin)
}

pub(super) fn set_owner(call: &mut Call<'_>) -> Outcome {
    if !call.acting_role().is_some_and(|role| role.is_owner()) {
        return Err("not_an_owner".into());
    }
    set_role(call, Role::Owner)
}

pub(super) fn set_regular(call: &mut Call<'_>) -> Outcome {
    set_role(call, Role::Member)
}

fn set_role(call: &mut Call<'_>, role: Role) -> Outcome {
    let (workspace, user) = in_team(call)?;
    let account = person(call, &user)?;
    if account.bot.is_some() {
        return Err("invalid_role_for_user".into());
    }
    let outside = if role == Role::Owner { "user_must_be_in_workspace" } else { "user_not_found" };
    let before = account.role_in(&workspace).filter(|_| account.active).ok_or(outside)?;
    if before == Role::PrimaryOwner {
        return Err("cannot_modify_primary_owner".into());
    }
    if before.is_guest() && role != Role::Member {
        return Err("invalid_role_for_user".into());
    }
    if role == Role::Member && account.organisation_role.is_some() {
        return Err("cannot_set_org_admin_to_regular_at_workspace_level".into());
    }
    let now_s = call.now_s();
    if let Some(account) = call.world.users.get_mut(&user) {
        account.updated_s = now_s;
        if let Some(membership) = account.memberships.get_mut(&workspace) {
            membership.role = role;
        }
    }
    let effect = json!({"user": user, "team": workspace, "role": {"before": before, "after": role}});
    if before == role {
        call.unchanged(effect);
    } else {
        let action = match role {
            Role::Owner => "role_change_to_owner",
            Role::Admin => "role_change_to_admin",
            _ => "role_change_to_user",
        };
        call.audit(action, json!({"type": "user", "user": {"id": user}}));
        call.changed(effect);
    }
    Ok(json!({}))
}

pub(super) fn deactivate(call: &mut Call<'_>) -> Outcome {
    let user = call.arguments.need("user_id")?.into_owned();
    let account = person(call, &user)?;
    if account.organisation_role == Some(Role::PrimaryOwner) {
        return Err("deactivation_failed".into());
    }
    if !account.active {
        call.unchanged(json!({"user": user, "active": {"before": false, "after": false}}));
        return Ok(json!({}));
    }
    let now_s = call.now_s();
    let mut effect = call.world.deactivate(&user, now_s);
    effect["user"] = json!(user);
    call.audit("user_deactivated", json!({"type": "user", "user": {"id": user}}));
    call.changed(effect);
    Ok(json!({}))
}

pub(super) fn session_reset(call: &mut Call<'_>) -> Outcome {
    let user = call.arguments.need("user_id")?.into_owned();
    let account = person(call, &user)?;
    if account.bot.is_some() {
        return Err("cannot_reset_bot".into());
    }
    if account.organisation_role == Some(Role::PrimaryOwner) {
        return Err("cannot_reset_primary_owner".into());
    }
    let (mobile, web) = (call.arguments.is_set("mobile_only"), call.arguments.is_set("web_only"));
    let ended = call.world.end_sessions(&user, |session| (!mobile || session.mobile) && (!web || !session.mobile));
    let resets = call.world.session_resets.entry(user.clone()).or_default();
    *resets += 1;
    let resets = *resets;
    call.audit("user_session_reset_by_admin", json!({"type": "user", "user": {"id": user}}));
    call.changed(json!({"user": user, "sessions_ended": ended, "resets": resets}));
    Ok(json!({}))
}

pub(super) fn session_list(call: &mut Call<'_>) -> Outcome {
    let limit = page_limit(call, PAGE_MAX)?;
    let wanted = |name| call.arguments.text(name).filter(|text| !text.is_empty());
    let (user, team) = (wanted("user_id"), wanted("team_id"));
    match (&user, &team) {
        (Some(_), None) => return Err("missing_team".into()),
        (None, Some(_)) => return Err("missing_user".into()),
        _ => {}
    }
    if let Some(user) = &user {
        person(call, user)?;
    }
    let home = call.home();
    let all: Vec<&Session> = call
        .world
        .sessions
        .iter()
        .filter(|session| session.team == home && user.as_deref().is_none_or(|user| session.user == user))
        .collect();
    let key = |session: &&Session| format!("{:020}", session.id);
    let (page, next) = cursor::page(all, key, call.arguments.text("cursor").as_deref(), limit)?;
    let sessions: Vec<Value> = page
        .into_iter()
        .map(|session| {
            let (os, version) = if session.mobile { ("iOS", "19.1") } else { ("OS X", "15.7") };
            let device = json!({
                "device_hardware": session.device,
                "os": os,
                "os_version": version,
                "slack_client_version": "91.0.4472.77",
                "ip": "127.0.0.1",
            });
            json!({
                "user_id": session.user,
                "team_id": session.team,
                "session_id": session.id,
                "created": device,
                "recent": device,
            })
        })
        .collect();
    Ok(json!({"active_sessions": sessions, "response_metadata": {"next_cursor": next}}))
}

pub(super) fn session_invalidate(call: &mut Call<'_>) -> Outcome {
    let user = call.arguments.need("user_id")?.into_owned();
    call.arguments.need("session_id")?;
    let account = person(call, &user)?;
    if account.organisation_role == Some(Role::PrimaryOwner) {
        return Err("cannot_invalidate_primary_owner".into());
    }
    let id = call
        .arguments
        .number("session_id")
        .ok()
        .flatten()
        .and_then(|id| u64::try_from(id).ok())
        .ok_or("session_not_found")?;
    if call.world.end_sessions(&user, |session| session.id == id) == 0 {
        return Err("session_not_found".into());
    }
    call.audit("user_session_invalidated", json!({"type": "user", "user": {"id": user}}));
    call.changed(json!({"user": user, "session": id}));
    Ok(json!({}))
}
