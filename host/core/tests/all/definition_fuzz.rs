//! Whatever the text, the parser answers, and what it says is consistent.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use bellhop_core::definition::{self, Source};
use bellhop_core::diagnostic::{Diagnostic, render_all};
use bellhop_core::schema::Schema;
use proptest::prelude::*;

const GOOD: &str = include_str!("../cases/definition/every-kind/workflow.yaml");

fn answer(file: &str, text: &str) {
    let (workflow, source, diagnostics) = definition::parse(file, text);
    assert_eq!(workflow.is_none(), diagnostics.iter().any(Diagnostic::is_error));
    let lines = text.split('\n').count() + text.matches('\r').count();
    for diagnostic in &diagnostics {
        if let Some(place) = &diagnostic.place {
            assert!(place.line >= 1 && place.line as usize <= lines + 1, "{place:?}");
            assert!(place.column >= 1 && place.length >= 1, "{place:?}");
        }
    }
    let text = render_all(&diagnostics);
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
    serde_json::to_string(&diagnostics).unwrap();
    if let Some(workflow) = workflow {
        for task in &workflow.tasks {
            assert!(source.place(&task.pointer).is_some(), "{}", task.pointer);
            assert!(task.parent.is_none_or(|parent| parent < task.index));
        }
    }
}

/// A piece of text that means something to YAML, JSON or the language.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "do",
        "call",
        "set",
        "- ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        "\n",
        "  ",
        "\t",
        "&a ",
        "*a",
        "!!str ",
        "!x ",
        "|",
        ">-",
        "'",
        "\"",
        "#",
        "---",
        "...",
        "%YAML 1.2",
        "? ",
        "<<",
        "~",
        "null",
        ".nan",
        "0x",
        "1e9",
        "${",
        "}",
        "\\u0000",
        "\\",
        "\u{feff}",
        "\r",
        "\u{85}",
        "\u{2028}",
        "é",
        "名",
        "\0",
        ",",
        "@",
        "`",
        "catch",
        "retry",
        "then",
        "metadata",
        "bellhop",
    ];
    prop_oneof![prop::sample::select(words.to_vec()).prop_map(str::to_owned), "[ -~]{0,6}", "\\PC{0,3}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_is_answered(text in "(?s).{0,300}") {
        answer("w.yaml", &text);
        answer("w.json", &text);
    }

    #[test]
    fn arbitrary_pieces_are_answered(pieces in prop::collection::vec(piece(), 0..60)) {
        let text = pieces.concat();
        answer("w.yaml", &text);
        answer("w.json", &text);
    }

    #[test]
    fn mutations_of_a_good_file_are_answered(
        cuts in prop::collection::vec((0..GOOD.len(), 0..40_usize, piece()), 1..6)
    ) {
        let mut text: Vec<char> = GOOD.chars().collect();
        for (at, length, piece) in cuts {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, piece.chars());
        }
        answer("w.yaml", &text.into_iter().collect::<String>());
    }

    #[test]
    fn json_is_read_as_serde_reads_it(value in json(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let (source, diagnostics) = Source::read("w.json", &text);
        prop_assert!(diagnostics.is_empty(), "{}", render_all(&diagnostics));
        prop_assert_eq!(source.value, value);
    }

    #[test]
    fn bytes_are_decoded_or_placed(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        match Source::decode("w.yaml", &bytes) {
            Ok(text) => answer("w.yaml", text),
            Err(diagnostic) => prop_assert!(diagnostic.place.is_some()),
        }
    }

    #[test]
    fn schemas_are_answered(schema in schema(), instance in json()) {
        if let Ok(schema) = Schema::compile(&schema) {
            prop_assert_eq!(schema.validate(&instance).is_empty(), schema.is_valid(&instance));
        }
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        "\\PC{0,12}".prop_map(Into::into),
        prop::sample::select(vec!["a", "b", "\u{1f600}", "\\ \" / \u{8}\u{c}\n\r\t"]).prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map("[a-c~/é]{0,3}", inner, 0..6)
                .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
        ]
    })
}

/// Mostly schemas, many of which refer to themselves.
fn schema() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::json;
    let leaf = prop_oneof![
        Just(json!({"type": "string"})),
        Just(json!({"type": ["integer", "null"], "minimum": 3})),
        Just(json!({"$ref": "#"})),
        Just(json!({"$ref": "#/$defs/a"})),
        Just(json!({"$ref": "#/properties/a"})),
        Just(json!(true)),
        Just(json!(false)),
        Just(json!({"pattern": "^[a-z]+$", "format": "date"})),
        Just(json!({"enum": ["a", 1]})),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let keyword = prop::sample::select(vec!["allOf", "anyOf", "oneOf"]);
        let single = prop::sample::select(vec![
            "not",
            "if",
            "items",
            "additionalProperties",
            "unevaluatedProperties",
            "contains",
        ]);
        prop_oneof![
            (keyword, prop::collection::vec(inner.clone(), 1..4)).prop_map(|(k, v)| json!({ k: v })),
            (single, inner.clone()).prop_map(|(k, v)| json!({ k: v })),
            (inner.clone(), inner.clone(), inner)
                .prop_map(|(a, b, c)| json!({"properties": {"a": a, "b": b}, "$defs": {"a": c}, "required": ["a"]})),
        ]
    })
}
