//! The log of a host: lines that go to standard error, or to a file that is opened anew when its name leads elsewhere, as
//! after a rotation.
//!
//! The thread of the [`Lines`] does all of it, so that a file that is slow or full, or that has gone, costs lines of the log
//! and nothing else.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bellhop_clock::{Clock, System};
use bellhop_limits::Limits;
use rustix::fs::OFlags;

use super::lines::{Lines, Lost};

/// Where the name leads is looked at no oftener.
const LOOK: Duration = Duration::from_secs(1);

/// See the module. Clones share it.
#[derive(Clone)]
pub(crate) struct Log {
    lines: Lines,
    /// Has the file looked for at once.
    looks: Option<Arc<AtomicBool>>,
    longest: Duration,
}

impl Log {
    /// Starts the thread that writes to `file`, or to standard error where there is none.
    ///
    /// # Errors
    /// The machine gives no thread.
    pub(crate) fn start(file: Option<LogFile>, limits: &Limits) -> io::Result<Self> {
        let bytes_max = usize::try_from(limits.log_queue_bytes_max).unwrap_or(usize::MAX);
        let longest = Duration::from_millis(limits.log_flush_ms_max);
        let looks = file.as_ref().map(|file| Arc::clone(&file.looks));
        let lines = match file {
            Some(file) => Lines::start("log", file, bytes_max, say)?,
            None => Lines::start("log", io::stderr(), bytes_max, say)?,
        };
        Ok(Self { lines, looks, longest })
    }

    /// Whoever puts lines into it.
    pub(crate) fn lines(&self) -> Lines {
        self.lines.clone()
    }

    /// Has the file looked for at once, and opened anew where its name leads elsewhere. False where the log has no file.
    pub(super) fn looks_now(&self) -> bool {
        let Some(looks) = &self.looks else { return false };
        looks.store(true, Ordering::SeqCst);
        // Wakes the thread.
        self.lines.put(&[]);
        true
    }

    /// Waits until every line is written, but not longer than so, nor than the limit for it.
    pub(crate) fn flush(&self, longest: Duration) {
        let _all = self.lines.flush(longest.min(self.longest));
    }

    /// Ready when nobody writes the lines any more.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        self.lines.ended()
    }
}

/// Says how many lines nobody got.
fn say(lost: &Lost) {
    if lost.unread > 0 {
        tracing::warn!(lines = lost.unread, "lines of the log were dropped, because nobody read them");
    }
    if lost.unwritten > 0 {
        tracing::warn!(
            lines = lost.unwritten,
            error = lost.why,
            "lines of the log are lost, because they could not be written"
        );
    }
}

/// The file of a log.
pub(crate) struct LogFile {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    /// The file, or why it cannot be opened.
    file: io::Result<File>,
    /// When it was looked where the name leads, by [`Clock::monotonic`].
    looked: Duration,
    looks: Arc<AtomicBool>,
    /// The last byte that was written ends a line.
    is_whole: bool,
    /// Of a line only a part was written.
    is_torn: bool,
}

impl LogFile {
    /// Opens the file to append to it. One that is not there is made, for this user alone.
    ///
    /// # Errors
    /// As the system says.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::by(path, Arc::new(System::new()))
    }

    fn by(path: &Path, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let file = Ok(open(path)?);
        let looked = clock.monotonic();
        Ok(Self { path: path.to_owned(), clock, file, looked, looks: Arc::default(), is_whole: true, is_torn: false })
    }

    /// Opens the file anew where its name leads elsewhere by now.
    fn look(&mut self) {
        let now = self.clock.monotonic();
        if !self.looks.swap(false, Ordering::SeqCst) && now.saturating_sub(self.looked) < LOOK {
            return;
        }
        self.looked = now;
        let open_one = self.file.as_ref().ok().and_then(|file| file.metadata().ok());
        if open_one.is_none_or(|open| !leads_to(&self.path, &open)) {
            self.file = open(&self.path);
            (self.is_whole, self.is_torn) = (true, false);
        }
    }
}

/// Whether the name still leads to the file that is open. Where the system does not say, it does.
fn leads_to(path: &Path, open: &Metadata) -> bool {
    match fs::metadata(path) {
        Ok(found) => (found.dev(), found.ino()) == (open.dev(), open.ino()),
        Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
    }
}

fn open(path: &Path) -> io::Result<File> {
    // A pipe that nobody reads would be waited for; to what is a file it makes no difference.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    File::options().append(true).create(true).mode(0o600).custom_flags(flags).open(path)
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.look();
        let file = match &mut self.file {
            Ok(file) => file,
            Err(error) => return Err(io::Error::new(error.kind(), error.to_string())),
        };
        if self.is_torn {
            // What could not be written of the line before is lost, and this is another one.
            file.write_all(b"\n")?;
            self.is_torn = false;
        }
        match file.write(bytes) {
            Ok(written) => {
                self.is_whole = bytes.get(..written).is_some_and(|written| written.ends_with(b"\n"));
                Ok(written)
            }
            // It is tried again by whoever asked.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                (self.is_torn, self.is_whole) = (!self.is_whole, true);
                Err(error)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.look();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use bellhop_clock::Manual;
    use bellhop_core::time::Timestamp;

    use super::*;

    fn begun(path: &Path) -> (LogFile, Manual) {
        let clock = Manual::new(Timestamp::from_millis(0));
        (LogFile::by(path, Arc::new(clock.clone())).unwrap(), clock)
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn surroundings_s1_a_log_follows_the_name_of_its_file() {
        let place = tempfile::tempdir().unwrap();
        let (path, rotated) = (place.path().join("log"), place.path().join("log.1"));
        fs::write(&path, "before\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let (mut file, clock) = begun(&path);
        file.write_all(b"1\n").unwrap();
        fs::rename(&path, &rotated).unwrap();
        file.write_all(b"2\n").unwrap();
        assert_eq!(read(&rotated), "before\n1\n2\n", "within a second nobody looks");
        assert_eq!(fs::metadata(&rotated).unwrap().mode() & 0o777, 0o640, "what others made keeps its mode");
        clock.advance(LOOK);
        file.write_all(b"3\n").unwrap();
        assert_eq!((read(&rotated), read(&path)), ("before\n1\n2\n".to_owned(), "3\n".to_owned()));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        // Removed, and looked for at once because somebody says so.
        fs::remove_file(&path).unwrap();
        file.looks.store(true, Ordering::SeqCst);
        file.flush().unwrap();
        file.write_all(b"4\n").unwrap();
        assert_eq!(read(&path), "4\n");
        // Emptied where it is, as `copytruncate` does.
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        file.write_all(b"5\n").unwrap();
        assert_eq!(read(&path), "5\n");
    }

    #[test]
    fn surroundings_s1_a_log_without_its_folder_costs_lines_and_goes_on_when_there_is_one() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("logs");
        fs::create_dir(&folder).unwrap();
        let path = folder.join("log");
        let (mut file, clock) = begun(&path);
        fs::remove_dir_all(&folder).unwrap();
        clock.advance(LOOK);
        assert_eq!(file.write_all(b"1\n").unwrap_err().kind(), io::ErrorKind::NotFound);
        fs::create_dir(&folder).unwrap();
        clock.advance(LOOK);
        file.write_all(b"2\n").unwrap();
        assert_eq!(read(&path), "2\n");
    }

    #[test]
    fn surroundings_s1_what_a_full_disk_took_of_a_line_ends_before_the_next() {
        let place = tempfile::tempdir().unwrap();
        let (path, real) = (place.path().join("log"), place.path().join("real"));
        symlink("/dev/full", &path).unwrap();
        let (mut file, clock) = begun(&path);
        assert_eq!(file.write_all(b"1\n").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(!file.is_torn, "nothing of it was written");
        fs::remove_file(&path).unwrap();
        symlink(&real, &path).unwrap();
        clock.advance(LOOK);
        // As a disk does that becomes full within a line.
        assert_eq!(file.write(b"2").unwrap(), 1);
        let disk = std::mem::replace(&mut file.file, File::options().append(true).open("/dev/full"));
        assert!(file.write(b"\n").is_err() && file.is_torn);
        file.file = disk;
        file.write_all(b"4\n").unwrap();
        assert_eq!(read(&real), "2\n4\n");
    }

    #[test]
    fn a_path_that_is_no_file_is_said() {
        let place = tempfile::tempdir().unwrap();
        let pipe = place.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        for (path, kind) in [
            (place.path().to_owned(), io::ErrorKind::IsADirectory),
            (place.path().join("no/log"), io::ErrorKind::NotFound),
        ] {
            assert_eq!(LogFile::open(&path).err().unwrap().kind(), kind, "{}", path.display());
        }
        // Nobody reads it, and nobody waits for that.
        assert!(LogFile::open(&pipe).is_err());
    }
}
