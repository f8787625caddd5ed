//! Runs: listed, shown, and what an operator does to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use bellhop_core::definition::WorkflowName;
use bellhop_core::id::RunId;
use bellhop_core::run::{Cause, Status};

use super::auth::Caller;
use super::params::Params;
use super::problem::{self, Problem};
use super::request::Request;
use super::way::Base;
use super::{App, answer, definitions, pages};
use bellhop_engine::Engine;
use bellhop_engine::accept::trigger::Refused;
use bellhop_engine::execution::open::Open;
use bellhop_engine::operate::reopen::RedefineError;
use bellhop_engine::operate::resolve::{ResolveError, Settled};
use bellhop_engine::show::views::RunView;
use bellhop_journal::{Summary, key};

/// How long the caller waits for a run to end, by `?wait=`.
pub(super) fn wait(app: &App, params: &mut Params) -> Option<Duration> {
    params.span("wait", Duration::from_millis(app.engine.services.limits.wait_ms_max))
}

/// Every status, for filters.
const STATUSES: [Status; 9] = [
    Status::Running,
    Status::Waiting,
    Status::Blocked,
    Status::Parked,
    Status::Suspended,
    Status::Cancelling,
    Status::Completed,
    Status::Faulted,
    Status::Cancelled,
];

/// The address of a run.
pub(super) fn path(run: RunId) -> String {
    format!("/v1/runs/{run}")
}

/// What a run's answer links to, as its caller has to write it.
pub(super) fn links(run: RunId, base: &Base) -> Value {
    let path = base.at(&path(run));
    json!({ "self": path, "events": format!("{path}/events"), "cancel": format!("{path}/cancel") })
}

/// A run, as every route shows it.
fn shown(view: &RunView, base: &Base) -> Result<Value, Problem> {
    let mut value = pages::shown(view)?;
    if let Value::Object(fields) = &mut value {
        fields.insert("links".to_owned(), links(view.id, base));
    }
    Ok(value)
}

/// A run, for somebody who started it or told it something: how it stands. What is in it is for those who may read runs.
pub(super) fn shown_to(caller: &Caller, view: &RunView) -> Result<Value, Problem> {
    if caller.may("runs:read") {
        return shown(view, &caller.base);
    }
    Ok(json!({ "id": view.id, "status": view.status, "links": links(view.id, &caller.base) }))
}

fn unknown(run: RunId) -> Problem {
    Problem::new(problem::RUN_UNKNOWN, format!("there is no run {run}"))
}

/// The problem of a refused trigger; `asked` is the version of a workflow that it names, if it names one.
pub(super) async fn refused(engine: &Engine, refused: Refused, asked: Option<(&WorkflowName, &str)>) -> Problem {
    match refused {
        Refused::Unavailable(_) if engine.is_draining() => Problem::draining(),
        Refused::Unknown(what) => {
            if let Some((name, version)) = asked
                && let Some(problem) = definitions::version_unknown(engine, name, version).await
            {
                return problem;
            }
            // What cannot be listed is not suggested; the request has failed anyway.
            let all = engine.services.definitions.all().await.unwrap_or_default();
            let names: Vec<String> = all.into_iter().map(|(name, _)| name.to_string()).collect();
            let problem: Problem = Refused::Unknown(what.clone()).into();
            problem.with_nearest(&what, names.iter().map(String::as_str))
        }
        other => other.into(),
    }
}

/// The run once it has ended, or as it stands after `span` or when the server stops.
pub(super) async fn waited(app: &Arc<App>, run: RunId, span: Duration) -> Result<RunView, Problem> {
    let until = async {
        tokio::select! {
            () = app.engine.services.clock.sleep(span) => {}
            () = app.stopped() => {}
        }
    };
    app.engine.wait(run, until).await?.ok_or_else(|| unknown(run))
}

/// `GET /v1/runs/{id}`.
pub(super) async fn show(request: Request) -> Result<Response, Problem> {
    let run = request.run()?;
    let mut params = request.params(&["wait"])?;
    let wait = wait(&request.app, &mut params);
    params.finish()?;
    let view = match wait {
        Some(span) => waited(&request.app, run, span).await?,
        None => request.app.engine.run_view(run).await?.ok_or_else(|| unknown(run))?,
    };
    answer::json(StatusCode::OK, &shown(&view, &request.caller.base)?)
}

struct Filter {
    statuses: Vec<Status>,
    workflow: Option<String>,
    labels: BTreeMap<String, String>,
}

impl Filter {
    fn keeps(&self, summary: &Summary) -> bool {
        (self.statuses.is_empty() || self.statuses.contains(&summary.status))
            && self.workflow.as_ref().is_none_or(|wanted| {
                wanted.split_once('/').is_some_and(|(ns, name)| ns == summary.namespace && name == summary.name)
            })
            && self.labels.iter().all(|(key, value)| summary.labels.get(key) == Some(value))
    }
}

/// `GET /v1/runs`: newest first.
pub(super) async fn list(request: Request) -> Result<Response, Problem> {
    let mut params = request.params(&["status", "workflow", "label", "limit", "cursor"])?;
    let engine = &request.app.engine;
    let wanted = pages::wanted(&mut params, &engine.services.limits);
    let mut filter = Filter { statuses: Vec::new(), workflow: params.one("workflow"), labels: BTreeMap::new() };
    if filter.workflow.as_ref().is_some_and(|w| !w.contains('/')) {
        params.refused("workflow", &"write NAMESPACE/NAME");
    }
    for text in params.all("status").iter().flat_map(|s| s.split(',')) {
        match STATUSES.into_iter().find(|status| status.as_str() == text) {
            Some(status) => filter.statuses.push(status),
            None => {
                let all: Vec<&str> = STATUSES.iter().map(|s| s.as_str()).collect();
                params.refused("status", &format!("it is one of {}", all.join(", ")));
            }
        }
    }
    for text in params.all("label") {
        match text.split_once(':') {
            Some((key, value)) => {
                filter.labels.insert(key.to_owned(), value.to_owned());
            }
            None => params.refused("label", &"write NAME:VALUE"),
        }
    }
    params.finish()?;
    let range = match wanted.after {
        None => None,
        // A cursor leads nowhere but into the list of runs, whoever made it.
        Some(from) if key::Parts::of(key::Space::Listing, &from).is_some() => {
            Some(key::Range { from, ..key::all(key::Space::Listing) })
        }
        Some(_) => return Err(pages::of_another_list()),
    };
    let (views, next) = engine.run_list(range, wanted.limit, |summary| filter.keeps(summary)).await?;
    let base = &request.caller.base;
    let shown: Vec<Value> = views.iter().map(|view| shown(view, base)).collect::<Result<_, _>>()?;
    answer::json(StatusCode::OK, &pages::page(&shown, next.as_ref().map(|range| range.from.as_slice())))
}

/// Brings `cause` to a run that has not ended; the run as it stands after its decision.
async fn told(
    mut request: Request,
    cause: Cause,
    allowed: fn(Status) -> Option<problem::Kind>,
) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    request.form_or_nothing(&[]).await?.finish()?;
    tell(request, cause, allowed, None).await
}

/// As [`told`], after the form was read. With `nothing`, that is the problem of a run about which there is nothing to
/// decide.
async fn tell(
    request: Request,
    cause: Cause,
    allowed: fn(Status) -> Option<problem::Kind>,
    nothing: Option<problem::Kind>,
) -> Result<Response, Problem> {
    let run = request.run()?;
    let engine = request.app.engine.clone();
    if engine.is_draining() {
        return Err(Problem::draining());
    }
    let before = engine.summary(run).await?.ok_or_else(|| unknown(run))?;
    if let Some(kind) = allowed(before.status) {
        let present = engine.run_view(run).await?.ok_or_else(|| unknown(run))?;
        let detail = format!("the run is {}", present.status.as_str());
        return Err(Problem::new(kind, detail).with("run", shown_to(&request.caller, &present)?));
    }
    let by = request.caller.name();
    tracing::info!(%run, by = %by, "an operator signals a run");
    let decided = engine.signal_by(run, cause, Some(by)).await?;
    let view = engine.run_view(run).await?.ok_or_else(|| unknown(run))?;
    if let Some(kind) = nothing.filter(|_| !decided) {
        let detail = format!("the run is {}, and there is nothing to do about it", view.status.as_str());
        return Err(Problem::new(kind, detail).with("run", shown_to(&request.caller, &view)?));
    }
    answer::json(StatusCode::OK, &shown_to(&request.caller, &view)?)
}

fn not_ended(status: Status) -> Option<problem::Kind> {
    status.is_final().then_some(problem::RUN_ENDED)
}

/// `POST /v1/runs/{id}/cancel`: the run ends once what it sent has ended, with `rollback` once what it changed is taken
/// back, and with `force` whatever it leaves behind.
pub(super) async fn cancel(mut request: Request) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    let mut form = request.form_or_nothing(&["rollback", "force"]).await?;
    let (rollback, force) = (form.flag("rollback") == Some(true), form.flag("force") == Some(true));
    if rollback && force {
        form.refuse("force", "a run that ends whatever it leaves behind takes nothing back");
    }
    form.finish()?;
    let cause = match (rollback, force) {
        (_, true) => Cause::Kill,
        (true, false) => Cause::CancelAndUndo,
        (false, false) => Cause::Cancel,
    };
    if rollback {
        still_to_undo(&request.app.clone(), &request.caller.clone(), request.run()?).await?;
    }
    // Asked for twice, it is asked for.
    let allowed = |status| if status == Status::Cancelled { None } else { not_ended(status) };
    tell(request, cause, allowed, None).await
}

/// A run that was cancelled before, and of which changes stand, is not taken back by being cancelled once more.
async fn still_to_undo(app: &App, caller: &Caller, run: RunId) -> Result<(), Problem> {
    let engine = &app.engine;
    let summary = engine.summary(run).await?.ok_or_else(|| unknown(run))?;
    let left = summary.aftermath.left.unwrap_or(0);
    if summary.status != Status::Cancelled || left == 0 {
        return Ok(());
    }
    let present = engine.run_view(run).await?.ok_or_else(|| unknown(run))?;
    let changes =
        if left == 1 { "one of its changes stands".to_owned() } else { format!("{left} of its changes stand") };
    Err(Problem::new(problem::RUN_ENDED, format!("the run is cancelled, and {changes}"))
        .with("run", shown_to(caller, &present)?)
        .with_remedy(format!("take back what it changed: bellhop runs undo {run}")))
}

/// `POST /v1/runs/{id}/retry`: a faulted or parked run goes on from the task that failed, in a new attempt; with
/// `version` on that version of its workflow.
pub(super) async fn retry(mut request: Request) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    let mut form = request.form_or_nothing(&["version"]).await?;
    let version = form.text("version");
    form.finish()?;
    if let Some(version) = version
        && let Some(answer) = redefined(request.app.clone(), request.run()?, &request.caller, &version).await?
    {
        return Ok(answer);
    }
    let allowed = |status| match status {
        Status::Faulted | Status::Parked => None,
        Status::Completed | Status::Cancelled => Some(problem::RUN_ENDED),
        _ => Some(problem::RUN_NOT_RETRYABLE),
    };
    tell(request, Cause::Retry, allowed, Some(problem::RUN_NOT_RETRYABLE)).await
}

/// The run as it goes on on another version; none where that is what it is on.
async fn redefined(app: Arc<App>, run: RunId, caller: &Caller, version: &str) -> Result<Option<Response>, Problem> {
    let engine = app.engine.clone();
    if engine.is_draining() {
        return Err(Problem::draining());
    }
    let summary = engine.summary(run).await?.ok_or_else(|| unknown(run))?;
    if matches!(summary.status, Status::Completed | Status::Cancelled) {
        let present = engine.run_view(run).await?.ok_or_else(|| unknown(run))?;
        let detail = format!("the run is {}", present.status.as_str());
        return Err(Problem::new(problem::RUN_ENDED, detail).with("run", shown_to(caller, &present)?));
    }
    tracing::info!(%run, by = caller.name(), version, "an operator has a run go on with a version");
    match engine.redefine(run, version).await {
        Ok(false) => return Ok(None),
        Ok(true) => {}
        Err(RedefineError::Load(error)) => return Err(error.into()),
        Err(RedefineError::Refused(error)) => {
            let workflow = WorkflowName { namespace: summary.namespace, name: summary.name };
            return Err(refused(&engine, error, Some((&workflow, version))).await);
        }
        Err(RedefineError::Differs(difference)) => {
            let detail = "nothing was changed: that version would not have come to where the run stands";
            return Err(Problem::new(problem::DEFINITION_DIFFERS, detail).with_diagnostics(vec![*difference]));
        }
        Err(RedefineError::NothingToRetry(why)) => {
            let present = engine.run_view(run).await?.ok_or_else(|| unknown(run))?;
            return Err(Problem::new(problem::RUN_NOT_RETRYABLE, why).with("run", shown_to(caller, &present)?));
        }
    }
    let view = engine.run_view(run).await?.ok_or_else(|| unknown(run))?;
    answer::json(StatusCode::OK, &shown_to(caller, &view)?).map(Some)
}

/// `POST /v1/runs/{id}/undo`: what an ended run changed is taken back, newest first.
pub(super) async fn undo(mut request: Request) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    request.form_or_nothing(&[]).await?.finish()?;
    let allowed = |status: Status| (!status.is_final()).then_some(problem::RUN_NOT_UNDOABLE);
    tell(request, Cause::Undo, allowed, Some(problem::RUN_NOT_UNDOABLE)).await
}

/// `POST /v1/runs/{id}/suspend`.
pub(super) async fn suspend(request: Request) -> Result<Response, Problem> {
    told(request, Cause::Suspend, not_ended).await
}

/// `POST /v1/runs/{id}/resume`.
pub(super) async fn resume(mut request: Request) -> Result<Response, Problem> {
    request.params(&[])?.finish()?;
    request.form_or_nothing(&[]).await?.finish()?;
    let allowed = |status: Status| {
        // A suspended run can be parked or be cancelling at the same time, and shows as that.
        let can = matches!(status, Status::Suspended | Status::Parked | Status::Cancelling);
        not_ended(status).or_else(|| (!can).then_some(problem::RUN_NOT_SUSPENDED))
    };
    // One that is only that has no pause to end.
    tell(request, Cause::Resume, allowed, Some(problem::RUN_NOT_SUSPENDED)).await
}

/// `POST /v1/runs/{id}/resolve`: a person says what became of a call that nobody could tell, and the run goes on.
pub(super) async fn resolve(mut request: Request) -> Result<Response, Problem> {
    let run = request.run()?;
    request.params(&[])?.finish()?;
    let mut form = request.form(&["task", "done", "answer"]).await?;
    let task = form.text("task");
    let done = form.needed_flag("done");
    let answer = form.take("answer").filter(|answer| !answer.is_null());
    if answer.is_some() && done == Some(false) {
        form.refuse("answer", "what was not done has no answer");
    }
    form.finish()?;
    let Some(done) = done else { return Err(Problem::internal(&"a form without `done` was taken for whole")) };
    let engine = request.app.engine.clone();
    if engine.is_draining() {
        return Err(Problem::draining());
    }
    let by = request.caller.name();
    tracing::info!(%run, by, done, "an operator resolves a call");
    let settled = match engine.resolve(run, task, done, answer, by).await {
        Ok(settled) => settled,
        Err(error) => return Err(not_settled(&request.app.clone(), &request.caller.clone(), run, error).await?),
    };
    let view = engine.run_view(run).await?.ok_or_else(|| unknown(run))?;
    let mut shown = shown_to(&request.caller, &view)?;
    shown["settled"] = match settled {
        Settled::One(open) => {
            let mut settled = open.shown();
            settled["done"] = done.into();
            json!([settled])
        }
        Settled::TakenUp => json!([]),
    };
    answer::json(StatusCode::OK, &shown)
}

/// Why nothing of a run was settled, and what is open.
async fn not_settled(app: &App, caller: &Caller, run: RunId, error: ResolveError) -> Result<Problem, Problem> {
    let detail = error.to_string();
    let shown_max = app.engine.services.limits.list_items_max;
    let with_open = |problem: Problem, open: &[Open]| {
        let shown_max = usize::try_from(shown_max).unwrap_or(usize::MAX);
        let shown: Vec<Value> = open.iter().take(shown_max).map(Open::shown).collect();
        let more = open.len() - shown.len();
        problem.with("open", shown).with("openMore", more as u64)
    };
    let kind = match error {
        ResolveError::NotParked(status) => not_ended(status).unwrap_or(problem::RUN_NOT_PARKED),
        ResolveError::Aside => problem::RUN_NOT_PARKED,
        ResolveError::Ambiguous(open) => {
            return Ok(with_open(Problem::new(problem::ADDRESS_AMBIGUOUS, detail), &open));
        }
        ResolveError::NotOpen { open, .. } => {
            let problem = with_open(Problem::new(problem::NOT_OPEN, detail), &open);
            return Ok(if open.is_empty() {
                problem.with_remedy(format!(
                    "have it tried again: bellhop runs retry {run}; or end it: bellhop runs cancel {run} --rollback"
                ))
            } else {
                problem
            });
        }
        ResolveError::NotInDoubt(open) => {
            return Ok(with_open(Problem::new(problem::NOT_IN_DOUBT, detail), std::slice::from_ref(&*open)));
        }
        ResolveError::AnswerNeeded(diagnostics) => {
            let detail = "nothing was settled: what was carried out was answered something that only you can say";
            return Ok(Problem::new(problem::ANSWER_NEEDED, detail).with_diagnostics(diagnostics));
        }
        ResolveError::Load(error) => return Ok(error.into()),
    };
    let present = app.engine.run_view(run).await?.ok_or_else(|| unknown(run))?;
    Ok(Problem::new(kind, detail).with("run", shown_to(caller, &present)?))
}
