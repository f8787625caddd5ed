//! Runtime expressions, behind a trait: whoever evaluates them is not this crate's affair.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cost::Cost;

mod template;

pub use template::{Content, Located, Template, Text, program_of};

/// Evaluates jq programs. The production implementation runs a guest component; tests of this crate use jaq natively.
///
/// Implementations are deterministic: the same program, arguments and input give the same answer, for one version
/// of the evaluator. A state never depends on that, since every result is in an event.
pub trait Evaluator {
    /// Evaluates `program` on `input`, and says what that cost.
    ///
    /// `arguments` are the global variables without `$`; an implementation passes on only those that the program reads.
    /// No result at all is `null`; several are [`Error::Invalid`].
    fn answer(&self, program: &str, arguments: &[(&str, &Value)], input: &Value) -> Answer;

    /// As [`Self::answer`], for those who do not add up costs.
    fn evaluate(&self, program: &str, arguments: &[(&str, &Value)], input: &Value) -> Result<Value, Error> {
        self.answer(program, arguments, input).result
    }

    /// What can be said of `program` without evaluating it.
    fn inspect(&self, program: &str) -> Result<Inspection, Error>;
}

/// What an evaluation gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The value, or why there is none.
    pub result: Result<Value, Error>,
    /// How long it kept its thread.
    pub cost: Cost,
}

/// What static checks need of a program.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Inspection {
    /// Global variables read, without `$`, sorted.
    pub variables: Vec<String>,
    /// Paths of `$runtime` and of the input read where they can be told, as dotted text
    /// (`.person.email`, `$runtime.connections.org.kind`); `.` when all of it may be read.
    pub paths: Vec<String>,
    /// The possible results, when the program is made only of what semantics section 4 allows for a connection
    /// (literals, `if`, a literal object indexed, `//`); none otherwise.
    pub results: Option<Vec<Value>>,
    /// `table("name"; …).column` look-ups, as (table, column) pairs; the column is empty where the whole row is used.
    pub tables: Vec<(String, String)>,
}

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Error {
    /// It cannot be parsed, or reads something that does not exist, or failed on this input.
    #[error("{message}")]
    Invalid {
        /// What is wrong.
        message: String,
        /// Byte offset in the program, where known.
        at: Option<u32>,
    },
    /// It used more time, memory or output than an expression may.
    #[error("the expression used more than it may: {what}")]
    Budget {
        /// Which limit.
        what: String,
    },
}

/// The variable in which the pinned tables are given to a program: `{NAME: {"columns": …, "rows": {KEY: {…}}}}`.
pub const TABLES: &str = "__tables";
