//! Who may know whom: the rooms of the program and of the engine, by their sources.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};

use bellhop_tests::project;
use bellhop_tests::rooms::{self, Room, Table, What};

/// The rooms of the program itself: `main` picks the verb, `serve` puts a host together and takes it apart.
const ROOMS: &[Room] = &[
    Room { name: "main", knows: &["cli", "bellhop_sandbox"], in_tests: &[] },
    Room {
        name: "cli",
        knows: &[
            "serve",
            "bellhop_api",
            "bellhop_clock",
            "bellhop_core",
            "bellhop_engine",
            "bellhop_journal",
            "bellhop_limits",
            "bellhop_sandbox",
            "bellhop_simulator",
            "bellhop_slack",
            "bellhop_toolchain",
            "clap",
            "reqwest",
        ],
        in_tests: &[],
    },
    Room {
        name: "serve",
        knows: &[
            "bellhop_api",
            "bellhop_clock",
            "bellhop_core",
            "bellhop_engine",
            "bellhop_faults",
            "bellhop_journal",
            "bellhop_limits",
            "bellhop_sandbox",
            "bellhop_slack",
            // For spans, which go to a collector.
            "reqwest",
        ],
        in_tests: &["bellhop_simulator"],
    },
];

/// The rooms of the engine: `operate → accept → drive → call → {execution, setup, owners, gateway}`, and beside them what
/// shows runs, removes records and tells people. The root, which is `main` here, has what all share, and knows all.
const ENGINE: &[Room] = &[
    Room { name: "main", knows: EVERY, in_tests: EVERY },
    Room {
        name: "accept",
        knows: &["drive", "execution", "mail", "main", "pins", "setup", "traces", "turns"],
        in_tests: EVERY,
    },
    Room {
        name: "call",
        knows: &["execution", "gateway", "main", "owners", "pins", "setup", "traces", "waiting"],
        in_tests: EVERY,
    },
    Room {
        name: "drive",
        knows: &["call", "execution", "mail", "main", "owners", "pins", "setup", "traces", "waiting"],
        in_tests: EVERY,
    },
    Room { name: "entropy", knows: &[], in_tests: EVERY },
    Room { name: "execution", knows: &["entropy", "installation", "mail", "owners", "pins"], in_tests: EVERY },
    Room { name: "gateway", knows: &["measures", "traces"], in_tests: EVERY },
    Room { name: "installation", knows: &[], in_tests: EVERY },
    Room { name: "mail", knows: &[], in_tests: EVERY },
    Room { name: "measures", knows: &[], in_tests: EVERY },
    Room { name: "notices", knows: &["call", "execution", "gateway", "main"], in_tests: EVERY },
    Room {
        name: "operate",
        knows: &[
            "accept",
            "call",
            "drive",
            "execution",
            "gateway",
            "mail",
            "main",
            "owners",
            "pins",
            "restored",
            "setup",
        ],
        in_tests: EVERY,
    },
    Room { name: "owners", knows: &["mail"], in_tests: EVERY },
    Room {
        name: "partition",
        knows: &["accept", "call", "drive", "execution", "mail", "notices", "owners", "turns", "waiting"],
        in_tests: EVERY,
    },
    Room { name: "parts", knows: &[], in_tests: EVERY },
    Room { name: "pins", knows: &["traces"], in_tests: EVERY },
    Room { name: "restored", knows: &[], in_tests: EVERY },
    Room { name: "setup", knows: &["entropy", "gateway", "installation", "main"], in_tests: EVERY },
    Room { name: "show", knows: &["drive", "main", "pins", "setup", "traces"], in_tests: EVERY },
    Room { name: "traces", knows: &["entropy"], in_tests: EVERY },
    Room { name: "turns", knows: &[], in_tests: EVERY },
    Room { name: "upkeep", knows: &["execution", "main"], in_tests: EVERY },
    Room { name: "waiting", knows: &["execution", "main"], in_tests: EVERY },
    Room { name: "tests", knows: EVERY, in_tests: EVERY },
];
/// The root and the tests look into every room.
const EVERY: &[&str] = &[
    "main",
    "tests",
    "accept",
    "call",
    "drive",
    "entropy",
    "execution",
    "gateway",
    "installation",
    "mail",
    "measures",
    "notices",
    "operate",
    "owners",
    "partition",
    "parts",
    "pins",
    "restored",
    "setup",
    "show",
    "traces",
    "turns",
    "upkeep",
    "waiting",
];

/// Our own crates, and those that not every room of the program may use.
const WATCHED: &[&str] = &[
    "bellhop_api",
    "bellhop_clock",
    "bellhop_core",
    "bellhop_engine",
    "bellhop_expression",
    "bellhop_faults",
    "bellhop_journal",
    "bellhop_limits",
    "bellhop_plugin",
    "bellhop_sandbox",
    "bellhop_simulator",
    "bellhop_slack",
    "bellhop_toolchain",
    "clap",
    "reqwest",
];
const OURS: &[&str] = WATCHED.split_at(13).0;
const TABLE: Table<'_> = Table { rooms: ROOMS, watched: WATCHED, ours: OURS };

#[test]
fn the_rooms_of_the_program_know_only_whom_they_may() {
    let sources = project::sources("host/src/").unwrap();
    assert!(sources.len() > 30, "only {} sources were found", sources.len());
    let found = rooms::check(&sources, &TABLE).unwrap();
    // The pages of the book come in as data that the build script made: two texts each, and no name.
    let pages = "cli/explain.rs:";
    let text: Vec<String> =
        found.iter().map(ToString::to_string).filter(|t| !(t.starts_with(pages) && t.contains("`include!`"))).collect();
    let found = &text;
    assert!(found.is_empty(), "{} arrows are not in the table:\n{}", found.len(), text.join("\n"));
}

#[test]
fn the_rooms_of_the_engine_know_only_whom_they_may() {
    let sources = project::sources("host/engine/src/").unwrap();
    assert!(sources.len() > 50, "only {} sources were found", sources.len());
    let table = Table { rooms: ENGINE, watched: &[], ours: &[] };
    let found: Vec<String> = rooms::check(&sources, &table)
        .unwrap()
        .iter()
        .filter(|violation| !matches!(violation.what, What::Reexport { .. }))
        .map(ToString::to_string)
        .collect();
    assert!(found.is_empty(), "{} arrows are not in the table:\n{}", found.len(), found.join("\n"));
    // A table that goes round in circles would hold nothing.
    let mut left: Vec<&Room> = ENGINE.iter().filter(|room| !["main", "tests"].contains(&room.name)).collect();
    while let Some(at) = left.iter().position(|room| {
        let knows = room.knows.iter().filter(|name| **name != "main");
        knows.into_iter().all(|name| left.iter().all(|other| other.name != *name))
    }) {
        left.remove(at);
    }
    let names: Vec<&str> = left.iter().map(|room| room.name).collect();
    assert!(names.is_empty(), "these know each other in circles: {names:?}");
}

/// The picture of the map shows the arrows of the table, and no others.
#[test]
fn the_map_shows_the_arrows_of_the_engine() {
    let page = std::fs::read_to_string(project::root().join("ARCHITECTURE.md")).unwrap();
    let (_, picture) = page.split_once("```mermaid\n").unwrap();
    let (picture, _) = picture.split_once("```").unwrap();
    let mut shown = BTreeSet::new();
    for line in picture.lines().filter(|line| line.contains("-->")) {
        let places: Vec<Vec<&str>> = line.split("-->").map(|part| part.split('&').map(str::trim).collect()).collect();
        for pair in places.windows(2) {
            shown.extend(pair[0].iter().flat_map(|from| pair[1].iter().map(|to| (*from, *to))));
        }
    }
    let rows = ENGINE.iter().filter(|room| !["main", "tests"].contains(&room.name));
    let table: BTreeSet<(&str, &str)> =
        rows.flat_map(|room| room.knows.iter().map(|to| (room.name, *to))).filter(|(_, to)| *to != "main").collect();
    assert_eq!(shown, table, "the picture, and the table");
}

/// A tree without fault, to plant into. `engine` may know `journal`; `journal` and `sandbox` know nobody.
const SOUND: &[(&str, &str)] = &[
    ("main.rs", "mod journal; mod sandbox; mod engine; fn main() { engine::go(); }"),
    ("journal/mod.rs", "mod key; pub(crate) use key::Key; pub(crate) fn read() {} pub(crate) const N: u32 = 1;"),
    ("journal/key.rs", "use std::fmt; pub(crate) struct Key; impl Key { fn of(_: super::Key) {} }"),
    ("sandbox/mod.rs", "pub(crate) mod deep; pub(crate) struct Guest { journal: u32 } use self::deep::Door;"),
    ("sandbox/deep.rs", "pub(crate) struct Door; fn f(g: super::Guest) -> u32 { g.journal }"),
    (
        "engine/mod.rs",
        "use crate::journal::{self, Key}; use crate::sandbox; pub(crate) fn go() { journal::read(); }
         #[cfg(test)] mod tests { use super::*; use bellhop_simulator::start; }",
    ),
];
const SMALL: &[Room] = &[
    Room { name: "main", knows: &["engine"], in_tests: &[] },
    Room { name: "engine", knows: &["journal", "sandbox"], in_tests: &["bellhop_simulator"] },
    Room { name: "journal", knows: &[], in_tests: &[] },
    Room { name: "sandbox", knows: &[], in_tests: &[] },
];

fn with(changes: &[(&str, &str)]) -> Vec<What> {
    let mut sources: BTreeMap<String, String> =
        SOUND.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    for (path, more) in changes {
        let text = sources.entry((*path).to_owned()).or_default();
        text.push('\n');
        text.push_str(more);
    }
    let sources: Vec<_> = sources.into_iter().collect();
    let table = Table { rooms: SMALL, watched: WATCHED, ours: OURS };
    rooms::check(&sources, &table).unwrap().into_iter().map(|violation| violation.what).collect()
}

fn arrow(found: &[What], from: &str, to: &str) -> bool {
    found.iter().any(|what| matches!(what, What::Arrow { from: f, to: t, .. } if f == from && t == to))
}

#[test]
fn a_sound_tree_has_no_fault() {
    assert_eq!(with(&[]), []);
}

#[test]
fn a_planted_arrow_is_seen_however_it_is_written() {
    let ways: &[(&str, &[(&str, &str)])] = &[
        ("a full path", &[("sandbox/mod.rs", "fn f() { crate::journal::read(); }")]),
        ("a type", &[("sandbox/mod.rs", "struct S(Option<crate::journal::Key>);")]),
        ("a qualified path", &[("sandbox/mod.rs", "fn f() { <crate::journal::Key as Clone>::clone(); }")]),
        ("a range over a path", &[("sandbox/mod.rs", "fn f() { for _ in 0..crate::journal::N {} }")]),
        ("a use", &[("sandbox/mod.rs", "use crate::journal::Key;")]),
        ("a use in a function", &[("sandbox/mod.rs", "fn f() { use crate::journal::Key; }")]),
        ("a group", &[("sandbox/mod.rs", "use crate::{sandbox::deep, journal::{self, Key}};")]),
        ("a group of the whole", &[("sandbox/mod.rs", "use {std::fmt, crate::journal};")]),
        ("a glob", &[("sandbox/mod.rs", "use crate::journal::*;")]),
        ("a glob of the root", &[("sandbox/mod.rs", "use crate::*; fn f() { journal::read(); }")]),
        ("a glob of the root, then a use", &[("sandbox/mod.rs", "use crate::*; use journal as j;")]),
        ("super", &[("sandbox/mod.rs", "fn f() { super::journal::read(); }")]),
        ("a chain of super", &[("sandbox/deep.rs", "fn f() { super::super::journal::read(); }")]),
        (
            "super from an inline module",
            &[("sandbox/deep.rs", "mod a { mod b { fn f() { super::super::super::super::journal::read(); } } }")],
        ),
        ("self and super", &[("sandbox/deep.rs", "use self::super::super::journal::Key;")]),
        ("a renamed import", &[("sandbox/mod.rs", "use crate::journal as notes; fn f() { notes::read(); }")]),
        ("a renamed root", &[("sandbox/mod.rs", "use crate as x; fn f() { x::journal::read(); }")]),
        ("a renamed root in a group", &[("sandbox/mod.rs", "use crate::{self as x}; use x::journal::Key;")]),
        ("a renamed super", &[("sandbox/deep.rs", "use super::super as up; fn f() { up::journal::read(); }")]),
        (
            "a renamed root one module up",
            &[("sandbox/mod.rs", "use crate as x;"), ("sandbox/deep.rs", "fn f() { super::x::journal::read(); }")],
        ),
        ("the crate as a crate", &[("sandbox/mod.rs", "extern crate self as me; use me::journal::Key;")]),
        ("the argument of a macro", &[("sandbox/mod.rs", "fn f() { println!(\"{}\", crate::journal::N); }")]),
        ("a use in the argument of a macro", &[("sandbox/mod.rs", "wrap! { use crate::journal::Key; }")]),
        ("the body of a macro", &[("sandbox/mod.rs", "macro_rules! m { () => { $crate::journal::read() } }")]),
        (
            "a group in the body of a macro",
            &[("sandbox/mod.rs", "macro_rules! m { ($n:ident) => { use $crate::{journal::$n}; } }")],
        ),
        ("an attribute's text", &[("sandbox/mod.rs", "struct S { #[serde(with = \"crate::journal::key\")] a: u32 }")]),
        ("an attribute", &[("sandbox/mod.rs", "#[call(crate::journal::read)] fn f() {}")]),
        ("a name that a macro makes", &[("sandbox/mod.rs", "fn f() { crate::journal::made_by_a_macro(); }")]),
        ("a raw name", &[("sandbox/mod.rs", "use crate::r#journal::Key;")]),
        (
            "an alias at the root",
            &[("main.rs", "use journal as notes;"), ("sandbox/mod.rs", "fn f() { crate::notes::read(); }")],
        ),
        ("an item at the root", &[("main.rs", "use journal::Key;"), ("sandbox/mod.rs", "fn f(_: crate::Key) {}")]),
        (
            "a re-export of another room",
            &[
                ("engine/mod.rs", "pub(crate) use crate::journal::Key as Handle;"),
                ("sandbox/mod.rs", "fn f(_: crate::engine::Handle) {}"),
            ],
        ),
        (
            "a re-export by glob",
            &[
                ("engine/mod.rs", "pub(crate) use crate::journal::*;"),
                ("sandbox/mod.rs", "fn f(_: crate::engine::Key) {}"),
            ],
        ),
        ("a test", &[("sandbox/mod.rs", "#[cfg(test)] mod tests { use crate::journal::Key; }")]),
    ];
    for (name, changes) in ways {
        let found = with(changes);
        assert!(arrow(&found, "sandbox", "journal"), "{name} was not seen: {found:?}");
    }
}

#[test]
fn a_planted_re_export_is_seen() {
    for text in [
        "pub(crate) use crate::journal::Key as Handle;",
        "pub use crate::journal::{self as j, Key as K};",
        "pub(super) use crate::journal::*;",
        "pub(in crate) use super::journal::Key as Handle;",
        "pub(crate) use Key as Handle;",
    ] {
        let found = with(&[("engine/mod.rs", text)]);
        let seen = found
            .iter()
            .any(|what| matches!(what, What::Reexport { from, of, .. } if from == "engine" && of == "journal"));
        assert!(seen, "`{text}` was not seen: {found:?}");
    }
    let inside =
        "mod inner { pub(super) use crate::journal::Key as Handle; pub(in crate::engine) use crate::journal::N; }";
    assert_eq!(with(&[("engine/mod.rs", inside)]), [], "what stays in the room is the room's affair");
    let core = with(&[("engine/mod.rs", "pub(crate) use bellhop_core::id;")]);
    assert!(core.iter().any(|what| matches!(what, What::Reexport { of, .. } if of == "bellhop_core")), "{core:?}");
}

#[test]
fn a_watched_crate_is_seen_and_a_test_may_know_more() {
    for text in [
        "use bellhop_slack::client;",
        "fn f() { bellhop_slack::client(); }",
        "fn f() { ::bellhop_slack::client(); }",
        "use bellhop_slack as s;",
        "extern crate bellhop_slack as s;",
    ] {
        assert!(arrow(&with(&[("sandbox/mod.rs", text)]), "sandbox", "bellhop_slack"), "{text}");
    }
    let outside = with(&[("engine/mod.rs", "use bellhop_simulator::start;")]);
    assert!(arrow(&outside, "engine", "bellhop_simulator"), "{outside:?}");
}

#[test]
fn a_room_without_a_row_and_hidden_ways_are_seen() {
    let found = with(&[("main.rs", "mod other;"), ("other.rs", "fn f() {}")]);
    assert!(found.contains(&What::Unlisted("other".to_owned())), "{found:?}");
    for text in
        ["#[path = \"../journal/key.rs\"] mod key;", "include!(\"../journal/key.rs\");", "#[macro_use] mod m {}"]
    {
        let found = with(&[("sandbox/mod.rs", text)]);
        assert!(found.iter().any(|what| matches!(what, What::Hidden(_))), "`{text}` was not seen: {found:?}");
    }
}

/// Modules of one room that lead to each other, and why they do.
const CIRCLES: &[(&str, &[&str], &str)] = &[
    (
        "bellhop",
        &["cli::arguments", "cli::packaging"],
        "the pages of the manual are made of the arguments, by a verb that is one of them",
    ),
    (
        "bellhop",
        &["cli::offline", "cli::shipped"],
        "what is built stands in the target folder, which is found where verbs work offline",
    ),
    (
        "core",
        &["run::event", "run::frame", "run::ledger", "run::notice", "run::place", "run::state"],
        "what a run is, one type in each file: an event carries parts of the state, and the state folds events",
    ),
    (
        "engine",
        &["accept::blocked", "accept::idempotency", "accept::trigger"],
        "one trigger: what its keys say, what it lacks, and what is answered are parts of one answer",
    ),
    (
        "engine",
        &["call::attempt", "call::earlier", "call::effects"],
        "one attempt, whose methods stand in files by what they do",
    ),
    (
        "engine",
        &["drive::admission", "drive::quarantine", "drive::runs"],
        "the runs in memory: who may come in, who goes out, who stays out",
    ),
];

#[test]
fn modules_of_a_room_lead_to_each_other_only_where_it_is_said() {
    let mut found = Vec::new();
    for krate in ["core", "slack", "journal", "sandbox", "engine", "api", "toolchain", "simulator"] {
        let sources = project::sources(&format!("host/{krate}/src/")).unwrap();
        found.extend(rooms::circles(&sources).unwrap().into_iter().map(|circle| (krate, circle)));
    }
    let sources = project::sources("host/src/").unwrap();
    found.extend(rooms::circles(&sources).unwrap().into_iter().map(|circle| ("bellhop", circle)));
    let is_said = |(krate, circle): &&(&str, Vec<String>)| CIRCLES.iter().any(|(k, c, _)| k == krate && c == circle);
    let new: Vec<String> =
        found.iter().filter(|one| !is_said(one)).map(|(k, c)| format!("{k}: {}", c.join(", "))).collect();
    assert!(new.is_empty(), "lead to each other: end it, or say here why not:\n{}", new.join("\n"));
    let idle = CIRCLES.iter().filter(|(krate, circle, _)| !found.iter().any(|(k, c)| k == krate && c == circle));
    let idle: Vec<String> = idle.map(|(krate, circle, _)| format!("{krate}: {}", circle.join(", "))).collect();
    assert!(idle.is_empty(), "lead to each other no more: take them off the list:\n{}", idle.join("\n"));
}
