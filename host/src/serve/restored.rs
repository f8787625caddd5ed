//! Makes the folder of a host of a backup.
//!
//! It is made in a folder of its own inside, `restoring`, and what is whole is moved out of it at the end, the store last. A
//! folder with a `restoring` in it and no store is served by no host, so that a restore that was broken off leaves nothing
//! that could be taken for a host; the next restore begins anew there. It is made inside and not beside, because the folder
//! may be where a disk is mounted, and who restores need not be allowed to write into the folder above.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bellhop_clock::{self as clock, Clock as _};
use bellhop_engine::operate::restore;
use bellhop_engine::setup::connections::{self, Secrets};
use bellhop_engine::setup::sealed::{self, Passphrase};
use bellhop_journal::backup::{self, Header, Part, Reader, Restored, Restoring, Trailer};
use bellhop_journal::sled::{OpenError, Options, Sled};
use bellhop_journal::{self as journal, Journal};
use bellhop_limits::Limits;

use super::own;

/// Read of a backup at once.
const PIECE_BYTES: usize = 128 * 1024;

/// What a restore is to do with the secrets of a backup.
#[derive(Debug)]
pub(crate) enum Sealed {
    /// Open them with this.
    With(Passphrase),
    /// Leave them.
    Left,
    /// There are none, as far as whoever restores has said.
    Unsaid,
}

/// What was restored.
#[derive(Debug)]
pub(crate) struct Done {
    /// What the backup says of itself first.
    pub(crate) header: Header,
    /// And last.
    pub(crate) trailer: Trailer,
    /// The connections that have no tokens.
    pub(crate) lacking: Vec<String>,
}

/// Why nothing was restored. The folder is as it was before.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is something in the folder.
    #[error("the folder {} is not empty: it has `{name}`", folder.display())]
    NotEmpty {
        /// Which.
        folder: PathBuf,
        /// The first thing in it.
        name: String,
    },
    /// Another restore goes on there.
    #[error("another restore into the folder {} goes on", .0.display())]
    Busy(PathBuf),
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] own::Refused),
    /// The backup cannot be read.
    #[error("the backup cannot be read: {0}")]
    Unreadable(io::Error),
    /// The backup.
    #[error("the backup: {0}")]
    Backup(#[from] backup::Error),
    /// It has secrets, and nobody said what becomes of them.
    #[error("the backup has the tokens of connections, sealed with a passphrase")]
    PassphraseNeeded,
    /// They do not open.
    #[error("the tokens in the backup: {0}")]
    Sealed(#[from] sealed::Error),
    /// The tokens cannot be written.
    #[error(transparent)]
    Connections(#[from] connections::Error),
    /// The store cannot be made.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// What was restored cannot be kept.
    #[error(transparent)]
    Journal(#[from] journal::Error),
}

/// Restores a backup into a folder that is empty or not there. After Ok a host can be started in it, which knows that it was
/// restored. `told` hears now and then how many bytes were read.
///
/// # Errors
/// Nothing was restored, and the folder is as it was.
pub(crate) async fn restore(
    folder: &Path,
    from: &mut dyn Read,
    sealed: &Sealed,
    limits: &Limits,
    told: &mut dyn FnMut(u64),
) -> Result<Done, Error> {
    own::keep_to_ourselves();
    // Before anything is made: that it is a backup which this program reads.
    let mut stream = Stream { from, reader: Reader::new() };
    let header = stream.header()?;
    let place = Place::new(folder)?;
    let restored = fill(&place, &mut stream, header, sealed, limits, told).await;
    match restored {
        Ok(done) => match place.finish() {
            Ok(()) => Ok(done),
            Err(error) => {
                place.leave();
                Err(error)
            }
        },
        Err(error) => {
            place.leave();
            Err(error)
        }
    }
}

/// What a backup says, as far as it can be read. Nothing is made of it.
///
/// # Errors
/// It is damaged, cut, of another program, or no backup.
pub(crate) fn verified(from: &mut dyn Read, told: &mut dyn FnMut(u64)) -> Result<(Header, Trailer), Error> {
    let mut stream = Stream { from, reader: Reader::new() };
    let header = stream.header()?;
    let mut trailer = None;
    while let Some(part) = stream.next(told)? {
        if let Part::Trailer(found) = part {
            trailer = Some(found);
        }
    }
    let cut = || Error::Backup(backup::Error::Cut { at: stream.reader.at() });
    Ok((header, trailer.ok_or_else(cut)?))
}

async fn fill(
    place: &Place,
    stream: &mut Stream<'_>,
    header: Header,
    sealed: &Sealed,
    limits: &Limits,
    told: &mut dyn FnMut(u64),
) -> Result<Done, Error> {
    let mut options = Options::new(place.inside("store"));
    options.cache_bytes = limits.store_cache_bytes;
    options.reserve_bytes = limits.disk_reserve_bytes;
    let mut restoring = Restoring::begin(&options)?;
    own::make(&place.inside("secrets")).map_err(|source| place.failed(source))?;
    let mut trailer = None;
    let mut has_tokens = BTreeSet::new();
    while let Some(part) = stream.next(told)? {
        match part {
            Part::Changes(changes) => restoring.carry_out(changes).await?,
            Part::Secrets(found) => match sealed {
                Sealed::With(passphrase) => {
                    let lines = sealed::open(passphrase, &found)?;
                    has_tokens = Secrets::in_folder(place.inside("secrets")).put(&lines)?;
                }
                Sealed::Left => {}
                Sealed::Unsaid => return Err(Error::PassphraseNeeded),
            },
            Part::Trailer(found) => trailer = Some(found),
            Part::Header(_) => {}
        }
    }
    let trailer = trailer.ok_or_else(|| backup::Error::Cut { at: stream.reader.at() })?;
    let Restored { journal, newest } = restoring.end().await?;
    journal.close()?;
    drop(journal);
    // Opened as a host will open it: after Ok nothing in this process writes there any more but what is written here.
    let journal = Journal::new(Arc::new(Sled::open(&options, Box::new(|_| {}))?));
    restore::mark(&journal, header.began_at, newest, clock::System::new().now()).await?;
    let connections = restore::connections(&journal).await?;
    journal.close()?;
    let lacking = connections.into_keys().filter(|name| !has_tokens.contains(name)).collect();
    Ok(Done { header, trailer, lacking })
}

/// A backup that is read piece by piece.
struct Stream<'a> {
    from: &'a mut dyn Read,
    reader: Reader,
}

impl Stream<'_> {
    fn header(&mut self) -> Result<Header, Error> {
        match self.next(&mut |_| {})? {
            Some(Part::Header(header)) => Ok(header),
            _ => Err(backup::Error::NotABackup.into()),
        }
    }

    /// What is next; none at its end.
    fn next(&mut self, told: &mut dyn FnMut(u64)) -> Result<Option<Part>, Error> {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            if let Some(part) = self.reader.next_part()? {
                return Ok(Some(part));
            }
            let read = match self.from.read(&mut piece) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::Unreadable(error)),
            };
            if read == 0 {
                self.reader.finish()?;
                return Ok(None);
            }
            self.reader.push(piece.get(..read).unwrap_or_default());
            told(self.reader.at());
        }
    }
}

/// The folder that is being made.
struct Place {
    folder: PathBuf,
    is_new: bool,
    /// No other restore goes on there as long as it is held.
    _lock: File,
}

impl Place {
    /// Only an empty folder, one in which a restore was broken off, or one that is not there.
    fn new(folder: &Path) -> Result<Self, Error> {
        let failed = |source| own::Refused::Io { folder: folder.to_owned(), source };
        let restoring = folder.join(own::RESTORING);
        let is_new = !folder.try_exists().map_err(failed)?;
        let mut was_broken_off = false;
        if !is_new {
            own::looked_at(folder)?;
            was_broken_off = fs::symlink_metadata(&restoring).is_ok_and(|found| found.is_dir());
            must_be_empty(folder, was_broken_off)?;
        }
        own::make(&restoring).map_err(failed)?;
        let lock = File::open(&restoring).map_err(failed)?;
        if lock.try_lock().is_err() {
            return Err(Error::Busy(folder.to_owned()));
        }
        let place = Self { folder: folder.to_owned(), is_new, _lock: lock };
        if was_broken_off {
            place.clear(true).map_err(failed)?;
        }
        Ok(place)
    }

    fn inside(&self, name: &str) -> PathBuf {
        self.folder.join(own::RESTORING).join(name)
    }

    fn failed(&self, source: io::Error) -> Error {
        own::Refused::Io { folder: self.folder.clone(), source }.into()
    }

    /// Removes what a restore has made there that was broken off.
    fn clear(&self, moved_too: bool) -> io::Result<()> {
        let moved = self.folder.join("secrets");
        let made = [self.inside("store"), self.inside("secrets")].into_iter();
        for path in made.chain(moved_too.then_some(moved)) {
            match fs::remove_dir_all(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Moves what is whole to where a host looks for it; the store last, because with it the folder is a host's.
    fn finish(&self) -> Result<(), Error> {
        let moved = || -> io::Result<()> {
            sync(&self.inside("secrets"))?;
            for name in ["secrets", "store"] {
                fs::rename(self.inside(name), self.folder.join(name))?;
                sync(&self.folder)?;
            }
            fs::remove_dir_all(self.folder.join(own::RESTORING))?;
            sync(&self.folder)?;
            let above = self.folder.parent().filter(|above| !above.as_os_str().is_empty());
            sync(above.unwrap_or_else(|| Path::new(".")))
        };
        moved().map_err(|source| self.failed(source))
    }

    /// Leaves the folder as it was. What cannot be removed is no host's, and the next restore removes it.
    fn leave(&self) {
        let is_moved = self.folder.join("store").exists();
        let removed = self.clear(!is_moved).and_then(|()| fs::remove_dir(self.folder.join(own::RESTORING)));
        if removed.is_ok() && self.is_new {
            // Only if it is empty.
            let _kept = fs::remove_dir(&self.folder);
        }
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn must_be_empty(folder: &Path, was_broken_off: bool) -> Result<(), Error> {
    let failed = |source| own::Refused::Io { folder: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        // Beside what a restore was making, what it had moved is its own.
        let is_left = was_broken_off && (name == own::RESTORING || name == "secrets");
        if !is_left && !own::BESIDE.contains(&name.as_str()) {
            return Err(Error::NotEmpty { folder: folder.to_owned(), name });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_is_as_it_was_until_all_of_it_is_there() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("a/b");
        let made = Place::new(&folder).unwrap();
        assert!(matches!(Place::new(&folder), Err(Error::Busy(_))));
        fs::create_dir(made.inside("store")).unwrap();
        made.leave();
        assert!(!folder.exists());
        drop(made);

        // Broken off, and begun anew.
        let made = Place::new(&folder).unwrap();
        fs::create_dir_all(made.inside("store/x")).unwrap();
        drop(made);
        fs::create_dir(folder.join("secrets")).unwrap();
        assert!(matches!(own::folder(&folder), Err(own::Refused::Unfinished(_))));
        let made = Place::new(&folder).unwrap();
        assert_eq!((names(&folder), names(&made.inside(""))), (vec!["restoring".to_owned()], vec![]));
        for name in ["store", "secrets"] {
            fs::create_dir(made.inside(name)).unwrap();
        }
        made.finish().unwrap();
        assert_eq!(names(&folder), ["secrets", "store"]);
        drop(made);
        assert!(matches!(Place::new(&folder), Err(Error::NotEmpty { .. })));
        assert_eq!(names(&folder), ["secrets", "store"], "nothing is changed");
    }

    #[test]
    fn what_others_have_there_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("letter"), "x").unwrap();
        assert!(matches!(Place::new(place.path()), Err(Error::NotEmpty { name, .. }) if name == "letter"));
        fs::remove_file(place.path().join("letter")).unwrap();
        fs::create_dir(place.path().join("secrets")).unwrap();
        assert!(matches!(Place::new(place.path()), Err(Error::NotEmpty { .. })));
        assert_eq!(names(place.path()), ["secrets"]);
    }
}
