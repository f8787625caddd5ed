//! Cases from a seed: deep, wide, long, branching and repeating values, flows, schemas, plugins, tables and requests, within
//! every documented limit and just beyond.
//!
//! A kind is a way to try something; a case is a kind with numbers from the dice. The case of number `n` depends on the
//! seed and on `n` alone, so that it is made again without the others.

mod expressions;
mod flows;
mod guests;
mod requests;
mod schemas;
mod shapes;

use serde_json::Value;

use crate::bellhop::dice::Dice;
use crate::case::{Case, Step};

/// A way to try something.
pub(crate) struct Kind {
    pub(crate) name: String,
    make: Box<dyn Fn(&mut Dice) -> Case + Send + Sync>,
}

impl Kind {
    fn new(name: impl Into<String>, make: impl Fn(&mut Dice) -> Case + Send + Sync + 'static) -> Self {
        Self { name: name.into(), make: Box::new(make) }
    }
}

/// A case with everything left to its defaults.
fn case(tries: impl Into<String>) -> Case {
    Case {
        tries: tries.into(),
        within_s: 60,
        times: 1,
        input: Value::Object(serde_json::Map::new()),
        ..Case::default()
    }
}

/// A case of one flow.
fn flow(tries: impl Into<String>, text: String, is: &[&str]) -> Case {
    Case { flow: Value::String(text), is: ends(is), ..case(tries) }
}

/// A case of steps.
fn steps(tries: impl Into<String>, step: Vec<Step>) -> Case {
    Case { step, ..case(tries) }
}

fn ends(is: &[&str]) -> Vec<String> {
    is.iter().map(|end| (*end).to_owned()).collect()
}

/// A word of YAML between single quotes.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// An expression as a word of YAML.
fn expression(text: &str) -> String {
    quoted(&format!("${{ {text} }}"))
}

/// Every kind that there is, families in turn, so that the first few have some of each.
pub(crate) fn kinds() -> Vec<Kind> {
    let families = [
        shapes::kinds(),
        requests::kinds(),
        expressions::kinds(),
        flows::kinds(),
        schemas::kinds(),
        guests::kinds(),
        shapes::inputs(),
    ];
    let mut families: Vec<std::vec::IntoIter<Kind>> = families.into_iter().map(Vec::into_iter).collect();
    let mut all = Vec::new();
    loop {
        let before = all.len();
        all.extend(families.iter_mut().filter_map(Iterator::next));
        if all.len() == before {
            return all;
        }
    }
}

/// The case of that number.
pub(crate) fn made(kinds: &[Kind], seed: u64, number: u64) -> Case {
    let index = usize::try_from(number).unwrap_or(0) % kinds.len();
    let kind = &kinds[index];
    let mut dice = Dice::of_case(seed, number);
    let mut case = (kind.make)(&mut dice);
    case.name = format!("{}#{number}", kind.name);
    case
}
