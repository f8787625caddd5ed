//! `bellhop check`: everything that can be said of a definition before it runs, without a server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bellhop_core::definition::{self, Source};
use bellhop_core::diagnostic::{Diagnostic, code, render};
use bellhop_core::preflight::{self, Plugins, Question, Table, When, assume};
use bellhop_core::requirement::{Connection, Rules};
use clap::Args;
use serde_json::{Value, json};

use super::offline::Offline;
use super::output::{Exit, Failure};
use super::{Context, files, tables};
use bellhop_clock::{self as clock, Clock as _};
use bellhop_sandbox::expression::Expressions;

/// `bellhop check`
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Definitions, in YAML or JSON
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What if this were a connection: NAME=KIND[:PLAN[:PERMISSION]]; kinds are workspace, grid-workspace and grid-org,
    /// plans free, pro, business-plus and enterprise, permissions read and act
    #[arg(long, value_name = "NAME=KIND")]
    assume: Vec<String>,
    /// Warnings block, too
    #[arg(long)]
    strict: bool,
    /// A plugin to judge with [default: those of the data directory, else those in ./target/plugins]
    #[arg(long, value_name = "FILE")]
    plugin: Vec<PathBuf>,
    /// A table to judge with: NAME=FILE [default: that of the data directory, else tables/NAME.yaml beside the definition]
    #[arg(long, value_name = "NAME=FILE")]
    table: Vec<String>,
}

/// What all files are judged by.
struct Judge {
    plugins: Plugins,
    rules: Rules,
    connections: Vec<Connection>,
    tables: BTreeMap<String, Table>,
    expressions: Expressions,
    strict: bool,
    file_bytes_max: u64,
}

/// What was found in one file.
struct Found {
    summary: Value,
    diagnostics: Vec<Diagnostic>,
}

pub(super) fn run(arguments: &Check, context: &Context) -> Result<Exit, Failure> {
    let assumed = assumptions(&arguments.assume)?;
    let bytes_max = context.settings.limits.file_bytes_max;
    let given = arguments.table.iter().map(|text| table(text, bytes_max)).collect::<Result<Vec<_>, _>>()?;
    let texts = arguments
        .files
        .iter()
        .map(|path| files::bytes(path, bytes_max).map(|bytes| (path, bytes)))
        .collect::<Result<Vec<_>, _>>()?;
    let offline = Offline::start(context)?;
    let stored = offline.stored()?;
    let plugins = offline.plugins(&arguments.plugin, &stored)?;
    if plugins.is_empty() {
        context.out.note(
            "note: there is no plugin to judge with: name one by --plugin, or build one with `bellhop plugin build`",
        );
    }
    let mut judge = Judge {
        plugins: Plugins::of(plugins.iter().map(super::offline::Seen::plugin)),
        rules: offline.rules.clone(),
        connections: if assumed.is_empty() { stored.connections } else { assumed },
        tables: stored.tables,
        expressions: offline.expressions(context.settings.limits.expression_cpu_ms_max)?,
        strict: arguments.strict,
        file_bytes_max: bytes_max,
    };
    judge.tables.extend(given);
    let found = texts.iter().map(|(path, bytes)| judge.file(path, bytes)).collect::<Result<Vec<_>, _>>()?;
    Ok(say(&found, arguments.strict, context))
}

fn say(found: &[Found], strict: bool, context: &Context) -> Exit {
    let diagnostics: Vec<&Diagnostic> = found.iter().flat_map(|f| &f.diagnostics).collect();
    let errors = diagnostics.iter().filter(|d| d.is_error()).count();
    let warnings = diagnostics.len() - errors;
    let files: Vec<&Value> = found.iter().map(|f| &f.summary).collect();
    let text = || diagnostics.iter().map(|d| render(d)).collect::<Vec<_>>().join("\n");
    context.out.answer(text, &json!({ "files": files, "diagnostics": diagnostics }));
    if !context.out.is_json() {
        let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        let (files, errors) = (count(files.len(), "file"), count(errors, "error"));
        context.out.note(&format!("{files} checked: {errors}, {}", count(warnings, "warning")));
    }
    if errors > 0 || strict && warnings > 0 { Exit::Diagnostics } else { Exit::Done }
}

impl Judge {
    fn file(&self, path: &Path, bytes: &[u8]) -> Result<Found, Failure> {
        let file = path.display().to_string();
        let text = match Source::decode(&file, bytes) {
            Ok(text) => text,
            Err(diagnostic) => {
                let summary = json!({ "file": file, "workflow": null });
                return Ok(Found { summary, diagnostics: vec![*diagnostic] });
            }
        };
        let (workflow, source, mut diagnostics) = definition::parse(&file, text);
        let Some(workflow) = workflow else {
            return Ok(Found { summary: json!({ "file": file, "workflow": null }), diagnostics });
        };
        diagnostics.extend(definition::check_expressions(&workflow, &source, &self.expressions));
        let nothing = BTreeMap::new();
        let tables = self.tables_of(path, &workflow.extras.tables)?;
        let report = preflight::judge(&Question {
            workflow: &workflow,
            source: &source,
            at: When::Check,
            plugins: &self.plugins,
            rules: &self.rules,
            connections: &self.connections,
            trigger: &nothing,
            bindings: &nothing,
            tables: &tables,
            input: None,
            now: clock::System::new().now(),
            strict: self.strict,
            evaluator: &self.expressions,
        });
        for diagnostic in report.diagnostics {
            if !diagnostics.contains(&diagnostic) {
                diagnostics.push(diagnostic);
            }
        }
        diagnostics.sort_by_key(|d| d.place.as_ref().map_or((u32::MAX, 0), |p| (p.line, p.column)));
        let document = &workflow.document;
        let summary = json!({
            "file": file,
            "workflow": document.name.to_string(),
            "version": document.version,
            "outline": report.outline,
        });
        Ok(Found { summary, diagnostics })
    }

    /// All tables; of those that the definition names and nobody has, the ones that lie beside it.
    fn tables_of(&self, definition: &Path, wanted: &[String]) -> Result<BTreeMap<String, Table>, Failure> {
        let mut tables = self.tables.clone();
        let folder = definition.with_file_name("tables");
        // A name that is no plain word would lead elsewhere.
        let plain = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        for name in wanted.iter().filter(|name| plain(name)) {
            let candidates = ["yaml", "yml", "json", "csv"].map(|ending| folder.join(format!("{name}.{ending}")));
            if let Some(file) = candidates.iter().find(|file| file.is_file())
                && !tables.contains_key(name)
            {
                tables.insert(name.clone(), tables::read(file, self.file_bytes_max)?);
            }
        }
        Ok(tables)
    }
}

/// The connections that are assumed; none means that the real ones are judged.
fn assumptions(texts: &[String]) -> Result<Vec<Connection>, Failure> {
    let mut assumed: Vec<Connection> = Vec::new();
    for text in texts {
        let refused = |message: String| {
            let mut failure = Failure::usage(format!("--assume {text}: {message}"));
            failure.code = code::ASSUMPTION_INVALID.0.to_owned();
            failure
        };
        let connection = assume::parse(text).map_err(|e| refused(e.to_string()))?;
        if assumed.iter().any(|c| c.name == connection.name) {
            return Err(refused(format!("`{}` is assumed twice", connection.name)));
        }
        assumed.push(connection);
    }
    Ok(assumed)
}

fn table(text: &str, bytes_max: u64) -> Result<(String, Table), Failure> {
    let (name, path) =
        text.split_once('=').ok_or_else(|| Failure::usage(format!("--table {text}: write NAME=FILE")))?;
    Ok((name.to_owned(), tables::read(Path::new(path), bytes_max)?))
}
