//! Runs that wait for a turn: for Slack's budget, for a key that another action holds, for the time to try again.
//!
//! The last few that began to wait stay in memory, with their guests where they are. The others are put down and cost
//! no more than their place in the queue. When its turn comes, a run is taken up again, and its action is fed what it
//! had been answered (semantics 1, "Waiting").

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bellhop_core::id::RunId;
use bellhop_core::run::{Command, ExecutionKey, State, pending};
use bellhop_core::time::Timestamp;
use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc, watch};

use crate::Engine;
use crate::Services;
use crate::execution::CallKey;
use crate::execution::invoker::Wish;
use bellhop_clock::Clock;
use bellhop_limits::Limits;

/// Ready when it is somebody's turn.
pub(crate) type Turn = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A call.
    Call(CallKey),
    /// An attempt at an action, before it begins.
    Action(ExecutionKey, u32),
}

impl Place {
    /// Whose.
    fn action(&self) -> &ExecutionKey {
        match self {
            Self::Call(call) => &call.execution,
            Self::Action(action, _) => action,
        }
    }
}

/// For what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Keys, or Slack's budget: with its turn it has them.
    Turn,
    /// The time to try again, or to read back again: then it has yet to queue.
    Backoff,
}

/// What a call that waits has behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    /// Sends so far.
    pub(crate) sends: u64,
    /// Since when it is tried to find out what became of the last of them, by [`Clock::monotonic`]; none: that is known.
    pub(crate) in_doubt_since: Option<Duration>,
    /// How often that failed.
    pub(crate) reads: u64,
}

/// A turn that is kept for a run that was put down. Dropping it gives the turn up. No task of its own waits for it, so
/// that ten thousand take little: see [`Bell`].
pub(crate) struct Held {
    /// None when it has come, and the run was told.
    turn: Option<Turn>,
    /// What the call has behind it.
    pub(crate) progress: Progress,
    /// What it waits for.
    pub(crate) wanted: Wanted,
}

impl Held {
    /// Goes on waiting.
    pub(crate) fn turn(self) -> Turn {
        self.turn.unwrap_or_else(|| Box::pin(std::future::ready(())))
    }
}

/// Tells whoever looks after the turns that are kept that one of this run's has moved. Takes no lock of ours: it is rung
/// from under those of the queues.
struct Bell {
    run: RunId,
    rung: mpsc::UnboundedSender<RunId>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // Nobody looks any more when the process is about to stop.
        let _gone = self.rung.send(self.run);
    }
}

/// A run in memory all of whose actions wait.
struct Idle {
    run: RunId,
    since: Timestamp,
    bytes: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Book {
    /// Those that began to wait first come first.
    idle: BTreeMap<u64, Idle>,
    serial: u64,
    /// Those that were told to go, and whose actions have not ended yet.
    leaving: u64,
    /// Actions that have begun, and neither wait nor have sent anything yet.
    entering: u64,
    /// Actions that are to stop, and stay in memory until it is known what became of what they sent.
    lingering: u64,
    held: HashMap<RunId, Vec<(Place, Held)>>,
}

/// All who wait. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Waiting {
    inner: Arc<(Mutex<Book>, Notify)>,
    /// Fewer are leaving.
    room: Arc<Notify>,
    /// What [`Bell`]s tell, and the other end for the one who looks.
    rung: mpsc::UnboundedSender<RunId>,
    bells: Arc<AsyncMutex<mpsc::UnboundedReceiver<RunId>>>,
}

impl Default for Waiting {
    fn default() -> Self {
        let (rung, bells) = mpsc::unbounded_channel();
        Self { inner: Arc::default(), room: Arc::default(), rung, bells: Arc::new(AsyncMutex::new(bells)) }
    }
}

impl Waiting {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.inner.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn that was kept for `place`, if one was.
    pub(crate) fn claim(&self, run: RunId, place: &Place) -> Option<Held> {
        let mut book = self.book();
        let held = book.held.get_mut(&run)?;
        let at = held.iter().position(|(p, _)| p == place)?;
        let (_, claimed) = held.swap_remove(at);
        if held.is_empty() {
            book.held.remove(&run);
        }
        Some(claimed)
    }

    /// Whether a turn is kept for an action of a run.
    fn holds(&self, run: RunId, action: &ExecutionKey) -> bool {
        self.book().held.get(&run).is_some_and(|held| held.iter().any(|(place, _)| place.action() == action))
    }

    /// Keeps a turn for a run that leaves memory.
    fn keep(&self, run: RunId, place: Place, held: Held) {
        self.book().held.entry(run).or_insert_with(|| Vec::with_capacity(1)).push((place, held));
        // Whoever looks has it ring the bell from now on; nobody does when the process is about to stop.
        let _gone = self.rung.send(run);
    }

    /// Keeps what a call has behind it that leaves memory and waits for nothing; what it waits for has it already.
    pub(crate) fn keep_progress(&self, run: RunId, place: &Place, progress: Progress) {
        let is_kept = self.book().held.get(&run).is_some_and(|held| held.iter().any(|(kept, _)| kept == place));
        if !is_kept {
            let turn: Turn = Box::pin(std::future::ready(()));
            self.keep(run, place.clone(), Held { turn: Some(turn), progress, wanted: Wanted::Backoff });
        }
    }

    /// Whether the turn of any that is kept for the run has come by now.
    fn has_come(&self, run: RunId) -> bool {
        let waker = Waker::from(Arc::new(Bell { run, rung: self.rung.clone() }));
        let mut context = Context::from_waker(&waker);
        let mut book = self.book();
        let mut come = false;
        for (_, held) in book.held.get_mut(&run).into_iter().flatten() {
            if held.turn.as_mut().is_some_and(|turn| turn.as_mut().poll(&mut context).is_ready()) {
                held.turn = None;
                come = true;
            }
        }
        come
    }

    /// The run has ended: it gives up whatever it waited for.
    pub(crate) fn forget(&self, run: RunId) {
        let given_up = self.book().held.remove(&run);
        // Outside the lock: to give up a turn may give it to another.
        drop(given_up);
    }

    fn enlist(&self, run: RunId, since: Timestamp, bytes: Arc<AtomicUsize>) -> u64 {
        let mut book = self.book();
        book.serial += 1;
        let serial = book.serial;
        book.idle.insert(serial, Idle { run, since, bytes });
        drop(book);
        self.inner.1.notify_one();
        serial
    }

    /// It waits no longer; whether it was told to go.
    fn strike(&self, serial: u64) -> bool {
        let was_there = self.book().idle.remove(&serial).is_some();
        self.room.notify_one();
        !was_there
    }

    /// One that was told to go has gone, or goes on.
    fn has_gone(&self) {
        let mut book = self.book();
        book.leaving = book.leaving.saturating_sub(1);
        drop(book);
        self.room.notify_one();
    }

    /// Ready when an action may begin that may come to wait; until it does, or needs to no more, it counts as one that
    /// waits.
    pub(crate) async fn has_room(&self, limits: &Limits) -> Entering {
        let max = limits.waiting_runs_max.saturating_add(limits.leaving_runs_max);
        let enters = || {
            let mut book = self.book();
            let has_room = book.entering + book.leaving + (book.idle.len() as u64) < max;
            book.entering += u64::from(has_room);
            has_room
        };
        while !enters() {
            self.room.notified().await;
        }
        // There may be room for another.
        self.room.notify_one();
        Entering(self.clone())
    }

    /// Room for an action that is to stop and whose last call is in doubt, unless there are as many of them as there may be
    /// runs that wait: they are not put down.
    pub(crate) fn lingers(&self, limits: &Limits) -> Option<Lingering> {
        let mut book = self.book();
        if book.lingering >= limits.waiting_runs_max {
            return None;
        }
        book.lingering += 1;
        Some(Lingering(self.clone()))
    }

    /// The next run that has to go: the one that waits longest, when there are too many or it has waited too long.
    async fn next_to_go(&self, clock: &dyn Clock, limits: &Limits) -> RunId {
        loop {
            let look_again = {
                let mut book = self.book();
                let bytes: usize = book.idle.values().map(|idle| idle.bytes.load(Ordering::Relaxed)).sum();
                let crowded =
                    book.idle.len() as u64 > limits.waiting_runs_max || bytes as u64 > limits.waiting_bytes_max;
                match book.idle.first_key_value().map(|(serial, idle)| (*serial, idle.since)) {
                    Some((serial, since)) => {
                        let until = since.plus_millis(limits.waiting_ms_max);
                        if (crowded || until <= clock.now())
                            && let Some(idle) = book.idle.remove(&serial)
                        {
                            book.leaving += 1;
                            return idle.run;
                        }
                        Some(until)
                    }
                    None => None,
                }
            };
            let bell = self.inner.1.notified();
            match look_again {
                Some(at) => tokio::select! {
                    biased;
                    () = clock.sleep_until(at) => {}
                    () = bell => {}
                },
                None => bell.await,
            }
        }
    }

    /// Runs in memory all of whose actions wait, and turns kept for those that were put down.
    pub(crate) fn count(&self) -> (usize, usize) {
        let book = self.book();
        (book.idle.len(), book.held.values().map(Vec::len).sum())
    }
}

/// See [`Waiting::has_room`].
pub(crate) struct Entering(Waiting);

impl Drop for Entering {
    fn drop(&mut self) {
        let mut book = self.0.book();
        book.entering = book.entering.saturating_sub(1);
        drop(book);
        self.0.room.notify_one();
    }
}

/// See [`Waiting::lingers`].
pub(crate) struct Lingering(Waiting);

impl Drop for Lingering {
    fn drop(&mut self) {
        let mut book = self.0.book();
        book.lingering = book.lingering.saturating_sub(1);
    }
}

/// What one run's actions do in this life of its driver: so many are under way, and so many of them wait.
pub(crate) struct Activity {
    run: RunId,
    services: Arc<Services>,
    counts: Mutex<Counts>,
    /// Memory of its guests.
    pub(crate) guests_bytes: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Counts {
    under_way: u32,
    waiting: u32,
    enlisted: Option<u64>,
    /// It was told to go.
    leaving: bool,
}

impl Activity {
    pub(crate) fn new(services: Arc<Services>, run: RunId) -> Arc<Self> {
        Arc::new(Self { run, services, counts: Mutex::default(), guests_bytes: Arc::default() })
    }

    /// An action is under way until what this gives is dropped.
    pub(crate) fn begins(self: &Arc<Self>) -> Doing {
        self.change(|counts| counts.under_way += 1);
        Doing { activity: self.clone(), waits: false }
    }

    fn waits(self: &Arc<Self>) -> Doing {
        self.change(|counts| counts.waiting += 1);
        Doing { activity: self.clone(), waits: true }
    }

    fn change(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut counts);
        let idle = counts.waiting > 0 && counts.waiting >= counts.under_way;
        match counts.enlisted {
            None if idle => {
                let (now, bytes) = (self.services.clock.now(), self.guests_bytes.clone());
                counts.enlisted = Some(self.services.partition.waiting.enlist(self.run, now, bytes));
            }
            Some(serial) if !idle => {
                counts.enlisted = None;
                if self.services.partition.waiting.strike(serial) {
                    // Counted once, however often it is told.
                    if counts.leaving {
                        self.services.partition.waiting.has_gone();
                    }
                    counts.leaving = true;
                }
            }
            _ => {}
        }
        // Their guests are in memory until then.
        if counts.leaving && counts.under_way == 0 {
            counts.leaving = false;
            self.services.partition.waiting.has_gone();
        }
    }

    /// One of its actions has had its turn: if the run was told to go, that came too late.
    pub(crate) fn goes_on(&self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut counts.leaving) {
            self.services.partition.waiting.has_gone();
        }
    }
}

/// See [`Activity::begins`].
pub(crate) struct Doing {
    activity: Arc<Activity>,
    waits: bool,
}

impl Drop for Doing {
    fn drop(&mut self) {
        self.activity.change(|counts| {
            let count = if self.waits { &mut counts.waiting } else { &mut counts.under_way };
            *count = count.saturating_sub(1);
        });
    }
}

/// Waits for a turn. Dropped because the run is put down to make room, it has the turn kept for it.
pub(crate) struct Wait {
    turn: Option<Turn>,
    place: Place,
    progress: Progress,
    wanted: Wanted,
    wish: watch::Receiver<Wish>,
    doing: Doing,
}

impl Wait {
    pub(crate) fn new(
        activity: &Arc<Activity>,
        wish: &watch::Receiver<Wish>,
        place: Place,
        (wanted, progress): (Wanted, Progress),
        turn: Turn,
    ) -> Self {
        Self { turn: Some(turn), place, progress, wanted, wish: wish.clone(), doing: activity.waits() }
    }
}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(turn) = &mut self.turn else { return Poll::Ready(()) };
        let polled = turn.as_mut().poll(context);
        if polled.is_ready() {
            self.turn = None;
        }
        polled
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let services = &self.doing.activity.services;
        if *self.wish.borrow() != Wish::PutDown || *services.drain.borrow() {
            return;
        }
        let Some(turn) = self.turn.take() else { return };
        let held = Held { turn: Some(turn), progress: self.progress, wanted: self.wanted };
        services.partition.waiting.keep(self.doing.activity.run, self.place.clone(), held);
    }
}

impl Services {
    /// Whether everything that a run has to do is to wait for turns that are kept for it.
    pub(crate) fn only_waits(&self, run: RunId, state: &State) -> bool {
        pending(state).iter().all(|command| match command {
            Command::Invoke { call, .. } => self.partition.waiting.holds(run, &call.key),
            Command::Start | Command::GoOn | Command::Stop { .. } | Command::Notify { .. } => false,
            Command::Admit { .. } | Command::Wake { .. } => true,
        })
    }
}

impl Engine {
    /// Puts runs down that have waited long, or that are too many.
    pub(crate) async fn put_down_those_who_wait(self: Arc<Self>) {
        let mut drain = self.services.drain.subscribe();
        loop {
            let run = tokio::select! {
                biased;
                run = self.services.partition.waiting.next_to_go(self.services.clock.as_ref(), &self.services.limits) => run,
                _ = drain.wait_for(|drain| *drain) => return,
            };
            self.runs().put_down(run);
        }
    }

    /// Wakes the runs whose turns have come while they were put down.
    pub(crate) async fn wake_those_whose_turn_it_is(self: Arc<Self>) {
        let mut drain = self.services.drain.subscribe();
        let mut bells = self.services.partition.waiting.bells.lock().await;
        loop {
            let run = tokio::select! {
                biased;
                Some(run) = bells.recv() => run,
                _ = drain.wait_for(|drain| *drain) => return,
            };
            if self.services.partition.waiting.has_come(run) {
                self.services.partition.wake(run);
            }
        }
    }
}
