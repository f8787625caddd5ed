//! One call of one action: what it may use, and how it can end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bellhop_core::digest::Digest;
use bellhop_core::text::plain;
use wasmtime::component::ComponentExportIndex;
use wasmtime::{PoolConcurrencyLimitError, ResourceLimiter, Store, UpdateDeadline};

use super::bindings::{Halt, Host};
use super::places::Needs;
use super::{Shared, cpu, engine, wasi};

/// What one call may use. A limit that can change an answer belongs into the run's record, so these come
/// with each call instead of with the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// All linear memories together.
    pub memory_bytes_max: usize,
    /// Processor time between two calls of capabilities; waiting for the host or for a processor does not count.
    pub cpu_ms_max: u64,
    /// The action's output, or its error.
    pub output_bytes_max: usize,
    /// The arguments of one capability call.
    pub arguments_bytes_max: usize,
    /// Capability calls.
    pub calls_max: u32,
    /// Log text in all.
    pub log_bytes_max: usize,
    /// Log lines in all.
    pub log_lines_max: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            memory_bytes_max: 64 << 20,
            cpu_ms_max: 1_000,
            output_bytes_max: 1 << 20,
            arguments_bytes_max: 1 << 20,
            calls_max: 200,
            log_bytes_max: 256 << 10,
            log_lines_max: 1_000,
        }
    }
}

/// What a guest that insists on WASI sees of the world; plugins without WASI see nothing of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Context {
    /// The wall clock, standing still at the task's start.
    pub started_at_ms: u64,
    /// Where randomness comes from: the same seed gives the same bytes.
    pub seed: u64,
}

/// One call: which action, on what, with what.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// The action's name: `message.send`.
    pub action: &'a str,
    /// JSON.
    pub input: &'a str,
    /// What it may use.
    pub budget: Budget,
    /// What WASI shows.
    pub context: Context,
    /// Counts the bytes of its memories for as long as they are there.
    pub memory: Arc<AtomicUsize>,
}

/// How a call ended without an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trap {
    /// It computed longer than it may without calling a capability.
    #[error("the plugin computed for more than {ms_max} ms without an answer")]
    Cpu {
        /// The limit.
        ms_max: u64,
    },
    /// It wanted more memory, or larger tables, than it may have.
    #[error("the plugin wanted more than {bytes_max} bytes of memory")]
    Memory {
        /// The limit.
        bytes_max: usize,
    },
    /// It recursed too deeply.
    #[error("the plugin's call stack overflowed")]
    StackOverflow,
    /// Its output is larger than it may be.
    #[error("the plugin's output is larger than {bytes_max} bytes")]
    OutputTooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// It handed the host more at once than it may.
    #[error("the plugin handed over more than {bytes_max} bytes at once")]
    HostcallFuel {
        /// The limit.
        bytes_max: usize,
    },
    /// It called more capabilities than one slice of an action may.
    #[error("the plugin made more than {calls_max} calls without returning")]
    Calls {
        /// The limit.
        calls_max: u32,
    },
    /// The host stopped it; not the guest's doing.
    #[error("the host stopped the plugin: {}", .0.reason)]
    Halted(Halt),
    /// It trapped, or broke the component model's rules.
    #[error("the plugin trapped: {0}")]
    Other(String),
}

/// Of a trap's text, which a guest's own names can be in.
const TRAP_TEXT_BYTES_MAX: usize = 1_024;
/// One log line; what is longer is cut.
const LOG_LINE_BYTES_MAX: usize = 8 << 10;
/// Room above the output cap, so that an output just above it is told apart from a flood.
const FUEL_MARGIN_BYTES: usize = 64 << 10;

/// The store's data while an action runs.
pub(super) struct State {
    host: Box<dyn Host>,
    budget: Budget,
    pub(super) wasi: Option<Box<wasi::World>>,
    /// Why the guest was stopped, if it was the sandbox that stopped it.
    cause: Option<Trap>,
    pub(super) meter: Arc<cpu::Meter>,
    calls: u32,
    log_bytes: usize,
    log_lines: u32,
    memory_bytes: usize,
    pub(super) memory: Arc<AtomicUsize>,
    /// What the last permitted growth added, to be taken back when it fails.
    growing_bytes: usize,
    table_elements_max: usize,
}

impl State {
    pub(super) fn new(host: Box<dyn Host>, budget: Budget, clock: cpu::Clock, table_elements_max: usize) -> Self {
        Self {
            meter: Arc::new(cpu::Meter::new(clock, budget.cpu_ms_max)),
            host,
            budget,
            wasi: None,
            cause: None,
            calls: 0,
            log_bytes: 0,
            log_lines: 0,
            memory_bytes: 0,
            memory: Arc::default(),
            growing_bytes: 0,
            table_elements_max,
        }
    }

    /// One capability call. An error ends the guest; `cause` says why.
    pub(super) async fn call(&mut self, name: &str, arguments: String) -> wasmtime::Result<Result<String, String>> {
        if arguments.len() > self.budget.arguments_bytes_max {
            return self.stop(Trap::HostcallFuel { bytes_max: self.budget.arguments_bytes_max });
        }
        if self.calls >= self.budget.calls_max {
            return self.stop(Trap::Calls { calls_max: self.budget.calls_max });
        }
        self.calls += 1;
        match self.host.call(name, arguments).await {
            Ok(answer) => {
                self.meter.restart();
                Ok(answer)
            }
            Err(halt) => self.stop(Trap::Halted(halt)),
        }
    }

    /// One line of the guest's log; silently nothing once the budget is spent, but for the line that says so.
    pub(super) fn log(&mut self, level: &str, text: &str) {
        if self.log_lines >= self.budget.log_lines_max || self.log_bytes >= self.budget.log_bytes_max {
            return self.host.dropped();
        }
        let level = match level {
            "trace" | "debug" | "warn" | "error" => level,
            _ => "info",
        };
        let text = cut(text, LOG_LINE_BYTES_MAX.min(self.budget.log_bytes_max - self.log_bytes));
        self.log_lines += 1;
        self.log_bytes += text.len();
        self.host.log(level, text);
        if self.log_lines >= self.budget.log_lines_max || self.log_bytes >= self.budget.log_bytes_max {
            self.host.log("warn", "the plugin logs more than it may: the rest is dropped");
        }
    }

    /// An epoch has passed, which says nothing of the guest: its own time does.
    fn tick(&mut self) -> wasmtime::Result<UpdateDeadline> {
        if self.meter.is_spent() {
            return self.stop(Trap::Cpu { ms_max: self.budget.cpu_ms_max });
        }
        // Others run in between: a guest that computes holds no worker thread.
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    }

    pub(super) fn stop<T>(&mut self, cause: Trap) -> wasmtime::Result<T> {
        let error = wasmtime::Error::msg(cause.to_string());
        self.cause = Some(cause);
        Err(error)
    }

    /// Whether nothing has been heard of the guest yet, so that it can begin again.
    fn is_untouched(&self) -> bool {
        self.calls == 0 && self.log_lines == 0 && self.cause.is_none()
    }

    /// Forgets what an instance that did not come to be has had.
    fn begin_again(&mut self) {
        self.memory.fetch_sub(self.memory_bytes, Ordering::Relaxed);
        self.memory_bytes = 0;
        if let Some(world) = &mut self.wasi {
            world.begin_again();
        }
    }

    fn memory_trap(&mut self) -> wasmtime::Result<bool> {
        self.stop(Trap::Memory { bytes_max: self.budget.memory_bytes_max })
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.memory.fetch_sub(self.memory_bytes, Ordering::Relaxed);
    }
}

/// A refused growth ends the guest instead of answering -1: what a language makes of -1 is an abort
/// that says nothing.
impl ResourceLimiter for State {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        if self.memory_bytes.saturating_add(growth) > self.budget.memory_bytes_max {
            return self.memory_trap();
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The module's own bound: -1 is what it asked for.
            self.growing_bytes = 0;
            return Ok(false);
        }
        self.growing_bytes = growth;
        self.memory_bytes += growth;
        self.memory.fetch_add(growth, Ordering::Relaxed);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.memory_bytes -= self.growing_bytes;
        self.memory.fetch_sub(self.growing_bytes, Ordering::Relaxed);
        // The machine is out of memory. The guest must not see that: it would answer otherwise than on replay.
        Err(error)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.table_elements_max {
            return self.memory_trap();
        }
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn instances(&self) -> usize {
        engine::CORE_INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        engine::TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        engine::MEMORIES_MAX as usize
    }
}

/// What [`call`] calls.
#[derive(Clone, Copy)]
pub(super) enum Export<'a> {
    Describe,
    Run { action: &'a str, input: &'a str },
}

/// What is called.
#[derive(Clone, Copy)]
pub(super) struct Callee<'a> {
    pub(super) pre: &'a wasmtime::component::InstancePre<State>,
    pub(super) index: &'a ComponentExportIndex,
    pub(super) plugin: Digest,
    /// What an instance of it needs.
    pub(super) needs: Needs,
}

/// How long to wait before the pool is asked again that had nothing for a guest which had its place. An instance that
/// is being taken down has given its place back and is in the pool a little later.
const POOL_AGAIN: Duration = Duration::from_millis(2);

/// Runs one export in a store of its own, which is gone afterwards.
pub(super) async fn call(
    shared: &Shared,
    callee: Callee<'_>,
    export: Export<'_>,
    mut state: State,
) -> Result<Result<String, String>, Trap> {
    let memory_bytes = callee.needs.memory_bytes.min(state.budget.memory_bytes_max as u64);
    let _place = shared.places.take(callee.plugin, Needs { memory_bytes, ..callee.needs }).await;
    let _running = shared.ticker.running();
    let output_bytes_max = state.budget.output_bytes_max;
    let fuel = output_bytes_max.max(state.budget.arguments_bytes_max) + FUEL_MARGIN_BYTES;
    loop {
        let meter = Arc::clone(&state.meter);
        meter.restart();
        let mut store = Store::new(&shared.engine, state);
        store.limiter(|state| state);
        store.set_hostcall_fuel(fuel);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| store.data_mut().tick());
        let answer = meter.count(enter(&mut store, callee.pre, callee.index, export)).await;
        if answer.as_ref().is_err_and(|error| error.is::<PoolConcurrencyLimitError>()) && store.data().is_untouched() {
            // A full pool is waiting, whatever it is full of; it is no answer of the guest, which has done nothing yet.
            tracing::debug!(plugin = %callee.plugin, "the pool had nothing for a guest that had its place");
            state = store.into_data();
            state.begin_again();
            tokio::time::sleep(POOL_AGAIN).await;
            continue;
        }
        store.data_mut().print_rest();
        return match answer {
            Ok(answer) => {
                if answer.as_ref().map_or_else(String::len, String::len) > output_bytes_max {
                    return Err(Trap::OutputTooLarge { bytes_max: output_bytes_max });
                }
                Ok(answer)
            }
            Err(error) => Err(store.data_mut().cause.take().unwrap_or_else(|| trap(&error, output_bytes_max))),
        };
    }
}

async fn enter(
    store: &mut Store<State>,
    pre: &wasmtime::component::InstancePre<State>,
    index: &ComponentExportIndex,
    export: Export<'_>,
) -> wasmtime::Result<Result<String, String>> {
    let instance = pre.instantiate_async(&mut *store).await?;
    match export {
        Export::Describe => {
            let function = instance.get_typed_func::<(), (String,)>(&mut *store, index)?;
            let (manifest,) = function.call_async(&mut *store, ()).await?;
            Ok(Ok(manifest))
        }
        Export::Run { action, input } => {
            let function = instance.get_typed_func::<(&str, &str), (Result<String, String>,)>(&mut *store, index)?;
            let (answer,) = function.call_async(&mut *store, (action, input)).await?;
            Ok(answer)
        }
    }
}

/// What an error that the sandbox did not cause itself means.
fn trap(error: &wasmtime::Error, bytes_max: usize) -> Trap {
    match error.downcast_ref::<wasmtime::Trap>() {
        Some(wasmtime::Trap::StackOverflow) => return Trap::StackOverflow,
        Some(trap) => return Trap::Other(trap.to_string()),
        None => {}
    }
    let said = error.root_cause().to_string();
    if is_out_of_fuel(&said) {
        return Trap::HostcallFuel { bytes_max };
    }
    Trap::Other(plain(cut(&said, TRAP_TEXT_BYTES_MAX)).into_owned())
}

/// Wasmtime keeps that error's type to itself, so it is known by its text; a test holds it.
pub(super) fn is_out_of_fuel(text: &str) -> bool {
    text.contains("fuel allocated for hostcalls has been exhausted")
}

/// `text` in at most `bytes_max`, at a character's end.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
