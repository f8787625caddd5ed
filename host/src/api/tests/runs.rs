//! Starting runs, once, and what an operator does to them.

use super::*;

const GREET: &str = "/v1/workflows/people/greeter/runs";
const SLEEP: &str = "/v1/workflows/people/sleeper/runs";

#[tokio::test]
async fn a_run_is_accepted_and_ends() {
    let world = World::with_workflows().await;
    let body = json!({ "input": { "name": "Ada" }, "labels": { "ticket": "HR-9" } });
    let answer = world.post(GREET, &body).await;
    let accepted = answer.ok(202);
    let id = accepted["id"].as_str().unwrap();
    assert_eq!(answer.header("location"), format!("/v1/runs/{id}"));
    assert_eq!(
        accepted,
        json!({
            "id": id, "status": "running", "workflow": "people/greeter", "version": "1.0.0",
            "waiting": null, "output": null, "error": null,
            "labels": { "ticket": "HR-9" }, "startedAt": "2026-01-05T08:00:00.000Z", "endedAt": null,
            "reason": null, "undone": null, "left": null, "superseded_by": null, "by": null,
            "links": {
                "self": format!("/v1/runs/{id}"),
                "events": format!("/v1/runs/{id}/events"),
                "cancel": format!("/v1/runs/{id}/cancel"),
            },
        })
    );
    let view = world.until(id, "completed").await;
    assert_eq!(view["output"], json!({ "greeting": "Hello Ada" }));
    let mut fields: Vec<&String> = view.as_object().unwrap().keys().collect();
    let mut accepted: Vec<&String> = accepted.as_object().unwrap().keys().collect();
    fields.sort();
    accepted.sort();
    assert_eq!(fields, accepted, "a run looks the same wherever it is shown");
}

#[tokio::test]
async fn a_caller_can_wait() {
    let world = World::with_workflows().await;
    let body = json!({ "input": { "name": "Ada" } });
    let answer = world.post(&format!("{GREET}?wait=20s"), &body).await;
    assert_eq!(answer.ok(200)["output"]["greeting"], "Hello Ada");
    assert!(answer.header("location").starts_with("/v1/runs/run_"));

    let request = world.request("POST", &format!("{SLEEP}?wait=20s"), &[], body.to_string());
    let router = world.router.clone();
    let asked = tokio::spawn(async move { read(router.oneshot(request).await.unwrap()).await });
    while !asked.is_finished() {
        world.clock.advance(SECOND);
        tokio::task::yield_now().await;
    }
    let waiting = asked.await.unwrap().ok(202);
    assert_eq!(waiting["status"], "waiting");
    assert_eq!(waiting["waiting"]["on"], "time");

    // The server's end is no reason to keep a caller.
    let id = waiting["id"].as_str().unwrap();
    let request = world.request("GET", &format!("/v1/runs/{id}?wait=60s"), &[], "");
    let router = world.router.clone();
    let asked = tokio::spawn(async move { read(router.oneshot(request).await.unwrap()).await });
    world.app.stopping.send_replace(true);
    assert_eq!(asked.await.unwrap().ok(200)["status"], "waiting");
}

#[tokio::test]
async fn a_key_starts_one_run() {
    let world = World::with_workflows().await;
    let body = json!({ "input": { "name": "Ada" } }).to_string();
    let key = [("idempotency-key", "hire-4711")];
    let first = world.call("POST", GREET, &key, body.clone()).await;
    assert_eq!(first.header("idempotent-replayed"), "");
    let id = first.ok(202)["id"].as_str().unwrap().to_owned();
    world.until(&id, "completed").await;
    let again = world.call("POST", GREET, &key, body.clone()).await;
    assert_eq!(again.ok(202)["id"], id, "with the first answer's code");
    assert_eq!(again.ok(202)["status"], "completed", "attack_b16: the run as it is now");
    assert_eq!(again.header("idempotent-replayed"), "true");
    let waited = world.call("POST", &format!("{GREET}?wait=1s"), &key, body).await;
    assert_eq!((waited.ok(200)["id"].as_str(), waited.header("idempotent-replayed")), (Some(id.as_str()), "true"));
    let other = json!({ "input": { "name": "Grace" } }).to_string();
    let reused = world.call("POST", GREET, &key, other.clone()).await.problem(422, "idempotency-key-reused");
    assert_eq!(reused["run"], id);
    // Another workflow, another scope.
    world.call("POST", SLEEP, &key, other).await.ok(202);
    assert_eq!(world.get("/v1/runs").await.ok(200)["result"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn only_an_acceptance_binds_a_key() {
    let world = World::with_workflows().await;
    let key = [("idempotency-key", "k")];
    let wrong = json!({ "input": { "nmae": "Ada" } }).to_string();
    let problem = world.call("POST", GREET, &key, wrong).await.problem(422, "input-invalid");
    let pointers: Vec<&str> =
        problem["diagnostics"].as_array().unwrap().iter().map(|d| d["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointers.len(), 2, "{problem}");
    let right = json!({ "input": { "name": "Ada" } }).to_string();
    let answer = world.call("POST", GREET, &key, right).await;
    assert_eq!(answer.header("idempotent-replayed"), "");
    answer.ok(202);
}

#[tokio::test]
async fn a_version_is_chosen() {
    let world = World::with_workflows().await;
    world.put("/v1/workflows/people/greeter", GREETER.replace("1.0.0", "1.1.0").replace("Hello", "Hi")).await.ok(201);
    let asked = |version: Value| {
        let body = json!({ "input": { "name": "Ada" }, "version": version }).to_string();
        world.call("POST", "/v1/workflows/people/greeter/runs?wait=1s", &[], body)
    };
    assert_eq!(asked(Value::Null).await.ok(200)["output"]["greeting"], "Hi Ada");
    assert_eq!(asked(json!("1.0.0")).await.ok(200)["output"]["greeting"], "Hello Ada");
    asked(json!("2.0.0")).await.problem(404, "workflow-unknown");
}

#[tokio::test]
async fn runs_are_listed_newest_first_in_pages() {
    let world = World::with_workflows().await;
    let mut ids = Vec::new();
    for n in 0..7 {
        world.clock.advance(SECOND);
        let (path, label) = if n % 2 == 0 { (GREET, "even") } else { (SLEEP, "odd") };
        let body = json!({ "input": { "name": "Ada" }, "labels": { "n": label, "all": "yes" } });
        let id = world.post(path, &body).await.ok(202)["id"].as_str().unwrap().to_owned();
        world.until(&id, if n % 2 == 0 { "completed" } else { "waiting" }).await;
        ids.insert(0, id);
    }
    let mut seen = Vec::new();
    let mut path = "/v1/runs?limit=3".to_owned();
    loop {
        let page = world.get(&path).await.ok(200);
        let page_ids = page["result"].as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap().to_owned());
        seen.extend(page_ids);
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/runs?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, ids);
    let count = |path: &'static str| {
        let world = &world;
        async move { world.get(path).await.ok(200)["result"].as_array().unwrap().len() }
    };
    assert_eq!(count("/v1/runs?status=waiting").await, 3);
    assert_eq!(count("/v1/runs?status=waiting,completed").await, 7);
    assert_eq!(count("/v1/runs?workflow=people/greeter").await, 4);
    assert_eq!(count("/v1/runs?workflow=people/nobody").await, 0);
    assert_eq!(count("/v1/runs?label=n:odd&label=all:yes").await, 3);
    assert_eq!(count("/v1/runs?label=n:odd&status=completed").await, 0);
}

#[tokio::test]
async fn a_cursor_leads_nowhere_else() {
    let world = World::new().await;
    // The key of a token's record, as a cursor.
    let cursor: String = b"k\0".iter().map(|b| format!("{b:02x}")).collect();
    world.get(&format!("/v1/runs?cursor={cursor}")).await.problem(400, "request-invalid");
    let cursor: String = b"l".iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(world.get(&format!("/v1/runs?cursor={cursor}")).await.ok(200)["result"], json!([]));
}

#[tokio::test]
async fn an_operator_stops_and_goes_on() {
    let world = World::with_workflows().await;
    let id = world.start("people/sleeper", json!({ "name": "Ada" })).await;
    world.until(&id, "waiting").await;
    let act = |verb: &str| {
        let path = format!("/v1/runs/{id}/{verb}");
        let world = &world;
        async move { world.call("POST", &path, &[], "").await }
    };
    let settled = |body: Value| {
        let path = format!("/v1/runs/{id}/resolve");
        let world = &world;
        async move { world.post(&path, &body).await }
    };
    let conflict = settled(json!({ "done": true })).await.problem(409, "run-not-parked");
    assert_eq!(conflict["run"]["status"], "waiting");
    settled(json!({ "done": "yes" })).await.problem(400, "request-invalid");
    settled(json!({ "task": "/do/0" })).await.problem(400, "request-invalid");
    settled(json!({ "done": false, "answer": {} })).await.problem(400, "request-invalid");
    let conflict = act("resume").await.problem(409, "run-not-suspended");
    assert_eq!(conflict["run"]["status"], "waiting", "with the present state");
    assert_eq!(act("suspend").await.ok(200)["status"], "suspended");
    assert_eq!(act("suspend").await.ok(200)["status"], "suspended");
    world.clock.advance(Duration::from_secs(2 * 86_400));
    assert_eq!(world.get(&format!("/v1/runs/{id}")).await.ok(200)["status"], "suspended");
    act("resume").await.ok(200);
    assert_eq!(world.until(&id, "completed").await["output"], json!({ "done": "Ada" }));
    settled(json!({ "done": true })).await.problem(409, "run-ended");
    for verb in ["cancel", "suspend", "resume"] {
        assert_eq!(act(verb).await.problem(409, "run-ended")["run"]["status"], "completed");
    }

    let id = world.start("people/sleeper", json!({ "name": "Ada" })).await;
    world.until(&id, "waiting").await;
    let path = format!("/v1/runs/{id}/cancel");
    assert_eq!(world.post(&path, &json!({})).await.ok(200)["status"], "cancelled");
    assert_eq!(world.post(&path, &json!({})).await.ok(200)["status"], "cancelled");
    world.post(&path, &json!({ "forced": true })).await.problem(400, "request-invalid");
}

#[tokio::test]
async fn nothing_begins_while_the_host_starts_or_stops() {
    let world = World::not_started(Limits::default(), "http://127.0.0.1:9".to_owned()).await;
    world.apply().await;
    let body = json!({ "input": { "name": "Ada" } });
    let answer = world.post(GREET, &body).await;
    answer.problem(503, "not-ready");
    assert_eq!(answer.header("retry-after"), "1");
    world.get("/readyz").await.problem(503, "not-ready");
    world.get("/healthz").await.ok(200);
    world.engine.start().await.unwrap();
    world.get("/readyz").await.ok(200);
    world.post(GREET, &body).await.ok(202);
    world.engine.services.drain.send_replace(true);
    let answer = world.post(GREET, &body).await;
    answer.problem(503, "draining");
    assert!(!answer.header("retry-after").is_empty());
    world.get("/readyz").await.problem(503, "draining");
}

#[tokio::test]
async fn a_key_of_the_definition_is_answered_and_a_higher_revision_begins() {
    let world = World::new().await;
    let text = SLEEPER.replace(
        "version: 1.0.0}",
        "version: 1.0.0, metadata: {bellhop: {idempotencyKey: {key: .id, revision: .revision}}}}",
    );
    world.put("/v1/workflows/people/sleeper", text).await.ok(201);
    let path = "/v1/workflows/people/sleeper/runs";
    let send = async |revision: u64| {
        world.post(path, &json!({ "input": { "id": "hire-1", "revision": revision, "name": "Ada" } })).await
    };
    let first = send(1).await;
    assert_eq!(first.header("idempotent-replayed"), "");
    let first = first.ok(202);
    let again = send(1).await;
    assert_eq!(again.header("idempotent-replayed"), "true");
    assert_eq!(again.ok(202)["id"], first["id"]);
    let second = send(2).await;
    assert_eq!(second.header("idempotent-replayed"), "");
    let second = second.ok(202);
    assert_ne!(second["id"], first["id"]);
    let older = world.until(first["id"].as_str().unwrap(), "cancelled").await;
    assert_eq!(
        (&older["reason"], &older["superseded_by"]),
        (&json!("superseded"), &second["id"]),
        "attack_b5: {older}"
    );
    assert!(older["by"].as_str().unwrap().starts_with("test (tok_"), "who started the newer one: {older}");
    world.until(second["id"].as_str().unwrap(), "waiting").await;
    let late = send(1).await;
    assert_eq!(late.header("idempotent-replayed"), "true");
    assert_eq!(late.ok(202)["id"], second["id"]);
    world.post(path, &json!({ "input": { "id": "hire-1", "name": "Ada" } })).await.problem(422, "input-invalid");
    // Who wanted what is on record.
    let run = second["id"].as_str().unwrap();
    world.post(&format!("/v1/runs/{run}/cancel"), &json!({})).await.ok(200);
    let events = world.call("GET", &format!("/v1/runs/{run}/events"), &[("accept", "application/json")], "").await;
    let events = events.ok(200)["result"].clone();
    assert!(events[0]["data"]["by"].as_str().unwrap().starts_with("test (tok_"), "{}", events[0]);
    let asked = events.as_array().unwrap().iter().find(|event| event["type"] == "run.asked").unwrap();
    assert_eq!(asked["data"]["for"], "for it to end");
    assert!(asked["data"]["by"].as_str().unwrap().starts_with("test (tok_"), "{asked}");
}

/// The events of a run, by kind.
async fn kinds(world: &World, run: &str) -> Vec<String> {
    let path = format!("/v1/runs/{run}/events");
    let events = world.call("GET", &path, &[("accept", "application/json")], "").await.ok(200);
    events["result"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn attack_b6_what_changes_nothing_is_not_on_record() {
    let world = World::with_workflows().await;
    let id = world.start("people/sleeper", json!({ "name": "Ada" })).await;
    world.until(&id, "waiting").await;
    let act = async |verb: &str| world.call("POST", &format!("/v1/runs/{id}/{verb}"), &[], "").await;
    act("suspend").await.ok(200);
    let suspended = kinds(&world, &id).await;
    for _ in 0..30 {
        act("suspend").await.ok(200);
        act("retry").await.problem(409, "run-not-retryable");
        act("undo").await.problem(409, "run-not-undoable");
    }
    assert_eq!(kinds(&world, &id).await, suspended);
    act("resume").await.ok(200);
    act("cancel").await.ok(200);
    let ended = kinds(&world, &id).await;
    assert_eq!(ended.iter().filter(|kind| *kind == "run.asked").count(), 3, "{ended:?}");
    assert_eq!(ended.last().unwrap(), "run.cancelled");
    for verb in ["undo", "retry", "cancel", "suspend", "resume"] {
        for _ in 0..30 {
            act(verb).await;
        }
    }
    assert_eq!(kinds(&world, &id).await, ended, "nothing comes after the end");
}

#[tokio::test]
async fn attack_b7_who_operates_runs_does_not_read_them() {
    let world = World::with_workflows().await;
    let token = world.token_with(&["runs:operate"]).await;
    let bearer = format!("Bearer {token}");
    let body = json!({ "input": { "name": "Ada" }, "labels": { "secret": "label" } });
    let ended = world.post(GREET, &body).await.ok(202)["id"].as_str().unwrap().to_owned();
    world.until(&ended, "completed").await;
    let open = world.post(SLEEP, &body).await.ok(202)["id"].as_str().unwrap().to_owned();
    world.until(&open, "waiting").await;
    let shown = |run: &Value| {
        let mut fields: Vec<String> = run.as_object().unwrap().keys().cloned().collect();
        fields.sort();
        fields
    };
    for (run, verb, body) in [
        (&ended, "suspend", json!({})),
        (&ended, "cancel", json!({})),
        (&ended, "resume", json!({})),
        (&ended, "retry", json!({})),
        (&ended, "retry", json!({ "version": "1.0.0" })),
        (&ended, "undo", json!({})),
        (&ended, "resolve", json!({ "done": true })),
        (&open, "resume", json!({})),
        (&open, "retry", json!({})),
        (&open, "undo", json!({})),
        (&open, "resolve", json!({ "done": true })),
    ] {
        let path = format!("/v1/runs/{run}/{verb}");
        let answer = world.call("POST", &path, &[("authorization", &bearer)], body.to_string()).await;
        assert_eq!(answer.status, 409, "{verb}: {}", answer.text);
        assert_eq!(shown(&answer.json()["run"]), ["id", "links", "status"], "{verb}");
        assert!(!answer.text.contains("Ada") && !answer.text.contains("label"), "{verb}: {}", answer.text);
        let reader = world.post(&path, &body).await.json();
        assert!(reader["run"].get("labels").is_some(), "who may read still does: {reader}");
    }
    let path = format!("/v1/runs/{open}/cancel");
    let cancelled = world.call("POST", &path, &[("authorization", &bearer)], "").await.ok(200);
    assert_eq!(shown(&cancelled), ["id", "links", "status"], "{cancelled}");
}

/// A run that ended long ago, straight into the store.
fn ended_before(world: &World, n: u64, write: &mut crate::journal::Write) {
    use crate::journal::{Summary, key};
    let at = Timestamp::from_millis(NOW.as_millis() - 1_000 * (n + 1));
    let run = bellhop_core::id::RunId::new(at, world.engine.services.entropy.next_wide());
    let (namespace, name) = ("people".to_owned(), "greeter".to_owned());
    let summary = Summary {
        labels: [("n".to_owned(), n.to_string())].into(),
        ended_at: Some(at),
        ..Summary::new(bellhop_core::run::Status::Completed, namespace, name, "1.0.0".to_owned(), at)
    };
    write.put(&key::summary(run), &summary).unwrap();
    write.put(&key::listing(at, run), &Value::Null).unwrap();
}

#[tokio::test]
async fn attack_b9_what_a_filter_finds_late_is_found() {
    let limits = Limits { list_looked_max: 21_000, ..Limits::default() };
    let world = World::with(limits, "http://127.0.0.1:9".to_owned()).await;
    let fill = |from: u64, to: u64| {
        for first in (from..to).step_by(1_000) {
            let mut write = crate::journal::Write::new();
            (first..first + 1_000).for_each(|n| ended_before(&world, n, &mut write));
            world.engine.services.journal.commit(write).unwrap();
        }
    };
    fill(0, 20_000);
    let page = world.get("/v1/runs?label=n:19999").await.ok(200);
    assert_eq!(page["result"].as_array().unwrap().len(), 1, "{page}");
    assert_eq!(page["next_cursor"], Value::Null, "and there is nothing behind it");
    let page = world.get("/v1/runs?label=n:19999&label=m:1").await.ok(200);
    assert_eq!(page, json!({ "result": [], "next_cursor": null }));
    let page = world.get("/v1/runs?label=n:19998&limit=1").await.ok(200);
    assert_eq!(page["result"].as_array().unwrap().len(), 1, "{page}");
    // Beyond the bound a page ends as it is, and leads on.
    fill(20_000, 43_000);
    let (mut path, mut found, mut pages) = ("/v1/runs?label=n:42999".to_owned(), 0, 0);
    loop {
        let page = world.get(&path).await.ok(200);
        (found, pages) = (found + page["result"].as_array().unwrap().len(), pages + 1);
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/runs?label=n:42999&cursor={cursor}");
    }
    assert_eq!((found, pages), (1, 3));
}
