//! Backup and restore with the built program: nothing that was acknowledged is missing, nothing is done twice, whatever is
//! wrong has its code, and kills at any moment leave nothing half done.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bellhop;

use std::collections::BTreeMap;
use std::time::Duration;

use bellhop::Done;
use bellhop::dice::Dice;
use bellhop::hosted::{GOOD, Hosted, now, try_call};
use serde_json::{Value, json};

/// Reading back begins soon after a start.
const QUICK: &str = "[limits]\nreconcile_delay_ms = 1000\n";

/// It says one thing, waits for some seconds, and says another.
const JOIN: &str = "\
document: { dsl: 1.0.3, namespace: people, name: join, version: 1.0.0 }
do:
  - hello:
      call: message.send:1@slack
      with: { connection: plus, channel: C0PLUSIT, text: '${ \"hello \" + $workflow.input.name }' }
  - pause: { wait: { seconds: 4 } }
  - welcome:
      call: message.send:1@slack
      with: { connection: plus, channel: C0PLUSIT, text: '${ \"welcome \" + $workflow.input.name }' }
  - bye:
      call: message.send:1@slack
      with: { connection: plus, channel: C0PLUSIT, text: '${ \"bye \" + $workflow.input.name }' }
";

fn hosted(configuration: &str) -> Hosted {
    let hosted = Hosted::start(configuration);
    hosted.install_slack();
    hosted.connect("plus", "workspace", "act", &json!({ "bot": "xoxb-plus" }));
    hosted.ready();
    hosted
}

fn said(hosted: &Hosted) -> BTreeMap<String, usize> {
    let mut texts = BTreeMap::new();
    for line in hosted.ledger() {
        *texts.entry(line["args"]["text"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    texts
}

fn join(hosted: &Hosted, name: &str) -> String {
    let run = hosted.done("POST", "/v1/workflows/people/join/runs", Some(&json!({ "input": { "name": name } })));
    run["id"].as_str().unwrap().to_owned()
}

fn until(hosted: &Hosted, run: &str, status: &str) {
    let end = now() + Duration::from_secs(60);
    loop {
        let view = hosted.done("GET", &format!("/v1/runs/{run}"), None);
        if view["status"] == status {
            return;
        }
        assert!(now() < end, "{run} is not {status}: {view:#}\n{}", hosted.log());
        std::thread::yield_now();
    }
}

fn ok(done: &Done) -> Value {
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    done.json()
}

/// The code of a failure, and how it ended.
fn failed(done: &Done) -> (i32, String) {
    (done.code, done.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_folder_that_is_lost_is_restored_elsewhere_and_nothing_is_done_twice() {
    let mut hosted = hosted(QUICK);
    hosted.apply("people/join", JOIN);
    hosted.place.write("secret", "correct horse battery\n");
    let before: Vec<String> = ["ada", "ben", "cleo"].map(|name| join(&hosted, name)).into();
    before.iter().for_each(|run| until(&hosted, run, "waiting"));
    let taken =
        hosted.run(&["backup", "hq.backup", "--with-secrets", "--passphrase-file", "secret", "--output", "json"]);
    let taken = ok(&taken);
    assert_eq!((&taken["hasSecrets"], &taken["damaged"]), (&json!(true), &json!(0)), "{taken}");
    let bytes = std::fs::read(hosted.place.path("hq.backup")).unwrap();
    assert!(!bytes.windows(9).any(|some| some == b"xoxb-plus"), "no token stands in it");
    ok(&hosted.place.run(&["verify", "hq.backup", "--output", "json"]));
    assert_eq!(
        std::fs::read_dir(hosted.place.path("."))
            .unwrap()
            .filter(|entry| { entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".bellhop-backup-") })
            .count(),
        0
    );

    // The hour that is lost: those runs come to their ends, and one begins of which the backup knows nothing.
    before.iter().for_each(|run| until(&hosted, run, "completed"));
    let lost = join(&hosted, "dan");
    until(&hosted, &lost, "waiting");
    hosted.kill();
    let told = said(&hosted);
    std::fs::rename(hosted.place.path("data"), hosted.place.path("lost")).unwrap();

    let restored = hosted.place.run(&[
        "restore",
        "hq.backup",
        "--data-dir",
        "elsewhere",
        "--passphrase-file",
        "secret",
        "--output",
        "json",
    ]);
    let restored = ok(&restored);
    assert_eq!(restored["connectionsWithoutTokens"], json!([]), "{restored}");
    let (from, to) = (hosted.place.path("lost/compiled"), hosted.place.path("elsewhere/compiled"));
    std::fs::rename(from, to).unwrap();
    hosted.data = "elsewhere".to_owned();
    hosted.start_host();
    let refused = hosted.call("GET", "/readyz", None);
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("restored")), "{}", refused.text);
    let refused = hosted.call("POST", "/v1/workflows/people/join/runs", Some(&json!({ "input": { "name": "eve" } })));
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("restored")));
    assert!(refused.text.contains("bellhop restore --go-on"), "{}", refused.text);
    for run in &before {
        let view = hosted.done("GET", &format!("/v1/runs/{run}"), None);
        assert_eq!((&view["status"], &view["reason"]), (&json!("suspended"), &json!("restored")), "{view}");
    }
    let listed = hosted.done("GET", "/v1/runs?status=suspended", None);
    assert_eq!(listed["result"].as_array().unwrap().len(), before.len());
    assert_eq!(hosted.call("GET", &format!("/v1/runs/{lost}"), None).status, 404);
    assert_eq!(said(&hosted), told, "nothing is done before somebody says so");

    ok(&hosted.run(&["restore", "--go-on", "--output", "json"]));
    hosted.ready();
    before.iter().for_each(|run| until(&hosted, run, "completed"));
    assert_eq!(said(&hosted), told, "nothing is done twice");
    assert!(told.values().all(|count| *count == 1), "{told:?}");

    // It is a host like any other from here on, also after another start.
    hosted.kill();
    hosted.start_host();
    hosted.ready();
    hosted.apply("it/good", GOOD);
    let run = hosted.done("POST", "/v1/workflows/it/good/runs?wait=60s", Some(&json!({ "input": {} })));
    assert_eq!(run["status"], "completed", "{run}");
    assert_eq!(said(&hosted)["Good"], 1);
    ok(&hosted.run(&["restore", "--go-on", "--output", "json"]));
}

#[test]
fn everything_that_was_acknowledged_before_a_backup_is_in_it() {
    let hosted = hosted(QUICK);
    hosted.apply("it/good", GOOD);
    let start = || hosted.done("POST", "/v1/workflows/it/good/runs", Some(&json!({ "input": {} })));
    let acknowledged: Vec<String> = (0..40).map(|_| start()["id"].as_str().unwrap().to_owned()).collect();
    // Others start runs meanwhile.
    let taken = std::thread::scope(|scope| {
        let busy = scope.spawn(|| (0..30).for_each(|_| drop(start())));
        let taken = ok(&hosted.run(&["backup", "hq.backup", "--output", "json"]));
        busy.join().unwrap();
        taken
    });
    assert_eq!(taken["hasSecrets"], false);
    let restored = ok(&hosted.place.run(&["restore", "hq.backup", "--data-dir", "restored", "--output", "json"]));
    assert_eq!(restored["connectionsWithoutTokens"], json!(["plus"]));
    assert_eq!(restored["digest"], taken["digest"]);
    ok(&hosted.place.run(&["verify", "--data-dir", "restored", "--output", "json"]));
    std::fs::create_dir(hosted.place.path("restored/compiled")).unwrap();
    for file in std::fs::read_dir(hosted.place.path("data/compiled")).unwrap() {
        let file = file.unwrap();
        let to = std::path::Path::new(&hosted.place.path("restored/compiled")).join(file.file_name());
        std::fs::hard_link(file.path(), to).unwrap();
    }
    let slack = format!("http://{}", hosted.slack);
    let serve = ["serve", "--listen", "127.0.0.1:0", "--slack-url", &slack, "--data-dir", "restored"];
    let mut other = hosted.place.start(&serve);
    let mut line = other.line();
    while !line.starts_with("bellhop listens on ") {
        line = other.line();
    }
    let address = line.trim_start_matches("bellhop listens on http://").to_owned();
    for run in &acknowledged {
        let shown = try_call(&address, &hosted.token, "GET", &format!("/v1/runs/{run}"), None, &[]).unwrap();
        assert_eq!(shown.status, 200, "{run}: {}", shown.text);
    }
}

#[test]
fn what_is_no_whole_backup_is_refused_and_changes_nothing() {
    let mut hosted = hosted(QUICK);
    let place = |arguments: &[&str]| hosted.place.run(&[arguments, &["--output", "json"]].concat());
    hosted.place.write("secret", "correct horse battery\n");
    hosted.place.write("other", "another passphrase\n");
    hosted.place.write("short", "short\n");
    ok(&hosted.run(&["backup", "plain", "--output", "json"]));
    ok(&hosted.run(&["backup", "sealed", "--with-secrets", "--passphrase-file", "secret", "--output", "json"]));
    let bytes = std::fs::read(hosted.place.path("plain")).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(hosted.place.path(name), bytes).unwrap();
    write("cut", &bytes[..bytes.len() - 1]);
    write("half", &bytes[..bytes.len() / 2]);
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 3] ^= 4;
    write("flipped", &flipped);
    write("empty", b"");
    write("letter", b"Dear Ada");
    write("newer", &[b"bellhop-backup 9\n", &bytes[17..]].concat());

    for (file, code) in [
        ("cut", "backup-damaged"),
        ("half", "backup-damaged"),
        ("flipped", "backup-damaged"),
        ("empty", "backup-damaged"),
        ("letter", "backup-damaged"),
        ("newer", "backup-of-another-version"),
    ] {
        assert_eq!(failed(&place(&["verify", file])), (1, code.to_owned()), "{file}");
        assert_eq!(failed(&place(&["restore", file, "--data-dir", "new"])), (1, code.to_owned()), "{file}");
        assert!(!std::fs::exists(hosted.place.path("new")).unwrap(), "{file}: something was made");
    }
    let restore = |more: &[&str]| failed(&place(&[&["restore", "sealed", "--data-dir", "new"], more].concat()));
    assert_eq!(restore(&[]), (1, "passphrase-needed".to_owned()));
    assert_eq!(restore(&["--passphrase-file", "other"]), (1, "passphrase-wrong".to_owned()));
    assert_eq!(restore(&["--passphrase-file", "short"]), (2, "usage".to_owned()));
    assert_eq!(restore(&["--passphrase-file", "none"]), (4, "file-not-found".to_owned()));
    assert!(!std::fs::exists(hosted.place.path("new")).unwrap(), "something was made");
    ok(&place(&["restore", "sealed", "--data-dir", "new", "--without-secrets"]));
    assert_eq!(failed(&place(&["restore", "plain", "--data-dir", "new"])), (4, "folder-not-empty".to_owned()));
    assert_eq!(failed(&place(&["restore", "none", "--data-dir", "newer-folder"])), (4, "file-not-found".to_owned()));
    assert_eq!(failed(&place(&["restore"])).0, 2);

    // Of a host that runs, and of one that does not.
    let running = place(&["backup", "offline", "--offline", "--data-dir", "data"]);
    assert_eq!(failed(&running), (70, "storage-failed".to_owned()), "{}", running.stdout);
    assert!(running.stdout.contains("without --offline"), "{}", running.stdout);
    let not_restored = hosted.run(&["restore", "--go-on", "--output", "json"]);
    assert_eq!(failed(&not_restored), (4, "not-restored".to_owned()));
    let to_a_folder = hosted.run(&["backup", "data", "--output", "json"]);
    assert_eq!(failed(&to_a_folder), (1, "file-unwritable".to_owned()));
    let weak = json!({ "name": "weak", "scopes": ["runs:read", "backups:read"] });
    let token = hosted.done("POST", "/v1/tokens", Some(&weak))["token"].as_str().unwrap().to_owned();
    let strong = std::mem::replace(&mut hosted.token, token);
    ok(&hosted.run(&["backup", "by-the-weak", "--output", "json"]));
    let refused = hosted.run(&["backup", "no", "--with-secrets", "--passphrase-file", "secret", "--output", "json"]);
    assert_eq!(failed(&refused), (1, "token-scope-missing".to_owned()));
    assert!(!std::fs::exists(hosted.place.path("no")).unwrap());
    hosted.token = strong;
    hosted.kill();
    assert_eq!(failed(&hosted.run(&["backup", "no", "--output", "json"])).0, 5);
    let place = |arguments: &[&str]| hosted.place.run(&[arguments, &["--output", "json"]].concat());
    let offline = ok(&place(&["backup", "offline", "--offline", "--data-dir", "data"]));
    assert_eq!(ok(&place(&["verify", "offline"]))["digest"], offline["digest"]);
    assert_eq!(
        failed(&place(&["backup", "offline", "--offline", "--data-dir", "nowhere"])),
        (4, "store-missing".to_owned())
    );
}

/// Killed at moments that a seed says: a file is what it was or a whole backup, and a folder is none that a host serves or
/// a whole one.
#[test]
fn kills_of_backup_and_restore_leave_nothing_half_done() {
    let hosted = hosted(QUICK);
    hosted.apply("it/good", GOOD);
    for _ in 0..10 {
        hosted.done("POST", "/v1/workflows/it/good/runs", Some(&json!({ "input": {} })));
    }
    let url = format!("http://{}", hosted.address);
    let environment = [("BELLHOP_URL", url.as_str()), ("BELLHOP_TOKEN", hosted.token.as_str())];
    let began = now();
    ok(&hosted.run(&["backup", "whole", "--output", "json"]));
    let backup_ms = u64::try_from(began.elapsed().as_millis()).unwrap();
    let began = now();
    ok(&hosted.place.run(&["restore", "whole", "--data-dir", "measured", "--output", "json"]));
    let restore_ms = u64::try_from(began.elapsed().as_millis()).unwrap();
    let mut dice = Dice::of(7);
    let kill_after = |mut started: bellhop::Started, ms: u64| {
        let end = now() + Duration::from_millis(ms);
        while now() < end && !started.has_ended() {
            std::thread::yield_now();
        }
    };
    let (mut killed, mut whole) = (0, 0);
    for round in 0..6 {
        let file = format!("killed-{round}");
        let started = hosted.place.start_with(&["backup", &file], &environment);
        kill_after(started, dice.below(backup_ms + 20));
        if std::fs::exists(hosted.place.path(&file)).unwrap() {
            whole += 1;
            ok(&hosted.place.run(&["verify", &file, "--output", "json"]));
        } else {
            killed += 1;
        }
        let folder = format!("folder-{round}");
        // Not by the name of the flag: a host of these tests would be lent what it compiles.
        let flag = format!("--data-dir={folder}");
        let started = hosted.place.start_with(&["restore", "whole", &flag], &[]);
        kill_after(started, dice.below(restore_ms + 20));
        if std::fs::exists(hosted.place.path(&format!("{folder}/store"))).unwrap() {
            whole += 1;
            ok(&hosted.place.run(&["verify", "--data-dir", &folder, "--output", "json"]));
            let again = hosted.place.run(&["restore", "whole", "--data-dir", &folder, "--output", "json"]);
            assert_eq!(failed(&again), (4, "folder-not-empty".to_owned()));
        } else {
            killed += 1;
            if std::fs::exists(hosted.place.path(&format!("{folder}/restoring"))).unwrap() {
                let served = hosted.place.run(&["serve", &flag, "--listen", "127.0.0.1:0", "--output", "json"]);
                assert_eq!(failed(&served), (70, "data-dir-refused".to_owned()), "{}", served.stderr);
            }
            ok(&hosted.place.run(&["restore", "whole", &flag, "--output", "json"]));
        }
    }
    println!("{killed} were killed before their end, {whole} after it");
    // The host that was backed up is as it was.
    let run = hosted.done("POST", "/v1/workflows/it/good/runs?wait=60s", Some(&json!({ "input": {} })));
    assert_eq!(run["status"], "completed", "{run}");
}
