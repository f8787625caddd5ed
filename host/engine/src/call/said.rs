//! What guests say: each line once, whatever is replayed, and none that can be taken for a line of the host's.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellhop_core::id::RunId;
use bellhop_core::run::ExecutionKey;

use crate::execution::CallKey;
use bellhop_limits::Limits;

/// What the actions of each open run have said in this process.
#[derive(Default)]
pub(crate) struct Said {
    runs: Mutex<HashMap<RunId, OfRun>>,
}

/// See [`Said`].
#[derive(Default)]
struct OfRun {
    /// Of slices that were begun and not ended: how many lines each has said. A guest that is put down while it waits says
    /// them again when it comes back, before it makes the call that it waits for. A slice is known by its first call.
    slices: BTreeMap<CallKey, u32>,
    /// What of it is in the host's log, by execution: an attempt, a slice and a wait begin no new count. There are no more of
    /// them than lines.
    executions: BTreeMap<ExecutionKey, Tally>,
    /// The same, of all executions.
    all: Tally,
    /// Lines that had no room.
    dropped: u64,
}

/// What is in the host's log.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    lines: u64,
    bytes: u64,
}

impl Tally {
    const fn has_room(self, bytes: u64, lines_max: u64, bytes_max: u64) -> bool {
        self.lines < lines_max && self.bytes.saturating_add(bytes) <= bytes_max
    }

    fn add(&mut self, bytes: u64) {
        self.lines += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

impl Said {
    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, OfRun>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The attempt is over: nothing of it is said again. What it has said counts still.
    pub(super) fn forget(&self, run: RunId, execution: &ExecutionKey, attempt: u32) {
        let mut runs = self.lock();
        let Some(of_run) = runs.get_mut(&run) else { return };
        of_run.slices.retain(|slice, _| slice.execution != *execution || slice.attempt != attempt);
        if of_run.slices.is_empty() && of_run.all.lines == 0 && of_run.dropped == 0 {
            runs.remove(&run);
        }
    }

    /// Nothing of the run is under way any more. Gives how many lines had no room.
    pub(super) fn forget_all(&self, run: RunId) -> u64 {
        self.lock().remove(&run).map_or(0, |of_run| of_run.dropped)
    }

    /// The run has ended: what had no room is said, once.
    pub(crate) fn ended(&self, run: RunId) {
        let lines = self.forget_all(run);
        if lines > 0 {
            tracing::warn!(target: "bellhop::plugin", %run, lines, "lines of the run's actions were dropped");
        }
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
        let before = all.lock().get(&run).and_then(|of_run| of_run.slices.get(&slice)).copied().unwrap_or(0);
        Self { all: all.clone(), run, slice, before, count: 0 }
    }

    /// The guest says a line; whether it has not said it before.
    pub(super) fn is_new(&mut self) -> bool {
        self.count = self.count.saturating_add(1);
        if self.count <= self.before {
            return false;
        }
        self.all.lock().entry(self.run).or_default().slices.insert(self.slice.clone(), self.count);
        true
    }

    /// A line of so many bytes is to be written: whether the execution and the run have room for it in the host's log. The
    /// first that has none is told there, the others are counted.
    pub(super) fn has_room(&mut self, bytes: usize, limits: &Limits) -> bool {
        let bytes = bytes as u64;
        let mut runs = self.all.lock();
        let of_run = runs.entry(self.run).or_default();
        let own = of_run.executions.get(&self.slice.execution).copied().unwrap_or_default();
        if own.has_room(bytes, limits.guest_log_lines_max, limits.guest_log_bytes_max)
            && of_run.all.has_room(bytes, limits.run_log_lines_max, limits.run_log_bytes_max)
        {
            of_run.executions.entry(self.slice.execution.clone()).or_default().add(bytes);
            of_run.all.add(bytes);
            return true;
        }
        drop(runs);
        self.dropped();
        false
    }

    /// A line has no room.
    pub(super) fn dropped(&mut self) {
        let mut runs = self.all.lock();
        let of_run = runs.entry(self.run).or_default();
        of_run.dropped += 1;
        let is_first = of_run.dropped == 1;
        drop(runs);
        if is_first {
            let (run, task) = (self.run, &self.slice.execution);
            tracing::warn!(
                target: "bellhop::plugin", %run, %task,
                "the run's actions log more than they may: lines are dropped, and counted when the run ends"
            );
        }
    }
}

/// Writes a line, [plain](bellhop_core::text::plain), into the host's log, at the level that the guest gave it.
pub(super) fn write(level: &str, run: RunId, task: &ExecutionKey, plugin: &str, text: &str) {
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
    use bellhop_core::text::plain;

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
    fn attack_d22_no_slice_attempt_or_iteration_begins_a_new_count() {
        let all = Arc::new(Said::default());
        let run = RunId::new(bellhop_core::time::Timestamp::from_millis(1), 1);
        let limits = Limits {
            guest_log_lines_max: 10,
            guest_log_bytes_max: 50,
            run_log_lines_max: 25,
            run_log_bytes_max: 1_000,
            ..Limits::default()
        };
        let say = |iteration: u32, attempt: u32, ordinal: u32, bytes: usize| {
            let execution = ExecutionKey::of("/do/0/x", &[iteration], 0);
            let mut lines = Lines::begin(&all, run, CallKey { execution: execution.clone(), attempt, ordinal });
            let said = (0..4).filter(|_| lines.is_new() && lines.has_room(bytes, &limits)).count();
            (said, execution)
        };
        let of = |iteration: u32| -> usize {
            let attempts = (1..=3).flat_map(|attempt| (0..4).map(move |slice| (attempt, slice)));
            let say = |(attempt, slice): (u32, u32)| {
                let (said, execution) = say(iteration, attempt, slice * 200, 1);
                all.forget(run, &execution, attempt);
                said
            };
            attempts.map(say).sum()
        };
        assert_eq!(of(0), 10, "three attempts of four slices of four lines each");
        assert_eq!((of(1), of(2), of(3)), (10, 5, 0), "the run has 25");
        assert_eq!(all.forget_all(run), 4 * 48 - 25, "the others are counted");
        assert_eq!(all.forget_all(run), 0);
        // Bytes likewise.
        assert_eq!((say(0, 1, 0, 20).0, say(0, 1, 200, 20).0, say(1, 1, 0, 20).0), (2, 0, 2));
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
