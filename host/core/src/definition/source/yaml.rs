//! YAML, by the scanner's events.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::Span;
use super::build::{Builder, Stop};
use super::scalar::{Core, Style};

pub(super) fn read(text: &str, builder: &mut Builder) -> Result<(), Stop> {
    let mut parser = Parser::new_from_str(text);
    while let Some(next) = parser.next_event() {
        let (event, span) = match next {
            Ok((event, span)) => (event, span_of(span)),
            Err(error) => {
                let at = error.marker();
                return Err(builder.syntax(
                    Span::point(line_of(at), at.col()),
                    format!("this is not valid YAML: {}", error.info()),
                    Some(match error.info() {
                        info if info.contains("tab") => "indent with spaces",
                        info if info.contains("anchor") => "write `&NAME` at the value that is meant, before `*NAME`",
                        _ => {
                            "look here and above for a bracket or quote that is not closed, or a line that is not \
                             indented right"
                        }
                    }),
                ));
            }
        };
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(_) => {
                if builder.has_root() {
                    let help = Some("put each definition into a file of its own");
                    return Err(builder.syntax(span, "a second document begins here".to_owned(), help));
                }
            }
            Event::Alias(anchor) => builder.alias(anchor, span)?,
            Event::Scalar(text, style, anchor, tag) => {
                let (style, core) = match tag {
                    None if style == ScalarStyle::Plain => (Style::Plain, None),
                    None => (Style::Text, None),
                    Some(tag) => match core_of(&tag) {
                        Some(core) => (Style::Plain, Some(core)),
                        None => return Err(unknown_tag(builder, span, &tag)),
                    },
                };
                builder.scalar(&text, style, core, anchor, span)?;
            }
            Event::SequenceStart(anchor, tag) => {
                if let Some(tag) = tag.filter(|tag| !(tag.is_yaml_core_schema() && tag.suffix == "seq")) {
                    return Err(unknown_tag(builder, span, &tag));
                }
                builder.start(true, anchor, span)?;
            }
            Event::MappingStart(anchor, tag) => {
                if let Some(tag) = tag.filter(|tag| !(tag.is_yaml_core_schema() && tag.suffix == "map")) {
                    return Err(unknown_tag(builder, span, &tag));
                }
                builder.start(false, anchor, span)?;
            }
            Event::SequenceEnd | Event::MappingEnd => builder.end(span)?,
        }
    }
    if builder.has_root() {
        Ok(())
    } else {
        Err(builder.syntax(Span::point(0, 0), "the file is empty".to_owned(), None))
    }
}

fn core_of(tag: &Tag) -> Option<Core> {
    if tag.handle.is_empty() && tag.suffix == "!" || tag.handle == "!" && tag.suffix.is_empty() {
        return Some(Core::Text);
    }
    if !tag.is_yaml_core_schema() {
        return None;
    }
    match tag.suffix.as_str() {
        "str" => Some(Core::Text),
        "int" => Some(Core::Integer),
        "float" => Some(Core::Float),
        "bool" => Some(Core::Boolean),
        "null" => Some(Core::Null),
        _ => None,
    }
}

fn unknown_tag(builder: &mut Builder, span: Span, tag: &Tag) -> Stop {
    let message = format!("the tag `{tag}` is not one of YAML's core tags");
    builder.syntax(span, message, Some("remove the tag; a definition is plain data"))
}

fn span_of(span: saphyr_parser::Span) -> Span {
    Span {
        line: line_of(&span.start),
        column: span.start.col(),
        end_line: line_of(&span.end),
        end_column: span.end.col(),
    }
}

fn line_of(marker: &Marker) -> usize {
    marker.line().saturating_sub(1)
}
