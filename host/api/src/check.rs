//! `POST /v1/check`: what `bellhop check` says, about a text that is not kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use bellhop_core::definition::check_expressions;
use bellhop_core::diagnostic::{Diagnostic, render_all};
use bellhop_core::preflight::{self, Question, Report, Table, When, assume};
use bellhop_core::requirement::Connection;

use super::problem::Problem;
use super::request::Request;
use super::{App, answer, work};
use bellhop_engine::setup::definitions::{self, Definition};
use bellhop_journal as journal;

const ASSUMPTIONS_MAX: usize = 64;

/// The connections that a definition is judged against.
pub(super) enum Against {
    /// Those that are there.
    Present,
    /// What if there were these and no others.
    Assumed(Vec<Connection>),
}

/// What a definition is judged by, besides itself.
pub(super) struct Surroundings {
    tables: BTreeMap<String, Table>,
    connections: Vec<Connection>,
    bindings: BTreeMap<String, String>,
}

/// The tables that a definition names, as far as they are there. They may be large: the threads that carry runs read them.
pub(super) async fn tables_of(app: &Arc<App>, definition: &Definition) -> Result<BTreeMap<String, Table>, Problem> {
    let names = definition.workflow.extras.tables.clone();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let services = app.engine.services.clone();
    let read = async move {
        let mut tables = BTreeMap::new();
        for name in names {
            if let Some((_, table)) = services.definitions.table(&name).await? {
                tables.insert(name, table);
            }
        }
        Ok::<_, journal::Error>(tables)
    };
    Ok(work::by_the_engine(&app.engine, read).await??)
}

/// What a definition is judged by now.
pub(super) async fn surroundings(
    app: &Arc<App>,
    definition: &Definition,
    against: Against,
) -> Result<Surroundings, Problem> {
    let services = &app.engine.services;
    let tables = tables_of(app, definition).await?;
    let (connections, bindings) = match against {
        Against::Present => (
            services.gateway.connections().iter().map(|c| c.usable().into_owned()).collect(),
            services.definitions.bindings(&definition.workflow.document.name).await?,
        ),
        // What is bound is the operator's; here nothing is but the assumptions.
        Against::Assumed(connections) => (connections, BTreeMap::new()),
    };
    Ok(Surroundings { tables, connections, bindings })
}

/// Judges a definition as far as that can be done without an input.
pub(super) fn judge(
    app: &Arc<App>,
    definition: &Definition,
    at: When,
    surroundings: &Surroundings,
    strict: bool,
) -> Report {
    let services = &app.engine.services;
    let Surroundings { tables, connections, bindings } = surroundings;
    preflight::judge(&Question {
        workflow: &definition.workflow,
        source: &definition.source,
        at,
        plugins: &services.plugins.known(),
        rules: &services.gateway.rules,
        connections,
        trigger: &BTreeMap::new(),
        bindings,
        tables,
        input: None,
        now: services.clock.now(),
        strict,
        evaluator: services.evaluator.as_ref(),
    })
}

/// See the module. Answers 200 whatever it finds: the question was answered.
pub(super) async fn check(mut request: Request) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    let mut form = request.form(&["file", "text", "assume", "strict"]).await?;
    let file = form.text("file").unwrap_or_else(|| "workflow.yaml".to_owned());
    let text = form.needed_text("text").unwrap_or_default();
    let strict = form.flag("strict").unwrap_or(false);
    let assumptions = form.texts("assume");
    if assumptions.len() > ASSUMPTIONS_MAX {
        form.refuse("assume", format!("at most {ASSUMPTIONS_MAX} connections are assumed"));
    }
    let mut assumed = Vec::new();
    for (index, text) in assumptions.iter().take(ASSUMPTIONS_MAX).enumerate() {
        match assume::parse(text) {
            Ok(connection) => assumed.push(connection),
            Err(error) => form.refuse_item("assume", index, error.to_string()),
        }
    }
    form.finish()?;
    let app = request.app.clone();
    let against = if assumptions.is_empty() { Against::Present } else { Against::Assumed(assumed) };
    let reading = app.clone();
    let (definition, mut diagnostics) = work::heavy(&app, move || Ok(read(&reading, &file, &text))).await?;
    let mut outline = None;
    if let Some(definition) = definition {
        let surroundings = surroundings(&app, &definition, against).await?;
        let judging = app.clone();
        let judge = move || Ok(judge(&judging, &definition, When::Check, &surroundings, strict));
        let report = work::heavy(&app, judge).await?;
        diagnostics.extend(report.diagnostics);
        diagnostics.sort_by_key(|d| d.place.as_ref().map(|p| (p.line, p.column)));
        outline = Some(report.outline);
    }
    if request.prefers("text/plain", "application/json") {
        return Ok(answer::bytes(StatusCode::OK, "text/plain; charset=utf-8", render_all(&diagnostics)));
    }
    let refused = diagnostics.iter().any(|d| strict || d.is_error());
    answer::json(StatusCode::OK, &json!({ "ok": !refused, "diagnostics": diagnostics, "outline": outline }))
}

/// What a file says, and what is wrong with it by itself.
fn read(app: &Arc<App>, file: &str, text: &str) -> (Option<Definition>, Vec<Diagnostic>) {
    let (definition, source, mut diagnostics) = definitions::read(file, text);
    if let Some(definition) = &definition {
        diagnostics.extend(check_expressions(&definition.workflow, &source, app.engine.services.evaluator.as_ref()));
    }
    (definition, diagnostics)
}
