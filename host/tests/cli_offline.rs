//! The verbs that need no server, as people run them: the built program, its exit codes, its words.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bellhop;

use expect_test::expect;
use serde_json::Value;

use bellhop::Place;

const WORKFLOW: &str = "\
document:
  dsl: 1.0.3
  namespace: it
  name: send-notification
  version: 1.0.0
do:
  - notify:
      call: message.send:1@slack
      with: { channel: '#it', text: Hello }
";

#[test]
fn wrong_arguments_are_usage_errors() {
    let place = Place::new();
    for arguments in [
        &["chek"][..],
        &["check"],
        &["explain"],
        &["plugin", "build"],
        &["config", "--output", "xml"],
        &["runs", "resolve", "run_1"],
        &["runs", "resolve", "run_1", "--done", "--not-done"],
        &["connect", "slack", "--kind", "grid", "--name", "acme"],
        &["slack-simulator", "--listen", "somewhere"],
    ] {
        let done = place.run(arguments);
        assert_eq!(done.code, 2, "{arguments:?}: {}", done.stderr);
        assert_eq!(done.stdout, "", "{arguments:?}");
        assert!(done.stderr.starts_with("error: "), "{arguments:?}: {}", done.stderr);
    }
    let done = place.run(&["chek", "--output", "json"]);
    assert_eq!(done.code, 2);
    assert_eq!(done.json()["error"]["code"], "usage");
    assert_eq!(place.run(&["--help"]).code, 0);
    assert_eq!(place.run(&["--version"]).stdout, format!("bellhop {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn unknown_settings_are_said_with_what_may_have_been_meant() {
    let place = Place::new();
    place.write("bellhop.toml", "lisen = \"127.0.0.1:0\"\n\n[limits]\nguest_cpu_max = 5\n");
    let done = place.run(&["config"]);
    assert_eq!(done.code, 2);
    expect![[r#"
        error[unknown-key]: there is no setting `lisen`
         --> bellhop.toml:1:1
          |
        1 | lisen = "127.0.0.1:0"
          | ^^^^^ did you mean `listen`?
          |
          = who:   the operator of this host
          = more:  bellhop explain unknown-key

        error[unknown-key]: there is no limit `guest_cpu_max`
         --> bellhop.toml:4:1
          |
        4 | guest_cpu_max = 5
          | ^^^^^^^^^^^^^ did you mean `guest_cpu_ms_max`?
          |
          = who:   the operator of this host
          = more:  bellhop explain unknown-key

        error: the configuration bellhop.toml cannot be used
    "#]]
    .assert_eq(&done.stderr);
    let done = place.run(&["config", "--config", "none.toml"]);
    assert_eq!(done.code, 2, "{}", done.stderr);
}

#[test]
fn flags_stand_over_the_environment_and_that_over_the_file() {
    let place = Place::new();
    place.write("bellhop.toml", "url = \"http://file\"\ndata_dir = \"from-file\"\n[limits]\nlive_runs_max = 7\n");
    let setting = |arguments: &[&str], environment: &[(&str, &str)], name: &str| {
        let done = place.run_with(&[&["config", "--output", "json"], arguments].concat(), environment);
        assert_eq!(done.code, 0, "{}", done.stderr);
        done.json()["settings"][name].as_str().unwrap().to_owned()
    };
    assert_eq!(setting(&[], &[], "url"), "http://file");
    assert_eq!(setting(&[], &[("BELLHOP_URL", "http://environment")], "url"), "http://environment");
    assert_eq!(setting(&["--url", "http://flag"], &[("BELLHOP_URL", "http://environment")], "url"), "http://flag");
    assert_eq!(setting(&[], &[], "data_dir"), "from-file");
    assert_eq!(setting(&["--data-dir", "from-flag"], &[], "data_dir"), "from-flag");
    let limits = place.run(&["config", "--output", "json"]).json()["limits"].clone();
    let limits = limits.as_array().unwrap();
    let live = limits.iter().find(|l| l["name"] == "live_runs_max").unwrap();
    assert_eq!((&live["value"], &live["default"]), (&Value::from(7), &Value::from(256)));
    assert!(limits.iter().all(|l| !l["why"].as_str().unwrap().is_empty()));
}

#[test]
fn what_config_prints_is_a_configuration() {
    let place = Place::new();
    let printed = place.run(&["config"]).stdout;
    place.write("bellhop.toml", &printed);
    let again = place.run(&["config"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(again.stdout.lines().skip(1).collect::<Vec<_>>(), printed.lines().skip(1).collect::<Vec<_>>());
}

#[test]
fn codes_are_explained() {
    let place = Place::new();
    for way in ["plan-required", "error[plan-required]", "https://bellhop.dev/errors/plan-required"] {
        let done = place.run(&["explain", way]);
        assert_eq!(done.code, 0, "{way}: {}", done.stderr);
        assert!(done.stdout.starts_with("# plan-required\n\n"), "{}", done.stdout);
    }
    let done = place.run(&["explain", "plan-requird"]);
    assert_eq!((done.code, done.stdout.as_str()), (4, ""));
    assert_eq!(
        done.stderr,
        "error: there is no code `plan-requird`\n  fix: did you mean `plan-required`? bellhop explain plan-required\n"
    );
    let json = place.run(&["explain", "yaml-invalid", "--output", "json"]).json();
    assert_eq!(json["code"], "yaml-invalid");
    assert!(json["page"].as_str().unwrap().len() > 100);
}

#[test]
fn a_grid_account_alone_cannot_post_a_message() {
    let place = Place::new();
    place.write("workflows/send-notification.yaml", WORKFLOW);
    let plugin = bellhop::slack_plugin();
    let arguments = ["check", "workflows/send-notification.yaml", "--plugin", plugin, "--assume", "acme=grid-org"];
    let done = place.run(&arguments);
    assert_eq!(done.code, 3, "{}", done.stderr);
    expect![[r#"
        error[plan-required]: `message.send` cannot run on connection `acme`
         --> workflows/send-notification.yaml:8:13 (task /do/0/notify)
          |
        8 |       call: message.send:1@slack
          |             ^^^^^^^^^^^^^^^^^^^^ calls chat.postMessage, which acts in one workspace
          |
          = needs: a connection of kind "Enterprise Grid: Workspace" (or a Pro / Business+ workspace)
          = has:   "Enterprise Grid: Grid account"
          = fix:   connect the workspace too: bellhop connect slack --kind grid-workspace --name acme-hq
          = who:   a Workspace Owner of that workspace
          = more:  bellhop explain plan-required
    "#]]
    .assert_eq(&done.stdout);
    let done = place.run(&[&arguments[..], &["--output", "json"]].concat());
    assert_eq!(done.code, 3);
    let diagnostic = &done.json()["diagnostics"][0];
    assert_eq!(diagnostic["code"], "plan-required");
    assert_eq!((&diagnostic["line"], &diagnostic["column"]), (&Value::from(8), &Value::from(13)));
    assert_eq!(diagnostic["remedies"][0]["command"], "bellhop connect slack --kind grid-workspace --name acme-hq");
    assert_eq!(done.json()["files"][0]["workflow"], "it/send-notification");

    let with = ["check", "workflows/send-notification.yaml", "--plugin", plugin, "--assume", "acme=workspace:pro"];
    let done = place.run(&with);
    assert_eq!((done.code, done.stdout.as_str()), (0, ""), "{}", done.stderr);
    let unknown = ["check", "workflows/send-notification.yaml", "--plugin", plugin, "--assume", "acme=workspace"];
    assert_eq!(place.run(&unknown).code, 0, "an unknown plan is a warning");
    assert_eq!(place.run(&[&unknown[..], &["--strict"]].concat()).code, 3);
}

#[test]
fn what_is_wrong_with_files_and_flags_of_check_is_said() {
    let place = Place::new();
    place.write("broken.yaml", "document: [\n");
    place.write("unknown.yaml", &WORKFLOW.replace("message.send:1@slack", "message.sent:1@slack"));
    let plugin = bellhop::slack_plugin();
    let done = place.run(&["check", "none.yaml"]);
    assert_eq!(done.code, 4, "{}", done.stderr);
    for wrong in ["acme", "acme=grid", "acme=grid-org:pro", "Acme=grid-org"] {
        let done = place.run(&["check", "broken.yaml", "--assume", wrong, "--output", "json"]);
        assert_eq!((done.code, done.json()["error"]["code"].as_str()), (2, Some("assumption-invalid")), "{wrong}");
    }
    // All files are checked, whatever one of them is.
    let done = place.run(&[
        "check",
        "broken.yaml",
        "unknown.yaml",
        "--plugin",
        plugin,
        "--assume",
        "acme=workspace:pro",
        "--output",
        "json",
    ]);
    assert_eq!(done.code, 3);
    let json = done.json();
    let codes: Vec<&str> = json["diagnostics"].as_array().unwrap().iter().filter_map(|d| d["code"].as_str()).collect();
    assert_eq!(codes, ["yaml-invalid", "action-unknown"], "{json:#}");
    assert_eq!(json["files"].as_array().map(Vec::len), Some(2));
}

/// The shipped definitions are clean where they are meant to be, with the table that lies beside them.
#[test]
fn the_shipped_definitions_find_their_table_and_are_clean() {
    let place = Place::new();
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../workflows");
    let mut files = Vec::new();
    for folder in ["", "tables"] {
        for entry in shipped.join(folder).read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "yaml") {
                let name = format!("workflows/{folder}/{}", path.file_name().unwrap().to_string_lossy());
                place.write(&name, &std::fs::read_to_string(&path).unwrap());
                if folder.is_empty() {
                    files.push(name);
                }
            }
        }
    }
    files.sort();
    assert!(files.len() >= 3, "{files:?}");
    let plugin = bellhop::slack_plugin();
    let check = |assumed: &[&str]| {
        let assumed = assumed.iter().flat_map(|a| ["--assume", a]);
        let arguments: Vec<&str> =
            ["check", "--plugin", plugin].into_iter().chain(assumed).chain(files.iter().map(String::as_str)).collect();
        place.run(&arguments)
    };
    for assumed in [&["hq=workspace:business-plus"][..], &["org=grid-org", "hq=grid-workspace"]] {
        let done = check(assumed);
        assert_eq!((done.code, done.stdout.as_str()), (0, ""), "{assumed:?}: {}", done.stderr);
        assert!(done.stderr.ends_with("0 errors, 0 warnings\n"), "{assumed:?}: {}", done.stderr);
    }
    let done = check(&["pro=workspace:pro"]);
    assert_eq!(done.code, 3, "{}", done.stdout);
    assert!(done.stdout.contains("error[plan-required]"), "{}", done.stdout);
    // One that is no table is said, and one that is named stands above it.
    let table = std::fs::read_to_string(shipped.join("tables/access.yaml")).unwrap();
    place.write("workflows/tables/access.yaml", "columns: { channels: chanel }\nrows: {}\n");
    let done = check(&["hq=workspace:business-plus"]);
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert!(done.stderr.contains("workflows/tables/access.yaml is no table"), "{}", done.stderr);
    place.write("other.yaml", &table);
    std::fs::remove_file(place.path("workflows/tables/access.yaml")).unwrap();
    let done = check(&["hq=workspace:business-plus"]);
    assert_eq!(done.code, 3, "{}", done.stdout);
    assert!(done.stdout.contains("error[table-unknown]"), "{}", done.stdout);
    files.extend(["--table".to_owned(), "access=other.yaml".to_owned()]);
    let named: Vec<&str> = files.iter().map(String::as_str).collect();
    let done =
        place.run(&[&["check", "--plugin", plugin, "--assume", "hq=workspace:business-plus"], &named[..]].concat());
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
}

/// What a component imports, read by another library than the host reads it with.
fn imports_of(component: &[u8]) -> Vec<String> {
    let decoded = wit_component::decode(component).unwrap();
    let resolve = decoded.resolve();
    let mut found = Vec::new();
    for (_, interface) in resolve.interfaces.iter() {
        let package = interface.package.map(|id| resolve.packages[id].name.to_string()).unwrap_or_default();
        if package.starts_with("bellhop:slack@") {
            let name = interface.name.clone().unwrap();
            found.extend(interface.functions.keys().map(|function| format!("{name}.{function}")));
        }
    }
    found.sort();
    found
}

#[test]
fn a_plugin_built_in_the_workspace_is_found_by_its_name() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("target/plugins")).unwrap();
    std::fs::create_dir_all(place.path("inside/it")).unwrap();
    std::fs::copy(bellhop::slack_plugin(), place.path("target/plugins/slack.wasm")).unwrap();
    let done = place.run(&["plugin", "inspect", "slack", "--output", "json"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let json = done.json();
    let shown: Vec<&str> = json["imports"].as_array().unwrap().iter().filter_map(|i| i["function"].as_str()).collect();
    assert_eq!(shown, imports_of(&std::fs::read(bellhop::slack_plugin()).unwrap()), "exactly those of the binary");
    assert_eq!(json["undeclaredImports"], serde_json::json!([]));
    for action in json["actions"].as_array().unwrap() {
        for method in action["calls"].as_array().unwrap().iter().flat_map(|a| a["methods"].as_array().unwrap()) {
            assert!(method["method"].is_string() && method["tokens"].is_array(), "{method}");
        }
    }
    let done = place.run(&["plugin", "inspect", "slak"]);
    assert_eq!(done.code, 4);
    assert!(done.stderr.contains("did you mean `slack`?"), "{}", done.stderr);
}

#[test]
fn a_plugin_shows_what_its_binary_imports() {
    let place = Place::new();
    let plugin = bellhop::slack_plugin();
    let done = place.run(&["plugin", "inspect", plugin, "--output", "json"]);
    assert_eq!(done.code, 0, "{}", done.stderr);
    let json = done.json();
    assert_eq!(json["name"], "slack");
    let imports: Vec<&str> =
        json["imports"].as_array().unwrap().iter().filter_map(|i| i["function"].as_str()).collect();
    assert!(imports.contains(&"chat.post-message") && imports.is_sorted(), "{imports:?}");
    for action in json["actions"].as_array().unwrap() {
        for alternative in action["calls"].as_array().unwrap() {
            for method in alternative["methods"].as_array().unwrap() {
                let function = method["function"].as_str().unwrap();
                assert!(imports.contains(&function), "{function} is declared and not imported");
                assert!(method["tokens"].is_array() && method["connections"].is_object(), "{method}");
            }
        }
    }
    let text = place.run(&["plugin", "inspect", plugin]).stdout;
    for import in imports {
        assert!(text.contains(&format!("  {import} ")), "{import} is not shown");
    }
    place.write("no.wasm", "(module)");
    let done = place.run(&["plugin", "inspect", "no.wasm"]);
    assert_eq!(done.code, 3, "{}", done.stderr);
    assert_eq!(place.run(&["plugin", "inspect", "slak"]).code, 4);
    assert_eq!(place.run(&["plugin", "build", "nowhere"]).code, 4);
}

#[test]
fn verbs_that_need_a_host_say_that_there_is_none() {
    let place = Place::new();
    for arguments in [&["runs", "list"][..], &["run", "it/x"], &["plugin", "list"], &["token", "list"]] {
        let done = place.run_with(arguments, &[("BELLHOP_URL", "http://127.0.0.1:1")]);
        assert_eq!(done.code, 5, "{arguments:?}: {}", done.stderr);
        assert!(done.stderr.contains("no host answers at http://127.0.0.1:1/"), "{}", done.stderr);
    }
    let done = place.run_with(&["runs", "list"], &[("BELLHOP_URL", "http://far.example"), ("BELLHOP_TOKEN", "bh_x")]);
    assert_eq!(done.code, 2, "a token is not sent in the clear: {}", done.stderr);
    assert!(!done.stderr.contains("bh_x"));
    let done = place.run(&["run", "nonsense"]);
    assert_eq!(done.code, 2, "{}", done.stderr);
}

/// Whoever gave the folder away may have put machine code of their own there.
#[test]
fn author_d1_nothing_compiled_is_taken_from_the_folder_that_a_verb_is_called_in() {
    let place = Place::new();
    place.write(
        "hello.yaml",
        "document: {dsl: '1.0.3', namespace: it, name: hello, version: 1.0.0}\ndo:\n  - say: {set: {a: '${ 1 + 1 }'}}\n",
    );
    // Of another version of the program: whoever looks into a folder of compiled code removes it.
    let planted =
        [".bellhop/compiled/00-0123456789abcdef-x86_64-00.cwasm", "target/00-0123456789abcdef-x86_64-00.cwasm"];
    for file in planted {
        place.write(file, "machine code");
    }
    for arguments in [&["check", "hello.yaml"][..], &["check", "hello.yaml", "--data-dir", ".bellhop"]] {
        let checked = place.run(arguments);
        assert_eq!(checked.code, 0, "{}", checked.stderr);
        for file in planted {
            assert!(std::path::Path::new(&place.path(file)).exists(), "{file} was looked at");
        }
        let folder = std::fs::read_dir(place.path(".bellhop/compiled")).unwrap().count();
        assert_eq!(folder, 1, "nothing is put there either");
    }
}
