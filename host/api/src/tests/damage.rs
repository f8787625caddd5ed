//! A disk without room, and records of no run that cannot be read.

use super::*;
use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;
use bellhop_journal::key::{self, Key};
use bellhop_journal::store::{Batch, Lack, Store as _};

const NOWHERE: &str = "http://127.0.0.1:9";

async fn over(store: &Arc<Memory>) -> World {
    let world = World::on(store.clone(), Limits::default(), NOWHERE.to_owned()).await;
    world.engine.start().await.unwrap();
    world
}

#[tokio::test]
async fn attack_a_full_disk_refuses_what_would_begin_and_lets_the_rest_go_on() {
    let store = Arc::new(Memory::new());
    let world = over(&store).await;
    world.apply().await;
    let run = world.start("people/sleeper", json!({ "name": "Ada" })).await;
    store.lacks(Some(Lack { free: 5, wanted: 10 }));
    let path = "/v1/workflows/people/greeter/runs";
    let body = json!({ "input": { "name": "Ada" } });
    let refused = world.post(path, &body).await;
    refused.problem(503, "disk-full");
    assert_eq!(refused.header("retry-after"), "30");
    assert_eq!(world.get("/v1/runs").await.ok(200)["result"].as_array().unwrap().len(), 1);
    let later = GREETER.replace("version: 1.0.0", "version: 1.0.1");
    world.put("/v1/workflows/people/greeter", later).await.problem(503, "disk-full");
    let ready = world.get("/readyz").await;
    ready.problem(503, "disk-full");
    assert_eq!(ready.header("retry-after"), "30");
    world.get("/healthz").await.ok(200);
    assert!(world.get("/metrics").await.text.contains("bellhop_disk_lacks_room 1"));
    // What is there is read, and what people end is ended.
    world.get(&format!("/v1/runs/{run}")).await.ok(200);
    world.post(&format!("/v1/runs/{run}/cancel"), &json!({})).await.ok(200);
    world.until(&run, "cancelled").await;
    store.lacks(None);
    world.get("/readyz").await.ok(200);
    world.post(path, &body).await.ok(202);
}

#[tokio::test]
async fn attack_a_host_that_starts_on_a_full_disk_becomes_ready_when_there_is_room() {
    let store = Arc::new(Memory::new());
    over(&store).await.apply().await;
    let store = Arc::new(store.crash(0));
    store.lacks(Some(Lack { free: 5, wanted: 10 }));
    let world = World::on(store.clone(), Limits::default(), NOWHERE.to_owned()).await;
    world.get("/readyz").await.problem(503, "disk-full");
    world.engine.start().await.unwrap();
    world.get("/readyz").await.problem(503, "disk-full");
    world.get("/v1/workflows").await.ok(200);
    store.lacks(None);
    world.get("/readyz").await.ok(200);
    world.start("people/greeter", json!({ "name": "Ada" })).await;
}

fn damage(store: &Memory, key: &Key) {
    let mut batch = Batch::new();
    batch.put(key.bytes(), b"this was never written".as_slice());
    store.commit(batch).unwrap();
}

/// Damages `key` in a store with both workflows, a table and a bound idempotency key, and starts a host over it.
async fn with_damaged(key: impl FnOnce(&str) -> Key) -> (World, String) {
    let store = Arc::new(Memory::new());
    let before = over(&store).await;
    before.apply().await;
    let table = json!({ "columns": { "name": "text" }, "rows": { "a": { "name": "x" } } });
    before.call("PUT", "/v1/tables/teams", &[], table.to_string()).await.ok(200);
    let body = json!({ "input": { "name": "Ada" } }).to_string();
    let path = "/v1/workflows/people/greeter/runs";
    before.call("POST", path, &[("idempotency-key", "once")], body).await.ok(202);
    let other = before.token_with(&["runs:read"]).await;
    let store = Arc::new(store.crash(0));
    damage(&store, &key(&other));
    (over(&store).await, other)
}

/// The host serves what does not need the damaged fact, and says that there is one.
async fn goes_on(world: &World, kind: &str) {
    let ready = world.get("/readyz").await.ok(200);
    assert_eq!(ready["damaged"][0]["code"], "storage-damaged", "{kind}: {ready}");
    assert_eq!(ready["damaged"][0]["kind"], kind, "{ready}");
    world.get("/healthz").await.ok(200);
    let run = world.start("people/sleeper", json!({ "name": "Ada" })).await;
    world.until(&run, "waiting").await;
    for list in ["/v1/workflows", "/v1/tables", "/v1/tokens", "/v1/connections", "/v1/plugins", "/v1/runs"] {
        world.get(list).await.ok(200);
    }
    assert_eq!(*world.engine.services.fatal.borrow(), None);
}

const STARTS: &str = "/v1/workflows/people/greeter/runs";

#[tokio::test]
async fn a_damaged_workflow_is_refused_by_its_name_and_can_be_put_anew() {
    for key in [key::workflow_current("people", "greeter"), key::workflow("people", "greeter", "1.0.0")] {
        let (world, _) = with_damaged(|_| key).await;
        goes_on(&world, "workflow").await;
        let refused = world.post(STARTS, &json!({ "input": { "name": "Ada" } })).await.problem(500, "storage-damaged");
        assert!(refused["fact"].as_str().unwrap().contains("people/greeter"), "{refused}");
        assert!(world.put("/v1/workflows/people/greeter", GREETER).await.status < 300);
        world.start("people/greeter", json!({ "name": "Ada" })).await;
        assert_eq!(world.get("/readyz").await.ok(200), json!({ "status": "ready" }));
    }
    let digest = Digest::of(GREETER.as_bytes());
    let (world, _) = with_damaged(|_| key::blob(digest)).await;
    world.post(STARTS, &json!({ "input": { "name": "Ada" } })).await.problem(500, "storage-damaged");
    assert!(world.put("/v1/workflows/people/greeter", GREETER).await.status < 300);
    world.start("people/greeter", json!({ "name": "Ada" })).await;
}

#[tokio::test]
async fn damaged_bindings_a_table_and_an_idempotency_key_refuse_what_needs_them() {
    let (world, _) = with_damaged(|_| key::bindings("people", "greeter")).await;
    goes_on(&world, "bindings").await;
    world.post(STARTS, &json!({ "input": { "name": "Ada" } })).await.problem(500, "storage-damaged");
    world.put("/v1/workflows/people/greeter/bindings", "{}").await.ok(200);
    world.start("people/greeter", json!({ "name": "Ada" })).await;

    let (world, _) = with_damaged(|_| key::table_current("teams")).await;
    goes_on(&world, "table").await;
    world.get("/v1/tables/teams").await.problem(500, "storage-damaged");
    let table = json!({ "columns": { "name": "text" }, "rows": { "a": { "name": "y" } } });
    assert!(world.put("/v1/tables/teams", table.to_string()).await.status < 300);
    world.get("/v1/tables/teams").await.ok(200);

    let (world, _) = with_damaged(|_| key::idempotency("people", "greeter", "once")).await;
    let body = json!({ "input": { "name": "Ada" } }).to_string();
    let again = world.call("POST", STARTS, &[("idempotency-key", "once")], body.clone()).await;
    again.problem(500, "storage-damaged");
    world.call("POST", STARTS, &[("idempotency-key", "another")], body).await.ok(202);
    goes_on(&world, "idempotency-key").await;
}

#[tokio::test]
async fn a_damaged_token_opens_nothing_and_the_others_go_on() {
    let (world, token) = with_damaged(|token| key::token(Digest::of(token.as_bytes()))).await;
    goes_on(&world, "token").await;
    let bearer = format!("Bearer {token}");
    world.call("GET", "/v1/runs", &[("authorization", &bearer)], "").await.problem(500, "storage-damaged");
}

#[tokio::test]
async fn a_damaged_connection_or_plugin_is_named_where_it_is_missed() {
    let (world, _) = with_damaged(|_| key::connection("hq")).await;
    goes_on(&world, "connection").await;
    world.get("/v1/connections/hq").await.problem(500, "storage-damaged");
    for (key, kind) in [(key::plugin("slack", "1.0.0"), "plugin"), (key::grant("slack", "1.0.0"), "grant")] {
        let (world, _) = with_damaged(|_| key).await;
        goes_on(&world, kind).await;
        let caller = "document: {dsl: '1.0.3', namespace: people, name: caller, version: 1.0.0}\ndo:\n  - say: {call: 'message.send:1@slack', with: {channel: C1, text: Hi}}\n";
        world.put("/v1/workflows/people/caller", caller).await.ok(201);
        let refused = world.post("/v1/workflows/people/caller/runs", &json!({ "input": {} })).await;
        let refused = refused.problem(422, "preflight-refused");
        assert!(refused["diagnostics"].to_string().contains("storage-damaged"), "{refused}");
    }
}

#[tokio::test]
async fn damage_that_nobody_needs_keeps_nothing_from_starting() {
    let run = RunId::new(NOW, 7);
    for (key, kind) in [
        (key::limiter("some-bucket"), "rate-limit"),
        (key::notice(run, 1), "notice"),
        (key::host("runs-kept-ms"), "host"),
    ] {
        let (world, _) = with_damaged(|_| key).await;
        goes_on(&world, kind).await;
    }
    // It is written anew at each start.
    let (world, _) = with_damaged(|_| key::host("lives")).await;
    assert_eq!(world.get("/readyz").await.ok(200), json!({ "status": "ready" }));
    // Of a run that is none any more: it is woken, and is not there.
    let (world, _) = with_damaged(|_| key::timer(NOW, run, 0)).await;
    world.get("/readyz").await.ok(200);
    let (world, _) = with_damaged(|_| key::expiry(NOW, &key::summary(run))).await;
    world.engine.sweep().await.unwrap();
    let (world, _) = with_damaged(|_| key::open(run)).await;
    world.start("people/greeter", json!({ "name": "Ada" })).await;
}
