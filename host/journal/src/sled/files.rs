//! The files of the embedded store that are not sled's, and what has to be done to sled's before it sees them.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::{FORMAT, OpenError};
use crate::store::{Lack, Room};

const FORMAT_NAME: &str = "bellhop-store";

/// While this file is there nothing was ever accepted.
const CREATING: &str = "creating";

pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
    }
    #[cfg(not(unix))]
    fs::create_dir_all(dir)
}

pub(super) fn has_entries(dir: &Path) -> io::Result<bool> {
    match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().transpose().map(|entry| entry.is_some()),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(why) => Err(why),
    }
}

/// A folder that is looked into very often and never changes.
#[derive(Debug)]
pub(super) struct Watched {
    dir: PathBuf,
    /// When it was last changed, as of the first look.
    changed_at: Option<SystemTime>,
    looks: u32,
}

impl Watched {
    /// The file system's clock may tick only every few milliseconds: this many looks take longer than a tick.
    const LOOKS: u32 = 1_000;

    pub(super) fn new(dir: PathBuf) -> Self {
        Self { changed_at: changed_at(&dir), dir, looks: 0 }
    }

    /// Whether there is anything in the folder. Its entries are read only at first, and once it has changed.
    pub(super) fn has_entries(&mut self) -> io::Result<bool> {
        if self.looks < Self::LOOKS {
            self.looks += 1;
        } else if self.changed_at == changed_at(&self.dir) {
            return Ok(false);
        }
        has_entries(&self.dir)
    }
}

fn changed_at(dir: &Path) -> Option<SystemTime> {
    fs::metadata(dir).and_then(|of| of.modified()).ok()
}

/// Refuses what leads elsewhere or makes a reader wait: who unpacks what others packed may have links, pipes and devices
/// where a store has files, and opening a store writes into it.
pub(super) fn check_files(dir: &Path) -> Result<(), OpenError> {
    let io = |source| OpenError::Io { dir: dir.to_owned(), file: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(why) => return Err(io(why)),
    };
    for entry in entries {
        let entry = entry.map_err(io)?;
        let kind = entry.file_type().map_err(io)?;
        if !kind.is_file() && !kind.is_dir() {
            let reason = format!("`{}` is no file, and may lead elsewhere", entry.file_name().to_string_lossy());
            return Err(OpenError::NotAStore { dir: dir.to_owned(), reason });
        }
    }
    Ok(())
}

/// Whether the folder has a store of a format that this program knows; changes nothing.
pub(super) fn check_format(dir: &Path) -> Result<bool, OpenError> {
    let not_a_store = |reason: &str| OpenError::NotAStore { dir: dir.to_owned(), reason: reason.to_owned() };
    let mut bytes = Vec::new();
    let read = File::open(dir.join("format")).and_then(|file| file.take(64).read_to_end(&mut bytes));
    let text = match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            if dir.join("db").exists() {
                return Err(not_a_store("it has a file `db` but no file `format`"));
            }
            return Ok(false);
        }
        Err(source) => return Err(OpenError::Io { dir: dir.to_owned(), file: dir.join("format"), source }),
    };
    let version = text.strip_prefix(FORMAT_NAME).map(str::trim).and_then(|version| version.parse().ok());
    match version {
        Some(FORMAT) => Ok(true),
        Some(found) if found > FORMAT => Err(OpenError::NewerFormat { dir: dir.to_owned(), found, known: FORMAT }),
        Some(found @ 1..) => Err(OpenError::OlderFormat { dir: dir.to_owned(), found, known: FORMAT }),
        _ => Err(not_a_store("its file `format` does not say `bellhop-store` and a version")),
    }
}

/// Begins a new store.
pub(super) fn begin(dir: &Path) -> io::Result<()> {
    File::create(dir.join(CREATING))?.sync_all()?;
    sync_dir(dir)?;
    write_format(dir)
}

/// Whether nothing was ever accepted.
pub(super) fn is_new(dir: &Path) -> bool {
    dir.join(CREATING).exists()
}

/// The store is made and on the disk: from here on things are accepted.
pub(super) fn finish(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join(CREATING)) {
        Ok(()) => sync_dir(dir),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(why) => Err(why),
    }
}

/// Removes what a process left that died while it opened the store.
pub(super) fn clean(dir: &Path) -> io::Result<()> {
    let new = is_new(dir);
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let half_a_snapshot = name.starts_with("snap.") && name.ends_with(".generating");
        let half_a_store = new && (name == "db" || name == "conf" || name == "groups" || name.starts_with("snap."));
        if half_a_snapshot || half_a_store {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn write_format(dir: &Path) -> io::Result<()> {
    let aside = dir.join("format.new");
    let mut file = File::create(&aside)?;
    writeln!(file, "{FORMAT_NAME} {FORMAT}")?;
    file.sync_all()?;
    fs::rename(aside, dir.join("format"))?;
    sync_dir(dir)
}

/// A process that just ended may still be held in a child of its own that has not reached its `exec`; and sled lets go
/// of its lock only when its last deferred clean-up has run, which may be after a `close` in this process.
pub(super) const LOCK_TRIES: u32 = 100;
pub(super) const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Takes the store for this process alone.
pub(super) fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let io = |source| OpenError::Io { dir: dir.to_owned(), file: path.clone(), source };
    let mut file = File::options().create(true).read(true).write(true).truncate(false).open(&path).map_err(io)?;
    let mut tries = 0;
    while let Err(why) = file.try_lock() {
        if let TryLockError::Error(source) = why {
            return Err(io(source));
        }
        tries += 1;
        if tries == LOCK_TRIES {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(OpenError::InUse { dir: dir.to_owned(), pid });
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    let note = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    note(&mut file).map_err(io)?;
    Ok(file)
}

/// The room on the disk of a folder, for a process without privileges; `None` when the system does not tell.
pub(super) fn room(folder: &File) -> Option<Room> {
    let told = rustix::fs::fstatvfs(folder).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(told.f_frsize);
    // Some network file systems know no size.
    (told.f_blocks > 0).then(|| Room { free: bytes(told.f_bavail), total: bytes(told.f_blocks) })
}

/// What the tree's file grows by beside the pages: by whole segments, and sled gives free ones out only a while later.
const GROWTH_BYTES: u64 = 4 * 1024 * 1024;
/// A page is written anew for each few items that are put into it or taken out.
const GROWTH_FACTOR: u64 = 3;
/// While there are few items of a page in a group, their pages are written anew more often: so many times more.
const GROWTH_FACTOR_FEW: u64 = 2;
/// The weight of a group in which there are few.
const FEW_BYTES: u64 = 8 * 1024 * 1024;

/// What a group of such a weight may make the tree's file grow by. Of groups of 4 MB the most was 4.3 times the weight, of
/// one value of 31 MB 2.7 times; a debug build asserts it after each group.
pub(super) fn growth(weight_bytes: u64) -> u64 {
    let few = weight_bytes.min(FEW_BYTES).saturating_mul(GROWTH_FACTOR_FEW);
    GROWTH_BYTES.saturating_add(weight_bytes.saturating_mul(GROWTH_FACTOR)).saturating_add(few)
}

/// Room behind the end of a file that only this file can use.
#[derive(Debug)]
pub(super) struct Taken {
    /// Where it ends; 0 before the first.
    to: u64,
    /// The file's length when it was looked at last.
    length: u64,
    /// The file system can do it, as far as is known.
    can: bool,
}

/// Room is taken in steps of so many bytes, so that few groups wait for it.
const STEP_BYTES: u64 = 8 * 1024 * 1024;

impl Taken {
    /// Nothing is taken yet; `can` is whether that is tried at all.
    pub(super) fn new(can: bool) -> Self {
        Self { to: 0, length: 0, can }
    }

    /// Takes what is missing to `bytes` behind the end of `file`. `None`: that much is there, whatever others write,
    /// or the file system cannot do it.
    pub(super) fn lack(&mut self, file: &File, bytes: u64) -> Option<Lack> {
        let length = file.metadata().ok().filter(|_| self.can)?.len();
        if length < self.length {
            // sled gives back what it does not use at the end, and what was taken behind it goes with that.
            self.to = 0;
        }
        self.length = length;
        let wanted = length.saturating_add(bytes);
        // Exactly what is missing, where there is no room for a whole step.
        for more in [bytes.next_multiple_of(STEP_BYTES), bytes] {
            if self.to >= wanted {
                break;
            }
            match fallocate(file, FallocateFlags::KEEP_SIZE, length, more) {
                Ok(()) => self.to = length.saturating_add(more),
                Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::INTR | Errno::IO) => {}
                Err(why) => {
                    tracing::info!(%why, "the file system assures nobody of room: the store looks for it alone");
                    self.can = false;
                    return None;
                }
            }
        }
        let free = self.to.saturating_sub(length);
        (free < bytes).then_some(Lack { free, wanted: bytes })
    }

    /// Whether the file is still within what was taken, if anything was.
    pub(super) fn holds(&self, file: &File) -> bool {
        self.to == 0 || file.metadata().is_ok_and(|data| data.len() <= self.to)
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Puts what opening has made, names included, on the disk before anything is acknowledged.
pub(super) fn sync_all(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_dir(dir)?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::{Options, Sled};
    use super::*;

    /// As somebody may have packed it: opening a store writes into its files.
    #[test]
    fn author_d9_a_store_that_leads_elsewhere_is_not_opened() {
        for name in ["lock", "format", "format.new", "creating", "db"] {
            let place = tempfile::tempdir().unwrap();
            let (store, precious) = (place.path().join("store"), place.path().join("precious"));
            fs::create_dir(&store).unwrap();
            fs::write(&precious, "precious").unwrap();
            if name != "format" {
                fs::write(store.join("format"), format!("{FORMAT_NAME} {FORMAT}\n")).unwrap();
            }
            symlink(&precious, store.join(name)).unwrap();
            let error = Sled::open(&Options::new(&store), Box::new(|_| {})).err().unwrap();
            assert!(error.to_string().contains(&format!("`{name}` is no file")), "{name}: {error}");
            assert_eq!(fs::read_to_string(&precious).unwrap(), "precious", "{name}");
        }
        let place = tempfile::tempdir().unwrap();
        let pipe = place.path().join("format");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        // Reading it would wait for somebody who writes.
        assert!(Sled::open(&Options::new(place.path()), Box::new(|_| {})).is_err());
    }
}
