//! How much of a slice is used up: the host ends an action that calls or reads more than one slice may.

use std::cell::Cell;

/// Calls in a slice, below the host's 200, so that there is room for what follows a list.
const CALLS_MAX: u32 = 150;
/// Bytes of answers in a slice, below the host's 8 MiB by more than two answers of 1 MiB.
const ANSWER_BYTES_MAX: usize = 5 * 1024 * 1024;

thread_local! {
    static SPENT: Cell<(u32, usize)> = const { Cell::new((0, 0)) };
}

/// A new slice.
pub(crate) fn start() {
    SPENT.set((0, 0));
}

/// One more call.
pub(crate) fn spend(answer_bytes: usize) {
    let (calls, bytes) = SPENT.get();
    SPENT.set((calls.saturating_add(1), bytes.saturating_add(answer_bytes)));
}

/// Whether a list should go on in the next slice.
pub(crate) fn is_short() -> bool {
    let (calls, bytes) = SPENT.get();
    calls >= CALLS_MAX || bytes >= ANSWER_BYTES_MAX
}
