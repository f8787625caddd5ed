//! The name of one execution of one task: what an effect's key is made of (semantics, section 1).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One execution of a task in a run.
///
/// The pointer is the task's place in the definition. `path` has, from the outermost scope to the task itself, one
/// number for each enclosing loop (the iteration) and branch, and one for each task on the way (how often that
/// place was entered before in its list). All executions of one place have paths of one length, so two executions
/// of a run differ in pointer or path. A retry starts its list anew and with it the counts: re-entry by a retry is
/// the same execution, in a later attempt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExecutionKey {
    /// JSON pointer of the task.
    pub pointer: String,
    /// Indices and entry counts, outermost first.
    pub path: Vec<u32>,
}

impl ExecutionKey {
    /// The key of a task at `pointer` under `scope` (its list's path), entered `entry` times before.
    #[must_use]
    pub fn of(pointer: &str, scope: &[u32], entry: u32) -> Self {
        let mut path = scope.to_vec();
        path.push(entry);
        Self { pointer: pointer.to_owned(), path }
    }
}

impl fmt::Display for ExecutionKey {
    /// `/do/0/notify#0`. A `#` in the pointer is written `~2`, which no JSON pointer contains (its escapes are
    /// `~0` and `~1`), so the text reads back to the same key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pointer.replace('#', "~2"))?;
        f.write_str("#")?;
        for (i, number) in self.path.iter().enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            write!(f, "{number}")?;
        }
        Ok(())
    }
}

/// A text that is not an execution's key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the key of a task's execution: expected `/pointer#0.1`")]
pub struct Error(pub String);

impl FromStr for ExecutionKey {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error(text.chars().take(128).collect());
        let (pointer, numbers) = text.split_once('#').ok_or_else(wrong)?;
        let path = if numbers.is_empty() {
            Vec::new()
        } else {
            numbers.split('.').map(|n| n.parse().map_err(|_| wrong())).collect::<Result<Vec<u32>, _>>()?
        };
        Ok(Self { pointer: pointer.replace("~2", "#"), path })
    }
}

impl TryFrom<String> for ExecutionKey {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<ExecutionKey> for String {
    fn from(key: ExecutionKey) -> String {
        key.to_string()
    }
}
