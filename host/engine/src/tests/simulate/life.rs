//! One life of a process: the whole engine in one thread, on a store that can die, at the door of a world that stays.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bellhop_core::cost::Cost;
use bellhop_core::expression::{Answer, Error, Evaluator, Inspection};
use bellhop_core::id::RunId;
use bellhop_core::run::{Reason, Status};
use bellhop_slack::client::{Client, Options as ClientOptions};
use bellhop_slack::limiter::Closed;

use super::super::dying::Dying;
use super::dice::Dice;
use super::guest::{Guests, manifest};
use super::world::{Door, Fence, World};
use crate::Engine;
use crate::Options;
use crate::drive::deciding::Deciding;
use crate::drive::driver;
use crate::entropy::Entropy;
use crate::execution::local::{Local, Read};
use crate::setup::connections::Secrets;
use crate::tests::at_once;
use bellhop_journal::memory::Memory;
use bellhop_journal::{Journal, Summary, key};
use bellhop_limits::Limits;
use bellhop_sandbox::Sandbox;
use bellhop_sandbox::expression::{Budget, Expressions};
use tokio::runtime::Runtime;

/// What all lives of all worlds share, because it takes long to make and keeps nothing.
struct Ground {
    sandbox: Sandbox,
    expressions: Expressions,
    client: Client,
}

fn ground() -> &'static Ground {
    static GROUND: OnceLock<Ground> = OnceLock::new();
    GROUND.get_or_init(|| {
        // Where nothing is compiled yet, compiling waits for its turn, which has a time limit.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let sandbox = super::super::sandbox(&super::super::cache());
        // Time that a busy machine takes from an evaluation must not change what happens.
        let budget = Budget { cpu_ms_max: 600_000, ..Budget::default() };
        let expressions = runtime.block_on(Expressions::load(&sandbox, budget)).unwrap();
        Ground { sandbox, expressions, client: Client::new(&ClientOptions::default()).unwrap() }
    })
}

/// When a process dies by itself.
#[derive(Debug, Clone, Copy)]
pub(super) enum Death {
    /// With the n-th batch that it writes.
    Batch(u64),
    /// After so many milliseconds.
    After(u64),
    /// Not at all: after so many milliseconds the process is stopped wherever it is, and another takes over.
    StoppedAfter(u64),
    /// Likewise, when its n-th request is about to leave.
    StoppedAtRequest(u64),
}

/// How a life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    Died,
    /// Stopped, while another takes over.
    Stopped,
    Drained,
    /// There is nothing left to do in this world.
    Over,
}

/// An engine, and what is under it.
#[derive(Clone)]
pub(super) struct Process {
    pub(super) world: Arc<World>,
    pub(super) store: Arc<Dying>,
    pub(super) engine: Arc<Engine>,
}

/// A process that was stopped, and does not know that another has taken over.
pub(super) struct Stopped {
    /// None only while it is dropped.
    runtime: Option<Runtime>,
    store: Arc<Dying>,
    world: Arc<World>,
}

impl Stopped {
    /// Goes on for some time, as if nothing had happened, while the other one is stopped.
    pub(super) fn goes_on(mut self, span: Duration) {
        let Self { runtime, store, world } = &mut self;
        let Some(runtime) = runtime.take() else { return };
        world.say("a process that was stopped goes on");
        // What it waits for is refused: somebody else has written since.
        store.fail();
        store.go_on();
        runtime.block_on(async {
            world.time.begin();
            tokio::time::sleep(span).await;
            world.time.end();
        });
        drop(runtime);
        store.die();
        world.say("it is gone");
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // Perhaps within another runtime, which must not wait for this one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Lives until death, or as long as `work` takes. Gives what is on the disk then.
pub(super) fn live<F, Fut>(
    world: &Arc<World>,
    memory: Memory,
    limits: &Limits,
    death: Option<Death>,
    work: F,
) -> (Memory, Left)
where
    F: FnOnce(Process) -> Fut,
    Fut: Future<Output = Left>,
{
    let (memory, left, _stopped) = live_on(world, memory, limits, death, work);
    (memory, left)
}

/// The same; gives also the process, if it was stopped.
pub(super) fn live_on<F, Fut>(
    world: &Arc<World>,
    memory: Memory,
    limits: &Limits,
    death: Option<Death>,
    work: F,
) -> (Memory, Left, Option<Stopped>)
where
    F: FnOnce(Process) -> Fut,
    Fut: Future<Output = Left>,
{
    let ground = ground();
    world.lock().begin_life(&closed(&memory));
    let life = world.lock().life;
    let mut dice = Dice::of(world.seed, format!("life {life}"));
    let store = Arc::new(Dying::over(memory));
    store.hold();
    // As over a store on another machine: what happens between a read and what is done about it is part of the story.
    if world.seed.is_multiple_of(3) {
        store.is_far(Dice::of(world.seed, format!("reads of life {life}")));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let left = runtime.block_on(async {
        world.time.begin();
        world.say("a process starts");
        tokio::spawn(synchronise(store.clone(), Dice::new(dice.next())));
        match death {
            Some(Death::Batch(batch)) => store.die_at(batch),
            Some(Death::After(ms)) => {
                let store = store.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    store.die();
                });
            }
            Some(Death::StoppedAtRequest(nth)) => store.stop_at(nth),
            Some(Death::StoppedAfter(_)) | None => {}
        }
        let stops = async {
            match death {
                Some(Death::StoppedAfter(ms)) => tokio::time::sleep(Duration::from_millis(ms)).await,
                _ => store.is_stopped().await,
            }
        };
        let engine = Engine::open(Options {
            journal: Journal::checked(store.clone()),
            clock: Arc::new(world.time.clone()),
            limits: limits.clone(),
            sandbox: ground.sandbox.clone(),
            expressions: ground.expressions.clone(),
            client: ground.client.clone(),
            budget_scale: 1_000.0,
            secrets: Secrets::nowhere(),
            store_failed: tokio::sync::watch::channel(None).0,
            traces: None,
        });
        let left = match engine.await {
            Err(_) if store.is_dead() => Left::Died,
            Err(error) => panic!("{error}"),
            Ok(mut engine) => {
                equip(&mut engine, world, &store, dice.next());
                let process = Process { world: world.clone(), store: store.clone(), engine };
                tokio::select! {
                    biased;
                    () = store.died() => Left::Died,
                    () = stops => Left::Stopped,
                    left = work(process) => left,
                }
            }
        };
        world.time.end();
        left
    });
    let stopped = if left == Left::Stopped {
        store.fence();
        world.cut_connections();
        Some(Stopped { runtime: Some(runtime), store: store.clone(), world: world.clone() })
    } else {
        // Everything that it did goes with it: a request on its way has lost its sender.
        drop(runtime);
        None
    };
    let at_stake = store.at_stake();
    let is_cut = matches!(left, Left::Died | Left::Stopped);
    let keep = if is_cut { usize::try_from(dice.below(at_stake as u64 + 1)).unwrap() } else { usize::MAX };
    if stopped.is_none() {
        store.die();
    }
    world.say(format!("the process is gone: {left:?}, {at_stake} batches at stake"));
    {
        let mut state = world.lock();
        state.counts.crashes += u64::from(left == Left::Died);
        state.counts.stopped += u64::from(left == Left::Stopped);
        state.counts.drains += u64::from(left == Left::Drained);
        state.counts.records += store.commits();
    }
    // It takes a moment until somebody starts it again.
    world.time.pass(dice.between(1, 3_000));
    (store.left(keep), left, stopped)
}

/// Of which methods and channels it is on the disk that Slack wants to be left alone, and until when.
fn closed(memory: &Memory) -> BTreeMap<String, u64> {
    let range = key::all(key::Space::Limiter);
    let journal = Journal::checked(Arc::new(memory.crash(usize::MAX)));
    let listed = at_once(journal.list::<Closed>(key::Space::Limiter, &range).all()).unwrap();
    let name = |c: &Closed| format!("{} {}", c.key.bucket, c.key.channel.as_deref().unwrap_or_default());
    listed.into_iter().map(|(_, c)| (name(&c), c.until_ms)).collect()
}

/// Puts a simulation's parts in the places of those that reach outside.
/// An evaluator whose answers cost the same on every machine: where a decision is cut must not depend on how busy it is.
struct Steady(Arc<dyn Evaluator + Send + Sync>);

impl Evaluator for Steady {
    fn answer(&self, program: &str, arguments: &[(&str, &serde_json::Value)], input: &serde_json::Value) -> Answer {
        Answer { cost: Cost::from_micros(100), ..self.0.answer(program, arguments, input) }
    }

    fn inspect(&self, program: &str) -> Result<Inspection, Error> {
        self.0.inspect(program)
    }
}

fn equip(engine: &mut Arc<Engine>, world: &Arc<World>, store: &Arc<Dying>, seed: u64) {
    let inner = Arc::get_mut(engine).expect("nobody else has it yet");
    let services = Arc::get_mut(&mut inner.services).expect("nobody else has them yet");
    services.entropy = Arc::new(Entropy::seeded(seed));
    services.evaluator = Arc::new(Steady(services.evaluator.clone()));
    services.deciding = Deciding::new(services.evaluator.clone(), services.clock.clone(), &services.limits);
    services.gateway.way = Some(Arc::new(Door { world: world.clone(), store: store.clone() }));
    services.gateway.tenure = Arc::new(Fence(store.clone()));
    super::lack::connect(world, &services.gateway);
    let script = Arc::new(Guests { world: world.clone() });
    services.plugins.put_script(manifest(), script, &services.gateway.rules);
}

/// The disk: some time after somebody waits for it, what was accepted by then is there, or some of it.
async fn synchronise(store: Arc<Dying>, mut dice: Dice) {
    loop {
        store.asked().await;
        loop {
            tokio::time::sleep(Duration::from_millis(dice.below(4))).await;
            let waiting = store.at_stake();
            if waiting == 0 || store.is_dead() {
                break;
            }
            let count =
                if dice.chance(70) { waiting } else { usize::try_from(dice.between(1, waiting as u64)).unwrap() };
            store.sync(count);
            if count == waiting {
                break;
            }
        }
    }
}

impl Process {
    /// What owners have in their rows is what the runs hold.
    pub(super) async fn check_rows(&self) {
        match self.engine.verify().await {
            Ok(verified) => {
                verified.differences.iter().for_each(|difference| self.world.broken(difference.to_string()));
            }
            Err(error) => self.world.broken(format!("the rows of owners cannot be compared: {error}")),
        }
    }

    /// A run read from its latest snapshot, and from its whole log, is the same.
    pub(super) async fn check_fold(&self, run: RunId) {
        let read = |summary: Summary| self.engine.opening(run, summary);
        let summary = match self.engine.services.journal.get::<Summary>(&key::summary(run)).await {
            Ok(Some(summary)) => summary,
            other => return self.world.broken(format!("{run} has no summary: {other:?}")),
        };
        let (opening, _inbox) = read(summary.clone());
        let loaded = match self.engine.load(run, opening).await {
            Ok(loaded) => loaded,
            Err(error) => return self.world.broken(format!("{run} cannot be read: {error}")),
        };
        let (opening, _inbox) = read(summary.clone());
        let facts = loaded.state.facts().clone();
        let Ok(Read { port, mut state, decisions }) = Local::read_whole(opening, &facts).await else {
            return self.world.broken(format!("the log of {run} cannot be read"));
        };
        let folded = driver::fold(&port, &mut state, decisions).await;
        if folded.is_err() || state != loaded.state {
            self.world.broken(format!("{run}: its log tells something else than its snapshot"));
        }
        // One that was set aside, and perhaps given up then, is shown so whatever its log says.
        let status = match (summary.poisoned, summary.aftermath.reason) {
            (true, _) => Status::Parked,
            (false, Some(Reason::GivenUp)) => Status::Cancelled,
            (false, _) => state.status(),
        };
        if status != summary.status {
            let log = state.status();
            let shown = format!("{:?} by its summary, and has to be {status:?}", summary.status);
            self.world.broken(format!("{run} is {log:?} by its log and {shown}"));
        }
    }
}
