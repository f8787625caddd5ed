//! Expressions of definitions: what is said of them before anything runs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use bellhop_core::definition::{self, check_expressions};
use bellhop_core::diagnostic::render_all;
use bellhop_core::expression::Evaluator;
use expect_test::{Expect, expect};
use serde_json::json;

const HEAD: &str = "document: {dsl: '1.0.3', namespace: a, name: b, version: '1.0.0'}\n";

fn check(body: &str, expected: &Expect) {
    let (workflow, source, diagnostics) = definition::parse("w.yaml", &format!("{HEAD}{body}"));
    assert!(diagnostics.is_empty(), "{}", render_all(&diagnostics));
    expected.assert_eq(&render_all(&check_expressions(&workflow.unwrap(), &source, &crate::jaq::Jaq)));
}

#[test]
fn good_expressions_pass() {
    check(
        r#"input: {from: .person}
do:
  - look:
      if: $input.email != null and $context.done == null
      set: '${ {a: $runtime, b: $workflow, c: $task} }'
      export: {as: '$context + {seen: $output}'}
  - each:
      for: {each: channel, at: i, in: '.channels'}
      while: $i < 3
      do:
        - post:
            set: {text: '${ "\($i): \($channel)" }', column: '${ table("access"; .department).channel }'}
            export: {as: 'keep("posted")'}
  - careful:
      try:
        - pause: {wait: '${ until(.start; "09:00"; "Europe/Paris"; -1) }'}
      catch:
        as: problem
        when: $problem.status == 404
        retry: {when: $problem.status >= 500, delay: PT1S}
        do:
          - note: {set: {status: '${ $problem.status }'}}
"#,
        &expect![[""]],
    );
}

#[test]
fn faults_stand_where_they_are_written() {
    check(
        r#"do:
  - a:
      if: '$contxt.person != null'
      set: {x: "${ .a | }", y: "${ $error.status }"}
  - b:
      for: {each: channel, in: '$channel'}
      do:
        - c:
            set: {x: '${ $channel }', y: '${ $chanel }'}
  - d:
      set: {x: '${ $item + $output }', y: '${ $secrets.token }'}
      output: {as: '$output'}
  - e:
      set:
        text: |
          ${
            { "a": .b,
              "b": nosuch(.c) }
          }
  - f:
      wait: '${ ${ .x } }'
  - g:
      try:
        - h: {set: {x: '${ $problem }'}}
      catch: {as: problem, when: 'true', do: [{i: {set: {x: '${ $problem }'}}}]}
"#,
        &expect![[r#"
            error[expression-invalid]: there is no variable `$contxt`
             --> w.yaml:4:12 (task /do/0/a)
              |
            4 |       if: '$contxt.person != null'
              |            ^^^^^^^
              |
              = fix:   did you mean `$context`?
              = more:  bellhop explain expression-invalid

            error[expression-invalid]: this is not a valid expression: expected term, but the expression ends
             --> w.yaml:5:24 (task /do/0/a)
              |
            5 |       set: {x: "${ .a | }", y: "${ $error.status }"}
              |                        ^
              |
              = fix:   write it in jq, with what a run can know: not the time, the machine or other input
              = more:  bellhop explain expression-invalid

            error[expression-invalid]: `$error` exists in a `catch` only
             --> w.yaml:5:36 (task /do/0/a)
              |
            5 |       set: {x: "${ .a | }", y: "${ $error.status }"}
              |                                    ^^^^^^
              |
              = fix:   use it in a task under `catch.do`
              = more:  bellhop explain expression-invalid

            error[expression-invalid]: `$channel` does not exist here
             --> w.yaml:7:33 (task /do/1/b)
              |
            7 |       for: {each: channel, in: '$channel'}
              |                                 ^^^^^^^^
              |
              = fix:   it exists in the `do` and `while` of `b` only
              = more:  bellhop explain expression-invalid

            error[expression-invalid]: there is no variable `$chanel`
              --> w.yaml:10:46 (task /do/1/b/do/0/c)
               |
            10 |             set: {x: '${ $channel }', y: '${ $chanel }'}
               |                                              ^^^^^^^
               |
               = fix:   did you mean `$channel`?
               = more:  bellhop explain expression-invalid

            error[expression-invalid]: there is no variable `$item`
              --> w.yaml:12:20 (task /do/2/d)
               |
            12 |       set: {x: '${ $item + $output }', y: '${ $secrets.token }'}
               |                    ^^^^^
               |
               = fix:   there are `$context`, `$input`, `$runtime`, `$task`, `$workflow`
               = more:  bellhop explain expression-invalid

            error[expression-invalid]: `$output` is there in `export` only
              --> w.yaml:12:28 (task /do/2/d)
               |
            12 |       set: {x: '${ $item + $output }', y: '${ $secrets.token }'}
               |                            ^^^^^^^
               |
               = fix:   in `output.as`, the task's output is `.`
               = more:  bellhop explain expression-invalid

            error[expression-invalid]: this version does not fill `$secrets` yet
              --> w.yaml:12:47 (task /do/2/d)
               |
            12 |       set: {x: '${ $item + $output }', y: '${ $secrets.token }'}
               |                                               ^^^^^^^^
               |
               = fix:   connections hold the secrets: declare one in metadata.bellhop.connections
               = more:  bellhop explain expression-invalid

            error[expression-invalid]: `$output` is there in `export` only
              --> w.yaml:13:21 (task /do/2/d)
               |
            13 |       output: {as: '$output'}
               |                     ^^^^^^^
               |
               = fix:   in `output.as`, the task's output is `.`
               = more:  bellhop explain expression-invalid

            error[expression-invalid]: this is not a valid expression: the filter `nosuch` does not exist
              --> w.yaml:19:20 (task /do/3/e)
               |
            19 |               "b": nosuch(.c) }
               |                    ^
               |
               = fix:   write it in jq, with what a run can know: not the time, the machine or other input
               = more:  bellhop explain expression-invalid

            error[expression-invalid]: this is not a valid expression: expected identifier
              --> w.yaml:22:18 (task /do/4/f)
               |
            22 |       wait: '${ ${ .x } }'
               |                  ^
               |
               = fix:   one `${ }` holds the whole text: ${ "Hello \(.name)" }
               = more:  bellhop explain expression-invalid

            error[expression-invalid]: `$problem` does not exist here
              --> w.yaml:25:28 (task /do/5/g/try/0/h)
               |
            25 |         - h: {set: {x: '${ $problem }'}}
               |                            ^^^^^^^^
               |
               = fix:   it exists in the `catch` of `g` only
               = more:  bellhop explain expression-invalid

            12 errors, 0 warnings
        "#]],
    );
}

#[test]
fn helpers_answer() {
    let tables = json!({"access": {"it": {"channel": "C1"}}});
    let context = json!({"a": 1});
    let arguments = [("context", &context), ("__tables", &tables)];
    for (program, input, expected) in [
        (r#"table("access"; .department).channel"#, json!({"department": "it"}), json!("C1")),
        (r#"keep("person")"#, json!(2), json!({"a": 1, "person": 2})),
        (
            r#"until("2026-01-05"; "09:00"; "UTC"; -1)"#,
            json!(null),
            json!({"until": {"date": "2026-01-05", "time": "09:00", "zone": "UTC", "days": -1}}),
        ),
        ("empty", json!(null), json!(null)),
    ] {
        assert_eq!(crate::jaq::Jaq.evaluate(program, &arguments, &input), Ok(expected), "{program}");
    }
    let results = |program: &str| crate::jaq::Jaq.inspect(program).unwrap().results;
    assert_eq!(results(r#"{"a": "x", "b": "y"}[.site] // "z""#), Some(vec![json!("x"), json!("y"), json!("z")]));
    assert_eq!(results(r#"if .a then "x" else "y" end"#), Some(vec![json!("x"), json!("y")]));
    assert_eq!(results(".alias"), None);
}
