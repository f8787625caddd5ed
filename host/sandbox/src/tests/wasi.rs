//! The empty WASI, as a guest sees it.

use super::{Plugin, Recorder, call, package, sandbox};
use crate::wasi::WASI_INTERFACES;
use crate::{Context, Trap};

/// Answers `1` where the condition holds, else `0`.
fn holds(condition: &str) -> String {
    format!(
        "(i32.store8 (i32.const 2048) (i32.add (i32.const 48) {condition})) (call $ok (i32.const 2048) (i32.const 1))"
    )
}

const POLL: &str = r#"
  (import "wasi:io/poll@0.2.3" (instance $poll
    (export "pollable" (type $p (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $p))))
    (export "[method]pollable.ready" (func (param "self" (borrow $p)) (result bool)))
    (export "poll" (func (param "in" (list (borrow $p))) (result (list u32))))))
  (alias export $poll "pollable" (type $pollable))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core func $ready (canon lower (func $poll "[method]pollable.ready")))
  (core func $many (canon lower (func $poll "poll") (memory $memory) (realloc $realloc)))
  (import "wasi:clocks/monotonic-clock@0.2.6" (instance $clock
    (alias outer 1 $pollable (type $q))
    (export "pollable" (type $p (eq $q)))
    (export "now" (func (result u64)))
    (export "subscribe-instant" (func (param "when" u64) (result (own $p))))
    (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
  (core func $clock.now (canon lower (func $clock "now")))
  (core func $instant (canon lower (func $clock "subscribe-instant")))
  (core func $duration (canon lower (func $clock "subscribe-duration")))"#;

const POLL_GIVEN: &str = r#"(export "block" (func $block)) (export "ready" (func $ready)) (export "many" (func $many))
  (export "now" (func $clock.now)) (export "instant" (func $instant)) (export "duration" (func $duration))"#;

const POLL_CORE: &str = r#"
  (import "host" "block" (func $block (param i32)))
  (import "host" "ready" (func $ready (param i32) (result i32)))
  (import "host" "many" (func $many (param i32 i32 i32)))
  (import "host" "now" (func $now (result i64)))
  (import "host" "instant" (func $instant (param i64) (result i32)))
  (import "host" "duration" (func $duration (param i64) (result i32)))"#;

#[tokio::test]
async fn a_sleep_of_an_hour_ends_at_once_and_seems_an_hour() {
    let hour = holds(
        "(i64.eq (i64.const 3600000001000)
           (i64.add (i64.sub (i64.const 0) (call $now))
             (block (result i64) (call $block (call $duration (i64.const 3600000000000))) (call $now))))",
    );
    let instant = holds(
        "(i64.eq (i64.const 7000000001000)
           (block (result i64) (call $block (call $instant (i64.const 7000000000000))) (call $now)))",
    );
    let ready = holds("(call $ready (call $instant (i64.const 0)))");
    let all_ready = holds(
        "(i32.and
           (i32.eq (i32.const 2) (block (result i32)
             (i32.store (i32.const 3000) (call $duration (i64.const 5)))
             (i32.store (i32.const 3004) (call $duration (i64.const 500)))
             (call $many (i32.const 3000) (i32.const 2) (i32.const 3100))
             (i32.load (i32.const 3104))))
           (i32.eq (i32.const 1) (i32.load offset=4 (i32.load (i32.const 3100)))))",
    );
    for run in [&hour, &instant, &ready, &all_ready] {
        let plugin = Plugin { outer: POLL, given: POLL_GIVEN, core: POLL_CORE, run, ..Plugin::default() };
        let package = package(&plugin).await;
        assert_eq!(package.inspection().wasi, ["wasi:clocks/monotonic-clock", "wasi:io/poll"]);
        assert_eq!(package.run(call("{}"), Recorder::default()).await, Ok(Ok("1".to_owned())), "{run}");
    }
}

#[tokio::test]
async fn the_wall_clock_stands_at_the_tasks_start() {
    let outer = r#"
      (import "wasi:clocks/wall-clock@0.2.0" (instance $wall
        (type $d (record (field "seconds" u64) (field "nanoseconds" u32)))
        (export "datetime" (type $datetime (eq $d)))
        (export "now" (func (result $datetime)))))
      (core func $wall.now (canon lower (func $wall "now") (memory $memory)))"#;
    let run = holds(
        "(block (result i32) (call $wall (i32.const 3000)) (call $wall (i32.const 3000))
           (i32.and (i64.eq (i64.load (i32.const 3000)) (i64.const 1700000000))
             (i32.eq (i32.load (i32.const 3008)) (i32.const 123000000))))",
    );
    let plugin = Plugin {
        outer,
        given: r#"(export "wall" (func $wall.now))"#,
        core: r#"(import "host" "wall" (func $wall (param i32)))"#,
        run: &run,
        ..Plugin::default()
    };
    let mut call = call("{}");
    call.context = Context { started_at_ms: 1_700_000_000_123, seed: 0 };
    assert_eq!(package(&plugin).await.run(call, Recorder::default()).await, Ok(Ok("1".to_owned())));
}

const RANDOM: Plugin<'static> = Plugin {
    imports: &[],
    package: "bellhop:slack@1.0.0",
    description: r#"{"name":"random"}"#,
    items: "",
    core: r#"(import "host" "bytes" (func $bytes (param i64 i32)))"#,
    outer: r#"
      (import "wasi:random/random@0.2.0" (instance $random
        (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
      (core func $random.bytes (canon lower (func $random "get-random-bytes") (memory $memory) (realloc $realloc)))"#,
    given: r#"(export "bytes" (func $random.bytes))"#,
    // Made printable: the low four bits of each byte as letters.
    run: "(call $bytes (i64.const 16) (i32.const 3000))
      (local.set $input (i32.load (i32.const 3000))) (local.set $length (i32.const 0))
      (loop $l
        (i32.store8 (i32.add (local.get $input) (local.get $length))
          (i32.add (i32.const 97) (i32.and (i32.const 15) (i32.load8_u (i32.add (local.get $input) (local.get $length))))))
        (local.set $length (i32.add (local.get $length) (i32.const 1)))
        (br_if $l (i32.lt_u (local.get $length) (i32.const 16))))
      (call $ok (local.get $input) (local.get $length))",
    pages: 2,
    pages_max: None,
};

#[tokio::test]
async fn randomness_is_the_tasks_own_and_the_same_each_time() {
    let package = package(&RANDOM).await;
    let mut texts = Vec::new();
    for seed in [1, 1, 2] {
        let mut call = call("{}");
        call.context.seed = seed;
        texts.push(package.run(call, Recorder::default()).await.unwrap().unwrap());
    }
    assert_eq!(texts[0], texts[1]);
    assert_ne!(texts[0], texts[2]);
    assert_eq!(texts[0].len(), 16);
}

/// The description takes its last letter from a random byte.
#[tokio::test]
async fn a_description_that_depends_on_chance_is_refused() {
    let plugin = Plugin {
        items: "(func $start (call $bytes (i64.const 8) (i32.const 3000))
            (i32.store8 (i32.const 1033) (i32.add (i32.const 97) (i32.and (i32.const 15) (i32.load8_u (i32.load (i32.const 3000)))))))
          (start $start)",
        // A start function runs before `realloc` could be missed: it belongs to another instance.
        ..RANDOM
    };
    assert_eq!(package(&plugin).await.describe().await, Err(crate::Refusal::DescriptionUnstable));
}

const STDOUT: Plugin<'static> = Plugin {
    imports: &[],
    package: "bellhop:slack@1.0.0",
    description: "{}",
    items: "",
    core: r#"(import "host" "stdout" (func $stdout (result i32)))
      (import "host" "write" (func $write (param i32 i32 i32 i32)))
      (import "host" "exit" (func $exit (param i32)))"#,
    outer: r#"
      (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
      (alias export $error "error" (type $failure))
      (import "wasi:io/streams@0.2.0" (instance $streams
        (alias outer 1 $failure (type $e))
        (export "error" (type $e2 (eq $e)))
        (export "output-stream" (type $o (sub resource)))
        (type $s (variant (case "last-operation-failed" (own $e2)) (case "closed")))
        (export "stream-error" (type $stream-error (eq $s)))
        (export "[method]output-stream.blocking-write-and-flush"
          (func (param "self" (borrow $o)) (param "contents" (list u8)) (result (result (error $stream-error)))))))
      (alias export $streams "output-stream" (type $output))
      (import "wasi:cli/stdout@0.2.0" (instance $out
        (alias outer 1 $output (type $o))
        (export "output-stream" (type $o2 (eq $o)))
        (export "get-stdout" (func (result (own $o2))))))
      (import "wasi:cli/exit@0.2.0" (instance $exit (export "exit" (func (param "status" (result))))))
      (core func $stdout (canon lower (func $out "get-stdout")))
      (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush") (memory $memory)))
      (core func $exits (canon lower (func $exit "exit")))"#,
    given: r#"(export "stdout" (func $stdout)) (export "write" (func $write)) (export "exit" (func $exits))"#,
    run: "(call $write (call $stdout) (local.get $input) (local.get $length) (i32.const 3000))
      (call $ok (i32.const 0) (i32.const 0))",
    pages: 2,
    pages_max: None,
};

#[tokio::test]
async fn output_goes_to_the_log_line_by_line() {
    let host = Recorder::default();
    package(&STDOUT).await.run(call("one\ntwo\nthr"), host.clone()).await.unwrap().unwrap();
    let lines: Vec<_> = host.seen.lock().unwrap().logs.iter().map(|(_, text)| text.clone()).collect();
    assert_eq!(lines, ["one", "two", "thr"]);
}

#[tokio::test]
async fn output_is_capped() {
    let plugin = Plugin {
        run: "(loop $l (call $write (call $stdout) (i32.const 4096) (i32.const 4096) (i32.const 3000)) (br $l)) (unreachable)",
        ..STDOUT
    };
    let host = Recorder::default();
    let mut hostile = call("{}");
    hostile.budget.cpu_ms_max = 200;
    assert_eq!(package(&plugin).await.run(hostile, host.clone()).await, Err(Trap::Cpu { ms_max: 200 }));
    let bytes: usize = host.seen.lock().unwrap().logs.iter().map(|(_, text)| text.len()).sum();
    assert!(bytes <= (256 << 10) + 100, "{bytes}");
}

#[tokio::test]
async fn exit_is_an_error() {
    let plugin = Plugin { run: "(call $exit (i32.const 0)) (unreachable)", ..STDOUT };
    let trap = package(&plugin).await.run(call("{}"), Recorder::default()).await.unwrap_err();
    assert_eq!(trap, Trap::Other("it called exit".to_owned()));
}

#[tokio::test]
async fn there_are_no_files_arguments_or_sockets() {
    let outer = r#"
      (import "wasi:cli/environment@0.2.0" (instance $env
        (export "get-environment" (func (result (list (tuple string string)))))
        (export "get-arguments" (func (result (list string))))
        (export "initial-cwd" (func (result (option string))))))
      (import "wasi:filesystem/types@0.2.0" (instance $fs (export "descriptor" (type (sub resource)))))
      (alias export $fs "descriptor" (type $descriptor))
      (import "wasi:filesystem/preopens@0.2.0" (instance $preopens
        (alias outer 1 $descriptor (type $d))
        (export "descriptor" (type $d2 (eq $d)))
        (export "get-directories" (func (result (list (tuple (own $d2) string)))))))
      (import "wasi:sockets/network@0.2.0" (instance $network
        (type $c (enum "unknown" "access-denied"))
        (export "error-code" (type (eq $c)))))
      (alias export $network "error-code" (type $code))
      (import "wasi:sockets/tcp@0.2.0" (instance $tcp (export "tcp-socket" (type (sub resource)))))
      (alias export $tcp "tcp-socket" (type $socket))
      (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create
        (alias outer 1 $socket (type $s))
        (export "tcp-socket" (type $s2 (eq $s)))
        (alias outer 1 $code (type $c))
        (export "error-code" (type $c2 (eq $c)))
        (type $f (enum "ipv4" "ipv6"))
        (export "ip-address-family" (type $family (eq $f)))
        (export "create-tcp-socket" (func (param "address-family" $family) (result (result (own $s2) (error $c2)))))))
      (core func $environment (canon lower (func $env "get-environment") (memory $memory) (realloc $realloc)))
      (core func $arguments (canon lower (func $env "get-arguments") (memory $memory) (realloc $realloc)))
      (core func $cwd (canon lower (func $env "initial-cwd") (memory $memory) (realloc $realloc)))
      (core func $directories (canon lower (func $preopens "get-directories") (memory $memory) (realloc $realloc)))
      (core func $connect (canon lower (func $create "create-tcp-socket") (memory $memory)))"#;
    let run = holds(
        "(block (result i32)
           (memory.fill (i32.const 3000) (i32.const 255) (i32.const 100))
           (call $environment (i32.const 3000)) (call $arguments (i32.const 3008)) (call $cwd (i32.const 3016))
           (call $directories (i32.const 3032)) (call $connect (i32.const 0) (i32.const 3040))
           (i32.and (i32.eqz (i32.or (i32.load (i32.const 3004)) (i32.or (i32.load (i32.const 3012))
               (i32.or (i32.load8_u (i32.const 3016)) (i32.load (i32.const 3036))))))
             (i32.and (i32.eq (i32.const 1) (i32.load8_u (i32.const 3040))) (i32.eq (i32.const 1) (i32.load8_u (i32.const 3044))))))",
    );
    let plugin = Plugin {
        outer,
        given: r#"(export "environment" (func $environment)) (export "arguments" (func $arguments)) (export "cwd" (func $cwd))
          (export "directories" (func $directories)) (export "connect" (func $connect))"#,
        core: r#"(import "host" "environment" (func $environment (param i32)))
          (import "host" "arguments" (func $arguments (param i32)))
          (import "host" "cwd" (func $cwd (param i32)))
          (import "host" "directories" (func $directories (param i32)))
          (import "host" "connect" (func $connect (param i32 i32)))"#,
        run: &run,
        ..Plugin::default()
    };
    assert_eq!(package(&plugin).await.run(call("{}"), Recorder::default()).await, Ok(Ok("1".to_owned())));
}

#[test]
fn the_list_is_sorted_and_inspection_goes_by_it() {
    assert!(WASI_INTERFACES.is_sorted());
    for interface in WASI_INTERFACES {
        let outer = format!(r#"(import "{interface}@0.2.9" (instance))"#);
        let inspection = sandbox().inspect(&Plugin { outer: &outer, ..Plugin::default() }.build()).unwrap();
        assert_eq!(inspection.wasi, [*interface]);
    }
}
