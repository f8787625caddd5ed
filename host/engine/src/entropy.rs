//! The one source of randomness of the program.

use std::sync::Mutex;

/// Random numbers, seeded from the machine when the program starts.
#[derive(Debug)]
pub struct Entropy {
    state: Mutex<u64>,
}

impl Default for Entropy {
    fn default() -> Self {
        Self::new()
    }
}

impl Entropy {
    /// Seeded by the operating system.
    #[must_use]
    pub fn new() -> Self {
        // `RandomState` is how the standard library gives the system's randomness without a dependency.
        use std::hash::{BuildHasher as _, Hasher as _};
        let seed = std::collections::hash_map::RandomState::new().build_hasher().finish();
        Self { state: Mutex::new(seed) }
    }

    /// From a seed: a simulation's.
    #[cfg(test)]
    pub fn seeded(seed: u64) -> Self {
        Self { state: Mutex::new(seed) }
    }

    /// 64 random bits (SplitMix64): for ids, jitter and turns, never for secrets.
    pub fn next(&self) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 128 of them.
    pub fn next_wide(&self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }
}
