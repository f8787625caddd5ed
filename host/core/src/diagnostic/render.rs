//! The text form of a diagnostic.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar as _;

use super::{Diagnostic, Has, Needs, Place, Remedy, Severity};
use crate::requirement::{Kind, Plan};
use crate::text::deceives;

/// A tab is shown as so many spaces, so that the marks stay under the text on every terminal.
const TAB: &str = "    ";

/// The text that people read in a terminal or a log, ending with a line end. Control characters and characters that
/// change the direction of text are shown as `\u{…}`, so that a name in a file can forge neither lines nor colours.
#[must_use]
pub fn render(diagnostic: &Diagnostic) -> String {
    let severity = match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let mut text = format!("{severity}[{}]: {}\n", diagnostic.code, visible(&diagnostic.message));
    let number = diagnostic.place.as_ref().map(|p| p.line.to_string()).unwrap_or_default();
    let margin = " ".repeat(number.len().max(if diagnostic.place.is_some() { 1 } else { 2 }));
    let task = diagnostic.task.as_deref().map(visible);
    if let Some(place) = &diagnostic.place {
        let task = task.map(|t| format!(" (task {t})")).unwrap_or_default();
        line(&mut text, &format!("{margin}--> {}:{}:{}{task}", visible(&place.file), place.line, place.column));
        let label = diagnostic.label.as_deref().map(visible).unwrap_or_default();
        if place.text.is_empty() {
            if !label.is_empty() {
                line(&mut text, &format!("{margin} = note:  {label}"));
            }
        } else {
            let (shown, offset, width) = marked(place);
            line(&mut text, &format!("{margin} |"));
            line(&mut text, &format!("{number} | {shown}"));
            line(&mut text, &format!("{margin} | {}{} {label}", " ".repeat(offset), "^".repeat(width)));
            line(&mut text, &format!("{margin} |"));
        }
    } else if let Some(task) = task {
        line(&mut text, &format!("{margin}--> task {task}"));
    }
    let mut note =
        |name: &str, value: &str| line(&mut text, &format!("{margin} = {:<7}{}", format!("{name}:"), visible(value)));
    if let Some(needs) = diagnostic.needs.as_ref().map(needs_text).filter(|t| !t.is_empty()) {
        note("needs", &needs);
    }
    if let Some(has) = diagnostic.has.as_ref().map(has_text).filter(|t| !t.is_empty()) {
        note("has", &has);
    }
    for (i, remedy) in diagnostic.remedies.iter().enumerate() {
        note(if i == 0 { "fix" } else { "or" }, &remedy_text(remedy));
    }
    if let Some(who) = &diagnostic.who {
        note("who", who);
    }
    note("more", &format!("bellhop explain {}", diagnostic.code));
    text
}

fn line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

fn remedy_text(remedy: &Remedy) -> String {
    match (&remedy.command, &remedy.http) {
        (Some(command), _) => format!("{}: {command}", remedy.title),
        (None, Some(http)) => format!("{}: {} {}", remedy.title, http.method, http.path),
        (None, None) => remedy.title.clone(),
    }
}

fn needs_text(needs: &Needs) -> String {
    let mut parts = Vec::new();
    let title = needs.title.as_deref().or_else(|| needs.kinds.first().map(|k| k.title()));
    if let (Some(title), false) = (title, needs.kinds.is_empty()) {
        let others: Vec<String> = needs.kinds.iter().skip(1).map(|&kind| also(kind)).collect();
        let others = if others.is_empty() { String::new() } else { format!(" (or {})", others.join(", or ")) };
        parts.push(format!("a connection of kind \"{title}\"{others}"));
    } else if let (Some(title), true) = (title, needs.plans.is_empty()) {
        parts.push(title.to_owned());
    }
    if !needs.plans.is_empty() {
        let plans: Vec<&str> = needs.plans.iter().map(|p: &Plan| p.title()).collect();
        parts.push(format!("the plan {}", plans.join(" or ")));
    }
    if let Some(permission) = needs.permission {
        parts.push(format!("permission \"{}\"", permission.title()));
    }
    match needs.scopes.as_slice() {
        [] => {}
        [one] => parts.push(format!("the scope {one}")),
        several => parts.push(format!("one of the scopes {}", several.join(", "))),
    }
    if let Some(token) = &needs.token {
        parts.push(format!("a token of kind {token}"));
    }
    parts.extend(needs.text.clone());
    parts.join(", ")
}

/// A kind that would do as well.
fn also(kind: Kind) -> String {
    match kind {
        Kind::Workspace => format!("a {} workspace", kind.title()),
        Kind::GridWorkspace | Kind::GridOrg => format!("\"{}\"", kind.title()),
    }
}

fn has_text(has: &Has) -> String {
    let mut parts = Vec::new();
    if let Some(title) = has.title.as_deref().or_else(|| has.kind.map(Kind::title)) {
        parts.push(format!("\"{title}\""));
    }
    if let Some(plan) = has.plan {
        parts.push(format!("the plan {}", plan.title()));
    }
    if let Some(permission) = has.permission {
        parts.push(format!("permission \"{}\"", permission.title()));
    }
    if !has.scopes.is_empty() {
        parts.push(format!("the scopes {}", has.scopes.join(", ")));
    }
    parts.extend(has.text.clone());
    parts.join(", ")
}

/// The line as shown, the columns before the mark, and the columns of the mark.
fn marked(place: &Place) -> (String, usize, usize) {
    let start = (place.column as usize).saturating_sub(1);
    let end = start + place.length as usize;
    let mut shown = String::new();
    let (mut before, mut width) = (0, 0);
    for (i, c) in place.text.chars().enumerate() {
        let columns = show(&mut shown, c);
        if i < start {
            before += columns;
        } else if i < end {
            width += columns;
        }
    }
    // A mark after the end of the line: something is missing there.
    let beyond = start.saturating_sub(place.text.chars().count());
    (shown, before + beyond, width.max(1))
}

/// Appends `c` as it is shown; the number of columns that it takes.
fn show(text: &mut String, c: char) -> usize {
    if c == '\t' {
        text.push_str(TAB);
        return TAB.len();
    }
    if deceives(c) {
        let escaped = c.escape_unicode().to_string();
        text.push_str(&escaped);
        return escaped.len();
    }
    text.push(c);
    c.width().unwrap_or(0)
}

/// Text in one line that shows every character that could hide, move or colour others.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' {
            shown.push_str("\\n");
        } else {
            show(&mut shown, c);
        }
    }
    shown
}

/// All of them, a blank line between, and a last line with the counts.
#[must_use]
pub fn render_all(diagnostics: &[Diagnostic]) -> String {
    let mut text = diagnostics.iter().map(render).collect::<Vec<_>>().join("\n");
    let errors = diagnostics.iter().filter(|d| d.is_error()).count();
    let warnings = diagnostics.len() - errors;
    let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    if !diagnostics.is_empty() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n{}, {}", count(errors, "error"), count(warnings, "warning"));
    }
    text
}
