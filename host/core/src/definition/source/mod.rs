//! The text of a definition as a JSON value of which every part knows its place.
//!
//! YAML is read from the scanner's events and JSON from its own characters; neither recurses, so the depth of a text
//! costs no stack before it is refused. Everything that a text can make grow has a limit here.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use crate::diagnostic::{Diagnostic, Place, code};
use crate::{encoding, pointer, value};

mod build;
mod json;
mod scalar;
mod yaml;

/// The longest text, in bytes.
pub const BYTES_MAX: usize = 1 << 20;
/// The deepest nesting of lists and mappings: what a definition says becomes values.
pub const DEPTH_MAX: usize = value::DEPTH_MAX as usize;
/// The most values and keys, after aliases are expanded.
pub const NODES_MAX: usize = 300_000;
/// The most bytes in scalars and keys, after aliases are expanded.
pub const SCALAR_BYTES_MAX: usize = 4 << 20;
/// The sum of the lengths of all JSON pointers: long keys above many values would otherwise multiply.
pub const POINTER_BYTES_MAX: usize = 64 << 20;
/// Lines longer than this are not shown in diagnostics.
pub const SHOWN_LINE_CHARS_MAX: usize = 1000;

/// A text that was read, or as much of it as could be.
#[derive(Debug, Clone)]
pub struct Source {
    /// As the caller named it.
    pub file: String,
    /// The text as given.
    pub text: String,
    /// Its value; `null` when nothing could be read.
    pub value: Value,
    lines: Vec<(usize, usize)>,
    root: Option<Node>,
}

/// Where a scalar, list or mapping stands: lines and columns from 0, columns in characters, the end excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) end_line: usize,
    pub(crate) end_column: usize,
}

impl Span {
    fn point(line: usize, column: usize) -> Self {
        Self { line, column, end_line: line, end_column: column + 1 }
    }

    fn one_line(&self) -> bool {
        self.line == self.end_line
    }
}

/// The places of one value; the tree has the shape of the value.
#[derive(Debug, Clone)]
struct Node {
    span: Span,
    key: Option<Span>,
    children: Children,
}

#[derive(Debug, Clone)]
enum Children {
    Scalar,
    Items(Vec<Node>),
    Fields(BTreeMap<String, Node>),
}

impl Source {
    /// Reads `text`. The diagnostics are all errors; when there are some, `value` is what could still be understood.
    #[must_use]
    pub fn read(file: &str, text: &str) -> (Self, Vec<Diagnostic>) {
        let mut source = Self {
            file: file.to_owned(),
            text: text.to_owned(),
            value: Value::Null,
            lines: lines_of(text),
            root: None,
        };
        if text.len() > BYTES_MAX {
            // Not even kept: the caller may hold many of these.
            source.text = String::new();
            source.lines = Vec::new();
            let message = format!("the definition has {} bytes; at most {BYTES_MAX} are read", text.len());
            return (source, vec![Diagnostic::error(code::DEFINITION_TOO_LARGE, message)]);
        }
        if let Some(span) = source.first_forbidden_character() {
            let found = source.character_at(span).map_or(0, |c| c as u32);
            let message = format!("the control character U+{found:04X} is not allowed in a definition");
            let diagnostic = source.fault(code::YAML_INVALID, span, message);
            return (source, vec![diagnostic]);
        }
        // Every line break is one line feed to the readers, so that their columns and ours agree.
        let body = text.strip_prefix('\u{feff}').unwrap_or(text);
        let body: Cow<'_, str> =
            if body.contains('\r') { body.replace("\r\n", "\n").replace('\r', "\n").into() } else { body.into() };
        let (built, faults) = Self::build(file, &body);
        if let Some((value, root)) = built {
            source.value = value;
            source.root = Some(root);
        }
        let diagnostics = faults
            .into_iter()
            .map(|fault| {
                let mut diagnostic = source.fault(fault.code, fault.span, fault.message);
                if let Some(help) = fault.help {
                    diagnostic = diagnostic.with_help(help);
                }
                diagnostic
            })
            .collect();
        (source, diagnostics)
    }

    fn build(file: &str, body: &str) -> (Option<(Value, Node)>, Vec<build::Fault>) {
        let named_json = std::path::Path::new(file).extension().is_some_and(|e| e.eq_ignore_ascii_case("json"));
        let looks_like_json = body.trim_start().starts_with('{');
        if named_json || looks_like_json {
            let mut builder = build::Builder::new();
            let read = json::read(body, &mut builder);
            // `{a: b}` is YAML too: only a file that calls itself JSON gets JSON's syntax errors.
            if read.is_ok() || named_json || !builder.stopped_by_syntax() {
                return builder.finish();
            }
        }
        let mut builder = build::Builder::new();
        // An error is in the builder already.
        let _ = yaml::read(body, &mut builder);
        builder.finish()
    }

    /// The bytes of a file as text, without the mark that some systems put before it.
    ///
    /// # Errors
    /// When they are not UTF-8: a diagnostic with the line and column of the first byte that is not.
    pub fn decode<'b>(file: &str, bytes: &'b [u8]) -> Result<&'b str, Box<Diagnostic>> {
        encoding::text(bytes).map_err(|why| {
            let (at, message) = match why {
                encoding::Error::Invalid { at, .. } => (at, format!("the file is not UTF-8 text: {why}")),
                encoding::Error::Other(_) => (0, format!("the file cannot be read: {why}")),
            };
            let valid = std::str::from_utf8(&bytes[..at.min(BYTES_MAX)]).unwrap_or_default();
            let lines = lines_of(valid);
            let (start, end) = lines.last().copied().unwrap_or((0, 0));
            let mut diagnostic = Diagnostic::error(code::YAML_INVALID, message);
            diagnostic.place = Some(Place {
                file: file.to_owned(),
                line: number(lines.len().max(1)),
                column: number(valid[start..end].chars().count() + 1),
                length: 1,
                text: String::new(),
            });
            Box::new(diagnostic)
        })
    }

    /// Where the value at `pointer` stands; none when there is no such value.
    ///
    /// A scalar is marked whole, as is a list or mapping written on one line. A longer one is marked by its key,
    /// or by its first key, since marking a block of lines marks nothing.
    #[must_use]
    pub fn place(&self, pointer: &str) -> Option<Place> {
        let node = self.node(pointer)?;
        Some(self.place_of(node.telling_span()))
    }

    /// Where the key of the value at `pointer` stands; for a list's item, the item.
    #[must_use]
    pub fn key_place(&self, pointer: &str) -> Option<Place> {
        let node = self.node(pointer)?;
        Some(self.place_of(node.key.unwrap_or_else(|| node.telling_span())))
    }

    /// [`Self::place`] of the value at `pointer`, or of the nearest value around it.
    #[must_use]
    pub fn nearest_place(&self, pointer: &str) -> Option<Place> {
        let mut rest = pointer;
        loop {
            if let Some(place) = self.place(rest) {
                return Some(place);
            }
            rest = &rest[..rest.rfind('/')?];
        }
    }

    /// Where byte `offset` of `program` stands, for `length` characters, when the program stands as it is in the
    /// scalar at `pointer`: in one line, or line by line in a literal block. Else the whole scalar's place.
    #[must_use]
    pub fn place_in(&self, pointer: &str, program: &str, offset: usize, length: usize) -> Option<Place> {
        let node = self.node(pointer)?;
        Some(
            self.place_inside(node.span, program, offset, length).unwrap_or_else(|| self.place_of(node.telling_span())),
        )
    }

    fn place_inside(&self, span: Span, program: &str, offset: usize, length: usize) -> Option<Place> {
        let before = program.get(..offset.min(program.len()))?;
        let wanted: Vec<&str> = program.split('\n').map(str::trim).collect();
        let line_in_program = before.matches('\n').count();
        let column_in_line = before.rsplit('\n').next().unwrap_or_default().chars().count();
        let indent =
            program.split('\n').nth(line_in_program).map_or(0, |l| l.chars().count() - l.trim_start().chars().count());
        let last = span.end_line.min(self.lines.len().saturating_sub(1));
        for first in span.line..=last {
            // The first line has the scalar's column before it, a key perhaps: look only from there on.
            let cut = |at: usize| {
                let line = self.line(at);
                let skip = if at == span.line { byte_of(line, span.column) } else { 0 };
                (&line[skip..], line[..skip].chars().count())
            };
            let matches =
                wanted.iter().enumerate().all(|(i, text)| first + i <= last && cut(first + i).0.contains(text));
            if matches {
                let (rest, skipped) = cut(first + line_in_program);
                let found = rest.find(wanted[line_in_program])?;
                let start = skipped + rest[..found].chars().count();
                let column = start + column_in_line.saturating_sub(indent);
                let line = first + line_in_program;
                return Some(self.place_of(Span { line, column, end_line: line, end_column: column + length.max(1) }));
            }
        }
        None
    }

    /// A diagnostic at `span`.
    pub(crate) fn fault(&self, code: crate::diagnostic::Code, span: Span, message: String) -> Diagnostic {
        let mut diagnostic = Diagnostic::error(code, message);
        diagnostic.place = Some(self.place_of(span));
        diagnostic
    }

    fn node(&self, pointer: &str) -> Option<&Node> {
        let mut node = self.root.as_ref()?;
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return None;
        }
        for segment in pointer::keys(pointer) {
            node = match &node.children {
                Children::Scalar => return None,
                Children::Items(items) => items.get(segment.parse::<usize>().ok()?)?,
                Children::Fields(fields) => fields.get(&*segment)?,
            };
        }
        Some(node)
    }

    fn place_of(&self, span: Span) -> Place {
        let line = self.line(span.line);
        let shown = line.trim_end();
        let width = shown.chars().count();
        let end = if span.one_line() { span.end_column.min(width.max(span.column)) } else { width };
        // What is marked ends with its last visible character.
        let marked: String = shown.chars().skip(span.column).take(end.saturating_sub(span.column)).collect();
        Place {
            file: self.file.clone(),
            line: number(span.line + 1),
            column: number(span.column + 1),
            length: number(marked.trim_end().chars().count().max(1)),
            text: if width <= SHOWN_LINE_CHARS_MAX { shown.to_owned() } else { String::new() },
        }
    }

    fn line(&self, index: usize) -> &str {
        self.lines.get(index).and_then(|&(start, end)| self.text.get(start..end)).unwrap_or_default()
    }

    fn character_at(&self, span: Span) -> Option<char> {
        self.line(span.line).chars().nth(span.column)
    }

    fn first_forbidden_character(&self) -> Option<Span> {
        let forbidden =
            |c: char| (c.is_control() && c != '\t' && c != '\u{85}') || matches!(c, '\u{fffe}' | '\u{ffff}');
        if !self.text.contains(|c: char| forbidden(c) && c != '\n' && c != '\r') {
            return None;
        }
        (0..self.lines.len())
            .find_map(|line| self.line(line).chars().position(forbidden).map(|column| Span::point(line, column)))
    }
}

impl Node {
    fn telling_span(&self) -> Span {
        match &self.children {
            Children::Scalar => self.span,
            _ if self.span.one_line() => self.span,
            children => self.key.unwrap_or_else(|| match children {
                Children::Fields(fields) => fields
                    .values()
                    .filter_map(|n| n.key)
                    .min_by_key(|k| (k.line, k.column))
                    .unwrap_or_else(|| Span::point(self.span.line, self.span.column)),
                _ => Span::point(self.span.line, self.span.column),
            }),
        }
    }
}

/// The byte ranges of the lines, without line ends and byte order mark.
fn lines_of(text: &str) -> Vec<(usize, usize)> {
    let bytes = text.as_bytes();
    let mut lines = Vec::new();
    let mut start = if text.starts_with('\u{feff}') { 3 } else { 0 };
    let mut at = start;
    while at < bytes.len() {
        let next = match bytes[at] {
            b'\r' if bytes.get(at + 1) == Some(&b'\n') => at + 2,
            b'\r' | b'\n' => at + 1,
            _ => {
                at += 1;
                continue;
            }
        };
        lines.push((start, at));
        start = next;
        at = next;
    }
    lines.push((start, bytes.len()));
    lines
}

fn byte_of(line: &str, column: usize) -> usize {
    line.char_indices().nth(column).map_or(line.len(), |(at, _)| at)
}

/// Lines and columns are below [`BYTES_MAX`].
fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
