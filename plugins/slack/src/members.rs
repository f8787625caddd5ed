//! Who is in a user group. Slack only takes whole member lists, so that every change reads, changes and writes back; the
//! host holds the group's key meanwhile.

use bellhop_plugin::{Context, Done, Failure, Kind, action, input, output, slack};
use serde_json::{Value, json};

use crate::same_person;

/// Members that are looked at one by one when Slack refuses the list: each is a call, and a slice has 200.
const LOOKED_AT_MAX: usize = 150;

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
    /// Members who were not written back, because Slack takes them no more: deactivated people, guests and apps.
    left_out: Vec<String>,
}

fn read(usergroup: &slack::UsergroupId) -> Result<Vec<String>, slack::Error> {
    let answer = slack::usergroups_users::list(json!({ "usergroup": usergroup, "include_disabled": true }))?;
    Ok(slack::list(&answer, "/users").iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

/// An array, also an empty one: text with commas is for forms (Slack's page of `usergroups.users.update`).
fn send(usergroup: &slack::UsergroupId, members: &[String]) -> Result<(), slack::Error> {
    slack::usergroups_users::update(json!({ "usergroup": usergroup, "users": members })).map(drop)
}

/// Makes these the members; gives who of them had to be left out, and is no longer in `members` then. `coming` must be in
/// it afterwards.
fn write(
    usergroup: &slack::UsergroupId,
    members: &mut Vec<String>,
    coming: &[&slack::UserId],
) -> Result<Vec<String>, Failure> {
    let refusal = match send(usergroup, members) {
        Ok(()) => return Ok(Vec::new()),
        Err(refusal) if refusal.is(&["invalid_users"]) => refusal,
        Err(refusal) if members.is_empty() && refusal.is(&["no_users_provided", "missing_required_argument"]) => {
            let message = format!("Slack does not let {usergroup} be without members here");
            return Err(Failure::new("usergroup-last-member", message));
        }
        Err(refusal) => return Err(refusal.into()),
    };
    // Slack has said so of lists that it took all the same.
    let mut there = read(usergroup)?;
    let mut wanted = members.clone();
    there.sort_unstable();
    wanted.sort_unstable();
    if there == wanted {
        return Ok(Vec::new());
    }
    if members.len() > LOOKED_AT_MAX {
        let message = format!(
            "Slack takes somebody of the {} members of {usergroup} no more and does not say whom: remove deactivated \
             people and guests from it",
            members.len()
        );
        return Err(Failure::new("usergroup-members-invalid", message));
    }
    let mut left_out = Vec::new();
    for member in &*members {
        if !can_be_member(member)? {
            left_out.push(member.clone());
        }
    }
    if let Some(person) = coming.iter().find(|person| left_out.iter().any(|out| ***person == **out)) {
        let message = format!("{person} cannot be in a user group: deactivated people, guests and apps cannot");
        return Err(Failure::new("user-cannot-be-member", message).details(json!({ "user": person })));
    }
    if left_out.is_empty() {
        return Err(refusal.into());
    }
    members.retain(|member| !left_out.contains(member));
    send(usergroup, members)?;
    Ok(left_out)
}

/// Whether Slack takes the person as a member of a user group.
fn can_be_member(user: &str) -> Result<bool, slack::Error> {
    let answer = match slack::users::info(json!({ "user": user })) {
        Ok(answer) => answer,
        Err(refusal) if matches!(refusal.code.as_str(), "not-found" | "not-visible") => return Ok(false),
        Err(refusal) => return Err(refusal),
    };
    let is = |flag: &str| answer["user"][flag].as_bool() == Some(true);
    Ok(!["deleted", "is_restricted", "is_ultra_restricted", "is_bot", "is_stranger"].into_iter().any(is))
}

/// Adds a person to a user group. Members whom Slack takes no more keep nobody out: the group is written without them.
#[action(
    name = "usergroup.add-user",
    title = "Add a person to a user group",
    effect = "update",
    inverse = "usergroup.remove-user",
    exclusive("usergroup", "/usergroup"),
    error(
        "user-cannot-be-member",
        409,
        "The person is deactivated, a guest or an app: none of them can be in a user group."
    ),
    error("usergroup-members-invalid", 409, "Slack takes a member of the group no more and does not say whom."),
    error("usergroup-last-member", 409, "Slack does not let the user group be without members: disable it."),
    calls(
        on("workspace", "grid-workspace"),
        always("usergroups-users.list"),
        maybe("usergroups-users.update", "users.info")
    )
)]
pub(crate) fn add_user(_: &Context, input: &Membership) -> Result<Done<Members>, Failure> {
    let mut members = read(&input.usergroup)?;
    if members.iter().any(|member| input.user == **member) {
        return Ok(Done::unchanged(done(input, &members, Vec::new())));
    }
    members.push(input.user.to_string());
    let left_out = write(&input.usergroup, &mut members, &[&input.user])?;
    let undo = json!({ "usergroup": input.usergroup, "user": input.user });
    Ok(Done::changed(done(input, &members, left_out)).undo("usergroup.remove-user", undo))
}

fn done(input: &Membership, members: &[String], left_out: Vec<String>) -> Members {
    Members { usergroup: input.usergroup.to_string(), user: input.user.to_string(), members: members.len(), left_out }
}

/// Removes a person from a user group, the last one too. Members whom Slack takes no more leave with them.
#[action(
    name = "usergroup.remove-user",
    title = "Remove a person from a user group",
    effect = "delete",
    inverse = "usergroup.add-user",
    exclusive("usergroup", "/usergroup"),
    error("usergroup-members-invalid", 409, "Slack takes a member of the group no more and does not say whom."),
    error(
        "user-cannot-be-member",
        409,
        "The person is deactivated, a guest or an app: none of them can be in a user group."
    ),
    error("usergroup-last-member", 409, "Slack does not let the user group be without members: disable it."),
    calls(
        on("workspace", "grid-workspace"),
        always("usergroups-users.list"),
        maybe("usergroups-users.update", "users.info")
    )
)]
pub(crate) fn remove_user(context: &Context, input: &Membership) -> Result<Done<Members>, Failure> {
    let mut members = read(&input.usergroup)?;
    let before = members.len();
    members.retain(|member| input.user != **member);
    if members.len() == before && !leaves_by_another_id(context, input, &mut members)? {
        return Ok(Done::unchanged(done(input, &members, Vec::new())));
    }
    let left_out = write(&input.usergroup, &mut members, &[])?;
    let undo = json!({ "usergroup": input.usergroup, "user": input.user });
    Ok(Done::changed(done(input, &members, left_out)).undo("usergroup.add-user", undo))
}

/// Takes the person out of `members` where the group lists another id of the person than was given.
fn leaves_by_another_id(context: &Context, input: &Membership, members: &mut Vec<String>) -> Result<bool, Failure> {
    if context.connection.kind != Kind::GridWorkspace || members.is_empty() {
        return Ok(false);
    }
    let others = same_person::others(&input.user)?;
    if !members.iter().any(|member| others.contains(member)) {
        return Ok(false);
    }
    // What is written follows from what was read last.
    *members = read(&input.usergroup)?;
    members.retain(|member| input.user != **member && !others.contains(member));
    Ok(true)
}

/// Who is in the group from now on.
#[input]
pub(crate) struct SetUsers {
    /// The user group.
    usergroup: slack::UsergroupId,
    /// All of its members.
    #[schemars(length(max = 1000))]
    users: Vec<slack::UserId>,
}

/// Who comes and who goes.
#[input]
pub(crate) struct Changes {
    /// The user group.
    usergroup: slack::UsergroupId,
    /// Who comes.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    add: Vec<slack::UserId>,
    /// Who goes.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    remove: Vec<slack::UserId>,
}

/// What became of a group's members.
#[output]
pub(crate) struct Changed {
    /// The user group's id.
    usergroup: String,
    /// Who came.
    added: Vec<String>,
    /// Who went, those who were left out included.
    removed: Vec<String>,
    /// Members who were not written back, because Slack takes them no more.
    left_out: Vec<String>,
    /// How many members the group has now.
    members: usize,
}

/// Sets the members of a user group. What is taken back is what changed, not the list: who came into the group otherwise
/// meanwhile stays.
#[action(
    name = "usergroup.set-users",
    title = "Set the members of a user group",
    effect = "update",
    inverse = "usergroup.change-users",
    exclusive("usergroup", "/usergroup"),
    error(
        "user-cannot-be-member",
        409,
        "The person is deactivated, a guest or an app: none of them can be in a user group."
    ),
    error("usergroup-members-invalid", 409, "Slack takes a member of the group no more and does not say whom."),
    error("usergroup-last-member", 409, "Slack does not let the user group be without members: disable it."),
    calls(
        on("workspace", "grid-workspace"),
        always("usergroups-users.list"),
        maybe("usergroups-users.update", "users.info")
    )
)]
pub(crate) fn set_users(_: &Context, input: &SetUsers) -> Result<Done<Changed>, Failure> {
    let before = read(&input.usergroup)?;
    let wanted: Vec<String> = input.users.iter().map(ToString::to_string).collect();
    become_members(&input.usergroup, &before, wanted, &input.users)
}

/// Adds people to a user group and removes others from it, in one change.
#[action(
    name = "usergroup.change-users",
    title = "Change who is in a user group",
    effect = "update",
    inverse = "usergroup.change-users",
    exclusive("usergroup", "/usergroup"),
    error(
        "user-cannot-be-member",
        409,
        "The person is deactivated, a guest or an app: none of them can be in a user group."
    ),
    error("usergroup-members-invalid", 409, "Slack takes a member of the group no more and does not say whom."),
    error("usergroup-last-member", 409, "Slack does not let the user group be without members: disable it."),
    calls(
        on("workspace", "grid-workspace"),
        always("usergroups-users.list"),
        maybe("usergroups-users.update", "users.info")
    )
)]
pub(crate) fn change_users(_: &Context, input: &Changes) -> Result<Done<Changed>, Failure> {
    let before = read(&input.usergroup)?;
    let goes = |member: &String| input.remove.iter().any(|person| *person == **member);
    let mut wanted: Vec<String> = before.iter().filter(|member| !goes(member)).cloned().collect();
    wanted.extend(input.add.iter().map(ToString::to_string));
    become_members(&input.usergroup, &before, wanted, &input.add)
}

fn become_members(
    usergroup: &slack::UsergroupId,
    before: &[String],
    mut wanted: Vec<String>,
    wished: &[slack::UserId],
) -> Result<Done<Changed>, Failure> {
    // Who is in it already may have to be left out.
    let coming: Vec<&slack::UserId> =
        wished.iter().filter(|person| !before.iter().any(|member| **person == **member)).collect();
    let mut seen = std::collections::BTreeSet::new();
    wanted.retain(|member| seen.insert(member.clone()));
    let differs = wanted.len() != before.len() || wanted.iter().any(|member| !before.contains(member));
    let left_out = if differs { write(usergroup, &mut wanted, &coming)? } else { Vec::new() };
    let added: Vec<String> = wanted.iter().filter(|member| !before.contains(member)).cloned().collect();
    let removed: Vec<String> = before.iter().filter(|member| !wanted.contains(member)).cloned().collect();
    // Whom Slack takes no more cannot be brought back.
    let back: Vec<&String> = removed.iter().filter(|member| !left_out.contains(member)).collect();
    let undo = json!({ "usergroup": usergroup, "add": back, "remove": added });
    let done = Changed { usergroup: usergroup.to_string(), added, removed, left_out, members: wanted.len() };
    Ok(if differs { Done::changed(done).undo("usergroup.change-users", undo) } else { Done::unchanged(done) })
}
