//! Snapshots and timers, over restarts and with a clock that is set.

use std::sync::Arc;

use bellhop_core::id::RunId;
use bellhop_core::run::{State, Status};
use bellhop_core::time::Timestamp;
use futures_util::FutureExt as _;
use serde_json::Value;

use super::double::{Double, Outside};
use super::ports::{LocalStage, START, Stage, Taken, wake};
use super::scenarios::{facts, literally};
use crate::drive::driver::{self, Carried, Left};
use crate::execution::local::Local;
use crate::owners::timers::Timers;
use crate::tests::at_once;
use bellhop_clock::Manual;
use bellhop_journal::memory::Memory;
use bellhop_journal::{Journal, Write, key};

async fn carry(taken: Taken<Local>, outside: &Arc<Outside>) -> Carried {
    let Taken { port, inbox, state, decisions } = taken;
    let double = Double { port: port.clone(), outside: outside.clone(), inbox, acknowledged: Arc::default() };
    driver::drive(port.as_ref(), &double, &literally(), state, decisions).await.unwrap()
}

#[tokio::test]
async fn a_run_woken_from_a_snapshot_is_the_run_that_its_log_tells_of() {
    let items: Vec<String> = (0..150).map(|n| n.to_string()).collect();
    let facts = facts(&format!(
        "
  - each:
      for: {{in: '${{ [{}] }}'}}
      do:
        - one: {{call: plain:1@double}}
  - rest: {{wait: {{hours: 1}}}}
  - last: {{call: plain:1@double}}",
        items.join(",")
    ));
    let outside = Arc::new(Outside::default());
    let mut stage = LocalStage::new(&facts);
    // It dies in the middle, behind a snapshot and before the next; then it rests, which makes another.
    stage.die_at(super::ports::Point { at: 300, keep: usize::MAX });
    let taken = stage.take().await;
    tokio::select! {
        biased;
        () = stage.died() => {}
        carried = carry(taken, &outside) => panic!("it came to its end as {:?}", carried.left),
    }
    stage.restart();
    for part in ["in the middle", "at rest"] {
        let (snapshot, folded, whole) = stage.read_both_ways().await;
        assert!(snapshot.events >= 256, "{part}: the snapshot has {} events", snapshot.events);
        assert!(folded.events > 256, "{part}");
        assert_eq!(folded, whole, "{part}");
        let taken = stage.take().await;
        assert_eq!(taken.state, whole, "{part}");
        if part == "in the middle" {
            let carried = carry(taken, &outside).await;
            assert_eq!((carried.left, carried.state.status()), (Left::Resting, Status::Waiting));
            stage.restart();
        }
    }
    let state: State = stage.take().await.state;
    stage.pass(&state);
    // Waking costs the snapshot and not the history.
    let before = stage.scanned();
    let taken = stage.take().await;
    assert!(stage.scanned() - before < 5, "{} records were read", stage.scanned() - before);
    taken.inbox.send(wake()).unwrap();
    let carried = carry(taken, &outside).await;
    assert_eq!((carried.left, carried.state.status()), (Left::Ended, Status::Completed));
    let ledger = outside.ledger();
    assert_eq!(ledger.len(), 151);
    assert!(ledger.values().all(|times| *times == 1));
}

#[tokio::test]
async fn large_snapshots_leave_nothing_behind() {
    let large = "x".repeat(20_000);
    let facts = facts(&format!(
        "
  - keep: {{set: {{done: true}}, export: {{as: '${{ \"{large}\" }}'}}}}
  - one: {{wait: {{hours: 1}}}}
  - two: {{wait: {{hours: 1}}}}
  - three: {{wait: {{hours: 1}}}}"
    ));
    let outside = Arc::new(Outside::default());
    let mut stage = LocalStage::new(&facts);
    carry(stage.take().await, &outside).await;
    let blobs = stage.blobs();
    for _ in 0..2 {
        let state: State = stage.take().await.state;
        assert!(serde_json::to_string(&state).unwrap().len() > 20_000, "the state is large");
        stage.pass(&state);
        let taken = stage.take().await;
        taken.inbox.send(wake()).unwrap();
        let carried = carry(taken, &outside).await;
        assert_eq!(carried.left, Left::Resting);
    }
    assert_eq!(stage.blobs(), blobs);
}

#[tokio::test]
async fn a_retried_action_behind_a_snapshot_knows_what_its_earlier_attempt_did() {
    // The first attempt succeeds with one write and fails with the second; between the attempts the run rests.
    let facts = facts(
        "
  - careful:
      try:
        - before: {call: plain:1@double}
        - pair: {call: pair:1@double}
      catch:
        errors: {with: {status: 429}}
        retry: {delay: {hours: 2}, limit: {attempt: {count: 3}}}",
    );
    let outside = Arc::new(Outside::default());
    let mut stage = LocalStage::new(&facts);
    let carried = carry(stage.take().await, &outside).await;
    assert_eq!(carried.left, Left::Resting);
    stage.restart();
    let state: State = stage.take().await.state;
    stage.pass(&state);
    let taken = stage.take().await;
    taken.inbox.send(wake()).unwrap();
    let carried = carry(taken, &outside).await;
    assert_eq!((carried.left, carried.state.status()), (Left::Ended, Status::Completed));
    let twice: Vec<_> = outside.ledger().into_iter().filter(|(_, times)| *times != 1).collect();
    assert!(twice.is_empty(), "done again: {twice:?}");
    assert_eq!(outside.ledger().len(), 3);
}

#[tokio::test]
async fn a_clock_that_is_set_back_neither_loses_a_timer_nor_fires_it_twice() {
    let facts = facts("\n  - rest: {wait: {hours: 1}}\n  - one: {call: plain:1@double}");
    let outside = Arc::new(Outside::default());
    let mut stage = LocalStage::new(&facts);
    let carried = carry(stage.take().await, &outside).await;
    assert_eq!((carried.left, carried.state.status()), (Left::Resting, Status::Waiting));
    stage.pass(&carried.state);
    // Between the bell and the decision somebody sets the clock back.
    stage.clock.set(START);
    let taken = stage.take().await;
    taken.inbox.send(wake()).unwrap();
    let carried = carry(taken, &outside).await;
    assert_eq!(carried.state.status(), Status::Waiting, "it woke before its time");
    assert!(stage.timers.due().now_or_never().is_none());
    // Its time comes a second time, and counts; a jump far beyond it fires it once.
    stage.clock.set(START.plus_millis(1 << 40));
    assert_eq!(stage.timers.due().now_or_never().map(Result::ok), Some(Some(facts.run)));
    assert!(stage.timers.due().now_or_never().is_none());
    let taken = stage.take().await;
    taken.inbox.send(wake()).unwrap();
    let carried = carry(taken, &outside).await;
    assert_eq!(carried.state.status(), Status::Completed);
    assert_eq!(outside.ledger().len(), 1);
    // Nothing is left of it, over a restart and with any clock.
    stage.restart();
    stage.clock.set(START);
    assert!(stage.timers.due().now_or_never().is_none());
    stage.clock.set(START.plus_millis(1 << 41));
    assert!(stage.timers.due().now_or_never().is_none());
}

#[tokio::test]
async fn a_time_that_passed_while_no_process_lived_fires_once_at_the_next_start() {
    let facts = facts("\n  - rest: {wait: {hours: 1}}\n  - one: {call: plain:1@double}");
    let outside = Arc::new(Outside::default());
    let mut stage = LocalStage::new(&facts);
    let carried = carry(stage.take().await, &outside).await;
    assert_eq!(carried.left, Left::Resting);
    stage.clock.set(START.plus_millis(1 << 40));
    for _ in 0..2 {
        // Given once by each process that does not come to decide.
        stage.restart();
        assert_eq!(stage.timers.due().now_or_never().map(Result::ok), Some(Some(facts.run)));
        assert!(stage.timers.due().now_or_never().is_none());
    }
    let taken = stage.take().await;
    taken.inbox.send(wake()).unwrap();
    assert_eq!(carry(taken, &outside).await.state.status(), Status::Completed);
    stage.restart();
    assert!(stage.timers.due().now_or_never().is_none());
}

#[tokio::test]
async fn more_timers_than_are_kept_in_memory_all_fire_once_and_in_order() {
    let journal = Journal::checked(Arc::new(Memory::new()));
    let clock = Manual::new(START);
    let put = |at: Timestamp, run: RunId| {
        let mut write = Write::new();
        write.put(&key::timer(at, run, 0), &Value::Null).unwrap();
        journal.commit(write).unwrap();
    };
    let run = |n: u64| RunId::new(START, u128::from(n));
    let at = |n: u64| START.plus_millis(10 * n);
    for n in (1..=2_500).rev() {
        put(at(n), run(n));
    }
    let timers = at_once(Timers::read(journal.clone(), Arc::new(clock.clone()))).unwrap();
    // Set after the start: between, before and behind what is in memory.
    for n in [0, 2_501] {
        put(at(n), run(n));
        timers.set(at(n), run(n));
    }
    clock.set(at(5_000));
    for n in 0..=2_501 {
        let due = timers.due().now_or_never();
        assert_eq!(due.map(Result::ok), Some(Some(run(n))), "number {n}");
        let mut write = Write::new();
        write.delete(&key::timer(at(n), run(n), 0));
        journal.commit(write).unwrap();
    }
    assert!(timers.due().now_or_never().is_none());
}
