//! Lives of a host: an engine with the real plugin on a store that can die, each in a runtime of its own that ends with
//! it, before a simulated Slack that outlives them all.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bellhop_core::definition::WorkflowName;
use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;
use bellhop_core::requirement::{Kind, Permission, TokenKind};
use bellhop_core::run::Status;
use bellhop_slack::client::{Client, Options as ClientOptions, Secret};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::dying::Dying;
use super::simulate::dice::Dice;
use crate::Engine;
use crate::Options;
use crate::accept::trigger::{Accepted, Refused, Trigger};
use crate::setup::connections::{New, Secrets};
use crate::setup::definitions::{self, Expect};
use crate::show::views::RunView;
use crate::tests::at_once;
use bellhop_clock::{self as clock, Clock};
use bellhop_journal::memory::Memory;
use bellhop_journal::sled::{Options as SledOptions, Sled};
use bellhop_journal::store::Batch;
use bellhop_journal::{Entry, Journal, Store as _};
use bellhop_limits::Limits;
use bellhop_sandbox::Sandbox;
use bellhop_sandbox::expression::{Budget, Expressions};

/// Nothing here takes longer, on any machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// The simulated Slack.
pub(super) struct Slack {
    running: bellhop_simulator::Running,
    // Ends last.
    _runtime: Runtime,
}

impl Slack {
    /// The default world, and the token `xoxb-poor`, which may post and read nothing.
    pub(super) fn start() -> Self {
        let runtime = runtime();
        let options = bellhop_simulator::Options { budget_scale: 1000.0, ..Default::default() };
        let running = runtime.block_on(bellhop_simulator::start(options)).unwrap();
        let slack = Self { running, _runtime: runtime };
        slack.control(
            "POST",
            "world",
            &json!([{"add_token": {
                "token": "xoxb-poor", "kind": "bot", "user": "U0HQBOT", "workspace": "T0HQ",
                "scopes": ["chat:write", "team:read", "users:read"],
            }}]),
        );
        slack
    }

    /// One request of the control API.
    pub(super) fn control(&self, verb: &str, path: &str, body: &Value) -> Value {
        let mut stream = std::net::TcpStream::connect(self.running.address).unwrap();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!(
            "{verb} /_sim/{path} HTTP/1.1\r\nhost: sim\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{verb} {path}: {answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap_or(Value::Null)
    }

    /// The next fitting calls go wrong like this.
    pub(super) fn fault(&self, rule: &Value) -> u64 {
        self.control("POST", "faults", rule)["id"].as_u64().unwrap()
    }

    /// Waits until the fault has happened.
    pub(super) fn happened(&self, fault: u64) {
        let answer = self.control("GET", &format!("signals/wait?fault={fault}&timeout_ms=30000"), &Value::Null);
        assert!(answer.get("timed_out").is_none(), "the fault did not happen: {answer}");
    }

    /// Lets go what the fault holds: `answer` or `cut`.
    pub(super) fn release(&self, fault: u64, how: &str) {
        self.control("POST", &format!("faults/{fault}/release"), &json!({ "as": how }));
    }

    pub(super) fn ledger(&self) -> Vec<Value> {
        self.running.ledger()
    }

    /// Names of methods and keys of effects, in the order in which requests arrived.
    pub(super) fn requests(&self) -> Vec<(String, Option<String>)> {
        let text = |line: &Value, name: &str| line[name].as_str().map(str::to_owned);
        let lines = self.running.requests();
        let arrived = lines.iter().filter(|line| line["event"] == "request");
        arrived.map(|line| (text(line, "method").unwrap_or_default(), text(line, "key"))).collect()
    }

    /// How often a method was asked for.
    pub(super) fn count(&self, method: &str) -> usize {
        self.requests().iter().filter(|(name, _)| name == method).count()
    }

    /// By which kinds of token a method was asked for, in the order in which the requests arrived.
    pub(super) fn whom(&self, method: &str) -> Vec<String> {
        let lines = self.running.requests();
        let arrived = lines.iter().filter(|line| line["event"] == "request" && line["method"] == method);
        arrived.map(|line| line["token"].as_str().unwrap_or_default().to_owned()).collect()
    }

    pub(super) fn world(&self) -> Value {
        self.running.world()
    }

    /// The text of each accepted message, in order.
    pub(super) fn messages(&self) -> Vec<String> {
        let posted = self.ledger().into_iter().filter(|line| line["method"] == "chat.postMessage");
        posted.map(|line| line["args"]["text"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Every effect stands once: the oracle.
    pub(super) fn check_once(&self, at: &str) {
        let mut keys: Vec<String> =
            self.ledger().iter().map(|line| line["key"].as_str().unwrap_or("no key").to_owned()).collect();
        let all = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all, "{at}: an effect stands twice: {:#?}", self.ledger());
    }
}

/// What every life begins with: a store with the plugin and two connections, `hq` and `poor`, both of one workspace.
struct Ground {
    store: Memory,
    sandbox: Sandbox,
    expressions: Expressions,
    secrets: tempfile::TempDir,
    _cache: tempfile::TempDir,
}

fn ground() -> &'static Ground {
    static GROUND: OnceLock<Ground> = OnceLock::new();
    GROUND.get_or_init(|| {
        let slack = Slack::start();
        let runtime = runtime();
        let secrets = tempfile::tempdir().unwrap();
        let cache = tempfile::tempdir().unwrap();
        let sandbox = super::sandbox(cache.path());
        let expressions = runtime.block_on(Expressions::load(&sandbox, Budget::default())).unwrap();
        let ground = Ground { store: Memory::manual(), sandbox: sandbox.clone(), expressions, secrets, _cache: cache };
        let life = Life::open_on(&ground, Dying::over(ground.store.crash(0)), Limits::default(), None, &slack);
        life.runtime().block_on(async {
            let bytes = super::plugin(&sandbox).await;
            let services = &life.engine().services;
            services.plugins.install(&bytes, None, &services.gateway.rules, services.clock.now()).await.unwrap();
        });
        life.connect("hq", "xoxb-hq", Permission::Act);
        life.connect("poor", "xoxb-poor", Permission::Act);
        let store = life.die(usize::MAX);
        Ground { store, ..ground }
    })
}

/// A store as an operator has it who has connected Slack and started nothing yet.
pub(super) fn fresh() -> Memory {
    ground().store.crash(usize::MAX)
}

/// One process.
pub(super) struct Life {
    pub(super) store: Arc<Dying>,
    engine: Option<Arc<Engine>>,
    runtime: Option<Runtime>,
}

impl Life {
    /// Opens the engine; open runs are not taken up yet.
    pub(super) fn open(memory: Memory, slack: &Slack) -> Self {
        Self::open_on(ground(), Dying::over(memory), Limits::default(), None, slack)
    }

    /// Opens with other limits; nothing is begun yet.
    pub(super) fn open_with(memory: Memory, limits: Limits, slack: &Slack) -> Self {
        Self::open_on(ground(), Dying::over(memory), limits, None, slack)
    }

    /// Opens by another clock; nothing is begun yet.
    pub(super) fn open_at(memory: Memory, clock: &clock::Manual, slack: &Slack) -> Self {
        Self::open_on(ground(), Dying::over(memory), Limits::default(), Some(Arc::new(clock.clone())), slack)
    }

    /// Opens on a store in a folder, and starts. A folder that is empty is made [`fresh`].
    pub(super) fn start_in(folder: &Path, slack: &Slack) -> Self {
        let store = Sled::open(&SledOptions::new(folder), Box::new(|_| {})).unwrap();
        if at_once(store.scan(&[], &[], 1)).unwrap().items.is_empty() {
            let mut batch = Batch::new();
            for (key, value) in at_once(fresh().scan(&[], &[], usize::MAX)).unwrap().items {
                batch.put(&*key, &*value);
            }
            store.commit(batch).unwrap();
        }
        let life = Self::open_on(ground(), Dying::under(Arc::new(store)), Limits::default(), None, slack);
        life.begin();
        life
    }

    /// Opens with other limits, and starts.
    pub(super) fn start_with(memory: Memory, limits: Limits, slack: &Slack) -> Self {
        let life = Self::open_with(memory, limits, slack);
        life.begin();
        life
    }

    /// The same, by another clock.
    pub(super) fn start_at(memory: Memory, limits: Limits, clock: Arc<dyn Clock>, slack: &Slack) -> Self {
        let life = Self::open_on(ground(), Dying::over(memory), limits, Some(clock), slack);
        life.begin();
        life
    }

    /// Another process on the same store. With a clock of its own it is told of nothing that others write.
    pub(super) fn beside(&self, alone_by: Option<&clock::Manual>, slack: &Slack) -> Self {
        self.beside_with(alone_by, Limits::default(), slack)
    }

    /// The same, with limits of its own.
    pub(super) fn beside_with(&self, alone_by: Option<&clock::Manual>, limits: Limits, slack: &Slack) -> Self {
        let store = Dying::under(self.store.clone());
        if alone_by.is_some() {
            store.is_deaf();
        }
        let clock = alone_by.map(|clock| Arc::new(clock.clone()) as Arc<dyn Clock>);
        let life = Self::open_on(ground(), store, limits, clock, slack);
        life.begin();
        life
    }

    /// Opens and starts over a store whose reads take their time, as those of a store on another machine do.
    pub(super) fn start_far(memory: Memory, seed: u64, slack: &Slack) -> Self {
        let store = Dying::over(memory);
        store.is_far(Dice::new(seed));
        let life = Self::open_on(ground(), store, Limits::default(), None, slack);
        life.begin();
        life
    }

    /// Opens and starts.
    pub(super) fn start(memory: Memory, slack: &Slack) -> Self {
        let life = Self::open(memory, slack);
        life.begin();
        life
    }

    /// Days pass between lives, and a clock that stands still has another date than that by which the store was made: whoever
    /// is not about that has the clock believed.
    fn open_on(ground: &Ground, store: Dying, limits: Limits, clock: Option<Arc<dyn Clock>>, slack: &Slack) -> Self {
        let life = Self::doubting_on(ground, store, limits, clock, slack);
        life.engine().services.time.confirm();
        life
    }

    /// Starts by a clock that may be doubted.
    pub(super) fn start_doubting(memory: Memory, limits: Limits, clock: Arc<dyn Clock>, slack: &Slack) -> Self {
        let life = Self::doubting_on(ground(), Dying::over(memory), limits, Some(clock), slack);
        life.begin();
        life
    }

    #[expect(clippy::needless_pass_by_value, reason = "made where it is handed over")]
    fn doubting_on(
        ground: &Ground,
        store: Dying,
        limits: Limits,
        clock: Option<Arc<dyn Clock>>,
        slack: &Slack,
    ) -> Self {
        let runtime = runtime();
        let store = Arc::new(store);
        let base_url = format!("http://{}", slack.running.address);
        let engine = runtime.block_on(async {
            let client = Client::new(&ClientOptions { base_url, ..Default::default() }).unwrap();
            Engine::open(Options {
                journal: Journal::checked(store.clone()),
                clock: clock.unwrap_or_else(|| Arc::new(clock::System::new())),
                limits: Limits { reconcile_delay_ms: 1, ..limits },
                sandbox: ground.sandbox.clone(),
                expressions: ground.expressions.clone(),
                client,
                budget_scale: 1000.0,
                secrets: Secrets::in_folder(ground.secrets.path().to_owned()),
                store_failed: tokio::sync::watch::channel(None).0,
                traces: None,
            })
            .await
            .unwrap()
        });
        Self { store, engine: Some(engine), runtime: Some(runtime) }
    }

    /// Where the tokens of a connection are.
    pub(super) fn tokens_of(connection: &str) -> std::path::PathBuf {
        ground().secrets.path().join(format!("{connection}.tokens"))
    }

    /// Opens on a store in a folder; nothing is begun yet.
    pub(super) fn open_in(folder: &Path, slack: &Slack) -> Self {
        let store = Sled::open(&SledOptions::new(folder), Box::new(|_| {})).unwrap();
        Self::open_on(ground(), Dying::under(Arc::new(store)), Limits::default(), None, slack)
    }

    /// Takes up the open runs, as soon as that may be.
    pub(super) fn begin_when_it_may(&self) {
        let engine = self.engine().clone();
        // It ends with the life.
        let _beginning = self.spawn(async move { engine.start().await });
    }

    /// Takes up the open runs.
    pub(super) fn begin(&self) {
        self.runtime().block_on(self.engine().start()).unwrap();
    }

    /// Puts doubles in the places of parts that reach outside. Before anything begins.
    pub(super) fn equip(&mut self, change: impl FnOnce(&mut crate::Services)) {
        let engine = Arc::get_mut(self.engine.as_mut().unwrap()).expect("nobody else has it yet");
        change(Arc::get_mut(&mut engine.services).expect("nobody else has them yet"));
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().unwrap()
    }

    pub(super) fn engine(&self) -> &Arc<Engine> {
        self.engine.as_ref().unwrap()
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.engine().services.journal
    }

    /// Until `work` is done, or the process has died (then none).
    pub(super) fn unless_dead<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.runtime().block_on(async {
            // What is said by a process that has died is heard by nobody.
            tokio::select! {
                biased;
                () = self.store.died() => None,
                // Also where it dies while this is being said.
                done = work => (!self.store.is_dead()).then_some(done),
                () = tokio::time::sleep(PATIENCE) => panic!("it takes too long"),
            }
        })
    }

    pub(super) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.unless_dead(work).expect("the process lives")
    }

    /// Where something can be begun from anywhere.
    pub(super) fn handle(&self) -> tokio::runtime::Handle {
        self.runtime().handle().clone()
    }

    /// Begins something that goes on beside the test.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime().spawn(work)
    }

    pub(super) fn connect(&self, name: &str, token: &str, permission: Permission) {
        self.connect_by(name, &[(TokenKind::Bot, token)], permission);
    }

    /// The same, with several tokens.
    pub(super) fn connect_by(&self, name: &str, tokens: &[(TokenKind, &str)], permission: Permission) {
        let secret = |(kind, token): &(TokenKind, &str)| (*kind, Secret::new((*token).to_owned()));
        let tokens = tokens.iter().map(secret).collect();
        let new = New { name: name.to_owned(), kind: Kind::GridWorkspace, permission, tokens };
        let engine = self.engine();
        self.wait(engine.connections.connect(&engine.services.gateway, new, engine.services.clock.now())).unwrap();
    }

    /// Registers a workflow of these tasks.
    pub(super) fn apply_named(&self, name: &str, tasks: &str) -> WorkflowName {
        self.apply_text(&format!(
            "document: {{dsl: 1.0.3, namespace: test, name: {name}, version: 1.0.0}}\ndo:{tasks}\n"
        ))
    }

    pub(super) fn apply(&self, tasks: &str) -> WorkflowName {
        // A version never changes: other tasks are another workflow.
        let name = format!("crash-{}", tasks.len());
        self.apply_text(&format!(
            "document: {{dsl: 1.0.3, namespace: test, name: {name}, version: 1.0.0}}\ndo:{tasks}\n"
        ))
    }

    /// Registers a workflow.
    pub(super) fn apply_text(&self, text: &str) -> WorkflowName {
        let (definition, _, diagnostics) = definitions::read("workflow.yaml", text);
        let shown: Vec<String> = diagnostics.iter().map(bellhop_core::diagnostic::render).collect();
        let definition = definition.unwrap_or_else(|| panic!("{}", shown.join("\n")));
        let name = definition.workflow.document.name.clone();
        let engine = self.engine();
        let now = engine.services.clock.now();
        let put = engine.services.definitions.put(&name, definition, "workflow.yaml", text, &Expect::Any, now);
        self.wait(put).unwrap();
        name
    }

    /// Triggers; none when the process died before it answered.
    pub(super) fn trigger(&self, trigger: Trigger) -> Option<Result<Accepted, Refused>> {
        self.unless_dead(self.engine().trigger(trigger))
    }

    pub(super) fn started(&self, trigger: Trigger) -> RunId {
        self.trigger(trigger).expect("the process lives").unwrap_or_else(|refused| panic!("{refused:?}")).run
    }

    pub(super) fn view(&self, run: RunId) -> RunView {
        self.wait(self.engine().run_view(run)).unwrap().unwrap()
    }

    /// Waits for a condition that is seen from outside.
    pub(super) fn until(&self, what: &str, holds: impl Fn() -> bool) {
        self.wait(async {
            for _ in 0..25_000 {
                if holds() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            panic!("it does not come to this: {what}");
        });
    }

    pub(super) fn until_status(&self, run: RunId, status: Status) {
        self.until(status.as_str(), || self.status(run) == status);
    }

    /// Until it has begun and waits for a time; one that has yet to begin waits, too, but sets its timer only then.
    pub(super) fn until_asleep(&self, run: RunId) {
        let has_timer =
            || at_once(self.journal().timers_behind(None, 100)).unwrap().iter().any(|(_, whose)| *whose == run);
        self.until("it sleeps", has_timer);
    }

    pub(super) fn status(&self, run: RunId) -> Status {
        at_once(self.engine().summary(run)).unwrap().unwrap().status
    }

    /// Waits for the end; none when the process dies before it.
    pub(super) fn ended(&self, run: RunId) -> Option<RunView> {
        let limit = async { tokio::time::sleep(PATIENCE).await };
        self.unless_dead(self.engine().wait(run, limit)).map(|view| view.unwrap().unwrap())
    }

    pub(super) fn runs(&self) -> Vec<RunId> {
        at_once(self.journal().runs(None, 100)).unwrap().items.into_iter().map(|(run, _)| run).collect()
    }

    /// The events of a run.
    pub(super) fn decided(&self, run: RunId) -> Vec<Value> {
        let of = |entry| match entry {
            Entry::Decision { events } => events,
            _ => Vec::new(),
        };
        let contents = self.entries(run).into_iter().flat_map(of);
        contents.map(|content| at_once(self.journal().read(&content)).unwrap()).collect()
    }

    /// How often a call of the run, or the run, was parked.
    pub(super) fn parked(&self, run: RunId) -> usize {
        self.decided(run).iter().filter(|event| event["event"] == "parked").count()
    }

    pub(super) fn entries(&self, run: RunId) -> Vec<Entry> {
        at_once(self.journal().entries(run, 0, 4_000)).unwrap().into_iter().map(|(_, entry)| entry).collect()
    }

    /// Dies, with `keep` of what is at stake kept; nothing of it does anything any more when this returns.
    pub(super) fn die(mut self, keep: usize) -> Memory {
        self.store.die();
        let store = self.store.clone();
        self.end();
        store.left(keep)
    }

    fn end(&mut self) {
        self.engine.take();
        // Waits for the threads, and drops every task and every connection.
        drop(self.runtime.take());
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.store.die();
        self.end();
    }
}

/// A trigger of `workflow`, with its connections by alias.
pub(super) fn trigger(
    workflow: &WorkflowName,
    input: Value,
    connections: &[(&str, &str)],
    key: Option<&str>,
) -> Trigger {
    Trigger {
        workflow: workflow.clone(),
        version: None,
        body: Digest::of_json(&input),
        input: Arc::new(input),
        connections: connections.iter().map(|(a, n)| ((*a).to_owned(), (*n).to_owned())).collect(),
        labels: BTreeMap::new(),
        idempotency_key: key.map(str::to_owned),
        by: None,
        traceparent: None,
        inline: None,
    }
}

/// Of a log: how many intents have no end.
pub(super) fn open_intents(entries: &[Entry]) -> usize {
    entries.iter().fold(0, |open, entry| match entry {
        Entry::Intent { .. } => open + 1,
        Entry::Outcome { .. } | Entry::NotSent { .. } | Entry::Resolved { .. } => open - 1,
        _ => open,
    })
}
