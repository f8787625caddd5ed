//! Plugins: whose a name is, what is granted, and what leaves again.

use super::*;
use bellhop_tests::guest::Plugin;

const WASM: [(&str, &str); 1] = [("content-type", "application/wasm")];

/// An action that posts, and may look a person up.
fn manifest(publisher: &str, name: &str, version: &str) -> Value {
    json!({
        "publisher": publisher, "name": name, "version": version,
        "actions": [{
            "name": "it.does", "title": "It does", "description": "What it does.", "effect": "notify",
            "input": { "type": "object" }, "output": { "type": "object" },
            "calls": [{ "on": ["workspace", "grid-workspace"], "methods": [
                { "function": "chat.post-message", "when": "always" },
                { "function": "users.lookup-by-email", "when": "maybe" },
            ] }],
        }],
    })
}

fn component(manifest: &Value) -> Vec<u8> {
    let imports = &["chat.post-message", "users.lookup-by-email"];
    // Two binaries of one manifest differ in their data.
    Plugin { imports, description: &manifest.to_string(), ..Plugin::default() }.build()
}

/// The same manifest in another binary.
fn rebuilt(manifest: &Value) -> Vec<u8> {
    let imports = &["chat.post-message", "users.lookup-by-email"];
    let items = r#"(data (i32.const 9000) "another build")"#;
    Plugin { imports, description: &manifest.to_string(), items, ..Plugin::default() }.build()
}

/// Sleeps for a day, then calls the plugin.
fn caller(namespace: &str, plugin: &str) -> String {
    format!(
        "document: {{dsl: '1.0.3', namespace: {namespace}, name: calls, version: 1.0.0}}\ndo:\n  - rest: {{wait: P1D}}\n  \
         - say: {{call: 'it.does:1@{plugin}', with: {{connection: hq, channel: C1, text: Hi}}}}\n"
    )
}

/// A host over a simulated Slack, with the connection `hq`.
async fn connected() -> (bellhop_simulator::Running, World) {
    let options = bellhop_simulator::Options { budget_scale: 1000.0, ..Default::default() };
    let slack = bellhop_simulator::start(options).await.unwrap();
    let world = World::with(Limits::default(), format!("http://{}", slack.address)).await;
    let hq = json!({ "name": "hq", "kind": "grid-workspace", "tokens": { "bot": "xoxb-hq" } });
    world.post("/v1/connections", &hq).await.ok(201);
    (slack, world)
}

impl World {
    async fn install(&self, query: &str, bytes: Vec<u8>) -> Answer {
        self.call("POST", &format!("/v1/plugins{query}"), &WASM, bytes).await
    }

    /// What the next start reads: name, version and grants.
    async fn next_start(&self) -> Vec<String> {
        let (sandbox, _) = held().await;
        let plugins =
            engine::setup::plugins::Plugins::read(self.engine.services.journal.clone(), sandbox).await.unwrap();
        let of = |p: &Arc<engine::setup::plugins::Installed>| {
            let grants: Vec<String> = p.grants.iter().map(ToString::to_string).collect();
            format!("{} {}: {}", p.stored.manifest.name, p.stored.manifest.version, grants.join(", "))
        };
        plugins.all().iter().map(of).collect()
    }

    async fn installed(&self) -> Vec<String> {
        let listed = self.get("/v1/plugins").await.ok(200);
        let of = |p: &Value| format!("{} {}", p["name"].as_str().unwrap(), p["version"].as_str().unwrap());
        listed["result"].as_array().unwrap().iter().map(of).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn author_1_a_name_belongs_to_its_publisher() {
    let world = World::new().await;
    world.install("", component(&manifest("bellhop", "slack", "1.0.0"))).await.ok(201);
    // Whatever the version: higher, lower, the same, a pre-release, one with metadata, another major.
    for version in ["1.0.1", "0.9.0", "1.0.0", "1.0.0-rc.1", "1.0.0+acme", "999999999.0.0"] {
        let refused = world.install("", component(&manifest("acme", "slack", version))).await;
        let problem = refused.problem(409, "plugin-publisher-differs");
        assert_eq!((&problem["owner"], &problem["publisher"]), (&json!("bellhop"), &json!("acme")), "{problem}");
        assert_eq!(problem["versions"], json!(["1.0.0"]));
        assert!(problem["remedies"][0]["title"].as_str().unwrap().contains("--replace-publisher"), "{problem}");
    }
    // An exact name, compared character by character.
    world
        .install("", component(&manifest("bellhop.dev", "slack", "1.0.1")))
        .await
        .problem(409, "plugin-publisher-differs");
    assert_eq!(world.installed().await, ["slack 1.0.0"]);
    // Its own publisher goes on, also backwards, and another name is free.
    world.install("?replaces=1.0.0", component(&manifest("bellhop", "slack", "1.1.0"))).await.ok(201);
    world.install("", component(&manifest("bellhop", "slack", "1.0.5"))).await.ok(201);
    world.install("", component(&manifest("acme", "slack-more", "1.0.0"))).await.ok(201);
    let changed = world.install("", rebuilt(&manifest("bellhop", "slack", "1.1.0"))).await;
    changed.problem(409, "version-immutable");
}

#[tokio::test(flavor = "multi_thread")]
async fn author_1_an_operator_can_have_a_name_replaced_and_is_told_what_that_replaces() {
    let (_slack, world) = connected().await;
    world.install("?grantAll=true", component(&manifest("bellhop", "slack", "1.0.0"))).await.ok(201);
    world.put("/v1/workflows/it/calls", caller("it", "slack")).await.ok(201);
    let run = world.start("it/calls", json!({})).await;
    let acme = component(&manifest("acme", "slack", "1.0.0"));
    let other = world.install("?replacePublisher=nobody", acme.clone()).await;
    other.problem(409, "plugin-publisher-differs");
    for said in ["?replacePublisher=maybe%20so", "?replacePublisher=false"] {
        world.install(said, acme.clone()).await.problem(409, "plugin-publisher-differs");
    }
    let taken = world.install("?replacePublisher=bellhop", acme).await.ok(201);
    assert_eq!(taken["replaced"], json!([{ "name": "slack", "version": "1.0.0", "publisher": "bellhop" }]));
    assert_eq!(taken["granted"], json!([]), "what was granted to the one is not granted to the other");
    assert_eq!(world.installed().await, ["slack 1.0.0"]);
    assert_eq!(world.get("/v1/plugins/slack").await.ok(200)["result"][0]["publisher"], "acme");
    // A new run means the new one; the open one goes on with what it pins.
    let refused = world.post("/v1/workflows/it/calls/runs", &json!({ "input": {} })).await;
    refused.problem(422, "preflight-refused");
    assert_eq!(world.get(&format!("/v1/runs/{run}")).await.ok(200)["error"], Value::Null);
    world.clock.advance(Duration::from_secs(2 * 86_400));
    let ended = world.until(&run, "faulted").await;
    // The component of these tests answers its request, which is no answer of an action; nothing is missing.
    assert!(ended["error"]["type"].as_str().unwrap().ends_with("/plugin-output-invalid"), "{ended}");
    // And back again.
    let back = component(&manifest("bellhop", "slack", "1.0.0"));
    world.install("", back.clone()).await.problem(409, "plugin-publisher-differs");
    assert_eq!(
        world.install("?replacePublisher=true&grantAll=true", back).await.ok(201)["replaced"][0]["publisher"],
        "acme"
    );
}

/// A publisher is a text that anybody can claim: whoever installs under it is told what workflows call from then on.
#[tokio::test(flavor = "multi_thread")]
async fn author_d2_nothing_is_called_in_another_s_place_without_a_word() {
    let (_slack, world) = connected().await;
    let first = component(&manifest("bellhop", "slack", "1.0.0"));
    world.install("?grantAll=true", first.clone()).await.ok(201);
    world.put("/v1/workflows/it/calls", caller("it", "slack")).await.ok(201);
    world.put("/v1/workflows/it/does-not", caller("it", "other").replace("name: calls", "name: does-not")).await;
    let digest = bellhop_core::digest::Digest::of(&first);
    let claimed = component(&manifest("bellhop", "slack", "1.9.0"));
    // What was installed since the operator looked was not looked at.
    let refused = world.install("?replaces=0.9.0", claimed.clone()).await.problem(409, "plugin-replaces");
    assert_eq!(refused["versions"], json!(["1.0.0"]));
    assert!(refused["detail"].as_str().unwrap().contains("and not 0.9.0"), "{refused}");
    assert!(refused["remedies"][0]["title"].as_str().unwrap().contains("--replaces=1.0.0"), "{refused}");
    assert_eq!(world.installed().await, ["slack 1.0.0"]);
    world.post("/v1/workflows/it/calls/runs", &json!({ "input": {} })).await.ok(202);

    // Whoever installs it is told who calls it from now on, and that it may do nothing yet.
    let done = world.install(&format!("?replaces={digest}"), claimed).await.ok(201);
    assert_eq!(done["beside"], json!([{ "name": "slack", "version": "1.0.0", "publisher": "bellhop" }]));
    assert_eq!((&done["workflows"], &done["granted"]), (&json!(["it/calls"]), &json!([])), "{done}");
    let refused = world.post("/v1/workflows/it/calls/runs", &json!({ "input": {} })).await;
    refused.problem(422, "preflight-refused");

    // One that is older follows nothing that is there, and one with another content is never taken.
    let lower = component(&manifest("bellhop", "slack", "1.1.0"));
    world.install("?replaces=1.9.0", lower).await.problem(409, "version-immutable");
    for said in ["", "?replaces=1.9.0"] {
        let equal = rebuilt(&manifest("bellhop", "slack", "1.9.0"));
        world.install(said, equal).await.problem(409, "version-immutable");
    }
    // Of another major nobody means it yet, and the very same component again is nothing new.
    let done = world.install("", component(&manifest("bellhop", "slack", "2.0.0"))).await.ok(201);
    assert_eq!(done["workflows"], json!([]));
    world.install("", first).await.ok(201);
    assert_eq!(world.installed().await, ["slack 1.0.0", "slack 1.9.0", "slack 2.0.0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn house_a14_without_grants_nothing_is_granted_and_that_is_said() {
    let (_slack, world) = connected().await;
    let installed = world.install("", component(&manifest("acme", "acme-tools", "1.0.0"))).await.ok(201);
    assert_eq!(installed["declared"], json!(["chat.postMessage", "users.lookupByEmail"]));
    assert_eq!((&installed["granted"], &installed["missing"]), (&json!([]), &installed["declared"]));
    assert_eq!(installed["grants"], json!([]));
    world.put("/v1/workflows/it/calls", caller("it", "acme-tools")).await.ok(201);
    let start = json!({ "input": {} });
    let refused = world.post("/v1/workflows/it/calls/runs", &start).await.problem(422, "preflight-refused");
    let lack = &refused["diagnostics"][0];
    assert_eq!(lack["code"], "capability-not-granted", "{refused}");
    // One remedy for all that is missing, and it does what it says.
    let remedy = &lack["remedies"][0];
    let command = "bellhop plugin grant acme-tools --add chat.postMessage --add users.lookupByEmail";
    assert_eq!(remedy["command"], command);
    let http = &remedy["http"];
    let granted =
        world.call(http["method"].as_str().unwrap(), http["path"].as_str().unwrap(), &[], http["body"].to_string());
    let granted = granted.await.ok(200);
    assert_eq!(granted["result"][0]["missing"], json!([]), "{granted}");
    world.post("/v1/workflows/it/calls/runs", &start).await.ok(202);
    // The very same component again, without a word about grants: they stay.
    let again = world.install("", component(&manifest("acme", "acme-tools", "1.0.0"))).await.ok(201);
    assert_eq!(again["grants"], json!(["chat.postMessage", "users.lookupByEmail"]));
    // Both at once say two things.
    let bytes = component(&manifest("acme", "acme-tools", "1.0.0"));
    world.install("?grantAll=true&grant=users.info", bytes).await.problem(400, "request-invalid");
}

/// What may never be needed keeps nobody from starting, and whoever starts is told.
#[tokio::test(flavor = "multi_thread")]
async fn author_5_what_a_run_may_lack_is_told_when_it_is_started() {
    let (_slack, world) = connected().await;
    let bytes = component(&manifest("acme", "acme-tools", "1.0.0"));
    world.install("?grant=chat.postMessage", bytes).await.ok(201);
    world.put("/v1/workflows/it/calls", caller("it", "acme-tools")).await.ok(201);
    let start = json!({ "input": {} });
    let started = world.post("/v1/workflows/it/calls/runs", &start).await.ok(202);
    let warning = &started["warnings"][0];
    assert_eq!((&warning["code"], &warning["severity"]), (&json!("capability-not-granted"), &json!("warning")));
    assert_eq!(warning["methods"], json!(["users.lookupByEmail"]), "{warning}");
    // Who asks again is told of the run, and where nothing is lacking there is nothing to tell.
    let key = [("idempotency-key", "k"), ("content-type", "application/json")];
    world.call("POST", "/v1/workflows/it/calls/runs", &key, start.to_string()).await.ok(202);
    let again = world.call("POST", "/v1/workflows/it/calls/runs", &key, start.to_string()).await.ok(202);
    assert_eq!(again.get("warnings"), None);
    world.post("/v1/plugins/acme-tools/grant", &json!({ "add": ["users.lookupByEmail"] })).await.ok(200);
    assert_eq!(world.post("/v1/workflows/it/calls/runs", &start).await.ok(202).get("warnings"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn author_5_remedies_add_up() {
    let (_slack, world) = connected().await;
    let bytes = component(&manifest("acme", "acme-tools", "1.0.0"));
    let installed = world.install("?grant=users.lookupByEmail", bytes).await.ok(201);
    assert_eq!(installed["missing"], json!(["chat.postMessage"]));
    let path = "/v1/plugins/acme-tools/grant";
    let after = world.post(path, &json!({ "add": ["chat.postMessage:#it-*"] })).await.ok(200);
    assert_eq!(after["result"][0]["grants"], json!(["chat.postMessage:#it-*", "users.lookupByEmail"]));
    let after =
        world.post(path, &json!({ "add": ["chat.postMessage"], "remove": ["chat.postMessage:#it-*"] })).await.ok(200);
    assert_eq!(after["result"][0]["grants"], json!(["chat.postMessage", "users.lookupByEmail"]));
    // What one of several versions does not know is granted to the others.
    let mut narrow = manifest("acme", "acme-tools", "2.0.0");
    narrow["actions"][0]["calls"] =
        json!([{ "on": ["workspace"], "methods": [{ "function": "chat.post-message", "when": "always" }] }]);
    world.install("?replaces=1.0.0", component(&narrow)).await.ok(201);
    let after = world.post(path, &json!({ "add": ["users.lookupByEmail@hq", "chat.postMessage@hq"] })).await.ok(200);
    let grants: Vec<&Value> = after["result"].as_array().unwrap().iter().map(|p| &p["grants"]).collect();
    assert_eq!(grants[0], &json!(["chat.postMessage@hq"]), "the newest first: {after}");
    assert_eq!(grants[1].as_array().unwrap().len(), 4);
    let kept = [
        "acme-tools 1.0.0: chat.postMessage, chat.postMessage@hq, users.lookupByEmail, users.lookupByEmail@hq",
        "acme-tools 2.0.0: chat.postMessage@hq",
    ];
    assert_eq!(world.next_start().await, kept);
    let one = json!({ "remove": ["chat.postMessage@hq"], "version": "1.0.0" });
    assert_eq!(world.post(path, &one).await.ok(200)["result"].as_array().unwrap().len(), 1);
    world.post(path, &one).await.problem(422, "grant-invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn author_9_grants_are_looked_at_when_they_are_given() {
    let (_slack, world) = connected().await;
    let bytes = component(&manifest("acme", "acme-tools", "1.0.0"));
    for (grant, meant) in [
        ("chat.post-message", "did you mean `chat.postMessage`?"),
        ("chat_post_message", "did you mean `chat.postMessage`?"),
        ("conversations.setTopik", "did you mean `conversations.setTopic`?"),
        ("conversations.kick", "leave it out; the plugin declares chat.postMessage, users.lookupByEmail"),
        ("chat.postMessage@hk", "did you mean `hq`?"),
        ("chat.postMessage:chanel=C*", "did you mean `chat.postMessage:channel=C*`?"),
    ] {
        let refused = world.install(&format!("?grant={grant}"), bytes.clone()).await;
        let problem = refused.problem(422, "grant-invalid");
        assert_eq!(problem["diagnostics"][0]["remedies"][0]["title"], meant, "{grant}: {problem}");
        assert_eq!(world.installed().await, [""; 0], "{grant}");
    }
    world.install("", bytes).await.ok(201);
    let path = "/v1/plugins/acme-tools/grant";
    let change = json!({ "add": ["chat.postMessage", "conversations.kick"], "remove": ["users.info"] });
    let problem = world.post(path, &change).await.problem(422, "grant-invalid");
    let pointers: Vec<&Value> = problem["diagnostics"].as_array().unwrap().iter().map(|d| &d["pointer"]).collect();
    assert_eq!(pointers, ["/remove/0", "/add/1"]);
    assert_eq!(world.get("/v1/plugins").await.ok(200)["result"][0]["grants"], json!([]), "all of it or nothing");
    let many: Vec<String> = (0..1_001).map(|n| format!("chat.postMessage:C{n}")).collect();
    let problem = world.post(path, &json!({ "add": many })).await.problem(422, "grant-invalid");
    assert_eq!(problem["diagnostics"].as_array().unwrap().len(), 1, "{problem}");
    let wrong: Vec<String> = (0..1_000).map(|n| format!("chat.postMesage{n}")).collect();
    let problem = world.post(path, &json!({ "add": wrong })).await.problem(422, "grant-invalid");
    assert_eq!(problem["diagnostics"].as_array().unwrap().len(), 50);
    world.post(path, &json!({})).await.problem(400, "request-invalid");
    world.post(path, &json!({ "ad": ["users.info"] })).await.problem(400, "request-invalid");
    let unknown = world.post("/v1/plugins/acme-tool/grant", &json!({ "add": ["users.info"] })).await;
    assert_eq!(unknown.problem(404, "plugin-unknown")["remedies"][0]["title"], "did you mean `acme-tools`?");
    let version = json!({ "add": ["chat.postMessage"], "version": "1.0.1" });
    assert_eq!(world.post(path, &version).await.problem(404, "version-unknown")["installed"], json!(["1.0.0"]));
    let reader = world.token_with(&["runs:read"]).await;
    let headers = [("authorization", &*format!("Bearer {reader}"))];
    world.call("POST", path, &headers, r#"{"add":["chat.postMessage"]}"#).await.problem(403, "token-scope-missing");
    world.call("DELETE", "/v1/plugins/acme-tools", &headers, "").await.problem(403, "token-scope-missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn author_10_what_can_never_work_is_not_installed() {
    let world = World::new().await;
    let mut wrong = manifest("acme", "Oops Tools", "1.0");
    wrong["actions"][0]["inverze"] = json!("it.undoes");
    wrong["actions"][0]["title"] = json!("It does\u{1b}[2K");
    wrong["actions"].as_array_mut().unwrap().push(json!({ "name": "AB", "inverse": "nothing" }));
    let problem = world.install("?grantAll=true", component(&wrong)).await.problem(422, "plugin-refused");
    let codes: Vec<&str> =
        problem["diagnostics"].as_array().unwrap().iter().map(|d| d["code"].as_str().unwrap()).collect();
    for code in
        ["invalid-name", "invalid-version", "unknown-key", "character-invalid", "missing-key", "inverse-unknown"]
    {
        assert!(codes.contains(&code), "{code}: {problem:#}");
    }
    assert!(!problem.to_string().contains("\\u001b"), "{problem}");
    assert_eq!(world.installed().await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn author_10_a_plugin_that_nobody_needs_is_removed() {
    let (_slack, world) = connected().await;
    let first = manifest("acme", "acme-tools", "1.0.0");
    world.install("?grantAll=true", component(&first)).await.ok(201);
    let unknown = world.call("DELETE", "/v1/plugins/acme-tool", &[], "").await;
    assert_eq!(unknown.problem(404, "plugin-unknown")["remedies"][0]["title"], "did you mean `acme-tools`?");
    world.call("DELETE", "/v1/plugins/acme-tools/1.0.1", &[], "").await.problem(404, "version-unknown");

    // A registered workflow needs it, then runs, of which the first ten are named.
    world.put("/v1/workflows/it/calls", caller("it", "acme-tools")).await.ok(201);
    let problem = world.call("DELETE", "/v1/plugins/acme-tools", &[], "").await.problem(409, "plugin-in-use");
    assert_eq!((&problem["workflows"], &problem["runs"]), (&json!(["it/calls"]), &json!([])));
    let mut runs = Vec::new();
    for _ in 0..12 {
        runs.push(world.start("it/calls", json!({})).await);
    }
    let problem = world.call("DELETE", "/v1/plugins/acme-tools", &[], "").await.problem(409, "plugin-in-use");
    assert_eq!((problem["runs"].as_array().unwrap().len(), &problem["runs_more"]), (10, &json!(2)), "{problem}");
    assert_eq!(world.installed().await, ["acme-tools 1.0.0"], "nothing was changed");

    // Another version that does as well frees the workflow, and the runs still pin the one.
    let next = component(&manifest("acme", "acme-tools", "1.0.1"));
    world.install("?grantAll=true&replaces=1.0.0", next).await.ok(201);
    let problem = world.call("DELETE", "/v1/plugins/acme-tools/1.0.0", &[], "").await.problem(409, "plugin-in-use");
    assert_eq!(problem["workflows"], json!([]));
    for run in &runs {
        world.post(&format!("/v1/runs/{run}/cancel"), &json!({})).await;
        world.until(run, "cancelled").await;
    }
    let removed = world.call("DELETE", "/v1/plugins/acme-tools/1.0.0", &[], "").await.ok(200);
    assert_eq!(removed["removed"], json!([{ "name": "acme-tools", "version": "1.0.0", "publisher": "acme" }]));
    assert_eq!(world.installed().await, ["acme-tools 1.0.1"]);
    world.call("DELETE", "/v1/plugins/acme-tools/1.0.0", &[], "").await.problem(404, "version-unknown");

    let kept = ["acme-tools 1.0.1: chat.postMessage, users.lookupByEmail"];
    assert_eq!(world.next_start().await, kept, "what was removed stays so");

    // What ended runs pin is still told, and the version can come back, as another binary too, without old grants.
    world.get(&format!("/v1/runs/{}", runs[0])).await.ok(200);
    let back = world.install("", rebuilt(&first)).await.ok(201);
    assert_eq!(back["grants"], json!([]));
    assert_eq!(world.installed().await, ["acme-tools 1.0.0", "acme-tools 1.0.1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn author_10_what_was_removed_goes_from_the_store_when_no_run_names_it() {
    let (_slack, world) = connected().await;
    let plugins = &world.engine.services.plugins;
    let journal = &world.engine.services.journal;
    let bytes = component(&manifest("acme", "acme-tools", "1.0.0"));
    let digest = bellhop_core::digest::Digest::of(&bytes);
    world.install("?grantAll=true", bytes.clone()).await.ok(201);
    world.put("/v1/workflows/it/calls", caller("it", "acme-tools")).await.ok(201);
    let run = world.start("it/calls", json!({})).await;
    world.post(&format!("/v1/runs/{run}/cancel"), &json!({})).await;
    world.until(&run, "cancelled").await;
    world
        .put(
            "/v1/workflows/it/calls",
            caller("it", "acme-tools").replace("1.0.0}", "1.0.1}").replace("  - say", "  #- say"),
        )
        .await
        .ok(201);
    world.call("DELETE", "/v1/plugins/acme-tools", &[], "").await.ok(200);
    assert_eq!(world.installed().await, [""; 0]);
    // As a start does: a kept run names the one, so it stays.
    assert_eq!(world.engine.forget_removed_plugins().await.unwrap(), 0);
    assert!(journal.blob(digest).await.unwrap().is_some() && plugins.pinned(digest, "it.does").is_some());
    // One that no run names goes.
    let other = component(&manifest("acme", "other", "1.0.0"));
    let other_digest = bellhop_core::digest::Digest::of(&other);
    world.install("", other.clone()).await.ok(201);
    world.call("DELETE", "/v1/plugins/other", &[], "").await.ok(200);
    assert_eq!(world.engine.forget_removed_plugins().await.unwrap(), 1);
    assert!(journal.blob(other_digest).await.unwrap().is_none() && plugins.pinned(other_digest, "it.does").is_none());
    world.install("", other).await.ok(201);
    world.install("", bytes).await.ok(201);
    assert_eq!(world.installed().await, ["acme-tools 1.0.0", "other 1.0.0"]);
}
