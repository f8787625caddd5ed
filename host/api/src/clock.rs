//! What is held of the machine's clock, and a person's word that it is right.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::problem::{self, Problem};
use super::request::Request;
use super::{answer, work};
use bellhop_engine::Engine;

/// How it stands. Without a doubt the newest known time is what the clock shows.
fn stands(engine: &Engine) -> Value {
    let time = &engine.services.time;
    let (doubt, shown) = (time.doubt(), time.shown());
    json!({
        "time": shown.to_string(),
        "newestKnown": doubt.map_or(shown, |doubt| doubt.newest).to_string(),
        "doubted": doubt.is_some(),
        "why": doubt.map(|doubt| doubt.why.as_str()),
        "slackTime": doubt.and_then(|doubt| doubt.other).map(|other| other.to_string()),
    })
}

/// `GET /v1/clock`.
pub(super) async fn show(request: Request) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    answer::json(StatusCode::OK, &stands(&request.app.engine))
}

/// `POST /v1/clock/confirm`: a person says that the machine's clock is right. What had to wait for that goes on.
pub(super) async fn confirm(mut request: Request) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    request.form_or_nothing(&[]).await?.finish()?;
    let (app, by) = (request.app.clone(), request.caller.name());
    let body = work::to_the_end(async move {
        let was_doubted = app.engine.confirm_clock(&by).await?;
        let mut body = stands(&app.engine);
        body["wasDoubted"] = json!(was_doubted);
        Ok(body)
    })
    .await?;
    answer::json(StatusCode::OK, &body)
}

/// Ok unless the machine's clock is doubted.
pub(super) fn must_be_believed(engine: &Engine) -> Result<(), Problem> {
    let time = &engine.services.time;
    let Some(doubt) = time.doubt() else { return Ok(()) };
    let slack = doubt.other.map_or_else(String::new, |other| format!("; Slack's clock showed {other}"));
    let detail = format!(
        "{}: it shows {}, and the newest time that is known is {}{slack}. Starts and calls go on; nothing is removed, nothing ends and no timer fires that was not due by then",
        doubt.why.as_str(),
        time.shown(),
        doubt.newest,
    );
    Err(Problem::later(problem::CLOCK_DOUBTED, detail, Duration::from_secs(10)))
}
