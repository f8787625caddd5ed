//! The audit log of an organisation.

use serde_json::{Value, json};

use crate::{
    call::{Call, Outcome},
    cursor,
};

const PAGE_DEFAULT: usize = 100;
const PAGE_MAX: usize = 9_999;

pub(crate) fn logs(call: &mut Call<'_>) -> Outcome {
    let bound = |name| call.arguments.number(name).map_err(|()| "invalid_arguments");
    let (oldest, latest) = (bound("oldest")?, bound("latest")?);
    let limit = call.limit(PAGE_DEFAULT, PAGE_MAX)?;
    let wanted = |name| call.arguments.text(name).filter(|text| !text.is_empty());
    let (action, actor, entity) = (wanted("action"), wanted("actor"), wanted("entity"));
    let within = |at_s: u64| {
        let at = i64::try_from(at_s).unwrap_or(i64::MAX);
        oldest.is_none_or(|oldest| at >= oldest) && latest.is_none_or(|latest| at <= latest)
    };
    let mut entries: Vec<_> = call
        .world
        .audit
        .iter()
        .filter(|entry| within(entry.at_s))
        .filter(|entry| action.as_deref().is_none_or(|action| action.split(',').any(|one| one == entry.action)))
        .filter(|entry| actor.as_deref().is_none_or(|actor| actor == entry.actor))
        .filter(|entry| {
            let id = entry.entity.as_object().and_then(|object| object.values().find_map(|value| value["id"].as_str()));
            entity.as_deref().is_none_or(|entity| id == Some(entity))
        })
        .collect();
    // Newest first; the ids grow, so their complement sorts that way.
    entries.reverse();
    let newest_first =
        |entry: &&crate::world::AuditEntry| entry.id.bytes().map(|byte| char::from(255 - byte)).collect();
    let (page, next) = cursor::page(entries, newest_first, call.arguments.text("cursor").as_deref(), limit)?;
    let organisation = call.world.organisations.get(call.token.place()).ok_or("invalid_workspace")?;
    let entries: Vec<Value> = page
        .into_iter()
        .map(|entry| {
            json!({
                "id": entry.id,
                "date_create": entry.at_s,
                "action": entry.action,
                "actor": {"type": "user", "user": person(call, &entry.actor)},
                "entity": entry.entity,
                "context": {
                    "location": {
                        "type": "enterprise",
                        "id": organisation.id,
                        "name": organisation.name,
                        "domain": organisation.domain,
                    },
                    "ua": "",
                    "ip_address": "127.0.0.1",
                },
            })
        })
        .collect();
    Ok(json!({"entries": entries, "response_metadata": {"next_cursor": next}}))
}

fn person(call: &Call<'_>, id: &str) -> Value {
    let account = call.world.users.get(id);
    json!({
        "id": id,
        "name": account.map(|account| account.real_name.as_str()),
        "email": account.map(|account| account.email.as_str()),
        "team": call.token.place(),
    })
}
