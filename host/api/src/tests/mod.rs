//! The interface, driven in this process and over sockets.

mod auth;
mod costly;
mod damage;
mod definitions;
mod events;
mod operating;
mod plugins;
mod refusals;
mod runs;
mod slack;
mod sockets;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tower::ServiceExt as _;

use bellhop_core::time::Timestamp;
use bellhop_slack::client::{Client, Options as ClientOptions};

use super::{App, Options, routes};
use bellhop_clock::Manual;
use bellhop_engine as engine;
use bellhop_engine::Engine;
use bellhop_engine::setup::connections::Secrets;
use bellhop_engine::setup::tokens::Scope;
use bellhop_journal::Journal;
use bellhop_journal::memory::Memory;
use bellhop_limits::Limits;
use bellhop_sandbox::expression::{Budget, Expressions};
use bellhop_sandbox::{self as sandbox, CompileMode, Sandbox};

/// Waits a day and gives its input back.
const SLEEPER: &str = "\
document: {dsl: '1.0.3', namespace: people, name: sleeper, version: 1.0.0}
do:
  - rest: {wait: P1D}
  - say: {set: {done: '${ $workflow.input.name }'}}
";

/// Ends at once. Its input has a schema.
const GREETER: &str = "\
document: {dsl: '1.0.3', namespace: people, name: greeter, version: 1.0.0}
input:
  schema:
    document: {type: object, required: [name], properties: {name: {type: string}}, additionalProperties: false}
do:
  - greet: {set: {greeting: '${ \"Hello \" + .name }'}}
";

/// 2026-01-05T08:00:00Z.
const NOW: Timestamp = Timestamp::from_millis(1_767_600_000_000);

/// One sandbox for all tests, as a program has one; the cache lives as long as the build folder.
async fn held() -> (Sandbox, Expressions) {
    static HELD: OnceCell<(Sandbox, Expressions)> = OnceCell::const_new();
    HELD.get_or_init(|| async {
        let sandbox = Sandbox::new(sandbox::Options {
            capabilities: "bellhop:slack@1.0.0".to_owned(),
            functions: bellhop_slack::catalog::function_names().into_iter().map(str::to_owned).collect(),
            cache_dir: std::env::current_exe().unwrap().with_file_name("component-cache"),
            limits: sandbox::Limits::default(),
            compile: CompileMode::InProcess,
        })
        .unwrap();
        let expressions = Expressions::load(&sandbox, Budget::default()).await.unwrap();
        (sandbox, expressions)
    })
    .await
    .clone()
}

/// A host whose clock stands still.
struct World {
    app: Arc<App>,
    router: Router,
    engine: Arc<Engine>,
    clock: Manual,
    /// May do everything.
    token: String,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// The problem with this status and code.
    #[track_caller]
    fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!((self.status, self.header("content-type")), (status, "application/problem+json"), "{}", self.text);
        let body = self.json();
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["type"], format!("https://bellhop.dev/errors/{code}"));
        assert_eq!(body["status"], status);
        assert_eq!(body["request_id"], self.header("x-request-id"));
        assert!(body["request_id"].as_str().unwrap().starts_with("req_"));
        assert!(body["title"].is_string() && body["detail"].is_string() && body["diagnostics"].is_array());
        body
    }

    #[track_caller]
    fn ok(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }
}

impl World {
    async fn new() -> Self {
        Self::with(Limits::default(), "http://127.0.0.1:9".to_owned()).await
    }

    async fn with(limits: Limits, slack: String) -> Self {
        let world = Self::not_started(limits, slack).await;
        world.engine.start().await.unwrap();
        world
    }

    async fn not_started(limits: Limits, slack: String) -> Self {
        Self::on(Arc::new(Memory::new()), limits, slack).await
    }

    /// Over a store that a test has in its hands.
    async fn on(store: Arc<Memory>, limits: Limits, slack: String) -> Self {
        let (sandbox, expressions) = held().await;
        let clock = Manual::new(NOW);
        let engine = Engine::open(engine::Options {
            journal: Journal::checked(store),
            clock: Arc::new(clock.clone()),
            limits,
            sandbox,
            expressions,
            client: Client::new(&ClientOptions { base_url: slack, ..Default::default() }).unwrap(),
            budget_scale: 1000.0,
            secrets: Secrets::nowhere(),
            store_failed: tokio::sync::watch::channel(None).0,
            traces: None,
        })
        .await
        .unwrap();
        let app = App::new(engine.clone(), Options::default());
        let router = routes::of_app(app.clone());
        let mut world = Self { app, router, engine, clock, token: String::new() };
        world.token = world.token_with(&Scope::ALL).await;
        world
    }

    async fn token_with(&self, scopes: &[&str]) -> String {
        let scopes = scopes.iter().map(|s| Scope::parse(s).unwrap()).collect();
        let entropy = self.engine.services.entropy.next_wide();
        self.engine.tokens.create("test", scopes, None, NOW, entropy).await.unwrap().1
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        read(self.router.clone().oneshot(request).await.unwrap()).await
    }

    /// A request with the token of this world, and `headers`.
    fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body.into()).unwrap()
    }

    async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        self.send(self.request(method, path, headers, body)).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], "").await
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, &[], body.to_string()).await
    }

    async fn put(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.call("PUT", path, &[], body).await
    }

    /// With both workflows of these tests.
    async fn with_workflows() -> Self {
        let world = Self::new().await;
        world.apply().await;
        world
    }

    async fn apply(&self) {
        self.put("/v1/workflows/people/sleeper", SLEEPER).await.ok(201);
        self.put("/v1/workflows/people/greeter", GREETER).await.ok(201);
    }

    /// Starts a run of a workflow and gives its id.
    async fn start(&self, workflow: &str, input: Value) -> String {
        let answer = self.post(&format!("/v1/workflows/{workflow}/runs"), &json!({ "input": input })).await;
        answer.ok(202)["id"].as_str().unwrap().to_owned()
    }

    /// Until the run has that status.
    async fn until(&self, run: &str, status: &str) -> Value {
        // A bound for what never happens; on a busy machine it takes as long as it takes.
        for _ in 0..500_000 {
            let view = self.get(&format!("/v1/runs/{run}")).await.ok(200);
            if view["status"] == status {
                return view;
            }
            tokio::task::yield_now().await;
        }
        panic!("the run {run} is not {status}: {}", self.get(&format!("/v1/runs/{run}")).await.text);
    }
}

async fn read(response: axum::response::Response) -> Answer {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    // A backup is no text.
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Answer { status: parts.status.as_u16(), headers: parts.headers, text }
}

const SECOND: Duration = Duration::from_secs(1);
