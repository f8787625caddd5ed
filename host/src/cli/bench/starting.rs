//! From the start of the process until it is ready: empty, and over the runs of a year.

use std::path::Path;

use serde_json::json;

use super::durable::{THREE, together};
use super::machine::resident_mb;
use super::{Bench, Figures, Options, clock, median};
use crate::cli::child::{Outcome, failed};
use crate::cli::output::say;

/// A run that ends at once.
const NOTHING: &str = "\
document: { dsl: 1.0.3, namespace: bench, name: nothing, version: 1.0.0, metadata: { bellhop: { connections: { team: {} } } } }
do:
  - only: { set: { done: true } }
";

/// A run whose message gets no answer and cannot be read back, since Slack fails: it parks.
const DOUBT: &str = "\
document: { dsl: 1.0.3, namespace: bench, name: doubt, version: 1.0.0, metadata: { bellhop: { connections: { team: {} } } } }
do:
  - only: { call: message.send:1@slack, with: { connection: team, channel: C0HQIT, text: Hello } }
";

/// Measures starts after a kill, since those are the ones that matter.
pub(super) async fn measure(options: &Options, folder: &Path, figures: &mut Figures) -> Outcome<()> {
    let mut bench = Bench::start(options, &folder.join("empty"), "warn").await?;
    let mut samples = Vec::new();
    for _ in 0..5 {
        samples.push(bench.restart().await?);
    }
    figures.insert("ready_ms", median(samples));
    figures.insert("idle_rss_mb", resident_mb(bench.pids().0));
    bench.stop().await?;

    let mut bench = Bench::start(options, &folder.join("full"), "error").await?;
    bench.apply("nothing", NOTHING).await?;
    bench.apply("doubt", DOUBT).await?;
    bench.apply("three", THREE).await?;
    let empty = cost_ms(&bench).await?;
    let began = clock();
    together(&bench, "nothing", options.ended).await?;
    let seconds = began.elapsed().as_secs_f64();
    say!("{} runs that do nothing: {:.0} runs/s", options.ended, f64::from(options.ended) / seconds);
    figures.insert("run0_runs_per_s", f64::from(options.ended) / seconds);
    park(&bench, options.parked).await?;
    let mut samples = Vec::new();
    for _ in 0..3 {
        samples.push(bench.restart().await?);
    }
    figures.insert("ready_100k_ms", median(samples));
    figures.insert("ready_100k_rss_mb", resident_mb(bench.pids().0));
    let parked = statuses(&bench, "parked").await?;
    say!("started over {} ended and {parked} parked runs", options.ended);
    if parked != options.parked {
        return failed(format!("{parked} runs are parked instead of {}", options.parked));
    }
    unfault(&bench).await?;
    together(&bench, "nothing", options.ended_in_all.saturating_sub(options.ended)).await?;
    let full = cost_ms(&bench).await?;
    say!(
        "a run of three over an empty store: {:.2} ms one at a time, {:.0} runs/s; over {} ended runs: {:.2} ms, {:.0} runs/s",
        empty.0,
        empty.1,
        options.ended_in_all,
        full.0,
        full.1
    );
    figures.insert("run3_full_p50_ms", full.0);
    figures.insert("run3_full_runs_per_s", full.1);
    figures.insert("run3_full_ratio", (full.0 / empty.0).max(empty.1 / full.1));
    figures.insert("ready_full_ms", bench.restart().await?);
    bench.stop().await
}

/// What a run of three costs now: the median of the milliseconds one at a time, and runs a second at 64.
async fn cost_ms(bench: &Bench) -> Outcome<(f64, f64)> {
    together(bench, "three", 1_000).await?;
    let mut samples = Vec::new();
    for _ in 0..500 {
        samples.push(bench.run("three").await?);
    }
    let began = clock();
    together(bench, "three", 3_000).await?;
    Ok((median(samples), 3_000.0 / began.elapsed().as_secs_f64()))
}

/// Slack is well again.
async fn unfault(bench: &Bench) -> Outcome<()> {
    let faults = format!("http://{}/_sim/faults", bench.slack.address);
    let removed = bench.http.delete(&faults).send().await?;
    if !removed.status().is_success() {
        return failed(format!("the simulator keeps its faults: {}", removed.text().await?));
    }
    Ok(())
}

/// Starts runs that park, and waits until they have.
async fn park(bench: &Bench, many: u32) -> Outcome<()> {
    let slack = format!("http://{}/_sim/faults", bench.slack.address);
    for fault in [
        json!({ "method": "chat.postMessage", "times": 0, "action": "cut_after_accept" }),
        json!({ "method": "conversations.history", "times": 0, "action": { "refuse": { "error": "missing_scope" } } }),
    ] {
        let added = bench.http.post(&slack).json(&fault).send().await?;
        if !added.status().is_success() {
            return failed(format!("the simulator refused a fault: {}", added.text().await?));
        }
    }
    for _ in 0..many {
        let body = json!({ "input": {}, "connections": { "team": "acme-hq" } });
        bench.send(bench.http.post(bench.url("/v1/workflows/bench/doubt/runs")).json(&body)).await?;
    }
    for _ in 0..1_200 {
        if statuses(bench, "parked").await? == many {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    failed("the runs did not park")
}

/// How many runs have that status.
async fn statuses(bench: &Bench, status: &str) -> Outcome<u32> {
    let mut count = 0;
    let mut cursor = String::new();
    loop {
        let page =
            bench.send(bench.http.get(bench.url(&format!("/v1/runs?limit=200&status={status}{cursor}")))).await?;
        count += u32::try_from(page["result"].as_array().map_or(0, Vec::len))?;
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(count),
        }
    }
}
