//! A run's public events: what people and subscribers see, made from its log.
//!
//! The number of an event is its place among the public events of its run. It follows from the log alone, so it is the
//! same after a restart and can be resumed from.

use bellhop_core::definition::Workflow;
use bellhop_core::digest::Digest;
use bellhop_core::mask::Mask;
use bellhop_core::requirement::TokenKind;
use bellhop_core::run::{Ending, Event, ExecutionKey, FrameId};
use bellhop_core::time::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::pins::Pins;
use bellhop_journal::{Answer, Content, Entry, Json, Resolution, Values};

/// One public event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Public {
    /// Counts from 1.
    pub id: u64,
    /// `run.started`, `task.started`, `call.sent`, …
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The task's JSON pointer, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The rest, by kind.
    pub data: Value,
}

/// Reads a log in order and makes its public events.
pub struct Reader {
    workflow: Arc<Workflow>,
    mask: Mask,
    tasks: HashMap<FrameId, String>,
    /// What the run depends on since it was let begin, or went on on another version.
    pinned: Option<Pins>,
    next: u64,
    /// By which tokens the calls went out that have no end yet.
    whom: HashMap<(String, u32, u32), TokenKind>,
    /// The latest time that the log says: what was decided with it and has no time of its own was decided then.
    at: Option<Timestamp>,
}

impl Reader {
    /// From the beginning of a log; what `mask` hides is in no event.
    pub fn new(workflow: Arc<Workflow>, mask: Mask) -> Self {
        Self { workflow, mask, tasks: HashMap::new(), pinned: None, next: 1, whom: HashMap::new(), at: None }
    }

    /// The events of one entry, where `values` has the large values that it [names](named_by).
    pub fn read(&mut self, values: &Values, entry: Entry) -> Vec<Public> {
        let mut out = Vec::new();
        let pointer = |key: &str| key.parse::<ExecutionKey>().map_or_else(|_| key.to_owned(), |k| k.pointer);
        match entry {
            Entry::Accepted { pins } => {
                let (at, data) = self.accepted(values, &pins);
                self.push(&mut out, "run.accepted", None, at, data);
            }
            Entry::Pinned { pins } => self.pinned = pins.read().ok(),
            Entry::Decision { events } => {
                for content in events {
                    if let Ok(event) = values.read::<Event>(&content) {
                        self.decided(&mut out, &event);
                    }
                }
            }
            Entry::Intent { key, attempt, ordinal, at, function, connection, token, .. } => {
                let mut data = of_call(&key, attempt, ordinal);
                (data["function"], data["connection"]) = (json!(function), json!(connection));
                if let Some(token) = token {
                    data["token"] = json!(token);
                    self.whom.insert((key.clone(), attempt, ordinal), token);
                }
                self.push(&mut out, "call.started", Some(pointer(&key)), Some(at), data);
            }
            Entry::Outcome { key, attempt, ordinal, at, answer, how, .. } => {
                let mut data = of_call(&key, attempt, ordinal);
                data["how"] = json!(how);
                self.as_whom((&key, attempt, ordinal), &mut data);
                answered(values, answer, &mut data);
                self.push(&mut out, "call.ended", Some(pointer(&key)), Some(at), data);
            }
            Entry::Read { key, attempt, ordinal, at, answer, how, function, token, .. } => {
                let mut data = of_call(&key, attempt, ordinal);
                data["how"] = json!(how);
                if let Some(function) = function {
                    data["function"] = Value::from(function);
                }
                if let Some(token) = token {
                    data["token"] = json!(token);
                }
                answered(values, answer, &mut data);
                self.push(&mut out, "call.read", Some(pointer(&key)), Some(at), data);
            }
            Entry::NotSent { key, attempt, ordinal, at, reason, retry_at, instead, .. } => {
                let mut data = of_call(&key, attempt, ordinal);
                (data["reason"], data["retryAt"]) = (json!(reason), json!(retry_at.map(|t| t.to_string())));
                if let Some(instead) = instead {
                    data["instead"] = json!(instead.token);
                }
                self.as_whom((&key, attempt, ordinal), &mut data);
                self.push(&mut out, "call.not-sent", Some(pointer(&key)), Some(at), data);
            }
            Entry::Resolved { key, attempt, ordinal, at, how, by, .. } => {
                let mut data = of_call(&key, attempt, ordinal);
                (data["done"], data["by"]) = (json!(matches!(how, Resolution::Done(_))), json!(by));
                self.as_whom((&key, attempt, ordinal), &mut data);
                self.push(&mut out, "call.resolved", Some(pointer(&key)), Some(at), data);
            }
            Entry::Note { at, text, by: Some(by), .. } => {
                self.push(&mut out, "run.asked", None, Some(at), json!({ "by": by, "for": text }));
            }
            Entry::Note { at, level, text, by: None } => {
                self.push(&mut out, "note", None, Some(at), json!({ "level": level, "text": text }));
            }
            Entry::Slice { .. } => {}
        }
        out
    }

    /// As whom the call went out that has come to its end.
    fn as_whom(&mut self, (key, attempt, ordinal): (&str, u32, u32), data: &mut Value) {
        if let Some(token) = self.whom.remove(&(key.to_owned(), attempt, ordinal)) {
            data["token"] = json!(token);
        }
    }

    fn push(
        &mut self,
        out: &mut Vec<Public>,
        kind: &'static str,
        task: Option<String>,
        at: Option<Timestamp>,
        data: Value,
    ) {
        let data = self.mask.value(data);
        self.at = at.or(self.at);
        let at = self.at;
        out.push(Public { id: self.next, kind, task, at: at.map(|t| t.to_string()), data });
        self.next += 1;
    }

    /// Who asked for what, and everything that the run depends on.
    fn accepted(&self, values: &Values, pins: &Json) -> (Option<Timestamp>, Value) {
        // What cannot be read is not shown; the run itself says so elsewhere.
        let Ok(pins) = pins.read::<Pins>() else { return (None, json!({})) };
        let input = values.read(&pins.input).unwrap_or(Value::Null);
        let mut data = depends_on(&pins);
        data["input"] = self.mask.input(&input);
        data["definition"] = json!(pins.definition);
        data["host"] = json!(pins.host);
        data["evaluator"] = json!(pins.evaluator);
        data["by"] = json!(pins.by);
        (Some(pins.accepted_at), data)
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
            Event::CallScheduled { frame, action, connection, attempt, arguments } => {
                let data = json!({
                    "action": action.to_string(), "connection": connection, "attempt": attempt, "to": to(arguments),
                });
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
            Event::Caught { frame, fault } => {
                self.push(out, "task.caught", self.tasks.get(frame).cloned(), None, json!({ "error": fault }));
            }
            Event::RetryScheduled { frame, until, fault } => {
                let data = json!({ "until": until.to_string(), "error": fault });
                self.push(out, "task.retrying", self.tasks.get(frame).cloned(), None, data);
            }
            Event::Tolerated { task, fault, at, .. } => {
                let pointer = self.workflow.tasks.get(task.0 as usize).map(|t| t.pointer.clone());
                self.push(out, "task.tolerated", pointer, *at, json!({ "error": fault }));
            }
            Event::Parked { frame, at, reason, why, .. } => {
                let data = json!({ "reason": reason, "why": why });
                self.push(out, "run.parked", self.tasks.get(frame).cloned(), Some(*at), data);
            }
            Event::Unparked { frame, at } => {
                self.push(out, "run.unparked", self.tasks.get(frame).cloned(), Some(*at), json!({}));
            }
            Event::Suspended { at } => self.push(out, "run.suspended", None, Some(*at), json!({})),
            Event::Resumed { at } => self.push(out, "run.resumed", None, Some(*at), json!({})),
            Event::CallRetried { frame, at } => {
                self.push(out, "call.retried", self.tasks.get(frame).cloned(), Some(*at), json!({}));
            }
            Event::Redefined { at } => {
                let version = self.pinned.as_ref().map(|pins| &pins.version);
                let data = json!({ "version": version });
                self.push(out, "run.redefined", None, Some(*at), data);
            }
            Event::Reopened { at } => self.push(out, "run.retried", None, Some(*at), json!({})),
            Event::Blocked { at, diagnostics } => {
                self.push(out, "run.blocked", None, Some(*at), json!({ "diagnostics": diagnostics }));
            }
            Event::Unblocked { at } => {
                let data = self.pinned.as_ref().map_or_else(|| json!({}), depends_on);
                self.push(out, "run.unblocked", None, Some(*at), data);
            }
            Event::Queued { at, group } => {
                self.push(out, "run.queued", None, Some(*at), json!({ "group": group.name, "limit": group.limit }));
            }
            Event::Admitted { at } => self.push(out, "run.admitted", None, Some(*at), json!({})),
            Event::Displaced { at, by } => {
                self.push(out, "run.displaced", None, Some(*at), json!({ "by": by.to_string() }));
            }
            // How a decision was cut into pieces concerns nobody who follows the run.
            Event::Unfinished { .. } | Event::Rested {} => {}
            Event::Noticed { number } => self.push(out, "run.noticed", None, None, json!({ "notice": number })),
            Event::Killed { at } => self.push(out, "run.killed", None, Some(*at), json!({})),
            Event::Halted { at, fault } => {
                self.push(out, "run.parked", fault.instance.clone(), Some(*at), json!({ "reason": fault }));
            }
            Event::RollbackBegun { at } => self.push(out, "rollback.started", None, Some(*at), json!({})),
            Event::UndoScheduled { entry, at, attempt, action, connection, arguments, .. } => {
                let data = json!({
                    "change": entry, "action": action.to_string(), "connection": connection, "attempt": attempt,
                    "to": to(arguments),
                });
                self.push(out, "undo.started", None, Some(*at), data);
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

/// The large values that the events of an entry are made of.
pub fn named_by(entry: &Entry) -> Vec<Digest> {
    match entry {
        Entry::Accepted { pins } => pins.read::<Pins>().ok().and_then(|pins| pins.input.digest()).into_iter().collect(),
        Entry::Decision { events } => events.iter().filter_map(Content::digest).collect(),
        Entry::Outcome { answer: Answer::Err(content), .. } | Entry::Read { answer: Answer::Err(content), .. } => {
            content.digest().into_iter().collect()
        }
        Entry::Outcome { .. }
        | Entry::Read { .. }
        | Entry::Pinned { .. }
        | Entry::Intent { .. }
        | Entry::NotSent { .. }
        | Entry::Resolved { .. }
        | Entry::Note { .. }
        | Entry::Slice { .. } => Vec::new(),
    }
}

/// Which call: a task has many executions, in loops and branches, and each of these many calls.
fn of_call(execution: &str, attempt: u32, ordinal: u32) -> Value {
    json!({ "execution": execution, "attempt": attempt, "ordinal": ordinal })
}

/// What a run is bound to besides its definition and its input.
fn depends_on(pins: &Pins) -> Value {
    let connections: BTreeMap<&String, Value> = pins
        .connections
        .iter()
        .map(|(alias, connection)| (alias, json!({ "name": connection.name, "kind": connection.kind })))
        .collect();
    let actions: Vec<Value> = pins
        .actions
        .iter()
        .map(
            |action| json!({ "action": action.resolved.to_string(), "plugin": action.plugin, "grants": action.grants }),
        )
        .collect();
    json!({ "connections": connections, "actions": actions, "tables": pins.tables })
}

/// The fields of an action's input that say whom or what it is about; the rest is in the definition.
const SUBJECTS: [&str; 9] =
    ["user", "users", "email", "channel", "channels", "usergroup", "workspace", "workspaces", "role"];

/// Whom an action is about.
fn to(arguments: &Value) -> Value {
    let subject = |name: &&str| Some(((*name).to_owned(), arguments.get(*name).filter(|v| !v.is_null())?.clone()));
    Value::Object(SUBJECTS.iter().filter_map(subject).collect())
}

/// Whether a call was answered well, and if not, with what.
fn answered(values: &Values, answer: Answer, data: &mut Value) {
    let refused: Option<Content> = match answer {
        Answer::Ok(_) => None,
        Answer::Err(content) => Some(content),
    };
    data["ok"] = Value::from(refused.is_none());
    let said = refused.and_then(|content| values.read::<Value>(&content).ok());
    for (name, field) in [("error", "code"), ("detail", "message")] {
        if let Some(text) = said.as_ref().and_then(|said| said.get(field)).filter(|text| text.is_string()) {
            data[name] = text.clone();
        }
    }
}
