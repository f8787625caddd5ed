//! Metrics, health, plugins and actions without Slack.

use super::*;

#[tokio::test]
async fn metrics_are_whole_lines() {
    let world = World::with_workflows().await;
    let id = world.start("people/greeter", json!({ "name": "Ada" })).await;
    world.until(&id, "completed").await;
    let answer = world.get("/metrics").await;
    assert_eq!(answer.status, 200);
    for line in answer.text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("bellhop_"), "{line}");
        value.parse::<u64>().unwrap();
    }
    assert!(answer.text.contains("\nbellhop_ready 1\n"), "{}", answer.text);
    assert!(answer.text.contains("bellhop_http_answers_total{status=\"2xx\"}"));
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
    let wrong = world.call("POST", "/v1/plugins?grant=chat.postMesage&grant=a%20b&grant=users.info@hq", &[], "x").await;
    let problem = wrong.problem(422, "grant-invalid");
    assert_eq!(problem["diagnostics"].as_array().unwrap().len(), 2);
    assert!(problem.to_string().contains("did you mean `chat.postMessage`?"), "{problem}");
    assert_eq!(world.get("/v1/plugins").await.ok(200)["result"], json!([]));
    assert_eq!(world.get("/v1/actions").await.ok(200)["result"], json!([]));
}
