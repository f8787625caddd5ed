//! One bucket, as the time at which it would be full again (the "generic cell rate algorithm"): two numbers,
//! no timer, no rounding that adds up.

/// How fast tokens come back and how many it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    /// From one token to the next.
    pub(super) interval_us: u64,
    /// Tokens that it holds, at least 1.
    pub(super) burst: u64,
}

impl Rate {
    pub(super) fn new(per_minute: u32, burst: u32, scale: f64) -> Self {
        let per_minute = (f64::from(per_minute) * scale).max(0.001);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and far below 2^63")]
        let (interval_us, burst) = ((60_000_000.0 / per_minute) as u64, (f64::from(burst) * scale) as u64);
        Self { interval_us: interval_us.max(1), burst: burst.max(1) }
    }

    fn burst_us(self) -> u64 {
        self.burst.saturating_mul(self.interval_us)
    }

    fn tolerance_us(self) -> u64 {
        (self.burst - 1).saturating_mul(self.interval_us)
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    rate: Rate,
    /// When it is full again, if nobody takes.
    full_at_us: u64,
    /// How far from now that can be: a burst, or two after it was joined with another one.
    owed_us_max: u64,
    /// Slack said: not before.
    closed_until_us: u64,
}

impl Bucket {
    pub(super) fn full(rate: Rate, now_us: u64) -> Self {
        Self { rate, full_at_us: now_us, owed_us_max: rate.burst_us(), closed_until_us: 0 }
    }

    /// Without a token at `since_us`.
    pub(super) fn empty(rate: Rate, since_us: u64) -> Self {
        Self { full_at_us: since_us.saturating_add(rate.burst_us()), ..Self::full(rate, 0) }
    }

    /// When the next token is there: `now_us` or earlier if one is.
    pub(super) fn ready_at_us(&self) -> u64 {
        self.full_at_us.saturating_sub(self.rate.tolerance_us()).max(self.closed_until_us)
    }

    pub(super) fn take(&mut self, now_us: u64) {
        self.full_at_us = self.full_at_us.max(now_us).saturating_add(self.rate.interval_us);
    }

    pub(super) fn give_back(&mut self) {
        self.full_at_us = self.full_at_us.saturating_sub(self.rate.interval_us);
    }

    /// What was taken of the other one was taken of this one, too.
    pub(super) fn joins(&mut self, other: &Self, now_us: u64) {
        let taken_us = other.full_at_us.saturating_sub(now_us);
        if taken_us > 0 {
            self.full_at_us = self.full_at_us.max(now_us).saturating_add(taken_us);
            self.owed_us_max = self.rate.burst_us().saturating_mul(2);
        }
        self.close(other.closed_until_us);
    }

    pub(super) fn close(&mut self, until_us: u64) {
        self.closed_until_us = self.closed_until_us.max(until_us);
    }

    pub(super) fn closed_until_us(&self) -> u64 {
        self.closed_until_us
    }

    /// Forgets what cannot be: a clock that was set back would otherwise keep the bucket shut for the difference.
    pub(super) fn heed(&mut self, now_us: u64, closed_us_max: u64) {
        self.full_at_us = self.full_at_us.min(now_us.saturating_add(self.owed_us_max));
        if self.full_at_us <= now_us.saturating_add(self.rate.burst_us()) {
            self.owed_us_max = self.rate.burst_us();
        }
        self.closed_until_us = self.closed_until_us.min(now_us.saturating_add(closed_us_max));
    }

    /// Whether forgetting it changes nothing.
    pub(super) fn is_idle(&self, now_us: u64) -> bool {
        self.full_at_us <= now_us && self.closed_until_us <= now_us
    }

    pub(super) fn has(&self, rate: Rate) -> bool {
        self.rate == rate
    }

    pub(super) fn interval_us(&self) -> u64 {
        self.rate.interval_us
    }
}
