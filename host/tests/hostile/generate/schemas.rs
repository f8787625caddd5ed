//! Schemas that cost: chains, branches, patterns, unique items, references; as a workflow's and as a plugin's.

use serde_json::{Map, Value, json};

use super::{Kind, case, ends, steps};
use crate::bellhop::dice::Dice;
use crate::case::{Case, Step};

type Schema = (&'static str, fn(&mut Dice) -> (Value, Value));

fn defs(count: u64, each: impl Fn(u64) -> Value, last: Value) -> Value {
    let mut all: Map<String, Value> = (0..count).map(|n| (format!("a{n}"), each(n))).collect();
    all.insert(format!("a{count}"), last);
    Value::Object(all)
}

fn deep(depth: u64, key: &str, around: Value) -> Value {
    (0..depth).fold(around, |inner, _| json!({ key: inner }))
}

fn chain(levels: u64, keyword: &str, width: usize) -> Value {
    let next = |n: u64| json!({ "$ref": format!("#/$defs/a{}", n + 1) });
    let each = |n: u64| json!({ "properties": { "s": { keyword: vec![next(n); width] } } });
    json!({ "$ref": "#/$defs/a0", "$defs": defs(levels, each, json!({ "type": "string" })) })
}

const SCHEMAS: &[Schema] = &[
    ("chain-any-of", |dice| {
        let levels = dice.between(2, 40);
        (chain(levels, "anyOf", 2), deep(levels, "s", json!(7)))
    }),
    ("chain-one-of", |dice| {
        let levels = dice.between(2, 40);
        (chain(levels, "oneOf", 2), deep(levels, "s", json!("x")))
    }),
    ("chain-all-of", |dice| {
        let levels = dice.between(2, 40);
        (chain(levels, "allOf", 3), deep(levels, "s", json!("x")))
    }),
    ("in-place", |dice| {
        let levels = dice.between(2, 30);
        let each = |n: u64| json!({ "allOf": [{ "$ref": format!("#/$defs/a{}", n + 1) }, { "$ref": format!("#/$defs/a{}", n + 1) }] });
        (json!({ "$ref": "#/$defs/a0", "$defs": defs(levels, each, json!({ "type": "object" })) }), json!({}))
    }),
    ("recursive", |dice| {
        let depth = dice.between(1, 40);
        (
            json!({ "$ref": "#/$defs/t", "$defs": { "t": { "anyOf": [{ "type": "integer" }, { "type": "object", "properties": { "l": { "$ref": "#/$defs/t" }, "r": { "$ref": "#/$defs/t" } } }] } } }),
            deep(depth, "l", json!(1)),
        )
    }),
    ("recursive-twice", |dice| {
        let depth = dice.between(1, 40);
        (
            json!({ "$ref": "#/$defs/t", "$defs": { "t": { "properties": { "l": { "anyOf": [{ "$ref": "#/$defs/t" }, { "$ref": "#/$defs/t" }] } }, "unevaluatedProperties": false } } }),
            deep(depth, "l", json!({})),
        )
    }),
    ("unique-items", |dice| {
        let times = dice.between(10, 20_000);
        let items: Vec<Value> = (0..times).map(|n| json!({ "k": n, "t": "xxxxxxxxxx" })).collect();
        (json!({ "properties": { "v": { "uniqueItems": true } } }), json!({ "v": items }))
    }),
    ("unique-lists", |dice| {
        let times = dice.between(10, 3_000);
        let items: Vec<Value> = (0..times).map(|n| json!([[0, 0, 0, 0, 0, 0, 0, 0, 0, n]])).collect();
        (json!({ "properties": { "v": { "uniqueItems": true } } }), json!({ "v": items }))
    }),
    ("enum", |dice| {
        let (words, items) = (dice.between(10, 3_000), dice.between(10, 10_000));
        let all: Vec<Value> = (0..words).map(|n| json!(format!("word-{n}"))).collect();
        (
            json!({ "properties": { "v": { "items": { "enum": all } } } }),
            json!({ "v": vec![json!("word-none"); usize::try_from(items).unwrap_or(1)] }),
        )
    }),
    ("pattern", |dice| {
        let length = usize::try_from(dice.between(10, 100_000)).unwrap_or(1);
        let pattern =
            *dice.one(&["^(a+)+$", "^(a|a)*$", "(x+x+)+y", "^([a-z]{1,50}){1,50}$", "a{1,1000}", "(?:a?){500}a{500}"]);
        (json!({ "properties": { "v": { "pattern": pattern } } }), json!({ "v": format!("{}!", "a".repeat(length)) }))
    }),
    ("patterns-of-names", |dice| {
        let (patterns, fields) = (dice.between(2, 60), dice.between(2, 3_000));
        let all: Map<String, Value> =
            (0..patterns).map(|n| (format!("^k[0-9]*{}", n % 10), json!({ "type": "integer" }))).collect();
        let values: Map<String, Value> = (0..fields).map(|n| (format!("k{n}"), json!("x"))).collect();
        (json!({ "patternProperties": all }), Value::Object(values))
    }),
    ("contains", |dice| {
        let items = dice.between(10, 20_000);
        (
            json!({ "properties": { "v": { "contains": { "const": -1 }, "minContains": 2 } } }),
            json!({ "v": (0..items).collect::<Vec<_>>() }),
        )
    }),
    ("unevaluated", |dice| {
        let (levels, fields) = (dice.between(2, 20), dice.between(10, 1_000));
        let each =
            |n: u64| json!({ "allOf": [{ "$ref": format!("#/$defs/a{}", n + 1) }], "unevaluatedProperties": true });
        let values: Map<String, Value> = (0..fields).map(|n| (format!("k{n}"), json!(n))).collect();
        (
            json!({ "$ref": "#/$defs/a0", "$defs": defs(levels, each, json!({})) , "unevaluatedProperties": false}),
            Value::Object(values),
        )
    }),
    ("dependent", |dice| {
        let count = dice.between(2, 200);
        let all: Map<String, Value> =
            (0..count).map(|n| (format!("k{n}"), json!({ "required": [format!("k{}", n + 1)] }))).collect();
        let values: Map<String, Value> = (0..count).map(|n| (format!("k{n}"), json!(n))).collect();
        (json!({ "dependentSchemas": all }), Value::Object(values))
    }),
    ("if-then-else", |dice| {
        // Each level has the next one twice.
        let depth = dice.between(2, 10);
        let around = |inner: Value, _| json!({ "if": { "required": ["x"] }, "then": &inner, "else": &inner });
        ((0..depth).fold(json!({ "type": "string" }), around), json!({ "x": 1 }))
    }),
    ("many-errors", |dice| {
        let items = dice.between(10, 50_000);
        (
            json!({ "properties": { "v": { "items": { "type": "string", "minLength": 3 } } } }),
            json!({ "v": (0..items).collect::<Vec<_>>() }),
        )
    }),
    ("wide", |dice| {
        let fields = dice.between(10, 3_000);
        let all: Map<String, Value> =
            (0..fields).map(|n| (format!("k{n}"), json!({ "type": "integer", "minimum": 0 }))).collect();
        (json!({ "properties": all, "required": ["k0"] }), json!({ "k0": 1 }))
    }),
    ("deep", |dice| {
        let depth = dice.between(2, 100);
        let schema = (0..depth).fold(json!({}), |inner, _| json!({ "properties": { "s": inner } }));
        (schema, deep(depth.min(60), "s", json!(1)))
    }),
    ("numbers", |_| {
        (json!({ "properties": { "v": { "multipleOf": 1e-300, "maximum": 1e308 } } }), json!({ "v": 1e300 }))
    }),
    ("not-not", |dice| {
        let depth = dice.between(2, 100);
        (
            json!({ "properties": { "v": (0..depth).fold(json!({ "type": "integer" }), |inner, _| json!({ "not": inner })) } }),
            json!({ "v": 1 }),
        )
    }),
];

/// Each as the schema of a workflow's input and as that of an action's.
pub(super) fn kinds() -> Vec<Kind> {
    let mut all = Vec::new();
    for (name, make) in SCHEMAS {
        all.push(Kind::new(format!("schema/{name}/input"), move |dice| {
            let (schema, input) = make(dice);
            let text =
                format!("input: {{ schema: {{ document: {schema} }} }}\ndo: [ {{ a: {{ set: {{ ok: true }} }} }} ]\n");
            Case {
                flow: Value::String(text),
                input,
                is: ends(&["documented"]),
                ..case(format!("an input whose schema is of the kind {name}"))
            }
        }));
        all.push(Kind::new(format!("schema/{name}/action"), move |dice| {
            let (schema, input) = make(dice);
            // A version of a plugin does not change, and each case has a schema of its own.
            let plugin = format!("s{}-{name}", dice.between(0, 999_999_999));
            let small = schema.to_string().len() < 5_000;
            let schema = if small { schema } else { json!({ "type": "object" }) };
            let step = vec![
                Step::Plugin {
                    name: plugin.clone(),
                    run: None,
                    items: String::new(),
                    texts: Default::default(),
                    calls: vec![],
                    grants: None,
                    manifest: std::iter::once(("/actions/0/input".to_owned(), schema)).collect(),
                    pages: 2,
                    is: ends(&["2xx", "422 documented"]),
                },
                // What was not installed cannot act, which is said too.
                Step::Act { plugin, input, times: 1, keep: None, is: ends(&["documented"]) },
            ];
            steps(format!("an action whose input's schema is of the kind {name}"), step)
        }));
    }
    all
}
