//! The same run over both execution ports: over the journal of a process, and over an engine that only replays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bellhop_core::run::{Cause, Command, FrameId, Notice, State, Status, pending};
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::watch;

use super::dice::Dice;
use super::life::{Left, Process, live};
use super::slack::Fact;
use super::story::Story;
use super::world::World;
use crate::call::Caller;
use crate::drive::driver;
use crate::execution::invoker::{CallFuture, Invoker, Wish};
use crate::execution::replay::{Death, Line, Replay};
use crate::execution::{self, Signal};
use crate::owners::keyed_lock::Change;
use crate::waiting::Activity;
use bellhop_journal::memory::Memory;
use bellhop_limits::Limits;

/// How often a person helps.
const HELPS_MAX: u32 = 40;

/// After what time somebody looks.
const PATIENCE: Duration = Duration::from_secs(100_000);

/// What came of a run.
#[derive(Debug, Clone, PartialEq)]
struct Came {
    status: Option<Status>,
    /// What Slack did, in no order.
    facts: Vec<String>,
    lines: usize,
    /// For what it waits, if it did not end.
    waits: String,
    /// Slack refused something that it had no reason to refuse. Which request that meets depends on how many there were,
    /// and over a log there are others: nobody puts an action down there.
    blind: bool,
}

/// The real callers of actions, whose notices and keys are those of the engine.
struct Replayed {
    caller: Caller<Replay>,
}

fn signal(cause: Cause) -> Signal {
    Signal::of(cause)
}

impl Invoker for Replayed {
    fn invoke(&self, frame: FrameId, call: bellhop_core::run::Calling, wish: watch::Receiver<Wish>) -> CallFuture {
        self.caller.invoke(frame, call, wish)
    }

    fn keys_at_end(&self) -> Vec<Change> {
        self.caller.keys_at_end()
    }

    fn changed(&self, keys: &[Change]) {
        self.caller.changed(keys);
    }

    fn notify(&self, notice: Notice, again: bool) -> BoxFuture<'static, Result<(), execution::Error>> {
        self.caller.notify(notice, again)
    }
}

fn came(world: &World, status: Option<Status>, lines: usize) -> Came {
    world.take_up_late();
    let state = world.lock();
    let changed = state.slack.ledger.iter().filter(|line| line.changed);
    let mut facts: Vec<String> = changed
        .map(|line| match &line.fact {
            Fact::Message { channel, text, .. } => format!("message {channel} {text}"),
            Fact::Deleted { .. } => "deleted".to_owned(),
            other => format!("{other:?}"),
        })
        .filter(|fact| !fact.contains("C0FAULTS"))
        .collect();
    facts.sort();
    let blind = state.trace.iter().any(|line| line.ends_with(": Blind"));
    Came { status, facts, lines, waits: String::new(), blind }
}

/// Only the first definition and nobody who asks for anything: what is left can be compared.
fn story(seed: u64) -> (Arc<Story>, Arc<World>) {
    let story = Story::of(seed);
    let world = World::new(seed, story.swarm.clone());
    (Arc::new(story), Arc::new(world))
}

/// Over the journal.
fn local(seed: u64) -> (Came, Vec<String>) {
    let (story, world) = story(seed);
    let result = Arc::new(std::sync::Mutex::new(None));
    let (kept, limits) = (result.clone(), story.limits.clone());
    live(&world, Memory::manual(), &limits, None, |process| async move {
        story.apply(&process).await;
        process.engine.start().await.unwrap();
        let run = process.engine.trigger(story.first_order()).await.unwrap().run;
        for help in 0..HELPS_MAX {
            let limit = process.engine.services.clock.sleep(PATIENCE);
            let view = process.engine.wait(run, limit).await.unwrap().unwrap();
            if view.status.is_final() || help + 1 == HELPS_MAX {
                *kept.lock().unwrap() = Some(view.status);
                break;
            }
            process.world.lock().calm = true;
            let _told = process.engine.signal(run, Cause::Retry).await;
        }
        Left::Over
    });
    let status = *result.lock().unwrap();
    let came = came(&world, status, 0);
    let mut state = world.lock();
    (came, std::mem::take(&mut state.breaks))
}

/// Over a log that is replayed, in a process that dies where it is said.
fn replayed(seed: u64, mut deaths: Vec<Death>) -> (Came, Vec<String>) {
    let (story, world) = story(seed);
    // Accepted as ever, and carried by nobody: the other port does that.
    let limits = Limits { live_runs_max: 0, ..story.limits.clone() };
    let log: Arc<std::sync::Mutex<Kept>> = Arc::default();
    let mut memory = Memory::manual();
    for _ in 0..10 {
        let (kept, story, death) = (log.clone(), story.clone(), deaths.pop());
        let (left_behind, left) =
            live(&world, memory, &limits, None, |process| async move { carry(process, &story, &kept, death).await });
        memory = left_behind;
        if left == Left::Over {
            break;
        }
    }
    let Kept { lines, status, waits } = std::mem::take(&mut *log.lock().unwrap());
    let came = Came { waits, ..came(&world, status, lines.len()) };
    let mut state = world.lock();
    (came, std::mem::take(&mut state.breaks))
}

/// What outlives a process that replays, and how its run stood.
#[derive(Default)]
struct Kept {
    lines: Vec<Line>,
    status: Option<Status>,
    waits: String,
}

async fn carry(process: Process, story: &Story, log: &std::sync::Mutex<Kept>, death: Option<Death>) -> Left {
    let Process { world, engine, .. } = &process;
    story.apply(&process).await;
    let run = match engine.services.journal.runs(None, 1).await.unwrap().items.first() {
        Some((run, _)) => *run,
        None => engine.trigger(story.first_order()).await.unwrap().run,
    };
    // A log that is replayed has no place for the rows of owners: a key is taken anew by whoever comes first.
    engine.services.partition.keys.changed(&engine.services.partition.keys.held_by(run));
    let summary = engine.summary(run).await.unwrap().unwrap();
    let (opening, _inbox) = engine.opening(run, summary);
    let loaded = engine.load(run, opening).await.unwrap();
    let facts = loaded.state.facts().clone();
    let (port, inbox) = Replay::over(log.lock().unwrap().lines.clone(), engine.services.clock.now());
    let port = Arc::new(port.by(engine.services.clock.clone()));
    if let Some(death) = death {
        port.die_at(death);
    }
    world.lock().log = Some(port.clone());
    let caller = Caller {
        services: engine.services.clone(),
        port: port.clone(),
        facts: facts.clone(),
        grants: Arc::new(loaded.granted),
        guests: loaded.guests,
        spans: crate::traces::Spans::default(),
        activity: Activity::new(engine.services.clone(), run),
    };
    let invoker = Replayed { caller };
    let mut state = State::new(facts);
    let mut decisions = driver::fold(port.as_ref(), &mut state, 0).await.unwrap();
    let help = || {
        world.lock().calm = true;
        let _there = inbox.send(signal(Cause::Retry));
    };
    for _ in 0..HELPS_MAX {
        let driving = driver::drive(port.as_ref(), &invoker, &engine.services.deciding, state, decisions);
        tokio::pin!(driving);
        let mut helped = 0;
        let carried = loop {
            tokio::select! {
                biased;
                carried = &mut driving => break carried,
                () = engine.services.clock.sleep(PATIENCE) => {}
            }
            // Something is under way and comes to no end: it may wait for what a parked action of the same run holds.
            helped += 1;
            if helped > HELPS_MAX {
                log.lock().unwrap().status = None;
                return Left::Over;
            }
            help();
        };
        log.lock().unwrap().lines = port.lines();
        let Ok(carried) = carried else { return Left::Died };
        (state, decisions) = (carried.state, carried.decisions);
        log.lock().unwrap().status = Some(state.status());
        log.lock().unwrap().waits = format!("{:?}", state.waiting());
        if state.ended().is_some() {
            return Left::Over;
        }
        // An engine that only replays has no owner of groups.
        if pending(&state).iter().any(|command| matches!(command, Command::Admit { .. })) {
            let _there = inbox.send(signal(Cause::Admitted));
            continue;
        }
        if pending(&state).iter().any(|command| matches!(command, Command::Wake { .. })) {
            continue;
        }
        help();
    }
    Left::Over
}

/// Whether what happens depends on who is a millisecond earlier.
fn races(definition: &Value) -> bool {
    let text = definition.to_string();
    text.contains("\"timeout\"") || text.contains("\"compete\":true") || text.contains("wild.tell")
}

/// Whether several things are under way at once: where one of them fails, the others are stopped wherever they are.
fn is_together(definition: &Value) -> bool {
    let text = definition.to_string();
    text.contains("\"fork\"") || text.contains("\"concurrency\"")
}

/// Whether a run may complete though one of its tasks failed.
fn goes_on(definition: &Value) -> bool {
    let text = definition.to_string();
    text.contains("\"bestEffort\"") || text.contains("\"collect\"") || text.contains("\"try\"")
}

/// Deaths of a process that replays, anywhere in its log.
fn deaths(seed: u64, lines: usize) -> Vec<Death> {
    let mut dice = Dice::of(seed, "replay");
    let mut at: Vec<usize> =
        (0..dice.between(1, 3)).map(|_| usize::try_from(dice.below(lines as u64)).unwrap()).collect();
    // The last one is taken first.
    at.sort_unstable_by(|a, b| b.cmp(a));
    at.dedup();
    at.into_iter().map(|line| Death { line, kept: dice.chance(50) }).collect()
}

/// For whoever compares: by how many. Where a file allows that something is sent again, how often that happens depends on
/// what is read, and when.
fn count(facts: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for fact in facts {
        let times = counts.entry(fact.as_str()).or_insert(0);
        *times = if fact.contains("resend") || fact.contains("again") { 1 } else { *times + 1 };
    }
    counts
}

/// What was seen of one seed.
#[derive(Default)]
pub(super) struct Both {
    /// What should not be.
    pub(super) breaks: Vec<String>,
    pub(super) compared: bool,
    pub(super) deaths: usize,
}

/// Plays the run of a seed over both ports, and over the one that replays once more, with deaths.
pub(super) fn both(seed: u64) -> Both {
    let (by_replay, mut breaks) = replayed(seed, Vec::new());
    let definition = Story::of(seed).first_definition();
    let stopped = is_together(&definition) && (by_replay.status != Some(Status::Completed) || goes_on(&definition));
    let mut compared = !races(&definition) && !stopped && !by_replay.blind;
    if compared {
        let (by_journal, broken) = local(seed);
        breaks.extend(broken);
        compared = !by_journal.blind;
        let same = by_journal.status == by_replay.status && count(&by_journal.facts) == count(&by_replay.facts);
        if compared && !same {
            breaks.push(format!("over the journal {by_journal:?}, over a log {by_replay:?}"));
        }
    }
    let deaths = deaths(seed, by_replay.lines.max(1));
    let (after, broken) = replayed(seed, deaths.clone());
    breaks.extend(broken);
    for (fact, times) in count(&after.facts) {
        if times > 1 && fact.starts_with("message") {
            breaks.push(format!("with {deaths:?}, {times} times: {fact}"));
        }
    }
    // One that is parked waits for a person, and there is none here.
    let stuck = after.status == Some(Status::Parked) || by_replay.status.is_some_and(|s| !s.is_final());
    if !stuck && !after.status.is_some_and(Status::is_final) {
        breaks.push(format!("with {deaths:?} it does not end: {after:?}"));
    }
    Both { breaks, compared, deaths: deaths.len() }
}
