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
            "waiting": null, "open": [], "openMore": 0, "output": null, "error": null,
            "labels": { "ticket": "HR-9" }, "startedAt": "2026-01-05T08:00:00.000Z", "endedAt": null,
            "reason": null, "undone": null, "left": null, "superseded_by": null, "by": null,
            "trace_id": accepted["trace_id"],
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

#[tokio::test]
async fn attack_d21_who_only_starts_runs_reads_none() {
    let world = World::with_workflows().await;
    let keyed = GREETER
        .replace("greeter", "keyed")
        .replace("version: 1.0.0}", "version: 1.0.0, metadata: {bellhop: {idempotencyKey: .name}}}");
    assert!(keyed.contains("idempotencyKey"), "{keyed}");
    world.put("/v1/workflows/people/keyed", keyed).await.ok(201);
    let keyed = "/v1/workflows/people/keyed/runs";
    let token = world.token_with(&["runs:start:people/greeter", "runs:start:people/keyed"]).await;
    let bearer = format!("Bearer {token}");
    let body = json!({ "input": { "name": "Ada" }, "labels": { "ticket": "hidden" } }).to_string();
    let other = json!({ "input": { "name": "Grace" } }).to_string();
    let key = ("idempotency-key", "hire-4711");
    for path in [GREET, keyed] {
        let first = world.call("POST", path, &[key], body.clone()).await;
        let id = first.ok(202)["id"].as_str().unwrap().to_owned();
        world.until(&id, "completed").await;
        for path in [path.to_owned(), format!("{path}?wait=1s")] {
            // By the caller's own key, and on that of the definition by no key at all.
            let again = world.call("POST", &path, &[("authorization", &bearer), key], body.clone()).await;
            assert_eq!((again.status / 100, again.header("idempotent-replayed")), (2, "true"), "{path}");
            let shown = again.json();
            let mut fields: Vec<&String> = shown.as_object().unwrap().keys().collect();
            fields.sort();
            assert_eq!(fields, ["id", "links", "status"], "{path}: {shown}");
            assert_eq!((&shown["id"], &shown["status"]), (&json!(id), &json!("completed")));
            assert!(!again.text.contains("Ada") && !again.text.contains("hidden"), "{path}: {}", again.text);
        }
        // With another body the run is named, and nothing of it is said.
        let reused = world.call("POST", path, &[("authorization", &bearer), key], other.clone()).await;
        reused.problem(422, "idempotency-key-reused");
        assert!(!reused.text.contains("Ada") && !reused.text.contains("hidden"), "{}", reused.text);
        // Who may read has all of it.
        let reader = world.call("POST", path, &[key], body.clone()).await.ok(202);
        assert_eq!(reader["output"]["greeting"], "Hello Ada");
    }
    // One that the caller itself starts is no other's, and what it gives is read all the same by those who may.
    let path = format!("{GREET}?wait=20s");
    let own = world.call("POST", &path, &[("authorization", &bearer)], other).await.ok(200);
    assert_eq!((own["status"].as_str(), own.get("output")), (Some("completed"), None), "{own}");
}

/// A run that ended long ago, straight into the store.
fn ended_before(world: &World, n: u64, write: &mut bellhop_journal::Write) {
    use bellhop_journal::{Summary, key};
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
            let mut write = bellhop_journal::Write::new();
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

#[tokio::test]
async fn attack_d23_a_page_has_no_more_bytes_than_it_may_have_and_leads_on() {
    let limits = Limits { list_bytes_max: 50_000, ..Limits::default() };
    let world = World::with(limits, "http://127.0.0.1:9".to_owned()).await;
    world.put("/v1/workflows/people/greeter", GREETER).await.ok(201);
    world.put("/v1/workflows/people/large", GREETER.replace("greeter", "large")).await.ok(201);
    let mut ids = std::collections::BTreeSet::new();
    for n in 0..20 {
        world.clock.advance(SECOND);
        // What it gives stands for itself, or in the summary.
        let (name, length) = if n % 4 == 0 { ("large", 30_000) } else { ("greeter", 9_000) };
        let body = json!({ "input": { "name": "x".repeat(length) }, "labels": { "long": "x".repeat(250) } });
        let run = world.post(&format!("/v1/workflows/people/{name}/runs"), &body).await.ok(202);
        let id = run["id"].as_str().unwrap().to_owned();
        world.until(&id, "completed").await;
        ids.insert(id);
    }
    let (mut seen, mut pages, mut cut) = (Vec::new(), 0, 0);
    let mut path = "/v1/runs?limit=200".to_owned();
    loop {
        let answer = world.get(&path).await;
        let page = answer.ok(200);
        pages += 1;
        // The last item may go beyond it.
        assert!(answer.text.len() < 50_000 + 20_000, "{} bytes", answer.text.len());
        for run in page["result"].as_array().unwrap() {
            if run["workflow"] == "people/large" {
                assert_eq!((&run["output"], &run["cut"]), (&Value::Null, &json!(["output"])), "{run}");
                cut += 1;
            } else {
                assert!(run["output"]["greeting"].is_string() && run.get("cut").is_none(), "{run}");
            }
            seen.push(run["id"].as_str().unwrap().to_owned());
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/runs?limit=200&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!((seen.len(), cut), (20, 5));
    assert!(pages > 2, "{pages} pages");
    assert_eq!(seen.iter().cloned().collect::<std::collections::BTreeSet<String>>(), ids);
    let whole = world.get(&format!("/v1/runs/{}", seen[3])).await.ok(200);
    assert!(whole["output"]["greeting"].is_string() && whole.get("cut").is_none(), "the run itself has all of it");
    // Of events likewise, one at least on each page.
    let (mut after, mut events) = ("0".to_owned(), 0);
    let mut pages = 0;
    while let Some(next) = {
        let path = format!("/v1/runs/{}/events?after={after}&limit=200", seen[3]);
        let answer = world.call("GET", &path, &[("accept", "application/json")], "").await;
        let page = answer.ok(200);
        assert!(answer.text.len() < 50_000 + 130_000, "{} bytes", answer.text.len());
        (events, pages) = (events + page["result"].as_array().unwrap().len(), pages + 1);
        page["next_cursor"].as_str().map(str::to_owned)
    } {
        after = next;
    }
    assert!(events >= 4 && pages > 1, "{events} events on {pages} pages");
}

const HALTS: &str = "\
document: {dsl: '1.0.3', namespace: people, name: halts, version: 1.0.0, metadata: {bellhop: {onFault: {rollback: completed}}}}
do:
  - done: {set: {a: 1}, metadata: {bellhop: {noRollbackAfter: true}}}
  - fail: {raise: {error: {type: 'https://example.com/errors/wrong', status: 400}}}
";

#[tokio::test]
async fn house_d6_an_order_that_changes_nothing_is_not_answered_as_if_it_had() {
    use bellhop_journal::{Aftermath, Summary, Write, key};
    let world = World::new().await;
    world.put("/v1/workflows/people/halts", HALTS).await.ok(201);
    let id = world.start("people/halts", json!({})).await;
    let parked = world.until(&id, "parked").await;
    assert_eq!((&parked["open"], &parked["openMore"]), (&json!([]), &json!(0)), "a fault, and no call in doubt");
    let act = async |verb: &str, body: Value| world.post(&format!("/v1/runs/{id}/{verb}"), &body).await;
    for body in [json!({ "done": true }), json!({ "done": false }), json!({ "done": false, "task": "/do/1/fail" })] {
        let problem = act("resolve", body).await.problem(409, "not-open");
        assert_eq!(problem["open"], json!([]));
        assert!(problem["remedies"][0]["title"].as_str().unwrap().contains(&format!("bellhop runs retry {id}")));
    }
    act("resume", json!({})).await.problem(409, "run-not-suspended");
    act("suspend", json!({})).await.ok(200);
    act("resume", json!({})).await.ok(200);
    act("cancel", json!({})).await.ok(200);

    // One that was cancelled, and of which changes stand.
    let run = bellhop_core::id::RunId::new(NOW, world.engine.services.entropy.next_wide());
    let (namespace, name) = ("people".to_owned(), "halts".to_owned());
    let summary = Summary {
        ended_at: Some(NOW),
        aftermath: Aftermath { undone: Some(0), left: Some(2), ..Aftermath::default() },
        ..Summary::new(bellhop_core::run::Status::Cancelled, namespace, name, "1.0.0".to_owned(), NOW)
    };
    let mut write = Write::new();
    write.put(&key::summary(run), &summary).unwrap();
    world.engine.services.journal.commit(write).unwrap();
    let path = format!("/v1/runs/{run}/cancel");
    let problem = world.post(&path, &json!({ "rollback": true })).await.problem(409, "run-ended");
    assert!(problem["detail"].as_str().unwrap().contains("2 of its changes stand"), "{problem}");
    assert!(problem["remedies"][0]["title"].as_str().unwrap().contains(&format!("bellhop runs undo {run}")));
    world.post(&path, &json!({})).await.ok(200);
}
