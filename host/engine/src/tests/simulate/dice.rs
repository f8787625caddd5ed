//! Randomness from a seed, the same on every machine.

use std::fmt::Display;

/// A generator (SplitMix64).
pub(in crate::tests) struct Dice(u64);

impl Dice {
    pub(in crate::tests) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One that depends on what it is for and on nothing that was drawn before: what happens to one request must not
    /// change with the order of all.
    pub(in crate::tests) fn of(seed: u64, what: impl Display) -> Self {
        let mut hash = seed ^ 0xcbf2_9ce4_8422_2325;
        for byte in what.to_string().bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        let mut dice = Self(hash);
        dice.next();
        dice
    }

    pub(in crate::tests) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(in crate::tests) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub(in crate::tests) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// True so many times in a hundred.
    pub(in crate::tests) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(in crate::tests) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}
