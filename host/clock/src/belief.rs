//! Whether the machine's clock is believed: what clocks show goes in, and what is held of them comes out. Nothing here asks
//! what time it is.

use std::time::Duration;

use bellhop_core::time::Timestamp;

/// At a start the clock is believed for so long after the newest time that is known.
pub const START_WITHIN: Duration = Duration::from_secs(3_600);
/// Since the last look the two clocks may have come apart by so much; more is a step. The clocks of processes that share
/// what is known may differ by as much.
pub const STEP_MAX: Duration = Duration::from_secs(60);
/// Another clock that shows the same time within this agrees.
pub const AGREES_WITHIN: Duration = Duration::from_secs(300);

/// What the machine's two clocks show at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The time of day, which can be set.
    pub wall: Timestamp,
    /// Time since some point of this process, which cannot.
    pub monotonic: Duration,
}

/// Why a clock is doubted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// When the process started, it showed a time before the newest that is known.
    StartedBehind,
    /// When the process started, it showed a time more than [`START_WITHIN`] after the newest that is known.
    StartedAhead,
    /// It was set back while the process ran.
    SetBack,
    /// It was set ahead while the process ran.
    SetAhead,
}

impl Why {
    /// In words that follow a colon.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StartedBehind => "at the start it showed a time before the newest that is known",
            Self::StartedAhead => "at the start it showed a time more than an hour after the newest that is known",
            Self::SetBack => "it was set back while the host ran",
            Self::SetAhead => "it was set ahead while the host ran",
        }
    }
}

/// A doubt, from its beginning to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubt {
    /// Why.
    pub why: Why,
    /// The newest time that is known: as long as the doubt lasts, nothing is due by a later one.
    pub newest: Timestamp,
    /// What the clock showed when the doubt began.
    pub shown: Timestamp,
    /// What another clock showed that was asked last, and did not agree.
    pub other: Option<Timestamp>,
    /// When it began, by the clock that cannot be set.
    began: Duration,
}

/// What another clock's time does to a doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// There was none.
    Nothing,
    /// It agrees: the doubt is over.
    Agrees(Doubt),
    /// It does not, and whether that is new.
    Differs {
        /// No other time was heard in this doubt before.
        first: bool,
    },
}

/// What is held of the machine's clock. See the module.
#[derive(Debug, Clone)]
pub struct Belief {
    last: Look,
    doubt: Option<Doubt>,
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl Belief {
    /// At the start of a process that knows of `newest`, if of any time.
    #[must_use]
    pub fn at_start(look: Look, newest: Option<Timestamp>) -> Self {
        let doubt = newest.and_then(|newest| {
            let why = if newest.millis_since(look.wall) > millis(STEP_MAX) {
                Why::StartedBehind
            } else if look.wall.millis_since(newest) > millis(START_WITHIN) {
                Why::StartedAhead
            } else {
                return None;
            };
            Some(Doubt { why, newest, shown: look.wall, other: None, began: look.monotonic })
        });
        Self { last: look, doubt }
    }

    /// Looks at the clocks; true where a doubt begins by that.
    pub fn look(&mut self, look: Look) -> bool {
        let last = std::mem::replace(&mut self.last, look);
        if self.doubt.is_some() {
            return false;
        }
        let expected = last.wall.plus_millis(millis(look.monotonic.saturating_sub(last.monotonic)));
        let why = if look.wall.millis_since(expected) > millis(STEP_MAX) {
            Why::SetAhead
        } else if expected.millis_since(look.wall) > millis(STEP_MAX) {
            Why::SetBack
        } else {
            return false;
        };
        self.doubt = Some(Doubt { why, newest: expected, shown: look.wall, other: None, began: look.monotonic });
        true
    }

    /// The doubt that there is.
    #[must_use]
    pub fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    /// The time that is written into records: what the clock shows, and in a doubt no time before the newest that is known
    /// and what has passed since. So what is recorded by a clock that is behind is not old when that is put right.
    #[must_use]
    pub fn now(&self, look: Look) -> Timestamp {
        self.doubt.map_or(look.wall, |doubt| {
            let passed = millis(look.monotonic.saturating_sub(doubt.began));
            look.wall.max(doubt.newest.plus_millis(passed))
        })
    }

    /// The time by which something may be removed, end or fire: what the clock shows, and in a doubt no later time than the
    /// newest that is known.
    #[must_use]
    pub fn settled(&self, look: Look) -> Timestamp {
        self.doubt.map_or(look.wall, |doubt| look.wall.min(doubt.newest))
    }

    /// Hears what another clock shows now.
    pub fn hear(&mut self, look: Look, other: Timestamp) -> Heard {
        let Some(doubt) = &mut self.doubt else { return Heard::Nothing };
        if look.wall.millis_since(other).max(other.millis_since(look.wall)) <= millis(AGREES_WITHIN) {
            let ended = *doubt;
            self.doubt = None;
            return Heard::Agrees(ended);
        }
        Heard::Differs { first: doubt.other.replace(other).is_none() }
    }

    /// A person says that the clock is right: the doubt that was is over.
    pub fn confirm(&mut self) -> Option<Doubt> {
        self.doubt.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;
    const MINUTE_MS: u64 = 60_000;
    const DAY_MS: u64 = 24 * HOUR_MS;
    const NOON: u64 = 20_000 * DAY_MS + 12 * HOUR_MS;

    fn look(wall: u64, monotonic: u64) -> Look {
        Look { wall: Timestamp::from_millis(wall), monotonic: Duration::from_millis(monotonic) }
    }

    fn at(wall: u64) -> Timestamp {
        Timestamp::from_millis(wall)
    }

    #[test]
    fn surroundings_s11_a_start_is_believed_within_an_hour_after_the_newest_known_time() {
        for (newest, wall, why) in [
            (None, 0, None),
            (None, u64::MAX, None),
            (Some(NOON), NOON, None),
            (Some(NOON), NOON + HOUR_MS, None),
            (Some(NOON), NOON + HOUR_MS + 1, Some(Why::StartedAhead)),
            (Some(NOON), NOON + 2 * DAY_MS, Some(Why::StartedAhead)),
            (Some(NOON), u64::MAX, Some(Why::StartedAhead)),
            (Some(NOON), NOON - MINUTE_MS, None),
            (Some(NOON), NOON - MINUTE_MS - 1, Some(Why::StartedBehind)),
            (Some(NOON), NOON - 400 * DAY_MS, Some(Why::StartedBehind)),
            (Some(NOON), 0, Some(Why::StartedBehind)),
            (Some(u64::MAX), NOON, Some(Why::StartedBehind)),
        ] {
            let belief = Belief::at_start(look(wall, 7), newest.map(at));
            assert_eq!(belief.doubt().map(|doubt| doubt.why), why, "{newest:?} {wall}");
        }
    }

    #[test]
    fn surroundings_s11_a_step_is_what_the_two_clocks_differ_by_since_the_last_look() {
        for (wall, monotonic, why) in [
            (NOON + DAY_MS, DAY_MS, None),
            (NOON + MINUTE_MS, 0, None),
            (NOON + MINUTE_MS + 1, 0, Some(Why::SetAhead)),
            (NOON, MINUTE_MS, None),
            (NOON, MINUTE_MS + 1, Some(Why::SetBack)),
            (NOON - 400 * DAY_MS, 10, Some(Why::SetBack)),
            (u64::MAX, 10, Some(Why::SetAhead)),
        ] {
            let mut belief = Belief::at_start(look(NOON, 0), Some(at(NOON)));
            assert_eq!(belief.look(look(wall, monotonic)), why.is_some(), "{wall} {monotonic}");
            assert_eq!(belief.doubt().map(|doubt| doubt.why), why, "{wall} {monotonic}");
            assert!(why.is_none() || belief.doubt().unwrap().newest == at(NOON + monotonic), "{wall} {monotonic}");
        }
        // Slowly, a clock may go anywhere.
        let mut belief = Belief::at_start(look(NOON, 0), None);
        assert!((1..100).all(|n| !belief.look(look(NOON + n * (MINUTE_MS + 10_000), n * 10_000))));
    }

    #[test]
    fn surroundings_s11_in_a_doubt_nothing_is_due_by_a_later_time_than_the_newest_known() {
        let mut ahead = Belief::at_start(look(NOON + 2 * DAY_MS, 0), Some(at(NOON)));
        let later = look(NOON + 2 * DAY_MS + HOUR_MS, HOUR_MS);
        assert!(!ahead.look(later), "there is a doubt already");
        assert_eq!((ahead.now(later), ahead.settled(later)), (later.wall, at(NOON)));
        let mut behind = Belief::at_start(look(NOON - 400 * DAY_MS, 0), Some(at(NOON)));
        let later = look(NOON - 400 * DAY_MS + HOUR_MS, HOUR_MS);
        // What is recorded is not old when the clock is put right, and what may be removed is less than ever.
        assert_eq!((behind.now(later), behind.settled(later)), (at(NOON + HOUR_MS), later.wall));
        for belief in [&mut ahead, &mut behind] {
            assert!(belief.confirm().is_some() && belief.confirm().is_none());
            assert_eq!((belief.now(later), belief.settled(later)), (later.wall, later.wall));
        }
    }

    #[test]
    fn surroundings_s11_another_clock_that_agrees_ends_a_doubt() {
        let shown = NOON + 2 * DAY_MS;
        for (other, agrees) in [
            (shown, true),
            (shown - 5 * MINUTE_MS, true),
            (shown + 5 * MINUTE_MS, true),
            (shown - 5 * MINUTE_MS - 1, false),
            (shown + 5 * MINUTE_MS + 1, false),
            (NOON, false),
            (0, false),
            (u64::MAX, false),
        ] {
            let mut belief = Belief::at_start(look(shown, 0), Some(at(NOON)));
            let doubt = belief.doubt().unwrap();
            let heard = belief.hear(look(shown, 0), at(other));
            assert_eq!(heard, if agrees { Heard::Agrees(doubt) } else { Heard::Differs { first: true } }, "{other}");
            let again = belief.hear(look(shown, 0), at(other));
            assert_eq!(again, if agrees { Heard::Nothing } else { Heard::Differs { first: false } }, "{other}");
            assert_eq!(belief.doubt().and_then(|doubt| doubt.other), (!agrees).then(|| at(other)), "{other}");
        }
    }

    #[test]
    fn surroundings_s11_a_clock_that_was_believed_again_can_be_doubted_again() {
        let mut belief = Belief::at_start(look(NOON + DAY_MS, 0), Some(at(NOON)));
        belief.confirm();
        assert!(!belief.look(look(NOON + DAY_MS + 1, 1)));
        assert!(belief.look(look(NOON, 2)));
        assert_eq!(belief.doubt().unwrap().newest, at(NOON + DAY_MS + 2));
    }
}
