//! Folders and files that are this user's alone, whatever the umask was. The mode of what others made is left alone.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use bellhop_core::text::shell_word;

/// The folders in a host's folder of which every file is its own.
const OURS: [&str; 3] = ["store", "compiled", "secrets"];
/// What else may lie in a folder that was made for a host: its settings, and what file systems put there.
const BESIDE: [&str; 2] = ["bellhop.toml", "lost+found"];

/// What a store has before it can be known as one.
const BEGUN: [&str; 3] = ["creating", "format.new", "lock"];

/// The program that runs here, for a child: the image itself, because the file from which it was started may be another
/// by now, or gone.
///
/// # Errors
/// The system does not tell.
pub(super) fn program() -> io::Result<PathBuf> {
    let image = Path::new("/proc/self/exe");
    if image.exists() { Ok(image.to_owned()) } else { std::env::current_exe() }
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
            Self::NoFolder(_) | Self::Io { .. } => "name another folder: --data-dir FOLDER".to_owned(),
        }
    }
}

/// What others may do with what this process makes from now on: nothing.
pub(crate) fn keep_to_ourselves() {
    // The mask that was before is nobody's any more.
    let _before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
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
    let known = is_a_store(&path.join("store"));
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

fn make(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Refuses a folder that another user controls.
fn looked_at(path: &Path) -> Result<(), Refused> {
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

fn is_a_store(path: &Path) -> bool {
    std::fs::symlink_metadata(path.join("format")).is_ok_and(|found| found.is_file())
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
