//! User groups. Slack only takes whole member lists, so that adding and removing read, change and write back; the host
//! holds the group's key meanwhile.

use bellhop_plugin::{Context, Done, Failure, action, input, output, slack};
use serde_json::{Value, json};

/// Who comes into which group, or leaves it.
#[input]
pub(crate) struct Membership {
    /// The user group.
    usergroup: slack::UsergroupId,
    /// The person.
    user: slack::UserId,
}

/// A group's members.
#[output]
pub(crate) struct Members {
    /// The user group's id.
    usergroup: String,
    /// The person's id.
    user: String,
    /// How many members the group has now.
    members: usize,
}

fn members(usergroup: &slack::UsergroupId) -> Result<Vec<String>, slack::Error> {
    let answer = slack::usergroups_users::list(json!({ "usergroup": usergroup, "include_disabled": true }))?;
    Ok(slack::list(&answer, "/users").iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

fn write(usergroup: &slack::UsergroupId, members: &[String]) -> Result<(), slack::Error> {
    slack::usergroups_users::update(json!({ "usergroup": usergroup, "users": members.join(",") })).map(drop)
}

/// Adds a person to a user group.
#[action(
    name = "usergroup.add-user",
    title = "Add a person to a user group",
    effect = "update",
    inverse = "usergroup.remove-user",
    exclusive("usergroup", "/usergroup"),
    calls(on("workspace", "grid-workspace"), always("usergroups-users.list"), maybe("usergroups-users.update"))
)]
pub(crate) fn add_user(_: &Context, input: &Membership) -> Result<Done<Members>, Failure> {
    let mut members = members(&input.usergroup)?;
    let done =
        |members: usize| Members { usergroup: input.usergroup.to_string(), user: input.user.to_string(), members };
    if members.iter().any(|member| input.user == **member) {
        return Ok(Done::unchanged(done(members.len())));
    }
    members.push(input.user.to_string());
    write(&input.usergroup, &members)?;
    let undo = json!({ "usergroup": input.usergroup, "user": input.user });
    Ok(Done::changed(done(members.len())).undo("usergroup.remove-user", undo))
}

/// Removes a person from a user group. Slack keeps no group without members: the last one can only leave when there is
/// another.
#[action(
    name = "usergroup.remove-user",
    title = "Remove a person from a user group",
    effect = "delete",
    inverse = "usergroup.add-user",
    exclusive("usergroup", "/usergroup"),
    error(
        "usergroup-last-member",
        409,
        "Slack keeps no user group without members: add somebody else first, or disable the group."
    ),
    calls(on("workspace", "grid-workspace"), always("usergroups-users.list"), maybe("usergroups-users.update"))
)]
pub(crate) fn remove_user(_: &Context, input: &Membership) -> Result<Done<Members>, Failure> {
    let mut members = members(&input.usergroup)?;
    let before = members.len();
    members.retain(|member| input.user != **member);
    let done = Members { usergroup: input.usergroup.to_string(), user: input.user.to_string(), members: members.len() };
    if members.len() == before {
        return Ok(Done::unchanged(done));
    }
    if members.is_empty() {
        let message =
            format!("{} is the last member of {}, and Slack keeps no user group without", input.user, input.usergroup);
        return Err(Failure::new("usergroup-last-member", message));
    }
    write(&input.usergroup, &members)?;
    let undo = json!({ "usergroup": input.usergroup, "user": input.user });
    Ok(Done::changed(done).undo("usergroup.add-user", undo))
}

/// What to list.
#[input]
pub(crate) struct List {
    /// Whether disabled groups are listed too.
    #[serde(default)]
    include_disabled: bool,
    /// Whether each group's members are listed. In a large workspace that can be more than one answer may be.
    #[serde(default)]
    include_users: bool,
}

/// A user group.
#[output]
pub(crate) struct Usergroup {
    /// The id.
    id: String,
    /// The name.
    name: Option<String>,
    /// The handle, without `@`.
    handle: Option<String>,
    /// The description.
    description: Option<String>,
    /// False for a disabled group.
    active: bool,
    /// How many members it has, where Slack says it.
    members: Option<u64>,
    /// The members' ids; null where they were not asked for.
    users: Option<Vec<String>>,
}

/// The user groups.
#[output]
pub(crate) struct Usergroups {
    /// The groups.
    usergroups: Vec<Usergroup>,
}

/// Lists the user groups of a workspace.
#[action(
    name = "usergroup.list",
    title = "List user groups",
    effect = "read",
    calls(on("workspace", "grid-workspace"), always("usergroups.list"))
)]
pub(crate) fn list(_: &Context, input: &List) -> Result<Done<Usergroups>, Failure> {
    let answer = slack::usergroups::list(json!({
        "include_disabled": input.include_disabled,
        "include_users": input.include_users,
        "include_count": true,
    }))?;
    let usergroups = slack::list(&answer, "/usergroups")
        .iter()
        .map(|group| {
            let text = |name: &str| group[name].as_str().map(str::to_owned);
            Ok(Usergroup {
                id: slack::text(group, "/id")?.to_owned(),
                name: text("name"),
                handle: text("handle"),
                description: text("description"),
                active: group["date_delete"].as_i64().unwrap_or_default() == 0,
                // Slack has written this number as a text for years.
                members: group["user_count"].as_u64().or_else(|| group["user_count"].as_str()?.parse().ok()),
                users: group["users"]
                    .as_array()
                    .map(|users| users.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
            })
        })
        .collect::<Result<_, slack::Error>>()?;
    Ok(Done::unchanged(Usergroups { usergroups }))
}
