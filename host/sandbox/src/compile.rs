//! From a component to machine code, and the cache of it.
//!
//! Compiling is the part of wasmtime with the most code in it and takes hundreds of megabytes, so it
//! happens in a child process that cannot outgrow its limits and lets everything else go first. Small components do not
//! wait for large ones. Machine code comes from this cache alone.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{Hash as _, Hasher};
use std::io::{self, Read as _, Seek as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellhop_core::digest::Digest;
use bellhop_core::text::plain;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, WeakShared};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;
use tokio::sync::Semaphore;
use wasmtime::Engine;
use wasmtime::component::Component;

use super::cache::Cache;
use super::{Error, Limits, Refusal, engine};

/// The hidden verb by which the program compiles a component for itself:
/// `bellhop __compile IN OUT CPU_SECONDS MEMORY_BYTES`.
pub const COMPILE_VERB: &str = "__compile";

/// How much the compiler lets others go before it: as much as there is.
const PATIENCE: i32 = 19;

/// Of what a failing child says, the part that is shown.
const CHILD_TEXT_BYTES_MAX: u64 = 4 << 10;

/// Where components are compiled.
#[derive(Debug, Clone)]
pub enum CompileMode {
    /// In a child process, by this program called with [`COMPILE_VERB`].
    Child {
        /// This program.
        program: PathBuf,
    },
    /// In this process, without limits: tests have no program of their own to start.
    InProcess,
}

/// A component of at most so many bytes is compiled beside large ones, within [`SMALL_CPU_S_MAX`]. One that the SDK makes
/// has 300 kB and takes a third of a second.
const SMALL_BYTES_MAX: usize = 1 << 20;
/// What compiling a small one may use of the processor, so that none of them is long in the way of the others.
const SMALL_CPU_S_MAX: u64 = 20;
/// Small ones that are compiled at once.
const SMALL_AT_ONCE: usize = 2;
/// Large ones that are compiled at once: two would need twice the memory.
const LARGE_AT_ONCE: usize = 1;
/// How long one waits for its turn.
pub(super) const TURN_S_MAX: u64 = 30;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Compiler {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    cache: Cache,
    mode: CompileMode,
    limits: Limits,
    small: Semaphore,
    large: Semaphore,
    /// What is being compiled. Whoever asks for the same waits for the same; when nobody is left who asks, it is dropped,
    /// and its child is ended.
    jobs: Mutex<HashMap<Digest, WeakShared<Job>>>,
    /// It was said that a child cannot have its limits here.
    has_said_of_limits: AtomicBool,
}

type Job = BoxFuture<'static, Result<Component, Error>>;

impl Compiler {
    pub(super) fn new(engine: Engine, cache_dir: &Path, mode: CompileMode, limits: Limits) -> Result<Self, Error> {
        let mut hasher = Fingerprint(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let compatibility: String = hasher.0.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let (small, large) = (Semaphore::new(SMALL_AT_ONCE), Semaphore::new(LARGE_AT_ONCE));
        let unfinished_s_max = 2 * limits.compile_wall_s_max;
        let cache = Cache::open(cache_dir.to_owned(), &compatibility, unfinished_s_max, limits.compiled_bytes_max)
            .map_err(|e| unusable(cache_dir, &e))?;
        let (jobs, has_said_of_limits) = (Mutex::default(), AtomicBool::new(false));
        let inner = Inner { engine, cache, mode, limits, small, large, jobs, has_said_of_limits };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether there is machine code in the cache, which may still be refused when it is read.
    pub(super) fn is_cached(&self, digest: &Digest) -> bool {
        self.inner.cache.find(digest).is_some()
    }

    /// Components that are being compiled or wait for their turn.
    pub(super) fn jobs(&self) -> usize {
        self.inner.jobs().values().filter(|job| job.upgrade().is_some()).count()
    }

    /// The machine code, if it is in the cache and can be used.
    pub(super) fn load(&self, digest: &Digest) -> Option<Component> {
        self.inner.cached(digest)
    }

    /// The machine code of `bytes`, from the cache or made now. `bytes` have been inspected. Dropped, it stops making
    /// it, unless another waits for the same.
    pub(super) async fn component(&self, digest: Digest, bytes: &[u8]) -> Result<Component, Error> {
        if let Some(component) = self.load(&digest) {
            return Ok(component);
        }
        let job = {
            let mut jobs = self.inner.jobs();
            jobs.retain(|_, job| job.upgrade().is_some());
            match jobs.get(&digest).and_then(WeakShared::upgrade) {
                Some(job) => job,
                None => {
                    let inner = Arc::clone(&self.inner);
                    let bytes: Arc<[u8]> = bytes.into();
                    let job = async move { inner.make(digest, &bytes).await }.boxed().shared();
                    jobs.extend(job.downgrade().map(|weak| (digest, weak)));
                    job
                }
            }
        };
        job.await
    }
}

impl Inner {
    fn jobs(&self) -> MutexGuard<'_, HashMap<Digest, WeakShared<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn and compiles.
    async fn make(&self, digest: Digest, bytes: &[u8]) -> Result<Component, Error> {
        let (lane, cpu_s_max) = if bytes.len() <= SMALL_BYTES_MAX {
            (&self.small, SMALL_CPU_S_MAX.min(self.limits.compile_cpu_s_max))
        } else {
            (&self.large, self.limits.compile_cpu_s_max)
        };
        let turn = Duration::from_secs(TURN_S_MAX);
        let Ok(Ok(_turn)) = tokio::time::timeout(turn, lane.acquire()).await else {
            return Err(Error::Busy("other plugins are being compiled".to_owned()));
        };
        // Somebody else may have made it while this waited.
        if let Some(component) = self.cached(&digest) {
            return Ok(component);
        }
        match self.compile(bytes, &digest, cpu_s_max).await {
            // The folder was removed meanwhile: it is made anew.
            Err(_) if !self.cache.folder().is_dir() => self.compile(bytes, &digest, cpu_s_max).await,
            made => made,
        }
    }

    async fn compile(&self, bytes: &[u8], digest: &Digest, cpu_s_max: u64) -> Result<Component, Error> {
        let artefact = self.aside()?;
        match &self.mode {
            CompileMode::Child { program } => self.compile_in_child(program, bytes, artefact.path(), cpu_s_max).await?,
            CompileMode::InProcess => {
                let code = self.engine.precompile_component(bytes).map_err(|e| refused(&format!("{e:#}")))?;
                fs::write(artefact.path(), code).map_err(|e| self.io(&e))?;
            }
        }
        let code = artefact.as_file().try_clone().map_err(|e| self.io(&e))?;
        self.cache.keep(artefact, digest).map_err(|e| self.io(&e))?;
        // It compiled, so what is left to be wrong is its size: the pool's slots have theirs.
        load(&self.engine, code)
            .map_err(|e| Error::Refused(Refusal::Mismatch { detail: plain(&format!("{e:#}")).into_owned() }))
    }

    fn cached(&self, digest: &Digest) -> Option<Component> {
        match load(&self.engine, self.cache.find(digest)?) {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::warn!(%digest, %error, "a compiled plugin cannot be read and is made anew");
                None
            }
        }
    }

    fn aside(&self) -> Result<tempfile::NamedTempFile, Error> {
        self.cache.aside().map_err(|e| self.io(&e))
    }

    async fn compile_in_child(&self, program: &Path, bytes: &[u8], output: &Path, cpu_s_max: u64) -> Result<(), Error> {
        let input = self.aside()?;
        fs::write(input.path(), bytes).map_err(|e| self.io(&e))?;
        let mut child = tokio::process::Command::new(program)
            .arg(COMPILE_VERB)
            .args([input.path(), output])
            .arg(cpu_s_max.to_string())
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
            Ok(Ok((status, said))) if status.success() => {
                let said = String::from_utf8_lossy(&said);
                if !said.trim().is_empty() && !self.has_said_of_limits.swap(true, Ordering::Relaxed) {
                    tracing::warn!("{}", plain(said.trim()));
                }
                Ok(())
            }
            Ok(Ok((status, said))) => {
                tracing::warn!(%status, "compiling a plugin failed");
                Err(self.failed(status.signal(), &String::from_utf8_lossy(&said), cpu_s_max))
            }
            Ok(Err(error)) => Err(Error::Unavailable(format!("the compiling child cannot be waited for: {error}"))),
            // A component that needs too much has met its own bound before: that of the processor's time is less.
            Err(_) => {
                Err(Error::Busy(format!("this machine was too busy to compile it within {} seconds", limit.as_secs())))
            }
        }
    }

    /// What the end of a child means that compiled nothing.
    fn failed(&self, signal: Option<i32>, said: &str, cpu_s_max: u64) -> Error {
        const XCPU: i32 = rustix::process::Signal::XCPU.as_raw();
        const KILL: i32 = rustix::process::Signal::KILL.as_raw();
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        match signal {
            Some(XCPU) => refused(&format!("it needs more than {cpu_s_max} seconds of processor time")),
            Some(KILL) => {
                Error::Busy("the compiler was stopped by the system, which may be short of memory".to_owned())
            }
            Some(_) if said.contains("memory allocation") => {
                refused(&format!("it needs more than {} bytes of memory", self.limits.compile_memory_bytes_max))
            }
            Some(signal) if said.is_empty() => refused(&format!("the compiler ended with signal {signal}")),
            _ if said.is_empty() => refused("the compiler ended without a word"),
            _ => refused(&said),
        }
    }

    fn io(&self, error: &io::Error) -> Error {
        unusable(self.cache.folder(), error)
    }
}

fn unusable(folder: &Path, error: &io::Error) -> Error {
    Error::Unavailable(format!("the folder of compiled code {} cannot be used: {error}", folder.display()))
}

fn refused(detail: &str) -> Error {
    Error::Refused(Refusal::Compile { detail: plain(detail).into_owned() })
}

/// Maps machine code of ours into the process. What is mapped is the open file, whatever stands under its name by now.
#[allow(unsafe_code, reason = "wasmtime cannot check machine code; where ours comes from is told below")]
fn load(engine: &Engine, mut code: File) -> wasmtime::Result<Component> {
    let open = PathBuf::from(format!("/proc/self/fd/{}", code.as_raw_fd()));
    let mut bytes = Vec::new();
    let mapped = open.exists();
    if !mapped {
        // A machine that has no such names: what is read is a copy.
        code.rewind()?;
        code.read_to_end(&mut bytes)?;
    }
    // SAFETY: the file was written by `Engine::precompile_component` in this process or its child, from bytes that
    // had been validated, and either comes from there or was found by `Cache::find`: in a folder into which this user
    // alone can write and that was named by no text or folder of others, with a checksum of its component and its content
    // in its name. It is written aside, renamed and never changed afterwards, so the mapping stays what it was. Bytes from
    // plugin authors are refused before they come here when they are native code. Wasmtime itself refuses a file
    // of another version, other settings, or another processor.
    unsafe { if mapped { Component::deserialize_file(engine, &open) } else { Component::deserialize(engine, &bytes) } }
}

/// The child's side of [`CompileMode::Child`]; `arguments` are those after the verb.
pub fn compile_as_child(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match compile_file(&arguments.into_iter().collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

/// Lets everything else have the processor first: guests and callers. Threads that this one starts are as patient. What
/// cannot be had here is said to the host, which reads this process's standard error.
fn be_patient() {
    if let Err(error) = rustix::process::nice(PATIENCE) {
        eprintln!(
            "compiling takes the processor from guests and callers, because its priority cannot be lowered: {error}"
        );
    }
}

/// Bounds what this process may use, by `most` and at last by `hard`, or by what it is allowed where that is less. A bound
/// that cannot be set here is said.
fn bound(resource: Resource, most: u64, hard: u64) {
    let allowed = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit = Rlimit { current: Some(most.min(allowed)), maximum: Some(hard.min(allowed)) };
    if let Err(error) = setrlimit(resource, limit) {
        eprintln!("compiling has no bound of its own, because the limit {resource:?} cannot be set: {error}");
    }
}

fn compile_file(arguments: &[OsString]) -> Result<(), String> {
    let [input, output, cpu_s, memory_bytes] = arguments else {
        return Err(format!("{COMPILE_VERB} is not for people: it takes IN, OUT, CPU_SECONDS and MEMORY_BYTES"));
    };
    let number = |text: &OsString| {
        text.to_str().and_then(|text| text.parse::<u64>().ok()).ok_or_else(|| format!("{text:?} is not a number"))
    };
    be_patient();
    // When memory runs short, the host is not what ends. Where this cannot be said, it is as it was.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let (cpu_s, memory_bytes) = (number(cpu_s)?, number(memory_bytes)?);
    for (resource, most, hard) in [
        // The first bound says what it is by its signal; the second is for who does not listen.
        (Resource::Cpu, cpu_s, cpu_s.saturating_add(5)),
        (Resource::As, memory_bytes, memory_bytes),
        // Machine code is some times the size of its component.
        (Resource::Fsize, 2 << 30, 2 << 30),
        (Resource::Core, 0, 0),
    ] {
        bound(resource, most, hard);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn author_c10_compiling_lets_everything_else_go_first() {
        let niceness = std::thread::spawn(|| {
            be_patient();
            std::thread::spawn(|| {
                let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
                // The name is in brackets and may have spaces; the niceness is the nineteenth field.
                stat.rsplit(')').next().unwrap().split_whitespace().nth(16).unwrap().to_owned()
            })
            .join()
            .unwrap()
        });
        assert_eq!(niceness.join().unwrap(), "19");
    }
}
