//! `GET /v1/doctor`: what surrounds the host, as its own process sees it.

use std::fmt;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::answer;
use super::problem::Problem;
use super::request::Request;
use bellhop_engine::Engine;

type Look = dyn Fn(Arc<Engine>) -> BoxFuture<'static, Value> + Send + Sync;

/// Looks at what surrounds a host. Whoever puts the host together knows how; what comes of it is a list of checks.
#[derive(Clone)]
pub struct Doctor(pub Arc<Look>);

impl Default for Doctor {
    /// One that looks at nothing.
    fn default() -> Self {
        Self(Arc::new(|_| Box::pin(std::future::ready(json!([])))))
    }
}

impl fmt::Debug for Doctor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Doctor")
    }
}

/// Answers with all checks. One looks at a time, because it synchronises the disk and asks Slack.
pub(super) async fn doctor(request: Request) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    let app = request.app.clone();
    let doctor = app.doctor.lock().await;
    let checks = (doctor.0)(app.engine.clone()).await;
    answer::json(StatusCode::OK, &json!({ "asked": "host", "checks": checks }))
}
