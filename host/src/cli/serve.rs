//! `bellhop serve` and `bellhop dev`: flags only; the host puts itself together elsewhere.

use std::net::SocketAddr;

use clap::Args;

use super::arguments::Listen;
use super::output::{Exit, Failure};
use super::settings::LogFormat;
use super::Context;

/// `bellhop serve`
#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    listen: Listen,
    /// Slack's address; another one only for a simulator
    #[arg(long, value_name = "URL")]
    slack_url: Option<String>,
    #[command(flatten)]
    logging: Logging,
    /// Multiplies Slack's budget; for measurements and tests against a simulator
    #[arg(long, value_name = "FACTOR", hide = true, default_value_t = 1.0)]
    budget_scale: f64,
}

/// `bellhop dev`
#[derive(Debug, Args)]
pub(super) struct Dev {
    #[command(flatten)]
    listen: Listen,
    /// Where the simulated Slack listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    slack_listen: SocketAddr,
    #[command(flatten)]
    logging: Logging,
    /// Multiplies Slack's budget, here and in the simulator
    #[arg(long, value_name = "FACTOR", hide = true, default_value_t = 1.0)]
    budget_scale: f64,
}

/// What is logged and how.
#[derive(Debug, Args)]
struct Logging {
    /// For people or for programs [default: text]
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug, trace, or a filter such as info,bellhop::engine=debug [default: info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

pub(super) fn serve(arguments: &Serve, context: &Context) -> Result<Exit, Failure> {
    let _ = (&arguments.listen.listen, &arguments.slack_url, &arguments.logging.log, arguments.logging.log_format, arguments.budget_scale, context);
    Err(Failure::failed("not-supported", "this build serves nothing yet"))
}

pub(super) fn dev(arguments: &Dev, context: &Context) -> Result<Exit, Failure> {
    let _ = (&arguments.listen.listen, arguments.slack_listen, &arguments.logging.log, arguments.logging.log_format, arguments.budget_scale, context);
    Err(Failure::failed("not-supported", "this build serves nothing yet"))
}
