//! A call's way to Slack: budget, intent, the sending itself, and when it is tried again (semantics 1).

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bellhop_core::backoff::Backoff;
use bellhop_core::fault::Fault;
use bellhop_core::run::Why;
use bellhop_core::time::Timestamp;
use bellhop_slack::catalog::Method;
use bellhop_slack::client::{self as slack, Failure, Unknown};
use bellhop_slack::limiter::{Lane, Limiter, Reservation};
use bellhop_slack::reconcile;
use serde_json::Value;

use super::answer;
use super::attempt::Attempt;
use super::came::{Came, Sent, Whom};
use super::named::Named;
use super::request::Request;
use super::scope::{Scope, Stopped};
use super::stamp::{sends_again, stamp};
use crate::execution::invoker::Wish;
use crate::execution::{Answer, CallKey, Called, Error, Execution, How, NotSent};
use crate::gateway::SlackClock;
use crate::waiting::{Held, Place, Progress, Turn, Wait, Wanted};
use bellhop_journal::Instead;

/// The wait after a call's first failure; see [`Backoff`].
const BACKOFF_FIRST_MS: u64 = 500;

/// A turn at Slack's budget, in as little memory as it takes.
struct Budget(Reservation<SlackClock>);

impl Future for Budget {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(context).map(drop)
    }
}

impl<E: Execution> Scope<E> {
    /// Queues for Slack's budget; false when the call is to stop instead.
    async fn has_budget(
        &self,
        Request { method, arguments, .. }: &Request,
        place: &Place,
        progress: Progress,
    ) -> Result<bool, Stopped> {
        if self.wish() != Wish::Run {
            return Ok(false);
        }
        let lane = if self.fast { Lane::Fast } else { Lane::Slow };
        let limiter = &self.services.gateway.limiter;
        let reservation = limiter
            .reserve(method, arguments, self.connection.owner(), self.run, lane)
            .map_err(|full| self.park(Why::Unavailable, Fault::of_code("rate-limited", full.to_string())))?;
        self.services.counters.budget_waits.observe(Duration::from_millis(reservation.wait_ms()).as_secs_f64());
        if reservation.wait_ms() >= 1_000 {
            self.port.note(format!("{} waits about {} ms for Slack's budget", method.name, reservation.wait_ms()));
        }
        if reservation.wait_ms() == 0 {
            return Ok(self.unless_stopped(reservation).await.is_some());
        }
        let turn: Turn = Box::pin(Budget(reservation));
        Ok(self.waits(place, (Wanted::Turn, progress), turn).await)
    }

    /// Since when a write of which nothing is on record may have been sent all the same: the records of that were lost, because
    /// the folder was restored from a backup. None once it was found out, or a person said, that it was not carried out.
    fn perhaps_lost(&self, key: &CallKey) -> Option<Timestamp> {
        let doubt = self.services.restored.doubt(self.run)?;
        let is_settled = self.port.reopened_at(key).is_some_and(|at| at >= doubt.settled_from);
        (!is_settled).then_some(doubt.since)
    }

    fn is_closed(&self, Request { method, arguments, .. }: &Request) -> bool {
        let keys = Limiter::<SlackClock>::keys(method, arguments, self.connection.owner());
        keys.first().is_some_and(|key| self.services.gateway.limiter.closed(key).is_some())
    }

    /// Waits for a turn; false when the call is to stop instead.
    async fn waits(&self, place: &Place, wanted: (Wanted, Progress), turn: Turn) -> bool {
        let wait = Wait::new(&self.activity, &self.wish, place.clone(), wanted, turn);
        self.unless_stopped(wait).await.is_some()
    }

    /// Waits until it is time to try again; false when the call is to stop instead.
    async fn backs_off(&self, place: &Place, progress: Progress, at: Timestamp) -> bool {
        let clock = self.services.clock.clone();
        let backoff: Turn = Box::pin(async move { clock.sleep_until(at).await });
        self.waits(place, (Wanted::Backoff, progress), backoff).await
    }

    /// Waits until it is time to read back again. What was sent is followed to its end also when nobody waits for the
    /// action any more, because only then is it known what the action has changed. Only so many of these stay in memory;
    /// for others a person looks.
    async fn stays_in_doubt(
        &self,
        request: &Request,
        (place, progress): (&Place, Progress),
        (reason, at): (&str, Timestamp),
    ) -> Result<(), Stopped> {
        if self.backs_off(place, progress, at).await {
            return Ok(());
        }
        if self.wish() == Wish::PutDown {
            return Err(Stopped::PutDown);
        }
        let mut drain = self.services.drain.subscribe();
        if *drain.borrow_and_update() {
            return Err(Stopped::Unread);
        }
        let Some(_lingering) = self.services.partition.waiting.lingers(&self.services.limits) else {
            return Err(Stopped::Park(self.unknown(request, reason)));
        };
        tokio::select! {
            biased;
            _ = drain.wait_for(|drain| *drain) => Err(Stopped::Unread),
            () = self.services.clock.sleep_until(at) => Ok(()),
        }
    }

    /// Waits until somebody else has read a list, as what waits for its turn does: the run may be put down meanwhile.
    pub(super) async fn waits_for_list(&self, key: &CallKey, read: Turn) -> Result<(), Stopped> {
        let place = Place::Call(key.clone());
        // What it waited for in an earlier life is not what it waits for now.
        drop(self.services.partition.waiting.claim(self.run, &place));
        let progress = Progress::default();
        if self.waits(&place, (Wanted::Backoff, progress), read).await {
            Ok(())
        } else {
            Err(self.puts_down(&place, progress))
        }
    }

    /// When to try again after so many failures in a row, and not before what Slack said.
    fn again_at(&self, failures: u64, not_before: Option<Timestamp>) -> Timestamp {
        let backoff = Backoff { first_ms: BACKOFF_FIRST_MS, max_ms: self.services.limits.slack_backoff_ms_max };
        backoff.next(self.port.now(), failures, not_before, self.port.entropy())
    }

    /// Too many attempts came to nothing.
    fn unavailable(&self, method: &Method, attempts: u64, reason: &str) -> Stopped {
        let detail = format!("{} was not carried out in {attempts} attempts: {reason}", method.name);
        self.park(Why::Unavailable, Fault::of_code("slack-unavailable", detail))
    }

    /// Sends a read of the host's own that the call `key` needs, and waits while that cannot be done, as a call of the
    /// guest does. The failure that is given is one that does not pass.
    pub(super) async fn read_for(
        &self,
        key: &CallKey,
        method: &Method,
        arguments: &Value,
    ) -> Result<Result<slack::Answer, Failure>, Stopped> {
        let place = Place::Call(key.clone());
        let mut progress = Progress::default();
        if let Some(held) = self.services.partition.waiting.claim(self.run, &place) {
            progress = held.progress;
            if !self.waits(&place, (Wanted::Backoff, progress), held.turn()).await {
                return Err(Stopped::PutDown);
            }
        }
        loop {
            let read = self.services.gateway.read(&self.connection, method, arguments, self.run);
            // Nothing of the call has begun: there is nothing to bring to an end.
            let read = self.unless_stopped(read).await.ok_or_else(|| self.puts_down(&place, progress))?;
            let failure = match read {
                Err(failure) if failure.may_pass() => failure,
                read => return Ok(read),
            };
            progress.sends += 1;
            if progress.sends >= self.services.limits.slack_attempts_max {
                return Err(self.unavailable(method, progress.sends, &failure.to_string()));
            }
            let at = self.again_at(progress.sends, failure.retry_after_ms().map(|ms| self.port.now().plus_millis(ms)));
            self.port.note(format!("{} is tried again at {at}: {failure}", method.name));
            if !self.backs_off(&place, progress, at).await {
                return Err(self.puts_down(&place, progress));
            }
        }
    }

    /// The call leaves memory; how often it was tried is kept, also where it waits for nothing.
    fn puts_down(&self, place: &Place, progress: Progress) -> Stopped {
        if self.wish() == Wish::PutDown && progress != Progress::default() && !self.drains() {
            self.services.partition.waiting.keep_progress(self.run, place, progress);
        }
        Stopped::PutDown
    }

    /// What was kept for a call while its run was put down is not waited for any more: the call got on without it. What is
    /// left would look as if the call still waited.
    pub(super) fn gives_up_turn(&self, key: &CallKey) {
        drop(self.services.partition.waiting.claim(self.run, &Place::Call(key.clone())));
    }

    /// Waits for the turn to send, from where an earlier life of the driver left off; false when the call is to stop.
    async fn has_turn(
        &self,
        request: &Request,
        place: &Place,
        progress: Progress,
        held: Option<Held>,
    ) -> Result<bool, Stopped> {
        let Some(held) = held else { return self.has_budget(request, place, progress).await };
        let has_turn = self.waits(place, (Wanted::Turn, progress), held.turn()).await;
        // It took the run some time to come back: Slack may want to be left alone since.
        if has_turn && self.is_closed(request) { self.has_budget(request, place, progress).await } else { Ok(has_turn) }
    }

    /// Whether it is still tried to find out what became of a call.
    fn is_patient(&self, progress: Progress) -> bool {
        let patience = Duration::from_millis(self.services.limits.read_back_ms_max);
        let now = self.services.clock.monotonic();
        progress.in_doubt_since.is_none_or(|since| now.saturating_sub(since) < patience)
    }

    /// Sends, and resolves what came of it if that cannot be told.
    async fn send(
        &self,
        request: &Request,
        (stamped, stamp): (&Value, &str),
        whom: &Whom,
        before: Option<Value>,
    ) -> Came {
        let method = request.method;
        let at = self.port.now();
        let sent = self.services.gateway.send(&self.connection, whom.token, method, stamped).await;
        match sent {
            Ok(answered) => {
                if let Some(refused) = self.refused(method, &answered, whom) {
                    return refused;
                }
                if let Some(named) = method.changes_names_of().and_then(Named::of).filter(|_| answered.ok) {
                    let facts = &self.connection.facts;
                    self.services.names.changed(facts, named, &answered.body, self.monotonic());
                }
                let result = answer::to_guest(method, &answered, self.guests.answer_bytes_max);
                let result = match &whom.refused {
                    Some(first) => answer::once_more(method, first, &answered, result),
                    None => result,
                };
                Came::Answered(Answer { token: whom.token, ..request.answer(result, How::Sent) })
            }
            Err(Failure::NotSent { reason, retry_after_ms }) if reason.may_succeed_later() => {
                Came::not_sent(reason.to_string(), retry_after_ms.map(|ms| self.port.now().plus_millis(ms)))
            }
            Err(Failure::NotSent { reason, .. }) => {
                Came::Answered(request.refused("invalid-arguments", &format!("{}: {reason}", method.name)))
            }
            Err(Failure::Unknown { reason: reason @ Unknown::TooLarge { .. } }) if !method.writes => {
                let message = format!("{}: {reason}: ask for smaller pages", method.name);
                let error = answer::error("answer-too-large", &message, "fatal", None, None);
                Came::Answered(Answer { token: whom.token, ..request.answer(Err(error), How::Sent) })
            }
            // A read may simply be asked again.
            Err(Failure::Unknown { reason }) if !method.writes => Came::not_sent(reason.to_string(), None),
            Err(Failure::Unknown { reason }) => {
                self.port.note(format!("{} was sent and its outcome is unknown: {reason}", method.name));
                let intent = request.intent(&self.connection.facts.name, at, whom.token);
                let ended = self.monotonic();
                self.resolve(request, Sent { intent: &intent, stamp, ended, patient: true, before }).await
            }
        }
    }

    /// As whom a call goes out that has no end. What was refused to one token goes on by the other, in whichever life of the
    /// process: each would begin anew otherwise, and a run that is put down while it waits would come no further.
    fn goes_out_as(&self, Request { method, key, .. }: &Request) -> Whom {
        let may = |instead: &Instead| self.token.is_none() && self.connection.may(method, instead.token);
        match self.port.instead(key).filter(may) {
            Some(Instead { token, refused }) => {
                Whom { token: Some(token), refused: Some(answer::refused_with(method, &refused)) }
            }
            None => Whom { token: self.connection.whom(method, self.token), refused: None },
        }
    }

    /// Where Slack refused it as a matter of policy, and the connection has a token that may: by which one it goes out once
    /// more. What a file says of the token is the last word.
    fn refused(&self, method: &Method, answered: &slack::Answer, whom: &Whom) -> Option<Came> {
        let error = answered.error.as_deref().filter(|_| !answered.ok && method.writes && self.token.is_none())?;
        let next = self.connection.instead(method, whom.token, error)?;
        let refusal = answer::to_guest(method, answered, self.guests.answer_bytes_max).err()?;
        Some(Came::Refused { refusal, error: error.to_owned(), next })
    }
}

impl<E: Execution> Attempt<E> {
    /// Sends until there is an answer, nobody wants it any more, or a person has to look.
    pub(super) async fn perform(&mut self, request: Request) -> Result<Result<String, String>, Stopped> {
        let scope = &self.scope;
        let Request { method, arguments, key, .. } = &request;
        let again = method.writes && sends_again(scope.port.as_ref(), key).await.map_err(Stopped::Failed)?;
        let stamp = stamp(scope.run, key, again);
        let stamped = match reconcile::stamp(method, arguments, &stamp) {
            Ok(stamped) => stamped,
            Err(unstampable) => {
                let refused = request.refused("invalid-arguments", &unstampable.to_string());
                return scope.record(key, refused).await.map(|a| a.result);
            }
        };
        let place = Place::Call(key.clone());
        // What was sent before is not sent again before it is known what became of it.
        let mut in_doubt = method.writes && scope.look(key).await?.1.is_some();
        // The run may have been put down while this call waited.
        let mut held = scope.services.partition.waiting.claim(scope.run, &place);
        let mut progress = held.as_ref().map_or_else(Progress::default, |held| held.progress);
        if let Some(backoff) = held.take_if(|held| held.wanted == Wanted::Backoff)
            && !scope.waits(&place, (Wanted::Backoff, progress), backoff.turn()).await
            && !(in_doubt && scope.wish() == Wish::Stop)
        {
            return Err(Stopped::PutDown);
        }
        let mut whom = scope.goes_out_as(&request);
        loop {
            if in_doubt && scope.drains() {
                return Err(Stopped::Unread);
            }
            let may_send = !in_doubt && scope.has_turn(&request, &place, progress, held.take()).await?;
            if may_send || in_doubt {
                scope.activity.goes_on();
            }
            let coming = self.comes(&request, (&stamped, &stamp), Some(&whom).filter(|_| may_send), progress);
            // A write that was sent comes to its end. A read may be left.
            let came = if method.writes { Some(coming.await) } else { scope.unless_stopped(coming).await };
            in_doubt = false;
            match came.transpose().map_err(Stopped::Failed)? {
                Some(Came::Answered(answer)) => {
                    self.deeds.note(&answer);
                    return Ok(answer.result);
                }
                // It is no failure: nothing is waited for but the budget.
                Some(Came::Refused { refusal, next, .. }) => {
                    whom = Whom { token: Some(next), refused: Some(refusal) };
                }
                Some(Came::Doubt(parking)) => return Err(Stopped::Park(parking)),
                Some(Came::Stopped) | None => return Err(scope.puts_down(&place, progress)),
                Some(Came::NotSent(NotSent { reason, retry_at, repeats, .. })) => {
                    if repeats {
                        self.deeds.note_repeated();
                    }
                    progress = Progress { sends: progress.sends + 1, ..Progress::default() };
                    if progress.sends >= scope.services.limits.slack_attempts_max {
                        return Err(scope.unavailable(method, progress.sends, &reason));
                    }
                    let at = scope.again_at(progress.sends, retry_at);
                    scope.port.note(format!("{} is tried again at {at}: {reason}", method.name));
                    if !scope.backs_off(&place, progress, at).await {
                        return Err(scope.puts_down(&place, progress));
                    }
                }
                Some(Came::Unread { reason, retry_at }) => {
                    in_doubt = true;
                    progress.in_doubt_since.get_or_insert_with(|| scope.monotonic());
                    progress.reads += 1;
                    let at = scope.again_at(progress.reads, retry_at);
                    scope.port.note(format!("what became of {} is looked for again at {at}: {reason}", method.name));
                    scope.stays_in_doubt(&request, (&place, progress), (&reason, at)).await?;
                }
            }
        }
    }

    /// Asks what there is of the call, finds out what became of one that is open, sends one that is new, as `whom` if it may
    /// be sent, and keeps what came of it.
    async fn comes(
        &self,
        request: &Request,
        (stamped, stamp): (&Value, &str),
        whom: Option<&Whom>,
        progress: Progress,
    ) -> Result<Came, Error> {
        let (scope, key) = (&self.scope, &request.key);
        let before = || self.calls.before(request.method, &request.arguments);
        let came = match (scope.port.called(key).await?, whom) {
            (Called::Ended(answer), _) => return Ok(Came::Answered(answer)),
            (Called::Open(intent), _) => {
                // What this life has not sent itself had ended before it began.
                let ended = progress.in_doubt_since.unwrap_or(self.calls.began);
                let patient = scope.is_patient(progress);
                scope.resolve(request, Sent { intent: &intent, stamp, ended, patient, before: before() }).await
            }
            (Called::New, None) => return Ok(Came::Stopped),
            (Called::New, Some(whom)) if !request.method.writes => {
                scope.send(request, (stamped, stamp), whom, None).await
            }
            (Called::New, Some(whom)) => {
                let lost = scope.perhaps_lost(key);
                let at = lost.unwrap_or_else(|| scope.port.now());
                let token = match lost {
                    // It may have gone out as one or another.
                    Some(_) => scope.connection.surely(request.method, scope.token),
                    None => whom.token,
                };
                let intent = request.intent(&scope.connection.facts.name, at, token);
                if !scope.port.intend(key, intent.clone()).await? {
                    return Ok(Came::Stopped);
                }
                if lost.is_none() {
                    scope.send(request, (stamped, stamp), whom, before()).await
                } else {
                    scope
                        .port
                        .note(format!("{} was perhaps sent after the backup: it is read back", request.method.name));
                    // The process that sent it ended before the folder was restored.
                    let ended = scope.services.partition.quiet_from;
                    scope
                        .resolve(request, Sent { intent: &intent, stamp, ended, patient: true, before: before() })
                        .await
                }
            }
        };
        match &came {
            Came::Answered(answer) => scope.port.ended(key, answer).await?,
            Came::NotSent(why) => scope.port.not_sent(key, why).await?,
            Came::Refused { error, next, .. } => {
                let reason = format!("Slack answered `{error}` to the bot token: it goes out by the {next} token");
                scope.port.note(format!("{}: {reason}", request.method.name));
                let instead = Some(Instead { token: *next, refused: error.clone() });
                let why = NotSent { reason, retry_at: Some(scope.port.now()), repeats: false, instead };
                scope.port.not_sent(key, &why).await?;
            }
            Came::Doubt(_) | Came::Unread { .. } | Came::Stopped => {}
        }
        Ok(came)
    }
}
