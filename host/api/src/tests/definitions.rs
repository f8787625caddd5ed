//! Definitions, bindings, tables and checks.

use super::*;

const GREETER_AT: &str = "/v1/workflows/people/greeter";

#[tokio::test]
async fn a_version_once_applied_does_not_change() {
    let world = World::new().await;
    let first = world.put(GREETER_AT, GREETER).await;
    let body = first.ok(201);
    assert_eq!((&body["version"], &body["created"], &body["warnings"]), (&json!("1.0.0"), &json!(true), &json!([])));
    assert_eq!(first.header("etag"), format!("\"{}\"", body["digest"].as_str().unwrap()));
    let again = world.put(GREETER_AT, GREETER).await;
    assert_eq!(again.ok(200)["created"], false);
    world.put(GREETER_AT, GREETER.replace("Hello", "Hi")).await.problem(409, "version-immutable");
    let next = world.put(GREETER_AT, GREETER.replace("1.0.0", "1.1.0")).await;
    next.ok(201);

    let shown = world.get(GREETER_AT).await;
    assert_eq!((shown.status, shown.text.as_str()), (200, GREETER.replace("1.0.0", "1.1.0").as_str()));
    assert_eq!((shown.header("content-type"), shown.header("bellhop-version")), ("application/yaml", "1.1.0"));
    assert_eq!(shown.header("etag"), next.header("etag"));
    let old = world.get(&format!("{GREETER_AT}?version=1.0.0")).await;
    assert_eq!(old.text, GREETER);
    world.get(&format!("{GREETER_AT}?version=9.9.9")).await.problem(404, "workflow-unknown");
    let tag = [("if-none-match", shown.header("etag"))];
    assert_eq!(world.call("GET", GREETER_AT, &tag, "").await.status, 304);

    world.put("/v1/workflows/people/sleeper", SLEEPER).await.ok(201);
    let listed = world.get("/v1/workflows?limit=1").await.ok(200);
    assert_eq!(
        (&listed["result"][0]["name"], &listed["result"][0]["version"]),
        (&json!("people/greeter"), &json!("1.1.0"))
    );
    let cursor = listed["next_cursor"].as_str().unwrap();
    let rest = world.get(&format!("/v1/workflows?limit=1&cursor={cursor}")).await.ok(200);
    assert_eq!((&rest["result"][0]["name"], &rest["next_cursor"]), (&json!("people/sleeper"), &Value::Null));
}

#[tokio::test]
async fn a_change_meets_the_version_that_it_expects() {
    let world = World::new().await;
    let put = |version: &str, header: (&'static str, String)| {
        let text = GREETER.replace("1.0.0", version);
        let world = &world;
        async move { world.call("PUT", GREETER_AT, &[(header.0, &header.1)], text).await }
    };
    let nothing = put("1.0.0", ("if-match", "*".to_owned())).await.problem(412, "precondition-failed");
    assert_eq!(nothing["current"], Value::Null);
    let first = put("1.0.0", ("if-none-match", "*".to_owned())).await;
    first.ok(201);
    let there = put("1.1.0", ("if-none-match", "*".to_owned())).await.problem(412, "precondition-failed");
    assert_eq!(there["current"]["version"], "1.0.0");
    let tag = first.header("etag").to_owned();
    put("1.1.0", ("if-match", format!("\"other\", {tag}"))).await.ok(201);
    put("1.2.0", ("if-match", tag)).await.problem(412, "precondition-failed");
    put("1.2.0", ("if-match", "*".to_owned())).await.ok(201);
    put("1.3.0", ("if-none-match", "\"x\"".to_owned())).await.problem(400, "request-invalid");
}

#[tokio::test]
async fn faults_of_a_definition_are_told_all_at_once_with_places() {
    let world = World::new().await;
    let text = GREETER.replace("greet:", "greet:\n      fi: true").replace("set:", "sett:");
    let text = text.replace("{sett", "set: {a: 1}\n      x: {sett");
    let answer = world.put(&format!("{GREETER_AT}?file=flows/greeter.yaml"), text).await;
    let problem = answer.problem(422, "definition-invalid");
    let diagnostics = problem["diagnostics"].as_array().unwrap();
    assert!(!diagnostics.is_empty());
    assert!(diagnostics.iter().all(|d| d["file"] == "flows/greeter.yaml" && d["line"].is_u64()), "{problem}");

    let broken = world.put(GREETER_AT, "a: [").await.problem(422, "definition-invalid");
    assert_eq!(broken["diagnostics"][0]["code"], "yaml-invalid");
    let wrong = world.put(GREETER_AT, GREETER.replace(".name }", ".name | }")).await;
    assert_eq!(wrong.problem(422, "definition-invalid")["diagnostics"][0]["code"], "expression-invalid");
    world.put(GREETER_AT, vec![0xff, 0xfe]).await.problem(422, "definition-invalid");
    world.put(GREETER_AT, "").await.problem(422, "definition-invalid");
    world.put("/v1/workflows/people/other", GREETER).await.problem(422, "workflow-name-mismatch");
    let form = [("content-type", "multipart/form-data; boundary=x")];
    world.call("PUT", GREETER_AT, &form, GREETER).await.problem(415, "media-type-unsupported");
    assert_eq!(world.get("/v1/workflows").await.ok(200)["result"], json!([]), "nothing was kept");
}

const SENDER: &str = "\
document: {dsl: '1.0.3', namespace: people, name: sender, version: 1.0.0}
do:
  - notify:
      call: message.send:1@slack
      with: {channel: C1, text: Hello}
";

#[tokio::test]
async fn what_is_missing_around_a_definition_is_a_warning_until_it_is_asked_for() {
    let world = World::new().await;
    let kept = world.put("/v1/workflows/people/sender", SENDER).await.ok(201);
    assert_eq!(kept["warnings"][0]["code"], "plugin-unknown");
    let strict = world.put("/v1/workflows/people/sender?strict=true", SENDER).await;
    strict.problem(422, "preflight-refused");
    let refused = world.post("/v1/workflows/people/sender/runs", &json!({ "input": {} })).await;
    let problem = refused.problem(422, "preflight-refused");
    assert_eq!(problem["diagnostics"][0]["code"], "plugin-unknown");
    assert_eq!(problem["diagnostics"][0]["line"], 4);
    assert_eq!(world.get("/v1/runs").await.ok(200)["result"], json!([]));
}

#[tokio::test]
async fn a_text_is_checked_without_being_kept() {
    let world = World::new().await;
    let checked = world.post("/v1/check", &json!({ "text": GREETER })).await.ok(200);
    assert_eq!((&checked["ok"], &checked["diagnostics"]), (&json!(true), &json!([])));
    assert!(checked["outline"]["steps"].is_array());
    let asked = json!({ "file": "s.yaml", "text": SENDER, "assume": ["acme=grid-org"] });
    let checked = world.post("/v1/check", &asked).await.ok(200);
    assert_eq!(checked["ok"], false);
    assert_eq!(checked["diagnostics"][0]["file"], "s.yaml");
    let plain = world.call("POST", "/v1/check", &[("accept", "text/plain")], asked.to_string()).await;
    assert!(plain.text.starts_with("error[plugin-unknown]"), "{}", plain.text);
    let broken = world.post("/v1/check", &json!({ "text": "a: [" })).await.ok(200);
    assert_eq!((&broken["ok"], &broken["outline"]), (&json!(false), &Value::Null));
    let wrong = json!({ "text": SENDER, "assume": ["acme=grid-org", "acme", "x=grid", "y=workspace:enterprise"] });
    let problem = world.post("/v1/check", &wrong).await.problem(400, "request-invalid");
    assert_eq!(problem["diagnostics"].as_array().unwrap().len(), 3, "{problem}");
    assert_eq!(world.get("/v1/workflows").await.ok(200)["result"], json!([]));
}

#[tokio::test]
async fn tables_are_typed() {
    let world = World::new().await;
    let table = json!({
        "columns": { "channels": "channel", "where": "connection", "note": "text" },
        "rows": { "sales": { "channels": ["#sales", "#all"], "where": "hq", "note": "" }, "it": { "note": "x" } },
    });
    assert_eq!(world.put("/v1/tables/access", table.to_string()).await.ok(200)["version"], 1);
    assert_eq!(
        world.put("/v1/tables/access", table.to_string()).await.ok(200)["version"],
        1,
        "the same is no new version"
    );
    let shown = world.get("/v1/tables/access").await.ok(200);
    assert_eq!((&shown["rows"], &shown["columns"]), (&table["rows"], &table["columns"]));
    let mut changed = table;
    changed["rows"]["it"]["note"] = json!("y");
    assert_eq!(world.put("/v1/tables/access", changed.to_string()).await.ok(200)["version"], 2);
    assert_eq!(world.get("/v1/tables").await.ok(200)["result"][0]["version"], 2);

    let wrong = json!({
        "columns": { "a": "chanel", "b": 1, "c": "connection" },
        "rows": { "r": { "c": ["x"], "d": "y" }, "s": 1 },
    });
    let problem = world.put("/v1/tables/access", wrong.to_string()).await.problem(400, "request-invalid");
    let pointers: Vec<&str> =
        problem["diagnostics"].as_array().unwrap().iter().map(|d| d["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointers, ["/columns/a", "/columns/b", "/rows/r/c", "/rows/r/d", "/rows/s"]);
    world.put("/v1/tables/Access", "{}").await.problem(400, "request-invalid");
    assert_eq!(world.get("/v1/tables").await.ok(200)["result"][0]["version"], 2);
}

#[tokio::test]
async fn bindings_name_connections_that_are_there() {
    let world = World::with_workflows().await;
    let path = "/v1/workflows/people/greeter/bindings";
    let problem = world.put(path, json!({ "org": "acme", "No": "x", "n": 1 }).to_string()).await;
    let pointers: Vec<Value> = problem.problem(400, "request-invalid")["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| d["pointer"].clone())
        .collect();
    assert_eq!(pointers, ["/n", "/No", "/No", "/org", "/org"]);
    world.put(path, "[]").await.problem(400, "request-invalid");
    world.put(path, "{}").await.ok(200);
    assert_eq!(world.get(path).await.ok(200), json!({}));
}

#[tokio::test]
async fn bindings_name_aliases_that_the_workflow_has() {
    let world = World::new().await;
    let text = SENDER.replace("with: {channel", "with: {connection: head-office, channel");
    world.put("/v1/workflows/people/sender", text).await.ok(201);
    let path = "/v1/workflows/people/sender/bindings";
    let refused = |alias: &str| {
        let (world, body) = (&world, json!({ alias: "acme" }).to_string());
        async move {
            let problem = world.put(path, body).await.problem(400, "request-invalid");
            problem["diagnostics"].as_array().unwrap().iter().map(|d| d["message"].to_string()).collect::<String>()
        }
    };
    let near = refused("head-ofice").await;
    assert!(near.contains("no alias `head-ofice`; did you mean `head-office`?"), "{near}");
    let far = refused("zzz").await;
    assert!(far.contains("no alias `zzz`; it has `head-office`"), "{far}");
    let its_own = refused("head-office").await;
    assert!(!its_own.contains("no alias"), "{its_own}");
}
