//! Resolves writes whose outcome is unknown, by the method's rule in the catalog.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bellhop_core::fault::Fault;
use bellhop_core::id::RunId;
use bellhop_core::run::Why;
use bellhop_slack::catalog::Method;
use bellhop_slack::reconcile::{self, Question, Step, Verdict};
use serde_json::Value;

use super::effects::Scope;
use super::request::Request;
use super::stamp::request_text;
use crate::engine::execution::{Answer, End, Execution, How, Intent, Parking};
use crate::engine::gateway::{Connected, Gateway};
use crate::faults::{Plant, planted};
use crate::journal::Write;

/// How often one page is asked for again when no answer came.
const PAGE_ATTEMPTS: u32 = 4;

/// A write of which nobody knows what became.
pub(crate) struct Doubt<'a> {
    /// Its method.
    pub(crate) method: &'a Method,
    /// Its arguments, as the guest gave them.
    pub(crate) arguments: &'a Value,
    /// What was written before it was sent.
    pub(crate) intent: &'a Intent,
    /// The key that it carries.
    pub(crate) stamp: &'a str,
    /// What the same action had read of the thing before, where its rule wants to know.
    pub(crate) before: Option<&'a Value>,
}

/// Reads back what became of a write, every page of it. Whatever keeps an answer from coming (a limit, a scope, a lost
/// connection) is [`Verdict::CannotTell`]: it is never taken for absence.
pub(crate) async fn read_back(gateway: &Gateway, connection: &Connected, doubt: &Doubt<'_>, run: RunId) -> Verdict {
    let question = Question {
        method: doubt.method,
        arguments: doubt.arguments,
        key: doubt.stamp,
        intent_at: doubt.intent.at,
        acting: connection.acting.as_deref(),
        before: doubt.before,
    };
    let (mut reconciler, mut request) = match reconcile::begin(&question) {
        Ok(begun) => begun,
        Err(verdict) => return verdict,
    };
    loop {
        let Some(asked) = gateway.catalog.by_name(request.method) else {
            return Verdict::CannotTell(format!("there is no method {} to read back with", request.method));
        };
        let answer = match gateway.read(connection, asked, &request.arguments, run, PAGE_ATTEMPTS).await {
            Ok(answer) => answer,
            Err(failure) => return Verdict::CannotTell(format!("reading back with {}: {failure}", asked.name)),
        };
        match reconciler.next(&answer) {
            Step::Ask(next) => request = next,
            Step::Done(verdict) => return verdict,
        }
    }
}

impl<E: Execution> Scope<E> {
    /// Finds out what became of a write that was perhaps carried out; `ended` is when its connection ended, or this
    /// process began after the one that held it, as the clock counts that nobody sets.
    pub(super) async fn resolve(
        &self,
        request: &Request,
        intent: &Intent,
        stamp: &str,
        ended: Duration,
    ) -> End<Answer> {
        let Request { method, arguments, key, hash } = request;
        if intent.hash != *hash && !planted(Plant::IgnoreHash) {
            return End::Doubt(self.nondeterministic(key));
        }
        let as_planted = || End::not_sent("planted".to_owned(), Some(self.port.now()));
        if planted(Plant::ResendUnseen) {
            return as_planted();
        }
        self.services.quiet_since(ended).await;
        self.services.counters.resolving.fetch_add(1, Ordering::Relaxed);
        let before = self.before(method, arguments);
        let doubt = Doubt { method, arguments, intent, stamp, before: before.as_ref() };
        let found = read_back(&self.services.gateway, &self.connection, &doubt, self.run).await;
        self.services.counters.resolving.fetch_sub(1, Ordering::Relaxed);
        match found {
            Verdict::Found(body) => {
                self.port.note(format!("{} had been carried out: found by reading back", method.name));
                End::Done(request.answer(Ok(body.to_string()), How::Found))
            }
            Verdict::Holds(body) => {
                self.port.note(format!("what {} asks for is so, perhaps since before", method.name));
                End::Done(request.answer(Ok(body.to_string()), How::Holds))
            }
            Verdict::CannotTell(_) if planted(Plant::DoubtIsAbsence) => as_planted(),
            Verdict::Absent => {
                self.port.note(format!("{} had not been carried out: nothing is there", method.name));
                End::not_sent("read back: nothing is there".to_owned(), Some(self.port.now()))
            }
            Verdict::Repeat => self.repeat("sending it again leaves what one sending leaves".to_owned()),
            Verdict::CannotTell(why) if self.resend_unknown && !method.never_resend_without_readback => {
                self.repeat(format!("{why}; the task says `onUnknown: resend`"))
            }
            Verdict::CannotTell(why) => {
                self.keep_request(method, arguments);
                let fault = Fault::of_code(
                    "outcome-unknown",
                    500,
                    format!("{} was sent, and whether it was carried out cannot be told: {why}", method.name),
                );
                End::Doubt(Parking::at(&self.execution.pointer, Why::Doubt, fault))
            }
        }
    }

    /// The call may have been carried out, and is sent again: an answer that it was done already says nothing of whose
    /// it was, in whichever life of the process it comes.
    fn repeat(&self, reason: String) -> End<Answer> {
        self.deeds.note_repeated();
        End::NotSent { reason, retry_at: Some(self.port.now()), repeats: true }
    }

    /// What this attempt had read of the thing that the write changes.
    fn before(&self, method: &Method, arguments: &Value) -> Option<Value> {
        let wanted = reconcile::before(method, arguments)?;
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, asked, body) = before.as_ref()?;
        let same = *name == wanted.method && asked.get(wanted.field).and_then(Value::as_str) == Some(wanted.value);
        same.then(|| body.clone())
    }

    /// Keeps the request of a call in doubt, so that it can be read back when a person says that it was carried out. It
    /// goes before the record that parks the run; a request that is not kept costs the person an answer.
    fn keep_request(&self, method: &Method, arguments: &Value) {
        let mut write = Write::new().of(self.run);
        write.keep(request_text(&method.function, arguments).as_bytes());
        if let Err(error) = self.services.journal.commit(write) {
            tracing::warn!(run = %self.run, %error, "a request in doubt is not kept");
        }
    }
}
