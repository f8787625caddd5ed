//! The wasmtime engine: one configuration, and the thread that counts its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::sync::watch;
use wasmtime::{Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig, Strategy};

use super::Limits;
use super::places::Needs;

/// One epoch. After each a guest's processor time is looked at, so it overruns its budget by at most one.
/// Ten milliseconds cost a hundred wake-ups a second while guests run, and none when idle.
const TICK_MS: u64 = 10;

/// A second without a guest, after which the ticking thread sleeps until the next one.
pub(super) const IDLE_TICKS: u32 = 100;

/// What decides which machine code is made. The child that compiles uses this alone, the host adds
/// [`pooling`], which does not change the code.
pub(super) fn code() -> Config {
    let mut config = Config::new();
    config
        // Winch knows no epochs.
        .strategy(Strategy::Cranelift)
        .epoch_interruption(true)
        .consume_fuel(false)
        // Replay runs the same code on another machine and has to come to the same answers.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        // Guests are synchronous; without this a store sets up a task table that nobody uses.
        .concurrency_support(false)
        .wasm_memory64(false)
        .shared_memory(false)
        .memory_init_cow(true)
        // Bounds checks are elided with these, the defaults of 64-bit machines, written down
        // since they are part of the machine code.
        .memory_reservation(4 << 30)
        .memory_guard_size(32 << 20)
        // Nobody unwinds through guests, and registering many modules with an unwinder is slow.
        .native_unwind_info(cfg!(windows))
        .max_wasm_stack(512 << 10)
        .async_stack_size(2 << 20);
    config
}

/// What one component may be made of; [`super::shape`] says so before it is compiled. Two interpreters composed into one
/// plugin have 28 core instances, and adapters between them.
pub(super) const CORE_INSTANCES_MAX: u32 = 64;
/// See [`CORE_INSTANCES_MAX`].
pub(super) const MEMORIES_MAX: u32 = 4;
/// See [`CORE_INSTANCES_MAX`].
pub(super) const TABLES_MAX: u32 = 16;

/// What all guests that run actions may have at once. A usual one has one memory and two tables.
pub(super) fn capacity(limits: &Limits) -> Needs {
    let calls = limits.concurrent_calls_max;
    Needs {
        calls: u64::from(calls),
        memories: u64::from((2 * calls).max(MEMORIES_MAX)),
        tables: u64::from((4 * calls).max(TABLES_MAX)),
        memory_bytes: limits.guests_memory_bytes_max,
    }
}

/// What one instance of the expression evaluator may need, of which the pool has as many as there may be of it.
pub(super) const EXPRESSION: Needs = Needs { calls: 1, memories: 1, tables: 4, memory_bytes: 0 };

/// A pool that has what [`capacity`] counts, and what the evaluator's instances need besides: whoever has its place is
/// never refused here.
fn pooling(limits: &Limits) -> PoolingAllocationConfig {
    let capacity = capacity(limits);
    let with_expressions = |guests: u64, each: u64| {
        let all = guests.saturating_add(each * u64::from(limits.expression_instances_max));
        u32::try_from(all).unwrap_or(u32::MAX)
    };
    let guests = with_expressions(capacity.calls, EXPRESSION.calls);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(guests)
        // A counter, of which nothing is reserved: what a guest may have, for each.
        .total_core_instances(guests.saturating_mul(CORE_INSTANCES_MAX))
        .total_memories(with_expressions(capacity.memories, EXPRESSION.memories))
        .total_tables(with_expressions(capacity.tables, EXPRESSION.tables))
        .total_stacks(limits.concurrent_calls_max)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_memories_per_module(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .max_memory_size(limits.guest_memory_bytes_max)
        .table_elements(limits.table_elements_max)
        // Give pages back by scanning for the dirty ones where the kernel can: a kept page costs a
        // memset, a given-up one a fault at the next call.
        .linear_memory_keep_resident(1 << 20)
        .table_keep_resident(64 << 10)
        .async_stack_keep_resident(0)
        .pagemap_scan(Enabled::Auto)
        .max_unused_warm_slots(limits.warm_slots_max);
    pool
}

/// The engine with pooled instances; on a machine that does not give the address space, one that
/// allocates on demand, after a warning.
pub(super) fn new(limits: &Limits) -> wasmtime::Result<Engine> {
    let mut config = code();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling(limits)));
    match Engine::new(&config) {
        Ok(engine) => Ok(engine),
        Err(error) => {
            tracing::warn!(error = %error, "no pool of guest memories: instances are allocated on demand, which is slower");
            config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
            Engine::new(&config)
        }
    }
}

/// Moves the engine's epoch while guests run.
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
    /// Closed when the thread has ended.
    gone: watch::Receiver<()>,
}

struct Shared {
    guests: AtomicUsize,
    asleep: AtomicBool,
    ended: AtomicBool,
}

impl Ticker {
    pub(super) fn start(engine: &Engine, idle_ticks: u32) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            guests: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let (lives, gone) = watch::channel(());
        let handle = thread::Builder::new().name("guest-epochs".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            let engine = engine.weak();
            move || {
                // Gone with the thread, however that ends.
                let _lives = lives;
                tick(&engine, &shared, idle_ticks);
            }
        })?;
        Ok(Self { thread: handle.thread().clone(), shared, gone })
    }

    /// Ready when the thread has ended: no guest's time is counted any more.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut gone = self.gone.clone();
        async move { while gone.changed().await.is_ok() {} }
    }

    /// The epoch moves for as long as the result lives.
    pub(super) fn running(&self) -> Running<'_> {
        self.shared.guests.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
        Running(&self.shared)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

pub(super) struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.guests.fetch_sub(1, Ordering::SeqCst);
    }
}

fn tick(engine: &EngineWeak, shared: &Shared, idle_ticks: u32) {
    let mut idle = 0;
    while !shared.ended.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(TICK_MS));
        // The engine's memory must not outlive the sandbox for this thread's sake.
        let Some(engine) = engine.upgrade() else { return };
        engine.increment_epoch();
        drop(engine);
        idle = if shared.guests.load(Ordering::SeqCst) == 0 { idle + 1 } else { 0 };
        if idle >= idle_ticks {
            idle = 0;
            // The order matters: a guest that starts after the look at the count sees `asleep`.
            shared.asleep.store(true, Ordering::SeqCst);
            if shared.guests.load(Ordering::SeqCst) == 0 && !shared.ended.load(Ordering::SeqCst) {
                thread::park();
            }
            shared.asleep.store(false, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn that_no_time_is_counted_any_more_is_seen() {
        let engine = Engine::new(&code()).unwrap();
        let ticker = Ticker::start(&engine, u32::MAX).unwrap();
        let ended = ticker.ended();
        // Without an engine there is nothing to count for, and the thread ends, whoever still has the ticker.
        drop(engine);
        ended.await;
        drop(ticker);
    }

    /// A guest that starts while the epoch stands still would otherwise have no end.
    #[test]
    fn the_epoch_sleeps_without_guests_and_wakes_for_one() {
        let engine = Engine::new(&code()).unwrap();
        let ticker = Ticker::start(&engine, 1).unwrap();
        for _ in 0..3 {
            while !ticker.shared.asleep.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            let running = ticker.running();
            let mut store = wasmtime::Store::new(&engine, ());
            store.set_epoch_deadline(3);
            let module =
                wasmtime::Module::new(&engine, wat::parse_str("(module (func (loop (br 0))) (start 0))").unwrap());
            let trap = wasmtime::Instance::new(&mut store, &module.unwrap(), &[]).unwrap_err();
            assert_eq!(trap.downcast_ref::<wasmtime::Trap>(), Some(&wasmtime::Trap::Interrupt));
            drop(running);
        }
    }
}
