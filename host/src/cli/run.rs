//! `bellhop run`.

use std::path::Path;

use bellhop_core::diagnostic::render;
use bellhop_core::text::plain;
use clap::Args;
use serde_json::{Value, json};

use super::http::{Answer, Ask, Client, pairs, workflow_path};
use super::output::{Exit, Failure};
use super::{Context, browse, files, one_run, problem, workflows};

/// `bellhop run`
#[derive(Debug, Args)]
pub(super) struct Run {
    /// A registered workflow (NAMESPACE/NAME), or a definition's file, which is registered first
    #[arg(value_name = "NAME|FILE")]
    workflow: String,
    /// The input: a file of JSON or YAML, `-` for standard input, or JSON itself
    #[arg(long, value_name = "FILE")]
    input: Option<String>,
    /// The version [default: the latest]
    #[arg(long, value_name = "VERSION")]
    workflow_version: Option<String>,
    /// Which connection an alias of the workflow means
    #[arg(long = "connection", value_name = "ALIAS=NAME")]
    connections: Vec<String>,
    /// Something to find the run by
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// With the same key and input, the run is started once
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Show what happens until the run ends; exit code 0 only if it completed
    #[arg(long)]
    wait: bool,
}

pub(super) fn run(arguments: &Run, context: &Context) -> Result<Exit, Failure> {
    let input = match &arguments.input {
        Some(input) => read_input(input, context)?,
        None => json!({}),
    };
    let client = Client::new(context)?;
    let mut version = arguments.workflow_version.clone();
    let path = if is_file(&arguments.workflow) {
        let applied = workflows::apply(context, &client, Path::new(&arguments.workflow))?;
        if !context.out.is_json() {
            // What blocks is said when the start is refused.
            applied.say(context, |diagnostic| !diagnostic.is_error());
        }
        version = version.or(Some(applied.version));
        workflow_path(&applied.name)?
    } else {
        workflow_path(&arguments.workflow)?
    };
    let mut body = json!({ "input": input });
    if let Some(version) = version {
        body["version"] = json!(version);
    }
    for (field, flag, texts) in
        [("connections", "--connection", &arguments.connections), ("labels", "--label", &arguments.labels)]
    {
        if !texts.is_empty() {
            body[field] = pairs(flag, texts)?;
        }
    }
    let path = format!("{path}/runs");
    let started = client.start(context, Ask::new("POST", &path).json(&body), arguments.idempotency_key.as_deref())?;
    follow(context, &client, &started, arguments.wait)
}

/// Shows a run that was started, or what happens in it until it ends.
pub(super) fn follow(context: &Context, client: &Client, answer: &Answer, wait: bool) -> Result<Exit, Failure> {
    let started = &answer.body;
    if answer.replayed && !context.out.is_json() {
        context.out.note("note: this key has started this run before");
    }
    let warnings = started.get("warnings").and_then(Value::as_array).into_iter().flatten();
    for warning in warnings.filter(|_| !context.out.is_json()).map(problem::diagnostic) {
        context.out.note(&render(&warning));
    }
    let id = browse::text(started, "id");
    if !wait || id.is_empty() {
        context.out.answer(|| format!("{id}  {}\n", browse::text(started, "status")), started);
        return Ok(Exit::Done);
    }
    if !context.out.is_json() {
        context.out.text(&id);
    }
    let ended =
        one_run::until_end(context, client, &id, one_run::Show { events: !context.out.is_json(), parked_ends: true })?;
    Ok(one_run::ended(context, &ended))
}

/// Whether it names a file rather than a workflow.
fn is_file(text: &str) -> bool {
    let path = Path::new(text);
    path.extension().is_some_and(|e| ["yaml", "yml", "json"].iter().any(|known| e == *known)) || path.is_file()
}

/// An input: a file, standard input, or the JSON itself.
pub(super) fn read_input(text: &str, context: &Context) -> Result<Value, Failure> {
    let bytes_max = context.settings.limits.file_bytes_max;
    let trimmed = text.trim_start();
    if trimmed.starts_with(['{', '[', '"']) {
        // What would be taken for another value than is written.
        if let Some(found) = bellhop_core::json::findings(text.as_bytes()).first() {
            return Err(Failure::usage(format!("--input, at `{}`: {}", plain(&found.pointer), found.what.message())));
        }
        return serde_json::from_str(text).map_err(|e| Failure::usage(format!("--input is no JSON: {e}")));
    }
    if text == "-" {
        return document("standard input", &files::standard_input(bytes_max)?);
    }
    document(text, &files::text(Path::new(text), bytes_max)?)
}

/// JSON or YAML.
pub(super) fn document(name: &str, text: &str) -> Result<Value, Failure> {
    let (source, diagnostics) = bellhop_core::definition::Source::read(name, text);
    if diagnostics.is_empty() {
        return Ok(source.value);
    }
    let failure = Failure::failed("input-unreadable", format!("{name} cannot be read as YAML or JSON"));
    Err(Failure { exit: Exit::Diagnostics, ..failure.with_diagnostics(diagnostics) })
}
