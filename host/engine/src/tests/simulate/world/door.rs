//! The way to Slack of one life of a process, and what becomes of requests when that is stopped.

use std::sync::Arc;
use std::time::Duration;

use bellhop_slack::catalog::Method;
use bellhop_slack::client::network::{Cause, Fault};
use bellhop_slack::client::{Answer, Failure, NotSent, Unknown};
use futures_util::future::BoxFuture;
use serde_json::Value;

use super::super::super::dying::Dying;
use super::{LATE_MS_MAX, Lot, World, answer, bucket, name_of};
use crate::gateway::{Tenure, Way};

/// The way to Slack of one life of the process.
pub(in super::super) struct Door {
    pub(in super::super) world: Arc<World>,
    pub(in super::super) store: Arc<Dying>,
}

/// A fault of the network on the way to Slack.
fn fault(cause: Cause) -> Box<Fault> {
    Box::new(Fault::at("slack.example:443", cause))
}

/// A request that Slack has not taken up yet; when its process dies, it may still be.
struct OnItsWay<'a> {
    world: &'a World,
    number: u64,
}

impl OnItsWay<'_> {
    /// Slack takes it up; false where the connection has ended meanwhile.
    fn arrives(&self) -> bool {
        self.world.lock().on_their_way.remove(&self.number).is_some()
    }
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        let left = self.world.lock().on_their_way.remove(&self.number);
        self.world.cut(left);
    }
}

impl World {
    /// A request leaves. `late_ms` is when it is taken up if the connection ends before.
    fn sets_out(&self, method: &'static str, arguments: &Value, late_ms: Option<u64>) -> OnItsWay<'_> {
        let mut state = self.lock();
        // Each was counted when it left, so that no two have one number.
        let number = state.counts.requests;
        state.on_their_way.insert(number, (method, arguments.clone(), late_ms));
        OnItsWay { world: self, number }
    }

    /// The connections end of all requests that Slack has not taken up.
    pub(in super::super) fn cut_connections(&self) {
        let all = std::mem::take(&mut self.lock().on_their_way);
        self.cut(all.into_values());
    }

    fn cut(&self, requests: impl IntoIterator<Item = (&'static str, Value, Option<u64>)>) {
        let now = self.time.true_ms();
        let late = requests.into_iter().filter_map(|(method, arguments, ms)| Some((now + ms?, method, arguments)));
        let late: Vec<_> = late.collect();
        self.lock().late.extend(late);
    }
}

impl Way for Door {
    fn stops_here(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.store.passes())
    }

    fn date_ms(&self) -> BoxFuture<'_, Result<Option<u64>, Failure>> {
        Box::pin(async move {
            if self.store.is_gone() {
                return std::future::pending().await;
            }
            Ok(Some(self.world.time.true_ms()))
        })
    }

    fn send<'a>(&'a self, method: &'a Method, arguments: &'a Value) -> BoxFuture<'a, Result<Answer, Failure>> {
        Box::pin(async move {
            let world = &self.world;
            if self.store.is_gone() {
                return std::future::pending().await;
            }
            if method.writes && self.store.is_fenced() {
                world.broken(format!("{} left a process that has lost what it carried", method.name));
            }
            world.leaves(method, arguments, &self.store);
            let (lot, mut dice) = world.lot(method, arguments);
            let name = name_of(method);
            let mut late_ms = dice.chance(60).then(|| dice.below(LATE_MS_MAX)).filter(|_| method.writes);
            let before = if dice.chance(10) { dice.between(300, 8_000) } else { dice.between(1, 300) };
            if matches!(lot, Lot::NotSent | Lot::Limited | Lot::Unavailable | Lot::Refused | Lot::Blind) {
                late_ms = None;
            }
            let on_its_way = world.sets_out(name, arguments, late_ms);
            tokio::time::sleep(Duration::from_millis(before)).await;
            let has_arrived = on_its_way.arrives();
            if self.store.is_gone() {
                return std::future::pending().await;
            }
            if !has_arrived {
                // The process was stopped while the request was on its way.
                return Err(Failure::Unknown { reason: Unknown::Network(fault(Cause::Cut)) });
            }
            world.take_up_late();
            if lot != Lot::Answered {
                world.say(format!("<- {name}: {lot:?}"));
            }
            let failed = |reason: NotSent, after: Option<u64>| Err(Failure::NotSent { reason, retry_after_ms: after });
            match lot {
                Lot::NotSent => failed(NotSent::Network(fault(Cause::Refused)), None),
                Lot::Unavailable => failed(NotSent::Unavailable("service_unavailable".to_owned()), None),
                Lot::Limited => {
                    let wait_ms = 1_000 * dice.between(1, 30);
                    let now = world.time.true_ms();
                    // The one that has taken over hears nothing of it.
                    if !self.store.is_fenced() {
                        world.lock().closed.insert(bucket(method, arguments), (now, now + wait_ms));
                    }
                    failed(NotSent::RateLimited, Some(wait_ms))
                }
                Lot::Refused => Ok(answer(Err(*dice.pick(&["is_archived", "restricted_action", "invalid_blocks"])))),
                Lot::Blind => Ok(answer(Err("missing_scope"))),
                Lot::Lost { late_ms, status } => {
                    if let Some(late_ms) = late_ms {
                        let at = world.time.true_ms() + late_ms;
                        world.lock().late.push((at, name, arguments.clone()));
                        world.take_up_late();
                    }
                    let mut state = world.lock();
                    state.counts.unknown += 1;
                    Err(Failure::Unknown {
                        reason: if status { Unknown::Status(502) } else { Unknown::Network(fault(Cause::Cut)) },
                    })
                }
                Lot::Answered => {
                    let at = world.time.true_ms();
                    let body = world.lock().slack.carry_out(name, arguments, at);
                    tokio::time::sleep(Duration::from_millis(dice.between(0, 200))).await;
                    world.say(format!("<- {name}: {}", body.as_ref().map_or_else(|e| *e, |_| "ok")));
                    Ok(answer(body))
                }
            }
        })
    }
}

/// The fence, which is told the truth.
pub(in super::super) struct Fence(pub(in super::super) Arc<Dying>);

impl Tenure for Fence {
    fn holds(&self) -> bool {
        !self.0.is_fenced()
    }
}
