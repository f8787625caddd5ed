//! The port over this process's journal.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellhop_core::id::RunId;
use bellhop_core::run::{Cause, ExecutionKey, Facts, Reserve, State};
use bellhop_core::time::Timestamp;
use bellhop_core::value;
use serde_json::Value;
use tokio::sync::{Notify, mpsc, watch};

mod behind;
mod beside;
mod log;

use super::{
    Answer, Attempted, CallKey, Decision, End, Error, Execution, How, Intent, Next, Recorded, Settle, Signal, StepKey,
};
use crate::clock::Clock;
use crate::engine::driver;
use crate::engine::entropy::Entropy;
use crate::engine::timers::Timers;
use crate::faults::{Plant, Point, pass, planted};
use crate::journal::{self, Entry, Journal, Ticket, Write};
use crate::limits::Limits;
use beside::place_of;
use log::{Asked, Log};

/// How often a run looks whether the disk has room.
const ROOM_AGAIN: std::time::Duration = std::time::Duration::from_millis(250);

/// From so many batches, or bytes, on that are not durable yet, a run waits before it adds to them: a full queue would be
/// taken for a store that failed. Half of what the embedded store takes.
const QUEUE_BATCHES_HIGH: usize = 8_192;
const QUEUE_BYTES_HIGH: usize = 32 * 1024 * 1024;

/// What a run adds while it ends comes to so many times its limit at the most. Its reserve is what an end needs; an action
/// that asks for far more while it takes something back would go on for ever.
const END_FACTOR: u64 = 2;

/// From this part of its limit on, what taking back a run's changes needs is counted.
const NEAR: u64 = 8;

/// This part of its limits, and no more than so much, is kept for a run's end itself: what is stopped, noted and told.
const END_PART: u64 = 16;
const END_RECORDS: u64 = 64;
const END_BYTES: u64 = 256 << 10;

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
        log.is_ending = state.ends();
        log.reserve = self.reserve(&log, state);
    }

    /// Waits while the store's queue is half full: what comes next is written by those who do not look.
    async fn room(&self) -> Result<(), Error> {
        let stats = self.journal.stats();
        if stats.queue_batches < QUEUE_BATCHES_HIGH && stats.queue_bytes < QUEUE_BYTES_HIGH {
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
                () = self.clock.sleep(ROOM_AGAIN) => {}
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

    /// The calls that were begun and have no end.
    pub(crate) fn open_calls(&self) -> BTreeMap<CallKey, Intent> {
        self.log().open.clone()
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

    /// A message is given out. What a person says in it of calls is kept first; what is asked for, and by whom, is kept
    /// with the decision about it, because an order that changes nothing was refused and is no order.
    async fn given(&self, signal: Signal) -> Next {
        if let Some(settle) = &signal.settle
            && let Err(error) = self.settle(&signal.cause, settle).await
        {
            tracing::error!(run = %self.run, %error, "what a person said of a call was not kept");
            return Next::PutDown;
        }
        Next::Signal(signal)
    }

    async fn settle(&self, cause: &Cause, settle: &Settle) -> Result<(), Error> {
        let in_doubt = {
            let mut log = self.log();
            let ends = matches!(cause, Cause::Cancel | Cause::CancelAndUndo | Cause::Kill | Cause::Undo);
            log.asked = Some(Asked { text: asked_for(cause), by: settle.by.clone(), ends });
            settle.calls.keys().any(|call| log.open.contains_key(call))
        };
        if in_doubt {
            self.written(|log| self.note_who_asks(log)).await?;
        }
        for (call, answer) in &settle.calls {
            self.written(|log| self.settle_one(log, call, answer.as_ref(), &settle.by)).await?;
        }
        Ok(())
    }

    /// Keeps what is asked of the run and not kept yet.
    fn note_who_asks(&self, log: &mut Log) -> Result<(), Error> {
        let Some(asked) = log.asked.clone() else { return Ok(()) };
        let (at, text) = (self.clock.now(), asked.text.to_owned());
        let note = Entry::Note { at, level: "info".to_owned(), text, by: Some(asked.by.clone()) };
        self.append(log, &[note], Write::new())?;
        log.asked = None;
        if asked.ends {
            log.summary.aftermath.by = Some(asked.by);
        }
        Ok(())
    }

    /// Keeps what a person says of one call. What has come to its end meanwhile is in doubt no more.
    fn settle_one(&self, log: &mut Log, call: &CallKey, answer: Option<&Value>, by: &str) -> Result<(), Error> {
        let Some(intent) = log.open.get(call).cloned() else { return Ok(()) };
        let mut write = Write::new();
        let how = match answer {
            Some(answer) => {
                let content = self.journal.content(&mut write, answer.clone())?;
                journal::Resolution::Done(journal::Answer::Ok(content))
            }
            None => journal::Resolution::NotDone,
        };
        let entry = Entry::Resolved {
            key: call.execution.to_string(),
            attempt: call.attempt,
            ordinal: call.ordinal,
            hash: digest(&intent.hash)?,
            at: self.clock.now(),
            how,
            by: by.to_owned(),
        };
        let seq = log.seq;
        self.append(log, std::slice::from_ref(&entry), write)?;
        match answer {
            Some(_) => log.end(call.clone(), seq, &entry),
            None => log.reopen(call, false),
        }
        Ok(())
    }

    /// Whether the run may add to its records by what is not needed for ending it.
    fn check_size(&self, log: &Log) -> Result<(), Error> {
        let (records_max, bytes_max) = (self.limits.run_events_max, self.limits.run_journal_bytes_max);
        if log.is_ending {
            return if log.seq >= records_max * END_FACTOR || log.bytes >= bytes_max * END_FACTOR {
                Err(Error::OfTheRun(format!(
                    "its end has {} records of {} bytes, more than any run needs to take back what it changed",
                    log.seq, log.bytes
                )))
            } else {
                Ok(())
            };
        }
        if log.seq + log.reserve.records >= records_max || log.bytes + log.reserve.bytes >= bytes_max {
            return Err(Error::TooLarge { records: log.seq, bytes: log.bytes });
        }
        Ok(())
    }

    /// The entry of a decision, and what is kept beside it.
    fn decided(&self, log: &mut Log, number: u64, decision: &Decision) -> Result<(), Error> {
        self.note_who_asks(log)?;
        let mut write = Write::new();
        let mut events = Vec::with_capacity(decision.events.len());
        for event in &decision.events {
            events.push(self.journal.content(&mut write, event_of(event)?)?);
        }
        let beside = decision.after.as_deref().map(|state| self.beside(log, number, &mut write, state)).transpose()?;
        self.append(log, &[Entry::Decision { events }], write)?;
        if let (Some(beside), Some(state)) = (beside, decision.after.as_deref()) {
            log.stands(beside);
            log.is_ending = state.ends();
            log.reserve = self.reserve(log, state);
        }
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

    /// What is kept for ending the run, once its records are so many that it matters.
    fn reserve(&self, log: &Log, state: &State) -> Reserve {
        let (records_max, bytes_max) = (self.limits.run_events_max, self.limits.run_journal_bytes_max);
        // Looking at every change that stands is not worth its time while there is room for many times what they need.
        let near = log.seq * NEAR >= records_max || log.bytes * NEAR >= bytes_max;
        let changes = if near { state.reserve() } else { Reserve::default() };
        Reserve {
            records: changes.records + END_RECORDS.min(records_max / END_PART),
            bytes: changes.bytes + END_BYTES.min(bytes_max / END_PART),
        }
    }

    fn kept_answer(&self, seq: u64) -> Result<Option<Value>, Error> {
        let page = self.journal.entries(self.run, seq, 1)?;
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
            journal::Answer::Ok(content) => Ok(text(self.journal.value(content)?)),
            journal::Answer::Err(content) => Err(text(self.journal.value(content)?)),
        };
        Ok(Some(serde_json::json!({
            "hash": hash.to_string(), "writes": writes, "how": how,
            "result": match result { Ok(text) => serde_json::json!({"Ok": text}), Err(text) => serde_json::json!({"Err": text}) },
        })))
    }

    /// Writes what is about to be sent. After Ok it is durable.
    async fn intend(&self, call: &CallKey, intent: Intent) -> Result<(), Error> {
        let entry = Entry::Intent {
            key: call.execution.to_string(),
            attempt: call.attempt,
            ordinal: call.ordinal,
            hash: digest(&intent.hash)?,
            at: intent.at,
            function: intent.function.clone(),
            connection: Some(intent.connection.clone()),
        };
        let written = self.written(|log| {
            self.check_size(log)?;
            self.append(log, std::slice::from_ref(&entry), Write::new())?;
            log.open.insert(call.clone(), intent.clone());
            Ok(log.last)
        });
        let ticket = written.await?;
        if planted(Plant::SendUnsynced) {
            return Ok(());
        }
        Ok(self.journal.durable(ticket).await?)
    }

    /// Keeps how a call ended. What ends an intent is always kept; what only a guest would get is not, once the run is
    /// too large: it is asked again, or never.
    async fn keep_end(&self, call: &CallKey, answer: &Answer, had_intent: bool) -> Result<(), Error> {
        let written = self.written(|log| {
            if !had_intent {
                self.check_size(log)?;
            }
            let mut write = Write::new();
            let entry = self.ended(&mut write, call, answer, had_intent)?;
            let seq = log.seq;
            self.append(log, std::slice::from_ref(&entry), write)?;
            log.end(call.clone(), seq, &entry);
            Ok(())
        });
        written.await
    }

    /// The entry of a call's end.
    fn ended(&self, write: &mut Write, call: &CallKey, answer: &Answer, intent: bool) -> Result<Entry, Error> {
        let hash = digest(&answer.hash)?;
        let kept = |write: &mut Write, text: &str| -> Result<journal::Content, Error> {
            Ok(self.journal.content(write, kept_text(text))?)
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
            let function = Some(answer.function.clone()).filter(|function| !function.is_empty());
            Entry::Read { key, attempt, ordinal, hash, at: self.clock.now(), answer: content, how, function }
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

/// Text as it is kept. The guest gets text; what is JSON and is written out again as it stands is kept as JSON, so that
/// equal values are stored once and people can read it. Anything else, as a name that happens to be a number, is text.
fn kept_text(text: &str) -> Value {
    let json = serde_json::from_str(text).ok().filter(|json: &Value| {
        // What is deeper than any value of ours would not fit into a record.
        value::size(json).depth <= value::DEPTH_MAX && !json.is_string() && json.to_string() == text
    });
    json.unwrap_or_else(|| Value::from(text))
}

/// Text as the guest got it: kept JSON written out again.
fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn digest(hash: &str) -> Result<bellhop_core::digest::Digest, Error> {
    hash.parse().map_err(|_| Error::OfTheRun(format!("`{hash}` is not the hash of a request")))
}

fn event_of(event: &bellhop_core::run::Event) -> Result<Value, Error> {
    serde_json::to_value(event).map_err(|error| Error::OfTheRun(format!("an event cannot be written: {error}")))
}

impl Execution for Local {
    async fn step<T, F, Fut>(&self, key: &StepKey, intent: Option<Intent>, call: F) -> Result<End<T>, Error>
    where
        T: Recorded,
        F: FnOnce(Option<Intent>) -> Fut + Send,
        Fut: Future<Output = End<T>> + Send,
    {
        let unreadable = || Error::OfTheRun(format!("what is kept of {key:?} cannot be read"));
        let call_key = match key {
            StepKey::Decision(number) => {
                let kept = self.log().decisions.get(number).copied();
                if let Some(seq) = kept {
                    let page = self.journal.entries(self.run, seq, 1)?;
                    let Some((_, Entry::Decision { events })) = page.into_iter().next() else {
                        return Err(unreadable());
                    };
                    let events =
                        events.into_iter().map(|content| self.journal.value(content)).collect::<Result<Vec<_>, _>>()?;
                    return T::from_record(Value::Array(events)).map(End::Done).ok_or_else(unreadable);
                }
                return Ok(call(None).await);
            }
            StepKey::Slice(slice) => {
                let kept = self.log().slices.get(slice).copied();
                if let Some(seq) = kept {
                    let page = self.journal.entries(self.run, seq, 1)?;
                    let Some((_, Entry::Slice { ordinal, state, .. })) = page.into_iter().next() else {
                        return Err(unreadable());
                    };
                    let state = self.journal.value(state)?;
                    let record = serde_json::json!({ "state": state, "first_call": ordinal });
                    return T::from_record(record).map(End::Done).ok_or_else(unreadable);
                }
                let end = call(None).await;
                if let End::Done(done) = &end {
                    let record = done.to_record();
                    let first_call = record["first_call"].as_u64().and_then(|n| u32::try_from(n).ok());
                    let first_call = first_call.ok_or_else(unreadable)?;
                    let written = self.written(|log| {
                        self.check_size(log)?;
                        let mut write = Write::new();
                        let state = self.journal.content(&mut write, record["state"].clone())?;
                        let (key, attempt) = (slice.execution.to_string(), slice.attempt);
                        let entry = Entry::Slice { key, attempt, ordinal: first_call, state };
                        let seq = log.seq;
                        self.append(log, &[entry], write)?;
                        log.slices.insert(slice.clone(), seq);
                        Ok(())
                    });
                    written.await?;
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
                if !self.may_send().await {
                    return Ok(End::Stopped);
                }
                self.intend(call_key, intent).await?;
                call(None).await
            }
            None => call(open).await,
        };
        pass(Point::Unrecorded);
        match &end {
            End::Done(_) if planted(Plant::ForgetOutcome) => {}
            End::Done(answer) => {
                let answer = Answer::from_record(answer.to_record()).ok_or_else(unreadable)?;
                self.keep_end(call_key, &answer, had_intent).await?;
            }
            End::NotSent { reason, retry_at, repeats } => {
                // A read that was not sent left nothing behind to be told about.
                if had_intent {
                    let entry = Entry::NotSent {
                        at: self.clock.now(),
                        repeats: *repeats,
                        key: call_key.execution.to_string(),
                        attempt: call_key.attempt,
                        ordinal: call_key.ordinal,
                        reason: reason.clone(),
                        retry_at: *retry_at,
                    };
                    let written = self.written(|log| {
                        self.append(log, std::slice::from_ref(&entry), Write::new())?;
                        log.reopen(call_key, *repeats);
                        Ok(())
                    });
                    written.await?;
                }
            }
            End::Doubt(_) | End::Unread { .. } | End::Stopped => {}
        }
        Ok(end)
    }

    async fn keep(&self, number: u64, decision: Decision) -> Result<(), Error> {
        pass(Point::Undecided);
        self.written(|log| self.decided(log, number, &decision)).await
    }

    fn outgrown(&self, state: &State) -> Result<Option<(u64, u64)>, Error> {
        let log = self.log();
        match self.check_size(&log) {
            Err(Error::TooLarge { records, bytes }) if state.goes_on() => Ok(Some((records, bytes))),
            Ok(()) | Err(Error::TooLarge { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn recall(&self) -> Result<(), Error> {
        Ok(self.log().recall(&self.journal, self.run)?)
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
            self.timers.set_again(at, self.run);
        }
    }

    async fn signal(&self, resting: bool) -> Next {
        let mut inbox = self.inbox.lock().await;
        self.log().asked = None;
        if let Ok(signal) = inbox.try_recv() {
            return self.given(signal).await;
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
                Some(signal) => self.given(signal).await,
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn house_a14_a_guest_is_given_the_same_text_at_a_replay() {
        for given in [
            "1e3",
            "1.0",
            "-0",
            "007",
            "1 ",
            " 1",
            "null",
            "true",
            "\"quoted\"",
            "\"\\u0061\"",
            "",
            "{\"b\":1,\"a\":2}",
            "{\"a\":1,\"a\":2}",
            "{\"a\": 1}",
            "[1,2]",
            "[1, 2]",
            "18446744073709551616",
            "C0HQGENERAL",
            "{",
            "1e999",
        ] {
            assert_eq!(text(kept_text(given)), given);
            // As it is read back from the store.
            let stored: Value = serde_json::from_str(&kept_text(given).to_string()).unwrap();
            assert_eq!(text(stored), given, "read back");
        }
        assert!(kept_text("{\"ok\":true}").is_object(), "what people can read stays so");
    }
}
