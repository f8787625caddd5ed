//! Faults that the run itself raises.

use serde_json::json;

use crate::expression;
use crate::fault::Fault;
use crate::schema::{self, Violation, What};
use crate::value;

/// An expression that has no value.
pub(super) fn of_expression(located: &expression::Located) -> Fault {
    let (code, detail) = match &located.error {
        expression::Error::Invalid { message, .. } => {
            // A table without the key has a class of its own: it is the operator's data that lacks something.
            match message.strip_prefix("table-key-unknown: ") {
                Some(rest) => ("table-key-unknown", rest.to_owned()),
                None => ("expression-invalid", message.clone()),
            }
        }
        expression::Error::Budget { what } => {
            ("expression-budget", format!("the expression used more than it may: {what}"))
        }
    };
    let mut fault = Fault::of_code(code, 400, detail);
    fault.details = Some(json!({ "pointer": located.pointer, "expression": located.program }));
    fault
}

/// A value that is larger than one may be.
pub(super) fn too_large(what: &str, bytes: u64, bytes_max: u64) -> Fault {
    of_value(what, value::Error::TooLarge { bytes, bytes_max })
}

/// A value that is larger, or deeper, than one may be.
pub(super) fn of_value(what: &str, error: value::Error) -> Fault {
    Fault::of_code(error.code(), 400, format!("{what}: {error}"))
}

/// A run that decides on and on, or whose records have come to their limit.
pub(super) fn run_too_large(detail: String) -> Fault {
    Fault::of_code("run-too-large", 400, detail)
}

/// Data that breaks a schema (DSL 1.0.3, standard error "validation", status 400).
pub(super) fn of_violations(what: &str, violations: &[Violation]) -> Fault {
    if violations.iter().any(|violation| violation.what == What::TooCostly) {
        let most = schema::UNITS_MAX;
        let detail = format!(
            "comparing {what} with its schema would take more than {most} steps, the most that one check may take: \
             give less, or describe it in fewer branches and patterns"
        );
        return Fault::of_code("schema-too-costly", 422, detail);
    }
    let shown: Vec<String> = violations
        .iter()
        .take(10)
        .map(|v| format!("{}: {}", if v.pointer.is_empty() { "/" } else { &v.pointer }, v.message))
        .collect();
    let detail = format!("{what} does not fit its schema: {}", shown.join("; "));
    Fault::standard("validation", 400, "Validation Error", detail)
}

/// A task or workflow that took too long (DSL 1.0.3, standard error "timeout", status 408).
pub(super) fn of_timeout(what: &str) -> Fault {
    Fault::standard("timeout", 408, "Timeout Error", format!("{what} took longer than its timeout allows"))
}
