//! The files that a verb is given, and standard input: read whole, and no more than a limit says.

use std::path::Path;

use bellhop_core::encoding;

use super::output::Failure;
use crate::serve::read;

/// What is in a file.
///
/// # Errors
/// It is not there, is no file, is longer than `file_bytes_max`, or cannot be read.
pub(super) fn bytes(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    read::whole(path, bytes_max).map_err(|error| Failure::unreadable(path, &error))
}

/// The text in a file.
///
/// # Errors
/// As [`bytes`], and it is no text.
pub(super) fn text(path: &Path, bytes_max: u64) -> Result<String, Failure> {
    of(path, &bytes(path, bytes_max)?)
}

/// The text on standard input, up to its end.
///
/// # Errors
/// As [`text`].
pub(super) fn standard_input(bytes_max: u64) -> Result<String, Failure> {
    let name = Path::new("standard input");
    let read = read::to_the_end(std::io::stdin().lock(), bytes_max).map_err(|error| Failure::unreadable(name, &error));
    of(name, &read?)
}

fn of(path: &Path, bytes: &[u8]) -> Result<String, Failure> {
    encoding::text(bytes).map(str::to_owned).map_err(|why| {
        let error = std::io::Error::new(std::io::ErrorKind::InvalidData, why);
        Failure::unreadable(path, &error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Exit;

    #[test]
    fn author_d4_what_is_no_file_is_said_with_what_helps() {
        let failure = bytes(Path::new("/dev/zero"), 10).unwrap_err();
        assert_eq!((failure.exit, failure.code.as_str()), (Exit::Failed, "file-unreadable"));
        assert!(failure.help.as_deref().unwrap_or_default().contains("into a file first"), "{failure:?}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "long").unwrap();
        let failure = text(file.path(), 3).unwrap_err();
        assert!(failure.message.contains("more than 3 bytes (`file_bytes_max`)"), "{failure:?}");
        assert!(failure.help.as_deref().unwrap_or_default().contains("[limits]"), "{failure:?}");
        std::fs::write(file.path(), [0xff]).unwrap();
        assert!(text(file.path(), 3).unwrap_err().message.contains("UTF-8"));
        assert_eq!(bytes(file.path(), 3).unwrap(), [0xff]);
    }
}
