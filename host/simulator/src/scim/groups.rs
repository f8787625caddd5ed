//! Groups in SCIM: the user groups of the organisation, or of a workspace that belongs to none.

use serde_json::{Map, Value, json};

use super::{
    Done, Failure, Request, Version,
    filter::Filter,
    instant, page,
    patch::{self, Members},
};
use crate::{call::Call, world::Group};

const GROUPS_MAX: usize = 10_000;
const MEMBERS_MAX: usize = 10_000;

fn seen<'a>(call: &'a Call<'_>, request: &Request) -> Result<&'a Group, Failure> {
    let home = call.home();
    let id = request.id.as_deref().unwrap_or_default();
    let group = call.world.groups.get(id).filter(|group| group.home == home && group.disabled_s == 0);
    group.ok_or_else(|| Failure::new(404, "group_not_found"))
}

fn shown(call: &Call<'_>, version: Version, group: &Group) -> Value {
    let members: Vec<Value> = group
        .users
        .iter()
        .map(|id| {
            let name = call.world.users.get(id).map(|account| account.real_name.as_str());
            json!({"value": id, "display": name})
        })
        .collect();
    json!({
        "schemas": [version.schema("group")],
        "id": group.id,
        "displayName": group.name,
        "members": members,
        "meta": {
            "created": instant(group.created_s),
            "location": format!("https://api.slack.example/scim/{}/Groups/{}", version.path(), group.id),
        },
    })
}

pub(super) fn list(call: &mut Call<'_>, request: &Request) -> Done {
    let filter = request.query.text("filter").filter(|text| !text.trim().is_empty());
    let filter = filter.map(|text| Filter::parse(&text)).transpose()?;
    let home = call.home();
    let all = call
        .world
        .groups
        .values()
        .filter(|group| group.home == home && group.disabled_s == 0)
        .map(|group| shown(call, request.version, group))
        .filter(|resource| filter.as_ref().is_none_or(|filter| filter.fits(resource)))
        .collect();
    page(request, all)
}

pub(super) fn read(call: &mut Call<'_>, request: &Request) -> Done {
    let group = seen(call, request)?;
    Ok(shown(call, request.version, group))
}

fn check_members(call: &Call<'_>, users: &[String]) -> Result<(), Failure> {
    let home = call.home();
    let person = |id: &String| {
        call.world.users.get(id).is_some_and(|account| account.home == home && account.active && account.bot.is_none())
    };
    if users.len() > MEMBERS_MAX {
        return Err(Failure::new(400, "too_many_members"));
    }
    if users.iter().all(person) { Ok(()) } else { Err(Failure::new(404, "user_not_found")) }
}

fn check_name(call: &Call<'_>, name: &str, except: Option<&str>) -> Result<(), Failure> {
    let home = call.home();
    if name.trim().is_empty() {
        return Err(Failure::new(400, "missing_display_name"));
    }
    let taken =
        call.world.groups.values().any(|group| {
            Some(group.id.as_str()) != except && group.home == home && group.name.eq_ignore_ascii_case(name)
        });
    if taken { Err(Failure::new(409, "name_already_exists")) } else { Ok(()) }
}

fn listed(body: &Map<String, Value>) -> Vec<String> {
    let members = body.get("members").and_then(Value::as_array).into_iter().flatten();
    members.filter_map(|member| member["value"].as_str().map(str::to_owned)).collect()
}

pub(super) fn create(call: &mut Call<'_>, request: &Request, body: &Map<String, Value>) -> Done {
    let name = body.get("displayName").and_then(Value::as_str).unwrap_or_default().to_owned();
    check_name(call, &name, None)?;
    let users = listed(body);
    check_members(call, &users)?;
    if call.world.groups.len() >= GROUPS_MAX {
        return Err(Failure::new(403, "group_limit_reached"));
    }
    let (id, now_s, actor, home) = (call.world.fresh_id('S'), call.now_s(), call.token.user.clone(), call.home());
    let group = Group {
        id: id.clone(),
        home,
        handle: name.to_lowercase().split_whitespace().collect::<Vec<_>>().join("-"),
        name: name.clone(),
        description: String::new(),
        users: users.clone(),
        channels: Vec::new(),
        teams: Vec::new(),
        created_by: actor.clone(),
        updated_by: actor,
        created_s: now_s,
        updated_s: now_s,
        disabled_s: 0,
    };
    let answer = shown(call, request.version, &group);
    call.world.groups.insert(id.clone(), group);
    call.changed(json!({"usergroup": id, "name": name, "users": users}));
    Ok(answer)
}

pub(super) fn replace(call: &mut Call<'_>, request: &Request, body: &Map<String, Value>) -> Done {
    let name = body.get("displayName").and_then(Value::as_str).map(str::to_owned);
    change(call, request, name, vec![Members::Set(listed(body))])
}

pub(super) fn patch(call: &mut Call<'_>, request: &Request, body: &Map<String, Value>) -> Done {
    let (name, changes) = patch::members(body)?;
    change(call, request, name, changes)
}

fn change(call: &mut Call<'_>, request: &Request, name: Option<String>, changes: Vec<Members>) -> Done {
    let group = seen(call, request)?;
    let (id, before) = (group.id.clone(), group.users.clone());
    if let Some(name) = &name {
        check_name(call, name, Some(&id))?;
    }
    let mut users = before.clone();
    for change in changes {
        match change {
            Members::Set(list) => users = list,
            Members::Remove(list) => users.retain(|user| !list.contains(user)),
            Members::Add(list) => users.extend(list),
        }
    }
    let mut unique = std::collections::BTreeSet::new();
    users.retain(|user| unique.insert(user.clone()));
    check_members(call, &users)?;
    let now_s = call.now_s();
    let missing = || Failure::new(404, "group_not_found");
    let group = call.world.groups.get_mut(&id).ok_or_else(missing)?;
    let old_name = group.name.clone();
    let new_name = name.unwrap_or_else(|| old_name.clone());
    group.name.clone_from(&new_name);
    group.users.clone_from(&users);
    group.updated_s = now_s;
    let same = old_name == new_name && before == users;
    let effect = json!({
        "usergroup": id,
        "name": {"before": old_name, "after": new_name},
        "users": {"before": before, "after": users},
    });
    call.record(!same, effect);
    let group = call.world.groups.get(&id).ok_or_else(missing)?;
    Ok(shown(call, request.version, group))
}

pub(super) fn delete(call: &mut Call<'_>, request: &Request) -> Done {
    let group = seen(call, request)?;
    let id = group.id.clone();
    let gone = call.world.groups.remove(&id);
    call.changed(json!({"usergroup": id, "users": {"before": gone.map(|group| group.users), "after": null}}));
    Ok(Value::Null)
}
