//! Plugins that mean ill or are made badly, installed into the running program and called: each ends with a name for
//! what it did, nothing of it reaches Slack, and the host goes on.
//!
//! They are written by hand, since no toolchain makes them of honest code. What each gets stands in
//! `cases/wrong_plugins.txt`, which `UPDATE_EXPECT=1 cargo test -p bellhop --test wrong_plugins` writes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bellhop;

use std::fmt::Write as _;

use bellhop::hosted::{GOOD, Hosted};
use bellhop::http::{Request, events, open};
use bellhop_tests::guest::Plugin;
use expect_test::expect_file;
use serde_json::{Value, json};

/// An answer that a host takes.
const FINE: &str = r#"{"output":{},"changed":false}"#;
/// A message of a plugin's own.
const MESSAGE: &str = r#"{"channel":"C0PLUSIT","text":"evil"}"#;

fn start() -> Hosted {
    let hosted = Hosted::start("[limits]\nguest_cpu_ms_max = 200\n");
    hosted.install_slack();
    hosted.connect("plus", "workspace", "act", &json!({ "bot": "xoxb-plus" }));
    hosted.apply("it/good", GOOD);
    hosted.ready();
    hosted
}

fn manifest(name: &str, calls: &Value) -> Value {
    json!({
        "publisher": "nobody", "name": name, "version": "1.0.0",
        "actions": [{
            "name": "it.does", "title": "It does", "description": "What it does.", "effect": "notify",
            "input": { "type": "object" }, "output": { "type": "object" }, "calls": calls,
        }],
    })
}

/// On a workspace, these functions.
fn calls(functions: &[&str]) -> Value {
    let methods: Vec<Value> = functions.iter().map(|f| json!({ "function": f, "when": "maybe" })).collect();
    json!([{ "on": ["workspace"], "methods": methods }])
}

fn install(hosted: &Hosted, plugin: &Plugin<'_>) -> bellhop::http::Answer {
    hosted.send("POST", "/v1/plugins?grantAll=true", "application/wasm", &plugin.build())
}

/// Runs the action until it has ended or waits for a person.
fn act(hosted: &Hosted, plugin: &str) -> Value {
    let path = format!("/v1/actions/it.does:1@{plugin}/runs");
    let run = hosted.done("POST", &path, Some(&json!({ "connection": "plus", "input": {} })));
    let path = format!("/v1/runs/{}", run["id"].as_str().unwrap());
    let events_path = format!("{path}/events");
    let request = Request { method: "GET", path: &events_path, token: &hosted.token, ..Request::default() };
    events(open(&hosted.address, &request).unwrap(), |seen| seen.iter().any(|e| e.kind == "run.parked"));
    hosted.done("GET", &path, None)
}

fn goes_on(hosted: &Hosted, after: &str) {
    let before = hosted.ledger().len();
    let run = hosted.done("POST", "/v1/workflows/it/good/runs?wait=30s", Some(&json!({ "input": {} })));
    assert_eq!(run["status"], "completed", "after {after}: {run:#}\n{}", hosted.log());
    assert_eq!(hosted.ledger().len(), before + 1, "after {after}");
}

#[test]
fn what_no_host_takes_is_refused_by_name() {
    let hosted = start();
    let mut got = String::new();
    let good = manifest("wrong", &calls(&["chat.post-message"])).to_string();
    let undeclarable = manifest("wrong", &calls(&["chat.update"])).to_string();
    let no_schema = {
        let mut manifest = manifest("wrong", &calls(&["chat.post-message"]));
        manifest["actions"][0]["input"] = json!({ "type": "objekt" });
        manifest.to_string()
    };
    let imports: &[&str] = &["chat.post-message"];
    let plugin = |description: &'static str| Plugin { imports, description, ..Plugin::default() };
    let kept = |text: String| -> &'static str { Box::leak(text.into_boxed_str()) };
    let good = kept(good);
    let cases: Vec<(&str, Plugin<'_>)> = vec![
        ("sockets", Plugin { outer: r#"(import "evil:net/tcp@1.0.0" (instance))"#, ..plugin(good) }),
        ("http", Plugin { outer: r#"(import "wasi:http/outgoing-handler@0.2.0" (instance))"#, ..plugin(good) }),
        ("a method that guests are not given", Plugin { imports: &["oauth.access"], ..plugin(good) }),
        ("a method that Slack does not have", Plugin { imports: &["chat.read-minds"], ..plugin(good) }),
        ("a newer interface", Plugin { package: "bellhop:slack@1.9.0", ..plugin(good) }),
        ("declares a call that it does not import", plugin(kept(undeclarable))),
        ("an invalid schema", plugin(kept(no_schema))),
        ("no manifest", plugin(r#"{"name":"wrong"}"#)),
        ("a description that is no JSON", plugin("hello")),
        ("more memory than there is", Plugin { pages: 2_000, ..plugin(good) }),
        (
            "a call while it describes itself",
            Plugin {
                items: "(func $start (call $chat.post-message (i32.const 0) (i32.const 0) (i32.const 64))) (start $start)",
                ..plugin(good)
            },
        ),
        (
            "a loop while it describes itself",
            Plugin { items: "(func $start (loop $l (br $l))) (start $start)", ..plugin(good) },
        ),
    ];
    for (name, plugin) in &cases {
        let answer = install(&hosted, plugin);
        let problem = answer.json();
        assert_eq!((answer.status, problem["code"].as_str()), (422, Some("plugin-refused")), "{name}: {problem:#}");
        hosted.place.write("wrong.wasm", "");
        std::fs::write(hosted.place.path("wrong.wasm"), plugin.build()).unwrap();
        let cli = hosted.run(&["plugin", "install", "wrong.wasm"]);
        assert_eq!(cli.code, 3, "{name}: {}", cli.stderr);
        let seen = hosted.run(&["plugin", "inspect", "wrong.wasm"]);
        assert_eq!(seen.code, 3, "{name}: {}", seen.stderr);
        writeln!(got, "## {name}").unwrap();
        for diagnostic in problem["diagnostics"].as_array().unwrap() {
            let remedy = diagnostic["remedies"][0]["title"].as_str().unwrap_or_else(|| panic!("{diagnostic:#}"));
            writeln!(got, "{}: {}\n  fix: {remedy}", diagnostic["code"].as_str().unwrap(), diagnostic["message"])
                .unwrap();
        }
        writeln!(got).unwrap();
        goes_on(&hosted, name);
    }
    let plugins = hosted.done("GET", "/v1/plugins", None);
    assert_eq!(plugins["result"].as_array().unwrap().len(), 1, "{plugins:#}");
    expect_file!["cases/wrong_plugins_refused.txt"].assert_eq(&got);
}

/// An import that no action declares is no reason to refuse a plugin, and is marked: nobody may call it.
#[test]
fn an_import_that_no_action_declares_is_marked() {
    let hosted = start();
    let description = manifest("idle", &calls(&["chat.update"])).to_string();
    let imports = &["chat.post-message", "chat.update"];
    let plugin = Plugin { imports, description: &description, ..Plugin::default() };
    std::fs::write(hosted.place.path("idle.wasm"), plugin.build()).unwrap();
    let seen = hosted.run(&["plugin", "inspect", "idle.wasm"]);
    assert_eq!(seen.code, 0, "{}", seen.stderr);
    let line = |import: &str| seen.stdout.lines().find(|l| l.contains(import)).unwrap_or_default().to_owned();
    assert!(line("chat.post-message").ends_with("! no action declares it"), "{}", seen.stdout);
    assert!(line("chat.update").ends_with("it.does"), "{}", seen.stdout);
    let installed = hosted.run(&["plugin", "install", "idle.wasm", "--grant-all"]);
    assert_eq!(installed.code, 0, "{}", installed.stderr);
    assert!(installed.stdout.contains("! imports chat.post-message, which no action declares"), "{}", installed.stdout);
    let listed = hosted.done("GET", "/v1/plugins", None);
    let idle = listed["result"].as_array().unwrap().iter().find(|p| p["name"] == "idle").unwrap();
    assert_eq!(idle["undeclaredImports"], json!(["chat.post-message"]));
    assert_eq!(idle["grants"], json!(["chat.update"]), "what is not declared is not granted");
}

/// The words of a command that was printed, without the program's name.
fn typed(command: &str) -> Vec<&str> {
    command.split_whitespace().skip(1).collect()
}

#[test]
fn author_5_what_is_printed_can_be_typed() {
    let hosted = start();
    let run = |arguments: &[&str]| hosted.run(arguments);
    let description = manifest("idle", &calls(&["chat.post-message", "users.info"])).to_string();
    let imports = &["chat.post-message", "users.info"];
    let plugin = Plugin { imports, description: &description, ..Plugin::default() };
    std::fs::write(hosted.place.path("idle.wasm"), plugin.build()).unwrap();
    let installed = run(&["plugin", "install", "idle.wasm"]);
    assert_eq!(installed.code, 0, "{}", installed.stderr);
    assert!(installed.stdout.contains("declared, not granted chat.postMessage"), "{}", installed.stdout);
    let fix = |text: &str| text.lines().find_map(|line| line.split_once("missing: ")).map(|(_, fix)| fix.to_owned());
    let granted = run(&typed(&fix(&installed.stdout).unwrap()));
    assert_eq!(
        (granted.code, granted.stdout.matches("granted ").count()),
        (0, 2),
        "{}{}",
        granted.stdout,
        granted.stderr
    );
    assert_eq!(fix(&granted.stdout), None);
    let less = run(&["plugin", "grant", "idle", "--remove", "users.info", "--add", "users.info@plus"]);
    assert!(less.stdout.contains("granted users.info@plus\n"), "{}{}", less.stdout, less.stderr);
    let wrong = run(&["plugin", "grant", "idle", "--add", "users_info", "--remove", "chat.delete"]);
    assert_eq!(wrong.code, 3, "{}", wrong.stdout);
    assert!(
        wrong.stderr.contains("did you mean `users.info`?") && wrong.stderr.contains("`chat.delete` is not granted")
    );
    assert_eq!(run(&["plugin", "grant", "idle"]).code, 2);
    assert_eq!(run(&["plugin", "grant", "idel", "--add", "users.info"]).code, 4);

    // Whose the name is.
    let mut other = manifest("idle", &calls(&[]));
    other["publisher"] = json!("somebody");
    let other = other.to_string();
    std::fs::write(hosted.place.path("other.wasm"), Plugin { description: &other, ..Plugin::default() }.build())
        .unwrap();
    let refused = run(&["plugin", "install", "other.wasm"]);
    assert_eq!(refused.code, 4, "{}", refused.stdout);
    assert!(
        refused.stderr.contains("plugin-publisher-differs") && refused.stderr.contains("--replace-publisher"),
        "{}",
        refused.stderr
    );
    let replaced = run(&["plugin", "install", "--replace-publisher", "other.wasm"]);
    assert!(
        replaced.stdout.contains("replaced idle 1.0.0, published by nobody"),
        "{}{}",
        replaced.stdout,
        replaced.stderr
    );

    let removed = run(&["plugin", "remove", "idle"]);
    assert_eq!((removed.code, removed.stdout.as_str()), (0, "removed idle 1.0.0\n"), "{}", removed.stderr);
    assert_eq!(run(&["plugin", "remove", "idle"]).code, 4);
    let needed = run(&["plugin", "remove", "slack@1.0.0"]);
    assert_eq!(needed.code, 4, "{}", needed.stdout);
    assert!(needed.stderr.contains("it/good") && needed.stderr.contains("plugin-in-use"), "{}", needed.stderr);
}

#[test]
fn author_13_inspect_says_where_it_looked_and_fits_a_terminal() {
    let hosted = start();
    let shown = hosted.run(&["plugin", "inspect", "slack"]);
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    let from = format!("slack 1.0.0, installed in the host at http://{}", hosted.address);
    assert!(shown.stdout.contains(&from), "{}", shown.stdout);
    let wide: Vec<&str> = shown.stdout.lines().filter(|line| line.chars().count() > 80).collect();
    assert_eq!(wide, [""; 0]);
    let unknown = hosted.run(&["plugin", "inspect", "slak"]);
    assert_eq!(unknown.code, 4);
    for part in ["the host at http://", "has none", "target/plugins", "did you mean `slack`?"] {
        assert!(unknown.stderr.contains(part), "no `{part}` in {}", unknown.stderr);
    }
}

/// A call that may be made and is not granted is told before it is refused.
#[test]
fn author_6_a_call_that_may_be_made_and_is_not_granted_is_a_warning() {
    let hosted = start();
    let description = manifest("idle", &calls(&["chat.post-message"])).to_string();
    let plugin = Plugin { imports: &["chat.post-message"], description: &description, ..Plugin::default() };
    assert_eq!(hosted.send("POST", "/v1/plugins", "application/wasm", &plugin.build()).status, 201);
    let text = "document: {dsl: 1.0.3, namespace: it, name: idle, version: 1.0.0}\ndo:\n  - say: {call: 'it.does:1@idle', \
                with: {connection: plus}}\n";
    hosted.place.write("idle.yaml", text);
    for arguments in [&["workflows", "apply", "idle.yaml"][..], &["run", "idle.yaml"]] {
        let told = hosted.run(arguments);
        assert_eq!(told.code, 0, "{}", told.stderr);
        for part in [
            "warning[capability-not-granted]",
            "`it.does` may fail on connection `plus`",
            "bellhop plugin grant idle --add chat.postMessage",
        ] {
            assert!(told.stderr.contains(part), "{arguments:?}: no `{part}` in {}", told.stderr);
        }
    }
    let strict = hosted.send("PUT", "/v1/workflows/it/idle?strict=true", "application/yaml", text.as_bytes());
    assert_eq!((strict.status, strict.json()["code"].as_str()), (422, Some("preflight-refused")), "{}", strict.text);
}

/// A plugin that is installed, what its action does, and what it may have sent.
struct Guest {
    name: &'static str,
    run: &'static str,
    items: &'static str,
    imports: &'static [&'static str],
    declares: &'static [&'static str],
    /// Messages in Slack that are its own right to send.
    sends: usize,
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            name: "",
            run: "(unreachable)",
            items: "",
            imports: &["chat.post-message"],
            declares: &["chat.post-message"],
            sends: 0,
        }
    }
}

fn guests() -> Vec<Guest> {
    vec![
        Guest { name: "loops", run: "(loop $l (br $l)) (unreachable)", ..Guest::default() },
        Guest { name: "traps", ..Guest::default() },
        Guest { name: "divides", run: "(i32.div_u (i32.const 1) (i32.const 0))", ..Guest::default() },
        Guest {
            name: "recurses",
            items: "(func $deep (param i32) (result i32) (i32.add (i32.const 1) (call $deep (i32.add (local.get 0) (i32.const 1)))))",
            run: "(call $deep (i32.const 0))",
            ..Guest::default()
        },
        Guest {
            name: "grows",
            run: "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)",
            ..Guest::default()
        },
        Guest {
            name: "floods-the-log",
            run: "(loop $l (call $log (i32.const 512) (i32.const 4) (i32.const 0) (i32.const 65536)) (br $l)) (unreachable)",
            ..Guest::default()
        },
        Guest {
            name: "floods-its-output",
            run: "(drop (memory.grow (i32.const 64))) (call $ok (i32.const 0) (i32.const 1048577))",
            ..Guest::default()
        },
        Guest {
            name: "floods-its-arguments",
            run: "(drop (memory.grow (i32.const 64))) (call $chat.post-message (i32.const 0) (i32.const 2097152) (i32.const 64)) (i32.const 64)",
            ..Guest::default()
        },
        Guest {
            name: "calls-for-ever",
            imports: &["auth.test"],
            declares: &["auth.test"],
            run: "(loop $l (call $auth.test (i32.const 4160) (i32.const 2) (i32.const 64)) (br $l)) (unreachable)",
            ..Guest::default()
        },
        Guest { name: "answers-nonsense", run: "(call $ok (i32.const 4096) (i32.const 7))", ..Guest::default() },
        Guest { name: "answers-out-of-memory", run: "(call $ok (i32.const -8) (i32.const 100))", ..Guest::default() },
        Guest {
            name: "calls-what-it-does-not-declare",
            declares: &[],
            run: "(call $chat.post-message (i32.const 4096) (i32.const 36) (i32.const 64)) (call $echo)",
            ..Guest::default()
        },
        Guest {
            name: "sends-and-then-traps",
            run: "(call $chat.post-message (i32.const 4096) (i32.const 36) (i32.const 64)) (unreachable)",
            sends: 1,
            ..Guest::default()
        },
    ]
}

#[test]
fn what_an_installed_plugin_does_wrong_has_a_name_and_an_end() {
    assert_eq!(MESSAGE.len(), 36);
    let hosted = start();
    let mut got = String::new();
    // `$echo` gives the answer of the call as the plugin's own error.
    let shared = format!(
        r#"(data (i32.const 4096) "{}") (data (i32.const 4160) "{{}}") (data (i32.const 4200) "{}")
        (func $echo (result i32) (i32.store8 (i32.const 64) (i32.const 1)) (i32.const 64))"#,
        MESSAGE.replace('"', "\\\""),
        FINE.replace('"', "\\\""),
    );
    for guest in guests() {
        let name = guest.name;
        let description = manifest(name, &calls(guest.declares)).to_string();
        let items = format!("{shared} {}", guest.items);
        let plugin = Plugin {
            imports: guest.imports,
            description: &description,
            items: &items,
            run: guest.run,
            ..Plugin::default()
        };
        let answer = install(&hosted, &plugin);
        assert_eq!(answer.status, 201, "{name}: {}", answer.text);
        let before = hosted.ledger().len();
        let run = act(&hosted, name);
        let seen = hosted.ledger();
        assert_eq!(seen.len(), before + guest.sends, "{name}: {:#?}", &seen[before..]);
        // While it waits for a person, too, others go on.
        goes_on(&hosted, name);
        let status = run["status"].as_str().unwrap();
        writeln!(got, "## {name}\n{status}").unwrap();
        for part in ["error", "waiting"] {
            if !run[part].is_null() {
                let mut told = run[part].clone();
                if let Some(told) = told.as_object_mut() {
                    told.remove("since");
                }
                writeln!(got, "{part}: {told:#}").unwrap();
            }
        }
        writeln!(got).unwrap();
        assert!(matches!(status, "faulted" | "parked"), "{name}: {run:#}");
        let error = if status == "parked" { &run["waiting"]["reason"] } else { &run["error"] };
        assert_eq!(error["instance"], "/do/0/call", "{name}: {run:#}");
        // What helps is on the code's page.
        let code = error["type"].as_str().unwrap().rsplit('/').next().unwrap();
        let page = hosted.place.run(&["explain", code]);
        assert!(page.code == 0 && page.stdout.len() > 200, "{name}: {}", page.stdout);
        if status == "parked" {
            // A person ends it.
            let id = run["id"].as_str().unwrap();
            hosted.done("POST", &format!("/v1/runs/{id}/cancel"), None);
            let ended = hosted.done("GET", &format!("/v1/runs/{id}?wait=30s"), None);
            assert_eq!(ended["status"], "cancelled", "{name}: {ended:#}");
        }
    }
    expect_file!["cases/wrong_plugins.txt"].assert_eq(&got);
    let log = hosted.log();
    assert!(!log.contains("panicked"), "{log}");
    // A flood of log lines is cut.
    assert!(log.len() < 4 << 20, "the log has {} bytes", log.len());
}

#[test]
fn the_host_serves_others_while_guests_loop() {
    let hosted = start();
    let description = manifest("loops", &calls(&[])).to_string();
    let plugin = Plugin { description: &description, run: "(loop $l (br $l)) (unreachable)", ..Plugin::default() };
    assert_eq!(install(&hosted, &plugin).status, 201);
    let body = json!({ "connection": "plus", "input": {} });
    for _ in 0..8 {
        hosted.done("POST", "/v1/actions/it.does:1@loops/runs", Some(&body));
    }
    goes_on(&hosted, "eight loops that are under way");
    let runs = hosted.done("GET", "/v1/runs?workflow=bellhop-action/it-does&status=parked,running", None);
    assert_eq!(runs["result"].as_array().unwrap().len(), 8, "{runs:#}");
}
