//! Lines that go to somebody who may not read them: the log, and what a host says when it starts.
//!
//! A pipe that nobody empties makes whoever writes into it wait. So lines are put into a queue that has an end, and a
//! thread of its own writes them. What finds no room is counted, and the count is said once there is room again. A reader
//! that has gone costs the lines and nothing else.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A queue of lines and its thread. Clones share it.
#[derive(Clone)]
pub(crate) struct Lines(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    bytes_max: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    /// Bytes of those that wait and of those that are being written.
    bytes: usize,
    /// Lines that found no room since the last ones were written.
    dropped: u64,
    /// Whether lines are being written.
    writing: bool,
    /// Whether a line could not be written.
    failed: bool,
}

impl Lines {
    /// Starts the thread. Lines of more than `bytes_max` bytes together do not wait: further ones are dropped, and
    /// `dropped` is told how many, on that thread, when writing goes on; it may put a line of its own.
    ///
    /// # Errors
    /// The machine gives no thread.
    pub(crate) fn start(
        name: &str,
        mut out: impl Write + Send + 'static,
        bytes_max: usize,
        dropped: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), bytes_max });
        let lines = Self(Arc::clone(&shared));
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            loop {
                let (batch, lost) = shared.next();
                let mut failed = false;
                for line in &batch {
                    failed |= out.write_all(line).is_err();
                }
                failed |= out.flush().is_err();
                if lost > 0 {
                    dropped(lost);
                }
                shared.written(batch.iter().map(Vec::len).sum(), failed);
            }
        })?;
        Ok(lines)
    }

    /// Puts a line, which ends with a line feed, into the queue. Never waits for a reader.
    pub(crate) fn put(&self, line: &[u8]) {
        let mut state = self.0.state();
        if state.bytes.saturating_add(line.len()) > self.0.bytes_max {
            state.dropped = state.dropped.saturating_add(1);
            return;
        }
        state.bytes += line.len();
        state.waiting.push_back(line.to_vec());
        self.0.changed.notify_all();
    }

    /// Waits until every line is written, but not longer than so. Gives whether each line so far was.
    pub(crate) fn flush(&self, longest: Duration) -> bool {
        let state = self.0.state();
        let busy = |state: &mut State| state.writing || !state.waiting.is_empty();
        let waited = self.0.changed.wait_timeout_while(state, longest, busy);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        !timeout.timed_out() && !state.failed && state.dropped == 0
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lines that are to be written next, and how many were dropped since.
    fn next(&self) -> (VecDeque<Vec<u8>>, u64) {
        let mut state = self.state();
        while state.waiting.is_empty() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.writing = true;
        (std::mem::take(&mut state.waiting), std::mem::take(&mut state.dropped))
    }

    fn written(&self, bytes: usize, failed: bool) {
        let mut state = self.state();
        state.writing = false;
        state.failed |= failed;
        state.bytes = state.bytes.saturating_sub(bytes);
        self.changed.notify_all();
    }
}

/// What a formatter writes at once is a line.
impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// A reader that takes a line whenever it is told to, and goes when nobody tells it any more.
    struct Reader {
        takes: Receiver<()>,
        taken: Arc<Mutex<Vec<u8>>>,
        asked: Sender<()>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.asked.send(());
            self.takes.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.taken.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A reader, what has it take, what tells that it was asked, and what it took.
    type Read = (Reader, Sender<()>, Receiver<()>, Arc<Mutex<Vec<u8>>>);

    fn reader() -> Read {
        let ((take, takes), (asked, is_asked), taken) = (channel(), channel(), Arc::default());
        (Reader { takes, taken: Arc::clone(&taken), asked }, take, is_asked, taken)
    }

    #[test]
    fn attack_d11_a_reader_that_stands_still_holds_up_nobody_and_is_told_what_it_missed() {
        let (reader, take, is_asked, taken) = reader();
        let lost = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&lost);
        let lines = Lines::start("lines", reader, 20, move |n| *counted.lock().unwrap() += n).unwrap();
        lines.put(b"0\n");
        is_asked.recv().unwrap();
        // The thread waits for its reader, and nobody else does.
        for _ in 0..1_000 {
            lines.put(b"1\n");
        }
        assert!(!lines.flush(Duration::ZERO), "nothing is written yet");
        assert_eq!(lines.0.state().waiting.len(), 9, "what waits has an end, of which the first line has a part");
        for _ in 0..10 {
            take.send(()).unwrap();
        }
        lines.flush(LONG);
        assert_eq!(*taken.lock().unwrap(), b"0\n1\n1\n1\n1\n1\n1\n1\n1\n1\n");
        assert_eq!(*lost.lock().unwrap(), 991);
        lines.put(b"2\n");
        take.send(()).unwrap();
        assert!(lines.flush(LONG), "it goes on");
        assert_eq!(*lost.lock().unwrap(), 991, "each is counted once");
    }

    #[test]
    fn attack_d11_a_reader_that_has_gone_costs_its_lines_and_nothing_else() {
        let (reader, take, _is_asked, taken) = reader();
        let lines = Lines::start("lines", reader, 20, |_| {}).unwrap();
        drop(take);
        for _ in 0..100 {
            lines.put(b"a line\n");
            assert!(!lines.flush(LONG), "it is known that lines were not written");
        }
        assert!(taken.lock().unwrap().is_empty() && lines.0.state().waiting.is_empty());
    }

    #[test]
    fn attack_d11_what_is_too_long_is_dropped_alone() {
        let (reader, take, _is_asked, taken) = reader();
        let lines = Lines::start("lines", reader, 20, |_| {}).unwrap();
        lines.put(&[b'x'; 21]);
        take.send(()).unwrap();
        lines.put(b"a line\n");
        lines.flush(LONG);
        assert_eq!(*taken.lock().unwrap(), b"a line\n");
    }
}
