//! Facts about the connection: who am I, where, on which plan.

use serde_json::{Value, json};

use crate::{
    call::{Call, Outcome},
    cursor,
    world::Installed,
};

pub(super) fn api_test(call: &mut Call<'_>) -> Outcome {
    let arguments = Value::Object(call.arguments.values().clone());
    match call.arguments.text("error") {
        Some(error) => Err(crate::call::Refusal::new(error.into_owned()).with("args", arguments)),
        None if call.arguments.values().is_empty() => Ok(json!({})),
        None => Ok(json!({ "args": arguments })),
    }
}

pub(super) fn auth_test(call: &mut Call<'_>) -> Outcome {
    let account = call.world.users.get(&call.token.user).ok_or("account_inactive")?;
    let (team_id, name, domain, organisation) = match &call.token.installed {
        Installed::Workspace(id) => {
            let workspace = call.world.workspaces.get(id).ok_or("team_not_found")?;
            (id, &workspace.name, &workspace.domain, workspace.organisation.as_ref())
        }
        Installed::Organisation { id, .. } => {
            let organisation = call.world.organisations.get(id).ok_or("org_not_found")?;
            (id, &organisation.name, &organisation.domain, Some(id))
        }
    };
    let mut answer = json!({
        "url": format!("https://{domain}.slack.example/"),
        "team": name,
        "user": account.name,
        "team_id": team_id,
        "user_id": account.id,
        "is_enterprise_install": call.of_organisation(),
    });
    if let Some(object) = answer.as_object_mut() {
        if let Some(bot) = &call.token.bot {
            object.insert("bot_id".to_owned(), json!(bot));
        }
        if let Some(organisation) = organisation {
            object.insert("enterprise_id".to_owned(), json!(organisation));
        }
    }
    Ok(answer)
}

pub(super) fn auth_teams_list(call: &mut Call<'_>) -> Outcome {
    let Installed::Organisation { granted, .. } = &call.token.installed else {
        return Err("not_allowed_token_type".into());
    };
    let limit = call.limit(100, 1000)?;
    let teams: Vec<&String> = granted.iter().collect();
    let (page, next) = cursor::page(teams, |id| (*id).clone(), call.arguments.text("cursor").as_deref(), limit)?;
    let teams: Vec<Value> = page
        .into_iter()
        .map(|id| json!({"id": id, "name": call.world.workspaces.get(id).map(|workspace| workspace.name.as_str())}))
        .collect();
    Ok(json!({"teams": teams, "response_metadata": {"next_cursor": next}}))
}

pub(super) fn info(call: &mut Call<'_>) -> Outcome {
    let asked = call.arguments.text("team").filter(|team| !team.is_empty());
    let id = asked.as_deref().unwrap_or_else(|| call.token.place());
    if call.world.is_organisation(id) {
        if id != call.token.place() {
            return Err("team_not_found".into());
        }
        let organisation = call.world.organisations.get(id).ok_or("team_not_found")?;
        return Ok(json!({"team": {
            "id": organisation.id,
            "name": organisation.name,
            "domain": organisation.domain,
            "url": format!("https://{}.enterprise.slack.example/", organisation.domain),
            "email_domain": format!("{}.example", organisation.domain),
            "icon": {"image_default": true},
            "enterprise_id": organisation.id,
            "enterprise_name": organisation.name,
            "enterprise_domain": organisation.domain,
        }}));
    }
    let workspace = call.world.workspaces.get(id).filter(|_| call.reaches(id)).ok_or("team_not_found")?;
    let mut team = json!({
        "id": workspace.id,
        "name": workspace.name,
        "domain": workspace.domain,
        "url": format!("https://{}.slack.example/", workspace.domain),
        "email_domain": "",
        "icon": {"image_default": true},
    });
    let organisation = workspace.organisation.as_ref().and_then(|id| call.world.organisations.get(id));
    if let (Some(object), Some(organisation)) = (team.as_object_mut(), organisation) {
        object.insert("enterprise_id".to_owned(), json!(organisation.id));
        object.insert("enterprise_name".to_owned(), json!(organisation.name));
        object.insert("enterprise_domain".to_owned(), json!(organisation.domain));
    }
    Ok(json!({ "team": team }))
}

pub(super) fn billing_info(call: &mut Call<'_>) -> Outcome {
    Ok(json!({"plan": call.plan().billing_word()}))
}

pub(super) fn access_logs(call: &mut Call<'_>) -> Outcome {
    let workspace = call.in_workspace()?;
    let number = |name, default: i64| call.arguments.number(name).map(|number| number.unwrap_or(default));
    let (Ok(count), Ok(page)) = (number("count", 100), number("page", 1)) else {
        return Err("invalid_arguments".into());
    };
    if !(1..=1000).contains(&count) || !(1..=100).contains(&page) {
        return Err("over_pagination_limit".into());
    }
    let all: Vec<_> = call.world.logins.iter().filter(|login| login.workspace == workspace).collect();
    let count = usize::try_from(count).unwrap_or(100);
    let page = usize::try_from(page).unwrap_or(1);
    let logins: Vec<Value> = all
        .iter()
        .skip((page - 1) * count)
        .take(count)
        .map(|login| {
            json!({
                "user_id": login.user,
                "username": call.world.users.get(&login.user).map(|account| account.name.as_str()),
                "date_first": login.first_s,
                "date_last": login.last_s,
                "count": login.count,
                "ip": login.ip,
                "user_agent": login.user_agent,
                "isp": "Example ISP",
                "country": "FR",
                "region": "IDF",
            })
        })
        .collect();
    Ok(json!({
        "logins": logins,
        "paging": {"count": count, "total": all.len(), "page": page, "pages": all.len().div_ceil(count).max(1)},
    }))
}

pub(super) fn bots_info(call: &mut Call<'_>) -> Outcome {
    let Some(bot) = call.arguments.text("bot").filter(|bot| !bot.is_empty()) else {
        return Err("bot_not_found".into());
    };
    let account = call
        .world
        .users
        .values()
        .find(|account| account.bot.as_deref() == Some(bot.as_ref()))
        .filter(|account| call.visible(&account.id).is_some())
        .ok_or("bot_not_found")?;
    Ok(json!({"bot": {
        "id": bot,
        "deleted": !account.active,
        "name": account.real_name,
        "updated": account.updated_s,
        "app_id": "A0BELLHOP",
        "user_id": account.id,
        "icons": {
            "image_36": "https://avatars.example/36.png",
            "image_48": "https://avatars.example/48.png",
            "image_72": "https://avatars.example/72.png",
        },
    }}))
}
