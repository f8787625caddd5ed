//! The two execution ports as places where a process can die.

use std::sync::{Arc, Mutex};

use bellhop_core::id::RunId;
use bellhop_core::run::{Cause, Event, Facts, State};
use bellhop_core::time::Timestamp;
use futures_util::FutureExt as _;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::dying::Dying;
use super::simulate::dice::Dice;
use crate::drive::driver;
use crate::entropy::Entropy;
use crate::execution::local::{Local, Opening, Read};
use crate::execution::replay::{Death, Line, Replay};
use crate::execution::{Execution, Signal};
use crate::mail::Mail;
use crate::owners::timers::Timers;
use crate::tests::at_once;
use bellhop_clock::{Clock as _, Manual};
use bellhop_journal::memory::Memory;
use bellhop_journal::{Entry, Journal, Json, Open, Store as _, Summary, Write, key};
use bellhop_limits::Limits;

/// When all runs here are accepted.
pub(super) const START: Timestamp = Timestamp::from_millis(1_790_000_000_000);

/// A run taken up by a process.
pub(super) struct Taken<E> {
    pub(super) port: Arc<E>,
    pub(super) inbox: mpsc::UnboundedSender<Signal>,
    pub(super) state: State,
    pub(super) decisions: u64,
}

/// What is on record of a run.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Records {
    pub(super) intents: usize,
    pub(super) not_sent: usize,
    /// The keys of calls with an end, as often as they have one.
    pub(super) ends: Vec<String>,
    /// The events of all decisions.
    pub(super) events: Vec<Event>,
}

/// Where a process dies: at the n-th record that it writes, and how much of what is at stake then is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Point {
    /// Counts from 1, in the process.
    pub(super) at: u64,
    /// Of the records at stake, the oldest so many.
    pub(super) keep: usize,
}

/// A port with what is under it.
pub(super) trait Stage {
    type Port: Execution;

    /// Nothing was kept of anything yet.
    fn new(facts: &Arc<Facts>) -> Self;
    /// Takes the run up, accepting it first if no acceptance was kept.
    async fn take(&mut self) -> Taken<Self::Port>;
    /// The process dies there.
    fn die_at(&mut self, point: Point);
    /// Ends when the process has died.
    async fn died(&self);
    fn is_dead(&self) -> bool;
    /// How many records were at stake when it died; it can die again with fewer kept.
    fn at_stake(&self) -> usize;
    /// A new process over what is left.
    fn restart(&mut self);
    /// Lets the time pass until the run is to be woken.
    fn pass(&mut self, state: &State);
    fn records(&self) -> Records;
}

pub(super) struct LocalStage {
    facts: Arc<Facts>,
    store: Arc<Dying>,
    journal: Journal,
    pub(super) clock: Manual,
    pub(super) timers: Timers,
    mail: Mail,
    drain: watch::Sender<bool>,
    keep: usize,
    /// Reads take their time, as the dice say that begin with this.
    far: Option<u64>,
}

impl LocalStage {
    fn over(facts: Arc<Facts>, memory: Memory, clock: Manual, far: Option<u64>) -> Self {
        let store = Arc::new(Dying::over(memory));
        if let Some(seed) = far {
            store.is_far(Dice::new(seed));
        }
        let journal = Journal::checked(store.clone());
        let timers = at_once(Timers::read(journal.clone(), Arc::new(clock.clone()))).unwrap();
        let (mail, _nobody_hears) = at_once(Mail::read(&journal, Arc::new(clock.clone()), 1)).unwrap();
        Self { facts, store, journal, clock, timers, mail, drain: watch::channel(false).0, keep: 0, far }
    }

    /// The state of the snapshot, that state with what came after it, and the one that the whole log tells of.
    pub(super) async fn read_both_ways(&mut self) -> (State, State, State) {
        let summary: Summary = at_once(self.journal.get(&key::summary(self.run()))).unwrap().unwrap();
        let read = at_once(Local::read(self.opening(summary.clone()).0, &self.facts)).unwrap();
        let snapshot = read.state.clone();
        let mut folded = snapshot.clone();
        driver::fold(&read.port, &mut folded, read.decisions).await.unwrap();
        let read = at_once(Local::read_whole(self.opening(summary).0, &self.facts)).unwrap();
        let mut whole = read.state;
        driver::fold(&read.port, &mut whole, 0).await.unwrap();
        (snapshot, folded, whole)
    }

    /// Records that were read from the store so far.
    pub(super) fn scanned(&self) -> u64 {
        self.store.scanned()
    }

    /// Values stored by their digest.
    pub(super) fn blobs(&self) -> usize {
        let range = key::all(key::Space::Blob);
        at_once(self.store.scan(&range.from, &range.to, 4_000)).unwrap().items.len()
    }

    fn run(&self) -> RunId {
        self.facts.run
    }

    fn opening(&self, summary: Summary) -> (Opening, mpsc::UnboundedSender<Signal>) {
        let (sender, inbox) = mpsc::unbounded_channel();
        let opening = Opening {
            run: self.run(),
            journal: self.journal.clone(),
            clock: Arc::new(self.clock.clone()),
            entropy: Arc::new(Entropy::new()),
            limits: Arc::new(Limits::default()),
            installation: crate::installation::Known::default(),
            inbox,
            drain: self.drain.subscribe(),
            put_down: Arc::default(),
            moved: watch::channel(bellhop_journal::Ticket::default()).0,
            summary,
            timers: self.timers.clone(),
            mail: self.mail.clone(),
            tally: Arc::default(),
        };
        (opening, sender)
    }
}

/// What something gives that waits for nothing but reads; none where it waits for something else.
pub(super) fn soon<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    (0..1_000).find_map(|_| work.as_mut().now_or_never())
}

/// The same over a store whose reads take their time.
pub(super) struct FarStage(LocalStage);

impl Stage for FarStage {
    type Port = Local;

    fn new(facts: &Arc<Facts>) -> Self {
        let seed = facts.workflow.tasks.len() as u64;
        Self(LocalStage::over(facts.clone(), Memory::manual(), Manual::new(START), Some(seed)))
    }

    async fn take(&mut self) -> Taken<Local> {
        self.0.take().await
    }

    fn die_at(&mut self, point: Point) {
        self.0.die_at(point);
    }

    async fn died(&self) {
        self.0.died().await;
    }

    fn is_dead(&self) -> bool {
        self.0.is_dead()
    }

    fn at_stake(&self) -> usize {
        self.0.at_stake()
    }

    fn restart(&mut self) {
        self.0.restart();
    }

    fn pass(&mut self, state: &State) {
        self.0.pass(state);
    }

    fn records(&self) -> Records {
        self.0.records()
    }
}

impl Stage for LocalStage {
    type Port = Local;

    fn new(facts: &Arc<Facts>) -> Self {
        Self::over(facts.clone(), Memory::manual(), Manual::new(START), None)
    }

    async fn take(&mut self) -> Taken<Local> {
        let kept: Option<Summary> = at_once(self.journal.get(&key::summary(self.run()))).unwrap();
        let Some(summary) = kept else {
            let (namespace, name) = ("test".to_owned(), "scenario".to_owned());
            let summary = Summary::new(bellhop_core::run::Status::Running, namespace, name, "1.0.0".to_owned(), START);
            let mut write = Write::new();
            write.put(&key::summary(self.run()), &summary).unwrap();
            write.put(&key::open(self.run()), &Open::default()).unwrap();
            let accepted = Entry::Accepted { pins: Json::from(&Value::Null) };
            let ticket = self.journal.append(self.run(), &mut 0, &[accepted], write).unwrap();
            let (opening, inbox) = self.opening(summary);
            let port = Arc::new(Local::fresh(opening, ticket, 0));
            return Taken { port, inbox, state: State::new(self.facts.clone()), decisions: 0 };
        };
        let (opening, inbox) = self.opening(summary);
        let Read { port, mut state, decisions } = Local::read(opening, &self.facts).await.unwrap();
        let decisions = driver::fold(&port, &mut state, decisions).await.unwrap();
        port.folded(&state);
        Taken { port: Arc::new(port), inbox, state, decisions }
    }

    fn die_at(&mut self, point: Point) {
        self.keep = point.keep;
        self.store.die_at(point.at);
    }

    async fn died(&self) {
        self.store.died().await;
    }

    fn is_dead(&self) -> bool {
        self.store.is_dead()
    }

    fn at_stake(&self) -> usize {
        self.store.at_stake()
    }

    fn restart(&mut self) {
        let far = self.far.map(|seed| seed + 1);
        *self = Self::over(self.facts.clone(), self.store.left(self.keep), self.clock.clone(), far);
    }

    fn pass(&mut self, state: &State) {
        let at = crate::execution::wake(state).expect("a run that waits has a time to wake at");
        // The clock goes on when a process dies: the time may have come in the meantime.
        if self.clock.now() < at {
            assert!(soon(self.timers.due()).is_none(), "woken before {at}");
            self.clock.set(at);
        }
        let due = soon(self.timers.due());
        assert!(matches!(due, Some(Ok(run)) if run == self.run()), "not woken at {at}: {due:?}");
        assert!(soon(self.timers.due()).is_none(), "woken twice at {at}");
    }

    fn records(&self) -> Records {
        let mut records = Records::default();
        for (_, entry) in at_once(self.journal.entries(self.run(), 0, 4_000)).unwrap() {
            match entry {
                Entry::Decision { events } => {
                    records.events.extend(events.iter().map(|e| at_once(self.journal.read(e)).unwrap()));
                }
                Entry::Intent { .. } => records.intents += 1,
                Entry::NotSent { .. } => records.not_sent += 1,
                Entry::Outcome { key, attempt, ordinal, .. } | Entry::Read { key, attempt, ordinal, .. } => {
                    records.ends.push(format!("{key}/{ordinal} in attempt {attempt}"));
                }
                _ => {}
            }
        }
        records
    }
}

pub(super) struct ReplayStage {
    facts: Arc<Facts>,
    lines: Vec<Line>,
    now: Timestamp,
    life: Mutex<Option<Arc<Replay>>>,
    death: Option<Death>,
    /// Lines when the process began.
    begun: usize,
}

impl ReplayStage {
    fn life(&self) -> Option<Arc<Replay>> {
        self.life.lock().unwrap().clone()
    }

    /// What the process that lives has written.
    fn settle(&mut self) {
        if let Some(life) = self.life.get_mut().unwrap().take() {
            self.lines = life.lines();
            self.now = life.now();
        }
    }
}

impl Stage for ReplayStage {
    type Port = Replay;

    fn new(facts: &Arc<Facts>) -> Self {
        Self { facts: facts.clone(), lines: Vec::new(), now: START, life: Mutex::new(None), death: None, begun: 0 }
    }

    async fn take(&mut self) -> Taken<Replay> {
        self.settle();
        let (port, inbox) = Replay::over(self.lines.clone(), self.now);
        if let Some(death) = self.death {
            port.die_at(death);
        }
        let port = Arc::new(port);
        let mut state = State::new(self.facts.clone());
        let decisions = driver::fold(port.as_ref(), &mut state, 0).await.unwrap();
        *self.life.get_mut().unwrap() = Some(port.clone());
        Taken { port, inbox, state, decisions }
    }

    /// A line is kept or not; nothing else is at stake.
    fn die_at(&mut self, point: Point) {
        let line = self.begun + usize::try_from(point.at).unwrap() - 1;
        let death = Death { line, kept: point.keep > 0 };
        self.death = Some(death);
        if let Some(life) = self.life() {
            life.die_at(death);
        }
    }

    async fn died(&self) {
        // Whoever writes is told at once.
        std::future::pending::<()>().await;
    }

    fn is_dead(&self) -> bool {
        let lines = self.life().map_or(self.lines.len(), |life| life.lines().len());
        self.death.is_some_and(|death| lines >= death.line + usize::from(death.kept))
    }

    fn at_stake(&self) -> usize {
        1
    }

    fn restart(&mut self) {
        self.settle();
        self.death = None;
        self.begun = self.lines.len();
    }

    /// It passes by itself: [`Replay`] wakes a run that rests.
    fn pass(&mut self, _: &State) {
        panic!("a replaying engine does not let a run rest that is to be woken");
    }

    fn records(&self) -> Records {
        let lines = self.life().map_or_else(|| self.lines.clone(), |life| life.lines());
        let mut records = Records::default();
        for line in lines {
            match line {
                Line::Intent(..) => records.intents += 1,
                Line::NotSent(..) => records.not_sent += 1,
                Line::Decision(_, events) => records.events.extend(events),
                Line::Ended(key, _) => {
                    records.ends.push(format!("{}/{} in attempt {}", key.execution, key.ordinal, key.attempt));
                }
                Line::Slice(..) => {}
            }
        }
        records
    }
}

/// Asks the run to wake, as the engine does when its time has come.
pub(super) fn wake() -> Signal {
    Signal::of(Cause::Wake)
}
