//! The variables that an expression sees (DSL 1.0.3, "Runtime Expression Arguments").

use std::sync::Arc;

use serde_json::{Value, json};

use super::event::FrameId;
use super::state::State;
use crate::expression::{Evaluator, Located, TABLES, Template, Text};
use crate::time::Timestamp;

/// A point in time as the specification describes it to expressions.
pub(super) fn describe_time(at: Timestamp) -> Value {
    json!({ "iso8601": at.to_string(), "epoch": { "seconds": at.as_millis() / 1000, "milliseconds": at.as_millis() } })
}

/// Which task asks, for `$task`.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) name: &'a str,
    pub(super) reference: &'a str,
    pub(super) started_at: Timestamp,
    pub(super) raw: &'a Value,
    pub(super) input: &'a Value,
    pub(super) output: Option<&'a Value>,
}

/// Evaluates something as seen from `frame`.
pub(super) struct Scope<'a> {
    pub(super) state: &'a State,
    pub(super) frame: Option<FrameId>,
    pub(super) evaluator: &'a dyn Evaluator,
    /// Variables that stand in front of the frame's own.
    pub(super) variables: &'a [(&'a str, &'a Value)],
}

/// Something that has a value.
pub(super) enum Asked<'a> {
    Template(&'a Template),
    Text(&'a Text),
}

impl Asked<'_> {
    /// What it gives, in words for a fault.
    pub(super) const fn what(&self) -> &'static str {
        match self {
            Self::Template(_) => "what the task makes of its expressions",
            Self::Text(_) => "what the expression gives",
        }
    }
}

impl Scope<'_> {
    pub(super) fn evaluate(
        &self,
        asked: &Asked<'_>,
        asking: Option<Asking<'_>>,
        input: &Value,
    ) -> Result<Value, Located> {
        // A literal needs none of the arguments.
        match asked {
            Asked::Text(text) if text.program().is_none() => return text.evaluate(self.evaluator, &[], input),
            Asked::Template(template) if template.programs().is_empty() => {
                return template.evaluate(self.evaluator, &[], input);
            }
            _ => {}
        }
        let facts = self.state.facts();
        let empty = json!({});
        let null = Value::Null;
        let context: Arc<Value> = match self.frame {
            Some(frame) => self.state.context_of(frame).clone(),
            None => self.state.context.clone(),
        };
        let task = asking.map(|a| {
            json!({
                "name": a.name,
                "reference": a.reference,
                "startedAt": describe_time(a.started_at),
                "input": a.raw,
                "output": a.output,
            })
        });
        let mut arguments: Vec<(&str, &Value)> = vec![
            ("context", &context),
            ("input", asking.map_or_else(|| self.state.input.as_ref(), |a| a.input)),
            ("output", asking.and_then(|a| a.output).unwrap_or(&null)),
            ("secrets", &empty),
            ("authorization", &null),
            ("task", task.as_ref().unwrap_or(&null)),
            ("workflow", &facts.workflow_argument),
            ("runtime", &facts.runtime_argument),
            (TABLES, &facts.tables),
        ];
        let frame = self.frame.and_then(|f| self.state.frames.get(&f));
        if let Some(frame) = frame {
            for (name, value) in &frame.variables {
                arguments.retain(|(n, _)| n != name);
                arguments.push((name, value));
            }
        }
        for (name, value) in self.variables {
            arguments.retain(|(n, _)| n != name);
            arguments.push((name, value));
        }
        match asked {
            Asked::Template(template) => template.evaluate(self.evaluator, &arguments, input),
            Asked::Text(text) => text.evaluate(self.evaluator, &arguments, input),
        }
    }
}
