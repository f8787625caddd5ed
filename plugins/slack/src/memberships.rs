//! Which user groups a person is in.

use bellhop_plugin::{Context, Done, Failure, Kind, action, input, output, slack};
use serde_json::{Value, json};

use crate::same_person;
use crate::usergroup::Usergroup;

/// Whose groups.
#[input]
pub(crate) struct Whose {
    /// The person.
    user: slack::UserId,
    /// Whether disabled groups are looked at too.
    #[serde(default)]
    include_disabled: bool,
}

/// A group of which it could not be told whether the person is in it.
#[output]
pub(crate) struct Unread {
    /// The group's id.
    id: String,
    /// Its handle, without `@`.
    handle: Option<String>,
    /// The code of the refusal, as `answer-too-large`.
    code: String,
    /// The refusal in words.
    message: String,
}

/// The groups.
#[output]
pub(crate) struct Memberships {
    /// Every id of the person: on Enterprise Grid there may be one of the workspace and one of the organisation.
    ids: Vec<String>,
    /// The groups that the person is in, without their members.
    usergroups: Vec<Usergroup>,
    /// Groups whose members could not be read, as those of a group that is larger than an answer may be.
    unread: Vec<Unread>,
}

/// What is known after a part of the groups was looked at.
#[derive(Default)]
struct Progress {
    looked_at: usize,
    in_them: Vec<String>,
    unread: Vec<Value>,
}

impl Progress {
    fn of(state: &Value) -> Self {
        let texts = |name: &str| {
            let list = state[name].as_array().into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            looked_at: state["lookedAt"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or_default(),
            in_them: texts("in"),
            unread: state["unread"].as_array().cloned().unwrap_or_default(),
        }
    }

    fn state(&self) -> Value {
        json!({ "lookedAt": self.looked_at, "in": self.in_them, "unread": self.unread })
    }
}

/// Lists the user groups that a person is in, by whichever of the person's ids. Where the members of all groups are more
/// than one answer may be, each group is read by itself, and one that is too large alone is told and keeps no other back.
#[action(
    name = "usergroup.list-memberships",
    title = "List a person's user groups",
    effect = "read",
    calls(on("workspace"), always("usergroups.list"), maybe("usergroups-users.list")),
    calls(on("grid-workspace"), always("usergroups.list"), maybe("users.info", "usergroups-users.list"))
)]
pub(crate) fn list_memberships(context: &Context, input: &Whose) -> Result<Done<Memberships>, Failure> {
    let mut ids = vec![input.user.to_string()];
    if context.connection.kind == Kind::GridWorkspace {
        ids.extend(same_person::others(&input.user)?);
    }
    let is_in = |users: &[Value]| users.iter().filter_map(Value::as_str).any(|user| ids.iter().any(|id| id == user));
    let list = |with_users: bool| {
        let wanted =
            json!({ "include_users": with_users, "include_disabled": input.include_disabled, "include_count": true });
        slack::usergroups::list(wanted)
    };
    let state: Option<Value> = context.state();
    if state.is_none() {
        match list(true) {
            Ok(answer) => {
                let groups = slack::list(&answer, "/usergroups").iter();
                let mine = groups.filter(|group| is_in(slack::list(group, "/users")));
                let usergroups = mine.map(Usergroup::without_users).collect::<Result<_, _>>()?;
                return Ok(Done::unchanged(Memberships { ids, usergroups, unread: Vec::new() }));
            }
            Err(refusal) if refusal.code == "answer-too-large" => {}
            Err(refusal) => return Err(refusal.into()),
        }
    }
    let answer = list(false)?;
    let mut groups: Vec<&Value> = slack::list(&answer, "/usergroups").iter().collect();
    groups.sort_by_key(|group| group["id"].as_str());
    let mut progress = state.as_ref().map(Progress::of).unwrap_or_default();
    for group in groups.iter().skip(progress.looked_at) {
        if slack::should_pause() {
            return Done::again(progress.state());
        }
        let id = slack::text(group, "/id")?;
        match slack::usergroups_users::list(json!({ "usergroup": id, "include_disabled": true })) {
            Ok(members) if is_in(slack::list(&members, "/users")) => progress.in_them.push(id.to_owned()),
            Ok(_) => {}
            Err(refusal) if refusal.code == "answer-too-large" => progress.unread.push(json!({
                "id": id, "handle": group["handle"], "code": refusal.code, "message": refusal.message,
            })),
            Err(refusal) => return Err(refusal.into()),
        }
        progress.looked_at += 1;
    }
    let is_mine = |group: &&&Value| progress.in_them.iter().any(|id| group["id"] == id.as_str());
    let usergroups = groups.iter().filter(is_mine).map(|group| Usergroup::without_users(group));
    let usergroups = usergroups.collect::<Result<_, _>>()?;
    let text = |unread: &Value, name: &str| unread[name].as_str().map(str::to_owned);
    let unread = progress.unread.iter().map(|unread| Unread {
        id: text(unread, "id").unwrap_or_default(),
        handle: text(unread, "handle"),
        code: text(unread, "code").unwrap_or_default(),
        message: text(unread, "message").unwrap_or_default(),
    });
    Ok(Done::unchanged(Memberships { ids, usergroups, unread: unread.collect() }))
}
