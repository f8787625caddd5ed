//! What can be said of an expression before anything runs: its value, or on what it depends.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::alias::Table;
use crate::expression::{Content, Evaluator, Inspection, TABLES, Template, Text};

/// The data that stands at a place of the flow, as far as it is known beforehand.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Data {
    /// Just that.
    Known(Value),
    /// Made of the run's input alone, which is not there yet.
    FromInput,
    /// It shows only when the run comes there.
    Unknown,
}

/// What can be said of a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    True,
    False,
    /// The run's input decides.
    ByInput,
    /// Something decides that only the run will know; such guards count as true.
    Open,
}

/// What expressions are evaluated with beforehand.
pub(super) struct Guards<'a> {
    pub evaluator: &'a dyn Evaluator,
    /// The run's input, at a trigger.
    pub input: Option<&'a Value>,
    /// `$runtime`, as far as it is known.
    pub runtime: Value,
    /// The pinned tables.
    pub tables: &'a BTreeMap<String, Table>,
    /// The same as [`TABLES`] wants them: made once, when an expression reads them.
    pub tables_value: OnceCell<Value>,
    /// Aliases whose plan could not be read: what is said of it waits for the input's judgement or the run.
    pub plans_unread: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dependence {
    Nothing,
    Input,
    Run,
}

impl Guards<'_> {
    /// The data with which the first task begins.
    pub(super) fn first(&self, from: Option<&Template>) -> Data {
        let raw = self.input.map_or(Data::FromInput, |v| Data::Known(v.clone()));
        match from {
            None => raw,
            Some(template) => self.template(template, &raw),
        }
    }

    pub(super) fn verdict(&self, guard: &Text, data: &Data) -> Verdict {
        match self.text(guard, data) {
            Data::Known(Value::Bool(false) | Value::Null) => Verdict::False,
            Data::Known(Value::Bool(true)) => Verdict::True,
            Data::FromInput => Verdict::ByInput,
            // No condition has another value; that fault is the run's to tell.
            Data::Known(_) | Data::Unknown => Verdict::Open,
        }
    }

    pub(super) fn template(&self, template: &Template, data: &Data) -> Data {
        let mut from_input = false;
        let mut reads_tables = false;
        for text in template.programs() {
            let Some(program) = text.program() else { continue };
            let Ok(inspection) = self.evaluator.inspect(program) else { return Data::Unknown };
            match self.dependence(program, &inspection, data) {
                Dependence::Run => return Data::Unknown,
                Dependence::Input => from_input = true,
                Dependence::Nothing => {}
            }
            reads_tables |= inspection.variables.iter().any(|v| v == TABLES);
        }
        if from_input && self.input.is_none() {
            return Data::FromInput;
        }
        self.with_arguments(data, reads_tables, |arguments, input| {
            template.evaluate(self.evaluator, arguments, input).ok()
        })
    }

    pub(super) fn text(&self, text: &Text, data: &Data) -> Data {
        match &text.content {
            Content::Literal(value) => Data::Known(value.clone()),
            Content::Program(program) => self.program(program, data),
        }
    }

    /// The value of `program` where it depends on nothing but the input, the connections, the tables and `data`.
    fn program(&self, program: &str, data: &Data) -> Data {
        let Ok(inspection) = self.evaluator.inspect(program) else { return Data::Unknown };
        let reads_tables = inspection.variables.iter().any(|v| v == TABLES);
        match self.dependence(program, &inspection, data) {
            Dependence::Run => Data::Unknown,
            Dependence::Input if self.input.is_none() => Data::FromInput,
            Dependence::Input | Dependence::Nothing => self.with_arguments(data, reads_tables, |arguments, input| {
                self.evaluator.evaluate(program, arguments, input).ok()
            }),
        }
    }

    fn with_arguments(
        &self,
        data: &Data,
        reads_tables: bool,
        evaluate: impl FnOnce(&[(&str, &Value)], &Value) -> Option<Value>,
    ) -> Data {
        let workflow = json!({"input": self.input});
        let input = match data {
            Data::Known(value) => value,
            Data::FromInput | Data::Unknown => &Value::Null,
        };
        let tables = if reads_tables { self.tables_value.get_or_init(|| json!(self.tables)) } else { &Value::Null };
        let arguments = [("workflow", &workflow), ("runtime", &self.runtime), ("input", input), (TABLES, tables)];
        // Whatever fails now fails in the run as well, and is told there with its place.
        evaluate(&arguments, input).map_or(Data::Unknown, Data::Known)
    }

    fn dependence(&self, program: &str, inspection: &Inspection, data: &Data) -> Dependence {
        let mut worst = Dependence::Nothing;
        let mut reads = |dependence: Dependence| {
            if worst != Dependence::Run && dependence != Dependence::Nothing {
                worst = dependence;
            }
        };
        let of_data = match data {
            Data::Known(_) if self.input.is_none() => Dependence::Nothing,
            Data::Known(_) | Data::FromInput => Dependence::Input,
            Data::Unknown => Dependence::Run,
        };
        for variable in &inspection.variables {
            match variable.as_str() {
                "runtime" => reads(self.of_runtime(program, inspection)),
                "workflow" if only_followed_by(program, "$workflow", ".input") => reads(Dependence::Input),
                "input" => reads(of_data),
                TABLES => {}
                _ => reads(Dependence::Run),
            }
        }
        if inspection.paths.iter().any(|p| p.starts_with('.')) {
            reads(of_data);
        }
        worst
    }

    fn of_runtime(&self, program: &str, inspection: &Inspection) -> Dependence {
        let paths = inspection.paths.iter().filter(|p| p.starts_with("$runtime"));
        let mut seen = false;
        for path in paths {
            seen = true;
            let parts: Vec<&str> = path.split('.').collect();
            let [_, "connections", alias, fact @ ("kind" | "plan" | "permission")] = parts[..] else {
                return Dependence::Run;
            };
            if fact == "plan" && self.plans_unread.contains(alias) && self.input.is_none() {
                return Dependence::Input;
            }
        }
        // An evaluator that names no path leaves only the text to judge by.
        if seen || only_followed_by(program, "$runtime", ".connections.") {
            Dependence::Nothing
        } else {
            Dependence::Run
        }
    }
}

impl Data {
    /// What stands where two ways meet.
    pub(super) fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Known(a), Self::Known(b)) if a == b => Self::Known(a),
            (Self::FromInput, Self::FromInput | Self::Known(_)) | (Self::Known(_), Self::FromInput) => Self::FromInput,
            (Self::Known(_) | Self::Unknown | Self::FromInput, _) => Self::Unknown,
        }
    }
}

/// Whether each `name` in `program` is directly followed by `suffix`, as a whole word.
fn only_followed_by(program: &str, name: &str, suffix: &str) -> bool {
    program.match_indices(name).all(|(at, _)| {
        let rest = &program[at + name.len()..];
        rest.strip_prefix(suffix)
            .is_some_and(|after| suffix.ends_with('.') || !after.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    })
}
