//! For whoever keeps the host running.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::answer;
use super::problem::{self, Problem};
use super::request::Request;
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
    if !engine.is_ready() {
        let detail = "the host takes up what was open when it stopped";
        return Err(Problem::later(problem::NOT_READY, detail, Duration::from_secs(1)));
    }
    Ok(())
}

/// `GET /metrics`, in the text form of Prometheus. Names and labels are few and fixed: none comes from a request.
pub(super) async fn metrics(request: Request) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    let app = &request.app;
    let services = &app.engine.services;
    let journal = services.journal.stats();
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let counters = &services.counters;
    let (idle, kept) = services.waiting();
    let lines: [(&str, &str, &str, u64); 20] = [
        ("runs_live", "gauge", "Runs in memory", app.engine.runs.live() as u64),
        ("runs_accepted_total", "counter", "Runs accepted since the start", load(&counters.accepted)),
        ("runs_left_total", "counter", "Runs that left memory since the start, ended or at rest", load(&counters.left)),
        ("resolving", "gauge", "Unknown outcomes that are being read back", load(&counters.resolving)),
        ("journal_batches_total", "counter", "Batches accepted by the journal", journal.batches),
        ("journal_groups_total", "counter", "Groups of batches written", journal.groups),
        ("journal_syncs_total", "counter", "Synchronisations of the disk", journal.syncs),
        ("journal_syncs_waited_total", "counter", "Synchronisations that somebody waited for", journal.syncs_waited),
        ("journal_written_bytes_total", "counter", "Bytes of keys and values written", journal.bytes),
        ("journal_queue_batches", "gauge", "Batches accepted and not yet durable", journal.queue_batches as u64),
        ("journal_queue_bytes", "gauge", "Their bytes", journal.queue_bytes as u64),
        ("disk_lacks_room", "gauge", "1 while nothing begins for lack of room", u64::from(journal.lack.is_some())),
        ("facts_damaged", "gauge", "Facts of no run that cannot be read", services.journal.damages().len() as u64),
        ("limiter_waiting", "gauge", "Calls that wait for Slack's budget", services.gateway.limiter.waiting() as u64),
        ("waiting_runs", "gauge", "Runs in memory that only wait for a turn", idle as u64),
        ("turns_kept", "gauge", "Turns kept for runs that were put down meanwhile", kept as u64),
        (
            "sandbox_free_slots",
            "gauge",
            "Actions that could start without waiting",
            services.plugins.free_slots() as u64,
        ),
        ("http_connections", "gauge", "HTTP connections", load(&app.counters.connections)),
        ("http_event_streams", "gauge", "Readers of event streams", load(&app.counters.streams)),
        ("ready", "gauge", "1 when ready", u64::from(app.engine.is_ready())),
    ];
    let mut text = String::with_capacity(4096);
    for (name, kind, help, value) in lines {
        let _ = write!(text, "# HELP bellhop_{name} {help}.\n# TYPE bellhop_{name} {kind}\nbellhop_{name} {value}\n");
    }
    text.push_str(
        "# HELP bellhop_http_answers_total Answers by class of status.\n# TYPE bellhop_http_answers_total counter\n",
    );
    for (class, count) in app.counters.answers.iter().enumerate().skip(1) {
        let _ = writeln!(text, "bellhop_http_answers_total{{status=\"{class}xx\"}} {}", load(count));
    }
    Ok(answer::bytes(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text))
}
