//! Starts attempts at actions, for the driver of one run.

use std::sync::Arc;

use bellhop_core::fault::Fault;
use bellhop_core::run::{Action, Calling, Facts, FrameId, Notice, Returned, Why};
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tracing::Instrument as _;

use super::attempt::Attempt;
use super::scope::Scope;
use crate::Services;
use crate::execution::invoker::{CallEnd, CallFuture, CameBack, Invoker, Wish};
use crate::execution::{self, Execution};
use crate::gateway::Connected;
use crate::owners::keyed_lock::{Change, Owner};
use crate::pins::{Granted, GuestLimits};
use crate::traces::{Kind, Spans, Told};
use crate::waiting::{Activity, Place};

/// Starts a run's actions.
pub(crate) struct Caller<E> {
    /// What all runs share.
    pub services: Arc<Services>,
    /// The run's port.
    pub port: Arc<E>,
    /// What is pinned.
    pub facts: Arc<Facts>,
    /// What each of its actions may do, as it was when the run was accepted.
    pub grants: Arc<Granted>,
    /// What its guests may use.
    pub guests: GuestLimits,
    /// Whoever makes the run's spans.
    pub spans: Spans,
    /// How many of its actions wait.
    pub activity: Arc<Activity>,
}

impl<E: Execution> Invoker for Caller<E> {
    fn invoke(&self, _: FrameId, call: Calling, wish: watch::Receiver<Wish>) -> CallFuture {
        // A log of errors alone names the task, too.
        let span = tracing::error_span!("task", task = %call.key, action = %call.action, attempt = call.attempt);
        let doing = self.activity.begins();
        let caller = self.clone();
        let carrying = async move {
            let (port, key, attempt) = (caller.port.clone(), call.key.clone(), call.attempt);
            let services = caller.services.clone();
            let (held, waiting) = (&services.partition.keys, &services.partition.waiting);
            let owner = Owner { run: caller.facts.run, execution: key.clone(), attempt };
            let (spans, action) = (caller.spans.clone(), call.action.to_string());
            let carried = spans.span(Box::pin(caller.carry(call, wish)), |end| told(&owner, action, end)).await;
            let end = match carried {
                // In whichever life of the process, and in whichever slice.
                CallEnd::Park(reason) if port.attempted(&key, attempt).wrote => CallEnd::ParkPartway(reason),
                end => end,
            };
            drop(doing);
            if end.keys().is_some() {
                // A turn that it left in a queue would be given a key when nobody is there to take it.
                drop(waiting.claim(owner.run, &Place::Action(owner.execution.clone(), attempt)));
            }
            let keys = end.keys().map(|to| held.changes(&owner, to)).unwrap_or_default();
            CameBack { end, keys }
        };
        Box::pin(carrying.instrument(span))
    }

    fn keys_at_end(&self) -> Vec<Change> {
        // A turn in a queue, which nobody comes back for, would be given a key.
        self.services.partition.waiting.forget(self.facts.run);
        self.services.partition.keys.held_by(self.facts.run)
    }

    fn changed(&self, keys: &[Change]) {
        self.services.partition.keys.changed(keys);
    }

    fn ended(&self) {
        self.services.partition.waiting.forget(self.facts.run);
        self.services.partition.said.ended(self.facts.run);
    }

    fn notify(&self, notice: Notice, again: bool) -> BoxFuture<'static, Result<(), execution::Error>> {
        let (services, run) = (self.services.clone(), self.facts.run);
        Box::pin(async move { Ok(services.partition.notices.take(run, notice, again).await?) })
    }
}

impl<E> Clone for Caller<E> {
    fn clone(&self) -> Self {
        Self {
            services: self.services.clone(),
            port: self.port.clone(),
            facts: self.facts.clone(),
            grants: self.grants.clone(),
            guests: self.guests,
            spans: self.spans.clone(),
            activity: self.activity.clone(),
        }
    }
}

/// What the span of an attempt says. One that is put down has a span for each time that it is taken up.
fn told(owner: &Owner, action: String, end: &CallEnd) -> Told {
    let (outcome, code) = match end {
        CallEnd::Returned(Returned::Ok { .. }) => ("done", None),
        CallEnd::Returned(Returned::Fault(fault)) => ("failed", Some(fault.code().to_owned())),
        CallEnd::Returned(Returned::Broken { fault, .. }) => ("failed", Some(fault.code().to_owned())),
        CallEnd::Park(parking) | CallEnd::ParkPartway(parking) => ("parked", Some(parking.reason.code().to_owned())),
        CallEnd::PutDown => ("put-down", None),
        CallEnd::Failed(_) => ("put-down", Some("internal".to_owned())),
    };
    Told::of(Kind::Internal, action)
        .with("bellhop.task", owner.execution.to_string())
        .number("bellhop.attempt", owner.attempt)
        .with("bellhop.outcome", outcome)
        .failed(code)
}

impl<E: Execution> Caller<E> {
    /// Begins an attempt, or takes it up again, and goes on with it until it ends or is put down.
    async fn carry(self, call: Calling, wish: watch::Receiver<Wish>) -> CallEnd {
        let Some(action) = self.facts.actions.get(&call.action).cloned() else {
            return CallEnd::fault("action-unknown", format!("`{}` is not pinned for this run", call.action));
        };
        let connection = match self.connection(&call) {
            Ok(connection) => connection,
            Err(end) => return *end,
        };
        let guest = match self.services.plugins.package(action.plugin).await {
            Ok(guest) => guest,
            Err(detail) => {
                return CallEnd::park(&call, Why::Unavailable, Fault::of_code("plugin-unavailable", detail));
            }
        };
        if call.attempt > 1
            && let Err(error) = self.port.recall().await
        {
            return CallEnd::Failed(error);
        }
        let scope = self.scope(&call, action, connection, wish);
        Attempt::of(scope, self.facts, call).carry(&guest).await
    }

    /// The connection of the call, if it is there and leads where it led when the run pinned it.
    fn connection(&self, call: &Calling) -> Result<Arc<Connected>, Box<CallEnd>> {
        let Some(name) = &call.connection else {
            return Err(Box::new(CallEnd::fault(
                "connection-unknown",
                format!("`{}` was given no connection", call.action),
            )));
        };
        let Some(connection) = self.services.gateway.connection(name) else {
            // Somebody removed it under an open run: it can be put back.
            let detail = format!("the connection `{name}` is not there any more");
            let missing = Fault::of_code("connection-missing", detail);
            return Err(Box::new(CallEnd::park(call, Why::Connection, missing)));
        };
        // What this run has done and read is another's than whoever has the name now.
        match self.facts.leads_home(&connection.facts) {
            Ok(()) => Ok(connection),
            Err(elsewhere) => Err(Box::new(CallEnd::park(call, Why::Connection, elsewhere.fault()))),
        }
    }

    fn scope(
        &self,
        call: &Calling,
        action: Arc<Action>,
        connection: Arc<Connected>,
        wish: watch::Receiver<Wish>,
    ) -> Scope<E> {
        let at = |pointer: &str| self.facts.workflow.tasks.iter().find(|t| t.pointer == pointer);
        let task = at(&call.key.pointer);
        // What takes a change back acts as who made it.
        let said = task.or_else(|| at(call.key.pointer.strip_suffix("/undo")?));
        Scope {
            services: self.services.clone(),
            port: self.port.clone(),
            run: self.facts.run,
            execution: call.key.clone(),
            attempt: call.attempt,
            action,
            plugin: call.action.plugin.clone(),
            grants: self.grants.get(&call.action).cloned().unwrap_or_default(),
            guests: self.guests,
            connection,
            retry_again: task.is_some_and(|t| t.extras.retry_again),
            resend_unknown: task.is_some_and(|t| t.extras.resend_unknown),
            token: said.and_then(|t| t.extras.token),
            fast: self.facts.workflow.extras.purpose.as_deref() == Some("offboarding"),
            activity: self.activity.clone(),
            wish,
            mask: self.facts.mask(),
        }
    }
}
