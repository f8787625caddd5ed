//! Timers and places: each run that is due wakes once, however many are due at one time and however few may be in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bellhop_core::id::RunId;
use bellhop_core::run::Status;
use bellhop_core::time::Timestamp;
use futures_util::FutureExt as _;
use serde_json::{Value, json};

use super::dying::Dying;
use super::life::{Life, Slack, fresh, trigger};
use super::simulate::dice::Dice;
use crate::owners::timers::Timers;
use crate::tests::at_once;
use bellhop_clock::{Clock as _, Manual};
use bellhop_journal::memory::Memory;
use bellhop_journal::{Journal, Write, key};
use bellhop_limits::Limits;

const START: Timestamp = Timestamp::from_millis(1_790_000_000_000);

/// A store with timers, and who gives them out.
struct Bench {
    store: Arc<Dying>,
    journal: Journal,
    clock: Manual,
    timers: Timers,
    max: usize,
}

impl Bench {
    fn new(max: usize) -> Self {
        let store = Arc::new(Dying::over(Memory::new()));
        let journal = Journal::checked(store.clone());
        let clock = Manual::new(START);
        let timers = at_once(Timers::read_few(journal.clone(), Arc::new(clock.clone()), max)).unwrap();
        Self { store, journal, clock, timers, max }
    }

    fn restart(&mut self) {
        self.timers = at_once(Timers::read_few(self.journal.clone(), Arc::new(self.clock.clone()), self.max)).unwrap();
    }

    fn put(&self, at: Timestamp, run: RunId) {
        let mut write = Write::new();
        write.put(&key::timer(at, run, 0), &Value::Null).unwrap();
        self.journal.commit(write).unwrap();
    }

    fn set(&self, at: Timestamp, run: RunId) {
        self.put(at, run);
        self.timers.set(at, run);
    }

    fn clear(&self, at: Timestamp, run: RunId) {
        let mut write = Write::new();
        write.delete(&key::timer(at, run, 0));
        self.journal.commit(write).unwrap();
        self.timers.clear(at, run);
    }

    /// The next that is due, if one is.
    fn due(&self) -> Option<RunId> {
        self.timers.due().now_or_never().map(Result::unwrap)
    }

    fn all_due(&self) -> Vec<RunId> {
        std::iter::from_fn(|| self.due()).collect()
    }
}

fn run(n: u64) -> RunId {
    RunId::new(START, u128::from(n))
}

fn at(ms: u64) -> Timestamp {
    START.plus_millis(ms)
}

#[test]
fn house_a5_timers_of_one_instant_that_nobody_clears_are_given_once_each() {
    let mut bench = Bench::new(1_000);
    for n in 0..5_000 {
        bench.put(at(7), run(n));
    }
    bench.restart();
    bench.clock.set(at(7));
    let before = bench.store.scanned();
    let given = bench.all_due();
    assert_eq!(given, (0..5_000).map(run).collect::<Vec<_>>());
    assert!(bench.store.scanned() - before <= 5_000, "each is read once");
    assert_eq!(bench.timers.in_memory(), (0, 5_000));
    // What is set while these stand in the store is given like any other, before and behind them.
    bench.set(at(3), run(9_000));
    bench.set(at(9), run(9_001));
    assert_eq!(bench.all_due(), [run(9_000)]);
    for n in 0..5_000 {
        bench.clear(at(7), run(n));
    }
    bench.clock.set(at(9));
    assert_eq!(bench.all_due(), [run(9_001)]);
    assert_eq!(bench.timers.in_memory(), (0, 2));
    // The next process begins with those that are left.
    bench.restart();
    assert_eq!(bench.all_due(), [run(9_000), run(9_001)]);
}

#[test]
fn house_a5_timers_beyond_the_horizon_stay_in_the_store() {
    let bench = Bench::new(1_000);
    // The later ones first, so that each new one is earlier than all that are in memory.
    for n in (0..10_000).rev() {
        bench.set(at(n), run(n));
        assert!(bench.timers.in_memory().0 <= 1_000);
    }
    bench.clock.set(at(20_000));
    for n in 0..10_000 {
        assert_eq!(bench.due(), Some(run(n)));
        assert!(bench.timers.in_memory().0 <= 1_000);
        bench.clear(at(n), run(n));
    }
    assert_eq!(bench.due(), None);
    assert_eq!(bench.timers.in_memory(), (0, 0));
}

#[test]
fn house_a5_a_timer_that_is_set_anew_while_it_is_given_is_given_at_its_new_time() {
    let bench = Bench::new(1_000);
    bench.set(at(1), run(1));
    bench.clock.set(at(1));
    assert_eq!(bench.all_due(), [run(1)]);
    // The write is told of late: its timer was read and given before.
    bench.timers.set(at(1), run(1));
    assert_eq!(bench.due(), None, "given twice");
    bench.clear(at(1), run(1));
    bench.set(at(5), run(1));
    assert_eq!(bench.due(), None);
    bench.clock.set(at(5));
    assert_eq!(bench.all_due(), [run(1)]);
    // The clock is set back before the run decides: the same time comes again.
    bench.clock.set(at(2));
    bench.timers.set_again(at(5), run(1));
    assert_eq!(bench.due(), None);
    bench.clock.set(at(6));
    assert_eq!(bench.all_due(), [run(1)]);
    // The run is gone, and has left its timer.
    bench.timers.dismiss(run(1)).unwrap();
    assert!(at_once(bench.journal.timers_behind(None, 10)).unwrap().is_empty());
    assert_eq!(bench.timers.in_memory(), (0, 0));
    bench.timers.dismiss(run(1)).unwrap();
}

/// Compares with what the rules say: of the timers in the store that were not given out, the earliest, when its time has
/// come.
#[test]
fn house_a5_whatever_is_set_cleared_given_and_restarted_each_comes_once_and_in_order() {
    for seed in 0..200_u64 {
        let mut numbers = Dice::new(seed);
        let mut dice = move |below: u64| numbers.below(below);
        let mut bench = Bench::new(3);
        let mut stored: BTreeMap<RunId, Timestamp> = BTreeMap::new();
        let mut given: BTreeSet<RunId> = BTreeSet::new();
        for step in 0..300 {
            let one = run(dice(12));
            match dice(10) {
                0..=3 => {
                    if let Some(before) = stored.remove(&one) {
                        bench.clear(before, one);
                    }
                    given.remove(&one);
                    let time = at(dice(50));
                    bench.set(time, one);
                    stored.insert(one, time);
                }
                4 => {
                    given.remove(&one);
                    if let Some(before) = stored.remove(&one) {
                        bench.clear(before, one);
                    }
                }
                5 => bench.clock.set(at(dice(60))),
                6 if dice(4) == 0 => {
                    bench.restart();
                    given.clear();
                }
                _ => {
                    let now = bench.clock.now();
                    let next = stored.iter().filter(|(run, at)| **at <= now && !given.contains(run));
                    let next = next.min_by_key(|(run, at)| (**at, **run)).map(|(run, _)| *run);
                    assert_eq!(bench.due(), next, "seed {seed}, step {step}");
                    given.extend(next);
                }
            }
            let (waiting, out) = bench.timers.in_memory();
            assert!(waiting <= 3 && out <= given.len(), "seed {seed}, step {step}");
        }
    }
}

/// The same over a store whose reads take their time: timers are set and cleared while the store is read for what is due.
#[test]
fn a_timer_that_is_set_or_cleared_while_the_store_is_read_comes_once_or_not_at_all() {
    let mut changed = 0;
    for seed in 0..300_u64 {
        let mut numbers = Dice::new(seed);
        let mut dice = move |below: u64| numbers.below(below);
        let bench = Bench::new(2);
        bench.store.is_far(Dice::new(seed));
        let mut stored: BTreeMap<RunId, Timestamp> = BTreeMap::new();
        let mut given: BTreeSet<RunId> = BTreeSet::new();
        for step in 0..200 {
            if dice(4) == 0 {
                bench.clock.set(at(dice(60)));
            }
            let mut due = Box::pin(bench.timers.due());
            let mut found = (0..dice(12)).find_map(|_| due.as_mut().now_or_never());
            if found.is_none() {
                for _ in 0..dice(3) {
                    let one = run(dice(12));
                    given.remove(&one);
                    if let Some(before) = stored.remove(&one) {
                        bench.clear(before, one);
                    }
                    if dice(3) > 0 {
                        let time = at(dice(50));
                        bench.set(time, one);
                        stored.insert(one, time);
                    }
                    changed += 1;
                }
                found = super::ports::soon(due.as_mut());
            }
            drop(due);
            let now = bench.clock.now();
            let next = stored.iter().filter(|(run, at)| **at <= now && !given.contains(run));
            let next = next.min_by_key(|(run, at)| (**at, **run)).map(|(run, _)| *run);
            assert_eq!(found.map(Result::unwrap), next, "seed {seed}, step {step}");
            given.extend(next);
            let (waiting, out) = bench.timers.in_memory();
            assert!(waiting <= 2 && out <= given.len(), "seed {seed}, step {step}");
        }
    }
    assert!(changed > 1_000, "{changed}");
}

/// Many runs become due at one moment, and few may be in memory: each is taken up once and ends, and nobody reads the
/// same timers over and over meanwhile.
#[test]
fn house_a5_many_more_runs_are_due_than_may_be_in_memory_and_each_wakes_once() {
    const RUNS: u64 = 3_000;
    const PLACES: u64 = 50;
    let slack = Slack::start();
    let clock = Manual::new(START);
    let limits = Limits { live_runs_max: PLACES, ..Limits::default() };
    let life = Life::start_at(fresh(), limits, Arc::new(clock.clone()), &slack);
    let workflow = life.apply("\n  - rest: {wait: {hours: 1}}");
    let left = || life.engine().services.counters.left.load(std::sync::atomic::Ordering::Relaxed);
    let runs: Vec<RunId> = (0..RUNS).map(|_| life.started(trigger(&workflow, json!({}), &[], None))).collect();
    life.until("all rest", || life.engine().runs().live() == 0 && left() == RUNS);
    let before = life.store.scanned();
    clock.advance(Duration::from_secs(3_600));
    life.until("all have ended", || {
        assert!(life.engine().runs().live() as u64 <= PLACES, "{} are in memory", life.engine().runs().live());
        life.engine().runs().places.open() == 0
    });
    life.until("all are gone", || life.engine().runs().live() == 0);
    assert_eq!(left(), 2 * RUNS, "each was taken up once to begin and once to end");
    assert_eq!(life.engine().runs().places.in_line(), 0);
    assert_eq!(life.engine().services.partition.timers.in_memory(), (0, 0));
    // Each timer once, and of each run what taking it up reads.
    let read = (life.store.scanned() - before) / RUNS;
    assert!(read < 20, "{read} records of the store were read for each run");
    for run in runs.iter().step_by(97) {
        assert_eq!(life.status(*run), Status::Completed);
    }
}
