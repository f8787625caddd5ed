//! People, as Slack's two interfaces describe them.

use bellhop_plugin::{output, slack};
use serde_json::Value;

use crate::same_person;

/// What a person is in a workspace.
#[output]
#[derive(Copy, Eq)]
pub(crate) enum Role {
    /// The one who cannot be removed.
    PrimaryOwner,
    /// A Workspace Owner.
    Owner,
    /// A Workspace Admin.
    Admin,
    /// A full member.
    Member,
    /// A guest in several channels.
    MultiChannelGuest,
    /// A guest in one channel.
    SingleChannelGuest,
    /// Invited, and has not accepted yet.
    Invited,
    /// No person at all.
    Bot,
    /// Somebody of another organisation.
    External,
}

/// A person.
#[output]
pub(crate) struct Person {
    /// The id.
    pub(crate) id: String,
    /// Every id that Slack shows of the person, `id` first: on Enterprise Grid there may be one of the workspace and one of the
    /// organisation, and lists have either.
    pub(crate) ids: Vec<String>,
    /// The user name.
    pub(crate) name: Option<String>,
    /// The full name.
    pub(crate) real_name: Option<String>,
    /// The name that others see.
    pub(crate) display_name: Option<String>,
    /// The e-mail, where the connection can see it.
    pub(crate) email: Option<String>,
    /// The title in the profile.
    pub(crate) title: Option<String>,
    /// False for a deactivated account.
    pub(crate) active: bool,
    /// The role; null where Slack does not say it, as for deactivated accounts.
    pub(crate) role: Option<Role>,
    /// The home workspace, where Slack says it.
    pub(crate) workspace: Option<String>,
    /// The workspaces of an organisation that the person is in.
    pub(crate) workspaces: Vec<String>,
}

fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

impl Person {
    /// From a `user` of the Web API.
    pub(crate) fn of_user(user: &Value) -> Result<Self, slack::Error> {
        let active = user["deleted"].as_bool() != Some(true);
        Ok(Self {
            id: slack::text(user, "/id")?.to_owned(),
            ids: same_person::ids(user),
            name: text(user, "/name"),
            real_name: text(user, "/profile/real_name").or_else(|| text(user, "/real_name")),
            display_name: text(user, "/profile/display_name"),
            email: text(user, "/profile/email"),
            title: text(user, "/profile/title"),
            active,
            role: active.then(|| role(user)),
            workspace: text(user, "/team_id"),
            workspaces: slack::list(user, "/enterprise_user/teams")
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
        })
    }

    /// From a resource of SCIM, which tells neither role nor workspaces.
    pub(crate) fn of_resource(resource: &Value) -> Result<Self, slack::Error> {
        let given = text(resource, "/name/givenName");
        let family = text(resource, "/name/familyName");
        let full: Vec<String> = given.into_iter().chain(family).collect();
        Ok(Self {
            id: slack::text(resource, "/id")?.to_owned(),
            ids: vec![slack::text(resource, "/id")?.to_owned()],
            name: text(resource, "/userName"),
            real_name: Some(full.join(" ")).filter(|name| !name.is_empty()),
            display_name: text(resource, "/displayName"),
            email: email(resource),
            title: text(resource, "/title"),
            active: is_active(resource),
            role: None,
            workspace: None,
            workspaces: Vec::new(),
        })
    }
}

/// The flags of a user object, asked in this order, since an owner is an admin too and a guest may be invited.
fn role(user: &Value) -> Role {
    let is = |flag: &str| user[flag].as_bool() == Some(true);
    if is("is_bot") || is("is_workflow_bot") || is("is_connector_bot") || user["id"] == "USLACKBOT" {
        Role::Bot
    } else if is("is_stranger") {
        Role::External
    } else if is("is_invited_user") {
        Role::Invited
    } else if is("is_primary_owner") {
        Role::PrimaryOwner
    } else if is("is_owner") {
        Role::Owner
    } else if is("is_admin") {
        Role::Admin
    } else if is("is_ultra_restricted") {
        Role::SingleChannelGuest
    } else if is("is_restricted") {
        Role::MultiChannelGuest
    } else {
        Role::Member
    }
}

/// The primary e-mail of a SCIM resource, else its first.
pub(crate) fn email(resource: &Value) -> Option<String> {
    let emails = slack::list(resource, "/emails");
    emails
        .iter()
        .find(|e| e["primary"].as_bool() == Some(true))
        .or_else(|| emails.first())
        .and_then(|e| text(e, "/value"))
}

/// Whether a SCIM resource is an account that can be used.
pub(crate) fn is_active(resource: &Value) -> bool {
    resource["active"].as_bool() != Some(false)
}

/// Whether two e-mails are one: Slack ignores case.
pub(crate) fn same_email(a: &str, b: &str) -> bool {
    a.trim().to_lowercase() == b.trim().to_lowercase()
}
