//! Which connection an alias means (semantics, section 4: "Connection of a call").

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::guard::{Data, Guards};
use crate::expression::{Content, Evaluator, Text};
use crate::requirement::{Connection, Kind};

/// The type of a table's column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Column {
    /// Any text.
    Text,
    /// A workspace's id.
    Workspace,
    /// A channel's id.
    Channel,
    /// A user group's id.
    Usergroup,
    /// A role.
    Role,
    /// A connection's name, or an alias.
    Connection,
}

/// One of the operator's tables, as pinned.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// The type of each column.
    pub columns: BTreeMap<String, Column>,
    /// The rows by key; each row by column.
    pub rows: BTreeMap<String, BTreeMap<String, Value>>,
}

/// What `with.connection` may give.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Choice {
    /// Nothing is said: the only connection that fits.
    Only,
    /// One of these; the flag says whether the file leaves no other.
    Aliases(BTreeSet<String>),
    NotStatic,
    TableUnknown(String),
    ColumnUnknown(String, String),
}

/// Where an alias leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resolution {
    /// Index into the connections present.
    To(usize),
    /// There are connections and none fits.
    Nothing,
    /// Those all fit.
    Ambiguous(Vec<usize>),
    /// A connection is named that is not there.
    Unknown { name: String, by: NamedBy },
    /// There is no connection at all.
    Missing,
}

/// Who named a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NamedBy {
    Trigger,
    Binding,
}

/// The aliases that stand for the names of one workflow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names<'a> {
    pub present: &'a [Connection],
    pub trigger: &'a BTreeMap<String, String>,
    pub bindings: &'a BTreeMap<String, String>,
}

impl Names<'_> {
    /// In the order of semantics: the trigger, the binding, the name, the only one of an accepted kind.
    pub(super) fn resolve(&self, alias: Option<&str>, accepted: &[Kind]) -> Resolution {
        let named = |name: &str| self.present.iter().position(|c| c.name == name);
        if let Some(alias) = alias {
            for (table, by) in [(self.trigger, NamedBy::Trigger), (self.bindings, NamedBy::Binding)] {
                if let Some(name) = table.get(alias) {
                    let unknown = || Resolution::Unknown { name: name.clone(), by };
                    return named(name).map_or_else(unknown, Resolution::To);
                }
            }
            if let Some(index) = named(alias) {
                return Resolution::To(index);
            }
        }
        let fits = |c: &Connection| accepted.is_empty() || accepted.contains(&c.kind);
        let fitting: Vec<usize> = (0..self.present.len()).filter(|i| fits(&self.present[*i])).collect();
        match fitting[..] {
            _ if self.present.is_empty() => Resolution::Missing,
            [] => Resolution::Nothing,
            [only] => Resolution::To(only),
            _ => Resolution::Ambiguous(fitting),
        }
    }
}

/// What `connection` may give, from the file and the tables alone.
pub(super) fn choice(connection: Option<&Text>, evaluator: &dyn Evaluator, tables: &BTreeMap<String, Table>) -> Choice {
    match connection.map(|t| &t.content) {
        None => Choice::Only,
        Some(Content::Literal(Value::String(alias))) => Choice::Aliases([alias.clone()].into()),
        Some(Content::Literal(_)) => Choice::NotStatic,
        Some(Content::Program(program)) => match evaluator.inspect(program) {
            Err(_) => Choice::NotStatic,
            Ok(inspection) => match (inspection.results, look_up(program)) {
                (_, Some(look_up)) => of_column(&look_up, tables),
                (Some(results), None) => aliases(results.iter()).map_or(Choice::NotStatic, Choice::Aliases),
                (None, None) => Choice::NotStatic,
            },
        },
    }
}

/// The one alias that `connection` gives, where that can be told now.
pub(super) fn narrowed(
    connection: Option<&Text>,
    guards: &Guards<'_>,
    tables: &BTreeMap<String, Table>,
    data: &Data,
) -> Data {
    match connection.map(|t| &t.content) {
        None | Some(Content::Literal(_)) => Data::Unknown,
        Some(Content::Program(program)) => match look_up(program) {
            None => guards.program(program, data),
            Some(look_up) => match guards.program(look_up.key, data) {
                Data::Known(Value::String(key)) => {
                    let cell = tables.get(look_up.table).and_then(|t| t.rows.get(&key)?.get(look_up.column));
                    let value = cell.filter(|v| !v.is_null()).cloned();
                    Data::Known(value.or_else(|| look_up.otherwise.map(Value::from)).unwrap_or_default())
                }
                Data::Known(_) => Data::Unknown,
                other @ (Data::FromInput | Data::Unknown) => other,
            },
        },
    }
}

fn aliases<'v>(values: impl Iterator<Item = &'v Value>) -> Option<BTreeSet<String>> {
    values.filter(|v| !v.is_null()).map(|v| v.as_str().map(str::to_owned)).collect()
}

fn of_column(look_up: &LookUp<'_>, tables: &BTreeMap<String, Table>) -> Choice {
    let Some(table) = tables.get(look_up.table) else { return Choice::TableUnknown(look_up.table.to_owned()) };
    if table.columns.get(look_up.column) != Some(&Column::Connection) {
        return Choice::ColumnUnknown(look_up.table.to_owned(), look_up.column.to_owned());
    }
    let cells = table.rows.values().filter_map(|row| row.get(look_up.column));
    match aliases(cells) {
        None => Choice::NotStatic,
        Some(mut aliases) => {
            aliases.extend(look_up.otherwise.map(str::to_owned));
            Choice::Aliases(aliases)
        }
    }
}

/// `table("access"; KEY).column // "otherwise"`, and nothing around it.
#[derive(Debug, PartialEq, Eq)]
struct LookUp<'p> {
    table: &'p str,
    key: &'p str,
    column: &'p str,
    otherwise: Option<&'p str>,
}

fn look_up(program: &str) -> Option<LookUp<'_>> {
    let rest = program.trim().strip_prefix("table")?.trim_start().strip_prefix('(')?;
    let (arguments, rest) = rest.split_at(closing(rest)?);
    let (table, key) = arguments.split_once(';')?;
    let rest = rest.strip_prefix(')')?.trim_start().strip_prefix('.')?;
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
    let (column, rest) = rest.split_at(end);
    let otherwise = match rest.trim() {
        "" => None,
        rest => Some(literal(rest.strip_prefix("//")?)?),
    };
    (!column.is_empty()).then_some(LookUp { table: literal(table)?, key: key.trim(), column, otherwise })
}

/// The text of a string literal without escapes.
fn literal(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix('"')?.strip_suffix('"')?;
    (!inner.contains(['"', '\\'])).then_some(inner)
}

/// The position of the bracket that closes one opened just before `text`.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quoted, mut escaped) = (0_u32, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' if !quoted && depth == 0 => return Some(at),
            ')' | ']' | '}' if !quoted => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}
