//! Resolves writes whose outcome is unknown, by the method's rule in the catalog.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bellhop_core::backoff::Backoff;
use bellhop_core::fault::Fault;
use bellhop_core::id::RunId;
use bellhop_core::requirement::TokenKind;
use bellhop_core::run::Why;
use bellhop_slack::catalog::Method;
use bellhop_slack::client::{self as slack, Failure};
use bellhop_slack::reconcile::{self, Question, Step, Verdict};
use serde_json::Value;

use super::came::{Came, Sent};
use super::request::Request;
use super::scope::Scope;
use super::stamp::request_text;
use crate::Services;
use crate::execution::{Execution, How, Intent, NotSent, Parking};
use crate::gateway::Connected;
use bellhop_journal::Write;

/// How often one page is asked for when no answer comes.
const PAGE_ATTEMPTS: u64 = 4;
/// Between these.
const PAGE_BACKOFF: Backoff = Backoff { first_ms: 250, max_ms: 1_000 };

/// A write of which nobody knows what became.
pub(crate) struct Doubt<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its arguments, as the guest gave them.
    pub arguments: &'a Value,
    /// What was written before it was sent.
    pub intent: &'a Intent,
    /// The key that it carries.
    pub stamp: &'a str,
    /// What the same action had read of the thing before, where its rule wants to know.
    pub before: Option<&'a Value>,
}

/// Reading back failed for a reason that passes; a later attempt may tell.
pub(crate) struct Later {
    /// The reason.
    pub why: String,
    /// How long Slack wants to be left alone, where it said so.
    pub retry_after_ms: Option<u64>,
}

/// Reads back what became of a write, every page of it. Whatever keeps an answer from coming and does not pass (a limit, a
/// scope, no token) is [`Verdict::CannotTell`]: it is never taken for absence.
///
/// # Errors
/// The network, Slack's rate limit or trouble of its own kept the answer back, also after a few attempts.
pub(crate) async fn read_back(
    services: &Services,
    connection: &Connected,
    doubt: &Doubt<'_>,
    run: RunId,
) -> Result<Verdict, Later> {
    let whom = doubt.intent.token.or_else(|| connection.surely(doubt.method, None));
    let question = Question {
        method: doubt.method,
        arguments: doubt.arguments,
        key: doubt.stamp,
        intent_at: doubt.intent.at,
        now: services.clock.now(),
        // Of a call that may have gone out by one token or another nobody knows who made what is there.
        acting: whom.and_then(|whom| connection.actors.get(&whom)).map(String::as_str),
        before: doubt.before,
    };
    let (mut reconciler, mut request) = match reconcile::begin(&question) {
        Ok(begun) => begun,
        Err(verdict) => return Ok(verdict),
    };
    loop {
        let Some(asked) = services.gateway.catalog.by_name(request.method) else {
            return Ok(Verdict::CannotTell(format!("there is no method {} to read back with", request.method)));
        };
        let answer = match page(services, (connection, whom), asked, &request.arguments, run).await {
            Ok(answer) => answer,
            Err(failure) => {
                let why = format!("reading back with {}: {failure}", asked.name);
                let retry_after_ms = failure.retry_after_ms();
                return if failure.may_pass() {
                    Err(Later { why, retry_after_ms })
                } else {
                    Ok(Verdict::CannotTell(why))
                };
            }
        };
        match reconciler.next(&answer) {
            Step::Ask(next) => request = next,
            Step::Done(verdict) => return Ok(verdict),
        }
    }
}

/// One page of what is read back. A list has many: one that fails is asked for again a few times, because the whole list
/// would have to be read anew otherwise.
async fn page(
    services: &Services,
    (connection, whom): (&Connected, Option<TokenKind>),
    method: &Method,
    arguments: &Value,
    run: RunId,
) -> Result<slack::Answer, Failure> {
    let mut failures = 0;
    loop {
        let read = services.gateway.read_back(connection, whom, method, arguments, run).await;
        failures += 1;
        match read {
            // Where Slack said when to come again, that is up to whoever can do something else meanwhile.
            Err(failure) if failure.may_pass() && failure.retry_after_ms().is_none() && failures < PAGE_ATTEMPTS => {
                let wait_ms = PAGE_BACKOFF.wait_ms(failures, services.entropy.next());
                services.clock.sleep(Duration::from_millis(wait_ms)).await;
            }
            read => return read,
        }
    }
}

impl<E: Execution> Scope<E> {
    /// Finds out what became of a write that was perhaps carried out. When what would tell cannot be read for now, somebody
    /// who is patient asks again; else a person has to look.
    pub(super) async fn resolve(&self, request: &Request, sent: Sent<'_>) -> Came {
        let Request { method, arguments, key, hash } = request;
        let Sent { intent, stamp, ended, patient, before } = sent;
        if intent.hash != *hash {
            return Came::Doubt(self.nondeterministic(key));
        }
        self.services.quiet_since(ended).await;
        self.services.counters.resolving.fetch_add(1, Ordering::Relaxed);
        let doubt = Doubt { method, arguments, intent, stamp, before: before.as_ref() };
        let found = read_back(&self.services, &self.connection, &doubt, self.run).await;
        self.services.counters.resolving.fetch_sub(1, Ordering::Relaxed);
        let found = match found {
            Ok(verdict) => verdict,
            Err(Later { why, retry_after_ms }) if patient => {
                let retry_at = retry_after_ms.map(|ms| self.port.now().plus_millis(ms));
                return Came::Unread { reason: why, retry_at };
            }
            Err(Later { why, .. }) => Verdict::CannotTell(why),
        };
        match found {
            Verdict::Found(body) => {
                self.port.note(format!("{} had been carried out: found by reading back", method.name));
                Came::Answered(request.answer(Ok(body.to_string()), How::Found))
            }
            Verdict::Holds(body) => {
                self.port.note(format!("what {} asks for is so, perhaps since before", method.name));
                Came::Answered(request.answer(Ok(body.to_string()), How::Holds))
            }
            Verdict::Absent => {
                self.port.note(format!("{} had not been carried out: nothing is there", method.name));
                Came::not_sent("read back: nothing is there".to_owned(), Some(self.port.now()))
            }
            Verdict::Repeat => self.repeat("sending it again leaves what one sending leaves".to_owned()),
            Verdict::CannotTell(why) if self.resend_unknown && !method.never_resend_without_readback => {
                self.repeat(format!("{why}; the task says `onUnknown: resend`"))
            }
            Verdict::CannotTell(why) => Came::Doubt(self.unknown(request, &why)),
        }
    }

    /// Why a run is parked that has sent a call of which nobody can tell what became. Its request is kept for the person
    /// who will.
    pub(super) fn unknown(&self, Request { method, arguments, .. }: &Request, why: &str) -> Parking {
        self.keep_request(method, arguments);
        let detail = format!("{} was sent, and whether it was carried out cannot be told: {why}", method.name);
        Parking::at(&self.execution.pointer, Why::Doubt, Fault::of_code("outcome-unknown", detail))
    }

    /// The call may have been carried out, and is sent again: an answer that it was done already says nothing of whose
    /// it was, in whichever life of the process it comes.
    fn repeat(&self, reason: String) -> Came {
        Came::NotSent(NotSent { reason, retry_at: Some(self.port.now()), repeats: true, instead: None })
    }

    /// Keeps the request of a call in doubt, so that it can be read back when a person says that it was carried out. It
    /// goes before the record that parks the run; a request that is not kept costs the person an answer.
    fn keep_request(&self, method: &Method, arguments: &Value) {
        let mut write = Write::new().of(self.run);
        write.keep(request_text(&self.connection.facts.name, &method.function, arguments).as_bytes());
        if let Err(error) = self.services.journal.commit(write) {
            tracing::warn!(run = %self.run, %error, "a request in doubt is not kept");
        }
    }
}
