//! Expressions that would end or stop a program that evaluated them itself, inside the serving host: each is answered
//! with a code and a place, and meanwhile others are served.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bellhop;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bellhop::hosted::{GOOD, Hosted, now, try_call};
use serde_json::{Value, json};

/// What they do to a native evaluator is in the comment.
const HOSTILE: [(&str, &str); 8] = [
    ("def f: f; f", "never ends"),
    ("def f: 1+f; f", "overflows the stack"),
    ("[range(1e9)]", "takes all memory"),
    ("[recurse(.)]", "takes all memory"),
    ("last(range(1e12))", "never ends"),
    ("[range(50000)] | reduce .[] as $x (null; [.]) | tojson", "overflows the stack while it writes"),
    ("\"x\" * 1e9", "takes all memory"),
    ("[limit(100000; repeat(\"0123456789abcdef\"))] | join(\"\")", "has more output than anything may have"),
];

/// How long others may have to wait.
const OTHERS: Duration = Duration::from_millis(100);

fn workflow(name: &str, expression: &str) -> String {
    let expression = expression.replace('\'', "''");
    format!(
        "document: {{ dsl: 1.0.3, namespace: hostile, name: {name}, version: 1.0.0 }}\n\
         do:\n  - fine: {{ set: {{ x: 1 }} }}\n  - hostile: {{ set: {{ x: '${{ {expression} }}' }} }}\n"
    )
}

#[test]
fn each_hostile_expression_is_answered_while_others_are_served() {
    // As much time as an operator can give: the longer one evaluates, the more others see of it.
    let hosted = Hosted::start("[limits]\nexpression_cpu_ms_max = 1000\n");
    hosted.install_slack();
    hosted.connect("plus", "workspace", "act", &json!({ "bot": "xoxb-plus" }));
    hosted.apply("it/good", GOOD);
    hosted.ready();
    for (number, (expression, does)) in HOSTILE.iter().enumerate() {
        let name = format!("h{number}");
        hosted.apply(&format!("hostile/{name}"), &workflow(&name, expression));
        let before = hosted.ledger().len();
        let ended = AtomicBool::new(false);
        let (run, served, slowest, fastest_run) = std::thread::scope(|scope| {
            let hostile = scope.spawn(|| {
                let path = format!("/v1/workflows/hostile/{name}/runs?wait=60s");
                let run = hosted.done("POST", &path, Some(&json!({ "input": {} })));
                ended.store(true, Ordering::Release);
                run
            });
            // A machine that is busy with something else makes any single request late. So each kind is asked for again
            // and again for as long as the hostile one goes on, and it is the best of them that has to be quick: a host
            // that an expression holds up has none that is. The first always begins while it goes on.
            let (mut served, mut slowest, mut fastest_list, mut fastest_run) =
                (0, Duration::ZERO, Duration::MAX, Duration::MAX);
            while served == 0 || !ended.load(Ordering::Acquire) {
                let began = now();
                assert_eq!(get(&hosted, "/v1/runs?limit=5"), 200);
                let took = began.elapsed();
                fastest_list = fastest_list.min(took);
                let began = now();
                let good = hosted.done("POST", "/v1/workflows/it/good/runs?wait=30s", Some(&json!({ "input": {} })));
                let ran = began.elapsed();
                assert_eq!(good["status"], "completed", "{good:#}");
                // One that ended after the hostile one may have waited for it.
                if !ended.load(Ordering::Acquire) || served == 0 {
                    fastest_run = fastest_run.min(ran);
                }
                slowest = slowest.max(took).max(ran);
                served += 1;
            }
            assert!(fastest_list <= OTHERS, "`{expression}`: a list took {fastest_list:?}");
            (hostile.join().unwrap(), served, slowest, fastest_run)
        });
        assert!(fastest_run <= OTHERS, "`{expression}`: a run took {fastest_run:?}");
        println!("`{expression}` ({does}): {served} served meanwhile, the slowest in {slowest:?}");
        told(&run, expression);
        assert_eq!(hosted.ledger().len(), before + served, "`{expression}`");
    }
    assert!(!hosted.log().contains("panicked"), "{}", hosted.log());
}

fn get(hosted: &Hosted, path: &str) -> u16 {
    try_call(&hosted.address, &hosted.token, "GET", path, None, &[]).unwrap().status
}

fn told(run: &Value, expression: &str) {
    assert_eq!(run["status"], "faulted", "`{expression}`: {run:#}");
    let error = &run["error"];
    let code = error["type"].as_str().unwrap().rsplit('/').next().unwrap();
    assert!(matches!(code, "expression-budget" | "expression-invalid"), "`{expression}`: {run:#}");
    assert_eq!(error["instance"], "/do/1/hostile", "`{expression}`: {run:#}");
    assert!(error["detail"].as_str().is_some_and(|d| !d.is_empty()), "{run:#}");
}

/// At the moment of registration, too, nothing of it is run in the host itself.
#[test]
fn what_cannot_be_parsed_within_its_budget_is_refused() {
    let hosted = Hosted::start("");
    hosted.ready();
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    for (name, expression) in [("deep", deep.as_str()), ("open", "def f: ("), ("long", &"1+".repeat(200_000))] {
        let text = workflow(name, expression);
        let answer = hosted.send("PUT", &format!("/v1/workflows/hostile/{name}"), "application/yaml", text.as_bytes());
        let problem = answer.json();
        assert_eq!((answer.status, problem["code"].as_str()), (422, Some("definition-invalid")), "{name}: {problem:#}");
        let diagnostic = &problem["diagnostics"][0];
        let code = diagnostic["code"].as_str().unwrap();
        assert!(matches!(code, "expression-invalid" | "expression-budget"), "{name}: {diagnostic:#}");
        assert_eq!((diagnostic["line"].as_u64(), diagnostic["task"].as_str()), (Some(4), Some("/do/1/hostile")));
        assert!(diagnostic["remedies"][0]["title"].is_string(), "{diagnostic:#}");
    }
    assert_eq!(get(&hosted, "/v1/runs"), 200);
    assert!(!hosted.log().contains("panicked"), "{}", hosted.log());
}
