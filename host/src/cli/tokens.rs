//! `bellhop token`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::http::{Ask, Client, segment};
use super::output::{Exit, Failure};
use super::{Context, browse};

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
    /// plugins:install, audit:read
    #[arg(long = "scope", required = true, value_name = "SCOPE")]
    scopes: Vec<String>,
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
        Token::Create(create) => {
            let mut body = json!({ "name": create.name, "scopes": create.scopes });
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
