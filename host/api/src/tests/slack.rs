//! With the workspace's own plugin and a simulated Slack.

use super::*;
use bellhop_engine::gateway::Connected;

async fn plugin() -> Vec<u8> {
    static BUILT: OnceCell<Vec<u8>> = OnceCell::const_new();
    BUILT
        .get_or_init(|| async {
            let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../plugins/slack");
            let options = bellhop_toolchain::Options { target_dir: bellhop_tests::project::guests(), verbose: false };
            bellhop_toolchain::build(&folder, &options).expect("the plugin builds")
        })
        .await
        .clone()
}

async fn slack() -> (bellhop_simulator::Running, World) {
    let options = bellhop_simulator::Options { budget_scale: 1000.0, ..Default::default() };
    let slack = bellhop_simulator::start(options).await.unwrap();
    let world = World::with(Limits::default(), format!("http://{}", slack.address)).await;
    (slack, world)
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_what_slack_says_and_never_show_tokens() {
    let (_slack, world) = slack().await;
    let new = |name: &str, kind: &str, tokens: Value| json!({ "name": name, "kind": kind, "tokens": tokens });
    let made = world.post("/v1/connections", &new("acme-hq", "grid-workspace", json!({ "bot": "xoxb-hq" }))).await;
    let body = made.ok(201);
    assert_eq!((&body["title"], &body["plan"]), (&json!("Enterprise Grid: Workspace"), &json!("enterprise")));
    assert!(body["tokens"]["bot"]["scopes"].is_array());
    assert_eq!(made.header("location"), "/v1/connections/acme-hq");
    let again = new("acme-hq", "grid-workspace", json!({ "bot": "xoxb-hq" }));
    world.post("/v1/connections", &again).await.problem(409, "connection-exists");
    world.post("/v1/connections?replace=true", &again).await.ok(201);

    let other = world.post("/v1/connections", &new("b", "grid-org", json!({ "bot": "xoxb-hq" }))).await;
    let problem = other.problem(422, "connection-refused");
    assert_eq!(problem["diagnostics"][0]["code"], "connection-kind-mismatch");
    let unknown = world.post("/v1/connections", &new("c", "workspace", json!({ "bot": "xoxb-nobody-1234" }))).await;
    unknown.problem(422, "connection-refused");
    let wrong =
        world.post("/v1/connections", &new("D!", "worskpace", json!({ "bto": "xoxb-secret-9999", "user": "" }))).await;
    let problem = wrong.problem(400, "request-invalid");
    assert_eq!(problem["diagnostics"].as_array().unwrap().len(), 5, "{problem}");

    let shown = world.get("/v1/connections/acme-hq").await;
    shown.ok(200);
    let listed = world.get("/v1/connections").await;
    assert_eq!(listed.ok(200)["result"].as_array().unwrap().len(), 1);
    world.post("/v1/connections/acme-hq/test", &json!({})).await.ok(200);
    world.post("/v1/connections/nobody/test", &json!({})).await.problem(404, "connection-unknown");
    for answer in [&made, &other, &unknown, &wrong, &shown, &listed] {
        assert!(!answer.text.contains("xoxb-"), "{}", answer.text);
    }
    let path = "/v1/workflows/people/greets/bindings";
    let text = "document: {dsl: 1.0.3, namespace: people, name: greets, version: 1.0.0, metadata: {bellhop: \
                {connections: {org: {optional: true}}}}}\ndo:\n  - a: {set: {a: 1}}\n";
    world.put("/v1/workflows/people/greets", text).await.ok(201);
    world.put(path, json!({ "org": "acme-hq" }).to_string()).await.ok(200);
    assert_eq!(world.get(path).await.ok(200), json!({ "org": "acme-hq" }));
    assert_eq!(world.call("DELETE", "/v1/connections/acme-hq", &[], "").await.status, 204);
    world.get("/v1/connections/acme-hq").await.problem(404, "connection-unknown");
    world.call("DELETE", "/v1/connections/acme-hq", &[], "").await.problem(404, "connection-unknown");
}

/// A way to a simulated Slack on which nothing passes until the gate is opened. The second tells of each that comes.
struct Held {
    slack: bellhop_simulator::Running,
    address: std::net::SocketAddr,
    gate: Arc<tokio::sync::Semaphore>,
    came: Arc<tokio::sync::Notify>,
}

impl Held {
    async fn start() -> Self {
        let options = bellhop_simulator::Options { budget_scale: 1000.0, ..Default::default() };
        let slack = bellhop_simulator::start(options).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, behind) = (listener.local_addr().unwrap(), slack.address);
        let (gate, came) = (Arc::new(tokio::sync::Semaphore::new(0)), Arc::new(tokio::sync::Notify::new()));
        let (waits, tells) = (gate.clone(), came.clone());
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let (waits, tells) = (waits.clone(), tells.clone());
                tokio::spawn(async move {
                    tells.notify_one();
                    let _open = waits.acquire().await.unwrap();
                    let mut to = tokio::net::TcpStream::connect(behind).await.unwrap();
                    // Either side may go at any time.
                    let _gone = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                });
            }
        });
        Self { slack, address, gate, came }
    }
}

fn broken(token: &str) -> engine::setup::connections::New {
    use bellhop_core::requirement::{Kind, Permission, TokenKind};
    engine::setup::connections::New {
        name: "hq".to_owned(),
        kind: Kind::GridWorkspace,
        permission: Permission::Act,
        tokens: [(TokenKind::Bot, bellhop_slack::client::Secret::new(token.to_owned()))].into(),
    }
}

impl World {
    /// Begins to mend what is broken; comes back when Slack has been asked and has not answered.
    async fn mending(&self, held: &Held) -> tokio::task::JoinHandle<bool> {
        let engine = self.engine.clone();
        let mending = tokio::spawn(async move { engine.connections.mend(&engine.services.gateway, NOW).await });
        held.came.notified().await;
        mending
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_removed_while_slack_was_asked_is_not_made() {
    let held = Held::start().await;
    let world = World::with(Limits::default(), format!("http://{}", held.address)).await;
    world.engine.connections.is_broken(broken("xoxb-hq"), "away".to_owned(), None);
    let mending = world.mending(&held).await;
    assert_eq!(world.call("DELETE", "/v1/connections/hq", &[], "").await.status, 204);
    held.gate.add_permits(64);
    assert!(!mending.await.unwrap());
    world.get("/v1/connections/hq").await.problem(404, "connection-unknown");
    assert_eq!(world.get("/v1/connections").await.ok(200)["result"], json!([]));
    // What nobody removed is mended.
    world.engine.connections.is_broken(broken("xoxb-hq"), "away".to_owned(), None);
    assert!(world.engine.connections.mend(&world.engine.services.gateway, NOW).await);
    assert_eq!(world.get("/v1/connections/hq").await.ok(200)["status"], "ok");
    drop(held.slack);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_replaced_while_slack_was_asked_stays_as_it_was_put() {
    let held = Held::start().await;
    let world = World::with(Limits::default(), format!("http://{}", held.address)).await;
    let reason = || world.engine.connections.broken()["hq"].reason.clone();
    world.engine.connections.is_broken(broken("xoxb-nobody-1234"), "away".to_owned(), None);
    let mending = world.mending(&held).await;
    world.engine.connections.is_broken(broken("xoxb-hq"), "newer".to_owned(), None);
    held.gate.add_permits(64);
    assert!(!mending.await.unwrap());
    assert_eq!(reason(), "newer", "the refusal of an older token says nothing of it");
    world.engine.connections.is_broken(broken("xoxb-nobody-1234"), "away".to_owned(), None);
    assert!(!world.engine.connections.mend(&world.engine.services.gateway, NOW).await);
    assert!(reason().contains("invalid_auth"), "{}", reason());
    drop(held.slack);
}

#[tokio::test]
async fn a_slack_that_does_not_answer_is_no_fault_of_the_token() {
    let world = World::new().await;
    let body = json!({ "name": "a", "kind": "workspace", "tokens": { "bot": "xoxb-1" } });
    let answer = world.post("/v1/connections", &body).await;
    answer.problem(503, "slack-unavailable");
    assert!(!answer.header("retry-after").is_empty());
    assert!(!answer.text.contains("xoxb-"));
    assert_eq!(world.get("/v1/connections").await.ok(200)["result"], json!([]));
}

/// The error that the project is known for, as HTTP gives it.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_installed_and_preflight_refuses_a_lone_grid_account() {
    let (slack, world) = slack().await;
    let wasm = [("content-type", "application/wasm")];
    let installed = world.call("POST", "/v1/plugins?grantAll=true", &wasm, plugin().await).await.ok(201);
    assert_eq!(installed["name"], "slack");
    assert!(installed["grants"].as_array().unwrap().contains(&json!("chat.postMessage")));
    assert_eq!(world.get("/v1/plugins").await.ok(200)["result"][0]["digest"], installed["digest"]);
    let actions = world.get("/v1/actions?plugin=slack&limit=200").await.ok(200);
    let send = actions["result"].as_array().unwrap().iter().find(|a| a["name"] == "message.send").unwrap();
    let method = send["calls"][0]["methods"]
        .as_array()
        .unwrap()
        .iter()
        .find(|m| m["method"] == "chat.postMessage")
        .unwrap_or_else(|| panic!("{send}"));
    assert_eq!(method["connections"]["grid-org"]["available"], false);
    assert!(send["input"]["properties"]["text"].is_object());

    let text = std::fs::read_to_string(
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../workflows/send-notification.yaml"),
    );
    let text = text.unwrap();
    let document = bellhop_core::definition::parse("w", &text).0.unwrap().document.name;
    world
        .post("/v1/connections", &json!({ "name": "acme", "kind": "grid-org", "tokens": { "user": "xoxp-org-admin" } }))
        .await
        .ok(201);
    let path = format!("/v1/workflows/{document}");
    let kept = world.put(&path, text).await.ok(201);
    assert_eq!(kept["warnings"][0]["code"], "plan-required", "{kept}");
    let start = json!({ "input": { "channel": "C0HQGENERAL", "text": "Hello" } });
    let refused = world.post(&format!("{path}/runs"), &start).await.problem(422, "preflight-refused");
    let diagnostic = &refused["diagnostics"][0];
    assert_eq!(diagnostic["code"], "plan-required");
    assert_eq!(diagnostic["needs"]["title"], "Enterprise Grid: Workspace");
    assert_eq!(diagnostic["has"]["title"], "Enterprise Grid: Grid account");
    assert_eq!(diagnostic["remedies"][0]["http"]["path"], "/v1/connections");
    assert!(slack.ledger().is_empty());

    let hq = json!({ "name": "acme-hq", "kind": "grid-workspace", "tokens": { "bot": "xoxb-hq" } });
    world.post("/v1/connections", &hq).await.ok(201);
    let ended = world.post(&format!("{path}/runs?wait=20s"), &start).await.ok(200);
    assert_eq!(ended["status"], "completed", "{ended}");
    assert_eq!(slack.ledger().len(), 1);

    // One action of its own, named in full and by its name alone.
    let key = [("idempotency-key", "k")];
    let body = json!({ "input": { "channel": "C0HQGENERAL", "text": "${ .x }" }, "connection": "acme-hq" }).to_string();
    let once = world.call("POST", "/v1/actions/message.send:1%40slack/runs?wait=20s", &key, body.clone()).await;
    assert_eq!(once.ok(200)["status"], "completed", "{}", once.text);
    assert_eq!(slack.ledger().len(), 2);
    let again = world.call("POST", "/v1/actions/message.send/runs?wait=20s", &key, body.clone()).await;
    assert_eq!((again.ok(200)["id"].clone(), again.header("idempotent-replayed")), (once.json()["id"].clone(), "true"));
    let events = world.get(&format!("/v1/runs/{}/events", once.json()["id"].as_str().unwrap())).await;
    assert!(events.text.contains("event: run.completed"), "{}", events.text);
    let on_acme = json!({ "input": { "channel": "C0HQGENERAL", "text": "x" }, "connection": "acme" });
    let refused = world.post("/v1/actions/message.send/runs", &on_acme).await.problem(422, "preflight-refused");
    assert_eq!(refused["diagnostics"][0]["code"], "plan-required");
    world.post("/v1/actions/message.sned/runs", &on_acme).await.problem(404, "action-unknown");
    world.post("/v1/actions/message.send:1/runs", &on_acme).await.problem(400, "request-invalid");
    world.post("/v1/actions/message.send/runs", &json!({ "input": [] })).await.problem(400, "request-invalid");
    assert_eq!(slack.ledger().len(), 2);
}

/// The clock stands still here: nobody looks again by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_run_begins_as_soon_as_an_operator_has_helped() {
    let (slack, world) = slack().await;
    world
        .call("POST", "/v1/plugins?grantAll=true", &[("content-type", "application/wasm")], plugin().await)
        .await
        .ok(201);
    let text = json!({
        "document": { "dsl": "1.0.3", "namespace": "people", "name": "hello", "version": "1.0.0" },
        "do": [{ "say": { "call": "message.send:1@slack", "with": { "channel": "C0HQIT", "text": "Hello" } } }],
    });
    world.put("/v1/workflows/people/hello", text.to_string()).await.ok(201);
    let runs = "/v1/workflows/people/hello/runs";
    world.post(runs, &json!({ "input": {} })).await.problem(422, "preflight-refused");
    let run = world.post(&format!("{runs}?onRefusal=block"), &json!({ "input": {} })).await.ok(202);
    assert_eq!(run["status"], "blocked", "{run}");
    let id = run["id"].as_str().unwrap();
    // Whoever waits for it is told at once that it waits for somebody.
    assert_eq!(world.get(&format!("/v1/runs/{id}?wait=20s")).await.ok(200)["status"], "blocked");
    let new =
        json!({ "name": "acme-hq", "kind": "grid-workspace", "permission": "act", "tokens": { "bot": "xoxb-hq" } });
    world.post("/v1/connections", &new).await.ok(201);
    world.until(id, "completed").await;
    let posted = slack.requests().iter().filter(|r| r["method"] == "chat.postMessage").count();
    assert!(posted >= 1, "{posted}");
}

/// A connection as a host finds it whose files of tokens are gone: its facts are in the store.
#[tokio::test(flavor = "multi_thread")]
async fn attack_d4_a_connection_without_its_tokens_is_said_to_be_that() {
    use bellhop_core::requirement::TokenKind;
    let (_slack, world) = slack().await;
    let tokens = json!({ "bot": "xoxb-hq", "user": "xoxp-hq-admin" });
    let new = json!({ "name": "hq", "kind": "grid-workspace", "tokens": tokens });
    assert_eq!(world.post("/v1/connections", &new).await.ok(201)["status"], "ok");
    assert!(world.get("/readyz").await.ok(200).get("connections_broken").is_none());
    let gateway = &world.engine.services.gateway;
    let whole = gateway.connection("hq").unwrap();
    for (kept, says) in [
        (vec![], "it has no token"),
        (vec![TokenKind::User], "its bot token is not there any more"),
        (vec![TokenKind::Bot], "its user token is not there any more"),
    ] {
        let tokens = whole.tokens.iter().filter(|(kind, _)| kept.contains(*kind));
        let tokens = tokens.map(|(kind, token)| (*kind, token.clone())).collect();
        gateway.put(Connected { facts: whole.facts.clone(), actors: std::collections::BTreeMap::new(), tokens });
        for body in [
            world.get("/v1/connections/hq").await.ok(200),
            world.get("/v1/connections").await.ok(200)["result"][0].clone(),
        ] {
            assert_eq!(body["status"], "broken", "{body}");
            assert!(body["reason"].as_str().unwrap().contains(says), "{body}");
        }
        assert_eq!(world.get("/readyz").await.ok(200)["connections_broken"], 1);
        let problem = world.post("/v1/connections/hq/test", &json!({})).await.problem(422, "connection-refused");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
        // Nor does preflight count on what is not there.
        let held: Vec<TokenKind> = gateway.connection("hq").unwrap().usable().tokens.keys().copied().collect();
        assert_eq!(held, kept);
    }
    let mut facts = whole.facts.clone();
    facts.checked_at = None;
    gateway.put(Connected { facts, actors: std::collections::BTreeMap::new(), tokens: whole.tokens.clone() });
    assert_eq!(world.get("/v1/connections/hq").await.ok(200)["status"], "unasked");
    assert_eq!(world.post("/v1/connections/hq/test", &json!({})).await.ok(200)["status"], "ok");
    assert!(world.get("/readyz").await.ok(200).get("connections_broken").is_none());
}
