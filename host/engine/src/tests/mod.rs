//! The engine as a whole, in one process with a simulated Slack.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bellhop_core::definition::WorkflowName;
use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;
use bellhop_core::requirement::{Kind, Permission, TokenKind};
use bellhop_core::run::Status;
use bellhop_slack::client::{Client, Options as ClientOptions, Secret};
use serde_json::{Value, json};

use crate::Engine;
use crate::Options;
use crate::accept::trigger::{Refused, Trigger};
use crate::setup::connections::{New, Secrets};
use crate::setup::definitions::{self, Expect};
use bellhop_clock::{self as clock, Clock};
use bellhop_journal::Journal;
use bellhop_journal::memory::Memory;
use bellhop_journal::store::Store;
use bellhop_limits::Limits;
use bellhop_sandbox::expression::{Budget, Expressions};
use bellhop_sandbox::{self as sandbox, CompileMode, Sandbox};

mod as_whom;
mod carried;
mod clocks;
mod contract;
mod crash;
mod disk;
mod double;
mod doubts;
mod dying;
mod elsewhere;
mod far;
mod generated;
mod guards;
mod heard;
mod letting_out;
mod life;
mod naming;
mod naming_lists;
mod never_doubled;
mod once;
mod operations;
mod outages;
mod outgrown;
mod parts;
mod ports;
mod recovery;
mod redefine;
mod restored;
mod retention;
mod rows;
mod scenarios;
mod scheduled;
mod scripted;
mod simulate;
mod slices;
mod store_errors;
mod telling;
mod timers;
mod upkeep;
mod waiting;
mod waking;
mod workflows;

/// What a read of a store in memory gives, which waits for nobody, however often it wants to be asked again.
pub(crate) fn at_once<F: Future>(read: F) -> F::Output {
    let mut read = std::pin::pin!(read);
    let mut context = Context::from_waker(Waker::noop());
    let asked = (0..100_000).map(|_| read.as_mut().poll(&mut context));
    for answer in asked {
        if let Poll::Ready(read) = answer {
            return read;
        }
    }
    panic!("a read of a store in memory waits for somebody");
}

/// A host without HTTP, on a store in memory.
struct World {
    slack: Arc<bellhop_simulator::Running>,
    engine: Arc<Engine>,
}

/// The plugin of the workspace, built once for all tests.
async fn plugin(sandbox: &Sandbox) -> Vec<u8> {
    static BUILT: tokio::sync::OnceCell<Vec<u8>> = tokio::sync::OnceCell::const_new();
    BUILT
        .get_or_init(|| async {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/slack");
            let options = bellhop_toolchain::Options { target_dir: bellhop_tests::project::guests(), verbose: false };
            let bytes = bellhop_toolchain::build(&folder, &options).expect("the plugin builds");
            // Compiled here, so that tests that begin together do not all compile the same.
            Expressions::load(sandbox, Budget::default()).await.unwrap();
            sandbox.prepare(&bytes).await.unwrap();
            bytes
        })
        .await
        .clone()
}

fn sandbox(cache: &std::path::Path) -> Sandbox {
    Sandbox::new(sandbox::Options {
        capabilities: "bellhop:slack@1.0.0".to_owned(),
        functions: bellhop_slack::catalog::function_names().into_iter().map(str::to_owned).collect(),
        cache_dir: cache.to_owned(),
        limits: sandbox::Limits::default(),
        compile: CompileMode::InProcess,
    })
    .unwrap()
}

/// Machine code is named by what it was made of, so that all tests, and the next run of them, can share it.
fn cache() -> std::path::PathBuf {
    std::env::current_exe().unwrap().with_file_name("component-cache")
}

impl World {
    async fn new() -> Self {
        let slack = bellhop_simulator::start(bellhop_simulator::Options { budget_scale: 1000.0, ..Default::default() })
            .await
            .unwrap();
        Self::over(Arc::new(slack), Arc::new(Memory::new()), Secrets::nowhere()).await
    }

    /// A host over a store that may have runs of an earlier one.
    async fn over(slack: Arc<bellhop_simulator::Running>, store: Arc<dyn Store>, secrets: Secrets) -> Self {
        Self::over_at(slack, store, secrets, Arc::new(clock::System::new())).await
    }

    /// The same, by another clock.
    async fn over_at(
        slack: Arc<bellhop_simulator::Running>,
        store: Arc<dyn Store>,
        secrets: Secrets,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let sandbox = sandbox(&cache());
        let bytes = plugin(&sandbox).await;
        let expressions = Expressions::load(&sandbox, Budget::default()).await.unwrap();
        let client =
            Client::new(&ClientOptions { base_url: format!("http://{}", slack.address), ..Default::default() })
                .unwrap();
        let engine = Engine::open(Options {
            journal: Journal::checked(store),
            clock: clock.clone(),
            limits: Limits { reconcile_delay_ms: 1, ..Limits::default() },
            sandbox,
            expressions,
            client,
            budget_scale: 1000.0,
            secrets,
            store_failed: tokio::sync::watch::channel(None).0,
            traces: None,
        })
        .await
        .unwrap();
        engine.start().await.unwrap();
        let rules = engine.services.gateway.rules.clone();
        engine.services.plugins.install(&bytes, None, &rules, clock.now()).await.unwrap();
        Self { slack, engine }
    }

    async fn connect(&self, name: &str, kind: Kind, tokens: &[(TokenKind, &str)]) {
        let new = New {
            name: name.to_owned(),
            kind,
            permission: Permission::Act,
            tokens: tokens.iter().map(|(k, t)| (*k, Secret::new((*t).to_owned()))).collect(),
        };
        let now = self.engine.services.clock.now();
        self.engine.connections.connect(&self.engine.services.gateway, new, now).await.unwrap();
    }

    async fn apply(&self, text: &str) -> WorkflowName {
        let (definition, _, diagnostics) = definitions::read("workflow.yaml", text);
        let shown: Vec<String> = diagnostics.iter().map(bellhop_core::diagnostic::render).collect();
        let definition = definition.unwrap_or_else(|| panic!("{}", shown.join("\n")));
        let name = definition.workflow.document.name.clone();
        let now = self.engine.services.clock.now();
        self.engine
            .services
            .definitions
            .put(&name, definition, "workflow.yaml", text, &Expect::Any, now)
            .await
            .unwrap();
        name
    }

    fn trigger(workflow: &WorkflowName, input: Value, key: Option<&str>) -> Trigger {
        Trigger {
            workflow: workflow.clone(),
            version: None,
            body: Digest::of_json(&input),
            input: Arc::new(input),
            connections: BTreeMap::new(),
            labels: BTreeMap::new(),
            idempotency_key: key.map(str::to_owned),
            by: None,
            traceparent: None,
            inline: None,
        }
    }

    async fn ended(&self, run: RunId) -> crate::show::views::RunView {
        let limit = self.engine.services.clock.sleep(std::time::Duration::from_secs(20));
        self.engine.wait(run, limit).await.unwrap().unwrap()
    }
}

fn send_notification() -> String {
    std::fs::read_to_string(
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../workflows/send-notification.yaml"),
    )
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_is_sent_once_for_its_key() {
    let world = World::new().await;
    world.connect("acme-hq", Kind::GridWorkspace, &[(TokenKind::Bot, "xoxb-hq")]).await;
    let name = world.apply(&send_notification()).await;
    let channel = "C0HQGENERAL";
    let input = json!({ "channel": channel, "text": "Hello" });
    let accepted = world.engine.trigger(World::trigger(&name, input.clone(), Some("k"))).await.unwrap();
    assert!(!accepted.replayed);
    let view = world.ended(accepted.run).await;
    assert_eq!(view.status, Status::Completed, "{view:?}");
    assert_eq!(view.output.as_ref().unwrap()["channel"], channel);
    let again = world.engine.trigger(World::trigger(&name, input, Some("k"))).await.unwrap();
    assert!(again.replayed);
    assert_eq!(again.run, accepted.run);
    let other =
        world.engine.trigger(World::trigger(&name, json!({"channel": channel, "text": "Other"}), Some("k"))).await;
    assert!(matches!(other, Err(Refused::KeyReused(run)) if run == accepted.run));
    let ledger = world.slack.ledger();
    let lines = ledger;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0]["key"].as_str().unwrap().starts_with(&accepted.run.to_string()));
    let events = world.engine.events(accepted.run, 0, 100).await.unwrap().unwrap();
    let kinds: Vec<&str> = events.iter().map(|e| e.kind).collect();
    assert_eq!(
        kinds,
        [
            "run.accepted",
            "run.started",
            "task.started",
            "action.started",
            "call.started",
            "call.ended",
            "task.completed",
            "run.completed"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_grid_account_is_refused_and_nothing_is_sent() {
    let world = World::new().await;
    world.connect("acme", Kind::GridOrg, &[(TokenKind::User, "xoxp-org-admin")]).await;
    let name = world.apply(&send_notification()).await;
    let refused = world.engine.trigger(World::trigger(&name, json!({"channel": "C1", "text": "Hello"}), None)).await;
    let Err(Refused::Preflight(diagnostics)) = refused else { panic!("{refused:?}") };
    assert_eq!(diagnostics[0].code.0, "plan-required");
    assert_eq!(diagnostics[0].place.as_ref().unwrap().line, 21);
    assert_eq!(world.slack.ledger().len(), 0);
}
