//! A guest's time is what it computed, and nothing else.

#![allow(clippy::disallowed_methods, reason = "what takes how long is measured")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bellhop_core::cost::Cost;
use bellhop_core::expression::{Error, Evaluator as _};
use serde_json::{Value, json};

use super::{POST, Plugin, Recorder, call, options, sandbox};
use crate::cpu::Clock;
use crate::expression::{self, Expressions};
use crate::{Budget, Call, Package, Sandbox, Trap};

/// A loop of so many turns before the answer.
fn looping(turns: u64) -> String {
    format!(
        "(local $left i64) (local.set $left (i64.const {turns}))
         (loop $l (local.set $left (i64.sub (local.get $left) (i64.const 1))) (br_if $l (i64.ne (local.get $left) (i64.const 0))))
         (call $ok (local.get $input) (local.get $length))"
    )
}

fn within(cpu_ms_max: u64) -> Call<'static> {
    Call { budget: Budget { cpu_ms_max, ..Budget::default() }, ..call("{}") }
}

async fn with_clock(folder: &tempfile::TempDir, clock: Clock, plugin: &Plugin<'_>) -> Package {
    let mut options = options(folder.path().to_owned());
    options.limits.concurrent_calls_max = 4;
    options.limits.expression_instances_max = 1;
    Sandbox::with_clock(options, clock).unwrap().prepare(&plugin.build()).await.unwrap()
}

/// Threads that only compute, until this is dropped: four for each processor.
struct Burners {
    threads: Vec<std::thread::JoinHandle<()>>,
    out: Arc<AtomicBool>,
}

impl Burners {
    fn light() -> Self {
        let processors = std::thread::available_parallelism().unwrap().get();
        let out = Arc::new(AtomicBool::new(false));
        let burn = |out: Arc<AtomicBool>| {
            while !out.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        };
        let threads = (0..4 * processors).map(|_| {
            let out = Arc::clone(&out);
            std::thread::spawn(move || burn(out))
        });
        Self { threads: threads.collect(), out }
    }
}

impl Drop for Burners {
    fn drop(&mut self) {
        self.out.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ended = thread.join();
        }
    }
}

/// Four of them on fewer processors, beside others who compute: each takes several times as long as it may compute.
///
/// A machine can take the processor from all of us and count that as ours, so that a round may say nothing: who counts
/// by the wall's clock fails in every one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn author_c2_a_guest_that_has_to_share_the_processor_has_its_time_all_the_same() {
    let run = looping(20_000_000);
    let package = sandbox().prepare(&Plugin { run: &run, ..Plugin::default() }.build()).await.unwrap();
    let mut rounds = Vec::new();
    while rounds.len() < 10 {
        let alone = alone(&package).await;
        // Twice that, because a processor that is shared is slower, too.
        let cpu_ms_max = u64::try_from(alone.as_millis() * 2).unwrap().max(20);
        let beside = beside_others(&package, cpu_ms_max).await;
        let all_ended = beside.iter().all(|(answer, _)| *answer == Ok(Ok("{}".to_owned())));
        let longest = beside.iter().map(|(_, took)| *took).max().unwrap();
        if all_ended && longest > Duration::from_millis(cpu_ms_max) {
            return;
        }
        rounds.push((alone, cpu_ms_max, beside));
    }
    panic!("{rounds:#?}");
}

/// What it takes in this build, while nobody of ours computes beside it: the shortest, since other tests may.
async fn alone(package: &Package) -> Duration {
    let mut shortest = Duration::MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        assert_eq!(package.run(within(60_000), Recorder::default()).await, Ok(Ok("{}".to_owned())));
        shortest = shortest.min(begun.elapsed());
    }
    shortest
}

/// The answers of four, and what each took by the wall, while more threads compute than there are processors.
async fn beside_others(package: &Package, cpu_ms_max: u64) -> Vec<(Result<Result<String, String>, Trap>, Duration)> {
    let _burners = Burners::light();
    let tasks = (0..4).map(|_| {
        let package = package.clone();
        tokio::spawn(async move {
            let begun = Instant::now();
            (package.run(within(cpu_ms_max), Recorder::default()).await, begun.elapsed())
        })
    });
    let mut answers = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        answers.push(task.await.unwrap());
    }
    answers
}

/// As if others had the processor all the time.
#[tokio::test]
async fn author_c2_however_long_it_takes_by_the_wall() {
    let folder = tempfile::tempdir().unwrap();
    let run = looping(100_000_000);
    let plugin = Plugin { run: &run, ..Plugin::default() };
    let package = with_clock(&folder, Clock(|| 7), &plugin).await;
    let begun = Instant::now();
    assert_eq!(package.run(within(1), Recorder::default()).await, Ok(Ok("{}".to_owned())));
    assert!(begun.elapsed() > Duration::from_millis(20), "it was longer than two epochs: {:?}", begun.elapsed());
}

/// Each reading of this clock is 300 ms later than the one before.
fn hurried() -> u64 {
    static NOW: AtomicU64 = AtomicU64::new(0);
    NOW.fetch_add(300_000_000, Ordering::Relaxed)
}

#[tokio::test]
async fn its_own_time_ends_it_however_little_passes_by_the_wall() {
    let folder = tempfile::tempdir().unwrap();
    let run = "(loop $l (br $l)) (unreachable)";
    let package = with_clock(&folder, Clock(hurried), &Plugin { run, ..Plugin::default() }).await;
    let begun = Instant::now();
    let answer = package.run(within(60_000), Recorder::default()).await;
    assert_eq!(answer, Err(Trap::Cpu { ms_max: 60_000 }));
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

/// A hundred calls with 300 ms each on this clock: much more than one stretch may have.
#[tokio::test]
async fn each_call_begins_a_new_stretch() {
    let folder = tempfile::tempdir().unwrap();
    let run = "(local $left i32) (local.set $left (i32.const 100))
        (loop $l (call $chat.post-message (local.get $input) (local.get $length) (i32.const 64))
          (br_if $l (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (i32.const 64)";
    let package = with_clock(&folder, Clock(hurried), &Plugin { run, ..POST }).await;
    assert_eq!(package.run(within(10_000), Recorder::default()).await, Ok(Ok("{}".to_owned())));
}

#[tokio::test]
async fn author_c2_an_expression_has_its_own_time_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path().to_owned());
    options.limits.concurrent_calls_max = 1;
    options.limits.expression_instances_max = 1;
    let budget = expression::Budget { cpu_ms_max: 5, ..expression::Budget::default() };
    let program = "[range(3000)] | map(. * 2) | add";
    let still = Sandbox::with_clock(options.clone(), Clock(|| 0)).unwrap();
    let still = Expressions::load(&still, budget.clone()).await.unwrap();
    // By the wall it takes longer than its five milliseconds in a build without optimization, and in none is it ended.
    for _ in 0..20 {
        let answer = still.answer(program, &[], &Value::Null);
        assert_eq!((answer.result, answer.cost), (Ok(json!(8_997_000)), Cost::ZERO));
    }
    let hurried = Sandbox::with_clock(options, Clock(hurried)).unwrap();
    let hurried = Expressions::load(&hurried, budget).await.unwrap();
    let answer = hurried.answer("last(range(1e12))", &[], &Value::Null);
    let cost_us = answer.cost.as_micros();
    assert_eq!(answer.result, Err(Error::Budget { what: "time".to_owned() }));
    assert!(cost_us >= 300_000, "{cost_us}");
}

/// This clock moves by 300 ms when it is read for the 22nd time, and stands still before and after.
fn stolen_from_once() -> u64 {
    static READ: AtomicU64 = AtomicU64::new(0);
    READ.fetch_add(1, Ordering::Relaxed).clamp(20, 21) * 300_000_000
}

/// As on a machine that has other guests, which had the processor for a moment.
#[tokio::test]
async fn time_that_the_machine_took_ends_no_expression() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path().to_owned());
    options.limits.expression_instances_max = 1;
    let budget = expression::Budget { cpu_ms_max: 5, ..expression::Budget::default() };
    let robbed = Sandbox::with_clock(options, Clock(stolen_from_once)).unwrap();
    let robbed = Expressions::load(&robbed, budget).await.unwrap();
    for _ in 0..30 {
        let answer = robbed.answer("[range(3000)] | map(. * 2) | add", &[], &Value::Null);
        assert_eq!(answer.result, Ok(json!(8_997_000)));
    }
    assert!(stolen_from_once() > 20 * 300_000_000, "the clock was read beyond the moment");
}

/// The more it does, the more it says that it cost, and waiting costs nothing.
#[tokio::test]
async fn an_evaluation_says_what_it_cost() {
    let jq = Expressions::load(sandbox(), expression::Budget { cpu_ms_max: 5_000, ..expression::Budget::default() })
        .await
        .unwrap();
    let cost = |program: &str| {
        let answer = jq.answer(program, &[], &Value::Null);
        answer.result.unwrap();
        answer.cost.as_micros()
    };
    cost("1");
    let (little, much) = (cost("1"), cost("[range(50000)] | add"));
    assert!(little > 0 && much > little, "{little} and {much} microseconds");
    assert!(little < 200_000, "{little} microseconds");
}
