//! The simulator's only source of time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Where the simulated Slack gets the time for timestamps and rate windows.
///
/// Delays that a fault asks for are spent in real time whichever clock is used.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Real,
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's wall clock.
    #[must_use]
    pub fn real() -> Self {
        Self(Source::Real)
    }

    /// A clock that stands still at `start_ms` (Unix time) until it is advanced. Clones share the time.
    #[must_use]
    pub fn manual(start_ms: u64) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(start_ms.saturating_mul(1000)))))
    }

    /// Moves a manual clock forward; answers false, and does nothing, on the real one.
    #[must_use = "the real clock does not move"]
    pub fn advance(&self, by: Duration) -> bool {
        match &self.0 {
            Source::Real => false,
            Source::Manual(us) => {
                us.fetch_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX / 2), Ordering::SeqCst);
                true
            }
        }
    }

    pub(crate) fn now_us(&self) -> u64 {
        match &self.0 {
            Source::Manual(us) => us.load(Ordering::SeqCst),
            Source::Real => {
                #[allow(
                    clippy::disallowed_methods,
                    reason = "the one place where the simulator asks the machine for the time"
                )]
                let now = SystemTime::now();
                now.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
            }
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::real()
    }
}
