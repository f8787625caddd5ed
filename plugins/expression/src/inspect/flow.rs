//! Which parts of the input, of `$runtime` and of the tables a program may read.
//!
//! The program is walked once with places instead of values: a place is a part of something that came from outside.
//! Taking a field of a place gives another place; whatever looks at the value of a place reads it. The answer may
//! name more than the program reads, never less.

use std::collections::{BTreeSet, HashMap};

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Def, Pattern, Term};
use jaq_core::path::Part;

use super::free::Free;
use super::literal;

/// Places that one value can come from; beyond this many they are simply read.
const PLACES_MAX: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Root {
    Input,
    Runtime,
    Table(String),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    root: Root,
    keys: Vec<String>,
}

/// The places that a value can come from; none for a value that was computed.
type Places = BTreeSet<Place>;

/// The paths and the (table, column) pairs that a program may read, sorted.
pub(super) fn reads<'s>(term: &Term<&'s str>, free: &Free<'s>) -> (Vec<String>, Vec<(String, String)>) {
    let mut flow = Flow {
        free_table: free.calls.contains(&("table", 2)),
        read: BTreeSet::new(),
        scope: HashMap::new(),
        functions: Vec::new(),
    };
    let input = Places::from([Place { root: Root::Input, keys: Vec::new() }]);
    let result = flow.term(term, &input);
    flow.look(&result);
    let mut paths = Vec::new();
    let mut tables = Vec::new();
    for Place { root, keys } in flow.read {
        match root {
            Root::Input if keys.is_empty() => paths.push(".".to_owned()),
            Root::Input => paths.push(dotted("", &keys)),
            Root::Runtime => paths.push(dotted("$runtime", &keys)),
            Root::Table(name) => tables.push((name, keys.into_iter().next().unwrap_or_default())),
        }
    }
    paths.sort();
    tables.sort();
    tables.dedup();
    (paths, tables)
}

fn dotted(root: &str, keys: &[String]) -> String {
    let mut text = root.to_owned();
    for key in keys {
        let plain =
            key.chars().enumerate().all(|(i, c)| c == '_' || c.is_ascii_alphabetic() || i > 0 && c.is_ascii_digit());
        text.push('.');
        if plain && !key.is_empty() {
            text.push_str(key);
        } else {
            text.push_str(&serde_json::Value::from(key.as_str()).to_string());
        }
    }
    text
}

struct Flow<'s> {
    free_table: bool,
    read: BTreeSet<Place>,
    scope: HashMap<&'s str, Vec<Places>>,
    functions: Vec<(&'s str, usize)>,
}

impl<'s> Flow<'s> {
    /// Something depends on the value of these places.
    fn look(&mut self, places: &Places) {
        self.read.extend(places.iter().cloned());
    }

    fn field(places: &Places, key: &str) -> Places {
        places
            .iter()
            .map(|place| {
                let mut place = place.clone();
                place.keys.push(key.to_owned());
                place
            })
            .collect()
    }

    fn union(&mut self, mut left: Places, right: Places) -> Places {
        left.extend(right);
        if left.len() > PLACES_MAX {
            self.look(&left);
            left.clear();
        }
        left
    }

    fn look_at(&mut self, term: &Term<&'s str>, input: &Places) {
        let places = self.term(term, input);
        self.look(&places);
    }

    fn term(&mut self, term: &Term<&'s str>, input: &Places) -> Places {
        match term {
            Term::Id => return input.clone(),
            Term::Recurse => self.look(input),
            Term::Num(_) | Term::Break(_) | Term::Arr(None) => {}
            Term::Str(_, parts) => {
                for part in parts {
                    if let StrPart::Term(t) = part {
                        self.look_at(t, input);
                    }
                }
            }
            Term::Arr(Some(t)) | Term::Neg(t) => self.look_at(t, input),
            Term::Label(_, t) => return self.term(t, input),
            Term::Obj(entries) => self.object(entries, input),
            Term::BinOp(left, op, right) => return self.operation(left, op, right, input),
            Term::Fold(_, source, pattern, args) => {
                let places = self.term(source, input);
                let mut args = args.iter();
                if let Some(init) = args.next() {
                    self.look_at(init, input);
                }
                self.bound(pattern, &places, input, |flow| {
                    args.for_each(|arg| flow.look_at(arg, &Places::new()));
                });
            }
            Term::TryCatch(attempt, catch) => {
                let attempted = self.term(attempt, input);
                let caught = catch.as_ref().map(|c| self.term(c, &Places::new())).unwrap_or_default();
                return self.union(attempted, caught);
            }
            Term::IfThenElse(cases, otherwise) => {
                let mut result = match otherwise {
                    Some(otherwise) => self.term(otherwise, input),
                    None => input.clone(),
                };
                for (condition, then) in cases {
                    self.look_at(condition, input);
                    let then = self.term(then, input);
                    result = self.union(result, then);
                }
                return result;
            }
            Term::Def(defs, rest) => {
                let functions = self.functions.len();
                defs.iter().for_each(|def| self.definition(def));
                let result = self.term(rest, input);
                self.functions.truncate(functions);
                return result;
            }
            Term::Call(name, args) => return self.call(name, args, input),
            Term::Var(name) => return self.variable(name),
            Term::Path(head, path) => {
                let mut places = self.term(head, input);
                for (part, _) in &path.0 {
                    match part {
                        Part::Index(index) => match literal(index) {
                            Some(key) => places = Self::field(&places, &key),
                            None => {
                                self.look(&places);
                                self.look_at(index, input);
                                places.clear();
                            }
                        },
                        Part::Range(from, to) => {
                            self.look(&places);
                            from.iter().chain(to).for_each(|t| self.look_at(t, input));
                            places.clear();
                        }
                    }
                }
                return places;
            }
        }
        Places::new()
    }

    fn object(&mut self, entries: &[(Term<&'s str>, Option<Term<&'s str>>)], input: &Places) {
        for (key, value) in entries {
            match (key, value, literal(key)) {
                (Term::Var(name), None, _) => {
                    let places = self.variable(name);
                    self.look(&places);
                }
                (_, None, Some(key)) => self.look(&Self::field(input, &key)),
                (_, None, None) => {
                    self.look_at(key, input);
                    self.look(input);
                }
                (_, Some(value), _) => {
                    self.look_at(key, input);
                    self.look_at(value, input);
                }
            }
        }
    }

    fn operation(
        &mut self,
        left: &Term<&'s str>,
        op: &BinaryOp<&'s str>,
        right: &Term<&'s str>,
        input: &Places,
    ) -> Places {
        match op {
            BinaryOp::Pipe(None) => {
                let between = self.term(left, input);
                self.term(right, &between)
            }
            BinaryOp::Pipe(Some(pattern)) => {
                let places = self.term(left, input);
                let mut result = Places::new();
                self.bound(pattern, &places, input, |flow| result = flow.term(right, input));
                result
            }
            BinaryOp::Comma => {
                let left = self.term(left, input);
                let right = self.term(right, input);
                self.union(left, right)
            }
            BinaryOp::Alt => {
                let left = self.term(left, input);
                self.look(&left);
                let right = self.term(right, input);
                self.union(left, right)
            }
            BinaryOp::Or | BinaryOp::And | BinaryOp::Math(_) | BinaryOp::Cmp(_) => {
                self.look_at(left, input);
                self.look_at(right, input);
                Places::new()
            }
            BinaryOp::Assign | BinaryOp::Update | BinaryOp::UpdateMath(_) | BinaryOp::UpdateAlt => {
                self.look(input);
                self.look_at(left, input);
                self.look_at(right, input);
                Places::new()
            }
        }
    }

    /// A definition is walked where it stands, with nothing known of its input and arguments: whoever calls it reads
    /// all of its own input (see [`Flow::call`]).
    fn definition(&mut self, def: &Def<&'s str>) {
        self.functions.push((def.name, def.args.len()));
        let functions = self.functions.len();
        for arg in &def.args {
            if arg.starts_with('$') {
                self.scope.entry(arg).or_default().push(Places::new());
            } else {
                self.functions.push((arg, 0));
            }
        }
        self.look_at(&def.body, &Places::new());
        for arg in def.args.iter().filter(|arg| arg.starts_with('$')) {
            if let Some(bound) = self.scope.get_mut(arg) {
                bound.pop();
            }
        }
        self.functions.truncate(functions);
    }

    fn call(&mut self, name: &'s str, args: &[Term<&'s str>], input: &Places) -> Places {
        let own = self.functions.contains(&(name, args.len()));
        match (name, args) {
            ("true" | "false" | "null" | "empty", []) if !own => {}
            ("select", [condition]) if !own => {
                self.look_at(condition, input);
                return input.clone();
            }
            ("first" | "last", [t]) if !own => return self.term(t, input),
            ("error" | "workdays", [_]) | ("until", [_, _, _] | [_, _, _, _]) | ("range", _) if !own => {
                args.iter().for_each(|arg| self.look_at(arg, input));
            }
            ("table", [name, key]) if !own && self.free_table => {
                self.look_at(key, input);
                let name = literal(name).unwrap_or_else(|| {
                    self.look_at(name, input);
                    String::new()
                });
                return Places::from([Place { root: Root::Table(name), keys: Vec::new() }]);
            }
            _ => {
                self.look(input);
                args.iter().for_each(|arg| self.look_at(arg, input));
            }
        }
        Places::new()
    }

    fn variable(&mut self, name: &'s str) -> Places {
        match self.scope.get(name).and_then(|bound| bound.last()) {
            Some(places) => places.clone(),
            None if name == "$runtime" => Places::from([Place { root: Root::Runtime, keys: Vec::new() }]),
            None => Places::new(),
        }
    }

    fn bound(&mut self, pattern: &Pattern<&'s str>, places: &Places, input: &Places, inside: impl FnOnce(&mut Self)) {
        let mut names = Vec::new();
        self.bind(pattern, places, input, &mut names);
        inside(self);
        for name in names {
            if let Some(bound) = self.scope.get_mut(name) {
                bound.pop();
            }
        }
    }

    fn bind(&mut self, pattern: &Pattern<&'s str>, places: &Places, input: &Places, names: &mut Vec<&'s str>) {
        match pattern {
            Pattern::Var(name) => {
                self.scope.entry(name).or_default().push(places.clone());
                names.push(name);
            }
            Pattern::Arr(items) => {
                self.look(places);
                items.iter().for_each(|p| self.bind(p, &Places::new(), input, names));
            }
            Pattern::Obj(entries) => {
                for (key, p) in entries {
                    match literal(key) {
                        Some(key) => self.bind(p, &Self::field(places, &key), input, names),
                        None => {
                            self.look(places);
                            self.look_at(key, input);
                            self.bind(p, &Places::new(), input, names);
                        }
                    }
                }
            }
        }
    }
}
