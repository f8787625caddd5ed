//! `bellhop plugin`: from a crate to a component, and what a component can do.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::offline::{Offline, refusal};
use super::output::{Exit, Failure};
use super::{Context, browse, offline};
use bellhop_sandbox::Refusal;
use bellhop_toolchain as toolchain;

mod inspect;
mod operate;
mod table;

/// `bellhop plugin`
#[derive(Debug, Subcommand)]
pub(super) enum Plugin {
    /// Compile a crate, encode it as a component, and check it as an installation would
    Build(Build),
    /// Say what a plugin can do, read from its binary; needs no server
    Inspect(Inspect),
    /// Install a plugin in the host
    Install(operate::Install),
    /// Change what an installed plugin may call
    Grant(operate::Grant),
    /// Remove a plugin from the host, when nothing that is open or registered needs it
    Remove(operate::Remove),
    /// List the plugins installed in the host
    List,
}

/// `bellhop plugin build`
#[derive(Debug, Args)]
pub(super) struct Build {
    /// The folder of the crate
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Where the component is written [default: plugins/NAME.wasm in the target folder of the crate's workspace]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Show what the compiler does
    #[arg(long)]
    verbose: bool,
}

/// `bellhop plugin inspect`
#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// A file, or the name of an installed or built plugin
    #[arg(value_name = "FILE|NAME")]
    plugin: String,
}

pub(super) fn run(arguments: &Plugin, context: &Context) -> Result<Exit, Failure> {
    match arguments {
        Plugin::Build(build) => make(build, context),
        Plugin::Inspect(inspect) => inspect::run(&inspect.plugin, context),
        Plugin::Install(install) => operate::install(install, context),
        Plugin::Grant(grant) => operate::grant(grant, context),
        Plugin::Remove(remove) => operate::remove(remove, context),
        Plugin::List => list(context),
    }
}

fn make(arguments: &Build, context: &Context) -> Result<Exit, Failure> {
    let dir = &arguments.dir;
    if !dir.join("Cargo.toml").is_file() {
        let message = format!("{} is no crate: it has no Cargo.toml", dir.display());
        return Err(Failure::missing("crate-not-found", message));
    }
    let offline = Offline::start(context)?;
    let options = toolchain::Options { target_dir: offline::target_dir(), verbose: arguments.verbose };
    let component = toolchain::build(dir, &options)
        .map_err(|why| Failure { help: why.remedy(), ..Failure::failed("plugin-not-built", why.to_string()) })?;
    if let Err(why) = offline.sandbox.inspect(&component) {
        let refused = refusal(&why);
        return Err(match why {
            Refusal::MissingExport { .. } => {
                refused.with_help("name its actions: plugin! { publisher: \"…\", name: \"…\", actions: […] }")
            }
            _ => refused,
        });
    }
    let seen = offline.bytes(&component, &dir.display().to_string())?;
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => target_folder(dir)?.join(format!("{}.wasm", seen.manifest.name)),
    };
    write(&out, &component)?;
    let text = || {
        let mut text = format!(
            "{}: {} {}, {} bytes, {} imports, {} actions\n",
            out.display(),
            seen.manifest.name,
            seen.manifest.version,
            thousands(seen.inspection.size),
            seen.inspection.imports.len(),
            seen.manifest.actions.len(),
        );
        for import in &seen.inspection.imports {
            let mark = if seen.undeclared.contains(import) { "  ! no action declares it" } else { "" };
            text.push_str(&format!("  {import}{mark}\n"));
        }
        text
    };
    let value = json!({
        "file": out.display().to_string(),
        "name": seen.manifest.name,
        "version": seen.manifest.version,
        "digest": seen.inspection.digest,
        "size": seen.inspection.size,
        "imports": seen.inspection.imports,
        "undeclaredImports": seen.undeclared,
    });
    context.out.answer(text, &value);
    Ok(Exit::Done)
}

/// `plugins` of cargo's target folder, or `target/plugins` of the workspace that the crate belongs to: where `check` and
/// `plugin inspect` look.
fn target_folder(dir: &Path) -> Result<PathBuf, Failure> {
    if let Some(target) = offline::target_dir() {
        return Ok(target.join("plugins"));
    }
    let dir = dir.canonicalize().map_err(|e| Failure::unreadable(dir, &e))?;
    let root = dir.ancestors().find(|folder| folder.join("Cargo.lock").is_file()).unwrap_or(&dir);
    Ok(root.join("target/plugins"))
}

/// Writes beside its place first: what is at its place is always whole, and has passed every check. What stands there and
/// leads elsewhere is replaced and not followed.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let failed = |place: &Path, error: &std::io::Error| {
        Failure::unwritable(place, error).with_help("name a file where you may write: --out FILE")
    };
    std::fs::create_dir_all(folder).map_err(|e| failed(folder, &e))?;
    let mode = std::fs::Permissions::from_mode(FILE_MODE);
    let mut aside = tempfile::Builder::new()
        .prefix(".making-")
        .permissions(mode)
        .tempfile_in(folder)
        .map_err(|e| failed(folder, &e))?;
    aside.write_all(bytes).map_err(|e| failed(path, &e))?;
    aside.persist(path).map(drop).map_err(|e| failed(path, &e.error))
}

/// What others may do with a plugin that was built, before the mask of whoever builds it.
const FILE_MODE: u32 = 0o666;

/// `71234` as `71,234`.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn list(context: &Context) -> Result<Exit, Failure> {
    browse::list(
        context,
        "/v1/plugins",
        &[("NAME", "/name"), ("VERSION", "/version"), ("PUBLISHER", "/publisher"), ("DIGEST", "/digest")],
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn author_d6_a_place_that_cannot_be_written_is_said_with_what_helps() {
        let place = tempfile::Builder::new().prefix("a space ").tempdir().unwrap();
        let out = place.path().join("new folder/plugin.wasm");
        write(&out, b"one").unwrap();
        write(&out, b"another").unwrap();
        assert_eq!(fs::read(&out).unwrap(), b"another");
        assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o400, 0o400);
        assert_eq!(out.parent().unwrap().read_dir().unwrap().count(), 1, "nothing is left beside it");
        fs::create_dir(place.path().join("folder")).unwrap();
        fs::write(place.path().join("folder/in-it"), "x").unwrap();
        // A folder, what is below a file, and a file system on which nobody writes.
        for out in [place.path().join("folder"), out.join("below.wasm"), PathBuf::from("/proc/none/plugin.wasm")] {
            let failure = write(&out, b"x").unwrap_err();
            assert_eq!(failure.code, "file-unwritable", "{failure:?}");
            assert!(failure.help.as_deref().unwrap_or_default().contains("--out FILE"), "{failure:?}");
        }
    }

    #[test]
    fn author_d6_what_is_built_follows_no_link() {
        let place = tempfile::tempdir().unwrap();
        let (out, other) = (place.path().join("plugin.wasm"), place.path().join("precious"));
        fs::write(&other, "precious").unwrap();
        for link in [out.clone(), out.with_extension("wasm.new")] {
            symlink(&other, link).unwrap();
        }
        write(&out, b"component").unwrap();
        assert_eq!((fs::read(&out).unwrap(), fs::read(&other).unwrap()), (b"component".to_vec(), b"precious".to_vec()));
    }
}
