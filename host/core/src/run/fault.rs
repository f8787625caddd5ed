//! Faults that the run itself raises.

use serde_json::json;

use crate::expression;
use crate::fault::{Fault, STANDARD_BASE};
use crate::schema::Violation;

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

/// Data that breaks a schema (DSL 1.0.3, standard error "validation", status 400).
pub(super) fn of_violations(what: &str, violations: &[Violation]) -> Fault {
    let shown: Vec<String> = violations
        .iter()
        .take(10)
        .map(|v| format!("{}: {}", if v.pointer.is_empty() { "/" } else { &v.pointer }, v.message))
        .collect();
    Fault {
        kind: format!("{STANDARD_BASE}validation"),
        status: 400,
        title: Some("Validation Error".to_owned()),
        detail: Some(format!("{what} does not fit its schema: {}", shown.join("; "))),
        instance: None,
        slack: None,
        details: None,
        class: None,
        retry_after_ms: None,
    }
}

/// A task or workflow that took too long (DSL 1.0.3, standard error "timeout", status 408).
pub(super) fn of_timeout(what: &str) -> Fault {
    Fault {
        kind: format!("{STANDARD_BASE}timeout"),
        status: 408,
        title: Some("Timeout Error".to_owned()),
        detail: Some(format!("{what} took longer than its timeout allows")),
        instance: None,
        slack: None,
        details: None,
        class: None,
        retry_after_ms: None,
    }
}
