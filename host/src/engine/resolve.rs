//! A person ends a doubt: `runs resolve`.

use std::sync::Arc;

use bellhop_core::id::RunId;
use bellhop_core::run::{Cause, Status};
use serde_json::{Value, json};

use super::Engine;
use super::execution::{Settle, Signal};
use super::runs::LoadError;

/// Why a doubt was not ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    /// There is no such run, or it cannot be taken up.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It is not parked.
    #[error("the run is `{}`, only a parked one waits for a person", .0.as_str())]
    NotParked(Status),
}

impl Engine {
    /// Says what became of the calls of a parked run (of one task, where `task` names its pointer) whose outcome nobody
    /// could tell, and lets the run go on. `answer` is what the action gets for a call that was carried out; by default
    /// just that it was. After Ok both are durable.
    pub(crate) async fn resolve(
        self: &Arc<Self>,
        run: RunId,
        task: Option<String>,
        done: bool,
        answer: Option<Value>,
        by: String,
    ) -> Result<(), ResolveError> {
        let summary = self.summary(run).map_err(LoadError::from)?.ok_or(LoadError::Unknown(run))?;
        if summary.status != Status::Parked {
            return Err(ResolveError::NotParked(summary.status));
        }
        let answer = done.then(|| answer.unwrap_or_else(|| json!({ "ok": true })));
        let (tell, told) = tokio::sync::oneshot::channel();
        let signal = Signal {
            cause: Cause::Settle { task: task.clone(), done },
            acknowledge: Some(tell),
            settle: Some(Settle { task, answer, by }),
        };
        self.send(run, signal).await?;
        // Dropped when the run ended meanwhile: there is nothing left to settle.
        let _ended = told.await;
        Ok(())
    }
}
