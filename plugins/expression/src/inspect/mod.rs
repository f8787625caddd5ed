//! What can be said of a program without evaluating it.

use serde::Serialize;
use serde_json::Value;

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::Term;

mod flow;
mod results;

pub(crate) mod free;

/// What static checks need of a program.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Inspection {
    /// Global variables read, without `$`, sorted. `keep` reads `context`, `table` reads `__tables`.
    pub variables: Vec<String>,
    /// Paths of `$runtime` and of the input read, as dotted text (`.person.email`,
    /// `$runtime.connections.org.kind`), sorted; `.` when all of the input may be read.
    pub paths: Vec<String>,
    /// The possible results, when the program is made only of what a connection may be made of; none otherwise.
    ///
    /// A result is a literal, or `{"table": NAME, "column": COLUMN}` for whatever that column holds.
    pub results: Option<Vec<Value>>,
    /// `table("name"; …).column` look-ups, as (table, column) pairs, sorted; the column is empty where the whole row
    /// is used, the name where it is computed.
    pub tables: Vec<(String, String)>,
}

/// Inspects a parsed program.
pub(crate) fn inspect(term: &Term<&str>) -> Inspection {
    let free = free::of_term(term);
    let (paths, tables) = flow::reads(term, &free);
    Inspection {
        variables: free.variables.iter().map(|v| v.trim_start_matches('$').to_owned()).collect(),
        paths,
        results: results::of(term, &free),
        tables,
    }
}

/// The text of a string literal without interpolation.
fn literal(term: &Term<&str>) -> Option<String> {
    let Term::Str(None, parts) = term else { return None };
    parts
        .iter()
        .map(|part| match part {
            StrPart::Str(s) => Some((*s).to_owned()),
            StrPart::Char(c) => Some(c.to_string()),
            StrPart::Term(_) => None,
        })
        .collect()
}
