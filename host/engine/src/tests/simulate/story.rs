//! What happens in a world: who triggers what and when, what operators want, when processes die, and how everybody helps
//! in the end.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bellhop_core::definition::WorkflowName;
use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;
use bellhop_core::run::Status;
use serde_json::{Value, json};

use super::dice::Dice;
use super::kept::{self, Owed, Times};
use super::lack::{self, Lacking};
use super::life::{Death, Left, Process};
use super::people::{follow, wished};
use super::world::{Swarm, short};
use crate::accept::trigger::{Refused, Trigger};
use crate::setup::definitions::{self, Expect};
use crate::tests::at_once;
use bellhop_journal::{Journal, Summary, key};
use bellhop_limits::Limits;

/// Users that a run has for itself.
pub(super) const USERS: usize = 10;
/// Rounds in which everybody helps before a run counts as lost.
const ROUNDS_MAX: u32 = 60;
/// What a world takes in which runs go in time.
const LONG_MS: u64 = 2_000_000;

/// What somebody wants of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Cancel,
    CancelAndUndo,
    Suspend,
    Resume,
    Retry,
    Undo,
    Kill,
    Resolve,
}

#[derive(Debug, Clone)]
enum Happening {
    Trigger(usize),
    Wish {
        run: u64,
        wish: Wish,
    },
    /// What the connection lacks is put right, and perhaps the host is told.
    Remedy {
        told: bool,
    },
    /// The machine's clock is set, so far off.
    Clock(i64),
    Drain,
}

/// One order of a run, as a client keeps it.
#[derive(Debug, Clone)]
struct Order {
    definition: usize,
    key: Option<String>,
    input: Value,
    /// Who is refused waits until what is missing is there.
    block: bool,
    asked: bool,
    /// A process died without an answer to it.
    lost: bool,
    answer: Option<RunId>,
}

impl Order {
    fn trigger(&self) -> Trigger {
        trigger(self.definition, &self.input, self.key.clone())
    }
}

/// All that is decided of a world before it begins, and how far it is.
pub(super) struct Story {
    pub(super) definitions: Vec<Value>,
    pub(super) swarm: Swarm,
    pub(super) limits: Limits,
    pub(super) deaths: VecDeque<Death>,
    pub(super) lacking: Option<Lacking>,
    times: Option<Times>,
    state: Mutex<State>,
    end_ms: u64,
}

struct State {
    happenings: VecDeque<(u64, Happening)>,
    orders: Vec<Order>,
    applied: bool,
    rounds: u32,
}

impl Story {
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let some =
            |dice: &mut Dice, percent: u64, most: u64| if dice.chance(percent) { dice.between(1, most) } else { 0 };
        let swarm = Swarm {
            not_sent: some(&mut dice, 40, 25),
            limited: some(&mut dice, 30, 15),
            lost: some(&mut dice, 60, 35),
            refused: some(&mut dice, 35, 15),
            blind: some(&mut dice, 30, 50),
            slow_guest: some(&mut dice, 15, 15),
        };
        let count = dice.between(1, 2);
        let mut definitions: Vec<Value> =
            (0..count).map(|n| super::workflow::definition(&mut dice, usize::try_from(n).unwrap())).collect();
        let times = Times::of(seed);
        for (number, definition) in definitions.iter_mut().enumerate() {
            times.iter().for_each(|times| times.tell(number, definition));
        }
        let mut runs = dice.between(1, 4);
        // Where runs go in time, they come in time.
        let mut early = 20_000;
        if times.is_some() {
            (runs, early) = (runs + 2, LONG_MS);
        }
        let mut large = Dice::of(seed, "large");
        let mut happenings = Vec::new();
        let mut orders: Vec<Order> = Vec::new();
        for number in 0..runs {
            let users: Vec<String> = (0..USERS).map(|n| format!("U{number}{n}X")).collect();
            let mut order = Order {
                definition: usize::try_from(dice.below(count)).unwrap(),
                key: dice.chance(70).then(|| format!("key-{number}")),
                input: json!({"users": users, "group": *dice.pick(&["a", "b"])}),
                block: large.chance(80),
                asked: false,
                lost: false,
                answer: None,
            };
            if times.is_some() && large.chance(30) {
                // More than stands in a record.
                order.input["large"] = json!("x".repeat(17_000));
            }
            happenings.push((dice.below(early), Happening::Trigger(orders.len())));
            // The same, asked for twice.
            if order.key.is_some() && dice.chance(if times.is_some() { 60 } else { 20 }) {
                orders.push(order.clone());
                happenings.push((dice.below(early), Happening::Trigger(orders.len())));
            }
            orders.push(order);
        }
        let wishes = some(&mut dice, 65, 8);
        let mut span = *dice.pick(&[15_000, 60_000, 400_000]);
        if times.is_some() {
            span = LONG_MS;
        }
        let lacking = Lacking::of(seed, span);
        if let Some(Lacking { until_ms, told, .. }) = lacking {
            happenings.push((until_ms, Happening::Remedy { told }));
        }
        let all = [
            Wish::Cancel,
            Wish::CancelAndUndo,
            Wish::CancelAndUndo,
            Wish::Suspend,
            Wish::Resume,
            Wish::Resume,
            Wish::Retry,
            Wish::Retry,
            Wish::Undo,
            Wish::Undo,
            Wish::Kill,
            Wish::Resolve,
        ];
        for _ in 0..wishes {
            happenings.push((dice.below(span), Happening::Wish { run: dice.next(), wish: *dice.pick(&all) }));
        }
        // Slack's clock and ours are never more than a minute apart when it matters; where nothing is in doubt, it does not.
        let deaths = some(&mut dice, 70, 4);
        let far = swarm.lost == 0 && deaths == 0;
        for _ in 0..some(&mut dice, 30, 3) {
            let off = if far { dice.below(40 * 3_600_000) } else { dice.below(55_000) };
            let off = i64::try_from(off).unwrap();
            happenings.push((dice.below(span), Happening::Clock(if dice.chance(50) { off } else { -off })));
        }
        if dice.chance(15) {
            happenings.push((dice.below(span), Happening::Drain));
        }
        happenings.sort_by_key(|(at, _)| *at);
        let deaths = (0..deaths)
            .map(|_| match dice.below(3) {
                // While it recovers, as a rule.
                0 => Death::Batch(dice.between(1, 12)),
                1 => Death::Batch(dice.between(5, 150)),
                _ => Death::After(dice.below(span)),
            })
            .collect();
        let mut limits = Limits { slack_attempts_max: dice.between(2, 6), ..Limits::default() };
        if dice.chance(20) {
            limits.live_runs_max = dice.between(1, 2);
        }
        if dice.chance(40) {
            // Whoever waits for a turn is put down soon, and taken up again.
            limits.waiting_runs_max = dice.between(1, 2);
            limits.waiting_ms_max = dice.between(1, 2_000);
            limits.leaving_runs_max = 1;
        }
        if let Some(times) = &times {
            (limits.runs_kept_ms, limits.idempotency_kept_ms) = (times.runs_ms, times.keys_ms);
        }
        if dice.chance(30) {
            // Decisions are cut, and go on.
            match dice.below(3) {
                0 => limits.decision_events_max = dice.between(1, 8),
                1 => limits.decision_bytes_max = dice.between(1, 2_000),
                _ => limits.decision_evaluations_max = dice.between(1, 2),
            }
        }
        let state = State { happenings: happenings.into(), orders, applied: false, rounds: 0 };
        let (state, end_ms) = (Mutex::new(state), span + 25_000);
        Self { definitions, swarm, limits, deaths, lacking, times, state, end_ms }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The largest of groups' limits, where several definitions share one.
    pub(super) fn most_in_a_group(&self) -> u64 {
        let limit = |d: &Value| d.pointer("/document/metadata/bellhop/concurrency/limit").and_then(Value::as_u64);
        if self.definitions.len() == 1 { 1 } else { self.definitions.iter().filter_map(limit).max().unwrap_or(1) }
    }

    /// Orders of which nobody heard whether they started a run.
    pub(super) fn unanswered(&self) -> usize {
        self.lock().orders.iter().filter(|o| o.lost && o.answer.is_none()).count()
    }

    /// One life's share of the story.
    pub(super) async fn go_on(self: Arc<Self>, process: Process) -> Left {
        self.apply(&process).await;
        for run in process.engine.services.journal.open_runs(1_000, None).await.unwrap() {
            process.check_fold(run.0).await;
        }
        self.check_told(&process);
        process.check_rows().await;
        if let Err(error) = process.engine.start().await {
            if process.store.is_dead() {
                return Left::Died;
            }
            process.world.broken(format!("the engine does not start: {error}"));
            return Left::Over;
        }
        tokio::spawn(follow(self.clone(), process.clone()));
        let again: Vec<usize> = {
            let mut state = self.lock();
            for order in &mut state.orders {
                order.lost |= order.asked && order.answer.is_none();
            }
            let orders = state.orders.iter().enumerate();
            orders.filter(|(_, o)| o.asked && o.answer.is_none() && o.key.is_some()).map(|(n, _)| n).collect()
        };
        for number in again {
            tokio::spawn(self.clone().trigger(process.clone(), number));
        }
        loop {
            let next = self.lock().happenings.front().cloned();
            let Some((at, happening)) = next else { break };
            process.world.time.until_passed(at).await;
            self.lock().happenings.pop_front();
            match happening {
                Happening::Trigger(number) => {
                    tokio::spawn(self.clone().trigger(process.clone(), number));
                }
                Happening::Wish { run, wish } => {
                    let runs: Vec<RunId> = process.world.lock().promised.keys().copied().collect();
                    if !runs.is_empty() {
                        let run = runs[usize::try_from(run % runs.len() as u64).unwrap()];
                        tokio::spawn(wished(process.clone(), run, wish));
                    }
                }
                Happening::Remedy { told } => lack::remedy(&process, told),
                Happening::Clock(off) => {
                    process.world.say(format!("the clock is set: {off} ms off"));
                    process.world.lock().clock_set = true;
                    process.world.time.set_off(off);
                }
                Happening::Drain => {
                    process.world.say("the process is asked to stop");
                    process.engine.drain().await;
                    process.store.sync(usize::MAX);
                    return Left::Drained;
                }
            }
        }
        process.world.time.until_passed(self.end_ms).await;
        self.help(&process).await;
        super::checker::check(&process, &self).await;
        Left::Over
    }

    /// Whose the users of each order are.
    pub(super) fn owners(&self) -> Vec<(String, RunId)> {
        let state = self.lock();
        let first = |order: &Order| order.input["users"][0].as_str().map(|user| user[..2].to_owned());
        let all: Vec<(String, RunId)> =
            state.orders.iter().filter_map(|order| Some((first(order)?, order.answer?))).collect();
        // Where a key has meant two runs, either may have been the one.
        let is_one = |(users, run): &&(String, RunId)| all.iter().all(|(u, r)| u != users || r == run);
        all.iter().filter(is_one).cloned().collect()
    }

    /// How long a run stays after its end.
    pub(super) fn owed(&self, run: RunId) -> Owed {
        let state = self.lock();
        let order = state.orders.iter().find(|order| order.answer == Some(run));
        let own = order.and_then(|order| {
            self.definitions[order.definition].pointer("/document/metadata/bellhop/retention/seconds")?.as_u64()
        });
        let key = order.and_then(|order| order.key.as_ref());
        Owed {
            own_ms: own.map_or(self.limits.runs_kept_ms, |seconds| seconds * 1_000),
            key_ms: key.map_or(0, |_| self.limits.idempotency_kept_ms),
            shared: key.is_some()
                && state.orders.iter().any(|o| o.key.as_ref() == key && o.answer.is_some_and(|other| other != run)),
        }
    }

    /// Whether a run cannot do without what a connection may lack: it calls, whatever its input is.
    pub(super) fn needs_everything(&self, run: RunId) -> bool {
        let state = self.lock();
        let order = state.orders.iter().find(|order| order.answer == Some(run));
        order.is_some_and(|order| {
            let tasks = self.definitions[order.definition]["do"].to_string();
            let perhaps = ["\"if\"", "\"switch\"", "\"bestEffort\"", "\"raise\""];
            tasks.contains("\"call\"") && !perhaps.iter().any(|word| tasks.contains(word))
        })
    }

    /// Between two looks at the runs.
    pub(super) fn look(&self, calm: bool) -> Duration {
        Duration::from_secs(match (calm, &self.times) {
            (false, None) => 5,
            (_, Some(_)) => 10,
            (true, None) => 900,
        })
    }

    pub(super) async fn apply(&self, process: &Process) {
        if self.lock().applied {
            return;
        }
        for definition in &self.definitions {
            apply(process, definition).await;
        }
        self.lock().applied = true;
    }

    /// The first order alone.
    pub(super) fn first_order(&self) -> Trigger {
        self.lock().orders[0].trigger()
    }

    /// The definition that it is of.
    pub(super) fn first_definition(&self) -> Value {
        self.definitions[self.lock().orders[0].definition].clone()
    }

    async fn trigger(self: Arc<Self>, process: Process, number: usize) {
        let order = {
            let mut state = self.lock();
            state.orders[number].asked = true;
            state.orders[number].clone()
        };
        process.world.say(format!("order {number}: w{} {:?}", order.definition, order.key));
        let lacked = process.world.lock().lack.is_some();
        let answer = process.engine.trigger_or(order.trigger(), order.block).await;
        if process.store.is_dead() {
            return;
        }
        match answer {
            Ok(accepted) => {
                let run = accepted.run;
                let kept = Journal::checked(Arc::new(process.store.left(0)));
                if !matches!(kept.get::<Summary>(&key::summary(run)).await, Ok(Some(_))) {
                    process.world.broken(format!("{run} was accepted before it was on the disk"));
                }
                process.world.say(format!("order {number}: run {} {run} replayed {}", short(run), accepted.replayed));
                let other = {
                    let mut state = self.lock();
                    state.orders[number].answer = Some(run);
                    let same = |o: &&Order| order.key.is_some() && o.key == order.key && o.answer.is_some();
                    state.orders.iter().filter(same).find_map(|o| o.answer.filter(|other| *other != run))
                };
                if let Some(other) = other
                    && !kept::key_is_over(&process.world, other, self.limits.idempotency_kept_ms)
                {
                    process.world.broken(format!("the key {:?} started {run} and {other}", order.key));
                }
                let now = process.world.time.true_ms();
                let mut state = process.world.lock();
                state.counts.runs += u64::from(!state.promised.contains_key(&run));
                let promised = state.promised.entry(run).or_default();
                promised.records = promised.records.max(1);
                if !accepted.replayed {
                    promised.open_ms = now;
                }
            }
            Err(Refused::Preflight(_)) if lacked && !order.block => {
                process.world.say(format!("order {number} is refused for what is lacking"));
                self.lock().orders[number].asked = false;
            }
            Err(Refused::GroupFull(_) | Refused::Unavailable(_)) => {
                process.world.say(format!("order {number} is refused"));
                self.lock().orders[number].asked = false;
            }
            Err(error) => process.world.broken(format!("order {number}: {error:?}")),
        }
    }

    /// Nothing that was told is forgotten.
    fn check_told(&self, process: &Process) {
        let promised: Vec<(RunId, u64)> =
            process.world.lock().promised.iter().map(|(run, p)| (*run, p.records)).collect();
        for (run, records) in promised {
            let found = at_once(process.engine.services.journal.entries(run, 0, 4_000)).unwrap().len() as u64;
            if found == 0 {
                kept::gone(&process.world, self, run);
            } else if found < records {
                process.world.broken(format!("{run} had {records} durable records, and has {found}"));
            }
        }
    }

    /// Nothing goes wrong any more, and people look after whatever waits for them.
    async fn help(&self, process: &Process) {
        let world = &process.world;
        if !world.lock().calm {
            world.lock().calm = true;
            world.time.set_off(0);
            world.say("calm: everybody helps");
        }
        loop {
            let open = process.engine.services.journal.open_runs(1_000, None).await.unwrap();
            let open: Vec<RunId> = open.into_iter().map(|(run, _)| run).collect();
            if open.is_empty() {
                // What is on its way to people still.
                tokio::time::sleep(Duration::from_secs(3_600)).await;
                process.check_rows().await;
                return;
            }
            let round = {
                let mut state = self.lock();
                state.rounds += 1;
                state.rounds
            };
            if round > ROUNDS_MAX {
                for run in open {
                    let view = process.engine.run_view(run).await;
                    world.broken(format!("{run} is lost: nothing brings it to its end: {view:?}"));
                }
                return;
            }
            for run in open {
                let Ok(Some(view)) = process.engine.run_view(run).await else { continue };
                let reason = view.waiting.as_ref().and_then(|w| w.pointer("/reason/type")).cloned().unwrap_or_default();
                if matches!(view.status, Status::Parked) && reason.as_str().unwrap_or_default().is_empty() {
                    world.broken(format!("{run} is parked and nobody is told why: {view:?}"));
                }
                let wish = match (view.status, round) {
                    (Status::Suspended, ..50) => Wish::Resume,
                    (Status::Parked, ..20) => Wish::Retry,
                    (Status::Parked, 20..30) => Wish::Resolve,
                    (Status::Parked, 30..50) => Wish::Cancel,
                    (Status::Parked | Status::Suspended, _) => Wish::Kill,
                    // Nothing keeps it from going on, and it is left alone to show that it does.
                    _ => continue,
                };
                world.say(format!("{} is {:?} {reason}: {wish:?}", short(run), view.status));
                wished(process.clone(), run, wish).await;
            }
            tokio::time::sleep(Duration::from_secs(if round < 10 { 60 } else { 3_600 })).await;
        }
    }
}

/// An order of the definition of this number.
pub(super) fn trigger(definition: usize, input: &Value, key: Option<String>) -> Trigger {
    Trigger {
        workflow: WorkflowName { namespace: "test".to_owned(), name: format!("w{definition}") },
        version: None,
        body: Digest::of_json(input),
        by: None,
        traceparent: None,
        input: Arc::new(input.clone()),
        connections: BTreeMap::new(),
        labels: BTreeMap::new(),
        idempotency_key: key,
        inline: None,
    }
}

/// Registers a definition.
pub(super) async fn apply(process: &Process, definition: &Value) {
    let text = definition.to_string();
    let (read, _, diagnostics) = definitions::read("workflow.json", &text);
    let shown: Vec<String> = diagnostics.iter().map(bellhop_core::diagnostic::render).collect();
    let read = read.unwrap_or_else(|| panic!("{text}\n{}", shown.join("\n")));
    let name = read.workflow.document.name.clone();
    let services = &process.engine.services;
    let now = services.clock.now();
    let put = services.definitions.put(&name, read, "workflow.json", &text, &Expect::Any, now).await;
    assert!(put.is_ok() || process.store.is_dead(), "{:?}", put.err());
}
