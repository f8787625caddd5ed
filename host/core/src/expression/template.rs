//! JSON with expressions in it.

use serde_json::{Map, Value};

use super::{Error, Evaluator};
use crate::pointer;

/// A text of a definition that is an expression or a literal, with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    /// What it is.
    pub content: Content,
    /// JSON pointer of the string in the definition.
    pub pointer: String,
}

/// See [`Text`].
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Evaluates to itself.
    Literal(Value),
    /// A jq program, without `${ }`.
    Program(String),
}

impl Text {
    /// The program, if it is one.
    #[must_use]
    pub fn program(&self) -> Option<&str> {
        match &self.content {
            Content::Program(program) => Some(program),
            Content::Literal(_) => None,
        }
    }

    /// Its value.
    pub fn evaluate(
        &self,
        evaluator: &dyn Evaluator,
        arguments: &[(&str, &Value)],
        input: &Value,
    ) -> Result<Value, Located> {
        match &self.content {
            Content::Literal(value) => Ok(value.clone()),
            Content::Program(program) => evaluator.evaluate(program, arguments, input).map_err(|error| Located {
                error,
                pointer: self.pointer.clone(),
                program: program.clone(),
            }),
        }
    }
}

/// An expression's error, with its place in the definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error} (in `{program}` at {pointer})")]
pub struct Located {
    /// What.
    pub error: Error,
    /// JSON pointer in the definition.
    pub pointer: String,
    /// The program.
    pub program: String,
}

/// A JSON value of a definition in which strings of the form `${ … }` are expressions.
#[derive(Debug, Clone, PartialEq)]
pub enum Template {
    /// A scalar, or an expression.
    Text(Text),
    /// An array.
    Array(Vec<Template>),
    /// An object, in the file's order.
    Object(Vec<(String, Template)>),
}

impl Template {
    /// Reads a template off a JSON value that stands at `pointer` in the definition.
    #[must_use]
    pub fn of(value: &Value, pointer: &str) -> Self {
        match value {
            Value::Array(items) => {
                Self::Array(items.iter().enumerate().map(|(i, v)| Self::of(v, &pointer::item(pointer, i))).collect())
            }
            Value::Object(fields) => Self::Object(
                fields.iter().map(|(k, v)| (k.clone(), Self::of(v, &pointer::child(pointer, k)))).collect(),
            ),
            scalar => Self::Text(Text {
                content: match scalar.as_str().and_then(program_of) {
                    Some(program) => Content::Program(program.to_owned()),
                    None => Content::Literal(scalar.clone()),
                },
                pointer: pointer.to_owned(),
            }),
        }
    }

    /// Its value: every expression replaced by its result.
    pub fn evaluate(
        &self,
        evaluator: &dyn Evaluator,
        arguments: &[(&str, &Value)],
        input: &Value,
    ) -> Result<Value, Located> {
        match self {
            Self::Text(text) => text.evaluate(evaluator, arguments, input),
            Self::Array(items) => items
                .iter()
                .map(|t| t.evaluate(evaluator, arguments, input))
                .collect::<Result<Vec<_>, _>>()
                .map(Value::Array),
            Self::Object(fields) => {
                let mut object = Map::new();
                for (name, template) in fields {
                    object.insert(name.clone(), template.evaluate(evaluator, arguments, input)?);
                }
                Ok(Value::Object(object))
            }
        }
    }

    /// Every program in it, with its place.
    pub fn programs(&self) -> Vec<&Text> {
        match self {
            Self::Text(text) => text.program().map(|_| text).into_iter().collect(),
            Self::Array(items) => items.iter().flat_map(Self::programs).collect(),
            Self::Object(fields) => fields.iter().flat_map(|(_, t)| t.programs()).collect(),
        }
    }
}

/// The jq program in `${ … }`; none for a literal string.
#[must_use]
pub fn program_of(text: &str) -> Option<&str> {
    text.trim().strip_prefix("${")?.strip_suffix('}').map(str::trim)
}
