//! Resolves an unknown outcome by the method's rule (semantics, section 1): which requests to read back with, and
//! what their answers show. Pure: the engine sends the requests, when it may.
//!
//! *Found* and *absent* are said only of a read-back that was complete. Whatever failed, lacked a scope, was cut by a
//! limit or fits both stories is *cannot tell*, and the run parks.

pub mod answer;
mod list;
mod message;
mod named;
mod scheduled;
mod single;
mod stamp;

use bellhop_core::time::Timestamp;
use serde_json::{Map, Value, json};

use crate::catalog::{Method, Pages, Reconcile};
use crate::client::Answer;

pub use stamp::{Unstampable, stamp};

/// How much earlier than the intent a thing may have been made by it: clocks differ.
pub const SLACK_CLOCK_BEHIND_MS_MAX: u64 = 60_000;
/// The read-back begins no earlier than this after the sending connection ended or its process died. The engine
/// waits; nothing here can.
pub const QUIET_MS: u64 = 5_000;
/// Longer lists are not read to their end: cannot tell.
const PAGES_MAX: u32 = 100;
/// Slack advises 200; where it gives less, `next_cursor` says so.
const PAGE_SIZE: u32 = 200;

/// The call whose outcome is not known.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its arguments, before the stamp or after it.
    pub arguments: &'a Value,
    /// Its key, as it was given to [`stamp`].
    pub key: &'a str,
    /// When the intent was written.
    pub intent_at: Timestamp,
    /// The time now, by which a message for later may have been posted.
    pub now: Timestamp,
    /// The user as whom the token acts (`user_id` of `auth.test`), where known.
    pub acting: Option<&'a str>,
    /// The answer that the same action got, earlier and last, from the method that this rule asks; where there is
    /// one, it tells "nothing was done" from "somebody else did something".
    pub before: Option<&'a Value>,
}

/// A read of the same action that tells what was there before a write: what [`Question::before`] wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before<'a> {
    /// The method that was asked.
    pub method: &'static str,
    /// The argument that says of what it was asked.
    pub field: &'static str,
    /// Its value.
    pub value: &'a str,
}

/// Of which earlier read a write's rule wants to know; most rules of none.
#[must_use]
pub fn before<'a>(method: &Method, arguments: &'a Value) -> Option<Before<'a>> {
    let (method, field, argument) = match method.name.as_str() {
        "usergroups.users.update" => ("usergroups.users.list", "usergroup", "usergroup"),
        "admin.users.assign" => ("users.info", "user", "user_id"),
        "chat.scheduleMessage" => ("chat.scheduledMessages.list", "channel", "channel"),
        _ => return None,
    };
    text(arguments, argument).map(|value| Before { method, field, value })
}

/// Whether the answers of this method are what some rule wants to know of; see [`before`].
#[must_use]
pub fn tells_what_was_before(method: &Method) -> bool {
    matches!(method.name.as_str(), "usergroups.users.list" | "users.info" | "chat.scheduledMessages.list")
}

/// A request to read back with. It goes through limiter and client like any other; it needs no intent.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The method, as Slack writes it.
    pub method: &'static str,
    /// Its arguments.
    pub arguments: Value,
}

/// What came out.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It was carried out; this is the body that the call would have had, as far as can be known.
    Found(Value),
    /// What it asks for is so, and nothing tells whether it made it so or found it so; the body that it would have had.
    Holds(Value),
    /// It was not: send it again under a new intent.
    Absent,
    /// Whether it was or not, sending it again under a new intent leaves what one sending leaves.
    Repeat,
    /// It cannot be told, and why: the run parks.
    CannotTell(String),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Send this and call [`Reconciler::next`] with its answer.
    Ask(Request),
    /// Done.
    Done(Verdict),
}

/// What a rule makes of one page.
enum Read {
    Decided(Verdict),
    /// Nothing yet: the next page, or, at the end, [`Rule::end`].
    On,
}

/// What a rule makes of the end of a list.
enum End {
    Decided(Verdict),
    /// There is another list to read.
    Ask(Request),
}

trait Rule: Send {
    /// The first request.
    fn begin(&mut self) -> Result<Request, Verdict>;
    /// One page of an answer.
    fn read(&mut self, body: &Value) -> Read;
    /// All pages were read.
    fn end(&mut self) -> End;
    /// Slack refused to answer. Nothing is learned from that, but for a rule that says otherwise.
    fn refused(&mut self, error: &str) -> Verdict {
        Verdict::CannotTell(format!("reading back was refused: `{error}`"))
    }
}

/// The resolution of one unknown outcome.
pub struct Reconciler {
    rule: Box<dyn Rule>,
    pages: Option<Pages>,
    asked: Request,
    count: u32,
}

impl std::fmt::Debug for Reconciler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reconciler").field("asked", &self.asked).field("count", &self.count).finish_non_exhaustive()
    }
}

/// Begins: the first request with what takes its answers, or the verdict when nothing needs to be asked.
///
/// # Errors
/// There is no error: `Err` is the verdict.
pub fn begin(question: &Question<'_>) -> Result<(Reconciler, Request), Verdict> {
    let mut rule: Box<dyn Rule> = match question.method.reconcile {
        Reconcile::Read | Reconcile::Repeat => return Err(Verdict::Repeat),
        Reconcile::Park => {
            let what = question.method.repeating.sentence();
            return Err(Verdict::CannotTell(format!("nothing of it can be read back, and repeating it {what}")));
        }
        Reconcile::Message => Box::new(message::Message::of(question)),
        Reconcile::Scheduled => Box::new(scheduled::Scheduled::of(question)),
        Reconcile::Person => Box::new(named::Person::of(question)),
        Reconcile::Named => named::of(question)?,
        Reconcile::Members => list::of(question)?,
        Reconcile::Role => Box::new(list::Assignments::of(question)),
        Reconcile::Resource => Box::new(single::Resource::of(question)),
        Reconcile::Session => Box::new(single::Sessions::of(question)),
    };
    let asked = rule.begin()?;
    let pages = pages_of(asked.method);
    Ok((Reconciler { rule, pages, asked: asked.clone(), count: 1 }, asked))
}

fn pages_of(method: &str) -> Option<Pages> {
    crate::catalog::Catalog::built_in().by_name(method).and_then(|m| m.pages)
}

impl Reconciler {
    /// Takes the answer to what was asked last. When no answer came (rate limit, no connection), the same request may
    /// be sent again instead, as often as the engine likes: reading changes nothing.
    pub fn next(&mut self, answer: &Answer) -> Step {
        if !answer.ok {
            return Step::Done(self.rule.refused(answer.error.as_deref().unwrap_or("unknown_error")));
        }
        if let Read::Decided(verdict) = self.rule.read(&answer.body) {
            return Step::Done(verdict);
        }
        match self.following(&answer.body) {
            Err(why) => Step::Done(Verdict::CannotTell(why.to_owned())),
            Ok(Some(request)) => self.ask(request),
            Ok(None) => match self.rule.end() {
                End::Decided(verdict) => Step::Done(verdict),
                End::Ask(request) => self.ask(request),
            },
        }
    }

    fn ask(&mut self, request: Request) -> Step {
        if self.count >= PAGES_MAX {
            return Step::Done(Verdict::CannotTell(format!("the list has more than {PAGES_MAX} pages")));
        }
        self.count += 1;
        self.pages = pages_of(request.method);
        self.asked = request.clone();
        Step::Ask(request)
    }

    /// The next page of the list that was asked, if it has one.
    fn following(&self, body: &Value) -> Result<Option<Request>, &'static str> {
        let with = |name: &str, value: Value| {
            let mut request = self.asked.clone();
            if let Some(fields) = request.arguments.as_object_mut() {
                fields.insert(name.to_owned(), value);
            }
            request
        };
        if self.pages == Some(Pages::StartIndex) {
            let number = |name: &str| body.get(name).and_then(Value::as_u64);
            let here = body.get("Resources").and_then(Value::as_array).map_or(0, |r| r.len() as u64);
            let (Some(total), start) = (number("totalResults"), number("startIndex").unwrap_or(1).max(1)) else {
                return Err("the list does not say how long it is");
            };
            let seen = start - 1 + here;
            if seen >= total {
                return Ok(None);
            }
            // A page that brings nothing would be asked for ever.
            return if here == 0 {
                Err("the list ended early")
            } else {
                Ok(Some(with("startIndex", (seen + 1).into())))
            };
        }
        let cursor = body.pointer("/response_metadata/next_cursor").and_then(Value::as_str).unwrap_or_default();
        if !cursor.is_empty() {
            return Ok(Some(with("cursor", cursor.into())));
        }
        if body.get("has_more") == Some(&Value::Bool(true)) {
            return Err("the list goes on and Slack does not say where");
        }
        if body.get("is_limited") == Some(&Value::Bool(true)) {
            return Err("the plan hides a part of the list");
        }
        Ok(None)
    }
}

/// An argument as text; none when absent or empty.
fn text<'a>(arguments: &'a Value, name: &str) -> Option<&'a str> {
    arguments.get(name).and_then(Value::as_str).filter(|t| !t.is_empty())
}

/// A list of ids, which callers write as an array, as JSON in a string, or with commas.
fn ids(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(written)) => match serde_json::from_str::<Vec<String>>(written) {
            Ok(list) => list,
            Err(_) => written.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect(),
        },
        _ => Vec::new(),
    }
}

/// A request, with the workspace of the original call where that named one.
fn request(method: &'static str, arguments: Value, original: &Value) -> Request {
    let mut arguments = match arguments {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    let takes = crate::catalog::Catalog::built_in().by_name(method).is_some_and(|m| m.takes("team_id"));
    if let Some(team) = original.get("team_id").filter(|_| takes) {
        arguments.entry("team_id").or_insert_with(|| team.clone());
    }
    Request { method, arguments: Value::Object(arguments) }
}

/// The earliest time at which the call can have had its effect.
fn earliest(intent_at: Timestamp) -> Timestamp {
    Timestamp::from_millis(intent_at.as_millis().saturating_sub(SLACK_CLOCK_BEHIND_MS_MAX))
}

/// What a call answers that only says that it was done.
fn done() -> Value {
    json!({"ok": true})
}
