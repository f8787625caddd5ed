//! What a release has kept, the program of today opens: each folder under `golden` was made by the release of that name,
//! has ended, sleeping and unfinished runs in it, and is never made anew. A change of a record raises the format, keeps the
//! reader of the one before, and adds the folder of the next release beside these.
//!
//! `cargo test -p bellhop --test upgrade -- --ignored` makes the folder of the version in `Cargo.toml`, before it is
//! released.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bellhop;

use std::fs;
use std::path::{Path, PathBuf};

use bellhop::hosted::{Hosted, now};
use bellhop_tests::guest::Plugin;
use serde_json::{Value, json};

/// What is in a repository for good has to be small.
const FOLDER_BYTES_MAX: u64 = 1 << 20;
/// Runs are kept as long as can be: the folders grow old.
const SETTINGS: &str = "[limits]\nruns_kept_ms = 316224000000\n";
const SAY: &str = "\
document: { dsl: 1.0.3, namespace: it, name: say, version: 1.0.0 }
do:
  - say: { call: it.says:1@golden, with: { connection: plus } }
";
const LATER: &str = "\
document: { dsl: 1.0.3, namespace: it, name: later, version: 1.0.0 }
do:
  - later: { wait: { days: 3600 } }
  - say: { call: it.says:1@golden, with: { connection: plus } }
";
const MESSAGE: &str = r#"{"channel":"C0PLUSIT","text":"Said"}"#;
const OUTPUT: &str = r#"{"output":{"said":true},"changed":true}"#;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// A plugin of a few hundred bytes that posts one message.
fn plugin() -> Vec<u8> {
    let description = json!({
        "publisher": "nobody", "name": "golden", "version": "1.0.0",
        "actions": [{
            "name": "it.says", "title": "It says", "description": "Says one thing.", "effect": "notify",
            "input": { "type": "object" }, "output": { "type": "object" },
            "calls": [{ "on": ["workspace"], "methods": [{ "function": "chat.post-message", "when": "always" }] }],
        }],
    })
    .to_string();
    let text = |json: &str| json.replace('"', "\\22");
    let items = format!("(data (i32.const 8192) \"{}\") (data (i32.const 8448) \"{}\")", text(MESSAGE), text(OUTPUT));
    let run = format!(
        "(call $chat.post-message (i32.const 8192) (i32.const {}) (i32.const 64)) \
         (call $ok (i32.const 8448) (i32.const {}))",
        MESSAGE.len(),
        OUTPUT.len()
    );
    Plugin { imports: &["chat.post-message"], run: &run, description: &description, items: &items, ..Plugin::default() }
        .build()
}

fn copy(from: &Path, to: &Path) -> u64 {
    fs::create_dir_all(to).unwrap();
    let mut bytes = 0;
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, into) = (entry.path(), to.join(entry.file_name()));
        bytes += if path.is_dir() { copy(&path, &into) } else { fs::copy(&path, &into).unwrap() };
    }
    bytes
}

fn start(hosted: &Hosted, workflow: &str) -> String {
    let path = format!("/v1/workflows/it/{workflow}/runs");
    hosted.done("POST", &path, Some(&json!({ "input": {} })))["id"].as_str().unwrap().to_owned()
}

fn shown(hosted: &Hosted, run: &Value) -> Value {
    hosted.done("GET", &format!("/v1/runs/{}", run.as_str().unwrap()), None)
}

/// Waits until the run stands so.
fn until(hosted: &Hosted, run: &Value, status: &str) -> Value {
    let end = now() + std::time::Duration::from_secs(60);
    loop {
        let seen = shown(hosted, run);
        if seen["status"] == status {
            return seen;
        }
        assert!(now() < end, "{seen:#}\n{}", hosted.log());
        std::thread::yield_now();
    }
}

#[test]
#[ignore = "makes the folder of a release, once"]
fn the_folder_of_this_release_is_made() {
    let folder = golden().join(env!("CARGO_PKG_VERSION"));
    assert!(!folder.exists(), "{} is there: a folder of a release is never made anew", folder.display());
    let mut hosted = Hosted::start(SETTINGS);
    hosted.ready();
    assert_eq!(hosted.send("POST", "/v1/plugins?grantAll=true", "application/wasm", &plugin()).status, 201);
    hosted.connect("plus", "workspace", "act", &json!({ "bot": "xoxb-plus" }));
    hosted.apply("it/say", SAY);
    hosted.apply("it/later", LATER);
    let ended = start(&hosted, "say");
    until(&hosted, &json!(ended), "completed");
    let asleep = start(&hosted, "later");
    until(&hosted, &json!(asleep), "waiting");
    // Slack has the request of this one, and has not looked at it.
    let fault = hosted.fault(&json!({ "method": "chat.postMessage", "times": 1, "action": "hold_before_accept" }));
    let open = start(&hosted, "say");
    hosted.fired(fault, 1);
    hosted.kill();
    let data = PathBuf::from(hosted.place.path("data"));
    let bytes = copy(&data.join("store"), &folder.join("store")) + copy(&data.join("secrets"), &folder.join("secrets"));
    assert!(bytes <= FOLDER_BYTES_MAX, "{bytes} bytes");
    let story = json!({ "token": hosted.token, "ended": ended, "asleep": asleep, "open": open });
    fs::write(folder.join("story.json"), format!("{story:#}\n")).unwrap();
}

#[test]
fn a_folder_of_every_release_is_opened_and_its_open_run_goes_on() {
    let mut folders: Vec<PathBuf> = golden().read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    assert!(folders.iter().any(|folder| folder.ends_with("0.1.0")), "{folders:?}");
    for folder in folders {
        opened(&folder);
    }
}

fn opened(folder: &Path) {
    // What this host has compiled is kept, and what it has stored is replaced.
    let mut hosted = Hosted::start(SETTINGS);
    hosted.ready();
    hosted.terminate();
    assert_eq!(hosted.ended(), 0);
    let data = PathBuf::from(hosted.place.path("data"));
    let mut bytes = 0;
    for name in ["store", "secrets"] {
        fs::remove_dir_all(data.join(name)).unwrap();
        bytes += copy(&folder.join(name), &data.join(name));
    }
    assert!(bytes <= FOLDER_BYTES_MAX, "{}: {bytes} bytes", folder.display());
    let story: Value = serde_json::from_str(&fs::read_to_string(folder.join("story.json")).unwrap()).unwrap();
    story["token"].as_str().unwrap().clone_into(&mut hosted.token);
    hosted.start_host();
    hosted.ready();

    let ended = shown(&hosted, &story["ended"]);
    assert_eq!((&ended["status"], &ended["output"]), (&json!("completed"), &json!({ "said": true })), "{ended:#}");
    // This Slack is a new one: the message of the open run is not there, so it is sent, once.
    until(&hosted, &story["open"], "completed");
    let open = story["open"].as_str().unwrap();
    let sent: Vec<Value> = hosted.ledger().into_iter().filter(|line| line["method"] == "chat.postMessage").collect();
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(sent[0]["key"].as_str().unwrap().starts_with(open), "{sent:?}");
    assert_eq!(shown(&hosted, &story["asleep"])["status"], "waiting");
    let path = format!("/v1/runs/{}/cancel", story["asleep"].as_str().unwrap());
    hosted.done("POST", &path, None);
    until(&hosted, &story["asleep"], "cancelled");
    // What was set up there is in force.
    let new = start(&hosted, "say");
    until(&hosted, &json!(new), "completed");
    hosted.terminate();
    assert_eq!(hosted.ended(), 0, "{}", hosted.log());
    let verified = hosted.place.run(&["verify", "--data-dir", "data"]);
    assert!(verified.stdout.contains("everything fits"), "{}{}", verified.stdout, verified.stderr);
}
