//! Writes a Rust function for each function of the package `bellhop:slack`, so that an author calls
//! `slack::chat::post_message(…)` and reads there what the method asks for.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// The package that this version of the SDK is made for. Functions are only ever added to it.
const PACKAGE: &str = "../../wit/slack@1.0.0";

/// Rust's words that can be names in WIT. The generated bindings put `_` behind them, and so do we.
const KEYWORDS: [&str; 12] = ["as", "box", "const", "do", "enum", "fn", "for", "in", "loop", "match", "move", "type"];

fn main() -> io::Result<()> {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?).join(PACKAGE);
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "wit"));
    files.sort();
    let mut out = String::new();
    let mut functions = Vec::new();
    for file in files {
        module(&fs::read_to_string(file)?, &mut out, &mut functions);
    }
    functions.sort();
    let _ = writeln!(
        out,
        "/// Every function that there is, as manifests name it, sorted.\npub const FUNCTIONS: &[&str] = &{functions:?};"
    );
    let target = Path::new(&env::var("OUT_DIR").map_err(io::Error::other)?).join("slack.rs");
    fs::write(target, out)
}

/// The files are generated, so that a line is an interface, a function, a remark or an end.
fn module(wit: &str, out: &mut String, functions: &mut Vec<String>) {
    let mut interface: Option<String> = None;
    let mut docs = Vec::new();
    for line in wit.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("interface ").and_then(|rest| rest.strip_suffix('{')) {
            let name = name.trim().trim_start_matches('%').to_owned();
            let _ = writeln!(out, "/// Functions of the interface `{name}`.\npub mod {} {{", rust(&name));
            interface = Some(name);
            docs.clear();
        } else if let Some(text) = line.strip_prefix("///") {
            docs.push(text.trim().to_owned());
        } else if let (Some(interface), Some((name, _))) = (&interface, line.split_once(": func(")) {
            let name = name.trim_start_matches('%');
            let function = format!("{interface}.{name}");
            if docs.is_empty() {
                docs.push(format!("Calls `{function}`."));
            }
            for text in docs.drain(..) {
                let _ = writeln!(out, "    #[doc = {text:?}]");
            }
            let _ = writeln!(
                out,
                "    pub fn {0}(args: impl super::Serialize) -> Result<super::Value, super::Error> {{ \
                 super::call!({function:?}, {1}, {0}, args) }}",
                rust(name),
                rust(interface)
            );
            functions.push(function);
        } else if line == "}" && interface.take().is_some() {
            out.push_str("}\n\n");
        }
    }
}

fn rust(name: &str) -> String {
    let name = name.replace('-', "_");
    if KEYWORDS.contains(&name.as_str()) { format!("{name}_") } else { name }
}
