//! `bellhop workflows`.

use std::path::{Path, PathBuf};

use bellhop_core::definition::{self, Source};
use bellhop_core::diagnostic::{Diagnostic, render};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::http::{Ask, Client, pairs, query, workflow_path};
use super::output::{Exit, Failure, plain};
use super::{Context, browse, files, problem};

/// `bellhop workflows`
#[derive(Debug, Subcommand)]
pub(super) enum Workflows {
    /// Register definitions; a version once registered does not change
    Apply(Apply),
    /// List the registered workflows
    List,
    /// Show a registered definition
    Show(Show),
    /// Say which connections the aliases of a workflow mean
    Bind(Bind),
}

/// `bellhop workflows apply`
#[derive(Debug, Args)]
pub(super) struct Apply {
    /// Definitions, in YAML or JSON
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// `bellhop workflows show`
#[derive(Debug, Args)]
pub(super) struct Show {
    /// NAMESPACE/NAME
    name: String,
    /// The version [default: the latest]
    #[arg(long, value_name = "VERSION")]
    workflow_version: Option<String>,
}

/// `bellhop workflows bind`
#[derive(Debug, Args)]
pub(super) struct Bind {
    /// NAMESPACE/NAME
    name: String,
    /// Aliases and the connections that they mean; those that are not named are no longer bound
    #[arg(value_name = "ALIAS=CONNECTION")]
    bindings: Vec<String>,
}

/// A definition that was registered.
pub(super) struct Applied {
    /// NAMESPACE/NAME.
    pub(super) name: String,
    /// Its version.
    pub(super) version: String,
    answer: Value,
}

pub(super) fn run(arguments: &Workflows, context: &Context) -> Result<Exit, Failure> {
    match arguments {
        Workflows::Apply(apply_all) => {
            let client = Client::new(context)?;
            let mut answers = Vec::new();
            for file in &apply_all.files {
                let applied = apply(context, &client, file)?;
                if !context.out.is_json() {
                    context.out.text(&format!(
                        "{}  {} {}",
                        plain(&file.display().to_string()),
                        applied.name,
                        applied.version
                    ));
                    applied.say(context, |_| true);
                }
                answers.push(applied.answer);
            }
            if context.out.is_json() {
                context.out.json(&json!({ "result": answers }));
            }
            Ok(Exit::Done)
        }
        Workflows::List => browse::list(
            context,
            "/v1/workflows",
            &[("WORKFLOW", "/name"), ("VERSION", "/version"), ("DIGEST", "/digest")],
        ),
        Workflows::Show(show) => {
            let version = show.workflow_version.as_deref().map(|version| ("version", version));
            browse::show(context, &format!("{}{}", workflow_path(&show.name)?, query(version)))
        }
        Workflows::Bind(bind) => {
            let path = format!("{}/bindings", workflow_path(&bind.name)?);
            let client = Client::new(context)?;
            let answer = if bind.bindings.is_empty() {
                client.get(&path)?
            } else {
                client.send("PUT", &path, &pairs("bind", &bind.bindings)?)?
            };
            context.out.answer(|| browse::thing(&answer.body), &answer.body);
            Ok(Exit::Done)
        }
    }
}

impl Applied {
    /// Says what is missing for a run today, or may be missing at a call, as far as `wanted`.
    pub(super) fn say(&self, context: &Context, wanted: impl Fn(&Diagnostic) -> bool) {
        let said = self.answer.get("warnings").and_then(Value::as_array).into_iter().flatten();
        for diagnostic in said.map(problem::diagnostic).filter(wanted) {
            context.out.note(&render(&diagnostic));
        }
    }
}

/// Registers the definition in `path` under the name that its document has.
pub(super) fn apply(context: &Context, client: &Client, path: &Path) -> Result<Applied, Failure> {
    let file = path.display().to_string();
    let bytes = files::bytes(path, context.settings.limits.file_bytes_max)?;
    let faulty = |diagnostics| {
        let failure = Failure::failed("definition-invalid", format!("{file} has faults; nothing was registered"));
        Failure { exit: Exit::Diagnostics, ..failure.with_diagnostics(diagnostics) }
    };
    let text = Source::decode(&file, &bytes).map_err(|diagnostic| faulty(vec![*diagnostic]))?;
    let (workflow, _, diagnostics) = definition::parse(&file, text);
    let Some(workflow) = workflow else { return Err(faulty(diagnostics)) };
    let document = workflow.document;
    let json = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"));
    let kind = if json { "application/json" } else { "application/yaml" };
    let address = format!("{}{}", workflow_path(&document.name.to_string())?, query([("file", file.as_str())]));
    let answer = client.ask(Ask::new("PUT", &address).body(kind, bytes))?.body;
    Ok(Applied { name: document.name.to_string(), version: document.version, answer })
}
