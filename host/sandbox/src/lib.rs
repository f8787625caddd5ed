//! Untrusted code, held.
//!
//! Guests are WebAssembly components. Whatever one does (loop, grow, recurse, trap, flood, ask for
//! what it may not have), the host goes on and the caller learns what happened. The room knows no
//! provider, no journal and no HTTP: which functions a guest may import comes in as a plain list,
//! and what a call does is the [`Host`]'s affair.
//!
//! - [`Sandbox`] is the engine with its pool, and the compiler with its cache.
//! - [`Sandbox::inspect`] reads from the binary what a plugin can ever ask for, before anything of it runs.
//! - [`Sandbox::prepare`] gives a [`Package`], which describes itself and runs actions.
//! - [`expression::Expressions`] evaluates jq programs in a guest of our own.
#![deny(unsafe_code)]

pub mod bench;
mod bindings;
mod cache;
mod compile;
mod cpu;
mod engine;
pub mod expression;
mod features;
mod inspection;
mod instance;
mod machine;
mod package;
mod places;
mod refusal;
mod shape;
mod wasi;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bellhop_core::digest::Digest;
use wasmtime::Engine;
use wasmtime::component::Linker;

pub use bindings::{Halt, Host};
pub use cache::own_folder;
pub use compile::{COMPILE_VERB, CompileMode, compile_as_child};
pub use inspection::Inspection;
pub use instance::{Budget, Call, Context, Trap};
pub use package::{Error, Package};
pub use refusal::Refusal;

use instance::State;

#[cfg(test)]
mod tests;

/// What a sandbox is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// The package whose functions guests may import, with the newest version that the host has: `bellhop:slack@1.0.0`.
    pub capabilities: String,
    /// Its functions, as `interface.function`: `chat.post-message`. Each is
    /// `func(args: string) -> result<string, string>`.
    pub functions: Vec<String>,
    /// Where compiled components are kept; made when it is not there. Whoever can write here can run code in the host, so
    /// it has to be this user's own, and nobody but this user may have named it.
    pub cache_dir: PathBuf,
    /// Sizes of the engine.
    pub limits: Limits,
    /// Where components are compiled.
    pub compile: CompileMode,
}

/// How long compiling one plugin may take. Whoever meets this has met a busy machine, because the processor's time of a
/// plugin that is too much for any machine has ended before.
const COMPILE_S_MAX: u64 = 75;
/// How long a plugin waits for its turn and is compiled. Clients wait longer for an answer.
pub const PREPARED_S_MAX: u64 = compile::TURN_S_MAX + COMPILE_S_MAX;

/// The memory of the machine, or of a control group around this process where one has less. None where neither can be told.
#[must_use]
pub fn memory_bytes() -> Option<u64> {
    machine::memory_bytes(Path::new("/"))
}

/// Sizes of the engine as a whole. What one call may use is its [`Budget`].
#[derive(Debug, Clone)]
pub struct Limits {
    /// Action calls that have an instance at the same time; further ones wait for one to end.
    pub concurrent_calls_max: u32,
    /// Expression instances at the same time.
    pub expression_instances_max: u32,
    /// The most that any budget can give a guest.
    pub guest_memory_bytes_max: usize,
    /// Linear memory of all guests that run actions together, each counted with the most that it can grow to.
    pub guests_memory_bytes_max: u64,
    /// Elements of one table: function pointers, mostly. An interpreter compiled to wasm has about 7,700.
    pub table_elements_max: usize,
    /// Idle slots of the pool that stay prepared for the component that used them last.
    pub warm_slots_max: u32,
    /// A plugin's file. A Python plugin with its interpreter has 18 MB.
    pub component_bytes_max: usize,
    /// What compiling one plugin may use of the processor, summed over threads.
    pub compile_cpu_s_max: u64,
    /// Address space of the compiling child. A plugin of 18 MB needs about 310 MB of memory.
    pub compile_memory_bytes_max: u64,
    /// How long compiling one plugin may take.
    pub compile_wall_s_max: u64,
    /// Compiled components that are kept, together.
    pub compiled_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            concurrent_calls_max: 256,
            expression_instances_max: 16,
            guest_memory_bytes_max: 64 << 20,
            guests_memory_bytes_max: 256 * (64 << 20),
            table_elements_max: 20_000,
            warm_slots_max: 32,
            component_bytes_max: 31 << 20,
            compile_cpu_s_max: 60,
            compile_memory_bytes_max: 4 << 30,
            compile_wall_s_max: COMPILE_S_MAX,
            compiled_bytes_max: 1 << 30,
        }
    }
}

impl Limits {
    /// These limits on this machine: guests of actions and of expressions together have at most `guests_memory_bytes_max`,
    /// and at most half of the memory that there is. One of each can always run.
    pub fn on_this_machine(self, guests_memory_bytes_max: u64) -> Self {
        self.within(
            machine::guests_memory_bytes().map_or(guests_memory_bytes_max, |half| half.min(guests_memory_bytes_max)),
        )
    }

    /// Guests of one usual plugin that there can be at once, when no other has any.
    #[must_use]
    pub fn guests_of_one_plugin(&self) -> u64 {
        places::Places::new(engine::capacity(self)).of_one_plugin(self.usual_guest())
    }

    /// What a plugin of a usual toolchain needs: it says nothing of how far its memory can grow.
    fn usual_guest(&self) -> places::Needs {
        places::Needs { calls: 1, memories: 1, tables: 2, memory_bytes: self.guest_memory_bytes_max as u64 }
    }

    fn within(mut self, memory_bytes: u64) -> Self {
        let expression = expression::MEMORY_BYTES_MAX as u64;
        // An eighth is enough for sixteen evaluations at once where there are 8 GiB for guests.
        let instances = u32::try_from(memory_bytes / 8 / expression).unwrap_or(u32::MAX);
        self.expression_instances_max = self.expression_instances_max.min(instances).max(1);
        let left = memory_bytes.saturating_sub(expression * u64::from(self.expression_instances_max));
        self.guests_memory_bytes_max = left.max(self.guest_memory_bytes_max as u64);
        self
    }
}

/// The engine, its linker and its compiler. Cheap to clone.
#[derive(Clone)]
pub struct Sandbox {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    ticker: engine::Ticker,
    linker: Linker<State>,
    rules: inspection::Rules,
    compiler: compile::Compiler,
    /// In front of the pool: an exhausted pool is an error, a place is waited for.
    places: places::Places,
    /// What guests' processor time is read from.
    clock: cpu::Clock,
    /// The last inspection: an installation asks more than once, and validating 18 MB takes a while.
    inspected: Mutex<Option<Inspection>>,
    limits: Limits,
}

impl Sandbox {
    /// Reserves the pool's address space, starts the epoch thread and registers every capability.
    ///
    /// # Errors
    /// The machine cannot run wasmtime, a function's name is not `interface.function`, or the cache folder cannot be made.
    pub fn new(options: Options) -> Result<Self, Error> {
        Self::with_clock(options, cpu::Clock::SYSTEM)
    }

    fn with_clock(options: Options, clock: cpu::Clock) -> Result<Self, Error> {
        let Options { capabilities, functions, cache_dir, limits, compile } = options;
        let engine = engine::new(&limits).map_err(|e| Error::unavailable("the engine cannot start", &e))?;
        let ticker = engine::Ticker::start(&engine, engine::IDLE_TICKS)
            .map_err(|e| Error::Unavailable(format!("the thread that counts guests' time cannot start: {e}")))?;
        let rules = inspection::Rules::new(&capabilities, &functions, &limits)?;
        let linker = bindings::linker(&engine, &capabilities, &functions)
            .map_err(|e| Error::unavailable("the capabilities cannot be registered", &e))?;
        let compiler = compile::Compiler::new(engine.clone(), &cache_dir, compile, limits.clone())?;
        let places = places::Places::new(engine::capacity(&limits));
        let inspected = Mutex::default();
        let shared = Shared { engine, ticker, linker, rules, compiler, places, clock, inspected, limits };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What a plugin is and can ever ask for, read from its bytes. Nothing of it runs and nothing is compiled.
    ///
    /// # Errors
    /// It is no component, is native code, is too large, imports what no plugin may, or exports no actions.
    pub fn inspect(&self, bytes: &[u8]) -> Result<Inspection, Refusal> {
        let digest = Digest::of(bytes);
        let inspected = || self.shared.inspected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inspection) = &*inspected()
            && inspection.digest == digest
        {
            return Ok(inspection.clone());
        }
        let inspection = self.shared.rules.inspect(digest, bytes)?;
        *inspected() = Some(inspection.clone());
        Ok(inspection)
    }

    /// Inspects a plugin, compiles it unless that was done before, and makes it ready to run.
    ///
    /// After Ok the machine code is in the cache, under the plugin's digest and this machine's properties.
    ///
    /// # Errors
    /// [`Error::Refused`] is the plugin's fault and stays; [`Error::Unavailable`] is the host's and may pass.
    pub async fn prepare(&self, bytes: &[u8]) -> Result<Package, Error> {
        let inspection = self.inspect(bytes)?;
        self.prepare_inspected(inspection, bytes).await
    }

    /// As [`Self::prepare`], of bytes that [`Self::inspect`] has just taken.
    ///
    /// Dropped, it stops compiling, unless another waits for the same.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub async fn prepare_inspected(&self, inspection: Inspection, bytes: &[u8]) -> Result<Package, Error> {
        let component = self.shared.compiler.component(inspection.digest, bytes).await?;
        Package::new(Arc::clone(&self.shared), &component, inspection)
    }

    /// Makes a plugin ready whose inspection is known from an earlier [`Self::inspect`], as at a start.
    ///
    /// `bytes` is asked only when the machine code is not in the cache; reading, hashing and validating a plugin of
    /// 18 MB take longer than loading its code. Then they must be the very bytes that were inspected.
    ///
    /// # Errors
    /// As [`Self::prepare`]; also [`Error::Unavailable`] when `bytes` fails or gives others.
    pub async fn load<B>(&self, known: &Inspection, bytes: impl FnOnce() -> B) -> Result<Package, Error>
    where
        B: Future<Output = std::io::Result<Vec<u8>>>,
    {
        if let Some(component) = self.shared.compiler.load(&known.digest) {
            return Package::new(Arc::clone(&self.shared), &component, known.clone());
        }
        let bytes = bytes()
            .await
            .map_err(|e| Error::Unavailable(format!("the plugin {} cannot be read: {e}", known.digest)))?;
        if Digest::of(&bytes) != known.digest {
            return Err(Error::Unavailable(format!("the plugin {} has changed since it was installed", known.digest)));
        }
        self.prepare(&bytes).await
    }

    /// Whether a compiled form of that plugin is in the cache, so that [`Self::prepare`] takes milliseconds.
    #[must_use]
    pub fn is_compiled(&self, digest: &Digest) -> bool {
        self.shared.compiler.is_cached(digest)
    }

    /// Guests that there are now, and those that wait for a place.
    #[must_use]
    pub fn guests(&self) -> (u64, u64) {
        self.shared.places.crowd()
    }

    /// Plugins that are being compiled or wait for that.
    #[must_use]
    pub fn compiling(&self) -> usize {
        self.shared.compiler.jobs()
    }

    /// Calls of usual plugins that could start now without waiting for another to end.
    #[must_use]
    pub fn free_slots(&self) -> usize {
        usize::try_from(self.shared.places.free(self.usual_guest())).unwrap_or(usize::MAX)
    }

    /// Guests of one usual plugin that there can be at once, when no other has any.
    #[must_use]
    pub fn guests_of_one_plugin(&self) -> u64 {
        self.shared.limits.guests_of_one_plugin()
    }

    /// Ready when nobody counts the time of guests any more: one that computes without an end would then have none.
    pub fn counting_ended(&self) -> impl Future<Output = ()> + Send + use<> {
        self.shared.ticker.ended()
    }

    fn usual_guest(&self) -> places::Needs {
        self.shared.limits.usual_guest()
    }
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("limits", &self.shared.limits).finish_non_exhaustive()
    }
}
