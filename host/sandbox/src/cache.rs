//! Machine code on the disk, and when it is believed.
//!
//! Machine code cannot be checked, so it is believed for where it lies: in a folder of this user's into which nobody else
//! can write, in a file of which the same holds. A checksum of the component's digest and the code together stands in the
//! name, so that no code is taken for another component's, or for whole where it is not.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bellhop_core::digest::Digest;
use bellhop_core::text::shell_word;
use rustix::fs::{Mode, OFlags, Timespec, Timestamps, futimens, open, openat};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

/// Machine code.
const SUFFIX: &str = ".cwasm";
/// Machine code that is being written.
const UNFINISHED: &str = ".making-";
/// What is read at once.
const PART_BYTES: usize = 64 << 10;
/// What was used less than so long ago is not written down as used again.
const USED_S: u64 = 60 * 60;

/// A folder of machine code.
pub(super) struct Cache {
    folder: PathBuf,
    /// What must be the same for machine code to fit: wasmtime's version, its settings, and the features of this processor.
    fits: String,
    /// What is half made for longer was left by a process that was killed.
    unfinished_s_max: u64,
    /// What was used longest ago goes first.
    bytes_max: u64,
}

/// Makes a folder where there is none; after Ok it is this user's, and nobody else can write into it.
///
/// # Errors
/// It cannot be made, is no folder, belongs to another, or lets others write; then with what helps.
pub fn own_folder(path: &Path) -> io::Result<()> {
    make(path).and_then(|()| opened(path)).map(drop)
}

fn make(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The folder, as it is at this moment: a link is none.
fn opened(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = File::from(open(path, flags, Mode::empty()).map_err(|error| match io::Error::from(error) {
        error if error.kind() == io::ErrorKind::NotADirectory || path.is_symlink() => {
            let remedy = format!("put a folder there: rm {}", shell_word(&path.display().to_string()));
            io::Error::new(error.kind(), format!("it is a link or a file, and no folder ({remedy})"))
        }
        error => error,
    })?);
    let found = folder.metadata()?;
    if !is_mine(&found) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the folder belongs to another user"));
    }
    if others_write(&found) {
        let remedy = format!("chmod go-w {}", shell_word(&path.display().to_string()));
        let text = format!("others may write into the folder (end that: {remedy})");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(folder)
}

fn is_mine(found: &fs::Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw()
}

fn others_write(found: &fs::Metadata) -> bool {
    found.mode() & 0o022 != 0
}

impl Cache {
    /// Opens the folder, and removes what is of no use.
    pub(super) fn open(
        folder: PathBuf,
        compatibility: &str,
        unfinished_s_max: u64,
        bytes_max: u64,
    ) -> io::Result<Self> {
        own_folder(&folder)?;
        let fits = format!("-{compatibility}-{}-", std::env::consts::ARCH);
        let cache = Self { folder, fits, unfinished_s_max, bytes_max };
        cache.prune();
        Ok(cache)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file in the folder that only we can read, kept by [`Self::keep`] when it is whole. The folder is made anew when
    /// it is not there any more.
    pub(super) fn aside(&self) -> io::Result<NamedTempFile> {
        own_folder(&self.folder)?;
        tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.folder)
    }

    /// Machine code that is whole becomes that of a component.
    pub(super) fn keep(&self, mut artefact: NamedTempFile, digest: &Digest) -> io::Result<()> {
        artefact.as_file().sync_all()?;
        let sum = checksum(digest, artefact.as_file_mut())?;
        artefact.persist(self.folder.join(self.name(digest, &sum))).map_err(|error| error.error)?;
        self.prune();
        Ok(())
    }

    fn name(&self, digest: &Digest, sum: &str) -> String {
        format!("{}{}{sum}{SUFFIX}", digest.hex(), self.fits)
    }

    /// The machine code of a component, open: nobody changes what it is from here on. `None` where there is none that can
    /// be believed.
    pub(super) fn find(&self, digest: &Digest) -> Option<File> {
        let beginning = format!("{}{}", digest.hex(), self.fits);
        for entry in self.folder.read_dir().ok()?.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Some(sum) = name.strip_prefix(&beginning).and_then(|rest| rest.strip_suffix(SUFFIX)) else { continue };
            match self.believed(&name, digest, sum) {
                Ok(file) => return Some(file),
                Err(error) => {
                    let path = entry.path();
                    tracing::warn!(path = %path.display(), %error, "a compiled plugin is not believed and is made anew");
                    // It is not looked at a second time.
                    let _ = fs::remove_file(path);
                }
            }
        }
        None
    }

    fn believed(&self, name: &str, digest: &Digest, sum: &str) -> io::Result<File> {
        let folder = opened(&self.folder)?;
        // A FIFO would keep us waiting.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut file = File::from(openat(&folder, name, flags, Mode::empty())?);
        let found = file.metadata()?;
        if !found.is_file() || !is_mine(&found) || others_write(&found) {
            return Err(io::Error::other("it is not a file of this user's alone"));
        }
        if checksum(digest, &mut file)? != sum {
            return Err(io::Error::other("its checksum is another"));
        }
        if found.modified().is_ok_and(|at| age(at) > Duration::from_secs(USED_S)) {
            let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
            // Where it cannot be said, it goes sooner than it should.
            let _ = futimens(&file, &Timestamps { last_access: now, last_modification: now });
        }
        Ok(file)
    }

    /// Removes what this program cannot use: machine code of another version of it, what a killed one left half made, and,
    /// when there is too much, what was used longest ago. Whatever is wrongly removed is made again.
    fn prune(&self) {
        let Ok(entries) = self.folder.read_dir() else { return };
        let mut kept = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let Ok(found) = entry.metadata() else { continue };
            let used = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let other = name.ends_with(SUFFIX) && !name.contains(&self.fits);
            let left = name.starts_with(UNFINISHED) && age(used) > Duration::from_secs(self.unfinished_s_max);
            if other || left {
                // Another process may have been faster.
                let _ = fs::remove_file(entry.path());
            } else if name.ends_with(SUFFIX) {
                kept.push((used, found.len(), entry.path()));
            }
        }
        kept.sort_by_key(|kept| std::cmp::Reverse(kept.0));
        let mut bytes = 0_u64;
        for (_, size, path) in kept {
            bytes = bytes.saturating_add(size);
            if bytes > self.bytes_max {
                let _ = fs::remove_file(path);
            }
        }
    }
}

fn age(at: SystemTime) -> Duration {
    at.elapsed().unwrap_or_default()
}

/// What binds machine code to its component.
fn checksum(digest: &Digest, file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let mut hasher = Sha256::new();
    hasher.update(digest.hex());
    let mut part = vec![0; PART_BYTES];
    loop {
        match file.read(&mut part)? {
            0 => break,
            length => hasher.update(&part[..length]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn cache(folder: &Path) -> Cache {
        Cache::open(folder.join("cache"), "abc", 60, 1_000).unwrap()
    }

    fn put(cache: &Cache, component: &[u8], code: &[u8]) -> PathBuf {
        let before: Vec<_> = cache.folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
        let file = cache.aside().unwrap();
        fs::write(file.path(), code).unwrap();
        cache.keep(file, &Digest::of(component)).unwrap();
        let mut now = cache.folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
        now.find(|path| !before.contains(path)).unwrap()
    }

    fn found(cache: &Cache, component: &[u8]) -> Option<String> {
        cache.find(&Digest::of(component)).map(|mut file| {
            file.rewind().unwrap();
            io::read_to_string(file).unwrap()
        })
    }

    #[test]
    fn author_d1_code_is_believed_in_a_folder_and_a_file_of_one_s_own() {
        let place = tempfile::tempdir().unwrap();
        let cache = cache(place.path());
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let path = put(&cache, b"component", b"code");
        assert_eq!(found(&cache, b"component").as_deref(), Some("code"));
        for mode in [0o770, 0o707] {
            set(&cache.folder, mode);
            let said = own_folder(&cache.folder).unwrap_err().to_string();
            assert!(said.contains("others may write") && said.contains("chmod go-w "), "{said}");
            assert_eq!(found(&cache, b"component"), None, "{mode:o}");
            set(&cache.folder, 0o700);
            fs::write(&path, "code").unwrap();
            set(&path, 0o600);
        }
        assert_eq!(found(&cache, b"component").as_deref(), Some("code"));
        for mode in [0o620, 0o602] {
            fs::write(&path, "code").unwrap();
            set(&path, mode);
            assert_eq!(found(&cache, b"component"), None, "{mode:o}");
        }
        // A link, to what would be believed at its own place.
        let elsewhere = place.path().join("elsewhere");
        fs::write(&elsewhere, "code").unwrap();
        set(&elsewhere, 0o600);
        symlink(&elsewhere, &path).unwrap();
        assert_eq!(found(&cache, b"component"), None);
        assert!(elsewhere.exists());
        let linked = place.path().join("linked");
        symlink(&cache.folder, &linked).unwrap();
        let said = own_folder(&linked).unwrap_err().to_string();
        assert!(said.contains("a link"), "{said}");
    }

    #[test]
    fn author_d1_code_is_bound_to_its_component() {
        let place = tempfile::tempdir().unwrap();
        let cache = cache(place.path());
        let path = put(&cache, b"one", b"code of one");
        let [own, other] = [b"one", b"two"].map(|component| Digest::of(component).hex());
        let name = path.file_name().unwrap().to_str().unwrap();
        fs::copy(&path, cache.folder.join(name.replace(&own, &other))).unwrap();
        assert_eq!(found(&cache, b"two"), None);
        assert_eq!(found(&cache, b"one").as_deref(), Some("code of one"));
        fs::write(&path, "code of onE").unwrap();
        assert_eq!(found(&cache, b"one"), None);
    }

    #[test]
    fn author_d7_what_is_kept_has_an_end() {
        let place = tempfile::tempdir().unwrap();
        let cache = cache(place.path());
        for n in 0..10_u64 {
            let path = put(&cache, &[u8::try_from(n).unwrap()], &[b'x'; 300]);
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(n);
            File::open(path).unwrap().set_modified(at).unwrap();
        }
        let left = cache.folder.read_dir().unwrap().count();
        assert_eq!(left, 3, "a thousand bytes and no more");
        assert!(found(&cache, &[9]).is_some() && found(&cache, &[0]).is_none(), "the newest stay");
    }
}
