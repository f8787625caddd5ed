//! Ends of calls: as they are kept, and as they are read back.

use bellhop_core::value;
use serde_json::Value;

use super::super::{Answer, AttemptKey, CallKey, Error, How, Slice};
use super::{Local, digest};
use bellhop_journal::{self as journal, Entry, Json, Write};

impl Local {
    /// The end of a call, which the entry `seq` has.
    pub(super) async fn kept_answer(&self, call: &CallKey, seq: u64) -> Result<Answer, Error> {
        let unreadable = || Error::OfTheRun(format!("what is kept of {call:?} cannot be read"));
        let (hash, answer, how, writes) = match self.entry(seq).await? {
            Some(Entry::Outcome { answer, hash, how, .. }) => (hash, answer, How::from_kept(&how), true),
            Some(Entry::Read { answer, hash, how, .. }) => {
                let how = How::from_kept(&how);
                // Of a write that an earlier attempt made there is no intent in this one.
                (hash, answer, how, how.is_some_and(How::is_reused))
            }
            Some(Entry::Resolved { how: journal::Resolution::Done(answer), hash, .. }) => {
                (hash, answer, Some(How::Found), true)
            }
            _ => return Err(unreadable()),
        };
        let result = match answer {
            journal::Answer::Ok(content) => Ok(text(self.journal.text(&content).await?)),
            journal::Answer::Err(content) => Err(text(self.journal.text(&content).await?)),
        };
        let how = how.ok_or_else(unreadable)?;
        Ok(Answer { hash: hash.to_string(), function: String::new(), writes, result, how, token: None })
    }

    /// The end of a slice.
    pub(super) async fn kept_slice(&self, attempt: &AttemptKey, number: u32) -> Result<Option<Slice>, Error> {
        let AttemptKey { execution, attempt } = attempt;
        let call = CallKey { execution: execution.clone(), attempt: *attempt, ordinal: number };
        let Some(seq) = self.log().slices.get(&call).copied() else { return Ok(None) };
        let Some(Entry::Slice { ordinal, state, .. }) = self.entry(seq).await? else {
            return Err(Error::OfTheRun(format!("what is kept of slice {call:?} cannot be read")));
        };
        Ok(Some(Slice { number, state: self.journal.read(&state).await?, first_call: ordinal }))
    }

    async fn entry(&self, seq: u64) -> Result<Option<Entry>, Error> {
        let page = self.journal.entries(self.run, seq, 1).await?;
        Ok(page.into_iter().next().filter(|(found, _)| *found == seq).map(|(_, entry)| entry))
    }

    /// The entry of a call's end.
    pub(super) fn end_of(
        &self,
        write: &mut Write,
        call: &CallKey,
        answer: &Answer,
        intent: bool,
    ) -> Result<Entry, Error> {
        let hash = digest(&answer.hash)?;
        let kept = |write: &mut Write, text: &str| self.journal.content_of(write, kept_text(text));
        let how = answer.how.as_str().to_owned();
        let (key, attempt, ordinal) = (call.execution.to_string(), call.attempt, call.ordinal);
        let content = match &answer.result {
            Ok(text) => journal::Answer::Ok(kept(write, text)),
            Err(text) => journal::Answer::Err(kept(write, text)),
        };
        Ok(if intent {
            Entry::Outcome { key, attempt, ordinal, hash, at: self.clock.now(), answer: content, how }
        } else {
            let function = Some(answer.function.clone()).filter(|function| !function.is_empty());
            let (at, token) = (self.clock.now(), answer.token);
            Entry::Read { key, attempt, ordinal, hash, at, answer: content, how, function, token }
        })
    }
}

/// Text as it is kept. The guest gets text; what is JSON is kept as it stands, so that people can read it. Anything else,
/// as a name that happens to be a string of JSON or a number that no reader takes, is a string.
fn kept_text(text: &str) -> Json {
    // What is deeper than any value of ours is read by nobody as JSON.
    let is_plain = |json: &Value| value::size(json).depth <= value::DEPTH_MAX && !json.is_string();
    let json = serde_json::from_str(text).ok().filter(is_plain).and_then(|_| Json::of_text(text));
    json.unwrap_or_else(|| Json::from(&Value::from(text)))
}

/// Text as the guest got it.
fn text(kept: String) -> String {
    if !kept.starts_with('"') {
        return kept;
    }
    serde_json::from_str(&kept).unwrap_or(kept)
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
            assert_eq!(text(kept_text(given).text().to_owned()), given);
            // As it is read back from the store.
            let stored = serde_json::to_string(&[kept_text(given)]).unwrap();
            let [stored]: [Json; 1] = serde_json::from_str(&stored).unwrap();
            assert_eq!(text(stored.text().to_owned()), given, "read back");
        }
        assert_eq!(kept_text("{\"ok\":true}").text(), "{\"ok\":true}", "what people can read stays so");
    }
}
