//! Which tasks a run may come to, and with what certainty: the guards in front of each call.

use crate::definition::{TaskIndex, TaskKind, Then, Workflow};

use super::guard::{Data, Guards, Verdict};

/// How surely a run comes to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// For some inputs, as a guard on the input decides.
    Some,
    /// As far as can be told beforehand, always.
    All,
}

/// A task that a run may come to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Visit {
    pub reach: Reach,
    /// The task's input, after `input.from`.
    pub input: Data,
}

/// Walks the flow once, joining where ways meet.
pub(super) struct Flow<'a> {
    workflow: &'a Workflow,
    guards: &'a Guards<'a>,
    visits: Vec<Option<State>>,
}

#[derive(Debug, Clone)]
struct State {
    /// How surely a run arrives here.
    arrives: Reach,
    raw: Data,
    /// None where the task's own guard keeps every run out.
    visit: Option<Visit>,
    edges: Vec<Edge>,
}

#[derive(Debug, Clone)]
struct Edge {
    then: Then,
    reach: Reach,
    data: Data,
}

/// The visits of all tasks, by task index; none where a run cannot come.
pub(super) fn visits(workflow: &Workflow, guards: &Guards<'_>) -> Vec<Option<Visit>> {
    let mut flow = Flow { workflow, guards, visits: vec![None; workflow.tasks.len()] };
    let first = guards.first(workflow.input.from.as_ref());
    flow.list(&workflow.root, Reach::All, &first);
    flow.visits.into_iter().map(|s| s.and_then(|s| s.visit)).collect()
}

impl Flow<'_> {
    /// Walks a list; gives how surely a run comes out at its end, or none if it never does.
    fn list(&mut self, tasks: &[TaskIndex], reach: Reach, data: &Data) -> Option<Reach> {
        let mut exit: Option<Reach> = None;
        let mut open: Vec<(usize, Reach, Data)> = vec![(0, reach, data.clone())];
        // A list that is walked again, because more arrives at the task around it, is walked to its end again.
        let mut followed = vec![false; tasks.len()];
        while let Some((position, reach, data)) = open.pop() {
            let Some(index) = tasks.get(position) else {
                exit = exit.max(Some(reach));
                continue;
            };
            let is_new = self.enter(*index, reach, data);
            if std::mem::replace(&mut followed[position], true) && !is_new {
                continue;
            }
            let edges = self.visits[index.0 as usize].as_ref().map(|s| s.edges.clone()).unwrap_or_default();
            for edge in edges {
                match edge.then {
                    Then::Continue => open.push((position + 1, edge.reach, edge.data)),
                    Then::Task(to) => open.push((to as usize, edge.reach, edge.data)),
                    Then::Exit => exit = exit.max(Some(edge.reach)),
                    Then::End => {}
                }
            }
        }
        exit
    }

    /// Joins what arrives at a task with what arrived before; false if nothing is new.
    fn enter(&mut self, index: TaskIndex, reach: Reach, data: Data) -> bool {
        let slot = index.0 as usize;
        let (reach, raw) = match self.visits[slot].take() {
            None => (reach, data),
            Some(before) => {
                let joined = (before.arrives.max(reach), before.raw.clone().join(data));
                if joined.0 == before.arrives && joined.1 == before.raw {
                    self.visits[slot] = Some(before);
                    return false;
                }
                joined
            }
        };
        self.task(index, reach, raw);
        true
    }

    fn task(&mut self, index: TaskIndex, reach: Reach, raw: Data) {
        let workflow = self.workflow;
        let task = workflow.task(index);
        let slot = index.0 as usize;
        let input = task.input.from.as_ref().map_or_else(|| raw.clone(), |t| self.guards.template(t, &raw));
        let verdict = task.condition.as_ref().map_or(Verdict::True, |c| self.guards.verdict(c, &input));
        let skipped = Edge { then: Then::Continue, reach, data: raw.clone() };
        let (inner, skip) = match verdict {
            Verdict::False => {
                self.visits[slot] = Some(State { arrives: reach, raw, visit: None, edges: vec![skipped] });
                return;
            }
            Verdict::True => (reach, None),
            Verdict::Open => (reach, Some(skipped)),
            Verdict::ByInput => (Reach::Some, Some(Edge { reach: Reach::Some, ..skipped })),
        };
        // Set before the children are walked: a way back to here must find it.
        let visit = Some(Visit { reach: inner, input: input.clone() });
        self.visits[slot] = Some(State { arrives: reach, raw, visit, edges: Vec::new() });
        let mut edges = self.inside(index, inner, &input);
        if let Some(transform) = &task.output.transform {
            for edge in &mut edges {
                edge.data = self.guards.template(transform, &edge.data);
            }
        }
        edges.extend(skip);
        if let Some(state) = &mut self.visits[slot] {
            state.edges = edges;
        }
    }

    /// The ways out of a task that runs, with its raw output.
    fn inside(&mut self, index: TaskIndex, reach: Reach, input: &Data) -> Vec<Edge> {
        let workflow = self.workflow;
        let task = workflow.task(index);
        let out = |reach, data| Edge { then: task.then.clone(), reach, data };
        match &task.kind {
            TaskKind::Call(_) => vec![out(reach, Data::Unknown)],
            TaskKind::Set(template) => vec![out(reach, self.guards.template(template, input))],
            TaskKind::Wait(_) => vec![out(reach, input.clone())],
            TaskKind::Raise(_) => Vec::new(),
            TaskKind::Switch(cases) => {
                let mut edges = Vec::new();
                let mut rest = Some(reach);
                for case in cases {
                    let Some(here) = rest else { break };
                    let verdict = case.when.as_ref().map_or(Verdict::True, |w| self.guards.verdict(w, input));
                    let taken = match verdict {
                        Verdict::False => continue,
                        Verdict::True => {
                            rest = None;
                            here
                        }
                        Verdict::Open => here,
                        Verdict::ByInput => {
                            rest = Some(Reach::Some);
                            Reach::Some
                        }
                    };
                    edges.push(Edge { then: case.then.clone(), reach: taken, data: input.clone() });
                }
                edges.extend(rest.map(|reach| out(reach, input.clone())));
                edges
            }
            TaskKind::Do(tasks) => self.list(tasks, reach, input).map(|r| out(r, Data::Unknown)).into_iter().collect(),
            TaskKind::For(each) => {
                // Nothing may be in the collection, so the way behind it does not depend on what is inside.
                self.list(&each.tasks, reach, &Data::Unknown);
                vec![out(reach, Data::Unknown)]
            }
            TaskKind::Fork { branches, .. } => {
                for branch in branches {
                    self.list(&[*branch], reach, input);
                }
                vec![out(reach, Data::Unknown)]
            }
            TaskKind::Try(attempt) => {
                let through = self.list(&attempt.tasks, reach, input);
                let caught = self.list(&attempt.handler, reach, &Data::Unknown);
                through.max(caught).map(|r| out(r, Data::Unknown)).into_iter().collect()
            }
        }
    }
}
