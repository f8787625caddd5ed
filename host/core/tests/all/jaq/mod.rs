//! jq for tests, without a sandbox: only programs that the tests write themselves are evaluated here.

use bellhop_core::cost::Cost;
use bellhop_core::expression::{Answer, Error, Evaluator, Inspection};
use jaq_core::load::lex::{Lexer, StrPart, Token};
use jaq_core::load::parse::{BinaryOp, Parser, Term};
use jaq_core::load::{self, Arena, File, Loader, span};
use jaq_core::path::Part;
use jaq_core::{Compiler, Ctx, Vars, compile, data::JustLut, unwrap_valr};
use jaq_json::Val;
use serde_json::Value;

/// Each helper with the text that says that a program uses it.
const HELPERS: [(&str, &str); 4] = [
    ("keep(", "def keep(k): $context + {(k): .};"),
    (
        "until(",
        "def until(date; time; zone; days): {until: {date: date, time: time, zone: zone, days: days}};
         def until(date; time; zone): until(date; time; zone; 0);",
    ),
    ("workdays(", "def workdays(n): {workdays: n};"),
    (
        "table(",
        r#"def table(name; key): name as $n | key as $k | ($__tables[$n] // error("there is no table `\($n)`"))
           | .[$k] // error("the table `\($n)` has no key `\($k)`");"#,
    ),
];

/// Evaluates by jaq, in this process.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Jaq;

impl Jaq {
    fn value(program: &str, arguments: &[(&str, &Value)], input: &Value) -> Result<Value, Error> {
        let names: Vec<String> = arguments.iter().map(|(name, _)| format!("${name}")).collect();
        let arena = Arena::default();
        let modules = Loader::new(definitions(program))
            .load(&arena, File { code: program, path: () })
            .map_err(|_| syntax_error(program).unwrap_or_else(|| invalid("the expression cannot be read")))?;
        let filter = Compiler::default()
            .with_funs(jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs()))
            .with_global_vars(names.iter().map(String::as_str))
            .compile(modules)
            .map_err(|faults| undefined(program, &faults))?;
        let variables = arguments.iter().map(|(_, v)| val(v)).collect::<Result<Vec<_>, _>>()?;
        let ctx = Ctx::<JustLut<Val>>::new(&filter.lut, Vars::new(variables));
        let mut results = filter.id.run((ctx, val(input)?)).map(unwrap_valr);
        let first = match results.next() {
            None => return Ok(Value::Null),
            Some(result) => result.map_err(|e| invalid(&e.to_string()))?,
        };
        if results.next().is_some() {
            return Err(invalid("the expression has more than one result: collect them with [ ]"));
        }
        serde_json::from_str(&first.to_string()).map_err(|e| invalid(&e.to_string()))
    }
}

impl Evaluator for Jaq {
    fn answer(&self, program: &str, arguments: &[(&str, &Value)], input: &Value) -> Answer {
        Answer { result: Self::value(program, arguments, input), cost: Cost::ZERO }
    }

    fn inspect(&self, program: &str) -> Result<Inspection, Error> {
        if let Some(error) = syntax_error(program) {
            return Err(error);
        }
        let tokens = Lexer::new(program).lex().map_err(|_| invalid("the expression cannot be read"))?;
        let term = Parser::new(&tokens).parse(|p| p.term()).map_err(|_| invalid("the expression cannot be read"))?;
        let mut variables = free_variables(program)?;
        variables.sort();
        variables.dedup();
        Ok(Inspection { variables, paths: vec![".".to_owned()], results: results_of(&term), tables: Vec::new() })
    }
}

fn definitions(program: &str) -> Vec<load::parse::Def<&'static str>> {
    let helpers = HELPERS
        .iter()
        .filter(|(sign, _)| program.contains(sign))
        .flat_map(|(_, text)| load::parse(text, |p| p.defs()).unwrap_or_default());
    jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs()).chain(helpers).collect()
}

fn val(value: &Value) -> Result<Val, Error> {
    jaq_json::read::parse_single(value.to_string().as_bytes()).map_err(|e| invalid(&e.to_string()))
}

fn invalid(message: &str) -> Error {
    Error::Invalid { message: message.to_owned(), at: None }
}

fn at(program: &str, part: &str, message: String) -> Error {
    let at = if part.is_empty() { program.len() } else { span(program, part).start };
    Error::Invalid { message, at: u32::try_from(at).ok() }
}

fn syntax_error(program: &str) -> Option<Error> {
    let tokens = match Lexer::new(program).lex() {
        Ok(tokens) => tokens,
        Err(faults) => {
            let (expected, found) = faults.into_iter().next()?;
            return Some(at(program, found, format!("expected {}", expected.as_str())));
        }
    };
    let (expected, found) = Parser::new(&tokens).parse(|p| p.term()).err()?.into_iter().next()?;
    Some(match found {
        Some(Token(found, _)) => at(program, found, format!("expected {}, found `{found}`", expected.as_str())),
        None => at(program, "", format!("expected {}, but the expression ends", expected.as_str())),
    })
}

/// The variables that the compiler misses when it is given none.
fn free_variables(program: &str) -> Result<Vec<String>, Error> {
    let arena = Arena::default();
    let modules = Loader::new(definitions(program))
        .load(&arena, File { code: program, path: () })
        .map_err(|_| invalid("the expression cannot be read"))?;
    let compiled = Compiler::<_, JustLut<Val>>::default()
        .with_funs(jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs()))
        .compile(modules);
    let Err(faults) = compiled else { return Ok(Vec::new()) };
    let all = || faults.iter().flat_map(|(_, faults)| faults);
    if all().any(|(_, kind)| !matches!(kind, compile::Undefined::Var)) {
        return Err(undefined(program, &faults));
    }
    Ok(all().map(|(name, _)| name.trim_start_matches('$').to_owned()).collect())
}

fn undefined(program: &str, faults: &compile::Errors<&str, ()>) -> Error {
    let mut all = faults.iter().flat_map(|(_, faults)| faults);
    let by_kind = all.clone().find(|(_, kind)| !matches!(kind, compile::Undefined::Var));
    match by_kind.or_else(|| all.next()) {
        Some((name, kind)) => {
            let message = format!("the {} `{name}` does not exist", kind.as_str());
            // A name of a helper's own text is not in the program.
            if program.contains(name) && !matches!(kind, compile::Undefined::Var) {
                at(program, name, message)
            } else {
                invalid(&message)
            }
        }
        None => invalid("the expression cannot be compiled"),
    }
}

/// The possible results of what semantics section 4 allows for a connection.
fn results_of(term: &Term<&str>) -> Option<Vec<Value>> {
    Some(match term {
        Term::Str(None, parts) => vec![Value::String(
            parts
                .iter()
                .map(|part| match part {
                    StrPart::Str(s) => Some((*s).to_owned()),
                    StrPart::Char(c) => Some(c.to_string()),
                    StrPart::Term(_) => None,
                })
                .collect::<Option<String>>()?,
        )],
        Term::IfThenElse(branches, otherwise) => {
            let mut all = Vec::new();
            for (_, then) in branches {
                all.extend(results_of(then)?);
            }
            all.extend(results_of(otherwise.as_deref()?)?);
            all
        }
        Term::BinOp(left, BinaryOp::Alt, right) => {
            let mut all = results_of(left)?;
            all.extend(results_of(right)?);
            all
        }
        Term::Path(object, path) => match (object.as_ref(), path.0.as_slice()) {
            (Term::Obj(fields), [(Part::Index(_), _)]) => {
                let mut all = Vec::new();
                for (_, value) in fields {
                    all.extend(results_of(value.as_ref()?)?);
                }
                all
            }
            _ => return None,
        },
        _ => return None,
    })
}
