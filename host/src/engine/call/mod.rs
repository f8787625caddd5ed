//! One action's call: its keys, its guest, its calls, and how it comes to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bellhop_core::definition::ActionReference;
use bellhop_core::fault::Fault;
use bellhop_core::id::RunId;
use bellhop_core::requirement::Grant;
use bellhop_core::run::{Action, Calling, Effect, Facts, FrameId, Group, Notice, Returned, Why};
use bellhop_core::value;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::{OnceCell, watch};
use tracing::Instrument as _;

mod answer;
mod channels;
mod deeds;
mod earlier;
mod effects;
mod known;
mod lookup;
mod names;
mod request;
mod resolve;
mod said;
mod sending;
mod slices;
mod stamp;

pub(crate) use known::Known;
pub(crate) use names::Named;
pub(crate) use resolve::{Doubt, read_back};
pub(crate) use said::Said;
pub(crate) use stamp::{arguments_of, request_digest, sends_again, stamp};

use super::Services;
use super::driver::{CallEnd, CallFuture, Invoker, Wish};
use super::exclusive::Owner;
use super::execution::local::Local;
use super::execution::{self, Execution, Parking, Slice};
use super::gateway::Connected;
use super::plugins::Guest;
use super::waiting::{Activity, Entrance, Held, Place, Progress, Turn, Wait, Wanted};
use crate::faults::{Plant, planted};
use crate::sandbox::{self, Trap};
use answer::Meaning;
use deeds::Deeds;
use earlier::Earlier;
use effects::{Calls, Scope, Stopped};
use names::Unresolved;

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
    /// What each of its actions may do, as it was when the run was accepted.
    pub(crate) grants: Arc<Granted>,
    /// How many of its actions wait.
    pub(crate) activity: Arc<Activity>,
}

/// What the plugins of a run's actions were granted when it was accepted.
pub(crate) type Granted = BTreeMap<ActionReference, Arc<[Grant]>>;

impl<E: Execution> Invoker for Caller<E> {
    fn invoke(&self, _: FrameId, call: Calling, wish: watch::Receiver<Wish>) -> CallFuture {
        let attempt = Attempt {
            services: self.services.clone(),
            port: self.port.clone(),
            facts: self.facts.clone(),
            grants: self.grants.clone(),
            activity: self.activity.clone(),
            call,
            wish,
            deeds: Arc::default(),
            entrance: Arc::default(),
            earlier: Arc::default(),
        };
        let call = &attempt.call;
        let span = tracing::info_span!("task", task = %call.key, action = %call.action, attempt = call.attempt);
        let doing = self.activity.begins();
        let carrying = async move {
            let end = attempt.carry().await;
            drop(doing);
            end
        };
        Box::pin(carrying.instrument(span))
    }

    fn ended(&self) {
        self.services.waiting.forget(self.facts.run);
        self.services.said.ended(self.facts.run);
        // A parked action of a run that was cancelled still holds its keys.
        self.services.keys.release_all(self.facts.run);
        if !planted(Plant::KeepPlace) {
            self.services.post(self.services.groups.leave(self.facts.run));
        }
    }

    fn admit(&self, group: Group) {
        let messages = self.services.groups.ask(self.facts.run, &group);
        self.services.post(messages);
    }

    fn notify(&self, notice: Notice, again: bool) -> BoxFuture<'static, Result<(), execution::Error>> {
        let (services, run) = (self.services.clone(), self.facts.run);
        Box::pin(async move { Ok(services.notices.take(run, notice, again).await?) })
    }
}

struct Attempt<E> {
    services: Arc<Services>,
    port: Arc<E>,
    facts: Arc<Facts>,
    grants: Arc<Granted>,
    activity: Arc<Activity>,
    call: Calling,
    wish: watch::Receiver<Wish>,
    deeds: Arc<Deeds>,
    entrance: Arc<Entrance>,
    earlier: Arc<OnceCell<Mutex<Earlier>>>,
}

/// The keys that an action holds while it runs. `arguments` have ids where the file has names: two names of one thing
/// are one key.
///
/// Two connections of one organisation reach the same things: a key is of the organisation, where that is known.
fn keys_of(action: &Action, facts: &Facts, call: &Calling, arguments: &Value) -> Vec<String> {
    let connection = call.connection.as_deref().unwrap_or_default();
    let owner = facts.tenants.get(connection).map_or_else(|| json!([connection]), |of| json!(of.organisation()));
    let mut keys: Vec<String> = action
        .manifest
        .exclusive
        .iter()
        .map(|key| {
            let values: Vec<Value> =
                key.fields.iter().map(|field| arguments.pointer(field).cloned().unwrap_or(Value::Null)).collect();
            json!([key.name, owner, values]).to_string()
        })
        .collect();
    // In one order everywhere, so that two actions with two keys each cannot wait for each other.
    keys.sort();
    keys.dedup();
    keys
}

/// The keys that an open action held when the process ended. One that had made no call yet held none, or has nothing to
/// lose by waiting for them again; giving it the key would take it from the one that has.
pub(super) async fn keys_held(
    port: &Local,
    facts: &Facts,
    action: &Action,
    call: &Calling,
) -> Result<Vec<String>, execution::Error> {
    if action.manifest.exclusive.is_empty() || !port.has_called(&call.key, call.attempt, names::ORDINAL_FIRST) {
        return Ok(Vec::new());
    }
    let arguments = names::on_record(port, action, call).await?;
    Ok(keys_of(action, facts, call, &arguments))
}

impl<E: Execution> Attempt<E> {
    fn owner(&self) -> Owner {
        Owner { run: self.run(), execution: self.call.key.clone(), attempt: self.call.attempt }
    }

    fn run(&self) -> RunId {
        self.facts.run
    }

    async fn carry(self) -> CallEnd {
        match self.act().await {
            // In whichever life of the process, and in whichever slice.
            CallEnd::Park(reason) if self.port.attempted(&self.call.key, self.call.attempt).wrote => {
                CallEnd::ParkPartway(reason)
            }
            end => end,
        }
    }

    /// The connection of the call, if it is there and leads where it led when the run pinned it.
    fn connection(&self) -> Result<Arc<Connected>, Box<CallEnd>> {
        let Some(name) = &self.call.connection else {
            let detail = format!("`{}` was given no connection", self.call.action);
            let fault = Fault::of_code("connection-unknown", 404, detail);
            return Err(Box::new(CallEnd::Returned(Returned::Fault(fault))));
        };
        let Some(connection) = self.services.gateway.connection(name) else {
            // Somebody removed it under an open run: it can be put back.
            let detail = format!("the connection `{name}` is not there any more");
            return Err(Box::new(self.park(Why::Connection, Fault::of_code("connection-missing", 404, detail))));
        };
        // What this run has done and read is another's than whoever has the name now.
        match self.facts.leads_home(&connection.facts) {
            Ok(()) => Ok(connection),
            Err(elsewhere) => Err(Box::new(self.park(Why::Connection, elsewhere.fault()))),
        }
    }

    async fn act(&self) -> CallEnd {
        let fault = |code: &str, status: u16, detail: String| {
            CallEnd::Returned(Returned::Fault(Fault::of_code(code, status, detail)))
        };
        let Some(action) = self.facts.actions.get(&self.call.action).cloned() else {
            return fault("action-unknown", 404, format!("`{}` is not pinned for this run", self.call.action));
        };
        let connection = match self.connection() {
            Ok(connection) => connection,
            Err(end) => return *end,
        };
        let grants = self.grants.get(&self.call.action).cloned().unwrap_or_default();
        let package = match self.services.plugins.package(action.plugin).await {
            Ok(package) => package,
            Err(detail) => return self.park(Why::Unavailable, Fault::of_code("plugin-unavailable", 503, detail)),
        };
        if self.call.attempt > 1
            && let Err(error) = self.port.recall()
        {
            return CallEnd::Failed(error);
        }
        self.deeds.restore(self.port.attempted(&self.call.key, self.call.attempt));
        let named = self.scope(&action, &grants, &connection);
        let arguments = match names::resolve(&named, &self.call.arguments).await {
            Ok(resolved) => resolved,
            Err(Unresolved::Fault(fault) | Unresolved::Nobody(fault)) => {
                return CallEnd::Returned(Returned::Fault(fault));
            }
            Err(Unresolved::Stopped(stopped)) => return self.stopped(stopped),
        };
        let mut keys = keys_of(&action, &self.facts, &self.call, &arguments);
        if planted(Plant::DropExclusiveKey) {
            keys.clear();
        }
        let owner = self.owner();
        if !self.has_keys(&keys, &owner).await {
            if *self.wish.borrow() == Wish::PutDown {
                return CallEnd::PutDown;
            }
            // What waits for a key has done nothing yet: an action with anything on record holds its keys.
            for key in &keys {
                self.services.keys.release(key, &owner);
            }
            return self.nothing_done();
        }
        let mut wish = self.wish.clone();
        let entering = tokio::select! {
            biased;
            entering = self.services.waiting.has_room(&self.services.limits) => Some(entering),
            // The guest's first call finds that it is not wanted.
            _ = wish.wait_for(|w| *w != Wish::Run) => None,
        };
        self.entrance.comes(entering);
        let end = self.run_guest(&action, &package, &grants, &connection, &arguments).await;
        self.entrance.passed();
        let end = match end {
            CallEnd::Returned(returned) => CallEnd::Returned(self.deeds.accounted(returned)),
            other => other,
        };
        if !matches!(end, CallEnd::PutDown | CallEnd::Failed(_)) {
            self.services.said.forget(self.run(), &self.call.key, self.call.attempt);
        }
        for key in &keys {
            match end {
                CallEnd::Returned(_) => self.services.keys.release(key, &owner),
                // A parked action keeps its keys: what it was doing is not over.
                CallEnd::Park(_) | CallEnd::ParkPartway(_) => self.services.keys.park(key, &owner),
                CallEnd::PutDown | CallEnd::Failed(_) => {}
            }
        }
        end
    }

    /// Waits until all keys are the action's; false when it is to stop before that. If it is put down, it keeps its place
    /// and what it has of them: they are taken in one order, so that this holds up nobody for ever.
    async fn has_keys(&self, keys: &[String], owner: &Owner) -> bool {
        if keys.is_empty() {
            return true;
        }
        let place = Place::Action(self.call.key.clone(), self.call.attempt);
        let turn = self.services.waiting.claim(self.run(), &place).map_or_else(
            || {
                let others = keys.iter().filter_map(|key| Some((key, self.services.keys.held_by_another(key, owner)?)));
                for (key, other) in others {
                    // One that is parked and whose task nobody waits for any more lets go when the person has decided.
                    let who = if other == self.run() {
                        "another action of this run holds".to_owned()
                    } else {
                        format!("the run {other} is changing")
                    };
                    self.port.note(format!("waits for `{key}`, which {who}"));
                }
                let (held, keys, owner) = (self.services.keys.clone(), keys.to_vec(), owner.clone());
                let all: Turn = Box::pin(async move {
                    for key in &keys {
                        held.acquire(key, &owner).await;
                    }
                });
                all
            },
            Held::turn,
        );
        let wait = Wait::new(&self.activity, &self.wish, place, (Wanted::Turn, Progress::default()), turn);
        let mut wish = self.wish.clone();
        tokio::select! {
            biased;
            () = wait => true,
            _ = wish.wait_for(|w| *w != Wish::Run) => false,
        }
    }

    fn scope(&self, action: &Arc<Action>, grants: &Arc<[Grant]>, connection: &Arc<Connected>) -> Arc<Scope<E>> {
        let task = self.facts.workflow.tasks.iter().find(|t| t.pointer == self.call.key.pointer);
        Arc::new(Scope {
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
            activity: self.activity.clone(),
            wish: self.wish.clone(),
            on_its_way: Mutex::new(None),
            halted: Mutex::new(None),
            before: Mutex::new(None),
            earlier: self.earlier.clone(),
            deeds: self.deeds.clone(),
            entrance: self.entrance.clone(),
            began: self.services.clock.monotonic(),
            replays: AtomicBool::new(false),
            mask: self.facts.mask(),
            told: Mutex::new(BTreeSet::new()),
        })
    }

    async fn run_guest(
        &self,
        action: &Arc<Action>,
        package: &Guest,
        grants: &Arc<[Grant]>,
        connection: &Arc<Connected>,
        arguments: &Value,
    ) -> CallEnd {
        let context = self.context(connection);
        let idle_max = self.services.limits.guest_idle_slices_max;
        let mut tries = 0;
        let (mut slice, mut idle) = match self.last_slice().await {
            Ok(found) => found,
            Err(end) => return end,
        };
        // The doubt about a call that was sent again outlives the process.
        if self.port.has_repeated(&self.call.key, self.call.attempt) {
            self.deeds.note_repeated();
        }
        loop {
            tries += 1;
            let scope = self.scope(action, grants, connection);
            let mut request = json!({ "input": arguments, "context": context });
            if let Some(Slice { state, .. }) = &slice {
                request["state"] = state.clone();
            }
            let request = request.to_string();
            let call = sandbox::Call {
                action: &action.manifest.name,
                input: &request,
                budget: self.services.guest_budget(),
                context: sandbox::Context {
                    started_at_ms: self.call.started_at.as_millis(),
                    seed: seed_of(self.run(), &self.call),
                },
                memory: self.activity.guests_bytes.clone(),
            };
            let first = slice.as_ref().map_or(0, |s| s.first_call);
            match scope.is_on_record(first).await {
                Ok(replays) => scope.replays.store(replays, Ordering::Relaxed),
                Err(stopped) => return self.stopped(stopped),
            }
            let calls = Calls::new(scope.clone(), first, self.services.limits.guest_answers_bytes_max);
            let made = calls.made();
            let guest = package.run(call, calls);
            // A guest that begins when it is to stop already replays: it stops at the first call that is not on record.
            let stopping = *self.wish.borrow() != Wish::Run;
            let answered = if stopping {
                Some(guest.await)
            } else {
                tokio::select! {
                    biased;
                    answered = guest => Some(answered),
                    () = scope.is_droppable() => None,
                }
            };
            let on_its_way = scope.on_its_way.lock().unwrap_or_else(PoisonError::into_inner).take();
            let left = match on_its_way {
                Some(task) if planted(Plant::AbandonSentCall) => {
                    task.abort();
                    None
                }
                // Its outcome is recorded by the task itself; what it could not bring to an end, it says. One that
                // panicked has told nobody what became of its request.
                Some(task) => task.await.unwrap_or_else(|failed| failed.is_panic().then(|| scope.lost())),
                None => None,
            };
            let left = match left {
                // Stopping the process parks nothing: the next one reads back and finds out. A run that only makes room
                // comes back in this process, and how often its call was tried would begin anew.
                Some(Stopped::Park(_)) if *self.wish.borrow() == Wish::PutDown && *self.services.drain.borrow() => None,
                left => left,
            };
            let halted = scope.halted.lock().unwrap_or_else(PoisonError::into_inner).take().or(left);
            match (answered, halted) {
                (_, Some(stopped @ (Stopped::Park(_) | Stopped::Unread | Stopped::Failed(_)))) => {
                    return self.stopped(stopped);
                }
                (None, _) | (Some(Err(Trap::Halted(_))), _) => {
                    if *self.wish.borrow() == Wish::PutDown {
                        return CallEnd::PutDown;
                    }
                    if !stopping && self.deeds.has_written() {
                        // What is on record may be all that it does: it is asked once more, answered from the record
                        // alone, since it knows how to take its change back.
                        tries = 0;
                        continue;
                    }
                    return self.cut_short();
                }
                (Some(Err(Trap::Cpu { .. })), _) if tries < CPU_TRIES_MAX => {}
                (Some(Err(trap @ Trap::Cpu { .. })), _) => {
                    let fault = Fault::of_code("plugin-timeout", 504, format!("{trap}, {tries} times"));
                    return self.park(Why::Timeout, fault);
                }
                (Some(Err(trap)), _) => {
                    let code = if matches!(trap, Trap::OutputTooLarge { .. }) {
                        "plugin-output-invalid"
                    } else {
                        "plugin-trapped"
                    };
                    return CallEnd::Returned(Returned::Fault(Fault::of_code(code, 500, trap.to_string())));
                }
                (Some(Ok(answered)), _) => match self.interpret(action, answered, &scope) {
                    Interpreted::End(end) => {
                        match scope.leaves_earlier(first + made.load(Ordering::Relaxed)).await {
                            Ok(true) => self.deeds.note_left(),
                            Ok(false) => {}
                            Err(stopped) => return self.stopped(stopped),
                        }
                        return end;
                    }
                    Interpreted::Again(_) if stopping => return self.cut_short(),
                    Interpreted::Again(state) => {
                        let number = slice.as_ref().map_or(0, |s| s.number + 1);
                        let next = Slice { number, state, first_call: first + made.load(Ordering::Relaxed) };
                        idle = if next.goes_on_from(slice.as_ref()) { 0 } else { idle + 1 };
                        if idle >= idle_max {
                            let detail = format!(
                                "`{}` asked to be called again {idle} times without a call or with the state that it had",
                                self.call.action
                            );
                            let fault = Fault::of_code("plugin-no-progress", 500, detail);
                            return CallEnd::Returned(Returned::Fault(fault));
                        }
                        if let Err(end) = self.keep_slice(&next).await {
                            return end;
                        }
                        slice = Some(next);
                        tries = 0;
                    }
                },
            }
        }
    }

    fn stopped(&self, stopped: Stopped) -> CallEnd {
        match stopped {
            Stopped::Park(parking) => CallEnd::Park(parking),
            // Nobody waits for it, and it had not begun.
            Stopped::PutDown if *self.wish.borrow() == Wish::Stop => self.nothing_done(),
            Stopped::PutDown | Stopped::Unread => CallEnd::PutDown,
            Stopped::Failed(error) => CallEnd::Failed(error),
        }
    }

    fn park(&self, why: Why, reason: Fault) -> CallEnd {
        CallEnd::Park(Parking::at(&self.call.key.pointer, why, reason))
    }

    /// What the guest is told besides its input. The same in every attempt and slice, but for the attempt's number: a
    /// retry must make the same requests.
    fn context(&self, connection: &Connected) -> Value {
        let (facts, budget, limits) = (&connection.facts, self.services.guest_budget(), &self.services.limits);
        json!({
            "run": self.run().to_string(),
            "task": self.call.key.pointer,
            "execution": self.call.key.to_string(),
            "attempt": self.call.attempt,
            "dryRun": false,
            "startedAt": self.call.started_at.to_string(),
            "connection": {
                "name": facts.name, "kind": facts.kind, "plan": facts.plan,
                "workspaceId": facts.workspace_id, "enterpriseId": facts.enterprise_id,
            },
            "limits": {
                "calls": budget.calls_max,
                "answersBytes": limits.guest_answers_bytes_max,
                "answerBytes": limits.guest_answer_bytes_max,
                "argumentsBytes": budget.arguments_bytes_max,
                "outputBytes": budget.output_bytes_max,
                "memoryBytes": budget.memory_bytes_max,
                "computeMs": budget.cpu_ms_max,
                "idleSlices": limits.guest_idle_slices_max,
            },
        })
    }

    /// The end of a call that was stopped before it did anything in this life.
    fn nothing_done(&self) -> CallEnd {
        if self.port.has_repeated(&self.call.key, self.call.attempt) {
            self.deeds.note_repeated();
            return self.cut_short();
        }
        if self.deeds.has_written() {
            return self.cut_short();
        }
        CallEnd::Returned(Returned::Ok { output: Value::Null, effect: Effect::default() })
    }

    /// Nobody waits for it: what it changed goes into the ledger, its answer nowhere.
    fn cut_short(&self) -> CallEnd {
        CallEnd::Returned(Returned::Ok { output: Value::Null, effect: self.deeds.cut_short() })
    }

    fn interpret(&self, action: &Action, answered: Result<String, String>, scope: &Scope<E>) -> Interpreted {
        let told = scope.told.lock().unwrap_or_else(PoisonError::into_inner);
        let status_of = |code: &str| answer::status_of(code, &action.manifest.errors, &told);
        let invalid = |detail: String| {
            Interpreted::End(CallEnd::Returned(Returned::Fault(Fault::of_code("plugin-output-invalid", 500, detail))))
        };
        let bytes_max = self.services.limits.value_bytes_max;
        let fits = |given: &Value| {
            let fault = |error| format!("what `{}` gave cannot be kept: {error}", self.call.action);
            value::check(given, bytes_max).map_err(fault)
        };
        let meaning = answer::meaning(answered, status_of);
        let given = match &meaning {
            Meaning::Returned(Returned::Ok { output, effect }) => {
                [Some(output), effect.undo.as_ref().map(|undo| &undo.input)]
            }
            Meaning::Again(state) => [Some(state), None],
            Meaning::Returned(_) | Meaning::Park(_) | Meaning::Broken(_) => [None, None],
        };
        if let Err(detail) = given.into_iter().flatten().try_for_each(fits) {
            return invalid(detail);
        }
        match meaning {
            Meaning::Returned(Returned::Ok { output, effect }) => match action.output.validate(&output).first() {
                None => Interpreted::End(CallEnd::Returned(Returned::Ok { output, effect })),
                Some(first) => invalid(format!(
                    "the output of `{}` does not fit its schema: {}: {}",
                    self.call.action, first.pointer, first.message
                )),
            },
            Meaning::Returned(fault) => Interpreted::End(CallEnd::Returned(fault)),
            Meaning::Park(fault) => Interpreted::End(self.park(Why::Asked, fault)),
            Meaning::Broken(detail) => invalid(detail),
            Meaning::Again(state) => Interpreted::Again(state),
        }
    }
}

#[expect(clippy::large_enum_variant, reason = "one an action, taken apart at once")]
enum Interpreted {
    End(CallEnd),
    /// The action wants to go on in a new slice, with this state.
    Again(Value),
}

/// Another for each run and each execution of a task; the same for all attempts at it and all of their slices.
fn seed_of(run: RunId, call: &Calling) -> u64 {
    let digest = bellhop_core::digest::Digest::of(format!("{run}\n{}", call.key).as_bytes());
    digest.as_bytes().iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte))
}
