//! Builds the value and its places from a reader's events, and counts what it costs.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::scalar::{self, Core, Style};
use super::{Children, DEPTH_MAX, NODES_MAX, Node, POINTER_BYTES_MAX, SCALAR_BYTES_MAX, Span};
use crate::diagnostic::{Code, code};

/// At most so many faults of one text are kept.
const FAULTS_MAX: usize = 50;
/// What helps where a key is none.
const IN_QUOTES: &str = "write it in quotes";

/// A fault found while reading.
pub(super) struct Fault {
    pub(super) code: Code,
    pub(super) span: Span,
    pub(super) message: String,
    pub(super) help: Option<&'static str>,
}

/// Reading ends here; why is in the builder.
pub(super) struct Stop;

pub(super) struct Builder {
    stack: Vec<Frame>,
    anchors: HashMap<usize, Anchor>,
    open_anchors: Vec<usize>,
    root: Option<(Value, Node)>,
    faults: Vec<Fault>,
    spent: Cost,
    stopped_by_syntax: bool,
}

struct Anchor {
    value: Value,
    node: Node,
    cost: Cost,
    depth: usize,
}

/// What a value costs to hold.
#[derive(Clone, Copy, Default)]
struct Cost {
    nodes: usize,
    scalar_bytes: usize,
    pointer_bytes: usize,
}

struct Frame {
    content: Content,
    span: Span,
    anchor: usize,
    pointer_length: usize,
}

enum Content {
    List(Vec<Value>, Vec<Node>),
    Mapping { map: Map<String, Value>, nodes: BTreeMap<String, Node>, key: Option<Key> },
}

/// The key whose value comes next.
struct Key {
    /// None: the key was refused, its value is dropped.
    name: Option<String>,
    span: Span,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            stack: Vec::new(),
            anchors: HashMap::new(),
            open_anchors: Vec::new(),
            root: None,
            faults: Vec::new(),
            spent: Cost::default(),
            stopped_by_syntax: false,
        }
    }

    pub(super) fn finish(self) -> (Option<(Value, Node)>, Vec<Fault>) {
        (self.root, self.faults)
    }

    pub(super) fn stopped_by_syntax(&self) -> bool {
        self.stopped_by_syntax
    }

    pub(super) fn has_root(&self) -> bool {
        self.root.is_some()
    }

    /// Notes a syntax error and ends the reading.
    pub(super) fn syntax(&mut self, span: Span, message: String, help: Option<&'static str>) -> Stop {
        self.stopped_by_syntax = true;
        self.root = None;
        self.faults.push(Fault { code: code::YAML_INVALID, span, message, help });
        Stop
    }

    fn fault(&mut self, code: Code, span: Span, message: String, help: Option<&'static str>) -> Result<(), Stop> {
        self.faults.push(Fault { code, span, message, help });
        if self.faults.len() >= FAULTS_MAX { Err(Stop) } else { Ok(()) }
    }

    fn too_large(&mut self, span: Span, message: String, help: Option<&'static str>) -> Stop {
        self.root = None;
        self.faults.push(Fault { code: code::DEFINITION_TOO_LARGE, span, message, help });
        Stop
    }

    fn spend(&mut self, span: Span, cost: Cost) -> Result<(), Stop> {
        self.spent.nodes = self.spent.nodes.saturating_add(cost.nodes);
        self.spent.scalar_bytes = self.spent.scalar_bytes.saturating_add(cost.scalar_bytes);
        self.spent.pointer_bytes = self.spent.pointer_bytes.saturating_add(cost.pointer_bytes);
        let help = Some("split the workflow, or use fewer aliases (`*name`)");
        if self.spent.nodes > NODES_MAX {
            return Err(self.too_large(
                span,
                format!("with its aliases expanded the definition has more than {NODES_MAX} values"),
                help,
            ));
        }
        if self.spent.scalar_bytes > SCALAR_BYTES_MAX {
            let message = format!("with its aliases expanded the definition has more than {SCALAR_BYTES_MAX} bytes");
            return Err(self.too_large(span, message, help));
        }
        if self.spent.pointer_bytes > POINTER_BYTES_MAX {
            return Err(self.too_large(
                span,
                "too many values stand under long keys".to_owned(),
                Some("use shorter keys"),
            ));
        }
        Ok(())
    }

    fn pointer_length_of_next(&self) -> usize {
        self.stack.last().map_or(0, |frame| {
            frame.pointer_length
                + match &frame.content {
                    Content::List(items, _) => 2 + items.len().checked_ilog10().unwrap_or(0) as usize,
                    Content::Mapping { key, .. } => {
                        1 + key.as_ref().and_then(|k| k.name.as_ref()).map_or(0, String::len)
                    }
                }
        })
    }

    /// Whether what comes next is a key of a mapping.
    fn key_comes_next(&self) -> bool {
        matches!(self.stack.last(), Some(Frame { content: Content::Mapping { key: None, .. }, .. }))
    }

    pub(super) fn scalar(
        &mut self,
        text: &str,
        style: Style,
        core: Option<Core>,
        anchor: usize,
        span: Span,
    ) -> Result<(), Stop> {
        let cost = Cost { nodes: 1, scalar_bytes: text.len(), pointer_bytes: self.pointer_length_of_next() };
        self.spend(span, cost)?;
        let is_key = self.key_comes_next();
        if is_key && style == Style::Plain && core.is_none() && text == "<<" {
            self.fault(
                code::YAML_INVALID,
                span,
                "merge keys (`<<`) are not part of YAML 1.2".to_owned(),
                Some("repeat the keys, or use an alias for the whole value"),
            )?;
            return self.take_key(None, span);
        }
        let value = match scalar::resolve(text, style, core) {
            Ok(value) => value,
            Err(problem) => {
                self.fault(code::VALUE_NOT_JSON, span, problem, Some("write it in quotes if text is meant"))?;
                Value::Null
            }
        };
        if is_key {
            return match value {
                Value::String(name) => {
                    if anchor != 0 {
                        let node = Node { span, key: None, children: Children::Scalar };
                        let value = Value::String(name.clone());
                        self.anchors.insert(anchor, Anchor { value, node, cost, depth: 0 });
                    }
                    self.take_key(Some(name), span)
                }
                other => {
                    let what = crate::value::kind_of(&other);
                    self.fault(
                        code::KEY_NOT_TEXT,
                        span,
                        format!("a key must be text, not {what}"),
                        Some("write the key in quotes"),
                    )?;
                    self.take_key(None, span)
                }
            };
        }
        self.complete(value, Node { span, key: None, children: Children::Scalar }, anchor)
    }

    fn take_key(&mut self, name: Option<String>, span: Span) -> Result<(), Stop> {
        let mut duplicate = None;
        if let Some(Frame { content: Content::Mapping { map, key, .. }, .. }) = self.stack.last_mut() {
            duplicate = name.clone().filter(|name| map.contains_key(name));
            *key = Some(Key { name, span });
        }
        match duplicate {
            Some(name) => self.fault(
                code::DUPLICATE_KEY,
                span,
                format!("the key `{name}` stands twice in this mapping"),
                Some("keep one of them"),
            ),
            None => Ok(()),
        }
    }

    pub(super) fn start(&mut self, list: bool, anchor: usize, span: Span) -> Result<(), Stop> {
        if self.stack.len() >= DEPTH_MAX {
            return Err(self.too_large(span, format!("lists and mappings nest deeper than {DEPTH_MAX} levels"), None));
        }
        let pointer_length = self.pointer_length_of_next();
        self.spend(span, Cost { nodes: 1, scalar_bytes: 0, pointer_bytes: pointer_length })?;
        if self.key_comes_next() {
            self.fault(
                code::KEY_NOT_TEXT,
                span,
                "a key must be text, not a list or mapping".to_owned(),
                Some(IN_QUOTES),
            )?;
        }
        if anchor != 0 {
            self.open_anchors.push(anchor);
        }
        let content = if list {
            Content::List(Vec::new(), Vec::new())
        } else {
            Content::Mapping { map: Map::new(), nodes: BTreeMap::new(), key: None }
        };
        self.stack.push(Frame { content, span, anchor, pointer_length });
        Ok(())
    }

    pub(super) fn end(&mut self, end: Span) -> Result<(), Stop> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        if frame.anchor != 0 {
            self.open_anchors.retain(|&open| open != frame.anchor);
        }
        let span = Span { end_line: end.end_line, end_column: end.end_column, ..frame.span };
        let (value, children) = match frame.content {
            Content::List(items, nodes) => (Value::Array(items), Children::Items(nodes)),
            Content::Mapping { map, nodes, .. } => (Value::Object(map), Children::Fields(nodes)),
        };
        if self.key_comes_next() {
            return self.take_key(None, span);
        }
        self.complete(value, Node { span, key: None, children }, frame.anchor)
    }

    pub(super) fn alias(&mut self, anchor: usize, span: Span) -> Result<(), Stop> {
        if self.open_anchors.contains(&anchor) {
            self.root = None;
            self.fault(
                code::YAML_INVALID,
                span,
                "this alias stands inside what it names".to_owned(),
                Some("write the value out"),
            )?;
            return Err(Stop);
        }
        let Some(found) = self.anchors.get(&anchor) else {
            return Err(self.syntax(
                span,
                "this alias names nothing".to_owned(),
                Some("write `&NAME` at the value that is meant"),
            ));
        };
        let prefix = self.pointer_length_of_next();
        let cost = Cost { pointer_bytes: found.cost.pointer_bytes + found.cost.nodes * prefix, ..found.cost };
        if self.stack.len() + found.depth > DEPTH_MAX {
            return Err(self.too_large(span, format!("lists and mappings nest deeper than {DEPTH_MAX} levels"), None));
        }
        self.spend(span, cost)?;
        let Some(Anchor { value, node, .. }) = self.anchors.get(&anchor) else { return Err(Stop) };
        let (value, node) = (value.clone(), Node { span, ..node.clone() });
        if self.key_comes_next() {
            let name = value.as_str().map(str::to_owned);
            if name.is_none() {
                self.fault(code::KEY_NOT_TEXT, span, "a key must be text".to_owned(), Some(IN_QUOTES))?;
            }
            return self.take_key(name, span);
        }
        self.complete(value, node, 0)
    }

    fn complete(&mut self, value: Value, mut node: Node, anchor: usize) -> Result<(), Stop> {
        if anchor != 0 {
            let (cost, depth) = measure(&value, 0);
            // Kept a second time, so paid a second time.
            self.spend(node.span, cost)?;
            self.anchors.insert(anchor, Anchor { value: value.clone(), node: node.clone(), cost, depth });
        }
        match self.stack.last_mut().map(|frame| &mut frame.content) {
            None => self.root = Some((value, node)),
            Some(Content::List(items, nodes)) => {
                items.push(value);
                nodes.push(node);
            }
            Some(Content::Mapping { map, nodes, key }) => {
                if let Some(Key { name: Some(name), span }) = key.take() {
                    node.key = Some(span);
                    map.insert(name.clone(), value);
                    nodes.insert(name, node);
                }
            }
        }
        Ok(())
    }
}

/// The cost of a value whose pointer is empty, and its depth. Recurses at most [`DEPTH_MAX`] levels.
fn measure(value: &Value, prefix: usize) -> (Cost, usize) {
    let mut cost = Cost { nodes: 1, scalar_bytes: 0, pointer_bytes: prefix };
    let mut depth = usize::from(value.is_array() || value.is_object());
    let mut add = |(child, below): (Cost, usize), name_bytes: usize| {
        cost.nodes += child.nodes;
        cost.scalar_bytes += child.scalar_bytes + name_bytes;
        cost.pointer_bytes += child.pointer_bytes;
        depth = depth.max(below + 1);
    };
    match value {
        Value::Array(items) => items.iter().for_each(|item| add(measure(item, prefix + 4), 0)),
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| add(measure(field, prefix + 1 + name.len()), name.len()));
        }
        Value::String(text) => cost.scalar_bytes = text.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    (cost, depth)
}
