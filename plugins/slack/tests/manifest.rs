//! The manifest, as the host reads it.

use bellhop_core::manifest::{Action, Manifest};
use bellhop_core::schema::Schema;
use serde_json::{Value, json};

use bellhop_plugin_slack::PLUGIN;

fn manifest() -> Manifest {
    serde_json::from_str(&PLUGIN.describe()).expect("a manifest in the host's form")
}

fn action(name: &str) -> Action {
    manifest().action(name).cloned().unwrap_or_else(|| panic!("no action `{name}`"))
}

#[test]
fn the_host_reads_it() {
    let text = PLUGIN.describe();
    assert_eq!(text, PLUGIN.describe(), "the manifest is the same on every call");
    assert!(text.len() < 256 * 1024, "{} bytes are more than the host takes", text.len());
    let manifest = manifest();
    assert_eq!((manifest.name.as_str(), manifest.actions.len()), ("slack", PLUGIN.actions.len()));
    for action in &manifest.actions {
        let input = Schema::compile(&action.input).unwrap_or_else(|f| panic!("input of {}: {f:?}", action.name));
        Schema::compile(&action.output).unwrap_or_else(|f| panic!("output of {}: {f:?}", action.name));
        assert!(!input.is_valid(&json!({ "noSuchField": 1 })), "{} takes any field", action.name);
        for key in &action.exclusive {
            for field in &key.fields {
                let name = field.trim_start_matches('/');
                assert!(action.input["properties"].get(name).is_some(), "{}: {field} is no field", action.name);
            }
        }
    }
}

/// Ids can be given by name; that a schema says so must not depend on whether the field may be left out.
#[test]
fn ids_say_what_they_are() {
    for (name, field, what) in [
        ("message.send", "channel", "channel"),
        ("message.send", "user", "user"),
        ("usergroup.add-user", "usergroup", "usergroup"),
        ("workspace.add-user", "workspace", "workspace"),
        ("user.provision", "manager", "user"),
    ] {
        assert_eq!(action(name).input["properties"][field]["x-bellhop"], what, "{name} {field}");
    }
    assert_eq!(action("user.invite").input["properties"]["channels"]["items"]["x-bellhop"], "channel");
}

#[test]
fn a_message_goes_to_one_place_and_has_content() {
    let schema = Schema::compile(&action("message.send").input).unwrap();
    let fits = |value: Value| schema.is_valid(&value);
    assert!(fits(json!({ "channel": "C1", "text": "Hi" })));
    assert!(fits(json!({ "channel": "C1", "user": null, "text": null, "blocks": [{ "type": "divider" }] })));
    assert!(!fits(json!({ "channel": "C1", "user": "U1", "text": "Hi" })));
    assert!(!fits(json!({ "channel": null, "text": "Hi" })));
    assert!(!fits(json!({ "channel": "C1" })));
    assert!(!fits(json!({ "channel": "C1", "text": "", "blocks": [] })));
}

#[test]
fn purposes_are_limited_where_licences_change_hands() {
    assert_eq!(action("user.provision").purposes, ["onboarding", "access-request"]);
    assert_eq!(action("user.suspend").purposes, ["offboarding", "access-review", "licence"]);
    assert!(action("message.send").purposes.is_empty());
}

/// The plan of a run counts them.
#[test]
fn what_takes_or_frees_a_paid_seat_says_so() {
    use bellhop_core::manifest::LicenceEffect::{Adds, Reclaims};
    let said: Vec<(String, _)> =
        manifest().actions.into_iter().filter_map(|action| Some((action.name, action.licence?))).collect();
    let expected = [
        ("user.provision", Adds),
        ("user.invite", Adds),
        ("user.deactivate", Reclaims),
        ("user.reactivate", Adds),
        ("user.suspend", Reclaims),
    ];
    assert_eq!(said.len(), expected.len(), "{said:?}");
    for (name, licence) in expected {
        assert!(said.contains(&(name.to_owned(), licence)), "{name}: {said:?}");
    }
}
