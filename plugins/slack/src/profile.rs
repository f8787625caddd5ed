//! What others see of a person.

use std::collections::BTreeMap;

use bellhop_plugin::{Context, Done, Failure, action, input, output, slack};
use serde_json::{Map, Value, json};

use crate::provisioning::{self, Operation};

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
    /// The telephone number; over an organisation's connection the one at work, which Slack calls the primary one.
    #[serde(default)]
    phone: Option<String>,
    /// The mobile number. Over an organisation's connection only.
    #[serde(default)]
    mobile_phone: Option<String>,
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
    /// The fields that Slack keeps people from setting here, which stay as they are.
    not_set: Vec<String>,
}

/// Sets fields of a person's profile.
#[action(
    name = "user.set-profile",
    title = "Change a person's profile",
    effect = "update",
    error(
        "field-not-settable",
        400,
        "The field cannot be set: over this kind of connection, or because it is locked."
    ),
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
    if input.mobile_phone.is_some() {
        return Err(not_settable("mobilePhone", "over an organisation's connection only"));
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
    let mut changed: Vec<String> = wanted.keys().chain(custom.keys()).cloned().collect();
    let done = |changed, not_set| ProfileSet { user: input.user.to_string(), changed, not_set };
    if changed.is_empty() {
        return Ok(Done::unchanged(done(changed, Vec::new())));
    }
    let ids: Vec<String> = custom.keys().cloned().collect();
    if !custom.is_empty() {
        wanted.insert("fields".to_owned(), Value::Object(custom));
    }
    slack::users_profile::set(json!({ "user": input.user, "profile": wanted }))?;
    let not_set = if ids.is_empty() { Vec::new() } else { not_taken(input, ids)? };
    changed.retain(|field| !not_set.contains(field));
    let has_changed = !changed.is_empty();
    let done = done(changed, not_set);
    Ok(if has_changed { Done::changed(done) } else { Done::unchanged(done) })
}

/// Which of these custom fields have another value than was written: Slack answers well, and keeps what an identity provider
/// or an administrator holds.
fn not_taken(input: &SetProfile, ids: Vec<String>) -> Result<Vec<String>, slack::Error> {
    let answer = slack::users_profile::get(json!({ "user": input.user }))?;
    let there = |id: &String| answer["profile"]["fields"][id.as_str()]["value"].as_str().unwrap_or_default();
    let wanted = |id: &String| input.fields.get(id).map_or("", String::as_str);
    Ok(ids.into_iter().filter(|id| there(id) != wanted(id)).collect())
}

fn not_settable(field: &str, why: &str) -> Failure {
    Failure::new("field-not-settable", format!("`{field}` can be set {why}")).details(json!({ "field": field }))
}

const DISPLAY_NAME: &str = "displayName";

fn in_organisation(input: &SetProfile) -> Result<Done<ProfileSet>, Failure> {
    for (name, given) in [
        ("statusText", input.status_text.is_some()),
        ("statusEmoji", input.status_emoji.is_some()),
        ("statusExpiresAt", input.status_expires_at.is_some()),
        ("fields", !input.fields.is_empty()),
    ] {
        if given {
            return Err(not_settable(name, "over a workspace's connection only"));
        }
    }
    let texts = [
        ("name.givenName", "/name/givenName", &input.first_name),
        ("name.familyName", "/name/familyName", &input.last_name),
        (DISPLAY_NAME, "/displayName", &input.display_name),
        ("title", "/title", &input.title),
    ];
    let numbers = [(Number::Work, &input.phone), (Number::Mobile, &input.mobile_phone)];
    let is_given = |value: &Option<String>| value.is_some();
    if !texts.iter().any(|(_, _, value)| is_given(value)) && !numbers.iter().any(|(_, value)| is_given(value)) {
        return Err(nothing());
    }
    let account = slack::scim_users::get(json!({ "id": input.user }))?;
    let texts = texts.into_iter().filter_map(|(path, pointer, value)| {
        let value = value.as_deref()?;
        let there = account.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        (there != value).then(|| Operation::replace(path, value))
    });
    let numbers = numbers.into_iter().filter_map(|(kind, value)| kind.set(&account, value.as_deref()?));
    let mut operations: Vec<Operation> = texts.chain(numbers).collect();
    let mut not_set = Vec::new();
    if operations.is_empty() {
        return Ok(Done::unchanged(ProfileSet { user: input.user.to_string(), changed: Vec::new(), not_set }));
    }
    let is_named = operations.iter().any(|operation| operation.path == DISPLAY_NAME);
    match provisioning::patch(&input.user, &operations) {
        Ok(_) => {}
        Err(refusal) => {
            let Some(word) = provisioning::refuses_display_name(&refusal).filter(|_| is_named) else {
                return Err(refusal.into());
            };
            operations.retain(|operation| operation.path != DISPLAY_NAME);
            if operations.is_empty() {
                return Err(not_settable(DISPLAY_NAME, &format!("otherwise: Slack answered `{word}`")));
            }
            provisioning::patch(&input.user, &operations)?;
            not_set.push(DISPLAY_NAME.to_owned());
        }
    }
    let named = |operation: &Operation| operation.path.split('[').next().unwrap_or_default().to_owned();
    let changed = operations.iter().map(named).collect();
    Ok(Done::changed(ProfileSet { user: input.user.to_string(), changed, not_set }))
}

/// Which of a person's numbers.
#[derive(Clone, Copy)]
enum Number {
    Work,
    Mobile,
}

impl Number {
    fn is(self, number: &Value) -> bool {
        match self {
            // Of two numbers the mobile one stands first and the primary one second (Slack's page of SCIM).
            Self::Work => number["primary"].as_bool() == Some(true),
            Self::Mobile => number["type"].as_str() == Some("mobile"),
        }
    }

    /// What makes it `value`; none where it is that already. A list that is replaced whole acts as added to, and a second
    /// primary number is refused, so that one number is named.
    fn set(self, account: &Value, value: &str) -> Option<Operation> {
        let there = slack::list(account, "/phoneNumbers").iter().find(|number| self.is(number));
        if there.is_some_and(|number| number["value"].as_str() == Some(value)) {
            return None;
        }
        let (path, one) = match self {
            Self::Work => ("phoneNumbers[primary eq true].value", json!({ "value": value, "primary": true })),
            Self::Mobile => (r#"phoneNumbers[type eq "mobile"].value"#, json!({ "value": value, "type": "mobile" })),
        };
        Some(match there {
            Some(_) => Operation::replace(path, value),
            None => Operation { kind: "add", path: "phoneNumbers", value: json!([one]) },
        })
    }
}
