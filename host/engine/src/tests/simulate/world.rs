//! Everything that outlives a process: time, Slack, what goes wrong on the way there, what was told and promised.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;
use bellhop_core::run::Status;
use bellhop_slack::catalog::Method;
use bellhop_slack::client::Answer;
use serde_json::Value;

use super::super::dying::Dying;
use super::dice::Dice;
use super::lack::Lack;
use super::slack::Slack;
use super::time::Time;
use crate::execution::replay::{Line, Replay};
use crate::tests::at_once;
use bellhop_journal::{Entry, Journal};

mod door;

pub(super) use door::{Door, Fence};

/// A request that was read by Slack takes effect at most so long after its connection ended: Slack's own time, which a
/// read-back has to wait for.
const LATE_MS_MAX: u64 = 4_000;

/// How much goes wrong in this world, each in a hundred. Most worlds have some kinds of trouble and not others: where
/// everything goes wrong at once, little happens.
#[derive(Debug, Clone, Default)]
pub(super) struct Swarm {
    /// The connection is refused, or Slack says that it did nothing.
    pub(super) not_sent: u64,
    /// 429.
    pub(super) limited: u64,
    /// The connection ends without an answer.
    pub(super) lost: u64,
    /// An answer that is an error.
    pub(super) refused: u64,
    /// Reads that are refused for a missing scope.
    pub(super) blind: u64,
    /// Guests that take too long.
    pub(super) slow_guest: u64,
}

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lot {
    Answered,
    NotSent,
    Limited,
    Unavailable,
    Refused,
    Blind,
    /// The connection ends. Slack takes it up so much later, or never.
    Lost {
        late_ms: Option<u64>,
        status: bool,
    },
}

/// What was promised to somebody about a run, or told.
#[derive(Default)]
pub(super) struct Promised {
    /// Public events as they were told, by number.
    pub(super) events: BTreeMap<u64, Value>,
    /// Records of its log that were durable when something was acknowledged.
    pub(super) records: u64,
    /// How many records it had when its cancelling was acknowledged.
    pub(super) cancelled_at: Option<u64>,
    /// Its cancelling was acknowledged, at whatever time.
    pub(super) cancelled: bool,
    /// Its rollback was asked for, and that was acknowledged.
    pub(super) rollback: bool,
    /// Somebody said what became of something, or left it as it is: what stands at the end is theirs.
    pub(super) meddled: bool,
    pub(super) killed: bool,
    /// Somebody asks for more of it at this moment.
    pub(super) asking: u32,
    /// It was told to have ended, and nobody has asked for more since.
    pub(super) ended: Option<String>,
    /// Somebody has asked for something of it.
    pub(super) touched: bool,
    /// When it was seen, or known, to be open last.
    pub(super) open_ms: u64,
    /// When it ended first, and last, as it was told.
    pub(super) first_ended_ms: Option<u64>,
    pub(super) ended_ms: Option<u64>,
    /// It was to go on after its end.
    pub(super) again: bool,
    /// There is no such run any more.
    pub(super) gone: bool,
}

impl Promised {
    /// Whether all of it was told: of one that is gone, its end may not have been.
    pub(super) fn is_told_whole(&self) -> bool {
        let ends = ["run.completed", "run.faulted", "run.cancelled"];
        !self.gone || self.events.values().next_back().is_some_and(|last| ends.iter().any(|end| last["type"] == *end))
    }
}

/// Numbers for the table.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) runs: u64,
    pub(super) crashes: u64,
    /// Processes that were stopped while another took over.
    pub(super) stopped: u64,
    pub(super) drains: u64,
    pub(super) operations: u64,
    pub(super) cancels: u64,
    pub(super) records: u64,
    pub(super) requests: u64,
    pub(super) effects: u64,
    pub(super) unknown: u64,
    pub(super) blocked: u64,
    pub(super) forgotten: u64,
    pub(super) broken: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        let Self { runs, crashes, stopped, drains, operations, cancels, records, requests, effects, unknown, .. } =
            other;
        let Self { blocked, forgotten, broken, .. } = other;
        self.runs += runs;
        self.crashes += crashes;
        self.stopped += stopped;
        self.drains += drains;
        self.operations += operations;
        self.cancels += cancels;
        self.records += records;
        self.requests += requests;
        self.effects += effects;
        self.unknown += unknown;
        self.blocked += blocked;
        self.forgotten += forgotten;
        self.broken += broken;
    }

    /// As it is printed.
    pub(super) fn table(&self, seeds: u64, took: Duration) -> String {
        let lines = [
            ("seeds", seeds),
            ("runs", self.runs),
            ("crashes", self.crashes),
            ("hosts taken over", self.stopped),
            ("drains", self.drains),
            ("wishes of people", self.operations),
            ("cancels", self.cancels),
            ("batches of records", self.records),
            ("requests to Slack", self.requests),
            ("unknown outcomes", self.unknown),
            ("effects", self.effects),
            ("blocked runs", self.blocked),
            ("runs removed in time", self.forgotten),
            ("broken promises", self.broken),
            ("seconds", took.as_secs()),
        ];
        lines.iter().map(|(name, number)| format!("{name:<20} {number:>10}\n")).collect()
    }
}

/// An intent that can be seen on the disk.
#[derive(Debug, Clone)]
struct SeenIntent {
    hash: String,
    connection: String,
    undoes: bool,
    used: bool,
}

#[derive(Default)]
struct Seen {
    next: u64,
    open: BTreeMap<String, SeenIntent>,
    blocked: bool,
}

impl Seen {
    fn note(&mut self, entry: Entry) {
        match entry {
            Entry::Intent { key, attempt, ordinal, hash, connection, .. } => {
                let undoes = key.contains("/undo#");
                let connection = connection.unwrap_or_default();
                let intent = SeenIntent { hash: hash.to_string(), connection, undoes, used: false };
                self.open.insert(format!("{key} {attempt} {ordinal}"), intent);
            }
            Entry::Outcome { key, attempt, ordinal, .. }
            | Entry::NotSent { key, attempt, ordinal, .. }
            | Entry::Resolved { key, attempt, ordinal, .. } => {
                self.open.remove(&format!("{key} {attempt} {ordinal}"));
            }
            _ => {}
        }
    }
}

pub(super) struct State {
    pub(super) slack: Slack,
    /// Requests that Slack has read and takes up at that time, though nobody listens for the answer.
    late: Vec<(u64, &'static str, Value)>,
    /// Requests that Slack has not taken up yet, and in how many milliseconds it still does if the connection ends.
    on_their_way: BTreeMap<u64, (&'static str, Value, Option<u64>)>,
    /// Until when Slack wants to hear nothing of a method and channel, as said in this life.
    closed: BTreeMap<String, (u64, u64)>,
    /// The log in which intents are, where that is not the store.
    pub(super) log: Option<Arc<Replay>>,
    /// What the connection lacks now, and when it was put right.
    pub(super) lack: Option<Lack>,
    pub(super) remedied_ms: Option<u64>,
    /// Somebody has set the machine's clock.
    pub(super) clock_set: bool,
    /// How often each request was made.
    times: BTreeMap<String, u64>,
    seen: BTreeMap<RunId, Seen>,
    pub(super) promised: BTreeMap<RunId, Promised>,
    pub(super) inputs: BTreeMap<(String, String), String>,
    pub(super) ended_guests: Vec<GuestSpan>,
    pub(super) counts: Counts,
    pub(super) breaks: Vec<String>,
    pub(super) trace: Vec<String>,
    /// Nothing goes wrong any more.
    pub(super) calm: bool,
    pub(super) life: u32,
}

impl State {
    /// A process starts. How long Slack wants to be left alone was written down by the one before, if it came to that:
    /// for those it has to be.
    pub(super) fn begin_life(&mut self, written_down: &BTreeMap<String, u64>) {
        self.life += 1;
        for (bucket, (_, until)) in &mut self.closed {
            // What is there may be what Slack wanted before it wanted more.
            *until = (*until).min(written_down.get(bucket).copied().unwrap_or_default());
        }
        for promised in self.promised.values_mut().filter(|promised| promised.asking > 0) {
            // Nobody heard what came of it.
            (promised.asking, promised.ended) = (0, None);
        }
    }
}

/// From when to when a guest was at work on an execution.
#[derive(Debug, Clone)]
pub(super) struct GuestSpan {
    pub(super) run: String,
    pub(super) task: String,
    pub(super) began_ms: u64,
    pub(super) ended_ms: Option<u64>,
}

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) swarm: Swarm,
    pub(super) time: Time,
    state: Mutex<State>,
}

impl World {
    pub(super) fn new(seed: u64, swarm: Swarm) -> Self {
        let state = State {
            slack: Slack::new(seed),
            late: Vec::new(),
            on_their_way: BTreeMap::new(),
            closed: BTreeMap::new(),
            log: None,
            lack: None,
            remedied_ms: None,
            clock_set: false,
            times: BTreeMap::new(),
            seen: BTreeMap::new(),
            promised: BTreeMap::new(),
            inputs: BTreeMap::new(),
            ended_guests: Vec::new(),
            counts: Counts::default(),
            breaks: Vec::new(),
            trace: Vec::new(),
            calm: false,
            life: 0,
        };
        Self { seed, swarm, time: Time::new(), state: Mutex::new(state) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Something happened.
    pub(super) fn say(&self, what: impl Into<String>) {
        let (ms, what) = (self.time.passed_ms(), what.into());
        let mut state = self.lock();
        let life = state.life;
        state.trace.push(format!("{:>9}.{:03} life {life}  {what}", ms / 1_000, ms % 1_000));
    }

    /// A promise was broken.
    pub(super) fn broken(&self, what: impl Into<String>) {
        let what = what.into();
        self.say(format!("BROKEN: {what}"));
        let mut state = self.lock();
        state.counts.broken += 1;
        state.breaks.push(what);
    }

    /// What Slack had read and takes up by now.
    pub(super) fn take_up_late(&self) {
        let now = self.time.true_ms();
        let mut done = Vec::new();
        {
            let mut state = self.lock();
            state.late.sort_by_key(|(at, ..)| *at);
            while state.late.first().is_some_and(|(at, ..)| *at <= now) {
                let (at, method, arguments) = state.late.remove(0);
                let _nobody_listens = state.slack.carry_out(method, &arguments, at);
                done.push(format!("slack took up {method} late"));
            }
        }
        for what in done {
            self.say(what);
        }
    }

    fn lot(&self, method: &Method, arguments: &Value) -> (Lot, Dice) {
        let mut state = self.lock();
        // Whose call it is says its stamp: it has the same lot in whichever run, life and process it is made.
        let mut asked = arguments.clone();
        if let Some(fields) = asked.as_object_mut() {
            fields.remove("metadata");
        }
        let what = format!("{} {asked}", method.name);
        let times = state.times.entry(what.clone()).or_insert(0);
        *times += 1;
        let mut dice = Dice::of(self.seed, format!("{what} {times}"));
        if state.calm {
            return (Lot::Answered, dice);
        }
        let swarm = &self.swarm;
        let lot = if dice.chance(swarm.not_sent) {
            *dice.pick(&[Lot::NotSent, Lot::Unavailable])
        } else if dice.chance(swarm.limited) {
            Lot::Limited
        } else if dice.chance(swarm.lost) {
            let late_ms = dice.chance(60).then(|| if dice.chance(50) { 0 } else { dice.below(LATE_MS_MAX) });
            Lot::Lost { late_ms, status: dice.chance(30) }
        } else if !method.writes && dice.chance(swarm.blind) {
            Lot::Blind
        } else if method.writes && dice.chance(swarm.refused) {
            Lot::Refused
        } else {
            Lot::Answered
        };
        (lot, dice)
    }

    /// A request leaves the process: what it depends on must be on the disk by now.
    fn leaves(&self, method: &Method, arguments: &Value, store: &Dying) {
        self.take_up_late();
        let early = {
            let mut state = self.lock();
            state.counts.requests += 1;
            let (from, until) = state.closed.get(&bucket(method, arguments)).copied().unwrap_or_default();
            // What had its turn already and waits for the disk still goes out.
            let now = self.time.true_ms();
            // Nor does one hear what Slack said to the other that has taken over.
            !state.clock_set && !store.is_fenced() && from + 50 < now && now < until
        };
        if early {
            self.broken(format!("{} left before Slack wanted to hear of it again", method.name));
        }
        let shown =
            ["text", "users", "user", "ts"].iter().find_map(|name| arguments[*name].as_str()).unwrap_or_default();
        self.say(format!("-> {} {shown}", method.name));
        if !method.writes {
            return;
        }
        let stamp = arguments.pointer("/metadata/event_payload/bellhop").and_then(Value::as_str);
        if stamp.is_some_and(|stamp| stamp.starts_with("notice/")) {
            return;
        }
        // With the clock gone forward, what is known of the connection is old, and nobody is refused for it.
        let lacks = {
            let state = self.lock();
            state.lack.is_some() && !state.clock_set
        };
        if lacks {
            return self.broken(format!("{} left, and the connection may not do that yet", method.name));
        }
        let mut asked = arguments.clone();
        if let Some(fields) = asked.as_object_mut() {
            fields.remove("metadata");
        }
        let hash_on =
            |connection: &str| Digest::of(format!("{} {connection}\n{asked}", method.function).as_bytes()).to_string();
        let log = self.lock().log.clone();
        if let Some(log) = log {
            let mut open = BTreeMap::new();
            for line in log.lines() {
                match line {
                    Line::Intent(key, intent) => drop(open.insert(key, intent)),
                    Line::Ended(key, _) => drop(open.remove(&key)),
                    Line::NotSent(key, _) => drop(open.remove(&key)),
                    Line::Decision(..) | Line::Slice(..) => {}
                }
            }
            if !open.values().any(|open| open.hash == hash_on(&open.connection)) {
                self.broken(format!("{} {asked} left, and its intent is not in the log", method.name));
            }
            return;
        }
        self.see(store);
        let mut state = self.lock();
        let mut found = None;
        for (run, seen) in &mut state.seen {
            if stamp.is_some_and(|stamp| !stamp.starts_with(&run.to_string())) {
                continue;
            }
            let is_it = |intent: &&mut SeenIntent| intent.hash == hash_on(&intent.connection) && !intent.used;
            if let Some(intent) = seen.open.values_mut().find(is_it) {
                intent.used = true;
                found = Some((*run, intent.undoes, seen.blocked));
                break;
            }
        }
        let Some((run, undoes, blocked)) = found else {
            drop(state);
            return self.broken(format!("{} {asked} left, and no intent of its own is on the disk", method.name));
        };
        let promised = state.promised.get(&run);
        let cancelled = promised.and_then(|p| p.cancelled_at).filter(|_| !undoes);
        drop(state);
        if blocked {
            self.broken(format!("{run} is blocked, and sent {}", method.name));
        }
        if let Some(records) = cancelled {
            // What had its intent when the cancelling was acknowledged may still go out.
            let journal = Journal::checked(Arc::new(store.left(0)));
            let later = at_once(journal.entries(run, records, 1_000)).unwrap();
            let begun = later.iter().any(|(_, e)| matches!(e, Entry::Intent { key, hash, connection, .. } if hash.to_string() == hash_on(connection.as_deref().unwrap_or_default()) && !key.contains("/undo#")));
            if begun {
                self.broken(format!("{run} began {} after its cancelling was acknowledged", method.name));
            }
        }
    }

    /// Reads what has come to the disk since.
    fn see(&self, store: &Dying) {
        let journal = Journal::checked(Arc::new(store.left(0)));
        let runs = at_once(journal.runs(None, 200)).unwrap().items;
        let mut state = self.lock();
        for (run, summary) in runs {
            let seen = state.seen.entry(run).or_default();
            seen.blocked = summary.is_ok_and(|summary| summary.status == Status::Blocked);
            // A page may end before the log does.
            loop {
                let page = at_once(journal.entries(run, seen.next, 4_000)).unwrap();
                if page.is_empty() {
                    break;
                }
                for (seq, entry) in page {
                    seen.next = seq + 1;
                    seen.note(entry);
                }
            }
        }
    }
}

/// What Slack counts together.
fn bucket(method: &Method, arguments: &Value) -> String {
    let channel = if method.name == "chat.postMessage" { arguments["channel"].as_str() } else { None };
    format!("{} {}", method.name, channel.unwrap_or_default())
}

fn answer(body: Result<Value, &str>) -> Answer {
    let (ok, error, body) = match body {
        Ok(body) => (true, None, body),
        Err(error) => (false, Some(error.to_owned()), serde_json::json!({"ok": false, "error": error})),
    };
    Answer { status: 200, ok, error, bytes: 1, body, needed: None, provided: None, scopes: None, request_id: None }
}

/// The catalog lives as long as the program.
fn name_of(method: &Method) -> &'static str {
    bellhop_slack::catalog::Catalog::built_in().by_name(&method.name).map_or("", |m| m.name.as_str())
}

/// Names for the trace: short, and the same in every life.
pub(super) fn short(run: RunId) -> String {
    let text = run.to_string();
    text[text.len().saturating_sub(4)..].to_owned()
}
