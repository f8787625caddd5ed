//! One object that was replaced, and the sessions of one person.

use serde_json::{Value, json};

use super::{End, Question, Read, Request, Rule, Verdict, done, request, text};

/// Sessions per page.
const PAGE_SIZE: u32 = 200;

/// An account or group that was replaced as a whole by SCIM.
pub(super) struct Resource {
    arguments: Value,
    asks: &'static str,
}

impl Resource {
    pub(super) fn of(question: &Question<'_>) -> Self {
        let asks =
            if question.method.name.contains("Groups") { "scim.v2.get.Groups.id" } else { "scim.v2.get.Users.id" };
        Self { arguments: question.arguments.clone(), asks }
    }
}

/// Whether all that was written is there; the service adds fields of its own.
fn covers(found: &Value, written: &Value) -> bool {
    match (found, written) {
        (Value::Object(found), Value::Object(written)) => {
            written.iter().all(|(name, value)| found.get(name).is_some_and(|f| covers(f, value)))
        }
        (Value::Array(found), Value::Array(written)) => {
            found.len() == written.len() && written.iter().all(|w| found.iter().any(|f| covers(f, w)))
        }
        (found, written) => found == written,
    }
}

impl Rule for Resource {
    fn begin(&mut self) -> Result<Request, Verdict> {
        let id =
            text(&self.arguments, "id").ok_or_else(|| Verdict::CannotTell("the call names no object".to_owned()))?;
        Ok(request(self.asks, json!({"id": id}), &Value::Null))
    }

    fn read(&mut self, body: &Value) -> Read {
        let mut written = self.arguments.clone();
        if let Some(fields) = written.as_object_mut() {
            fields.remove("schemas");
        }
        Read::Decided(if covers(body, &written) {
            Verdict::Found(body.clone())
        } else {
            Verdict::CannotTell("it differs from what was written, and writing again could undo others' changes".into())
        })
    }

    fn end(&mut self) -> End {
        End::Decided(Verdict::CannotTell("the answer showed nothing".to_owned()))
    }
}

/// Sessions: one that was ended is not listed; nobody's sessions were all ended while one of them is listed.
pub(super) struct Sessions {
    arguments: Value,
    one: Option<String>,
}

impl Sessions {
    pub(super) fn of(question: &Question<'_>) -> Self {
        let one = (question.method.name == "admin.users.session.invalidate")
            .then(|| question.arguments.get("session_id").map(plain).unwrap_or_default());
        Self { arguments: question.arguments.clone(), one }
    }
}

/// Ids of sessions come as numbers and as text.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Rule for Sessions {
    fn begin(&mut self) -> Result<Request, Verdict> {
        let user =
            text(&self.arguments, "user_id").ok_or_else(|| Verdict::CannotTell("the call names nobody".to_owned()))?;
        let mut arguments = json!({"limit": PAGE_SIZE});
        // Slack takes person and workspace together or neither.
        if text(&self.arguments, "team_id").is_some() {
            arguments["user_id"] = user.into();
        }
        Ok(request("admin.users.session.list", arguments, &self.arguments))
    }

    fn read(&mut self, body: &Value) -> Read {
        let Some(list) = body.get("active_sessions").and_then(Value::as_array) else {
            return Read::Decided(Verdict::CannotTell("the answer has no sessions".to_owned()));
        };
        let mut theirs = list.iter().filter(|s| text(s, "user_id") == text(&self.arguments, "user_id"));
        match &self.one {
            Some(id) if theirs.any(|s| s.get("session_id").map(plain).as_ref() == Some(id)) => {
                Read::Decided(Verdict::Absent)
            }
            None if theirs.next().is_some() => Read::Decided(Verdict::CannotTell(
                "there are sessions, and nothing says whether they were opened before or after".to_owned(),
            )),
            _ => Read::On,
        }
    }

    fn end(&mut self) -> End {
        End::Decided(Verdict::Found(done()))
    }
}
