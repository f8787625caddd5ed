//! How much of a slice is used up: the host ends an action that calls or reads more than one slice may.

use std::cell::Cell;

use crate::context::Limits;

/// What a slice may use and has used.
#[derive(Clone, Copy)]
struct Budget {
    calls: u32,
    calls_max: u32,
    bytes: u64,
    bytes_max: u64,
    /// Of one answer.
    answer_bytes_max: u64,
}

impl Budget {
    const fn of(limits: &Limits) -> Self {
        let (calls_max, bytes_max) = (limits.calls, limits.answers_bytes);
        Self { calls: 0, calls_max, bytes: 0, bytes_max, answer_bytes_max: limits.answer_bytes }
    }
}

thread_local! {
    static BUDGET: Cell<Option<Budget>> = const { Cell::new(None) };
}

fn budget() -> Budget {
    BUDGET.get().unwrap_or_else(|| Budget::of(&Limits::default()))
}

/// A new slice, with these limits.
pub(crate) fn start(limits: &Limits) {
    BUDGET.set(Some(Budget::of(limits)));
}

/// One more call.
pub(crate) fn spend(answer_bytes: usize) {
    let mut budget = budget();
    budget.calls = budget.calls.saturating_add(1);
    budget.bytes = budget.bytes.saturating_add(answer_bytes as u64);
    BUDGET.set(Some(budget));
}

/// Calls that the slice may still make.
pub(crate) fn calls_left() -> u32 {
    let budget = budget();
    budget.calls_max.saturating_sub(budget.calls)
}

/// Whether a list should go on in the next slice: a quarter of the calls is left for what follows it, and less than three
/// answers fit in any more.
pub(crate) fn is_short() -> bool {
    let budget = budget();
    let bytes_left = budget.bytes_max.saturating_sub(budget.bytes);
    let is_full = bytes_left < budget.answer_bytes_max.saturating_mul(3).min(budget.bytes_max / 2);
    calls_left() <= budget.calls_max / 4 || is_full
}
