//! The judgement of a whole workflow.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, json};

use super::alias::{self, Choice, Names, Resolution};
use super::flow::{self, Reach, Visit};
use super::guard::Guards;
use super::host_call;
use super::installed::{Missing, Resolved};
use super::judgement::{self, Facts};
use super::outline::{self, Outline};
use super::say::{self, OPERATOR, Subject};
use super::together::{self, Acts};
use super::{Plan, Question, Report, When};
use crate::definition::{ActionReference, Call, Compensate, Delay, Task, TaskKind, WhenFull};
use crate::diagnostic::{Diagnostic, Has, Needs, Retryable, Severity, code, nearest};
use crate::manifest::{Action, Effect};
use crate::pointer;
use crate::requirement::{Arguments, Connection, Kind, Permission};
use crate::schema::{Schema, check_arguments};

pub(super) const NOTIFY_POINTER: &str = "/document/metadata/bellhop/onFault/notify/connection";
/// So long a run may hold a place that others queue for before that is said.
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
const DECLARED_POINTER: &str = "/document/metadata/bellhop/connections";

pub(super) fn judge(question: &Question<'_>) -> Report {
    let notify = host_call::notify_action(question.rules);
    let mut judge = Judge::new(question, &notify);
    judge.aliases();
    let guards = judge.guards();
    let visits = flow::visits(question.workflow, &guards);
    judge.declared();
    judge.triggers();
    for index in 0..judge.sites.len() {
        judge.arguments(index);
        if judge.sites[index].compensates {
            continue;
        }
        if let Some(visit) = &visits[judge.sites[index].task.index.0 as usize] {
            judge.site(index, visit, &visits, &guards);
        }
    }
    judge.notify();
    if !question.workflow.extras.several_organisations {
        let apart = together::faults(&judge.acts, question.connections);
        judge.diagnostics.extend(apart);
    }
    judge.queues(&visits);
    judge.report(&visits)
}

/// A call in the file.
pub(super) struct Site<'a> {
    pub(super) task: &'a Task,
    pub(super) call: &'a Call,
    pub(super) resolved: Option<Resolved>,
    pub(super) choice: Choice,
    /// The alias that stands for `with` without `connection`, if the file declares just one.
    pub(super) aliases: BTreeSet<String>,
    /// Whether it is not what the task does, but what takes that back.
    pub(super) compensates: bool,
}

pub(super) struct Judge<'a> {
    pub(super) question: &'a Question<'a>,
    pub(super) notify: &'a Action,
    pub(super) sites: Vec<Site<'a>>,
    /// What each alias means, and the kinds that it accepts.
    resolutions: BTreeMap<String, (Resolution, Vec<Kind>)>,
    /// For each call that names no connection the alias, or the connection's index where the file declares none.
    pub(super) chosen: BTreeMap<String, Chosen>,
    pub(super) actions: BTreeMap<ActionReference, ActionReference>,
    pub(super) diagnostics: Vec<Diagnostic>,
    pub(super) outline: Outline,
    /// Where the run acts, in the order of the file.
    pub(super) acts: Vec<Acts>,
    /// Of the actions that were looked at.
    schemas: BTreeMap<ActionReference, Option<Schema>>,
    /// Aliases whose fault is already told.
    told: BTreeMap<String, Reach>,
}

pub(super) enum Chosen {
    Alias(String),
    Connection(usize),
}

/// Where a call leads: the connection to judge it on, and whether it is only the nearest one.
pub(super) enum Target {
    Connection(usize),
    Nearest(usize),
    /// The diagnostic is there already.
    None,
}

impl Target {
    /// The connection that it surely leads to.
    pub(super) fn connection(&self) -> Option<usize> {
        match self {
            Self::Connection(index) => Some(*index),
            Self::Nearest(_) | Self::None => None,
        }
    }
}

impl<'a> Judge<'a> {
    fn new(question: &'a Question<'a>, notify: &'a Action) -> Self {
        let mut diagnostics = Vec::new();
        let mut sites = Vec::new();
        let mut actions = BTreeMap::new();
        for task in &question.workflow.tasks {
            let TaskKind::Call(call) = &task.kind else { continue };
            let resolved = match question.plugins.resolve(&call.reference) {
                Ok(resolved) => {
                    actions.insert(call.reference.clone(), resolved.reference.clone());
                    Some(resolved)
                }
                Err(missing) => {
                    diagnostics.push(missing_action(question, task, &missing, &call.reference));
                    None
                }
            };
            let choice = alias::choice(call.connection.as_ref(), question.evaluator, question.tables);
            let declared = &question.workflow.extras.connections;
            let aliases = match &choice {
                Choice::Aliases { written, tabled } => written.union(tabled).cloned().collect(),
                // A file that declares one alias means it where it names none.
                Choice::Only if declared.len() == 1 => declared.keys().cloned().collect(),
                _ => BTreeSet::new(),
            };
            sites.push(Site { task, call, resolved, choice, aliases, compensates: false });
            if let Some(Compensate::Call(call)) = &task.extras.compensate {
                let resolved = question.plugins.resolve(&call.reference).ok();
                let choice = alias::choice(call.connection.as_ref(), question.evaluator, question.tables);
                let aliases = match &choice {
                    Choice::Aliases { written, tabled } => written.union(tabled).cloned().collect(),
                    // It acts where the call acted that it takes back.
                    _ => BTreeSet::new(),
                };
                sites.push(Site { task, call, resolved, choice, aliases, compensates: true });
            }
        }
        Self {
            question,
            notify,
            sites,
            resolutions: BTreeMap::new(),
            chosen: BTreeMap::new(),
            actions,
            diagnostics,
            outline: Outline::default(),
            acts: Vec::new(),
            schemas: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    fn names(&self) -> Names<'a> {
        let Question { connections, trigger, bindings, .. } = *self.question;
        Names { present: connections, trigger, bindings }
    }

    pub(super) fn facts<'f>(&self, resolved: Option<&'f Resolved>, accepted: &'f [Kind]) -> Facts<'f>
    where
        'a: 'f,
    {
        Facts {
            rules: self.question.rules,
            grants: resolved.map(|r| &*r.plugin.grants),
            arguments: Arguments::Unknown,
            reads: &[],
            accepted,
            token: None,
            now: self.question.now,
        }
    }

    /// The actions that an alias is used with.
    fn uses<'s>(&'s self, alias: &'s str) -> impl Iterator<Item = (&'s Action, Option<&'s Resolved>)> {
        let calls = self.sites.iter().filter(move |s| s.aliases.contains(alias));
        let calls = calls.filter_map(|s| s.resolved.as_ref()).map(|r| (r.action(), Some(r)));
        let notify = self.question.workflow.extras.notify.as_ref().filter(|n| n.connection == alias);
        calls.chain(notify.map(|_| (self.notify, None)))
    }

    /// The kinds that an alias accepts: those declared, else those on which every action that uses it runs.
    fn accepted(&self, alias: &str) -> Vec<Kind> {
        let declared = self.question.workflow.extras.connections.get(alias);
        if let Some(declared) = declared.filter(|d| !d.kinds.is_empty()) {
            return declared.kinds.clone();
        }
        let mut kinds: Option<Vec<Kind>> = None;
        for (action, resolved) in self.uses(alias) {
            let possible = judgement::possible_kinds(action, self.facts(resolved, &[]));
            kinds = Some(match kinds {
                None => possible,
                Some(kinds) => kinds.into_iter().filter(|k| possible.contains(k)).collect(),
            });
        }
        kinds.unwrap_or_default()
    }

    /// Whether an action that uses an alias changes anything.
    fn acts(&self, alias: &str) -> bool {
        self.uses(alias).any(|(action, _)| action.effect != Effect::Read)
    }

    fn aliases(&mut self) {
        let extras = &self.question.workflow.extras;
        let mut all: BTreeSet<String> = extras.connections.keys().cloned().collect();
        all.extend(self.sites.iter().flat_map(|s| s.aliases.iter().cloned()));
        all.extend(extras.notify.iter().map(|n| n.connection.clone()));
        for alias in all {
            let accepted = self.accepted(&alias);
            let written = extras.connections.contains_key(&alias)
                || extras.notify.as_ref().is_some_and(|n| n.connection == alias)
                || self
                    .sites
                    .iter()
                    .any(|s| matches!(&s.choice, Choice::Aliases { written, .. } if written.contains(&alias)));
            let resolution = self.names().resolve(Some(&alias), !written, &accepted, self.acts(&alias));
            self.resolutions.insert(alias, (resolution, accepted));
        }
    }

    fn guards(&self) -> Guards<'a> {
        let mut facts = Map::new();
        let mut plans_unread = BTreeSet::new();
        for (alias, (resolution, _)) in &self.resolutions {
            if let Resolution::To(index) = resolution {
                let c = &self.question.connections[*index];
                if c.plan.is_none() {
                    plans_unread.insert(alias.clone());
                }
                let known = json!({"name": c.name, "kind": c.kind, "plan": c.plan, "permission": c.permission});
                facts.insert(alias.clone(), known);
            }
        }
        let judged_by_value = matches!(self.question.at, When::Trigger | When::Call);
        Guards {
            evaluator: self.question.evaluator,
            input: self.question.input.filter(|_| judged_by_value),
            runtime: json!({"connections": facts}),
            tables: self.question.tables,
            tables_value: OnceCell::new(),
            plans_unread,
        }
    }

    /// What is wrong with the declared aliases by themselves.
    fn declared(&mut self) {
        for (alias, declared) in &self.question.workflow.extras.connections {
            let Some((resolution, _)) = self.resolutions.get(alias).cloned() else { continue };
            let used = self.uses(alias).next().is_some();
            let subject = self.subject_of_alias(alias);
            match resolution {
                Resolution::To(index) => {
                    let connection = &self.question.connections[index];
                    if !declared.kinds.is_empty() && !declared.kinds.contains(&connection.kind) {
                        let fails = self.uses(alias).any(|(action, resolved)| {
                            judgement::judge(action, connection, self.facts(resolved, &declared.kinds)).blocks()
                        });
                        if !fails {
                            let mut offered = declared.kinds.clone();
                            for (action, resolved) in self.uses(alias) {
                                let on = judgement::possible_kinds(action, self.facts(resolved, &declared.kinds));
                                offered.retain(|kind| on.contains(kind));
                            }
                            let kinds = (&*declared.kinds, &*offered);
                            self.diagnostics.push(self.wrong_kind(&subject, alias, connection, kinds));
                        }
                    }
                    if !used && declared.permission == Permission::Act && connection.permission == Permission::Read {
                        let message = format!("alias `{alias}` cannot be connection `{}`", connection.name);
                        self.diagnostics.push(Diagnostic {
                            connection: Some(connection.name.clone()),
                            needs: Some(Needs { permission: Some(Permission::Act), ..Needs::default() }),
                            has: Some(Has { permission: Some(Permission::Read), ..Has::default() }),
                            retryable: Retryable::AfterRemedy,
                            who: Some(OPERATOR.to_owned()),
                            ..subject.error(code::PERMISSION_READ_ONLY, message)
                        });
                    }
                }
                _ if !used && !declared.optional => {
                    self.target(alias, &subject);
                }
                _ => {}
            }
        }
        for (position, table) in self.question.workflow.extras.tables.iter().enumerate() {
            if !self.question.tables.contains_key(table) {
                let pointer = format!("/document/metadata/bellhop/tables/{position}");
                let subject = self.subject_at(&pointer, None);
                self.diagnostics.push(self.unknown_table(&subject, table));
            }
        }
    }

    /// The arguments against the action's schema. A file that was applied has passed this.
    fn arguments(&mut self, index: usize) {
        let site = &self.sites[index];
        let judged = matches!(self.question.at, When::Check | When::Apply);
        let Some(resolved) = site.resolved.as_ref().filter(|_| judged) else { return };
        // Compiled once, however often the file calls the action. A plugin with an invalid schema is refused at its
        // installation.
        let schema = self
            .schemas
            .entry(resolved.reference.clone())
            .or_insert_with(|| Schema::compile(&resolved.action().input).ok());
        let Some(schema) = schema else { return };
        self.diagnostics.extend(check_arguments(self.question.source, site.task, site.call, schema));
    }

    /// Whoever waits for a place in a group waits for what is in it.
    fn queues(&mut self, visits: &[Option<Visit>]) {
        let workflow = self.question.workflow;
        let Some(concurrency) = workflow.extras.concurrency.as_ref().filter(|c| c.when_full == WhenFull::Queue) else {
            return;
        };
        for task in &workflow.tasks {
            let TaskKind::Wait(delay) = &task.kind else { continue };
            if visits[task.index.0 as usize].is_none() {
                continue;
            }
            let (waits, label) = match delay {
                Delay::Millis(millis) if *millis > DAY_MS => ("waits longer than a day", "longer than a day"),
                // Until a date that somebody else chooses.
                Delay::Expression(text) if text.program().is_some_and(|p| p.contains("until(")) => {
                    ("may wait longer than a day", "until a date")
                }
                Delay::Millis(_) | Delay::Expression(_) => continue,
            };
            let subject = self.subject_at(&format!("{}/wait", task.pointer), Some(task));
            self.diagnostics.push(Diagnostic {
                label: Some(label.to_owned()),
                needs: Some(Needs {
                    text: Some("`whenFull` of reject, supersede or cancel; or waits of at most a day".to_owned()),
                    ..Needs::default()
                }),
                has: Some(Has {
                    text: Some(format!("`whenFull: queue` with a limit of {}", concurrency.limit)),
                    ..Has::default()
                }),
                who: Some(say::AUTHOR.to_owned()),
                severity: Severity::Warning,
                ..subject.error(
                    code::QUEUE_HELD_LONG,
                    format!("`{}` {waits}, and the runs queued for its group wait as long", task.name),
                )
            });
        }
    }

    /// The trigger may name only aliases that the workflow has.
    fn triggers(&mut self) {
        for alias in self.question.trigger.keys().filter(|a| !self.resolutions.contains_key(*a)) {
            let known = self.resolutions.keys().map(String::as_str);
            let near = nearest(alias, known);
            let label = near.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
            self.diagnostics.push(Diagnostic {
                pointer: Some(format!("/connections/{alias}")),
                needs: Some(Needs {
                    text: Some(match self.resolutions.len() {
                        0 => "no connection: the workflow has no alias".to_owned(),
                        _ => {
                            format!("an alias of {}", say::list(&self.resolutions.keys().cloned().collect::<Vec<_>>()))
                        }
                    }),
                    ..Needs::default()
                }),
                who: Some("whoever starts the run".to_owned()),
                ..Diagnostic::error(
                    code::CONNECTION_UNKNOWN,
                    format!("the workflow has no connection alias `{alias}`{label}"),
                )
            });
        }
    }

    pub(super) fn subject_at(&self, pointer: &str, task: Option<&Task>) -> Subject {
        Subject {
            what: String::new(),
            prefix: "",
            plugin: None,
            action: None,
            task: task.map(|t| t.pointer.clone()),
            place: self.question.source.place(pointer),
            pointer: task.is_none().then(|| pointer.to_owned()),
            reach: Reach::All,
        }
    }

    fn subject_of_alias(&self, alias: &str) -> Subject {
        Subject { what: format!("alias `{alias}`"), ..self.subject_at(&pointer::child(DECLARED_POINTER, alias), None) }
    }

    pub(super) fn subject_of_call(&self, task: &Task, reference: &ActionReference, reach: Reach) -> Subject {
        Subject {
            what: format!("`{}`", reference.action),
            plugin: Some(reference.plugin.clone()),
            action: Some(reference.to_string()),
            reach,
            ..self.subject_at(&format!("{}/call", task.pointer), Some(task))
        }
    }

    /// Where an alias leads; tells once what is wrong with it.
    pub(super) fn target(&mut self, alias: &str, subject: &Subject) -> Target {
        let accepted = self.accepted(alias);
        let resolution = match self.resolutions.get(alias) {
            Some((resolution, _)) => resolution.clone(),
            None => self.names().resolve(Some(alias), false, &accepted, self.acts(alias)),
        };
        match resolution {
            Resolution::To(index) => Target::Connection(index),
            Resolution::Nothing => {
                let nearest = self.nearest(&self.uses(alias).collect::<Vec<_>>());
                nearest.map_or(Target::None, Target::Nearest)
            }
            fault => {
                // A warning that only some inputs lead here is no answer to a call that all come to.
                let told = self.told.insert(alias.to_owned(), subject.reach);
                if told.is_none_or(|before| before < subject.reach) {
                    let diagnostic = self.alias_fault(subject, Some(alias), &fault, &accepted);
                    self.diagnostics.push(diagnostic);
                }
                Target::None
            }
        }
    }

    pub(super) fn only(&mut self, subject: &Subject, resolved: &Resolved, accepted: &[Kind]) -> Target {
        match self.names().resolve(None, false, accepted, resolved.action().effect != Effect::Read) {
            Resolution::To(index) => Target::Connection(index),
            Resolution::Nothing => {
                self.nearest(&[(resolved.action(), Some(resolved))]).map_or(Target::None, Target::Nearest)
            }
            fault => {
                let diagnostic = self.alias_fault(subject, None, &fault, accepted);
                self.diagnostics.push(diagnostic);
                Target::None
            }
        }
    }

    /// Of the connections present the one that lacks least for these actions; of equals the first by name.
    fn nearest(&self, uses: &[(&Action, Option<&Resolved>)]) -> Option<usize> {
        let distance = |connection: &Connection| -> u32 {
            let of = |(action, resolved): &(&Action, Option<&Resolved>)| {
                judgement::judge(action, connection, self.facts(*resolved, &[])).distance()
            };
            uses.iter().map(of).sum()
        };
        let connections = self.question.connections;
        (0..connections.len()).min_by_key(|i| (distance(&connections[*i]), &connections[*i].name))
    }

    fn report(mut self, visits: &[Option<Visit>]) -> Report {
        let place = |d: &Diagnostic| d.place.as_ref().map_or((u32::MAX, u32::MAX), |p| (p.line, p.column));
        let mut diagnostics = std::mem::take(&mut self.diagnostics);
        diagnostics.sort_by_key(place);
        let diagnostics = deduplicated(diagnostics);
        let waits_ms = self.waits_ms(visits);
        outline::complete(&mut self.outline, self.question.connections, self.question.rules, waits_ms);
        let blocks = |d: &Diagnostic| d.is_error() || self.question.strict;
        let outline = std::mem::take(&mut self.outline);
        let plan = if diagnostics.iter().any(blocks) { None } else { Some(self.plan()) };
        Report { diagnostics, outline, plan }
    }

    /// Waits of known length that every run comes to, one after the other.
    fn waits_ms(&self, visits: &[Option<Visit>]) -> u64 {
        let waits = self.question.workflow.tasks.iter().filter_map(|task| {
            let TaskKind::Wait(Delay::Millis(millis)) = task.kind else { return None };
            let visit = visits[task.index.0 as usize].as_ref()?;
            (visit.sure && task.parent.is_none()).then_some(millis)
        });
        waits.fold(0, u64::saturating_add)
    }

    fn plan(self) -> Plan {
        let name = |index: usize| self.question.connections[index].name.clone();
        let mut connections: BTreeMap<String, String> = BTreeMap::new();
        for (alias, (resolution, _)) in &self.resolutions {
            if let Resolution::To(index) = resolution {
                connections.insert(alias.clone(), name(*index));
            }
        }
        let mut chosen = BTreeMap::new();
        for (pointer, choice) in self.chosen {
            let alias = match choice {
                Chosen::Alias(alias) => alias,
                Chosen::Connection(index) => {
                    // The connection's own name, unless the file means another connection by it.
                    let meant = |alias: &str| connections.get(alias).is_none_or(|c| *c == name(index));
                    let free = (1..).map(|n| if n == 1 { name(index) } else { format!("{}-{n}", name(index)) });
                    let alias = free.into_iter().find(|a| meant(a)).unwrap_or_else(|| name(index));
                    connections.insert(alias.clone(), name(index));
                    alias
                }
            };
            chosen.insert(pointer, alias);
        }
        Plan { connections, chosen, actions: self.actions }
    }
}

/// Each fault once. What is only known of a connection is said at the first call that it matters to.
fn deduplicated(diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut seen = BTreeSet::new();
    let mut kept: Vec<Diagnostic> = Vec::new();
    for diagnostic in diagnostics {
        let once = [code::UNKNOWN_UNTIL_RUN, code::SCOPE_RECOMMENDED].contains(&diagnostic.code);
        let why = diagnostic.has.as_ref().and_then(|h| h.text.clone());
        let key = (diagnostic.code.0, diagnostic.connection.clone(), diagnostic.message.clone(), why);
        if once && diagnostic.severity == Severity::Warning && !seen.insert(key) {
            continue;
        }
        if !kept.contains(&diagnostic) {
            kept.push(diagnostic);
        }
    }
    kept
}

pub(super) fn missing_action(
    question: &Question<'_>,
    task: &Task,
    missing: &Missing,
    reference: &ActionReference,
) -> Diagnostic {
    Diagnostic {
        place: question.source.place(&format!("{}/call", task.pointer)),
        task: Some(task.pointer.clone()),
        ..missing.diagnostic(reference)
    }
}
