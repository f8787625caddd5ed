//! Time that passes when nothing else can happen, over several lives of a process, and the clock that the process sees.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bellhop_core::time::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::super::ports::START;
use bellhop_clock::{Clock, Sleep};

/// The time of the world, and how far the machine's clock is off. Clones share it.
#[derive(Clone)]
pub(super) struct Time {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<State>,
    /// Rung when the machine's clock was set.
    set: Notify,
}

struct State {
    /// When the life that lives began, or the last one ended.
    base_ms: u64,
    begun: Option<Instant>,
    off_ms: i64,
}

impl Time {
    pub(super) fn new() -> Self {
        let state = State { base_ms: START.as_millis(), begun: None, off_ms: 0 };
        Self { inner: Arc::new(Inner { state: Mutex::new(state), set: Notify::new() }) }
    }

    /// A life begins, in a runtime whose time stands still while it works.
    pub(super) fn begin(&self) {
        self.inner.state.lock().unwrap().begun = Some(Instant::now());
    }

    /// It ends, within that runtime still.
    pub(super) fn end(&self) {
        let now = self.true_ms();
        let mut state = self.inner.state.lock().unwrap();
        (state.base_ms, state.begun) = (now, None);
    }

    /// Milliseconds since 1970, as the rest of the world counts them.
    pub(super) fn true_ms(&self) -> u64 {
        let state = self.inner.state.lock().unwrap();
        let passed = state.begun.map_or(0, |begun| u64::try_from(begun.elapsed().as_millis()).unwrap());
        state.base_ms + passed
    }

    /// Since the beginning of the world.
    pub(super) fn passed_ms(&self) -> u64 {
        self.true_ms() - START.as_millis()
    }

    pub(super) async fn until_passed(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms.saturating_sub(self.passed_ms()))).await;
    }

    /// Time passes while nobody lives.
    pub(super) fn pass(&self, ms: u64) {
        self.inner.state.lock().unwrap().base_ms += ms;
    }

    /// Somebody sets the machine's clock: so far off the world's it is now.
    pub(super) fn set_off(&self, off_ms: i64) {
        self.inner.state.lock().unwrap().off_ms = off_ms;
        self.inner.set.notify_waiters();
    }
}

impl Clock for Time {
    fn now(&self) -> Timestamp {
        let off = self.inner.state.lock().unwrap().off_ms;
        Timestamp::from_millis(self.true_ms().saturating_add_signed(off))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.true_ms())
    }

    fn sleep_until(&self, at: Timestamp) -> Sleep {
        let time = self.clone();
        Box::pin(async move {
            loop {
                let set = time.inner.set.notified();
                tokio::pin!(set);
                set.as_mut().enable();
                let left = at.millis_since(time.now());
                if left == 0 {
                    return;
                }
                tokio::select! {
                    biased;
                    () = set => {}
                    () = tokio::time::sleep(Duration::from_millis(left)) => {}
                }
            }
        })
    }

    fn sleep(&self, span: Duration) -> Sleep {
        Box::pin(tokio::time::sleep(span))
    }
}
