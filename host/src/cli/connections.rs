//! `bellhop connect` and `bellhop connections`.

use std::path::{Path, PathBuf};

use bellhop_core::requirement::{Kind, Permission};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::environment::PREFIX;
use super::http::{Ask, Client, segment};
use super::output::{Exit, Failure};
use super::{Context, browse, files};
use crate::serve::stem;

/// `bellhop connect`
#[derive(Debug, Subcommand)]
pub(super) enum Connect {
    /// Connect a Slack workspace or organisation by tokens that you have
    Slack(Slack),
}

/// `bellhop connect slack`
#[derive(Debug, Args)]
pub(super) struct Slack {
    /// workspace, grid-workspace or grid-org; what the tokens really are is asked of Slack
    #[arg(long)]
    kind: Kind,
    /// The connection's name
    #[arg(long)]
    name: String,
    /// read or act
    #[arg(long, default_value = "act")]
    permission: Permission,
    /// Take the place of the connection of that name
    #[arg(long)]
    replace: bool,
    /// The file with the bot token [or the variable BELLHOP_CONNECTION_<NAME>_BOT_TOKEN]
    #[arg(long, value_name = "FILE")]
    bot_token_file: Option<PathBuf>,
    /// The file with an administrator's user token [or …_USER_TOKEN]
    #[arg(long, value_name = "FILE")]
    user_token_file: Option<PathBuf>,
    /// The file with an Org Owner's user token [or …_AUDIT_TOKEN]
    #[arg(long, value_name = "FILE")]
    audit_token_file: Option<PathBuf>,
}

/// `bellhop connections`
#[derive(Debug, Subcommand)]
pub(super) enum Connections {
    /// List the connections
    List,
    /// Show a connection: kind, plan, scopes; never a token
    Show(One),
    /// Ask Slack anew what a connection is
    Test(One),
    /// Remove a connection and forget its tokens
    Remove(One),
}

/// One connection.
#[derive(Debug, Args)]
pub(super) struct One {
    /// The connection
    name: String,
}

pub(super) fn run(arguments: &Connections, context: &Context) -> Result<Exit, Failure> {
    match arguments {
        Connections::List => browse::list(
            context,
            "/v1/connections",
            &[
                ("NAME", "/name"),
                ("KIND", "/kind"),
                ("PLAN", "/plan"),
                ("PERMISSION", "/permission"),
                ("STATUS", "/status"),
                ("REASON", "/reason"),
            ],
        ),
        Connections::Show(one) => browse::show(context, &address(&one.name)),
        Connections::Test(one) => {
            let answer = Client::new(context)?.send("POST", &format!("{}/test", address(&one.name)), &json!({}))?.body;
            context.out.answer(|| browse::thing(&answer), &answer);
            Ok(Exit::Done)
        }
        Connections::Remove(one) => {
            let path = address(&one.name);
            let answer = Client::new(context)?.ask(Ask::new("DELETE", &path))?;
            context
                .out
                .answer(|| format!("removed {}\n", one.name), &json!({ "removed": one.name, "answer": answer.body }));
            Ok(Exit::Done)
        }
    }
}

fn address(name: &str) -> String {
    format!("/v1/connections/{}", segment(name))
}

pub(super) fn connect(arguments: &Connect, context: &Context) -> Result<Exit, Failure> {
    let Connect::Slack(slack) = arguments;
    let mut tokens = Map::new();
    for (kind, file) in
        [("bot", &slack.bot_token_file), ("user", &slack.user_token_file), ("audit", &slack.audit_token_file)]
    {
        if let Some(token) = token(&slack.name, kind, file.as_deref(), context)? {
            tokens.insert(kind.to_owned(), Value::String(token));
        }
    }
    if tokens.is_empty() {
        let variable = variable(&slack.name, "bot");
        return Err(Failure::usage("there is no token to connect with").with_help(format!(
            "name a file by --bot-token-file, --user-token-file or --audit-token-file, or set {variable}"
        )));
    }
    let body = json!({
        "kind": slack.kind,
        "name": slack.name,
        "permission": slack.permission,
        "tokens": tokens,
    });
    let path = if slack.replace { "/v1/connections?replace=true" } else { "/v1/connections" };
    let answer = Client::new(context)?.send("POST", path, &body)?.body;
    context.out.answer(|| browse::thing(&answer), &answer);
    Ok(Exit::Done)
}

/// `BELLHOP_CONNECTION_<NAME>_BOT_TOKEN`.
fn variable(name: &str, kind: &str) -> String {
    format!("{PREFIX}{}_{}_TOKEN", stem(name), kind.to_uppercase())
}

/// A token from its file, else from the environment. What is said of it never holds it.
fn token(name: &str, kind: &str, file: Option<&Path>, context: &Context) -> Result<Option<String>, Failure> {
    let text = match file {
        Some(file) => Some(files::text(file, context.settings.limits.file_bytes_max)?),
        None => std::env::var(variable(name, kind)).ok(),
    };
    let Some(token) = text.map(|text| text.trim().to_owned()) else { return Ok(None) };
    if token.is_empty() || token.contains(char::is_whitespace) {
        let from = file.map_or_else(|| variable(name, kind), |file| file.display().to_string());
        return Err(Failure::usage(format!("{from} does not hold one token")));
    }
    Ok(Some(token))
}
