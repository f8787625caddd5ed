//! How often something may be called: windows of a minute per method, buckets per channel and for SCIM.

use std::collections::HashMap;

use crate::rules::Rule;

const MINUTE_US: u64 = 60_000_000;
/// Messages to one channel at once from rest; afterwards about one a second.
const CHANNEL_BURST: f64 = 5.0;
const CHANNEL_PER_SECOND: f64 = 1.0;
/// Counters kept; beyond it the idle ones are dropped.
const KEPT_MAX: usize = 100_000;

#[derive(Debug)]
pub(crate) struct Limits {
    scale: f64,
    windows: HashMap<(&'static str, String), Window>,
    buckets: HashMap<String, Bucket>,
}

#[derive(Debug)]
struct Window {
    began_us: u64,
    calls: f64,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    at_us: u64,
}

impl Limits {
    pub(crate) fn new(scale: f64) -> Self {
        Self { scale, windows: HashMap::new(), buckets: HashMap::new() }
    }

    /// Counts one call and answers how many seconds to wait if it is one too many.
    pub(crate) fn take(&mut self, rule: &Rule, place: &str, now_us: u64) -> Option<u64> {
        self.forget(now_us);
        let per_minute = f64::from(rule.budget.per_minute) * self.scale;
        if rule.budget.burst > 0 {
            let burst = f64::from(rule.budget.burst) * self.scale;
            let (all, all_burst) = if rule.write { (600.0, 180.0) } else { (1000.0, 1000.0) };
            let key = format!("{} {place}", rule.method);
            let shared = format!("scim {} {place}", if rule.write { "write" } else { "read" });
            let scale = self.scale;
            return self
                .draw(key, per_minute / 60.0, burst, now_us)
                .or_else(|| self.draw(shared, all * scale / 60.0, all_burst * scale, now_us));
        }
        let window =
            self.windows.entry((rule.method, place.to_owned())).or_insert(Window { began_us: now_us, calls: 0.0 });
        if now_us.saturating_sub(window.began_us) >= MINUTE_US {
            *window = Window { began_us: now_us, calls: 0.0 };
        }
        if window.calls + 1.0 > per_minute.max(1.0) {
            let left_us = (window.began_us + MINUTE_US).saturating_sub(now_us);
            return Some(left_us.div_ceil(1_000_000).max(1));
        }
        window.calls += 1.0;
        None
    }

    /// The same for a message to one channel.
    pub(crate) fn take_message(&mut self, channel: &str, now_us: u64) -> Option<u64> {
        let (rate, burst) = (CHANNEL_PER_SECOND * self.scale, (CHANNEL_BURST * self.scale).max(1.0));
        self.draw(format!("channel {channel}"), rate, burst, now_us)
    }

    fn draw(&mut self, key: String, per_second: f64, burst: f64, now_us: u64) -> Option<u64> {
        let bucket = self.buckets.entry(key).or_insert(Bucket { left: burst, at_us: now_us });
        #[expect(clippy::cast_precision_loss, reason = "microseconds between two calls are far below 2^52")]
        let seconds = now_us.saturating_sub(bucket.at_us) as f64 / 1e6;
        bucket.left = (bucket.left + seconds * per_second).min(burst);
        bucket.at_us = now_us;
        if bucket.left < 1.0 {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a positive number of seconds, at most a few hours"
            )]
            let wait = ((1.0 - bucket.left) / per_second.max(1e-6)).ceil() as u64;
            return Some(wait.max(1));
        }
        bucket.left -= 1.0;
        None
    }

    fn forget(&mut self, now_us: u64) {
        if self.windows.len() > KEPT_MAX {
            self.windows.retain(|_, window| now_us.saturating_sub(window.began_us) < MINUTE_US);
        }
        if self.buckets.len() > KEPT_MAX {
            self.buckets.retain(|_, bucket| now_us.saturating_sub(bucket.at_us) < MINUTE_US);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_lets_its_budget_through_and_says_when_it_ends() {
        let rule = Rule::of("users.list").unwrap();
        let mut limits = Limits::new(1.0);
        let start = 1_000_000_000;
        for call in 0..20 {
            assert_eq!(limits.take(rule, "T0HQ", start + call), None);
        }
        assert_eq!(limits.take(rule, "T0HQ", start + 10_000_000), Some(50));
        assert_eq!(limits.take(rule, "T0LAB", start + 10_000_000), None);
        assert_eq!(limits.take(rule, "T0HQ", start + 60_000_000), None);
    }

    #[test]
    fn a_channel_takes_a_burst_and_then_one_a_second() {
        let mut limits = Limits::new(1.0);
        for _ in 0..5 {
            assert_eq!(limits.take_message("C1", 0), None);
        }
        assert_eq!(limits.take_message("C1", 0), Some(1));
        assert_eq!(limits.take_message("C1", 1_000_000), None);
        assert_eq!(limits.take_message("C1", 1_000_000), Some(1));
    }

    #[test]
    fn the_scale_multiplies() {
        let mut limits = Limits::new(1000.0);
        for _ in 0..4000 {
            assert_eq!(limits.take_message("C1", 0), None);
        }
    }
}
