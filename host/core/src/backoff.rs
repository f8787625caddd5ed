//! How long to wait before something that failed is tried again. The one place where such waits are computed.
//!
//! No wait overflows into a short one: what would be longer than a number can say is as long as it can say.

use crate::time::Timestamp;

/// `first_ms`, doubled so many times.
#[must_use]
pub const fn doubled(first_ms: u64, times: u64) -> u64 {
    if first_ms == 0 {
        0
    } else if times > first_ms.leading_zeros() as u64 {
        u64::MAX
    } else {
        first_ms << times
    }
}

/// Between half of a wait and all of it, by random bits: those who failed together do not come back together.
#[must_use]
pub const fn jittered(wait_ms: u64, entropy: u64) -> u64 {
    wait_ms / 2 + entropy % (wait_ms / 2 + 1)
}

/// Waits that grow with each failure in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// About so long after the first failure; twice as long after each further one.
    pub first_ms: u64,
    /// Never longer.
    pub max_ms: u64,
}

impl Backoff {
    /// How long to wait after so many failures in a row, the first being number 1.
    #[must_use]
    pub const fn wait_ms(self, failures: u64, entropy: u64) -> u64 {
        let wait_ms = doubled(self.first_ms, failures.saturating_sub(1));
        jittered(if wait_ms < self.max_ms { wait_ms } else { self.max_ms }, entropy)
    }

    /// When to try again. Whoever refused may have said from when on: that is obeyed, and nothing is added to it.
    #[must_use]
    pub fn next(self, now: Timestamp, failures: u64, not_before: Option<Timestamp>, entropy: u64) -> Timestamp {
        not_before.map_or_else(|| now.plus_millis(self.wait_ms(failures, entropy)), |at| at.max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { first_ms: 500, max_ms: 60_000 };

    #[test]
    fn house_a14_no_wait_is_shorter_than_the_one_before_however_many_failed() {
        let mut before = 0;
        for failures in 0..300 {
            // The most jitter, and none.
            let longest = BACKOFF.wait_ms(failures, 0) * 2;
            assert!(longest >= before && longest <= BACKOFF.max_ms, "{failures}: {longest} after {before}");
            before = longest;
        }
        assert_eq!(before, BACKOFF.max_ms);
        for failures in [63, 64, 65, u64::MAX] {
            assert_eq!(BACKOFF.wait_ms(failures, 0), 30_000);
        }
    }

    #[test]
    fn house_a14_doubling_ends_at_the_greatest_number() {
        for (first_ms, times, wait_ms) in [
            (0, u64::MAX, 0),
            (250, 0, 250),
            (250, 1, 500),
            (250, 56, 250 << 56),
            (250, 57, u64::MAX),
            (250, 63, u64::MAX),
            (1, 63, 1 << 63),
            (1, 64, u64::MAX),
            (u64::MAX, 1, u64::MAX),
            (u64::MAX, u64::MAX, u64::MAX),
        ] {
            assert_eq!(doubled(first_ms, times), wait_ms, "{first_ms} doubled {times} times");
        }
    }

    #[test]
    fn jitter_leaves_at_least_half() {
        for entropy in (0..u64::MAX).step_by(usize::MAX / 97) {
            for wait_ms in [0, 1, 2, 999, 60_000, u64::MAX] {
                let jittered = jittered(wait_ms, entropy);
                assert!(jittered >= wait_ms / 2 && jittered <= wait_ms, "{wait_ms} by {entropy}: {jittered}");
            }
        }
    }

    #[test]
    fn what_was_said_is_obeyed() {
        let at = Timestamp::from_millis;
        assert_eq!(BACKOFF.next(at(100), 1, Some(at(90_000)), 7), at(90_000));
        assert_eq!(BACKOFF.next(at(100), 1, Some(at(50)), 7), at(100));
        assert_eq!(BACKOFF.next(at(100), 2, None, 0), at(600));
        assert_eq!(BACKOFF.next(at(u64::MAX), 9, None, 0), at(u64::MAX));
    }
}
