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
    assert_eq!(answer.header("allow"), "PUT, GET, HEAD", "attack_b16");
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
        ("{} {}", Some(1)),
        ("{\"input\": NaN}", Some(1)),
    ] {
        let problem = start(body.into()).await.problem(400, "body-malformed");
        assert_eq!(problem.get("line").and_then(Value::as_u64), line, "{body:?}: {problem}");
    }
    let problem = start(vec![b'"', 0xff, b'"']).await.problem(400, "body-malformed");
    assert_eq!((problem["byte"].as_u64(), problem.get("line")), (Some(1), None), "{problem}");
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
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/errors");
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

/// The pointers and codes of a refusal.
fn told(problem: &Value) -> Vec<(String, String)> {
    let text = |d: &Value, field: &str| d[field].as_str().unwrap_or_default().to_owned();
    problem["diagnostics"].as_array().unwrap().iter().map(|d| (text(d, "pointer"), text(d, "code"))).collect()
}

#[tokio::test]
async fn attack_b16_what_another_reader_would_see_otherwise_is_refused() {
    let world = World::with_workflows().await;
    let runs = "/v1/workflows/people/greeter/runs";
    for (body, pointer, code, words) in [
        (r#"{"input":{"name":"a"},"input":{"name":"b"}}"#, "/input", "duplicate-key", "twice"),
        (r#"{"input":{"name":"a","n\u0061me":"b"}}"#, "/input/name", "duplicate-key", "twice"),
        (r#"{"input":{"name":[1,123456789012345678901234567890]}}"#, "/input/name/1", "invalid-value", "2^64"),
        (r#"{"input":{"name":-9223372036854775809}}"#, "/input/name", "invalid-value", "2^63"),
        (r#"{"input":{"name":1e400}}"#, "/input/name", "invalid-value", "double"),
        (r#"{"input":{"name":"a\ud800"}}"#, "/input/name", "invalid-value", "surrogate"),
    ] {
        let problem = world.call("POST", runs, &[], body).await.problem(400, "request-invalid");
        assert_eq!(told(&problem), [(pointer.to_owned(), code.to_owned())], "{body}");
        assert!(problem["diagnostics"][0]["message"].as_str().unwrap().contains(words), "{problem}");
    }
    let table = r#"{"columns":{"a":"text"},"rows":{"k":{"a":"1"},"k":{"a":"2"}}}"#;
    let problem = world.put("/v1/tables/t", table).await.problem(400, "request-invalid");
    assert_eq!(told(&problem), [("/rows/k".to_owned(), "duplicate-key".to_owned())]);
    for text in [
        r#"{"document":{"dsl":"1.0.3","dsl":"1.0.3","namespace":"a","name":"b","version":"1.0.0"},"do":[]}"#,
        r#"{"document":{"dsl":"1.0.3","namespace":"a","name":"b","version":"1.0.0"},"do":[{"s":{"set":{"x":1e400}}}]}"#,
        r#"{"document":{"dsl":"1.0.3","namespace":"a","name":"b","version":"1.0.0"},"do":[{"s":{"set":{"x":18446744073709551616}}}]}"#,
    ] {
        world.put("/v1/workflows/a/b", text).await.problem(422, "definition-invalid");
    }
}

#[tokio::test]
async fn attack_b16_a_body_of_another_type_or_coding_is_not_read() {
    let world = World::with_workflows().await;
    let runs = "/v1/workflows/people/greeter/runs";
    let body = r#"{"input":{"name":"Ada"}}"#;
    for (header, value, words) in [
        ("content-type", "text/plain", "text/plain"),
        ("content-type", "application/x-www-form-urlencoded", "application/json"),
        ("content-type", "application/json; charset=utf-16", "utf-16"),
        ("content-encoding", "gzip", "gzip"),
        ("content-encoding", "br, gzip", "br"),
    ] {
        let answer = world.call("POST", runs, &[(header, value)], body).await;
        let problem = answer.problem(415, "media-type-unsupported");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{value}: {problem}");
    }
    for value in ["application/json", "application/json; charset=UTF-8", "Application/JSON;charset=\"utf-8\""] {
        world.call("POST", runs, &[("content-type", value)], body).await.ok(202);
    }
    for path in ["/v1/tables/t", "/v1/workflows/people/greeter/bindings"] {
        world.call("PUT", path, &[("content-type", "text/csv")], "{}").await.problem(415, "media-type-unsupported");
    }
    let yaml = [("content-type", "image/png")];
    world.call("PUT", "/v1/workflows/people/greeter", &yaml, GREETER).await.problem(415, "media-type-unsupported");
    let coded = [("content-type", "application/yaml"), ("content-encoding", "gzip")];
    world.call("PUT", "/v1/workflows/people/greeter", &coded, GREETER).await.problem(415, "media-type-unsupported");
}

#[tokio::test]
async fn attack_b16_what_cannot_be_served_is_not() {
    let world = World::with_workflows().await;
    let id = world.start("people/sleeper", json!({ "name": "Ada" })).await;
    let events = format!("/v1/runs/{id}/events");
    for (path, accept, status) in [
        (events.as_str(), "text/html", 406),
        (&events, "application/json", 200),
        (&events, "text/html, application/json;q=0.5", 200),
        ("/metrics", "text/plain", 200),
        ("/metrics", "text/html", 406),
        ("/v1/runs", "text/html", 406),
        ("/v1/runs", "application/json;q=0", 406),
        ("/v1/runs", "text/html,*/*;q=0.8", 200),
        ("/v1/runs", "application/*", 200),
        ("/v1/workflows/people/greeter", "application/yaml", 200),
        ("/v1/workflows/people/greeter", "image/png", 406),
        ("/metrics", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", 200),
        ("/metrics", "text/plain", 200),
        ("/metrics", "text/html", 406),
        ("/healthz", "image/png", 200),
        ("/healthz", "text/plain", 200),
    ] {
        let answer = world.call("GET", path, &[("accept", accept)], "").await;
        assert_eq!(answer.status, status, "{path} {accept}: {}", answer.text);
        if status == 406 {
            answer.problem(406, "not-acceptable");
        }
    }
}

#[tokio::test]
async fn attack_b16_a_table_is_changed_as_it_was_seen() {
    let world = World::new().await;
    let table = |cell: &str| json!({ "columns": { "a": "text" }, "rows": { "k": { "a": cell } } }).to_string();
    let put = async |header: (&str, &str), cell: &str| world.call("PUT", "/v1/tables/t", &[header], table(cell)).await;
    put(("if-match", "*"), "0").await.problem(412, "precondition-failed");
    let first = put(("if-none-match", "*"), "1").await;
    first.ok(200);
    let seen = world.get("/v1/tables/t").await;
    assert_eq!(first.header("etag"), seen.header("etag"));
    put(("if-none-match", "*"), "2").await.problem(412, "precondition-failed");
    put(("if-match", seen.header("etag")), "2").await.ok(200);
    let lost = put(("if-match", seen.header("etag")), "3").await.problem(412, "precondition-failed");
    assert_eq!(lost["current"]["version"], 2, "{lost}");
    let now = world.get("/v1/tables/t").await;
    let unchanged = world.call("GET", "/v1/tables/t", &[("if-none-match", now.header("etag"))], "").await;
    assert_eq!((unchanged.status, unchanged.text.as_str()), (304, ""));
    assert_eq!(world.call("GET", "/v1/tables/t", &[("if-none-match", seen.header("etag"))], "").await.status, 200);
}

#[tokio::test]
async fn attack_b16_nothing_of_an_address_gets_into_a_challenge() {
    let world = World::new().await;
    let weak = format!("Bearer {}", world.token_with(&["runs:read"]).await);
    let path = "/v1/workflows/a%22,%20x=%22/b/runs";
    let answer = world.call("POST", path, &[("authorization", &weak)], "{}").await;
    answer.problem(403, "token-scope-missing");
    assert_eq!(
        answer.header("www-authenticate"),
        "Bearer realm=\"bellhop\", error=\"insufficient_scope\", scope=\"runs:start\""
    );
}

#[tokio::test]
async fn attack_b16_the_host_s_own_namespace_is_its_own() {
    let world = World::new().await;
    let text = GREETER.replace("namespace: people", "namespace: bellhop-action");
    let problem = world.put("/v1/workflows/bellhop-action/greeter", text).await.problem(400, "request-invalid");
    assert!(problem["detail"].as_str().unwrap().contains("the host's own"), "{problem}");
}

#[tokio::test]
async fn attack_b12_a_token_given_by_mistake_is_not_repeated() {
    let world = World::new().await;
    let token = "xoxb-1234567890-abcdefghij";
    let ours = world.token.clone();
    for token in [token, "xoxe.xoxp-1-Mi0yLTEyMzQ1Njc4", "xapp-1-A0ABCDEF-12345678", "xoxz-123456789012", &ours] {
        for body in [
            json!({ "name": "a", "kind": token, "tokens": { "bot": "x" } }),
            json!({ "name": "a", "kind": "workspace", "tokens": { token: "bot" } }),
            json!({ "name": "a", "kind": "workspace", "tokens": { "bot": "x" }, token: 1 }),
            json!({ "name": token, "kind": "workspace", "tokens": { "bot": "x" } }),
            json!({ "name": "a", "kind": "workspace", "permission": token, "tokens": { "bot": "x" } }),
        ] {
            let answer = world.post("/v1/connections", &body).await;
            answer.problem(400, "request-invalid");
            assert!(!answer.text.contains(token), "{body}: {}", answer.text);
        }
        for path in [format!("/v1/connections/{token}"), format!("/{token}"), format!("/v1/runs?{token}=1")] {
            let answer = world.get(&path).await;
            assert!(answer.status >= 400 && !answer.text.contains(token), "{path}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn attack_b14_remedies_lead_somewhere() {
    let world = World::with_workflows().await;
    world.put("/v1/workflows/people/greeter", GREETER.replace("1.0.0", "1.1.0")).await.ok(201);
    let problem = world.get("/v1/workflows/people/greeter?version=9.9.9").await.problem(404, "workflow-unknown");
    assert_eq!(problem["versions"], json!(["1.0.0", "1.1.0"]));
    assert_eq!(problem["remedies"][0]["title"], "it has 1.0.0, 1.1.0");
    let start = json!({ "input": { "name": "Ada" }, "version": "9.9.9" });
    let problem = world.post("/v1/workflows/people/greeter/runs", &start).await.problem(404, "workflow-unknown");
    assert_eq!(problem["versions"], json!(["1.0.0", "1.1.0"]));
    for token in ["xoxb-\u{e9}12345678", "xoxb-1 2", "xoxb-\n1"] {
        let body = json!({ "name": "a", "kind": "workspace", "tokens": { "bot": token } });
        let answer = world.post("/v1/connections", &body).await;
        assert!(answer.problem(400, "request-invalid").to_string().contains("characters that no token has"));
    }
    // The page that `route-unknown` names has every route.
    let problem = world.get("/some/where/else").await.problem(404, "route-unknown");
    assert!(problem["remedies"][0]["title"].as_str().unwrap().contains("bellhop explain route-unknown"), "{problem}");
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors/route-unknown.md")).unwrap();
    for route in routes::ROUTES {
        let line = format!("| `{} {}` |", route.verb.as_str(), route.path);
        assert!(page.contains(&line), "{line} is not on the page");
    }
    let lines = page.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(lines, routes::ROUTES.len(), "and no other");
}

#[tokio::test]
async fn surroundings_s15_a_body_as_systems_send_it_is_taken_or_told_what_would_do() {
    let world = World::with_workflows().await;
    let runs = "/v1/workflows/people/greeter/runs";
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let problem = world.call("POST", runs, &form, "input=x").await.problem(415, "media-type-unsupported");
    assert!(problem["remedies"][0]["title"].as_str().unwrap().contains("curl --json"), "{problem}");
    let coded = world.call("POST", runs, &[("content-encoding", "gzip")], vec![0x1f, 0x8b]).await;
    assert_eq!(coded.header("accept-encoding"), "identity");
    let problem = coded.problem(415, "media-type-unsupported");
    assert!(problem["detail"].as_str().unwrap().contains("read as `identity`"), "{problem}");
    let text = "{\r\n  \"input\": {\"name\": \"Zo\u{eb}\"}\r\n}\r\n";
    world.call("POST", runs, &[], format!("\u{feff}{text}")).await.ok(202);
    let wide: Vec<u8> = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let latin: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    for (body, words, byte) in [(wide, "UTF-16LE", None), (latin, "byte 26 (counted from 0) is 0xeb", Some(26))] {
        let problem = world.call("POST", runs, &[], body).await.problem(400, "body-malformed");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
        assert_eq!(problem.get("byte").and_then(Value::as_u64), byte, "{problem}");
    }
    // In a definition it is told by its line and column, as in a file.
    let latin: Vec<u8> =
        GREETER.replace("Hello", "Hall\u{f6}").chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let told = world.put("/v1/workflows/people/greeter", latin).await.problem(422, "definition-invalid");
    assert_eq!(told["diagnostics"][0]["code"], "yaml-invalid", "{told}");
    for (number, is_taken) in
        [("1e400", false), ("123456789012345678901234567890", false), ("18446744073709551615", true)]
    {
        let body = format!("{{\"input\": {{\"name\": \"x\", \"n\": {number}}}}}");
        let answer = world.call("POST", runs, &[], body).await;
        // The schema takes no `n`: what can be kept comes as far as that.
        assert_eq!(answer.status == 422, is_taken, "{number}: {}", answer.text);
    }
}
