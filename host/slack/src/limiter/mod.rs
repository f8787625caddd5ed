//! Keeps to Slack's rates: one bucket for each that Slack has, shared by all runs, fair between them.
//!
//! A call is reserved before its intent is written. Nothing here is durable but what [`Limiter::closed`] gives:
//! after a restart the buckets start without a burst, since nobody knows what the process before had used.

mod bucket;
mod channel;
mod queue;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bellhop_core::id::RunId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Notify, oneshot, watch};

use crate::catalog::{Method, Sharing};
use crate::client::retry_after;
use bucket::{Bucket, Rate};
use queue::{Next, Queue, Waiter};

/// The time, by argument. It need not be monotonic: a clock set back shuts no bucket.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since 1970.
    fn now_ms(&self) -> u64;
    /// Ready at that time or later.
    fn sleep_until(&self, at_ms: u64) -> impl Future<Output = ()> + Send;
}

/// Which of the two lanes a call waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Overtakes: an offboarding. One in five grants still goes to the other lane when it waits.
    Fast,
    /// Everything else.
    Slow,
}

/// Names one bucket.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// As in the catalog: a method, or a name that several methods share.
    pub bucket: String,
    /// The connection, organisation or workspace whose bucket it is.
    pub owner: String,
    /// The channel, where each has its own: its id, or `#name` for one that is posted to by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
}

/// Whose budget a call takes from.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// The connection's name.
    pub connection: &'a str,
    /// The organisation's id, or the workspace's where there is none: two connections of one organisation share
    /// what Slack counts by organisation.
    pub organisation: &'a str,
}

/// The bucket that Slack closed, and until when; what is kept over a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    /// Which bucket.
    pub key: Key,
    /// Milliseconds since 1970.
    pub until_ms: u64,
}

/// Sizes.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Calls that may wait for one bucket.
    pub queue_max: usize,
    /// Buckets in use at once.
    pub buckets_max: usize,
    /// Multiplies all rates and bursts. 1 but for measurements and tests.
    pub scale: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self { queue_max: 10_000, buckets_max: 100_000, scale: 1.0 }
    }
}

/// Too many wait already. Nothing was reserved; the caller refuses or parks what it was about to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} calls wait for `{bucket}` already", bucket = key.bucket)]
pub struct Full {
    /// The bucket.
    pub key: Key,
    /// How many wait.
    pub waiting: usize,
}

/// See the module. Clones are handles of the same limiter.
pub struct Limiter<C> {
    inner: Arc<Inner<C>>,
}

impl<C> Clone for Limiter<C> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<C> std::fmt::Debug for Limiter<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter").finish_non_exhaustive()
    }
}

struct Inner<C> {
    clock: C,
    options: Options,
    state: Mutex<State>,
    /// Set when whoever serves a queue has panicked.
    unattended: watch::Sender<bool>,
}

struct State {
    buckets: HashMap<Key, Bucket>,
    /// The bucket of a channel's id, by that of the name or the person that it was posted to by.
    known_as: HashMap<Key, Key>,
    /// By the first key of those who wait, each with the bell that wakes its driver.
    queues: HashMap<Key, (Queue, Arc<Notify>)>,
    /// Buckets are made empty as of this time.
    restarted_at_us: Option<u64>,
    tickets: u64,
    /// Idle buckets are forgotten when there are so many.
    sweep_at: usize,
}

/// Sweeping a handful is not worth it.
const SWEEP_MIN: usize = 1024;
/// Names of channels of which the id is known. One that is forgotten has a bucket of its own until the next answer.
const KNOWN_MAX: usize = 10_000;

impl<C> Inner<C> {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; if something did, the numbers are still numbers.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The key under which a bucket is.
    fn actual<'k>(&'k self, key: &'k Key) -> &'k Key {
        // Whoever waits has the key by which it asked.
        key.channel.as_ref().and_then(|_| self.known_as.get(key)).unwrap_or(key)
    }

    fn ready_at_us(&self, keys: &[Key]) -> u64 {
        keys.iter().filter_map(|k| self.buckets.get(self.actual(k))).map(Bucket::ready_at_us).max().unwrap_or(0)
    }

    fn take(&mut self, keys: &[Key], rates: &[Rate], now_us: u64) {
        for (key, rate) in keys.iter().zip(rates) {
            let key = self.actual(key).clone();
            // One that was idle may have been swept while its caller waited for another.
            self.buckets.entry(key).or_insert_with(|| Bucket::full(*rate, now_us)).take(now_us);
        }
    }

    fn give_back(&mut self, keys: &[Key]) {
        for key in keys {
            let actual = self.actual(key).clone();
            if let Some(bucket) = self.buckets.get_mut(&actual) {
                bucket.give_back();
            }
            // Somebody who waits elsewhere for this bucket may go earlier now.
            if let Some((_, bell)) = self.queues.get(key) {
                bell.notify_one();
            }
        }
    }

    fn sweep(&mut self, now_us: u64) {
        if self.buckets.len() < self.sweep_at {
            return;
        }
        self.buckets.retain(|_, bucket| !bucket.is_idle(now_us));
        self.sweep_at = SWEEP_MIN.max(self.buckets.len() * 2);
    }
}

fn millis(us: u64) -> u64 {
    us.div_ceil(1000)
}

impl<C: Clock> Limiter<C> {
    /// With full buckets: for a host that starts for the first time.
    #[must_use]
    pub fn new(options: Options, clock: C) -> Self {
        let state = State {
            buckets: HashMap::new(),
            known_as: HashMap::new(),
            queues: HashMap::new(),
            restarted_at_us: None,
            tickets: 0,
            sweep_at: SWEEP_MIN,
        };
        let (state, unattended) = (Mutex::new(state), watch::channel(false).0);
        Self { inner: Arc::new(Inner { clock, options, state, unattended }) }
    }

    /// After a restart: no bucket has a burst, and those that Slack closed stay closed.
    #[must_use]
    pub fn restarted(options: Options, clock: C, closed: Vec<Closed>) -> Self {
        let limiter = Self::new(options, clock);
        let now_us = limiter.now_us();
        {
            let mut state = limiter.inner.lock();
            state.restarted_at_us = Some(now_us);
            for Closed { key, until_ms } in closed.into_iter().take(options.buckets_max) {
                // The rate is the slowest that there is until the first call says which it is.
                let mut bucket = Bucket::empty(Rate::new(1, 1, options.scale), 0);
                bucket.close(until_ms.saturating_mul(1000));
                state.buckets.insert(key, bucket);
            }
        }
        limiter
    }

    /// The clock by which it counts.
    #[must_use]
    pub fn clock(&self) -> &C {
        &self.inner.clock
    }

    fn now_us(&self) -> u64 {
        self.inner.clock.now_ms().saturating_mul(1000)
    }

    /// The keys of the buckets that a call takes from, the one that `Retry-After` closes first.
    #[must_use]
    pub fn keys(method: &Method, arguments: &Value, owner: Owner<'_>) -> Arc<[Key]> {
        method
            .buckets
            .iter()
            .map(|bucket| Key {
                bucket: bucket.name.clone(),
                owner: match bucket.sharing {
                    Sharing::Connection | Sharing::Channel => owner.connection.to_owned(),
                    Sharing::Organisation => owner.organisation.to_owned(),
                },
                channel: (bucket.sharing == Sharing::Channel).then(|| channel::of(arguments)),
            })
            .collect()
    }

    /// Slack answered a call with these arguments that it went to the channel `id`. From now on what is asked for under the
    /// name in the arguments, and what waits under it, takes from that channel's bucket, as whoever gives the id does.
    pub fn went_to(&self, method: &Method, arguments: &Value, owner: Owner<'_>, id: &str) {
        let keys = Self::keys(method, arguments, owner);
        let differs = |key: &&Key| key.channel.as_deref().is_some_and(|channel| channel != id);
        let Some(named) = keys.iter().find(differs) else { return };
        let is = Key { channel: Some(id.to_owned()), ..named.clone() };
        let now_us = self.now_us();
        let mut state = self.inner.lock();
        if state.known_as.get(named) == Some(&is) {
            return;
        }
        if state.known_as.len() >= KNOWN_MAX {
            state.known_as.clear();
        }
        // What was taken by the name was taken from the channel.
        if let Some(taken) = state.buckets.remove(named) {
            state.buckets.entry(is.clone()).and_modify(|bucket| bucket.joins(&taken, now_us)).or_insert(taken);
        }
        state.known_as.insert(named.clone(), is);
    }

    /// Queues for one call. Must be called inside a tokio runtime. Dropping what it returns withdraws: no
    /// token is lost.
    ///
    /// # Errors
    /// [`Full`] when too many wait.
    pub fn reserve(
        &self,
        method: &Method,
        arguments: &Value,
        owner: Owner<'_>,
        run: RunId,
        lane: Lane,
    ) -> Result<Reservation<C>, Full> {
        let keys = Self::keys(method, arguments, owner);
        let (now_us, options) = (self.now_us(), self.inner.options);
        let mut state = self.inner.lock();
        state.sweep(now_us);
        let restarted_at_us = state.restarted_at_us;
        let rates: Arc<[Rate]> =
            method.buckets.iter().map(|b| Rate::new(b.per_minute, b.burst, options.scale)).collect();
        for (key, &rate) in keys.iter().zip(rates.iter()) {
            let key = &state.actual(key).clone();
            if !state.buckets.contains_key(key) && state.buckets.len() >= options.buckets_max {
                return Err(Full { key: key.clone(), waiting: state.buckets.len() });
            }
            let fresh =
                || restarted_at_us.map_or_else(|| Bucket::full(rate, now_us), |since| Bucket::empty(rate, since));
            let bucket = state.buckets.entry(key.clone()).or_insert_with(fresh);
            if !bucket.has(rate) {
                let closed = bucket.closed_until_us();
                *bucket = fresh();
                bucket.close(closed);
            }
            bucket.heed(now_us, retry_after::MAX_MS.saturating_mul(1000));
        }
        let Some(first) = keys.first().cloned() else {
            return Ok(Reservation::immediate(Arc::clone(&self.inner), keys, run, lane));
        };
        let ready_at_us = state.ready_at_us(&keys);
        let waiting = state.queues.get(&first).map_or(0, |(queue, _)| queue.length());
        if waiting == 0 && ready_at_us <= now_us {
            state.take(&keys, &rates, now_us);
            return Ok(Reservation::immediate(Arc::clone(&self.inner), keys, run, lane));
        }
        if waiting >= options.queue_max {
            return Err(Full { key: first, waiting });
        }
        state.tickets += 1;
        let ticket = state.tickets;
        let interval_us = state.buckets.get(&first).map_or(0, Bucket::interval_us);
        let estimate_us = ready_at_us.saturating_sub(now_us).saturating_add(interval_us.saturating_mul(waiting as u64));
        let (tell, told) = oneshot::channel();
        let (queue, bell) = state.queues.entry(first.clone()).or_insert_with(|| {
            let bell = Arc::new(Notify::new());
            tokio::spawn(drive(Arc::clone(&self.inner), first, Arc::clone(&bell)));
            (Queue::default(), bell)
        });
        let (keys, rates) = queue.shared((keys, rates));
        queue.push(lane, run, Waiter { ticket, keys: Arc::clone(&keys), rates, tell });
        bell.notify_one();
        drop(state);
        Ok(Reservation {
            inner: Some(Arc::clone(&self.inner)),
            keys,
            told: Some(told),
            ticket,
            run,
            lane,
            wait_ms: millis(estimate_us),
        })
    }

    /// Slack said 429 to a call with these keys: the first of its buckets stays closed for `wait_ms` from now.
    pub fn close(&self, keys: &[Key], wait_ms: u64) {
        let until_us = self.now_us().saturating_add(wait_ms.min(retry_after::MAX_MS).saturating_mul(1000));
        let mut state = self.inner.lock();
        if let Some(bucket) = keys.first().and_then(|key| state.buckets.get_mut(key)) {
            bucket.close(until_us);
        }
    }

    /// Until when a bucket is closed, if it is.
    #[must_use]
    pub fn closed(&self, key: &Key) -> Option<Closed> {
        let now_us = self.now_us();
        let until_us = self.inner.lock().buckets.get(key)?.closed_until_us();
        (until_us > now_us).then(|| Closed { key: key.clone(), until_ms: millis(until_us) })
    }

    /// The buckets that are closed now, in the order of their keys.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Closed> {
        let now_us = self.now_us();
        let state = self.inner.lock();
        let mut closed: Vec<_> = state
            .buckets
            .iter()
            .filter(|(_, bucket)| bucket.closed_until_us() > now_us)
            .map(|(key, bucket)| Closed { key: key.clone(), until_ms: millis(bucket.closed_until_us()) })
            .collect();
        closed.sort_by(|a, b| a.key.cmp(&b.key));
        closed
    }

    /// Ready when nobody serves a queue any more in which calls wait: a mistake of ours has ended whoever did.
    pub fn unattended(&self) -> impl Future<Output = ()> + Send + use<C> {
        let mut unattended = self.inner.unattended.subscribe();
        async move {
            if unattended.wait_for(|is_so| *is_so).await.is_err() {
                // The limiter itself has gone, and every call with it.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Calls that wait now, over all buckets.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inner.lock().queues.values().map(|(queue, _)| queue.length()).sum()
    }
}

/// Grants in turn for as long as somebody waits at this bucket.
async fn drive<C: Clock>(inner: Arc<Inner<C>>, key: Key, bell: Arc<Notify>) {
    let _told = Attends(&inner.unattended);
    loop {
        let now_us = inner.clock.now_ms().saturating_mul(1000);
        let Some(at_us) = grant(&mut inner.lock(), &key, now_us) else { return };
        tokio::select! {
            biased;
            () = inner.clock.sleep_until(millis(at_us)) => {}
            () = bell.notified() => {}
        }
    }
}

/// Whoever serves a queue. One that panics is told of.
struct Attends<'a>(&'a watch::Sender<bool>);

impl Drop for Attends<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.send_replace(true);
        }
    }
}

/// Grants what can go now; then says when to look again, or removes the queue when nobody waits any more.
fn grant(state: &mut State, key: &Key, now_us: u64) -> Option<u64> {
    loop {
        let (mut queue, bell) = state.queues.remove(key)?;
        let next = queue.next(now_us, &|keys: &[Key]| state.ready_at_us(keys));
        match next {
            Next::Nobody => return None,
            Next::At(at_us) => {
                state.queues.insert(key.clone(), (queue, bell));
                return Some(at_us);
            }
            Next::Grant(waiter) => {
                state.queues.insert(key.clone(), (queue, bell));
                state.take(&waiter.keys, &waiter.rates, now_us);
                if waiter.tell.send(()).is_err() {
                    // It was dropped in this moment, after its place was looked for and before we told.
                    state.give_back(&waiter.keys);
                }
            }
        }
    }
}

/// A place in the queue, or a token already. It is its own future, so that to wait takes no memory beside it.
#[must_use = "dropping it withdraws"]
pub struct Reservation<C> {
    /// None once the permit has been handed on.
    inner: Option<Arc<Inner<C>>>,
    keys: Arc<[Key]>,
    told: Option<oneshot::Receiver<()>>,
    ticket: u64,
    run: RunId,
    lane: Lane,
    wait_ms: u64,
}

impl<C> std::fmt::Debug for Reservation<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reservation").field("keys", &self.keys).field("wait_ms", &self.wait_ms).finish_non_exhaustive()
    }
}

impl<C> Reservation<C> {
    fn immediate(inner: Arc<Inner<C>>, keys: Arc<[Key]>, run: RunId, lane: Lane) -> Self {
        Self { inner: Some(inner), keys, told: None, ticket: 0, run, lane, wait_ms: 0 }
    }

    /// How long it will take, as far as can be said now; 0 when the token is there.
    #[must_use]
    pub fn wait_ms(&self) -> u64 {
        self.wait_ms
    }

    /// The buckets that it takes from.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }
}

/// Ready when the token is there. Polled on after that, it never is again.
impl<C> Future for Reservation<C> {
    type Output = Permit<C>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Permit<C>> {
        if let Some(told) = &mut self.told {
            // The sender goes away only when the runtime does.
            let _told = ready!(Pin::new(told).poll(context));
            self.told = None;
        }
        let Some(inner) = self.inner.take() else { return Poll::Pending };
        Poll::Ready(Permit { inner: Some(inner), keys: Arc::clone(&self.keys) })
    }
}

impl<C> Drop for Reservation<C> {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        let mut state = inner.lock();
        if self.told.is_some()
            && let Some((queue, bell)) = self.keys.first().and_then(|key| state.queues.get_mut(key))
            && queue.withdraw(self.lane, self.run, self.ticket)
        {
            // The driver looks again: it may have been the last one.
            bell.notify_one();
            return;
        }
        // Granted, and nobody took it up. A grant that is being told right now finds our end closed and gives back.
        if self.told.as_mut().is_none_or(|told| told.try_recv().is_ok()) {
            state.give_back(&self.keys);
        }
    }
}

/// One call may be sent. The token is spent; dropping the permit does not bring it back.
#[must_use = "a token was taken"]
pub struct Permit<C> {
    inner: Option<Arc<Inner<C>>>,
    keys: Arc<[Key]>,
}

impl<C> std::fmt::Debug for Permit<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl<C> Permit<C> {
    /// The buckets that it was taken from: what [`Limiter::close`] wants to know after a 429.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// For a call that is not sent after all.
    pub fn give_back(mut self) {
        if let Some(inner) = self.inner.take() {
            inner.lock().give_back(&self.keys);
        }
    }
}
