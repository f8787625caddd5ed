//! One subschema, as its cost is counted.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::pattern::{Pattern, cost};

/// A subschema; the others are meant by their number.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// JSON pointer into the schema.
    pub(super) pointer: String,
    /// What `$ref` says, until it is resolved.
    pub(super) reference: Option<String>,
    /// Looks at the same place, as it is: `allOf`, `then`, `else`, `$ref`.
    pub(super) all: Vec<usize>,
    /// Looks at the same place, and again where none of them fits, for what is to be said: `anyOf`, `oneOf`.
    pub(super) tried: Vec<usize>,
    /// Looks at the same place, and is only asked: `not`, `if`.
    pub(super) asked: Vec<usize>,
    /// `dependentSchemas`: looks at the same place if it has the field.
    pub(super) dependent: Vec<(String, usize)>,
    pub(super) properties: HashMap<String, usize>,
    pub(super) patterns: Vec<(Pattern, usize)>,
    pub(super) additional: Option<usize>,
    pub(super) names: Option<usize>,
    pub(super) prefix: Vec<usize>,
    pub(super) items: Option<usize>,
    pub(super) contains: Option<usize>,
    pub(super) unevaluated_properties: Option<usize>,
    pub(super) unevaluated_items: Option<usize>,
    pub(super) own: Own,
}

/// What a subschema takes by itself.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// Its keywords.
    pub(super) keywords: u64,
    /// Units for the values that it compares with: `enum`, `const`, `multipleOf`.
    pub(super) values: u64,
    /// Names that it looks for in an object.
    pub(super) names: u64,
    pub(super) pattern: Option<Pattern>,
    /// Whether every character of a text is looked at, besides by the pattern.
    pub(super) reads_text: bool,
    pub(super) unique: bool,
}

/// An `enum` of so many texts or fewer is compared one by one; of more, they are looked up.
const TEXTS_COMPARED: u64 = 10;
/// A number that is no integer is divided as a fraction.
const UNITS_OF_FRACTION: u64 = 64;

impl Own {
    /// All but the pattern.
    pub(super) fn of(map: &Map<String, Value>) -> Self {
        let mut values = 0;
        if let Some(Value::Array(options)) = map.get("enum") {
            let texts = options.iter().all(Value::is_string);
            let all: u64 = options.iter().map(|option| 1 + cost(option)).sum();
            values += if texts { all.min(TEXTS_COMPARED) } else { all };
        }
        values += map.get("const").map_or(0, cost);
        if map.get("multipleOf").is_some() {
            values += UNITS_OF_FRACTION;
        }
        let count = |value: &Value| value.as_array().map_or(0, |names| names.len() as u64);
        let dependent = map.get("dependentRequired").and_then(Value::as_object);
        Self {
            keywords: map.len() as u64,
            values,
            names: map.get("required").map_or(0, count)
                + dependent.map_or(0, |all| all.values().map(|names| 1 + count(names)).sum()),
            pattern: None,
            reads_text: ["format", "minLength", "maxLength", "contentEncoding", "contentMediaType"]
                .iter()
                .any(|keyword| map.contains_key(*keyword)),
            unique: map.get("uniqueItems") == Some(&Value::Bool(true)),
        }
    }
}

impl Node {
    /// Whether what was evaluated has to be found out, besides whether it fits.
    pub(super) fn marks(&self) -> bool {
        self.unevaluated_properties.is_some() || self.unevaluated_items.is_some()
    }

    /// The subschemas that look at the same place.
    pub(super) fn in_place(&self) -> impl Iterator<Item = usize> + '_ {
        let dependent = self.dependent.iter().map(|(_, target)| *target);
        self.all.iter().chain(&self.tried).chain(&self.asked).copied().chain(dependent)
    }

    /// The subschemas that look at children of the place.
    pub(super) fn below(&self) -> impl Iterator<Item = usize> + '_ {
        let single = [
            self.additional,
            self.names,
            self.items,
            self.contains,
            self.unevaluated_properties,
            self.unevaluated_items,
        ];
        self.properties
            .values()
            .copied()
            .chain(self.patterns.iter().map(|(_, target)| *target))
            .chain(self.prefix.iter().copied())
            .chain(single.into_iter().flatten())
    }
}
