//! What others see of a person.

use std::collections::BTreeMap;

use bellhop_plugin::{Context, Done, Failure, action, input, output, slack};
use serde_json::{Map, Value, json};

use crate::provisioning;

/// Whose profile becomes what. What is left out stays.
#[input]
pub(crate) struct SetProfile {
    /// The person.
    user: slack::UserId,
    /// The first name.
    #[serde(default)]
    first_name: Option<String>,
    /// The last name.
    #[serde(default)]
    last_name: Option<String>,
    /// The name that others see.
    #[serde(default)]
    #[schemars(length(max = 80))]
    display_name: Option<String>,
    /// The title.
    #[serde(default)]
    #[schemars(length(max = 255))]
    title: Option<String>,
    /// The telephone number.
    #[serde(default)]
    phone: Option<String>,
    /// The status text. Not over an organisation's connection.
    #[serde(default)]
    #[schemars(length(max = 100))]
    status_text: Option<String>,
    /// The status emoji, as `:palm_tree:`. Not over an organisation's connection.
    #[serde(default)]
    status_emoji: Option<String>,
    /// When the status ends, in seconds since 1970; 0: never. Not over an organisation's connection.
    #[serde(default)]
    status_expires_at: Option<u64>,
    /// Custom fields by their ids (`Xf…`). Not over an organisation's connection.
    #[serde(default)]
    fields: BTreeMap<String, String>,
}

/// The profile.
#[output]
pub(crate) struct ProfileSet {
    /// The person's id.
    user: String,
    /// The fields that have another value now.
    changed: Vec<String>,
}

/// Sets fields of a person's profile.
#[action(
    name = "user.set-profile",
    title = "Change a person's profile",
    effect = "update",
    error("field-not-settable", 400, "The field cannot be set over this kind of connection."),
    calls(on("workspace", "grid-workspace"), always("users-profile.get"), maybe("users-profile.set")),
    calls(on("grid-org"), always("scim-users.get"), maybe("scim-users.patch"))
)]
pub(crate) fn set_profile(context: &Context, input: &SetProfile) -> Result<Done<ProfileSet>, Failure> {
    if context.on_org() { in_organisation(input) } else { in_workspace(input) }
}

fn nothing() -> Failure {
    Failure::new("invalid-arguments", "no field of the profile is given")
}

fn in_workspace(input: &SetProfile) -> Result<Done<ProfileSet>, Failure> {
    let mut wanted = Map::new();
    for (name, value) in [
        ("first_name", &input.first_name),
        ("last_name", &input.last_name),
        ("display_name", &input.display_name),
        ("title", &input.title),
        ("phone", &input.phone),
        ("status_text", &input.status_text),
        ("status_emoji", &input.status_emoji),
    ] {
        if let Some(value) = value {
            wanted.insert(name.to_owned(), value.as_str().into());
        }
    }
    if let Some(at) = input.status_expires_at {
        wanted.insert("status_expiration".to_owned(), at.into());
    }
    if wanted.is_empty() && input.fields.is_empty() {
        return Err(nothing());
    }
    let answer = slack::users_profile::get(json!({ "user": input.user }))?;
    let profile = &answer["profile"];
    wanted.retain(|name, value| profile.get(name) != Some(value));
    let custom: Map<String, Value> = input
        .fields
        .iter()
        .filter(|(id, value)| profile["fields"][id.as_str()]["value"].as_str() != Some(value))
        .map(|(id, value)| (id.clone(), json!({ "value": value, "alt": "" })))
        .collect();
    let changed: Vec<String> = wanted.keys().chain(custom.keys()).cloned().collect();
    let done = ProfileSet { user: input.user.to_string(), changed };
    if done.changed.is_empty() {
        return Ok(Done::unchanged(done));
    }
    if !custom.is_empty() {
        wanted.insert("fields".to_owned(), Value::Object(custom));
    }
    slack::users_profile::set(json!({ "user": input.user, "profile": wanted }))?;
    Ok(Done::changed(done))
}

fn in_organisation(input: &SetProfile) -> Result<Done<ProfileSet>, Failure> {
    for (name, given) in [
        ("statusText", input.status_text.is_some()),
        ("statusEmoji", input.status_emoji.is_some()),
        ("statusExpiresAt", input.status_expires_at.is_some()),
        ("fields", !input.fields.is_empty()),
    ] {
        if given {
            let message = format!("`{name}` can be set over a workspace's connection only");
            return Err(Failure::new("field-not-settable", message).details(json!({ "field": name })));
        }
    }
    let texts = [
        ("name.givenName", "/name/givenName", &input.first_name),
        ("name.familyName", "/name/familyName", &input.last_name),
        ("displayName", "/displayName", &input.display_name),
        ("title", "/title", &input.title),
        ("phoneNumbers", "/phoneNumbers/0/value", &input.phone),
    ];
    if texts.iter().all(|(_, _, value)| value.is_none()) {
        return Err(nothing());
    }
    let account = slack::scim_users::get(json!({ "id": input.user }))?;
    let operations: Vec<(&str, Value)> = texts
        .iter()
        .filter_map(|(path, pointer, value)| {
            let value = value.as_deref()?;
            let there = account.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            (there != value).then(|| match *path {
                "phoneNumbers" => (*path, json!([{ "value": value, "primary": true }])),
                _ => (*path, value.into()),
            })
        })
        .collect();
    let changed = operations.iter().map(|(path, _)| (*path).to_owned()).collect();
    let done = ProfileSet { user: input.user.to_string(), changed };
    if operations.is_empty() {
        return Ok(Done::unchanged(done));
    }
    provisioning::patch(&input.user, &operations)?;
    Ok(Done::changed(done))
}
