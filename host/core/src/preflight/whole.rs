//! The judgement of a whole workflow.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::alias::{self, Choice, NamedBy, Names, Resolution};
use super::flow::{self, Reach, Visit};
use super::guard::{Data, Guards};
use super::installed::{Missing, Resolved};
use super::judgement::{self, Facts, Judgement};
use super::outline::{self, Outline, Role, Step};
use super::say::{self, AUTHOR, OPERATOR, Subject};
use super::{Plan, Question, Report, When};
use crate::definition::{ActionReference, Call, Delay, Task, TaskKind, parse_reference};
use crate::diagnostic::{Diagnostic, Has, HttpRemedy, Needs, Remedy, Retryable, Severity, code, nearest};
use crate::manifest::{Action, Alternative, DeclaredCall, Effect, When as Occurs};
use crate::requirement::{Arguments, Connection, Kind, Permission};

const NOTIFY_POINTER: &str = "/document/metadata/bellhop/onFault/notify/connection";
const DECLARED_POINTER: &str = "/document/metadata/bellhop/connections";
/// The one method by which the host itself tells people of a fault.
const NOTIFY_FUNCTION: &str = "chat.post-message";

pub(super) fn judge(question: &Question<'_>) -> Report {
    let notify = notify_action();
    let mut judge = Judge::new(question, &notify);
    judge.aliases();
    let guards = judge.guards();
    let visits = flow::visits(question.workflow, &guards);
    judge.declared();
    judge.triggers();
    for index in 0..judge.sites.len() {
        if let Some(visit) = &visits[judge.sites[index].task.index.0 as usize] {
            judge.site(index, visit, &guards);
        }
    }
    judge.notify();
    judge.report(&visits)
}

/// A call in the file.
struct Site<'a> {
    task: &'a Task,
    call: &'a Call,
    resolved: Option<Resolved>,
    choice: Choice,
    /// The alias that stands for `with` without `connection`, if the file declares just one.
    aliases: BTreeSet<String>,
}

struct Judge<'a> {
    question: &'a Question<'a>,
    notify: &'a Action,
    sites: Vec<Site<'a>>,
    /// What each alias means, and the kinds that it accepts.
    resolutions: BTreeMap<String, (Resolution, Vec<Kind>)>,
    /// For each call that names no connection the alias, or the connection's index where the file declares none.
    chosen: BTreeMap<String, Chosen>,
    actions: BTreeMap<ActionReference, ActionReference>,
    diagnostics: Vec<Diagnostic>,
    outline: Outline,
    /// Aliases whose fault is already told.
    told: BTreeSet<String>,
}

enum Chosen {
    Alias(String),
    Connection(usize),
}

/// Where a call leads: the connection to judge it on, and whether it is only the nearest one.
enum Target {
    Connection(usize),
    Nearest(usize),
    /// The diagnostic is there already.
    None,
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
                Choice::Aliases(aliases) => aliases.clone(),
                // A file that declares one alias means it where it names none.
                Choice::Only if declared.len() == 1 => declared.keys().cloned().collect(),
                _ => BTreeSet::new(),
            };
            sites.push(Site { task, call, resolved, choice, aliases });
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
            told: BTreeSet::new(),
        }
    }

    fn names(&self) -> Names<'a> {
        let Question { connections, trigger, bindings, .. } = *self.question;
        Names { present: connections, trigger, bindings }
    }

    fn facts<'f>(&self, resolved: Option<&'f Resolved>, accepted: &'f [Kind]) -> Facts<'f>
    where
        'a: 'f,
    {
        Facts {
            rules: self.question.rules,
            grants: resolved.map(|r| &*r.plugin.grants),
            arguments: Arguments::Unknown,
            accepted,
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

    fn aliases(&mut self) {
        let extras = &self.question.workflow.extras;
        let mut all: BTreeSet<String> = extras.connections.keys().cloned().collect();
        all.extend(self.sites.iter().flat_map(|s| s.aliases.iter().cloned()));
        all.extend(extras.notify.iter().map(|n| n.connection.clone()));
        for alias in all {
            let accepted = self.accepted(&alias);
            let resolution = self.names().resolve(Some(&alias), &accepted);
            self.resolutions.insert(alias, (resolution, accepted));
        }
    }

    fn guards(&self) -> Guards<'a> {
        let mut facts = Map::new();
        let mut plans_unread = BTreeSet::new();
        for (alias, (resolution, _)) in &self.resolutions {
            if let Resolution::To(index) = resolution {
                let c = &self.question.connections[*index];
                let plan = c.plan.or((c.kind != Kind::Workspace).then_some(crate::requirement::Plan::Enterprise));
                if plan.is_none() {
                    plans_unread.insert(alias.clone());
                }
                let known = json!({"name": c.name, "kind": c.kind, "plan": plan, "permission": c.permission});
                facts.insert(alias.clone(), known);
            }
        }
        let judged_by_value = matches!(self.question.at, When::Trigger | When::Call);
        Guards {
            evaluator: self.question.evaluator,
            input: self.question.input.filter(|_| judged_by_value),
            runtime: json!({"connections": facts}),
            tables: json!(self.question.tables),
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
                            self.diagnostics.push(self.wrong_kind(&subject, alias, connection, &declared.kinds));
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

    /// The trigger may name only aliases that the workflow has.
    fn triggers(&mut self) {
        for alias in self.question.trigger.keys().filter(|a| !self.resolutions.contains_key(*a)) {
            let known = self.resolutions.keys().map(String::as_str);
            let near = nearest(alias, known);
            let label = near.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
            self.diagnostics.push(Diagnostic {
                pointer: Some(format!("/connections/{alias}")),
                who: Some("whoever starts the run".to_owned()),
                ..Diagnostic::error(
                    code::CONNECTION_UNKNOWN,
                    format!("the workflow has no connection alias `{alias}`{label}"),
                )
            });
        }
    }

    fn subject_at(&self, pointer: &str, task: Option<&Task>) -> Subject {
        Subject {
            what: String::new(),
            prefix: "",
            plugin: None,
            action: None,
            task: task.map(|t| t.pointer.clone()),
            place: (self.question.places)(pointer),
            pointer: task.is_none().then(|| pointer.to_owned()),
            reach: Reach::All,
        }
    }

    fn subject_of_alias(&self, alias: &str) -> Subject {
        let escaped = alias.replace('~', "~0").replace('/', "~1");
        Subject { what: format!("alias `{alias}`"), ..self.subject_at(&format!("{DECLARED_POINTER}/{escaped}"), None) }
    }

    fn subject_of_call(&self, task: &Task, reference: &ActionReference, reach: Reach) -> Subject {
        Subject {
            what: format!("`{}`", reference.action),
            plugin: Some(reference.plugin.clone()),
            action: Some(reference.to_string()),
            reach,
            ..self.subject_at(&format!("{}/call", task.pointer), Some(task))
        }
    }

    /// Judges one call, with its inverse.
    fn site(&mut self, index: usize, visit: &Visit, guards: &Guards<'_>) {
        let site = &self.sites[index];
        let (task, call) = (site.task, site.call);
        let (choice, site_aliases) = (site.choice.clone(), site.aliases.clone());
        let subject = self.subject_of_call(task, &call.reference, visit.reach);
        let Some(resolved) = site.resolved.clone() else { return };
        let action = resolved.action();
        self.purpose(&subject, action);
        let (aliases, reach) = match &choice {
            Choice::Only if site_aliases.is_empty() => (Vec::new(), visit.reach),
            Choice::Only => {
                let chosen = site_aliases.iter().map(|a| (task.pointer.clone(), Chosen::Alias(a.clone())));
                self.chosen.extend(chosen);
                (site_aliases.into_iter().collect(), visit.reach)
            }
            Choice::Aliases(aliases) => {
                let connection = call.connection.as_ref();
                match connection.map_or(Data::Unknown, |text| guards.text(text, &visit.input)) {
                    Data::Known(Value::String(alias)) if aliases.contains(&alias) => (vec![alias], visit.reach),
                    Data::FromInput if aliases.len() > 1 => (aliases.iter().cloned().collect(), Reach::Some),
                    Data::Known(_) | Data::FromInput | Data::Unknown => {
                        (aliases.iter().cloned().collect(), visit.reach)
                    }
                }
            }
            fault => {
                let fault = self.choice_fault(&subject, fault, task);
                self.diagnostics.push(fault);
                return;
            }
        };
        let targets: Vec<(Target, Vec<Kind>)> = if aliases.is_empty() {
            let accepted = judgement::possible_kinds(action, self.facts(Some(&resolved), &[]));
            let target = self.only(&subject, &resolved, &accepted);
            if let Target::Connection(to) = target {
                self.chosen.insert(task.pointer.clone(), Chosen::Connection(to));
            }
            vec![(target, Vec::new())]
        } else {
            let subject = Subject { reach, ..subject.clone() };
            aliases.iter().map(|a| (self.target(a, &subject), self.accepted_if_declared(a))).collect()
        };
        let mut subject = Subject { reach, ..subject };
        if self.all_fail(&targets, &resolved) {
            // Whichever the input chooses, it fails: only the guards in front of the call make that uncertain.
            subject.reach = visit.reach;
        }
        self.step(&subject, task, Role::Call, &resolved, &targets, visit.reach);
        self.inverse(&subject, task, &resolved, &targets, visit.reach);
    }

    fn accepted_if_declared(&self, alias: &str) -> Vec<Kind> {
        self.question.workflow.extras.connections.get(alias).map(|d| d.kinds.clone()).unwrap_or_default()
    }

    fn all_fail(&self, targets: &[(Target, Vec<Kind>)], resolved: &Resolved) -> bool {
        targets.iter().all(|(target, accepted)| match target {
            Target::Connection(index) | Target::Nearest(index) => {
                let connection = &self.question.connections[*index];
                judgement::judge(resolved.action(), connection, self.facts(Some(resolved), accepted)).blocks()
            }
            Target::None => true,
        })
    }

    /// The connections that a call may run on, each with the kinds that the file accepts for it.
    fn step(
        &mut self,
        subject: &Subject,
        task: &Task,
        role: Role,
        resolved: &Resolved,
        targets: &[(Target, Vec<Kind>)],
        reach: Reach,
    ) {
        let action = resolved.action();
        let mut connections = Vec::new();
        let mut said = Vec::new();
        for (target, accepted) in targets {
            let (Target::Connection(index) | Target::Nearest(index)) = target else { continue };
            let connection = &self.question.connections[*index];
            let judgement = judgement::judge(action, connection, self.facts(Some(resolved), accepted));
            if matches!(target, Target::Nearest(_)) && !judgement.blocks() {
                // What it lacks is only what the file asks of the alias.
                said.push(self.wrong_kind(subject, "", connection, accepted));
            }
            said.extend(say::diagnostics(subject, &judgement, connection, self.question.connections));
            connections.push(outline::on_connection(&judgement, connection, self.question.rules));
        }
        self.diagnostics.extend(said);
        self.outline.steps.push(Step {
            order: u32::try_from(self.outline.steps.len() + 1).unwrap_or(u32::MAX),
            task: task.pointer.clone(),
            role,
            action: resolved.reference.to_string(),
            certain: reach == Reach::All,
            repeats: self.in_loop(task),
            effect: action.effect,
            licence: action.licence,
            connections,
        });
    }

    fn inverse(
        &mut self,
        subject: &Subject,
        task: &Task,
        of: &Resolved,
        targets: &[(Target, Vec<Kind>)],
        reach: Reach,
    ) {
        if !self.question.workflow.extras.rollback_on_fault {
            return;
        }
        let reference = match &task.extras.compensate {
            Some(written) => match parse_reference(written) {
                Ok(reference) => reference,
                // The parser has said what is wrong with it.
                Err(_) => return,
            },
            None => match &of.action().inverse {
                // Pinned to the plugin that answered: its own manifest says what undoes it.
                Some(inverse) => ActionReference { action: inverse.clone(), ..of.reference.clone() },
                None => return,
            },
        };
        let undone = &of.reference.action;
        let subject = Subject {
            what: format!("`{}`, which undoes `{undone}`,", reference.action),
            prefix: "is undone by an action that ",
            action: Some(reference.to_string()),
            plugin: Some(reference.plugin.clone()),
            ..subject.clone()
        };
        match self.question.plugins.resolve(&reference) {
            Ok(resolved) => {
                self.actions.insert(reference, resolved.reference.clone());
                self.step(&subject, task, Role::Inverse, &resolved, targets, reach);
            }
            Err(missing) => {
                self.diagnostics.push(missing_action(self.question, task, &missing, &reference));
            }
        }
    }

    fn notify(&mut self) {
        let Some(notify) = &self.question.workflow.extras.notify else { return };
        let subject = Subject { what: "`onFault.notify`".to_owned(), ..self.subject_at(NOTIFY_POINTER, None) };
        let target = self.target(&notify.connection, &subject);
        let (Target::Connection(index) | Target::Nearest(index)) = target else { return };
        let connection = &self.question.connections[index];
        let accepted = self.accepted_if_declared(&notify.connection);
        let judgement: Judgement<'_> = judgement::judge(self.notify, connection, self.facts(None, &accepted));
        let said = say::diagnostics(&subject, &judgement, connection, self.question.connections);
        let on = outline::on_connection(&judgement, connection, self.question.rules);
        self.diagnostics.extend(said);
        self.outline.steps.push(Step {
            order: u32::try_from(self.outline.steps.len() + 1).unwrap_or(u32::MAX),
            task: NOTIFY_POINTER.to_owned(),
            role: Role::Notify,
            action: "onFault.notify".to_owned(),
            certain: false,
            repeats: false,
            effect: Effect::Notify,
            licence: None,
            connections: vec![on],
        });
    }

    fn purpose(&mut self, subject: &Subject, action: &Action) {
        let purpose = self.question.workflow.extras.purpose.as_deref();
        if action.purposes.is_empty() || purpose.is_some_and(|p| action.purposes.iter().any(|a| a == p)) {
            return;
        }
        let message = format!("{} is not for the purpose of this workflow", subject.what);
        self.diagnostics.push(Diagnostic {
            label: Some(format!("is for {} only", say::list(&action.purposes))),
            needs: Some(Needs {
                text: Some(format!("`purpose` of {}", action.purposes.join(", "))),
                ..Needs::default()
            }),
            has: Some(Has {
                text: Some(purpose.map_or_else(|| "no `purpose`".to_owned(), |p| format!("`purpose` {p}"))),
                ..Has::default()
            }),
            who: Some(AUTHOR.to_owned()),
            ..subject.error(code::PURPOSE_NOT_ALLOWED, message)
        });
    }

    fn in_loop(&self, task: &Task) -> bool {
        let mut at = task.parent;
        while let Some(index) = at {
            let parent = self.question.workflow.task(index);
            if matches!(parent.kind, TaskKind::For(_)) {
                return true;
            }
            at = parent.parent;
        }
        false
    }

    /// Where an alias leads; tells once what is wrong with it.
    fn target(&mut self, alias: &str, subject: &Subject) -> Target {
        let accepted = self.accepted(alias);
        let resolution = match self.resolutions.get(alias) {
            Some((resolution, _)) => resolution.clone(),
            None => self.names().resolve(Some(alias), &accepted),
        };
        match resolution {
            Resolution::To(index) => Target::Connection(index),
            Resolution::Nothing => {
                let nearest = self.nearest(&self.uses(alias).collect::<Vec<_>>());
                nearest.map_or(Target::None, Target::Nearest)
            }
            fault => {
                if self.told.insert(alias.to_owned()) {
                    let diagnostic = self.alias_fault(subject, Some(alias), &fault, &accepted);
                    self.diagnostics.push(diagnostic);
                }
                Target::None
            }
        }
    }

    fn only(&mut self, subject: &Subject, resolved: &Resolved, accepted: &[Kind]) -> Target {
        match self.names().resolve(None, accepted) {
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

    fn alias_fault(&self, subject: &Subject, alias: Option<&str>, fault: &Resolution, accepted: &[Kind]) -> Diagnostic {
        let present = self.question.connections;
        let name = self.question.workflow.document.name.to_string();
        let bind = |to: &str| {
            let alias = alias.unwrap_or("ALIAS");
            Remedy {
                title: "say which".to_owned(),
                command: Some(format!("bellhop workflows bind {name} {alias}={to}")),
                http: Some(HttpRemedy {
                    method: "PUT".to_owned(),
                    path: format!("/v1/workflows/{name}/bindings"),
                    body: json!({alias: to}),
                }),
            }
        };
        let called = alias.map_or_else(|| subject.what.clone(), |a| format!("alias `{a}`"));
        match fault {
            Resolution::Unknown { name: unknown, by } => {
                let by = match by {
                    NamedBy::Trigger => "the trigger",
                    NamedBy::Binding => "the operator's binding",
                };
                let near = nearest(unknown, present.iter().map(|c| c.name.as_str()));
                Diagnostic {
                    connection: Some(unknown.clone()),
                    needs: Some(Needs { text: Some("the name of a connection".to_owned()), ..Needs::default() }),
                    has: Some(Has {
                        text: Some(format!(
                            "connections {}",
                            say::list(&present.iter().map(|c| format!("`{}`", c.name)).collect::<Vec<_>>())
                        )),
                        ..Has::default()
                    })
                    .filter(|_| !present.is_empty()),
                    retryable: Retryable::AfterRemedy,
                    who: Some(OPERATOR.to_owned()),
                    remedies: near.map(bind).into_iter().collect(),
                    ..subject.error(
                        code::CONNECTION_UNKNOWN,
                        format!("{by} says that {called} is connection `{unknown}`, which is not there"),
                    )
                }
            }
            Resolution::Ambiguous(candidates) => {
                let names: Vec<String> = candidates.iter().map(|i| format!("`{}`", present[*i].name)).collect();
                Diagnostic {
                    label: Some(format!("could be {}", names.join(" or "))),
                    needs: Some(Needs { text: Some(format!("one connection for {called}")), ..Needs::default() }),
                    has: Some(Has { text: Some(say::list(&names)), ..Has::default() }),
                    retryable: Retryable::AfterRemedy,
                    who: Some(OPERATOR.to_owned()),
                    remedies: candidates.first().map(|i| bind(&present[*i].name)).into_iter().collect(),
                    ..subject.error(code::CONNECTION_AMBIGUOUS, format!("several connections would do for {called}"))
                }
            }
            Resolution::Missing | Resolution::Nothing | Resolution::To(_) => {
                let kinds = if accepted.is_empty() { Kind::ALL.to_vec() } else { accepted.to_vec() };
                let remedy = say::connect(kinds[0], alias.unwrap_or("slack"), None, present);
                Diagnostic {
                    needs: Some(say::kinds(&kinds)),
                    has: Some(Has { text: Some("no connection".to_owned()), ..Has::default() }),
                    retryable: Retryable::AfterRemedy,
                    who: Some(say::owner_of(kinds[0]).to_owned()),
                    remedies: vec![remedy],
                    ..subject.error(code::CONNECTION_MISSING, format!("there is no connection for {called}"))
                }
            }
        }
    }

    fn wrong_kind(&self, subject: &Subject, alias: &str, connection: &Connection, accepted: &[Kind]) -> Diagnostic {
        let what = if alias.is_empty() { subject.what.clone() } else { format!("alias `{alias}`") };
        let remedy = accepted
            .first()
            .map(|k| say::connect(*k, &connection.name, Some(connection.kind), self.question.connections));
        Diagnostic {
            connection: Some(connection.name.clone()),
            needs: Some(say::kinds(accepted)),
            has: Some(Has {
                kind: Some(connection.kind),
                title: Some(connection.kind.title().to_owned()),
                ..Has::default()
            }),
            retryable: Retryable::AfterRemedy,
            who: accepted.first().map(|k| say::owner_of(*k).to_owned()),
            remedies: remedy.into_iter().collect(),
            ..subject.error(
                code::CONNECTION_KIND,
                format!("{what} cannot be connection `{}`: the file accepts other kinds", connection.name),
            )
        }
    }

    fn choice_fault(&self, subject: &Subject, choice: &Choice, task: &Task) -> Diagnostic {
        let place = (self.question.places)(&format!("{}/with/connection", task.pointer));
        let subject = Subject { place: place.or_else(|| subject.place.clone()), reach: Reach::All, ..subject.clone() };
        match choice {
            Choice::TableUnknown(table) => self.unknown_table(&subject, table),
            Choice::ColumnUnknown(table, column) => {
                let columns = self.question.tables.get(table).into_iter().flat_map(|t| &t.columns);
                let of_connections: Vec<String> = columns
                    .filter(|(_, kind)| **kind == alias::Column::Connection)
                    .map(|(name, _)| format!("`{name}`"))
                    .collect();
                Diagnostic {
                    needs: Some(Needs { text: Some("a column of type connection".to_owned()), ..Needs::default() }),
                    has: Some(Has {
                        text: Some(if of_connections.is_empty() {
                            "no such column".to_owned()
                        } else {
                            say::list(&of_connections)
                        }),
                        ..Has::default()
                    }),
                    retryable: Retryable::AfterRemedy,
                    who: Some(OPERATOR.to_owned()),
                    ..subject.error(
                        code::TABLE_COLUMN_UNKNOWN,
                        format!("table `{table}` has no column `{column}` of type connection"),
                    )
                }
            }
            Choice::NotStatic | Choice::Only | Choice::Aliases(_) => Diagnostic {
                label: Some("may give anything".to_owned()),
                needs: Some(Needs {
                    text: Some(
                        "an alias; or an expression of literals, `if`, `{…}[…] // \"…\"`, or a table's column of type \
                         connection"
                            .to_owned(),
                    ),
                    ..Needs::default()
                }),
                who: Some(AUTHOR.to_owned()),
                ..subject.error(
                    code::CONNECTION_NOT_STATIC,
                    format!("which connections {} may run on cannot be told", subject.what),
                )
            },
        }
    }

    fn unknown_table(&self, subject: &Subject, table: &str) -> Diagnostic {
        let near = nearest(table, self.question.tables.keys().map(String::as_str));
        Diagnostic {
            label: near.map(|n| format!("did you mean `{n}`?")),
            retryable: Retryable::AfterRemedy,
            who: Some(OPERATOR.to_owned()),
            remedies: vec![Remedy {
                title: "put it".to_owned(),
                command: Some(format!("bellhop tables put {table} FILE")),
                http: Some(HttpRemedy {
                    method: "PUT".to_owned(),
                    path: format!("/v1/tables/{table}"),
                    body: json!({}),
                }),
            }],
            ..subject.error(code::TABLE_UNKNOWN, format!("there is no table `{table}`"))
        }
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

    /// Waits of known length that every run comes to, outside branches and loops.
    fn waits_ms(&self, visits: &[Option<Visit>]) -> u64 {
        let waits = self.question.workflow.tasks.iter().filter_map(|task| {
            let TaskKind::Wait(Delay::Millis(millis)) = task.kind else { return None };
            let visit = visits[task.index.0 as usize].as_ref()?;
            (visit.reach == Reach::All && task.parent.is_none() && task.condition.is_none()).then_some(millis)
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
    let mut seen: BTreeSet<(&'static str, Option<String>, String)> = BTreeSet::new();
    let mut kept: Vec<Diagnostic> = Vec::new();
    for diagnostic in diagnostics {
        let once = [code::UNKNOWN_UNTIL_RUN, code::SCOPE_RECOMMENDED].contains(&diagnostic.code);
        let key = (diagnostic.code.0, diagnostic.connection.clone(), diagnostic.message.clone());
        if once && diagnostic.severity == Severity::Warning && !seen.insert(key) {
            continue;
        }
        if !kept.contains(&diagnostic) {
            kept.push(diagnostic);
        }
    }
    kept
}

fn missing_action(question: &Question<'_>, task: &Task, missing: &Missing, reference: &ActionReference) -> Diagnostic {
    Diagnostic {
        place: (question.places)(&format!("{}/call", task.pointer)),
        task: Some(task.pointer.clone()),
        ..missing.diagnostic(reference)
    }
}

/// What `onFault.notify` is, in the words of a manifest.
fn notify_action() -> Action {
    Action {
        name: "onFault.notify".to_owned(),
        title: String::new(),
        description: String::new(),
        input: Value::Bool(true),
        output: Value::Bool(true),
        effect: Effect::Notify,
        purposes: Vec::new(),
        inverse: None,
        exclusive: Vec::new(),
        licence: None,
        errors: Vec::new(),
        calls: vec![Alternative {
            on: Kind::ALL.to_vec(),
            methods: vec![DeclaredCall { function: NOTIFY_FUNCTION.to_owned(), when: Occurs::Always }],
        }],
    }
}
