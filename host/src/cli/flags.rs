//! Flags that several verbs have.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::address;
use super::output::{Failure, Format};
use crate::serve::At;
use bellhop_api::PublicUrl;

/// What every verb understands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// The configuration [default: ./bellhop.toml where it is there]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where a host keeps everything [default: ./.bellhop]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The host that the verbs ask [default: http://127.0.0.1:7420]; its token is read from BELLHOP_TOKEN
    #[arg(long, global = true, value_name = "URL", env = "BELLHOP_URL", hide_env_values = true)]
    pub(crate) url: Option<String>,
    /// Send the token over http to another machine: whoever is on the way can read it
    #[arg(long, global = true)]
    pub(crate) allow_http: bool,
    /// For people or for programs [default: text]
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
}

/// Where a host serves; `serve` and `dev` have it.
#[derive(Debug, Clone, Args)]
pub(super) struct Listen {
    /// Where HTTP is served, by an address, unix:PATH, or systemd for a socket that is handed over [default: 127.0.0.1:7420]
    #[arg(long, value_name = "ADDRESS", value_parser = address::at)]
    pub(super) listen: Option<At>,
    /// Where the metrics are served besides, without a token, to whoever can connect there [default: nowhere]
    #[arg(long, value_name = "ADDRESS", value_parser = address::parse)]
    pub(super) metrics_listen: Option<SocketAddr>,
    /// The address of the host as its callers know it, where a proxy stands before it: links and `Location` begin with it
    #[arg(long, value_name = "URL")]
    pub(super) public_url: Option<PublicUrl>,
}

/// Which runs of a list are meant: those that fit all that is said.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Only those that stand so: running, waiting, blocked, parked, suspended, cancelling, completed, faulted, cancelled
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// Only those of this workflow
    #[arg(long, value_name = "NAMESPACE/NAME")]
    workflow: Option<String>,
    /// Only those with this label
    #[arg(long, value_name = "NAME=VALUE")]
    label: Option<String>,
}

impl Which {
    /// The filters as a host takes them.
    pub(super) fn filters(&self) -> Result<Vec<(&'static str, String)>, Failure> {
        let label = self.label.as_deref().map(label).transpose()?;
        let filters = [("status", self.status.clone()), ("workflow", self.workflow.clone()), ("label", label)];
        Ok(filters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
    }
}

/// `NAME=VALUE`, as a host's filter has it.
fn label(text: &str) -> Result<String, Failure> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok(format!("{name}:{value}")),
        _ => Err(Failure::usage(format!("--label {text}: write NAME=VALUE"))),
    }
}
