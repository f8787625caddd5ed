//! A person ends a doubt: `runs resolve`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bellhop_core::diagnostic::{Code, Diagnostic, HttpRemedy, Needs, Remedy, Retryable};
use bellhop_core::id::RunId;
use bellhop_core::run::{Cause, Status};
use bellhop_core::text::shell_word;
use bellhop_slack::catalog::Method;
use bellhop_slack::reconcile::{Verdict, answer};
use serde_json::{Value, json};

use super::Engine;
use super::call::{self, Doubt};
use super::execution::{CallKey, Intent, Settle};
use super::runs::{InDoubt, LoadError};

/// Why a doubt was not ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    /// There is no such run, or it cannot be taken up.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It is not parked.
    #[error("the run is `{}`, only a parked one waits for a person", .0.as_str())]
    NotParked(Status),
    /// A call was carried out, and what it was answered has to be said: nobody else can. Nothing was kept.
    #[error("what was carried out was answered something that only you can say")]
    AnswerNeeded(Vec<Diagnostic>),
}

/// A person has to say what Slack answered.
const ANSWER_NEEDED: Code = Code("answer-needed");

impl Engine {
    /// Says what became of the calls of a parked run (of one task, where `task` names its pointer) whose outcome nobody
    /// could tell, and lets the run go on. `answer` is what the action gets for a call that was carried out; without it
    /// the call is read back once more, or answered from its request where that says all. After Ok both are durable.
    ///
    /// A run that was set aside is taken up again instead: nothing of it is in doubt but itself.
    pub(crate) async fn resolve(
        self: &Arc<Self>,
        run: RunId,
        task: Option<String>,
        done: bool,
        answer: Option<Value>,
        by: String,
    ) -> Result<(), ResolveError> {
        if self.is_aside(run) {
            return Ok(self.take_back(run).await?);
        }
        let summary = self.summary(run).map_err(LoadError::from)?.ok_or(LoadError::Unknown(run))?;
        if summary.status != Status::Parked {
            return Err(ResolveError::NotParked(summary.status));
        }
        let doubts = self.doubts(run, task.as_deref()).await?;
        let tasks: BTreeSet<&str> = doubts.iter().map(|doubt| doubt.key.execution.pointer.as_str()).collect();
        if answer.is_some() && tasks.len() > 1 {
            let why = format!(
                "the calls of {} tasks are in doubt, and one answer is that of one: name the task",
                tasks.len()
            );
            let all = doubts.iter().map(|InDoubt { key, intent, .. }| {
                let method = self.services.gateway.catalog.by_function(&intent.function);
                *needs(run, key, method.map_or(&intent.function, |method| &method.name), method, &why)
            });
            return Err(ResolveError::AnswerNeeded(all.collect()));
        }
        let mut calls = BTreeMap::new();
        let mut needed = Vec::new();
        for InDoubt { key, intent, stamp } in doubts {
            let outcome = if done {
                match self.answered(run, &key, &intent, &stamp, answer.as_ref()).await {
                    Ok(answer) => Some(answer),
                    Err(diagnostic) => {
                        needed.push(*diagnostic);
                        continue;
                    }
                }
            } else {
                None
            };
            calls.insert(key, outcome);
        }
        if !needed.is_empty() {
            let mask = self.mask_of(run)?;
            let needed = needed.into_iter().map(|diagnostic| mask.diagnostic(diagnostic)).collect();
            return Err(ResolveError::AnswerNeeded(needed));
        }
        let decided = self.send_and_wait(run, Cause::Settle { task, done }, Some(Settle { calls, by })).await?;
        if !decided {
            // The run was parked when it was looked at: somebody else has decided, or it has ended since.
            let summary = self.summary(run).map_err(LoadError::from)?.ok_or(LoadError::Unknown(run))?;
            if summary.status != Status::Parked {
                return Err(ResolveError::NotParked(summary.status));
            }
        }
        Ok(())
    }

    /// What the action gets for a call that a person says was carried out.
    async fn answered(
        &self,
        run: RunId,
        key: &CallKey,
        intent: &Intent,
        stamp: &str,
        given: Option<&Value>,
    ) -> Result<Value, Box<Diagnostic>> {
        let gateway = &self.services.gateway;
        let Some(method) = gateway.catalog.by_function(&intent.function) else {
            return given.cloned().ok_or_else(|| needs(run, key, &intent.function, None, "nothing is known of it"));
        };
        if let Some(given) = given {
            let lacks = answer::lacks(method, given);
            if lacks.is_empty() && given.is_object() {
                return Ok(given.clone());
            }
            let why = if given.is_object() {
                format!("the answer lacks `{}`", lacks.join("`, `"))
            } else {
                "the answer is not an object".to_owned()
            };
            return Err(needs(run, key, &method.name, Some(method), &why));
        }
        let kept = call::request_digest(intent).and_then(|digest| self.services.journal.blob(digest).ok().flatten());
        let arguments = kept.and_then(|kept| call::arguments_of(&kept, &intent.function));
        let Some(arguments) = arguments else {
            let enough = answer::said_by_slack(method).is_empty();
            let simple = enough.then(|| answer::from_request(method, &Value::Null)).flatten();
            return simple.ok_or_else(|| needs(run, key, &method.name, Some(method), "its request is not on record"));
        };
        if let Some(answer) = answer::from_request(method, &arguments) {
            return Ok(answer);
        }
        let Some(connection) = gateway.connection(&intent.connection) else {
            let why = format!("the connection `{}` is not there to read it back with", intent.connection);
            return Err(needs(run, key, &method.name, Some(method), &why));
        };
        let pinned = self.pins_of(run).map(|(pins, _)| pins.led()).unwrap_or_default();
        if let Err(elsewhere) = connection.facts.leads_to(pinned.get(&intent.connection)) {
            return Err(needs(run, key, &method.name, Some(method), &format!("it cannot be read back: {elsewhere}")));
        }
        let doubt = Doubt { method, arguments: &arguments, intent, stamp, before: None };
        let read = call::read_back(&self.services, &connection, &doubt, run).await;
        match read.unwrap_or_else(|later| Verdict::CannotTell(later.why)) {
            Verdict::Found(body) | Verdict::Holds(body) => Ok(body),
            Verdict::Absent | Verdict::Repeat => {
                Err(needs(run, key, &method.name, Some(method), "reading it back shows nothing of it"))
            }
            Verdict::CannotTell(why) => Err(needs(run, key, &method.name, Some(method), &why)),
        }
    }
}

/// What a person has to give, and why.
fn needs(run: RunId, key: &CallKey, name: &str, method: Option<&Method>, why: &str) -> Box<Diagnostic> {
    let said: Vec<String> =
        method.map(answer::said_by_slack).unwrap_or_default().iter().map(|pointer| format!("`{pointer}`")).collect();
    let example = method.map(answer::example);
    let mut diagnostic = Diagnostic::error(
        ANSWER_NEEDED,
        format!("say what Slack answered to {name} of the task {}: {why}", key.execution.pointer),
    );
    diagnostic.task = Some(key.execution.pointer.clone());
    diagnostic.methods = vec![name.to_owned()];
    let shape = match &example {
        Some(example) if said.is_empty() => format!("the answer of {name}, such as {example}"),
        Some(example) => format!("the answer of {name} with {}, such as {example}", said.join(" and ")),
        None => format!("the answer of {name}"),
    };
    diagnostic.needs = Some(Needs { text: Some(shape), ..Needs::default() });
    let shown = example.unwrap_or(Value::Null);
    let task = &key.execution.pointer;
    let (word, answer) = (shell_word(task), shown.to_string());
    let command = format!("bellhop runs resolve {run} --task {word} --done --answer {}", shell_word(&answer));
    let body = json!({ "task": task, "done": true, "answer": shown });
    let path = format!("/v1/runs/{run}/resolve");
    diagnostic.remedies = vec![
        Remedy {
            title: "look in Slack, and say it".to_owned(),
            command: Some(command),
            http: Some(HttpRemedy { method: "POST".to_owned(), path, body }),
        },
        Remedy {
            title: "or, if it was not carried out, say that: it is sent again".to_owned(),
            command: Some(format!("bellhop runs resolve {run} --task {word} --not-done")),
            http: None,
        },
    ];
    diagnostic.retryable = Retryable::AfterRemedy;
    diagnostic.who = Some("whoever can look in Slack".to_owned());
    Box::new(diagnostic)
}
