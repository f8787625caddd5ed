//! JSON Schema 2020-12, bounded: no remote references, patterns in linear time, limited size and depth.

use serde_json::Value;

/// A compiled schema.
#[derive(Debug, Clone)]
pub struct Schema;

/// Why a schema is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// JSON pointer into the schema.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
}

impl Schema {
    /// Compiles.
    pub fn compile(_schema: &Value) -> Result<Self, Vec<Fault>> {
        Ok(Self)
    }
}
