//! Detection against a scripted Slack, and what the operator is told when it does not fit.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::{Json, Router, routing};
use bellhop_core::requirement::{Kind, Plan, TokenKind};
use bellhop_slack::client::{Client, Options, Secret};
use bellhop_slack::connect::{Detected, Error, Mismatch, check, detect};
use serde_json::{Value, json};

/// Answers by token and method.
type Script = BTreeMap<(&'static str, &'static str), Value>;

async fn answer(
    State(script): State<Arc<Script>>,
    Path(method): Path<String>,
    headers: HeaderMap,
) -> impl IntoResponse {
    let bearer = headers["authorization"].to_str().unwrap().trim_start_matches("Bearer ").to_owned();
    let found = script.iter().find(|((token, name), _)| *token == bearer && *name == method);
    let body = found.map_or_else(|| json!({"ok": false, "error": "missing_scope"}), |(_, body)| body.clone());
    ([("x-oauth-scopes", "users:read,chat:write")], Json(body))
}

async fn slack(script: Script) -> Client {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().route("/api/{method}", routing::post(answer)).with_state(Arc::new(script));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Client::new(&Options { base_url, ..Options::default() }).unwrap()
}

fn tokens(list: &[(TokenKind, &str)]) -> BTreeMap<TokenKind, Secret> {
    list.iter().map(|(kind, text)| (*kind, Secret::new((*text).to_owned()))).collect()
}

fn workspace() -> Value {
    json!({"ok": true, "team": "Acme", "team_id": "T1", "user": "bellhop", "user_id": "U1", "is_enterprise_install": false})
}

fn grid_workspace() -> Value {
    json!({"ok": true, "team": "HQ", "team_id": "T2", "user_id": "U1", "enterprise_id": "E1", "is_enterprise_install": false})
}

fn grid_org() -> Value {
    json!({"ok": true, "team": "Acme org", "team_id": "E1", "user_id": "W1", "enterprise_id": "E1", "is_enterprise_install": true})
}

fn billing(plan: &str) -> Value {
    json!({"ok": true, "plan": plan})
}

const BOT: &[(TokenKind, &str)] = &[(TokenKind::Bot, "b")];
const BOTH: &[(TokenKind, &str)] = &[(TokenKind::Bot, "b"), (TokenKind::User, "u")];

async fn detected(script: Script, list: &[(TokenKind, &str)]) -> Result<Detected, Error> {
    detect(&slack(script).await, &tokens(list)).await
}

#[tokio::test]
async fn kinds_and_plans_are_slacks_word() {
    for (identity, said, kind, plan) in [
        (workspace(), Some("std"), Kind::Workspace, Some(Plan::Pro)),
        (workspace(), Some("plus"), Kind::Workspace, Some(Plan::BusinessPlus)),
        (workspace(), Some("free"), Kind::Workspace, Some(Plan::Free)),
        (workspace(), Some("compliance"), Kind::Workspace, Some(Plan::Compliance)),
        (workspace(), Some(""), Kind::Workspace, None),
        (workspace(), None, Kind::Workspace, None),
        (grid_workspace(), None, Kind::GridWorkspace, Some(Plan::Enterprise)),
        (grid_org(), None, Kind::GridOrg, Some(Plan::Enterprise)),
    ] {
        let mut script = Script::from([(("b", "auth.test"), identity.clone())]);
        if let Some(said) = said {
            script.insert(("b", "team.billing.info"), billing(said));
        }
        let found = detected(script, BOT).await.unwrap();
        assert_eq!((found.kind, found.plan), (kind, plan), "{identity} {said:?}");
        assert_eq!(found.plan_unknown_because.is_some(), plan.is_none());
        assert_eq!(found.workspace.is_some(), kind != Kind::GridOrg);
        assert_eq!(found.enterprise.is_some(), kind != Kind::Workspace);
        let scopes = found.tokens[&TokenKind::Bot].scopes.clone().unwrap();
        assert!(scopes.contains("chat:write") && scopes.len() == 2);
    }
}

#[tokio::test]
async fn another_token_may_know_the_plan() {
    let script = Script::from([
        (("b", "auth.test"), workspace()),
        (("u", "auth.test"), workspace()),
        (("u", "team.billing.info"), billing("plus")),
    ]);
    assert_eq!(detected(script, BOTH).await.unwrap().plan, Some(Plan::BusinessPlus));
}

#[tokio::test]
async fn what_cannot_be_a_connection_is_an_error() {
    assert_eq!(detected(Script::new(), &[]).await, Err(Error::NoToken));
    let revoked = Script::from([(("b", "auth.test"), json!({"ok": false, "error": "token_revoked"}))]);
    assert_eq!(
        detected(revoked, BOT).await,
        Err(Error::Refused { token: TokenKind::Bot, error: "token_revoked".to_owned() })
    );
    let mixed = Script::from([(("b", "auth.test"), workspace()), (("u", "auth.test"), grid_workspace())]);
    let differ = detected(mixed, BOTH).await.unwrap_err();
    assert_eq!(
        differ.to_string(),
        "the bot token is of workspace T1 and the user token of workspace T2 of organisation E1"
    );
    let empty = Script::from([(("b", "auth.test"), json!({"ok": true, "user_id": "U1"}))]);
    assert_eq!(detected(empty, BOT).await, Err(Error::Incomplete { token: TokenKind::Bot, field: "team_id" }));
}

#[tokio::test]
async fn it_lead_5_a_persons_token_is_no_bots_and_the_reverse() {
    let (bot, mut named) = (TokenKind::Bot, workspace());
    named["bot_id"] = json!("B1");
    for (kind, token, identity, wrong) in [
        (bot, "xoxb-1", named.clone(), None),
        (bot, "xoxb-1", workspace(), None),
        (bot, "xoxp-1", workspace(), Some(false)),
        (bot, "xoxe.xoxp-1", workspace(), Some(false)),
        (TokenKind::User, "xoxp-1", workspace(), None),
        (TokenKind::User, "xoxe.xoxp-1", workspace(), None),
        (TokenKind::User, "xoxb-1", workspace(), Some(true)),
        // Slack names the bot, whatever the token looks like.
        (TokenKind::User, "opaque", named.clone(), Some(true)),
        (TokenKind::Audit, "xoxb-1", named.clone(), Some(true)),
        // Neither says it.
        (bot, "opaque", workspace(), None),
    ] {
        let script = Script::from([((token, "auth.test"), identity), ((token, "team.billing.info"), billing("std"))]);
        let found = detected(script, &[(kind, token)]).await.unwrap();
        let expected: Vec<Mismatch> = wrong.map(|is_bot| Mismatch::Token { given: kind, is_bot }).into_iter().collect();
        let mismatches = check(Kind::Workspace, &found);
        assert_eq!(mismatches, expected, "{kind} {token}");
        for diagnostic in mismatches.iter().map(|mismatch| mismatch.diagnostic("acme")) {
            assert_eq!((diagnostic.code.0, diagnostic.who.is_some()), ("connections-differ", true));
            assert!(diagnostic.message.contains("`acme`") && !diagnostic.remedies.is_empty(), "{diagnostic:?}");
        }
    }
}

#[tokio::test]
async fn it_lead_tokens_of_two_workspaces_say_what_would_do() {
    let mixed = Script::from([(("b", "auth.test"), workspace()), (("u", "auth.test"), grid_workspace())]);
    let differing = detected(mixed, BOTH).await.unwrap_err().differing().unwrap();
    assert_eq!(differing.code.0, "connections-differ");
    assert_eq!(differing.needs.unwrap().text.as_deref(), Some("a user token of workspace T1"));
    assert_eq!(differing.has.unwrap().text.as_deref(), Some("a user token of workspace T2 of organisation E1"));
    assert_eq!(Error::NoToken.differing(), None);
}

fn of(kind: Kind, plan: Option<Plan>) -> Detected {
    Detected { kind, plan, plan_unknown_because: None, workspace: None, enterprise: None, tokens: BTreeMap::new() }
}

#[test]
fn every_wrong_kind_names_what_to_choose() {
    for claimed in Kind::ALL {
        for found in Kind::ALL {
            let mismatches = check(claimed, &of(found, Some(Plan::Pro)));
            if claimed == found {
                assert_eq!(mismatches, []);
                continue;
            }
            let diagnostic = mismatches[0].diagnostic("acme");
            assert_eq!(diagnostic.code.0, "connection-kind-mismatch");
            let command = diagnostic.remedies[0].command.as_deref().unwrap();
            assert_eq!(command, format!("bellhop connect slack --kind {found} --name acme"));
            assert!(diagnostic.remedies.len() == 2 && diagnostic.who.is_some(), "{claimed} {found}");
            assert_eq!(diagnostic.has.unwrap().kind, Some(found));
        }
    }
}

#[test]
fn a_free_workspace_is_refused_and_an_unknown_plan_is_not_free() {
    let mismatches = check(Kind::Workspace, &of(Kind::Workspace, Some(Plan::Free)));
    assert_eq!(mismatches, [Mismatch::Free]);
    let text = serde_json::to_string(&mismatches[0].diagnostic("acme")).unwrap();
    for word in ["plan-free", "Pro", "Business+", "Enterprise", "Free"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert_eq!(check(Kind::Workspace, &of(Kind::Workspace, None)), []);
    assert_eq!(check(Kind::GridOrg, &of(Kind::Workspace, Some(Plan::Free))).len(), 2);
}
