//! A call's way to Slack: budget, intent, the sending itself, and when it is tried again (semantics 1).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bellhop_core::fault::Fault;
use bellhop_core::run::Why;
use bellhop_slack::client::{Failure, Unknown};
use bellhop_slack::limiter::{Lane, Limiter, Reservation};
use bellhop_slack::reconcile;
use serde_json::Value;

use super::answer;
use super::effects::{Scope, Stopped};
use super::request::Request;
use super::stamp::{sends_again, stamp};
use crate::engine::driver::Wish;
use crate::engine::execution::{Answer, End, Execution, How, StepKey};
use crate::engine::gateway::SlackClock;
use crate::engine::waiting::{Place, Turn, Wait, Wanted};
use crate::faults::{Plant, planted};

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
        attempts: u64,
    ) -> Result<bool, Stopped> {
        if *self.wish.borrow() != Wish::Run {
            return Ok(false);
        }
        let lane = if self.fast { Lane::Fast } else { Lane::Slow };
        let limiter = &self.services.gateway.limiter;
        let reservation = limiter
            .reserve(method, arguments, self.connection.owner(), self.run, lane)
            .map_err(|full| self.park(Why::Unavailable, Fault::of_code("rate-limited", 429, full.to_string())))?;
        if reservation.wait_ms() >= 1_000 {
            self.port.note(format!("{} waits about {} ms for Slack's budget", method.name, reservation.wait_ms()));
        }
        if reservation.wait_ms() == 0 {
            return Ok(self.unless_stopped(reservation).await.is_some());
        }
        let turn: Turn = Box::pin(Budget(reservation));
        Ok(self.waits(place, (Wanted::Turn, attempts), turn).await)
    }

    fn is_closed(&self, Request { method, arguments, .. }: &Request) -> bool {
        let keys = Limiter::<SlackClock>::keys(method, arguments, self.connection.owner());
        keys.first().is_some_and(|key| self.services.gateway.limiter.closed(key).is_some())
    }

    /// Waits for a turn; false when the call is to stop instead.
    async fn waits(&self, place: &Place, wanted: (Wanted, u64), turn: Turn) -> bool {
        let wait = Wait::new(&self.activity, &self.wish, place.clone(), wanted, turn);
        self.entrance.passed();
        self.unless_stopped(wait).await.is_some()
    }

    /// Sends until there is an answer, nobody wants it any more, or a person has to look.
    pub(super) async fn perform(self: Arc<Self>, request: Request) -> Result<Result<String, String>, Stopped> {
        let Request { method, arguments, key, .. } = &request;
        let step = StepKey::Call(key.clone());
        let again = method.writes && sends_again(self.port.as_ref(), key).await.map_err(Stopped::Failed)?;
        let stamp = stamp(self.run, key, again);
        let stamped = match reconcile::stamp(method, arguments, &stamp) {
            Ok(stamped) => stamped,
            Err(unstampable) => {
                let refused = request.refused("invalid-arguments", &unstampable.to_string());
                return self.record(key, refused).await.map(|a| a.result);
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
                    if has_turn && self.is_closed(&request) {
                        self.has_budget(&request, &place, attempts).await?
                    } else {
                        has_turn
                    }
                }
                None => self.has_budget(&request, &place, attempts).await?,
            };
            self.entrance.passed();
            if may_send {
                self.activity.goes_on();
            }
            let connection = &self.connection.facts.name;
            let intent = (method.writes && may_send).then(|| request.intent(connection, self.port.now()));
            let end = self
                .port
                .step(&step, intent, |open| async {
                    match open {
                        Some(intent) => self.resolve(&request, &intent, &stamp, self.services.began).await,
                        None if !may_send => End::Stopped,
                        None => self.send(&request, &stamped, &stamp).await,
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
                End::NotSent { reason, retry_at, .. } => {
                    attempts += 1;
                    if attempts >= self.services.limits.slack_attempts_max {
                        let detail = format!("{} was not carried out in {attempts} attempts: {reason}", method.name);
                        return Err(self.park(Why::Unavailable, Fault::of_code("slack-unavailable", 503, detail)));
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
    async fn send(&self, request: &Request, stamped: &Value, stamp: &str) -> End<Answer> {
        let method = request.method;
        let at = self.port.now();
        let sent = self.services.gateway.send(&self.connection, method, stamped).await;
        match sent {
            Ok(answered) => {
                let result = answer::to_guest(method, &answered, self.services.limits.guest_answer_bytes_max);
                End::Done(request.answer(result, How::Sent))
            }
            Err(Failure::NotSent { reason, retry_after_ms }) if reason.may_succeed_later() => {
                let wait_ms = retry_after_ms.filter(|_| !planted(Plant::IgnoreRetryAfter));
                End::not_sent(reason.to_string(), wait_ms.map(|ms| self.port.now().plus_millis(ms)))
            }
            Err(Failure::NotSent { reason, .. }) => {
                End::Done(request.refused("invalid-arguments", &reason.to_string()))
            }
            Err(Failure::Unknown { reason: reason @ Unknown::TooLarge { .. } }) if !method.writes => {
                let message = format!("{reason}: ask for smaller pages");
                let error = answer::error("answer-too-large", &message, "fatal", None, None);
                End::Done(request.answer(Err(error), How::Sent))
            }
            // A read may simply be asked again.
            Err(Failure::Unknown { reason }) if !method.writes => End::not_sent(reason.to_string(), None),
            Err(Failure::Unknown { reason }) => {
                self.port.note(format!("{} was sent and its outcome is unknown: {reason}", method.name));
                let intent = request.intent(&self.connection.facts.name, at);
                self.resolve(request, &intent, stamp, self.services.clock.monotonic()).await
            }
        }
    }
}
