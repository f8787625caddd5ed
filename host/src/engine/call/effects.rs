//! A guest's calls: allowed? recorded? budget? intent, Slack, outcome (semantics 1).

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bellhop_core::digest::Digest;
use bellhop_core::fault::Fault;
use bellhop_core::id::RunId;
use bellhop_core::mask::Mask;
use bellhop_core::preflight::{CallQuestion, judge_call};
use bellhop_core::requirement::Grant;
use bellhop_core::run::{Action, ExecutionKey};
use bellhop_slack::catalog::Method;
use bellhop_slack::client::{Failure, Unknown};
use bellhop_slack::limiter::{Lane, Limiter};
use bellhop_slack::reconcile;
use futures_util::future::BoxFuture;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::deeds::Deeds;
use super::stamp::{request_text, sends_again, stamp};
use super::{answer, channels};
use crate::engine::Services;
use crate::engine::driver::Wish;
use crate::engine::execution::{Answer, CallKey, End, Execution, How, Intent, StepKey};
use crate::engine::gateway::{Connected, SlackClock};
use crate::engine::waiting::{Activity, Place, Turn, Wait, Wanted};
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
    /// What this attempt has done.
    pub(super) deeds: Arc<Deeds>,
    /// The guest does again what an earlier life has on record, and has not come to the end of that.
    pub(super) replays: AtomicBool,
    /// What nobody is shown.
    pub(super) mask: Mask,
}

/// Why an action's guest did not get to its end.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one an action, moved up a few callers")]
pub(super) enum Stopped {
    /// A person has to decide.
    Park(Fault),
    /// The process is stopping, or nobody waits for the action any more.
    PutDown,
    /// The journal failed.
    Failed(crate::engine::execution::Error),
}

/// The sandbox's view of a [`Scope`].
pub(super) struct Calls<E> {
    scope: Arc<Scope<E>>,
    first: u32,
    made: Arc<AtomicU32>,
    answers_bytes: u64,
    answers_bytes_max: u64,
}

impl<E> Calls<E> {
    /// Calls numbered from `first` on, with at most so many bytes of answers.
    pub(super) fn new(scope: Arc<Scope<E>>, first: u32, answers_bytes_max: u64) -> Self {
        Self { scope, first, made: Arc::new(AtomicU32::new(0)), answers_bytes: 0, answers_bytes_max }
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
            match scope.clone().call(function, &arguments, ordinal).await {
                Ok(result) => {
                    let bytes = result.as_ref().map_or_else(String::len, String::len) as u64;
                    self.answers_bytes += bytes;
                    if self.answers_bytes > self.answers_bytes_max {
                        let message = format!(
                            "the answers of this action have more than {} bytes together: answer `again` earlier",
                            self.answers_bytes_max
                        );
                        return Ok(Err(answer::error("answer-too-large", &message, "fatal", None, None)));
                    }
                    Ok(result)
                }
                Err(stopped) => {
                    let reason = match &stopped {
                        Stopped::Park(_) => "parked",
                        Stopped::PutDown => "put down",
                        Stopped::Failed(_) => "the journal failed",
                    };
                    *scope.halted.lock().unwrap_or_else(PoisonError::into_inner) = Some(stopped);
                    Err(Halt { reason })
                }
            }
        })
    }

    fn log(&mut self, level: &str, text: &str) {
        tracing::info!(target: "bellhop::plugin", run = %self.scope.run, task = %self.scope.execution,
            plugin = %self.scope.plugin, level, "{}", self.scope.mask.text(text));
    }
}

impl<E: Execution> Scope<E> {
    async fn call(
        self: Arc<Self>,
        function: &str,
        text: &str,
        ordinal: u32,
    ) -> Result<Result<String, String>, Stopped> {
        let catalog = self.services.gateway.catalog;
        let Some(method) = catalog.by_function(function) else {
            return Ok(Err(answer::error("method-unknown", &format!("there is no `{function}`"), "fatal", None, None)));
        };
        let arguments: Value = match serde_json::from_str(text) {
            Ok(value @ Value::Object(_)) => value,
            Ok(_) => {
                return Ok(Err(answer::error(
                    "invalid-arguments",
                    "the arguments are not an object",
                    "fatal",
                    None,
                    None,
                )));
            }
            Err(error) => {
                let message = format!("the arguments are not JSON: {error}");
                return Ok(Err(answer::error("invalid-arguments", &message, "fatal", None, None)));
            }
        };
        let hash = Digest::of(request_text(function, &arguments).as_bytes()).to_string();
        let key = CallKey { execution: self.execution.clone(), attempt: self.attempt, ordinal };
        if reconcile::tells_what_was_before(method) {
            let answered = self.clone().answered(method, arguments.clone(), key, hash).await;
            if let Ok(Ok(text)) = &answered {
                let body = serde_json::from_str(text).unwrap_or(Value::Null);
                *self.before.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some((method.name.as_str(), arguments, body));
            }
            return answered;
        }
        self.answered(method, arguments, key, hash).await
    }

    /// From the record, or by the host's refusal, or by Slack.
    async fn answered(
        self: Arc<Self>,
        method: &'static Method,
        arguments: Value,
        key: CallKey,
        hash: String,
    ) -> Result<Result<String, String>, Stopped> {
        let function = method.function.as_str();
        // What is recorded is answered from the record: it was judged and done when it was recorded.
        let (kept, open) = self.look(&key).await?;
        if let Some(answer) = kept {
            if answer.hash != hash && !planted(Plant::IgnoreHash) {
                return Err(Stopped::Park(self.nondeterministic(&key)));
            }
            self.deeds.note(&answer);
            return Ok(answer.result);
        }
        self.replays.store(false, Ordering::Relaxed);
        if open {
            // It was judged before it was sent, and what has changed since does not unsend it.
            return self.begin(method, arguments, key, hash).await;
        }
        if let Some(earlier) = self.earlier_success(&key, method, &hash).await? {
            self.deeds.note(&earlier);
            let answer = Answer { how: How::Reused, ..earlier };
            self.deeds.note(&answer);
            return self.record(&key, answer).await.map(|a| a.result);
        }
        let names = channels::names(&self, method, &arguments, key.ordinal).await?;
        let question = CallQuestion {
            action: &self.action.manifest,
            plugin: &self.plugin,
            function,
            connection: &self.connection.facts,
            rules: &self.services.gateway.rules,
            grants: &self.grants,
            arguments: &arguments,
            names: &names,
            now: self.port.now(),
        };
        if let Err(diagnostic) = judge_call(&question) {
            let refused = Err(answer::refusal(&diagnostic));
            let answer =
                Answer { hash, function: function.to_owned(), writes: false, result: refused, how: How::Denied };
            return self.record(&key, answer).await.map(|a| a.result);
        }
        self.begin(method, arguments, key, hash).await
    }

    async fn begin(
        self: Arc<Self>,
        method: &'static Method,
        arguments: Value,
        key: CallKey,
        hash: String,
    ) -> Result<Result<String, String>, Stopped> {
        if !method.writes {
            return self.perform(method, arguments, key, hash).await;
        }
        // A write goes on when the guest is dropped: a call that was sent is never abandoned.
        let (tell, told) = tokio::sync::oneshot::channel();
        let scope = self.clone();
        let task = tokio::spawn(async move {
            let ended = scope.perform(method, arguments, key, hash).await;
            // The guest may be gone; the outcome is on record all the same, or there is none.
            tell.send(ended).err().and_then(Result::err)
        });
        *self.on_its_way.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        let ended = told.await.unwrap_or(Err(Stopped::PutDown));
        self.on_its_way.lock().unwrap_or_else(PoisonError::into_inner).take();
        ended
    }

    pub(super) async fn kept(&self, key: &CallKey) -> Result<Option<Answer>, Stopped> {
        Ok(self.look(key).await?.0)
    }

    /// What is kept under `key`, and whether an intent is that has no end.
    async fn look(&self, key: &CallKey) -> Result<(Option<Answer>, bool), Stopped> {
        let step = StepKey::Call(key.clone());
        let open = AtomicBool::new(false);
        let looked = self.port.step::<Answer, _, _>(&step, None, |intent| {
            open.store(intent.is_some(), Ordering::Relaxed);
            async { End::Stopped }
        });
        match looked.await {
            Ok(End::Done(answer)) => Ok((Some(answer), false)),
            Ok(_) => Ok((None, open.load(Ordering::Relaxed))),
            Err(error) => Err(Stopped::Failed(error)),
        }
    }

    /// Whether an earlier life has anything of this attempt on record from the call `first` on. Calls come onto it in their
    /// order, so the first one tells.
    pub(super) async fn is_on_record(&self, first: u32) -> Result<bool, Stopped> {
        let key = CallKey { execution: self.execution.clone(), attempt: self.attempt, ordinal: first };
        let (kept, open) = self.look(&key).await?;
        Ok(kept.is_some() || open)
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
        let step = StepKey::Call(key.clone());
        match self.port.step(&step, None, |_| async move { End::Done(answer) }).await {
            Ok(End::Done(answer)) => Ok(answer),
            Ok(_) => Err(Stopped::PutDown),
            Err(error) => Err(Stopped::Failed(error)),
        }
    }

    /// The answer of an earlier attempt that did the same already (semantics 1, "Retry").
    async fn earlier_success(&self, key: &CallKey, method: &Method, hash: &str) -> Result<Option<Answer>, Stopped> {
        if !method.writes {
            return Ok(None);
        }
        for attempt in (1..self.attempt).rev() {
            let (kept, open) = self.look(&CallKey { attempt, ..key.clone() }).await?;
            if open {
                // A person had it tried again though nobody knows what became of it.
                let mut fault = Fault::of_code(
                    "outcome-unknown",
                    500,
                    format!("{} was sent in attempt {attempt}, and what became of it is not known", method.name),
                );
                fault.instance = Some(self.execution.pointer.clone());
                return Err(Stopped::Park(fault));
            }
            let Some(earlier) = kept.filter(|_| !planted(Plant::UndoAgain)) else { continue };
            if !earlier.writes || earlier.result.is_err() {
                continue;
            }
            // The hash is of the function's name too.
            if earlier.hash == hash || planted(Plant::IgnoreHash) {
                return Ok(Some(earlier));
            }
            if self.retry_again {
                return Ok(None);
            }
            let mut fault = Fault::of_code(
                "retry-differs",
                409,
                format!(
                    "{} succeeded with other arguments in attempt {attempt}, and doing it again may do it twice",
                    method.name
                ),
            );
            fault.instance = Some(self.execution.pointer.clone());
            return Err(Stopped::Park(fault));
        }
        Ok(None)
    }

    pub(super) fn nondeterministic(&self, key: &CallKey) -> Fault {
        let mut fault = Fault::of_code(
            "nondeterministic-plugin",
            500,
            format!(
                "call {} of `{}` is not the one that it made before: the plugin does not repeat itself",
                key.ordinal, self.plugin
            ),
        );
        fault.instance = Some(self.execution.pointer.clone());
        fault
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

    /// Queues for Slack's budget; false when the call is to stop instead.
    async fn has_budget(
        &self,
        method: &Method,
        arguments: &Value,
        place: &Place,
        attempts: u64,
    ) -> Result<bool, Stopped> {
        if *self.wish.borrow() != Wish::Run {
            return Ok(false);
        }
        let lane = if self.fast { Lane::Fast } else { Lane::Slow };
        let limiter = &self.services.gateway.limiter;
        let reservation = limiter
            .reserve(method, arguments, self.connection.owner(), self.run, lane)
            .map_err(|full| Stopped::Park(Fault::of_code("rate-limited", 429, full.to_string())))?;
        if reservation.wait_ms() >= 1_000 {
            self.port.note(format!("{} waits about {} ms for Slack's budget", method.name, reservation.wait_ms()));
        }
        if reservation.wait_ms() == 0 {
            return Ok(self.unless_stopped(reservation.granted()).await.is_some());
        }
        let turn: Turn = Box::pin(async move { drop(reservation.granted().await) });
        Ok(self.waits(place, (Wanted::Turn, attempts), turn).await)
    }

    fn is_closed(&self, method: &Method, arguments: &Value) -> bool {
        let keys = Limiter::<SlackClock>::keys(method, arguments, self.connection.owner());
        keys.first().is_some_and(|key| self.services.gateway.limiter.closed(key).is_some())
    }

    /// Waits for a turn; false when the call is to stop instead.
    async fn waits(&self, place: &Place, wanted: (Wanted, u64), turn: Turn) -> bool {
        let wait = Wait::new(&self.activity, &self.wish, place.clone(), wanted, turn);
        self.unless_stopped(wait).await.is_some()
    }

    async fn perform(
        self: Arc<Self>,
        method: &'static Method,
        arguments: Value,
        key: CallKey,
        hash: String,
    ) -> Result<Result<String, String>, Stopped> {
        let step = StepKey::Call(key.clone());
        let again = method.writes && sends_again(self.port.as_ref(), &key).await.map_err(Stopped::Failed)?;
        let stamp = stamp(self.run, &key, again);
        let stamped = match reconcile::stamp(method, &arguments, &stamp) {
            Ok(stamped) => stamped,
            Err(unstampable) => {
                let result = Err(answer::error("invalid-arguments", &unstampable.to_string(), "fatal", None, None));
                let answer =
                    Answer { hash, function: method.function.clone(), writes: false, result, how: How::Denied };
                return self.record(&key, answer).await.map(|a| a.result);
            }
        };
        let place = Place::Call(key.clone());
        // The run may have been put down while this call waited.
        let mut held = self.services.waiting.claim(self.run, &place);
        let mut attempts = held.as_ref().map_or(0, |held| held.attempts);
        loop {
            if let Some(backoff) = held.take_if(|held| held.wanted == Wanted::Backoff)
                && !self.waits(&place, (Wanted::Backoff, attempts), backoff.turn()).await
            {
                return Err(Stopped::PutDown);
            }
            let may_send = match held.take() {
                Some(held) => {
                    let has_turn = self.waits(&place, (Wanted::Turn, attempts), held.turn()).await;
                    // It took the run some time to come back: Slack may want to be left alone since.
                    if has_turn && self.is_closed(method, &arguments) {
                        self.has_budget(method, &arguments, &place, attempts).await?
                    } else {
                        has_turn
                    }
                }
                None => self.has_budget(method, &arguments, &place, attempts).await?,
            };
            let intent = (method.writes && may_send).then(|| Intent {
                hash: hash.clone(),
                at: self.port.now(),
                function: method.function.clone(),
                connection: self.connection.facts.name.clone(),
            });
            let end = self
                .port
                .step(&step, intent, |open| {
                    let (scope, stamped, hash, stamp) = (self.clone(), &stamped, hash.clone(), &stamp);
                    let (arguments, key) = (&arguments, key.clone());
                    async move {
                        match open {
                            Some(intent) => {
                                let since = scope.services.began;
                                scope.resolve(method, arguments, &intent, stamp, since, &key, hash).await
                            }
                            None if !may_send => End::Stopped,
                            None => scope.send(method, arguments, stamped, stamp, &key, hash).await,
                        }
                    }
                })
                .await
                .map_err(Stopped::Failed)?;
            match end {
                End::Done(answer) => {
                    self.deeds.note(&answer);
                    return Ok(answer.result);
                }
                End::Doubt(fault) => return Err(Stopped::Park(fault)),
                End::Stopped => return Err(Stopped::PutDown),
                End::NotSent { reason, retry_at } => {
                    attempts += 1;
                    if attempts >= self.services.limits.slack_attempts_max {
                        let detail = format!("{} was not carried out in {attempts} attempts: {reason}", method.name);
                        let mut fault = Fault::of_code("slack-unavailable", 503, detail);
                        fault.instance = Some(self.execution.pointer.clone());
                        return Err(Stopped::Park(fault));
                    }
                    let backoff = 250_u64
                        .checked_shl(u32::try_from(attempts).unwrap_or(u32::MAX))
                        .unwrap_or(u64::MAX)
                        .min(self.services.limits.slack_backoff_ms_max);
                    let jittered = backoff / 2 + self.port.entropy() % (backoff / 2 + 1);
                    let now = self.port.now();
                    let at = retry_at.map_or_else(|| now.plus_millis(jittered), |at| at.max(now));
                    self.port.note(format!("{} is tried again at {at}: {reason}", method.name));
                    let clock = self.services.clock.clone();
                    let backoff: Turn = Box::pin(async move { clock.sleep_until(at).await });
                    if !self.waits(&place, (Wanted::Backoff, attempts), backoff).await {
                        return Err(Stopped::PutDown);
                    }
                }
            }
        }
    }

    /// Sends, and resolves what came of it if that cannot be told.
    async fn send(
        &self,
        method: &'static Method,
        arguments: &Value,
        stamped: &Value,
        stamp: &str,
        key: &CallKey,
        hash: String,
    ) -> End<Answer> {
        let at = self.port.now();
        let sent = self.services.gateway.send(&self.connection, method, stamped).await;
        match sent {
            Ok(answered) => {
                let result = answer::to_guest(method, &answered, self.services.limits.guest_answer_bytes_max);
                End::Done(Answer {
                    hash,
                    function: method.function.clone(),
                    writes: method.writes,
                    result,
                    how: self.deeds.how_sent(),
                })
            }
            Err(Failure::NotSent { reason, retry_after_ms }) if reason.may_succeed_later() => End::NotSent {
                reason: reason.to_string(),
                retry_at: retry_after_ms
                    .filter(|_| !planted(Plant::IgnoreRetryAfter))
                    .map(|ms| self.port.now().plus_millis(ms)),
            },
            Err(Failure::NotSent { reason, .. }) => {
                let result = Err(answer::error("invalid-arguments", &reason.to_string(), "fatal", None, None));
                End::Done(Answer { hash, function: method.function.clone(), writes: false, result, how: How::Denied })
            }
            Err(Failure::Unknown { reason }) if !method.writes => {
                if let Unknown::TooLarge { .. } = reason {
                    let message = format!("{reason}: ask for smaller pages");
                    let result = Err(answer::error("answer-too-large", &message, "fatal", None, None));
                    return End::Done(Answer {
                        hash,
                        function: method.function.clone(),
                        writes: false,
                        result,
                        how: How::Sent,
                    });
                }
                // A read may simply be asked again.
                End::NotSent { reason: reason.to_string(), retry_at: None }
            }
            Err(Failure::Unknown { reason }) => {
                self.port.note(format!("{} was sent and its outcome is unknown: {reason}", method.name));
                let intent = Intent {
                    hash: hash.clone(),
                    at,
                    function: method.function.clone(),
                    connection: self.connection.facts.name.clone(),
                };
                self.resolve(method, arguments, &intent, stamp, self.services.clock.monotonic(), key, hash).await
            }
        }
    }
}
