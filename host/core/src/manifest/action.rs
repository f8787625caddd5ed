//! One action of a manifest.

use std::collections::BTreeSet;

use serde_json::Value;

use super::field;
use super::near::proposed;
use super::report::{At, Report, quoted, spelt};
use crate::definition::{PURPOSES, is_action_name, is_plugin_name};
use crate::diagnostic::{code, nearest};
use crate::fault::is_reserved;
use crate::requirement::{Kind, Rules};
use crate::schema::{Refused, TooMany};

/// Longest title, in characters.
const TITLE_CHARS_MAX: usize = 200;
/// Longest description, of an action and of an error code, in characters.
const DESCRIPTION_CHARS_MAX: usize = 4_000;
/// Most error codes of one action.
const ERRORS_MAX: usize = 100;
/// Most locks of one action, and most fields of one lock.
const EXCLUSIVE_MAX: usize = 16;
/// Most calls of one alternative; no provider has as many methods.
const CALLS_MAX: usize = 500;
/// Most alternatives of one action, and most kinds of one alternative: each kind of connection stands in one of them.
const KINDS_MAX: usize = Kind::ALL.len();

const KEYS: [&str; 12] = [
    "name",
    "title",
    "description",
    "input",
    "output",
    "effect",
    "purposes",
    "inverse",
    "exclusive",
    "licence",
    "errors",
    "calls",
];
/// The effect of what changes nothing.
const READ: &str = "read";
const EFFECTS: [&str; 5] = [READ, "create", "update", "delete", "notify"];
const LICENCES: [&str; 2] = ["adds", "reclaims"];

/// What of an action the rest of the manifest is compared with.
pub(super) struct Declared<'m> {
    pub(super) name: Option<&'m str>,
    pub(super) inverse: Option<&'m str>,
}

/// How people are told of an action: by its name, else by its place.
pub(super) fn title(at: &At<'_>) -> String {
    match at.value.get("name").and_then(Value::as_str).filter(|name| !name.trim().is_empty()) {
        Some(name) => quoted(name),
        None => format!("the action at {}", at.pointer),
    }
}

/// Checks everything about an action but what other actions have to do with it.
pub(super) fn check<'m>(at: &At<'m>, imports: &[String], rules: &Rules, report: &mut Report) -> Declared<'m> {
    let mut declared = Declared { name: None, inverse: None };
    if report.object(at).is_none() {
        return declared;
    }
    report.known_keys(at, &KEYS);
    declared.name = name(at, report);
    if let Some(at) = report.needed(at, "title") {
        report.words(&at, TITLE_CHARS_MAX);
    }
    if let Some(at) = report.needed(at, "description") {
        report.text(&at, DESCRIPTION_CHARS_MAX);
    }
    for key in ["input", "output"] {
        if let Some(at) = report.needed(at, key) {
            schema(&at, report);
        }
    }
    if let Some(at) = report.needed(at, "effect") {
        report.word(&at, &EFFECTS);
    }
    if let Some(at) = at.get("licence") {
        report.word(&at, &LICENCES);
    }
    if let Some(at) = at.get("purposes") {
        purposes(&at, report);
    }
    declared.inverse = at.get("inverse").and_then(|at| report.text(&at, 255));
    if let Some(list) = at.get("exclusive") {
        exclusive(&list, at.value.get("input"), report);
    }
    if let Some(at) = at.get("errors") {
        errors(&at, report);
    }
    calls(at, imports, rules, report);
    declared
}

fn name<'m>(at: &At<'m>, report: &mut Report) -> Option<&'m str> {
    let at = report.needed(at, "name")?;
    let name = report.text(&at, 255)?;
    if !is_action_name(name) {
        let rule = "lower-case words with `.` or `-` between, as in `topic.set`";
        let fix = match proposed(name, is_action_name) {
            Some(word) => format!("write `{word}`"),
            None => format!("write {rule}"),
        };
        report.lacking(
            code::INVALID_NAME,
            &at.pointer,
            format!("{} is not a name of an action", spelt(name)),
            rule,
            fix,
        );
    }
    Some(name)
}

fn schema(at: &At<'_>, report: &mut Report) {
    match report.schemas.compile(at.value) {
        Ok(_) | Err(Refused::PassedOver) => {}
        Err(Refused::TooMany(too_many)) => {
            let message = format!("the {} schema of {}: {too_many}", at.title(), report.subject());
            report.fault(code::SCHEMA_TOO_COSTLY, &at.pointer, message, TooMany::FIX);
        }
        Err(Refused::Faulty(faults)) => {
            for fault in faults {
                let is = if fault.too_costly { "takes too long to compare with" } else { "is invalid" };
                let message = format!("the {} schema of {} {is}: {}", at.title(), report.subject(), fault.message);
                report.fault(fault.code(), &format!("{}{}", at.pointer, fault.pointer), message, fault.fix);
            }
        }
    }
}

fn purposes(at: &At<'_>, report: &mut Report) {
    let mut seen = BTreeSet::new();
    for item in report.list(at, PURPOSES.len()).into_iter().flatten() {
        if let Some(purpose) = report.word(&item, &PURPOSES)
            && !seen.insert(purpose)
        {
            report.duplicate(&item.pointer, &format!("the purpose `{purpose}`"), "name it once");
        }
    }
}

fn exclusive(at: &At<'_>, input: Option<&Value>, report: &mut Report) {
    for item in report.list(at, EXCLUSIVE_MAX).into_iter().flatten() {
        if report.object(&item).is_none() {
            continue;
        }
        report.known_keys(&item, &["name", "fields"]);
        if let Some(at) = report.needed(&item, "name")
            && let Some(name) = report.words(&at, 127)
            && !is_action_name(name)
        {
            let rule = "lower-case words with `.` or `-` between, as in `usergroup`";
            let message = format!("{}: {} is not a name of a lock", report.subject(), spelt(name));
            report.lacking(code::INVALID_NAME, &at.pointer, message, rule, format!("write {rule}"));
        }
        let Some(fields) = report.needed(&item, "fields") else { continue };
        for at in report.list(&fields, EXCLUSIVE_MAX).into_iter().flatten() {
            if let (Some(pointer), Some(input)) = (report.text(&at, 255), input) {
                locked(&at, pointer, input, report);
            }
        }
    }
}

/// Every part of a lock's key is a field of the input.
fn locked(at: &At<'_>, pointer: &str, input: &Value, report: &mut Report) {
    if field::leads(input, pointer) || report.only_counts() {
        return;
    }
    let message = format!("{}: {} of `exclusive` leads to no field of its input", report.subject(), quoted(pointer));
    let names = field::names(input);
    let fix = match nearest(pointer.trim_start_matches('/'), names.iter().copied()) {
        Some(near) => format!("did you mean `/{near}`?"),
        None => "write a JSON pointer to a field that the input schema names, as in `/channel`".to_owned(),
    };
    report.fault(code::FIELD_UNKNOWN, &at.pointer, message, fix);
}

fn errors(at: &At<'_>, report: &mut Report) {
    let mut seen = BTreeSet::new();
    for item in report.list(at, ERRORS_MAX).into_iter().flatten() {
        if report.object(&item).is_none() {
            continue;
        }
        report.known_keys(&item, &["code", "status", "description"]);
        if let Some(at) = report.needed(&item, "code")
            && let Some(text) = report.text(&at, 127)
        {
            if !seen.insert(text) {
                report.duplicate(&at.pointer, &format!("the error code {}", quoted(text)), "declare it once");
            }
            error_code(&at, text, report);
        }
        if let Some(at) = report.needed(&item, "status")
            && !at.value.as_u64().is_some_and(|status| (400..600).contains(&status))
        {
            let message = format!("{}: the status of an error must be a number from 400 to 599", report.subject());
            report.lacking(
                code::INVALID_VALUE,
                &at.pointer,
                message,
                "a number from 400 to 599",
                "write one, as in 404",
            );
        }
        if let Some(at) = report.needed(&item, "description") {
            report.text(&at, DESCRIPTION_CHARS_MAX);
        }
    }
}

fn error_code(at: &At<'_>, text: &str, report: &mut Report) {
    if !is_plugin_name(text) {
        let rule = "lower-case words with `-` between, as in `not-found`";
        let message = format!("{}: {} is not an error code", report.subject(), spelt(text));
        let fix = match proposed(text, is_plugin_name) {
            Some(word) => format!("write `{word}`"),
            None => format!("write {rule}"),
        };
        report.lacking(code::INVALID_NAME, &at.pointer, message, rule, fix);
    } else if is_reserved(text) {
        let message = format!("{}: the error code `{text}` is one that only the host says", report.subject());
        report.fault(code::CODE_RESERVED, &at.pointer, message, "choose a code of the plugin's own");
    }
}

fn calls(action: &At<'_>, imports: &[String], rules: &Rules, report: &mut Report) {
    let Some(at) = action.get("calls") else {
        if action.value.is_object() {
            let message = format!("{} does not say what it calls: it has no `calls`", report.subject());
            let fix = "add calls(on(…), always(…), maybe(…)); for an action that calls nothing an empty list, calls()";
            report.fault(code::MISSING_KEY, &action.pointer, message, fix);
        }
        return;
    };
    let mut kinds = BTreeSet::new();
    for item in report.list(&at, KINDS_MAX).into_iter().flatten() {
        if report.object(&item).is_none() {
            continue;
        }
        report.known_keys(&item, &["on", "methods"]);
        if let Some(on) = report.needed(&item, "on") {
            kinds_of(&on, &mut kinds, report);
        }
        let Some(methods) = report.needed(&item, "methods") else { continue };
        let mut seen = BTreeSet::new();
        for method in report.list(&methods, CALLS_MAX).into_iter().flatten() {
            if report.object(&method).is_none() {
                continue;
            }
            report.known_keys(&method, &["function", "when"]);
            if let Some(at) = report.needed(&method, "when") {
                report.word(&at, &["always", "maybe"]);
            }
            let Some(at) = report.needed(&method, "function") else { continue };
            let Some(function) = report.text(&at, 255) else { continue };
            if !seen.insert(function) {
                report.duplicate(&at.pointer, &quoted(function), "say of each call once when it is made");
            }
            called(&at, function, imports, rules, report);
            let writes = rules.by_function(function).is_some_and(|method| method.writes);
            if writes && action.value.get("effect").and_then(Value::as_str) == Some(READ) {
                understated(&at, function, report);
            }
        }
    }
}

fn kinds_of<'m>(on: &At<'m>, kinds: &mut BTreeSet<&'m str>, report: &mut Report) {
    let known = Kind::ALL.map(Kind::as_str);
    let Some(items) = report.list(on, KINDS_MAX) else { return };
    if items.is_empty() {
        let message = format!("{}: `on` names no kind of connection", report.subject());
        report.fault(code::INVALID_VALUE, &on.pointer, message, format!("name one or more of {}", known.join(", ")));
    }
    for item in items {
        if let Some(kind) = report.word(&item, &known)
            && !kinds.insert(kind)
        {
            let what = format!("the kind `{kind}`");
            report.duplicate(&item.pointer, &what, "have one alternative for each kind of connection");
        }
    }
}

/// What an action does at most is what preflight, an operator and a connection that may only read are told of it.
fn understated(at: &At<'_>, function: &str, report: &mut Report) {
    let message =
        format!("{} says that it only reads, and declares `{function}`, which changes something", report.subject());
    let fix =
        "say what it does at most, by `effect`: create, update, delete or notify; or take the call out of `calls`";
    report.fault(code::EFFECT_UNDERSTATED, &at.pointer, message, fix);
}

/// A call is one that the host has, and that the binary can make.
fn called(at: &At<'_>, function: &str, imports: &[String], rules: &Rules, report: &mut Report) {
    if rules.by_function(function).is_some() {
        if !imports.iter().any(|import| import == function) {
            let message = format!("{} declares `{function}`, which the binary does not import", report.subject());
            let fix = "take it out of `calls`: only what the program calls is imported";
            report.fault(code::IMPORT_MISSING, &at.pointer, message, fix);
        }
        return;
    }
    if report.only_counts() {
        return;
    }
    let message = format!("{} declares {}, which is no method of this host", report.subject(), quoted(function));
    let fix = match rules.meant(function) {
        Some(method) => format!("did you mean `{}`?", method.function),
        None => {
            "write a method as guests import it, as in `chat.post-message`; a newer one needs a newer host".to_owned()
        }
    };
    report.fault(code::METHOD_UNKNOWN, &at.pointer, message, fix);
}
