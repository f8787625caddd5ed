//! Manifests and what is wrong with each: `cases/manifest/*.json` holds a manifest as a change of a good one, with the
//! diagnostics that it gets. `UPDATE_EXPECT=1 cargo test -p bellhop-core --test all manifest` writes them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::fs;
use std::path::{Path, PathBuf};

use bellhop_core::diagnostic::{Severity, code};
use bellhop_core::manifest::{ACTIONS_MAX, check};
use bellhop_core::pointer;
use bellhop_core::requirement::{Kind, Rules};
use expect_test::expect_file;
use proptest::prelude::*;
use serde_json::{Value, json};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/manifest")
}

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn rules() -> Rules {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/preflight/rules.json");
    serde_json::from_value(read(&path)).unwrap()
}

/// `at` of `manifest` set to `value`; null takes it away.
fn changed(manifest: &mut Value, at: &str, value: &Value) {
    let (parent, key) = at.rsplit_once('/').unwrap();
    let key = pointer::unescape(key).into_owned();
    match manifest.pointer_mut(parent).unwrap_or_else(|| panic!("{at}")) {
        Value::Object(fields) if value.is_null() => drop(fields.remove(&key)),
        Value::Object(fields) => drop(fields.insert(key, value.clone())),
        Value::Array(items) if key == "-" => items.push(value.clone()),
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value.clone(),
        other => panic!("{at} is in {other}"),
    }
}

fn imports(case: &Value, good: &Value) -> Vec<String> {
    let list = case.get("imports").unwrap_or_else(|| &good["imports"]);
    list.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

fn manifest_of(case: &Value, good: &Value) -> Value {
    if let Some(whole) = case.get("manifest") {
        return whole.clone();
    }
    let mut manifest = good["manifest"].clone();
    for (at, value) in case["change"].as_object().unwrap() {
        changed(&mut manifest, at, value);
    }
    manifest
}

/// What a case gets, one line a diagnostic and one its remedy.
fn got(manifest: &Value, imports: &[String], rules: &Rules) -> String {
    let (said, taken) = match check(manifest, imports, rules) {
        Ok(checked) => (checked.warnings, true),
        Err(faults) => (faults, false),
    };
    let mut text = if taken { "taken\n" } else { "refused\n" }.to_owned();
    for diagnostic in &said {
        let place = diagnostic.pointer.as_deref().unwrap_or_else(|| panic!("no place: {diagnostic:?}"));
        let fix = diagnostic.remedies.first().unwrap_or_else(|| panic!("no remedy: {diagnostic:?}"));
        assert_eq!(diagnostic.severity == Severity::Error, !taken, "{diagnostic:?}");
        text.push_str(&format!("{} {place}: {}\n  fix: {}\n", diagnostic.code, diagnostic.message, fix.title));
    }
    text
}

#[test]
fn author_10_every_wrong_manifest_gets_all_its_faults() {
    let rules = rules();
    let good = read(&folder().join("good.json"));
    let mut text = String::new();
    let cases = read(&folder().join("wrong.json"));
    for case in cases.as_array().unwrap() {
        let (manifest, imports) = (manifest_of(case, &good), imports(case, &good));
        text.push_str(&format!("## {}\n{}\n", case["about"].as_str().unwrap(), got(&manifest, &imports, &rules)));
    }
    assert!(cases.as_array().unwrap().len() >= 70, "{}", cases.as_array().unwrap().len());
    expect_file!["../cases/manifest/wrong.txt"].assert_eq(&text);
}

#[test]
fn a_good_manifest_is_taken_and_read_as_it_is() {
    let good = read(&folder().join("good.json"));
    let checked = check(&good["manifest"], &imports(&good, &good), &rules()).unwrap();
    assert_eq!(checked.warnings, []);
    assert_eq!(serde_json::to_value(&checked.manifest).unwrap(), good["manifest"]);
}

/// A manifest of many actions, of which one calls what no host has and one has an inverse that is not there.
#[test]
fn author_10_of_many_actions_the_wrong_ones_are_named() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/preflight/slack.json");
    let manifest = read(&path);
    let mut imports: Vec<String> = Vec::new();
    for function in manifest["actions"].as_array().unwrap().iter().flat_map(functions) {
        imports.push(function);
    }
    let faults = check(&manifest, &imports, &rules()).unwrap_err();
    let said: Vec<(&str, &str)> = faults.iter().map(|fault| (fault.code.0, fault.message.as_str())).collect();
    let wanted = [
        ("method-unknown", "`future.call` declares `canvas.read`, which is no method of this host"),
        ("inverse-unknown", "`team.note`: its inverse `team.unnote` is no action of the plugin"),
    ];
    assert_eq!(said, wanted);
}

fn functions(action: &Value) -> Vec<String> {
    let alternatives = action["calls"].as_array().unwrap().iter();
    let calls = alternatives.flat_map(|alternative| alternative["methods"].as_array().unwrap());
    calls.map(|call| call["function"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn author_10_an_action_that_states_that_it_calls_nothing_runs_on_every_kind() {
    let mut good = read(&folder().join("good.json"));
    good["manifest"]["actions"][0]["calls"] = json!([]);
    let checked = check(&good["manifest"], &imports(&good, &good), &rules()).unwrap();
    let action = &checked.manifest.actions[0];
    for kind in Kind::ALL {
        assert!(action.alternative(kind).is_some_and(|alternative| alternative.methods.is_empty()), "{kind}");
    }
    // What it imports all the same is said, and refuses nothing.
    assert!(checked.warnings.iter().all(|warning| warning.code == code::IMPORT_UNDECLARED), "{:?}", checked.warnings);
}

#[test]
fn author_c1_a_hundred_faults_are_shown_and_the_rest_counted() {
    let mut good = read(&folder().join("good.json"));
    let action = good["manifest"]["actions"][0].clone();
    let actions: Vec<Value> = (0..ACTIONS_MAX)
        .map(|n| {
            let mut action = action.clone();
            action["name"] = json!(format!("Not {n}"));
            action
        })
        .collect();
    good["manifest"]["actions"] = json!(actions);
    let faults = check(&good["manifest"], &imports(&good, &good), &rules()).unwrap_err();
    assert_eq!(faults.len(), 101);
    assert_eq!(faults[100].code, code::TOO_MANY_FAULTS);
}

/// Any JSON at all.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
        "[a-z./#~\u{1b}\u{202e}\u{200b}-]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,5}|\u{1b}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The places of a good manifest.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    if !at.is_empty() {
        found.push(at.to_owned());
    }
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| places(value, &format!("{at}/{key}"), found)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, value)| places(value, &format!("{at}/{n}"), found));
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever stands anywhere: what is taken can be read, what is refused says where and what helps, and nothing that
    /// is said steers a terminal.
    #[test]
    fn author_c1_anything_anywhere_is_taken_or_refused_with_a_place(value in anything(), which in any::<prop::sample::Index>()) {
        let good = read(&folder().join("good.json"));
        let mut found = Vec::new();
        places(&good["manifest"], "", &mut found);
        let mut manifest = good["manifest"].clone();
        let at: &String = which.get(&found);
        changed(&mut manifest, at, &value);
        let rules = rules();
        match check(&manifest, &imports(&good, &good), &rules) {
            Ok(checked) => prop_assert!(checked.manifest.actions.iter().all(|a| checked.manifest.action(&a.name).is_some())),
            Err(faults) => {
                prop_assert!(!faults.is_empty());
                for fault in faults {
                    let fix = &fault.remedies[0].title;
                    let pointer = fault.pointer.unwrap();
                    let told = format!("{}{fix}{pointer}", fault.message);
                    prop_assert!(!told.chars().any(|c| c.is_control() || c == '\u{202e}' || c == '\u{200b}'), "{told:?}");
                }
            }
        }
    }
}

mod grants {
    use bellhop_core::manifest::{Granting, Manifest, declared, given, grants, missing};
    use expect_test::expect;

    use super::*;

    struct Ground {
        manifest: Manifest,
        imports: Vec<String>,
        rules: Rules,
        connections: Vec<String>,
    }

    fn ground() -> Ground {
        let good = read(&folder().join("good.json"));
        let mut rules = rules();
        // Whose arguments are known.
        for (method, arguments) in [("chat.postMessage", vec!["channel", "text"]), ("users.info", vec!["user"])] {
            rules.methods.get_mut(method).unwrap().arguments = arguments.into_iter().map(str::to_owned).collect();
        }
        let mut imports = imports(&good, &good);
        imports.push("usergroups.list".to_owned());
        let manifest = check(&good["manifest"], &imports, &rules).unwrap().manifest;
        Ground { manifest, imports, rules, connections: vec!["hq".to_owned(), "plus".to_owned()] }
    }

    fn told(texts: &[&str]) -> String {
        let Ground { manifest, imports, rules, connections } = &ground();
        let granting = Granting { manifest, imports, rules, connections };
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        match grants(&texts, "/add", &granting) {
            Ok(found) => found.iter().map(|grant| format!("granted {grant}\n")).collect(),
            Err(faults) => {
                let line = |fault: &bellhop_core::diagnostic::Diagnostic| {
                    assert_eq!(fault.code, code::GRANT_INVALID);
                    format!("{}: {}; {}\n", fault.pointer.as_deref().unwrap(), fault.message, fault.remedies[0].title)
                };
                faults.iter().map(line).collect()
            }
        }
    }

    #[test]
    fn author_9_what_would_allow_nothing_is_refused_with_what_was_meant() {
        expect![[r#"
            /add/0: `chat.post-message`: this host gives no method `chat.post-message` to plugins; did you mean `chat.postMessage`?
            /add/1: `chat_post_message`: this host gives no method `chat_post_message` to plugins; did you mean `chat.postMessage`?
            /add/2: `slack::chat::post_message` is not a grant: `:chat::post_message` is not a pattern: only letters, digits, `-`, `_` and `*` can stand in it; did you mean `chat.postMessage`?
            /add/3: `chat.postMesage`: this host gives no method `chat.postMesage` to plugins; did you mean `chat.postMessage`?
            /add/4: `oauth.access`: this host gives no method `oauth.access` to plugins; see which methods a plugin declares: bellhop plugin inspect FILE
            /add/5: `usergroups.list`: plugin `acme-tools` never calls usergroups.list, which no action of it declares; leave it out; the plugin declares chat.postMessage, conversations.invite, users.info
            /add/6: `conversations.open`: plugin `acme-tools` never calls conversations.open, which it does not import; leave it out; the plugin declares chat.postMessage, conversations.invite, users.info
            /add/7: `chat.postMessage@hk`: there is no connection `hk`; did you mean `hq`?
            /add/8: `chat.postMessage@nope`: there is no connection `nope`; see which there are: bellhop connections list
            /add/9: `chat.postMessage:chanel=C*`: chat.postMessage takes no argument `chanel`; did you mean `chat.postMessage:channel=C*`?
            /add/10: `users.info:#it-*`: users.info takes no argument `channel`; name one that it takes: user
            /add/11: `` is not a grant: `` is not a method's name, such as `chat.postMessage`; write METHOD[@CONNECTION][:[FIELD=]PATTERN], as in chat.postMessage@hq:#it-*
            /add/12: `users.info@nope:chanel=U*`: there is no connection `nope`; see which there are: bellhop connections list
            /add/12: `users.info@nope:chanel=U*`: users.info takes no argument `chanel`; name one that it takes: user
        "#]]
        .assert_eq(&told(&[
            "chat.post-message",
            "chat_post_message",
            "slack::chat::post_message",
            "chat.postMesage",
            "oauth.access",
            "usergroups.list",
            "conversations.open",
            "chat.postMessage@hk",
            "chat.postMessage@nope",
            "chat.postMessage:chanel=C*",
            "users.info:#it-*",
            "",
            "users.info@nope:chanel=U*",
        ]));
    }

    #[test]
    fn author_5_grants_add_up_and_what_is_missing_is_said() {
        let texts = ["chat.postMessage:#it-*", "chat.postMessage@hq", "chat.postMessage@hq", "users.info:user=U*"];
        let wanted = "granted chat.postMessage:#it-*\ngranted chat.postMessage@hq\ngranted users.info:user=U*\n";
        assert_eq!(told(&texts), wanted);
        let Ground { manifest, rules, .. } = &ground();
        let all = declared(manifest, rules);
        assert_eq!(missing(manifest, &all, rules), [""; 0]);
        assert_eq!(missing(manifest, &all[..1], rules), ["conversations.invite", "users.info"]);
        assert_eq!(missing(manifest, &[], rules).len(), 3);
    }

    #[test]
    fn author_5_what_is_not_granted_cannot_be_taken_away() {
        let present = ["chat.postMessage:#it-*".parse().unwrap(), "users.info".parse().unwrap()];
        let one = |text: &str| given(&[text.to_owned()], "/remove", "acme-tools", &present);
        assert_eq!(one("users.info").unwrap(), present[1..]);
        assert_eq!(one("chat.postMessage:channel=#it-*").unwrap(), present[..1], "however it is written");
        let fault = &one("users.inf").unwrap_err()[0];
        assert_eq!(fault.remedies[0].title, "did you mean `users.info`?");
        let fault = &one("chat.postMessage").unwrap_err()[0];
        assert_eq!(fault.pointer.as_deref(), Some("/remove/0"));
        assert!(fault.message.contains("`chat.postMessage` is not granted to plugin `acme-tools`"), "{fault:?}");
    }
}

/// By each method that this file's rules know: one that writes is refused under `read`, one that reads is taken.
#[test]
fn author_d3_what_an_action_does_at_most_is_true_of_each_of_its_calls() {
    let (rules, good) = (rules(), read(&folder().join("good.json")));
    let mut manifest = good["manifest"].clone();
    changed(&mut manifest, "/actions/0/effect", &"read".into());
    changed(&mut manifest, "/actions/0/calls", &serde_json::json!([{ "on": ["grid-org"], "methods": [] }]));
    let (mut taken, mut refused) = (0, 0);
    for name in imports(&good, &good) {
        let method = rules.by_function(&name).unwrap();
        let call = serde_json::json!([{ "function": name, "when": "maybe" }]);
        changed(&mut manifest, "/actions/0/calls/0/methods", &call);
        match check(&manifest, &imports(&good, &good), &rules) {
            Ok(_) if !method.writes => taken += 1,
            Err(faults) if method.writes => {
                refused += 1;
                assert_eq!(faults.len(), 1, "{faults:?}");
                assert_eq!(faults[0].code.0, "effect-understated");
                assert!(faults[0].message.contains("`message.say`") && faults[0].message.contains(&name), "{faults:?}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(taken > 0 && refused > 0);
}
