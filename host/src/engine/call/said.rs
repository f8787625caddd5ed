//! What guests say: each line once, whatever is replayed, and none that can be taken for a line of the host's.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use bellhop_core::id::RunId;
use bellhop_core::run::ExecutionKey;
use bellhop_core::text::plain;

use crate::engine::execution::CallKey;

/// Of slices that were begun in this process and not ended: how many lines each has said. A guest that is put down while
/// it waits says them again when it comes back, before it makes the call that it waits for.
#[derive(Default)]
pub(crate) struct Said {
    /// By run; a slice is known by its first call.
    lines: Mutex<HashMap<RunId, BTreeMap<CallKey, u32>>>,
}

impl Said {
    /// The attempt is over: nothing of it is said again.
    pub(super) fn forget(&self, run: RunId, execution: &ExecutionKey, attempt: u32) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(slices) = lines.get_mut(&run) else { return };
        slices.retain(|slice, _| slice.execution != *execution || slice.attempt != attempt);
        if slices.is_empty() {
            lines.remove(&run);
        }
    }

    /// Nothing of the run is under way any more.
    pub(super) fn forget_all(&self, run: RunId) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
    }
}

/// The lines of one guest.
pub(super) struct Lines {
    all: Arc<Said>,
    run: RunId,
    slice: CallKey,
    /// How many were said before this guest was begun.
    before: u32,
    count: u32,
}

impl Lines {
    /// A guest begins, or begins again, the slice whose first call is `slice`.
    pub(super) fn begin(all: &Arc<Said>, run: RunId, slice: CallKey) -> Self {
        let lines = all.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let before = lines.get(&run).and_then(|slices| slices.get(&slice)).copied().unwrap_or(0);
        drop(lines);
        Self { all: all.clone(), run, slice, before, count: 0 }
    }

    /// The guest says a line; whether it has not said it before.
    pub(super) fn is_new(&mut self) -> bool {
        self.count = self.count.saturating_add(1);
        if self.count <= self.before {
            return false;
        }
        let mut lines = self.all.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.entry(self.run).or_default().insert(self.slice.clone(), self.count);
        true
    }
}

/// Writes a line into the host's log, at the level that the guest gave it.
pub(super) fn write(level: &str, run: RunId, task: &ExecutionKey, plugin: &str, text: &str) {
    let text = plain(text);
    macro_rules! at {
        ($level:ident) => {
            tracing::event!(target: "bellhop::plugin", tracing::Level::$level, %run, %task, plugin, "{text}")
        };
    }
    match level {
        "error" => at!(ERROR),
        "warn" => at!(WARN),
        "debug" => at!(DEBUG),
        "trace" => at!(TRACE),
        _ => at!(INFO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(ordinal: u32) -> CallKey {
        CallKey { execution: ExecutionKey::of("/do/0/x", &[], 0), attempt: 1, ordinal }
    }

    #[test]
    fn house_a13_a_guest_that_begins_again_says_nothing_twice() {
        let all = Arc::new(Said::default());
        let run = RunId::new(bellhop_core::time::Timestamp::from_millis(1), 1);
        let say = |lines: &mut Lines, count: usize| (0..count).filter(|_| lines.is_new()).count();
        assert_eq!(say(&mut Lines::begin(&all, run, slice(0)), 2), 2);
        assert_eq!(say(&mut Lines::begin(&all, run, slice(0)), 3), 1, "two of them were said");
        assert_eq!(say(&mut Lines::begin(&all, run, slice(5)), 1), 1, "another slice");
        all.forget(run, &slice(0).execution, 2);
        assert_eq!(say(&mut Lines::begin(&all, run, slice(0)), 3), 0, "another attempt was forgotten");
        all.forget(run, &slice(0).execution, 1);
        assert_eq!(say(&mut Lines::begin(&all, run, slice(0)), 1), 1);
    }

    #[test]
    fn author_7_no_text_makes_a_second_line_or_another_order() {
        for (text, line) in [
            ("hello", "hello"),
            ("a\nb\r\tc", "a\\u{a}b\\u{d}\\u{9}c"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("\u{202e}gpj.exe", "\\u{202e}gpj.exe"),
            ("a\u{2028}b\u{85}c\u{200b}", "a\\u{2028}b\\u{85}c\\u{200b}"),
            ("grüße, 世界 🎉", "grüße, 世界 🎉"),
        ] {
            assert_eq!(plain(text), line);
        }
    }
}
