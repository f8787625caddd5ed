//! What comes with the program: the Slack actions and the shipped definitions.
//!
//! They are looked for from where the program lies, since the folder in which a verb is called may be anybody's. Only a
//! program that lies in cargo's target folder, as one that is being worked on does, takes what was built around the
//! current folder.

use std::path::{Path, PathBuf};

use super::offline::target_dir;

/// Where plugins are, from the program's folder: a package has them under `lib`, an unpacked archive beside the program.
const PLUGINS: [&str; 2] = ["../lib/bellhop/plugins", "plugins"];
/// Where definitions are, likewise.
const WORKFLOWS: [&str; 2] = ["../share/bellhop/workflows", "workflows"];
/// What cargo writes into every target folder.
const CARGOS_MARK: &str = ".rustc_info.json";

/// The plugins that are at hand without any installation.
pub(super) struct AtHand {
    /// In the order of their names.
    pub(super) files: Vec<PathBuf>,
    /// Where they were looked for, for people.
    pub(super) looked: String,
    /// What puts one there.
    pub(super) remedy: String,
}

/// The plugins that come with the program, or that were built where it was built.
pub(super) fn plugins() -> AtHand {
    let program = folder();
    plugins_of(program.as_deref(), std::env::current_dir().ok().as_deref())
}

fn plugins_of(program: Option<&Path>, here: Option<&Path>) -> AtHand {
    if let Some(folder) = program.and_then(|program| first(program, &PLUGINS)) {
        let remedy = format!("put the Slack actions there: {}/slack.wasm", folder.display());
        return AtHand { files: components(&folder), looked: folder.display().to_string(), remedy };
    }
    if program.is_some_and(is_cargos) {
        let around = here.into_iter().flat_map(Path::ancestors).map(|folder| folder.join("target/plugins"));
        let folder = around.chain(target_dir().map(|target| target.join("plugins"))).find(|folder| folder.is_dir());
        return AtHand {
            files: folder.map(|folder| components(&folder)).unwrap_or_default(),
            looked: "target/plugins of this folder and those around it".to_owned(),
            remedy: "`make plugins` builds the Slack actions".to_owned(),
        };
    }
    let beside = program.map_or_else(|| "its folder".to_owned(), |program| program.display().to_string());
    AtHand {
        files: Vec::new(),
        looked: format!("what comes with the program, from {beside}"),
        remedy: format!("put the Slack actions beside the program: {beside}/plugins/slack.wasm"),
    }
}

/// The component with the Slack actions: the one that comes with the program, else where `make plugins` builds it.
pub(super) fn slack_actions() -> PathBuf {
    found(&PLUGINS).map_or_else(|| "target/plugins/slack.wasm".into(), |folder| folder.join("slack.wasm"))
}

/// The folder of the shipped definitions: the one that comes with the program, else that of the workspace.
pub(super) fn workflows() -> PathBuf {
    found(&WORKFLOWS).unwrap_or_else(|| "workflows".into())
}

fn found(places: &[&str]) -> Option<PathBuf> {
    folder().and_then(|program| first(&program, places))
}

/// The folder in which the program lies. Its own name may be gone by now, or be another program's.
fn folder() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    program.parent()?.canonicalize().ok()
}

fn first(program: &Path, places: &[&str]) -> Option<PathBuf> {
    places.iter().filter_map(|place| program.join(place).canonicalize().ok()).find(|folder| folder.is_dir())
}

fn is_cargos(program: &Path) -> bool {
    program.ancestors().any(|folder| folder.join(CARGOS_MARK).is_file())
}

fn components(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "wasm")).collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(place: &Path, name: &str) -> PathBuf {
        let path = place.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        path
    }

    #[test]
    fn a_program_takes_what_came_with_it_and_nothing_of_the_folder_in_which_it_is_called() {
        let place = tempfile::tempdir().unwrap();
        let place = place.path().canonicalize().unwrap();
        let (bin, here) = (place.join("usr/bin"), place.join("project/sub"));
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(&here).unwrap();
        let planted = write(&place, "project/target/plugins/slack.wasm");
        let files = || plugins_of(Some(&bin), Some(&here)).files;
        assert!(files().is_empty(), "nothing came with it");
        // An unpacked archive.
        let beside = write(&bin, "plugins/slack.wasm");
        assert_eq!(files(), [beside]);
        // A package.
        let shipped = write(&place, "usr/lib/bellhop/plugins/slack.wasm");
        assert_eq!(files(), [shipped]);
        // One that is being worked on.
        let built = place.join("project/target/debug");
        fs::create_dir_all(&built).unwrap();
        write(&place, "project/target/.rustc_info.json");
        assert_eq!(plugins_of(Some(&built), Some(&here)).files, [planted]);
    }
}
