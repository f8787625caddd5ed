//! `table(NAME; KEY)`: a row of the operator's data.

use jaq_core::native::{Fun, bome, run, v};
use jaq_json::{Error, Val, ValR};

use crate::library::Data;

/// How many known names an error about an unknown one lists.
const NEAREST_MAX: usize = 3;

/// `table_row($name; $key)` on the value of `$__tables`.
pub(crate) fn native() -> Fun<Data> {
    run(("table_row", v(2), |mut cv| {
        let key = cv.0.pop_var();
        let name = cv.0.pop_var();
        bome(row(&cv.1, &name, &key))
    }))
}

fn row(tables: &Val, name: &Val, key: &Val) -> ValR {
    let name = text(name).ok_or_else(|| Error::str("table-unknown: the name of a table is a text"))?;
    let table = field(tables, &name).ok_or_else(|| unknown("table-unknown", "table", &name, tables))?;
    let key = text(key)
        .ok_or_else(|| Error::str(format!("table-key-unknown: the key of a row of the table `{name}` is a text")))?;
    let rows = field(table, "rows").unwrap_or(&Val::Null);
    field(rows, &key)
        .cloned()
        .ok_or_else(|| unknown("table-key-unknown", &format!("row of the table `{name}` for the key"), &key, rows))
}

fn unknown(code: &str, what: &str, wanted: &str, among: &Val) -> Error {
    let wanted_short: String = wanted.chars().take(64).collect();
    let nearest = nearest(&wanted_short, among);
    let there_are = if nearest.is_empty() {
        "there is none at all".to_owned()
    } else {
        let quoted: Vec<String> = nearest.iter().map(|n| format!("`{n}`")).collect();
        format!("the nearest are {}", quoted.join(", "))
    };
    Error::str(format!("{code}: there is no {what} `{wanted_short}`; {there_are}"))
}

fn nearest(wanted: &str, among: &Val) -> Vec<String> {
    let Val::Obj(entries) = among else { return Vec::new() };
    let wanted = wanted.to_lowercase();
    let mut names: Vec<(usize, String)> = entries
        .keys()
        .filter_map(text)
        .map(|name| (strsim::damerau_levenshtein(&wanted, &name.to_lowercase()), name))
        .collect();
    names.sort();
    names.into_iter().take(NEAREST_MAX).map(|(_, name)| name).collect()
}

fn field<'v>(value: &'v Val, name: &str) -> Option<&'v Val> {
    match value {
        Val::Obj(entries) => entries.get(&Val::from(name.to_owned())),
        _ => None,
    }
}

fn text(value: &Val) -> Option<String> {
    match value {
        Val::TStr(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    }
}
