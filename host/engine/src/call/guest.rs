//! The guest's end of its calls: it asks, and waits for what its attempt answers.

use std::sync::Arc;

use bellhop_core::id::RunId;
use bellhop_core::mask::Mask;
use bellhop_core::run::ExecutionKey;
use bellhop_core::text::plain;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::said::{self, Lines};
use super::scope::Scope;
use crate::Services;
use crate::execution::CallKey;
use bellhop_sandbox::{Halt, Host};

/// A call of a guest that waits for its answer.
pub(super) struct Asked {
    pub(super) function: String,
    pub(super) arguments: String,
    pub(super) answer: oneshot::Sender<Answered>,
}

/// What a guest's call is answered.
pub(super) struct Answered {
    pub(super) result: Result<String, String>,
    /// From the record, which an earlier life wrote.
    pub(super) replayed: bool,
}

/// The sandbox's view of an attempt.
pub(super) struct Line {
    calls: mpsc::UnboundedSender<Asked>,
    lines: Lines,
    /// It does again what an earlier life has on record, and has not come to the end of that.
    replays: bool,
    services: Arc<Services>,
    run: RunId,
    execution: ExecutionKey,
    plugin: String,
    mask: Mask,
}

impl Line {
    /// For a guest that begins the slice whose first call is `first`; with the attempt's end, which has one call at a time.
    pub(super) fn of<E>(scope: &Scope<E>, first: u32, replays: bool) -> (Self, mpsc::UnboundedReceiver<Asked>) {
        let (sender, calls) = mpsc::unbounded_channel();
        let slice = CallKey { execution: scope.execution.clone(), attempt: scope.attempt, ordinal: first };
        let line = Self {
            calls: sender,
            lines: Lines::begin(&scope.services.partition.said, scope.run, slice),
            replays,
            services: scope.services.clone(),
            run: scope.run,
            execution: scope.execution.clone(),
            plugin: scope.plugin.clone(),
            mask: scope.mask.clone(),
        };
        (line, calls)
    }
}

impl Host for Line {
    fn call<'a>(
        &'a mut self,
        function: &'a str,
        arguments: String,
    ) -> BoxFuture<'a, Result<Result<String, String>, Halt>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            // Where nobody is there to take it, nobody answers either.
            let _gone = self.calls.send(Asked { function: function.to_owned(), arguments, answer });
            let Answered { result, replayed } = answered.await.map_err(|_| Halt { reason: "nobody waits for it" })?;
            self.replays = replayed;
            Ok(result)
        })
    }

    fn log(&mut self, level: &str, text: &str) {
        // What a replay says was said when it was done.
        if self.lines.is_new() && !self.replays {
            let text = plain(&self.mask.text(text)).into_owned();
            if self.lines.has_room(text.len(), &self.services.limits) {
                said::write(level, self.run, &self.execution, &self.plugin, &text);
            }
        }
    }

    fn dropped(&mut self) {
        if self.lines.is_new() && !self.replays {
            self.lines.dropped();
        }
    }
}
