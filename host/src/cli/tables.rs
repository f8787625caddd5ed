//! `bellhop tables`, and tables in files: YAML, JSON or CSV.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bellhop_core::diagnostic::nearest;
use bellhop_core::preflight::{Column, Table};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::http::{Client, segment};
use super::output::{Exit, Failure, columns, plain};
use super::{Context, browse, files, run};

/// `bellhop tables`
#[derive(Debug, Subcommand)]
pub(super) enum Tables {
    /// Put a table's next version; runs that have begun keep theirs
    Put(Put),
    /// List the tables
    List,
    /// Show a table
    Show(Show),
}

/// `bellhop tables put`
#[derive(Debug, Args)]
pub(super) struct Put {
    /// By which expressions find it
    name: String,
    /// YAML or JSON ({columns: {COLUMN: TYPE}, rows: {KEY: {COLUMN: VALUE}}}), or CSV whose first column is the key and
    /// whose headings are COLUMN or COLUMN:TYPE
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// `bellhop tables show`
#[derive(Debug, Args)]
pub(super) struct Show {
    /// The table
    name: String,
}

pub(super) fn run(arguments: &Tables, context: &Context) -> Result<Exit, Failure> {
    match arguments {
        Tables::Put(put) => {
            let table = read(&put.file, context.settings.limits.file_bytes_max)?;
            let path = format!("/v1/tables/{}", segment(&put.name));
            let answer = Client::new(context)?.send("PUT", &path, &json!(table))?.body;
            let version = answer.get("version").and_then(Value::as_u64).unwrap_or_default();
            context.out.answer(|| format!("{}: version {version}, {} rows\n", put.name, table.rows.len()), &answer);
            Ok(Exit::Done)
        }
        Tables::List => browse::list(context, "/v1/tables", &[("TABLE", "/name"), ("VERSION", "/version")]),
        Tables::Show(show) => {
            let answer = Client::new(context)?.get(&format!("/v1/tables/{}", segment(&show.name)))?.body;
            context.out.answer(|| text(&answer), &answer);
            Ok(Exit::Done)
        }
    }
}

fn text(answer: &Value) -> String {
    let Ok(table) = serde_json::from_value::<Table>(json!({ "columns": answer["columns"], "rows": answer["rows"] }))
    else {
        return browse::thing(answer);
    };
    let mut headings = vec!["KEY".to_owned()];
    headings.extend(
        table.columns.iter().map(|(name, column)| format!("{}:{}", plain(name), browse::cell(Some(&json!(column))))),
    );
    let rows: Vec<Vec<String>> = table
        .rows
        .iter()
        .map(|(key, row)| {
            let cells = table.columns.keys().map(|column| browse::cell(row.get(column)));
            std::iter::once(plain(key)).chain(cells).collect()
        })
        .collect();
    columns(&headings.iter().map(String::as_str).collect::<Vec<_>>(), &rows)
}

/// Reads a table's file.
///
/// # Errors
/// It cannot be read, or is no table: exit code 3.
pub(super) fn read(path: &Path, bytes_max: u64) -> Result<Table, Failure> {
    let name = path.display().to_string();
    let text = files::text(path, bytes_max)?;
    let table = if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv")) {
        of_csv(&text)
    } else {
        of_document(&run::document(&name, &text)?)
    };
    table.map_err(|faults| {
        let failure = match &faults[..] {
            [only] => Failure::failed("table-invalid", format!("{name} is no table: {only}")),
            all => Failure::failed("table-invalid", format!("{name} is no table:")).with_lines(all),
        };
        Failure { exit: Exit::Diagnostics, ..failure }
    })
}

/// What is wrong with a table, all of it: at most so much.
const FAULTS_MAX: usize = 50;

/// Gathers what is wrong.
#[derive(Default)]
struct Faults {
    told: Vec<String>,
    more: usize,
}

impl Faults {
    fn tell(&mut self, why: impl Into<String>) {
        if self.told.len() < FAULTS_MAX {
            self.told.push(why.into());
        } else {
            self.more += 1;
        }
    }

    /// The value, if nothing is wrong; keeps what is.
    fn take<T>(&mut self, found: Result<T, String>) -> Option<T> {
        found.map_err(|why| self.tell(why)).ok()
    }

    fn or(mut self, table: Table) -> Result<Table, Vec<String>> {
        if self.more > 0 {
            self.told.push(format!("and {} more", self.more));
        }
        if self.told.is_empty() { Ok(table) } else { Err(self.told) }
    }
}

fn of_document(value: &Value) -> Result<Table, Vec<String>> {
    let mut faults = Faults::default();
    let mut table = Table::default();
    let Some(fields) = value.as_object() else {
        return Err(vec!["it has to be a mapping with `columns` and `rows`".to_owned()]);
    };
    for name in fields.keys().filter(|name| !["columns", "rows"].contains(&name.as_str())) {
        let near = nearest(name, ["columns", "rows"]).map(|n| format!(", did you mean `{n}`?")).unwrap_or_default();
        faults.tell(format!("there is no `{}` in a table{near}", plain(name)));
    }
    let mapping = |name: &str, what: &str| {
        let found = fields.get(name).and_then(Value::as_object);
        found.ok_or_else(|| format!("`{name}` has to be a mapping of {what}"))
    };
    let declared = faults.take(mapping("columns", "names to types"));
    for (name, kind) in declared.into_iter().flatten() {
        // A column of a wrong type is there all the same: its cells are not wrong for that.
        let kind = faults.take(column(name, kind.as_str().unwrap_or_default())).unwrap_or(Column::Text);
        table.columns.insert(name.clone(), kind);
    }
    for (key, row) in faults.take(mapping("rows", "keys to rows")).into_iter().flatten() {
        let shown = plain(key);
        let Some(row) = row.as_object() else {
            faults.tell(format!("the row `{shown}` has to be a mapping"));
            continue;
        };
        if declared.is_some() {
            for unknown in row.keys().filter(|name| !table.columns.contains_key(*name)) {
                let near = nearest(unknown, table.columns.keys().map(String::as_str));
                let near = near.map(|n| format!(", did you mean `{n}`?")).unwrap_or_default();
                faults.tell(format!("the row `{shown}` has `{}`, which is no column{near}", plain(unknown)));
            }
        }
        table.rows.insert(key.clone(), row.iter().map(|(name, value)| (name.clone(), value.clone())).collect());
    }
    faults.or(table)
}

fn column(name: &str, kind: &str) -> Result<Column, String> {
    serde_json::from_value(json!(kind)).map_err(|_| {
        format!(
            "column `{}` is of type `{}`; there are text, workspace, channel, usergroup, role and connection",
            plain(name),
            plain(kind)
        )
    })
}

fn of_csv(text: &str) -> Result<Table, Vec<String>> {
    let mut faults = Faults::default();
    let mut records = records(text.trim_start_matches('\u{feff}')).map_err(|why| vec![why])?.into_iter();
    let Some((_, heading)) = records.next() else { return Err(vec!["it is empty".to_owned()]) };
    let mut names = Vec::new();
    let mut table = Table::default();
    for cell in heading.iter().skip(1) {
        let (name, kind) = cell.rsplit_once(':').unwrap_or((cell, "text"));
        let kind = faults.take(column(name, kind)).unwrap_or(Column::Text);
        if table.columns.insert(name.to_owned(), kind).is_some() {
            faults.tell(format!("column `{}` stands there twice", plain(name)));
        }
        names.push(name.to_owned());
    }
    for (line, record) in records {
        if record.len() != heading.len() {
            faults.tell(format!("line {line} has {} fields, the first has {}", record.len(), heading.len()));
            continue;
        }
        let cells = record[1..].iter().map(|cell| Value::from(cell.as_str()));
        let row: BTreeMap<String, Value> = names.iter().cloned().zip(cells).collect();
        if table.rows.insert(record[0].clone(), row).is_some() {
            faults.tell(format!("line {line}: the key `{}` stands there twice", plain(&record[0])));
        }
    }
    faults.or(table)
}

/// RFC 4180: the records with the line on which each begins. Empty lines are none.
fn records(text: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
    let mut records = Vec::new();
    let (mut record, mut field, mut quoted, mut was_quoted) = (Vec::new(), String::new(), false, false);
    let (mut line, mut begun) = (1, 1);
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        if quoted {
            match c {
                '"' if characters.next_if_eq(&'"').is_some() => field.push('"'),
                '"' => quoted = false,
                _ => {
                    line += usize::from(c == '\n');
                    field.push(c);
                }
            }
            continue;
        }
        match c {
            '"' if field.is_empty() && !was_quoted => (quoted, was_quoted) = (true, true),
            ',' => {
                record.push(std::mem::take(&mut field));
                was_quoted = false;
            }
            '\r' if characters.peek() == Some(&'\n') => {}
            '\n' => {
                line += 1;
                if !record.is_empty() || !field.is_empty() || was_quoted {
                    record.push(std::mem::take(&mut field));
                    records.push((begun, std::mem::take(&mut record)));
                }
                (begun, was_quoted) = (line, false);
            }
            _ if was_quoted => return Err(format!("line {line}: there is text behind a closing quote")),
            _ => field.push(c),
        }
    }
    if quoted {
        return Err(format!("line {begun}: a quote is not closed"));
    }
    if !record.is_empty() || !field.is_empty() || was_quoted {
        record.push(field);
        records.push((begun, record));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_commas_is_the_same_as_one_of_yaml() {
        let csv = "department,group:usergroup,note\r\nit,S1,\"a, \"\"b\"\"\nc\"\r\n\r\nsales,S2,\r\n";
        let yaml = "columns: {group: usergroup, note: text}\nrows:\n  it: {group: S1, note: \"a, \\\"b\\\"\\nc\"}\n  sales: {group: S2, note: ''}\n";
        let (source, faults) = bellhop_core::definition::Source::read("t.yaml", yaml);
        assert!(faults.is_empty(), "{faults:?}");
        assert_eq!(of_csv(csv).unwrap(), of_document(&source.value).unwrap());
    }

    #[test]
    fn what_is_wrong_with_a_table_is_said() {
        for (csv, why) in [
            ("", "it is empty"),
            ("k,a:channels\n", "column `a` is of type `channels`; there are"),
            ("k,a,a\n", "column `a` stands there twice"),
            ("k,a\nx,1,2\n", "line 2 has 3 fields, the first has 2"),
            ("k,a\nx,1\nx,2\n", "line 3: the key `x` stands there twice"),
            ("k,a\n\"x,1\n", "line 2: a quote is not closed"),
            ("k,a\n\"x\"y,1\n", "line 2: there is text behind a closing quote"),
        ] {
            let faults = of_csv(csv).unwrap_err();
            assert!(faults.len() == 1 && faults[0].starts_with(why), "{csv:?}: {faults:?}");
        }
        for (document, why) in [
            (json!([]), "it has to be a mapping"),
            (
                json!({"column": {}, "columns": {}, "rows": {}}),
                "there is no `column` in a table, did you mean `columns`?",
            ),
            (json!({"columns": {"a": "text"}, "rows": {"x": {"b": 1}}}), "the row `x` has `b`, which is no column"),
            (json!({"columns": {"a": "text"}, "rows": {"x": 1}}), "the row `x` has to be a mapping"),
        ] {
            let faults = of_document(&document).unwrap_err();
            assert!(faults.len() == 1 && faults[0].starts_with(why), "{document}: {faults:?}");
        }
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let faults = of_csv("k,a:chanel,b\nx,1\ny,1,2\ny,1,2\n").unwrap_err();
        assert_eq!(faults.len(), 3, "{faults:?}");
        let document = json!({
            "column": {}, "columns": {"a": "chanel", "b": "text"}, "rows": {"x": {"c": 1, "d": 2}, "y": 1},
        });
        let faults = of_document(&document).unwrap_err();
        assert_eq!(faults.len(), 5, "{faults:?}");
        let many: String = (0..100).map(|n| format!("{n}\n")).collect();
        let faults = of_csv(&format!("k,a\n{many}")).unwrap_err();
        assert_eq!((faults.len(), faults.last().map(String::as_str)), (51, Some("and 50 more")));
    }
}
