//! Plugins that loop, grow, flood, trap, lie and speak in others' words.

use std::collections::BTreeMap;

use bellhop_core::fault;
use serde_json::{Value, json};

use super::{Kind, ends, steps};
use crate::bellhop::dice::Dice;
use crate::case::{Case, Step};

struct Guest {
    run: String,
    items: &'static str,
    texts: Vec<(&'static str, Value)>,
    calls: &'static [&'static str],
    is: &'static [&'static str],
}

fn guest(run: impl Into<String>, is: &'static [&'static str]) -> Guest {
    Guest { run: run.into(), items: "", texts: vec![], calls: &[], is }
}

const MESSAGE: &str = r#"{"channel":"C0PLUSIT","text":"of a hostile plugin"}"#;
/// Codes that no guest here declares, beside those that are the host's own.
const UNDECLARED: [&str; 2] = ["plan-required", "Never Declared"];

type Make = (&'static str, fn(&mut Dice) -> Guest);

const GUESTS: &[Make] = &[
    ("loops", |_| guest("(loop $l (br $l)) (unreachable)", &["parked plugin-timeout"])),
    ("traps", |_| guest("(unreachable)", &["faulted plugin-trapped"])),
    ("recurses", |_| Guest {
        items: "(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (i32.add (local.get 0) (i32.const 1)))))",
        ..guest("(call $deep (i32.const 0))", &["faulted plugin-trapped"])
    }),
    ("grows", |dice| {
        let pages = dice.between(1, 256);
        guest(
            format!("(loop $l (br_if $l (i32.ne (memory.grow (i32.const {pages})) (i32.const -1)))) (unreachable)"),
            &["faulted plugin-trapped"],
        )
    }),
    ("fills-its-memory", |dice| {
        let pages = dice.between(100, 1_000);
        guest(
            format!(
                "(drop (memory.grow (i32.const {pages}))) (memory.fill (i32.const 70000) (i32.const 7) (i32.const {})) (call $say.fine)",
                pages * 65_000
            ),
            &["completed", "faulted plugin-trapped"],
        )
    }),
    ("floods-its-output", |dice| {
        let bytes = *dice.one(&[1_048_575_u64, 1_048_576, 1_048_577, 4_000_000, 60_000_000]);
        guest(
            format!("(drop (memory.grow (i32.const 1000))) (call $ok (i32.const 70000) (i32.const {bytes}))"),
            &["faulted documented"],
        )
    }),
    ("floods-the-log", |dice| {
        let bytes = dice.between(1, 65_536);
        guest(
            format!(
                "(loop $l (call $log (i32.const 512) (i32.const 4) (i32.const 0) (i32.const {bytes})) (br $l)) (unreachable)"
            ),
            &["parked plugin-timeout", "faulted plugin-trapped"],
        )
    }),
    ("again-for-ever", |dice| {
        let state = dice.between(0, 3_000);
        Guest {
            texts: vec![("state", json!({ "join": ["{\"again\":\"", { "repeat": "s", "times": state }, "\"}"] }))],
            ..guest("(call $say.state)", &["faulted documented", "parked documented"])
        }
    }),
    ("deep-output", |dice| {
        let depth = dice.between(60, 2_000);
        Guest {
            texts: vec![(
                "deep",
                json!({ "join": ["{\"changed\":false,\"output\":{\"v\":", { "repeat": "[", "times": depth }, { "repeat": "]", "times": depth }, "}}"] }),
            )],
            ..guest("(call $say.deep)", if depth > 70 { &["faulted documented"] } else { &["documented"] })
        }
    }),
    ("wide-output", |dice| {
        let times = dice.between(1, 25_000);
        Guest {
            texts: vec![(
                "wide",
                json!({ "join": ["{\"changed\":false,\"output\":{\"v\":[", { "repeat": "1,", "times": times }, "1]}}"] }),
            )],
            ..guest("(call $say.wide)", &["completed", "faulted documented"])
        }
    }),
    ("no-json", |dice| {
        let text = *dice.one(&[
            "",
            "null",
            "[]",
            "{}",
            "{\"output\":1}",
            "{\"output\":{},\"changed\":\"yes\"}",
            "{\"output\":{},\"changed\":false}x",
            "\u{0}",
            "{\"a\":1,\"a\":2}",
            "1e999",
        ]);
        Guest { texts: vec![("odd", json!(text))], ..guest("(call $say.odd)", &["faulted documented"]) }
    }),
    ("no-utf8", |_| {
        guest(
            "(i32.store8 (i32.const 4096) (i32.const 255)) (call $ok (i32.const 4096) (i32.const 1))",
            &["faulted documented"],
        )
    }),
    ("out-of-memory", |_| guest("(call $ok (i32.const -8) (i32.const 100))", &["faulted plugin-trapped"])),
    ("speaks-for-the-host", |dice| {
        let codes: Vec<&str> = fault::reserved().chain(UNDECLARED).collect();
        let code = *dice.one(&codes);
        let class = *dice.one(&["park", "fatal", "retry", "denied", "nonsense"]);
        Guest {
            texts: vec![("lie", json!({ "json": { "code": code, "message": "so it says", "class": class } }))],
            ..guest("(call $refuse.lie)", &["faulted plugin-error", "parked plugin-error"])
        }
    }),
    ("long-refusal", |dice| {
        let bytes = dice.between(1, 50_000);
        Guest {
            texts: vec![(
                "long",
                json!({ "join": ["{\"code\":\"no\",\"class\":\"fatal\",\"message\":\"", { "repeat": "m", "times": bytes }, "\"}"] }),
            )],
            ..guest("(call $refuse.long)", &["faulted documented"])
        }
    }),
    ("plain-refusal", |dice| {
        let text = *dice.one(&["it broke", "", "\u{1b}[31mred", "{", "42"]);
        Guest { texts: vec![("plain", json!(text))], ..guest("(call $refuse.plain)", &["faulted documented"]) }
    }),
    ("calls-for-ever", |_| Guest {
        calls: &["auth.test"],
        texts: vec![("none", json!("{}"))],
        ..guest(
            "(loop $l (call $auth.test (call $text.none) (i32.const 64)) (br $l)) (unreachable)",
            &["faulted plugin-trapped"],
        )
    }),
    ("bad-arguments", |dice| {
        let text = *dice.one(&[
            "[]",
            "1",
            "",
            "{",
            "null",
            "{\"channel\":1}",
            "{\"channel\":\"C0PLUSIT\",\"text\":[[[]]]}",
            "{\"a\":1,\"a\":2}",
            "\u{0}",
        ]);
        Guest {
            calls: &["chat.post-message"],
            texts: vec![("odd", json!(text))],
            ..guest(
                "(call $chat.post-message (call $text.odd) (i32.const 64)) (call $say.fine)",
                &["completed", "faulted documented"],
            )
        }
    }),
    ("large-arguments", |dice| {
        let bytes = *dice.one(&[1_000_u64, 100_000, 1_048_577, 4_000_000]);
        Guest {
            calls: &["chat.post-message"],
            ..guest(
                format!(
                    "(drop (memory.grow (i32.const 100))) (call $chat.post-message (i32.const 70000) (i32.const {bytes}) (i32.const 64)) (call $say.fine)"
                ),
                &["completed", "faulted documented"],
            )
        }
    }),
    ("deep-arguments", |dice| {
        let depth = dice.between(60, 5_000);
        Guest {
            calls: &["chat.post-message"],
            texts: vec![(
                "deep",
                json!({ "join": ["{\"channel\":\"C0PLUSIT\",\"text\":\"d\",\"blocks\":", { "repeat": "[", "times": depth }, { "repeat": "]", "times": depth }, "}"] }),
            )],
            ..guest(
                "(call $chat.post-message (call $text.deep) (i32.const 64)) (call $say.fine)",
                &["completed", "faulted documented"],
            )
        }
    }),
    ("sends-and-traps", |_| Guest {
        calls: &["chat.post-message"],
        texts: vec![("message", json!(MESSAGE))],
        ..guest(
            "(call $chat.post-message (call $text.message) (i32.const 64)) (unreachable)",
            &["faulted plugin-trapped"],
        )
    }),
    ("sends-and-goes-on", |_| Guest {
        calls: &["chat.post-message"],
        texts: vec![("message", json!(MESSAGE))],
        ..guest(
            "(call $chat.post-message (call $text.message) (i32.const 64)) (call $say.again)",
            &["faulted documented", "parked documented"],
        )
    }),
];

/// Each alone, and each as a crowd.
pub(super) fn kinds() -> Vec<Kind> {
    let mut all = Vec::new();
    for (name, make) in GUESTS {
        for (how, times) in [("alone", 1_usize), ("crowd", 6)] {
            all.push(Kind::new(format!("guest/{name}/{how}"), move |dice| {
                let guest = make(dice);
                // Numbers of the dice are in the code, and a version of a plugin does not change: each has its own name.
                let plugin = format!("g{}-{name}", dice.between(0, 999_999_999));
                let texts: BTreeMap<String, Value> =
                    guest.texts.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
                let step = vec![
                    Step::Plugin {
                        name: plugin.clone(),
                        run: Some(guest.run),
                        items: guest.items.to_owned(),
                        texts,
                        calls: guest.calls.iter().map(|call| (*call).to_owned()).collect(),
                        grants: None,
                        manifest: BTreeMap::new(),
                        pages: 2,
                        is: ends(&["2xx"]),
                    },
                    Step::Act { plugin, input: json!({}), times, keep: None, is: ends(guest.is) },
                ];
                // So many guests may have their memories at the same time.
                let memory_mb = (times > 1).then_some(2_000);
                Case { memory_mb, within_s: 120, ..steps(format!("a plugin that {name}, {how}"), step) }
            }));
        }
    }
    all
}
