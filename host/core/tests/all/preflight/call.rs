//! The judgement of one call of a running action.

use std::collections::BTreeMap;

use bellhop_core::diagnostic::Diagnostic;
use bellhop_core::preflight::{CallQuestion, assume, judge_call};
use bellhop_core::requirement::{Connection, Grant};
use bellhop_core::time::Timestamp;
use serde_json::{Value, json};

use super::{manifest, rules};

fn asked(
    action: &str,
    function: &str,
    on: &Connection,
    grants: &[&str],
    arguments: &Value,
) -> Result<(), Box<Diagnostic>> {
    let (manifest, rules) = (manifest(), rules());
    let grants: Vec<Grant> = grants.iter().map(|g| g.parse().unwrap()).collect();
    let names = BTreeMap::from([("C012".to_owned(), "it-help".to_owned()), ("C099".to_owned(), "general".to_owned())]);
    judge_call(&CallQuestion {
        action: manifest.action(action).unwrap(),
        plugin: "slack",
        function,
        connection: on,
        rules: &rules,
        grants: &grants,
        arguments,
        names: &names,
        token: None,
        now: Timestamp::from_millis(0),
    })
}

fn code(result: Result<(), Box<Diagnostic>>) -> &'static str {
    result.map_or_else(|d| d.code.0, |()| "allowed")
}

#[test]
fn a_call_is_allowed_when_action_and_grant_say_so() {
    let hq = assume::parse("hq=grid-workspace").unwrap();
    let args = json!({"channel": "C012"});
    for (grants, expected) in [
        (&["chat.postMessage"][..], "allowed"),
        (&["chat.postMessage@hq"], "allowed"),
        (&["chat.postMessage@hq:#it-*"], "allowed"),
        (&["chat.postMessage@hq:C012"], "allowed"),
        (&["chat.postMessage@hq:channel=#it-help"], "allowed"),
        (&["chat.postMessage@lab", "chat.postMessage@hq:#it-*"], "allowed"),
        (&[], "capability-not-granted"),
        (&["chat.postmessage"], "capability-not-granted"),
        (&["chat.update"], "capability-not-granted"),
        (&["chat.postMessage@lab"], "capability-not-granted"),
        (&["chat.postMessage@hq:#ops-*"], "capability-not-granted"),
        (&["chat.postMessage@hq:user=C012"], "capability-not-granted"),
    ] {
        assert_eq!(code(asked("message.send", "chat.post-message", &hq, grants, &args)), expected, "{grants:?}");
    }
}

#[test]
fn no_spelling_of_a_channel_slips_through_a_grant() {
    let hq = assume::parse("hq=grid-workspace").unwrap();
    let grants = ["chat.postMessage@hq:#it-*"];
    for channel in [
        "C099",
        "C404",
        "general",
        "it-help",
        "#general",
        "#IT-help",
        "#It-help",
        "#it-help ",
        " #it-help",
        "#it-help\n",
        "#it-help,#general",
        "#it-help #general",
        "#it-\u{200b}help",
        "#it-\u{202e}help",
        "\u{ff03}it-help",
        "#\u{ff49}t-help",
        "#it-he\u{301}lp",
        "#it-\u{ff28}elp",
        "#it-HELP",
        "c012",
        "C012 ",
        "C012,C099",
        "@it-help",
        "",
        "#it-help\u{0}",
        "#it-help/../general",
        "##it-help",
        "#it\u{2010}help",
        "#i\u{307}t-help",
    ] {
        let result = asked("message.send", "chat.post-message", &hq, &grants, &json!({"channel": channel}));
        assert_eq!(code(result), "capability-not-granted", "{channel:?}");
    }
    for arguments in
        [json!({}), json!({"channel": ["#it-help"]}), json!({"channel": null}), json!({"Channel": "#it-help"})]
    {
        let result = asked("message.send", "chat.post-message", &hq, &grants, &arguments);
        assert_eq!(code(result), "capability-not-granted", "{arguments}");
    }
    let allowed = asked("message.send", "chat.post-message", &hq, &grants, &json!({"channel": "#it-help"}));
    assert_eq!(code(allowed), "allowed");
}

#[test]
fn a_call_outside_the_chosen_alternative_is_refused() {
    let org = assume::parse("acme=grid-org").unwrap();
    let grants = ["chat.postMessage", "scim.v2.Users.create", "users.info", "scim.v2.Users.delete"];
    let args = json!({});
    assert_eq!(code(asked("user.provision", "scim-users.create", &org, &grants, &args)), "allowed");
    assert_eq!(code(asked("user.provision", "scim-users.delete", &org, &grants, &args)), "capability-not-granted");
    assert_eq!(code(asked("message.send", "chat.post-message", &org, &grants, &args)), "capability-not-granted");
    assert_eq!(code(asked("message.send", "no.such", &org, &grants, &args)), "method-unknown");
}

#[test]
fn a_call_is_judged_by_what_the_connection_is_now() {
    let args = json!({"channel": "C012"});
    let on = |text: &str| assume::parse(text).unwrap();
    let post = |c: &Connection| code(asked("message.send", "chat.post-message", c, &["chat.postMessage"], &args));
    assert_eq!(post(&on("hq=workspace:pro")), "allowed");
    assert_eq!(post(&on("hq=workspace:free")), "plan-required");
    assert_eq!(post(&on("hq=workspace")), "allowed", "an unknown plan is the provider's to refuse");
    assert_eq!(post(&on("hq=grid-workspace:enterprise:read")), "permission-read-only");
    let mut bare = on("hq=grid-workspace");
    bare.assumed = false;
    bare.tokens.clear();
    assert_eq!(post(&bare), "token-kind-missing");
    bare.tokens.insert(bellhop_core::requirement::TokenKind::Bot, Some(["users:read".to_owned()].into()));
    assert_eq!(post(&bare), "scope-missing");
}

#[test]
fn a_method_that_is_called_only_sometimes_is_judged_for_sure_when_it_is_called() {
    let hq = assume::parse("hq=grid-workspace").unwrap();
    let result = asked("message.send", "users.lookup-by-email", &hq, &["chat.postMessage"], &json!({}));
    assert_eq!(code(result), "capability-not-granted");
}
