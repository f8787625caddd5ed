//! Something new, found by its name (a person by the e-mail address), and told from what stood there before by who
//! made it and when. What stood there before is no effect of ours: then ours is absent, and sending it again gets
//! Slack's own "taken", which the plugin knows how to read.

use bellhop_core::time::Timestamp;
use serde_json::{Value, json};

use super::{End, PAGE_SIZE, Question, Read, Request, Rule, Verdict, earliest, request, text};

/// Whether a thing can be the effect of the call.
enum Origin {
    Ours,
    Another,
    Unclear,
}

fn cannot_tell_whose(what: &str) -> Read {
    Read::Decided(Verdict::CannotTell(format!("{what} is there, and nothing says whether this call made it")))
}

/// What an answer lists. One without a list says nothing of what there is, unless it counts none.
fn listed<'b>(body: &'b Value, list: &str) -> Result<&'b [Value], Verdict> {
    match body.get(list).and_then(Value::as_array) {
        Some(listed) => Ok(listed),
        None if body.get("totalResults").and_then(Value::as_u64) == Some(0) => Ok(&[]),
        None => Err(Verdict::CannotTell(format!("the answer has no {list}"))),
    }
}

fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

fn scim_filter(method: &'static str, filter: &str, original: &Value) -> Request {
    request(method, json!({"filter": filter, "startIndex": 1, "count": PAGE_SIZE}), original)
}

/// By SCIM's `meta.created`, where it is there.
fn made_at(resource: &Value) -> Option<Timestamp> {
    let text = resource.pointer("/meta/created")?.as_str()?;
    let at = text.parse::<jiff::Timestamp>().ok()?.as_millisecond();
    u64::try_from(at).ok().map(Timestamp::from_millis)
}

/// An account made by SCIM.
pub(super) struct Person {
    arguments: Value,
    email: Option<String>,
    user_name: Option<String>,
    external_id: Option<String>,
    earliest: Timestamp,
}

impl Person {
    pub(super) fn of(question: &Question<'_>) -> Self {
        let arguments = question.arguments;
        let emails = arguments.get("emails").and_then(Value::as_array);
        let primary = emails.and_then(|list| {
            list.iter().find(|e| e.get("primary") == Some(&Value::Bool(true))).or_else(|| list.first())
        });
        Self {
            email: primary.and_then(|e| text(e, "value")).map(str::to_owned),
            user_name: text(arguments, "userName").map(str::to_owned),
            external_id: text(arguments, "externalId").map(str::to_owned),
            earliest: earliest(question.intent_at),
            arguments: arguments.clone(),
        }
    }

    fn is_the_person(&self, resource: &Value) -> bool {
        let same =
            |a: Option<&str>, b: &Option<String>| matches!((a, b), (Some(a), Some(b)) if a.eq_ignore_ascii_case(b));
        match &self.email {
            Some(_) => resource
                .get("emails")
                .and_then(Value::as_array)
                .is_some_and(|list| list.iter().any(|e| same(text(e, "value"), &self.email))),
            None => same(text(resource, "userName"), &self.user_name),
        }
    }

    fn origin(&self, resource: &Value) -> Origin {
        if let Some(at) = made_at(resource) {
            return if at >= self.earliest { Origin::Ours } else { Origin::Another };
        }
        // Without a time, the identifier that the caller's own system gave is as good; a name alone is not.
        match (&self.external_id, text(resource, "externalId")) {
            (Some(wanted), Some(found)) if wanted == found => Origin::Ours,
            _ => Origin::Unclear,
        }
    }
}

impl Rule for Person {
    fn begin(&mut self) -> Result<Request, Verdict> {
        let filter = match (&self.email, &self.user_name) {
            (Some(email), _) => format!("email eq {}", quoted(email)),
            (None, Some(name)) => format!("userName eq {}", quoted(name)),
            (None, None) => return Err(Verdict::CannotTell("the call names neither e-mail nor user name".to_owned())),
        };
        Ok(scim_filter("scim.v2.get.Users", &filter, &self.arguments))
    }

    fn read(&mut self, body: &Value) -> Read {
        let resources = match listed(body, "Resources") {
            Ok(resources) => resources,
            Err(verdict) => return Read::Decided(verdict),
        };
        for resource in resources.iter().filter(|r| self.is_the_person(r)) {
            match self.origin(resource) {
                Origin::Ours => return Read::Decided(Verdict::Found(resource.clone())),
                Origin::Another => {}
                Origin::Unclear => return cannot_tell_whose("an account with this e-mail address"),
            }
        }
        Read::On
    }

    fn end(&mut self) -> End {
        End::Decided(Verdict::Absent)
    }
}

/// A channel, a user group or a group of SCIM.
struct Named {
    what: What,
    arguments: Value,
    acting: Option<String>,
    earliest: Timestamp,
}

#[derive(Clone, Copy)]
enum What {
    Channel,
    UserGroup,
    ScimGroup,
}

pub(super) fn of(question: &Question<'_>) -> Result<Box<dyn Rule>, Verdict> {
    let what = match question.method.name.as_str() {
        "conversations.create" => What::Channel,
        "usergroups.create" => What::UserGroup,
        "scim.v2.post.Groups" => What::ScimGroup,
        other => return Err(Verdict::CannotTell(format!("no way is known to find what {other} makes"))),
    };
    Ok(Box::new(Named {
        what,
        arguments: question.arguments.clone(),
        acting: question.acting.map(str::to_owned),
        earliest: earliest(question.intent_at),
    }))
}

impl Named {
    fn is_named_so(&self, thing: &Value) -> bool {
        let same = |field: &str, argument: &str| matches!((text(thing, field), text(&self.arguments, argument)), (Some(a), Some(b)) if a.eq_ignore_ascii_case(b));
        match self.what {
            What::Channel => same("name", "name"),
            What::UserGroup => same("name", "name") || same("handle", "handle"),
            What::ScimGroup => same("displayName", "displayName"),
        }
    }

    fn origin(&self, thing: &Value) -> Origin {
        let (at_field, by_field) = match self.what {
            What::Channel => ("created", "creator"),
            What::UserGroup => ("date_create", "created_by"),
            What::ScimGroup => {
                return match made_at(thing) {
                    Some(at) if at >= self.earliest => Origin::Ours,
                    Some(_) => Origin::Another,
                    None => Origin::Unclear,
                };
            }
        };
        // Seconds: the one in which it was made began before it was made.
        let at = thing.get(at_field).and_then(Value::as_u64);
        if at.is_some_and(|at| at < self.earliest.as_millis() / 1000) {
            return Origin::Another;
        }
        match (at, text(thing, by_field), &self.acting) {
            (Some(_), Some(by), Some(acting)) if by == acting => Origin::Ours,
            (_, Some(_), Some(_)) => Origin::Another,
            _ => Origin::Unclear,
        }
    }

    fn found(&self, thing: &Value) -> Value {
        match self.what {
            What::Channel => json!({"ok": true, "channel": thing}),
            What::UserGroup => json!({"ok": true, "usergroup": thing}),
            What::ScimGroup => thing.clone(),
        }
    }
}

impl Rule for Named {
    fn begin(&mut self) -> Result<Request, Verdict> {
        let original = &self.arguments;
        let nameless = || Verdict::CannotTell("the call names nothing".to_owned());
        match self.what {
            What::Channel => {
                text(original, "name").ok_or_else(nameless)?;
                let private = matches!(original.get("is_private"), Some(Value::Bool(true)))
                    || text(original, "is_private") == Some("true");
                let types = if private { "private_channel" } else { "public_channel" };
                Ok(request("conversations.list", json!({"types": types, "limit": PAGE_SIZE}), original))
            }
            What::UserGroup => {
                text(original, "name").ok_or_else(nameless)?;
                Ok(request("usergroups.list", json!({"include_disabled": true}), original))
            }
            What::ScimGroup => {
                let name = text(original, "displayName").ok_or_else(nameless)?;
                Ok(scim_filter("scim.v2.get.Groups", &format!("displayName eq {}", quoted(name)), original))
            }
        }
    }

    fn read(&mut self, body: &Value) -> Read {
        let list = match self.what {
            What::Channel => "channels",
            What::UserGroup => "usergroups",
            What::ScimGroup => "Resources",
        };
        let things = match listed(body, list) {
            Ok(things) => things,
            Err(verdict) => return Read::Decided(verdict),
        };
        for thing in things.iter().filter(|t| self.is_named_so(t)) {
            match self.origin(thing) {
                Origin::Ours => return Read::Decided(Verdict::Found(self.found(thing))),
                Origin::Another => {}
                Origin::Unclear => return cannot_tell_whose("one of this name"),
            }
        }
        Read::On
    }

    fn end(&mut self) -> End {
        End::Decided(Verdict::Absent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_d8_an_answer_without_a_list_is_no_absence() {
        for (body, count) in [
            (json!({"ok": true, "channels": []}), Some(0)),
            (json!({"ok": true, "channels": [{"id": "C1"}]}), Some(1)),
            (json!({"totalResults": 0}), Some(0)),
            (json!({"totalResults": 1}), None),
            (json!({"ok": true}), None),
            (json!({"ok": true, "channels": {}}), None),
            (Value::Null, None),
        ] {
            assert_eq!(listed(&body, "channels").ok().map(<[Value]>::len), count, "{body}");
        }
    }
}
