//! Plugins: installed with what the operator grants, granted more or less, listed, removed.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use bellhop_core::manifest::{self, Manifest};
use bellhop_core::requirement::Rules;

use super::problem::{self, Problem};
use super::request::Request;
use super::{App, answer, pages, work};
use bellhop_engine::setup::plugins::{Change, InstallError, Installed, Order, Replace, Wanted};
use bellhop_sandbox::Refusal;

fn shown(installed: &Installed, rules: &Rules) -> Value {
    let stored = &installed.stored;
    let declared = manifest::methods(&stored.manifest, rules);
    let missing = manifest::missing(&stored.manifest, &installed.grants, rules);
    let granted: Vec<&str> = declared.iter().copied().filter(|method| !missing.contains(method)).collect();
    let imports = &stored.inspection.imports;
    json!({
        "name": stored.manifest.name,
        "version": stored.manifest.version,
        "publisher": stored.manifest.publisher,
        "digest": stored.inspection.digest,
        "bytes": stored.inspection.size,
        "installedAt": stored.installed_at.to_string(),
        "imports": imports,
        "undeclaredImports": stored.manifest.undeclared(imports),
        "grants": installed.grants.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "declared": declared,
        "granted": granted,
        "missing": missing,
        "actions": stored.manifest.actions.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(),
    })
}

/// What helps beside what can be said of any body that is too large.
fn smaller(problem: Problem) -> Problem {
    if problem.kind() != problem::BODY_TOO_LARGE {
        return problem;
    }
    problem.with_remedy(Refusal::TooLarge { size: 0, max: 0 }.remedy())
}

/// Who changed what of which plugin, for the log.
fn noted(by: &str, what: &str, plugin: &Installed) {
    let Manifest { name, version, publisher, .. } = &plugin.stored.manifest;
    let grants = plugin.grants.len();
    tracing::info!(by, plugin = name, version, publisher, grants, "{what}");
}

/// The names of the connections that are there.
fn connections(app: &App) -> Vec<String> {
    app.engine.services.gateway.connections().iter().map(|connected| connected.facts.name.clone()).collect()
}

/// `POST /v1/plugins?grant=…`: the component is the body. Without any `grant` nothing is granted; `grantAll=true` grants
/// everything that the actions declare. `replacePublisher`: `true`, or the publisher whose name it may take. `replaces`: the
/// newest version of its name that is there, or its digest; where another is there, nothing is installed.
pub(super) async fn install(mut request: Request) -> Result<Response, Problem> {
    let mut params = request.params(&["grant", "grantAll", "replacePublisher", "replaces"])?;
    let grants = params.all("grant");
    let all = params.flag("grantAll");
    if all && !grants.is_empty() {
        params.refused("grantAll", &"either everything is granted, or what `grant` says");
    }
    let wanted = match (all, grants.is_empty()) {
        (true, _) => Wanted::Everything,
        (false, true) => Wanted::Nothing,
        (false, false) => Wanted::These(grants),
    };
    let replace = match params.one("replacePublisher").as_deref() {
        None | Some("false") => Replace::Nobody,
        Some("true") => Replace::Anybody,
        Some(publisher) => Replace::Publisher(publisher.to_owned()),
    };
    let follows = params.one("replaces");
    // What can be told without the component is told before it is read.
    if let Wanted::These(texts) = &wanted {
        let faults = manifest::misspelt(texts, "/grant", &request.app.engine.services.gateway.rules);
        if params.is_sound() && !faults.is_empty() {
            return Err(InstallError::Grants(faults).into());
        }
        params.extend(faults);
    }
    params.finish()?;
    request.must_be(&["application/wasm", "application/octet-stream"])?;
    let bytes_max = request.app.engine.services.limits.plugin_bytes_max;
    let bytes = request.bytes(bytes_max).await.map_err(smaller)?;
    let app = request.app.clone();
    let by = request.caller.name();
    let (looked_at, looking) = (bytes.clone(), app.clone());
    let inspection = work::heavy(&app, move || {
        Ok(looking.engine.services.plugins.inspect(&looked_at).map_err(InstallError::from)?)
    })
    .await?;
    // Here, where it ends when the client goes, and not on one of the few threads for what computes.
    app.engine.services.plugins.compile(inspection, &bytes).await?;
    // Reading 18 MB of a component takes a while in which this thread could answer others.
    let put = Box::pin(async move {
        let services = &app.engine.services;
        let (rules, connections) = (&services.gateway.rules, connections(&app));
        let order = Order {
            bytes: &bytes,
            grants: wanted,
            replace,
            follows,
            means: &|before, after| Box::pin(app.engine.callers_anew(before, after)),
            rules,
            connections: &connections,
            now: services.clock.now(),
        };
        let done = services.plugins.put(order).await?;
        noted(&by, "a plugin was installed", &done.installed);
        for old in &done.replaced {
            noted(&by, "a plugin was replaced by another publisher's", old);
        }
        let mut body = shown(&done.installed, rules);
        body["replaced"] = done.replaced.iter().map(|old| short(old)).collect();
        body["beside"] = done.beside.iter().map(|other| short(other)).collect();
        body["workflows"] = json!(done.callers.workflows);
        body["workflows_more"] = json!(done.callers.workflows_more);
        body["diagnostics"] = json!(done.warnings);
        Ok(body)
    });
    let body = work::heavy_until(&request.app, put).await?;
    answer::json(StatusCode::CREATED, &body)
}

/// Which plugin it is.
fn short(installed: &Installed) -> Value {
    let manifest = &installed.stored.manifest;
    json!({ "name": manifest.name, "version": manifest.version, "publisher": manifest.publisher })
}

/// `POST /v1/plugins/{name}/grant`: `{add, remove, version}`. What is neither added nor removed stays. Without `version`
/// every version is granted what is of use to it.
pub(super) async fn grant(mut request: Request) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    let mut form = request.form(&["add", "remove", "version"]).await?;
    let (add, remove) = (form.texts("add"), form.texts("remove"));
    let version = form.text("version");
    if add.is_empty() && remove.is_empty() {
        form.refuse("add", "name at least one grant to add or to remove");
    }
    form.finish()?;
    let name = request.part("name").to_owned();
    let (app, by) = (request.app.clone(), request.caller.name());
    let body = work::heavy_until(&request.app, async move {
        let services = &app.engine.services;
        let rules = &services.gateway.rules;
        let connections = connections(&app);
        let version = version.as_deref();
        let change = Change { name: &name, version, add: &add, remove: &remove, rules, connections: &connections };
        let changed = services.plugins.grant(&change).await?;
        for installed in &changed {
            noted(&by, &format!("the grants of a plugin were changed: {add:?} added, {remove:?} removed"), installed);
        }
        Ok(json!({ "result": changed.iter().map(|installed| shown(installed, rules)).collect::<Vec<_>>() }))
    })
    .await?;
    answer::json(StatusCode::OK, &body)
}

/// `DELETE /v1/plugins/{name}` and `DELETE /v1/plugins/{name}/{version}`: refused while something needs it.
pub(super) async fn remove(request: Request) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    let name = request.part("name").to_owned();
    let version = Some(request.part("version").to_owned()).filter(|version| !version.is_empty());
    let (app, by) = (request.app.clone(), request.caller.name());
    // Every open run is looked at.
    let body = work::heavy_until(&request.app, async move {
        let gone = app.engine.remove_plugin(&name, version.as_deref()).await?;
        for old in &gone {
            noted(&by, "a plugin was removed", old);
        }
        Ok(json!({ "removed": gone.iter().map(|old| short(old)).collect::<Vec<_>>() }))
    })
    .await?;
    answer::json(StatusCode::OK, &body)
}

/// `GET /v1/plugins/{name}`: every version, the newest first, with its manifest and what its binary says.
pub(super) async fn show(request: Request) -> Result<Response, Problem> {
    let mut params = request.params(&pages::PARAMS)?;
    let services = &request.app.engine.services;
    let wanted = pages::wanted(&mut params, &services.limits);
    params.finish()?;
    let versions = services.plugins.named(request.part("name"), None)?;
    let whole = |installed: &Arc<Installed>| {
        let mut body = shown(installed, &services.gateway.rules);
        body["manifest"] = json!(installed.stored.manifest);
        body["inspection"] = json!(installed.stored.inspection);
        body
    };
    let key = |installed: &Arc<Installed>| installed.stored.manifest.version.clone();
    answer::json(StatusCode::OK, &pages::in_order(&versions, &wanted, key, whole)?)
}

/// `GET /v1/plugins`.
pub(super) async fn list(request: Request) -> Result<Response, Problem> {
    let mut params = request.params(&pages::PARAMS)?;
    let services = &request.app.engine.services;
    let wanted = pages::wanted(&mut params, &services.limits);
    params.finish()?;
    let key = |p: &Arc<Installed>| format!("{} {}", p.stored.manifest.name, p.stored.manifest.version);
    let page = pages::of_all(services.plugins.all(), &wanted, key, |p| shown(p, &services.gateway.rules));
    answer::json(StatusCode::OK, &page)
}
