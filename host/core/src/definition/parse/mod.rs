//! Reads a [`Workflow`] off a [`Source`] by hand, so that every fault is reported at once, at its place, in words.

use serde_json::{Map, Value};

use super::source::Source;
use super::{Task, Workflow};
use crate::diagnostic::{Code, Diagnostic, code, nearest};
use crate::expression::{Content, Template, Text, program_of};
use crate::pointer;
use crate::schema::Together;
use crate::value::kind_of;

mod document;
mod extras;
mod flow;
mod name;
mod reference;
mod task;
mod unsupported;

pub use extras::PURPOSES;
pub use name::{is_action_name, is_plugin_name, is_variable_name, is_version, is_workflow_name};
pub use reference::parse_reference;

/// At most so many faults of one definition are reported; one more says how many there are.
const DIAGNOSTICS_MAX: usize = 100;

/// Reads the text of a definition, YAML or JSON.
///
/// The workflow is there if and only if no diagnostic is an error. The diagnostics are all that could be found, in the
/// order of the file. The [`Source`] answers where things stand, as far as the text could be read.
#[must_use]
pub fn parse(file: &str, text: &str) -> (Option<Workflow>, Source, Vec<Diagnostic>) {
    let (source, mut diagnostics) = Source::read(file, text);
    let readable = !source.value.is_null() || diagnostics.is_empty();
    let mut workflow = None;
    if readable {
        let mut reader = Reader::new(&source);
        workflow = reader.workflow();
        diagnostics.append(&mut reader.diagnostics);
        if reader.omitted > 0 {
            let message = format!("{} more faults are not shown", reader.omitted);
            diagnostics.push(Diagnostic::error(code::TOO_MANY_FAULTS, message));
        }
    }
    // One fault without a place is the whole file's, or the count: the former stands alone, the latter belongs last.
    diagnostics.sort_by_key(|d| d.place.as_ref().map_or((u32::MAX, u32::MAX), |p| (p.line, p.column)));
    if diagnostics.iter().any(Diagnostic::is_error) {
        workflow = None;
    }
    (workflow, source, diagnostics)
}

/// A value and where it stands.
#[derive(Clone)]
struct At<'a> {
    value: &'a Value,
    pointer: String,
}

impl<'a> At<'a> {
    fn get(&self, key: &str) -> Option<At<'a>> {
        self.value.get(key).map(|value| self.child(key, value))
    }

    fn child(&self, segment: &str, value: &'a Value) -> At<'a> {
        At { value, pointer: pointer::child(&self.pointer, segment) }
    }

    fn item(&self, index: usize, value: &'a Value) -> At<'a> {
        At { value, pointer: pointer::item(&self.pointer, index) }
    }

    /// Its key in backticks, for messages.
    fn title(&self) -> String {
        match pointer::last(&self.pointer).as_deref() {
            None | Some("") => "the definition".to_owned(),
            Some(key) if key.bytes().all(|b| b.is_ascii_digit()) => "this item".to_owned(),
            Some(key) => format!("`{key}`"),
        }
    }
}

/// What `use` declares.
#[derive(Default)]
struct Reusable<'a> {
    retries: Option<At<'a>>,
    errors: Option<At<'a>>,
    timeouts: Option<At<'a>>,
    catalogs: Option<At<'a>>,
    functions: Option<At<'a>>,
}

struct Reader<'a> {
    source: &'a Source,
    diagnostics: Vec<Diagnostic>,
    omitted: usize,
    /// The task that is being read.
    task: Option<String>,
    tasks: Vec<Task>,
    reusable: Reusable<'a>,
    /// The schemas so far; each takes its time to compile.
    schemas: Together,
}

impl<'a> Reader<'a> {
    fn new(source: &'a Source) -> Self {
        Self {
            source,
            diagnostics: Vec::new(),
            omitted: 0,
            task: None,
            tasks: Vec::new(),
            reusable: Reusable::default(),
            schemas: Together::default(),
        }
    }

    fn push(&mut self, mut diagnostic: Diagnostic, pointer: &str) {
        if self.diagnostics.len() >= DIAGNOSTICS_MAX {
            self.omitted += 1;
            return;
        }
        diagnostic.task.clone_from(&self.task);
        diagnostic.pointer = Some(pointer.to_owned());
        self.diagnostics.push(diagnostic);
    }

    /// What was probably meant; not looked for once no more faults are shown.
    fn nearest<'c>(&self, word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
        if self.diagnostics.len() >= DIAGNOSTICS_MAX { None } else { nearest(word, candidates) }
    }

    /// An error marked at the value.
    fn fault(&mut self, code: Code, at: &At<'_>, message: impl Into<String>, help: Option<String>) {
        self.report(Diagnostic::error(code, message), at, help);
    }

    fn report(&mut self, mut diagnostic: Diagnostic, at: &At<'_>, help: Option<String>) {
        diagnostic.place = self.source.place(&at.pointer);
        if let Some(help) = help {
            diagnostic = diagnostic.with_help(help);
        }
        self.push(diagnostic, &at.pointer);
    }

    /// An error marked at the key of the value.
    fn fault_at_key(&mut self, code: Code, at: &At<'_>, message: impl Into<String>, help: Option<String>) {
        let mut diagnostic = Diagnostic::error(code, message);
        diagnostic.place = self.source.key_place(&at.pointer);
        if let Some(help) = help {
            diagnostic = diagnostic.with_help(help);
        }
        self.push(diagnostic, &at.pointer);
    }

    fn wrong_type(&mut self, at: &At<'_>, wanted: &str) {
        let help = match at.value {
            Value::Number(_) | Value::Bool(_) if wanted == "text" => {
                self.source.place(&at.pointer).filter(|p| !p.text.is_empty()).map(|p| {
                    let raw: String = p.text.chars().skip(p.column as usize - 1).take(p.length as usize).collect();
                    format!("write it in quotes: '{raw}'")
                })
            }
            _ => None,
        };
        let message = format!("{} must be {wanted}, not {}", at.title(), kind_of(at.value));
        self.fault(code::WRONG_TYPE, at, message, help);
    }

    fn mapping(&mut self, at: &At<'a>, wanted: &str) -> Option<&'a Map<String, Value>> {
        let found = at.value.as_object();
        if found.is_none() {
            self.wrong_type(at, wanted);
        }
        found
    }

    fn list(&mut self, at: &At<'a>, wanted: &str) -> Option<&'a Vec<Value>> {
        let found = at.value.as_array();
        if found.is_none() {
            self.wrong_type(at, wanted);
        }
        found
    }

    fn text(&mut self, at: &At<'a>) -> Option<&'a str> {
        let found = at.value.as_str();
        if found.is_none() {
            self.wrong_type(at, "text");
        }
        found
    }

    fn optional_text(&mut self, at: Option<At<'a>>) -> Option<String> {
        at.and_then(|at| self.text(&at).map(str::to_owned))
    }

    fn boolean(&mut self, at: Option<At<'a>>) -> bool {
        let Some(at) = at else { return false };
        let found = at.value.as_bool();
        if found.is_none() {
            self.wrong_type(&at, "true or false");
        }
        found.unwrap_or(false)
    }

    /// A whole number from `least` to `most`.
    fn integer(&mut self, at: &At<'a>, least: u64, most: u64) -> Option<u64> {
        if !at.value.is_i64() && !at.value.is_u64() {
            self.wrong_type(at, "a whole number");
            return None;
        }
        let found = at.value.as_u64().filter(|n| (least..=most).contains(n));
        if found.is_none() {
            let message = format!("{} must be from {least} to {most}", at.title());
            self.fault(code::INVALID_VALUE, at, message, None);
        }
        found
    }

    /// One of `words`; its position.
    fn word(&mut self, at: &At<'a>, words: &[&str]) -> Option<usize> {
        let Some(text) = at.value.as_str() else {
            self.wrong_type(at, &one_of(words));
            return None;
        };
        let found = words.iter().position(|w| *w == text);
        if found.is_none() {
            let message = format!("{} must be {}", at.title(), one_of(words));
            let help = self.nearest(text, words.iter().copied()).map(|w| format!("did you mean `{w}`?"));
            self.fault(code::INVALID_VALUE, at, message, help);
        }
        found
    }

    /// Reports every key of `map` that is not among `known`.
    fn known_keys(&mut self, at: &At<'a>, map: &'a Map<String, Value>, known: &[&str]) {
        for (key, value) in map {
            if !known.contains(&key.as_str()) {
                self.unknown_key(&at.child(key, value), known);
            }
        }
    }

    fn unknown_key(&mut self, at: &At<'a>, known: &[&str]) {
        let parent = &at.pointer[..at.pointer.rfind('/').unwrap_or(0)];
        let parent = At { value: at.value, pointer: parent.to_owned() }.title();
        let message = format!("{parent} has no key {}", at.title());
        let key = pointer::last(&at.pointer).unwrap_or_default();
        let help = match self.nearest(&key, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => "leave it out".to_owned(),
            None => format!("it can have {}", listed(known)),
        };
        self.fault_at_key(code::UNKNOWN_KEY, at, message, Some(help));
    }

    fn required(&mut self, at: &At<'a>, key: &str) -> Option<At<'a>> {
        let found = at.get(key);
        if found.is_none() {
            let message = format!("{} needs a key `{key}`", at.title());
            self.fault_at_key(code::MISSING_KEY, at, message, None);
        }
        found
    }

    /// A jq program, bare or in `${ }`.
    fn program(&mut self, at: &At<'a>) -> Option<Text> {
        let Some(text) = at.value.as_str() else {
            self.wrong_type(at, "an expression");
            return None;
        };
        let program = program_of(text).unwrap_or(text).trim();
        if program.is_empty() {
            self.fault(code::EXPRESSION_INVALID, at, "the expression is empty", None);
            return None;
        }
        Some(Text { content: Content::Program(program.to_owned()), pointer: at.pointer.clone() })
    }

    fn optional_program(&mut self, at: Option<At<'a>>) -> Option<Text> {
        at.and_then(|at| self.program(&at))
    }

    /// A value with `${ }` in it.
    fn template(&mut self, at: &At<'a>) -> Template {
        let template = Template::of(at.value, &at.pointer);
        self.warn_of_partial_expressions(&template);
        template
    }

    /// A program, bare or in `${ }`, or a mapping with `${ }` in it.
    fn transform(&mut self, at: &At<'a>) -> Option<Template> {
        match at.value {
            Value::String(_) => self.program(at).map(Template::Text),
            Value::Object(_) => Some(self.template(at)),
            _ => {
                self.wrong_type(at, "an expression or a mapping");
                None
            }
        }
    }

    fn warn_of_partial_expressions(&mut self, template: &Template) {
        match template {
            Template::Text(Text { content: Content::Literal(Value::String(text)), pointer }) if text.contains("${") => {
                let mut diagnostic = Diagnostic::warning(
                    code::EXPRESSION_IN_TEXT,
                    "an expression has to be the whole text: this `${` is kept as it is",
                )
                .with_help("put the text inside: ${ \"Hello \\(.name)\" }");
                diagnostic.place = self.source.place(pointer);
                self.push(diagnostic, pointer);
            }
            Template::Text(_) => {}
            Template::Array(items) => items.iter().for_each(|t| self.warn_of_partial_expressions(t)),
            Template::Object(fields) => fields.iter().for_each(|(_, t)| self.warn_of_partial_expressions(t)),
        }
    }
}

fn one_of(words: &[&str]) -> String {
    if words.len() == 1 { listed(words) } else { format!("one of {}", listed(words)) }
}

/// `` `a`, `b` or `c` ``
fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => format!("`{one}`"),
        [first @ .., last] => {
            format!("{} or `{last}`", first.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", "))
        }
    }
}
