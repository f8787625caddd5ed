//! What holds for every question.

use bellhop_core::preflight::assume;
use bellhop_core::requirement::{Arguments, Grant, Kind, Permission, Permits, Plan};
use proptest::prelude::*;
use serde_json::json;

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Workspace), Just(Kind::GridWorkspace), Just(Kind::GridOrg)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What is printed is read again, and means the same.
    #[test]
    fn grants_are_printed_as_they_are_read(
        method in "[a-z]{1,8}(\\.[a-zA-Z]{1,12}){0,3}",
        connection in proptest::option::of("[a-z][a-z0-9_-]{0,10}"),
        pattern in proptest::option::of(("[a-z_]{1,8}", "#?[a-z0-9_-]{1,8}\\*?[a-z0-9_-]{0,4}")),
    ) {
        let mut text = method.clone();
        if let Some(connection) = &connection {
            text = format!("{text}@{connection}");
        }
        if let Some((field, pattern)) = &pattern {
            text = format!("{text}:{field}={pattern}");
        }
        let grant: Grant = text.parse().unwrap();
        let again: Grant = grant.to_string().parse().unwrap();
        prop_assert_eq!(&grant, &again);
        prop_assert_eq!(grant.method(), method);
        prop_assert_eq!(grant.connection(), connection.as_deref());
    }

    /// No text makes the reader panic, and whatever it reads it prints within the limits.
    #[test]
    fn any_text_is_a_grant_or_an_error(text in ".{0,80}") {
        if let Ok(grant) = text.parse::<Grant>() {
            prop_assert_eq!(grant.to_string().parse::<Grant>().unwrap(), grant);
        }
    }

    /// A pattern allows only what begins and ends as it does, and nothing that Slack might cut or fold.
    #[test]
    fn a_star_never_stands_for_white_space_or_separators(channel in "\\PC{0,20}") {
        let grant: Grant = "chat.postMessage@hq:#it-*".parse().unwrap();
        let arguments = json!({"channel": channel});
        let names = std::collections::BTreeMap::new();
        let call = Arguments::Call { arguments: &arguments, names: &names };
        if grant.permits("chat.postMessage", "hq", call) == Permits::Yes {
            prop_assert!(channel.starts_with("#it-"));
            prop_assert!(!channel.contains(|c: char| c.is_whitespace() || c.is_control() || c == ',' || c.is_uppercase()));
        }
    }

    /// Before the arguments are known a grant with a pattern is never a yes, and another method or connection never
    /// more than a no.
    #[test]
    fn a_grant_says_no_more_than_it_knows(method in "[a-z.]{1,10}", connection in "[a-z]{1,4}") {
        let grant: Grant = "chat.postMessage@hq:#it-*".parse().unwrap();
        let answer = grant.permits(&method, &connection, Arguments::Unknown);
        prop_assert_eq!(answer, Permits::No);
        prop_assert_eq!(grant.permits("chat.postMessage", "hq", Arguments::Unknown), Permits::Depends);
    }

    /// Every assumption that can be written is read as written, with the defaults of the semantics.
    #[test]
    fn assumptions_have_the_defaults(
        name in "[a-z][a-z0-9_-]{0,10}",
        kind in kinds(),
        act in proptest::bool::ANY,
        with_plan in proptest::bool::ANY,
    ) {
        let on_grid = kind != Kind::Workspace;
        let plan = if on_grid { Plan::Enterprise } else { Plan::Pro };
        let permission = if act { Permission::Act } else { Permission::Read };
        let text = if with_plan { format!("{name}={kind}:{plan}:{permission}") } else { format!("{name}={kind}") };
        let connection = assume::parse(&text).unwrap();
        prop_assert_eq!(&connection.name, &name);
        prop_assert_eq!(connection.kind, kind);
        prop_assert_eq!(connection.plan, if with_plan || on_grid { Some(plan) } else { None });
        prop_assert_eq!(connection.permission, if with_plan { permission } else { Permission::Act });
        prop_assert!(connection.assumed);
    }

    /// No text makes the reader of assumptions panic.
    #[test]
    fn any_text_is_an_assumption_or_an_error(text in ".{0,60}") {
        let _ = assume::parse(&text);
    }
}

#[test]
fn a_grant_is_compared_with_what_the_file_writes() {
    let answer = |grant: &str, channel: &str| {
        let grant: Grant = grant.parse().unwrap();
        grant.permits("chat.postMessage", "hq", Arguments::Input(&json!({"channel": channel})))
    };
    assert_eq!(answer("chat.postMessage:#it-*", "#general"), Permits::No);
    assert_eq!(answer("chat.postMessage:#it-*", "#it-help"), Permits::Depends, "judged again at the call");
    assert_eq!(answer("chat.postMessage:#it-*", "C012"), Permits::Depends, "its name is not known yet");
    assert_eq!(answer("chat.postMessage:C012", "C099"), Permits::No);
    assert_eq!(answer("chat.postMessage:C012", "#it-help"), Permits::Depends);
    assert_eq!(answer("chat.postMessage:user=U012", "C012"), Permits::Depends);
    assert_eq!(answer("chat.postMessage", "#general"), Permits::Yes);
}

#[test]
fn a_grant_of_no_method_names_the_one_that_was_meant() {
    let rules = super::rules();
    assert_eq!("chat.postMessage@hq:#it-*".parse::<Grant>().unwrap().check(&rules), Ok(()));
    let error = "chat.postmessage".parse::<Grant>().unwrap().check(&rules).unwrap_err();
    assert!(error.to_string().contains("did you mean `chat.postMessage`?"), "{error}");
}

#[test]
fn wrong_grants_say_which_part_is_wrong() {
    for (text, part) in [
        ("", "not a method's name"),
        ("chat post", "not a method's name"),
        ("@hq", "not a method's name"),
        ("chat.postMessage@", "not a connection's name"),
        ("chat.postMessage@HQ", "not a connection's name"),
        ("chat.postMessage@hq:", "it is empty"),
        ("chat.postMessage:#", "it is empty"),
        ("chat.postMessage:#It-*", "upper-case"),
        ("chat.postMessage:#it *", "only letters"),
        ("chat.postMessage:#it\u{200b}", "only letters"),
        ("chat.postMessage:CHANNEL=#it", "not the name of an argument"),
        ("chat.postMessage:*****", "more than four"),
        (&"c".repeat(300), "at most"),
    ] {
        let error = text.parse::<Grant>().unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn wrong_assumptions_say_which_part_is_wrong() {
    for (text, part) in [
        ("acme", "has no `=`"),
        ("=grid-org", "not a connection's name"),
        ("Acme=grid-org", "not a connection's name"),
        ("acme=grid", "kind `grid` is not one of"),
        ("acme=", "kind `` is not one of"),
        ("acme=workspace:gold", "plan `gold` is not one of"),
        ("acme=workspace:pro:write", "permission `write` is not one of"),
        ("acme=workspace:pro:act:more", "`more` is too much"),
        ("acme=grid-org:pro", "cannot be on the plan `pro`"),
        ("acme=workspace:enterprise", "cannot be on the plan `enterprise`"),
    ] {
        let diagnostic = assume::parse(text).unwrap_err().diagnostic();
        assert_eq!(diagnostic.code.0, "assumption-invalid");
        assert!(diagnostic.message.contains(part), "{text}: {}", diagnostic.message);
    }
}
