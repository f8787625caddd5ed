//! The possible results of the programs that may choose a connection.

use serde_json::{Value, json};

use jaq_core::load::parse::{BinaryOp, Term};
use jaq_core::path::{Opt, Part};

use super::free::Free;
use super::literal;

/// No such program chooses between more.
const RESULTS_MAX: usize = 256;

/// The possible results of literals, `if`, `{…literals…}[EXPR] // LITERAL` and `table("NAME"; …).COLUMN`, in the order of
/// the program; none for a program that has anything else where a result comes from.
///
/// A literal object that is indexed without `//` behind it can give `null`, and so can an `if` with a condition of
/// which one case has no value.
pub(super) fn of(term: &Term<&str>, free: &Free<'_>) -> Option<Vec<Value>> {
    let mut found = Vec::new();
    collect(term, free, &mut found)?;
    let mut results: Vec<Value> = Vec::new();
    for value in found {
        if !results.contains(&value) {
            results.push(value);
        }
    }
    (results.len() <= RESULTS_MAX).then_some(results)
}

fn collect(term: &Term<&str>, free: &Free<'_>, found: &mut Vec<Value>) -> Option<()> {
    match term {
        Term::Str(..) | Term::Num(_) | Term::Call(_, _) => found.push(constant(term, free)?),
        Term::IfThenElse(cases, Some(otherwise)) => {
            for (_, then) in cases {
                collect(then, free, found)?;
            }
            collect(otherwise, free, found)?;
        }
        Term::BinOp(left, BinaryOp::Alt, right) => {
            let from = found.len();
            collect(left, free, found)?;
            let kept: Vec<Value> =
                found.drain(from..).filter(|v| !matches!(v, Value::Null | Value::Bool(false))).collect();
            found.extend(kept);
            collect(right, free, found)?;
        }
        Term::Path(head, path) => match (&**head, &path.0[..]) {
            (Term::Obj(entries), [(Part::Index(_), Opt::Essential)]) => {
                for (key, value) in entries {
                    literal(key)?;
                    found.push(constant(value.as_ref()?, free)?);
                }
                found.push(Value::Null);
            }
            (Term::Call("table", args), [(Part::Index(column), Opt::Essential)])
                if args.len() == 2 && free.calls.contains(&("table", 2)) =>
            {
                found.push(json!({ "table": literal(&args[0])?, "column": literal(column)? }));
            }
            _ => return None,
        },
        _ => return None,
    }
    Some(())
}

fn constant(term: &Term<&str>, free: &Free<'_>) -> Option<Value> {
    match term {
        Term::Str(..) => literal(term).map(Value::String),
        Term::Num(n) => serde_json::from_str(n).ok(),
        Term::Call(name, args) if args.is_empty() && free.calls.contains(&(name, 0)) => match *name {
            "null" => Some(Value::Null),
            "true" => Some(Value::Bool(true)),
            "false" => Some(Value::Bool(false)),
            _ => None,
        },
        _ => None,
    }
}
