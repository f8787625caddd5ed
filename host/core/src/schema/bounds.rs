//! What a schema may cost, found before it is compiled.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{
    BYTES_MAX, DEPTH_MAX, DIALECT, Fault, PATTERN_BYTES_MAX, PATTERNS_MAX, STEPS_AT_ONE_PLACE_MAX, SUBSCHEMAS_MAX,
    depth,
};
use crate::definition::source::escape_pointer;

/// Keywords with one subschema, with a list of them, with a mapping of them.
const SINGLE: [&str; 11] = [
    "additionalProperties",
    "propertyNames",
    "items",
    "contains",
    "not",
    "if",
    "then",
    "else",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contentSchema",
];
const LISTS: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
const MAPPINGS: [&str; 5] = ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];
/// Keywords whose subschemas look at the same place of the instance.
const IN_PLACE: [&str; 8] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"];
/// Keywords that another vocabulary or an indirection would need.
const REFUSED: [&str; 5] = ["$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$vocabulary"];

#[derive(Default)]
struct Node {
    /// Subschemas that look at the same place.
    in_place: Vec<usize>,
    /// Groups of subschemas that look at children; of one group at most one looks at each child.
    groups: Vec<Vec<usize>>,
    /// Whether what was evaluated has to be found out a second time.
    twice: bool,
    reference: Option<String>,
    pointer: String,
}

#[derive(Default)]
struct Graph {
    nodes: Vec<Node>,
    by_pointer: HashMap<String, usize>,
    anchors: HashMap<String, usize>,
    faults: Vec<Fault>,
    patterns: usize,
}

/// What limits the instances of a schema.
pub(super) struct Bounds {
    /// How often the schema can look at one child of one place; 1 unless it is recursive.
    pub(super) branching: u64,
    /// The longest chain of subschemas that look at one place: each link takes stack.
    pub(super) chain: u64,
}

/// The bounds of `schema`, or why it is refused.
pub(super) fn check(schema: &Value) -> Result<Bounds, Vec<Fault>> {
    let fault = |message: String| vec![Fault { pointer: String::new(), message }];
    if depth(schema) > DEPTH_MAX {
        return Err(fault(format!("the schema nests deeper than {DEPTH_MAX} levels")));
    }
    if serde_json::to_string(schema).map_or(usize::MAX, |s| s.len()) > BYTES_MAX {
        return Err(fault(format!("the schema is longer than {BYTES_MAX} bytes")));
    }
    let mut graph = Graph::default();
    graph.add(schema, "");
    if graph.nodes.len() > SUBSCHEMAS_MAX {
        return Err(fault(format!("the schema has more than {SUBSCHEMAS_MAX} subschemas")));
    }
    graph.resolve();
    if !graph.faults.is_empty() {
        return Err(graph.faults);
    }
    let chain = graph.check_steps();
    if graph.faults.is_empty() { Ok(Bounds { branching: graph.branching(), chain }) } else { Err(graph.faults) }
}

impl Graph {
    fn fault(&mut self, pointer: &str, message: impl Into<String>) {
        // As many as a person reads.
        if self.faults.len() < super::FAULTS_MAX {
            self.faults.push(Fault { pointer: pointer.to_owned(), message: message.into() });
        }
    }

    /// Adds the schema at `pointer` and all below; at most [`DEPTH_MAX`] levels.
    fn add(&mut self, schema: &Value, pointer: &str) -> usize {
        let index = self.nodes.len();
        self.nodes.push(Node { pointer: pointer.to_owned(), ..Node::default() });
        if index > SUBSCHEMAS_MAX {
            return index;
        }
        self.by_pointer.insert(pointer.to_owned(), index);
        let Value::Object(map) = schema else {
            if !schema.is_boolean() {
                self.fault(pointer, "a schema is an object, `true` or `false`");
            }
            return index;
        };
        for keyword in REFUSED {
            if map.contains_key(keyword) {
                self.fault(&format!("{pointer}/{keyword}"), format!("`{keyword}` is not supported"));
            }
        }
        if let Some(dialect) = map.get("$schema")
            && dialect.as_str().is_none_or(|d| d.trim_end_matches('#') != DIALECT)
        {
            self.fault(&format!("{pointer}/$schema"), format!("the only dialect is {DIALECT}"));
        }
        if index > 0 && map.contains_key("$id") {
            self.fault(&format!("{pointer}/$id"), "`$id` can only stand at the top");
        }
        if let Some(Value::String(anchor)) = map.get("$anchor")
            && self.anchors.insert(anchor.clone(), index).is_some()
        {
            self.fault(&format!("{pointer}/$anchor"), format!("the anchor `{anchor}` stands twice"));
        }
        self.nodes[index].reference = map.get("$ref").and_then(Value::as_str).map(str::to_owned);
        self.nodes[index].twice = map.contains_key("unevaluatedProperties") || map.contains_key("unevaluatedItems");
        if let Some(Value::String(pattern)) = map.get("pattern") {
            self.pattern(&format!("{pointer}/pattern"), pattern);
        }
        let mut found: HashMap<&'static str, Vec<usize>> = HashMap::new();
        for keyword in SINGLE {
            if let Some(child) = map.get(keyword) {
                let child = self.add(child, &format!("{pointer}/{keyword}"));
                found.entry(keyword).or_default().push(child);
            }
        }
        for keyword in LISTS {
            for (i, child) in map.get(keyword).and_then(Value::as_array).into_iter().flatten().enumerate() {
                let child = self.add(child, &format!("{pointer}/{keyword}/{i}"));
                found.entry(keyword).or_default().push(child);
            }
        }
        for keyword in MAPPINGS {
            for (name, child) in map.get(keyword).and_then(Value::as_object).into_iter().flatten() {
                let at = format!("{pointer}/{keyword}/{}", escape_pointer(name));
                if keyword == "patternProperties" {
                    self.pattern(&at, name);
                }
                let child = self.add(child, &at);
                found.entry(keyword).or_default().push(child);
            }
        }
        let mut take = |keywords: &[&'static str]| -> Vec<usize> {
            keywords.iter().flat_map(|keyword| found.remove(keyword).unwrap_or_default()).collect()
        };
        let in_place = take(&IN_PLACE);
        let mut groups = vec![
            take(&["properties", "additionalProperties", "unevaluatedProperties"]),
            take(&["items", "prefixItems", "unevaluatedItems"]),
        ];
        groups.extend(take(&["patternProperties", "contains"]).into_iter().map(|one| vec![one]));
        self.nodes[index].in_place = in_place;
        self.nodes[index].groups = groups;
        index
    }

    fn pattern(&mut self, pointer: &str, pattern: &str) {
        self.patterns += 1;
        if self.patterns == PATTERNS_MAX + 1 {
            self.fault(pointer, format!("the schema has more than {PATTERNS_MAX} patterns"));
        }
        if pattern.len() > PATTERN_BYTES_MAX {
            self.fault(pointer, format!("the pattern is longer than {PATTERN_BYTES_MAX} bytes"));
        } else if self.patterns <= PATTERNS_MAX && !super::is_pattern(pattern) {
            self.fault(pointer, format!("the pattern is {}", super::violation::NOT_A_PATTERN));
        }
    }

    /// Turns references into edges.
    fn resolve(&mut self) {
        for index in 0..self.nodes.len() {
            let Some(reference) = self.nodes[index].reference.take() else { continue };
            let at = format!("{}/$ref", self.nodes[index].pointer);
            let Some(fragment) = reference.strip_prefix('#') else {
                self.fault(&at, "references outside the schema are not followed: write `#/$defs/NAME`");
                continue;
            };
            let target = if fragment.is_empty() || fragment.starts_with('/') {
                self.by_pointer.get(&percent_decoded(fragment)).copied()
            } else {
                self.anchors.get(fragment).copied()
            };
            match target {
                Some(target) => self.nodes[index].in_place.push(target),
                None => self.fault(&at, "the reference points at no schema"),
            }
        }
    }

    /// Refuses schemas that look at one place without end, or too often. The longest chain of such looks.
    fn check_steps(&mut self) -> u64 {
        #[derive(Clone, Copy)]
        enum Seen {
            No,
            Open,
            Done(Cost),
        }
        #[derive(Clone, Copy)]
        struct Cost {
            steps: u64,
            chain: u64,
        }
        let leaf = Cost { steps: 1, chain: 1 };
        let add = |cost: Cost, below: Cost| Cost {
            steps: cost.steps.saturating_add(below.steps),
            chain: cost.chain.max(below.chain + 1),
        };
        let mut seen = vec![Seen::No; self.nodes.len()];
        let mut longest = 1;
        for start in 0..self.nodes.len() {
            if !matches!(seen[start], Seen::No) {
                continue;
            }
            seen[start] = Seen::Open;
            // (node, its next edge, the cost so far)
            let mut stack = vec![(start, 0_usize, leaf)];
            while let Some((node, edge, cost)) = stack.pop() {
                let Some(&target) = self.nodes[node].in_place.get(edge) else {
                    seen[node] = Seen::Done(cost);
                    longest = longest.max(cost.chain);
                    if cost.steps > STEPS_AT_ONE_PLACE_MAX {
                        let pointer = self.nodes[node].pointer.clone();
                        let most = STEPS_AT_ONE_PLACE_MAX;
                        self.fault(&pointer, format!("one value would be compared with more than {most} subschemas"));
                        return longest;
                    }
                    if let Some(parent) = stack.last_mut() {
                        parent.2 = add(parent.2, cost);
                    }
                    continue;
                };
                match seen[target] {
                    Seen::Done(below) => stack.push((node, edge + 1, add(cost, below))),
                    Seen::Open => {
                        let pointer = self.nodes[node].pointer.clone();
                        self.fault(&pointer, "the schema refers to itself without looking any deeper");
                        return longest;
                    }
                    Seen::No => {
                        seen[target] = Seen::Open;
                        stack.push((node, edge + 1, cost));
                        stack.push((target, 0, leaf));
                    }
                }
            }
        }
        longest
    }

    fn edges(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        let node = &self.nodes[node];
        node.in_place.iter().copied().chain(node.groups.iter().flatten().copied())
    }

    /// For the recursive parts of the schema: how often one child of a place can be looked at.
    fn branching(&self) -> u64 {
        let mut backward: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for node in 0..self.nodes.len() {
            for target in self.edges(node) {
                backward[target].push(node);
            }
        }
        let mut most = 1;
        let mut done: HashSet<usize> = HashSet::new();
        for start in 0..self.nodes.len() {
            if done.contains(&start) || backward[start].len() < 2 && start != 0 {
                // Only what a reference points at, besides its parent, can be reached from itself.
                continue;
            }
            let forth = reach(start, |node| self.edges(node).collect());
            let back = reach(start, |node| backward[node].clone());
            let component: HashSet<usize> = forth.intersection(&back).copied().collect();
            if component.len() < 2 && !self.edges(start).any(|target| target == start) {
                continue;
            }
            let mut memo = HashMap::new();
            for &node in &component {
                most = most.max(self.looks(node, &component, &mut memo));
            }
            done.extend(component);
        }
        most
    }

    /// In-place edges make no cycle (see `check_steps`), so this ends.
    fn looks(&self, node: usize, component: &HashSet<usize>, memo: &mut HashMap<usize, u64>) -> u64 {
        if let Some(&known) = memo.get(&node) {
            return known;
        }
        let here = self.nodes[node].groups.iter().filter(|g| g.iter().any(|t| component.contains(t))).count() as u64;
        let mut sum = here;
        for &target in self.nodes[node].in_place.iter().filter(|t| component.contains(t)) {
            sum = sum.saturating_add(self.looks(target, component, memo));
        }
        let sum = if self.nodes[node].twice { sum.saturating_mul(2) } else { sum };
        memo.insert(node, sum);
        sum
    }
}

fn reach(start: usize, edges: impl Fn(usize) -> Vec<usize>) -> HashSet<usize> {
    let mut reached = HashSet::from([start]);
    let mut open = vec![start];
    while let Some(node) = open.pop() {
        open.extend(edges(node).into_iter().filter(|target| reached.insert(*target)));
    }
    reached
}

fn percent_decoded(fragment: &str) -> String {
    if !fragment.contains('%') {
        return fragment.to_owned();
    }
    let bytes = fragment.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()).filter(|_| bytes[at] == b'%') {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
