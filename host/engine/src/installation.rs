//! The limits that hold for an installation, whichever of its processes somebody asks.
//!
//! A run that one process ends is removed by another, and an idempotency key that one binds is swept by another. So these
//! limits stand in the store (`setup/installation.rs`), and every process knows them.

use std::sync::{Arc, PoisonError, RwLock};

use bellhop_limits::Limits;
use serde::{Deserialize, Serialize};

/// See the module; each is a line of the limits table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub runs_kept_ms: u64,
    pub idempotency_kept_ms: u64,
    pub open_runs_max: u64,
    pub definition_versions_max: u64,
}

impl From<&Limits> for Facts {
    fn from(limits: &Limits) -> Self {
        Self {
            runs_kept_ms: limits.runs_kept_ms,
            idempotency_kept_ms: limits.idempotency_kept_ms,
            open_runs_max: limits.open_runs_max,
            definition_versions_max: limits.definition_versions_max,
        }
    }
}

impl Default for Facts {
    fn default() -> Self {
        Self::from(&Limits::default())
    }
}

/// What a process knows of the facts; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known(Arc<RwLock<Facts>>);

impl Known {
    pub(crate) fn new(facts: Facts) -> Self {
        Self(Arc::new(RwLock::new(facts)))
    }

    /// As this process knows them.
    pub(crate) fn now(&self) -> Facts {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, facts: Facts) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = facts;
    }
}
