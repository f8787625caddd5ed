//! From a component to machine code, and the cache of it.
//!
//! Compiling is the part of wasmtime with the most code in it and takes hundreds of megabytes, so it
//! happens in a child process that cannot outgrow its limits. Machine code comes from this cache alone.

use std::ffi::OsString;
use std::fs;
use std::hash::{Hash as _, Hasher};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use bellhop_core::digest::Digest;
use rustix::process::{Resource, Rlimit, setrlimit};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;
use wasmtime::Engine;
use wasmtime::component::Component;

use super::{Error, Limits, Refusal, engine};

/// The hidden verb by which the program compiles a component for itself:
/// `bellhop __compile IN OUT CPU_SECONDS MEMORY_BYTES`.
pub(crate) const COMPILE_VERB: &str = "__compile";

/// Machine code.
const SUFFIX: &str = ".cwasm";
/// Machine code that is being written.
const UNFINISHED: &str = ".making-";

/// Of what a failing child says, the part that is shown.
const CHILD_TEXT_BYTES_MAX: u64 = 4 << 10;

/// Where components are compiled.
#[derive(Debug, Clone)]
pub(crate) enum CompileMode {
    /// In a child process, by this program called with [`COMPILE_VERB`].
    Child {
        /// This program.
        program: PathBuf,
    },
    /// In this process, without limits: tests have no program of their own to start.
    #[cfg(test)]
    InProcess,
}

pub(super) struct Compiler {
    engine: Engine,
    cache_dir: PathBuf,
    mode: CompileMode,
    limits: Limits,
    /// What must be the same for machine code to fit: wasmtime's version, its settings, and the
    /// features of this processor.
    compatibility: String,
    /// One at a time: two would need twice the memory.
    turn: tokio::sync::Mutex<()>,
}

impl Compiler {
    pub(super) fn new(engine: Engine, cache_dir: PathBuf, mode: CompileMode, limits: Limits) -> Result<Self, Error> {
        // Whoever can write here can run code in the host.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&cache_dir)
            .map_err(|e| Error::Unavailable(format!("{} cannot be made: {e}", cache_dir.display())))?;
        let mut hasher = Fingerprint(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let compatibility = hasher.0.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let compiler = Self { engine, cache_dir, mode, limits, compatibility, turn: tokio::sync::Mutex::new(()) };
        compiler.prune();
        Ok(compiler)
    }

    /// Removes what this program cannot use: machine code of another version of it, and what a killed one
    /// left half made. Whatever is wrongly removed is made again.
    fn prune(&self) {
        let Ok(entries) = self.cache_dir.read_dir() else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let other = name.ends_with(SUFFIX) && !name.ends_with(&self.ending());
            let left = name.starts_with(UNFINISHED)
                && entry.metadata().and_then(|data| data.modified()).is_ok_and(|at| {
                    at.elapsed().is_ok_and(|age| age > Duration::from_secs(2 * self.limits.compile_wall_s_max))
                });
            if other || left {
                // Another process may have been faster.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn ending(&self) -> String {
        format!("-{}-{}{SUFFIX}", self.compatibility, std::env::consts::ARCH)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.cache_dir.join(format!("{}{}", digest.hex(), self.ending()))
    }

    #[cfg(test)]
    pub(super) fn is_cached(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// The machine code, if it is in the cache and can be used.
    pub(super) fn load(&self, digest: &Digest) -> Option<Component> {
        self.cached(&self.path(digest))
    }

    /// The machine code of `bytes`, from the cache or made now. `bytes` have been inspected.
    pub(super) async fn component(&self, digest: Digest, bytes: &[u8]) -> Result<Component, Error> {
        let path = self.path(&digest);
        if let Some(component) = self.cached(&path) {
            return Ok(component);
        }
        let _turn = self.turn.lock().await;
        // Somebody else may have made it while we waited.
        if let Some(component) = self.cached(&path) {
            return Ok(component);
        }
        let artefact = self.aside()?;
        match &self.mode {
            CompileMode::Child { program } => self.compile_in_child(program, bytes, artefact.path()).await?,
            #[cfg(test)]
            CompileMode::InProcess => {
                let code = self.engine.precompile_component(bytes).map_err(|e| compile_error(&format!("{e:#}")))?;
                fs::write(artefact.path(), code).map_err(|e| self.io(&e))?;
            }
        }
        artefact.as_file().sync_all().map_err(|e| self.io(&e))?;
        artefact.persist(&path).map_err(|e| self.io(&e.error))?;
        // It compiled, so what is left to be wrong is its size: the pool's slots have theirs.
        load(&self.engine, &path).map_err(|e| Error::Refused(Refusal::Mismatch { detail: format!("{e:#}") }))
    }

    fn cached(&self, path: &Path) -> Option<Component> {
        if !path.is_file() {
            return None;
        }
        match load(&self.engine, path) {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::warn!(path = %path.display(), error = %error, "a compiled plugin cannot be read and is made anew");
                None
            }
        }
    }

    /// A file in the cache folder that only we can read, renamed when it is whole.
    fn aside(&self) -> Result<tempfile::NamedTempFile, Error> {
        tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.cache_dir).map_err(|e| self.io(&e))
    }

    async fn compile_in_child(&self, program: &Path, bytes: &[u8], output: &Path) -> Result<(), Error> {
        let input = self.aside()?;
        fs::write(input.path(), bytes).map_err(|e| self.io(&e))?;
        let mut child = tokio::process::Command::new(program)
            .arg(COMPILE_VERB)
            .args([input.path(), output])
            .arg(self.limits.compile_cpu_s_max.to_string())
            .arg(self.limits.compile_memory_bytes_max.to_string())
            // Tokens come through the environment; a compiler needs none.
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| Error::Unavailable(format!("{} cannot be started to compile: {e}", program.display())))?;
        let stderr = child.stderr.take();
        let limit = Duration::from_secs(self.limits.compile_wall_s_max);
        let ended = tokio::time::timeout(limit, async {
            let mut text = Vec::new();
            if let Some(stderr) = stderr {
                stderr.take(CHILD_TEXT_BYTES_MAX).read_to_end(&mut text).await?;
            }
            Ok::<_, io::Error>((child.wait().await?, text))
        })
        .await;
        match ended {
            Ok(Ok((status, _))) if status.success() => Ok(()),
            Ok(Ok((status, text))) => {
                let text = String::from_utf8_lossy(&text);
                let text = text.trim();
                Err(compile_error(if text.is_empty() { "the compiler used more than it may" } else { text }))
                    .inspect_err(|_| tracing::warn!(%status, "compiling a plugin failed"))
            }
            Ok(Err(error)) => Err(Error::Unavailable(format!("the compiling child cannot be waited for: {error}"))),
            Err(_) => Err(compile_error(&format!("it took more than {} seconds", limit.as_secs()))),
        }
    }

    fn io(&self, error: &io::Error) -> Error {
        Error::Unavailable(format!("the cache {} cannot be written: {error}", self.cache_dir.display()))
    }
}

fn compile_error(detail: &str) -> Error {
    Error::Refused(Refusal::Compile { detail: detail.to_owned() })
}

/// Maps machine code of ours into the process.
#[allow(unsafe_code, reason = "wasmtime cannot check machine code; where ours comes from is told below")]
fn load(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the file was written by `Engine::precompile_component` in this process or its child, from bytes that
    // had been validated, under a name that nobody else makes: the folder is the host's own (0700), the file is
    // written aside and renamed, and never changed afterwards, so the mapping stays what it was. Bytes from
    // plugin authors are refused before they come here when they are native code. Wasmtime itself refuses a file
    // of another version, other settings, or another processor.
    unsafe { Component::deserialize_file(engine, path) }
}

/// The child's side of [`CompileMode::Child`]; `arguments` are those after the verb.
pub(crate) fn compile_as_child(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match compile_file(&arguments.into_iter().collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn compile_file(arguments: &[OsString]) -> Result<(), String> {
    let [input, output, cpu_s, memory_bytes] = arguments else {
        return Err(format!("{COMPILE_VERB} is not for people: it takes IN, OUT, CPU_SECONDS and MEMORY_BYTES"));
    };
    let number = |text: &OsString| {
        text.to_str().and_then(|text| text.parse::<u64>().ok()).ok_or_else(|| format!("{text:?} is not a number"))
    };
    for (resource, most) in [
        (Resource::Cpu, number(cpu_s)?),
        (Resource::As, number(memory_bytes)?),
        // Machine code is some times the size of its component.
        (Resource::Fsize, 2 << 30),
        (Resource::Core, 0),
    ] {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
            .map_err(|e| format!("the limit {resource:?} cannot be set: {e}"))?;
    }
    let bytes = fs::read(input).map_err(|e| format!("{}: {e}", Path::new(input).display()))?;
    let engine = Engine::new(&engine::code()).map_err(|e| format!("{e:#}"))?;
    let code = engine.precompile_component(&bytes).map_err(|e| format!("{e:#}"))?;
    fs::write(output, code).map_err(|e| format!("{}: {e}", Path::new(output).display()))
}

/// Turns what `Hash` writes into a digest that is the same in every build of this program.
struct Fingerprint(Sha256);

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}
