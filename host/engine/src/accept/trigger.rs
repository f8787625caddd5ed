//! From a trigger to an accepted run: once per key, checked, judged, pinned, durable.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use bellhop_core::definition::{ACTION_NAMESPACE, ActionReference, WorkflowName};
use bellhop_core::diagnostic::{Code, Diagnostic, Needs};
use bellhop_core::digest::Digest;
use bellhop_core::id::{Partition, RunId};
use bellhop_core::mask::Mask;
use bellhop_core::preflight::{self, Question, Report, Table, When};
use bellhop_core::requirement::Connection;
use bellhop_core::run::{Cause, Event, Facts, OwnKey, State, Status};
use bellhop_core::time::Timestamp;
use serde_json::Value;

use crate::Engine;
use crate::accept::blocked::Pinned;
use crate::accept::idempotency::Once;
use crate::accept::lacking;
use crate::drive::admission::Place;
use crate::drive::runs::Begun;
use crate::execution::{self, Signal, summary};
use crate::mail::{Message, Posted, Told};
use crate::pins::{Granted, GuestLimits, Pins, tenants};
use crate::setup::definitions::{Definition, Definitions};
use crate::traces::{Kind, Moment, Told as SpanTold, Trace, Traceparent};
use bellhop_faults::{Point, pass};
use bellhop_journal::{self as journal, Entry, Journal, Open, Summary, Write, key};

/// Tables by name, as they are now.
pub(crate) type Tables = BTreeMap<String, (Digest, Table)>;

/// What a trigger asks for.
#[derive(Clone)]
pub struct Trigger {
    /// Which workflow.
    pub workflow: WorkflowName,
    /// Which version; the latest unless said.
    pub version: Option<String>,
    /// The input.
    pub input: Arc<Value>,
    /// Connections by alias.
    pub connections: BTreeMap<String, String>,
    /// For lists.
    pub labels: BTreeMap<String, String>,
    /// Starts at most one run.
    pub idempotency_key: Option<String>,
    /// Of the body, which an equal key must repeat.
    pub body: Digest,
    /// Who asks, in a name for people.
    pub by: Option<String>,
    /// A definition that was not registered, instead of a registered one: a single action.
    pub inline: Option<Arc<Definition>>,
    /// The caller's own trace, of which the run becomes a part.
    pub traceparent: Option<Traceparent>,
}

/// A definition that calls one action with the run's input on one connection.
pub fn of_action(reference: &ActionReference, input: &Value, connection: Option<&str>) -> Result<Trigger, Refused> {
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
    let (definition, _, diagnostics) = crate::setup::definitions::read("action", &text);
    let definition = definition.ok_or(Refused::Input(diagnostics))?;
    Ok(Trigger {
        workflow,
        version: None,
        input: Arc::new(input.clone()),
        connections: BTreeMap::new(),
        labels: BTreeMap::new(),
        idempotency_key: None,
        by: None,
        body: Digest::of_json(input),
        inline: Some(Arc::new(definition)),
        traceparent: None,
    })
}

/// A run that was accepted. It is durable.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// Which.
    pub run: RunId,
    /// Whether an earlier trigger with the same key had started it.
    pub replayed: bool,
    /// What preflight warns of, for whoever starts it now.
    pub warnings: Vec<Diagnostic>,
}

/// Why a trigger was refused; nothing was kept or done.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
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

/// The partition of a new run: that of the organisation which its first connection leads to, or where there is none, that
/// of its workflow. It never changes, wherever the connection leads later.
fn partition_of(pinned: &Pinned, workflow: &WorkflowName) -> Partition {
    let tenant = pinned.connections.values().find_map(Connection::tenant);
    let of_workflow = || Partition::of(workflow.to_string().as_bytes());
    tenant.map_or_else(of_workflow, |tenant| Partition::of(tenant.organisation().as_bytes()))
}

/// What is written when a run is accepted, besides what is decided of it at once.
struct FirstRecords {
    pins: Pins,
    state: State,
    summary: Summary,
    granted: Granted,
    /// The bindings of its keys, what it names that is large, and `posted`.
    write: Write,
    /// What the run is told whose place it takes.
    posted: Option<Posted>,
}

/// The codes of refused inputs.
pub mod code {
    use super::Code;
    /// The input does not fit the workflow's schema.
    pub const INPUT_INVALID: Code = Code("input-invalid");
    /// A connection that the host was told of at its start could not be made.
    pub const CONNECTION_BROKEN: Code = Code("connection-broken");
    /// The input is too large.
    pub const INPUT_TOO_LARGE: Code = Code("input-too-large");
    /// What is needed may be there, and its record cannot be read.
    pub const STORAGE_DAMAGED: Code = Code("storage-damaged");
}

impl Engine {
    /// Accepts a run, or gives the one that the key started. After Ok it is durable and on its way.
    pub async fn trigger(self: &Arc<Self>, trigger: Trigger) -> Result<Accepted, Refused> {
        self.trigger_or(trigger, false).await
    }

    /// As [`Self::trigger`]; with `block` a run that preflight refuses is accepted all the same, and begins when what
    /// is missing is there.
    pub async fn trigger_or(self: &Arc<Self>, trigger: Trigger, block: bool) -> Result<Accepted, Refused> {
        if self.is_draining() {
            return Err(Refused::Unavailable("the host is stopping".to_owned()));
        }
        let began = Moment::now(self.services.clock.as_ref());
        let mut tries = journal::Tries::default();
        loop {
            match Box::pin(self.accept(&trigger, block)).await {
                Err(Refused::Journal(error)) if tries.again(&error) => {}
                answer => {
                    if let Ok(Accepted { run, replayed: false, .. }) = &answer {
                        self.note_trigger(*run, &trigger, began);
                    }
                    return answer;
                }
            }
        }
    }

    /// The first span of a run, under which all others hang.
    fn note_trigger(&self, run: RunId, trigger: &Trigger, began: Moment) {
        self.services.spans(Trace::of(run, trigger.traceparent)).triggered(began, || {
            let workflow = trigger.workflow.to_string();
            SpanTold::of(Kind::Server, format!("start {workflow}"))
                .with("bellhop.run", run.to_string())
                .with("bellhop.workflow", workflow)
        });
    }

    /// Accepts a run, unless somebody binds a key of the trigger meanwhile: then the journal refuses it, and it is to be
    /// decided anew.
    async fn accept(self: &Arc<Self>, trigger: &Trigger, block: bool) -> Result<Accepted, Refused> {
        let mut firsts = Vec::new();
        if let Some(key) = &trigger.idempotency_key {
            match self.once(&trigger.workflow, key, trigger.body, None).await? {
                Once::Again(accepted) => return Ok(accepted),
                Once::First(first) => firsts.push(first),
            }
        }
        let definition = self.definition_of(trigger).await?;
        self.check_input(&definition, &trigger.input)?;
        let own = self.own_key(&definition, &trigger.input)?;
        if let Some(OwnKey { key, revision }) = &own {
            let body = Digest::of_json(&trigger.input);
            match self.once(&trigger.workflow, &summary::own_name(key), body, *revision).await? {
                Once::Again(accepted) => return Ok(accepted),
                Once::First(first) => firsts.push(first),
            }
        }
        // A run that was started before is given also when no more may be open.
        let max = self.services.installation.now().open_runs_max;
        let place = self.runs().places.open_one(max).ok_or(Refused::TooMany { max })?;
        let (report, tables) = self.judge(&definition, trigger, When::Trigger).await?;
        let Report { plan, diagnostics, .. } = report;
        let mask = Mask::new(&definition.workflow.extras.sensitive, &trigger.input);
        let masked = |all: Vec<Diagnostic>| all.into_iter().map(|one| mask.diagnostic(one)).collect::<Vec<_>>();
        let (mut pinned, blocked_by) = match plan {
            Some(plan) => (self.pinned(&plan)?, None),
            None if block => (self.pinned_while_blocked(&definition, &trigger.connections).await?, Some(&diagnostics)),
            None => return Err(Refused::Preflight(masked(diagnostics))),
        };

        let now = self.services.clock.now();
        let superseded = firsts.iter().find_map(|first| first.superseded);
        let run = self.new_run(now, partition_of(&pinned, &definition.workflow.document.name), superseded);
        let mut write = Write::new();
        for first in &firsts {
            first.bind(run, &mut write)?;
        }
        let granted = std::mem::take(&mut pinned.granted);
        let pins =
            self.pinned_by(trigger, &definition, (run, now), (pinned, &tables, blocked_by.is_some()), &mut write)?;
        let tables = tables.into_iter().map(|(name, (_, table))| (name, table)).collect();
        let facts = self.facts(&pins, &definition, trigger.input.clone(), &tables)?;
        let summary = Summary {
            labels: trigger.labels.iter().map(|(name, value)| (name.clone(), mask.text(value))).collect(),
            idempotency_key: trigger.idempotency_key.clone(),
            own_key: own.map(|own| own.key),
            traceparent: trigger.traceparent.map(|given| given.to_string()),
            ..Summary::new(
                Status::Running,
                pins.workflow.namespace.clone(),
                pins.workflow.name.clone(),
                pins.version.clone(),
                now,
            )
        };
        // The run of the revision before makes room; what it did stays.
        let told = Told::Displaced { by: run, rollback: false };
        let mail = &self.services.partition.mail;
        let tells = |old| mail.post(&mut write, Message::Run { run: old, told });
        let posted = superseded.map(tells).transpose()?;
        let first = FirstRecords { pins, state: State::new(facts), summary, granted, write, posted };
        match blocked_by {
            None => self.begins(first, place).await?,
            Some(diagnostics) => self.waits_for_remedy(first, diagnostics, place).await?,
        }
        self.services.counters.accepted.fetch_add(1, Ordering::Relaxed);
        // What keeps a blocked run is shown with it, for as long as it does.
        let warnings = if blocked_by.is_some() { Vec::new() } else { masked(diagnostics) };
        Ok(Accepted { run, replayed: false, warnings })
    }

    /// The definition that a trigger asks for.
    async fn definition_of(&self, trigger: &Trigger) -> Result<Arc<Definition>, Refused> {
        if let Some(definition) = &trigger.inline {
            return Ok(definition.clone());
        }
        let found = self.services.definitions.find(&trigger.workflow, trigger.version.as_deref()).await?;
        found.ok_or_else(|| {
            let version = trigger.version.as_ref().map(|v| format!(" in version {v}")).unwrap_or_default();
            Refused::Unknown(format!("{}{version}", trigger.workflow))
        })
    }

    /// Everything that a new run depends on. What is large goes into `write`.
    fn pinned_by(
        &self,
        trigger: &Trigger,
        definition: &Definition,
        (run, accepted_at): (RunId, Timestamp),
        (pinned, tables, blocked): (Pinned, &Tables, bool),
        write: &mut Write,
    ) -> Result<Pins, Refused> {
        if trigger.inline.is_some() {
            // Nobody has put it: the run is what keeps it.
            write.blob(definition.source.text.as_bytes());
        }
        let Pinned { connections, chosen, actions, granted: _ } = pinned;
        let tenants = if blocked {
            let present = self.services.gateway.connections();
            tenants(present.iter().map(|connected| &connected.facts))
        } else {
            tenants(connections.values())
        };
        Ok(Pins {
            run,
            workflow: definition.workflow.document.name.clone(),
            version: definition.workflow.document.version.clone(),
            definition: definition.digest,
            file: definition.source.file.clone(),
            input: self.services.journal.content(write, &*trigger.input)?,
            connections,
            tenants,
            chosen,
            actions,
            tables: tables.iter().map(|(name, (digest, _))| (name.clone(), *digest)).collect(),
            guests: GuestLimits::of(&self.services.limits),
            host: env!("CARGO_PKG_VERSION").to_owned(),
            evaluator: bellhop_sandbox::expression::Expressions::version(),
            accepted_at,
            blocked,
            labels: trigger.labels.clone(),
            idempotency_key: trigger.idempotency_key.clone(),
            asked: if blocked { trigger.connections.clone() } else { BTreeMap::new() },
            by: trigger.by.clone(),
            traceparent: trigger.traceparent,
        })
    }

    /// Accepts a run that begins at once. After Ok it is durable.
    async fn begins(self: &Arc<Self>, first: FirstRecords, place: Place<'_>) -> Result<(), Refused> {
        self.check_group(&first.state).await?;
        let run = first.pins.run;
        // From here on the run is in lists. Whoever sends it a message waits until it is with its driver: two drivers would
        // write one log.
        let taking_up = self.loading().lock(run.to_string()).await;
        let begun = self.keep_first(first, Vec::new())?;
        place.keep();
        let ticket = begun.ticket;
        // The run may begin at once: whatever it lets out waits for its own records, and they come after this one.
        self.begin(run, begun);
        drop(taking_up);
        self.services.journal.durable(ticket).await.map_err(journal::Error::from)?;
        pass(Point::Unanswered);
        Ok(())
    }

    /// Accepts a run that preflight refuses. After Ok it is durable and is looked at again when something has changed.
    async fn waits_for_remedy(
        self: &Arc<Self>,
        mut first: FirstRecords,
        diagnostics: &[Diagnostic],
        place: Place<'_>,
    ) -> Result<(), Refused> {
        let FirstRecords { pins, state, summary, write, .. } = &mut first;
        let (run, journal) = (pins.run, &self.services.journal);
        let entry = self.block(state, diagnostics, write)?;
        *summary = summary::after(summary, state, pins.accepted_at, |value| journal.content(write, &value))?;
        let taking_up = self.loading().lock(run.to_string()).await;
        let ticket = self.keep_first(first, vec![entry])?.ticket;
        place.keep();
        drop(taking_up);
        journal.durable(ticket).await.map_err(journal::Error::from)?;
        self.blocked().add(run);
        if let Err(error) = self.send(run, Signal::of(Cause::Wake)).await {
            tracing::error!(%run, %error, "of a blocked run nobody can be told");
        }
        Ok(())
    }

    /// Writes what a run begins with: its pins, and what was decided of it already.
    fn keep_first(&self, first: FirstRecords, mut decided: Vec<Entry>) -> Result<Begun, journal::Error> {
        let FirstRecords { pins, state, summary, granted, mut write, posted } = first;
        let (run, now) = (pins.run, pins.accepted_at);
        write.put(&key::listing(now, run), &Value::Null)?;
        write.put(&key::open(run), &Open { rest: execution::rest_of(&state), ..Open::default() })?;
        write.put(&key::summary(run), &summary)?;
        let bytes = write.bytes() as u64;
        decided.insert(0, Entry::Accepted { pins: Journal::json(&pins)? });
        let ticket = self.services.journal.append(run, &mut 0, &decided, write)?;
        self.services.partition.tally.moves(None, Some(execution::rest_of(&state)));
        self.services.partition.mail.hand_over(posted);
        let trace = Trace::of(run, pins.traceparent);
        Ok(Begun { state, granted, guests: pins.guests, trace, ticket, bytes, summary })
    }

    /// An id, later than those of all runs that this process has accepted, and than that of the run whose place it takes:
    /// runs that make room for one another are told apart by their ids' order. Many are accepted within one millisecond, and
    /// a clock can be set back.
    fn new_run(&self, now: Timestamp, partition: Partition, superseded: Option<RunId>) -> RunId {
        let entropy = &self.services.entropy;
        let fresh = RunId::of(now, partition, entropy.next_wide());
        let run = {
            let mut last = self.last_run.lock().unwrap_or_else(PoisonError::into_inner);
            let run = last.filter(|last| fresh <= *last).map_or(fresh, |last| last.later(partition, entropy.next()));
            *last = Some(run);
            run
        };
        // Of a time that the clock has yet to come to again, only those have to be that take its place.
        superseded.filter(|old| run <= *old).map_or(run, |old| old.later(partition, entropy.next()))
    }

    /// Refuses a run for which its group would have no place. Two at one moment may both get past this; then the group
    /// itself says no.
    async fn check_group(&self, state: &State) -> Result<(), Refused> {
        if state.facts().workflow.extras.concurrency.is_none() {
            return Ok(());
        }
        let decided = self.services.deciding.at_once(state, self.services.clock.now(), Cause::Start);
        let Some(Event::Queued { group, .. }) = decided.as_ref().and_then(|decided| decided.events.first()) else {
            return Ok(());
        };
        let (groups, mail) = (&self.services.partition.groups, &self.services.partition.mail);
        if groups.refuses(group) {
            // Of a run that has ended, the owner may have to hear still.
            let mut drain = self.services.drain.subscribe();
            tokio::select! {
                biased;
                () = mail.all_brought() => {}
                _ = drain.wait_for(|drain| *drain) => {}
            }
        }
        if groups.refuses(group) {
            return Err(Refused::GroupFull(state.facts().mask().text(&group.name)));
        }
        Ok(())
    }

    pub(crate) fn check_input(&self, definition: &Definition, input: &Value) -> Result<(), Refused> {
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
    pub(crate) async fn judge(
        &self,
        definition: &Definition,
        trigger: &Trigger,
        at: When,
    ) -> Result<(Report, Tables), Refused> {
        let (tables, bindings) = self.judged_by(definition).await?;
        let report = self.judge_with(definition, trigger, at, &tables, &bindings);
        Ok((report, tables))
    }

    /// The tables and the bindings by which a workflow is judged now.
    pub(crate) async fn judged_by(
        &self,
        definition: &Definition,
    ) -> Result<(Tables, BTreeMap<String, String>), journal::Error> {
        let mut tables = BTreeMap::new();
        for name in &definition.workflow.extras.tables {
            if let Some((current, table)) = self.services.definitions.table(name).await? {
                tables.insert(name.clone(), (current.digest, table));
            }
        }
        let bindings = self.services.definitions.bindings(&definition.workflow.document.name).await?;
        Ok((tables, bindings))
    }

    /// The same, with these tables and bindings.
    pub(crate) fn judge_with(
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
            input: Some(&*trigger.input),
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
    pub(crate) fn facts(
        &self,
        pins: &Pins,
        definition: &Definition,
        input: Arc<Value>,
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
            input,
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
