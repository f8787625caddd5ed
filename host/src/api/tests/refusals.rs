//! Wrong requests: each gets a problem that says what is wrong, and the host goes on.

use std::collections::{BTreeMap, BTreeSet};

use super::super::problem;
use super::*;

#[tokio::test]
async fn what_is_not_there_is_a_problem() {
    let world = World::new().await;
    let problem = world.get("/nothing/here").await.problem(404, "route-unknown");
    assert_eq!(problem["instance"], "/nothing/here");
    world.get("/v1/%ff/x").await.problem(404, "route-unknown");
    world.get("/v1/workflows/%ff/x").await.problem(404, "route-unknown");
    let answer = world.call("PATCH", "/v1/workflows/a/b", &[], "").await;
    answer.problem(405, "method-not-allowed");
    assert_eq!(answer.header("allow"), "PUT, GET");
    for path in [
        "/v1/runs/run_1",
        "/v1/runs/tok_01J00000000000000000000000",
        "/v1/runs/%00/events",
        "/v1/runs/run_01j00000000000000000000000",
    ] {
        world.get(path).await.problem(404, "run-unknown");
    }
    world.get("/v1/runs/run_01J00000000000000000000000").await.problem(404, "run-unknown");
    world.get("/v1/runs/run_01J00000000000000000000000/events").await.problem(404, "run-unknown");
    world.post("/v1/runs/run_01J00000000000000000000000/cancel", &json!({})).await.problem(404, "run-unknown");
    world.get("/v1/workflows/a/b").await.problem(404, "workflow-unknown");
    world.get("/v1/workflows/a/b/bindings").await.problem(404, "workflow-unknown");
    world.get("/v1/tables/x").await.problem(404, "table-unknown");
    world.get("/v1/connections/x").await.problem(404, "connection-unknown");
    world.get(&format!("/v1/workflows/{}/b", "a".repeat(5_000))).await.problem(404, "workflow-unknown");
    let start = json!({ "input": {} });
    world.post("/v1/workflows/a/b/runs", &start).await.problem(404, "workflow-unknown");
    world.post(&format!("/v1/workflows/a/{}/runs", "b".repeat(5_000)), &start).await.problem(404, "workflow-unknown");
}

#[tokio::test]
async fn what_is_not_carried_out_says_so() {
    let world = World::with_workflows().await;
    world.post("/v1/connection-links", &json!({ "kind": "grid-workspace" })).await.problem(501, "needs-oauth");
    world.get("/v1/schema/workflow.json").await.problem(501, "not-supported");
    let runs = "/v1/workflows/people/greeter/runs";
    world.post(&format!("{runs}?dryRun=true"), &json!({ "input": {} })).await.problem(501, "not-supported");
    world.post(&format!("{runs}?onRefusal=wait"), &json!({ "input": {} })).await.problem(400, "request-invalid");
}

#[tokio::test]
async fn bodies_that_cannot_be_read() {
    let world = World::with_workflows().await;
    let runs = "/v1/workflows/people/greeter/runs";
    let start = |body: Vec<u8>| world.call("POST", runs, &[], body);
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for (body, line) in [
        ("", None),
        ("{\"input\": ", Some(1)),
        ("{\"input\": {}\n,,}", Some(2)),
        ("input: {}", Some(1)),
        ("\u{feff}{}", Some(1)),
        ("{} {}", Some(1)),
        ("{\"input\": NaN}", Some(1)),
        ("\"\\ud800\"", Some(1)),
    ] {
        let problem = start(body.into()).await.problem(400, "body-malformed");
        assert_eq!(problem.get("line").and_then(Value::as_u64), line, "{body:?}: {problem}");
    }
    start(vec![b'"', 0xff, b'"']).await.problem(400, "body-malformed");
    for levels in [62, 63, 126, 127, 100_000] {
        let problem = start(format!("{{\"input\": {}}}", deep(levels)).into()).await;
        if levels < 63 {
            problem.problem(422, "input-invalid");
        } else if levels == 63 {
            // The object around it is the 64th level.
            problem.problem(422, "input-invalid");
        } else {
            assert_eq!(problem.problem(400, "body-malformed")["depth_max"], 64, "{levels}");
        }
    }
    start("[1]".into()).await.problem(400, "request-invalid");
    start("null".into()).await.problem(400, "request-invalid");
}

#[tokio::test]
async fn every_fault_of_a_body_is_told_with_the_nearest_name() {
    let world = World::with_workflows().await;
    let body =
        json!({ "inptu": {}, "version": 1, "labels": {"a:b": "x", "n": 7}, "connections": [], "x": "secret-value" });
    let answer = world.post("/v1/workflows/people/greeter/runs", &body).await;
    let problem = answer.problem(400, "request-invalid");
    let told: BTreeMap<&str, &str> = problem["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| (d["pointer"].as_str().unwrap(), d["code"].as_str().unwrap()))
        .collect();
    let expected = [
        ("/connections", "wrong-type"),
        ("/inptu", "unknown-key"),
        ("/input", "missing-key"),
        ("/labels", "invalid-value"),
        ("/labels/n", "wrong-type"),
        ("/version", "wrong-type"),
        ("/x", "unknown-key"),
    ];
    assert_eq!(told, expected.into_iter().collect());
    assert!(answer.text.contains("did you mean `input`?"), "{}", answer.text);
    assert!(!answer.text.contains("secret-value"), "a value is never repeated");
}

#[tokio::test]
async fn wrong_parameters_and_headers() {
    let world = World::with_workflows().await;
    for (path, hint) in [
        ("/v1/runs?stauts=running", "did you mean `status`?"),
        ("/v1/runs?status=runing", "it is one of"),
        ("/v1/runs?limit=0", "`limit` is a number from 1 to 200"),
        ("/v1/runs?limit=201", "`limit` is a number from 1 to 200"),
        ("/v1/runs?limit=1&limit=2", "more than once"),
        ("/v1/runs?label=x", "NAME:VALUE"),
        ("/v1/runs?workflow=x", "NAMESPACE/NAME"),
        ("/v1/runs?cursor=xyz", "not a cursor"),
        ("/v1/runs?cursor=ff", "not a cursor"),
        ("/v1/runs?cursor=%F0%9F%A6%80%F0%9F%A6%80", "not a cursor"),
        ("/v1/actions?colour=red", "there is no parameter `colour`"),
    ] {
        let answer = world.get(path).await;
        answer.problem(400, "request-invalid");
        assert!(answer.text.contains(hint), "{path}: {}", answer.text);
    }
    let runs = "/v1/workflows/people/greeter/runs";
    let body = json!({ "input": { "name": "Ada" } }).to_string();
    for wait in ["20", "1h", "61s", "-1s", "s", "99999999999999999999s"] {
        world.call("POST", &format!("{runs}?wait={wait}"), &[], body.clone()).await.problem(400, "request-invalid");
    }
    let long = "k".repeat(256);
    for key in ["", long.as_str(), "k\u{e9}"] {
        world.call("POST", runs, &[("idempotency-key", key)], body.clone()).await.problem(400, "request-invalid");
    }
    let two = [("idempotency-key", "a"), ("idempotency-key", "b")];
    world.call("POST", runs, &two, body.clone()).await.problem(400, "request-invalid");
    assert_eq!(world.get("/v1/runs").await.ok(200)["result"], json!([]), "nothing was started");
}

#[tokio::test]
async fn large_bodies_and_headers() {
    let world = World::with_workflows().await;
    let runs = "/v1/workflows/people/greeter/runs";
    let two_mib = "x".repeat(2 << 20);
    let announced = [("content-length", "2097152")];
    // Refused by what it announces: a body that would panic when read is not touched.
    let untouched = Body::from_stream(futures_util::stream::poll_fn(
        |_| -> std::task::Poll<Option<Result<axum::body::Bytes, std::io::Error>>> { panic!("it was read") },
    ));
    let problem = world.call("POST", runs, &announced, untouched).await.problem(413, "body-too-large");
    assert_eq!(problem["bytes_max"], 1 << 20);
    // Refused as it arrives.
    world.call("POST", runs, &[], two_mib.clone()).await.problem(413, "body-too-large");
    world.put("/v1/workflows/people/greeter", two_mib.clone()).await.problem(413, "body-too-large");
    world.put("/v1/tables/t", two_mib).await.problem(413, "body-too-large");
    let many: Vec<(String, String)> = (0..100).map(|n| (format!("x-{n}"), "v".to_owned())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    world.call("GET", "/v1/runs", &many, "").await.problem(431, "headers-too-large");
    let long = "v".repeat(20_000);
    world.call("GET", "/v1/runs", &[("x-long", &long)], "").await.problem(431, "headers-too-large");
    world.get(&format!("/v1/runs?cursor={long}")).await.problem(431, "headers-too-large");
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_given_up() {
    let world = World::with_workflows().await;
    let never = Body::from_stream(futures_util::stream::pending::<Result<axum::body::Bytes, std::io::Error>>());
    let request = world.request("POST", "/v1/workflows/people/greeter/runs", &[], never);
    let router = world.router.clone();
    let asked = tokio::spawn(async move { read(router.oneshot(request).await.unwrap()).await });
    while !asked.is_finished() {
        world.clock.advance(SECOND);
        tokio::task::yield_now().await;
    }
    asked.await.unwrap().problem(408, "body-timeout");
}

#[tokio::test]
async fn a_panic_is_a_problem_without_its_text() {
    let world = World::new().await;
    let panics = axum::routing::get(|| async {
        if true {
            panic!("the secret reason");
        }
    });
    let router = routes::dressed(Router::new().route("/panics", panics), world.app.clone());
    let answer = read(router.oneshot(world.request("GET", "/panics", &[], "")).await.unwrap()).await;
    answer.problem(500, "internal");
    assert!(!answer.text.contains("secret reason"), "{}", answer.text);
}

/// Every kind of problem has a page, and a code stands once. That every page is about a code is held for the whole
/// program at once, where the sources are read.
#[test]
fn kinds_and_pages_match() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/errors");
    let page = |code: &str| std::fs::read_to_string(folder.join(format!("{code}.md")));
    let mut seen = BTreeSet::new();
    for kind in problem::ALL {
        assert!(seen.insert(kind.code), "{} stands twice", kind.code);
        assert!((400..600).contains(&kind.status), "{kind:?}");
        let text = page(kind.code).unwrap_or_else(|_| panic!("there is no page for {}", kind.code));
        // A code that diagnostics have as well has their words.
        let begins = bellhop_core::diagnostic::code::find(kind.code).is_some()
            || text.starts_with(&format!("# {}\n\n{}.\n", kind.code, kind.title));
        assert!(begins && text.len() > 200, "the page of {} begins differently or says nothing", kind.code);
    }
}
