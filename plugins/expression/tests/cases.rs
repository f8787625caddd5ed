//! Runs every case of `cases/*.json`: a program with what it evaluates to, fails with, or what is said of it.

use std::path::Path;

use serde_json::{Value, json};

use bellhop_expression::{Programs, limits};

#[test]
fn every_case() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut programs = Programs::new();
    let (mut count, mut faults) = (0, Vec::new());
    for file in files {
        let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        for case in cases {
            count += 1;
            if let Err(fault) = check(&mut programs, &case) {
                faults.push(format!("{}: {case}\n    {fault}", file.file_name().unwrap().to_string_lossy()));
            }
        }
    }
    assert!(count > 100, "only {count} cases found");
    assert!(faults.is_empty(), "{} of {count} cases:\n{}", faults.len(), faults.join("\n"));
}

fn check(programs: &mut Programs, case: &Value) -> Result<(), String> {
    let program = case["program"].as_str().ok_or("no program")?;
    let mut checked = 0;
    if let Some(expected) = case.get("inspect") {
        checked += 1;
        let answer = match programs.inspect(program) {
            Ok(answer) => answer,
            Err(error) => return Err(format!("inspect: {error:?}")),
        };
        let answer: Value = serde_json::from_str(&answer).map_err(|e| e.to_string())?;
        // A case names the parts that it is about.
        for (part, expected) in expected.as_object().ok_or("inspect is no object")? {
            if answer.get(part) != Some(expected) {
                return Err(format!("inspect.{part} is {}", answer[part]));
            }
        }
    }
    let arguments = case.get("args").cloned().unwrap_or_else(|| json!({})).to_string();
    let input = case.get("input").unwrap_or(&Value::Null).to_string();
    if let Some(expected) = case.get("output") {
        checked += 1;
        let answer = match programs.evaluate(program, &arguments, &input) {
            Ok(answer) => answer,
            Err(error) => return Err(format!("evaluate: {error:?}")),
        };
        // Compared as text too where the case says so, since 5.0 and 5 are the same number.
        if case.get("text").is_some_and(|text| text.as_str() != Some(&answer)) {
            return Err(format!("answer is {answer}"));
        }
        let answer: Value = serde_json::from_str(&answer).map_err(|e| e.to_string())?;
        if answer != *expected {
            return Err(format!("answer is {answer}"));
        }
    }
    if let Some(expected) = case.get("error") {
        checked += 1;
        let error = match programs.evaluate(program, &arguments, &input) {
            Ok(answer) => return Err(format!("no error but {answer}")),
            Err(error) => serde_json::from_str::<Value>(&error.to_json()).map_err(|e| e.to_string())?,
        };
        for (field, expected) in expected.as_object().ok_or("error is no object")? {
            let same = match (field.as_str(), expected.as_str(), error[field].as_str()) {
                ("message" | "what", Some(part), Some(whole)) => whole.contains(part),
                _ => error[field] == *expected,
            };
            if !same {
                return Err(format!("error is {error}"));
            }
        }
    }
    if checked == 0 { Err("the case checks nothing".to_owned()) } else { Ok(()) }
}

#[test]
fn programs_are_kept_within_bounds() {
    let mut programs = Programs::new();
    for n in 0..600 {
        let answer = programs.evaluate(&format!(". + {n}"), "{}", "1").unwrap();
        assert_eq!(answer, (n + 1).to_string());
    }
    assert_eq!(programs.kept(), limits::PROGRAMS_MAX);
    // The one used last is still there, whatever came in between.
    let long = format!("\"{}\"", "x".repeat(40_000));
    for _ in 0..3 {
        programs.evaluate(&long, "{}", "1").unwrap();
        programs.evaluate(&long.replace('x', "y"), "{}", "1").unwrap();
    }
    assert!(programs.kept() <= 2, "{} programs of 40 kB are kept", programs.kept());
    assert!(programs.evaluate(&"1+".repeat(40_000), "{}", "1").is_err());
}
