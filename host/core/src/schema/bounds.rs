//! What a schema may cost, found before it is compiled.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::node::{Node, Own};
use super::pattern::Pattern;
use super::{
    BYTES_MAX, DEPTH_MAX, DIALECT, Fault, PATTERN_BYTES_MAX, PATTERN_MEMORY_TOGETHER_MAX, PATTERNS_MAX, PLACES_MAX,
    POINTERS_BYTES_MAX, STEPS_AT_ONE_PLACE_MAX, STEPS_OF_UNEVALUATED_MAX, SUBSCHEMAS_MAX,
};
use crate::pointer;
use crate::value::{depth, size};

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
/// After so many patterns with a large automaton it is not tried to build another.
const LARGE_PATTERNS_TRIED: usize = 10;
/// Keywords that another vocabulary or an indirection would need, and one of earlier dialects that the library takes all
/// the same: what is not counted here must not be compared with.
const REFUSED: [&str; 6] =
    ["$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$vocabulary", "dependencies"];

#[derive(Default)]
struct Graph {
    nodes: Vec<Node>,
    by_pointer: HashMap<String, usize>,
    anchors: HashMap<String, usize>,
    faults: Vec<Fault>,
    patterns: usize,
    /// What they take, in bytes.
    pattern_memory: usize,
    /// Those whose automaton is too large to be built: to find that out takes longest.
    large_patterns: usize,
    /// The length of the pointers to all keywords so far.
    pointer_bytes: usize,
}

/// What is known of a schema before it is compiled.
#[derive(Debug)]
pub(super) struct Bounds {
    /// Its subschemas, the whole one first.
    pub(super) nodes: Vec<Node>,
    /// How many patterns these have.
    pub(super) patterns: usize,
    /// The longest chain of subschemas that look at one place: each link takes stack.
    pub(super) chain: u64,
}

/// The bounds of `schema`, or why it is refused.
pub(super) fn check(schema: &Value) -> Result<Bounds, Vec<Fault>> {
    let fault = |message: String| vec![Fault::invalid("", message, "describe less of the value")];
    let levels = depth(schema);
    if levels > DEPTH_MAX {
        return Err(fault(format!("the schema nests {levels} levels deep, and may nest {DEPTH_MAX}")));
    }
    let bytes = size(schema).bytes;
    if bytes > BYTES_MAX as u64 {
        return Err(fault(format!("the schema has {bytes} bytes as JSON, and may have {BYTES_MAX}")));
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
    if graph.faults.is_empty() {
        graph.check_places();
    }
    if graph.faults.is_empty() {
        Ok(Bounds { nodes: graph.nodes, patterns: graph.patterns, chain })
    } else {
        Err(graph.faults)
    }
}

/// How far a walk over the graph has come with a node.
#[derive(Clone, Copy)]
enum Seen<T> {
    No,
    Open,
    Done(T),
}

impl Graph {
    fn fault(&mut self, pointer: &str, message: impl Into<String>, fix: &'static str) {
        self.push(Fault::invalid(pointer, message, fix));
    }

    fn push(&mut self, fault: Fault) {
        // As many as a person reads.
        if self.faults.len() < super::FAULTS_MAX {
            self.faults.push(fault);
        }
    }

    /// Adds the schema at `pointer` and all below; at most [`DEPTH_MAX`] levels.
    fn add(&mut self, schema: &Value, pointer: &str) -> usize {
        let index = self.nodes.len();
        if self.pointer_bytes > POINTERS_BYTES_MAX {
            return index;
        }
        self.nodes.push(Node { pointer: pointer.to_owned(), ..Node::default() });
        if index > SUBSCHEMAS_MAX {
            return index;
        }
        self.by_pointer.insert(pointer.to_owned(), index);
        self.pointer_bytes += pointer.len() * (1 + schema.as_object().map_or(0, Map::len));
        if self.pointer_bytes > POINTERS_BYTES_MAX {
            if !self.faults.iter().any(|fault| fault.too_costly) {
                let message = format!(
                    "the names of fields down to here come to more than {POINTERS_BYTES_MAX} bytes, because each \
                     keyword below them repeats them: use shorter names, or fewer levels"
                );
                self.push(Fault::too_costly(&pointer.chars().take(200).collect::<String>(), message));
            }
            return index;
        }
        let Value::Object(map) = schema else {
            if !schema.is_boolean() {
                self.fault(pointer, "a schema is an object, `true` or `false`", "write an object with keywords");
            }
            return index;
        };
        self.keywords(map, index, pointer);
        let mut own = Own::of(map);
        if let Some(Value::String(pattern)) = map.get("pattern") {
            own.pattern = self.pattern(&format!("{pointer}/pattern"), pattern);
        }
        let mut node = Node {
            pointer: pointer.to_owned(),
            reference: map.get("$ref").and_then(Value::as_str).map(str::to_owned),
            own,
            ..Node::default()
        };
        self.single(map, &mut node);
        self.lists(map, &mut node);
        self.mappings(map, &mut node);
        self.nodes[index] = node;
        index
    }

    /// What no subschema may have, or only the whole.
    fn keywords(&mut self, map: &Map<String, Value>, index: usize, pointer: &str) {
        for keyword in REFUSED {
            if map.contains_key(keyword) {
                self.fault(&format!("{pointer}/{keyword}"), format!("`{keyword}` is not supported"), "take it out");
            }
        }
        if let Some(dialect) = map.get("$schema")
            && dialect.as_str().is_none_or(|d| d.trim_end_matches('#') != DIALECT)
        {
            self.fault(&format!("{pointer}/$schema"), format!("the only dialect is {DIALECT}"), "leave `$schema` out");
        }
        if index > 0 && map.contains_key("$id") {
            self.fault(&format!("{pointer}/$id"), "`$id` can only stand at the top", "take it out");
        }
        if let Some(Value::String(anchor)) = map.get("$anchor")
            && self.anchors.insert(anchor.clone(), index).is_some()
        {
            self.fault(
                &format!("{pointer}/$anchor"),
                format!("the anchor `{anchor}` stands twice"),
                "give each its own name",
            );
        }
    }

    fn single(&mut self, map: &Map<String, Value>, node: &mut Node) {
        for keyword in SINGLE {
            let Some(child) = map.get(keyword) else { continue };
            let child = self.add(child, &format!("{}/{keyword}", node.pointer));
            match keyword {
                "additionalProperties" => node.additional = Some(child),
                "propertyNames" => node.names = Some(child),
                "items" => node.items = Some(child),
                "contains" => node.contains = Some(child),
                "unevaluatedItems" => node.unevaluated_items = Some(child),
                "unevaluatedProperties" => node.unevaluated_properties = Some(child),
                "not" | "if" => node.asked.push(child),
                "then" | "else" => node.all.push(child),
                // `contentSchema` is not looked at by anybody.
                _ => {}
            }
        }
    }

    fn lists(&mut self, map: &Map<String, Value>, node: &mut Node) {
        for keyword in LISTS {
            for (i, child) in map.get(keyword).and_then(Value::as_array).into_iter().flatten().enumerate() {
                let child = self.add(child, &format!("{}/{keyword}/{i}", node.pointer));
                match keyword {
                    "allOf" => node.all.push(child),
                    "prefixItems" => node.prefix.push(child),
                    _ => node.tried.push(child),
                }
            }
        }
    }

    fn mappings(&mut self, map: &Map<String, Value>, node: &mut Node) {
        for keyword in MAPPINGS {
            for (name, child) in map.get(keyword).and_then(Value::as_object).into_iter().flatten() {
                let at = pointer::child(&format!("{}/{keyword}", node.pointer), name);
                let pattern = (keyword == "patternProperties").then(|| self.pattern(&at, name)).flatten();
                let child = self.add(child, &at);
                match keyword {
                    "properties" => drop(node.properties.insert(name.clone(), child)),
                    "dependentSchemas" => node.dependent.push((name.clone(), child)),
                    "patternProperties" => node.patterns.extend(pattern.map(|pattern| (pattern, child))),
                    // What stands under `$defs` is only reached by references.
                    _ => {}
                }
            }
        }
    }

    /// Reads a pattern, within the limits for all of them.
    fn pattern(&mut self, pointer: &str, pattern: &str) -> Option<Pattern> {
        let number = self.patterns;
        self.patterns += 1;
        if self.patterns == PATTERNS_MAX + 1 {
            self.fault(pointer, format!("the schema has more than {PATTERNS_MAX} patterns"), "use fewer");
        }
        if pattern.len() > PATTERN_BYTES_MAX {
            let bytes = pattern.len();
            self.fault(
                pointer,
                format!("the pattern has {bytes} bytes, and may have {PATTERN_BYTES_MAX}"),
                "shorten it",
            );
            return None;
        }
        if self.patterns > PATTERNS_MAX || self.pattern_memory > PATTERN_MEMORY_TOGETHER_MAX {
            return None;
        }
        let Some(read) = Pattern::read(pattern, number, self.large_patterns < LARGE_PATTERNS_TRIED) else {
            self.fault(
                pointer,
                format!("the pattern is {}", super::violation::NOT_A_PATTERN),
                "write it without these",
            );
            return None;
        };
        self.pattern_memory += read.memory;
        self.large_patterns += usize::from(!read.is_whole());
        if self.pattern_memory > PATTERN_MEMORY_TOGETHER_MAX {
            let message = format!(
                "the patterns up to here take {} bytes of memory, and may take {PATTERN_MEMORY_TOGETHER_MAX}: use \
                 fewer, or smaller repetitions",
                self.pattern_memory
            );
            self.push(Fault::too_costly(pointer, message));
        }
        Some(read)
    }

    /// Turns references into edges.
    fn resolve(&mut self) {
        for index in 0..self.nodes.len() {
            let Some(reference) = self.nodes[index].reference.take() else { continue };
            let at = format!("{}/$ref", self.nodes[index].pointer);
            let Some(fragment) = reference.strip_prefix('#') else {
                self.fault(&at, "references outside the schema are not followed", "write `#/$defs/NAME`");
                continue;
            };
            let target = if fragment.is_empty() || fragment.starts_with('/') {
                self.by_pointer.get(&percent_decoded(fragment)).copied()
            } else {
                self.anchors.get(fragment).copied()
            };
            match target {
                Some(target) => self.nodes[index].all.push(target),
                None => self.fault(&at, "the reference points at no schema", "declare one there, or mend it"),
            }
        }
    }

    /// Refuses schemas that look at one place without end, or too often. The longest chain of such looks.
    fn check_steps(&mut self) -> u64 {
        let edges: Vec<Vec<usize>> = self.nodes.iter().map(|node| node.in_place().collect()).collect();
        let mut seen = vec![Seen::No; edges.len()];
        let (mut longest, mut unevaluated, mut steps) = (1, 0_u64, 0);
        for start in 0..edges.len() {
            let Err(node) = walk(start, &edges, &mut seen, &mut |node, cost| {
                longest = longest.max(cost.chain);
                if self.nodes[node].marks() {
                    unevaluated = unevaluated.saturating_add(cost.steps);
                }
                steps = cost.steps;
                steps <= STEPS_AT_ONE_PLACE_MAX && unevaluated <= STEPS_OF_UNEVALUATED_MAX
            }) else {
                continue;
            };
            let pointer = self.nodes[node.at].pointer.clone();
            if node.cycle {
                self.fault(
                    &pointer,
                    "the schema refers to itself without looking any deeper",
                    "refer to it below `properties` or `items`",
                );
            } else if unevaluated > STEPS_OF_UNEVALUATED_MAX {
                let message = format!(
                    "what is left over here, and at other such places, depends on {unevaluated} subschemas, and may \
                     depend on {STEPS_OF_UNEVALUATED_MAX}: use `additionalProperties` or `items` instead"
                );
                self.push(Fault::too_costly(&pointer, message));
            } else {
                let message = format!(
                    "one value would be compared with {steps} subschemas, and may be with {STEPS_AT_ONE_PLACE_MAX}: \
                     use fewer branches"
                );
                self.push(Fault::too_costly(&pointer, message));
            }
            return longest;
        }
        longest
    }

    /// Refuses schemas that are too large with each reference replaced by what it means; where such a one comes back to
    /// itself, it is not gone into again. An instance that has everything once is compared with as many subschemas.
    fn check_places(&mut self) {
        let edges: Vec<Vec<usize>> =
            self.nodes.iter().map(|node| node.in_place().chain(node.below()).collect()).collect();
        let mut seen = vec![Seen::No; edges.len()];
        // The recursive ones are cut where they begin anew: what is left has no cycle.
        let edges = without_cycles(edges);
        let mut steps = 0;
        let refused = walk(0, &edges, &mut seen, &mut |_, cost| {
            steps = cost.steps;
            steps <= PLACES_MAX
        });
        if let Err(node) = refused {
            let pointer = self.nodes[node.at].pointer.clone();
            let message = format!(
                "a value that has each field once would be compared with {steps} subschemas, and may be with \
                 {PLACES_MAX}: use fewer branches, or fewer fields"
            );
            self.push(Fault::too_costly(&pointer, message));
        }
    }
}

/// What a node comes to with everything that its edges lead to.
#[derive(Clone, Copy)]
struct Steps {
    steps: u64,
    chain: u64,
}

/// Where a walk ended before its end.
struct Ended {
    at: usize,
    cycle: bool,
}

/// Counts from `start`, each node once; `goes_on` hears of each node that is counted. No recursion: schemas are deep.
fn walk(
    start: usize,
    edges: &[Vec<usize>],
    seen: &mut [Seen<Steps>],
    goes_on: &mut impl FnMut(usize, Steps) -> bool,
) -> Result<(), Ended> {
    let leaf = Steps { steps: 1, chain: 1 };
    let add = |cost: Steps, below: Steps| Steps {
        steps: cost.steps.saturating_add(below.steps),
        chain: cost.chain.max(below.chain + 1),
    };
    if !matches!(seen[start], Seen::No) {
        return Ok(());
    }
    seen[start] = Seen::Open;
    // (node, its next edge, the cost so far)
    let mut stack = vec![(start, 0_usize, leaf)];
    while let Some((node, edge, cost)) = stack.pop() {
        let Some(&target) = edges[node].get(edge) else {
            seen[node] = Seen::Done(cost);
            if !goes_on(node, cost) {
                return Err(Ended { at: node, cycle: false });
            }
            if let Some(parent) = stack.last_mut() {
                parent.2 = add(parent.2, cost);
            }
            continue;
        };
        match seen[target] {
            Seen::Done(below) => stack.push((node, edge + 1, add(cost, below))),
            Seen::Open => return Err(Ended { at: node, cycle: true }),
            Seen::No => {
                seen[target] = Seen::Open;
                stack.push((node, edge + 1, cost));
                stack.push((target, 0, leaf));
            }
        }
    }
    Ok(())
}

/// The edges without those that lead back to a node that is being gone through.
fn without_cycles(mut edges: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
    let mut seen = vec![Seen::No; edges.len()];
    for start in 0..edges.len() {
        if !matches!(seen[start], Seen::No) {
            continue;
        }
        seen[start] = Seen::Open;
        let mut stack = vec![(start, 0_usize)];
        while let Some((node, edge)) = stack.pop() {
            let Some(&target) = edges[node].get(edge) else {
                seen[node] = Seen::Done(());
                continue;
            };
            match seen[target] {
                Seen::Done(()) => stack.push((node, edge + 1)),
                Seen::Open => {
                    edges[node].swap_remove(edge);
                    stack.push((node, edge));
                }
                Seen::No => {
                    seen[target] = Seen::Open;
                    stack.push((node, edge + 1));
                    stack.push((target, 0));
                }
            }
        }
    }
    edges
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
