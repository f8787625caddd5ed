//! Ends of calls: as they are kept, and as they are read back.

use bellhop_core::value;
use serde_json::Value;

use super::super::{Answer, CallKey, Error, How};
use super::{Local, digest};
use crate::journal::{self, Entry, Write};

impl Local {
    pub(super) fn kept_answer(&self, seq: u64) -> Result<Option<Value>, Error> {
        let page = self.journal.entries(self.run, seq, 1)?;
        let Some((found, entry)) = page.into_iter().next() else { return Ok(None) };
        if found != seq {
            return Ok(None);
        }
        let (answer, hash, how, writes) = match entry {
            Entry::Outcome { answer, hash, how, .. } => (answer, hash, how, true),
            Entry::Read { answer, hash, how, .. } => {
                // Of a write that an earlier attempt made there is no intent in this one.
                let writes = [How::Reused, How::ReusedHolds].iter().any(|reused| reused.as_str() == how);
                (answer, hash, how, writes)
            }
            Entry::Resolved { how: journal::Resolution::Done(answer), hash, .. } => {
                (answer, hash, "found".to_owned(), true)
            }
            _ => return Ok(None),
        };
        let result = match answer {
            journal::Answer::Ok(content) => Ok(text(self.journal.value(content)?)),
            journal::Answer::Err(content) => Err(text(self.journal.value(content)?)),
        };
        Ok(Some(serde_json::json!({
            "hash": hash.to_string(), "writes": writes, "how": how,
            "result": match result { Ok(text) => serde_json::json!({"Ok": text}), Err(text) => serde_json::json!({"Err": text}) },
        })))
    }

    /// The entry of a call's end.
    pub(super) fn ended(
        &self,
        write: &mut Write,
        call: &CallKey,
        answer: &Answer,
        intent: bool,
    ) -> Result<Entry, Error> {
        let hash = digest(&answer.hash)?;
        let kept = |write: &mut Write, text: &str| -> Result<journal::Content, Error> {
            Ok(self.journal.content(write, kept_text(text))?)
        };
        let how = answer.how.as_str().to_owned();
        let (key, attempt, ordinal) = (call.execution.to_string(), call.attempt, call.ordinal);
        let content = match &answer.result {
            Ok(text) => journal::Answer::Ok(kept(write, text)?),
            Err(text) => journal::Answer::Err(kept(write, text)?),
        };
        Ok(if intent {
            Entry::Outcome { key, attempt, ordinal, hash, at: self.clock.now(), answer: content, how }
        } else {
            let function = Some(answer.function.clone()).filter(|function| !function.is_empty());
            Entry::Read { key, attempt, ordinal, hash, at: self.clock.now(), answer: content, how, function }
        })
    }
}

/// Text as it is kept. The guest gets text; what is JSON and is written out again as it stands is kept as JSON, so that
/// equal values are stored once and people can read it. Anything else, as a name that happens to be a number, is text.
fn kept_text(text: &str) -> Value {
    let json = serde_json::from_str(text).ok().filter(|json: &Value| {
        // What is deeper than any value of ours would not fit into a record.
        value::size(json).depth <= value::DEPTH_MAX
            && !json.is_string()
            && serde_json::to_string(json).is_ok_and(|written| written == text)
    });
    json.unwrap_or_else(|| Value::from(text))
}

/// Text as the guest got it: kept JSON written out again.
fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn house_a14_a_guest_is_given_the_same_text_at_a_replay() {
        for given in [
            "1e3",
            "1.0",
            "-0",
            "007",
            "1 ",
            " 1",
            "null",
            "true",
            "\"quoted\"",
            "\"\\u0061\"",
            "",
            "{\"b\":1,\"a\":2}",
            "{\"a\":1,\"a\":2}",
            "{\"a\": 1}",
            "[1,2]",
            "[1, 2]",
            "18446744073709551616",
            "C0HQGENERAL",
            "{",
            "1e999",
        ] {
            assert_eq!(text(kept_text(given)), given);
            // As it is read back from the store.
            let stored: Value = serde_json::from_str(&kept_text(given).to_string()).unwrap();
            assert_eq!(text(stored), given, "read back");
        }
        assert!(kept_text("{\"ok\":true}").is_object(), "what people can read stays so");
    }
}
