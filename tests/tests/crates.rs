//! Which crates link which, by what cargo says of them, and that none offers what belongs to another.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use bellhop_tests::{project, rooms};
use serde_json::Value;

/// A crate of ours and those of ours that it may link: `bellhop, api → engine → {journal, sandbox, slack} → core`, and
/// `bellhop → simulator`. `clock`, `limits` and `faults` are leaves that all may read.
const CRATES: &[(&str, &[&str])] = &[
    (
        "bellhop",
        &[
            "bellhop-api",
            "bellhop-clock",
            "bellhop-core",
            "bellhop-engine",
            "bellhop-faults",
            "bellhop-journal",
            "bellhop-limits",
            "bellhop-sandbox",
            "bellhop-simulator",
            "bellhop-slack",
            "bellhop-toolchain",
        ],
    ),
    (
        "bellhop-api",
        &[
            "bellhop-clock",
            "bellhop-core",
            "bellhop-engine",
            "bellhop-faults",
            "bellhop-journal",
            "bellhop-limits",
            "bellhop-sandbox",
            "bellhop-slack",
        ],
    ),
    (
        "bellhop-engine",
        &[
            "bellhop-clock",
            "bellhop-core",
            "bellhop-faults",
            "bellhop-journal",
            "bellhop-limits",
            "bellhop-sandbox",
            "bellhop-slack",
        ],
    ),
    ("bellhop-journal", &["bellhop-clock", "bellhop-core", "bellhop-faults", "bellhop-limits"]),
    // Its guest is built by the crate that builds everybody's.
    ("bellhop-sandbox", &["bellhop-core", "bellhop-limits", "bellhop-toolchain"]),
    ("bellhop-slack", &["bellhop-core"]),
    ("bellhop-clock", &["bellhop-core"]),
    ("bellhop-limits", &["bellhop-core"]),
    ("bellhop-core", &[]),
    ("bellhop-faults", &[]),
    ("bellhop-toolchain", &[]),
    // Its rules are its own, so that a wrong rule on either side shows.
    ("bellhop-simulator", &[]),
    // Plugins are other people's programs: they know the contract, not the host.
    ("bellhop-expression", &[]),
    ("bellhop-plugin-macros", &[]),
    ("bellhop-plugin", &["bellhop-plugin-macros"]),
    ("bellhop-plugin-slack", &["bellhop-plugin"]),
    ("bellhop-tests", &[]),
];

/// What is one crate's affair: bytes on disk, untrusted code, HTTP in, HTTP out, verbs.
const AFFAIRS: &[(&str, &[&str])] = &[
    ("sled", &["bellhop-journal"]),
    ("wasmtime", &["bellhop-sandbox"]),
    ("wasmparser", &["bellhop-sandbox"]),
    ("wit-component", &["bellhop-sandbox", "bellhop-toolchain"]),
    ("axum", &["bellhop-api"]),
    ("reqwest", &["bellhop", "bellhop-slack"]),
    ("opentelemetry-otlp", &["bellhop"]),
    ("clap", &["bellhop"]),
];

/// What the core is made of: values and rules. Nothing here reads a clock, a file or a socket for it.
const CORE_DIRECT: &[(&str, &str)] = &[
    ("jiff", "calendars and time zones, told the time"),
    ("jsonschema", "JSON Schema 2020-12, without its resolver of remote references"),
    ("jsonschema-regex", "what a pattern means to the engine that matches it"),
    ("regex-automata", "how large the automaton of a pattern is"),
    ("rpds", "maps and vectors of which copies share what is the same"),
    ("saphyr-parser", "YAML as events with positions"),
    ("serde", "derives"),
    ("serde_json", "values"),
    ("sha2", "digests"),
    ("strsim", "suggestions"),
    ("thiserror", "errors"),
    ("ulid", "ids, from entropy that is given"),
    ("unicode-width", "the columns of a diagnostic"),
];

fn metadata() -> Graph {
    let version = Command::new(env!("CARGO")).args(["-vV"]).output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host])
        .current_dir(project::root())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value, key: &str| value[key].as_str().unwrap().to_owned();
    let names: BTreeMap<String, String> =
        json["packages"].as_array().unwrap().iter().map(|p| (text(p, "id"), text(p, "name"))).collect();
    let mut edges: BTreeMap<String, Vec<(String, Vec<String>)>> = BTreeMap::new();
    for node in json["resolve"]["nodes"].as_array().unwrap() {
        let to = node["deps"].as_array().unwrap().iter().map(|dep| {
            let kinds = dep["dep_kinds"].as_array().unwrap();
            let kinds = kinds.iter().map(|kind| kind["kind"].as_str().unwrap_or("normal").to_owned()).collect();
            (text(dep, "pkg"), kinds)
        });
        edges.insert(text(node, "id"), to.collect());
    }
    Graph { names, edges }
}

struct Graph {
    names: BTreeMap<String, String>,
    edges: BTreeMap<String, Vec<(String, Vec<String>)>>,
}

impl Graph {
    fn id(&self, name: &str) -> &String {
        self.names.iter().find(|(_, n)| *n == name).unwrap_or_else(|| panic!("there is no crate {name}")).0
    }

    /// The crates of the workspace.
    fn ours(&self) -> BTreeSet<&str> {
        self.names.values().map(String::as_str).filter(|name| name.starts_with("bellhop")).collect()
    }

    /// The names of what `of` depends on itself, in one of `kinds`.
    fn direct(&self, of: &str, kinds: &[&str]) -> BTreeSet<&str> {
        self.ids(self.id(of), kinds).map(|id| self.names[id].as_str()).collect()
    }

    fn ids<'a>(&'a self, id: &str, kinds: &'a [&'a str]) -> impl Iterator<Item = &'a String> {
        self.edges[id]
            .iter()
            .filter(move |(_, of)| of.iter().any(|kind| kinds.contains(&kind.as_str())))
            .map(|(to, _)| to)
    }

    /// All that is linked when `of` is: its dependencies of `kinds`, and the normal ones of these.
    fn closure(&self, of: &str, kinds: &[&str]) -> BTreeSet<&str> {
        let mut open: Vec<&String> = self.ids(self.id(of), kinds).collect();
        let mut seen = BTreeSet::new();
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                open.extend(self.ids(id, &["normal"]));
            }
        }
        seen.into_iter().map(|id| self.names[id].as_str()).collect()
    }
}

#[test]
fn the_core_depends_on_what_the_list_allows() {
    let graph = metadata();
    let allowed: BTreeSet<&str> = CORE_DIRECT.iter().map(|(name, _)| *name).collect();
    assert_eq!(graph.direct("bellhop-core", &["normal", "build"]), allowed, "the core's own dependencies and the list");

    // What these bring along: a new one is looked at by whoever adds it to the list.
    let list = include_str!("../facts/core-dependencies.txt");
    let listed: BTreeSet<&str> = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let linked = graph.closure("bellhop-core", &["normal", "build"]);
    let new: Vec<&&str> = linked.difference(&listed).collect();
    assert!(new.is_empty(), "the core links {new:?}, which tests/facts/core-dependencies.txt does not have");
    for hands in [
        "tokio",
        "mio",
        "hyper",
        "reqwest",
        "ureq",
        "rustls",
        "socket2",
        "wasmtime",
        "axum",
        "sled",
        "clap",
        "tracing",
        "rand",
        "tempfile",
        "rustix",
        "bellhop-slack",
        "bellhop-simulator",
        "bellhop-expression",
    ] {
        assert!(!listed.contains(hands), "{hands} does things: the list may not have it");
    }
}

#[test]
fn the_crates_of_ours_know_each_other_as_designed() {
    let graph = metadata();
    let ours: BTreeSet<&str> = graph.ours();
    let listed: BTreeSet<&str> = CRATES.iter().map(|(name, _)| *name).collect();
    assert_eq!(ours, listed, "the crates of the workspace and the list");
    for (name, known) in CRATES {
        let direct: BTreeSet<&str> =
            graph.direct(name, &["normal", "build"]).into_iter().filter(|of| ours.contains(of)).collect();
        assert_eq!(direct, known.iter().copied().collect(), "the crates that {name} links");
    }
    // Its rules are its own in its tests, too.
    let any = ["normal", "build", "dev"];
    let simulator: Vec<&str> =
        graph.closure("bellhop-simulator", &any).into_iter().filter(|n| ours.contains(n)).collect();
    assert!(simulator.is_empty(), "the simulator knows {simulator:?}");
}

#[test]
fn what_is_one_crates_affair_is_no_others() {
    let graph = metadata();
    for (name, whose) in AFFAIRS {
        let users: BTreeSet<&str> =
            graph.ours().into_iter().filter(|ours| graph.direct(ours, &["normal", "build"]).contains(name)).collect();
        assert_eq!(users, whose.iter().copied().collect(), "who links {name}");
    }
}

#[test]
fn no_crate_offers_what_belongs_to_another() {
    let names: Vec<String> = CRATES.iter().map(|(name, _)| name.replace('-', "_")).collect();
    let ours: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut found = Vec::new();
    for (name, _) in CRATES.iter().filter(|(name, _)| *name != "bellhop") {
        let Some(room) = name.strip_prefix("bellhop-") else { continue };
        let offered = rooms::offered(&project::sources(&format!("host/{room}/src/")).unwrap(), &ours).unwrap();
        found.extend(offered.iter().map(|violation| format!("{name}: {violation}")));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
