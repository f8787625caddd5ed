//! What a host is told at its start besides its store: connections in the environment, and all that `dev` has.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bellhop;

use bellhop::hosted::try_call;
use bellhop::{Place, Started, slack_plugin};
use serde_json::{Value, json};

/// A host that is up.
struct Up {
    lines: Vec<String>,
    address: String,
    token: Option<String>,
    _host: Started,
}

impl Up {
    fn done(&self, token: &str, method: &str, path: &str, body: Option<&Value>) -> Value {
        let answer = try_call(&self.address, token, method, path, body, &[]).unwrap();
        assert!((200..300).contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.text);
        answer.json()
    }
}

fn up(place: &Place, arguments: &[&str], environment: &[(&str, &str)]) -> Up {
    let mut host =
        place.start_with(&[arguments, &["--listen", "127.0.0.1:0", "--data-dir", "data"]].concat(), environment);
    let (mut lines, mut token) = (Vec::new(), None);
    loop {
        let line = host.line();
        if let Some(at) = line.find("bh_") {
            token = Some(line[at..].to_owned());
        }
        if let Some(url) = line.strip_prefix("bellhop listens on http://") {
            let address = url.to_owned();
            return Up { lines, address, token, _host: host };
        }
        lines.push(line);
    }
}

#[test]
fn connections_of_the_environment_are_there_at_the_start() {
    let place = Place::new();
    let mut simulator = place.start(&["slack-simulator"]);
    let slack = simulator.line();
    let serve = ["serve", "--slack-url", &slack];
    let environment = [
        ("BELLHOP_CONNECTION_ACME_HQ_KIND", "grid-workspace"),
        ("BELLHOP_CONNECTION_ACME_HQ_BOT_TOKEN", "xoxb-hq"),
        ("BELLHOP_CONNECTION_ACME_HQ_USER_TOKEN", "xoxp-hq-admin"),
        ("BELLHOP_CONNECTION_PRO_KIND", "workspace"),
        ("BELLHOP_CONNECTION_PRO_PERMISSION", "read"),
        ("BELLHOP_CONNECTION_PRO_BOT_TOKEN", "xoxb-pro"),
    ];
    let first = up(&place, &serve, &environment);
    let token = first.token.clone().unwrap();
    let listed = first.done(&token, "GET", "/v1/connections", None);
    let seen: Vec<(&str, &str, &str)> = listed["result"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["name"].as_str().unwrap(), c["kind"].as_str().unwrap(), c["permission"].as_str().unwrap()))
        .collect();
    assert_eq!(seen, [("acme-hq", "grid-workspace", "act"), ("pro", "workspace", "read")]);
    assert!(!listed.to_string().contains("xox"), "a token came out: {listed}");
    assert!(!first.lines.concat().contains("xox"), "{:?}", first.lines);
    drop(first);
    // With the same tokens Slack is not asked again: it may be away. Another token is asked about.
    drop(simulator);
    let again = up(&place, &serve, &environment);
    assert_eq!(again.done(&token, "GET", "/v1/connections", None)["result"].as_array().unwrap().len(), 2);
    assert!(again.lines.is_empty(), "{:?}", again.lines);
    drop(again);
    let log = std::fs::read_to_string(place.path("stderr.log")).unwrap();
    assert!(!log.contains("xox"), "a token came out: {log}");
}

#[test]
fn what_is_wrong_with_connections_of_the_environment_keeps_a_host_from_starting() {
    let place = Place::new();
    let mut simulator = place.start(&["slack-simulator"]);
    let slack = simulator.line();
    let serve = ["serve", "--slack-url", &slack, "--listen", "127.0.0.1:0", "--data-dir", "data"];
    for (environment, code, error, words) in [
        (
            &[("BELLHOP_CONNECTION_HQ_BOT_TOKN", "xoxb-hq")][..],
            2,
            "usage",
            "did you mean BELLHOP_CONNECTION_HQ_BOT_TOKEN?",
        ),
        (&[("BELLHOP_CONNECTION_hq_BOT_TOKEN", "xoxb-hq")], 2, "usage", "in upper case, with `_` for `-`"),
        (&[("BELLHOP_CONNECTION_HQ_KIND", "grid-workspace")], 2, "usage", "names no token"),
        (
            &[("BELLHOP_CONNECTION_HQ_BOT_TOKEN", "xoxb-hq")],
            3,
            "connection-refused",
            "BELLHOP_CONNECTION_HQ_KIND has to say",
        ),
        (
            &[("BELLHOP_CONNECTION_HQ_KIND", "workspace"), ("BELLHOP_CONNECTION_HQ_BOT_TOKEN", "xoxb-hq")],
            3,
            "connection-refused",
            "connect it as what it is, \"Enterprise Grid: Workspace\"",
        ),
        (
            &[("BELLHOP_CONNECTION_HQ_KIND", "workspace"), ("BELLHOP_CONNECTION_HQ_BOT_TOKEN", "xoxb-revoked")],
            3,
            "connection-refused",
            "Slack refuses the bot token: `token_revoked`",
        ),
    ] {
        let done = place.run_with(&serve, environment);
        assert_eq!(done.code, code, "{environment:?}: {}", done.stderr);
        assert!(done.stderr.contains(words), "{environment:?}: {}", done.stderr);
        let json = place.run_with(&[&serve[..], &["--output", "json"]].concat(), environment);
        assert!(json.stdout.contains(&format!("\"code\": \"{error}\"")), "{environment:?}: {}", json.stdout);
        for text in [done.stdout, done.stderr, json.stdout, json.stderr] {
            assert!(!text.contains("xoxb-"), "a token came out: {text}");
        }
    }
    // Two connections of which both may be meant.
    let host = up(&place, &["serve", "--slack-url", &slack], &[]);
    let token = host.token.clone().unwrap();
    for name in ["a-b", "a_b"] {
        let body = json!({ "name": name, "kind": "workspace", "permission": "act", "tokens": { "bot": "xoxb-pro" } });
        host.done(&token, "POST", "/v1/connections", Some(&body));
    }
    drop(host);
    let done = place.run_with(&serve, &[("BELLHOP_CONNECTION_A_B_BOT_TOKEN", "xoxb-pro")]);
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert!(done.stderr.contains("could be `a-b` or `a_b`: remove one of these connections"), "{}", done.stderr);
}

#[test]
fn dev_has_all_that_the_next_command_needs() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("target/plugins")).unwrap();
    std::fs::copy(slack_plugin(), place.path("target/plugins/slack.wasm")).unwrap();
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../workflows/send-notification.yaml");
    place.write("send-notification.yaml", &std::fs::read_to_string(shipped).unwrap());
    let mut tokens = Vec::new();
    for life in 0..2 {
        let dev = up(&place, &["dev"], &[]);
        let token = dev.token.clone().unwrap_or_else(|| panic!("life {life}: no token in {:?}", dev.lines));
        let url = format!("http://{}", dev.address);
        let here = [("BELLHOP_URL", url.as_str()), ("BELLHOP_TOKEN", token.as_str())];
        let text = "{\"channel\": \"#it\", \"text\": \"Hello\"}";
        let done = place.run_with(&["run", "send-notification.yaml", "--input", text, "--wait"], &here);
        assert_eq!(done.code, 0, "life {life}: {}{}", done.stdout, done.stderr);
        let listed = place.run_with(&["connections", "list"], &here);
        assert!(listed.stdout.contains("acme-hq") && listed.stdout.contains("grid-org"), "{}", listed.stdout);
        if life == 0 {
            assert!(dev.lines.iter().any(|l| l.starts_with("installed slack ")), "{:?}", dev.lines);
        }
        tokens.push(token);
    }
    assert_ne!(tokens[0], tokens[1]);
    // Without a plugin it says how there will be one.
    let bare = Place::new();
    let dev = up(&bare, &["dev"], &[]);
    drop(dev);
    let log = std::fs::read_to_string(bare.path("stderr.log")).unwrap();
    assert!(log.contains("`make plugins` builds the Slack actions"), "{log}");
}
