//! The file in which the first operator finds a token: where standard output is a log, a token must not be there.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bellhop_engine::Engine;
use tempfile::NamedTempFile;

use super::Error;
use super::read::whole;

/// A longer file is not one of ours.
const BYTES_MAX: u64 = 256;

/// See the module.
pub(super) struct File {
    path: PathBuf,
    is_written: bool,
}

impl File {
    /// Puts `token` into the file, of which only the host's own user can read it. An earlier token there is replaced, and
    /// nothing else is. Without a token the file stays as it is, as long as the token in it has not been used.
    ///
    /// # Errors
    /// The file cannot be written, or has something else in it. The token is made anew at the next start.
    pub(super) fn new(path: PathBuf, token: Option<&str>) -> Result<Self, Error> {
        if let Some(token) = token {
            put(&path, token).map_err(|source| Error::FirstToken { path: path.clone(), source })?;
        }
        Ok(Self { path, is_written: token.is_some() })
    }

    /// Where a new token is.
    pub(super) fn path(&self) -> Option<String> {
        self.is_written.then(|| self.path.display().to_string())
    }

    /// Removes the file once the token has been used.
    pub(super) async fn gone_when_used(self, engine: Arc<Engine>) {
        engine.tokens.first_is_used().await;
        match must_be_ours(&self.path).and_then(|()| fs::remove_file(&self.path)) {
            Ok(()) => tracing::info!(path = %self.path.display(), "the first token was used: its file is removed"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the file of the first token cannot be removed");
            }
        }
    }
}

/// That the file is there, and has nothing but a token in it.
fn must_be_ours(path: &Path) -> io::Result<()> {
    let is_ours = fs::symlink_metadata(path)?.is_file() && whole(path, BYTES_MAX)?.starts_with(b"bh_");
    if is_ours {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else in its place"))
    }
}

/// Written under another name first: whoever finds the file finds the whole token.
fn put(path: &Path, token: &str) -> io::Result<()> {
    match must_be_ours(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    // Only its user can read it.
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(format!("{token}\n").as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    #[test]
    fn the_file_is_the_users_own_and_takes_the_place_of_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (path, theirs) = (folder.path().join("token"), folder.path().join("theirs"));
        put(&path, "bh_1").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "bh_1\n");
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o177_777, 0o100_600);
        put(&path, "bh_2").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "bh_2\n");
        fs::write(&theirs, "x").unwrap();
        let link = folder.path().join("link");
        symlink(&theirs, &link).unwrap();
        for other in [&theirs, &link, &folder.path().to_owned()] {
            assert_eq!(put(other, "bh_3").unwrap_err().kind(), io::ErrorKind::AlreadyExists, "{}", other.display());
        }
        assert_eq!(fs::read_to_string(&theirs).unwrap(), "x");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing is left beside them");
    }

    #[test]
    fn a_folder_that_is_not_there_is_said() {
        let path = PathBuf::from("/no/such/folder/token");
        let Err(error) = File::new(path.clone(), Some("bh_1")) else { panic!("it is written") };
        assert!(
            error.to_string().starts_with("the first token cannot be written to /no/such/folder/token: "),
            "{error}"
        );
        assert!(File::new(path, None).unwrap().path().is_none());
    }
}
