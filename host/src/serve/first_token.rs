//! The file in which the first operator finds a token: where standard output is a log, a token must not be there.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bellhop_engine::Engine;

use super::Error;

/// See the module.
pub(super) struct File {
    path: PathBuf,
    is_written: bool,
}

impl File {
    /// Puts `token` into the file, of which only the host's own user can read it; whatever was there is replaced. Without
    /// a token the file stays as it is, as long as the token in it has not been used.
    ///
    /// # Errors
    /// The file cannot be written. The token is made anew at the next start.
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
        match fs::remove_file(&self.path) {
            Ok(()) => tracing::info!(path = %self.path.display(), "the first token was used: its file is removed"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the file of the first token cannot be removed");
            }
        }
    }
}

/// Written under another name first: whoever finds the file finds the whole token.
fn put(path: &Path, token: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(format!("{token}\n").as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    #[test]
    fn the_file_is_the_users_own_and_follows_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let (path, theirs) = (folder.path().join("token"), folder.path().join("theirs"));
        fs::write(&theirs, "x").unwrap();
        symlink(&theirs, &path).unwrap();
        symlink(&theirs, folder.path().join("token.new")).unwrap();
        put(&path, "bh_1").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "bh_1\n");
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o177_777, 0o100_600);
        assert_eq!(fs::read_to_string(&theirs).unwrap(), "x");
        put(&path, "bh_2").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "bh_2\n");
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
