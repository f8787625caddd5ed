//! Mistakes to be planted into a copy of the project: each is a patch under `tests/mutants`, and none is in the program.
//!
//! A patch begins with what the mistake does and how it is found out, as `Found-by: WORD…`. What it adds asks
//! `bellhop_faults::planted("NAME")`, so that one build of the copy has all mistakes, and each life makes one of them.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::project;

/// The version of the copy's crates. Cargo tells the crates of two checkouts in one target folder apart by it.
const VERSION: &str = "0.1.0-mutants";

/// One mistake.
#[derive(Debug, Clone)]
pub struct Mutant {
    /// The patch's name, and what the patched program knows the mistake by.
    pub name: String,
    /// What the mistake does, in a sentence.
    pub what: String,
    /// How it is found out, in words that whoever plays it understands.
    pub found_by: Vec<String>,
    file: PathBuf,
}

/// Why mistakes were not planted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A patch does not say what it has to.
    #[error("{}: {what}", path.display())]
    Patch {
        /// Which.
        path: PathBuf,
        /// What is missing or wrong.
        what: String,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { path, source }
}

fn folder() -> PathBuf {
    project::root().join("tests/mutants")
}

/// Every mistake, by name.
///
/// # Errors
/// A patch cannot be read, or does not begin as the module says.
pub fn all() -> Result<Vec<Mutant>, Error> {
    let folder = folder();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(at(&folder))? {
        let file = entry.map_err(at(&folder))?.path();
        if file.extension() == Some(OsStr::new("patch")) {
            found.push(read(file)?);
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn read(file: PathBuf) -> Result<Mutant, Error> {
    let text = std::fs::read_to_string(&file).map_err(at(&file))?;
    let wrong = |what: &str| Error::Patch { path: file.clone(), what: what.to_owned() };
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let what =
        text.lines().next().filter(|line| line.ends_with('.')).ok_or_else(|| wrong("begins with no sentence"))?;
    let found_by = text.lines().find_map(|line| line.strip_prefix("Found-by: "));
    let found_by = found_by.ok_or_else(|| wrong("says no `Found-by: `"))?;
    if !text.contains(&format!("bellhop_faults::planted(\"{name}\")")) {
        return Err(wrong("does not ask for its own name"));
    }
    let (what, found_by) = (what.to_owned(), found_by.split_whitespace().map(str::to_owned).collect());
    Ok(Mutant { name, what, found_by, file })
}

/// Makes `dir` a copy of the project with all of `mutants` in it. A file that is there and right is left alone, so that
/// what was built from it need not be built again.
///
/// # Errors
/// A file cannot be copied, or a patch does not apply.
pub fn plant(dir: &Path, mutants: &[Mutant]) -> Result<(), Error> {
    // What git does to a file it does to a fresh copy of it: only afterwards is it known which files differ.
    let fresh = tempfile::tempdir().map_err(at(dir))?;
    let files = project::files().map_err(at(&project::root()))?;
    for file in &files {
        write(&fresh.path().join(&file.path), &file.text)?;
    }
    for mutant in mutants {
        apply(fresh.path(), mutant)?;
    }
    let switch = folder().join("switch.rs");
    let switch = std::fs::read_to_string(&switch).map_err(at(&switch))?;
    change(&fresh.path().join("host/faults/src/lib.rs"), |text| text + &switch)?;
    change(&fresh.path().join("Cargo.toml"), |text| {
        text.replacen("\nversion = \"0.1.0\"", &format!("\nversion = {VERSION:?}"), 1)
    })?;
    for file in &files {
        let text = fresh.path().join(&file.path);
        let text = std::fs::read_to_string(&text).map_err(at(&text))?;
        let to = dir.join(&file.path);
        if std::fs::read_to_string(&to).ok().as_ref() != Some(&text) {
            write(&to, &text)?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(at(folder))?;
    }
    std::fs::write(path, text).map_err(at(path))
}

fn change(path: &Path, change: impl FnOnce(String) -> String) -> Result<(), Error> {
    let text = std::fs::read_to_string(path).map_err(at(path))?;
    let changed = change(text.clone());
    if changed == text {
        return Err(Error::Patch { path: path.to_owned(), what: "is not what is changed in it".to_owned() });
    }
    std::fs::write(path, changed).map_err(at(path))
}

/// One line of context is enough, because two mistakes may be made close to each other.
fn apply(dir: &Path, mutant: &Mutant) -> Result<(), Error> {
    let mut git = Command::new("git");
    // The copy may be inside of a repository, which git would otherwise take for the one that is meant.
    git.current_dir(dir)
        .env("GIT_CEILING_DIRECTORIES", dir.parent().unwrap_or(dir))
        .args(["apply", "-C1"])
        .arg(&mutant.file);
    let done = git.output().map_err(at(&mutant.file))?;
    if done.status.success() {
        return Ok(());
    }
    let what = format!("does not apply any more: {}", String::from_utf8_lossy(&done.stderr).trim());
    Err(Error::Patch { path: mutant.file.clone(), what })
}
