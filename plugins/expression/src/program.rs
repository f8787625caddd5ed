//! Programs: parsed, compiled, kept, evaluated.

use std::collections::BTreeMap;
use std::rc::Rc;

use jaq_core::load::lex::{self, Lexer, Token};
use jaq_core::load::parse::{Parser, Term};
use jaq_core::load::{Arena, File, Loader, span};
use jaq_core::{Compiler, Ctx, Filter, Vars, compile};
use jaq_json::{Val, read};

use crate::error::Error;
use crate::inspect::{self, Inspection, free};
use crate::library::{Data, Library, denied};
use crate::output;

/// What a program may grow to. Time, memory and stack are the host's to limit.
pub mod limits {
    /// Bytes of a program's text.
    pub const PROGRAM_BYTES_MAX: usize = 64 * 1024;
    /// Bytes of a result.
    pub const OUTPUT_BYTES_MAX: usize = 1024 * 1024;
    /// Levels of a result.
    pub const OUTPUT_DEPTH_MAX: usize = 128;
    /// Compiled programs kept; the least recently used goes first.
    pub const PROGRAMS_MAX: usize = 256;
    /// Bytes of program text whose compiled form is kept: it takes some hundred bytes for each of them.
    pub const PROGRAMS_BYTES_MAX: usize = 64 * 1024;
}

/// The compiled programs of one instance.
pub struct Programs {
    library: Library,
    kept: BTreeMap<String, Kept>,
    kept_bytes: usize,
    uses: u64,
}

struct Kept {
    program: Rc<Program>,
    used: u64,
}

struct Program {
    filter: Filter<Data>,
    /// The global variables that it reads, with `$`, in the order in which they are given to it.
    variables: Vec<String>,
}

impl Default for Programs {
    fn default() -> Self {
        Self::new()
    }
}

impl Programs {
    /// None yet; the library is parsed.
    #[must_use]
    pub fn new() -> Self {
        Self { library: Library::new(), kept: BTreeMap::new(), kept_bytes: 0, uses: 0 }
    }

    /// How many are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// The one result of `program`; `null` if there is none.
    ///
    /// `arguments` is a JSON object of the global variables without `$`; it may have more than the program reads.
    pub fn evaluate(&mut self, program: &str, arguments: &str, input: &str) -> Result<String, Error> {
        let program = self.compiled(program)?;
        let input = value(input, "input")?;
        let variables = program.values(arguments)?;
        let ctx = Ctx::<Data>::new(&program.filter.lut, Vars::new(variables));
        let mut results = program.filter.id.run((ctx, input)).map(|r| {
            r.map_err(|exception| match exception.get_err() {
                Ok(error) => Error::invalid(message(error)),
                Err(_) => Error::invalid("the expression ended without a result"),
            })
        });
        let first = results.next().transpose()?.unwrap_or_default();
        if results.next().transpose()?.is_some() {
            return Err(Error::invalid("the expression has more than one result: collect them with [ ]"));
        }
        output::write(&first)
    }

    /// What can be said of `program` without evaluating it, as JSON; an error if it cannot be compiled.
    pub fn inspect(&mut self, program: &str) -> Result<String, Error> {
        let inspection = self.inspection(program)?;
        serde_json::to_string(&inspection).map_err(|e| Error::invalid(e.to_string()))
    }

    /// As [`Programs::inspect`], typed.
    pub fn inspection(&mut self, program: &str) -> Result<Inspection, Error> {
        self.compiled(program)?;
        Ok(inspect::inspect(&parse(program)?))
    }

    fn compiled(&mut self, text: &str) -> Result<Rc<Program>, Error> {
        self.uses += 1;
        if let Some(kept) = self.kept.get_mut(text) {
            kept.used = self.uses;
            return Ok(Rc::clone(&kept.program));
        }
        let program = Rc::new(compile(&self.library, text)?);
        while self.kept.len() >= limits::PROGRAMS_MAX
            || (!self.kept.is_empty() && self.kept_bytes + text.len() > limits::PROGRAMS_BYTES_MAX)
        {
            let Some(oldest) = self.kept.iter().min_by_key(|(_, kept)| kept.used).map(|(text, _)| text.clone()) else {
                break;
            };
            self.kept.remove(&oldest);
            self.kept_bytes -= oldest.len();
        }
        self.kept_bytes += text.len();
        self.kept.insert(text.to_owned(), Kept { program: Rc::clone(&program), used: self.uses });
        Ok(program)
    }
}

impl Program {
    fn values(&self, arguments: &str) -> Result<Vec<Val>, Error> {
        if self.variables.is_empty() {
            return Ok(Vec::new());
        }
        let Val::Obj(given) = value(arguments, "arguments")? else {
            return Err(Error::invalid("the arguments are not an object"));
        };
        self.variables
            .iter()
            .map(|name| {
                let key = Val::from(name.trim_start_matches('$').to_owned());
                given.get(&key).cloned().ok_or_else(|| {
                    let mut there: Vec<String> = given.keys().filter_map(given_name).collect();
                    there.sort();
                    Error::invalid(format!("the variable `{name}` does not exist here; there are {}", there.join(", ")))
                })
            })
            .collect()
    }
}

fn given_name(key: &Val) -> Option<String> {
    match key {
        Val::TStr(name) if !name.starts_with(b"__") => Some(format!("`${}`", String::from_utf8_lossy(name))),
        _ => None,
    }
}

fn value(json: &str, what: &str) -> Result<Val, Error> {
    read::parse_single(json.as_bytes()).map_err(|e| Error::invalid(format!("the {what} is not JSON: {e}")))
}

fn message(error: jaq_json::Error) -> String {
    match error.into_val() {
        Val::TStr(text) => String::from_utf8_lossy(&text).into_owned(),
        other => format!("error: {other}"),
    }
}

/// Parses a program; the error names the first fault and its place.
fn parse(text: &str) -> Result<Term<&str>, Error> {
    if text.len() > limits::PROGRAM_BYTES_MAX {
        return Err(Error::invalid(format!("the expression is longer than {} bytes", limits::PROGRAM_BYTES_MAX)));
    }
    let place = |part: &str| if part.is_empty() { text.len() } else { span(text, part).start };
    let tokens = Lexer::new(text).lex().map_err(|faults| match faults.into_iter().next() {
        Some((lex::Expect::Token, found)) => {
            let first: String = found.chars().take(1).collect();
            Error::invalid_at(format!("unexpected `{first}`"), place(found))
        }
        Some((expected, found)) => Error::invalid_at(format!("expected {}", expected.as_str()), place(found)),
        None => Error::invalid("the expression cannot be read"),
    })?;
    Parser::new(&tokens).parse(|p| p.term()).map_err(|faults| match faults.into_iter().next() {
        Some((expected, Some(Token("import" | "include", _)))) => {
            Error::invalid(format!("an expression cannot import modules (expected {})", expected.as_str()))
        }
        Some((expected, Some(Token(found, _)))) => {
            let found_short: String = found.chars().take(24).collect();
            Error::invalid_at(format!("expected {}, found `{found_short}`", expected.as_str()), place(found))
        }
        Some((expected, None)) => {
            Error::invalid_at(format!("expected {}, but the expression ends", expected.as_str()), text.len())
        }
        None => Error::invalid("the expression cannot be read"),
    })
}

fn compile(library: &Library, text: &str) -> Result<Program, Error> {
    let free = free::of_term(&parse(text)?);
    let (definitions, natives) = library.needed(&free.calls);
    let arena = Arena::default();
    let modules = Loader::new(definitions)
        .load(&arena, File { code: text, path: () })
        .map_err(|_| Error::invalid("the expression cannot be read"))?;
    let filter = Compiler::default()
        .with_funs(natives)
        .with_global_vars(free.variables.iter().copied())
        .compile(modules)
        .map_err(|faults| undefined(library, text, faults))?;
    Ok(Program { filter, variables: free.variables.into_iter().map(str::to_owned).collect() })
}

/// What to say of the first name that does not exist.
fn undefined(library: &Library, text: &str, faults: compile::Errors<&str, ()>) -> Error {
    let Some((name, kind)) = faults.into_iter().flat_map(|(_, faults)| faults).next() else {
        return Error::invalid("the expression cannot be compiled");
    };
    let message = match kind {
        compile::Undefined::Filter(_) if denied(name).is_some() => {
            format!("`{name}` is not available: {}", denied(name).unwrap_or_default())
        }
        compile::Undefined::Filter(arity) => unknown_function(library, name, arity),
        other => format!("the {} `{name}` does not exist", other.as_str()),
    };
    Error::invalid_at(message, span(text, name).start)
}

fn unknown_function(library: &Library, name: &str, arity: usize) -> String {
    let known = library.signatures();
    if let Some(arities) = known.get(name) {
        let arities: Vec<String> = arities.iter().map(usize::to_string).collect();
        return format!("`{name}` takes {} arguments, not {arity}", arities.join(" or "));
    }
    let nearest = known.keys().map(|k| (strsim::damerau_levenshtein(name, k), *k)).min();
    match nearest {
        Some((distance, k)) if distance <= 2 => format!("the function `{name}` does not exist; did you mean `{k}`?"),
        _ => format!("the function `{name}` does not exist"),
    }
}
