//! Checks in bounded time: what would take long is refused before it begins, and the rest ends soon.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![allow(clippy::disallowed_methods, reason = "that a check ends in time is what is tested here")]

use std::time::{Duration, Instant};

use bellhop_core::schema::{Checked, Schema, UNITS_MAX, What};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use serde_json::{Map, Value, json};

/// 50 ms are promised of a build with optimisation; without, and beside other tests, everything takes longer.
const AT_MOST: Duration = if cfg!(debug_assertions) { Duration::from_secs(4) } else { Duration::from_millis(150) };

/// Compiles and checks; `None` when the schema is refused as too costly. Fails if either takes long.
fn checked(name: &str, schema: &Value, instance: &Value) -> Option<Checked> {
    let begun = Instant::now();
    let compiled = match Schema::compile(schema) {
        Ok(compiled) => compiled,
        Err(faults) => {
            assert!(faults.iter().any(|fault| fault.too_costly), "{name}: {faults:?}");
            println!("{name}: refused after {:?}: {}", begun.elapsed(), faults[0].message);
            assert!(begun.elapsed() < AT_MOST, "{name}: refused only after {:?}", begun.elapsed());
            return None;
        }
    };
    let compiling = begun.elapsed();
    let begun = Instant::now();
    let checked = compiled.check(instance);
    let took = begun.elapsed();
    let what = checked.violations.first().map(|violation| violation.what);
    println!("{name}: compiled in {compiling:?}; {took:?} for {} units: {what:?}", checked.cost);
    assert!(compiling < AT_MOST, "{name}: compiled for {compiling:?}");
    assert!(took < AT_MOST, "{name}: checked for {took:?}, {} units", checked.cost);
    assert!(checked.cost >= 1 && checked.cost <= 2 * UNITS_MAX, "{name}: {}", checked.cost);
    assert_eq!(checked, compiled.check(instance), "{name}: a check is the same each time");
    Some(checked)
}

fn is_refused(name: &str, schema: &Value, instance: &Value) -> bool {
    checked(name, schema, instance)
        .is_none_or(|checked| checked.violations.iter().any(|violation| violation.what == What::TooCostly))
}

fn nested(key: &str, levels: usize, innermost: Value) -> Value {
    (0..levels).fold(innermost, |inner, _| json!({ key: inner }))
}

/// What a definition says of the next.
type Link = fn(Value) -> Value;

/// Definitions `a0` to `aN`, each made of a reference to the next.
fn chain(levels: usize, last: Value, link: impl Fn(Value) -> Value) -> Value {
    let mut all: Map<String, Value> = (0..levels)
        .map(|level| (format!("a{level}"), link(json!({ "$ref": format!("#/$defs/a{}", level + 1) }))))
        .collect();
    all.insert(format!("a{levels}"), last);
    json!({ "$ref": "#/$defs/a0", "$defs": all })
}

#[test]
fn attack_b3_schemas_that_branch_without_recursion_are_refused_when_they_are_registered() {
    let links: [(&str, Link); 9] = [
        ("anyOf", |next| json!({"properties": {"s": {"anyOf": [next, next]}}})),
        ("oneOf", |next| json!({"properties": {"s": {"oneOf": [next, next]}}})),
        ("allOf", |next| json!({"properties": {"s": {"allOf": [next, next]}}})),
        ("not", |next| json!({"properties": {"s": {"not": {"not": next}, "allOf": [next]}}})),
        ("if", |next| json!({"properties": {"s": {"if": next, "then": next, "else": next}}})),
        ("dependentSchemas", |next| json!({"properties": {"s": {"dependentSchemas": {"s": next}, "allOf": [next]}}})),
        ("patternProperties", |next| json!({"properties": {"s": next}, "patternProperties": {"^s": next}})),
        (
            "additionalProperties",
            |next| json!({"additionalProperties": next, "propertyNames": true, "patternProperties": {"s$": next}}),
        ),
        ("items", |next| json!({"items": next, "contains": next})),
    ];
    for (name, link) in links {
        let schema = chain(40, json!({"type": "string"}), link);
        let instance = nested("s", 40, json!(7));
        assert!(checked(name, &schema, &instance).is_none(), "{name}");
    }
    // Each level compares twice, once for what was evaluated.
    let schema = chain(
        40,
        json!({"type": "string"}),
        |next| json!({"allOf": [{"properties": {"s": next}}], "unevaluatedProperties": false}),
    );
    assert!(is_refused("unevaluatedProperties", &schema, &nested("s", 40, json!(7))));
}

#[test]
fn attack_b3_recursive_schemas_that_branch_are_refused_for_the_value_that_is_too_deep() {
    let again = json!({"$ref": "#"});
    let lists = (0..40).fold(json!(7), |inner, _| json!([inner]));
    for (name, schema, instance) in [
        ("anyOf", json!({"properties": {"s": {"anyOf": [again, again]}}}), nested("s", 40, json!(7))),
        ("oneOf", json!({"properties": {"s": {"oneOf": [again, again]}}}), nested("s", 40, json!(7))),
        ("both", json!({"properties": {"s": again}, "patternProperties": {"s": again}}), nested("s", 40, json!(7))),
        ("contains", json!({"items": again, "contains": again}), lists.clone()),
        ("unevaluatedItems", json!({"unevaluatedItems": again}), lists),
        ("unevaluatedProperties", json!({"unevaluatedProperties": again}), nested("s", 40, json!(7))),
    ] {
        assert!(is_refused(name, &schema, &instance), "{name}");
        // A shallow one is compared.
        let shallow = checked(name, &schema, &json!({"s": {"s": 7}})).unwrap();
        assert!(shallow.violations.iter().all(|violation| violation.what != What::TooCostly), "{name}");
    }
}

/// Values that are long rather than deep, with everything that looks at each of their parts more than once.
fn long() -> Vec<(&'static str, Value, Value)> {
    let numbers: Value = (0..150_000).map(|n| json!(n)).collect();
    let text = json!("ab".repeat(500_000));
    let many: Map<String, Value> = (0..50_000).map(|n| (format!("field-{n}"), json!(n))).collect();
    // Lists in lists have the same hash as their items in one list.
    let trees: Value = (0..12_000_u32)
        .map(|n| (0..14).fold(json!([]), |tree, bit| if n >> bit & 1 == 0 { json!([tree]) } else { json!([tree, []]) }))
        .collect();
    let large: Value = (0..40_000).map(|n| json!((1_u64 << 63) + n)).collect();
    let words: Vec<Value> = (0..5_000).map(|n| json!([n, "x"])).collect();
    let patterns: Map<String, Value> =
        (0..150).map(|n| (format!("^field-[0-9]*{n}$"), json!({"type": "integer"}))).collect();
    let formats = [
        "email",
        "idn-email",
        "hostname",
        "idn-hostname",
        "uri",
        "iri",
        "uri-template",
        "regex",
        "ipv6",
        "date-time",
        "duration",
        "json-pointer",
        "uuid",
    ];
    let mut all = vec![
        ("unique lists", json!({"uniqueItems": true}), trees),
        ("unique numbers", json!({"uniqueItems": true}), large),
        ("unique plain numbers", json!({"uniqueItems": true}), numbers.clone()),
        ("a large enum", json!({"items": {"enum": words}}), numbers.clone()),
        ("many names", json!({"required": (0..20_000).map(|n| n.to_string()).collect::<Vec<_>>()}), json!({})),
        (
            "many names often",
            json!({"items": {"required": (0..20_000).map(|n| n.to_string()).collect::<Vec<_>>()}}),
            (0..10_000).map(|_| json!({})).collect(),
        ),
        ("patterns × fields", json!({"patternProperties": patterns}), Value::Object(many.clone())),
        (
            "names",
            json!({"propertyNames": {"allOf": [{"pattern": "^f"}, {"pattern": "[0-9]$"}, {"minLength": 2}]}}),
            Value::Object(many.clone()),
        ),
        ("an automaton that grows", json!({"pattern": "(a|b)*a(a|b){200}c"}), text.clone()),
        ("a large repetition", json!({"pattern": "^([ab]{1,50}){1,50}$"}), text.clone()),
        ("a plain pattern", json!({"pattern": "^[a-z]+$"}), text.clone()),
        ("lengths", json!({"allOf": vec![json!({"minLength": 1, "maxLength": 2_000_000}); 200]}), text.clone()),
        (
            "fractions",
            json!({"items": {"multipleOf": 1e-300}}),
            (0..100_000).map(|n| json!(f64::from(n) * 1e200)).collect(),
        ),
        (
            "choices",
            json!({"items": {"anyOf": (0..500).map(|n| json!({"const": n})).collect::<Vec<_>>()}}),
            numbers.clone(),
        ),
        (
            "counted",
            json!({"contains": {"not": {}}, "minContains": 0, "maxContains": 3, "items": {"type": "integer"}}),
            numbers.clone(),
        ),
        (
            "all wrong below a long name",
            json!({"additionalProperties": {"items": {"type": "string"}}}),
            json!({"n".repeat(400_000): (0..100_000).collect::<Vec<_>>()}),
        ),
        (
            "all unknown below a long name",
            json!({"additionalProperties": {"additionalProperties": false}}),
            json!({"n".repeat(400_000): many}),
        ),
        ("all wrong", json!({"items": {"type": "string"}}), numbers.clone()),
        ("all wrong forms", json!({"items": {"anyOf": [{"type": "string"}, {"type": "null"}]}}), numbers),
        (
            "what is left",
            json!({"items": {"anyOf": [{"properties": {"a": true}}, {"properties": {"b": true}}], "unevaluatedProperties": false}}),
            (0..30_000).map(|n| json!({"a": n, "b": n})).collect(),
        ),
    ];
    for format in formats {
        all.push(("format", json!({ "format": format }), text.clone()));
        all.push(("format", json!({ "format": format }), json!("[(".repeat(100_000))));
        all.push(("format", json!({ "format": format }), json!("ü".repeat(300_000))));
        all.push(("format", json!({ "format": format }), json!(format!("xn--{}", "a".repeat(300_000)))));
        all.push(("format", json!({ "format": format }), json!("a.".repeat(300_000))));
    }
    all
}

#[test]
fn attack_b3_long_values_end_in_time_or_are_not_begun() {
    for (name, schema, instance) in long() {
        checked(&format!("{name} {}", schema.to_string().chars().take(40).collect::<String>()), &schema, &instance);
    }
}

#[test]
fn schemas_themselves_are_read_in_bounded_time() {
    let repeated = |pattern: &str, times: usize| -> Value {
        let all: Map<String, Value> = (0..times).map(|n| (format!("{pattern}{n}"), json!(true))).collect();
        json!({ "patternProperties": all })
    };
    let steps: Vec<Value> = (0..400).map(|n| json!({"properties": {format!("p{n}"): true}})).collect();
    let users: Vec<Value> = (0..400).map(|_| json!({"$ref": "#/$defs/x", "unevaluatedProperties": false})).collect();
    for (name, schema) in [
        ("patterns", repeated("^[a-z]+[0-9]{1,20}x?", 200)),
        ("patterns of classes", repeated(r"\p{L}{1,20}", 200)),
        ("patterns that grow", repeated("(a|b)*a(a|b){12}", 200)),
        ("long names", (0..3).fold(json!({"properties": (0..1_000).map(|n| (format!("p{n}"), json!({"type": "string"}))).collect::<Map<_, _>>()}), |inner, _| json!({"properties": {"n".repeat(50_000): inner}}))),
        ("nested", (0..90).fold(json!({}), |inner, _| json!({"unevaluatedProperties": inner}))),
        ("left over", json!({"$defs": {"x": {"allOf": steps}}, "prefixItems": users})),
    ] {
        let begun = Instant::now();
        let told = Schema::compile(&schema).map(drop).map_err(|faults| faults[0].message.clone());
        println!("{name}: {:?} after {:?}", told, begun.elapsed());
        assert!(begun.elapsed() < 3 * AT_MOST, "{name}: {:?}", begun.elapsed());
    }
}

/// A keyword of earlier dialects that the library would follow.
#[test]
fn attack_b3_what_is_not_counted_is_not_compared_with() {
    let schema =
        chain(40, json!({"type": "string"}), |next| json!({"dependencies": {"s": {"properties": {"s": next}}}}));
    let faults = Schema::compile(&schema).unwrap_err();
    assert!(faults[0].message.contains("`dependencies` is not supported"), "{faults:?}");
}

/// Many schemas of many patterns in one definition.
#[test]
fn attack_b3_a_definition_is_read_in_bounded_time() {
    let patterns: Map<String, Value> = (0..150).map(|n| (format!("(a|b)*a(a|b){{{n}}}"), json!(true))).collect();
    let schema = json!({ "schema": { "document": { "patternProperties": patterns } } });
    let tasks: Vec<Value> = (0..60).map(|n| json!({ format!("t{n}"): { "input": schema, "set": {} } })).collect();
    let document = json!({"dsl": "1.0.3", "namespace": "a", "name": "b", "version": "1.0.0"});
    let text = json!({"document": document, "do": tasks}).to_string();
    let begun = Instant::now();
    let (workflow, _, diagnostics) = bellhop_core::definition::parse("w.yaml", &text);
    println!("read after {:?}", begun.elapsed());
    assert!(begun.elapsed() < 3 * AT_MOST, "{:?}", begun.elapsed());
    assert!(workflow.is_none());
    assert!(diagnostics.iter().any(|d| d.code.0 == "schema-too-costly"), "{diagnostics:?}");
}

#[test]
fn what_is_ordinary_is_compared() {
    let person = json!({
        "type": "object",
        "required": ["name", "email"],
        "additionalProperties": false,
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 200},
            "email": {"type": "string", "format": "email", "pattern": "^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$"},
            "team": {"enum": (0..40).map(|n| format!("team-{n}")).collect::<Vec<_>>()},
            "start": {"type": "string", "format": "date"},
        }
    });
    let schema = json!({"type": "object", "properties": {"people": {"type": "array", "items": person}}});
    let people = |count: usize| -> Vec<Value> {
        (0..count)
            .map(|n| json!({"name": format!("Ada {n}"), "email": format!("ada.{n}@acme.example"), "team": "team-7", "start": "2026-01-05"}))
            .collect()
    };
    let mut list = people(5_000);
    let all = checked("5,000 people", &schema, &json!({ "people": list })).unwrap();
    assert_eq!(all.violations, []);
    list[4_321]["email"] = json!("nobody");
    let one = checked("one of them wrong", &schema, &json!({ "people": list })).unwrap();
    println!("{one:?}");
    let text =
        checked("a large text", &json!({"type": "string", "maxLength": 900_000}), &json!("x".repeat(800_000))).unwrap();
    assert_eq!(text.violations, []);
    let tags = checked(
        "tags",
        &json!({"uniqueItems": true, "items": {"type": "string"}}),
        &(0..20_000).map(|n| json!(n.to_string())).collect(),
    )
    .unwrap();
    assert_eq!(tags.violations, []);
    // A tree of values, as a schema of JSON itself describes it.
    let tree = json!({"anyOf": [{"type": ["string", "number", "boolean", "null"]}, {"type": "array", "items": {"$ref": "#"}}, {"type": "object", "additionalProperties": {"$ref": "#"}}]});
    let deep =
        checked("a tree", &tree, &json!({"people": people(500), "more": nested("a", 30, json!([1, 2]))})).unwrap();
    assert_eq!(deep.violations, []);
}

/// Schemas of every keyword that refers to others, with references to each other.
fn schemas() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(true)),
        Just(json!({"type": "string", "pattern": "^[ab]*a[ab]{6}$"})),
        Just(json!({"enum": ["a", 1, [1, [2]]], "minLength": 1})),
        Just(json!({"uniqueItems": true, "maxItems": 3})),
        Just(json!({"multipleOf": 0.1, "format": "email"})),
        (0..4_usize).prop_map(|n| json!({ "$ref": format!("#/$defs/d{n}") })),
    ];
    let inner = leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            (prop::sample::select(vec!["allOf", "anyOf", "oneOf", "prefixItems"]), prop::collection::vec(inner.clone(), 1..4))
                .prop_map(|(keyword, all)| json!({ keyword: all })),
            (
                prop::sample::select(vec!["not", "items", "contains", "additionalProperties", "propertyNames", "unevaluatedProperties", "unevaluatedItems"]),
                inner.clone()
            )
                .prop_map(|(keyword, one)| json!({ keyword: one })),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| json!({"if": a, "then": b, "else": c})),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"properties": {"s": a}, "patternProperties": {"^s": b}})),
            (inner.clone(), inner)
                .prop_map(|(a, b)| json!({"dependentSchemas": {"s": a}, "items": b, "unevaluatedItems": false, "unevaluatedProperties": false})),
        ]
    });
    prop::collection::vec(inner, 4).prop_map(|all| {
        let all: Map<String, Value> = all.into_iter().enumerate().map(|(n, one)| (format!("d{n}"), one)).collect();
        json!({ "$ref": "#/$defs/d0", "$defs": all })
    })
}

fn instances() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        "[ab]{0,40}".prop_map(Value::from)
    ];
    let bush = leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[st]{1,2}", inner, 0..5).prop_map(|all| json!(all)),
        ]
    });
    // Deep, with the same bush at the end of each way.
    (bush, 0..60_usize, any::<bool>(), 1..4_usize).prop_map(|(bush, levels, list, wide)| {
        (0..levels).fold(bush, |inner, level| {
            if level > 3 {
                if list { json!([inner]) } else { json!({ "s": inner }) }
            } else {
                json!({ "s": vec![inner; wide] })
            }
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn attack_b3_whatever_is_admitted_ends_within_its_budget(schema in schemas(), instance in instances()) {
        let begun = Instant::now();
        let Ok(compiled) = Schema::compile(&schema) else { return Ok(()) };
        let checked = compiled.check(&instance);
        assert!(begun.elapsed() < AT_MOST, "{:?} for {} units", begun.elapsed(), checked.cost);
        assert!(checked.cost <= 2 * UNITS_MAX);
        if !checked.violations.iter().any(|violation| violation.what == What::TooCostly) {
            assert_eq!(checked.violations.is_empty(), compiled.is_valid(&instance));
        }
    }
}
