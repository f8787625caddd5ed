//! What one process knows of one run's log: where its end is, which calls are open, and where the ends of calls stand.
//!
//! It is read from the latest snapshot and what came after it, so that waking a run costs the snapshot and not the
//! history. What lies before the snapshot is known as far as the actions that were open then need it; an action that
//! is tried anew asks for the rest ([`Log::recall`]).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bellhop_core::id::RunId;
use bellhop_core::requirement::TokenKind;
use bellhop_core::run::{ExecutionKey, Facts, Reserve, State};
use bellhop_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::{Attempted, CallKey, How, Intent};
use bellhop_journal::{self as journal, Content, Entry, Instead, Journal, Json, Ticket};

/// Entries read at once.
const PAGE: usize = 1_000;

/// See the module.
pub(super) struct Log {
    /// The number of the next entry.
    pub(super) seq: u64,
    pub(super) bytes: u64,
    pub(super) last: Ticket,
    /// Where the ends of calls stand in the log. In the order of the calls, so that those of an attempt are a range.
    pub(super) ends: BTreeMap<CallKey, u64>,
    /// Where the ends of slices stand.
    pub(super) slices: HashMap<CallKey, u64>,
    /// Intents without an end.
    pub(super) open: BTreeMap<CallKey, Intent>,
    /// Decisions that were read and are still to be folded.
    pub(super) decisions: BTreeMap<u64, u64>,
    /// The timer in the store, and the one that is wanted.
    pub(super) timer: (Option<Timestamp>, Option<Timestamp>),
    /// The state's events at the last snapshot.
    pub(super) snapshot_events: u64,
    /// The run's bytes from which on another is worth its own.
    pub(super) snapshot_due_bytes: u64,
    /// The run's bytes from which on a slice leaves a snapshot.
    pub(super) checkpoint_due_bytes: u64,
    /// What is kept for ending the run.
    pub(super) reserve: Reserve,
    /// Whether the run is on its way to an end that is decided.
    pub(super) is_ending: bool,
    pub(super) summary: journal::Summary,
    /// What somebody asks of the run, until it is decided: kept with the decision, and not at all where there is none.
    pub(super) asked: Option<Asked>,
    /// What the run depends on from the next decision on: kept with it.
    pub(super) pins_next: Option<Json>,
    /// The executions whose call waits for a person.
    pub(super) parked: HashSet<ExecutionKey>,
    /// The group of which the run is a member.
    pub(super) group: Option<String>,
    /// What a start has to do for the run, as its mark says.
    pub(super) rest: journal::Rest,
    /// Of the first so many entries only what the snapshot says is known.
    pub(super) unread: u64,
    /// What attempts at executions have on record as done. Slices take nothing away from it.
    attempted: BTreeMap<(ExecutionKey, u32), Attempted>,
    /// When that was known of calls without an end which had been open and did nothing that counts.
    reopened: BTreeMap<CallKey, Timestamp>,
    /// By which other token calls without an end go out, that were refused before.
    instead: BTreeMap<CallKey, Instead>,
    /// The summary says as whom something was called that the stored one does not say yet.
    pub(super) called_anew: bool,
}

/// See [`Log::asked`].
#[derive(Clone)]
pub(super) struct Asked {
    /// What, in words that follow "asked".
    pub(super) text: &'static str,
    /// Who.
    pub(super) by: String,
    /// Whether it is the run's end.
    pub(super) ends: bool,
}

/// A call as it is kept: the execution, the attempt, the ordinal.
type Call = (String, u32, u32);

/// What a snapshot keeps of the log before it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    bytes: u64,
    decisions: u64,
    open: Vec<(Call, Intent)>,
    ends: Vec<(Call, u64)>,
    slices: Vec<(Call, u64)>,
    attempted: Vec<(String, u32, Attempted)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    reopened: Vec<(Call, Timestamp)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    instead: Vec<(Call, Instead)>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    called_as: BTreeMap<TokenKind, BTreeSet<String>>,
}

/// A log that was read, and the state from which it is to be folded on.
pub(super) struct Read {
    pub(super) log: Log,
    pub(super) state: State,
    /// How many decisions are in the state.
    pub(super) decisions: u64,
}

/// The first entries of a log, read for what the snapshot does not say of them.
pub(super) struct Before {
    log: Log,
    /// How many.
    until: u64,
}

impl Before {
    /// The first `until` entries.
    pub(super) async fn read(
        journal: &Journal,
        run: RunId,
        summary: journal::Summary,
        until: u64,
    ) -> Result<Self, journal::Error> {
        let mut log = Log::new(summary, journal.tip());
        let mut number = 0;
        while log.seq < until {
            let room = usize::try_from(until - log.seq).unwrap_or(PAGE).min(PAGE);
            let page = journal.entries(run, log.seq, room).await?;
            if page.is_empty() {
                break;
            }
            for (seq, entry) in page {
                log.seq = seq + 1;
                log.note(seq, &entry, &mut number);
            }
        }
        Ok(Self { log, until })
    }
}

fn kept(call: &CallKey) -> Call {
    (call.execution.to_string(), call.attempt, call.ordinal)
}

fn call_of(execution: &str, attempt: u32, ordinal: u32) -> Option<CallKey> {
    execution.parse().ok().map(|execution| CallKey { execution, attempt, ordinal })
}

impl Log {
    /// Of a run of which nothing is known.
    pub(super) fn new(summary: journal::Summary, last: Ticket) -> Self {
        Self {
            seq: 0,
            bytes: 0,
            last,
            ends: BTreeMap::new(),
            slices: HashMap::new(),
            open: BTreeMap::new(),
            decisions: BTreeMap::new(),
            timer: (None, None),
            snapshot_events: 0,
            snapshot_due_bytes: 0,
            checkpoint_due_bytes: 0,
            reserve: Reserve::default(),
            is_ending: false,
            summary,
            asked: None,
            pins_next: None,
            parked: HashSet::new(),
            group: None,
            rest: journal::Rest::No,
            unread: 0,
            attempted: BTreeMap::new(),
            reopened: BTreeMap::new(),
            instead: BTreeMap::new(),
            called_anew: false,
        }
    }

    /// From the latest snapshot on.
    pub(super) async fn read(
        journal: &Journal,
        run: RunId,
        summary: journal::Summary,
        facts: &Arc<Facts>,
    ) -> Result<Read, journal::Error> {
        let Some((kept, state)) = snapshot(journal, run, facts).await? else {
            return Self::read_whole(journal, run, summary, facts).await;
        };
        let index = kept.log.and_then(|log| log.read::<Index>().ok());
        let Some(index) = index else {
            // An earlier version's: the state saves folding, not reading.
            let mut read = Self::read_whole(journal, run, summary, facts).await?;
            read.decisions = read.log.decisions.values().filter(|seq| **seq < kept.seq).count() as u64;
            read.log.snapshot_events = state.events;
            read.state = state;
            return Ok(read);
        };
        let mut log = Self::new(summary, journal.tip());
        (log.seq, log.unread, log.bytes, log.snapshot_events) = (kept.seq, kept.seq, index.bytes, state.events);
        let place =
            |((execution, attempt, ordinal), seq): (Call, u64)| Some((call_of(&execution, attempt, ordinal)?, seq));
        log.ends = index.ends.into_iter().filter_map(place).collect();
        log.slices = index.slices.into_iter().filter_map(place).collect();
        let attempted = index.attempted.into_iter();
        log.attempted = attempted.filter_map(|(e, attempt, did)| Some(((e.parse().ok()?, attempt), did))).collect();
        let reopened = index.reopened.into_iter();
        log.reopened =
            reopened.filter_map(|((e, attempt, ordinal), at)| Some((call_of(&e, attempt, ordinal)?, at))).collect();
        let instead = index.instead.into_iter();
        log.instead = instead
            .filter_map(|((e, attempt, ordinal), instead)| Some((call_of(&e, attempt, ordinal)?, instead)))
            .collect();
        let open = index.open.into_iter();
        log.open =
            open.filter_map(|((e, attempt, ordinal), intent)| Some((call_of(&e, attempt, ordinal)?, intent))).collect();
        for (token, functions) in index.called_as {
            functions.iter().for_each(|function| log.goes_out(Some(token), Some(function.as_str())));
        }
        let decisions = index.decisions;
        log.read_on(journal, run, decisions).await?;
        Ok(Read { log, state, decisions })
    }

    /// From the first entry on, whatever snapshot there is.
    pub(super) async fn read_whole(
        journal: &Journal,
        run: RunId,
        summary: journal::Summary,
        facts: &Arc<Facts>,
    ) -> Result<Read, journal::Error> {
        let mut log = Self::new(summary, journal.tip());
        log.read_on(journal, run, 0).await?;
        Ok(Read { log, state: State::new(facts.clone()), decisions: 0 })
    }

    /// Reads what comes next, to the end; `number` is that of the next decision.
    async fn read_on(&mut self, journal: &Journal, run: RunId, mut number: u64) -> Result<(), journal::Error> {
        loop {
            let page = journal.entries(run, self.seq, PAGE).await?;
            if page.is_empty() {
                return Ok(());
            }
            for (seq, entry) in page {
                self.seq = seq + 1;
                self.note(seq, &entry, &mut number);
            }
        }
    }

    /// Learns where the calls of earlier attempts ended, which the snapshot does not say. False where more is unknown by
    /// now than was read.
    pub(super) fn recall(&mut self, before: Before) -> bool {
        let Before { log: before, until } = before;
        for (call, seq) in before.ends {
            self.ends.entry(call).or_insert(seq);
        }
        for (call, seq) in before.slices {
            self.slices.entry(call).or_insert(seq);
        }
        for ((execution, attempt), did) in before.attempted {
            self.did(&execution, attempt, did);
        }
        if self.unread > until {
            return false;
        }
        self.unread = 0;
        true
    }

    /// An attempt at an execution has this on record, too.
    fn did(&mut self, execution: &ExecutionKey, attempt: u32, did: Attempted) {
        if did != Attempted::default() {
            let all = self.attempted.entry((execution.clone(), attempt)).or_default();
            *all = all.and(did);
        }
    }

    /// The call has its end, in the entry `seq`.
    pub(super) fn end(&mut self, call: CallKey, seq: u64, entry: &Entry) {
        self.open.remove(&call);
        self.reopened.remove(&call);
        self.instead.remove(&call);
        self.did(&call.execution, call.attempt, done_by(entry));
        self.ends.insert(call, seq);
    }

    /// The call has no end: it was not carried out, or perhaps it was and is repeated, as was known `at` that time.
    pub(super) fn reopen(&mut self, call: &CallKey, repeats: bool, at: Timestamp) {
        self.open.remove(call);
        self.reopened.insert(call.clone(), at);
        self.did(&call.execution, call.attempt, Attempted { repeated: repeats, ..Attempted::default() });
    }

    /// The call was refused to one token, and goes out by this other one until it has an end.
    pub(super) fn goes_on_by(&mut self, call: &CallKey, instead: Option<&Instead>) {
        if let Some(instead) = instead {
            self.instead.insert(call.clone(), instead.clone());
        }
    }

    /// See [`super::super::Execution::instead`].
    pub(super) fn instead(&self, call: &CallKey) -> Option<Instead> {
        self.instead.get(call).cloned()
    }

    /// See [`super::super::Execution::reopened_at`].
    pub(super) fn reopened_at(&self, call: &CallKey) -> Option<Timestamp> {
        self.reopened.get(call).copied()
    }

    /// See [`super::super::Execution::has_repeated`].
    pub(super) fn has_repeated(&self, execution: &ExecutionKey, attempt: u32) -> bool {
        let attempts = (execution.clone(), 0)..=(execution.clone(), attempt);
        self.attempted.range(attempts).any(|(_, did)| did.repeated)
    }

    /// See [`super::super::Execution::attempted`].
    pub(super) fn attempted(&self, execution: &ExecutionKey, attempt: u32) -> Attempted {
        self.attempted.get(&(execution.clone(), attempt)).copied().unwrap_or_default()
    }

    /// See [`super::super::Execution::calls`].
    pub(super) fn calls(&self, execution: &ExecutionKey, attempt: u32) -> Vec<u32> {
        let of = |ordinal| CallKey { execution: execution.clone(), attempt, ordinal };
        let range = of(0)..=of(u32::MAX);
        let ended = self.ends.range(range.clone()).map(|(call, _)| call.ordinal);
        let mut found: Vec<u32> = ended.chain(self.open.range(range).map(|(call, _)| call.ordinal)).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// What was sent at that time, if it is in doubt still: nobody has said what became of it, and nobody is finding out.
    pub(super) fn doubts(&self, call: &CallKey, sent_at: Timestamp) -> Option<&Intent> {
        let intent = self.open.get(call).filter(|intent| intent.at == sent_at)?;
        self.parked.contains(&call.execution).then_some(intent)
    }

    /// Forgets where the ends of these calls stand; [`Self::recall`] finds them again.
    pub(super) fn leave_behind(&mut self, execution: &ExecutionKey, attempt: u32, first: u32) {
        self.ends.retain(|call, _| call.execution != *execution || call.attempt != attempt || call.ordinal >= first);
        self.unread = self.seq;
    }

    /// What a snapshot of `state` keeps of the log: what its open actions may be asked for, and how much came before.
    pub(super) fn index(&self, state: &State, decisions: u64) -> Option<Json> {
        let executions: HashSet<&ExecutionKey> = state.calls().map(|(_, call)| &call.key).collect();
        let sorted = |mut places: Vec<(Call, u64)>| {
            places.sort();
            places
        };
        let is_open = |(call, seq): (&CallKey, &u64)| executions.contains(&call.execution).then(|| (kept(call), *seq));
        let index = Index {
            bytes: self.bytes,
            decisions,
            open: self.open.iter().map(|(call, intent)| (kept(call), intent.clone())).collect(),
            ends: sorted(self.ends.iter().filter_map(is_open).collect()),
            slices: sorted(self.slices.iter().filter_map(is_open).collect()),
            attempted: self
                .attempted
                .iter()
                // That a write was repeated is asked for over attempts, whatever is open now.
                .filter(|((execution, _), did)| did.repeated || executions.contains(execution))
                .map(|((execution, attempt), did)| (execution.to_string(), *attempt, *did))
                .collect(),
            reopened: self
                .reopened
                .iter()
                .filter(|(call, _)| executions.contains(&call.execution))
                .map(|(call, at)| (kept(call), *at))
                .collect(),
            instead: self
                .instead
                .iter()
                .filter(|(call, _)| executions.contains(&call.execution))
                .map(|(call, instead)| (kept(call), instead.clone()))
                .collect(),
            called_as: self.summary.called_as.clone(),
        };
        // Without it the entries are read.
        Json::of(&index).ok()
    }

    /// Takes note of as whom a call goes out.
    pub(super) fn goes_out(&mut self, token: Option<TokenKind>, function: Option<&str>) {
        let (Some(token), Some(function)) = (token, function) else { return };
        let functions = self.summary.called_as.entry(token).or_default();
        if !functions.contains(function) {
            functions.insert(function.to_owned());
            self.called_anew = true;
        }
    }

    /// Takes note of an entry that was read.
    fn note(&mut self, seq: u64, entry: &Entry, decisions: &mut u64) {
        self.bytes += weight(entry);
        match entry {
            Entry::Intent { token, function, .. } => self.goes_out(*token, Some(function)),
            Entry::Read { token, function, .. } => self.goes_out(*token, function.as_deref()),
            _ => {}
        }
        match entry {
            Entry::Decision { .. } => {
                self.decisions.insert(*decisions, seq);
                *decisions += 1;
            }
            Entry::Intent { key, attempt, ordinal, hash, at, function, connection, token } => {
                if let Some(call) = call_of(key, *attempt, *ordinal) {
                    let intent = Intent {
                        hash: hash.to_string(),
                        at: *at,
                        function: function.clone(),
                        connection: connection.clone().unwrap_or_default(),
                        token: *token,
                    };
                    self.open.insert(call, intent);
                }
            }
            Entry::Outcome { key, attempt, ordinal, .. } | Entry::Read { key, attempt, ordinal, .. } => {
                if let Some(call) = call_of(key, *attempt, *ordinal) {
                    self.end(call, seq, entry);
                }
            }
            Entry::NotSent { key, attempt, ordinal, repeats, at, instead, .. } => {
                if let Some(call) = call_of(key, *attempt, *ordinal) {
                    self.reopen(&call, *repeats, *at);
                    self.goes_on_by(&call, instead.as_ref());
                }
            }
            Entry::Resolved { key, attempt, ordinal, how, at, .. } => {
                if let Some(call) = call_of(key, *attempt, *ordinal) {
                    match how {
                        journal::Resolution::Done(_) => self.end(call, seq, entry),
                        journal::Resolution::NotDone => self.reopen(&call, false, *at),
                    }
                }
            }
            Entry::Slice { key, attempt, .. } => {
                if let Some(mut call) = call_of(key, *attempt, 0) {
                    while self.slices.contains_key(&call) {
                        call.ordinal += 1;
                    }
                    self.slices.insert(call, seq);
                }
            }
            Entry::Accepted { .. } | Entry::Pinned { .. } | Entry::Note { .. } => {}
        }
    }
}

/// What the end of a call says that its attempt did.
fn done_by(entry: &Entry) -> Attempted {
    let (ok, how) = match entry {
        Entry::Outcome { answer: journal::Answer::Ok(_), how, .. } => (true, How::from_kept(how)),
        // A read that is an earlier attempt's write.
        Entry::Read { answer: journal::Answer::Ok(_), how, .. } => {
            let how = How::from_kept(how).filter(|how| how.is_reused());
            (how.is_some(), how)
        }
        Entry::Resolved { how: journal::Resolution::Done(journal::Answer::Ok(_)), .. } => (true, Some(How::Found)),
        _ => (false, None),
    };
    if ok { Attempted::by_write(how.unwrap_or(How::Sent)) } else { Attempted::default() }
}

/// The latest snapshot that this version can read. A snapshot only saves work: any other is passed over, since the log
/// tells the same.
async fn snapshot(
    journal: &Journal,
    run: RunId,
    facts: &Arc<Facts>,
) -> Result<Option<(journal::Snapshot, State)>, journal::Error> {
    let passed_over = |error: journal::Error| {
        tracing::warn!(%run, %error, "a snapshot cannot be read");
        if error.is_fatal() { Err(error) } else { Ok(None) }
    };
    let kept = match journal.snapshot(run).await {
        Ok(Some(kept)) => kept,
        Ok(None) => return Ok(None),
        Err(error) => return passed_over(error),
    };
    let state = kept.state.read::<State>().ok().and_then(|state| state.restore(facts.clone()).ok());
    Ok(state.map(|state| (kept, state)))
}

/// About what an entry takes on the disk. The store knows better; this is for a limit.
pub(super) fn weight(entry: &Entry) -> u64 {
    match entry {
        Entry::Decision { events } => events.iter().map(Content::bytes).sum::<u64>() + 64,
        Entry::Outcome { answer, .. } | Entry::Read { answer, .. } => match answer {
            journal::Answer::Ok(content) | journal::Answer::Err(content) => content.bytes() + 256,
        },
        _ => 256,
    }
}
