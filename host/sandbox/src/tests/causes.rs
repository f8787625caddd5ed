//! A refusal names the true cause, and what would do.

use super::{Plugin, sandbox};

struct Case {
    name: &'static str,
    binary: Vec<u8>,
    /// In the refusal's text.
    cause: &'static str,
    /// In its remedy.
    remedy: &'static str,
}

fn with_items(name: &'static str, items: &str, cause: &'static str, remedy: &'static str) -> Case {
    Case { name, binary: Plugin { items, ..Plugin::default() }.build(), cause, remedy }
}

fn with_outer(name: &'static str, outer: &str, cause: &'static str, remedy: &'static str) -> Case {
    Case { name, binary: Plugin { outer, ..Plugin::default() }.build(), cause, remedy }
}

fn module(name: &'static str, text: &str, cause: &'static str, remedy: &'static str) -> Case {
    Case { name, binary: wat::parse_str(text).unwrap(), cause, remedy }
}

fn features() -> Vec<Case> {
    vec![
        with_items("exceptions", "(tag $t) (func (throw $t))", "uses exceptions,", "panic = \"abort\""),
        with_items(
            "objects",
            "(type $s (struct (field i32))) (func (drop (struct.new_default $s)))",
            "garbage-collected",
            "linear memory",
        ),
        with_items("host references", "(func (param externref))", "garbage-collected", "linear memory"),
        with_items("shared memory", "(memory $own 1 1 shared)", "threads", "one thread"),
        with_items(
            "atomics",
            "(memory $own 1 1 shared) (func (drop (i32.atomic.load $own (i32.const 0))))",
            "threads",
            "-pthread",
        ),
        with_items("64 bits", "(memory $own i64 1)", "64-bit memories", "wasm32"),
        with_items(
            "stack switching",
            "(type $f (func)) (type $c (cont $f)) (func (param (ref $c)))",
            "stack switching",
            "synchronous",
        ),
        with_items("page sizes", "(memory $own 1 (pagesize 1))", "pages of another size", "64 KiB"),
        with_items(
            "wide arithmetic",
            "(func (param i64 i64 i64 i64) (result i64 i64) (i64.add128 (local.get 0) (local.get 1) (local.get 2) (local.get 3)))",
            "128-bit arithmetic",
            "wide-arithmetic",
        ),
        with_outer(
            "asynchronous functions",
            r#"(core func (canon backpressure.inc))"#,
            "asynchronous functions",
            "WASI 0.2",
        ),
    ]
}

fn sizes() -> Vec<Case> {
    let memories = "(core module $m (memory 1)) ".to_owned() + &"(core instance (instantiate $m)) ".repeat(4);
    let tables = "(core module $t (table 1 funcref)) ".to_owned() + &"(core instance (instantiate $t)) ".repeat(17);
    let doubled = (1..12).fold("(component $c0)".to_owned(), |inner, level| {
        let one = format!("(instance (instantiate $c{}))", level - 1);
        format!("(component $c{level} {inner} {one} {one})")
    }) + "(instance (instantiate $c11))";
    let instances = "(core module $i) ".to_owned() + &"(core instance (instantiate $i)) ".repeat(70);
    vec![
        with_items("100 MiB", "(memory $own 1600)", "104988672 bytes when it starts", "--initial-memory"),
        with_outer("memories", &memories, "has 5 memories, the most is 4", "composed"),
        with_outer("tables", &tables, "has 17 tables, the most is 16", "composed"),
        with_outer("instances", &instances, "has 72 core instances, the most is 64", "composed"),
        with_outer("a doubling", &doubled, "has 4095 instances of components, the most is 1000", "composed"),
        with_items(
            "a table",
            "(table 30000 funcref)",
            "30000 elements when it starts, the most is 20000",
            "address is taken",
        ),
    ]
}

fn kinds() -> Vec<Case> {
    let import = |import: &str| format!(r#"(import "{import}" (instance))"#);
    vec![
        module("a core module", "(module)", "core WebAssembly module, not a component", "bellhop plugin build"),
        module(
            "preview 1",
            r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32))))"#,
            "WASI preview 1",
            "wasm32-wasip2",
        ),
        module(
            "wasm-bindgen",
            r#"(module (import "__wbindgen_placeholder__" "__wbindgen_throw" (func (param i32 i32))))"#,
            "wasm-bindgen",
            "wasmbind",
        ),
        module("emscripten", r#"(module (import "env" "abort" (func)))"#, "`env`", "undefined symbols"),
        with_outer("http", &import("wasi:http/types@0.2.10"), "wasi:http/types@0.2.10", "--disable http fetch-event"),
        with_outer("WASI 0.3", &import("wasi:clocks/monotonic-clock@0.3.0"), "an empty form of 0.2", "WASI 0.2"),
        with_outer("key-value", &import("wasi:keyvalue/store@0.2.0"), "capabilities alone", "leave it out"),
        with_outer("anything else", &import("evil:net/tcp@1.0.0"), "evil:net/tcp@1.0.0", "wit/"),
    ]
}

#[test]
fn author_c7_a_refusal_names_the_true_cause_and_what_would_do() {
    for case in features().into_iter().chain(sizes()).chain(kinds()) {
        let refusal = sandbox().inspect(&case.binary).map(|_| ()).expect_err(case.name);
        let (text, remedy) = (refusal.to_string(), refusal.remedy());
        assert!(text.contains(case.cause), "{}: {text}", case.name);
        assert!(remedy.contains(case.remedy), "{}: {remedy}", case.name);
    }
}

/// What is not refused for its features is compiled: the two lists are one.
#[tokio::test]
async fn author_c7_what_the_engine_runs_is_what_is_said_to_run() {
    for items in [
        "(memory $own 1 1) (memory $more 1 1)",
        "(func (param v128) (result v128) (i32x4.relaxed_trunc_f32x4_s (local.get 0)))",
        "(func $f (return_call $f))",
        "(global i32 (i32.add (i32.const 1) (i32.const 2)))",
        "(func (param funcref) (result i32) (ref.is_null (local.get 0)))",
        "(type $f (func)) (func (param (ref null $f)) (call_ref $f (local.get 0)))",
        "(func (param i32 i32 i32) (memory.copy (local.get 0) (local.get 1) (local.get 2)))",
        "(func (result i32 i32) (i32.const 1) (i32.const 2))",
        "(func (param f32) (result i32) (i32.trunc_sat_f32_s (local.get 0)))",
    ] {
        sandbox()
            .prepare(&Plugin { items, ..Plugin::default() }.build())
            .await
            .unwrap_or_else(|error| panic!("{items}: {error}"));
    }
}

/// An import's name is free text in places.
#[test]
fn author_c3_what_a_binary_says_of_itself_steers_no_terminal() {
    let bytes = b"\x00asm\x0d\x00\x01\x00\x0a\x05\x01\x00\x03a\x1b[";
    let text = sandbox().inspect(bytes).unwrap_err().to_string();
    assert!(!text.chars().any(char::is_control), "{text:?}");
    let module = wat::parse_str("(module (import \"\\1b[2J\" \"\\u{202e}\" (func)))").unwrap();
    let text = sandbox().inspect(&module).unwrap_err().to_string();
    assert!(!text.chars().any(char::is_control), "{text:?}");
    let name = "x".repeat(50) + "\u{1b}]0;";
    let plugin =
        format!(r#"(component (core module $m (import "a" "{name}" (func))) (core instance (instantiate $m)))"#);
    let text = sandbox().inspect(&wat::parse_str(&plugin).unwrap_or_default()).unwrap_err().to_string();
    assert!(!text.chars().any(char::is_control), "{text:?}");
}
