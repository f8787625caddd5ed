//! What a definition calls `sensitive`: hidden wherever a run is shown (semantics 4).
//!
//! Hidden is the value at each pointer of the input, and every text that it has got into: an output, a fault, a name of
//! a group, a line of a log. A text or number of at least [`VALUE_CHARS_MIN`] characters is found inside other texts too,
//! in any case and as JSON writes it; a shorter one only where it is a whole text, since it would be found everywhere.
//! What an action or an expression makes of a value (a hash, its reverse, half of it) is not known to be the value.

use serde_json::{Map, Value};

use crate::diagnostic::Diagnostic;

/// Shorter values are hidden only at their place and where they are a whole text.
pub const VALUE_CHARS_MIN: usize = 4;
/// An input with more sensitive values than this has every text of its run hidden: to look for each would take too long.
pub const VALUES_MAX: usize = 1_000;
/// What stands in the place of a value.
pub const MASKED: &str = "***";
/// Messages cut what they repeat: so many first bytes of a value are the value.
const HEAD_BYTES: usize = 16;

/// The sensitive values of one run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mask {
    pointers: Vec<String>,
    /// In lower case, the longest first.
    values: Vec<String>,
    /// As they are, each a whole text.
    short: Vec<String>,
    everything: bool,
}

impl Mask {
    /// What `pointers` find in `input`. One that finds nothing hides nothing.
    #[must_use]
    pub fn new(pointers: &[String], input: &Value) -> Self {
        let mut mask = Self { pointers: pointers.to_vec(), ..Self::default() };
        let mut open: Vec<&Value> = pointers.iter().filter_map(|pointer| input.pointer(pointer)).collect();
        while let Some(value) = open.pop() {
            match value {
                Value::String(text) => mask.add(text),
                Value::Number(number) => mask.add(&number.to_string()),
                Value::Array(items) => open.extend(items),
                Value::Object(fields) => open.extend(fields.values()),
                Value::Null | Value::Bool(_) => {}
            }
            if mask.values.len() + mask.short.len() > VALUES_MAX {
                mask.everything = true;
                break;
            }
        }
        mask.values.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        mask.values.dedup();
        mask
    }

    fn add(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if text.chars().count() < VALUE_CHARS_MIN {
            return self.short.push(text.to_owned());
        }
        self.values.push(text.to_ascii_lowercase());
        // Inside of JSON that is a text itself.
        let quoted = Value::from(text).to_string();
        let inner = &quoted[1..quoted.len() - 1];
        if inner != text {
            self.values.push(inner.to_ascii_lowercase());
        }
    }

    /// Whether nothing is hidden.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.short.is_empty() && self.pointers.is_empty()
    }

    /// The input as it may be shown.
    #[must_use]
    pub fn input(&self, input: &Value) -> Value {
        let mut shown = input.clone();
        for pointer in &self.pointers {
            if let Some(value) = shown.pointer_mut(pointer).filter(|value| !value.is_null()) {
                *value = Value::from(MASKED);
            }
        }
        self.value(shown)
    }

    /// Anything of the run as it may be shown.
    #[must_use]
    pub fn value(&self, value: Value) -> Value {
        if self.is_empty() {
            return value;
        }
        match value {
            Value::String(text) => Value::from(self.text(&text)),
            Value::Number(number) if self.is_hidden(&number.to_string()) => Value::from(MASKED),
            Value::Array(items) => items.into_iter().map(|item| self.value(item)).collect(),
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(name, value)| (self.text(&name), self.value(value)));
                Value::Object(fields.collect::<Map<_, _>>())
            }
            other => other,
        }
    }

    fn is_hidden(&self, number: &str) -> bool {
        number.len() >= VALUE_CHARS_MIN && self.values.iter().any(|value| value == number)
    }

    /// A text of the run as it may be shown.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        if text.is_empty() || (self.values.is_empty() && self.short.is_empty()) {
            return text.to_owned();
        }
        if self.everything || self.short.iter().any(|short| short == text) {
            return MASKED.to_owned();
        }
        // Of the same length: only ASCII changes.
        let lower = text.to_ascii_lowercase();
        let mut hidden: Vec<(usize, usize)> = Vec::new();
        for value in &self.values {
            let head = head_of(value);
            for (at, _) in lower.match_indices(head) {
                let rest = lower[at + head.len()..].chars().zip(value[head.len()..].chars());
                let more: usize = rest.take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
                hidden.push((at, at + head.len() + more));
            }
        }
        if hidden.is_empty() {
            return text.to_owned();
        }
        hidden.sort_unstable();
        let (mut shown, mut from) = (String::with_capacity(text.len()), 0);
        for (start, end) in hidden {
            if end <= from {
                continue;
            }
            if start >= from {
                shown.push_str(&text[from..start]);
                shown.push_str(MASKED);
            }
            from = end;
        }
        shown.push_str(&text[from..]);
        shown
    }

    /// What is said to whoever may not see the values.
    #[must_use]
    pub fn diagnostic(&self, mut diagnostic: Diagnostic) -> Diagnostic {
        if self.is_empty() {
            return diagnostic;
        }
        let hide = |text: &mut String| *text = self.text(text);
        hide(&mut diagnostic.message);
        diagnostic.label.iter_mut().for_each(hide);
        diagnostic.needs.iter_mut().filter_map(|needs| needs.text.as_mut()).for_each(hide);
        diagnostic.has.iter_mut().filter_map(|has| has.text.as_mut()).for_each(hide);
        for remedy in &mut diagnostic.remedies {
            hide(&mut remedy.title);
            remedy.command.iter_mut().for_each(hide);
            if let Some(http) = &mut remedy.http {
                http.body = self.value(std::mem::take(&mut http.body));
            }
        }
        diagnostic
    }
}

/// As much of a value as is taken for it.
fn head_of(value: &str) -> &str {
    let end = value.char_indices().map(|(at, _)| at).find(|at| *at >= HEAD_BYTES).unwrap_or(value.len());
    &value[..end]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mask(input: &Value, pointers: &[&str]) -> Mask {
        Mask::new(&pointers.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>(), input)
    }

    #[test]
    fn a_value_is_hidden_at_its_place_and_wherever_it_got() {
        let input = json!({ "person": { "email": "Ada@example.com", "id": 4711, "sex": "f" }, "open": "it" });
        let mask = mask(&input, &["/person/email", "/person/id", "/person/sex", "/nothing"]);
        assert_eq!(
            mask.input(&input),
            json!({ "person": { "email": "***", "id": "***", "sex": "***" }, "open": "it" })
        );
        assert_eq!(mask.text("mail to ada@EXAMPLE.com, ada@example.com!"), "mail to ***, ***!");
        assert_eq!(mask.value(json!([4711, 471, "4711", "f", "of"])), json!(["***", 471, "***", "***", "of"]));
        assert_eq!(mask.value(json!({ "ada@example.com": true })), json!({ "***": true }));
        assert_eq!(mask.text("nothing of it"), "nothing of it");
    }

    #[test]
    fn a_whole_part_of_the_input_is_hidden_leaf_by_leaf() {
        let input = json!({ "person": { "name": "Grace", "tags": ["admiral"], "ok": true } });
        let mask = mask(&input, &["/person"]);
        assert_eq!(mask.input(&input), json!({ "person": "***" }));
        assert_eq!(
            mask.value(json!({ "said": "Grace is an Admiral", "ok": true })),
            json!({ "said": "*** is an ***", "ok": true })
        );
    }

    #[test]
    fn what_json_escapes_or_a_message_cuts_is_hidden_too() {
        let input = json!({ "a": "say \"hush\" now", "b": "abcdefghijklmnopqrstuvwxyz" });
        let mask = mask(&input, &["/a", "/b"]);
        assert_eq!(mask.text(&json!({ "x": "say \"hush\" now" }).to_string()), "{\"x\":\"***\"}");
        assert_eq!(mask.text("no row `abcdefghijklmnopqrst`…"), "no row `***`…");
    }

    #[test]
    fn overlapping_values_leave_nothing_between() {
        let input = json!(["secret", "secretary", "cretaryx"]);
        assert_eq!(mask(&input, &[""]).text("a secretaryx b"), "a *** b");
    }

    #[test]
    fn too_many_values_hide_every_text() {
        let input: Value = (0..2_000).map(|n| format!("value {n}")).collect();
        assert_eq!(mask(&input, &[""]).value(json!(["anything", 1])), json!(["***", 1]));
    }

    #[test]
    fn without_pointers_nothing_changes() {
        let mask = mask(&json!({ "a": "value" }), &[]);
        assert!(mask.is_empty());
        assert_eq!(mask.value(json!({ "a": "value" })), json!({ "a": "value" }));
    }
}
