//! The README's lines for HTTP, run as they stand against a host with a simulated Slack.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bellhop;

use std::path::Path;
use std::process::Command;

use bellhop::{Place, slack_plugin};
use serde_json::Value;

const MARK: &str = "<!-- these lines are run by a test -->\n```sh\n";

#[test]
fn the_lines_of_the_readme_do_what_it_says() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = std::fs::read_to_string(workspace.join("README.md")).unwrap();
    let lines = readme.split_once(MARK).unwrap().1.split_once("```").unwrap().0;
    assert!(lines.matches("curl ").count() >= 4, "{lines}");
    if Command::new("curl").arg("--version").output().is_err() {
        println!("skipped: there is no curl on this machine");
        return;
    }

    let place = Place::new();
    // The plugin lies where `make plugins` puts it.
    std::fs::create_dir_all(place.path("target/plugins")).unwrap();
    std::fs::copy(slack_plugin(), place.path("target/plugins/slack.wasm")).unwrap();
    let mut host = place.start(&["dev", "--data-dir", &place.path("data"), "--listen", "127.0.0.1:0"]);
    let (mut token, mut url) = (None, None);
    while url.is_none() {
        let line = host.line();
        token = token.or_else(|| line.strip_prefix("operator token (shown this once): ").map(str::to_owned));
        url = line.strip_prefix("bellhop listens on ").map(str::to_owned);
    }
    let folder = Path::new(&place.path(".")).to_owned();
    std::fs::create_dir(folder.join("workflows")).unwrap();
    let definition = "workflows/send-notification.yaml";
    std::fs::copy(workspace.join(definition), folder.join(definition)).unwrap();

    // Each answer on a line of its own; the shell ends at the first line that fails.
    let script = format!("set -eu\ncurl() {{ command curl \"$@\"; echo; }}\n{lines}");
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(&folder)
        .env("BELLHOP_TOKEN", token.unwrap())
        .env("BELLHOP_URL", url.unwrap())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}\n{errors}");

    let answers: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let run = answers.iter().find(|answer| answer["id"].as_str().is_some_and(|id| id.starts_with("run_"))).unwrap();
    assert_eq!(run["status"], "completed", "{run}");
    let list = answers.last().unwrap();
    assert_eq!(list["result"][0]["id"], run["id"], "{list}");
}
