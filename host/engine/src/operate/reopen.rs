//! A run goes on from its failed or parked task on another version of its workflow: if that would have decided all that
//! was decided (semantics 1, "Retry").

use std::collections::BTreeMap;
use std::sync::Arc;

use bellhop_core::diagnostic::{Code, Diagnostic, Has, Needs, Retryable};
use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;
use bellhop_core::preflight::When;
use bellhop_core::run::{Cause, Difference, Event, Replay, State, Status};
use serde_json::Value;

use crate::Engine;
use crate::accept::blocked::Pinned;
use crate::accept::lacking::leads_elsewhere;
use crate::accept::trigger::{Refused, Tables, Trigger};
use crate::drive::runs::{LoadError, Loaded};
use crate::execution::{Alongside, Decision, Execution as _};
use crate::pins::{Pins, tenants};
use crate::setup::definitions::Definition;
use bellhop_journal::{self as journal, Entry};

/// Why a run did not go on on another version. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RedefineError {
    /// There is no such run, or it cannot be taken up.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// There is no such version, or what it needs is not there.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It has nothing to go on from.
    #[error("{0}")]
    NothingToRetry(&'static str),
    /// The version would have decided something otherwise.
    #[error("the version would not have come to where the run stands")]
    Differs(Box<Diagnostic>),
}

impl From<journal::Error> for RedefineError {
    fn from(error: journal::Error) -> Self {
        Self::Load(error.into())
    }
}

/// A version under which what is recorded would not have happened.
const DEFINITION_DIFFERS: Code = Code("definition-differs");
/// Entries of the log read at once.
const PAGE: usize = 1_000;

impl Engine {
    /// Has a faulted or parked run go on from the task that failed, on `version` of its workflow. After Ok that is what
    /// the run pins, durably; false: that is what it pinned already, and nothing was done.
    pub async fn redefine(self: &Arc<Self>, run: RunId, version: &str) -> Result<bool, RedefineError> {
        // Nobody else takes the run up meanwhile.
        let _turn = self.loading().lock(run.to_string()).await;
        if self.runs().is_live(run) {
            return Err(RedefineError::NothingToRetry("something of the run is still under way"));
        }
        let summary = self.summary(run).await?.ok_or(LoadError::Unknown(run))?;
        if !matches!(summary.status, Status::Faulted | Status::Parked) {
            return Err(RedefineError::NothingToRetry("the run is neither faulted nor parked"));
        }
        let (pins, before) = self.pins_of(run).await?;
        let found = self.services.definitions.find(&pins.workflow, Some(version)).await?;
        let after = found.ok_or_else(|| Refused::Unknown(format!("{} in version {version}", pins.workflow)))?;
        if after.digest == before.digest {
            return Ok(false);
        }
        let (opening, live) = self.opening(run, summary);
        let Loaded { port, state, decisions, trace, .. } = Box::pin(self.load(run, opening)).await?;
        if !state.can_redefine() {
            return Err(RedefineError::NothingToRetry(
                "the run has no failed task to go on from: it ends, is being taken back, or a call of it is in doubt",
            ));
        }
        let input = Arc::new(self.services.journal.read::<Value>(&pins.input).await?);
        self.check_input(&after, &input)?;
        let (new, tables) = self.pinned_anew(&pins, &after, &input).await?;
        let facts = self.facts(&new, &after, input, &tables)?;
        let granted = self.granted(&new).await?;

        let mut replay = Replay::new(facts, before.workflow.clone()).map_err(|d| differs(&pins, &after, &d))?;
        let mut seq = 0;
        loop {
            let page = self.services.journal.entries(run, seq, PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            seq = last + 1;
            for (_, entry) in page {
                let Entry::Decision { events } = entry else { continue };
                for event in self.services.journal.events::<Event>(&events).await? {
                    replay.read(&event).map_err(|d| differs(&pins, &after, &d))?;
                }
            }
        }
        let mut state: State = replay.finish(&state).map_err(|d| differs(&pins, &after, &d))?;

        let was_ended = state.ended().is_some();
        let decided = self.services.deciding.decide(&state, port.now(), port.entropy(), Cause::Redefine).await;
        port.pins_next(&new).map_err(LoadError::from)?;
        let mut decisions = decisions;
        if let Some(decided) = decided {
            state = decided.after;
            // Nothing of it is under way: what its parked actions hold is asked for anew, as the other version wants it.
            let keys = self.services.partition.keys.held_by(run);
            let alongside = Alongside { mail: None, keys: keys.clone() };
            let decision = Decision { events: decided.events, after: Arc::new(state.clone()), alongside };
            port.keep(decisions, decision).await.map_err(LoadError::from)?;
            self.services.partition.keys.changed(&keys);
            decisions += 1;
        }
        if was_ended {
            self.runs().places.found(1);
        }
        tracing::info!(%run, version, "the run goes on with another version");
        let tip = self.services.journal.tip();
        self.take(run, live, Loaded { port, state, decisions, granted, guests: new.guests, trace });
        self.services.journal.durable(tip).await.map_err(journal::Error::from)?;
        Ok(true)
    }

    /// What the run pins on another definition. What is pinned already stays as it is; what is new is as it is now.
    async fn pinned_anew(
        &self,
        pins: &Pins,
        after: &Arc<Definition>,
        input: &Arc<Value>,
    ) -> Result<(Pins, BTreeMap<String, bellhop_core::preflight::Table>), RedefineError> {
        let definitions = &self.services.definitions;
        let mut tables = Tables::new();
        for name in &after.workflow.extras.tables {
            let pinned = match pins.tables.get(name) {
                Some(digest) => definitions.table_by_digest(*digest).await?.map(|table| (*digest, table)),
                None => definitions.table(name).await?.map(|(current, table)| (current.digest, table)),
            };
            tables.extend(pinned.map(|pinned| (name.clone(), pinned)));
        }
        let mut bindings = definitions.bindings(&pins.workflow).await?;
        for (alias, connection) in &pins.connections {
            if self.services.gateway.connection(&connection.name).is_some() {
                bindings.insert(alias.clone(), connection.name.clone());
            }
        }
        let trigger = Trigger {
            workflow: pins.workflow.clone(),
            version: Some(after.workflow.document.version.clone()),
            body: Digest::of_json(input),
            input: input.clone(),
            connections: BTreeMap::new(),
            labels: BTreeMap::new(),
            idempotency_key: None,
            inline: Some(after.clone()),
            by: None,
            traceparent: None,
        };
        let report = self.judge_with(after, &trigger, When::Trigger, &tables, &bindings);
        let Some(plan) = report.plan else { return Err(Refused::Preflight(report.diagnostics).into()) };
        let Pinned { connections, chosen, mut actions, .. } = self.pinned(&plan)?;
        // What the run has done and what it does from now on is done in one place.
        let mut led = pins.led();
        let differing = connections.values().filter_map(|one| one.leads_to(led.get(&one.name)).err());
        let differing: Vec<Diagnostic> = differing.map(|elsewhere| leads_elsewhere(&elsewhere)).collect();
        if !differing.is_empty() {
            return Err(Refused::Preflight(differing).into());
        }
        for (name, tenant) in tenants(connections.values()) {
            led.entry(name).or_insert(tenant);
        }
        // What was done may have to be taken back by what only the definition before names.
        for action in &pins.actions {
            if !actions.iter().any(|a| a.written == action.written) {
                actions.push(action.clone());
            }
        }
        let new = Pins {
            version: after.workflow.document.version.clone(),
            definition: after.digest,
            file: after.source.file.clone(),
            connections,
            tenants: led,
            chosen,
            actions,
            tables: tables.iter().map(|(name, (digest, _))| (name.clone(), *digest)).collect(),
            ..pins.clone()
        };
        Ok((new, tables.into_iter().map(|(name, (_, table))| (name, table)).collect()))
    }
}

/// Names the first thing that differs, where the version has it.
fn differs(pins: &Pins, after: &Definition, difference: &Difference) -> RedefineError {
    let (was, is) = (&pins.version, &after.workflow.document.version);
    let Difference { pointer, what } = difference;
    let message = format!("`{pointer}` {what}");
    let task = after.workflow.tasks.iter().any(|task| task.pointer == *pointer);
    RedefineError::Differs(Box::new(Diagnostic {
        place: after.source.nearest_place(pointer),
        task: (task || pointer.starts_with("/do/")).then(|| pointer.clone()),
        pointer: Some(pointer.clone()),
        needs: Some(Needs { text: Some(format!("what stands there in version {was}")), ..Needs::default() }),
        has: Some(Has { text: Some(format!("version {is}")), ..Has::default() }),
        retryable: Retryable::No,
        who: Some("whoever writes the workflow".to_owned()),
        ..Diagnostic::error(DEFINITION_DIFFERS, message)
            .with_help("change only the task that failed, and what comes after it; or start another run")
    }))
}
