//! Accounts, by SCIM: made, switched off and on.

use bellhop_plugin::{Class, Context, Done, Failure, action, input, output, slack};
use serde_json::{Map, Value, json};

use crate::person::{email, is_active, same_email};
use crate::user_name;

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

/// One change of an account.
pub(crate) struct Operation {
    /// `replace`, or `add` for one more of a list.
    pub(crate) kind: &'static str,
    pub(crate) path: &'static str,
    pub(crate) value: Value,
}

impl Operation {
    pub(crate) fn replace(path: &'static str, value: impl Into<Value>) -> Self {
        Self { kind: "replace", path, value: value.into() }
    }
}

/// Changes attributes of an account; those that are not named stay.
pub(crate) fn patch(user: &slack::UserId, operations: &[Operation]) -> Result<Value, slack::Error> {
    let operations: Vec<Value> = operations
        .iter()
        .map(|Operation { kind, path, value }| json!({ "op": kind, "path": path, "value": value }))
        .collect();
    slack::scim_users::patch(json!({ "id": user, "schemas": [PATCH], "Operations": operations }))
}

/// What SCIM says of a refusal, as `username_taken`.
pub(crate) fn says(refusal: &slack::Error, what: &str) -> bool {
    let detail = refusal.details.as_ref().and_then(|details| details["detail"].as_str());
    detail.is_some_and(|detail| detail.contains(what))
}

/// Who gets an account.
#[input]
pub(crate) struct Provision {
    /// The e-mail.
    #[schemars(length(min = 3, max = 254), extend("format" = "email"))]
    email: String,
    /// The first name. One of the two names may be left out, since some people have one.
    #[serde(default)]
    #[schemars(length(max = 80))]
    first_name: String,
    /// The last name.
    #[serde(default)]
    #[schemars(length(max = 80))]
    last_name: String,
    /// The user name, of lower-case letters, digits, `.`, `-` and `_`. Where it is left out, the e-mail's part before the
    /// `@`, made to fit, and with a number from 2 to 9 behind it where somebody has it already.
    #[serde(default)]
    #[schemars(length(min = 1, max = 21), regex(pattern = "^[a-z0-9._-]+$"))]
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
    /// counts as somebody else's; one without any id is nobody else's.
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
    /// What was asked for and Slack did not take: a display name keeps nobody out.
    not_set: Vec<String>,
    /// Slack's word for that, as `invalid_emoji_not_allowed`.
    not_set_because: Option<String>,
}

/// Slack's words for a display name that it does not take, or that people choose themselves (Slack's page of SCIM). The whole
/// request is refused with it.
const DISPLAY_NAME_REFUSALS: [&str; 4] =
    ["invalid_display_name", "invalid_starts_with_at", "invalid_emoji_not_allowed", "invalid_name_specials"];

/// Which of these a refusal is for.
pub(crate) fn refuses_display_name(refusal: &slack::Error) -> Option<&'static str> {
    DISPLAY_NAME_REFUSALS.into_iter().find(|word| says(refusal, word))
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
    if input.first_name.trim().is_empty() && input.last_name.trim().is_empty() {
        return Err(Failure::new("invalid-arguments", "one of `firstName` and `lastName` is needed"));
    }
    let names = match &input.user_name {
        Some(name) => vec![name.clone()],
        None => user_name::candidates(&input.email),
    };
    let (mut taken, mut refused) = (None, None);
    for name in names {
        match made(input, &name, &mut refused) {
            Ok(made) => {
                let user = slack::text(&made, "/id")?.to_owned();
                let undo = json!({ "user": user });
                let mut provisioned = provisioned(&made, input, 1)?;
                provisioned.not_set = refused.iter().map(|_| "displayName".to_owned()).collect();
                provisioned.not_set_because = refused.map(str::to_owned);
                return Ok(Done::changed(provisioned).undo("user.deactivate", undo));
            }
            Err(refusal) if refusal.code == "already-exists" || refusal.is(&["scim-409"]) => {
                // Whether the e-mail is taken does not depend on the user name.
                if taken.is_none()
                    && let Some(account) = of_email(&input.email)?
                {
                    return existing(input, &account);
                }
                taken = Some(of_user_name(&name, refusal)?);
            }
            Err(refusal) if says(&refusal, "username_not_allowed") => {
                taken = Some(Failure::new(
                    "user-name-taken",
                    format!("Slack does not allow the user name `{name}`: choose another"),
                ));
            }
            Err(refusal) => return Err(refusal.into()),
        }
    }
    Err(taken.unwrap_or_else(|| Failure::new("user-name-taken", "no user name is left to try: choose one")))
}

/// Makes the account, without its display name where Slack does not take that; then `refused` is Slack's word for it.
fn made(input: &Provision, name: &str, refused: &mut Option<&'static str>) -> Result<Value, slack::Error> {
    let display = input.display_name.as_deref().filter(|_| refused.is_none());
    let refusal = match slack::scim_users::create(resource(input, name, display)) {
        Ok(made) => return Ok(made),
        Err(refusal) => refusal,
    };
    match refuses_display_name(&refusal).filter(|_| display.is_some()) {
        Some(word) => {
            *refused = Some(word);
            slack::scim_users::create(resource(input, name, None))
        }
        None => Err(refusal),
    }
}

/// The account that has this e-mail.
fn of_email(address: &str) -> Result<Option<Value>, slack::Error> {
    Ok(find("email", address)?.filter(|account| email(account).is_some_and(|there| same_email(&there, address))))
}

/// That somebody else has the user name; the refusal itself, where neither an account nor Slack's words show that.
fn of_user_name(name: &str, refusal: slack::Error) -> Result<Failure, Failure> {
    match find("userName", name)? {
        Some(account) => Ok(taken(&format!("somebody else has the user name `{name}`"), &account)),
        // A channel can have it, too.
        None if says(&refusal, "username_taken") => {
            Ok(Failure::new("user-name-taken", format!("the user name `{name}` is taken: choose another")))
        }
        // Slack says that there is one and does not show it.
        None => Err(refusal.into()),
    }
}

fn taken(what: &str, account: &Value) -> Failure {
    let details = json!({ "user": account["id"], "externalId": account["externalId"] });
    Failure::new("user-name-taken", format!("{what}: choose another")).details(details)
}

/// Whether the account that is there is the one that was asked for.
fn existing(input: &Provision, account: &Value) -> Result<Done<Provisioned>, Failure> {
    // Slack lists no external id among its attributes, so that one that is not there says nothing.
    let there = account["externalId"].as_str().filter(|id| !id.is_empty());
    if there.is_some_and(|there| input.external_id.as_deref().is_some_and(|wanted| wanted != there)) {
        return Err(taken("the e-mail belongs to an account of another external id", account));
    }
    if is_active(account) {
        return Ok(Done::unchanged(provisioned(account, input, 0)?));
    }
    Err(deactivated(slack::text(account, "/id")?))
}

/// An account that has to be switched on again first.
pub(crate) fn deactivated(user: &str) -> Failure {
    Failure::new("user-deactivated", "the account is deactivated: reactivate it with `user.reactivate`")
        .class(Class::Fatal)
        .details(json!({ "user": user, "remedy": { "action": "user.reactivate", "input": { "user": user } } }))
}

fn resource(input: &Provision, user_name: &str, display: Option<&str>) -> Value {
    let mut resource = json!({
        "schemas": [USER],
        "userName": user_name,
        "name": { "givenName": input.first_name, "familyName": input.last_name },
        "emails": [{ "value": input.email, "type": "work", "primary": true }],
        "active": true,
        "displayName": display,
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
        extension.insert("manager".to_owned(), json!({ "managerId": manager }));
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
        not_set: Vec::new(),
        not_set_because: None,
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
    patch(user, &[Operation::replace("active", active)])?;
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
    patch(&input.user, &[Operation::replace("active", false)])?;
    Ok(Done::changed(switched(-1)))
}
