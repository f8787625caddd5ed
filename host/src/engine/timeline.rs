//! A run's public events: what people and subscribers see, made from its log.
//!
//! The number of an event is its place among the public events of its run. It follows from the log alone, so it is the
//! same after a restart and can be resumed from.

use bellhop_core::definition::Workflow;
use bellhop_core::run::{Ending, Event, ExecutionKey, FrameId};
use bellhop_core::time::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

use crate::journal::{Entry, Journal, Resolution};

/// One public event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Public {
    /// Counts from 1.
    pub(crate) id: u64,
    /// `run.started`, `task.started`, `call.sent`, …
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// The task's JSON pointer, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) task: Option<String>,
    /// When, where the log says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<String>,
    /// The rest, by kind.
    pub(crate) data: Value,
}

/// Reads a log in order and makes its public events.
pub(crate) struct Reader {
    workflow: Arc<Workflow>,
    tasks: HashMap<FrameId, String>,
    next: u64,
}

impl Reader {
    /// From the beginning of a log.
    pub(crate) fn new(workflow: Arc<Workflow>) -> Self {
        Self { workflow, tasks: HashMap::new(), next: 1 }
    }

    /// The events of one entry.
    pub(crate) fn read(&mut self, journal: &Journal, entry: Entry) -> Vec<Public> {
        let mut out = Vec::new();
        let pointer = |key: &str| key.parse::<ExecutionKey>().map_or_else(|_| key.to_owned(), |k| k.pointer);
        match entry {
            Entry::Accepted { .. } => self.push(&mut out, "run.accepted", None, None, json!({})),
            Entry::Decision { events } => {
                for content in events {
                    let event = journal.value(content).ok().and_then(|v| serde_json::from_value::<Event>(v).ok());
                    if let Some(event) = event {
                        self.decided(&mut out, &event);
                    }
                }
            }
            Entry::Intent { key, attempt, ordinal, at, function, connection, .. } => self.push(
                &mut out,
                "call.started",
                Some(pointer(&key)),
                Some(at),
                json!({ "function": function, "connection": connection, "attempt": attempt, "ordinal": ordinal }),
            ),
            Entry::Outcome { key, attempt, ordinal, at, answer, how, .. } => {
                let ok = matches!(answer, crate::journal::Answer::Ok(_));
                let data = json!({ "attempt": attempt, "ordinal": ordinal, "ok": ok, "how": how });
                self.push(&mut out, "call.ended", Some(pointer(&key)), Some(at), data);
            }
            Entry::Read { key, ordinal, answer, how, .. } => {
                let ok = matches!(answer, crate::journal::Answer::Ok(_));
                self.push(
                    &mut out,
                    "call.read",
                    Some(pointer(&key)),
                    None,
                    json!({ "ordinal": ordinal, "ok": ok, "how": how }),
                );
            }
            Entry::NotSent { key, ordinal, reason, retry_at, .. } => {
                let data = json!({ "ordinal": ordinal, "reason": reason, "retryAt": retry_at.map(|t| t.to_string()) });
                self.push(&mut out, "call.not-sent", Some(pointer(&key)), None, data);
            }
            Entry::Resolved { key, ordinal, at, how, by, .. } => {
                let done = matches!(how, Resolution::Done(_));
                let data = json!({ "ordinal": ordinal, "done": done, "by": by });
                self.push(&mut out, "call.resolved", Some(pointer(&key)), Some(at), data);
            }
            Entry::Note { level, text } => {
                self.push(&mut out, "note", None, None, json!({ "level": level, "text": text }));
            }
            Entry::Slice { .. } => {}
        }
        out
    }

    fn push(
        &mut self,
        out: &mut Vec<Public>,
        kind: &'static str,
        task: Option<String>,
        at: Option<Timestamp>,
        data: Value,
    ) {
        out.push(Public { id: self.next, kind, task, at: at.map(|t| t.to_string()), data });
        self.next += 1;
    }

    fn decided(&mut self, out: &mut Vec<Public>, event: &Event) {
        match event {
            Event::Started { at, .. } => self.push(out, "run.started", None, Some(*at), json!({})),
            Event::TaskEntered { frame, task, at, .. } => {
                let pointer = self.workflow.tasks.get(task.0 as usize).map(|t| t.pointer.clone()).unwrap_or_default();
                self.tasks.insert(*frame, pointer.clone());
                self.push(out, "task.started", Some(pointer), Some(*at), json!({}));
            }
            Event::TaskSkipped { task, .. } => {
                let pointer = self.workflow.tasks.get(task.0 as usize).map(|t| t.pointer.clone());
                self.push(out, "task.skipped", pointer, None, json!({}));
            }
            Event::CallScheduled { frame, action, connection, attempt, .. } => {
                let data = json!({ "action": action.to_string(), "connection": connection, "attempt": attempt });
                self.push(out, "action.started", self.tasks.get(frame).cloned(), None, data);
            }
            Event::WaitScheduled { frame, until } => {
                self.push(
                    out,
                    "task.waiting",
                    self.tasks.get(frame).cloned(),
                    None,
                    json!({ "until": until.to_string() }),
                );
            }
            Event::TaskCompleted { frame, at, output, effect, .. } => {
                let data = json!({ "output": output, "changed": effect.as_ref().map(|e| e.changed) });
                let task = self.tasks.remove(frame);
                self.push(out, "task.completed", task, Some(*at), data);
            }
            Event::TaskFaulted { frame, at, fault, .. } => {
                let task = self.tasks.remove(frame);
                self.push(out, "task.faulted", task, Some(*at), json!({ "error": fault }));
            }
            Event::Caught { frame, .. } => {
                self.push(out, "task.caught", self.tasks.get(frame).cloned(), None, json!({}));
            }
            Event::RetryScheduled { frame, until, fault } => {
                let data = json!({ "until": until.to_string(), "error": fault });
                self.push(out, "task.retrying", self.tasks.get(frame).cloned(), None, data);
            }
            Event::Tolerated { task, fault, .. } => {
                let pointer = self.workflow.tasks.get(task.0 as usize).map(|t| t.pointer.clone());
                self.push(out, "task.tolerated", pointer, None, json!({ "error": fault }));
            }
            Event::Parked { frame, at, reason } => {
                self.push(out, "run.parked", self.tasks.get(frame).cloned(), Some(*at), json!({ "reason": reason }));
            }
            Event::Unparked { frame, at } => {
                self.push(out, "run.unparked", self.tasks.get(frame).cloned(), Some(*at), json!({}));
            }
            Event::Suspended { at } => self.push(out, "run.suspended", None, Some(*at), json!({})),
            Event::Resumed { at } => self.push(out, "run.resumed", None, Some(*at), json!({})),
            Event::CallRetried { frame, at } => {
                self.push(out, "call.retried", self.tasks.get(frame).cloned(), Some(*at), json!({}));
            }
            Event::Redefined { at, pins } => {
                self.push(out, "run.redefined", None, Some(*at), json!({ "version": pins.get("version") }));
            }
            Event::Reopened { at } => self.push(out, "run.retried", None, Some(*at), json!({})),
            Event::Blocked { at, diagnostics } => {
                self.push(out, "run.blocked", None, Some(*at), json!({ "diagnostics": diagnostics }));
            }
            Event::Unblocked { at, .. } => self.push(out, "run.unblocked", None, Some(*at), json!({})),
            Event::Queued { at, group } => {
                self.push(out, "run.queued", None, Some(*at), json!({ "group": group.name, "limit": group.limit }));
            }
            Event::Admitted { at } => self.push(out, "run.admitted", None, Some(*at), json!({})),
            Event::Displaced { at, by } => {
                self.push(out, "run.displaced", None, Some(*at), json!({ "by": by.to_string() }));
            }
            Event::Noticed { number } => self.push(out, "run.noticed", None, None, json!({ "notice": number })),
            Event::Killed { at } => self.push(out, "run.killed", None, Some(*at), json!({})),
            Event::Halted { at, fault } => {
                self.push(out, "run.parked", fault.instance.clone(), Some(*at), json!({ "reason": fault }));
            }
            Event::RollbackBegun { at } => self.push(out, "rollback.started", None, Some(*at), json!({})),
            Event::UndoScheduled { entry, attempt, action, connection, .. } => {
                let data = json!({
                    "change": entry, "action": action.to_string(), "connection": connection, "attempt": attempt,
                });
                self.push(out, "undo.started", None, None, data);
            }
            Event::UndoRetryScheduled { entry, fault, until } => {
                let data = json!({ "change": entry, "until": until.to_string(), "error": fault });
                self.push(out, "undo.retrying", None, None, data);
            }
            Event::Settled { entry, at, fate } => {
                self.push(out, "undo.settled", None, Some(*at), json!({ "change": entry, "fate": fate }));
            }
            Event::RollbackIncomplete { at, reason, .. } => {
                let data = json!({ "reason": reason });
                self.push(out, "run.rollback-incomplete", reason.instance.clone(), Some(*at), data);
            }
            Event::Ended { at, ending } => {
                let (kind, data) = match ending {
                    Ending::Completed { output } => ("run.completed", json!({ "output": output })),
                    Ending::Faulted { fault } => ("run.faulted", json!({ "error": fault })),
                    Ending::Cancelled => ("run.cancelled", json!({})),
                };
                self.push(out, kind, None, Some(*at), data);
            }
            Event::BlockEntered { .. }
            | Event::LoopEntered { .. }
            | Event::IterationEntered { .. }
            | Event::IterationEnded { .. }
            | Event::ForkEntered { .. }
            | Event::ContextMerged { .. }
            | Event::Retried { .. }
            | Event::Ending { .. }
            | Event::TimedOut { .. }
            | Event::NoticeDue { .. }
            | Event::CallStopped { .. } => {}
        }
    }
}
