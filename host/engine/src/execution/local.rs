//! The port over this process's journal.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellhop_core::id::RunId;
use bellhop_core::run::{Event, ExecutionKey, Facts, Outgrown, State};
use bellhop_core::time::Timestamp;
use tokio::sync::{Notify, mpsc, watch};

mod behind;
mod beside;
mod kept;
mod log;
mod orders;
mod size;

use super::{
    Alongside, Answer, AttemptKey, Attempted, CallKey, Called, Decision, Error, Execution, Intent, Next, NotSent,
    Signal, Slice,
};
use crate::entropy::Entropy;
use crate::execution::open::{self, Open};
use crate::execution::tally::Tally;
use crate::installation;
use crate::mail::Mail;
use crate::owners::timers::Timers;
use bellhop_clock::Clock;
use bellhop_faults::{Point, pass};
use bellhop_journal::{self as journal, Entry, Instead, Journal, ROOM_LOOK, Ticket, Write};
use bellhop_limits::Limits;
use beside::group_of;
use log::Log;

/// A run's port over the journal of this process. One at a time exists per run: it owns the end of the log.
pub(crate) struct Local {
    run: RunId,
    journal: Journal,
    clock: Arc<dyn Clock>,
    entropy: Arc<Entropy>,
    limits: Arc<Limits>,
    installation: installation::Known,
    log: Mutex<Log>,
    inbox: tokio::sync::Mutex<mpsc::UnboundedReceiver<Signal>>,
    drain: watch::Receiver<bool>,
    put_down: Arc<Notify>,
    timers: Timers,
    mail: Mail,
    tally: Arc<Tally>,
    /// Moves on with every entry, for whoever follows the run.
    moved: watch::Sender<Ticket>,
}

/// What a port is opened with.
pub(crate) struct Opening {
    /// Whose.
    pub run: RunId,
    /// Where the log is.
    pub journal: Journal,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<Entropy>,
    /// What a run may have.
    pub limits: Arc<Limits>,
    /// What holds for the whole installation.
    pub installation: installation::Known,
    /// Messages for the run.
    pub inbox: mpsc::UnboundedReceiver<Signal>,
    /// Whether the process is stopping.
    pub drain: watch::Receiver<bool>,
    /// Rung when the run is to leave memory though its actions wait.
    pub put_down: Arc<Notify>,
    /// Moves on with every entry.
    pub moved: watch::Sender<Ticket>,
    /// The run's summary as it stands.
    pub summary: journal::Summary,
    /// The timers of all runs.
    pub timers: Timers,
    /// What it tells the owner of its group.
    pub mail: Mail,
    /// How many runs stand like it.
    pub tally: Arc<Tally>,
}

/// A run that was read back.
pub(crate) struct Read {
    /// The port.
    pub port: Local,
    /// The state to fold on from.
    pub state: State,
    /// The number of the first decision that is not in it.
    pub decisions: u64,
}

impl Local {
    /// A port for a run whose only entry is `Accepted`, just committed under `ticket`.
    pub(crate) fn fresh(opening: Opening, ticket: Ticket, bytes: u64) -> Self {
        let mut log = Log::new(opening.summary.clone(), ticket);
        (log.seq, log.bytes) = (1, bytes);
        Self::with(opening, log)
    }

    /// A port for a run whose log is in the journal, and its state as of the latest snapshot.
    ///
    /// # Errors
    /// When the log cannot be read or is damaged: the run must not go on.
    pub(crate) async fn read(opening: Opening, facts: &Arc<Facts>) -> Result<Read, journal::Error> {
        let log::Read { log, state, decisions } =
            Log::read(&opening.journal, opening.run, opening.summary.clone(), facts).await?;
        Ok(Read { port: Self::with(opening, log), state, decisions })
    }

    /// As [`Self::read`], without regard to snapshots.
    #[cfg(test)]
    pub(crate) async fn read_whole(opening: Opening, facts: &Arc<Facts>) -> Result<Read, journal::Error> {
        let log::Read { log, state, decisions } =
            Log::read_whole(&opening.journal, opening.run, opening.summary.clone(), facts).await?;
        Ok(Read { port: Self::with(opening, log), state, decisions })
    }

    fn with(opening: Opening, log: Log) -> Self {
        Self {
            run: opening.run,
            journal: opening.journal,
            clock: opening.clock,
            entropy: opening.entropy,
            limits: opening.limits,
            installation: opening.installation,
            log: Mutex::new(log),
            inbox: tokio::sync::Mutex::new(opening.inbox),
            drain: opening.drain,
            put_down: opening.put_down,
            timers: opening.timers,
            mail: opening.mail,
            tally: opening.tally,
            moved: opening.moved,
        }
    }

    /// The run's decisions have been folded into `state`: its timer is the one in the store.
    pub(crate) fn folded(&self, state: &State) {
        let at = super::wake(state);
        let mut log = self.log();
        log.timer = (at, at);
        log.group = group_of(state);
        log.rest = super::rest_of(state);
        log.stands_like(state);
        log.reserve = self.reserve(&log, state);
    }

    /// Waits while the store's queue is half full: what comes next is written by those who do not look.
    async fn room(&self) -> Result<(), Error> {
        if !self.journal.stats().is_half_full {
            return Ok(());
        }
        Ok(self.journal.durable(self.journal.tip()).await?)
    }

    /// Has `write` write, and again after the queue has gone down where that was full: of a write that was refused for
    /// that nothing is kept, here or there.
    async fn written<T>(&self, write: impl Fn(&mut Log) -> Result<T, Error> + Send) -> Result<T, Error>
    where
        T: Send,
    {
        self.room().await?;
        loop {
            let tip = {
                let mut log = self.log();
                match write(&mut log) {
                    Err(Error::Later(_)) => self.journal.tip(),
                    done => return done,
                }
            };
            self.journal.durable(tip).await?;
        }
    }

    /// Waits until something may be sent: while the disk lacks room, runs wait. False when the process is stopping, or
    /// when a person has given the run an order meanwhile: what is to be sent is then asked for anew, if at all.
    async fn may_send(&self) -> bool {
        let mut drain = self.drain.clone();
        let mut has_waited = false;
        while self.journal.room().is_err() {
            if *drain.borrow_and_update() {
                return false;
            }
            if self.journal.is_ordered(self.run) {
                return !has_waited;
            }
            has_waited = true;
            tokio::select! {
                biased;
                _ = drain.changed() => {}
                () = self.clock.sleep(ROOM_LOOK) => {}
            }
        }
        true
    }

    /// Whether an attempt at an execution has any call below `ordinal` on record.
    pub(crate) fn has_called(&self, execution: &ExecutionKey, attempt: u32, ordinal: u32) -> bool {
        let log = self.log();
        let of_it = |call: &&CallKey| call.execution == *execution && call.attempt == attempt;
        // What lies behind a slice has called.
        log.slices.keys().any(|call| of_it(&call))
            || log.open.keys().chain(log.ends.keys()).filter(of_it).any(|call| call.ordinal < ordinal)
    }

    /// What waits for a person's word.
    pub(crate) fn open(&self, state: &State) -> Vec<Open> {
        open::of(state, &self.log().open)
    }

    /// Whether a message is waiting.
    pub(crate) fn has_message(&self) -> bool {
        self.inbox.try_lock().is_ok_and(|inbox| !inbox.is_empty())
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        // A panic while the log was held leaves it as it was: it is changed when the write was accepted, and by
        // assignments alone.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends entries, with what else is to be written in the same commit. After an error nothing is changed.
    fn append(&self, log: &mut Log, entries: &[Entry], write: Write) -> Result<(), Error> {
        let mut seq = log.seq;
        let ticket = self.journal.append(self.run, &mut seq, entries, write)?;
        log.seq = seq;
        log.bytes += entries.iter().map(log::weight).sum::<u64>();
        log.last = ticket;
        self.moved.send_replace(ticket);
        Ok(())
    }

    /// The entry of a decision, and what is kept beside it. `displaced_by` is who started the run that has taken this one's
    /// place, where that is decided now and known.
    fn decided(
        &self,
        log: &mut Log,
        number: u64,
        decision: &Decision,
        displaced_by: Option<&str>,
    ) -> Result<(), Error> {
        self.note_who_asks(log)?;
        let mut write = Write::new();
        let mut events = Vec::with_capacity(decision.events.len());
        for event in &decision.events {
            let content = self.journal.content(&mut write, event)?;
            #[cfg(test)]
            if let journal::Content::Value(json) = &content {
                assert_eq!(json.read::<Event>().as_ref().ok(), Some(event), "{json:?}");
            }
            events.push(content);
        }
        let state = decision.after.as_ref();
        let pinned = log.pins_next.clone().map(|pins| Entry::Pinned { pins });
        let entries: Vec<Entry> = pinned.into_iter().chain([Entry::Decision { events }]).collect();
        let next_seq = log.seq + entries.len() as u64;
        let mut beside = self.beside(log, (number, next_seq), &mut write, (state, displaced_by))?;
        alongside(&decision.alongside, &mut write)?;
        self.append(log, &entries, write)?;
        log.pins_next = None;
        let posted = beside.posted.take();
        let before = (!log.summary.status.is_final()).then_some(log.rest);
        log.stands(beside);
        self.tally.moves(before, state.ended().is_none().then_some(log.rest));
        self.mail.hand_over(posted);
        log.stands_like(state);
        log.reserve = self.reserve(log, state);
        let (stored, wanted) = log.timer;
        if stored != wanted {
            if let Some(at) = stored {
                self.timers.clear(at, self.run);
            }
            if let Some(at) = wanted {
                self.timers.set(at, self.run);
            }
            log.timer.0 = wanted;
        }
        Ok(())
    }
}

/// Puts what is changed in what others have of the run into the batch.
fn alongside(changed: &Alongside, write: &mut Write) -> Result<(), Error> {
    if let Some(mail) = changed.mail {
        mail.consume(write);
    }
    Ok(changed.keys.iter().try_for_each(|key| key.write(write))?)
}

fn digest(hash: &str) -> Result<bellhop_core::digest::Digest, Error> {
    hash.parse().map_err(|_| Error::OfTheRun(format!("`{hash}` is not the hash of a request")))
}

impl Execution for Local {
    async fn decision(&self, number: u64) -> Result<Option<Vec<Event>>, Error> {
        let Some(seq) = self.log().decisions.get(&number).copied() else { return Ok(None) };
        let unreadable = || Error::OfTheRun(format!("what is kept of decision {number} cannot be read"));
        self.journal.decision(self.run, seq).await?.ok_or_else(unreadable).map(Some)
    }

    async fn keep(&self, number: u64, decision: Decision) -> Result<(), Error> {
        pass(Point::Undecided);
        let is_noted = self.log().summary.aftermath.superseded_by.is_some();
        let displaced_by = match decision.after.displaced_by().filter(|_| !is_noted) {
            Some(newer) => self.who_started(newer).await,
            None => None,
        };
        self.written(|log| self.decided(log, number, &decision, displaced_by.as_deref())).await
    }

    async fn keep_alongside(&self, changed: Alongside) -> Result<(), Error> {
        let written = self.written(|log| {
            let mut write = Write::new();
            alongside(&changed, &mut write)?;
            log.last = self.journal.commit(write)?;
            Ok(())
        });
        written.await
    }

    async fn slice(&self, attempt: &AttemptKey, number: u32) -> Result<Option<Slice>, Error> {
        self.kept_slice(attempt, number).await
    }

    async fn keep_slice(&self, attempt: &AttemptKey, slice: &Slice) -> Result<(), Error> {
        let AttemptKey { execution, attempt } = attempt;
        let call = CallKey { execution: execution.clone(), attempt: *attempt, ordinal: slice.number };
        let written = self.written(|log| {
            self.check_size(log)?;
            let mut write = Write::new();
            let state = self.journal.content(&mut write, &slice.state)?;
            let (key, attempt) = (execution.to_string(), *attempt);
            let entry = Entry::Slice { key, attempt, ordinal: slice.first_call, state };
            let seq = log.seq;
            self.append(log, &[entry], write)?;
            log.slices.insert(call.clone(), seq);
            Ok(())
        });
        written.await
    }

    async fn called(&self, call: &CallKey) -> Result<Called, Error> {
        let kept = {
            let log = self.log();
            match (log.ends.get(call).copied(), log.open.get(call)) {
                (Some(seq), _) => seq,
                (None, Some(intent)) => return Ok(Called::Open(intent.clone())),
                (None, None) => return Ok(Called::New),
            }
        };
        self.kept_answer(call, kept).await.map(Called::Ended)
    }

    async fn intend(&self, call: &CallKey, intent: Intent) -> Result<bool, Error> {
        if !self.may_send().await {
            return Ok(false);
        }
        let entry = Entry::Intent {
            key: call.execution.to_string(),
            attempt: call.attempt,
            ordinal: call.ordinal,
            hash: digest(&intent.hash)?,
            at: intent.at,
            function: intent.function.clone(),
            connection: Some(intent.connection.clone()),
            token: intent.token,
        };
        let written = self.written(|log| {
            self.check_size(log)?;
            self.append(log, std::slice::from_ref(&entry), Write::new())?;
            log.open.insert(call.clone(), intent.clone());
            log.goes_out(intent.token, Some(&intent.function));
            Ok(log.last)
        });
        let ticket = written.await?;
        self.journal.durable(ticket).await?;
        Ok(true)
    }

    /// What ends an intent is always kept; what only a guest would get is not, once the run is too large: it is asked
    /// again, or never.
    async fn ended(&self, call: &CallKey, answer: &Answer) -> Result<(), Error> {
        pass(Point::Unrecorded);
        let written = self.written(|log| {
            debug_assert!(!log.ends.contains_key(call), "{call:?} has an end");
            let has_intent = log.open.contains_key(call);
            if !has_intent {
                self.check_size(log)?;
            }
            let mut write = Write::new();
            let entry = self.end_of(&mut write, call, answer, has_intent)?;
            let seq = log.seq;
            self.append(log, std::slice::from_ref(&entry), write)?;
            log.end(call.clone(), seq, &entry);
            log.goes_out(answer.token, Some(&answer.function));
            Ok(())
        });
        written.await
    }

    async fn not_sent(&self, call: &CallKey, why: &NotSent) -> Result<(), Error> {
        pass(Point::Unrecorded);
        let NotSent { reason, retry_at, repeats, instead } = why;
        let at = self.clock.now();
        let entry = Entry::NotSent {
            key: call.execution.to_string(),
            attempt: call.attempt,
            ordinal: call.ordinal,
            at,
            reason: reason.clone(),
            retry_at: *retry_at,
            repeats: *repeats,
            instead: instead.clone(),
        };
        let written = self.written(|log| {
            // A read that was not sent left nothing behind to be told about.
            if log.open.contains_key(call) {
                self.append(log, std::slice::from_ref(&entry), Write::new())?;
                log.reopen(call, *repeats, at);
                log.goes_on_by(call, instead.as_ref());
            }
            Ok(())
        });
        written.await
    }

    fn outgrown(&self, state: &State) -> Result<Option<Outgrown>, Error> {
        let log = self.log();
        match self.check_size(&log) {
            Err(Error::TooLarge(outgrown)) if state.goes_on() => Ok(Some(outgrown)),
            Ok(()) | Err(Error::TooLarge(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn recall(&self) -> Result<(), Error> {
        loop {
            let (summary, unread) = {
                let log = self.log();
                (log.summary.clone(), log.unread)
            };
            if unread == 0 {
                return Ok(());
            }
            let before = log::Before::read(&self.journal, self.run, summary, unread).await?;
            // A slice of another action may have left more behind while the store was read.
            if self.log().recall(before) {
                return Ok(());
            }
        }
    }

    fn reopened_at(&self, call: &CallKey) -> Option<Timestamp> {
        self.log().reopened_at(call)
    }

    fn instead(&self, call: &CallKey) -> Option<Instead> {
        self.log().instead(call)
    }

    fn has_repeated(&self, execution: &ExecutionKey, attempt: u32) -> bool {
        self.log().has_repeated(execution, attempt)
    }

    fn calls(&self, execution: &ExecutionKey, attempt: u32) -> Vec<u32> {
        self.log().calls(execution, attempt)
    }

    fn attempted(&self, execution: &ExecutionKey, attempt: u32) -> Attempted {
        self.log().attempted(execution, attempt)
    }

    async fn leave_behind(
        &self,
        execution: &ExecutionKey,
        attempt: u32,
        first: u32,
        facts: &Arc<Facts>,
    ) -> Result<(), Error> {
        self.behind(execution, attempt, first, facts).await
    }

    fn timer(&self, at: Option<Timestamp>) {
        self.log().timer.1 = at;
    }

    fn rearm(&self) {
        let set = self.log().timer.0;
        if let Some(at) = set {
            self.timers.set_again(at, self.run);
        }
    }

    async fn signal(&self, resting: bool) -> Next {
        let mut inbox = self.inbox.lock().await;
        self.log().asked = None;
        if let Ok(signal) = inbox.try_recv() {
            return Next::Signal(signal);
        }
        let mut drain = self.drain.clone();
        if *drain.borrow_and_update() {
            return Next::PutDown;
        }
        if resting {
            return Next::Rest;
        }
        tokio::select! {
            biased;
            // Nobody can send any more when there is none: the engine is going.
            signal = inbox.recv() => signal.map_or(Next::PutDown, Next::Signal),
            _ = drain.changed() => Next::PutDown,
            () = self.put_down.notified() => Next::PutDown,
        }
    }

    async fn heard(&self, signal: &Signal) -> Result<bool, Error> {
        match &signal.settle {
            Some(settle) => self.settle(&signal.cause, settle).await,
            None => Ok(true),
        }
    }

    async fn settled(&self) -> Result<(), Error> {
        let last = {
            let mut log = self.log();
            // Who asked is answered next: what was to be decided about it has been.
            log.asked = None;
            log.last
        };
        Ok(self.journal.durable(last).await?)
    }

    fn note(&self, text: String) {
        let entry = Entry::Note { at: self.clock.now(), level: "info".to_owned(), text, by: None };
        let mut log = self.log();
        if self.check_size(&log).is_err() {
            return;
        }
        // A note that is lost is not missed; what failed here fails again where it matters.
        let _lost = self.append(&mut log, &[entry], Write::new());
    }

    fn entropy(&self) -> u64 {
        self.entropy.next()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn looking_at(&self, due: impl FnOnce() -> Option<Timestamp>) -> Timestamp {
        let now = self.clock.now();
        super::not_before_its_time(now, self.clock.settled(), due)
    }
}
