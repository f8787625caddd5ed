//! Lines that go to somebody who may not read them: the log, and what a host says when it starts.
//!
//! A pipe that nobody empties makes whoever writes into it wait. So lines are put into a queue that has an end, and a
//! thread of its own writes them. What finds no room, and what cannot be written, is counted, and the count is said once
//! lines are written again. A reader that has gone costs the lines and nothing else.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// A queue of lines and its thread. Clones share it.
#[derive(Clone)]
pub(crate) struct Lines(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    bytes_max: usize,
    /// Closed when the thread has ended.
    ended: watch::Receiver<()>,
}

/// Lines that nobody got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lost {
    /// They found no room.
    pub(crate) unread: u64,
    /// They could not be written.
    pub(crate) unwritten: u64,
    /// Why the last of these could not be.
    pub(crate) why: Option<String>,
}

impl Lost {
    fn unwritten(&mut self, lines: u64, error: &io::Error) {
        self.unwritten = self.unwritten.saturating_add(lines);
        self.why = Some(error.to_string());
    }
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
    /// Starts the thread. Lines of more than `bytes_max` bytes together do not wait: further ones are dropped. When writing
    /// goes on, `lost` is told of these and of those that could not be written, on that thread; it may put a line of its
    /// own.
    ///
    /// # Errors
    /// The machine gives no thread.
    pub(crate) fn start(
        name: &str,
        mut out: impl Write + Send + 'static,
        bytes_max: usize,
        lost: impl Fn(&Lost) + Send + 'static,
    ) -> io::Result<Self> {
        let (lives, ended) = watch::channel(());
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), bytes_max, ended });
        let lines = Self(Arc::clone(&shared));
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Gone with the thread, however that ends.
            let _lives = lives;
            let mut missed = Lost::default();
            loop {
                let (batch, dropped) = shared.next();
                missed.unread = missed.unread.saturating_add(dropped);
                let failed = write_all(&mut out, &batch, &mut missed);
                // While nothing can be written, nor can this.
                if !failed && missed != Lost::default() {
                    lost(&std::mem::take(&mut missed));
                }
                shared.written(batch.iter().map(Vec::len).sum(), failed);
            }
        })?;
        Ok(lines)
    }

    /// Ready when the thread has ended: lines are written no more.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = self.0.ended.clone();
        async move { while ended.changed().await.is_ok() {} }
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

/// Writes each line that can be; gives whether any could not.
fn write_all(out: &mut impl Write, lines: &VecDeque<Vec<u8>>, lost: &mut Lost) -> bool {
    let mut failed = false;
    for line in lines {
        if let Err(error) = out.write_all(line) {
            failed = true;
            lost.unwritten(1, &error);
        }
    }
    if let Err(error) = out.flush() {
        failed = true;
        lost.unwritten(0, &error);
    }
    failed
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
        let lines = Lines::start("lines", reader, 20, move |lost| *counted.lock().unwrap() += lost.unread).unwrap();
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

    /// A disk that has no room until it is given some.
    struct Disk(Arc<Mutex<(bool, Vec<u8>)>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (has_room, written) = &mut *self.0.lock().unwrap();
            if !*has_room {
                return Err(io::ErrorKind::StorageFull.into());
            }
            written.extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn surroundings_s1_lines_that_could_not_be_written_are_counted_when_writing_goes_on() {
        let disk = Arc::new(Mutex::new((false, Vec::new())));
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        let lines =
            Lines::start("lines", Disk(Arc::clone(&disk)), 1_000, move |lost| tell.lock().unwrap().push(lost.clone()));
        let lines = lines.unwrap();
        for _ in 0..3 {
            lines.put(b"lost\n");
            assert!(!lines.flush(LONG));
        }
        assert!(told.lock().unwrap().is_empty(), "nobody could read it");
        disk.lock().unwrap().0 = true;
        lines.put(b"written\n");
        lines.flush(LONG);
        let all = told.lock().unwrap().clone();
        assert_eq!(all.iter().map(|lost| (lost.unread, lost.unwritten)).collect::<Vec<_>>(), [(0, 3)]);
        assert!(all[0].why.is_some());
        assert_eq!(disk.lock().unwrap().1, b"written\n");
    }

    #[tokio::test]
    async fn that_lines_are_written_no_more_is_seen() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                panic!("as the test says")
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let lines = Lines::start("lines", Broken, 20, |_| {}).unwrap();
        let ended = lines.ended();
        lines.put(b"a line\n");
        ended.await;
    }
}
