//! People in SCIM.

use serde_json::{Map, Value, json};

use super::{Done, Failure, Request, Version, filter::Filter, instant, page, patch};
use crate::{
    call::Call,
    rules::Plan,
    seed::names_of,
    world::{Account, Role},
};

const ACCOUNTS_MAX: usize = 200_000;
/// Slack's page of SCIM, `username_too_long`.
const NAME_CHARACTERS_MAX: usize = 21;
/// Words that nobody can be called by (Slack's page of SCIM, `username_not_allowed`, which does not list them: those that
/// messages take as mentions).
const RESERVED: &[&str] = &["channel", "everyone", "group", "here", "slackbot"];
/// Attributes that are kept as they are sent and mean nothing here.
const KEPT: &[&str] = &["addresses", "photos", "profileUrl", "roles"];

fn seen<'a>(call: &'a Call<'_>, request: &Request) -> Result<&'a Account, Failure> {
    let home = call.home();
    let id = request.id.as_deref().unwrap_or_default();
    let found = call.world.users.get(id).filter(|account| account.home == home && account.bot.is_none());
    found.ok_or_else(|| Failure::new(404, "user_not_found"))
}

fn shown(call: &Call<'_>, version: Version, account: &Account) -> Value {
    let (given, family) = names_of(&account.real_name);
    let groups: Vec<Value> = call
        .world
        .groups
        .values()
        .filter(|group| group.home == account.home && group.users.contains(&account.id))
        .map(|group| json!({"value": group.id, "display": group.name}))
        .collect();
    let display = account.profile.get("display_name").and_then(Value::as_str).unwrap_or(&account.real_name);
    let mut out = json!({
        "schemas": [version.schema("user"), version.schema("enterprise")],
        "id": account.id,
        // Slack's page does not list it among the attributes and shows it empty; slackapi/python-slack-sdk#1347 never had
        // it back. It is kept in the world, and is not shown.
        "externalId": "",
        "meta": {
            "created": instant(account.created_s),
            "location": format!("https://api.slack.example/scim/{}/Users/{}", version.path(), account.id),
        },
        "userName": account.name,
        "nickName": account.name,
        "name": {"givenName": given, "familyName": family},
        "displayName": display,
        "profileUrl": format!("https://acme.slack.example/team/{}", account.name),
        "title": account.profile.get("title").cloned().unwrap_or_else(|| json!("")),
        "timezone": account.scim.get("timezone").cloned().unwrap_or_else(|| json!("Europe/Paris")),
        "active": account.active,
        "emails": [{"value": account.email, "type": null, "primary": true}],
        "photos": [{"value": "https://avatars.example/512.png", "type": "photo"}],
        "groups": groups,
    });
    if let Some(object) = out.as_object_mut() {
        for name in KEPT.iter().chain(&["phoneNumbers"]) {
            if let Some(value) = account.scim.get(*name) {
                object.insert((*name).to_owned(), value.clone());
            }
        }
        for which in ["enterprise", "guest"] {
            let schema = version.schema(which);
            if let Some(value) = account.scim.get(which) {
                object.insert(schema, value.clone());
            }
        }
    }
    out
}

pub(super) fn list(call: &mut Call<'_>, request: &Request) -> Done {
    let filter = request.query.text("filter").filter(|text| !text.trim().is_empty());
    let filter = filter.map(|text| Filter::parse(&text)).transpose()?;
    let home = call.home();
    let all = call
        .world
        .users
        .values()
        .filter(|account| account.home == home && account.bot.is_none())
        .map(|account| shown(call, request.version, account))
        .filter(|resource| filter.as_ref().is_none_or(|filter| filter.fits(resource)))
        .collect();
    page(request, all)
}

pub(super) fn read(call: &mut Call<'_>, request: &Request) -> Done {
    let account = seen(call, request)?;
    Ok(shown(call, request.version, account))
}

/// The primary address of a list of e-mails, else the first.
fn address(emails: &Value) -> Option<String> {
    let list = emails.as_array()?;
    let primary = list.iter().find(|item| item["primary"].as_bool() == Some(true)).or_else(|| list.first())?;
    primary["value"].as_str().or_else(|| primary.as_str()).map(str::to_owned)
}

fn check_free(call: &Call<'_>, name: Option<&str>, email: Option<&str>, except: Option<&str>) -> Result<(), Failure> {
    let home = call.home();
    let other = |account: Option<&Account>| account.is_some_and(|account| Some(account.id.as_str()) != except);
    if let Some(name) = name {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
        if name.is_empty() || !name.chars().all(fits) {
            return Err(Failure::new(400, "invalid_username"));
        }
        if name.chars().count() > NAME_CHARACTERS_MAX {
            return Err(Failure::new(400, "username_too_long"));
        }
        if RESERVED.contains(&name) {
            return Err(Failure::new(400, "username_not_allowed"));
        }
        if other(call.world.account_by_name(&home, name)) || is_channel(call, &home, name) {
            return Err(Failure::new(409, "username_taken"));
        }
    }
    if let Some(email) = email {
        if !email.contains('@') {
            return Err(Failure::new(400, "invalid_email"));
        }
        if other(call.world.account_by_email(&home, email)) {
            return Err(Failure::new(409, "email_taken"));
        }
    }
    Ok(())
}

/// Whether a channel has the name, in a workspace of the account's home (Slack's page of SCIM, `username_taken`).
fn is_channel(call: &Call<'_>, home: &str, name: &str) -> bool {
    call.world
        .channels
        .values()
        .any(|channel| channel.name == name && channel.teams.iter().any(|team| call.world.home_of(team) == home))
}

/// What is wrong with the values of a body, whoever's account it is for.
fn check_values(version: Version, body: &Map<String, Value>) -> Result<(), Failure> {
    // `manager.value` is the standard's; Slack reads `managerId` (Slack's page of SCIM; goauthentik/authentik#21857).
    let manager = body.get(&version.schema("enterprise")).and_then(|extension| extension.get("manager"));
    if manager.is_some_and(|manager| !manager.is_null() && !manager["managerId"].is_string()) {
        return Err(Failure::new(400, "improper_enterprise_schema_format"));
    }
    let display = body.get("displayName").and_then(Value::as_str).unwrap_or_default();
    display_fault(display).map_or(Ok(()), |fault| Err(Failure::new(400, fault)))
}

/// Why Slack does not take a display name (Slack's page of SCIM, its list of errors).
fn display_fault(name: &str) -> Option<&'static str> {
    let is_emoji = |c: char| matches!(u32::from(c), 0x2600..=0x27bf | 0xfe0f | 0x1_f000..=0x1_faff);
    if name.starts_with('@') {
        Some("invalid_starts_with_at")
    } else if name.chars().any(is_emoji) {
        Some("invalid_emoji_not_allowed")
    } else if name.chars().any(char::is_control) {
        Some("invalid_name_specials")
    } else {
        None
    }
}

/// What becomes of the numbers: a list is added to what is there, and there is one primary number (seen with e-mails:
/// yamitzky/slack-admin-cli#15; the code of the refusal is not known).
fn numbers(account: &Account, wanted: &Value) -> Result<Value, Failure> {
    let there = account.scim.get("phoneNumbers").and_then(Value::as_array).cloned().unwrap_or_default();
    let all = match wanted {
        Value::Null => Vec::new(),
        Value::Array(list) => there.into_iter().chain(list.iter().cloned()).collect(),
        Value::Object(picked) => picked_numbers(there, picked)?,
        _ => return Err(Failure::new(400, "invalid_phone_number")),
    };
    let primary = all.iter().filter(|number| number["primary"].as_bool() == Some(true)).count();
    if primary > 1 { Err(Failure::new(400, "invalid_phone_number")) } else { Ok(Value::Array(all)) }
}

/// The numbers after changes by filter: `primary eq true` or `type eq "mobile"` and the new value.
fn picked_numbers(mut there: Vec<Value>, picked: &Map<String, Value>) -> Result<Vec<Value>, Failure> {
    for (filter, value) in picked {
        let is_it = |number: &Value| match filter.split_once(" eq ") {
            Some((name, "true")) => number[name].as_bool() == Some(true),
            Some((name, text)) => number[name].as_str() == Some(text.trim_matches('"')),
            None => false,
        };
        let one = there.iter_mut().find(|number| is_it(number));
        one.ok_or_else(|| Failure::new(400, "no_target"))?["value"] = value.clone();
    }
    Ok(there)
}

/// Sets what the body names and answers what changed.
fn set(account: &mut Account, version: Version, body: &Map<String, Value>) -> Map<String, Value> {
    let mut effect = Map::new();
    let mut text = |name: &str, place: &mut String, value: Option<&str>| {
        if let Some(value) = value.filter(|value| *value != place) {
            let before = std::mem::replace(place, value.to_owned());
            effect.insert(name.to_owned(), json!({"before": before, "after": value}));
        }
    };
    text("userName", &mut account.name, body.get("userName").and_then(Value::as_str));
    text("email", &mut account.email, body.get("emails").and_then(address).as_deref());
    let (given, family) = names_of(&account.real_name);
    let part = |key: &str, old: &str| body.get("name").and_then(|name| name[key].as_str()).unwrap_or(old).to_owned();
    let full = format!("{} {}", part("givenName", &given), part("familyName", &family)).trim().to_owned();
    text("name", &mut account.real_name, Some(full.as_str()).filter(|full| !full.is_empty()));
    if let Some(external) = body.get("externalId") {
        let after = external.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        if after != account.external_id {
            effect.insert("externalId".to_owned(), json!({"before": account.external_id, "after": after}));
            account.external_id = after;
        }
    }
    for (scim, profile) in [("title", "title"), ("displayName", "display_name")] {
        let Some(value) = body.get(scim) else { continue };
        let value = if value.is_null() { json!("") } else { value.clone() };
        let before = account.profile.insert(profile.to_owned(), value.clone());
        if before.as_ref() != Some(&value) {
            effect.insert(scim.to_owned(), json!({"before": before, "after": value}));
        }
    }
    for name in KEPT.iter().chain(&["timezone"]) {
        if let Some(value) = body.get(*name) {
            account.scim.insert((*name).to_owned(), value.clone());
        }
    }
    for which in ["enterprise", "guest"] {
        if let Some(value) = body.get(&version.schema(which)) {
            account.scim.insert(which.to_owned(), value.clone());
        }
    }
    effect
}

/// The role that the guest extension asks for. A multi-channel guest takes Enterprise, a single-channel one cannot be made.
fn role(call: &Call<'_>, version: Version, body: &Map<String, Value>) -> Result<Role, Failure> {
    match body.get(&version.schema("guest")).and_then(|guest| guest["type"].as_str()) {
        None => Ok(Role::Member),
        Some("multi") if call.plan() >= Plan::Enterprise => Ok(Role::MultiChannelGuest),
        Some("multi") => Err(Failure::new(403, "plan_upgrade_required")),
        Some(_) => Err(Failure::new(400, "invalid_guest_type")),
    }
}

/// Makes an account: a member of the workspace, or of an organisation without any workspace yet.
pub(super) fn create(call: &mut Call<'_>, request: &Request, body: &Map<String, Value>) -> Done {
    let name = body.get("userName").and_then(Value::as_str).ok_or_else(|| Failure::new(400, "missing_username"))?;
    let email = body.get("emails").and_then(address).ok_or_else(|| Failure::new(400, "missing_email"))?;
    check_free(call, Some(name), Some(&email), None)?;
    check_values(request.version, body)?;
    let part =
        |name: &str| body.get("name").and_then(|names| names[name].as_str()).unwrap_or_default().trim().is_empty();
    if part("givenName") && part("familyName") {
        return Err(Failure::new(400, "invalid_name_required"));
    }
    let role = role(call, request.version, body)?;
    if call.world.users.len() >= ACCOUNTS_MAX {
        return Err(Failure::new(403, "user_limit_reached"));
    }
    let (id, now_s, home) = (call.world.fresh_id('U'), call.now_s(), call.home());
    let mut account = Account {
        id: id.clone(),
        real_name: name.to_owned(),
        home: home.clone(),
        active: body.get("active").and_then(Value::as_bool).unwrap_or(true),
        created_s: now_s,
        updated_s: now_s,
        ..Account::default()
    };
    account.real_name.clear();
    if let Some(wanted) = body.get("phoneNumbers") {
        let numbers = numbers(&account, wanted)?;
        account.scim.insert("phoneNumbers".to_owned(), numbers);
    }
    set(&mut account, request.version, body);
    let active = account.active;
    call.world.users.insert(id.clone(), account);
    if active && call.world.workspaces.contains_key(&home) {
        call.world.enrol(&home, &id, role, false);
    }
    call.audit("user_created", json!({"type": "user", "user": {"id": id}}));
    call.changed(json!({"user": id, "userName": name, "email": email, "active": active, "home": home}));
    let account = call.world.users.get(&id).ok_or_else(|| Failure::new(500, "internal_error"))?;
    Ok(shown(call, request.version, account))
}

/// The attributes that a PUT sets; the others it clears, except those that an account cannot be without.
pub(super) fn replace(call: &mut Call<'_>, request: &Request, body: &Map<String, Value>) -> Done {
    let mut whole = body.clone();
    for name in ["title", "externalId"] {
        whole.entry(name.to_owned()).or_insert(Value::Null);
    }
    change(call, request, &whole)
}

pub(super) fn patch(call: &mut Call<'_>, request: &Request, body: &Map<String, Value>) -> Done {
    change(call, request, &patch::attributes(body)?)
}

fn change(call: &mut Call<'_>, request: &Request, wanted: &Map<String, Value>) -> Done {
    let account = seen(call, request)?;
    let (id, was_active) = (account.id.clone(), account.active);
    let active = match wanted.get("active") {
        None => was_active,
        Some(Value::Bool(active)) => *active,
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => true,
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => false,
        Some(_) => return Err(Failure::new(400, "invalid_active")),
    };
    let name = wanted.get("userName").and_then(Value::as_str);
    let email = wanted.get("emails").and_then(address);
    check_free(call, name, email.as_deref(), Some(&id))?;
    check_values(request.version, wanted)?;
    if !active {
        may_switch_off(call, account)?;
    }
    let display = account.profile.get("display_name").and_then(Value::as_str).unwrap_or(&account.real_name);
    let another = wanted.get("displayName").and_then(Value::as_str).is_some_and(|wanted| wanted != display);
    if another && call.world.locked_display_names.contains(&account.home) {
        // The whole change is refused with it (Slack's page of SCIM; Okta's article on the code).
        return Err(Failure::new(400, "invalid_display_name"));
    }
    let numbers = wanted.get("phoneNumbers").map(|wanted| numbers(account, wanted)).transpose()?;
    let now_s = call.now_s();
    let missing = || Failure::new(404, "user_not_found");
    let account = call.world.users.get_mut(&id).ok_or_else(missing)?;
    let mut effect = set(account, request.version, wanted);
    if let Some(numbers) = numbers {
        let before = account.scim.insert("phoneNumbers".to_owned(), numbers.clone());
        if before.as_ref() != Some(&numbers) {
            effect.insert("phoneNumbers".to_owned(), json!({"before": before, "after": numbers}));
        }
    }
    if !effect.is_empty() {
        account.updated_s = now_s;
    }
    if was_active && !active {
        switch_off(call, &id, &mut effect);
    } else if !was_active && active {
        call.world.reactivate(&id, now_s);
        effect.insert("active".to_owned(), json!({"before": false, "after": true}));
        call.audit("user_reactivated", json!({"type": "user", "user": {"id": id}}));
    }
    let changed = !effect.is_empty();
    effect.insert("user".to_owned(), json!(id));
    call.record(changed, Value::Object(effect));
    let account = call.world.users.get(&id).ok_or_else(missing)?;
    Ok(shown(call, request.version, account))
}

fn highest_role(account: &Account) -> Option<Role> {
    // The order of roles is from the highest down.
    account
        .workspaces()
        .iter()
        .filter_map(|workspace| account.role_in(workspace))
        .chain(account.organisation_role)
        .min()
}

/// Nobody switches off a Primary Owner, and an Admin's token no Owner (Slack's page of SCIM, `cannot_disable_primary_owner`,
/// `cannot_modify_owner`).
fn may_switch_off(call: &Call<'_>, account: &Account) -> Result<(), Failure> {
    match highest_role(account) {
        Some(Role::PrimaryOwner) => Err(Failure::new(403, "cannot_disable_primary_owner")),
        Some(role) if role.is_owner() && !call.acting_role().is_some_and(Role::is_owner) => {
            Err(Failure::new(403, "cannot_modify_owner"))
        }
        _ => Ok(()),
    }
}

fn switch_off(call: &mut Call<'_>, id: &str, effect: &mut Map<String, Value>) {
    let now_s = call.now_s();
    if let Value::Object(lost) = call.world.deactivate(id, now_s) {
        effect.extend(lost);
    }
    call.audit("user_deactivated", json!({"type": "user", "user": {"id": id}}));
}

/// Deactivates: Slack deletes nobody.
pub(super) fn delete(call: &mut Call<'_>, request: &Request) -> Done {
    let account = seen(call, request)?;
    let (id, active) = (account.id.clone(), account.active);
    may_switch_off(call, account)?;
    let mut effect = Map::from_iter([("user".to_owned(), json!(id))]);
    if active {
        switch_off(call, &id, &mut effect);
        call.changed(Value::Object(effect));
    } else {
        effect.insert("active".to_owned(), json!({"before": false, "after": false}));
        call.unchanged(Value::Object(effect));
    }
    Ok(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_p15_a_display_name_is_taken_as_slack_takes_it() {
        for (name, fault) in [
            ("Ada", None),
            ("Ada O'Brien-Smith", None),
            ("\u{5d0}\u{5d3}\u{5d4}", None),
            ("@ada", Some("invalid_starts_with_at")),
            ("Ada \u{1f389}", Some("invalid_emoji_not_allowed")),
            ("Ada\tL", Some("invalid_name_specials")),
        ] {
            assert_eq!(display_fault(name), fault, "{name}");
        }
    }
}
