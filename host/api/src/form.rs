//! JSON bodies, read field by field so that every fault is told at once and none repeats a value.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use bellhop_core::diagnostic::{Code, Diagnostic, Needs, code, nearest};
use bellhop_core::{encoding, json, pointer, value};

use super::problem::{self, Problem, repeated};

/// The deepest body: what stands in it becomes values.
pub(super) const DEPTH_MAX: usize = value::DEPTH_MAX as usize;
/// At most so many faults are told.
const FAULTS_MAX: usize = 50;

/// Reads JSON.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, Problem> {
    if bytes.is_empty() {
        return Err(Problem::new(problem::BODY_MALFORMED, "the body is empty; the route takes a JSON object"));
    }
    let bytes = text(bytes)?.as_bytes();
    // First: whatever else is wrong would be told with a place that is as deep.
    if depth(bytes) > DEPTH_MAX {
        let detail = format!("the body nests deeper than {DEPTH_MAX} levels");
        return Err(Problem::new(problem::BODY_MALFORMED, detail).with("depth_max", DEPTH_MAX));
    }
    refuse_doubtful(bytes)?;
    serde_json::from_slice(bytes).map_err(|error| {
        let what = if error.is_eof() { "the body ends before its JSON does" } else { "the body is not JSON" };
        Problem::new(
            problem::BODY_MALFORMED,
            format!("{what} (line {}, column {})", error.line(), error.column().max(1)),
        )
        .with("line", error.line())
        // A line's end is no column to the parser.
        .with("column", error.column().max(1))
    })
}

/// The text of a body. A mark of its encoding before it is passed over, as in a file.
fn text(bytes: &[u8]) -> Result<&str, Problem> {
    encoding::text(bytes).map_err(|why| {
        let problem = Problem::new(problem::BODY_MALFORMED, format!("the body cannot be read: {why}"));
        match why {
            encoding::Error::Invalid { at, .. } => problem.with("byte", at),
            encoding::Error::Other(_) => problem,
        }
    })
}

/// What readers of JSON do not agree about is refused: another one, a gateway, may have seen another value.
fn refuse_doubtful(bytes: &[u8]) -> Result<(), Problem> {
    let found = json::findings(bytes);
    if found.is_empty() {
        return Ok(());
    }
    let code_of = |what| if what == json::What::Duplicate { code::DUPLICATE_KEY } else { code::INVALID_VALUE };
    Err(invalid(found.into_iter().map(|f| fault(code_of(f.what), &f.pointer, f.what.message())).collect()))
}

/// The levels of lists and objects in a text that may be no JSON.
fn depth(bytes: &[u8]) -> usize {
    let (mut deepest, mut open) = (0, 0_usize);
    let (mut is_text, mut is_escaped) = (false, false);
    for byte in bytes {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_text,
            b'"' => is_text = !is_text,
            b'[' | b'{' if !is_text => open += 1,
            b']' | b'}' if !is_text => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open);
    }
    deepest
}

/// What a value is, for people.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// An object being read.
#[derive(Debug)]
pub(super) struct Form {
    fields: Map<String, Value>,
    faults: Vec<Diagnostic>,
}

impl Form {
    /// The object `value`; fields other than `known` are faults, each with the nearest known one.
    pub(super) fn of(value: Value, known: &[&str]) -> Result<Self, Problem> {
        let mut form = Self { fields: Map::new(), faults: Vec::new() };
        match value {
            Value::Object(fields) => form.fields = fields,
            other => {
                let fault = wrong_type("", "the body", "an object", &other);
                return Err(invalid(vec![fault]));
            }
        }
        form.refuse_unknown(known);
        Ok(form)
    }

    fn refuse_unknown(&mut self, known: &[&str]) {
        let unknown: Vec<String> = self.fields.keys().filter(|k| !known.contains(&k.as_str())).cloned().collect();
        for name in unknown {
            let fault = unknown_name(&Self::at(&name), "field", &name, known);
            self.fault(fault);
        }
    }

    fn at(name: &str) -> String {
        pointer::child("", name)
    }

    /// One more fault.
    pub(super) fn fault(&mut self, fault: Diagnostic) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        }
    }

    /// A field that is there and has a value that is not allowed.
    pub(super) fn refuse(&mut self, name: &str, message: impl Into<String>) {
        let fault = fault(code::INVALID_VALUE, &Self::at(name), message);
        self.fault(fault);
    }

    /// An item of a list that is not allowed.
    pub(super) fn refuse_item(&mut self, name: &str, index: usize, message: impl Into<String>) {
        let fault = fault(code::INVALID_VALUE, &format!("{}/{index}", Self::at(name)), message);
        self.fault(fault);
    }

    fn wrong_type(&mut self, name: &str, wanted: &str, found: &Value) {
        let fault = wrong_type(&Self::at(name), &format!("`{name}`"), wanted, found);
        self.fault(fault);
    }

    /// A field as it is.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name)
    }

    /// A field that has to be there.
    pub(super) fn needed(&mut self, name: &str, wanted: &str) -> Option<Value> {
        let value = self.take(name);
        if value.is_none() {
            let mut missing = fault(code::MISSING_KEY, &Self::at(name), format!("`{name}` has to be there"));
            missing.needs = Some(Needs { text: Some(wanted.to_owned()), ..Needs::default() });
            self.fault(missing);
        }
        value
    }

    /// A text, if it is there; `null` is as good as none.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text),
            Value::Null => None,
            other => {
                self.wrong_type(name, "a text", &other);
                None
            }
        }
    }

    /// A text that has to be there.
    pub(super) fn needed_text(&mut self, name: &str) -> Option<String> {
        match self.needed(name, "a text")? {
            Value::String(text) => Some(text),
            other => {
                self.wrong_type(name, "a text", &other);
                None
            }
        }
    }

    /// A text that has to be there and to be one of a few words.
    pub(super) fn word<T: std::str::FromStr<Err: std::fmt::Display>>(&mut self, name: &str, needed: bool) -> Option<T> {
        let text = if needed { self.needed_text(name)? } else { self.text(name)? };
        match text.parse() {
            Ok(word) => Some(word),
            Err(error) => {
                self.refuse(name, format!("`{name}`: {error}"));
                None
            }
        }
    }

    /// True or false.
    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        match self.take(name)? {
            Value::Bool(flag) => Some(flag),
            other => {
                self.wrong_type(name, "true or false", &other);
                None
            }
        }
    }

    /// True or false, which has to be there.
    pub(super) fn needed_flag(&mut self, name: &str) -> Option<bool> {
        match self.needed(name, "true or false")? {
            Value::Bool(flag) => Some(flag),
            other => {
                self.wrong_type(name, "true or false", &other);
                None
            }
        }
    }

    /// A list of texts; none when it is not there.
    pub(super) fn texts(&mut self, name: &str) -> Vec<String> {
        let Some(value) = self.take(name) else { return Vec::new() };
        let Value::Array(items) = value else {
            self.wrong_type(name, "a list of texts", &value);
            return Vec::new();
        };
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            match item {
                Value::String(text) => texts.push(text),
                other => {
                    let what = format!("item {index} of `{name}`");
                    let fault = wrong_type(&format!("{}/{index}", Self::at(name)), &what, "a text", &other);
                    self.fault(fault);
                }
            }
        }
        texts
    }

    /// An object; none when it is not there.
    pub(super) fn object(&mut self, name: &str) -> Map<String, Value> {
        match self.take(name) {
            None => Map::new(),
            Some(Value::Object(fields)) => fields,
            Some(other) => {
                self.wrong_type(name, "an object", &other);
                Map::new()
            }
        }
    }

    /// An object of texts; none when it is not there.
    pub(super) fn text_map(&mut self, name: &str) -> BTreeMap<String, String> {
        let (fields, pointer) = (self.object(name), Self::at(name));
        self.texts_of(fields, &pointer)
    }

    /// The whole body as an object of texts.
    pub(super) fn whole_text_map(body: Value) -> Result<(Self, BTreeMap<String, String>), Problem> {
        let mut form = Self { fields: Map::new(), faults: Vec::new() };
        match body {
            Value::Object(fields) => {
                let texts = form.texts_of(fields, "");
                Ok((form, texts))
            }
            other => Err(invalid(vec![wrong_type("", "the body", "an object", &other)])),
        }
    }

    fn texts_of(&mut self, fields: Map<String, Value>, pointer: &str) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        for (field, value) in fields {
            match value {
                Value::String(text) => {
                    texts.insert(field, text);
                }
                other => {
                    let pointer = pointer::child(pointer, &field);
                    let shown: String = field.chars().take(64).collect();
                    let fault = wrong_type(&pointer, &format!("`{shown}`"), "a text", &other);
                    self.fault(fault);
                }
            }
        }
        texts
    }

    /// Ok when nothing was wrong; else all of it.
    pub(super) fn finish(self) -> Result<(), Problem> {
        if self.faults.is_empty() { Ok(()) } else { Err(invalid(self.faults)) }
    }
}

/// The problem of a request with faults.
pub(super) fn invalid(faults: Vec<Diagnostic>) -> Problem {
    let detail = match faults.as_slice() {
        [only] => only.message.clone(),
        many => format!("{} things are wrong with the request", many.len()),
    };
    Problem::new(problem::REQUEST_INVALID, detail).with_diagnostics(faults)
}

/// A fault at a JSON pointer of the body.
pub(super) fn fault(code: Code, pointer: &str, message: impl Into<String>) -> Diagnostic {
    Diagnostic {
        pointer: Some(pointer.to_owned()),
        who: Some("whoever sends the request".to_owned()),
        ..Diagnostic::error(code, message)
    }
}

fn wrong_type(pointer: &str, what: &str, wanted: &str, found: &Value) -> Diagnostic {
    let mut wrong = fault(code::WRONG_TYPE, pointer, format!("{what} is {}, not {wanted}", kind_of(found)));
    wrong.needs = Some(Needs { text: Some(wanted.to_owned()), ..Needs::default() });
    wrong
}

/// A name that is none of `known`.
pub(super) fn unknown_name(pointer: &str, what: &str, name: &str, known: &[&str]) -> Diagnostic {
    let shown: String = name.chars().take(64).collect();
    let unknown = fault(code::UNKNOWN_KEY, pointer, format!("there is no {what} `{shown}`"));
    match nearest(name, known.iter().copied()) {
        Some(near) => unknown.with_help(format!("did you mean `{}`?", repeated(near))),
        None if known.is_empty() => unknown.with_help(format!("there are no {what}s here")),
        None => {
            // These may be the caller's own, such as a table's columns.
            let all: Vec<String> = known.iter().map(|k| format!("`{}`", repeated(k))).collect();
            unknown.with_help(format!("there are {}", all.join(", ")))
        }
    }
}
