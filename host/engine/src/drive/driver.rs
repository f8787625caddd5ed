//! Carries one run: has what is pending under way, brings what happens to the core, keeps what it decides.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;

use bellhop_core::run::{self, Calling, Cause, Command, FrameId, Notice, State};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{oneshot, watch};

use crate::drive::deciding::Deciding;
use crate::execution::invoker::{CallEnd, CameBack, Invoker, Wish};
use crate::execution::{Alongside, Decision, Error, Execution, Next, Parking, Signal, wake};
use bellhop_faults::{Point, pass};

/// Where a driver left its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// Ended.
    Ended,
    /// Waiting for a time or a message.
    Resting,
    /// Put down to make room, or for the process to stop.
    PutDown,
}

/// A run as its driver left it.
pub(crate) struct Carried {
    /// Why.
    pub left: Left,
    /// As it stands.
    pub state: State,
    /// How many decisions there are.
    pub decisions: u64,
}

/// A call that is being carried out, and its end.
type UnderWay = Pin<Box<dyn Future<Output = (FrameId, CameBack)> + Send>>;

/// The calls of a run that are under way.
#[derive(Default)]
struct Calls {
    wishes: BTreeMap<FrameId, watch::Sender<Wish>>,
    futures: FuturesUnordered<UnderWay>,
    /// Those that ended while the driver waited for something else.
    ended: VecDeque<(FrameId, CameBack)>,
}

impl Calls {
    fn begin(&mut self, invoker: &dyn Invoker, frame: FrameId, call: Calling, wish: Wish) {
        let (sender, receiver) = watch::channel(wish);
        self.wishes.insert(frame, sender);
        let future = invoker.invoke(frame, call, receiver);
        self.futures.push(Box::pin(async move { (frame, future.await) }));
    }

    /// All of them are told to end what was sent and to go. One that is being stopped goes on to its end as it is.
    fn put_down(&self) {
        for wish in self.wishes.values() {
            wish.send_if_modified(|wish| {
                let change = *wish == Wish::Run;
                if change {
                    *wish = Wish::PutDown;
                }
                change
            });
        }
    }

    fn is_empty(&self) -> bool {
        self.ended.is_empty() && self.futures.is_empty()
    }

    /// The next that ends; none where none is under way.
    async fn next(&mut self) -> Option<(FrameId, CameBack)> {
        match self.ended.pop_front() {
            Some(ended) => Some(ended),
            None => self.futures.next().await,
        }
    }

    /// What `work` gives. The calls go on meanwhile, because an answer that waits too long looks like one that never came.
    async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                Some(ended) = self.futures.next(), if !self.futures.is_empty() => self.ended.push_back(ended),
            }
        }
    }

    /// Ready when none is under way.
    async fn all_ended(&mut self) {
        while self.next().await.is_some() {}
    }
}

/// Carries a run until it ends or rests. After `Ok` everything recorded is durable. After an error of which the host goes
/// on nothing of the run is under way: whoever takes it up next is the only one who writes its records and asks what
/// became of what was sent. A panic goes on from here when the same holds.
pub(crate) async fn drive<E: Execution>(
    port: &E,
    invoker: &dyn Invoker,
    deciding: &Deciding,
    state: State,
    decisions: u64,
) -> Result<Carried, Error> {
    let mut calls = Calls::default();
    let carrying = Box::pin(carry(port, invoker, deciding, state, decisions, &mut calls));
    let carried = match AssertUnwindSafe(carrying).catch_unwind().await {
        Ok(carried) => carried,
        Err(panic) => {
            calls.put_down();
            calls.all_ended().await;
            resume_unwind(panic);
        }
    };
    match carried {
        Err(Error::TooLarge { .. } | Error::OfTheRun(_) | Error::Later(_)) => {
            calls.put_down();
            calls.all_ended().await;
        }
        // The process ends.
        Ok(_) | Err(Error::Stopping | Error::Store(_)) => {}
    }
    carried
}

async fn carry<E: Execution>(
    port: &E,
    invoker: &dyn Invoker,
    deciding: &Deciding,
    state: State,
    decisions: u64,
    calls: &mut Calls,
) -> Result<Carried, Error> {
    let taken_up = notices(&state);
    let state = Arc::new(state);
    // A port that takes a run up again does not know its state.
    port.timer(wake(&state));
    let mut run = Carrying { port, invoker, deciding, calls, state, decisions, draining: false, taken_up };
    loop {
        let due = run.begin_what_is_pending();
        match run.next(due).await? {
            Happened::Nothing => {}
            Happened::Matter(matter) => run.decide(matter).await?,
            Happened::Left(left) => {
                return Ok(Carried { left, state: Arc::unwrap_or_clone(run.state), decisions: run.decisions });
            }
        }
    }
}

/// What the driver of a run knows of it.
struct Carrying<'a, E> {
    port: &'a E,
    invoker: &'a dyn Invoker,
    deciding: &'a Deciding,
    calls: &'a mut Calls,
    state: Arc<State>,
    decisions: u64,
    /// Nothing begins any more, because the run is to be put down.
    draining: bool,
    /// The notices that an earlier life may have handed over.
    taken_up: BTreeSet<u32>,
}

/// What a run's state asks for besides calls.
#[derive(Default)]
struct Due {
    start: bool,
    goes_on: bool,
    notice: Option<Notice>,
}

/// Something to decide of.
struct Matter {
    cause: Cause,
    /// Who waits to hear that it was decided.
    acknowledge: Option<oneshot::Sender<bool>>,
    /// What is changed with the decision in what others have of the run.
    alongside: Alongside,
}

impl Matter {
    fn of(cause: Cause) -> Happened {
        Happened::Matter(Self { cause, acknowledge: None, alongside: Alongside::default() })
    }

    fn told(signal: Signal) -> Happened {
        let Signal { cause, acknowledge, settle: _, mail } = signal;
        Happened::Matter(Self { cause, acknowledge, alongside: Alongside { mail, keys: Vec::new() } })
    }
}

/// What a driver found when it looked for what comes next.
#[allow(clippy::large_enum_variant, reason = "there is one at a time, and it is taken apart at once")]
enum Happened {
    /// Something to decide of.
    Matter(Matter),
    /// Nothing that is decided of: it is looked again.
    Nothing,
    /// The driver has done what it can. Everything recorded is durable.
    Left(Left),
}

impl<E: Execution> Carrying<'_, E> {
    /// Has the calls begin that are pending, and those stopped that nobody waits for; gives the rest of what is pending.
    fn begin_what_is_pending(&mut self) -> Due {
        let mut due = Due::default();
        for command in run::pending(&self.state) {
            match command {
                Command::Start => due.start = true,
                Command::GoOn => due.goes_on = !self.draining,
                Command::Notify { notice } => due.notice = Some(notice.clone()),
                Command::Invoke { frame, call } if !self.draining && !self.calls.wishes.contains_key(&frame) => {
                    self.calls.begin(self.invoker, frame, call.clone(), Wish::Run);
                }
                Command::Stop { frame, call } => match self.calls.wishes.get(&frame) {
                    Some(wish) => {
                        wish.send_replace(Wish::Stop);
                    }
                    None if !self.draining => self.calls.begin(self.invoker, frame, call.clone(), Wish::Stop),
                    None => {}
                },
                Command::Invoke { .. } | Command::Admit { .. } | Command::Wake { .. } => {}
            }
        }
        due
    }

    /// The next thing that happens to the run, of several the one that goes first.
    async fn next(&mut self, due: Due) -> Result<Happened, Error> {
        debug_assert!(self.state.ended().is_none() || self.calls.is_empty(), "a run ends after its calls");
        if self.state.ended().is_some() {
            return self.after_its_end().await;
        }
        // What is left to hand over when a run is put down looks later as if it had been, and the process had died.
        if self.draining && self.calls.is_empty() && due.notice.is_none() {
            self.port.settled().await?;
            return Ok(Happened::Left(Left::PutDown));
        }
        if let Some(outgrown) = self.port.outgrown(&self.state)? {
            return Ok(Matter::of(Cause::TooLarge(outgrown)));
        }
        if due.start && !self.draining {
            return Ok(Matter::of(Cause::Start));
        }
        match due.notice {
            Some(notice) => self.hand_over(notice).await,
            None => self.wait(due.goes_on).await,
        }
    }

    /// A run that has ended may be tried again, or taken back what it did. What it held is let go when nobody asks for that.
    async fn after_its_end(&mut self) -> Result<Happened, Error> {
        match heard(self.port, self.port.signal(true).await).await {
            None => Ok(Happened::Nothing),
            Some(Next::Signal(signal)) => Ok(Matter::told(signal)),
            Some(Next::Rest | Next::PutDown) => {
                self.port.settled().await?;
                pass(Point::Ended);
                self.invoker.ended();
                Ok(Happened::Left(Left::Ended))
            }
        }
    }

    /// Hands a notice to whoever tells people. What is handed over is on record before it leaves.
    async fn hand_over(&mut self, notice: Notice) -> Result<Happened, Error> {
        self.calls.beside(self.port.settled()).await?;
        let number = notice.number;
        self.calls.beside(self.invoker.notify(notice, self.taken_up.remove(&number))).await?;
        pass(Point::HandedOver);
        Ok(Matter::of(Cause::Noticed { number }))
    }

    /// Waits for the end of a call or for a message; a run that computes waits for neither.
    async fn wait(&mut self, goes_on: bool) -> Result<Happened, Error> {
        let resting = self.calls.is_empty() && !goes_on;
        tokio::select! {
            biased;
            Some((frame, back)) = self.calls.next(), if !self.calls.is_empty() => {
                self.calls.wishes.remove(&frame);
                came_back(frame, back)
            }
            // A message is taken first and looked at then: a call that ends meanwhile takes none of it away.
            next = self.port.signal(resting), if !self.draining => match heard(self.port, next).await {
                None => Ok(Happened::Nothing),
                Some(Next::Signal(signal)) => Ok(Matter::told(signal)),
                Some(Next::Rest) => {
                    self.port.settled().await?;
                    Ok(Happened::Left(Left::Resting))
                }
                Some(Next::PutDown) => {
                    self.draining = true;
                    self.calls.put_down();
                    Ok(Happened::Nothing)
                }
            },
            // After everything that happened meanwhile: a run that computes can be cancelled, too.
            () = std::future::ready(()), if goes_on => Ok(Matter::of(Cause::GoOn)),
        }
    }

    /// Has the core decide of `cause`, and keeps what it decided. Who asked hears of it when it is durable.
    async fn decide(&mut self, matter: Matter) -> Result<(), Error> {
        let Matter { cause, acknowledge, mut alongside } = matter;
        let woken = matches!(cause, Cause::Wake);
        // Only these look for what is due.
        let looks = matches!(cause, Cause::Wake | Cause::Resume | Cause::GoOn);
        let at = if looks { self.port.looking_at(|| run::due(&self.state)) } else { self.port.now() };
        let deciding = self.deciding.decide(&self.state, at, self.port.entropy(), cause);
        let decided = self.calls.beside(deciding).await;
        let has_decided = decided.is_some();
        if let Some(decided) = decided {
            self.state = Arc::new(decided.after);
            self.port.timer(wake(&self.state));
            if self.state.ended().is_some() {
                // Also those of what it has parked.
                alongside.keys = self.invoker.keys_at_end();
            }
            let keys = alongside.keys.clone();
            let decision = Decision { events: decided.events, after: self.state.clone(), alongside };
            self.calls.beside(self.port.keep(self.decisions, decision)).await?;
            self.decisions += 1;
            self.invoker.changed(&keys);
            if self.state.is_unfinished() {
                // Whoever else has something to do on this thread goes first.
                tokio::task::yield_now().await;
            }
        } else if !alongside.is_nothing() {
            let keys = alongside.keys.clone();
            self.calls.beside(self.port.keep_alongside(alongside)).await?;
            self.invoker.changed(&keys);
        } else if woken && wake(&self.state).is_some_and(|time| time > at) {
            // The clock was set back since: the time has yet to come again. A time that has come and leads to no decision
            // is not given again, because nothing would be different then.
            self.port.rearm();
        }
        if let Some(acknowledge) = acknowledge {
            self.calls.beside(self.port.settled()).await?;
            if self.state.ended().is_some() {
                self.invoker.ended();
            }
            // The one who asked may have gone.
            let _gone = acknowledge.send(has_decided);
        }
        Ok(())
    }
}

/// What the end of a call is to its run.
fn came_back(frame: FrameId, back: CameBack) -> Result<Happened, Error> {
    let CameBack { end, keys } = back;
    let cause = match end {
        CallEnd::Returned(result) => Cause::Returned { frame, result },
        CallEnd::Park(Parking { why, reason }) => Cause::Park { frame, reason, why, wrote: false },
        CallEnd::ParkPartway(Parking { why, reason }) => Cause::Park { frame, reason, why, wrote: true },
        CallEnd::PutDown => return Ok(Happened::Nothing),
        // Nothing of the call was kept: it is stopped with everything else that is under way.
        CallEnd::Failed(Error::TooLarge(outgrown)) => Cause::TooLarge(outgrown),
        CallEnd::Failed(error) => return Err(error),
    };
    Ok(Happened::Matter(Matter { cause, acknowledge: None, alongside: Alongside { mail: None, keys } }))
}

/// A message, after what came with it is kept. None where it says nothing any more: whoever sent it knows.
async fn heard<E: Execution>(port: &E, next: Next) -> Option<Next> {
    let Next::Signal(signal) = next else { return Some(next) };
    match port.heard(&signal).await {
        Ok(true) => Some(Next::Signal(signal)),
        Ok(false) => {
            // The one who asked may have gone.
            let _gone = signal.acknowledge.map(|acknowledge| acknowledge.send(false));
            None
        }
        Err(error) => {
            tracing::error!(%error, "what a person said of a call was not kept");
            Some(Next::PutDown)
        }
    }
}

/// The notices that are to be handed over.
fn notices(state: &State) -> BTreeSet<u32> {
    let number = |command| match command {
        Command::Notify { notice } => Some(notice.number),
        Command::Start
        | Command::GoOn
        | Command::Invoke { .. }
        | Command::Stop { .. }
        | Command::Admit { .. }
        | Command::Wake { .. } => None,
    };
    run::pending(state).into_iter().filter_map(number).collect()
}

/// Folds the decisions that are kept from number `decisions` on into `state`; gives how many there are in all.
pub(crate) async fn fold<E: Execution>(port: &E, state: &mut State, mut decisions: u64) -> Result<u64, Error> {
    while let Some(events) = port.decision(decisions).await? {
        for event in events {
            if !state.apply(&event) {
                let text = format!("decision {decisions} has an event that does not fit what was recorded before it");
                return Err(Error::OfTheRun(text));
            }
        }
        decisions += 1;
    }
    Ok(decisions)
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    /// A call that waits for `answer`.
    fn call(frame: u32, answer: oneshot::Receiver<()>) -> UnderWay {
        Box::pin(async move {
            answer.await.unwrap();
            (FrameId(frame), CallEnd::PutDown.into())
        })
    }

    #[tokio::test]
    async fn calls_go_on_while_their_driver_waits_for_something_else() {
        let mut calls = Calls::default();
        assert!(calls.next().await.is_none());
        let (first, answered) = oneshot::channel();
        calls.futures.push(call(1, answered));
        let (second, answered) = oneshot::channel();
        calls.futures.push(call(2, answered));
        // The work ends when the first call has taken its answer.
        first.send(()).unwrap();
        let work = async {
            tokio::task::yield_now().await;
            "done"
        };
        assert_eq!(calls.beside(work).await, "done");
        assert!(!calls.is_empty() && calls.futures.len() == 1, "the first has ended, and is told");
        assert_eq!(calls.next().await.unwrap().0, FrameId(1));
        second.send(()).unwrap();
        assert_eq!(calls.next().await.unwrap().0, FrameId(2));
        assert!(calls.is_empty());
    }
}
