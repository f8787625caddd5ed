//! Which rooms of a crate know which: every path in its sources is resolved and held against a table.
//!
//! The sources are read as trees of tokens, not as syntax trees, so that what stands in the argument of a macro, in the
//! body of one or in an attribute's text counts like everything else. Names are resolved through `use` with and without
//! another name, groups, globs, re-exports, `super`, `self`, inline modules and `extern crate self as`.

mod resolve;
mod scan;

use std::collections::{BTreeMap, BTreeSet};

pub use scan::Error;

use resolve::Place;
use scan::Crate;

/// Where something is found: the file from the crate's `src`, and the line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// `engine/call/mod.rs`.
    pub file: String,
    /// From 1.
    pub line: usize,
}

/// One thing that the table does not allow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Where.
    pub site: Site,
    /// What.
    pub what: What,
}

/// What the table does not allow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A room refers to one that it must not know.
    Arrow {
        /// Who.
        from: String,
        /// Whom.
        to: String,
        /// The path as it was written.
        path: String,
    },
    /// A room offers what belongs to another.
    Reexport {
        /// Who.
        from: String,
        /// Whose.
        of: String,
        /// The path as it was written.
        path: String,
    },
    /// Something by which names come in that no path shows.
    Hidden(&'static str),
    /// A room that the table does not have.
    Unlisted(String),
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: ", self.site.file, self.site.line)?;
        match &self.what {
            What::Arrow { from, to, path } => write!(f, "`{from}` must not know `{to}`: {path}"),
            What::Reexport { from, of, path } => write!(f, "`{from}` offers what belongs to `{of}`: {path}"),
            What::Hidden(what) => write!(f, "{what} brings in names that no path shows"),
            What::Unlisted(room) => write!(f, "the room `{room}` is not in the table"),
        }
    }
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// A module at the root of the crate, or `main` for the root itself.
    pub name: &'static str,
    /// The rooms and watched crates that it may know.
    pub knows: &'static [&'static str],
    /// Those that its tests may know as well.
    pub in_tests: &'static [&'static str],
}

/// What is allowed.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// Every room.
    pub rooms: &'a [Room],
    /// Crates that not every room may use, by the name that sources use. Other crates are everybody's.
    pub watched: &'a [&'a str],
    /// Those of `watched` whose items no room may offer as its own.
    pub ours: &'a [&'a str],
}

/// The root of the crate.
pub const MAIN: &str = "main";

/// Holds the sources of one crate (`(path under src, text)`) against `table`.
///
/// # Errors
/// When a source is not made of Rust's tokens.
pub fn check(sources: &[(String, String)], table: &Table<'_>) -> Result<Vec<Violation>, Error> {
    let krate = Crate::scan(sources)?;
    let rooms: BTreeMap<&str, &Room> = table.rooms.iter().map(|room| (room.name, room)).collect();
    let mut found = BTreeSet::new();
    for (site, what) in &krate.hidden {
        found.insert(Violation { site: site.clone(), what: What::Hidden(what) });
    }
    for reference in &krate.references {
        let from = room_of(&reference.module);
        let Some(row) = rooms.get(from.as_str()) else {
            found.insert(Violation { site: reference.site.clone(), what: What::Unlisted(from) });
            continue;
        };
        let test = krate.is_test(&reference.module);
        for place in krate.resolve(reference, table.watched) {
            let to = match &place {
                Place::Module(module) => room_of(module),
                Place::Crate(name) => name.clone(),
            };
            if to == from {
                continue;
            }
            let path = reference.written();
            let allowed = row.knows.contains(&to.as_str()) || (test && row.in_tests.contains(&to.as_str()));
            if !allowed {
                let what = What::Arrow { from: from.clone(), to: to.clone(), path: path.clone() };
                found.insert(Violation { site: reference.site.clone(), what });
            }
            let is_ours = match &place {
                Place::Module(_) => to != MAIN,
                Place::Crate(name) => table.ours.contains(&name.as_str()),
            };
            if reference.leaves_room && is_ours {
                let what = What::Reexport { from: from.clone(), of: to, path };
                found.insert(Violation { site: reference.site.clone(), what });
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// What a crate (`(path under src, text)`) offers as its own and is one of `ours`.
///
/// # Errors
/// When a source is not made of Rust's tokens.
pub fn offered(sources: &[(String, String)], ours: &[&str]) -> Result<Vec<Violation>, Error> {
    let krate = Crate::scan(sources)?;
    let mut found = BTreeSet::new();
    for reference in krate.references.iter().filter(|reference| reference.leaves_room) {
        for place in krate.resolve(reference, ours) {
            let Place::Crate(of) = place else { continue };
            let what = What::Reexport { from: room_of(&reference.module), of, path: reference.written() };
            found.insert(Violation { site: reference.site.clone(), what });
        }
    }
    Ok(found.into_iter().collect())
}

/// The circles of modules within the rooms of a crate (`(path under src, text)`): each is the modules of which every one
/// leads to every other. A module and the one that it stands in are one idea in two files, and make no circle by themselves.
///
/// # Errors
/// When a source is not made of Rust's tokens.
pub fn circles(sources: &[(String, String)]) -> Result<Vec<Vec<String>>, Error> {
    let krate = Crate::scan(sources)?;
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for reference in krate.references.iter().filter(|reference| !krate.is_test(&reference.module)) {
        for place in krate.resolve(reference, &[]) {
            let Place::Module(to) = place else { continue };
            let from = &reference.module;
            let is_family = from.starts_with(&to) || to.starts_with(from);
            if room_of(from) == room_of(&to) && !is_family {
                arrows.entry(from.join("::")).or_default().insert(to.join("::"));
            }
        }
    }
    let reach = |from: &str| {
        let (mut reached, mut left) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(next) = left.pop() {
            for to in arrows.get(&next).into_iter().flatten() {
                if reached.insert(to.clone()) {
                    left.push(to.clone());
                }
            }
        }
        reached
    };
    let reached: BTreeMap<&String, BTreeSet<String>> = arrows.keys().map(|from| (from, reach(from))).collect();
    let leads = |from: &String, to: &String| reached.get(from).is_some_and(|all| all.contains(to));
    let circle = |of: &String| -> Vec<String> {
        let all = reached.keys().filter(|other| leads(of, other) && leads(other, of));
        all.map(|module| (*module).clone()).collect()
    };
    let found: BTreeSet<Vec<String>> = reached.keys().map(|module| circle(module)).filter(|c| c.len() > 1).collect();
    Ok(found.into_iter().collect())
}

/// The room that a module is in.
fn room_of(module: &[String]) -> String {
    module.first().cloned().unwrap_or_else(|| MAIN.to_owned())
}
