//! Guests that mean ill. Each ends with a name for what it did, and others go on.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::{POST, Plugin, Recorder, Then, call, package, sandbox};
use crate::{Budget, Refusal, Trap};

const FOREVER: &str = "(loop $l (br $l)) (unreachable)";

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn quick() -> Budget {
    Budget { cpu_ms_max: 100, ..Budget::default() }
}

async fn run(plugin: &Plugin<'_>, budget: Budget) -> Result<Result<String, String>, Trap> {
    let mut call = call("{}");
    call.budget = budget;
    package(plugin).await.run(call, Recorder::default()).await
}

/// One thread: only a guest that is made to yield lets another call in.
#[tokio::test(flavor = "current_thread")]
async fn a_loop_ends_and_others_go_on_meanwhile() {
    let looping = package(&Plugin { run: FOREVER, ..Plugin::default() }).await;
    let honest = package(&POST).await;
    let start = Instant::now();
    let looping = tokio::spawn(async move {
        let answer = looping.run(call("{}"), Recorder::default()).await;
        (answer, start.elapsed())
    });
    let mut served = 0_u32;
    while !looping.is_finished() {
        honest.run(call("{}"), Recorder::default()).await.unwrap().unwrap();
        served += 1;
        tokio::task::yield_now().await;
    }
    let (answer, took) = looping.await.unwrap();
    assert_eq!(answer, Err(Trap::Cpu { ms_max: 1_000 }));
    assert!(took >= Duration::from_millis(1_000) && took < Duration::from_secs(10), "{took:?}");
    assert!(served >= 50, "{served} honest calls while another guest looped for a second");
}

#[tokio::test]
async fn a_loop_before_the_action_ends_too() {
    let plugin = Plugin { items: "(func $start (loop $l (br $l))) (start $start)", ..Plugin::default() };
    assert_eq!(run(&plugin, quick()).await, Err(Trap::Cpu { ms_max: 100 }));
}

#[tokio::test]
async fn a_loop_of_log_lines_is_a_loop() {
    let plugin = Plugin {
        run: "(loop $l (call $log (i32.const 512) (i32.const 4) (local.get $input) (local.get $length)) (br $l)) (unreachable)",
        ..Plugin::default()
    };
    let host = Recorder::default();
    let mut hostile = call("0123456789");
    hostile.budget = Budget { log_lines_max: 20, ..quick() };
    assert_eq!(package(&plugin).await.run(hostile, host.clone()).await, Err(Trap::Cpu { ms_max: 100 }));
    let seen = host.seen.lock().unwrap();
    assert_eq!(seen.logs.len(), 21, "twenty lines and the one that says so");
    assert_eq!(seen.logs[20].0, "warn");
}

#[tokio::test]
async fn a_long_log_line_is_cut_and_counts() {
    let plugin = Plugin {
        run: "(loop $l (call $log (i32.const 512) (i32.const 4) (i32.const 0) (i32.const 65536))
                (br_if $l (i32.lt_u (i32.const 0) (local.tee $action (i32.sub (local.get $action) (i32.const 1))))))
              (call $ok (i32.const 0) (i32.const 0))",
        ..Plugin::default()
    };
    let host = Recorder::default();
    package(&plugin).await.run(call("{}"), host.clone()).await.unwrap().unwrap();
    let seen = host.seen.lock().unwrap();
    let bytes: usize = seen.logs.iter().filter(|(level, _)| level == "info").map(|(_, text)| text.len()).sum();
    assert_eq!(bytes, Budget::default().log_bytes_max);
    assert!(seen.logs.iter().all(|(_, text)| text.len() <= 8 << 10));
}

#[tokio::test]
async fn a_trap_has_a_name() {
    let trap = run(&Plugin { run: "(unreachable)", ..Plugin::default() }, quick()).await.unwrap_err();
    assert!(matches!(&trap, Trap::Other(text) if text.contains("unreachable")), "{trap:?}");
    let divided = "(i32.div_u (i32.const 1) (i32.const 0))";
    let trap = run(&Plugin { run: divided, ..Plugin::default() }, quick()).await.unwrap_err();
    assert!(matches!(&trap, Trap::Other(text) if text.contains("divide by zero")), "{trap:?}");
}

#[tokio::test]
async fn memory_has_an_end() {
    let plugin = Plugin {
        run: "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)",
        ..Plugin::default()
    };
    assert_eq!(run(&plugin, quick()).await, Err(Trap::Memory { bytes_max: 64 << 20 }));
    let small = Budget { memory_bytes_max: 1 << 20, ..quick() };
    assert_eq!(run(&plugin, small).await, Err(Trap::Memory { bytes_max: 1 << 20 }));
}

#[tokio::test]
async fn memory_beyond_a_modules_own_bound_is_its_own_affair() {
    let plugin = Plugin {
        items: "(memory $own 1 2)",
        run: "(i32.store8 (i32.const 2048) (i32.add (i32.const 50) (memory.grow $own (i32.const 5)))) (call $ok (i32.const 2048) (i32.const 1))",
        ..Plugin::default()
    };
    assert_eq!(run(&plugin, quick()).await, Ok(Ok("1".to_owned())), "50 and -1 is the digit 1");
}

#[tokio::test]
async fn a_plugin_that_starts_too_large_is_refused() {
    let plugin = Plugin { pages: 1_025, ..Plugin::default() };
    let refusal = sandbox().prepare(&plugin.build()).await.unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the plugin's memories have 67174400 bytes when it starts, the most is 67108864 (`guest_memory_bytes_max`)"
    );
}

#[tokio::test]
async fn tables_have_an_end() {
    let plugin = Plugin {
        items: "(table $t 1 funcref)",
        run: "(loop $l (br_if $l (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)))) (unreachable)",
        ..Plugin::default()
    };
    assert_eq!(run(&plugin, quick()).await, Err(Trap::Memory { bytes_max: 64 << 20 }));
}

#[tokio::test]
async fn recursion_has_an_end() {
    let plugin = Plugin {
        items: "(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (i32.add (local.get 0) (i32.const 1)))))",
        run: "(call $deep (i32.const 0))",
        ..Plugin::default()
    };
    assert_eq!(run(&plugin, Budget::default()).await, Err(Trap::StackOverflow));
}

#[tokio::test]
async fn output_has_an_end() {
    let output = |bytes: usize| format!("(call $ok (i32.const 0) (i32.const {bytes}))");
    for (bytes, expected) in [
        (1 << 20, None),
        ((1 << 20) + 1, Some(Trap::OutputTooLarge { bytes_max: 1 << 20 })),
        (32 << 20, Some(Trap::HostcallFuel { bytes_max: 1 << 20 })),
    ] {
        let plugin = Plugin { pages: 600, run: &output(bytes), ..Plugin::default() };
        let answer = run(&plugin, quick()).await;
        match expected {
            Some(trap) => assert_eq!(answer, Err(trap), "{bytes}"),
            None => assert_eq!(answer.unwrap().unwrap().len(), bytes),
        }
    }
}

#[tokio::test]
async fn an_answer_outside_of_memory_is_a_trap() {
    let plugin = Plugin { run: "(call $ok (i32.const -8) (i32.const 100))", ..Plugin::default() };
    let trap = run(&plugin, quick()).await.unwrap_err();
    assert!(matches!(&trap, Trap::Other(text) if text.contains("out of bounds")), "{trap:?}");
}

#[tokio::test]
async fn arguments_have_an_end() {
    for bytes in [(1 << 20) + 1, 32 << 20] {
        let run_body =
            format!("(call $chat.post-message (i32.const 0) (i32.const {bytes}) (i32.const 64)) (i32.const 64)");
        let host = Recorder::default();
        let plugin = Plugin { pages: 600, run: &run_body, ..POST };
        let answer = package(&plugin).await.run(call("{}"), host.clone()).await;
        assert_eq!(answer, Err(Trap::HostcallFuel { bytes_max: 1 << 20 }));
        assert!(host.seen.lock().unwrap().calls.is_empty());
    }
}

#[tokio::test]
async fn calls_have_an_end() {
    let plugin = Plugin {
        run: "(loop $l (call $chat.post-message (local.get $input) (local.get $length) (i32.const 64)) (br $l)) (unreachable)",
        ..POST
    };
    let host = Recorder::default();
    let answer = package(&plugin).await.run(call("{}"), host.clone()).await;
    assert_eq!(answer, Err(Trap::Calls { calls_max: 200 }));
    assert_eq!(host.seen.lock().unwrap().calls.len(), 200);
}

/// Two seconds of waiting in the host and little computing is within a second of computing.
#[tokio::test(start_paused = true)]
async fn waiting_is_not_computing() {
    struct Slow;
    impl crate::Host for Slow {
        fn call<'a>(
            &'a mut self,
            _function: &'a str,
            _arguments: String,
        ) -> futures_util::future::BoxFuture<'a, Result<Result<String, String>, crate::Halt>> {
            Box::pin(async {
                tokio::time::sleep(Duration::from_secs(2)).await;
                Ok(Ok("late".to_owned()))
            })
        }
        fn log(&mut self, _level: &str, _text: &str) {}
    }
    let mut patient = call("{}");
    patient.budget = Budget { cpu_ms_max: 20, ..Budget::default() };
    assert_eq!(package(&POST).await.run(patient, Slow).await, Ok(Ok("late".to_owned())));
}

#[tokio::test]
async fn describing_may_not_call_anything() {
    let plugin = Plugin {
        items: "(func $start (call $chat.post-message (i32.const 0) (i32.const 0) (i32.const 64))) (start $start)",
        ..POST
    };
    let refusal = package(&plugin).await.describe().await.unwrap_err();
    assert!(matches!(&refusal, Refusal::Describe { trap: Trap::Halted(_) }), "{refusal:?}");
}

#[tokio::test]
async fn a_description_is_json() {
    let plugin = Plugin { description: "hello", ..Plugin::default() };
    let refusal = package(&plugin).await.describe().await.unwrap_err();
    assert!(matches!(refusal, Refusal::DescriptionNotJson { .. }), "{refusal:?}");
}

#[tokio::test]
async fn a_description_that_has_a_key_twice_is_refused() {
    let plugin =
        Plugin { description: r#"{"name": "a", "actions": [{"name": "b", "name": "c"}]}"#, ..Plugin::default() };
    let refusal = package(&plugin).await.describe().await.unwrap_err();
    let text = "the plugin's description, at `/actions/0/name`: the key stands twice in this object";
    assert_eq!(refusal.to_string(), text);
}

/// More drops than the pool has slots: a single leaked one in each would show.
#[tokio::test]
async fn a_call_dropped_while_it_waits_leaves_nothing() {
    let package = package(&POST).await;
    for _ in 0..1_000 {
        let host = Recorder { then: Then::Wait, ..Recorder::default() };
        let seen = std::sync::Arc::clone(&host.seen);
        {
            let mut waiting = std::pin::pin!(package.run(call("{}"), host));
            // It can be pending for other reasons first: an epoch that ended, a runtime that wants its turn.
            while seen.lock().unwrap().calls.is_empty() {
                assert!(poll(waiting.as_mut()).is_pending());
                tokio::task::yield_now().await;
            }
            assert!(poll(waiting.as_mut()).is_pending());
        }
        assert_eq!(std::sync::Arc::strong_count(&seen), 1, "its host is gone");
    }
    assert!(package.run(call("{}"), Recorder::default()).await.is_ok());
}

#[tokio::test]
async fn calls_beyond_the_pool_wait_for_their_turn() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = super::options(dir.path().to_owned());
    options.limits.concurrent_calls_max = 2;
    options.limits.expression_instances_max = 0;
    let sandbox = crate::Sandbox::new(options).unwrap();
    let package = sandbox.prepare(&POST.build()).await.unwrap();
    let wait = || package.run(call("{}"), Recorder { then: Then::Wait, ..Recorder::default() });
    let mut first = Box::pin(wait());
    let mut second = Box::pin(wait());
    let mut third = Box::pin(package.run(call("{}"), Recorder::default()));
    assert!(poll(first.as_mut()).is_pending());
    assert!(poll(second.as_mut()).is_pending());
    assert_eq!(sandbox.free_slots(), 0);
    assert!(poll(third.as_mut()).is_pending());
    drop(first);
    assert_eq!(third.await, Ok(Ok("{}".to_owned())));
    drop(second);
    assert_eq!(sandbox.free_slots(), 2);
}
