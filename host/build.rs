//! Takes the book's pages of codes in.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    versions();
    if let Err(error) = pages() {
        // One line, which cargo shows without the script's other output.
        println!("cargo::error={}", error.to_string().replace('\n', " "));
    }
}

/// What `--version --verbose` says of this build. A commit is looked up for a release alone: in a development build it
/// would have the program built anew at each commit, or be wrong. A build from a tarball can be told it.
fn versions() {
    println!("cargo::rerun-if-env-changed=BELLHOP_COMMIT");
    let told = env::var("BELLHOP_COMMIT").ok().filter(|commit| !commit.is_empty());
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = told.or_else(|| is_release.then(commit).flatten()).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=BELLHOP_COMMIT={commit}");
    let lock = PathBuf::from(env::var("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../Cargo.lock");
    println!("cargo::rerun-if-changed={}", lock.display());
    let text = std::fs::read_to_string(lock).unwrap_or_default();
    let wasmtime = text
        .split_once("name = \"wasmtime\"\nversion = \"")
        .and_then(|(_, rest)| rest.split('"').next())
        .unwrap_or("unknown");
    println!("cargo::rustc-env=BELLHOP_WASMTIME={wasmtime}");
}

/// The commit that is checked out, where this file is one of its repository's.
fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
    };
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    let moved = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|path| PathBuf::from(path).exists());
    moved.iter().for_each(|path| println!("cargo::rerun-if-changed={path}"));
    git(&["rev-parse", "HEAD"])
}

/// The pages under `docs/errors` as a sorted table of names and texts.
fn pages() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("docs/errors");
    println!("cargo::rerun-if-changed={}", folder.display());
    println!("cargo::rerun-if-changed=build.rs");
    let mut pages = Vec::new();
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if let (Some(name), true) = (path.file_stem(), path.extension().is_some_and(|e| e == "md")) {
            pages.push((name.to_string_lossy().into_owned(), path.clone()));
        }
    }
    pages.sort();
    let lines: String = pages.iter().map(|(name, path)| format!("    ({name:?}, include_str!({path:?})),\n")).collect();
    let text = format!("/// Every page of a code, by name.\nconst PAGES: &[(&str, &str)] = &[\n{lines}];\n");
    std::fs::write(PathBuf::from(env::var("OUT_DIR")?).join("pages.rs"), text)?;
    Ok(())
}
