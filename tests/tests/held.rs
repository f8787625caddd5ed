//! What was promised names the test that holds it, and that test is there.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeSet;

use bellhop_tests::project::{self, File};

const SECURITY: &str = "SECURITY.md";
const HELD: &str = "host/docs/held.md";
const NOT_YET: &str = "not yet";

/// The ends of names that look like those of tests and are lines of the table of limits.
const LIMITS: [&str; 2] = ["_max", "_ms"];

fn text(path: &str) -> String {
    std::fs::read_to_string(project::root().join(path)).unwrap()
}

/// The functions of a source that are tests: an attribute that ends with `test` or `test(…)` stands before them.
fn functions(file: &File) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_test = false;
    for line in file.text.lines().map(str::trim) {
        if let Some(attribute) = line.strip_prefix("#[") {
            is_test |= attribute.starts_with("test]") || attribute.starts_with("tokio::test");
            continue;
        }
        let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        if let Some((name, _)) = name.and_then(|name| name.split_once('('))
            && is_test
        {
            found.push(name.to_owned());
        }
        is_test &= line.starts_with("//") || line.is_empty();
    }
    found
}

/// The names of the hostile cases of a file.
fn cases(file: &File) -> Vec<String> {
    let named = |line: &str| Some(line.strip_prefix("name = \"")?.strip_suffix('"')?.to_owned());
    file.text.lines().filter_map(named).collect()
}

/// Every test that a page can name.
fn tests() -> BTreeSet<String> {
    let files = project::files().unwrap();
    let of = |file: &File| match file.extension() {
        "rs" => functions(file),
        "toml" if file.path.starts_with("host/tests/hostile/cases/") => cases(file),
        _ => Vec::new(),
    };
    files.iter().flat_map(of).collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Whether a word is meant as a test: the name of a function, of a hostile case, or a folder of cases.
fn is_meant(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-/.".contains(c);
    let of_a_kind = ["house_", "attack_", "author_"].iter().any(|start| word.starts_with(start));
    let is_function = word.matches('_').count() >= 3 && !word.contains(['/', '.', '-']);
    let is_limit = LIMITS.iter().any(|end| word.ends_with(end));
    word.chars().all(plain) && (of_a_kind || is_function && !is_limit || word.contains("/tests/"))
}

fn is_there(word: &str, tests: &BTreeSet<String>) -> bool {
    tests.contains(word) || word.contains("/tests/") && project::root().join(word).exists()
}

/// The promises of a page: rows of its tables, without their heads, and items of the list under this heading.
fn promises<'t>(page: &'t str, heading: &str) -> Vec<String> {
    let is_row = |line: &&'t str| line.starts_with("| ") && !line.contains("| held by |");
    let mut found: Vec<String> = page.lines().filter(is_row).map(str::to_owned).collect();
    let listed = page.split_once(heading).map_or("", |(_, rest)| rest.split("\n## ").next().unwrap_or(rest));
    found.extend(listed.split("\n- ").skip(1).map(str::to_owned));
    found
}

#[test]
fn every_test_that_a_page_names_is_there() {
    let tests = tests();
    for path in [SECURITY, HELD] {
        let page = text(path);
        let missing: Vec<&str> =
            quoted(&page).into_iter().filter(|word| is_meant(word) && !is_there(word, &tests)).collect();
        assert!(missing.is_empty(), "{path} names what is no test: {missing:#?}");
    }
}

#[test]
fn every_promise_names_a_test() {
    for (path, heading) in [(SECURITY, "## What the sandbox promises"), (HELD, "# no heading")] {
        let page = text(path);
        let promises = promises(&page, heading);
        assert!(promises.len() > 20, "{path}: {} promises", promises.len());
        let is_held = |promise: &str| promise.contains(NOT_YET) || quoted(promise).into_iter().any(is_meant);
        let bare: Vec<&String> = promises.iter().filter(|promise| !is_held(promise)).collect();
        assert!(bare.is_empty(), "{path}: nothing holds {bare:#?}");
    }
}

#[test]
fn everything_that_was_tried_has_a_row() {
    let page = text(HELD);
    let numbered = |letter: &'static str, last: usize| (1..=last).map(move |number| format!("{letter}{number}"));
    let house = numbered("house A", 14).chain(["house B4".to_owned()]);
    let authors = numbered("author ", 13).chain([1, 2, 3, 4, 5, 7, 10, 13].map(|number| format!("author C{number}")));
    for id in house.chain(numbered("attack B", 16)).chain(authors) {
        assert!(page.lines().any(|line| line.starts_with(&format!("| {id} |"))), "{id} has no row");
    }
}

#[test]
fn a_name_without_a_test_is_seen() {
    let tests = BTreeSet::from(["there_is_such_a_test".to_owned(), "attack_b1/deep".to_owned()]);
    let page = "`there_is_such_a_test` `there_is_none_of_it` `attack_b1/deep` `attack_b1/flat` `run_journal_bytes_max` `/healthz`";
    let missing: Vec<&str> = quoted(page).into_iter().filter(|w| is_meant(w) && !is_there(w, &tests)).collect();
    assert_eq!(missing, ["there_is_none_of_it", "attack_b1/flat"]);
    let source =
        "#[test]\n// Why.\nfn one() {}\nfn none() {}\n#[tokio::test(flavor = \"x\")]\n#[ignore]\nasync fn two() {}\n";
    let file = File { path: "a.rs".to_owned(), text: source.to_owned() };
    assert_eq!(functions(&file), ["one", "two"]);
}

/// Pages that send a reader to files.
const MAPS: [&str; 4] = ["ARCHITECTURE.md", "host/docs/decisions.md", "host/docs/words.md", "SECURITY.md"];

/// Whether a page's `name` ends the path of a file, where `host/` and the `src` of a crate go without saying.
fn is_a_file(name: &str, files: &[File]) -> bool {
    files.iter().any(|file| {
        let short = file.path.replacen("/src/", "/", 1);
        [file.path.as_str(), &short]
            .iter()
            .any(|path| path.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('/')))
    })
}

#[test]
fn every_file_that_a_page_names_is_there() {
    let files = project::files().unwrap();
    let mut missing = Vec::new();
    let mut seen = 0;
    for page in MAPS {
        let text = text(page);
        let named = quoted(&text).into_iter().filter(|name| name.ends_with(".rs"));
        for name in named.filter(|name| !name.contains(['*', '{', ' '])) {
            seen += 1;
            if !is_a_file(name, &files) {
                missing.push(format!("{page}: {name}"));
            }
        }
    }
    assert!(seen > 40, "only {seen} names");
    assert!(missing.is_empty(), "no file is meant by\n{}", missing.join("\n"));
}
