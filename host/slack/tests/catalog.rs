//! The catalog against its own rules, against the WIT on disk and against what was released.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bellhop_core::requirement::{Availability, Kind, Plan, TokenKind};
use bellhop_slack::catalog::family::{Family, TABLE};
use bellhop_slack::catalog::{Catalog, Reconcile, Repeating, Transport};
use bellhop_slack::{rules, wit};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn updating() -> bool {
    std::env::var_os("UPDATE_EXPECT").is_some()
}

#[test]
fn every_guest_method_is_in_exactly_one_row() {
    for method in Catalog::built_in().methods() {
        let rows: Vec<_> = TABLE.iter().filter(|row| row.has(&method.name)).map(|row| row.family).collect();
        assert_eq!(rows, [method.family], "{}", method.name);
    }
    for (method, rows) in [("canvases.create", 0), ("users.info", 1)] {
        assert_eq!(Family::of(method).map_or_else(|rows| rows.len(), |_| 1), rows, "{method}");
    }
}

#[test]
fn every_row_and_every_pattern_has_a_method() {
    let catalog = Catalog::built_in();
    for row in &TABLE {
        assert_eq!(TABLE.iter().filter(|other| other.family == row.family).count(), 1);
        for member in row.members {
            let beginning = member.trim_end_matches('*');
            assert!(catalog.methods().any(|m| m.name.starts_with(beginning)), "`{member}` matches nothing");
        }
    }
}

/// `chat.postMessage` is `chat.post-message`: dots but the last, and humps, become hyphens.
fn by_rule(name: &str) -> String {
    let mut out = String::new();
    let letters: Vec<char> = name.chars().collect();
    let last_dot = letters.iter().rposition(|c| *c == '.').expect("a method has a dot");
    for (i, c) in letters.iter().enumerate() {
        let after = letters.get(i + 1).copied();
        match c {
            '.' if i == last_dot => out.push('.'),
            '.' => out.push('-'),
            c if c.is_ascii_uppercase() => {
                let before = letters[i - 1];
                let ends_acronym = before.is_ascii_uppercase() && after.is_some_and(|a| a.is_ascii_lowercase());
                if before.is_ascii_lowercase() || before.is_ascii_digit() || ends_acronym {
                    out.push('-');
                }
                out.push(c.to_ascii_lowercase());
            }
            c => out.push(*c),
        }
    }
    out
}

#[test]
fn functions_are_named_by_the_rule() {
    for method in Catalog::built_in().methods().filter(|m| m.transport == Transport::Web) {
        assert_eq!(method.function, by_rule(&method.name));
    }
    let catalog = Catalog::built_in();
    for (function, name) in [
        ("chat.post-message", "chat.postMessage"),
        ("admin-users-session.reset", "admin.users.session.reset"),
        ("files.get-upload-url-external", "files.getUploadURLExternal"),
        ("scim-users.create", "scim.v2.post.Users"),
        ("scim-groups.patch", "scim.v2.patch.Groups.id"),
        ("audit.logs", "audit.v1.logs"),
    ] {
        assert_eq!(catalog.by_function(function).map(|m| m.name.as_str()), Some(name));
    }
}

#[test]
fn what_is_said_of_writes_agrees() {
    let catalog = Catalog::built_in();
    for m in catalog.methods() {
        assert_eq!(m.writes, m.repeating != Repeating::Read, "{}", m.name);
        assert_eq!(m.writes, m.reconcile != Reconcile::Read, "{}", m.name);
        let reads_back = !matches!(m.reconcile, Reconcile::Read | Reconcile::Repeat | Reconcile::Park);
        assert_eq!(reads_back, !m.asks.is_empty(), "{}", m.name);
        for ask in &m.asks {
            let asked = catalog.by_name(ask).unwrap_or_else(|| panic!("{} asks {ask}", m.name));
            assert!(!asked.writes || ask == "conversations.open", "{} would write to read back", m.name);
        }
        let readable: BTreeSet<_> =
            m.asks.iter().filter_map(|a| catalog.by_name(a)).flat_map(|a| &a.access).flat_map(|a| &a.scopes).collect();
        for scope in m.reconcile_scopes() {
            assert!(readable.contains(&scope), "{} needs no {scope}", m.name);
        }
        if matches!(m.repeating, Repeating::Appends | Repeating::NewJob | Repeating::Replaces | Repeating::Reactivates)
        {
            assert_ne!(m.reconcile, Reconcile::Repeat, "{}", m.name);
        }
        assert!(m.access.iter().all(|a| !a.scopes.is_empty() || !a.depends_on_arguments), "{}", m.name);
        assert!(!m.access.is_empty() || m.name.starts_with("views."), "{}: no token", m.name);
        assert!(!m.buckets.is_empty() && m.buckets.iter().all(|b| b.per_minute > 0 && b.burst > 0), "{}", m.name);
    }
}

#[test]
fn the_dangerous_ones_are_never_resent_unread() {
    let marked: Vec<_> =
        Catalog::built_in().methods().filter(|m| m.never_resend_without_readback).map(|m| m.name.as_str()).collect();
    assert_eq!(
        marked,
        [
            "admin.users.assign",
            "admin.users.session.clearSettings",
            "admin.users.session.invalidate",
            "admin.users.session.reset",
            "admin.users.session.resetBulk",
            "admin.users.session.setSettings",
            "usergroups.users.update",
        ]
    );
    for name in marked {
        assert_ne!(Catalog::built_in().by_name(name).unwrap().reconcile, Reconcile::Repeat, "{name}");
    }
}

/// Slack lets no bot do what a workspace keeps for its administrators. Nobody speaks in a person's name for that.
#[test]
fn slack_13_what_is_refused_for_policy_is_made_once_more_and_what_speaks_is_not() {
    const POLICY: [&str; 3] = ["permission_denied", "restricted_action", "not_authorized"];
    let speaking = ["chat.", "reactions.", "files.", "reminders.", "users.profile."];
    let mut once_more = Vec::new();
    for m in Catalog::built_in().methods() {
        let speaks = m.writes && speaking.iter().any(|family| m.name.starts_with(family));
        assert_eq!(m.speaks, speaks, "{}", m.name);
        if m.as_user.is_empty() {
            continue;
        }
        once_more.push(m.name.as_str());
        assert!(m.writes && !m.speaks, "{}", m.name);
        let takes = |kind| m.access.iter().any(|access| access.token == kind);
        assert!(takes(TokenKind::Bot) && takes(TokenKind::User), "{}", m.name);
        let mut expected = POLICY.to_vec();
        if m.name == "conversations.unarchive" {
            // Archiving takes the bot out (pablovarela/terraform-provider-slack#112).
            expected.push("not_in_channel");
        }
        assert_eq!(m.as_user, expected, "{}", m.name);
    }
    assert_eq!(
        once_more,
        [
            "conversations.archive",
            "conversations.create",
            "conversations.invite",
            "conversations.kick",
            "conversations.rename",
            "conversations.setPurpose",
            "conversations.setTopic",
            "conversations.unarchive",
            "usergroups.create",
            "usergroups.disable",
            "usergroups.enable",
            "usergroups.update",
            "usergroups.users.update",
        ]
    );
}

#[test]
fn the_known_error_has_its_facts() {
    let rules = rules::rules(Catalog::built_in());
    let post = &rules.methods["chat.postMessage"];
    assert_eq!(post.availability[&Kind::GridOrg], Availability::No(vec![Kind::GridWorkspace, Kind::Workspace]));
    assert_eq!(post.availability[&Kind::Workspace], Availability::From(Plan::Pro));
    assert_eq!(
        (post.acts.as_str(), post.who.as_str()),
        ("acts in one workspace", "a Workspace Owner of that workspace")
    );
    assert!(post.writes && !post.access[0].scopes.is_empty() && post.access[0].token == TokenKind::Bot);

    let provision = rules.by_function("scim-users.create").unwrap();
    assert_eq!(provision.availability[&Kind::Workspace], Availability::From(Plan::BusinessPlus));
    assert_eq!(provision.availability[&Kind::GridWorkspace], Availability::No(vec![Kind::GridOrg]));
    assert_eq!(provision.availability[&Kind::GridOrg], Availability::Yes);
    assert_eq!((provision.who.as_str(), provision.access[0].token), ("an Org Owner", TokenKind::User));
    assert_eq!(rules.by_function("audit.logs").unwrap().access[0].token, TokenKind::Audit);
}

#[test]
fn host_only_methods_have_a_reason_and_are_not_given() {
    let catalog = Catalog::built_in();
    assert!(!catalog.host_only().is_empty());
    for h in catalog.host_only() {
        assert!(h.because.len() > 10, "{}", h.name);
        assert!(catalog.by_name(&h.name).is_none(), "{}", h.name);
    }
}

#[test]
fn the_wit_on_disk_is_the_catalogs() {
    let folder = root().join("wit");
    let package = folder.join(format!("slack@{}", wit::VERSION));
    let generated = wit::generate(Catalog::built_in());
    if updating() {
        std::fs::create_dir_all(&package).unwrap();
        for old in std::fs::read_dir(&package).unwrap() {
            std::fs::remove_file(old.unwrap().path()).unwrap();
        }
        for (path, text) in &generated {
            std::fs::write(folder.join(path), text).unwrap();
        }
    }
    let on_disk: BTreeSet<String> = std::fs::read_dir(&package)
        .unwrap()
        .map(|f| format!("slack@{}/{}", wit::VERSION, f.unwrap().file_name().to_string_lossy()))
        .collect();
    let paths: BTreeSet<String> = generated.iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(on_disk, paths, "write them anew with UPDATE_EXPECT=1");
    for (path, text) in &generated {
        let found = std::fs::read_to_string(folder.join(path)).unwrap();
        assert!(found == *text, "{path} differs from the catalog; write it anew with UPDATE_EXPECT=1");
    }
}

#[test]
fn the_wit_parses_and_has_every_function() {
    let mut resolve = wit_parser::Resolve::default();
    let mut sources = wit_parser::SourceMap::new();
    for (path, text) in wit::generate(Catalog::built_in()) {
        sources.push_str(&path, text);
    }
    let group = sources.parse().map_err(|(_, e)| e).unwrap();
    let package = resolve.push_group(group).unwrap();
    let mut found = BTreeSet::new();
    for (interface, id) in &resolve.packages[package].interfaces {
        for name in resolve.interfaces[*id].functions.keys() {
            found.insert(format!("{interface}.{name}"));
        }
    }
    let wanted: BTreeSet<String> = Catalog::built_in().functions().into_iter().map(str::to_owned).collect();
    assert_eq!(found, wanted);
    let world = resolve.packages[package].worlds["all"];
    assert_eq!(resolve.worlds[world].imports.len(), resolve.packages[package].interfaces.len());

    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_dir(root().join("wit/action@1.0.0")).unwrap();
    assert!(resolve.packages[package].worlds.contains_key("plugin"));
}

/// A function that was released once stays: older plugins import it.
#[test]
fn functions_are_only_ever_added() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalog/released.json");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|_| "{}".to_owned());
    let mut released: std::collections::BTreeMap<String, BTreeSet<String>> = serde_json::from_str(&text).unwrap();
    let now: BTreeSet<String> = Catalog::built_in().functions().into_iter().map(str::to_owned).collect();
    let before: BTreeSet<String> = released.values().flatten().cloned().collect();
    let gone: Vec<_> = before.difference(&now).collect();
    assert!(gone.is_empty(), "released functions are gone: {gone:?}");
    let new: BTreeSet<String> = now.difference(&before).cloned().collect();
    if updating() && !new.is_empty() {
        released.entry(wit::VERSION.to_owned()).or_default().extend(new.iter().cloned());
        std::fs::write(&file, serde_json::to_string_pretty(&released).unwrap() + "\n").unwrap();
    } else {
        assert!(new.is_empty(), "new functions need a new minor version and a line in {}: {new:?}", file.display());
    }
}
