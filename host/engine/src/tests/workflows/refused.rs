//! What is wrong is refused with its code, its place and its remedy, and Slack never hears of it.

use std::collections::BTreeMap;

use bellhop_core::diagnostic::Diagnostic;
use bellhop_core::preflight::When;
use bellhop_core::requirement::{Kind, Permission, TokenKind};
use serde_json::{Value, json};

use super::World;
use crate::accept::trigger::Refused;
use crate::setup::definitions;

const BOT: &[(TokenKind, &str)] = &[(TokenKind::Bot, "xoxb-hq")];
const ORG: &[(TokenKind, &str)] = &[(TokenKind::User, "xoxp-org-admin")];

/// A workflow with one call, which stands in line 7.
fn calling(purpose: &str, call: &str, with: &str) -> String {
    format!(
        "document:\n  {{ dsl: 1.0.3, namespace: test, name: one, version: 1.0.0, metadata: {{ bellhop: {{ purpose: {purpose} }} }} }}\n\
         input:\n  schema: {{ document: {{ type: object, required: [who], properties: {{ who: {{ type: string }} }}, additionalProperties: false }} }}\n\
         do:\n  - it:\n      call: {call}\n      with: {with}\n"
    )
}

/// A connection: its name, what it is and may, its tokens.
type Connected = (&'static str, Kind, Permission, &'static [(TokenKind, &'static str)]);

struct Case {
    about: &'static str,
    connections: &'static [Connected],
    purpose: &'static str,
    call: &'static str,
    with: &'static str,
    /// What the trigger says of connections.
    chosen: &'static [(&'static str, &'static str)],
    code: &'static str,
    /// Of the place.
    line: Option<u32>,
    /// Texts that the rendered diagnostic has.
    says: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        about: "an action that there is none of",
        connections: &[("hq", Kind::GridWorkspace, Permission::Act, BOT)],
        purpose: "other",
        call: "message.sent:1@slack",
        with: "{ channel: C0HQIT, text: Hi }",
        chosen: &[],
        code: "action-unknown",
        line: Some(7),
        says: &["did you mean `message.send`?", "bellhop plugin inspect slack"],
    },
    Case {
        about: "a plugin that is not installed",
        connections: &[("hq", Kind::GridWorkspace, Permission::Act, BOT)],
        purpose: "other",
        call: "message.send:1@slcak",
        with: "{ channel: C0HQIT, text: Hi }",
        chosen: &[],
        code: "plugin-unknown",
        line: Some(7),
        says: &["did you mean `slack`?", "bellhop plugin install"],
    },
    Case {
        about: "a version that is not installed",
        connections: &[("hq", Kind::GridWorkspace, Permission::Act, BOT)],
        purpose: "other",
        call: "message.send:9@slack",
        with: "{ channel: C0HQIT, text: Hi }",
        chosen: &[],
        code: "version-unknown",
        line: Some(7),
        says: &["bellhop plugin install"],
    },
    Case {
        about: "no connection at all",
        connections: &[],
        purpose: "other",
        call: "message.send:1@slack",
        with: "{ channel: C0HQIT, text: Hi }",
        chosen: &[],
        code: "connection-missing",
        line: Some(7),
        says: &["bellhop connect slack"],
    },
    Case {
        about: "a trigger that names a connection that is not there",
        connections: &[("hq", Kind::GridWorkspace, Permission::Act, BOT)],
        purpose: "other",
        call: "message.send:1@slack",
        with: "{ connection: team, channel: C0HQIT, text: Hi }",
        chosen: &[("team", "hp")],
        code: "connection-unknown",
        line: Some(7),
        says: &["`hp`", "connections `hq`", "bellhop run test/one --connection team=hq"],
    },
    Case {
        about: "a trigger that names an alias that the file does not have",
        connections: &[("hq", Kind::GridWorkspace, Permission::Act, BOT)],
        purpose: "other",
        call: "message.send:1@slack",
        with: "{ connection: team, channel: C0HQIT, text: Hi }",
        chosen: &[("teem", "hq")],
        code: "connection-unknown",
        line: None,
        says: &["did you mean `team`?"],
    },
    Case {
        about: "T9: a connection that is read only",
        connections: &[("hq", Kind::GridWorkspace, Permission::Read, BOT)],
        purpose: "other",
        call: "message.send:1@slack",
        with: "{ channel: C0HQIT, text: Hi }",
        chosen: &[],
        code: "permission-read-only",
        line: Some(7),
        says: &["read and take action", "bellhop connect slack"],
    },
    Case {
        about: "a kind of token that is missing",
        connections: &[("acme", Kind::GridOrg, Permission::Act, &[(TokenKind::Bot, "xoxb-org")])],
        purpose: "onboarding",
        call: "user.provision:1@slack",
        with: "{ email: ada@acme.example, firstName: Ada, lastName: Kern }",
        chosen: &[],
        code: "token-kind-missing",
        line: Some(7),
        says: &["user", "--user-token-file", "= who:"],
    },
    Case {
        about: "a scope that is missing",
        connections: &[("hq", Kind::GridWorkspace, Permission::Act, &[(TokenKind::Bot, "xoxb-hq-noscope")])],
        purpose: "other",
        call: "message.send:1@slack",
        with: "{ channel: C0HQIT, text: Hi }",
        chosen: &[],
        code: "scope-missing",
        line: Some(7),
        says: &["chat:write", "= who:"],
    },
    Case {
        about: "L17: suspending in an access request",
        connections: &[("acme", Kind::GridOrg, Permission::Act, ORG)],
        purpose: "access-request",
        call: "user.suspend:1@slack",
        with: "{ user: U0HQMEMBER }",
        chosen: &[],
        code: "purpose-not-allowed",
        line: Some(7),
        says: &["offboarding", "access-request"],
    },
    Case {
        about: "L22: provisioning in an offboarding",
        connections: &[("acme", Kind::GridOrg, Permission::Act, ORG)],
        purpose: "offboarding",
        call: "user.provision:1@slack",
        with: "{ email: ada@acme.example, firstName: Ada, lastName: Kern }",
        chosen: &[],
        code: "purpose-not-allowed",
        line: Some(7),
        says: &["onboarding"],
    },
    Case {
        about: "L14: suspending outside Enterprise Grid",
        connections: &[(
            "plus",
            Kind::Workspace,
            Permission::Act,
            &[(TokenKind::Bot, "xoxb-plus"), (TokenKind::User, "xoxp-plus-owner")],
        )],
        purpose: "offboarding",
        call: "user.suspend:1@slack",
        with: "{ user: U0PLUSMEMBER }",
        chosen: &[],
        code: "plan-required",
        line: Some(7),
        says: &["Enterprise Grid: Grid account"],
    },
    Case {
        about: "T15: a message over the Grid account",
        connections: &[("acme", Kind::GridOrg, Permission::Act, ORG)],
        purpose: "other",
        call: "message.send:1@slack",
        with: "{ channel: C0HQIT, text: Hi }",
        chosen: &[],
        code: "plan-required",
        line: Some(7),
        says: &["Enterprise Grid: Workspace", "bellhop connect slack --kind grid-workspace --name acme-hq"],
    },
    Case {
        about: "a table that there is none of, for a connection",
        connections: &[("hq", Kind::GridWorkspace, Permission::Act, BOT)],
        purpose: "other",
        call: "message.send:1@slack",
        with: "{ connection: '${ .who }', channel: C0HQIT, text: Hi }",
        chosen: &[],
        code: "connection-not-static",
        line: Some(8),
        says: &["bellhop explain connection-not-static"],
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_is_refused_with_code_place_and_remedy() {
    for case in CASES {
        let world = World::new().await;
        for (name, kind, permission, tokens) in case.connections {
            world.connect_as(name, *kind, *permission, tokens).await;
        }
        let before = world.slack.requests().len();
        let name = world.apply(&calling(case.purpose, case.call, case.with)).await;
        let mut trigger = World::trigger(&name, json!({"who": "x"}), Some("k"));
        trigger.connections = case.chosen.iter().map(|(a, c)| ((*a).to_owned(), (*c).to_owned())).collect();
        let refused = world.engine.trigger(trigger).await;
        let Err(Refused::Preflight(diagnostics)) = refused else { panic!("{}: {refused:?}", case.about) };
        told(case.about, &diagnostics, case.code, case.line, case.says);
        assert_eq!(world.slack.ledger().len(), 0, "{}", case.about);
        assert_eq!(world.slack.requests().len(), before, "{}: nothing is asked of Slack", case.about);
        let (runs, _) = world.engine.run_list(None, 10, |_| true).await.unwrap();
        assert!(runs.is_empty(), "{}: a refusal is no run", case.about);
    }
}

fn told(about: &str, diagnostics: &[Diagnostic], code: &str, line: Option<u32>, says: &[&str]) {
    let all: String = diagnostics.iter().map(bellhop_core::diagnostic::render).collect();
    let found = diagnostics.iter().find(|d| d.code.0 == code && d.is_error());
    let found = found.unwrap_or_else(|| panic!("{about}: no {code} in\n{all}"));
    assert_eq!(found.place.as_ref().map(|p| p.line), line, "{about}:\n{all}");
    let text = bellhop_core::diagnostic::render(found);
    for words in says {
        assert!(text.contains(words), "{about}: no `{words}` in\n{text}");
    }
    assert!(text.contains(&format!("bellhop explain {code}")), "{about}:\n{text}");
    let helps = found.who.is_some() || !found.remedies.is_empty() || found.label.is_some();
    assert!(helps, "{about}: nobody is told what to do:\n{text}");
}

/// What is wrong in `with` is told when the file is checked; a run of a file that nobody checked faults before it calls.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_arguments_are_told_at_their_place() {
    for (about, with, code, says) in [
        (
            "a field that the action does not have",
            "{ channel: C0HQIT, txet: Hi }",
            "argument-unknown",
            "did you mean `text`?",
        ),
        ("a field that is missing", "{ text: Hi }", "argument-invalid", "`channel`"),
        ("a field of another type", "{ channel: C0HQIT, text: 3 }", "argument-invalid", "`text`"),
    ] {
        let world = World::new().await;
        world.connect_as("hq", Kind::GridWorkspace, Permission::Act, BOT).await;
        let text = calling("other", "message.send:1@slack", with);
        let definition = definitions::read("workflow.yaml", &text).0.unwrap();
        let trigger = World::trigger(&definition.workflow.document.name, json!({"who": "x"}), None);
        let (report, _) = world.engine.judge(&definition, &trigger, When::Check).await.unwrap();
        assert!(report.plan.is_none(), "{about}");
        let shown: String = report.diagnostics.iter().map(bellhop_core::diagnostic::render).collect();
        let found = report.diagnostics.iter().find(|d| d.code.0 == code).unwrap_or_else(|| panic!("{about}:\n{shown}"));
        assert!(found.place.as_ref().is_some_and(|p| p.line == 8 || p.line == 7), "{about}:\n{shown}");
        assert!(shown.contains(says), "{about}:\n{shown}");

        let name = world.apply(&text).await;
        let (_, view) = world.run(&name, json!({"who": "x"})).await;
        let error = view.error.unwrap();
        assert!(error["type"].as_str().unwrap().ends_with("/validation"), "{error}");
        assert_eq!(error["instance"], "/do/0/it");
        assert_eq!(world.slack.ledger().len(), 0, "{about}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_against_its_schema_is_no_run() {
    let world = World::new().await;
    world.business_plus().await;
    let onboard = world.ship("onboarding.yaml").await;
    let good = super::hire("grace@plus.example");
    type Change = fn(&mut Value);
    let cases: [(&str, &str, Change); 6] = [
        ("no department", "/person", |v| drop(v["person"].as_object_mut().unwrap().remove("department"))),
        ("a field too many", "/person", |v| v["person"]["shoeSize"] = json!(42)),
        ("a date that is none", "/person/startDate", |v| v["person"]["startDate"] = json!("tomorrow")),
        ("an e-mail that is none", "/person/email", |v| v["person"]["email"] = json!("grace")),
        ("a name with markup", "/person/givenName", |v| v["person"]["givenName"] = json!("<!channel>")),
        ("another type", "/person", |v| v["person"] = json!("Grace")),
    ];
    for (about, pointer, change) in cases {
        let mut input = good.clone();
        change(&mut input);
        let refused = world.engine.trigger(World::trigger(&onboard, input, Some("k"))).await;
        let Err(Refused::Input(diagnostics)) = refused else { panic!("{about}: {refused:?}") };
        let at: BTreeMap<&str, &str> =
            diagnostics.iter().map(|d| (d.pointer.as_deref().unwrap_or(""), d.message.as_str())).collect();
        assert!(diagnostics.iter().all(|d| d.code.0 == "input-invalid"), "{about}");
        assert!(at.keys().any(|p| p.starts_with(pointer)), "{about}: {at:?}");
        assert_eq!(world.slack.ledger().len(), 0, "{about}");
    }
    // The key was never bound: what is right now is taken.
    let accepted = world.engine.trigger(World::trigger(&onboard, good, Some("k"))).await.unwrap();
    assert!(!accepted.replayed);
}
