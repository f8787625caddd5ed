//! Generated accounts, groups, channels and messages against the strict simulator: each is done, or it is refused before
//! anything is written, for a reason that the data justifies. `make generated COUNT=5000` plays so many; `SEED=N` begins there.

use bellhop_core::run::Status;
use bellhop_slack::client::Secret;
use serde_json::{Value, json};

use super::life::{Life, Slack, fresh, trigger};
use super::simulate::dice::Dice;
use crate::setup::connections::New;
use bellhop_core::definition::WorkflowName;
use bellhop_core::requirement::{Kind, Permission, TokenKind};

/// In the ordinary tests.
const COUNT: u64 = 120;

/// First and last letters of twenty scripts, in lower case where there is such.
const SCRIPTS: [(char, char); 20] = [
    ('a', 'z'),
    ('\u{df}', '\u{f6}'),
    ('\u{3b1}', '\u{3c9}'),
    ('\u{430}', '\u{44f}'),
    ('\u{561}', '\u{586}'),
    ('\u{5d0}', '\u{5ea}'),
    ('\u{627}', '\u{64a}'),
    ('\u{905}', '\u{939}'),
    ('\u{995}', '\u{9a8}'),
    ('\u{b95}', '\u{b95}'),
    ('\u{c15}', '\u{c28}'),
    ('\u{e01}', '\u{e2e}'),
    ('\u{e81}', '\u{e82}'),
    ('\u{10d0}', '\u{10f0}'),
    ('\u{1200}', '\u{1206}'),
    ('\u{1780}', '\u{17a2}'),
    ('\u{3042}', '\u{3082}'),
    ('\u{30a2}', '\u{30e2}'),
    ('\u{4e00}', '\u{4e80}'),
    ('\u{ac00}', '\u{ac80}'),
];
/// What names have besides letters: marks, directions, what joins, emoji, what Slack reads as markup.
const OTHERS: [&str; 20] = [
    "\u{301}",
    "\u{5b0}",
    "\u{200f}",
    "\u{200e}",
    "\u{200d}",
    "\u{1f600}",
    "\u{1f468}\u{200d}\u{1f469}",
    "&",
    "<",
    ">",
    "@",
    "#",
    ".",
    "'",
    "-",
    "_",
    " ",
    "7",
    "\u{feff}",
    "A",
];

/// A text of about so many characters, of one script and some of what else there is.
fn text(dice: &mut Dice, characters: u64) -> String {
    let (first, last) = *dice.pick(&SCRIPTS);
    let mut out = String::new();
    for _ in 0..characters {
        if dice.chance(15) {
            let other: &&str = dice.pick(&OTHERS);
            out.push_str(other);
        } else {
            let at = dice.between(u64::from(u32::from(first)), u64::from(u32::from(last)));
            out.extend(u32::try_from(at).ok().and_then(char::from_u32));
        }
    }
    out
}

fn words(dice: &mut Dice, characters: u64) -> String {
    let word = text(dice, 1);
    word.chars().cycle().take(usize::try_from(characters).unwrap()).collect()
}

/// What is asked for, and what may come of it.
struct Case {
    workflow: &'static str,
    input: Value,
    /// The codes that the data justifies; none: it has to be done.
    refused: Vec<&'static str>,
}

/// A length at a limit, just over it, or far below, and whether it is over.
fn at_limit(dice: &mut Dice, max: u64) -> (u64, bool) {
    let length = *dice.pick(&[1, max / 2, max, max + 1]);
    (length.max(1), length > max)
}

fn block(dice: &mut Dice) -> (Value, bool) {
    let part = |max: u64, dice: &mut Dice| {
        let (length, over) = at_limit(dice, max);
        (words(dice, length), over)
    };
    match dice.between(0, 7) {
        0 => (json!({"type": "divider"}), false),
        1 => {
            let (text, over) = part(3_000, dice);
            (json!({"type": "section", "text": {"type": "mrkdwn", "text": text}}), over)
        }
        2 => {
            let (text, over) = part(150, dice);
            (json!({"type": "header", "text": {"type": "plain_text", "text": text}}), over)
        }
        3 => {
            let (count, over) = at_limit(dice, 10);
            let fields: Vec<Value> = (0..count).map(|_| json!({"type": "plain_text", "text": "x"})).collect();
            (json!({"type": "section", "fields": fields}), over)
        }
        4 => {
            let (count, over) = at_limit(dice, 10);
            let elements: Vec<Value> = (0..count).map(|_| json!({"type": "mrkdwn", "text": "x"})).collect();
            (json!({"type": "context", "elements": elements}), over)
        }
        5 => {
            let (text, over) = part(75, dice);
            let button = json!({"type": "button", "text": {"type": "plain_text", "text": text}, "action_id": "a"});
            (json!({"type": "actions", "elements": [button]}), over)
        }
        6 => {
            let (text, over) = part(2_000, dice);
            (json!({"type": "image", "image_url": "https://acme.example/a.png", "alt_text": text}), over)
        }
        _ => {
            let (id, over) = part(255, dice);
            (json!({"type": "divider", "block_id": id}), over)
        }
    }
}

fn message(dice: &mut Dice) -> Case {
    let (length, long) = at_limit(dice, 4_000);
    let count = if dice.chance(10) { dice.between(49, 52) } else { dice.between(0, 4) };
    let (mut blocks, mut wrong, mut ids) = (Vec::new(), false, 0);
    for _ in 0..count {
        let (block, over) = if count > 10 { (json!({"type": "divider"}), false) } else { block(dice) };
        ids += u32::from(block.get("block_id").is_some());
        wrong |= over;
        blocks.push(block);
    }
    let mut refused = Vec::new();
    if long || count > 50 {
        refused.push("validation");
    }
    // Two of one letter each may be the same.
    if wrong || ids > 1 {
        refused.push("invalid-arguments");
    }
    // Where no rule is surely broken, it has to be done.
    let surely = long || count > 50 || wrong;
    let text = words(dice, length).replace(['<', '>', '&'], "x");
    if !surely && ids > 1 {
        blocks.retain(|block| block.get("block_id").is_none());
        refused.clear();
    }
    Case { workflow: "message", input: json!({"text": text, "blocks": blocks}), refused }
}

/// Whether Slack takes it as a channel's name, by the rule as its page has it.
fn is_channel_name(name: &str) -> bool {
    let fits = |c: char| (c.is_alphanumeric() && !c.is_uppercase()) || c == '-' || c == '_';
    name.chars().count() <= 80 && name.chars().all(fits) && name.chars().any(char::is_alphanumeric)
}

fn channel(dice: &mut Dice, number: u64) -> Case {
    let (length, _) = at_limit(dice, 80);
    let name = format!("{}{number}", text(dice, length));
    let fit = dice.chance(50);
    let written = name.trim().trim_start_matches('#').to_lowercase();
    let mut refused = Vec::new();
    if !fit && !is_channel_name(&written) {
        refused.push("channel-name-invalid");
    }
    Case { workflow: "channel", input: json!({"name": name, "fit": fit}), refused }
}

fn group(dice: &mut Dice, number: u64) -> Case {
    let name = format!("{} {number}", text(dice, 12).replace(['&', '<', '>'], "x"));
    let handle = format!("g{number}-{}", *dice.pick(&["it", "people", "a.b", "x_y"]));
    Case { workflow: "group", input: json!({"name": name, "handle": handle}), refused: Vec::new() }
}

fn account(dice: &mut Dice, number: u64) -> Case {
    let local =
        *dice.pick(&["grace", "grace.hopper", "GRACE", "o'neil", "g+tag", "bartholomew.featherstonehaugh", "x"]);
    // Two have one stem, in two domains: twins.
    let (stem, domain) = (number / 8, ["acme.example", "EU.acme.example", "us.acme.example"][(number % 3) as usize]);
    let (first, last) = (text(dice, 8), if dice.chance(30) { String::new() } else { text(dice, 8) });
    let display = text(dice, 10);
    let input = json!({"email": format!("p{stem}{local}@{domain}"), "first": first, "last": last, "display": display});
    // A name of blanks alone is none.
    let blank = |name: &str| name.trim().is_empty();
    let refused = if blank(&first) && blank(&last) { vec!["invalid-arguments"] } else { Vec::new() };
    Case { workflow: "account", input, refused }
}

const WORKFLOWS: [(&str, &str); 4] = [
    (
        "message",
        "call: message.send:1@slack, with: {connection: team, channel: C0HQIT, text: '${ .text }', blocks: '${ .blocks }'}",
    ),
    (
        "channel",
        "call: channel.create:1@slack, with: {connection: team, name: '${ .name }', fit: '${ .fit }', ifExists: fail}",
    ),
    ("group", "call: usergroup.create:1@slack, with: {connection: team, name: '${ .name }', handle: '${ .handle }'}"),
    (
        "account",
        "call: user.provision:1@slack, with: {connection: org, email: '${ .email }', firstName: '${ .first }', lastName: '${ .last }', displayName: '${ .display }'}",
    ),
];

/// How it ended: none, or the code of its fault and the fault.
fn ended(life: &Life, workflow: &WorkflowName, case: &Case) -> (Option<String>, Value) {
    let alias = if case.workflow == "account" { ("org", "generated") } else { ("team", "hq") };
    let view = life.ended(life.started(trigger(workflow, case.input.clone(), &[alias], None))).unwrap();
    match view.status {
        Status::Completed => (None, Value::Null),
        _ => {
            let error = view.error.unwrap_or_else(|| panic!("{:?}", view.status));
            (error["type"].as_str().and_then(|kind| kind.rsplit('/').next()).map(str::to_owned), error)
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn what_is_generated_is_done_or_refused_before_anything_is_written() {
    let (from, count) = (number("SEED").unwrap_or(1), number("COUNT").unwrap_or(COUNT));
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let tokens = [(TokenKind::User, Secret::new("xoxp-org-owner".to_owned()))];
    let new = New {
        name: "generated".to_owned(),
        kind: Kind::GridOrg,
        permission: Permission::Act,
        tokens: tokens.into_iter().collect(),
    };
    let engine = life.engine();
    life.wait(engine.connections.connect(&engine.services.gateway, new, engine.services.clock.now())).unwrap();
    let workflows = WORKFLOWS.map(|(name, task)| {
        let purpose = "metadata: {bellhop: {purpose: onboarding}}";
        let document = format!("document: {{dsl: 1.0.3, namespace: test, name: {name}, version: 1.0.0, {purpose}}}");
        (name, life.apply_text(&format!("{document}\ndo:\n  - only: {{{task}}}\n")))
    });
    let (mut wrong, mut done, mut refused) = (Vec::new(), 0, 0);
    for seed in from..from + count {
        let mut dice = Dice::of(seed, "generated");
        let case = match seed % 4 {
            0 => message(&mut dice),
            1 => channel(&mut dice, seed),
            2 => group(&mut dice, seed),
            _ => account(&mut dice, seed),
        };
        let (_, workflow) = workflows.iter().find(|(name, _)| *name == case.workflow).unwrap();
        let before = slack.ledger().len();
        let (code, error) = ended(&life, workflow, &case);
        let written = slack.ledger().len() - before;
        let is_right = match &code {
            None => case.refused.is_empty() && written > 0,
            Some(code) => case.refused.contains(&code.as_str()) && written == 0,
        };
        if code.is_none() {
            done += 1;
        } else {
            refused += 1;
        }
        if !is_right {
            let shown: String = case.input.to_string().chars().take(400).collect();
            wrong.push(format!(
                "{seed} {}: {code:?}, {written} written, {:?} would do: {shown}: {error}",
                case.workflow, case.refused
            ));
        }
    }
    println!("generated: {count} cases, {done} done, {refused} refused, {} broken", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong[..wrong.len().min(12)].join("\n"));
}
