//! An engine that only replays an ordered log, in memory: how a run looks from one that keeps journals itself.
//!
//! Everything that the run was given is in one list, in the order in which it was given. A driver that begins again over
//! the same list is given the same answers, and goes on where the list ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellhop_core::run::{Event, ExecutionKey, Outgrown, State};
use bellhop_core::time::Timestamp;
use tokio::sync::mpsc;

use bellhop_clock::Clock;

use super::{
    Answer, AttemptKey, Attempted, CallKey, Called, Decision, Error, Execution, Intent, Next, NotSent, Signal, Slice,
};

/// One line of the log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Line {
    /// The n-th decision.
    Decision(u64, Vec<Event>),
    /// The end of a slice.
    Slice(AttemptKey, Slice),
    /// A call is about to be sent.
    Intent(CallKey, Intent),
    /// How it ended.
    Ended(CallKey, Answer),
    /// It surely did not happen, or it is repeated though it perhaps did.
    NotSent(CallKey, bool),
}

/// Where a process dies: with the line that would be the n-th, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Death {
    /// Which.
    pub line: usize,
    /// Whether that line is kept.
    pub kept: bool,
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

    /// From there on nothing is given any more.
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
    Signal::of(bellhop_core::run::Cause::Wake)
}

impl Execution for Replay {
    async fn decision(&self, number: u64) -> Result<Option<Vec<Event>>, Error> {
        Ok(self.book().lines.iter().find_map(|line| match line {
            Line::Decision(of, events) if *of == number => Some(events.clone()),
            _ => None,
        }))
    }

    async fn keep(&self, number: u64, decision: Decision) -> Result<(), Error> {
        // What an earlier life decided is what counts.
        match self.decision(number).await? {
            Some(_) => Ok(()),
            None => self.add(Line::Decision(number, decision.events)),
        }
    }

    async fn slice(&self, attempt: &AttemptKey, number: u32) -> Result<Option<Slice>, Error> {
        Ok(self.book().lines.iter().find_map(|line| match line {
            Line::Slice(of, slice) if of == attempt && slice.number == number => Some(slice.clone()),
            _ => None,
        }))
    }

    async fn keep_slice(&self, attempt: &AttemptKey, slice: &Slice) -> Result<(), Error> {
        self.add(Line::Slice(attempt.clone(), slice.clone()))
    }

    async fn called(&self, call: &CallKey) -> Result<Called, Error> {
        let mut called = Called::New;
        for line in &self.book().lines {
            match line {
                Line::Intent(of, intent) if of == call => called = Called::Open(intent.clone()),
                Line::Ended(of, answer) if of == call => called = Called::Ended(answer.clone()),
                Line::NotSent(of, _) if of == call => called = Called::New,
                _ => {}
            }
        }
        Ok(called)
    }

    async fn intend(&self, call: &CallKey, intent: Intent) -> Result<bool, Error> {
        self.add(Line::Intent(call.clone(), intent)).map(|()| true)
    }

    async fn ended(&self, call: &CallKey, answer: &Answer) -> Result<(), Error> {
        self.add(Line::Ended(call.clone(), answer.clone()))
    }

    async fn not_sent(&self, call: &CallKey, why: &NotSent) -> Result<(), Error> {
        match self.called(call).await? {
            Called::Open(_) => self.add(Line::NotSent(call.clone(), why.repeats)),
            Called::New | Called::Ended(_) => Ok(()),
        }
    }

    fn outgrown(&self, _state: &State) -> Result<Option<Outgrown>, Error> {
        Ok(None)
    }

    fn has_repeated(&self, execution: &ExecutionKey, attempt: u32) -> bool {
        let is_of = |call: &CallKey| call.execution == *execution && call.attempt <= attempt;
        self.book().lines.iter().any(|line| matches!(line, Line::NotSent(call, true) if is_of(call)))
    }

    fn calls(&self, execution: &ExecutionKey, attempt: u32) -> Vec<u32> {
        let is_of = |call: &CallKey| call.execution == *execution && call.attempt == attempt;
        let mut found = std::collections::BTreeSet::new();
        for line in &self.book().lines {
            match line {
                Line::Intent(call, _) | Line::Ended(call, _) if is_of(call) => found.insert(call.ordinal),
                Line::NotSent(call, _) if is_of(call) => found.remove(&call.ordinal),
                _ => false,
            };
        }
        found.into_iter().collect()
    }

    fn attempted(&self, execution: &ExecutionKey, attempt: u32) -> Attempted {
        let is_of = |call: &CallKey| call.execution == *execution && call.attempt == attempt;
        let mut all = Attempted::default();
        for line in &self.book().lines {
            match line {
                Line::Ended(call, answer) if is_of(call) && answer.writes && answer.result.is_ok() => {
                    all = all.and(Attempted::by_write(answer.how));
                }
                Line::NotSent(call, true) if is_of(call) => all.repeated = true,
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

    fn looking_at(&self, _due: impl FnOnce() -> Option<Timestamp>) -> Timestamp {
        self.now()
    }

    fn now(&self) -> Timestamp {
        match &self.clock {
            Some(clock) => clock.now(),
            None => *self.now.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }
}
