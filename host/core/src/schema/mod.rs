//! JSON Schema 2020-12, bounded: no remote references, patterns in linear time, limited size and depth.
//!
//! A schema comes from a definition or a plugin and is not trusted: [`Schema::compile`] refuses what could make a
//! validation loop or grow without bound, and [`Schema::validate`] refuses an instance too deep for a schema that
//! branches at every level.

use std::fmt;
use std::sync::Arc;

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

mod arguments;
mod bounds;
mod violation;

pub use arguments::check_arguments;
pub use violation::{Violation, What};

/// The longest schema, in bytes of compact JSON.
pub const BYTES_MAX: usize = 256 << 10;
/// The deepest nesting of a schema, and of an instance.
pub const DEPTH_MAX: usize = 100;
/// The most subschemas.
pub const SUBSCHEMAS_MAX: usize = 2_000;
/// The most regular expressions, and their longest length in bytes.
pub const PATTERNS_MAX: usize = 200;
/// See [`PATTERNS_MAX`].
pub const PATTERN_BYTES_MAX: usize = 1_000;
/// The most subschemas that one place of an instance is compared with.
pub const STEPS_AT_ONE_PLACE_MAX: u64 = 1_000;
/// Links of chains of subschemas over all levels of an instance; 2 MiB of stack hold more than twice as many.
const STACK_LINKS_MAX: usize = 1_000;
/// Memory of one compiled regular expression, in bytes.
const PATTERN_MEMORY_MAX: usize = 1 << 20;
/// At most so many violations of one instance are reported.
pub const VIOLATIONS_MAX: usize = 50;

/// A compiled schema; clones share it.
#[derive(Clone)]
pub struct Schema(Arc<Inner>);

struct Inner {
    validator: Validator,
    document: Value,
    /// Deeper instances are refused.
    instance_depth_max: usize,
}

/// Why a schema is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// JSON pointer into the schema.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
}

impl Schema {
    /// Compiles `schema`.
    ///
    /// # Errors
    /// Every reason found why it is not a JSON Schema 2020-12 within the limits of this module.
    pub fn compile(schema: &Value) -> Result<Self, Vec<Fault>> {
        let bounds = bounds::check(schema).map_err(|mut faults| {
            // The rest of what is wrong, if the schema is not too large to be looked at.
            if !faults.iter().any(|f| f.pointer.is_empty()) {
                let known = faults.len();
                for fault in dialect_faults(schema) {
                    if !faults[..known].iter().any(|f| f.pointer == fault.pointer) {
                        faults.push(fault);
                    }
                }
            }
            faults
        })?;
        let faults = dialect_faults(schema);
        if !faults.is_empty() {
            return Err(faults);
        }
        let validator = options().build(schema).map_err(|error| {
            let pointer = error.instance_path().as_str().to_owned();
            vec![Fault { message: violation::schema_message(&error, &pointer), pointer }]
        })?;
        let mut instance_depth_max = DEPTH_MAX;
        if bounds.branching > 1 {
            // branching^depth ≤ 2^20
            instance_depth_max = (20 / (bounds.branching.ilog2() as usize + 1)).max(4);
        }
        let chains = STACK_LINKS_MAX / usize::try_from(bounds.chain).unwrap_or(usize::MAX).max(1);
        let instance_depth_max = instance_depth_max.min(chains.max(1));
        Ok(Self(Arc::new(Inner { validator, document: schema.clone(), instance_depth_max })))
    }

    /// The schema as given.
    #[must_use]
    pub fn document(&self) -> &Value {
        &self.0.document
    }

    /// Whether `instance` fits. Takes no longer than [`Self::validate`].
    #[must_use]
    pub fn is_valid(&self, instance: &Value) -> bool {
        self.too_deep(instance).is_none() && self.0.validator.is_valid(instance)
    }

    /// Every way in which `instance` does not fit, at most [`VIOLATIONS_MAX`]; none when it does. No violation repeats a
    /// value of the instance, only names of its fields.
    #[must_use]
    pub fn validate(&self, instance: &Value) -> Vec<Violation> {
        if let Some(violation) = self.too_deep(instance) {
            return vec![violation];
        }
        let mut violations = Vec::new();
        for error in self.0.validator.iter_errors(instance) {
            violation::of_error(&error, &self.0.document, &mut violations);
            if violations.len() >= VIOLATIONS_MAX {
                violations.truncate(VIOLATIONS_MAX);
                break;
            }
        }
        violations
    }

    fn too_deep(&self, instance: &Value) -> Option<Violation> {
        let allowed = self.0.instance_depth_max;
        (depth(instance) > allowed).then(|| Violation {
            pointer: String::new(),
            schema_pointer: String::new(),
            what: What::Invalid,
            message: format!("the value nests deeper than {allowed} levels, which this schema cannot check"),
            expected: None,
            suggestion: None,
        })
    }
}

fn options() -> jsonschema::ValidationOptions<'static> {
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .offline()
        .should_validate_formats(true)
        .should_ignore_unknown_formats(true)
        .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_MEMORY_MAX).dfa_size_limit(PATTERN_MEMORY_MAX))
}

/// Whether the engine takes `pattern`.
fn is_pattern(pattern: &str) -> bool {
    options().build(&serde_json::json!({ "pattern": pattern })).is_ok()
}

/// Where `schema` breaks the schema of schemas.
fn dialect_faults(schema: &Value) -> Vec<Fault> {
    let validator = jsonschema::draft202012::meta::validator();
    let mut faults: Vec<Fault> = Vec::new();
    for error in validator.iter_errors(schema).take(FAULTS_MAX) {
        let pointer = error.instance_path().as_str().to_owned();
        if !faults.iter().any(|f| f.pointer == pointer) {
            faults.push(Fault { message: violation::schema_message(&error, &pointer), pointer });
        }
    }
    faults
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.0.document).finish()
    }
}

/// The levels of lists and objects. Not recursive: an instance may come from anywhere.
fn depth(value: &Value) -> usize {
    let mut deepest = 0;
    let mut open = vec![(value, 0)];
    while let Some((value, level)) = open.pop() {
        match value {
            Value::Array(items) => open.extend(items.iter().map(|v| (v, level + 1))),
            Value::Object(fields) => open.extend(fields.values().map(|v| (v, level + 1))),
            _ => continue,
        }
        deepest = deepest.max(level + 1);
    }
    deepest
}

/// At most so many faults of one schema are reported.
const FAULTS_MAX: usize = 20;

/// The schema that 2020-12 calls its own.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
