//! The runs that are in memory: begun, woken, signalled, put down.

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use bellhop_core::id::RunId;
use bellhop_core::run::{Cause, State};
use futures_util::FutureExt as _;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tracing::Instrument as _;

use crate::Engine;
use crate::call::{self, Caller};
use crate::drive::admission::Places;
use crate::drive::driver::{self, Left};
use crate::drive::quarantine;
use crate::execution::local::{Local, Opening, Read};
use crate::execution::open::Open;
use crate::execution::{self, CallKey, Execution as _, Settle, Signal};
use crate::pins::Pins;
use crate::pins::{Granted, GuestLimits};
use crate::setup::definitions::Definition;
use crate::traces::Trace;
use crate::waiting::Activity;
use bellhop_journal::{self as journal, Entry, Summary, Ticket, Write, key};

/// A run that a driver carries.
pub(crate) struct Live {
    inbox: mpsc::UnboundedSender<Signal>,
    moved: watch::Receiver<Ticket>,
    put_down: Arc<Notify>,
}

/// All of them.
#[derive(Default)]
pub struct Runs {
    live: Mutex<HashMap<RunId, Live>>,
    /// Those that cannot be taken up in this process, with the reason.
    pub(crate) aside: Mutex<HashMap<RunId, String>>,
    pub(crate) places: Places,
    /// Runs that are on their way into memory; see [`Runs::seat`].
    pub(crate) arriving: Arc<AtomicU64>,
    ended: Notify,
}

/// Why a run could not be taken up.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no such run.
    #[error("there is no run {0}")]
    Unknown(RunId),
    /// Something that it pins is gone or damaged: the run is set aside, others go on.
    #[error("{0}")]
    Damaged(String),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// The port.
    #[error(transparent)]
    Port(#[from] execution::Error),
}

/// A run that was read and can be carried on.
pub(crate) struct Loaded {
    pub(crate) port: Local,
    pub(crate) state: State,
    pub(crate) decisions: u64,
    pub(crate) granted: Granted,
    /// What its guests may use.
    pub(crate) guests: GuestLimits,
    /// Its trace.
    pub(crate) trace: Trace,
}

/// A run as it was accepted.
pub(crate) struct Begun {
    pub(crate) state: State,
    pub(crate) granted: Granted,
    /// What its guests may use.
    pub(crate) guests: GuestLimits,
    /// Its trace.
    pub(crate) trace: Trace,
    pub(crate) ticket: Ticket,
    pub(crate) bytes: u64,
    pub(crate) summary: Summary,
}

impl Runs {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<RunId, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A driver is about to carry the run.
    pub(crate) fn insert(&self, run: RunId, live: Live) {
        self.lock().insert(run, live);
    }

    /// Whether it is in memory.
    pub(crate) fn is_live(&self, run: RunId) -> bool {
        self.lock().contains_key(&run)
    }

    /// How many are in memory.
    pub fn live(&self) -> usize {
        self.lock().len()
    }

    /// How many have something to do and wait for a place in memory.
    pub fn in_line(&self) -> usize {
        self.places.in_line()
    }

    /// How many are set aside.
    pub fn aside(&self) -> usize {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Follows a run's log while the run is in memory.
    pub fn moved(&self, run: RunId) -> Option<watch::Receiver<Ticket>> {
        let mut moved = self.lock().get(&run).map(|live| live.moved.clone())?;
        // A clone has seen what the one in the list has, which is nothing: it would never have to wait.
        moved.mark_unchanged();
        Some(moved)
    }

    /// Has a run leave memory that only waits.
    pub(crate) fn put_down(&self, run: RunId) {
        if let Some(live) = self.lock().get(&run) {
            live.put_down.notify_one();
        }
    }

    /// Waits until the run is not in memory.
    pub(crate) async fn left(&self, run: RunId) {
        loop {
            let ended = self.ended.notified();
            if !self.is_live(run) {
                return;
            }
            ended.await;
        }
    }

    /// Waits until none is in memory.
    pub async fn none(&self) {
        loop {
            let ended = self.ended.notified();
            if self.lock().is_empty() {
                return;
            }
            ended.await;
        }
    }
}

impl Engine {
    pub(crate) fn opening(&self, run: RunId, summary: Summary) -> (Opening, Live) {
        let (sender, inbox) = mpsc::unbounded_channel();
        let (moved, moves) = watch::channel(Ticket::default());
        let put_down = Arc::new(Notify::new());
        let opening = Opening {
            run,
            journal: self.services.journal.clone(),
            clock: self.services.clock.clone(),
            entropy: self.services.entropy.clone(),
            limits: self.services.limits.clone(),
            installation: self.services.installation.clone(),
            inbox,
            drain: self.services.drain.subscribe(),
            put_down: put_down.clone(),
            moved,
            summary,
            timers: self.services.partition.timers.clone(),
            mail: self.services.partition.mail.clone(),
            tally: self.services.partition.tally.clone(),
        };
        (opening, Live { inbox: sender, moved: moves, put_down })
    }

    /// Carries a run that was just accepted, or has it wait in line for a place.
    pub(crate) fn begin(self: &Arc<Self>, run: RunId, begun: Begun) {
        let Begun { state, granted, guests, trace, ticket, bytes, summary } = begun;
        let seat = self.runs().seat(self.services.limits.live_runs_max);
        // Those that wait in line came before it.
        let Some(_seat) = seat.filter(|_| self.runs().places.has_no_line()) else {
            self.runs().places.line_up(run);
            return self.next_in_line();
        };
        let (opening, live) = self.opening(run, summary);
        let port = Local::fresh(opening, ticket, bytes);
        self.runs().insert(run, live);
        self.carry(run, Loaded { port, state, decisions: 0, granted, guests, trace });
    }

    /// Reads a run from the journal.
    pub(crate) async fn load(&self, run: RunId, opening: Opening) -> Result<Loaded, LoadError> {
        let (pins, definition) = self.pins_of(run).await?;
        let mut tables = BTreeMap::new();
        for (name, digest) in &pins.tables {
            let table = self.services.definitions.table_by_digest(*digest).await?;
            tables.insert(
                name.clone(),
                table.ok_or_else(|| LoadError::Damaged(format!("the table `{name}` is not there")))?,
            );
        }
        let input = Arc::new(self.services.journal.read(&pins.input).await?);
        let facts = self.facts(&pins, &definition, input, &tables)?;
        let granted = self.granted(&pins).await?;
        let Read { port, mut state, decisions } = Local::read(opening, &facts).await?;
        let decisions = driver::fold(&port, &mut state, decisions).await?;
        port.folded(&state);
        let trace = Trace::of(run, pins.traceparent);
        Ok(Loaded { port, state, decisions, granted, guests: pins.guests, trace })
    }

    /// What a run pins, and its definition: what was pinned last, when it was let begin or went on on another one.
    pub(crate) async fn pins_of(&self, run: RunId) -> Result<(Pins, Arc<Definition>), LoadError> {
        let journal = &self.services.journal;
        let first = journal.entries(run, 0, 1).await?.into_iter().next();
        let Some((0, Entry::Accepted { pins })) = first else { return Err(LoadError::Unknown(run)) };
        let mut pins = quarantine::read_pins(pins.read())?;
        let later = match journal.get::<Summary>(&key::summary(run)).await {
            Ok(summary) => match summary.and_then(|summary| summary.pins_at) {
                Some(seq) => self.pinned_later(run, seq, Some(seq)).await?,
                None if pins.blocked => self.pinned_later(run, 1, None).await?,
                None => None,
            },
            // What the summary would say has to be looked for.
            Err(error) if !error.is_fatal() => self.pinned_later(run, 1, None).await?,
            Err(error) => return Err(error.into()),
        };
        if let Some((_, later)) = later {
            pins = later;
        }
        let definition = self
            .services
            .definitions
            .by_digest(pins.definition, &pins.file)
            .await?
            .ok_or_else(|| LoadError::Damaged(format!("the definition {} is not there", pins.definition)))?;
        Ok((pins, definition))
    }

    /// Carries a run that was read; nobody else has taken it up.
    pub(crate) fn take(self: &Arc<Self>, run: RunId, live: Live, loaded: Loaded) {
        self.runs().lock().insert(run, live);
        self.carry(run, loaded);
    }

    /// Has a driver carry a run that is in the list of live ones.
    pub(crate) fn carry(self: &Arc<Self>, run: RunId, loaded: Loaded) {
        let engine = self.clone();
        let spans = engine.services.spans(loaded.trace);
        // A log of errors alone names the run, too.
        let span = tracing::error_span!("run", %run, trace_id = loaded.trace.id());
        let activity = Activity::new(engine.services.clone(), run);
        let carrying = async move {
            let Loaded { port, mut state, mut decisions, granted, guests, trace: _ } = loaded;
            let port = Arc::new(port);
            let caller = Caller {
                services: engine.services.clone(),
                port: port.clone(),
                facts: state.facts().clone(),
                grants: Arc::new(granted),
                guests,
                spans: spans.clone(),
                activity,
            };
            loop {
                let deciding = &engine.services.deciding;
                let carried = driver::drive(port.as_ref(), &caller, deciding, state, decisions).await;
                let (left, after, failed) = match carried {
                    Ok(carried) => (carried.left, Some((carried.state, carried.decisions)), None),
                    Err(error) => (Left::PutDown, None, Some(error)),
                };
                // A message that came while the driver was leaving is in the inbox: look again before going. And one that
                // was put down while something was under way but a turn's waiting goes on: nothing would wake it.
                let goes_on = |state: &State| match left {
                    Left::PutDown if engine.is_draining() => false,
                    Left::PutDown => port.has_message() || !engine.services.only_waits(run, state),
                    Left::Ended | Left::Resting => port.has_message(),
                };
                let goes_on = {
                    let mut live = engine.runs().lock();
                    let goes_on = after.as_ref().is_some_and(|(state, _)| goes_on(state));
                    if !goes_on {
                        live.remove(&run);
                        if let Some(error) = failed.clone().map(LoadError::Port).filter(LoadError::is_of_the_run) {
                            // Before anybody else can take it up.
                            engine.keep_aside(run, &error);
                        }
                    }
                    goes_on
                };
                if goes_on {
                    let Some((s, d)) = after else { return };
                    (state, decisions) = (s, d);
                    continue;
                }
                if let Some(error) = &failed {
                    // What it is told from here on meets no driver that is leaving.
                    engine.failed(run, error).await;
                }
                // Everything that it rests on is durable.
                tracing::info!(?left, status = after.as_ref().map(|(s, _)| s.status().as_str()), "left");
                if left == Left::Ended {
                    engine.runs().places.ended();
                    if let Some((state, _)) = &after {
                        engine.services.note_end(&spans, state);
                    }
                }
                engine.runs().ended.notify_waiters();
                engine.run_left();
                engine.next_in_line();
                return;
            }
        };
        let engine = self.clone();
        let supervised = async move {
            // A mistake of ours that shows with this run must not leave it among the live ones, where nobody looks.
            if AssertUnwindSafe(carrying).catch_unwind().await.is_err() {
                engine.lost(run).await;
            }
        };
        // Nobody waits for its end but by its marks.
        let _carried = self.services.spawn(supervised.instrument(span));
    }

    /// Nobody carries the run any more, because the one who did panicked: it is set aside, and others go on.
    async fn lost(self: &Arc<Self>, run: RunId) {
        let why = LoadError::Damaged("the host failed while it carried the run".to_owned());
        {
            let mut live = self.runs().lock();
            live.remove(&run);
            // Before anybody else can take it up.
            self.keep_aside(run, &why);
        }
        self.show_set_aside(run, &why).await;
        self.runs().ended.notify_waiters();
        self.run_left();
        self.next_in_line();
    }

    /// The port of a run did not do what it was asked: of the run, of this moment, or of the store.
    async fn failed(&self, run: RunId, error: &execution::Error) {
        match error {
            execution::Error::OfTheRun(_) | execution::Error::TooLarge { .. } => {
                self.show_set_aside(run, &LoadError::Port(error.clone())).await;
            }
            execution::Error::Later(_) => {
                tracing::warn!(%run, %error, "the run waits for the store");
                self.services.partition.wake(run);
                // What it was told meanwhile it has not heard.
                self.tell_again(run).await;
            }
            // It is taken up at the next start.
            execution::Error::Stopping => tracing::debug!(%run, "the store is closed"),
            execution::Error::Store(_) => {
                tracing::error!(%run, %error, "the store failed");
                self.services.fatal.send_replace(Some(error.to_string()));
            }
        }
    }

    /// Brings a message to a run, taking it up from the journal if need be. After Ok, the decision about the message
    /// is durable (or the run had ended and there was none to make). True when anything was decided.
    pub async fn signal(self: &Arc<Self>, run: RunId, cause: Cause) -> Result<bool, LoadError> {
        self.signal_by(run, cause, None).await
    }

    /// As [`Self::signal`]; who wants it is on record before the decision is.
    pub async fn signal_by(self: &Arc<Self>, run: RunId, cause: Cause, by: Option<String>) -> Result<bool, LoadError> {
        if matches!(cause, Cause::Resume) && self.is_aside(run) {
            return self.take_back(run).await.map(|()| true);
        }
        if matches!(cause, Cause::Kill) && self.is_aside(run) {
            return self.give_up(run, by).await.map(|()| true);
        }
        let settle = by.map(|by| Settle { calls: BTreeMap::new(), by });
        self.send_and_wait(run, cause, settle).await
    }

    /// Brings a message to a run and waits for the decision about it. After Ok that is durable, and so is what `settle`
    /// says; true when anything was decided, false when there was nothing to decide or the run had ended before. After an
    /// error nothing is known to be kept: whoever asked asks again.
    pub(crate) async fn send_and_wait(
        self: &Arc<Self>,
        run: RunId,
        cause: Cause,
        settle: Option<Settle>,
    ) -> Result<bool, LoadError> {
        let (tell, told) = oneshot::channel();
        self.send(run, Signal { acknowledge: Some(tell), settle, ..Signal::of(cause) }).await?;
        let told = told.await;
        if told.is_err() && !self.summary(run).await?.is_some_and(|s| s.status.is_final()) {
            // Its driver went without looking. Whoever asked must ask again.
            return Err(execution::Error::Stopping.into());
        }
        // Of a run that ended before it looked, nothing is left to decide.
        Ok(told.unwrap_or(false))
    }

    /// As [`Self::signal`], without waiting.
    pub(crate) async fn send(self: &Arc<Self>, run: RunId, mut signal: Signal) -> Result<(), LoadError> {
        // One at a time takes a run up.
        let _turn = self.loading().lock(run.to_string()).await;
        {
            let live = self.runs().lock();
            if let Some(live) = live.get(&run) {
                match live.inbox.send(signal) {
                    Ok(()) => return Ok(()),
                    Err(back) => signal = back.0,
                }
            }
        }
        let summary: Summary = self.summary(run).await?.ok_or(LoadError::Unknown(run))?;
        if summary.status.is_final() && !matches!(signal.cause, Cause::Retry | Cause::Undo) {
            if let Some(mail) = signal.mail {
                let mut write = Write::new();
                mail.consume(&mut write);
                self.services.journal.commit_or_wait(write).await?;
            }
            // A run that was given up unread has left its timer.
            return Ok(self.services.partition.timers.dismiss(run)?);
        }
        if let Some(reason) = self.runs().aside.lock().unwrap_or_else(PoisonError::into_inner).get(&run) {
            return Err(LoadError::Damaged(reason.clone()));
        }
        let is_over = summary.status.is_final();
        let (opening, live) = self.opening(run, summary);
        let loaded = match Box::pin(self.load(run, opening)).await {
            Ok(loaded) if is_over && loaded.state.ended().is_none() => {
                return Err(LoadError::Damaged("the run was given up, and its log does not say its end".to_owned()));
            }
            Ok(loaded) => loaded,
            Err(error) => {
                if error.is_of_the_run() {
                    self.set_aside(run, &error).await;
                }
                return Err(error);
            }
        };
        if loaded.state.ended().is_some() {
            // Opened again; its driver gives the place back when it ends once more, or at once.
            self.runs().places.found(1);
        }
        // The receiver is in the port: this cannot fail.
        let _held = live.inbox.send(signal);
        self.runs().lock().insert(run, live);
        self.carry(run, loaded);
        Ok(())
    }

    /// A run's summary; of one whose summary cannot be read, what can be said of it.
    pub async fn summary(&self, run: RunId) -> Result<Option<Summary>, journal::Error> {
        match self.services.journal.get(&key::summary(run)).await {
            Err(journal::Error::Record(_)) => Ok(Some(self.damaged(run).await)),
            read => read,
        }
    }

    /// What of a parked run waits for a person's word. What is under way beside that is not among it.
    pub(crate) async fn open_of(&self, run: RunId) -> Result<Vec<Open>, LoadError> {
        let Loaded { port, state, .. } = self.looked_at(run).await?;
        Ok(port.open(&state))
    }

    /// By what a call in doubt is known to Slack.
    pub(crate) async fn stamp_of(&self, run: RunId, call: &CallKey) -> Result<String, LoadError> {
        let Loaded { port, .. } = self.looked_at(run).await?;
        if call.attempt > 1 {
            port.recall().await?;
        }
        Ok(call::stamp(run, call, call::sends_again(&port, call).await?))
    }

    /// A run as it is on record, only to be read: its inbox is nobody's, and nothing is written through it.
    pub(crate) async fn looked_at(&self, run: RunId) -> Result<Loaded, LoadError> {
        let summary = self.summary(run).await?.ok_or(LoadError::Unknown(run))?;
        let (opening, _inbox) = self.opening(run, summary);
        Box::pin(self.load(run, opening)).await
    }

    /// What the plugins of a run's actions were granted when it was accepted.
    pub(crate) async fn granted(&self, pins: &Pins) -> Result<Granted, LoadError> {
        let mut granted = Granted::new();
        for pinned in &pins.actions {
            let grants = self.services.plugins.grants(pinned.plugin, pinned.grants).await?;
            let gone = || LoadError::Damaged(format!("the grants {} are not there", pinned.grants));
            granted.insert(pinned.written.clone(), grants.ok_or_else(gone)?);
        }
        Ok(granted)
    }

    /// Brings a run once more what nobody has consumed of that which it was told.
    pub(crate) async fn tell_again(&self, run: RunId) {
        if let Err(error) = self.services.partition.mail.again(&self.services.journal, run).await {
            tracing::error!(%run, %error, "what a run was told cannot be read; the next start brings it");
        }
    }
}
