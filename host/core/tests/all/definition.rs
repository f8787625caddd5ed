//! Definitions: every folder of `tests/cases/definition` holds a `workflow.yaml` (or `.json`) and what the parser
//! says of it. `UPDATE_EXPECT=1` rewrites the answers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use bellhop_core::definition::{self, Then, Workflow};
use bellhop_core::diagnostic::{Diagnostic, render_all};

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/definition");
    let mut cases: Vec<PathBuf> =
        fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    cases.sort();
    cases
}

fn answer(workflow: Option<&Workflow>, diagnostics: &[Diagnostic]) -> String {
    let mut text = render_all(diagnostics);
    if let Some(workflow) = workflow {
        if !text.is_empty() {
            text.push('\n');
        }
        writeln!(text, "{} {}", workflow.document.name, workflow.document.version).unwrap();
        for task in workflow.tasks.iter().take(40) {
            let mut kind = format!("{:?}", task.kind);
            kind.truncate(kind.find([' ', '(']).unwrap_or(kind.len()));
            write!(text, "{} {} {kind}", task.index.0, task.pointer).unwrap();
            match &task.then {
                Then::Continue => {}
                then => write!(text, ", then {then:?}").unwrap(),
            }
            text.push('\n');
        }
        if workflow.tasks.len() > 40 {
            writeln!(text, "… {} tasks", workflow.tasks.len()).unwrap();
        }
    }
    text
}

#[test]
fn every_case_is_answered_as_written() {
    let mut count = 0;
    for case in cases() {
        let file = ["workflow.yaml", "workflow.json"].into_iter().find(|f| case.join(f).exists()).unwrap();
        let bytes = fs::read(case.join(file)).unwrap();
        let found = match definition::Source::decode(file, &bytes) {
            Err(diagnostic) => answer(None, &[*diagnostic]),
            Ok(text) => {
                let (workflow, _, diagnostics) = definition::parse(file, text);
                assert_eq!(workflow.is_none(), diagnostics.iter().any(Diagnostic::is_error), "{}", case.display());
                answer(workflow.as_ref(), &diagnostics)
            }
        };
        expect_test::expect_file![case.join("expect.txt")].assert_eq(&found);
        // Where the whole model is of interest.
        let model = case.join("model.txt");
        if model.exists() {
            let text = std::str::from_utf8(&bytes).unwrap();
            let (workflow, _, _) = definition::parse(file, text);
            expect_test::expect_file![model].assert_eq(&format!("{:#?}\n", workflow.unwrap()));
        }
        count += 1;
    }
    println!("{count} cases");
    assert!(count >= 40, "cases are missing: {count}");
}

/// The reference data beside the project, if it is there.
fn shared() -> Option<PathBuf> {
    let root = std::env::var_os("BELLHOP_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    root.join("serverless-workflow").canonicalize().ok()
}

/// What this version carries out of the language's examples, and that it says of all others what is missing.
#[test]
fn the_language_s_examples_are_read() {
    let Some(root) = shared() else {
        println!("skipped: the language's examples are not here (BELLHOP_SHARED)");
        return;
    };
    let mut read = Vec::new();
    let mut refused = 0;
    let mut files: Vec<PathBuf> = fs::read_dir(root.join("examples")).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    for file in &files {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let (workflow, _, diagnostics) = definition::parse(&name, &fs::read_to_string(file).unwrap());
        // The examples are valid: nothing but parts that are carried out later may be said of them.
        for diagnostic in diagnostics.iter().filter(|d| d.is_error()) {
            assert_eq!(diagnostic.code.0, "not-supported", "{}", render_all(&diagnostics));
            assert!(diagnostic.place.is_some() && !diagnostic.remedies.is_empty(), "{}", render_all(&diagnostics));
        }
        match workflow {
            Some(_) => read.push(name),
            None => refused += 1,
        }
    }
    println!("{} examples: {} read, {refused} not supported yet", files.len(), read.len());
    let expected =
        ["raise-inline", "raise-reusable", "switch-then-string", "wait-duration-inline", "wait-duration-iso8601"];
    for name in expected {
        assert!(read.iter().any(|r| r == name), "{name} is not read");
    }

    let mut invalid = 0;
    for file in fs::read_dir(root.join("invalid")).unwrap() {
        let (workflow, _, diagnostics) =
            definition::parse("invalid.yaml", &fs::read_to_string(file.unwrap().path()).unwrap());
        assert!(workflow.is_none());
        assert!(
            diagnostics.iter().any(|d| d.is_error() && d.code.0 != "not-supported"),
            "{}",
            render_all(&diagnostics)
        );
        invalid += 1;
    }
    println!("{invalid} invalid files refused");
    assert!(invalid > 0);
}

/// The definitions inside the conformance kit's scenarios.
#[test]
fn the_conformance_kit_s_definitions_are_read() {
    let Some(root) = shared() else {
        println!("skipped: the conformance kit is not here (BELLHOP_SHARED)");
        return;
    };
    let mut count = 0;
    let mut read = 0;
    for file in fs::read_dir(root.join("ctk")).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        for part in text.split("\"\"\"yaml\n").skip(1) {
            let Some(body) = part.split("\"\"\"").next().filter(|b| b.contains("document:")) else { continue };
            let (workflow, _, diagnostics) = definition::parse("ctk.yaml", body);
            for diagnostic in diagnostics.iter().filter(|d| d.is_error()) {
                assert_eq!(diagnostic.code.0, "not-supported", "{}", render_all(&diagnostics));
            }
            count += 1;
            read += usize::from(workflow.is_some());
        }
    }
    println!("{count} definitions of the conformance kit: {read} read");
    assert!(read >= 10, "{read} of {count}");
}

const HEAD: &str = "document: {dsl: '1.0.3', namespace: a, name: b, version: '1.0.0'}\n";

fn codes(diagnostics: &[Diagnostic]) -> Vec<&'static str> {
    diagnostics.iter().map(|d| d.code.0).collect()
}

#[test]
fn ten_thousand_tasks_are_read() {
    let tasks = |n: usize| {
        (0..n).fold(format!("{HEAD}do:\n"), |text, i| format!("{text}- t{i}: {{set: {{n: {i}}}, then: exit}}\n"))
    };
    let (workflow, source, diagnostics) = definition::parse("w.yaml", &tasks(10_000));
    assert!(diagnostics.is_empty(), "{}", render_all(&diagnostics));
    let workflow = workflow.unwrap();
    assert_eq!(workflow.tasks.len(), 10_000);
    let last = workflow.tasks.last().unwrap();
    assert_eq!(source.key_place(&last.pointer).unwrap().line, 10_002);
    let (workflow, _, diagnostics) = definition::parse("w.yaml", &tasks(20_001));
    assert!(workflow.is_none());
    assert_eq!(codes(&diagnostics), ["definition-too-large"]);
}

#[test]
fn what_grows_is_bounded() {
    let long_text = format!("{HEAD}long: &long {}\nmany: [{}]\n", "a".repeat(20_000), "*long, ".repeat(400));
    let long_keys = format!(
        "{HEAD}deep: {}[{}]{}\n",
        format!("{{{}: ", "k".repeat(900)).repeat(40),
        "1,".repeat(3_000),
        "}".repeat(40)
    );
    let too_long = format!("{HEAD}x: {}\n", "a".repeat(1 << 20));
    let too_many = format!("{HEAD}x: [{}]\n", "1,".repeat(400_000));
    let anchors = format!(
        "{HEAD}x: {}1{}\n",
        (0..60).fold(String::new(), |t, i| format!("{t}&a{i} [{}, ", "1,".repeat(4_000) + "1")),
        "]".repeat(60)
    );
    for (name, text) in [
        ("long text", long_text),
        ("long keys", long_keys),
        ("too long", too_long),
        ("too many", too_many),
        ("anchors", anchors),
    ] {
        let (workflow, source, diagnostics) = definition::parse("w.yaml", &text);
        assert!(workflow.is_none());
        assert_eq!(codes(&diagnostics), ["definition-too-large"], "{name}");
        assert!(source.value.is_null(), "{name}");
    }
}

#[test]
fn places_are_those_of_the_text() {
    let text = format!(
        "{HEAD}do:\n- a/b:\n    call: message.send:1@slack # why\n    with:\n      text: |\n        one\n      list: [1, {{k: \"v\"}}]\n"
    );
    let (_, source, diagnostics) = definition::parse("w.yaml", &text);
    assert!(diagnostics.is_empty(), "{}", render_all(&diagnostics));
    let at = |pointer: &str| source.place(pointer).map(|p| (p.line, p.column, p.length));
    assert_eq!(at("/do/0/a~1b/call"), Some((4, 11, 20)));
    assert_eq!(at("/do/0/a~1b/with"), Some((5, 5, 4)));
    // A block of text is marked by its first line.
    assert_eq!(at("/do/0/a~1b/with/text"), Some((7, 9, 3)));
    assert_eq!(at("/do/0/a~1b/with/list"), Some((8, 13, 13)));
    assert_eq!(at("/do/0/a~1b/with/list/1/k"), Some((8, 21, 3)));
    assert_eq!(at("/do/0/a~1b/nothing"), None);
    assert_eq!(source.nearest_place("/do/0/a~1b/nothing/at/all").map(|p| (p.line, p.column)), Some((3, 3)));
    assert_eq!(source.key_place("/do/0/a~1b/with/list/1/k").map(|p| (p.line, p.column, p.length)), Some((8, 18, 1)));
}

/// Every code has a page. That every page has a code is for the program to say, which has more of them.
#[test]
fn codes_and_pages_match() {
    use bellhop_core::diagnostic::code;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/errors");
    let mut codes: Vec<String> = code::ALL.iter().map(|e| e.code.0.to_owned()).collect();
    codes.sort();
    codes.dedup();
    assert_eq!(codes.len(), code::ALL.len(), "a code stands twice in the table");
    for entry in code::ALL {
        let text = fs::read_to_string(folder.join(format!("{}.md", entry.code))).unwrap();
        assert!(
            text.starts_with(&format!("# {}\n\n{}.\n", entry.code, entry.summary)),
            "the page of {} begins differently",
            entry.code
        );
        assert!(text.len() > 150, "the page of {} says nothing", entry.code);
    }
}
