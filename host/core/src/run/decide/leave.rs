//! Loops go round, forks join.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::enter::truth;
use super::{Decider, asking};
use crate::definition::TaskKind;
use crate::fault::Fault;
use crate::run::arguments::Asked;
use crate::run::event::{Event, FrameId};
use crate::run::fault::too_large;
use crate::run::frame::{Phase, Running};
use crate::value;

impl Decider<'_> {
    /// The next iteration begins, or the loop is over.
    pub(super) fn loop_on(&mut self, frame: FrameId, running: &Running) -> Result<(), Fault> {
        let (workflow, index) = self.task(running.task);
        let task = workflow.task(index);
        let (TaskKind::For(definition), Phase::Looping(looping)) = (&task.kind, &running.phase) else { return Ok(()) };
        let parallel = self.state.is_parallel(running.task);
        // What the iterations gave becomes one value: too much is told before the rest of them is begun.
        if looping.results_bytes > self.budget.value_bytes_max {
            let what =
                format!("what the iterations gave, {} of {} so far", looping.results.size(), looping.items.len());
            return Err(too_large(&what, looping.results_bytes, self.budget.value_bytes_max));
        }
        let next = looping.next;
        let more = (next as usize) < looping.items.len();
        if more {
            let goes_on = match &definition.condition {
                None => true,
                Some(condition) => {
                    let seen = if parallel { running.input.clone() } else { looping.value.clone() };
                    let position = Value::from(next);
                    let variables = [
                        (definition.each.as_str(), looping.items[next as usize].as_ref()),
                        (definition.at.as_str(), &position),
                    ];
                    let asking = asking(task, running, None);
                    let value = self.evaluate_with(frame, &Asked::Text(condition), &variables, asking, &seen)?;
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
            self.complete(frame, looping.value.clone(), None, None);
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
        let results = self.sized("what the iterations gave", Value::Array(results))?;
        let merged = self.merged(frame, looping.contexts.values())?;
        self.export_merged(frame, merged);
        self.complete(frame, Arc::new(results), None, None);
        Ok(())
    }

    /// All branches of a fork are there.
    pub(super) fn join(&mut self, frame: FrameId, running: &Running) {
        let Phase::Forking(forking) = &running.phase else { return };
        let joined = (|| {
            let bytes: u64 = forking.results.values().map(|output| value::size(output).bytes).sum();
            if bytes > self.budget.value_bytes_max {
                return Err(too_large("what the branches gave", bytes, self.budget.value_bytes_max));
            }
            let outputs = forking.results.values().map(|output| output.as_ref().clone()).collect();
            let outputs = self.sized("what the branches gave", Value::Array(outputs))?;
            Ok((outputs, self.merged(frame, forking.contexts.values())?))
        })();
        match joined {
            Ok((outputs, merged)) => {
                self.export_merged(frame, merged);
                self.complete(frame, Arc::new(outputs), None, None);
            }
            Err(fault) => self.raise(frame, fault, false),
        }
    }

    fn merged<'a>(&self, frame: FrameId, copies: impl Iterator<Item = &'a Arc<Value>>) -> Result<Option<Value>, Fault> {
        let merged = merge(self.state.context_of(frame), copies)?;
        merged.map(|context| self.sized("the contexts that ran side by side, together", context)).transpose()
    }

    fn export_merged(&mut self, frame: FrameId, merged: Option<Value>) {
        if let Some(context) = merged {
            self.emit(Event::ContextMerged { frame, context: Arc::new(context) });
        }
    }
}

/// The copies of a context in branch order: what one of them wrote is kept, two different values for one key are a
/// fault (semantics 4, "Parallel `for`"). None when nothing was written.
fn merge<'a>(before: &Arc<Value>, copies: impl Iterator<Item = &'a Arc<Value>>) -> Result<Option<Value>, Fault> {
    let mut written: BTreeMap<String, Value> = BTreeMap::new();
    let mut whole: Option<Value> = None;
    for copy in copies {
        if Arc::ptr_eq(copy, before) || copy == before {
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
    Fault::of_code("context-conflict", format!("branches that ran side by side exported different values for {what}"))
}
