//! Definitions: every folder of `tests/cases/definition` holds a `workflow.yaml` (or `.json`) and what the parser
//! says of it. `UPDATE_EXPECT=1` rewrites the answers.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use bellhop_core::definition::{self, Workflow};
use bellhop_core::diagnostic::{Diagnostic, render_all};

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/definition");
    let mut cases: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()).collect();
    cases.sort();
    cases
}

fn answer(workflow: Option<&Workflow>, diagnostics: &[Diagnostic]) -> String {
    let mut text = render_all(diagnostics);
    if let Some(workflow) = workflow {
        if !text.is_empty() {
            text.push('\n');
        }
        // As read, so that a change of the model's meaning shows in the answers.
        writeln!(text, "{workflow:#?}").unwrap();
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
        count += 1;
    }
    println!("{count} cases");
    assert!(count >= 1, "cases are missing: {count}");
}
