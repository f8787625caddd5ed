//! What this program is, and which forms it reads and writes.

use bellhop_journal::sled::FORMAT;
use serde_json::{Value, json};

/// The version of the language of definitions.
const DEFINITIONS: &str = "1.0.3";
/// The package that guests export.
const ACTIONS: &str = "bellhop:action@1.0.0";

/// Name and value of each, for programs.
pub(crate) fn all() -> Vec<(&'static str, Value)> {
    vec![
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("commit", json!(env!("BELLHOP_COMMIT"))),
        ("store_format", json!(FORMAT)),
        ("definitions", json!(DEFINITIONS)),
        ("wit", json!([ACTIONS, super::CAPABILITIES])),
        ("wasmtime", json!(env!("BELLHOP_WASMTIME"))),
    ]
}

/// The same in a line, for people.
pub(crate) fn line() -> String {
    format!(
        "bellhop {} ({}), store format {FORMAT}, definitions {DEFINITIONS}, wasmtime {}",
        env!("CARGO_PKG_VERSION"),
        env!("BELLHOP_COMMIT"),
        env!("BELLHOP_WASMTIME")
    )
}

/// The same in lines, for people: what `--version` says, and the rest below.
pub(crate) fn lines() -> String {
    let shown = |value: Value| match value {
        Value::String(text) => text,
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    };
    let mut text = format!("bellhop {}\n", env!("CARGO_PKG_VERSION"));
    for (name, value) in all().into_iter().skip(1) {
        text.push_str(&format!("{}: {}\n", name.replace('_', " "), shown(value)));
    }
    text
}
