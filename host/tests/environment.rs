//! What a host is told at its start besides its store: connections in the environment, and all that `dev` has.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bellhop;

use std::time::Duration;

use bellhop::hosted::{now, try_call};
use bellhop::{Place, Started, slack_plugin};
use serde_json::{Value, json};

/// Asks until there is an answer, for half a minute.
fn until<T>(what: &str, answer: impl Fn() -> Option<T>) -> T {
    let end = now() + Duration::from_secs(30);
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(now() < end, "it does not come to this: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A host that is up.
struct Up {
    lines: Vec<String>,
    address: String,
    token: Option<String>,
    _host: Started,
}

impl Up {
    /// What `/readyz` says once the host is ready: it says where it listens before that.
    fn ready(&self, token: &str) -> Value {
        until("it is ready", || {
            let answer = try_call(&self.address, token, "GET", "/readyz", None, &[]).unwrap();
            assert!([200, 503].contains(&answer.status), "{}", answer.text);
            (answer.status == 200).then(|| answer.json())
        })
    }

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
    let mut made = Vec::new();
    for _ in 0..2 {
        let dev = up(&place, &["dev"], &[]);
        let token = dev.token.clone().unwrap();
        let listed = dev.done(&token, "GET", "/v1/tokens", None);
        made.push(listed["result"].as_array().unwrap().iter().filter(|token| token["name"] == "one day").count());
    }
    assert_eq!(made, [1, 1], "attack_b16: those of earlier starts are ended");
    let refused = place.run(&["dev", "--slack-listen", "192.0.2.1:1"]);
    assert!(refused.code == 2 && refused.stderr.contains("plain HTTP"), "attack_b14: {}", refused.stderr);
    // Without a plugin it says how there will be one.
    let bare = Place::new();
    let dev = up(&bare, &["dev"], &[]);
    drop(dev);
    let log = std::fs::read_to_string(bare.path("stderr.log")).unwrap();
    assert!(log.contains("`make plugins` builds the Slack actions"), "{log}");
}

#[test]
fn attack_b15_one_dead_token_keeps_no_host_from_starting() {
    let place = Place::new();
    let mut simulator = place.start(&["slack-simulator"]);
    let slack = simulator.line();
    let environment = [
        ("BELLHOP_CONNECTION_HQ_KIND", "grid-workspace"),
        ("BELLHOP_CONNECTION_HQ_BOT_TOKEN", "xoxb-hq"),
        ("BELLHOP_CONNECTION_OLD_KIND", "workspace"),
        ("BELLHOP_CONNECTION_OLD_BOT_TOKEN", "xoxb-revoked"),
    ];
    let host = up(&place, &["serve", "--slack-url", &slack], &environment);
    let token = host.token.clone().unwrap();
    let listed = host.done(&token, "GET", "/v1/connections", None);
    let seen: Vec<(&str, &str)> = listed["result"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["name"].as_str().unwrap(), c["status"].as_str().unwrap()))
        .collect();
    assert_eq!(seen, [("hq", "ok"), ("old", "broken")]);
    assert!(listed["result"][1]["reason"].as_str().unwrap().contains("token_revoked"), "{listed}");
    let ready = host.ready(&token);
    assert_eq!((&ready["status"], &ready["connections_broken"]), (&json!("ready"), &json!(1)));
    assert!(host.lines.iter().any(|line| line.contains("`old` is broken")), "{:?}", host.lines);
    let url = format!("http://{}", host.address);
    let here = [("BELLHOP_URL", url.as_str()), ("BELLHOP_TOKEN", token.as_str())];
    let shown = place.run_with(&["connections", "list"], &here);
    assert!(shown.stdout.contains("broken") && shown.stdout.contains("token_revoked"), "{}", shown.stdout);
    // Asked again it still is refused, and stays.
    let tested = try_call(&host.address, &token, "POST", "/v1/connections/old/test", None, &[]).unwrap();
    assert_eq!(tested.status, 422, "{}", tested.text);
    let gone = try_call(&host.address, &token, "DELETE", "/v1/connections/old", None, &[]).unwrap();
    assert_eq!(gone.status, 204, "{}", gone.text);
    assert_eq!(host.done(&token, "GET", "/v1/connections", None)["result"].as_array().unwrap().len(), 1);
    drop(host);

    // Slack is away at the first start; a run that needs it is refused with what keeps it, and later it is whole.
    let other = Place::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let away = format!("http://{port}");
    let host = up(&other, &["serve", "--slack-url", &away], &environment[..2]);
    let token = host.token.clone().unwrap();
    let plugin = std::fs::read(slack_plugin()).unwrap();
    let url = format!("http://{}", host.address);
    let here = [("BELLHOP_URL", url.as_str()), ("BELLHOP_TOKEN", token.as_str())];
    std::fs::write(other.path("slack.wasm"), plugin).unwrap();
    let installed = other.run_with(&["plugin", "install", "slack.wasm"], &here);
    assert_eq!(installed.code, 0, "{}", installed.stderr);
    let body = json!({ "input": { "channel": "C0HQIT", "text": "x" } });
    let refused = try_call(&host.address, &token, "POST", "/v1/actions/message.send/runs", Some(&body), &[]).unwrap();
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(refused.text.contains("connection-broken") && refused.text.contains("`hq`"), "{}", refused.text);
    let _slack = other.start(&["slack-simulator", "--listen", &port]);
    until("it is asked again", || {
        let tested = try_call(&host.address, &token, "POST", "/v1/connections/hq/test", None, &[]).unwrap();
        (tested.status == 200).then_some(())
    });
    let listed = host.done(&token, "GET", "/v1/connections", None);
    assert_eq!(listed["result"][0]["status"], "ok", "{listed}");
}

#[test]
fn attack_b16_folders_are_the_host_s_own_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let mut simulator = place.start(&["slack-simulator"]);
    let slack = simulator.line();
    let program = env!("CARGO_BIN_EXE_bellhop");
    let line = format!("umask 0; exec {program} serve --slack-url {slack} --listen 127.0.0.1:0 --data-dir data");
    let environment = [("BELLHOP_CONNECTION_PRO_KIND", "workspace"), ("BELLHOP_CONNECTION_PRO_BOT_TOKEN", "xoxb-pro")];
    let mut host = place.start_other("/bin/sh", &["-c", &line], &environment);
    while !host.line().starts_with("bellhop listens") {}
    let mut open = vec![std::path::PathBuf::from(place.path("data"))];
    let mut seen = 0;
    while let Some(path) = open.pop() {
        let found = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!(found.permissions().mode() & 0o077, 0, "{} is {:o}", path.display(), found.permissions().mode());
        seen += 1;
        if found.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    assert!(seen > 5, "{seen} were looked at");
}

#[test]
fn attack_b8_a_token_is_made_beside_a_stopped_host() {
    let place = Place::new();
    let make = ["token", "create", "--offline", "--name", "rescue", "--scope", "tokens:admin", "--data-dir", "data"];
    let none = place.run(&make);
    assert_eq!(none.code, 4, "{}", none.stderr);
    assert!(none.stderr.contains("there is no store"), "{}", none.stderr);
    let host = up(&place, &["serve", "--slack-url", "http://127.0.0.1:9"], &[]);
    let running = place.run(&make);
    assert_eq!(running.code, 70, "{}", running.stderr);
    assert!(running.stderr.contains("the host has to be stopped"), "{}", running.stderr);
    drop(host);
    let made = place.run(&[&make[..], &["--output", "json"]].concat());
    assert_eq!(made.code, 0, "{}", made.stderr);
    let token = made.json()["token"].as_str().unwrap().to_owned();
    let wrong =
        place.run(&["token", "create", "--offline", "--name", "x", "--scope", "runs:raed", "--data-dir", "data"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("did you mean `runs:read`?"), "{}", wrong.stderr);
    let host = up(&place, &["serve", "--slack-url", "http://127.0.0.1:9"], &[]);
    assert!(host.token.is_none(), "none is printed: one is there");
    let body = json!({ "name": "next", "scopes": ["tokens:admin"] });
    host.done(&token, "POST", "/v1/tokens", Some(&body));
}

#[test]
fn what_a_stopped_host_keeps_is_compared_with_itself() {
    let place = Place::new();
    let verify = ["verify", "--data-dir", "data"];
    let none = place.run(&verify);
    assert!(none.code == 4 && none.stderr.contains("there is no store"), "{}", none.stderr);
    let host = up(&place, &["serve", "--slack-url", "http://127.0.0.1:9"], &[]);
    let running = place.run(&verify);
    assert!(running.code == 70 && running.stderr.contains("the host has to be stopped"), "{}", running.stderr);
    drop(host);
    let fits = place.run(&verify);
    assert_eq!((fits.code, &*fits.stdout), (0, "0 open runs, 0 rows of owners and messages\neverything fits\n"));
    let json = place.run(&[&verify[..], &["--mend", "--output", "json"]].concat());
    assert_eq!(json.json(), json!({ "runs": 0, "unread": 0, "rows": 0, "mended": 0 }), "{}", json.stderr);
    let wrong = place.run(&["verify", "--data-dir", "data", "--mned"]);
    assert!(wrong.code == 2 && wrong.stderr.contains("--mend"), "{}", wrong.stderr);
}

/// Standard error is a pipe that nobody empties.
#[test]
fn attack_d11_a_log_that_nobody_reads_holds_up_no_request() {
    let place = Place::new();
    let program = env!("CARGO_BIN_EXE_bellhop");
    // The shell holds the pipe open for reading, and the host has that from it.
    let line = format!(
        "mkfifo log; exec 3<>log; exec {program} serve --log trace --slack-url http://127.0.0.1:9 --listen 127.0.0.1:0 \
         --data-dir data 2>log"
    );
    let mut host = place.start_other("/bin/sh", &["-c", &line], &[]);
    let (mut token, mut address) = (String::new(), String::new());
    while address.is_empty() {
        let line = host.line();
        if let Some(at) = line.find("bh_") {
            line[at..].clone_into(&mut token);
        }
        line.strip_prefix("bellhop listens on http://").unwrap_or_default().clone_into(&mut address);
    }
    // A pipe takes 64 KiB.
    for _ in 0..2_000 {
        let answer = try_call(&address, &token, "GET", "/v1/plugins", None, &[]).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    host.terminate();
    assert_eq!(host.wait(), 0, "it ends though nobody reads what it says");
}
