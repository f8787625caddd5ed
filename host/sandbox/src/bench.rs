//! What our way of calling an action costs: the same component, engine and input without it.

use wasmtime::component::{ComponentExportIndex, InstancePre, Linker};
use wasmtime::{Engine, Store, StoreContextMut};

use super::bindings::{ACTIONS_INTERFACE, LOG_INTERFACE};
use super::{Error, Package};

/// A package stripped of everything that is ours: no budget, no meter, no host behind its imports.
pub struct Bare {
    engine: Engine,
    pre: InstancePre<()>,
    run: ComponentExportIndex,
}

impl Bare {
    /// Links every capability that the package imports to a function that answers `answer`.
    ///
    /// # Errors
    /// The package imports WASI, or does not link.
    pub fn new(package: &Package, answer: &'static str) -> Result<Self, Error> {
        let engine = package.shared().engine.clone();
        let component = package.component();
        let failed = |e: wasmtime::Error| Error::unavailable("the bare rung does not link", &e);
        let mut linker = Linker::<()>::new(&engine);
        for import in component.component_type().imports(&engine) {
            let (interface, item) = import;
            let wasmtime::component::types::ComponentItem::ComponentInstance(functions) = item.ty else { continue };
            let mut instance = linker.instance(interface).map_err(failed)?;
            for (function, _) in functions.exports(&engine) {
                if interface == LOG_INTERFACE {
                    instance.func_wrap(function, |_: StoreContextMut<'_, ()>, _: (String, String)| Ok(()))
                } else {
                    instance.func_wrap_async(function, move |_: StoreContextMut<'_, ()>, _: (String,)| {
                        Box::new(async move { Ok((Ok::<String, String>(answer.to_owned()),)) })
                    })
                }
                .map_err(failed)?;
            }
        }
        let pre = linker.instantiate_pre(component).map_err(failed)?;
        let run = component
            .get_export_index(None, ACTIONS_INTERFACE)
            .and_then(|interface| component.get_export_index(Some(&interface), "run"))
            .ok_or_else(|| Error::Unavailable("the package exports no `run`".to_owned()))?;
        Ok(Self { engine, pre, run })
    }

    /// A store, an instance, one call, and all of it dropped.
    ///
    /// The epoch moves only while the sandbox itself runs something, and never stops this guest.
    ///
    /// # Errors
    /// Wasmtime's.
    pub async fn call(&self, action: &str, input: &str) -> Result<Result<String, String>, Error> {
        let failed = |e: wasmtime::Error| Error::unavailable("the bare call failed", &e);
        let mut store = Store::new(&self.engine, ());
        store.set_epoch_deadline(u64::MAX / 2);
        let instance = self.pre.instantiate_async(&mut store).await.map_err(failed)?;
        let run = instance
            .get_typed_func::<(&str, &str), (Result<String, String>,)>(&mut store, &self.run)
            .map_err(failed)?;
        Ok(run.call_async(&mut store, (action, input)).await.map_err(failed)?.0)
    }
}
