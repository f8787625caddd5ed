//! The schemas of one definition or plugin, which have one limit on their patterns together.

use serde_json::Value;

use super::{Fault, Schema};

/// The most regular expressions of all schemas of one definition or plugin: compiling these takes longest of all that a
/// schema has.
const PATTERNS_MAX: usize = 1_000;
/// A schema with faults counts as so many, because how many it has is not known, and reading it took as long.
const PATTERNS_OF_A_FAULTY_ONE: usize = 50;

/// Compiles the schemas of one definition or plugin, one after the other, until they have too many patterns together.
#[derive(Debug, Default)]
pub struct Together {
    patterns: usize,
}

/// Why a schema is refused where it stands among others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It is refused wherever it stands.
    Faulty(Vec<Fault>),
    /// With this one the schemas have too many patterns; said once, of the first such schema.
    TooMany(TooMany),
    /// It was not looked at, because one before it had too many.
    PassedOver,
}

/// The patterns of schemas that have too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the schemas up to here count as {patterns} patterns, and may have {PATTERNS_MAX} together; one that is refused \
     counts as {PATTERNS_OF_A_FAULTY_ONE}"
)]
pub struct TooMany {
    patterns: usize,
}

impl TooMany {
    /// What mends it.
    pub const FIX: &'static str = "use fewer patterns, or first mend the schemas that are refused";
}

impl Together {
    /// Compiles one more schema.
    ///
    /// # Errors
    /// Why this schema cannot be used; the others before it still can.
    pub fn compile(&mut self, schema: &Value) -> Result<Schema, Refused> {
        if self.patterns > PATTERNS_MAX {
            return Err(Refused::PassedOver);
        }
        let compiled = Schema::compile(schema);
        self.patterns += compiled.as_ref().map_or(PATTERNS_OF_A_FAULTY_ONE, |schema| schema.0.patterns);
        if self.patterns > PATTERNS_MAX {
            return Err(Refused::TooMany(TooMany { patterns: self.patterns }));
        }
        compiled.map_err(Refused::Faulty)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with_patterns(count: usize) -> Value {
        json!({ "allOf": (0..count).map(|n| json!({ "pattern": format!("^{n}") })).collect::<Vec<_>>() })
    }

    #[test]
    fn patterns_are_counted_over_all_schemas() {
        let mut together = Together::default();
        for _ in 0..5 {
            assert!(together.compile(&with_patterns(200)).is_ok());
        }
        let Err(Refused::TooMany(too_many)) = together.compile(&with_patterns(1)) else { panic!("was taken") };
        assert!(too_many.to_string().contains("1001 patterns, and may have 1000"), "{too_many}");
        assert_eq!(together.compile(&json!({})).unwrap_err(), Refused::PassedOver);
    }

    #[test]
    fn a_schema_with_faults_counts() {
        let mut together = Together::default();
        for _ in 0..20 {
            assert!(matches!(together.compile(&json!({ "type": 1 })), Err(Refused::Faulty(_))));
        }
        assert!(matches!(together.compile(&json!({ "type": 1 })), Err(Refused::TooMany(_))));
    }
}
