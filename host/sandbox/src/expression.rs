//! jq programs, evaluated by a guest of our own.
//!
//! The guest has no import at all. One instance serves many evaluations, since it keeps the programs that it
//! has compiled; whatever goes wrong in it costs that instance and nothing else.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError, RwLock};

use bellhop_core::cost::Cost;
use bellhop_core::digest::Digest;
use bellhop_core::expression::{self, Error, Evaluator, Inspection};
use serde::Deserialize;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::Value;
use wasmtime::component::{ComponentExportIndex, Func, InstancePre, Linker};
use wasmtime::{ResourceLimiter, Store, UpdateDeadline};

use super::instance::is_out_of_fuel;
use super::{Error as SandboxError, Sandbox, Shared, cpu, engine};

/// The limit that an evaluation came to, where it was its processor time.
const OUT_OF_TIME: &str = "time";

/// The component, made by the build script from `plugins/expression`. Not compiled: that depends on the machine.
pub(super) const COMPONENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/expression.wasm"));

/// An instance's memory, at most.
pub(super) const MEMORY_BYTES_MAX: usize = 64 << 20;

/// What one evaluation may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Processor time, of which parsing and compiling a new program are a part.
    pub cpu_ms_max: u64,
    /// The instance's memory, what it keeps between evaluations included.
    pub memory_bytes_max: usize,
    /// The result as JSON.
    pub output_bytes_max: usize,
    /// An instance whose memory has grown beyond this is not used again.
    pub kept_memory_bytes_max: usize,
    /// An instance that has served so many evaluations is not used again.
    pub evaluations_max: u32,
    /// Programs whose inspection is remembered, by number and by bytes of their text.
    pub inspections_max: usize,
    /// See [`Self::inspections_max`].
    pub inspections_bytes_max: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            cpu_ms_max: 50,
            memory_bytes_max: MEMORY_BYTES_MAX,
            output_bytes_max: 1 << 20,
            kept_memory_bytes_max: 16 << 20,
            evaluations_max: 100_000,
            inspections_max: 4_096,
            inspections_bytes_max: 4 << 20,
        }
    }
}

/// The evaluator of the host. Cheap to clone; safe to use from many threads, each of which then has an instance.
#[derive(Clone)]
pub struct Expressions {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    pre: InstancePre<State>,
    evaluate: ComponentExportIndex,
    inspect: ComponentExportIndex,
    budget: Budget,
    pool: Mutex<Pool>,
    returned: Condvar,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Guest>,
    live: u32,
}

/// What is known of programs seen before.
#[derive(Default)]
struct Known {
    programs: HashMap<Arc<str>, Arc<Result<Inspection, Error>>>,
    bytes: usize,
}

/// A warm instance.
struct Guest {
    store: Store<State>,
    evaluate: Func,
    inspect: Func,
    served: u32,
}

/// What both exports answer.
type Answer = (Result<String, String>,);

impl Guest {
    fn begin(&mut self) {
        self.served = self.served.saturating_add(1);
        self.store.data_mut().meter.restart();
        self.store.set_epoch_deadline(1);
    }

    fn evaluate(&mut self, program: &str, arguments: &str, input: &str) -> wasmtime::Result<Result<String, String>> {
        let function = self.evaluate.typed::<(&str, &str, &str), Answer>(&self.store)?;
        Ok(function.call(&mut self.store, (program, arguments, input))?.0)
    }

    fn inspect(&mut self, program: &str) -> wasmtime::Result<Result<String, String>> {
        let function = self.inspect.typed::<(&str,), Answer>(&self.store)?;
        Ok(function.call(&mut self.store, (program,))?.0)
    }
}

/// The store's data of an expression instance.
struct State {
    meter: cpu::Meter,
    memory_bytes: usize,
    memory_bytes_max: usize,
    /// Which limit stopped the guest.
    exceeded: Option<&'static str>,
}

impl ResourceLimiter for State {
    fn memory_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.memory_bytes_max {
            self.exceeded = Some("memory");
            wasmtime::bail!("more memory than an expression may have");
        }
        self.memory_bytes = desired;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, _desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(true)
    }
}

/// The guest's error answer.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
enum Failure {
    Invalid {
        message: String,
        #[serde(default)]
        at: Option<u32>,
    },
    Budget {
        #[serde(default)]
        what: String,
    },
}

impl Expressions {
    /// Makes the evaluator ready: a few milliseconds, and a second the first time on a machine, when it is compiled.
    ///
    /// # Errors
    /// [`SandboxError::Unavailable`], since the component is ours.
    pub async fn load(sandbox: &Sandbox, budget: Budget) -> Result<Self, SandboxError> {
        let shared = Arc::clone(&sandbox.shared);
        let ours = |e: wasmtime::Error| SandboxError::unavailable("the expression evaluator does not start", &e);
        let component = shared.compiler.component(Self::version(), COMPONENT).await?;
        // The pool has so much for each of its instances.
        let fits = component.resources_required().is_some_and(|needs| {
            let room = engine::EXPRESSION;
            u64::from(needs.num_memories) <= room.memories && u64::from(needs.num_tables) <= room.tables
        });
        if !fits {
            return Err(SandboxError::Unavailable(
                "the expression evaluator needs more than the pool has for it".to_owned(),
            ));
        }
        // No import is defined: an evaluator that had one would not link.
        let pre = Linker::new(&shared.engine).instantiate_pre(&component).map_err(ours)?;
        let export = |name| {
            component
                .get_export_index(None, name)
                .ok_or_else(|| SandboxError::Unavailable(format!("the expression evaluator has no `{name}`")))
        };
        let (evaluate, inspect) = (export("evaluate")?, export("inspect")?);
        let expressions = Self {
            inner: Arc::new(Inner {
                shared,
                pre,
                evaluate,
                inspect,
                budget,
                pool: Mutex::default(),
                returned: Condvar::new(),
                known: RwLock::default(),
            }),
        };
        let first = expressions.inner.start().map_err(ours)?;
        let mut pool = expressions.inner.pool();
        pool.live += 1;
        pool.idle.push(first);
        drop(pool);
        Ok(expressions)
    }

    /// Which component evaluates; a run pins it, since another version may say something else.
    #[must_use]
    pub fn version() -> Digest {
        static VERSION: LazyLock<Digest> = LazyLock::new(|| Digest::of(COMPONENT));
        *VERSION
    }

    /// Warm instances, idle or at work.
    #[must_use]
    #[cfg(test)]
    pub fn instances(&self) -> u32 {
        self.inner.pool().live
    }
}

impl Expressions {
    /// Whether a program was inspected already, so that inspecting it again runs no guest.
    pub fn is_known(&self, program: &str) -> bool {
        self.inner.known.read().unwrap_or_else(PoisonError::into_inner).programs.contains_key(program)
    }
}

impl Expressions {
    fn value(&self, program: &str, arguments: &[(&str, &Value)], input: &Value) -> Result<Value, Error> {
        let known = self.inner.known(program)?;
        let inspection = known.as_ref().as_ref().map_err(Clone::clone)?;
        let arguments = read_by(inspection, arguments)?;
        // What a program does not read is not written out for it.
        let input =
            if inspection.paths.iter().all(|path| path.starts_with('$')) { "null".to_owned() } else { to_json(input)? };
        let text = self.inner.enter(|guest| guest.evaluate(program, &arguments, &input))?;
        serde_json::from_str(&text).map_err(|e| invalid(format!("the result cannot be read: {e}")))
    }
}

impl Evaluator for Expressions {
    /// The cost is the processor time that it took here: the guest's, and what going in and out of it cost. Waiting for
    /// a processor or for an instance is not a part of it.
    fn answer(&self, program: &str, arguments: &[(&str, &Value)], input: &Value) -> expression::Answer {
        let clock = self.inner.shared.clock;
        let begun = clock.now();
        let result = self.value(program, arguments, input);
        let spent_ns = clock.now().saturating_sub(begun);
        expression::Answer { result, cost: Cost::from_micros(spent_ns.div_ceil(1_000)) }
    }

    fn inspect(&self, program: &str) -> Result<Inspection, Error> {
        self.inner.known(program)?.as_ref().clone()
    }
}

impl Inner {
    fn pool(&self) -> MutexGuard<'_, Pool> {
        // A poisoned pool holds whole instances all the same: they are pushed and popped as one.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What inspection says of a program; remembered, unless the guest was stopped meanwhile.
    fn known(&self, program: &str) -> Result<Arc<Result<Inspection, Error>>, Error> {
        {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = known.programs.get(program) {
                return Ok(Arc::clone(found));
            }
        }
        let answer = self.enter(|guest| guest.inspect(program)).and_then(|text| {
            serde_json::from_str(&text).map_err(|e| invalid(format!("the inspection cannot be read: {e}")))
        });
        if matches!(answer, Err(Error::Budget { .. })) {
            return Ok(Arc::new(answer));
        }
        let answer = Arc::new(answer);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.programs.len() >= self.budget.inspections_max
            || known.bytes + program.len() > self.budget.inspections_bytes_max
        {
            // Asking again costs some microseconds a program; keeping track of ages would cost at each use.
            known.programs.clear();
            known.bytes = 0;
        }
        if known.programs.insert(Arc::from(program), Arc::clone(&answer)).is_none() {
            known.bytes += program.len();
        }
        Ok(answer)
    }

    /// What a guest answers; the second time where the first one had no time left.
    ///
    /// A machine that takes the processor from all of us for a moment shows this as the guest's own time, and what an
    /// expression is refused for ends a run for good. A program that is really too slow is so twice.
    fn enter(&self, work: impl Fn(&mut Guest) -> wasmtime::Result<Result<String, String>>) -> Result<String, Error> {
        match self.enter_once(&work) {
            Err(Error::Budget { what }) if what == OUT_OF_TIME => self.enter_once(&work),
            answer => answer,
        }
    }

    /// Lends a warm instance; waits while all are lent, which takes no longer than an evaluation may.
    fn enter_once(
        &self,
        work: impl FnOnce(&mut Guest) -> wasmtime::Result<Result<String, String>>,
    ) -> Result<String, Error> {
        let mut guest = self.take()?;
        let running = self.shared.ticker.running();
        guest.begin();
        let answer = work(&mut guest);
        drop(running);
        match answer {
            Ok(answer) => {
                let worn = guest.served >= self.budget.evaluations_max
                    || guest.store.data().memory_bytes > self.budget.kept_memory_bytes_max;
                self.give_back((!worn).then_some(guest));
                answer.map_err(|text| failure(&text))
            }
            Err(error) => {
                // A store that has trapped must not be entered again.
                let what = guest.store.data().exceeded;
                drop(guest);
                self.give_back(None);
                Err(Error::Budget { what: what.map_or_else(|| limit_of(&error), str::to_owned) })
            }
        }
    }

    fn take(&self) -> Result<Guest, Error> {
        let mut pool = self.pool();
        loop {
            if let Some(guest) = pool.idle.pop() {
                return Ok(guest);
            }
            if pool.live < self.shared.limits.expression_instances_max {
                pool.live += 1;
                drop(pool);
                return self.start().map_err(|error| {
                    self.give_back(None);
                    tracing::error!(error = %error, "an expression instance does not start");
                    Error::Budget { what: "instances".to_owned() }
                });
            }
            pool = self.returned.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn give_back(&self, guest: Option<Guest>) {
        let mut pool = self.pool();
        match guest {
            Some(guest) => pool.idle.push(guest),
            None => pool.live -= 1,
        }
        drop(pool);
        self.returned.notify_one();
    }

    fn start(&self) -> wasmtime::Result<Guest> {
        let state = State {
            meter: cpu::Meter::new(self.shared.clock, self.budget.cpu_ms_max),
            memory_bytes: 0,
            memory_bytes_max: self.budget.memory_bytes_max,
            exceeded: None,
        };
        let mut store = Store::new(&self.shared.engine, state);
        store.limiter(|state| state);
        store.set_hostcall_fuel(self.budget.output_bytes_max);
        store.set_epoch_deadline(1);
        // While this thread waits for a processor, the epoch moves and the guest does not.
        store.epoch_deadline_callback(|mut store| {
            let state = store.data_mut();
            if state.meter.is_spent() {
                state.exceeded = Some(OUT_OF_TIME);
                return Ok(UpdateDeadline::Interrupt);
            }
            Ok(UpdateDeadline::Continue(1))
        });
        let instance = self.pre.instantiate(&mut store)?;
        let missing = || wasmtime::Error::msg("an export of the evaluator is no function");
        let evaluate = instance.get_func(&mut store, self.evaluate).ok_or_else(missing)?;
        let inspect = instance.get_func(&mut store, self.inspect).ok_or_else(missing)?;
        Ok(Guest { store, evaluate, inspect, served: 0 })
    }
}

/// The JSON object of those variables that the program reads.
fn read_by(inspection: &Inspection, arguments: &[(&str, &Value)]) -> Result<String, Error> {
    let given = |name: &str| arguments.iter().find(|(given, _)| *given == name);
    for name in &inspection.variables {
        if given(name).is_none() {
            // The guest is given what is read and could not name the others.
            let mut names: Vec<String> =
                arguments.iter().filter(|(n, _)| !n.starts_with("__")).map(|(n, _)| format!("`${n}`")).collect();
            names.sort();
            return Err(invalid(format!("the variable `${name}` does not exist here; there are {}", names.join(", "))));
        }
    }
    to_json(&Object(inspection.variables.iter().filter_map(|name| given(name)).collect()))
}

struct Object<'a>(Vec<&'a (&'a str, &'a Value)>);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

fn to_json(value: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|e| invalid(format!("this cannot be written as JSON: {e}")))
}

fn invalid(message: String) -> Error {
    Error::Invalid { message, at: None }
}

fn failure(text: &str) -> Error {
    match serde_json::from_str(text) {
        Ok(Failure::Invalid { message, at }) => Error::Invalid { message, at },
        Ok(Failure::Budget { what }) => Error::Budget { what },
        Err(_) => invalid("the evaluator's answer cannot be read".to_owned()),
    }
}

/// Which limit an error that wasmtime made stands for.
fn limit_of(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<wasmtime::Trap>() {
        Some(wasmtime::Trap::StackOverflow) => "stack",
        Some(wasmtime::Trap::Interrupt) => OUT_OF_TIME,
        // A Rust guest that cannot go on runs into this: no memory, or its own stack at its end.
        Some(_) => "memory or stack",
        None if is_out_of_fuel(&error.root_cause().to_string()) => "output",
        None => "memory or stack",
    }
    .to_owned()
}
