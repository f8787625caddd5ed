//! Metrics, health, plugins and actions without Slack.

use super::*;

#[tokio::test]
async fn surroundings_s14_metrics_say_what_has_happened() {
    let world = World::with_workflows().await;
    let value = |answer: &Answer, name: &str| -> u64 {
        let line = answer.text.lines().find_map(|line| line.strip_prefix(&format!("bellhop_{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {}", answer.text)).parse().unwrap()
    };
    let before = world.get("/metrics").await;
    assert_eq!(value(&before, "runs_accepted_total"), 0);
    for _ in 0..3 {
        let id = world.start("people/greeter", json!({ "name": "Ada" })).await;
        world.until(&id, "completed").await;
    }
    let answer = world.get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(answer.text.ends_with("# EOF\n"));
    assert_eq!(value(&answer, "runs_accepted_total"), 3);
    assert_eq!(value(&answer, "runs_left_total"), 3);
    for grown in ["journal_batches_total", "journal_written_bytes_total", "journal_syncs_total"] {
        assert!(value(&answer, grown) > value(&before, grown), "{grown}");
    }
    let old = world.call("GET", "/metrics", &[("accept", "text/plain;version=0.0.4")], "").await;
    assert_eq!(old.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for line in answer.text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let known = ["bellhop_", "http_server_", "process_"].iter().any(|prefix| name.starts_with(prefix));
        assert!(known, "{line}");
        value.parse::<f64>().unwrap();
    }
    assert!(answer.text.contains("\nbellhop_ready 1\n"), "{}", answer.text);
    let started = "http_server_request_duration_seconds_count{http_request_method=\"POST\",\
                   http_route=\"/v1/workflows/{namespace}/{name}/runs\",http_response_status_code=\"202\"} 3";
    assert!(answer.text.contains(started), "{}", answer.text);
    assert!(answer.text.contains("\nbellhop_run_duration_seconds_count{status=\"completed\"} 3\n"), "{}", answer.text);
    assert!(answer.text.contains("bellhop_sandbox_free_slots 256"));
}

#[tokio::test]
async fn a_store_that_failed_is_not_healthy() {
    let world = World::new().await;
    world.get("/healthz").await.ok(200);
    world.engine.services.fatal.send_replace(Some("the disk".to_owned()));
    let answer = world.get("/healthz").await;
    answer.problem(503, "unavailable");
    assert!(!answer.text.contains("disk"));
}

#[tokio::test]
async fn what_is_no_plugin_is_refused() {
    let world = World::new().await;
    let refused = world.call("POST", "/v1/plugins", &[], "not wasm").await.problem(422, "plugin-refused");
    assert_eq!(refused["diagnostics"][0]["code"], "plugin-refused");
    let module = wat::parse_str("(module)").unwrap();
    let refused = world.call("POST", "/v1/plugins", &[("content-type", "application/wasm")], module).await;
    assert!(refused.problem(422, "plugin-refused").to_string().contains("bellhop plugin build"));
    let form = [("content-type", "multipart/form-data; boundary=x")];
    world.call("POST", "/v1/plugins", &form, "x").await.problem(415, "media-type-unsupported");
    let wrong = world.call("POST", "/v1/plugins?grant=chat.postMesage&grnt=x", &[], "x").await;
    let problem = wrong.problem(400, "request-invalid");
    assert_eq!(problem["diagnostics"].as_array().unwrap().len(), 2, "{problem}");
    for meant in ["did you mean `grant`?", "did you mean `chat.postMessage`?"] {
        assert!(problem.to_string().contains(meant), "{problem}");
    }
    for path in ["/v1/plugins", "/v1/plugins/slack"] {
        world.get(&format!("{path}?grnt=x")).await.problem(400, "request-invalid");
        world.call("DELETE", "/v1/plugins/slack?grnt=x", &[], "").await.problem(400, "request-invalid");
    }
    world.post("/v1/plugins/slack/grant?grnt=x", &json!({ "add": ["a"] })).await.problem(400, "request-invalid");
    let wrong = world.call("POST", "/v1/plugins?grant=chat.postMesage&grant=a%20b&grant=users.info@hq", &[], "x").await;
    let problem = wrong.problem(422, "grant-invalid");
    assert_eq!(problem["diagnostics"].as_array().unwrap().len(), 2);
    assert!(problem.to_string().contains("did you mean `chat.postMessage`?"), "{problem}");
    assert_eq!(world.get("/v1/plugins").await.ok(200)["result"], json!([]));
    assert_eq!(world.get("/v1/actions").await.ok(200)["result"], json!([]));
}

#[tokio::test]
async fn a_plugin_that_is_too_large_is_refused_by_one_code_however_it_comes() {
    let world =
        World::with(Limits { plugin_bytes_max: 100, ..Limits::default() }, "http://127.0.0.1:9".to_owned()).await;
    let wasm = ("content-type", "application/wasm");
    for headers in [vec![wasm], vec![wasm, ("content-length", "101")]] {
        let problem = world.call("POST", "/v1/plugins", &headers, vec![0; 101]).await.problem(413, "body-too-large");
        assert_eq!(problem["bytes_max"], 100);
        assert!(problem["remedies"][0]["title"].as_str().unwrap().contains("compile it for size"), "{problem}");
    }
}

#[tokio::test]
async fn a_host_reads_no_more_headers_waits_no_longer_and_keeps_no_more_labels_than_its_limits_say() {
    let limits = Limits { headers_max: 2, labels_max: 1, wait_ms_max: 2_000, ..Limits::default() };
    let world = World::with(limits, "http://127.0.0.1:9".to_owned()).await;
    world.apply().await;
    world.call("GET", "/v1/runs", &[("x-a", "1")], "").await.ok(200);
    world.call("GET", "/v1/runs", &[("x-a", "1"), ("x-b", "1")], "").await.problem(431, "headers-too-large");
    let runs = "/v1/workflows/people/greeter/runs";
    let labels = |labels: Value| json!({ "input": { "name": "Ada" }, "labels": labels });
    world.post(&format!("{runs}?wait=2s"), &labels(json!({ "a": "1" }))).await.ok(200);
    world.post(&format!("{runs}?wait=3s"), &labels(json!({}))).await.problem(400, "request-invalid");
    world.post(runs, &labels(json!({ "a": "1", "b": "2" }))).await.problem(400, "request-invalid");
}

#[tokio::test]
async fn a_run_is_a_part_of_the_trace_that_its_trigger_names_and_of_one_of_its_own_where_it_names_none() {
    let world = World::with_workflows().await;
    let own = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let start = |traceparents: Vec<&'static str>| {
        let world = &world;
        async move {
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(traceparents.into_iter().map(|text| ("traceparent", text)));
            let body = json!({ "input": { "name": "Ada" } }).to_string();
            let started = world.call("POST", "/v1/workflows/people/greeter/runs", &headers, body).await.ok(202);
            let shown = world.get(&format!("/v1/runs/{}", started["id"].as_str().unwrap())).await.ok(200);
            assert_eq!(started["trace_id"], shown["trace_id"]);
            shown["trace_id"].as_str().unwrap().to_owned()
        }
    };
    assert_eq!(start(vec![own]).await, "4bf92f3577b34da6a3ce929d0e0e4736");
    // As the standard says, one that is wrong counts as none, and so do two.
    let mut others = vec![start(vec![]).await, start(vec!["00-xyz"]).await, start(vec![own, own]).await];
    others.push(start(vec!["00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"]).await);
    others.sort();
    others.dedup();
    assert_eq!(others.len(), 4, "{others:?}");
    assert!(others.iter().all(|id| id.len() == 32 && id != "4bf92f3577b34da6a3ce929d0e0e4736"), "{others:?}");
}
