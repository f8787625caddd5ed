//! Builds the expression evaluator, a guest that ships inside the program, and takes the book's pages of codes in.

use std::env;
use std::path::{Path, PathBuf};

#[allow(dead_code, unreachable_pub, reason = "shared with the program, which uses more of it")]
#[path = "src/toolchain/compile.rs"]
mod compile;

fn main() {
    if let Err(error) = expression().and_then(|()| pages()) {
        // One line, which cargo shows without the script's other output.
        println!("cargo::error={}", error.to_string().replace('\n', " "));
    }
}

fn expression() -> Result<(), Box<dyn std::error::Error>> {
    let workspace = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("..");
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    let guest = workspace.join("plugins/expression");
    for path in ["Cargo.toml", "src", "wit"] {
        println!("cargo::rerun-if-changed={}", guest.join(path).display());
    }
    println!("cargo::rerun-if-changed={}", workspace.join("Cargo.lock").display());
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/toolchain/compile.rs");
    for variable in compile::VARIABLES {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let options = compile::Options { target_dir: Some(guests(&out_dir)), verbose: false };
    let component = compile::encode(&compile::compile(&guest, &options)?)?;
    std::fs::write(out_dir.join("expression.wasm"), component)?;
    Ok(())
}

/// The pages under `docs/errors` as a sorted table of names and texts.
fn pages() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("docs/errors");
    println!("cargo::rerun-if-changed={}", folder.display());
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

/// A folder for guests beside the host's own, in the same target folder, so that check, test and release builds of
/// the host share one guest. It is not the host's own folder, which the cargo that runs us has locked.
fn guests(out_dir: &Path) -> PathBuf {
    let target = out_dir.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    target.unwrap_or(out_dir).join("guests")
}
