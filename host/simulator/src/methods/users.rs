//! People, as everybody sees them.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::{
    call::{Call, Outcome, Refusal},
    cursor,
    rules::Plan,
    views,
};

const FIELD_CHARACTERS_MAX: usize = 255;

pub(super) fn list(call: &mut Call<'_>) -> Outcome {
    let workspace = call.in_workspace()?;
    let limit = match call.arguments.number("limit") {
        Ok(None | Some(0)) => usize::MAX,
        Ok(Some(limit)) if limit > 0 => usize::try_from(limit).unwrap_or(1000).min(1000),
        _ => return Err(Refusal::invalid("[ERROR] must be a positive number [json-pointer:/limit]")),
    };
    let members: Vec<_> = call
        .world
        .users
        .values()
        .filter(|account| account.id == "USLACKBOT" || account.memberships.contains_key(&workspace))
        .collect();
    let (page, next) =
        cursor::page(members, |account| account.id.clone(), call.arguments.text("cursor").as_deref(), limit)?;
    let members: Vec<Value> = page.into_iter().map(|account| views::user(call, account)).collect();
    Ok(json!({"members": members, "cache_ts": call.now_s(), "response_metadata": {"next_cursor": next}}))
}

pub(super) fn info(call: &mut Call<'_>) -> Outcome {
    let id = call.arguments.need("user")?;
    let account = call.visible(&id).ok_or("user_not_found")?;
    Ok(json!({"user": views::user(call, account)}))
}

/// Finds no deactivated account, and nobody who was removed from the workspace.
pub(super) fn lookup_by_email(call: &mut Call<'_>) -> Outcome {
    let email = call.arguments.need("email")?;
    let account = call
        .world
        .account_by_email(&call.home(), &email)
        .filter(|account| account.active && call.visible(&account.id).is_some())
        .filter(|account| call.workspace.as_deref().is_none_or(|workspace| account.role_in(workspace).is_some()))
        .ok_or("users_not_found")?;
    Ok(json!({"user": views::user(call, account)}))
}

pub(super) fn profile_get(call: &mut Call<'_>) -> Outcome {
    let asked = call.arguments.text("user").filter(|user| !user.is_empty());
    let id = asked.as_deref().unwrap_or(&call.token.user);
    let account = call.visible(id).ok_or("user_not_found")?;
    let mut profile = views::profile(account, call.token.has("users:read.email"));
    if let Some(object) = profile.as_object_mut() {
        object.entry("fields").or_insert_with(|| json!({}));
    }
    Ok(json!({ "profile": profile }))
}

fn wanted_fields(call: &Call<'_>) -> Result<Map<String, Value>, Refusal> {
    if let Some(profile) = call.arguments.nested("profile").map_err(|()| "invalid_profile")? {
        return match profile {
            Value::Object(fields) => Ok(fields),
            _ => Err("invalid_profile".into()),
        };
    }
    let name = call.arguments.text("name").filter(|name| !name.is_empty()).ok_or("invalid_profile")?;
    let value = call.arguments.text("value").unwrap_or_default();
    Ok(Map::from_iter([(name.into_owned(), Value::String(value.into_owned()))]))
}

/// Somebody else's profile takes an admin and a paid plan; an admin's or owner's takes an owner.
pub(super) fn profile_set(call: &mut Call<'_>) -> Outcome {
    let asked = call.arguments.text("user").filter(|user| !user.is_empty());
    let id = asked.as_deref().unwrap_or(&call.token.user).to_owned();
    if id != call.token.user {
        let role = call.acting_role();
        if !role.is_some_and(|role| role.is_admin()) {
            return Err("not_admin".into());
        }
        if call.plan() < Plan::Pro {
            return Err("paid_teams_only".into());
        }
        let target = call.visible(&id).ok_or("user_not_found")?;
        let place = call.token.place();
        let above = target.organisation_role.or_else(|| target.role_in(place)).is_some_and(|role| role.is_admin());
        if above && !role.is_some_and(|role| role.is_owner()) {
            return Err("cannot_update_admin_user".into());
        }
    }
    let fields = wanted_fields(call)?;
    let too_long = |value: &Value| value.as_str().is_some_and(|text| text.chars().count() > FIELD_CHARACTERS_MAX);
    if fields.values().any(too_long) {
        return Err("too_long".into());
    }
    if let Some(email) = fields.get("email").and_then(Value::as_str) {
        let taken = call.world.account_by_email(&call.home(), email).is_some_and(|account| account.id != id);
        if taken {
            return Err("email_taken".into());
        }
    }
    let now_s = call.now_s();
    let locked = call.world.locked_fields.clone();
    let account = call.world.users.get_mut(&id).ok_or("user_not_found")?;
    let mut effect = Map::new();
    for (name, value) in fields {
        let text = value.as_str().unwrap_or_default().to_owned();
        let before = match name.as_str() {
            "email" => json!(std::mem::replace(&mut account.email, text)),
            "real_name" => json!(std::mem::replace(&mut account.real_name, text)),
            "first_name" | "last_name" => {
                let (first, last) = crate::seed::names_of(&account.real_name);
                let (first, last) = if name == "first_name" { (text, last) } else { (first, text) };
                json!(std::mem::replace(&mut account.real_name, format!("{first} {last}").trim().to_owned()))
            }
            "fields" => set_custom(&mut account.profile, &value, &locked)?,
            _ => account.profile.insert(name.clone(), value.clone()).unwrap_or(Value::Null),
        };
        effect.insert(name, json!({"before": before, "after": value}));
    }
    account.updated_s = now_s;
    let changed = effect.values().any(|pair| pair["before"] != pair["after"]);
    let effect = json!({"user": id, "profile": effect});
    call.record(changed, effect);
    let account = call.world.users.get(&id).ok_or("user_not_found")?;
    Ok(json!({"profile": views::profile(account, call.token.has("users:read.email"))}))
}

/// Custom fields are merged one by one; a value is an object or a plain string.
fn set_custom(profile: &mut Map<String, Value>, wanted: &Value, locked: &BTreeSet<String>) -> Result<Value, Refusal> {
    let Value::Object(wanted) = wanted else { return Err("invalid_profile".into()) };
    let fields = profile.entry("fields").or_insert_with(|| json!({}));
    let before = fields.clone();
    for (id, value) in wanted.iter().filter(|(id, _)| !locked.contains(*id)) {
        let entry = match value {
            Value::String(text) => json!({"value": text, "alt": ""}),
            other => json!({"value": other["value"], "alt": other["alt"].as_str().unwrap_or_default()}),
        };
        fields[id.as_str()] = entry;
    }
    Ok(before)
}
