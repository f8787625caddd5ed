//! Carries one run: has what is pending under way, brings what happens to the core, keeps what it decides.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;

use bellhop_core::run::{self, Calling, Cause, Command, Event, FrameId, Group, Notice, Returned, State};
use bellhop_core::time::Timestamp;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;

use crate::drive::deciding::Deciding;
use crate::execution::{Decision, Error, Execution, Next, Parking};
use bellhop_faults::{Point, pass};

/// How a call came back to the driver.
#[derive(Debug)]
pub enum CallEnd {
    /// It ended.
    Returned(Returned),
    /// It needs a person.
    Park(Parking),
    /// The same, after it has changed something.
    ParkPartway(Parking),
    /// It was put down as was wished; nothing is known or lost.
    PutDown,
    /// Its port failed: nobody may carry the run on in this process.
    Failed(Error),
}

/// What a call is told while it is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Go on.
    Run,
    /// Nobody waits for it any more: stop the guest, end what was sent.
    Stop,
    /// The process is stopping, or others need the room: end what was sent, put the rest down.
    PutDown,
}

/// A call under way.
pub type CallFuture = Pin<Box<dyn Future<Output = CallEnd> + Send>>;

/// Starts calls. The engine's side of an action.
pub trait Invoker: Send + Sync + 'static {
    /// Begins, or takes up again, the call of `frame`.
    fn invoke(&self, frame: FrameId, call: Calling, wish: watch::Receiver<Wish>) -> CallFuture;

    /// The run has ended, durably: what it held of things that runs share is the others'. Whoever waits to hear of the
    /// end hears afterwards. Said again, it changes nothing.
    fn ended(&self) {}

    /// Asks the owner of a group for a place. What it says comes as a message.
    fn admit(&self, _group: Group) {}

    /// Hands a notice to whoever tells people. After Ok it is not forgotten. `again`: an earlier life may have done so.
    fn notify(&self, _notice: Notice, _again: bool) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }
}

/// Where a driver left its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Ended.
    Ended,
    /// Waiting for a time or a message.
    Resting,
    /// Put down to make room, or for the process to stop.
    PutDown,
}

/// A run as its driver left it.
pub struct Carried {
    /// Why.
    pub left: Left,
    /// As it stands.
    pub state: State,
    /// How many decisions there are.
    pub decisions: u64,
}

/// A call that is being carried out, and its end.
type UnderWay = Pin<Box<dyn Future<Output = (FrameId, CallEnd)> + Send>>;

/// The calls of a run that are under way.
#[derive(Default)]
struct Calls {
    wishes: BTreeMap<FrameId, watch::Sender<Wish>>,
    futures: FuturesUnordered<UnderWay>,
    /// Those that ended while the driver waited for something else.
    ended: VecDeque<(FrameId, CallEnd)>,
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
    async fn next(&mut self) -> Option<(FrameId, CallEnd)> {
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
pub async fn drive<E: Execution>(
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
    mut decisions: u64,
    calls: &mut Calls,
) -> Result<Carried, Error> {
    let (mut draining, mut asked) = (false, false);
    let mut taken_up = notices(&state);
    let mut state = Arc::new(state);
    // A port that takes a run up again does not know its state.
    port.timer(wake(&state));
    loop {
        let (mut start, mut goes_on, mut notice) = (false, false, None);
        for command in run::pending(&state) {
            match command {
                Command::Start => start = true,
                Command::GoOn => goes_on = !draining,
                Command::Notify { notice: due } => notice = Some(due.clone()),
                Command::Admit { group } if !asked && !draining => {
                    asked = true;
                    invoker.admit(group.clone());
                }
                Command::Invoke { frame, call } if !draining && !calls.wishes.contains_key(&frame) => {
                    calls.begin(invoker, frame, call.clone(), Wish::Run);
                }
                Command::Stop { frame, call } => match calls.wishes.get(&frame) {
                    Some(wish) => {
                        wish.send_replace(Wish::Stop);
                    }
                    None if !draining => calls.begin(invoker, frame, call.clone(), Wish::Stop),
                    None => {}
                },
                Command::Invoke { .. } | Command::Admit { .. } | Command::Wake { .. } => {}
            }
        }
        // What is left to hand over when a run is put down looks later as if it had been, and the process had died. One that
        // has come to its end meanwhile has ended: what it held is let go.
        debug_assert!(state.ended().is_none() || calls.is_empty(), "a run ends after its calls");
        if draining && calls.is_empty() && notice.is_none() && state.ended().is_none() {
            port.settled().await?;
            return Ok(Carried { left: Left::PutDown, state: Arc::unwrap_or_clone(state), decisions });
        }
        let (cause, acknowledge) = if state.ended().is_some() {
            // Somebody may want it tried again, or what it did taken back.
            match heard(port, port.signal(true).await).await {
                None => continue,
                Some(Next::Signal(signal)) => (signal.cause, signal.acknowledge),
                Some(Next::Rest | Next::PutDown) => {
                    port.settled().await?;
                    pass(Point::Ended);
                    invoker.ended();
                    return Ok(Carried { left: Left::Ended, state: Arc::unwrap_or_clone(state), decisions });
                }
            }
        } else if let Some(outgrown) = port.outgrown(&state)? {
            (Cause::TooLarge(outgrown), None)
        } else if start && !draining {
            (Cause::Start, None)
        } else if let Some(notice) = notice {
            // What is handed over is on record before it leaves.
            calls.beside(port.settled()).await?;
            let number = notice.number;
            calls.beside(invoker.notify(notice, taken_up.remove(&number))).await?;
            pass(Point::HandedOver);
            (Cause::Noticed { number }, None)
        } else {
            let resting = calls.is_empty() && !goes_on;
            tokio::select! {
                biased;
                Some((frame, end)) = calls.next(), if !calls.is_empty() => {
                    calls.wishes.remove(&frame);
                    match end {
                        CallEnd::Returned(result) => (Cause::Returned { frame, result }, None),
                        CallEnd::Park(Parking { why, reason }) => {
                            (Cause::Park { frame, reason, why, wrote: false }, None)
                        }
                        CallEnd::ParkPartway(Parking { why, reason }) => {
                            (Cause::Park { frame, reason, why, wrote: true }, None)
                        }
                        CallEnd::PutDown => continue,
                        // Nothing of the call was kept: it is stopped with everything else that is under way.
                        CallEnd::Failed(Error::TooLarge(outgrown)) => (Cause::TooLarge(outgrown), None),
                        CallEnd::Failed(error) => return Err(error),
                    }
                }
                // A message is taken first and looked at then: a call that ends meanwhile takes none of it away.
                next = port.signal(resting), if !draining => match heard(port, next).await {
                    None => continue,
                    Some(Next::Signal(signal)) => (signal.cause, signal.acknowledge),
                    Some(Next::Rest) => {
                        port.settled().await?;
                        return Ok(Carried { left: Left::Resting, state: Arc::unwrap_or_clone(state), decisions });
                    }
                    Some(Next::PutDown) => {
                        draining = true;
                        calls.put_down();
                        continue;
                    }
                },
                // After everything that happened meanwhile: a run that computes can be cancelled, too.
                () = std::future::ready(()), if goes_on => (Cause::GoOn, None),
            }
        };
        let woken = matches!(cause, Cause::Wake);
        let at = port.now();
        let decided = calls.beside(deciding.decide(&state, at, port.entropy(), cause)).await;
        let has_decided = decided.is_some();
        if let Some(decided) = decided {
            state = Arc::new(decided.after);
            port.timer(wake(&state));
            let decision = Decision { events: decided.events, after: state.clone() };
            calls.beside(port.keep(decisions, decision)).await?;
            decisions += 1;
            if state.is_unfinished() {
                // Whoever else has something to do on this thread goes first.
                tokio::task::yield_now().await;
            }
        } else if woken && wake(&state).is_some_and(|time| time > at) {
            // The clock was set back since: the time has yet to come again. A time that has come and leads to no decision
            // is not given again, because nothing would be different then.
            port.rearm();
        }
        if let Some(acknowledge) = acknowledge {
            calls.beside(port.settled()).await?;
            if state.ended().is_some() {
                invoker.ended();
            }
            // The one who asked may have gone.
            let _gone = acknowledge.send(has_decided);
        }
    }
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

/// When the run is to be woken.
pub fn wake(state: &State) -> Option<Timestamp> {
    run::pending(state).into_iter().find_map(|command| match command {
        Command::Wake { at } => Some(at),
        Command::Start
        | Command::GoOn
        | Command::Invoke { .. }
        | Command::Stop { .. }
        | Command::Admit { .. }
        | Command::Notify { .. } => None,
    })
}

/// Folds the decisions that are kept from number `decisions` on into `state`; gives how many there are in all.
pub async fn fold<E: Execution>(port: &E, state: &mut State, mut decisions: u64) -> Result<u64, Error> {
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
            (FrameId(frame), CallEnd::PutDown)
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
