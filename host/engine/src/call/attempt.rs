//! One attempt at an action: its keys, its guest, its calls, and how it comes to its end.

use std::pin::pin;
use std::sync::Arc;

use bellhop_core::fault::Fault;
use bellhop_core::id::RunId;
use bellhop_core::run::{Calling, Effect, Facts, Returned, Why};
use bellhop_core::value;
use futures_util::FutureExt as _;
use serde_json::{Value, json};

use super::answer::{self, Meaning};
use super::deeds::Deeds;
use super::earlier::Earlier;
use super::effects::Calls;
use super::guest::{Answered, Line};
use super::keys::{Exclusive, keys_of};
use super::names;
use super::scope::{Scope, Stopped};
use super::stage::{Left, Met, Stage, Then};
use super::unresolved::Unresolved;
use crate::execution::invoker::{CallEnd, Wish};
use crate::execution::{Execution, Slice};
use crate::owners::keyed_lock::{KeyId, Owner};
use crate::setup::plugins::Guest;
use crate::traces::{self, Kind, Told};
use crate::waiting::{Entering, Place, Progress, Turn, Wait, Wanted};
use bellhop_sandbox as sandbox;

/// One attempt at one execution of an action, in this life of the driver. Everything that it learns is its own: nobody
/// else has it, and what it does comes one after the other.
pub(super) struct Attempt<E> {
    pub(super) scope: Scope<E>,
    facts: Arc<Facts>,
    call: Calling,
    stage: Stage,
    keys: Vec<Exclusive>,
    pub(super) deeds: Deeds,
    /// What attempts before this one carried out, from its first write on, if it is not the first attempt.
    pub(super) earlier: Option<Earlier>,
    /// Its place among those whose guests have begun and neither wait nor have sent anything yet.
    entering: Option<Entering>,
    pub(super) calls: Calls,
}

impl<E: Execution> Attempt<E> {
    /// One that is taken up: nothing of it has been done in this life.
    pub(super) fn of(scope: Scope<E>, facts: Arc<Facts>, call: Calling) -> Self {
        let mut deeds = Deeds::default();
        deeds.restore(scope.port.attempted(&call.key, call.attempt));
        // The doubt about a call that was sent again outlives the process.
        if scope.port.has_repeated(&call.key, call.attempt) {
            deeds.note_repeated();
        }
        Self {
            scope,
            facts,
            call,
            stage: Stage::Naming,
            keys: Vec::new(),
            deeds,
            earlier: None,
            entering: None,
            calls: Calls::default(),
        }
    }

    /// Goes on with it until it ends or is put down.
    pub(super) async fn carry(mut self, guest: &Guest) -> CallEnd {
        let end = self.comes_to_its_end(guest).await;
        self.close(end)
    }

    fn owner(&self) -> Owner {
        Owner { run: self.scope.run, execution: self.call.key.clone(), attempt: self.call.attempt }
    }

    /// Through its stages: names, keys, room, and its guest.
    async fn comes_to_its_end(&mut self, guest: &Guest) -> CallEnd {
        let arguments = match names::resolve(&self.scope, &self.call.arguments).await {
            Ok(resolved) => resolved,
            Err(Unresolved::Fault(fault) | Unresolved::Nobody(fault)) => {
                return CallEnd::Returned(Returned::Fault(fault));
            }
            Err(Unresolved::Stopped(stopped)) => return self.stopped(stopped),
        };
        self.stage.is_named();
        self.keys = keys_of(&self.scope.action, &self.facts, &self.call, &arguments);
        if !self.waits_for_keys().await {
            // What waits for a key has done nothing yet: an action with anything on record holds its keys.
            return if self.scope.wish() == Wish::PutDown { CallEnd::PutDown } else { self.nothing_done() };
        }
        self.stage.has_keys();
        let services = self.scope.services.clone();
        // The guest's first call finds that it is not wanted.
        self.entering = self.scope.unless_stopped(services.partition.waiting.has_room(&services.limits)).await;
        self.acts(guest, &arguments).await
    }

    /// What becomes of what it holds. An attempt that is put down keeps it, and comes back.
    fn close(mut self, end: CallEnd) -> CallEnd {
        self.entering = None;
        let end = match end {
            CallEnd::Returned(returned) => CallEnd::Returned(self.deeds.accounted(returned)),
            end => end,
        };
        let Scope { services, run, execution, attempt, .. } = &self.scope;
        if !matches!(end, CallEnd::PutDown | CallEnd::Failed(_)) {
            services.partition.said.forget(*run, execution, *attempt);
        }
        end
    }

    /// Waits until all keys are the action's; false when it is to stop before that. If it is put down, it keeps its place
    /// and what it has of them: they are taken in one order, so that this holds up nobody for ever.
    async fn waits_for_keys(&self) -> bool {
        if self.keys.is_empty() {
            return true;
        }
        let (services, owner) = (&self.scope.services, self.owner());
        let place = Place::Action(self.call.key.clone(), self.call.attempt);
        let turn = match services.partition.waiting.claim(self.scope.run, &place) {
            Some(held) => held.turn(),
            None => self.queues_for_keys(owner),
        };
        let wanted = (Wanted::Turn, Progress::default());
        let wait = Wait::new(&self.scope.activity, &self.scope.wish, place, wanted, turn);
        self.scope.unless_stopped(wait).await.is_some()
    }

    fn queues_for_keys(&self, owner: Owner) -> Turn {
        let held = self.scope.services.partition.keys.clone();
        for (key, other) in self.keys.iter().filter_map(|key| Some((key, held.held_by_another(key.id, &owner)?))) {
            // One that is parked and whose task nobody waits for any more lets go when the person has decided.
            let who = if other == self.scope.run {
                "another action of this run holds".to_owned()
            } else {
                format!("the run {other} is changing")
            };
            self.scope.port.note(format!("waits for `{}`, which {who}", key.name));
        }
        let keys: Vec<KeyId> = self.keys.iter().map(|key| key.id).collect();
        Box::pin(async move {
            for key in keys {
                held.acquire(key, &owner).await;
            }
        })
    }

    /// It has come to a call that is not on record: from here on it waits, which is counted by itself, or sends.
    pub(super) fn leaves_record(&mut self) {
        self.stage.leaves_record();
        self.entering = None;
    }

    /// Has the guest called, slice after slice, until the action ends or is left.
    async fn acts(&mut self, guest: &Guest, arguments: &Value) -> CallEnd {
        let (mut slice, mut idle) = match self.scope.last_slice().await {
            Ok(found) => found,
            Err(error) => return CallEnd::Failed(error),
        };
        let mut tries = 0;
        loop {
            tries += 1;
            // A guest that begins when it is to stop already replays: it stops at the first call that is not on record.
            let stopping = self.scope.wish() != Wish::Run;
            let number = slice.as_ref().map_or(0, |slice| slice.number);
            let plugin = self.scope.plugin.clone();
            let running = Box::pin(self.runs_slice(guest, arguments, slice.as_ref(), stopping));
            let left = traces::within(running, |left| told(&plugin, number, left)).await;
            let (wish, drains) = (self.scope.wish(), self.scope.drains());
            let met = Met { tries, stopping, wish, drains, wrote: self.deeds.has_written() };
            let answered = match met.then(left, &self.call.key.pointer) {
                Then::Read(answered) => answered,
                Then::Again => continue,
                Then::FromRecord => {
                    tries = 0;
                    continue;
                }
                Then::CutShort => return self.cut_short(),
                Then::End(end) => return end,
            };
            let state = match self.interpret(answered) {
                Interpreted::End(end) => return self.accounts_for_earlier(end).await,
                Interpreted::Again(_) if stopping => return self.cut_short(),
                Interpreted::Again(state) => state,
            };
            let number = slice.as_ref().map_or(0, |s| s.number + 1);
            let next = Slice { number, state, first_call: self.calls.next() };
            idle = if next.goes_on_from(slice.as_ref()) { 0 } else { idle + 1 };
            if idle >= self.scope.guests.idle_slices_max {
                let action = &self.call.action;
                return CallEnd::fault(
                    "plugin-no-progress",
                    format!(
                        "`{action}` asked to be called again {idle} times without a call or with the state that it had"
                    ),
                );
            }
            if let Err(error) = self.scope.keep_slice(&next, &self.facts).await {
                return CallEnd::Failed(error);
            }
            slice = Some(next);
            tries = 0;
        }
    }

    /// Runs the guest from the beginning of a slice, and answers its calls, until it ends or is left where it is.
    async fn runs_slice(&mut self, guest: &Guest, arguments: &Value, slice: Option<&Slice>, stopping: bool) -> Left {
        let first = slice.map_or(0, |s| s.first_call);
        match self.scope.is_on_record(first).await {
            Ok(is_on_record) => self.stage.begins(is_on_record),
            Err(stopped) => return Left::Stopped(stopped),
        }
        self.calls = Calls::from(first, self.scope.monotonic());
        let mut request = json!({ "input": arguments, "context": self.context() });
        if let Some(Slice { state, .. }) = slice {
            request["state"] = state.clone();
        }
        let (action, request) = (self.scope.action.clone(), request.to_string());
        let call = sandbox::Call {
            action: &action.manifest.name,
            input: &request,
            budget: self.scope.guests.budget(&self.scope.services.limits),
            context: sandbox::Context {
                started_at_ms: self.call.started_at.as_millis(),
                seed: seed_of(self.scope.run, &self.call),
            },
            memory: self.scope.activity.guests_bytes.clone(),
        };
        let (line, mut calls) = Line::of(&self.scope, first, self.stage == Stage::Replaying);
        let mut running = pin!(guest.run(call, line));
        loop {
            let unwanted = self.is_unwanted();
            let asked = tokio::select! {
                biased;
                answered = &mut running => return Left::Ran(answered),
                Some(asked) = calls.recv() => asked,
                () = unwanted, if !stopping => return Left::Dropped,
            };
            let answered = self.answer(&asked.function, &asked.arguments).await;
            match answered {
                // What was sent has come to its end. Whoever has something else to say to the run comes first.
                Ok(_) if !stopping && self.is_unwanted().now_or_never().is_some() => return Left::Dropped,
                Ok(result) => {
                    let replayed = self.stage == Stage::Replaying;
                    // The guest is there: it is dropped only here.
                    let _gone = asked.answer.send(Answered { result, replayed });
                }
                Err(stopped) => return Left::Stopped(stopped),
            }
        }
    }

    /// Ready when nobody wants the guest any more, and it may be dropped where it is. One that replays and is to stop goes on:
    /// what it did in an earlier life is not known yet, and a request may have been on its way when that ended. It stops at
    /// the first call that is not on record.
    fn is_unwanted(&self) -> impl Future<Output = ()> + Send + use<E> {
        let (mut wish, replays) = (self.scope.wish.clone(), self.stage == Stage::Replaying);
        async move {
            // The driver holds the other end for as long as the call is under way.
            let stop = wish.wait_for(|w| *w != Wish::Run).await.is_ok_and(|w| *w == Wish::Stop);
            if stop && replays {
                std::future::pending::<()>().await;
            }
        }
    }

    /// An action's own account is of this attempt; what earlier ones did that it did not come to is said beside it.
    async fn accounts_for_earlier(&mut self, end: CallEnd) -> CallEnd {
        match self.leaves_earlier().await {
            Ok(true) => self.deeds.note_left(),
            Ok(false) => {}
            Err(stopped) => return self.stopped(stopped),
        }
        end
    }

    /// What it needed beside its guest could not be had.
    fn stopped(&self, stopped: Stopped) -> CallEnd {
        match stopped {
            Stopped::Park(parking) => CallEnd::Park(parking),
            Stopped::PutDown if self.scope.wish() == Wish::Stop => self.nothing_done(),
            Stopped::PutDown | Stopped::Unread => CallEnd::PutDown,
            Stopped::Failed(error) => CallEnd::Failed(error),
        }
    }

    /// What the guest is told besides its input. The same in every attempt and slice, but for the attempt's number: a
    /// retry must make the same requests.
    fn context(&self) -> Value {
        let Scope { services, connection, run, guests, .. } = &self.scope;
        let (facts, budget) = (&connection.facts, guests.budget(&services.limits));
        json!({
            "run": run.to_string(),
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
                "answersBytes": guests.answers_bytes_max,
                "answerBytes": guests.answer_bytes_max,
                "argumentsBytes": budget.arguments_bytes_max,
                "outputBytes": budget.output_bytes_max,
                "memoryBytes": budget.memory_bytes_max,
                "computeMs": budget.cpu_ms_max,
                "idleSlices": guests.idle_slices_max,
            },
        })
    }

    /// The end of a call that was stopped before it did anything in this life.
    fn nothing_done(&self) -> CallEnd {
        if self.deeds.has_any() {
            return self.cut_short();
        }
        CallEnd::Returned(Returned::Ok { output: Value::Null, effect: Effect::default() })
    }

    /// Nobody waits for it: what it changed goes into the ledger, its answer nowhere.
    fn cut_short(&self) -> CallEnd {
        CallEnd::Returned(Returned::Ok { output: Value::Null, effect: self.deeds.cut_short() })
    }

    fn interpret(&self, answered: Result<String, String>) -> Interpreted {
        let (action, told) = (&self.scope.action, &self.calls.told);
        let status_of = |code: &str| answer::status_of(code, &action.manifest.errors, told);
        let invalid = |detail: String| {
            Interpreted::End(CallEnd::Returned(Returned::Fault(Fault::of_code("plugin-output-invalid", detail))))
        };
        let bytes_max = self.scope.services.limits.value_bytes_max;
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
            Meaning::Park(fault) => Interpreted::End(CallEnd::park(&self.call, Why::Asked, fault)),
            Meaning::Broken(detail) => invalid(detail),
            Meaning::Again(state) => Interpreted::Again(state),
        }
    }
}

/// What the span of a guest says.
fn told(plugin: &str, slice: u32, left: &Left) -> Told {
    let (outcome, code) = match left {
        Left::Ran(Ok(_)) => ("answered", None),
        Left::Stopped(_) | Left::Dropped | Left::Ran(Err(sandbox::Trap::Halted(_))) => ("dropped", None),
        Left::Ran(Err(_)) => ("trapped", Some("plugin-trapped".to_owned())),
    };
    Told::of(Kind::Internal, format!("guest {plugin}"))
        .with("bellhop.plugin", plugin)
        .number("bellhop.slice", slice)
        .with("bellhop.outcome", outcome)
        .failed(code)
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
