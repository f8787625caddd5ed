//! Workflows and what their aliases are bound to.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::http::header::IF_NONE_MATCH;
use axum::http::{HeaderName, StatusCode};
use axum::response::Response;
use serde_json::json;

use bellhop_core::definition::{ACTION_NAMESPACE, WorkflowName, check_expressions, is_plugin_name};
use bellhop_core::diagnostic::{Diagnostic, Retryable, code, nearest};
use bellhop_core::preflight::{Report, When, aliases};

use super::check::{self, Against, Surroundings};
use super::form::{Form, fault};
use super::problem::{self, Problem};
use super::request::Request;
use super::{App, answer, pages, work};
use bellhop_engine::Engine;
use bellhop_engine::setup::definitions::{self, Definition};
use bellhop_journal::damaged_is_none;

/// A definition's own limit is in the core; an HTTP body may have more (a JSON file is longer than its YAML).
const FILE_NAME_CHARS_MAX: usize = 256;
const BINDINGS_MAX: usize = 256;
/// The latest versions are named, where another one is asked for.
const VERSIONS_TOLD_MAX: usize = 10;

pub(super) async fn unknown(app: &App, name: &WorkflowName) -> Problem {
    let name: String = name.to_string().chars().take(160).collect();
    // What cannot be listed is not suggested; the request has failed anyway.
    let all = app.engine.services.definitions.all().await.unwrap_or_default();
    let names: Vec<String> = all.into_iter().map(|(name, _)| name.to_string()).collect();
    Problem::new(problem::WORKFLOW_UNKNOWN, format!("there is no workflow `{name}`"))
        .with_nearest(&name, names.iter().map(String::as_str))
}

/// The problem of a version that is not there of a workflow that is; none where that is not there either.
pub(super) async fn version_unknown(engine: &Engine, name: &WorkflowName, version: &str) -> Option<Problem> {
    let mut versions = engine.services.definitions.versions(name).await.unwrap_or_default();
    if versions.is_empty() {
        return None;
    }
    let shown: String = version.chars().take(64).collect();
    let all = versions.len();
    let last = versions.split_off(all.saturating_sub(VERSIONS_TOLD_MAX));
    let more = if all > last.len() { format!(", and {} older ones", all - last.len()) } else { String::new() };
    let detail = format!("the workflow `{name}` is there, and has no version `{shown}`");
    let remedy = format!("it has {}{more}", last.join(", "));
    Some(Problem::new(problem::WORKFLOW_UNKNOWN, detail).with("versions", last).with_remedy(remedy))
}

/// A definition that can be kept, and what is to be said about it.
struct Read {
    definition: Definition,
    warnings: Vec<Diagnostic>,
}

/// Reads a definition. What only the file can mend refuses it.
fn read(app: &Arc<App>, file: &str, text: &str) -> Result<Read, Problem> {
    let (definition, source, mut diagnostics) = definitions::read(file, text);
    let Some(definition) = definition else { return Err(Problem::definition(diagnostics)) };
    let evaluator = app.engine.services.evaluator.as_ref();
    diagnostics.extend(check_expressions(&definition.workflow, &source, evaluator));
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Err(Problem::definition(diagnostics));
    }
    Ok(Read { definition, warnings: diagnostics })
}

/// Judges what was read. What only the file can mend refuses it; what is missing around it today (a connection, a plugin, a
/// grant) is told, and may be there when a run is to start.
fn judge(app: &Arc<App>, read: Read, surroundings: &Surroundings, strict: bool) -> Result<Read, Problem> {
    let Read { definition, warnings: mut diagnostics } = read;
    let Report { diagnostics: judged, .. } = check::judge(app, &definition, When::Apply, surroundings, strict);
    let blocks = |d: &Diagnostic| if strict { true } else { d.is_error() && d.retryable == Retryable::No };
    if judged.iter().any(blocks) {
        diagnostics.extend(judged);
        return Err(Problem::preflight(diagnostics));
    }
    diagnostics.extend(judged);
    Ok(Read { definition, warnings: diagnostics })
}

/// `PUT /v1/workflows/{namespace}/{name}`.
pub(super) async fn put(mut request: Request) -> Result<Response, Problem> {
    let mut params = request.params(&["file", "strict"])?;
    let file = params.one("file");
    let strict = params.flag("strict");
    if file.as_ref().is_some_and(|f| f.is_empty() || f.chars().count() > FILE_NAME_CHARS_MAX) {
        params.refused("file", &format!("a file's name has 1 to {FILE_NAME_CHARS_MAX} characters"));
    }
    params.finish()?;
    request.must_be(&["application/yaml", "application/json", "text/yaml", "application/x-yaml", "text/plain"])?;
    let name = request.workflow();
    if name.namespace == ACTION_NAMESPACE {
        let detail =
            format!("the namespace `{ACTION_NAMESPACE}` is the host's own, for single actions: choose another");
        return Err(Problem::new(problem::REQUEST_INVALID, detail));
    }
    let app = request.app.clone();
    let current = damaged_is_none(app.engine.services.definitions.current(&name).await)?;
    let expect = request.expects(current.as_ref().map(|current| current.digest))?;
    let expect = expect.ok_or(definitions::PutError::Precondition { current })?;
    let bytes = request.ordinary().await?;
    let file = file.unwrap_or_else(|| format!("{name}.yaml"));
    let text = match bellhop_core::definition::Source::decode(&file, &bytes) {
        Ok(text) => text.to_owned(),
        Err(diagnostic) => return Err(Problem::definition(vec![*diagnostic])),
    };
    let (file, text, read) = {
        let reading = app.clone();
        let (file, text, read) = work::heavy(&app, move || {
            let read = read(&reading, &file, &text)?;
            Ok((file, text, read))
        })
        .await?;
        let surroundings = check::surroundings(&app, &read.definition, Against::Present).await?;
        let judging = app.clone();
        work::heavy(&app, move || Ok((file, text, judge(&judging, read, &surroundings, strict)?))).await?
    };
    let Read { definition, warnings } = read;
    let address = name.clone();
    let (definition, created) = work::to_the_end(async move {
        let now = app.engine.services.clock.now();
        Ok(app.engine.services.definitions.put(&address, definition, &file, &text, &expect, now).await?)
    })
    .await?;
    let document = &definition.workflow.document;
    let body = json!({
        "name": document.name.to_string(),
        "version": document.version,
        "digest": definition.digest,
        "created": created,
        "warnings": warnings,
    });
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let response = answer::with_etag(answer::json(status, &body)?, definition.digest);
    let path = format!("/v1/workflows/{name}?version={}", document.version);
    Ok(answer::with_location(response, &request.caller.base.at(&path)))
}

/// `GET /v1/workflows/{namespace}/{name}`: the text as it was put.
pub(super) async fn show(request: Request) -> Result<Response, Problem> {
    let mut params = request.params(&["version"])?;
    let version = params.one("version");
    params.finish()?;
    let name = request.workflow();
    let definitions = &request.app.engine.services.definitions;
    let found = definitions.find(&name, version.as_deref()).await?;
    let definition = match (found, &version) {
        (Some(definition), _) => definition,
        (None, version) => {
            if let Some(version) = version
                && let Some(problem) = version_unknown(&request.app.engine, &name, version).await
            {
                return Err(problem);
            }
            return Err(unknown(&request.app, &name).await);
        }
    };
    if request.header(&IF_NONE_MATCH)?.is_some_and(|tags| answer::names(tags, definition.digest)) {
        return Ok(answer::with_etag(answer::empty(StatusCode::NOT_MODIFIED), definition.digest));
    }
    let text = definitions
        .text(definition.digest)
        .await?
        .ok_or_else(|| Problem::internal(&"the text of a definition is not there"))?;
    let kind = if text.trim_ascii_start().starts_with(b"{") { "application/json" } else { "application/yaml" };
    let response = answer::with_etag(answer::bytes(StatusCode::OK, kind, text), definition.digest);
    let version = &definition.workflow.document.version;
    Ok(answer::with_header(response, HeaderName::from_static("bellhop-version"), version))
}

/// `GET /v1/workflows`.
pub(super) async fn list(request: Request) -> Result<Response, Problem> {
    let mut params = request.params(&pages::PARAMS)?;
    let (services, base) = (&request.app.engine.services, &request.caller.base);
    let wanted = pages::wanted(&mut params, &services.limits);
    params.finish()?;
    let page = pages::of_all(
        services.definitions.all().await?,
        &wanted,
        |(name, _)| name.to_string(),
        |(name, current)| {
            json!({
                "name": name.to_string(),
                "version": current.version,
                "digest": current.digest,
                "links": {
                    "self": base.at(&format!("/v1/workflows/{name}")),
                    "runs": base.at(&format!("/v1/runs?workflow={name}")),
                },
            })
        },
    );
    answer::json(StatusCode::OK, &page)
}

/// `GET …/bindings`: the names of connections by alias.
pub(super) async fn bindings(request: Request) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    let name = request.workflow();
    let definitions = &request.app.engine.services.definitions;
    if definitions.current(&name).await?.is_none() {
        return Err(unknown(&request.app, &name).await);
    }
    answer::json(StatusCode::OK, &definitions.bindings(&name).await?)
}

/// The aliases of a workflow, with those that its tables name.
async fn aliases_of(app: &Arc<App>, definition: Arc<Definition>) -> Result<BTreeSet<String>, Problem> {
    let services = app.engine.services.clone();
    let tables = check::tables_of(app, &definition).await?;
    work::heavy(app, move || Ok(aliases(&definition.workflow, services.evaluator.as_ref(), &tables))).await
}

/// `PUT …/bindings`: `{ALIAS: CONNECTION}`, in place of all that was bound.
pub(super) async fn bind(mut request: Request) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    let name = request.workflow();
    let app = request.app.clone();
    let Some(definition) = app.engine.services.definitions.find(&name, None).await? else {
        return Err(unknown(&app, &name).await);
    };
    let (mut form, bindings) = Form::whole_text_map(request.json().await?)?;
    let aliases = aliases_of(&app, definition).await?;
    // What another version had stays as it was; what is damaged is put anew.
    let bound = app.engine.services.definitions.bindings(&name).await;
    let bound = damaged_is_none(bound.map(Some))?.unwrap_or_default();
    if bindings.len() > BINDINGS_MAX {
        form.fault(fault(code::INVALID_VALUE, "", format!("a workflow has at most {BINDINGS_MAX} bindings")));
    }
    let connections = app.engine.services.gateway.connections();
    for (alias, connection) in &bindings {
        if !is_plugin_name(alias) {
            form.refuse(alias, "an alias is lower-case words with `-` between");
        } else if !aliases.contains(alias) && bound.get(alias) != Some(connection) {
            let shown: String = alias.chars().take(64).collect();
            let near = nearest(alias, aliases.iter().map(String::as_str));
            let all: Vec<String> = aliases.iter().take(10).map(|alias| format!("`{alias}`")).collect();
            let hint = match (near, all.is_empty()) {
                (Some(near), _) => format!("; did you mean `{near}`?"),
                (None, false) => format!("; it has {}", all.join(", ")),
                (None, true) => "; it names no connection".to_owned(),
            };
            form.refuse(alias, format!("the workflow has no alias `{shown}`{hint}"));
        }
        if !connections.iter().any(|c| c.facts.name == *connection) {
            let shown: String = connection.chars().take(64).collect();
            let near = nearest(connection, connections.iter().map(|c| c.facts.name.as_str()));
            let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            form.refuse(alias, format!("there is no connection `{shown}`{hint}"));
        }
    }
    form.finish()?;
    let kept = bindings.clone();
    work::to_the_end(async move { Ok(app.engine.services.definitions.bind(&name, &bindings).await?) }).await?;
    answer::json(StatusCode::OK, &kept)
}

/// `GET /v1/schema/workflow.json`.
pub(super) async fn schema(_request: Request) -> Result<Response, Problem> {
    Err(Problem::not_supported("the schema of definitions"))
}
