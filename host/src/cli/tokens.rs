//! `bellhop token`.

use std::collections::BTreeSet;

use bellhop_core::definition::duration;
use clap::{Args, Subcommand};
use serde_json::json;

use super::http::{Ask, Client, segment};
use super::output::{Exit, Failure};
use super::{Context, browse, offline};
use crate::serve;
use bellhop_engine::setup::tokens::{self, Scope};

/// `bellhop token`
#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Make a token; its secret is shown once
    Create(Create),
    /// List the tokens, without their secrets
    List,
    /// End a token at once
    Revoke(Revoke),
}

/// `bellhop token create`
#[derive(Debug, Args)]
pub(super) struct Create {
    /// What it is for
    #[arg(long)]
    name: String,
    /// What it may do: runs:start, runs:start:NAMESPACE/NAME, runs:read, runs:operate, workflows:write, connections:admin,
    /// plugins:install, audit:read, backups:read, backups:secrets, tokens:admin
    #[arg(long = "scope", required = true, value_name = "SCOPE")]
    scopes: Vec<String>,
    /// Make it in the folder of a host that is stopped, for which no token is needed
    #[arg(long, conflicts_with = "expires_at")]
    offline: bool,
    /// When it ends, as a span such as P90D
    #[arg(long, value_name = "SPAN", conflicts_with = "expires_at")]
    expires_in: Option<String>,
    /// When it ends, such as 2027-01-01T00:00:00Z [default: when it is revoked]
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
}

/// `bellhop token revoke`
#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// The token's id, which is not its secret
    id: String,
}

pub(super) fn run(arguments: &Token, context: &Context) -> Result<Exit, Failure> {
    match arguments {
        Token::Create(create) if create.offline => offline(create, context),
        Token::Create(create) => {
            let mut body = json!({ "name": create.name, "scopes": create.scopes });
            if let Some(span) = &create.expires_in {
                body["expiresIn"] = json!(span);
            }
            if let Some(at) = &create.expires_at {
                body["expiresAt"] = json!(at);
            }
            let answer = Client::new(context)?.send("POST", "/v1/tokens", &body)?.body;
            context.out.answer(|| browse::thing(&answer), &answer);
            Ok(Exit::Done)
        }
        Token::List => browse::list(
            context,
            "/v1/tokens",
            &[
                ("ID", "/id"),
                ("NAME", "/name"),
                ("SCOPES", "/scopes"),
                ("CREATED", "/createdAt"),
                ("ENDS", "/expiresAt"),
            ],
        ),
        Token::Revoke(revoke) => {
            let path = format!("/v1/tokens/{}", segment(&revoke.id));
            let answer = Client::new(context)?.ask(Ask::new("DELETE", &path))?;
            context
                .out
                .answer(|| format!("revoked {}\n", revoke.id), &json!({ "revoked": revoke.id, "answer": answer.body }));
            Ok(Exit::Done)
        }
    }
}

/// Makes a token where no host is: who can write in its folder can do everything with it anyway.
fn offline(create: &Create, context: &Context) -> Result<Exit, Failure> {
    if let Some(wrong) = tokens::wrong_name(&create.name) {
        return Err(Failure::usage(format!("--name: {wrong}")));
    }
    let mut scopes = BTreeSet::new();
    for text in &create.scopes {
        let scope = Scope::parse(text);
        scopes.insert(scope.map_err(|no| Failure::usage(format!("--scope: {}", no.message)).with_help(no.help))?);
    }
    let life = create.expires_in.as_ref().map(|span| {
        duration::millis_of(&json!(span)).map_err(|error| Failure::usage(format!("--expires-in {span}: {error}")))
    });
    let life_ms = life.transpose()?;
    let folder = &context.settings.data_dir;
    let made = super::runtime()?.block_on(serve::token_offline(folder, &create.name, scopes, life_ms));
    let (stored, secret) = made.map_err(|error| match &error {
        serve::Error::NoStore(_) => Failure::missing("store-missing", error.to_string()).with_help(
            "name the host's folder by --data-dir; a host makes its first token itself when it first starts",
        ),
        serve::Error::InUse(_) => Failure::storage(error.to_string())
            .with_help("the host has to be stopped for this; while it runs, make a token without --offline"),
        error => offline::not_opened(error),
    })?;
    let answer = json!({
        "id": stored.id,
        "name": stored.name,
        "scopes": stored.scopes,
        "createdAt": stored.created_at.to_string(),
        "expiresAt": stored.expires_at.map(|at| at.to_string()),
        "token": secret,
    });
    context.out.answer(|| browse::thing(&answer), &answer);
    Ok(Exit::Done)
}
