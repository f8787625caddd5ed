//! Bearer tokens: made and shown once, listed without their secret, ended.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use bellhop_core::definition::duration;
use bellhop_core::diagnostic::code;
use bellhop_core::id::TokenId;
use bellhop_core::time::Timestamp;

use super::form::{Form, fault};
use super::problem::{self, Problem};
use super::request::Request;
use super::{answer, pages, work};
use bellhop_engine::setup::tokens::{self, NoScope, RevokeError, Scope, Stored};

const SCOPES_MAX: usize = 100;

fn shown(stored: &Stored) -> Value {
    json!({
        "id": stored.id,
        "name": stored.name,
        "scopes": stored.scopes,
        "createdAt": stored.created_at.to_string(),
        "expiresAt": stored.expires_at.map(|at| at.to_string()),
    })
}

/// `POST /v1/tokens`: `{"name": …, "scopes": […], "expiresIn": "P90D"}`. The answer is the only place where its secret ever stands.
pub(super) async fn create(mut request: Request) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    let mut form = request.form(&["name", "scopes", "expiresIn", "expiresAt"]).await?;
    let name = form.needed_text("name").unwrap_or_default();
    if let Some(wrong) = tokens::wrong_name(&name) {
        form.refuse("name", wrong);
    }
    let texts = form.texts("scopes");
    if texts.is_empty() || texts.len() > SCOPES_MAX {
        form.refuse("scopes", format!("a token has 1 to {SCOPES_MAX} scopes"));
    }
    let mut scopes = BTreeSet::new();
    for (index, text) in texts.iter().take(SCOPES_MAX).enumerate() {
        match Scope::parse(text) {
            Ok(scope) => {
                scopes.insert(scope);
            }
            Err(NoScope { message, help }) => {
                form.fault(fault(code::INVALID_VALUE, &format!("/scopes/{index}"), message).with_help(help));
            }
        }
    }
    let now = request.app.engine.services.clock.now();
    let expires_at = expires_at(&mut form, now);
    form.finish()?;
    let lacks = request.caller.lacks(&scopes);
    if !lacks.is_empty() {
        return Err(Problem::scope_missing(&lacks, true));
    }
    if let Some(own) = request.caller.ends_before(expires_at) {
        return Err(Problem::token_ends(own));
    }
    let app = request.app.clone();
    let (stored, secret) = work::to_the_end(async move {
        let services = &app.engine.services;
        Ok(app.engine.tokens.create(&name, scopes, expires_at, now, services.entropy.next_wide()).await?)
    })
    .await?;
    tracing::info!(token = %stored.id, by = request.caller.name(), "a token was made");
    let mut body = shown(&stored);
    if let Value::Object(fields) = &mut body {
        fields.insert("token".to_owned(), Value::String(secret));
    }
    let address = request.caller.base.at(&format!("/v1/tokens/{}", stored.id));
    Ok(answer::with_location(answer::json(StatusCode::CREATED, &body)?, &address))
}

/// `expiresIn`, an ISO 8601 duration, or `expiresAt`, an RFC 3339 time.
fn expires_at(form: &mut Form, now: Timestamp) -> Option<Timestamp> {
    let (span, at) = (form.text("expiresIn"), form.text("expiresAt"));
    let (name, read) = match (span, at) {
        (None, None) => return None,
        (Some(_), Some(_)) => {
            form.refuse("expiresIn", "`expiresIn` and `expiresAt` exclude each other");
            return None;
        }
        (Some(span), None) => {
            let span_ms = duration::millis_of(&Value::String(span)).map_err(|error| error.to_string());
            ("expiresIn", span_ms.map(|ms| now.plus_millis(ms)))
        }
        (None, Some(at)) => {
            let at = at.parse::<jiff::Timestamp>().map_err(|_| wrong_time(&at));
            ("expiresAt", at.map(|at| Timestamp::from_millis(u64::try_from(at.as_millisecond()).unwrap_or(0))))
        }
    };
    match read {
        Ok(at) if at > now => Some(at),
        Ok(_) => {
            form.refuse(name, "a token that has ended is of no use");
            None
        }
        Err(why) => {
            form.refuse(name, why);
            None
        }
    }
}

/// Why a text is no time of ours.
fn wrong_time(text: &str) -> String {
    let sound = |begin: &str, rest: &str| format!("{begin}{rest}").parse::<jiff::Timestamp>().is_ok();
    let (year, rest) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    // Of the last year that can be told a few hours are missing; 2001 has the same days.
    if (year.len() > 4 || year == "9999") && sound("2001", rest) {
        return "the time is too far away: the last one that can be told is 9999-12-30T22:00:00Z".to_owned();
    }
    if let (Some(begin), Some(rest)) = (text.get(..8), text.get(10..))
        && sound(begin, &format!("01{rest}"))
    {
        return "there is no such day in that month".to_owned();
    }
    "write an RFC 3339 time, such as 2027-01-01T00:00:00Z".to_owned()
}

/// `GET /v1/tokens`.
pub(super) async fn list(request: Request) -> Result<Response, Problem> {
    let mut params = request.params(&pages::PARAMS)?;
    let engine = &request.app.engine;
    let wanted = pages::wanted(&mut params, &engine.services.limits);
    params.finish()?;
    let page = pages::of_all(engine.tokens.all().await?, &wanted, |token| token.id.to_string(), shown);
    answer::json(StatusCode::OK, &page)
}

/// `DELETE /v1/tokens/{id}`: ends it at once, the caller's own as well.
pub(super) async fn revoke(request: Request) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    let unknown = || Problem::new(problem::TOKEN_UNKNOWN, "there is no such token");
    let id: TokenId = request.part("id").parse().map_err(|_| unknown())?;
    let app = request.app.clone();
    work::to_the_end(async move {
        app.engine.tokens.revoke(id).await.map_err(|error| match error {
            RevokeError::Unknown => unknown(),
            RevokeError::Last => Problem::new(problem::LAST_OPERATOR_TOKEN, format!("nothing was changed: {error}")),
            RevokeError::Journal(error) => error.into(),
        })
    })
    .await?;
    tracing::info!(token = %id, by = request.caller.name(), "a token was ended");
    Ok(answer::empty(StatusCode::NO_CONTENT))
}
