//! The operator's tables: typed columns, rows by key.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use axum::http::header::IF_NONE_MATCH;
use axum::response::Response;
use serde_json::{Map, Value, json};

use bellhop_core::definition::is_plugin_name;
use bellhop_core::diagnostic::{Diagnostic, code};
use bellhop_core::pointer;
use bellhop_core::preflight::{Column, Table};

use super::form::{Form, fault, kind_of, unknown_name};
use super::problem::{self, Problem};
use super::request::{JSON, Request};
use super::{answer, form, pages, work};
use bellhop_engine::setup::definitions::PutTableError;
use bellhop_journal::damaged_is_none;

const COLUMNS_MAX: usize = 64;
const COLUMN_TYPES: [(&str, Column); 6] = [
    ("text", Column::Text),
    ("workspace", Column::Workspace),
    ("channel", Column::Channel),
    ("usergroup", Column::Usergroup),
    ("role", Column::Role),
    ("connection", Column::Connection),
];

/// `PUT /v1/tables/{name}`: `{"columns": {NAME: TYPE}, "rows": {KEY: {COLUMN: VALUE}}}`, the table's next version. Names
/// of which the connections know one id are kept as that id; `names` of the answer are those that stayed.
pub(super) async fn put(mut request: Request) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    let name = request.part("name").to_owned();
    if !is_plugin_name(&name) {
        return Err(Problem::new(
            problem::REQUEST_INVALID,
            "a table's name is lower-case letters and digits with `-` between, at most 63",
        ));
    }
    request.must_be(&JSON)?;
    // What is damaged is put anew.
    let current = request.app.engine.services.definitions.table(&name).await;
    let current = damaged_is_none(current)?.map(|(current, _)| current);
    let expect = request.expects(current.as_ref().map(|current| current.digest))?;
    let expect = expect.ok_or_else(|| not_put(PutTableError::Precondition { current }))?;
    let bytes_max = request.app.engine.services.limits.table_bytes_max;
    let bytes = request.bytes(bytes_max).await?;
    let table = table(form::parse(&bytes)?)?;
    let app = request.app.clone();
    let shown = name.clone();
    let (kept, resolved) = work::to_the_end(async move {
        let mut table = table;
        let resolved = app.engine.resolve_table(&mut table).await;
        let put = app.engine.services.definitions.put_table(&name, &table, &expect).await;
        Ok((put.map_err(not_put)?, resolved))
    })
    .await?;
    let mut body = json!({ "name": shown, "version": kept.version, "digest": kept.digest });
    if resolved.ids > 0 {
        body["resolved"] = json!(resolved.ids);
    }
    if !resolved.names.is_empty() {
        // Looked up when an action is called with them.
        body["names"] = json!(resolved.names);
    }
    Ok(answer::with_etag(answer::json(StatusCode::OK, &body)?, kept.digest))
}

fn not_put(error: PutTableError) -> Problem {
    match error {
        PutTableError::Precondition { current } => {
            let current = current.map(|c| json!({ "version": c.version, "digest": c.digest }));
            Problem::new(
                problem::PRECONDITION_FAILED,
                "nothing was kept: the latest version is not the one that is expected",
            )
            .with("current", current.unwrap_or(Value::Null))
        }
        PutTableError::Journal(error) => error.into(),
    }
}

/// The table of a body, or everything that is wrong with it.
fn table(body: Value) -> Result<Table, Problem> {
    let mut form = Form::of(body, &["columns", "rows"])?;
    let mut table = Table::default();
    let declared = match form.needed("columns", "an object of types by column") {
        Some(Value::Object(fields)) => fields,
        Some(other) => {
            form.fault(fault(code::WRONG_TYPE, "/columns", format!("`columns` is {}, not an object", kind_of(&other))));
            Map::new()
        }
        None => Map::new(),
    };
    if declared.len() > COLUMNS_MAX {
        form.refuse("columns", format!("a table has at most {COLUMNS_MAX} columns"));
    }
    let words = COLUMN_TYPES.map(|(word, _)| word);
    for (column, kind) in &declared {
        let pointer = pointer::child("/columns", column);
        let found = kind.as_str().and_then(|text| COLUMN_TYPES.iter().find(|(word, _)| *word == text));
        match (found, kind.as_str()) {
            (Some((_, kind)), _) => {
                table.columns.insert(column.clone(), *kind);
            }
            (None, Some(text)) => form.fault(unknown_name(&pointer, "column type", text, &words)),
            (None, None) => {
                form.fault(fault(
                    code::WRONG_TYPE,
                    &pointer,
                    format!("a column's type is a text, not {}", kind_of(kind)),
                ));
            }
        }
    }
    let names: Vec<&str> = declared.keys().map(String::as_str).collect();
    for (key, row) in form.object("rows") {
        let pointer = pointer::child("/rows", &key);
        let Value::Object(fields) = row else {
            form.fault(fault(code::WRONG_TYPE, &pointer, format!("a row is an object, not {}", kind_of(&row))));
            continue;
        };
        let mut cells = BTreeMap::new();
        for (column, value) in fields {
            let pointer = pointer::child(&pointer, &column);
            if !declared.contains_key(&column) {
                form.fault(unknown_name(&pointer, "column", &column, &names));
            } else if let Some(fault) = table.columns.get(&column).and_then(|kind| wrong_cell(*kind, &value, &pointer))
            {
                form.fault(fault);
            } else {
                cells.insert(column, value);
            }
        }
        table.rows.insert(key, cells);
    }
    form.finish()?;
    Ok(table)
}

/// A cell is a text, or a list of texts where a row may have several.
fn wrong_cell(kind: Column, value: &Value, pointer: &str) -> Option<Diagnostic> {
    let several = kind != Column::Connection;
    let fits = match value {
        Value::String(text) => !text.is_empty() || kind == Column::Text,
        Value::Array(items) => several && items.iter().all(Value::is_string),
        _ => false,
    };
    let wanted = if several { "a text, or a list of texts" } else { "the name of a connection or an alias" };
    (!fits).then(|| fault(code::WRONG_TYPE, pointer, format!("the cell is {}, not {wanted}", kind_of(value))))
}

/// `GET /v1/tables/{name}`.
pub(super) async fn show(request: Request) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    let name = request.part("name");
    let shown: String = name.chars().take(64).collect();
    let definitions = &request.app.engine.services.definitions;
    let Some((current, table)) = definitions.table(name).await? else {
        let all = definitions.tables().await?;
        return Err(Problem::new(problem::TABLE_UNKNOWN, format!("there is no table `{shown}`"))
            .with_nearest(name, all.iter().map(|(name, _)| name.as_str())));
    };
    let seen = request.header(&IF_NONE_MATCH)?;
    if seen.is_some_and(|tags| answer::names(tags, current.digest)) {
        return Ok(answer::with_etag(answer::empty(StatusCode::NOT_MODIFIED), current.digest));
    }
    let body = json!({
        "name": name,
        "version": current.version,
        "digest": current.digest,
        "columns": table.columns,
        "rows": table.rows,
    });
    Ok(answer::with_etag(answer::json(StatusCode::OK, &body)?, current.digest))
}

/// `GET /v1/tables`.
pub(super) async fn list(request: Request) -> Result<Response, Problem> {
    let mut params = request.params(&pages::PARAMS)?;
    let services = &request.app.engine.services;
    let wanted = pages::wanted(&mut params, &services.limits);
    params.finish()?;
    let page = pages::of_all(
        services.definitions.tables().await?,
        &wanted,
        |(name, _)| name.clone(),
        |(name, current)| json!({ "name": name, "version": current.version, "digest": current.digest }),
    );
    answer::json(StatusCode::OK, &page)
}
