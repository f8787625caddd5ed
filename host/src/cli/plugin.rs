//! `bellhop plugin`: from a crate to a component, and what a component can do.

use std::path::{Path, PathBuf};

use bellhop_core::diagnostic::nearest;
use bellhop_core::manifest::{Action, Alternative, When};
use bellhop_core::requirement::{Availability, Kind, Method, Rules};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::http::{Client, query, strings};
use super::offline::{Offline, Seen, built, refusal};
use super::output::{Exit, Failure, columns};
use super::{Context, browse};
use crate::toolchain;

/// `bellhop plugin`
#[derive(Debug, Subcommand)]
pub(super) enum Plugin {
    /// Compile a crate, encode it as a component, and check it as an installation would
    Build(Build),
    /// Say what a plugin can do, read from its binary; needs no server
    Inspect(Inspect),
    /// Install a plugin in the host
    Install(Install),
    /// List the plugins installed in the host
    List,
}

/// `bellhop plugin build`
#[derive(Debug, Args)]
pub(super) struct Build {
    /// The folder of the crate
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Where the component is written [default: target/plugins/NAME.wasm of the crate's workspace]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Show what the compiler does
    #[arg(long)]
    verbose: bool,
}

/// `bellhop plugin inspect`
#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// A file, or the name of an installed or built plugin
    #[arg(value_name = "FILE|NAME")]
    plugin: String,
}

/// `bellhop plugin install`
#[derive(Debug, Args)]
pub(super) struct Install {
    /// The component
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What it may call: METHOD[@CONNECTION][:[FIELD=]PATTERN] [default: everything that its actions declare]
    #[arg(long, value_name = "GRANT")]
    grant: Vec<String>,
}

pub(super) fn run(arguments: &Plugin, context: &Context) -> Result<Exit, Failure> {
    match arguments {
        Plugin::Build(build) => make(build, context),
        Plugin::Inspect(inspect) => show(inspect, context),
        Plugin::Install(install) => send(install, context),
        Plugin::List => list(context),
    }
}

fn make(arguments: &Build, context: &Context) -> Result<Exit, Failure> {
    let dir = &arguments.dir;
    if !dir.join("Cargo.toml").is_file() {
        let message = format!("{} is no crate: it has no Cargo.toml", dir.display());
        return Err(Failure::missing("crate-not-found", message));
    }
    let offline = Offline::start(context)?;
    let options = toolchain::Options { target_dir: None, verbose: arguments.verbose };
    let component = toolchain::build(&offline.sandbox, dir, &options).map_err(|error| match error {
        toolchain::Error::Refused(why) => refusal(&why),
        toolchain::Error::Compile(_) => Failure::failed("plugin-not-built", error.to_string()),
    })?;
    // Beside its place first: what is at its place is always whole, and has passed every check.
    let aside = match &arguments.out {
        Some(out) => out.with_extension("wasm.new"),
        None => target_folder(dir)?.join(".building.wasm"),
    };
    write(&aside, &component)?;
    let seen = offline.file(&aside).inspect_err(|_| {
        // It is of no use to anybody; an error here changes nothing.
        let _kept = std::fs::remove_file(&aside);
    })?;
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => aside.with_file_name(format!("{}.wasm", seen.manifest.name)),
    };
    std::fs::rename(&aside, &out).map_err(|e| Failure::unwritable(&out, &e))?;
    let text = || {
        let mut text = format!(
            "{}: {} {}, {} bytes, {} imports, {} actions\n",
            out.display(),
            seen.manifest.name,
            seen.manifest.version,
            thousands(seen.inspection.size),
            seen.inspection.imports.len(),
            seen.manifest.actions.len(),
        );
        for import in &seen.inspection.imports {
            let mark = if seen.undeclared.contains(import) { "  ! no action declares it" } else { "" };
            text.push_str(&format!("  {import}{mark}\n"));
        }
        text
    };
    let value = json!({
        "file": out.display().to_string(),
        "name": seen.manifest.name,
        "version": seen.manifest.version,
        "digest": seen.inspection.digest,
        "size": seen.inspection.size,
        "imports": seen.inspection.imports,
        "undeclaredImports": seen.undeclared,
    });
    context.out.answer(text, &value);
    Ok(Exit::Done)
}

/// `target/plugins` of the workspace that the crate belongs to: where `check` and `plugin inspect` look.
fn target_folder(dir: &Path) -> Result<PathBuf, Failure> {
    let dir = dir.canonicalize().map_err(|e| Failure::unreadable(dir, &e))?;
    let root = dir.ancestors().find(|folder| folder.join("Cargo.lock").is_file()).unwrap_or(&dir);
    Ok(root.join("target/plugins"))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|e| Failure::unwritable(folder, &e))?;
    }
    std::fs::write(path, bytes).map_err(|e| Failure::unwritable(path, &e))
}

fn show(arguments: &Inspect, context: &Context) -> Result<Exit, Failure> {
    let offline = Offline::start(context)?;
    let name = arguments.plugin.as_str();
    let path = Path::new(name);
    let seen = if path.is_file() || name.contains('/') || path.extension().is_some_and(|e| e == "wasm") {
        offline.file(path)?
    } else {
        by_name(&offline, name)?
    };
    context.out.answer(|| text_of(&seen, &offline.rules), &json_of(&seen, &offline.rules));
    Ok(Exit::Done)
}

/// The installed one, the newest of several; else the one that was built in the workspace.
fn by_name(offline: &Offline, name: &str) -> Result<Seen, Failure> {
    let mut known = Vec::new();
    let mut found = None;
    for seen in offline.stored()?.plugins {
        known.push(seen.manifest.name.clone());
        if seen.manifest.name == name {
            found = Some(seen);
        }
    }
    if let Some(found) = found {
        return Ok(found);
    }
    for path in built() {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if stem == name {
            return offline.file(&path);
        }
        known.push(stem);
    }
    let mut failure = Failure::missing("plugin-unknown", format!("there is no plugin `{name}` here"));
    failure.help = Some(match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "name its file, or build it first: bellhop plugin build DIR".to_owned(),
    });
    Err(failure)
}

/// `71234` as `71,234`.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
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
        "{} {}, published by {}\n{}\n{}, {} bytes\nof WASI (which is empty): {wasi}; of the log: {}\n",
        manifest.name,
        manifest.version,
        manifest.publisher,
        seen.from,
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
                format!("  {import}"),
                method.map_or_else(|| "?".to_owned(), |m| m.name.clone()),
                method.map_or("?", |m| if m.writes { "writes" } else { "reads" }).to_owned(),
                if users.is_empty() { "! no action declares it".to_owned() } else { users.join(", ") },
            ]
        })
        .collect();
    text.push_str(&columns(&["  IMPORT", "METHOD", "DOES", "DECLARED BY"], &rows));
    text.push_str(&format!("\nActions: {}\n", manifest.actions.len()));
    for action in &manifest.actions {
        let effect = json!(action.effect);
        let undo = action.inverse.as_ref().map(|i| format!(", undone by {i}")).unwrap_or_default();
        let effect = effect.as_str().unwrap_or_default();
        text.push_str(&format!("\n  {} ({effect}{undo}): {}\n", action.name, action.title));
        for alternative in &action.calls {
            text.push_str(&format!("    on {}\n", on(alternative)));
            let rows: Vec<Vec<String>> = alternative
                .methods
                .iter()
                .map(|call| {
                    let method = rules.by_function(&call.function);
                    vec![
                        format!("      {}", call.function),
                        if call.when == When::Always { "always" } else { "maybe" }.to_owned(),
                        method.map_or_else(|| "not in this host's catalog".to_owned(), scopes_text),
                        method.map(|m| plans_text(m, alternative)).unwrap_or_default(),
                    ]
                })
                .collect();
            text.push_str(&columns(&["      METHOD", "CALLED", "TOKEN AND SCOPE", "PLAN"], &rows));
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
    let actions: Vec<Value> = manifest.actions.iter().map(|action| action_json(action, rules)).collect();
    json!({
        "name": manifest.name,
        "version": manifest.version,
        "publisher": manifest.publisher,
        "digest": inspection.digest,
        "size": inspection.size,
        "wasi": inspection.wasi,
        "logs": inspection.logs,
        "imports": imports,
        "undeclaredImports": seen.undeclared,
        "grants": seen.grants,
        "actions": actions,
    })
}

fn action_json(action: &Action, rules: &Rules) -> Value {
    let calls: Vec<Value> = action
        .calls
        .iter()
        .map(|alternative| {
            let methods: Vec<Value> = alternative
                .methods
                .iter()
                .map(|call| {
                    let method = rules.by_function(&call.function);
                    let plans: serde_json::Map<String, Value> = alternative
                        .on
                        .iter()
                        .filter_map(|kind| Some((kind.to_string(), json!(method?.availability.get(kind)?))))
                        .collect();
                    json!({
                        "function": call.function,
                        "method": method.map(|m| &m.name),
                        "when": call.when,
                        "access": method.map(|m| &m.access),
                        "plans": plans,
                    })
                })
                .collect();
            json!({ "on": alternative.on, "methods": methods })
        })
        .collect();
    json!({
        "name": action.name,
        "title": action.title,
        "effect": action.effect,
        "inverse": action.inverse,
        "calls": calls,
    })
}

fn send(arguments: &Install, context: &Context) -> Result<Exit, Failure> {
    let bytes = std::fs::read(&arguments.file).map_err(|e| Failure::unreadable(&arguments.file, &e))?;
    let client = Client::new(context)?;
    let path = format!("/v1/plugins{}", query(arguments.grant.iter().map(|grant| ("grant", grant.as_str()))));
    let answer = client.send_bytes("POST", &path, "application/wasm", bytes)?;
    let installed = &answer.body;
    let text = || {
        let mut text =
            format!("installed {} {}\n", browse::text(installed, "name"), browse::text(installed, "version"));
        for grant in strings(installed, "grants") {
            text.push_str(&format!("  granted {grant}\n"));
        }
        for import in strings(installed, "undeclaredImports") {
            text.push_str(&format!("  ! imports {import}, which no action declares\n"));
        }
        text
    };
    context.out.answer(text, installed);
    Ok(Exit::Done)
}

fn list(context: &Context) -> Result<Exit, Failure> {
    browse::list(
        context,
        "/v1/plugins",
        &[("NAME", "/name"), ("VERSION", "/version"), ("PUBLISHER", "/publisher"), ("DIGEST", "/digest")],
    )
}
