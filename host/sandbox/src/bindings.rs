//! What guests may import, as the linker sees it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use wasmtime::component::{Linker, LinkerInstance};
use wasmtime::{Engine, StoreContextMut};

use super::instance::State;

/// The interface that every plugin has without asking.
pub(super) const LOG_INTERFACE: &str = "bellhop:action/log@1.0.0";
/// The interface that every plugin exports.
pub(super) const ACTIONS_INTERFACE: &str = "bellhop:action/actions@1.0.0";

/// Carries out what a guest asks for. One value serves one call of one action.
pub trait Host: Send {
    /// The guest calls `function` (`chat.post-message`) with JSON `arguments`, and waits.
    ///
    /// The answer is what the guest sees: `Ok(Ok(_))` and `Ok(Err(_))` are its two results, both JSON,
    /// no larger than the caller wants a guest to hold. `Err(Halt)` ends the guest at once: it never
    /// sees an answer, and the action's call gives [`Trap::Halted`](super::Trap::Halted).
    ///
    /// The future is dropped when the call of the action is dropped, and only then.
    fn call<'a>(
        &'a mut self,
        function: &'a str,
        arguments: String,
    ) -> BoxFuture<'a, Result<Result<String, String>, Halt>>;

    /// The guest says something. Called at most as often, and with at most as much text, as the budget allows;
    /// `level` is one of `trace`, `debug`, `info`, `warn`, `error`.
    fn log(&mut self, level: &str, text: &str);

    /// The guest said a line for which the budget has no room.
    fn dropped(&mut self) {}
}

/// The guest must not go on: its call is parked, withdrawn or drained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Halt {
    /// Why, in a word or two that may be logged.
    pub reason: &'static str,
}

/// A linker with `functions` of `capabilities`, and the log.
pub(super) fn linker(engine: &Engine, capabilities: &str, functions: &[String]) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    let (package, version) = capabilities.split_once('@').unwrap_or((capabilities, "1.0.0"));
    let mut sorted: Vec<(&str, &str, &String)> = Vec::with_capacity(functions.len());
    for name in functions {
        let Some((interface, function)) = name.split_once('.') else {
            wasmtime::bail!("`{name}` is not of the form interface.function");
        };
        sorted.push((interface, function, name));
    }
    sorted.sort_unstable();
    for group in sorted.chunk_by(|a, b| a.0 == b.0) {
        let mut instance = linker.instance(&format!("{package}/{}@{version}", group[0].0))?;
        for (_, function, name) in group {
            capability(&mut instance, function, Arc::from(name.as_str()))?;
        }
    }
    linker.instance(LOG_INTERFACE)?.func_wrap(
        "log",
        |mut store: StoreContextMut<'_, State>, (level, text): (String, String)| {
            store.data_mut().log(&level, &text);
            Ok(())
        },
    )?;
    Ok(linker)
}

fn capability(instance: &mut LinkerInstance<'_, State>, function: &str, name: Arc<str>) -> wasmtime::Result<()> {
    instance.func_wrap_async(function, move |mut store: StoreContextMut<'_, State>, (arguments,): (String,)| {
        let name = Arc::clone(&name);
        Box::new(async move {
            let answer = store.data_mut().call(&name, arguments).await?;
            // What passed while the host worked is not the guest's time.
            store.set_epoch_deadline(1);
            Ok((answer,))
        })
    })
}
