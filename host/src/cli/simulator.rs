//! `bellhop slack-simulator`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::output::{Exit, Failure};
use super::{Context, runtime};

/// What the world is like that every simulator starts with.
const WORLD: &str = "\
Tokens:
  the organisation Acme (Enterprise)  xoxb-org, xoxp-org-owner, xoxp-org-admin
  its workspace Acme HQ               xoxb-hq, xoxp-hq-admin
  its workspace Acme Lab              xoxb-lab, xoxp-lab-admin
  the workspace Plus (Business+)      xoxb-plus, xoxp-plus-admin
  the workspace Pro                   xoxb-pro, xoxp-pro-admin
  the workspace Free                  xoxb-free, xoxp-free-admin
Each holds every scope of its kind; with `-noscope` appended, none.

Faults, edits of the world and the books of what happened are reached under /_sim/, from this machine alone: see
host/docs/simulator.md.";

/// `bellhop slack-simulator`
#[derive(Debug, Args)]
#[command(after_help = WORLD)]
pub(super) struct Simulator {
    /// Where it listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The file that gets a line for every accepted change, before the change is answered
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// The file that gets two lines for every request, as it comes and when it was answered
    #[arg(long, value_name = "FILE")]
    requests: Option<PathBuf>,
    /// The file in which its world is kept over restarts, made where there is none; without it, all ends with the process
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Prints what it asks of each call, and ends
    #[arg(long)]
    rules: bool,
    /// Multiplies every rate budget
    #[arg(long, value_name = "FACTOR", hide = true, default_value_t = 1.0)]
    budget_scale: f64,
}

pub(super) fn run(arguments: &Simulator, context: &Context) -> Result<Exit, Failure> {
    if arguments.rules {
        let rules = bellhop_simulator::rules::table();
        context.out.answer(|| rules.trim_end().to_owned(), &json!({ "rules": rules }));
        return Ok(Exit::Done);
    }
    let options = bellhop_simulator::Options {
        listen: arguments.listen,
        ledger: arguments.ledger.clone(),
        requests: arguments.requests.clone(),
        state: arguments.state.clone(),
        budget_scale: arguments.budget_scale,
        ..bellhop_simulator::Options::default()
    };
    runtime()?.block_on(async {
        // Asked for before the address is printed: whoever reads it may end us at once.
        let stop = stop_signal()?;
        let running = start(options).await?;
        let url = format!("http://{}", running.address);
        context.out.answer(|| url.clone(), &json!({ "url": url, "address": running.address.to_string() }));
        stop.await;
        running.stop().await;
        Ok(Exit::Done)
    })
}

/// Starts a simulator in this process.
pub(super) async fn start(options: bellhop_simulator::Options) -> Result<bellhop_simulator::Running, Failure> {
    bellhop_simulator::start(options).await.map_err(|error| {
        let mut message = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            message = format!("{message}: {source}");
        }
        match error {
            bellhop_simulator::Error::BudgetScale(_) => Failure::usage(message),
            _ => Failure::failed("simulator-failed", message),
        }
    })
}

/// Ready once the process is asked to stop; from this call on the signals no longer end it by themselves.
pub(super) fn stop_signal() -> Result<impl Future<Output = ()> + Send, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let refused = |e: std::io::Error| Failure::failed("no-signals", format!("the signals cannot be watched: {e}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
