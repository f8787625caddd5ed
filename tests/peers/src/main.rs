//! Bellhop beside Restate, in turn, twice: one flow, one load generator, one machine, one hour.
//!
//! The flow is three messages to one simulated Slack, each of them journaled. Restate's server is the one of npm, with an
//! empty folder and its default settings; its service runs in this program, on a listener that sets `TCP_NODELAY`, because
//! the SDK's own does not and is twenty times slower for it. Bellhop is `bellhop serve` with its defaults.
//!
//! ```text
//! bellhop-peers BELLHOP PLUGIN RESTATE-SERVER FOLDER
//! ```
//!
//! The last line is the ratio of medians, ours to theirs: less latency and memory is better, more flows are.
#![forbid(unsafe_code)]

mod bellhop;
mod load;
mod process;
mod restate;

use std::path::{Path, PathBuf};

use load::Figures;

/// What went wrong, in words.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// So often each is measured.
const TURNS: usize = 2;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        _ if values.is_empty() => f64::NAN,
        0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

fn ratio(ours: &[Figures], theirs: &[Figures], figure: fn(&Figures) -> f64) -> f64 {
    median(ours.iter().map(figure).collect()) / median(theirs.iter().map(figure).collect())
}

async fn measure(arguments: &[PathBuf]) -> Outcome<()> {
    let [program, plugin, server, folder] = arguments else {
        return Err("bellhop-peers BELLHOP PLUGIN RESTATE-SERVER FOLDER".into());
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    println!("{:<10}{:>12}{:>12}{:>12}{:>12}", "", "p50 ms", "p99 ms", "flows/s", "MB");
    for turn in 0..TURNS {
        let fresh = |name: &str| -> Outcome<PathBuf> {
            let folder = folder.join(format!("{name}-{turn}"));
            if folder.exists() {
                std::fs::remove_dir_all(&folder)?;
            }
            std::fs::create_dir_all(&folder)?;
            Ok(folder.canonicalize()?)
        };
        let figures = restate::measure(program, server, &fresh("restate")?).await?;
        println!("{:<10}{figures}", "restate");
        theirs.push(figures);
        let figures = bellhop::measure(program, plugin, &fresh("bellhop")?).await?;
        println!("{:<10}{figures}", "bellhop");
        ours.push(figures);
    }
    println!(
        "peers: latency {:.2} flows {:.2} memory {:.2}",
        ratio(&ours, &theirs, |figures| figures.p50_ms),
        ratio(&ours, &theirs, |figures| figures.flows_per_s),
        ratio(&ours, &theirs, |figures| figures.resident_mb),
    );
    Ok(())
}

/// The simulated Slack that both talk to, with a budget that nobody feels.
async fn slack(program: &Path, folder: &Path) -> Outcome<(process::Process, String)> {
    let arguments = ["slack-simulator", "--budget-scale", "1000000"];
    let mut slack = process::Process::start(program, &arguments, &folder.join("slack.log"))?;
    let url = slack.word("http://").await?;
    Ok((slack, url))
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    match measure(&arguments).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            std::process::ExitCode::FAILURE
        }
    }
}
