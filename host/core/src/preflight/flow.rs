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
    /// Whether every run that catches nothing comes here, as far as the lists allow it to be told.
    pub sure: bool,
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
    arrives: Way,
    raw: Data,
    /// None where the task's own guard keeps every run out.
    visit: Option<Visit>,
    edges: Vec<Edge>,
}

#[derive(Debug, Clone)]
struct Edge {
    then: Then,
    way: Way,
    data: Data,
}

/// See the fields of [`Visit`]. Of two ways to one place the stronger counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    reach: Reach,
    sure: bool,
}

impl Way {
    const FIRST: Self = Self { reach: Reach::All, sure: true };

    /// Behind a guard that only the run can decide.
    fn open(self) -> Self {
        Self { sure: false, ..self }
    }

    /// Behind a guard that the input decides.
    fn by_input(self) -> Self {
        Self { reach: Reach::Some, sure: false }
    }

    fn or(self, other: Self) -> Self {
        Self { reach: self.reach.max(other.reach), sure: self.sure || other.sure }
    }
}

fn either(one: Option<Way>, other: Option<Way>) -> Option<Way> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.or(other)),
        (one, other) => one.or(other),
    }
}

/// The visits of all tasks, by task index; none where a run cannot come.
pub(super) fn visits(workflow: &Workflow, guards: &Guards<'_>) -> Vec<Option<Visit>> {
    let mut flow = Flow { workflow, guards, visits: vec![None; workflow.tasks.len()] };
    let first = guards.first(workflow.input.from.as_ref());
    flow.list(&workflow.root, Way::FIRST, &first);
    flow.visits.into_iter().map(|s| s.and_then(|s| s.visit)).collect()
}

impl Flow<'_> {
    /// Walks a list; gives the way out at its end, or none if no run comes there.
    fn list(&mut self, tasks: &[TaskIndex], way: Way, data: &Data) -> Option<Way> {
        let mut exit: Option<Way> = None;
        let mut open: Vec<(usize, Way, Data)> = vec![(0, way, data.clone())];
        // A list that is walked again, because more arrives at the task around it, is walked to its end again.
        let mut followed = vec![false; tasks.len()];
        while let Some((position, way, data)) = open.pop() {
            let Some(index) = tasks.get(position) else {
                exit = either(exit, Some(way));
                continue;
            };
            let is_new = self.enter(*index, way, data);
            if std::mem::replace(&mut followed[position], true) && !is_new {
                continue;
            }
            let edges = self.visits[index.0 as usize].as_ref().map(|s| s.edges.clone()).unwrap_or_default();
            for edge in edges {
                match edge.then {
                    Then::Continue => open.push((position + 1, edge.way, edge.data)),
                    Then::Task(to) => open.push((to as usize, edge.way, edge.data)),
                    Then::Exit => exit = either(exit, Some(edge.way)),
                    Then::End => {}
                }
            }
        }
        exit
    }

    /// Joins what arrives at a task with what arrived before; false if nothing is new.
    fn enter(&mut self, index: TaskIndex, way: Way, data: Data) -> bool {
        let slot = index.0 as usize;
        let (way, raw) = match self.visits[slot].take() {
            None => (way, data),
            Some(before) => {
                let joined = (before.arrives.or(way), before.raw.clone().join(data));
                if joined.0 == before.arrives && joined.1 == before.raw {
                    self.visits[slot] = Some(before);
                    return false;
                }
                joined
            }
        };
        self.task(index, way, raw);
        true
    }

    fn task(&mut self, index: TaskIndex, way: Way, raw: Data) {
        let workflow = self.workflow;
        let task = workflow.task(index);
        let slot = index.0 as usize;
        let input = task.input.from.as_ref().map_or_else(|| raw.clone(), |t| self.guards.template(t, &raw));
        let verdict = task.condition.as_ref().map_or(Verdict::True, |c| self.guards.verdict(c, &input));
        let skipped = Edge { then: Then::Continue, way, data: raw.clone() };
        let (inner, skip) = match verdict {
            Verdict::False => {
                self.visits[slot] = Some(State { arrives: way, raw, visit: None, edges: vec![skipped] });
                return;
            }
            Verdict::True => (way, None),
            Verdict::Open => (way.open(), Some(Edge { way: way.open(), ..skipped })),
            Verdict::ByInput => (way.by_input(), Some(Edge { way: way.by_input(), ..skipped })),
        };
        // Set before the children are walked: a way back to here must find it.
        let visit = Some(Visit { reach: inner.reach, sure: inner.sure, input: input.clone() });
        self.visits[slot] = Some(State { arrives: way, raw, visit, edges: Vec::new() });
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
    fn inside(&mut self, index: TaskIndex, way: Way, input: &Data) -> Vec<Edge> {
        let workflow = self.workflow;
        let task = workflow.task(index);
        let out = |way, data| Edge { then: task.then.clone(), way, data };
        match &task.kind {
            TaskKind::Call(_) => vec![out(way, Data::Unknown)],
            TaskKind::Set(template) => vec![out(way, self.guards.template(template, input))],
            TaskKind::Wait(_) => vec![out(way, input.clone())],
            TaskKind::Raise(_) => Vec::new(),
            TaskKind::Switch(cases) => {
                let mut edges = Vec::new();
                let mut rest = Some(way);
                for case in cases {
                    let Some(here) = rest else { break };
                    let verdict = case.when.as_ref().map_or(Verdict::True, |w| self.guards.verdict(w, input));
                    let taken = match verdict {
                        Verdict::False => continue,
                        Verdict::True => {
                            rest = None;
                            here
                        }
                        Verdict::Open => {
                            rest = Some(here.open());
                            here.open()
                        }
                        Verdict::ByInput => {
                            rest = Some(here.by_input());
                            here.by_input()
                        }
                    };
                    edges.push(Edge { then: case.then.clone(), way: taken, data: input.clone() });
                }
                edges.extend(rest.map(|way| out(way, input.clone())));
                edges
            }
            TaskKind::Do(tasks) => self.list(tasks, way, input).map(|w| out(w, Data::Unknown)).into_iter().collect(),
            TaskKind::For(each) => {
                // Nothing may be in the collection, so the way behind it does not depend on what is inside.
                self.list(&each.tasks, way, &Data::Unknown);
                vec![out(way, Data::Unknown)]
            }
            TaskKind::Fork { branches, compete } => {
                let each = if *compete { way.open() } else { way };
                for branch in branches {
                    self.list(&[*branch], each, input);
                }
                vec![out(way, Data::Unknown)]
            }
            TaskKind::Try(attempt) => {
                let through = self.list(&attempt.tasks, way, input);
                let caught = self.list(&attempt.handler, way.open(), &Data::Unknown);
                either(through, caught).map(|w| out(w, Data::Unknown)).into_iter().collect()
            }
        }
    }
}
