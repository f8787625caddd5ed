//! What a list of Slack's has, by what it is called.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bellhop_core::diagnostic::nearest;
use bellhop_slack::client as slack;
use icu_normalizer::ComposingNormalizerBorrowed;
use serde_json::Value;

use super::named::Named;

/// A text as names are compared: composed, because one system writes `é` as one character and another as two, in lower case,
/// because Slack takes no two names that differ in case alone, and without what stands around it.
pub(crate) fn key(text: &str) -> String {
    ComposingNormalizerBorrowed::new_nfc().normalize(text.trim()).to_lowercase()
}

/// Text as people wrote it: Slack's answers have `&`, `<` and `>` as entities.
pub(crate) fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// A thing in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) id: Box<str>,
    /// What people call on it by, where no two have the same.
    handle: Option<Box<str>>,
    name: Option<Box<str>>,
    /// The name as Slack has it for comparing, where that is another.
    normalised: Option<Box<str>>,
    /// It is there and cannot be used: archived, disabled, deactivated.
    is_off: bool,
}

/// By what a text names an item. The first one that any item of a list has is what the text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum By {
    Handle,
    Name,
    Normalised,
    HandleOff,
    NameOff,
    NormalisedOff,
}

impl Item {
    pub(super) fn of(named: Named, item: &Value) -> Option<Self> {
        let text = |field: &str| item[field].as_str().map(unescaped);
        let name = match named {
            // Slack asks nobody whether a person's name is another's: people are named by their e-mail.
            Named::User => item.pointer("/profile/email").and_then(Value::as_str).map(str::to_owned),
            Named::Channel | Named::Usergroup | Named::Workspace => text("name"),
        };
        let normalised = text("name_normalized").filter(|_| named == Named::Channel);
        let normalised = normalised.filter(|text| name.as_ref().is_none_or(|name| key(name) != key(text)));
        let is = |flag: &str| item[flag].as_bool() == Some(true);
        let is_off = match named {
            Named::Channel => is("is_archived"),
            Named::User => is("deleted"),
            Named::Usergroup => item["date_delete"].as_i64().is_some_and(|at| at > 0),
            Named::Workspace => false,
        };
        Some(Self {
            id: item["id"].as_str()?.into(),
            handle: named.handle().and_then(text).map(Into::into),
            name: name.map(Into::into),
            normalised: normalised.map(Into::into),
            is_off,
        })
    }

    /// Somebody of whom the e-mail and the id are known.
    pub(super) fn person(id: &str, email: &str) -> Self {
        Self { id: id.into(), handle: None, name: Some(email.into()), normalised: None, is_off: false }
    }

    fn texts(&self) -> impl Iterator<Item = (By, &str)> {
        let off = |by, off| if self.is_off { off } else { by };
        [
            (off(By::Handle, By::HandleOff), &self.handle),
            (off(By::Name, By::NameOff), &self.name),
            (off(By::Normalised, By::NormalisedOff), &self.normalised),
        ]
        .into_iter()
        .filter_map(|(by, text)| Some((by, text.as_deref()?)))
    }

    /// Whether a list need not be read on for others that `text` may mean: no two channels that are not archived have one name,
    /// and no two people one e-mail.
    pub(super) fn is_alone(&self, named: Named, key_of_text: &str) -> bool {
        let has = |by: By| self.texts().any(|(own, text)| own == by && key(text) == key_of_text);
        match named {
            Named::Channel => has(By::Name),
            Named::User => has(By::Name) || has(By::NameOff),
            Named::Usergroup | Named::Workspace => false,
        }
    }

    pub(super) fn shown(&self) -> String {
        let names: Vec<&str> = [&self.handle, &self.name].into_iter().flatten().map(AsRef::as_ref).collect();
        let off = if self.is_off { ", not in use" } else { "" };
        format!("`{}` ({}{off})", self.id, names.join(", "))
    }

    pub(super) fn is_off(&self) -> bool {
        self.is_off
    }
}

/// What a text means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meant<'l> {
    One(&'l Item),
    Several(Vec<&'l Item>),
    Nothing,
}

/// What is meant of these, each with what it is meant by. Where several differ in case alone, the one that is written so is
/// meant.
fn decide<'l>(fitting: &[(By, &'l Item)], text: &str) -> Meant<'l> {
    let Some(first) = fitting.iter().map(|(by, _)| *by).min() else { return Meant::Nothing };
    let mut ids = BTreeSet::new();
    let mut fit: Vec<&Item> = fitting.iter().filter(|(by, _)| *by == first).map(|(_, item)| *item).collect();
    // A list that changes while it is read shows an item on two pages.
    fit.retain(|item| ids.insert(&*item.id));
    if fit.len() > 1 {
        let is_written_so = |item: &&&Item| item.texts().any(|(by, own)| by == first && own == text);
        let written: Vec<&Item> = fit.iter().filter(is_written_so).copied().collect();
        if let [only] = written[..] {
            return Meant::One(only);
        }
    }
    match fit[..] {
        [only] => Meant::One(only),
        _ => Meant::Several(fit),
    }
}

/// A whole list.
#[derive(Debug)]
pub(super) struct Listing {
    items: Vec<Item>,
    /// Every text of an item as it is compared, in order.
    keys: Vec<(Box<str>, By, usize)>,
    /// When its first page was asked for, and when its last one had come, as the clock counts that nobody sets.
    pub(super) began: Duration,
    pub(super) ended: Duration,
    /// What Slack refused to list, where the rest of it was told.
    pub(super) withheld: Option<Arc<slack::Answer>>,
}

impl Listing {
    pub(super) fn of(items: Vec<Item>, began: Duration, ended: Duration, withheld: Option<Arc<slack::Answer>>) -> Self {
        let texts = |(at, item): (usize, &Item)| -> Vec<(Box<str>, By, usize)> {
            item.texts().map(|(by, text)| (key(text).into_boxed_str(), by, at)).collect()
        };
        let mut keys: Vec<_> = items.iter().enumerate().flat_map(texts).collect();
        keys.sort_unstable();
        Self { items, keys, began, ended, withheld }
    }

    pub(super) fn length(&self) -> usize {
        self.items.len()
    }

    pub(super) fn meant_by(&self, text: &str) -> Meant<'_> {
        let sought = key(text);
        let from = self.keys.partition_point(|(key, _, _)| **key < *sought);
        let same = self.keys.iter().skip(from).take_while(|(key, _, _)| **key == *sought);
        let fitting: Vec<(By, &Item)> = same.filter_map(|(_, by, at)| Some((*by, self.items.get(*at)?))).collect();
        decide(&fitting, text)
    }

    /// What the thing with that id is called.
    pub(super) fn name_of(&self, id: &str) -> Option<&str> {
        self.items.iter().find(|item| *item.id == *id)?.name.as_deref()
    }

    /// What is nearest to a text that nothing is called by.
    pub(super) fn near(&self, text: &str) -> Option<&str> {
        nearest(text, self.items.iter().flat_map(Item::texts).map(|(_, text)| text))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn group(id: &str, handle: &str, name: &str, deleted: u64) -> Item {
        let group = json!({ "id": id, "handle": handle, "name": name, "date_delete": deleted });
        Item::of(Named::Usergroup, &group).unwrap()
    }

    fn listing(items: Vec<Item>) -> Listing {
        Listing::of(items, Duration::ZERO, Duration::ZERO, None)
    }

    fn meant(listing: &Listing, text: &str) -> Vec<String> {
        let shown = |item: &Item| item.id.to_string();
        match listing.meant_by(text) {
            Meant::One(item) => vec![shown(item)],
            Meant::Several(items) => items.into_iter().map(shown).collect(),
            Meant::Nothing => Vec::new(),
        }
    }

    #[test]
    fn attack_d5_a_handle_goes_before_a_name_and_two_that_fit_are_none() {
        let listing = listing(vec![
            group("S1", "one", "it", 0),
            group("S2", "it", "other", 0),
            group("S3", "three", "twice", 0),
            group("S4", "four", "twice", 0),
            group("S5", "fifth", "five", 0),
            // A list that changes while it is read shows an item on two pages.
            group("S5", "fifth", "five", 0),
        ]);
        for (text, ids) in [
            ("it", vec!["S2"]),
            ("one", vec!["S1"]),
            ("other", vec!["S2"]),
            ("twice", vec!["S3", "S4"]),
            ("five", vec!["S5"]),
            ("none", vec![]),
        ] {
            assert_eq!(meant(&listing, text), ids, "{text}");
        }
    }

    #[test]
    fn slack_10_a_disabled_group_is_meant_only_where_no_other_is() {
        let listing = listing(vec![
            group("S1", "sales", "Old Sales", 5),
            group("S2", "sales-2027", "Sales", 0),
            group("S3", "gone", "Gone", 5),
            group("S4", "twice-1", "Twice", 5),
            group("S5", "twice-2", "Twice", 5),
        ]);
        for (text, ids) in [
            // The handle of one that nobody can mention is less than the name of one that they can.
            ("sales", vec!["S2"]),
            ("Old Sales", vec!["S1"]),
            ("gone", vec!["S3"]),
            ("Twice", vec!["S4", "S5"]),
        ] {
            assert_eq!(meant(&listing, text), ids, "{text}");
        }
        let Meant::Several(items) = listing.meant_by("Twice") else { panic!("one of two") };
        assert_eq!(items[0].shown(), "`S4` (twice-1, Twice, not in use)");
    }

    #[test]
    fn slack_28_a_name_is_compared_as_people_write_it() {
        let listing = listing(vec![
            group("S1", "rd", "R&amp;D", 0),
            group("S2", "cafe", "Caf\u{e9}", 0),
            group("S3", "lower", "support", 0),
            group("S4", "upper", "SUPPORT", 0),
            group("S5", "hebrew", "\u{5e6}\u{5d5}\u{5d5}\u{5ea}", 0),
        ]);
        for (text, ids) in [
            ("R&D", vec!["S1"]),
            ("r&d", vec!["S1"]),
            ("Cafe\u{301}", vec!["S2"]),
            (" CAF\u{c9} ", vec!["S2"]),
            ("support", vec!["S3"]),
            ("SUPPORT", vec!["S4"]),
            ("Support", vec!["S3", "S4"]),
            ("\u{5e6}\u{5d5}\u{5d5}\u{5ea}", vec!["S5"]),
            ("R&amp;D", vec![]),
        ] {
            assert_eq!(meant(&listing, text), ids, "{text}");
        }
    }

    #[test]
    fn slack_16_a_channel_is_meant_by_its_name_before_what_slack_makes_of_it() {
        let channel = |id: &str, name: &str, normalised: &str, archived: bool| {
            let channel = json!({ "id": id, "name": name, "name_normalized": normalised, "is_archived": archived });
            Item::of(Named::Channel, &channel).unwrap()
        };
        let listing = listing(vec![
            channel("C1", "k\u{f6}ln", "koln", false),
            channel("C2", "koln", "koln", false),
            channel("C3", "m\u{fc}nchen", "munchen", false),
            channel("C4", "old", "old", true),
        ]);
        for (text, ids) in [
            ("koln", vec!["C2"]),
            ("K\u{d6}LN", vec!["C1"]),
            ("munchen", vec!["C3"]),
            ("old", vec!["C4"]),
            ("General", vec![]),
        ] {
            assert_eq!(meant(&listing, text), ids, "{text}");
        }
        assert!(channel("C1", "it", "it", false).is_alone(Named::Channel, "it"));
        assert!(!channel("C1", "it", "it", true).is_alone(Named::Channel, "it"));
        assert!(!channel("C1", "m\u{fc}nchen", "munchen", false).is_alone(Named::Channel, "munchen"));
        assert_eq!(listing.name_of("C3"), Some("m\u{fc}nchen"));
        assert_eq!(listing.near("kolm"), Some("koln"));
    }

    #[test]
    fn slack_23_a_workspace_of_many_is_found_by_any_of_its_names() {
        const PEOPLE: usize = 90_000;
        let email = |n: usize| format!("person.{n}@acme.example");
        let people: Vec<Item> = (0..PEOPLE).map(|n| Item::person(&format!("U{n:08}"), &email(n))).collect();
        let listing = listing(people);
        for n in (0..PEOPLE).step_by(7_001) {
            assert_eq!(meant(&listing, &email(n).to_uppercase()), [format!("U{n:08}")]);
        }
        assert!(meant(&listing, "person.90000@acme.example").is_empty());
        // What `names_listed_max` says of a name's size.
        let bytes = listing.items.len() * size_of::<Item>()
            + listing.keys.len() * size_of::<(Box<str>, By, usize)>()
            + listing.keys.iter().map(|(key, _, _)| 2 * key.len() + 9).sum::<usize>();
        assert!(bytes / PEOPLE <= 200, "{}", bytes / PEOPLE);
    }
}
