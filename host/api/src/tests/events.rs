//! Event streams.

use futures_util::FutureExt as _;

use super::*;

/// The events of a stream's text: id, kind and data.
fn parsed(text: &str) -> Vec<(u64, String, Value)> {
    text.split("\n\n")
        .filter(|block| block.starts_with("id: "))
        .map(|block| {
            let mut lines = block.lines();
            let mut line = |name: &str| lines.next().unwrap().strip_prefix(name).unwrap().to_owned();
            let (id, kind) = (line("id: ").parse().unwrap(), line("event: "));
            (id, kind, serde_json::from_str(&line("data: ")).unwrap())
        })
        .collect()
}

#[tokio::test]
async fn a_stream_tells_everything_and_ends_with_the_run() {
    let world = World::with_workflows().await;
    let id = world.start("people/greeter", json!({ "name": "Ada" })).await;
    world.until(&id, "completed").await;
    let answer = world.get(&format!("/v1/runs/{id}/events")).await;
    assert_eq!(answer.header("content-type"), "text/event-stream");
    let events = parsed(&answer.text);
    let kinds: Vec<&str> = events.iter().map(|(_, kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["run.accepted", "run.started", "task.started", "task.completed", "run.completed"]);
    assert!(events.iter().enumerate().all(|(at, (id, ..))| *id == at as u64 + 1));
    assert_eq!(events[4].2["data"]["output"]["greeting"], "Hello Ada");
    assert_eq!(events[2].2["task"], "/do/0/greet");

    let resumed = world.call("GET", &format!("/v1/runs/{id}/events"), &[("last-event-id", "3")], "").await;
    assert_eq!(parsed(&resumed.text), events[3..]);
    let done = world.call("GET", &format!("/v1/runs/{id}/events"), &[("last-event-id", "5")], "").await;
    assert_eq!((done.status, done.text.as_str()), (204, ""), "a browser does not come back after this");
    for empty in ["", " "] {
        let begun = world.call("GET", &format!("/v1/runs/{id}/events"), &[("last-event-id", empty)], "").await;
        assert_eq!(begun.status, 200, "surroundings S15: {}", begun.text);
        assert!(begun.text.contains("id: 1\n"), "from the start: {}", begun.text);
    }
    let wrong = world.call("GET", &format!("/v1/runs/{id}/events"), &[("last-event-id", "x")], "").await;
    wrong.problem(400, "request-invalid");

    let json = [("accept", "application/json")];
    let page = world.call("GET", &format!("/v1/runs/{id}/events?limit=2"), &json, "").await.ok(200);
    assert_eq!(page["result"].as_array().unwrap().len(), 2);
    assert_eq!(page["next_cursor"], "2");
    let rest = world.call("GET", &format!("/v1/runs/{id}/events?limit=3&after=2"), &json, "").await.ok(200);
    assert_eq!((rest["result"][2]["type"].as_str(), &rest["next_cursor"]), (Some("run.completed"), &Value::Null));
}

#[tokio::test]
async fn a_stream_follows_a_run_and_beats_while_it_rests() {
    let world = World::with_workflows().await;
    let id = world.start("people/sleeper", json!({ "name": "Ada" })).await;
    world.until(&id, "waiting").await;
    let request = world.request("GET", &format!("/v1/runs/{id}/events"), &[], "");
    let response = world.router.clone().oneshot(request).await.unwrap();
    let mut body = response.into_body();
    let mut text = String::new();
    let mut next = async |text: &mut String| {
        let frame = body.frame().await?.unwrap().into_data().unwrap();
        text.push_str(std::str::from_utf8(&frame).unwrap());
        Some(())
    };
    while !text.contains("task.waiting") {
        next(&mut text).await.unwrap();
    }
    {
        let beat = next(&mut text);
        tokio::pin!(beat);
        assert!(beat.as_mut().now_or_never().is_none(), "nothing happens");
        world.clock.advance(Duration::from_secs(14));
        assert!(beat.as_mut().now_or_never().is_none(), "nothing happens");
        world.clock.advance(SECOND);
        beat.await.unwrap();
    }
    assert!(text.ends_with(":\n\n"), "{text}");
    world.clock.advance(Duration::from_secs(86_400));
    let run = &id;
    let rest = async { while next(&mut text).await.is_some() {} };
    let turned = async {
        // A run that rests is looked at now and then, by the clock.
        loop {
            world.clock.advance(SECOND);
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = rest => {}
        () = turned => {}
    }
    assert!(text.contains("event: run.completed\n"), "{text}");
    assert_eq!(world.get(&format!("/v1/runs/{run}")).await.ok(200)["status"], "completed");
    let ids: Vec<u64> = parsed(&text).iter().map(|(id, ..)| *id).collect();
    assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>());
    drop(body);
    assert_eq!(world.app.counters.streams.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_stream_ends_when_the_server_stops() {
    let world = World::with_workflows().await;
    let id = world.start("people/sleeper", json!({ "name": "Ada" })).await;
    world.until(&id, "waiting").await;
    let request = world.request("GET", &format!("/v1/runs/{id}/events"), &[], "");
    let response = world.router.clone().oneshot(request).await.unwrap();
    world.app.stopping.send_replace(true);
    let events = parsed(&read(response).await.text);
    assert_eq!(events.last().unwrap().1, "task.waiting");
}

#[tokio::test]
async fn a_reader_who_falls_behind_is_cut_off_and_can_come_back() {
    let limits = Limits { sse_queue_max: 3, ..Limits::default() };
    let world = World::with(limits, "http://127.0.0.1:9".to_owned()).await;
    world.apply().await;
    let id = world.start("people/sleeper", json!({ "name": "Ada" })).await;
    world.until(&id, "waiting").await;
    let act = async |verb: &str| world.post(&format!("/v1/runs/{id}/{verb}"), &json!({})).await.ok(200);
    // Whoever comes late is behind as well, and that is no fault.
    for _ in 0..4 {
        act("suspend").await;
        act("resume").await;
    }
    let request = world.request("GET", &format!("/v1/runs/{id}/events"), &[], "");
    let mut body = world.router.clone().oneshot(request).await.unwrap().into_body();
    let mut text = String::new();
    let mut next = async |text: &mut String| {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        text.push_str(std::str::from_utf8(&frame).unwrap());
    };
    while text.matches("event: run.resumed\n").count() < 4 {
        next(&mut text).await;
    }
    // A beat comes from a reader that has looked for more.
    world.clock.advance(Duration::from_secs(15));
    next(&mut text).await;
    assert!(text.ends_with(":\n\n"), "{text}");
    let seen = parsed(&text);
    assert_eq!(seen.last().unwrap().1, "run.resumed", "it has everything");
    act("suspend").await;
    act("resume").await;
    act("suspend").await;
    act("resume").await;
    // A run that rests is looked at by the clock.
    world.clock.advance(SECOND);
    let rest = read(axum::response::Response::new(Body::new(body))).await.text;
    assert!(rest.starts_with(": reader-too-slow"), "{rest}");
    assert_eq!(parsed(&rest), []);
    // Nothing is lost.
    let last = seen.last().unwrap().0.to_string();
    let page = [("last-event-id", last.as_str()), ("accept", "application/json")];
    let missed = world.call("GET", &format!("/v1/runs/{id}/events"), &page, "").await.ok(200);
    // What was asked for, and what came of it.
    assert_eq!(missed["result"].as_array().unwrap().len(), 8);
}
