//! System roles of an organisation and who holds them where.

use serde_json::{Value, json};

use crate::{
    call::{Call, Outcome, Refusal},
    cursor,
    world::RoleAssignment,
};

const ENTITIES_MAX: usize = 10;
const USERS_MAX: usize = 10;
/// The system roles with a published id, and Role Admin, which these methods may not touch.
const ROLES: &[&str] = &["Rl0L", "Rl0C", "Rl01", "Rl0A", "Rl04", "Rl05", "Rl09", "Rl0F", "Rl0D"];
const ROLE_ADMIN: &str = "Rl02";

struct Wanted {
    role: String,
    entities: Vec<String>,
    users: Vec<String>,
}

fn wanted(call: &Call<'_>) -> Result<Wanted, Refusal> {
    let role = call.arguments.need("role_id")?.into_owned();
    let entities = call.arguments.list("entity_ids").unwrap_or_default();
    let users = call.arguments.list("user_ids").unwrap_or_default();
    if role == ROLE_ADMIN {
        return Err("cannot_modify_role_admin".into());
    }
    if !ROLES.contains(&role.as_str()) {
        return Err("invalid_role_id".into());
    }
    if entities.is_empty() {
        return Err("no_valid_entities".into());
    }
    if users.is_empty() {
        return Err("no_valid_users".into());
    }
    if entities.len() > ENTITIES_MAX {
        return Err("too_many_entities".into());
    }
    if users.len() > USERS_MAX {
        return Err("too_many_users".into());
    }
    let home = call.home();
    let known = |entity: &String| {
        *entity == home
            || call.world.workspaces.get(entity).is_some_and(|w| w.organisation.as_deref() == Some(&home))
            || call
                .world
                .channels
                .get(entity)
                .is_some_and(|c| c.teams.iter().any(|team| call.world.home_of(team) == home))
    };
    let rejected = |all: &[String], fits: &dyn Fn(&String) -> bool, error: &str| -> Vec<Value> {
        all.iter().filter(|id| !fits(id)).map(|id| json!({"id": id, "error": error})).collect()
    };
    let bad_entities = rejected(&entities, &known, "entity_not_found");
    let person = |user: &String| call.visible(user).is_some_and(|account| account.active && account.bot.is_none());
    let bad_users = rejected(&users, &person, "user_not_found");
    let error = match (bad_entities.is_empty(), bad_users.is_empty()) {
        (true, true) => return Ok(Wanted { role, entities, users }),
        (false, true) => "failed_for_some_entities",
        (true, false) => "failed_for_some_users",
        (false, false) => "failed_for_some_users_and_entities",
    };
    let mut refusal = Refusal::new(error);
    if !bad_entities.is_empty() {
        refusal = refusal.with("rejected_entities", json!(bad_entities));
    }
    if !bad_users.is_empty() {
        refusal = refusal.with("rejected_users", json!(bad_users));
    }
    Err(refusal)
}

pub(super) fn add(call: &mut Call<'_>) -> Outcome {
    let Wanted { role, entities, users } = wanted(call)?;
    let now_s = call.now_s();
    let mut added = Vec::new();
    for (entity, user) in entities.iter().flat_map(|entity| users.iter().map(move |user| (entity, user))) {
        let same = |one: &RoleAssignment| one.role == role && one.entity == *entity && one.user == *user;
        if !call.world.role_assignments.iter().any(same) {
            let made =
                RoleAssignment { role: role.clone(), entity: entity.clone(), user: user.clone(), created_s: now_s };
            call.world.role_assignments.push(made);
            added.push(json!({"entity": entity, "user": user}));
        }
    }
    let effect = json!({"role": role, "added": added});
    if added.is_empty() {
        call.unchanged(effect);
    } else {
        call.audit("role_assigned", json!({"type": "role", "role": {"id": role}}));
        call.changed(effect);
    }
    Ok(json!({}))
}

pub(super) fn remove(call: &mut Call<'_>) -> Outcome {
    let Wanted { role, entities, users } = wanted(call)?;
    let before = call.world.role_assignments.len();
    call.world
        .role_assignments
        .retain(|one| !(one.role == role && entities.contains(&one.entity) && users.contains(&one.user)));
    let removed = before - call.world.role_assignments.len();
    let effect = json!({"role": role, "entities": entities, "users": users, "removed": removed});
    if removed == 0 {
        call.unchanged(effect);
    } else {
        call.audit("role_removed", json!({"type": "role", "role": {"id": role}}));
        call.changed(effect);
    }
    Ok(json!({}))
}

pub(super) fn list(call: &mut Call<'_>) -> Outcome {
    let limit = call.limit(100, 200)?;
    let (roles, entities) = (call.arguments.list("role_ids"), call.arguments.list("entity_ids"));
    if roles
        .as_ref()
        .is_some_and(|roles| roles.iter().any(|role| role != ROLE_ADMIN && !ROLES.contains(&role.as_str())))
    {
        return Err("invalid_role_id".into());
    }
    let key = |one: &&RoleAssignment| format!("{}/{}/{}", one.role, one.entity, one.user);
    let mut all: Vec<&RoleAssignment> = call
        .world
        .role_assignments
        .iter()
        .filter(|one| roles.as_ref().is_none_or(|roles| roles.is_empty() || roles.contains(&one.role)))
        .filter(|one| entities.as_ref().is_none_or(|list| list.is_empty() || list.contains(&one.entity)))
        .collect();
    all.sort_by_key(key);
    let (page, next) = cursor::page(all, key, call.arguments.text("cursor").as_deref(), limit)?;
    let assignments: Vec<Value> = page
        .into_iter()
        .map(|one| json!({"role_id": one.role, "entity_id": one.entity, "user_id": one.user, "date_create": one.created_s}))
        .collect();
    Ok(json!({"role_assignments": assignments, "response_metadata": {"next_cursor": next}}))
}
