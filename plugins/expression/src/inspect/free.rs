//! What a program uses without defining it: functions and variables.

use std::collections::BTreeSet;

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Def, Pattern, Term};
use jaq_core::path::Part;

use crate::library::Signature;

/// The function behind `empty` that jaq's compiler itself puts into programs.
pub(crate) const EMPTY: Signature<'static> = ("!empty", 0);

/// The helpers that read a global variable.
const READERS: [(Signature<'static>, &str); 2] = [(("keep", 1), "$context"), (("table", 2), "$__tables")];

/// What a piece of a program takes from outside of it.
#[derive(Debug, Default)]
pub(crate) struct Free<'s> {
    /// Functions called, without those that the program defines itself.
    pub(crate) calls: BTreeSet<Signature<'s>>,
    /// Global variables read, with `$`, without those that the program binds itself.
    pub(crate) variables: BTreeSet<&'s str>,
    functions: Vec<Signature<'s>>,
    bound: Vec<&'s str>,
}

/// Of a whole program, the variables that the helpers read for it included.
pub(crate) fn of_term<'s>(term: &Term<&'s str>) -> Free<'s> {
    let mut free = Free::default();
    free.term(term);
    for (helper, variable) in READERS {
        if free.calls.contains(&helper) {
            free.variables.insert(variable);
        }
    }
    free
}

/// The functions that a definition calls, itself excepted.
pub(crate) fn calls_of_definition<'s>(def: &Def<&'s str>) -> BTreeSet<Signature<'s>> {
    let mut free = Free::default();
    free.definition(def);
    free.calls
}

impl<'s> Free<'s> {
    fn terms<'t>(&mut self, terms: impl IntoIterator<Item = &'t Term<&'s str>>)
    where
        's: 't,
    {
        for term in terms {
            self.term(term);
        }
    }

    fn scoped(&mut self, inside: impl FnOnce(&mut Self)) {
        let (functions, bound) = (self.functions.len(), self.bound.len());
        inside(self);
        self.functions.truncate(functions);
        self.bound.truncate(bound);
    }

    /// Leaves the definition in scope.
    fn definition(&mut self, def: &Def<&'s str>) {
        self.functions.push((def.name, def.args.len()));
        self.scoped(|free| {
            for arg in &def.args {
                if arg.starts_with('$') { free.bound.push(arg) } else { free.functions.push((arg, 0)) }
            }
            free.term(&def.body);
        });
    }

    fn call(&mut self, name: &'s str, arity: usize) {
        if !self.functions.contains(&(name, arity)) {
            self.calls.insert((name, arity));
        }
    }

    fn variable(&mut self, name: &'s str) {
        if !self.bound.contains(&name) {
            self.variables.insert(name);
        }
    }

    fn term(&mut self, term: &Term<&'s str>) {
        match term {
            Term::Id | Term::Recurse | Term::Num(_) | Term::Break(_) => {}
            Term::Str(format, parts) => {
                if let Some(format) = format {
                    self.call(format, 0);
                }
                for part in parts {
                    if let StrPart::Term(t) = part {
                        self.term(t);
                    }
                }
            }
            Term::Arr(None) => {
                self.calls.insert(EMPTY);
            }
            Term::Arr(Some(t)) | Term::Neg(t) | Term::Label(_, t) => self.term(t),
            Term::Obj(entries) => {
                for (key, item) in entries {
                    self.term(key);
                    self.terms(item);
                }
            }
            Term::BinOp(left, BinaryOp::Pipe(Some(pattern)), right) => {
                self.term(left);
                self.pattern(pattern);
                self.scoped(|free| {
                    free.bind(pattern);
                    free.term(right);
                });
            }
            Term::BinOp(left, _, right) => self.terms([&**left, &**right]),
            Term::Fold(_, source, pattern, args) => {
                self.term(source);
                self.pattern(pattern);
                let mut args = args.iter();
                self.terms(args.next());
                self.scoped(|free| {
                    free.bind(pattern);
                    free.terms(args);
                });
            }
            Term::TryCatch(attempt, catch) => {
                self.term(attempt);
                match catch {
                    Some(catch) => self.term(catch),
                    None => {
                        self.calls.insert(EMPTY);
                    }
                }
            }
            Term::IfThenElse(cases, otherwise) => {
                for (condition, then) in cases {
                    self.terms([condition, then]);
                }
                self.terms(otherwise.as_deref());
            }
            Term::Def(defs, rest) => self.scoped(|free| {
                for def in defs {
                    free.definition(def);
                }
                free.term(rest);
            }),
            Term::Call(name, args) => {
                self.call(name, args.len());
                self.terms(args);
            }
            Term::Var(name) => self.variable(name),
            Term::Path(head, path) => {
                self.term(head);
                for (part, _) in &path.0 {
                    match part {
                        Part::Index(index) => self.term(index),
                        Part::Range(from, to) => self.terms(from.iter().chain(to)),
                    }
                }
            }
        }
    }

    /// The terms inside a pattern, which do not see what the pattern binds.
    fn pattern(&mut self, pattern: &Pattern<&'s str>) {
        match pattern {
            Pattern::Var(_) => {}
            Pattern::Arr(items) => items.iter().for_each(|p| self.pattern(p)),
            Pattern::Obj(entries) => {
                for (key, p) in entries {
                    self.term(key);
                    self.pattern(p);
                }
            }
        }
    }

    fn bind(&mut self, pattern: &Pattern<&'s str>) {
        match pattern {
            Pattern::Var(name) => self.bound.push(name),
            Pattern::Arr(items) => items.iter().for_each(|p| self.bind(p)),
            Pattern::Obj(entries) => entries.iter().for_each(|(_, p)| self.bind(p)),
        }
    }
}
