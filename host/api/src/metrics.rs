//! `GET /metrics`, in the text form of OpenMetrics, which Prometheus reads. Names and labels are few and fixed: none comes
//! from a request, and none is of a run or a person.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use axum::response::Response;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::answer;
use super::problem::Problem;
use super::process::Process;
use super::request::{self, Request};
use super::{App, Counters};
use bellhop_engine::Services;
use bellhop_journal::Spread;

/// What is offered; the second one for collectors that are older. The text is the same, because they read it too.
pub(super) const FORMS: &[&str] = &["application/openmetrics-text", "text/plain"];

/// Answers with everything that is counted.
pub(super) async fn metrics(request: Request) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    let mut text = String::with_capacity(32 << 10);
    encode(&mut text, &counted(&request.app)).map_err(|error| Problem::internal(&error.to_string()))?;
    let form = if request::accepts(&request.headers, &FORMS[..1]) {
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    } else {
        "text/plain; version=0.0.4; charset=utf-8"
    };
    Ok(answer::bytes(StatusCode::OK, form, text))
}

impl Counters {
    /// Nothing has been counted yet.
    pub(super) fn new() -> Self {
        Self {
            connections: AtomicU64::default(),
            streams: AtomicU64::default(),
            durations: Family::new_with_constructor(seconds),
        }
    }

    /// Counts an answer. `route` is an address of the table, or empty where none fits.
    pub(super) fn answered(&self, verb: &'static str, route: &'static str, status: StatusCode, took: Duration) {
        let series = [
            ("http_request_method", verb.to_owned()),
            ("http_route", route.to_owned()),
            ("http_response_status_code", status.as_str().to_owned()),
        ];
        self.durations.get_or_create(&series).observe(took.as_secs_f64());
    }
}

/// Bounds by which the conventions count requests, and one below them.
fn seconds() -> Histogram {
    Histogram::new([0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0])
}

/// A method as the conventions have it: a client can send any text as one.
pub(super) fn verb(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("_OTHER")
}

/// What there is at this moment. The counters stand where they are counted, and are only read here.
fn counted(app: &App) -> Registry {
    let mut all = Registry::default();
    of_the_process(&mut all, &Process::now());
    all.register(
        "http_server_request_duration_seconds",
        "Requests, until their answer began",
        app.counters.durations.clone(),
    );
    let own = all.sub_registry_with_prefix("bellhop");
    let build = Family::<[(&'static str, &'static str); 1], Gauge>::default();
    build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
    own.register("build_info", "The program; always 1", build);
    of_runs(own, app);
    of_the_journal(own, &app.engine.services);
    of_guests_and_slack(own, &app.engine.services);
    for (name, help, value) in [
        ("http_connections", "HTTP connections", load(&app.counters.connections)),
        ("http_event_streams", "Readers of event streams", load(&app.counters.streams)),
        ("ready", "1 when ready", u64::from(app.engine.is_ready())),
    ] {
        gauge(own, name, help, value);
    }
    all
}

fn of_runs(own: &mut Registry, app: &App) {
    let services = &app.engine.services;
    let counters = &services.counters;
    let (idle, kept) = services.waiting();
    let (timers, tasks) = services.timers_and_tasks();
    counter(own, "runs_accepted", "Runs accepted since the start", load(&counters.accepted));
    counter(own, "runs_left", "Runs that left memory since the start, ended or at rest", load(&counters.left));
    own.register("run_duration_seconds", "Runs that ended, from the acceptance on", counters.run_durations.clone());
    let open = Family::<[(&'static str, &'static str); 1], Gauge>::default();
    for (stands, count) in services.open_runs() {
        open.get_or_create(&[("status", stands)]).set(number(count));
    }
    own.register("runs_open", "Runs that have not ended, by how they stand", open);
    for (name, help, value) in [
        ("runs_live", "Runs in memory", app.engine.runs().live() as u64),
        (
            "runs_in_line",
            "Runs that have something to do and wait for a place in memory",
            app.engine.runs().in_line() as u64,
        ),
        ("runs_set_aside", "Runs that cannot be taken up and wait for a person", app.engine.runs().aside() as u64),
        ("resolving", "Unknown outcomes that are being read back", load(&counters.resolving)),
        ("waiting_runs", "Runs in memory that only wait for a turn", idle as u64),
        ("turns_kept", "Turns kept for runs that were put down meanwhile", kept as u64),
        ("timers", "Timers in memory; further ones are in the store", timers as u64),
        ("tasks", "Tasks of the threads that carry runs", tasks as u64),
    ] {
        gauge(own, name, help, value);
    }
    if let Some(traces) = &services.traces {
        let spans = Family::<[(&'static str, &'static str); 1], Counter>::default();
        let counts = traces.counts();
        for (outcome, count) in [("sent", counts.sent), ("dropped", counts.dropped), ("lost", counts.lost)] {
            spans.get_or_create(&[("outcome", outcome)]).inc_by(count);
        }
        own.register("trace_spans", "Spans since the start, by what became of them", spans);
    }
}

fn of_the_journal(own: &mut Registry, services: &Services) {
    let journal = services.journal.stats();
    for (name, help, value) in [
        ("journal_batches", "Batches accepted by the journal", journal.batches),
        ("journal_groups", "Groups of batches written", journal.groups),
        ("journal_syncs", "Synchronisations of the disk", journal.syncs),
        ("journal_syncs_waited", "Synchronisations that somebody waited for", journal.syncs_waited),
        ("journal_written_bytes", "Bytes of keys and values written", journal.bytes),
    ] {
        counter(own, name, help, value);
    }
    for (name, help, value) in [
        ("journal_queue_batches", "Batches accepted and not yet durable", journal.queue_batches as u64),
        ("journal_queue_bytes", "Their bytes", journal.queue_bytes as u64),
        ("disk_lacks_room", "1 while nothing begins for lack of room", u64::from(journal.lack.is_some())),
        ("clock_doubted", "1 while the machine's clock is doubted", u64::from(services.time.doubt().is_some())),
        ("facts_damaged", "Facts of no run that cannot be read", services.journal.damages().len() as u64),
    ] {
        gauge(own, name, help, value);
    }
    if let Some(room) = journal.room {
        gauge(own, "disk_free_bytes", "Room on the disk of the store", room.free);
        gauge(own, "disk_size_bytes", "That disk", room.total);
    }
    let groups = Shown { spread: journal.group_batches, unit: 1.0, places: 0..13 };
    own.register("journal_group_batches", "Batches that became durable with one synchronisation", groups);
    let syncs = Shown { spread: journal.sync_us, unit: 1e-6, places: 6..23 };
    own.register("journal_sync_seconds", "Synchronisations of the disk", syncs);
}

fn of_guests_and_slack(own: &mut Registry, services: &Services) {
    let (guests, waiting) = services.plugins.guests();
    for (name, help, value) in [
        ("sandbox_free_slots", "Actions that could start without waiting", services.plugins.free_slots() as u64),
        ("sandbox_guests", "Guests that there are now", guests),
        ("sandbox_guests_waiting", "Actions that wait for a place for their guest", waiting),
        ("sandbox_compiling", "Plugins that are being compiled or wait for that", services.plugins.compiling() as u64),
        ("limiter_waiting", "Calls that wait for Slack's budget", services.gateway.limiter.waiting() as u64),
    ] {
        gauge(own, name, help, value);
    }
    let waits = services.counters.budget_waits.clone();
    own.register("limiter_wait_seconds", "How long calls were told to wait for Slack's budget", waits);
    let durations = services.gateway.durations.clone();
    own.register("slack_call_duration_seconds", "Requests to Slack, by method and by how they ended", durations);
}

/// By the names that all have.
fn of_the_process(all: &mut Registry, process: &Process) {
    let Process { cpu_s, resident_bytes, virtual_bytes, started_s, threads, open_fds, max_fds } = *process;
    if let Some(seconds) = cpu_s {
        all.register("process_cpu_seconds", "Processor time, of user and system", ConstCounter::new(seconds));
    }
    if let Some(seconds) = started_s {
        all.register("process_start_time_seconds", "Start of the process since 1970", ConstGauge::new(seconds));
    }
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Memory in use", resident_bytes),
        ("process_virtual_memory_bytes", "Addresses in use", virtual_bytes),
        ("process_threads", "Threads", threads),
        ("process_open_fds", "Descriptors that are open", open_fds),
        ("process_max_fds", "Descriptors that may be open", max_fds),
    ] {
        if let Some(value) = value {
            gauge(all, name, help, value);
        }
    }
}

/// A spread of the journal's, as a histogram.
#[derive(Debug)]
struct Shown {
    spread: Spread,
    /// What a number is multiplied by.
    unit: f64,
    /// The powers of two that are shown as bounds.
    places: std::ops::Range<usize>,
}

impl EncodeMetric for Shown {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let all: u64 = self.spread.counts.iter().sum();
        let mut buckets = Vec::with_capacity(self.places.len() + 1);
        // What is below the first bound is counted there, and what is above the last in the one without a bound.
        let mut below = 0;
        for (place, count) in self.spread.counts.iter().enumerate().take(self.places.end) {
            below += count;
            if place >= self.places.start {
                buckets.push(((1_u64 << place) as f64 * self.unit, std::mem::take(&mut below)));
            }
        }
        let counted: u64 = buckets.iter().map(|(_, count)| count).sum();
        buckets.push((f64::INFINITY, all - counted));
        encoder.encode_histogram::<NoLabelSet>(self.spread.sum as f64 * self.unit, all, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

fn counter(registry: &mut Registry, name: &str, help: &str, value: u64) {
    registry.register(name, help, ConstCounter::new(value));
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: u64) {
    registry.register(name, help, ConstGauge::new(number(value)));
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
