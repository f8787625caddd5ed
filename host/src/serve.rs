//! Puts the program together: store, sandbox, evaluator, way out, engine, HTTP; and takes it apart in order.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bellhop_core::diagnostic::Diagnostic;
use bellhop_core::text::plain;
use bellhop_slack::client::{self, Client};

use bellhop_api::Listeners;
use bellhop_clock::{self as clock, Clock};
use bellhop_engine as engine;
use bellhop_engine::Engine;
use bellhop_engine::Services;
use bellhop_engine::setup::connections::Secrets;
use bellhop_engine::setup::tokens::{Scope, Stored};
use bellhop_journal::sled::OpenError;
use bellhop_journal::{self as journal, Journal};
use bellhop_limits::Limits;
use bellhop_sandbox::expression::{self, Expressions};
use bellhop_sandbox::{self as sandbox, CompileMode, Sandbox};

mod at;
pub(crate) mod doctor;
mod first_token;
pub(crate) mod handed_over;
pub(crate) mod here;
mod lines;
mod listen;
pub(crate) mod log;
mod orphans;
mod own;
mod provision;
pub(crate) mod read;
pub(crate) mod restored;
pub(crate) mod signals;
mod stopped;
mod supervisor;
mod taken;
mod threads;
mod told;
pub(crate) mod traces;
pub(crate) mod versions;

pub(crate) use at::{At, HANDED_OVER, PATH, USUAL, socket_path};
use here::{leaving_places, sandbox_limits};
use lines::Lines;
use log::Log;
pub(crate) use own::program;
pub(crate) use provision::{Declared, Provision, stem};
use provision::{mend, provide};
pub(crate) use stopped::{backup_offline, token_offline, verify};
use supervisor::Supervisor;
use threads::Threads;
use told::Told;

/// What a host is started with.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The file that its settings were read from.
    pub(crate) settings_file: Option<PathBuf>,
    /// Where everything is kept.
    pub(crate) data_dir: PathBuf,
    /// Where compiled code is kept.
    pub(crate) compiled_dir: PathBuf,
    /// Where HTTP is served.
    pub(crate) listen: At,
    /// Where the metrics are served besides, to whoever can connect there.
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Peers through which many clients come, and whose headers say which way those came.
    pub(crate) trusted_proxies: Vec<bellhop_api::Net>,
    /// The address of the host, as its callers know it.
    pub(crate) public_url: Option<bellhop_api::PublicUrl>,
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
    /// Where spans of what runs do go, if anywhere.
    pub(crate) traces: Option<traces::Options>,
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
    /// The store cannot be opened: exit code 70.
    #[error("the store: {0}")]
    NotOpened(OpenError),
    /// There is no store in the folder.
    #[error("there is no store in {}", .0.display())]
    NoStore(PathBuf),
    /// An older program made the store, in a form that is no longer read.
    #[error("{0}")]
    OlderStore(String),
    /// A newer program made the store.
    #[error("{0}")]
    NewerStore(String),
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
    /// No socket that can be used was handed over.
    #[error("cannot listen on what a supervisor hands over: {0}")]
    ForeignSocket(#[from] handed_over::Refused),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}{}", holder.as_ref().map(|holder| format!(", by {holder}")).unwrap_or_default())]
    Listen {
        /// Which.
        address: At,
        /// Who listens there, where the system shows it.
        holder: Option<String>,
        /// Why.
        source: std::io::Error,
    },
    /// The sandbox.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// Where spans go.
    #[error("spans cannot be sent: {0}")]
    Traces(#[from] traces::Error),
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
        OpenError::NewerFormat { .. } => Error::NewerStore(error.to_string()),
        error => Error::NotOpened(error),
    }
}

/// The package whose functions guests import.
pub(crate) const CAPABILITIES: &str = "bellhop:slack@1.0.0";

/// A sandbox with every capability, its compiled code kept in `compiled_dir`.
pub(crate) fn sandbox(compiled_dir: &std::path::Path, limits: &Limits) -> Result<Sandbox, Error> {
    let functions = bellhop_slack::catalog::function_names().into_iter().map(str::to_owned).collect();
    Ok(Sandbox::new(sandbox::Options {
        capabilities: CAPABILITIES.to_owned(),
        functions,
        cache_dir: compiled_dir.to_owned(),
        limits: sandbox_limits(limits),
        compile: CompileMode::Child { program: program()? },
    })?)
}

/// A started host.
pub(crate) struct Host {
    /// The engine.
    pub(crate) engine: Arc<Engine>,
    /// Where HTTP is served.
    pub(crate) address: At,
    /// Where it was to be served.
    wanted: At,
    /// The first operator's token, when there was none.
    pub(crate) first_token: Option<String>,
    /// What was new of [`Options::provision`], in lines for people.
    pub(crate) provided: Vec<String>,
    listeners: Listeners,
    api: bellhop_api::Options,
    traces: Option<Arc<traces::Exporter>>,
}

/// Opens everything. HTTP is answered once [`Host::run`] is called.
pub(crate) async fn open(options: &Options) -> Result<Host, Error> {
    signals::take()?;
    own::keep_to_ourselves();
    own::folder(&options.data_dir)?;
    let mut wanted = prepared(options).await?;
    let begin = |to| traces::Exporter::start(to, &options.limits, wanted.clock.clone());
    let traces = options.traces.as_ref().map(begin).transpose()?;
    wanted.traces = traces.clone().map(|traces| traces as Arc<dyn engine::traces::Collector>);
    // Whoever has the store is named before whoever has the port.
    let (listener, address) = options.listen.listen()?;
    let metrics = options.metrics_listen.map(|address| At::Address(address).listen()).transpose()?;
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
    let (trusted_proxies, public_url) = (options.trusted_proxies.clone(), options.public_url.clone());
    let api = bellhop_api::Options { trusted_proxies, public_url, doctor: doctor::for_api(options) };
    let listeners = Listeners { main: listener, metrics };
    Ok(Host { engine, address, wanted: options.listen.clone(), first_token, provided, listeners, api, traces })
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
    let client = Client::new(&client_options(options))?;
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
        traces: None,
    })
}

/// The way to Slack.
fn client_options(options: &Options) -> client::Options {
    client::Options {
        base_url: options.slack_url.clone(),
        proxy: options.proxy.clone(),
        certificates: options.certificates.clone(),
        deadline_ms: options.limits.slack_deadline_ms,
        response_bytes_max: options.limits.slack_response_bytes_max,
        ..client::Options::default()
    }
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
        let supervisor = Supervisor::of_environment();
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
        let (parts, drain) = (&engine.services.parts, || engine.services.drain.subscribe());
        parts.carry("connects again what was broken", drain(), mend(engine.clone()));
        parts.begin("counts the time of guests", drain(), engine.services.plugins.counting_ended());
        parts.begin("gives out Slack's budget", drain(), engine.services.gateway.limiter.unattended());
        if let Some(traces) = &self.traces {
            parts.begin("sends spans", drain(), traces.ended());
        }
        let mut fatal = engine.services.fatal.subscribe();
        let lives = || supervisor.lives(&*engine.services.clock, &http, &engine.services.journal);
        let works = async {
            let open_runs = engine.start().await?;
            tracing::info!(address = %self.address, open_runs, "ready");
            supervisor.is_ready(open_runs);
            Ok::<Infallible, Error>(lives().await)
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
            failed = works => return failed.map(|never| match never {}),
            part = engine.services.parts.ended() => Some(part.to_string()),
            served = &mut serving => {
                serves = false;
                Some(not_served(served))
            }
        };
        tracing::info!("stopping: ending what was sent");
        supervisor.stops(&engine.services.limits);
        let traces = self.traces;
        let leaving = async {
            let whole = engine.drain().await;
            let _told = stopping.send(());
            self.wanted.leave();
            if serves {
                serving.await.map_err(|e| Error::Io(std::io::Error::other(e)))??;
            }
            if !whole {
                tracing::warn!("some calls are still open: the next start resolves them");
            }
            if let Some(traces) = traces {
                let longest = std::time::Duration::from_millis(engine.services.limits.trace_flush_ms_max);
                traces.close(engine.services.clock.as_ref(), longest).await;
            }
            engine.end_life().await.map_err(|e| Error::Store(e.to_string()))?;
            engine.services.journal.close().map_err(|e| Error::Store(e.to_string()))
        };
        tokio::select! {
            biased;
            left = leaving => left?,
            never = lives() => match never {},
        }
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

/// Serves until the process is told to stop. Says on standard output where, and once the first operator's token.
pub(crate) async fn serve(options: Options, log: &Log) -> Result<(), Error> {
    Supervisor::of_environment().starts();
    let host = open(&options).await?;
    let told = Told::begin(log.clone());
    watched(&host.engine, log, told.as_ref().ok());
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
        let (services, work) = (&host.engine.services, file.gone_when_used(host.engine.clone()));
        services.parts.carry("removes the file of the first token", services.drain.subscribe(), work);
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
        At::Path(_) | At::Systemd(_) => None,
    };
    for address in main.into_iter().chain(options.metrics_listen) {
        if !address.ip().to_canonical().is_loopback() {
            tracing::warn!(%address, "HTTP is served in plain text to other machines: tokens and answers can be read on the way; put a proxy with TLS before it");
        }
    }
    if let Some(restore) = host.engine.awaits_go_on() {
        say(&format!("restored from a backup of {}: nothing goes on before: bellhop restore --go-on", restore.instant));
    }
    // Last: whoever waits for this line may begin.
    say(&format!("bellhop listens on {}", host.address.url()));
    if !said.flush(std::time::Duration::from_millis(longest)) && host.first_token.is_some() {
        tracing::warn!("nobody has read the first token; as long as nobody has used a token, each start makes it anew");
    }
    let stop = async {
        match told {
            Ok(told) => told.to_stop().await,
            Err(error) => {
                tracing::warn!(%error, "signals cannot be heard here: one that tells the host to stop ends it at once, without a drain");
                std::future::pending::<()>().await;
            }
        }
    };
    host.run(stop).await
}

/// Has the host end where nobody writes its log any more or hears signals.
fn watched(engine: &Engine, log: &Log, told: Option<&Told>) {
    let Services { clock, drain, parts, .. } = &*engine.services;
    parts.begin("writes the log", drain.subscribe(), log.ended());
    parts.carry("waits for what others have left", drain.subscribe(), orphans::waited_for(clock.clone()));
    if let Some(told) = told {
        parts.begin("hears signals", drain.subscribe(), told.ended());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
