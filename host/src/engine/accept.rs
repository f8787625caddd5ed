//! From a trigger to an accepted run: once per key, checked, judged, pinned, durable.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use bellhop_core::definition::{ACTION_NAMESPACE, ActionReference, WorkflowName};
use bellhop_core::diagnostic::{Code, Diagnostic, Needs};
use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;
use bellhop_core::mask::Mask;
use bellhop_core::preflight::{self, Question, Report, Table, When};
use bellhop_core::requirement::{Connection, Tenant};
use bellhop_core::run::{self, Cause, Event, Facts, OwnKey, State, Status};
use bellhop_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::blocked::Pinned;
use super::definitions::{Definition, Definitions};
use super::execution::Signal;
use super::runs::Begun;
use super::summary::{self, Bound};
use super::{Engine, lacking};
use crate::faults::{Plant, Point, pass, planted};
use crate::journal::{self, Content, Entry, Journal, Open, Summary, Write, key};

/// Tables by name, as they are now.
pub(super) type Tables = BTreeMap<String, (Digest, Table)>;

/// What a trigger asks for.
#[derive(Clone)]
pub(crate) struct Trigger {
    /// Which workflow.
    pub(crate) workflow: WorkflowName,
    /// Which version; the latest unless said.
    pub(crate) version: Option<String>,
    /// The input.
    pub(crate) input: Value,
    /// Connections by alias.
    pub(crate) connections: BTreeMap<String, String>,
    /// For lists.
    pub(crate) labels: BTreeMap<String, String>,
    /// Starts at most one run.
    pub(crate) idempotency_key: Option<String>,
    /// Of the body, which an equal key must repeat.
    pub(crate) body: Digest,
    /// Who asks, in a name for people.
    pub(crate) by: Option<String>,
    /// A definition that was not registered, instead of a registered one: a single action.
    pub(crate) inline: Option<Arc<Definition>>,
}

/// A definition that calls one action with the run's input on one connection.
pub(crate) fn of_action(
    reference: &ActionReference,
    input: &Value,
    connection: Option<&str>,
) -> Result<Trigger, Refused> {
    let mut with: serde_json::Map<String, Value> = input
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| {
            // By value, so that nothing in the input is taken for an expression.
            let key = serde_json::to_string(name).unwrap_or_default();
            (name.clone(), Value::from(format!("${{ .[{key}] }}")))
        })
        .collect();
    if let Some(connection) = connection {
        with.insert("connection".to_owned(), Value::from(connection));
    }
    let name: String =
        reference.action.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(63).collect();
    let workflow = WorkflowName { namespace: ACTION_NAMESPACE.to_owned(), name };
    let text = serde_json::json!({
        "document": { "dsl": "1.0.3", "namespace": workflow.namespace, "name": workflow.name, "version": "1.0.0" },
        "do": [{ "call": { "call": reference.to_string(), "with": with } }],
    })
    .to_string();
    let (definition, _, diagnostics) = super::definitions::read("action", &text);
    let definition = definition.ok_or(Refused::Input(diagnostics))?;
    Ok(Trigger {
        workflow,
        version: None,
        input: input.clone(),
        connections: BTreeMap::new(),
        labels: BTreeMap::new(),
        idempotency_key: None,
        by: None,
        body: Digest::of_json(input),
        inline: Some(Arc::new(definition)),
    })
}

/// A run that was accepted. It is durable.
#[derive(Debug, Clone)]
pub(crate) struct Accepted {
    /// Which.
    pub(crate) run: RunId,
    /// Whether an earlier trigger with the same key had started it.
    pub(crate) replayed: bool,
    /// What preflight warns of, for whoever starts it now.
    pub(crate) warnings: Vec<Diagnostic>,
}

/// Why a trigger was refused; nothing was kept or done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// There is no such workflow or version.
    #[error("there is no workflow `{0}`")]
    Unknown(String),
    /// The key is bound to another body.
    #[error("the idempotency key was used with another body, for the run {0}")]
    KeyReused(RunId),
    /// The input does not fit, or is too large.
    #[error("the input is refused")]
    Input(Vec<Diagnostic>),
    /// Preflight says no.
    #[error("preflight refused the run")]
    Preflight(Vec<Diagnostic>),
    /// There are as many open runs as there may be.
    #[error("{max} runs are open, and no more may be")]
    TooMany {
        /// The limit.
        max: u64,
    },
    /// The run's group is full, and the file says that one more is refused.
    #[error("the group `{0}` has as many runs as it can have")]
    GroupFull(String),
    /// The process is stopping, or something was removed in this moment.
    #[error("{0}")]
    Unavailable(String),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] journal::Error),
}

/// An action as pinned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PinnedAction {
    pub(super) written: ActionReference,
    pub(super) resolved: ActionReference,
    pub(super) plugin: Digest,
    pub(super) grants: Digest,
}

/// What `Accepted` holds: everything that the run depends on, by digest where it is large.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pins {
    pub(super) run: RunId,
    pub(super) workflow: WorkflowName,
    pub(super) version: String,
    pub(super) definition: Digest,
    pub(super) file: String,
    pub(super) input: Content,
    pub(super) connections: BTreeMap<String, Connection>,
    /// Where connections led, by name: those of `connections`, and those of before the run went on on another definition.
    /// Of a run that cannot begin, all that there were.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) tenants: BTreeMap<String, Tenant>,
    pub(super) chosen: BTreeMap<String, String>,
    pub(super) actions: Vec<PinnedAction>,
    pub(super) tables: BTreeMap<String, Digest>,
    pub(super) host: String,
    pub(super) evaluator: Digest,
    pub(super) accepted_at: Timestamp,
    /// Preflight refused the run: what else is pinned stands in the decision that lets it begin.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) blocked: bool,
    /// The trigger's labels and idempotency key, from which lists can be made again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) idempotency_key: Option<String>,
    /// The trigger's connections, while the run is blocked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) asked: BTreeMap<String, String>,
    /// Who asked for the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) by: Option<String>,
}

impl Pins {
    /// Where each connection led that the run may use, by name. Records of before that was kept have it in `connections`.
    pub(super) fn led(&self) -> BTreeMap<String, Tenant> {
        let mut led = self.tenants.clone();
        for (name, tenant) in tenants(self.connections.values()) {
            led.entry(name).or_insert(tenant);
        }
        led
    }
}

/// Where connections lead, by name, as far as that is known.
pub(super) fn tenants<'c>(connections: impl Iterator<Item = &'c Connection>) -> BTreeMap<String, Tenant> {
    connections.filter_map(|connection| Some((connection.name.clone(), connection.tenant()?))).collect()
}

/// What a key says of a trigger.
enum Once {
    /// It is the first with this key, or the first in this revision: the run of the one before makes room.
    First { superseded: Option<RunId> },
    /// The run was started before.
    Again(Accepted),
}

/// The codes of refused inputs.
pub(crate) mod code {
    use super::Code;
    /// The input does not fit the workflow's schema.
    pub(crate) const INPUT_INVALID: Code = Code("input-invalid");
    /// A connection that the host was told of at its start could not be made.
    pub(crate) const CONNECTION_BROKEN: Code = Code("connection-broken");
    /// The input is too large.
    pub(crate) const INPUT_TOO_LARGE: Code = Code("input-too-large");
    /// What is needed may be there, and its record cannot be read.
    pub(crate) const STORAGE_DAMAGED: Code = Code("storage-damaged");
}

impl Engine {
    /// Accepts a run, or gives the one that the key started. After Ok it is durable and on its way.
    pub(crate) async fn trigger(self: &Arc<Self>, trigger: Trigger) -> Result<Accepted, Refused> {
        self.trigger_or(trigger, false).await
    }

    /// As [`Self::trigger`]; with `block` a run that preflight refuses is accepted all the same, and begins when what
    /// is missing is there.
    pub(crate) async fn trigger_or(self: &Arc<Self>, trigger: Trigger, block: bool) -> Result<Accepted, Refused> {
        if self.is_draining() {
            return Err(Refused::Unavailable("the host is stopping".to_owned()));
        }
        let _turn = match &trigger.idempotency_key {
            None => None,
            Some(idempotency) => {
                let turn = self.triggers.lock(format!("{}\n{idempotency}", trigger.workflow)).await;
                if let Once::Again(accepted) = self.once(&trigger.workflow, idempotency, trigger.body, None).await? {
                    return Ok(accepted);
                }
                Some(turn)
            }
        };
        let definition = match &trigger.inline {
            Some(definition) => definition.clone(),
            None => {
                let found = self.services.definitions.find(&trigger.workflow, trigger.version.as_deref())?;
                found.ok_or_else(|| {
                    let version = trigger.version.as_ref().map(|v| format!(" in version {v}")).unwrap_or_default();
                    Refused::Unknown(format!("{}{version}", trigger.workflow))
                })?
            }
        };
        self.check_input(&definition, &trigger.input)?;
        let own = self.own_key(&definition, &trigger.input)?;
        let (_own_turn, superseded) = match &own {
            None => (None, None),
            Some(OwnKey { key, revision }) => {
                let name = summary::own_name(key);
                let turn = self.triggers.lock(format!("{}\n{name}", trigger.workflow)).await;
                let body = Digest::of_json(&trigger.input);
                match self.once(&trigger.workflow, &name, body, *revision).await? {
                    Once::Again(accepted) => return Ok(accepted),
                    Once::First { superseded } => (Some(turn), superseded),
                }
            }
        };
        // A run that was started before is given also when no more may be open.
        let max = self.services.limits.open_runs_max;
        let place = self.runs.places.open_one(max).ok_or(Refused::TooMany { max })?;
        let (report, tables) = self.judge(&definition, &trigger, When::Trigger)?;
        let blocked = report.plan.is_none();
        let mask = Mask::new(&definition.workflow.extras.sensitive, &trigger.input);
        let masked = |all: Vec<Diagnostic>| all.into_iter().map(|one| mask.diagnostic(one)).collect::<Vec<_>>();
        let Pinned { connections, chosen, actions, granted } = match &report.plan {
            Some(plan) => self.pinned(plan)?,
            None if block => self.pinned_while_blocked(&definition, &trigger.connections)?,
            None => return Err(Refused::Preflight(masked(report.diagnostics))),
        };

        let now = self.services.clock.now();
        let run = self.new_run(now, superseded);
        let mut write = Write::new();
        let journal = &self.services.journal;
        if trigger.inline.is_some() {
            // Nobody has put it: the run is what keeps it.
            write.blob(definition.source.text.as_bytes());
        }
        let table_digests = tables.iter().map(|(name, (digest, _))| (name.clone(), *digest)).collect();
        let tenants = if blocked {
            let present = self.services.gateway.connections();
            tenants(present.iter().map(|connected| &connected.facts))
        } else {
            tenants(connections.values())
        };
        let pins = Pins {
            run,
            workflow: definition.workflow.document.name.clone(),
            version: definition.workflow.document.version.clone(),
            definition: definition.digest,
            file: definition.source.file.clone(),
            input: journal.content(&mut write, &trigger.input)?,
            connections,
            tenants,
            chosen,
            actions,
            tables: table_digests,
            host: env!("CARGO_PKG_VERSION").to_owned(),
            evaluator: crate::sandbox::expression::Expressions::version(),
            accepted_at: now,
            blocked,
            labels: trigger.labels.clone(),
            idempotency_key: trigger.idempotency_key.clone(),
            asked: if blocked { trigger.connections.clone() } else { BTreeMap::new() },
            by: trigger.by.clone(),
        };
        let workflow = pins.workflow.clone();
        let mut summary = Summary {
            labels: trigger.labels.iter().map(|(name, value)| (name.clone(), mask.text(value))).collect(),
            idempotency_key: trigger.idempotency_key.clone(),
            own_key: own.as_ref().map(|own| own.key.clone()),
            ..Summary::new(Status::Running, workflow.namespace, workflow.name, pins.version.clone(), now)
        };
        write.put(&key::listing(now, run), &Value::Null)?;
        write.put(&key::open(run), &Open::default())?;
        if let Some(idempotency) = &trigger.idempotency_key
            && !planted(Plant::ForgetIdempotencyKey)
        {
            let bound = key::idempotency(&summary.namespace, &summary.name, idempotency);
            write.put(&bound, &Bound { body: trigger.body, run, revision: None })?;
        }
        if let Some(OwnKey { key, revision }) = own {
            let bound = key::idempotency(&summary.namespace, &summary.name, &summary::own_name(&key));
            write.put(&bound, &Bound { body: Digest::of_json(&trigger.input), run, revision })?;
        }
        let tables = tables.into_iter().map(|(name, (_, table))| (name, table)).collect();
        let facts = self.facts(&pins, &definition, trigger.input, &tables)?;
        let mut state = State::new(facts);
        let mut entries = Vec::new();
        if blocked {
            entries.push(self.block(&mut state, &report.diagnostics, &mut write)?);
            summary = summary::after(&summary, &state, now, |value| journal.content(&mut write, &value))?;
        } else {
            self.check_group(&state)?;
        }
        write.put(&key::summary(run), &summary)?;
        let accepted = Entry::Accepted { pins: Journal::json(&pins)? };
        let bytes = write.bytes() as u64;
        let mut seq = 0;
        entries.insert(0, accepted);
        // From here on the run is in lists. Whoever sends it a message waits until it is with its driver: two drivers would
        // write one log.
        let taking_up = self.loading.lock(run.to_string()).await;
        let ticket = journal.append(run, &mut seq, &entries, write)?;
        place.keep();
        if blocked {
            drop(taking_up);
            journal.durable(ticket).await.map_err(journal::Error::from)?;
            self.blocked.add(run);
            let signal = Signal { cause: Cause::Wake, acknowledge: None, settle: None };
            if let Err(error) = self.send(run, signal).await {
                tracing::error!(%run, %error, "of a blocked run nobody can be told");
            }
            self.supersede(superseded, run).await;
            // What keeps it is shown with it, for as long as it does.
            return Ok(Accepted { run, replayed: false, warnings: Vec::new() });
        }
        // The run may begin at once: whatever it lets out waits for its own records, and they come after this one.
        self.begin(run, Begun { state, granted, ticket, bytes, summary });
        drop(taking_up);
        if !planted(Plant::AnswerUnsynced) {
            journal.durable(ticket).await.map_err(journal::Error::from)?;
        }
        pass(Point::Unanswered);
        self.supersede(superseded, run).await;
        Ok(Accepted { run, replayed: false, warnings: masked(report.diagnostics) })
    }

    /// What a key that nobody else is looking at says of a trigger with this body, or in this revision.
    async fn once(
        &self,
        workflow: &WorkflowName,
        key: &str,
        body: Digest,
        revision: Option<u64>,
    ) -> Result<Once, Refused> {
        let journal = &self.services.journal;
        let bound = journal.get::<Bound>(&key::idempotency(&workflow.namespace, &workflow.name, key))?;
        let Some(bound) = bound else { return Ok(Once::First { superseded: None }) };
        match (revision, bound.revision) {
            // A definition that has come to name revisions begins with the first of them.
            (Some(_), None) => return Ok(Once::First { superseded: Some(bound.run) }),
            (Some(new), Some(old)) if new > old => return Ok(Once::First { superseded: Some(bound.run) }),
            (Some(_), Some(_)) => {}
            (None, _) if bound.body != body => return Err(Refused::KeyReused(bound.run)),
            (None, _) => {}
        }
        // What was read may not be on the disk yet, and this answer depends on it.
        journal.durable(journal.tip()).await.map_err(journal::Error::from)?;
        Ok(Once::Again(Accepted { run: bound.run, replayed: true, warnings: Vec::new() }))
    }

    fn own_key(&self, definition: &Definition, input: &Value) -> Result<Option<OwnKey>, Refused> {
        let own = run::own_key(&definition.workflow, input, self.services.evaluator.as_ref());
        own.map_err(|fault| {
            let mask = Mask::new(&definition.workflow.extras.sensitive, input);
            let said = mask.text(fault.detail.as_deref().unwrap_or_default());
            let mut diagnostic = Diagnostic::error(code::INPUT_INVALID, said);
            diagnostic.place = definition.source.place("/document/metadata/bellhop/idempotencyKey");
            Refused::Input(vec![diagnostic])
        })
    }

    /// An id, later than those of all runs that this process has accepted, and than that of the run whose place it takes:
    /// runs that make room for one another are told apart by their ids' order. Many are accepted within one millisecond, and
    /// a clock can be set back.
    fn new_run(&self, now: Timestamp, superseded: Option<RunId>) -> RunId {
        let entropy = &self.services.entropy;
        let fresh = RunId::new(now, entropy.next_wide());
        let run = {
            let mut last = self.last_run.lock().unwrap_or_else(PoisonError::into_inner);
            let run = last.filter(|last| fresh <= *last).map_or(fresh, |last| last.next(entropy.next()));
            *last = Some(run);
            run
        };
        // Of a time that the clock has yet to come to again, only those have to be that take its place.
        superseded.filter(|old| run <= *old).map_or(run, |old| old.next(entropy.next()))
    }

    /// Tells a run that a higher revision takes its place; what it did stays.
    async fn supersede(self: &Arc<Self>, old: Option<RunId>, by: RunId) {
        let Some(old) = old else { return };
        let signal = Signal { cause: Cause::Displaced { by, rollback: false }, acknowledge: None, settle: None };
        if let Err(error) = self.send(old, signal).await {
            tracing::error!(run = %old, %error, "a run cannot be told that a newer one takes its place");
        }
    }

    /// The run that a higher revision of the key of `run` has started.
    pub(super) fn superseded_by(&self, run: RunId) -> Result<Option<RunId>, journal::Error> {
        let Some(summary) = self.summary(run)? else { return Ok(None) };
        let Some(own) = summary.own_key.as_deref().filter(|_| !summary.status.is_final()) else { return Ok(None) };
        let bound = key::idempotency(&summary.namespace, &summary.name, &summary::own_name(own));
        let bound = self.services.journal.get::<Bound>(&bound)?;
        Ok(bound.map(|bound| bound.run).filter(|newer| *newer > run))
    }

    /// Refuses a run for which its group would have no place. Two at one moment may both get past this; then the group
    /// itself says no.
    fn check_group(&self, state: &State) -> Result<(), Refused> {
        if state.facts().workflow.extras.concurrency.is_none() {
            return Ok(());
        }
        let decided = self.services.deciding.at_once(state, self.services.clock.now(), Cause::Start);
        match decided.as_ref().and_then(|decided| decided.events.first()) {
            Some(Event::Queued { group, .. }) if self.services.groups.refuses(group) => {
                Err(Refused::GroupFull(state.facts().mask().text(&group.name)))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn check_input(&self, definition: &Definition, input: &Value) -> Result<(), Refused> {
        let bytes = input.to_string().len() as u64;
        if bytes > self.services.limits.input_bytes_max {
            let max = self.services.limits.input_bytes_max;
            let mut diagnostic = Diagnostic::error(
                code::INPUT_TOO_LARGE,
                format!("the input has {bytes} bytes, a run takes at most {max}"),
            );
            diagnostic.needs = Some(Needs { text: Some(format!("at most {max} bytes")), ..Needs::default() });
            return Err(Refused::Input(vec![diagnostic]));
        }
        let Some(schema) = definition.schemas.get("/input/schema/document") else { return Ok(()) };
        let violations = schema.validate(input);
        if violations.is_empty() {
            return Ok(());
        }
        let diagnostics = violations
            .into_iter()
            .map(|violation| {
                let place = if violation.pointer.is_empty() { "/" } else { violation.pointer.as_str() };
                let mut diagnostic = Diagnostic::error(
                    violation.code(code::INPUT_INVALID),
                    format!("the input at `{place}`: {}", violation.message),
                );
                diagnostic.pointer = Some(violation.pointer.clone());
                diagnostic.needs =
                    violation.expected.clone().map(|text| Needs { text: Some(text), ..Needs::default() });
                match &violation.suggestion {
                    Some(near) => diagnostic.with_help(format!("did you mean `{near}`?")),
                    None => diagnostic,
                }
            })
            .collect();
        Err(Refused::Input(diagnostics))
    }

    /// Judges a workflow as it would run now; also gives the tables that were judged.
    pub(super) fn judge(
        &self,
        definition: &Definition,
        trigger: &Trigger,
        at: When,
    ) -> Result<(Report, Tables), Refused> {
        let mut tables = BTreeMap::new();
        for name in &definition.workflow.extras.tables {
            if let Some((current, table)) = self.services.definitions.table(name)? {
                tables.insert(name.clone(), (current.digest, table));
            }
        }
        let bindings = self.services.definitions.bindings(&definition.workflow.document.name)?;
        let report = self.judge_with(definition, trigger, at, &tables, &bindings);
        Ok((report, tables))
    }

    /// The same, with these tables and bindings.
    pub(super) fn judge_with(
        &self,
        definition: &Definition,
        trigger: &Trigger,
        at: When,
        tables: &Tables,
        bindings: &BTreeMap<String, String>,
    ) -> Report {
        let plain: BTreeMap<String, Table> = tables.iter().map(|(n, (_, t))| (n.clone(), t.clone())).collect();
        let connections: Vec<Connection> =
            self.services.gateway.connections().iter().map(|c| c.usable().into_owned()).collect();
        let mut report = preflight::judge(&Question {
            workflow: &definition.workflow,
            source: &definition.source,
            at,
            plugins: &self.services.plugins.known(),
            rules: &self.services.gateway.rules,
            connections: &connections,
            trigger: &trigger.connections,
            bindings,
            tables: &plain,
            input: Some(&trigger.input),
            now: self.services.clock.now(),
            strict: false,
            evaluator: self.services.evaluator.as_ref(),
        });
        if report.plan.is_none() {
            report.diagnostics.extend(self.damages());
            let lacks = |d: &Diagnostic| d.code.0.starts_with("connection-");
            if report.diagnostics.iter().any(lacks) {
                let broken = self.connections.broken();
                let gone = broken.into_values().filter(|b| self.services.gateway.connection(&b.new.name).is_none());
                report.diagnostics.extend(gone.map(|broken| lacking::is_broken(&broken)));
            }
        }
        report
    }

    /// What is pinned, found again.
    pub(super) fn facts(
        &self,
        pins: &Pins,
        definition: &Definition,
        input: Value,
        tables: &BTreeMap<String, Table>,
    ) -> Result<Arc<Facts>, journal::Error> {
        let actions = pins
            .actions
            .iter()
            .filter_map(|pinned| {
                let action = self.services.plugins.pinned(pinned.plugin, &pinned.resolved.action)?;
                Some((pinned.written.clone(), action))
            })
            .collect();
        Ok(Arc::new(Facts {
            run: pins.run,
            workflow: definition.workflow.clone(),
            workflow_argument: Facts::describe_workflow(pins.run, &definition.workflow, &input, pins.accepted_at),
            runtime_argument: Facts::describe_runtime(&pins.host, &pins.connections),
            input: Arc::new(input),
            accepted_at: pins.accepted_at,
            connections: pins.connections.clone(),
            tenants: pins.led(),
            chosen: pins.chosen.clone(),
            tables: Arc::new(Definitions::for_expressions(tables)),
            actions,
            schemas: definition.schemas.clone(),
        }))
    }
}
