//! A plugin that is ready to run.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::Value;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre};

use super::bindings::{ACTIONS_INTERFACE, Halt, Host};
use super::instance::{self, Budget, Call, Callee, Export, State, Trap};
use super::places::Needs;
use super::{Inspection, Refusal, Shared, wasi};
use bellhop_core::json;
use bellhop_core::text::plain;

/// Why a plugin is not ready.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The plugin's fault: tell whoever installs it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The host's: look at the machine, then try again.
    #[error("{0}")]
    Unavailable(String),
    /// Nobody's: the machine has much to do, and the same works a little later. The text is for whoever asked.
    #[error("{0}")]
    Busy(String),
}

impl Error {
    pub(super) fn unavailable(what: &str, error: &wasmtime::Error) -> Self {
        Self::Unavailable(format!("{what}: {error:#}"))
    }
}

/// A compiled plugin with its imports resolved. Cheap to clone.
#[derive(Clone)]
pub struct Package {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    pre: InstancePre<State>,
    describe: ComponentExportIndex,
    run: ComponentExportIndex,
    /// What an instance needs.
    needs: Needs,
    inspection: Inspection,
}

/// What a description may have.
const DESCRIPTION_BYTES_MAX: usize = 256 << 10;

impl Package {
    pub(super) fn new(shared: Arc<Shared>, component: &Component, inspection: Inspection) -> Result<Self, Error> {
        let mismatch = |error: wasmtime::Error| Refusal::Mismatch { detail: plain(&format!("{error:#}")).into_owned() };
        let missing = || Refusal::MissingExport { export: ACTIONS_INTERFACE.to_owned() };
        let pre = if inspection.wasi.is_empty() {
            shared.linker.instantiate_pre(component)
        } else {
            wasi::linker(&shared.linker, component).and_then(|linker| linker.instantiate_pre(component))
        }
        .map_err(mismatch)?;
        let interface = component.get_export_index(None, ACTIONS_INTERFACE).ok_or_else(missing)?;
        let function = |name| {
            component
                .get_export_index(Some(&interface), name)
                .ok_or_else(|| Refusal::MissingExport { export: format!("{ACTIONS_INTERFACE}#{name}") })
        };
        let (describe, run) = (function("describe")?, function("run")?);
        component.initialize_copy_on_write_image().map_err(|e| Error::unavailable("no memory image", &e))?;
        let needs = needs(component, &inspection)?;
        Ok(Self { inner: Arc::new(Inner { shared, pre, describe, run, needs, inspection }) })
    }

    /// What the binary says of itself.
    #[must_use]
    pub fn inspection(&self) -> &Inspection {
        &self.inner.inspection
    }

    /// By which runs pin it.
    #[must_use]
    #[cfg(test)]
    pub fn digest(&self) -> bellhop_core::digest::Digest {
        self.inner.inspection.digest
    }

    pub(super) fn component(&self) -> &Component {
        self.inner.pre.component()
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.inner.shared
    }

    /// What the plugin says of itself, asked twice in instances of their own.
    ///
    /// Every capability is a trap meanwhile, and a second of computing and 256 KiB are the most that it has.
    ///
    /// # Errors
    /// It trapped, answered no JSON or what readers of JSON do not agree about, or answered differently the second time.
    pub async fn describe(&self) -> Result<Value, Refusal> {
        // Another clock and other randomness: a description that depends on them is none.
        let first = self.describe_once(instance::Context::default()).await?;
        let second = self.describe_once(instance::Context { started_at_ms: 1 << 40, seed: 1 }).await?;
        if first != second {
            return Err(Refusal::DescriptionUnstable);
        }
        let described =
            serde_json::from_str(&first).map_err(|e| Refusal::DescriptionNotJson { detail: json::not_json(&e) })?;
        match json::findings(first.as_bytes()).into_iter().next() {
            None => Ok(described),
            Some(found) => {
                let pointer = plain(&found.pointer).into_owned();
                Err(Refusal::DescriptionDoubtful { pointer, what: found.what.message() })
            }
        }
    }

    async fn describe_once(&self, context: instance::Context) -> Result<String, Refusal> {
        let budget = Budget { output_bytes_max: DESCRIPTION_BYTES_MAX, cpu_ms_max: 1_000, ..Budget::default() };
        let state = self.state(Box::new(Nobody), budget, context);
        let answer = self.enter(&self.inner.describe, Export::Describe, state).await;
        // `describe` has no error result, so both sides of the answer are its text.
        answer.map(|text| text.unwrap_or_else(|text| text)).map_err(|trap| Refusal::Describe { trap })
    }

    /// Runs one action in an instance of its own, and drops the instance.
    ///
    /// `Ok(Ok(_))` and `Ok(Err(_))` are what the action answered, as JSON text that nobody has looked at yet.
    /// Dropping the future stops the guest where it is and gives its place back. Waits while there is no place for what
    /// it needs.
    ///
    /// # Errors
    /// The action gave no answer; see [`Trap`]. [`Trap::Cpu`] can be a slow machine and is worth
    /// another try; [`Trap::Halted`] is the host's own doing; all others come again.
    pub async fn run(&self, call: Call<'_>, host: impl Host + 'static) -> Result<Result<String, String>, Trap> {
        let Call { action, input, budget, context, memory } = call;
        let mut state = self.state(Box::new(host), budget, context);
        state.memory = memory;
        self.enter(&self.inner.run, Export::Run { action, input }, state).await
    }

    async fn enter(
        &self,
        index: &ComponentExportIndex,
        export: Export<'_>,
        state: State,
    ) -> Result<Result<String, String>, Trap> {
        let Inner { shared, pre, needs, inspection, .. } = &*self.inner;
        instance::call(shared, Callee { pre, index, plugin: inspection.digest, needs: *needs }, export, state).await
    }

    fn state(&self, host: Box<dyn Host>, budget: Budget, context: instance::Context) -> State {
        let shared = &self.inner.shared;
        let mut state = State::new(host, budget, shared.clock, shared.limits.table_elements_max);
        if !self.inner.inspection.wasi.is_empty() {
            state.wasi = Some(Box::new(wasi::World::new(context)));
        }
        state
    }
}

/// What an instance of `component` takes of the pool, and can take of the memory at most.
fn needs(component: &Component, inspection: &Inspection) -> Result<Needs, Refusal> {
    let required = component
        .resources_required()
        .ok_or_else(|| Refusal::Mismatch { detail: "it is made of modules that it imports".to_owned() })?;
    Ok(Needs {
        calls: 1,
        memories: u64::from(required.num_memories),
        tables: u64::from(required.num_tables),
        // Without bounds of its own it has the budget's.
        memory_bytes: inspection.memory_bytes_max.unwrap_or(u64::MAX),
    })
}

impl std::fmt::Debug for Package {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Package").field("digest", &self.inner.inspection.digest).finish_non_exhaustive()
    }
}

/// The host of `describe`: there is none.
struct Nobody;

impl Host for Nobody {
    fn call<'a>(
        &'a mut self,
        _function: &'a str,
        _arguments: String,
    ) -> BoxFuture<'a, Result<Result<String, String>, Halt>> {
        Box::pin(std::future::ready(Err(Halt { reason: "`describe` may not call a capability" })))
    }

    fn log(&mut self, _level: &str, _text: &str) {}
}
