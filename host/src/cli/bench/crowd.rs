//! Many at once: runs that sleep, calls that wait for Slack's budget, the items of one loop.

use std::path::Path;

use serde_json::{Value, json};

use super::durable::started;
use super::machine::resident_mb;
use super::{BUDGET_SCALE, Bench, Figures, Options, Row, clock};
use crate::cli::child::{Outcome, failed};
use crate::cli::output::say;

const SLEEP: &str = "\
document: { dsl: 1.0.3, namespace: bench, name: sleep, version: 1.0.0 }
do:
  - nap: { wait: { days: 30 } }
";

/// Seconds that the runs sleep which are to wake together.
const NAP_S: u32 = 15;
const NAP: &str = "\
document: { dsl: 1.0.3, namespace: bench, name: nap, version: 1.0.0 }
do:
  - nap: { wait: { seconds: 15 } }
";
/// So many of them, begun within less than a second.
const NAPS: u32 = 1_000;

const SEND: &str = "\
document: { dsl: 1.0.3, namespace: bench, name: send, version: 1.0.0, metadata: { bellhop: { connections: { team: {} } } } }
do:
  - only: { call: message.send:1@slack, with: { connection: team, channel: C0HQIT, text: Hello } }
";

const LOOP: &str = "\
document: { dsl: 1.0.3, namespace: bench, name: loop, version: 1.0.0, metadata: { bellhop: { connections: { team: {} } } } }
do:
  - all:
      for: { in: '${ .items }' }
      metadata: { bellhop: { concurrency: 8 } }
      do:
        - one: { call: message.send:1@slack, with: { connection: team, channel: C0HQIT, text: '${ \"Hello \\($item)\" }' } }
";

/// Sleepers, then what waits, then a loop, as far as they are wanted; each on a host of its own.
pub(super) async fn measure(options: &Options, folder: &Path, figures: &mut Figures) -> Outcome<()> {
    if options.wants(Row::Sleepers) {
        sleepers(options, folder, figures).await?;
    }
    if options.wants(Row::Waiting) {
        waiting(options, folder, figures).await?;
    }
    if options.wants(Row::Items) {
        items(options, folder, figures).await?;
    }
    Ok(())
}

async fn sleepers(options: &Options, folder: &Path, figures: &mut Figures) -> Outcome<()> {
    let mut bench = Bench::start(options, &folder.join("sleeping"), "error").await?;
    bench.apply("sleep", SLEEP).await?;
    bench.apply("nap", NAP).await?;
    let none = json!({ "input": {} });
    started(&bench, "sleep", &none, options.sleepers).await?;
    figures.insert("sleepers_ready_ms", bench.restart().await?);
    started(&bench, "nap", &none, NAPS).await?;
    let mut late = None;
    for _ in 0..60 {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        late = latest_ms(&bench).await?;
        if late.is_some() {
            break;
        }
    }
    let Some(late) = late else { return failed("runs that slept for seconds did not wake in a minute") };
    let rss = resident_mb(bench.pids().0);
    say!("{} asleep: {rss:.0} MB; {NAPS} woke, the latest {late:.0} ms after its time", options.sleepers);
    figures.insert("sleepers_rss_mb", rss);
    figures.insert("sleepers_late_ms", late);
    bench.stop().await
}

/// How long after its time the last of the runs ended that slept for seconds; none while one sleeps.
async fn latest_ms(bench: &Bench) -> Outcome<Option<f64>> {
    let (mut cursor, mut seen, mut latest) = (String::new(), 0, 0.0_f64);
    while seen < NAPS {
        let path = format!("/v1/runs?limit=200&workflow=bench/nap{cursor}");
        let page = bench.send(bench.http.get(bench.url(&path))).await?;
        for run in page["result"].as_array().into_iter().flatten() {
            let Some(ended) = run["endedAt"].as_str() else { return Ok(None) };
            latest = latest.max(millis(ended)? - millis(&run["startedAt"])? - f64::from(NAP_S) * 1e3);
            seen += 1;
        }
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    if seen < NAPS {
        return failed(format!("{seen} runs are listed instead of {NAPS}"));
    }
    Ok(Some(latest))
}

fn millis<'a>(time: impl Into<Time<'a>>) -> Outcome<f64> {
    let Time(text) = time.into();
    let time: jiff::Timestamp = text.parse()?;
    // Milliseconds since 1970 are far below what a double has places for.
    Ok(time.as_millisecond() as f64)
}

/// A time as the host writes it.
struct Time<'a>(&'a str);

impl<'a> From<&'a str> for Time<'a> {
    fn from(text: &'a str) -> Self {
        Self(text)
    }
}

impl<'a> From<&'a Value> for Time<'a> {
    fn from(value: &'a Value) -> Self {
        Self(value.as_str().unwrap_or_default())
    }
}

/// All send to one channel, which takes one message a second.
async fn waiting(options: &Options, folder: &Path, figures: &mut Figures) -> Outcome<()> {
    let mut bench = Bench::start_at(options, &folder.join("waiting"), "error", "1").await?;
    bench.apply("send", SEND).await?;
    bench.restart().await?;
    let idle = resident_mb(bench.pids().0);
    started(&bench, "send", &json!({ "input": {}, "connections": { "team": "acme-hq" } }), options.waiting).await?;
    for _ in 0..60 {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        if bench.metric("bellhop_runs_live").await? < 100.0 {
            break;
        }
    }
    let (rss, waiting) = (resident_mb(bench.pids().0), bench.metric("bellhop_limiter_waiting").await?);
    say!("{waiting:.0} calls wait for Slack's budget: {rss:.0} MB, {:.0} more than idle", rss - idle);
    if waiting < f64::from(options.waiting) * 0.9 {
        return failed(format!("{waiting} calls wait instead of about {}", options.waiting));
    }
    figures.insert("waiting_rss_over_idle_mb", rss - idle);
    bench.stop().await
}

async fn items(options: &Options, folder: &Path, figures: &mut Figures) -> Outcome<()> {
    let bench = Bench::start_at(options, &folder.join("items"), "error", BUDGET_SCALE).await?;
    bench.apply("loop", LOOP).await?;
    let began = clock();
    let items: Vec<u32> = (0..options.items).collect();
    let body = json!({ "input": { "items": items }, "connections": { "team": "acme-hq" } });
    let path = "/v1/workflows/bench/loop/runs?wait=60s";
    let mut view = bench.send(bench.http.post(bench.url(path)).json(&body)).await?;
    for _ in 0..10 {
        if view["status"] != "running" {
            break;
        }
        let path = format!("/v1/runs/{}?wait=60s", view["id"].as_str().unwrap_or_default());
        view = bench.send(bench.http.get(bench.url(&path))).await?;
    }
    if view["status"] != "completed" {
        return failed(format!("the loop is {}: {}", view["status"], view["waiting"]));
    }
    let seconds = began.elapsed().as_secs_f64();
    let rss = resident_mb(bench.pids().0);
    say!("a loop of {} items, 8 at a time, with a write each: {seconds:.1} s, {rss:.0} MB", options.items);
    figures.insert("loop_s", seconds);
    figures.insert("loop_rss_mb", rss);
    bench.stop().await
}
