//! A value that does not fit its schema, in words that repeat nothing of the value.

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{JsonType, ValidationError};
use serde_json::Value;

use crate::diagnostic::{Code, code, nearest};
use crate::pointer;
use crate::text::{cut, few};

/// The class of a [`Violation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A field that the schema does not have; `pointer` is the field's.
    Unknown,
    /// A field that is missing; `pointer` is where it would be.
    Missing,
    /// A value that does not fit.
    Invalid,
    /// A value that cannot be compared with the schema within the budget; whether it fits is not known.
    TooCostly,
}

/// One way in which an instance does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// JSON pointer into the instance.
    pub pointer: String,
    /// JSON pointer of the keyword in the schema.
    pub schema_pointer: String,
    /// The class.
    pub what: What,
    /// What is wrong, in one line, with the field's name.
    pub message: String,
    /// What would do, where it can be said in a few words: `a string`, `` one of `a`, `b` ``.
    pub expected: Option<String>,
    /// The field or value that was probably meant.
    pub suggestion: Option<String>,
}

impl Violation {
    /// The code under which it is told where a value that does not fit has the code `otherwise`.
    #[must_use]
    pub fn code(&self, otherwise: Code) -> Code {
        if self.what == What::TooCostly { code::SCHEMA_TOO_COSTLY } else { otherwise }
    }

    pub(super) fn too_costly() -> Self {
        Self {
            what: What::TooCostly,
            expected: Some("a smaller value, or a schema with fewer choices and patterns".to_owned()),
            ..Self::whole(&format!(
                "comparing the value with the schema would take more than {} steps, the most that one check may take",
                super::UNITS_MAX
            ))
        }
    }

    /// The value does not fit, and telling where would take too long.
    pub(super) fn somewhere() -> Self {
        Self::whole(&format!(
            "the value does not fit, and telling where would take more than {} steps: give less of it to see where",
            super::UNITS_OF_TELLING_MAX
        ))
    }

    fn whole(message: &str) -> Self {
        Self {
            pointer: String::new(),
            schema_pointer: String::new(),
            what: What::Invalid,
            message: message.to_owned(),
            expected: None,
            suggestion: None,
        }
    }
}

/// The message of a schema that the metaschema refuses.
pub(super) fn schema_message(error: &ValidationError<'_>, pointer: &str) -> String {
    let name = last(pointer);
    match error.kind() {
        ValidationErrorKind::Format { format } if format == "regex" => {
            format!("{name} is {NOT_A_PATTERN}")
        }
        ValidationErrorKind::Referencing(_) => "a reference cannot be resolved".to_owned(),
        ValidationErrorKind::AnyOf { .. } if pointer.ends_with("/type") => {
            format!("`type` must be one of {}", TYPES.map(|t| format!("`{t}`")).join(", "))
        }
        kind => match sentence(kind, &name) {
            Some((message, _)) => message,
            None => format!("{name} does not fit the schema of schemas (`{}`)", kind.keyword()),
        },
    }
}

/// What is said of a pattern that the engine does not take.
pub(super) const NOT_A_PATTERN: &str = "not a regular expression that can be matched in linear time: no look-around, no back-references, no large repetitions";

const TYPES: [&str; 7] = ["null", "boolean", "object", "array", "number", "string", "integer"];

/// Appends what `error` says.
pub(super) fn of_error(error: &ValidationError<'_>, schema: &Value, violations: &mut Vec<Violation>) {
    let pointer = cut(error.instance_path().as_str(), POINTER_BYTES_MAX).into_owned();
    let schema_pointer = error.schema_path().as_str().to_owned();
    let parent = || schema.pointer(&schema_pointer[..schema_pointer.rfind('/').unwrap_or(0)]);
    let name = last(&pointer);
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let known = parent().and_then(|p| p.get("properties")).and_then(Value::as_object);
            for field in unexpected.iter().take(super::VIOLATIONS_MAX) {
                let near = known.and_then(|k| nearest(field, k.keys().map(String::as_str))).map(str::to_owned);
                violations.push(Violation {
                    pointer: cut(&pointer::child(&pointer, field), POINTER_BYTES_MAX).into_owned(),
                    schema_pointer: schema_pointer.clone(),
                    what: What::Unknown,
                    message: format!("{name} has no field `{}`", shortened(field)),
                    expected: known.map(|k| one_of(k.keys().map(String::as_str))),
                    suggestion: near,
                });
            }
        }
        ValidationErrorKind::Required { property } => {
            let field = property.as_str().unwrap_or_default();
            violations.push(Violation {
                pointer: pointer::child(&pointer, field),
                schema_pointer,
                what: What::Missing,
                message: format!("{name} needs a field `{}`", shortened(field)),
                expected: Some(format!("a field `{}`", shortened(field))),
                suggestion: None,
            });
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context }
            if let Some(fields) = missing_in_each(context) =>
        {
            violations.push(Violation {
                message: format!("{name} needs {fields}"),
                expected: Some(format!("a value with {fields}")),
                pointer,
                schema_pointer,
                what: What::Invalid,
                suggestion: None,
            });
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            // The form that fits best is most probably the one that was meant.
            let closest = context.iter().filter(|errors| !errors.is_empty()).min_by_key(|errors| {
                (errors.iter().any(|e| matches!(e.kind(), ValidationErrorKind::Type { .. })), errors.len())
            });
            let before = violations.len();
            if let [_] = context.as_slice()
                && let Some(errors) = closest
            {
                errors.iter().for_each(|e| of_error(e, schema, violations));
            }
            if violations.len() == before {
                let hint = closest.and_then(|errors| {
                    let mut inner = Vec::new();
                    errors.iter().take(1).for_each(|e| of_error(e, schema, &mut inner));
                    inner.pop().map(|v| v.message)
                });
                violations.push(Violation {
                    pointer,
                    schema_pointer,
                    what: What::Invalid,
                    message: format!(
                        "{name} fits none of the forms that are allowed{}",
                        hint.map(|h| format!(": {h}")).unwrap_or_default()
                    ),
                    expected: Some("one of the forms that the schema allows".to_owned()),
                    suggestion: None,
                });
            }
        }
        // `additionalProperties: false` without `properties`: no field at all is known.
        ValidationErrorKind::FalseSchema if schema_pointer.ends_with("/additionalProperties") => {
            violations.push(Violation {
                message: format!("{name} can have no fields"),
                pointer,
                schema_pointer,
                what: What::Invalid,
                expected: Some("no fields".to_owned()),
                suggestion: None,
            });
        }
        kind => {
            let (message, expected) =
                sentence(kind, &name).unwrap_or_else(|| (format!("{name} does not fit `{}`", kind.keyword()), None));
            let suggestion = match kind {
                ValidationErrorKind::Enum { options } => error.instance().as_str().and_then(|text| {
                    let words = options.as_array().into_iter().flatten().filter_map(Value::as_str);
                    nearest(text, words).map(str::to_owned)
                }),
                _ => None,
            };
            violations.push(Violation { pointer, schema_pointer, what: What::Invalid, message, expected, suggestion });
        }
    }
}

/// `` `a` or `b` `` where each form lacks just one field.
fn missing_in_each(context: &[Vec<ValidationError<'_>>]) -> Option<String> {
    let fields: Option<Vec<&str>> = context
        .iter()
        .map(|errors| match errors.as_slice() {
            [error] => match error.kind() {
                ValidationErrorKind::Required { property } => property.as_str(),
                _ => None,
            },
            _ => None,
        })
        .collect();
    let mut fields = fields?;
    fields.dedup();
    Some(fields)
        .filter(|fields| fields.len() > 1)
        .map(|fields| one_of(fields.into_iter()).replace("one of ", "one of the fields "))
}

fn sentence(kind: &ValidationErrorKind, name: &str) -> Option<(String, Option<String>)> {
    use ValidationErrorKind as Kind;
    let must = |what: String| Some((format!("{name} must be {what}"), Some(what)));
    match kind {
        Kind::Type { kind } => must(match kind {
            TypeKind::Single(one) => with_article(*one).to_owned(),
            TypeKind::Multiple(several) => several.iter().map(with_article).collect::<Vec<_>>().join(" or "),
        }),
        Kind::Enum { options } => must(one_of(
            options.as_array().into_iter().flatten().map(json_word).collect::<Vec<_>>().iter().map(String::as_str),
        )),
        Kind::Constant { expected_value } => must(format!("`{}`", json_word(expected_value))),
        Kind::Format { format } => must(format!("of the format `{format}`")),
        Kind::Pattern { pattern } => must(format!("text that matches `{}`", shortened(pattern))),
        Kind::Minimum { limit } => must(format!("at least {limit}")),
        Kind::Maximum { limit } => must(format!("at most {limit}")),
        Kind::ExclusiveMinimum { limit } => must(format!("more than {limit}")),
        Kind::ExclusiveMaximum { limit } => must(format!("less than {limit}")),
        Kind::MultipleOf { multiple_of } => must(format!("a multiple of {multiple_of}")),
        Kind::MinLength { limit: 1 } => Some((format!("{name} must not be empty"), Some("not empty".to_owned()))),
        Kind::MinLength { limit } => must(format!("at least {limit} characters long")),
        Kind::MaxLength { limit } => must(format!("at most {limit} characters long")),
        Kind::MinItems { limit } => {
            Some((format!("{name} needs at least {limit} items"), Some(format!("at least {limit} items"))))
        }
        Kind::MaxItems { limit } => {
            Some((format!("{name} can have at most {limit} items"), Some(format!("at most {limit} items"))))
        }
        Kind::AdditionalItems { limit } => {
            Some((format!("{name} can have at most {limit} items"), Some(format!("at most {limit} items"))))
        }
        Kind::UniqueItems => Some((format!("{name} has the same item twice"), Some("each item once".to_owned()))),
        Kind::MinProperties { limit } => {
            Some((format!("{name} needs at least {limit} fields"), Some(format!("at least {limit} fields"))))
        }
        Kind::MaxProperties { limit } => {
            Some((format!("{name} can have at most {limit} fields"), Some(format!("at most {limit} fields"))))
        }
        Kind::FalseSchema => Some((format!("{name} is not allowed here"), Some("to be left out".to_owned()))),
        Kind::OneOfMultipleValid { .. } => Some((
            format!("{name} fits more than one of the forms that exclude each other"),
            Some("just one of them".to_owned()),
        )),
        Kind::Not { .. } => Some((format!("{name} has a form that is excluded"), Some("another form".to_owned()))),
        _ => None,
    }
}

fn with_article(kind: JsonType) -> &'static str {
    match kind {
        JsonType::Null => "null",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "a whole number",
        JsonType::Number => "a number",
        JsonType::String => "text",
        JsonType::Array => "a list",
        JsonType::Object => "an object",
    }
}

/// Longer pointers are cut: names of fields can be as long as the value.
const POINTER_BYTES_MAX: usize = 2_000;

/// A value of the schema, short.
fn json_word(value: &Value) -> String {
    shortened(&value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(80) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

fn one_of<'w>(words: impl Iterator<Item = &'w str>) -> String {
    let words: Vec<String> = words.map(|word| format!("`{}`", shortened(word))).collect();
    let shown = few(&words, 12);
    if words.len() == 1 { shown } else { format!("one of {shown}") }
}

/// The last part of a pointer, for messages.
fn last(pointer: &str) -> String {
    match pointer::last(pointer).as_deref() {
        None | Some("") => "the value".to_owned(),
        Some(key) if key.bytes().all(|b| b.is_ascii_digit()) => format!("item {key}"),
        Some(key) => format!("`{}`", shortened(key)),
    }
}
