//! Wrong input, against the built program: what each gets is a code, a place and a remedy; nothing reaches Slack, and
//! the host goes on.
//!
//! A case is a file `cases/wrong/NAME.toml`; what it gets stands beside it in `NAME.expected`, which
//! `UPDATE_EXPECT=1 cargo test -p bellhop --test wrong_input` writes.
//!
//! ```toml
//! code = "definition-invalid"     # of the last request
//! [files]                         # in the folder that the verbs run in
//! "wrong.yaml" = "…"
//! [[http]]                        # all but the last have to succeed
//! method = "PUT"
//! path = "/v1/workflows/it/wrong"
//! file = "wrong.yaml"             # or `body`, a text; or `bytes`, so many of them
//! type = "application/yaml"       # unless it is JSON
//! token = "bh_wrong"              # instead of the operator's; empty: none
//! headers = [["A", "b"]]
//! [[cli]]                         # each has to fail
//! run = ["workflows", "apply", "wrong.yaml"]
//! ```
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bellhop;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bellhop::hosted::{GOOD, Hosted};
use bellhop::http::{self, Answer, Request};
use expect_test::expect_file;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    code: String,
    #[serde(default)]
    files: BTreeMap<String, String>,
    #[serde(default)]
    http: Vec<Http>,
    #[serde(default)]
    cli: Vec<Cli>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Http {
    method: String,
    path: String,
    file: Option<String>,
    body: Option<String>,
    bytes: Option<usize>,
    #[serde(rename = "type")]
    kind: Option<String>,
    token: Option<String>,
    #[serde(default)]
    headers: Vec<(String, String)>,
    /// So many more headers.
    #[serde(default)]
    flood: usize,
    /// A header of so many bytes.
    #[serde(default)]
    long: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cli {
    run: Vec<String>,
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/wrong");
    let mut files: Vec<PathBuf> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "expected")) {
        assert!(file.with_extension("toml").is_file(), "{} belongs to no case", file.display());
    }
    files.retain(|file| file.extension().is_some_and(|e| e == "toml"));
    files
}

fn start() -> Hosted {
    let hosted = Hosted::start("");
    hosted.install_slack();
    hosted.connect("plus", "workspace", "act", &json!({ "bot": "xoxb-plus", "user": "xoxp-plus-admin" }));
    hosted.connect("reader", "workspace", "read", &json!({ "bot": "xoxb-pro" }));
    hosted.connect("grid", "grid-org", "act", &json!({ "bot": "xoxb-org" }));
    hosted.connect("bare", "grid-workspace", "act", &json!({ "bot": "xoxb-hq-noscope" }));
    hosted.apply("it/good", GOOD);
    hosted.ready();
    hosted
}

/// What differs from one time to the next.
fn steady(hosted: &Hosted, text: &str) -> String {
    let text = text.replace(&format!("http://{}", hosted.address), "http://HOST");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some((at, prefix)) = ["req_", "run_"].iter().filter_map(|p| Some((rest.find(p)?, p))).min() {
        let (before, id) = rest.split_at(at);
        out.push_str(before);
        let end = id[4..].find(|c: char| !c.is_ascii_alphanumeric()).map_or(id.len(), |end| end + 4);
        // An id has 26 characters; other words that begin so are as they are.
        out.push_str(if end == 30 { prefix } else { &id[..end] });
        out.push_str(if end == 30 { "…" } else { "" });
        rest = &id[end..];
    }
    out + rest
}

fn send(hosted: &Hosted, case: &Case, step: &Http) -> Answer {
    let body = match (&step.file, &step.body, step.bytes) {
        (Some(file), None, None) => case.files[file].clone().into_bytes(),
        (None, Some(body), None) => body.clone().into_bytes(),
        (None, None, Some(bytes)) => vec![b' '; bytes],
        (None, None, None) => Vec::new(),
        _ => panic!("a request has one of `file`, `body` and `bytes`"),
    };
    let mut headers = step.headers.clone();
    headers.push(("Content-Type".to_owned(), step.kind.clone().unwrap_or_else(|| "application/json".to_owned())));
    headers.extend((0..step.flood).map(|n| (format!("X-Flood-{n}"), "x".to_owned())));
    if step.long > 0 {
        headers.push(("X-Long".to_owned(), "x".repeat(step.long)));
    }
    let token = step.token.as_ref().unwrap_or(&hosted.token);
    http::send(&hosted.address, &Request { method: &step.method, path: &step.path, token, headers, body })
        .unwrap_or_else(|e| panic!("{} {}: {e}\n{}", step.method, step.path, hosted.log()))
}

/// What every problem has, whatever it is about.
fn whole(answer: &Answer, code: &str) -> Value {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{}", answer.text);
    let problem = answer.json();
    assert_eq!(problem["code"], code, "{problem:#}");
    assert_eq!(problem["status"], answer.status);
    assert_eq!(problem["type"], format!("https://bellhop.dev/errors/{code}"));
    assert_eq!(problem["request_id"].as_str(), answer.header("x-request-id"));
    for text in ["title", "detail", "instance", "request_id"] {
        assert!(problem[text].as_str().is_some_and(|t| !t.is_empty()), "no `{text}` in {problem:#}");
    }
    let helps = |list: &Value| list.as_array().is_some_and(|l| l.iter().any(|r| r["title"].is_string()));
    let diagnostics = problem["diagnostics"].as_array().unwrap();
    assert!(helps(&problem["remedies"]) || !diagnostics.is_empty(), "{code} does not say what helps: {problem:#}");
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors");
    let mut codes = vec![code];
    for diagnostic in diagnostics {
        codes.push(diagnostic["code"].as_str().unwrap());
        let has = |names: &[&str]| names.iter().any(|name| diagnostic.get(name).is_some_and(|v| !v.is_null()));
        // A plugin's place is its import or action, and a connection is its own place.
        let named = has(&["connection"]) || diagnostic["code"] == "plugin-refused";
        assert!(named || has(&["line", "pointer", "task"]), "{code} does not say where: {diagnostic:#}");
        assert!(has(&["remedies", "needs", "who"]), "{code} does not say what helps: {diagnostic:#}");
    }
    for code in codes {
        assert!(pages.join(format!("{code}.md")).is_file(), "`{code}` has no page");
    }
    problem
}

/// What the case gets, for its `.expected`.
fn carry_out(hosted: &Hosted, case: &Case) -> String {
    let mut got = String::new();
    let (last, before) = case.http.split_last().unwrap();
    for step in before {
        let answer = send(hosted, case, step);
        assert!((200..300).contains(&answer.status), "{} {}: {}", step.method, step.path, answer.text);
    }
    let answer = send(hosted, case, last);
    let mut problem = whole(&answer, &case.code);
    writeln!(got, "{} {}\n{}", last.method, last.path, answer.status).unwrap();
    for name in ["WWW-Authenticate", "Allow", "Retry-After"] {
        if let Some(value) = answer.header(name) {
            writeln!(got, "{name}: {value}").unwrap();
        }
    }
    for same in ["type", "title", "status", "instance", "request_id"] {
        problem.as_object_mut().unwrap().remove(same);
    }
    writeln!(got, "{problem:#}").unwrap();
    for (name, text) in &case.files {
        hosted.place.write(name, text);
    }
    for step in &case.cli {
        let arguments: Vec<&str> = step.run.iter().map(String::as_str).collect();
        let done = hosted.run(&arguments);
        assert_ne!(done.code, 0, "{arguments:?} is fine: {}{}", done.stdout, done.stderr);
        assert!(!done.stderr.contains("panicked"), "{arguments:?}: {}", done.stderr);
        writeln!(got, "\n$ bellhop {}\n{}{}exit code {}", arguments.join(" "), done.stdout, done.stderr, done.code)
            .unwrap();
        let json = hosted.run(&[&arguments[..], &["--output", "json"]].concat());
        assert_eq!(json.code, done.code, "{arguments:?}");
        json.json();
    }
    steady(hosted, &got)
}

#[test]
fn wrong_input_gets_a_code_a_place_and_a_remedy_and_changes_nothing() {
    let hosted = start();
    let cases = cases();
    assert!(cases.len() >= 20, "{}", cases.len());
    // All of them are told, not the first.
    let wrong: Vec<String> = cases
        .iter()
        .filter(|path| std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| holds(&hosted, path))).is_err())
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    println!("{} cases", cases.len());
    assert!(!hosted.log().contains("panic"), "{}", hosted.log());
    assert_eq!(wrong, Vec::<String>::new());
}

fn holds(hosted: &Hosted, path: &Path) {
    println!("{}", path.file_stem().unwrap().to_string_lossy());
    let case: Case = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap_or_else(|e| panic!("{e}"));
    let before = hosted.ledger().len();
    let got = carry_out(hosted, &case);
    assert!(!got.contains("xoxb-") && !got.contains("xoxp-"), "a token came out: {got}");
    expect_file![path.with_extension("expected")].assert_eq(&got);
    assert_eq!(hosted.ledger().len(), before, "it had an effect");
    // The host goes on.
    let run = hosted.done("POST", "/v1/workflows/it/good/runs?wait=30s", Some(&json!({ "input": {} })));
    assert_eq!(run["status"], "completed", "{run:#}");
    assert_eq!(hosted.ledger().len(), before + 1);
}
