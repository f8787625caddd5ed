//! `POST /v1/check`: what `bellhop check` says, about a text that is not kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use bellhop_core::definition::check_expressions;
use bellhop_core::diagnostic::{Diagnostic, render_all};
use bellhop_core::preflight::{self, Outline, Question, Report, Table, When, assume};
use bellhop_core::requirement::Connection;

use super::problem::Problem;
use super::request::Request;
use super::{App, answer, work};
use bellhop_engine::setup::definitions::{self, Definition};

const ASSUMPTIONS_MAX: usize = 64;

/// The connections that a definition is judged against.
pub(super) enum Against {
    /// Those that are there.
    Present,
    /// What if there were these and no others.
    Assumed(Vec<Connection>),
}

/// Judges a definition as far as that can be done without an input.
pub(super) fn judge(
    app: &Arc<App>,
    definition: &Definition,
    at: When,
    against: Against,
    strict: bool,
) -> Result<Report, Problem> {
    let services = &app.engine.services;
    let mut tables: BTreeMap<String, Table> = BTreeMap::new();
    for name in &definition.workflow.extras.tables {
        if let Some((_, table)) = services.definitions.table(name)? {
            tables.insert(name.clone(), table);
        }
    }
    let (connections, bindings) = match against {
        Against::Present => (
            services.gateway.connections().iter().map(|c| c.usable().into_owned()).collect(),
            services.definitions.bindings(&definition.workflow.document.name)?,
        ),
        // What is bound is the operator's; here nothing is but the assumptions.
        Against::Assumed(connections) => (connections, BTreeMap::new()),
    };
    Ok(preflight::judge(&Question {
        workflow: &definition.workflow,
        source: &definition.source,
        at,
        plugins: &services.plugins.known(),
        rules: &services.gateway.rules,
        connections: &connections,
        trigger: &BTreeMap::new(),
        bindings: &bindings,
        tables: &tables,
        input: None,
        now: services.clock.now(),
        strict,
        evaluator: services.evaluator.as_ref(),
    }))
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
    let (diagnostics, outline) = work::heavy(&request.app, move || {
        let against = if assumptions.is_empty() { Against::Present } else { Against::Assumed(assumed) };
        checked(&app, &file, &text, against, strict)
    })
    .await?;
    if request.prefers("text/plain", "application/json") {
        return Ok(answer::bytes(StatusCode::OK, "text/plain; charset=utf-8", render_all(&diagnostics)));
    }
    let refused = diagnostics.iter().any(|d| strict || d.is_error());
    answer::json(StatusCode::OK, &json!({ "ok": !refused, "diagnostics": diagnostics, "outline": outline }))
}

fn checked(
    app: &Arc<App>,
    file: &str,
    text: &str,
    against: Against,
    strict: bool,
) -> Result<(Vec<Diagnostic>, Option<Outline>), Problem> {
    let (definition, source, mut diagnostics) = definitions::read(file, text);
    let Some(definition) = definition else { return Ok((diagnostics, None)) };
    diagnostics.extend(check_expressions(&definition.workflow, &source, app.engine.services.evaluator.as_ref()));
    let report = judge(app, &definition, When::Check, against, strict)?;
    diagnostics.extend(report.diagnostics);
    diagnostics.sort_by_key(|d| d.place.as_ref().map(|p| (p.line, p.column)));
    Ok((diagnostics, Some(report.outline)))
}
