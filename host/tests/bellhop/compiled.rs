//! Compiled code of the hosts that tests start.
//!
//! The first start on a new data folder compiles the evaluator, which takes a debug build seven seconds of the processor.
//! Hosts of tests have a new folder each, so whoever starts one lends it what an earlier one has compiled, and keeps what
//! it compiles for the next.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Smaller ones are made anew: those are the plugins of a test, and how that goes may be what it is about.
const BYTES_MIN: u64 = 1_000_000;
/// With more than these, of builds before this one, all are made anew.
const FILES_MAX: usize = 16;

fn shared() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled")
}

fn own_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Lends a host what is compiled, if its data folder is still to be made.
pub(super) fn lend(data: &Path) {
    let folder = data.join("compiled");
    let lent = || -> io::Result<()> {
        own_folder(&folder)?;
        copy(&shared(), &folder)
    };
    if !data.exists() {
        // Without it the host compiles for itself.
        let _ = lent();
    }
}

/// Keeps what a host has compiled, for the next.
pub(super) fn keep(data: &Path) {
    let kept = || -> io::Result<()> {
        own_folder(&shared())?;
        if fs::read_dir(shared())?.count() > FILES_MAX {
            fs::remove_dir_all(shared())?;
            own_folder(&shared())?;
        }
        copy(&data.join("compiled"), &shared())
    };
    // Without it the next host compiles for itself.
    let _ = kept();
}

/// Gives each file a second name. Its bytes are never written again.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, name) = (entry.path(), to.join(entry.file_name()));
        let is_whole = path.extension().is_some_and(|extension| extension == "cwasm");
        if !is_whole || name.exists() || entry.metadata()?.len() < BYTES_MIN {
            continue;
        }
        if fs::hard_link(&path, &name).is_err() && !name.exists() {
            // The two folders are on two disks. Others may do the same now, and none of them may see a half.
            let making = to.join(format!(".{}-{}", std::process::id(), entry.file_name().to_string_lossy()));
            fs::copy(&path, &making)?;
            fs::rename(&making, &name)?;
        }
    }
    Ok(())
}
