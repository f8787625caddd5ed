//! Every route, against tokens that do not suffice and one that does.

use super::super::auth::Needs;
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
async fn attack_b16_metrics_take_a_token_wherever_one_comes_from() {
    let world = World::new().await;
    for header in [("host", "localhost:7420"), ("x-real-ip", "127.0.0.1"), ("x-forwarded-for", "127.0.0.1")] {
        let request = Request::builder().uri("/metrics").header(header.0, header.1);
        world.send(request.body(Body::empty()).unwrap()).await.problem(401, "token-missing");
    }
    for scope in ["runs:read", "audit:read"] {
        let bearer = format!("Bearer {}", world.token_with(&[scope]).await);
        assert_eq!(world.call("GET", "/metrics", &[("authorization", &bearer)], "").await.status, 200, "{scope}");
    }
}

#[tokio::test]
async fn attack_b8_the_last_token_that_makes_tokens_stays() {
    let world = World::new().await;
    let listed = world.get("/v1/tokens").await.ok(200);
    let first = format!("/v1/tokens/{}", listed["result"][0]["id"].as_str().unwrap());
    world.post("/v1/tokens", &json!({ "name": "reads", "scopes": ["runs:read"] })).await.ok(201);
    let ends = json!({ "name": "ends", "scopes": ["tokens:admin"], "expiresIn": "P90D" });
    world.post("/v1/tokens", &ends).await.ok(201);
    let kept = world.call("DELETE", &first, &[], "").await.problem(409, "last-operator-token");
    assert!(kept["remedies"][0]["title"].as_str().unwrap().contains("tokens:admin"), "{kept}");
    // Two at once do not each take the other for the last.
    let other = world.post("/v1/tokens", &json!({ "name": "other", "scopes": ["tokens:admin"] })).await.ok(201);
    let second = format!("/v1/tokens/{}", other["id"].as_str().unwrap());
    let (one, two) = tokio::join!(world.call("DELETE", &first, &[], ""), world.call("DELETE", &second, &[], ""));
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert!(statuses == [204, 409] || statuses == [204, 401], "{statuses:?}");
}

#[tokio::test]
async fn attack_b8_a_token_hands_on_no_more_than_it_has() {
    let world = World::new().await;
    let made = |scopes: &'static [&'static str], wanted: &'static [&'static str]| {
        let world = &world;
        async move {
            let bearer = format!("Bearer {}", world.token_with(scopes).await);
            let body = json!({ "name": "made", "scopes": wanted }).to_string();
            world.call("POST", "/v1/tokens", &[("authorization", &bearer)], body).await
        }
    };
    made(&["tokens:admin"], &["tokens:admin"]).await.ok(201);
    let refused = made(&["tokens:admin", "runs:read"], &["runs:read", "runs:operate"]).await;
    assert_eq!(refused.problem(403, "token-scope-missing")["scopes"], json!(["runs:operate"]));
    made(&["tokens:admin", "runs:start"], &["runs:start:people/greeter"]).await.ok(201);
    made(&["tokens:admin", "runs:start:people/greeter"], &["runs:start"]).await.problem(403, "token-scope-missing");
    made(&["runs:start", "runs:read"], &["runs:read"]).await.problem(403, "token-scope-missing");
}

#[tokio::test]
async fn attack_b8_a_full_token_from_before_still_makes_tokens() {
    let world = World::new().await;
    let all: Vec<&str> = Scope::ALL.into_iter().filter(|scope| *scope != "tokens:admin").collect();
    // A record as it was written before there was a scope for making tokens.
    let old = json!({ "id": "tok_01J00000000000000000000000", "name": "old", "scopes": all, "created_at": NOW });
    let secret = "bh_0000000000000000000000000000000000000000";
    let mut write = bellhop_journal::Write::new();
    let digest = bellhop_core::digest::Digest::of(secret.as_bytes());
    write.put(&bellhop_journal::key::token(digest), &old).unwrap();
    world.engine.services.journal.commit(write).unwrap();
    let bearer = format!("Bearer {secret}");
    let body = json!({ "name": "new", "scopes": ["runs:read"] }).to_string();
    world.call("POST", "/v1/tokens", &[("authorization", &bearer)], body).await.ok(201);
    // One that was made since, with all others, does not.
    let bearer = format!("Bearer {}", world.token_with(&all).await);
    world.call("POST", "/v1/tokens", &[("authorization", &bearer)], "{}").await.problem(403, "token-scope-missing");
}

#[tokio::test]
async fn attack_b8_no_list_of_tokens_forgets_those_behind_a_page() {
    let world = World::new().await;
    for _ in 0..1_100 {
        world.token_with(&["runs:read"]).await;
    }
    assert_eq!(world.engine.tokens.all().await.unwrap().len(), 1_101);
    // Those at the end are revoked like those at the beginning; only the last that makes tokens stays.
    let all = world.engine.tokens.all().await.unwrap();
    for token in all.iter().skip(1_090) {
        let revoked = world.engine.tokens.revoke(token.id).await;
        assert_eq!(revoked.is_ok(), !token.makes_tokens_for_good(), "{token:?}: {revoked:?}");
    }
}

#[tokio::test]
async fn attack_b13_a_scope_that_opens_nothing_is_none() {
    let world = World::new().await;
    let long = format!("runs:start:{}/x", "a".repeat(500));
    for (scope, help) in [
        ("runs:start:people/*", "wildcards"),
        ("runs:start:*/*", "wildcards"),
        ("runs:start: people/onboarding", "NAMESPACE/NAME"),
        ("runs:start:../x", "NAMESPACE/NAME"),
        ("runs:start:a/b\u{202e}", "NAMESPACE/NAME"),
        ("runs:start:a/x/y", "NAMESPACE/NAME"),
        ("runs:start:", "NAMESPACE/NAME"),
        ("runs:start:people", "NAMESPACE/NAME"),
        (long.as_str(), "NAMESPACE/NAME"),
        ("runs:strat", "runs:start"),
        ("token:admin", "tokens:admin"),
        ("*", "there are"),
        ("", "there are"),
    ] {
        let problem = world.post("/v1/tokens", &json!({ "name": "x", "scopes": [scope] })).await;
        let problem = problem.problem(400, "request-invalid");
        assert!(problem["diagnostics"][0]["remedies"].to_string().contains(help), "{scope}: {problem}");
    }
    world.post("/v1/tokens", &json!({ "name": "x", "scopes": ["runs:start:people/onboarding-2"] })).await.ok(201);
    for name in ["", " ", "\u{a0}", "a\u{202e}b", "a\u{7}", "\u{9b}31m", "\u{200b}", &"x".repeat(101)] {
        let body = json!({ "name": name, "scopes": ["runs:read"] });
        world.post("/v1/tokens", &body).await.problem(400, "request-invalid");
    }
    let far = json!({ "name": "x", "scopes": ["runs:read"], "expiresAt": "9999-12-31T23:59:59Z" });
    let problem = world.post("/v1/tokens", &far).await.problem(400, "request-invalid");
    assert!(problem.to_string().contains("too far away"), "attack_b14: {problem}");
}
