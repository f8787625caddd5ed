//! Building plugins: a crate is compiled to WebAssembly and encoded as a component, with nothing but cargo and
//! `wit-component`.
//!
//! The sandbox builds the guest that ships inside it by this crate too, because what holds for everybody's plugins is then
//! seen to hold for ours.
#![forbid(unsafe_code)]

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use wit_component::ComponentEncoder;

/// Guests have no WASI: nothing to import but capabilities.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Names the `cargo` that builds guests, where the usual toolchain has no WebAssembly target. Its `rustc` is the one
/// beside it; if that has no such target either, the standard library is built from its own sources.
pub const CARGO_VARIABLE: &str = "BELLHOP_GUEST_CARGO";

/// The variables that decide how a guest is built; whoever caches the result watches them.
pub const VARIABLES: &[&str] = &[CARGO_VARIABLE];

/// Of what a compiler says that does not work, the part that is shown.
const SAID_CHARS_MAX: usize = 500;

/// Profile settings as the workspace has them, for crates that are elsewhere: small, and no unwinding,
/// which a component could not use.
const PROFILE: &[&str] = &[
    "profile.plugin.inherits='release'",
    "profile.plugin.opt-level='s'",
    "profile.plugin.lto=true",
    "profile.plugin.codegen-units=1",
    "profile.plugin.panic='abort'",
    "profile.plugin.strip=true",
    "profile.plugin.debug=false",
];

/// What a cargo that runs us has set for itself and its own profile; a guest is built as if from the shell,
/// so that a check, a test and a release find the same guest.
const INHERITED: &[&str] = &[
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTFLAGS",
    "RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_TARGET_DIR",
    "CARGO_INCREMENTAL",
    "CLIPPY_ARGS",
    "CLIPPY_CONF_DIR",
];

/// How to build.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Where cargo puts its files; none: where it would anyway.
    pub target_dir: Option<PathBuf>,
    /// Whether cargo says what it does. Compiler errors are always said.
    pub verbose: bool,
}

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The compiler cannot make WebAssembly. One line, which says what helps.
    #[error(
        "the target {TARGET} is not installed: run `rustup target add {TARGET}`; without rustup, Debian's packages \
         rustc-web cargo-web rust-web-src rust-web-llvm lld-22 (1.95 or newer) do, with {CARGO_VARIABLE}=/usr/bin/cargo"
    )]
    NoTarget,
    /// The compiler does not even say where its libraries are.
    #[error("{program} does not work: {said}")]
    Broken {
        /// Which.
        program: String,
        /// The first line of what it says.
        said: String,
    },
    /// Cargo or rustc cannot be started.
    #[error("{program} cannot be started: {source}")]
    NotStarted {
        /// Which.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// The crate does not compile, or cargo cannot work there; what it says is on standard error.
    #[error("{} does not compile", .0.display())]
    Failed(PathBuf),
    /// The crate makes no WebAssembly module.
    #[error("{} makes no WebAssembly module: its Cargo.toml needs `[lib] crate-type = [\"cdylib\"]`", .0.display())]
    NoModule(PathBuf),
    /// The module cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The module.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The module is not one that can become a component.
    #[error("the module cannot be made a component: {0}")]
    Encode(String),
}

impl Error {
    /// What helps beside what is said.
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::NoTarget | Self::NoModule(_) => return None,
            Self::NotStarted { .. } => format!(
                "install Rust with the target {TARGET}; where its cargo is not in PATH, name it by {CARGO_VARIABLE}"
            ),
            Self::Broken { .. } => {
                format!("see that it works in this shell (it may need HOME), or name another cargo by {CARGO_VARIABLE}")
            }
            Self::Failed(_) => "mend what the compiler says above; where it says that it cannot write, have it write \
                                elsewhere by CARGO_TARGET_DIR, and name a place for the plugin by --out"
                .to_owned(),
            Self::Unreadable { .. } => "have cargo write elsewhere by CARGO_TARGET_DIR".to_owned(),
            Self::Encode(_) => "build it with the SDK of this version of the program".to_owned(),
        })
    }
}

/// A cargo, its compiler, and whether the standard library has to be built.
struct Toolchain {
    cargo: PathBuf,
    rustc: PathBuf,
    build_std: bool,
}

impl Toolchain {
    fn find() -> Result<Self, Error> {
        match env::var_os(CARGO_VARIABLE).filter(|cargo| !cargo.is_empty()) {
            Some(cargo) => Self::named(cargo.into()),
            None => {
                let or = |variable: &str, usual: &str| env::var_os(variable).unwrap_or_else(|| usual.into()).into();
                Self::usual(or("CARGO", "cargo"), or("RUSTC", "rustc"))
            }
        }
    }

    /// Somebody chose it, so it is used as it is.
    fn named(cargo: PathBuf) -> Result<Self, Error> {
        let rustc = cargo.with_file_name("rustc");
        let build_std = !has_target(&rustc)?;
        Ok(Self { cargo, rustc, build_std })
    }

    /// The one that builds everything else here.
    fn usual(cargo: PathBuf, rustc: PathBuf) -> Result<Self, Error> {
        if has_target(&rustc)? { Ok(Self { cargo, rustc, build_std: false }) } else { Err(Error::NoTarget) }
    }

    fn cargo(&self) -> Command {
        let mut command = Command::new(&self.cargo);
        for variable in INHERITED {
            command.env_remove(variable);
        }
        command.env("RUSTC", &self.rustc);
        if self.build_std {
            // What Debian calls the web toolchain is a stable compiler with the sources of its library.
            command.env("RUSTC_BOOTSTRAP", "1");
            if let Some(path) = with_first(self.cargo.parent()) {
                command.env("PATH", path);
            }
        }
        command
    }
}

/// `PATH` with that folder first, so that cargo finds the linker which belongs to it.
fn with_first(folder: Option<&Path>) -> Option<OsString> {
    let rest = env::var_os("PATH").unwrap_or_default();
    env::join_paths(folder.map(Path::to_path_buf).into_iter().chain(env::split_paths(&rest))).ok()
}

fn has_target(rustc: &Path) -> Result<bool, Error> {
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .map_err(|source| Error::NotStarted { program: rustc.display().to_string(), source })?;
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().map(str::trim).find(|line| !line.is_empty());
    match said {
        // One that does not know the target says so of the target.
        Some(said) if !output.status.success() && !said.contains(TARGET) && !said.contains("target spec") => {
            let said = said.chars().take(SAID_CHARS_MAX).collect();
            return Err(Error::Broken { program: rustc.display().to_string(), said });
        }
        _ => {}
    }
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let has_core = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("libcore"))
    };
    Ok(output.status.success() && folder.read_dir().is_ok_and(|mut entries| entries.any(has_core)))
}

/// Compiles the crate in `dir`; its module, not yet a component.
///
/// # Errors
/// See [`Error`].
pub fn compile(dir: &Path, options: &Options) -> Result<Vec<u8>, Error> {
    let toolchain = Toolchain::find()?;
    let manifest = dir.join("Cargo.toml");
    let mut command = toolchain.cargo();
    command
        .arg("build")
        .args(["--lib", "--profile", "plugin", "--target", TARGET])
        .args(["--message-format", "json-render-diagnostics"])
        .arg("--manifest-path")
        .arg(&manifest);
    for setting in PROFILE {
        command.args(["--config", setting]);
    }
    if toolchain.build_std {
        command.arg("-Zbuild-std=std,panic_abort");
    }
    if let Some(target_dir) = &options.target_dir {
        command.arg("--target-dir").arg(target_dir);
    }
    if !options.verbose {
        command.arg("--quiet");
    }
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| Error::NotStarted { program: toolchain.cargo.display().to_string(), source })?;
    if !output.status.success() {
        return Err(Error::Failed(manifest));
    }
    let path = module(&String::from_utf8_lossy(&output.stdout)).ok_or(Error::NoModule(manifest))?;
    std::fs::read(&path).map_err(|source| Error::Unreadable { path, source })
}

/// The module among cargo's messages: the last library that it made, which is the crate's own.
fn module(messages: &str) -> Option<PathBuf> {
    let files = |message: &serde_json::Value| -> Option<PathBuf> {
        (message.get("reason")? == "compiler-artifact").then_some(())?;
        let files = message.get("filenames")?.as_array()?.iter().filter_map(serde_json::Value::as_str);
        files.map(PathBuf::from).find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
    };
    messages.lines().filter_map(|line| files(&serde_json::from_str(line).ok()?)).next_back()
}

/// Compiles the crate in `dir` and encodes it as a component. No host has looked at it yet.
///
/// # Errors
/// See [`Error`]. Nothing is written outside the target folder.
pub fn build(dir: &Path, options: &Options) -> Result<Vec<u8>, Error> {
    encode(&compile(dir, options)?)
}

/// Makes a component of a module whose WIT world is inside it, where bindings generators put it.
///
/// The component imports only what the module uses of that world.
///
/// # Errors
/// [`Error::Encode`].
pub fn encode(module: &[u8]) -> Result<Vec<u8>, Error> {
    ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|e| Error::Encode(format!("{e:#}")))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn package(lib: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let manifest = format!("[package]\nname = \"stranger\"\nedition = \"2024\"\n{lib}\n[workspace]\n");
        fs::write(dir.path().join("Cargo.toml"), manifest).unwrap();
        fs::create_dir(dir.path().join("src")).unwrap();
        fs::write(dir.path().join("src/lib.rs"), "#[unsafe(no_mangle)] pub extern \"C\" fn f() -> i32 { 1 }").unwrap();
        dir
    }

    #[test]
    fn a_crate_outside_of_any_workspace_compiles() {
        let dir = package("[lib]\ncrate-type = [\"cdylib\"]");
        let module = compile(dir.path(), &Options { target_dir: Some(dir.path().join("t")), verbose: false }).unwrap();
        assert!(module.starts_with(b"\0asm"));
        assert!(matches!(encode(b"not wasm"), Err(Error::Encode(_))));
    }

    #[test]
    fn a_crate_that_makes_no_module_is_told_what_it_lacks() {
        let dir = package("");
        let error = compile(dir.path(), &Options { target_dir: Some(dir.path().join("t")), verbose: false });
        assert!(error.unwrap_err().to_string().contains("crate-type = [\"cdylib\"]"));
    }

    /// As a toolchain manager is without a home, and a folder with a space in its name.
    #[test]
    fn author_d6_a_compiler_that_does_not_work_is_said_by_its_own_words() {
        let dir = tempfile::Builder::new().prefix("a space ").tempdir().unwrap();
        let rustc = dir.path().join("rustc");
        fs::write(&rustc, "#!/bin/sh\necho \"error: there is no home\" >&2\nexit 1\n").unwrap();
        fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755)).unwrap();
        let error = Toolchain::usual("cargo".into(), rustc.clone()).err().unwrap();
        assert!(error.to_string().ends_with("does not work: error: there is no home"), "{error}");
        assert!(error.remedy().unwrap().contains("HOME"));
        fs::write(&rustc, format!("#!/bin/sh\necho \"error: {TARGET} is not known\" >&2\nexit 1\n")).unwrap();
        assert!(matches!(Toolchain::usual("cargo".into(), rustc), Err(Error::NoTarget)));
        let missing = Toolchain::usual("cargo".into(), dir.path().join("none")).err().unwrap();
        assert!(missing.remedy().unwrap().contains(CARGO_VARIABLE), "{missing}");
    }

    /// A compiler that is asked for its WebAssembly library and has none.
    #[test]
    fn a_missing_target_is_one_line_that_helps() {
        let dir = tempfile::tempdir().unwrap();
        let rustc = dir.path().join("rustc");
        fs::write(&rustc, "#!/bin/sh\necho /nonexistent\n").unwrap();
        fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755)).unwrap();
        let error = Toolchain::usual("cargo".into(), rustc).err().unwrap();
        let text = error.to_string();
        assert!(text.contains("rustup target add wasm32-unknown-unknown") && !text.contains('\n'), "{text}");
        let named = Toolchain::named(dir.path().join("cargo")).unwrap();
        assert!(named.build_std, "a toolchain that somebody named is used as it is");
        let missing = Toolchain::named("/nonexistent/cargo".into()).err().unwrap();
        assert!(missing.to_string().starts_with("/nonexistent/rustc cannot be started"));
    }
}
