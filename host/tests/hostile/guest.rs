//! Plugins written by hand, from a step of a case.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::case::Step;
use crate::expand;
use bellhop_tests::guest::Plugin;

/// The one action of such a plugin.
pub(crate) const ACTION: &str = "it.does";

/// Where texts begin in the guest's memory, and where they have to end: behind is its heap.
const TEXTS: std::ops::Range<usize> = 8_192..65_536;

/// An answer that a host takes.
const FINE: &str = r#"{"output":{},"changed":false}"#;
/// Wants to be called again, with a state that never changes.
const AGAIN: &str = r#"{"again":1}"#;

/// Where it is installed, with all that it declares granted unless the step says otherwise.
pub(crate) fn install(step: &Step) -> String {
    let Step::Plugin { calls, grants, .. } = step else { return "/v1/plugins".to_owned() };
    if let Some(grants) = grants {
        return granting(grants.iter().cloned());
    }
    granting(calls.iter().map(|call| {
        let mut words = call.split('-');
        let first = words.next().unwrap_or_default().to_owned();
        words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..])
    }))
}

/// The address at which a plugin is installed with these methods granted.
pub(crate) fn granting(methods: impl Iterator<Item = String>) -> String {
    let grants: Vec<String> = methods.map(|method| format!("grant={method}")).collect();
    if grants.is_empty() { "/v1/plugins".to_owned() } else { format!("/v1/plugins?{}", grants.join("&")) }
}

/// The component.
///
/// # Errors
/// The text is none.
pub(crate) fn build(step: &Step) -> Result<Vec<u8>, String> {
    let Step::Plugin { name, run, items, texts, calls, manifest, pages, .. } = step else {
        return Err("no plugin".to_owned());
    };
    let mut all: BTreeMap<&str, String> = BTreeMap::from([("fine", FINE.to_owned()), ("again", AGAIN.to_owned())]);
    all.extend(texts.iter().map(|(name, text)| (name.as_str(), expand::text(text))));
    let mut written = String::new();
    let mut at = TEXTS.start;
    for (name, text) in &all {
        let _written = write!(
            written,
            "(data (i32.const {at}) \"{}\")\n\
             (func $text.{name} (result i32 i32) (i32.const {at}) (i32.const {length}))\n\
             (func $say.{name} (result i32) (call $result (i32.const 0) (call $text.{name})))\n\
             (func $refuse.{name} (result i32) (call $result (i32.const 1) (call $text.{name})))\n",
            escaped(text),
            length = text.len(),
        );
        at += text.len().next_multiple_of(8);
    }
    if at > TEXTS.end {
        return Err(format!("the texts of the plugin {name} have {at} bytes"));
    }
    written.push_str(items);
    let description = in_ascii(&described(name, calls, manifest).to_string());
    let imports: Vec<&str> = calls.iter().map(String::as_str).collect();
    let run = run.as_deref().unwrap_or("(call $say.fine)").to_owned();
    let pages = *pages;
    // The manifest stands before the texts.
    if description.len() > TEXTS.start - 1_024 {
        return Err(format!("the manifest of the plugin {name} has {} bytes", description.len()));
    }
    std::panic::catch_unwind(|| {
        Plugin { imports: &imports, run: &run, description: &description, items: &written, pages, ..Plugin::default() }
            .build()
    })
    .map_err(|_| format!("the plugin {name} is no WebAssembly text"))
}

/// JSON without a character that a reader of WebAssembly text takes offence at.
fn in_ascii(json: &str) -> String {
    json.chars().fold(String::new(), |mut out, c| {
        if c.is_ascii() {
            out.push(c);
        } else {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| {
                let _written = write!(out, "\\u{unit:04x}");
            });
        }
        out
    })
}

fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b" {}[]:,.-_/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _written = write!(out, "\\{byte:02x}");
        }
        out
    })
}

fn described(name: &str, calls: &[String], replaced: &BTreeMap<String, Value>) -> Value {
    let methods: Vec<Value> = calls.iter().map(|f| json!({ "function": f, "when": "maybe" })).collect();
    let mut manifest = json!({
        "publisher": "nobody", "name": name, "version": "1.0.0",
        "actions": [{
            "name": ACTION, "title": "It does", "description": "What it does.", "effect": "notify",
            "input": { "type": "object" }, "output": { "type": "object" },
            "calls": [{ "on": ["workspace"], "methods": methods }],
        }],
    });
    for (pointer, value) in replaced {
        let value = expand::value(value);
        if let Some(place) = manifest.pointer_mut(pointer) {
            *place = value;
        } else if let Some((parent, key)) = pointer.rsplit_once('/')
            && let Some(Value::Object(fields)) = manifest.pointer_mut(parent)
        {
            fields.insert(key.to_owned(), value);
        }
    }
    manifest
}
