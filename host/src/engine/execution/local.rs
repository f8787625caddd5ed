//! The port over this process's journal.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellhop_core::id::RunId;
use bellhop_core::run::{Cause, ExecutionKey, Facts, State};
use bellhop_core::time::Timestamp;
use serde_json::Value;
use tokio::sync::{Notify, mpsc, watch};

mod behind;
mod beside;
mod log;

use super::{Answer, CallKey, End, Error, Execution, How, Intent, Next, Recorded, Settle, Signal, StepKey};
use crate::clock::Clock;
use crate::engine::driver;
use crate::engine::entropy::Entropy;
use crate::engine::timers::Timers;
use crate::faults::{Plant, Point, pass, planted};
use crate::journal::{self, Entry, Journal, Ticket, Write};
use crate::limits::Limits;
use beside::place_of;
use log::{Asked, Log};

/// From so many batches, or bytes, on that are not durable yet, a run waits before it adds to them: a full queue would be
/// taken for a store that failed. Half of what the embedded store takes.
const QUEUE_BATCHES_HIGH: usize = 8_192;
const QUEUE_BYTES_HIGH: usize = 32 * 1024 * 1024;

/// A run's port over the journal of this process. One at a time exists per run: it owns the end of the log.
pub(crate) struct Local {
    run: RunId,
    journal: Journal,
    clock: Arc<dyn Clock>,
    entropy: Arc<Entropy>,
    limits: Arc<Limits>,
    log: Mutex<Log>,
    inbox: tokio::sync::Mutex<mpsc::UnboundedReceiver<Signal>>,
    drain: watch::Receiver<bool>,
    put_down: Arc<Notify>,
    timers: Timers,
    /// Moves on with every entry, for whoever follows the run.
    moved: watch::Sender<Ticket>,
}

/// What a port is opened with.
pub(crate) struct Opening {
    /// Whose.
    pub(crate) run: RunId,
    /// Where the log is.
    pub(crate) journal: Journal,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
    /// Randomness.
    pub(crate) entropy: Arc<Entropy>,
    /// What a run may have.
    pub(crate) limits: Arc<Limits>,
    /// Messages for the run.
    pub(crate) inbox: mpsc::UnboundedReceiver<Signal>,
    /// Whether the process is stopping.
    pub(crate) drain: watch::Receiver<bool>,
    /// Rung when the run is to leave memory though its actions wait.
    pub(crate) put_down: Arc<Notify>,
    /// Moves on with every entry.
    pub(crate) moved: watch::Sender<Ticket>,
    /// The run's summary as it stands.
    pub(crate) summary: journal::Summary,
    /// The timers of all runs.
    pub(crate) timers: Timers,
}

/// A run that was read back.
pub(crate) struct Read {
    /// The port.
    pub(crate) port: Local,
    /// The state to fold on from.
    pub(crate) state: State,
    /// The number of the first decision that is not in it.
    pub(crate) decisions: u64,
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
    pub(crate) fn read(opening: Opening, facts: &Arc<Facts>) -> Result<Read, journal::Error> {
        let log::Read { log, state, decisions } =
            Log::read(&opening.journal, opening.run, opening.summary.clone(), facts)?;
        Ok(Read { port: Self::with(opening, log), state, decisions })
    }

    /// As [`Self::read`], without regard to snapshots.
    #[cfg(test)]
    pub(crate) fn read_whole(opening: Opening, facts: &Arc<Facts>) -> Result<Read, journal::Error> {
        let log::Read { log, state, decisions } =
            Log::read_whole(&opening.journal, opening.run, opening.summary.clone(), facts)?;
        Ok(Read { port: Self::with(opening, log), state, decisions })
    }

    fn with(opening: Opening, log: Log) -> Self {
        Self {
            run: opening.run,
            journal: opening.journal,
            clock: opening.clock,
            entropy: opening.entropy,
            limits: opening.limits,
            log: Mutex::new(log),
            inbox: tokio::sync::Mutex::new(opening.inbox),
            drain: opening.drain,
            put_down: opening.put_down,
            timers: opening.timers,
            moved: opening.moved,
        }
    }

    /// The run's decisions have been folded into `state`: its timer is the one in the store.
    pub(crate) fn folded(&self, state: &State) {
        let at = driver::wake(state);
        let mut log = self.log();
        log.timer = (at, at);
        log.place = place_of(state);
    }

    /// Waits while the store's queue is half full: what comes next is written by those who do not look.
    async fn room(&self) -> Result<(), Error> {
        let stats = self.journal.stats();
        if stats.queue_batches < QUEUE_BATCHES_HIGH && stats.queue_bytes < QUEUE_BYTES_HIGH {
            return Ok(());
        }
        self.journal.durable(self.journal.tip()).await.map_err(|e| Error::Journal(e.to_string()))
    }

    /// Whether an attempt at an execution has any call below `ordinal` on record.
    pub(crate) fn has_called(&self, execution: &ExecutionKey, attempt: u32, ordinal: u32) -> bool {
        let log = self.log();
        let of_it = |call: &&CallKey| call.execution == *execution && call.attempt == attempt;
        // What lies behind a slice has called.
        log.slices.keys().any(|call| of_it(&call))
            || log.open.keys().chain(log.ends.keys()).filter(of_it).any(|call| call.ordinal < ordinal)
    }

    /// The calls that were begun and have no end.
    pub(crate) fn open_calls(&self) -> BTreeMap<CallKey, Intent> {
        self.log().open.clone()
    }

    /// Whether a message is waiting.
    pub(crate) fn has_message(&self) -> bool {
        self.inbox.try_lock().is_ok_and(|inbox| !inbox.is_empty())
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        // A panic while the log was held leaves it as it was: every change of it is one assignment at the end.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends entries, with what else is to be written in the same commit.
    fn append(&self, log: &mut Log, entries: &[Entry], write: Write) -> Result<(), Error> {
        let written = write.bytes() as u64 + entries.iter().map(log::weight).sum::<u64>();
        // A snapshot takes the place of the one before: it is none of what the run piles up.
        let bytes = written.saturating_sub(std::mem::take(&mut log.snapshot_in_write));
        let mut seq = log.seq;
        let ticket = self.journal.append(self.run, &mut seq, entries, write).map_err(failed)?;
        log.seq = seq;
        log.bytes += bytes;
        log.last = ticket;
        self.moved.send_replace(ticket);
        Ok(())
    }

    /// A message is given out. What a person says in it of calls is kept first; what is asked for, and by whom, is kept
    /// with the decision about it, because an order that changes nothing was refused and is no order.
    fn given(&self, signal: Signal) -> Next {
        if let Some(settle) = &signal.settle
            && let Err(error) = self.settle(&signal.cause, settle)
        {
            tracing::error!(run = %self.run, %error, "what a person said of a call was not kept");
            return Next::PutDown;
        }
        Next::Signal(signal)
    }

    fn settle(&self, cause: &Cause, settle: &Settle) -> Result<(), Error> {
        let mut log = self.log();
        let ends = matches!(cause, Cause::Cancel | Cause::CancelAndUndo | Cause::Kill | Cause::Undo);
        log.asked = Some(Asked { text: asked_for(cause), by: settle.by.clone(), ends });
        if settle.calls.keys().any(|call| log.open.contains_key(call)) {
            self.note_who_asks(&mut log)?;
        }
        for (call, answer) in &settle.calls {
            // What has come to its end meanwhile is in doubt no more.
            let Some(intent) = log.open.get(call).cloned() else { continue };
            let mut write = Write::new();
            let how = match answer {
                Some(answer) => {
                    let content = self.journal.content(&mut write, answer.clone()).map_err(failed)?;
                    journal::Resolution::Done(journal::Answer::Ok(content))
                }
                None => journal::Resolution::NotDone,
            };
            let entry = Entry::Resolved {
                key: call.execution.to_string(),
                attempt: call.attempt,
                ordinal: call.ordinal,
                hash: intent.hash.parse().map_err(|_| Error::Journal("an intent's hash is not a digest".to_owned()))?,
                at: self.clock.now(),
                how,
                by: settle.by.clone(),
            };
            let seq = log.seq;
            self.append(&mut log, &[entry], write)?;
            log.open.remove(call);
            if answer.is_some() {
                log.ends.insert(call.clone(), seq);
            }
        }
        Ok(())
    }

    /// Keeps what is asked of the run and not kept yet.
    fn note_who_asks(&self, log: &mut Log) -> Result<(), Error> {
        let Some(Asked { text, by, ends }) = log.asked.take() else { return Ok(()) };
        if ends {
            log.summary.aftermath.by = Some(by.clone());
        }
        let asked = Entry::Note { level: "info".to_owned(), text: text.to_owned(), by: Some(by) };
        self.append(log, &[asked], Write::new())
    }

    fn check_size(&self, log: &Log) -> Result<(), Error> {
        if log.seq >= self.limits.run_events_max || log.bytes >= self.limits.run_journal_bytes_max {
            return Err(Error::TooLarge { events: log.seq, bytes: log.bytes });
        }
        Ok(())
    }

    /// The entry of a decision, and what is kept beside it.
    fn decided(&self, log: &mut Log, number: u64, record: Value, state: Option<&State>) -> Result<(), Error> {
        self.note_who_asks(log)?;
        let mut write = Write::new();
        let Value::Array(events) = record else {
            return Err(Error::Journal("a decision has no list of events".to_owned()));
        };
        let events = events
            .into_iter()
            .map(|event| self.journal.content(&mut write, event))
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed)?;
        if let Some(state) = state {
            self.beside(log, number, &mut write, state)?;
        }
        self.append(log, &[Entry::Decision { events }], write)?;
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

    fn kept_answer(&self, seq: u64) -> Result<Option<Value>, Error> {
        let page = self.journal.entries(self.run, seq, 1).map_err(failed)?;
        let Some((found, entry)) = page.into_iter().next() else { return Ok(None) };
        if found != seq {
            return Ok(None);
        }
        let (answer, hash, how, writes) = match entry {
            Entry::Outcome { answer, hash, how, .. } => (answer, hash, how, true),
            Entry::Read { answer, hash, how, .. } => {
                // Of a write that an earlier attempt made there is no intent in this one.
                let writes = [How::Reused, How::ReusedHolds].iter().any(|reused| reused.as_str() == how);
                (answer, hash, how, writes)
            }
            Entry::Resolved { how: journal::Resolution::Done(answer), hash, .. } => {
                (answer, hash, "found".to_owned(), true)
            }
            _ => return Ok(None),
        };
        let result = match answer {
            journal::Answer::Ok(content) => Ok(text(self.journal.value(content).map_err(failed)?)),
            journal::Answer::Err(content) => Err(text(self.journal.value(content).map_err(failed)?)),
        };
        Ok(Some(serde_json::json!({
            "hash": hash.to_string(), "writes": writes, "how": how,
            "result": match result { Ok(text) => serde_json::json!({"Ok": text}), Err(text) => serde_json::json!({"Err": text}) },
        })))
    }

    /// Writes what is about to be sent. After Ok it is durable.
    async fn intend(&self, call: &CallKey, intent: Intent) -> Result<(), Error> {
        let ticket = {
            let mut log = self.log();
            self.check_size(&log)?;
            let hash =
                intent.hash.parse().map_err(|_| Error::Journal("an intent's hash is not a digest".to_owned()))?;
            let entry = Entry::Intent {
                key: call.execution.to_string(),
                attempt: call.attempt,
                ordinal: call.ordinal,
                hash,
                at: intent.at,
                function: intent.function.clone(),
                connection: Some(intent.connection.clone()),
            };
            self.append(&mut log, &[entry], Write::new())?;
            log.open.insert(call.clone(), intent);
            log.last
        };
        if planted(Plant::SendUnsynced) {
            return Ok(());
        }
        self.journal.durable(ticket).await.map_err(|e| Error::Journal(e.to_string()))
    }

    /// The entry of a call's end.
    fn ended(&self, write: &mut Write, call: &CallKey, record: Value, intent: bool) -> Result<Entry, Error> {
        let answer = Answer::from_record(record).ok_or_else(|| Error::Journal("a call gave no answer".to_owned()))?;
        let hash = answer.hash.parse().map_err(|_| Error::Journal("a call's hash is not a digest".to_owned()))?;
        // The guest gets text; JSON text is kept as JSON, so that equal values are stored once and people can read it.
        let kept = |write: &mut Write, text: &str| -> Result<journal::Content, Error> {
            let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
            self.journal.content(write, value).map_err(failed)
        };
        let how = answer.how.as_str().to_owned();
        let (key, attempt, ordinal) = (call.execution.to_string(), call.attempt, call.ordinal);
        let content = match &answer.result {
            Ok(text) => journal::Answer::Ok(kept(write, text)?),
            Err(text) => journal::Answer::Err(kept(write, text)?),
        };
        Ok(if intent {
            Entry::Outcome { key, attempt, ordinal, hash, at: self.clock.now(), answer: content, how }
        } else {
            let function = Some(answer.function).filter(|function| !function.is_empty());
            Entry::Read { key, attempt, ordinal, hash, answer: content, how, function }
        })
    }
}

/// What a person asks of a run, in words that follow "asked".
fn asked_for(cause: &Cause) -> &'static str {
    match cause {
        Cause::Cancel => "for it to end",
        Cause::CancelAndUndo => "for it to end, and what it changed to be taken back",
        Cause::Kill => "for it to end by force",
        Cause::Retry => "for another attempt",
        Cause::Undo => "for what it changed to be taken back",
        Cause::Suspend => "for a pause",
        Cause::Resume => "for it to go on",
        Cause::Settle { done: true, .. } => "for what is in doubt to count as done",
        Cause::Settle { done: false, .. } => "for what is in doubt to count as not done",
        _ => "for something",
    }
}

/// Text as the guest got it: kept JSON written out again.
fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
fn failed(error: journal::Error) -> Error {
    Error::Journal(error.to_string())
}

impl Execution for Local {
    async fn step<T, F, Fut>(&self, key: &StepKey, intent: Option<Intent>, call: F) -> Result<End<T>, Error>
    where
        T: Recorded,
        F: FnOnce(Option<Intent>) -> Fut + Send,
        Fut: Future<Output = End<T>> + Send,
    {
        let unreadable = || Error::Journal(format!("what is kept of {key:?} cannot be read"));
        self.room().await?;
        let call_key = match key {
            StepKey::Decision(number) => {
                let kept = self.log().decisions.get(number).copied();
                if let Some(seq) = kept {
                    let page = self.journal.entries(self.run, seq, 1).map_err(failed)?;
                    let Some((_, Entry::Decision { events })) = page.into_iter().next() else {
                        return Err(unreadable());
                    };
                    let events = events
                        .into_iter()
                        .map(|content| self.journal.value(content))
                        .collect::<Result<Vec<_>, _>>()
                        .map_err(failed)?;
                    return T::from_record(Value::Array(events)).map(End::Done).ok_or_else(unreadable);
                }
                let end = call(None).await;
                pass(Point::Undecided);
                if let End::Done(decision) = &end {
                    let mut log = self.log();
                    self.decided(&mut log, *number, decision.to_record(), decision.after())?;
                }
                return Ok(end);
            }
            StepKey::Slice(slice) => {
                let kept = self.log().slices.get(slice).copied();
                if let Some(seq) = kept {
                    let page = self.journal.entries(self.run, seq, 1).map_err(failed)?;
                    let Some((_, Entry::Slice { ordinal, state, .. })) = page.into_iter().next() else {
                        return Err(unreadable());
                    };
                    let state = self.journal.value(state).map_err(failed)?;
                    let record = serde_json::json!({ "state": state, "first_call": ordinal });
                    return T::from_record(record).map(End::Done).ok_or_else(unreadable);
                }
                let end = call(None).await;
                if let End::Done(done) = &end {
                    let mut record = done.to_record();
                    let first_call = record["first_call"].as_u64().and_then(|n| u32::try_from(n).ok());
                    let mut write = Write::new();
                    let state = self.journal.content(&mut write, record["state"].take()).map_err(failed)?;
                    let entry = Entry::Slice {
                        key: slice.execution.to_string(),
                        attempt: slice.attempt,
                        ordinal: first_call.ok_or_else(unreadable)?,
                        state,
                    };
                    let mut log = self.log();
                    self.check_size(&log)?;
                    let seq = log.seq;
                    self.append(&mut log, &[entry], write)?;
                    log.slices.insert(slice.clone(), seq);
                }
                return Ok(end);
            }
            StepKey::Call(call_key) => call_key,
        };
        let (kept, open) = {
            let log = self.log();
            (log.ends.get(call_key).copied(), log.open.get(call_key).cloned())
        };
        if let Some(seq) = kept {
            let record = self.kept_answer(seq)?.ok_or_else(unreadable)?;
            return T::from_record(record).map(End::Done).ok_or_else(unreadable);
        }
        let had_intent = open.is_some() || intent.is_some();
        let end = match intent.filter(|_| open.is_none()) {
            Some(intent) if planted(Plant::IntentLast) => {
                let end = call(None).await;
                self.intend(call_key, intent).await?;
                end
            }
            Some(intent) => {
                self.intend(call_key, intent).await?;
                call(None).await
            }
            None => call(open).await,
        };
        pass(Point::Unrecorded);
        let mut log = self.log();
        match &end {
            End::Done(_) if planted(Plant::ForgetOutcome) => {}
            End::Done(answer) => {
                let mut write = Write::new();
                let entry = self.ended(&mut write, call_key, answer.to_record(), had_intent)?;
                let seq = log.seq;
                self.append(&mut log, &[entry], write)?;
                log.open.remove(call_key);
                log.ends.insert(call_key.clone(), seq);
            }
            End::NotSent { reason, retry_at, repeats } => {
                // A read that was not sent left nothing behind to be told about.
                if had_intent {
                    if *repeats {
                        log.repeats(call_key);
                    }
                    let entry = Entry::NotSent {
                        repeats: *repeats,
                        key: call_key.execution.to_string(),
                        attempt: call_key.attempt,
                        ordinal: call_key.ordinal,
                        reason: reason.clone(),
                        retry_at: *retry_at,
                    };
                    self.append(&mut log, &[entry], Write::new())?;
                    log.open.remove(call_key);
                }
            }
            End::Doubt(_) | End::Stopped => {}
        }
        Ok(end)
    }

    fn recall(&self) -> Result<(), Error> {
        self.log().recall(&self.journal, self.run).map_err(failed)
    }

    fn has_repeated(&self, execution: &ExecutionKey, attempt: u32) -> bool {
        self.log().has_repeated(execution, attempt)
    }

    fn leave_behind(
        &self,
        execution: &ExecutionKey,
        attempt: u32,
        first: u32,
        facts: &Arc<Facts>,
    ) -> Result<(), Error> {
        self.behind(execution, attempt, first, facts)
    }

    fn timer(&self, at: Option<Timestamp>) {
        self.log().timer.1 = at;
    }

    fn rearm(&self) {
        if let Some(at) = self.log().timer.0 {
            self.timers.set(at, self.run);
        }
    }

    async fn signal(&self, resting: bool) -> Next {
        let mut inbox = self.inbox.lock().await;
        self.log().asked = None;
        if let Ok(signal) = inbox.try_recv() {
            return self.given(signal);
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
            signal = inbox.recv() => match signal {
                Some(signal) => self.given(signal),
                // Nobody can send any more: the engine is going.
                None => Next::PutDown,
            },
            _ = drain.changed() => Next::PutDown,
            () = self.put_down.notified() => Next::PutDown,
        }
    }

    async fn settled(&self) -> Result<(), Error> {
        let last = {
            let mut log = self.log();
            // Who asked is answered next: what was to be decided about it has been.
            log.asked = None;
            log.last
        };
        self.journal.durable(last).await.map_err(|e| Error::Journal(e.to_string()))
    }

    fn note(&self, text: String) {
        let entry = Entry::Note { level: "info".to_owned(), text, by: None };
        let mut log = self.log();
        // A note that is lost is not missed; what failed here fails again where it matters.
        let _lost = self.append(&mut log, &[entry], Write::new());
    }

    fn entropy(&self) -> u64 {
        self.entropy.next()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
