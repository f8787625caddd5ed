//! The kinds of task that hold others: `switch`, `for`, `fork`, `try`; and `raise` with its errors.

use std::collections::BTreeMap;

use serde_json::Value;

use super::task::Siblings;
use super::{At, Reader, is_variable_name};
use crate::definition::{Backoff, Case, Delay, For, Retry, TaskIndex, TaskKind, Try};
use crate::diagnostic::code;
use crate::expression::{Template, program_of};

/// Variables that every expression may have, without `$`.
pub(crate) const GLOBALS: [&str; 8] =
    ["context", "input", "output", "secrets", "authorization", "task", "workflow", "runtime"];
/// More retries than this are a mistake: each is recorded.
const ATTEMPTS_MAX: u64 = 10_000;

impl<'a> Reader<'a> {
    pub(super) fn switch(&mut self, at: &At<'a>, siblings: Siblings<'_>) -> Option<TaskKind> {
        let items = self.list(at, "a list of cases, each `- NAME: {when: …, then: …}`")?;
        if items.is_empty() {
            self.fault(code::INVALID_VALUE, at, "`switch` has no cases", None);
        }
        let mut cases: Vec<Case> = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            let at = at.item(i, item);
            let Some(map) = self.mapping(&at, "one case, `NAME: {when: …, then: …}`") else { continue };
            if map.len() != 1 {
                let help = Some("begin each case with a `-` of its own".to_owned());
                self.fault(code::AMBIGUOUS_TASK, &at, "one item of the list holds one case", help);
                continue;
            }
            for (name, value) in map {
                let at = at.child(name, value);
                if cases.iter().any(|case| case.name == *name) {
                    self.fault_at_key(code::DUPLICATE_TASK, &at, format!("there is a case `{name}` already"), None);
                }
                if let Some(previous) = cases.iter().find(|case| case.when.is_none()) {
                    let message = format!("this case is never reached: `{}` before it has no `when`", previous.name);
                    self.fault_at_key(
                        code::INVALID_VALUE,
                        &at,
                        message,
                        Some("put the case without `when` last".to_owned()),
                    );
                }
                let Some(map) = self.mapping(&at, "a mapping with `when` and `then`") else { continue };
                self.known_keys(&at, map, &["when", "then"]);
                let when = at.get("when");
                let has_when = when.is_some();
                let when = self.optional_program(when);
                let then = self.required(&at, "then").and_then(|at| self.then(&at, siblings)).unwrap_or_default();
                if !has_when || when.is_some() {
                    cases.push(Case { name: name.clone(), when, then });
                }
            }
        }
        Some(TaskKind::Switch(cases))
    }

    pub(super) fn for_each(&mut self, task: &At<'a>, at: &At<'a>, index: TaskIndex) -> Option<TaskKind> {
        let mut each = "item".to_owned();
        let mut position = "index".to_owned();
        let mut collection = None;
        if let Some(map) = self.mapping(at, "a mapping with `in`") {
            self.known_keys(at, map, &["each", "in", "at"]);
            if let Some(name) = at.get("each").and_then(|at| self.variable(&at)) {
                each = name;
            }
            if let Some(name) = at.get("at").and_then(|at| self.variable(&at)) {
                position = name;
            }
            if each == position {
                self.fault(code::INVALID_NAME, at, format!("`each` and `at` are both `{each}`"), None);
            }
            collection = self.required(at, "in").and_then(|at| self.program(&at));
        }
        let condition = self.optional_program(task.get("while"));
        let tasks = self.required(task, "do").map(|at| self.task_list(&at, Some(index))).unwrap_or_default();
        Some(TaskKind::For(For { each, at: position, collection: collection?, condition, tasks }))
    }

    /// A name for a variable, with or without `$`.
    fn variable(&mut self, at: &At<'a>) -> Option<String> {
        let text = self.text(at)?;
        let name = text.strip_prefix('$').unwrap_or(text);
        if !is_variable_name(name) {
            let message = format!("`{text}` is not a name of a variable: letters, digits and `_`, no digit first");
            self.fault(code::INVALID_NAME, at, message, None);
            return None;
        }
        if GLOBALS.contains(&name) {
            self.fault(code::INVALID_NAME, at, format!("`${name}` exists already and would be hidden"), None);
            return None;
        }
        Some(name.to_owned())
    }

    pub(super) fn fork(&mut self, at: &At<'a>, index: TaskIndex) -> Option<TaskKind> {
        let map = self.mapping(at, "a mapping with `branches`")?;
        self.known_keys(at, map, &["branches", "compete"]);
        let compete = self.boolean(at.get("compete"));
        let branches = self.required(at, "branches").map(|at| self.branches(&at, index)).unwrap_or_default();
        Some(TaskKind::Fork { branches, compete })
    }

    pub(super) fn try_catch(&mut self, task: &At<'a>, at: &At<'a>, index: TaskIndex) -> Option<TaskKind> {
        let tasks = self.task_list(at, Some(index));
        let mut caught = Try {
            tasks,
            filter: BTreeMap::new(),
            variable: "error".to_owned(),
            when: None,
            except_when: None,
            retry: None,
            handler: Vec::new(),
        };
        let catch = self.required(task, "catch")?;
        let map = self.mapping(&catch, "a mapping")?;
        self.known_keys(&catch, map, &["errors", "as", "when", "exceptWhen", "retry", "do"]);
        if let Some(errors) = catch.get("errors")
            && let Some(map) = self.mapping(&errors, "a mapping with `with`")
        {
            self.known_keys(&errors, map, &["with"]);
            if let Some(with) = self.required(&errors, "with") {
                caught.filter = self.filter(&with);
            }
        }
        if let Some(name) = catch.get("as").and_then(|at| self.variable(&at)) {
            caught.variable = name;
        }
        caught.when = self.optional_program(catch.get("when"));
        caught.except_when = self.optional_program(catch.get("exceptWhen"));
        if let Some(at) = catch.get("retry") {
            caught.retry = match at.value.as_str() {
                Some(name) => {
                    let definition = self.declared(&at, "retries", name)?;
                    self.silently(|reader| reader.retry_policy(&definition))
                }
                None => self.retry_policy(&at),
            };
        }
        if let Some(at) = catch.get("do") {
            caught.handler = self.task_list(&at, Some(index));
        }
        Some(TaskKind::Try(caught))
    }

    /// `catch.errors.with`.
    fn filter(&mut self, at: &At<'a>) -> BTreeMap<String, Template> {
        let mut filter = BTreeMap::new();
        let Some(map) = self.mapping(at, "a mapping of fields that an error must have") else { return filter };
        if map.is_empty() {
            self.fault(
                code::INVALID_VALUE,
                at,
                "`with` names no field",
                Some("leave `errors` out to catch all".to_owned()),
            );
        }
        self.known_keys(at, map, &["type", "status", "instance", "title", "detail", "details"]);
        for (key, value) in map {
            let at = at.child(key, value);
            let is_expression = value.as_str().is_some_and(|t| program_of(t).is_some());
            if key == "status" && !is_expression {
                self.integer(&at, 100, 599);
            } else {
                self.text(&at);
            }
            // The language's schema says `details` here and `detail` where errors are raised: one field.
            let field = if key == "details" { "detail" } else { key };
            filter.insert(field.to_owned(), self.template(&at));
        }
        filter
    }

    pub(super) fn retry_policy(&mut self, at: &At<'a>) -> Option<Retry> {
        let map = self.mapping(at, "a mapping, or a name in `use.retries`")?;
        self.known_keys(at, map, &["when", "exceptWhen", "delay", "backoff", "limit", "jitter"]);
        let mut retry = Retry {
            when: self.optional_program(at.get("when")),
            except_when: self.optional_program(at.get("exceptWhen")),
            delay: at.get("delay").and_then(|at| self.delay(&at)).unwrap_or(Delay::Millis(0)),
            backoff: at.get("backoff").map(|at| self.backoff(&at)).unwrap_or_default(),
            attempts_max: None,
            attempt_duration: None,
            duration: None,
            jitter: None,
        };
        if let Some(limit) = at.get("limit")
            && let Some(map) = self.mapping(&limit, "a mapping with `attempt` or `duration`")
        {
            self.known_keys(&limit, map, &["attempt", "duration"]);
            retry.duration = limit.get("duration").and_then(|at| self.delay(&at));
            if let Some(attempt) = limit.get("attempt")
                && let Some(map) = self.mapping(&attempt, "a mapping with `count` or `duration`")
            {
                self.known_keys(&attempt, map, &["count", "duration"]);
                let count = attempt.get("count").and_then(|at| self.integer(&at, 0, ATTEMPTS_MAX));
                retry.attempts_max = count.and_then(|n| u32::try_from(n).ok());
                retry.attempt_duration = attempt.get("duration").and_then(|at| self.delay(&at));
            }
        }
        if let Some(jitter) = at.get("jitter")
            && let Some(map) = self.mapping(&jitter, "a mapping with `from` and `to`")
        {
            self.known_keys(&jitter, map, &["from", "to"]);
            let from = self.required(&jitter, "from").and_then(|at| self.delay(&at));
            let to = self.required(&jitter, "to").and_then(|at| self.delay(&at));
            if let (Some(Delay::Millis(from)), Some(Delay::Millis(to))) = (&from, &to)
                && from > to
            {
                self.fault(code::INVALID_VALUE, &jitter, "`from` is longer than `to`", None);
            }
            retry.jitter = from.zip(to);
        }
        Some(retry)
    }

    fn backoff(&mut self, at: &At<'a>) -> Backoff {
        let Some(map) = self.mapping(at, "one of `constant: {}`, `linear: {}` and `exponential: {}`") else {
            return Backoff::default();
        };
        let kinds = ["constant", "linear", "exponential"];
        self.known_keys(at, map, &kinds);
        if map.len() != 1 {
            let message = "`backoff` has one of `constant: {}`, `linear: {}` and `exponential: {}`";
            self.fault(code::INVALID_VALUE, at, message, None);
        }
        for kind in kinds {
            if let Some(at) = at.get(kind)
                && let Some(map) = self.mapping(&at, "an empty mapping, `{}`")
            {
                self.known_keys(&at, map, &[]);
            }
        }
        match map.keys().next().map(String::as_str) {
            Some("linear") => Backoff::Linear,
            Some("exponential") => Backoff::Exponential,
            _ => Backoff::Constant,
        }
    }

    pub(super) fn raise(&mut self, at: &At<'a>) -> Option<TaskKind> {
        let map = self.mapping(at, "a mapping with `error`")?;
        self.known_keys(at, map, &["error"]);
        let error = self.required(at, "error")?;
        let template = match error.value {
            Value::String(name) => {
                let definition = self.declared(&error, "errors", name)?;
                self.silently(|reader| reader.error(&definition))
            }
            _ => self.error(&error),
        };
        template.map(TaskKind::Raise)
    }

    /// An error as `raise` and `use.errors` write it.
    pub(super) fn error(&mut self, at: &At<'a>) -> Option<Template> {
        let map = self.mapping(at, "a mapping with `type` and `status`, or a name in `use.errors`")?;
        self.known_keys(at, map, &["type", "status", "instance", "title", "detail"]);
        let expression = |at: &At<'_>| at.value.as_str().is_some_and(|t| program_of(t).is_some());
        if let Some(kind) = self.required(at, "type")
            && let Some(text) = self.text(&kind)
            && !expression(&kind)
            && !is_absolute(text)
        {
            let message = format!("`{}` is not an absolute URI", text.chars().take(60).collect::<String>());
            let help =
                Some(format!("write https://example.com/errors/{}", if text.contains(' ') { "NAME" } else { text }));
            self.fault(code::INVALID_VALUE, &kind, message, help);
        }
        if let Some(status) = self.required(at, "status")
            && !expression(&status)
        {
            self.integer(&status, 100, 599);
        }
        for key in ["instance", "title", "detail"] {
            if let Some(at) = at.get(key) {
                self.text(&at);
            }
        }
        Some(self.template(at))
    }
}

/// `^[A-Za-z][A-Za-z0-9+\-.]*://.*`, the language's pattern.
fn is_absolute(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
    })
}
