//! `bellhop bench`: a ladder in one run, from a bare call into WebAssembly to a durable run over HTTP.
//!
//! The host is the one that `bellhop serve` starts, with its defaults but for Slack's budget, which is multiplied and
//! printed; the simulator is a process of its own; the store is on a file system that is named. What Slack did is
//! counted in the simulator's ledger.

mod compare;
mod crowd;
mod durable;
mod figures;
mod ladder;
mod machine;
mod rolling;
mod starting;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use reqwest::Client;
use serde_json::{Value, json};

use self::figures::FIGURES;
use super::child::{Outcome, Process, failed};
use crate::cli::output::say;

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
    /// Durable runs in all, over three rounds
    #[arg(long, value_name = "NUMBER", default_value_t = 12_000, value_parser = clap::value_parser!(u32).range(300..))]
    pub(crate) runs: u32,
    /// Ended runs in the store that a start is measured with
    #[arg(long, value_name = "NUMBER", default_value_t = 100_000)]
    pub(crate) ended: u32,
    /// Parked runs beside them
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000)]
    pub(crate) parked: u32,
    /// Ended runs with which the cost of one more is measured
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000_000)]
    pub(crate) ended_in_all: u32,
    /// Runs that sleep
    #[arg(long, value_name = "NUMBER", default_value_t = 100_000)]
    pub(crate) sleepers: u32,
    /// Calls that wait for Slack's budget
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000)]
    pub(crate) waiting: u32,
    /// Items of one loop
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000)]
    pub(crate) items: u32,
    /// Runs that are written while old ones are removed
    #[arg(long, value_name = "NUMBER", default_value_t = 100_000)]
    pub(crate) rolling: u32,
    /// Where the figures go
    #[arg(long, value_name = "FILE", default_value = "target/bench.json")]
    pub(crate) output_file: PathBuf,
    /// Only these rows, separated by commas [default: all]
    #[arg(long, value_name = "ROW,…", value_enum, value_delimiter = ',')]
    only: Vec<Row>,
    /// The program whose host is measured by the rows that start one [default: this program]
    #[arg(long, value_name = "FILE", conflicts_with = "before")]
    program: Option<PathBuf>,
    /// An older program: each row is played by it and by this one in turn, and no figure may be worse than its
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
}

impl Options {
    /// Whether a row is measured.
    fn wants(&self, row: Row) -> bool {
        self.only.is_empty() || self.only.contains(&row)
    }

    /// The program that `serve` is asked of.
    fn host_program(&self) -> Outcome<PathBuf> {
        Ok(match &self.program {
            Some(program) => program.canonicalize()?,
            None => std::env::current_exe()?,
        })
    }
}

/// What is measured together, on hosts of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Row {
    /// Calls into WebAssembly, without a host
    Ladder,
    /// Durable runs of three writes
    Durable,
    /// Starts over an empty store and over a full one
    Starting,
    /// Runs that sleep, and that wake together
    Sleepers,
    /// Calls that wait for Slack's budget
    Waiting,
    /// One loop of many items
    Items,
    /// What removed runs leave on the disk, without a host
    Rolling,
}

/// What was measured, by name; the unit is in the name.
type Figures = BTreeMap<&'static str, f64>;

#[allow(clippy::disallowed_methods, reason = "measuring time is what this is for")]
fn clock() -> Instant {
    Instant::now()
}

fn ms(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}

/// The value in the middle.
fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Runs the ladder, prints it and writes the figures.
pub(crate) async fn run(options: &Options) -> Outcome<()> {
    if cfg!(debug_assertions) {
        say!("this is not a release build: the figures say nothing of one");
    }
    if let Some(before) = &options.before {
        return compare::run(options, before).await;
    }
    let program = options.host_program()?;
    as_served(&program).await?;
    std::fs::create_dir_all(&options.folder)?;
    let folder = tempfile::tempdir_in(&options.folder)?;
    let mut figures = Figures::new();
    say!("file system of {}: {}", options.folder.display(), machine::file_system(&options.folder));
    let fdatasync_ms = machine::fdatasync_ms(&options.folder)?;
    say!("fdatasync of a 300-byte append: {fdatasync_ms:.3} ms (median of 200)");
    figures.insert("fdatasync_ms", fdatasync_ms);
    let (folder, all) = (folder.path(), &mut figures);
    if options.wants(Row::Ladder) {
        ladder::climb(options, folder, all).await?;
    }
    if options.wants(Row::Durable) {
        durable::measure(options, folder, all).await?;
    }
    if options.wants(Row::Starting) {
        starting::measure(options, folder, all).await?;
    }
    crowd::measure(options, folder, all).await?;
    if options.wants(Row::Rolling) {
        rolling::measure(options, folder, all).await?;
    }
    let missed = report(&figures);
    std::fs::write(&options.output_file, serde_json::to_string_pretty(&figures)?)?;
    say!("\nwritten to {}", options.output_file.display());
    if missed.is_empty() { Ok(()) } else { failed(format!("not what we want: {}", missed.join(", "))) }
}

/// Prints the figures; gives the names of those that do not reach their goal.
fn report(figures: &Figures) -> Vec<&'static str> {
    let mut missed = Vec::new();
    say!("\n{:<28}{:>14}   goal", "figure", "value");
    for (name, value) in figures {
        let wanted = FIGURES.iter().find(|figure| figure.name == *name).and_then(|f| Some((f, f.goal?)));
        let goal = wanted.map(|(figure, goal)| {
            let met = figure.reaches(goal, *value);
            if !met {
                missed.push(*name);
            }
            let bound = if figure.more { "at least" } else { "at most" };
            format!("{bound} {goal}{}", if met { "" } else { "  MISSED" })
        });
        say!("{name:<28}{value:>14.3}   {}", goal.unwrap_or_default());
    }
    missed
}

/// What the host will be started with, as the program itself says where it is started: from here, with this
/// environment and without a file of settings.
async fn as_served(program: &Path) -> Outcome<()> {
    let told = tokio::process::Command::new(program).args(["config", "--output", "json"]).output().await?;
    if !told.status.success() {
        return failed(format!("`bellhop config` fails: {}", String::from_utf8_lossy(&told.stderr)));
    }
    let told: Value = serde_json::from_slice(&told.stdout)?;
    if let Some(file) = told["file"].as_str() {
        return failed(format!("{file} changes what `serve` does: measure elsewhere"));
    }
    let Some(limits) = told["limits"].as_array().filter(|limits| !limits.is_empty()) else {
        return failed("`bellhop config` tells no limits");
    };
    if let Some(other) = limits.iter().find(|limit| limit["value"] != limit["default"]) {
        return failed(format!("{} is {}, not {}", other["name"], other["value"], other["default"]));
    }
    let set: Vec<String> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("BELLHOP_") && name != "BELLHOP_GUEST_CARGO")
        .collect();
    if !set.is_empty() {
        return failed(format!("these variables change what `serve` does; unset them first: {}", set.join(", ")));
    }
    say!("settings: `bellhop config` has all {} limits at their defaults", limits.len());
    Ok(())
}

/// A host and the simulated Slack that it talks to, each a process.
struct Bench {
    http: Client,
    slack: Process,
    /// What the host is a process of.
    program: PathBuf,
    host: Process,
    token: String,
    arguments: Vec<String>,
    log: PathBuf,
    ledger: PathBuf,
}

impl Bench {
    /// Starts both in `folder` and makes the host ready to run `message.send`.
    async fn start(options: &Options, folder: &Path, log_level: &str) -> Outcome<Self> {
        Self::start_at(options, folder, log_level, BUDGET_SCALE).await
    }

    /// The same, with Slack's budget multiplied by something else.
    async fn start_at(options: &Options, folder: &Path, log_level: &str, scale: &str) -> Outcome<Self> {
        std::fs::create_dir_all(folder)?;
        let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let ledger = path("ledger.jsonl");
        let slack = Process::start(
            &["slack-simulator", "--listen", "127.0.0.1:0", "--ledger", &ledger, "--budget-scale", scale],
            &folder.join("simulator.log"),
        )
        .await?;
        let slack_url = format!("http://{}", slack.address);
        let arguments: Vec<String> = [
            "serve",
            "--data-dir",
            &path("data"),
            "--listen",
            "127.0.0.1:0",
            "--slack-url",
            &slack_url,
            "--budget-scale",
            scale,
            "--log",
            log_level,
        ]
        .map(str::to_owned)
        .into();
        let log = folder.join("host.log");
        let program = options.host_program()?;
        let host = Process::start_program(&program, &borrowed(&arguments), &log).await?;
        let Some(token) = host.token.clone() else { return failed("the host printed no token") };
        let http = Client::builder().no_proxy().tls_certs_only([]).tcp_nodelay(true).build()?;
        let bench = Self { http, slack, program, host, token, arguments, log, ledger: ledger.into() };
        bench.ready(clock()).await?;
        let plugin = std::fs::read(&options.plugin)?;
        let install = |path: &str| {
            let request = bench.http.post(bench.url(path)).header("Content-Type", "application/wasm");
            request.body(plugin.clone())
        };
        if bench.send(install("/v1/plugins?grantAll=true")).await.is_err() {
            // A program of before grants by itself all that is declared, and does not know the parameter.
            bench.send(install("/v1/plugins")).await?;
        }
        let hq =
            json!({ "name": "acme-hq", "kind": "grid-workspace", "permission": "act", "tokens": { "bot": "xoxb-hq" } });
        bench.send(bench.http.post(bench.url("/v1/connections")).json(&hq)).await?;
        Ok(bench)
    }

    async fn apply(&self, name: &str, definition: &'static str) -> Outcome<()> {
        let put = self.http.put(self.url(&format!("/v1/workflows/bench/{name}")));
        self.send(put.header("Content-Type", "application/yaml").body(definition)).await?;
        Ok(())
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Outcome<Value> {
        let answer = request.bearer_auth(&self.token).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        if !status.is_success() {
            return failed(format!("the host answered {status}: {text}"));
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// One number of `/metrics`.
    async fn metric(&self, name: &str) -> Outcome<f64> {
        let text = self.http.get(self.url("/metrics")).bearer_auth(&self.token).send().await?.text().await?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = line.and_then(|value| value.parse::<f64>().ok());
        value.ok_or_else(|| format!("/metrics has no {name}").into())
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host.address)
    }

    /// One run, from the trigger to its end; milliseconds.
    async fn run(&self, workflow: &str) -> Outcome<f64> {
        let began = clock();
        let path = format!("/v1/workflows/bench/{workflow}/runs?wait=30s");
        let body = json!({ "input": { "text": "Hello" }, "connections": { "team": "acme-hq" } });
        let view = self.send(self.http.post(self.url(&path)).json(&body)).await?;
        if view["status"] != "completed" {
            return failed(format!("a run is not completed: {view}"));
        }
        Ok(ms(began))
    }

    /// The milliseconds since `began` until the host says that it is ready.
    async fn ready(&self, began: Instant) -> Outcome<f64> {
        for _ in 0..10_000 {
            if self.http.get(self.url("/readyz")).send().await.is_ok_and(|a| a.status().is_success()) {
                return Ok(ms(began));
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        failed("the host did not become ready")
    }

    /// Kills the host and starts it again on the same data; gives the milliseconds until it is ready.
    async fn restart(&mut self) -> Outcome<f64> {
        self.host.kill().await?;
        let began = clock();
        self.host = Process::start_program(&self.program, &borrowed(&self.arguments), &self.log).await?;
        self.ready(began).await
    }

    /// Process ids of host and simulator.
    fn pids(&self) -> (u32, u32) {
        (self.host.child.id().unwrap_or_default(), self.slack.child.id().unwrap_or_default())
    }

    async fn stop(mut self) -> Outcome<()> {
        self.host.kill().await?;
        self.slack.kill().await
    }
}

fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}
