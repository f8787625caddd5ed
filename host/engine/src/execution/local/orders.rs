//! What people ask of a run, and what they say of its calls: kept before the run is told.

use bellhop_core::run::Cause;

use super::super::{CallKey, Error, Settle, Word};
use super::log::{Asked, Log};
use super::{Local, digest};
use bellhop_journal::{self as journal, Entry, Write};

impl Local {
    /// What a person says of calls is kept before the run is told; what is asked for, and by whom, is kept with the decision
    /// about it, because an order that changes nothing was refused and is no order. Gives whether there is anything to tell.
    pub(super) async fn settle(&self, cause: &Cause, settle: &Settle) -> Result<bool, Error> {
        let in_doubt = {
            let mut log = self.log();
            let ends = matches!(cause, Cause::Cancel | Cause::CancelAndUndo | Cause::Kill | Cause::Undo);
            log.asked = Some(Asked { text: asked_for(cause), by: settle.by.clone(), ends });
            settle.calls.iter().any(|(call, word)| log.doubts(call, word.sent_at).is_some())
        };
        if in_doubt {
            self.written(|log| self.note_who_asks(log)).await?;
        } else if !settle.calls.is_empty() {
            self.log().asked = None;
            return Ok(false);
        }
        for (call, word) in &settle.calls {
            self.written(|log| self.settle_one(log, call, word, &settle.by)).await?;
        }
        Ok(true)
    }

    /// Keeps what is asked of the run and not kept yet.
    pub(super) fn note_who_asks(&self, log: &mut Log) -> Result<(), Error> {
        let Some(asked) = log.asked.clone() else { return Ok(()) };
        let (at, text) = (self.clock.now(), asked.text.to_owned());
        let note = Entry::Note { at, level: "info".to_owned(), text, by: Some(asked.by.clone()) };
        self.append(log, &[note], Write::new())?;
        log.asked = None;
        if asked.ends {
            log.summary.aftermath.by = Some(asked.by);
        }
        Ok(())
    }

    /// Keeps what a person says of one call. What has come to its end meanwhile is in doubt no more.
    pub(super) fn settle_one(&self, log: &mut Log, call: &CallKey, word: &Word, by: &str) -> Result<(), Error> {
        let Some(intent) = log.doubts(call, word.sent_at).cloned() else { return Ok(()) };
        let mut write = Write::new();
        let how = match &word.answer {
            Some(answer) => {
                let content = self.journal.content(&mut write, answer)?;
                journal::Resolution::Done(journal::Answer::Ok(content))
            }
            None => journal::Resolution::NotDone,
        };
        let at = self.clock.now();
        let entry = Entry::Resolved {
            key: call.execution.to_string(),
            attempt: call.attempt,
            ordinal: call.ordinal,
            hash: digest(&intent.hash)?,
            at,
            how,
            by: by.to_owned(),
        };
        let seq = log.seq;
        self.append(log, std::slice::from_ref(&entry), write)?;
        match &word.answer {
            Some(_) => log.end(call.clone(), seq, &entry),
            None => log.reopen(call, false, at),
        }
        Ok(())
    }
}

/// What a person asks of a run, in words that follow "asked".
fn asked_for(cause: &Cause) -> &'static str {
    match cause {
        Cause::Cancel => "for it to end",
        Cause::CancelAndUndo => "for it to end, and what it changed to be taken back",
        Cause::Kill => "for it to end by force",
        Cause::Retry => "for another attempt",
        Cause::Undo => "for what it changed to be taken back",
        Cause::Suspend => "for a pause",
        Cause::Resume => "for it to go on",
        Cause::Settle { done: true, .. } => "for what is in doubt to count as done",
        Cause::Settle { done: false, .. } => "for what is in doubt to count as not done",
        _ => "for something",
    }
}
