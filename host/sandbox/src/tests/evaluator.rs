//! Expressions: honest ones, and each hostile one.

use bellhop_core::expression::{Error, Evaluator as _};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::sandbox;
use crate::expression::{Budget, Expressions};

async fn expressions() -> Expressions {
    static EXPRESSIONS: OnceCell<Expressions> = OnceCell::const_new();
    EXPRESSIONS.get_or_init(|| async { Expressions::load(sandbox(), Budget::default()).await.unwrap() }).await.clone()
}

#[tokio::test]
async fn evaluates() {
    let jq = expressions().await;
    let person = json!({"name": "Ada", "tags": ["a", "b"]});
    for (program, expected) in [
        (".", person.clone()),
        (".name", json!("Ada")),
        (".tags | length", json!(2)),
        ("empty", Value::Null),
        ("$context.city", json!("Paris")),
        ("{n: .name, c: $context.city}", json!({"n": "Ada", "c": "Paris"})),
        ("keep(\"person\") | .person.name", json!("Ada")),
        ("[.tags[] | ascii_upcase] | join(\"-\")", json!("A-B")),
        ("[1, 2.5, 1e3]", json!([1, 2.5, 1000.0])),
    ] {
        let arguments: &[(&str, &Value)] = &[("context", &json!({"city": "Paris"})), ("unused", &json!("x"))];
        let answer = jq.evaluate(program, arguments, &person);
        let same = answer
            .as_ref()
            .is_ok_and(|a| a == &expected || a.to_string().replace(".0", "") == expected.to_string().replace(".0", ""));
        assert!(same, "{program}: {answer:?}");
    }
}

#[tokio::test]
async fn says_what_is_wrong_and_where() {
    let jq = expressions().await;
    let at = |program: &str| match jq.evaluate(program, &[("context", &json!({}))], &json!({})) {
        Err(Error::Invalid { message, at }) => (message, at),
        other => panic!("{program}: {other:?}"),
    };
    assert_eq!(at(".a |").1, Some(4));
    assert!(at("now").0.contains("clock"), "{:?}", at("now"));
    assert_eq!(at("$nothing").0, "the variable `$nothing` does not exist here; there are `$context`");
    assert!(at("1, 2").0.contains("more than one result"));
    assert!(at("error(\"no\")").0.contains("no"));
}

#[tokio::test]
async fn inspects() {
    let inspection = expressions().await.inspect("$context.a + .b.c").unwrap();
    assert_eq!(inspection.variables, ["context"]);
    assert!(inspection.paths.contains(&".b.c".to_owned()), "{inspection:?}");
}

/// What jaq in the host's own process would not survive.
const HOSTILE: &[&str] = &[
    "def f: f; f",
    "def f: 1+f; f",
    "[range(50000)] | reduce .[] as $x (null; [.]) | tojson",
    "[range(1e9)]",
    "[recurse(.)]",
    "last(range(1e12))",
    "[limit(1e9; repeat(\"a\"))] | add",
    "reduce range(40) as $i (\"a\"; . + .)",
    "def f(g): f(g | g); f(.)",
    "[range(100000)] | map([range(1000)])",
    "until(false; .)",
    "\"a\" * 1000000000",
];

#[tokio::test]
async fn every_hostile_expression_is_a_budget_error() {
    let jq = expressions().await;
    for program in HOSTILE {
        let start = tokio::time::Instant::now();
        let answer = jq.evaluate(program, &[], &Value::Null);
        assert!(matches!(answer, Err(Error::Budget { .. })), "{program}: {answer:?}");
        assert!(start.elapsed() < std::time::Duration::from_secs(5), "{program} took {:?}", start.elapsed());
        assert_eq!(jq.evaluate(". + 1", &[], &json!(1)), Ok(json!(2)), "after {program}");
    }
}

#[tokio::test]
async fn hostile_texts_are_parsed_in_the_guest() {
    let jq = expressions().await;
    for program in [
        "[".repeat(30_000),
        "(".repeat(30_000) + "1" + &")".repeat(30_000),
        "-".repeat(60_000) + "1",
        "if 1 then ".repeat(6_000),
        "1|".repeat(30_000) + "1",
        "a".repeat(1 << 20),
        "\"\\(".repeat(20_000),
    ] {
        let answer = jq.evaluate(&program, &[], &Value::Null);
        assert!(answer.is_err() || answer == Ok(json!(1)), "{}…: {answer:?}", &program[..20]);
        assert_eq!(jq.evaluate(". + 1", &[], &json!(1)), Ok(json!(2)));
    }
}

#[tokio::test]
async fn many_threads_evaluate_while_others_do_harm() {
    let jq = expressions().await;
    std::thread::scope(|scope| {
        for i in 0..4_u32 {
            let jq = &jq;
            scope.spawn(move || {
                for j in 0..100_u32 {
                    assert_eq!(jq.evaluate(". * 2", &[], &json!(i * 1000 + j)), Ok(json!((i * 1000 + j) * 2)));
                }
            });
        }
        for _ in 0..2 {
            let jq = &jq;
            scope.spawn(move || {
                for _ in 0..3 {
                    assert!(jq.evaluate("def f: f; f", &[], &Value::Null).is_err());
                }
            });
        }
    });
    assert!(jq.instances() <= 16);
}

#[tokio::test]
async fn a_grown_instance_is_not_used_again() {
    let jq =
        Expressions::load(sandbox(), Budget { kept_memory_bytes_max: 4 << 20, ..Budget::default() }).await.unwrap();
    assert_eq!(jq.instances(), 1);
    assert_eq!(jq.evaluate("[range(100000)] | length", &[], &Value::Null), Ok(json!(100_000)));
    assert_eq!(jq.instances(), 0);
    assert_eq!(jq.evaluate("1", &[], &Value::Null), Ok(json!(1)));
}

/// A new instance for each evaluation would be a hundred times slower, and nobody would notice.
#[tokio::test]
async fn one_instance_serves_many_evaluations() {
    let jq = Expressions::load(sandbox(), Budget { evaluations_max: 1_002, ..Budget::default() }).await.unwrap();
    for i in 0..1_000_u32 {
        assert_eq!(jq.evaluate(". + 1", &[], &json!(i)), Ok(json!(i + 1)));
    }
    assert_eq!(jq.instances(), 1, "a thousand evaluations and one inspection");
    assert_eq!(jq.evaluate(". + 1", &[], &json!(1)), Ok(json!(2)));
    assert_eq!(jq.instances(), 0, "now it is worn");
}

/// What is not read is not given; what is read must be there.
#[tokio::test]
async fn leaving_out_what_is_not_read_changes_nothing() {
    let jq = expressions().await;
    let input = json!({"a": {"b": 1}, "list": [1, 2, 3]});
    let context = json!({"a": 10});
    let arguments: &[(&str, &Value)] = &[("context", &context), ("task", &json!({"name": "t"}))];
    for (program, expected) in [
        ("$context.a", json!(10)),
        ("$context | .a", json!(10)),
        ("[.list[] | select(. > 1)] | length", json!(2)),
        ("$context as $c | .a.b + $c.a", json!(11)),
        ("def f: .a.b; f", json!(1)),
        ("reduce .list[] as $x (0; . + $x)", json!(6)),
        ("[paths] | length", json!(6)),
        ("$task.name + (.a.b | tostring)", json!("t1")),
        ("[1, 2] | map(. + 1)", json!([2, 3])),
        ("{list} | .list | length", json!(3)),
        ("getpath([\"a\", \"b\"])", json!(1)),
        ("keep(\"x\") | .x.a.b", json!(1)),
        ("try error catch .a.b", json!(1)),
    ] {
        let answer = jq.evaluate(program, arguments, &input);
        assert_eq!(answer, Ok(expected), "{program}");
    }
}

/// Whatever a program does, there is nothing that it could reach.
#[test]
fn the_evaluator_imports_nothing() {
    let wit_component::DecodedWasm::Component(resolve, world) =
        wit_component::decode(crate::expression::COMPONENT).unwrap()
    else {
        panic!("not a component")
    };
    let world = &resolve.worlds[world];
    let imports: Vec<_> = world.imports.keys().map(|key| resolve.name_world_key(key)).collect();
    assert_eq!(imports, Vec::<String>::new());
    let mut exports: Vec<_> = world.exports.keys().map(|key| resolve.name_world_key(key)).collect();
    exports.sort();
    assert_eq!(exports, ["evaluate", "inspect"]);
}
