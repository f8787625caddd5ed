//! Folders and files that are this user's alone, whatever the umask was. The mode of what others made is left alone.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Once;

use bellhop_core::text::shell_word;
use rustix::process::{Resource, Rlimit, setrlimit};

/// The folders in a host's folder of which every file is its own.
const OURS: [&str; 3] = ["store", "compiled", "secrets"];
/// Where a restore makes them, until they are whole.
pub(super) const RESTORING: &str = "restoring";
/// What else may lie in a folder that was made for a host: its settings, and what file systems put there.
pub(super) const BESIDE: [&str; 2] = ["bellhop.toml", "lost+found"];

/// What a store has before it can be known as one.
const BEGUN: [&str; 3] = ["creating", "format.new", "lock"];

/// The program that runs here, for a child: the image itself, because the file from which it was started may be another
/// by now, or gone. Without /proc it is that file, which is looked for as whoever started it did.
///
/// # Errors
/// There is no /proc, and no such file.
pub(crate) fn program() -> io::Result<PathBuf> {
    let image = Path::new("/proc/self/exe");
    if image.exists() {
        return Ok(image.to_owned());
    }
    let name = PathBuf::from(std::env::args_os().next().unwrap_or_default());
    if name.components().count() > 1 {
        return name.canonicalize();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(&name)).find(|file| file.is_file());
    let none = || io::Error::new(io::ErrorKind::NotFound, "there is no /proc, and PATH does not lead to the program");
    found.ok_or_else(none)?.canonicalize()
}

/// Why a folder is not used. Nothing of it was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// What others made is in it.
    #[error("the folder {} is not a host's own: it has `{name}`, which no host has made", folder.display())]
    Foreign {
        /// Which.
        folder: PathBuf,
        /// The first thing of others in it.
        name: String,
    },
    /// Somebody else can write into it.
    #[error("others can write into the folder {} (its mode is {mode:o})", folder.display())]
    Open {
        /// Which.
        folder: PathBuf,
        /// Its mode.
        mode: u32,
        /// Whether it is this user's, who can end that.
        mine: bool,
    },
    /// It belongs to somebody who can write into it.
    #[error("the folder {} belongs to another user", .0.display())]
    OfAnother(PathBuf),
    /// A restore into it was broken off.
    #[error("in the folder {} a restore was broken off: what is there is a part of a backup", .0.display())]
    Unfinished(PathBuf),
    /// It is a file.
    #[error("{} is no folder", .0.display())]
    NoFolder(PathBuf),
    /// The machine says no.
    #[error("the folder {} cannot be used: {source}", folder.display())]
    Io {
        /// Which.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Refused {
    /// What helps, to be typed.
    pub(crate) fn remedy(&self) -> String {
        let word = |path: &Path| shell_word(&path.display().to_string()).into_owned();
        match self {
            Self::Open { folder, mine: true, .. } => format!("end that: chmod go-w {}", word(folder)),
            Self::Foreign { folder, .. } | Self::Open { folder, .. } | Self::OfAnother(folder) => {
                format!("name a folder of its own, which is made: --data-dir {}", word(&folder.join("bellhop")))
            }
            Self::Unfinished(folder) => format!("restore again: bellhop restore FILE --data-dir {}", word(folder)),
            Self::NoFolder(_) | Self::Io { .. } => "name another folder: --data-dir FOLDER".to_owned(),
        }
    }
}

/// What others may do with what this process makes from now on: nothing. Its memory, which has tokens in it, is not written
/// to a disk when it crashes.
pub(crate) fn keep_to_ourselves() {
    // The mask that was before is nobody's any more.
    let _before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        static SAID: Once = Once::new();
        SAID.call_once(|| {
            tracing::warn!(%error, "core dumps cannot be turned off here: a crash may write this process's memory, with tokens in it, to a disk");
        });
    }
}

/// A host's folder: made, with those above it, for this user alone; or one that was there, into which nobody else can
/// write and in which nothing is that no host has made. What earlier lives of a host made is this user's alone after Ok.
pub(crate) fn folder(path: &Path) -> Result<(), Refused> {
    let failed = |source| Refused::Io { folder: path.to_owned(), source };
    if !path.try_exists().map_err(failed)? {
        make(path).map_err(failed)?;
    }
    looked_at(path)?;
    // Only a host's store says that the rest is a host's.
    let known = is_a_store(&path.join("store")).map_err(|source| failed_at(&path.join("store"), source))?;
    if !known {
        only_ours(path)?;
    }
    for name in OURS {
        let ours = path.join(name);
        match std::fs::symlink_metadata(&ours) {
            Ok(found) if found.is_symlink() => looked_at(&ours)?,
            Ok(_) if known => tighten(&ours).map_err(failed)?,
            Ok(_) => looked_at(&ours)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && name == "compiled" => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(&ours).map_err(failed)?,
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

/// What a start would say of a host's folder, by looking alone; of one that a host has used, also the first thing in it that
/// others may open.
///
/// # Errors
/// A start would refuse it.
pub(super) fn look(path: &Path) -> Result<Option<PathBuf>, Refused> {
    let failed = |source| Refused::Io { folder: path.to_owned(), source };
    if !path.try_exists().map_err(failed)? {
        return Ok(None);
    }
    looked_at(path)?;
    if !is_a_store(&path.join("store")).map_err(|source| failed_at(&path.join("store"), source))? {
        only_ours(path)?;
        return Ok(None);
    }
    Ok(OURS.iter().find_map(|name| {
        // Compiled code is no secret: nobody else may write it.
        open_to_others(&path.join(name), if *name == "compiled" { 0o022 } else { 0o077 })
    }))
}

/// The first of a folder's files, or it itself, whose mode lets others do any of `forbidden`.
fn open_to_others(path: &Path, forbidden: u32) -> Option<PathBuf> {
    let found = std::fs::symlink_metadata(path).ok().filter(|found| !found.is_symlink())?;
    if found.mode() & forbidden != 0 {
        return Some(path.to_owned());
    }
    let entries = found.is_dir().then(|| std::fs::read_dir(path).ok()).flatten().into_iter().flatten();
    entries.flatten().find_map(|entry| open_to_others(&entry.path(), forbidden))
}

fn failed_at(folder: &Path, source: io::Error) -> Refused {
    Refused::Io { folder: folder.to_owned(), source }
}

/// Makes a folder, with those above it, for this user alone.
pub(super) fn make(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Refuses a folder that another user controls.
pub(super) fn looked_at(path: &Path) -> Result<(), Refused> {
    let found = std::fs::metadata(path).map_err(|source| Refused::Io { folder: path.to_owned(), source })?;
    if !found.is_dir() {
        return Err(Refused::NoFolder(path.to_owned()));
    }
    let me = rustix::process::geteuid().as_raw();
    let mine = found.uid() == me;
    if found.mode() & 0o022 != 0 {
        return Err(Refused::Open { folder: path.to_owned(), mode: found.mode() & 0o7777, mine });
    }
    // Who administers the machine can write everywhere.
    if !mine && found.uid() != 0 {
        return Err(Refused::OfAnother(path.to_owned()));
    }
    Ok(())
}

/// Whether a host has made the store. One into which this user cannot look may be a host's: that is said, and not that
/// it is somebody else's.
fn is_a_store(path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path.join("format")) {
        Ok(found) => Ok(found.is_file()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        Err(_) => Ok(false),
    }
}

/// Refuses a folder in which anything is that a host does not make. Of its own folders only an empty one may be there.
fn only_ours(path: &Path) -> Result<(), Refused> {
    let failed = |source| Refused::Io { folder: path.to_owned(), source };
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if BESIDE.contains(&name.as_str()) {
            continue;
        }
        if name == RESTORING {
            return Err(Refused::Unfinished(path.to_owned()));
        }
        if !OURS.contains(&name.as_str()) || (name == "store" && !has_only_begun(&entry.path())) {
            return Err(Refused::Foreign { folder: path.to_owned(), name });
        }
    }
    Ok(())
}

/// Whether a store is empty, or one whose making was broken off before it could be known as one.
fn has_only_begun(store: &Path) -> bool {
    let begun = |entry: io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| BEGUN.iter().any(|name| entry.file_name() == *name))
    };
    store.read_dir().is_ok_and(|mut entries| entries.all(begun))
}

fn tighten(path: &Path) -> io::Result<()> {
    let found = std::fs::symlink_metadata(path)?;
    if found.is_symlink() {
        return Ok(());
    }
    if found.mode() & 0o077 != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(found.mode() & 0o700))?;
    }
    if found.is_dir() {
        for entry in std::fs::read_dir(path)? {
            tighten(&entry?.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    fn set(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn memory_with_tokens_in_it_is_written_to_no_disk() {
        keep_to_ourselves();
        let limit = rustix::process::getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
    }

    #[test]
    fn attack_b16_folders_are_the_host_s_own() {
        let place = tempfile::tempdir().unwrap();
        let new = place.path().join("a/b");
        folder(&new).unwrap();
        assert_eq!((mode(&new), mode(&place.path().join("a"))), (0o700, 0o700));
        let (store, secrets) = (new.join("store"), new.join("secrets"));
        assert_eq!((mode(&store), mode(&secrets)), (0o700, 0o700));
        std::fs::write(store.join("format"), "x").unwrap();
        std::fs::write(secrets.join("file"), "x").unwrap();
        // As an earlier version left them.
        for (path, open) in [(&store, 0o777), (&store.join("format"), 0o666), (&secrets.join("file"), 0o644)] {
            set(path, open);
        }
        set(&new, 0o755);
        folder(&new).unwrap();
        assert_eq!(mode(&new), 0o755, "who made it may let others look");
        assert_eq!((mode(&store), mode(&store.join("format")), mode(&secrets.join("file"))), (0o700, 0o600, 0o600));
    }

    #[test]
    fn attack_d10_the_mode_of_what_others_made_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let there = place.path().join("it's there");
        std::fs::create_dir(&there).unwrap();
        set(&there, 0o777);
        let refused = folder(&there).unwrap_err();
        assert!(matches!(refused, Refused::Open { mine: true, .. }), "{refused}");
        assert!(refused.remedy().contains("chmod go-w '") && refused.remedy().contains(r"it'\''s there'"), "{refused}");
        assert_eq!(mode(&there), 0o777);
        assert!(there.read_dir().unwrap().next().is_none(), "nothing is put into it");
        // As the remedy says.
        set(&there, 0o755);
        folder(&there).unwrap();
        assert_eq!(mode(&there), 0o755);

        // A home, with folders that are called as ours.
        let home = place.path().join("home");
        for name in ["secrets", "store", "pictures"] {
            std::fs::create_dir_all(home.join(name)).unwrap();
            std::fs::write(home.join(name).join("file"), "x").unwrap();
            set(&home.join(name).join("file"), 0o644);
            set(&home.join(name), 0o755);
        }
        for gone in ["pictures", "store"] {
            let refused = folder(&home).unwrap_err();
            assert!(matches!(refused, Refused::Foreign { .. }), "{refused}");
            assert!(
                refused.remedy().contains("--data-dir ") && refused.remedy().ends_with("home/bellhop"),
                "{refused}"
            );
            assert_eq!((mode(&home.join("secrets")), mode(&home.join("secrets/file"))), (0o755, 0o644));
            std::fs::remove_dir_all(home.join(gone)).unwrap();
        }
        folder(&home.join("bellhop")).unwrap();

        let link = place.path().join("link");
        std::fs::create_dir(&link).unwrap();
        std::os::unix::fs::symlink(home.join("secrets"), link.join("store")).unwrap();
        assert!(folder(&link).is_err());
        let file = place.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(folder(&file), Err(Refused::NoFolder(_))));
    }
}
