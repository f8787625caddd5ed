//! What happens in a world: who triggers what and when, what operators want, when processes die, and how everybody helps
//! in the end.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bellhop_core::definition::WorkflowName;
use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;
use bellhop_core::run::{Cause, Status};
use serde_json::{Value, json};

use super::dice::Dice;
use super::life::{Death, Left, Process};
use super::world::{Swarm, short};
use crate::engine::accept::{Refused, Trigger};
use crate::engine::definitions::{self, Expect};
use crate::journal::{Journal, Summary, key};
use crate::limits::Limits;

/// Users that a run has for itself.
pub(super) const USERS: usize = 10;
/// Rounds in which everybody helps before a run counts as lost.
const ROUNDS_MAX: u32 = 60;

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
        let definitions: Vec<Value> =
            (0..count).map(|n| super::workflow::definition(&mut dice, usize::try_from(n).unwrap())).collect();
        let runs = dice.between(1, 4);
        let mut happenings = Vec::new();
        let mut orders: Vec<Order> = Vec::new();
        for number in 0..runs {
            let users: Vec<String> = (0..USERS).map(|n| format!("U{number}{n}X")).collect();
            let order = Order {
                definition: usize::try_from(dice.below(count)).unwrap(),
                key: dice.chance(70).then(|| format!("key-{number}")),
                input: json!({"users": users, "group": *dice.pick(&["a", "b"])}),
                asked: false,
                lost: false,
                answer: None,
            };
            happenings.push((dice.below(20_000), Happening::Trigger(orders.len())));
            // The same, asked for twice.
            if order.key.is_some() && dice.chance(20) {
                orders.push(order.clone());
                happenings.push((dice.below(20_000), Happening::Trigger(orders.len())));
            }
            orders.push(order);
        }
        let wishes = some(&mut dice, 65, 8);
        let span = *dice.pick(&[15_000, 60_000, 400_000]);
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
        }
        let state = State { happenings: happenings.into(), orders, applied: false, rounds: 0 };
        Self { definitions, swarm, limits, deaths, state: Mutex::new(state), end_ms: span + 25_000 }
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
        for run in process.engine.services.journal.open_runs(1_000, None).unwrap() {
            process.check_fold(run.0).await;
        }
        self.check_told(&process);
        if let Err(error) = process.engine.start().await {
            if process.store.is_dead() {
                return Left::Died;
            }
            process.world.broken(format!("the engine does not start: {error}"));
            return Left::Over;
        }
        tokio::spawn(follow(process.clone()));
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
        state.orders.iter().filter_map(|order| Some((first(order)?, order.answer?))).collect()
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
        let answer = process.engine.trigger(order.trigger()).await;
        if process.store.is_dead() {
            return;
        }
        match answer {
            Ok(accepted) => {
                let run = accepted.run;
                let kept = Journal::new(Arc::new(process.store.left(0))).get::<Summary>(&key::summary(run));
                if !matches!(kept, Ok(Some(_))) {
                    process.world.broken(format!("{run} was accepted before it was on the disk"));
                }
                process.world.say(format!("order {number}: run {} {run} replayed {}", short(run), accepted.replayed));
                let other = {
                    let mut state = self.lock();
                    state.orders[number].answer = Some(run);
                    let same = |o: &&Order| order.key.is_some() && o.key == order.key && o.answer.is_some();
                    state.orders.iter().filter(same).find_map(|o| o.answer.filter(|other| *other != run))
                };
                // A day after the end of its run a key means nothing any more, and a clock that is set makes a day of a moment.
                let over = process.world.lock().clock_set;
                if let Some(other) = other.filter(|_| !over) {
                    process.world.broken(format!("the key {:?} started {run} and {other}", order.key));
                }
                let mut state = process.world.lock();
                state.counts.runs += u64::from(!state.promised.contains_key(&run));
                let promised = state.promised.entry(run).or_default();
                promised.records = promised.records.max(1);
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
            let found = process.engine.services.journal.entries(run, 0, 4_000).unwrap().len() as u64;
            if found < records {
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
            let open: Vec<RunId> = process
                .engine
                .services
                .journal
                .open_runs(1_000, None)
                .unwrap()
                .into_iter()
                .map(|(run, _)| run)
                .collect();
            if open.is_empty() {
                // What is on its way to people still.
                tokio::time::sleep(Duration::from_secs(3_600)).await;
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
        input: input.clone(),
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

/// A person asks for something, and hears whether it was decided.
async fn wished(process: Process, run: RunId, wish: Wish) {
    let Process { world, engine, store } = &process;
    let cause = match wish {
        Wish::Cancel => Cause::Cancel,
        Wish::CancelAndUndo => Cause::CancelAndUndo,
        Wish::Suspend => Cause::Suspend,
        Wish::Resume => Cause::Resume,
        Wish::Retry => Cause::Retry,
        Wish::Undo => Cause::Undo,
        Wish::Kill => Cause::Kill,
        Wish::Resolve => return resolved(&process, run).await,
    };
    world.lock().counts.operations += 1;
    world.say(format!("{wish:?} of {}", short(run)));
    if matches!(wish, Wish::Retry | Wish::Undo) {
        // From now on it may go on after its end, whether or not anybody hears of it.
        if let Some(promised) = world.lock().promised.get_mut(&run) {
            promised.asking += 1;
            promised.cancelled_at = None;
        }
    }
    if wish == Wish::Kill
        && let Some(promised) = world.lock().promised.get_mut(&run)
    {
        promised.killed = true;
    }
    let done = engine.signal(run, cause).await;
    if store.is_dead() {
        return;
    }
    world.say(format!("{wish:?} of {}: {done:?}", short(run)));
    let records = engine.services.journal.entries(run, 0, 4_000).unwrap().len() as u64;
    let mut state = world.lock();
    let state = &mut *state;
    let Some(promised) = state.promised.get_mut(&run) else { return };
    if matches!(wish, Wish::Retry | Wish::Undo) {
        promised.asking -= 1;
        promised.ended = None;
    }
    if !matches!(done, Ok(true)) {
        return;
    }
    match wish {
        Wish::Cancel | Wish::CancelAndUndo | Wish::Kill => {
            state.counts.cancels += 1;
            promised.rollback |= wish == Wish::CancelAndUndo;
            promised.cancelled_at.get_or_insert(records);
            promised.cancelled = true;
        }
        Wish::Undo => promised.rollback = true,
        Wish::Retry | Wish::Suspend | Wish::Resume | Wish::Resolve => {}
    }
}

/// A person looks at Slack and says what became of what is in doubt.
async fn resolved(process: &Process, run: RunId) {
    let Process { world, engine, store } = process;
    if !engine.summary(run).is_ok_and(|s| s.is_some_and(|s| s.status == Status::Parked)) {
        return;
    }
    world.lock().counts.operations += 1;
    // Nobody says anything before what is on its way is there.
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.take_up_late();
    let Ok(doubts) = engine.doubts(run, None).await else { return };
    let truth: Vec<bool> = {
        let state = world.lock();
        doubts.iter().map(|doubt| state.slack.accepted(&doubt.stamp)).collect()
    };
    let done = truth.first().copied().unwrap_or(false);
    let plain = truth.iter().all(|t| *t == done) && doubts.iter().all(|d| d.intent.function == "chat.post-message");
    if let Some(promised) = world.lock().promised.get_mut(&run) {
        // Of anything but a message nobody can be sure, and what is left of a rollback stays.
        promised.meddled |= !plain || doubts.is_empty();
    }
    world.say(format!("resolve {}: done {done}, {} doubts, plain {plain}", short(run), doubts.len()));
    let said = engine.resolve(run, None, done, None, "a person".to_owned()).await;
    if !store.is_dead() {
        world.say(format!("resolve {}: {said:?}", short(run)));
    }
}

/// Follows every run that was answered, and looks at how it stands.
async fn follow(process: Process) {
    let Process { world, engine, store } = &process;
    let mut followers = BTreeMap::new();
    loop {
        let runs: Vec<RunId> = world.lock().promised.keys().copied().collect();
        for run in runs {
            if !followers.contains_key(&run)
                && let Ok(Some(follower)) = engine.follow(run, 0)
            {
                followers.insert(run, follower);
            }
            let Some(follower) = followers.get_mut(&run) else { continue };
            while let Ok(Some(events)) = engine.next_events(follower, 50).await {
                if store.is_dead() {
                    return;
                }
                told(&process, run, events.into_iter().map(|e| (e.id, serde_json::to_value(&e).unwrap())).collect());
            }
            let Ok(Some(view)) = engine.run_view(run).await else { continue };
            if store.is_dead() {
                return;
            }
            let status = view.status.as_str().to_owned();
            let mut state = world.lock();
            let Some(promised) = state.promised.get_mut(&run) else { continue };
            match &promised.ended {
                _ if promised.asking > 0 => promised.ended = None,
                Some(ended) if *ended != status => {
                    let what = format!("{run} was told to be {ended}, and is {status} without anybody's asking");
                    drop(state);
                    world.broken(what);
                }
                _ => promised.ended = view.status.is_final().then_some(status),
            }
        }
        tokio::time::sleep(Duration::from_secs(if world.lock().calm { 900 } else { 5 })).await;
    }
}

/// Events came to somebody.
pub(super) fn told(process: &Process, run: RunId, events: Vec<(u64, Value)>) {
    let mut wrong = Vec::new();
    {
        let mut state = process.world.lock();
        let Some(promised) = state.promised.get_mut(&run) else { return };
        for (id, event) in events {
            match promised.events.get(&id) {
                Some(known) if *known != event => wrong.push(format!("{run} event {id}: told {known}, then {event}")),
                Some(_) => {}
                None => {
                    promised.events.insert(id, event);
                }
            }
        }
    }
    for what in wrong {
        process.world.broken(what);
    }
}
