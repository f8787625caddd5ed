//! The judgement of one call in the file, with its inverse; and of what the host itself calls.

use serde_json::Value;

use super::alias::Choice;
use super::flow::{Reach, Visit};
use super::guard::{Data, Guards};
use super::host_call;
use super::installed::Resolved;
use super::judgement::{self, Facts};
use super::outline::{self, Role, Step};
use super::say::{self, AUTHOR, Subject, There};
use super::times::times;
use super::together::Acts;
use super::whole::{Chosen, Judge, NOTIFY_POINTER, Target, missing_action};
use crate::definition::{ActionReference, Call, Compensate, Task, TaskKind};
use crate::diagnostic::{Diagnostic, Has, Needs, Retryable, code};
use crate::manifest::{Action, DeclaredCall, Effect};
use crate::requirement::{Arguments, Connection, Kind};

/// A call with everything that is known of it.
struct Stepping<'s> {
    task: &'s Task,
    role: Role,
    resolved: &'s Resolved,
    targets: &'s [(Target, Vec<Kind>)],
    reach: Reach,
    /// How often, and whether more often.
    times: (u32, bool),
    /// The fields that hold ids, see [`host_call::marked_fields`].
    fields: &'s [(&'s str, &'s str, Data)],
    reads: &'s [DeclaredCall],
    /// What is known of the fields.
    input: &'s Value,
}

impl Judge<'_> {
    /// Judges one call, with its inverse.
    pub(super) fn site(&mut self, index: usize, visit: &Visit, visits: &[Option<Visit>], guards: &Guards<'_>) {
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
            Choice::Aliases { .. } => {
                let aliases = site_aliases;
                let connection = call.connection.as_ref();
                match connection.map_or(Data::Unknown, |text| guards.text(text, &visit.input)) {
                    Data::Known(Value::String(alias)) if aliases.contains(&alias) => (vec![alias], visit.reach),
                    Data::FromInput if aliases.len() > 1 => (aliases.into_iter().collect(), Reach::Some),
                    Data::Known(_) | Data::FromInput | Data::Unknown => {
                        (aliases.iter().cloned().collect(), visit.reach)
                    }
                }
            }
            fault => {
                let fault = self.choice_fault(&subject, fault, call);
                self.diagnostics.push(fault);
                return;
            }
        };
        let fields = host_call::marked_fields(action, call, guards, &visit.input);
        let reads = host_call::reads(self.question.rules, action, &fields);
        let input = host_call::known_input(&fields);
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
        let stepping = Stepping {
            task,
            role: Role::Call,
            resolved: &resolved,
            targets: &targets,
            reach: visit.reach,
            times: times(self.question.workflow, visits, guards, task),
            fields: &fields,
            reads: &reads,
            input: &input,
        };
        if self.all_fail(&stepping) {
            // Whichever the input chooses, it fails: only the guards in front of the call make that uncertain.
            subject.reach = visit.reach;
        }
        self.acts_there(&subject, &call.pointer, &targets, visit.reach);
        self.step(&subject, &stepping);
        self.inverse(&subject, &stepping, guards);
    }

    /// Keeps in mind that the run acts there.
    fn acts_there(&mut self, subject: &Subject, call: &str, targets: &[(Target, Vec<Kind>)], reach: Reach) {
        let place = self.question.source.place(&format!("{call}/with/connection"));
        let subject = Subject { place: place.or_else(|| subject.place.clone()), prefix: "", ..subject.clone() };
        self.acts.extend(Acts::of(subject, targets.iter().map(|(target, _)| target.connection()), reach));
    }

    fn accepted_if_declared(&self, alias: &str) -> Vec<Kind> {
        self.question.workflow.extras.connections.get(alias).map(|d| d.kinds.clone()).unwrap_or_default()
    }

    fn all_fail(&self, stepping: &Stepping<'_>) -> bool {
        stepping.targets.iter().all(|(target, accepted)| match target {
            Target::Connection(index) | Target::Nearest(index) => {
                let connection = &self.question.connections[*index];
                let facts = self.facts_of(stepping, accepted);
                judgement::judge(stepping.resolved.action(), connection, facts).blocks()
            }
            Target::None => true,
        })
    }

    fn facts_of<'f>(&'f self, stepping: &'f Stepping<'_>, accepted: &'f [Kind]) -> Facts<'f> {
        let arguments = Arguments::Input(stepping.input);
        let token = stepping.task.extras.token;
        Facts { arguments, reads: stepping.reads, token, ..self.facts(Some(stepping.resolved), accepted) }
    }

    fn step(&mut self, subject: &Subject, stepping: &Stepping<'_>) {
        let Stepping { task, role, resolved, .. } = *stepping;
        let action = resolved.action();
        let mut connections = Vec::new();
        let mut said = Vec::new();
        for (target, accepted) in stepping.targets {
            let (Target::Connection(index) | Target::Nearest(index)) = target else { continue };
            let connection = &self.question.connections[*index];
            let facts = self.facts_of(stepping, accepted);
            let judgement = judgement::judge(action, connection, facts);
            if matches!(target, Target::Nearest(_)) && !judgement.blocks() {
                // What it lacks is only what the file asks of the alias.
                let offered = judgement::possible_kinds(action, facts);
                said.push(self.wrong_kind(subject, "", connection, (accepted, &offered)));
            }
            let there = There { present: self.question.connections, accepted };
            said.extend(say::diagnostics(subject, &judgement, connection, there));
            said.extend(
                host_call::foreign_workspaces(stepping.fields, connection)
                    .into_iter()
                    .map(|(field, id)| self.foreign_workspace(subject, (task, role), field, id, connection)),
            );
            connections.push(outline::on_connection(&judgement, connection, self.question.rules, task.extras.token));
        }
        self.diagnostics.extend(said);
        self.outline.steps.push(Step {
            order: u32::try_from(self.outline.steps.len() + 1).unwrap_or(u32::MAX),
            task: task.pointer.clone(),
            role,
            action: resolved.reference.to_string(),
            certain: stepping.reach == Reach::All,
            times: stepping.times.0,
            repeats: stepping.times.1,
            effect: action.effect,
            licence: action.licence,
            connections,
        });
    }

    fn foreign_workspace(
        &self,
        subject: &Subject,
        (task, role): (&Task, Role),
        field: &str,
        id: &str,
        connection: &Connection,
    ) -> Diagnostic {
        let own = connection.workspace_id.as_deref().unwrap_or_default();
        let with = match (&task.kind, role, &task.extras.compensate) {
            (_, Role::Inverse, Some(Compensate::Call(call))) | (TaskKind::Call(call), _, _) => &call.pointer,
            _ => &task.pointer,
        };
        let place = self.question.source.place(&format!("{with}/with/{field}"));
        let subject = Subject { place: place.or_else(|| subject.place.clone()), ..subject.clone() };
        Diagnostic {
            connection: Some(connection.name.clone()),
            needs: Some(Needs { text: Some(format!("workspace {own}")), ..Needs::default() }),
            has: Some(Has { text: Some(format!("workspace {id}")), ..Has::default() }),
            retryable: Retryable::No,
            who: Some(AUTHOR.to_owned()),
            ..subject.error(
                code::WORKSPACE_MISMATCH,
                format!("`{field}` is not the workspace of connection `{}`", connection.name),
            )
        }
    }

    fn inverse(&mut self, subject: &Subject, stepping: &Stepping<'_>, guards: &Guards<'_>) {
        let (task, of) = (stepping.task, stepping.resolved);
        let own = match &task.extras.compensate {
            Some(Compensate::Call(call)) => Some(call),
            Some(Compensate::Named(_)) | None => None,
        };
        let reference = match &task.extras.compensate {
            Some(compensate) => compensate.reference().clone(),
            None => match &of.action().inverse {
                // Pinned to the plugin that answered: its own manifest says what undoes it.
                Some(inverse) => ActionReference { action: inverse.clone(), ..of.reference.clone() },
                None => return,
            },
        };
        let undone = &of.reference.action;
        let mut subject = Subject {
            what: format!("`{}`, which undoes `{undone}`,", reference.action),
            prefix: "is undone by an action that ",
            action: Some(reference.to_string()),
            plugin: Some(reference.plugin.clone()),
            ..subject.clone()
        };
        if let Some(call) = own {
            // What the file says itself is marked where it says it.
            subject.prefix = "";
            subject.place = self.question.source.place(&format!("{}/call", call.pointer));
        }
        // An alias that leads nowhere is a fault of the file, whoever asks for the rollback.
        let Ok(own_targets) = own.map(|call| self.compensating_targets(&subject, task, call)).transpose() else {
            return;
        };
        if let (Some(call), Some(targets)) = (own, own_targets.as_ref().and_then(Option::as_deref)) {
            self.acts_there(&subject, &call.pointer, targets, stepping.reach);
        }
        if !self.question.workflow.extras.rolls_back() {
            // Nothing asks for it. Whoever has a run taken back later finds what there is.
            if let Ok(resolved) = self.question.plugins.resolve(&reference) {
                self.actions.insert(reference, resolved.reference);
            }
            return;
        }
        match self.question.plugins.resolve(&reference) {
            Ok(resolved) => {
                self.actions.insert(reference, resolved.reference.clone());
                // Of an input that comes from the answer of what it undoes nothing is known, and nothing looked up.
                let fields = own.map_or_else(Vec::new, |call| {
                    host_call::marked_fields(resolved.action(), call, guards, &Data::Unknown)
                });
                let reads = host_call::reads(self.question.rules, resolved.action(), &fields);
                let input = host_call::known_input(&fields);
                let inverse = Stepping {
                    role: Role::Inverse,
                    resolved: &resolved,
                    targets: own_targets.as_ref().and_then(Option::as_deref).unwrap_or(stepping.targets),
                    times: (0, stepping.times.1),
                    fields: &fields,
                    reads: &reads,
                    input: &input,
                    ..*stepping
                };
                self.step(&subject, &inverse);
            }
            Err(missing) => {
                let found = missing_action(self.question, task, &missing, &reference);
                let message = format!("{}, which is to undo `{undone}`", found.message);
                let of_manifest = task.extras.compensate.is_none();
                let who = if of_manifest { Some("whoever writes the plugin".to_owned()) } else { found.who.clone() };
                let place = if own.is_some() { subject.place } else { found.place.clone() };
                self.diagnostics.push(Diagnostic { message, who, place, ..found });
            }
        }
    }

    /// Where a compensating call acts; none: where the call acted that it takes back. `Err` when that cannot be told, and
    /// it is said.
    #[expect(clippy::type_complexity, reason = "the targets of a step, as they stand there")]
    fn compensating_targets(
        &mut self,
        subject: &Subject,
        task: &Task,
        call: &Call,
    ) -> Result<Option<Vec<(Target, Vec<Kind>)>>, ()> {
        let site = self.sites.iter().find(|s| s.compensates && s.task.index == task.index);
        let Some((choice, aliases)) = site.map(|s| (s.choice.clone(), s.aliases.clone())) else { return Ok(None) };
        match choice {
            Choice::Only => Ok(None),
            Choice::Aliases { .. } => {
                let targets = aliases.iter().map(|a| (self.target(a, subject), self.accepted_if_declared(a)));
                Ok(Some(targets.collect()))
            }
            fault => {
                let fault = self.choice_fault(subject, &fault, call);
                self.diagnostics.push(fault);
                Err(())
            }
        }
    }

    /// Judges `onFault.notify`.
    pub(super) fn notify(&mut self) {
        let Some(notify) = &self.question.workflow.extras.notify else { return };
        let subject = Subject { what: "`onFault.notify`".to_owned(), ..self.subject_at(NOTIFY_POINTER, None) };
        let target = self.target(&notify.connection, &subject);
        let (Target::Connection(index) | Target::Nearest(index)) = target else { return };
        self.acts.extend(Acts::of(subject.clone(), [target.connection()], Reach::All));
        let connection = &self.question.connections[index];
        let accepted = self.accepted_if_declared(&notify.connection);
        let judgement = judgement::judge(self.notify, connection, self.facts(None, &accepted));
        let there = There { present: self.question.connections, accepted: &accepted };
        let said = say::diagnostics(&subject, &judgement, connection, there);
        let on = outline::on_connection(&judgement, connection, self.question.rules, None);
        self.diagnostics.extend(said);
        self.outline.steps.push(Step {
            order: u32::try_from(self.outline.steps.len() + 1).unwrap_or(u32::MAX),
            task: NOTIFY_POINTER.to_owned(),
            role: Role::Notify,
            action: "onFault.notify".to_owned(),
            certain: false,
            times: 0,
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
}
