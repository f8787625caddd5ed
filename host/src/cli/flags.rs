//! Flags that several verbs have.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::output::Format;

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
    /// For people or for programs [default: text]
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
}

/// Where a host serves; `serve` and `dev` have it.
#[derive(Debug, Clone, Args)]
pub(super) struct Listen {
    /// Where HTTP is served [default: 127.0.0.1:7420]
    #[arg(long, value_name = "ADDRESS")]
    pub(super) listen: Option<SocketAddr>,
    /// Where the metrics are served besides, without a token, to whoever can connect there [default: nowhere]
    #[arg(long, value_name = "ADDRESS")]
    pub(super) metrics_listen: Option<SocketAddr>,
}
