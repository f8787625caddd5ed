//! Mentions by what people know: `<@grace@acme.example>` of a person by the e-mail, `<@it-help>` or `<!subteam^@it-help>` of
//! a user group by its handle. Slack itself knows ids alone, and shows anything else as dead text.
//!
//! What is already an id is left as it is, and so is everything that is no mention. Text that came from somewhere else
//! mentions nobody where the file has made it safe: its `<` is an entity then.

use std::collections::{BTreeMap, BTreeSet};

use bellhop_plugin::{Failure, slack};
use serde_json::{Value, json};

/// Different mentions of one message: each person is one call.
const MENTIONS_MAX: usize = 50;
const PERSON: &str = "<@";
const GROUP: &str = "<!subteam^";

/// Whom a mention means.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Whom {
    Email(String),
    Handle(String),
}

impl Whom {
    /// None where it is an id.
    fn of(mark: &str, inner: &str) -> Option<Self> {
        let name = inner.split('|').next().unwrap_or_default().trim();
        let is_id = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        let plain = name.strip_prefix('@').unwrap_or(name);
        if is_id || plain.is_empty() || plain.contains(char::is_whitespace) {
            None
        } else if mark == PERSON && plain.contains('@') {
            Some(Self::Email(plain.to_lowercase()))
        } else {
            Some(Self::Handle(plain.to_lowercase()))
        }
    }

    fn shown(&self) -> &str {
        let (Self::Email(name) | Self::Handle(name)) = self;
        name
    }
}

/// The text, with each mention as `made` has it.
fn replaced(text: &str, mut made: impl FnMut(&Whom) -> Option<String>) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((at, mark)) = [PERSON, GROUP].into_iter().filter_map(|mark| Some((rest.find(mark)?, mark))).min() {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let inner = &from[mark.len()..];
        let Some((inner, after)) = inner.split_once('>') else {
            rest = from;
            break;
        };
        match Whom::of(mark, inner).and_then(|whom| made(&whom)) {
            Some(mention) => out.push_str(&mention),
            None => out.push_str(&from[..mark.len() + inner.len() + 1]),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Every text in Slack's markup of a block, and of what is in it.
fn each_text(value: &mut Value, change: &mut impl FnMut(&mut String)) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| each_text(item, change)),
        Value::Object(fields) => {
            let is_markup = fields.get("type").is_some_and(|kind| kind == "mrkdwn");
            for (name, value) in fields {
                match value {
                    Value::String(text) if is_markup && name == "text" => change(text),
                    other => each_text(other, change),
                }
            }
        }
        _ => {}
    }
}

/// A message's text and blocks, with ids in its mentions.
///
/// # Errors
/// `mention-unknown` where nobody and no group is called so, naming all of them: nothing was sent. As for the calls that
/// look them up.
pub(crate) fn resolved(
    text: Option<&str>,
    blocks: Option<&[Value]>,
) -> Result<(Option<String>, Option<Vec<Value>>), Failure> {
    let (mut text, mut blocks) = (text.map(str::to_owned), blocks.map(<[Value]>::to_vec));
    let mut wanted = BTreeSet::new();
    let mut each = |change: &mut dyn FnMut(&mut String)| {
        text.iter_mut().for_each(&mut *change);
        blocks.iter_mut().flatten().for_each(|block| each_text(block, &mut |text| change(text)));
    };
    each(&mut |text| {
        replaced(text, |whom| {
            wanted.insert(whom.clone());
            None
        });
    });
    if !wanted.is_empty() {
        let mentions = looked_up(&wanted)?;
        each(&mut |text| *text = replaced(text, |whom| mentions.get(whom).cloned()));
    }
    Ok((text, blocks))
}

fn looked_up(wanted: &BTreeSet<Whom>) -> Result<BTreeMap<Whom, String>, Failure> {
    if wanted.len() > MENTIONS_MAX {
        let message =
            format!("the message mentions {} people and groups by name, at most {MENTIONS_MAX} are", wanted.len());
        return Err(Failure::new("invalid-arguments", message));
    }
    let mut found = BTreeMap::new();
    let mut groups: Option<Value> = None;
    for whom in wanted {
        match whom {
            Whom::Email(email) => match slack::users::lookup_by_email(json!({ "email": email })) {
                Ok(answer) => {
                    found.insert(whom.clone(), format!("<@{}>", slack::text(&answer, "/user/id")?));
                }
                Err(refusal) if refusal.is(&["users_not_found"]) => {}
                Err(refusal) => return Err(refusal.into()),
            },
            Whom::Handle(handle) => {
                if groups.is_none() {
                    groups = Some(slack::usergroups::list(json!({}))?);
                }
                let list = groups.as_ref().map(|answer| slack::list(answer, "/usergroups")).unwrap_or_default();
                let has = |group: &&Value| group["handle"].as_str().is_some_and(|own| own.to_lowercase() == *handle);
                if let Some(group) = list.iter().find(has) {
                    found.insert(whom.clone(), format!("<!subteam^{}>", slack::text(group, "/id")?));
                }
            }
        }
    }
    let unknown: Vec<&str> = wanted.iter().filter(|whom| !found.contains_key(*whom)).map(Whom::shown).collect();
    if unknown.is_empty() {
        return Ok(found);
    }
    let message = format!("nobody and no user group that can be mentioned is called {}", unknown.join(", "));
    Err(Failure::new("mention-unknown", message).details(json!({ "unknown": unknown })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_mention_is_found_and_nothing_else_changes() {
        let made = |whom: &Whom| match whom {
            Whom::Email(email) if email == "grace@acme.example" => Some("<@U1>".to_owned()),
            Whom::Handle(handle) if handle == "it-help" => Some("<!subteam^S1>".to_owned()),
            _ => None,
        };
        for (text, wanted) in [
            ("Hi <@grace@acme.example>!", "Hi <@U1>!"),
            ("Hi <@Grace@ACME.example|Grace>", "Hi <@U1>"),
            (
                "<@it-help> and <!subteam^@it-help> and <!subteam^it-help>",
                "<!subteam^S1> and <!subteam^S1> and <!subteam^S1>",
            ),
            ("<@U0HQMEMBER> <!subteam^S0HQIT|@it>", "<@U0HQMEMBER> <!subteam^S0HQIT|@it>"),
            ("<@nobody@acme.example>", "<@nobody@acme.example>"),
            ("&lt;@grace@acme.example&gt; a<@b", "&lt;@grace@acme.example&gt; a<@b"),
            ("<!here> <https://acme.example|x> <@>", "<!here> <https://acme.example|x> <@>"),
            ("", ""),
        ] {
            assert_eq!(replaced(text, made), wanted);
        }
    }

    #[test]
    fn blocks_are_looked_at_where_they_have_markup() {
        let mut block = json!({"type": "section", "text": {"type": "mrkdwn", "text": "a"}, "fields": [
            {"type": "plain_text", "text": "b"}, {"type": "mrkdwn", "text": "c"}]});
        let mut seen = Vec::new();
        each_text(&mut block, &mut |text| seen.push(text.clone()));
        seen.sort();
        assert_eq!(seen, ["a", "c"]);
    }
}
