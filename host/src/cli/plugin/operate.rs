//! `bellhop plugin install`, `grant` and `remove`: what only a host does.

use std::path::PathBuf;

use bellhop_core::text::shell_word;
use clap::Args;
use serde_json::{Value, json};

use super::super::Context;
use super::super::browse::text;
use super::super::files;
use super::super::http::{Ask, Client, query, segment, strings};
use super::super::output::plain;
use super::super::output::{Exit, Failure};

/// `bellhop plugin install`
#[derive(Debug, Args)]
pub(in super::super) struct Install {
    /// The component
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What it may call: METHOD[@CONNECTION][:[FIELD=]PATTERN] [default: nothing]
    #[arg(long, value_name = "GRANT", conflicts_with = "grant_all")]
    grant: Vec<String>,
    /// Grant everything that its actions declare
    #[arg(long)]
    grant_all: bool,
    /// Have it take a name that belongs to another publisher, or to this one
    #[arg(long, value_name = "PUBLISHER", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    replace_publisher: Option<String>,
    /// Install it only if this is the newest version of its name that is there, by version or digest
    #[arg(long, value_name = "VERSION")]
    replaces: Option<String>,
}

/// `bellhop plugin grant`
#[derive(Debug, Args)]
pub(in super::super) struct Grant {
    /// The plugin; without a version, every version for which the grants are of use
    #[arg(value_name = "NAME[@VERSION]")]
    plugin: String,
    /// To be granted: METHOD[@CONNECTION][:[FIELD=]PATTERN]
    #[arg(long, value_name = "GRANT", num_args = 1.., required_unless_present = "remove")]
    add: Vec<String>,
    /// To be taken away, as `plugin list --output json` shows it
    #[arg(long, value_name = "GRANT", num_args = 1..)]
    remove: Vec<String>,
}

/// `bellhop plugin remove`
#[derive(Debug, Args)]
pub(in super::super) struct Remove {
    /// The plugin; without a version, all its versions
    #[arg(value_name = "NAME[@VERSION]")]
    plugin: String,
}

pub(super) fn install(arguments: &Install, context: &Context) -> Result<Exit, Failure> {
    let bytes = files::bytes(&arguments.file, context.settings.limits.file_bytes_max)?;
    let client = Client::new(context)?;
    let all = arguments.grant_all.then_some(("grantAll", "true"));
    let replace = arguments.replace_publisher.as_deref().map(|whose| ("replacePublisher", whose));
    let replaces = arguments.replaces.as_deref().map(|what| ("replaces", what));
    let grants = arguments.grant.iter().map(|grant| ("grant", grant.as_str()));
    let path = format!("/v1/plugins{}", query(grants.chain(all).chain(replace).chain(replaces)));
    let answer = client.send_bytes("POST", &path, "application/wasm", bytes)?;
    let installed = &answer.body;
    let said = || {
        let mut said = format!(
            "installed {} {}, published by {}\n",
            plain(&text(installed, "name")),
            plain(&text(installed, "version")),
            plain(&text(installed, "publisher")),
        );
        for old in installed.get("replaced").and_then(Value::as_array).into_iter().flatten() {
            said.push_str(&format!(
                "  replaced {} {}, published by {}: nothing new can call it\n",
                plain(&text(old, "name")),
                plain(&text(old, "version")),
                plain(&text(old, "publisher")),
            ));
        }
        for other in installed.get("beside").and_then(Value::as_array).into_iter().flatten() {
            said.push_str(&format!("  beside {} {}\n", plain(&text(other, "name")), plain(&text(other, "version"))));
        }
        for workflow in strings(installed, "workflows") {
            said.push_str(&format!("  called from now on by {}\n", plain(&workflow)));
        }
        if let Some(more) = installed.get("workflows_more").and_then(Value::as_u64).filter(|more| *more > 0) {
            said.push_str(&format!("  and by {more} more workflows\n"));
        }
        said.push_str(&grants_of(installed));
        for import in strings(installed, "undeclaredImports") {
            said.push_str(&format!("  ! imports {}, which no action declares\n", plain(&import)));
        }
        said
    };
    context.out.answer(said, installed);
    Ok(Exit::Done)
}

/// What a plugin was granted, and what of that which it declares it was not.
fn grants_of(plugin: &Value) -> String {
    let mut said = String::new();
    for grant in strings(plugin, "grants") {
        said.push_str(&format!("  granted {}\n", plain(&grant)));
    }
    let missing = strings(plugin, "missing");
    for method in &missing {
        said.push_str(&format!("  declared, not granted {}\n", plain(method)));
    }
    if !missing.is_empty() {
        // Another version may be there that is not to be granted as much.
        let which = format!("{}@{}", text(plugin, "name"), text(plugin, "version"));
        let all: Vec<_> = missing.iter().map(|method| shell_word(method)).collect();
        let (which, all) = (shell_word(&which), all.join(" "));
        said.push_str(&format!("to grant what is missing: bellhop plugin grant {which} --add {all}\n"));
    }
    said
}

pub(super) fn grant(arguments: &Grant, context: &Context) -> Result<Exit, Failure> {
    let (name, version) = named(&arguments.plugin);
    let mut body = json!({ "add": arguments.add, "remove": arguments.remove });
    if let Some(version) = version {
        body["version"] = json!(version);
    }
    let path = format!("/v1/plugins/{}/grant", segment(name));
    let answer = Client::new(context)?.send("POST", &path, &body)?;
    let said = || {
        let versions = answer.body.get("result").and_then(Value::as_array).into_iter().flatten();
        let each = versions.map(|plugin| {
            let (name, version) = (plain(&text(plugin, "name")), plain(&text(plugin, "version")));
            format!("{name} {version}\n{}", grants_of(plugin))
        });
        each.collect::<String>()
    };
    context.out.answer(said, &answer.body);
    Ok(Exit::Done)
}

pub(super) fn remove(arguments: &Remove, context: &Context) -> Result<Exit, Failure> {
    let (name, version) = named(&arguments.plugin);
    let version = version.map(|version| format!("/{}", segment(version))).unwrap_or_default();
    let path = format!("/v1/plugins/{}{version}", segment(name));
    let answer = Client::new(context)?.ask(Ask::new("DELETE", &path))?;
    let said = || {
        let gone = answer.body.get("removed").and_then(Value::as_array).into_iter().flatten();
        let each = gone.map(|old| format!("removed {} {}\n", plain(&text(old, "name")), plain(&text(old, "version"))));
        each.collect::<String>()
    };
    context.out.answer(said, &answer.body);
    Ok(Exit::Done)
}

/// `NAME[@VERSION]`.
fn named(plugin: &str) -> (&str, Option<&str>) {
    match plugin.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (plugin, None),
    }
}
