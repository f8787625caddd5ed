//! What is wrong with a manifest, all of it, each with its place.

use serde_json::{Map, Value};

use crate::diagnostic::{Code, Diagnostic, Needs, Remedy, code, nearest};
use crate::pointer;
use crate::schema::Together;
use crate::text::plain;
use crate::value::kind_of;

/// At most so many faults are shown.
const FAULTS_MAX: usize = 100;
/// More characters of a text of the author's are not repeated.
const QUOTED_CHARS_MAX: usize = 64;
/// Who mends a manifest.
const AUTHOR: &str = "whoever writes the plugin";

/// A value of the manifest, and where it stands.
#[derive(Clone)]
pub(super) struct At<'m> {
    pub(super) value: &'m Value,
    /// JSON pointer from the root of the manifest.
    pub(super) pointer: String,
}

impl<'m> At<'m> {
    pub(super) fn root(value: &'m Value) -> Self {
        Self { value, pointer: String::new() }
    }

    /// The field of an object; none where it is absent, or null, which stands for absent.
    pub(super) fn get(&self, key: &str) -> Option<Self> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(Self { value, pointer: pointer::child(&self.pointer, key) })
    }

    pub(super) fn item(&self, index: usize, value: &'m Value) -> Self {
        Self { value, pointer: pointer::item(&self.pointer, index) }
    }

    /// The last part of the pointer, for people; of an item of a list, the list's too.
    pub(super) fn title(&self) -> String {
        let mut parts = self.pointer.rsplit('/');
        match (parts.next().unwrap_or_default(), parts.next().unwrap_or_default()) {
            ("", _) => "manifest".to_owned(),
            (item, list) if !list.is_empty() && item.bytes().all(|b| b.is_ascii_digit()) => {
                plain(&format!("{list}/{item}")).into_owned()
            }
            (field, _) => plain(field).into_owned(),
        }
    }
}

/// A text of the author's inside one of ours: cut, and without characters that could deceive whoever reads it.
pub(super) fn quoted(text: &str) -> String {
    let cut: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    let more = if text.chars().nth(QUOTED_CHARS_MAX).is_some() { "…" } else { "" };
    format!("`{}{more}`", plain(&cut))
}

/// The same of a name, in which letters of other scripts may look like ours.
pub(super) fn spelt(name: &str) -> String {
    let mut shown = String::new();
    for c in name.chars() {
        if c.is_ascii() { shown.push(c) } else { shown.extend(c.escape_unicode()) }
    }
    quoted(&shown)
}

/// The faults found so far.
#[derive(Default)]
pub(super) struct Report {
    faults: Vec<Diagnostic>,
    left_out: usize,
    /// The action that is looked at, as people are told.
    subject: Option<String>,
    /// The schemas so far.
    pub(super) schemas: Together,
}

impl Report {
    /// What is found from here on is of this action; none: of the plugin.
    pub(super) fn about(&mut self, action: Option<String>) {
        self.subject = action;
    }

    /// `` `topic.set` ``, or `the plugin`.
    pub(super) fn subject(&self) -> &str {
        self.subject.as_deref().unwrap_or("the plugin")
    }

    /// Whether one more fault is only counted: then nobody has to find out what was meant.
    pub(super) fn only_counts(&mut self) -> bool {
        let full = self.faults.len() >= FAULTS_MAX;
        self.left_out += usize::from(full);
        full
    }

    /// One more fault. `message` says of whom; `fix` is a few words without a full stop.
    pub(super) fn fault(&mut self, code: Code, at: &str, message: impl Into<String>, fix: impl Into<String>) {
        if self.only_counts() {
            return;
        }
        self.faults.push(diagnostic(Diagnostic::error(code, message), at, fix));
    }

    /// The same, with what is needed there.
    pub(super) fn lacking(&mut self, code: Code, at: &str, message: String, needs: &str, fix: impl Into<String>) {
        let before = self.faults.len();
        self.fault(code, at, message, fix);
        if let Some(fault) = self.faults.get_mut(before) {
            fault.needs = Some(Needs { text: Some(needs.to_owned()), ..Needs::default() });
        }
    }

    /// Everything that was found.
    pub(super) fn into_faults(mut self) -> Vec<Diagnostic> {
        if self.left_out > 0 {
            let message = format!("{} more faults of the manifest are not shown", self.left_out);
            self.faults.push(diagnostic(
                Diagnostic::error(code::TOO_MANY_FAULTS, message),
                "",
                "mend these, then look again",
            ));
        }
        self.faults
    }

    pub(super) fn wrong_type(&mut self, at: &At<'_>, wanted: &str) {
        let found = kind_of(at.value);
        let message = format!("{}: `{}` must be {wanted}, not {found}", self.subject(), at.title());
        self.lacking(code::WRONG_TYPE, &at.pointer, message, wanted, format!("write {wanted}"));
    }

    pub(super) fn object<'m>(&mut self, at: &At<'m>) -> Option<&'m Map<String, Value>> {
        let object = at.value.as_object();
        if object.is_none() {
            self.wrong_type(at, "an object");
        }
        object
    }

    /// The items of a list of at most `max`; none, and a fault, where it is no list or a longer one.
    pub(super) fn list<'m>(&mut self, at: &At<'m>, max: usize) -> Option<Vec<At<'m>>> {
        let Some(items) = at.value.as_array() else {
            self.wrong_type(at, "a list");
            return None;
        };
        if items.len() > max {
            let message =
                format!("{}: `{}` has {} items, at most {max} can be", self.subject(), at.title(), items.len());
            self.fault(code::TOO_LONG, &at.pointer, message, format!("keep it to {max} items"));
            return None;
        }
        Some(items.iter().enumerate().map(|(index, value)| at.item(index, value)).collect())
    }

    /// A text of at most `chars_max` characters.
    pub(super) fn text<'m>(&mut self, at: &At<'m>, chars_max: usize) -> Option<&'m str> {
        let Some(text) = at.value.as_str() else {
            self.wrong_type(at, "text");
            return None;
        };
        let chars = text.chars().count();
        if chars > chars_max {
            let message =
                format!("{}: `{}` has {chars} characters, at most {chars_max} can be", self.subject(), at.title());
            self.fault(code::TOO_LONG, &at.pointer, message, format!("keep it to {chars_max} characters"));
            return None;
        }
        Some(text)
    }

    /// A text that says something.
    pub(super) fn words<'m>(&mut self, at: &At<'m>, chars_max: usize) -> Option<&'m str> {
        let text = self.text(at, chars_max)?;
        if text.trim().is_empty() {
            let message = format!("{}: `{}` is empty", self.subject(), at.title());
            self.fault(code::INVALID_VALUE, &at.pointer, message, "say it in a few words");
            return None;
        }
        Some(text)
    }

    /// One of a few words.
    pub(super) fn word<'m>(&mut self, at: &At<'m>, known: &[&str]) -> Option<&'m str> {
        let Some(text) = at.value.as_str() else {
            self.wrong_type(at, &format!("one of {}", listed(known)));
            return None;
        };
        if known.contains(&text) {
            return Some(text);
        }
        let message =
            format!("{}: `{}` is {}, which is none of {}", self.subject(), at.title(), quoted(text), listed(known));
        let fix = match nearest(text, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("write one of {}", listed(known)),
        };
        self.lacking(code::INVALID_VALUE, &at.pointer, message, &listed(known), fix);
        None
    }

    /// A field that has to be there.
    pub(super) fn needed<'m>(&mut self, at: &At<'m>, key: &str) -> Option<At<'m>> {
        let found = at.get(key);
        if found.is_none() && at.value.is_object() {
            let what = if at.pointer.is_empty() { "the manifest".to_owned() } else { self.part(at) };
            let message = format!("{what} has no `{key}`");
            self.fault(code::MISSING_KEY, &at.pointer, message, format!("add `{key}`"));
        }
        found
    }

    /// Of whom an object is a part: `` `topic.set` ``, or `` an item of `errors` of `topic.set` ``.
    fn part(&self, at: &At<'_>) -> String {
        let parts: Vec<&str> = at.pointer.split('/').skip(1).collect();
        match parts[..] {
            ["actions", _] => self.subject().to_owned(),
            [.., list, _] => format!("an item of `{list}` of {}", self.subject()),
            _ => self.subject().to_owned(),
        }
    }

    /// Refuses keys that are none of `known`.
    pub(super) fn known_keys(&mut self, at: &At<'_>, known: &[&str]) {
        for key in at.value.as_object().into_iter().flat_map(Map::keys) {
            if known.contains(&key.as_str()) {
                continue;
            }
            let what = if at.pointer.is_empty() { "the manifest".to_owned() } else { self.part(at) };
            let message = format!("{what} has the key {}, which this host does not know", quoted(key));
            let fix = match nearest(key, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("take it out, or install a newer host; known are {}", listed(known)),
            };
            let pointer = pointer::child(&at.pointer, key);
            self.lacking(code::UNKNOWN_KEY, &pointer, message, &listed(known), fix);
        }
    }

    /// Refuses the second of two entries that stand for the same.
    pub(super) fn duplicate(&mut self, at: &str, what: &str, fix: &str) {
        let message = format!("{}: {what} stands there twice", self.subject());
        self.fault(code::DUPLICATE_ENTRY, at, message, fix);
    }
}

/// `` `a`, `b`, `c` ``.
fn listed(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// Of a manifest, at `at`, with what mends it.
pub(super) fn diagnostic(diagnostic: Diagnostic, at: &str, fix: impl Into<String>) -> Diagnostic {
    Diagnostic {
        // Keys of the author's stand in it.
        pointer: Some(plain(at).into_owned()),
        who: Some(AUTHOR.to_owned()),
        remedies: vec![Remedy { title: fix.into(), command: None, http: None }],
        ..diagnostic
    }
}
