//! Who is in which workspace of an organisation, and as what.

use bellhop_plugin::{Context, Done, Failure, action, input, output, slack};
use serde_json::{Value, json};

use crate::person::Role;
use crate::provisioning::deactivated;

/// What kind of member.
#[input]
#[derive(Copy, Eq, Default)]
pub(crate) enum Membership {
    /// A full member.
    #[default]
    Member,
    /// A guest in several channels.
    MultiChannelGuest,
    /// A guest in one channel.
    SingleChannelGuest,
}

impl Membership {
    /// Slack's two flags: a single-channel guest is a guest too, but only one of them may be set.
    fn flags(self) -> (Option<bool>, Option<bool>) {
        match self {
            Self::Member => (None, None),
            Self::MultiChannelGuest => (Some(true), None),
            Self::SingleChannelGuest => (None, Some(true)),
        }
    }

    /// A guest in one channel has that one (Slack help 202518103).
    fn takes(self, channels: &[slack::ChannelId]) -> Result<(), Failure> {
        if self == Self::SingleChannelGuest && channels.len() != 1 {
            let message =
                format!("a guest in one channel needs exactly one in `channels`, and {} are given", channels.len());
            return Err(Failure::new("invalid-arguments", message));
        }
        Ok(())
    }
}

fn joined(channels: &[slack::ChannelId]) -> Option<String> {
    let ids: Vec<&str> = channels.iter().map(slack::ChannelId::as_str).collect();
    (!ids.is_empty()).then(|| ids.join(","))
}

/// Whom to invite where.
#[input]
pub(crate) struct Invite {
    /// The e-mail.
    #[schemars(length(min = 3, max = 254), extend("format" = "email"))]
    email: String,
    /// The workspace.
    workspace: slack::WorkspaceId,
    /// The channels that the person will be in.
    #[schemars(length(min = 1, max = 100))]
    channels: Vec<slack::ChannelId>,
    /// The person's name.
    #[serde(default)]
    name: Option<String>,
    /// A text for the invitation.
    #[serde(default)]
    message: Option<String>,
    /// What kind of member.
    #[serde(default)]
    membership: Membership,
    /// When a guest's access ends, in seconds since 1970.
    #[serde(default)]
    guest_until: Option<u64>,
}

/// The invitation.
#[output]
pub(crate) struct Invited {
    /// The e-mail.
    email: String,
    /// The workspace.
    workspace: String,
    /// Whether the person is a member already, not only invited.
    member: bool,
}

/// Invites a person by e-mail to a workspace of the organisation.
#[action(
    name = "user.invite",
    title = "Invite a person to a workspace",
    effect = "create",
    licence = "adds",
    purposes("onboarding", "access-request"),
    error("user-deactivated", 409, "The person has a deactivated account: reactivate it with `user.reactivate`."),
    calls(on("grid-org"), always("admin-users.invite"))
)]
pub(crate) fn invite(_: &Context, input: &Invite) -> Result<Done<Invited>, Failure> {
    let (restricted, ultra_restricted) = input.membership.flags();
    let channels = joined(&input.channels)
        .ok_or_else(|| Failure::new("invalid-arguments", "an invitation needs at least one channel"))?;
    input.membership.takes(&input.channels)?;
    if input.guest_until.is_some() && input.membership == Membership::Member {
        return Err(Failure::new("invalid-arguments", "only a guest's access ends: `guestUntil` is for guests"));
    }
    let answer = slack::admin_users::invite(json!({
        "email": input.email,
        "team_id": input.workspace,
        "channel_ids": channels,
        "real_name": input.name,
        "custom_message": input.message,
        "is_restricted": restricted,
        "is_ultra_restricted": ultra_restricted,
        "guest_expiration_ts": input.guest_until.map(|at| at.to_string()),
    }));
    let invited = |member| Invited { email: input.email.clone(), workspace: input.workspace.to_string(), member };
    match answer {
        Ok(_) => Ok(Done::changed(invited(false))),
        Err(refusal) if refusal.is(&["already_in_team_invited_user"]) => Ok(Done::unchanged(invited(false))),
        Err(refusal) if refusal.is(&["already_in_team"]) => Ok(Done::unchanged(invited(true))),
        Err(refusal) if refusal.is(&["user_disabled"]) => {
            let message = "the person has a deactivated account: reactivate it with `user.reactivate`";
            Err(Failure::new("user-deactivated", message).details(json!({ "email": input.email })))
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// Who comes into which workspace.
#[input]
pub(crate) struct AddUser {
    /// The workspace.
    workspace: slack::WorkspaceId,
    /// The person, who has an account in the organisation.
    user: slack::UserId,
    /// What kind of member.
    #[serde(default)]
    membership: Membership,
    /// The channels that the person will be in.
    #[serde(default)]
    #[schemars(length(max = 100))]
    channels: Vec<slack::ChannelId>,
}

/// A person and a workspace.
#[output]
pub(crate) struct InWorkspace {
    /// The person's id.
    user: String,
    /// The workspace's id.
    workspace: String,
}

/// Adds a person of the organisation to one of its workspaces. A deactivated account is never reactivated by this.
#[action(
    name = "workspace.add-user",
    title = "Add a person to a workspace",
    effect = "update",
    inverse = "workspace.remove-user",
    error("user-deactivated", 409, "The account is deactivated: reactivate it with `user.reactivate`."),
    calls(on("grid-org"), always("users.info"), maybe("admin-users.assign"))
)]
pub(crate) fn add_user(_: &Context, input: &AddUser) -> Result<Done<InWorkspace>, Failure> {
    // Assigning switches a deactivated account on again, so who is deactivated must be known before.
    let answer = slack::users::info(json!({ "user": input.user }))?;
    let user = &answer["user"];
    let done = || InWorkspace { user: input.user.to_string(), workspace: input.workspace.to_string() };
    if user["deleted"].as_bool() == Some(true) {
        return Err(deactivated(input.user.as_str()));
    }
    if slack::list(user, "/enterprise_user/teams").iter().any(|team| team == input.workspace.as_str()) {
        return Ok(Done::unchanged(done()));
    }
    input.membership.takes(&input.channels)?;
    let (restricted, ultra_restricted) = input.membership.flags();
    let assigned = slack::admin_users::assign(json!({
        "team_id": input.workspace,
        "user_id": input.user,
        "is_restricted": restricted,
        "is_ultra_restricted": ultra_restricted,
        "channel_ids": joined(&input.channels),
    }));
    match assigned {
        Ok(_) => {
            let undo = json!({ "workspace": input.workspace, "user": input.user });
            Ok(Done::changed(done()).undo("workspace.remove-user", undo))
        }
        Err(refusal) if refusal.is(&["user_already_team_member"]) => Ok(Done::unchanged(done())),
        Err(refusal) => Err(refusal.into()),
    }
}

/// Who leaves which workspace.
#[input]
pub(crate) struct RemoveUser {
    /// The workspace.
    workspace: slack::WorkspaceId,
    /// The person.
    user: slack::UserId,
}

/// Removes a person from one workspace of the organisation. The account itself stays.
#[action(
    name = "workspace.remove-user",
    title = "Remove a person from a workspace",
    effect = "delete",
    inverse = "workspace.add-user",
    calls(on("grid-org"), always("admin-users.remove"))
)]
pub(crate) fn remove_user(_: &Context, input: &RemoveUser) -> Result<Done<InWorkspace>, Failure> {
    let args = json!({ "team_id": input.workspace, "user_id": input.user });
    let done = || InWorkspace { user: input.user.to_string(), workspace: input.workspace.to_string() };
    match slack::admin_users::remove(&args) {
        Ok(_) => {
            let undo = json!({ "workspace": input.workspace, "user": input.user });
            Ok(Done::changed(done()).undo("workspace.add-user", undo))
        }
        Err(refusal) if refusal.is(&["user_already_deleted"]) => Ok(Done::unchanged(done())),
        Err(refusal) => Err(refusal.into()),
    }
}

/// The roles that can be given.
#[input]
#[derive(Copy, Eq)]
pub(crate) enum Given {
    /// A full member.
    Member,
    /// A Workspace Admin.
    Admin,
    /// A Workspace Owner.
    Owner,
}

/// Who becomes what where.
#[input]
pub(crate) struct SetRole {
    /// The workspace.
    workspace: slack::WorkspaceId,
    /// The person.
    user: slack::UserId,
    /// The role.
    role: Given,
}

/// The role.
#[output]
pub(crate) struct RoleSet {
    /// The person's id.
    user: String,
    /// The workspace's id.
    workspace: String,
    /// What the person was before.
    before: Role,
}

/// Gives a person a role in a workspace of the organisation. A guest becomes a full member first.
#[action(
    name = "user.set-role",
    title = "Change a person's role",
    effect = "update",
    error(
        "not-in-workspace",
        404,
        "The person is not in the workspace, or deactivated: use `workspace.add-user` first."
    ),
    error("primary-owner", 403, "The role of the Primary Owner cannot be changed."),
    calls(
        on("grid-org"),
        always("admin-users.list"),
        maybe("admin-users.set-regular", "admin-users.set-admin", "admin-users.set-owner")
    )
)]
pub(crate) fn set_role(context: &Context, input: &SetRole) -> Result<Done<RoleSet>, Failure> {
    let list = json!({ "team_id": input.workspace, "limit": 100 });
    let mut pages = slack::Pages::new(list, |args| slack::admin_users::list(args)).after(context.state());
    let member = loop {
        let Some(page) = pages.next()? else {
            let message = format!("{} is not an active member of the workspace {}", input.user, input.workspace);
            return Err(Failure::new("not-in-workspace", message));
        };
        let of_user = |member: &&Value| member["id"] == input.user.as_str();
        if let Some(member) = slack::list(&page, "/users").iter().find(of_user) {
            break member.clone();
        }
        if pages.should_pause() {
            return Done::again(pages.cursor());
        }
    };
    let before = role_of(&member);
    let done = RoleSet { user: input.user.to_string(), workspace: input.workspace.to_string(), before };
    let args = json!({ "team_id": input.workspace, "user_id": input.user });
    let guest = matches!(before, Role::MultiChannelGuest | Role::SingleChannelGuest);
    match (before, input.role) {
        (Role::PrimaryOwner, _) => {
            return Err(Failure::new("primary-owner", "the role of the Primary Owner cannot be changed"));
        }
        (Role::Owner, Given::Owner) | (Role::Admin, Given::Admin) | (Role::Member, Given::Member) => {
            return Ok(Done::unchanged(done));
        }
        (_, Given::Member) => slack::admin_users::set_regular(&args)?,
        (_, role) => {
            if guest {
                slack::admin_users::set_regular(&args)?;
            }
            match role {
                Given::Owner => slack::admin_users::set_owner(&args)?,
                _ => slack::admin_users::set_admin(&args)?,
            }
        }
    };
    Ok(Done::changed(done))
}

/// The role by the flags of a workspace's member list.
fn role_of(member: &Value) -> Role {
    let is = |flag: &str| member[flag].as_bool() == Some(true);
    if is("is_primary_owner") {
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
