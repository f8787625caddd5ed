//! Finding people.

use bellhop_plugin::{Context, Done, Failure, action, input, output, slack};
use serde_json::{Value, json};

use crate::person::{Person, same_email};
use crate::provisioning;

/// Whom to find.
#[input]
pub(crate) struct Lookup {
    /// The e-mail.
    #[schemars(length(min = 3, max = 254), extend("format" = "email"))]
    email: String,
    /// Whether deactivated people are found too. In a workspace that means reading its whole list when nobody active has
    /// the e-mail.
    #[serde(default = "yes")]
    include_deactivated: bool,
}

fn yes() -> bool {
    true
}

/// Whom there is.
#[output]
pub(crate) struct Found {
    /// Whether there is anybody.
    found: bool,
    /// The person; null when there is nobody.
    user: Option<Person>,
}

impl Found {
    fn somebody(user: Person) -> Self {
        Self { found: true, user: Some(user) }
    }

    fn nobody() -> Self {
        Self { found: false, user: None }
    }
}

/// Finds a person by e-mail, deactivated people too where the connection can see them. That nobody has the e-mail is an
/// answer, not an error.
#[action(
    name = "user.lookup",
    title = "Find a person by e-mail",
    effect = "read",
    calls(on("workspace", "grid-workspace"), always("users.lookup-by-email"), maybe("users.list")),
    calls(on("grid-org"), always("users.lookup-by-email"), maybe("scim-users.list"))
)]
pub(crate) fn lookup(context: &Context, input: &Lookup) -> Result<Done<Found>, Failure> {
    let cursor: Option<String> = context.state();
    if cursor.is_none() {
        match slack::users::lookup_by_email(json!({ "email": input.email })) {
            Ok(answer) => return Ok(Done::unchanged(Found::somebody(Person::of_user(&answer["user"])?))),
            Err(refusal) if is_nobody(&refusal) => {}
            Err(refusal) => return Err(refusal.into()),
        }
        if !input.include_deactivated {
            return Ok(Done::unchanged(Found::nobody()));
        }
    }
    if context.on_org() {
        let found = provisioning::find("email", &input.email)?;
        return Ok(Done::unchanged(match found {
            Some(resource) => Found::somebody(Person::of_resource(&resource)?),
            None => Found::nobody(),
        }));
    }
    let mut pages = slack::Pages::new(json!({ "limit": 200 }), |args| slack::users::list(args)).after(cursor);
    while let Some(page) = pages.next()? {
        let has_email = |user: &&Value| {
            user.pointer("/profile/email").and_then(Value::as_str).is_some_and(|email| same_email(email, &input.email))
        };
        if let Some(user) = slack::list(&page, "/members").iter().find(has_email) {
            return Ok(Done::unchanged(Found::somebody(Person::of_user(user)?)));
        }
        if pages.should_pause() {
            return Done::again(pages.cursor());
        }
    }
    Ok(Done::unchanged(Found::nobody()))
}

fn is_nobody(refusal: &slack::Error) -> bool {
    refusal.code == "not-found" || refusal.is(&["users_not_found", "user_not_found"])
}

/// Whom to read.
#[input]
pub(crate) struct Get {
    /// The person.
    user: slack::UserId,
}

/// A person.
#[output]
pub(crate) struct Got {
    /// The person.
    user: Person,
}

/// Reads a person's account.
#[action(
    name = "user.get",
    title = "Read a person's account",
    effect = "read",
    calls(on("workspace", "grid-workspace", "grid-org"), always("users.info"))
)]
pub(crate) fn get(_: &Context, input: &Get) -> Result<Done<Got>, Failure> {
    let answer = slack::users::info(json!({ "user": input.user }))?;
    Ok(Done::unchanged(Got { user: Person::of_user(&answer["user"])? }))
}
