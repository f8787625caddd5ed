//! What matching a regular expression may take.

use regex_automata::dfa::dense;
use regex_automata::nfa::thompson;
use serde_json::Value;

/// Memory of one compiled regular expression, in bytes.
pub(super) const MEMORY_MAX: usize = 1 << 20;
/// Memory of an automaton that is built to the end, in bytes: the engine never throws states of such a one away.
const SMALL_MEMORY_MAX: usize = 32 << 10;
/// What an engine spends on each match, however short the text.
const UNITS_AT_LEAST: u64 = 4;
/// What one new state of the automaton takes.
const UNITS_OF_STATE: u64 = 24;

/// A regular expression, by what matching it takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pattern {
    /// Which of the schema's patterns it is.
    pub(super) number: usize,
    /// States of the whole automaton; none where it is too large to be built, so that each byte may take a new state.
    states: Option<u64>,
    /// Places of the expression that can be live at one byte.
    places: u64,
    /// Memory of the compiled expression, in bytes.
    pub(super) memory: usize,
}

impl Pattern {
    /// Reads `pattern`; none when the engine does not take it. Without `whole` its automaton is not tried, and counted at
    /// its worst.
    pub(super) fn read(pattern: &str, number: usize, whole: bool) -> Option<Self> {
        let translated = jsonschema_regex::to_rust_regex(pattern).ok()?;
        let config = thompson::Config::new().nfa_size_limit(Some(MEMORY_MAX));
        let nfa = thompson::Compiler::new().configure(config).build(&translated).ok()?;
        let config = dense::Config::new()
            .accelerate(false)
            .dfa_size_limit(Some(SMALL_MEMORY_MAX))
            .determinize_size_limit(Some(SMALL_MEMORY_MAX));
        // An expression of many places is not tried: that alone would take long.
        let small = (whole && nfa.states().len() <= 2_000)
            .then(|| dense::Builder::new().configure(config).build_from_nfa(&nfa).ok())
            .flatten();
        let states = small.map(|dfa| (dfa.memory_usage() >> dfa.stride2() >> 2) as u64 + 1);
        Some(Self { number, states, places: nfa.states().len() as u64, memory: nfa.memory_usage() })
    }

    /// Whether the whole automaton is known.
    pub(super) fn is_whole(&self) -> bool {
        self.states.is_some()
    }

    /// What matching a text of `bytes` takes; `known` are states that earlier matches of the same check have made.
    pub(super) fn units(&self, bytes: usize, known: &mut u64) -> u64 {
        let bytes = bytes as u64;
        match self.states {
            Some(states) => {
                let new = bytes.min(states.saturating_sub(*known));
                *known += new;
                UNITS_AT_LEAST + bytes / 8 + new * UNITS_OF_STATE
            }
            None => UNITS_AT_LEAST.saturating_add(bytes.saturating_mul(self.places / 2 + UNITS_OF_STATE)),
        }
    }
}

/// What comparing a value with another takes: its nodes, and a share for its texts.
pub(super) fn cost(value: &Value) -> u64 {
    let mut cost = 0_u64;
    let mut open = vec![value];
    while let Some(value) = open.pop() {
        cost += 1;
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(fields) => {
                for (name, value) in fields {
                    cost += 1 + name.len() as u64 / 16;
                    open.push(value);
                }
            }
            Value::String(text) => cost += text.len() as u64 / 16,
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    cost
}
