//! A host that is away for a while, because it was restarted or the way to it was cut.

use std::io::IsTerminal as _;
use std::time::Duration;

use super::Context;
use super::output::{Exit, Failure};

/// The first pause; each is twice the one before.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// After so much waiting the host counts as gone.
const AWAY_MAX: Duration = Duration::from_secs(600);

/// How long a host that was there has been away.
#[derive(Debug, Default)]
pub(super) struct Away {
    waited: Duration,
    pause: Duration,
}

impl Away {
    /// Whether a refusal passes by itself: nobody answers, or the host starts, stops or has too much to do.
    fn is_away(failure: &Failure) -> bool {
        let passes = ["draining", "not-ready", "unavailable"];
        failure.exit == Exit::Unreachable || passes.contains(&failure.code.as_str())
    }

    /// It has answered.
    pub(super) fn is_back(&mut self) {
        *self = Self::default();
    }

    /// Waits until it is worth another try, longer each time.
    ///
    /// # Errors
    /// `failure`, where it passes by nothing or has lasted too long.
    pub(super) fn wait(&mut self, context: &Context, failure: Failure) -> Result<(), Failure> {
        if !Self::is_away(&failure) || self.waited >= AWAY_MAX {
            return Err(failure);
        }
        if self.waited.is_zero() && !context.out.is_json() && std::io::stderr().is_terminal() {
            let minutes = AWAY_MAX.as_secs() / 60;
            context.out.note(&format!(
                "note: the host is away ({}); for {minutes} minutes it is tried again",
                failure.message
            ));
        }
        std::thread::sleep(self.next());
        Ok(())
    }

    fn next(&mut self) -> Duration {
        self.pause = (self.pause * 2).clamp(PAUSE_FIRST, PAUSE_MAX);
        self.waited += self.pause;
        self.pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let mut away = Away::default();
        let pauses: Vec<Duration> = std::iter::from_fn(|| (away.waited < AWAY_MAX).then(|| away.next())).collect();
        assert!(pauses.is_sorted());
        assert_eq!((pauses[0], pauses[1], *pauses.last().unwrap()), (PAUSE_FIRST, 2 * PAUSE_FIRST, PAUSE_MAX));
        assert!(pauses.iter().sum::<Duration>() < AWAY_MAX + PAUSE_MAX);
        away.is_back();
        assert_eq!(away.next(), PAUSE_FIRST);
    }

    #[test]
    fn a_refusal_that_stays_is_none_of_a_host_that_is_away() {
        assert!(Away::is_away(&Failure::unreachable("x")));
        assert!(Away::is_away(&Failure::failed("draining", "x")));
        assert!(!Away::is_away(&Failure::failed("token-invalid", "x")));
        assert!(!Away::is_away(&Failure::missing("run-unknown", "x")));
    }
}
