//! How many runs are open, by how they stand: for `/metrics`, which may not read them all.

use std::sync::atomic::{AtomicI64, Ordering};

use bellhop_journal::Rest;

/// See the module. It is right from the start of the process on, because the marks that a start reads say it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    counts: [AtomicI64; 5],
}

/// How an open run can stand, in a word.
pub(crate) const STANDS: [&str; 5] = ["running", "waiting", "parked", "suspended", "blocked"];

const fn place(rest: Rest) -> usize {
    match rest {
        Rest::No => 0,
        Rest::Waits => 1,
        Rest::Parked => 2,
        Rest::Suspended => 3,
        Rest::Blocked => 4,
    }
}

impl Tally {
    /// A run stood like `before`, and stands like `after`; none where it is not open.
    pub(crate) fn moves(&self, before: Option<Rest>, after: Option<Rest>) {
        if before == after {
            return;
        }
        for (rest, by) in [(before, -1), (after, 1)] {
            if let Some(count) = rest.and_then(|rest| self.counts.get(place(rest))) {
                count.fetch_add(by, Ordering::Relaxed);
            }
        }
    }

    /// How many stand like each of [`STANDS`].
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let now = |count: &AtomicI64| u64::try_from(count.load(Ordering::Relaxed)).unwrap_or(0);
        STANDS.into_iter().zip(self.counts.iter().map(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_counted_where_it_stands_and_nowhere_else() {
        let tally = Tally::default();
        tally.moves(None, Some(Rest::No));
        tally.moves(None, Some(Rest::Blocked));
        tally.moves(Some(Rest::No), Some(Rest::Parked));
        tally.moves(Some(Rest::Parked), Some(Rest::Parked));
        tally.moves(Some(Rest::Blocked), None);
        let counts: Vec<_> = tally.counts().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counts, [("parked", 1)]);
    }
}
