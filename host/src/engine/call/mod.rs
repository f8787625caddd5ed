//! One action's call: its keys, its guest, its calls, and how it comes to its end.

use std::sync::{Arc, Mutex, PoisonError};

use bellhop_core::fault::Fault;
use bellhop_core::id::RunId;
use bellhop_core::run::{Action, Calling, Effect, Facts, FrameId, Returned};
use serde_json::{Value, json};
use tokio::sync::watch;

mod answer;
mod effects;
mod resolve;

use super::Services;
use super::driver::{CallEnd, CallFuture, Invoker, Wish};
use super::exclusive::Owner;
use super::execution::Execution;
use super::gateway::Connected;
use crate::sandbox::{self, Trap};
use answer::Meaning;
use effects::{Calls, Scope, Stopped};

/// A trap for computing too long can be the machine's fault: so many times in all, then a person looks.
const CPU_TRIES_MAX: u32 = 3;

/// Starts a run's actions.
pub(crate) struct Caller<E> {
    /// What all runs share.
    pub(crate) services: Arc<Services>,
    /// The run's port.
    pub(crate) port: Arc<E>,
    /// What is pinned.
    pub(crate) facts: Arc<Facts>,
}

impl<E: Execution> Invoker for Caller<E> {
    fn invoke(&self, frame: FrameId, call: Calling, wish: watch::Receiver<Wish>) -> CallFuture {
        let attempt = Attempt {
            services: self.services.clone(),
            port: self.port.clone(),
            facts: self.facts.clone(),
            frame,
            call,
            wish,
        };
        Box::pin(attempt.carry())
    }
}

struct Attempt<E> {
    services: Arc<Services>,
    port: Arc<E>,
    facts: Arc<Facts>,
    frame: FrameId,
    call: Calling,
    wish: watch::Receiver<Wish>,
}

/// The keys that an action holds while it runs.
pub(crate) fn keys_of(action: &Action, call: &Calling) -> Vec<String> {
    let connection = call.connection.as_deref().unwrap_or_default();
    let mut keys: Vec<String> = action
        .manifest
        .exclusive
        .iter()
        .map(|key| {
            let values: Vec<Value> =
                key.fields.iter().map(|field| call.arguments.pointer(field).cloned().unwrap_or(Value::Null)).collect();
            json!([key.name, connection, values]).to_string()
        })
        .collect();
    // In one order everywhere, so that two actions with two keys each cannot wait for each other.
    keys.sort();
    keys.dedup();
    keys
}

impl<E: Execution> Attempt<E> {
    fn owner(&self) -> Owner {
        Owner { run: self.run(), execution: self.call.key.clone() }
    }

    fn run(&self) -> RunId {
        self.facts.run
    }

    async fn carry(self) -> CallEnd {
        let fault = |code: &str, status: u16, detail: String| CallEnd::Returned(Returned::Fault(Fault::of_code(code, status, detail)));
        let Some(action) = self.facts.actions.get(&self.call.action).cloned() else {
            return fault("action-unknown", 404, format!("`{}` is not pinned for this run", self.call.action));
        };
        let Some(name) = self.call.connection.clone() else {
            return fault("connection-unknown", 404, format!("`{}` was given no connection", self.call.action));
        };
        let Some(connection) = self.services.gateway.connection(&name) else {
            // Somebody removed it under an open run: it can be put back.
            let mut reason = Fault::of_code("connection-missing", 404, format!("the connection `{name}` is not there any more"));
            reason.instance = Some(self.call.key.pointer.clone());
            return CallEnd::Park(reason);
        };
        let (package, grants) = match self.services.plugins.package(action.plugin).await {
            Ok(found) => found,
            Err(detail) => {
                let mut reason = Fault::of_code("plugin-unavailable", 503, detail);
                reason.instance = Some(self.call.key.pointer.clone());
                return CallEnd::Park(reason);
            }
        };
        let keys = keys_of(&action, &self.call);
        let owner = self.owner();
        for key in &keys {
            let mut wish = self.wish.clone();
            tokio::select! {
                () = self.services.keys.acquire(key, &owner) => {}
                _ = wish.wait_for(|w| *w == Wish::PutDown) => return CallEnd::PutDown,
            }
        }
        let end = self.run_guest(&action, &package, grants, connection).await;
        // A parked action keeps its keys: what it was doing is not over.
        if matches!(end, CallEnd::Returned(_)) {
            for key in &keys {
                self.services.keys.release(key, &owner);
            }
        }
        end
    }

    async fn run_guest(
        &self,
        action: &Arc<Action>,
        package: &sandbox::Package,
        grants: Arc<[bellhop_core::requirement::Grant]>,
        connection: Arc<Connected>,
    ) -> CallEnd {
        let task = self.facts.workflow.tasks.iter().find(|t| t.pointer == self.call.key.pointer);
        let facts = &connection.facts;
        let context = json!({
            "run": self.run().to_string(),
            "task": self.call.key.to_string(),
            "attempt": self.call.attempt,
            "dryRun": false,
            "startedAt": self.facts.accepted_at.to_string(),
            "connection": {
                "name": facts.name, "kind": facts.kind, "plan": facts.plan,
                "workspaceId": facts.workspace_id, "enterpriseId": facts.enterprise_id,
            },
        });
        let input = json!({ "input": self.call.arguments, "context": context }).to_string();
        let mut tries = 0;
        loop {
            tries += 1;
            let scope = Arc::new(Scope {
                services: self.services.clone(),
                port: self.port.clone(),
                run: self.run(),
                execution: self.call.key.clone(),
                attempt: self.call.attempt,
                action: action.clone(),
                plugin: self.call.action.plugin.clone(),
                grants: grants.clone(),
                connection: connection.clone(),
                retry_again: task.is_some_and(|t| t.extras.retry_again),
                resend_unknown: task.is_some_and(|t| t.extras.resend_unknown),
                fast: self.facts.workflow.extras.purpose.as_deref() == Some("offboarding"),
                wish: self.wish.clone(),
                on_its_way: Mutex::new(None),
                halted: Mutex::new(None),
                wrote: std::sync::atomic::AtomicBool::new(false),
            });
            let call = sandbox::Call {
                action: &action.manifest.name,
                input: &input,
                budget: self.services.guest_budget(),
                context: sandbox::Context {
                    started_at_ms: self.facts.accepted_at.as_millis(),
                    seed: seed_of(&self.call),
                },
            };
            let guest = package.run(call, Calls { scope: scope.clone(), ordinal: 0 });
            let mut wish = self.wish.clone();
            // A guest that begins when it is to stop already replays: it stops at the first call that is not on record.
            let stopping = *wish.borrow() != Wish::Run;
            let answered = if stopping {
                Some(guest.await)
            } else {
                tokio::select! {
                    answered = guest => Some(answered),
                    _ = wish.wait_for(|w| *w != Wish::Run) => None,
                }
            };
            let on_its_way = scope.on_its_way.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(task) = on_its_way {
                // Its outcome is recorded by the task itself.
                let _ended = task.await;
            }
            let halted = scope.halted.lock().unwrap_or_else(PoisonError::into_inner).take();
            match (answered, halted) {
                (_, Some(Stopped::Park(fault))) => return CallEnd::Park(fault),
                (_, Some(Stopped::Failed(error))) => {
                    tracing::error!(run = %self.run(), task = %self.call.key, %error, "the journal failed under a call");
                    return CallEnd::PutDown;
                }
                (None, _) | (Some(Err(Trap::Halted(_))), _) => {
                    if *self.wish.borrow() == Wish::PutDown {
                        return CallEnd::PutDown;
                    }
                    // Nobody waits for it: what it changed goes into the ledger, its answer nowhere.
                    let changed = scope.wrote.load(std::sync::atomic::Ordering::Relaxed);
                    return CallEnd::Returned(Returned::Ok { output: Value::Null, effect: Effect { changed, undo: None } });
                }
                (Some(Err(Trap::Cpu { .. })), _) if tries < CPU_TRIES_MAX => {}
                (Some(Err(trap @ Trap::Cpu { .. })), _) => {
                    let mut fault = Fault::of_code("plugin-timeout", 504, format!("{trap}, {tries} times"));
                    fault.instance = Some(self.call.key.pointer.clone());
                    return CallEnd::Park(fault);
                }
                (Some(Err(trap)), _) => {
                    let code = if matches!(trap, Trap::OutputTooLarge { .. }) { "plugin-output-invalid" } else { "plugin-trapped" };
                    return CallEnd::Returned(Returned::Fault(Fault::of_code(code, 500, trap.to_string())));
                }
                (Some(Ok(answered)), _) => return self.interpret(action, answered),
            }
        }
    }

    fn interpret(&self, action: &Action, answered: Result<String, String>) -> CallEnd {
        let status_of = |code: &str| action.manifest.errors.iter().find(|e| e.code == code).map(|e| e.status);
        let invalid = |detail: String| {
            CallEnd::Returned(Returned::Fault(Fault::of_code("plugin-output-invalid", 500, detail)))
        };
        match answer::meaning(answered, status_of) {
            Meaning::Returned(Returned::Ok { output, effect }) => {
                let violations = action.output.validate(&output);
                match violations.first() {
                    None => CallEnd::Returned(Returned::Ok { output, effect }),
                    Some(first) => invalid(format!(
                        "the output of `{}` does not fit its schema: {}: {}",
                        self.call.action, first.pointer, first.message
                    )),
                }
            }
            Meaning::Returned(fault) => CallEnd::Returned(fault),
            Meaning::Park(fault) => CallEnd::Park(fault),
            Meaning::Broken(detail) => invalid(detail),
            Meaning::Again(_) => invalid("this version carries out no actions in slices".to_owned()),
        }
    }
}

/// The same for every replay of one attempt.
fn seed_of(call: &Calling) -> u64 {
    let digest = bellhop_core::digest::Digest::of(format!("{}#{}", call.key, call.attempt).as_bytes());
    digest.as_bytes().iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}
