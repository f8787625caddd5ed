//! What no compiler holds: sizes, reasons, loose ends, places of one machine, and a page for every code.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};

use bellhop_core::diagnostic::code as table;
use bellhop_core::fault;
use bellhop_slack::catalog::{Catalog, outcome};
use bellhop_tests::code::{self, Row};
use bellhop_tests::project::{self, File};
use proc_macro2::{Delimiter, TokenTree};

/// A file has one idea, and one idea fits here.
const LINES_MAX: usize = 600;

/// Files that are longer, and why they are.
const LONG: &[(&str, &str)] = &[];

/// A function fits on a screen.
const FUNCTION_LINES_MAX: usize = 80;

/// Functions that are longer, and why they are.
const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[
    ("host/src/cli/timeline.rs", "what", "a sentence for each kind of event"),
    ("host/core/src/preflight/faults.rs", "alias_fault", "a diagnostic for each way in which an alias leads nowhere"),
    ("host/core/src/preflight/say.rs", "words", "a sentence for each kind of requirement"),
    ("host/core/src/run/fold.rs", "fold", "an arm for each event, and most are a line"),
    ("host/core/src/schema/violation.rs", "of_error", "an arm for each keyword of the schema language"),
    ("host/engine/src/show/timeline.rs", "decided", "what is shown of each event"),
    ("host/simulator/src/edit.rs", "apply", "an arm for each edit of the world"),
];

/// Where `unsafe` may stand, and why: machine code that we compiled ourselves is loaded, and generated bindings pass
/// strings by pointer and length.
const UNSAFE: &[&str] = &[
    "host/sandbox/src/compile.rs",
    "plugins/expression/src/guest.rs",
    "plugins/sdk/src/bindings.rs",
    "plugins/sdk/src/plugin.rs",
];

fn sources() -> Vec<File> {
    project::files().unwrap().into_iter().filter(|file| file.extension() == "rs").collect()
}

fn is_test_file(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

fn rows(file: &File) -> Vec<Row> {
    code::rows(&file.text, is_test_file(&file.path)).unwrap_or_else(|error| panic!("{}: {error}", file.path))
}

fn report(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn no_source_is_longer_than_one_idea() {
    let long: BTreeMap<String, usize> = sources()
        .iter()
        .map(|file| (file.path.clone(), file.text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .collect();
    let excused: BTreeSet<&str> = LONG.iter().map(|(path, _)| *path).collect();
    let new: Vec<String> =
        long.iter().filter(|(p, _)| !excused.contains(p.as_str())).map(|(p, n)| format!("{p}: {n} lines")).collect();
    report("longer than 600 lines: split by idea, or say in this test why not", &new);
    let idle: Vec<String> =
        excused.iter().filter(|path| !long.contains_key(**path)).map(|path| (*path).to_owned()).collect();
    report("no longer that long: take it off the list", &idle);
}

/// The functions of a stream of tokens with the lines that they take, without those of tests.
fn functions(tokens: proc_macro2::TokenStream, found: &mut Vec<(String, usize)>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        let word = |at: usize| tokens.get(at).map(code::word).unwrap_or_default();
        if word(at) == "mod" && word(at + 1) == "tests" {
            at += 3;
            continue;
        }
        if word(at) == "fn" && !word(at + 1).is_empty() {
            let body = tokens[at..].iter().find(|tree| {
                matches!(tree, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
                    || matches!(tree, TokenTree::Punct(punct) if punct.as_char() == ';')
            });
            if let Some(TokenTree::Group(body)) = body {
                let lines = body.span_close().end().line - tokens[at].span().start().line + 1;
                found.push((word(at + 1), lines));
            }
        }
        if let TokenTree::Group(group) = &tokens[at] {
            functions(group.stream(), found);
        }
        at += 1;
    }
}

#[test]
fn no_function_is_longer_than_a_screen() {
    let mut long = BTreeSet::new();
    for file in sources().iter().filter(|file| !is_test_file(&file.path) && !file.path.starts_with("tests/")) {
        let tokens = file.text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.path));
        let mut found = Vec::new();
        functions(tokens, &mut found);
        let found = found.into_iter().filter(|(_, lines)| *lines > FUNCTION_LINES_MAX);
        long.extend(found.map(|(name, lines)| (file.path.clone(), name, lines)));
    }
    let is_excused =
        |(path, name, _): &&(String, String, usize)| LONG_FUNCTIONS.iter().any(|(p, n, _)| p == path && n == name);
    let new: Vec<String> =
        long.iter().filter(|one| !is_excused(one)).map(|(path, name, n)| format!("{path}: `{name}` has {n}")).collect();
    report("longer than 80 lines: split by idea, or say in this test why not", &new);
    let idle: Vec<String> = LONG_FUNCTIONS
        .iter()
        .filter(|(path, name, _)| !long.iter().any(|(p, n, _)| p == path && n == name))
        .map(|(path, name, _)| format!("{path}: `{name}`"))
        .collect();
    report("no longer that long: take it off the list", &idle);
}

#[test]
fn every_allowed_lint_has_a_reason() {
    let mut found = Vec::new();
    for file in sources() {
        for row in rows(&file) {
            let lonely = row.tokens.windows(2).filter(|pair| {
                let TokenTree::Group(group) = &pair[1] else { return false };
                let names_lints = ["allow", "expect"].contains(&code::word(&pair[0]).as_str());
                names_lints
                    && group.delimiter() == Delimiter::Parenthesis
                    && group.stream().into_iter().next().is_some_and(|first| !code::word(&first).is_empty())
                    && is_lint_list(group)
                    && !group.to_string().contains("reason")
            });
            found.extend(lonely.map(|pair| format!("{}:{}: {}", file.path, pair[0].span().start().line, pair[1])));
        }
    }
    report("a lint is allowed without a reason", &found);
}

/// `(a, b::c)` and nothing else: what stands in `#[allow(…)]`, but not in a call of a method named `expect`.
fn is_lint_list(group: &proc_macro2::Group) -> bool {
    group.stream().into_iter().all(|token| match token {
        TokenTree::Ident(_) => true,
        TokenTree::Punct(punct) => [',', ':'].contains(&punct.as_char()),
        TokenTree::Group(_) | TokenTree::Literal(_) => false,
    })
}

#[test]
fn nothing_is_left_for_later() {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
    let mut found = Vec::new();
    for file in project::files().unwrap() {
        // Recorded bytes and other people's words are no notes of ours.
        if file.path.ends_with(".hex") || file.path == "LICENSE" || file.path == "Cargo.lock" {
            continue;
        }
        for (number, line) in file.text.lines().enumerate() {
            let mut parts = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            if parts.any(|part| words.contains(&part)) {
                found.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    for file in sources() {
        for row in rows(&file) {
            for pair in row.tokens.windows(2) {
                let word = code::word(&pair[0]);
                if ["todo", "unimplemented", "dbg"].contains(&word.as_str()) && code::punct(&pair[1], '!') {
                    found.push(format!("{}:{}: {word}!", file.path, pair[0].span().start().line));
                }
            }
        }
    }
    report("left for later", &found);
}

#[test]
fn no_file_names_a_place_of_one_machine() {
    // A folder of one machine begins a path: `/do/0/work` is a task, not a place.
    let folders = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
    let hosts = [
        concat!("py", "pi.org"),
        concat!("registry.", "npmjs"),
        concat!("index.", "crates.io"),
        concat!("static.", "crates.io"),
        concat!("deb.", "debian.org"),
        concat!("proxy.", "golang"),
        concat!("arti", "factory"),
    ];
    let mut found = Vec::new();
    for file in project::files().unwrap() {
        for (number, line) in file.text.lines().enumerate() {
            let place = folders.iter().any(|folder| {
                line.match_indices(folder).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || ['_', '-', '.', '}', '~'].contains(&c))
                })
            });
            if place || hosts.iter().any(|host| line.contains(host)) {
                found.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }
    report("names a place of one machine", &found);
    let lock = std::fs::read_to_string(project::root().join("Cargo.lock")).unwrap();
    let other: Vec<String> = lock
        .lines()
        .filter(|line| line.starts_with("source = "))
        .filter(|line| *line != "source = \"registry+https://github.com/rust-lang/crates.io-index\"")
        .map(str::to_owned)
        .collect();
    report("a dependency from elsewhere than the index", &other);
}

#[test]
fn unsafe_code_stands_where_it_may() {
    let mut found = Vec::new();
    let mut used = BTreeSet::new();
    for file in sources() {
        let rows = rows(&file);
        let words = |word: &str| rows.iter().any(|row| row.tokens.iter().any(|token| code::word(token) == word));
        let opened = rows.iter().any(|row| {
            row.tokens.windows(2).any(|pair| {
                ["allow", "expect", "warn"].contains(&code::word(&pair[0]).as_str())
                    && pair[1].to_string().contains("unsafe_code")
            })
        });
        if words("unsafe") || opened {
            used.insert(file.path.clone());
        }
        // The door of a crate says what holds in it.
        let door = ["/src/lib.rs", "/src/main.rs"].iter().any(|end| file.path.ends_with(end));
        if door && !file.text.contains("forbid(unsafe_code)") && !file.text.contains("deny(unsafe_code)") {
            found.push(format!("{}: neither forbids nor denies unsafe code", file.path));
        }
    }
    let allowed: BTreeSet<String> = UNSAFE.iter().map(|path| (*path).to_owned()).collect();
    found.extend(used.difference(&allowed).map(|path| format!("{path}: unsafe code")));
    found.extend(allowed.difference(&used).map(|path| format!("{path}: is on the list without need")));
    report("unsafe code", &found);
}

// Codes.

/// Calls whose first or second argument is a code.
const CODED: &[&str] = &["of_code", "fault", "error", "failed", "missing", "usage_error"];

/// Codes that are put together where they are used, so that no pattern finds them: where, and which.
const BY_HAND: &[(&str, &[&str])] = &[
    ("host/src/cli/output.rs", &["usage", "unreachable", "answer-lost", "storage-failed"]),
    ("host/src/cli/problem.rs", &["unexpected-answer"]),
    ("host/core/src/value.rs", &["value-too-deep", "value-too-large"]),
];

fn codes_of(file: &File) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for row in rows(file).iter().filter(|row| !row.test) {
        for (at, token) in row.tokens.iter().enumerate() {
            let next = row.tokens.get(at + 1);
            let word = code::word(token);
            if let Some(TokenTree::Group(group)) = next {
                let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                let mut arguments = inside.split(|token| code::punct(token, ','));
                let mut code = |argument: Option<&[TokenTree]>| {
                    if let Some([only]) = argument {
                        found.extend(code::text(only).filter(|text| is_code(text)));
                    }
                };
                if word == "Code" {
                    code(arguments.next());
                } else if CODED.contains(&word.as_str()) {
                    code(arguments.next());
                    code(arguments.next());
                }
            }
            let Some(text) = row.tokens.get(at + 2).and_then(code::text).filter(|text| is_code(text)) else { continue };
            // Rows of tables: `NAME = "code", 404, "…"` and `NAME = "code": "…"`.
            let constant = !word.is_empty() && word == word.to_uppercase();
            let sign = |sign| next.is_some_and(|token| code::punct(token, sign));
            let row_of_table = constant
                && sign('=')
                && row.tokens.get(at + 3).is_some_and(|token| code::punct(token, ',') || code::punct(token, ':'));
            if row_of_table || (word == "code" && (sign('=') || sign(':'))) {
                found.insert(text);
            }
        }
    }
    found
}

fn is_code(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_lowercase()) && text.chars().all(|c| c.is_ascii_lowercase() || c == '-')
}

fn codes() -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let files = project::files().unwrap();
    for file in files.iter().filter(|f| f.extension() == "rs" && f.path.starts_with("host/") && f.path.contains("src/"))
    {
        // The simulator speaks Slack's codes, not ours.
        if file.path.starts_with("host/simulator/") || is_test_file(&file.path) {
            continue;
        }
        for code in codes_of(file) {
            found.entry(code).or_default().push(file.path.clone());
        }
    }
    for (path, codes) in BY_HAND {
        let file = files.iter().find(|file| file.path == *path).unwrap_or_else(|| panic!("{path} is gone"));
        for code in *codes {
            assert!(file.text.contains(&format!("\"{code}\"")), "{path} does not make `{code}` any more");
            found.entry((*code).to_owned()).or_default().push((*path).to_owned());
        }
    }
    for code in fault::reserved().chain(fault::of_calls()) {
        found.entry(code.to_owned()).or_default().push("host/core/src/fault.rs".to_owned());
    }
    for code in outcome::codes() {
        found.entry(code.to_owned()).or_default().push("host/slack/catalog/errors.json".to_owned());
    }
    for entry in table::ALL {
        found.entry(entry.code.0.to_owned()).or_default().push("the table of codes".to_owned());
    }
    found
}

/// What the host calls for itself, the catalog says by what it is for. The demo and the bench look at the simulator.
#[test]
fn house_b7_methods_of_slack_are_named_in_the_catalog_alone() {
    let names: BTreeSet<&str> =
        Catalog::built_in().methods().flat_map(|method| [method.name.as_str(), method.function.as_str()]).collect();
    assert!(names.contains("chat.postMessage") && names.contains("chat.post-message"));
    let files: Vec<File> = sources()
        .into_iter()
        .filter(|file| file.path.starts_with("host/") && file.path.contains("src/") && !is_test_file(&file.path))
        .filter(|file| {
            !["host/src/cli/", "host/slack/", "host/simulator/"].iter().any(|not| file.path.starts_with(not))
        })
        .collect();
    assert!(files.len() > 100, "only {} files", files.len());
    let mut found = Vec::new();
    for file in &files {
        for row in rows(file).iter().filter(|row| !row.test) {
            let named = row.tokens.iter().filter_map(code::text).filter(|text| names.contains(text.as_str()));
            found.extend(named.map(|name| format!("{}: {name}", file.path)));
        }
    }
    report("methods of Slack that are named outside of the catalog", &found);
}

/// The SDK knows no host; its plugins declare what the host's table says.
#[test]
fn house_b7_the_sdk_declares_the_codes_of_calls_with_their_statuses() {
    let path = "plugins/sdk/src/slack/error.rs";
    let file = project::files().unwrap().into_iter().find(|file| file.path == path).unwrap();
    let rows: Vec<(&str, u16)> = file
        .text
        .split("code: \"")
        .skip(1)
        .filter_map(|row| {
            let (code, rest) = row.split_once("\",")?;
            let status = rest.trim_start().strip_prefix("status: ")?.split(',').next()?;
            Some((code, status.parse().ok()?))
        })
        .collect();
    assert!(rows.len() > 15, "{path} is written otherwise: {rows:?}");
    for (code, status) in rows {
        assert_eq!(fault::status_of_call(code), Some(status), "{code}");
    }
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let codes = codes();
    assert!(codes.len() > table::ALL.len() + 40, "only {} codes were found", codes.len());
    let pages: BTreeMap<String, String> = project::files()
        .unwrap()
        .into_iter()
        .filter_map(|f| Some((f.path.strip_prefix("host/docs/errors/")?.strip_suffix(".md")?.to_owned(), f.text)))
        .collect();
    let without: Vec<String> = codes
        .iter()
        .filter(|(code, _)| !pages.contains_key(*code))
        .map(|(code, places)| format!("{code} ({})", places.join(", ")))
        .collect();
    report("codes without a page under host/docs/errors", &without);
    let idle: Vec<String> = pages.keys().filter(|page| !codes.contains_key(*page)).cloned().collect();
    report("pages of codes that nothing makes", &idle);
    for (code, page) in &pages {
        assert!(page.starts_with(&format!("# {code}\n\n")), "the page of {code} does not begin with it");
        assert!(page.contains("**Mend it**"), "the page of {code} does not say how to mend it");
        assert!(page.len() > 150, "the page of {code} says nothing");
    }
}

#[test]
fn a_planted_code_is_found() {
    let file = |text: &str| File { path: "host/src/x.rs".to_owned(), text: text.to_owned() };
    for text in [
        "const A: Code = Code(\"new-code\");",
        "fn f() { Fault::of_code(\"new-code\", 400, x) }",
        "fn f() { Fault::of_code(\n    \"new-code\", 400, x) }",
        "kinds! { NEW = \"new-code\", 404, \"A title\"; }",
        "table! { NEW = \"new-code\": \"A title\"; }",
        "fn f() { fault(scope, \"new-code\", 503, x) }",
        "fn f() { tracing::error!(code = \"new-code\", \"it broke\") }",
        "fn f() { Err(Failure::missing(\"new-code\", x)) }",
    ] {
        assert!(codes_of(&file(text)).contains("new-code"), "{text}");
    }
    for text in ["// Code(\"new-code\")", "#[cfg(test)] mod tests { fn f() { Code(\"new-code\") } }"] {
        assert_eq!(codes_of(&file(text)), BTreeSet::new(), "{text}");
    }
}
