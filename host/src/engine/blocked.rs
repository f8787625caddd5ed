//! Runs that were accepted though preflight refuses them: each begins by itself when what is missing is there
//! (semantics 3, "Refused without a caller").

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bellhop_core::diagnostic::Diagnostic;
use bellhop_core::id::RunId;
use bellhop_core::preflight::{Plan, When};
use bellhop_core::requirement::Connection;
use bellhop_core::run::{Cause, State, Status};
use serde_json::Value;

use super::Engine;
use super::accept::{PinnedAction, Pins, Refused, Trigger};
use super::call::Granted;
use super::definitions::Definition;
use super::execution::{Decision, Execution as _};
use super::runs::{LoadError, Loaded};
use crate::faults::{Point, pass};
use crate::journal::{Entry, Write};

/// The runs that wait for a remedy.
#[derive(Default)]
pub(crate) struct Blocked {
    runs: Mutex<BTreeSet<RunId>>,
    bell: tokio::sync::Notify,
}

impl Blocked {
    /// One more.
    pub(super) fn add(&self, run: RunId) {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).insert(run);
        self.bell.notify_one();
    }

    fn remove(&self, run: RunId) {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
    }

    fn all(&self) -> Vec<RunId> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

/// What a plan pins.
#[derive(Default)]
pub(super) struct Pinned {
    /// By alias.
    pub(super) connections: BTreeMap<String, Connection>,
    /// The aliases chosen for calls.
    pub(super) chosen: BTreeMap<String, String>,
    pub(super) actions: Vec<PinnedAction>,
    /// What the actions' plugins were granted.
    pub(super) granted: Granted,
}

impl Engine {
    /// Something was changed that blocked runs may have waited for: they are looked at now.
    pub(crate) fn remedied(&self) {
        self.blocked.bell.notify_one();
    }

    /// What is pinned of a plan.
    pub(super) fn pinned(&self, plan: &Plan) -> Result<Pinned, Refused> {
        let connection = |(alias, name): (&String, &String)| {
            Some((alias.clone(), self.services.gateway.connection(name)?.facts.clone()))
        };
        let connections = plan.connections().iter().filter_map(connection).collect();
        let mut actions = Vec::new();
        let mut granted = Granted::new();
        for (written, resolved) in plan.actions() {
            let Some((installed, action)) = self.services.plugins.action(resolved) else {
                return Err(Refused::Unavailable(format!("the action {resolved} was removed in this moment")));
            };
            let (written, resolved) = (written.clone(), resolved.clone());
            granted.insert(written.clone(), installed.grants.clone());
            actions.push(PinnedAction { written, resolved, plugin: action.plugin, grants: installed.granted });
        }
        Ok(Pinned { connections, chosen: plan.chosen().clone(), actions, granted })
    }

    /// What a blocked run pins: only whom to tell, as far as that can be said without a plan.
    pub(super) fn pinned_while_blocked(
        &self,
        definition: &Definition,
        asked: &BTreeMap<String, String>,
    ) -> Result<Pinned, Refused> {
        let mut connections = BTreeMap::new();
        if let Some(notify) = &definition.workflow.extras.notify {
            let alias = &notify.connection;
            let bindings = self.services.definitions.bindings(&definition.workflow.document.name)?;
            let name = asked.get(alias).or_else(|| bindings.get(alias)).unwrap_or(alias);
            if let Some(connection) = self.services.gateway.connection(name) {
                connections.insert(alias.clone(), connection.facts.clone());
            }
        }
        Ok(Pinned { connections, ..Pinned::default() })
    }

    /// The first decision of a blocked run, applied to `state`.
    pub(super) fn block(
        &self,
        state: &mut State,
        diagnostics: &[Diagnostic],
        write: &mut Write,
    ) -> Result<Entry, Refused> {
        let diagnostics = Arc::new(serde_json::to_value(diagnostics).unwrap_or(Value::Null));
        let cause = Cause::Block { diagnostics };
        let Some(decided) = self.services.deciding.at_once(state, self.services.clock.now(), cause) else {
            return Ok(Entry::Decision { events: Vec::new() });
        };
        let mut kept = Vec::with_capacity(decided.events.len());
        for event in &decided.events {
            let event = serde_json::to_value(event).unwrap_or(Value::Null);
            kept.push(self.services.journal.content(write, event)?);
        }
        *state = decided.after;
        Ok(Entry::Decision { events: kept })
    }

    /// Looks after blocked runs until the process stops.
    pub(super) async fn look_for_remedies(self: Arc<Self>) {
        let mut drain = self.services.drain.subscribe();
        loop {
            for run in self.blocked.all() {
                match self.try_to_begin(run).await {
                    Ok(true) => self.blocked.remove(run),
                    Ok(false) => {}
                    Err(error) => tracing::error!(%run, %error, "a blocked run cannot be looked at"),
                }
            }
            let time = async {
                if self.blocked.all().is_empty() {
                    std::future::pending::<()>().await;
                }
                // A remedy that nobody tells of, as a scope that was granted in Slack, is seen no later than this.
                self.services.clock.sleep(Duration::from_millis(self.services.limits.blocked_again_ms)).await;
            };
            tokio::select! {
                biased;
                () = time => {}
                () = self.blocked.bell.notified() => {}
                _ = drain.wait_for(|drain| *drain) => return,
            }
        }
    }

    /// Has a blocked run begin if preflight lets it; true when there is nothing left to look after.
    async fn try_to_begin(self: &Arc<Self>, run: RunId) -> Result<bool, LoadError> {
        if let Some(by) = self.superseded_by(run)? {
            // It was told when that one was accepted, unless the process ended before.
            return self.signal(run, Cause::Displaced { by, rollback: false }).await;
        }
        // Nobody else takes the run up meanwhile.
        let _turn = self.loading.lock(run.to_string()).await;
        if self.runs.is_live(run) {
            return Ok(false);
        }
        let Some(summary) = self.summary(run)? else { return Ok(true) };
        if summary.status != Status::Blocked {
            return Ok(summary.status.is_final() || summary.status != Status::Suspended);
        }
        let (pins, definition) = self.pins_of(run)?;
        let input = self.services.journal.value(pins.input.clone())?;
        let trigger = Trigger {
            workflow: pins.workflow.clone(),
            version: Some(pins.version.clone()),
            body: bellhop_core::digest::Digest::of_json(&input),
            input: input.clone(),
            connections: pins.asked.clone(),
            labels: BTreeMap::new(),
            idempotency_key: None,
            by: None,
            inline: Some(definition.clone()),
        };
        let refused = |refused: Refused| LoadError::Damaged(refused.to_string());
        let (report, tables) = self.judge(&definition, &trigger, When::Trigger).map_err(refused)?;
        let Some(plan) = report.plan else { return Ok(false) };
        let Pinned { connections, chosen, actions, granted } = self.pinned(&plan).map_err(refused)?;
        let table_digests = tables.iter().map(|(name, (digest, _))| (name.clone(), *digest)).collect();
        let new = Pins { connections, chosen, actions, tables: table_digests, blocked: false, ..pins };
        let tables = tables.into_iter().map(|(name, (_, table))| (name, table)).collect();
        let facts = self.facts(&new, &definition, input, &tables)?;

        let (opening, live) = self.opening(run, summary);
        let Loaded { port, state, decisions, .. } = self.load(run, opening).await?;
        port.pins_next(&new.version);
        let pins = Arc::new(serde_json::to_value(&new).unwrap_or(Value::Null));
        let cause = Cause::Unblock { pins };
        let Some(decided) = self.services.deciding.decide(&state, port.now(), port.entropy(), cause).await else {
            return Ok(true);
        };
        pass(Point::Unblocked);
        let state = decided.after;
        port.keep(decisions, Decision { events: decided.events, after: Some(Arc::new(state.clone())) }).await?;
        let state = state.with_facts(facts);
        self.take(run, live, Loaded { port, state, decisions: decisions + 1, granted });
        Ok(true)
    }
}
