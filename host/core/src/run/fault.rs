//! Faults that the run itself raises.

use serde_json::{Value, json};

use crate::expression;
use crate::fault::{self, Class, Fault};
use crate::schema::{self, Violation, What};
use crate::value::{self, Field};

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
    let mut fault = Fault::of_code(code, detail);
    fault.details = Some(json!({ "pointer": located.pointer, "expression": located.program }));
    fault
}

/// What an error has that a file raises.
const RAISED: [Field; 8] = [
    Field { name: "type", is_required: true, needed: "a URI as text", fits: Value::is_string },
    Field { name: "status", is_required: true, needed: "a whole number from 100 to 599", fits: is_status },
    Field { name: "title", is_required: false, needed: "text", fits: is_text_or_null },
    Field { name: "detail", is_required: false, needed: "text", fits: is_text_or_null },
    Field { name: "instance", is_required: false, needed: "text", fits: is_text_or_null },
    Field { name: "class", is_required: false, needed: "`retry`, `fatal` or `denied`", fits: is_class },
    fault::RETRY_AFTER,
    fault::SLACK,
];

fn is_status(value: &Value) -> bool {
    value.as_u64().is_some_and(|status| (100..=599).contains(&status))
}

fn is_text_or_null(value: &Value) -> bool {
    value.is_string() || value.is_null()
}

fn is_class(value: &Value) -> bool {
    value.is_null() || serde_json::from_value::<Class>(value.clone()).is_ok()
}

/// The error that `raise` gives, or why it gives none.
pub(super) fn raised(error: Value) -> Result<Fault, Fault> {
    let invalid = |why: &str| Fault::of_code("raise-invalid", format!("`raise.error` does not give an error: {why}"));
    if let Some(why) = value::wrong(&error, &RAISED) {
        return Err(invalid(&why));
    }
    serde_json::from_value(error).map_err(|_| invalid("its fields are not those of an error"))
}

/// A value that is larger than one may be.
pub(super) fn too_large(what: &str, bytes: u64, bytes_max: u64) -> Fault {
    of_value(what, value::Error::TooLarge { bytes, bytes_max })
}

/// A value that is larger, or deeper, than one may be.
pub(super) fn of_value(what: &str, error: value::Error) -> Fault {
    Fault::of_code(error.code(), format!("{what}: {error}"))
}

/// A run that decides on and on, or whose records have come to their limit.
pub(super) fn run_too_large(detail: String) -> Fault {
    Fault::of_code("run-too-large", detail)
}

/// Data that breaks a schema (DSL 1.0.3, standard error "validation", status 400).
pub(super) fn of_violations(what: &str, violations: &[Violation]) -> Fault {
    if violations.iter().any(|violation| violation.what == What::TooCostly) {
        let most = schema::UNITS_MAX;
        let detail = format!(
            "comparing {what} with its schema would take more than {most} steps, the most that one check may take: \
             give less, or describe it in fewer branches and patterns"
        );
        return Fault::of_code("schema-too-costly", detail);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn house_d4_what_is_raised_in_another_form_is_told_what_is_there_and_what_is_needed() {
        let uri = "https://example.com/errors/wrong";
        for (error, why) in [
            (json!("wrong"), "it is the text `wrong`, and an object is needed"),
            (json!({ "status": 400 }), "`type` is missing, and a URI as text is needed"),
            (json!({ "type": uri }), "`status` is missing, and a whole number from 100 to 599 is needed"),
            (json!({ "type": uri, "status": "404" }), "`status` is the text `404`, and a whole number from 100 to 599"),
            (json!({ "type": uri, "status": 70_000 }), "`status` is `70000`, and a whole number from 100 to 599"),
            (json!({ "type": uri, "status": 99 }), "`status` is `99`, and a whole number"),
            (json!({ "type": uri, "status": 400, "title": [1] }), "`title` is a list, and text is needed"),
            (json!({ "type": uri, "status": 400, "class": "perhaps" }), "`class` is the text `perhaps`, and `retry`"),
            (json!({ "type": uri, "status": 400, "retryAfterMs": -1 }), "`retryAfterMs` is `-1`, and a whole number"),
            (json!({ "type": uri, "status": 400, "slack": {} }), "`slack` is an object, and an object with the texts"),
        ] {
            let fault = raised(error.clone()).unwrap_err();
            assert_eq!((fault.code(), fault.status), ("raise-invalid", 400));
            let detail = fault.detail.unwrap();
            assert!(detail.contains(why), "{error}: {detail}");
        }
        let long = raised(json!("x".repeat(100_000))).unwrap_err().detail.unwrap();
        assert!(long.len() < 300, "{long}");
        let fault = raised(json!({ "type": uri, "status": 404, "title": null, "details": { "a": 1 } })).unwrap();
        assert_eq!((fault.kind.as_str(), fault.status), (uri, 404));
    }
}
