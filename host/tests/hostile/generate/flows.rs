//! Flows that never rest, branch without end, are long, deep or full of faults.

use std::fmt::Write as _;

use super::{Kind, expression, flow, quoted};
use crate::bellhop::dice::Dice;
use crate::case::Case;

type Flow = (&'static str, fn(&mut Dice) -> (String, &'static [&'static str]));

const ANY: &[&str] = &["documented"];
const TOO_LARGE: &[&str] = &["faulted run-too-large"];
const DONE: &[&str] = &["completed"];
const FAULTED: &[&str] = &["faulted documented"];

fn kilobytes(dice: &mut Dice) -> u64 {
    *dice.one(&[0, 1, 4, 64, 500])
}

fn padded(kilobytes: u64) -> String {
    "y".repeat(usize::try_from(kilobytes * 1_000).unwrap_or(0).min(60_000))
}

/// Some tasks of one list.
fn tasks(count: u64, task: impl Fn(u64) -> String) -> String {
    (0..count).fold(String::from("do:\n"), |mut out, n| {
        let _written = writeln!(out, "  - t{n}: {}", task(n));
        out
    })
}

/// A task in so many others.
fn nested(depth: u64, inner: &str, around: impl Fn(u64, &str) -> String) -> String {
    (0..depth).fold(inner.to_owned(), |inner, level| around(level, &inner))
}

const FLOWS: &[Flow] = &[
    ("then-for-ever", |dice| {
        let text = padded(kilobytes(dice));
        (format!("do: [ {{ again: {{ set: {{ x: '{text}' }}, then: again }} }} ]\n"), TOO_LARGE)
    }),
    ("then-for-ever-made", |dice| {
        let bytes = *dice.one(&[1, 1_000, 100_000, 900_000]);
        let text = expression(&format!("\"x\" * {bytes}"));
        (
            format!("do: [ {{ again: {{ set: {{ x: {text} }}, then: again }} }} ]\n"),
            &["faulted run-too-large", "faulted expression-budget"],
        )
    }),
    ("ring", |dice| {
        let size = dice.between(2, 40);
        (tasks(size, |n| format!("{{ set: {{ x: {n} }}, then: t{} }}", (n + 1) % size)), TOO_LARGE)
    }),
    ("ring-by-switch", |_| {
        (
            "do:\n  - a: { switch: [ { yes: { when: '${ true }', then: b } } ] }\n  - b: { set: { x: 1 }, then: a }\n"
                .to_owned(),
            TOO_LARGE,
        )
    }),
    ("wait-for-ever", |dice| {
        let ms = dice.between(1, 3);
        // What is asked here is that nothing else suffers; it takes its time to come to its limits.
        (
            format!(
                "do:\n  - poll: {{ wait: {{ milliseconds: {ms} }} }}\n  - n: {{ set: {{ n: '${{ (.n // 0) + 1 }}' }} }}\n  \
                 - more: {{ switch: [ {{ yes: {{ when: '${{ .n < 200 }}', then: poll }} }} ] }}\n"
            ),
            DONE,
        )
    }),
    ("nested-loops", |dice| {
        let each = dice.between(2, 30);
        (
            format!(
                "do: [ {{ a: {{ for: {{ each: i, in: '${{ [range({each})] }}' }}, do: [ {{ b: {{ for: {{ each: j, in: '${{ [range({each})] }}' }}, do: [ {{ s: {{ set: {{ v: '${{ $i * $j }}' }} }} }} ] }} }} ] }} }} ]\n"
            ),
            ANY,
        )
    }),
    ("bulk", |dice| {
        let items = dice.between(100, 5_000);
        (
            format!(
                "do: [ {{ a: {{ for: {{ each: i, in: '${{ [range({items})] }}' }}, do: [ {{ s: {{ set: {{ v: $i }} }} }} ] }} }} ]\n"
            ),
            DONE,
        )
    }),
    ("bulk-that-grows", |dice| {
        let (items, bytes) = (dice.between(10, 400), dice.between(100, 3_000));
        let text = expression(&format!("$context + {{(\"k\\($i)\"): (\"x\" * {bytes})}}"));
        (
            format!(
                "do:\n  - z: {{ set: {{ x: 1 }}, export: {{ as: '${{ {{}} }}' }} }}\n  - a: {{ for: {{ each: i, in: '${{ [range({items})] }}' }}, do: [ {{ s: {{ set: {{ v: 1 }}, export: {{ as: {text} }} }} }} ] }}\n"
            ),
            ANY,
        )
    }),
    ("bulk-slow", |dice| {
        let items = *dice.one(&[50_u64, 100, 200, 1_000]);
        let work = expression("reduce range(30000) as $i (0; . + $i)");
        (
            format!(
                "do: [ {{ a: {{ for: {{ each: i, in: '${{ [range({items})] }}' }}, do: [ {{ s: {{ set: {{ v: {work} }} }} }} ] }} }} ]\n"
            ),
            ANY,
        )
    }),
    ("parallel-slow", |dice| {
        let items = *dice.one(&[50_u64, 100, 400]);
        let work = expression("reduce range(30000) as $i (0; . + $i)");
        (
            format!(
                "do: [ {{ a: {{ for: {{ each: i, in: '${{ [range({items})] }}' }}, metadata: {{ bellhop: {{ concurrency: 16 }} }}, do: [ {{ s: {{ set: {{ v: {work} }} }} }} ] }} }} ]\n"
            ),
            ANY,
        )
    }),
    ("many-branches", |dice| {
        let (count, bytes) = (dice.between(2, 100), *dice.one(&[1, 1_000, 20_000]));
        let text = expression(&format!("\"x\" * {bytes}"));
        let branches = (0..count).fold(String::new(), |mut out, n| {
            let _written = writeln!(out, "          - b{n}: {{ set: {{ v: {text} }} }}");
            out
        });
        (format!("do:\n  - a:\n      fork:\n        branches:\n{branches}"), ANY)
    }),
    ("branches-compete", |dice| {
        let count = dice.between(2, 60);
        let branches = (0..count).fold(String::new(), |mut out, n| {
            let _written = writeln!(out, "          - b{n}: {{ wait: {{ milliseconds: {} }} }}", 1 + n % 7);
            out
        });
        (format!("do:\n  - a:\n      fork:\n        compete: true\n        branches:\n{branches}"), DONE)
    }),
    ("forks-in-forks", |dice| {
        let depth = dice.between(2, 8);
        let inner = nested(depth, "set: { v: 1 }", |level, inner| {
            format!("fork: {{ branches: [ {{ l{level}: {{ {inner} }} }}, {{ r{level}: {{ {inner} }} }} ] }}")
        });
        (format!("do: [ {{ a: {{ {inner} }} }} ]\n"), ANY)
    }),
    ("deep-do", |dice| {
        let depth = dice.between(2, 40);
        let inner = nested(depth, "set: { v: 1 }", |level, inner| format!("do: [ {{ d{level}: {{ {inner} }} }} ]"));
        (format!("do: [ {{ a: {{ {inner} }} }} ]\n"), &["completed", "422 definition-invalid", "4xx documented"])
    }),
    ("deep-try", |dice| {
        let depth = dice.between(2, 12);
        let inner = nested(
            depth,
            "raise: { error: { type: 'https://example.com/no', status: 400, title: No } }",
            |level, inner| {
                format!(
                    "try: [ {{ y{level}: {{ {inner} }} }} ], catch: {{ retry: {{ delay: {{ milliseconds: 1 }}, limit: {{ attempt: {{ count: 1 }} }} }} }}"
                )
            },
        );
        (format!("do: [ {{ a: {{ {inner} }} }} ]\n"), ANY)
    }),
    ("deep-for", |dice| {
        let depth = dice.between(2, 10);
        let inner = nested(depth, "set: { v: 1 }", |level, inner| {
            format!("for: {{ each: i{level}, in: '${{ [1, 2, 3] }}' }}, do: [ {{ f{level}: {{ {inner} }} }} ]")
        });
        (format!("do: [ {{ a: {{ {inner} }} }} ]\n"), ANY)
    }),
    ("many-faults", |dice| {
        let (count, bytes) = (dice.between(2, 150), *dice.one(&[1, 1_000, 100_000, 900_000]));
        let detail = expression(&format!("\"x\" * {bytes}"));
        let raised = format!(
            "raise: {{ error: {{ type: 'https://example.com/no', status: 400, title: No, detail: {detail} }} }}"
        );
        (
            tasks(count, |n| {
                format!(
                    "{{ try: [ {{ r{n}: {{ {raised} }} }} ], catch: {{ as: e, do: [ {{ k{n}: {{ set: {{ e: $e }} }} }} ] }} }}"
                )
            }),
            ANY,
        )
    }),
    ("catch-raises", |_| {
        let raised = "raise: { error: { type: 'https://example.com/no', status: 400, title: No } }";
        (
            format!(
                "do: [ {{ a: {{ try: [ {{ r: {{ {raised} }} }} ], catch: {{ do: [ {{ k: {{ {raised} }} }} ] }} }} }} ]\n"
            ),
            FAULTED,
        )
    }),
    ("retry-often", |dice| {
        let count = dice.between(10, 400);
        let raised = "raise: { error: { type: 'https://example.com/no', status: 400, title: No } }";
        (
            format!(
                "do: [ {{ a: {{ try: [ {{ r: {{ {raised} }} }} ], catch: {{ retry: {{ delay: {{ milliseconds: 1 }}, limit: {{ attempt: {{ count: {count} }} }} }} }} }} }} ]\n"
            ),
            FAULTED,
        )
    }),
    ("retry-for-long", |_| {
        let raised = "raise: { error: { type: 'https://example.com/no', status: 400, title: No } }";
        (
            format!(
                "do: [ {{ a: {{ try: [ {{ r: {{ {raised} }} }} ], catch: {{ retry: {{ delay: {{ milliseconds: 1 }}, limit: {{ duration: {{ seconds: 2 }} }} }} }} }} }} ]\n"
            ),
            FAULTED,
        )
    }),
    ("many-tasks", |dice| {
        let count = dice.between(100, 3_000);
        (tasks(count, |n| format!("{{ set: {{ x: {n} }} }}")), &["completed", "422 documented", "413 documented"])
    }),
    ("many-expressions", |dice| {
        let count = dice.between(100, 3_000);
        (
            tasks(count, |n| format!("{{ set: {{ x: '${{ {n} + 1 }}' }} }}")),
            &["completed", "422 documented", "413 documented"],
        )
    }),
    ("long-names", |dice| {
        let length = usize::try_from(dice.between(10, 5_000)).unwrap_or(1);
        (format!("do: [ {{ {}: {{ set: {{ x: 1 }} }} }} ]\n", "n".repeat(length)), &["completed", "422 documented"])
    }),
    ("large-constant", |dice| {
        let bytes = usize::try_from(*dice.one(&[1_000_u64, 100_000, 500_000, 900_000, 1_040_000])).unwrap_or(1);
        (
            format!("do: [ {{ a: {{ set: {{ x: {} }} }} }} ]\n", quoted(&"z".repeat(bytes))),
            &["completed", "4xx documented", "faulted documented"],
        )
    }),
    ("deep-constant", |dice| {
        let depth = usize::try_from(dice.between(10, 200)).unwrap_or(1);
        (
            format!("do: [ {{ a: {{ set: {{ x: {}1{} }} }} }} ]\n", "[".repeat(depth), "]".repeat(depth)),
            &["completed", "4xx documented", "faulted documented"],
        )
    }),
    ("aliases", |dice| {
        let levels = dice.between(2, 9);
        let lists = (1..=levels).fold(String::from("    x0: &x0 [1, 1, 1, 1, 1, 1, 1, 1]\n"), |mut out, n| {
            let before = n - 1;
            let _written = writeln!(
                out,
                "    x{n}: &x{n} [*x{before}, *x{before}, *x{before}, *x{before}, *x{before}, *x{before}, *x{before}]"
            );
            out
        });
        (format!("do:\n- a:\n   set:\n{lists}"), &["completed", "4xx documented", "faulted documented"])
    }),
    ("waits-apart", |dice| {
        let count = dice.between(10, 60);
        (tasks(count, |_| "{ wait: { milliseconds: 1 } }".to_owned()), DONE)
    }),
    ("waits-at-once", |dice| {
        let items = dice.between(10, 500);
        (
            format!(
                "do: [ {{ a: {{ for: {{ each: i, in: '${{ [range({items})] }}' }}, metadata: {{ bellhop: {{ concurrency: 64 }} }}, do: [ {{ w: {{ wait: {{ milliseconds: 5 }} }} }} ] }} }} ]\n"
            ),
            &["completed", "422 documented"],
        )
    }),
    ("wait-very-long", |dice| {
        let days = *dice.one(&[100_000_u64, 10_000_000, 4_000_000_000, 18_446_744_073_709_551_615]);
        (
            format!(
                "do: [ {{ a: {{ fork: {{ compete: true, branches: [ {{ l: {{ wait: {{ days: {days} }} }} }}, {{ s: {{ wait: {{ milliseconds: 1 }} }} }} ] }} }} }} ]\n"
            ),
            &["completed", "4xx documented", "faulted documented"],
        )
    }),
    ("wait-computed", |dice| {
        let text = *dice.one(&[
            "\"PT0S\"",
            "\"P9999999Y\"",
            "\"-PT5S\"",
            "\"PT1e9S\"",
            "1",
            "null",
            "\"\"",
            "[]",
            "\"P\" * 1000",
        ]);
        (
            format!(
                "do: [ {{ a: {{ fork: {{ compete: true, branches: [ {{ l: {{ wait: {} }} }}, {{ s: {{ wait: {{ milliseconds: 50 }} }} }} ] }} }} }} ]\n",
                expression(text)
            ),
            ANY,
        )
    }),
    ("timeouts", |dice| {
        let count = dice.between(1, 40);
        (
            tasks(count, |_| {
                "{ try: [ { w: { wait: { hours: 1 }, timeout: { after: { milliseconds: 2 } } } } ], catch: { do: [ { k: { set: { x: 1 } } } ] } }".to_owned()
            }),
            DONE,
        )
    }),
    ("timeout-over-computing", |_| {
        let work = expression("reduce range(20000) as $i (0; . + $i)");
        (
            format!(
                "do: [ {{ a: {{ timeout: {{ after: {{ milliseconds: 300 }} }}, do: [ {{ f: {{ for: {{ each: i, in: '${{ [range(1500)] }}' }}, do: [ {{ s: {{ set: {{ v: {work} }} }} }} ] }} }} ] }} }} ]\n"
            ),
            ANY,
        )
    }),
    ("messages-without-end", |dice| {
        let items = dice.between(5, 60);
        (
            format!(
                "do: [ {{ a: {{ for: {{ each: i, in: '${{ [range({items})] }}' }}, metadata: {{ bellhop: {{ concurrency: 8 }} }}, do: [ {{ m: {{ call: 'message.send:1@slack', with: {{ connection: plus, channel: C0PLUSIT, text: '${{ \"m\\($i)\" }}' }} }} }} ] }} }} ]\n"
            ),
            DONE,
        )
    }),
    ("items-that-are-none", |dice| {
        let items = *dice.one(&["null", "1", "\"text\"", "{}", "true", "empty", "(1, 2)"]);
        (
            format!(
                "do: [ {{ a: {{ for: {{ each: i, in: {} }}, do: [ {{ s: {{ set: {{ v: 1 }} }} }} ] }} }} ]\n",
                expression(items)
            ),
            ANY,
        )
    }),
    ("while-for-ever", |_| {
        ("do: [ { a: { for: { each: i, in: '${ [range(100000)] }' }, while: '${ true }', do: [ { s: { set: { v: 1 } } } ] } } ]\n".to_owned(), &["faulted documented", "completed", "4xx documented"])
    }),
];

/// One of each, and of some of them many at once.
pub(super) fn kinds() -> Vec<Kind> {
    let mut all = Vec::new();
    for (name, make) in FLOWS {
        all.push(Kind::new(format!("flow/{name}"), move |dice| {
            let (text, is) = make(dice);
            Case { within_s: 120, ..flow(format!("the flow {name}"), text, is) }
        }));
    }
    for name in ["then-for-ever", "then-for-ever-made", "bulk-slow", "bulk-that-grows", "many-faults", "bulk"] {
        if let Some((_, make)) = FLOWS.iter().find(|(flow, _)| *flow == name) {
            all.push(Kind::new(format!("flow/{name}/at-once"), move |dice| {
                let (text, is) = make(dice);
                Case { within_s: 120, times: 3, ..flow(format!("the flow {name}, three times at once"), text, is) }
            }));
        }
    }
    all
}
