//! Writes the WIT of `bellhop:slack` from the catalog: one interface for each group of methods, one function each.
//!
//! A plugin's import list is its permission list, so that a function never changes or leaves: see the test over
//! `catalog/released.json`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bellhop_core::requirement::{Availability, Kind};

use crate::catalog::{Catalog, Method, Sharing};

/// The version of the package: a new method is a new minor version.
pub const VERSION: &str = "1.0.0";

/// Words that WIT reads as its own unless they are written with `%`.
const KEYWORDS: [&str; 42] = [
    "as",
    "async",
    "bool",
    "borrow",
    "char",
    "constructor",
    "enum",
    "error-context",
    "export",
    "f32",
    "f64",
    "flags",
    "from",
    "func",
    "future",
    "import",
    "include",
    "interface",
    "list",
    "map",
    "option",
    "own",
    "package",
    "record",
    "resource",
    "result",
    "s16",
    "s32",
    "s64",
    "s8",
    "static",
    "stream",
    "string",
    "tuple",
    "type",
    "u16",
    "u32",
    "u64",
    "u8",
    "use",
    "variant",
    "with",
];

/// The files of the package, each with its path under `wit/` and its text, in the order of their paths.
#[must_use]
pub fn generate(catalog: &Catalog) -> Vec<(String, String)> {
    let mut files: BTreeMap<&str, BTreeMap<&str, Vec<&Method>>> = BTreeMap::new();
    for method in catalog.methods() {
        let (interface, _) = method.import();
        let file = interface.split('-').next().unwrap_or(interface);
        files.entry(file).or_default().entry(interface).or_default().push(method);
    }
    // WIT takes a comment before `package` as the package's documentation, and only one file may have one.
    let mut world = String::from(
        "/// Slack's methods, one function each. Arguments and answers are the JSON of Slack's own documentation.\n\
         /// Written by a program from the method catalog; a test compares the two.\n",
    );
    world.push_str(&heading());
    world.push_str(
        "/// Everything. A component keeps only the functions that its code calls, so a plugin can be built\n",
    );
    world.push_str("/// against this world and still be able to do no more than it does.\nworld all {\n");
    for interface in files.values().flat_map(BTreeMap::keys) {
        let _ = writeln!(world, "  import {};", escaped(interface));
    }
    world.push_str("}\n");

    let mut out: Vec<_> = files.iter().map(|(file, interfaces)| (path(file), file_text(interfaces))).collect();
    out.push((path("world"), world));
    out.sort();
    out
}

fn path(file: &str) -> String {
    format!("slack@{VERSION}/{file}.wit")
}

fn heading() -> String {
    format!("package bellhop:slack@{VERSION};\n\n")
}

fn escaped(name: &str) -> String {
    if KEYWORDS.contains(&name) { format!("%{name}") } else { name.to_owned() }
}

fn file_text(interfaces: &BTreeMap<&str, Vec<&Method>>) -> String {
    let mut text = heading();
    for (n, (interface, methods)) in interfaces.iter().enumerate() {
        if n > 0 {
            text.push('\n');
        }
        let _ = writeln!(text, "interface {} {{", escaped(interface));
        let mut methods = methods.clone();
        methods.sort_by(|a, b| a.function.cmp(&b.function));
        for (n, method) in methods.into_iter().enumerate() {
            if n > 0 {
                text.push('\n');
            }
            for line in docs(method) {
                let _ = writeln!(text, "  /// {line}");
            }
            let _ = writeln!(text, "  {}: func(args: string) -> result<string, string>;", escaped(method.import().1));
        }
        text.push_str("}\n");
    }
    text
}

fn docs(method: &Method) -> Vec<String> {
    let mut lines = vec![format!("`{}`: {}.", method.name, method.summary)];
    for access in &method.access {
        let scopes = match &access.scopes[..] {
            [] => "no scope".to_owned(),
            scopes => {
                let list = scopes.iter().map(|s| format!("`{s}`")).collect::<Vec<_>>().join(" or ");
                let by = if access.depends_on_arguments { ", by the arguments" } else { "" };
                format!("scope {list}{by}")
            }
        };
        lines.push(format!("- token `{}`: {scopes}", access.token));
    }
    lines.push(format!("- {}", rate(method)));
    lines.push(format!("- {}", plan(method)));
    if let Some(why) = &method.unknown_because {
        lines.push(format!("- plan known only when called: {why}"));
    }
    let done = match &method.already_done[..] {
        [] => String::new(),
        errors => format!(", or answers {}", errors.iter().map(|e| format!("`{e}`")).collect::<Vec<_>>().join(" or ")),
    };
    lines.push(format!("- repeating it {}{done}", method.repeating.sentence()));
    lines
}

fn rate(method: &Method) -> String {
    let per = match method.buckets.last().map(|b| b.sharing) {
        Some(Sharing::Channel) => " in a channel",
        Some(Sharing::Organisation) => " in the organisation",
        _ => "",
    };
    format!("rate: {}, {} a minute{per}", method.tier.title(), method.per_minute)
}

fn plan(method: &Method) -> String {
    let row = method.family.row();
    let mut on = Vec::new();
    let mut off = Vec::new();
    for kind in Kind::ALL {
        match row.on(kind) {
            Availability::Yes => on.push(format!("`{kind}`")),
            Availability::From(plan) => on.push(format!("`{kind}` from {}", plan.title())),
            Availability::No(_) => off.push(format!("`{kind}`")),
        }
    }
    let org = if method.needs_workspace_on_org { "; `team_id` says which workspace of an organisation" } else { "" };
    let off = if off.is_empty() { String::new() } else { format!("; not on {}", off.join(" or ")) };
    format!("works on {}{off}{org}", on.join(", "))
}
