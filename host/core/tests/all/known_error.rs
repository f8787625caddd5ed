//! The error that the whole project is known for, in both forms, and what must not break it.

use bellhop_core::diagnostic::{Code, Diagnostic, Has, HttpRemedy, Needs, Place, Remedy, Retryable, render};
use bellhop_core::requirement::{Kind, Permission, Plan};
use expect_test::expect;
use serde_json::json;

fn place(line: u32, column: u32, length: u32, text: &str) -> Place {
    Place { file: "workflows/send-notification.yaml".to_owned(), line, column, length, text: text.to_owned() }
}

fn known(line: u32, alias: &str) -> Diagnostic {
    let mut diagnostic =
        Diagnostic::error(Code("plan-required"), format!("`message.send` cannot run on connection `{alias}`"));
    diagnostic.place = Some(place(line, 13, 20, "      call: message.send:1@slack"));
    diagnostic.label = Some("calls chat.postMessage, which acts in one workspace".to_owned());
    diagnostic.task = Some("/do/0/notify".to_owned());
    diagnostic.action = Some("message.send:1@slack".to_owned());
    diagnostic.methods = vec!["chat.postMessage".to_owned()];
    diagnostic.connection = Some(alias.to_owned());
    diagnostic.needs = Some(Needs {
        kinds: vec![Kind::GridWorkspace, Kind::Workspace],
        title: Some(Kind::GridWorkspace.title().to_owned()),
        ..Needs::default()
    });
    diagnostic.has =
        Some(Has { kind: Some(Kind::GridOrg), title: Some(Kind::GridOrg.title().to_owned()), ..Has::default() });
    diagnostic.retryable = Retryable::AfterRemedy;
    diagnostic.who = Some("a Workspace Owner of that workspace".to_owned());
    diagnostic.remedies = vec![Remedy {
        title: "connect the workspace too".to_owned(),
        command: Some(format!("bellhop connect slack --kind grid-workspace --name {alias}-hq")),
        http: Some(HttpRemedy {
            method: "POST".to_owned(),
            path: "/v1/connections".to_owned(),
            body: json!({"kind": "grid-workspace", "name": format!("{alias}-hq")}),
        }),
    }];
    diagnostic
}

#[test]
fn text_is_as_designed() {
    // Not a snapshot that could be rewritten: this text is the design.
    let designed = r#"error[plan-required]: `message.send` cannot run on connection `acme`
  --> workflows/send-notification.yaml:21:13 (task /do/0/notify)
   |
21 |       call: message.send:1@slack
   |             ^^^^^^^^^^^^^^^^^^^^ calls chat.postMessage, which acts in one workspace
   |
   = needs: a connection of kind "Enterprise Grid: Workspace" (or a Pro / Business+ workspace)
   = has:   "Enterprise Grid: Grid account"
   = fix:   connect the workspace too: bellhop connect slack --kind grid-workspace --name acme-hq
   = who:   a Workspace Owner of that workspace
   = more:  bellhop explain plan-required
"#;
    assert_eq!(render(&known(21, "acme")), designed);
}

#[test]
fn json_is_as_designed() {
    // The order of the fields is part of it: people read it too.
    let designed = concat!(
        r#"{"code":"plan-required","severity":"error","file":"workflows/send-notification.yaml","line":21,"column":13,"#,
        r#""task":"/do/0/notify","action":"message.send:1@slack","methods":["chat.postMessage"],"connection":"acme","#,
        r#""needs":{"kinds":["grid-workspace","workspace"],"title":"Enterprise Grid: Workspace"},"#,
        r#""has":{"kind":"grid-org","title":"Enterprise Grid: Grid account"},"#,
        r#""retryable":"after-remedy","who":"a Workspace Owner of that workspace","#,
        r#""remedies":[{"title":"connect the workspace too","#,
        r#""command":"bellhop connect slack --kind grid-workspace --name acme-hq","#,
        r#""http":{"method":"POST","path":"/v1/connections","body":{"kind":"grid-workspace","name":"acme-hq"}}}]}"#,
    );
    assert_eq!(serde_json::to_string(&known(21, "acme")).unwrap(), designed);
}

#[test]
fn a_moved_line_and_another_alias() {
    expect![[r#"
        error[plan-required]: `message.send` cannot run on connection `acme`
         --> workflows/send-notification.yaml:7:13 (task /do/0/notify)
          |
        7 |       call: message.send:1@slack
          |             ^^^^^^^^^^^^^^^^^^^^ calls chat.postMessage, which acts in one workspace
          |
          = needs: a connection of kind "Enterprise Grid: Workspace" (or a Pro / Business+ workspace)
          = has:   "Enterprise Grid: Grid account"
          = fix:   connect the workspace too: bellhop connect slack --kind grid-workspace --name acme-hq
          = who:   a Workspace Owner of that workspace
          = more:  bellhop explain plan-required
        error[plan-required]: `message.send` cannot run on connection `headquarters`
            --> workflows/send-notification.yaml:1234:13 (task /do/0/notify)
             |
        1234 |       call: message.send:1@slack
             |             ^^^^^^^^^^^^^^^^^^^^ calls chat.postMessage, which acts in one workspace
             |
             = needs: a connection of kind "Enterprise Grid: Workspace" (or a Pro / Business+ workspace)
             = has:   "Enterprise Grid: Grid account"
             = fix:   connect the workspace too: bellhop connect slack --kind grid-workspace --name headquarters-hq
             = who:   a Workspace Owner of that workspace
             = more:  bellhop explain plan-required
    "#]]
    .assert_eq(&(render(&known(7, "acme")) + &render(&known(1234, "headquarters"))));
}

#[test]
fn another_kind() {
    let mut diagnostic = known(21, "shop");
    diagnostic.needs = Some(Needs {
        kinds: vec![Kind::GridOrg],
        title: Some(Kind::GridOrg.title().to_owned()),
        permission: Some(Permission::Act),
        ..Needs::default()
    });
    diagnostic.has = Some(Has {
        kind: Some(Kind::Workspace),
        plan: Some(Plan::Pro),
        permission: Some(Permission::Read),
        ..Has::default()
    });
    expect![[r#"
        error[plan-required]: `message.send` cannot run on connection `shop`
          --> workflows/send-notification.yaml:21:13 (task /do/0/notify)
           |
        21 |       call: message.send:1@slack
           |             ^^^^^^^^^^^^^^^^^^^^ calls chat.postMessage, which acts in one workspace
           |
           = needs: a connection of kind "Enterprise Grid: Grid account", permission "read and take action"
           = has:   "Pro / Business+", the plan Pro, permission "read only"
           = fix:   connect the workspace too: bellhop connect slack --kind grid-workspace --name shop-hq
           = who:   a Workspace Owner of that workspace
           = more:  bellhop explain plan-required
    "#]]
    .assert_eq(&render(&diagnostic));
    diagnostic.needs = Some(Needs {
        plans: vec![Plan::BusinessPlus, Plan::Enterprise],
        scopes: vec!["users:read".into(), "users:write".into()],
        token: Some("audit".into()),
        ..Needs::default()
    });
    diagnostic.remedies.push(Remedy {
        title: "or ask".into(),
        command: None,
        http: diagnostic.remedies[0].http.clone(),
    });
    diagnostic.remedies[0].command = None;
    diagnostic.place = None;
    expect![[r#"
        error[plan-required]: `message.send` cannot run on connection `shop`
          --> task /do/0/notify
           = needs: the plan Business+ or Enterprise Grid, one of the scopes users:read, users:write, a token of kind audit
           = has:   "Pro / Business+", the plan Pro, permission "read only"
           = fix:   connect the workspace too: POST /v1/connections
           = or:    or ask: POST /v1/connections
           = who:   a Workspace Owner of that workspace
           = more:  bellhop explain plan-required
    "#]].assert_eq(&render(&diagnostic));
    diagnostic.task = None;
    diagnostic.has = None;
    diagnostic.needs = None;
    diagnostic.remedies = Vec::new();
    diagnostic.who = None;
    expect![[r#"
        error[plan-required]: `message.send` cannot run on connection `shop`
           = more:  bellhop explain plan-required
    "#]]
    .assert_eq(&render(&diagnostic));
}

#[test]
fn names_cannot_forge_lines_colours_or_directions() {
    let mut diagnostic = known(21, "a\u{1b}[31mred\nerror[fake]: b\u{202e}c\u{200b}\u{7}");
    diagnostic.place = Some(place(3, 8, 4, "  \u{1b}[2Ja:b\u{202e}cd"));
    diagnostic.task = Some("/do/0/x\r\ny".to_owned());
    let text = render(&diagnostic);
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    expect![[r#"
        error[plan-required]: `message.send` cannot run on connection `a\u{1b}[31mred\nerror[fake]: b\u{202e}c\u{200b}\u{7}`
         --> workflows/send-notification.yaml:3:8 (task /do/0/x\u{d}\ny)
          |
        3 |   \u{1b}[2Ja:b\u{202e}cd
          |             ^^^^^^^^^^^ calls chat.postMessage, which acts in one workspace
          |
          = needs: a connection of kind "Enterprise Grid: Workspace" (or a Pro / Business+ workspace)
          = has:   "Enterprise Grid: Grid account"
          = fix:   connect the workspace too: bellhop connect slack --kind grid-workspace --name a\u{1b}[31mred\nerror[fake]: b\u{202e}c\u{200b}\u{7}-hq
          = who:   a Workspace Owner of that workspace
          = more:  bellhop explain plan-required
    "#]].assert_eq(&text);
}

#[test]
fn marks_stay_under_tabs_and_wide_characters() {
    let mut text = String::new();
    for (column, length, line) in
        [(2, 4, "\tcall"), (4, 2, "名前：値段 x"), (5, 3, "e\u{301}ab\tc"), (7, 1, "short"), (1, 0, "")]
    {
        let mut diagnostic = Diagnostic::error(Code("unknown-key"), "x");
        diagnostic.place = Some(place(1, column, length, line));
        diagnostic.label = Some("here".to_owned());
        text += &render(&diagnostic);
    }
    expect![[r#"
        error[unknown-key]: x
         --> workflows/send-notification.yaml:1:2
          |
        1 |     call
          |     ^^^^ here
          |
          = more:  bellhop explain unknown-key
        error[unknown-key]: x
         --> workflows/send-notification.yaml:1:4
          |
        1 | 名前：値段 x
          |       ^^^^ here
          |
          = more:  bellhop explain unknown-key
        error[unknown-key]: x
         --> workflows/send-notification.yaml:1:5
          |
        1 | éab    c
          |    ^^^^^ here
          |
          = more:  bellhop explain unknown-key
        error[unknown-key]: x
         --> workflows/send-notification.yaml:1:7
          |
        1 | short
          |       ^ here
          |
          = more:  bellhop explain unknown-key
        error[unknown-key]: x
         --> workflows/send-notification.yaml:1:1
          = note:  here
          = more:  bellhop explain unknown-key
    "#]]
    .assert_eq(&text);
}
