//! Every route, against tokens that do not suffice and one that does.

use super::super::auth::{Needs, Peer};
use super::super::routes::{ROUTES, Route};
use super::*;

/// An address of the route, with something in place of each name.
fn address(route: &Route) -> String {
    route.path.replace("{namespace}", "people").replace("{name}", "x").replace("{id}", "run_01J00000000000000000000000")
}

/// Scopes that together do not satisfy the route, and those that do.
fn scopes(route: &Route) -> Option<(Vec<&'static str>, Vec<&'static str>)> {
    let without = |wanted: &[&str]| Scope::ALL.into_iter().filter(|s| !wanted.contains(s)).collect();
    match route.needs {
        Needs::Nothing => None,
        Needs::One(wanted) => Some((without(wanted), vec![wanted[0]])),
        Needs::Start => Some((without(&["runs:start"]), vec!["runs:start"])),
        Needs::Everything => Some((without(&["audit:read"]), Scope::ALL.to_vec())),
        Needs::Metrics => Some((without(&["runs:read"]), vec!["runs:read"])),
    }
}

#[tokio::test]
async fn every_route_asks_for_its_token() {
    let world = World::new().await;
    for route in ROUTES {
        let (verb, path) = (route.verb.as_str(), address(route));
        let asked = |token: Option<String>| {
            let mut request = Request::builder().method(verb).uri(&path);
            if let Some(token) = token {
                request = request.header("authorization", token);
            }
            world.send(request.body(Body::from("{}")).unwrap())
        };
        let Some((too_few, enough)) = scopes(route) else {
            assert_eq!(asked(None).await.status, 200, "{verb} {path}");
            continue;
        };
        let missing = asked(None).await;
        missing.problem(401, "token-missing");
        assert!(missing.header("www-authenticate").starts_with("Bearer"), "{verb} {path}");
        let mut details = Vec::new();
        for wrong in ["Bearer bh_0000", "Bearer xoxb-1", "Basic bh_0000", "Bearer", "bh_0000"] {
            let answer = asked(Some(wrong.to_owned())).await;
            details.push(answer.problem(401, "token-invalid")["detail"].clone());
            assert!(answer.header("www-authenticate").contains("invalid_token"));
        }
        details.dedup();
        assert_eq!(details.len(), 1, "one text for all: {details:?}");
        let weak = format!("Bearer {}", world.token_with(&too_few).await);
        let refused = asked(Some(weak)).await;
        let problem = refused.problem(403, "token-scope-missing");
        let named = problem["scopes"][0].as_str().unwrap();
        assert!(problem["detail"].as_str().unwrap().contains(named), "{problem}");
        assert!(refused.header("www-authenticate").contains("insufficient_scope"));
        let able = format!("Bearer {}", world.token_with(&enough).await);
        let answer = asked(Some(able)).await;
        assert!(![401, 403].contains(&answer.status), "{verb} {path}: {}", answer.text);
        assert!(answer.header("x-request-id").starts_with("req_"), "{verb} {path}");
    }
}

#[tokio::test]
async fn a_token_for_one_workflow_starts_that_one_only() {
    let world = World::with_workflows().await;
    let token = world.token_with(&["runs:start:people/greeter"]).await;
    let bearer = format!("bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let body = json!({ "input": { "name": "Ada" } }).to_string();
    world.call("POST", "/v1/workflows/people/greeter/runs", &headers, body.clone()).await.ok(202);
    let other = world.call("POST", "/v1/workflows/people/sleeper/runs", &headers, body).await;
    assert_eq!(other.problem(403, "token-scope-missing")["scopes"], json!(["runs:start", "runs:start:people/sleeper"]));
    world.call("GET", "/v1/runs", &headers, "").await.problem(403, "token-scope-missing");
}

#[tokio::test]
async fn two_tokens_are_none() {
    let world = World::new().await;
    let bearer = format!("Bearer {}", world.token);
    let headers = [("authorization", bearer.as_str()), ("authorization", "Bearer bh_1")];
    world.call("GET", "/v1/runs", &headers, "").await.problem(401, "token-invalid");
}

#[tokio::test]
async fn tokens_are_made_listed_and_ended() {
    let world = World::new().await;
    let asked = json!({ "name": "ci", "scopes": ["runs:read"], "expiresIn": "PT1H" });
    let made = world.post("/v1/tokens", &asked).await;
    let body = made.ok(201);
    assert_eq!(made.header("cache-control"), "no-store");
    assert_eq!(body["expiresAt"], "2026-01-05T09:00:00.000Z");
    let secret = body["token"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {secret}");
    let headers = [("authorization", bearer.as_str())];
    world.call("GET", "/v1/runs", &headers, "").await.ok(200);
    let listed = world.get("/v1/tokens").await;
    assert!(!listed.text.contains(&secret) && !listed.text.contains("bh_"), "{}", listed.text);
    assert_eq!(listed.json()["result"].as_array().unwrap().len(), 2);
    world.clock.advance(Duration::from_secs(3_600));
    world.call("GET", "/v1/runs", &headers, "").await.problem(401, "token-invalid");

    let again = world.post("/v1/tokens", &json!({ "name": "ci", "scopes": ["runs:read"] })).await.ok(201);
    let bearer = format!("Bearer {}", again["token"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    world.call("GET", "/v1/runs", &headers, "").await.ok(200);
    let path = format!("/v1/tokens/{}", again["id"].as_str().unwrap());
    assert_eq!(world.call("DELETE", &path, &[], "").await.status, 204);
    world.call("GET", "/v1/runs", &headers, "").await.problem(401, "token-invalid");
    world.call("DELETE", &path, &[], "").await.problem(404, "token-unknown");
    world.call("DELETE", "/v1/tokens/tok_1", &[], "").await.problem(404, "token-unknown");
}

#[tokio::test]
async fn wrong_tokens_are_told_apart() {
    let world = World::new().await;
    let asked = json!({ "name": "ci", "scopes": ["runs:raed", "everything"], "expires_in": "PT1H", "expiresIn": "1h" });
    let problem = world.post("/v1/tokens", &asked).await.problem(400, "request-invalid");
    let told: Vec<(&str, &str)> = problem["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| (d["pointer"].as_str().unwrap(), d["remedies"][0]["title"].as_str().unwrap_or("")))
        .collect();
    assert_eq!(told[0], ("/expires_in", "did you mean `expiresIn`?"));
    assert_eq!(told[1], ("/scopes/0", "did you mean `runs:read`?"));
    assert_eq!(told[2].0, "/scopes/1");
    assert_eq!(told[3].0, "/expiresIn");
    for (name, value) in [("expiresAt", "2026-01-05T08:00:00Z"), ("expiresAt", "tomorrow"), ("expiresIn", "PT0S")] {
        let asked = json!({ "name": "ci", "scopes": ["runs:read"], name: value });
        world.post("/v1/tokens", &asked).await.problem(400, "request-invalid");
    }
    let asked = json!({ "name": "ci", "scopes": ["runs:read"], "expiresAt": "2027-01-01T01:00:00+01:00" });
    assert_eq!(world.post("/v1/tokens", &asked).await.ok(201)["expiresAt"], "2027-01-01T00:00:00.000Z");
}

#[tokio::test]
async fn metrics_are_open_to_this_machine_itself() {
    let world = World::new().await;
    let from = |peer: &str, header: (&str, &str)| {
        let request = Request::builder().uri("/metrics").header(header.0, header.1);
        let mut request = request.body(Body::empty()).unwrap();
        request.extensions_mut().insert(Peer(peer.parse().unwrap()));
        world.send(request)
    };
    for host in ["localhost:7420", "127.0.0.1:7420", "[::1]:7420", "localhost", "127.0.0.1"] {
        assert_eq!(from("127.0.0.1:5", ("host", host)).await.status, 200, "{host}");
    }
    assert_eq!(from("[::ffff:127.0.0.1]:5", ("host", "localhost")).await.status, 200);
    for (peer, header) in [
        ("192.0.2.1:5", ("host", "localhost")),
        ("127.0.0.1:5", ("x-forwarded-for", "203.0.113.9")),
        ("127.0.0.1:5", ("forwarded", "for=203.0.113.9")),
        ("127.0.0.1:5", ("host", "rebound.example:7420")),
    ] {
        from(peer, header).await.problem(401, "token-missing");
    }
}
