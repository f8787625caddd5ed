//! What a check takes, counted before it.
//!
//! The count walks the schema and the instance as the check would, takes every branch, and remembers nothing, because the
//! check remembers nothing either. It stops at its budget: a check is never longer than its count, and a count never
//! longer than the budget. A unit is what looking at one value with one keyword takes, some tens of nanoseconds.

use serde_json::Value;

use super::node::Node;
use super::pattern::{Pattern, cost};

/// The count came to the end of the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooCostly;

/// What the check is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// Whether it fits.
    Asking,
    /// Every way in which it does not.
    Telling,
}

impl For {
    /// What is told is asked for first.
    fn times(self) -> u64 {
        match self {
            Self::Asking => 1,
            Self::Telling => 2,
        }
    }
}

/// What a keyword takes that makes an error, beside one that only says no.
const UNITS_OF_ERROR: u64 = 12;

/// Remembering that a field was evaluated.
const UNITS_OF_MARK: u64 = 6;
/// The digits of an item's position.
const DIGITS: usize = 6;

/// A place of the instance: a value, or a field's name.
#[derive(Clone, Copy)]
enum At<'v> {
    Value(&'v Value),
    Name(&'v str),
}

struct Count<'s> {
    nodes: &'s [Node],
    left: u64,
    /// The length of the pointer to the place: each error has one of its own.
    path_bytes: u64,
    /// States that the patterns have made, by their number.
    known: Vec<u64>,
}

/// The units that checking `instance` with the first of `nodes` takes.
///
/// # Errors
/// It takes more than `budget`.
pub(super) fn count(
    nodes: &[Node],
    patterns: usize,
    instance: &Value,
    what: For,
    budget: u64,
) -> Result<u64, TooCostly> {
    let mut count = Count { nodes, left: budget, path_bytes: 0, known: vec![0; patterns] };
    count.node(0, At::Value(instance), what)?;
    Ok(budget - count.left)
}

impl<'s> Count<'s> {
    fn spend(&mut self, units: u64) -> Result<(), TooCostly> {
        self.left = self.left.checked_sub(units).ok_or(TooCostly)?;
        Ok(())
    }

    /// What one keyword takes here.
    fn each(&self, what: For) -> u64 {
        if what == For::Telling { UNITS_OF_ERROR + self.path_bytes / 16 } else { 1 }
    }

    /// The node for a child of the place that is so many bytes away.
    fn below(&mut self, node: usize, at: At<'_>, what: For, bytes: usize) -> Result<(), TooCostly> {
        let bytes = 1 + bytes as u64;
        self.path_bytes += bytes;
        self.node(node, at, what)?;
        self.path_bytes -= bytes;
        Ok(())
    }

    fn matching(&mut self, pattern: &Pattern, text: &str) -> Result<(), TooCostly> {
        let units = pattern.units(text.len(), &mut self.known[pattern.number]);
        self.spend(units)
    }

    /// The node with all that it refers to, at one place and below it.
    fn node(&mut self, node: usize, at: At<'_>, what: For) -> Result<(), TooCostly> {
        let nodes: &'s [Node] = self.nodes;
        let node = &nodes[node];
        let times = what.times();
        self.spend(1 + node.own.keywords.saturating_mul(self.each(what)) + node.own.values.saturating_mul(times))?;
        for &target in &node.all {
            self.node(target, at, what)?;
        }
        for &target in &node.tried {
            self.node(target, at, For::Asking)?;
            if what == For::Telling {
                self.node(target, at, For::Telling)?;
            }
        }
        for &target in &node.asked {
            for _ in 0..times {
                self.node(target, at, For::Asking)?;
            }
        }
        match at {
            At::Name(text) => (0..times).try_for_each(|_| self.text(node, text)),
            At::Value(Value::String(text)) => (0..times).try_for_each(|_| self.text(node, text)),
            At::Value(Value::Array(items)) => self.items(node, at, items, what),
            At::Value(Value::Object(fields)) => self.fields(node, at, fields, what),
            At::Value(Value::Null | Value::Bool(_) | Value::Number(_)) => Ok(()),
        }
    }

    fn text(&mut self, node: &Node, text: &str) -> Result<(), TooCostly> {
        if node.own.reads_text {
            self.spend(1 + text.len() as u64)?;
        }
        if node.own.values > 0 {
            self.spend(text.len() as u64 / 16)?;
        }
        match &node.own.pattern {
            Some(pattern) => self.matching(pattern, text),
            None => Ok(()),
        }
    }

    fn items(&mut self, node: &Node, at: At<'_>, items: &[Value], what: For) -> Result<(), TooCostly> {
        if node.own.unique {
            self.spend(comparisons(items).saturating_mul(what.times()))?;
        }
        for (position, item) in items.iter().enumerate() {
            if let Some(target) = node.prefix.get(position).copied().or(node.items) {
                self.below(target, At::Value(item), what, DIGITS)?;
            }
            if let Some(target) = node.contains {
                for _ in 0..what.times() {
                    self.node(target, At::Value(item), For::Asking)?;
                }
            }
        }
        if let Some(target) = node.unevaluated_items {
            self.marked(node, at, what)?;
            for item in items {
                self.below(target, At::Value(item), what, DIGITS)?;
            }
        }
        Ok(())
    }

    fn fields(
        &mut self,
        node: &Node,
        at: At<'_>,
        fields: &serde_json::Map<String, Value>,
        what: For,
    ) -> Result<(), TooCostly> {
        self.spend(node.own.names.saturating_mul(self.each(what)) + node.properties.len() as u64)?;
        for (name, target) in &node.dependent {
            self.spend(1)?;
            if fields.contains_key(name) {
                self.node(*target, at, what)?;
            }
        }
        let looks = !node.properties.is_empty() || node.additional.is_some();
        for (name, value) in fields {
            if looks {
                self.spend(self.each(what) + name.len() as u64 / 16)?;
            }
            match node.properties.get(name) {
                Some(target) => self.below(*target, At::Value(value), what, name.len())?,
                None => {
                    if let Some(target) = node.additional {
                        self.below(target, At::Value(value), what, name.len())?;
                    }
                }
            }
            for (pattern, target) in &node.patterns {
                self.matching(pattern, name)?;
                self.below(*target, At::Value(value), what, name.len())?;
            }
            if let Some(target) = node.names {
                self.node(target, At::Name(name), what)?;
            }
        }
        if let Some(target) = node.unevaluated_properties {
            self.marked(node, at, what)?;
            for (name, value) in fields {
                self.below(target, At::Value(value), what, name.len())?;
            }
        }
        Ok(())
    }

    /// Finding out what was evaluated; twice where it is to be told what was not.
    fn marked(&mut self, node: &Node, at: At<'_>, what: For) -> Result<(), TooCostly> {
        (0..what.times()).try_for_each(|_| self.mark(node, at))
    }

    /// The branches are asked whether they fit, and each is gone through for what it evaluates.
    fn mark(&mut self, node: &Node, at: At<'_>) -> Result<(), TooCostly> {
        let nodes: &'s [Node] = self.nodes;
        self.spend(1)?;
        match at {
            At::Value(Value::Object(fields)) => {
                for (name, value) in fields {
                    self.spend(UNITS_OF_MARK + name.len() as u64 / 16)?;
                    for (pattern, _) in &node.patterns {
                        self.matching(pattern, name)?;
                    }
                    if let Some(target) = node.unevaluated_properties {
                        self.node(target, At::Value(value), For::Asking)?;
                    }
                }
            }
            At::Value(Value::Array(items)) => {
                for item in items {
                    self.spend(1)?;
                    for target in [node.contains, node.unevaluated_items].into_iter().flatten() {
                        self.node(target, At::Value(item), For::Asking)?;
                    }
                }
            }
            At::Value(_) | At::Name(_) => return Ok(()),
        }
        for target in node.in_place() {
            self.node(target, at, For::Asking)?;
            self.mark(&nodes[target], at)?;
        }
        Ok(())
    }
}

/// Hashing and keeping one node of an item.
const UNITS_OF_HASH: u64 = 10;
/// Lists longer than this are compared by a hash.
const COMPARED_MAX: u64 = 15;

/// What `uniqueItems` takes: each item is hashed, and where hashes may well be the same, compared with each other.
fn comparisons(items: &[Value]) -> u64 {
    let all: u64 = items.iter().map(cost).sum();
    let count = items.len() as u64;
    if count > COMPARED_MAX && items.iter().all(hashes_well) {
        all.saturating_mul(UNITS_OF_HASH)
    } else {
        all.saturating_mul(count) / 2
    }
}

/// Whether only somebody who knows the hash finds another value with the same: the hash of a list within a list is as
/// if its items stood in the outer one, and that of a large number is a rounded one's.
fn hashes_well(value: &Value) -> bool {
    const EXACT_MAX: u64 = 1 << 53;
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number <= EXACT_MAX,
            (_, Some(number)) => number.unsigned_abs() <= EXACT_MAX,
            (None, None) => true,
        },
        Value::Array(items) => items.iter().all(|item| !item.is_array() && hashes_well(item)),
        Value::Object(fields) => fields.values().all(hashes_well),
    }
}
