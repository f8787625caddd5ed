//! `POST /v1/workflows/{namespace}/{name}/runs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;
use bellhop_core::run::Status;

use super::auth::Caller;
use super::form::{self, Form};
use super::problem::{self, Problem};
use super::request::Request;
use super::{App, answer, runs, work};
use bellhop_engine::accept::trigger::{Accepted, Trigger};
use bellhop_engine::show::views::RunView;
use bellhop_engine::traces::{Trace, Traceparent};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const KEY_BYTES_MAX: usize = 255;
const LABEL_KEY_CHARS_MAX: usize = 64;
const LABEL_VALUE_CHARS_MAX: usize = 256;
const CONNECTIONS_MAX: usize = 64;

const FIELDS: [&str; 4] = ["input", "version", "connections", "labels"];

/// Starts a run, or gives the one that the key started.
pub(super) async fn start(mut request: Request) -> Result<Response, Problem> {
    let mut params = request.params(&["wait", "dryRun", "onRefusal"])?;
    let wait = runs::wait(&request.app, &mut params);
    let dry_run = params.flag("dryRun");
    let on_refusal = params.one("onRefusal");
    if on_refusal.as_deref().is_some_and(|on| !matches!(on, "block" | "refuse")) {
        params.refused("onRefusal", &"it is `block` or `refuse`");
    }
    params.finish()?;
    if dry_run {
        return Err(Problem::not_supported("`dryRun`"));
    }
    let idempotency_key = idempotency_key(&request)?;
    let bytes = request.json_bytes().await?;
    let mut form = Form::of(form::parse(&bytes)?, &FIELDS)?;
    let labels_max = request.app.engine.services.limits.labels_max;
    let (workflow, version) = (request.workflow(), form.text("version"));
    let trigger = Trigger {
        inline: None,
        traceparent: traceparent(&request),
        workflow: workflow.clone(),
        version: version.clone(),
        input: Arc::new(form.needed("input", "the workflow's input").unwrap_or(Value::Null)),
        connections: form.text_map("connections"),
        labels: labels(&mut form, labels_max),
        idempotency_key,
        by: Some(request.caller.name()),
        body: Digest::of(&bytes),
    };
    if trigger.connections.len() > CONNECTIONS_MAX {
        form.refuse("connections", format!("a trigger names at most {CONNECTIONS_MAX} connections"));
    }
    form.finish()?;
    let engine = request.app.engine.clone();
    let block = on_refusal.as_deref() == Some("block");
    let starts = engine.clone();
    let accepted = work::by_the_engine(&engine, async move { starts.trigger_or(trigger, block).await }).await?;
    let asked = version.as_deref().map(|version| (&workflow, version));
    let accepted = match accepted {
        Ok(accepted) => accepted,
        Err(refused) => return Err(runs::refused(&engine, refused, asked).await),
    };
    answered(&request.app, &request.caller, &accepted, wait).await
}

/// The labels of a run.
pub(super) fn labels(form: &mut Form, labels_max: u64) -> BTreeMap<String, String> {
    let labels = form.text_map("labels");
    let label_fits = |(key, value): (&String, &String)| {
        (1..=LABEL_KEY_CHARS_MAX).contains(&key.chars().count())
            && !key.contains(':')
            && value.chars().count() <= LABEL_VALUE_CHARS_MAX
    };
    if labels.len() as u64 > labels_max || !labels.iter().all(label_fits) {
        form.refuse(
            "labels",
            format!(
                "a run has at most {labels_max} labels; a label's name has 1 to {LABEL_KEY_CHARS_MAX} characters without \
                 `:`, its value at most {LABEL_VALUE_CHARS_MAX}"
            ),
        );
    }
    labels
}

/// The answer to a trigger. What a run gave is for those who may read runs: whoever may only start them learns which it is,
/// how it stands, and whether it was there before.
pub(super) async fn answered(
    app: &Arc<App>,
    caller: &Caller,
    accepted: &Accepted,
    wait: Option<Duration>,
) -> Result<Response, Problem> {
    let run = accepted.run;
    let (status, mut body) = match wait {
        None if accepted.replayed => {
            // As it is now: that it began is no news to whoever asks again.
            let view = app.engine.run_view(run).await?;
            let view = view.ok_or_else(|| Problem::internal(&"a run whose key is bound is not there"))?;
            // With the first answer's code, whatever became of the run since.
            (StatusCode::ACCEPTED, runs::shown_to(caller, &view)?)
        }
        None => (StatusCode::ACCEPTED, as_accepted(app, caller, run).await?),
        Some(wait) => {
            let view = runs::waited(app, run, wait).await?;
            (status_of(&view), runs::shown_to(caller, &view)?)
        }
    };
    if !accepted.warnings.is_empty() {
        body["warnings"] = json!(accepted.warnings);
    }
    let response = answer::with_location(answer::json(status, &body)?, &caller.base.at(&runs::path(run)));
    Ok(if accepted.replayed { answer::with_header(response, IDEMPOTENT_REPLAYED, "true") } else { response })
}

fn status_of(view: &RunView) -> StatusCode {
    if view.status.is_final() { StatusCode::OK } else { StatusCode::ACCEPTED }
}

/// Only what was settled at the acceptance: that is durable, and it costs no further wait.
async fn as_accepted(app: &App, caller: &Caller, run: RunId) -> Result<Value, Problem> {
    let summary = app.engine.summary(run).await?.ok_or_else(|| Problem::internal(&"an accepted run is not there"))?;
    let status = if summary.status == Status::Blocked { Status::Blocked } else { Status::Running };
    Ok(json!({
        "id": run,
        "status": status,
        "workflow": format!("{}/{}", summary.namespace, summary.name),
        "version": summary.version,
        "waiting": null,
        "open": [],
        "openMore": 0,
        "output": null,
        "error": null,
        "labels": summary.labels,
        "startedAt": summary.started_at.to_string(),
        "endedAt": null,
        "reason": null,
        "undone": null,
        "left": null,
        "superseded_by": null,
        "by": null,
        "trace_id": Trace::of(run, summary.traceparent.as_deref().and_then(Traceparent::parse)).id(),
        "links": runs::links(run, &caller.base),
    }))
}

/// The caller's own trace. As the standard says, a header that is none, or that stands there twice, counts as none.
pub(super) fn traceparent(request: &Request) -> Option<Traceparent> {
    let mut all = request.headers.get_all(TRACEPARENT).iter();
    let only = all.next().filter(|_| all.next().is_none())?;
    Traceparent::parse(only.to_str().ok()?)
}

/// The caller's key, if there is one.
pub(super) fn idempotency_key(request: &Request) -> Result<Option<String>, Problem> {
    let Some(key) = request.header(&IDEMPOTENCY_KEY)? else { return Ok(None) };
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        let detail = format!("`Idempotency-Key` has 1 to {KEY_BYTES_MAX} bytes");
        return Err(Problem::new(problem::REQUEST_INVALID, detail));
    }
    Ok(Some(key.to_owned()))
}
