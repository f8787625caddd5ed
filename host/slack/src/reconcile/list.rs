//! Memberships and roles, read back from their lists.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{End, PAGE_SIZE, Question, Read, Request, Rule, Verdict, done, ids, request, text};

/// `admin.*` lists give at most so many.
const ADMIN_PAGE_SIZE: u32 = 100;

pub(super) fn of(question: &Question<'_>) -> Result<Box<dyn Rule>, Verdict> {
    let arguments = question.arguments.clone();
    Ok(match question.method.name.as_str() {
        "conversations.invite" => Box::new(ChannelMembers { arguments, adds: true, seen: BTreeSet::new() }),
        "conversations.kick" => Box::new(ChannelMembers { arguments, adds: false, seen: BTreeSet::new() }),
        "usergroups.users.update" => Box::new(GroupMembers {
            before: question.before.map(|body| ids(body.get("users")).into_iter().collect()),
            arguments,
            seen: BTreeSet::new(),
        }),
        "admin.users.assign" => {
            Box::new(Workspace { was_out: was_out(question), ..Workspace::new(arguments, Joins::ById) })
        }
        "admin.users.invite" => Box::new(Workspace::new(arguments, Joins::ByEmail)),
        "admin.users.remove" => Box::new(Workspace::new(arguments, Joins::Leaves)),
        other => return Err(Verdict::CannotTell(format!("no list is known that shows what {other} changes"))),
    })
}

/// In a channel or not. Adding and removing repeat well, so that "not all of them" may be sent again.
struct ChannelMembers {
    arguments: Value,
    adds: bool,
    seen: BTreeSet<String>,
}

impl ChannelMembers {
    fn people(&self) -> Vec<String> {
        ids(self.arguments.get(if self.adds { "users" } else { "user" }))
    }
}

impl Rule for ChannelMembers {
    fn begin(&mut self) -> Result<Request, Verdict> {
        if self.people().is_empty() {
            return Err(Verdict::CannotTell("the call names nobody".to_owned()));
        }
        let arguments = json!({"channel": self.arguments.get("channel"), "limit": PAGE_SIZE});
        Ok(request("conversations.members", arguments, &self.arguments))
    }

    fn read(&mut self, body: &Value) -> Read {
        if !body.get("members").is_some_and(Value::is_array) {
            return Read::Decided(Verdict::CannotTell("the answer has no members".to_owned()));
        }
        self.seen.extend(ids(body.get("members")));
        Read::On
    }

    fn end(&mut self) -> End {
        let holds = self.people().iter().all(|person| self.seen.contains(person) == self.adds);
        End::Decided(match (holds, self.adds) {
            (true, true) => Verdict::Holds(json!({"ok": true, "channel": {"id": self.arguments.get("channel")}})),
            (true, false) => Verdict::Holds(done()),
            (false, _) => Verdict::Absent,
        })
    }
}

/// The members of a user group, which the call replaces as a whole: a list that is neither what we wrote nor what was
/// there before holds somebody else's change, which writing again would undo.
struct GroupMembers {
    arguments: Value,
    before: Option<BTreeSet<String>>,
    seen: BTreeSet<String>,
}

impl Rule for GroupMembers {
    fn begin(&mut self) -> Result<Request, Verdict> {
        let group = text(&self.arguments, "usergroup")
            .ok_or_else(|| Verdict::CannotTell("the call names no user group".to_owned()))?;
        let arguments = json!({"usergroup": group, "include_disabled": true});
        Ok(request("usergroups.users.list", arguments, &self.arguments))
    }

    fn read(&mut self, body: &Value) -> Read {
        if !body.get("users").is_some_and(Value::is_array) {
            return Read::Decided(Verdict::CannotTell("the answer has no members".to_owned()));
        }
        self.seen.extend(ids(body.get("users")));
        Read::On
    }

    fn end(&mut self) -> End {
        let wanted: BTreeSet<String> = ids(self.arguments.get("users")).into_iter().collect();
        let untouched = match &self.before {
            Some(before) => self.seen == *before,
            // Nothing in it that our list would drop.
            None => self.seen.is_subset(&wanted),
        };
        End::Decided(if self.seen == wanted {
            let group = json!({"id": self.arguments.get("usergroup"), "users": wanted, "user_count": wanted.len()});
            let body = json!({"ok": true, "usergroup": group});
            if self.before.as_ref().is_some_and(|before| *before != wanted) {
                Verdict::Found(body)
            } else {
                Verdict::Holds(body)
            }
        } else if untouched {
            Verdict::Absent
        } else {
            Verdict::CannotTell("the group has other members than before and than this call gives it".to_owned())
        })
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Joins {
    ById,
    ByEmail,
    Leaves,
}

/// In a workspace of the organisation or not. Slack leaves deactivated people out of the list unless asked, and
/// assigning one would make the account active again: so they are asked for, too.
struct Workspace {
    arguments: Value,
    joins: Joins,
    deactivated: bool,
    /// The same action had read that the person was in another place.
    was_out: bool,
}

/// Whether the person was surely not in the workspace, as the same action had read it.
fn was_out(question: &Question<'_>) -> bool {
    let teams = question.before.and_then(|body| body.pointer("/user/enterprise_user/teams"));
    teams.is_some_and(|teams| !ids(Some(teams)).iter().any(|team| text(question.arguments, "team_id") == Some(team)))
}

impl Workspace {
    fn new(arguments: Value, joins: Joins) -> Self {
        Self { arguments, joins, deactivated: false, was_out: false }
    }

    fn list(&self) -> Request {
        let mut arguments = json!({"limit": ADMIN_PAGE_SIZE});
        if self.deactivated {
            arguments["is_active"] = false.into();
        }
        request("admin.users.list", arguments, &self.arguments)
    }

    fn is_the_person(&self, user: &Value) -> bool {
        let (field, argument) = if self.joins == Joins::ByEmail { ("email", "email") } else { ("id", "user_id") };
        matches!((text(user, field), text(&self.arguments, argument)), (Some(a), Some(b)) if a.eq_ignore_ascii_case(b))
    }
}

impl Rule for Workspace {
    fn begin(&mut self) -> Result<Request, Verdict> {
        if text(&self.arguments, "team_id").is_none() {
            return Err(Verdict::CannotTell("the call names no workspace".to_owned()));
        }
        Ok(self.list())
    }

    fn read(&mut self, body: &Value) -> Read {
        let Some(users) = body.get("users").and_then(Value::as_array) else {
            return Read::Decided(Verdict::CannotTell("the answer has no users".to_owned()));
        };
        let Some(user) = users.iter().find(|u| self.is_the_person(u)) else { return Read::On };
        Read::Decided(match self.joins {
            Joins::Leaves => Verdict::Absent,
            _ if self.deactivated || user.get("is_active") == Some(&Value::Bool(false)) => {
                Verdict::CannotTell("the account is deactivated, and sending it again would activate it".to_owned())
            }
            _ if self.was_out => Verdict::Found(done()),
            _ => Verdict::Holds(done()),
        })
    }

    fn end(&mut self) -> End {
        if self.joins == Joins::Leaves {
            return End::Decided(Verdict::Holds(done()));
        }
        if self.deactivated {
            return End::Decided(Verdict::Absent);
        }
        self.deactivated = true;
        End::Ask(self.list())
    }
}

/// Roles of the organisation: given or taken, for each pair of person and entity.
pub(super) struct Assignments {
    arguments: Value,
    adds: bool,
    seen: BTreeSet<(String, String)>,
}

impl Assignments {
    pub(super) fn of(question: &Question<'_>) -> Self {
        let adds = question.method.name == "admin.roles.addAssignments";
        Self { arguments: question.arguments.clone(), adds, seen: BTreeSet::new() }
    }
}

impl Rule for Assignments {
    fn begin(&mut self) -> Result<Request, Verdict> {
        let role =
            text(&self.arguments, "role_id").ok_or_else(|| Verdict::CannotTell("the call names no role".to_owned()))?;
        let arguments = json!({
            "role_ids": [role],
            "entity_ids": ids(self.arguments.get("entity_ids")),
            "limit": ADMIN_PAGE_SIZE,
        });
        Ok(request("admin.roles.listAssignments", arguments, &self.arguments))
    }

    fn read(&mut self, body: &Value) -> Read {
        let Some(list) = body.get("role_assignments").and_then(Value::as_array) else {
            return Read::Decided(Verdict::CannotTell("the answer has no assignments".to_owned()));
        };
        let of_role = |a: &&Value| text(a, "role_id") == text(&self.arguments, "role_id");
        let pairs = list.iter().filter(of_role).filter_map(|a| Some((text(a, "user_id")?, text(a, "entity_id")?)));
        self.seen.extend(pairs.map(|(user, entity)| (user.to_owned(), entity.to_owned())));
        Read::On
    }

    fn end(&mut self) -> End {
        let entities = ids(self.arguments.get("entity_ids"));
        let users = ids(self.arguments.get("user_ids"));
        if entities.is_empty() || users.is_empty() {
            return End::Decided(Verdict::CannotTell("the call names nobody or nothing".to_owned()));
        }
        let holds = users
            .iter()
            .flat_map(|user| entities.iter().map(move |entity| (user.clone(), entity.clone())))
            .all(|pair| self.seen.contains(&pair) == self.adds);
        End::Decided(if holds { Verdict::Holds(done()) } else { Verdict::Absent })
    }
}
