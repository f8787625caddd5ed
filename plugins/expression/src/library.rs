//! What a program can call: an allow-list of jq's functions, and the helpers.

use std::collections::{BTreeMap, BTreeSet};

use jaq_core::data::JustLut;
use jaq_core::load::parse::Def;
use jaq_core::native::Fun;
use jaq_json::Val;

use crate::inspect::free;
use crate::tables;

/// A function's name and its number of arguments.
pub type Signature<'s> = (&'s str, usize);

/// What the values of programs are.
pub(crate) type Data = JustLut<Val>;

/// The native functions that programs get. What is not here does not exist for them.
///
/// Left out on purpose: `now`, `env`, `localtime`, `strflocaltime` (they read the machine), `halt`, `debug_empty`,
/// `stderr_empty` (they act on the process), `input`, `inputs` (there is one input), `tobytes` (no JSON can hold the
/// result).
const NATIVES: &[&str] = &[
    // of jaq-core
    "error_empty",
    "path",
    "path_value",
    "range",
    "keys_unsorted",
    "key_values",
    "first",
    "last",
    "limit",
    "skip",
    // of jaq-std: text, numbers and order
    "floor",
    "round",
    "ceil",
    "utf8bytelength",
    "explode",
    "implode",
    "ascii_downcase",
    "ascii_upcase",
    "reverse",
    "sort",
    "sort_by",
    "group_by",
    "min_by_or_empty",
    "max_by_or_empty",
    "startswith",
    "endswith",
    "ltrimstr",
    "rtrimstr",
    "trim",
    "ltrim",
    "rtrim",
    "escape_sh",
    // of jaq-std: formats and regular expressions, the latter in linear time
    "escape_html",
    "unescape_html",
    "encode_uri",
    "decode_uri",
    "encode_base64",
    "decode_base64",
    "matches",
    "split_matches",
    "split_",
    // of jaq-std: dates in UTC, given by the program
    "fromdateiso8601",
    "todateiso8601",
    "strftime",
    "gmtime",
    "strptime",
    "mktime",
    // of jaq-std: mathematics
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "cbrt",
    "cos",
    "cosh",
    "exp",
    "exp10",
    "exp2",
    "expm1",
    "fabs",
    "frexp",
    "ilogb",
    "log",
    "log10",
    "log1p",
    "log2",
    "modf",
    "nearbyint",
    "rint",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "trunc",
    "atan2",
    "copysign",
    "fdim",
    "fmax",
    "fmin",
    "fmod",
    "hypot",
    "ldexp",
    "pow",
    "scalbln",
    "fma",
    // of jaq-json
    "fromjson",
    "tojson",
    "length",
    "contains",
    "has",
    "indices",
    "bsearch",
    // of ours
    "table_row",
];

/// Functions of jq that programs do not get, and the reason.
const DENIED: &[(&str, &str)] = &[
    ("now", "an expression has no clock: use the times in `$task`, `$workflow` or `$runtime`"),
    ("localtime", "an expression has no local time zone: use `gmtime`"),
    ("strflocaltime", "an expression has no local time zone: use `strftime`"),
    ("env", "an expression has no environment"),
    ("input", "an expression has one input: `.`"),
    ("inputs", "an expression has one input: `.`"),
    ("input_filename", "an expression has no files"),
    ("halt", "an expression cannot end the process: use `error`"),
    ("halt_error", "an expression cannot end the process: use `error`"),
    ("debug", "an expression cannot write to a log"),
    ("stderr", "an expression cannot write to a log"),
    ("tobytes", "JSON has no byte strings: use `@base64`"),
];

/// The reason why programs do not get a function of jq, if it is one of those.
#[must_use]
pub fn denied(name: &str) -> Option<&'static str> {
    DENIED.iter().find(|(n, _)| *n == name).map(|(_, why)| *why)
}

/// The native functions of the allow-list.
fn natives() -> impl Iterator<Item = Fun<Data>> {
    jaq_core::funs::<Data>()
        .chain(jaq_std::funs::<Data>())
        .chain(jaq_json::funs::<Data>())
        .chain([tables::native()])
        .filter(|(name, ..)| NATIVES.contains(name))
}

/// Everything that programs can call, parsed once.
pub(crate) struct Library {
    definitions: Vec<Definition>,
    natives: BTreeSet<Signature<'static>>,
}

struct Definition {
    def: Def<&'static str>,
    calls: BTreeSet<(&'static str, usize)>,
}

impl Library {
    /// Parses jq's definitions and ours. Those that call a function that is left out are left out too.
    pub(crate) fn new() -> Self {
        let natives: BTreeSet<Signature<'static>> = natives().map(|(name, args, _)| (name, args.len())).collect();
        let mut known = natives.clone();
        known.insert(free::EMPTY);
        let helpers = jaq_core::load::parse(include_str!("helpers.jq"), |p| p.defs()).unwrap_or_default();
        let mut definitions = Vec::new();
        for def in jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs()).chain(helpers) {
            let called = free::calls_of_definition(&def);
            let signature = (def.name, def.args.len());
            if denied(def.name).is_none() && called.iter().all(|c| *c == signature || known.contains(c)) {
                known.insert(signature);
                definitions.push(Definition { def, calls: called });
            }
        }
        Self { definitions, natives }
    }

    /// The definitions and native functions that a program with these calls needs, in their order.
    ///
    /// A compiled program holds all the definitions that it is compiled with, so without this choice each of the kept
    /// programs would take as much memory as the whole library.
    pub(crate) fn needed<'s>(&self, called: &BTreeSet<Signature<'s>>) -> (Vec<Def<&'static str>>, Vec<Fun<Data>>) {
        let mut wanted: BTreeSet<Signature<'s>> = called.clone();
        let mut chosen = Vec::new();
        // A definition calls itself or earlier ones, so going backwards meets every caller before what it calls.
        for definition in self.definitions.iter().rev() {
            if wanted.contains(&(definition.def.name, definition.def.args.len())) {
                wanted.extend(definition.calls.iter().copied());
                chosen.push(definition.def.clone());
            }
        }
        chosen.reverse();
        let natives = natives().filter(|(name, args, _)| wanted.contains(&(*name, args.len()))).collect();
        (chosen, natives)
    }

    /// Names and numbers of arguments of all that programs can call.
    pub(crate) fn signatures(&self) -> BTreeMap<&'static str, BTreeSet<usize>> {
        let mut all = BTreeMap::<_, BTreeSet<_>>::new();
        for Definition { def, .. } in &self.definitions {
            all.entry(def.name).or_default().insert(def.args.len());
        }
        for (name, arity) in &self.natives {
            all.entry(name).or_default().insert(*arity);
        }
        all
    }
}
