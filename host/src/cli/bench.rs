//! `bellhop bench`: a ladder in one run, from a bare call into WebAssembly to a durable run over HTTP.
//!
//! The host is the one that `bellhop serve` starts, with its defaults but for Slack's budget, which is multiplied and
//! printed; the simulator is a process of its own; the store is on a file system that is named. What Slack did is
//! counted in the simulator's ledger.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use reqwest::Client;
use serde_json::{Value, json};

use super::child::{Outcome, Process, failed};
use crate::limits::Limits;
use crate::sandbox::{self, Halt, Host, Package};

/// Slack's budget is multiplied by this: without it, one message a second would be measured.
const BUDGET_SCALE: &str = "1000000";

/// What is measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// The component with the Slack actions
    #[arg(long, value_name = "FILE", default_value = "target/plugins/slack.wasm")]
    pub(crate) plugin: PathBuf,
    /// Where the store is put; a folder on a disk
    #[arg(long, value_name = "FOLDER", default_value = "target/bench")]
    pub(crate) folder: PathBuf,
    /// Durable runs in all
    #[arg(long, value_name = "NUMBER", default_value_t = 12_000)]
    pub(crate) runs: u32,
    /// Where the figures go
    #[arg(long, value_name = "FILE", default_value = "target/bench.json")]
    pub(crate) output_file: PathBuf,
}

#[allow(clippy::disallowed_methods, reason = "measuring time is what this is for")]
fn clock() -> Instant {
    Instant::now()
}

/// A host that answers every call at once.
struct Immediately;

impl Host for Immediately {
    fn call<'a>(&'a mut self, _: &'a str, _: String) -> BoxFuture<'a, Result<Result<String, String>, Halt>> {
        Box::pin(std::future::ready(Ok(Ok(ANSWER.to_owned()))))
    }
    fn log(&mut self, _: &str, _: &str) {}
}

const ANSWER: &str = r#"{"ok":true,"channel":"C0HQIT","ts":"1.000100"}"#;

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Runs the ladder, prints it and writes the figures.
pub(crate) async fn run(options: &Options) -> Outcome<()> {
    std::fs::create_dir_all(&options.folder)?;
    let mut figures: BTreeMap<&'static str, f64> = BTreeMap::new();
    println!("file system of {}: {}", options.folder.display(), file_system(&options.folder));
    let fdatasync_ms = fdatasync(&options.folder)?;
    println!("fdatasync of a 300-byte append: {fdatasync_ms:.3} ms (median of 200)");
    figures.insert("fdatasync_ms", fdatasync_ms);
    ladder(options, &mut figures).await?;
    durable(options, &mut figures).await?;
    println!("\n{:<28}{:>14}", "figure", "value");
    for (name, value) in &figures {
        println!("{name:<28}{value:>14.3}");
    }
    std::fs::write(&options.output_file, serde_json::to_string_pretty(&figures)?)?;
    println!("\nwritten to {}", options.output_file.display());
    Ok(())
}

async fn ladder(options: &Options, figures: &mut BTreeMap<&'static str, f64>) -> Outcome<()> {
    let bytes = std::fs::read(&options.plugin)?;
    let sandbox = crate::serve::sandbox(&options.folder, &Limits::default())?;
    let package = sandbox.prepare(&bytes).await?;
    let input = json!({
        "input": { "channel": "C0HQIT", "text": "Hello" },
        "context": { "run": "r", "task": "/do/0/x#0", "attempt": 1, "dryRun": false, "startedAt": "2026-01-01T00:00:00.000Z",
            "connection": { "name": "acme-hq", "kind": "grid-workspace", "plan": "enterprise", "workspaceId": "T0HQ", "enterpriseId": "E0ACME" } },
    })
    .to_string();
    let bare = sandbox::bench::Bare::new(&package, ANSWER)?;
    let rounds = 3;
    let calls = 3_000;
    let (mut bare_us, mut ours_us) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let began = clock();
        for _ in 0..calls {
            let answered = bare.call("message.send", &input).await?;
            if answered.is_err() {
                return failed(format!("the bare rung answered {answered:?}"));
            }
        }
        bare_us.push(began.elapsed().as_secs_f64() * 1e6 / f64::from(calls));
        let began = clock();
        for _ in 0..calls {
            call(&package, &input).await?;
        }
        ours_us.push(began.elapsed().as_secs_f64() * 1e6 / f64::from(calls));
    }
    let (bare, ours) = (median(bare_us), median(ours_us));
    println!("bare wasmtime, one capability call: {bare:.1} µs; our action call, the same: {ours:.1} µs");
    figures.insert("bare_call_us", bare);
    figures.insert("action_call_us", ours);
    figures.insert("action_call_ratio", ours / bare);
    Ok(())
}

async fn call(package: &Package, input: &str) -> Outcome<()> {
    let call = sandbox::Call {
        action: "message.send",
        input,
        budget: sandbox::Budget::default(),
        context: sandbox::Context::default(),
    };
    match package.run(call, Immediately).await? {
        Ok(_) => Ok(()),
        Err(error) => failed(format!("the action answered an error: {error}")),
    }
}

/// Three sequential actions with one Slack write each.
const WORKFLOW: &str = "\
document: { dsl: 1.0.3, namespace: bench, name: three, version: 1.0.0 }
do:
  - one: { call: message.send:1@slack, with: { channel: C0HQIT, text: '${ .text }' }, output: { as: '${ $workflow.input }' } }
  - two: { call: message.send:1@slack, with: { channel: C0HQIT, text: '${ .text }' }, output: { as: '${ $workflow.input }' } }
  - three: { call: message.send:1@slack, with: { channel: C0HQIT, text: '${ .text }' } }
";

struct Bench {
    http: Client,
    host: Process,
    token: String,
}

impl Bench {
    async fn send(&self, request: reqwest::RequestBuilder) -> Outcome<Value> {
        let answer = request.bearer_auth(&self.token).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            return failed(format!("the host answered {status}: {text}"));
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host.address)
    }

    /// One run, from the trigger to its end; milliseconds.
    async fn one(&self) -> Outcome<f64> {
        let began = clock();
        let request = self
            .http
            .post(self.url("/v1/workflows/bench/three/runs?wait=30s"))
            .json(&json!({ "input": { "text": "Hello" } }));
        let view = self.send(request).await?;
        if view["status"] != "completed" {
            return failed(format!("a run is not completed: {view}"));
        }
        Ok(began.elapsed().as_secs_f64() * 1e3)
    }
}

async fn durable(options: &Options, figures: &mut BTreeMap<&'static str, f64>) -> Outcome<()> {
    let folder = tempfile::tempdir_in(&options.folder)?;
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let ledger = path("ledger.jsonl");
    let slack = Process::start(
        &["slack-simulator", "--listen", "127.0.0.1:0", "--ledger", &ledger, "--budget-scale", BUDGET_SCALE],
        &folder.path().join("simulator.log"),
    )
    .await?;
    let slack_url = format!("http://{}", slack.address);
    let data = path("data");
    let arguments = [
        "serve",
        "--data-dir",
        &data,
        "--listen",
        "127.0.0.1:0",
        "--slack-url",
        &slack_url,
        "--budget-scale",
        BUDGET_SCALE,
        "--log",
        "warn",
    ];
    let log = folder.path().join("host.log");
    let host = Process::start(&arguments, &log).await?;
    let Some(token) = host.token.clone() else { return failed("the host printed no token") };
    let pids = (host.child.id().unwrap_or_default(), slack.child.id().unwrap_or_default());
    println!(
        "host pid {}, simulator pid {}; `serve` with its defaults, Slack's budget times {BUDGET_SCALE}",
        pids.0, pids.1
    );
    let http = Client::builder().no_proxy().tcp_nodelay(true).build()?;
    let mut bench = Bench { http, host, token };
    let began = clock();
    ready(&bench, began).await?;
    let plugin = std::fs::read(&options.plugin)?;
    bench
        .send(bench.http.post(bench.url("/v1/plugins")).header("Content-Type", "application/wasm").body(plugin))
        .await?;
    let hq =
        json!({ "name": "acme-hq", "kind": "grid-workspace", "permission": "act", "tokens": { "bot": "xoxb-hq" } });
    bench.send(bench.http.post(bench.url("/v1/connections")).json(&hq)).await?;
    let put = bench.http.put(bench.url("/v1/workflows/bench/three")).header("Content-Type", "application/yaml");
    bench.send(put.body(WORKFLOW)).await?;
    figures.insert("idle_rss_mb", resident_mb(pids.0));
    for _ in 0..50 {
        bench.one().await?;
    }
    let rounds = 3_u32;
    let each = (options.runs / rounds).max(100);
    let alone = each / 5;
    let (mut p50s, mut p99s, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    let mut done = 50_u32;
    for round in 1..=rounds {
        let mut samples = Vec::new();
        for _ in 0..alone {
            samples.push(bench.one().await?);
        }
        samples.sort_by(f64::total_cmp);
        p50s.push(samples[samples.len() / 2]);
        p99s.push(samples[samples.len() * 99 / 100]);
        let together = each - alone;
        let cpu_before = (cpu_s(pids.0), cpu_s(pids.1));
        let began = clock();
        let mut open = FuturesUnordered::new();
        let mut begun = 0;
        while begun < together.min(64) {
            open.push(bench.one());
            begun += 1;
        }
        while let Some(ended) = open.next().await {
            ended?;
            if begun < together {
                open.push(bench.one());
                begun += 1;
            }
        }
        drop(open);
        let seconds = began.elapsed().as_secs_f64();
        rates.push(f64::from(together) / seconds);
        done += each;
        println!(
            "round {round}: {alone} one at a time p50 {:.2} ms; {together} at 64: {:.0} runs/s; CPU host {:.2} s, simulator {:.2} s, in {seconds:.2} s",
            p50s[p50s.len() - 1],
            rates[rates.len() - 1],
            cpu_s(pids.0) - cpu_before.0,
            cpu_s(pids.1) - cpu_before.1,
        );
    }
    figures.insert("run3_p50_ms", median(p50s));
    figures.insert("run3_p99_ms", median(p99s));
    figures.insert("run3_runs_per_s", median(rates));
    figures.insert("loaded_rss_mb", resident_mb(pids.0));
    let posted = std::fs::read_to_string(&ledger)?.lines().filter(|l| l.contains("\"chat.postMessage\"")).count();
    if posted != done as usize * 3 {
        return failed(format!("the ledger has {posted} messages instead of {}", done * 3));
    }
    println!("the ledger has all {posted} messages, each once");
    figures.insert("runs", f64::from(done));
    if let Some(syncs) = synchronisations(&bench, pids.0).await? {
        figures.insert("run3_syncs", syncs);
    }
    // Killed, not stopped: a start after a crash is the one that matters.
    bench.host.kill().await?;
    let began = clock();
    bench.host = Process::start(&arguments, &log).await?;
    let ready_ms = ready(&bench, began).await?;
    figures.insert("ready_after_runs_ms", ready_ms);
    bench.host.kill().await?;
    let empty = path("empty");
    let arguments = ["serve", "--data-dir", &empty, "--listen", "127.0.0.1:0", "--slack-url", &slack_url];
    // Once to have the evaluator's compiled code; the second start is one on a machine that has run before.
    let mut first = Process::start(&arguments, &log).await?;
    first.kill().await?;
    let began = clock();
    bench.host = Process::start(&arguments, &log).await?;
    figures.insert("ready_ms", ready(&bench, began).await?);
    bench.host.kill().await?;
    let mut slack = slack;
    slack.kill().await
}

async fn ready(bench: &Bench, began: Instant) -> Outcome<f64> {
    for _ in 0..10_000 {
        if bench.http.get(bench.url("/readyz")).send().await.is_ok_and(|a| a.status().is_success()) {
            return Ok(began.elapsed().as_secs_f64() * 1e3);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    failed("the host did not become ready")
}

/// Synchronisations a run, counted by strace over 100 runs one at a time; none where there is no strace.
async fn synchronisations(bench: &Bench, pid: u32) -> Outcome<Option<f64>> {
    let Ok(trace) = tempfile::NamedTempFile::new() else { return Ok(None) };
    let started = tokio::process::Command::new("strace")
        .args(["-f", "-e", "trace=fdatasync,fsync", "-o"])
        .arg(trace.path())
        .args(["-p", &pid.to_string()])
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn();
    let Ok(mut strace) = started else {
        println!("strace is not here: synchronisations are not counted");
        return Ok(None);
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    for _ in 0..100 {
        bench.one().await?;
    }
    if let Some(id) = strace.id() {
        // strace lets go of the process when it is asked to end; killed, it would leave it stopped.
        let _asked = std::process::Command::new("kill").args(["-INT", &id.to_string()]).status();
    }
    let _ended = strace.wait().await;
    let text = std::fs::read_to_string(trace.path())?;
    let count = text.lines().filter(|l| l.contains("fdatasync(") || l.contains("fsync(")).count();
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    Ok(Some(count as f64 / 100.0))
}

fn fdatasync(folder: &Path) -> Outcome<f64> {
    use std::io::Write as _;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    let mut samples = Vec::new();
    for _ in 0..200 {
        file.write_all(&[7; 300])?;
        let began = clock();
        file.as_file().sync_data()?;
        samples.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(median(samples))
}

fn file_system(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut parts = line.split(' ');
            let (_, at, kind) = (parts.next()?, parts.next()?, parts.next()?);
            folder.starts_with(at).then(|| (at.len(), format!("{kind} on {at}")))
        })
        .max()
        .map_or_else(|| "unknown".to_owned(), |(_, text)| text)
}

fn resident_mb(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:")?.trim().trim_end_matches(" kB").trim().parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

/// Seconds of processor time that a process has used.
fn cpu_s(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: f64 = [11, 12].iter().filter_map(|i| fields.get(*i)?.parse::<f64>().ok()).sum();
    ticks / 100.0
}
