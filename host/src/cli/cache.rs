//! Where a user's compiled code is kept.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::output::Failure;
use bellhop_sandbox::own_folder;

/// A folder for compiled code that no folder and no text of others has named. Whoever can write there can run code in this
/// process, and what lies in the folder in which a verb is called may be anybody's.
pub(super) struct Cache {
    /// It.
    pub(super) path: PathBuf,
    /// Removed when it is dropped.
    _temporary: Option<tempfile::TempDir>,
}

impl Cache {
    /// The user's own, else one that ends with this process.
    pub(super) fn of_the_user() -> Result<Self, Failure> {
        Self::of(|variable| std::env::var_os(variable))
    }

    fn of(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, Failure> {
        let named = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let cache = named("XDG_CACHE_HOME").or_else(|| named("HOME").map(|home| home.join(".cache")));
        if let Some(path) = cache.map(|cache| cache.join("bellhop/compiled"))
            && is_usable(&path)
        {
            return Ok(Self { path, _temporary: None });
        }
        let folder = tempfile::tempdir().map_err(|e| {
            Failure::failed("no-cache", format!("there is no folder for compiled code: {e}"))
                .with_help("set XDG_CACHE_HOME, or TMPDIR, to a folder of your own that can be written")
        })?;
        Ok(Self { path: folder.path().to_owned(), _temporary: Some(folder) })
    }
}

/// Whether compiled code can be kept there, now.
fn is_usable(path: &Path) -> bool {
    // What is there may be on a disk that cannot be written.
    own_folder(path).is_ok() && tempfile::tempfile_in(path).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn chosen(variables: &[(&str, &Path)]) -> Cache {
        let of =
            |name: &str| variables.iter().find(|(own, _)| *own == name).map(|(_, path)| path.as_os_str().to_owned());
        Cache::of(of).unwrap()
    }

    #[test]
    fn author_d1_compiled_code_is_kept_where_its_user_says_and_nowhere_else() {
        let place = tempfile::tempdir().unwrap();
        let (cache, home) = (place.path().join("cache"), place.path().join("home"));
        assert_eq!(chosen(&[("XDG_CACHE_HOME", &cache), ("HOME", &home)]).path, cache.join("bellhop/compiled"));
        assert_eq!(chosen(&[("HOME", &home)]).path, home.join(".cache/bellhop/compiled"));
        // What is said relative to a folder leads into that folder.
        assert_eq!(
            chosen(&[("XDG_CACHE_HOME", Path::new("cache")), ("HOME", &home)]).path,
            home.join(".cache/bellhop/compiled")
        );
        let nowhere = chosen(&[]);
        let path = nowhere.path.clone();
        assert!(path.is_dir());
        drop(nowhere);
        assert!(!path.exists());
        // Others could write there.
        let open = cache.join("bellhop/compiled");
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        assert_ne!(chosen(&[("XDG_CACHE_HOME", &cache)]).path, open);
    }
}
