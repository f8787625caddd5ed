//! One at a time per name: keyed owners of shared facts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

/// Names that somebody has the turn of.
#[derive(Default)]
pub(crate) struct Turns {
    held: Mutex<HashMap<String, Arc<Turn<()>>>>,
}

/// Held until dropped.
pub(crate) struct Guard<'t> {
    turns: &'t Turns,
    name: String,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits for the turn of `name`.
    pub(crate) async fn lock(&self, name: String) -> Guard<'_> {
        let turn = self.held.lock().unwrap_or_else(PoisonError::into_inner).entry(name.clone()).or_default().clone();
        let guard = turn.lock_owned().await;
        Guard { turns: self, name, guard: Some(guard) }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let mut held = self.turns.held.lock().unwrap_or_else(PoisonError::into_inner);
        self.guard.take();
        // Two owners of the handle are this map and nobody: whoever waits has a third.
        if held.get(&self.name).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            held.remove(&self.name);
        }
    }
}
