//! Schemas: what is refused before it is compiled, and what is said of values that do not fit.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::fmt::Write as _;

use bellhop_core::definition::{self, TaskKind};
use bellhop_core::diagnostic::render_all;
use bellhop_core::schema::{Schema, What, check_arguments};
use expect_test::expect;
use serde_json::{Value, json};

fn refused(schema: &Value) -> String {
    match Schema::compile(schema) {
        Ok(_) => "accepted\n".to_owned(),
        Err(faults) => faults.iter().fold(String::new(), |mut text, f| {
            writeln!(text, "{}: {}", if f.pointer.is_empty() { "/" } else { &f.pointer }, f.message).unwrap();
            text
        }),
    }
}

fn violations(schema: &Value, instance: &Value) -> String {
    let schema = Schema::compile(schema).unwrap();
    let found = schema.validate(instance);
    assert_eq!(found.is_empty(), schema.is_valid(instance));
    found.iter().fold(String::new(), |mut text, v| {
        write!(text, "{:?} {} [{}] {}", v.what, v.pointer, v.schema_pointer, v.message).unwrap();
        if let Some(expected) = &v.expected {
            write!(text, " (expected {expected})").unwrap();
        }
        if let Some(near) = &v.suggestion {
            write!(text, " (did you mean {near}?)").unwrap();
        }
        text.push('\n');
        text
    })
}

#[test]
fn hostile_schemas_are_refused() {
    let mut text = String::new();
    let deep = (0..150).fold(json!({}), |inner, _| json!({"not": inner}));
    let doubling: serde_json::Map<String, Value> = (0..30)
        .map(|i| {
            let next = json!({"$ref": format!("#/$defs/d{}", i + 1)});
            (format!("d{i}"), json!({"allOf": [next.clone(), next]}))
        })
        .chain([("d30".to_owned(), json!({"type": "string"}))])
        .collect();
    let ring: serde_json::Map<String, Value> =
        (0..300).map(|i| (format!("d{i}"), json!({"$ref": format!("#/$defs/d{}", (i + 1) % 300)}))).collect();
    for (name, schema) in [
        ("not a schema", json!(5)),
        (
            "remote",
            json!({"properties": {"a": {"$ref": "https://example.com/x"}, "b": {"$ref": "file:///etc/passwd"}}}),
        ),
        ("relative", json!({"$ref": "other.json#/x"})),
        ("dynamic", json!({"$dynamicRef": "#x"})),
        ("dialect", json!({"$schema": "http://json-schema.org/draft-07/schema#"})),
        ("inner id", json!({"properties": {"a": {"$id": "https://example.com/inner"}}})),
        ("unresolved", json!({"$ref": "#/$defs/x"})),
        ("not a subschema", json!({"$ref": "#/title", "title": "x"})),
        ("itself", json!({"$ref": "#"})),
        ("itself in a choice", json!({"anyOf": [{"type": "string"}, {"$ref": "#"}]})),
        ("a ring", json!({"$ref": "#/$defs/d0", "$defs": ring})),
        ("doubling", json!({"$ref": "#/$defs/d0", "$defs": doubling})),
        ("deep", deep),
        ("long", json!({"description": "x".repeat(300_000)})),
        (
            "wide",
            json!({"properties": (0..3000).map(|i| (i.to_string(), json!(true))).collect::<serde_json::Map<_, _>>()}),
        ),
        ("look-around", json!({"pattern": "^(?=a)b"})),
        ("back-reference", json!({"pattern": "(a)\\1"})),
        ("huge pattern", json!({"pattern": "((a{1,100}){1,100}){1,100}"})),
        ("long pattern", json!({"pattern": "a".repeat(2000)})),
        ("wrong keyword", json!({"type": "strng", "properties": {"a": {"minLength": -1}, "b": {"required": "x"}}})),
        ("unknown format", json!({"format": "no-such-format"})),
        ("unknown keyword", json!({"type": "string", "x-bellhop": "channel"})),
        ("anchor", json!({"$ref": "#here", "$defs": {"a": {"$anchor": "here", "type": "string"}}})),
        ("recursive", json!({"properties": {"child": {"$ref": "#"}}})),
    ] {
        writeln!(text, "{name}: {}", refused(&schema).trim_end()).unwrap();
    }
    expect![[r#"
        not a schema: /: a schema is an object, `true` or `false`
        remote: /properties/a/$ref: references outside the schema are not followed
        /properties/b/$ref: references outside the schema are not followed
        relative: /$ref: references outside the schema are not followed
        dynamic: /$dynamicRef: `$dynamicRef` is not supported
        dialect: /$schema: the only dialect is https://json-schema.org/draft/2020-12/schema
        inner id: /properties/a/$id: `$id` can only stand at the top
        unresolved: /$ref: the reference points at no schema
        not a subschema: /$ref: the reference points at no schema
        itself: /: the schema refers to itself without looking any deeper
        itself in a choice: /anyOf/1: the schema refers to itself without looking any deeper
        a ring: /$defs/d299: the schema refers to itself without looking any deeper
        doubling: /$defs/d22: one value would be compared with 1021 subschemas, and may be with 1000: use fewer branches
        deep: /: the schema nests 151 levels deep, and may nest 100
        long: /: the schema has 300018 bytes as JSON, and may have 262144
        wide: /: the schema has more than 2000 subschemas
        look-around: /pattern: the pattern is not a regular expression that can be matched in linear time: no look-around, no back-references, no large repetitions
        back-reference: /pattern: the pattern is not a regular expression that can be matched in linear time: no look-around, no back-references, no large repetitions
        huge pattern: /pattern: the pattern is not a regular expression that can be matched in linear time: no look-around, no back-references, no large repetitions
        long pattern: /pattern: the pattern has 2000 bytes, and may have 1000
        wrong keyword: /properties/a/minLength: `minLength` must be at least 0
        /properties/b/required: `required` must be a list
        /type: `type` must be one of `null`, `boolean`, `object`, `array`, `number`, `string`, `integer`
        unknown format: accepted
        unknown keyword: accepted
        anchor: accepted
        recursive: accepted
    "#]].assert_eq(&text);
}

#[test]
fn every_violation_is_told_in_words() {
    let schema = json!({
        "type": "object",
        "required": ["name", "start"],
        "additionalProperties": false,
        "properties": {
            "name": {"type": "string", "minLength": 2},
            "start": {"type": "string", "format": "date"},
            "mail": {"type": "string", "format": "email"},
            "size": {"enum": ["small", "large"]},
            "count": {"type": ["integer", "null"], "minimum": 1, "maximum": 9},
            "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]+$"}, "maxItems": 2, "uniqueItems": true},
            "who": {"anyOf": [{"type": "string"}, {"type": "object", "required": ["id"]}]},
            "secret": {"const": "x"},
            "never": false,
        }
    });
    expect![[r#"
        Missing /start [/required] the value needs a field `start` (expected a field `start`)
        Invalid /count [/properties/count/type] `count` must be null or a whole number (expected null or a whole number)
        Invalid /count [/properties/count/maximum] `count` must be at most 9 (expected at most 9)
        Invalid /mail [/properties/mail/format] `mail` must be of the format `email` (expected of the format `email`)
        Invalid /name [/properties/name/minLength] `name` must be at least 2 characters long (expected at least 2 characters long)
        Invalid /never [/properties/never] `never` is not allowed here (expected to be left out)
        Invalid /secret [/properties/secret/const] `secret` must be `x` (expected `x`)
        Invalid /size [/properties/size/enum] `size` must be one of `small`, `large` (expected one of `small`, `large`) (did you mean small?)
        Invalid /tags [/properties/tags/maxItems] `tags` can have at most 2 items (expected at most 2 items)
        Invalid /tags [/properties/tags/uniqueItems] `tags` has the same item twice (expected each item once)
        Invalid /tags/2 [/properties/tags/items/pattern] item 2 must be text that matches `^[a-z]+$` (expected text that matches `^[a-z]+$`)
        Invalid /who [/properties/who/anyOf] `who` fits none of the forms that are allowed: `who` needs a field `id` (expected one of the forms that the schema allows)
        Unknown /a~1b [/additionalProperties] the value has no field `a/b` (expected one of `count`, `mail`, `name`, `never`, `secret`, `size`, `start`, `tags`, `who`)
        Unknown /nmae [/additionalProperties] the value has no field `nmae` (expected one of `count`, `mail`, `name`, `never`, `secret`, `size`, `start`, `tags`, `who`) (did you mean name?)
    "#]].assert_eq(&violations(
        &schema,
        &json!({
            "nmae": "A", "name": "A", "mail": "nobody", "size": "smal", "count": 10.5, "tags": ["a", "a", "B"],
            "who": {"name": 1}, "secret": "hunter2", "never": 1, "a/b": 1,
        }),
    ));
    expect![[""]].assert_eq(&violations(&schema, &json!({"name": "Al", "start": "2026-01-05", "count": null})));
    expect![[r#"
        Invalid  [/type] the value must be an object (expected an object)
    "#]]
    .assert_eq(&violations(&schema, &json!([])));
    let either = json!({"oneOf": [{"required": ["channel"]}, {"required": ["user"]}]});
    expect![[r#"
        Invalid  [/oneOf] the value needs one of the fields `channel`, `user` (expected a value with one of the fields `channel`, `user`)
    "#]]
    .assert_eq(&violations(&either, &json!({})));
}

#[test]
fn values_are_not_repeated() {
    let schema = json!({"properties": {"a": {"type": "integer"}, "b": {"enum": ["x"]}, "c": {"pattern": "^x$"}, "d": {"const": 1}, "e": {"format": "date"}, "f": {"oneOf": [{"type": "null"}]}}});
    let text = violations(
        &schema,
        &json!({"a": "hunter2", "b": "hunter2", "c": "hunter2", "d": "hunter2", "e": "hunter2", "f": "hunter2"}),
    );
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(text.lines().count(), 6);
}

#[test]
fn recursive_schemas_that_branch_bound_their_instances() {
    let tree = json!({"type": "object", "properties": {"child": {"$ref": "#"}}});
    let branching = json!({"anyOf": [
        {"properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    ]});
    let nested = |key: &str, levels: usize| (0..levels).fold(json!(1), |inner, _| json!({ key: inner }));
    assert!(
        Schema::compile(&tree)
            .unwrap()
            .validate(&nested("child", 90))
            .iter()
            .all(|v| v.what == What::Invalid && !v.pointer.is_empty())
    );
    let violations = Schema::compile(&branching).unwrap().validate(&nested("a", 60));
    assert_eq!(violations.len(), 1);
    assert_eq!(violations[0].what, What::TooCostly, "{violations:?}");
    assert!(!Schema::compile(&branching).unwrap().is_valid(&nested("a", 60)));
    let violations = Schema::compile(&json!({})).unwrap().validate(&nested("a", 101));
    assert!(violations[0].message.contains("nests 101 levels deep, and this schema can check"), "{violations:?}");
}

#[test]
fn violations_are_counted() {
    let schema = json!({"items": {"type": "string"}, "properties": {"a": true}, "additionalProperties": false});
    let many: Value = (0..10_000).map(Value::from).collect();
    assert_eq!(Schema::compile(&schema).unwrap().validate(&many).len(), bellhop_core::schema::VIOLATIONS_MAX);
    let many: serde_json::Map<String, Value> = (0..10_000).map(|i| (i.to_string(), json!(1))).collect();
    assert_eq!(Schema::compile(&schema).unwrap().validate(&many.into()).len(), bellhop_core::schema::VIOLATIONS_MAX);
}

#[test]
fn arguments_are_checked_as_far_as_they_are_literal() {
    let (workflow, source, diagnostics) = definition::parse(
        "w.yaml",
        r#"document: {dsl: '1.0.3', namespace: a, name: b, version: '1.0.0'}
do:
  - good:
      call: message.send:1@slack
      with: {connection: hq, channel: '${ .channel }', text: Hi, blocks: ['${ .block }', {type: section}]}
  - typo:
      call: message.send:1@slack
      with: {chanel: C1, text: Hi}
  - types:
      call: message.send:1@slack
      with:
        channel: 5
        text: '${ .text }'
        priority: hihg
        blocks: [{type: 7}, '${ .x }']
        options: {unfurl: '${ .u }', colour: red}
  - none:
      call: message.send:1@slack
  - open:
      call: message.send:1@slack
      with: {channel: '${ .c }', text: '', target: {kind: '${ .k }'}, choice: '${ .x }'}
"#,
    );
    assert!(diagnostics.is_empty(), "{}", render_all(&diagnostics));
    let schema = Schema::compile(&json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["channel", "text"],
        "properties": {
            "channel": {"type": "string", "x-bellhop": "channel"},
            "text": {"type": "string", "minLength": 1},
            "priority": {"enum": ["low", "high"]},
            "blocks": {"type": "array", "minItems": 1, "items": {"type": "object", "properties": {"type": {"type": "string"}}}},
            "options": {"type": "object", "additionalProperties": false, "properties": {"unfurl": {"type": "boolean"}}},
            "target": {"oneOf": [{"properties": {"kind": {"const": "a"}}}, {"properties": {"kind": {"const": "b"}}}]},
            "choice": {"type": "string"},
        }
    }))
    .unwrap();
    let workflow = workflow.unwrap();
    let mut all = Vec::new();
    for task in &workflow.tasks {
        if let TaskKind::Call(call) = &task.kind {
            all.extend(check_arguments(&source, task, call, &schema));
        }
    }
    expect![[r#"
        error[argument-missing]: `message.send:1@slack` needs the argument `channel`
         --> w.yaml:8:7 (task /do/1/typo)
          |
        8 |       with: {chanel: C1, text: Hi}
          |       ^^^^
          |
          = needs: a field `channel`
          = fix:   see what it takes: GET /v1/actions?plugin=slack
          = more:  bellhop explain argument-missing

        error[argument-unknown]: `message.send:1@slack` takes no argument `chanel`
         --> w.yaml:8:14 (task /do/1/typo)
          |
        8 |       with: {chanel: C1, text: Hi}
          |              ^^^^^^
          |
          = fix:   did you mean `channel`?
          = more:  bellhop explain argument-unknown

        error[argument-invalid]: the argument `blocks/0/type` of `message.send:1@slack` must be text
          --> w.yaml:15:25 (task /do/2/types)
           |
        15 |         blocks: [{type: 7}, '${ .x }']
           |                         ^
           |
           = needs: text
           = fix:   see what it takes: GET /v1/actions?plugin=slack
           = more:  bellhop explain argument-invalid

        error[argument-invalid]: the argument `channel` of `message.send:1@slack` must be text
          --> w.yaml:12:18 (task /do/2/types)
           |
        12 |         channel: 5
           |                  ^
           |
           = needs: text
           = fix:   see what it takes: GET /v1/actions?plugin=slack
           = more:  bellhop explain argument-invalid

        error[argument-unknown]: `message.send:1@slack` takes no argument `options/colour`
          --> w.yaml:16:38 (task /do/2/types)
           |
        16 |         options: {unfurl: '${ .u }', colour: red}
           |                                      ^^^^^^
           |
           = fix:   it can have `unfurl`
           = more:  bellhop explain argument-unknown

        error[argument-invalid]: the argument `priority` of `message.send:1@slack` must be one of `low`, `high`
          --> w.yaml:14:19 (task /do/2/types)
           |
        14 |         priority: hihg
           |                   ^^^^
           |
           = fix:   did you mean `high`?
           = more:  bellhop explain argument-invalid

        error[argument-missing]: `message.send:1@slack` needs the argument `channel`
          --> w.yaml:18:13 (task /do/3/none)
           |
        18 |       call: message.send:1@slack
           |             ^^^^^^^^^^^^^^^^^^^^
           |
           = needs: a field `channel`
           = fix:   see what it takes: GET /v1/actions?plugin=slack
           = more:  bellhop explain argument-missing

        error[argument-missing]: `message.send:1@slack` needs the argument `text`
          --> w.yaml:18:13 (task /do/3/none)
           |
        18 |       call: message.send:1@slack
           |             ^^^^^^^^^^^^^^^^^^^^
           |
           = needs: a field `text`
           = fix:   see what it takes: GET /v1/actions?plugin=slack
           = more:  bellhop explain argument-missing

        error[argument-invalid]: the argument `text` of `message.send:1@slack` does not fit: `text` must not be empty
          --> w.yaml:21:40 (task /do/4/open)
           |
        21 |       with: {channel: '${ .c }', text: '', target: {kind: '${ .k }'}, choice: '${ .x }'}
           |                                        ^^
           |
           = needs: not empty
           = fix:   see what it takes: GET /v1/actions?plugin=slack
           = more:  bellhop explain argument-invalid

        9 errors, 0 warnings
    "#]]
    .assert_eq(&render_all(&all));
}
