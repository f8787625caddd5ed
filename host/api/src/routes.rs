//! The one table of addresses, and what every request goes through.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request as HttpRequest, State};
use axum::http::{HeaderName, HeaderValue, Method, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, MethodRouter};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tracing::Instrument as _;

use bellhop_core::definition::WorkflowName;
use bellhop_core::id::RequestId;

use super::auth::{self, Needs};
use super::behind::{self, UnderWay};
use super::problem::{self, Problem};
use super::request::{self, Request};
use super::way::{Base, Peer, Way};
use super::{
    App, actions, backups, check, clock, connections, definitions, doctor, events, metrics, operating, plugins, runs,
    start, tables, tokens,
};
use bellhop_engine::accept::blocked::Change;
use bellhop_engine::setup::tokens::MAKES_TOKENS;
use bellhop_faults as faults;
use bellhop_limits::Limits;

/// A method of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Also `HEAD`.
    Get,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `DELETE`.
    Delete,
}

impl Verb {
    /// As in a request.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }

    const fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Put => MethodFilter::PUT,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

/// Whether a route works before what was open at the last stop is taken up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum While {
    /// Also while the host starts.
    Starting,
    /// Once it is ready: it begins or changes runs.
    Ready,
}

type Handler = fn(Request) -> BoxFuture<'static, Result<Response, Problem>>;

/// One line of [`ROUTES`].
#[derive(Clone, Copy)]
pub struct Route {
    /// The method.
    pub verb: Verb,
    /// The address, with names in braces.
    pub path: &'static str,
    /// What the caller's token must allow.
    pub needs: Needs,
    /// When it works.
    pub works: While,
    handler: Handler,
}

macro_rules! routes {
    ($($verb:ident $path:literal $needs:expr, $works:ident => $handler:path;)*) => {
        /// Every route.
        pub const ROUTES: &[Route] = &[$(Route {
            verb: Verb::$verb,
            path: $path,
            needs: $needs,
            works: While::$works,
            handler: |request| Box::pin($handler(request)),
        }),*];
    };
}

/// Who writes, starts or watches workflows has to see what there is.
const SEE: Needs = Needs::One(&["runs:read", "workflows:write"]);
const READ: Needs = Needs::One(&["runs:read"]);
const OPERATE: Needs = Needs::One(&["runs:operate"]);
const WRITE: Needs = Needs::One(&["workflows:write"]);
const INSTALL: Needs = Needs::One(&["plugins:install"]);
const TOKENS: Needs = Needs::One(&[MAKES_TOKENS]);
const CONNECT: Needs = Needs::One(&["connections:admin"]);

routes! {
    // Runs.
    Post "/v1/workflows/{namespace}/{name}/runs" Needs::Start, Ready => start::start;
    Get "/v1/runs" READ, Starting => runs::list;
    Get "/v1/runs/{id}" READ, Starting => runs::show;
    Get "/v1/runs/{id}/events" READ, Starting => events::events;
    Post "/v1/runs/{id}/cancel" OPERATE, Ready => runs::cancel;
    Post "/v1/runs/{id}/suspend" OPERATE, Ready => runs::suspend;
    Post "/v1/runs/{id}/resume" OPERATE, Ready => runs::resume;
    Post "/v1/runs/{id}/resolve" OPERATE, Ready => runs::resolve;
    Post "/v1/runs/{id}/retry" OPERATE, Ready => runs::retry;
    Post "/v1/runs/{id}/undo" OPERATE, Ready => runs::undo;
    // Definitions.
    Get "/v1/workflows" SEE, Starting => definitions::list;
    Put "/v1/workflows/{namespace}/{name}" WRITE, Starting => definitions::put;
    Get "/v1/workflows/{namespace}/{name}" SEE, Starting => definitions::show;
    Put "/v1/workflows/{namespace}/{name}/bindings" WRITE, Starting => definitions::bind;
    Get "/v1/workflows/{namespace}/{name}/bindings" SEE, Starting => definitions::bindings;
    Post "/v1/check" SEE, Starting => check::check;
    Get "/v1/schema/workflow.json" SEE, Starting => definitions::schema;
    Get "/v1/tables" SEE, Starting => tables::list;
    Put "/v1/tables/{name}" WRITE, Starting => tables::put;
    Get "/v1/tables/{name}" SEE, Starting => tables::show;
    // Connections.
    Post "/v1/connections" CONNECT, Starting => connections::create;
    Get "/v1/connections" Needs::One(&["connections:admin", "runs:read", "workflows:write"]), Starting => connections::list;
    Get "/v1/connections/{name}" Needs::One(&["connections:admin", "runs:read", "workflows:write"]), Starting => connections::show;
    Delete "/v1/connections/{name}" CONNECT, Starting => connections::remove;
    Post "/v1/connections/{name}/test" CONNECT, Starting => connections::test;
    Post "/v1/connection-links" CONNECT, Starting => connections::link;
    // Plugins.
    Post "/v1/plugins" INSTALL, Starting => plugins::install;
    Get "/v1/plugins/{name}" Needs::One(&["plugins:install", "runs:read", "workflows:write"]), Starting => plugins::show;
    Delete "/v1/plugins/{name}" INSTALL, Starting => plugins::remove;
    Delete "/v1/plugins/{name}/{version}" INSTALL, Starting => plugins::remove;
    Post "/v1/plugins/{name}/grant" INSTALL, Starting => plugins::grant;
    Get "/v1/plugins" Needs::One(&["plugins:install", "runs:read", "workflows:write"]), Starting => plugins::list;
    Get "/v1/actions" Needs::One(&["plugins:install", "runs:read", "workflows:write"]), Starting => actions::list;
    Post "/v1/actions/{name}/runs" Needs::One(&["runs:start"]), Ready => actions::run;
    // Operating.
    Get "/v1/backup" Needs::One(&["backups:read"]), Starting => backups::take;
    Post "/v1/backup" Needs::One(&["backups:secrets"]), Starting => backups::take_with_secrets;
    Post "/v1/restore/go-on" OPERATE, Starting => backups::go_on;
    Post "/v1/tokens" TOKENS, Starting => tokens::create;
    Get "/v1/tokens" Needs::One(&["audit:read", MAKES_TOKENS]), Starting => tokens::list;
    Delete "/v1/tokens/{id}" TOKENS, Starting => tokens::revoke;
    Get "/v1/clock" Needs::One(&["runs:operate", "runs:read"]), Starting => clock::show;
    Post "/v1/clock/confirm" OPERATE, Starting => clock::confirm;
    Get "/v1/doctor" OPERATE, Starting => doctor::doctor;
    Get "/healthz" Needs::Nothing, Starting => operating::health;
    Get "/readyz" Needs::Nothing, Starting => operating::ready;
    Get "/metrics" Needs::One(&["runs:read", "audit:read"]), Starting => metrics::metrics;
}

/// The one route of the listener for metrics.
static METRICS: Route = Route {
    verb: Verb::Get,
    path: "/metrics",
    needs: Needs::Nothing,
    works: While::Starting,
    handler: |request| Box::pin(metrics::metrics(request)),
};

/// A connection in a place that is kept for probes: nothing else is answered there.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProbesOnly;

/// What needs no place like others.
const PROBES: [&str; 2] = ["/healthz", "/readyz"];

/// The metrics alone, for whoever can connect.
pub(super) fn of_metrics(app: Arc<App>) -> Router {
    dressed(Router::new().route(METRICS.path, methods(&[&METRICS])), app)
}

/// The routes, with everything that every request goes through except what the server does to sockets.
pub(super) fn of_app(app: Arc<App>) -> Router {
    let mut by_path: BTreeMap<&'static str, Vec<&'static Route>> = BTreeMap::new();
    for route in ROUTES {
        by_path.entry(route.path).or_default().push(route);
    }
    let mut router = Router::new();
    for (path, routes) in by_path {
        router = router.route(path, methods(&routes));
    }
    dressed(router, app)
}

/// What an address does, by method.
fn methods(routes: &[&'static Route]) -> MethodRouter<Arc<App>> {
    let mut allowed: Vec<&str> = routes.iter().map(|route| route.verb.as_str()).collect();
    if allowed.contains(&"GET") {
        allowed.push("HEAD");
    }
    let allowed = allowed.join(", ");
    let mut methods: MethodRouter<Arc<App>> =
        MethodRouter::new().fallback(move || std::future::ready(Problem::method_not_allowed(&allowed)));
    for &route in routes {
        let answer = move |State(app): State<Arc<App>>,
                           path: Result<RawPathParams, RawPathParamsRejection>,
                           request: HttpRequest| { carry_out(app, route, path, request) };
        methods = methods.on(route.verb.filter(), answer);
    }
    methods
}

/// `router` with what surrounds every request.
pub(super) fn dressed(router: Router<Arc<App>>, app: Arc<App>) -> Router {
    router
        .fallback(|uri: Uri| async move {
            Problem::new(problem::ROUTE_UNKNOWN, "there is nothing at this address")
                .with_nearest(uri.path(), ROUTES.iter().map(|route| route.path))
        })
        .layer(middleware::from_fn_with_state(app.clone(), around))
        .with_state(app)
}

async fn carry_out(
    app: Arc<App>,
    route: &'static Route,
    path: Result<RawPathParams, RawPathParamsRejection>,
    request: HttpRequest,
) -> Response {
    tracing::Span::current().record("route", route.path);
    let mut answer = match admitted(app, route, path, request).await {
        Ok(request) => (route.handler)(request).await.unwrap_or_else(Problem::into_response),
        Err(problem) => problem.into_response(),
    };
    answer.extensions_mut().insert(Answered(route.path));
    answer
}

/// By which address of the table a request was answered.
#[derive(Clone, Copy)]
struct Answered(&'static str);

/// What a route answers with.
fn produced(route: &Route) -> &'static [&'static str] {
    match (route.verb, route.path) {
        (Verb::Get, "/v1/runs/{id}/events") => &["text/event-stream", "application/json"],
        (Verb::Get, "/v1/workflows/{namespace}/{name}") => &["application/yaml", "application/json"],
        (Verb::Get, "/metrics") => metrics::FORMS,
        (_, "/v1/backup") => &[backups::KIND],
        (_, "/v1/check") => &["application/json", "text/plain"],
        _ => &["application/json"],
    }
}

/// The request, if it may go on.
async fn admitted(
    app: Arc<App>,
    route: &'static Route,
    path: Result<RawPathParams, RawPathParamsRejection>,
    request: HttpRequest,
) -> Result<Request, Problem> {
    let path = path.map_err(|_| Problem::new(problem::ROUTE_UNKNOWN, "the address has parts that are not UTF-8"))?;
    let path: Vec<(String, String)> = path.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let part = |wanted: &str| path.iter().find(|(name, _)| name == wanted).map(|(_, v)| v.clone()).unwrap_or_default();
    let workflow = WorkflowName { namespace: part("namespace"), name: part("name") };
    let (mut parts, body) = request.into_parts();
    let base = parts.extensions.remove::<Base>().unwrap_or_default();
    let caller = auth::caller(&app, route.needs, &parts.headers, &workflow, base).await?;
    let produced = produced(route);
    // A probe wants a status, whatever it says that it takes.
    if !PROBES.contains(&route.path) && !request::accepts(&parts.headers, produced) {
        let detail = format!("this address answers with `{}`", produced.join("` or `"));
        return Err(Problem::new(problem::NOT_ACCEPTABLE, detail));
    }
    if route.works == While::Ready {
        operating::must_be_ready(&app.engine)?;
    }
    Ok(Request { app, caller, headers: parts.headers, path, uri: parts.uri, body })
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Around every request: its id, its span, its log line; no panic and no problem leaves without a form.
async fn around(State(app): State<Arc<App>>, mut request: HttpRequest, next: Next) -> Response {
    let services = &app.engine.services;
    let id = RequestId::new(services.clock.now(), services.entropy.next_wide());
    let begun = services.clock.monotonic();
    let path = request.uri().path().to_owned();
    let change = changed(request.method(), &path);
    let verb = metrics::verb(request.method());
    let peer = request.extensions_mut().remove::<Peer>().unwrap_or_default();
    let way = app.ways.of(peer, request.headers());
    request.extensions_mut().insert(way.base.clone());
    let from = way.sender.map(tracing::field::display);
    let span = tracing::info_span!("request", %id, method = %request.method(), from, route = tracing::field::Empty);
    let answered = async {
        let admitted = headers_fit(&request, &services.limits)
            .and_then(|()| has_a_place(&request))
            .and_then(|()| has_a_share(&app, &way, &path, begun));
        let answer = match admitted {
            Ok(None) => AssertUnwindSafe(next.run(request)).catch_unwind().await,
            Ok(Some(under_way)) => {
                let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
                answer.map(|answer| behind::until_gone(answer, under_way))
            }
            Err(problem) => Ok(problem.into_response()),
        };
        let answer = answer.unwrap_or_else(|panic| {
            let text =
                panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
            Problem::internal(&format!("panic: {}", text.unwrap_or("without a text"))).into_response()
        });
        let status = answer.status().as_u16();
        let took_us = services.clock.monotonic().saturating_sub(begun).as_micros();
        if let Some(problem) = answer.extensions().get::<Problem>() {
            tracing::info!(status, code = problem.kind().code, took_us, "answered");
        } else {
            tracing::debug!(status, took_us, "answered");
        }
        answer
    };
    let mut answer = answered.instrument(span).await;
    if let Some(problem) = answer.extensions_mut().remove::<Problem>() {
        answer = problem.render(id, &path, &way.base);
    }
    if let Some(change) = change.filter(|_| answer.status().is_success()) {
        app.engine.remedied(&change);
    }
    let took = services.clock.monotonic().saturating_sub(begun);
    let route = answer.extensions().get::<Answered>().map_or("", |answered| answered.0);
    app.counters.answered(verb, route, answer.status(), took);
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        answer.headers_mut().insert(REQUEST_ID, value);
    }
    faults::news();
    answer
}

/// What an operator changes with a request that succeeds, as far as a blocked run may wait for it.
fn changed(method: &Method, path: &str) -> Option<Change> {
    if method.is_safe() {
        return None;
    }
    if path.contains('%') {
        // Not the name as it stands.
        return Some(Change::Any);
    }
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts[..] {
        ["v1", "connections" | "plugins", ..] => Some(Change::Reach),
        ["v1", "tables", name] => Some(Change::Table(name.to_owned())),
        // Another version of its workflow is not what a run waits for.
        ["v1", "workflows", namespace, name, "bindings"] => {
            Some(Change::Bindings(WorkflowName { namespace: namespace.to_owned(), name: name.to_owned() }))
        }
        [
            "v1",
            "runs" | "workflows" | "actions" | "check" | "tokens" | "connection-links" | "clock" | "backup" | "restore",
            ..,
        ] => None,
        _ => Some(Change::Any),
    }
}

/// Whoever came when all places were taken is answered a probe, and told to come again with anything else.
fn has_a_place(request: &HttpRequest) -> Result<(), Problem> {
    if request.extensions().get::<ProbesOnly>().is_none() || PROBES.contains(&request.uri().path()) {
        return Ok(());
    }
    let detail = "all connections that may be open, or that may be from your address, are";
    Err(Problem::later(problem::CONNECTIONS_FULL, detail, Duration::from_secs(5)))
}

/// Whoever stands behind a trusted proxy has a share of the requests, since its connections are everybody's; nobody needs
/// one for a probe.
fn has_a_share(app: &App, way: &Way, path: &str, now: Duration) -> Result<Option<UnderWay>, Problem> {
    let Some(sender) = way.sender.filter(|_| way.is_behind && !PROBES.contains(&path)) else { return Ok(None) };
    let detail = "as many requests are under way as may be from your address";
    let under_way = app.behind.enter(sender, now);
    under_way.map(Some).ok_or_else(|| Problem::later(problem::CONNECTIONS_FULL, detail, Duration::from_secs(5)))
}

/// The server reads more than may be, so that the refusal can say why.
fn headers_fit(request: &HttpRequest, limits: &Limits) -> Result<(), Problem> {
    let headers = request.headers();
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let uri = request.uri().path_and_query().map_or(0, |p| p.as_str().len());
    let (headers_max, header_bytes_max) = (limits.headers_max, limits.header_bytes_max);
    if headers.len() as u64 > headers_max || (bytes + uri) as u64 > header_bytes_max {
        let detail =
            format!("at most {headers_max} headers and {header_bytes_max} bytes, the address included, are read");
        return Err(Problem::new(problem::HEADERS_TOO_LARGE, detail));
    }
    Ok(())
}
