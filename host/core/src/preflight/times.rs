//! How often a run makes a call.

use serde_json::Value;

use super::flow::Visit;
use super::guard::{Data, Guards};
use crate::definition::{Task, TaskIndex, TaskKind, Then, Workflow};

/// At least so often, if the run goes well; and whether it may be more often.
pub(super) fn times(workflow: &Workflow, visits: &[Option<Visit>], guards: &Guards<'_>, task: &Task) -> (u32, bool) {
    let visit = |index: TaskIndex| visits[index.0 as usize].as_ref();
    let (mut least, mut more) = (1_u32, false);
    let mut at = task;
    loop {
        if !visit(at.index).is_some_and(|v| v.sure) {
            (least, more) = (0, true);
        }
        more |= goes_back(workflow, at);
        let Some(parent) = at.parent.map(|p| workflow.task(p)) else { return (least, more) };
        if let TaskKind::For(each) = &parent.kind {
            let items = visit(parent.index).map(|v| guards.text(&each.collection, &v.input));
            match items {
                Some(Data::Known(Value::Array(items))) if each.condition.is_none() => {
                    least = least.saturating_mul(u32::try_from(items.len()).unwrap_or(u32::MAX));
                }
                _ => (least, more) = (0, true),
            }
        }
        at = parent;
    }
}

/// Whether the list of a task has a way back.
fn goes_back(workflow: &Workflow, task: &Task) -> bool {
    let back = |position: usize, then: &Then| matches!(then, Then::Task(to) if *to as usize <= position);
    list_of(workflow, task).iter().map(|i| workflow.task(*i)).enumerate().any(|(position, t)| {
        back(position, &t.then)
            || matches!(&t.kind, TaskKind::Switch(cases) if cases.iter().any(|c| back(position, &c.then)))
    })
}

fn list_of<'w>(workflow: &'w Workflow, task: &Task) -> &'w [TaskIndex] {
    let Some(parent) = task.parent.map(|p| workflow.task(p)) else { return &workflow.root };
    match &parent.kind {
        TaskKind::Do(tasks) => tasks,
        TaskKind::For(each) => &each.tasks,
        TaskKind::Try(attempt) if attempt.handler.contains(&task.index) => &attempt.handler,
        TaskKind::Try(attempt) => &attempt.tasks,
        // A branch is a list of its own.
        _ => &[],
    }
}
