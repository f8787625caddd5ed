//! `bellhop action`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::http::{Ask, Client, segment};
use super::output::{Exit, Failure};
use super::{Context, run};

/// `bellhop action`
#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Run one action as a workflow of its own
    Run(Run),
}

/// `bellhop action run`
#[derive(Debug, Args)]
pub(super) struct Run {
    /// As in a definition: message.send:1@slack
    #[arg(value_name = "NAME:VERSION@PLUGIN")]
    action: String,
    /// The input: a file of JSON or YAML, `-` for standard input, or JSON itself
    #[arg(long, value_name = "FILE")]
    input: Option<String>,
    /// On which connection [default: the only one that fits]
    #[arg(long, value_name = "NAME")]
    connection: Option<String>,
    /// With the same key and input, it is run once
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Show what happens until it ends; exit code 0 only if it completed
    #[arg(long)]
    wait: bool,
}

pub(super) fn run(arguments: &Action, context: &Context) -> Result<Exit, Failure> {
    let Action::Run(arguments) = arguments;
    let mut body = json!({ "input": arguments.input.as_deref().map_or_else(|| Ok(json!({})), |input| run::read_input(input, context))? });
    if let Some(connection) = &arguments.connection {
        body["connection"] = json!(connection);
    }
    let path = format!("/v1/actions/{}/runs", segment(&arguments.action));
    let client = Client::new(context)?;
    let started = client.start(context, Ask::new("POST", &path).json(&body), arguments.idempotency_key.as_deref())?;
    run::follow(context, &client, &started, arguments.wait)
}
