//! `bellhop plugin inspect`: all that a plugin can do, from its file, from the host, or from what was built here.

use std::path::Path;

use bellhop_core::diagnostic::nearest;
use bellhop_core::manifest::{Action, Alternative, Manifest, When};
use bellhop_core::preflight::compare_versions;
use bellhop_core::requirement::{Availability, Grant, Kind, Method, Rules};
use serde_json::{Value, json};

use super::super::Context;
use super::super::http::{Client, segment, strings};
use super::super::offline::{Offline, Seen};
use super::super::output::plain;
use super::super::output::{Exit, Failure};
use super::super::shipped;
use super::table::{fitted, width};
use super::thousands;
use bellhop_api::actions;
use bellhop_sandbox::Inspection;

pub(super) fn run(name: &str, context: &Context) -> Result<Exit, Failure> {
    let offline = Offline::start(context)?;
    let path = Path::new(name);
    let seen = if path.is_file() || name.contains('/') || path.extension().is_some_and(|e| e == "wasm") {
        offline.file(path)?
    } else {
        by_name(&offline, name, context)?
    };
    context.out.answer(|| text_of(&seen, &offline.rules), &json_of(&seen, &offline.rules));
    Ok(Exit::Done)
}

/// The one that the host has, the newest of several; else that of the data directory; else the one that
/// comes with the program or was built here.
fn by_name(offline: &Offline, name: &str, context: &Context) -> Result<Seen, Failure> {
    let mut known = Vec::new();
    let mut looked = Vec::new();
    let mut meant = None;
    match of_host(name, context, &mut meant) {
        Ok(Some(found)) => return Ok(found),
        Ok(None) => looked.push(format!("the host at {} has none", context.settings.url)),
        Err(why) => looked.push(why),
    }
    let stored = offline.stored()?.plugins;
    known.extend(stored.iter().map(|seen| seen.manifest.name.clone()));
    if let Some(found) = newest(name, stored) {
        return Ok(found);
    }
    looked.push(format!("{} has none", context.settings.data_dir.display()));
    let at_hand = shipped::plugins();
    for path in at_hand.files {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if stem == name {
            return offline.file(&path);
        }
        known.push(stem);
    }
    looked.push(format!("{} has none", at_hand.looked));
    let message = format!("there is no plugin `{}`: {}", plain(name), looked.join("; "));
    let mut failure = Failure::missing("plugin-unknown", message);
    failure.help = Some(match (nearest(name, known.iter().map(String::as_str)), meant) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, Some(meant)) => meant,
        (None, None) => "name its file, or build it first: bellhop plugin build DIR".to_owned(),
    });
    Err(failure)
}

/// Of the plugins of that name the one with the highest version.
fn newest(name: &str, all: Vec<Seen>) -> Option<Seen> {
    let named = all.into_iter().filter(|seen| seen.manifest.name == name);
    named.max_by(|a, b| compare_versions(&a.manifest.version, &b.manifest.version))
}

/// The newest version of that name in the host; where it has none, `meant` is what the host says was meant. `Err` says
/// why it could not be asked, for people.
fn of_host(name: &str, context: &Context, meant: &mut Option<String>) -> Result<Option<Seen>, String> {
    let url = &context.settings.url;
    let asked = Client::new(context).and_then(|client| client.get(&format!("/v1/plugins/{}", segment(name))));
    let body = match asked {
        Ok(answer) => answer.body,
        Err(failure) if failure.exit == Exit::Missing => {
            *meant = failure.help.filter(|help| help.starts_with("did you mean"));
            return Ok(None);
        }
        Err(failure) if failure.exit == Exit::Unreachable => return Err(format!("no host answers at {url}")),
        Err(failure) => return Err(format!("the host at {url} was not asked: {}", failure.message)),
    };
    let unreadable = || format!("the host at {url} answers in another form");
    let versions = body.get("result").and_then(Value::as_array).ok_or_else(unreadable)?;
    let Some(newest) = versions.first() else { return Ok(None) };
    let manifest: Manifest =
        serde_json::from_value(newest.get("manifest").cloned().unwrap_or_default()).map_err(|_| unreadable())?;
    let inspection: Inspection =
        serde_json::from_value(newest.get("inspection").cloned().unwrap_or_default()).map_err(|_| unreadable())?;
    let from = format!("{} {}, installed in the host at {url}", manifest.name, manifest.version);
    let grants: Vec<Grant> = strings(newest, "grants").iter().filter_map(|text| text.parse().ok()).collect();
    Ok(Some(Seen { from, inspection, undeclared: strings(newest, "undeclaredImports"), grants, manifest }))
}

/// Which actions declare a function.
fn users<'s>(seen: &'s Seen, function: &str) -> Vec<&'s str> {
    let calls = |action: &Action| action.calls.iter().flat_map(|a| &a.methods).any(|call| call.function == function);
    seen.manifest.actions.iter().filter(|action| calls(action)).map(|action| action.name.as_str()).collect()
}

fn text_of(seen: &Seen, rules: &Rules) -> String {
    let (manifest, inspection) = (&seen.manifest, &seen.inspection);
    let wasi = if inspection.wasi.is_empty() { "nothing".to_owned() } else { inspection.wasi.join(", ") };
    let mut text = format!(
        "{} {}, published by {}\n{}\n{}\n{} bytes\nof WASI (which is empty): {wasi}; of the log: {}\n",
        plain(&manifest.name),
        plain(&manifest.version),
        plain(&manifest.publisher),
        plain(&seen.from),
        inspection.digest,
        thousands(inspection.size),
        if inspection.logs { "writes it" } else { "nothing" },
    );
    text.push_str(&format!(
        "\nImports, read from the binary: {}, all that it can ever call\n",
        inspection.imports.len()
    ));
    let rows: Vec<Vec<String>> = inspection
        .imports
        .iter()
        .map(|import| {
            let method = rules.by_function(import);
            let users = users(seen, import);
            vec![
                format!("  {}", plain(import)),
                method.map_or_else(|| "?".to_owned(), |m| m.name.clone()),
                method.map_or("?", |m| if m.writes { "writes" } else { "reads" }).to_owned(),
                if users.is_empty() { "! no action declares it".to_owned() } else { plain(&users.join(", ")) },
            ]
        })
        .collect();
    text.push_str(&fitted(&["  IMPORT", "METHOD", "DOES", "DECLARED BY"], &rows, width()));
    text.push_str(&format!("\nActions: {}\n", manifest.actions.len()));
    for action in &manifest.actions {
        let effect = json!(action.effect);
        let undo = action.inverse.as_ref().map(|i| format!(", undone by {}", plain(i))).unwrap_or_default();
        let effect = effect.as_str().unwrap_or_default();
        let (head, title) = (format!("  {} ({effect}{undo}):", plain(&action.name)), plain(&action.title));
        let apart = if head.chars().count() + 1 + title.chars().count() > width() { "\n      " } else { " " };
        text.push_str(&format!("\n{head}{apart}{title}\n"));
        for alternative in &action.calls {
            text.push_str(&format!("    on {}\n", on(alternative)));
            let rows: Vec<Vec<String>> = alternative
                .methods
                .iter()
                .map(|call| {
                    let method = rules.by_function(&call.function);
                    vec![
                        format!("      {}", plain(&call.function)),
                        if call.when == When::Always { "always" } else { "maybe" }.to_owned(),
                        method.map_or_else(|| "not in this host's catalog".to_owned(), scopes_text),
                        method.map(|m| plans_text(m, alternative)).unwrap_or_default(),
                    ]
                })
                .collect();
            text.push_str(&fitted(&["      METHOD", "CALLED", "TOKEN AND SCOPE", "PLAN"], &rows, width()));
        }
    }
    text
}

fn on(alternative: &Alternative) -> String {
    alternative.on.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")
}

fn scopes_text(method: &Method) -> String {
    let access = method.access.iter().map(|access| {
        let scopes = if access.scopes.is_empty() { "no scope".to_owned() } else { access.scopes.join(" or ") };
        format!("{}: {scopes}", access.token)
    });
    access.collect::<Vec<_>>().join("; ")
}

fn plans_text(method: &Method, alternative: &Alternative) -> String {
    let plan = |kind: &Kind| match method.availability.get(kind) {
        Some(Availability::Yes) => format!("{kind}: any"),
        Some(Availability::From(plan)) => format!("{kind}: {} and up", plan.title()),
        Some(Availability::No(_)) | None => format!("{kind}: never"),
    };
    alternative.on.iter().map(plan).collect::<Vec<_>>().join("; ")
}

fn json_of(seen: &Seen, rules: &Rules) -> Value {
    let (manifest, inspection) = (&seen.manifest, &seen.inspection);
    let imports: Vec<Value> = inspection
        .imports
        .iter()
        .map(|import| {
            let method = rules.by_function(import);
            let users = users(seen, import);
            json!({
                "function": import,
                "method": method.map(|m| &m.name),
                "writes": method.map(|m| m.writes),
                "declared": !users.is_empty(),
                "actions": users,
            })
        })
        .collect();
    let actions: Vec<Value> = manifest.actions.iter().map(|action| actions::shown(manifest, action, rules)).collect();
    json!({
        "name": manifest.name,
        "version": manifest.version,
        "publisher": manifest.publisher,
        "digest": inspection.digest,
        "size": inspection.size,
        "from": seen.from,
        "wasi": inspection.wasi,
        "logs": inspection.logs,
        "imports": imports,
        "undeclaredImports": seen.undeclared,
        "grants": seen.grants,
        "actions": actions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(name: &str, version: &str) -> Seen {
        let manifest =
            json!({ "publisher": "acme", "name": name, "version": version, "contract": "1.0.0", "actions": [] });
        let inspection = json!({ "digest": bellhop_core::digest::Digest::of(b""), "size": 1, "imports": [], "wasi": [], "exports": [], "logs": false });
        Seen {
            from: String::new(),
            inspection: serde_json::from_value(inspection).unwrap(),
            manifest: serde_json::from_value(manifest).unwrap(),
            undeclared: Vec::new(),
            grants: Vec::new(),
        }
    }

    #[test]
    fn the_newest_is_the_one_with_the_highest_version() {
        let all = ["1.10.0", "1.9.0", "1.10.0-rc.1"].map(|version| seen("mail", version));
        let others = ["2.0.0"].map(|version| seen("other", version));
        let found = newest("mail", all.into_iter().chain(others).collect()).unwrap();
        assert_eq!(found.manifest.version, "1.10.0");
        assert!(newest("nobody", Vec::new()).is_none());
    }
}
