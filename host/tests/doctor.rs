//! `bellhop doctor`: that it names what is wrong in a place, and nothing else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bellhop;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use bellhop::{Done, Place, Started};
use serde_json::Value;

/// Few connections, so that a machine with few descriptors has enough of them.
const FEW: &str = "[limits]\nconnections_max = 100\n";

fn last_word(line: &str) -> String {
    line.rsplit(' ').next().unwrap_or_default().to_owned()
}

fn doctor(place: &Place, environment: &[(&str, &str)], more: &[&str]) -> Done {
    let arguments = [&["doctor", "--output", "json", "--data-dir", "data"], more].concat();
    place.run_with(&arguments, environment)
}

/// The codes of what is not as it has to be, in order.
fn codes(report: &Value) -> Vec<&str> {
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().filter(|check| check["state"] != "ok" && check["state"] != "unknown");
    let mut codes: Vec<&str> = found.map(|check| check["code"].as_str().unwrap()).collect();
    codes.sort_unstable();
    codes
}

fn state_of<'r>(report: &'r Value, name: &str) -> &'r Value {
    let checks = report["checks"].as_array().unwrap();
    &checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("no {name}: {report}"))["state"]
}

/// Each finding says what is needed, what is there and what helps, and its code has a page.
fn is_explained(place: &Place, report: &Value) {
    for check in report["checks"].as_array().unwrap().iter().filter(|check| check["code"].is_string()) {
        for field in ["needs", "has", "fix"] {
            assert!(check[field].as_str().is_some_and(|said| !said.is_empty()), "{field}: {check}");
        }
        assert_eq!(place.run(&["explain", check["code"].as_str().unwrap()]).code, 0, "{check}");
    }
}

fn simulator(place: &Place) -> (Started, String) {
    let mut simulator = place.start(&["slack-simulator"]);
    let url = last_word(&simulator.line());
    (simulator, url)
}

#[test]
fn a_machine_with_five_things_wrong_names_exactly_these() {
    let place = Place::new();
    let (_simulator, slack) = simulator(&place);
    // The only token ends tomorrow.
    fs::create_dir_all(place.path("data/store")).unwrap();
    for folder in ["data", "data/store"] {
        fs::set_permissions(place.path(folder), fs::Permissions::from_mode(0o700)).unwrap();
    }
    let create = ["token", "create", "--offline", "--name", "last", "--expires-in", "P1D", "--data-dir", "data"];
    let scopes = ["--scope", "tokens:admin", "--scope", "runs:operate", "--scope", "plugins:install"];
    let created = place.run(&[&create[..], &scopes, &["--output", "json"]].concat());
    assert_eq!(created.code, 0, "{}", created.stderr);
    let token = created.json()["token"].as_str().unwrap().to_owned();
    // The process may have few descriptors, and Slack has revoked the token of its connection.
    let script = format!(
        "ulimit -n 256; exec {} serve --listen 127.0.0.1:0 --slack-url {slack} --data-dir data",
        bellhop::program()
    );
    let connection = [("BELLHOP_CONNECTION_HQ_KIND", "workspace"), ("BELLHOP_CONNECTION_HQ_BOT_TOKEN", "xoxb-revoked")];
    let mut host = place.start_other("sh", &["-c", &script], &connection);
    let mut line = host.line();
    while !line.starts_with("bellhop listens") {
        line = host.line();
    }
    let url = last_word(&line);
    let environment = [("BELLHOP_URL", url.as_str()), ("BELLHOP_TOKEN", token.as_str())];
    // Nothing is granted to a plugin, and others may look at the secrets.
    let installed = place.run_with(&["plugin", "install", bellhop::slack_plugin()], &environment);
    assert_eq!(installed.code, 0, "{}", installed.stderr);
    fs::set_permissions(place.path("data/secrets"), fs::Permissions::from_mode(0o755)).unwrap();

    let done = doctor(&place, &environment, &[]);
    assert_eq!(done.code, 3, "{}{}", done.stdout, done.stderr);
    let report = done.json();
    assert_eq!(report["asked"], "host");
    let five =
        ["capability-not-granted", "connection-broken", "data-dir-open", "descriptors-few", "operator-token-ends"];
    assert_eq!(codes(&report), five, "{report:#}");
    is_explained(&place, &report);
    for secret in ["xoxb-revoked", token.as_str()] {
        assert!(!done.stdout.contains(secret), "{}", done.stdout);
    }
    let text = place.run_with(&["doctor", "--data-dir", "data"], &environment);
    assert_eq!(text.code, 3);
    assert!(text.stdout.contains("token_revoked") && text.stdout.contains("fix:"), "{}", text.stdout);
    // What a remedy says is done, and the finding goes.
    let checks = report["checks"].as_array().unwrap();
    let fix =
        |code: &str| checks.iter().find(|check| check["code"] == code).unwrap()["fix"].as_str().unwrap().to_owned();
    let fixed = |command: &str| {
        let typed: Vec<&str> = command.split(' ').skip(1).collect();
        let typed = place.run_with(&typed, &environment);
        assert_eq!(typed.code, 0, "{command}: {}", typed.stderr);
    };
    fixed(&fix("capability-not-granted"));
    let left = doctor(&place, &environment, &[]).json();
    let four = ["connection-broken", "data-dir-open", "descriptors-few", "operator-token-ends"];
    assert_eq!(codes(&left), four, "{left:#}");
    // Its remedy begins with the end of the host.
    drop(host);
    let offline = fix("operator-token-ends");
    fixed(offline.rsplit(": ").next().unwrap());
}

#[test]
fn where_all_is_well_nothing_is_named() {
    let place = Place::new();
    place.write("bellhop.toml", FEW);
    let (_simulator, slack) = simulator(&place);
    let serve = ["serve", "--listen", "127.0.0.1:0", "--slack-url", &slack, "--data-dir", "data"];
    let connection = [("BELLHOP_CONNECTION_HQ_KIND", "grid-workspace"), ("BELLHOP_CONNECTION_HQ_BOT_TOKEN", "xoxb-hq")];
    let mut host = place.start_with(&serve, &connection);
    let (mut token, mut line) = (String::new(), host.line());
    while !line.starts_with("bellhop listens") {
        if line.starts_with("operator token") {
            token = last_word(&line);
        }
        line = host.line();
    }
    let url = last_word(&line);
    let environment = [("BELLHOP_URL", url.as_str()), ("BELLHOP_TOKEN", token.as_str())];
    let installed = place.run_with(&["plugin", "install", bellhop::slack_plugin(), "--grant-all"], &environment);
    assert_eq!(installed.code, 0, "{}", installed.stderr);

    let done = doctor(&place, &environment, &[]);
    let report = done.json();
    assert_eq!((done.code, codes(&report)), (0, Vec::new()), "{report:#}");
    for check in ["host", "slack", "clock", "connection", "plugin", "tokens", "disk", "sync", "store", "data-dir"] {
        assert_eq!(state_of(&report, check), "ok", "{check}: {report:#}");
    }
    let text = place.run_with(&["doctor"], &environment);
    assert!(text.stdout.ends_with("all is well\n"), "{}", text.stdout);
    let live = place.run_with(&["doctor", "--live"], &environment[..1]);
    assert_eq!((live.code, live.stdout.as_str()), (0, "live\n"), "{}", live.stderr);

    // A token that does not do is a refusal, as for every verb, and no reason to look from elsewhere.
    let refused = doctor(&place, &[environment[0], ("BELLHOP_TOKEN", "bh_wrong")], &[]);
    assert_eq!(refused.code, 1, "{}", refused.stdout);
    assert_eq!(refused.json()["error"]["code"], "token-invalid");
    // A host has the folder, and is somewhere else.
    let elsewhere = doctor(&place, &[("BELLHOP_URL", "http://127.0.0.1:1")], &["--slack-url", &slack]);
    assert_eq!(elsewhere.code, 5, "{}{}", elsewhere.stdout, elsewhere.stderr);
    let dead = place.run_with(&["doctor", "--live"], &[("BELLHOP_URL", "http://127.0.0.1:1")]);
    assert_eq!(dead.code, 1, "{}", dead.stderr);
    assert!(dead.stdout.starts_with("not live: ") && dead.stdout.lines().count() == 1, "{}", dead.stdout);

    // Stopped, its folder is looked at from here, with the same result.
    host.terminate();
    assert_eq!(host.wait(), 0);
    let done = doctor(&place, &[("BELLHOP_URL", url.as_str())], &["--slack-url", &slack]);
    let report = done.json();
    assert_eq!((done.code, codes(&report)), (0, Vec::new()), "{report:#}");
    assert_eq!(report["asked"], "here");
    assert_eq!(state_of(&report, "connection"), "ok", "{report:#}");
    // It has changed nothing that a start would miss.
    let mut again = place.start_with(&serve, &connection);
    assert!(again.line().starts_with("bellhop listens"));
}

/// A listener that answers every connection with `text`; with nothing, never.
fn answering(text: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for client in listener.incoming() {
            let mut client = client.unwrap();
            if text.is_empty() {
                held.push(client);
                continue;
            }
            let _read = client.read(&mut [0; 4_096]);
            let _told = client.write_all(text.as_bytes());
        }
    });
    address
}

#[test]
fn each_fault_on_the_way_to_slack_has_its_name() {
    let place = Place::new();
    let nobody = ("BELLHOP_URL", "http://127.0.0.1:1");
    let proxy = answering("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
    let no_tls = format!("https://{}", answering("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n"));
    let silent = format!("https://{}", answering(""));
    for (slack, proxy, code) in [
        ("https://slack.invalid", None, "slack-name-unknown"),
        ("http://127.0.0.1:1", None, "slack-not-reached"),
        ("https://slack.invalid", Some(proxy.as_str()), "slack-proxy-failed"),
        ("https://slack.invalid", Some("127.0.0.1:1"), "slack-proxy-failed"),
        (no_tls.as_str(), None, "slack-certificate-refused"),
        (silent.as_str(), None, "slack-timed-out"),
    ] {
        // Whatever the variables of this machine say.
        let setting = if proxy.is_some() { "" } else { "proxy = \"none\"\n" };
        place.write("bellhop.toml", &format!("{setting}{FEW}"));
        let environment = [nobody, ("HTTPS_PROXY", proxy.unwrap_or_default()), ("NO_PROXY", ""), ("no_proxy", "")];
        let done = doctor(&place, &environment, &["--slack-url", slack]);
        assert_eq!(done.code, 3, "{slack}: {}{}", done.stdout, done.stderr);
        let report = done.json();
        assert_eq!(codes(&report), [code], "{slack}: {report:#}");
        assert_eq!(report["asked"], "here", "{slack}");
        assert_eq!(state_of(&report, "clock"), "unknown", "{slack}");
        is_explained(&place, &report);
    }
    assert!(!fs::exists(place.path("data")).unwrap(), "looking makes nothing");
}

#[test]
fn a_folder_that_a_start_would_refuse_is_named_and_another_machine_is_not_looked_at_from_here() {
    let place = Place::new();
    place.write("bellhop.toml", FEW);
    let (_simulator, slack) = simulator(&place);
    let slack = ["--slack-url", slack.as_str()];
    let nobody = ("BELLHOP_URL", "http://127.0.0.1:1");
    place.write("data/photo.jpg", "x");
    let done = doctor(&place, &[nobody], &slack);
    assert_eq!(done.code, 3, "{}", done.stdout);
    assert_eq!(codes(&done.json()), ["data-dir-refused"]);
    is_explained(&place, &done.json());
    fs::remove_file(place.path("data/photo.jpg")).unwrap();
    fs::create_dir(place.path("data/store")).unwrap();
    fs::write(place.path("data/store/format"), "bellhop-store 1\n").unwrap();
    let done = doctor(&place, &[nobody], &slack);
    let report = done.json();
    assert!(codes(&report).contains(&"store-older"), "{report:#}");
    let far = doctor(&place, &[("BELLHOP_URL", "https://bellhop.invalid")], &slack);
    assert_eq!(far.code, 5, "{}", far.stdout);
}

#[test]
fn the_versions_are_said_of_this_build() {
    let place = Place::new();
    for flags in [["--version", "--verbose"], ["--verbose", "-V"]] {
        let done = place.run(&flags);
        assert_eq!(done.code, 0, "{}", done.stderr);
        let first = place.run(&["--version"]).stdout;
        assert!(done.stdout.starts_with(&first), "{}", done.stdout);
        for word in ["commit: ", "store format: ", "bellhop:action@1.0.0", "bellhop:slack@1.0.0", "definitions: 1.0.3"]
        {
            assert!(done.stdout.contains(word), "{word}: {}", done.stdout);
        }
    }
    let json = place.run(&["--version", "--verbose", "--output", "json"]).json();
    assert!(json["store_format"].is_u64() && json["wasmtime"].as_str().unwrap().contains('.'), "{json}");
}
