//! An engine that only replays an ordered log of steps, in memory: how a run looks from one that keeps journals itself.
//!
//! Everything that a step gave is in one list, in the order in which it was given. A driver that begins again over
//! the same list is given the same answers, and goes on where the list ends.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellhop_core::run::{ExecutionKey, Outgrown, State};
use bellhop_core::time::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::clock::Clock;

use super::{Answer, Attempted, Decision, End, Error, Execution, Intent, Next, Recorded, Signal, StepKey};

/// One line of the log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Line {
    /// A step is about to be sent.
    Intent(StepKey, Intent),
    /// What it gave.
    Done(StepKey, Value),
    /// It surely did not happen, or it is repeated though it perhaps did.
    NotSent(StepKey, bool),
}

/// Where a process dies: with the line that would be the n-th, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Death {
    /// Which.
    pub(crate) line: usize,
    /// Whether that line is kept.
    pub(crate) kept: bool,
}

#[derive(Default)]
struct Book {
    lines: Vec<Line>,
    timer: Option<Timestamp>,
}

/// The port over such a log.
pub(crate) struct Replay {
    book: Mutex<Book>,
    inbox: tokio::sync::Mutex<mpsc::UnboundedReceiver<Signal>>,
    now: Mutex<Timestamp>,
    /// Where the process dies.
    death: Mutex<Option<Death>>,
    /// In the place of a time that passes at once.
    clock: Option<Arc<dyn Clock>>,
}

impl Replay {
    /// Over the lines of an earlier life.
    pub(crate) fn over(lines: Vec<Line>, now: Timestamp) -> (Self, mpsc::UnboundedSender<Signal>) {
        let (sender, inbox) = mpsc::unbounded_channel();
        let replay = Self {
            book: Mutex::new(Book { lines, timer: None }),
            inbox: tokio::sync::Mutex::new(inbox),
            now: Mutex::new(now),
            death: Mutex::new(None),
            clock: None,
        };
        (replay, sender)
    }

    /// The same, with a time that passes by itself.
    pub(crate) fn by(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// The log as it stands.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.book().lines.clone()
    }

    /// From there on no step gives anything any more.
    pub(crate) fn die_at(&self, death: Death) {
        *self.death.lock().unwrap_or_else(PoisonError::into_inner) = Some(death);
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: Line) -> Result<(), Error> {
        let death = *self.death.lock().unwrap_or_else(PoisonError::into_inner);
        let died = || Err(Error::Store("died here".to_owned()));
        let mut book = self.book();
        match death {
            Some(death) if book.lines.len() > death.line => died(),
            Some(death) if book.lines.len() == death.line => {
                if death.kept {
                    book.lines.push(line);
                }
                died()
            }
            _ => {
                book.lines.push(line);
                Ok(())
            }
        }
    }
}

/// What is due, is.
fn woken() -> Signal {
    Signal { cause: bellhop_core::run::Cause::Wake, acknowledge: None, settle: None }
}

impl Execution for Replay {
    async fn step<T, F, Fut>(&self, key: &StepKey, intent: Option<Intent>, call: F) -> Result<End<T>, Error>
    where
        T: Recorded,
        F: FnOnce(Option<Intent>) -> Fut + Send,
        Fut: Future<Output = End<T>> + Send,
    {
        let (done, open) = {
            let book = self.book();
            let mut open: HashMap<&StepKey, &Intent> = HashMap::new();
            let mut done = None;
            for line in &book.lines {
                match line {
                    Line::Intent(k, intent) => {
                        open.insert(k, intent);
                    }
                    Line::NotSent(k, _) => {
                        open.remove(k);
                    }
                    Line::Done(k, value) => {
                        open.remove(k);
                        if k == key {
                            done = Some(value.clone());
                        }
                    }
                }
            }
            (done, open.get(key).map(|i| (*i).clone()))
        };
        if let Some(value) = done {
            return T::from_record(value)
                .map(End::Done)
                .ok_or_else(|| Error::OfTheRun(format!("what is kept of {key:?} cannot be read")));
        }
        let had_intent = open.is_some() || intent.is_some();
        if let (None, Some(intent)) = (&open, intent) {
            self.add(Line::Intent(key.clone(), intent))?;
        }
        let end = call(open).await;
        match &end {
            End::Done(value) => self.add(Line::Done(key.clone(), value.to_record()))?,
            End::NotSent { repeats, .. } if had_intent => self.add(Line::NotSent(key.clone(), *repeats))?,
            End::NotSent { .. } | End::Doubt(_) | End::Unread { .. } | End::Stopped => {}
        }
        Ok(end)
    }

    async fn keep(&self, number: u64, decision: Decision) -> Result<(), Error> {
        let key = StepKey::Decision(number);
        // What an earlier life decided is what counts.
        let kept = self.step(&key, None, |_| async move { End::Done(decision) }).await?;
        match kept {
            End::Done(_) => Ok(()),
            _ => Err(Error::OfTheRun("a decision was not kept".to_owned())),
        }
    }

    fn outgrown(&self, _state: &State) -> Result<Option<Outgrown>, Error> {
        Ok(None)
    }

    fn has_repeated(&self, execution: &ExecutionKey, attempt: u32) -> bool {
        let is_of = |key: &StepKey| matches!(key, StepKey::Call(call) if call.execution == *execution && call.attempt <= attempt);
        self.book().lines.iter().any(|line| matches!(line, Line::NotSent(key, true) if is_of(key)))
    }

    fn calls(&self, execution: &ExecutionKey, attempt: u32) -> Vec<u32> {
        let mut found = std::collections::BTreeSet::new();
        for line in &self.book().lines {
            let (Line::Intent(key, _) | Line::Done(key, _) | Line::NotSent(key, _)) = line;
            let StepKey::Call(call) = key else { continue };
            if call.execution == *execution && call.attempt == attempt {
                match line {
                    Line::NotSent(..) => found.remove(&call.ordinal),
                    Line::Intent(..) | Line::Done(..) => found.insert(call.ordinal),
                };
            }
        }
        found.into_iter().collect()
    }

    fn attempted(&self, execution: &ExecutionKey, attempt: u32) -> Attempted {
        let is_of = |key: &StepKey| matches!(key, StepKey::Call(call) if call.execution == *execution && call.attempt == attempt);
        let mut all = Attempted::default();
        for line in &self.book().lines {
            match line {
                Line::Done(key, value) if is_of(key) => {
                    let answer = Answer::from_record(value.clone());
                    if let Some(answer) = answer.filter(|answer| answer.writes && answer.result.is_ok()) {
                        all = all.and(Attempted::by_write(answer.how));
                    }
                }
                Line::NotSent(key, true) if is_of(key) => all.repeated = true,
                _ => {}
            }
        }
        all
    }

    fn timer(&self, at: Option<Timestamp>) {
        self.book().timer = at;
    }

    async fn signal(&self, resting: bool) -> Next {
        let timer = self.book().timer;
        let mut inbox = self.inbox.lock().await;
        if let Ok(signal) = inbox.try_recv() {
            return Next::Signal(signal);
        }
        if let (true, Some(at), Some(clock)) = (resting, timer, &self.clock) {
            clock.sleep_until(at).await;
            return Next::Signal(woken());
        }
        if let (false, Some(at), Some(clock)) = (resting, timer, &self.clock) {
            // What is due beside a call that is under way is due.
            tokio::select! {
                biased;
                signal = inbox.recv() => if let Some(signal) = signal { return Next::Signal(signal) },
                () = clock.sleep_until(at) => {}
            }
            return Next::Signal(woken());
        }
        if let (true, Some(at)) = (resting, timer) {
            // Nothing else is under way: time passes at once.
            let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
            *now = (*now).max(at);
            return Next::Signal(woken());
        }
        if resting {
            return Next::Rest;
        }
        match inbox.recv().await {
            Some(signal) => Next::Signal(signal),
            None => std::future::pending().await,
        }
    }

    async fn settled(&self) -> Result<(), Error> {
        Ok(())
    }

    fn note(&self, _text: String) {}

    fn entropy(&self) -> u64 {
        7
    }

    fn now(&self) -> Timestamp {
        match &self.clock {
            Some(clock) => clock.now(),
            None => *self.now.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }
}
