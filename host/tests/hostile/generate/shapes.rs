//! Values of every shape at every place where a value is born.

use serde_json::{Value, json};

use super::{Kind, case, expression, flow};
use crate::bellhop::dice::Dice;
use crate::case::{Case, Step};

/// Whether a value of that size has to be taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Size {
    /// It is far within depth and size: refusing it would be wrong.
    Fits,
    /// It may be refused, with a code.
    Near,
    /// It has to be refused.
    Beyond,
}

type Shape = (&'static str, fn(&mut Dice) -> (String, Size));

/// The documented depth is 64, and what stands around a value takes a few of them.
fn by_depth(depth: u64) -> Size {
    match depth {
        0..=48 => Size::Fits,
        49..=66 => Size::Near,
        _ => Size::Beyond,
    }
}

/// The documented size is 1 MiB.
fn by_bytes(bytes: u64) -> Size {
    match bytes {
        0..=400_000 => Size::Fits,
        400_001..=1_500_000 => Size::Near,
        _ => Size::Beyond,
    }
}

/// Depths of which most are near the limit.
fn depth(dice: &mut Dice) -> u64 {
    match dice.between(0, 3) {
        0 => dice.between(1, 48),
        1 => dice.between(56, 72),
        2 => dice.between(115, 135),
        _ => dice.between(100, 2_000),
    }
}

const SHAPES: &[Shape] = &[
    ("deep-list", |dice| {
        let depth = depth(dice);
        (format!("reduce range({depth}) as $i (1; [.])"), by_depth(depth))
    }),
    ("deep-object", |dice| {
        let depth = depth(dice);
        (format!("reduce range({depth}) as $i (1; {{a: .}})"), by_depth(depth))
    }),
    ("deep-mixed", |dice| {
        let depth = depth(dice).div_ceil(2);
        (format!("reduce range({depth}) as $i (1; [{{a: .}}])"), by_depth(depth * 2))
    }),
    ("deep-text", |dice| {
        let depth = depth(dice);
        (format!("(\"[\" * {depth}) + (\"]\" * {depth}) | fromjson"), by_depth(depth))
    }),
    ("wide-list", |dice| {
        let times = *dice.one(&[1_000, 10_000, 40_000, 70_000]);
        (format!("[range({times})]"), Size::Near)
    }),
    ("wide-object", |dice| {
        let times = dice.between(10, 5_000);
        (format!("[range({times})] | map({{key: \"k\\(.)\", value: .}}) | from_entries"), Size::Near)
    }),
    ("long-text", |dice| {
        let bytes = *dice.one(&[1, 1_000, 100_000, 400_000, 1_048_000, 1_048_576, 1_100_000, 4_000_000]);
        (format!("\"x\" * {bytes}"), by_bytes(bytes))
    }),
    ("repeated", |dice| {
        let times = dice.between(1, 1_200);
        (format!("(\"y\" * 1000) as $t | [range({times})] | map($t)"), by_bytes(times * 1_003))
    }),
    ("unicode", |dice| {
        let times = dice.between(1, 20_000);
        (format!("[range({times})] | map(128512) | implode"), Size::Near)
    }),
    ("controls", |dice| {
        let to = dice.between(2, 2_000);
        (format!("[range(0; {to})] | implode"), Size::Near)
    }),
    ("numbers", |dice| {
        let one = dice.one(&[
            "[1e308 * 10, -1e308 * 10]",
            "[nan, infinite]",
            "9007199254740993",
            "-0.0",
            "[1e-320, 5e-324]",
            "123456789012345678901234567890",
            "[18446744073709551615, -9223372036854775808]",
        ]);
        ((*one).to_owned(), Size::Near)
    }),
    ("long-key", |dice| {
        let bytes = *dice.one(&[1, 1_000, 100_000, 1_000_000, 2_000_000]);
        (format!("{{(\"k\" * {bytes}): 1}}"), by_bytes(bytes))
    }),
    ("branching", |dice| {
        let levels = dice.between(1, 20);
        (format!("reduce range({levels}) as $i (1; [., .])"), if levels <= 8 { Size::Fits } else { Size::Near })
    }),
    ("doubling", |dice| {
        let times = dice.between(1, 20);
        (
            format!("reduce range({times}) as $i ({{}}; . + {{(\"k\\($i)\"): .}})"),
            if times <= 8 { Size::Fits } else { Size::Near },
        )
    }),
    ("pairs", |dice| {
        let each = dice.between(1, 300);
        (format!("[range({each}) as $a | range({each}) as $b | [$a, $b]]"), Size::Near)
    }),
    ("nothing", |dice| ((*dice.one(&["null", "false", "[]", "{}", "\"\"", "empty", "0"])).to_owned(), Size::Near)),
];

type Place = (&'static str, fn(&str) -> String);

const PLACES: &[Place] = &[
    ("set", |e| format!("do: [ {{ a: {{ set: {{ x: {} }} }} }} ]\n", expression(e))),
    ("output", |e| format!("do: [ {{ a: {{ set: {{ x: 1 }}, output: {{ as: {} }} }} }} ]\n", expression(e))),
    ("export", |e| {
        format!(
            "do:\n  - a: {{ set: {{ x: 1 }}, export: {{ as: {} }} }}\n  - b: {{ set: {{ x: $context }} }}\n",
            expression(&format!("{{v: ({e})}}"))
        )
    }),
    ("from", |e| format!("do: [ {{ a: {{ input: {{ from: {} }}, set: {{ x: '${{ . }}' }} }} }} ]\n", expression(e))),
    ("items", |e| {
        let list = expression(&format!("[({e}), 1]"));
        format!("do: [ {{ a: {{ for: {{ each: i, in: {list} }}, do: [ {{ s: {{ set: {{ v: $i }} }} }} ] }} }} ]\n")
    }),
    ("parallel", |e| {
        let set = expression(e);
        format!(
            "do:\n  - a:\n      for: {{ each: i, in: '${{ [range(6)] }}' }}\n      \
             metadata: {{ bellhop: {{ concurrency: 3 }} }}\n      do: [ {{ s: {{ set: {{ v: {set} }} }} }} ]\n"
        )
    }),
    ("branches", |e| {
        let set = expression(e);
        format!(
            "do:\n  - a:\n      fork:\n        branches:\n          - one: {{ set: {{ v: {set} }} }}\n          \
             - two: {{ set: {{ v: {set} }} }}\n          - three: {{ set: {{ v: {set} }} }}\n"
        )
    }),
    ("raise", |e| {
        let detail = expression(&format!("({e}) | tostring"));
        format!(
            "do: [ {{ a: {{ raise: {{ error: {{ type: 'https://example.com/no', status: 400, title: No, detail: {detail} }} }} }} }} ]\n"
        )
    }),
    ("caught", |e| {
        let detail = expression(&format!("({e}) | tostring"));
        format!(
            "do:\n  - a:\n      try:\n        - r: {{ raise: {{ error: {{ type: 'https://example.com/no', status: 400, title: No, detail: {detail} }} }} }}\n      \
             catch: {{ as: e, do: [ {{ k: {{ set: {{ e: $e }} }} }} ] }}\n"
        )
    }),
    ("switch", |e| {
        let when = expression(&format!("({e}) == 1"));
        format!(
            "do:\n  - a: {{ switch: [ {{ yes: {{ when: {when}, then: end }} }} ] }}\n  - b: {{ set: {{ x: 1 }} }}\n"
        )
    }),
    ("if", |e| format!("do: [ {{ a: {{ if: {}, set: {{ x: 1 }} }} }} ]\n", expression(&format!("({e}) != null")))),
    ("end", |e| format!("do: [ {{ a: {{ set: {{ x: 1 }} }} }} ]\noutput: {{ as: {} }}\n", expression(e))),
    ("nested", |e| {
        format!(
            "do: [ {{ a: {{ do: [ {{ b: {{ do: [ {{ c: {{ set: {{ x: {} }} }} }} ] }} }} ] }} }} ]\n",
            expression(e)
        )
    }),
    ("over-a-wait", |e| {
        format!(
            "do:\n  - a: {{ set: {{ x: {} }} }}\n  - w: {{ wait: {{ milliseconds: 20 }} }}\n  - b: {{ set: {{ y: '${{ . }}' }} }}\n",
            expression(e)
        )
    }),
    ("accumulated", |e| {
        let context = expression(&format!("$context + {{(\"k\\($i)\"): ({e})}}"));
        format!(
            "do:\n  - z: {{ set: {{ x: 0 }}, export: {{ as: '${{ {{}} }}' }} }}\n  - a:\n      for: {{ each: i, in: '${{ [range(8)] }}' }}\n      \
             do: [ {{ s: {{ set: {{ v: 1 }}, export: {{ as: {context} }} }} }} ]\n"
        )
    }),
    ("wrapped-again", |e| {
        let first = expression(e);
        format!(
            "do:\n  - a: {{ set: {{ x: {first} }} }}\n  - b:\n      for: {{ each: i, in: '${{ [range(90)] }}' }}\n      \
             do: [ {{ s: {{ set: {{ v: 1 }}, export: {{ as: '${{ {{item: $i, before: $context}} }}' }} }} }} ]\n"
        )
    }),
    ("argument", |e| {
        let text = expression(&format!("({e}) | tostring | .[0:4000]"));
        format!(
            "do: [ {{ a: {{ call: 'message.send:1@slack', with: {{ connection: plus, channel: C0PLUSIT, text: {text} }} }} }} ]\n"
        )
    }),
    ("retried", |e| {
        let detail = expression(&format!("({e}) | tostring"));
        format!(
            "do:\n  - a:\n      try:\n        - r: {{ raise: {{ error: {{ type: 'https://example.com/no', status: 400, title: No, detail: {detail} }} }} }}\n      \
             catch: {{ retry: {{ delay: {{ milliseconds: 5 }}, limit: {{ attempt: {{ count: 3 }} }} }} }}\n"
        )
    }),
];

/// At these places what is handed on is the value itself, so that its depth and size decide.
const AS_IT_IS: [&str; 9] = ["set", "output", "export", "from", "parallel", "branches", "end", "nested", "over-a-wait"];

/// Each shape at each place.
pub(super) fn kinds() -> Vec<Kind> {
    let mut all = Vec::new();
    for round in 0..SHAPES.len() {
        for (number, (place, text)) in PLACES.iter().enumerate() {
            let (shape, make) = SHAPES[(round + number) % SHAPES.len()];
            all.push(Kind::new(format!("value/{shape}/{place}"), move |dice| {
                let (expression, size) = make(dice);
                // Parallel items and branches are put together in one value.
                let many = if ["parallel", "branches"].contains(place) { size.of_many() } else { size };
                let is: &[&str] = match many {
                    Size::Beyond if AS_IT_IS.contains(place) => &["faulted documented"],
                    Size::Fits if AS_IT_IS.contains(place) => &["completed"],
                    _ => &["documented"],
                };
                flow(format!("a value of the shape {shape} at the place {place}"), text(&expression), is)
            }));
        }
    }
    all
}

impl Size {
    fn of_many(self) -> Self {
        if self == Self::Fits { Self::Near } else { self }
    }
}

type Json = (&'static str, fn(&mut Dice) -> String);

/// Texts of JSON as a caller sends them.
const JSON: &[Json] = &[
    ("deep-list", |dice| {
        let depth = usize::try_from(depth(dice)).unwrap_or(1);
        format!("{}1{}", "[".repeat(depth), "]".repeat(depth))
    }),
    ("deep-object", |dice| {
        let depth = usize::try_from(depth(dice)).unwrap_or(1);
        format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth))
    }),
    ("open-brackets", |dice| "[".repeat(usize::try_from(dice.between(100, 500_000)).unwrap_or(1))),
    ("wide-list", |dice| {
        let times = usize::try_from(dice.between(1, 300_000)).unwrap_or(1);
        format!("[{}1]", "1,".repeat(times))
    }),
    ("wide-object", |dice| {
        let times = dice.between(1, 40_000);
        let fields: String = (0..times).map(|n| format!("\"k{n}\":{n},")).collect();
        format!("{{{fields}\"end\":1}}")
    }),
    ("long-text", |dice| format!("\"{}\"", "x".repeat(usize::try_from(dice.between(1, 1_060_000)).unwrap_or(1)))),
    ("escapes", |dice| {
        format!("\"{}\"", "\\u0000\\ud83d\\ude00\\n".repeat(usize::try_from(dice.between(1, 20_000)).unwrap_or(1)))
    }),
    ("lone-surrogates", |dice| format!("\"{}\"", "\\ud800".repeat(usize::try_from(dice.between(1, 100)).unwrap_or(1)))),
    ("numbers", |dice| {
        (*dice.one(&[
            "1e400",
            "-1e400",
            "123456789012345678901234567890",
            "1e-400",
            "-0",
            "0.1e1",
            "1E+2",
            "01",
            "+1",
            "NaN",
        ]))
        .to_owned()
    }),
    ("digits", |dice| "9".repeat(usize::try_from(dice.between(17, 100_000)).unwrap_or(1))),
    ("twice", |_| "{\"a\":1,\"a\":2}".to_owned()),
];

type Use = (&'static str, &'static str);

const USES: &[Use] = &[
    ("echo", "do: [ { a: { set: { x: '${ .v }' } } } ]\n"),
    ("text", "do: [ { a: { set: { x: '${ .v | tojson | fromjson }' } } } ]\n"),
    (
        "loop",
        "do: [ { a: { for: { each: i, in: '${ [.v, .v, .v] }' }, do: [ { s: { set: { v: $i }, export: { as: '${ {i: $i, c: $context} }' } } } ] } } ]\n",
    ),
];

/// What a caller sends as an input, and into a table.
pub(super) fn inputs() -> Vec<Kind> {
    let mut all = Vec::new();
    for (shape, make) in JSON {
        for (used, text) in USES {
            all.push(Kind::new(format!("input/{shape}/{used}"), move |dice| {
                let body = format!("{{\"input\":{{\"v\":{}}}}}", make(dice));
                let path = json!("/v1/workflows/hostile/@{case}/runs?wait=10s");
                let step = vec![Step::Put { flow: json!(text), is: vec![] }, sent("POST", path, body)];
                Case { step, ..case(format!("an input of the shape {shape}, used as {used}")) }
            }));
        }
        all.push(Kind::new(format!("input/{shape}/table"), move |dice| {
            let row = make(dice);
            let body = format!("{{\"columns\":{{\"v\":\"text\"}},\"rows\":{{\"a\":{{\"v\":{row}}}}}}}");
            let step = vec![sent("PUT", json!("/v1/tables/hostile-@{case}"), body)];
            Case { step, ..case(format!("a table with a cell of the shape {shape}")) }
        }));
    }
    all
}

fn sent(method: &str, path: Value, body: String) -> Step {
    Step::Send {
        method: method.to_owned(),
        path,
        body: Value::String(body),
        kind: None,
        headers: vec![],
        token: None,
        times: 1,
        together: false,
        is: super::ends(&["documented"]),
        keep: Default::default(),
        shows: Default::default(),
        absent: vec![],
        lacks: vec![],
    }
}
