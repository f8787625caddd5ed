//! JSON Schema 2020-12, in bounded time: no remote references, patterns in linear time, limited size and depth.
//!
//! A schema comes from a definition or a plugin, and a value from anybody; neither is trusted. [`Schema::compile`]
//! refuses a schema that no value could be checked with in time, and [`Schema::check`] counts what the check would take
//! before it begins, and refuses what is beyond [`UNITS_MAX`].

use std::fmt;
use std::sync::Arc;

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

use crate::diagnostic::{Code, code};
use crate::value::depth;

use cost::{For, TooCostly};
use node::Node;

mod arguments;
mod bounds;
mod cost;
mod node;
mod pattern;
mod together;
mod violation;

pub use arguments::check_arguments;
pub use together::{Refused, Together, TooMany};
pub use violation::{Violation, What};

/// The longest schema, in bytes of compact JSON.
pub const BYTES_MAX: usize = 256 << 10;
/// The deepest nesting of a schema, and of an instance; more than [`crate::value::DEPTH_MAX`], because a schema nests
/// deeper than what it describes.
pub const DEPTH_MAX: usize = 100;
/// The most subschemas.
pub const SUBSCHEMAS_MAX: usize = 2_000;
/// The most regular expressions, and their longest length in bytes.
pub const PATTERNS_MAX: usize = 200;
/// See [`PATTERNS_MAX`].
pub const PATTERN_BYTES_MAX: usize = 1_000;
/// The most subschemas that one place of an instance is compared with.
pub const STEPS_AT_ONE_PLACE_MAX: u64 = 1_000;
/// The most subschemas that a value which has each field once is compared with.
pub const PLACES_MAX: u64 = 50_000;
/// The most subschemas that all `unevaluatedProperties` and `unevaluatedItems` together look through: for each of these,
/// what it looks through is compiled anew.
const STEPS_OF_UNEVALUATED_MAX: u64 = 10_000;
/// What one check may take, in units. Measured with optimisation, on values that were made to take long, a unit takes 1
/// to 20 ns with the count before it, so that a check ends within 50 ms; an ordinary one of 5,000 people takes 5 ms.
pub const UNITS_MAX: u64 = 2_000_000;
/// What telling every violation may take; where it takes more, only that there is one is told.
const UNITS_OF_TELLING_MAX: u64 = 2_000_000;
/// Links of chains of subschemas over all levels of an instance; 2 MiB of stack hold more than twice as many.
const STACK_LINKS_MAX: usize = 1_000;
/// The pointers of all keywords of a schema, in bytes: each is kept with its keyword.
const POINTERS_BYTES_MAX: usize = 8 << 20;
/// Memory of all compiled regular expressions of a schema, in bytes.
const PATTERN_MEMORY_TOGETHER_MAX: usize = 4 << 20;
/// At most so many violations of one instance are reported.
pub const VIOLATIONS_MAX: usize = 50;

/// A compiled schema; clones share it.
#[derive(Clone)]
pub struct Schema(Arc<Inner>);

struct Inner {
    validator: Validator,
    document: Value,
    nodes: Vec<Node>,
    patterns: usize,
    /// Deeper instances are refused.
    instance_depth_max: usize,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Every way in which the value does not fit, at most [`VIOLATIONS_MAX`]; none when it does. One of the class
    /// [`What::TooCostly`] stands alone: whether the value fits is not known.
    pub violations: Vec<Violation>,
    /// What the check took, in units of [`UNITS_MAX`]; the same for the same schema and value on every machine.
    pub cost: u64,
}

/// Why a schema is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// JSON pointer into the schema.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
    /// What mends it, in a few words.
    pub fix: &'static str,
    /// Whether the schema is a valid one that takes too long to compare values with.
    pub too_costly: bool,
}

impl Fault {
    fn invalid(pointer: &str, message: impl Into<String>, fix: &'static str) -> Self {
        Self { pointer: pointer.to_owned(), message: message.into(), fix, too_costly: false }
    }

    fn too_costly(pointer: &str, message: impl Into<String>) -> Self {
        let fix = "describe less of the value, or in fewer branches";
        Self { pointer: pointer.to_owned(), message: message.into(), fix, too_costly: true }
    }

    /// The code under which it is told.
    #[must_use]
    pub fn code(&self) -> Code {
        if self.too_costly { code::SCHEMA_TOO_COSTLY } else { code::INVALID_SCHEMA }
    }
}

impl Schema {
    /// Compiles `schema`.
    ///
    /// # Errors
    /// Every reason found why it is not a JSON Schema 2020-12 within the limits of this module.
    pub fn compile(schema: &Value) -> Result<Self, Vec<Fault>> {
        let bounds = bounds::check(schema).map_err(|mut faults| {
            // The rest of what is wrong, if the schema is not too large to be looked at.
            if !faults.iter().any(|f| f.pointer.is_empty() || f.too_costly) {
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
            vec![Fault::invalid(&pointer, violation::schema_message(&error, &pointer), DIALECT_FIX)]
        })?;
        let chains = STACK_LINKS_MAX / usize::try_from(bounds.chain).unwrap_or(usize::MAX).max(1);
        let instance_depth_max = DEPTH_MAX.min(chains.max(1));
        let (nodes, patterns) = (bounds.nodes, bounds.patterns);
        Ok(Self(Arc::new(Inner { validator, document: schema.clone(), nodes, patterns, instance_depth_max })))
    }

    /// The schema as given.
    #[must_use]
    pub fn document(&self) -> &Value {
        &self.0.document
    }

    /// Whether `instance` fits and could be checked within [`UNITS_MAX`].
    #[must_use]
    pub fn is_valid(&self, instance: &Value) -> bool {
        self.too_deep(instance).is_none()
            && self.count(instance, For::Asking, UNITS_MAX).is_ok()
            && self.0.validator.is_valid(instance)
    }

    /// The violations of [`Self::check`].
    #[must_use]
    pub fn validate(&self, instance: &Value) -> Vec<Violation> {
        self.check(instance).violations
    }

    /// Every way in which `instance` does not fit, and what finding that out took. No violation repeats a value of the
    /// instance, only names of its fields, and these shortened.
    ///
    /// What it may take is known before it begins, and what is beyond [`UNITS_MAX`] is not begun: that is a violation of
    /// its own class.
    #[must_use]
    pub fn check(&self, instance: &Value) -> Checked {
        if let Some(violation) = self.too_deep(instance) {
            return Checked { violations: vec![violation], cost: 1 };
        }
        let Ok(asking) = self.count(instance, For::Asking, UNITS_MAX) else {
            return Checked { violations: vec![Violation::too_costly()], cost: UNITS_MAX };
        };
        if self.0.validator.is_valid(instance) {
            return Checked { violations: Vec::new(), cost: asking };
        }
        let Ok(telling) = self.count(instance, For::Telling, UNITS_OF_TELLING_MAX) else {
            return Checked { violations: vec![Violation::somewhere()], cost: asking + UNITS_OF_TELLING_MAX };
        };
        let mut violations = Vec::new();
        for error in self.0.validator.iter_errors(instance) {
            violation::of_error(&error, &self.0.document, &mut violations);
            if violations.len() >= VIOLATIONS_MAX {
                violations.truncate(VIOLATIONS_MAX);
                break;
            }
        }
        Checked { violations, cost: asking + telling }
    }

    fn count(&self, instance: &Value, what: For, budget: u64) -> Result<u64, TooCostly> {
        cost::count(&self.0.nodes, self.0.patterns, instance, what, budget)
    }

    fn too_deep(&self, instance: &Value) -> Option<Violation> {
        let allowed = self.0.instance_depth_max;
        let levels = depth(instance);
        (levels > allowed).then(|| Violation {
            pointer: String::new(),
            schema_pointer: String::new(),
            what: What::Invalid,
            message: format!("the value nests {levels} levels deep, and this schema can check {allowed}"),
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
        .with_pattern_options(
            PatternOptions::regex().size_limit(pattern::MEMORY_MAX).dfa_size_limit(pattern::MEMORY_MAX),
        )
}

/// Where `schema` breaks the schema of schemas.
fn dialect_faults(schema: &Value) -> Vec<Fault> {
    let validator = jsonschema::draft202012::meta::validator();
    let mut faults: Vec<Fault> = Vec::new();
    for error in validator.iter_errors(schema).take(FAULTS_MAX) {
        let pointer = error.instance_path().as_str().to_owned();
        if !faults.iter().any(|f| f.pointer == pointer) {
            faults.push(Fault::invalid(&pointer, violation::schema_message(&error, &pointer), DIALECT_FIX));
        }
    }
    faults
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.0.document).finish()
    }
}

/// At most so many faults of one schema are reported.
const FAULTS_MAX: usize = 20;

/// What mends a schema that the schema of schemas refuses.
const DIALECT_FIX: &str = "write it as JSON Schema 2020-12 has it";

/// The schema that 2020-12 calls its own.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
