//! Connections to Slack: their facts. A token goes in and never comes out.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use bellhop_core::requirement::{Connection, Kind, Permission, TokenKind};
use bellhop_slack::client::{Secret, masked};

use super::form::Form;
use super::problem::{self, Problem};
use super::request::Request;
use super::{App, answer, pages, work};
use bellhop_engine::gateway::Connected;
use bellhop_engine::setup::connections::{Broken, New};
use bellhop_journal::key;

const NAME_CHARS_MAX: usize = 64;
const TOKEN_KINDS: [TokenKind; 3] = [TokenKind::Bot, TokenKind::User, TokenKind::Audit];

fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    !name.is_empty() && name.len() <= NAME_CHARS_MAX && name.chars().all(fits)
}

/// What helps where nothing of a connection can be read.
fn anew(name: &str) -> String {
    let name = if is_name(name) { name } else { "NAME" };
    format!("connect it anew: bellhop connect slack --kind KIND --name {name}")
}

fn unknown(app: &App, name: &str) -> Problem {
    let shown: String = name.chars().take(64).collect();
    if app.engine.services.journal.is_damaged(&key::connection(name)) {
        let detail = format!("the connection `{shown}` cannot be read: what is stored of it is damaged");
        return Problem::new(problem::STORAGE_DAMAGED, detail).with_remedy(anew(name));
    }
    let present = app.engine.services.gateway.connections();
    Problem::new(problem::CONNECTION_UNKNOWN, format!("there is no connection `{shown}`"))
        .with_nearest(name, present.iter().map(|c| c.facts.name.as_str()))
}

/// A connection, for people and machines. Field by field, so that nothing gets out because a type grew.
fn shown(facts: &Connection) -> Value {
    let tokens: Map<String, Value> =
        facts.tokens.iter().map(|(kind, scopes)| (kind.to_string(), json!({ "scopes": scopes }))).collect();
    json!({
        "name": facts.name,
        "kind": facts.kind,
        "title": facts.kind.title(),
        "permission": facts.permission,
        "plan": facts.plan,
        "planUnknownBecause": facts.plan_unknown_because,
        "checkedAt": facts.checked_at.map(|at| at.to_string()),
        "workspaceId": facts.workspace_id,
        "enterpriseId": facts.enterprise_id,
        "tokens": tokens,
    })
}

/// The same, and whether it can be used.
fn stands(app: &App, connected: &Connected) -> Value {
    let facts = &connected.facts;
    let mut shown = shown(facts);
    let (status, reason) = match app.engine.connections.broken().get(&facts.name) {
        Some(broken) => ("broken", Some(broken.reason.clone())),
        None => connected.stands(),
    };
    shown["status"] = json!(status);
    shown["reason"] = json!(reason);
    shown
}

/// One that was to be made at the start, and is not.
fn unmade(Broken { new, reason, .. }: &Broken) -> Value {
    let tokens: Map<String, Value> =
        new.tokens.keys().map(|kind| (kind.to_string(), json!({ "scopes": [] }))).collect();
    json!({
        "name": new.name,
        "kind": new.kind,
        "title": new.kind.title(),
        "permission": new.permission,
        "plan": null,
        "planUnknownBecause": null,
        "checkedAt": null,
        "workspaceId": null,
        "enterpriseId": null,
        "tokens": tokens,
        "status": "broken",
        "reason": reason,
    })
}

/// All, those that were to be made and are not among them.
fn all(app: &App) -> Vec<Value> {
    let mut broken = app.engine.connections.broken();
    let connected = app.engine.services.gateway.connections();
    let mut all: Vec<Value> = connected.iter().map(|connected| stands(app, connected)).collect();
    for connected in &connected {
        broken.remove(&connected.facts.name);
    }
    all.extend(broken.values().map(|broken| unmade(broken)));
    all
}

/// `POST /v1/connections`: made of tokens, and kept when Slack says that they are what the caller says.
pub(super) async fn create(mut request: Request) -> Result<Response, Problem> {
    let mut params = request.params(&["replace"])?;
    let replace = params.flag("replace");
    params.finish()?;
    let mut form = request.form(&["name", "kind", "permission", "tokens"]).await?;
    let name = form.needed_text("name").unwrap_or_default();
    if !name.is_empty() && !is_name(&name) {
        form.refuse(
            "name",
            format!("a connection's name is 1 to {NAME_CHARS_MAX} of lower-case letters, digits, `-` and `_`"),
        );
    }
    if masked(&name).is_some() {
        form.refuse("name", "this is a token: a connection's name is shown to everybody");
    }
    let kind: Option<Kind> = form.word("kind", true);
    let permission: Permission = form.word("permission", false).unwrap_or(Permission::Act);
    let tokens = tokens(&mut form);
    form.finish()?;
    let Some(kind) = kind else { return Err(Problem::internal(&"a form without a kind was taken for whole")) };
    let app = request.app.clone();
    if !replace && app.engine.services.gateway.connection(&name).is_some() {
        let detail = format!("there is a connection `{name}`; with `?replace=true` this one takes its place");
        return Err(Problem::new(problem::CONNECTION_EXISTS, detail));
    }
    let address = request.caller.base.at(&format!("/v1/connections/{name}"));
    let facts = work::to_the_end(async move {
        let services = &app.engine.services;
        let new = New { name, kind, permission, tokens };
        let connected = app.engine.connections.connect(&services.gateway, new, services.clock.now()).await?;
        Ok(stands(&app, &connected))
    })
    .await?;
    Ok(answer::with_location(answer::json(StatusCode::CREATED, &facts)?, &address))
}

fn tokens(form: &mut Form) -> BTreeMap<TokenKind, Secret> {
    let mut given = form.text_map("tokens");
    let mut tokens = BTreeMap::new();
    for kind in TOKEN_KINDS {
        if let Some(token) = given.remove(kind.as_str()) {
            let token = Secret::new(token);
            if token.is_empty() {
                form.refuse("tokens", format!("the {kind} token is empty"));
            } else if !token.reveal().bytes().all(|b| b.is_ascii_graphic()) {
                form.refuse("tokens", format!("the {kind} token has characters that no token has"));
            } else {
                tokens.insert(kind, token);
            }
        }
    }
    for name in given.keys() {
        let known = TOKEN_KINDS.map(TokenKind::as_str);
        form.fault(super::form::unknown_name("/tokens", "kind of token", name, &known));
    }
    if tokens.is_empty() {
        form.refuse("tokens", "at least one token has to be there: `bot`, `user` or `audit`");
    }
    tokens
}

/// `GET /v1/connections`.
pub(super) async fn list(request: Request) -> Result<Response, Problem> {
    let mut params = request.params(&pages::PARAMS)?;
    let services = &request.app.engine.services;
    let wanted = pages::wanted(&mut params, &services.limits);
    params.finish()?;
    let name = |shown: &Value| shown["name"].as_str().unwrap_or_default().to_owned();
    let page = pages::of_all(all(&request.app), &wanted, name, Value::clone);
    answer::json(StatusCode::OK, &page)
}

/// `GET /v1/connections/{name}`.
pub(super) async fn show(request: Request) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    let name = request.part("name");
    let found = all(&request.app).into_iter().find(|shown| shown["name"] == name);
    answer::json(StatusCode::OK, &found.ok_or_else(|| unknown(&request.app, name))?)
}

/// `POST /v1/connections/{name}/test`: asks Slack again, and keeps what it says.
pub(super) async fn test(mut request: Request) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    request.form_or_nothing(&[]).await?.finish()?;
    let name = request.part("name").to_owned();
    let app = request.app.clone();
    let facts = work::to_the_end(async move {
        let services = &app.engine.services;
        let asked = app.engine.connections.refresh(&services.gateway, &name, services.clock.now()).await?;
        Ok(stands(&app, &*asked.ok_or_else(|| unknown(&app, &name))?))
    })
    .await?;
    answer::json(StatusCode::OK, &facts)
}

/// `DELETE /v1/connections/{name}`: out of use, its tokens forgotten. Slack is not told: they stay valid there.
pub(super) async fn remove(request: Request) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    let name = request.part("name").to_owned();
    let app = request.app.clone();
    work::to_the_end(async move {
        let was_there = app.engine.connections.remove(&app.engine.services.gateway, &name).await?;
        if was_there { Ok(()) } else { Err(unknown(&app, &name)) }
    })
    .await?;
    Ok(answer::empty(StatusCode::NO_CONTENT))
}

/// `POST /v1/connection-links`.
pub(super) async fn link(_request: Request) -> Result<Response, Problem> {
    let detail = "make the connection of tokens that are there: POST /v1/connections, or `bellhop connect slack --kind KIND --name NAME`";
    Err(Problem::new(problem::NEEDS_OAUTH, detail))
}
