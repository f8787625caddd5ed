//! A file of somebody's, read whole: never a pipe or a device, which may have no end, and never more than was said.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// What is in a file, of which at most `bytes_max` are read.
///
/// # Errors
/// As the system says; [`ErrorKind::InvalidInput`] where it is no file, [`ErrorKind::FileTooLarge`] where it is longer.
pub(crate) fn whole(path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    // Opening a pipe would wait for somebody who writes into it.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() && !found.is_dir() {
        return Err(Error::new(ErrorKind::InvalidInput, "it is a pipe, a socket or a device, and no file"));
    }
    to_the_end(file, bytes_max)
}

/// All that is to be read, at most `bytes_max` bytes.
///
/// # Errors
/// As the system says; [`ErrorKind::FileTooLarge`] where there is more.
pub(crate) fn to_the_end(from: impl Read, bytes_max: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let text = format!("it has more than {bytes_max} bytes (`file_bytes_max`)");
        return Err(Error::new(ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn author_d4_what_has_no_end_is_not_read() {
        let place = tempfile::tempdir().unwrap();
        let pipe = place.path().join("pipe");
        // Nobody writes into it.
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
        for path in [pipe.as_path(), Path::new("/dev/zero"), Path::new("/dev/null")] {
            let error = whole(path, 10).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{}: {error}", path.display());
        }
        let file = place.path().join("file");
        for (bytes, taken) in [(0, true), (10, true), (11, false), (100_000, false)] {
            std::fs::write(&file, vec![b'x'; bytes]).unwrap();
            match whole(&file, 10) {
                Ok(read) => assert!(taken && read.len() == bytes, "{bytes}"),
                Err(error) => assert!(!taken && error.kind() == ErrorKind::FileTooLarge, "{bytes}: {error}"),
            }
        }
        assert_eq!(to_the_end(std::io::repeat(b'x'), 10).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(whole(&place.path().join("none"), 10).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(whole(place.path(), 10).unwrap_err().kind(), ErrorKind::IsADirectory);
    }
}
