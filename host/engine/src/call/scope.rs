//! What an attempt is about: whose it is, what it may do, and with what. None of it changes while the attempt lasts.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bellhop_core::fault::Fault;
use bellhop_core::id::RunId;
use bellhop_core::mask::Mask;
use bellhop_core::requirement::{Grant, TokenKind};
use bellhop_core::run::{Action, ExecutionKey, Why};
use tokio::sync::watch;

use crate::Services;
use crate::execution::invoker::Wish;
use crate::execution::{self, Answer, CallKey, Called, Execution, Intent, Parking};
use crate::gateway::Connected;
use crate::pins::GuestLimits;
use crate::waiting::Activity;

/// See the module.
pub(super) struct Scope<E> {
    pub(super) services: Arc<Services>,
    pub(super) port: Arc<E>,
    pub(super) run: RunId,
    pub(super) execution: ExecutionKey,
    pub(super) attempt: u32,
    pub(super) action: Arc<Action>,
    pub(super) plugin: String,
    pub(super) grants: Arc<[Grant]>,
    pub(super) guests: GuestLimits,
    pub(super) connection: Arc<Connected>,
    pub(super) retry_again: bool,
    pub(super) resend_unknown: bool,
    /// As whom the file wants the action's calls to go out.
    pub(super) token: Option<TokenKind>,
    pub(super) fast: bool,
    pub(super) activity: Arc<Activity>,
    pub(super) wish: watch::Receiver<Wish>,
    /// What nobody is shown.
    pub(super) mask: Mask,
}

/// Why a call did not come to its end.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one an action, moved up a few callers")]
pub(super) enum Stopped {
    /// A person has to decide.
    Park(Parking),
    /// Nobody waits for the action any more, or it makes room for others, or the process is stopping. Nothing was begun.
    PutDown,
    /// The process is stopping, and what became of a call that was sent is not known yet: the next process finds out,
    /// also where nobody waits for the action any more.
    Unread,
    /// The journal failed.
    Failed(execution::Error),
}

impl<E: Execution> Scope<E> {
    pub(super) fn wish(&self) -> Wish {
        *self.wish.borrow()
    }

    pub(super) fn drains(&self) -> bool {
        *self.services.drain.borrow()
    }

    /// The time by a clock that nobody sets.
    pub(super) fn monotonic(&self) -> Duration {
        self.services.clock.monotonic()
    }

    pub(super) fn call(&self, attempt: u32, ordinal: u32) -> CallKey {
        CallKey { execution: self.execution.clone(), attempt, ordinal }
    }

    pub(super) async fn kept(&self, key: &CallKey) -> Result<Option<Answer>, Stopped> {
        Ok(self.look(key).await?.0)
    }

    /// What is kept under `key`, or the intent that has no end.
    pub(super) async fn look(&self, key: &CallKey) -> Result<(Option<Answer>, Option<Intent>), Stopped> {
        Ok(match self.port.called(key).await.map_err(Stopped::Failed)? {
            Called::Ended(answer) => (Some(answer), None),
            Called::Open(intent) => (None, Some(intent)),
            Called::New => (None, None),
        })
    }

    /// Whether an earlier life has anything of this attempt on record from the call `first` on. Calls come onto it in their
    /// order, so the first one tells.
    pub(super) async fn is_on_record(&self, first: u32) -> Result<bool, Stopped> {
        let (kept, open) = self.look(&self.call(self.attempt, first)).await?;
        Ok(kept.is_some() || open.is_some())
    }

    pub(super) async fn record(&self, key: &CallKey, answer: Answer) -> Result<Answer, Stopped> {
        self.port.ended(key, &answer).await.map_err(Stopped::Failed)?;
        Ok(answer)
    }

    /// The call needs a person.
    pub(super) fn park(&self, why: Why, reason: Fault) -> Stopped {
        Stopped::Park(Parking::at(&self.execution.pointer, why, reason))
    }

    pub(super) fn nondeterministic(&self, key: &CallKey) -> Parking {
        let fault = Fault::of_code(
            "nondeterministic-plugin",
            format!(
                "call {} of `{}` is not the one that it made before: the plugin does not repeat itself",
                key.ordinal, self.plugin
            ),
        );
        Parking::at(&self.execution.pointer, Why::Nondeterministic, fault)
    }

    /// Waits until nobody wants the call to go on, or `work` is done.
    pub(super) async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut wish = self.wish.clone();
        tokio::select! {
            biased;
            done = work => Some(done),
            _ = wish.wait_for(|w| *w != Wish::Run) => None,
        }
    }
}
