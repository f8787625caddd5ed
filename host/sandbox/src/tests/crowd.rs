//! More guests at once than there is room for: they wait, and none of them sees anything of it.

#![allow(clippy::disallowed_methods, reason = "a wait has a deadline")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, join_all};
use wasmtime::Store;

use super::{POST, Plugin, Recorder, Then, call, options};
use crate::{Halt, Host, Limits, Package, Sandbox};

/// Answers when so many were there at the same time, and each has had turns enough to come.
#[derive(Clone, Default)]
struct Crowd {
    wanted: usize,
    at_once: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

/// Turns of a thread in which everybody who may come does.
const TURNS: usize = 200;

impl Crowd {
    /// Until so many were there at the same time.
    async fn is_there(&self) {
        let begun = Instant::now();
        for turn in 0.. {
            if turn >= TURNS && self.most.load(Ordering::SeqCst) >= self.wanted {
                return;
            }
            let most = self.most.load(Ordering::SeqCst);
            assert!(begun.elapsed() < Duration::from_secs(60), "{most} of {} at the same time", self.wanted);
            tokio::task::yield_now().await;
        }
    }
}

impl Host for Crowd {
    fn call<'a>(
        &'a mut self,
        _function: &'a str,
        arguments: String,
    ) -> BoxFuture<'a, Result<Result<String, String>, Halt>> {
        Box::pin(async move {
            let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            self.is_there().await;
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            Ok(Ok(arguments))
        })
    }

    fn log(&mut self, _level: &str, _text: &str) {}
}

/// So many more core instances, each with a memory of its own where there are some left.
fn composed(core_instances: usize, memories: usize, tables: usize) -> String {
    let each = |i: usize| {
        let memory = if i < memories { "(memory 1 1)" } else { "" };
        let tables = "(table 1 funcref)".repeat(tables / core_instances);
        format!("(core module $more{i} {memory} {tables}) (core instance (instantiate $more{i}))")
    };
    (0..core_instances).map(each).collect()
}

async fn sandbox(folder: &tempfile::TempDir, change: impl FnOnce(&mut Limits)) -> Sandbox {
    let mut options = options(folder.path().to_owned());
    options.limits.concurrent_calls_max = 8;
    options.limits.expression_instances_max = 1;
    change(&mut options.limits);
    Sandbox::new(options).unwrap()
}

/// Has each answer so many times, while so many are there at the same time at least.
async fn all_answer(packages: &[&Package], times: usize, wanted: usize) -> Crowd {
    let host = Crowd { wanted, ..Crowd::default() };
    let runs = packages.iter().flat_map(|&package| (0..times).map(|_| package.run(call("{}"), host.clone())));
    for answer in join_all(runs).await {
        assert_eq!(answer, Ok(Ok("{}".to_owned())));
    }
    host
}

#[tokio::test]
async fn author_c1_a_crowd_of_components_with_many_parts_completes_beside_a_small_one() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = sandbox(&folder, |_| {}).await;
    // Each is one that the pool of old had a place for less often than there are calls.
    for (core_instances, memories, tables) in [(14, 0, 0), (12, 1, 0), (3, 3, 0), (7, 0, 14), (60, 3, 0)] {
        let outer = composed(core_instances, memories, tables);
        let large = sandbox.prepare(&Plugin { outer: &outer, ..POST }.build()).await.unwrap();
        let small = sandbox.prepare(&POST.build()).await.unwrap();
        all_answer(&[&large, &small], 40, 2).await;
    }
    assert_eq!(
        sandbox.shared.places.free(crate::places::Needs { calls: 1, memories: 1, tables: 1, memory_bytes: 1 }),
        8
    );
}

#[tokio::test]
async fn author_c1_one_plugins_crowd_leaves_room_for_another_plugin() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = sandbox(&folder, |_| {}).await;
    let crowd = sandbox.prepare(&POST.build()).await.unwrap();
    let other = sandbox.prepare(&Plugin { description: r#"{"name":"other"}"#, ..POST }.build()).await.unwrap();
    let waits = || crowd.run(call("{}"), Recorder { then: Then::Wait, ..Recorder::default() });
    let crowd = join_all((0..50).map(|_| waits()));
    tokio::select! {
        _ = crowd => panic!("nobody answers them"),
        answer = other.run(call("{}"), Recorder::default()) => assert_eq!(answer, Ok(Ok("{}".to_owned()))),
    }
}

/// Whatever the pool is full of: instances that nobody counted, here.
#[tokio::test]
async fn author_c1_a_full_pool_is_waiting_and_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = sandbox(&folder, |limits| limits.concurrent_calls_max = 2).await;
    let package = sandbox.prepare(&POST.build()).await.unwrap();
    let mut uncounted = Vec::new();
    let engine = &sandbox.shared.engine;
    let module = wasmtime::Module::new(engine, wat::parse_str("(module (memory 1))").unwrap()).unwrap();
    loop {
        let mut store = Store::new(engine, ());
        store.set_epoch_deadline(u64::MAX / 2);
        match wasmtime::Instance::new_async(&mut store, &module, &[]).await {
            Ok(_) => uncounted.push(store),
            Err(error) => {
                assert!(error.is::<wasmtime::PoolConcurrencyLimitError>(), "{error:?}");
                break;
            }
        }
    }
    assert!(uncounted.len() > 2);
    let mut run = std::pin::pin!(package.run(call("{}"), Recorder::default()));
    // It looks again and again, and says nothing.
    let mut looks = 0;
    let waits = std::future::poll_fn(|context| {
        let polled = run.as_mut().poll(context);
        assert!(polled.is_pending(), "{polled:?}");
        looks += 1;
        if looks < 10 { Poll::Pending } else { Poll::Ready(()) }
    });
    tokio::time::timeout(Duration::from_secs(60), waits).await.unwrap();
    drop(uncounted);
    assert_eq!(run.await, Ok(Ok("{}".to_owned())));
}

/// Memory that is counted once it is there would let all of them begin, and each wait for the others.
#[tokio::test]
async fn each_guest_is_counted_with_the_most_that_it_can_grow_to() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = sandbox(&folder, |limits| limits.guests_memory_bytes_max = 2 * (64 << 20)).await;
    let grows = "(drop (memory.grow (i32.const 900)))
        (call $chat.post-message (local.get $input) (local.get $length) (i32.const 64)) (i32.const 64)";
    let endless = sandbox.prepare(&Plugin { run: grows, ..POST }.build()).await.unwrap();
    assert_eq!(endless.inspection().memory_bytes_max, None);
    let host = all_answer(&[&endless], 10, 1).await;
    assert_eq!(host.most.load(Ordering::SeqCst), 1, "one, and the rest is left to others");
    // The same with an end of its own.
    let bounded = Plugin { pages: 2, pages_max: Some(16), ..POST };
    let bounded = sandbox.prepare(&bounded.build()).await.unwrap();
    assert_eq!(bounded.inspection().memory_bytes_max, Some(16 << 16));
    // A small one is counted as one.
    all_answer(&[&bounded], 30, 5).await;
}

#[test]
fn guests_have_half_of_the_memory_together() {
    const MIB: u64 = 1 << 20;
    for (memory_mib, expressions, calls_mib) in
        [(12 << 10, 16, 11 << 10), (2 << 10, 4, 1_792), (1 << 10, 2, 896), (256, 1, 192), (64, 1, 64), (1, 1, 64)]
    {
        let limits = Limits::default().within(memory_mib * MIB);
        assert_eq!(limits.expression_instances_max, expressions, "{memory_mib} MiB");
        assert_eq!(limits.guests_memory_bytes_max, calls_mib * MIB, "{memory_mib} MiB");
    }
    let told = Limits::default().on_this_machine(1 << 30);
    assert!(told.guests_memory_bytes_max <= 1 << 30);
}
