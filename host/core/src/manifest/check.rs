//! The one check of a manifest: building, inspecting and installing a plugin all ask here.

use serde_json::Value;

use super::Manifest;
use super::action::{self, Declared};
use super::near::{Fits, proposed};
use super::report::{At, Report, diagnostic, quoted, spelt};
use crate::definition::{is_action_name, is_plugin_name, is_version};
use crate::diagnostic::{Diagnostic, code, nearest};
use crate::pointer;
use crate::requirement::Rules;
use crate::text::deceives;

/// Most actions of one plugin.
pub const ACTIONS_MAX: usize = 500;
/// Longest name of a publisher, and longest text that is looked at as a name or version, in characters.
const PUBLISHER_CHARS_MAX: usize = 100;
const TEXT_CHARS_MAX: usize = 128;

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
    plugin(&At::root(described), imports, rules, &mut report);
    let faults = report.into_faults();
    if !faults.is_empty() {
        return Err(faults);
    }
    match serde_json::from_value::<Manifest>(described.clone()) {
        Ok(manifest) => {
            let warnings = manifest.undeclared(imports).into_iter().map(undeclared).collect();
            Ok(Checked { manifest, warnings })
        }
        // Whatever the check does not know of.
        Err(_) => {
            let message = "a field of the manifest is not of the type that it has to be";
            Err(vec![diagnostic(Diagnostic::error(code::WRONG_TYPE, message), "", "write it as the SDK does")])
        }
    }
}

/// An import that no action declares. The plugin is taken, because an import alone calls nothing.
fn undeclared(import: &str) -> Diagnostic {
    let message = format!("the plugin imports `{import}`, which no action declares");
    let fix = format!("declare it where it is called: maybe(\"{import}\") in `calls` of that action");
    diagnostic(Diagnostic::warning(code::IMPORT_UNDECLARED, message), "/actions", fix)
}

/// Checks everything but characters.
fn plugin(root: &At<'_>, imports: &[String], rules: &Rules, report: &mut Report) {
    if report.object(root).is_none() {
        return;
    }
    report.known_keys(root, &KEYS);
    for key in ["publisher", "name", "version"] {
        if let Some(at) = report.needed(root, key)
            && let Some(text) = report.text(&at, if key == "publisher" { PUBLISHER_CHARS_MAX } else { TEXT_CHARS_MAX })
        {
            named(key, text, &at, report);
        }
    }
    let Some(at) = report.needed(root, "actions") else { return };
    let Some(items) = report.list(&at, ACTIONS_MAX) else { return };
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
        actions.push(action);
    }
    inverses(&items, &actions, report);
    report.about(None);
}

fn named(key: &str, text: &str, at: &At<'_>, report: &mut Report) {
    let (fits, what, rule): (Fits, _, _) = match key {
        "publisher" => (is_action_name, "a publisher's name", "lower-case words with `.` or `-` between, as in `acme`"),
        "name" => (is_plugin_name, "a plugin's name", "lower-case words with `-` between, as in `acme-tools`"),
        _ => (is_version, "a semantic version", "a semantic version: three numbers, as in `1.0.0`"),
    };
    if !fits(text) {
        let is_version = key == "version";
        let code = if is_version { code::INVALID_VERSION } else { code::INVALID_NAME };
        let fix = match proposed(text, fits).filter(|_| !is_version) {
            Some(word) => format!("write `{word}`"),
            None => format!("write {rule}"),
        };
        report.lacking(code, &at.pointer, format!("{} is not {what}", spelt(text)), rule, fix);
    }
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
                    let pointer = pointer::child(&at.pointer, key);
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
