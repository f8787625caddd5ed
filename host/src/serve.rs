//! Puts the program together: store, sandbox, evaluator, way out, engine, HTTP; and takes it apart in order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bellhop_core::diagnostic::Diagnostic;
use bellhop_core::requirement::{Grant, Kind, Permission, TokenKind};
use bellhop_core::text::plain;
use bellhop_slack::client::{self, Client, Secret};

use bellhop_api::{Listener, Listeners};
use bellhop_clock::{self as clock, Clock};
use bellhop_engine as engine;
use bellhop_engine::Engine;
use bellhop_engine::Services;
use bellhop_engine::setup::connections::{ConnectError, New, Secrets};
use bellhop_engine::setup::tokens::{Scope, Stored};
use bellhop_journal::sled::OpenError;
use bellhop_journal::{self as journal, Journal};
use bellhop_limits::Limits;
use bellhop_sandbox::expression::{self, Expressions};
use bellhop_sandbox::{self as sandbox, CompileMode, Sandbox};

mod first_token;
pub(crate) mod lines;
mod listen;
mod own;
pub(crate) mod read;
mod stopped;

use lines::Lines;
pub(crate) use listen::{At, PATH};
pub(crate) use stopped::{token_offline, verify};

/// What a host is started with.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Where everything is kept.
    pub(crate) data_dir: PathBuf,
    /// Where compiled code is kept.
    pub(crate) compiled_dir: PathBuf,
    /// Where HTTP is served.
    pub(crate) listen: At,
    /// Where the metrics are served besides, to whoever can connect there.
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Peers through which many clients come.
    pub(crate) trusted_proxies: Vec<bellhop_api::Net>,
    /// Slack's address; another one only for a simulator.
    pub(crate) slack_url: String,
    /// Certificates that are believed besides the system's.
    pub(crate) certificates: client::certificates::Own,
    /// Through which Slack is asked.
    pub(crate) proxy: Option<client::Proxy>,
    /// What is allowed.
    pub(crate) limits: Limits,
    /// Multiplies Slack's budget; 1 but for measurements and tests against a simulator.
    pub(crate) budget_scale: f64,
    /// What it has besides what it keeps.
    pub(crate) provision: Provision,
    /// Where the first operator's token goes, instead of the standard output: a file that goes with the token's first use.
    pub(crate) first_token_file: Option<PathBuf>,
}

/// What a host is given at its start besides what it keeps. It is kept, too.
#[derive(Debug, Clone, Default)]
pub(crate) struct Provision {
    /// Connections.
    pub(crate) connections: Vec<Declared>,
    /// Components, each installed and granted everything that its actions declare, which is said.
    pub(crate) plugins: Vec<PathBuf>,
    /// Whether every start prints a token, which ends after a day.
    pub(crate) token_each_start: bool,
}

/// A connection that a host is told of at its start.
#[derive(Debug, Clone)]
pub(crate) struct Declared {
    /// Its name in upper case, with `_` for `-`: all that the name of a variable can say.
    pub(crate) stem: String,
    /// What it is; where nothing is said, what the connection that is there is.
    pub(crate) kind: Option<Kind>,
    /// What it may be used for; where nothing is said, as before, else to act.
    pub(crate) permission: Option<Permission>,
    /// At least one.
    pub(crate) tokens: BTreeMap<TokenKind, Secret>,
}

/// How the names of variables write a connection's name.
pub(crate) fn stem(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

/// The name of a token that is made at every start.
const TRIAL_TOKEN: &str = "one day";
/// The life of a token that is made at every start.
const TRIAL_TOKEN_MS: u64 = 24 * 60 * 60 * 1000;

/// Why a host does not start or has ended before its time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The store: exit code 70.
    #[error("the store: {0}")]
    Store(String),
    /// Another process has the store: exit code 70.
    #[error("the store: {0}")]
    InUse(String),
    /// There is no store in the folder.
    #[error("there is no store in {}", .0.display())]
    NoStore(PathBuf),
    /// An older program made the store, in a form that is no longer read.
    #[error("{0}")]
    OlderStore(String),
    /// Its folder cannot be used.
    #[error(transparent)]
    Folder(#[from] own::Refused),
    /// The first token cannot be put where it was to be.
    #[error("the first token cannot be written to {}: {source}", path.display())]
    FirstToken {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: At,
        /// Why.
        source: std::io::Error,
    },
    /// The sandbox.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// Slack's address.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// What is in the store cannot be used.
    #[error(transparent)]
    Open(#[from] engine::OpenError),
    /// A connection that it was told of cannot be made.
    #[error("{message}")]
    Connection {
        /// Which and why. Never a token.
        message: String,
        /// What Slack says that it is, and what helps.
        diagnostics: Vec<Diagnostic>,
    },
    /// A plugin that it was told of cannot be installed.
    #[error("{message}")]
    Plugin {
        /// Which and why.
        message: String,
        /// All that is wrong with it.
        diagnostics: Vec<Diagnostic>,
    },
    /// What has to go on for as long as the host does has ended: it has to be started again.
    #[error("{0}")]
    Part(String),
    /// HTTP.
    #[error(transparent)]
    Http(#[from] bellhop_api::Error),
    /// The machine.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

fn not_opened(error: OpenError) -> Error {
    match error {
        OpenError::InUse { .. } => Error::InUse(error.to_string()),
        OpenError::OlderFormat { .. } => Error::OlderStore(error.to_string()),
        error => Error::Store(error.to_string()),
    }
}

/// The package whose functions guests import.
pub(crate) const CAPABILITIES: &str = "bellhop:slack@1.0.0";

/// A sandbox with every capability, its compiled code kept in `compiled_dir`.
pub(crate) fn sandbox(compiled_dir: &std::path::Path, limits: &Limits) -> Result<Sandbox, Error> {
    let functions = bellhop_slack::catalog::function_names().into_iter().map(str::to_owned).collect();
    let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    Ok(Sandbox::new(sandbox::Options {
        capabilities: CAPABILITIES.to_owned(),
        functions,
        cache_dir: compiled_dir.to_owned(),
        limits: sandbox::Limits {
            concurrent_calls_max: u32::try_from(limits.concurrent_calls_max).unwrap_or(u32::MAX),
            guest_memory_bytes_max: size(limits.guest_memory_bytes_max),
            component_bytes_max: size(limits.plugin_bytes_max),
            compile_cpu_s_max: limits.compile_cpu_ms_max.div_ceil(1_000),
            compile_memory_bytes_max: limits.compile_memory_bytes_max,
            compiled_bytes_max: limits.compiled_bytes_max,
            ..sandbox::Limits::default()
        }
        .on_this_machine(limits.guests_memory_bytes_max),
        compile: CompileMode::Child { program: own::program()? },
    })?)
}

/// `limits` on a machine where one plugin can have so many guests at once: those that wait for a turn of Slack's are kept
/// in memory only as far as three of four places are left to what can do something.
fn leaving_places(mut limits: Limits, guests: u64) -> Limits {
    let part = (guests / 4).max(1);
    limits.waiting_runs_max = limits.waiting_runs_max.min(part);
    limits.leaving_runs_max = limits.leaving_runs_max.min(part);
    limits
}

/// A started host.
pub(crate) struct Host {
    /// The engine.
    pub(crate) engine: Arc<Engine>,
    /// Where HTTP is served.
    pub(crate) address: At,
    /// The first operator's token, when there was none.
    pub(crate) first_token: Option<String>,
    /// What was new of [`Options::provision`], in lines for people.
    pub(crate) provided: Vec<String>,
    listeners: Listeners,
    api: bellhop_api::Options,
}

/// Opens everything. HTTP is answered once [`Host::run`] is called.
pub(crate) async fn open(options: &Options) -> Result<Host, Error> {
    own::keep_to_ourselves();
    own::folder(&options.data_dir)?;
    let wanted = prepared(options).await?;
    // Whoever has the store is named before whoever has the port.
    let (listener, address) = listen(&options.listen)?;
    let metrics = options.metrics_listen.map(|address| listen(&At::Address(address))).transpose()?;
    let metrics = metrics.map(|(listener, _)| listener);
    let engine = Engine::open(wanted).await?;
    // Before the first token is made, which is shown once: what fails here is tried again.
    let provided = provide(&engine, &options.provision).await?;
    let tokens = engine.tokens.all().await.map_err(|e| Error::Store(e.to_string()))?;
    if !tokens.is_empty() && !tokens.iter().any(Stored::makes_tokens_for_good) {
        tracing::warn!(
            "no token that makes tokens is without an end; make one while the host is stopped: bellhop token create --offline --name NAME --scope tokens:admin"
        );
    }
    let (now, entropy) = (engine.services.clock.now(), engine.services.entropy.next_wide());
    let created = engine.tokens.create_first("first operator", everything(), now, entropy).await;
    let first_token = created.map_err(|e| Error::Store(e.to_string()))?.map(|(_, secret)| secret);
    let api = bellhop_api::Options { trusted_proxies: options.trusted_proxies.clone() };
    Ok(Host { engine, address, first_token, provided, listeners: Listeners { main: listener, metrics }, api })
}

/// What an engine is opened with, over what is kept.
async fn prepared(options: &Options) -> Result<engine::Options, Error> {
    let clock: Arc<dyn Clock> = Arc::new(clock::System::new());
    let (tell, _) = tokio::sync::watch::channel(None::<String>);
    let failed = tell.clone();
    let mut store_options = journal::sled::Options::new(options.data_dir.join("store"));
    store_options.cache_bytes = options.limits.store_cache_bytes;
    store_options.reserve_bytes = options.limits.disk_reserve_bytes;
    let on_fatal = Box::new(move |error: &journal::store::Error| {
        failed.send_replace(Some(error.to_string()));
    });
    let store = journal::sled::Sled::open(&store_options, on_fatal).map_err(not_opened)?;
    let journal = Journal::new(Arc::new(store));
    let sandbox = sandbox(&options.compiled_dir, &options.limits)?;
    let limits = leaving_places(options.limits.clone(), sandbox.guests_of_one_plugin());
    let budget =
        expression::Budget { cpu_ms_max: options.limits.expression_cpu_ms_max, ..expression::Budget::default() };
    let expressions = Expressions::load(&sandbox, budget).await?;
    let client = Client::new(&client::Options {
        base_url: options.slack_url.clone(),
        proxy: options.proxy.clone(),
        certificates: options.certificates.clone(),
        deadline_ms: options.limits.slack_deadline_ms,
        response_bytes_max: options.limits.slack_response_bytes_max,
        ..client::Options::default()
    })?;
    Ok(engine::Options {
        journal,
        clock,
        limits,
        sandbox,
        expressions,
        client,
        budget_scale: options.budget_scale,
        secrets: Secrets::in_folder(options.data_dir.join("secrets")),
        store_failed: tell,
    })
}

fn listen(at: &At) -> Result<(Listener, At), Error> {
    at.listen().map_err(|source| Error::Listen { address: at.clone(), source })
}

/// Every scope that there is.
fn everything() -> BTreeSet<Scope> {
    Scope::ALL.iter().filter_map(|scope| Scope::parse(scope).ok()).collect()
}

impl Host {
    /// Serves until `stop` is ready, then drains. `Err(Error::Store)` as soon as the store has failed; `Err(Error::Part)`,
    /// after the drain, when a part has ended that had to go on.
    pub(crate) async fn run(self, stop: impl Future<Output = ()> + Send) -> Result<(), Error> {
        let engine = self.engine.clone();
        let (stopping, stopped) = tokio::sync::oneshot::channel::<()>();
        let http = Threads::new()?;
        let (answers, api, listeners) = (engine.clone(), self.api, self.listeners);
        let mut serving = http.spawn(async move {
            let stopped = async move {
                // Dropped or told: either way it is over.
                let _over = stopped.await;
            };
            bellhop_api::serve(answers, listeners, api, stopped).await.map_err(Error::from)
        });
        let mending = tokio::spawn(mend(engine.clone()));
        let mut fatal = engine.services.fatal.subscribe();
        let works = async {
            let open_runs = engine.start().await?;
            tracing::info!(address = %self.address, open_runs, "ready");
            std::future::pending::<Result<(), Error>>().await
        };
        // What ended, and had to go on.
        let mut serves = true;
        let ended = tokio::select! {
            biased;
            failed = fatal.wait_for(Option::is_some) => {
                let reason = failed.ok().and_then(|f| f.clone()).unwrap_or_default();
                return Err(Error::Store(reason));
            }
            () = stop => None,
            ended = works => return ended,
            part = engine.services.parts.ended() => Some(part.to_string()),
            served = &mut serving => {
                serves = false;
                Some(not_served(served))
            }
        };
        mending.abort();
        tracing::info!("stopping: ending what was sent");
        let whole = engine.drain().await;
        let _told = stopping.send(());
        self.address.leave();
        if serves {
            serving.await.map_err(|e| Error::Io(std::io::Error::other(e)))??;
        }
        if !whole {
            tracing::warn!("some calls are still open: the next start resolves them");
        }
        engine.end_life().map_err(|e| Error::Store(e.to_string()))?;
        engine.services.journal.close().map_err(|e| Error::Store(e.to_string()))?;
        ended.map_or(Ok(()), |part| Err(Error::Part(part)))
    }
}

/// Why nobody answers over HTTP any more.
fn not_served(served: Result<Result<(), Error>, tokio::task::JoinError>) -> String {
    let why = match served {
        Ok(Ok(())) => "it came to its end".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it panicked, and the log says at what".to_owned(),
    };
    format!("the part of the host that answers over HTTP has ended: {why}")
}

/// The threads that answer over HTTP. They carry no run, so that whatever runs compute, somebody answers.
struct Threads(Option<tokio::runtime::Runtime>);

/// Two: one may wait for the store.
const HTTP_THREADS: usize = 2;

impl Threads {
    fn new() -> std::io::Result<Self> {
        let mut threads = tokio::runtime::Builder::new_multi_thread();
        threads.worker_threads(HTTP_THREADS).thread_name("http").enable_all().build().map(|threads| Self(Some(threads)))
    }

    fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
        match &self.0 {
            Some(threads) => threads.spawn(task),
            None => tokio::spawn(task),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Waiting for them would hold up a process that is to end.
        if let Some(threads) = self.0.take() {
            threads.shutdown_background();
        }
    }
}

/// Tries again, now and then, what could not be connected at the start.
async fn mend(engine: Arc<Engine>) {
    let services = &engine.services;
    while !engine.connections.broken().is_empty() {
        services.clock.sleep(std::time::Duration::from_millis(services.limits.blocked_again_ms)).await;
        if engine.connections.mend(&services.gateway, services.clock.now()).await {
            engine.remedied(&engine::accept::blocked::Change::Reach);
        }
    }
}

/// Makes the connections that were declared. One that is there with the same tokens is left alone: Slack need not answer
/// for a host to start.
async fn connect(engine: &Engine, declared: &Declared) -> Result<Option<String>, Error> {
    let refused = |message: String| Error::Connection { message, diagnostics: Vec::new() };
    let Declared { stem: wanted, kind, permission, tokens } = declared;
    let gateway = &engine.services.gateway;
    let mut there: Vec<_> = gateway.connections().into_iter().filter(|c| stem(&c.facts.name) == *wanted).collect();
    let present = there.pop();
    if let (Some(one), Some(other)) = (&present, there.first()) {
        return Err(refused(format!(
            "BELLHOP_CONNECTION_{wanted}_… could be `{}` or `{}`: remove one of these connections",
            other.facts.name, one.facts.name
        )));
    }
    let Some(kind) = kind.or_else(|| present.as_ref().map(|c| c.facts.kind)) else {
        return Err(refused(format!(
            "BELLHOP_CONNECTION_{wanted}_KIND has to say what the connection is: workspace, grid-workspace or grid-org"
        )));
    };
    let permission = permission.or_else(|| present.as_ref().map(|c| c.facts.permission)).unwrap_or(Permission::Act);
    let same = |c: &engine::gateway::Connected| {
        c.facts.kind == kind
            && c.facts.permission == permission
            && c.tokens.len() == tokens.len()
            && c.tokens.iter().all(|(kind, token)| tokens.get(kind).is_some_and(|t| t.reveal() == token.reveal()))
    };
    if present.as_ref().is_some_and(|c| same(c)) {
        return Ok(None);
    }
    let name = present.map_or_else(|| wanted.to_ascii_lowercase().replace('_', "-"), |c| c.facts.name.clone());
    let new = New { name: name.clone(), kind, permission, tokens: tokens.clone() };
    match engine.connections.connect(gateway, new.clone(), engine.services.clock.now()).await {
        // What Slack says, or does not say, of one connection is no reason to keep all others waiting.
        Err(ConnectError::Detect(error)) => {
            tracing::warn!(connection = name, %error, "the connection is broken: runs that need it are refused until it is whole");
            engine.connections.is_broken(new, error.to_string());
            Ok(Some(format!("the connection `{name}` is broken: {error}")))
        }
        Ok(connected) => Ok(Some(format!("connected {name}: {}", connected.facts.kind.title()))),
        Err(error) => {
            let message = format!("the connection `{name}` cannot be made: {error}");
            let diagnostics = match error {
                ConnectError::Mismatch(diagnostics) => diagnostics,
                ConnectError::Detect(_) | ConnectError::Lacking(_) | ConnectError::Keep(_) => Vec::new(),
            };
            Err(Error::Connection { message, diagnostics })
        }
    }
}

/// Installs a component with all that it declares; gives what there is to say of it.
async fn install(engine: &Engine, file: &std::path::Path) -> Result<Vec<String>, Error> {
    use engine::setup::plugins::{InstallError, Order, Replace, Wanted};
    let services = &engine.services;
    let shown = file.display();
    let refused = |message: String, diagnostics: Vec<Diagnostic>| Error::Plugin { message, diagnostics };
    let read = read::whole(file, services.limits.plugin_bytes_max);
    let bytes = read.map_err(|e| refused(format!("{shown} cannot be read: {e}"), Vec::new()))?;
    let order = Order {
        bytes: &bytes,
        grants: Wanted::Everything,
        replace: Replace::Nobody,
        // Whoever starts the host has built it.
        follows: None,
        means: &|before, after| Box::pin(engine.callers_anew(before, after)),
        rules: &services.gateway.rules,
        connections: &[],
        now: services.clock.now(),
    };
    match services.plugins.put(order).await {
        Ok(done) => {
            let manifest = &done.installed.stored.manifest;
            let granted: Vec<&str> = done.installed.grants.iter().map(Grant::method).collect();
            let granted = if granted.is_empty() { "nothing".to_owned() } else { granted.join(", ") };
            Ok(vec![
                format!("installed {} {} from {shown}", manifest.name, manifest.version),
                format!("  granted all that it declares: {granted}"),
            ])
        }
        // Runs that have begun pin the one that is there.
        Err(error @ InstallError::Immutable { .. }) => Ok(vec![format!("left out {shown}: {error}")]),
        Err(error) => {
            let message = format!("{shown} cannot be installed: {error}");
            let diagnostics = match error {
                InstallError::Manifest(faults) | InstallError::Grants(faults) => faults,
                _ => Vec::new(),
            };
            Err(refused(message, diagnostics))
        }
    }
}

/// Installs and connects what the host is to have. Ok says, in lines for people, what was new.
async fn provide(engine: &Engine, provision: &Provision) -> Result<Vec<String>, Error> {
    let mut lines = Vec::new();
    for file in &provision.plugins {
        lines.extend(install(engine, file).await?);
    }
    for declared in &provision.connections {
        lines.extend(connect(engine, declared).await?);
    }
    Ok(lines)
}

/// Serves until the process is told to stop. Says on standard output where, and once the first operator's token.
pub(crate) async fn serve(options: Options) -> Result<(), Error> {
    let host = open(&options).await?;
    let (bytes_max, longest) = (options.limits.log_queue_bytes_max, options.limits.log_flush_ms_max);
    let said = Lines::start("said", std::io::stdout(), usize::try_from(bytes_max).unwrap_or(usize::MAX), |_| {})?;
    let say = |line: &str| said.put(format!("{line}\n").as_bytes());
    for line in &host.provided {
        say(&plain(line));
    }
    let handed_over = options.first_token_file.map(|path| first_token::File::new(path, host.first_token.as_deref()));
    if let Some(file) = handed_over.transpose()? {
        if let Some(path) = file.path() {
            say(&format!("operator token: in {path}, until it is used"));
        }
        tokio::spawn(file.gone_when_used(host.engine.clone()));
    } else if let Some(token) = &host.first_token {
        say(&format!("operator token (shown this once): {token}"));
    } else if options.provision.token_each_start {
        let Services { clock, entropy, .. } = &*host.engine.services;
        let (scopes, now) = (everything(), clock.now());
        let end = now.plus_millis(TRIAL_TOKEN_MS);
        let tokens = &host.engine.tokens;
        // Nobody has the one of an earlier start any more but who was told it then.
        let is_ours = |token: &Stored| token.name == TRIAL_TOKEN && token.expires_at.is_some();
        let all = tokens.all().await.map_err(|e| Error::Store(e.to_string()))?;
        for earlier in all.iter().filter(|token| is_ours(token)) {
            tokens.revoke(earlier.id).await.map_err(|e| Error::Store(e.to_string()))?;
        }
        let created = tokens.create(TRIAL_TOKEN, scopes, Some(end), now, entropy.next_wide()).await;
        say(&format!("operator token (for a day): {}", created.map_err(|e| Error::Store(e.to_string()))?.1));
    }
    if (options.budget_scale - 1.0).abs() > f64::EPSILON {
        let scale = options.budget_scale;
        say(&format!("Slack's budget is multiplied by {scale} (for measurements against a simulator only)"));
    }
    let main = match host.address {
        At::Address(address) => Some(address),
        At::Path(_) => None,
    };
    for address in main.into_iter().chain(options.metrics_listen) {
        if !address.ip().to_canonical().is_loopback() {
            tracing::warn!(%address, "HTTP is served in plain text to other machines: tokens and answers can be read on the way; put a proxy with TLS before it");
        }
    }
    // Last: whoever waits for this line may begin.
    say(&format!("bellhop listens on {}", host.address.url()));
    if !said.flush(std::time::Duration::from_millis(longest)) && host.first_token.is_some() {
        tracing::warn!("nobody has read the first token; as long as nobody has used a token, each start makes it anew");
    }
    host.run(told_to_stop()).await
}

/// Ready at SIGTERM or SIGINT.
async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        // Without handlers the signals end the process at once: that loses nothing that was acknowledged.
        _ => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_that_wait_leave_places_on_a_small_machine() {
        for (guests, waiting, leaving) in [(154, 32, 8), (24, 6, 6), (6, 1, 1), (1, 1, 1)] {
            let limits = leaving_places(Limits::default(), guests);
            assert_eq!((limits.waiting_runs_max, limits.leaving_runs_max), (waiting, leaving), "{guests}");
        }
    }

    #[test]
    fn author_c4_the_largest_plugin_can_be_stored() {
        let line = Limits::TABLE.iter().find(|line| line.name == "plugin_bytes_max").unwrap();
        let value = journal::store::VALUE_BYTES_MAX as u64;
        assert!(line.cap + (64 << 10) < value && line.default <= line.cap, "{line:?} and values of {value} bytes");
        let mut limits = Limits::default();
        let error = limits.set("plugin_bytes_max", 64 << 20).unwrap_err();
        assert_eq!(error.to_string(), "`plugin_bytes_max` can be from 1 to 32505856, not 67108864");
    }
}
