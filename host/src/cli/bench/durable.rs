//! Durable runs over HTTP: three actions, one after the other, with one Slack write each.

use std::path::Path;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::machine::{Traced, cpu_s, resident_mb};
use super::{BUDGET_SCALE, Bench, Figures, Options, borrowed, clock, median};
use crate::cli::child::{Outcome, failed};
use crate::cli::output::say;

pub(super) const THREE: &str = "\
document: { dsl: 1.0.3, namespace: bench, name: three, version: 1.0.0, metadata: { bellhop: { connections: { team: {} } } } }
do:
  - one: { call: message.send:1@slack, with: { connection: team, channel: C0HQIT, text: '${ .text }' }, output: { as: '${ $workflow.input }' } }
  - two: { call: message.send:1@slack, with: { connection: team, channel: C0HQIT, text: '${ .text }' }, output: { as: '${ $workflow.input }' } }
  - three: { call: message.send:1@slack, with: { connection: team, channel: C0HQIT, text: '${ .text }' } }
";

const ROUNDS: u32 = 3;
const TOGETHER: u32 = 64;
const TRACED: u32 = 200;

/// Runs them one at a time and 64 at a time, and looks into the ledger.
pub(super) async fn measure(options: &Options, folder: &Path, figures: &mut Figures) -> Outcome<()> {
    let mut bench = Bench::start(options, &folder.join("durable"), "warn").await?;
    bench.apply("three", THREE).await?;
    let pids = bench.pids();
    say!(
        "host pid {}, simulator pid {}: `serve` with its defaults, Slack's budget times {BUDGET_SCALE}",
        pids.0,
        pids.1
    );
    let mut done = 0_u32;
    for _ in 0..100 {
        bench.run("three").await?;
        done += 1;
    }
    let each = options.runs / ROUNDS;
    let alone = each / 5;
    let (mut p50s, mut p99s, mut rates, mut host_cpu) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let mut samples = Vec::new();
        for _ in 0..alone {
            samples.push(bench.run("three").await?);
        }
        samples.sort_by(f64::total_cmp);
        p50s.push(samples[samples.len() / 2]);
        p99s.push(samples[samples.len() * 99 / 100]);
        let many = each - alone;
        let cpu = (cpu_s(pids.0), cpu_s(pids.1), cpu_s(std::process::id()));
        let began = clock();
        together(&bench, "three", many).await?;
        let seconds = began.elapsed().as_secs_f64();
        done += each;
        rates.push(f64::from(many) / seconds);
        host_cpu.push((cpu_s(pids.0) - cpu.0) * 1e3 / f64::from(many));
        say!(
            "round {round}: {alone} one at a time p50 {:.2} ms, p99 {:.2} ms; {many} at {TOGETHER}: {:.0} runs/s in {seconds:.2} s; CPU host {:.2} s, simulator {:.2} s, client {:.2} s",
            p50s[p50s.len() - 1],
            p99s[p99s.len() - 1],
            rates[rates.len() - 1],
            cpu_s(pids.0) - cpu.0,
            cpu_s(pids.1) - cpu.1,
            cpu_s(std::process::id()) - cpu.2,
        );
    }
    figures.insert("run3_p50_ms", median(p50s));
    figures.insert("run3_p99_ms", median(p99s));
    figures.insert("run3_runs_per_s", median(rates));
    figures.insert("run3_host_cpu_ms", median(host_cpu));
    figures.insert("loaded_rss_mb", resident_mb(pids.0));
    figures.insert("ready_after_runs_ms", bench.restart().await?);
    if let Some((all, syncs)) = synchronisations(&mut bench).await? {
        done += 2 * TRACED;
        say!("synchronisations a run, one at a time: {all:.2}, of which {syncs:.2} were waited for");
        figures.insert("run3_syncs_all", all);
        // Weaker durability than `serve` has would show here: the second and third intent and the end each need one of
        // their own; the first intent may share that of the acceptance, since a run begins at once.
        if all < 4.0 {
            return failed("an acceptance, three intents and an end were told with fewer than four synchronisations");
        }
        figures.insert("run3_syncs", syncs);
    }
    let posted = std::fs::read_to_string(&bench.ledger)?.lines().filter(|l| l.contains("\"chat.postMessage\"")).count();
    if posted != done as usize * 3 {
        return failed(format!("the ledger has {posted} messages instead of {}", done * 3));
    }
    say!("the ledger has all {posted} messages, each once");
    figures.insert("runs", f64::from(done));
    bench.stop().await
}

/// Synchronisations a run, counted by strace from outside, and how many are left of them without those that the host
/// says nobody waited for; none where there is no strace.
async fn synchronisations(bench: &mut Bench) -> Outcome<Option<(f64, f64)>> {
    bench.host.kill().await?;
    let Some(traced) = Traced::start(&bench.program, &borrowed(&bench.arguments), &bench.log).await? else {
        bench.restart().await?;
        return Ok(None);
    };
    let address = std::mem::replace(&mut bench.host.address, traced.process.address.clone());
    bench.ready(clock()).await?;
    for _ in 0..TRACED {
        bench.run("three").await?;
    }
    let before = (traced.count()?, unwaited(bench).await?);
    for _ in 0..TRACED {
        bench.run("three").await?;
    }
    let after = (traced.count()?, unwaited(bench).await?);
    traced.kill().await?;
    bench.host.address = address;
    let each = |count: u32| f64::from(count) / f64::from(TRACED);
    let all = after.0 - before.0;
    Ok(Some((each(all), each(all - (after.1 - before.1)))))
}

/// Synchronisations so far that nobody waited for.
async fn unwaited(bench: &Bench) -> Outcome<u32> {
    let all = bench.metric("bellhop_journal_syncs_total").await?;
    // A count of a few minutes.
    Ok((all - bench.metric("bellhop_journal_syncs_waited_total").await?) as u32)
}

/// So many runs, 64 of them at any time.
pub(super) async fn together(bench: &Bench, workflow: &str, many: u32) -> Outcome<()> {
    let mut open = FuturesUnordered::new();
    let mut begun = 0;
    while begun < many.min(TOGETHER) {
        open.push(bench.run(workflow));
        begun += 1;
    }
    while let Some(ended) = open.next().await {
        ended?;
        if begun < many {
            open.push(bench.run(workflow));
            begun += 1;
        }
    }
    Ok(())
}

/// Starts so many runs with `body`, 64 requests at any time, and waits for none.
pub(super) async fn started(bench: &Bench, workflow: &str, body: &serde_json::Value, many: u32) -> Outcome<()> {
    let url = bench.url(&format!("/v1/workflows/bench/{workflow}/runs"));
    let start = || bench.send(bench.http.post(&url).json(body));
    let mut open = FuturesUnordered::new();
    let mut begun = 0;
    while begun < many.min(TOGETHER) {
        open.push(start());
        begun += 1;
    }
    while let Some(accepted) = open.next().await {
        accepted?;
        if begun < many {
            open.push(start());
            begun += 1;
        }
    }
    Ok(())
}
