//! Which connection an alias means (semantics, section 4: "Connection of a call").

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::definition::{Compensate, TaskKind, Workflow};
use crate::expression::{Content, Evaluator, Text};
use crate::requirement::{Connection, Kind, Permission};

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
    /// One of these.
    Aliases {
        /// Those that the file writes.
        written: BTreeSet<String>,
        /// Those that stand in a table: the operator means connections by them, so that none stands for another.
        tabled: BTreeSet<String>,
    },
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
    Table,
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
    /// A name that only tables have is never taken for another connection than the one of that name.
    /// Of several that fit, one that may only read is not meant where something `acts`.
    pub(super) fn resolve(&self, alias: Option<&str>, only_tabled: bool, accepted: &[Kind], acts: bool) -> Resolution {
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
            if only_tabled && !self.present.is_empty() {
                return Resolution::Unknown { name: alias.to_owned(), by: NamedBy::Table };
            }
        }
        let fits = |c: &Connection| accepted.is_empty() || accepted.contains(&c.kind);
        let mut fitting: Vec<usize> = (0..self.present.len()).filter(|i| fits(&self.present[*i])).collect();
        let able = |i: &usize| self.present[*i].permission == Permission::Act;
        if acts && fitting.len() > 1 && fitting.iter().any(able) {
            fitting.retain(able);
        }
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
    let results = match connection.map(|t| &t.content) {
        None => return Choice::Only,
        Some(Content::Literal(value)) => vec![value.clone()],
        Some(Content::Program(program)) => match evaluator.inspect(program).map(|i| i.results) {
            Ok(Some(results)) => results,
            Ok(None) | Err(_) => return Choice::NotStatic,
        },
    };
    let (mut written, mut tabled) = (BTreeSet::new(), BTreeSet::new());
    for result in &results {
        match result {
            Value::String(alias) => {
                written.insert(alias.clone());
            }
            // No connection at all is the run's fault when it comes to that, not a possible one.
            Value::Null => {}
            Value::Object(look_up) => match cells(look_up, tables) {
                Ok(cells) => tabled.extend(cells),
                Err(fault) => return fault,
            },
            Value::Bool(_) | Value::Number(_) | Value::Array(_) => return Choice::NotStatic,
        }
    }
    Choice::Aliases { written, tabled }
}

/// The aliases by which a workflow names connections: those that it declares, that its calls can give, and where its
/// people are told.
#[must_use]
pub fn aliases(workflow: &Workflow, evaluator: &dyn Evaluator, tables: &BTreeMap<String, Table>) -> BTreeSet<String> {
    let extras = &workflow.extras;
    let mut all: BTreeSet<String> = extras.connections.keys().cloned().collect();
    all.extend(extras.notify.iter().map(|notify| notify.connection.clone()));
    for task in &workflow.tasks {
        let TaskKind::Call(call) = &task.kind else { continue };
        let own = match &task.extras.compensate {
            Some(Compensate::Call(call)) => call.connection.as_ref(),
            Some(Compensate::Named(_)) | None => None,
        };
        for connection in [call.connection.as_ref(), own].into_iter().flatten() {
            if let Choice::Aliases { written, tabled } = choice(Some(connection), evaluator, tables) {
                all.extend(written);
                all.extend(tabled);
            }
        }
    }
    all
}

/// What stands in the column of `{"table": NAME, "column": COLUMN}`.
fn cells(look_up: &Map<String, Value>, tables: &BTreeMap<String, Table>) -> Result<BTreeSet<String>, Choice> {
    let text = |name: &str| look_up.get(name).and_then(Value::as_str).ok_or(Choice::NotStatic);
    let (name, column) = (text("table")?, text("column")?);
    let table = tables.get(name).ok_or_else(|| Choice::TableUnknown(name.to_owned()))?;
    if table.columns.get(column) != Some(&Column::Connection) {
        return Err(Choice::ColumnUnknown(name.to_owned(), column.to_owned()));
    }
    let cells = table.rows.values().filter_map(|row| row.get(column)).filter(|v| !v.is_null());
    cells.map(|v| v.as_str().map(str::to_owned).ok_or(Choice::NotStatic)).collect()
}
