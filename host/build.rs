//! Takes the book's pages of codes in.

use std::env;
use std::path::PathBuf;

fn main() {
    if let Err(error) = pages() {
        // One line, which cargo shows without the script's other output.
        println!("cargo::error={}", error.to_string().replace('\n', " "));
    }
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
