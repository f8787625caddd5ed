//! Accounts, by SCIM: made, switched off and on.

use bellhop_plugin::{Class, Context, Done, Failure, action, input, output, slack};
use serde_json::{Map, Value, json};

use crate::person::{email, is_active, same_email};

const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
const PATCH: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";

/// The account whose attribute has this value, if there is one.
pub(crate) fn find(attribute: &str, value: &str) -> Result<Option<Value>, slack::Error> {
    // A JSON string is what a filter takes as its value; written so, no value can become a part of the filter.
    let filter = format!("{attribute} eq {}", Value::from(value));
    let answer = slack::scim_users::list(json!({ "filter": filter, "count": 2 }))?;
    Ok(slack::list(&answer, "/Resources").first().cloned())
}

/// Sets attributes of an account; those that are not named stay.
pub(crate) fn patch(user: &slack::UserId, operations: &[(&str, Value)]) -> Result<Value, slack::Error> {
    let operations: Vec<Value> =
        operations.iter().map(|(path, value)| json!({ "op": "replace", "path": path, "value": value })).collect();
    slack::scim_users::patch(json!({ "id": user, "schemas": [PATCH], "Operations": operations }))
}

/// Who gets an account.
#[input]
pub(crate) struct Provision {
    /// The e-mail.
    #[schemars(length(min = 3, max = 254), extend("format" = "email"))]
    email: String,
    /// The first name.
    #[schemars(length(min = 1, max = 80))]
    first_name: String,
    /// The last name.
    #[schemars(length(min = 1, max = 80))]
    last_name: String,
    /// The user name; the e-mail's part before the `@` where it is left out.
    #[serde(default)]
    #[schemars(length(min = 1, max = 80))]
    user_name: Option<String>,
    /// The name that others see.
    #[serde(default)]
    #[schemars(length(max = 80))]
    display_name: Option<String>,
    /// The title in the profile.
    #[serde(default)]
    #[schemars(length(max = 255))]
    title: Option<String>,
    /// The person's id in the system that the account is made for. An account with the same e-mail and another id here
    /// counts as somebody else's.
    #[serde(default)]
    #[schemars(length(min = 1, max = 255))]
    external_id: Option<String>,
    /// The time zone, as `Europe/Paris`.
    #[serde(default)]
    time_zone: Option<String>,
    /// The department.
    #[serde(default)]
    department: Option<String>,
    /// The employee number.
    #[serde(default)]
    employee_number: Option<String>,
    /// The manager.
    #[serde(default)]
    manager: Option<slack::UserId>,
}

/// The account.
#[output]
pub(crate) struct Provisioned {
    /// The person's id.
    user: String,
    /// The e-mail.
    email: String,
    /// The user name.
    user_name: Option<String>,
    /// How many licences it takes more than before.
    licences: i8,
}

/// Makes an account: a full member of the workspace, or a person of the organisation who is in no workspace yet. Takes a
/// licence.
#[action(
    name = "user.provision",
    title = "Create an account",
    effect = "create",
    licence = "adds",
    purposes("onboarding", "access-request"),
    inverse = "user.deactivate",
    error("user-deactivated", 409, "The person has a deactivated account: reactivate it with `user.reactivate`."),
    error("user-name-taken", 409, "Somebody else has the e-mail or the user name: choose another."),
    calls(on("workspace", "grid-org"), always("scim-users.create"), maybe("scim-users.list"))
)]
pub(crate) fn provision(_: &Context, input: &Provision) -> Result<Done<Provisioned>, Failure> {
    let user_name = input.user_name.clone().unwrap_or_else(|| user_name_of(&input.email));
    match slack::scim_users::create(resource(input, &user_name)) {
        Ok(made) => {
            let user = slack::text(&made, "/id")?.to_owned();
            let undo = json!({ "user": user });
            Ok(Done::changed(provisioned(&made, input, 1)?).undo("user.deactivate", undo))
        }
        Err(refusal) if refusal.code == "already-exists" || refusal.is(&["scim-409"]) => {
            existing(input, &user_name, refusal)
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// Whether the account that is there is the one that was asked for.
fn existing(input: &Provision, user_name: &str, refusal: slack::Error) -> Result<Done<Provisioned>, Failure> {
    let taken = |what: &str, account: &Value| {
        let details = json!({ "user": account["id"], "externalId": account["externalId"] });
        Failure::new("user-name-taken", format!("{what}: choose another")).details(details)
    };
    let Some(account) = find("email", &input.email)?.filter(|a| email(a).is_some_and(|e| same_email(&e, &input.email)))
    else {
        return Err(match find("userName", user_name)? {
            Some(account) => taken(&format!("somebody else has the user name `{user_name}`"), &account),
            // Slack says that there is one and does not show it.
            None => refusal.into(),
        });
    };
    let external = account["externalId"].as_str().filter(|id| !id.is_empty());
    if input.external_id.is_some() && input.external_id.as_deref() != external {
        return Err(taken("the e-mail belongs to an account of another external id", &account));
    }
    if is_active(&account) {
        return Ok(Done::unchanged(provisioned(&account, input, 0)?));
    }
    Err(deactivated(slack::text(&account, "/id")?))
}

/// An account that has to be switched on again first.
pub(crate) fn deactivated(user: &str) -> Failure {
    Failure::new("user-deactivated", "the account is deactivated: reactivate it with `user.reactivate`")
        .class(Class::Fatal)
        .details(json!({ "user": user, "remedy": { "action": "user.reactivate", "input": { "user": user } } }))
}

fn user_name_of(email: &str) -> String {
    email.split('@').next().unwrap_or(email).to_lowercase()
}

fn resource(input: &Provision, user_name: &str) -> Value {
    let mut resource = json!({
        "schemas": [USER],
        "userName": user_name,
        "name": { "givenName": input.first_name, "familyName": input.last_name },
        "emails": [{ "value": input.email, "type": "work", "primary": true }],
        "active": true,
        "displayName": input.display_name,
        "title": input.title,
        "externalId": input.external_id,
        "timezone": input.time_zone,
    });
    let mut extension = Map::new();
    for (name, value) in [("department", &input.department), ("employeeNumber", &input.employee_number)] {
        if let Some(value) = value {
            extension.insert(name.to_owned(), value.as_str().into());
        }
    }
    if let Some(manager) = &input.manager {
        extension.insert("manager".to_owned(), json!({ "value": manager }));
    }
    if !extension.is_empty() {
        resource[ENTERPRISE] = Value::Object(extension);
        resource["schemas"] = json!([USER, ENTERPRISE]);
    }
    resource
}

fn provisioned(account: &Value, input: &Provision, licences: i8) -> Result<Provisioned, slack::Error> {
    Ok(Provisioned {
        user: slack::text(account, "/id")?.to_owned(),
        email: email(account).unwrap_or_else(|| input.email.clone()),
        user_name: account["userName"].as_str().map(str::to_owned),
        licences,
    })
}

/// Whose account.
#[input]
pub(crate) struct Whose {
    /// The person.
    user: slack::UserId,
}

/// The account, switched.
#[output]
pub(crate) struct Switched {
    /// The person's id.
    user: String,
    /// Whether the account can be used now.
    active: bool,
    /// How many licences it takes more than before; negative for fewer.
    licences: i8,
}

/// Deactivates an account everywhere: in the workspace, or in all workspaces of the organisation. Frees a licence.
#[action(
    name = "user.deactivate",
    title = "Deactivate an account",
    effect = "delete",
    licence = "reclaims",
    inverse = "user.reactivate",
    calls(on("workspace", "grid-org"), always("scim-users.get"), maybe("scim-users.patch"))
)]
pub(crate) fn deactivate(_: &Context, input: &Whose) -> Result<Done<Switched>, Failure> {
    switch(&input.user, false, "user.reactivate")
}

/// Makes a deactivated account usable again. Takes a licence.
#[action(
    name = "user.reactivate",
    title = "Reactivate an account",
    effect = "update",
    licence = "adds",
    inverse = "user.deactivate",
    calls(on("workspace", "grid-org"), always("scim-users.get"), maybe("scim-users.patch"))
)]
pub(crate) fn reactivate(_: &Context, input: &Whose) -> Result<Done<Switched>, Failure> {
    switch(&input.user, true, "user.deactivate")
}

fn switch(user: &slack::UserId, active: bool, inverse: &'static str) -> Result<Done<Switched>, Failure> {
    let account = slack::scim_users::get(json!({ "id": user }))?;
    let switched = |licences| Switched { user: user.to_string(), active, licences };
    if is_active(&account) == active {
        return Ok(Done::unchanged(switched(0)));
    }
    patch(user, &[("active", active.into())])?;
    Ok(Done::changed(switched(if active { 1 } else { -1 })).undo(inverse, json!({ "user": user })))
}

/// Signs a person out on all devices and deactivates the account in the whole organisation, so that nothing that was open
/// stays open. Frees a licence. Nothing undoes it by itself; `user.reactivate` does.
#[action(
    name = "user.suspend",
    title = "Suspend a person",
    effect = "delete",
    licence = "reclaims",
    purposes("offboarding", "access-review", "licence"),
    calls(on("grid-org"), always("scim-users.get"), maybe("admin-users-session.reset", "scim-users.patch"))
)]
pub(crate) fn suspend(_: &Context, input: &Whose) -> Result<Done<Switched>, Failure> {
    let account = slack::scim_users::get(json!({ "id": input.user }))?;
    let switched = |licences| Switched { user: input.user.to_string(), active: false, licences };
    if !is_active(&account) {
        return Ok(Done::unchanged(switched(0)));
    }
    slack::admin_users_session::reset(json!({ "user_id": input.user }))?;
    patch(&input.user, &[("active", false.into())])?;
    Ok(Done::changed(switched(-1)))
}
