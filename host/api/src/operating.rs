//! For whoever keeps the host running.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::problem::{self, Problem};
use super::request::Request;
use super::{answer, clock};
use bellhop_engine::Engine;

/// `GET /healthz`: the process answers, and what it keeps is kept.
pub(super) async fn health(request: Request) -> Result<Response, Problem> {
    if request.app.engine.services.fatal.borrow().is_some() {
        return Err(Problem::later(problem::UNAVAILABLE, "the store failed; the host ends", Duration::from_secs(10)));
    }
    answer::json(StatusCode::OK, &json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
}

/// `GET /readyz`.
pub(super) async fn ready(request: Request) -> Result<Response, Problem> {
    // Said first: a host that starts without room becomes ready when there is some.
    request.app.engine.services.journal.room()?;
    must_be_ready(&request.app.engine)?;
    clock::must_be_believed(&request.app.engine)?;
    // Ready all the same: only what needs one of these is refused.
    let mut damaged: BTreeMap<&str, u64> = BTreeMap::new();
    for damage in request.app.engine.services.journal.damages() {
        *damaged.entry(damage.kind()).or_default() += 1;
    }
    // Of many connections one may be broken: the host works. Who may see which is told by their list.
    let mut broken: BTreeSet<String> = request.app.engine.connections.broken().into_keys().collect();
    let connected = request.app.engine.services.gateway.connections();
    broken.extend(connected.iter().filter(|one| one.lacks().is_some()).map(|one| one.facts.name.clone()));
    let broken = broken.len();
    let mut body = json!({ "status": "ready" });
    if broken > 0 {
        body["connections_broken"] = json!(broken);
    }
    if !damaged.is_empty() {
        // By kind alone: whoever asks has no token. The log has the names.
        let code = problem::STORAGE_DAMAGED.code;
        body["damaged"] =
            damaged.iter().map(|(kind, count)| json!({ "code": code, "kind": kind, "count": count })).collect();
    }
    answer::json(StatusCode::OK, &body)
}

/// Ok when open runs are folded or indexed, timers and keys are there, and the host is not stopping.
pub(super) fn must_be_ready(engine: &Engine) -> Result<(), Problem> {
    if engine.is_draining() {
        return Err(Problem::draining());
    }
    if let Some(restore) = engine.awaits_go_on() {
        return Err(Problem::restored(restore.instant));
    }
    if !engine.is_ready() {
        let detail = "the host takes up what was open when it stopped";
        return Err(Problem::later(problem::NOT_READY, detail, Duration::from_secs(1)));
    }
    Ok(())
}
