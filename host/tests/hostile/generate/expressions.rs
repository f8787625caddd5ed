//! Expressions that compute, grow, nest or never end, at the places where expressions stand.

use super::{Kind, expression, flow};
use crate::bellhop::dice::Dice;

type Burner = (&'static str, fn(u64, u64) -> String);

/// Two numbers decide how far each goes.
const BURNERS: &[Burner] = &[
    ("loop", |_, _| "def f: f; f".to_owned()),
    ("recursion", |_, b| format!("def f: {b} + f; f")),
    ("counted-recursion", |a, _| format!("def f(n): if n == 0 then 0 else 1 + f(n - 1) end; f({})", a * 100)),
    ("two-recursions", |_, _| "def f: def g: f; g; f".to_owned()),
    ("range", |a, b| format!("[range({})] | add", a * b * 10)),
    ("last-range", |a, b| format!("last(range({}))", a * b * 1_000)),
    ("product", |a, _| format!("[range({a}) as $x | range({a}) as $y | $x * $y] | length")),
    ("three-products", |a, _| {
        format!("[range({0}) as $x | range({0}) as $y | range({0}) as $z | 1] | length", a.min(300))
    }),
    ("repeat-text", |a, b| format!("\"x\" * {} | length", a * b * 100)),
    ("limit-repeat", |a, b| format!("[limit({}; repeat(1))] | length", a * b)),
    ("first-repeat", |_, _| "first(repeat(1) | select(. == 2))".to_owned()),
    ("until", |a, b| format!("0 | until(. > {}; . + 1)", a * b * 10)),
    ("while", |_, _| "[1 | while(true; .)] | length".to_owned()),
    ("recurse", |_, _| "[recurse(.)] | length".to_owned()),
    ("reduce", |a, b| format!("reduce range({}) as $i (0; . + $i)", a * b)),
    ("reduce-grows", |a, _| format!("reduce range({a}) as $i (\"\"; . + \"0123456789\") | length")),
    ("reduce-doubles", |a, _| format!("reduce range({}) as $i (\"x\"; . + .) | length", a.min(64))),
    ("foreach", |a, b| format!("[foreach range({}) as $i (0; . + $i)] | length", a * b)),
    ("deep-tojson", |a, _| format!("reduce range({}) as $i (null; [.]) | tojson | length", a * 50)),
    ("fromjson", |a, _| format!("(\"[\" * {0}) + (\"]\" * {0}) | fromjson | length", a * 50)),
    ("json-again", |a, _| format!("reduce range({}) as $i (\"\\\"\"; tojson) | length", a.min(40))),
    ("sort", |a, b| format!("[range({})] | map(-.) | sort | length", a * b)),
    ("group", |a, b| format!("[range({})] | group_by(. % 7) | length", a * b)),
    ("combinations", |a, _| format!("[[range({})] | combinations(4)] | length", a.min(60))),
    ("paths", |a, _| format!("[[range({a})] | [paths]] | length")),
    ("test", |a, _| format!("(\"a\" * {a}) | test(\"(a*)*b\")")),
    ("scan", |a, _| format!("[(\"ab\" * {a}) | scan(\"[ab]+\")] | length")),
    ("gsub", |a, _| format!("(\"a\" * {a}) | gsub(\"a\"; \"bbbbbbbb\") | length")),
    ("split", |a, b| format!("(\"a,\" * {}) | split(\",\") | length", a * b)),
    ("ascii", |a, b| format!("[range({})] | implode | explode | length", (a * b).min(50_000))),
    ("path-expression", |a, _| format!("reduce range({a}) as $i ({{}}; .[\"k\\($i)\"] = $i) | length")),
    ("setpath", |a, _| format!("null | setpath([range({a})] | map(0); 1) | tojson | length")),
    ("big-index", |a, b| format!("[] | .[{}] = 1 | length", a * b * 10_000)),
    ("try-in-loop", |a, b| format!("[range({}) | try error(\"x\") catch .] | length", a * b)),
    ("label", |a, b| format!("[label $out | range({}) | if . > {a} then break $out else . end] | length", a * b)),
    ("nested-brackets", |a, _| format!("{}1{}", "[".repeat(to_size(a)), "]".repeat(to_size(a)))),
    ("nested-parentheses", |a, _| format!("{}1{}", "(".repeat(to_size(a)), ")".repeat(to_size(a)))),
    ("long-sum", |a, _| format!("{}1", "1+".repeat(to_size(a)))),
    ("long-pipe", |a, _| format!("{}1", ".|".repeat(to_size(a)))),
    ("many-definitions", |a, _| {
        let all: String = (0..a)
            .map(|n| format!("def f{n}: {};", if n == 0 { "1".to_owned() } else { format!("f{} + f{}", n - 1, n - 1) }))
            .collect();
        format!("{all} f{}", a.saturating_sub(1))
    }),
    ("nested-if", |a, _| format!("{}1{}", "if true then ".repeat(to_size(a)), " else 0 end".repeat(to_size(a)))),
    ("nested-texts", |a, _| {
        let depth = to_size(a.min(300));
        format!("{}1{}", "\"\\(".repeat(depth), ")\"".repeat(depth))
    }),
    ("table-unknown", |a, _| format!("table(\"{}\"; \"x\")", "t".repeat(to_size(a)))),
    ("until-date", |a, _| format!("until(\"{}-01-01\"; \"09:00\"; \"Europe/Paris\"; {a})", 1_000 + a)),
];

fn to_size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(1)
}

type Place = (&'static str, fn(&str) -> String);

const PLACES: &[Place] = &[
    ("set", |e| format!("do: [ {{ a: {{ set: {{ x: {} }} }} }} ]\n", expression(e))),
    ("if", |e| format!("do: [ {{ a: {{ if: {}, set: {{ x: 1 }} }} }} ]\n", expression(&format!("({e}) == 1")))),
    ("loop", |e| {
        format!(
            "do: [ {{ a: {{ for: {{ each: i, in: '${{ [range(40)] }}' }}, do: [ {{ s: {{ set: {{ v: {} }} }} }} ] }} }} ]\n",
            expression(e)
        )
    }),
    ("parallel", |e| {
        format!(
            "do: [ {{ a: {{ for: {{ each: i, in: '${{ [range(40)] }}' }}, metadata: {{ bellhop: {{ concurrency: 8 }} }}, do: [ {{ s: {{ set: {{ v: {} }} }} }} ] }} }} ]\n",
            expression(e)
        )
    }),
];

/// Each at each place.
pub(super) fn kinds() -> Vec<Kind> {
    let mut all = Vec::new();
    for round in 0..BURNERS.len() {
        for (number, (place, text)) in PLACES.iter().enumerate() {
            let (name, make) = BURNERS[(round + number * 11) % BURNERS.len()];
            all.push(Kind::new(format!("expression/{name}/{place}"), move |dice: &mut Dice| {
                let (a, b) = (dice.between(1, 400), dice.between(1, 400));
                flow(format!("the expression {name} at the place {place}"), text(&make(a, b)), &["documented"])
            }));
        }
    }
    all
}
