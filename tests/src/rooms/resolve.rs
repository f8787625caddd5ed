//! What a path leads to, and past whom.

use std::collections::BTreeSet;

use super::scan::{Crate, Module, Reference};

/// Somewhere that a path leads to or gets a name from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// A module of this crate.
    Module(Module),
    /// Another crate that is watched.
    Crate(String),
}

impl Crate {
    /// Every module that `reference` ends in or takes a name from, and every watched crate.
    ///
    /// The root is among them only where a name of its own is taken; `crate::journal` passes it by.
    pub(super) fn resolve(&self, reference: &Reference, watched: &[&str]) -> BTreeSet<Place> {
        let mut search = Search { krate: self, watched, places: BTreeSet::new(), open: BTreeSet::new() };
        search.follow(reference, &[], false);
        search.places
    }
}

struct Search<'a> {
    krate: &'a Crate,
    watched: &'a [&'a str],
    places: BTreeSet<Place>,
    /// What is being looked up: imports and globs may go in circles.
    open: BTreeSet<(Module, Vec<String>)>,
}

impl Search<'_> {
    /// Follows a path that goes on with `rest`, of which the first name is there or not where `rest_in_doubt`; true
    /// when it leads to something that is known.
    fn follow(&mut self, reference: &Reference, rest: &[String], rest_in_doubt: bool) -> bool {
        let segments: Vec<String> = reference.segments.iter().chain(rest).cloned().collect();
        let Some(first) = segments.first() else { return false };
        // A name in doubt is known by how much of the path is left when its turn comes.
        let in_doubt = if rest_in_doubt { Some(rest.len()) } else { None };
        if !reference.global {
            match first.as_str() {
                "crate" => return self.descend(&[], &segments[1..], &[in_doubt]),
                "self" | "super" => return self.descend(&reference.module, &segments, &[in_doubt]),
                _ => {}
            }
            if self.descend(&reference.module, &segments, &[in_doubt, Some(segments.len())]) {
                return true;
            }
        }
        // A word alone is a variable or a field more often than a crate.
        let known = self.watched.contains(&first.as_str()) && (reference.import || segments.len() > 1);
        if known {
            self.places.insert(Place::Crate(first.clone()));
        }
        known
    }

    /// Takes the names of `segments` one after the other, from the module `at`. A name that is not found is taken for
    /// something that a macro makes there, unless it is in doubt.
    fn descend(&mut self, at: &[String], segments: &[String], in_doubt: &[Option<usize>]) -> bool {
        let Some(first) = segments.first() else {
            if !at.is_empty() {
                self.places.insert(Place::Module(at.to_vec()));
            }
            return true;
        };
        match first.as_str() {
            "self" => return self.descend(at, &segments[1..], in_doubt),
            "super" => {
                let above = at.len().saturating_sub(1);
                return self.descend(&at[..above], &segments[1..], in_doubt);
            }
            _ => {}
        }
        let krate = self.krate;
        let Some(names) = krate.modules.get(at) else { return false };
        if names.children.contains(first) {
            let mut child = at.to_vec();
            child.push(first.clone());
            return self.descend(&child, &segments[1..], in_doubt);
        }
        let question = (at.to_vec(), segments.to_vec());
        if !self.open.insert(question.clone()) {
            return false;
        }
        let mut found = names.items.contains(first);
        for import in names.imports.get(first).into_iter().flatten() {
            // A name of something that is not watched, such as the standard library's, is still this module's.
            found = true;
            self.follow(import, &segments[1..], false);
        }
        // What a module has itself hides what its globs bring in.
        found = found
            || names.globs.iter().any(|glob| {
                let before = std::mem::take(&mut self.places);
                let found = glob.segments.first() != Some(first) && self.follow(glob, segments, true);
                let behind = std::mem::replace(&mut self.places, before);
                if found {
                    self.places.extend(behind);
                }
                found
            });
        self.open.remove(&question);
        found = found || !in_doubt.contains(&Some(segments.len()));
        if found {
            self.places.insert(Place::Module(at.to_vec()));
        }
        found
    }
}
