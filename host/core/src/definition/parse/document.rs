//! The top of a definition: `document`, `input`, `use`, `output`, `timeout`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::name::{is_version, is_workflow_name};
use super::{At, Reader, Reusable};
use crate::definition::{Delay, Document, Extras, Input, Output, Workflow, WorkflowName, duration};
use crate::diagnostic::{Diagnostic, code};
use crate::expression::{Content, Text, program_of};
use crate::schema::{Refused, TooMany};
use crate::value;

impl<'a> Reader<'a> {
    pub(super) fn workflow(&mut self) -> Option<Workflow> {
        let root = At { value: &self.source.value, pointer: String::new() };
        let map = self.mapping(&root, "a mapping with `document` and `do`")?;
        self.known_keys(&root, map, &["document", "input", "use", "do", "timeout", "output", "schedule"]);
        let document = self.required(&root, "document").and_then(|at| self.document(&at));
        if let Some(at) = root.get("use") {
            self.reusable(&at);
        }
        if let Some(at) = root.get("schedule") {
            self.unsupported_key(&at, "schedule");
        }
        let input = self.input(root.get("input"));
        self.sensitive_fields(input.schema.as_ref());
        let output = self.output(root.get("output"));
        let timeout = self.timeout(root.get("timeout"));
        let root_tasks = self.required(&root, "do").map(|at| self.task_list(&at, None)).unwrap_or_default();
        let (document, extras) = document?;
        Some(Workflow {
            document,
            extras,
            input,
            output,
            timeout,
            tasks: std::mem::take(&mut self.tasks),
            root: root_tasks,
        })
    }

    fn document(&mut self, at: &At<'a>) -> Option<(Document, Extras)> {
        let map = self.mapping(at, "a mapping")?;
        let known = ["dsl", "namespace", "name", "version", "title", "summary", "tags", "metadata"];
        self.known_keys(at, map, &known);
        let dsl = self.required(at, "dsl").and_then(|at| self.dsl(&at));
        let namespace = self.required(at, "namespace").and_then(|at| self.workflow_name(&at));
        let name = self.required(at, "name").and_then(|at| self.workflow_name(&at));
        let version = self.required(at, "version").and_then(|at| {
            let text = self.text(&at)?;
            if !is_version(text) {
                let message = format!("`{text}` is not a semantic version");
                self.fault(code::INVALID_VERSION, &at, message, Some("write three numbers, as in '1.0.0'".to_owned()));
                return None;
            }
            Some(text.to_owned())
        });
        let title = self.optional_text(at.get("title"));
        let summary = self.optional_text(at.get("summary"));
        let tags: BTreeMap<String, Value> = at
            .get("tags")
            .and_then(|at| self.mapping(&at, "a mapping"))
            .map(|m| m.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
            .unwrap_or_default();
        let extras = match at.get("metadata") {
            Some(at) => {
                self.mapping(&at, "a mapping");
                at.get("bellhop").map(|at| self.extras(&at)).unwrap_or_default()
            }
            None => Extras::default(),
        };
        let name = WorkflowName { namespace: namespace?, name: name? };
        Some((Document { dsl: dsl?, name, version: version?, title, summary, tags }, extras))
    }

    fn dsl(&mut self, at: &At<'a>) -> Option<String> {
        let text = self.text(at)?;
        if !is_version(text) {
            let message = format!("`{text}` is not a version of the language");
            self.fault(code::INVALID_VERSION, at, message, Some("write '1.0.3'".to_owned()));
            return None;
        }
        if !text.starts_with("1.0.") {
            let message = format!("this version carries out the language's versions 1.0.x, not `{text}`");
            self.fault(code::NOT_SUPPORTED, at, message, Some("write '1.0.3'".to_owned()));
            return None;
        }
        Some(text.to_owned())
    }

    fn workflow_name(&mut self, at: &At<'a>) -> Option<String> {
        let text = self.text(at)?;
        if !is_workflow_name(text) {
            let message = format!("{} must be 1 to 63 letters, digits and `-`, with no `-` at either end", at.title());
            self.fault(code::INVALID_NAME, at, message, None);
            return None;
        }
        Some(text.to_owned())
    }

    fn reusable(&mut self, at: &At<'a>) {
        let Some(map) = self.mapping(at, "a mapping") else { return };
        let known =
            ["retries", "errors", "timeouts", "catalogs", "functions", "extensions", "secrets", "authentications"];
        self.known_keys(at, map, &known);
        for key in ["functions", "extensions", "secrets", "authentications"] {
            if let Some(at) = at.get(key) {
                self.unsupported_key(&at, &format!("use.{key}"));
            }
        }
        let mut declared = |key: &str| at.get(key).filter(|at| self.mapping(at, "a mapping").is_some());
        self.reusable = Reusable {
            retries: declared("retries"),
            errors: declared("errors"),
            timeouts: declared("timeouts"),
            catalogs: declared("catalogs"),
            functions: at.get("functions"),
        };
        // Each is checked here even if nothing refers to it.
        for at in children(self.reusable.retries.as_ref()) {
            self.retry_policy(&at);
        }
        for at in children(self.reusable.errors.as_ref()) {
            self.error(&at);
        }
        for at in children(self.reusable.timeouts.as_ref()) {
            self.timeout_definition(&at);
        }
        for at in children(self.reusable.catalogs.as_ref()) {
            if let Some(map) = self.mapping(&at, "a mapping with `endpoint`") {
                self.known_keys(&at, map, &["endpoint"]);
                self.required(&at, "endpoint");
            }
        }
    }

    /// What `use.KEY` declares under the name at `at`.
    pub(super) fn declared(&mut self, at: &At<'a>, key: &str, name: &str) -> Option<At<'a>> {
        let table = match key {
            "retries" => self.reusable.retries.clone(),
            "errors" => self.reusable.errors.clone(),
            _ => self.reusable.timeouts.clone(),
        };
        let found = table.as_ref().and_then(|table| table.get(name));
        if found.is_none() {
            let names = table.as_ref().and_then(|t| t.value.as_object()).into_iter().flat_map(|m| m.keys());
            let help = match self.nearest(name, names.map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("declare it in `use.{key}`, or write it here"),
            };
            self.fault(code::UNKNOWN_REFERENCE, at, format!("`use.{key}` declares no `{name}`"), Some(help));
        }
        found
    }

    pub(super) fn input(&mut self, at: Option<At<'a>>) -> Input {
        let Some(at) = at else { return Input::default() };
        let Some(map) = self.mapping(&at, "a mapping with `schema` or `from`") else { return Input::default() };
        self.known_keys(&at, map, &["schema", "from"]);
        Input { schema: self.schema(at.get("schema")), from: at.get("from").and_then(|at| self.transform(&at)) }
    }

    pub(super) fn output(&mut self, at: Option<At<'a>>) -> Output {
        let Some(at) = at else { return Output::default() };
        let Some(map) = self.mapping(&at, "a mapping with `schema` or `as`") else { return Output::default() };
        self.known_keys(&at, map, &["schema", "as"]);
        Output { schema: self.schema(at.get("schema")), transform: at.get("as").and_then(|at| self.transform(&at)) }
    }

    fn schema(&mut self, at: Option<At<'a>>) -> Option<Value> {
        let at = at?;
        let map = self.mapping(&at, "a mapping with `document`")?;
        self.known_keys(&at, map, &["format", "document", "resource"]);
        if let Some(format) = at.get("format")
            && let Some(text) = self.text(&format)
            && text.split(':').next() != Some("json")
        {
            self.unsupported_value(&format, "schemas of a format other than `json`", "");
        }
        if let Some(resource) = at.get("resource") {
            self.unsupported_key(&resource, "schema.resource");
            return None;
        }
        let document = self.required(&at, "document")?;
        match self.schemas.compile(document.value) {
            Ok(_) => return Some(document.value.clone()),
            Err(Refused::PassedOver) => {}
            Err(Refused::TooMany(too_many)) => {
                let diagnostic = Diagnostic::error(code::SCHEMA_TOO_COSTLY, too_many.to_string());
                self.push_near(diagnostic.with_help(TooMany::FIX), &document.pointer);
            }
            Err(Refused::Faulty(faults)) => {
                for fault in faults {
                    let pointer = format!("{}{}", document.pointer, fault.pointer);
                    self.push_near(Diagnostic::error(fault.code(), &*fault.message).with_help(fault.fix), &pointer);
                }
            }
        }
        None
    }

    /// A fault marked at what stands nearest to `pointer` in the file.
    fn push_near(&mut self, mut diagnostic: Diagnostic, pointer: &str) {
        diagnostic.place = self.source.nearest_place(pointer);
        self.push(diagnostic, pointer);
    }

    pub(super) fn timeout(&mut self, at: Option<At<'a>>) -> Option<Delay> {
        let at = at?;
        match at.value.as_str() {
            // What `use` declares was checked where it stands.
            Some(name) => {
                let definition = self.declared(&at, "timeouts", name)?;
                self.silently(|reader| reader.timeout_definition(&definition))
            }
            None => self.timeout_definition(&at),
        }
    }

    fn timeout_definition(&mut self, at: &At<'a>) -> Option<Delay> {
        let map = self.mapping(at, "a mapping with `after`, or a name in `use.timeouts`")?;
        self.known_keys(at, map, &["after"]);
        let after = self.required(at, "after")?;
        self.delay(&after)
    }

    pub(super) fn delay(&mut self, at: &At<'a>) -> Option<Delay> {
        if let Some(program) = at.value.as_str().and_then(program_of) {
            return Some(Delay::Expression(Text {
                content: Content::Program(program.to_owned()),
                pointer: at.pointer.clone(),
            }));
        }
        match duration::millis_of(at.value) {
            Ok(millis) => Some(Delay::Millis(millis)),
            Err(duration::Error::Type) => {
                let message = format!(
                    "{} must be a duration (text such as `PT30S`, a mapping such as `{{seconds: 30}}`) or an expression, not {}",
                    at.title(),
                    value::kind_of(at.value)
                );
                let help = at.value.as_u64().map(|n| format!("if seconds are meant: PT{n}S"));
                self.fault(code::WRONG_TYPE, at, message, help);
                None
            }
            Err(error) => {
                let at = match &error {
                    duration::Error::Field(name) | duration::Error::Number(name) => {
                        at.get(name).unwrap_or_else(|| at.clone())
                    }
                    _ => at.clone(),
                };
                let help = match &error {
                    duration::Error::Field(name) => {
                        let fields = duration::FIELDS.map(|(name, _)| name);
                        Some(match self.nearest(name, fields) {
                            Some(near) => format!("did you mean `{near}`?"),
                            None => format!("it can have {}", super::listed(&fields)),
                        })
                    }
                    duration::Error::Text(text) if text.contains(['(', '$', '|']) => {
                        Some(format!("if an expression is meant: ${{ {text} }}"))
                    }
                    _ => None,
                };
                if matches!(error, duration::Error::Field(_)) {
                    self.fault_at_key(code::INVALID_DURATION, &at, error.to_string(), help);
                } else {
                    self.fault(code::INVALID_DURATION, &at, error.to_string(), help);
                }
                None
            }
        }
    }

    /// Reads again what was reported already.
    pub(super) fn silently<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let (count, omitted) = (self.diagnostics.len(), self.omitted);
        let result = read(self);
        self.diagnostics.truncate(count);
        self.omitted = omitted;
        result
    }
}

pub(super) fn children<'a>(at: Option<&At<'a>>) -> Vec<At<'a>> {
    at.and_then(|at| at.value.as_object().map(|map| map.iter().map(|(k, v)| at.child(k, v)).collect()))
        .unwrap_or_default()
}
