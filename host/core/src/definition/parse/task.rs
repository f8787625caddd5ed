//! Tasks: what they have in common, and the simple kinds.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::unsupported::{KINDS, OTHER_KINDS, PROTOCOLS};
use super::{At, Reader, listed, parse_reference};
use crate::definition::{Call, Input, Output, Task, TaskExtras, TaskIndex, TaskKind, Then};
use crate::diagnostic::{Diagnostic, code};
use crate::expression::{Content, Template, Text, program_of};

/// Keys that every task can have.
const COMMON: [&str; 7] = ["if", "input", "output", "export", "timeout", "then", "metadata"];
/// The longest name of a task, in bytes.
const NAME_BYTES_MAX: usize = 200;
/// The longest JSON pointer of a task, in bytes.
const POINTER_BYTES_MAX: usize = 1_000;
/// The most tasks of one definition.
pub(super) const TASKS_MAX: usize = 20_000;

/// Where a task stands among its siblings: where `then` can lead.
#[derive(Clone, Copy)]
pub(super) enum Siblings<'n> {
    /// One after the other.
    List(&'n HashMap<&'n str, u32>),
    /// Branches of a `fork`, side by side.
    Branches,
}

/// The keys that belong to a kind besides [`COMMON`], the kind's own first.
fn keys_of(kind: &str) -> &'static [&'static str] {
    match kind {
        "call" => &["call", "with"],
        "for" => &["for", "while", "do"],
        "try" => &["try", "catch"],
        "listen" => &["listen", "foreach"],
        "do" => &["do"],
        "set" => &["set"],
        "switch" => &["switch"],
        "fork" => &["fork"],
        "wait" => &["wait"],
        "raise" => &["raise"],
        "emit" => &["emit"],
        _ => &["run"],
    }
}

impl<'a> Reader<'a> {
    /// The tasks of a list, in order.
    pub(super) fn task_list(&mut self, at: &At<'a>, parent: Option<TaskIndex>) -> Vec<TaskIndex> {
        self.tasks_of(at, parent, false)
    }

    pub(super) fn branches(&mut self, at: &At<'a>, parent: TaskIndex) -> Vec<TaskIndex> {
        self.tasks_of(at, Some(parent), true)
    }

    fn tasks_of(&mut self, at: &At<'a>, parent: Option<TaskIndex>, branches: bool) -> Vec<TaskIndex> {
        let Some(items) = self.list(at, "a list of tasks, each `- NAME: …`") else { return Vec::new() };
        if items.is_empty() {
            self.fault(code::INVALID_VALUE, at, format!("{} has no tasks", at.title()), None);
        }
        // The first of each name: a second one is a fault of its own.
        let mut positions: HashMap<&str, u32> = HashMap::with_capacity(items.len());
        for (i, item) in (0_u32..).zip(items) {
            if let Some(name) = item.as_object().filter(|m| m.len() == 1).and_then(|m| m.keys().next()) {
                positions.entry(name).or_insert(i);
            }
        }
        let mut indices = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            let at = at.item(i, item);
            let Some(map) = self.mapping(&at, "one task, `NAME: …`") else { continue };
            if map.len() > 1 {
                let mut entries: Vec<&String> = map.keys().collect();
                entries.truncate(5);
                let entries: Vec<&str> = entries.into_iter().map(String::as_str).collect();
                let message = format!(
                    "one item of the list holds one task, and here stand {}",
                    listed(&entries).replace(" or ", " and ")
                );
                self.fault(
                    code::AMBIGUOUS_TASK,
                    &at,
                    message,
                    Some("begin each task with a `-` of its own".to_owned()),
                );
            } else if map.is_empty() {
                self.fault(code::MISSING_KEY, &at, "this item holds no task", None);
            }
            for (name, value) in map {
                let at = at.child(name, value);
                if map.len() == 1 && positions.get(name.as_str()).is_some_and(|&first| (first as usize) < i) {
                    let message = format!("the list has a task `{name}` already");
                    self.fault_at_key(
                        code::DUPLICATE_TASK,
                        &at,
                        message,
                        Some("give each task a name of its own".to_owned()),
                    );
                }
                let siblings = if branches { Siblings::Branches } else { Siblings::List(&positions) };
                indices.extend(self.task(&at, name, parent, siblings));
            }
        }
        indices
    }

    fn task(
        &mut self,
        at: &At<'a>,
        name: &str,
        parent: Option<TaskIndex>,
        siblings: Siblings<'_>,
    ) -> Option<TaskIndex> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || at.pointer.len() > POINTER_BYTES_MAX {
            let message = if name.is_empty() {
                "a task needs a name"
            } else {
                "the names of this task and of those around it are too long"
            };
            self.fault_at_key(code::INVALID_NAME, at, message, None);
            return None;
        }
        if self.tasks.len() >= TASKS_MAX {
            if self.tasks.len() == TASKS_MAX {
                let message = format!("a definition can have at most {TASKS_MAX} tasks");
                self.fault_at_key(code::DEFINITION_TOO_LARGE, at, message, None);
            }
            return None;
        }
        let outer = self.task.replace(at.pointer.clone());
        let index = self.task_body(at, name, parent, siblings);
        self.task = outer;
        index
    }

    fn task_body(
        &mut self,
        at: &At<'a>,
        name: &str,
        parent: Option<TaskIndex>,
        siblings: Siblings<'_>,
    ) -> Option<TaskIndex> {
        let map = self.mapping(at, "a task: a mapping that says what to do, such as `call` or `set`")?;
        let kind = self.kind(at, map)?;
        let index = TaskIndex(u32::try_from(self.tasks.len()).ok()?);
        self.tasks.push(Task {
            index,
            parent,
            name: name.to_owned(),
            pointer: at.pointer.clone(),
            condition: None,
            input: Input::default(),
            output: Output::default(),
            export: Output::default(),
            timeout: None,
            then: Then::default(),
            extras: TaskExtras::default(),
            kind: TaskKind::Do(Vec::new()),
        });
        let known: Vec<&str> = keys_of(kind).iter().chain(COMMON.iter()).copied().collect();
        let kinds: Vec<&str> = KINDS.iter().chain(OTHER_KINDS.iter()).copied().collect();
        for (key, value) in map {
            // A second kind was reported by `kind`.
            if !known.contains(&key.as_str()) && !kinds.contains(&key.as_str()) {
                self.unknown_key(&at.child(key, value), &known);
            }
        }
        let task = Task {
            index,
            parent,
            name: name.to_owned(),
            pointer: at.pointer.clone(),
            condition: self.optional_program(at.get("if")),
            input: self.input(at.get("input")),
            output: self.output(at.get("output")),
            export: self.output(at.get("export")),
            timeout: self.timeout(at.get("timeout")),
            then: at.get("then").and_then(|at| self.then(&at, siblings)).unwrap_or_default(),
            extras: match at.get("metadata") {
                Some(at) => {
                    self.mapping(&at, "a mapping");
                    at.get("bellhop").map(|at| self.task_extras(&at, kind)).unwrap_or_default()
                }
                None => TaskExtras::default(),
            },
            kind: self.kind_of_task(at, kind, index, siblings).unwrap_or_else(|| TaskKind::Do(Vec::new())),
        };
        self.tasks[index.0 as usize] = task;
        Some(index)
    }

    /// What kind of task it is, by its keys.
    fn kind(&mut self, at: &At<'a>, map: &'a Map<String, Value>) -> Option<&'static str> {
        let all = || KINDS.iter().chain(OTHER_KINDS.iter()).copied();
        let mut found: Vec<&'static str> = all().filter(|kind| map.contains_key(*kind)).collect();
        if found.contains(&"for") {
            found.retain(|kind| *kind != "do");
        }
        match found.as_slice() {
            [kind] => Some(kind),
            [] => {
                let strange = map.keys().find(|key| !COMMON.contains(&key.as_str()));
                let known = Some(format!("a task has one of {}", listed(&KINDS)));
                match strange {
                    Some(key) => {
                        let near = self.nearest(key, all()).map(|k| format!("did you mean `{k}`?"));
                        let message = format!("`{key}` is not a kind of task");
                        self.fault_at_key(code::UNKNOWN_TASK_KIND, &at.child(key, &map[key]), message, near.or(known));
                    }
                    None => self.fault_at_key(
                        code::UNKNOWN_TASK_KIND,
                        at,
                        format!("{} does not say what to do", at.title()),
                        known,
                    ),
                }
                None
            }
            several => {
                let message = format!(
                    "a task does one thing, and {} has {}",
                    at.title(),
                    listed(several).replace(" or ", " and ")
                );
                self.fault_at_key(code::AMBIGUOUS_TASK, at, message, Some("make each a task of its own".to_owned()));
                None
            }
        }
    }

    /// Where `then` leads.
    pub(super) fn then(&mut self, at: &At<'a>, siblings: Siblings<'_>) -> Option<Then> {
        let text = self.text(at)?;
        match text {
            "continue" => return Some(Then::Continue),
            "exit" => return Some(Then::Exit),
            "end" => return Some(Then::End),
            _ => {}
        }
        let directives = ["continue", "exit", "end"];
        let Siblings::List(positions) = siblings else {
            let message = format!("branches run side by side, so `then` cannot lead to `{text}`");
            self.fault(code::UNKNOWN_TASK, at, message, Some(format!("write {}", listed(&directives))));
            return None;
        };
        if let Some(&position) = positions.get(text) {
            return Some(Then::Task(position));
        }
        let mut names: Vec<&str> = positions.keys().copied().collect();
        names.sort_unstable();
        let near = self.nearest(text, directives.into_iter().chain(names));
        let help = near.map_or_else(
            || "name a task of the same list, or `continue`, `exit` or `end`".to_owned(),
            |n| format!("did you mean `{n}`?"),
        );
        self.fault(code::UNKNOWN_TASK, at, format!("this list has no task `{text}`"), Some(help));
        None
    }

    fn kind_of_task(
        &mut self,
        at: &At<'a>,
        kind: &'static str,
        index: TaskIndex,
        siblings: Siblings<'_>,
    ) -> Option<TaskKind> {
        let value = at.get(kind)?;
        match kind {
            "call" => self.call(at, &value).map(TaskKind::Call),
            "do" => Some(TaskKind::Do(self.task_list(&value, Some(index)))),
            "set" => self.set(&value),
            "switch" => self.switch(&value, siblings),
            "for" => self.for_each(at, &value, index),
            "fork" => self.fork(&value, index),
            "try" => self.try_catch(at, &value, index),
            "wait" => self.delay(&value).map(TaskKind::Wait),
            "raise" => self.raise(&value),
            other => {
                self.unsupported_key(&value, other);
                None
            }
        }
    }

    /// A `call` and its `with`, both keys of `task`.
    pub(super) fn call(&mut self, task: &At<'a>, at: &At<'a>) -> Option<Call> {
        let text = self.text(at)?;
        let reference = self.reference(at, text);
        let mut arguments = Template::Object(Vec::new());
        let mut connection = None;
        if let Some(with) = task.get("with")
            && reference.is_some()
            && let Some(map) = self.mapping(&with, "a mapping of arguments")
        {
            let mut fields = Vec::with_capacity(map.len());
            for (key, value) in map {
                let at = with.child(key, value);
                if key == "connection" {
                    connection = self.connection(&at);
                } else {
                    fields.push((key.clone(), self.template(&at)));
                }
            }
            arguments = Template::Object(fields);
        }
        Some(Call { pointer: task.pointer.clone(), reference: reference?, arguments, connection })
    }

    pub(super) fn reference(&mut self, at: &At<'a>, text: &'a str) -> Option<crate::definition::ActionReference> {
        if PROTOCOLS.contains(&text) {
            self.unsupported_value(at, &format!("`call: {text}`"), text);
            return None;
        }
        if text.contains("://") {
            self.unsupported_value(at, "functions from a URL", "url");
            return None;
        }
        // Reported where `use.functions` stands.
        if self.reusable.functions.as_ref().is_some_and(|f| f.value.get(text).is_some()) {
            return None;
        }
        let reference = match parse_reference(text) {
            Ok(reference) => reference,
            Err((message, help)) => {
                let near = self.nearest(text, PROTOCOLS);
                let help = near.map_or(help, |_| "write NAME:VERSION@PLUGIN, as in message.send:1@slack".to_owned());
                self.fault(code::INVALID_CALL, at, message, Some(help));
                return None;
            }
        };
        if self.reusable.catalogs.as_ref().is_some_and(|c| c.value.get(&reference.plugin).is_some()) {
            let mut diagnostic = Diagnostic::error(
                code::CATALOG_CLASH,
                format!("`{}` is a catalog of this file as well as a plugin", reference.plugin),
            );
            diagnostic.action = Some(text.to_owned());
            self.report(diagnostic, at, Some(format!("remove `{}` from `use.catalogs`", reference.plugin)));
            return None;
        }
        Some(reference)
    }

    fn connection(&mut self, at: &At<'a>) -> Option<Text> {
        let Some(text) = at.value.as_str() else {
            self.wrong_type(at, "an alias of a connection (text) or an expression");
            return None;
        };
        let content = match program_of(text) {
            Some(program) => Content::Program(program.to_owned()),
            None => {
                if !super::is_plugin_name(text) {
                    let message = format!("`{text}` is not a name of a connection: lower-case words with `-` between");
                    self.fault(code::INVALID_NAME, at, message, None);
                    return None;
                }
                Content::Literal(Value::String(text.to_owned()))
            }
        };
        Some(Text { content, pointer: at.pointer.clone() })
    }

    fn set(&mut self, at: &At<'a>) -> Option<TaskKind> {
        match at.value {
            Value::Object(map) if map.is_empty() => {
                self.fault(code::INVALID_VALUE, at, "`set` sets nothing", None);
                None
            }
            Value::Object(_) => Some(TaskKind::Set(self.template(at))),
            Value::String(text) if program_of(text).is_some() => Some(TaskKind::Set(self.template(at))),
            Value::String(text) => {
                let help =
                    Some(format!("if an expression is meant: ${{ {} }}", text.chars().take(60).collect::<String>()));
                self.fault(
                    code::WRONG_TYPE,
                    at,
                    "`set` must be a mapping or an expression in `${ }`, not plain text",
                    help,
                );
                None
            }
            _ => {
                self.wrong_type(at, "a mapping or an expression");
                None
            }
        }
    }
}
