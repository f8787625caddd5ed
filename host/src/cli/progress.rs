//! How far something has come that takes its time: a line now and then, where a person looks on.

use std::io::IsTerminal as _;
use std::time::Duration;

use super::Context;
use super::output::tell;
use bellhop_clock::{Clock as _, System};

/// Between two lines, and before the first.
const EVERY: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Progress {
    what: &'static str,
    is_shown: bool,
    clock: System,
    last: Duration,
}

impl Progress {
    /// Of what is called `what`.
    pub(super) fn new(what: &'static str, context: &Context) -> Self {
        let is_shown = !context.out.is_json() && std::io::stderr().is_terminal();
        let clock = System::new();
        Self { what, is_shown, last: clock.monotonic(), clock }
    }

    /// So many bytes are done.
    pub(super) fn bytes(&mut self, done: u64) {
        let now = self.clock.monotonic();
        if self.is_shown && now.saturating_sub(self.last) >= EVERY {
            self.last = now;
            tell!("{}: {}", self.what, size(done));
        }
    }
}

/// Bytes for people.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{}.{} kB", bytes / 1_000, bytes % 1_000 / 100),
        1_000_000..1_000_000_000 => format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes % 1_000_000_000 / 100_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_what_people_count_in() {
        let told = [0, 999, 1_000, 1_250_000, 3_990_000_000].map(size);
        assert_eq!(told, ["0 bytes", "999 bytes", "1.0 kB", "1.2 MB", "3.9 GB"]);
    }
}
