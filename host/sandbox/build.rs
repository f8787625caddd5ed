//! Builds the expression evaluator, a guest that ships inside the program.

use std::env;
use std::path::{Path, PathBuf};

use bellhop_toolchain as toolchain;

fn main() {
    if let Err(error) = expression() {
        // One line, which cargo shows without the script's other output.
        println!("cargo::error={}", error.to_string().replace('\n', " "));
    }
}

fn expression() -> Result<(), Box<dyn std::error::Error>> {
    let workspace = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../..");
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    let guest = workspace.join("plugins/expression");
    for path in ["Cargo.toml", "src", "wit"] {
        println!("cargo::rerun-if-changed={}", guest.join(path).display());
    }
    println!("cargo::rerun-if-changed={}", workspace.join("Cargo.lock").display());
    println!("cargo::rerun-if-changed=build.rs");
    for variable in toolchain::VARIABLES {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let options = toolchain::Options { target_dir: Some(guests(&out_dir)), verbose: false };
    std::fs::write(out_dir.join("expression.wasm"), toolchain::build(&guest, &options)?)?;
    Ok(())
}

/// A folder for guests beside the host's own, in the same target folder, so that check, test and release builds of
/// the host share one guest. It is not the host's own folder, which the cargo that runs us has locked.
fn guests(out_dir: &Path) -> PathBuf {
    // Cargo puts the one there only where it makes the folder itself, and the other always.
    let marks = ["CACHEDIR.TAG", ".rustc_info.json"];
    let target = out_dir.ancestors().find(|folder| marks.iter().any(|mark| folder.join(mark).is_file()));
    target.unwrap_or(out_dir).join("guests")
}
