//! Plugins: installed with what the operator grants, and listed.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::Response;
use serde_json::{Value, json};

use bellhop_core::diagnostic::nearest;
use bellhop_core::requirement::Grant;

use super::problem::{self, Problem};
use super::request::Request;
use super::{answer, pages, work};
use crate::engine::plugins::{InstallError, Installed, examine};
use crate::sandbox::Refusal;

fn shown(installed: &Installed) -> Value {
    let stored = &installed.stored;
    let undeclared =
        examine(&stored.manifest, &stored.inspection.imports).map(|r| r.undeclared_imports).unwrap_or_default();
    json!({
        "name": stored.manifest.name,
        "version": stored.manifest.version,
        "publisher": stored.manifest.publisher,
        "digest": stored.inspection.digest,
        "bytes": stored.inspection.size,
        "installedAt": stored.installed_at.to_string(),
        "imports": stored.inspection.imports,
        "undeclaredImports": undeclared,
        "grants": installed.grants.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "actions": stored.manifest.actions.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(),
    })
}

/// `POST /v1/plugins?grant=…`: the component is the body. Without any `grant`, what the actions declare is granted.
pub(super) async fn install(mut request: Request) -> Result<Response, Problem> {
    let mut params = request.params(&["grant"])?;
    let mut grants: Vec<Grant> = Vec::new();
    let rules = &request.app.engine.services.gateway.rules;
    for text in params.all("grant") {
        match text.parse::<Grant>() {
            Ok(grant) if rules.methods.contains_key(grant.method()) => grants.push(grant),
            Ok(grant) => {
                let near = nearest(grant.method(), rules.methods.keys().map(String::as_str));
                let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                params.refused("grant", &format!("this host gives no method `{}` to plugins{hint}", grant.method()));
            }
            Err(error) => params.refused("grant", &error),
        }
    }
    params.finish()?;
    if let Some(kind) = request.header(&CONTENT_TYPE)?
        && !matches!(kind.split(';').next().unwrap_or(kind).trim(), "application/wasm" | "application/octet-stream")
    {
        return Err(Problem::new(problem::MEDIA_TYPE_UNSUPPORTED, "send the component itself, as `application/wasm`"));
    }
    let bytes_max = request.app.engine.services.limits.plugin_bytes_max;
    if let Some(size) = request.header(&CONTENT_LENGTH)?.and_then(|text| text.parse::<usize>().ok())
        && size as u64 > bytes_max
    {
        let max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        return Err(InstallError::Refused(Refusal::TooLarge { size, max }).into());
    }
    let bytes = request.bytes(bytes_max).await?;
    let app = request.app.clone();
    let (looked_at, looking) = (bytes.clone(), app.clone());
    let inspection = work::heavy(&app, move || {
        Ok(looking.engine.services.plugins.inspect(&looked_at).map_err(InstallError::from)?)
    })
    .await?;
    // Here, where it ends when the client goes, and not on one of the few threads for what computes.
    app.engine.services.plugins.compile(inspection, &bytes).await?;
    let handle = tokio::runtime::Handle::current();
    // Reading 18 MB of a component takes a while in which this thread could answer others.
    let body = work::heavy(&request.app, move || {
        let services = &app.engine.services;
        let grants = (!grants.is_empty()).then_some(grants);
        let now = services.clock.now();
        let (installed, remarks): (Arc<Installed>, _) =
            handle.block_on(services.plugins.install(&bytes, grants, &services.gateway.rules, now))?;
        tracing::info!(
            plugin = installed.stored.manifest.name,
            version = installed.stored.manifest.version,
            undeclared = remarks.undeclared_imports.len(),
            "a plugin was installed"
        );
        Ok(shown(&installed))
    })
    .await?;
    answer::json(StatusCode::CREATED, &body)
}

/// `GET /v1/plugins`.
pub(super) async fn list(request: Request) -> Result<Response, Problem> {
    let mut params = request.params(&pages::PARAMS)?;
    let services = &request.app.engine.services;
    let wanted = pages::wanted(&mut params, services.limits.list_items_max);
    params.finish()?;
    let key = |p: &Arc<Installed>| format!("{} {}", p.stored.manifest.name, p.stored.manifest.version);
    let page = pages::of_all(services.plugins.all(), &wanted, key, |p| shown(p));
    answer::json(StatusCode::OK, &page)
}
