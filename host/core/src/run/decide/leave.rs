//! Loops go round, forks join.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::enter::truth;
use super::{Decider, asking};
use crate::definition::TaskKind;
use crate::fault::Fault;
use crate::run::arguments::{Asked, Asking};
use crate::run::event::{Event, FrameId};
use crate::run::frame::{Phase, Running};

impl Decider<'_> {
    /// The next iteration begins, or the loop is over.
    pub(super) fn loop_on(&mut self, frame: FrameId, running: &Running) -> Result<(), Fault> {
        let (workflow, index) = self.task(running.task);
        let task = workflow.task(index);
        let (TaskKind::For(definition), Phase::Looping(looping)) = (&task.kind, &running.phase) else { return Ok(()) };
        let parallel = self.state.is_parallel(running.task);
        let next = looping.next;
        let more = (next as usize) < looping.items.len();
        if more {
            let goes_on = match &definition.condition {
                None => true,
                Some(condition) => {
                    let seen = if parallel { running.input.clone() } else { looping.value.clone() };
                    let variables = [
                        (definition.each.as_str(), looping.items[next as usize].as_ref().clone()),
                        (definition.at.as_str(), Value::from(next)),
                    ];
                    let value = self.evaluate_with(frame, &variables, condition, asking(task, running, None), &seen)?;
                    truth(&value, &condition.pointer)?
                }
            };
            if goes_on {
                self.emit(Event::IterationEntered { frame: self.next_frame(), parent: frame, index: next });
                return Ok(());
            }
            if !looping.open.is_empty() {
                // `while` is false: nothing more begins, what is under way ends.
                return Ok(());
            }
        }
        if !parallel {
            self.complete(frame, looping.value.as_ref().clone(), None, None);
            return Ok(());
        }
        let collect = task.extras.collect;
        let all_failed = !looping.results.is_empty() && looping.results.values().all(Result::is_err);
        if collect
            && all_failed
            && let Some(Err(fault)) = looping.results.values().next()
        {
            return Err(fault.clone());
        }
        let results = looping
            .results
            .iter()
            .map(|(i, result)| match result {
                Ok(output) if collect => json!({ "item": looping.items[*i as usize], "output": output }),
                Ok(output) => output.as_ref().clone(),
                Err(fault) => json!({ "item": looping.items[*i as usize], "error": fault }),
            })
            .collect();
        let merged = merge(self.state.context_of(frame), looping.contexts.values())?;
        self.export_merged(frame, merged);
        self.complete(frame, Value::Array(results), None, None);
        Ok(())
    }

    fn evaluate_with(
        &self,
        frame: FrameId,
        variables: &[(&str, Value)],
        text: &crate::expression::Text,
        asking: Asking<'_>,
        input: &Value,
    ) -> Result<Value, Fault> {
        let mut state = self.state.clone();
        if let Some(found) = state.frames.get_mut(&frame) {
            for (name, value) in variables {
                found.variables.insert((*name).to_owned(), Arc::new(value.clone()));
            }
        }
        let scope = crate::run::arguments::Scope { state: &state, frame: Some(frame), evaluator: self.evaluator };
        scope.evaluate(&Asked::Text(text), Some(asking), input).map_err(|e| crate::run::fault::of_expression(&e))
    }

    /// All branches of a fork are there.
    pub(super) fn join(&mut self, frame: FrameId, running: &Running) {
        let Phase::Forking(forking) = &running.phase else { return };
        let outputs = forking.results.values().map(|r| r.as_ref().clone()).collect();
        match merge(self.state.context_of(frame), forking.contexts.values()) {
            Ok(merged) => {
                self.export_merged(frame, merged);
                self.complete(frame, Value::Array(outputs), None, None);
            }
            Err(fault) => self.raise(frame, fault, false),
        }
    }

    fn export_merged(&mut self, frame: FrameId, merged: Option<Value>) {
        if let Some(context) = merged {
            self.emit(Event::ContextMerged { frame, context: Arc::new(context) });
        }
    }
}

/// The copies of a context in branch order: what one of them wrote is kept, two different values for one key are a
/// fault (semantics 4, "Parallel `for`"). None when nothing was written.
fn merge<'a>(before: &Value, copies: impl Iterator<Item = &'a Arc<Value>>) -> Result<Option<Value>, Fault> {
    let mut written: BTreeMap<String, Value> = BTreeMap::new();
    let mut whole: Option<Value> = None;
    for copy in copies {
        if copy.as_ref() == before {
            continue;
        }
        let Value::Object(fields) = copy.as_ref() else {
            match &whole {
                Some(other) if other != copy.as_ref() => return Err(conflict("the whole context")),
                _ => whole = Some(copy.as_ref().clone()),
            }
            continue;
        };
        for (name, value) in fields {
            if before.get(name) == Some(value) {
                continue;
            }
            match written.get(name) {
                Some(other) if other != value => return Err(conflict(&format!("`{name}`"))),
                _ => {
                    written.insert(name.clone(), value.clone());
                }
            }
        }
    }
    match (whole, written.is_empty()) {
        (None, true) => Ok(None),
        (Some(whole), true) => Ok(Some(whole)),
        (Some(_), false) => Err(conflict("the whole context")),
        (None, false) => {
            let mut fields = before.as_object().cloned().unwrap_or_default();
            fields.extend(written);
            Ok(Some(Value::Object(fields)))
        }
    }
}

fn conflict(what: &str) -> Fault {
    Fault::of_code(
        "context-conflict",
        409,
        format!("branches that ran side by side exported different values for {what}"),
    )
}
