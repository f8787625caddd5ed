//! `GET /metrics`, in the text form of OpenMetrics, which Prometheus reads. Names and labels are few and fixed: none comes
//! from a request.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;
use axum::response::Response;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::App;
use super::answer;
use super::problem::Problem;
use super::request::{self, Request};

/// What is offered; the second one for collectors that are older. The text is the same, because they read it too.
pub(super) const FORMS: &[&str] = &["application/openmetrics-text", "text/plain"];

/// Answers with everything that is counted.
pub(super) async fn metrics(request: Request) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    let mut text = String::with_capacity(8 << 10);
    encode(&mut text, &counted(&request.app)).map_err(|error| Problem::internal(&error.to_string()))?;
    let form = if request::accepts(&request.headers, &FORMS[..1]) {
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    } else {
        "text/plain; version=0.0.4; charset=utf-8"
    };
    Ok(answer::bytes(StatusCode::OK, form, text))
}

/// What there is at this moment. The counters stand where they are counted, and are only read here.
fn counted(app: &App) -> Registry {
    let services = &app.engine.services;
    let journal = services.journal.stats();
    let counters = &services.counters;
    let (idle, kept) = services.waiting();
    let mut all = Registry::with_prefix("bellhop");
    for (name, help, value) in [
        ("runs_accepted", "Runs accepted since the start", load(&counters.accepted)),
        ("runs_left", "Runs that left memory since the start, ended or at rest", load(&counters.left)),
        ("journal_batches", "Batches accepted by the journal", journal.batches),
        ("journal_groups", "Groups of batches written", journal.groups),
        ("journal_syncs", "Synchronisations of the disk", journal.syncs),
        ("journal_syncs_waited", "Synchronisations that somebody waited for", journal.syncs_waited),
        ("journal_written_bytes", "Bytes of keys and values written", journal.bytes),
    ] {
        all.register(name, help, ConstCounter::new(value));
    }
    for (name, help, value) in [
        ("runs_live", "Runs in memory", app.engine.runs.live() as u64),
        ("resolving", "Unknown outcomes that are being read back", load(&counters.resolving)),
        ("journal_queue_batches", "Batches accepted and not yet durable", journal.queue_batches as u64),
        ("journal_queue_bytes", "Their bytes", journal.queue_bytes as u64),
        ("disk_lacks_room", "1 while nothing begins for lack of room", u64::from(journal.lack.is_some())),
        ("facts_damaged", "Facts of no run that cannot be read", services.journal.damages().len() as u64),
        ("limiter_waiting", "Calls that wait for Slack's budget", services.gateway.limiter.waiting() as u64),
        ("waiting_runs", "Runs in memory that only wait for a turn", idle as u64),
        ("turns_kept", "Turns kept for runs that were put down meanwhile", kept as u64),
        ("sandbox_free_slots", "Actions that could start without waiting", services.plugins.free_slots() as u64),
        ("http_connections", "HTTP connections", load(&app.counters.connections)),
        ("http_event_streams", "Readers of event streams", load(&app.counters.streams)),
        ("ready", "1 when ready", u64::from(app.engine.is_ready())),
    ] {
        all.register(name, help, ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)));
    }
    let answers = Family::<[(&str, String); 1], Counter>::default();
    for (class, count) in app.counters.answers.iter().enumerate().skip(1) {
        answers.get_or_create(&[("status", format!("{class}xx"))]).inc_by(load(count));
    }
    all.register("http_answers", "Answers by class of status", answers);
    all
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
