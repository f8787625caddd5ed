//! The project as files.

use std::io;
use std::path::{Path, PathBuf};

/// The folder that has the workspace's `Cargo.toml`.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The folder that guests are built in, beside what this program was built in: the build of the first of them has made there
/// what the others need as well.
#[must_use]
pub fn guests() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let target = own.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file())?;
    Some(target.join("guests"))
}

/// A text file of the project.
#[derive(Debug, Clone)]
pub struct File {
    /// From the root, with `/`.
    pub path: String,
    /// What is in it.
    pub text: String,
}

impl File {
    /// The end of its name, without the dot.
    #[must_use]
    pub fn extension(&self) -> &str {
        self.path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map_or("", |(_, extension)| extension)
    }
}

/// Every file that is kept, that is, every one but those under `target` and hidden folders other than `.ci`, in the
/// order of their paths. Files that are not UTF-8 are left out.
///
/// # Errors
/// When a folder or a file cannot be read.
pub fn files() -> io::Result<Vec<File>> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            // `.git` is a file in a second working tree.
            if path.is_symlink() || name == ".git" {
                continue;
            }
            if path.is_dir() {
                let generated = ["target", "node_modules", "__pycache__"].contains(&name.as_str());
                if !generated && (!name.starts_with('.') || name == ".ci") {
                    folders.push(path);
                }
                continue;
            }
            let bytes = std::fs::read(&path)?;
            if let Ok(text) = String::from_utf8(bytes) {
                let inside = path.strip_prefix(&root).unwrap_or(&path);
                found.push(File { path: inside.to_string_lossy().replace('\\', "/"), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The sources under a folder, which is given with its last `/`: their paths in it, and their texts.
///
/// # Errors
/// When a folder or a file cannot be read.
pub fn sources(folder: &str) -> io::Result<Vec<(String, String)>> {
    let inside = |file: File| Some((file.path.strip_prefix(folder)?.to_owned(), file.text));
    Ok(files()?.into_iter().filter_map(inside).filter(|(path, _)| path.ends_with(".rs")).collect())
}
