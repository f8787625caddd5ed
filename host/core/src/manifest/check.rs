//! The one check of a manifest: building, inspecting and installing a plugin all ask here.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Manifest;
use super::action::{self, Declared};
use super::report::{At, Report, diagnostic, quoted, spelt};
use crate::definition::source::escape_pointer;
use crate::definition::{is_action_name, is_plugin_name, is_version};
use crate::diagnostic::{Diagnostic, code, nearest};
use crate::requirement::Rules;
use crate::text::deceives;

/// Most actions of one plugin.
pub const ACTIONS_MAX: usize = 500;
/// Longest name of a publisher, in characters.
const PUBLISHER_CHARS_MAX: usize = 100;

const KEYS: [&str; 4] = ["publisher", "name", "version", "actions"];

/// A manifest in which nothing is wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// It.
    pub manifest: Manifest,
    /// What its author and its operator should know of it. None of these refuses the plugin.
    pub warnings: Vec<Diagnostic>,
}

/// Checks what a plugin says of itself (`described`) against the functions that its binary imports (`imports`, as
/// `chat.post-message`) and the methods that this host knows.
///
/// # Errors
/// Every fault that was found, up to a hundred, each with the JSON pointer of its place in the manifest.
pub fn check(described: &Value, imports: &[String], rules: &Rules) -> Result<Checked, Vec<Diagnostic>> {
    let mut report = Report::default();
    characters(&At::root(described), &mut report);
    let declared = plugin(&At::root(described), imports, rules, &mut report);
    let faults = report.into_faults();
    if !faults.is_empty() {
        return Err(faults);
    }
    match serde_json::from_value::<Manifest>(described.clone()) {
        Ok(manifest) => Ok(Checked { warnings: undeclared(imports, &declared), manifest }),
        // Whatever the check does not know of.
        Err(error) => {
            let message = format!("the manifest cannot be read: {error}");
            Err(vec![diagnostic(Diagnostic::error(code::WRONG_TYPE, message), "", "write it as the SDK does")])
        }
    }
}

/// Imports that no action declares. The plugin is taken, since an import alone calls nothing: the host refuses the call.
fn undeclared(imports: &[String], declared: &BTreeSet<String>) -> Vec<Diagnostic> {
    let warn = |import: &String| {
        let message = format!("the plugin imports `{import}`, which no action declares");
        let fix = format!("declare it where it is called: maybe(\"{import}\") in `calls` of that action");
        diagnostic(Diagnostic::warning(code::IMPORT_UNDECLARED, message), "/actions", fix)
    };
    imports.iter().filter(|import| !declared.contains(*import)).map(warn).collect()
}

/// Checks everything; gives the functions that actions declare.
fn plugin(root: &At<'_>, imports: &[String], rules: &Rules, report: &mut Report) -> BTreeSet<String> {
    let mut declared = BTreeSet::new();
    if report.object(root).is_none() {
        return declared;
    }
    report.known_keys(root, &KEYS);
    for key in ["publisher", "name", "version"] {
        if let Some(at) = report.needed(root, key)
            && let Some(text) = report.text(&at, PUBLISHER_CHARS_MAX.max(128))
        {
            named(key, text, &at, report);
        }
    }
    let Some(at) = report.needed(root, "actions") else { return declared };
    let Some(items) = report.list(&at, ACTIONS_MAX) else { return declared };
    if items.is_empty() {
        report.fault(code::INVALID_VALUE, &at.pointer, "the plugin has no action", "give it one");
    }
    let mut actions: Vec<Declared<'_>> = Vec::new();
    for item in &items {
        report.about(Some(action::title(item)));
        let action = action::check(item, imports, rules, report);
        if let Some(name) = action.name
            && actions.iter().any(|other| other.name == Some(name))
        {
            report.duplicate(&format!("{}/name", item.pointer), "an action of that name", "give each its own name");
        }
        declared.extend(action.functions.iter().map(|function| (*function).to_owned()));
        actions.push(action);
    }
    inverses(&items, &actions, report);
    report.about(None);
    declared
}

fn named(key: &str, text: &str, at: &At<'_>, report: &mut Report) {
    let (fits, code, rule) = match key {
        "publisher" => {
            (is_action_name(text), code::INVALID_NAME, "lower-case words with `.` or `-` between, as in `acme`")
        }
        "name" => (is_plugin_name(text), code::INVALID_NAME, "lower-case words with `-` between, as in `acme-tools`"),
        _ => (is_version(text), code::INVALID_VERSION, "a semantic version: three numbers, as in `1.0.0`"),
    };
    if !fits {
        let what = match key {
            "publisher" => "a publisher's name",
            "name" => "a plugin's name",
            _ => "a semantic version",
        };
        let fix = match proposed(text).filter(|_| key != "version") {
            Some(word) => format!("write `{word}`"),
            None => format!("write {rule}"),
        };
        report.lacking(code, &at.pointer, format!("{} is not {what}", spelt(text)), rule, fix);
    }
}

/// A name that follows the rule and is near a text: `oops-tools` for `Oops Tools`.
pub(super) fn proposed(text: &str) -> Option<String> {
    let mut word = String::new();
    let mut before = ' ';
    for c in text.chars().take(63) {
        match c {
            'a'..='z' | '0'..='9' | '.' => word.push(c),
            'A'..='Z' => {
                if before.is_ascii_lowercase() {
                    word.push('-');
                }
                word.push(c.to_ascii_lowercase());
            }
            ' ' | '_' | '-' if !word.ends_with('-') => word.push('-'),
            // What was meant cannot be told.
            c if !c.is_ascii() => return None,
            _ => {}
        }
        before = c;
    }
    let word = word.trim_matches(['-', '.']).to_owned();
    is_plugin_name(&word).then_some(word)
}

/// What undoes an action is an action of the same plugin; it may be the action itself.
fn inverses(items: &[At<'_>], actions: &[Declared<'_>], report: &mut Report) {
    let names: Vec<&str> = actions.iter().filter_map(|action| action.name).collect();
    for (item, action) in items.iter().zip(actions) {
        let Some(inverse) = action.inverse else { continue };
        if names.contains(&inverse) || report.only_counts() {
            continue;
        }
        report.about(Some(action::title(item)));
        let message = format!("{}: its inverse {} is no action of the plugin", report.subject(), quoted(inverse));
        let fix = if inverse.contains('@') {
            "name an action of this plugin; another plugin's is named in the workflow, by `compensate`".to_owned()
        } else {
            match nearest(inverse, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "name an action of this plugin, or leave `inverse` out".to_owned(),
            }
        };
        report.fault(code::INVERSE_UNKNOWN, &format!("{}/inverse", item.pointer), message, fix);
    }
}

/// Refuses characters that steer a terminal or hide text, in every text and every key. Not recursive: a schema may be
/// deep.
fn characters(root: &At<'_>, report: &mut Report) {
    let mut open = vec![root.clone()];
    while let Some(at) = open.pop() {
        match at.value {
            Value::String(text) => one_text(text, &at, root, report),
            Value::Array(items) => open.extend(items.iter().enumerate().rev().map(|(i, value)| at.item(i, value))),
            Value::Object(fields) => {
                for (key, value) in fields.iter().rev() {
                    let pointer = format!("{}/{}", at.pointer, escape_pointer(key));
                    if let Some(c) = key.chars().find(|c| deceives(*c)) {
                        refused(c, "a key", &pointer, root, report);
                    }
                    open.push(At { value, pointer });
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    report.about(None);
}

fn one_text(text: &str, at: &At<'_>, root: &At<'_>, report: &mut Report) {
    // Descriptions have paragraphs, and what stands in a schema is a value or a pattern.
    let parts: Vec<&str> = at.pointer.split('/').collect();
    let several_lines =
        parts.last() == Some(&"description") || matches!(parts[..], ["", "actions", _, "input" | "output", ..]);
    let wrong = |c: &char| deceives(*c) && !(several_lines && matches!(c, '\n' | '\t'));
    if let Some(c) = text.chars().find(wrong) {
        refused(c, &format!("`{}`", at.title()), &at.pointer, root, report);
    }
}

fn refused(c: char, what: &str, pointer: &str, root: &At<'_>, report: &mut Report) {
    let action = pointer.strip_prefix("/actions/").and_then(|rest| rest.split('/').next()?.parse::<usize>().ok());
    let item = action.and_then(|index| Some((index, root.value.get("actions")?.get(index)?)));
    report.about(item.map(|(index, value)| action::title(&At { value, pointer: format!("/actions/{index}") })));
    let message = format!(
        "{}: {what} has the character U+{:04X}, which {}",
        report.subject(),
        u32::from(c),
        if c.is_control() { "steers terminals" } else { "hides or turns text" },
    );
    report.fault(code::CHARACTER_INVALID, pointer, message, "write it without that character");
}
