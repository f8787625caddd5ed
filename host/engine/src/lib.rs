//! Carries out the core's commands.
//!
//! Knows the journal, the sandbox and Slack, which do not know each other; knows nothing of HTTP, pages and verbs.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bellhop_core::expression::Evaluator;
use bellhop_core::fault;
use bellhop_core::run::{Ending, State};
use bellhop_slack::limiter::Limiter;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::watch;

pub mod accept;
mod call;
pub mod drive;
pub mod entropy;
pub mod execution;
pub mod gateway;
mod installation;
mod mail;
pub mod measures;
mod notices;
pub mod operate;
mod owners;
mod partition;
mod parts;
mod pins;
pub mod restored;
pub mod setup;
pub mod show;
pub mod traces;
mod turns;
mod upkeep;
mod waiting;

#[cfg(test)]
mod tests;

use bellhop_clock::{Clock, Watched};
use bellhop_journal::{self as journal, Journal};
use bellhop_limits::Limits;
use bellhop_sandbox::Sandbox;
use bellhop_sandbox::expression::Expressions;

use crate::accept::blocked;
use crate::drive::{deciding, evaluating, runs};
use crate::setup::{connections, definitions, plugins, tokens};

/// Until timers that could not be read are tried again.
const TIMERS_AGAIN: Duration = Duration::from_secs(10);

/// What all runs share.
pub struct Services {
    /// What outlives the process.
    pub journal: Journal,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The same clock, for whoever asks whether it is believed.
    pub time: Watched,
    /// Randomness, for ids and turns.
    pub entropy: Arc<entropy::Entropy>,
    /// What is allowed.
    pub limits: Arc<Limits>,
    /// Those limits that hold for the installation; `limits` are this process's.
    pub(crate) installation: installation::Known,
    /// Whether the folder was restored from a backup.
    pub(crate) restored: restored::Known,
    /// The way out to Slack.
    pub gateway: gateway::Gateway,
    /// The installed plugins.
    pub plugins: plugins::Plugins,
    /// The definitions that were put.
    pub definitions: definitions::Definitions,
    /// Names that were resolved lately.
    pub(crate) names: call::Known,
    /// What belongs to the runs that this process carries.
    pub(crate) partition: partition::Partition,
    /// Holds up nobody else while it evaluates.
    pub evaluator: Arc<dyn Evaluator + Send + Sync>,
    /// Who takes the spans of what runs do, if anybody.
    pub traces: Option<Arc<dyn traces::Collector>>,
    /// Where runs' decisions are made.
    pub(crate) deciding: deciding::Deciding,
    /// Where runs are carried, whoever has them begin: those who answer over HTTP have threads of their own.
    pub(crate) runtime: std::sync::OnceLock<tokio::runtime::Handle>,
    /// For `/metrics`.
    pub counters: Counters,
    /// True once the process is stopping.
    pub drain: watch::Sender<bool>,
    /// Set once the journal has failed: the process must end with code 70.
    pub fatal: watch::Sender<Option<String>>,
    /// What works for as long as the process does, and whether any of it has ended.
    pub parts: parts::Parts,
}

/// Counters for `/metrics`.
pub struct Counters {
    /// Unknown outcomes that are being read back now.
    pub resolving: AtomicU64,
    /// Runs accepted since the start.
    pub accepted: AtomicU64,
    /// Runs that left memory since the start.
    pub left: AtomicU64,
    /// How long the runs took that ended, by how they did.
    pub run_durations: measures::Durations<1>,
    /// How long calls were told to wait for Slack's budget.
    pub budget_waits: Histogram,
}

impl Counters {
    /// A run has ended like this, so long after its acceptance.
    pub(crate) fn ended(&self, status: &'static str, took: Duration) {
        self.run_durations.get_or_create(&[("status", status.to_owned())]).observe(took.as_secs_f64());
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            resolving: AtomicU64::default(),
            accepted: AtomicU64::default(),
            left: AtomicU64::default(),
            run_durations: measures::of_runs(),
            budget_waits: measures::of_waits(),
        }
    }
}

impl Services {
    /// Has `task` go on where runs are carried: to its end, whether or not anybody waits for that.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.get_or_init(tokio::runtime::Handle::current).spawn(task)
    }

    /// How many runs are open, by how they stand.
    pub fn open_runs(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.partition.tally.counts()
    }

    /// Whoever makes the spans of the run whose trace this is.
    pub(crate) fn spans(&self, trace: traces::Trace) -> traces::Spans {
        traces::Spans::of(self.traces.as_ref(), &self.clock, &self.entropy, trace)
    }

    /// A run has ended, durably.
    pub(crate) fn note_end(&self, spans: &traces::Spans, state: &State) {
        let Some((at, ending)) = state.ended() else { return };
        let status = state.status().as_str();
        self.counters.ended(status, Duration::from_millis(at.millis_since(state.facts().accepted_at)));
        // An error of a definition's own may be named by what was given to the run.
        let is_ours = |code: &str| fault::is_reserved(code) || fault::status_of_call(code).is_some();
        let code = match ending {
            Ending::Faulted { fault } => Some(Some(fault.code()).filter(|code| is_ours(code)).unwrap_or("faulted")),
            Ending::Completed { .. } | Ending::Cancelled => None,
        };
        spans.happened(|| {
            let told = traces::Told::of(traces::Kind::Internal, format!("run {status}"));
            told.with("bellhop.status", status).failed(code.map(str::to_owned))
        });
    }

    /// Waits until a read-back can be believed of what was sent over a connection that ended at `ended`, by
    /// [`Clock::monotonic`]: one that begins earlier could miss a change that Slack is still making.
    pub async fn quiet_since(&self, ended: Duration) {
        let quiet = Duration::from_millis(self.limits.reconcile_delay_ms);
        let left = quiet.saturating_sub(self.clock.monotonic().saturating_sub(ended));
        if !left.is_zero() {
            self.clock.sleep(left).await;
        }
    }

    /// Timers in memory, and tasks of the threads that carry runs.
    pub fn timers_and_tasks(&self) -> (usize, usize) {
        let tasks = self.runtime.get().map_or(0, |runtime| runtime.metrics().num_alive_tasks());
        (self.partition.timers.count(), tasks)
    }

    /// Runs in memory all of whose actions wait, and turns kept for those that were put down.
    pub fn waiting(&self) -> (usize, usize) {
        self.partition.waiting.count()
    }
}

/// What an engine is opened with.
pub struct Options {
    /// The store.
    pub journal: Journal,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is allowed.
    pub limits: Limits,
    /// The sandbox.
    pub sandbox: Sandbox,
    /// The evaluator of expressions.
    pub expressions: Expressions,
    /// The way out to Slack.
    pub client: bellhop_slack::client::Client,
    /// Multiplies Slack's budget; 1 but for measurements and tests.
    pub budget_scale: f64,
    /// Where connections' tokens are kept.
    pub secrets: connections::Secrets,
    /// Told once when the store fails.
    pub store_failed: watch::Sender<Option<String>>,
    /// Who takes the spans of what runs do, if anybody.
    pub traces: Option<Arc<dyn traces::Collector>>,
}

/// The engine. One per process and store.
pub struct Engine {
    /// What all runs share.
    pub services: Arc<Services>,
    /// Connections, made and removed.
    pub connections: connections::Connections,
    /// Bearer tokens of the HTTP interface.
    pub tokens: tokens::Tokens,
    arrivals: std::sync::Mutex<Option<partition::Arrivals>>,
    /// How far what is set up was read; taken by the part that goes on from there.
    followed: std::sync::Mutex<Option<setup::revision::Followed>>,
    triggers: turns::Turns,
    /// The id that was given last; see [`Engine::new_run`].
    last_run: std::sync::Mutex<Option<bellhop_core::id::RunId>>,
    ready: AtomicBool,
}

/// Why an engine does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// A connection's tokens.
    #[error(transparent)]
    Connections(#[from] connections::Error),
    /// A run.
    #[error(transparent)]
    Load(#[from] runs::LoadError),
}

impl Engine {
    /// Reads what is in the store. Nothing runs until [`Self::start`].
    pub async fn open(options: Options) -> Result<Arc<Self>, OpenError> {
        let Options {
            journal,
            clock,
            limits,
            sandbox,
            expressions,
            client,
            budget_scale,
            secrets,
            store_failed,
            traces,
        } = options;
        let time = Watched::new(clock, upkeep::heartbeat::newest_known(&journal).await?);
        let clock: Arc<dyn Clock> = Arc::new(time.clone());
        let limiter_options = bellhop_slack::limiter::Options { scale: budget_scale, ..Default::default() };
        let limiter_clock = gateway::SlackClock(clock.clone());
        // A host that has runs behind it does not know what it has used of Slack's budget.
        // A run that cannot be read is one all the same, and must not keep the host from starting.
        let restarted = journal.runs(None, 1).await.map_or_else(|e| !e.is_fatal(), |listed| !listed.items.is_empty());
        journal.look_through().await?;
        let closed = connections::closed(&journal, clock.now()).await?;
        let limiter = if restarted || !closed.is_empty() {
            Limiter::restarted(limiter_options, limiter_clock, closed)
        } else {
            Limiter::new(limiter_options, limiter_clock)
        };
        let gateway = gateway::Gateway::new(client, limiter).keeping(journal.clone());
        let installation = setup::installation::begin(&journal, &limits).await?;
        let followed = setup::revision::Followed::begin(&journal).await?;
        let connections = connections::Connections::read(journal.clone(), secrets, &gateway).await?;
        let entropy = Arc::new(entropy::Entropy::new());
        let (partition, arrivals) = partition::Partition::read(&journal, &clock, entropy.next()).await?;
        let evaluator: Arc<dyn Evaluator + Send + Sync> = Arc::new(evaluating::Aside::new(expressions, clock.clone()));
        let services = Services {
            plugins: plugins::Plugins::read(journal.clone(), sandbox).await?,
            definitions: definitions::Definitions::new(journal.clone()).within(installation.clone()),
            names: call::Known::default(),
            installation,
            restored: operate::restore::read(&journal).await?,
            partition,
            deciding: deciding::Deciding::new(evaluator.clone(), clock.clone(), &limits),
            evaluator,
            runtime: std::sync::OnceLock::new(),
            counters: Counters::default(),
            entropy,
            limits: Arc::new(limits),
            gateway,
            clock,
            time,
            journal: journal.clone(),
            drain: watch::channel(false).0,
            fatal: store_failed,
            traces,
            parts: parts::Parts::default(),
        };
        Ok(Arc::new(Self {
            services: Arc::new(services),
            connections,
            tokens: tokens::Tokens::new(journal),
            arrivals: std::sync::Mutex::new(Some(arrivals)),
            followed: std::sync::Mutex::new(Some(followed)),
            triggers: turns::Turns::default(),
            last_run: std::sync::Mutex::default(),
            ready: AtomicBool::new(false),
        }))
    }

    /// The runs in memory.
    pub fn runs(&self) -> &runs::Runs {
        &self.services.partition.runs
    }

    fn blocked(&self) -> &blocked::Blocked {
        &self.services.partition.blocked
    }

    /// Whoever has a run's turn takes it up, puts it aside or removes it; nobody else does meanwhile.
    fn loading(&self) -> &turns::Turns {
        &self.services.partition.loading
    }

    /// Takes up the open runs and starts the timers; ready after Ok. In a folder that was restored nothing of it happens before
    /// somebody has it [go on](Self::go_on).
    pub async fn start(self: &Arc<Self>) -> Result<u64, OpenError> {
        self.services.runtime.get_or_init(tokio::runtime::Handle::current);
        if let Some(restore) = self.awaits_go_on() {
            tracing::warn!(
                code = "restored",
                instant = %restore.instant,
                "the folder was restored from a backup: no run goes on and none begins before `bellhop restore --go-on`"
            );
            self.services.restored.goes_on().await;
        }
        self.mend_damaged_rows().await?;
        match self.beat().await {
            Err(error) if error.is_fatal() => return Err(error.into()),
            Err(error) => tracing::warn!(%error, "that the machine's clock is believed cannot be kept"),
            Ok(()) => {}
        }
        let found = self.recover().await?;
        match self.forget_removed_plugins().await {
            Ok(_) => {}
            Err(error) if error.is_fatal() => return Err(error.into()),
            // They cost a place on the disk and nothing else; the next start tries again.
            Err(error) => tracing::warn!(%error, "plugins that were removed are still kept"),
        }
        let arrivals = self.arrivals.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let followed = self.followed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        self.begin_part("looks after the clock", self.clone().look_after_the_clock());
        self.begin_part("reads what others set up", self.clone().follow_setup(followed));
        self.begin_part("wakes runs whose time has come", self.clone().wake_when_due());
        self.begin_part("tells people", self.clone().tell_people());
        self.begin_part("looks after blocked runs", self.clone().look_for_remedies());
        self.begin_part("brings runs their messages", self.clone().bring_what_arrives(arrivals));
        self.begin_part("puts down runs that wait", self.clone().put_down_those_who_wait());
        self.begin_part("wakes runs whose turn it is", self.clone().wake_those_whose_turn_it_is());
        self.begin_part("removes what may go", self.clone().sweep_for_ever());
        self.ready.store(true, Ordering::Release);
        Ok(found)
    }

    /// Has `work` go on until the process stops; see [`parts`].
    fn begin_part(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        self.services.parts.begin(name, self.services.drain.subscribe(), work);
    }

    /// Brings runs and owners what is for them. What is not brought before the end of the process is brought by the next.
    async fn bring_what_arrives(self: Arc<Self>, arrivals: Option<partition::Arrivals>) {
        let Some(partition::Arrivals { mut mail, mut wakes }) = arrivals else { return };
        let mut drain = self.services.drain.subscribe();
        loop {
            let arrived = tokio::select! {
                biased;
                _ = drain.wait_for(|drain| *drain) => return,
                Some((id, message)) = mail.recv() => Ok((id, message)),
                Some(run) = wakes.recv() => Err(run),
                else => return,
            };
            let delivered = match arrived {
                Ok((id, message)) => {
                    let delivered = self.deliver(id, message).await;
                    self.services.partition.mail.count_brought();
                    delivered
                }
                Err(run) => {
                    self.wake(run).await;
                    Ok(())
                }
            };
            if let Err(error) = delivered {
                tracing::error!(%error, "a message cannot be brought; the next start tries again");
            }
        }
    }

    /// Brings a message to whom it is for. After Ok it is consumed, or will be with the decision about it.
    async fn deliver(self: &Arc<Self>, id: mail::Id, message: mail::Message) -> Result<(), runs::LoadError> {
        match message {
            mail::Message::Group { group, wish } => Ok(self.services.partition.groups.hear(id, &group, &wish).await?),
            mail::Message::Run { run, told } => {
                let signal = execution::Signal { mail: Some(id), ..execution::Signal::of(told.into()) };
                match self.send(run, signal).await {
                    // It was removed, and hears nothing any more.
                    Err(runs::LoadError::Unknown(_)) => {
                        let mut write = journal::Write::new();
                        id.consume(&mut write);
                        Ok(self.services.journal.commit_or_wait(write).await.map(drop)?)
                    }
                    brought => brought,
                }
            }
        }
    }

    async fn wake_when_due(self: Arc<Self>) {
        let mut drain = self.services.drain.subscribe();
        loop {
            let due = tokio::select! {
                biased;
                due = self.services.partition.timers.due() => due,
                _ = drain.wait_for(|drain| *drain) => return,
            };
            match due {
                Ok(run) => {
                    if !self.has_room().await {
                        return;
                    }
                    self.wake(run).await;
                }
                Err(error) if error.is_fatal() => {
                    tracing::error!(%error, "the timers cannot be read");
                    self.services.fatal.send_replace(Some(error.to_string()));
                    return;
                }
                Err(error) => {
                    tracing::error!(%error, "the timers cannot be read; they are tried again");
                    self.services.clock.sleep(TIMERS_AGAIN).await;
                }
            }
            // When many are due, waking them may never have to wait for anything: others have their turn here.
            tokio::task::yield_now().await;
        }
    }

    /// Waits while the disk lacks room; false when the process is stopping. What is due stays due in the store.
    async fn has_room(&self) -> bool {
        let mut drain = self.services.drain.subscribe();
        while self.services.journal.room().is_err() {
            tokio::select! {
                biased;
                _ = drain.wait_for(|drain| *drain) => return false,
                () = self.services.clock.sleep(journal::ROOM_LOOK) => {}
            }
        }
        true
    }

    /// Whether open runs are folded or indexed and timers and keys are there.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && !self.is_draining()
    }

    /// Whether the process is stopping.
    pub fn is_draining(&self) -> bool {
        *self.services.drain.borrow()
    }

    /// Ends what was sent, for as long as the limits allow, and begins nothing more. True when everything came to its end.
    pub async fn drain(&self) -> bool {
        self.services.drain.send_replace(true);
        let span = Duration::from_millis(self.services.limits.drain_ms_max);
        tokio::select! {
            biased;
            () = self.runs().none() => true,
            () = self.services.clock.sleep(span) => false,
        }
    }

    fn run_left(&self) {
        self.services.counters.left.fetch_add(1, Ordering::Relaxed);
    }
}
