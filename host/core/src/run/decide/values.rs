//! Values of a decision: evaluated, measured, compared with their schemas.

use serde_json::Value;

use super::{Asked, Asking, Decider, Scope, faults, until};
use crate::cost::Cost;
use crate::definition::{ActionReference, Delay};
use crate::expression::{Template, Text};
use crate::fault::Fault;
use crate::run::Action;
use crate::run::event::FrameId;
use crate::schema::{Checked, Schema};
use crate::time::Timestamp;
use crate::value;

/// About so many units of comparing a value with a schema take a microsecond: the most that a check may take, in the time
/// that it may take.
const SCHEMA_UNITS_A_MICROSECOND: u64 = 40;

impl Decider<'_> {
    pub(super) fn evaluate_workflow(&self, template: &Template, input: &Value) -> Result<Value, Fault> {
        self.evaluate_in(None, &Asked::Template(template), &[], None, input)
    }

    pub(super) fn evaluate(
        &self,
        frame: FrameId,
        asked: &Asked<'_>,
        asking: Asking<'_>,
        input: &Value,
    ) -> Result<Value, Fault> {
        self.evaluate_in(Some(frame), asked, &[], Some(asking), input)
    }

    pub(super) fn evaluate_with(
        &self,
        frame: FrameId,
        asked: &Asked<'_>,
        variables: &[(&str, &Value)],
        asking: Asking<'_>,
        input: &Value,
    ) -> Result<Value, Fault> {
        self.evaluate_in(Some(frame), asked, variables, Some(asking), input)
    }

    pub(super) fn evaluate_in(
        &self,
        frame: Option<FrameId>,
        asked: &Asked<'_>,
        variables: &[(&str, &Value)],
        asking: Option<Asking<'_>>,
        input: &Value,
    ) -> Result<Value, Fault> {
        let scope = Scope { state: &self.state, frame, evaluator: &self.evaluator, variables };
        let value = scope.evaluate(asked, asking, input).map_err(|e| faults::of_expression(&e))?;
        self.sized(asked.what(), value)
    }

    /// A value that is no larger and no deeper than one may be.
    pub(super) fn sized(&self, what: &str, value: Value) -> Result<Value, Fault> {
        match value::check(&value, self.budget.value_bytes_max) {
            Ok(()) => Ok(value),
            Err(error) => Err(faults::of_value(what, error)),
        }
    }

    pub(super) fn check(&self, pointer: &str, what: &str, value: &Value) -> Result<(), Fault> {
        let Some(schema) = self.state.facts().schemas.get(pointer) else { return Ok(()) };
        self.fits(schema, what, value)
    }

    /// Whether a value fits a schema; what finding out costs is counted.
    pub(super) fn fits(&self, schema: &Schema, what: &str, value: &Value) -> Result<(), Fault> {
        let Checked { violations, cost } = schema.check(value);
        self.evaluator.add(Cost::from_micros(cost / SCHEMA_UNITS_A_MICROSECOND));
        if violations.is_empty() { Ok(()) } else { Err(faults::of_violations(what, &violations)) }
    }

    /// Whether an action takes that input.
    pub(super) fn check_input(&self, reference: &ActionReference, action: &Action, input: &Value) -> Result<(), Fault> {
        self.fits(&action.input, &format!("the input of `{reference}`"), input)
    }

    /// When a delay that begins now is over.
    pub(super) fn delay_until(
        &self,
        delay: &Delay,
        frame: Option<(FrameId, Asking<'_>)>,
        input: &Value,
    ) -> Result<Timestamp, Fault> {
        let text: &Text = match delay {
            Delay::Millis(millis) => return Ok(self.at.plus_millis(*millis)),
            Delay::Expression(text) => text,
        };
        let (frame, asking) = frame.unzip();
        let value = self.evaluate_in(frame, &Asked::Text(text), &[], asking, input)?;
        until::resolve(&value, self.at).map_err(|error| {
            let mut fault = Fault::of_code("duration-invalid", error.to_string());
            fault.details = Some(serde_json::json!({ "pointer": text.pointer }));
            fault
        })
    }
}
