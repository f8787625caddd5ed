//! A guest's calls: allowed? recorded? budget? intent, Slack, outcome (semantics 1).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bellhop_core::digest::Digest;
use bellhop_core::fault::Fault;
use bellhop_core::id::RunId;
use bellhop_core::json;
use bellhop_core::mask::Mask;
use bellhop_core::preflight::{CallQuestion, judge_call};
use bellhop_core::requirement::Grant;
use bellhop_core::run::{Action, ExecutionKey, Why};
use bellhop_core::text::plain;
use bellhop_slack::reconcile;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinHandle;

use super::deeds::Deeds;
use super::earlier::Earlier;
use super::request::Request;
use super::said::{self, Lines};
use super::stamp::request_text;
use super::{answer, channels};
use crate::engine::Services;
use crate::engine::driver::Wish;
use crate::engine::execution::{Answer, CallKey, Called, Execution, How, Intent, Parking};
use crate::engine::gateway::Connected;
use crate::engine::waiting::{Activity, Entrance};
use crate::faults::{Plant, planted};
use crate::sandbox::{Halt, Host};

/// Everything that a call of one attempt of one action's execution needs.
pub(super) struct Scope<E> {
    pub(super) services: Arc<Services>,
    pub(super) port: Arc<E>,
    pub(super) run: RunId,
    pub(super) execution: ExecutionKey,
    pub(super) attempt: u32,
    pub(super) action: Arc<Action>,
    pub(super) plugin: String,
    pub(super) grants: Arc<[Grant]>,
    pub(super) connection: Arc<Connected>,
    pub(super) retry_again: bool,
    pub(super) resend_unknown: bool,
    pub(super) fast: bool,
    pub(super) activity: Arc<Activity>,
    pub(super) wish: watch::Receiver<Wish>,
    /// A write that is on its way; it goes on when the guest is gone, and says then why it did not come to its end.
    pub(super) on_its_way: Mutex<Option<JoinHandle<Option<Stopped>>>>,
    /// Why the guest was stopped, if it was.
    pub(super) halted: Mutex<Option<Stopped>>,
    /// The last read of this attempt that tells what was there before a write, with what was asked.
    pub(super) before: Mutex<Option<(&'static str, Value, Value)>>,
    /// What attempts before this one carried out; loaded with the first write of an attempt that is not the first, and
    /// once for all of its slices, so that a success that answered in one of them answers in none after it.
    pub(super) earlier: Arc<OnceCell<Mutex<Earlier>>>,
    /// What this attempt has done.
    pub(super) deeds: Arc<Deeds>,
    pub(super) entrance: Arc<Entrance>,
    /// When this life of the driver took the action up, by [`Clock::monotonic`](crate::clock::Clock::monotonic). What
    /// earlier ones had sent, here or in another process, has ended by then.
    pub(super) began: Duration,
    /// The guest does again what an earlier life has on record, and has not come to the end of that.
    pub(super) replays: AtomicBool,
    /// What nobody is shown.
    pub(super) mask: Mask,
    /// The codes of the errors that this slice's calls were answered: a guest may pass them on.
    pub(super) told: Mutex<BTreeSet<String>>,
}

/// Why an action's guest did not get to its end.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one an action, moved up a few callers")]
pub(super) enum Stopped {
    /// A person has to decide.
    Park(Parking),
    /// The process is stopping, or nobody waits for the action any more.
    PutDown,
    /// The process is stopping, and what became of a call that was sent is not known yet: the next process finds out,
    /// also where nobody waits for the action any more.
    Unread,
    /// The journal failed.
    Failed(crate::engine::execution::Error),
}

/// The sandbox's view of a [`Scope`].
pub(super) struct Calls<E> {
    scope: Arc<Scope<E>>,
    lines: Lines,
    first: u32,
    made: Arc<AtomicU32>,
    answers_bytes: u64,
    answers_bytes_max: u64,
}

impl<E> Calls<E> {
    /// Calls numbered from `first` on, with at most so many bytes of answers.
    pub(super) fn new(scope: Arc<Scope<E>>, first: u32, answers_bytes_max: u64) -> Self {
        let slice = CallKey { execution: scope.execution.clone(), attempt: scope.attempt, ordinal: first };
        let lines = Lines::begin(&scope.services.said, scope.run, slice);
        Self { scope, lines, first, made: Arc::new(AtomicU32::new(0)), answers_bytes: 0, answers_bytes_max }
    }

    /// How many were made.
    pub(super) fn made(&self) -> Arc<AtomicU32> {
        self.made.clone()
    }
}

impl<E: Execution> Host for Calls<E> {
    fn call<'a>(
        &'a mut self,
        function: &'a str,
        arguments: String,
    ) -> BoxFuture<'a, Result<Result<String, String>, Halt>> {
        let ordinal = self.first + self.made.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let scope = &self.scope;
            let may_answer = self.answers_bytes <= self.answers_bytes_max;
            match scope.clone().call(function, &arguments, ordinal, may_answer).await {
                Ok(result) => {
                    self.answers_bytes += result.as_ref().map_or_else(String::len, String::len) as u64;
                    if let Err(error) = &result {
                        scope.told.lock().unwrap_or_else(PoisonError::into_inner).extend(answer::code_of(error));
                    }
                    Ok(result)
                }
                Err(stopped) => {
                    let reason = match &stopped {
                        Stopped::Park(_) => "parked",
                        Stopped::PutDown | Stopped::Unread => "put down",
                        Stopped::Failed(_) => "the journal failed",
                    };
                    *scope.halted.lock().unwrap_or_else(PoisonError::into_inner) = Some(stopped);
                    Err(Halt { reason })
                }
            }
        })
    }

    fn log(&mut self, level: &str, text: &str) {
        let scope = &self.scope;
        // What a replay says was said when it was done.
        if self.lines.is_new() && !scope.replays.load(Ordering::Relaxed) {
            let text = plain(&scope.mask.text(text)).into_owned();
            let written = self.lines.has_room(text.len(), &scope.services.limits);
            if written {
                said::write(level, scope.run, &scope.execution, &scope.plugin, &text);
            }
        }
    }

    fn dropped(&mut self) {
        if self.lines.is_new() && !self.scope.replays.load(Ordering::Relaxed) {
            self.lines.dropped();
        }
    }
}

impl<E: Execution> Scope<E> {
    async fn call(
        self: Arc<Self>,
        function: &str,
        text: &str,
        ordinal: u32,
        may_answer: bool,
    ) -> Result<Result<String, String>, Stopped> {
        let key = CallKey { execution: self.execution.clone(), attempt: self.attempt, ordinal };
        let parsed: Result<Value, _> = serde_json::from_str(text);
        // What is no JSON is known by its text: a replay must make the same call all the same.
        let connection = &self.connection.facts.name;
        let hashed = match &parsed {
            Ok(arguments) => request_text(connection, function, arguments),
            Err(_) => request_text(connection, function, &text),
        };
        let hash = Digest::of(hashed.as_bytes()).to_string();
        let refused = |code: &str, message: String| {
            let error = answer::error(code, &message, "fatal", None, None);
            Answer {
                hash: hash.clone(),
                function: function.to_owned(),
                writes: false,
                result: Err(error),
                how: How::Denied,
            }
        };
        let arguments = match parsed {
            Ok(value @ Value::Object(_)) => value,
            Ok(_) => {
                let answer = refused("invalid-arguments", "the arguments are not an object".to_owned());
                return self.refuse(&key, answer).await;
            }
            Err(error) => {
                let answer =
                    refused("invalid-arguments", format!("the arguments cannot be read: {}", json::not_json(&error)));
                return self.refuse(&key, answer).await;
            }
        };
        let Some(method) = self.services.gateway.catalog.by_function(function) else {
            let answer = refused("method-unknown", format!("there is no `{function}`"));
            return self.refuse(&key, answer).await;
        };
        let asked = reconcile::tells_what_was_before(method).then(|| arguments.clone());
        let answered = self.clone().answered(Request { method, arguments, key, hash }, may_answer).await;
        if let (Some(asked), Ok(Ok(text))) = (asked, &answered) {
            let body = serde_json::from_str(text).unwrap_or(Value::Null);
            *self.before.lock().unwrap_or_else(PoisonError::into_inner) = Some((method.name.as_str(), asked, body));
        }
        answered
    }

    /// A call that the host refuses before it looks at what it asks for. It has a record as every call has: what an
    /// attempt has on record has no holes, behind which a later one would miss what was carried out.
    async fn refuse(&self, key: &CallKey, answer: Answer) -> Result<Result<String, String>, Stopped> {
        let (kept, open) = self.look(key).await?;
        let is_another = kept.as_ref().is_some_and(|kept| kept.hash != answer.hash) || open.is_some();
        if is_another && !planted(Plant::IgnoreHash) {
            return Err(Stopped::Park(self.nondeterministic(key)));
        }
        if let Some(kept) = kept {
            return Ok(kept.result);
        }
        self.replays.store(false, Ordering::Relaxed);
        self.record(key, answer).await.map(|answer| answer.result)
    }

    /// From the record, or by the host's refusal, or by Slack. What is not on record is refused where the guest may have
    /// no more answers.
    async fn answered(self: Arc<Self>, request: Request, may_answer: bool) -> Result<Result<String, String>, Stopped> {
        let Request { method, arguments, key, hash } = &request;
        // What is recorded is answered from the record: it was judged and done when it was recorded.
        let (kept, open) = self.look(key).await?;
        if let Some(answer) = kept {
            if answer.hash != *hash && !planted(Plant::IgnoreHash) {
                return Err(Stopped::Park(self.nondeterministic(key)));
            }
            if answer.how.is_reused()
                && let Some(earlier) = self.earlier.get()
            {
                earlier.lock().unwrap_or_else(PoisonError::into_inner).answered(hash, key.ordinal);
            }
            self.deeds.note(&answer);
            return Ok(answer.result);
        }
        self.replays.store(false, Ordering::Relaxed);
        if open.is_some() {
            // It was judged before it was sent, and what has changed since does not unsend it.
            return self.begin(request).await;
        }
        if !may_answer {
            let message = format!(
                "the answers of this slice have more than {} bytes together: answer `again` earlier",
                self.services.limits.guest_answers_bytes_max
            );
            let refused = request.refused("answer-too-large", &message);
            return self.record(key, refused).await.map(|a| a.result);
        }
        if let Some(answer) = self.earlier_success(&request).await? {
            self.deeds.note(&answer);
            return self.record(key, answer).await.map(|a| a.result);
        }
        let names = channels::names(&self, method, arguments, key.ordinal).await?;
        let usable = self.connection.usable();
        let question = CallQuestion {
            action: &self.action.manifest,
            plugin: &self.plugin,
            function: &method.function,
            connection: &usable,
            rules: &self.services.gateway.rules,
            grants: &self.grants,
            arguments,
            names: &names,
            now: self.port.now(),
        };
        if let Err(diagnostic) = judge_call(&question) {
            let denied = request.denied(answer::refusal(&diagnostic));
            return self.record(key, denied).await.map(|a| a.result);
        }
        self.begin(request).await
    }

    async fn begin(self: Arc<Self>, request: Request) -> Result<Result<String, String>, Stopped> {
        if !request.method.writes {
            return self.perform(request).await;
        }
        // A write goes on when the guest is dropped: a call that was sent is never abandoned.
        let (tell, told) = tokio::sync::oneshot::channel();
        let (scope, on_its_way) = (self.clone(), self.activity.sends());
        let task = tokio::spawn(async move {
            let ended = scope.perform(request).await;
            drop(on_its_way);
            // The guest may be gone; the outcome is on record all the same, or there is none.
            tell.send(ended).err().and_then(Result::err)
        });
        *self.on_its_way.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        // Nobody tells when the task panicked: what it had sent may have been carried out.
        let ended = told.await.unwrap_or_else(|_| Err(self.lost()));
        self.on_its_way.lock().unwrap_or_else(PoisonError::into_inner).take();
        ended
    }

    /// A write that the host itself lost sight of. It goes on in its attempt, which finds out what became of it.
    pub(super) fn lost(&self) -> Stopped {
        let detail = "the host failed while the call was under way, and whether it was carried out is not known";
        self.park(Why::Doubt, Fault::of_code("outcome-unknown", 500, detail))
    }

    pub(super) async fn kept(&self, key: &CallKey) -> Result<Option<Answer>, Stopped> {
        Ok(self.look(key).await?.0)
    }

    /// What is kept under `key`, or the intent that has no end.
    pub(super) async fn look(&self, key: &CallKey) -> Result<(Option<Answer>, Option<Intent>), Stopped> {
        Ok(match self.port.called(key).await.map_err(Stopped::Failed)? {
            Called::Ended(answer) => (Some(answer), None),
            Called::Open(intent) => (None, Some(intent)),
            Called::New => (None, None),
        })
    }

    /// Whether an earlier life has anything of this attempt on record from the call `first` on. Calls come onto it in their
    /// order, so the first one tells.
    pub(super) async fn is_on_record(&self, first: u32) -> Result<bool, Stopped> {
        let key = CallKey { execution: self.execution.clone(), attempt: self.attempt, ordinal: first };
        let (kept, open) = self.look(&key).await?;
        Ok(kept.is_some() || open.is_some())
    }

    /// Nobody wants the guest any more, and it may be dropped where it is. One that replays goes on: what it did in an
    /// earlier life is not known yet, and a request may have been on its way when that ended. It stops at the first call
    /// that is not on record.
    pub(super) async fn is_droppable(&self) {
        let mut wish = self.wish.clone();
        // The driver holds the other end for as long as the call is under way.
        let stop = wish.wait_for(|w| *w != Wish::Run).await.is_ok_and(|w| *w == Wish::Stop);
        if stop && self.replays.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }

    pub(super) async fn record(&self, key: &CallKey, answer: Answer) -> Result<Answer, Stopped> {
        self.port.ended(key, &answer).await.map_err(Stopped::Failed)?;
        Ok(answer)
    }

    /// The call needs a person.
    pub(super) fn park(&self, why: Why, reason: Fault) -> Stopped {
        Stopped::Park(Parking::at(&self.execution.pointer, why, reason))
    }

    pub(super) fn nondeterministic(&self, key: &CallKey) -> Parking {
        let fault = Fault::of_code(
            "nondeterministic-plugin",
            500,
            format!(
                "call {} of `{}` is not the one that it made before: the plugin does not repeat itself",
                key.ordinal, self.plugin
            ),
        );
        Parking::at(&self.execution.pointer, Why::Nondeterministic, fault)
    }

    /// Waits until nobody wants the call to go on, or `work` is done.
    pub(super) async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut wish = self.wish.clone();
        tokio::select! {
            biased;
            done = work => Some(done),
            _ = wish.wait_for(|w| *w != Wish::Run) => None,
        }
    }
}
