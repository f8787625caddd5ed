//! Folders and files that are this user's alone, whatever the umask was.

use std::io::Result;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// What others may do with what this process makes from now on: nothing.
pub(crate) fn keep_to_ourselves() {
    // The mask that was before is nobody's any more.
    let _before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

/// Makes a folder, and those above it, for this user alone. In one that was there before nobody else may write after Ok.
pub(crate) fn folder(path: &Path) -> Result<()> {
    if !path.exists() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    }
    let mode = std::fs::metadata(path)?.mode();
    if mode & 0o022 == 0 {
        return Ok(());
    }
    tracing::warn!(folder = %path.display(), mode = format!("{:o}", mode & 0o7777), "others could write in the folder");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode & 0o7755))
}

/// Makes a folder whose every file is the host's; what is in it is this user's alone after Ok.
pub(crate) fn folder_of_ours(path: &Path) -> Result<()> {
    folder(path)?;
    tighten(path)
}

fn tighten(path: &Path) -> Result<()> {
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

    #[test]
    fn attack_b16_folders_are_the_host_s_own() {
        let place = tempfile::tempdir().unwrap();
        let new = place.path().join("a/b");
        folder(&new).unwrap();
        assert_eq!((mode(&new), mode(&place.path().join("a"))), (0o700, 0o700));
        std::fs::write(new.join("file"), "x").unwrap();
        for (path, open) in [(new.as_path(), 0o777), (&new.join("file"), 0o666)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(open)).unwrap();
        }
        folder(&new).unwrap();
        assert_eq!(mode(&new), 0o755, "who made it may let others look");
        folder_of_ours(&new).unwrap();
        assert_eq!((mode(&new), mode(&new.join("file"))), (0o700, 0o600));
    }
}
