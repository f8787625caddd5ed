//! Which tasks a run may come to, and with what certainty: the guards in front of each call.

use super::guard::{Data, Guards, Verdict};
use crate::definition::{TaskIndex, TaskKind, Then, Workflow};

/// In longer lists it is not looked for where the ways behind a guard meet again: the search takes time in proportion
/// to the square of the length. What stands behind such a guard then counts as reached for some inputs only, until
/// the trigger knows the input.
const MEETING_TASKS_MAX: usize = 500;

/// How surely a run comes to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// For some inputs, as a guard on the input decides.
    Some,
    /// For every input, where guards on anything else count as true.
    All,
}

/// A task that a run may come to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Visit {
    pub reach: Reach,
    /// Whether every run that catches nothing comes here, whatever its guards say.
    pub sure: bool,
    /// The task's input, after `input.from`.
    pub input: Data,
}

/// Walks the flow, joining where ways meet.
struct Flow<'a> {
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

/// A way out of a task.
#[derive(Debug, Clone)]
struct Edge {
    then: Then,
    way: Way,
    /// Whether the input decides if it is this one.
    by_input: bool,
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
    const WEAKEST: Self = Self { reach: Reach::Some, sure: false };

    /// Behind a guard that only the run can decide.
    fn open(self) -> Self {
        Self { sure: false, ..self }
    }

    /// First by this way, then by the other.
    fn and(self, other: Self) -> Self {
        Self { reach: self.reach.min(other.reach), sure: self.sure && other.sure }
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
    /// Walks a list; gives how surely a run that enters it comes out at its end, or none if none does.
    fn list(&mut self, tasks: &[TaskIndex], way: Way, data: &Data) -> Option<Way> {
        let mut exits = false;
        let mut open: Vec<(usize, Way, Data)> = vec![(0, way, data.clone())];
        // A list that is walked again, because more arrives at the task around it, is walked to its end again.
        let mut followed = vec![false; tasks.len()];
        while let Some((position, way, data)) = open.pop() {
            let Some(index) = tasks.get(position) else {
                exits = true;
                continue;
            };
            let is_new = self.enter(*index, way, data);
            if std::mem::replace(&mut followed[position], true) && !is_new {
                continue;
            }
            for edge in self.edges(*index) {
                let to = target(position, &edge.then, tasks.len());
                open.extend(to.map(|to| (to, edge.way, edge.data.clone())));
            }
        }
        if tasks.len() > MEETING_TASKS_MAX {
            let parts = |index: &TaskIndex| self.edges(*index).len() > 1;
            return exits.then(|| if tasks.iter().any(parts) { Way::WEAKEST } else { Way::FIRST });
        }
        self.meet(tasks, way);
        exits.then(|| self.certainty(tasks, tasks.len()))
    }

    /// Where ways that a guard parted have met again, all come that came to the guard.
    fn meet(&mut self, tasks: &[TaskIndex], way: Way) {
        for (position, index) in tasks.iter().enumerate() {
            let Some(state) = &self.visits[index.0 as usize] else { continue };
            if state.arrives.or(way) == state.arrives {
                continue;
            }
            let raw = state.raw.clone();
            let certain = way.and(self.certainty(tasks, position));
            self.enter(*index, certain, raw);
        }
    }

    /// How surely a run that enters the list comes to a position, the list's length being its end.
    fn certainty(&self, tasks: &[TaskIndex], position: usize) -> Way {
        let comes = |whatever_guards_say: bool| {
            let mut comes = vec![false; tasks.len() + 1];
            comes[position] = true;
            let mut changed = true;
            while changed {
                changed = false;
                for at in (0..tasks.len()).rev().filter(|at| *at != position) {
                    let leads = |e: &Edge| target(at, &e.then, tasks.len()).is_some_and(|to| comes[to]);
                    let Some(state) = &self.visits[tasks[at].0 as usize] else { continue };
                    let (by_input, others): (Vec<&Edge>, Vec<&Edge>) = state.edges.iter().partition(|e| e.by_input);
                    let all_by_input = !by_input.is_empty() && by_input.iter().all(|e| leads(e));
                    let now = if whatever_guards_say {
                        !state.edges.is_empty() && state.edges.iter().all(leads)
                    } else {
                        all_by_input || others.iter().any(|e| leads(e))
                    };
                    changed |= now && !comes[at];
                    comes[at] |= now;
                }
            }
            comes[0]
        };
        Way { reach: if comes(false) { Reach::All } else { Reach::Some }, sure: comes(true) }
    }

    fn edges(&self, index: TaskIndex) -> Vec<Edge> {
        self.visits[index.0 as usize].as_ref().map(|s| s.edges.clone()).unwrap_or_default()
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
        let by_input = verdict == Verdict::ByInput;
        let inner = match verdict {
            Verdict::True => Some(way),
            Verdict::False => None,
            Verdict::Open => Some(way.open()),
            Verdict::ByInput => Some(Way::WEAKEST),
        };
        let Some(inner) = inner else {
            let passed = Edge { then: Then::Continue, way, by_input: false, data: raw.clone() };
            self.visits[slot] = Some(State { arrives: way, raw, visit: None, edges: vec![passed] });
            return;
        };
        // Set before the children are walked: a way back to here must find it.
        let visit = Some(Visit { reach: inner.reach, sure: inner.sure, input: input.clone() });
        let skipped = Edge { then: Then::Continue, way: inner, by_input, data: raw.clone() };
        self.visits[slot] = Some(State { arrives: way, raw, visit, edges: Vec::new() });
        let mut edges = self.inside(index, inner, &input);
        for edge in &mut edges {
            edge.by_input |= by_input;
            if let Some(transform) = &task.output.transform {
                edge.data = self.guards.template(transform, &edge.data);
            }
        }
        if verdict != Verdict::True {
            edges.push(skipped);
        }
        if let Some(state) = &mut self.visits[slot] {
            state.edges = edges;
        }
    }

    /// The ways out of a task that runs, with its raw output.
    fn inside(&mut self, index: TaskIndex, way: Way, input: &Data) -> Vec<Edge> {
        let workflow = self.workflow;
        let task = workflow.task(index);
        let out = |way, data| Edge { then: task.then.clone(), way, by_input: false, data };
        match &task.kind {
            TaskKind::Call(_) => vec![out(way, Data::Unknown)],
            TaskKind::Set(template) => vec![out(way, self.guards.template(template, input))],
            TaskKind::Wait(_) => vec![out(way, input.clone())],
            TaskKind::Raise(_) => vec![Edge { then: Then::End, ..out(way, Data::Unknown) }],
            TaskKind::Switch(_) => self.switch(index, way, input),
            TaskKind::Do(tasks) => {
                let exit = self.list(tasks, way, input);
                through(exit, out(way, Data::Unknown))
            }
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
                let tried = self.list(&attempt.tasks, way, input);
                let caught = self.list(&attempt.handler, way.open(), &Data::Unknown).map(Way::open);
                through(either(tried, caught), out(way, Data::Unknown))
            }
        }
    }

    fn switch(&self, index: TaskIndex, way: Way, input: &Data) -> Vec<Edge> {
        let task = self.workflow.task(index);
        let TaskKind::Switch(cases) = &task.kind else { return Vec::new() };
        let mut edges = Vec::new();
        let edge = |then: &Then, way, by_input| Edge { then: then.clone(), way, by_input, data: input.clone() };
        let (mut rest, mut by_input) = (way, false);
        for case in cases {
            match case.when.as_ref().map_or(Verdict::True, |w| self.guards.verdict(w, input)) {
                Verdict::False => {}
                Verdict::True => {
                    edges.push(edge(&case.then, rest, by_input));
                    return edges;
                }
                Verdict::Open => {
                    rest = rest.open();
                    edges.push(edge(&case.then, rest, by_input));
                }
                Verdict::ByInput => {
                    (rest, by_input) = (Way::WEAKEST, true);
                    edges.push(edge(&case.then, rest, by_input));
                }
            }
        }
        edges.push(edge(&task.then, rest, by_input));
        edges
    }
}

/// The ways out of a task with a list in it, by which runs come out as surely as `exit` says.
fn through(exit: Option<Way>, out: Edge) -> Vec<Edge> {
    let Some(exit) = exit else { return vec![Edge { then: Then::End, ..out }] };
    let by_input = exit.reach == Reach::Some;
    let goes_on = Edge { way: out.way.and(exit), by_input, ..out.clone() };
    if exit == Way::FIRST {
        return vec![goes_on];
    }
    // Some runs end inside.
    vec![goes_on, Edge { then: Then::End, by_input, ..out }]
}

/// The position that an edge leads to, the list's length being its end; none where the run ends.
fn target(position: usize, then: &Then, length: usize) -> Option<usize> {
    match then {
        Then::Continue => Some(position + 1),
        Then::Task(to) => Some((*to as usize).min(length)),
        Then::Exit => Some(length),
        Then::End => None,
    }
}
