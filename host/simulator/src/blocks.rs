//! What Slack takes for blocks, and what it says of the first that it does not take: the rules of Slack's pages of Block Kit
//! (https://docs.slack.dev/reference/block-kit/blocks), one function a block.

use serde_json::{Value, json};

use crate::call::Refusal;

/// In a message.
const BLOCKS_MAX: usize = 50;
const BLOCK_ID_CHARACTERS_MAX: usize = 255;
/// Of a section.
const TEXT_CHARACTERS_MAX: usize = 3_000;
const FIELDS_MAX: usize = 10;
const FIELD_CHARACTERS_MAX: usize = 2_000;
/// Of a header.
const HEADER_CHARACTERS_MAX: usize = 150;
const CONTEXT_ELEMENTS_MAX: usize = 10;
const ACTIONS_ELEMENTS_MAX: usize = 25;
const IMAGE_CHARACTERS_MAX: usize = 3_000;
const ALT_CHARACTERS_MAX: usize = 2_000;
/// Of a button.
const BUTTON_CHARACTERS_MAX: usize = 75;
const MARKDOWN_CHARACTERS_MAX: usize = 12_000;
/// Of the blocks that messages can have, those of which nothing more is looked at.
const OTHERS: [&str; 6] = ["divider", "file", "input", "rich_text", "table", "video"];

type Fault = String;

fn missing(field: &str, place: &str) -> Fault {
    format!("missing required field: {field} [json-pointer:{place}]")
}

fn too_long(value: &Value, max: usize, place: &str) -> Option<Fault> {
    let length = value.as_str().map_or(0, |text| text.chars().count());
    (length > max).then(|| format!("must be less than {} characters [json-pointer:{place}]", max + 1))
}

fn too_many(items: &[Value], max: usize, place: &str) -> Option<Fault> {
    (items.len() > max).then(|| format!("no more than {max} items allowed [json-pointer:{place}]"))
}

/// A text object: what kind it is, and that it says something.
fn text(object: &Value, kinds: &[&str], max: usize, place: &str) -> Option<Fault> {
    if !object.is_object() {
        return Some(format!("must provide an object [json-pointer:{place}]"));
    }
    let kind = object["type"].as_str().unwrap_or_default();
    if !kinds.contains(&kind) {
        return Some(format!("unsupported type: {kind} [json-pointer:{place}/type]"));
    }
    match object["text"].as_str() {
        None => Some(missing("text", place)),
        Some("") => Some(format!("must be more than 0 characters [json-pointer:{place}/text]")),
        Some(_) => too_long(&object["text"], max, &format!("{place}/text")),
    }
}

fn section(block: &Value, place: &str) -> Option<Fault> {
    const KINDS: &[&str] = &["mrkdwn", "plain_text"];
    let fields = block["fields"].as_array();
    if block.get("text").is_none() && fields.is_none() {
        return Some(missing("text", place));
    }
    let of_text = block.get("text").and_then(|own| text(own, KINDS, TEXT_CHARACTERS_MAX, &format!("{place}/text")));
    of_text.or_else(|| {
        let fields = fields?;
        too_many(fields, FIELDS_MAX, &format!("{place}/fields")).or_else(|| {
            let one = |(number, field): (usize, &Value)| {
                text(field, KINDS, FIELD_CHARACTERS_MAX, &format!("{place}/fields/{number}"))
            };
            fields.iter().enumerate().find_map(one)
        })
    })
}

fn header(block: &Value, place: &str) -> Option<Fault> {
    match block.get("text") {
        None => Some(missing("text", place)),
        Some(own) => text(own, &["plain_text"], HEADER_CHARACTERS_MAX, &format!("{place}/text")),
    }
}

fn image(block: &Value, place: &str) -> Option<Fault> {
    if block.get("image_url").is_none() && block.get("slack_file").is_none() {
        return Some(missing("image_url", place));
    }
    if block["alt_text"].as_str().is_none() {
        return Some(missing("alt_text", place));
    }
    too_long(&block["image_url"], IMAGE_CHARACTERS_MAX, &format!("{place}/image_url"))
        .or_else(|| too_long(&block["alt_text"], ALT_CHARACTERS_MAX, &format!("{place}/alt_text")))
}

fn elements<'b>(block: &'b Value, max: usize, place: &str) -> Result<&'b [Value], Fault> {
    let list = block["elements"].as_array().ok_or_else(|| missing("elements", place))?;
    if list.is_empty() {
        return Err(format!("no fewer than 1 items allowed [json-pointer:{place}/elements]"));
    }
    too_many(list, max, &format!("{place}/elements")).map_or(Ok(list), Err)
}

fn context(block: &Value, place: &str) -> Option<Fault> {
    let list = match elements(block, CONTEXT_ELEMENTS_MAX, place) {
        Ok(list) => list,
        Err(fault) => return Some(fault),
    };
    list.iter().enumerate().find_map(|(number, element)| {
        let place = format!("{place}/elements/{number}");
        match element["type"].as_str() {
            Some("image") => image(element, &place),
            _ => text(element, &["mrkdwn", "plain_text"], TEXT_CHARACTERS_MAX, &place),
        }
    })
}

fn actions(block: &Value, place: &str) -> Option<Fault> {
    let list = match elements(block, ACTIONS_ELEMENTS_MAX, place) {
        Ok(list) => list,
        Err(fault) => return Some(fault),
    };
    let button = |(number, element): (usize, &Value)| {
        let place = format!("{place}/elements/{number}");
        match element["type"].as_str() {
            None => Some(missing("type", &place)),
            Some("button") => text(&element["text"], &["plain_text"], BUTTON_CHARACTERS_MAX, &format!("{place}/text")),
            Some(_) => None,
        }
    };
    list.iter().enumerate().find_map(button)
}

fn markdown(block: &Value, place: &str) -> Option<Fault> {
    match block["text"].as_str() {
        None => Some(missing("text", place)),
        Some(_) => too_long(&block["text"], MARKDOWN_CHARACTERS_MAX, &format!("{place}/text")),
    }
}

fn one(block: &Value, place: &str) -> Option<Fault> {
    if !block.is_object() {
        return Some(format!("must provide an object [json-pointer:{place}]"));
    }
    let of_id = too_long(&block["block_id"], BLOCK_ID_CHARACTERS_MAX, &format!("{place}/block_id"));
    of_id.or_else(|| match block["type"].as_str() {
        None => Some(missing("type", place)),
        Some("section") => section(block, place),
        Some("header") => header(block, place),
        Some("image") => image(block, place),
        Some("context") => context(block, place),
        Some("actions") => actions(block, place),
        Some("markdown") => markdown(block, place),
        Some(kind) if OTHERS.contains(&kind) => None,
        Some(kind) => Some(format!("unsupported type: {kind} [json-pointer:{place}/type]")),
    })
}

/// Judges the blocks of a message, and gives each an id that has none, as Slack does.
pub(crate) fn taken(blocks: &mut [Value], mut fresh_id: impl FnMut() -> String) -> Result<(), Refusal> {
    if blocks.len() > BLOCKS_MAX {
        return Err(refusal("no more than 50 items allowed [json-pointer:/blocks]"));
    }
    let fault = blocks.iter().enumerate().find_map(|(number, block)| one(block, &format!("/blocks/{number}")));
    if let Some(said) = fault {
        return Err(refusal(&said));
    }
    let mut ids = std::collections::BTreeSet::new();
    for block in blocks {
        match block["block_id"].as_str() {
            Some(id) if !id.is_empty() => {
                if !ids.insert(id.to_owned()) {
                    return Err(refusal(&format!("block_id {id} already exists [json-pointer:/blocks]")));
                }
            }
            _ => block["block_id"] = json!(fresh_id()),
        }
    }
    Ok(())
}

fn refusal(said: &str) -> Refusal {
    Refusal::new("invalid_blocks")
        .with("errors", json!([said]))
        .with("response_metadata", json!({"messages": [format!("[ERROR] {said}")]}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(block: &Value) -> Option<String> {
        let refused = taken(&mut [block.clone()], || "b1".to_owned()).err()?;
        refused.extra["errors"][0].as_str().map(str::to_owned)
    }

    #[test]
    fn what_slack_says_of_a_block_that_it_does_not_take() {
        let words = |count: usize| "x".repeat(count);
        let section = |text: &str| json!({"type": "section", "text": {"type": "mrkdwn", "text": text}});
        for (block, told) in [
            (section("x"), None),
            (section(&words(3_000)), None),
            (section(&words(3_001)), Some("must be less than 3001 characters [json-pointer:/blocks/0/text/text]")),
            (section(""), Some("must be more than 0 characters [json-pointer:/blocks/0/text/text]")),
            (json!({"type": "section"}), Some("missing required field: text [json-pointer:/blocks/0]")),
            (json!({"type": "sections"}), Some("unsupported type: sections [json-pointer:/blocks/0/type]")),
            (json!({}), Some("missing required field: type [json-pointer:/blocks/0]")),
            (json!("x"), Some("must provide an object [json-pointer:/blocks/0]")),
            (json!({"type": "divider"}), None),
            (
                json!({"type": "header", "text": {"type": "mrkdwn", "text": "x"}}),
                Some("unsupported type: mrkdwn [json-pointer:/blocks/0/text/type]"),
            ),
            (
                json!({"type": "context", "elements": []}),
                Some("no fewer than 1 items allowed [json-pointer:/blocks/0/elements]"),
            ),
            (
                json!({"type": "image", "image_url": "https://acme.example/a.png"}),
                Some("missing required field: alt_text [json-pointer:/blocks/0]"),
            ),
            (
                json!({"type": "actions", "elements": [{"type": "button", "text": {"type": "plain_text", "text": words(76)}}]}),
                Some("must be less than 76 characters [json-pointer:/blocks/0/elements/0/text/text]"),
            ),
            (
                json!({"type": "divider", "block_id": words(256)}),
                Some("must be less than 256 characters [json-pointer:/blocks/0/block_id]"),
            ),
        ] {
            assert_eq!(said(&block).as_deref(), told, "{block}");
        }
    }

    #[test]
    fn each_block_has_an_id_and_no_two_the_same() {
        let mut blocks = [json!({"type": "divider"}), json!({"type": "divider", "block_id": "own"})];
        let mut made = 0;
        let fresh = || {
            made += 1;
            format!("made-{made}")
        };
        assert!(taken(&mut blocks, fresh).is_ok());
        assert_eq!((&blocks[0]["block_id"], &blocks[1]["block_id"]), (&json!("made-1"), &json!("own")));
        blocks[0]["block_id"] = json!("own");
        assert!(taken(&mut blocks, String::new).is_err());
        assert!(taken(&mut vec![json!({"type": "divider"}); 51], String::new).is_err());
    }
}
