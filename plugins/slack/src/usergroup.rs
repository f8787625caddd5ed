//! User groups: made, switched off and on, listed. Who is in them is in `members.rs`.

use bellhop_plugin::{Context, Done, Failure, action, input, output, slack};
use serde_json::{Value, json};

use crate::escaped::unescaped;

/// Which group to make.
#[input]
pub(crate) struct Create {
    /// The name.
    #[schemars(length(min = 1, max = 255))]
    name: String,
    /// The handle, with or without `@`: lower-case letters, digits, `.`, `-` and `_`. Slack makes one of the name where it
    /// is left out.
    #[serde(default)]
    #[schemars(length(min = 1, max = 81))]
    handle: Option<String>,
    /// The description.
    #[serde(default)]
    #[schemars(length(max = 140))]
    description: Option<String>,
}

/// The group.
#[output]
pub(crate) struct Created {
    /// The group.
    usergroup: Usergroup,
}

/// Every group of the workspace, disabled ones too.
fn all() -> Result<Vec<Value>, slack::Error> {
    let answer = slack::usergroups::list(json!({ "include_disabled": true, "include_count": true }))?;
    Ok(slack::list(&answer, "/usergroups").to_vec())
}

/// Makes a user group without members. A group of the same name and handle that is there already is left as it is.
#[action(
    name = "usergroup.create",
    title = "Create a user group",
    effect = "create",
    inverse = "usergroup.disable",
    error("usergroup-name-taken", 409, "Another user group has the name or the handle, a disabled one included."),
    calls(on("workspace", "grid-workspace"), always("usergroups.create"), maybe("usergroups.list"))
)]
pub(crate) fn create(_: &Context, input: &Create) -> Result<Done<Created>, Failure> {
    let handle = input.handle.as_deref().map(|handle| handle.trim().trim_start_matches('@').to_lowercase());
    let wanted = json!({ "name": input.name, "handle": handle, "description": input.description });
    match slack::usergroups::create(wanted) {
        Ok(answer) => {
            let usergroup = Usergroup::of(&answer["usergroup"])?;
            let undo = json!({ "usergroup": usergroup.id });
            Ok(Done::changed(Created { usergroup }).undo("usergroup.disable", undo))
        }
        Err(refusal) if refusal.is(&["name_already_exists", "handle_already_exists"]) => {
            existing(input, handle.as_deref(), refusal)
        }
        Err(refusal) => Err(refusal.into()),
    }
}

fn existing(input: &Create, handle: Option<&str>, refusal: slack::Error) -> Result<Done<Created>, Failure> {
    let same = |there: &Value, wanted: &str| {
        there.as_str().is_some_and(|there| unescaped(there).to_lowercase() == wanted.trim().to_lowercase())
    };
    let groups = all()?;
    let clashes = |group: &&Value| {
        same(&group["name"], &input.name) || handle.is_some_and(|handle| same(&group["handle"], handle))
    };
    let Some(group) = groups.iter().find(clashes) else { return Err(refusal.into()) };
    let usergroup = Usergroup::of(group)?;
    let is_it = same(&group["name"], &input.name) && handle.is_none_or(|handle| same(&group["handle"], handle));
    if is_it && usergroup.active {
        return Ok(Done::unchanged(Created { usergroup }));
    }
    let why = if usergroup.active { "another user group has" } else { "a user group that is disabled has" };
    let remedy = json!({ "action": "usergroup.enable", "input": { "usergroup": usergroup.id } });
    let details = json!({ "usergroup": usergroup.id, "remedy": if usergroup.active { Value::Null } else { remedy } });
    let message = format!("{why} the name `{}` or the handle", input.name);
    Err(Failure::new("usergroup-name-taken", message).details(details))
}

/// Which group.
#[input]
pub(crate) struct Which {
    /// The user group.
    usergroup: slack::UsergroupId,
}

/// The group, switched.
#[output]
pub(crate) struct Switched {
    /// The user group's id.
    usergroup: String,
    /// Whether it can be mentioned now.
    active: bool,
}

/// Disables a user group: it keeps its members and can be enabled again. Slack deletes none.
#[action(
    name = "usergroup.disable",
    title = "Disable a user group",
    effect = "delete",
    inverse = "usergroup.enable",
    exclusive("usergroup", "/usergroup"),
    calls(on("workspace", "grid-workspace"), always("usergroups.list"), maybe("usergroups.disable"))
)]
pub(crate) fn disable(_: &Context, input: &Which) -> Result<Done<Switched>, Failure> {
    switch(&input.usergroup, false)
}

/// Enables a user group that was disabled.
#[action(
    name = "usergroup.enable",
    title = "Enable a user group",
    effect = "update",
    inverse = "usergroup.disable",
    exclusive("usergroup", "/usergroup"),
    calls(on("workspace", "grid-workspace"), always("usergroups.list"), maybe("usergroups.enable"))
)]
pub(crate) fn enable(_: &Context, input: &Which) -> Result<Done<Switched>, Failure> {
    switch(&input.usergroup, true)
}

fn switch(usergroup: &slack::UsergroupId, active: bool) -> Result<Done<Switched>, Failure> {
    let groups = all()?;
    let Some(group) = groups.iter().find(|group| group["id"].as_str().is_some_and(|id| *usergroup == *id)) else {
        return Err(Failure::new("not-found", format!("there is no user group {usergroup}")));
    };
    let done = Switched { usergroup: usergroup.to_string(), active };
    if Usergroup::of(group)?.active == active {
        return Ok(Done::unchanged(done));
    }
    let arguments = json!({ "usergroup": usergroup });
    let inverse = if active {
        slack::usergroups::enable(arguments)?;
        "usergroup.disable"
    } else {
        slack::usergroups::disable(arguments)?;
        "usergroup.enable"
    };
    Ok(Done::changed(done).undo(inverse, json!({ "usergroup": usergroup })))
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

impl Usergroup {
    /// Without its members, which may be many.
    pub(crate) fn without_users(group: &Value) -> Result<Self, slack::Error> {
        Ok(Self { users: None, ..Self::of(group)? })
    }

    fn of(group: &Value) -> Result<Self, slack::Error> {
        let text = |name: &str| group[name].as_str().map(unescaped);
        Ok(Self {
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
    }
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
    let usergroups = slack::list(&answer, "/usergroups").iter().map(Usergroup::of).collect::<Result<_, _>>()?;
    Ok(Done::unchanged(Usergroups { usergroups }))
}
